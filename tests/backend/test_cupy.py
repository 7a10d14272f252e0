"""The calls of CuPy and cuBLAS, tested with a module that looks like CuPy."""

import ctypes
import sys
import types

import numpy as np
import pytest

from scratchnet import backend
from scratchnet.kernels import activations
from tests.backend import compiled
from tests.backend.cupy_alike import Cublas, asarray, fake


@pytest.fixture
def cupy(monkeypatch):
    """Use the fake CuPy; `cupy.cublas` is the library that would be loaded."""
    module = fake(1)
    for name, part in module.modules.items():
        monkeypatch.setitem(sys.modules, name, part)
    module.cublas = Cublas(module.calls)

    def load(name):
        module.calls.append(name)
        return module.cublas

    monkeypatch.setattr(ctypes, "CDLL", load)
    backend.use("cupy")
    yield module
    backend.use("numpy")
    for name in ("cupy", "cupy-tf32"):
        backend._made.pop(name, None)


# --- Products -----------------------------------------------------------------------

SHAPES = [(1, 1, 1), (1, 4, 3), (5, 1, 3), (5, 4, 1), (1, 1, 6), (6, 1, 1), (7, 5, 3)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
@pytest.mark.parametrize("shape", SHAPES)
def test_products(cupy, shape, turned, dtype):
    """Contiguous rows, rows with gaps, and columns."""
    m, k, n = shape
    rng = np.random.default_rng(0)
    for gap in (0, 2):

        def made(rows, columns, turn, gap=gap):
            if turn:
                rows, columns = columns, rows
            x = rng.normal(size=(rows, columns + gap)).astype(dtype)[:, :columns]
            return x.T.view(type(asarray(0))) if turn else asarray(x)

        a, b = made(m, k, "a" in turned), made(k, n, "b" in turned)
        out = made(m, n, False)
        assert backend.matmul(a, b, out) is out
        np.testing.assert_allclose(out, np.asarray(a) @ np.asarray(b), rtol=2e-5)


@pytest.mark.parametrize(
    ("name", "dtype", "compute"),
    [("cupy", "f", 68), ("cupy-tf32", "f", 77), ("cupy", "d", 70),
     ("cupy-tf32", "d", 70)],
)  # fmt: skip
def test_precision(cupy, name, dtype, compute):
    backend.use(name)
    a = asarray(np.ones((2, 2), dtype))
    backend.matmul(a, a, backend.empty((2, 2), dtype))
    assert cupy.cublas.arguments[-2:] == (compute, -1)


def test_cublas_is_started_once_and_follows_the_stream(cupy):
    a, out = asarray(np.ones((2, 2))), backend.empty((2, 2), "d")
    backend.matmul(a, a, out)
    backend.matmul(a, a, out)
    start = ["found", "libcublas.so.13", "cublasCreate_v2"]
    on_stream = ["cublasSetStream_v2", "cublasSetWorkspace_v2"]
    assert cupy.calls == [*start, *on_stream, "cublasGemmEx", "cublasGemmEx"]
    cupy.calls.clear()
    with cupy.cuda.Stream(non_blocking=True):
        backend.matmul(a, a, out)
    backend.matmul(a, a, out)
    assert cupy.calls == [*on_stream, "cublasGemmEx"] * 2


def test_an_error_names_the_factor_that_cannot_be_multiplied(cupy):
    a, out = asarray(np.ones((2, 3))), backend.empty((2, 2), "d")
    with pytest.raises(ValueError, match=r"shapes \(2, 3\), \(2, 3\) and out"):
        backend.matmul(a, a, out)
    with pytest.raises(TypeError, match="float64, float64 and out float32"):
        backend.matmul(a, a.T, backend.empty((2, 2), "f"))
    apart = asarray(np.ones((4, 6)))[::2, ::2]
    with pytest.raises(ValueError, match="rows or columns that are contiguous"):
        backend.matmul(apart, apart.T, out)
    with pytest.raises(ValueError, match="the rows of out are not contiguous"):
        backend.matmul(a, a.T, asarray(np.ones((2, 2)).T))
    cupy.cublas.status = 14
    with pytest.raises(backend.BackendError, match="cublasGemmEx failed, status 14"):
        backend.matmul(a, a.T, out)


# --- Recordings ---------------------------------------------------------------------


def test_a_recording_is_warmed_up_made_once_and_replayed(cupy):
    calls, rates = cupy.calls, []

    def step():
        calls.append(f"step on {cupy.current[-1].ptr}")
        backend.each_time(lambda: rates.append(len(calls)))

    replay = backend.capture(step)
    aside = ["synchronize 0", "own memory"]
    back = ["memory as before", "synchronize 7"]
    replay()
    assert calls == [*aside, "step on 7", *back]
    assert len(rates) == 1
    calls.clear()
    replay()
    recorded = ["begin_capture", "step on 7", "end_capture"]
    assert calls == [*aside, *recorded, *back, "launch 0"]
    assert rates[1:] == [len(calls) - 1]  # between the recording and its first replay
    calls.clear()
    replay()
    replay()
    assert calls == ["launch 0", "launch 0"]
    assert rates[2:] == [0, 1]
    backend.each_time(lambda: rates.append("now"))
    assert rates[-1] == "now"


def test_a_failed_recording_raises_and_frees_the_stream(cupy):
    refuse = [False, True, False]

    def step():
        backend.each_time(list)
        if refuse.pop(0):
            raise RuntimeError("cudaErrorStreamCaptureUnsupported")

    replay = backend.capture(step)
    replay()
    with pytest.raises(backend.BackendError, match=r"cannot be recorded .*Unsupported"):
        replay()
    assert cupy.calls.count("begin_capture") == cupy.calls.count("end_capture") == 1
    replay()
    assert cupy.calls[-1] == "launch 0"


def test_a_recording_that_fails_at_its_end_starts_again(cupy):
    rates = []

    def step():
        backend.each_time(lambda: rates.append(1))

    replay = backend.capture(step)
    replay()
    cupy.end_fails = True
    with pytest.raises(backend.BackendError, match=r"cannot be recorded .*Invalidated"):
        replay()
    cupy.end_fails = False
    rates.clear()
    replay()
    replay()
    assert len(rates) == 2  # not 4: the hooks of the first recording are dropped


def test_a_recording_frees_its_memory(cupy):
    replay = backend.capture(list)
    replay()
    del replay
    assert cupy.calls[-1] == "memory freed"


def test_each_process_takes_its_gpu(cupy):
    backend.choose_gpu(0)
    assert cupy.calls[-1] == "setDevice 0"
    with pytest.raises(backend.BackendError, match=r"2 processes or more .* 1 GPUs"):
        backend.choose_gpu(1)
    cupy.cuda.nccl.available = False
    with pytest.raises(backend.BackendError, match="no NCCL; install it with pip"):
        backend.choose_gpu(0)
    backend.use("numpy")
    with pytest.raises(backend.BackendError, match="'numpy': it has no GPUs"):
        backend.choose_gpu(0)


def test_sums_go_through_nccl(cupy, monkeypatch):
    made = []

    def init_process_group(*where, **how):
        made.append((where, how))
        return types.SimpleNamespace(all_reduce=lambda a, out: made.append((a, out)))

    module = types.ModuleType("cupyx.distributed")
    module.init_process_group = init_process_group
    monkeypatch.setitem(sys.modules, "cupyx", types.ModuleType("cupyx"))
    monkeypatch.setitem(sys.modules, "cupyx.distributed", module)
    add = backend.sum_over_gpus(1, 2)
    add("sums")
    assert made == [((2, 1), {"backend": "nccl", "use_mpi": True}), ("sums", "sums")]


def test_an_error_says_that_cublas_is_missing(cupy, monkeypatch):
    def load(name):
        raise OSError("no such file")

    monkeypatch.setattr(ctypes, "CDLL", load)
    a = asarray(np.ones((2, 2)))
    with pytest.raises(backend.BackendError, match=r"no libcublas.so.13 \(no such"):
        backend.matmul(a, a, backend.empty((2, 2), "d"))


@compiled.needs_compiler
def test_kernels_are_made_once(cupy):
    a = asarray(np.array([-1.0, 2.0]))
    f = activations.activation("leaky_relu", 0.5)
    f.forward(a, None)
    f.forward(a, None)
    assert a.tolist() == [-0.25, 2.0]
    assert len(backend._library.kernels) == 1
