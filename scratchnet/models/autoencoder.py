"""The autoencoder: compress the data to a short code, and reconstruct them from it.

    z = encoder(x),  x̂ = s(decoder(z)),  loss = mean over samples of ‖x̂ − x‖²

A linear autoencoder without hidden layers finds the subspace of PCA (Baldi & Hornik
1989); with hidden layers it does better (Hinton & Salakhutdinov 2006).
byhand/autoencoder.py is the same system with its gradient derived on paper.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import checks, nn, twins
from scratchnet.backend import Array
from scratchnet.kernels import initializers
from scratchnet.losses import binary_cross_entropy_with_logits, squared_error
from scratchnet.nn import Module, Sequential, evaluate, mlp
from scratchnet.tensor import Tensor


class Autoencoder(Module):
    """An encoder to a short code, and a decoder that mirrors it.

    Args:
        sizes: columns of the data, hidden layers, length of the code: (784, 256, 16)
            decodes by 16 -> 256 -> 784. The code has no activation, so it may take any
            value.
        rng: draws the initial weights, layer by layer.
        activation: of the hidden layers: "relu", "leaky_relu", "sigmoid", "tanh" or
            "linear".
        slope: of leaky_relu.
        active_code: whether the code has the activation too.
        output: "sigmoid"; "linear" for data outside [0, 1]; or "activation", that of
            the hidden layers, for data that such a layer computed.
        loss: "squared", or "cross_entropy" for data in [0, 1].
        init: draws each W; every b starts at zero.
        dtype: of the parameters, and of the data that the model accepts.

    Raises:
        TypeError, ValueError: an argument has a wrong type or value.

    """

    def __init__(
        self,
        sizes: Sequence[int] = (784, 256, 16),
        *,
        rng: np.random.Generator,
        activation: str = "relu",
        slope: float = 0.2,
        active_code: bool = False,
        output: str = "sigmoid",
        loss: str = "squared",
        init: initializers.Initializer = initializers.glorot_uniform,
        dtype: DTypeLike = np.float32,
    ) -> None:
        name = type(self).__name__
        checks.rng(name, rng)
        twins.check_autoencoder(name, sizes, output, loss)
        self.sizes = tuple(sizes)
        self.dtype = checks.dtype(name, dtype)
        f = nn.activation(activation, slope)
        self.s = f if output == "activation" else nn.activation(output)
        self.cross_entropy = loss == "cross_entropy"
        self.bounded = output == "sigmoid"
        options: Any = {"rng": rng, "init": init, "dtype": dtype}
        self.encoder = mlp(self.sizes, activation, slope, **options)
        if active_code:
            self.encoder = Sequential(*self.encoder, f)
        self.decoder = mlp(self.sizes[::-1], activation, slope, **options)

    def forward(self, x: Any) -> Any:
        """Return the logits (n, d) of the reconstruction of x (n, d)."""
        return self.decoder(self.encoder(x))

    def loss(self, x: Any) -> Tensor:
        """Return the loss of the samples x (n, d), summed over d, averaged over n.

        Raises:
            TypeError, ValueError: x has a wrong shape or dtype.

        """
        x = self._check(x)
        checks.on_backend(type(self).__name__, x)
        return self._loss(x, x)

    def _loss(self, x: Any, x_in: Any) -> Tensor:
        """Return the loss of the reconstruction of x_in (n, d) against x (n, d)."""
        logits = self.forward(x_in)
        loss: Tensor = (
            binary_cross_entropy_with_logits(logits, x)
            if self.cross_entropy
            else squared_error(self.s(logits), x)
        )
        return loss

    def encode(self, x: Any) -> Any:
        """Return the codes (n, c) of the samples x (n, d).

        A plain array gives a plain array without a graph; a Tensor gives a Tensor. The
        same holds for `decode` and `reconstruct`.
        """
        x = self._check(x)
        return evaluate(self.encoder, x)

    def decode(self, z: Any) -> Any:
        """Return the samples (n, d) of the codes z (n, c)."""
        z = checks.rows(type(self).__name__, z, self.sizes[-1], self.dtype, "z")
        return evaluate(lambda z: self.s(self.decoder(z)), z)

    def reconstruct(self, x: Any) -> Any:
        """Return the reconstructions (n, d) of the samples x (n, d)."""
        x = self._check(x)
        return evaluate(lambda x: self.s(self.forward(x)), x)

    def check(self, x: Array) -> None:
        """Raise an error unless x has the columns, dtype and values to train on."""
        self._check(x)
        if self.bounded:
            checks.unit_interval(type(self).__name__, x, "output='linear'")

    def _check(self, x: Any, name: str = "x") -> Any:
        return checks.rows(type(self).__name__, x, self.sizes[0], self.dtype, name)
