"""The backend: it makes arrays, and `to_numpy` copies them back to the host.

Functions of arrays need no backend: NumPy's dispatch protocols choose the right
implementation, so `np.exp(x)` of a CuPy array runs on the GPU. This package has the
rest: making arrays, copying them to the host, adding into repeated positions, and
random streams. Chains of functions run as one kernel (`run_kernel`), on a GPU, and with
the backend "c" on a CPU too. On a GPU it also records steps to replay them (`capture`)
and computes matrix products with fewer digits. On a CPU it sets how many threads the
products use. Only this package imports CuPy.

    scratchnet.backend.use("cupy")      # or SCRATCHNET_BACKEND=cupy, or --backend cupy

Call `use` before you make models: existing arrays stay with their library.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from scratchnet.backend import openblas
from scratchnet.backend.cupy import CuPy
from scratchnet.backend.library import Array, BackendError, Kernel, Library, Shape
from scratchnet.backend.numpy import NumPy

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
    "compute",
    "each_time",
    "empty",
    "follow",
    "is_array",
    "is_own",
    "keep_freed_memory",
    "machine",
    "matmul",
    "name",
    "on_host",
    "product",
    "run_kernel",
    "scatter_add",
    "seconds",
    "streams",
    "sum_of_rows",
    "sum_over_gpus",
    "threads",
    "threads_for",
    "to_numpy",
    "use",
    "use_threads",
    "zeros",
]

BACKENDS = ("numpy", "c", "cupy", "cupy-tf32")


def _c() -> Library:
    # What compiling needs is loaded only for this backend: 11 ms.
    from scratchnet.backend.c import C

    return C()


_LIBRARIES: dict[str, Callable[[], Library]] = {
    "numpy": NumPy,
    "c": _c,
    "cupy": CuPy,
    "cupy-tf32": lambda: CuPy(tf32=True),
}


def use(name: str) -> None:
    """Make arrays with NumPy ("numpy", "c") or, on a GPU, with CuPy ("cupy").

    With "c", NumPy's arrays are computed by kernels in C, which the C compiler of this
    machine compiles once, and the products by a pool of threads. Results are the same
    to the last bit on one machine with one number of threads, if one thread of Python
    computes at a time.
    With "cupy-tf32", factors of float32 matrix products are rounded to 11 binary digits
    instead of 24 (NVIDIA's TensorFloat-32): faster, but less exact.

    Raises:
        ValueError: no backend has that name.
        BackendError: it cannot be used on this machine; the backend does not change.

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
    chosen = _made[name]
    _library.left()
    _library = chosen
    _library.chosen()
    for follower in _followers:
        follower()


def name() -> str:
    """Return the name of the backend in use."""
    return _library.name


def on_host() -> bool:
    """Return whether the backend's arrays are on the host, not on a device."""
    return _library.host


_library: Library = NumPy()

_followers: list[Callable[[], object]] = []

_made: dict[str, Library] = {"numpy": _library}


# --- Arrays -------------------------------------------------------------------------


def is_array(x: object) -> bool:
    """Return whether `x` is an array of the backend or of NumPy, or a NumPy scalar."""
    return isinstance(x, (_library.array, np.ndarray, np.generic))


def is_own(x: object) -> bool:
    """Return whether `x` is an array of the backend in use."""
    return isinstance(x, _library.array)


def asarray(x: ArrayLike, dtype: DTypeLike | None = None) -> Array:
    """Make `x` an array of the backend, without a copy if it already is one.

    Raises:
        TypeError: `x`, or an array in a list in it, has masked entries.

    """
    x = x if isinstance(x, np.generic) or type(x) is np.ndarray else bare(x)
    return _library.asarray(x, dtype)


def bare(x: Any) -> Any:
    """Return a plain np.ndarray for an array of a subclass; anything else unchanged.

    A subclass may give operators another meaning (`*` of np.matrix multiplies
    matrices). An object that converts to an array, such as a column of a table, is
    converted.

    Raises:
        TypeError: `x`, or an array in a list in it, has masked entries.

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
        # An array of another library has its own functions.
        if not hasattr(kind, "__array__") or hasattr(kind, "__array_function__"):
            return x
        x = np.asanyarray(x)
    # A masked array exists only if this module is loaded.
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
    """Make an array with arbitrary values."""
    return _library.empty(shape, dtype)


def keep_freed_memory() -> None:
    """Keep the memory of freed arrays for the next ones; call before training.

    A step makes and frees the same large arrays again and again. The C library (glibc)
    returns blocks above a threshold to the system, which then clears and maps memory
    for the next ones: a quarter of a step with a minibatch of 512. The threshold rises
    to the largest block freed so far, up to 32 MiB (man mallopt, M_MMAP_THRESHOLD). So
    this function frees one such block, without writing to it. With other C libraries it
    has no effect.
    """
    np.empty(31 << 20, np.uint8)


def to_numpy(x: Array) -> np.ndarray:
    """Return `x` as a NumPy array: the only way back to the host.

    Raises:
        TypeError: `x` has masked entries.

    """
    return _library.to_numpy(bare(x))


def bring(a: Array, to: Array) -> Array:
    """Return `a` on the host if `to` is a NumPy array, else as the backend's array."""
    return to_numpy(a) if isinstance(to, np.ndarray) else asarray(a)


def scatter_add(target: Array, index: Any, values: Array) -> None:
    """Add `values` into `target[index]` in place, also at repeated positions.

    `target[index] += values` would add to a repeated position only once. If `index`
    cannot repeat a position, that faster way is used.
    """
    parts = index if isinstance(index, tuple) else (index,)
    if all(map(_names_once, parts)):
        target[index] += values
    else:
        _library.scatter_add(target, index, values)


def _names_once(part: Any) -> bool:
    """Return whether a part of an index cannot repeat a position: no integer array."""
    if isinstance(part, (slice, int, np.integer, type(None), type(...))):
        return True
    return getattr(part, "dtype", None) == np.bool_


# --- Steps --------------------------------------------------------------------------


def matmul(a: Array, b: Array, out: Array) -> Array:
    """Write the product of two matrices to `out`; `capture` can record it."""
    return _library.matmul(a, b, out)


def sum_of_rows(a: Array) -> Array:
    """Return the sum over the first axis of a plain array."""
    return _library.sum_of_rows(a)


def product() -> Callable[[Array, Array], Array]:
    """Return the function by which the backend computes np.matmul of plain arrays."""
    return _library.product


def follow(f: Callable[[], object]) -> None:
    """Call `f` now, and again each time the backend has changed."""
    _followers.append(f)
    f()


def run_kernel(kernel: Kernel, *arguments: Any) -> bool:
    """Run a kernel on its arguments, if the backend has kernels.

    Returns:
        Whether it ran. If the backend has no kernels, or the output is on the host, it
        did not; the caller then computes the same with NumPy's functions.

    """
    if not isinstance(arguments[-1], _library.array):
        return False
    return _library.run_kernel(kernel, arguments)


def compute(kernel: Kernel, *arguments: Any) -> Array | None:
    """Return the one output of a kernel as a new array, of the shape of its last input.

    None if the backend "c" is not in use, the arrays are small, or the kernel does not
    take them; the caller then computes the same with NumPy's functions.
    """
    return _library.compute(kernel, arguments)


def capture(f: Callable[[], object]) -> Callable[[], object]:
    """Return a function that does the same as `f()`; on a GPU it replays a recording.

    A replay costs the host one call instead of about a hundred. `f` must do the same
    with the same arrays each time. Its computations on the host run only once, except
    for functions that it passes to `each_time`.

    Raises:
        BackendError: in the second call, if `f` cannot be recorded.

    """
    return _library.capture(f)


def each_time(f: Callable[[], object]) -> None:
    """Call `f`; if a step is being recorded, call it before each replay instead.

    `f` may write to arrays of the step, like a learning rate. All these calls come
    before the whole recording. So a recording may use what `f` writes only once: it
    must hold one step of each optimizer.
    """
    _library.each_time(f)


def seconds(f: Callable[[], object]) -> float:
    """Return the seconds until all of f() is computed, on a GPU by the GPU's clock."""
    return _library.seconds(f)


# --- Threads ------------------------------------------------------------------------


def threads() -> int | None:
    """Return the largest number of threads for a matrix product on the host.

    None if NumPy's BLAS is not OpenBLAS: only OpenBLAS can be asked.
    """
    return _library.threads()


def use_threads(n: int) -> int | None:
    """Use at most n threads on the host from now on, in the whole process.

    The number is limited to the cores that this process may use. With the backend "c"
    it is that of products and kernels; else that of products, and it has no effect on a
    BLAS other than OpenBLAS.

    Returns:
        The number now in effect; None for another BLAS.

    Raises:
        TypeError, ValueError: n is not a positive int.

    """
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"use_threads: n is {n!r}; an int expected")
    if n < 1:
        raise ValueError(f"use_threads: n is {n}; at least 1 expected")
    _library.use_threads(min(n, openblas.cores()))
    return threads()


def threads_for(multiply_adds: int) -> int:
    """Return the best number of threads for the largest products of a computation.

    If the user set a number (OPENBLAS_NUM_THREADS, GOTO_NUM_THREADS or
    OMP_NUM_THREADS), it is the number in effect. Else it is at least one, and at most
    the cores that this process may use.

    Args:
        multiply_adds: m · k · n of the largest product of an (m, k) and a (k, n).

    """
    if openblas.given():
        return threads() or 1
    return _library.threads_for(multiply_adds)


def machine() -> str:
    """Name the library, its version and, on a GPU, the device and the driver."""
    return _library.machine()


def choose_gpu(number: int) -> None:
    """Use this GPU from now on; each process of a group chooses its own.

    Raises:
        BackendError: the backend uses no GPU, the machine has too few, or NCCL is
            missing.

    """
    if not isinstance(_library, CuPy):
        raise BackendError(f"backend {_library.name!r}: it has no GPUs to choose from")
    _library.choose_gpu(number)


def sum_over_gpus(rank: int, size: int) -> Callable[[Array], None]:
    """Return a function that sums an array in place over the GPUs of an MPI job (NCCL).

    All processes must call this function, after `choose_gpu`.
    """
    assert isinstance(_library, CuPy)
    return _library.sum_over_gpus(rank, size)


# --- Random streams -----------------------------------------------------------------


def streams(seed: int, n: int) -> list[np.random.Generator]:
    """Spawn `n` independent random generators from one seed.

    Use one each for initialisation, shuffling and noise: drawing more from one then
    does not change the others (`numpy.random.SeedSequence.spawn`).
    """
    return [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(n)]


if chosen := os.environ.get("SCRATCHNET_BACKEND"):
    use(chosen)
