"""Values of f near the inputs, and their rounding.

A random cotangent c turns f into a number: phi(x) = sum(c * f(x)). A `Probe` moves one
input by a step and returns the change of phi. For the complex step (Squire & Trapp
1998) it returns Im phi(x + ihd) / h: nothing is subtracted, so the slope is accurate to
about 1e-13. `measure_rounding` measures the accuracy of f and of the gradient; all
tolerances follow from it.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from scratchnet.testing.problems import (
    Array,
    Problem,
    flatten,
    random_signs,
)

EPS = 2.0**-52  # the spacing of float64 at 1
COMPLEX_STEP = 1e-100  # so small that its square is negligible
MAX_SECONDS = 3.0  # time limit for f, twice, if some entries stay unknown

Elements = Callable[[list[Array], Array], Array]  # (xs, c) -> (n,)

clock = time.perf_counter


class Limits(NamedTuple):
    """The caller's limits: which errors are accepted, and when the check must end.

    An entry may be off by atol + rtol * abs(slope). `deadline` is a time of `clock`.
    """

    atol: float = 0.0
    rtol: float = 0.0
    deadline: float = math.inf


class TimeUpError(Exception):
    """The deadline has passed."""


class Probe:
    """A problem, a cotangent for it, and measurements at its inputs.

    Attributes:
        problem: the function and its gradient.
        limits: the caller's limits.
        rng: the generator of all random numbers in the check.
        base: f at the inputs.
        c: the cotangent, of the shape of `base`.
        number: whether f returns a single number.
        unit: a report divides slopes by it, which gives slopes of f if f is a number.
        label: the name, in a report, of the number that is differentiated.
        scale: for each input, the size of each entry, or of its neighbours if it is
            small; steps are proportional to it.
        calls: how often f was evaluated.
        affordable: the number of evaluations of f that take MAX_SECONDS.
        raised: the error that f raised at a point nearby, in words.
        blur: bounds on the rounding of each c * f. `measure_rounding` sets it and the
            next three.
        spread: a factor: the rounding of the sum over that of independent outputs.
        noise: a bound on the rounding of phi.
        rounding: for each input, bounds on the rounding of the entries of its gradient.

    """

    blur: Array
    spread: float
    noise: float
    rounding: list[Array]

    def __init__(
        self, problem: Problem, rng: np.random.Generator, limits: Limits | None = None
    ) -> None:
        self.problem = problem
        self.limits = limits or Limits()
        self.rng = rng
        self.calls = 0
        self.affordable = math.inf
        self.raised = ""
        self.base = problem.value(problem.xs)
        if self.base.dtype.kind != "f":
            raise TypeError(f"gradcheck: f returned {self.base.dtype}; it must be real")
        self.base = self.base.astype(np.float64)
        self.c = random_signs(rng, self.base.shape)  # never 0: every output counts
        # For a single number the cotangent is only a factor: report d f, not d (c f).
        self.number = self.base.size == 1 and not problem.is_gradient
        self.unit = float(self.c.ravel()[0]) if self.number else 1.0
        self.label = "f" if self.number else problem.label
        self.scale = [
            np.maximum(np.abs(x), 0.5 * np.abs(x).sum() / max(x.size, 1) or 1.0).ravel()
            for x in problem.xs
        ]

    def late(self) -> bool:
        """Return whether the deadline has passed."""
        return clock() > self.limits.deadline

    def value(self, j: int, step: Array) -> Array | None:
        """Return f with input j moved by a step; None outside the domain of f."""
        xs = list(self.problem.xs)
        xs[j] = xs[j] + step.reshape(xs[j].shape)
        self.calls += 1
        try:
            y = self.problem.value(xs)
        except Exception as error:  # f(x) did not raise, so the step is the cause
            if step.dtype.kind == "f":
                self.raised = f"{type(error).__name__}: {error}"
            return None
        return y if y.shape == self.base.shape else None

    def change(self, j: int, step: Array, moved: Array) -> float:
        """Return phi(x + step) - phi(x) for a step in input j; NaN outside the domain.

        Mark in `moved` the outputs that changed. The outputs are subtracted before they
        are summed, so that unchanged outputs add no rounding.
        """
        y = self.value(j, step)
        if y is None:
            return math.nan
        change = y - self.base
        moved |= change != 0
        return float(np.vdot(self.c, change))

    def imaginary(self, j: int, d: Array) -> float:
        """Return the slope by the complex step; NaN if f takes no complex numbers."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy warns when it drops Im
            y = self.value(j, 1j * COMPLEX_STEP * d)
        if y is None:
            return math.nan
        return float(np.vdot(self.c, np.imag(y))) / COMPLEX_STEP

    def measure_rounding(self, gradient: Sequence[Array | None] | None) -> None:
        """Measure the rounding of f (`blur`) and of each gradient (`rounding`).

        `gradient` is None if it does not fit the inputs.

        Raises:
            TimeUpError: the deadline has passed.

        """

        def terms(xs: list[Array], c: Array) -> Array:
            weighted = (self.c * self.problem.value(xs)).ravel()
            return np.append(weighted, weighted.sum())

        def gradients(xs: list[Array], c: Array) -> Array:
            return flatten(self.problem.gradient(xs, c), xs)

        blur = self._roughness(terms)
        # The rounding of each output, and of the sum, which is larger if outputs depend
        # on each other.
        self.blur = 4 * blur[:-1] + EPS / 2 * np.abs(self.c * self.base).ravel()
        self.blur = self.blur.reshape(self.base.shape)
        self.spread = max(1.0, float(4 * blur[-1]) / (_length(self.blur) or 1.0))
        self.noise = self.noise_of(np.ones(self.base.shape, dtype=bool))
        if gradient is None:
            self.rounding = [np.full(x.size, self.noise) for x in self.problem.xs]
            return
        blur = self._roughness(gradients)
        ends = np.cumsum([x.size for x in self.problem.xs])[:-1]
        whole = finite_size(flatten(gradient, self.problem.xs))
        parts = zip(np.split(blur, ends), np.split(whole, ends), gradient, strict=True)
        self.rounding = [
            8 * part + 4 * eps_of(g) * (size + np.max(size, initial=0.0))
            for part, size, g in parts
        ]

    def measure_time(self) -> None:
        """Measure how many evaluations of f are `affordable`."""
        j = int(np.argmax([x.size for x in self.problem.xs]))
        start = clock()
        for _ in range(4):
            self.change(j, 1e-6 * self.scale[j], np.zeros(self.base.shape, bool))
        self.affordable = 4 * MAX_SECONDS / (clock() - start)

    def noise_of(self, moved: Array) -> float:
        """Bound the rounding of the sum of some outputs; of all if none is marked."""
        return self.spread * _length(self.blur[moved] if np.any(moved) else self.blur)

    def _roughness(self, f: Elements) -> Array:
        """Estimate the rounding error of each element of f(xs, c).

        Along a tiny segment a smooth function differs from a cubic by less than
        rounding, so the residual of a fitted cubic is rounding (compare Hamming 1973;
        Moré and Wild 2011). The steps are a few spacings of float32, so that float32
        arithmetic inside f shows too. A kink inside the segment looks like noise. So if
        there is much noise, the quietest of several segments counts. One of them has
        far smaller steps; it counts only if it has the same slope (which is not so on
        the staircase that float32 makes of a function). If nothing moves at all, there
        may be a coarser staircase: larger steps are tried until they show its height.
        """
        quiet, slope = self._segment(f, 0.0, 1.5e-6)
        largest = np.max(np.abs(f(self.problem.xs, self.c)), initial=0.0)
        if not (np.any(slope) or np.any(quiet)):
            for length in (5e-5, 5e-4, 5e-3):
                if not np.any(quiet):
                    _, slope = self._segment(f, 0.0, length)
                    quiet = np.abs(slope) * length / 2
        elif not np.all(quiet <= 100 * EPS * largest):
            for shift in (3e-5, -5e-5):
                quiet = np.fmin(quiet, self._segment(f, shift, 1.5e-6)[0])
            near, steep = self._segment(f, 0.0, 5e-9)
            alike = np.abs(steep - slope) <= 0.1 * np.abs(slope) + near / 1e-9
            alike &= slope != 0.0  # a stair is flat over either length
            quiet = np.fmin(quiet, np.where(alike, near, np.inf))
        return np.asarray(np.where(np.isfinite(quiet), quiet, 0.0))

    def _segment(self, f: Elements, shift: float, length: float) -> tuple[Array, Array]:
        """Return the roughness and the slope of each element of f along a segment."""
        rng = np.random.default_rng(7)  # the same direction for each segment
        point = [*self.problem.xs, self.c]
        sides = [x * rng.uniform(0.5, 1, x.shape) for x in point]
        # Unequal distances, since equal ones may match the spacing of rounded values.
        places = np.array([-1, -0.83, -0.61, -0.42, -0.17, 0, 0.21, 0.38, 0.67, 0.8, 1])
        samples = []
        for t in shift + length * places:
            if self.late():
                raise TimeUpError
            self.calls += 1
            *xs, c = (x + t * d for x, d in zip(point, sides, strict=True))
            try:
                samples.append(f(xs, c))
            except Exception:  # outside the domain: this segment is not usable
                samples.append(np.nan * f(self.problem.xs, self.c))
        moves = np.array(samples) - samples[5]
        cubics, _ = np.linalg.qr(np.vander(places, 4))
        rest = moves - cubics @ (cubics.T @ moves)
        rough = np.sqrt(np.sum(rest * rest, axis=0) / (len(places) - 4))
        return rough, (moves[-1] - moves[0]) / (2 * length)


def eps_of(g: Array | None) -> float:
    """Return the spacing at 1 of the dtype of a gradient, which may be float32."""
    if g is None or g.dtype.kind != "f":
        return EPS
    return max(EPS, float(np.finfo(g.dtype).eps))


def _length(v: Array) -> float:
    """Return sqrt(sum(v * v)), without overflow."""
    largest = float(np.max(np.abs(v), initial=0.0))
    return largest and largest * float(np.linalg.norm((v / largest).ravel()))


def finite_size(g: Array) -> Array:
    """Return abs(g), 0 where g is not finite."""
    return np.where(np.isfinite(g), np.abs(g), 0.0)
