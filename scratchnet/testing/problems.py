"""The problem to check: a function and its gradient, in one form for all callers.

`Pair` holds two functions of plain arrays. `TensorFunction` holds a function of Tensors
with the engine's gradient. `SecondOrder` holds the gradient of such a function with its
own gradient. `adapters.problems_of` chooses among them and other libraries'.
"""

from __future__ import annotations

import abc
import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, SupportsInt, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scratchnet import checks
from scratchnet.graph import (
    Node,
    leaf_gradients,
    no_grad,
    plain,
    set_recording,
    steps_back,
)
from scratchnet.table import RuleEach, name_of
from scratchnet.tensor import Tensor

Array = NDArray[Any]
Function = Callable[..., Any]
Inputs = ArrayLike | Tensor | Iterable[ArrayLike | Tensor]

MAX_ALONE = 8  # up to this many entries, each is checked alone
MAX_NODES = 300  # how many recorded calls are searched for a wrong rule
COTANGENT = "its cotangent"


class Problem(abc.ABC):
    """A function and its gradient, both of a list `xs` of float64 arrays.

    Attributes:
        xs: the inputs that are differentiated.
        names: their names in a report.
        dtypes: their dtypes, as the caller gave them.
        may_be_zero: whether a gradient of zero may pass; otherwise it is vacuous.
        label: the name, in a report, of the number that is differentiated.
        max_alone: up to this many entries, each is checked alone.
        is_gradient: whether f is itself a gradient: then c is an input too.
        coarse: whether f is called in a precision below float64.
        notes: lines for the report.

    """

    xs: list[Array]
    names: list[str]
    dtypes: list[np.dtype[Any]]
    may_be_zero: list[bool]
    label = "sum(c * f)"
    max_alone = MAX_ALONE
    is_gradient = False
    coarse = False
    notes: Sequence[str] = ()

    @abc.abstractmethod
    def value(self, xs: list[Array]) -> Array:
        """Return f at `xs`."""

    @abc.abstractmethod
    def gradient(self, xs: list[Array], c: Array) -> list[Array | None]:
        """Return d sum(c * f)/dx for each x; None if no gradient reached it."""

    def jvp(self, xs: list[Array], vs: list[Array]) -> Array:
        """Return the derivative of f along vs, by forward mode.

        Raises:
            TypeError: there is no forward mode.

        """
        raise TypeError("gradcheck: forward mode needs a function of torch or JAX")

    def randomness(self) -> str:
        """Return, in words, what may make two calls differ."""
        return ""

    def output_at(self, k: int, shape: tuple[int, ...]) -> str:
        """Return the name of entry k of the outputs, which have this shape."""
        return f"f{subscript(np.unravel_index(k, shape))}"


class _OfInputs(Problem):
    """A problem with the inputs as the caller gave them.

    Floating inputs are differentiated, in float64; the others are constants.
    """

    def __init__(
        self, f: Function, inputs: Inputs, names: Sequence[str] | None = None
    ) -> None:
        self.f = f
        self.inputs = listed(inputs)
        names = names or _names(f, self.inputs)
        for name, x in zip(names, self.inputs, strict=True):
            _refuse_mask(x, name)
        self.constants: list[Array] = [np.asarray(plain(x)) for x in self.inputs]
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


def listed(inputs: Inputs) -> list[ArrayLike | Tensor]:
    """Return the inputs as a list, also a single input."""
    if isinstance(inputs, (np.ndarray, np.generic, Tensor)):
        return [inputs]
    return list(inputs) if isinstance(inputs, Iterable) else [inputs]


def _names(f: Function, inputs: Sequence[ArrayLike | Tensor]) -> list[str]:
    """Name each input by its Tensor, else by the parameter of f, else by position."""
    given = [x.name if isinstance(x, Tensor) else None for x in inputs]
    others = argument_names(f, len(inputs))
    return [name or other for name, other in zip(given, others, strict=True)]


def argument_names(f: Function, n: int) -> list[str]:
    """Name the first n arguments of f by its parameters, or else by position."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # a built-in
        parameters = []
    names = [p.name for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD]
    rest = [p.name for p in parameters if p.kind == p.VAR_POSITIONAL]
    first = len(names)
    for i in range(first, n):
        names.append(f"{rest[0]}[{i - first}]" if rest else f"input {i}")
    return names[:n]


class MaskedError(TypeError):
    """An input or a result is a masked array."""


class SeveralError(TypeError):
    """f returned several arrays, or complex numbers."""


def _refuse_mask(x: object, what: str) -> None:
    """Raise MaskedError for a masked array with masked entries."""
    try:
        checks.plain_array("gradcheck", what, plain(x))
    except TypeError as error:
        raise MaskedError(str(error)) from None


def _array(y: object) -> Array:
    """Return the result of f as an array of floats (complex, for a complex step)."""
    _refuse_mask(y, "the result of f")
    y = plain(y)
    if isinstance(y, (tuple, list, Mapping)):
        raise SeveralError(
            f"gradcheck: f returned {type(y).__name__}; it must return one array of "
            "floats"
        )
    if np.asarray(y).dtype.kind in "fc":
        return np.array(y)
    kind = getattr(y, "dtype", type(y).__name__)
    raise TypeError(f"gradcheck: f returned {kind}; it must return one array of floats")


# --- Functions of plain arrays ------------------------------------------------------


class Pair(_OfInputs):
    """Two functions of plain arrays: f, and its gradient or its vjp."""

    def __init__(
        self,
        f: Function,
        gradient: Function,
        inputs: Inputs,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(f, inputs, names)
        self.derivative = gradient
        y = self.value([self.constants[i] for i in self.places])
        if y.dtype.kind == "c":
            raise SeveralError(f"gradcheck: f returned {y.dtype}; it must be real")
        n, shape = len(self.inputs), y.shape
        self.takes_no_cotangent = shape == () and takes(gradient, n)
        if not self.takes_no_cotangent and not takes(gradient, n + 1):
            raise TypeError(
                f"gradcheck: f takes {n} inputs and returns shape {shape}, so the "
                "second of the pair must be "
                + ("gradient(*inputs)" if shape == () else "")
                + ("" if shape == () else "vjp(g, *inputs), g = dL/df of that shape")
            )

    def _arguments(self, xs: list[Array]) -> list[Array]:
        """Return copies of all inputs; the differentiated ones have the values `xs`."""
        args = [x.copy() for x in self.constants]  # f may write into its arguments
        for i, x in zip(self.places, xs, strict=True):
            args[i] = x.copy()
        return args

    def value(self, xs: list[Array]) -> Array:
        """Return f at `xs`."""
        return _array(self.f(*self._arguments(xs)))

    def gradient(self, xs: list[Array], c: Array) -> list[Array | None]:
        """Return c times the gradient, or vjp(c, *xs)."""
        args = self._arguments(xs)
        args_c = args if self.takes_no_cotangent else [c.copy(), *args]
        returned = self.derivative(*args_c)
        several = isinstance(returned, (tuple, list))
        found = list(returned) if several else [returned]
        if len(found) == len(args):
            found = [found[i] for i in self.places]
        if len(found) != len(xs):
            raise ValueError(
                f"{len(found)} gradients returned for {len(xs)} inputs; return one for "
                "each, or bind the constants: lambda w: f(w, x)"
            )
        for name, g in zip(self.names, found, strict=True):
            _refuse_mask(g, f"the gradient of {name}")
        arrays = [None if g is None else np.array(plain(g)) for g in found]
        if not self.takes_no_cotangent:
            return arrays
        return [None if g is None else g * float(c) for g in arrays]


def takes(f: Function, n: int) -> bool:
    """Return whether f can be called with n arguments."""
    try:
        inspect.signature(f).bind(*[None] * n)
    except ValueError:  # a built-in without a signature: the call itself will show
        return True
    except TypeError:
        return False
    return True


# --- Functions of Tensors -----------------------------------------------------------


class TensorFunction(_OfInputs):
    """A function of Tensors, with the engine's gradient.

    Arrays become new Tensors. An input that is a Tensor (a parameter of a model, which
    f may use without taking it as an argument) stays the same object: a call replaces
    its values and restores them afterwards.
    """

    def __init__(
        self, f: Function, inputs: Inputs, names: Sequence[str] | None = None
    ) -> None:
        super().__init__(f, inputs, names)
        tensors = [x for x in self.inputs if isinstance(x, Tensor)]
        if len(set(tensors)) < len(tensors):
            raise ValueError("gradcheck: one Tensor is given twice as an input")

    @contextlib.contextmanager
    def call(self, xs: list[Array], record: bool) -> Iterator[tuple[Any, list[Tensor]]]:
        """Yield the result of f at `xs` and the Tensors that it was computed from."""
        values = list(self.constants)
        for i, x in zip(self.places, xs, strict=True):
            values[i] = x
        lent = [(x, x._array) for x in self.inputs if isinstance(x, Tensor)]
        args: list[Tensor] = []
        try:
            for i, given in enumerate(self.inputs):
                if isinstance(given, Tensor):
                    # Not `.data =`, which would make the caller's graphs stale.
                    given._array = np.array(values[i])
                    args.append(given)
                else:
                    wanted = record and i in self.places
                    args.append(Tensor(np.array(values[i]), requires_grad=wanted))
            with set_recording(True) if record else no_grad():
                yield self.f(*args), [args[i] for i in self.places]
        finally:
            for tensor, data in lent:
                tensor._array = data

    def value(self, xs: list[Array]) -> Array:
        """Return f at `xs`, without recording."""
        with self.call(xs, record=False) as (y, _):
            return _array(y)

    def gradient(self, xs: list[Array], c: Array) -> list[Array | None]:
        """Return the engine's gradient of sum(c * f)."""
        with self.call(xs, record=True) as (y, variables):
            found = _vjp(y, c, variables)
            return [None if g is None else np.array(g) for g in found]

    def recorded_calls(self) -> Iterator[RecordedCall]:
        """Yield each call in the graph of f as a separate problem, oldest first."""
        with self.call(self.xs, record=True) as (y, _):
            steps = steps_back(y, set())[0] if isinstance(y, Tensor) else []
            nodes = [node for _, node, _ in steps[:MAX_NODES]]
            alone = [
                (_alone(n), [plain(x).copy() for _, x in n.inputs()]) for n in nodes
            ]
            places = [[i for i, _ in n.inputs()] for n in nodes]
        for node, at, (function, arrays) in zip(nodes, places, alone, strict=True):
            problem = TensorFunction(function, arrays)
            arguments = dict(zip(problem.names, at, strict=True))
            yield RecordedCall(name_of(node.function), arguments, problem)


class RecordedCall(NamedTuple):
    """One recorded call of a graph, as a separate problem.

    Attributes:
        function: the name of the function that was called.
        arguments: the name of each input of the problem -> its position in the call.
        problem: this function alone, at the recorded inputs.

    """

    function: str
    arguments: dict[str, int]
    problem: TensorFunction


C = TypeVar("C", Array, Tensor)


def _vjp(y: Any, c: C, variables: list[Tensor], keep: bool = False) -> list[C | None]:
    """Return d sum(c * y)/dx for each variable; no `.grad` changes.

    If the cotangent `c` is a Tensor, so are the gradients.
    """
    if not isinstance(y, Tensor) or not y.requires_grad:
        return [None] * len(variables)
    wanted = set(variables)
    again = isinstance(c, Tensor)
    start = c if again else np.array(c, dtype=y.dtype)
    steps, _ = steps_back(y, wanted)
    found = leaf_gradients(
        y, start, steps, create_graph=again, retain_graph=again or keep
    )
    return [found.get(x) for x in variables]


def _alone(node: Node) -> Function:
    """Make a function of the differentiated inputs of one recorded call."""
    given, kwargs, inputs = node.args, node.kwargs, list(node.row.inputs(node.args))
    places = [i for i, _ in node.inputs()]

    def function(*variables: Any) -> Any:
        args = list(inputs)
        for i, x in zip(places, variables, strict=True):
            args[i] = x
        if isinstance(node.row, RuleEach):
            return node.function(tuple(args), *given[1:], **kwargs)
        return node.function(*args, *given[len(args) :], **kwargs)

    return function


class SecondOrder(Problem):
    """The gradient as a function: (xs, cotangent) -> d sum(c * f)/dx, in one vector.

    The engine differentiates it through the recorded walk. The cotangent is an input
    too: for a linear f the gradient depends on no other input.
    """

    label = "sum(c * gradient of f)"
    max_alone = 1  # each value is a backward pass
    is_gradient = True

    def __init__(self, first: TensorFunction) -> None:
        c = random_signs(np.random.default_rng(1), first.value(first.xs).shape)
        self.first = first
        self.xs = [*first.xs, c]
        self.names = [*first.names, COTANGENT]
        self.dtypes = [x.dtype for x in self.xs]
        self.may_be_zero = [True] * len(first.xs) + [False]

    def value(self, xs: list[Array]) -> Array:
        """Return the gradients of all inputs in one vector."""
        return flatten(self.first.gradient(xs[:-1], xs[-1]), xs[:-1])

    def gradient(self, xs: list[Array], c: Array) -> list[Array | None]:
        """Return the engine's gradient of sum(c * gradients)."""
        total: list[Array | None] = [None] * len(xs)
        with self.first.call(xs[:-1], record=True) as (y, variables):
            seed = Tensor(xs[-1].copy(), requires_grad=True)
            first = _vjp(y, seed, variables)
            parts = np.split(c, np.cumsum([x.size for x in xs[:-1]])[:-1])
            for g, x, part in zip(first, xs, parts, strict=False):
                found = _vjp(g, part.reshape(x.shape), [*variables, seed], keep=True)
                for i, dx in enumerate(found):
                    if dx is not None:
                        before = total[i]
                        total[i] = dx if before is None else before + dx
        return total


# --- For all of them ----------------------------------------------------------------


def flatten(gradients: Sequence[Array | None], xs: Sequence[Array]) -> Array:
    """Return the gradients in one vector, with zeros for missing ones."""
    parts = [
        np.zeros(x.size) if g is None else np.ravel(g)
        for g, x in zip(gradients, xs, strict=True)
    ]
    return np.concatenate(parts)


def random_signs(rng: np.random.Generator, shape: int | tuple[int, ...]) -> Array:
    """Return random weights of both signs, with sizes between 0.5 and 1.5."""
    weights: Array = rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)
    return weights


def subscript(index: Sequence[SupportsInt]) -> str:
    """Write an index as in code: [17, 3]; empty for an array without axes."""
    return f"[{', '.join(str(int(i)) for i in index)}]" if len(index) else ""
