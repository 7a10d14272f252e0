"""The interface of an adapter: a function of another library, on plain arrays.

`Foreign` is all that a library must give: the arrays to differentiate, the function and
its vector-Jacobian product. `Adapted` makes a `Problem` of it, and does the rest once
for all libraries: complex numbers become two real inputs, several outputs one vector.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np

from scratchnet.testing.problems import (
    COTANGENT,
    Array,
    Problem,
    random_signs,
    subscript,
)


class Foreign(abc.ABC):
    """A function of another library.

    Attributes:
        names: the names of the arrays that are differentiated.
        arrays: their values, real or complex, in the dtypes of the caller.
        convention: the complex gradient of a real L in terms of z = a + ib, in words.
        notes: lines for the report.
        conjugate: whether that is dL/da - i dL/db; else dL/da + i dL/db.

    """

    names: list[str]
    arrays: list[Array]
    convention = ""
    conjugate = False
    notes: Sequence[str] = ()

    @abc.abstractmethod
    def value(self, arrays: list[Array]) -> list[tuple[str, Array]]:
        """Return the outputs at these arrays, each with its name.

        The arrays are float64 or complex128, or as the caller gave them. Only outputs
        of floating or complex numbers are returned.
        """

    @abc.abstractmethod
    def vjp(
        self, arrays: list[Array], cotangents: list[Array]
    ) -> Sequence[Array | None]:
        """Return the gradients for cotangents of all outputs of `value`."""

    def jvp(self, arrays: list[Array], tangents: list[Array]) -> list[Array]:
        """Return the derivatives of all outputs of `value`, by forward mode."""
        raise TypeError("gradcheck: forward mode needs a function of torch or JAX")

    def gradient_as_function(self, cotangents: list[Array]) -> Foreign:
        """Return (arrays, cotangents) -> gradients as another function, for order 2."""
        raise ValueError(
            "gradcheck: order=2 needs a function of Tensors, torch or JAX; for others, "
            "check the gradient as another pair: (gradient, its vjp)"
        )

    def randomness(self) -> str:
        """Return, in words, what may make two calls differ."""
        return ""


class Adapted(Problem):
    """The problem of a foreign function; complex arrays are two inputs each."""

    def __init__(self, foreign: Foreign) -> None:
        self.foreign = foreign
        if not foreign.arrays:
            raise TypeError(
                "gradcheck: no input can be differentiated; "
                "pass at least one floating array or parameter"
            )
        self.names, self.xs, self.dtypes = [], [], []
        for name, a in zip(foreign.names, foreign.arrays, strict=True):
            parts = {name: a}
            if a.dtype.kind == "c":
                parts = {f"{name}.real": a.real, f"{name}.imag": a.imag}
            for part, x in parts.items():
                self.names.append(part)
                self.xs.append(x.astype(np.float64))
                self.dtypes.append(x.dtype)
        self.may_be_zero = [False] * len(self.xs)
        outputs = foreign.value(foreign.arrays)
        self.outputs = [(name, y.shape, y.dtype.kind == "c") for name, y in outputs]
        if not outputs:
            raise TypeError("gradcheck: f returned no array of floating numbers")
        self.notes = list(foreign.notes)
        if any(a.dtype.kind == "c" for a in foreign.arrays):
            self.notes.append(f"complex gradients: {foreign.convention}")

    def value(self, xs: list[Array]) -> Array:
        """Return all outputs; several in one vector, complex ones as real numbers."""
        return self._flat([y for _, y in self.foreign.value(self._joined(xs))], xs)

    def jvp(self, xs: list[Array], vs: list[Array]) -> Array:
        """Return the derivative of `value` along vs, by forward mode."""
        found = self.foreign.jvp(self._joined(xs), self._joined(vs))
        return self._flat(found, xs)

    def _flat(self, outputs: list[Array], xs: list[Array]) -> Array:
        if len(outputs) != len(self.outputs):
            raise ValueError("gradcheck: f returned another number of outputs")
        if len(outputs) == 1 and not self.outputs[0][2]:
            return np.array(outputs[0])
        if any(x.dtype.kind == "c" for x in xs) and any(c for *_, c in self.outputs):
            raise TypeError("a complex step needs real outputs")
        parts = [
            part
            for y, (_, _, is_complex) in zip(outputs, self.outputs, strict=True)
            for part in ((y.real, y.imag) if is_complex else (y,))
        ]
        return np.concatenate([part.ravel() for part in parts])

    def gradient(self, xs: list[Array], c: Array) -> list[Array | None]:
        """Return the gradient of sum(c * f) that the library computes."""
        arrays = self._joined(xs)
        found: list[Array | None] = []
        gradients = self.foreign.vjp(arrays, self._cotangents(c))
        for a, g in zip(arrays, gradients, strict=True):
            if a.dtype.kind != "c":
                found.append(g)
            elif g is None:
                found += [None, None]
            else:
                found += [g.real, -g.imag if self.foreign.conjugate else g.imag]
        return found

    def randomness(self) -> str:
        """Return, in words, what may make two calls differ."""
        return self.foreign.randomness()

    def output_at(self, k: int, shape: tuple[int, ...]) -> str:
        """Return the name of entry k of the outputs."""
        for name, own, is_complex in self.outputs:
            size = int(np.prod(own))
            for part in (".real", ".imag") if is_complex else ("",):
                if k < size:
                    return f"{name}{part}{subscript(np.unravel_index(k, own))}"
                k -= size
        raise IndexError(k)

    def second_order(self) -> Adapted:
        """Return the problem of the gradient as a function."""
        c = random_signs(np.random.default_rng(1), self.value(self.xs).shape)
        foreign = self.foreign.gradient_as_function(self._cotangents(c))
        new = [f"{COTANGENT} {name}" for name, *_ in self.outputs]
        foreign.names = [*self.foreign.names, *(new if len(new) > 1 else [COTANGENT])]
        second, first = Adapted(foreign), len(self.xs)
        second.may_be_zero[:first] = [True] * first
        second.label, second.max_alone = "sum(c * gradient of f)", 1
        second.is_gradient = True
        return second

    def _joined(self, xs: list[Array]) -> list[Array]:
        """Return the arrays of the library: two real inputs make a complex one."""
        rest = iter(xs)
        arrays: list[Array] = []
        for a in self.foreign.arrays:
            x = next(rest)
            if a.dtype.kind == "c":
                y = next(rest)
                if "c" in (x.dtype.kind, y.dtype.kind):
                    raise TypeError("a complex step needs real inputs")
                arrays.append((x + 1j * y).astype(np.result_type(x, 1j)))
            else:
                arrays.append(x)
        return arrays

    def _cotangents(self, c: Array) -> list[Array]:
        """Split c into the cotangents of the outputs."""
        rest, found = c.ravel(), []
        for _, shape, is_complex in self.outputs:
            size = int(np.prod(shape))
            part, rest = rest[:size], rest[size:]
            if is_complex:
                imaginary, rest = rest[:size], rest[size:]
                sign: Any = -1j if self.foreign.conjugate else 1j
                part = (part + sign * imaginary).astype(np.result_type(part, 1j))
            found.append(part.reshape(shape))
        return found
