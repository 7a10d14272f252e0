"""Flat memory, its state, and the errors of writing to it.

A step works through a buffer in blocks that fit into the processor's cache.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import backend, checks
from scratchnet.backend import Array

# --- Flat buffers -------------------------------------------------------------------


def flat(
    shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike = np.float32
) -> tuple[Array, dict[str, Array]]:
    """Lay out named arrays one after another in one buffer of zeros.

    One update of the buffer then updates every array in it. Each array begins at a
    multiple of four entries, 16 bytes of float32, because fast matrix products on a GPU
    need that; the gaps stay zero.

    Returns:
        The buffer, and for each name its view of that shape.

    """
    places = {}
    stop = 0
    for name, shape in shapes.items():
        start = -(-stop // 4) * 4
        stop = start + math.prod(shape)
        places[name] = slice(start, stop)
    buffer = backend.zeros(stop, dtype)
    return buffer, {name: buffer[places[name]].reshape(shapes[name]) for name in shapes}


# --- State: named arrays, out and back in -------------------------------------------


def copy_state(arrays: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Copy named arrays to the host."""
    return {name: np.array(backend.to_numpy(a)) for name, a in arrays.items()}


def load_state(
    owner: str, arrays: Mapping[str, Array], state: Mapping[str, Any]
) -> None:
    """Write the values of `state` into `arrays`, all of them or none.

    Args:
        owner: the caller, for the error.
        arrays: the named arrays to write into.
        state: for each name an array of the same shape and dtype.

    Raises:
        TypeError, ValueError: as for `check_state`; nothing was written.

    """
    write_state(arrays, check_state(owner, arrays, state))


def check_state(
    owner: str, arrays: Mapping[str, Array], state: Mapping[str, Any]
) -> dict[str, Array]:
    """Return the values for `write_state`, after checking them against `arrays`.

    They are copies, because an array of `state` may be one of `arrays`.

    Raises:
        TypeError: `state` is not a mapping.
        ValueError: names are missing or unexpected, a shape or dtype differs, an array
            of `arrays` is read-only, or a value has masked entries; every fault is
            listed.

    """
    if not isinstance(state, Mapping):
        raise TypeError(
            f"{owner}: a {type(state).__name__} given, a dict of arrays expected"
        )
    wrong = [f"missing: {name}" for name in arrays if name not in state]
    wrong += [f"unexpected: {name}" for name in state if name not in arrays]
    for name, a in arrays.items():
        if name in state and (fault := _state_fault(a, state[name])):
            wrong.append(f"{name}: {fault}")
    if wrong:
        raise ValueError("\n  ".join([f"{owner}: nothing was loaded", *wrong]))
    return {name: backend.asarray(state[name]).copy() for name in arrays}


def _state_fault(a: Array, value: Any) -> str | None:
    """Return why `value` cannot be written into `a`; None if it can."""
    if not backend.is_array(value):
        return f"a {type(value).__name__} given, an array expected"
    if value.shape != a.shape:
        return f"shape {value.shape} given, {a.shape} expected"
    if value.dtype != a.dtype:
        return f"{value.dtype} given, {a.dtype} expected"
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        return "masked entries given; pass x.filled(value)"
    return READ_ONLY if checks.read_only(a) else None


def write_state(arrays: Mapping[str, Array], values: Mapping[str, Array]) -> None:
    """Write the values that `check_state` returned."""
    for name, a in arrays.items():
        a[...] = values[name]


# --- Arrays that cannot be written --------------------------------------------------

READ_ONLY = "is read-only; use a copy, or set its flags.writeable to True"


class ArrayError(ValueError):
    """Some arrays of a list are not valid.

    Attributes:
        faults: for each of them its position in the list, and what is wrong. The
            position is None for a fault of no single array.

    """

    def __init__(
        self,
        owner: str,
        faults: Sequence[tuple[int | None, str]],
        label: Callable[[int], str] = "arrays[{}]".format,
    ) -> None:
        self.owner = owner
        self.faults = list(faults)
        names = ["the update" if i is None else label(i) for i, _ in faults]
        lines = [f"{name} {why}" for name, (_, why) in zip(names, faults, strict=True)]
        super().__init__("\n  ".join([f"{owner}: {lines[0]}", *lines[1:]]))

    def __reduce__(self) -> Any:
        return type(self), (self.owner, self.faults)


def refuse_read_only(owner: str, arrays: Sequence[Array], before: str = "") -> None:
    """Raise ArrayError unless all of these can be written."""
    found = [i for i, a in enumerate(arrays) if checks.read_only(a)]
    if found:
        raise ArrayError(owner, [(i, before + READ_ONLY) for i in found])


# --- Updates ------------------------------------------------------------------------

# A computation that reads its arrays several times works in blocks of about this many
# elements, which stay in the core's cache between passes. A device uses one block.
BLOCK = 1 << 16


def rows_in_block(a: Array) -> int:
    """Return the number of rows of `a` in a block."""
    if not backend.on_host():
        return max(1, len(a))
    return max(1, BLOCK * len(a) // max(1, int(a.size)))


def blocks(a: Array) -> Iterator[slice]:
    """Split the rows of `a` into blocks."""
    rows = rows_in_block(a)
    return (slice(i, i + rows) for i in range(0, len(a), rows))


def at_least_1d(a: Array) -> Array:
    """Return `a`, or a view with one row if it is 0-d."""
    return a if a.ndim else a.reshape(1)
