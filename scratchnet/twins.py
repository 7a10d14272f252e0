"""Code that both twins of a system share: everything except the gradient.

It checks a system's options, evaluates a trained VAE, splits a stack into layers and
applies a corruption. Both twins, with the engine and by hand, use it on plain arrays.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scratchnet import backend, checks
from scratchnet.backend import Array

# --- The options of a system --------------------------------------------------------

OBJECTIVES = ("saturating", "non_saturating", "relativistic")


def check_autoencoder(owner: str, given: Any, output: str, loss: str) -> None:
    """Raise an error unless the arguments of an autoencoder are valid."""
    checks.sizes(owner, given)
    checks.choice(owner, "output", output, ("sigmoid", "linear", "activation"))
    checks.choice(owner, "loss", loss, ("squared", "cross_entropy"))
    if loss == "cross_entropy" and output != "sigmoid":
        raise ValueError(
            f"{owner}: loss='cross_entropy' compares probabilities; "
            f"output='sigmoid' expected, not {output!r}"
        )


def check_vae(owner: str, given: Any, decoder: str, beta: float) -> None:
    """Raise an error unless the arguments of a VAE are valid."""
    checks.sizes(owner, given)
    checks.choice(owner, "decoder", decoder, ("bernoulli", "gaussian"))
    checks.number(owner, "beta", beta, "[0, inf)")


def check_gan(
    generator: Any,
    discriminator: Any,
    output: str,
    objective: str,
    r1: float,
    r2: float,
    packing: int,
) -> None:
    """Raise an error unless the arguments of a GAN are valid."""
    checks.count("GAN", "packing", packing)
    checks.sizes("GAN", generator, "generator")
    checks.sizes("GAN", discriminator, "discriminator")
    checks.choice("GAN", "output", output, ("linear", "sigmoid", "tanh"))
    checks.choice("GAN", "objective", objective, OBJECTIVES)
    columns = packing * generator[-1]
    if discriminator[0] != columns or discriminator[-1] != 1:
        raise ValueError(
            f"GAN: the discriminator takes {discriminator[0]} columns to "
            f"{discriminator[-1]}; {columns} to 1 expected, since the generator makes "
            f"{generator[-1]} and packing is {packing}"
        )
    for name, gamma in (("r1", r1), ("r2", r2)):
        if checks.number("GAN", name, gamma, "[0, inf)") and len(discriminator) < 3:
            raise ValueError(f"GAN: {name} needs a discriminator with a hidden layer")


def check_packs(n: int, packing: int) -> None:
    """Raise ValueError unless n rows are a whole number of packs."""
    if n % packing:
        raise ValueError(f"GAN: {n} rows are not a multiple of packing={packing}")


# --- The use of a trained VAE -------------------------------------------------------

ROWS = 4096  # of z at once, so that memory stays bounded


class LatentVariableModel:
    """p(x, z) = p(x | z) N(z; 0, 1) with an approximate posterior q(z | x).

    A subclass has `sizes` and `dtype`, and defines `posterior`, `decode` and `log_p_x`.
    """

    sizes: tuple[int, ...]
    dtype: np.dtype

    @property
    def draws(self) -> tuple[int, ...]:
        """The shape of the draws of z for one sample: () for one draw, (k,) for k."""
        return ()

    def with_noise(self, x: Array, *, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return the batch of a training step: x (n, d), and new noise ε (n, c).

        With k draws of z for each sample, ε is (n, k, c).
        """
        x = checks.rows(type(self).__name__, x, self.sizes[0], self.dtype)
        return x, self._normal((len(x), *self.draws, self.sizes[-1]), rng)

    def posterior(self, x: Any) -> tuple[Any, Any]:
        """Return mu and log_var of q(z | x) = N(mu, exp(log_var)): (n, c) each."""
        raise NotImplementedError  # each subclass has its own

    def decode(self, z: Any) -> Any:
        """Return the mean of p(x | z) (n, d) for the codes z (n, c)."""
        raise NotImplementedError  # each subclass has its own

    def log_p_x(self, x: Array, z: Array) -> Array:
        """Return log p(x_i | z_i) for each row (n,), in nats."""
        raise NotImplementedError  # each subclass has its own

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw n codes from N(0, 1) and return the mean of p(x | z) for each, (n, d).

        For pictures the mean is usual, not a draw from p(x | z): draws from a Bernoulli
        decoder are black and white specks.
        """
        checks.count("sample", "n", n)
        return self.decode(self._normal((n, self.sizes[-1]), rng))

    def elbo_terms(self, x: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return the two terms of the bound for each sample of x (n, d), in nats.

        log p(x | z) at one draw of z from q(z | x), and KL(q(z | x) ‖ N(0, 1)) in
        closed form, (n,) each (Kingma & Welling 2014, equation 10).
        """
        mu, log_var = self.posterior(x)
        z = mu + np.exp(log_var / 2) * self._normal(mu.shape, rng, mu)
        kl = np.sum(np.square(mu) + np.expm1(log_var) - log_var, axis=1) / 2
        return self.log_p_x(x, z), kl

    def elbo(self, x: Array, rng: np.random.Generator) -> Array:
        """Return log p(x | z) − KL for each sample of x (n, d): (n,), in nats.

        Its mean is a lower bound on the mean of log p(x), for any β in training.
        """
        log_p_x, kl = self.elbo_terms(x, rng)
        return log_p_x - kl

    def log_likelihood(self, x: Array, rng: np.random.Generator, k: int) -> Array:
        """Estimate log p(x) for each sample of x (n, d) from k draws: (n,), in nats.

        log 1/k Σ_i p(x, z_i) / q(z_i | x) with z_i from q. Its expectation is a lower
        bound, which rises with k to log p(x) (Burda et al. 2016, equation 8). With
        k = 1 it is the ELBO, with an estimate of the KL divergence.
        """
        checks.count("log_likelihood", "k", k)
        x = checks.plain_array(type(self).__name__, "x", x)
        mu, log_var = self.posterior(x)
        sigma = np.exp(log_var / 2)
        n, c = mu.shape
        log_w = np.empty((n, k))
        at_once = max(1, ROWS // k)
        for i in range(0, n, at_once):
            rows = slice(i, i + at_once)
            for j in range(0, k, ROWS):
                draws = min(k - j, ROWS)
                part = mu[rows, None]
                eps = self._normal((len(part), draws, c), rng, part)
                z = part + sigma[rows, None] * eps
                # log N(z; 0, 1) − log N(z; mu, σ²); the factors of 2π cancel.
                log_ratio = np.sum(np.square(eps) - np.square(z), axis=2) / 2
                log_ratio = log_ratio + np.sum(log_var[rows], axis=1)[:, None] / 2
                repeated = np.repeat(x[rows], draws, axis=0)
                log_p_x = self.log_p_x(repeated, z.reshape(-1, c))
                found = log_p_x.reshape(len(part), draws) + log_ratio
                log_w[rows, j : j + draws] = backend.to_numpy(found)
        largest = log_w.max(axis=1)
        total = np.exp(log_w - largest[:, None]).sum(axis=1)
        result: Array = largest + np.log(total) - math.log(k)
        return result

    def _normal(
        self, shape: tuple[int, ...], rng: np.random.Generator, like: Any = None
    ) -> Array:
        """Draw from N(0, 1): an array of the backend, or one where `like` is."""
        checks.rng(type(self).__name__, rng)
        drawn = rng.standard_normal(shape, self.dtype.type)
        return backend.asarray(drawn) if like is None else backend.bring(drawn, like)


def log_bernoulli(x: Array, logits: Array) -> Array:
    """Return Σ_j log p(x_ij) of Bernoulli variables with these logits: (n,), nats."""
    a = logits
    softplus = np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))
    return np.sum(a * x - softplus, axis=1, dtype=np.float64)


def log_gaussian(x: Array, mean: Array, log_var: Array) -> Array:
    """Return Σ_j log N(x_ij; mean_ij, exp(log_var)): (n,), in nats."""
    log_var = backend.bring(log_var, to=x)
    square = np.square(x - mean) * np.exp(-log_var)
    terms = square + (log_var + math.log(2 * math.pi))
    return np.sum(terms, axis=1, dtype=np.float64) / -2


# --- Stacks -------------------------------------------------------------------------


def layer_names(sizes: Sequence[int], k: int) -> dict[str, str]:
    """Map the names in an autoencoder of one layer to those of layer k of a stack.

    Raises:
        ValueError: there is no layer k = 1, ..., len(sizes) - 1.

    """
    C = len(sizes) - 1
    checks.count("layer", "k", k)
    if not 1 <= k <= C:
        raise ValueError(f"layer: k is {k}; 1 to {C} expected, one for each layer")
    places = {"encoder": 2 * (k - 1), "decoder": 2 * (C - k)}
    return {f"{net}.0.{p}": f"{net}.{i}.{p}" for net, i in places.items() for p in "Wb"}


def layer_options(sizes: Sequence[int], k: int) -> dict[str, Any]:
    """Return the options of the autoencoder of layer k that differ from the stack's."""
    # Any generator: the weights that it draws are replaced by the stack's.
    options: dict[str, Any] = {"rng": np.random.default_rng(0)}
    if k < len(sizes) - 1:
        options |= {"active_code": True}
    if k > 1:
        options |= {"output": "activation", "loss": "squared"}
    return options


class Stacked:
    """An autoencoder of several layers that can be trained one by one.

    A subclass is an autoencoder too, and defines `kind` and `_write`.

    Args:
        sizes: columns of the data, hidden layers, length of the code.
        **options: as for the autoencoder.

    """

    kind: type[Any]  # the class of one layer
    state_dict: Any  # the autoencoder's
    sizes: tuple[int, ...]

    def __init__(
        self, sizes: Sequence[int] = (784, 512, 256, 16), **options: Any
    ) -> None:
        super().__init__(sizes, **options)  # type: ignore[call-arg]  # the autoencoder's
        del options["rng"]  # a layer's weights are the stack's
        self._options = options

    def layer(self, k: int) -> Any:
        """Return layer k = 1, 2, ... as an autoencoder, with this stack's weights.

        It maps the codes of layer k - 1 to those of layer k and back, with the stack's
        activations. The first layer has the stack's output and loss; the others have
        the squared error.

        Raises:
            ValueError: there is no layer k.

        """
        names = layer_names(self.sizes, k)
        options = self._options | layer_options(self.sizes, k)
        made = self.kind(self.sizes[k - 1 : k + 1], **options)
        state = self.state_dict()
        made.load_state_dict({mine: state[name] for mine, name in names.items()})
        return made

    def set_layer(self, k: int, layer: Any) -> None:
        """Copy the weights of an autoencoder that `layer(k)` returned to the stack.

        Raises:
            TypeError, ValueError: there is no layer k, or `layer` is not one like it.

        """
        if not isinstance(layer, self.kind):
            raise TypeError(
                f"set_layer: a {type(layer).__name__} given, an Autoencoder expected"
            )
        state = layer.state_dict()
        names = layer_names(self.sizes, k)
        found = {name: state[mine] for mine, name in names.items()}
        self._write(f"{type(self).__name__}.set_layer", found)

    def _write(self, owner: str, found: dict[str, np.ndarray]) -> None:
        """Set the parameters of these names, or none (ValueError)."""
        raise NotImplementedError  # each subclass has its own


# --- Denoising ----------------------------------------------------------------------


class Denoising:
    """An autoencoder from corrupted samples to clean ones.

    A subclass is an autoencoder too.

    Args:
        sizes: as for the autoencoder.
        corruption: called as corruption(x, rng) for each batch, or with further arrays
            of the samples: corruption(x, depth, rng). See data/corruption.py.
        **options: as for the autoencoder.

    """

    def __init__(
        self,
        sizes: Sequence[int] = (784, 256, 64),
        *,
        corruption: Callable[..., Array],
        **options: Any,
    ) -> None:
        super().__init__(sizes, **options)  # type: ignore[call-arg]  # the autoencoder's
        self.corruption = corruption

    def with_noise(
        self, x: Array, *given: Array, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Return the batch of a training step: x (n, d), and x newly corrupted."""
        x, *more = checks.plain_arrays(type(self).__name__, "x", (x, *given))
        return x, self.corruption(x, *more, rng)

    def check(self, x: Array, *given: Array) -> None:
        """Raise an error unless x and the arguments of the corruption are valid."""
        super().check(x)  # type: ignore[misc]  # the autoencoder's
        if hasattr(self.corruption, "check"):
            self.corruption.check(x, *given)


# --- Several draws of a code --------------------------------------------------------


class ImportanceWeighted:
    """A VAE trained on the bound of k draws.

    A subclass is a VAE too.

    Args:
        sizes: as for the VAE.
        k: the number of draws of each code.
        **options: as for the VAE; this bound has no β.

    Raises:
        TypeError, ValueError: an argument has a wrong type or value.

    """

    beta: float

    def __init__(
        self, sizes: Sequence[int] = (784, 512, 20), *, k: int = 5, **options: Any
    ) -> None:
        checks.count("IWAE", "k", k)
        self.k = k
        super().__init__(sizes, **options)  # type: ignore[call-arg]  # the VAE's
        if self.beta != 1:
            raise ValueError("IWAE: the importance-weighted bound has no beta")

    @property
    def draws(self) -> tuple[int, ...]:
        """The shape of the draws of z for one sample."""
        return (self.k,)
