"""The table of derivatives: the rule of each NumPy function.

How to read a row: y = f(a, b), L is a number computed from y, and g = dL/dy. Each rule
returns dL/d(its input); by the chain rule this is g times the derivative of f. The
engine sums over the copies of a broadcast input and casts to its dtype (graph.py,
`_unbroadcast`), so no rule needs to.

A rule calls only NumPy's functions. For arrays it returns an array. For Tensors its
calls are recorded, so second and higher derivatives need no rules of their own. The
arguments are annotated `Any`, since NumPy's annotations say that its functions of
Tensors return arrays.

One array g = dL/dy, of the shape of y, is all that a rule needs, for matrices too. The
Jacobian of y with respect to x has an entry dy_i/dx_j for each pair of entries. L is
one number, so the chain rule needs only the row vector g times the Jacobian,
dL/dx_j = Σ_i g_i dy_i/dx_j: the vector-Jacobian product. A rule computes this product
and never builds the Jacobian. The product for matmul is derived in byhand/mlp.py,
equations (3) and (5).

Functions that call other functions (np.split, np.einsum, ...) are in compositions.py.

Where no derivative exists, all rules follow the same conventions:

- 0 where the slope jumps at zero (abs, norms, std, hypot), and for arctan2 at (0, 0);
- ties of max, min, maximum, minimum share g equally; sort is stable;
- a NaN in max or maximum counts as the largest element: it takes g;
- at infinity the limit, if it exists; equal infinities share g (in logaddexp those of
  equal sign; in hypot and norms all of them);
- clip passes g at both of its limits; sqrt and cbrt at 0 give infinity.
"""

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple
from numpy.typing import ArrayLike

from scratchnet import backend
from scratchnet.backend import Array, Kernel
from scratchnet.graph import plain
from scratchnet.table import (
    Axis,
    Function,
    compute_by,
    nondifferentiable,
    primitive,
    rule,
    rule_each,
    spelled,
    value,
)
from scratchnet.tensor import scatter, where_or_zero

__all__: list[str] = []  # imported for its rows; nothing here is public

# fmt: off
# The rows are aligned by hand, so that they read as one table.

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
    return g * (n * a ** (n - 1.0))  # for an unsigned n = 0, n - 1 would wrap around


def _power_exponent(g: Any, y: Any, a: Any, n: Any) -> Any:
    # y log a; where y is 0 and log a is infinite, the limit 0; also 0 at 0**0.
    if isinstance(a, (int, float)) and 0 < a < np.inf:
        return g * y * float(np.log(a))  # a NumPy float64 would make g float64 too
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

    If a is the same infinity as y, its share is 1, or 1/2 if b is that infinity too.
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
    """Return a / (a^2 + b^2); the squares themselves might over- or underflow."""
    r = np.hypot(a, b)
    return _ratio(_cosine(r, a, b), r)


def _direction(x: Any, r: Any) -> Any:
    """Return the components x of a vector; if its length r is infinite, their limit.

    In this limit an infinite component counts as 1 or -1, a finite one as 0.
    """
    far = np.isinf(r)
    x = np.where(far & np.isfinite(x), 0.0, x)
    return np.where(far & (x == np.inf), 1.0, np.where(far & (x == -np.inf), -1.0, x))


@primitive
def sinc_derivative(x: Array, n: int) -> Array:
    """Return the n-th derivative of sin(u)/u at u = pi x, with respect to u.

    Differentiating u S = sin u n times gives u S_n + n S_(n-1) = sin(u + n pi/2). The
    division by u loses all digits near 0, so the power series is used there.
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
    """Return g where a > b or `sure`, half of g where a == b, else 0."""
    return where_or_zero(g, (a > b) | sure) + where_or_zero(0.5 * g, a == b)


# A NaN wins in maximum and minimum, and loses in fmax and fmin.
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
def where(condition: Array, x: Array, y: Array) -> Array:
    """Return np.where(condition, x, y)."""
    return np.where(condition, x, y)


rule(where,              None,
                         lambda g, y, condition, a, b: np.where(condition, g, 0.0),
                         lambda g, y, condition, a, b: np.where(condition, 0.0, g))


@primitive
def clip(x: Array, lo: Array, hi: Array) -> Array:
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

# --- Reductions ---------------------------------------------------------------------
# A rule restores the removed axes of g with length 1. Then g broadcasts to every
# element that was reduced.


def restore(g: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    """Return g with the axes that the reduction of x removed, each of length 1."""
    if keepdims or x.ndim == 0:  # NumPy allows axis 0 of a number, and removes nothing
        return g
    return np.reshape(g, (1,) * x.ndim) if axis is None else np.expand_dims(g, axis)


def _sum(g: Any, y: Any, a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return np.broadcast_to(restore(g, a, axis, keepdims), a.shape)


def _mean(g: Any, y: Any, a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return _sum(g / (a.size / max(y.size, 1)), y, a, axis, keepdims=keepdims)


def _var(g: Any, y: Any, a: Any, axis: Axis = None, *, ddof: float = 0,
         keepdims: bool = False) -> Any:
    from_mean = a - np.mean(a, axis=axis, keepdims=True)
    freedom = max(a.size / max(y.size, 1) - ddof, 0)
    return restore(g, a, axis, keepdims) * 2 * from_mean / freedom


def _std(g: Any, y: Any, a: Any, axis: Axis = None, *, ddof: float = 0,
         keepdims: bool = False) -> Any:
    # For equal numbers y is 0 or only the rounding of their mean: the slope is 0.
    mean = np.mean(plain(a), axis=axis, keepdims=keepdims)
    y = np.where(y > 4 * np.finfo(a.dtype).eps * np.abs(mean), y, 0.0)
    return _var(_ratio(g, 2 * y), y, a, axis, ddof=ddof, keepdims=keepdims)


def _extreme(g: Any, y: Any, a: Any, axis: Axis = None, *,
             keepdims: bool = False) -> Any:
    best = (a == restore(y, a, axis, keepdims)) | np.isnan(a)
    ties = np.maximum(np.sum(best, axis=axis, dtype=a.dtype, keepdims=True), 1)
    return np.where(best, restore(g, a, axis, keepdims) / ties, 0.0)


def _prod(g: Any, y: Any, a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    # The product of the other elements, from the left and from the right. It needs no
    # division, so zeros do no harm.
    flat, unflatten = one_axis(a, axis)
    one = np.ones_like(flat[..., :1])
    left = np.cumprod(np.concatenate([one, flat[..., :-1]], axis=-1), axis=-1)
    right = np.concatenate([flat[..., 1:], one], axis=-1)
    right = np.flip(np.cumprod(np.flip(right, -1), axis=-1), -1)
    return restore(g, a, axis, keepdims) * unflatten(left * right)


def one_axis(a: Any, axis: Axis) -> tuple[Any, Function]:
    """Merge the axes of a reduction into one last axis; also return the inverse."""
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
    x, unflatten = one_axis(a, axis)
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
    axis = int(axis)  # only some NumPy functions accept True as 1
    order = np.argsort(a, axis=axis, kind="stable")
    return np.take_along_axis(g, np.argsort(order, axis=axis, kind="stable"), axis)


def along(a: Any, key: Any, axis: int) -> Any:
    """Return a[:, ..., key, ...] with `key` at the axis."""
    return a[(slice(None),) * normalize_axis_index(axis, a.ndim) + (key,)]

# --- Products -----------------------------------------------------------------------


def swap(x: Any) -> Any:
    """Transpose a matrix, or each of a stack."""
    return np.swapaxes(x, -1, -2)


def _times(a: Any, b: Any) -> Any:
    """Return a @ b; the backend multiplies plain arrays."""
    if type(a) is np.ndarray and type(b) is np.ndarray:
        return value(np.matmul, a, b)
    return a @ b


_ROW_SUM = Kernel("row_sum", "T a", "T y", "y = a + b;", rows="T b")


def _plus(a: Any, b: Any) -> Any:
    """Return a + b; a kernel adds a row to a matrix."""
    if type(a) is type(b) is np.ndarray and (a.ndim, b.ndim) == (2, 1):
        y = backend.compute(_ROW_SUM, b, a)
        if y is not None:
            return y
    return np.add(a, b)


# For matrices: dL/da = g bᵀ and dL/db = aᵀ g, derived in byhand/mlp.py, (5) and (3).
def matmul_a(g: Any, y: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:
        return np.expand_dims(g, -1) * b
    if a.ndim == 1:
        return (np.expand_dims(g, -2) @ swap(b))[..., 0, :]
    return _times(g, swap(b))


def matmul_b(g: Any, y: Any, a: Any, b: Any) -> Any:
    if a.ndim == 1:
        return np.expand_dims(g, -1 if b.ndim == 1 else -2) * (
            a if b.ndim == 1 else np.expand_dims(a, -1)
        )
    if b.ndim == 1:
        return (swap(a) @ np.expand_dims(g, -1))[..., 0]
    return _times(swap(a), g)


def _vecdot(g: Any, other: Any, axis: int, ndim: int) -> Any:
    product = np.expand_dims(g, -1) * np.moveaxis(other, axis, -1)
    return np.moveaxis(product, -1, axis if axis < 0 else axis - ndim)


rule(np.matmul,          matmul_a,                     matmul_b)
backend.follow(lambda: compute_by(np.matmul, backend.product()))
backend.follow(lambda: compute_by(np.add, _plus if backend.name() == "c" else np.add))
rule(np.vecdot,          lambda g, y, a, b, *, axis=-1: _vecdot(g, b, axis, a.ndim),
                         lambda g, y, a, b, *, axis=-1: _vecdot(g, a, axis, b.ndim))


@primitive
def contract(operands: Any, subscripts: str, optimize: Any = False) -> Array:
    """Return np.einsum; subscripts are explicit, no operand repeats a letter."""
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
    # A letter of this operand only was summed over: dx is constant along its axis, and
    # along an axis whose letter has length 1 in the other operands.
    dx = dx[tuple(slice(None) if c in found else None for c in mine)]
    return np.broadcast_to(dx, np.broadcast_shapes(dx.shape, operands[i].shape))


rule_each(contract, _contract)

# --- Shapes -------------------------------------------------------------------------


@primitive
def reshape(a: Array, shape: Any, order: Any = "C") -> Array:
    """Return np.reshape(a, shape, order)."""
    return np.reshape(a, shape, order=order)


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

# --- Joining and splitting ----------------------------------------------------------


def _concatenate(g: Any, y: Any, i: int, arrays: Any, axis: int | None = 0) -> Any:
    if axis is None:
        start = sum(np.size(x) for x in arrays[:i])
        return np.reshape(g[start : start + arrays[i].size], arrays[i].shape)
    start = sum(np.shape(x)[axis] for x in arrays[:i])
    return along(g, slice(start, start + arrays[i].shape[axis]), axis)


rule_each(np.concatenate, _concatenate)
rule_each(np.stack,      lambda g, y, i, arrays, axis=0: along(g, i, axis))

# --- Picking and repeating ----------------------------------------------------------
# All are forms of indexing. Its derivative is `scatter` (tensor.py): it adds each
# element of g at the place that the element of y came from.


def positions(n: int, like: Any) -> Array:
    """Return 0, 1, ..., n - 1, on the device of `like`."""
    return np.arange(n, like=plain(like))


def _take(g: Any, y: Any, a: Any, indices: Any, axis: int | None = None) -> Any:
    flat = np.reshape(a, (-1,)) if axis is None or a.ndim == 0 else a
    # Here NumPy reads True as the index 1, not as a mask, and [] as no index.
    key = np.asarray(plain(indices), like=plain(a)).astype(np.intp)
    before = (slice(None),) * normalize_axis_index(axis or 0, flat.ndim)
    return np.reshape(scatter(g, (*before, key), flat), a.shape)


def _take_along_axis(g: Any, y: Any, arr: Any, indices: Any,
                     axis: int | None = -1) -> Any:
    flat = np.reshape(arr, (-1,)) if axis is None else arr
    grid = [
        np.reshape(positions(n, arr), [-1 if j == i else 1 for j in range(flat.ndim)])
        for i, n in enumerate(flat.shape)
    ]
    grid[axis or 0] = plain(indices)
    return np.reshape(scatter(g, tuple(grid), flat), arr.shape)


@primitive
def pad_constant(array: Array, pad_width: Any, constant_values: Any = 0) -> Array:
    """Return np.pad(array, pad_width, constant_values=...)."""
    return np.pad(array, pad_width, constant_values=constant_values)


def _unpad(g: Any, y: Any, array: Any, pad_width: Any, constant_values: Any = 0) -> Any:
    pairs = zip(pad_widths(pad_width, array.ndim), array.shape, strict=True)
    return g[tuple(slice(before, before + n) for (before, _), n in pairs)]


def pad_widths(pad_width: ArrayLike, ndim: int) -> list[list[int]]:
    """Return the pair (before, after) for each axis."""
    pairs: list[list[int]] = np.broadcast_to(pad_width, (ndim, 2)).tolist()
    return pairs


rule(pad_constant,       _unpad)


def band(x: Any, offset: int) -> tuple[Array, Array]:
    """Return the row and column numbers of a diagonal of matrices."""
    down, right = max(-offset, 0), max(offset, 0)
    i = positions(max(0, min(x.shape[-2] - down, x.shape[-1] - right)), x)
    return i + down, i + right


def _diag(g: Any, y: Any, v: Any, k: int = 0) -> Any:
    return np.diagonal(g, k) if v.ndim == 1 else scatter(g, band(v, k), v)


rule(np.take,            _take,                        None)
rule(np.take_along_axis, _take_along_axis,             None)
rule(np.diag,            _diag)

# --- Linear algebra -----------------------------------------------------------------

rule(np.linalg.inv,      lambda g, y, a: -swap(y) @ g @ swap(y))
rule(np.linalg.solve,    lambda g, y, a, b: -_outer(_solve_transposed(a, g, b), y, b),
                         lambda g, y, a, b: _solve_transposed(a, g, b))
rule(np.linalg.det,      lambda g, y, a: g[..., None, None] * _cofactors(a, y))
rule(np.linalg.cholesky, lambda g, y, a, *, upper=False:
                         swap(_cholesky(swap(g), swap(y))) if upper
                         else _cholesky(g, y))


def _solve_transposed(a: Any, g: Any, b: Any) -> Any:
    if b.ndim == 1:  # one vector; NumPy reads any other b as matrices
        return np.linalg.solve(swap(a), g[..., None])[..., 0]
    return np.linalg.solve(swap(a), g)


def _outer(u: Any, v: Any, b: Any) -> Any:
    return u[..., :, None] * v[..., None, :] if b.ndim == 1 else u @ swap(v)


def _cofactors(a: Any, y: Any) -> Any:
    """Return d det(a)/da: det(a) inv(a)^T, or by minors if a is nearly singular."""
    n = a.shape[-1]
    # The inverse loses as many digits as cond(a) has; its derivative loses twice that.
    limit = np.finfo(a.dtype).eps ** (-1 / 3)
    if a.size == 0 or np.all(np.linalg.cond(plain(a)) < limit):
        return y[..., None, None] * swap(np.linalg.inv(a))
    others = [[j for j in range(n) if j != i] for i in range(n)]
    kept = np.array(others, dtype=int, like=plain(a)).reshape(n, n - 1)
    minors = a[..., kept[:, None, :, None], kept[None, :, None, :]]
    sign = (-1.0) ** positions(n, a)
    return np.linalg.det(minors) * (sign[:, None] * sign).astype(a.dtype)


def _cholesky(g: Any, y: Any) -> Any:
    # Murray 2016, eq. (10). Then: NumPy reads only the lower triangle of a, so each
    # of its elements stands for two elements of the symmetric matrix.
    inner = _half_diagonal(swap(y) @ g)
    left = np.linalg.solve(swap(y), inner)
    s = swap(np.linalg.solve(swap(y), swap(left)))
    return _half_diagonal(s + swap(s))


def _half_diagonal(x: Any) -> Any:
    """Return the lower triangle with half of the diagonal."""
    return (np.tril(x) + np.tril(x, -1)) / 2


@primitive
def log_abs_det(a: Array) -> Array:
    """Return log |det a|."""
    return np.linalg.slogdet(a)[1]


rule(log_abs_det,        lambda g, y, a: g[..., None, None] * swap(np.linalg.inv(a)))


@primitive
def two_norm(x: Array, axis: Axis) -> Array:
    """Return the root of the sum of squares over the axes, kept with length 1."""
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=True))


@primitive
def spectral_norm(x: Array) -> Array:
    """Return the largest singular value of each matrix."""
    return np.linalg.norm(x, 2, axis=(-2, -1))


@primitive
def eigenvectors(s: Array) -> Array:
    """Return the eigenvectors of symmetric matrices, eigenvalues ascending."""
    return np.linalg.eigh(s)[1]


def _spectral_norm(g: Any, y: Any, x: Any) -> Any:
    # d sigma = u^T dx v, for the singular vectors of the largest singular value.
    v = eigenvectors(swap(x) @ x)[..., -1:]
    u = _ratio(x @ v, y[..., None, None])
    return g[..., None, None] * (u @ swap(v))


def _eigenvectors(g: Any, y: Any, s: Any) -> Any:
    # dV = V (F * (V^T ds V)), F_ij = 1/(w_j - w_i), or 0 if w_i = w_j.
    w = np.sum(y * (s @ y), axis=-2)
    f = _ratio(1.0, w[..., None, :] - w[..., :, None])
    return y @ (f * (swap(y) @ g)) @ swap(y)


def _two_norm(g: Any, y: Any, x: Any, axis: Any) -> Any:
    x = _direction(x, y)
    return g * _ratio(x, two_norm(x, axis))


rule(two_norm,           _two_norm)
rule(spectral_norm,      _spectral_norm)
rule(eigenvectors,       _eigenvectors)

# --- Constant almost everywhere, or not floats: plain arrays ------------------------

nondifferentiable(
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

# The names that errors use for the functions defined in this file.
spelled("np.where", where)
spelled("np.clip", clip)
spelled("np.reshape", reshape)
spelled("np.pad", pad_constant)
spelled("np.einsum", contract)
spelled("np.sinc", sinc_derivative)
spelled("np.linalg.slogdet", log_abs_det)
spelled("np.linalg.norm", two_norm, spectral_norm, eigenvectors)
