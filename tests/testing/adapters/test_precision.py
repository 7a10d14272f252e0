"""dtype=float32: f is called in that precision only."""

import numpy as np
import pytest

from scratchnet.testing import gradcheck
from tests.testing.examples import report_of


def kernel(x):
    assert x.dtype == np.float32
    return np.tanh(x)


def vjp(g, x):
    assert x.dtype == g.dtype == np.float32
    return g * (1 - np.tanh(x) ** 2)


@pytest.mark.parametrize("shape", [(5,), (9, 12), (40, 40)])
def test_a_kernel_that_refuses_float64(shape):
    x = np.random.default_rng(2).normal(size=shape)
    report = gradcheck((kernel, vjp), x, dtype=np.float32)
    assert "f was called in float32 only" in str(report)
    assert report.blind < 1
    gradcheck((kernel, vjp), x.astype(np.float32))  # f refuses float64

    def wrong(g, x):
        found = vjp(g, x)
        found[(1,) * x.ndim] *= np.float32(1.05)
        return found

    report = report_of((kernel, wrong), x, dtype=np.float32)
    assert (report.verdict, report.index) == ("wrong", (1,) * x.ndim)


def network(seed, shape):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4, shape[0])).astype(np.float32)
    W = rng.normal(size=shape).astype(np.float32) / np.float32(shape[0] ** 0.5)
    return (
        lambda W: np.sum(np.maximum(x @ W, 0) ** 2),
        lambda W: x.T @ (2 * np.maximum(x @ W, 0)),
        W,
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(5, 4), (20, 20), (60, 50)])
def test_right_and_wrong_gradients_of_small_networks(seed, shape):
    f, gradient, W = network(seed, shape)
    report = report_of((f, gradient), W, dtype=np.float32)
    assert report.verdict == "pass", report
    for factor in (-1, 1.05):
        scaled = lambda W, factor=factor: np.float32(factor) * gradient(W)
        report = report_of((f, scaled), W, dtype=np.float32)
        assert report.verdict == "wrong", report
    report = report_of((f, lambda W: np.roll(gradient(W), 1, 0)), W, dtype=np.float32)
    assert (report.verdict, report.mistake) == ("wrong", "shifted")


def test_the_report_says_how_small_an_error_of_all_entries_would_show():
    f, gradient, W = network(0, (100, 100))
    report = report_of((f, gradient), W, dtype=np.float32)
    assert ", all together by " in str(report)
    assert report.calls < 5000


def test_order_2_and_complex_numbers_in_float32():
    a, b = np.random.default_rng(2).normal(size=(2, 3))
    z = (a + 1j * b).astype(np.complex64)

    def square(z):
        assert z.dtype == np.complex64
        return z**2

    report = gradcheck((square, lambda g, z: g * (2 * z).conj()), z, dtype=np.float32)
    assert "complex gradients" in str(report)


@pytest.mark.parametrize("dtype", [int, complex, "U3"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match="real floating dtype"):
        gradcheck((kernel, vjp), np.ones(3), dtype=dtype)


def test_float16():
    x = np.random.default_rng(2).normal(size=6)
    f, gradient = np.square, lambda g, x: 2 * g * x
    report = report_of((f, gradient), x, dtype=np.float16)
    assert report.verdict in ("pass", "noisy"), report
    wrong = lambda g, x: -gradient(g, x)
    assert report_of((f, wrong), x, dtype=np.float16).verdict == "wrong"
