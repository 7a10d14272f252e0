"""At a kink every subgradient is accepted, and nothing else."""

import numpy as np
import pytest

from scratchnet import functions
from tests.testing import gradient_pairs as pairs
from tests.testing.examples import DATA, KINK, report_of

# --- One entry ----------------------------------------------------------------------


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


def test_a_slope_outside_both_sides_is_wrong():
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


def test_a_jump_and_an_edge_are_kinks_and_named():
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
    # A smooth part hides the kink at larger steps.
    pair = (lambda x: np.exp(x) + 1e-3 * np.abs(x), lambda g, x: g * np.exp(x))
    assert report_of(pair, x).verdict == "wrong"


# --- Several entries ----------------------------------------------------------------

TIED = np.array([1.0, 3.0, 3.0, 1.0])


@pytest.mark.parametrize("name", pairs.KINKS)
def test_at_kinks_subgradients_are_accepted_and_nothing_else(name):
    f, gradient, inputs, verdict = pairs.KINKS[name]
    report = report_of((f, gradient), inputs, allow=KINK)
    assert report.verdict == verdict, report
    assert report.ok == (verdict == "kink")


def test_a_gradient_that_is_not_a_subgradient_is_wrong_with_its_direction():
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
