"""Functions and gradients in float32: a right gradient is never called wrong."""

import re

import numpy as np
import pytest

from scratchnet import functions
from scratchnet.testing import gradcheck
from scratchnet.testing import probe as probing
from tests.testing import gradient_pairs as pairs
from tests.testing.examples import X, report_of


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


def test_a_gradient_lost_in_float32_rounding_is_noisy():
    """In float32, 1 - cos x for small x is all rounding."""

    def gradient(x):
        return 2 * (1 - np.cos(x)) / x**2 + 0 * x

    def f(x):  # integral of 2 (1 - cos x) / x^2 near 0
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

    x = np.random.default_rng(0).uniform(0.3, 1, size=(5, 4))
    gradcheck((f, gradient), x)
    assert report_of((f, lambda x: gradient(x) * 1.05), x).verdict == "wrong"


def test_a_float32_gradient_is_judged_to_its_accuracy():
    """f is exact, its gradient is not: errors are larger if terms nearly cancel."""
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


# --- Near kinks ---------------------------------------------------------------------


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
    assert networks_experiment(range(30), 4) >= 21


def test_a_gradient_below_the_noise_is_not_called_zero():
    f, gradient, inputs, _ = pairs.of_seed(863, 4)
    assert np.max(np.abs(gradient(*inputs)[1])) > 8e-4
    assert report_of((f, gradient), inputs, rng=863).verdict == "noisy"


@pytest.mark.slow
@pytest.mark.parametrize("rows", [4, 6, 12])
def test_right_float32_gradients_near_kinks_a_thousand_times(rows):
    assert networks_experiment(range(1000), rows) >= 300


def relu_layer(seed):
    """Return a layer of 64 rows, 5 inputs and 8 units, once reported as wrong."""
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


@pytest.mark.parametrize("affordable", [100, 800])
def test_a_hopeless_case_is_given_up_in_time(affordable, monkeypatch):
    """Most entries of a large network in float32 cannot be judged; all are counted."""
    monkeypatch.setattr(
        probing.Probe,
        "measure_time",
        lambda probe: setattr(probe, "affordable", float(affordable)),
    )
    f, gradient, inputs, _ = pairs.deep(0, pairs.relu, (784, 60, 1), 32)
    report = report_of((f, gradient), inputs)
    assert report.verdict == "noisy"
    counts = re.findall(r"(\d+) entries of W (?:cannot|remain)", str(report))
    assert 40_000 < sum(map(int, counts)) <= 47_040, report
    assert report.calls < 5_000
    wrong = lambda W, b, V: (-gradient(W, b, V)[0], *gradient(W, b, V)[1:])
    report = report_of((f, wrong), inputs)
    assert (report.verdict, report.input) == ("wrong", "W")
