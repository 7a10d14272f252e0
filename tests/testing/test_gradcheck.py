"""The two functions that users call: gradcheck and assert_detects."""

import warnings

import numpy as np
import pytest

from scratchnet import Tensor, functions, testing
from scratchnet.testing import GradientError, GradientReport, assert_detects, gradcheck
from tests.testing.examples import (
    DATA,
    KINK,
    WEIGHTS,
    X,
    mean_squared,
    mean_squared_gradient,
    needle,
    quadratic,
    quadratic_gradient,
    report_of,
    softmax_vjp,
)

# --- Raising ------------------------------------------------------------------------

BAD = (quadratic, lambda x: 1.01 * quadratic_gradient(x))


def test_a_gradient_that_is_not_accepted_raises():
    with pytest.raises(GradientError) as caught:
        gradcheck(BAD, X)
    report = caught.value.report
    assert isinstance(caught.value, AssertionError)
    assert str(caught.value) == str(report)
    assert report == gradcheck(BAD, X, raise_exception=False)
    assert report.verdict == "wrong"
    assert caught.value.__cause__ is None


def test_an_accepted_gradient_returns_its_report():
    assert gradcheck((quadratic, quadratic_gradient), X).verdict == "pass"
    kink = (lambda x: np.sum(np.abs(x)), np.sign)
    assert gradcheck(kink, np.zeros(2), allow=KINK).verdict == "kink"
    with pytest.raises(GradientError, match="KINK"):
        gradcheck(kink, np.zeros(2))


@pytest.mark.parametrize("check", [gradcheck, assert_detects])
def test_the_traceback_that_pytest_shows_ends_in_the_callers_line(check):
    def visible(f):
        with pytest.raises((GradientError, ZeroDivisionError)) as caught:
            check(f, X)
        return caught.traceback.filter(caught)[-1]

    def breaks(x):
        return 1 / 0

    assert visible(BAD).name == "visible"
    assert visible((breaks, breaks)).name == "breaks"


def test_errors_of_f_reach_the_caller():
    def f(x):
        raise KeyError("mine")

    with pytest.raises(KeyError):
        gradcheck(f, X)
    with pytest.raises(KeyError):
        gradcheck((f, f), X)


# --- Side effects -------------------------------------------------------------------


def test_probing_is_silent_and_keeps_warning_filters():
    def f(x):
        if np.any(np.asarray(x) != X):
            warnings.warn("off the point", RuntimeWarning, stacklevel=1)
        return np.log(np.abs(x)) + np.abs(x) / x

    filters = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradcheck((f, lambda g, x: g / x), X)
        gradcheck((np.log, lambda g, x: g / x), np.array([1e-3, 2.0]))
    assert list(warnings.filters) == filters


def test_f_may_write_into_its_arguments():
    def f(x):
        x *= x
        return np.sum(x)

    kept = X.copy()
    gradcheck((f, lambda x: 2 * x), X)
    np.testing.assert_array_equal(X, kept)


def test_the_same_seed_gives_the_same_report():
    wrong = (quadratic, lambda x: quadratic_gradient(x) * 1.001)
    a, b = report_of(wrong, X, rng=5), report_of(wrong, X, rng=np.random.default_rng(5))
    assert a == b
    assert report_of(wrong, X, rng=6).index is not None


TWICE = Tensor(X, requires_grad=True)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gradcheck(3, X), TypeError, "a function of Tensors, or a pair"),
        (lambda: gradcheck((np.exp,), X), TypeError, "pair"),
        (lambda: gradcheck(np.exp, 1), TypeError, "no input can be differentiated"),
        (lambda: gradcheck(np.exp, X + 1j), TypeError, "must be real"),
        (lambda: gradcheck(np.argmax, X), TypeError, "int64"),
        (lambda: gradcheck((np.exp, lambda x: x), X), TypeError, r"vjp\(g, \*inputs\)"),
        (lambda: gradcheck((np.sum, lambda: 0), X), TypeError, r"gradient\(\*inputs\)"),
        (lambda: gradcheck(np.exp, X, order=3), ValueError, "1 or 2"),
        (lambda: gradcheck((np.sum, np.ones_like), X, order=2), ValueError, "order=2"),
        (lambda: gradcheck(np.exp, X, oracle="magic"), ValueError, "magic"),
        (lambda: gradcheck(np.exp, X, allow=("fine",)), ValueError, "fine"),
        (lambda: gradcheck(np.exp, X, allow="kink"), ValueError, "kink"),
        (lambda: gradcheck(np.add, [TWICE, TWICE]), ValueError, "twice"),
    ],
)
def test_misuse_raises_a_clear_error(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- assert_detects -----------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2])
def test_detects_on_tensors(order):
    assert_detects(lambda x, W: np.tanh(x @ W), (DATA[:3], WEIGHTS), order=order)
    assert_detects(lambda x: np.abs(x) * x, X[:2], order=order)


def test_detects_on_pairs():
    assert_detects((mean_squared, mean_squared_gradient), WEIGHTS)
    assert_detects((functions.softmax, softmax_vjp), X[:2], oracle="ridders")
    x, f, gradient = needle("analytic", 3)
    assert_detects((f, gradient), x)


def test_detects_says_which_change_went_unnoticed(monkeypatch):
    def blind(f, *args, **kwargs):
        return GradientReport("pass", True, "nothing seen")

    monkeypatch.setattr(testing, "check", blind)
    with pytest.raises(GradientError, match=r"was changed \(sign\)"):
        assert_detects((mean_squared, mean_squared_gradient), WEIGHTS)


def test_detects_refuses_a_check_that_cannot_fail():
    with pytest.raises(GradientError, match="is 0"):
        assert_detects((lambda x: np.sum(0 * x), np.zeros_like), X)
