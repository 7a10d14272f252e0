"""The table of derivatives: every row, against NumPy's own values and differences.

`tests.cases` holds calls and inputs for every function of the table. The tests here
loop over it: values and dtypes against NumPy, first and second derivatives against
differences of NumPy's values, and the negative control, where each rule is made wrong
and the same check must fail.
"""

import random
from collections.abc import Callable
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchnet import (
    NoRuleError,
    Tensor,
    derivatives,
    grad,
    graph,
    table,
)
from scratchnet.graph import plain
from scratchnet.table import TABLE, name_of
from scratchnet.testing import gradcheck
from tests.cases import CASES, SINCE_2_1, Draw

EXAMPLES = 50  # Hypothesis examples for each row
TRIES = 20  # for a mutant, before it counts as without effect
MORE = 120  # for a mutant that transposes: few examples are square

# Rows that other tests add are checked there.
PARTS = ("tensor", "derivatives", "functions", "losses")
HERE = ("numpy", *(f"scratchnet.{part}" for part in PARTS))


def home(function: Callable) -> str:
    module = getattr(function, "__module__", None) or "numpy"  # ufuncs have none
    return "numpy" if module.startswith("numpy") else module


ROWS = {f: row for f, row in TABLE.items() if home(f) in HERE}
CONSTANT = [f for f, row in ROWS.items() if isinstance(row, table.Nondifferentiable)]

# --- The check ----------------------------------------------------------------------

STEP = {1: 0.004, 2: 0.006, 3: 0.01}
# The error of the differences, relative to the terms of the derivative and to the terms
# of the loss. The smallest mutant below is 1e-3 off, in one rule of a row.
TOLERANCE = {1: 1e-7, 2: 1e-6, 3: 1e-4}
FLOOR = {1: 1e-10, 2: 1e-8, 3: 1e-6}


def plain_energy(y, c, d):
    """Return the sum of c y + d y^2 / 2."""
    return np.sum(y * (c + 0.5 * d * y))


# The loss has functions of its own, so that a row made wrong below does not change the
# check.
energy = table.primitive(plain_energy)


@table.primitive
def total(x, w):
    """Return the sum of x w."""
    return np.sum(x * w)


table.rule(energy, lambda g, y, x, c, d: g * (c + d * x))
table.rule(total, lambda g, y, x, w: g * w)


def outputs(result: Any) -> list[Any]:
    """Return the arrays of a result that may be one or several."""
    return list(result) if isinstance(result, (tuple, list)) else [result]


class Problem:
    """A number computed from a function, so that derivatives of it can be compared.

    L = sum of c y + d y^2 / 2 with random c and d. The square makes g = c + d y depend
    on the inputs, so that second derivatives also test how a rule depends on g.
    """

    def __init__(self, call: Callable, inputs: Any, d: Draw | None = None) -> None:
        d = d or Draw(random.Random(0))
        self.call, self.log = call, d.log
        self.inputs = [np.asarray(x, dtype=float) for x in inputs]
        y = outputs(self.call(*self.inputs))
        self.c = [d.rng.uniform(0.5, 1.5, np.shape(v)) for v in y]
        self.d = [d.rng.uniform(0.5, 1.5, np.shape(v)) for v in y]
        # The size of L's terms, and of the inputs.
        self.size = sum(float(np.sum(np.abs(v) + v * v)) for v in y)
        self.size += sum(float(np.sum(np.abs(x[np.isfinite(x)]))) for x in self.inputs)
        self.v = [d.signed(x.shape, 0.5, 1) for x in self.inputs]
        self.w = [d.signed(x.shape, 0.5, 1) for x in self.inputs]
        self.which = tuple(range(len(self.inputs)))

    def cast(self, dtype: Any) -> None:
        """Convert all the numbers to another dtype."""
        for numbers in (self.inputs, self.c, self.d, self.v, self.w):
            numbers[:] = [x.astype(dtype) for x in numbers]

    def loss(self, *inputs: Any) -> Any:
        y = outputs(self.call(*inputs))
        return sum(map(energy, y, self.c, self.d))

    def along(self, x: Any) -> Any:
        """Return <x, w>."""
        return sum(map(total, x, self.w))

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

        Central differences of NumPy's values at three steps, extrapolated to step 0
        (Richardson): the errors in step^2 and step^4 cancel.
        """

        @cache
        def at(t: float) -> float:
            points = zip(self.inputs, direction, strict=True)
            y = outputs(self.call(*[x + t * v for x, v in points]))
            return float(sum(map(plain_energy, y, self.c, self.d)))

        def coarse(h: float) -> float:
            if order == 1:
                return (at(h) - at(-h)) / (2 * h)
            if order == 2:
                return (at(h) - 2 * at(0.0) + at(-h)) / h**2
            return (at(2 * h) - 2 * at(h) + 2 * at(-h) - at(-2 * h)) / (2 * h**3)

        step = STEP[order]
        a, b, c = coarse(step), coarse(2 * step), coarse(4 * step)
        ab, bc = (4 * a - b) / 3, (4 * b - c) / 3
        return (16 * ab - bc) / 15

    def compare(self, order: int) -> str | None:
        """Return the fault in the table's derivatives, or None."""
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
        allowed = TOLERANCE[order] * size + FLOOR[order] * (1 + self.size)
        if abs(analytic - numeric) <= allowed:  # false for NaN too
            return None
        return f"order {order}: the table says {analytic}, differences say {numeric}"


def drawn(d: Draw, function: Callable) -> Problem:
    """Draw a case of a function."""
    return Problem(*d.choose(*CASES[function])(d, function), d)


def tries(function: Callable, n: int, start: int = 0) -> Any:
    """Yield problems from fixed seeds, the same ones on every call."""
    for seed in range(start, n):
        yield drawn(Draw(random.Random(f"{name_of(function)} {seed}")), function)


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
def test_derivatives_are_differences_of_values(function):
    """Two orders on at least 50 drawn calls, and the third order on three."""
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
        problem = drawn(Draw(source), function)
        for order in (1, 2):
            wrong = problem.compare(order)
            assert wrong is None, f"{name_of(function)}{problem.log}: {wrong}"
        count += 1

    check()
    assert count >= EXAMPLES
    for problem in tries(function, 3):
        wrong = problem.compare(3)
        assert wrong is None, f"{problem.log}: {wrong}"


@rows()
def test_gradcheck_passes(function):
    """`gradcheck` itself, on one call of each row that has a gradient."""
    for problem in tries(function, 10):
        # An input that is all 0, empty or all infinite cannot be checked.
        used = [i for i, g in enumerate(problem.first()) if np.any(g)]
        if used and all(np.all(np.isfinite(x)) for x in problem.inputs):
            inputs = [Tensor(x) for x in problem.inputs]

            def loss(*some: Any, used=used, inputs=inputs, problem=problem) -> Any:
                for i, x in zip(used, some, strict=True):
                    inputs[i] = x
                return problem.loss(*inputs)

            checked = [Tensor(problem.inputs[i], requires_grad=True) for i in used]
            report = gradcheck(loss, checked, raise_exception=False)
            assert report.verdict == "pass", f"{problem.log}: {report}"
            return
    pytest.fail("no call has a gradient")


@rows()
def test_values_and_dtypes(function, monkeypatch):
    problems = list(tries(function, 12))
    assert_values_are_numpys(function, problems)
    assert_partners_may_be_of_other_dtypes(function, problems[:8])
    assert_float32_stays_float32(problems[:4], monkeypatch)  # it casts the problems


def assert_values_are_numpys(function, problems):
    for problem in problems:
        for dtype in (np.float64, np.float32):
            arrays = [x.astype(dtype) for x in problem.inputs]
            expected = problem.call(*arrays)
            result = problem.call(*[Tensor(x, requires_grad=True) for x in arrays])
            assert isinstance(result, Tensor) or len(result) == len(expected)
            for a, b in zip(outputs(result), outputs(expected), strict=True):
                a = plain(a)
                assert a.shape == np.shape(b), problem.log
                assert a.dtype == b.dtype, problem.log
                if isinstance(ROWS[function], table._Rewrite):  # other order of sums
                    size = np.max(np.abs(b), initial=0.0, where=np.isfinite(b))
                    np.testing.assert_allclose(
                        a, b, rtol=0, atol=8 * np.finfo(dtype).eps * size
                    )
                else:
                    np.testing.assert_array_equal(a, b)


def assert_float32_stays_float32(problems, monkeypatch):
    """The gradient is right in float32, and no rule computes in float64."""
    dtypes = []

    def watching(g: Any, shape: Any, dtype: Any) -> Any:
        dtypes.append(np.asarray(plain(g)).dtype)
        return fit(g, shape, dtype)

    for problem in problems:
        expected = problem.first()
        problem.cast(np.float32)
        y = outputs(problem.call(*problem.inputs))
        dtypes.clear()
        with monkeypatch.context() as m:
            m.setattr(graph, "_unbroadcast", watching)
            gradient = problem.first()
        if all(v.dtype == np.float32 for v in y):
            assert set(dtypes) <= {np.dtype(np.float32)}, problem.log
        for g, exact in zip(gradient, expected, strict=True):
            assert g.dtype == np.float32, problem.log
            np.testing.assert_allclose(
                g, exact, rtol=1e-4, atol=1e-4 * size_of(expected)
            )


def size_of(gradient: Any) -> float:
    return max(float(np.max(np.abs(g), initial=0.0)) for g in gradient)


def assert_partners_may_be_of_other_dtypes(function, problems):
    """A float32 input has a float32 gradient, whatever the dtype of the others."""
    several = [problem for problem in problems if len(problem.inputs) > 1]
    for problem, partner in product(several, [np.float64, np.int64]):
        for i in problem.which:
            inputs = [
                np.rint(2 * x) if partner is np.int64 else x for x in problem.inputs
            ]
            with np.errstate(all="ignore"):  # np.arccosh(0), for instance
                for wrap in (np.asarray, Tensor):
                    mixed = [wrap(x.astype(partner)) for x in inputs]
                    mixed[i] = problem.inputs[i].astype(np.float32)
                    if function is np.full_like:  # dispatches on its first argument
                        mixed[0] = Tensor(mixed[0])
                    (g,) = grad(problem.loss, (i,))(*mixed)
                    assert g.dtype == np.float32, problem.log
                    assert g.shape == mixed[i].shape, problem.log


# --- The negative control -----------------------------------------------------------
# Each rule is made wrong, and the check that passed above must fail. All rules of all
# rows are taken, in every wrong way. A mutant may survive only if it changes no
# gradient in any try: a transpose of arrays that are never square, a missing sum over
# copies where nothing is broadcast, or a constant factor that really is constant.


def transposed(dx: Any) -> Any:
    square = np.ndim(dx) >= 2 and dx.shape[-1] == dx.shape[-2]
    return np.swapaxes(dx, -1, -2) if square else dx


SPOILT: dict[str, Callable] = {
    "sign": lambda dx: -dx,
    "factor": lambda dx: 1.001 * dx,
    "zero": lambda dx: 0 * dx,
    "transposed": transposed,
}
# Right at first order, wrong at second.
FROZEN: dict[str, Callable] = {
    "constant g": lambda rule, g, args: rule(plain(g), *args),
    "constant inputs": lambda rule, g, args: rule(g, *(plain(list(args)))),
}


def through(change: Callable, y: Any) -> Any:
    """Return y, and its gradient changed."""
    identity = table.primitive(lambda x: x)
    table.rule(identity, lambda g, y, x: change(g))
    try:
        return identity(y)
    finally:
        del TABLE[identity]


def mutants(row: Any, ways: dict[str, Callable], frozen: bool) -> Any:
    """Yield (description, attribute, wrong value) for each rule of the row."""
    for name, change in ways.items():
        if isinstance(row, table._Rule):
            for i, right in enumerate(row.rules):
                if right is not None:

                    def wrong(g, *args, r=right, c=change, **kwargs):
                        if frozen:
                            return c(partial(r, **kwargs), g, args)
                        return c(r(g, *args, **kwargs))

                    rules = (*row.rules[:i], wrong, *row.rules[i + 1 :])
                    yield f"{name} of argument {i}", "rules", rules
        elif isinstance(row, table.RuleEach):

            def each(g, *args, r=row.rule, c=change, **kwargs):
                if frozen:
                    return c(partial(r, **kwargs), g, args)
                dx = r(g, *args, **kwargs)
                return dx if dx is None else c(dx)

            yield name, "rule", each
        elif not frozen:  # a rewrite: its result passes a wrong rule

            def definition(*args, r=row.definition, c=change, **kwargs):
                result = r(*args, **kwargs)
                several = isinstance(result, tuple | list)
                mutated = [
                    through(c, y) if isinstance(y, Tensor) else y
                    for y in outputs(result)
                ]
                return mutated if several else mutated[0]

            yield name, "definition", definition


fit = graph._unbroadcast


def not_summed(g: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Take the first copy of an input, instead of the sum over all copies."""
    if g.size:
        while g.ndim > len(shape):
            g = g[0]
        for i, n in enumerate(shape):
            if n == 1 != g.shape[i]:
                g = g[(slice(None),) * i + (slice(0, 1),)]
    return fit(g, shape, dtype)


class Solved:
    """Problems and their derivatives, each computed on first use."""

    def __init__(self, problems: Any, derivative: Callable) -> None:
        self.found: list[Any] = []
        self.more = ((problem, derivative(problem)) for problem in problems)

    def __iter__(self) -> Any:
        yield from self.found
        for pair in self.more:
            self.found.append(pair)
            yield pair


def fate(problems: Any, order: int, target: Any, name: str, value: Any) -> str:
    """Return whether a mutant is caught, survives, or changes nothing."""
    result = "unchanged"
    for problem, right in problems:
        with pytest.MonkeyPatch.context() as m, np.errstate(all="ignore"):
            m.setattr(target, name, value)
            try:
                mutated = problem.second() if order == 2 else problem.first()
            except (ValueError, TypeError, IndexError):
                return "caught"  # a wrong shape
            change = size_of([a - b for a, b in zip(mutated, right, strict=True)])
            if change > 1e-9 * size_of(right):
                if problem.compare(order) is not None:
                    return "caught"
                result = "survived"
    return result


@rows()
def test_each_wrong_rule_is_caught(function):
    row = ROWS[function]
    firsts = Solved(tries(function, TRIES), Problem.first)
    for what, name, value in mutants(row, SPOILT, frozen=False):
        found = fate(firsts, 1, row, name, value)
        if "transposed" in what and found == "unchanged":
            more = Solved(tries(function, MORE, start=TRIES), Problem.first)
            assert fate(more, 1, row, name, value) != "survived", what
        else:
            assert found == "caught", what

    found = fate(firsts, 1, graph, "_unbroadcast", not_summed)
    broadcasts = isinstance(function, np.ufunc) and function.nin > 1
    assert found == "caught" or (found == "unchanged" and not broadcasts)

    seconds = Solved(tries(function, 6), Problem.second)
    for what, name, value in mutants(row, FROZEN, frozen=True):
        found = fate(seconds, 2, row, name, value)
        assert found == "caught" or ("inputs" in what and found == "unchanged"), what


# --- Points where a careless rule goes wrong ----------------------------------------


def agrees(call: Callable, *inputs: Any, orders: Any = (1, 2, 3)) -> None:
    """Check derivatives at this point, where the function is smooth."""
    problem = Problem(call, inputs)
    for order in orders:
        wrong = problem.compare(order)
        assert wrong is None, wrong


def slope(f: Callable, x: Any, order: int = 1) -> Any:
    """Return the order-th derivative of f at each element of x."""
    for _ in range(order):
        f = grad(lambda x, f=f: np.sum(f(x)))
    return f(np.asarray(x, dtype=float))


ZEROS = {
    "one": [[0.0, 2.0, 3.0], [1.5, -1.0, 2.0]],
    "two": [[0.0, 2.0, 0.0], [1.5, -1.0, 2.0]],
    "all": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
    "last": [[1.0, 2.0, 0.0], [0.0, -1.0, 2.0]],
}


@pytest.mark.parametrize("x", ZEROS.values(), ids=ZEROS.keys())
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("f", [np.prod, np.cumprod], ids=name_of)
def test_products_with_zeros(f, axis, x):
    agrees(lambda x: f(x, axis=axis), x)


def test_product_over_two_axes_with_zeros():
    agrees(lambda x: np.prod(x, axis=(0, 2)), np.arange(8.0).reshape(2, 2, 2) % 5)


@pytest.mark.parametrize(
    "kind", [int, float, np.int64, np.float64, np.asarray, lambda n: np.array([n] * 3)]
)
@pytest.mark.parametrize("power", [np.power, np.float_power, lambda x, n: x**n])
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_powers_at_zero(power, n, kind):
    agrees(lambda x: power(x, kind(n)), [0.0, -0.7, 0.3])


@pytest.mark.parametrize("power", [np.power, np.float_power])
def test_powers_at_zero_of_a_tensor(power):
    """x**n and its derivatives with respect to both, at x = 0."""
    n = np.array([0.0, 1.0, 2.0, 3.0])
    x = np.zeros(4)
    in_x = grad(lambda x, n: np.sum(power(x, n)), 0)
    np.testing.assert_array_equal(in_x(x, n), [0, 1, 0, 0])
    np.testing.assert_array_equal(
        grad(lambda x, n: np.sum(in_x(x, n)), 0)(x, n), [0, 0, 2, 0]
    )
    in_n = grad(lambda x, n: np.sum(power(x, n)), 1)
    np.testing.assert_array_equal(in_n(x, n), [0, 0, 0, 0])
    # d/dn of n x**(n-1) is x**(n-1) (1 + n log x): 0 at x = 0 where n > 1. At n = 1 and
    # n = 0 there is no derivative.
    mixed = grad(lambda x, n: np.sum(in_x(x, n)), (0, 1))(x, n)[1]
    np.testing.assert_array_equal(mixed[2:], [0, 0])


def test_powers_of_zero_by_a_python_number():
    np.testing.assert_array_equal(slope(lambda n: 0.0**n, [1.0, 2.0]), [0, 0])
    np.testing.assert_array_equal(slope(lambda n: 0**n, [1.0, 2.0]), [0, 0])
    # 0**n is 1 at n = 0 and 0 above it: there is no slope, and the rule gives 0.
    np.testing.assert_array_equal(slope(lambda n: 0.0**n, [0.0]), [0])


SINGULAR = {
    "1x1": [[0.0]],
    "rank 1 of 2": [[1.0, 2.0], [2.0, 4.0]],
    "rank 0 of 2": [[0.0, 0.0], [0.0, 0.0]],
    "rank 2 of 3": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]],
    "rank 1 of 3": np.outer([1.0, 2.0, -1.0], [1.0, 0.5, 2.0]),
    "rank 0 of 3": np.zeros((3, 3)),
    "rank 2 of 4": np.vander([1.0, 2.0, 3.0, 4.0], 2) @ np.ones((2, 4)) * 0.3,
    "nearly": np.array([[1.0, 2.0], [2.0, 4.0 + 1e-9]]),
    "one of two": [np.eye(2), np.ones((2, 2))],
}


@pytest.mark.parametrize("a", SINGULAR.values(), ids=SINGULAR.keys())
def test_determinant_of_singular_matrices(a):
    # LU gives 6.7e-16 for the determinant of 1..9, so a test for zero would miss it.
    agrees(np.linalg.det, a)


def test_determinant_of_no_rows():
    assert slope(np.linalg.det, np.zeros((0, 0))).shape == (0, 0)
    assert slope(np.linalg.det, np.zeros((0, 2, 2))).shape == (0, 2, 2)


@pytest.mark.parametrize("n", range(6))
def test_derivatives_of_sinc(n):
    """At 0, near 0, far from 0, and where the series replaces the formula."""
    threshold = (n + 1) / np.pi
    x = np.array([0.0, 1e-300, 1e-9, -1e-4, 0.01, -0.3, 1, 1.5, -2, 3.3, 20])
    x = np.concatenate([x, threshold * (1 + np.array([-1e-9, 0, 1e-9, -0.01, 0.01]))])
    # S_n(u) is the integral of t^n cos(ut + n pi/2) over 0 < t < 1 (Gauss-Legendre).
    nodes, weights = np.polynomial.legendre.leggauss(80)
    t, weights = (nodes + 1) / 2, weights / 2
    integral = weights * t**n * np.cos(np.pi * np.multiply.outer(x, t) + n * np.pi / 2)
    expected = integral.sum(axis=-1) * np.pi**n
    found = slope(np.sinc, x, n) if n else np.sinc(x)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13 * np.pi**n)
    np.testing.assert_allclose(
        derivatives.sinc_derivative(x, n) * np.pi**n,
        expected,
        rtol=1e-12,
        atol=1e-13 * np.pi**n,
    )


def test_infinite_slopes_come_without_a_warning():
    """Warnings are errors in pytest, so that any warning fails this test."""
    np.testing.assert_array_equal(slope(np.sqrt, [0.0, 4.0]), [np.inf, 0.25])
    np.testing.assert_array_equal(slope(np.sqrt, [0.0, 4.0], 2), [-np.inf, -1 / 32])
    np.testing.assert_array_equal(slope(np.cbrt, [0.0, 8.0]), [np.inf, 1 / 12])
    np.testing.assert_array_equal(slope(lambda x: x**0.5, [0.0, 4.0]), [np.inf, 0.25])


NORMS = {
    "absolute": np.absolute,
    "fabs": np.fabs,
    "norm": np.linalg.norm,
    "norm 1": lambda x: np.linalg.norm(x, 1),
    "norm 2": lambda x: np.linalg.norm(x, 2),
    "norm inf": lambda x: np.linalg.norm(x, np.inf),
    "norm -inf": lambda x: np.linalg.norm(x, -np.inf),
    "vector_norm": np.linalg.vector_norm,
    "frobenius": lambda x: np.linalg.norm(np.reshape(x, (2, 2)), "fro"),
    "matrix 1": lambda x: np.linalg.norm(np.reshape(x, (2, 2)), 1),
    "matrix inf": lambda x: np.linalg.norm(np.reshape(x, (2, 2)), np.inf),
    "matrix 2": lambda x: np.linalg.norm(np.reshape(x, (2, 2)), 2),
    "matrix_norm": lambda x: np.linalg.matrix_norm(np.reshape(x, (2, 2))),
    "std": np.std,
    "std ddof": lambda x: np.std(x, ddof=1),
    "hypot": lambda x: np.hypot(x, 0.0),
    "hypot of both": lambda x: np.hypot(x, x),
    "arctan2": lambda x: np.arctan2(x, 0 * x),
    "copysign": lambda x: np.copysign(x, -1.0),
}


@pytest.mark.parametrize("f", NORMS.values(), ids=NORMS.keys())
@pytest.mark.parametrize("order", [1, 2])
def test_kinks_at_zero_have_slope_zero(f, order):
    np.testing.assert_array_equal(slope(f, np.zeros(4), order), np.zeros(4))


@pytest.mark.parametrize("x", [2.0, 0.1, -1e10, 1e-300])
@pytest.mark.parametrize("order", [1, 2])
def test_std_of_equal_numbers_among_others(x, order):
    """NumPy's std of 0.1, 0.1, 0.1 is 1e-17, because the mean is rounded."""
    g = slope(lambda x: np.std(x, axis=1), [[x, x, x], [1.0, 2.0, 4.0]], order)
    np.testing.assert_array_equal(g[0], 0)
    if order == 1:
        np.testing.assert_allclose(g[1], np.array([-4, -1, 5]) / np.sqrt(126))


def test_std_of_equal_large_numbers():
    """The mean of ten times 1e9/3 is rounded by 6e-8, which is then the std."""
    x = np.full(10, 1e9 / 3)
    assert np.std(x) > 0
    np.testing.assert_array_equal(slope(np.std, x), 0)


def test_std_of_numbers_that_differ_little():
    """Deviations of 1e-13 about 1 are 450 times the rounding of the mean."""
    x = 1 + 1e-13 * np.random.default_rng(0).standard_normal(1000)
    expected = (x - x.mean()) / (1000 * x.std())
    np.testing.assert_allclose(slope(np.std, x), expected, atol=1e-5)
    assert np.abs(expected).max() > 1e-3


def test_variance_with_less_than_one_degree_of_freedom():
    x = np.array([1.0, 2.0, 4.0])
    g = slope(lambda x: np.var(x, ddof=2.5), x)
    np.testing.assert_allclose(g, 2 * (x - x.mean()) / 0.5)


def test_a_number_in_tensordot():
    x = np.arange(3.0)
    for f in (lambda x: np.tensordot(x, 2.0, 0), lambda x: np.tensordot(2.0, x, 0)):
        y = f(Tensor(x, requires_grad=True))
        assert y.shape == (3,)
        np.testing.assert_array_equal(y.data, 2 * x)
        np.testing.assert_array_equal(slope(f, x), [2, 2, 2])


def test_cross_of_two_vectors():
    a, b = np.array([1.0, 2.0, 3.0]), np.array([4.0, 0.0, -1.0])
    y = np.cross(Tensor(a, requires_grad=True), Tensor(b, requires_grad=True))
    assert y.shape == (3,)
    np.testing.assert_array_equal(y.data, np.cross(a, b))


def test_joining_and_splitting_along_the_right_axis():
    x = np.arange(12.0).reshape(2, 6)
    for piece, expected in zip(
        np.hsplit(Tensor(x, requires_grad=True), 3), np.hsplit(x, 3), strict=True
    ):
        np.testing.assert_array_equal(piece.data, expected)
    cube = np.arange(8.0).reshape(2, 2, 2)
    for a in (x, cube):
        joined = np.hstack([Tensor(a, requires_grad=True), a])
        np.testing.assert_array_equal(joined.data, np.hstack([a, a]))
        alone = np.hstack([Tensor(a, requires_grad=True)])
        np.testing.assert_array_equal(alone.data, a)


def test_ties_share_equally():
    x = np.array([1.0, 3.0, 3.0, 0.0, 3.0])
    third = [0, 1 / 3, 1 / 3, 0, 1 / 3]
    for f in (np.max, np.amax):
        np.testing.assert_allclose(slope(f, x), third)
    for f in (np.min, np.amin):
        np.testing.assert_allclose(slope(f, -x), third)
    both = grad(lambda a, b: np.sum(np.maximum(a, b)), (0, 1))
    np.testing.assert_array_equal(both(x, x), [[0.5] * 5] * 2)
    for f in (np.minimum, np.fmax, np.fmin):
        a, b = grad(lambda a, b, f=f: np.sum(f(a, b)), (0, 1))(x, x)
        np.testing.assert_array_equal(a, 0.5)
        np.testing.assert_array_equal(b, 0.5)
    # Along an axis, each slice for itself.
    rows = np.array([[1.0, 1.0], [2.0, 5.0]])
    g = slope(lambda x: np.max(x, axis=1), rows)
    np.testing.assert_array_equal(g, [[0.5, 0.5], [0, 1]])
    np.testing.assert_array_equal(slope(np.ptp, [2.0, 2.0]), 0)


def test_sort_keeps_the_order_of_ties():
    x = np.array([2.0, 1.0, 2.0, 1.0])
    g = slope(lambda x: np.sort(x) * np.array([1.0, 2.0, 3.0, 4.0]), x)
    np.testing.assert_array_equal(g, [3, 1, 4, 2])


def test_clip_at_its_limits():
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    which = grad(lambda x, lo, hi: np.sum(np.clip(x, lo, hi)), (0, 1, 2))
    g, lo, hi = which(x, -1.0, 1.0)
    np.testing.assert_array_equal(g, [0, 1, 1, 1, 0])
    np.testing.assert_array_equal((lo, hi), (1, 1))
    # Equal limits: values below are at the lower limit, values above at the upper.
    g, lo, hi = which(x, 0.5, 0.5)
    np.testing.assert_array_equal(g, 0)
    np.testing.assert_array_equal((lo, hi), (3, 2))
    # Crossing limits: NumPy gives the upper one everywhere.
    g, lo, hi = which(x, 1.0, -1.0)
    np.testing.assert_array_equal(np.clip(x, 1.0, -1.0), -1.0)
    np.testing.assert_array_equal(g, 0)
    np.testing.assert_array_equal((lo, hi), (0, 5))
    np.testing.assert_array_equal(
        slope(lambda x: np.clip(x, None, 1), x), [1, 1, 1, 1, 0]
    )
    np.testing.assert_array_equal(
        slope(lambda x: np.clip(x, -1, None), x), [0, 1, 1, 1, 1]
    )
    if SINCE_2_1:
        np.testing.assert_array_equal(slope(lambda x: np.clip(x, None, None), x), 1)
    assert grad(lambda hi: np.sum(np.clip(x, None, hi)))(0.5) == 2
    assert grad(lambda lo: np.sum(np.clip(x, lo, None)))(0.5) == 3


def test_copysign_and_remainder_of_negative_numbers():
    x = [-1.5, 2.5]
    np.testing.assert_array_equal(slope(lambda x: np.copysign(x, -1.0), x), [1, -1])
    np.testing.assert_array_equal(slope(lambda x: np.copysign(x, -0.0), x), [1, -1])
    divisor = np.array([1.0, -1.0])
    for f, whole in ((np.remainder, [-2, -3]), (np.fmod, [-1, -2])):
        g = slope(lambda b, f=f: f(np.array(x), b), divisor)
        np.testing.assert_array_equal(g, -np.array(whole))


def test_nan_reaches_no_other_element():
    x = np.array([1.0, np.nan, 3.0])
    np.testing.assert_array_equal(slope(np.nansum, x), [1, 0, 1])
    np.testing.assert_array_equal(slope(np.nanmean, x), [0.5, 0, 0.5])
    np.testing.assert_array_equal(slope(np.nan_to_num, x), [1, 0, 1])
    infinite = np.array([np.inf, 1.0, -np.inf])
    np.testing.assert_array_equal(slope(np.nan_to_num, infinite), [0, 1, 0])
    g = slope(lambda x: np.where(np.isnan(x), 0.0, x), x)
    np.testing.assert_array_equal(g, [1, 0, 1])
    assert slope(np.nansum, [np.nan, np.nan]).tolist() == [0, 0]
    # An infinite g is not multiplied by 0.
    g = grad(lambda x: np.sum(np.sqrt(np.nan_to_num(x))))(np.array([np.nan, 4.0]))
    np.testing.assert_array_equal(g, [0, 0.25])


def test_the_gradient_of_max_goes_to_the_nan():
    x = np.array([1.0, np.nan, 3.0])
    for f in (np.max, np.min):
        np.testing.assert_array_equal(slope(f, x), [0, 1, 0])
    other = np.array([2.0, 2.0, np.nan])
    for f in (np.maximum, np.minimum):
        a, b = grad(lambda a, b, f=f: np.sum(f(a, b)), (0, 1))(x, other)
        assert a[1] == 1
        assert b[1] == 0
        assert a[2] == 0
        assert b[2] == 1
    for f in (np.fmax, np.fmin):  # they ignore NaN
        a, b = grad(lambda a, b, f=f: np.sum(f(a, b)), (0, 1))(x, other)
        assert a[1] == 0
        assert b[1] == 1
        assert a[2] == 1
        assert b[2] == 0


def test_logaddexp_of_large_numbers():
    for f in (np.logaddexp, np.logaddexp2):
        a, b = grad(lambda a, b, f=f: np.sum(f(a, b)), (0, 1))(
            np.array([1000.0, -1000.0, 0.0, -np.inf]),
            np.array([-1000.0, 1000.0, 0.0, 1.0]),
        )
        np.testing.assert_array_equal(a, [1, 0, 0.5, 0])
        np.testing.assert_array_equal(b, [0, 1, 0.5, 1])


SHARES = [
    ((np.inf, 2.0), (1, 0)),
    ((2.0, np.inf), (0, 1)),
    ((np.inf, -np.inf), (1, 0)),
    ((-np.inf, 2.0), (0, 1)),
    ((np.inf, np.inf), (0.5, 0.5)),
    ((-np.inf, -np.inf), (0.5, 0.5)),
]
HALF = np.sqrt(0.5)
DIRECTIONS = [
    ((np.inf, 1.0), (1, 0)),
    ((1.0, -np.inf), (0, -1)),
    ((np.inf, -np.inf), (HALF, -HALF)),
    ((-np.inf, -np.inf), (-HALF, -HALF)),
]
LIMITS = [
    *((f, x, g) for f in (np.logaddexp, np.logaddexp2) for x, g in SHARES),
    *((np.hypot, x, g) for x, g in DIRECTIONS),
    *((lambda a, b: np.linalg.norm(np.stack([a, b])), x, g) for x, g in DIRECTIONS),
    *((np.arctan2, x, (0, 0)) for x, _ in DIRECTIONS),
    *((np.maximum, x, g) for x, g in SHARES),
    *((np.fmax, x, g) for x, g in SHARES),
    *((lambda a, b: np.max(np.stack([a, b])), x, g) for x, g in SHARES),
    *((lambda a, b: -np.minimum(-a, -b), x, g) for x, g in SHARES),
    (np.power, (np.inf, -2.0), (0, 0)),
    (np.power, (0.0, 2.0), (0, 0)),
    (lambda a, b: a + 0.5**b, (1.0, np.inf), (1, 0)),
    (np.clip, (np.inf, np.inf), (1, 0)),
]


@pytest.mark.parametrize(("f", "at", "expected"), LIMITS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_limits_at_infinity(f, at, expected, dtype):
    """There is no warning, and the second derivatives are 0."""
    if f is np.clip:
        f = lambda x, hi: np.clip(x, None, hi)
    at = tuple(dtype(x) for x in at)
    found = grad(f, (0, 1))(*at)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=0)
    assert {g.dtype for g in found} == {np.dtype(dtype)}
    if f is np.power:
        return
    for u in (0, 1):
        again = grad(lambda a, b, u=u: grad(f, (0, 1))(a, b)[u], (0, 1))(*at)
        np.testing.assert_array_equal(again, [0, 0])
    side = [np.array([x, 1.0], dtype) for x in at]  # neighbours are unaffected
    several = grad(lambda a, b: np.sum(f(a, b)), (0, 1))
    if f in (np.logaddexp, np.logaddexp2):
        for g, limit in zip(several(*side), expected, strict=True):
            np.testing.assert_allclose(g, [limit, 0.5], rtol=1e-6)


def test_slopes_at_infinity_of_one_number():
    for f, x, expected in (
        (np.tanh, np.inf, 0), (np.tanh, -np.inf, 0), (np.exp, -np.inf, 0),
        (np.exp2, -np.inf, 0), (np.expm1, -np.inf, 0), (np.log1p, np.inf, 0),
        (np.log, np.inf, 0), (np.sqrt, np.inf, 0), (np.cbrt, -np.inf, 0),
        (np.arctan, np.inf, 0), (np.arcsinh, -np.inf, 0), (np.reciprocal, np.inf, 0),
        (np.absolute, -np.inf, -1), (lambda n: np.inf**n, -1.0, 0),
        (lambda n: 0.0**n, np.inf, 0),
    ):  # fmt: skip
        assert grad(f)(x) == expected


def test_arctan2_of_numbers_whose_squares_over_or_underflow():
    for size in np.array([1e-200, 1e200]):
        a, b = grad(np.arctan2, (0, 1))(3 * size, 4 * size)
        np.testing.assert_allclose([a * size, b * size], [0.16, -0.12], rtol=1e-14)


def test_reductions_of_empty_arrays():
    x = np.zeros((0, 3))
    for f in (np.sum, np.prod, np.cumsum, np.cumprod, np.sort, np.nansum, np.ravel):
        assert slope(f, x).shape == (0, 3)
    for f in (np.sum, np.prod):
        assert slope(lambda x, f=f: f(x, axis=0), x).shape == (0, 3)
    for f in (np.var, np.std, np.mean, np.max):
        assert slope(lambda x, f=f: f(x, axis=1), x).shape == (0, 3)
    assert slope(np.linalg.norm, x).shape == (0, 3)
    assert slope(lambda x: np.concatenate([x, x]), x).shape == (0, 3)
    assert slope(np.linalg.inv, np.zeros((0, 2, 2))).shape == (0, 2, 2)
    assert slope(lambda x: np.matmul(x, np.ones((3, 2))), x).shape == (0, 3)


def test_scalar_arrays():
    for f in (
        np.sum,
        np.max,
        np.cumsum,
        np.prod,
        np.ravel,
        np.linalg.norm,
        np.atleast_2d,
    ):
        assert slope(f, 2.0).shape == ()
        assert slope(f, 2.0) == 1


def test_spectral_norm_of_a_thin_matrix_twice():
    """The other eigenvalues of x^T x are all 0: their vectors are arbitrary."""
    u = np.array([[1.0], [2.0], [-1.0]])
    agrees(lambda x: np.linalg.norm(x, 2), u, orders=(1, 2))
    agrees(lambda x: np.linalg.norm(x, 2), u.T, orders=(1, 2))


# --- Constant functions, and errors -------------------------------------------------

X = np.array([[0.5, -1.5, 2.5], [3.0, 0.0, -2.0]])
WHOLE = np.array([3, 5, 6])
ARGUMENTS: dict[Callable, tuple] = {
    np.bitwise_and: (WHOLE, WHOLE[::-1]),
    np.bitwise_or: (WHOLE, WHOLE[::-1]),
    np.bitwise_xor: (WHOLE, WHOLE[::-1]),
    np.invert: (WHOLE,),
    np.isin: (X, [0.5, 3.0]),
    np.searchsorted: (np.array([0.0, 1.0, 2.0]), X),
    np.digitize: (X, np.array([0.0, 1.0])),
    np.lexsort: ((X[0], X[1]),),
    np.argpartition: (X, 1),
    np.result_type: (X, WHOLE),
}
PAIRS = (np.isclose, np.allclose, np.array_equal, np.array_equiv, np.shares_memory,
         np.may_share_memory)  # fmt: skip


@pytest.mark.parametrize("function", CONSTANT, ids=name_of)
def test_constant_functions_return_plain_arrays(function):
    two = function in PAIRS or (isinstance(function, np.ufunc) and function.nin == 2)
    args = ARGUMENTS.get(function, (X, X[:1] + 1.0) if two else (X,))

    def wrapped(x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(map(wrapped, x))
        return (
            Tensor(x, requires_grad=x.dtype.kind == "f") if hasattr(x, "dtype") else x
        )

    expected = function(*args)
    with_tensors = [tuple(map(wrapped, args))]
    if function is not np.result_type:  # NumPy dispatches on the first argument
        with_tensors.append((args[0], *map(wrapped, args[1:])))
    for tensors in with_tensors:
        result = function(*tensors)
        assert type(result) is type(expected)
        for a, b in zip(outputs(result), outputs(expected), strict=True):
            assert np.shape(a) == np.shape(b)
            assert getattr(a, "dtype", None) == getattr(b, "dtype", None)
            if function is not np.empty_like:
                assert np.array_equal(a, b)


def test_where_with_a_condition_alone_finds_positions():
    x = Tensor(X, requires_grad=True)
    for a, b in zip(np.where(x), np.nonzero(X), strict=True):
        assert type(a) is np.ndarray
        np.testing.assert_array_equal(a, b)


def refused(error: type[Exception], words: str, call: Callable) -> Any:
    return pytest.param(error, words, call, id=words.replace("|", " ")[:40])


# Error, its message, and a call on t, a Tensor (2, 3) that requires a gradient.
REFUSED = [
    # no rule
    (
        NoRuleError,
        "np.fft.fft|fft has no rule.*scratchnet.rule",
        lambda t: np.fft.fft(t),
    ),
    (NoRuleError, "np.median has no rule.*scratchnet.rule", lambda t: np.median(t)),
    (NoRuleError, "np.linalg.svd has no rule", lambda t: np.linalg.svd(t)),
    (NoRuleError, "np.interp has no rule", lambda t: np.interp(t, [0, 1], [0, 1])),
    (NoRuleError, "np.modf has no rule", lambda t: np.modf(t)),
    # arguments without a derivative
    (TypeError, "np.sum.*'where'", lambda t: np.sum(t, where=X > 0)),
    (TypeError, "np.sum.*'initial'", lambda t: np.sum(t, initial=0)),
    (TypeError, "np.sum.*'dtype'", lambda t: np.sum(t, dtype=np.float64)),
    (TypeError, "np.sum.*3 positional", lambda t: np.sum(t, 0, np.float64)),
    (TypeError, "np.mean.*'where'", lambda t: np.mean(t, where=X > 0)),
    (TypeError, "np.max.*'initial'", lambda t: np.max(t, initial=0.0)),
    (TypeError, "np.var.*'mean'", lambda t: np.var(t, mean=0.0)),
    (TypeError, "np.var.*'correction'", lambda t: np.var(t, correction=1)),
    (TypeError, "np.exp.*'where'", lambda t: np.exp(t, where=X > 0)),
    (TypeError, "np.add.*'dtype'", lambda t: np.add(t, 1, dtype=np.float64)),
    (TypeError, "np.matmul.*'axes'", lambda t: np.matmul(t, X.T, axes=[(0, 1)] * 3)),
    (TypeError, "np.cumsum.*'dtype'", lambda t: np.cumsum(t, dtype=np.float64)),
    (TypeError, "np.average.*'returned'", lambda t: np.average(t, returned=True)),
    (TypeError, "np.nan_to_num.*'copy'", lambda t: np.nan_to_num(t, copy=False)),
    (TypeError, "np.sort.*'order'", lambda t: np.sort(t, order="x")),
    (TypeError, "np.reshape.*'A'", lambda t: np.reshape(t, 6, "A")),
    (TypeError, "np.reshape.*'K'", lambda t: np.ravel(t, "K")),
    (TypeError, "np.take.*'mode'", lambda t: np.take(t, 7, mode="wrap")),
    (TypeError, "np.concatenate.*'dtype'", lambda t: np.concatenate([t], dtype=float)),
    (TypeError, "np.diff.*'prepend'", lambda t: np.diff(t, prepend=0)),
    (TypeError, "np.pad.*'linear_ramp'", lambda t: np.pad(t, 1, "linear_ramp")),
    (TypeError, "np.pad.*'mean'", lambda t: np.pad(t, 1, mode="mean")),
    (TypeError, "np.pad.*'stat_length'", lambda t: np.pad(t, 1, stat_length=2)),
    (
        TypeError,
        "gradient, which would be lost",
        lambda t: np.pad(X, 1, constant_values=t[0, 0]),
    ),
    (
        TypeError,
        "np.pad.*constant_values",
        lambda t: np.pad(t, 1, constant_values=t[0, 0]),
    ),
    (TypeError, "np.pad.*dictionary", lambda t: np.pad(t, {0: (1, 1)})),
    (TypeError, "np.trace.*'dtype'", lambda t: np.trace(t, dtype=np.float64)),
    (TypeError, "np.einsum.*'dtype'", lambda t: np.einsum("ij", t, dtype=np.float64)),
    (ValueError, "np.linalg.norm.*ord=3", lambda t: np.linalg.norm(t[0], 3)),
    (ValueError, "np.linalg.norm.*ord=0", lambda t: np.linalg.norm(t[0], 0)),
    (ValueError, "np.linalg.norm.*ord=-2", lambda t: np.linalg.norm(t, -2)),
    (ValueError, "np.linalg.norm.*ord='nuc'", lambda t: np.linalg.norm(t, "nuc")),
    (ValueError, "np.linalg.norm.*ord='fro'", lambda t: np.linalg.norm(t[0], "fro")),
    (ValueError, "np.cross.*2 and 2", lambda t: np.cross(t[:, :2], X[:, :2])),
    (ValueError, "np.cross.*2 and 3", lambda t: np.cross(t[:, :2], X)),
    # out=, in both directions
    (TypeError, "np.add: out=", lambda t: np.add(X, t, out=np.zeros((2, 3)))),
    (TypeError, "np.sum: out=", lambda t: np.sum(t, out=np.zeros(()))),
    # NumPy refuses these too
    (ValueError, "axis 5 is out of bounds", lambda t: np.sum(t, axis=5)),
    (ValueError, "axis 5 is out of bounds", lambda t: np.take(t, 0, axis=5)),
    (ValueError, "axis 5 is out of bounds", lambda t: np.diff(t, axis=5)),
    (IndexError, "out of range", lambda t: np.repeat(t, 2, axis=5)),
    (IndexError, "out of range", lambda t: np.split(t, 1, axis=5)),
    (ValueError, "axis 5 is out of bounds", lambda t: np.linalg.norm(t, axis=5)),
    (ValueError, "axis 5 is out of bounds", lambda t: np.tensordot(t, X, axes=(5, 0))),
    (ValueError, "axis 5 is out of bounds", lambda t: np.linalg.norm(t, axis=(0, 5))),
    (ValueError, "axis 5 is out of bounds", lambda t: np.take_along_axis(t, X > 9, 5)),
    (ValueError, "repeated axis", lambda t: np.tensordot(t, X, axes=3)),
    (ValueError, "np.tensordot.*differ", lambda t: np.tensordot(t, X, axes=1)),
    (IndexError, "out of bounds", lambda t: np.take(t, 6)),
    (IndexError, "integer", lambda t: np.take_along_axis(t, X > 0, 1)),
    (ValueError, "dimensions", lambda t: np.take_along_axis(t, np.array([0]), 1)),
    (ValueError, "negative", lambda t: np.diff(t, n=-1)),
    (ValueError, "indexing 'yx'", lambda t: np.meshgrid(t[0], t[1], indexing="yx")),
    (ValueError, "np.block.*2 deep", lambda t: np.block([[t], t])),
    (ValueError, "np.block.*1 deep", lambda t: np.block([t, [t]])),
    (ValueError, "equal division", lambda t: np.split(t, 4)),
    (ValueError, "np.average.*weights", lambda t: np.average(t, weights=[1, 2])),
    (ValueError, "np.average.*weights", lambda t: np.average(t, 1, weights=[1, 2])),
    (ValueError, "np.clip.*either", lambda t: np.clip(t, 0, 1, min=2)),
    (ValueError, "np.einsum.*missing", lambda t: np.einsum("...i->i", t)),
    (ValueError, "np.einsum.*names 2", lambda t: np.einsum("ij,jk", t)),
    (ValueError, "np.einsum.*operand 0", lambda t: np.einsum("ijk", t)),
    (ValueError, "np.einsum.*'i' has two", lambda t: np.einsum("ii", t)),
    (ValueError, "np.diag", lambda t: np.diag(t[None])),
    (ValueError, "inner sizes 3 and 2", lambda t: np.matmul(t, X)),
    (ValueError, r"\(2, 3\).*\(2,\)", lambda t: t + np.ones(2)),
]
if SINCE_2_1:
    REFUSED.append((ValueError, "np.clip.*either", lambda t: np.clip(t, 0, max=2)))


@pytest.mark.parametrize(("error", "words", "call"), REFUSED)
def test_what_is_not_covered_is_refused_at_the_call(error, words, call):
    with pytest.raises(error, match=f"(?s){words}"):
        call(Tensor(X, requires_grad=True))


KEYWORDS = [
    ("np.sum", lambda t: np.sum(a=t), 1),
    ("np.sum axis", lambda t: np.sum(a=t, axis=0), 1),
    ("np.stack", lambda t: np.stack(arrays=(t, X), axis=-1), 1),
    ("np.clip", lambda t: np.clip(X - 1, a_min=t, a_max=None), 1),
    ("np.transpose", lambda t: np.transpose(a=t, axes=(1, 0)), 1),
    ("np.tensordot", lambda t: np.tensordot(a=t, b=np.ones((3, 1)), axes=1), 1),
    ("np.linalg.norm", lambda t: np.linalg.norm(x=t, axis=None) ** 2, 2 * X),
    ("np.full_like", lambda t: np.full_like(t, fill_value=t[0, 0]), 6 * (X == 0.5)),
    ("np.append", lambda t: np.append(arr=t, values=t, axis=0), 2),
    ("np.diag", lambda t: np.diag(v=t), np.eye(2, 3)),
    ("np.trace", lambda t: np.trace(a=t, offset=1), np.eye(2, 3, 1)),
    ("np.kron", lambda t: np.kron(a=[1.0, 1.0], b=t), 2),
]

if SINCE_2_1:
    KEYWORDS.append(("np.reshape", lambda t: np.reshape(t, shape=(3, 2)), 1))


@pytest.mark.parametrize(("call", "expected"), [k[1:] for k in KEYWORDS],
                         ids=[k[0] for k in KEYWORDS])  # fmt: skip
def test_tensors_by_keyword(call, expected):
    np.testing.assert_allclose(slope(call, X), np.broadcast_to(expected, X.shape))


def test_limits_and_weights_by_keyword():
    x = np.array([-2.0, 0.5, 3.0])
    limits = {
        "a_min": lambda t: np.clip(x, a_min=t, a_max=None),
        "a_max": lambda t: -np.clip(-x, a_min=None, a_max=-t),
    }
    if SINCE_2_1:
        limits["min"] = lambda t: np.clip(x, min=t)
        limits["min and max"] = lambda t: np.clip(x, min=t, max=2.0)
    for name, f in limits.items():
        assert slope(f, 0.0) == 1, name
    weights = np.array([1.0, 2.0, 3.0])
    agrees(lambda w: np.average(x, weights=w), weights)
    agrees(lambda x, w: np.average(a=x, weights=w), x, weights)


LIST = [1.5, 2.0, 3.0]
WITH_LISTS: dict[str, Callable] = {
    "add": lambda x: x + LIST,
    "subtract from": lambda x: LIST - x,
    "multiply": lambda x: LIST * x,
    "divide": lambda x: x / LIST,
    "divide by": lambda x: LIST / x,
    "power": lambda x: np.power(x, LIST),
    "power of": lambda x: np.power(LIST, x),
    "float_power": lambda x: np.float_power(x, LIST),
    "remainder by": lambda x: np.remainder([4.5, 4.5, 4.2], x),
    "fmod by": lambda x: np.fmod([4.5, 4.5, 4.2], x),
    "copysign": lambda x: np.copysign(x, [1, -1, 1]),
    "logaddexp": lambda x: np.logaddexp(x, LIST),
    "logaddexp2": lambda x: np.logaddexp2(LIST, x),
    "arctan2": lambda x: np.arctan2(x, LIST),
    "arctan2 of": lambda x: np.arctan2(LIST, x),
    "hypot": lambda x: np.hypot(x, LIST),
    "maximum": lambda x: np.maximum(x, LIST),
    "fmin": lambda x: np.fmin(LIST, x),
    "where": lambda x: np.where([True, False, True], x, LIST),
    "where else": lambda x: np.where([True, False, True], LIST, x),
    "clip": lambda x: np.clip(x, [-1, -2, -3], LIST),
    "clip by": lambda x: np.clip(LIST, x, None),
    "matmul": lambda x: np.matmul(x, LIST),
    "matmul of": lambda x: np.matmul([LIST, LIST], x),
    "vecdot": lambda x: np.vecdot(x, LIST),
    "dot": lambda x: np.dot([LIST, LIST], x),
    "inner": lambda x: np.inner(LIST, x),
    "outer": lambda x: np.outer(LIST, x),
    "kron": lambda x: np.kron(LIST, x),
    "cross": lambda x: np.cross(LIST, x),
    "tensordot": lambda x: np.tensordot(x, LIST, 1),
    "einsum": lambda x: np.einsum("i,i", x, LIST),
    "solve": lambda x: np.linalg.solve([[2, 1, 0], [0, 1, 0], [0, 1, 1]], x),
    "solve for": lambda x: np.linalg.solve(np.eye(3) * x, LIST),
    "concatenate": lambda x: np.concatenate([x, LIST]),
    "stack": lambda x: np.stack([LIST, x]),
    "vstack": lambda x: np.vstack([LIST, x]),
    "hstack": lambda x: np.hstack([LIST, x]),
    "dstack": lambda x: np.dstack([LIST, x]),
    "column_stack": lambda x: np.column_stack([LIST, x]),
    "append": lambda x: np.append(LIST, x),
    "append a number": lambda x: np.append(x, 5),
    "average": lambda x: np.average(x, weights=LIST),
    "average by": lambda x: np.average(LIST, weights=x),
    "meshgrid": lambda x: np.meshgrid(x, LIST),
    "broadcast_arrays": lambda x: np.broadcast_arrays(x, [LIST, LIST])[0],
    "atleast_2d": lambda x: np.atleast_2d(LIST, x)[1],
    "take": lambda x: np.take(x, [2, 0]),
    "block": lambda x: np.block([x, np.array(LIST)]),
}


@pytest.mark.parametrize("call", WITH_LISTS.values(), ids=WITH_LISTS.keys())
def test_lists_and_numbers_next_to_a_tensor(call):
    """Every array argument may be a list, as in NumPy."""
    agrees(call, [1.2, 1.7, 2.5], orders=(1, 2))


# --- Quotients ----------------------------------------------------------------------


@pytest.mark.parametrize("function", [np.remainder, np.fmod])
def test_the_quotient_is_that_of_numpy(function):
    # 1 / 0.1 rounds to 10, but 0.1 is a little more than 1/10, so 1 // 0.1 is 9.
    a, b = np.array([1.0, 6.0, -1.0]), np.array([0.1, 0.1, 0.1])
    slope = grad(lambda b: np.sum(function(a, b)))(b)
    np.testing.assert_allclose(function(a, b), a + slope * b, atol=1e-12)


def test_an_unsigned_exponent_does_not_wrap_round():
    n = np.array([0, 1, 3], np.uint8)
    found = grad(lambda x: np.sum(x**n))(np.array([20.0, 0.0, 2.0]))
    np.testing.assert_array_equal(found, [0.0, 1.0, 12.0])
