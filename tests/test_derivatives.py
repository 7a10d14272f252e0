"""The table of derivatives: every row, against NumPy's own values and differences.

`CASES` says, for every function of the table, how to call it and from where to draw its
inputs. Everything else here is a loop over it: values and dtypes against NumPy, first
and second derivatives against differences of NumPy's values, and the negative control,
in which each rule is spoilt and the same check must notice.
"""

import itertools
import random
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import scratchnet
from scratchnet import NoRuleError, Tensor, derivatives, functions, grad, no_grad, tensor
from scratchnet.tensor import TABLE, name_of, plain

EXAMPLES = 50  # of Hypothesis, for every row
TRIES = 30  # of a mutant, before it counts as one that changes nothing

# Rows that tests of other modules enter are theirs to check.
HERE = ("numpy", "scratchnet.tensor", "scratchnet.derivatives", "scratchnet.functions")


def home(function: Callable) -> str:
    module = getattr(function, "__module__", None) or "numpy"  # ufuncs have none
    return "numpy" if module.startswith("numpy") else module


ROWS = {f: row for f, row in TABLE.items() if home(f) in HERE}
CONSTANT = [f for f, row in ROWS.items() if isinstance(row, tensor._Constant)]

# --- Drawing examples ---------------------------------------------------------------

SHAPES = [(3,), (2, 3), (3, 3), (), (1,), (2, 1, 3), (2, 2, 2), (1, 3), (0,), (2, 0)]


class Draw:
    """Choices from Hypothesis (or from a seed), and numbers from a generator.

    The choices are what shrinks and what is printed: shapes, axes, options. The numbers
    need not: a rule that is wrong is wrong at almost every point.
    """

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.rng = np.random.default_rng(source.getrandbits(32))
        self.log: list[Any] = []

    def choose(self, *options: Any) -> Any:
        # Two calls of one option would be one call too many: Hypothesis counts them.
        i = self.source.randrange(len(options)) if len(options) > 1 else 0
        self.log.append(options[i])
        return options[i]

    def shape(self, least: int = 0, most: int = 3, empty: bool = True) -> Any:
        """Choose a shape with so many axes."""
        fitting = [s for s in SHAPES if least <= len(s) <= most and (empty or 0 not in s)]
        return self.choose(*fitting)

    def shapes(self, n: int) -> list[tuple[int, ...]]:
        """Choose n shapes that broadcast with each other."""
        full = self.shape()
        shapes = []
        for _ in range(n):
            dropped = self.choose(0, *range(len(full) + 1))
            shape = list(full[dropped:])
            if shape:
                axis = self.choose(None, None, *range(len(shape)))
                if axis is not None and shape[axis] > 1:
                    shape[axis] = 1
            shapes.append(tuple(shape))
        return shapes

    def values(self, shape: Any, low: float = -2.0, high: float = 2.0) -> np.ndarray:
        return self.rng.uniform(low, high, shape)

    def signed(self, shape: Any, low: float, high: float) -> np.ndarray:
        """Draw values of either sign, away from 0."""
        return self.rng.uniform(low, high, shape) * self.rng.choice([-1.0, 1.0], shape)

    def apart(self, *shapes: Any) -> list[np.ndarray]:
        """Draw values of which no two come closer than 0.2, and none to 0."""
        sizes = [int(np.prod(shape)) for shape in shapes]
        ranks = self.rng.permutation(sum(sizes)) - sum(sizes) // 2 + 0.5
        numbers = 0.3 * ranks + self.rng.uniform(-0.05, 0.05, ranks.shape)
        parts = np.split(numbers, np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def axis(self, ndim: int, none: bool = False) -> Any:
        """Choose one axis, counted from either end."""
        return self.choose(*[None] * none, *range(-ndim, ndim))

    def axes(self, ndim: int) -> Any:
        """Choose None, an axis or a tuple of axes, counted from either end."""
        pairs = [(i, j - ndim) for i in range(ndim) for j in range(ndim) if i != j]
        singles = [(i,) for i in range(ndim)]
        return self.choose(None, *range(-ndim, ndim), *pairs, *singles, ())

    def spread(self, n: int, *batch: int) -> np.ndarray:
        """Draw square matrices far from singular."""
        return self.values((*batch, n, n), -1.0, 1.0) + 2.5 * np.eye(n)


# A case draws its inputs and returns (call, inputs): call(*inputs), with plain arrays or
# with Tensors, gives an array or several.
Case = Callable[[Draw, Callable], tuple[Callable, list[np.ndarray]]]
CASES: dict[Callable, list[Case]] = {}


def case(*names: Callable) -> Callable[[Case], Case]:
    def enter(build: Case) -> Case:
        for function in names:
            CASES.setdefault(function, []).append(build)
        return build

    return enter


# --- The cases: functions of each element -------------------------------------------

UNARY: dict[Callable, tuple[float, float]] = {
    np.negative: (-2, 2),
    np.positive: (-2, 2),
    np.square: (-2, 2),
    np.sqrt: (0.5, 3),
    np.conjugate: (-2, 2),
    np.deg2rad: (-90, 90),
    np.radians: (-90, 90),
    np.rad2deg: (-2, 2),
    np.degrees: (-2, 2),
    np.exp: (-2, 2),
    np.exp2: (-2, 2),
    np.expm1: (-2, 2),
    np.log: (0.5, 3),
    np.log2: (0.5, 3),
    np.log10: (0.5, 3),
    np.log1p: (-0.5, 2),
    np.sin: (-3, 3),
    np.cos: (-3, 3),
    np.tan: (-1, 1),
    np.arcsin: (-0.7, 0.7),
    np.arccos: (-0.7, 0.7),
    np.arctan: (-3, 3),
    np.sinh: (-2, 2),
    np.cosh: (-2, 2),
    np.tanh: (-2, 2),
    np.arcsinh: (-3, 3),
    np.arccosh: (1.4, 3),
    np.arctanh: (-0.7, 0.7),
    np.sinc: (-3, 3),
    functions.sigmoid: (-4, 4),
    functions.softplus: (-4, 4),
    tensor._alias: (-2, 2),
}
AWAY_FROM_ZERO = [np.reciprocal, np.cbrt, np.absolute, np.fabs, functions.relu]


@case(*UNARY)
def unary(d, f):
    return f, [d.values(d.shape(), *UNARY[f])]


@case(*AWAY_FROM_ZERO)
def unary_signed(d, f):
    return f, [d.signed(d.shape(), 0.4, 2)]


@case(functions.leaky_relu)
def leaky_relu(d, f):
    slope = d.choose(0.2, 0.01)
    call = d.choose(partial(f, slope=slope), lambda x: f(x, slope), f)
    return call, [d.signed(d.shape(), 0.4, 2)]


@case(np.nan_to_num)
def nan_to_num(d, f):
    x = d.values(d.shape())
    odd = d.choose(np.nan, np.inf, -np.inf)
    x[d.rng.random(x.shape) < 0.2] = odd
    how = d.choose({}, {"nan": 1.0}) if np.isnan(odd) else {"posinf": 3.0, "neginf": -3.0}
    return lambda x: f(x, **how), [x]


@case(derivatives.sinc_derivative)
def sinc_derivative(d, f):
    n = d.choose(0, 1, 2, 3)
    return lambda x: f(x, n), [d.values(d.shape(), -3, 3)]


BINARY: dict[Callable, tuple[tuple[float, float], tuple[float, float]]] = {
    np.add: ((-2, 2), (-2, 2)),
    np.subtract: ((-2, 2), (-2, 2)),
    np.multiply: ((-2, 2), (-2, 2)),
    np.divide: ((-2, 2), (0.5, 2)),
    np.power: ((0.5, 2), (-2, 3)),
    np.float_power: ((0.5, 2), (-2, 3)),
    np.logaddexp: ((-3, 3), (-3, 3)),
    np.logaddexp2: ((-3, 3), (-3, 3)),
    # a/b stays between integers, and its whole part is not 0
    np.remainder: ((4.0, 4.3), (1.1, 1.2)),
    np.fmod: ((4.0, 4.3), (1.1, 1.2)),
}


@case(*BINARY)
def binary(d, f):
    a, b = d.shapes(2)
    return f, [d.values(a, *BINARY[f][0]), d.values(b, *BINARY[f][1])]


@case(np.remainder, np.fmod, np.divide)
def binary_negative(d, f):
    a, b = d.shapes(2)
    a, b = d.values(a, *BINARY[f][0]), d.values(b, *BINARY[f][1])
    return f, d.choose([-a, b], [a, -b], [-a, -b])


@case(np.power, np.float_power)
def power_of_constant(d, f):
    shape, *_ = d.shapes(2)
    n = d.choose(2, 3, -1, 0, 1, 0.5, np.array([2, 0, 3]), np.float64(2), np.int64(3))
    if np.ndim(n):
        shape = d.choose((3,), (2, 3), (2, 1))
    return lambda x: f(x, n), [d.values(shape, 0.5, 2)]


@case(np.power)
def constant_to_power(d, f):
    base = d.choose(2.0, 3, 0.5)
    return lambda n: f(base, n), [d.values(d.shape(), -2, 2)]


@case(np.power)
def power_of_negative(d, f):
    n = d.choose(2, 3, -2)
    return lambda x: f(x, n), [-d.values(d.shape(), 0.5, 2)]


@case(np.copysign, np.hypot, np.arctan2)
def binary_signed(d, f):
    a, b = d.shapes(2)
    return f, [d.signed(a, 0.5, 2), d.signed(b, 0.5, 2)]


@case(np.maximum, np.minimum, np.fmax, np.fmin)
def choosing(d, f):
    return f, d.apart(*d.shapes(2))


@case(np.fmax, np.fmin)
def choosing_with_nan(d, f):
    a, b = d.apart(*d.shapes(2))
    a[d.rng.random(a.shape) < 0.3] = np.nan
    return f, [a, b]


@case(np.maximum, np.minimum)
def choosing_with_number(d, f):
    limit = d.choose(0.0, 0, np.zeros(3))
    shape = d.shape() if np.ndim(limit) == 0 else d.choose((3,), (2, 3))
    return lambda x: f(x, limit), d.apart(shape)


@case(np.where, derivatives.where)
def where(d, f):
    c, a, b = d.shapes(3)
    condition = d.rng.random(c) < 0.5
    return lambda x, y: f(condition, x, y), [d.values(a), d.values(b)]


@case(np.clip, derivatives.clip)
def clip(d, f):
    return f, d.apart(*d.shapes(3))


@case(np.clip, derivatives.clip)
def clip_one_side(d, f):
    x, limit = d.apart(*d.shapes(2))
    return d.choose(lambda x, lo: f(x, lo, None), lambda x, hi: f(x, None, hi)), [x, limit]


@case(np.clip)
def clip_by_keyword(d, f):
    x, lo, hi = d.apart(*d.shapes(3))
    return d.choose(
        (lambda x, lo, hi: f(x, min=lo, max=hi), [x, lo, hi]),
        (lambda x, lo: f(x, a_min=lo, a_max=None), [x, lo]),
        (lambda x: f(x, -0.5, 0.5), [x]),
        (lambda x, hi: f(x, max=hi), [x, hi]),
    )


# --- The cases: reductions ----------------------------------------------------------


def options(d: Draw, **values: Any) -> dict[str, Any]:
    """Give each option the value, or leave it out."""
    return {k: v for k, v in values.items() if d.choose(True, False)}


@case(np.sum, np.mean, np.prod)
def reduction(d, f):
    shape = d.shape(empty=f is not np.mean)
    how = options(d, axis=d.axes(len(shape)), keepdims=d.choose(True, False))
    return lambda x: f(x, **how), [d.values(shape)]


@case(np.var, np.std)
def deviation(d, f):
    shape = d.choose((3,), (2, 3), (3, 3), (2, 2, 3), (4,))
    axis = d.axes(len(shape))
    axis = None if axis == () else axis
    how = {
        "axis": axis,
        **options(d, ddof=d.choose(0, 1, 0.5), keepdims=d.choose(True, False)),
    }
    return lambda x: f(x, **how), d.apart(shape)


@case(np.max, np.min, np.amax, np.amin, np.ptp)
def extreme(d, f):
    shape = d.shape(empty=False)
    how = options(d, axis=d.axes(len(shape)), keepdims=d.choose(True, False))
    return lambda x: f(x, **how), d.apart(shape)


@case(np.nansum, np.nanmean)
def nan_reduction(d, f):
    shape = d.choose((3,), (2, 3), (3, 3), (2, 2, 2))
    how = options(d, axis=d.axes(len(shape)), keepdims=d.choose(True, False))
    if how.get("axis", None) == ():
        how["axis"] = None
    x = d.values(shape)
    x[..., d.choose(0, 1)] = d.choose(np.nan, 1.0)
    if how.get("axis", None) in (0, -len(shape)) or d.choose(True, False):
        x[~np.isfinite(x)] = 2.0
        x.flat[d.choose(0, 1)] = np.nan
    return lambda x: f(x, **how), [x]


@case(np.cumsum, np.cumprod)
def cumulative(d, f):
    shape = d.shape()
    how = options(d, axis=d.axis(len(shape), none=True))
    return lambda x: f(x, **how), [d.values(shape)]


@case(np.sort)
def sort(d, f):
    shape = d.shape(least=1)
    how = options(d, axis=d.axis(len(shape), none=True))
    how.update(options(d, kind="stable") or options(d, stable=True))
    return lambda x: f(x, **how), d.apart(shape)


@case(np.average)
def average(d, f):
    shape = d.shape(empty=False)
    how = options(d, axis=d.axes(len(shape)), keepdims=d.choose(True, False))
    if d.choose(True, False):
        return lambda x: f(x, **how), [d.values(shape)]
    return lambda x, w: f(x, weights=w, **how), [d.values(shape), d.values(shape, 0.5, 2)]


@case(np.average)
def average_along(d, f):
    shape, axis = d.choose(
        ((2, 3), 1), ((2, 3), -2), ((2, 3, 4), (0, 2)), ((2, 3, 4), (2, 0)), ((3,), (0,))
    )
    weights = tuple(shape[a] for a in (axis if isinstance(axis, tuple) else (axis,)))
    both = d.choose(True, False)
    return lambda x, w: f(x, axis, w, returned=both), [
        d.values(shape),
        d.values(weights, 0.5, 2),
    ]


@case(np.diff)
def diff(d, f):
    shape = d.shape(least=1)
    how = options(d, n=d.choose(0, 1, 2, 3), axis=d.axis(len(shape)))
    return lambda x: f(x, **how), [d.values(shape)]


@case(functions.logsumexp)
def logsumexp(d, f):
    shape = d.shape(least=1, empty=False)
    how = options(d, axis=d.axes(len(shape)), keepdims=d.choose(True, False))
    return lambda x: f(x, **how), [d.values(shape)]


@case(functions.softmax)
def softmax(d, f):
    shape = d.shape(least=1, empty=False)
    how = options(d, axis=d.axis(len(shape)))
    return lambda x: f(x, **how), [d.values(shape)]


# --- The cases: products ------------------------------------------------------------

MATMUL = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3, 2)),
    ((3, 3), (3, 3)),
    ((2, 2, 3), (3,)),
    ((3,), (2, 3, 2)),
    ((2, 2, 3), (3, 4)),
    ((2, 3), (2, 3, 2)),
    ((1, 2, 3), (4, 3, 2)),
    ((2, 1, 2, 3), (3, 3, 1)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
]


@case(np.matmul, np.linalg.matmul)
def matmul(d, f):
    if f is np.linalg.matmul:
        pairs = [p for p in MATMUL if min(map(len, p)) > 1]
    else:
        pairs = MATMUL
    a, b = d.choose(*pairs)
    return f, [d.values(a), d.values(b)]


@case(np.dot)
def dot(d, f):
    a, b = d.choose(
        ((3,), (3,)),
        ((2, 3), (3, 2)),
        ((3, 3), (3, 3)),
        ((), (2, 3)),
        ((2, 3), ()),
        ((2, 3), (3,)),
        ((3,), (3, 2)),
        ((2, 2, 3), (3,)),
        ((2, 2, 3), (3, 2)),
        ((2, 3), (2, 3, 2)),
        ((3,), (2, 3, 2)),
        ((2, 1, 3), (2, 3, 4)),
        ((0, 3), (3, 2)),
    )
    return f, [d.values(a), d.values(b)]


@case(np.inner)
def inner(d, f):
    a, b = d.choose(
        ((3,), (3,)),
        ((2, 3), (4, 3)),
        ((3, 3), (3, 3)),
        ((), (2, 3)),
        ((2, 3), ()),
        ((3,), (2, 3)),
        ((2, 2, 3), (3,)),
        ((2, 1, 3), (2, 2, 3)),
        ((0, 3), (2, 3)),
    )
    return f, [d.values(a), d.values(b)]


@case(np.outer)
def outer(d, f):
    a, b = d.choose(((3,), (2,)), ((), (3,)), ((2, 2), (3,)), ((2, 1), (1, 2)), ((0,), (2,)))
    return f, [d.values(a), d.values(b)]


@case(np.linalg.outer)
def linalg_outer(d, f):
    return f, [d.values(d.choose(3, 2, 0)), d.values(d.choose(3, 2))]


@case(np.vecdot, np.linalg.vecdot)
def vecdot(d, f):
    a, b, axis = d.choose(
        ((3,), (3,), -1),
        ((2, 3), (2, 3), None),
        ((2, 3), (3,), -1),
        ((3,), (2, 3), -1),
        ((2, 3), (2, 3), 0),
        ((2, 3), (2, 3), -2),
        ((2, 2, 3), (2, 1, 3), -1),
        ((2, 3, 2), (1, 3, 2), 1),
        ((3, 3), (3, 3), 0),
        ((0, 3), (3,), -1),
    )
    how = {} if axis is None else {"axis": axis}
    return lambda a, b: f(a, b, **how), [d.values(a), d.values(b)]


@case(np.vecdot)
def vecdot_positive_axis(d, f):
    # An axis counted from the front is each operand's own.
    return lambda a, b: f(a, b, axis=0), [d.values((3, 2)), d.values((3, 4, 2))]


@case(np.tensordot, np.linalg.tensordot)
def tensordot(d, f):
    a, b, axes = d.choose(
        ((2, 3), (3, 2), 1),
        ((3, 3), (3, 3), None),
        ((2, 3), (2, 3), 2),
        ((2,), (3,), 0),
        ((2, 3, 4), (3, 2), ([1, 0], [0, 1])),
        ((2, 3, 4), (4, 3, 2), ((0, 1), (-1, -2))),
        ((2, 3), (4, 3), (1, 1)),
        ((2, 3), (2, 4), (0, 0)),
        ((2, 3), (2, 4), (-2, [0])),
        ((2, 3, 4), (3, 4, 2), np.int64(2)),
        ((2, 3, 4), (2, 3, 4), (np.array([0, 2]), np.array([0, 2]))),
        ((2, 0), (0, 3), 1),
        ((), (2,), 0),
    )
    how = {} if axes is None else {"axes": axes}
    return lambda a, b: f(a, b, **how), [d.values(a), d.values(b)]


EINSUM = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (3, 3), (3, 3)),  # implicit
    ("ba", (2, 3)),  # implicit, hence a transpose
    ("ij->ji", (3, 3)),
    ("ij->", (2, 3)),
    ("ij->i", (2, 3)),
    ("ii", (3, 3)),
    ("ii->i", (3, 3)),
    ("iij->j", (2, 2, 3)),
    ("iji->ji", (2, 3, 2)),
    ("iii->i", (2, 2, 2)),
    ("ijij->", (2, 3, 2, 3)),
    ("i,i->i", (3,), (3,)),
    ("i,j->", (3,), (2,)),  # both summed alone
    ("i,j,k->ijk", (2,), (3,), (2,)),
    ("ij,ij,ij->", (2, 3), (2, 3), (2, 3)),
    ("...ij,...jk->...ik", (2, 2, 3), (3, 2)),
    ("...ij,...jk->...ik", (2, 1, 2, 3), (3, 3, 2)),
    ("...i->...", (2, 3)),
    ("...ii->...i", (2, 3, 3)),
    ("i...,i...", (2, 3), (2, 3)),
    ("...,...", (2, 3), (3,)),
    ("i...->...", (2, 3)),
    ("...", (2, 3)),
    (" i j , j -> i ", (2, 3), (3,)),
    (",i->i", (), (3,)),
    ("bij,bjk,bkl->bil", (2, 2, 3), (2, 3, 2), (2, 2, 1)),
    ("iI,I->i", (2, 3), (3,)),  # capital letters are others
    ("ij,ij->ij", (2, 3), (1, 3)),  # a length of 1 is broadcast
    ("ij,ij->i", (2, 3), (2, 1)),
    ("ij,ij->", (1, 3), (2, 3)),
    ("ij,jk->ik", (2, 1), (3, 2)),
    ("ij,kj->ik", (0, 3), (2, 3)),
]


@case(np.einsum)
def einsum(d, f):
    subscripts, *shapes = d.choose(*EINSUM)
    how = options(d, optimize=d.choose(True, False, "greedy"))
    return lambda *xs: f(subscripts, *xs, **how), [d.values(s) for s in shapes]


@case(np.einsum)
def einsum_with_one_operand_constant(d, f):
    b = d.values((3, 4))
    return lambda a: f("ij,jk->ik", a, b), [d.values((2, 3))]


@case(np.einsum)
def einsum_interleaved(d, f):
    a, b = d.values((2, 3)), d.values((3, 2))
    return d.choose(
        (lambda a, b: f(a, [0, 1], b, [1, 2], [0, 2]), [a, b]),
        (lambda a, b: f(a, [0, 1], b, [1, 2]), [a, b]),
        (lambda a: f(a, [1, 0]), [a]),
        (lambda a, b: f(a, [..., 1], b, [1, 2], [..., 2]), [a, b]),
        (lambda a: f(a, [30, 2]), [a]),  # numbers from 26 on are other letters
        (lambda a: f(a, [2, 30], []), [a]),
    )


@case(derivatives.contract)
def contract(d, f):
    subscripts, *shapes = d.choose(
        ("ij,jk->ik", (2, 3), (3, 4)),
        ("ij->i", (3, 3)),
        ("i,i,i->", (3,), (3,), (3,)),
        ("ij->ji", (3, 3)),
        ("ij,ij->ij", (3, 3), (3, 3)),
        ("i,j->i", (2,), (3,)),
    )
    return lambda *xs: f(list(xs), subscripts), [d.values(s) for s in shapes]


@case(np.kron)
def kron(d, f):
    a, b = d.choose(
        ((2,), (3,)),
        ((2, 2), (2, 2)),
        ((2, 3), (3, 1)),
        ((3,), (2, 2)),
        ((2, 1, 2), (2, 2)),
        ((), (3,)),
        ((2, 2), ()),
    )
    return f, [d.values(a), d.values(b)]


@case(np.cross)
def cross(d, f):
    a, b, how = d.choose(
        ((3,), (3,), {}),
        ((2, 3), (2, 3), {}),
        ((3, 3), (3, 3), {"axis": 0}),
        ((3, 3), (3,), {}),
        ((3,), (2, 3), {}),
        ((3, 2), (2, 3), {"axisa": 0, "axisc": 0}),
        ((3, 2), (3, 2), {"axis": 0}),
        ((2, 1, 3), (2, 3), {}),
        ((3, 2), (3, 2), {"axisa": 0, "axisb": 0}),
    )
    return lambda a, b: f(a, b, **how), [d.values(a), d.values(b)]


@case(np.linalg.cross)
def linalg_cross(d, f):
    a, b, how = d.choose(
        ((3,), (3,), {}), ((2, 3), (2, 3), {}), ((3, 2), (3, 2), {"axis": 0})
    )
    return lambda a, b: f(a, b, **how), [d.values(a), d.values(b)]


# --- The cases: shapes --------------------------------------------------------------


@case(np.reshape)
def reshape(d, f):
    call = d.choose(
        lambda x: f(x, (3, 2)),
        lambda x: f(x, -1),
        lambda x: f(x, (2, -1)),
        lambda x: f(x, (3, 2), "F"),
        lambda x: f(x, (3, 2), order="C"),
        lambda x: f(x, shape=(1, 6)),
        lambda x: f(x, [6, 1]),
    )
    return call, [d.values(d.choose((2, 3), (6,), (1, 2, 3)))]


@case(derivatives.reshape)
def reshape_primitive(d, f):
    shape, order = d.choose((3, 2), (-1,)), d.choose("C", "F")
    return lambda x: f(x, shape, order), [d.values((2, 3))]


@case(np.ravel)
def ravel(d, f):
    call = d.choose(f, lambda x: f(x, "F"), lambda x: f(x, order="C"))
    return call, [d.values(d.shape())]


@case(np.transpose)
def transpose(d, f):
    call, shape = d.choose(
        (f, (2, 3)),
        (f, (3, 3)),
        (f, ()),
        (lambda x: f(x, (1, 0)), (3, 3)),
        (lambda x: f(x, (2, 0, 1)), (2, 1, 3)),
        (lambda x: f(x, axes=(-1, 0, -2)), (2, 2, 2)),
        (lambda x: f(x, [1, 0]), (2, 0)),
    )
    return call, [d.values(shape)]


@case(np.swapaxes)
def swapaxes(d, f):
    shape = d.shape(least=1)
    i, j = d.axis(len(shape)), d.axis(len(shape))
    return lambda x: f(x, i, j), [d.values(shape)]


@case(np.moveaxis)
def moveaxis(d, f):
    source, destination = d.choose((0, 1), (-1, 0), ((0, 1), (-1, 0)), ([2, 0], [0, 1]))
    return lambda x: f(x, source, destination), [d.values(d.choose((2, 1, 3), (2, 2, 2)))]


@case(np.squeeze)
def squeeze(d, f):
    call, shape = d.choose(
        (f, (2, 1, 3)),
        (f, (3, 3)),
        (f, (1, 1)),
        (lambda x: f(x, axis=-2), (2, 1, 3)),
        (lambda x: f(x, (0, 2)), (1, 3, 1)),
    )
    return call, [d.values(shape)]


@case(np.expand_dims)
def expand_dims(d, f):
    axis = d.choose(0, -1, (0, 1), (0, -1))
    return lambda x: f(x, axis), [d.values(d.shape())]


@case(np.broadcast_to)
def broadcast_to(d, f):
    small, large = d.choose(
        ((3,), (2, 3)), ((), (2, 2)), ((2, 1), (2, 3)), ((1, 3), (3, 3)), ((3, 3), (3, 3)),
        ((3,), 3), ((1,), (0,)),
    )  # fmt: skip
    return lambda x: f(x, large), [d.values(small)]


@case(np.broadcast_arrays)
def broadcast_arrays(d, f):
    return f, [d.values(s) for s in d.shapes(d.choose(2, 1, 3))]


@case(np.copy, np.atleast_1d, np.atleast_2d, np.atleast_3d)
def reshaping(d, f):
    return f, [d.values(d.shape())]


@case(np.atleast_1d, np.atleast_2d, np.atleast_3d)
def reshaping_several(d, f):
    return f, [d.values(d.shape()), d.values(d.shape())]


@case(np.roll)
def roll(d, f):
    shift, axis = d.choose(
        (1, None), (-2, 0), (1, -1), ((1, 2), (0, 1)), (1, (0, 1)), ((1, 1), 0),
        (np.int64(1), 1), ([1, -1], [0, 0]),
    )  # fmt: skip
    return lambda x: f(x, shift, axis), [d.values(d.choose((2, 3), (3, 3), (2, 2, 2)))]


@case(np.flip)
def flip(d, f):
    shape = d.shape()
    how = options(d, axis=d.axes(len(shape)))
    return lambda x: f(x, **how), [d.values(shape)]


@case(np.fliplr, np.flipud, np.matrix_transpose, np.linalg.matrix_transpose)
def of_matrix(d, f):
    return f, [d.values(d.shape(least=2))]


@case(np.rot90)
def rot90(d, f):
    k = d.choose(1, 0, 2, 3, -1, 5)
    how = d.choose({}, {"axes": (1, 0)}, {"axes": (-1, 0)})
    return lambda x: f(x, k, **how), [d.values(d.shape(least=2))]


@case(np.tril, np.triu)
def triangle(d, f):
    how = options(d, k=d.choose(0, 1, -1, 5))
    return lambda x: f(x, **how), [d.values(d.shape(least=1))]


@case(tensor.cast)
def cast(d, f):
    return lambda x: f(x, np.float64), [d.values(d.shape())]


if hasattr(np, "astype"):  # from NumPy 2.1 on

    @case(np.astype)
    def astype(d, f):
        how = options(d, copy=d.choose(True, False))
        return lambda x: f(x, np.float64, **how), [d.values(d.shape())]


@case(np.meshgrid)
def meshgrid(d, f):
    how = options(
        d,
        indexing=d.choose("xy", "ij"),
        sparse=d.choose(True, False),
        copy=d.choose(True, False),
    )
    shapes = d.choose([(2,), (3,)], [(3,)], [(2,), (1,), (3,)], [(), (2,)], [(0,), (2,)])
    return lambda *xs: f(*xs, **how), [d.values(s) for s in shapes]


@case(np.full_like)
def full_like(d, f):
    like = np.zeros((2, 3))
    return d.choose(
        (lambda v: f(like, v), [d.values(d.choose((), (3,), (2, 1)))]),
        (lambda x, v: f(x, v), [d.values((2, 3)), d.values(())]),
        (lambda v: f(like, v, shape=()), [d.values(())]),
        (lambda v: f(like, v, shape=(3,)), [d.values(())]),
        (lambda v: f(like, v, shape=3), [d.values(())]),
    )


# --- The cases: joining and splitting -----------------------------------------------


@case(np.concatenate)
def concatenate(d, f):
    shapes, how = d.choose(
        ([(2,), (3,)], {}),
        ([(2, 3), (1, 3), (0, 3)], {}),
        ([(2, 1), (2, 2)], {"axis": 1}),
        ([(2, 1), (2, 2)], {"axis": -1}),
        ([(3, 3), (3, 3)], {"axis": 0}),
        ([(2, 1), (3,), ()], {"axis": None}),
        ([(3,)], {}),
    )
    return lambda *xs: f(xs, **how), [d.values(s) for s in shapes]


@case(np.concatenate, np.stack, np.vstack, np.hstack)
def join_rows_of_one(d, f):
    return f, [d.values((3, 3))]


@case(np.stack)
def stack(d, f):
    shape = d.shape()
    how = options(d, axis=d.axis(len(shape) + 1))
    n = d.choose(2, 1, 3)
    return lambda *xs: f(list(xs), **how), [d.values(shape) for _ in range(n)]


@case(np.vstack)
def vstack(d, f):
    shapes = d.choose([(3,), (3,)], [(2, 3), (3,)], [(), ()], [(2, 2, 1), (1, 2, 1)])
    return lambda *xs: f(xs), [d.values(s) for s in shapes]


@case(np.hstack)
def hstack(d, f):
    shapes = d.choose([(3,), (2,)], [(2, 3), (2, 1)], [(), ()], [(2, 2, 1), (2, 1, 1)])
    return lambda *xs: f(xs), [d.values(s) for s in shapes]


@case(np.dstack)
def dstack(d, f):
    shapes = d.choose([(3,), (3,)], [(2, 3), (2, 3)], [(), ()], [(2, 2, 1), (2, 2, 2)])
    return lambda *xs: f(xs), [d.values(s) for s in shapes]


@case(np.column_stack)
def column_stack(d, f):
    shapes = d.choose([(3,), (3,)], [(2, 3), (2,)], [(2, 1), (2, 2)], [(), ()])
    return lambda *xs: f(xs), [d.values(s) for s in shapes]


@case(np.append)
def append(d, f):
    a, b, how = d.choose(
        ((2, 3), (3,), {}),
        ((), (), {}),
        ((2, 3), (1, 3), {"axis": 0}),
        ((3, 3), (3, 3), {"axis": -1}),
    )
    return lambda a, b: f(a, b, **how), [d.values(a), d.values(b)]


@case(np.block)
def block(d, f):
    call, shapes = d.choose(
        (lambda a, b: f([a, b]), [(2,), (3,)]),
        (lambda a, b, c, e: f([[a, b], [c, e]]), [(2, 2), (2, 1), (1, 2), (1, 1)]),
        (lambda a: f(a), [(2, 3)]),
        (lambda a, b: f([[a], [b]]), [(3,), (3,)]),
        (lambda a, b: f([a, b]), [(), (2,)]),
        (lambda a, b: f([[[a], [b]]]), [(2, 2), (2, 2)]),
        (lambda a, b: f([[a, np.ones((2, 1))], [b]]), [(2, 2), (1, 3)]),
        (lambda a, b: f([a, b]), [(2, 2, 1), (2, 2, 3)]),
    )
    return call, [d.values(s) for s in shapes]


@case(np.split, np.array_split)
def split(d, f):
    sections, axis = d.choose(
        (3, 0), ([1, 2], 0), ([2], 1), ((1, 4), -1), (np.array([0, 2]), 1), ([2, 1], 0),
        ([-1], 0), (1, 1),
    )  # fmt: skip
    return lambda x: f(x, sections, axis), [d.values(d.choose((3, 3), (3, 2, 1)))]


@case(np.array_split)
def uneven_split(d, f):
    sections, axis = d.choose((2, 0), (4, 0), (2, -1))
    return lambda x: f(x, sections, axis=axis), [d.values((3, 3))]


@case(np.vsplit, np.hsplit, np.dsplit)
def split_by_name(d, f):
    sections = d.choose(2, [1], [1, 3])
    return lambda x: f(x, sections), [d.values((2, 4, 2))]


@case(np.hsplit)
def hsplit_vector(d, f):
    sections = d.choose(2, [1], [1, 3])
    return lambda x: f(x, sections), [d.values(4)]


# --- The cases: picking and repeating -----------------------------------------------

KEYS = [
    1,
    -1,
    slice(None, None, 2),
    (slice(None), 1),
    (slice(None, None, -1), slice(1, None)),
    ...,
    (..., 0),
    (None, 1),
    (0, None, slice(1, 3)),
    (),
    [0, 0, 2],
    np.array([[0, 1], [2, 2]]),
    ([0, 1, 0], [2, 2, 2]),
    (slice(None), [1, 1]),
    ([2, 0], slice(1, None)),
    (np.array([[0], [2]]), [0, 1]),
    (0, [1, 2, 1]),
    np.eye(3, dtype=bool),
    (np.array([True, False, True]), slice(None)),
    (np.array([True, False, True]), 1),
    np.zeros((3, 3), dtype=bool),
    np.int64(2),
    True,
    (slice(None), np.array(1)),
    (slice(0, 0),),
]


@case(tensor.getitem)
def getitem(d, f):
    key = d.choose(*KEYS)
    return d.choose(lambda x: x[key], lambda x: f(x, key)), [d.values((3, 3))]


@case(tensor.scatter)
def scatter(d, f):
    key = d.choose(*KEYS)
    like = np.zeros((3, 3))
    return lambda v: f(v, key, like), [d.values(like[key].shape)]


@case(np.take)
def take(d, f):
    indices = d.choose(1, -1, [0, 2, 0], (2, 2), np.array([[0, -1], [1, 0]]), np.int64(0),
                       np.array([], dtype=int), [True, False, True])  # fmt: skip
    how = options(d, axis=d.choose(None, 0, 1, -1))
    return lambda x: f(x, indices, **how), [d.values((3, 3))]


@case(np.take)
def take_from_scalar(d, f):
    return lambda x: f(x, [0, 0]), [d.values(())]


@case(np.take_along_axis)
def take_along_axis(d, f):
    shape, indices, axis = d.choose(
        ((3,), [2, 0, 0, 1], 0),
        ((3, 3), [[0, 1], [2, 2], [-1, 0]], 1),
        ((3, 3), [[0, 1, 2]], 0),
        ((3, 3), [[1], [0], [2]], -1),
        ((2, 3), [[0, 2]], 1),  # broadcast along the other axis
        ((1, 3), [[0], [2]], -1),
        ((2, 3), [5, 0, 0], None),
        ((2, 2, 2), np.zeros((2, 1, 2), dtype=int), -2),
    )
    indices = np.array(indices)
    return lambda x: f(x, indices, axis), [d.values(shape)]


@case(np.repeat)
def repeat(d, f):
    repeats, axis = d.choose(
        (2, None), (2, 0), (3, -1), ([1, 2, 0], 1), (np.array([2, 1]), 0), (0, 0), ([2], 1),
    )  # fmt: skip
    return lambda x: f(x, repeats, axis=axis), [d.values((2, 3))]


@case(np.tile)
def tile(d, f):
    reps = d.choose(2, (2,), (2, 1), (1, 2), (2, 2, 2), (0,), (), np.array([2, 3]), 1)
    return lambda x: f(x, reps), [d.values(d.shape())]


@case(np.pad)
def pad(d, f):
    mode = d.choose("constant", "edge", "reflect", "symmetric", "wrap")
    width = d.choose(1, (1, 2), ((1, 0), (2, 1)), [[0, 3], [1, 0]], 0, 4, (1,), ((1, 2),),
                     np.array([[1], [2]]))  # fmt: skip
    return lambda x: f(x, width, mode), [d.values(d.choose((2, 3), (3, 3)))]


@case(np.pad)
def pad_with_value(d, f):
    value = d.choose(1.5, (1.0, 2.0), ((1, 2), (3, 4)))
    return lambda x: f(x, 1, constant_values=value), [d.values(d.choose((2, 3), (2, 0)))]


@case(derivatives.pad_constant)
def pad_constant(d, f):
    width, value = d.choose(1, (1, 2), ((1, 0), (2, 1))), d.choose(0, 1.5)
    return lambda x: f(x, width, value), [d.values(d.choose((2, 3), (3, 3)))]


@case(np.diagonal, np.trace)
def diagonal(d, f):
    how = options(d, offset=d.choose(0, 1, -1, 2, 7))
    shape = d.choose((3, 3), (2, 3), (2, 2, 2), (3, 2, 2))
    if len(shape) == 3:
        how.update(d.choose({}, {"axis1": 0, "axis2": 2}, {"axis1": -1, "axis2": 0}))
    return lambda x: f(x, **how), [d.values(shape)]


@case(np.linalg.diagonal, np.linalg.trace)
def linalg_diagonal(d, f):
    how = options(d, offset=d.choose(0, 1, -1))
    return lambda x: f(x, **how), [d.values(d.choose((3, 3), (2, 3), (2, 2, 3)))]


@case(np.diag)
def diag(d, f):
    how = options(d, k=d.choose(0, 1, -2))
    return lambda x: f(x, **how), [d.values(d.choose((3,), (3, 3), (2, 3), (3, 2), (0,)))]


# --- The cases: linear algebra ------------------------------------------------------


@case(np.linalg.inv, np.linalg.det, np.linalg.slogdet, derivatives.log_abs_det)
def square(d, f):
    n, batch = d.choose((3, ()), (2, ()), (1, ()), (2, (2,)), (3, (2, 1)), (2, (0,)))
    a = d.spread(n, *batch)
    return f, [a * d.choose(1, -1)]


@case(np.linalg.det)
def singular(d, f):
    n = d.choose(2, 1, 3, 4)
    a = d.values((n, n))
    a[-1] = d.choose(0.0, a[0] * (n > 1))
    return f, [d.choose(a, np.stack([a, d.spread(n)]))]


@case(np.linalg.solve)
def solve(d, f):
    a, b = d.choose(
        ((), (3,)),
        ((), (3, 2)),
        ((), (3, 3)),
        ((2,), (3,)),
        ((2,), (3, 1)),
        ((2,), (2, 3, 2)),
        ((1,), (2, 3, 2)),
        ((2, 1), (2, 3, 3)),
    )
    return f, [d.spread(3, *a), d.values(b)]


@case(np.linalg.cholesky)
def cholesky(d, f):
    n, batch = d.choose((3, ()), (2, ()), (1, ()), (2, (2,)))
    half = d.values((*batch, n, n), -1.0, 1.0)
    # Not symmetric: NumPy reads one triangle, and the gradient says so.
    a = half @ np.swapaxes(half, -1, -2) + 2 * np.eye(n) + np.triu(half, 1)
    how = options(d, upper=d.choose(True, False))
    return lambda x: f(x, **how), [a if not how.get("upper") else np.swapaxes(a, -1, -2)]


def singular_values_apart(d, rows, columns, *batch):
    u = np.linalg.qr(d.values((*batch, rows, rows)))[0]
    v = np.linalg.qr(d.values((*batch, columns, columns)))[0]
    s = np.zeros((rows, columns))
    np.fill_diagonal(s, [3.0, 1.8, 0.8])
    return u @ s @ v


@case(derivatives.spectral_norm)
def spectral_norm(d, f):
    rows, columns = d.choose((3, 3), (2, 3), (3, 2), (1, 3))
    batch = d.choose((), (2,))
    return f, [singular_values_apart(d, rows, columns, *batch)]


@case(derivatives.eigenvectors)
def eigenvectors(d, f):
    v = np.linalg.qr(d.values((3, 3)))[0]
    s = v @ np.diag([1.0, 2.0, 3.5]) @ v.T
    # Of the symmetric part: the rule gives the gradient of a symmetric matrix.
    return lambda s: f((s + np.swapaxes(s, -1, -2)) / 2), [d.choose(s, np.stack([s, 2 * s]))]


@case(derivatives.two_norm)
def two_norm(d, f):
    axis = d.choose((0,), (1,), (0, 1), (-1,))
    return lambda x: f(x, axis), [d.signed((3, 3), 0.4, 2)]


def keep(d, **how):
    return how | options(d, keepdims=d.choose(True, False))


@case(np.linalg.norm)
def norm(d, f):
    shape = d.shape(empty=False)
    how = keep(d)
    return lambda x: f(x, **how), [d.signed(shape, 0.4, 2)]


@case(np.linalg.norm)
def vector_norms(d, f):
    shape = d.choose((3,), (2, 3), (2, 2, 2))
    how = keep(d, ord=d.choose(None, 1, 2, np.inf, -np.inf), axis=d.axis(len(shape)))
    if len(shape) == 1:
        how |= d.choose({}, {"axis": None})
    return lambda x: f(x, **how), [apart_from_zero(d, shape)]


@case(np.linalg.norm)
def matrix_norms(d, f):
    ord = d.choose(None, "fro", 1, 2, np.inf, -np.inf)
    how = keep(d, ord=ord, axis=d.choose((0, 1), (1, 0), (-1, 0), None))
    x = singular_values_apart(d, *d.choose((3, 3), (2, 3))) if ord == 2 else None
    return lambda x: f(x, **how), [sums_apart(d) if x is None else x]


@case(np.linalg.norm)
def matrix_norms_in_batch(d, f):
    ord = d.choose(None, "fro", 2)
    x = singular_values_apart(d, 2, 3, 2)
    axis = d.choose((1, 2), (-1, -2))
    how = keep(d, ord=ord, axis=axis)
    return lambda x: f(x, **how), [x]


@case(np.linalg.vector_norm)
def vector_norm(d, f):
    shape = d.choose((3,), (2, 3), (2, 2, 2))
    axis = d.axes(len(shape))
    how = keep(d, **options(d, ord=d.choose(2, 1, np.inf, -np.inf), axis=axis or None))
    return lambda x: f(x, **how), [apart_from_zero(d, shape)]


@case(np.linalg.matrix_norm)
def matrix_norm(d, f):
    ord = d.choose("fro", 1, 2, np.inf, -np.inf)
    how = keep(d, ord=ord)
    x = singular_values_apart(d, 3, 2, 2) if ord == 2 else sums_apart(d)
    return lambda x: f(x, **how), [x]


def apart_from_zero(d, shape):
    """Draw values whose absolute values are apart from each other and from 0."""
    (x,) = d.apart(shape)
    x = x - x.min() + 0.4
    return x * d.rng.choice([-1.0, 1.0], shape)


def sums_apart(d):
    """Draw a matrix with sums of rows and of columns that are apart."""
    x = d.signed((3, 3), 0.4, 0.6)
    order = d.rng.permutation(3)
    return x * (1 + np.arange(3)[order])[:, None] * (1 + np.arange(3))


# --- The check ----------------------------------------------------------------------

STEP = {1: 0.004, 2: 0.006, 3: 0.02}
# Relative to the size of the terms that are compared: the differences below are some
# 1e-10 off at first order, 1e-8 at second. Each rule's smallest mutant is 1e-3 off.
TOLERANCE = {1: 1e-7, 2: 1e-6, 3: 1e-4}


def outputs(result: Any) -> list[Any]:
    """Return the arrays of a result that may be one or several."""
    return list(result) if isinstance(result, (tuple, list)) else [result]


class Problem:
    """A number computed from a function, so that derivatives of it can be compared.

    L = sum of c y + d y^2 / 2 with random c and d. The square makes g = c + d y depend
    on the inputs, so that second derivatives also test how a rule depends on g.
    """

    def __init__(self, d: Draw, function: Callable) -> None:
        build = d.choose(*CASES[function])
        self.log = d.log
        self.call, self.inputs = build(d, function)
        y = outputs(self.call(*self.inputs))
        self.c = [d.rng.uniform(0.5, 1.5, np.shape(v)) for v in y]
        self.d = [d.rng.uniform(0.5, 1.5, np.shape(v)) for v in y]
        self.v = [d.signed(x.shape, 0.5, 1) for x in self.inputs]
        self.w = [d.signed(x.shape, 0.5, 1) for x in self.inputs]
        self.which = tuple(range(len(self.inputs)))

    def loss(self, *inputs: Any) -> Any:
        y = outputs(self.call(*inputs))
        terms = zip(y, self.c, self.d, strict=True)
        return sum(np.sum(v * (c + 0.5 * d * v)) for v, c, d in terms)

    def along(self, x: Any) -> Any:
        """Return <x, w>."""
        return sum(np.sum(a * b) for a, b in zip(x, self.w, strict=True))

    def first(self) -> Any:
        """Return the gradient of the loss, by the table."""
        return grad(self.loss, self.which)(*self.inputs)

    def second(self) -> Any:
        """Return the gradient of <gradient of the loss, w>, by the table."""

        def functional(*inputs: Any) -> Any:
            return self.along(grad(self.loss, self.which)(*inputs))

        return grad(functional, self.which)(*self.inputs)

    def third(self) -> Any:
        """Return the gradient of <second(), w>, by the table."""

        def functional(*inputs: Any) -> Any:
            return self.along(grad(self.loss, self.which)(*inputs))

        def again(*inputs: Any) -> Any:
            return self.along(grad(functional, self.which)(*inputs))

        return grad(again, self.which)(*self.inputs)

    def difference(self, direction: list[np.ndarray], order: int) -> float:
        """Return the order-th derivative of the loss along a direction.

        By central differences at three steps, extrapolated to step 0 (Richardson): the
        errors in step^2 and step^4 cancel. Of NumPy's values alone.
        """

        def at(t: float) -> float:
            points = zip(self.inputs, direction, strict=True)
            return float(self.loss(*(x + t * v for x, v in points)))

        def coarse(h: float) -> float:
            if order == 1:
                return (at(h) - at(-h)) / (2 * h)
            if order == 2:
                return (at(h) - 2 * here + at(-h)) / h**2
            return (at(2 * h) - 2 * at(h) + 2 * at(-h) - at(-2 * h)) / (2 * h**3)

        here = at(0.0)
        step = STEP[order]
        a, b, c = coarse(step), coarse(2 * step), coarse(4 * step)
        ab, bc = (4 * a - b) / 3, (4 * b - c) / 3
        return (16 * ab - bc) / 15

    def noise(self, order: int) -> float:
        """Bound the rounding of the difference, from the size of the loss's terms."""
        y = outputs(self.call(*self.inputs))
        terms = zip(y, self.c, self.d, strict=True)
        size = sum(np.sum(np.abs(v) * (c + d * np.abs(v))) for v, c, d in terms)
        return 2e-15 * float(size) / STEP[order] ** order

    def compare(self, order: int) -> str | None:
        """Return what is wrong with the table's derivatives, or None."""
        gradient = {1: self.first, 2: self.second, 3: self.third}[order]()
        for x, g in zip(self.inputs, gradient, strict=True):
            if g.shape != x.shape or g.dtype != x.dtype:
                return f"gradient {g.shape} {g.dtype} of an input {x.shape} {x.dtype}"
        if order == 1:
            numeric = self.difference(self.v, 1)
        elif order == 2:  # <v, H w> from <u, H u> for two u
            plus = [(v + w) / 2 for v, w in zip(self.v, self.w, strict=True)]
            minus = [(v - w) / 2 for v, w in zip(self.v, self.w, strict=True)]
            numeric = self.difference(plus, 2) - self.difference(minus, 2)
        else:
            numeric = self.difference(self.w, 3)
        direction = self.w if order == 3 else self.v
        terms = [g * v for g, v in zip(gradient, direction, strict=True)]
        analytic = float(sum(np.sum(t) for t in terms))
        size = float(sum(np.sum(np.abs(t)) for t in terms)) + abs(numeric)
        # Written so that a NaN is wrong too.
        if abs(analytic - numeric) <= TOLERANCE[order] * size + self.noise(order):
            return None
        return f"order {order}: the table says {analytic}, differences say {numeric}"


def tries(function: Callable, n: int) -> Any:
    """Yield problems from fixed seeds, the same ones on every call."""
    for seed in range(n):
        yield Problem(Draw(random.Random(f"{name_of(function)} {seed}")), function)


def rows(*kinds: type) -> Any:
    """Parametrize over the rows that have cases."""
    chosen = [f for f in CASES if not kinds or isinstance(ROWS[f], kinds)]
    return pytest.mark.parametrize("function", chosen, ids=name_of)


# --- Every row ----------------------------------------------------------------------


def test_every_row_has_a_case():
    missing = [name_of(f) for f in ROWS if f not in CONSTANT and f not in CASES]
    assert not missing
    assert not [name_of(f) for f in CASES if f not in ROWS]


@rows()
def test_first_and_second_derivatives(function):
    """Both orders of at least 50 drawn calls, against differences of NumPy's values."""
    count = 0

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,  # the same examples in every run
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def check(source):
        nonlocal count
        problem = Problem(Draw(source), function)
        for order in (1, 2):
            wrong = problem.compare(order)
            assert wrong is None, f"{name_of(function)}{problem.log}: {wrong}"
        count += 1

    check()
    assert count >= EXAMPLES
