"""Where arrays are made, and the one door by which they come back to the host.

Functions of arrays need no backend: NumPy's dispatch protocols find the right
implementation from the array itself, `np.exp(x)` of a CuPy array runs on the GPU. What
has no array to go by is kept here: making arrays, copying them to the host, adding into
repeated positions, and random streams. So is what a GPU has and NumPy has not: steps
that are recorded once and then replayed (`capture`), chains of functions as one kernel
(`run_kernel`), matrix products of fewer digits. And on a CPU, how many threads the
products use. No other room names an array library beside NumPy.

    scratchnet.backend.use("cupy")      # or SCRATCHNET_BACKEND=cupy, or --backend cupy

Call `use` before models are made: what was made with one library stays with it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from scratchnet.backend.cupy import CuPy
from scratchnet.backend.library import Array, BackendError, Kernel, Library, Shape
from scratchnet.backend.numpy import NumPy
from scratchnet.backend.openblas import threads, threads_for, use_threads

__all__ = [
    "BACKENDS",
    "Array",
    "BackendError",
    "Kernel",
    "Shape",
    "asarray",
    "bare",
    "bring",
    "capture",
    "choose_gpu",
    "each_time",
    "empty",
    "is_array",
    "keep_freed_memory",
    "machine",
    "matmul",
    "name",
    "on_host",
    "run_kernel",
    "scatter_add",
    "seconds",
    "streams",
    "sum_over_gpus",
    "threads",
    "threads_for",
    "to_numpy",
    "use",
    "use_threads",
    "zeros",
]

BACKENDS = ("numpy", "cupy", "cupy-tf32")

_LIBRARIES: dict[str, Callable[[], Library]] = {
    "numpy": NumPy,
    "cupy": CuPy,
    "cupy-tf32": lambda: CuPy(tf32=True),
}


def use(name: str) -> None:
    """Have arrays made by NumPy ("numpy") or, on a GPU, by CuPy ("cupy").

    With "cupy-tf32" products of float32 matrices are computed from factors rounded to
    11 digits instead of 24 (NVIDIA's TensorFloat-32): faster, and less exact.

    Raises:
        ValueError: there is no backend of that name.
        BackendError: it cannot be used on this machine; the one before stays in use.

    """
    global _library
    if name not in BACKENDS:
        raise ValueError(
            f"backend: {name!r}; one of {', '.join(map(repr, BACKENDS))} expected"
        )
    if name == _library.name:
        return
    if name not in _made:
        _made[name] = _LIBRARIES[name]()
    _library = _made[name]
    _library.chosen()


def name() -> str:
    """Return the name of the backend in use."""
    return _library.name


def on_host() -> bool:
    """Say whether arrays are where Python is, and not on a device."""
    return _library.host


_library: Library = NumPy()

_made: dict[str, Library] = {"numpy": _library}


# --- Arrays -------------------------------------------------------------------------


def is_array(x: object) -> bool:
    """Say whether `x` is an array, of the backend or NumPy's, or a scalar of those."""
    return isinstance(x, (_library.array, np.ndarray, np.generic))


def asarray(x: ArrayLike, dtype: DTypeLike | None = None) -> Array:
    """Make `x` an array of the backend, without a copy where it already is one.

    Raises:
        TypeError: `x` is, or a list in it holds, an array of which entries are masked.

    """
    x = x if isinstance(x, np.generic) or type(x) is np.ndarray else bare(x)
    return _library.asarray(x, dtype)


def bare(x: Any) -> Any:
    """Return NumPy's own kind of array for an array of a subclass; all else as it is.

    A subclass may give operators another meaning (`*` of np.matrix multiplies
    matrices). What only can be made an array, such as a column of a table, becomes one.

    Raises:
        TypeError: `x` is, or a list in it holds, an array of which entries are masked.

    """
    kind = type(x)
    if kind is np.ndarray or kind is _library.array or issubclass(kind, np.generic):
        return x
    if isinstance(x, (list, tuple)):
        for item in x:
            if type(item) not in _NUMBERS:
                bare(item)
        return x
    if not isinstance(x, np.ndarray):
        # An array of another library computes by functions of its own.
        if not hasattr(kind, "__array__") or hasattr(kind, "__array_function__"):
            return x
        x = np.asanyarray(x)
    # Who has a masked array has loaded the module.
    if (ma := sys.modules.get("numpy.ma")) and isinstance(x, ma.MaskedArray):
        if masked := ma.count_masked(x):
            raise TypeError(
                f"a masked array of shape {x.shape}, {masked} of {x.size} "
                "entries masked: the mask would be lost; use x.filled(value), or "
                "leave these entries out by np.where or by weights"
            )
    return np.asarray(x)


_NUMBERS = frozenset((int, float, bool, complex))


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
    """Return `x` as a NumPy array: the one explicit way back to the host.

    Raises:
        TypeError: `x` is an array of which entries are masked.

    """
    return _library.to_numpy(bare(x))


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


# --- Steps --------------------------------------------------------------------------


def matmul(a: Array, b: Array, out: Array) -> Array:
    """Write the product of two matrices to `out`, in a way that can be recorded."""
    return _library.matmul(a, b, out)


def run_kernel(kernel: Kernel, *arguments: Any) -> bool:
    """Run a kernel, its inputs and then its outputs given, where there are kernels.

    Returns:
        Whether there are: if not, or if it is the host's arrays that are to be written,
        the caller does the same with NumPy's functions.

    """
    if not isinstance(arguments[-1], _library.array):
        return False
    return _library.run_kernel(kernel, arguments)


def capture(f: Callable[[], object]) -> Callable[[], object]:
    """Return what does the same as `f()`, on a GPU by a recording that is replayed.

    A recording costs the host one call where the step costs it a hundred. `f` must do
    the same with the same arrays each time; what it computes on the host is computed
    once, but for what it hands to `each_time`.

    Raises:
        BackendError: by the second call, if `f` does what cannot be recorded.

    """
    return _library.capture(f)


def each_time(f: Callable[[], object]) -> None:
    """Call `f`, and if a step is being recorded, before each replay of it.

    It may write to arrays of the step, like a learning rate. All of these calls come
    before the recording as a whole, so it must hold only one use of what each writes:
    one step of one optimizer.
    """
    _library.each_time(f)


def seconds(f: Callable[[], object]) -> float:
    """Return how long a call takes until all is computed, on a GPU by its own clock."""
    return _library.seconds(f)


def machine() -> str:
    """Name what computes, and the versions that it depends on."""
    return _library.machine()


def choose_gpu(number: int) -> None:
    """Compute on that GPU of the machine's from here on, one of a group of processes.

    Raises:
        BackendError: the backend in use has none, the machine has not so many, or there
            is no NCCL.

    """
    if not isinstance(_library, CuPy):
        raise BackendError(f"backend {_library.name!r}: it has no GPUs to choose from")
    _library.choose_gpu(number)


def sum_over_gpus(rank: int, size: int) -> Callable[[Array], None]:
    """Return what sums an array in place, by NCCL, over the GPUs of an MPI job.

    All processes call it, after `choose_gpu`.
    """
    assert isinstance(_library, CuPy)
    return _library.sum_over_gpus(rank, size)


# --- Random streams -----------------------------------------------------------------


def streams(seed: int, n: int) -> list[np.random.Generator]:
    """Spawn `n` independent random generators from one seed.

    Give initialisation, shuffling and noise one each: drawing more from one of
    them then leaves the others as they were (`numpy.random.SeedSequence.spawn`).
    """
    return [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(n)]


if chosen := os.environ.get("SCRATCHNET_BACKEND"):
    use(chosen)
