"""Check the measures against known values, before they are used."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from demos.papers._data import mnist
from demos.papers.autoencoder import pca_error
from scratchnet import byhand
from scratchnet.data.mixtures import grid, ring
from scratchnet.metrics import mode_coverage, parzen_log_likelihood


class Known(NamedTuple):
    """A measured value next to its known value."""

    what: str
    value: float
    expected: float
    within: float

    @property
    def holds(self) -> bool:
        """Return whether the two values agree."""
        return abs(self.value - self.expected) <= self.within

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "FAILS"
        return (
            f"  {verdict}  {self.what}: {self.value:.6g} ({self.expected:.6g} ± "
            f"{self.within:.2g})"
        )


def known(data: Path | None) -> Iterator[Known]:
    """Measure known values; some of them need MNIST's files."""
    yield ceiling()
    yield linear_gaussian()
    if data is None:
        return
    (train, _), (test, _) = mnist(data, "train"), mnist(data, "test")
    yield Known("error of 30 PCA components on MNIST", pca_error(train, test), 13.866,
                0.001)  # fmt: skip
    # By the paper's protocol, training images get σ = 10^(-7/9), one of ten values. A
    # direct sum over the kernels in float64 gives 241.1929.
    log_p = parzen_log_likelihood(test, train[:10_000], 10 ** (-7 / 9))
    yield Known("Parzen window of 10,000 training images, nats", float(log_p.mean()),
                241.193, 0.001)  # fmt: skip


def ceiling(n: int = 250_000) -> Known:
    """Evaluate perfect samples of the mixtures: 1 - exp(-9 / 2) are good."""
    rng = np.random.default_rng(0)
    found = []
    for mixture in (ring(), grid()):
        samples, _ = mixture.sample(n, rng)
        cover = mode_coverage(samples, mixture.centers, mixture.sigma)
        found.append(100 * cover.high_quality)
    exact = 100 * (1 - math.exp(-4.5))
    error = 100 * math.sqrt(0.9889 * 0.0111 / (2 * n))
    return Known("perfect samples of high quality, % (± 4 s.e.)", float(np.mean(found)),
                 exact, 4 * error)  # fmt: skip


def linear_gaussian(n: int = 400, draws: int = 1000) -> Known:
    """Evaluate a VAE without hidden layers, whose p(x) is a known Gaussian.

    If p(x | z) = N(W z + b, e^λ), then p(x) = N(b, W Wᵀ + e^λ). The bias of the
    estimate is about half the variance of its weights over their number, far below its
    error here.
    """
    rng = np.random.default_rng(0)
    d, c = 6, 2
    vae = byhand.VAE((d, c), rng=rng, decoder="gaussian", dtype=np.float64)
    W, b = vae.decoder.W[1], vae.decoder.b[1]
    b[...] = rng.normal(size=d)
    vae.parameters["log_var_x"][...] = -1.0
    noise = math.exp(-1.0)
    cov = W.T @ W + noise * np.eye(d)
    x = rng.multivariate_normal(b, cov, size=n)
    # The posterior is a Gaussian too; q is the same Gaussian, slightly wider.
    exact_cov = np.linalg.inv(np.eye(c) + W @ W.T / noise)
    V, a = vae.encoder.W[1], vae.encoder.b[1]
    V[:, :c] = W.T @ exact_cov / noise
    a[:c] = -b @ V[:, :c]
    V[:, c:] = 0
    a[c:] = np.log(1.2 * np.diag(exact_cov))
    found = vae.log_likelihood(x, rng, draws)
    centered = x - b
    exact = -0.5 * (
        np.einsum("ni,ij,nj->n", centered, np.linalg.inv(cov), centered)
        + np.linalg.slogdet(2 * math.pi * cov)[1]
    )
    error = float(np.std(found - exact) / math.sqrt(n))
    return Known("−log p(x) of a linear Gaussian model, nats (± 4 s.e.)",
                 -float(found.mean()), -float(exact.mean()), 4 * error)  # fmt: skip
