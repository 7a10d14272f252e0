"""Right gradients pass at points that are hard for one of the oracles."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnet import functions, grad
from scratchnet.testing import gradcheck
from scratchnet.testing.oracles import Line
from scratchnet.testing.probe import Probe
from scratchnet.testing.problems import Pair
from tests.testing import gradient_pairs as pairs
from tests.testing.examples import SQUARE, X, quadratic, quadratic_gradient, report_of

# --- Where the complex step fails ---------------------------------------------------

# Functions for which the complex step is silently wrong or raises.
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
    """Return (f, vjp) for a function of Tensors, with the engine's gradient."""

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


def test_a_forced_complex_step_reports_when_it_fails():
    pair = (lambda x: np.sum(np.abs(x) ** 3), lambda x: 3 * x * np.abs(x))
    report = report_of(pair, X, oracle="complex")
    assert report.verdict == "noisy"
    assert "complex step does not hold" in str(report)
    assert report_of((quadratic, quadratic_gradient), X, oracle="complex").ok


# --- Difficult points ---------------------------------------------------------------

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
    """Most steps leave the domain, where NumPy raises an error."""
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


@pytest.mark.parametrize("name", pairs.RIGHT)
def test_right_gradients_at_difficult_points_pass(name):
    f, gradient, x = pairs.RIGHT[name]
    assert report_of((f, gradient), x).verdict == "pass"


# --- The bound on the error ---------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_the_error_bound_of_real_differences_holds(depth):
    """Against exact slopes: few errors exceed their bound, and none tenfold."""
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
