"""Check a gradient against differences of the function, and name what is wrong.

    gradcheck(f, inputs)                  # f of Tensors: the engine's gradient
    gradcheck((f, gradient), inputs)      # plain NumPy: one that you derived by hand

    gradcheck: WRONG  d f/d W[17, 3]
      analytic   0.4181093
      numeric    0.4139700  (complex step, error < 2e-13)
      worst of 784 entries; 12 differ; they share row 17
      rule: np.multiply, argument 1

How it works. A function f of arrays is made a number by a random cotangent c:
phi(x) = sum(c * f(x)). Along a direction d the gradient a claims the slope a . d, and
an *oracle*, which sees only values of f, measures it:

- real differences (phi(x + td) - phi(x - td)) / 2t, extrapolated to t -> 0. They hold
  for any function and are good to about 1e-10;
- the complex step, Im phi(x + ihd) / h (Squire & Trapp 1998), good to about 1e-13
  because nothing is subtracted. It holds for analytic functions only and is silently
  wrong for the others (np.abs, np.var, a cast), so it is believed only for an input
  along which real differences agree with it.

One direction can check many entries: a single wrong one shows in the slope if the
oracle's error is below its contribution. Where the error is above, the entries are
split into blocks of like magnitude, down to single ones; where a block disagrees, it
is split until the entry is found. Nothing is called wrong on a block's word or on the
complex step's: only a real difference along that very entry decides.

No tolerance is a constant. It is the oracle's error bound plus the rounding of f and of
the gradient, which are both measured (`_roughness`).
"""

from __future__ import annotations

import contextlib
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scratchnet.backend import Array
from scratchnet.tensor import (
    Tensor,
    _graph,
    _recording_set_to,
    _RuleEach,
    _walk,
    name_of,
    no_grad,
    plain,
)

EPS = 2.0**-52  # the spacing of float64 at 1
AIM = 1e-4  # a relative error of this size in any one entry is to be seen
PROOF = 1e-2  # the same for the real differences that stand behind a complex step
LIMIT = 5e-3  # an entry known less well than this counts as not checked: noisy
FLOOR = 1e-6  # entries below this part of the largest are held to its standard
START = 1 / 8  # the first step, as a part of an entry's size
TINY = 1e-15  # and the last
STEP = 1e-100  # the complex step
ONE_BY_ONE = 64  # up to so many entries, each is checked alone
SPLIT = 8  # into how many blocks a block is split
MOST = 64  # so many wrong entries are located; a trusted complex step counts the rest
COUNTED = 4096  # ... in gradients of up to this size
BUDGET = 50_000  # evaluations of f for one input, before the rest is given up

NODES = 300  # functions of a graph that are searched for a wrong rule
COTANGENT = "its cotangent"
COMPLEX, RIDDERS = "complex step", "Ridders"
VERDICTS = ("nondeterministic", "wrong", "kink", "noisy", "vacuous", "pass")
Function = Callable[..., Any]


# --- What comes out -----------------------------------------------------------------


@dataclass(frozen=True)
class GradientReport:
    """What a check found; `str(report)` is the message, `bool(report)` is `ok`.

    Attributes:
        verdict: "pass"; "wrong"; "kink" (f has no derivative there: its one-sided
            slopes stay apart however small the step); "noisy" (f is not accurate
            enough to tell); "nondeterministic" (two calls differ); "vacuous" (the
            gradient is zero everywhere, and so is the slope: nothing was checked).
        ok: the verdict is "pass", or one that the caller allowed.
        message: the report as text, one line for each fact.
        input: the name of the input in question.
        index: the worst entry in it.
        analytic: the gradient under test at that entry.
        numeric: what the oracle says instead.
        error: a bound on the error of `numeric`.
        oracle: "complex step" or "Ridders".
        entries: how many entries that input has.
        differ: how many of them were found wrong (of a large input, at least).
        pattern: what the wrong entries have in common, if anything.
        rule: the function of the graph whose own rule is wrong, and its argument.
        calls: how often f was evaluated.

    """

    verdict: str
    ok: bool
    message: str
    input: str | None = None
    index: tuple[int, ...] | None = None
    analytic: float | None = None
    numeric: float | None = None
    error: float | None = None
    oracle: str | None = None
    entries: int = 0
    differ: int = 0
    pattern: str | None = None
    rule: str | None = None
    calls: int = 0

    def __str__(self) -> str:
        return self.message

    def __bool__(self) -> bool:
        return self.ok


class GradientError(AssertionError):
    """Raised by `assert_gradients`; `.report` is the whole GradientReport."""

    def __init__(self, report: GradientReport) -> None:
        super().__init__(report.message)
        self.report = report


# --- What is checked ----------------------------------------------------------------


class _Problem:
    """A function with its gradient, both of a list of float64 arrays.

    `value(xs)` is an array; `gradient(xs, c)` is, for each x, the array
    d sum(c * value)/dx, or None if no gradient reached it.
    """

    names: list[str]
    xs: list[Array]
    dtypes: list[Any]
    may_be_zero: list[bool]  # a gradient of zero is nothing unusual
    label = "sum(c * f)"

    def value(self, xs: list[Array]) -> Array:
        raise NotImplementedError

    def gradient(self, xs: list[Array], c: Array) -> list[Any]:
        raise NotImplementedError

    def blame(self) -> str | None:
        """Name the function of the graph whose own rule is wrong."""
        return None

    def _take(self, f: Function, inputs: Any) -> None:
        """Read the inputs: the floating ones are differentiated, in float64."""
        self.f = f
        single = not isinstance(inputs, (tuple, list)) and not _iterable(inputs)
        self.inputs = [inputs] if single else list(inputs)
        arrays = [x.data if isinstance(x, Tensor) else x for x in self.inputs]
        self.constants = [np.asarray(x) for x in arrays]
        kinds = [x.dtype.kind for x in self.constants]
        for x, name in zip(self.constants, self._all_names(), strict=True):
            if x.dtype.kind not in "biuf":
                raise TypeError(f"gradcheck: {name} is {x.dtype}; inputs must be real")
        self.places = [
            i
            for i, (x, kind) in enumerate(zip(self.inputs, kinds, strict=True))
            if kind == "f" and not (isinstance(x, Tensor) and not x.requires_grad)
        ]
        if not self.places:
            raise TypeError(
                "gradcheck: none of the inputs can be differentiated; "
                "pass at least one floating array (np.asarray(x, float))"
            )
        names = self._all_names()
        self.names = [names[i] for i in self.places]
        self.xs = [self.constants[i].astype(np.float64) for i in self.places]
        self.dtypes = [self.constants[i].dtype for i in self.places]
        self.may_be_zero = [False] * len(self.xs)

    def _all_names(self) -> list[str]:
        try:
            parameters = list(inspect.signature(self.f).parameters.values())
        except (TypeError, ValueError):
            parameters = []
        names: list[str] = []
        for i, x in enumerate(self.inputs):
            p = parameters[min(i, len(parameters) - 1)] if parameters else None
            if isinstance(x, Tensor) and x.name is not None:
                names.append(x.name)
            elif p is None or p.kind is p.KEYWORD_ONLY or p.kind is p.VAR_KEYWORD:
                names.append(f"input {i}")
            elif p.kind is p.VAR_POSITIONAL:
                names.append(f"{p.name}[{i - len(parameters) + 1}]")
            else:
                names.append(p.name if i < len(parameters) else f"input {i}")
        return names

    def _merge(self, xs: list[Array]) -> list[Array]:
        """Put fresh copies of `xs` among the constant inputs: f may write into them."""
        args = list(self.constants)
        for i, x in zip(self.places, xs, strict=True):
            args[i] = x.copy()
        return args


def _flat(gradients: list[Any], xs: list[Array]) -> Array:
    """Return the gradients in one row, zeros for those that are missing."""
    return np.concatenate(
        [
            np.zeros(x.size) if g is None else np.ravel(g)
            for g, x in zip(gradients, xs, strict=True)
        ]
    )


def _iterable(x: Any) -> bool:
    """Say whether `x` is a collection of inputs, such as `model.parameters()`."""
    return hasattr(x, "__iter__") and not isinstance(x, (np.ndarray, np.generic, Tensor))


def _result(y: Any) -> Array:
    y = np.asarray(plain(y)) if not isinstance(y, (tuple, list)) else y
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "fc":
        kind = y.dtype if isinstance(y, np.ndarray) else type(y).__name__
        raise TypeError(f"gradcheck: f returned {kind}; it must return one float array")
    return y


class _Pair(_Problem):
    """Two functions of plain arrays: f, and its gradient or vjp."""

    def __init__(self, f: Function, gradient: Function, inputs: Any) -> None:
        self._take(f, inputs)
        self.derivative = gradient
        n = len(self.inputs)
        self.scalar = self.value(self.xs).ndim == 0
        takes, takes_c = _binds(gradient, n), _binds(gradient, n + 1)
        if not (takes_c or (takes and self.scalar)):
            shape = self.value(self.xs).shape
            raise TypeError(
                f"gradcheck: f returns shape {shape} of {n} inputs, so the second of "
                + ("the pair must be gradient(*inputs)" if self.scalar else
                   "the pair must be vjp(g, *inputs), with g = dL/df of that shape")
            )  # fmt: skip
        self.with_cotangent = not (takes and self.scalar)

    def value(self, xs: list[Array]) -> Array:
        return _result(self.f(*self._merge(xs)))

    def gradient(self, xs: list[Array], c: Array) -> list[Any]:
        args = self._merge(xs)
        if self.with_cotangent:
            found = self.derivative(c.copy(), *args)
        else:
            found = self.derivative(*args)
            found = _scaled(found, float(c))
        if not isinstance(found, (tuple, list)):
            found = [found]
        if len(found) == len(args):
            found = [found[i] for i in self.places]
        if len(found) != len(xs):
            raise _WrongCount(len(found), len(args))
        return [None if g is None else np.array(plain(g)) for g in found]


class _WrongCount(Exception):
    """The gradient has not one array for each input."""


def _scaled(found: Any, c: float) -> Any:
    if isinstance(found, (tuple, list)):
        return [_scaled(g, c) for g in found]
    return None if found is None else np.asarray(plain(found)) * c


def _binds(f: Function, n: int) -> bool:
    try:
        inspect.signature(f).bind(*[None] * n)
    except ValueError:  # a built-in without a signature: let the call itself tell
        return True
    except TypeError:
        return False
    return True


class _Recorded(_Problem):
    """A function of Tensors, with the engine's gradient.

    Arrays are handed to f as new Tensors. An input that is a Tensor itself (a
    parameter of a model, which f may reach without being given it) keeps its identity:
    its values are exchanged during a call, and put back.
    """

    def __init__(self, f: Function, inputs: Any) -> None:
        self._take(f, inputs)
        tensors = [x for x in self.inputs if isinstance(x, Tensor)]
        if len(set(tensors)) < len(tensors):
            raise ValueError("gradcheck: the same Tensor is given twice as an input")

    @contextlib.contextmanager
    def _with_values(self, xs: list[Array], record: bool) -> Iterator[list[Tensor]]:
        """Yield the arguments of f, those that are the caller's own lent for a while."""
        args: list[Tensor] = []
        lent = []
        values = dict(zip(self.places, xs, strict=True))
        try:
            for i, x in enumerate(self.inputs):
                value = values.get(i, self.constants[i])
                if isinstance(x, Tensor):
                    lent.append((x, x._data, x._version))
                    # Not by `.data =`: that marks the caller's own graphs as stale.
                    x._data, x._version = np.array(value), None
                    args.append(x)
                else:
                    args.append(Tensor(np.array(value), record and i in values))
            yield args
        finally:
            for x, data, version in lent:
                x._data, x._version = data, version

    def value(self, xs: list[Array]) -> Array:
        with no_grad(), self._with_values(xs, record=False) as args:
            return np.array(_result(self.f(*args)))

    def gradient(self, xs: list[Array], c: Array) -> list[Any]:
        with _recording_set_to(True), self._with_values(xs, record=True) as args:
            variables = [args[i] for i in self.places]
            found = _pull(self.f(*args), c, variables)
            return [None if g is None else np.array(g) for g in found]

    def nodes(self) -> list[Any]:
        """Return the recorded calls of one forward pass, oldest first."""
        with _recording_set_to(True), self._with_values(self.xs, record=True) as args:
            y = self.f(*args)
            graph = _graph(y, None)[0] if isinstance(y, Tensor) else []
            return [(_alone(t._node), _arrays(t._node), t._node) for t in graph]

    def blame(self) -> str | None:
        return self._blame(lambda node: node)

    def _blame(self, order: Callable[[_Recorded], _Problem]) -> str:
        for call, arrays, node in self.nodes()[:NODES]:
            problem = order(_Recorded(call, arrays))
            report = _check(problem, 0, "auto", (), find_rule=False)
            if report.verdict == "wrong":
                name = name_of(node.function)
                if report.input not in problem.names or report.input == COTANGENT:
                    return name
                place = problem.names.index(report.input)
                return f"{name}, argument {node.inputs()[place][0]}"
        return "each function is right by itself; is a link cut (.data, detach)?"


def _pull(y: Any, c: Any, variables: list[Tensor], keep: bool = False) -> list[Any]:
    """Return d sum(c * y)/dx for each variable, leaving every `.grad` as it is.

    If the cotangent `c` is a Tensor, so are the gradients.
    """
    if not isinstance(y, Tensor) or not y.requires_grad:
        return [None] * len(variables)
    wanted = set(variables)
    again = isinstance(c, Tensor)
    start = c if again else np.array(c, dtype=y.dtype)
    found = _walk(y, start, _graph(y, wanted)[0], wanted, again, again or keep)
    return [found.get(x) for x in variables]


def _alone(node: Any) -> Function:
    """Make a function of its differentiable inputs from one recorded call."""
    given, places = node.args, [i for i, _ in node.inputs()]

    def call(*variables: Any) -> Any:
        args = list(node.row.inputs(given))
        for i, x in zip(places, variables, strict=True):
            args[i] = x
        if isinstance(node.row, _RuleEach):
            return node.function(tuple(args), *given[1:], **node.kwargs)
        return node.function(*args, *given[len(args) :], **node.kwargs)

    return call


def _arrays(node: Any) -> list[Array]:
    return [np.array(x.data) for _, x in node.inputs()]


class _Second(_Problem):
    """The gradient as a function: (xs, cotangent) -> d sum(c * f)/dx, all in a row.

    Its own gradient is taken by the engine through the recorded walk. The cotangent is
    an input too: for a linear f it is the only one that the gradient depends on.
    """

    def __init__(self, first: _Recorded) -> None:
        self.first = first
        c = np.random.default_rng(1).normal(size=first.value(first.xs).shape)
        self.xs = [*first.xs, c]
        self.names = [*first.names, COTANGENT]
        self.dtypes = [x.dtype for x in self.xs]
        self.may_be_zero = [True] * len(first.xs) + [False]
        self.label = "sum(c * gradient of f)"

    def value(self, xs: list[Array]) -> Array:
        *xs, c = xs
        found = self.first.gradient(xs, c)
        return _flat(found, xs)

    def gradient(self, xs: list[Array], c: Array) -> list[Any]:
        *xs, inner = xs
        total: list[Any] = [None] * (len(xs) + 1)
        record = _recording_set_to(True)
        with record, self.first._with_values(xs, record=True) as args:
            variables = [args[i] for i in self.first.places]
            seed = Tensor(np.array(inner), requires_grad=True)
            first = _pull(self.first.f(*args), seed, variables)
            parts = np.split(c, np.cumsum([x.size for x in xs])[:-1])
            for g, x, part in zip(first, xs, parts, strict=True):
                found = _pull(g, part.reshape(x.shape), [*variables, seed], keep=True)
                for i, dx in enumerate(found):
                    if dx is not None:
                        total[i] = dx if total[i] is None else total[i] + dx
        return total

    def blame(self) -> str | None:
        return self.first._blame(_Second)


# --- Oracles ------------------------------------------------------------------------


@dataclass
class _Slope:
    """A measured slope along a direction, with a bound on its error.

    `kind` is "" if all is well; "broken" along a block that met a kink or did not
    settle; and along a single entry "kink", "jump" (the slopes of the two sides grow
    without bound) or "edge" (f is defined on one side only), with the two slopes.
    """

    value: float = math.nan
    error: float = math.inf
    kind: str = ""
    left: float = math.nan
    right: float = math.nan
    step: float = 0.0


class _Probe:
    """A problem with its cotangent: base values, measured rounding, evaluations."""

    def __init__(self, problem: _Problem, rng: np.random.Generator) -> None:
        self.problem = problem
        self.rng = rng
        self.calls = 0
        self.why = ""  # the last exception that f raised at a nearby point
        self.base = np.array(problem.value(problem.xs), dtype=np.float64)
        # Away from 0, so that no output is left out of the sum.
        size = rng.uniform(0.5, 1.5, self.base.shape)
        self.c = size * rng.choice([-1.0, 1.0], self.base.shape)
        number = self.base.size == 1 and not isinstance(problem, _Second)
        self.label = "f" if number else problem.label
        # A step in proportion to an entry, and to the others where the entry is small.
        self.scale = []
        for x in problem.xs:
            typical = math.sqrt(np.mean(x * x)) if x.size else 0.0
            self.scale.append(np.maximum(np.abs(x), 0.1 * typical or 1.0).ravel())

    def change(self, j: int, step: Array) -> float:
        """Return phi(x + step) - phi(x), NaN where f is not defined."""
        xs = list(self.problem.xs)
        xs[j] = xs[j] + step.reshape(xs[j].shape)
        self.calls += 1
        try:
            y = self.problem.value(xs)
        except Exception as error:  # f(x) itself did not raise: x + step is outside
            self.why = f"{type(error).__name__}: {error}"
            return math.nan
        if y.shape != self.base.shape:
            return math.nan
        return float(np.vdot(self.c, y - self.base))

    def imaginary(self, j: int, d: Array) -> float:
        """Return the complex step's slope along d, NaN where f takes no complex x."""
        xs = list(self.problem.xs)
        xs[j] = xs[j] + 1j * STEP * d.reshape(xs[j].shape)
        self.calls += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # NumPy warns when it drops Im
                y = self.problem.value(xs)
        except Exception:
            return math.nan
        if y.shape != self.base.shape:
            return math.nan
        return float(np.vdot(self.c, np.imag(y))) / STEP

    def measure_rounding(self, gradient: list[Any]) -> None:
        """Measure how rounding blurs phi (`noise`) and each entry of the gradient."""

        def values(xs: list[Array], c: Array) -> Array:
            y = np.asarray(self.problem.value(xs), dtype=np.float64).ravel()
            weighted = self.c.ravel() * y
            return np.append(weighted, weighted.sum())

        def gradients(xs: list[Array], c: Array) -> Array:
            found = self.problem.gradient(xs, c)
            return _flat(found, xs)

        blur = self._roughness(values)
        size = float(np.linalg.norm(self.c * self.base))
        self.noise = 3 * max(float(np.linalg.norm(blur[:-1])), blur[-1]) + EPS * size
        blur = self._roughness(gradients)
        ends = np.cumsum([x.size for x in self.problem.xs])[:-1]
        flat = np.abs(np.nan_to_num(_flat(gradient, self.problem.xs)))
        self.rounding = [
            8 * part + 4 * EPS * (g + np.max(g, initial=0.0))
            for part, g in zip(np.split(blur, ends), np.split(flat, ends), strict=True)
        ]

    def _roughness(self, f: Function) -> Array:
        """Estimate the rounding error of each element of f(xs, c).

        Over nine points on a tiny segment a smooth function is a polynomial of low
        degree: its sixth differences vanish, and what they show is rounding (Hamming
        1973; More and Wild 2011). The steps are a few spacings of float32, so that
        float32 arithmetic inside f shows too. A kink inside the segment looks like
        noise; so where the first segment is noisy, the middle of three counts.
        """
        found = [self._segment(f, 0.0)]
        exact = 100 * EPS * np.abs(f(self.problem.xs, self.c))
        if np.any(found[0] > exact):
            found += [self._segment(f, 0.01), self._segment(f, -0.02)]
        return np.asarray(np.nan_to_num(np.median(found, axis=0)))

    def _segment(self, f: Function, shift: float) -> Array:
        point = [*self.problem.xs, self.c]
        at = [x * (1 + shift * self.rng.uniform(0.5, 1, x.shape)) for x in point]
        to = [x * 3e-7 * self.rng.uniform(0.5, 1, x.shape) for x in point]
        samples = []
        for k in range(-4, 5):
            *xs, c = (x + k * d for x, d in zip(at, to, strict=True))
            self.calls += 1
            try:
                samples.append(f(xs, c))
            except Exception:  # outside the domain: this segment tells nothing
                samples.append(f(self.problem.xs, self.c))
        # 924 is the sum of the squares of the sixth difference's coefficients.
        bends = np.diff(samples, 6, axis=0)
        return np.asarray(np.sqrt(np.mean(bends * bends, axis=0) / 924))


class _Line:
    """Slopes of phi along one direction d of input j, by real differences."""

    def __init__(self, probe: _Probe, j: int, d: Array) -> None:
        self.probe = probe
        self.j = j
        self.d = d

    def sides(self, t: float) -> tuple[float, float, float]:
        """Return the slopes over the steps -t and t, and what rounding does to them."""
        left = -self.probe.change(self.j, -t * self.d) / t
        right = self.probe.change(self.j, t * self.d) / t
        steepest = max(abs(v) if math.isfinite(v) else 0.0 for v in (left, right))
        # f is rounded, and so is x + td.
        return left, right, 2 * (self.probe.noise + 2 * EPS * steepest) / t

    def slope(self, target: float, depth: int) -> _Slope:
        """Measure the slope, to within `target` where that is possible.

        Ridders (1982): the error of a central difference over t is a series in even
        powers of t, of which Neville's scheme removes one more with each t/2; the
        change that each step makes estimates the error left. Two things are added.
        A result that disagrees with one of smaller steps has met something that is not
        at x, such as a kink nearby, and is forgotten. And it must hold at `depth` far
        smaller steps, where the two sides must agree: at a kink they stay apart.
        """
        best, bend = _Slope(), 0.0
        rows: list[list[float]] = []
        t = START
        last = TINY if depth > 1 else 1e-5  # a block is split sooner than searched
        while t > last:
            left, right, noise = self.sides(t)
            middle = (left + right) / 2
            if not math.isfinite(middle):  # outside the domain of f
                best, rows, t = _Slope(), [], t / 8
                continue
            rows.append(_extrapolate(middle, rows[-1] if rows else []))
            if len(rows) > 2:
                new = _best_of(rows[-1], rows[-2], noise)
                disagrees = abs(new.value - best.value) > new.error + best.error
                if disagrees or new.error < best.error:
                    best, bend = replace(new, step=t), abs(middle - new.value)
            if best.error <= target or noise > best.error:
                s = self._broken_at(best, t, bend, abs(right - left), target, depth)
                if s is None:
                    return best
                if s == 0.0:
                    break
                best, rows, t = _Slope(), [], 2 * s
            t /= 2
        return self._at_kink(best) if depth > 1 else replace(best, kind="broken")

    def _broken_at(
        self,
        best: _Slope,
        t: float,
        bend: float,
        gap: float,
        target: float,
        depth: int,
    ) -> float | None:
        """Return the far smaller step at which `best`, found at t, fails: 0 at a kink.

        `bend` and `gap` are the error of the plain central difference at t, and the
        difference of its two sides. On a smooth function both are smaller here.
        """
        s = t
        for k in range(depth):
            s /= 256
            left, right, noise = self.sides(s)
            if k > 0 and noise > 0.05 * abs(best.value) + best.error:
                break  # rounding would hide anything
            off = abs((left + right) / 2 - best.value)
            if not off <= best.error + noise + bend / 64:
                return s
            if abs(right - left) > 0.5 * gap + 2 * noise + max(target, best.error):
                return 0.0
        return None

    def _at_kink(self, best: _Slope) -> _Slope:
        """Return `best` with the slopes of the two sides, if they stay apart."""
        seen: list[tuple[float, float, float]] = []
        t = 1e-3
        while t > TINY:
            left, right, noise = self.sides(t)
            if math.isfinite(left) != math.isfinite(right):
                seen.append((math.inf, left, right))
            else:
                gap = abs(right - left)
                if seen and gap + noise < 0.5 * seen[0][0]:
                    return best  # they do come together
                if not noise < gap / 8:
                    break
                seen.append((gap, left, right))
            t /= 64
        if len(seen) < 3:
            return best
        first, last = seen[-3], seen[-1]
        
        kind = "edge" if last[0] == math.inf else "kink"
        if kind == "kink" and last[0] > 16 * first[0]:
            kind = "jump"
        return replace(best, kind=kind, left=first[1] + 0.0, right=first[2] + 0.0)


    def averaged(self, best: _Slope) -> _Slope:
        """Fit a line in t^2 to many central differences: their rounding averages out."""
        t = best.step * np.linspace(0.2, 1.0, 200)
        ends = np.array([self.sides(s)[:2] for s in t])
        middle = np.mean(ends, axis=1)
        if not np.all(np.isfinite(middle)):
            return best
        terms = np.stack([np.ones_like(t), t**2 / best.step**2], axis=1)
        weight = (t / best.step)[:, None]  # the noise of a slope is as 1/t
        fit, *_ = np.linalg.lstsq(terms * weight, middle * weight[:, 0])
        rest = (middle - terms @ fit) * weight[:, 0]
        spread = math.sqrt(np.mean(rest**2) * np.linalg.inv((terms * weight).T @ (terms * weight))[0, 0])
        value, error = float(fit[0]), 6 * spread
        if abs(value - best.value) > best.error + error or error > best.error:
            return best
        return replace(best, value=value, error=error)


def _extrapolate(middle: float, above: list[float]) -> list[float]:
    """Return the next row of Neville's table for steps that halve."""
    row = [middle]
    for k, old in enumerate(above[:6]):
        row.append(row[k] + (row[k] - old) / (4 ** (k + 1) - 1))
    return row


def _best_of(row: list[float], above: list[float], noise: float) -> _Slope:
    """Return the value of a row that changed least, from its left and from above."""
    changes = [
        max(abs(row[k] - row[k - 1]), abs(row[k] - above[k - 1]))
        for k in range(1, len(row))
    ]
    k = changes.index(min(changes))
    return _Slope(row[k + 1], changes[k] + noise)


# --- The search ---------------------------------------------------------------------


@dataclass
class _Entry:
    """An entry that is wrong, or at a kink, or that cannot be told."""

    i: int
    analytic: float
    slope: _Slope
    doubt: float  # the rounding of the analytic value
    oracle: str = RIDDERS

    @property
    def verdict(self) -> str:
        s = self.slope
        if s.kind == "kink":
            # At a kink any value between the two slopes is a fair convention.
            near = self.doubt + 1e-3 * max(abs(s.left), abs(s.right))
            low, high = min(s.left, s.right) - near, max(s.left, s.right) + near
            return "kink" if low <= self.analytic <= high else "wrong"
        if s.kind:
            return "kink"
        if not math.isfinite(s.value):
            return "noisy"
        return "noisy" if self.off <= s.error + self.doubt else "wrong"

    @property
    def off(self) -> float:
        off = abs(self.analytic - self.slope.value)
        return off if math.isfinite(off) else math.inf


class _Search:
    """The search through the entries of input j for those that are not right."""

    def __init__(self, probe: _Probe, j: int, analytic: Array) -> None:
        self.probe = probe
        self.j = j
        self.analytic = analytic
        self.doubt = probe.rounding[j]
        self.unclear = 0
        size = np.where(np.isfinite(analytic), np.abs(analytic), 0.0)
        self.largest = float(np.max(size))
        # What a slope of zero may look like to the differences.
        zero = 8 * probe.noise / START / probe.scale[j] + 4 * self.doubt
        self.zero = bool(np.all(size <= 8 * zero))
        # What the error of each entry is held against.
        floor = zero / AIM if self.zero else FLOOR * self.largest
        self.size = np.maximum(size, floor)
        # Like magnitudes together: the small do not have to show beside the large.
        self.order = np.argsort(-self.size, kind="stable")

    def measure(self, block: Array, oracle: str, aim: float) -> tuple[_Slope, bool, float]:
        """Measure the slope along the entries of a block, each with a random weight.

        Return it, whether the gradient agrees, and how large a relative error of a
        single one of the entries could have gone unseen.
        """
        d = np.zeros(len(self.size))
        if oracle == COMPLEX:  # no step to be kept small: each counts alike
            d[block] = np.max(self.size) / self.size[block]
        else:
            d[block] = self.probe.scale[self.j][block]
        if len(block) > 1:
            d[block] *= _signs(self.probe.rng, len(block))
        reach = float(np.min(np.abs(d[block]) * self.size[block]))
        doubt = float(np.abs(d[block]) @ self.doubt[block])
        claimed = float(d[block] @ self.analytic[block])
        if oracle == COMPLEX:
            slope = _Slope(self.probe.imaginary(self.j, d), 0.0)
        else:
            depth = 3 if len(block) == 1 else 1
            slope = _Line(self.probe, self.j, d).slope(aim * reach / 4, depth)
        agrees = abs(slope.value - claimed) <= slope.error + doubt and not slope.kind
        return slope, agrees, (slope.error + doubt) / reach

    def disputed(self, most: int) -> list[int] | None:
        """Return up to `most` entries at which the complex step says otherwise.

        None if f does not take complex numbers.
        """
        if math.isnan(self.probe.imaginary(self.j, self.size)):
            return None
        blocks = self._first_blocks(len(self.order) <= ONE_BY_ONE)
        found: list[int] = []
        while blocks and len(found) < most:
            block = blocks.pop()
            _, agrees, blind = self.measure(block, COMPLEX, AIM)
            if len(block) == 1 and not agrees:
                found.append(int(block[0]))
            elif len(block) > 1 and not (agrees and blind <= AIM):
                blocks += _split(block)
        return found

    def look(self, aim: float, budget: int) -> list[_Entry]:
        """Return the entries that real differences do not confirm, to within `aim`.

        At most MOST wrong ones. `unclear` counts those that could not be looked at.
        """
        blocks = self._first_blocks(len(self.order) <= ONE_BY_ONE and aim == AIM)
        found: list[_Entry] = []
        wrong = 0
        until = self.probe.calls + budget
        while blocks and wrong < MOST:
            block = blocks.pop()
            if self.probe.calls > until:
                self.unclear += len(block)
                continue
            _, agrees, blind = self.measure(block, RIDDERS, aim)
            if agrees and blind <= aim:
                continue
            if len(block) > 1 and agrees and self._hopeless(block):
                self.unclear += len(block)
            elif len(block) > 1:
                blocks += _split(block)
            elif not agrees or blind > max(aim, LIMIT):
                entry = self.entry(int(block[0]))
                if entry.verdict != "noisy" or self._unknown(entry):
                    found.append(entry)
                    wrong += entry.verdict == "wrong"
        return found

    def entry(self, i: int) -> _Entry:
        """Look at one entry as closely as can be done."""
        d = np.zeros(len(self.size))
        d[i] = unit = self.probe.scale[self.j][i]
        line = _Line(self.probe, self.j, d)
        slope = line.slope(0.0, depth=6)
        if not slope.kind and slope.error + self.doubt[i]*unit > LIMIT * self.size[i] * unit:
            slope = line.averaged(slope)
        slope = replace(
            slope,
            value=slope.value / unit,
            error=slope.error / unit,
            left=slope.left / unit,
            right=slope.right / unit,
        )
        return _Entry(i, float(self.analytic[i]), slope, float(self.doubt[i]))

    def complex_entry(self, i: int) -> float:
        """Return the complex step's value of one entry."""
        d = np.zeros(len(self.size))
        d[i] = 1.0
        return self.probe.imaginary(self.j, d)

    def sharpen(self, entry: _Entry) -> bool:
        """Put the complex step's value for the real differences', if they agree."""
        value = self.complex_entry(entry.i)
        if not abs(value - entry.slope.value) <= entry.slope.error or entry.slope.kind:
            return False
        entry.slope = _Slope(value, entry.doubt + 8 * EPS * abs(value))
        entry.oracle = COMPLEX
        return True

    def _unknown(self, entry: _Entry) -> bool:
        return entry.slope.error + entry.doubt > LIMIT * self.size[entry.i]

    def _first_blocks(self, alone: bool) -> list[Array]:
        n = len(self.order)
        return np.array_split(self.order, n if alone else 1)[::-1]

    def _hopeless(self, block: Array) -> bool:
        """Say whether noise alone hides every entry, so that no split would help."""
        reach = np.max(self.probe.scale[self.j][block] * self.size[block])
        return 2 * self.probe.noise / START > LIMIT * reach


def _signs(rng: np.random.Generator, n: int) -> Array:
    """Return random weights of either sign; of like size, but never equal."""
    return rng.uniform(0.5, 1.5, n) * rng.choice([-1.0, 1.0], n)


def _split(block: Array) -> list[Array]:
    return np.array_split(block, min(SPLIT, len(block)))[::-1]


# --- The verdict --------------------------------------------------------------------


@dataclass
class _Finding:
    """What was found of one input."""

    verdict: str
    name: str
    shape: tuple[int, ...]
    worst: _Entry | None = None
    detail: str = ""
    differ: int = 0
    pattern: str = ""
    oracle: str = RIDDERS
    error: float = 0.0


def _examine(probe: _Probe, j: int, g: Array | None, oracle: str) -> _Finding:
    """Check the gradient `g` of input j."""
    name, shape = probe.problem.names[j], probe.problem.xs[j].shape
    analytic = np.zeros(math.prod(shape)) if g is None else g.ravel()
    finding = _Finding("pass", name, shape)
    if not analytic.size:
        return replace(finding, verdict="vacuous", detail=f"{name} has no entries")
    search = _Search(probe, j, analytic)
    disputed = None if oracle == "ridders" else search.disputed(1)
    proven = disputed == []
    entries = search.look(PROOF, 5_000) if proven else search.look(AIM, BUDGET)
    if disputed and not entries and not search.unclear:
        # Either the complex step does not hold for f, or it sees a smaller error.
        closer = [search.entry(i) for i in search.disputed(8) or []]
        entries = [e for e in closer if e.verdict == "wrong"]
    if proven:  # what the differences left open the complex step has settled
        entries = [e for e in entries if e.verdict != "noisy"]
        search.unclear = 0
        finding.oracle = COMPLEX
    finding.error = float(np.max(search.doubt))
    groups = {v: [e for e in entries if e.verdict == v] for v in VERDICTS}
    if groups["wrong"]:
        return _wrong(finding, search, groups["wrong"], disputed is not None)
    if groups["kink"]:
        finding.worst = groups["kink"][0]
        finding.differ = len(groups["kink"])
        return replace(finding, verdict="kink")
    if groups["noisy"] or search.unclear:
        finding.worst = groups["noisy"][0] if groups["noisy"] else search.entry(0)
        finding.differ = len(groups["noisy"]) + search.unclear
        return replace(finding, verdict="noisy")
    if oracle == "complex" and not proven:
        detail = 'the complex step does not hold for f; use oracle="auto"'
        return replace(finding, verdict="noisy", detail=detail)
    if search.zero and not probe.problem.may_be_zero[j]:
        detail = (
            f"no gradient reached {name}, and f does not change with it"
            if g is None
            else f"the gradient of {name} is zero in each entry, and so is the slope of f"
        )
        return replace(finding, verdict="vacuous", detail=detail)
    return finding


def _wrong(
    finding: _Finding, search: _Search, entries: list[_Entry], try_complex: bool
) -> _Finding:
    """Name the worst of the wrong entries, count them, and say what they share."""
    located = {e.i: e.slope.value for e in entries}
    at_least = "at least " if len(entries) >= MOST else ""
    if try_complex and all([search.sharpen(e) for e in entries]):
        counted = _count(search)
        if counted is not None and counted.keys() >= located.keys():
            located, at_least = counted, ""
    worst = max(located, key=lambda i: _distance(search.analytic[i], located[i]))
    finding.worst = next((e for e in entries if e.i == worst), None)
    if finding.worst is None:
        finding.worst = search.entry(worst)
        search.sharpen(finding.worst)
    finding.differ = len(located)
    finding.detail = f"{at_least}{len(located)} differ"
    finding.pattern = _pattern(finding.shape, search.analytic, located, at_least != "")
    return replace(finding, verdict="wrong")


def _count(search: _Search) -> dict[int, float] | None:
    """Return what the complex step says of every entry that is wrong.

    None if the gradient is large, or if real differences contradict it somewhere.
    """
    n = len(search.analytic)
    if n > COUNTED:
        return None
    numeric = np.array([search.complex_entry(i) for i in range(n)])
    margin = 4 * search.doubt + 1e-9 * np.maximum(np.abs(numeric), search.size)
    wrong = np.flatnonzero(~(np.abs(search.analytic - numeric) <= margin))
    for i in search.probe.rng.permutation(wrong)[:4]:
        slope = search.entry(int(i)).slope
        if not abs(slope.value - numeric[i]) <= slope.error + margin[i]:
            return None
    return {int(i): float(numeric[i]) for i in wrong}


def _distance(analytic: float, numeric: float) -> float:
    off = abs(analytic - numeric)
    return off if math.isfinite(off) else math.inf


def _pattern(
    shape: tuple[int, ...], analytic: Array, located: dict[int, float], partial: bool
) -> str:
    """Say what the wrong entries have in common."""
    if len(located) < 2:
        return ""
    where = np.array(list(located))
    numeric = np.array(list(located.values()))
    claimed = analytic[where]
    said = []
    if len(located) == len(analytic):
        said.append("it is all of them")
    else:
        axes = np.array(np.unravel_index(where, shape))
        words = {1: [""], 2: ["row", "column"]}.get(len(shape))
        for k, places in enumerate(axes):
            if len(shape) > 1 and np.all(places == places[0]):
                word = words[k] if words else f"index {places[0]} of axis {k}"
                said.append(f"they share {word}" + (f" {places[0]}" if words else ""))
    if not np.any(claimed):
        said.append("each is 0")
    elif np.all(numeric != 0) and np.all(np.isfinite(claimed)):
        ratio = claimed / numeric
        if np.ptp(ratio) <= 1e-6 * abs(ratio[0]):
            said.append(f"analytic / numeric = {ratio[0]:.7g} in each")
    if len(shape) == 2 and shape[0] == shape[1] and not partial:
        truth = analytic.copy()
        truth[where] = numeric
        if np.allclose(analytic.reshape(shape).T.ravel(), truth, rtol=1e-5):
            said.append("it is the transpose of the right gradient")
    return "; ".join(said)


def _check(
    problem: _Problem,
    rng: int | np.random.Generator,
    oracle: str,
    allow: Sequence[str],
    find_rule: bool = True,
) -> GradientReport:
    """Check all inputs of a problem and write the report."""
    if oracle not in ("auto", "complex", "ridders"):
        raise ValueError(
            f'gradcheck: oracle={oracle!r}; it is "auto", "complex" or "ridders"'
        )
    for verdict in allow:
        if verdict not in VERDICTS:
            raise ValueError(f"gradcheck: allow={verdict!r} is none of {VERDICTS}")
    probe = _Probe(problem, np.random.default_rng(rng))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        findings = _findings(probe, oracle)
        findings.sort(key=lambda f: VERDICTS.index(f.verdict))
        wrong = findings[0].verdict == "wrong"
        rule = problem.blame() if wrong and find_rule else None
    return _report(probe, findings, rule, allow)


def _findings(probe: _Probe, oracle: str) -> list[_Finding]:
    """Look at what makes entries not worth looking at; then at the entries."""
    problem = probe.problem
    whole = _Finding("noisy", "", ())
    if not np.all(np.isfinite(probe.base)):
        at = np.argwhere(~np.isfinite(probe.base))[0]
        text = f"f itself is {probe.base[tuple(at)]} at {_place('its output', at)}"
        return [replace(whole, detail=text)]
    again = np.asarray(problem.value(problem.xs))
    if again.shape != probe.base.shape or _differ(again, probe.base):
        text = f"f gave {_first(probe.base)} and then {_first(again)} for the same inputs"
        return [replace(whole, verdict="nondeterministic", detail=text)]
    try:
        given = problem.gradient(problem.xs, probe.c)
    except _WrongCount as error:
        return [replace(whole, verdict="wrong", detail=str(error))]
    bad = [_misshapen(problem, j, g) for j, g in enumerate(given)]
    if any(bad):
        return [f for f in bad if f is not None]
    gradients = [None if g is None else np.asarray(g, np.float64) for g in given]
    repeated = problem.gradient(problem.xs, probe.c)
    for name, g, h in zip(problem.names, gradients, repeated, strict=True):
        if g is not None and (h is None or _differ(np.asarray(h), g)):
            text = f"the gradient of {name} differs from call to call"
            return [replace(whole, verdict="nondeterministic", name=name, detail=text)]
    probe.measure_rounding(gradients)
    found = [_examine(probe, j, g, oracle) for j, g in enumerate(gradients)]
    if all(f.verdict == "pass" for f in found):
        found += _in_low_precision(probe, gradients)
    return found


def _misshapen(problem: _Problem, j: int, g: Any) -> _Finding | None:
    name, shape = problem.names[j], problem.xs[j].shape
    if g is None or (g.shape == shape and g.dtype.kind in "biuf"):
        return None
    what = f"shape {g.shape}" if g.shape != shape else f"dtype {g.dtype}"
    detail = f"the gradient of {name} has {what}; {name} has shape {shape}"
    return _Finding("wrong", name, shape, detail=detail)


def _differ(a: Array, b: Array) -> bool:
    """Say whether two results of one call differ by more than the order of a sum."""
    largest = np.max(np.abs(b), initial=0.0, where=np.isfinite(b))
    same = (a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= 1e-6 * largest)
    return not bool(np.all(same))


def _first(y: Array) -> str:
    return f"{y.ravel()[0]:.7g}" if y.size else "nothing"


def _in_low_precision(probe: _Probe, gradients: list[Array | None]) -> list[_Finding]:
    """Compare the gradient in the dtype of the inputs with itself in float64.

    What float32 may cost is measured: by what a change of the inputs in their last
    digit does to the gradient.
    """
    problem = probe.problem
    eps = max(float(np.finfo(d).eps) for d in problem.dtypes)
    if eps <= EPS:
        return []
    low = [x.astype(d) for x, d in zip(problem.xs, problem.dtypes, strict=True)]
    found = problem.gradient(low, probe.c)
    sway = [np.zeros(x.shape) for x in problem.xs]
    for _ in range(4):
        *xs, c = (
            x * (1 + eps * probe.rng.choice([-1.0, 1.0], x.shape))
            for x in [*problem.xs, probe.c]
        )
        for j, (g, h) in enumerate(zip(problem.gradient(xs, c), gradients, strict=True)):
            if g is not None and h is not None:
                sway[j] = np.maximum(sway[j], np.abs(g - h))
    findings = []
    for j, (g, h) in enumerate(zip(found, gradients, strict=True)):
        if g is None or h is None:
            continue
        margin = 100 * (sway[j] + eps * (np.abs(h) + np.max(np.abs(h), initial=0.0)))
        off = ~(np.abs(g - h) <= margin)
        if np.any(off):
            at = np.argwhere(off)[0]
            detail = (
                f"at {_place(problem.names[j], at)} the gradient is {g[tuple(at)]:.7g} "
                f"in {g.dtype} and {h[tuple(at)]:.7g} in float64: rounding has eaten it"
            )
            findings.append(_Finding("noisy", problem.names[j], h.shape, detail=detail))
    return findings


# --- The message --------------------------------------------------------------------


def _place(name: str, index: Any) -> str:
    return f"{name}[{', '.join(str(int(i)) for i in index)}]" if len(index) else name


def _report(
    probe: _Probe, findings: list[_Finding], rule: str | None, allow: Sequence[str]
) -> GradientReport:
    """Put the most serious finding into words."""
    f = findings[0]
    ok = f.verdict == "pass" or f.verdict in allow
    if f.verdict == "pass":
        return _passed(probe, findings)
    report = GradientReport(
        f.verdict,
        ok,
        "",
        input=f.name or None,
        entries=math.prod(f.shape),
        differ=f.differ,
        pattern=f.pattern or None,
        rule=rule,
        calls=probe.calls,
    )
    head, lines = f.detail, []
    if f.worst is not None:
        # Of a single number the cotangent is only a factor: report d f, not d (c f).
        unit = float(probe.c.ravel()[0]) if probe.label == "f" else 1.0
        entry, s = f.worst, f.worst.slope
        index = tuple(int(i) for i in np.unravel_index(entry.i, f.shape))
        report = replace(
            report,
            index=index,
            analytic=entry.analytic / unit,
            numeric=s.value / unit,
            error=s.error / abs(unit),
            oracle=entry.oracle,
        )
        head = f"d {probe.label}/d {_place(f.name, index)}"
        a, n = _digits(entry.analytic / unit, s.value / unit)
        lines = [f"analytic   {a}"]
        if s.kind:
            lines.append(f"one-sided  {s.left / unit:.7g} and {s.right / unit:.7g}")
        else:
            lines.append(f"numeric    {n}  ({entry.oracle}, error < {report.error:.0e})")
        lines.append(_explanation(f, probe))
    lines += [f"rule: {rule}"] if rule else []
    lines += [f"also wrong: {g.name}, {g.detail}" for g in findings[1:] if g.verdict == "wrong"]
    head = f"gradcheck: {f.verdict.upper()}  {head}"
    return replace(report, message="\n  ".join([head, *lines]))


def _passed(probe: _Probe, findings: list[_Finding]) -> GradientReport:
    entries = sum(math.prod(f.shape) for f in findings)
    oracle = RIDDERS if any(f.oracle == RIDDERS for f in findings) else COMPLEX
    error = max(f.error for f in findings)
    names = ", ".join(f.name for f in findings)
    message = f"gradcheck: pass  d {probe.label}/d ({names}), {entries} entries ({oracle})"
    return GradientReport(
        "pass",
        True,
        message,
        error=error,
        oracle=oracle,
        entries=entries,
        calls=probe.calls,
    )


def _digits(a: float, b: float) -> tuple[str, str]:
    """Write two numbers with as many digits as show their difference."""
    if not (math.isfinite(a) and math.isfinite(b)) or a == b:
        return f"{a:.7g}", f"{b:.7g}"
    apart = abs(a - b) / max(abs(a), abs(b))
    digits = min(16, max(7, 3 - math.floor(math.log10(apart))))
    return f"{a:.{digits}g}", f"{b:.{digits}g}"


def _explanation(f: _Finding, probe: _Probe) -> str:
    """Return the line that says of how many entries this is the worst."""
    entries = math.prod(f.shape)
    worst = f.worst
    assert worst is not None
    if f.verdict == "wrong":
        text = f"worst of {entries} entries; {f.detail}" if entries > 1 else "the only entry"
        kink = "; f has a kink here" if worst.slope.kind else ""
        return text + (f"; {f.pattern}" if f.pattern else "") + kink
    if f.verdict == "kink":
        what = {
            "kink": "f has no derivative here: its two sides have different slopes",
            "jump": "f has no derivative here: it jumps, or its slope is infinite",
            "edge": "f is defined on one side of this point only",
        }[worst.slope.kind]
        return f"{what} ({f.differ} of {entries} entries); move the point"
    why = f"; f raised {probe.why}" if probe.why and math.isnan(worst.slope.value) else ""
    return (
        f"{f.differ} of {entries} entries cannot be told: f is only accurate to "
        f"{probe.noise:.0e}{why}"
    )


# --- The interface ------------------------------------------------------------------


def _problem(f: Any, inputs: Any, order: int) -> _Problem:
    if order not in (1, 2):
        raise ValueError(f"gradcheck: order={order!r}; it is 1 or 2")
    if isinstance(f, (tuple, list)):
        if len(f) != 2 or not all(map(callable, f)):
            raise TypeError("gradcheck: a pair is (f, gradient), two functions")
        if order == 2:
            raise ValueError(
                "gradcheck: order=2 needs a function of Tensors; of a pair, check the "
                "gradient itself as a function: (gradient, its vjp)"
            )
        return _Pair(f[0], f[1], inputs)
    if not callable(f):
        raise TypeError("gradcheck: f is a function of Tensors, or a pair of functions")
    return _Recorded(f, inputs)


def gradcheck(
    f: Any,
    inputs: Any,
    order: int = 1,
    rng: int | np.random.Generator = 0,
    oracle: str = "auto",
    allow: Sequence[str] = (),
) -> GradientReport:
    problem = _problem(f, inputs, order)
    report = _check(problem, rng, oracle, allow)
    if order == 2 and isinstance(problem, _Recorded):
        if report.verdict in ("pass", "vacuous"):
            return _check(_Second(problem), rng, oracle, allow)
    return report


def assert_gradients(
    f: Any,
    inputs: Any,
    order: int = 1,
    rng: int | np.random.Generator = 0,
    oracle: str = "auto",
    allow: Sequence[str] = (),
) -> None:
    report = gradcheck(f, inputs, order, rng, oracle, allow)
    if not report.ok:
        raise GradientError(report)
