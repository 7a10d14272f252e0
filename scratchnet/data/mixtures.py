"""Toy data with a known density or a known sheet: Gaussian mixtures, a roll, moons.

A mixture's density is a formula, so a model can be compared with the truth: a GAN's
discriminator with p / (p + q), its samples with the modes. The Swiss roll is a flat
sheet rolled up in space; the position of each point on the sheet is returned too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scratchnet import checks

__all__ = [
    "Mixture",
    "gaussian",
    "grid",
    "ring",
    "swiss_roll",
    "two_moons",
]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

ROLL_ANGLE = (1.5 * math.pi, 4.5 * math.pi)  # radians: the ends of the roll
ROLL_HEIGHT = 21.0


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of Gaussians with equal weights and the same σ along each axis.

        p(x) = 1/k Σ_j N(x; centers_j, σ² I)

    Args:
        centers: the means of the k Gaussians (k, d).
        sigma: the standard deviation σ along each axis.

    Raises:
        ValueError: centers are not (k, d) or not finite, or sigma is not positive.

    """

    centers: NDArray[np.float64]
    sigma: float

    def __post_init__(self) -> None:
        centers = checks.array("Mixture", "centers", self.centers).astype(np.float64)
        if centers.ndim != 2 or not centers.size or not np.isfinite(centers).all():
            raise ValueError(
                f"Mixture: centers have shape {centers.shape}; expected finite numbers "
                "(k, d), k and d at least 1"
            )
        checks.number("Mixture", "sigma", self.sigma, checks.POSITIVE)
        centers.setflags(write=False)
        object.__setattr__(self, "centers", centers)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Floats, Ints]:
        """Draw n points (n, d) and the index of the Gaussian of each (n,)."""
        checks.count("Mixture.sample", "n", n, 0)
        checks.rng("Mixture.sample", rng)
        label = rng.integers(len(self.centers), size=n)
        noise = rng.standard_normal((n, self.centers.shape[1]))
        x = self.centers[label] + self.sigma * noise
        return x.astype(np.float32), label

    def log_density(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return log p (n,), in nats, of the points x (n, d).

        Raises:
            ValueError: x is not (n, d).

        """
        x = checks.array("Mixture.log_density", "x", x).astype(np.float64)
        k, d = self.centers.shape
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(
                f"Mixture: x has shape {x.shape}; expected (n, d) = (n, {d})"
            )
        squared = np.sum((x[:, None] - self.centers) ** 2, axis=2)  # (n, k)
        log_each = -squared / (2 * self.sigma**2)
        constant = math.log(k) + d / 2 * math.log(2 * math.pi * self.sigma**2)
        log_p: NDArray[np.float64] = np.logaddexp.reduce(log_each, axis=1) - constant
        return log_p


def gaussian(mean: float = 0.0, sigma: float = 1.0) -> Mixture:
    """Return a 1-D Gaussian, as in figure 1 of Goodfellow et al. (2014)."""
    return Mixture(np.array([[checks.number("gaussian", "mean", mean)]]), sigma)


def ring(k: int = 8, radius: float = 1.0, sigma: float = 0.01) -> Mixture:
    """Return k Gaussians at equal angles on a circle about 0, the first at (radius, 0).

    The defaults are those of Srivastava et al. (2017, VEEGAN) and Lin et al. (2018,
    PacGAN). The angles 0 and 2π are equal: `linspace(0, 2π, 8)` contains both, and
    would make 7 modes, one of them twice as likely.
    """
    checks.count("ring", "k", k)
    checks.number("ring", "radius", radius)
    angle = 2 * math.pi * np.arange(k) / k
    return Mixture(radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), sigma)


def grid(side: int = 5, spacing: float = 2.0, sigma: float = 0.05) -> Mixture:
    """Return side x side Gaussians on a square lattice about 0.

    The defaults are those of VEEGAN and PacGAN: centres {-4, -2, 0, 2, 4}².
    """
    checks.count("grid", "side", side)
    checks.number("grid", "spacing", spacing)
    ticks = spacing * (np.arange(side) - (side - 1) / 2)
    return Mixture(np.stack(np.meshgrid(ticks, ticks), axis=2).reshape(-1, 2), sigma)


def swiss_roll(
    n: int, rng: np.random.Generator, noise: float = 0.0
) -> tuple[Floats, Floats]:
    """Draw n points of a sheet that is rolled up in space (Tenenbaum et al. 2000).

    A point is (t cos t, height, t sin t), with the angle t uniform on [3π/2, 9π/2] and
    the height uniform on [0, 21], as in the program of Roweis & Saul (2000). The sheet
    is bent but not stretched. Its flat coordinates are the height and the length of the
    spiral r = t from its beginning to t,

        s(t) = F(t) - F(3π/2),  F(t) = (t √(1 + t²) + asinh t) / 2,

    so the shortest path along the roll is a straight line in (s, height). At the inner
    end the density of points is three times that at the outer end, because a radian is
    shorter there.

    Args:
        n: the number of points.
        rng: draws the points.
        noise: the standard deviation of the noise added to each coordinate in space.
            For the same seed the sheet is the same with any noise.

    Returns:
        The points (n, 3), and their positions on the flat sheet (n, 2): length along
        the spiral and height, both in the unit of the points.

    """
    _check_draw("swiss_roll", n, rng, noise)
    first, last = ROLL_ANGLE
    u = rng.random((n, 2))
    t = first + (last - first) * u[:, 0]
    height = ROLL_HEIGHT * u[:, 1]
    x = np.stack([t * np.cos(t), height, t * np.sin(t)], axis=1)
    x += noise * rng.standard_normal((n, 3))
    sheet = np.stack([_spiral(t) - _spiral(np.array(first)), height], axis=1)
    return x.astype(np.float32), sheet.astype(np.float32)


def _spiral(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return F(t), the length of the spiral r = t from 0 to t."""
    length: NDArray[np.float64] = (t * np.sqrt(1 + t**2) + np.arcsinh(t)) / 2
    return length


def two_moons(
    n: int, rng: np.random.Generator, noise: float = 0.0
) -> tuple[Floats, Ints]:
    """Draw n points on two interleaved half circles.

    The first is (cos a, sin a), the second (1 - cos a, 1/2 - sin a), with a uniform on
    [0, π], as in scikit-learn's `make_moons`.

    Args:
        n: the number of points.
        rng: draws the points.
        noise: the standard deviation of the noise added to each coordinate.

    Returns:
        The points (n, 2), and the moon of each (n,), 0 or 1.

    """
    _check_draw("two_moons", n, rng, noise)
    label = rng.integers(2, size=n)
    angle = math.pi * rng.random(n)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    second = label == 1
    x[second] = np.array([1.0, 0.5]) - x[second]
    x += noise * rng.standard_normal((n, 2))
    return x.astype(np.float32), label


def _check_draw(owner: str, n: int, rng: np.random.Generator, noise: float) -> None:
    checks.count(owner, "n", n, 0)
    checks.rng(owner, rng)
    checks.number(owner, "noise", noise, "[0, inf)")
