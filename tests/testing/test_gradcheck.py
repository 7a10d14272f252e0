"""The gradient checker, checked: right gradients pass, and each wrong one is named."""

import math
import re
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnet import Tensor, functions, grad, no_grad, primitive, rule, testing
from scratchnet.testing import (
    GradientError,
    GradientReport,
    assert_detects,
    gradcheck,
    strategies,
)
from scratchnet.testing import probe as probing
from scratchnet.testing.oracles import Line
from scratchnet.testing.probe import Probe
from scratchnet.testing.problems import Pair
from tests.testing import gradient_pairs as pairs

R = np.random.default_rng(0)
X = R.normal(size=(5, 4))
SQUARE = R.normal(size=(4, 4))
KINK = ("kink",)
TIED = np.array([1.0, 3.0, 3.0, 1.0])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def quadratic(x):
    return np.sum(x * x * x)


def quadratic_gradient(x):
    return 3 * x * x


def report_of(*args, **options):
    """Check a gradient; return the report whatever it says."""
    return gradcheck(*args, raise_exception=False, **options)


# --- The message --------------------------------------------------------------------


def test_message_names_the_entry_the_numbers_the_pattern_and_the_rule():
    @primitive
    def scaled(W, b):
        return W * b

    row = np.ones((28, 28))
    row[17, ::2] = 1.01
    rule(scaled, lambda g, y, W, b: g * b, lambda g, y, W, b: g * W * row)
    W, b = R.normal(size=(2, 28, 28))
    report = report_of(lambda W, b: np.sum(np.tanh(scaled(W, b))), (W, b))
    lines = str(report).splitlines()
    i, j = report.index
    assert i == 17
    assert j % 2 == 0
    assert lines[0] == f"gradcheck: WRONG  d f/d b[17, {j}]"
    assert lines[1] == f"  analytic   {report.analytic:.7g}"
    assert lines[2].startswith(
        f"  numeric    {report.numeric:.7g}  (complex step, error"
    )
    assert lines[3].startswith("  worst of 784 entries; 14 differ; they share row 17")
    assert lines[4:] == ["  rule: scaled, argument 1"]
    truth = W[17, j] / np.cosh(W[17, j] * b[17, j]) ** 2
    assert report.numeric == pytest.approx(truth, rel=1e-13)
    assert report.analytic == pytest.approx(1.01 * truth, rel=1e-13)
    assert report.error < 1e-12
    assert (report.verdict, report.ok, report.differ) == ("wrong", False, 14)
    assert (report.entries, report.oracle, report.input) == (784, "complex step", "b")
    assert not report


def test_a_bare_pair_has_no_rule_and_its_pattern_is_said():
    wrong = (quadratic, lambda x: quadratic_gradient(x) * np.where(X == X, 1.5, 1))
    report = report_of(wrong, X)
    assert "rule" not in str(report)
    assert "it is all of them; analytic / numeric = 1.5 in each" in str(report)
    column = np.where(np.arange(4) == 2, 0.5, 1)
    report = report_of((quadratic, lambda x: quadratic_gradient(x) * column), X)
    assert report.pattern.startswith("they share column 2")
    transposed = (lambda x: np.sum(x**3 * SQUARE), lambda x: (3 * x**2 * SQUARE).T)
    assert "transpose" in report_of(transposed, SQUARE + 3).pattern
    missing = (quadratic, lambda x: quadratic_gradient(x) * (np.arange(4) < 3))
    assert "each is 0" in report_of(missing, X).pattern


def test_a_pass_says_how_small_an_error_would_have_shown():
    report = report_of((quadratic, quadratic_gradient), X)
    assert report
    assert report.ok
    assert report.verdict == "pass"
    assert str(report).startswith("gradcheck: pass  d f/d (x): none of 20 entries")
    assert report.blind < 1e-10
    assert report.oracle == "complex step"
    assert report.calls > 0
    with pytest.raises(AttributeError):
        report.ok = False


def test_names_come_from_tensors_then_from_f_then_from_positions():
    def f(weight, *others):
        return np.sum(weight * others[0] * others[1])

    named = Tensor(SQUARE, requires_grad=True, name="layer.W")
    report = report_of(f, (SQUARE, SQUARE, named))
    assert "d f/d (weight, others[0], layer.W)" in str(report)
    report = report_of((np.hypot, lambda g, *xs: xs), (X, X))
    assert report.input in ("input 0", "x1", "x")


def test_every_wrong_input_is_mentioned():
    pair = (lambda a, b: np.sum(a * b), lambda a, b: (2 * b, 3 * a))
    text = str(report_of(pair, (X, X)))
    assert "d f/d a[" in text
    assert "also wrong: b (20 differ)" in text


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


# --- Verdicts -----------------------------------------------------------------------


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


def test_what_f_raises_is_the_callers():
    def f(x):
        raise KeyError("mine")

    with pytest.raises(KeyError):
        gradcheck(f, X)
    with pytest.raises(KeyError):
        gradcheck((f, f), X)


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


@pytest.mark.parametrize(
    ("f", "gradient", "left", "right"),
    [
        (np.abs, lambda g, x: g * np.sign(x), -1, 1),
        (lambda x: np.maximum(x, 0), lambda g, x: g * (x > 0), 0, 1),
        (lambda x: np.maximum(x, 0), lambda g, x: g * (x >= 0), 0, 1),
        (lambda x: np.maximum(x, 0), lambda g, x: g * np.heaviside(x, 0.5), 0, 1),
    ],
)
def test_kink(f, gradient, left, right):
    x = np.array([1.0, 0.0, -1.0])
    report = report_of((f, gradient), x)
    assert (report.verdict, report.index, report.ok) == ("kink", (1,), False)
    assert report_of((f, gradient), x, allow=KINK).ok
    sides = str(report).splitlines()[2].split()
    c = report.cotangent[1]
    found = sorted(float(sides[k]) / c for k in (1, 3))
    assert found == pytest.approx(sorted([left, right]), abs=1e-6)


def test_no_convention_excuses_a_slope_that_neither_side_has():
    pair = (lambda x: np.sum(np.abs(x)), lambda x: np.where(x == 0, 5, np.sign(x)))
    report = report_of(pair, np.array([1.0, 0.0]))
    assert (report.verdict, report.index) == ("wrong", (1,))
    assert "kink" in str(report)


def test_a_tie_is_a_kink():
    def gradient(x):
        ties = x == np.max(x)
        return ties / np.sum(ties)

    report = report_of((np.max, gradient), np.array([1.0, 3.0, 3.0]))
    assert report.verdict == "kink"
    assert report.differ == 2


def test_a_jump_and_an_edge_are_kinks_that_say_so():
    jump = (lambda x: np.sum(np.floor(x) + x), np.ones_like)
    report = report_of(jump, np.array([0.5, 2.0]))
    assert (report.verdict, report.index) == ("kink", (1,))
    assert "it jumps" in str(report)
    root = (lambda x: np.sum(np.sqrt(x)), lambda x: 0.5 / np.sqrt(x))
    with np.errstate(divide="ignore"):
        report = report_of(root, np.array([1.0, 0.0]))
    assert (report.verdict, report.index) == ("kink", (1,))
    assert "one side" in str(report)


@pytest.mark.parametrize("distance", [1e-2, 1e-5, -1e-5, 1e-7, -1e-8])
def test_a_point_near_a_kink_passes_if_right_and_fails_if_wrong(distance):
    f, x = lambda x: np.sum(np.abs(x)), np.array([distance])
    assert report_of((f, np.sign), np.array([1.0, distance, -1.0])).ok
    report = report_of((f, np.ones_like), x)
    assert report.verdict == ("pass" if distance > 0 else "wrong")
    assert report_of((f, np.zeros_like), x).verdict == "wrong"
    # Beside a smooth part that hides it at larger steps.
    pair = (lambda x: np.exp(x) + 1e-3 * np.abs(x), lambda g, x: g * np.exp(x))
    assert report_of(pair, x).verdict == "wrong"


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
    # A wild error shows even so.
    assert report_of((coarse, lambda x: -30 * x * np.abs(x)), X).verdict == "wrong"


def test_entries_that_rounding_hides_are_counted_and_not_passed():
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
    # Zero but for rounding: a shift before a softmax.
    y = (lambda b: np.sum(functions.softmax(X + b) * X), lambda b: b * 0 + 1e-17)
    assert report_of(y, np.array(0.3)).verdict == "vacuous"
    # Single entries may be zero.
    pad = lambda g: np.pad(g, [(0, 3), (0, 0)])
    assert report_of((lambda a: a[:2] ** 2, lambda g, a: 2 * a * pad(g)), X).ok


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


# --- Right gradients ----------------------------------------------------------------

# Functions for which the complex step is silently wrong, or raises.
HOSTILE = {
    "abs": lambda x: np.abs(x),
    "var": lambda x: np.var(x, axis=0),
    "std": lambda x: np.std(x, axis=1),
    "norm": lambda x: np.linalg.norm(x, axis=0),
    "vector_norm": lambda x: np.linalg.vector_norm(x),
    "vecdot": lambda x: np.vecdot(x, x),
    "slogdet": lambda x: np.linalg.slogdet(x @ x.T + np.eye(5))[1],
    "cholesky": lambda x: np.linalg.cholesky(x @ x.T + np.eye(5)),
    "sign": lambda x: x * np.sign(x),
    "conjugate": lambda x: x * np.conjugate(x),
    "cast": lambda x: x * x.astype(np.float32),
    "cross-entropy": lambda a: np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a))),
    "softplus": functions.softplus,
    "sigmoid": functions.sigmoid,
    "logsumexp": functions.logsumexp,
    "logaddexp": lambda x: np.logaddexp(x, 1.0),
    "hypot": lambda x: np.hypot(x, 2.0),
    "arctan2": lambda x: np.arctan2(x, 2.0),
    "cbrt": lambda x: np.cbrt(x),
    "remainder": lambda x: np.remainder(x, 0.7),
    "fmax": lambda x: np.fmax(x, 0.1),
    "sort": lambda x: np.sort(x, axis=0) * X,
    "abs of one entry": lambda x: np.concatenate(
        [np.abs(x[:1, 0]), np.exp(x.ravel()[1:])]
    ),
}


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_right_gradient_passes_where_the_complex_step_fails(name, order):
    gradcheck(HOSTILE[name], X, order=order, allow=("vacuous",))


def by_hand(f):
    """Make a pair of a function of Tensors: the engine's gradient as bare functions."""

    def vjp(g, x):
        return grad(lambda x: np.sum(f(x) * g))(x)

    return f, vjp


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("oracle", ["auto", "ridders"])
def test_the_same_as_pairs_and_their_mutants_are_caught(name, oracle):
    f, vjp = by_hand(HOSTILE[name])
    if np.ndim(f(X)) == 0:
        vjp = lambda x: grad(HOSTILE[name])(x)
        bad = lambda x: vjp(x) * 1.001
    else:
        bad = lambda g, x: vjp(g, x) * 1.001
    gradcheck((f, vjp), X, oracle=oracle)
    assert report_of((f, bad), X, oracle=oracle).verdict == "wrong"


EDGES = {
    "log near 0": (np.log, lambda g, x: g / x, np.array([1.0, 1e-9, 1e-3])),
    "log at 1e-300": (np.log, lambda g, x: g / x, np.array([1e-300])),
    "sqrt near 0": (np.sqrt, lambda g, x: g / 2 / np.sqrt(x), np.array([1e-12, 4.0])),
    "arcsin near 1": (
        np.arcsin,
        lambda g, x: g / np.sqrt((1 - x) * (1 + x)),
        np.array([1 - 1e-9, 0.0]),
    ),
    "power of a negative": (
        lambda x: np.abs(x) ** 1.5,
        lambda g, x: 1.5 * g * np.sign(x) * np.abs(x) ** 0.5,
        np.array([-1e-6, 2.0]),
    ),
    "huge": (np.square, lambda g, x: 2 * g * x, np.array([1e150, 3e149])),
    "tiny": (np.abs, lambda g, x: g * np.sign(x), np.array([1e-150, -3e-150])),
    "mixed sizes": (np.abs, lambda g, x: g * np.sign(x), np.array([1e-8, -1.0, 1e8])),
    "fast": (lambda x: np.sin(1e4 * x), lambda g, x: 1e4 * g * np.cos(1e4 * x), X),
    "overflow beyond": (np.exp, lambda g, x: g * np.exp(x), np.array([705.0, 1.0])),
    "period of the steps": (
        lambda x: np.cos(16 * np.pi * x) + x,
        lambda g, x: g * (1 - 16 * np.pi * np.sin(16 * np.pi * x)),
        np.array([1.0, 2.0]),
    ),
    "plateau": (
        lambda x: np.where(np.abs(x) < 1e-3, 0, np.abs(x) - 1e-3) ** 2,
        lambda g, x: 2 * g * np.sign(x) * np.maximum(np.abs(x) - 1e-3, 0),
        np.array([1.0, -0.5, 2e-3]),
    ),
    "scalar": (lambda x: x**3, lambda x: 3 * x * x, np.array(0.3)),
    "python float": (lambda x: math.sin(x) * 1.0, lambda x: math.cos(x), 0.3),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("oracle", ["auto", "ridders"])
def test_steps_shrink_into_the_domain(name, oracle):
    f, gradient, x = EDGES[name]
    f_array = lambda x: np.asarray(f(x))
    gradcheck((f_array, gradient), x, oracle=oracle)


def test_cholesky_of_a_nearly_singular_matrix():
    """Most steps leave the domain, and NumPy raises there."""
    low = np.tril(SQUARE) * np.array([1, 1, 1, 1e-2])

    def f(a):
        return np.sum(np.linalg.cholesky(a + a.T) * X[:4])

    gradcheck(lambda a: np.linalg.cholesky(a + a.T) * X[:4], low @ low.T / 2)
    assert np.isfinite(f(low @ low.T / 2))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_random_right_gradients_pass(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 5, rng.integers(0, 3)))
    x = rng.normal(size=shape) * 10.0 ** rng.uniform(-3, 3)
    a, b, c = rng.normal(size=3)
    f = lambda x: c * np.abs(x - a) + np.tanh(b * x) * np.hypot(x, a)
    df = lambda g, x: (
        g
        * (
            c * np.sign(x - a)
            + b / np.cosh(b * x) ** 2 * np.hypot(x, a)
            + np.tanh(b * x) * x / np.hypot(x, a)
        )
    )
    with np.errstate(over="ignore"):
        report = report_of((lambda x: np.asarray(f(x)), df), x, rng=seed)
    assert report.verdict == "pass"


# --- Wrong gradients ----------------------------------------------------------------

N, D, K = 6, 4, 4
DATA, TARGET = R.normal(size=(N, D)), R.normal(size=(N, K))
WEIGHTS, BIAS = R.normal(size=(D, K)), R.normal(size=K)


def mean_squared(W):
    return np.mean((DATA @ W - TARGET) ** 2)


def mean_squared_gradient(W):
    return 2 * DATA.T @ (DATA @ W - TARGET) / TARGET.size


def softmax_vjp(g, x):
    y = functions.softmax(x)
    return y * (g - np.sum(g * y, axis=-1, keepdims=True))


def detached(W):
    """The target is a constant, although it was computed with W."""
    return np.mean((DATA @ W - np.tanh(DATA @ WEIGHTS)) ** 2)


def undetached_gradient(W):
    off = 2 * (DATA @ W - np.tanh(DATA @ WEIGHTS)) / TARGET.size
    return DATA.T @ (off - off / np.cosh(DATA @ WEIGHTS) ** 2)


# name: (function, right gradient or vjp, classic bug in it, inputs)
BUGS = {
    "lost 1/N": (
        mean_squared,
        mean_squared_gradient,
        lambda W: mean_squared_gradient(W) * TARGET.size,
        (WEIGHTS,),
    ),
    "sigma for sigma (1 - sigma)": (
        sigmoid,
        lambda g, x: g * sigmoid(x) * (1 - sigmoid(x)),
        lambda g, x: g * sigmoid(x),
        (X,),
    ),
    "missing transpose": (
        lambda x, W: x @ W,
        lambda g, x, W: (g @ W.T, x.T @ g),
        lambda g, x, W: (g @ W, x.T @ g),
        (DATA, WEIGHTS),
    ),
    "missing un-broadcast": (
        lambda x, b: x + b,
        lambda g, x, b: (g, g.sum(axis=0)),
        lambda g, x, b: (g, g[0]),
        (TARGET, BIAS),
    ),
    "un-broadcast left to the caller": (
        lambda x, b: x * b,
        lambda g, x, b: (g * b, (g * x).sum(axis=0)),
        lambda g, x, b: (g * b, g * x),
        (TARGET, BIAS),
    ),
    "missing detach": (
        detached,
        lambda W: 2 * DATA.T @ (DATA @ W - np.tanh(DATA @ WEIGHTS)) / TARGET.size,
        undetached_gradient,
        (WEIGHTS,),
    ),
    "softmax without the off-diagonal": (
        functions.softmax,
        softmax_vjp,
        lambda g, x: g * functions.softmax(x) * (1 - functions.softmax(x)),
        (X,),
    ),
    "sign": (
        lambda a, b: a - b,
        lambda g, a, b: (g, -g),
        lambda g, a, b: (g, g),
        (X, X + 1),
    ),
    "one branch of a product": (
        lambda x: x * np.exp(x),
        lambda g, x: g * (1 + x) * np.exp(x),
        lambda g, x: g * np.exp(x),
        (X,),
    ),
    "gradient of the flipped condition": (
        lambda x: np.where(x > 0, x, 0.1 * x),
        lambda g, x: g * np.where(x > 0, 1, 0.1),
        lambda g, x: g * np.where(x > 0, 0.1, 1),
        (X,),
    ),
    "0.1 % in one entry": (
        np.exp,
        lambda g, x: g * np.exp(x),
        lambda g, x: g * np.exp(x) * np.where(X == X[2, 3], 1.001, 1),
        (X,),
    ),
    "0.1 % in one entry, not analytic": (
        lambda x: np.abs(x) ** 1.5,
        lambda g, x: 1.5 * g * np.sign(x) * np.abs(x) ** 0.5,
        lambda g, x: 1.5 * g * np.sign(x) * np.abs(x) ** 0.5
        * np.where(X == X[2, 3], 0.999, 1),
        (X,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("oracle", ["auto", "ridders"])
@pytest.mark.parametrize("name", BUGS)
def test_classic_bugs_in_pairs(name, oracle):
    f, right, bug, inputs = BUGS[name]
    gradcheck((f, right), inputs, oracle=oracle)
    report = report_of((f, bug), inputs, oracle=oracle)
    assert report.verdict == "wrong", report
    if "0.1 %" in name:
        assert report.index == (2, 3)
        assert report.differ == 1
    if name == "lost 1/N":
        assert f"analytic / numeric = {TARGET.size} in each" in str(report)
    with pytest.raises(GradientError, match="WRONG"):
        gradcheck((f, bug), inputs, oracle=oracle)
    with pytest.raises(AssertionError):
        assert_detects((f, bug), inputs)


@pytest.mark.parametrize(
    "name", [n for n in BUGS if n not in ("lost 1/N", "missing detach")]
)
def test_classic_bugs_in_rules_are_found_and_the_rule_is_named(name):
    f, right, bug, inputs = BUGS[name]

    def function_with(vjp):
        @primitive
        def mine(*xs):
            return f(*xs)

        def pull(i):
            def one(g, y, *xs):
                found = vjp(g, *xs)
                return found[i] if isinstance(found, tuple) else found

            return one

        # The table reads the supported arguments from a signature.
        if len(inputs) == 1:
            rule(mine, lambda g, y, x: pull(0)(g, y, x))
        else:
            rule(mine, lambda g, y, a, b: pull(0)(g, y, a, b),
                 lambda g, y, a, b: pull(1)(g, y, a, b))  # fmt: skip
        return lambda *xs: np.sum(np.tanh(mine(*xs)) * 2)

    gradcheck(function_with(right), inputs)
    if name == "un-broadcast left to the caller":
        gradcheck(function_with(bug), inputs)  # in a rule this is no bug
        return
    report = report_of(function_with(bug), inputs)
    assert report.verdict == "wrong"
    assert report.rule.startswith("mine, argument ")


def test_a_lost_detach_in_a_graph():
    """The engine's gradient is right for what was written; the pair says it is not."""

    def loss(W, target):
        return np.mean((DATA @ W - target) ** 2)

    kept = lambda W: grad(lambda W: loss(W, np.tanh(DATA @ W)))(W)
    cut = lambda W: grad(lambda W: loss(W, np.tanh(DATA @ W.detach().numpy())))(
        Tensor(W, requires_grad=True)
    )
    assert report_of((detached, kept), WEIGHTS).verdict == "wrong"
    with no_grad():
        gradcheck((detached, cut), WEIGHTS)


def test_a_cut_link_in_a_graph_is_suspected():
    report = report_of(lambda x: np.sum(np.exp(x.detach() * x)), X)
    assert report.verdict == "wrong"
    assert "each function is right by itself" in report.rule


def test_exp_of_log_var_has_a_right_gradient_and_only_a_forward_check_finds_it():
    """The gradient of the wrong model is right; the sampler's variance is not."""
    eps = R.normal(size=(20_000, 2))
    mu, log_var = np.array([0.3, -1.0]), np.array([-2.0, 1.0])

    def right(mu, log_var):
        return mu + np.exp(log_var / 2) * eps

    def wrong(mu, log_var):
        return mu + np.exp(log_var) * eps

    for sampler in (right, wrong):
        small = lambda mu, log_var, sampler=sampler: sampler(mu, log_var)[:3]
        gradcheck(small, (mu, log_var))
    scatter = np.exp(log_var) * 4 * np.sqrt(2 / len(eps))
    assert np.all(
        np.abs(np.var(right(mu, log_var), axis=0) - np.exp(log_var)) < scatter
    )
    assert np.all(
        np.abs(np.var(wrong(mu, log_var), axis=0) - np.exp(log_var)) > scatter
    )


def test_what_the_complex_step_and_the_gradient_both_overlook_is_found():
    """x[3] passes through a cast: no imaginary part, and no gradient either."""

    def f(x):
        y = np.exp(x)
        y[3] += np.sin(np.real(x[3]))
        return np.sum(y)

    gradcheck((f, lambda x: np.exp(x) + (np.arange(20) == 3) * np.cos(x)), X.ravel())
    report = report_of((f, np.exp), X.ravel())
    assert (report.verdict, report.index) == ("wrong", (3,))
    large = R.normal(size=10_000)
    report = report_of((f, np.exp), large)
    assert (report.verdict, report.index) == ("wrong", (3,))


def test_errors_far_below_a_percent_are_found_in_smooth_functions():
    bad = lambda x: np.exp(x) * np.where(np.arange(20).reshape(5, 4) == 7, 1 + 1e-8, 1)
    report = report_of((lambda x: np.sum(np.exp(x)), bad), X)
    assert (report.verdict, report.index) == ("wrong", (1, 3))


# --- One wrong entry among 10,000 ---------------------------------------------------


def needle(kind, seed):
    """A function with a gradient of 10,000 entries over six orders of magnitude."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=10_000)
    c = np.exp(rng.uniform(np.log(1e-6), 0, x.size))
    if kind == "analytic":
        return x, lambda x: np.sum(c * np.tanh(x)), lambda x: c / np.cosh(x) ** 2
    if kind == "abs":
        return x, lambda x: np.sum(c * np.abs(x)), lambda x: c * np.sign(x)
    f = lambda x: np.sum(c * np.logaddexp(x, 0.3) * np.abs(x))
    df = lambda x: (
        c * (sigmoid(x - 0.3) * np.abs(x) + np.logaddexp(x, 0.3) * np.sign(x))
    )
    return x, f, df


def spoilt(gradient, x, seed):
    """Put an error of 1 % into one entry of at least 1e-6 of the largest."""
    rng = np.random.default_rng(seed)
    size = np.abs(gradient(x))
    i = int(rng.choice(np.flatnonzero(size >= 1e-6 * np.max(size))))
    factor = np.ones(x.size)
    factor[i] += rng.choice([-0.01, 0.01])
    return i, lambda x: gradient(x) * factor


def needle_experiment(kind, trials):
    for seed in range(trials):
        x, f, gradient = needle(kind, seed)
        report = report_of((f, gradient), x, rng=seed)
        assert report.verdict == "pass", f"{kind}, seed {seed}: {report}"
        i, bad = spoilt(gradient, x, seed)
        report = report_of((f, bad), x, rng=seed)
        assert report.verdict == "wrong", f"{kind}, seed {seed}: {report}"
        assert (report.index, report.differ) == ((i,), 1)


@pytest.mark.parametrize(
    ("kind", "trials"), [("analytic", 5), ("abs", 2), ("mixed", 1)]
)
def test_one_wrong_entry_in_10000(kind, trials):
    needle_experiment(kind, trials)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["analytic", "abs", "mixed"])
def test_one_wrong_entry_in_10000_a_hundred_times(kind):
    needle_experiment(kind, 100)


def test_a_large_check_of_a_cheap_function_takes_seconds():
    x, f, gradient = needle("abs", 0)
    start = time.perf_counter()
    report_of((f, gradient), x)
    assert time.perf_counter() - start < 10


def test_a_large_gradient_that_is_all_wrong_is_not_searched_to_the_end():
    x, f, gradient = needle("abs", 0)
    report = report_of((f, lambda x: -gradient(x)), x)
    assert report.verdict == "wrong"
    assert "at least 64 differ" in str(report)
    assert "analytic / numeric = -1" in str(report)
    assert report.calls < 15_000


# --- float32 ------------------------------------------------------------------------


@pytest.mark.parametrize("f", [np.tanh, np.abs, functions.softmax])
def test_float32_inputs_are_checked_in_float64_and_against_it(f):
    x = X.astype(np.float32)
    gradcheck(f, x)
    report = report_of(f, x)
    assert report.blind < 1e-3
    assert (
        report_of((np.tanh, lambda g, x: g * (1.0005 - np.tanh(x) ** 2)), x).verdict
        == "wrong"
    )


def test_float32_rounding_that_eats_the_gradient_is_noisy():
    """1 - cos x for small x is all rounding in float32."""

    def gradient(x):
        return 2 * (1 - np.cos(x)) / x**2 + 0 * x

    def f(x):  # an antiderivative of (1 - cos x) / x^2, twice, near 0
        return np.sum(x - x**3 / 36 + x**5 / 1800)

    x = np.array([1e-4, 2e-4])
    assert report_of((f, gradient), x).verdict == "pass"
    report = report_of((f, gradient), x.astype(np.float32))
    assert report.verdict == "noisy"
    assert "lost to rounding" in str(report)


def test_a_function_that_computes_in_float32_passes_to_its_own_accuracy():
    buffer = np.empty((5, 4), np.float32)

    def f(x):
        np.tanh(x, out=buffer, casting="same_kind")
        return np.sum(buffer * buffer)

    def gradient(x):
        y = np.tanh(x)
        return 2 * y * (1 - y * y)

    x = R.uniform(0.3, 1, size=(5, 4))
    gradcheck((f, gradient), x)
    assert report_of((f, lambda x: gradient(x) * 1.05), x).verdict == "wrong"


# --- Kinks of several entries -------------------------------------------------------


@pytest.mark.parametrize("name", pairs.KINKS)
def test_at_kinks_subgradients_are_accepted_and_nothing_else(name):
    f, gradient, inputs, verdict = pairs.KINKS[name]
    report = report_of((f, gradient), inputs, allow=KINK)
    assert report.verdict == verdict, report
    assert report.ok == (verdict == "kink")


def test_a_gradient_that_is_no_subgradient_is_wrong_and_says_along_what():
    f, gradient, inputs, _ = pairs.KINKS["max, both"]
    text = str(report_of((f, gradient), inputs, allow=KINK))
    assert "along (1 in a[1], 1 in a[2]) they claim 2, and the nearest slope" in text
    assert "around here is 1" in text


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (np.max, TIED),
        (np.min, TIED),
        (np.sort, np.ones(6)),
        (functions.relu, np.zeros((3, 4))),
        (np.linalg.norm, np.zeros(3)),
        (lambda x: np.clip(x, -1, 1), np.ones(3)),
        (lambda x: np.maximum(x, x[::-1]), np.ones(4)),
        (lambda x: np.max(x) - np.min(x), np.ones(4)),
        (lambda W: np.sum(np.max(DATA[:, :2] @ W, axis=1)), np.zeros((2, 3))),
    ],
)
def test_the_engines_conventions_are_subgradients(f, x):
    report = report_of(f, x, allow=KINK)
    assert report.verdict == "kink"
    assert report.ok


# --- Kinds of mistake ---------------------------------------------------------------

WRONG = [(kind, i) for kind, cases in pairs.MISTAKES.items() for i in range(len(cases))]


@pytest.mark.parametrize(("kind", "i"), WRONG)
def test_a_mistake_gets_its_own_hint(kind, i):
    f, right, wrong, inputs, words = pairs.MISTAKES[kind][i]
    assert report_of((f, right), inputs).verdict == "pass"
    report = report_of((f, wrong), inputs)
    assert (report.verdict, report.mistake) == ("wrong", kind), report
    assert words in str(report)


@pytest.mark.parametrize("name", pairs.NO_KIND)
def test_other_mistakes_get_no_hint(name):
    f, wrong, inputs = pairs.NO_KIND[name]
    report = report_of((f, wrong), inputs)
    assert (report.verdict, report.mistake) == ("wrong", None), report


def test_a_pattern_says_of_how_many_entries_it_was_seen():
    """Of 10,000 entries half are off by 2 and half by 0.5: it is not 2 in each."""
    x, f, gradient = needle("abs", 0)
    large = np.abs(gradient(x)) > np.median(np.abs(gradient(x)))
    report = report_of((f, lambda x: gradient(x) * np.where(large, 2, 0.5)), x)
    assert "at least 64 differ" in str(report)
    assert "analytic / numeric = 2 in each of the 64 that were located" in str(report)
    assert report.mistake is None
    report = report_of((f, lambda x: 2 * gradient(x)), x)
    assert report.mistake == "factor"


# --- Subclasses of ndarray ----------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_subclasses_are_plain_arrays_to_the_checker():
    M = np.matrix(SQUARE)
    pair = (lambda x: np.sum(x * x * SQUARE), lambda x: np.matrix(2 * x * SQUARE))
    gradcheck(pair, M)
    gradcheck(lambda x: x * x * SQUARE, M)
    gradcheck(pair, np.ma.masked_array(SQUARE))
    gradcheck((lambda x: np.ma.masked_array(x) ** 2, lambda g, x: 2 * g * x), X)


def test_a_mask_is_refused_by_name():
    masked = np.ma.masked_array(X, mask=X > 0)
    with pytest.raises(TypeError, match="x is a masked array"):
        gradcheck((quadratic, quadratic_gradient), masked)
    with pytest.raises(TypeError, match="what f returned is a masked array"):
        gradcheck((lambda x: np.ma.masked_array(x, X > 0), lambda g, x: g), X)
    with pytest.raises(TypeError, match="the gradient of x is a masked array"):
        gradcheck((quadratic, lambda x: np.ma.masked_array(3 * x * x, X > 0)), X)


# --- float32 near kinks -------------------------------------------------------------


@pytest.mark.parametrize("name", pairs.RIGHT)
def test_right_gradients_at_awkward_points_pass(name):
    f, gradient, x = pairs.RIGHT[name]
    assert report_of((f, gradient), x).verdict == "pass"


def networks_experiment(seeds, rows):
    """Check right float32 gradients near kinks: none is wrong, each bound is true."""
    verdicts = []
    for seed in seeds:
        f, gradient, inputs, truth = pairs.of_seed(seed, rows)
        report = report_of((f, gradient), inputs, rng=seed)
        verdicts.append(report.verdict)
        dead = any(not np.any(g) for g in truth())
        fair = ("pass", "noisy", "vacuous") if dead else ("pass", "noisy")
        assert report.verdict in fair, f"seed {seed}: {report}"
        if report.index is not None:
            names = ("X", "W") if len(inputs) == 2 else ("W", "b", "V")
            true = truth()[names.index(report.input)][report.index]
            assert abs(report.numeric - true) <= report.error, f"seed {seed}: {report}"
    return verdicts.count("pass")


def test_right_float32_gradients_near_kinks_are_never_wrong():
    assert networks_experiment(range(50), 4) >= 35


def test_a_gradient_that_is_small_beside_the_noise_is_not_called_zero():
    f, gradient, inputs, _ = pairs.of_seed(863, 4)
    assert np.max(np.abs(gradient(*inputs)[1])) > 8e-4
    assert report_of((f, gradient), inputs, rng=863).verdict == "noisy"


@pytest.mark.slow
@pytest.mark.parametrize("rows", [4, 6, 12])
def test_right_float32_gradients_near_kinks_a_thousand_times(rows):
    assert networks_experiment(range(1000), rows) >= 300


def relu_layer(seed):
    """Return the layer of 64 rows, 5 inputs and 8 units that was called wrong."""
    return pairs.network(seed, pairs.relu, (64, 5, 8))


@pytest.mark.slow
def test_forty_relu_layers_in_float32():
    for seed in range(40):
        f, gradient, inputs, truth = relu_layer(seed)
        report = report_of((f, gradient), inputs)
        assert report.verdict in ("pass", "noisy"), f"seed {seed}: {report}"
        if report.index is not None:
            true = truth()[("X", "W").index(report.input)][report.index]
            assert abs(report.numeric - true) <= report.error


@pytest.mark.parametrize(
    "change",
    [
        lambda g: -g,
        lambda g: 2 * g,
        lambda g: g / 6,
        lambda g: np.where(np.abs(g) == np.max(np.abs(g)), 1.5 * g, g),
    ],
)
def test_gross_errors_are_found_in_float32(change):
    for seed in (1, 2, 3):
        f, gradient, inputs, _ = pairs.network(seed, pairs.UNITS[seed])
        wrong = lambda X, W, gradient=gradient: (
            gradient(X, W)[0],
            change(gradient(X, W)[1]),
        )
        report = report_of((f, wrong), inputs)
        assert (report.verdict, report.input) == ("wrong", "W"), report


def test_a_hopeless_case_is_given_up_in_time(monkeypatch):
    """Of a large network in float32 most entries cannot be told."""
    monkeypatch.setattr(probing, "MAX_SECONDS", 0.1)
    f, gradient, inputs, _ = pairs.deep(0, pairs.relu, (784, 60, 1), 32)
    start = time.perf_counter()
    report = report_of((f, gradient), inputs)
    assert time.perf_counter() - start < 10
    assert report.verdict == "noisy"
    assert re.search(r"4\d{4} (of 47040 )?entries", str(report))
    assert report.calls < 5_000
    wrong = lambda W, b, V: (-gradient(W, b, V)[0], *gradient(W, b, V)[1:])
    report = report_of((f, wrong), inputs)
    assert (report.verdict, report.input) == ("wrong", "W")


# --- Tensors, models, second order --------------------------------------------------


class Model:
    def __init__(self):
        self.W = Tensor(WEIGHTS.copy(), requires_grad=True, name="W")
        self.b = Tensor(BIAS.astype(np.float32), requires_grad=True)

    def parameters(self):
        yield self.W
        yield self.b

    def loss(self, x):
        return np.mean(functions.softplus(x @ self.W + self.b))


@pytest.mark.parametrize("order", [1, 2])
def test_a_model_is_checked_in_place_and_left_as_it_was(order):
    model = Model()
    pending = model.loss(DATA)
    before = [(p._array, p._array.copy()) for p in model.parameters()]
    gradcheck(lambda *_: model.loss(DATA), model.parameters(), order=order)
    for p, (data, values) in zip(model.parameters(), before, strict=True):
        assert p._array is data
        assert p.grad is None
        np.testing.assert_array_equal(data, values)
    pending.backward()  # the caller's own graph is not stale
    report = report_of(lambda *_: model.loss(DATA) * 2.0, model.parameters())
    assert "(W, _[1])" in str(report)


def test_tensors_are_put_back_when_f_raises():
    model = Model()
    data = model.W._array

    def f(*_):
        raise KeyError

    with pytest.raises(KeyError):
        gradcheck(f, model.parameters())
    assert model.W._array is data


def test_frozen_tensors_and_integers_are_constants():
    labels = np.array([0, 2, 1, 3, 0, 1])
    frozen = Tensor(BIAS, name="frozen")
    f = lambda W, b, labels: np.sum(
        functions.log_softmax(DATA @ W + b)[np.arange(6), labels]
    )
    report = report_of(f, (WEIGHTS, frozen, labels))
    assert report.ok
    assert "(W)" in str(report)
    pair = (lambda x, k: np.sum(x**k), lambda x, k: (k * x ** (k - 1.0), None))
    gradcheck(pair, (X, 3))
    gradcheck((pair[0], lambda x, k: k * x ** (k - 1.0)), (X, 3))


def test_works_under_no_grad_and_records_nothing_itself():
    with no_grad():
        gradcheck(np.tanh, X)
        assert report_of(lambda x: x.detach() * 1.0, X).verdict == "wrong"


def test_second_order_sees_a_rule_that_cannot_be_differentiated():
    @primitive
    def sine(x):
        return np.sin(x)

    rule(sine, lambda g, y, x: g * np.cos(x.data if isinstance(x, Tensor) else x))
    f = lambda x: np.sum(np.exp(sine(x)))
    gradcheck(f, X)
    report = report_of(f, X, order=2)
    assert report.verdict == "wrong"
    assert report.rule == "sine, argument 0"
    assert "gradient of f" in str(report)


def test_second_order_of_a_linear_function_is_not_vacuous():
    @primitive
    def double(x):
        return 2 * x

    rule(double, lambda g, y, x: 2 * (g.data if isinstance(g, Tensor) else g))
    gradcheck(lambda x: 3 * x, X, order=2)
    report = report_of(double, X, order=2)
    assert report.verdict == "wrong"
    assert report.input == "its cotangent"


def test_first_order_faults_are_reported_first():
    report = report_of(lambda x: np.sum(x.detach() * x), X, order=2)
    assert "gradient of f" not in str(report)
    assert report.verdict == "wrong"


# --- assert_detects -----------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2])
def test_detects_on_tensors(order):
    assert_detects(lambda x, W: np.tanh(x @ W), (DATA, WEIGHTS), order=order)
    assert_detects(lambda x: np.abs(x) * x, X, order=order)


def test_detects_on_pairs():
    assert_detects((mean_squared, mean_squared_gradient), WEIGHTS)
    assert_detects((functions.softmax, softmax_vjp), X, oracle="ridders")
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


# --- Manners ------------------------------------------------------------------------


def test_probing_is_silent_and_leaves_warnings_alone():
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


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gradcheck(3, X), TypeError, "a function of Tensors, or a pair"),
        (lambda: gradcheck((np.exp,), X), TypeError, "pair"),
        (lambda: gradcheck(np.exp, 1), TypeError, "no input can be differentiated"),
        (lambda: gradcheck(np.exp, X + 1j), TypeError, "must be real"),
        (lambda: gradcheck(lambda x: (x, x), X), TypeError, "one array"),
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
def test_misuse_is_an_error_that_says_so(call, error, message):
    with pytest.raises(error, match=message):
        call()


TWICE = Tensor(X, requires_grad=True)


def test_a_forced_complex_step_says_when_it_does_not_hold():
    pair = (lambda x: np.sum(np.abs(x) ** 3), lambda x: 3 * x * np.abs(x))
    report = report_of(pair, X, oracle="complex")
    assert report.verdict == "noisy"
    assert "complex step does not hold" in str(report)
    assert report_of((quadratic, quadratic_gradient), X, oracle="complex").ok


def test_an_empty_input_is_vacuous():
    report = report_of(lambda a, b: np.sum(a) + np.sum(b), (X, np.zeros((0, 3))))
    assert report.verdict == "vacuous"
    assert "no entries" in str(report)


def test_importing_testing_does_not_import_hypothesis():
    code = (
        "import sys, scratchnet.testing as t; t.strategies; "
        "sys.exit('hypothesis' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- The oracle's own bound ---------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_the_error_bound_of_real_differences_is_honest(depth):
    """Against exact slopes: no bound is broken by an order, few are broken at all."""
    rng = np.random.default_rng(0)
    functions = [
        (np.exp, np.exp),
        (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
        (lambda x: np.sin(30 * x), lambda x: 30 * np.cos(30 * x)),
        (np.cbrt, lambda x: np.cbrt(x) / x / 3),
        (lambda x: 1e6 + np.abs(x), np.sign),
        (lambda x: 1 / (1 + 25 * x * x), lambda x: -50 * x / (1 + 25 * x * x) ** 2),
    ]
    broken = 0
    for k in range(300):
        f, df = functions[k % len(functions)]
        x = np.array(rng.normal() * 10.0 ** rng.uniform(-3, 1))
        problem = Pair(lambda x, f=f: np.asarray(f(x)), df, x)
        with np.errstate(all="ignore"):
            probe = Probe(problem, rng)
            probe.measure_rounding(problem.gradient([x], probe.c))
            line = Line(probe, 0, np.ones(1), probe.scale[0][0])
            truth = float(df(x)) * float(probe.c)
            found = line.slope(abs(truth) * 10.0 ** rng.uniform(-12, -2), depth)
        if found.kind == "broken":
            continue
        off = abs(found.value - truth)
        broken += off > found.error
        assert off <= 10 * found.error + 1e-13 * abs(truth)
    assert broken <= 3


# --- Strategies ---------------------------------------------------------------------


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_strategies(data):
    shape = data.draw(strategies.shapes(max_dims=3))
    assert len(shape) <= 3
    assert all(1 <= n <= 4 for n in shape)
    x = data.draw(strategies.arrays(shape, -1, 3, avoid=(0.0, 1.0), margin=0.1))
    assert x.shape == shape
    assert np.all((x >= -1) & (x <= 3))
    assert np.all(np.abs(x) >= 0.1 - 1e-12)
    assert np.all(np.abs(x - 1) >= 0.1 - 1e-12)
    many = data.draw(strategies.arrays(strategies.shapes(1, 2), distinct=True))
    gaps = np.diff(np.sort(many.ravel()))
    assert np.all(gaps >= 0.49 * 4 / many.size)
    a, b = data.draw(strategies.broadcastable())
    np.broadcast_shapes(a, b)
    axis = data.draw(strategies.axes(len(shape)))
    np.sum(x, axis=axis)
    low = data.draw(strategies.arrays((2,), dtype=np.float32))
    assert low.dtype == np.float32


def test_strategies_refuse_an_interval_with_nothing_left():
    with pytest.raises(ValueError, match="nothing is left"):
        strategies.arrays((2,), -0.01, 0.01, avoid=(0.0,))


@given(strategies.arrays(strategies.shapes(1, 2), avoid=(0.0,), distinct=True))
@settings(max_examples=30, deadline=None)
def test_strategies_give_points_where_the_checker_can_work(x):
    gradcheck(lambda x: np.max(np.abs(x), axis=0) + functions.relu(x), x)


def test_a_gradient_in_float32_is_known_to_that_only():
    """f is exact, its gradient is not: entries that nearly cancel are off by more."""
    for seed in (16, 29, 30, 31):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((64, 5)).astype(np.float32)
        W = rng.standard_normal((5, 8)).astype(np.float32)

        def f(W, X=X):
            return np.mean(np.sum(np.maximum(X @ W, 0), axis=1))

        def gradient(W, X=X):
            return X.T @ (X @ W > 0) / 64

        assert report_of((f, gradient), W).verdict == "pass"
        one = np.ones((5, 8), np.float32)
        one[2, 3] = 1.001
        report = report_of((f, lambda W, g=gradient, one=one: one * g(W)), W)
        assert (report.verdict, report.index) == ("wrong", (2, 3))
