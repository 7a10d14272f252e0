"""What the demo twins computes next to the trainings; nothing is trained."""

import numpy as np
import pytest

from demos import twins


def test_differences_are_the_derivative():
    p = {"W": np.array([[0.3, -0.7], [1.1, 0.2]]), "b": np.array([0.5])}

    def loss():
        return np.sum(np.exp(p["W"])) + np.sin(p["b"][0])

    found = twins.differences(loss, p)
    np.testing.assert_allclose(found["W"], np.exp(p["W"]), rtol=1e-9)
    np.testing.assert_allclose(found["b"], np.cos(p["b"]), rtol=1e-9)


def test_differences_next_to_a_kink_take_a_small_step():
    p = {"b": np.array([1.0])}
    found = twins.differences(lambda: p["b"][0] + 9 * max(p["b"][0] - 1 - 5e-7, 0), p)
    assert found["b"][0] == pytest.approx(1, abs=1e-7)


def test_apart_is_relative_to_the_largest_entry():
    a = {"W": np.array([1.0, 4.0]), "b": np.array([0.5])}
    b = {"W": np.array([1.0, 4.0]), "b": np.array([0.7])}
    assert twins.apart(a, b) == pytest.approx(0.2 / 4)


def test_the_wrong_gradient_is_off_in_the_array_where_it_shows_least():
    g = {"W": np.array([-4.0, 1.0]), "b": np.array([0.5]), "last": np.array([1e-17])}
    assert twins.off(g, g) == pytest.approx(0.001 * 0.5 / 4)
