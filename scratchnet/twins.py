"""What a trained VAE is asked for: samples, its bound on log p(x), and log p(x) itself.

The VAE with the engine and the one by hand both answer through this, on plain arrays.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from scratchnet import backend, checks
from scratchnet.backend import Array

ROWS = 4096  # of z at once, so that memory stays bounded


class LatentVariableModel:
    """p(x, z) = p(x | z) N(z; 0, 1) with an approximate posterior q(z | x).

    A subclass has `sizes`, `dtype`, and the three methods that come first.
    """

    sizes: tuple[int, ...]
    dtype: np.dtype

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
        """Draw n codes from N(0, 1) and return the mean of p(x | z) of each (n, d).

        The mean and not a draw from p(x | z), as is usual for pictures: of a Bernoulli
        decoder that would be a picture of black and white specks.
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

        Its mean is a lower bound on the mean of log p(x), whatever β was in training.
        """
        log_p_x, kl = self.elbo_terms(x, rng)
        return log_p_x - kl

    def log_likelihood(self, x: Array, rng: np.random.Generator, k: int) -> Array:
        """Estimate log p(x) for each sample of x (n, d) by k draws: (n,), in nats.

        log 1/k Σ_i p(x, z_i) / q(z_i | x) with z_i from q: a lower bound in
        expectation, which rises with k to log p(x) (Burda et al. 2016, equation 8).
        With k = 1 it is the bound itself, its KL estimated rather than computed.
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
                # log N(z; 0, 1) − log N(z; mu, σ²); the (2π)s cancel.
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

    def _with_noise(
        self, x: Any, draws: tuple[int, ...], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Return the samples x (n, d), and ε (n, *draws, c) for them."""
        x = checks.rows(type(self).__name__, x, self.sizes[0], self.dtype)
        return x, self._normal((len(x), *draws, self.sizes[-1]), rng)

    def _normal(
        self, shape: tuple[int, ...], rng: np.random.Generator, like: Any = None
    ) -> Array:
        """Draw from N(0, 1): an array of the backend, or where `like` is."""
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
    """Return in which options of an autoencoder layer k differs from its stack."""
    # A generator of its own: the weights that it draws are not the stack's.
    options: dict[str, Any] = {"rng": np.random.default_rng(0)}
    if k < len(sizes) - 1:
        options |= {"active_code": True}
    if k > 1:
        options |= {"output": "activation", "loss": "squared"}
    return options
