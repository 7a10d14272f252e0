"""The variational autoencoder: its code is a distribution, and it generates samples.

    [mu, log_var] = encoder(x),  z = mu + exp(log_var / 2) · ε,  ε from N(0, 1)
    loss = mean over samples of −log p(x | z) + β KL(N(mu, exp(log_var)) ‖ N(0, 1))

exp(log_var / 2) is the standard deviation σ. For β = 1 the loss is minus the evidence
lower bound (ELBO), so it is at least −log p(x) (Kingma & Welling 2014). byhand/vae.py
is the same system with its gradient derived on paper. It also derives the bound, and
says why z is computed from noise.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import backend, checks
from scratchnet.backend import Array
from scratchnet.functions import sigmoid
from scratchnet.kernels import initializers
from scratchnet.losses import (
    binary_cross_entropy_with_logits,
    gaussian_kl,
    gaussian_nll,
)
from scratchnet.nn import Module, evaluate, mlp
from scratchnet.tensor import Tensor
from scratchnet.twins import LatentVariableModel, check_vae, log_bernoulli, log_gaussian


class VAE(Module, LatentVariableModel):
    """An encoder to a Gaussian, and a decoder of draws from it.

    Args:
        sizes: columns of the data, hidden layers, length of the code: (784, 512, 20)
            decodes by 20 -> 512 -> 784. The encoder's last layer has twice as many
            columns as the code, mu and log_var side by side.
        rng: draws the initial weights, layer by layer.
        activation: of the hidden layers: "relu", "leaky_relu", "sigmoid", "tanh" or
            "linear".
        slope: of leaky_relu.
        decoder: "bernoulli" for data in [0, 1]; it returns logits. Or "gaussian"; it
            returns means, and the logarithm of their one variance is a parameter.
        beta: the weight β of the KL divergence (Higgins et al. 2017); with 1 the loss
            is a bound on −log p(x).
        init: draws each W; every b, and the logarithm of the variance, starts at zero.
        dtype: of the parameters, and of the data that the model accepts.

    Raises:
        TypeError, ValueError: an argument has a wrong type or value.

    """

    def __init__(
        self,
        sizes: Sequence[int] = (784, 512, 20),
        *,
        rng: np.random.Generator,
        activation: str = "relu",
        slope: float = 0.2,
        decoder: str = "bernoulli",
        beta: float = 1.0,
        init: initializers.Initializer = initializers.glorot_uniform,
        dtype: DTypeLike = np.float32,
    ) -> None:
        name = type(self).__name__
        checks.rng(name, rng)
        check_vae(name, sizes, decoder, beta)
        self.sizes = tuple(sizes)
        self.dtype = checks.dtype(name, dtype)
        self.gaussian = decoder == "gaussian"
        self.beta = float(beta)
        d, *hidden, c = sizes
        options: Any = {"rng": rng, "init": init, "dtype": dtype}
        self.encoder = mlp((d, *hidden, 2 * c), activation, slope, **options)
        self.decoder = mlp(self.sizes[::-1], activation, slope, **options)
        if self.gaussian:
            self.log_var_x = Tensor(backend.zeros((1,), dtype), requires_grad=True)

    # Training

    def loss(self, x: Any, eps: Any) -> Tensor:
        """Return −log p(x | z) + β KL, averaged over the samples x (n, d), in nats.

        Args:
            x: the samples (n, d).
            eps: the noise (n, c) in z, from N(0, 1).

        Raises:
            TypeError, ValueError: a wrong shape or dtype.

        """
        x = checks.rows(type(self).__name__, x, self.sizes[0], self.dtype)
        checks.on_backend(type(self).__name__, x)
        shape = (len(x), self.sizes[-1])
        eps = checks.noise(type(self).__name__, eps, shape, self.dtype)
        mu, log_var = self._split(self.encoder(x))
        z = mu + np.exp(log_var / 2) * eps
        a = self.decoder(z)
        if self.gaussian:
            reconstruction = gaussian_nll(a, self.log_var_x, x)
        else:
            reconstruction = binary_cross_entropy_with_logits(a, x)
        loss: Tensor = reconstruction + self.beta * gaussian_kl(mu, log_var)
        return loss

    def _split(self, h: Any) -> tuple[Any, Any]:
        c = self.sizes[-1]
        return h[:, :c], h[:, c:]

    # Use: an array gives an array without a graph, a Tensor gives a Tensor.

    def posterior(self, x: Any) -> tuple[Any, Any]:
        """Return mu and log_var of q(z | x), (n, c) each, of the samples x (n, d)."""
        x = checks.rows(type(self).__name__, x, self.sizes[0], self.dtype)
        return self._split(evaluate(self.encoder, x))

    def encode(self, x: Any) -> Any:
        """Return the codes (n, c) of the samples x (n, d): the mean mu of q(z | x)."""
        return self.posterior(x)[0]

    def decode(self, z: Any) -> Any:
        """Return the mean of p(x | z) (n, d) for the codes z (n, c)."""
        a = self._logits(z)
        return a if self.gaussian else sigmoid(a)

    def reconstruct(self, x: Any) -> Any:
        """Return decode(encode(x)), (n, d)."""
        return self.decode(self.encode(x))

    def log_p_x(self, x: Array, z: Array) -> Array:
        """Return log p(x_i | z_i) for each row (n,), in nats."""
        x = checks.rows(type(self).__name__, x, self.sizes[0], self.dtype)
        a = self._logits(z)
        checks.equal_rows(type(self).__name__, x=x, z=z)
        if self.gaussian:
            return log_gaussian(x, a, self.log_var_x.data)
        return log_bernoulli(x, a)

    def _logits(self, z: Any) -> Any:
        z = checks.rows(type(self).__name__, z, self.sizes[-1], self.dtype, "z")
        return evaluate(self.decoder, z)

    def check(self, x: Array) -> None:
        """Raise an error unless x has the columns, dtype and values to train on."""
        checks.rows(type(self).__name__, x, self.sizes[0], self.dtype)
        if not self.gaussian:
            checks.unit_interval(type(self).__name__, x, "decoder='gaussian'")
