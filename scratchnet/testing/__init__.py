"""Check a gradient against differences of the function, and name what is wrong.

    gradcheck(f, inputs)                  # f of Tensors: the engine's gradient
    gradcheck((f, gradient), inputs)      # plain NumPy: one that you derived by hand

    gradcheck: WRONG  d f/d W[17, 3]
      analytic   0.4181093
      numeric    0.4139700  (complex step, error < 2e-13)
      worst of 784 entries; 12 differ; they share row 17
      rule: np.multiply, argument 1

How it works. A random cotangent c makes a number of f: phi(x) = sum(c * f(x)). Along a
direction d the gradient a claims the slope a . d, and an *oracle*, which sees only
values of f, measures it:

- real differences (phi(x + td) - phi(x - td)) / 2t, extrapolated to t = 0 (Ridders
  1982). They hold for any function, and are good to about 1e-10;
- the complex step, Im phi(x + ihd) / h (Squire & Trapp 1998), good to about 1e-13
  because nothing is subtracted. It holds for analytic functions only, and is silently
  wrong for others (np.abs, np.var, a cast); so it is believed only of an input along
  which real differences agree with the gradient that it confirms.

One direction checks many entries: a single wrong one shows in the slope if what it
adds is above the oracle's error. Where it would not show, the entries are split into
blocks of like magnitude, down to single ones; where the slopes differ, down to the
entry at fault. Nothing is called wrong on the word of a block or of the complex step:
only real differences along the very entry decide.

Where f is only accurate to float32, small steps are all rounding, and wide ones cross
kinks nearby. The bound then includes what the two sides show of a kink, and many values
are fitted with at most one kink anywhere; what stays unknown is called noisy.

A wrong gradient is compared with what typical mistakes would make of the right one (see
MISTAKES). A hint is given only if undoing the mistake gives a gradient that passes.

No tolerance is a constant. It is the oracle's error bound and the rounding of f and of
the gradient, all measured (see `_Probe.measure_rounding`).
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from scratchnet import checks
from scratchnet.backend import Array
from scratchnet.tensor import (
    Tensor,
    _backpropagate,
    _recording_set_to,
    _RuleEach,
    _steps_back,
    name_of,
    no_grad,
    plain,
)

EPS = 2.0**-52  # the spacing of float64 at 1
AIM = 1e-4  # a relative error of this size in any one entry is to be seen
PROOF = 1e-2  # the same for the real differences that stand behind a complex step
LIMIT = 5e-3  # an entry that could be off by more than this is not known: noisy
FLOOR = 1e-6  # entries below this part of the largest need not be known so well
FLOAT32 = 1e-6  # what f may owe to float32 inside it: no ground to call it wrong
START = 1 / 8  # the first step, in units of the entries' size
TINY = 1e-15  # and the last
TINIEST = float(np.finfo(float).tiny)
STEP = 1e-100  # the complex step
NEARBY = 5e-5  # a kink that is nearer cannot be told from one at the very point
ALONE = 8  # up to so many entries, each is checked by itself
SPLIT = 8  # into how many blocks a block is split
SURE = 4  # so many wrong entries are looked at closely, before it is only to count them
MOST = 64  # so many wrong entries are located; a trusted complex step counts the rest
COUNTED = 4096  # ... in gradients of up to this size
BUDGET = 50_000  # evaluations of f for one input, after which the rest is left
SECONDS = 3.0  # what f may take, twice, where some entries cannot be told in any case
NODES = 300  # calls in a graph that are searched for a wrong rule

COMPLEX, RIDDERS = "complex step", "Ridders"
COTANGENT = "its cotangent"
VERDICTS = ("nondeterministic", "wrong", "kink", "noisy", "vacuous", "pass")
Function = Callable[..., Any]
Rng = int | np.random.Generator


# --- What comes out -----------------------------------------------------------------


@dataclass(frozen=True)
class GradientReport:
    """What a check found. `str(report)` is the message, `bool(report)` is `ok`.

    Attributes:
        verdict: "pass"; "wrong"; "kink" (f has no derivative there: the slopes of its
            two sides stay apart however small the step); "noisy" (f is not accurate
            enough to tell); "nondeterministic" (two calls differ); "vacuous" (the
            gradient of an input is zero, and so is the slope: nothing was checked).
        ok: the verdict is "pass", or one that the caller allowed.
        message: the report in words.
        input: the name of the input in question.
        index: the worst entry in it.
        analytic: the gradient under test at that entry.
        numeric: what the oracle measured there.
        error: a bound on the error of `numeric`.
        oracle: "complex step" or "Ridders".
        entries: how many entries were checked (if not "pass": of that input).
        differ: how many of them have this verdict (of a large input, at least).
        pattern: what the wrong entries have in common, if anything, in words.
        mistake: the name of the kind of mistake, if it is one of those that are known:
            what `pattern` says of it then makes the right gradient of the wrong one.
        rule: the function of the graph whose own rule is wrong, and its argument.
        blind: of a pass, the relative error of one entry (not below 1e-6 of the
            largest) that might not have been seen.
        cotangent: c, if `analytic` and `numeric` belong to sum(c * f).
        exception: what the gradient raised.
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
    mistake: str | None = None
    rule: str | None = None
    blind: float | None = None
    cotangent: Array | None = field(default=None, repr=False, compare=False)
    exception: Exception | None = field(default=None, repr=False, compare=False)
    calls: int = 0

    def __str__(self) -> str:
        """Return the message."""
        return self.message

    def __bool__(self) -> bool:
        """Return `ok`."""
        return self.ok


class GradientError(AssertionError):
    """Raised by `assert_gradients` and `assert_detects`; `.report` says it all."""

    def __init__(self, message: str, report: GradientReport) -> None:
        """Keep the report beside the message."""
        super().__init__(message)
        self.report = report


# --- What is checked ----------------------------------------------------------------


class _Problem:
    """A function and its gradient, both of a list `xs` of float64 arrays.

    `value(xs)` is an array; `gradient(xs, c)` is, for each x, the array
    d sum(c * value)/dx, or None if no gradient reached it.
    """

    label = "sum(c * f)"
    alone = ALONE

    def __init__(self, f: Function, inputs: Any) -> None:
        """Take the inputs: the floating ones are differentiated, in float64."""
        several = hasattr(inputs, "__iter__") and not isinstance(
            inputs, (np.ndarray, np.generic, Tensor)
        )
        self.f = f
        self.inputs = list(inputs) if several else [inputs]
        names = _names(f, self.inputs)
        for name, x in zip(names, self.inputs, strict=True):
            _refuse_mask(x, name)
        self.constants = [np.asarray(plain(x)) for x in self.inputs]
        for name, x in zip(names, self.constants, strict=True):
            if x.dtype.kind not in "biuf":
                raise TypeError(f"gradcheck: {name} is {x.dtype}; inputs must be real")
        self.places = [
            i
            for i, x in enumerate(self.constants)
            if x.dtype.kind == "f" and getattr(self.inputs[i], "requires_grad", True)
        ]
        if not self.places:
            raise TypeError(
                "gradcheck: no input can be differentiated; "
                "pass at least one floating array (np.asarray(x, float))"
            )
        self.names = [names[i] for i in self.places]
        self.xs = [self.constants[i].astype(np.float64) for i in self.places]
        self.dtypes = [self.constants[i].dtype for i in self.places]
        self.may_be_zero = [False] * len(self.xs)

    def value(self, xs: list[Array]) -> Array:
        raise NotImplementedError  # each subclass has its own

    def gradient(self, xs: list[Array], c: Array) -> list[Any]:
        raise NotImplementedError  # each subclass has its own

    def blame(self) -> str | None:
        """Name the function in the graph whose own rule is wrong."""
        return None


def _names(f: Function, inputs: list[Any]) -> list[str]:
    """Name each input by its Tensor's name, else as f names it, else by position."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # a built-in
        parameters = []
    names = [p.name for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD]
    rest = [p.name for p in parameters if p.kind == p.VAR_POSITIONAL]
    first = len(names)
    for i in range(first, len(inputs)):
        names.append(f"{rest[0]}[{i - first}]" if rest else f"input {i}")
    given = [x.name if isinstance(x, Tensor) else None for x in inputs]
    return [name or other for name, other in zip(given, names, strict=False)]


class _Masked(TypeError):
    """A masked array was given, or returned."""


def _refuse_mask(x: Any, what: str) -> None:
    """Raise TypeError for a masked array of which entries are masked."""
    try:
        checks.plain_array("gradcheck", what, plain(x))
    except TypeError as error:
        raise _Masked(str(error)) from None


def _array(y: Any) -> Array:
    """Return what f returned as an array of floats (complex, along a complex step)."""
    _refuse_mask(y, "what f returned")
    y = plain(y)
    if not isinstance(y, (tuple, list)) and np.asarray(y).dtype.kind in "fc":
        return np.array(y)
    kind = getattr(y, "dtype", type(y).__name__)
    raise TypeError(f"gradcheck: f returned {kind}; it must return one array of floats")


class _Pair(_Problem):
    """Two functions of plain arrays: f, and its gradient or its vjp."""

    def __init__(self, f: Function, gradient: Function, inputs: Any) -> None:
        super().__init__(f, inputs)
        self.derivative = gradient
        n, shape = len(self.inputs), self.value(self.xs).shape
        self.plain = shape == () and _takes(gradient, n)
        if not self.plain and not _takes(gradient, n + 1):
            raise TypeError(
                f"gradcheck: f takes {n} inputs and returns shape {shape}, so the "
                "second of the pair must be "
                + ("gradient(*inputs)" if shape == () else "")
                + ("" if shape == () else "vjp(g, *inputs), g = dL/df of that shape")
            )

    def _arguments(self, xs: list[Array]) -> list[Array]:
        args = [x.copy() for x in self.constants]  # f may write into what it is given
        for i, x in zip(self.places, xs, strict=True):
            args[i] = x.copy()
        return args

    def value(self, xs: list[Array]) -> Array:
        return _array(self.f(*self._arguments(xs)))

    def gradient(self, xs: list[Array], c: Array) -> list[Any]:
        args = self._arguments(xs)
        args_c = args if self.plain else [c.copy(), *args]
        found = self.derivative(*args_c)
        several = isinstance(found, (tuple, list))
        found = list(found) if several else [found]
        if len(found) == len(args):
            found = [found[i] for i in self.places]
        if len(found) != len(xs):
            raise ValueError(f"{len(found)} gradients returned for {len(xs)} inputs")
        for name, g in zip(self.names, found, strict=True):
            _refuse_mask(g, f"the gradient of {name}")
        found = [None if g is None else np.array(plain(g)) for g in found]
        return [g if g is None or not self.plain else g * float(c) for g in found]


def _takes(f: Function, n: int) -> bool:
    try:
        inspect.signature(f).bind(*[None] * n)
    except ValueError:  # a built-in, which has no signature: the call itself will tell
        return True
    except TypeError:
        return False
    return True


class _Recorded(_Problem):
    """A function of Tensors, with the engine's gradient.

    Arrays are given to f as new Tensors. An input that is a Tensor itself (a parameter
    of a model, which f may reach without being given it) stays the same object: its
    values are exchanged during a call, and put back.
    """

    def __init__(self, f: Function, inputs: Any) -> None:
        super().__init__(f, inputs)
        tensors = [x for x in self.inputs if isinstance(x, Tensor)]
        if len(set(tensors)) < len(tensors):
            raise ValueError("gradcheck: one Tensor is given twice as an input")

    @contextlib.contextmanager
    def call(self, xs: list[Array], record: bool) -> Iterator[tuple[Any, list[Tensor]]]:
        """Yield f's result at `xs` and the Tensors that it was computed from."""
        values = list(self.constants)
        for i, x in zip(self.places, xs, strict=True):
            values[i] = x
        lent = [(x, x._array) for x in self.inputs if isinstance(x, Tensor)]
        args: list[Tensor] = []
        try:
            for i, x in enumerate(self.inputs):
                if isinstance(x, Tensor):
                    # Not by `.data =`, which would make the caller's graphs stale.
                    x._array = np.array(values[i])
                    args.append(x)
                else:
                    wanted = record and i in self.places
                    args.append(Tensor(np.array(values[i]), requires_grad=wanted))
            with _recording_set_to(True) if record else no_grad():
                yield self.f(*args), [args[i] for i in self.places]
        finally:
            for x, data in lent:
                x._array = data

    def value(self, xs: list[Array]) -> Array:
        with self.call(xs, record=False) as (y, _):
            return _array(y)

    def gradient(self, xs: list[Array], c: Array) -> list[Any]:
        with self.call(xs, record=True) as (y, variables):
            return [g if g is None else np.array(g) for g in _vjp(y, c, variables)]

    def blame(self, order: Callable[[_Recorded], _Problem] | None = None) -> str | None:
        with self.call(self.xs, record=True) as (y, _):
            steps = _steps_back(y, set())[0] if isinstance(y, Tensor) else []
            nodes = [node for _, node, _ in steps[:NODES]]
            alone = [(_alone(n), [x.data.copy() for _, x in n.inputs()]) for n in nodes]
        for node, (function, arrays) in zip(nodes, alone, strict=True):
            single = _Recorded(function, arrays)
            problem = order(single) if order else single
            report = _check(problem, 0, find_rule=False)
            if report.verdict == "wrong":
                name = name_of(node.function)
                if report.input not in single.names:
                    return name
                place, _ = node.inputs()[single.names.index(report.input)]
                return f"{name}, argument {place}"
        return "each function is right by itself; is a link cut (.data, detach)?"


def _vjp(y: Any, c: Any, variables: list[Tensor], keep: bool = False) -> list[Any]:
    """Return d sum(c * y)/dx for each variable, leaving every `.grad` as it is.

    If the cotangent `c` is a Tensor, so are the gradients.
    """
    if not isinstance(y, Tensor) or not y.requires_grad:
        return [None] * len(variables)
    wanted = set(variables)
    again = isinstance(c, Tensor)
    start = c if again else np.array(c, dtype=y.dtype)
    steps, _ = _steps_back(y, wanted)
    found = _backpropagate(
        y, start, steps, create_graph=again, retain_graph=again or keep
    )
    return [found.get(x) for x in variables]


def _alone(node: Any) -> Function:
    """Make a function of its differentiated inputs from one recorded call."""
    given, kwargs, inputs = node.args, node.kwargs, list(node.row.inputs(node.args))
    places = [i for i, _ in node.inputs()]

    def function(*variables: Any) -> Any:
        args = list(inputs)
        for i, x in zip(places, variables, strict=True):
            args[i] = x
        if isinstance(node.row, _RuleEach):
            return node.function(tuple(args), *given[1:], **kwargs)
        return node.function(*args, *given[len(args) :], **kwargs)

    return function


class _Second(_Problem):
    """The gradient as a function: (xs, cotangent) -> d sum(c * f)/dx, all in one row.

    Its own gradient is the engine's, through the recorded walk. The cotangent is an
    input too: for a linear f it is the only one that the gradient depends on.
    """

    label = "sum(c * gradient of f)"
    alone = 1  # each value is a backward pass

    def __init__(self, first: _Recorded) -> None:
        c = _signs(np.random.default_rng(1), first.value(first.xs).shape)
        self.first = first
        self.xs = [*first.xs, c]
        self.names = [*first.names, COTANGENT]
        self.dtypes = [x.dtype for x in self.xs]
        self.may_be_zero = [True] * len(first.xs) + [False]

    def value(self, xs: list[Array]) -> Array:
        return _flat(self.first.gradient(xs[:-1], xs[-1]), xs[:-1])

    def gradient(self, xs: list[Array], c: Array) -> list[Any]:
        total: list[Any] = [None] * len(xs)
        with self.first.call(xs[:-1], record=True) as (y, variables):
            seed = Tensor(xs[-1].copy(), requires_grad=True)
            first = _vjp(y, seed, variables)
            parts = np.split(c, np.cumsum([x.size for x in xs[:-1]])[:-1])
            for g, x, part in zip(first, xs, parts, strict=False):
                found = _vjp(g, part.reshape(x.shape), [*variables, seed], keep=True)
                for i, dx in enumerate(found):
                    if dx is not None:
                        total[i] = dx if total[i] is None else total[i] + dx
        return total

    def blame(self) -> str | None:
        return self.first.blame(_Second)


def _flat(gradients: list[Any], xs: list[Array]) -> Array:
    """Return the gradients in one row, zeros for those that are missing."""
    parts = [
        np.zeros(x.size) if g is None else np.ravel(g)
        for g, x in zip(gradients, xs, strict=True)
    ]
    return np.concatenate(parts)


def _signs(rng: np.random.Generator, shape: Any) -> Array:
    """Return random weights of either sign, of like size but never equal."""
    return rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)


# --- Oracles ------------------------------------------------------------------------


@dataclass
class _Slope:
    """A measured slope along a direction, with a bound on its error.

    `kind` is "" if all is well; "broken" along a block that met a kink or did not
    settle; and along a single entry "kink", "jump" (the slopes of the two sides grow
    without bound) or "edge" (f is defined on one side only), with the two slopes; or
    "stairs" (f is flat but for jumps).
    """

    value: float = math.nan
    error: float = math.inf
    step: float = 0.0
    kind: str = ""
    left: float = math.nan
    right: float = math.nan


class _Probe:
    """A problem, a cotangent for it, and what was measured at its inputs."""

    def __init__(self, problem: _Problem, rng: np.random.Generator) -> None:
        self.problem = problem
        self.rng = rng
        self.calls = 0
        self.affordable = math.inf  # evaluations of f that take SECONDS
        self.why = ""  # what f raised at a point nearby
        self.base = problem.value(problem.xs)
        if self.base.dtype.kind != "f":
            raise TypeError(f"gradcheck: f returned {self.base.dtype}; it must be real")
        self.base = self.base.astype(np.float64)
        self.c = _signs(rng, self.base.shape)  # never 0: each output has a part
        # Of a single number the cotangent is only a factor: report d f, not d (c f).
        self.number = self.base.size == 1 and not isinstance(problem, _Second)
        self.unit = float(self.c.ravel()[0]) if self.number else 1.0
        self.label = "f" if self.number else problem.label
        # Steps are in proportion to an entry, or to its neighbours if it is small.
        self.scale = [
            np.maximum(np.abs(x), 0.5 * np.abs(x).sum() / max(x.size, 1) or 1.0).ravel()
            for x in problem.xs
        ]

    def _value(self, j: int, step: Array) -> Array | None:
        """Return f with input j moved by a step, None outside f's domain."""
        xs = list(self.problem.xs)
        xs[j] = xs[j] + step.reshape(xs[j].shape)
        self.calls += 1
        try:
            y = self.problem.value(xs)
        except Exception as error:  # f(x) did not raise, so this is about the step
            if step.dtype.kind == "f":
                self.why = f"{type(error).__name__}: {error}"
            return None
        return y if y.shape == self.base.shape else None

    def change(self, j: int, step: Array, moved: Array) -> float:
        """Return phi(x + step) - phi(x) for a step in input j, NaN outside f's domain.

        Note in `moved` the outputs that changed. The outputs are subtracted before they
        are summed, so that the others add no rounding.
        """
        y = self._value(j, step)
        if y is None:
            return math.nan
        change = y - self.base
        moved |= change != 0
        return float(np.vdot(self.c, change))

    def imaginary(self, j: int, d: Array) -> float:
        """Return the complex step's slope, NaN where f takes no complex numbers."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy warns when it drops Im
            y = self._value(j, 1j * STEP * d)
        return math.nan if y is None else float(np.vdot(self.c, np.imag(y))) / STEP

    def measure_rounding(self, gradient: list[Any] | None) -> None:
        """Measure how rounding blurs f (`blur`) and each gradient (`rounding`).

        A gradient of None is one that does not fit the inputs.
        """

        def terms(xs: list[Array], c: Array) -> Array:
            weighted = (self.c * self.problem.value(xs)).ravel()
            return np.append(weighted, weighted.sum())

        def gradients(xs: list[Array], c: Array) -> Array:
            return _flat(self.problem.gradient(xs, c), xs)

        blur = self._roughness(terms)
        # That of each output; and by how much more, being related, they blur the sum.
        self.blur = 4 * blur[:-1] + EPS / 2 * np.abs(self.c * self.base).ravel()
        self.blur = self.blur.reshape(self.base.shape)
        self.spread = max(1.0, float(4 * blur[-1]) / (_length(self.blur) or 1.0))
        self.noise = self.noise_of(np.ones(self.base.shape, dtype=bool))
        if gradient is None:
            self.rounding = [np.full(x.size, self.noise) for x in self.problem.xs]
            return
        blur = self._roughness(gradients)
        ends = np.cumsum([x.size for x in self.problem.xs])[:-1]
        whole = _finite_size(_flat(gradient, self.problem.xs))
        parts = zip(np.split(blur, ends), np.split(whole, ends), gradient, strict=True)
        self.rounding = [
            8 * part + 4 * _eps_of(g) * (size + np.max(size, initial=0.0))
            for part, size, g in parts
        ]

    def measure_time(self) -> None:
        """Measure how many evaluations of f are `affordable`."""
        j = int(np.argmax([x.size for x in self.problem.xs]))
        start = time.perf_counter()
        for _ in range(4):
            self.change(j, 1e-6 * self.scale[j], np.zeros(self.base.shape, bool))
        self.affordable = 4 * SECONDS / (time.perf_counter() - start)

    def noise_of(self, moved: Array) -> float:
        """Bound the rounding of the sum over some of the outputs; of all if of none."""
        return self.spread * _length(self.blur[moved] if np.any(moved) else self.blur)

    def _roughness(self, f: Function) -> Array:
        """Estimate the rounding error of each element of f(xs, c).

        Along a tiny segment a smooth function is a cubic but for less than rounding:
        what a fitted cubic leaves is rounding (compare Hamming 1973; Moré and Wild
        2011). The steps are a few spacings of float32, so that float32 arithmetic
        inside f shows too. A kink inside the segment looks like noise; so where there
        is much of it, the quietest of several segments counts, also one of far smaller
        steps if it has the same slope (on the staircase that float32 makes of a
        function, it has not). If nothing moves at all, there may be a coarser
        staircase: the first larger steps that climb it show its height.
        """
        quiet, slope = self._segment(f, 0.0, 1.5e-6)
        largest = np.max(np.abs(f(self.problem.xs, self.c)), initial=0.0)
        if not (np.any(slope) or np.any(quiet)):
            for length in (5e-5, 5e-4, 5e-3):
                if not np.any(quiet):
                    _, slope = self._segment(f, 0.0, length)
                    quiet = np.abs(slope) * length / 2
        elif not np.all(quiet <= 100 * EPS * largest):
            for shift in (3e-5, -5e-5):
                quiet = np.fmin(quiet, self._segment(f, shift, 1.5e-6)[0])
            near, steep = self._segment(f, 0.0, 5e-9)
            alike = np.abs(steep - slope) <= 0.1 * np.abs(slope) + near / 1e-9
            alike &= slope != 0.0  # a stair is flat over either length
            quiet = np.fmin(quiet, np.where(alike, near, np.inf))
        return np.asarray(np.where(np.isfinite(quiet), quiet, 0.0))

    def _segment(self, f: Function, shift: float, length: float) -> tuple[Array, Array]:
        """Return how rough each element of f is along a segment, and how steep."""
        rng = np.random.default_rng(7)  # the same direction for each segment
        point = [*self.problem.xs, self.c]
        sides = [x * rng.uniform(0.5, 1, x.shape) for x in point]
        # Not at equal distances, which may fit the spacing of rounded values.
        places = np.array([-1, -0.83, -0.61, -0.42, -0.17, 0, 0.21, 0.38, 0.67, 0.8, 1])
        samples = []
        for t in shift + length * places:
            self.calls += 1
            *xs, c = (x + t * d for x, d in zip(point, sides, strict=True))
            try:
                samples.append(f(xs, c))
            except Exception:  # outside the domain: this segment tells nothing
                samples.append(np.nan * f(self.problem.xs, self.c))
        moves = np.array(samples) - samples[5]
        cubics, _ = np.linalg.qr(np.vander(places, 4))
        rest = moves - cubics @ (cubics.T @ moves)
        rough = np.sqrt(np.sum(rest * rest, axis=0) / (len(places) - 4))
        return rough, (moves[-1] - moves[0]) / (2 * length)


def _eps_of(g: Array | None) -> float:
    """Return the spacing at 1 of the dtype of a gradient, which may be float32."""
    if g is None or g.dtype.kind != "f":
        return EPS
    return max(EPS, float(np.finfo(g.dtype).eps))


def _length(v: Array) -> float:
    """Return sqrt(sum(v * v)), without overflow."""
    largest = float(np.max(np.abs(v), initial=0.0))
    return largest and largest * float(np.linalg.norm((v / largest).ravel()))


def _finite_size(g: Array) -> Array:
    return np.where(np.isfinite(g), np.abs(g), 0.0)


class _Line:
    """Slopes of phi along a direction d in input j, by real differences.

    `unit` is the size of a step t along d that changes the entries by about their own;
    a slope below `least` is as good as zero, for the kinks that may hide in it.
    """

    def __init__(
        self, probe: _Probe, j: int, d: Array, unit: float, least: float = 0.0
    ) -> None:
        self.probe = probe
        self.j = j
        self.d = d
        self.unit = unit
        self.least = least
        self.moved = np.zeros(probe.base.shape, dtype=bool)

    def sides(self, t: float) -> tuple[float, float, float]:
        """Return the slopes over the steps -t and t, and what rounding does to them."""
        left = -self.probe.change(self.j, -t * self.d, self.moved) / t
        right = self.probe.change(self.j, t * self.d, self.moved) / t
        steepest = max(abs(v) if math.isfinite(v) else 0.0 for v in (left, right))
        # f is rounded, and so is x + td.
        noise = self.probe.noise_of(self.moved) + 2 * EPS * self.unit * steepest
        return left, right, noise / t

    def slope(self, target: float, depth: int, start: float = 0.0) -> _Slope:
        """Measure the slope, to within `target` where that is possible.

        Ridders (1982): the error of a central difference over t is a series in even
        powers of t, of which Neville's scheme removes one more with each t/2; the
        change that each step makes estimates the error left. Two things are added.
        A result that disagrees with one of smaller steps has met something that is not
        at x, such as a kink nearby, and is forgotten. And it must hold at `depth` far
        smaller steps, where the two sides must agree: at a kink they stay apart. Where
        noise hides those steps, the error includes what a kink may have added.
        """
        best, bend = _Slope(), 0.0
        rows: list[list[float]] = []
        gaps: list[float] = []
        t = start or START * self.unit
        last = (TINY if depth > 1 else 1e-5) * self.unit  # split blocks early
        while t > last:
            left, right, noise = self.sides(t)
            middle = (left + right) / 2
            if not math.isfinite(middle):  # outside the domain of f
                best, rows, gaps, t = _Slope(), [], [], t / 8
                continue
            rows.append(_extrapolate(middle, rows[-1] if rows else []))
            gaps.append(right - left)
            if len(rows) > 2:
                new = _steadiest(rows[-1], rows[-2], noise, t)
                seen = LIMIT * max(abs(new.value), self.least) + new.error + target
                if 256 * noise > seen:
                    new.error += _unseen_kink(gaps)
                move, before = (abs(rows[k][0] - rows[k - 1][0]) for k in (-1, -2))
                settling = move <= 0.75 * before + 2 * noise
                disagrees = abs(new.value - best.value) > new.error + best.error
                if settling and (disagrees or new.error < best.error):
                    best, bend = new, abs(middle - new.value)
                elif disagrees:
                    best = _Slope()
            if best.error <= target or noise > best.error:
                s = self._broken_at(best, t, bend, abs(right - left), target, depth)
                if s is None:
                    return best
                if s == 0.0:
                    break
                best, rows, gaps, t = _Slope(), [], [], 2 * s
            t /= 2
        return self._at_kink(best) if depth > 1 else replace(best, kind="broken")

    def _broken_at(
        self, best: _Slope, t: float, bend: float, gap: float, target: float, depth: int
    ) -> float | None:
        """Return the far smaller step at which `best`, found at t, fails; 0 at a kink.

        `bend` and `gap` are the error of the plain central difference at t, and the
        difference of its two sides. On a smooth function both are smaller here.
        """
        s = t
        for k in range(depth):
            s /= 256
            left, right, noise = self.sides(s)
            off = abs((left + right) / 2 - best.value)
            if k > 0 and noise > 0.05 * abs(best.value) + best.error:
                break  # rounding would hide anything
            if off > best.error + noise + bend / 64:
                return s
            if abs(right - left) > 0.5 * gap + 4 * noise + max(target, best.error):
                return 0.0
        return None

    def _at_kink(self, best: _Slope) -> _Slope:
        """Return `best` with the slopes of the two sides, if they stay apart."""
        seen: list[tuple[float, float, float, float]] = []
        t = START * self.unit
        while t > TINY * self.unit:
            left, right, noise = self.sides(t)
            gap = abs(right - left)
            if math.isfinite(left) != math.isfinite(right):
                gap = math.inf
            elif seen and gap + noise < 0.5 * seen[-1][0] and noise < seen[-1][0] / 8:
                seen = []  # they come together
            if not noise < gap / 8:
                break
            seen.append((gap, left + 0.0, right + 0.0, noise))
            t /= 16
        if len(seen) < 3:
            return best
        (first, *old, _), (_, left, right, noise), (last, *_) = seen[-3:]
        error = noise + max(abs(left - old[0]), abs(right - old[1]))
        kind = "jump" if last > 2 * first else "kink"
        kind = "edge" if last == math.inf else kind
        if kind == "kink" and error > last / 2:  # the sides are not settled
            return best
        if kind != "edge" and 16 * t > NEARBY * self.unit:  # it may be beside x
            return _Slope((left + right) / 2, last + noise, 16 * t)
        return replace(best, error=error, kind=kind, left=left, right=right)

    def _on_stairs(self, claimed: float) -> bool:
        """Say whether f has the claimed slope over large steps, and none over small.

        Computing in float32, or rounding, makes a staircase of a smooth function. It
        is flat almost everywhere, but that is not what its gradient is meant to be.
        """
        t = self.unit
        in_a_row = most = 0
        while t > TINY * self.unit:
            left, right, noise = self.sides(t)
            if left == right == 0.0:
                return most > 1 and noise < abs(claimed) / 8
            steep = abs((left + right) / 2 - claimed) < 0.2 * abs(claimed)
            in_a_row = in_a_row + 1 if steep else 0
            most = max(most, in_a_row)
            t /= 2
        return False

    def closer(self, best: _Slope, enough: float) -> _Slope:
        """Return the slope to within `enough`, if the fit of many values gives that.

        The more values, the smaller the step that their rounding allows, and the
        fewer kinks are near enough to matter.
        """
        noise = self.probe.noise_of(self.moved)
        for n in (64, 256, 1024):
            step = min(START * self.unit, 4 * noise / enough * (64 / n) ** 0.25)
            hopeless = 4 * noise / (step * math.sqrt(n)) > enough
            if hopeless or n > self.probe.affordable / 3:
                continue
            fitted = self._fit(step, n)
            best = fitted if fitted.error < best.error else best
            if best.error <= enough:
                break
        return best

    def certain(self, best: _Slope, claimed: float) -> _Slope:
        """Return the slope, its error no smaller than what is beyond doubt.

        That it is not the claimed one has to show at far smaller steps too, down to
        where rounding hides it, and must not shrink with them: near a kink that is too
        close to be seen, slopes drift to the right one as the steps shrink. Where no
        step is small enough, fits of many values may tell.
        """
        off = abs(best.value - claimed)
        if not math.isfinite(off):
            return best
        at_kink = self._at_kink(best)
        if at_kink.kind:
            return at_kink
        if self._on_stairs(claimed):
            return replace(best, kind="stairs", error=max(best.error, 1.01 * off))
        if off <= 0.02 * abs(claimed):
            near = self.slope(0.0, depth=6, start=best.step / 16)
            if near.error <= off / 4 and abs(near.value - best.value) <= off / 4:
                return best

        def steady(old: float, new: float, error: float, drift: float) -> bool:
            drift = min(drift, 0.15 * max(abs(old), abs(new)))
            if old == new == 0.0:
                return True
            return error <= drift and abs(new - old) <= error + drift

        shown, before, t = 0, best.value, best.step / 16
        while t > TINY * self.unit:
            left, right, noise = self.sides(t)
            middle = (left + right) / 2
            if not noise <= min(off, abs(middle) or off) / 64:
                break
            shown = shown + 1 if steady(before, middle, 2 * noise, off / 32) else 0
            before = middle
            t /= 4
        if shown > 1 and abs(before - best.value) < off / 2:
            return best
        # Fits over different steps must both say so; or slopes, by far.
        seen = [self.closer(_Slope(), off / part) for part in (3, 6)]
        if not all(math.isfinite(s.value) for s in seen):
            other = self.slope(0.0, depth=6, start=0.7 * START * self.unit)
            seen = [replace(s, error=4 * s.error) for s in (best, other)]
        if all(abs(s.value - claimed) > 2 * s.error for s in seen):
            return seen[-1]
        return replace(best, error=max(best.error, 1.01 * off))

    def _fit(self, step: float, n: int) -> _Slope:
        """Fit n values up to `step` on either side: their rounding averages out.

        The model is a polynomial with at most one kink, at any place and of any size:
        an odd part in t and t^3, an even part in 1, t^2 and t^4, and a ramp that starts
        at the kink, which both parts have half of. The slopes at t = 0 of all models
        that explain the values as well as the best does make the bound. There is none
        if what the best leaves is not rounding alone.
        """
        t = (np.arange(n) + self.probe.rng.random(n)) / n
        moves = [(step * s * self.d, -step * s * self.d) for s in t]
        changes = [
            [self.probe.change(self.j, m, self.moved) for m in ms] for ms in moves
        ]
        up, down = np.array(changes).T / step
        odd, even = (up - down) / 2, (up + down) / 2
        if not np.all(np.isfinite(odd)) or len(np.unique(odd)) < 5:
            return _Slope()
        slope, rest, line = _fitted(t, odd, even)
        places = np.append(1e-9, np.linspace(0.02, 0.95, 48))
        places = np.append(-places[::-1], places)
        for _ in range(3):
            ramps = np.maximum(t[:, None] - np.abs(places), 0.0)
            turns, kinks, _ = _fitted(t, np.sign(places) * ramps, ramps)
            lengths = np.linalg.norm(kinks, axis=0)
            turns, kinks = turns / lengths, kinks / lengths
            along = rest @ kinks  # the size of the kink at each place
            most = int(np.argmax(np.abs(along)))
            used = places
            near = places[max(most - 1, 0)], places[min(most + 1, len(places) - 1)]
            places = np.unique(np.append(places, np.linspace(*near, 24)))
        left_over = rest - along[most] * kinks[:, most]
        square = left_over @ left_over / (2 * n - 7)
        white = np.mean(np.diff(left_over) ** 2) / 2
        second = np.max(np.abs(left_over @ kinks))
        if square > (1 + 4 / math.sqrt(n)) * white or second > 4.5 * math.sqrt(white):
            return _Slope()
        likely = along**2 >= along[most] ** 2 - 20 * square
        at = np.flatnonzero(likely)
        likely[np.clip(np.append(at - 1, at + 1), 0, len(used) - 1)] = True
        values = (slope - along * turns)[likely]
        wide = 4 * np.sqrt(square * (line @ line + turns[likely] ** 2))
        low, high = float(np.min(values - wide)), float(np.max(values + wide))
        return _Slope((low + high) / 2, (high - low) / 2, step)


def _fitted(t: Array, odd: Array, even: Array) -> tuple[Any, Array, Array]:
    """Fit the odd and even parts of values at t and -t; for each column, if several.

    Return the slope at 0, what the fit leaves of both parts in one, and the weights of
    the odd part's values in the slope.
    """
    left = []
    for powers, values in (([t, t**3], odd), ([t**0, t**2, t**4], even)):
        basis, _ = np.linalg.qr(np.stack(powers, axis=1))
        left.append(values - basis @ (basis.T @ values))
    weights = np.linalg.pinv(np.stack([t, t**3], axis=1))[0]
    return weights @ odd, np.concatenate(left), weights


def _extrapolate(middle: float, above: list[float]) -> list[float]:
    """Return the next row of Neville's table, for steps that halve."""
    row = [middle]
    for k, old in enumerate(above[:6]):
        row.append(row[k] + (row[k] - old) / (4 ** (k + 1) - 1))
    return row


def _unseen_kink(gaps: list[float]) -> float:
    """Bound what a kink near x adds to a slope; steps halve, `gaps` are right - left.

    A kink adds to one side only: as much to the gap as twice to the central slope.
    The gap of a smooth function is a series in odd powers of t, so each gap follows
    from those of two larger steps; what is not explained by them is due to kinks. (One
    step alone may miss a kink: two kinds of error cancel at some distance from x.)
    """
    apart = []
    for k in range(max(1, len(gaps) - 3), len(gaps)):
        smooth = gaps[k - 1] / 2
        if k > 1:
            smooth += (gaps[k - 1] / 2 - gaps[k - 2] / 4) / 4
        apart.append(abs(gaps[k] - smooth))
    return 2 * max(apart)


def _steadiest(row: list[float], above: list[float], noise: float, t: float) -> _Slope:
    """Return the value of a row that its neighbours in the table differ least from."""
    changes = [
        max(abs(row[k] - v) for v in (row[k - 1], *above[k - 1 : k + 1]))
        for k in range(1, len(row))
    ]
    least = min(changes)
    return _Slope(row[changes.index(least) + 1], least + noise, t)


# --- The search ---------------------------------------------------------------------


@dataclass
class _Entry:
    """An entry that is wrong, or at a kink, or that is not known well enough."""

    i: int
    analytic: float
    slope: _Slope
    doubt: float  # the rounding of the analytic value
    oracle: str = RIDDERS

    @property
    def off(self) -> float:
        return _distance(self.analytic, self.slope.value)

    @property
    def verdict(self) -> str:
        s = self.slope
        if s.kind == "kink":
            # At a kink any value between the two slopes is a fair convention.
            margin = s.error + self.doubt + 1e-3 * max(abs(s.left), abs(s.right))
            low, high = sorted((s.left, s.right))
            between = low - margin <= self.analytic <= high + margin
            return "kink" if between else "wrong"
        if s.kind == "stairs":
            return "noisy"
        if s.kind:
            return "kink"
        if not math.isfinite(s.value) or self.off <= s.error + self.doubt:
            return "noisy"
        return "wrong"


def _distance(analytic: float, numeric: float) -> float:
    off = abs(analytic - numeric)
    return off if math.isfinite(off) else math.inf


class _Search:
    """The search through the entries of input j for those that are not right."""

    def __init__(self, probe: _Probe, j: int, analytic: Array) -> None:
        self.probe = probe
        self.j = j
        self.analytic = analytic
        self.doubt = probe.rounding[j]
        self.scale = probe.scale[j]
        self.blind = 0.0  # the largest error of one entry that may have gone unseen
        self.lost = 0  # entries that noise hides
        self.left = 0  # entries that the budget did not allow
        self.complex = False  # whether f takes complex numbers
        size = _finite_size(analytic)
        floor = FLOOR * float(np.max(size))
        # What a slope of zero may look like to the differences.
        zero = 4 * (probe.noise / START / self.scale + self.doubt) + TINIEST
        self.zero = bool(np.all(size <= 8 * zero))
        # What the error of each entry is held against.
        size = np.where(size < floor, 10 * floor, size)
        self.size = zero / AIM if self.zero else size
        self.least = 1e-3 * float(np.max(self.size))
        # Like magnitudes together: the small need not show beside the large.
        self.order = np.argsort(-self.size, kind="stable")

    def disputed(self, most: int) -> list[int] | None:
        """Return up to `most` entries of which the complex step says otherwise.

        None if f does not take complex numbers.
        """
        self.complex = not math.isnan(self.probe.imaginary(self.j, self.size))
        if not self.complex:
            return None
        weight = np.max(self.size) / self.size  # no step to keep small: all count alike
        blocks = self._blocks(True)
        found: list[int] = []
        self.blind = 0.0
        while blocks and len(found) < most:
            block = blocks.pop()
            d = self._direction(block, weight)
            slope = _Slope(self.probe.imaginary(self.j, d), 0.0)
            agrees, blind = self._compare(slope, d)
            if agrees and (blind <= AIM or len(block) == 1):
                self.blind = max(self.blind, blind)
            elif len(block) == 1:
                found.append(int(block[0]))
            else:
                blocks += _split(block)
        return found

    def look(self, aim: float, budget: int, most: int = MOST) -> list[_Entry]:
        """Return the entries that real differences do not confirm, to within `aim`.

        At most `most` wrong ones; `lost` and `left` count those not looked at.
        """
        blocks = self._blocks(aim == AIM)
        found: list[_Entry] = []
        later: list[tuple[float, int]] = []
        wrong = 0
        # Entries that not even the widest step, and many of them, will show.
        hidden = self.probe.noise / START / self.scale > 8 * LIMIT * self.size
        noisy = bool(np.any(hidden & (self.analytic != 0.0)))
        pace = _Pace(self.probe, len(self.order), budget, noisy)
        while blocks and wrong < most:
            block = blocks.pop()
            if pace.over():
                self.left += len(block)
                continue
            d = self._direction(block, self.scale)
            reach = np.abs(d[block]) * self.size[block]
            unit, depth = (self.scale[block[0]], 3) if len(block) == 1 else (1.0, 1)
            line = _Line(self.probe, self.j, d, unit, self.least * np.max(np.abs(d)))
            slope = line.slope(aim * np.min(reach) / 4, depth)
            agrees, blind = self._compare(slope, d)
            # The best that rounding permits, in the smallest entry and in the largest.
            noise = self.probe.noise / (START * unit)
            enough = max(aim, min(LIMIT, 4 * noise / np.min(reach)))
            zeros = not np.any(self.analytic[block])
            if agrees and blind <= (LIMIT if len(block) == 1 else enough):
                self.blind = max(self.blind, blind)
            elif agrees and zeros and len(block) > 1 and not np.any(line.moved):
                pass  # f does not change with these, to the last bit
            elif len(block) == 1 and agrees:  # to see more takes long
                i = int(block[0])
                later.append((abs(slope.value - self.analytic[i]) / slope.error, i))
            elif len(block) == 1:
                i = int(block[0])
                quick = _Entry(i, float(self.analytic[i]), slope, float(self.doubt[i]))
                found += [quick] if wrong >= SURE else self._suspect(i)
                wrong += bool(found) and found[-1].verdict == "wrong"
            elif agrees and noise > LIMIT * np.max(reach) and not zeros:
                self.lost += len(block)
            elif pace.hopeless and (agrees or slope.kind):
                self.left += len(block)
            else:
                blocks += _split(block)
                continue
            pace.done += len(block)
        if not wrong:
            found += self._look_closer(sorted(later, reverse=True), pace)
        return found

    def _look_closer(self, later: list[tuple[float, int]], pace: _Pace) -> list[_Entry]:
        """Return the entries that a close look does not confirm, most suspect first.

        After a few that cannot be told, the others will not make the verdict better.
        """
        found: list[_Entry] = []
        for _, i in later:
            if pace.spent() or len(found) >= SURE:
                self.left += 1
            else:
                found += self._suspect(i)
        return found

    def _suspect(self, i: int) -> list[_Entry]:
        """Return entry i in a list, if a close look does not confirm it."""
        entry = self.entry(i)
        known = entry.slope.error + entry.doubt <= LIMIT * self.size[i]
        return [entry] if entry.verdict != "noisy" or not known else []

    def _blocks(self, alone: bool) -> list[Array]:
        n = len(self.order)
        alone = alone and n <= self.probe.problem.alone
        return np.array_split(self.order, n if alone else 1)[::-1]

    def _direction(self, block: Array, weight: Array) -> Array:
        """Return a random direction in the entries of a block; of one, its own."""
        if len(block) == 1:
            return self._unit(int(block[0]))
        d = np.zeros(len(self.size))
        d[block] = weight[block] * _signs(self.probe.rng, len(block))
        return d

    def _compare(self, slope: _Slope, d: Array) -> tuple[bool, float]:
        """Say whether the gradient has this slope along d, within error and rounding.

        And how large a relative error of a single entry could hide there.
        """
        on = d != 0
        margin = slope.error + float(np.abs(d[on]) @ self.doubt[on])
        agrees = abs(slope.value - float(d[on] @ self.analytic[on])) <= margin
        least = float(np.min(np.abs(d * self.size)[on]))
        return agrees and not slope.kind, margin / least

    def entry(self, i: int) -> _Entry:
        """Look at one entry as closely as can be done."""
        claimed, doubt = float(self.analytic[i]), float(self.doubt[i])
        enough = LIMIT * self.size[i]
        line = _Line(self.probe, self.j, self._unit(i), self.scale[i], self.least)
        slope = line.slope(0.0, depth=6)
        size = abs(float(self.probe.problem.xs[self.j].ravel()[i]))
        if (slope.kind or slope.error > enough) and 0.0 < size < line.unit / 100:
            # Small among large entries: perhaps f changes over steps of its own size.
            own = _Line(self.probe, self.j, self._unit(i), size, self.least)
            again = own.slope(0.0, depth=6)
            if not again.kind and again.error <= enough:
                line, slope = own, again
        if math.isfinite(slope.value) and not slope.kind:
            if claimed == 0.0 and slope.error > enough and self._flat(i, size):
                slope = _Slope(0.0, 0.0, line.unit)
            elif slope.error > enough:
                slope = line.closer(slope, enough)
            off = abs(slope.value - claimed)
            if not off <= slope.error + doubt:
                slope = line.certain(slope, claimed)
            if off <= FLOAT32 * abs(claimed) and self._agreed(slope, i) is None:
                slope = replace(slope, error=max(slope.error, off))
        return _Entry(i, claimed, slope, doubt)

    def _flat(self, i: int, size: float) -> bool:
        """Return whether f does not change with entry i, to the last bit.

        Over steps, that is, that are not too small for others to be seen.
        """
        t = START * float(min(size, self.scale[i]) or self.scale[i])
        for _ in range(6):
            if self.probe.noise / t > LIMIT * np.max(self.size):
                break
            line = _Line(self.probe, self.j, self._unit(i), self.scale[i])
            line.sides(t)
            line.sides(t / 4)
            if not np.any(line.moved):
                return True
            t /= 4
        return False

    def _unit(self, i: int) -> Array:
        d = np.zeros(len(self.size))
        d[i] = 1.0
        return d

    def imaginary(self, i: int) -> float:
        """Return the complex step's value of one entry."""
        return self.probe.imaginary(self.j, self._unit(i))

    def sharpen(self, entry: _Entry) -> bool:
        """Put the complex step's value for the differences', if the two agree."""
        value = self._agreed(entry.slope, entry.i)
        if value is None:
            return False
        entry.slope = _Slope(value, entry.doubt + 8 * EPS * abs(value))
        entry.oracle = COMPLEX
        return True

    def _agreed(self, slope: _Slope, i: int) -> float | None:
        """Return the complex step's value of an entry, if differences agree with it."""
        if not self.complex or slope.kind:
            return None
        value = self.imaginary(i)
        return value if abs(value - slope.value) <= slope.error else None


class _Pace:
    """How long the search of one input may go on.

    Up to `budget` evaluations of f; but if it took SECONDS, and some entries cannot be
    told, or the budget will not suffice for all at this pace, it is `hopeless`: then
    what is left is looked at in the blocks that it stands in, for as long again, and
    only what differs there is followed.
    """

    def __init__(self, probe: _Probe, entries: int, budget: int, noisy: bool) -> None:
        self.probe = probe
        self.noisy = noisy  # some entries cannot be told in any case
        self.entries = entries
        self.budget = budget
        self.start = probe.calls
        self.done = 0  # entries that are settled, or never will be
        self.hopeless = False
        share = entries / sum(x.size for x in probe.problem.xs)
        self.patience = max(200.0, probe.affordable * share)

    @property
    def used(self) -> int:
        return self.probe.calls - self.start

    def over(self) -> bool:
        """Return whether no further block can be looked at."""
        if self.used > self.patience:
            slow = self.used * self.entries > self.budget * self.done
            self.hopeless = self.hopeless or self.noisy or slow
        limit = 2 * self.patience if self.hopeless else self.budget
        return self.used > min(limit, self.budget)

    def spent(self) -> bool:
        """Return whether a close look at single entries has to end."""
        return self.used > min(2 * self.patience, self.budget)


def _split(block: Array) -> list[Array]:
    return np.array_split(block, min(SPLIT, len(block)))[::-1]


# --- The verdict --------------------------------------------------------------------


@dataclass
class _Finding:
    """What was found of one input, or of all if `name` is empty."""

    verdict: str
    name: str = ""
    shape: tuple[int, ...] = ()
    detail: str = ""
    worst: _Entry | None = None
    differ: int = 0
    pattern: str = ""
    mistake: str = ""
    oracle: str = RIDDERS
    blind: float = 0.0
    exception: Exception | None = None
    located: dict[int, _Slope] = field(default_factory=dict)  # wrong, and no kink
    partial: bool = False  # more entries may be wrong than those located
    kinks: list[_Entry] = field(default_factory=list)


def _examine(
    probe: _Probe, j: int, g: Array | None, oracle: str, describe: bool = True
) -> _Finding:
    """Check the gradient `g` of input j."""
    name, x = probe.problem.names[j], probe.problem.xs[j]
    found = _Finding("pass", name, x.shape)
    if not x.size:
        return replace(found, verdict="vacuous", detail=f"{name} has no entries")
    search = _Search(probe, j, np.zeros(x.size) if g is None else g.ravel())
    most = MOST if describe else 1
    disputed = None if oracle == "ridders" else search.disputed(1)
    proven = disputed == []
    if proven:
        found.oracle, found.blind = COMPLEX, search.blind
        entries = search.look(PROOF, BUDGET // 10, most)
        # What the differences leave open the complex step has settled.
        entries = [e for e in entries if e.verdict != "noisy"]
        search.lost = search.left = 0
    else:
        entries = search.look(AIM, BUDGET, most)
        found.blind = search.blind
    if disputed and not entries:
        # Either the complex step does not hold for f, or it sees a smaller error.
        closer = [search.entry(i) for i in search.disputed(SPLIT) or []]
        entries = [e for e in closer if e.verdict == "wrong"]
    for verdict in ("wrong", "kink", "noisy"):
        some = [e for e in entries if e.verdict == verdict]
        if some:
            found.verdict = verdict
            found.worst, found.differ = max(some, key=lambda e: e.off), len(some)
            found.kinks = [e for e in entries if e.slope.kind == "kink"]
            if verdict == "wrong" and describe:
                _describe(found, search, some)
            elif verdict == "noisy":
                found.differ += search.lost + search.left
            return found
    if search.lost or search.left:
        return replace(found, verdict="noisy", detail=_unseen(search, name))
    if oracle == "complex" and not proven:
        detail = f'the complex step does not hold for f and {name}; use oracle="auto"'
        return replace(found, verdict="noisy", detail=detail)
    if search.zero and not probe.problem.may_be_zero[j]:
        detail = f"no gradient reached {name}, and f does not change with it"
        if g is not None:
            lost = " but for rounding" if np.any(g) else ""
            detail = f"the gradient of {name} is 0{lost}, and so is the slope of f"
            small = FLOAT32 * float(np.sum(np.abs(probe.c * probe.base)))
            if np.any(np.abs(g.ravel()) * search.scale > small):  # not even in float32
                unseen = f"the gradient of {name} is small: f is accurate to "
                detail = f"{unseen}{probe.noise:.0e} only"
                return replace(found, verdict="noisy", detail=detail)
        return replace(found, verdict="vacuous", detail=detail)
    return found


def _unseen(search: _Search, name: str) -> str:
    if search.lost:
        return (
            f"{search.lost} entries of {name} cannot be told: f is accurate to "
            f"{search.probe.noise:.0e} only"
        )
    return (
        f"{search.left} entries of {name} were left after {search.probe.calls} "
        f"evaluations of f, which is accurate to {search.probe.noise:.0e}"
    )


def _describe(found: _Finding, search: _Search, entries: list[_Entry]) -> None:
    """Count the wrong entries, and name the worst."""
    located = {e.i: e.slope for e in entries}
    partial = len(entries) >= MOST
    if all([search.sharpen(e) for e in entries]):
        located = {e.i: e.slope for e in entries}
        counted = _count(search)
        if counted.keys() >= located.keys():
            located, partial = counted, False
    i = max(located, key=lambda i: _distance(search.analytic[i], located[i].value))
    found.worst = search.entry(i)
    if found.worst.verdict != "wrong":
        found.worst = entries[0]
    search.sharpen(found.worst)
    found.differ = len(located)
    found.detail = f"{'at least ' if partial else ''}{len(located)} differ"
    found.located = {i: s for i, s in located.items() if not s.kind}
    found.partial = partial


def _count(search: _Search) -> dict[int, _Slope]:
    """Return what the complex step says of each wrong entry of a gradient.

    Nothing if the gradient is large, or if real differences contradict it somewhere.
    """
    if len(search.analytic) > COUNTED:
        return {}
    numeric = np.array([search.imaginary(i) for i in range(len(search.analytic))])
    margin = 4 * search.doubt + 1e-9 * np.maximum(np.abs(numeric), search.size)
    wrong = np.flatnonzero(~(np.abs(search.analytic - numeric) <= margin))
    largest = wrong[np.argsort(-np.abs(search.analytic - numeric)[wrong])[:1]]
    for i in (*largest, *search.probe.rng.permutation(wrong)[:3]):
        entry = search.entry(int(i))
        if entry.verdict != "wrong" or not search.sharpen(entry):
            return {}
    return {int(i): _Slope(float(numeric[i]), float(margin[i])) for i in wrong}


def _pattern(e: _Evidence) -> str:
    """Say what the wrong entries have in common, and of how many that was seen."""
    if len(e.located) < 2:
        return ""
    where = np.array(list(e.located))
    some = f" of the {len(where)} that were located" if e.partial else ""
    said = []
    if len(where) == e.x.size:
        said.append("it is all of them")
    elif e.x.ndim > 1:
        for axis, places in enumerate(np.unravel_index(where, e.x.shape)):
            if np.all(places == places[0]):
                word = ("row", "column")[axis] if e.x.ndim == 2 else f"axis {axis} at"
                said.append(f"they share {word} {places[0]}{some}")
    if not np.any(e.claimed.ravel()[where]):
        said.append(f"each{some} is 0")
    elif (ratio := _ratio(e)) is not None:
        said.append(f"analytic / numeric = {ratio:.7g} in each{some}")
    return "; ".join(said)


# --- The kind of mistake ------------------------------------------------------------


class Mistake(NamedTuple):
    """A kind of mistake: its name, for programs, and what is said of it."""

    name: str
    words: str


@dataclass
class _Evidence:
    """What is known of one wrong gradient, for the rules that name its mistake.

    Attributes:
        probe: f, the cotangent, and what was measured.
        j: which input it is the gradient of.
        claimed: the gradient, in the shape that it came in.
        given: the gradients of all inputs, as they came.
        located: the entries that are known to be wrong, with their slopes.
        partial: there may be more of them.
        oracle: as the caller said.

    """

    probe: _Probe
    j: int
    claimed: Array
    given: list[Any]
    located: dict[int, _Slope]
    partial: bool
    oracle: str

    @property
    def x(self) -> Array:
        return self.probe.problem.xs[self.j]

    @property
    def name(self) -> str:
        return self.probe.problem.names[self.j]

    @property
    def fits(self) -> bool:
        """Whether the gradient has the shape of its input."""
        return bool(self.claimed.shape == self.x.shape)

    def explained_by(self, candidate: Array) -> bool:
        """Return whether the right gradient is `candidate`, as far as can be measured.

        The entries that were located are compared first, then all of it is examined.
        """
        if candidate.shape != self.x.shape or not np.all(np.isfinite(candidate)):
            return False
        if self.fits and np.array_equal(candidate, self.claimed):
            return False
        flat = candidate.ravel()
        doubt = self.probe.rounding[self.j]
        for i, s in self.located.items():
            margin = s.error + 2 * doubt[i] + 1e-9 * abs(s.value)
            if not abs(flat[i] - s.value) <= margin:
                return False
        found = _examine(self.probe, self.j, candidate, self.oracle, describe=False)
        return found.verdict == "pass" or (
            bool(self.located) and found.verdict != "wrong"
        )

    def jacobian(self) -> Array | None:
        """Measure c * df/dx, of shape x.shape + f.shape; None if it is large."""
        x, probe = self.x, self.probe
        if not 0 < x.size <= 256 or x.size * probe.base.size > 1_000_000:
            return None
        found = np.zeros((x.size, *probe.base.shape))
        for i in range(x.size):
            step = np.zeros(x.size)
            step[i] = 1e-5 * probe.scale[self.j][i]
            up, down = probe._value(self.j, step), probe._value(self.j, -step)
            if up is None or down is None:
                return None
            found[i] = probe.c * (up - down) / (2 * step[i])
        return found.reshape(x.shape + probe.base.shape)


def _alike(a: Array, b: Array) -> bool:
    """Return whether two arrays are the same but for what differences leave."""
    if a.shape != b.shape:
        return False
    return bool(np.max(np.abs(a - b), initial=0) <= 1e-6 * np.max(np.abs(b), initial=0))


def _sums(shape: tuple[int, ...], to: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the axes over which an array can be summed to have the shape `to`."""
    return [
        axes
        for k in range(1, len(shape) + 1)
        for axes in itertools.combinations(range(len(shape)), k)
        if tuple(n for i, n in enumerate(shape) if i not in axes) == to
    ]


def _axes(axes: Sequence[int]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else f"the axes {tuple(axes)}"


def _all_zero(e: _Evidence) -> Mistake | None:
    if np.any(e.claimed):
        return None
    return Mistake("zero", "it is 0 everywhere")


def _swapped_inputs(e: _Evidence) -> Mistake | None:
    for i, g in enumerate(e.given):
        if i != e.j and g is not None and e.explained_by(g):
            other = e.probe.problem.names[i]
            words = f"what is right was returned as the gradient of {other}"
            return Mistake("swapped", words)
    return None


def _factor(e: _Evidence) -> Mistake | None:
    """Return one factor for all, and the axis that it is the length of, if of one."""
    ratio = _ratio(e) if len(e.located) > 1 or e.x.size == 1 else None
    if ratio is None or ratio == 1.0 or not e.explained_by(e.claimed / ratio):
        return None
    if ratio == -1.0:
        return Mistake("sign", "its sign is the wrong way round")
    for n, what in _lengths(e):
        if n > 2 and math.isclose(ratio, n, rel_tol=1e-6):
            words = f"{n} is {what}: a mean's division by it is missing"
            return Mistake("mean", words)
        if n > 2 and math.isclose(ratio, 1 / n, rel_tol=1e-6):
            return Mistake("sum", f"{n} is {what}: it is divided by it, as a mean's is")
    return Mistake("factor", f"it is {ratio:.7g} times what is right")


def _ratio(e: _Evidence) -> float | None:
    """Return claimed / numeric if that is the same in all entries located."""
    at = np.array(list(e.located), dtype=int)
    numeric = np.array([s.value for s in e.located.values()])
    errors = np.array([s.error for s in e.located.values()])
    claimed = e.claimed.ravel()[at] if e.fits else np.zeros(0)
    if not claimed.size or not np.all(claimed) or not np.all(np.isfinite(claimed)):
        return None
    if not np.all(np.abs(numeric) > 2 * errors):
        return None
    ratios, margins = claimed / numeric, np.abs(errors / numeric) + 1e-7
    ratio = float(ratios[np.argmin(margins)])
    if np.any(np.abs(ratios - ratio) > abs(ratio) * (margins + np.min(margins))):
        return None
    # A plain number, if it is one as nearly as could be measured.
    for plain_one in (round(ratio), 1 / round(1 / ratio) if abs(ratio) < 1 else 0.0):
        if plain_one and abs(plain_one - ratio) <= abs(ratio) * np.min(margins):
            return float(plain_one)
    return ratio


def _lengths(e: _Evidence) -> Iterator[tuple[int, str]]:
    """Yield the lengths of all axes, and the sizes, of f and its inputs, with words."""
    problem = e.probe.problem
    named = list(zip(problem.names, [x.shape for x in problem.xs], strict=True))
    named.sort(key=lambda one: one[0] != e.name)
    named.append(("f", e.probe.base.shape))
    for name, shape in named:
        yield from (
            (n, f"the length of {name}'s axis {i}") for i, n in enumerate(shape)
        )
    for name, shape in named:
        yield math.prod(shape), f"the number of {name}'s entries"


def _transposed(e: _Evidence) -> Mistake | None:
    if e.claimed.ndim == 2 and e.explained_by(e.claimed.T):
        return Mistake("transpose", "it is the transpose of what is right")
    return None


def _permuted(e: _Evidence) -> Mistake | None:
    if not 3 <= e.claimed.ndim <= 4:
        return None
    for order in itertools.permutations(range(e.claimed.ndim)):
        if e.explained_by(e.claimed.transpose(order)):
            words = f"its axes are in another order: .transpose{order} makes it right"
            return Mistake("permuted", words)
    return None


def _unsummed(e: _Evidence) -> Mistake | None:
    """Return that the gradient has the axes along which its input was broadcast."""
    if e.claimed.size == e.x.size:
        return None
    padded = (1,) * (e.claimed.ndim - e.x.ndim) + e.x.shape
    if len(padded) == e.claimed.ndim:
        axes = [i for i, n in enumerate(padded) if n != e.claimed.shape[i]]
        if axes and all(padded[i] == 1 for i in axes):
            total = e.claimed.sum(axis=tuple(axes)).reshape(e.x.shape)
            if e.explained_by(total):
                words = f"{e.name} was broadcast: its sum over {_axes(axes)} is right"
                return Mistake("unsummed", words)
    for over in _sums(e.claimed.shape, e.x.shape):
        if e.explained_by(e.claimed.sum(axis=over)):
            return Mistake("unsummed", f"its sum over {_axes(over)} is right")
    return None


def _reshaped(e: _Evidence) -> Mistake | None:
    if not e.fits and e.claimed.size == e.x.size:
        if e.explained_by(e.claimed.reshape(e.x.shape)):
            return Mistake("shape", f"its values are right: reshape it to {e.x.shape}")
    return None


def _spread_wrongly(e: _Evidence) -> Mistake | None:
    """f reduces an axis: its cotangent has to be spread along that one."""
    c, shape = e.probe.c, e.x.shape
    if not e.fits or len(shape) < 2 or c.ndim not in (len(shape), len(shape) - 1):
        return None
    kept = c.ndim == len(shape)
    spread = {}
    for axis in range(len(shape)):
        one = c if kept else np.expand_dims(c, axis)
        if one.shape[axis] != 1 or one.size == 1:
            continue
        with contextlib.suppress(ValueError):
            spread[axis] = np.broadcast_to(one, shape)
    for right, wrong in itertools.permutations(spread, 2):
        if e.explained_by(e.claimed * spread[right] / spread[wrong]):
            words = (
                f"the cotangent is spread along axis {wrong}, not along axis {right}"
            )
            return Mistake("axis", words)
    return None


def _summed_wrongly(e: _Evidence) -> Mistake | None:
    """An input is broadcast: its gradient is a sum over just those axes."""
    for name, g in _before_sums(e):
        for wrong in _sums(g.shape, e.claimed.shape):
            if not _alike(e.claimed, g.sum(axis=wrong)):
                continue
            for right in _sums(g.shape, e.x.shape):
                if right != wrong and e.explained_by(g.sum(axis=right)):
                    words = f"{name} was summed over {_axes(wrong)}, not {_axes(right)}"
                    return Mistake("axis", words)
    return None


def _row_alone(e: _Evidence) -> Mistake | None:
    """A sum over the rows that an input was broadcast to: not one of them."""
    for name, g in _before_sums(e):
        for axis in range(g.ndim):
            rows = np.moveaxis(g, axis, 0)
            same = [k for k, row in enumerate(rows) if _alike(e.claimed, row)]
            if len(rows) > 1 and same and e.explained_by(rows.sum(axis=0)):
                words = f"it is entry {same[0]} of axis {axis} of {name}, not the sum"
                return Mistake("row", words)
    return None


def _before_sums(e: _Evidence) -> Iterator[tuple[str, Array]]:
    """Yield, by name, what the gradient of a broadcast input may be a sum of.

    The gradients of other inputs, and what each output contributes.
    """
    for name, g in _others(e):
        yield f"the gradient of {name}", g
    if e.probe.base.ndim > e.x.ndim and (jacobian := e.jacobian()) is not None:
        # Each output depends on one entry only, or the sums will not be right.
        yield "g * df", jacobian.reshape(e.x.size, *e.probe.base.shape).sum(axis=0)


def _others(e: _Evidence) -> Iterator[tuple[str, Array]]:
    """Yield the gradients of inputs with more axes than this one has, by name."""
    for i, (name, g) in enumerate(zip(e.probe.problem.names, e.given, strict=True)):
        if i != e.j and g is not None and g.ndim > e.x.ndim:
            yield name, g


def _diagonal(e: _Evidence) -> Mistake | None:
    """Softmax's classic: an output depends on all inputs, not on its own alone."""
    if not e.fits or e.probe.base.shape != e.x.shape:
        return None
    jacobian = e.jacobian()
    if jacobian is None:
        return None
    n = e.x.size
    square = jacobian.reshape(n, n)
    if not _alike(e.claimed.ravel(), np.diag(square)):
        return None
    if not _alike_to(square.sum(axis=1), e.located, 1e-5):
        return None
    words = (
        "it is the diagonal of df/dx alone: what an entry does to other outputs lacks"
    )
    return Mistake("diagonal", words)


def _alike_to(whole: Array, located: dict[int, _Slope], rtol: float) -> bool:
    largest = np.max(np.abs(whole), initial=0.0)
    return all(
        abs(whole[i] - s.value) <= rtol * largest + s.error for i, s in located.items()
    )


def _reversed(e: _Evidence) -> Mistake | None:
    for axis in range(e.claimed.ndim if e.fits else 0):
        if e.explained_by(np.flip(e.claimed, axis)):
            words = f"it is in reverse order along axis {axis}"
            return Mistake("reversed", words)
    return None


def _shifted(e: _Evidence) -> Mistake | None:
    for axis, n in enumerate(e.x.shape if e.fits else ()):
        for k in (1, -1):
            if n > 2 and e.explained_by(np.roll(e.claimed, -k, axis)):
                words = f"its entries are shifted by {k:+d} along axis {axis}"
                return Mistake("shifted", words)
    return None


def _lost_factor(e: _Evidence) -> Mistake | None:
    """A factor that is not constant: the chain rule's, the cotangent, the input."""
    if not e.fits:
        return None
    x, f, c = e.x, e.probe.base, e.probe.c
    factors = {e.name: x}
    if f.shape == x.shape:
        factors |= {"1 - f": 1 - f, "1 - f * f": 1 - f * f, "f": f}
        factors |= {"the cotangent": c, "the cotangent's square": c * c}
    for name, factor in factors.items():
        if e.explained_by(e.claimed * factor):
            return Mistake("factor missing", f"it lacks the factor {name}")
        if e.explained_by(e.claimed / factor):
            return Mistake("factor too many", f"it has the factor {name} too many")
    return None


# The first that explains the gradient is the one that is named.
MISTAKES: list[Callable[[_Evidence], Mistake | None]] = [
    _all_zero,
    _swapped_inputs,
    _factor,
    _spread_wrongly,
    _summed_wrongly,
    _row_alone,
    _transposed,
    _permuted,
    _unsummed,
    _reshaped,
    _diagonal,
    _reversed,
    _shifted,
    _lost_factor,
]


def _mistake(e: _Evidence) -> Mistake | None:
    """Turn what was measured of a wrong gradient into a kind of mistake."""
    return next((m for rule in MISTAKES if (m := rule(e)) is not None), None)


# --- Kinks of several entries -------------------------------------------------------


class _Joint:
    """Entries at kinks, of one input or several, and the slopes of the pieces there.

    A fair convention at a kink is a subgradient: a mean, with some weights, of the
    gradients that f has nearby. Each entry by itself then lies between the slopes of
    its two sides, but the reverse is not true: at a tie of np.max, (1, 1) is no such
    mean of (1, 0) and (0, 1). So pieces of f nearby are looked for, and a gradient is
    refused if there is a direction in which it is steeper than every piece found, also
    than those that were looked for in that very direction.
    """

    most = 32  # entries that are looked at together
    tries = 6  # rounds without anything new, after which the search ends

    def __init__(self, probe: _Probe, entries: list[tuple[int, _Entry]]) -> None:
        self.probe = probe
        rng = probe.rng
        most = int(min(self.most, max(2.0, probe.affordable / 200)))
        chosen = sorted(rng.permutation(len(entries))[:most])
        self.entries = [entries[k] for k in chosen]
        self.all = entries
        self.scale = np.array([probe.scale[j][e.i] for j, e in self.entries])
        sides = [(e.slope.left, e.slope.right) for _, e in self.entries]
        # In entries of like size, so that each counts alike.
        self.claimed = np.array([e.analytic for _, e in self.entries]) * self.scale
        self.left, self.right = np.array(sides).T * self.scale
        doubt = np.array([e.slope.error + e.doubt for _, e in self.entries])
        steepest = np.max(np.abs(sides)) * np.max(self.scale)
        self.away, self.step = 1e-4, 1e-6
        noise = probe.noise / self.step
        self.margin = 4 * (np.max(doubt * self.scale) + noise + 5e-4 * steepest)
        self.clear = noise < 0.02 * steepest

    def piece(self, u: Array) -> Array | None:
        """Return the slopes of the piece of f in direction u, None at another kink."""
        at = [np.zeros(x.size) for x in self.probe.problem.xs]
        rng = self.probe.rng
        others = rng.choice([0.0, 1.0])  # at their kinks, or beside them
        for j, e in self.all:
            at[j][e.i] = others * rng.choice([-1, 1]) * rng.uniform(0.5, 1.5)
        for (j, e), move in zip(self.entries, u, strict=True):
            at[j][e.i] = move
        at = [self.away * s * a for s, a in zip(self.probe.scale, at, strict=True)]
        here = self._phi(at)
        found = []
        for (j, e), size in zip(self.entries, self.scale, strict=True):
            sides = []
            for step in (-self.step, self.step):
                moved = [a.copy() for a in at]
                moved[j][e.i] += step * size
                sides.append((self._phi(moved) - here) / step)
            if not abs(sides[1] - sides[0]) <= self.margin:
                return None
            found.append((sides[0] + sides[1]) / 2)
        return np.array(found)

    def _phi(self, moves: list[Array]) -> float:
        """Return phi(x + moves) - phi(x), NaN outside f's domain."""
        problem = self.probe.problem
        xs = [x + m.reshape(x.shape) for x, m in zip(problem.xs, moves, strict=True)]
        self.probe.calls += 1
        try:
            change = problem.value(xs) - self.probe.base
        except Exception:  # outside the domain
            return math.nan
        return float(np.vdot(self.probe.c, change))

    def refuted(self) -> tuple[Array, float, float] | None:
        """Return a direction, the slope claimed along it, and the steepest of f's.

        None if the gradient may be a mean of pieces, or if noise hides that.
        """
        if not self.clear:
            return None
        pieces: list[Array] = []
        moves: list[Array] = []
        d = np.ones(len(self.entries))
        without = 0  # rounds in a row that brought no steeper piece
        while without < self.tries:
            slopes = [float(p @ d) for p in pieces]
            steepest = max(slopes, default=-math.inf)
            best = moves[slopes.index(steepest)] if moves else d
            before = len(pieces)
            for u in self._toward(d, best):
                if (piece := self.piece(u)) is not None:
                    pieces.append(piece)
                    moves.append(u)
            grown = max((float(p @ d) for p in pieces[before:]), default=-math.inf)
            enough = steepest + 0.1 * self.margin * float(np.linalg.norm(d))
            without = 0 if grown > enough else without + 1
            if not pieces:
                continue
            d = self.claimed - _nearest(np.array(pieces), self.claimed)
            if np.linalg.norm(d) <= self.margin:
                return None
        if not pieces:
            return None
        d /= np.max(np.abs(d))
        claimed, most = self.claimed @ d, max(p @ d for p in pieces)
        if claimed <= most + self.margin * np.sum(np.abs(d)) / 4:
            return None
        return d, float(claimed), float(most)

    def _toward(self, d: Array, best: Array) -> list[Array]:
        """Return displacements where pieces may be steep along d.

        Along d for a convex function, against it for a concave one, to the steeper
        side of each entry where they do not meddle with one another; and for others
        some changes of the best displacement so far.
        """
        rng = self.probe.rng
        size = rng.uniform(0.5, 1.5, len(d))
        tilt = d + 1e-3 * np.max(np.abs(d)) * _signs(rng, d.shape)
        tilt *= math.sqrt(len(d)) / np.linalg.norm(tilt)
        steep = size * np.where((self.right - self.left) * d >= 0, 1.0, -1.0)
        found = [tilt, -tilt, steep, -steep, size * rng.choice([-1.0, 1.0], len(d))]
        for _ in range(3):
            i, k = rng.integers(len(d), size=2)
            swapped, drawn = best.copy(), best.copy()
            swapped[[i, k]] = best[[k, i]]
            drawn[i] = rng.uniform(-1.5, 1.5)
            found += [swapped, drawn]
        return found


def _nearest(points: Array, to: Array) -> Array:
    """Return the point nearest to `to` in the convex hull of points (Frank-Wolfe)."""
    at = points[np.argmin(np.linalg.norm(points - to, axis=1))]
    weights = {int(np.argmin(np.linalg.norm(points - to, axis=1))): 1.0}
    for _ in range(500):
        # Away-steps let weights go to zero, so that this ends at the very point.
        along = points @ (to - at)
        best = int(np.argmax(along))
        worst = min(weights, key=lambda k: along[k])
        step = points[best] - points[worst]
        square = float(step @ step)
        if along[best] - along[worst] <= 0 or square == 0.0:
            break
        share = min(weights[worst], float(step @ (to - at)) / square)
        weights[worst] -= share
        weights[best] = weights.get(best, 0.0) + share
        weights = {k: w for k, w in weights.items() if w > 0.0}
        at = at + share * step
    return at


def _judge_kinks(probe: _Probe, findings: list[_Finding]) -> None:
    """Look at entries at kinks together: is the gradient a subgradient?

    If not, a finding becomes wrong. And an entry that is not between its two sides is
    wrong only if it is none: where several meet, f has more pieces than those two (a
    tie of a sort with weights).
    """
    entries = [(j, e) for j, f in enumerate(findings) for e in f.kinks]
    if len(entries) < 2 or any(f.verdict == "wrong" and f.located for f in findings):
        return
    joint = _Joint(probe, entries)
    refuted = joint.refuted()
    for f in findings:
        if f.verdict == "wrong" and f.kinks and joint.clear and refuted is None:
            f.verdict, f.differ = "kink", len(f.kinks)
    if refuted is None or any(f.verdict == "wrong" for f in findings):
        return
    d, claimed, most = refuted
    along = d * joint.scale
    unit = probe.unit * float(np.max(np.abs(along)))
    along /= np.max(np.abs(along))
    j, worst = joint.entries[int(np.argmax(np.abs(d)))]
    names = probe.problem.names
    part = [k for k in np.argsort(-np.abs(along))[:4] if abs(along[k]) > 0.05]
    steps = ", ".join(
        f"{along[k]:.3g} in {names[i]}{_place(findings[i].shape, e.i)}"
        for k in sorted(part)
        for i, e in [joint.entries[k]]
    )
    f = findings[j]
    f.verdict, f.worst, f.oracle = "wrong", worst, RIDDERS
    f.detail = (
        f"each entry is between its sides, all together are no subgradient: along "
        f"({steps}) they claim {claimed / unit:.7g}, and the nearest slope of "
        f"{probe.label} around here is {most / unit:.7g}"
    )


def _place(shape: tuple[int, ...], i: int) -> str:
    return _at(np.unravel_index(i, shape))


def _check(
    problem: _Problem,
    rng: Rng,
    oracle: str = "auto",
    allow: Sequence[str] = (),
    find_rule: bool = True,
) -> GradientReport:
    """Check all inputs of a problem and report; with its kind and rule, if wrong."""
    probe = _Probe(problem, np.random.default_rng(rng))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        findings = _findings(probe, oracle, find_rule)
        findings.sort(key=lambda f: VERDICTS.index(f.verdict))
        wrong = findings[0].verdict == "wrong" and findings[0].worst is not None
        rule = problem.blame() if wrong and find_rule else None
    return _report(probe, findings, rule, allow)


def _findings(probe: _Probe, oracle: str, explain: bool) -> list[_Finding]:
    """Look at what would make the entries not worth looking at; then at the entries."""
    problem = probe.problem
    if not np.all(np.isfinite(probe.base)):
        at = tuple(np.argwhere(~np.isfinite(probe.base))[0])
        return [_Finding("noisy", detail=f"f{_at(at)} itself is {probe.base[at]}")]
    again = problem.value(problem.xs)
    if _differ(again, probe.base):
        text = f"f gave {_first(probe.base)}, then {_first(again)}, for the same inputs"
        return [_Finding("nondeterministic", detail=text)]
    try:
        given = problem.gradient(problem.xs, probe.c)
        repeated = problem.gradient(problem.xs, probe.c)
    except _Masked:
        raise
    except Exception as error:
        text = f"the gradient raised {type(error).__name__}: {error}"
        return [_Finding("wrong", detail=text, exception=error)]
    if unfit := _unfit(probe, given, oracle):
        return unfit
    for name, g, h in zip(problem.names, given, repeated, strict=True):
        if (g is None) != (h is None) or (g is not None and _differ(h, g)):
            text = f"the gradient of {name} changes from call to call"
            return [_Finding("nondeterministic", name, detail=text)]
    probe.measure_rounding(given)
    probe.measure_time()
    found = [_examine(probe, j, g, oracle) for j, g in enumerate(given)]
    _judge_kinks(probe, found)
    for j, f in enumerate(found):
        if f.located and explain:
            zero = np.zeros(f.shape)
            claimed = zero if given[j] is None else given[j]
            _explain(
                f, _Evidence(probe, j, claimed, given, f.located, f.partial, oracle)
            )
    if all(f.verdict == "pass" for f in found):
        found += _in_own_precision(probe, given)
    return found


def _unfit(probe: _Probe, given: list[Any], oracle: str) -> list[_Finding]:
    """Return what is wrong with the shapes and dtypes of the gradients."""
    problem = probe.problem
    bad = {
        j: f"dtype {g.dtype}" if g.shape == x.shape else f"shape {g.shape}"
        for j, (x, g) in enumerate(zip(problem.xs, given, strict=True))
        if g is not None and (g.shape != x.shape or g.dtype.kind not in "biuf")
    }
    findings = []
    for j, what in bad.items():
        name, shape, g = problem.names[j], problem.xs[j].shape, given[j]
        text = f"the gradient of {name} has {what}; {name} has shape {shape}"
        found = _Finding("wrong", name, shape, text)
        if g.dtype.kind in "biuf" and np.all(np.isfinite(g)):
            probe.measure_rounding(None)
            _explain(found, _Evidence(probe, j, g, given, {}, False, oracle))
            found.detail = "; ".join(filter(None, [text, found.pattern]))
        findings.append(found)
    return findings


def _explain(found: _Finding, evidence: _Evidence) -> None:
    """Say what the wrong entries share, and what kind of mistake it is."""
    mistake = _mistake(evidence)
    said = [_pattern(evidence), mistake.words if mistake else ""]
    found.pattern = "; ".join(filter(None, said))
    found.mistake = mistake.name if mistake else ""


def _differ(a: Array, b: Array) -> bool:
    """Say whether two results of one call differ by more than the order of a sum."""
    if a.shape != b.shape:
        return True
    largest = np.max(np.abs(b), initial=0.0, where=np.isfinite(b))
    return not np.allclose(a, b, rtol=0, atol=1e-6 * largest, equal_nan=True)


def _first(y: Array) -> str:
    return f"{y.ravel()[0]:.7g}" if y.size else "nothing"


def _in_own_precision(probe: _Probe, gradients: list[Any]) -> list[_Finding]:
    """Compare the gradient in float32, if the inputs are that, with it in float64.

    What float32 may cost is measured: what a change of the inputs in their last digit
    does to the gradient.
    """
    problem = probe.problem
    eps = max(float(np.finfo(dtype).eps) for dtype in problem.dtypes)
    if eps <= EPS:
        return []
    low = [x.astype(dtype) for x, dtype in zip(problem.xs, problem.dtypes, strict=True)]
    found = problem.gradient(low, probe.c.astype(problem.dtypes[0]))
    sway = np.zeros(sum(x.size for x in problem.xs))
    whole = _flat(gradients, problem.xs)
    for _ in range(4):
        *xs, c = (
            x * (1 + eps * probe.rng.choice([-1.0, 1.0], x.shape))
            for x in [*problem.xs, probe.c]
        )
        moved = _flat(problem.gradient(xs, c), xs)
        sway = np.maximum(sway, np.abs(moved - whole))
    ends = np.cumsum([x.size for x in problem.xs])[:-1]
    findings = []
    sways = np.split(sway, ends)
    for name, g, h, s in zip(problem.names, found, gradients, sways, strict=True):
        if g is None or h is None:
            continue
        s = s.reshape(h.shape)
        margin = 100 * (s + eps * (np.abs(h) + np.max(np.abs(h), initial=0.0)))
        off = ~(np.abs(g - h) <= margin)
        if np.any(off):
            at = tuple(np.argwhere(off)[0])
            text = (
                f"d f/d {name}{_at(at)} is {g[at]:.7g} in {g.dtype} and {h[at]:.7g} in "
                "float64: right, but lost to rounding"
            )
            findings.append(_Finding("noisy", name, h.shape, text))
    return findings


# --- The message --------------------------------------------------------------------


def _at(index: Any) -> str:
    return f"[{', '.join(str(int(i)) for i in index)}]" if len(index) else ""


def _report(
    probe: _Probe, findings: list[_Finding], rule: str | None, allow: Sequence[str]
) -> GradientReport:
    """Put the most serious finding into words."""
    f, entry = findings[0], findings[0].worst
    report = GradientReport(
        f.verdict,
        f.verdict == "pass" or f.verdict in allow,
        "",
        input=f.name or None,
        entries=math.prod(f.shape),
        differ=f.differ,
        pattern=f.pattern or None,
        mistake=f.mistake or None,
        rule=rule,
        cotangent=None if probe.number else probe.c,
        exception=f.exception,
        calls=probe.calls,
    )
    if f.verdict == "pass":
        return _passed(report, probe, findings)
    head, lines = f.detail, []
    if entry is not None:
        index = tuple(int(i) for i in np.unravel_index(entry.i, f.shape))
        s, unit = entry.slope, probe.unit
        report = replace(
            report,
            index=index,
            analytic=entry.analytic / unit,
            numeric=s.value / unit,
            error=s.error / abs(unit),
            oracle=entry.oracle,
        )
        head = f"d {probe.label}/d {f.name}{_at(index)}"
        a, n = _digits(entry.analytic / unit, s.value / unit)
        lines.append(f"analytic   {a}")
        if f.verdict == "kink" or s.kind == "kink":
            sides = s.left / unit, s.right / unit
            lines.append(f"one-sided  {sides[0]:.7g} below, {sides[1]:.7g} above")
        else:
            error = f"{entry.oracle}, error < {report.error:.0e}"
            lines.append(f"numeric    {n}  ({error})")
        lines.append(_explained(f, entry, probe))
    lines += [f"rule: {rule}"] if rule else []
    others = [g for g in findings[1:] if g.verdict == "wrong"]
    lines += [f"also wrong: {g.name} ({g.detail})" for g in others]
    head = f"gradcheck: {f.verdict.upper()}  {head}"
    return replace(report, message="\n  ".join([head, *lines]))


def _passed(
    report: GradientReport, probe: _Probe, findings: list[_Finding]
) -> GradientReport:
    entries = sum(math.prod(f.shape) for f in findings)
    oracle = RIDDERS if any(f.oracle == RIDDERS for f in findings) else COMPLEX
    blind = max(f.blind for f in findings)
    names = ", ".join(f.name for f in findings)
    message = (
        f"gradcheck: pass  d {probe.label}/d ({names}): "
        f"none of {entries} entries is off by {blind:.0e} ({oracle})"
    )
    return replace(
        report, message=message, input=None, oracle=oracle, entries=entries, blind=blind
    )


def _digits(a: float, b: float) -> tuple[str, str]:
    """Write two numbers with as many digits as show their difference."""
    digits = 7
    if math.isfinite(a) and math.isfinite(b) and a != b:
        apart = abs(a - b) / max(abs(a), abs(b))
        digits = min(16, max(7, 3 - math.floor(math.log10(apart))))
    return f"{a:.{digits}g}", f"{b:.{digits}g}"


def _explained(f: _Finding, worst: _Entry, probe: _Probe) -> str:
    """Say of how many entries this is the worst, and what can be done."""
    entries = math.prod(f.shape)
    if f.verdict == "wrong":
        kink = "f has a kink here, but no such slope" if worst.slope.kind else ""
        facts = [f"worst of {entries} entries", f.detail, f.pattern, kink]
        return "; ".join(fact for fact in facts if fact)
    if f.verdict == "kink":
        why = {
            "kink": "f has no derivative here: its two sides differ",
            "jump": "f has no derivative here: it jumps, or gets ever steeper",
            "edge": "f is defined on one side of this point only",
        }[worst.slope.kind]
        return f"{why} ({f.differ} of {entries} entries); move the point"
    text = f"{f.differ} of {entries} entries cannot be told"
    if worst.slope.kind == "stairs":
        return f"{text}: f moves in stairs here (float32, or rounding, inside it?)"
    if probe.why and math.isnan(worst.slope.value):
        return f"{text}; nearby, f raised {probe.why}"
    return f"{text}: f is accurate to {probe.noise:.0e} only"


# --- The interface ------------------------------------------------------------------


def gradcheck(
    f: Any,
    inputs: Any,
    order: int = 1,
    rng: Rng = 0,
    oracle: str = "auto",
    allow: Sequence[str] = (),
) -> GradientReport:
    """Check the gradient of f at `inputs`; never raise about what it finds.

    Args:
        f: a function of Tensors, whose gradient the engine takes; or a pair of
            functions of plain arrays: `(f, gradient)` if f returns a number, with
            `gradient(*inputs)` returning its gradient with respect to the input, or a
            tuple of them, one for each; `(f, vjp)` if f returns an array, with
            `vjp(g, *inputs)` returning the same of sum(g * f). None stands for "no
            gradient"; those of integer inputs may be left out.
        inputs: an array, or several in a tuple or list. The floating ones are
            differentiated, integers are constants. Best in float64; float32 is
            checked in float64, and then against itself in float64. A Tensor that
            requires a gradient is checked in place, whether f takes it as an
            argument or reaches it otherwise:
            `gradcheck(lambda *_: model.loss(x), model.parameters())`.
        order: 2 checks the gradient of the gradient too (functions of Tensors only).
        rng: a seed, or a generator, for the cotangent and the directions.
        oracle: "auto"; "ridders", real differences only; "complex", which does not
            accept a function that the complex step does not hold for.
        allow: verdicts to accept beside "pass". An input with gradient zero is
            "vacuous", and not accepted, for a check that checks nothing is mostly a
            mistake; say allow=("vacuous",) where zero is right. A kink's verdict is
            "wrong", whatever is allowed, if the gradient is no mean of those nearby.

    Raises:
        TypeError, ValueError: the arguments make no sense; an input, a gradient or
            what f returns is a masked array with a mask set (other subclasses of
            ndarray are taken as plain arrays). What f itself raises at `inputs` is
            not caught.

    """
    if oracle not in ("auto", "complex", "ridders"):
        raise ValueError(f"gradcheck: oracle={oracle!r}; say auto, complex or ridders")
    if not set(allow) <= set(VERDICTS) or isinstance(allow, str):
        raise ValueError(f"gradcheck: allow={allow!r}; say some of {VERDICTS}")
    report = GradientReport("vacuous", False, "")
    for problem in _problems(f, inputs, order):
        report = _check(problem, rng, oracle, allow)
        if report.verdict != "vacuous" and not report:
            break
    return report


def assert_gradients(
    f: Any,
    inputs: Any,
    order: int = 1,
    rng: Rng = 0,
    oracle: str = "auto",
    allow: Sequence[str] = (),
) -> None:
    """Raise GradientError, with the report as its message, unless gradcheck is ok."""
    report = gradcheck(f, inputs, order, rng, oracle, allow)
    if not report:
        raise GradientError(report.message, report) from report.exception


def assert_detects(
    f: Any, inputs: Any, order: int = 1, rng: Rng = 0, oracle: str = "auto"
) -> None:
    """Check that a wrong gradient of f would be noticed.

    The gradient has to pass as it is. Then each input's is changed in turn: its sign,
    a factor of 1.001, one entry by 1 %, transposed (a square matrix), all zero. Each
    has to be found wrong, and the one entry named.

    Raises:
        GradientError: the gradient does not pass, or a change was not noticed.

    """
    assert_gradients(f, inputs, order, rng, oracle, allow=("vacuous",))
    problem = _problems(f, inputs, order)[-1]
    probe = _Probe(problem, np.random.default_rng(rng))
    tried = 0
    for j, g in enumerate(problem.gradient(problem.xs, probe.c)):
        for change, mutate in _mutations(g, probe.rng).items():
            tried += 1
            mutant = _Mutant(problem, j, mutate)
            report = _check(mutant, rng, oracle, find_rule=False)
            named = report.verdict == "wrong" and report.input == problem.names[j]
            if "at " in change:
                named = named and change.endswith(_at(report.index or ()))
            if not named:
                raise GradientError(
                    f"assert_detects: the gradient of {problem.names[j]} was changed "
                    f"({change}) and this was found:\n{report}",
                    report,
                )
    if not tried:
        report = GradientReport("vacuous", False, "assert_detects: each gradient is 0")
        raise GradientError(report.message, report)


def _mutations(g: Any, rng: np.random.Generator) -> dict[str, Callable[[Array], Array]]:
    """Return ways to make the gradient g wrong, by name; none if it is zero."""
    if g is None or not np.any(g):
        return {}
    large = np.argwhere(np.abs(g) >= 1e-3 * np.max(np.abs(g)))
    at = tuple(large[rng.integers(len(large))])
    one = np.ones(g.shape)
    one[at] = 1.01
    changes: dict[str, Callable[[Array], Array]] = {
        "sign": lambda g: -g,
        "factor 1.001": lambda g: g * 1.001,
        f"1 % at {_at(at)}": lambda g: g * one,
        "all zero": lambda g: 0.0 * g,
    }
    if g.ndim == 2 and g.shape[0] == g.shape[1] and not np.allclose(g, g.T, rtol=1e-2):
        changes["transposed"] = lambda g: g.T
    return changes


class _Mutant(_Problem):
    """A problem whose gradient of input j has been made wrong."""

    def __init__(
        self, problem: _Problem, j: int, mutate: Callable[[Array], Array]
    ) -> None:
        self.problem = problem
        self.j = j
        self.mutate = mutate
        self.names, self.xs, self.dtypes = problem.names, problem.xs, problem.dtypes
        self.may_be_zero = [True] * len(self.xs)
        self.label = problem.label

    def value(self, xs: list[Array]) -> Array:
        return self.problem.value(xs)

    def gradient(self, xs: list[Array], c: Array) -> list[Any]:
        found = list(self.problem.gradient(xs, c))
        found[self.j] = self.mutate(found[self.j])
        return found


def _problems(f: Any, inputs: Any, order: int) -> list[_Problem]:
    if order not in (1, 2):
        raise ValueError(f"gradcheck: order={order!r}; it is 1 or 2")
    if callable(f):
        first = _Recorded(f, inputs)
        return [first] if order == 1 else [first, _Second(first)]
    if not isinstance(f, (tuple, list)) or len(f) != 2 or not all(map(callable, f)):
        raise TypeError(
            "gradcheck: f must be a function of Tensors, or a pair (f, gradient)"
        )
    if order == 2:
        raise ValueError(
            "gradcheck: order=2 needs a function of Tensors; of a pair, check the "
            "gradient as a function by itself: (gradient, its vjp)"
        )
    return [_Pair(f[0], f[1], inputs)]


# --- Inputs to check at -------------------------------------------------------------


class strategies:
    """Hypothesis strategies for the inputs of gradient checks.

    Values come from a generator with a drawn seed. Hypothesis's own floats favour
    zeros, ties and extremes: points where few functions have a derivative. Hypothesis
    is imported when one of these is called.
    """

    @staticmethod
    def shapes(min_dims: int = 0, max_dims: int = 3, max_side: int = 4) -> Any:
        """Draw shapes without empty axes."""
        from hypothesis.extra.numpy import array_shapes

        return array_shapes(
            min_dims=min_dims, max_dims=max_dims, min_side=1, max_side=max_side
        )

    @staticmethod
    def broadcastable(n: int = 2, max_dims: int = 3, max_side: int = 4) -> Any:
        """Draw tuples of n shapes that broadcast together."""
        from hypothesis.extra.numpy import mutually_broadcastable_shapes

        shapes = mutually_broadcastable_shapes(
            num_shapes=n, max_dims=max_dims, min_side=1, max_side=max_side
        )
        return shapes.map(lambda found: tuple(found.input_shapes))

    @staticmethod
    def axes(ndim: int, several: bool = True) -> Any:
        """Draw an `axis` of an array with ndim axes: None, an int, or several."""
        from hypothesis import strategies as st

        if ndim == 0:
            return st.none()
        one = st.integers(-ndim, ndim - 1)
        some = st.lists(one, min_size=1, max_size=ndim, unique_by=lambda i: i % ndim)
        return st.one_of(st.none(), one, *([some.map(tuple)] if several else []))

    @staticmethod
    def arrays(
        shape: Any,
        lo: float = -2.0,
        hi: float = 2.0,
        avoid: Sequence[float] = (),
        margin: float = 0.05,
        distinct: bool = False,
        dtype: Any = np.float64,
    ) -> Any:
        """Draw arrays of a shape, which may be a strategy, with values in [lo, hi].

        None is nearer than `margin` to a point of `avoid`, where f may have a kink.
        With `distinct`, no two are nearer than half their mean distance: no ties.
        """
        from hypothesis import strategies as st

        ends = [lo, *(p + s * margin for p in sorted(avoid) for s in (-1, 1)), hi]
        cuts = zip(ends[::2], ends[1::2], strict=True)
        pieces = [(max(a, lo), min(b, hi)) for a, b in cuts]
        pieces = [(a, b) for a, b in pieces if a < b]
        if not pieces:
            raise ValueError(f"arrays: nothing is left of [{lo}, {hi}] beside {avoid}")

        def draw(shape: tuple[int, ...], seed: int) -> Array:
            rng = np.random.default_rng(seed)
            n = math.prod(shape)
            part = rng.random(n)
            if distinct:
                part = (rng.permutation(n) + 0.25 + 0.5 * part) / max(n, 1)
            # Lay the pieces end to end, and find the piece that each part falls into.
            starts, lengths = np.array([(a, b - a) for a, b in pieces]).T
            at = part * np.sum(lengths)
            ends = np.cumsum(lengths)
            k = np.minimum(np.searchsorted(ends, at), len(ends) - 1)
            values = starts[k] + at - (ends - lengths)[k]
            return values.reshape(shape).astype(dtype)

        if not isinstance(shape, st.SearchStrategy):
            shape = st.just(tuple(shape))
        return st.builds(draw, shape, st.integers(0, 2**32 - 1))
