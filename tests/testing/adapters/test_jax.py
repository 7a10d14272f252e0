"""Functions of JAX: custom_vjp, pytrees, float32 by default."""

import collections

import numpy as np
import pytest

from scratchnet.testing import gradcheck
from tests.testing.examples import report_of

jax = pytest.importorskip("jax")
jnp = jax.numpy
pytestmark = pytest.mark.frameworks
X = np.linspace(-2, 2, 12).reshape(4, 3) + 0.1
Layer = collections.namedtuple("Layer", "W b")


@pytest.fixture(autouse=True)
def float32_by_default():
    """Use JAX's default precision, also after a test that changed it."""
    with jax.enable_x64(False):
        yield


def with_gradient(gradient):
    """Return softplus with this derivative, as a custom_vjp."""

    @jax.custom_vjp
    def f(x):
        return jnp.logaddexp(x, 0)

    f.defvjp(lambda x: (f(x), x), lambda x, g: (g * gradient(x),))
    return f


def test_a_right_and_a_wrong_custom_vjp():
    x = jnp.asarray(X)
    assert x.dtype == jnp.float32
    report = gradcheck(with_gradient(jax.nn.sigmoid), x)
    assert report.blind < 1e-4
    wrong = with_gradient(lambda x: jax.nn.sigmoid(x) * jnp.where(x > 2, 1.001, 1))
    report = report_of(wrong, x)
    assert (report.verdict, report.input, report.index) == ("wrong", "x", (3, 2))
    assert report.output.startswith("output f[3, 2]")
    assert not jax.config.jax_enable_x64


def test_pytrees_in_and_out():
    p = {"layers": [Layer(jnp.asarray(X[:3]), jnp.ones(3))], "scale": jnp.array(2.0)}

    def f(p, x):
        y = jnp.tanh(x @ p["layers"][0].W + p["layers"][0].b)
        return {"y": y * p["scale"], "n": jnp.arange(3)}

    report = gradcheck(f, (p, jnp.asarray(X)))
    assert "(p.layers.0.W, p.layers.0.b, p.scale, x)" in str(report)
    assert gradcheck(jax.jit(f), (p, jnp.asarray(X)))


def test_second_order_and_forward_mode():
    f = lambda x: jnp.sum(jnp.tanh(x) ** 2, axis=1)
    report = gradcheck(f, jnp.asarray(X), order=2, forward=True)
    assert "gradient of f" in str(report)
    report = report_of(with_gradient(jax.nn.sigmoid), jnp.asarray(X), forward=True)
    assert "forward mode raised TypeError" in str(report)

    @jax.custom_jvp
    def g(x):
        return jnp.sin(x)

    g.defjvp(lambda xs, vs: (g(*xs), 1.01 * jnp.cos(xs[0]) * vs[0]))
    report = report_of(g, jnp.asarray(X), forward=True)
    assert (report.verdict, report.mistake) == ("wrong", "factor")


def test_float32_alone():
    def kernel(x):
        assert x.dtype == jnp.float32
        return jnp.tanh(x)

    report = gradcheck(kernel, jnp.asarray(X))
    assert "f was called in float32 only" in str(report)
    report = gradcheck(jnp.tanh, jnp.asarray(X), dtype=np.float32)
    assert "f was called in float32 only" in str(report)


def test_complex_numbers_by_jaxs_convention():
    z = jnp.array([1 + 2j, 0.3 - 1j])
    report = gradcheck(lambda z: jnp.sum(jnp.abs(z) ** 2), z)
    assert "dL/da - i dL/db for z = a + ib (JAX)" in str(report)
    gradcheck(lambda z: z**3, z)


def test_a_numpy_input_is_answered_with_the_way_to_convert():
    for f in (jax.jit(jnp.sin), lambda x: jnp.sin(x), with_gradient(jax.nn.sigmoid)):
        with pytest.raises(TypeError, match=r"pass jnp.asarray\(x\) instead of x"):
            gradcheck(f, X)


def test_a_key_is_a_constant():
    key = jax.random.key(0)

    def f(x, key):
        return x * jax.random.bernoulli(key, 0.5, x.shape)

    report = gradcheck(f, (jnp.asarray(X), key))
    assert "d sum(c * f)/d (x)" in str(report)
