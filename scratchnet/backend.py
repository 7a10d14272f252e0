"""Where arrays are made, and the one door by which they come back to the host.

Functions of arrays need no backend: NumPy's dispatch protocols find the right
implementation from the array itself. What has no array to go by is kept here:
making arrays, copying them to the host, adding into repeated positions, and
random streams. No other file names an array library beside NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

# An array of the backend in use. NumPy's ndarray type would promise too much: a
# device array answers the same calls without being one.
Array = Any
Shape = int | Sequence[int]


def is_array(x: object) -> bool:
    """Say whether `x` is an array of the backend (a NumPy scalar counts)."""
    return isinstance(x, (np.ndarray, np.generic))


def asarray(x: ArrayLike, dtype: DTypeLike | None = None) -> Array:
    """Make `x` an array of the backend, without a copy where it already is one."""
    return np.asarray(x, dtype=dtype)


def zeros(shape: Shape, dtype: DTypeLike = np.float32) -> Array:
    """Make an array of zeros."""
    return np.zeros(shape, dtype)


def empty(shape: Shape, dtype: DTypeLike = np.float32) -> Array:
    """Make an array whose values are whatever the memory held."""
    return np.empty(shape, dtype)


def keep_freed_memory() -> None:
    """Have the memory of freed arrays kept for the next ones; call before training.

    A step makes and frees the same large arrays again and again. The C library (glibc)
    gives what is free above some bound back to the system, which then has to clear it
    and map it in anew: a fourth of a step with a minibatch of 512. The bound follows
    the largest block that was ever freed, up to 32 MiB (man mallopt, M_MMAP_THRESHOLD).
    So one is freed, without being written to; other C libraries do not mind.
    """
    np.empty(31 << 20, np.uint8)


def to_numpy(x: Array) -> np.ndarray:
    """Return `x` as a NumPy array: the one explicit way back to the host."""
    return np.asarray(x)


def scatter_add(target: Array, index: Any, values: Array) -> None:
    """Add `values` into `target[index]` in place, once for each time it is named.

    `target[index] += values` would add to a repeated position only once. Where none
    can be repeated, it is many times faster.
    """
    parts = index if isinstance(index, tuple) else (index,)
    if all(map(_names_once, parts)):
        target[index] += values
    else:
        np.add.at(target, index, values)


def _names_once(part: Any) -> bool:
    """Say whether a part of an index is a slice, an integer, a mask, None or `...`."""
    if isinstance(part, (slice, int, np.integer, type(None), type(...))):
        return True
    return getattr(part, "dtype", None) == np.bool_


def streams(seed: int, n: int) -> list[np.random.Generator]:
    """Spawn `n` independent random generators from one seed.

    Give initialisation, shuffling and noise one each: drawing more from one of
    them then leaves the others as they were (`numpy.random.SeedSequence.spawn`).
    """
    return [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(n)]
