"""The gradient checker, checked: right gradients pass, and each wrong one is named."""

import math
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
    assert_gradients,
    gradcheck,
    strategies,
)

R = np.random.default_rng(0)
X = R.normal(size=(5, 4))
SQUARE = R.normal(size=(4, 4))
KINK = ("kink",)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def quadratic(x):
    return np.sum(x * x * x)


def quadratic_gradient(x):
    return 3 * x * x


# --- The message --------------------------------------------------------------------


def test_message_names_the_entry_the_numbers_the_pattern_and_the_rule():
    @primitive
    def scaled(W, b):
        return W * b

    row = np.ones((28, 28))
    row[17, ::2] = 1.01
    rule(scaled, lambda g, y, W, b: g * b, lambda g, y, W, b: g * W * row)
    W, b = R.normal(size=(2, 28, 28))
    report = gradcheck(lambda W, b: np.sum(np.tanh(scaled(W, b))), (W, b))
    lines = str(report).splitlines()
    i, j = report.index
    assert i == 17
    assert j % 2 == 0
    assert lines[0] == f"gradcheck: WRONG  d f/d b[17, {j}]"
    assert lines[1] == f"  analytic   {report.analytic:.7g}"
    assert lines[2].startswith(f"  numeric    {report.numeric:.7g}  (complex step, error")
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
    report = gradcheck(wrong, X)
    assert "rule" not in str(report)
    assert "it is all of them; analytic / numeric = 1.5 in each" in str(report)
    column = np.where(np.arange(4) == 2, 0.5, 1)
    report = gradcheck((quadratic, lambda x: quadratic_gradient(x) * column), X)
    assert report.pattern.startswith("they share column 2")
    transposed = (lambda x: np.sum(x**3 * SQUARE), lambda x: (3 * x**2 * SQUARE).T)
    assert "transpose" in gradcheck(transposed, SQUARE + 3).pattern
    missing = (quadratic, lambda x: quadratic_gradient(x) * (np.arange(4) < 3))
    assert "each is 0" in gradcheck(missing, X).pattern


def test_a_pass_says_how_small_an_error_would_have_shown():
    report = gradcheck((quadratic, quadratic_gradient), X)
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
    report = gradcheck(f, (SQUARE, SQUARE, named))
    assert "d f/d (weight, others[0], layer.W)" in str(report)
    report = gradcheck((np.hypot, lambda g, *xs: xs), (X, X))
    assert report.input in ("input 0", "x1", "x")


def test_every_wrong_input_is_mentioned():
    pair = (lambda a, b: np.sum(a * b), lambda a, b: (2 * b, 3 * a))
    text = str(gradcheck(pair, (X, X)))
    assert "d f/d a[" in text
    assert "also wrong: b (20 differ)" in text


# --- Verdicts -----------------------------------------------------------------------


def test_wrong_shape_none_and_count_are_named():
    def report_of(gradient):
        return gradcheck((lambda a, b: np.sum(a * b), gradient), (X, X + 1))

    report = report_of(lambda a, b: (b[:2], a))
    assert report.verdict == "wrong"
    assert "gradient of a has shape (2, 4); a has shape (5, 4)" in str(report)
    report = report_of(lambda a, b: (b, None))
    assert (report.verdict, report.input, report.analytic) == ("wrong", "b", 0)
    report = report_of(lambda a, b: b)
    assert report.verdict == "wrong"
    assert "1 gradients returned for 2 inputs" in str(report)
    report = report_of(lambda a, b: (b * 1j, a))
    assert "dtype complex128" in str(report)


def test_a_gradient_that_raises_is_wrong_and_keeps_its_traceback():
    def gradient(x):
        raise RuntimeError("broken")

    report = gradcheck((quadratic, gradient), X)
    assert report.verdict == "wrong"
    assert "the gradient raised RuntimeError: broken" in str(report)
    with pytest.raises(GradientError) as caught:
        assert_gradients((quadratic, gradient), X)
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

    report = gradcheck((quadratic, gradient), X)
    assert (report.verdict, report.index) == ("wrong", (1, 2))
    assert not math.isfinite(report.analytic)
    assert report.numeric == pytest.approx(3 * X[1, 2] ** 2)


def test_a_non_finite_function_is_named():
    with np.errstate(all="ignore"):
        report = gradcheck((np.log, lambda g, x: g / x), np.array([1.0, -1.0]))
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
    report = gradcheck((f, gradient), x)
    assert (report.verdict, report.index, report.ok) == ("kink", (1,), False)
    assert gradcheck((f, gradient), x, allow=KINK).ok
    sides = str(report).splitlines()[2].split()
    c = report.cotangent[1]
    found = sorted(float(sides[k]) / c for k in (1, 3))
    assert found == pytest.approx(sorted([left, right]), abs=1e-6)


def test_no_convention_excuses_a_slope_that_neither_side_has():
    pair = (lambda x: np.sum(np.abs(x)), lambda x: np.where(x == 0, 5, np.sign(x)))
    report = gradcheck(pair, np.array([1.0, 0.0]))
    assert (report.verdict, report.index) == ("wrong", (1,))
    assert "kink" in str(report)


def test_a_tie_is_a_kink():
    def gradient(x):
        ties = x == np.max(x)
        return ties / np.sum(ties)

    report = gradcheck((np.max, gradient), np.array([1.0, 3.0, 3.0]))
    assert report.verdict == "kink"
    assert report.differ == 2


def test_a_jump_and_an_edge_are_kinks_that_say_so():
    jump = (lambda x: np.sum(np.floor(x) + x), np.ones_like)
    report = gradcheck(jump, np.array([0.5, 2.0]))
    assert (report.verdict, report.index) == ("kink", (1,))
    assert "it jumps" in str(report)
    root = (lambda x: np.sum(np.sqrt(x)), lambda x: 0.5 / np.sqrt(x))
    with np.errstate(divide="ignore"):
        report = gradcheck(root, np.array([1.0, 0.0]))
    assert (report.verdict, report.index) == ("kink", (1,))
    assert "one side" in str(report)


@pytest.mark.parametrize("distance", [1e-2, 1e-5, -1e-5, 1e-7, -1e-8])
def test_a_point_near_a_kink_passes_if_right_and_fails_if_wrong(distance):
    x = np.array([1.0, distance, -1.0])
    assert gradcheck((lambda x: np.sum(np.abs(x)), np.sign), x).ok
    report = gradcheck((lambda x: np.sum(np.abs(x)), np.ones_like), np.array([distance]))
    assert report.verdict == ("pass" if distance > 0 else "wrong")
    report = gradcheck((lambda x: np.sum(np.abs(x)), np.zeros_like), np.array([distance]))
    assert report.verdict == "wrong"
    # Beside a smooth part that hides it at larger steps.
    pair = (lambda x: np.exp(x) + 1e-3 * np.abs(x), lambda g, x: g * np.exp(x))
    report = gradcheck(pair, np.array([distance]))
    assert report.verdict == "wrong"


def test_nondeterministic():
    rng = np.random.default_rng(0)
    f = (lambda x: np.sum(x * x * (rng.random(x.shape) < 0.5)), lambda x: 2 * x)
    report = gradcheck(f, X)
    assert report.verdict == "nondeterministic"
    assert "for the same inputs" in str(report)
    f = (lambda x: np.sum(x * x), lambda x: 2 * x * (rng.random(x.shape) < 0.5))
    assert gradcheck(f, X).verdict == "nondeterministic"


def test_noisy():
    def coarse(x):
        return np.float64(np.float16(np.sum(np.abs(x) ** 3)))

    report = gradcheck((coarse, lambda x: 3 * x * np.abs(x)), X)
    assert report.verdict == "noisy"
    assert gradcheck((coarse, lambda x: 3 * x * np.abs(x)), X, allow=("noisy",)).ok
    # A wild error shows even so.
    assert gradcheck((coarse, lambda x: -30 * x * np.abs(x)), X).verdict == "wrong"


def test_entries_that_rounding_hides_are_counted_and_not_passed():
    """1e9 + f is accurate to 1e-7: enough for some entries, not for all."""
    c = np.array([1.0, 1.0, 1e-6])
    pair = (lambda x: 1e9 + np.sum(c * np.abs(x)), lambda x: c * np.sign(x))
    report = gradcheck(pair, np.array([1.0, -2.0, 1.5]))
    assert report.verdict == "noisy"
    assert report.differ == 1


def test_vacuous():
    pair = (lambda a, b: np.sum(a * a), lambda a, b: (2 * a, np.zeros_like(b)))
    report = gradcheck(pair, (X, X))
    assert (report.verdict, report.input, report.ok) == ("vacuous", "b", False)
    assert gradcheck(pair, (X, X), allow=("vacuous",)).ok
    report = gradcheck(lambda a, b: a * a, (X, X))
    assert "no gradient reached b" in str(report)
    # Zero but for rounding: a shift before a softmax.
    y = (lambda b: np.sum(functions.softmax(X + b) * X), lambda b: b * 0 + 1e-17)
    assert gradcheck(y, np.array(0.3)).verdict == "vacuous"
    # Single entries may be zero.
    assert gradcheck((lambda a: a[:2] ** 2, lambda g, a: 2 * a * np.pad(g, [(0, 3), (0, 0)])), X).ok  # fmt: skip


def test_a_backward_that_returns_zeros_is_caught_where_ones_would_hide_it():
    pair = (functions.softmax, lambda g, x: np.zeros_like(x))
    report = gradcheck(pair, X)
    assert report.verdict == "wrong"
    y = functions.softmax(X)
    seen_by_ones = y * (1 - np.sum(y, axis=-1, keepdims=True))
    assert np.allclose(seen_by_ones, 0)


def test_a_cotangent_that_the_backward_ignores_is_caught():
    f = (lambda x: np.sum(x * x), lambda g, x: 2 * x)
    assert gradcheck(f, X).verdict == "wrong"


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
    assert_gradients(HOSTILE[name], X, order=order, allow=("vacuous",))


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
    assert_gradients((f, vjp), X, oracle=oracle)
    assert gradcheck((f, bad), X, oracle=oracle).verdict == "wrong"


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
    assert_gradients((f_array, gradient), x, oracle=oracle)


def test_cholesky_of_a_nearly_singular_matrix():
    """Most steps leave the domain, and NumPy raises there."""
    low = np.tril(SQUARE) * np.array([1, 1, 1, 1e-2])

    def f(a):
        return np.sum(np.linalg.cholesky(a + a.T) * X[:4])

    assert_gradients(lambda a: np.linalg.cholesky(a + a.T) * X[:4], low @ low.T / 2)
    assert np.isfinite(f(low @ low.T / 2))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_random_right_gradients_pass(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 5, rng.integers(0, 3)))
    x = rng.normal(size=shape) * 10.0 ** rng.uniform(-3, 3)
    a, b, c = rng.normal(size=3)
    f = lambda x: c * np.abs(x - a) + np.tanh(b * x) * np.hypot(x, a)
    df = lambda g, x: g * (
        c * np.sign(x - a)
        + b / np.cosh(b * x) ** 2 * np.hypot(x, a)
        + np.tanh(b * x) * x / np.hypot(x, a)
    )
    with np.errstate(over="ignore"):
        report = gradcheck((lambda x: np.asarray(f(x)), df), x, rng=seed)
    assert report.verdict == ("pass" if shape else "pass") or "takes" in str(report)
