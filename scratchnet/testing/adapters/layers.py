"""Layers: objects with `forward` and `backward`, and a cache between them.

Parameters are found where hand-written layers keep them: two dicts or lists of the same
length (`params` and `grads`, `parameters` and `gradients`), or arrays with a gradient
next to them (`W` and `dW`, `grad_W` or `W_grad`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from scratchnet.testing.adapters import trees
from scratchnet.testing.adapters.foreign import Foreign
from scratchnet.testing.problems import Array, argument_names

CONTAINERS = [("params", "grads"), ("parameters", "gradients")]
BESIDE = ["d{}", "grad_{}", "{}_grad"]


def is_layer(x: Any) -> bool:
    """Return whether x is an object with methods `forward` and `backward`."""
    methods = (getattr(x, name, None) for name in ("forward", "backward"))
    return not isinstance(x, type) and all(map(callable, methods))


class Layer(Foreign):
    """A layer with its inputs and parameters.

    A check writes other values into the parameters, in place, for other objects may
    hold the same arrays; it restores them.
    """

    def __init__(self, layer: Any, inputs: Sequence[Any]) -> None:
        self.layer = layer
        self.inputs = [np.asarray(x) for x in inputs]
        names = argument_names(layer.forward, len(inputs))
        self.places = [i for i, x in enumerate(self.inputs) if x.dtype.kind == "f"]
        self.names = [names[i] for i in self.places]
        self.arrays = [self.inputs[i] for i in self.places]
        self._call([])
        self._pull([np.zeros_like(y) for _, y in self._call([])])  # makes gradients
        self.parameters = dict(_parameters(layer))
        self.names += list(self.parameters)
        self.arrays += [a.copy() for a in self.parameters.values()]

    def value(self, arrays: list[Array]) -> list[tuple[str, Array]]:
        """Return what `forward` returns."""
        with self._set(arrays):
            return self._call(arrays)

    def vjp(self, arrays: list[Array], cotangents: list[Array]) -> list[Array | None]:
        """Return the gradients of the inputs and, after that, of the parameters."""
        with self._set(arrays):
            self._call(arrays)
            returned = self._pull(cotangents)
            gradients = {
                name: np.array(g) for name, g in _gradients(self.layer) if g is not None
            }
        found = list(returned) if isinstance(returned, (tuple, list)) else [returned]
        if len(found) == len(self.inputs):
            found = [found[i] for i in self.places]
        if len(found) == len(self.arrays):  # those of the parameters too
            return [None if g is None else np.array(g) for g in found]
        if len(found) != len(self.places):
            raise ValueError(
                f"backward returned {len(found)} gradients for {len(self.places)} "
                "inputs; return one for each input"
            )
        inputs = [None if g is None else np.array(g) for g in found]
        return [*inputs, *(gradients.get(name) for name in self.parameters)]

    def _call(self, arrays: list[Array]) -> list[tuple[str, Array]]:
        inputs = [x.copy() for x in self.inputs]
        for i, a in zip(self.places, arrays, strict=False):
            inputs[i] = a.copy()
        returned = self.layer.forward(*inputs)
        self.returned = returned
        outputs = [(n, np.array(y)) for n, y in trees.named_leaves(returned, "forward")]
        return [(name, y) for name, y in outputs if y.dtype.kind in "fc"]

    def _pull(self, cotangents: list[Array]) -> Any:
        if callable(reset := getattr(self.layer, "zero_grad", None)):
            reset()
        return self.layer.backward(*(c.copy() for c in cotangents))

    @contextlib.contextmanager
    def _set(self, arrays: list[Array]) -> Iterator[None]:
        """Lend these values to the parameters."""
        values = arrays[len(self.places) :]
        own = [a.copy() for a in self.parameters.values()]
        try:
            for parameter, a in zip(self.parameters.values(), values, strict=True):
                if a.dtype.kind == "c":
                    raise TypeError("a layer's parameters take real numbers only")
                parameter[...] = a
            yield
        finally:
            for parameter, a in zip(self.parameters.values(), own, strict=True):
                parameter[...] = a

    def randomness(self) -> str:
        """Return, in words, what may make two calls differ."""
        return ""


def _parameters(layer: Any) -> Iterator[tuple[str, Array]]:
    """Yield each parameter that has a gradient, with its name."""
    gradients = dict(_gradients(layer))
    for name, array in _arrays(layer, 0):
        if name in gradients:
            yield name, array


def _gradients(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the gradient of each parameter, with the parameter's name."""
    yield from _arrays(layer, 1)
    names = set(vars(layer))
    for name in names:
        for form in BESIDE:
            if form.format(name) in names:
                yield name, getattr(layer, form.format(name))


def _arrays(layer: Any, which: int) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of the containers; for parameters also the attributes."""
    for names in CONTAINERS:
        parts = [getattr(layer, name, None) for name in names]
        if all(isinstance(p, (Mapping, list, tuple)) for p in parts):
            yield from trees.named_leaves(parts[which], "")
            return
    if which == 0:
        for name, x in vars(layer).items():
            if isinstance(x, np.ndarray) and x.dtype.kind == "f":
                yield name, x
