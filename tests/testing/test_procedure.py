"""The verdicts of a check, except those at kinks."""

import math

import numpy as np
import pytest

from scratchnet import functions
from scratchnet.testing import GradientError, gradcheck
from tests.testing.examples import X, quadratic, report_of


def test_wrong_shape_none_and_count_are_named():
    def of(gradient):
        return report_of((lambda a, b: np.sum(a * b), gradient), (X, X + 1))

    report = of(lambda a, b: (b[:2], a))
    assert report.verdict == "wrong"
    assert "gradient of a has shape (2, 4); a has shape (5, 4)" in str(report)
    report = of(lambda a, b: (b, None))
    assert (report.verdict, report.input, report.analytic) == ("wrong", "b", 0)
    report = of(lambda a, b: b)
    assert report.verdict == "wrong"
    assert "1 gradients returned for 2 inputs" in str(report)
    report = of(lambda a, b: (b * 1j, a))
    assert "dtype complex128" in str(report)


def test_a_gradient_that_raises_is_wrong_and_keeps_its_traceback():
    def gradient(x):
        raise RuntimeError("broken")

    report = report_of((quadratic, gradient), X)
    assert report.verdict == "wrong"
    assert "the gradient raised RuntimeError: broken" in str(report)
    with pytest.raises(GradientError) as caught:
        gradcheck((quadratic, gradient), X)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_gradients_are_wrong_and_named(bad):
    def gradient(x):
        g = 3 * x * x
        g[1, 2] = bad
        return g

    report = report_of((quadratic, gradient), X)
    assert (report.verdict, report.index) == ("wrong", (1, 2))
    assert not math.isfinite(report.analytic)
    assert report.numeric == pytest.approx(3 * X[1, 2] ** 2)


def test_a_non_finite_function_is_named():
    with np.errstate(all="ignore"):
        report = report_of((np.log, lambda g, x: g / x), np.array([1.0, -1.0]))
    assert report.verdict == "noisy"
    assert "f[1] itself is nan" in str(report)


def test_nondeterministic():
    rng = np.random.default_rng(0)
    f = (lambda x: np.sum(x * x * (rng.random(x.shape) < 0.5)), lambda x: 2 * x)
    report = report_of(f, X)
    assert report.verdict == "nondeterministic"
    assert "for the same inputs" in str(report)
    f = (lambda x: np.sum(x * x), lambda x: 2 * x * (rng.random(x.shape) < 0.5))
    assert report_of(f, X).verdict == "nondeterministic"


def test_noisy():
    def coarse(x):
        return np.float64(np.float16(np.sum(np.abs(x) ** 3)))

    report = report_of((coarse, lambda x: 3 * x * np.abs(x)), X)
    assert report.verdict == "noisy"
    assert report_of((coarse, lambda x: 3 * x * np.abs(x)), X, allow=("noisy",)).ok
    # A large error is found all the same.
    assert report_of((coarse, lambda x: -30 * x * np.abs(x)), X).verdict == "wrong"


def test_entries_hidden_by_rounding_are_counted_as_unchecked():
    """1e9 + f is accurate to 1e-7: enough for some entries, not for all."""
    c = np.array([1.0, 1.0, 1e-6])
    pair = (lambda x: 1e9 + np.sum(c * np.abs(x)), lambda x: c * np.sign(x))
    report = report_of(pair, np.array([1.0, -2.0, 1.5]))
    assert report.verdict == "noisy"
    assert report.differ == 1


def test_vacuous():
    pair = (lambda a, b: np.sum(a * a), lambda a, b: (2 * a, np.zeros_like(b)))
    report = report_of(pair, (X, X))
    assert (report.verdict, report.input, report.ok) == ("vacuous", "b", False)
    assert report_of(pair, (X, X), allow=("vacuous",)).ok
    report = report_of(lambda a, b: a * a, (X, X))
    assert "no gradient reached b" in str(report)
    # Zero up to rounding: a shift before a softmax.
    y = (lambda b: np.sum(functions.softmax(X + b) * X), lambda b: b * 0 + 1e-17)
    assert report_of(y, np.array(0.3)).verdict == "vacuous"
    # Single entries may be zero.
    pad = lambda g: np.pad(g, [(0, 3), (0, 0)])
    assert report_of((lambda a: a[:2] ** 2, lambda g, a: 2 * a * pad(g)), X).ok


def test_an_empty_input_is_vacuous():
    report = report_of(lambda a, b: np.sum(a) + np.sum(b), (X, np.zeros((0, 3))))
    assert report.verdict == "vacuous"
    assert "no entries" in str(report)


def test_a_backward_that_returns_zeros_is_caught_where_ones_would_hide_it():
    pair = (functions.softmax, lambda g, x: np.zeros_like(x))
    report = report_of(pair, X)
    assert report.verdict == "wrong"
    y = functions.softmax(X)
    seen_by_ones = y * (1 - np.sum(y, axis=-1, keepdims=True))
    assert np.allclose(seen_by_ones, 0)


def test_a_cotangent_that_the_backward_ignores_is_caught():
    f = (lambda x: np.sum(x * x), lambda g, x: 2 * x)
    assert report_of(f, X).verdict == "wrong"
