"""A problem whose function is called in its own precision, such as float32, only."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchnet.testing.problems import Array, Problem

MAX_ALONE = 100  # one entry alone shows a smaller error than many together


class OwnPrecision(Problem):
    """A problem with all arrays rounded to the dtypes of the inputs.

    The rounding of the inputs is measured together with that of f.
    """

    coarse = True

    def __init__(self, problem: Problem, dtype: np.dtype[Any] | None = None) -> None:
        self.problem = problem
        self.own = [dtype or d for d in problem.dtypes]
        pairs = zip(problem.xs, self.own, strict=True)
        self.xs = [x.astype(d).astype(np.float64) for x, d in pairs]
        self.dtypes = [x.dtype for x in self.xs]
        self.names, self.may_be_zero = problem.names, problem.may_be_zero
        self.label, self.max_alone = problem.label, MAX_ALONE
        self.is_gradient = problem.is_gradient
        lowest = max(self.own, key=lambda d: float(np.finfo(d).eps))
        self.notes = [*problem.notes, f"f was called in {lowest} only"]
        self.lowest = lowest

    def value(self, xs: list[Array]) -> Array:
        """Return f at the rounded inputs."""
        return np.asarray(self.problem.value(self._rounded(xs)), np.float64)

    def gradient(self, xs: list[Array], c: Array) -> list[Array | None]:
        """Return the gradient at the rounded inputs, in its own dtype."""
        return self.problem.gradient(self._rounded(xs), c.astype(self.lowest))

    def jvp(self, xs: list[Array], vs: list[Array]) -> Array:
        """Return the derivative along vs, by forward mode."""
        return self.problem.jvp(self._rounded(xs), self._rounded(vs))

    def randomness(self) -> str:
        """Return, in words, what may make two calls differ."""
        return self.problem.randomness()

    def output_at(self, k: int, shape: tuple[int, ...]) -> str:
        """Return the name of entry k of the outputs."""
        return self.problem.output_at(k, shape)

    def _rounded(self, xs: list[Array]) -> list[Array]:
        if any(x.dtype.kind == "c" for x in xs):
            raise TypeError("a complex step needs double precision")
        return [x.astype(d) for x, d in zip(xs, self.own, strict=True)]
