"""Pairs and functions of Tensors whose inputs or outputs are trees or complex."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scratchnet.graph import plain
from scratchnet.testing.adapters import trees
from scratchnet.testing.adapters.foreign import Foreign
from scratchnet.testing.problems import Array, TensorFunction, takes


class NestedPair(Foreign):
    """Two functions of plain arrays: f, and its gradient or its vjp."""

    convention = "dL/da + i dL/db for z = a + ib"

    def __init__(
        self, f: Callable[..., Any], gradient: Callable[..., Any], inputs: Sequence[Any]
    ) -> None:
        self.f = f
        self.derivative = gradient
        self.inputs = [x if trees.is_tree(x) else np.asarray(x) for x in inputs]
        self.paths = trees.argument_paths(f, inputs)
        found = [
            pair
            for path, x in zip(self.paths, self.inputs, strict=True)
            for pair in trees.named_leaves(x, path)
        ]
        self.leaves = [leaf for _, leaf in found]
        self.places = [i for i, leaf in enumerate(self.leaves) if _is_floating(leaf)]
        self.names = [found[i][0] for i in self.places]
        self.arrays = [np.array(plain(self.leaves[i])) for i in self.places]

    def value(self, arrays: list[Array]) -> list[tuple[str, Array]]:
        """Return the floating outputs."""
        returned = self.f(*self._arguments(arrays))
        outputs = [
            (n, np.array(plain(y))) for n, y in trees.named_leaves(returned, "f")
        ]
        return [(name, y) for name, y in outputs if y.dtype.kind in "fc"]

    def vjp(
        self, arrays: list[Array], cotangents: list[Array]
    ) -> Sequence[Array | None]:
        """Return c times the gradient, or vjp(c, *inputs)."""
        arguments = self._arguments(arrays)
        one = len(cotangents) == 1 and cotangents[0].shape == ()
        if one and takes(self.derivative, len(arguments)):
            found = self._listed(self.derivative(*arguments))
            return [None if g is None else cotangents[0] * g for g in found]
        returned = self.f(*self._arguments(arrays))
        rest = iter(cotangents)
        given = [
            next(rest) if np.asarray(plain(y)).dtype.kind in "fc" else None
            for y in trees.leaves(returned)
        ]
        c = trees.rebuild(returned, iter(given))
        return self._listed(self.derivative(c, *arguments))

    def _arguments(self, arrays: list[Array]) -> list[Any]:
        """Return copies of all inputs; f may write into its arguments."""
        leaves = [x.copy() if isinstance(x, np.ndarray) else x for x in self.leaves]
        for i, a in zip(self.places, arrays, strict=True):
            leaves[i] = a.copy()
        rest = iter(leaves)
        return [trees.rebuild(x, rest) for x in self.inputs]

    def _listed(self, returned: Any) -> list[Array | None]:
        """Return the gradients of the differentiated leaves."""
        several = isinstance(returned, (tuple, list))
        if len(self.inputs) == 1:
            several = isinstance(returned, tuple) and len(returned) == 1
            several = several and not isinstance(self.inputs[0], tuple)
        parts = list(returned) if several else [returned]
        if len(parts) != len(self.inputs):
            raise ValueError(
                f"{len(parts)} gradients returned for {len(self.inputs)} inputs; "
                "return one for each, or bind the constants: lambda w: f(w, x)"
            )
        leaves = [
            leaf
            for x, part, path in zip(self.inputs, parts, self.paths, strict=True)
            for leaf in trees.aligned(x, part, path)
        ]
        found = [leaves[i] for i in self.places]
        return [None if g is None else np.array(plain(g)) for g in found]


def nested_tensors(f: Callable[..., Any], inputs: Sequence[Any]) -> TensorFunction:
    """Return the problem of a function of Tensors in trees, as one of its leaves."""
    found = [
        pair
        for path, x in zip(trees.argument_paths(f, inputs), inputs, strict=True)
        for pair in trees.named_leaves(x, path)
    ]

    @functools.wraps(f)
    def flat(*leaves: Any) -> Any:
        rest = iter(leaves)
        returned = f(*(trees.rebuild(x, rest) for x in inputs))
        if not trees.is_tree(returned):
            return returned
        return np.concatenate([np.ravel(y) for y in trees.leaves(returned)])

    names = [name for name, _ in found] if any(map(trees.is_tree, inputs)) else None
    return TensorFunction(flat, [leaf for _, leaf in found], names)


def _is_floating(x: Any) -> bool:
    return np.asarray(plain(x)).dtype.kind in "fc"
