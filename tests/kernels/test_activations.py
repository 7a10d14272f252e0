"""Activations and the cross-entropy, in place."""

import numpy as np
import pytest

from scratchnet.kernels import activations, buffers
from tests.helpers import assert_same

# For complex numbers too: a complex step gives the derivative.
FORMULAS = {
    "linear": lambda a: a,
    "relu": lambda a: np.where(a.real > 0, a, 0),
    "leaky_relu": lambda a: np.where(a.real > 0, a, 0.2 * a),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
}


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_and_their_derivatives(name, dtype):
    rng = np.random.default_rng(0)
    a = np.append(rng.normal(0, 3, (8, 6)), np.zeros((1, 6)), axis=0).astype(dtype)
    delta = rng.standard_normal(a.shape).astype(dtype)
    value = FORMULAS[name](a.astype(np.complex128))
    slope = FORMULAS[name](a + 1e-30j).imag / 1e-30
    f = activations.activation(name)
    h, scratch = a.copy(), np.full_like(a, np.nan)
    f.forward(h, scratch)
    rtol = 1e-14 if dtype is np.float64 else 2e-6
    np.testing.assert_allclose(h, value.real, rtol=rtol, atol=1e-300)
    out = delta.copy()
    f.backward(out, h)
    atol = 1e-14 if dtype is np.float64 else 1e-6  # rounding of 1 - h near h = 1
    np.testing.assert_allclose(out, delta * slope, rtol=rtol, atol=atol)
    assert out.dtype == h.dtype == dtype


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_of_large_values_are_finite_and_silent(name, dtype):
    a = np.array([-1e4, -1000, -90, 90, 1000, 1e4], dtype)
    h = a.copy()
    f = activations.activation(name)
    f.forward(h, np.empty_like(h))
    if name in ("sigmoid", "tanh"):
        low = 0 if name == "sigmoid" else -1
        np.testing.assert_allclose(h, [low] * 3 + [1] * 3, atol=1e-38)
    delta = np.ones_like(a)
    f.backward(delta, h)
    assert np.isfinite(delta).all()


def cross_entropy(a, x):
    """Return the losses and the derivative; the inputs are kept."""
    shape = np.broadcast_shapes(a.shape, x.shape)
    loss = np.empty(shape[:-1], a.dtype)
    delta = np.full(shape, np.nan, a.dtype)
    activations.cross_entropy(a.copy(), x, loss, delta, np.full_like(a, np.nan))
    return loss, delta


@pytest.mark.parametrize("block", [1, 20, 1 << 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy(dtype, block, monkeypatch):
    monkeypatch.setattr(buffers, "BLOCK", block)
    rng = np.random.default_rng(0)
    a = rng.normal(0, 4, (5, 7)).astype(dtype)
    x = rng.random((5, 7)).astype(dtype)
    s = 1 / (1 + np.exp(-a.astype(np.float64)))
    rtol = 1e-13 if dtype is np.float64 else 1e-6
    for target in (x, np.broadcast_to(x[0], (5, 7))):
        loss, delta = cross_entropy(a, target)
        terms = -target * np.log(s) - (1 - target) * np.log(1 - s)
        np.testing.assert_allclose(loss, terms.sum(axis=1), rtol=rtol)
        np.testing.assert_allclose(delta, s - target, atol=rtol)
        assert loss.dtype == delta.dtype == dtype
    # Several predictions of one target, as in the IWAE.
    a3 = rng.normal(0, 4, (5, 3, 7)).astype(dtype)
    loss, delta = cross_entropy(a3, x[:, None])
    for j in range(3):
        one = cross_entropy(a3[:, j], x)
        assert_same(loss[:, j], one[0])
        assert_same(delta[:, j], one[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_of_large_logits(dtype):
    a = np.array([[1000], [-1000], [1000], [-1000], [90], [-90]], dtype)
    x = np.array([[1], [0], [0], [1], [0], [1]], dtype)
    loss, delta = cross_entropy(a, x)
    np.testing.assert_array_equal(loss, [0, 0, 1000, 1000, 90, 90])
    np.testing.assert_array_equal(delta[:, 0], [0, 0, 1, -1, 1, -1])
    # A confident right prediction costs almost nothing, to the digits of 1/2.
    a = np.array([[12.0], [-12.0]], dtype)
    loss, _ = cross_entropy(a, np.array([[1], [0]], dtype))
    np.testing.assert_allclose(loss, np.log1p(np.exp(-12.0)), atol=np.finfo(dtype).eps)
