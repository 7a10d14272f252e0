"""CuPy as the array library, on a GPU, with cuBLAS and recorded steps."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from scratchnet.backend.library import (
    Array,
    BackendError,
    Kernel,
    Shape,
    parameters,
)
from scratchnet.backend.openblas import Threads


class CuPy(Threads):
    """Arrays on a GPU."""

    host = False

    def __init__(self, tf32: bool = False) -> None:
        self.name = "cupy-tf32" if tf32 else "cupy"
        self.cupy = _import_cupy()
        self.array = self.cupy.ndarray
        self.tf32 = tf32
        self.cublas = _Cublas(self.cupy, tf32)
        self.kernels: dict[Kernel, Any] = {}
        # While a step is recorded: its Python functions, to call before each replay.
        self.hooks: list[Callable[[], object]] | None = None

    def chosen(self) -> None:
        # The same precision for CuPy's own products, for any CUPY_TF32 setting.
        linalg = importlib.import_module("cupy._core._routines_linalg")
        of = linalg.COMPUTE_TYPE_TF32 if self.tf32 else linalg.COMPUTE_TYPE_FP32
        linalg.set_compute_type(np.float32, of)

    def left(self) -> None:
        pass

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

    product: Callable[[Array, Array], Array] = staticmethod(np.matmul)

    def sum_of_rows(self, a: Array) -> Array:
        return np.sum(a, axis=0)

    def run_kernel(self, kernel: Kernel, arguments: Sequence[Any]) -> bool:
        if kernel.sums:
            return False
        made = self.kernels.get(kernel)
        if made is None:
            inputs, body = for_gpu(kernel)
            made = self.cupy.ElementwiseKernel(
                inputs, kernel.outputs, body, kernel.name, preamble=kernel.preamble
            )
            self.kernels[kernel] = made
        if kernel.rows:
            arguments = (arguments[-1].shape[-1], *arguments)
        made(*arguments)
        return True

    def compute(self, kernel: Kernel, arguments: Sequence[Any]) -> Array | None:
        return None

    def capture(self, f: Callable[[], object]) -> Callable[[], object]:
        return _Graph(self, f)

    def choose_gpu(self, number: int) -> None:
        runtime = self.cupy.cuda.runtime
        if number >= runtime.getDeviceCount():
            raise BackendError(
                f"backend 'cupy': {number + 1} processes or more on a machine with "
                f"{runtime.getDeviceCount()} GPUs; start one process for each GPU"
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


def for_gpu(kernel: Kernel) -> tuple[str, str]:
    """Return the inputs and the body of a kernel in the form of CuPy.

    CuPy would compute row and column of each entry of a row that is broadcast. Here the
    row is indexed by the remainder, which is faster; `columns` comes first.
    """
    rows = parameters(kernel.rows)
    inputs = [kernel.numbers, *(f"raw {kind} {name}_row" for kind, name in rows)]
    inputs.append(kernel.inputs)
    if rows:
        inputs.insert(0, "uint32 columns")
    chosen = "".join(
        f"const {kind} {name} = {name}_row[(unsigned int)i % columns];"
        for kind, name in rows
    )
    return ", ".join(filter(None, inputs)), chosen + kernel.body


class _Cublas:
    """Matrix products by direct calls of cuBLAS.

    While a stream is recorded, CuPy refuses to call cuBLAS (its `cublas.setStream`).
    cuBLAS itself allows it if it need not allocate, so we give it a workspace.
    """

    WORKSPACE = 32 << 20  # bytes, NVIDIA's advice for this generation

    def __init__(self, cupy: Any, tf32: bool) -> None:
        self.cupy = cupy
        # By the dtype's character: CUDA_R_32F, CUDA_R_64F
        self.real = {"f": 0, "d": 1}
        # CUBLAS_COMPUTE_32F or its FAST_TF32, CUBLAS_COMPUTE_64F
        self.compute = {"f": 77 if tf32 else 68, "d": 70}
        self.handle: Any = None  # the first product starts cuBLAS
        self.stream: int | None = None
        self.numbers = {
            "f": (ctypes.c_float(1), ctypes.c_float(0)),
            "d": (ctypes.c_double(1), ctypes.c_double(0)),
        }

    def _start(self) -> None:
        self.cupy.cuda.device.get_cublas_handle()  # CuPy finds and loads it
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
            raise BackendError(f"backend 'cupy': {function} failed, status {status}")

    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        """Write a b to `out`; rows of all three contiguous, or columns of a and b.

        cuBLAS reads and writes by columns. C stored by rows is Cᵀ stored by columns,
        and Cᵀ = Bᵀ Aᵀ: with the factors exchanged, nothing needs to be transposed.
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
            # Setting the stream resets the workspace.
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
    """Return whether a matrix is stored by columns, and the leading dimension."""
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
    """The work of a function on the GPU, recorded once (a CUDA graph) and replayed.

    The function must do the same on the same arrays each time. Python values that it
    reads keep the value of the recording, except in `each_time`. It is called only
    twice: the first call runs normally, so that CuPy compiles and loads its kernels;
    the second is recorded. Each of them counts as one step.

    Its memory comes from a separate pool that lives as long as the recording.
    """

    def __init__(self, library: CuPy, f: Callable[[], object]) -> None:
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
        self.graph.launch()  # on the current stream

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """Work on a separate stream and pool, in order with all other work."""
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
                self.stream.end_capture()  # without it the stream cannot be used again
            if not isinstance(error, Exception):
                raise
            raise BackendError(
                f"backend 'cupy': the step cannot be recorded ({error!r}); it must not "
                "wait for the GPU or copy arrays from the host"
            ) from error
        finally:
            self.library.hooks = None


def _import_cupy() -> Any:
    """Return the module, or raise an error that names the missing part.

    This is CuPy, the driver or the GPU.
    """
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
            f"backend 'cupy': CuPy {cupy.__version__} is installed, but CUDA does not "
            f"work ({error}); install or update NVIDIA's driver, or use 'numpy'"
        ) from error
    if not devices:
        raise BackendError(
            f"backend 'cupy': CuPy {cupy.__version__} is installed, but there is no "
            "GPU; use 'numpy'"
        )
    return cupy
