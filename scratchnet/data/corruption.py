"""Noise and fog that corrupt samples, for a denoising autoencoder to remove.

Each corruption is an object. Call it with samples and a random generator: it returns
new samples of the same shape and dtype, with new noise at every call, and does not
change the given ones.

    corrupted = Masking(0.25)(x, rng)
    fogged = Fog()(x, depth, rng)

`check` takes the same arguments without the generator, and raises an error if they are
invalid; training calls it before the first step.

Samples are arrays (n, ...) of float32 or float64, usually rows (n, d).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scratchnet import checks

__all__ = [
    "Fog",
    "Gaussian",
    "Masking",
    "SaltAndPepper",
    "koschmieder",
]

Array = NDArray[Any]


@dataclass(frozen=True)
class Gaussian:
    """Add normal noise to every entry: x + σ ε (Vincent et al. 2010).

    The result is not clipped to [0, 1]. The literature usually does not clip either:
    clipping would make black brighter on average, and white darker.

    Args:
        sigma: the standard deviation σ, at least 0.

    """

    sigma: float

    def __post_init__(self) -> None:
        checks.number("Gaussian", "sigma", self.sigma, "[0, inf)")

    def check(self, x: Array) -> None:
        """Raise TypeError or ValueError unless x are samples."""
        _samples("Gaussian", x)

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """Return x with noise."""
        x = _samples("Gaussian", x)
        checks.rng("Gaussian", rng)
        return x + _noise(self.sigma, x, rng)


@dataclass(frozen=True)
class Masking:
    """Set entries to 0 (Vincent et al. 2008).

    The paper changes the same number of entries in every sample. Here each entry is
    drawn independently, so the number differs a little.

    Args:
        p: the probability that an entry is set to 0.

    """

    p: float

    def __post_init__(self) -> None:
        checks.number("Masking", "p", self.p, "[0, 1]")

    def check(self, x: Array) -> None:
        """Raise TypeError or ValueError unless x are samples."""
        _samples("Masking", x)

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """Return x with zeros."""
        x = _samples("Masking", x)
        checks.rng("Masking", rng)
        return np.where(_uniform(x, rng) < self.p, x.dtype.type(0), x)


@dataclass(frozen=True)
class SaltAndPepper:
    """Set entries to 0 or 1 with equal probability (Vincent et al. 2010).

    Args:
        p: the probability that an entry is set.

    """

    p: float

    def __post_init__(self) -> None:
        checks.number("SaltAndPepper", "p", self.p, "[0, 1]")

    def check(self, x: Array) -> None:
        """Raise TypeError or ValueError unless x are samples."""
        _samples("SaltAndPepper", x)

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """Return x with zeros and ones."""
        x = _samples("SaltAndPepper", x)
        checks.rng("SaltAndPepper", rng)
        u = _uniform(x, rng)
        extreme = (u < self.p / 2).astype(x.dtype)
        return np.where(u < self.p, extreme, x)


def koschmieder(
    clear: Array, depth: Array, beta: Array | float, airlight: Array | float
) -> Array:
    """Return the view of a clear picture J through fog (Koschmieder 1924).

        I = J t + A (1 - t),  t = exp(-β depth)

    A fraction t of the light comes through, and the fog adds its own light. At 3.9 / β
    metres t is 2 %; by convention this is the limit of sight.

    Args:
        clear: J.
        depth: the distance in metres for each pixel, of the shape of J.
        beta: the density β of the fog, per metre: a number, or an array that broadcasts
            to J.
        airlight: the brightness A of the fog, like beta.

    """
    given = {"clear": clear, "depth": depth, "beta": beta, "airlight": airlight}
    plain = [checks.real("koschmieder", name, a) for name, a in given.items()]
    clear, depth, beta, airlight = plain
    shapes = [np.shape(a) for a in plain]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(
            f"koschmieder: the shapes of {', '.join(given)} are {shapes}; they do not "
            "broadcast together"
        ) from None
    t = np.exp(-beta * depth)
    fogged: Array = clear * t + airlight * (1 - t)
    return fogged


@dataclass(frozen=True)
class Fog:
    """Add fog and the noise of the camera to pictures; see `koschmieder`.

    Each sample gets its own β and A, uniform on their ranges. Without noise, even dense
    fog could be removed exactly; with noise, distant objects are lost. The defaults
    hide a deer of `draw_scenes` almost completely.

    Args:
        density: the lowest and highest β, per metre.
        airlight: the lowest and highest A.
        noise: the standard deviation of the camera's noise.

    """

    density: tuple[float, float] = (0.2, 0.3)
    airlight: tuple[float, float] = (0.75, 0.95)
    noise: float = 0.005

    def __post_init__(self) -> None:
        _check_range("density", self.density, "[0, inf)")
        _check_range("airlight", self.airlight, "[0, 1]")
        checks.number("Fog", "noise", self.noise, "[0, inf)")

    def check(self, x: Array, depth: Array) -> None:
        """Raise TypeError or ValueError unless x are samples and depth their distances.

        Depth has the shape of x, and no value is negative or NaN.
        """
        _, depth = self._samples(x, depth)
        host = checks.array("Fog", "depth", depth)
        bad = ~(host >= 0)
        if bad.any():
            at = np.unravel_index(int(np.argmax(bad)), bad.shape)
            raise ValueError(
                f"Fog: depth[{', '.join(map(str, at))}] is {host[at]}: pass metres, 0 "
                "or more"
            )

    def _samples(self, x: Any, depth: Any) -> tuple[Array, Array]:
        x = _samples("Fog", x)
        depth = checks.real("Fog", "depth", depth)
        if np.shape(depth) != x.shape:
            raise ValueError(
                f"Fog: x has shape {x.shape} and depth {np.shape(depth)}: pass one "
                "distance for each pixel"
            )
        return x, depth

    def __call__(self, x: Array, depth: Array, rng: np.random.Generator) -> Array:
        """Return the pictures x (n, ...) in fog; depth has their shape, in metres.

        Raises:
            TypeError, ValueError: as for `check`, but on a GPU only shapes and dtypes
                are checked.

        """
        x, depth = self._samples(x, depth)
        if isinstance(x, np.ndarray):
            self.check(x, depth)
        checks.rng("Fog", rng)
        one_each = (len(x),) + (1,) * (x.ndim - 1)
        beta = np.asarray(rng.uniform(*self.density, one_each), x.dtype, like=x)
        airlight = np.asarray(rng.uniform(*self.airlight, one_each), x.dtype, like=x)
        depth = np.asarray(depth, x.dtype, like=x)
        return koschmieder(x, depth, beta, airlight) + _noise(self.noise, x, rng)


def _noise(sigma: float, x: Array, rng: np.random.Generator) -> Array:
    # Drawn on the host, then moved to the device of x.
    noise = np.asarray(rng.standard_normal(x.shape, x.dtype), like=x)
    scaled: Array = noise * x.dtype.type(sigma)
    return scaled


def _uniform(x: Array, rng: np.random.Generator) -> Array:
    return np.asarray(rng.random(x.shape, x.dtype), like=x)


def _samples(name: str, x: Any) -> Array:
    """Return samples (n, ...) of floats as a plain array, or raise an error."""
    x = checks.plain_array(name, "x", x)
    if getattr(x, "dtype", None) not in (np.float32, np.float64):
        held = getattr(x, "dtype", type(x).__name__)
        raise TypeError(f"{name}: x is {held}: pass an array of float32 or float64")
    if x.ndim < 1:
        raise ValueError(f"{name}: x is one number: pass samples (n, ...)")
    found: Array = x
    return found


def _check_range(what: str, given: Any, interval: str) -> None:
    if not isinstance(given, tuple) or len(given) != 2:
        raise TypeError(f"Fog: {what} is {given!r}; (low, high) expected")
    low, high = (checks.number("Fog", what, value, interval) for value in given)
    if low > high:
        raise ValueError(f"Fog: {what} is {given}; low <= high expected")
