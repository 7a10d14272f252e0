"""Ways to call each function of the table, with inputs.

`python -m tests.gradcheck` and the tests take every row's calls from `CASES`. A case
avoids points where no derivative exists.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from scratchnet import backend, derivatives, functions, losses, tensor
from scratchnet.table import Function, load

SINCE_2_1 = np.lib.NumpyVersion(np.__version__) >= "2.1.0"  # new argument names

load()  # importers need the whole table

# --- Drawing examples ---------------------------------------------------------------

SHAPES = [(3,), (2, 3), (3, 3), (), (1,), (2, 1, 3), (2, 2, 2), (1, 3), (0,), (2, 0)]


class Draw:
    """Choices from Hypothesis (or from a seed), and numbers from a generator.

    Hypothesis shrinks and prints the choices: shapes, axes, options. The numbers need
    neither: a wrong rule is wrong at almost every point.
    """

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.rng = np.random.default_rng(source.getrandbits(32))
        self.log: list[Any] = []

    def choose(self, *options: Any) -> Any:
        """Choose one of the options."""
        # Nothing is drawn for a single option: Hypothesis would try it twice.
        i = self.source.randrange(len(options)) if len(options) > 1 else 0
        self.log.append(getattr(options[i], "__name__", options[i]))
        return options[i]

    def shape(self, least: int = 0, most: int = 3, empty: bool = True) -> Any:
        """Choose a shape with so many axes."""
        fitting = [
            s for s in SHAPES if least <= len(s) <= most and (empty or 0 not in s)
        ]
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

    def values(self, shape: Any, low: float = -2.0, high: float = 2.0) -> Any:
        """Draw values from an interval."""
        return self.rng.uniform(low, high, shape)

    def signed(self, shape: Any, low: float, high: float) -> Any:
        """Draw values of either sign, away from 0."""
        return self.rng.uniform(low, high, shape) * self.rng.choice([-1.0, 1.0], shape)

    def apart(self, *shapes: Any) -> list[np.ndarray]:
        """Draw values at least 0.2 apart from each other and from 0."""
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

    def spread(self, n: int, *batch: int) -> Any:
        """Draw square matrices far from singular."""
        return self.values((*batch, n, n), -1.0, 1.0) + 2.5 * np.eye(n)


# A case draws its inputs and returns (call, inputs): call(*inputs) gives an array or
# several, from plain arrays or from Tensors.
Call = Any  # (function of the inputs, the inputs)
Case = Callable[[Draw, Function], Call]
CASES: dict[Function, list[Case]] = {}


def case(*names: Function) -> Callable[[Case], Case]:
    """Add a way to call some functions to `CASES`."""

    def enter(build: Case) -> Case:
        for function in names:
            CASES.setdefault(function, []).append(build)
        return build

    return enter


# --- Functions of each element -------------------------------------------

UNARY: dict[Function, tuple[float, float]] = {
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
AWAY_FROM_ZERO: list[Function] = [
    np.reciprocal,
    np.cbrt,
    np.absolute,
    np.fabs,
    functions.relu,
]


@case(*UNARY)
def unary(d: Draw, f: Function) -> Call:
    return f, [d.values(d.shape(), *UNARY[f])]


@case(*AWAY_FROM_ZERO)
def unary_signed(d: Draw, f: Function) -> Call:
    return f, [d.signed(d.shape(), 0.4, 2)]


@case(functions.leaky_relu)
def leaky_relu(d: Draw, f: Function) -> Call:
    slope = d.choose(0.2, 0.01)
    x, a = d.signed(d.shape(), 0.4, 2), d.values((), 0.1, 0.5)
    return d.choose(
        (f, [x]),
        (partial(f, slope=slope), [x]),
        (lambda x: f(x, slope), [x]),
        (f, [x, a]),  # a slope that is learned (He et al. 2015)
        (lambda x, a: f(x, slope=a), [x, a]),
    )


@case(np.nan_to_num)
def nan_to_num(d: Draw, f: Function) -> Call:
    x = d.values(d.shape())
    odd = d.choose(np.nan, np.inf, -np.inf)
    x[d.rng.random(x.shape) < 0.2] = odd
    how = (
        d.choose({}, {"nan": 1.0}) if np.isnan(odd) else {"posinf": 3.0, "neginf": -3.0}
    )
    return lambda x: f(x, **how), [x]


@case(losses._cross_entropy)
def cross_entropy(d: Draw, f: Function) -> Call:
    a, x = d.shapes(2)
    return f, [d.values(a, -4, 4), d.values(x, 0, 1)]


@case(losses._squared_difference)
def squared_difference(d: Draw, f: Function) -> Call:
    a, b = d.shapes(2)
    return f, [d.values(a, -4, 4), d.values(b, -4, 4)]


@case(losses._softmax_cross_entropy)
def softmax_cross_entropy(d: Draw, f: Function) -> Call:
    n, k = d.choose((3, 3), (2, 4), (1, 2), (3, 1), (0, 3))
    label = d.rng.integers(k, size=n)
    return lambda a: f(a, label), [d.values((n, k), -4, 4)]


@case(derivatives.sinc_derivative)
def sinc_derivative(d: Draw, f: Function) -> Call:
    n = d.choose(0, 1, 2, 3)
    return lambda x: f(x, n), [d.values(d.shape(), -3, 3)]


BINARY: dict[Function, tuple[tuple[float, float], tuple[float, float]]] = {
    np.add: ((-2, 2), (-2, 2)),
    np.subtract: ((-2, 2), (-2, 2)),
    np.multiply: ((-2, 2), (-2, 2)),
    np.divide: ((-2, 2), (0.5, 2)),
    np.power: ((0.5, 2), (-2, 3)),
    np.float_power: ((0.5, 2), (-2, 3)),
    np.logaddexp: ((-3, 3), (-3, 3)),
    np.logaddexp2: ((-3, 3), (-3, 3)),
    # a/b stays between integers, and its whole part is not 0
    np.remainder: ((4.05, 4.15), (1.15, 1.2)),
    np.fmod: ((4.05, 4.15), (1.15, 1.2)),
}


@case(*BINARY)
def binary(d: Draw, f: Function) -> Call:
    a, b = d.shapes(2)
    return f, [d.values(a, *BINARY[f][0]), d.values(b, *BINARY[f][1])]


@case(np.remainder, np.fmod, np.divide)
def binary_negative(d: Draw, f: Function) -> Call:
    _, (a, b) = binary(d, f)
    return f, d.choose([-a, b], [a, -b], [-a, -b])


@case(np.power, np.float_power)
def power_of_constant(d: Draw, f: Function) -> Call:
    shape, *_ = d.shapes(2)
    n = d.choose(2, 3, -1, 0, 1, 0.5, np.array([2, 0, 3]), np.float64(2), np.int64(3))
    if np.ndim(n):
        shape = d.choose((3,), (2, 3), (2, 1))
    return lambda x: f(x, n), [d.values(shape, 0.5, 2)]


@case(np.power)
def constant_to_power(d: Draw, f: Function) -> Call:
    base = d.choose(2.0, 3, 0.5)
    return lambda n: f(base, n), [d.values(d.shape(), -2, 2)]


@case(np.power)
def power_of_negative(d: Draw, f: Function) -> Call:
    n = d.choose(2, 3, -2)
    return lambda x: f(x, n), [-d.values(d.shape(), 0.5, 2)]


@case(np.copysign, np.hypot, np.arctan2)
def binary_signed(d: Draw, f: Function) -> Call:
    a, b = d.shapes(2)
    return f, [d.signed(a, 0.5, 2), d.signed(b, 0.5, 2)]


@case(np.maximum, np.minimum, np.fmax, np.fmin)
def choosing(d: Draw, f: Function) -> Call:
    return f, d.apart(*d.shapes(2))


@case(np.fmax, np.fmin)
def choosing_with_nan(d: Draw, f: Function) -> Call:
    a, b = d.apart(*d.shapes(2))
    a[d.rng.random(a.shape) < 0.3] = np.nan
    return f, [a, b]


@case(np.maximum, np.minimum)
def choosing_with_number(d: Draw, f: Function) -> Call:
    limit = d.choose(0.0, 0, np.zeros(3))
    shape = d.shape() if np.ndim(limit) == 0 else d.choose((3,), (2, 3))
    return lambda x: f(x, limit), d.apart(shape)


@case(np.where, derivatives.where)
def where(d: Draw, f: Function) -> Call:
    c, a, b = d.shapes(3)
    condition = d.rng.random(c) < 0.5
    return lambda x, y: f(condition, x, y), [d.values(a), d.values(b)]


@case(tensor.where_or_zero)
def keep_some(d: Draw, f: Function) -> Call:
    x = d.values(d.shape())
    mask = np.asarray(d.rng.random(x.shape) < 0.5)
    return lambda x: f(x, mask), [x]


@case(np.clip, derivatives.clip)
def clip(d: Draw, f: Function) -> Call:
    return f, d.apart(*d.shapes(3))


@case(np.clip, derivatives.clip)
def clip_one_side(d: Draw, f: Function) -> Call:
    x, limit = d.apart(*d.shapes(2))
    return d.choose(lambda x, lo: f(x, lo, None), lambda x, hi: f(x, None, hi)), [
        x,
        limit,
    ]


@case(np.clip)
def clip_by_keyword(d: Draw, f: Function) -> Call:
    x, lo, hi = d.apart(*d.shapes(3))
    new = [
        (lambda x, lo, hi: f(x, min=lo, max=hi), [x, lo, hi]),
        (lambda x, hi: f(x, max=hi), [x, hi]),
    ]
    return d.choose(
        (lambda x, lo: f(x, a_min=lo, a_max=None), [x, lo]),
        (lambda x: f(x, -6, 6.0), [10 * x]),
        *(new if SINCE_2_1 else []),
    )


# --- Reductions ----------------------------------------------------------


def options(d: Draw, **values: Any) -> dict[str, Any]:
    """Give each option the value, or leave it out."""
    return {k: v for k, v in values.items() if d.choose(True, False)}


@case(np.sum, np.mean, np.prod)
def reduction(d: Draw, f: Function) -> Call:
    shape = d.shape(empty=f is not np.mean)
    how = options(d, axis=d.axes(len(shape)), keepdims=d.choose(True, False))
    return lambda x: f(x, **how), [d.values(shape)]


@case(np.var, np.std)
def deviation(d: Draw, f: Function) -> Call:
    shape = d.choose((3,), (2, 3), (3, 3), (2, 2, 3), (4,))
    axis = d.axes(len(shape))
    axis = None if axis == () else axis
    how = {
        "axis": axis,
        **options(d, ddof=d.choose(0, 1, 0.5), keepdims=d.choose(True, False)),
    }
    return lambda x: f(x, **how), d.apart(shape)


@case(np.max, np.min, np.amax, np.amin, np.ptp)
def extreme(d: Draw, f: Function) -> Call:
    shape = d.shape(empty=False)
    how = options(d, axis=d.axes(len(shape)), keepdims=d.choose(True, False))
    return lambda x: f(x, **how), d.apart(shape)


@case(np.nansum, np.nanmean)
def nan_reduction(d: Draw, f: Function) -> Call:
    shape = d.choose((3,), (2, 3), (3, 3), (2, 2, 2))
    how = options(d, axis=d.axes(len(shape)), keepdims=d.choose(True, False))
    if how.get("axis") == ():
        how["axis"] = None
    x = d.values(shape)
    x.flat[[0, -1]] = d.choose(np.nan, 1.0)  # with and without NaN
    return lambda x: f(x, **how), [x]


@case(np.cumsum, np.cumprod)
def cumulative(d: Draw, f: Function) -> Call:
    shape = d.shape()
    how = options(d, axis=d.axis(len(shape), none=True))
    return lambda x: f(x, **how), [d.values(shape)]


@case(np.sort)
def sort(d: Draw, f: Function) -> Call:
    shape = d.shape(least=1)
    how = options(d, axis=d.axis(len(shape), none=True))
    how.update(options(d, kind="stable") or options(d, stable=True))
    return lambda x: f(x, **how), d.apart(shape)


@case(np.average)
def average(d: Draw, f: Function) -> Call:
    shape = d.shape(empty=False)
    how = options(d, axis=d.axes(len(shape)), keepdims=d.choose(True, False))
    if d.choose(True, False):
        return lambda x: f(x, **how), [d.values(shape)]
    return lambda x, w: f(x, weights=w, **how), [
        d.values(shape),
        d.values(shape, 0.5, 2),
    ]


@case(np.average)
def average_along(d: Draw, f: Function) -> Call:
    shape, axis = d.choose(
        ((2, 3), 1),
        ((2, 3), -2),
        ((2, 3, 4), (0, 2)),
        ((2, 3, 4), (2, 0)),
        ((3,), (0,)),
    )
    weights = tuple(shape[a] for a in (axis if isinstance(axis, tuple) else (axis,)))
    return lambda x, w: f(x, axis, w), [d.values(shape), d.values(weights, 0.5, 2)]


@case(np.diff)
def diff(d: Draw, f: Function) -> Call:
    shape = d.shape(least=1)
    how = options(d, n=d.choose(0, 1, 2, 3), axis=d.axis(len(shape)))
    return lambda x: f(x, **how), [d.values(shape)]


@case(functions.logsumexp)
def logsumexp(d: Draw, f: Function) -> Call:
    shape = d.shape(least=1, empty=False)
    how = options(d, axis=d.axes(len(shape)), keepdims=d.choose(True, False))
    return lambda x: f(x, **how), [d.values(shape)]


@case(functions.softmax, functions.log_softmax)
def softmax(d: Draw, f: Function) -> Call:
    shape = d.shape(least=1, empty=False)
    how = options(d, axis=d.axis(len(shape)))
    return lambda x: f(x, **how), [d.values(shape)]


# --- Products ------------------------------------------------------------

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
def matmul(d: Draw, f: Function) -> Call:
    a, b = d.choose(*MATMUL)
    return f, [d.values(a), d.values(b)]


@case(np.dot)
def dot(d: Draw, f: Function) -> Call:
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
def inner(d: Draw, f: Function) -> Call:
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
def outer(d: Draw, f: Function) -> Call:
    a, b = d.choose(
        ((3,), (2,)), ((), (3,)), ((2, 2), (3,)), ((2, 1), (1, 2)), ((0,), (2,))
    )
    return f, [d.values(a), d.values(b)]


@case(np.linalg.outer)
def linalg_outer(d: Draw, f: Function) -> Call:
    return f, [d.values(d.choose(3, 2, 0)), d.values(d.choose(3, 2))]


@case(np.vecdot, np.linalg.vecdot)
def vecdot(d: Draw, f: Function) -> Call:
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
def vecdot_positive_axis(d: Draw, f: Function) -> Call:
    # A positive axis counts from the front of each operand.
    return lambda a, b: f(a, b, axis=0), [d.values((3, 2)), d.values((3, 4, 2))]


@case(np.tensordot, np.linalg.tensordot)
def tensordot(d: Draw, f: Function) -> Call:
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
    ("i,j->", (3,), (2,)),  # each summed on its own
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
def einsum(d: Draw, f: Function) -> Call:
    subscripts, *shapes = d.choose(*EINSUM)
    how = options(d, optimize=d.choose(True, False, "greedy"))
    return lambda *xs: f(subscripts, *xs, **how), [d.values(s) for s in shapes]


@case(np.einsum)
def einsum_with_one_operand_constant(d: Draw, f: Function) -> Call:
    b = d.values((3, 4))
    return lambda a: f("ij,jk->ik", a, b), [d.values((2, 3))]


@case(np.einsum)
def einsum_interleaved(d: Draw, f: Function) -> Call:
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
def contract(d: Draw, f: Function) -> Call:
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
def kron(d: Draw, f: Function) -> Call:
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
def cross(d: Draw, f: Function) -> Call:
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
def linalg_cross(d: Draw, f: Function) -> Call:
    a, b, how = d.choose(
        ((3,), (3,), {}),
        ((2, 3), (2, 3), {}),
        ((3, 2), (3, 2), {"axis": 0}),
        ((3, 3), (3,), {}),
    )
    return lambda a, b: f(a, b, **how), [d.values(a), d.values(b)]


# --- Shapes --------------------------------------------------------------


@case(np.reshape)
def reshape(d: Draw, f: Function) -> Call:
    call = d.choose(
        lambda x: f(x, (3, 2)),
        lambda x: f(x, -1),
        lambda x: f(x, (2, -1)),
        lambda x: f(x, (3, 2), "F"),
        lambda x: f(x, (3, 2), order="C"),
        lambda x: f(x, [6, 1]),
    )
    return call, [d.values(d.choose((2, 3), (6,), (1, 2, 3)))]


@case(np.reshape)
def reshape_square(d: Draw, f: Function) -> Call:
    shape, order = d.choose(-1, (3, 3), (1, 3, 3)), d.choose("C", "F")
    return lambda x: f(x, shape, order), [d.values(d.choose((3, 3), (9,)))]


@case(derivatives.reshape)
def reshape_primitive(d: Draw, f: Function) -> Call:
    shape, order = d.choose((3, 2), (-1,)), d.choose("C", "F")
    return lambda x: f(x, shape, order), [d.values(d.choose((2, 3), (6, 1, 1)))]


@case(derivatives.reshape)
def reshape_primitive_square(d: Draw, f: Function) -> Call:
    order = d.choose("C", "F")
    return lambda x: f(x, (-1,), order), [d.values((3, 3))]


@case(np.ravel)
def ravel(d: Draw, f: Function) -> Call:
    call = d.choose(f, lambda x: f(x, "F"), lambda x: f(x, order="C"))
    return call, [d.values(d.shape())]


@case(np.transpose)
def transpose(d: Draw, f: Function) -> Call:
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
def swapaxes(d: Draw, f: Function) -> Call:
    shape = d.shape(least=1)
    i, j = d.axis(len(shape)), d.axis(len(shape))
    return lambda x: f(x, i, j), [d.values(shape)]


@case(np.moveaxis)
def moveaxis(d: Draw, f: Function) -> Call:
    source, destination = d.choose((0, 1), (-1, 0), ((0, 1), (-1, 0)), ([2, 0], [0, 1]))
    return lambda x: f(x, source, destination), [
        d.values(d.choose((2, 1, 3), (2, 2, 2)))
    ]


@case(np.squeeze)
def squeeze(d: Draw, f: Function) -> Call:
    call, shape = d.choose(
        (f, (2, 1, 3)),
        (f, (3, 3)),
        (f, (1, 1)),
        (lambda x: f(x, axis=-2), (2, 1, 3)),
        (lambda x: f(x, (0, 2)), (1, 3, 1)),
    )
    return call, [d.values(shape)]


@case(np.expand_dims)
def expand_dims(d: Draw, f: Function) -> Call:
    axis = d.choose(0, -1, (0, 1), (0, -1))
    return lambda x: f(x, axis), [d.values(d.shape())]


@case(np.broadcast_to)
def broadcast_to(d: Draw, f: Function) -> Call:
    small, large = d.choose(
        ((3,), (2, 3)), ((), (2, 2)), ((2, 1), (2, 3)), ((1, 3), (3, 3)),
        ((3, 3), (3, 3)), ((3,), 3), ((1,), (0,)),
    )  # fmt: skip
    return lambda x: f(x, large), [d.values(small)]


@case(np.broadcast_arrays)
def broadcast_arrays(d: Draw, f: Function) -> Call:
    return f, [d.values(s) for s in d.shapes(d.choose(2, 1, 3))]


@case(np.copy, np.atleast_1d, np.atleast_2d, np.atleast_3d)
def reshaping(d: Draw, f: Function) -> Call:
    return f, [d.values(d.shape())]


@case(np.atleast_1d, np.atleast_2d, np.atleast_3d)
def reshaping_several(d: Draw, f: Function) -> Call:
    return f, [d.values(d.shape()), d.values(d.shape())]


@case(np.roll)
def roll(d: Draw, f: Function) -> Call:
    shift, axis = d.choose(
        (1, None), (-2, 0), (1, -1), ((1, 2), (0, 1)), (1, (0, 1)), ((1, 1), 0),
        (np.int64(1), 1), ([1, -1], [0, 0]),
    )  # fmt: skip
    return lambda x: f(x, shift, axis), [d.values(d.choose((2, 3), (3, 3), (2, 2, 2)))]


@case(np.flip)
def flip(d: Draw, f: Function) -> Call:
    shape = d.shape()
    how = options(d, axis=d.axes(len(shape)))
    return lambda x: f(x, **how), [d.values(shape)]


@case(np.fliplr, np.flipud, np.matrix_transpose, np.linalg.matrix_transpose)
def of_matrix(d: Draw, f: Function) -> Call:
    return f, [d.values(d.shape(least=2))]


@case(np.rot90)
def rot90(d: Draw, f: Function) -> Call:
    k = d.choose(1, 0, 2, 3, -1, 5)
    how = d.choose({}, {"axes": (1, 0)}, {"axes": (-1, 0)})
    return lambda x: f(x, k, **how), [d.values(d.shape(least=2))]


@case(np.tril, np.triu)
def triangle(d: Draw, f: Function) -> Call:
    how = options(d, k=d.choose(0, 1, -1, 5))
    return lambda x: f(x, **how), [d.values(d.shape(least=1))]


@case(tensor.cast)
def cast(d: Draw, f: Function) -> Call:
    return lambda x: f(x, np.float64), [d.values(d.shape())]


@case(np.astype)
def astype(d: Draw, f: Function) -> Call:
    how = options(d, copy=d.choose(True, False))
    return lambda x: f(x, np.float64, **how), [d.values(d.shape(least=1))]


@case(np.meshgrid)
def meshgrid(d: Draw, f: Function) -> Call:
    how = options(
        d,
        indexing=d.choose("xy", "ij"),
        sparse=d.choose(True, False),
        copy=d.choose(True, False),
    )
    shapes = d.choose(
        [(2,), (3,)], [(3,)], [(2,), (1,), (3,)], [(), (2,)], [(0,), (2,)], [(3,), (3,)]
    )
    return lambda *xs: f(*xs, **how), [d.values(s) for s in shapes]


@case(np.full_like)
def full_like(d: Draw, f: Function) -> Call:
    # NumPy dispatches on the first argument only.
    x = d.values((3, 3))
    return d.choose(
        (lambda x, v: f(x, v), [x, d.values(d.choose((), (3,), (3, 1), (3, 3)))]),
        (lambda x, v: f(x, v, shape=()), [x, d.values(())]),
        (lambda x, v: f(x, v, shape=(3,)), [x, d.values(())]),
        (lambda x, v: f(x, v, np.float64, shape=3), [x, d.values(3)]),
    )


# --- Joining and splitting -----------------------------------------------


@case(np.concatenate)
def concatenate(d: Draw, f: Function) -> Call:
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
def join_rows_of_one(d: Draw, f: Function) -> Call:
    return f, [d.values((3, 3))]


@case(np.stack)
def stack(d: Draw, f: Function) -> Call:
    shape = d.shape()
    how = options(d, axis=d.axis(len(shape) + 1))
    n = d.choose(2, 1, 3)
    return lambda *xs: f(list(xs), **how), [d.values(shape) for _ in range(n)]


@case(np.vstack)
def vstack(d: Draw, f: Function) -> Call:
    shapes = d.choose([(3,), (3,)], [(2, 3), (3,)], [(), ()], [(2, 2, 1), (1, 2, 1)])
    return lambda *xs: f(xs), [d.values(s) for s in shapes]


@case(np.hstack)
def hstack(d: Draw, f: Function) -> Call:
    shapes = d.choose([(3,), (2,)], [(3, 2), (3, 1)], [(), ()], [(2, 2, 1), (2, 1, 1)])
    return lambda *xs: f(xs), [d.values(s) for s in shapes]


@case(np.dstack)
def dstack(d: Draw, f: Function) -> Call:
    shapes = d.choose([(3,), (3,)], [(3, 2), (3, 2)], [(), ()], [(2, 2, 1), (2, 2, 2)])
    return lambda *xs: f(xs), [d.values(s) for s in shapes]


@case(np.column_stack)
def column_stack(d: Draw, f: Function) -> Call:
    shapes = d.choose([(3,), (3,)], [(3, 2), (3,)], [(2, 1), (2, 2)], [(), ()])
    return lambda *xs: f(xs), [d.values(s) for s in shapes]


@case(np.append)
def append(d: Draw, f: Function) -> Call:
    a, b, how = d.choose(
        ((2, 3), (3,), {}),
        ((), (), {}),
        ((2, 3), (1, 3), {"axis": 0}),
        ((3, 3), (3, 3), {"axis": -1}),
    )
    return lambda a, b: f(a, b, **how), [d.values(a), d.values(b)]


@case(np.block)
def block(d: Draw, f: Function) -> Call:
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
def split(d: Draw, f: Function) -> Call:
    sections, axis = d.choose(
        (3, 0), ([1, 2], 0), ([2], 1), ((1, 4), -1), (np.array([0, 2]), 1), ([2, 1], 0),
        ([-1], 0), (1, 1),
    )  # fmt: skip
    return lambda x: f(x, sections, axis), [d.values(d.choose((3, 3), (3, 2, 1)))]


@case(np.array_split)
def uneven_split(d: Draw, f: Function) -> Call:
    sections, axis = d.choose((2, 0), (4, 0), (2, -1))
    return lambda x: f(x, sections, axis=axis), [d.values((3, 3))]


@case(np.vsplit, np.hsplit, np.dsplit)
def split_by_name(d: Draw, f: Function) -> Call:
    sections = d.choose(2, [1], [1, 3])
    shape = {np.vsplit: (4, 2, 2), np.hsplit: (2, 4, 2), np.dsplit: (2, 2, 4)}[f]
    return lambda x: f(x, sections), [d.values(shape)]


@case(np.hsplit)
def hsplit_vector(d: Draw, f: Function) -> Call:
    sections = d.choose(2, [1], [1, 3])
    return lambda x: f(x, sections), [d.values(4)]


# --- Picking and repeating -----------------------------------------------

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


def placed(key: Any) -> Any:
    """Return a key with its arrays on the backend in use."""
    if isinstance(key, tuple):
        return tuple(map(placed, key))
    return backend.asarray(key) if isinstance(key, np.ndarray) else key


@case(tensor._getitem)
def getitem(d: Draw, f: Function) -> Call:
    key = placed(d.choose(*KEYS))
    return d.choose(lambda x: x[key], lambda x: f(x, key)), [d.values((3, 3))]


@case(tensor.scatter)
def scatter(d: Draw, f: Function) -> Call:
    key = d.choose(*KEYS)
    like = np.zeros((3, 3))
    return lambda v: f(v, key, like), [d.values(like[key].shape)]


@case(np.take)
def take(d: Draw, f: Function) -> Call:
    indices = d.choose(
        1, -1, [0, 2, 0], (2, 2), np.array([[0, -1], [1, 0]]), np.int64(0),
        np.array([], dtype=int), [True, False, True],
    )  # fmt: skip
    how = options(d, axis=d.choose(None, 0, 1, -1))
    return lambda x: f(x, indices, **how), [d.values((3, 3))]


@case(np.take)
def take_from_scalar(d: Draw, f: Function) -> Call:
    return lambda x: f(x, [0, 0]), [d.values(())]


@case(np.take_along_axis)
def take_along_axis(d: Draw, f: Function) -> Call:
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
def repeat(d: Draw, f: Function) -> Call:
    repeats, axis = d.choose(
        (2, None), (2, 0), (3, -1), ([1, 2, 0], 1), (np.array([2, 1]), 0), (0, 0),
        ([2], 1),
    )  # fmt: skip
    return lambda x: f(x, repeats, axis=axis), [d.values((2, 3))]


@case(np.tile)
def tile(d: Draw, f: Function) -> Call:
    reps = d.choose(2, (2,), (2, 1), (1, 2), (2, 2, 2), (0,), (), np.array([2, 3]), 1)
    return lambda x: f(x, reps), [d.values(d.shape())]


@case(np.pad)
def pad(d: Draw, f: Function) -> Call:
    mode = d.choose("constant", "edge", "reflect", "symmetric", "wrap")
    width = d.choose(
        1, (1, 2), ((1, 0), (2, 1)), [[0, 3], [1, 0]], 0, 4, (1,), ((1, 2),),
        np.array([[1], [2]]),
    )  # fmt: skip
    return lambda x: f(x, width, mode), [d.values(d.choose((2, 3), (3, 3)))]


@case(np.pad)
def pad_with_value(d: Draw, f: Function) -> Call:
    value = d.choose(1.5, (1.0, 2.0), ((1, 2), (3, 4)))
    return lambda x: f(x, 1, constant_values=value), [
        d.values(d.choose((2, 3), (2, 0)))
    ]


@case(derivatives.pad_constant)
def pad_constant(d: Draw, f: Function) -> Call:
    width, value = d.choose(1, (1, 2), ((1, 0), (2, 1))), d.choose(0, 1.5)
    return lambda x: f(x, width, value), [d.values(d.choose((2, 3), (3, 3)))]


@case(np.diagonal, np.trace)
def diagonal(d: Draw, f: Function) -> Call:
    how = options(d, offset=d.choose(0, 1, -1, 2, 7))
    shape = d.choose((3, 3), (2, 3), (2, 2, 2), (3, 2, 2), (2, 2, 3, 3))
    if len(shape) == 3:
        how.update(d.choose({}, {"axis1": 0, "axis2": 2}, {"axis1": -1, "axis2": 0}))
    return lambda x: f(x, **how), [d.values(shape)]


@case(np.linalg.diagonal, np.linalg.trace)
def linalg_diagonal(d: Draw, f: Function) -> Call:
    how = options(d, offset=d.choose(0, 1, -1))
    shape = d.choose((3, 3), (2, 3), (2, 2, 3), (2, 2, 3, 3))
    return lambda x: f(x, **how), [d.values(shape)]


@case(np.diag)
def diag(d: Draw, f: Function) -> Call:
    how = options(d, k=d.choose(0, 1, -2))
    return lambda x: f(x, **how), [
        d.values(d.choose((3,), (3, 3), (2, 3), (3, 2), (0,)))
    ]


# --- Linear algebra ------------------------------------------------------


@case(np.linalg.inv, np.linalg.det, np.linalg.slogdet, derivatives.log_abs_det)
def square(d: Draw, f: Function) -> Call:
    n, batch = d.choose((3, ()), (2, ()), (1, ()), (2, (2,)), (3, (2, 2)), (2, (0,)))
    a = d.spread(n, *batch)
    return f, [a * d.choose(1, -1)]


@case(np.linalg.det)
def singular(d: Draw, f: Function) -> Call:
    n = d.choose(2, 1, 3, 4)
    a = d.values((n, n))
    a[-1] = d.choose(0.0, a[0] * (n > 1))
    return f, [d.choose(a, np.stack([a, d.spread(n)]))]


@case(np.linalg.solve)
def solve(d: Draw, f: Function) -> Call:
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
def cholesky(d: Draw, f: Function) -> Call:
    n, batch = d.choose((3, ()), (2, ()), (1, ()), (2, (2,)))
    half = d.values((*batch, n, n), -1.0, 1.0)
    # Not symmetric: NumPy reads one triangle, and so must the gradient.
    a = half @ np.swapaxes(half, -1, -2) + 2 * np.eye(n) + np.triu(half, 1)
    how = options(d, upper=d.choose(True, False))
    return lambda x: f(x, **how), [
        a if not how.get("upper") else np.swapaxes(a, -1, -2)
    ]


def singular_values_apart(d: Draw, rows: int, columns: int, *batch: int) -> Any:
    u = np.linalg.qr(d.values((*batch, rows, rows)))[0]
    v = np.linalg.qr(d.values((*batch, columns, columns)))[0]
    s = np.zeros((rows, columns))
    np.fill_diagonal(s, [3.0, 1.8, 0.8])
    return u @ s @ v


@case(derivatives.spectral_norm)
def spectral_norm(d: Draw, f: Function) -> Call:
    rows, columns = d.choose((3, 3), (2, 3), (3, 2), (1, 3))
    batch = d.choose((), (2,))
    return f, [singular_values_apart(d, rows, columns, *batch)]


@case(derivatives.eigenvectors)
def eigenvectors(d: Draw, f: Function) -> Call:
    v = np.linalg.qr(d.values((3, 3)))[0]
    s = v @ np.diag([1.0, 2.0, 3.5]) @ v.T
    # The symmetric part, because the rule is for symmetric matrices. Squared, because
    # the sign of an eigenvector depends on LAPACK.
    return (
        lambda s: np.square(f((s + np.swapaxes(s, -1, -2)) / 2)),
        [d.choose(s, np.stack([s, 2 * s]))],
    )


@case(derivatives.two_norm)
def two_norm(d: Draw, f: Function) -> Call:
    axis = d.choose((0,), (1,), (0, 1), (-1,))
    return lambda x: f(x, axis), [d.signed((3, 3), 0.4, 2)]


def keep(d: Draw, **how: Any) -> Any:
    return how | options(d, keepdims=d.choose(True, False))


@case(np.linalg.norm)
def norm(d: Draw, f: Function) -> Call:
    shape = d.shape(empty=False)
    how = keep(d)
    return lambda x: f(x, **how), [d.signed(shape, 0.4, 2)]


@case(np.linalg.norm)
def vector_norms(d: Draw, f: Function) -> Call:
    shape = d.choose((3,), (2, 3), (2, 2, 2))
    how = keep(d, ord=d.choose(None, 1, 2, np.inf, -np.inf), axis=d.axis(len(shape)))
    if len(shape) == 1:
        how |= d.choose({}, {"axis": None})
    return lambda x: f(x, **how), [apart_from_zero(d, shape)]


@case(np.linalg.norm)
def matrix_norms(d: Draw, f: Function) -> Call:
    ord = d.choose(None, "fro", 1, 2, np.inf, -np.inf)
    how = keep(d, ord=ord, axis=d.choose((0, 1), (1, 0), (-1, 0), None))
    x = singular_values_apart(d, *d.choose((3, 3), (2, 3))) if ord == 2 else None
    return lambda x: f(x, **how), [sums_apart(d) if x is None else x]


@case(np.linalg.norm)
def matrix_norms_in_batch(d: Draw, f: Function) -> Call:
    ord = d.choose(None, "fro", 2)
    x = singular_values_apart(d, 2, 3, 2)
    axis = d.choose((1, 2), (-1, -2))
    how = keep(d, ord=ord, axis=axis)
    return lambda x: f(x, **how), [x]


@case(np.linalg.vector_norm)
def vector_norm(d: Draw, f: Function) -> Call:
    shape = d.choose((3,), (2, 3), (2, 2, 2))
    axis = d.axes(len(shape))
    how = keep(d, **options(d, ord=d.choose(2, 1, np.inf, -np.inf), axis=axis or None))
    return lambda x: f(x, **how), [apart_from_zero(d, shape)]


@case(np.linalg.matrix_norm)
def matrix_norm(d: Draw, f: Function) -> Call:
    ord = d.choose("fro", 1, 2, np.inf, -np.inf)
    how = keep(d, ord=ord)
    x = singular_values_apart(d, 3, 2, 2, 2) if ord == 2 else sums_apart(d)
    return lambda x: f(x, **how), [x]


def apart_from_zero(d: Draw, shape: Any) -> Any:
    """Draw values whose absolute values are apart from each other and from 0."""
    (x,) = d.apart(shape)
    x = x - x.min() + 0.4
    return x * d.rng.choice([-1.0, 1.0], shape)


def sums_apart(d: Draw) -> Any:
    """Draw a matrix with sums of rows and of columns that are apart."""
    x = d.signed((3, 3), 0.4, 0.6)
    order = d.rng.permutation(3)
    return x * (1 + np.arange(3)[order])[:, None] * (1 + np.arange(3))
