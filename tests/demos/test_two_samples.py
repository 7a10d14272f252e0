"""demos/_two_samples.py: the accuracy of a fresh classifier, where it is known."""

import math

import pytest

from demos._two_samples import told_apart
from tests.helpers import rng


def normals(n, mean, seed):
    return rng(seed).normal(mean, 1, size=(n, 3)).astype("float32")


@pytest.mark.parametrize(("shift", "exact"), [(0.0, 0.5), (1.0, 0.8068)])
def test_two_gaussians_are_told_apart_by_the_best_classifier(shift, exact):
    """Means that are r apart: the best accuracy is Φ(r / 2), here with r = √3 shift."""
    assert exact == pytest.approx(
        0.5 * (1 + math.erf(math.sqrt(3) * shift / 2 / math.sqrt(2))), abs=1e-4
    )
    found = told_apart(normals(4000, 0.0, 1), normals(4000, shift, 2), seed=0, epochs=3)
    error = math.sqrt(exact * (1 - exact) / 4000)
    assert found == pytest.approx(exact, abs=4 * error)
