"""losses.py: values, gradients, extremes and errors."""

import numpy as np
import pytest

from scratchnet import Tensor, grad, losses
from scratchnet.losses import (
    binary_cross_entropy_with_logits,
    gaussian_kl,
    squared_error,
)
from scratchnet.testing import gradcheck

LOSSES = [squared_error, binary_cross_entropy_with_logits, gaussian_kl]


def gradients(loss, a, b):
    a, b = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    loss(a, b).backward()
    return a.grad, b.grad


def slope(loss, a, b, i, side, h=1e-6):
    """Return dLoss/d(entry i of a or b) by central differences."""
    low, high = [a.copy(), b.copy()], [a.copy(), b.copy()]
    low[side].flat[i] -= h
    high[side].flat[i] += h
    return (loss(*high) - loss(*low)) / (2 * h)


# --- Values -------------------------------------------------------------------------


def test_values_worked_by_hand():
    # Two samples of two features: (1 + 4) and (0 + 9), halved by the mean over samples.
    prediction = np.array([[1.0, 2.0], [3.0, 4.0]])
    target = np.array([[0.0, 0.0], [3.0, 1.0]])
    assert squared_error(prediction, target) == 7.0
    # A logit of log 3 is a probability of 3/4: log 4 in nats if x = 0, log 4/3 if 1.
    logits = np.log(3) * np.array([[1.0, 1.0], [-1.0, 1.0]])
    target = np.array([[0.0, 1.0], [1.0, 0.5]])
    by_hand = np.log(4) + np.log(4 / 3) + np.log(4) + (np.log(4) + np.log(4 / 3)) / 2
    assert binary_cross_entropy_with_logits(logits, target) == pytest.approx(
        by_hand / 2, rel=1e-15
    )
    # KL(N(1, 1) || N(0, 1)) = 1/2; KL(N(0, 4) || N(0, 1)) = (4 - 1 - log 4) / 2.
    mu = np.array([[1.0, 0.0]])
    log_var = np.array([[0.0, np.log(4)]])
    by_hand = 0.5 + (3 - np.log(4)) / 2
    assert gaussian_kl(mu, log_var) == pytest.approx(by_hand, rel=1e-15)


@pytest.mark.parametrize("loss", LOSSES)
def test_one_number_per_sample_then_the_mean(loss):
    rng = np.random.default_rng(0)
    a, b = rng.random((6, 4)), rng.random((6, 4))
    each = [loss(a[i : i + 1], b[i : i + 1]) for i in range(6)]
    assert loss(a, b) == pytest.approx(np.mean(each), rel=1e-14)
    # The features of a sample are summed, whatever their layout.
    halves = loss(a[:, :1], b[:, :1]) + loss(a[:, 1:], b[:, 1:])
    assert loss(a, b) == pytest.approx(halves, rel=1e-14)
    image = loss(a.reshape(6, 2, 2), b.reshape(6, 2, 2))
    assert loss(a, b) == pytest.approx(image, rel=1e-14)
    assert loss(a[:, 0], b[:, 0]) == pytest.approx(loss(a[:, :1], b[:, :1]), rel=1e-14)


def test_kl_is_the_integral():
    z = np.linspace(-40, 40, 400_001)

    def log_normal(mu, var):
        return -((z - mu) ** 2) / (2 * var) - np.log(2 * np.pi * var) / 2

    for mu, log_var in [(0.3, -1.0), (-2.0, 0.7), (1.0, 2.0), (0.0, 0.0)]:
        q = log_normal(mu, np.exp(log_var))
        integral = np.trapezoid(np.exp(q) * (q - log_normal(0, 1)), z)
        closed = gaussian_kl(np.array([[mu]]), np.array([[log_var]]))
        assert closed == pytest.approx(integral, rel=1e-9, abs=1e-12)


def test_kl_near_zero_keeps_its_digits():
    # v²/4 + v³/12 + ... at mu = 0; exp(v) - 1 - v would keep none of it.
    for v in (1e-7, -1e-7):
        kl = gaussian_kl(np.zeros((1, 1)), np.full((1, 1), v))
        assert kl == pytest.approx(v * v / 4, rel=1e-2)
    assert gaussian_kl(np.zeros((1, 3)), np.zeros((1, 3))) == 0


# --- Gradients ----------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_for_both_inputs(loss):
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 2, (3, 4)), rng.random((3, 4))
    for side, g in enumerate(gradients(loss, a, b)):
        expected = [slope(loss, a, b, i, side) for i in range(12)]
        np.testing.assert_allclose(g.ravel(), expected, rtol=1e-7, atol=1e-8)


def test_gradients_by_formula():
    rng = np.random.default_rng(2)
    a, x = rng.normal(0, 2, (5, 3)), rng.random((5, 3))
    g, _ = gradients(squared_error, a, x)
    np.testing.assert_allclose(g, 2 * (a - x) / 5, rtol=1e-14)
    g, _ = gradients(binary_cross_entropy_with_logits, a, x)
    np.testing.assert_allclose(g, (1 / (1 + np.exp(-a)) - x) / 5, rtol=1e-13)
    g_mu, g_log_var = gradients(gaussian_kl, a, x)
    np.testing.assert_allclose(g_mu, a / 5, rtol=1e-14)
    np.testing.assert_allclose(g_log_var, (np.exp(x) - 1) / 10, rtol=1e-13)


@pytest.mark.parametrize("a", [-30.0, -1.0, 0.0, 0.5, 30.0])
@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
def test_cross_entropy_has_its_second_derivative_at_zero_too(a, x):
    target = np.full((1, 1), x)

    def loss(a):
        return binary_cross_entropy_with_logits(a, target)

    second = grad(lambda a: np.sum(grad(loss)(a)))(np.full((1, 1), a))
    s = 1 / (1 + np.exp(-a))
    np.testing.assert_allclose(second, s * (1 - s), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_of_any_logit_is_finite_with_its_full_gradient(dtype):
    a = np.array([[1000, -1000, 1000, -1000, 0, 90]], dtype)
    x = np.array([[1, 0, 0, 1, 1, 0.5]], dtype)
    loss = binary_cross_entropy_with_logits(a, x)
    assert loss.dtype == dtype
    assert loss == pytest.approx(2000 + np.log(2) + 45, rel=1e-6)
    g, _ = gradients(binary_cross_entropy_with_logits, a, x)
    assert g.dtype == dtype
    np.testing.assert_allclose(g, [[0, 0, 1, -1, -0.5, 0.5]], atol=1e-7)


@pytest.mark.parametrize("loss", LOSSES)
def test_dtypes_and_kinds(loss):
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 0.5, np.float32)
    assert loss(a, b).dtype == np.float32
    recorded = loss(Tensor(a, requires_grad=True), b)
    assert isinstance(recorded, Tensor)
    assert recorded.dtype == np.float32
    assert recorded.shape == ()
    assert recorded.item() == loss(a, b)


# --- Errors -------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_shapes_must_be_equal(loss):
    a = np.zeros((4, 1))
    for other in (np.zeros(4), np.zeros((4, 2)), np.zeros((1, 1)), np.float64(0)):
        with pytest.raises(
            ValueError, match=rf"{loss.__name__}: \w+ has shape \(4, 1\)"
        ):
            loss(a, other)
        with pytest.raises(ValueError, match="must be equal"):
            loss(Tensor(other), Tensor(a))
    with pytest.raises(ValueError, match=r"no samples in shape \(0, 3\)"):
        loss(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"no samples in shape \(\)"):
        loss(np.zeros(()), np.zeros(()))
    with pytest.raises(TypeError, match=r" is a list; an array or Tensor of real"):
        loss([[0.0]], a)


# --- Gaussian and categorical -------------------------------------------------------


def test_gaussian_nll_against_the_density():
    rng = np.random.default_rng(0)
    mean, x = rng.normal(size=(2, 4, 3))
    log_var = rng.normal(size=3)
    s = np.exp(log_var / 2)
    density = np.exp(-0.5 * ((x - mean) / s) ** 2) / (s * np.sqrt(2 * np.pi))
    expected = -np.log(density).sum() / 4
    assert losses.gaussian_nll(mean, log_var, x) == pytest.approx(expected, rel=1e-13)
    gradcheck(losses.gaussian_nll, [mean, log_var, x], order=2)
    terms = losses.gaussian_terms(mean, log_var, x)
    np.testing.assert_allclose(terms, -np.log(density), rtol=1e-12)
    with pytest.raises(ValueError, match="gaussian_nll: mean has shape"):
        losses.gaussian_nll(mean, log_var, x[:3])


def test_bernoulli_terms_are_those_of_the_cross_entropy():
    rng = np.random.default_rng(0)
    a, x = rng.normal(size=(5, 3)), rng.random((5, 3))
    terms = losses.bernoulli_terms(a, x)
    p = 1 / (1 + np.exp(-a))
    np.testing.assert_allclose(terms, -x * np.log(p) - (1 - x) * np.log(1 - p))
    total = losses.binary_cross_entropy_with_logits(a, x)
    assert np.sum(terms) / 5 == pytest.approx(total, rel=1e-14)


def test_softmax_cross_entropy_against_the_definition():
    rng = np.random.default_rng(0)
    a, label = rng.normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    p = np.exp(a) / np.exp(a).sum(axis=1, keepdims=True)
    expected = -np.mean([np.log(p[i, k]) for i, k in enumerate(label)])
    assert losses.softmax_cross_entropy(a, label) == pytest.approx(expected, rel=1e-14)
    gradcheck(lambda a: losses.softmax_cross_entropy(a, label), a, order=2)
    recorded = Tensor(a, requires_grad=True)
    losses.softmax_cross_entropy(recorded, label).backward()
    np.testing.assert_allclose(recorded.grad, (p - np.eye(3)[label]) / 5, rtol=1e-12)


def test_softmax_cross_entropy_is_finite_where_probabilities_are_not():
    a = Tensor(np.array([[1000, -1000], [1000, -1000]], np.float32), requires_grad=True)
    loss = losses.softmax_cross_entropy(a, np.array([0, 1]))
    assert loss.dtype == np.float32
    assert loss.item() == 1000
    loss.backward()
    np.testing.assert_array_equal(a.grad, [[0, 0], [0.5, -0.5]])
    # A small gap between large logits matters, an impossible class does not: log(1 +
    # e^(-1/4)).
    a = np.array([[1000.25, 1000.0, -np.inf]], np.float32)
    assert losses.softmax_cross_entropy(a, np.array([0])) == pytest.approx(
        0.57593942, rel=1e-6
    )


def test_softmax_cross_entropy_takes_any_integers_and_stays_float32():
    a = np.random.default_rng(0).normal(size=(4, 300)).astype(np.float32)
    label = np.array([0, 255, 7, 200])
    expected = losses.softmax_cross_entropy(a, label)
    for kind in (np.uint8, np.int64, np.uint64):
        recorded = Tensor(a, requires_grad=True)
        loss = losses.softmax_cross_entropy(recorded, label.astype(kind))
        assert loss.dtype == np.float32
        assert loss.item() == expected
        loss.backward()
        assert recorded.grad.dtype == np.float32
    assert losses.softmax_cross_entropy(a, Tensor(label)) == expected


@pytest.mark.parametrize(
    ("logits", "label", "error", "message"),
    [
        (np.zeros((2, 3)), np.array([0, 3]), ValueError, r"label\[1\] is 3; 0 to 2"),
        (np.zeros((2, 3)), np.array([-1, 0]), ValueError, r"label\[0\] is -1; 0 to 2"),
        (
            np.zeros((2, 3)),
            np.array([0, 1, 2]),
            ValueError,
            r"shape \(3,\), \(2,\)",
        ),
        (np.zeros((2, 3)), np.array([0.0, 1]), TypeError, "label is float64, integers"),
        (np.zeros(3), np.array([0]), ValueError, r"logits have shape \(3,\); \(n, k\)"),
        (np.zeros((0, 3)), np.array([], int), ValueError, r"\(0, 3\); \(n, k\), n ≥ 1"),
    ],
)
def test_softmax_cross_entropy_names_what_is_wrong(logits, label, error, message):
    with pytest.raises(error, match=message):
        losses.softmax_cross_entropy(logits, label)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # np.matrix
@pytest.mark.parametrize(
    "loss",
    [losses.squared_error, losses.binary_cross_entropy_with_logits, losses.gaussian_kl,
     lambda a, x: losses.gaussian_nll(a, x, x),
     lambda a, x: losses.gaussian_nll(x, a, x),
     lambda a, x: np.sum(losses.bernoulli_terms(a, x)),
     lambda a, x: np.sum(losses.gaussian_terms(x, a, x))],
)  # fmt: skip
def test_gradients_next_to_subclasses_of_ndarray(loss):
    x = np.random.default_rng(0).random((3, 3))

    def gradient(x):
        a = Tensor(np.eye(3) + 1, requires_grad=True)
        loss(a, x).backward()
        return a.grad

    right = gradient(x)
    assert np.abs(right).max() > 0.01
    for given in (np.matrix(x), np.ma.array(x), x.view(np.recarray)):
        found = gradient(given)
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, right)
        plain = loss(np.matrix(np.eye(3) + 1), given)
        np.testing.assert_array_equal(plain, loss(np.eye(3) + 1, x))
