"""One wrong entry is found among many, and a small error is found."""

import numpy as np
import pytest

from scratchnet.testing import gradcheck
from tests.testing.examples import X, needle, report_of


def test_an_error_hidden_from_the_complex_step_is_found():
    """x[3] passes through a cast: no imaginary part, and no gradient either."""

    def f(x):
        y = np.exp(x)
        y[3] += np.sin(np.real(x[3]))
        return np.sum(y)

    gradcheck((f, lambda x: np.exp(x) + (np.arange(20) == 3) * np.cos(x)), X.ravel())
    report = report_of((f, np.exp), X.ravel())
    assert (report.verdict, report.index) == ("wrong", (3,))
    large = np.random.default_rng(0).normal(size=10_000)
    report = report_of((f, np.exp), large)
    assert (report.verdict, report.index) == ("wrong", (3,))


def test_errors_far_below_a_percent_are_found_in_smooth_functions():
    bad = lambda x: np.exp(x) * np.where(np.arange(20).reshape(5, 4) == 7, 1 + 1e-8, 1)
    report = report_of((lambda x: np.sum(np.exp(x)), bad), X)
    assert (report.verdict, report.index) == ("wrong", (1, 3))


# --- One wrong entry among 10,000 ---------------------------------------------------


def broken(gradient, x, seed):
    """Change one entry, of at least 1e-6 of the largest, by 1 %."""
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
        i, bad = broken(gradient, x, seed)
        report = report_of((f, bad), x, rng=seed)
        assert report.verdict == "wrong", f"{kind}, seed {seed}: {report}"
        assert (report.index, report.differ) == ((i,), 1)


@pytest.mark.parametrize(
    ("kind", "trials"), [("analytic", 3), ("abs", 1), ("mixed", 1)]
)
def test_one_wrong_entry_in_10000(kind, trials):
    needle_experiment(kind, trials)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["analytic", "abs", "mixed"])
def test_one_wrong_entry_in_10000_a_hundred_times(kind):
    needle_experiment(kind, 100)


def test_a_large_check_takes_fewer_calls_than_there_are_entries():
    x, f, gradient = needle("abs", 0)
    report = report_of((f, gradient), x)
    assert report.verdict == "pass"
    assert report.calls < len(x)


def test_a_large_gradient_that_is_all_wrong_is_not_searched_to_the_end():
    x, f, gradient = needle("abs", 0)
    report = report_of((f, lambda x: -gradient(x)), x)
    assert report.verdict == "wrong"
    assert "at least 64 differ" in str(report)
    assert "analytic / numeric = -1" in str(report)
    assert report.calls < 15_000
