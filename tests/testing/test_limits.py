"""The caller's limits: tolerances, a time limit, the options of torch's gradcheck."""

import itertools

import numpy as np
import pytest

from scratchnet.testing import gradcheck, probe
from tests.testing.examples import report_of

X = np.random.default_rng(0).normal(size=(5, 4))


def cube(x):
    return x**3


def off_by(error):
    """Return a gradient of cube with these errors in its entries."""
    return lambda g, x: g * (3 * x**2 + error)


# --- Tolerances ---------------------------------------------------------------------


def test_an_error_within_atol_is_accepted_and_said():
    wrong = (cube, off_by(1e-5))
    assert report_of(wrong, X).verdict == "wrong"
    report = gradcheck(wrong, X, atol=2e-5)
    assert report.tolerated == 20
    assert "20 entries differ, within atol=2e-05 and rtol=0" in str(report)
    assert report_of(wrong, X, atol=0.9e-5).verdict == "wrong"


def test_an_error_within_rtol_is_accepted_and_said():
    scaled = (cube, lambda g, x: 3.003 * g * x**2)
    report = gradcheck(scaled, X, rtol=1.1e-3)
    assert report.tolerated == 20
    assert report_of(scaled, X, rtol=0.9e-3).verdict == "wrong"


def test_a_right_gradient_needs_no_tolerance():
    report = gradcheck((cube, off_by(0)), X, atol=1, rtol=1)
    assert report.tolerated == 0
    assert "atol" not in str(report)


@pytest.mark.parametrize("n", [20, 500])
def test_the_entry_outside_the_tolerance_is_found_among_those_inside(n):
    x = np.random.default_rng(1).normal(size=n) + 3
    error = np.full(n, 1e-5)
    error[7] = 1e-2
    report = report_of((cube, off_by(error)), x, atol=1e-4)
    assert (report.verdict, report.index) == ("wrong", (7,))


def test_atol_counts_for_each_output():
    """Each entry of the Jacobian is off by 1e-5; their weighted sum by more."""
    A = np.random.default_rng(1).normal(size=(50, 3))
    pair = (lambda x: A @ x, lambda g, x: g @ (A + 1e-5))
    assert report_of(pair, np.ones(3)).verdict == "wrong"
    assert gradcheck(pair, np.ones(3), atol=1e-5 * (1 + 1e-6))
    elementwise = (cube, off_by(np.where(np.arange(20).reshape(5, 4) == 3, 2e-5, 0)))
    assert report_of(elementwise, X, atol=1e-5).verdict == "wrong"


# --- A time limit -------------------------------------------------------------------


@pytest.fixture
def ticking(monkeypatch):
    """Replace the clock by one that moves by a second with each call of f."""
    seconds = itertools.count()
    now = [0]

    def tick():
        now[0] = next(seconds)

    monkeypatch.setattr(probe, "clock", lambda: now[0])
    return tick


def slow(tick, f):
    def with_tick(x):
        tick()
        return f(x)

    return with_tick


def test_without_a_limit_the_clock_does_not_matter(ticking):
    x = np.random.default_rng(1).normal(size=2000)
    gradcheck((slow(ticking, cube), off_by(0)), x)


@pytest.mark.parametrize("seconds", [0, 3, 10])
def test_what_is_not_checked_in_time_is_said(ticking, seconds):
    x = np.random.default_rng(1).normal(size=2000)
    f = lambda x: np.abs(np.tanh(x)) * 2  # no complex step
    gradient = lambda g, x: 2 * g * np.sign(x) * (1 - np.tanh(x) ** 2)
    report = report_of((slow(ticking, f), gradient), x, seconds=seconds)
    assert report.verdict == "unfinished"
    assert 0 < report.unchecked <= 2000
    assert f"{report.unchecked} of 2000 entries of x were not checked" in str(report)
    assert report.calls <= seconds + 30  # it ends soon after
    assert not report
    assert report_of(
        (slow(ticking, f), gradient), x, seconds=seconds, allow=["unfinished"]
    )


def test_a_mistake_that_was_found_in_time_is_wrong(ticking):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=6), rng.normal(size=(30, 30))

    def f(a, b):
        ticking()
        return np.sum(np.abs(a)) + np.sum(np.abs(b))

    pair = (f, lambda a, b: (2 * np.sign(a), np.sign(b)))
    report = report_of(pair, (a, b), seconds=150)
    assert (report.verdict, report.input) == ("wrong", "a")
    assert "not checked in time: 900 entries of b" in str(report)


def test_a_check_that_ends_in_time_says_nothing_of_it(ticking):
    report = gradcheck((slow(ticking, cube), off_by(0)), X, seconds=10_000)
    assert report.unchecked == 0
    assert "time" not in str(report)


# --- The arguments of torch's gradcheck ---------------------------------------------


def test_options_of_torch_without_a_meaning_are_read():
    gradcheck(
        (cube, off_by(0)), X, eps=1e-6, atol=1e-4, rtol=1e-3, raise_exception=True,
        nondet_tol=1e-5, fast_mode=True, check_undefined_grad=False,
        check_batched_grad=False, check_backward_ad=True, check_forward_ad=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "option",
    [
        {"check_undefined_grad": True}, {"check_batched_grad": True},
        {"check_backward_ad": False}, {"masked": True}, {"no_such_option": 1},
    ],
)  # fmt: skip
def test_other_options_are_refused_by_name(option):
    ((name, value),) = option.items()
    with pytest.raises(TypeError, match=f"{name}={value} is not supported"):
        gradcheck((cube, off_by(0)), X, **option)


@pytest.mark.parametrize(
    "option", [{"atol": -1}, {"rtol": float("nan")}, {"seconds": -1}]
)
def test_negative_limits_are_refused(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"{name}="):
        gradcheck((cube, off_by(0)), X, **option)


@pytest.mark.parametrize("option", ["forward", "check_forward_ad"])
def test_forward_mode_needs_torch_or_jax(option):
    with pytest.raises(TypeError, match="forward mode needs a function of torch"):
        gradcheck((cube, off_by(0)), X, **{option: True})


# --- Scale --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tanh", "abs", "relu"])
@pytest.mark.parametrize("side", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_entries(kind, side):
    """A right gradient takes at most 300 calls of f; a wrong one at most 1,000."""
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(4, side)), rng.normal(size=(side, side)) / side**0.5
    outer, slope = {
        "tanh": (np.tanh, lambda a: 1 - np.tanh(a) ** 2),
        "abs": (np.abs, np.sign),
        "relu": (lambda a: np.maximum(a, 0), lambda a: 1.0 * (a > 0)),
    }[kind]  # fmt: skip
    f = lambda W: np.sum(outer(x @ W) ** 2)
    gradient = lambda W: x.T @ (2 * outer(x @ W) * slope(x @ W))
    report = gradcheck((f, gradient), W)
    assert report.entries == side**2
    assert report.calls <= 300
    g = np.abs(gradient(W))
    at = np.unravel_index(np.argmin(np.abs(g - 2e-3 * g.max())), W.shape)

    def wrong(W):
        found = gradient(W)
        found[at] *= 1.01
        return found

    report = report_of((f, wrong), W)
    assert (report.verdict, report.index) == ("wrong", at)
    assert report.calls <= 1000
