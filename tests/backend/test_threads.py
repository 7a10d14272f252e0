"""The number of threads for products: chosen by their size, unless the user chose."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from demos import __main__ as demos
from demos import _demo
from scratchnet import backend
from scratchnet.backend import openblas

ROOT = Path(__file__).parents[2]
VARIABLES = ("OPENBLAS_NUM_THREADS", "OPENBLAS_DEFAULT_NUM_THREADS",
             "GOTO_NUM_THREADS", "OMP_NUM_THREADS")  # fmt: skip
needs_openblas = pytest.mark.skipif(backend.threads() is None, reason="another BLAS")


@pytest.fixture
def nobody_chose(monkeypatch):
    for name in (*VARIABLES, "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def blas(monkeypatch):
    """Replace NumPy's libraries by a list, which the test fills."""
    libraries = []
    monkeypatch.setattr(openblas, "_libraries_of_numpy", lambda: libraries)
    monkeypatch.setattr(openblas, "cores", lambda: 4)
    openblas._openblas.cache_clear()
    yield libraries
    openblas._openblas.cache_clear()


class Function:
    """A function of a C library, with the attributes that ctypes has."""

    argtypes = restype = None

    def __init__(self, f):
        self.f = f

    def __call__(self, *arguments):
        return self.f(*arguments)


def library(name, threads=4):
    """An OpenBLAS whose functions have names of that form."""
    held = [threads]
    get, put = (name.format(f"{verb}_num_threads") for verb in ("get", "set"))
    functions = {
        get: Function(lambda: held[0]),
        put: Function(lambda n: held.__setitem__(0, n)),
    }
    return SimpleNamespace(**functions)


NAMES = ["scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}"]


@pytest.mark.parametrize("name", NAMES)
def test_openblas_is_found_by_any_of_its_names(blas, name):
    blas += [SimpleNamespace(), library(name)]
    assert backend.threads() == 4
    assert backend.use_threads(1) == 1
    assert backend.threads() == 1
    assert backend.use_threads(3) == 3
    assert backend.use_threads(64) == 4  # no more than cores


def test_another_blas_is_not_changed(blas, nobody_chose):
    blas.append(SimpleNamespace(MKL_Set_Num_Threads=None, bli_thread_set=None))
    assert backend.threads() is None
    assert backend.use_threads(2) is None
    assert backend.threads_for(0) == 1


def test_the_number_follows_the_size_of_the_products(blas, nobody_chose):
    blas.append(library(NAMES[0]))
    half = openblas.WORK // 2
    found = [backend.threads_for(k * half) for k in (0, 1, 2, 3, 4, 6, 8, 9, 1000)]
    assert found == [1, 1, 1, 1, 2, 3, 4, 4, 4]
    # A training step with the largest defaults, and one of the largest demo.
    assert backend.threads_for(128 * 784 * 512) == 1
    assert backend.threads_for(_demo.LARGEST_PRODUCT) == 1


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_users_number_stays(blas, nobody_chose, monkeypatch, variable):
    blas.append(library(NAMES[0], threads=3))
    for text in ("3", " 3", "+3", "3,2"):
        monkeypatch.setenv(variable, text)
        assert backend.threads_for(0) == backend.threads_for(10**15) == 3
    for text in ("", "0", "-1", "many"):  # OpenBLAS ignores these too
        monkeypatch.setenv(variable, text)
        assert backend.threads_for(0) == 1
        assert backend.threads_for(10**15) == 4


def test_variables_of_another_blas_are_ignored(blas, nobody_chose, monkeypatch):
    blas.append(library(NAMES[0]))
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    assert backend.threads_for(0) == 1


@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        (0, ValueError, "n is 0; at least 1 expected"),
        (-2, ValueError, "n is -2; at least 1"),
        (1.0, TypeError, "n is 1.0; an int expected"),
        (True, TypeError, "n is True; an int"),
        (None, TypeError, "n is None; an int"),
        ("2", TypeError, "n is '2'; an int"),
    ],
)
def test_wrong_numbers(n, error, message):
    before = backend.threads()
    with pytest.raises(error, match=f"use_threads: {message}"):
        backend.use_threads(n)
    assert backend.threads() == before


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    if hasattr(os, "sched_getaffinity"):
        assert openblas.cores() == len(os.sched_getaffinity(0))
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 8})
        assert openblas.cores() == 3
        monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert openblas.cores() == 12


# --- The real one -------------------------------------------------------------------


def python(code, **environment):
    """Run code in a process without a chosen number, except in `environment`."""
    chosen = {*VARIABLES, "SCRATCHNET_BACKEND"}
    inherited = {k: v for k, v in os.environ.items() if k not in chosen}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True,
        text=True, env=inherited | environment,
    ).stdout.split()  # fmt: skip


@needs_openblas
def test_the_library_is_the_one_that_numpy_uses():
    code = (
        "import os, time, numpy as np; from scratchnet import backend\n"
        "backend.openblas.cores = lambda: 3\n"
        "def tasks(): return len(os.listdir('/proc/self/task'))\n"
        "a = np.ones((600, 600)); a @ a\n"
        "one = backend.use_threads(1); a @ a; before = tasks()\n"
        "three = backend.use_threads(3); a @ a; print(one, three, tasks() >= 3)\n"
        "print(backend.threads_for(10), backend.threads_for(10**12))"
    )
    if not Path("/proc/self/task").exists():
        pytest.skip("no /proc")
    assert python(code) == ["1", "3", "True", "1", "3"]
    assert python("from scratchnet import backend; print(backend.threads_for(10**12))",
                  OPENBLAS_NUM_THREADS="1") == ["1"]  # fmt: skip


@needs_openblas
def test_equal_numbers_of_threads_give_equal_bits():
    a = np.random.default_rng(0).random((300, 400), np.float32)
    kept = backend.threads()
    try:
        expected = a @ a.T
        backend.use_threads(1)
        backend.use_threads(kept)
        np.testing.assert_array_equal(a @ a.T, expected)
    finally:
        backend.use_threads(kept)


# --- Demos --------------------------------------------------------------------------


@pytest.fixture
def used(monkeypatch):
    """Record the number of threads, and run no demo."""
    found = []
    monkeypatch.setattr(backend, "use_threads", found.append)
    monkeypatch.setattr(demos, "run_module", lambda *a: True)
    monkeypatch.setattr(_demo, "perform", lambda *a, **k: True)
    return found


def test_demos_compute_with_one_thread(nobody_chose, used, tmp_path):
    before = dict(os.environ)
    assert demos.main(["compression", "vae", "--out", str(tmp_path)]) == 0
    assert used == [1]
    importlib.import_module("demos.compression")
    for few, expected in ((True, [1, 1]), (False, [1, 1])):
        with pytest.raises(SystemExit) as ended:
            _demo.main("demos.compression", [], few_threads=few)
        assert ended.value.code == 0
        assert used == expected
    # Processes that they start, like those of demos.speed, use all cores.
    assert dict(os.environ) == before
