"""Where arrays are made, and the one door by which they come back to the host.

Functions of arrays need no backend: NumPy's dispatch protocols find the right
implementation from the array itself, `np.exp(x)` of a CuPy array runs on the GPU. What
has no array to go by is kept here: making arrays, copying them to the host, adding into
repeated positions, and random streams. No other file names an array library beside
NumPy.

    scratchnet.backend.use("cupy")      # or SCRATCHNET_BACKEND=cupy, or --backend cupy

Call `use` before models are made: what was made with one library stays with it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

# An array of the backend in use. NumPy's ndarray type would promise too much: a
# device array answers the same calls without being one.
Array = Any
Shape = int | Sequence[int]

BACKENDS = ("numpy", "cupy")


class BackendError(RuntimeError):
    """A backend cannot be used here; says what is missing, and what to install."""


# --- The libraries ------------------------------------------------------------------


class Library(Protocol):
    """What is asked of a library of arrays beside NumPy's own functions."""

    name: str
    array: Any  # the type of its arrays

    def asarray(self, x: ArrayLike, dtype: DTypeLike | None) -> Array:
        """Make `x` an array, without a copy where it already is one."""

    def zeros(self, shape: Shape, dtype: DTypeLike) -> Array:
        """Make an array of zeros."""

    def empty(self, shape: Shape, dtype: DTypeLike) -> Array:
        """Make an array of whatever the memory held."""

    def to_numpy(self, x: Array) -> np.ndarray:
        """Return `x`, an array of its own or NumPy's, on the host."""

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """Add into repeated positions."""


class _NumPy:
    name = "numpy"
    array: Any = np.ndarray

    def asarray(self, x: ArrayLike, dtype: DTypeLike | None) -> Array:
        return np.asarray(x, dtype=dtype)

    def zeros(self, shape: Shape, dtype: DTypeLike) -> Array:
        return np.zeros(shape, dtype)

    def empty(self, shape: Shape, dtype: DTypeLike) -> Array:
        return np.empty(shape, dtype)

    def to_numpy(self, x: Array) -> np.ndarray:
        return np.asarray(x)

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        np.add.at(target, index, values)


class _CuPy:
    name = "cupy"

    def __init__(self) -> None:
        self.cupy = _import_cupy()
        self.array = self.cupy.ndarray

    def asarray(self, x: ArrayLike, dtype: DTypeLike | None) -> Array:
        return self.cupy.asarray(x, dtype=dtype)

    def zeros(self, shape: Shape, dtype: DTypeLike) -> Array:
        return self.cupy.zeros(shape, dtype)

    def empty(self, shape: Shape, dtype: DTypeLike) -> Array:
        return self.cupy.empty(shape, dtype)

    def to_numpy(self, x: Array) -> np.ndarray:
        found: np.ndarray = self.cupy.asnumpy(x)
        return found

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        self.cupy.add.at(target, index, values)


def _import_cupy() -> Any:
    """Return the module, or say which of the three is missing: CuPy, driver, GPU."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise BackendError(
            f"backend 'cupy': CuPy cannot be imported ({error}); install it with pip "
            "install 'scratchnet[cuda12]' or, for CUDA 13, 'scratchnet[cuda13]'"
        ) from error
    # Importing it succeeds on a machine without a GPU.
    runtime = cupy.cuda.runtime
    try:
        devices = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise BackendError(
            f"backend 'cupy': CuPy {cupy.__version__} is there, but CUDA does not "
            f"answer ({error}); install NVIDIA's driver, or a newer one, or use 'numpy'"
        ) from error
    if not devices:
        raise BackendError(
            f"backend 'cupy': CuPy {cupy.__version__} is there, but no GPU; use 'numpy'"
        )
    return cupy


_LIBRARIES: dict[str, Callable[[], Library]] = {"numpy": _NumPy, "cupy": _CuPy}


def use(name: str) -> None:
    """Have arrays made by NumPy ("numpy") or, on a GPU, by CuPy ("cupy").

    Raises:
        ValueError: there is no backend of that name.
        BackendError: it cannot be used on this machine; the one before stays in use.

    """
    global _library
    if name not in BACKENDS:
        raise ValueError(
            f"backend: {name!r}; one of {', '.join(map(repr, BACKENDS))} expected"
        )
    if name != _library.name:
        _library = _LIBRARIES[name]()


def name() -> str:
    """Return the name of the backend in use."""
    return _library.name


_library: Library = _NumPy()

# --- Arrays -------------------------------------------------------------------------


def is_array(x: object) -> bool:
    """Say whether `x` is an array, of the backend or NumPy's, or a scalar of those."""
    return isinstance(x, (_library.array, np.ndarray, np.generic))


def asarray(x: ArrayLike, dtype: DTypeLike | None = None) -> Array:
    """Make `x` an array of the backend, without a copy where it already is one."""
    return _library.asarray(x, dtype)


def zeros(shape: Shape, dtype: DTypeLike = np.float32) -> Array:
    """Make an array of zeros."""
    return _library.zeros(shape, dtype)


def empty(shape: Shape, dtype: DTypeLike = np.float32) -> Array:
    """Make an array whose values are whatever the memory held."""
    return _library.empty(shape, dtype)


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
    return _library.to_numpy(x)


def bring(a: Array, to: Array) -> Array:
    """Return `a` on the host if `to` is NumPy's, else as an array of the backend."""
    return to_numpy(a) if isinstance(to, np.ndarray) else asarray(a)


def scatter_add(target: Array, index: Any, values: Array) -> None:
    """Add `values` into `target[index]` in place, once for each time it is named.

    `target[index] += values` would add to a repeated position only once. Where none
    can be repeated, it is many times faster.
    """
    parts = index if isinstance(index, tuple) else (index,)
    if all(map(_names_once, parts)):
        target[index] += values
    else:
        _library.scatter_add(target, index, values)


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


if chosen := os.environ.get("SCRATCHNET_BACKEND"):
    use(chosen)
