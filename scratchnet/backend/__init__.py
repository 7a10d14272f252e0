"""Where arrays are made, and the one door by which they come back to the host.

Functions of arrays need no backend: NumPy's dispatch protocols find the right
implementation from the array itself, `np.exp(x)` of a CuPy array runs on the GPU. What
has no array to go by is kept here: making arrays, copying them to the host, adding into
repeated positions, and random streams. So is what a GPU has and NumPy has not: steps
that are recorded once and then replayed (`capture`), chains of functions as one kernel
(`fused`), matrix products of fewer digits. And on a CPU, how many threads products use.
No other file names an array library beside NumPy.

    scratchnet.backend.use("cupy")      # or SCRATCHNET_BACKEND=cupy, or --backend cupy

Call `use` before models are made: what was made with one library stays with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import os
import re
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

# An array of the backend in use. NumPy's ndarray type would promise too much: a
# device array answers the same calls without being one.
Array = Any
Shape = int | Sequence[int]

BACKENDS = ("numpy", "cupy", "cupy-tf32")


class BackendError(RuntimeError):
    """A backend cannot be used here; says what is missing, and what to install."""


class Fused(NamedTuple):
    """A chain of elementwise functions as one kernel of a GPU.

    Beside each stands the same in NumPy's functions, for where there is none.

    Attributes:
        name: of the kernel.
        inputs, outputs: what it reads; what it reads and writes. Declarations in C,
            `T` standing for a dtype that is found at the call, as CuPy has them; of
            what is `raw`, the body says which entry.
        body: C, for entry i of what its arguments broadcast to.
        preamble: C, functions that the body calls.

    """

    name: str
    inputs: str
    outputs: str
    body: str
    preamble: str = ""


# --- The libraries ------------------------------------------------------------------


class Library(Protocol):
    """What is asked of a library of arrays beside NumPy's own functions."""

    name: str
    array: Any  # the type of its arrays
    host: bool  # whether they are where Python is

    def chosen(self) -> None:
        """Do what is to be done whenever it comes into use."""

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

    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        """Write the product of two matrices to `out`, and return it."""

    def fused(self, kernel: Fused, arguments: Sequence[Any]) -> bool:
        """Run a kernel, or say that there are none here."""

    def capture(self, f: Callable[[], object]) -> Callable[[], object]:
        """Return what does the same as `f`, by a recording if there is such a thing."""

    def each_time(self, f: Callable[[], object]) -> None:
        """Call `f`, now and whenever what is being recorded is replayed."""

    def seconds(self, f: Callable[[], object]) -> float:
        """Return how long a call takes, until all is computed."""

    def machine(self) -> str:
        """Name what computes, and the versions that it depends on."""


class _NumPy:
    name = "numpy"
    array: Any = np.ndarray
    host = True

    def chosen(self) -> None:
        pass

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

    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        return np.matmul(a, b, out=out)

    def fused(self, kernel: Fused, arguments: Sequence[Any]) -> bool:
        return False

    def capture(self, f: Callable[[], object]) -> Callable[[], object]:
        return f

    def each_time(self, f: Callable[[], object]) -> None:
        f()

    def seconds(self, f: Callable[[], object]) -> float:
        began = time.perf_counter()
        f()
        return time.perf_counter() - began

    def machine(self) -> str:
        return f"NumPy {np.__version__}"


class _CuPy:
    host = False

    def __init__(self, tf32: bool = False) -> None:
        self.name = "cupy-tf32" if tf32 else "cupy"
        self.cupy = _import_cupy()
        self.array = self.cupy.ndarray
        self.tf32 = tf32
        self.cublas = _Cublas(self.cupy, tf32)
        self.kernels: dict[Fused, Any] = {}
        # While a step is recorded: what of it is Python's, to be called each time.
        self.hooks: list[Callable[[], object]] | None = None

    def chosen(self) -> None:
        # The same precision for CuPy's own products, whatever its environment says.
        linalg = importlib.import_module("cupy._core._routines_linalg")
        of = linalg.COMPUTE_TYPE_TF32 if self.tf32 else linalg.COMPUTE_TYPE_FP32
        linalg.set_compute_type(np.float32, of)

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

    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        return self.cublas.matmul(a, b, out)

    def fused(self, kernel: Fused, arguments: Sequence[Any]) -> bool:
        made = self.kernels.get(kernel)
        if made is None:
            name, inputs, outputs, body, preamble = kernel
            made = self.cupy.ElementwiseKernel(
                inputs, outputs, body, name, preamble=preamble
            )
            self.kernels[kernel] = made
        made(*arguments)
        return True

    def capture(self, f: Callable[[], object]) -> Callable[[], object]:
        return _Graph(self, f)

    def choose_gpu(self, number: int) -> None:
        runtime = self.cupy.cuda.runtime
        if number >= runtime.getDeviceCount():
            raise BackendError(
                f"backend 'cupy': {number + 1} processes or more on a machine with "
                f"{runtime.getDeviceCount()} GPUs; start one for each"
            )
        if not self.cupy.cuda.nccl.available:
            raise BackendError(
                "backend 'cupy': no NCCL; install it with pip install nvidia-nccl-cu12 "
                "or, for CUDA 13, nvidia-nccl-cu13"
            )
        runtime.setDevice(number)

    def sum_over_gpus(self, rank: int, size: int) -> Callable[[Array], None]:
        distributed = importlib.import_module("cupyx.distributed")
        group = distributed.init_process_group(size, rank, backend="nccl", use_mpi=True)
        return lambda a: group.all_reduce(a, a)

    def each_time(self, f: Callable[[], object]) -> None:
        if self.hooks is None:
            f()
        else:
            self.hooks.append(f)

    def seconds(self, f: Callable[[], object]) -> float:
        cuda = self.cupy.cuda
        begin, end = cuda.Event(), cuda.Event()
        begin.record()
        f()
        end.record()
        end.synchronize()
        milliseconds: float = cuda.get_elapsed_time(begin, end)
        return milliseconds / 1e3

    def machine(self) -> str:
        runtime = self.cupy.cuda.runtime
        name = runtime.getDeviceProperties(runtime.getDevice())["name"].decode()
        return (
            f"{name}, driver for CUDA {runtime.driverGetVersion()}, runtime "
            f"{runtime.runtimeGetVersion()}, CuPy {self.cupy.__version__}, NumPy "
            f"{np.__version__}"
        )


class _Cublas:
    """Matrix products by cuBLAS itself.

    CuPy refuses to call cuBLAS while a stream is recorded (its `cublas.setStream`),
    though cuBLAS can: it then only must not allocate, so it is given its workspace.
    """

    WORKSPACE = 32 << 20  # bytes; what NVIDIA advises for this generation

    def __init__(self, cupy: Any, tf32: bool) -> None:
        self.cupy = cupy
        # By the dtype's character: CUDA_R_32F, CUDA_R_64F
        self.real = {"f": 0, "d": 1}
        # CUBLAS_COMPUTE_32F or its FAST_TF32, CUBLAS_COMPUTE_64F
        self.compute = {"f": 77 if tf32 else 68, "d": 70}
        self.handle: Any = None  # cuBLAS is started by the first product
        self.stream: int | None = None
        self.numbers = {
            "f": (ctypes.c_float(1), ctypes.c_float(0)),
            "d": (ctypes.c_double(1), ctypes.c_double(0)),
        }

    def _start(self) -> None:
        self.cupy.cuda.device.get_cublas_handle()  # has CuPy find and load it
        major = self.cupy.cuda.runtime.runtimeGetVersion() // 1000
        name = f"libcublas.so.{major}" if os.name == "posix" else f"cublas64_{major}"
        try:
            self.library = ctypes.CDLL(name)
        except OSError as error:
            raise BackendError(f"backend 'cupy': no {name} ({error})") from error
        self.workspace = self.cupy.cuda.alloc(self.WORKSPACE)
        handle = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(handle))
        self.handle = handle

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self.library, function)(*arguments)
        if status:
            raise BackendError(f"backend 'cupy': {function} answers {status}")

    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        """Write a b to `out`; rows of all three contiguous, or columns of a and b.

        cuBLAS reads and writes by columns. What is C by rows is Cᵀ by columns, and Cᵀ
        is Bᵀ Aᵀ: with the factors exchanged nothing has to be transposed.
        """
        kind = out.dtype.char
        if kind not in self.real or not a.dtype == b.dtype == out.dtype:
            raise TypeError(
                f"matmul: {a.dtype}, {b.dtype} and out {out.dtype}; all float32 or all "
                "float64 expected"
            )
        (m, k), (k_, n) = a.shape, b.shape
        if k != k_ or out.shape != (m, n):
            raise ValueError(
                f"matmul: shapes {a.shape}, {b.shape} and out {out.shape}; (m, k), "
                "(k, n) and (m, n) expected"
            )
        if self.handle is None:
            self._start()
        stream = self.cupy.cuda.get_current_stream().ptr
        if stream != self.stream:
            self._call("cublasSetStream_v2", self.handle, ctypes.c_void_p(stream))
            # Setting the stream took it away.
            self._call(
                "cublasSetWorkspace_v2", self.handle,
                ctypes.c_void_p(self.workspace.ptr), ctypes.c_size_t(self.WORKSPACE),
            )  # fmt: skip
            self.stream = stream
        one, zero = map(ctypes.byref, self.numbers[kind])
        real, pointer = self.real[kind], ctypes.c_void_p
        (turned_a, lda), (turned_b, ldb) = _layout(a), _layout(b)
        turned_out, ldc = _layout(out)
        if turned_out:
            raise ValueError("matmul: the rows of out are not contiguous")
        self._call(
            "cublasGemmEx", self.handle, int(turned_b), int(turned_a), n, m, k, one,
            pointer(b.data.ptr), real, ldb, pointer(a.data.ptr), real, lda, zero,
            pointer(out.data.ptr), real, ldc, self.compute[kind], -1,
        )  # fmt: skip
        return out


def _layout(a: Array) -> tuple[bool, int]:
    """Return whether a matrix lies by columns, and how far one is from the next."""
    (m, n), (by_row, by_column) = a.shape, (s // a.itemsize for s in a.strides)
    if (by_column == 1 or n == 1) and (by_row >= n or m == 1):
        return False, max(by_row if m > 1 else n, 1)
    if (by_row == 1 or m == 1) and (by_column >= m or n == 1):
        return True, max(by_column if n > 1 else m, 1)
    raise ValueError(
        f"matmul: a matrix of shape {a.shape} and strides {a.strides}; rows or columns "
        "that are contiguous expected"
    )


class _Graph:
    """What a function does on the GPU, recorded once (a CUDA graph) and then replayed.

    The function must do the same on the same arrays each time; what it reads from
    Python stays as it was when it was recorded, unless it is `each_time`. It is called
    twice, ever: the first time as it is, which makes CuPy compile and load what it
    needs; the second time to be recorded. Each time it counts as one call.

    What it allocates comes from a pool of its own, which lives as long as the recording
    and which nothing else takes memory from.
    """

    def __init__(self, library: _CuPy, f: Callable[[], object]) -> None:
        self.library, self.f = library, f
        cuda = library.cupy.cuda
        self.stream = cuda.Stream(non_blocking=True)
        self.pool = cuda.MemoryPool()
        weakref.finalize(self, self.pool.free_all_blocks)
        self.hooks: list[Callable[[], object]] = []
        self.warm = False
        self.graph: Any = None

    def __call__(self) -> None:
        if not self.warm:
            with self._aside():
                self.f()
            self.warm = True
            return
        if self.graph is None:
            with self._aside():
                self.graph = self._recorded()
        for hook in self.hooks:
            hook()
        self.graph.launch()  # on the stream of all else

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """Work on a stream and with memory of its own, after all else and before it."""
        cuda = self.library.cupy.cuda
        cuda.get_current_stream().synchronize()
        with cuda.using_allocator(self.pool.malloc), self.stream:
            yield
        self.stream.synchronize()

    def _recorded(self) -> Any:
        self.library.hooks = self.hooks
        self.stream.begin_capture()
        try:
            self.f()
            return self.stream.end_capture()
        except BaseException as error:
            self.hooks.clear()
            with contextlib.suppress(Exception):
                self.stream.end_capture()  # or the stream could not be used again
            if not isinstance(error, Exception):
                raise
            raise BackendError(
                f"backend 'cupy': the step cannot be recorded ({error!r}); it must not "
                "wait for the GPU, nor bring arrays from the host"
            ) from error
        finally:
            self.library.hooks = None


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


_LIBRARIES: dict[str, Callable[[], Library]] = {
    "numpy": _NumPy,
    "cupy": _CuPy,
    "cupy-tf32": lambda: _CuPy(tf32=True),
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


_library: Library = _NumPy()
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


def fused(kernel: Fused, *arguments: Any) -> bool:
    """Run a kernel, its inputs and then its outputs given, where there are kernels.

    Returns:
        Whether there are: if not, or if it is the host's arrays that are to be written,
        the caller does the same with NumPy's functions.

    """
    if not isinstance(arguments[-1], _library.array):
        return False
    return _library.fused(kernel, arguments)


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
    if not isinstance(_library, _CuPy):
        raise BackendError(f"backend {_library.name!r}: it has no GPUs to choose from")
    _library.choose_gpu(number)


def sum_over_gpus(rank: int, size: int) -> Callable[[Array], None]:
    """Return what sums an array in place, by NCCL, over the GPUs of an MPI job.

    All processes call it, after `choose_gpu`.
    """
    assert isinstance(_library, _CuPy)
    return _library.sum_over_gpus(rank, size)


# --- Threads ------------------------------------------------------------------------

# What makes a second thread worth having: so many multiply-adds of one product for each
# thread, about 6 ms of work. Threads that meet more often than that wait for each other
# as soon as another program holds a core, ten times as long as they compute.
WORK = 500_000_000

# What OpenBLAS reads when it is loaded; another BLAS has its own.
_THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS", "OPENBLAS_DEFAULT_NUM_THREADS", "GOTO_NUM_THREADS",
    "OMP_NUM_THREADS",
)  # fmt: skip


def threads() -> int | None:
    """Return how many threads a product of NumPy uses at most.

    None if NumPy's BLAS is not OpenBLAS, which alone can be asked.
    """
    blas = _openblas()
    return None if blas is None else int(blas.get())


def use_threads(n: int) -> int | None:
    """Have NumPy's products use at most n threads from here on, in the whole process.

    No more than the cores that this process may use. Another BLAS than OpenBLAS stays
    as it is.

    Returns:
        How many are in effect; None for another BLAS.

    Raises:
        TypeError, ValueError: n is not a positive int.

    """
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"use_threads: n is {n!r}; an int expected")
    if n < 1:
        raise ValueError(f"use_threads: n is {n}; at least 1 expected")
    if (blas := _openblas()) is not None:
        blas.set(min(n, _cores()))
    return threads()


def threads_for(multiply_adds: int) -> int:
    """Return how many threads suit the largest products of a computation.

    One for each `WORK` multiply-adds of a product, at least one, and no more than the
    cores that this process may use. If the user set a number (OPENBLAS_NUM_THREADS,
    GOTO_NUM_THREADS or OMP_NUM_THREADS), what is in effect.

    Args:
        multiply_adds: m · k · n of the largest product of an (m, k) and a (k, n).

    """
    if any(_positive(os.environ.get(name, "")) for name in _THREAD_VARIABLES):
        return threads() or 1
    return int(max(1, min(multiply_adds // WORK, _cores())))


def _positive(text: str) -> bool:
    """Return whether OpenBLAS takes this for a number of threads, as C's atoi does."""
    found = re.match(r"\s*\+?(\d+)", text)
    return found is not None and int(found[1]) > 0


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS or Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _OpenBLAS(NamedTuple):
    get: Callable[[], int]
    set: Callable[[int], None]


@functools.cache
def _openblas() -> _OpenBLAS | None:
    """Return OpenBLAS's own functions for its threads; None if it is another BLAS."""
    for library in _libraries_of_numpy():
        # NumPy's wheels have names of their own; 64_ is the build with long integers.
        for name in ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_",
                     "openblas_{}"):  # fmt: skip
            get, put = (
                getattr(library, name.format(f"{verb}_num_threads"), None)
                for verb in ("get", "set")
            )
            if get is not None and put is not None:
                get.argtypes, get.restype = [], ctypes.c_int
                put.argtypes, put.restype = [ctypes.c_int], None
                return _OpenBLAS(get, put)
    return None


def _libraries_of_numpy() -> Iterator[ctypes.CDLL]:
    """Yield the libraries in which NumPy's BLAS may be, which are loaded already."""
    # Its own extension module first: a name is looked for in all that it was linked
    # with, and nowhere else. Windows does not look there, but has them in one folder.
    beside = Path(np.__file__).parent.parent / "numpy.libs"
    umath = str(importlib.import_module("numpy._core._multiarray_umath").__file__)
    for path in (umath, *map(str, sorted(beside.glob("*openblas*")))):
        with contextlib.suppress(OSError):
            yield ctypes.CDLL(path)


# --- Random streams -----------------------------------------------------------------


def streams(seed: int, n: int) -> list[np.random.Generator]:
    """Spawn `n` independent random generators from one seed.

    Give initialisation, shuffling and noise one each: drawing more from one of
    them then leaves the others as they were (`numpy.random.SeedSequence.spawn`).
    """
    return [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(n)]


if chosen := os.environ.get("SCRATCHNET_BACKEND"):
    use(chosen)
