"""The backend "c": its products, its pool of threads, and what it leaves to NumPy."""

import itertools
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from scratchnet import backend
from scratchnet.backend import BackendError, Kernel, c, openblas
from tests.backend import compiled
from tests.helpers import using

pytestmark = compiled.needs_compiler

both_widths = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture
def library():
    with using("c") as made:
        yield made


@pytest.fixture
def four_threads(library, monkeypatch):
    monkeypatch.setattr(openblas, "cores", lambda: 4)
    kept = backend.threads()
    backend.use_threads(4)
    yield library
    backend.use_threads(kept)


def drawn(*shape, dtype=np.float64):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


# --- Products -----------------------------------------------------------------------

# The last two have few rows and a large factor, which is multiplied by pieces.
SIZES = [
    (1, 1, 1), (5, 3, 7), (1, 40, 9), (40, 1, 9), (33, 70, 1), (130, 300, 250),
    (20, 1100, 530), (3, 5000, 990),
]  # fmt: skip


@both_widths
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("turned", [*itertools.product((False, True), repeat=2)])
def test_products_of_rows_and_of_columns(four_threads, size, turned, dtype):
    m, k, n = size
    a = drawn(k, m, dtype=dtype).T if turned[0] else drawn(m, k, dtype=dtype)
    b = drawn(n, k, dtype=dtype).T if turned[1] else drawn(k, n, dtype=dtype)
    out = np.full((m, n), np.nan, dtype)
    assert four_threads._product(a, b, out)
    limit = 4 * k * np.finfo(dtype).eps
    expected = a.astype(np.longdouble) @ b
    np.testing.assert_allclose(out, expected, rtol=limit, atol=limit)


@both_widths
def test_arrays_begin_with_a_line_of_the_cache(library, dtype):
    for shape in (0, 5, (3, 7), (0, 4), ()):
        for a in (backend.zeros(shape, dtype), backend.empty(shape, dtype)):
            assert a.shape == np.zeros(shape).shape
            assert a.dtype == dtype
            assert a.flags.c_contiguous
            assert a.flags.writeable
            assert a.ctypes.data % 64 == 0 or not a.size
    assert not backend.zeros((3, 7), dtype).any()


def test_parts_of_matrices(four_threads):
    """Rows with gaps between them; entries around the part of `out` stay."""
    a, b, out = drawn(60, 90)[::2, 10:50], drawn(80, 70)[40:, :64], np.zeros((40, 80))
    assert four_threads._product(a, b, out[5:35, 3:67])
    np.testing.assert_allclose(out[5:35, 3:67], a @ b, rtol=1e-12, atol=1e-12)
    out[5:35, 3:67] = 0
    assert not out.any()


def misfits():
    a, b, out = drawn(6, 4), drawn(4, 5), np.zeros((6, 5))
    frozen = out.copy()
    frozen.flags.writeable = False
    shared = drawn(6, 6)
    yield "other shapes", a, b, np.zeros((6, 6))
    yield "an inner size", a, b[:3], out
    yield "mixed dtypes", a.astype("f"), b, out
    yield "long doubles", *(x.astype(np.longdouble) for x in (a, b, out))
    yield "swapped bytes", *(x.astype(">f8") for x in (a, b, out))
    yield "neither rows nor columns", drawn(12, 8)[::2, ::2], b, out
    yield "columns of out", a, b, np.zeros((5, 6)).T
    yield "read-only", a, b, frozen
    yield "an overlap", shared, drawn(6, 6), shared
    yield "no rows", a[:0], b, out[:0]
    yield "no columns inside", a[:, :0], b[:0], out
    yield "three axes", a[None], b, out[None]
    yield "a subclass", a.view(np.matrix), b, out
    yield "a list", a.tolist(), b, out


@pytest.mark.parametrize(
    ("a", "b", "out"), [pytest.param(*x, id=name) for name, *x in misfits()]
)
def test_numpy_computes_other_products(library, a, b, out):
    kept = np.array(out)
    assert not library._product(a, b, out)
    np.testing.assert_array_equal(np.array(out), kept)


def test_arrays_that_were_unpickled(library):
    """They have dtype objects of their own."""
    a, b, out = pickle.loads(pickle.dumps([drawn(6, 4), drawn(4, 5), np.zeros((6, 5))]))
    assert library._product(a, b, out)
    np.testing.assert_allclose(out, a @ b, rtol=1e-14)
    x, y = pickle.loads(pickle.dumps([drawn(6), np.zeros(6)]))
    assert backend.run_kernel(TWICE, 1.0, x, y)


def test_a_product_that_numpy_computes(library):
    a, b = drawn(12, 8)[::2, ::2], drawn(4, 5)
    out = np.zeros((6, 5))
    assert backend.matmul(a, b, out) is out
    np.testing.assert_allclose(out, a @ b, rtol=1e-14)


# --- Kernels ------------------------------------------------------------------------

TWICE = Kernel("twice", "T x", "T y", "y = 2 * x + k;", numbers="T k", rows="")
LINE = Kernel("line", "", "T a", "a *= b;", rows="T b")
VALUE = Kernel("value", "T x", "T e, T l", "e = exp(x); l = log(x);")


@both_widths
@pytest.mark.parametrize("n", [0, 1, 7, 100_000])
def test_a_kernel_computes_every_entry(four_threads, n, dtype):
    x, y = drawn(n, dtype=dtype), np.full(n, np.nan, dtype)
    assert backend.run_kernel(TWICE, np.array(3.0, dtype), x, y)
    np.testing.assert_array_equal(y, 2 * x + dtype(3))


@pytest.mark.parametrize(
    "shape", [(0, 3), (5, 0), (1, 1), (4, 3), (300, 400), (2, 3, 4)]
)
def test_a_row_for_each_line(four_threads, shape):
    a, b = drawn(*shape), drawn(shape[-1])
    expected = a * b
    assert backend.run_kernel(LINE, b, a)
    np.testing.assert_array_equal(a, expected)


ROWS = Kernel("rows", "T x", "T y", "y = x * x; total = x;", sums="T total")


@both_widths
@pytest.mark.parametrize("shape", [(1, 1), (5, 15), (3, 16), (40, 33), (2, 3, 2000)])
def test_a_sum_for_each_row(four_threads, shape, dtype):
    x, y = drawn(*shape, dtype=dtype), np.empty(shape, dtype)
    total = np.full(shape[:-1], np.nan, dtype)
    assert backend.run_kernel(ROWS, x, y, total)
    np.testing.assert_array_equal(y, x * x)
    limit = shape[-1] * np.finfo(dtype).eps
    np.testing.assert_allclose(total, x.sum(axis=-1), rtol=limit, atol=limit)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_numpy_sums_what_is_empty(library, shape):
    x, total = np.empty(shape), np.empty(shape[:-1])
    assert not backend.run_kernel(ROWS, x, x.copy(), total)


def kernel_misfits():
    x = drawn(6)
    frozen = x.copy()
    frozen.flags.writeable = False
    yield "mixed dtypes", x.astype("f"), x.copy()
    yield "whole numbers", x.astype(int), x.astype(int)
    yield "other shapes", x[:5], x.copy()
    yield "a broadcast", np.zeros(()), x.copy()
    yield "gaps", drawn(12)[::2], x.copy()
    yield "read-only", x, frozen
    yield "an overlap", x[:5], x[1:]
    yield "the same array", x, x
    yield "a subclass", x.view(np.recarray), x.copy()
    yield "a list", x.tolist(), x.copy()


@pytest.mark.parametrize(
    ("x", "y"), [pytest.param(*a, id=name) for name, *a in kernel_misfits()]
)
def test_numpy_computes_with_other_arrays(library, x, y):
    kept = np.array(y)
    assert not backend.run_kernel(TWICE, 1.0, x, y)
    np.testing.assert_array_equal(np.array(y), kept)


def test_a_row_of_another_length_is_left_to_numpy(library):
    a = drawn(4, 3)
    assert not backend.run_kernel(LINE, drawn(4), a)
    assert not backend.run_kernel(LINE, drawn(1, 3), a)
    assert not backend.run_kernel(LINE, drawn(1), np.ones(()))


SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-310, 5e-324, 1e-40, 1e-45,
           88.72, 88.73, -87.4, -103.9, -104.1, 709.78, 709.79, -745.1, -745.2, 1e30,
           -1e30]  # fmt: skip


@both_widths
def test_exp_and_log(library, dtype):
    """Below one unit of the last digit, over the whole range; special values too."""
    rng = np.random.default_rng(0)
    low, high = np.log(np.finfo(dtype).smallest_subnormal), np.log(np.finfo(dtype).max)
    wide = rng.uniform(low, high, 50_000)
    x = np.concatenate([wide, np.exp(wide), rng.uniform(-2, 2, 50_000), SPECIAL])
    with np.errstate(all="ignore"):
        x = x.astype(dtype)
        raised, log = np.empty_like(x), np.empty_like(x)
        assert backend.run_kernel(VALUE, x, raised, log)
        for found, f in ((raised, np.exp), (log, np.log)):
            exact, rounded = f(x.astype(np.longdouble)), f(x)
            fine = np.isfinite(rounded)
            np.testing.assert_array_equal(found[~fine], rounded[~fine])
            error = np.abs(found[fine] - exact[fine])
            assert (error <= np.spacing(np.abs(rounded[fine]))).all()


def test_denormal_numbers_stay(library):
    """What is compiled does not make the thread flush them to zero."""
    assert backend.run_kernel(TWICE, 0.0, drawn(3), drawn(3))
    assert np.float32(1e-40) * np.float32(0.5) > 0


# --- Threads ------------------------------------------------------------------------


@pytest.mark.skipif(openblas._openblas() is None, reason="another BLAS")
def test_the_threads_of_openblas_are_one_then_as_before(monkeypatch):
    monkeypatch.setattr(openblas, "cores", lambda: 2)
    before, kept = backend.name(), backend.threads()
    backend.use("numpy")
    backend.use_threads(2)
    try:
        for _ in range(3):
            backend.use("c")
            assert openblas.Threads().threads() == 1
            backend.use("numpy")
            assert backend.threads() == 2
    finally:
        backend.use_threads(kept)
        backend.use(before)


def test_the_users_number_of_threads(library, monkeypatch):
    monkeypatch.setattr(openblas, "cores", lambda: 8)
    for given, expected in (("3", 3), ("99", 8), ("", 8)):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", given)
        for name in ("OMP_NUM_THREADS", "GOTO_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        library.chosen()
        assert backend.threads() == expected
    assert backend.use_threads(5) == 5


def test_eight_python_threads_at_once(four_threads):
    """Products, kernels and LAPACK; nothing is lost or mixed."""
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(200, 300)), rng.normal(size=(300, 150))
        x, expected = rng.normal(size=50_000), a @ b
        for _ in range(30):
            out, y = np.empty((200, 150)), np.empty_like(x)
            backend.matmul(a, b, out)
            backend.run_kernel(TWICE, 1.0, x, y)
            if not np.allclose(out, expected, rtol=1e-10) or (y != 2 * x + 1).any():
                wrong.append(seed)
            np.linalg.solve(a[:40, :40] + 20 * np.eye(40), a[:40])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


PROGRAM = """
import os, sys, threading
import numpy as np
from scratchnet import backend
from scratchnet.backend import openblas
openblas.cores = lambda: 4
backend.use("c")
backend.use_threads(4)
a, out = np.ones((400, 300)), np.empty((400, 400))
def product(out=out):
    backend.matmul(a, a.T, out)
    return bool((out == 300).all())
"""


def run(program, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM + program], capture_output=True,
        text=True, timeout=120, env={**os.environ, **environment},
    )  # fmt: skip
    assert not done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_children_compute_too():
    """With no job in the parent, and with one in each of two threads of it."""
    program = """
stop = threading.Event()
def busy():
    own = np.empty((400, 400))
    while not stop.is_set():
        product(own)
assert product()
for helpers in (0, 2):
    threads = [threading.Thread(target=busy) for _ in range(helpers)]
    for t in threads: t.start()
    for _ in range(20):
        child = os.fork()
        if not child:
            os._exit(0 if product(np.empty((400, 400))) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert product()
    stop.set()
    for t in threads: t.join()
print("done")
"""
    assert run(program) == "done\n"


def test_a_process_ends_while_threads_compute():
    program = """
def busy():
    own = np.empty((400, 400))
    while True:
        product(own)
for _ in range(3):
    threading.Thread(target=busy, daemon=True).start()
print(product())
"""
    assert run(program) == "True\n"


# --- Where it cannot be used --------------------------------------------------------


def test_arrays_of_another_layout_are_refused(monkeypatch):
    monkeypatch.setattr(c, "_HEAD_SIZE", object.__basicsize__ + 8)
    with pytest.raises(BackendError, match="laid out in another way; use 'numpy'"):
        c.C()


def test_windows_is_refused(monkeypatch):
    monkeypatch.setattr(c.os, "name", "nt")
    with pytest.raises(BackendError, match="need POSIX"):
        c.C()


def test_without_openblas_products_are_numpys(monkeypatch):
    monkeypatch.setattr(openblas, "products", lambda: [0] * 4)
    other = c.C()
    assert not other._product(drawn(3, 4), drawn(4, 2), np.empty((3, 2)))
