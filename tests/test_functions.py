"""The functions that NumPy lacks: their values, their limits, and how to add one."""

import math

import numpy as np
import pytest

import scratchnet
from scratchnet import NoRuleError, Tensor, functions, grad, primitive, rule
from scratchnet.table import TABLE, load
from scratchnet.tensor import where_or_zero

ELEMENTWISE = {
    functions.relu: lambda x: max(x, 0.0),
    functions.leaky_relu: lambda x: x if x > 0 else 0.2 * x,
    functions.sigmoid: lambda x: 1 / (1 + math.exp(-x)),
    functions.softplus: lambda x: math.log1p(math.exp(x)),
    functions.log_sigmoid: lambda x: -math.log1p(math.exp(-x)),
}
SLOPES = {
    functions.relu: lambda x: float(x > 0),
    functions.leaky_relu: lambda x: 1.0 if x > 0 else 0.2,
    functions.sigmoid: lambda x: math.exp(-x) / (1 + math.exp(-x)) ** 2,
    functions.softplus: lambda x: 1 / (1 + math.exp(-x)),
    functions.log_sigmoid: lambda x: 1 / (1 + math.exp(x)),
}
# The second derivatives at the same points.
CURVATURES = {
    functions.relu: lambda x: 0.0,
    functions.leaky_relu: lambda x: 0.0,
    functions.sigmoid: lambda x: -math.sinh(x / 2) / (4 * math.cosh(x / 2) ** 3),
    functions.softplus: lambda x: 1 / (4 * math.cosh(x / 2) ** 2),
    functions.log_sigmoid: lambda x: -1 / (4 * math.cosh(x / 2) ** 2),
}
ALONG = [functions.logsumexp, functions.softmax, functions.log_softmax]
EVERY = [*ELEMENTWISE, *ALONG]
POINTS = np.array([-30.0, -8.0, -1.5, -0.1, 0.1, 0.7, 3.0, 9.0, 30.0])
GAPS = np.array([[0.3, -1.2, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0], [5.0, -5.0, 0.5, 4.0]])


def name(f):
    return f.__name__


def slope(f, x, order=1):
    """Return the order-th derivative of f at each element of x."""
    for _ in range(order):
        f = grad(lambda x, f=f: np.sum(f(x)))
    return f(x)


def of_some(f, x):
    """Return the gradient of a sum of f with a different weight for each element."""

    def weighed(x):
        y = f(x)
        return np.sum(y * np.linspace(0.5, 1.5, y.size, dtype=x.dtype).reshape(y.shape))

    return grad(weighed)(x)


@pytest.mark.parametrize("f", ELEMENTWISE, ids=name)
def test_values_and_derivatives_of_elements(f):
    """Against math's functions, each in a form that is accurate at these points."""
    for reference, found in (
        (ELEMENTWISE, f(POINTS)),
        (SLOPES, slope(f, POINTS)),
        (CURVATURES, slope(f, POINTS, 2)),
    ):
        expected = [reference[f](x) for x in POINTS]
        # The slope of sigmoid at 30 is y (1 - y), where 1 - y is 1e-13 with 3 digits.
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=2e-16)


def test_sums_along_an_axis():
    exact = np.log(np.sum(np.exp(GAPS), axis=-1, keepdims=True))
    np.testing.assert_allclose(functions.logsumexp(GAPS), exact[:, 0], rtol=1e-14)
    np.testing.assert_allclose(
        functions.softmax(GAPS), np.exp(GAPS - exact), rtol=1e-14
    )
    np.testing.assert_allclose(functions.log_softmax(GAPS), GAPS - exact, rtol=1e-13)


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 1), (1,)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_axes_of_logsumexp(axis, keepdims):
    exact = np.log(np.sum(np.exp(GAPS), axis=axis, keepdims=keepdims))
    found = functions.logsumexp(GAPS, axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(found, exact, rtol=1e-14)
    assert np.shape(found) == np.shape(exact)
    # Its gradient is softmax, over all the axes that were summed.
    g = slope(lambda x: functions.logsumexp(x, axis, keepdims), GAPS)
    e = np.exp(GAPS)
    np.testing.assert_allclose(g, e / e.sum(axis=axis, keepdims=True), rtol=1e-13)


@pytest.mark.parametrize("f", EVERY, ids=name)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_finite_for_large_inputs(f, dtype):
    """At ±1000, without a warning: the usual form of a sigmoid overflows at 89."""
    x = np.array([[1000.0, -1000.0, 0.0], [-1000.0, -999.0, -1000.0]], dtype)
    y = f(x)
    assert y.dtype == dtype
    assert np.all(np.isfinite(y))
    for order in (1, 2):
        g = slope(f, x, order)
        assert g.dtype == dtype
        assert np.all(np.isfinite(g))
    assert np.all(np.isfinite(of_some(f, x)))


def test_values_of_large_inputs():
    x = np.array([1000.0, -1000.0], np.float32)
    np.testing.assert_array_equal(functions.sigmoid(x), [1, 0])
    np.testing.assert_array_equal(functions.softplus(x), [1000, 0])
    np.testing.assert_array_equal(functions.log_sigmoid(x), [0, -1000])
    np.testing.assert_array_equal(functions.softmax(x), [1, 0])
    np.testing.assert_array_equal(functions.log_softmax(x), [0, -2000])
    np.testing.assert_array_equal(functions.logsumexp(x), 1000)
    # A confident mistake keeps its whole gradient.
    np.testing.assert_array_equal(slope(functions.log_sigmoid, x), [0, 1])
    np.testing.assert_array_equal(slope(functions.softplus, x), [1, 0])


def test_infinite_inputs():
    """log 0 = -inf means "impossible", as in a mask, and affects nothing else."""
    infinite = np.array([np.inf, -np.inf])
    np.testing.assert_array_equal(functions.relu(infinite), [np.inf, 0])
    np.testing.assert_array_equal(functions.sigmoid(infinite), [1, 0])
    np.testing.assert_array_equal(functions.softplus(infinite), [np.inf, 0])
    np.testing.assert_array_equal(slope(functions.softplus, infinite), [1, 0])
    np.testing.assert_array_equal(slope(functions.sigmoid, infinite), [0, 0])

    x = np.array([0.0, -np.inf, 0.0])
    assert functions.logsumexp(x) == np.log(2)
    np.testing.assert_array_equal(slope(functions.logsumexp, x), [0.5, 0, 0.5])
    np.testing.assert_array_equal(functions.softmax(x), [0.5, 0, 0.5])
    np.testing.assert_array_equal(functions.log_softmax(x)[1], -np.inf)
    g = grad(lambda x: functions.log_softmax(x)[0])(x)
    np.testing.assert_array_equal(g, [0.5, 0, -0.5])
    impossible = np.array([[0.0, 0.0], [-np.inf, -np.inf]])
    np.testing.assert_array_equal(functions.logsumexp(impossible), [np.log(2), -np.inf])
    g = slope(functions.logsumexp, impossible)
    np.testing.assert_array_equal(g, [[0.5, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("x", "share"),
    [
        ([np.inf, 2.0], [1, 0]),
        ([2.0, -np.inf, np.inf], [0, 0, 1]),
        ([np.inf, np.inf, 1.0, -np.inf], [0.5, 0.5, 0, 0]),
        ([-np.inf, -np.inf], [0.5, 0.5]),
        ([-np.inf, 2.0, -np.inf], [0, 1, 0]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_share_also_if_infinite(x, share, dtype):
    """The share of each is softmax in the limit, the gradient of logsumexp."""
    x = np.array(x, dtype)
    np.testing.assert_array_equal(functions.softmax(x), share)
    np.testing.assert_array_equal(functions.logsumexp(x), np.max(x))
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(
            functions.log_softmax(x), np.log(share, dtype=dtype)
        )
    for f in (functions.softmax, functions.logsumexp, functions.log_softmax):
        assert f(x).dtype == dtype
        assert np.all(np.isfinite(of_some(f, x)))
        for order in (1, 2):
            assert slope(f, x, order).dtype == dtype
        np.testing.assert_array_equal(slope(f, x, 2), np.zeros_like(x))
    np.testing.assert_array_equal(slope(functions.logsumexp, x), share)
    pair = np.stack([x, x])
    np.testing.assert_array_equal(
        slope(lambda x: functions.logsumexp(x, 1, True), pair), [share, share]
    )
    g = grad(lambda x: functions.log_softmax(x)[0])(x)
    np.testing.assert_array_equal(g, np.eye(len(x))[0] - share)
    assert np.isnan(functions.softmax(np.array([np.nan, np.inf]))).all()


@pytest.mark.parametrize("f", [functions.softmax, functions.log_softmax], ids=name)
@pytest.mark.parametrize("shift", [1.0, -3.0, 4096.0])
def test_only_the_gaps_between_logits_matter(f, shift):
    x = np.array([[0.0, 0.25, -1.5], [2.0, 2.0, -0.5]], np.float32)  # exact sums below
    np.testing.assert_array_equal(f(x + np.float32(shift)), f(x))
    np.testing.assert_array_equal(of_some(f, x + np.float32(shift)), of_some(f, x))
    # A shift of all logits changes nothing, so each row of the gradient sums to 0.
    np.testing.assert_allclose(of_some(f, x).sum(axis=-1), 0, atol=1e-6)


def test_log_softmax_keeps_the_digits_of_small_gaps():
    """Without a shift, logsumexp of float32 numbers near 4096 is accurate to 0.0002."""
    x = np.array([4096.0, 4095.5], np.float32)
    np.testing.assert_allclose(
        functions.log_softmax(x)[0], -np.log1p(np.exp(-0.5)), 1e-6
    )


def test_softmax_is_a_distribution():
    y = functions.softmax(GAPS, axis=0)
    np.testing.assert_allclose(y.sum(axis=0), 1, rtol=1e-14)
    assert np.all(y > 0)


def test_the_gradient_of_softmax_has_its_off_diagonal():
    """Its Jacobian is diag(y) - y y^T. Times ones it is zero, so ones test nothing."""
    y = functions.softmax(GAPS[0])
    rows = [grad(lambda x, j=j: functions.softmax(x)[j])(GAPS[0]) for j in range(4)]
    np.testing.assert_allclose(rows, np.diag(y) - np.outer(y, y), rtol=1e-13)
    np.testing.assert_allclose(slope(functions.softmax, GAPS[0]), 0, atol=1e-16)


def test_identities():
    x = np.linspace(-40, 40, 81)
    np.testing.assert_allclose(
        functions.sigmoid(-x), 1 - functions.sigmoid(x), atol=1e-15
    )
    np.testing.assert_allclose(
        functions.softplus(x) - functions.softplus(-x), x, rtol=1e-14, atol=1e-15
    )
    np.testing.assert_allclose(
        np.exp(functions.log_sigmoid(x)), functions.sigmoid(x), rtol=1e-14
    )
    pair = np.stack([x, np.zeros_like(x)], axis=-1)
    np.testing.assert_allclose(
        functions.softmax(pair)[:, 0], functions.sigmoid(x), rtol=1e-13
    )
    np.testing.assert_allclose(
        functions.logsumexp(pair), functions.softplus(x), rtol=1e-13, atol=1e-15
    )


def test_conventions_at_zero():
    zero = np.zeros(1)
    for f, at_zero in ((functions.relu, 0), (functions.leaky_relu, 0.2)):
        assert slope(f, zero) == at_zero
        assert slope(f, zero, 2) == 0
    # The derivative at -1 is 0, although sqrt has an infinite one at relu(-1) = 0.
    assert grad(lambda x: np.sum(np.sqrt(functions.relu(x))))(np.array([-1.0])) == 0


@pytest.mark.parametrize("f", EVERY, ids=name)
def test_plain_arrays_in_plain_arrays_out(f):
    assert isinstance(f(GAPS), np.ndarray | np.generic)
    result = f(Tensor(GAPS, requires_grad=True))
    assert isinstance(result, Tensor)
    assert result.requires_grad
    np.testing.assert_array_equal(result.data, f(GAPS))
    assert getattr(scratchnet, f.__name__) is f


# --- A user's own functions ---------------------------------------------------------


@pytest.fixture
def table():
    """Restore the table afterwards."""
    load()
    before = dict(TABLE)
    yield
    TABLE.clear()
    TABLE.update(before)


@pytest.mark.usefixtures("table")
def test_a_function_of_the_users_own():
    """The example in the documentation of `primitive`, and its second derivative."""

    @primitive
    def cube(x):
        """Return x * x * x."""
        return x * x * x

    words = r"(?s)cube has no rule.*scratchnet.rule\(cube"
    with pytest.raises(NoRuleError, match=words):
        cube(Tensor(POINTS, requires_grad=True))
    rule(cube, lambda g, y, x: 3 * g * x * x)
    assert cube.__name__ == "cube"
    assert cube.__doc__ == "Return x * x * x."
    np.testing.assert_array_equal(cube(POINTS), POINTS * POINTS * POINTS)
    np.testing.assert_allclose(slope(cube, POINTS), 3 * POINTS**2)
    np.testing.assert_allclose(slope(cube, POINTS, 2), 6 * POINTS)
    np.testing.assert_allclose(slope(cube, POINTS, 3), 6)


@pytest.mark.usefixtures("table")
def test_a_function_of_several_inputs_and_an_option():
    @primitive
    def saxpy(a, x, y, *, scale=1.0):
        return scale * a * x + y

    rule(
        saxpy,
        lambda g, out, a, x, y, *, scale=1.0: g * scale * x,
        lambda g, out, a, x, y, *, scale=1.0: g * scale * a,
        lambda g, out, a, x, y, *, scale=1.0: g,
    )
    x, y = np.arange(6.0).reshape(2, 3), np.ones(3)
    # The engine sums over the copies of a broadcast number or row.
    ga, gx, gy = grad(lambda *v: np.sum(saxpy(*v, scale=2.0)), (0, 1, 2))(3.0, x, y)
    assert ga == 2 * x.sum()
    np.testing.assert_array_equal(gx, np.full((2, 3), 6))
    np.testing.assert_array_equal(gy, [2, 2, 2])
    with pytest.raises(TypeError, match=r"'factor' is not supported.*scale"):
        saxpy(1.0, Tensor(x), y, factor=2)


@pytest.mark.usefixtures("table")
def test_a_rule_of_the_wrong_shape_is_named():
    @primitive
    def twice(x):
        return 2 * x

    rule(twice, lambda g, y, x: np.ones(7))
    with pytest.raises(
        scratchnet.GraphError, match=r"twice.*argument 0.*\(7,\).*\(3,\)"
    ):
        slope(twice, np.ones(3))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_keep_is_where_to_the_last_bit(dtype):
    values = [1.5, -0.0, np.inf, -np.inf, np.nan, np.finfo(dtype).tiny, -3]
    x = np.array(values, dtype)
    for mask in (np.arange(7) % 2 == 0, np.arange(7) % 2 == 1):
        found = where_or_zero(x, mask)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, np.where(mask, x, 0))
        np.testing.assert_array_equal(np.signbit(found[mask]), np.signbit(x[mask]))
    assert where_or_zero(np.array(2.0, dtype), np.True_) == 2
    square = np.arange(6, dtype=dtype).reshape(2, 3).T
    # Any layout, any mask that broadcasts.
    kept = where_or_zero(square, np.array([True, False]))
    np.testing.assert_array_equal(kept, [[0, 0], [1, 0], [2, 0]])


def test_an_infinite_gradient_does_not_pass_where_relu_is_flat():
    x = Tensor([-1.0, 4.0], requires_grad=True)
    np.sum(np.sqrt(functions.relu(x))).backward()  # d√/dx is infinite at 0
    np.testing.assert_array_equal(x.grad, [0, 0.25])


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.2, 1, 2.0])
@pytest.mark.parametrize("kind", [float, np.float64, np.array])
def test_leaky_relu_has_any_slope(slope, kind):
    x = np.array([-2.0, -1.0, -0.3, 0.0, 0.3, 2.0])
    y = functions.leaky_relu(x, kind(slope))
    np.testing.assert_allclose(y, np.where(x > 0, x, slope * x), rtol=1e-15)
    g = grad(lambda x: np.sum(functions.leaky_relu(x, kind(slope))))(x)
    np.testing.assert_allclose(g, np.where(x > 0, 1, slope), rtol=1e-15)
    learned = Tensor(np.array(float(slope)), requires_grad=True)
    np.sum(functions.leaky_relu(x, learned)).backward()
    assert learned.grad == pytest.approx(-3.3)
    mixed = grad(lambda s: np.sum(grad(
        lambda x: np.sum(functions.leaky_relu(x, s)))(x)))  # fmt: skip
    assert mixed(np.array(float(slope))) == 4  # one for each x that is not positive
