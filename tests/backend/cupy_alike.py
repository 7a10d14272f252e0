"""A module that looks like CuPy to backend/cupy.py, with NumPy arrays on the host.

`calls` records the calls of its streams, graphs and of cuBLAS, in order. The product of
cuBLAS is computed as cuBLAS does: by columns, from addresses.
"""

import contextlib
import ctypes
import types
from typing import Any

import numpy as np

from scratchnet.backend import cupy
from tests.backend import compiled


class CUDAError(Exception):
    """CuPy's error if CUDA does not respond."""


class Array(np.ndarray):
    """An array with its address, like those of CuPy."""

    @property
    def data(self) -> Any:
        """Return its memory."""
        return types.SimpleNamespace(ptr=self.ctypes.data)


def asarray(x: Any, dtype: Any = None) -> Array:
    return np.asarray(x, dtype).view(Array)


class Stream:
    """A stream that records its calls."""

    def __init__(self, cupy: Any, ptr: int) -> None:
        self.cupy, self.ptr = cupy, ptr

    def __enter__(self) -> None:
        self.cupy.current.append(self)

    def __exit__(self, *error: Any) -> None:
        self.cupy.current.pop()

    def synchronize(self) -> None:
        self.cupy.calls.append(f"synchronize {self.ptr}")

    def begin_capture(self) -> None:
        self.cupy.calls.append("begin_capture")

    def end_capture(self) -> Any:
        self.cupy.calls.append("end_capture")
        if self.cupy.end_fails:
            raise RuntimeError("cudaErrorStreamCaptureInvalidated")

        def launch() -> None:
            self.cupy.calls.append(f"launch {self.cupy.current[-1].ptr}")

        return types.SimpleNamespace(launch=launch)


class Cublas:
    """The functions of libcublas.so in use."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.status = 0

    def __getattr__(self, name: str) -> Any:
        def function(*arguments: Any) -> int:
            self.calls.append(name)
            if name == "cublasGemmEx":
                self.arguments = arguments
                gemm(*arguments[1:])
            return self.status

        return function


def gemm(
    turned_a: int, turned_b: int, m: int, n: int, k: int, one: Any, a: Any, kind_a: int,
    lda: int, b: Any, kind_b: int, ldb: int, zero: Any, c: Any, kind_c: int, ldc: int,
    compute: int, algorithm: int,
) -> None:  # fmt: skip
    """Compute C = op(A) op(B), all by columns, like cublasGemmEx."""
    assert kind_a == kind_b == kind_c
    number = ctypes.c_double if kind_a else ctypes.c_float
    assert (one._obj.value, zero._obj.value) == (1, 0)
    assert type(one._obj) is number

    def read(address: Any, rows: int, columns: int, leading: int) -> np.ndarray:
        assert leading >= rows
        size = leading * (columns - 1) + rows
        memory = (number * size).from_address(address.value)
        flat = np.ctypeslib.as_array(memory)
        steps = (flat.itemsize, leading * flat.itemsize)
        return np.lib.stride_tricks.as_strided(flat, (rows, columns), steps)

    A = read(a, k, m, lda).T if turned_a else read(a, m, k, lda)
    B = read(b, n, k, ldb).T if turned_b else read(b, k, n, ldb)
    read(c, m, n, ldc)[...] = A @ B


def fake(devices: int | None) -> Any:
    """Make the module for a machine with so many GPUs; None means no driver."""

    def count() -> int:
        if devices is None:
            raise CUDAError(
                "cudaErrorInsufficientDriver: driver version is insufficient"
            )
        return devices

    module: Any = types.ModuleType("cupy")
    calls: list[str] = []
    precision: dict[Any, str] = {}
    linalg: Any = types.ModuleType("cupy._core._routines_linalg")
    vars(linalg).update(
        COMPUTE_TYPE_FP32="FP32", COMPUTE_TYPE_TF32="TF32",
        set_compute_type=precision.__setitem__,
    )  # fmt: skip
    pools: list[Any] = []

    def memory_pool() -> Any:
        free = calls.append
        pools.append(
            types.SimpleNamespace(
                malloc=object(), free_all_blocks=lambda: free("memory freed")
            )
        )
        return pools[-1]

    @contextlib.contextmanager
    def using_allocator(malloc: Any) -> Any:
        assert malloc is pools[-1].malloc
        calls.append("own memory")
        yield
        calls.append("memory as before")

    def kernel(*text: str, preamble: str) -> Any:
        inputs, outputs, body, name = text
        made = next(kernel for kernel in compiled.KERNELS if kernel.name == name)
        assert cupy.for_gpu(made) == (inputs, body)
        assert (made.outputs, made.preamble) == (outputs, preamble)
        columns = bool(made.rows)  # comes first, and compiled.run adds it itself
        return lambda *arguments: compiled.run(made, arguments[columns:])

    runtime = types.SimpleNamespace(
        getDeviceCount=count,
        CUDARuntimeError=CUDAError,
        runtimeGetVersion=lambda: 13050,
        setDevice=lambda number: calls.append(f"setDevice {number}"),
    )
    cuda = types.SimpleNamespace(
        runtime=runtime,
        device=types.SimpleNamespace(get_cublas_handle=lambda: calls.append("found")),
        alloc=lambda size: types.SimpleNamespace(ptr=64, size=size),
        Stream=lambda non_blocking: Stream(module, 7),
        MemoryPool=memory_pool,
        using_allocator=using_allocator,
        get_current_stream=lambda: module.current[-1],
        nccl=types.SimpleNamespace(available=True),
    )
    vars(module).update(
        __version__="14.2", ndarray=Array, asarray=asarray,
        zeros=lambda shape, dtype: asarray(np.zeros(shape, dtype)),
        empty=lambda shape, dtype: asarray(np.empty(shape, dtype)),
        asnumpy=np.asarray, add=np.add, cuda=cuda, ElementwiseKernel=kernel,
        calls=calls, precision=precision, end_fails=False, current=[Stream(module, 0)],
        modules={
            "cupy": module, "cupy._core": types.ModuleType("cupy._core"),
            "cupy._core._routines_linalg": linalg,
        },
    )  # fmt: skip
    return module
