"""Functions of the table in C against the same functions in NumPy's calls."""

import numpy as np
import pytest

from scratchnet import Tensor, backend, functions, grad, losses
from scratchnet.table import TABLE
from tests.backend import compiled
from tests.helpers import using

pytestmark = compiled.needs_compiler

both_widths = pytest.mark.parametrize("dtype", [np.float32, np.float64])

FUNCTIONS = {
    "relu": (functions.relu, 1),
    "leaky_relu": (functions.leaky_relu, 1),
    "leaky_relu, 0.5": (lambda x: functions.leaky_relu(x, 0.5), 1),
    "leaky_relu, slope": (lambda x: functions.leaky_relu(x, slope=0.3), 1),
    "sigmoid": (functions.sigmoid, 1),
    "cross-entropy": (losses._cross_entropy, 2),
    "squared difference": (losses._squared_difference, 2),
    "a row is added": (np.add, 0),
}
FUSED = [functions.relu, functions.leaky_relu, functions.sigmoid,
         losses._cross_entropy, losses._squared_difference]  # fmt: skip

SPECIAL = [0, -0.0, 1e-40, -1e-40, 200, -200, np.inf, -np.inf, np.nan, 1e-7, -1e-7]


def inputs(n, dtype, special):
    rng = np.random.default_rng(0)
    made = [rng.normal(size=(40, 33)).astype(dtype) for _ in range(n or 1)]
    if special:
        made[0][: len(SPECIAL), 0] = SPECIAL
    return made if n else [*made, rng.normal(size=33).astype(dtype)]


def results(f, arrays, weights):
    """Return a value, its gradients for weights of the entries, and those of a sum."""
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    y = f(*tensors)
    y.backward(weights)
    yield y.data
    yield from (t.grad for t in tensors)
    with np.errstate(over="ignore"):
        np.sum(f(*tensors)).backward()
    yield from (t.grad for t in tensors)


@both_widths
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_derivatives(name, special, dtype):
    f, n = FUNCTIONS[name]
    arrays = inputs(n, dtype, special)
    weights = np.random.default_rng(1).normal(size=(40, 33)).astype(dtype)
    with np.errstate(all="ignore"):
        expected = list(results(f, arrays, weights))
        with using("c"):
            found = list(results(f, arrays, weights))
    limit = 8 * np.finfo(dtype).eps
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=limit, atol=limit)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_kernels_ran(name, monkeypatch):
    """One for the value, one for each derivative that C has."""
    f, n = FUNCTIONS[name]
    arrays = inputs(n, np.float32, special=False)
    ran = []
    with using("c") as library:
        run = library.run_kernel

        def counted(kernel, arguments):
            ran.append(run(kernel, arguments))
            return ran[-1]

        monkeypatch.setattr(library, "run_kernel", counted)
        for _ in results(f, arrays, np.ones((40, 33), np.float32)):
            pass
    assert all(ran)
    derivatives = {"a row is added": 0, "squared difference": 2}.get(name, 1)
    assert len(ran) == 2 * (1 + derivatives)


@pytest.mark.parametrize(
    "x",
    [
        pytest.param(np.ones((4, 5)), id="small"),
        pytest.param(np.ones((80, 80))[::2, ::2], id="with gaps"),
        pytest.param(np.ones((40, 40), np.longdouble), id="long doubles"),
        pytest.param(np.ones((40, 40), int), id="integers"),
        pytest.param(np.ones((0, 40)), id="empty"),
    ],
)
@pytest.mark.parametrize("f", [functions.relu, functions.sigmoid])
def test_numpy_computes_other_arrays(f, x):
    expected = f(x)
    with using("c"):
        y = f(Tensor(x))
    np.testing.assert_array_equal(y.data, expected)
    assert y.dtype == expected.dtype


def test_a_float64_partner():
    """A rule may get a g of another dtype: the gradient keeps that of its input."""
    x = np.random.default_rng(0).normal(size=(40, 33)).astype(np.float32)
    w = np.random.default_rng(1).normal(size=(40, 33))
    gradient = grad(lambda x: np.sum(functions.sigmoid(x) * w))
    expected = gradient(x)
    with using("c"):
        found = gradient(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("f", [functions.sigmoid, losses._squared_difference])
def test_second_derivatives(f):
    a = np.random.default_rng(0).normal(size=(40, 33))
    arguments = [a] if f is functions.sigmoid else [a, a[::-1].copy()]

    def slope(x):
        return np.sum(np.square(grad(lambda x: np.sum(f(x, *arguments[1:])))(x)))

    expected = grad(slope)(a)
    with using("c"):
        found = grad(slope)(a)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_a_slope_that_is_a_tensor():
    x = np.random.default_rng(0).normal(size=(40, 33))
    with using("c"):
        slope = Tensor(0.3, requires_grad=True)
        np.sum(functions.leaky_relu(x, slope)).backward()
    np.testing.assert_allclose(slope.grad, np.sum(np.minimum(x, 0)), rtol=1e-6)


def test_the_table_is_as_before_when_the_backend_is_left():
    before = [(TABLE[f].forward, TABLE[f].rules) for f in (np.add, *FUSED)]
    with using("c"):
        during = [(TABLE[f].forward, TABLE[f].rules) for f in (np.add, *FUSED)]
    assert backend.name() == "numpy" or during == before
    assert [(TABLE[f].forward, TABLE[f].rules) for f in (np.add, *FUSED)] == before
