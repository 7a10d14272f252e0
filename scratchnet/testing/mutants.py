"""Gradients made wrong on purpose, to test whether a check notices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scratchnet.testing.problems import Array, Problem, subscript

Mutation = Callable[[Array], Array]


def mutations(g: Array | None, rng: np.random.Generator) -> dict[str, Mutation]:
    """Return ways to make the gradient g wrong, by name; empty if g is zero."""
    if g is None or not np.any(g):
        return {}
    large = np.argwhere(np.abs(g) >= 1e-3 * np.max(np.abs(g)))
    at = tuple(large[rng.integers(len(large))])
    one = np.ones(g.shape)
    one[at] = 1.01
    changes: dict[str, Mutation] = {
        "sign": lambda g: -g,
        "factor 1.001": lambda g: g * 1.001,
        f"1 % at {subscript(at)}": lambda g: g * one,
        "all zero": lambda g: 0.0 * g,
    }
    if g.ndim == 2 and g.shape[0] == g.shape[1] and not np.allclose(g, g.T, rtol=1e-2):
        changes["transposed"] = lambda g: g.T
    return changes


class Mutant(Problem):
    """A problem with a wrong gradient of input j."""

    def __init__(self, problem: Problem, j: int, mutate: Mutation) -> None:
        self.problem = problem
        self.j = j
        self.mutate = mutate
        self.names, self.xs, self.dtypes = problem.names, problem.xs, problem.dtypes
        self.may_be_zero = [True] * len(self.xs)
        self.label, self.notes = problem.label, problem.notes
        self.is_gradient, self.max_alone = problem.is_gradient, problem.max_alone

    def value(self, xs: list[Array]) -> Array:
        """Return f at `xs`, unchanged."""
        return self.problem.value(xs)

    def gradient(self, xs: list[Array], c: Array) -> list[Array | None]:
        """Return the gradients, with a wrong one for input j."""
        found = list(self.problem.gradient(xs, c))
        g = found[self.j]
        found[self.j] = None if g is None else self.mutate(g)
        return found
