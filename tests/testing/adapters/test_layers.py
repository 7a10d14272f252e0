"""Layers: their parameters, and the mistakes that a cache makes possible."""

import numpy as np
import pytest

from scratchnet.testing import gradcheck
from tests.testing.examples import report_of

X = np.random.default_rng(1).normal(size=(4, 3))


class Affine:
    """x W + b, with the gradients next to the parameters."""

    def __init__(self):
        self.W, self.b = np.random.default_rng(0).normal(size=(3, 2)), np.ones(2)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, g):
        self.dW, self.db = self.x.T @ g, g.sum(axis=0)
        return g @ self.W.T


def test_inputs_and_parameters_are_checked():
    layer = Affine()
    before = layer.W.copy()
    report = gradcheck(layer, X)
    assert report.entries == 12 + 6 + 2
    assert "(x, W, b)" in str(report)
    np.testing.assert_array_equal(layer.W, before)


@pytest.mark.parametrize("name", ["W", "b"])
def test_a_wrong_gradient_of_a_parameter_is_named(name):
    class Wrong(Affine):
        def backward(self, g):
            dx = super().backward(g)
            getattr(self, f"d{name}")[-1] *= 1.001
            return dx

    report = report_of(Wrong(), X)
    assert (report.verdict, report.input) == ("wrong", name)
    assert report.index[0] == getattr(Affine(), name).shape[0] - 1


def test_a_wrong_gradient_of_the_input_is_named():
    class Wrong(Affine):
        def backward(self, g):
            return 2 * super().backward(g)

    report = report_of(Wrong(), X)
    assert (report.verdict, report.input, report.mistake) == ("wrong", "x", "factor")


def test_other_places_of_parameters():
    class InDicts(Affine):
        def __init__(self):
            super().__init__()
            self.params = {"W": self.W, "b": self.b}
            self.grads = {}

        def backward(self, g):
            dx = super().backward(g)
            self.grads = {"b": self.db, "W": self.dW}
            return dx

    class Named:
        def __init__(self):
            self.W = Affine().W

        def forward(self, x):
            self.x = x
            return x @ self.W

        def backward(self, g):
            self.grad_W = self.x.T @ g
            return g @ self.W.T

    for layer, entries in ((InDicts(), 20), (Named(), 18)):
        assert gradcheck(layer, X).entries == entries


def test_a_layer_that_accumulates_is_asked_about():
    class Accumulates(Affine):
        def __init__(self):
            super().__init__()
            self.dW, self.db = np.zeros((3, 2)), np.zeros(2)

        def backward(self, g):
            self.dW += self.x.T @ g
            self.db += g.sum(axis=0)
            return g @ self.W.T

    report = report_of(Accumulates(), X)
    assert report.verdict == "nondeterministic"
    assert "Does the code accumulate it?" in str(report)

    class WithReset(Accumulates):
        def zero_grad(self):
            self.dW[...], self.db[...] = 0, 0

    gradcheck(WithReset(), X)


def test_a_random_layer_is_nondeterministic():
    class Dropout:
        rng = np.random.default_rng(0)

        def forward(self, x):
            self.mask = self.rng.random(x.shape) < 0.5
            return x * self.mask

        def backward(self, g):
            return g * self.mask

    report = report_of(Dropout(), X)
    assert report.verdict == "nondeterministic"
    assert "dropout" in str(report)


def test_a_lost_gradient_is_wrong():
    class Lost(Affine):
        def backward(self, g):
            self.dW, self.db = None, g.sum(axis=0)
            return g @ self.W.T

    report = report_of(Lost(), X)
    assert report.verdict == "wrong"
