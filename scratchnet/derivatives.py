"""The table of derivatives: for each function of NumPy, its rule.

Read a row so: y = f(a, b), L is a number computed from y, and g = dL/dy. Each rule
gives dL/d(that input), for which the chain rule says g times the derivative of f.
What a row need not say, the engine does once for all: summing over the copies of an
input that was broadcast, and casting to the input's dtype (tensor.py, `_fit`).

A rule is plain NumPy on its arguments. Given arrays it returns an array; given
Tensors it is recorded, and so second and higher derivatives need no rows.

Where a derivative does not exist, a convention stands in, the same in all rows:

- 0 where the slope jumps at zero (abs, norms, std, hypot, arctan2 at the origin);
- ties of max, min, maximum, minimum share g equally; sort keeps their order;
- a NaN that makes max or maximum NaN takes g, as if it were the largest;
- at infinity the limit, where there is one; infinities of one size share (logaddexp,
  hypot, norms: those of equal sign in the first, all of them in the others);
- clip passes g on at both its limits; sqrt and cbrt at 0 give infinity.
"""

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from scratchnet import backend
from scratchnet.tensor import (
    Axis,
    Tensor,
    cast,
    constant,
    keep,
    plain,
    primitive,
    rewrite,
    rule,
    rule_each,
    scatter,
    spelled,
)

__all__: list[str] = []  # imported for the rows; nothing here is called by name

# fmt: off
# The rows are laid out by hand, so that they read as one table.

# --- Arithmetic ---------------------------------------------------------------------

#    y = f(inputs)       dL/d(input), one rule for each input
rule(np.add,             lambda g, y, a, b: g,         lambda g, y, a, b: g)
rule(np.subtract,        lambda g, y, a, b: g,         lambda g, y, a, b: -g)
rule(np.multiply,        lambda g, y, a, b: g * b,     lambda g, y, a, b: g * a)
rule(np.divide,          lambda g, y, a, b: g / b,     lambda g, y, a, b: -g * y / b)
rule(np.negative,        lambda g, y, x: -g)
rule(np.positive,        lambda g, y, x: g)
rule(np.reciprocal,      lambda g, y, x: -g * y * y)
rule(np.square,          lambda g, y, x: 2 * g * x)
rule(np.sqrt,            lambda g, y, x: g / (2 * y))
rule(np.cbrt,            lambda g, y, x: g / (3 * y * y))
rule(np.absolute,        lambda g, y, x: g * np.sign(x))
rule(np.fabs,            lambda g, y, x: g * np.sign(x))
rule(np.conjugate,       lambda g, y, x: g)
rule(np.remainder,       lambda g, y, a, b: g,
                         lambda g, y, a, b: -g * np.floor_divide(a, b))
rule(np.fmod,            lambda g, y, a, b: g,
                         lambda g, y, a, b: -g * np.rint((a - y) / b))
rule(np.copysign,        lambda g, y, a, b: g * np.sign(a) * np.copysign(1.0, plain(b)),
                         None)
rule(np.deg2rad,         lambda g, y, x: g * (np.pi / 180))
rule(np.radians,         lambda g, y, x: g * (np.pi / 180))
rule(np.rad2deg,         lambda g, y, x: g * (180 / np.pi))
rule(np.degrees,         lambda g, y, x: g * (180 / np.pi))


def _power_base(g: Any, y: Any, a: Any, n: Any) -> Any:
    if isinstance(n, (int, float)) and n != 0:
        return g * (n * a ** (n - 1))
    # n a**(n-1) is 0 for n = 0, also at a = 0, where a**(-1) is infinite.
    a = np.where((a == 0) & (n == 0), 1.0, a)
    return g * (n * a ** (n - 1.0))  # an unsigned 0 less the integer 1 is huge


def _power_exponent(g: Any, y: Any, a: Any, n: Any) -> Any:
    # y log a, and its limit 0 where y is 0 and log a infinite; at 0**0 it is 0 too.
    if isinstance(a, (int, float)) and 0 < a < np.inf:
        return g * y * float(np.log(a))  # a NumPy float64 would make g one too
    return g * y * np.log(np.where((y == 0) | (a == 0) & (n == 0), 1.0, a))


rule(np.power,           _power_base,                  _power_exponent)
rule(np.float_power,     _power_base,                  _power_exponent)

# --- Exponentials and logarithms ----------------------------------------------------

rule(np.exp,             lambda g, y, x: g * y)
rule(np.exp2,            lambda g, y, x: g * y * float(np.log(2)))
rule(np.expm1,           lambda g, y, x: g * np.exp(x))  # y + 1 loses digits
rule(np.log,             lambda g, y, x: g / x)
rule(np.log2,            lambda g, y, x: g / (x * float(np.log(2))))
rule(np.log10,           lambda g, y, x: g / (x * float(np.log(10))))
rule(np.log1p,           lambda g, y, x: g / (1 + x))
rule(np.logaddexp,       lambda g, y, a, b: g * np.exp(_share(y, a, b, np.log(2))),
                         lambda g, y, a, b: g * np.exp(_share(y, b, a, np.log(2))))
rule(np.logaddexp2,      lambda g, y, a, b: g * np.exp2(_share(y, a, b, 1)),
                         lambda g, y, a, b: g * np.exp2(_share(y, b, a, 1)))


def _share(y: Any, a: Any, b: Any, log_2: Any) -> Any:
    """Return a - y, the logarithm of a's share in y = log(exp(a) + exp(b)).

    Where both are the same infinity, a has all of it, or half if b ties with it.
    """
    same = np.isinf(y) & (a == y)
    whole = np.where(same & (a == b), float(log_2), np.where(same, 0.0, y))
    return np.where(same, 0.0, a) - whole


# --- Trigonometric and hyperbolic functions -----------------------------------------

rule(np.sin,             lambda g, y, x: g * np.cos(x))
rule(np.cos,             lambda g, y, x: -g * np.sin(x))
rule(np.tan,             lambda g, y, x: g * (1 + y * y))
rule(np.arcsin,          lambda g, y, x: g / np.sqrt(1 - x * x))
rule(np.arccos,          lambda g, y, x: -g / np.sqrt(1 - x * x))
rule(np.arctan,          lambda g, y, x: g / (1 + x * x))
rule(np.sinh,            lambda g, y, x: g * np.cosh(x))
rule(np.cosh,            lambda g, y, x: g * np.sinh(x))
rule(np.tanh,            lambda g, y, x: g * (1 - y * y))
rule(np.arcsinh,         lambda g, y, x: g / np.sqrt(x * x + 1))
rule(np.arccosh,         lambda g, y, x: g / np.sqrt(x * x - 1))
rule(np.arctanh,         lambda g, y, x: g / (1 - x * x))
rule(np.arctan2,         lambda g, y, a, b: g * _inverse(b, a),
                         lambda g, y, a, b: -g * _inverse(a, b))
rule(np.hypot,           lambda g, y, a, b: g * _cosine(y, a, b),
                         lambda g, y, a, b: g * _cosine(y, b, a))


def _ratio(a: Any, b: Any) -> Any:
    """Return a / b, and 0 where b is 0: the convention at a kink."""
    zero = b == 0
    return np.where(zero, 0.0, a / np.where(zero, 1.0, b))


def _cosine(r: Any, a: Any, b: Any) -> Any:
    """Return a / r, where r is the length of (a, b)."""
    a, b = _direction(a, r), _direction(b, r)
    return _ratio(a, np.hypot(a, b))


def _inverse(a: Any, b: Any) -> Any:
    """Return a / (a^2 + b^2); the squares alone may be too large, or too small."""
    r = np.hypot(a, b)
    return _ratio(_cosine(r, a, b), r)


def _direction(x: Any, r: Any) -> Any:
    """Return numbers x of a vector; if its length r is infinite, those of its limit.

    There each infinite number counts as 1 or -1, and each finite one as 0.
    """
    far = np.isinf(r)
    x = np.where(far & np.isfinite(x), 0.0, x)
    return np.where(far & (x == np.inf), 1.0, np.where(far & (x == -np.inf), -1.0, x))


@primitive
def sinc_derivative(x: Any, n: int) -> Any:
    """Return the n-th derivative of sin(u)/u at u = pi x, with respect to u.

    Differentiating u S = sin u n times gives u S_n + n S_(n-1) = sin(u + n pi/2). The
    division by u loses all digits near 0, so there the power series is summed.
    """
    u = np.pi * x
    small = np.abs(u) < n + 1
    far = np.where(small, 1.0, u)
    result = np.sin(far) / far
    for k in range(1, n + 1):
        result = (np.sin(far + k * np.pi / 2) - k * result) / far
    near = np.where(small, u, 0.0)
    power = np.ones_like(near)
    factor = 1.0 / (n + 1)  # of u**(k-n) in S_n: (-1)**(k/2) / ((k-n)! (k+1)), k even
    series = np.zeros_like(near)
    for k in range(n, n + 40):
        if k % 2 == 0:
            series = series + (-1) ** (k // 2) * power * factor * (n + 1) / (k + 1)
        power = power * near / (k - n + 1)
    return np.where(small, series, result)


rule(np.sinc,            lambda g, y, x: g * np.pi * sinc_derivative(x, 1))
rule(sinc_derivative,    lambda g, y, x, n: g * np.pi * sinc_derivative(x, n + 1), None)

# --- Choosing -----------------------------------------------------------------------


def _larger(g: Any, a: Any, b: Any, sure: Any) -> Any:
    """Return g where a > b or it is sure, half of g where they tie, else 0."""
    return keep(g, (a > b) | sure) + keep(0.5 * g, a == b)


# maximum and minimum let a NaN win, fmax and fmin let it lose.
rule(np.maximum,         lambda g, y, a, b: _larger(g, a, b, np.isnan(a)),
                         lambda g, y, a, b: _larger(g, b, a, np.isnan(b)))
rule(np.minimum,         lambda g, y, a, b: _larger(g, b, a, np.isnan(a)),
                         lambda g, y, a, b: _larger(g, a, b, np.isnan(b)))
rule(np.fmax,            lambda g, y, a, b: _larger(g, a, b, np.isnan(b)),
                         lambda g, y, a, b: _larger(g, b, a, np.isnan(a)))
rule(np.fmin,            lambda g, y, a, b: _larger(g, b, a, np.isnan(b)),
                         lambda g, y, a, b: _larger(g, a, b, np.isnan(a)))
rule(np.nan_to_num,      lambda g, y, x, *, nan=0.0, posinf=None, neginf=None:
                         np.where(np.isfinite(x), g, 0.0))


@primitive
def where(condition: Any, x: Any, y: Any) -> Any:
    """Return np.where(condition, x, y)."""
    return np.where(condition, x, y)


rule(where,              None,
                         lambda g, y, condition, a, b: np.where(condition, g, 0.0),
                         lambda g, y, condition, a, b: np.where(condition, 0.0, g))
rewrite(np.where,        lambda condition, *xy:
                         where(condition, *xy) if xy else np.nonzero(plain(condition)))


@primitive
def clip(x: Any, lo: Any, hi: Any) -> Any:
    """Return np.clip(x, lo, hi); the upper limit wins where they cross."""
    return np.clip(x, lo, hi)


def _clip(g: Any, x: Any, lo: Any, hi: Any, which: int) -> Any:
    lo = -np.inf if lo is None else lo
    hi = np.inf if hi is None else hi
    high = (x > hi) | (lo > hi)
    low = (x < lo) & ~high
    return np.where((~(low | high), low, high)[which], g, 0.0)


rule(clip,               lambda g, y, x, lo, hi: _clip(g, x, lo, hi, 0),
                         lambda g, y, x, lo, hi: _clip(g, x, lo, hi, 1),
                         lambda g, y, x, lo, hi: _clip(g, x, lo, hi, 2))


def _clip_by_name(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None,
                  max: Any = None) -> Any:
    new = min is not None or max is not None
    if new and (a_min is not None or a_max is not None):
        raise ValueError("np.clip: give either a_min and a_max, or min and max")
    return clip(a, min, max) if new else clip(a, a_min, a_max)


rewrite(np.clip,         _clip_by_name)

# --- Reductions ---------------------------------------------------------------------
# Each gives a new axis of length 1 to g where it took one away, and then uses it for
# every element that was reduced.


def _restore(g: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    """Return g with the axes that the reduction of x took away, of length 1."""
    if keepdims or x.ndim == 0:  # NumPy allows axis 0 of a number, and takes none away
        return g
    return np.reshape(g, (1,) * x.ndim) if axis is None else np.expand_dims(g, axis)


def _sum(g: Any, y: Any, a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return np.broadcast_to(_restore(g, a, axis, keepdims), a.shape)


def _mean(g: Any, y: Any, a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return _sum(g / (a.size / max(y.size, 1)), y, a, axis, keepdims=keepdims)


def _var(g: Any, y: Any, a: Any, axis: Axis = None, *, ddof: float = 0,
         keepdims: bool = False) -> Any:
    from_mean = a - np.mean(a, axis=axis, keepdims=True)
    freedom = max(a.size / max(y.size, 1) - ddof, 0)
    return _restore(g, a, axis, keepdims) * 2 * from_mean / freedom


def _std(g: Any, y: Any, a: Any, axis: Axis = None, *, ddof: float = 0,
         keepdims: bool = False) -> Any:
    # Equal numbers deviate by 0, or by what their mean was rounded by: no slope either.
    mean = np.mean(plain(a), axis=axis, keepdims=keepdims)
    y = np.where(y > 4 * np.finfo(a.dtype).eps * np.abs(mean), y, 0.0)
    return _var(_ratio(g, 2 * y), y, a, axis, ddof=ddof, keepdims=keepdims)


def _extreme(g: Any, y: Any, a: Any, axis: Axis = None, *,
             keepdims: bool = False) -> Any:
    best = (a == _restore(y, a, axis, keepdims)) | np.isnan(a)
    ties = np.maximum(np.sum(best, axis=axis, dtype=a.dtype, keepdims=True), 1)
    return np.where(best, _restore(g, a, axis, keepdims) / ties, 0.0)


def _prod(g: Any, y: Any, a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    # The product of the others, from the left and from the right: no division, so
    # that zeros among them do no harm.
    flat, unflatten = _one_axis(a, axis)
    one = np.ones_like(flat[..., :1])
    left = np.cumprod(np.concatenate([one, flat[..., :-1]], axis=-1), axis=-1)
    right = np.concatenate([flat[..., 1:], one], axis=-1)
    right = np.flip(np.cumprod(np.flip(right, -1), axis=-1), -1)
    return _restore(g, a, axis, keepdims) * unflatten(left * right)


def _one_axis(a: Any, axis: Axis) -> Any:
    """Bring the axes of a reduction together as the last one; return the way back."""
    if axis is None or a.ndim == 0:
        return np.reshape(a, (-1,)), lambda x: np.reshape(x, a.shape)
    axes = axis if isinstance(axis, tuple) else (axis,)
    last = tuple(range(-len(axes), 0))
    moved = np.moveaxis(a, axes, last)
    kept = moved.shape[: a.ndim - len(axes)]
    return (
        np.reshape(moved, (*kept, int(np.prod(moved.shape[len(kept) :])))),
        lambda x: np.moveaxis(np.reshape(x, moved.shape), last, axes),
    )


def _cumsum(g: Any, y: Any, a: Any, axis: int | None = None) -> Any:
    # a_i is in every sum from the i-th on.
    back = 0 if axis is None else axis
    return np.reshape(np.flip(np.cumsum(np.flip(g, back), back), back), a.shape)


def _cumprod(g: Any, y: Any, a: Any, axis: int | None = None) -> Any:
    # dL/da_i = (a_0 ... a_(i-1)) s_i, where s_i = g_i + a_(i+1) s_(i+1). No division.
    x, unflatten = _one_axis(a, axis)
    g = g if axis is None else np.moveaxis(g, axis, -1)
    n = x.shape[-1]
    if n == 0:
        return np.zeros_like(plain(a))
    s = [g[..., n - 1]]
    for i in range(n - 2, -1, -1):
        s.append(g[..., i] + x[..., i + 1] * s[-1])
    before = np.concatenate([np.ones_like(plain(x[..., :1])), x[..., :-1]], axis=-1)
    return unflatten(np.cumprod(before, axis=-1) * np.stack(s[::-1], axis=-1))


rule(np.sum,             _sum)
rule(np.mean,            _mean)
rule(np.prod,            _prod)
rule(np.var,             _var)
rule(np.std,             _std)
rule(np.max,             _extreme)
rule(np.min,             _extreme)
rule(np.amax,            _extreme)
rule(np.amin,            _extreme)
rule(np.cumsum,          _cumsum)
rule(np.cumprod,         _cumprod)
rule(np.sort,            lambda g, y, a, axis=-1, *, kind=None, stable=None:
                         _unsort(g, a, axis))


def _unsort(g: Any, a: Any, axis: int | None) -> Any:
    if axis is None:
        return np.reshape(_unsort(g, np.reshape(a, (-1,)), 0), a.shape)
    axis = int(axis)  # NumPy takes True for 1 in some functions, not in others
    order = np.argsort(a, axis=axis, kind="stable")
    return np.take_along_axis(g, np.argsort(order, axis=axis, kind="stable"), axis)


def _average(a: Any, axis: Axis = None, weights: Any = None, *,
             keepdims: bool = False) -> Any:
    if weights is None:
        return np.mean(a, axis=axis, keepdims=keepdims)
    if np.shape(weights) != np.shape(a):
        axes = normalize_axis_tuple(() if axis is None else axis, np.ndim(a))
        if np.shape(weights) != tuple(np.shape(a)[i] for i in axes):
            raise ValueError(
                f"np.average: weights of shape {np.shape(weights)} for shape "
                f"{np.shape(a)} and axis {axis}; give one for each element of the axes"
            )
        order = sorted(range(len(axes)), key=axes.__getitem__)
        shape = tuple(n if i in axes else 1 for i, n in enumerate(np.shape(a)))
        weights = np.reshape(np.transpose(weights, order), shape)
        weights = np.broadcast_to(weights, np.shape(a))
    total = np.sum(a * weights, axis=axis, keepdims=keepdims)
    return total / np.sum(weights, axis=axis, keepdims=keepdims)


def _diff(a: Any, n: int = 1, axis: int = -1) -> Any:
    if n < 0:
        raise ValueError(f"np.diff: n = {n} is negative")
    for _ in range(n):
        later = _along(a, slice(1, None), axis)
        a = later - _along(a, slice(0, later.shape[axis]), axis)
    return a


def _along(a: Any, key: Any, axis: int) -> Any:
    """Return a[:, ..., key, ...] with `key` at the axis."""
    return a[(slice(None),) * normalize_axis_index(axis, a.ndim) + (key,)]


rewrite(np.average,      _average)
rewrite(np.diff,         _diff)
rewrite(np.ptp,          lambda a, axis=None, *, keepdims=False:
                         np.max(a, axis=axis, keepdims=keepdims)
                         - np.min(a, axis=axis, keepdims=keepdims))
rewrite(np.nansum,       lambda a, axis=None, *, keepdims=False:
                         np.sum(np.where(np.isnan(a), 0, a), axis=axis,
                                keepdims=keepdims))
rewrite(np.nanmean,      lambda a, axis=None, *, keepdims=False:
                         np.nansum(a, axis=axis, keepdims=keepdims)
                         / np.sum(~np.isnan(a), axis=axis, dtype=a.dtype,
                                  keepdims=keepdims))

# --- Products -----------------------------------------------------------------------


def _swap(x: Any) -> Any:
    """Transpose a matrix, or each of a stack."""
    return np.swapaxes(x, -1, -2)


def _matmul_a(g: Any, y: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:
        return np.expand_dims(g, -1) * b
    if a.ndim == 1:
        return (np.expand_dims(g, -2) @ _swap(b))[..., 0, :]
    return g @ _swap(b)


def _matmul_b(g: Any, y: Any, a: Any, b: Any) -> Any:
    if a.ndim == 1:
        return np.expand_dims(g, -1 if b.ndim == 1 else -2) * (
            a if b.ndim == 1 else np.expand_dims(a, -1)
        )
    if b.ndim == 1:
        return (_swap(a) @ np.expand_dims(g, -1))[..., 0]
    return _swap(a) @ g


def _vecdot(g: Any, other: Any, axis: int, ndim: int) -> Any:
    product = np.expand_dims(g, -1) * np.moveaxis(other, axis, -1)
    return np.moveaxis(product, -1, axis if axis < 0 else axis - ndim)


rule(np.matmul,          _matmul_a,                    _matmul_b)
rule(np.vecdot,          lambda g, y, a, b, *, axis=-1: _vecdot(g, b, axis, a.ndim),
                         lambda g, y, a, b, *, axis=-1: _vecdot(g, a, axis, b.ndim))


def _dot(a: Any, b: Any) -> Any:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    if np.ndim(b) == 1 or (np.ndim(a) <= 2 and np.ndim(b) == 2):
        return np.matmul(a, b)
    return np.tensordot(a, b, axes=(-1, -2))


def _inner(a: Any, b: Any) -> Any:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return np.tensordot(a, b, axes=(-1, -1))


def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = _at_least(a, 0), _at_least(b, 0)
    if not np.iterable(axes):
        axes = range(a.ndim - int(axes), a.ndim), range(int(axes))
    pair_a = list(normalize_axis_tuple(axes[0], a.ndim))
    pair_b = list(normalize_axis_tuple(axes[1], b.ndim))
    if [a.shape[i] for i in pair_a] != [b.shape[i] for i in pair_b]:
        raise ValueError(
            f"axes {pair_a} and {pair_b} differ in length"
        )
    free_a = [i for i in range(a.ndim) if i not in pair_a]
    free_b = [i for i in range(b.ndim) if i not in pair_b]
    inner = int(np.prod([a.shape[i] for i in pair_a]))
    shape_a = tuple(a.shape[i] for i in free_a)
    shape_b = tuple(b.shape[i] for i in free_b)
    left = np.reshape(np.transpose(a, free_a + pair_a), (int(np.prod(shape_a)), inner))
    right = np.reshape(np.transpose(b, pair_b + free_b), (inner, int(np.prod(shape_b))))
    return np.reshape(left @ right, shape_a + shape_b)


def _kron(a: Any, b: Any) -> Any:
    ndim = max(np.ndim(a), np.ndim(b))
    a, b = _at_least(a, ndim), _at_least(b, ndim)
    each_a = np.reshape(a, [n for m in a.shape for n in (m, 1)])
    each_b = np.reshape(b, [n for m in b.shape for n in (1, m)])
    shape = tuple(m * n for m, n in zip(a.shape, b.shape, strict=True))
    return np.reshape(each_a * each_b, shape)


def _at_least(x: Any, ndim: int) -> Any:
    """Return x with axes of length 1 put in front until it has `ndim`."""
    x = x if isinstance(x, Tensor) else backend.asarray(x)
    return x if x.ndim >= ndim else np.reshape(x, (1,) * (ndim - x.ndim) + x.shape)


def _cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1,
           axis: int | None = None) -> Any:
    if axis is not None:
        axisa, axisb, axisc = axis, axis, axis
    a = np.moveaxis(_at_least(a, 1), axisa, -1)
    b = np.moveaxis(_at_least(b, 1), axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ValueError(
            f"np.cross: vectors of length {a.shape[-1]} and {b.shape[-1]}; only "
            "vectors of length 3 are supported"
        )
    a1, a2 = np.roll(a, -1, -1), np.roll(a, -2, -1)
    b1, b2 = np.roll(b, -1, -1), np.roll(b, -2, -1)
    return np.moveaxis(a1 * b2 - a2 * b1, -1, axisc)


@primitive
def contract(operands: Any, subscripts: str, optimize: Any = False) -> Any:
    """Return np.einsum with explicit subscripts, no letter twice in one operand."""
    return np.einsum(subscripts, *operands, optimize=optimize)


def _contract(g: Any, y: Any, i: int, operands: Any, subscripts: str,
              optimize: Any = False) -> Any:
    inputs, output = subscripts.split("->")
    terms = inputs.split(",")
    mine = terms.pop(i)
    partners = [x for j, x in enumerate(operands) if j != i]
    found = "".join(c for c in mine if c in output or any(c in t for t in terms))
    dx = np.einsum(",".join([output, *terms]) + "->" + found, g, *partners,
                   optimize=optimize)
    # A letter found nowhere else was summed over alone: dx is the same along it, and
    # along one that only had length 1 elsewhere.
    dx = dx[tuple(slice(None) if c in found else None for c in mine)]
    return np.broadcast_to(dx, np.broadcast_shapes(dx.shape, operands[i].shape))


rule_each(contract, _contract)


def _einsum(*operands: Any, optimize: Any = False) -> Any:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    if not isinstance(operands[0], str):  # operand, list of numbers, operand, ...
        def spell(numbers: Any) -> str:
            return "".join("..." if n is ... else letters[n] for n in numbers)

        spelt = ",".join(spell(numbers) for numbers in operands[1::2])
        if len(operands) % 2:
            spelt += "->" + spell(operands[-1])
        operands = (spelt, *operands[: len(operands) // 2 * 2 : 2])
    subscripts = operands[0].replace(" ", "")
    arrays = [_at_least(x, 0) for x in operands[1:]]
    inputs, arrow, output = subscripts.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(arrays):
        raise ValueError(
            f"np.einsum: {subscripts!r} names {len(terms)} operands, not {len(arrays)}"
        )
    # "..." is written out: in letters that are free, aligned at the right.
    spare = [c for c in letters if c not in subscripts]
    hidden = [
        x.ndim - len(t.replace("...", "")) if "..." in t else 0
        for t, x in zip(terms, arrays, strict=True)
    ]
    dots = "".join(spare[: max(0, *hidden)])
    if dots and arrow and "..." not in output:
        raise ValueError(f"np.einsum: {subscripts!r}: '...' is missing from the output")
    terms = [
        t.replace("...", dots[len(dots) - n :])
        for t, n in zip(terms, hidden, strict=True)
    ]
    if arrow:
        output = output.replace("...", dots)
    else:
        counted = "".join(terms)
        output = dots + "".join(
            c for c in sorted(counted) if counted.count(c) == 1 and c not in dots
        )
    for k, (term, x) in enumerate(zip(terms, arrays, strict=True)):
        if len(term) != x.ndim:
            raise ValueError(f"np.einsum: operand {k} has shape {x.shape} for {term!r}")
        for c in sorted(set(term)):
            while term.count(c) > 1:  # "ii" is the diagonal
                i = term.index(c)
                j = term.index(c, i + 1)
                if x.shape[i] != x.shape[j]:
                    raise ValueError(f"np.einsum: {c!r} is two lengths of {x.shape}")
                x = np.diagonal(x, 0, i, j)
                term = term[:i] + term[i + 1 : j] + term[j + 1 :] + c
        terms[k], arrays[k] = term, x
    return contract(arrays, ",".join(terms) + "->" + output, optimize)


rewrite(np.dot,          _dot)
rewrite(np.inner,        _inner)
rewrite(np.outer,        lambda a, b: np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1)))
rewrite(np.tensordot,    _tensordot)
rewrite(np.einsum,       _einsum)
rewrite(np.kron,         _kron)
rewrite(np.cross,        _cross)

# --- Shapes -------------------------------------------------------------------------


@primitive
def reshape(a: Any, shape: Any, order: Any = "C") -> Any:
    """Return np.reshape(a, shape, order)."""
    return np.reshape(a, shape, order=order)


def _reshape(a: Any, shape: Any, order: Any = "C") -> Any:
    if order not in ("C", "F"):
        raise TypeError(f"np.reshape: order {order!r} is not supported; use 'C' or 'F'")
    return reshape(a, shape, order)


def _untranspose(g: Any, axes: Any) -> Any:
    if axes is None:
        return np.transpose(g)
    axes = normalize_axis_tuple(axes, g.ndim)
    return np.transpose(g, sorted(range(g.ndim), key=axes.__getitem__))


def _unroll(g: Any, shift: Any, axis: Any) -> Any:
    back = -shift if np.ndim(shift) == 0 else tuple(-s for s in shift)
    return np.roll(g, back, axis)


rule(reshape,            lambda g, y, a, shape, order="C":
                         np.reshape(g, a.shape, order=order))
rewrite(np.reshape,      _reshape)
rewrite(np.ravel,        lambda a, order="C": _reshape(a, (-1,), order))
rule(np.transpose,       lambda g, y, a, axes=None: _untranspose(g, axes))
rule(np.swapaxes,        lambda g, y, a, axis1, axis2: np.swapaxes(g, axis1, axis2))
rule(np.moveaxis,        lambda g, y, a, source, destination:
                         np.moveaxis(g, destination, source))
rule(np.squeeze,         lambda g, y, a, axis=None: np.reshape(g, a.shape))
rule(np.expand_dims,     lambda g, y, a, axis: np.reshape(g, a.shape))
rule(np.broadcast_to,    lambda g, y, a, shape, *, subok=False: g)
rule(np.copy,            lambda g, y, a, order="K", subok=False: g)
rule(np.roll,            lambda g, y, a, shift, axis=None: _unroll(g, shift, axis))
rule(np.flip,            lambda g, y, m, axis=None: np.flip(g, axis))
rule(np.fliplr,          lambda g, y, m: np.fliplr(g))
rule(np.flipud,          lambda g, y, m: np.flipud(g))
rule(np.rot90,           lambda g, y, m, k=1, axes=(0, 1): np.rot90(g, -k, axes))
rule(np.tril,            lambda g, y, m, k=0: np.tril(g, k))
rule(np.triu,            lambda g, y, m, k=0: np.triu(g, k))
rewrite(np.matrix_transpose, _swap)
rewrite(np.astype,       lambda x, dtype, *, copy=True: cast(x, dtype))


def _each(reshaped: Any) -> Any:
    """Apply to one array, or to each of several, as np.atleast_1d does."""

    def definition(*arys: Any) -> Any:
        results = tuple(reshaped(x) for x in arys)
        return results[0] if len(results) == 1 else results

    return definition


def _at_least_3d(x: Any) -> Any:
    if np.ndim(x) < 2:
        return np.reshape(x, (1, -1, 1))
    return np.expand_dims(x, -1) if np.ndim(x) == 2 else x


rewrite(np.atleast_1d,   _each(lambda x: _at_least(x, 1)))
rewrite(np.atleast_2d,   _each(lambda x: _at_least(x, 2)))
rewrite(np.atleast_3d,   _each(_at_least_3d))
rewrite(np.broadcast_arrays, lambda *args: tuple(
                         np.broadcast_to(x, np.broadcast_shapes(*map(np.shape, args)))
                         for x in args))


def _meshgrid(*xi: Any, copy: bool = True, sparse: bool = False,
              indexing: str = "xy") -> Any:
    if indexing not in ("xy", "ij"):
        raise ValueError(f"np.meshgrid: indexing {indexing!r}; use 'xy' or 'ij'")
    n = len(xi)
    order = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    grids = []
    for x, axis in zip(xi, order, strict=True):
        shape = [1] * n
        shape[axis] = -1
        grids.append(np.reshape(x, tuple(shape)))
    return tuple(grids) if sparse else np.broadcast_arrays(*grids)


rewrite(np.meshgrid,     _meshgrid)

# --- Joining and splitting ----------------------------------------------------------


def _concatenate(g: Any, y: Any, i: int, arrays: Any, axis: int | None = 0) -> Any:
    if axis is None:
        start = sum(np.size(x) for x in arrays[:i])
        return np.reshape(g[start : start + arrays[i].size], arrays[i].shape)
    start = sum(np.shape(x)[axis] for x in arrays[:i])
    return _along(g, slice(start, start + arrays[i].shape[axis]), axis)


rule_each(np.concatenate, _concatenate)
rule_each(np.stack,      lambda g, y, i, arrays, axis=0: _along(g, i, axis))


def _column_stack(tup: Any) -> Any:
    columns = [np.reshape(x, (-1, 1)) if np.ndim(x) < 2 else x for x in tup]
    return np.concatenate(columns, axis=1)


def _hstack(tup: Any) -> Any:
    tup = [_at_least(x, 1) for x in tup]
    return np.concatenate(tup, axis=0 if tup[0].ndim == 1 else 1)


def _append(arr: Any, values: Any, axis: int | None = None) -> Any:
    if axis is None:
        return np.concatenate([np.reshape(arr, (-1,)), np.reshape(values, (-1,))])
    return np.concatenate([arr, values], axis=axis)


def _block(arrays: Any) -> Any:
    depth, inner = 0, arrays
    while isinstance(inner, list):
        depth, inner = depth + 1, inner[0]

    def widest(x: Any) -> int:
        return max(map(widest, x)) if isinstance(x, list) else int(np.ndim(x))

    ndim = max(depth, widest(arrays))

    def join(x: Any, level: int) -> Any:
        if isinstance(x, list) != (level < depth):
            raise ValueError(f"np.block: the lists are not all {depth} deep")
        if not isinstance(x, list):
            return _at_least(x, ndim)
        return np.concatenate([join(v, level + 1) for v in x], axis=level - depth)

    return join(arrays, 0)


rewrite(np.vstack,       lambda tup: np.concatenate([_at_least(x, 2) for x in tup]))
rewrite(np.hstack,       _hstack)
rewrite(np.dstack,       lambda tup: np.concatenate([_at_least_3d(x) for x in tup], 2))
rewrite(np.column_stack, _column_stack)
rewrite(np.append,       _append)
rewrite(np.block,        _block)


def _splits(split: Any, ary: Any, sections: Any, axis: int) -> Any:
    """Split as NumPy's `split` splits the positions along the axis."""
    pieces = split(np.arange(ary.shape[axis]), sections)
    bounds = [slice(int(p[0]), int(p[-1]) + 1) if p.size else slice(0) for p in pieces]
    return [_along(ary, piece, axis) for piece in bounds]


rewrite(np.split,        lambda ary, indices_or_sections, axis=0:
                         _splits(np.split, ary, indices_or_sections, axis))
rewrite(np.array_split,  lambda ary, indices_or_sections, axis=0:
                         _splits(np.array_split, ary, indices_or_sections, axis))
rewrite(np.vsplit,       lambda ary, indices_or_sections:
                         _splits(np.split, ary, indices_or_sections, 0))
rewrite(np.hsplit,       lambda ary, indices_or_sections:
                         _splits(np.split, ary, indices_or_sections, int(ary.ndim > 1)))
rewrite(np.dsplit,       lambda ary, indices_or_sections:
                         _splits(np.split, ary, indices_or_sections, 2))

# --- Picking and repeating ----------------------------------------------------------
# All are indexing, whose derivative is `scatter` (tensor.py): it adds each element of g
# in where the element of y came from.


def _positions(n: int, like: Any) -> Any:
    return np.arange(n, like=plain(like))


def _take(g: Any, y: Any, a: Any, indices: Any, axis: int | None = None) -> Any:
    flat = np.reshape(a, (-1,)) if axis is None or a.ndim == 0 else a
    # NumPy takes True for the index 1 here, not for a mask, and [] for no index.
    key = np.asarray(plain(indices), like=plain(a)).astype(np.intp)
    before = (slice(None),) * normalize_axis_index(axis or 0, flat.ndim)
    return np.reshape(scatter(g, (*before, key), flat), a.shape)


def _take_along_axis(g: Any, y: Any, arr: Any, indices: Any,
                     axis: int | None = -1) -> Any:
    flat = np.reshape(arr, (-1,)) if axis is None else arr
    grid = [
        np.reshape(_positions(n, arr), [-1 if j == i else 1 for j in range(flat.ndim)])
        for i, n in enumerate(flat.shape)
    ]
    grid[axis or 0] = plain(indices)
    return np.reshape(scatter(g, tuple(grid), flat), arr.shape)


def _repeat(a: Any, repeats: Any, axis: int | None = None) -> Any:
    a = np.reshape(a, (-1,)) if axis is None or a.ndim == 0 else a
    axis = 0 if axis is None else axis
    return _along(a, np.repeat(_positions(a.shape[axis], a), plain(repeats)), axis)


def _tile(A: Any, reps: Any) -> Any:
    reps = tuple(plain(reps)) if np.ndim(reps) else (int(reps),)
    A = _at_least(A, len(reps))
    reps = (1,) * (A.ndim - len(reps)) + reps
    blocks = np.reshape(A, [n for m in A.shape for n in (1, m)])
    copies = [n for r, m in zip(reps, A.shape, strict=True) for n in (r, m)]
    shape = tuple(r * m for r, m in zip(reps, A.shape, strict=True))
    return np.reshape(np.broadcast_to(blocks, copies), shape)


@primitive
def pad_constant(array: Any, pad_width: Any, constant_values: Any = 0) -> Any:
    """Return np.pad(array, pad_width, constant_values=...)."""
    return np.pad(array, pad_width, constant_values=constant_values)


def _unpad(g: Any, y: Any, array: Any, pad_width: Any, constant_values: Any = 0) -> Any:
    pairs = zip(_pairs(pad_width, array.ndim), array.shape, strict=True)
    return g[tuple(slice(before, before + n) for (before, _), n in pairs)]


def _pairs(pad_width: Any, ndim: int) -> Any:
    return np.broadcast_to(pad_width, (ndim, 2)).tolist()


def _pad(array: Any, pad_width: Any, mode: Any = "constant", *,
         constant_values: Any = 0) -> Any:
    if isinstance(pad_width, dict) or isinstance(constant_values, Tensor):
        raise TypeError(
            "np.pad: pad_width as a dictionary and constant_values as a Tensor are not "
            "supported for Tensors"
        )
    if mode == "constant":
        return pad_constant(array, pad_width, constant_values)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise TypeError(
            f"np.pad: mode {mode!r} is not supported for Tensors; use 'constant', "
            "'edge', 'reflect', 'symmetric' or 'wrap'"
        )
    picked = (
        np.pad(_positions(n, array), pair, mode=mode)
        for n, pair in zip(array.shape, _pairs(pad_width, array.ndim), strict=True)
    )
    return array[np.ix_(*picked)]


rule(pad_constant,       _unpad)


def _diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    x = np.moveaxis(a, (axis1, axis2), (-2, -1))
    return x[(..., *_band(x, offset))]


def _band(x: Any, offset: int) -> Any:
    """Return the row and column numbers of a diagonal of matrices."""
    down, right = max(-offset, 0), max(offset, 0)
    i = _positions(max(0, min(x.shape[-2] - down, x.shape[-1] - right)), x)
    return i + down, i + right


def _diag(g: Any, y: Any, v: Any, k: int = 0) -> Any:
    return np.diagonal(g, k) if v.ndim == 1 else scatter(g, _band(v, k), v)


rule(np.take,            _take,                        None)
rule(np.take_along_axis, _take_along_axis,             None)
rule(np.diag,            _diag)
rewrite(np.repeat,       _repeat)
rewrite(np.tile,         _tile)
rewrite(np.pad,          _pad)
rewrite(np.diagonal,     _diagonal)
rewrite(np.trace,        lambda a, offset=0, axis1=0, axis2=1:
                         np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1))

# --- Linear algebra -----------------------------------------------------------------

rule(np.linalg.inv,      lambda g, y, a: -_swap(y) @ g @ _swap(y))
rule(np.linalg.solve,    lambda g, y, a, b: -_outer(_solve_transposed(a, g, b), y, b),
                         lambda g, y, a, b: _solve_transposed(a, g, b))
rule(np.linalg.det,      lambda g, y, a: g[..., None, None] * _cofactors(a, y))
rule(np.linalg.cholesky, lambda g, y, a, *, upper=False:
                         _swap(_cholesky(_swap(g), _swap(y))) if upper
                         else _cholesky(g, y))


def _solve_transposed(a: Any, g: Any, b: Any) -> Any:
    if b.ndim == 1:  # one vector; NumPy takes anything else for matrices
        return np.linalg.solve(_swap(a), g[..., None])[..., 0]
    return np.linalg.solve(_swap(a), g)


def _outer(u: Any, v: Any, b: Any) -> Any:
    return u[..., :, None] * v[..., None, :] if b.ndim == 1 else u @ _swap(v)


def _cofactors(a: Any, y: Any) -> Any:
    """Return d det(a)/da: det(a) inv(a)^T, by minors where a is nearly singular."""
    n = a.shape[-1]
    # The inverse loses as many digits as cond(a) has, and its derivative twice as many.
    limit = np.finfo(a.dtype).eps ** (-1 / 3)
    if a.size == 0 or np.all(np.linalg.cond(plain(a)) < limit):
        return y[..., None, None] * _swap(np.linalg.inv(a))
    others = [[j for j in range(n) if j != i] for i in range(n)]
    kept = np.array(others, dtype=int, like=plain(a)).reshape(n, n - 1)
    minors = a[..., kept[:, None, :, None], kept[None, :, None, :]]
    sign = (-1.0) ** _positions(n, a)
    return np.linalg.det(minors) * (sign[:, None] * sign).astype(a.dtype)


def _cholesky(g: Any, y: Any) -> Any:
    # Murray 2016, eq. (10), and then: NumPy reads only the lower triangle of a, each
    # element of which stands for two of the symmetric matrix.
    inner = _half_diagonal(_swap(y) @ g)
    left = np.linalg.solve(_swap(y), inner)
    s = _swap(np.linalg.solve(_swap(y), _swap(left)))
    return _half_diagonal(s + _swap(s))


def _half_diagonal(x: Any) -> Any:
    """Return the lower triangle with half of the diagonal."""
    return (np.tril(x) + np.tril(x, -1)) / 2


@primitive
def log_abs_det(a: Any) -> Any:
    """Return log |det a|."""
    return np.linalg.slogdet(a)[1]


def _slogdet(a: Any) -> Any:
    values = np.linalg.slogdet(plain(a))
    return type(values)(values[0], log_abs_det(a))


rule(log_abs_det,        lambda g, y, a: g[..., None, None] * _swap(np.linalg.inv(a)))
rewrite(np.linalg.slogdet, _slogdet)


@primitive
def two_norm(x: Any, axis: Axis) -> Any:
    """Return the root of the sum of squares over the axes, which stay as length 1."""
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=True))


@primitive
def spectral_norm(x: Any) -> Any:
    """Return the largest singular value of each matrix."""
    return np.linalg.norm(x, 2, axis=(-2, -1))


@primitive
def eigenvectors(s: Any) -> Any:
    """Return the eigenvectors of symmetric matrices, eigenvalues ascending."""
    return np.linalg.eigh(s)[1]


def _spectral_norm(g: Any, y: Any, x: Any) -> Any:
    # d sigma = u^T dx v, for the singular vectors of the largest singular value.
    v = eigenvectors(_swap(x) @ x)[..., -1:]
    u = _ratio(x @ v, y[..., None, None])
    return g[..., None, None] * (u @ _swap(v))


def _eigenvectors(g: Any, y: Any, s: Any) -> Any:
    # dV = V (F * (V^T ds V)), F_ij = 1/(w_j - w_i) and 0 where they are equal.
    w = np.sum(y * (s @ y), axis=-2)
    f = _ratio(1.0, w[..., None, :] - w[..., :, None])
    return y @ (f * (_swap(y) @ g)) @ _swap(y)


def _two_norm(g: Any, y: Any, x: Any, axis: Any) -> Any:
    x = _direction(x, y)
    return g * _ratio(x, two_norm(x, axis))


rule(two_norm,           _two_norm)
rule(spectral_norm,      _spectral_norm)
rule(eigenvectors,       _eigenvectors)


def _norm(x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Any:
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    size = None
    if ord is None or (ord, len(axes)) in ((2, 1), ("fro", 2)):
        size = two_norm(x, axes)
    elif ord in (1, np.inf, -np.inf) and len(axes) in (1, 2):
        size = np.absolute(x)
        if len(axes) == 2:  # the largest column sum (1), the extreme row sum (inf)
            size = np.sum(size, axis=axes[0 if ord == 1 else 1], keepdims=True)
        if ord == 1 and len(axes) == 1:
            size = np.sum(size, axis=axes, keepdims=True)
        else:
            extreme = np.min if ord == -np.inf else np.max
            size = extreme(size, axis=axes, keepdims=True)
    elif ord == 2 and len(axes) == 2:
        size = spectral_norm(np.moveaxis(x, axes, (-2, -1)))
        size = np.expand_dims(size, axes)
    if size is None:
        raise ValueError(
            f"np.linalg.norm: ord={ord!r} over {len(axes)} axes is not supported for "
            "Tensors; use None, 1, 2, inf or -inf, and 'fro' for matrices"
        )
    return size if keepdims else np.squeeze(size, axis=axes)


def _vector_norm(x: Any, *, axis: Axis = None, keepdims: bool = False,
                 ord: Any = 2) -> Any:
    if axis is not None and not isinstance(axis, tuple):
        return _norm(x, ord, axis, keepdims)
    flat, _ = _one_axis(x, axis)
    size = _norm(flat, ord, -1)
    return _restore(size, x, axis, False) if keepdims else size


rewrite(np.linalg.norm,  _norm)
rewrite(np.linalg.vector_norm, _vector_norm)
rewrite(np.linalg.matrix_norm, lambda x, *, keepdims=False, ord="fro":
                         _norm(x, ord, (-2, -1), keepdims))

# NumPy 2 keeps these as functions of their own beside those of the same name.
rewrite(np.linalg.matmul,    lambda x1, x2: np.matmul(x1, x2))
rewrite(np.linalg.outer,     lambda x1, x2: np.einsum("i,j->ij", x1, x2))
rewrite(np.linalg.cross,     lambda x1, x2, *, axis=-1: np.cross(x1, x2, axis=axis))
rewrite(np.linalg.tensordot, lambda x1, x2, *, axes=2: np.tensordot(x1, x2, axes))
rewrite(np.linalg.vecdot,    lambda x1, x2, *, axis=-1:
        np.vecdot(x1, x2, axis=axis))  # type: ignore[call-overload]  # no axis in stubs
rewrite(np.linalg.diagonal,  lambda x, *, offset=0: np.diagonal(x, offset, -2, -1))
rewrite(np.linalg.trace,     lambda x, *, offset=0: np.trace(x, offset, -2, -1))
rewrite(np.linalg.matrix_transpose, _swap)

# --- Constant almost everywhere, or no floats: plain arrays -------------------------

constant(
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
    np.logical_and, np.logical_or, np.logical_not, np.logical_xor,
    np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert,
    np.isfinite, np.isinf, np.isnan, np.isneginf, np.isposinf, np.signbit,
    np.isreal, np.iscomplex, np.iscomplexobj, np.isrealobj,
    np.isclose, np.allclose, np.array_equal, np.array_equiv, np.any, np.all, np.isin,
    np.sign, np.floor, np.ceil, np.trunc, np.rint, np.fix, np.round, np.around,
    np.floor_divide, np.heaviside,
    np.argmax, np.argmin, np.nanargmax, np.nanargmin, np.argsort, np.argpartition,
    np.argwhere, np.nonzero, np.flatnonzero, np.count_nonzero, np.searchsorted,
    np.digitize, np.lexsort, np.tril_indices_from, np.triu_indices_from,
    np.shape, np.ndim, np.size, np.result_type, np.linalg.matrix_rank,
    np.zeros_like, np.ones_like, np.empty_like, np.shares_memory, np.may_share_memory,
)


def _full_like(a: Any, fill_value: Any, dtype: Any = None, *, shape: Any = None) -> Any:
    if not isinstance(fill_value, Tensor):
        return np.full_like(plain(a), fill_value, dtype, shape=shape)
    filled = np.broadcast_to(fill_value, np.shape(a) if shape is None else shape)
    return cast(filled, a.dtype if dtype is None else dtype)


rewrite(np.full_like,    _full_like)

# What errors call the functions that were defined here, beside NumPy's.
spelled("np.where", where)
spelled("np.clip", clip)
spelled("np.reshape", reshape)
spelled("np.pad", pad_constant)
spelled("np.einsum", contract)
spelled("np.sinc", sinc_derivative)
spelled("np.linalg.slogdet", log_abs_det)
spelled("np.linalg.norm", two_norm, spectral_norm, eigenvectors)
