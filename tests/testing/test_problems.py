"""Inputs of a check: subclasses of arrays, models, second order."""

import numpy as np
import pytest

from scratchnet import Tensor, functions, no_grad, primitive, rule
from scratchnet.testing import gradcheck
from tests.testing.examples import (
    BIAS,
    DATA,
    SQUARE,
    WEIGHTS,
    X,
    quadratic,
    quadratic_gradient,
    report_of,
)

# --- Subclasses of ndarray ----------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_the_checker_treats_subclasses_as_plain_arrays():
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
    with pytest.raises(TypeError, match="the result of f is a masked array"):
        gradcheck((lambda x: np.ma.masked_array(x, X > 0), lambda g, x: g), X)
    with pytest.raises(TypeError, match="the gradient of x is a masked array"):
        gradcheck((quadratic, lambda x: np.ma.masked_array(3 * x * x, X > 0)), X)


# --- Tensors and models -------------------------------------------------------------


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
def test_a_model_is_checked_in_place_and_not_changed(order):
    model = Model()
    pending = model.loss(DATA)
    before = [(p._array, p._array.copy()) for p in model.parameters()]
    gradcheck(lambda *_: model.loss(DATA), model.parameters(), order=order)
    for p, (data, values) in zip(model.parameters(), before, strict=True):
        assert p._array is data
        assert p.grad is None
        np.testing.assert_array_equal(data, values)
    pending.backward()  # the caller's graph is not stale
    report = report_of(lambda *_: model.loss(DATA) * 2.0, model.parameters())
    assert "(W, _[1])" in str(report)


def test_tensors_are_restored_if_f_raises():
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


# --- Second order -------------------------------------------------------------------


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
