"""The generative adversarial network: two networks compete.

    V(D, G) = mean log D(x) + mean log(1 − D(G(z)))

The discriminator D maximises V, the generator G minimises it (Goodfellow et al. 2014,
equation 1). Each has its own optimiser and its own step:

    d = optim.Adam(gan.discriminator.parameters())
    d.zero_grad(); gan.discriminator_loss(x, z).backward(); d.step()
    g = optim.Adam(gan.generator.parameters())
    g.zero_grad(); gan.generator_loss(z, x).backward(); g.step()

`training.fit_gan` is that loop. byhand/gan.py is the same system with both gradients,
and the best D, derived on paper.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import checks, twins
from scratchnet.backend import Array
from scratchnet.functions import sigmoid, softplus
from scratchnet.graph import no_grad
from scratchnet.kernels import initializers
from scratchnet.nn import Module, evaluate, mlp
from scratchnet.tensor import grad


class GAN(Module):
    """A generator of samples, and a discriminator between real and generated ones.

    Args:
        generator: columns of the noise, hidden layers, columns of a sample.
        discriminator: columns of `packing` samples, hidden layers, 1.
        rng: draws the initial weights, the generator's first.
        activation: of the hidden layers: "relu", "leaky_relu", "sigmoid", "tanh" or
            "linear".
        slope: of leaky_relu.
        output: of the generator: "linear", "sigmoid" or "tanh".
        objective: the generator's loss. "saturating": log(1 − D(G(z))), as in V.
            "non_saturating": −log D(G(z)), with the same fixed point and a gradient
            that is largest where G is worst. "relativistic": D compares a real and a
            generated sample, softplus(a_r − a_f) for G and softplus(a_f − a_r) for D
            (Jolicoeur-Martineau 2019; Huang et al. 2024, equation 2).
        r1: γ of the penalty γ/2 · mean ‖∇_x a(x)‖² on real samples, with D's logit a
            (Mescheder et al. 2018, equation 9).
        r2: the same on generated samples.
        packing: how many samples D gets at once, side by side (Lin et al. 2018).
        init: draws each W; every b starts at zero.
        dtype: of the parameters, and of the data that the model accepts.

    Raises:
        TypeError, ValueError: an argument has a wrong type or value.

    """

    def __init__(
        self,
        generator: Sequence[int] = (64, 512, 784),
        discriminator: Sequence[int] = (784, 512, 1),
        *,
        rng: np.random.Generator,
        activation: str = "leaky_relu",
        slope: float = 0.2,
        output: str = "sigmoid",
        objective: str = "non_saturating",
        r1: float = 0.0,
        r2: float = 0.0,
        packing: int = 1,
        init: initializers.Initializer = initializers.glorot_uniform,
        dtype: DTypeLike = np.float32,
    ) -> None:
        checks.rng("GAN", rng)
        twins.check_gan(generator, discriminator, output, objective, r1, r2, packing)
        self.generator_sizes = tuple(generator)
        self.discriminator_sizes = tuple(discriminator)
        self.dtype = checks.dtype("GAN", dtype)
        self.output = output
        self.objective = objective
        self.r1, self.r2 = float(r1), float(r2)
        self.packing = packing
        options: Any = {"rng": rng, "init": init, "dtype": dtype}
        self.generator = mlp(generator, activation, slope, **options)
        self.discriminator = mlp(discriminator, activation, slope, **options)

    @property
    def paired(self) -> bool:
        """Whether the generator's step needs real samples."""
        return self.objective == "relativistic"

    # Training

    def discriminator_loss(self, x: Any, z: Any) -> Any:
        """Return −V(D, G), or D's loss over pairs, plus the penalties.

        Args:
            x: real samples (n, d).
            z: noise (n, k). G(z) is a constant here: this loss does not train G.

        Raises:
            TypeError, ValueError: a wrong shape or dtype.

        """
        x, z = self._check_pair(x, z)
        with no_grad():
            x_f = self._generate(z)
        both = np.concatenate([x, x_f.data])
        a = self._logits(both)
        a_r, a_f = a[: len(a) // 2], a[len(a) // 2 :]
        if self.paired:
            loss = np.mean(softplus(a_f - a_r))
        else:
            loss = np.mean(softplus(-a_r)) + np.mean(softplus(a_f))
        if self.r1:
            loss = loss + self.r1 / 2 * self._squared_gradient(x)
        if self.r2:
            loss = loss + self.r2 / 2 * self._squared_gradient(x_f.data)
        return loss

    def generator_loss(self, z: Any, x: Any = None) -> Any:
        """Return the generator's loss.

        Args:
            z: noise (n, k).
            x: real samples (n, d); only "relativistic" needs them.

        Raises:
            TypeError, ValueError: a wrong shape or dtype; x is missing.

        """
        if self.paired:
            x, z = self._check_pair(x, z)
            a_r = self._logits(x)
            a_f = self._logits(self._generate(z))
            return np.mean(softplus(a_r - a_f))
        if x is not None:
            self._check_pair(x, z)
        z = self._check_noise(z)
        a_f = self._logits(self._generate(z))
        if self.objective == "saturating":
            return -np.mean(softplus(a_f))
        return np.mean(softplus(-a_f))

    def _squared_gradient(self, x: Any) -> Any:
        """Return mean ‖∇_x a‖² over the rows that D gets: a Tensor of D's parameters.

        The logit of a row depends on that row alone. So each row of the gradient of
        their sum is the gradient of its own logit.
        """
        rows = x.reshape(-1, self.discriminator_sizes[0])
        slope = grad(lambda x: np.sum(self.discriminator(x)))(rows)
        return np.sum(np.square(slope)) / len(rows)

    def _generate(self, z: Any) -> Any:
        h = self.generator(z)
        if self.output == "sigmoid":
            return sigmoid(h)
        return np.tanh(h) if self.output == "tanh" else h

    def _logits(self, x: Any) -> Any:
        return self.discriminator(x.reshape(-1, self.discriminator_sizes[0]))

    # Use

    def generate(self, z: Any) -> Any:
        """Return the samples (n, d) of the noise z (n, k).

        A plain array gives a plain array without a graph; a Tensor gives a Tensor. The
        same holds for `discriminate`.
        """
        z = checks.rows("GAN", z, self.generator_sizes[0], self.dtype, "z")
        return evaluate(self._generate, z)

    def discriminate(self, x: Any) -> Any:
        """Return D(x) (n / packing, 1), the probability that rows of x are real."""
        return sigmoid(self.logits(x))

    def logits(self, x: Any) -> Any:
        """Return the logits of D(x) (n / packing, 1) for x (n, d)."""
        x = checks.rows("GAN", x, self.generator_sizes[-1], self.dtype)
        twins.check_packs(len(x), self.packing)
        return evaluate(self._logits, x)

    # Checks

    def check(self, x: Array) -> None:
        """Raise an error unless x has the columns and the dtype to train on."""
        checks.rows("GAN", x, self.generator_sizes[-1], self.dtype)

    def _check_noise(self, z: Any) -> Any:
        z = checks.rows("GAN", z, self.generator_sizes[0], self.dtype, "z")
        checks.on_backend("GAN", z)
        twins.check_packs(len(z), self.packing)
        return z

    def _check_pair(self, x: Any, z: Any) -> tuple[Any, Any]:
        x = checks.rows("GAN", x, self.generator_sizes[-1], self.dtype)
        z = self._check_noise(z)
        checks.equal_rows("GAN", x=x, z=z)
        return x, z
