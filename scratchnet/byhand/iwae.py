"""The importance-weighted autoencoder with its backward pass derived on paper.

Read vae.py first: equations (7) to (10) are there, and so is the sigmoid s. The same
system, differentiated by the engine, is in models/iwae.py.


The model (Burda et al. 2016)

It is the VAE with a tighter bound: each sample x_i has k draws of z, and the logarithm
is taken of the mean of their importance weights. For draw j,

    z_ij = mu_i + σ_i ⊙ ε_ij                                             (18)
    log w_ij = log p(x_i | z_ij) + log N(z_ij; 0, 1) - log N(z_ij; mu_i, σ_i²)

In the last two terms the factors of 2π cancel, and (z - mu) / σ is ε:

    log w_ij = log p(x_i | z_ij) + 1/2 Σ (ε_ij² - z_ij² + log_var_i)     (19)

with sums over the c columns of the code. The loss is (equation 8 there)

    Loss = - 1/n Σ_i log 1/k Σ_j w_ij                                    (20)

For k = 1 it is the loss of the VAE, with an estimate of the KL divergence.


The gradient

Write w̃_ij = w_ij / Σ_j w_ij, the softmax of log w_ij over j. The derivative of
log Σ exp is the softmax:

    dLoss/dlog w_ij = - 1/n w̃_ij                                         (21)

So the gradient of each draw counts by its weight (equation 14 there). All n k draws are
rows for the decoder:

    dLoss/da = w̃/n (s(a) - x)                                            (22)

For a Gaussian decoder it is w̃/n e^-λ e, with dLoss/dλ = 1/2 (d - 1/n Σ w̃_ij e^-λ
‖e_ij‖²). (3 to 6) give the part of dLoss/dz that comes through the decoder (23). z also
occurs in (19):

    dLoss/dz_ij = (23) + 1/n w̃_ij z_ij                                   (24)

mu_i and log_var_i occur in every draw (18). log_var_i also occurs in (19), where the
weights add up to 1:

    dLoss/dmu_i      = Σ_j dLoss/dz_ij                                   (25)
    dLoss/dlog_var_i = Σ_j dLoss/dz_ij ⊙ 1/2 σ_i ⊙ ε_ij - 1/2n           (26)


The step in plain NumPy

A Bernoulli decoder and no hidden layers: the encoder has W1, b1, the decoder W2, b2.
The noise eps is (n, k, c).

    mu, log_var = np.split(x @ W1 + b1, 2, axis=1)             # (7)
    sigma = np.exp(log_var / 2)                                # (8)
    z = mu[:, None] + sigma[:, None] * eps                     # (18), (n, k, c)
    a = z @ W2 + b2                                            # (9), (n, k, d)
    log_p = -np.sum(np.logaddexp(0, a) - a * x[:, None], axis=2)  # (10)
    log_w = log_p + np.sum(eps**2 - z**2 + log_var[:, None], axis=2) / 2  # (19)
    log_sum = np.logaddexp.reduce(log_w, axis=1, keepdims=True)  # log Σ_j w_ij
    loss = -1 / n * np.sum(log_sum - np.log(k))                # (20)

    w = np.exp(log_w - log_sum)[:, :, None]                    # w̃, (n, k, 1)
    da = w / n * (1 / (1 + np.exp(-a)) - x[:, None])           # (21), (22)
    dz = da @ W2.T + w / n * z                                 # (23), (24)
    dmu = np.sum(dz, axis=1)                                   # (25)
    dlog_var = np.sum(dz * sigma[:, None] * eps / 2, axis=1) - 1 / 2 / n  # (26)
    z, da = z.reshape(n * k, -1), da.reshape(n * k, -1)        # draws as rows
    dW2, db2 = z.T @ da, np.sum(da, axis=0)                    # (3), (4)
    delta1 = np.hstack([dmu, dlog_var])                        # (17)
    dW1, db1 = x.T @ delta1, np.sum(delta1, axis=0)            # (17)
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from scratchnet import backend, checks, twins
from scratchnet.backend import Array
from scratchnet.byhand.vae import VAE
from scratchnet.kernels import activations


class IWAE(twins.ImportanceWeighted, VAE):
    """An importance-weighted autoencoder whose `step` allocates nothing.

    Args:
        sizes: as for `VAE`.
        k: the number of draws of each code.
        **options: as for `VAE`; this bound has no β.

    Raises:
        TypeError, ValueError: an argument has a wrong type or value.

    """

    def __init__(
        self, sizes: Sequence[int] = (784, 512, 20), *, k: int = 5, **options: Any
    ) -> None:
        super().__init__(sizes, k=k, **options)
        n, c = self.batch_size, self.sizes[-1]
        self._log_w = backend.empty((n, k), self.dtype)
        self._weight = self._log_w  # w̃ overwrites log w
        self._largest = backend.empty((n, 1), self.dtype)
        self._total = self._largest  # Σ w overwrites the largest log w
        self._log_totals = backend.zeros((), self.dtype)
        self._errors = backend.empty((n, k), self.dtype)
        self._code_terms = backend.empty((n, k, c), self.dtype)  # of (19)
        self._code_sums = backend.empty((n, k), self.dtype)  # of (19)

    def _decoder_rows(self) -> int:
        return self.batch_size * self.k

    def forward(self, x: Array, eps: Array) -> Array:
        """Compute the loss of x (n, d) under the noise eps (n, k, c), and return it."""
        d, c = self.sizes[0], self.sizes[-1]
        k = self.k
        x = self._check_rows(x, d)
        n = len(x)
        eps = checks.noise(self._name, eps, (n, k, c), self.dtype)
        self.x, self.eps = x, eps
        self.mu, self.log_var = self._encode(x)  # (7)
        sigma, z = self._sigma[:n], self._z[: n * k]
        np.multiply(self.log_var, 0.5, out=sigma)
        np.exp(sigma, out=sigma)
        draws = z.reshape(n, k, c)
        np.multiply(sigma[:, None], eps, out=draws)  # (18)
        np.add(draws, self.mu[:, None], out=draws)  # (18)
        a = self.decoder.forward(z).reshape(n, k, d)  # (9)

        log_w = self._log_w[:n]
        terms, sums = self._code_terms[:n], self._code_sums[:n]
        self._log_p(a, x[:, None], log_w)  # (10), (10')
        np.multiply(eps, eps, out=terms)
        np.add(terms, self.log_var[:, None], out=terms)
        np.sum(terms, axis=2, out=sums)
        np.multiply(sums, 0.5, out=sums)
        np.add(log_w, sums, out=log_w)  # (19)
        np.multiply(draws, draws, out=terms)
        np.sum(terms, axis=2, out=sums)
        np.multiply(sums, 0.5, out=sums)
        np.subtract(log_w, sums, out=log_w)  # (19)

        largest, weight, total = self._largest[:n], self._weight[:n], self._total[:n]
        np.max(log_w, axis=1, keepdims=True, out=largest)
        np.subtract(log_w, largest, out=log_w)  # so that exp cannot overflow
        np.sum(largest, out=self._loss)
        np.exp(log_w, out=weight)
        np.sum(weight, axis=1, keepdims=True, out=total)
        np.divide(weight, total, out=weight)
        np.log(total, out=total)
        np.sum(total, out=self._log_totals)
        np.add(self._loss, self._log_totals, out=self._loss)
        whole = self._whole(n)
        np.divide(self._loss, -whole, out=self._loss)
        np.add(self._loss, n / whole * math.log(k), out=self._loss)  # (20)
        return self._loss

    def _log_p(self, a: Array, x: Array, out: Array) -> None:
        """Write log p(x | z) of each draw to out (n, k), and s(a) - x to dh."""
        n, k, d = a.shape
        da = self.decoder.dh.reshape(a.shape)
        if not self.gaussian:
            terms = self._terms[: n * k].reshape(a.shape)
            activations.cross_entropy(a, x, out, da, terms)  # (10), (22)
            np.negative(out, out=out)  # (10)
            return
        e = da  # dLoss/da overwrites e
        np.subtract(a, x, out=e)
        square = a  # the same memory: a is no longer needed
        np.multiply(e, e, out=square)
        np.sum(square, axis=2, out=out)
        np.negative(self._lam, out=self._precision)
        np.exp(self._precision, out=self._precision)
        np.multiply(out, self._precision, out=out)
        np.copyto(self._errors[:n], out)
        np.add(self._lam, math.log(2 * math.pi), out=self._log_2pi_var)
        np.multiply(self._log_2pi_var, d, out=self._log_2pi_var)
        np.add(out, self._log_2pi_var, out=out)
        np.multiply(out, -0.5, out=out)  # (10')
        np.multiply(e, self._precision, out=da)  # (22)

    def backward(self) -> None:
        """Compute the gradients after `forward`, and overwrite what it computed."""
        n, k, c = self.eps.shape
        whole = self._whole(n)
        weight = self._weight[:n]
        if self.gaussian:
            errors = self._errors[:n]
            np.multiply(weight, errors, out=errors)
            np.sum(errors, out=self._d_lam)
            np.divide(self._d_lam, -whole, out=self._d_lam)
            np.add(self._d_lam, n / whole * self.sizes[0], out=self._d_lam)
            np.multiply(self._d_lam, 0.5, out=self._d_lam)  # (22)
        np.divide(weight, whole, out=weight)  # (21)
        each = weight.reshape(n * k, 1)
        da = self.decoder.dh
        np.multiply(da, each, out=da)  # (22)
        dz = self.decoder.backward(da, inputs=True)  # (23)
        z = self._z[: n * k]
        np.multiply(z, each, out=z)
        np.add(dz, z, out=dz)  # (24)
        draws = dz.reshape(n, k, c)
        both = self.encoder.dh
        d_mu, d_log_var = both[:, :c], both[:, c:]
        np.sum(draws, axis=1, out=d_mu)  # (25)
        np.multiply(draws, self.eps, out=draws)
        np.sum(draws, axis=1, out=d_log_var)
        np.multiply(d_log_var, self._sigma[:n], out=d_log_var)
        np.subtract(d_log_var, 1 / whole, out=d_log_var)
        np.multiply(d_log_var, 0.5, out=d_log_var)  # (26)
        self.encoder.backward(both)  # (17)
