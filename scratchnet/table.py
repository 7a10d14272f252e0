"""The table: how each function is called with Tensors and differentiated.

NumPy passes a call with a Tensor to the Tensor, which passes it to `apply`. `apply`
finds the row of the function in `TABLE`. The row computes the value on plain arrays
and records the call in the graph (graph.py).

    rule              one derivative for each input          np.exp, np.multiply
    rule_each         one derivative for a list of inputs    np.stack
    rewrite           made of other functions                np.split, np.einsum
    nondifferentiable derivative zero, or none               np.sign, np.argmax

The rows are in derivatives.py, compositions.py and functions.py. Read
"Entering rows" to add one, and "Rows" to learn what happens in a call.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import cache, cached_property, wraps
from importlib import import_module
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from scratchnet import anomaly, backend, checks
from scratchnet.anomaly import WATCHING
from scratchnet.backend import Array
from scratchnet.graph import (
    LISTS,
    Node,
    Variable,
    explained,
    holds_tensor,
    named,
    plain,
    recording,
)

__all__ = [
    "NoRuleError",
    "nondifferentiable",
    "primitive",
    "rewrite",
    "rule",
    "rule_each",
]

Axis = int | tuple[int, ...] | None
Function = Callable[..., Any]
_X = TypeVar("_X", bound=NDArray[Any] | Variable)
_More = ParamSpec("_More")


class NoRuleError(TypeError):
    """A function received a Tensor, and the table has no derivative of it."""


TABLE: dict[Function, _Row] = {}

# The function that the user called, while a rewrite computes it (see `rewrite`).
_called: ContextVar[Function | None] = ContextVar("scratchnet_called", default=None)


def apply(function: Function, args: Any, kwargs: Any) -> Any:
    """Call `function` by its row; some of the arguments are Tensors."""
    try:
        row = TABLE[function]
    except KeyError:
        row = _row_of(function, args)
    if kwargs or len(args) != row.usual:
        args, kwargs = row.accept(args, kwargs)
    return row.call(args, kwargs)


# The files that define rows. They import this file, so only their names are here.
_ROOMS = ("scratchnet.derivatives", "scratchnet.compositions", "scratchnet.functions")


def load() -> None:
    """Fill the table; keep the rows that were added before.

    The first lookup that finds nothing calls this, so the order of imports is free.
    """
    entered = dict(TABLE)
    for room in _ROOMS:
        import_module(room)
    TABLE.update(entered)


def _row_of(function: Function, args: Any) -> _Row:
    """Fill the table and return the row that `apply` did not find.

    Raises:
        NoRuleError: the full table has no such row.

    """
    load()
    if function in TABLE:
        return TABLE[function]
    name = _asked(function)
    raise NoRuleError(
        explained(
            f"{name} has no rule in the table of derivatives (shapes {shapes(args)})",
            wrong=[f"y = {name}(t)"],
            right=[
                f"scratchnet.rule({name}, lambda g, y, x: ...); y = {name}(t)",
                f"or, without a gradient: y = {name}(t.detach().numpy())",
            ],
            why="backward() needs the derivative of every function on its way",
        )
    )


# --- Entering rows ------------------------------------------------------------------
# Read this to add a function.


def rule(function: Function, *rules: Function | None) -> None:
    """Add the derivative of y = function(a, b, ...) to the table.

    Args:
        function: a NumPy function, or a function made by `primitive`.
        *rules: one rule for each array input, in order. `rule(g, y, a, b, ...)` takes
            g = dL/dy and returns dL/d(that input); None means zero everywhere. The
            parameters after g and y are the supported parameters of `function`. The
            result may have the shape that the input was broadcast to. A rule uses
            NumPy's functions only, so that it can be differentiated too.

    Raises:
        TypeError: an argument is not a function.
        ValueError: `rules` has no rule.

    """
    checks.function("rule", "function", function, "np.tanh")
    for each in rules:
        if each is not None:
            checks.function("rule", "a rule", each, "lambda g, y, x: g * (1 - y * y)")
    if not any(rules):
        raise ValueError(
            f"rule: no derivative is given for {name_of(function)}; if it is zero "
            "everywhere, use nondifferentiable()"
        )
    TABLE[function] = _Rule(function, rules)


def rule_each(function: Function, each: Function) -> None:
    """Add the derivative of y = function([a, b, ...], ...) to the table.

    `each(g, y, i, arrays, ...)` returns dL/d(arrays[i]).

    Raises:
        TypeError: an argument is not a function.

    """
    checks.function("rule_each", "function", function, "np.concatenate")
    checks.function("rule_each", "each", each, "lambda g, y, i, arrays: ...")
    TABLE[function] = RuleEach(function, each)


def rewrite(function: Function, definition: Function) -> None:
    """Compute `function` of Tensors by `definition`, which calls other functions.

    Use it for a function with several results, or for a combination of functions.

    Raises:
        TypeError: an argument is not a function.

    """
    checks.function("rewrite", "function", function, "np.var")
    checks.function("rewrite", "definition", definition, "lambda x: ...")
    TABLE[function] = _Rewrite(function, definition)


def nondifferentiable(*functions: Function) -> None:
    """Add functions whose derivative is zero or undefined; they return plain arrays.

    Raises:
        TypeError: an argument is not a function.

    """
    for function in functions:
        checks.function("nondifferentiable", "function", function, "np.sign")
        TABLE[function] = Nondifferentiable(function)


def primitive(
    forward: Callable[Concatenate[Array, _More], Array],
) -> Callable[Concatenate[_X, _More], _X]:
    """Let a function of plain arrays take Tensors; add its derivative with `rule`.

    >>> from scratchnet import grad
    >>> @primitive
    ... def cube(x):
    ...     return x * x * x
    >>> rule(cube, lambda g, y, x: 3 * g * x * x)
    >>> print(grad(cube)(2.0))
    12.0

    Raises:
        TypeError: `forward` is not a function.

    """
    checks.function("primitive", "forward", forward, "lambda x: x * x")

    @wraps(forward)
    def function(*args: Any, **kwargs: Any) -> Any:
        if any(map(holds_tensor, (*args, *kwargs.values()))):
            return apply(function, args, kwargs)
        return forward(*args, **kwargs)

    function.of_arrays = forward  # type: ignore[attr-defined]  # functions have none
    return function


def compute_by(function: Function, forward: Function) -> None:
    """Compute the values of a function in the table by another one."""
    TABLE[function].forward = forward


def value(function: Function, *arrays: Array) -> Array:
    """Return the value of a function in the table for plain arrays."""
    return TABLE[function].forward(*arrays)


def spelled(name: str, *helpers: Function) -> None:
    """Use `name` in the errors of `helpers`, primitives that have their own rows.

    The user who reads the error called `name` and does not know the helper.
    """
    for helper in helpers:
        TABLE[helper].name = name


# --- Rows ---------------------------------------------------------------------------
# Read this to learn what happens during a call.


class _Row:
    """One function in the table: how to call it with Tensors."""

    # The number of arguments of a usual call, all by position. Any other call goes
    # through `accept` first.
    usual = -1
    call: Function  # (args, kwargs) -> result
    forward: Function  # the function of plain arrays

    def __init__(self, function: Function, definition: Function, skip: int = 0) -> None:
        """Take the supported arguments from `definition`, after the first `skip`."""
        self.function = function
        self.definition = definition
        self.skip = skip
        self.accepted: set[tuple[Any, ...]] = set()

    @cached_property
    def name(self) -> str:
        """The name of the function in errors."""
        return name_of(self.function)

    @cached_property
    def signature(self) -> inspect.Signature:
        """The supported arguments; computed on first use, since few rows need it."""
        return inspect.signature(self.definition)

    def accept(self, args: Any, kwargs: Any) -> Any:
        """Bring a call into the usual form; refuse arguments without support."""
        by_keyword = False
        if kwargs:
            if kwargs.get("out") is not None:
                raise TypeError(
                    f"{_asked(self.function)}: out= cannot be used with Tensors; write "
                    "h = h + t instead of h += t, and bind the result to a new name"
                )
            given = (k for k in kwargs if not _is_default(self.function, k, kwargs[k]))
            kwargs = {k: kwargs[k] for k in given}
            by_keyword = any(map(holds_tensor, kwargs.values()))
        form = (len(args), *kwargs)
        if by_keyword or form not in self.accepted:
            try:
                if by_keyword:
                    bound = _signature(self.function).bind(*args, **kwargs)
                    args, kwargs = bound.args, bound.kwargs
                self.signature.bind(*(None,) * self.skip, *args, **kwargs)
            except TypeError:
                names = list(self.signature.parameters)[self.skip :]
                what = ", ".join(repr(k) for k in kwargs if k not in names)
                what = what or f"a call with {len(args)} positional arguments"
                raise TypeError(
                    f"{_asked(self.function)}: {what} is not supported with Tensors; "
                    f"it takes {', '.join(names)}"
                ) from None
            self.accepted.add(form)
        return args, kwargs


class _Recorded(_Row):
    """A row whose calls are recorded. Its subclasses know where the inputs are."""

    inputs: Function  # args -> the array inputs, which may have derivatives
    others: Function  # args -> the other arguments
    plain: Function  # args -> the same, with plain arrays instead of Tensors
    vjp: Function  # see graph.Row

    def __init__(self, function: Function, definition: Function, skip: int) -> None:
        super().__init__(function, definition, skip)
        # A primitive looks for Tensors first; call the function inside it directly.
        self.forward = getattr(function, "of_arrays", function)

    def accept(self, args: Any, kwargs: Any) -> Any:
        args, kwargs = super().accept(args, kwargs)
        for x in (*self.others(args), *kwargs.values()):
            if holds_tensor(x):
                raise TypeError(
                    f"{_asked(self.function)}: a Tensor was given for an argument that "
                    "has no derivative; pass its value, .detach().numpy()"
                )
        if kwargs:
            kwargs = _settled(self.function, _bare_values, kwargs)
        return args, kwargs

    def record(
        self,
        values: Any,
        tensor: Variable,
        wanted: bool,
        args: Any,
        kwargs: Any,
    ) -> Variable:
        """Compute the result from `values`, the plain `args`; record it if `wanted`.

        `tensor` is one of the inputs; its class is the class of the result.
        """
        f = self.forward
        try:
            result: Variable = tensor._result(
                f(*values, **kwargs) if kwargs else f(*values)
            )
        except (ValueError, TypeError, IndexError) as error:
            raise _with_shapes(error, self.function, self.inputs(args)) from error
        if WATCHING:
            anomaly.look(_asked(self.function), result._array, named(self.inputs(args)))
        if wanted and recording.get():
            kind = result._array.dtype.kind
            if kind == "f":
                node = result._node = Node(self, args, kwargs)
                result._requires_grad = True
                if WATCHING:
                    anomaly.remember(node.number)
            elif kind not in "iub":  # the derivative of integers and bools is zero
                raise _no_real_result(self.function, result.dtype)
        return result


class _Rule(_Recorded):
    """f(a, b, ...), with one rule for each input."""

    def __init__(self, function: Function, rules: Sequence[Function | None]) -> None:
        super().__init__(function, next(r for r in rules if r is not None), skip=2)
        self.usual = len(rules)
        self.rules = rules

    def call(self, args: Any, kwargs: Any) -> Variable:
        # Every call runs this, so one loop does all the work.
        values: list[Any] = []
        wanted = False
        for x in args:
            if isinstance(x, Variable):
                tensor = x
                if x._requires_grad:
                    wanted = True
                x = x._array
            elif type(x) not in _PLAIN:
                args = _settled(self.function, self.settle, args)
                x = args[len(values)]
            values.append(x)
        return self.record(values, tensor, wanted, args, kwargs)

    def inputs(self, args: Any) -> Any:
        return args[: self.usual]

    def others(self, args: Any) -> Any:
        return args[self.usual :]

    def plain(self, args: Any) -> Any:
        return [x._array if isinstance(x, Variable) else x for x in args]

    def settle(self, args: Any) -> Any:
        """Return the arguments with plain arrays for lists and for subclasses."""
        pairs = itertools.zip_longest(args, self.rules[: len(args)])
        return tuple(bare(x) if r is None else _array_of(x) for x, r in pairs)

    def vjp(self, i: int, g: Any, y: Any, args: Any, kwargs: Any) -> Any:
        rule = self.rules[i]
        return None if rule is None else rule(g, y, *args, **kwargs)


class RuleEach(_Recorded):
    """f([a, b, ...], ...), with one rule for all inputs; it takes their number i."""

    usual = 1

    def __init__(self, function: Function, rule: Function) -> None:
        super().__init__(function, rule, skip=3)
        self.rule = rule

    def call(self, args: Any, kwargs: Any) -> Variable:
        args = _settled(self.function, self.settle, args)
        tensors = [x for x in args[0] if isinstance(x, Variable)]
        wanted = any([x._requires_grad for x in tensors])
        values = self.plain(args)
        return self.record(values, tensors[0], wanted, args, kwargs)

    def settle(self, args: Any) -> Any:
        """Return the arguments with plain arrays for lists and for subclasses."""
        return tuple(map(_array_of, args[0])), *map(bare, args[1:])

    def inputs(self, args: Any) -> Any:
        return args[0]

    def others(self, args: Any) -> Any:
        return args[1:]

    def plain(self, args: Any) -> Any:
        return [[plain(x) for x in args[0]], *args[1:]]

    def vjp(self, i: int, g: Any, y: Any, args: Any, kwargs: Any) -> Any:
        return self.rule(g, y, i, *args, **kwargs)


class _Rewrite(_Row):
    """A function that is computed by other functions."""

    def call(self, args: Any, kwargs: Any) -> Any:
        if _called.get() is not None:
            return self.definition(*args, **kwargs)
        token = _called.set(self.function)
        try:
            args, kwargs = _bare_call(self.function, args, kwargs)
            return self.definition(*args, **kwargs)
        except (ValueError, TypeError, IndexError) as error:
            if str(error).startswith((name_of(self.function), "matmul")):
                raise
            raise _with_shapes(error, self.function, args) from error
        finally:
            _called.reset(token)


class Nondifferentiable(_Row):
    """A function that no gradient passes."""

    def __init__(self, function: Function) -> None:
        super().__init__(function, lambda *args, **kwargs: None)

    def call(self, args: Any, kwargs: Any) -> Any:
        """Call the function with plain arrays."""
        args, kwargs = _bare_call(self.function, args, kwargs)
        return self.function(*plain(args), **{k: plain(v) for k, v in kwargs.items()})


# --- Arguments ----------------------------------------------------------------------
# Read this when a call is refused, or an argument is converted.

# Types of arguments that contain no Tensor and need no conversion.
_PLAIN = frozenset((
    np.ndarray, int, float, bool, str, slice, type(None), type(...),
    np.float32, np.float64, np.int32, np.int64, np.bool_,
))  # fmt: skip


def _array_of(x: Any) -> Any:
    """Return an input as a rule needs it: a Tensor, a plain array or a number."""
    if type(x) in _PLAIN or isinstance(x, Variable):
        return x
    return backend.asarray(x) if isinstance(x, (list, tuple)) else backend.bare(x)


def bare(x: Any) -> Any:
    """Return x with plain arrays instead of subclasses, also inside lists."""
    if type(x) in _PLAIN or isinstance(x, Variable):
        return x
    if type(x) not in LISTS:
        return backend.bare(x)
    return x if _PLAIN.issuperset(map(type, x)) else type(x)(map(bare, x))


def _bare_values(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {k: bare(v) for k, v in kwargs.items()}


def _bare_call(
    function: Function, args: Any, kwargs: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the arguments of a call, `bare` applied to each."""
    for x in args:
        if type(x) not in _PLAIN and not isinstance(x, Variable):
            args = _settled(function, bare, tuple(args))
            break
    if kwargs:
        kwargs = _settled(function, _bare_values, kwargs)
    return args, kwargs


def _settled(function: Function, settle: Function, *args: Any) -> Any:
    """Return settle(*args); name `function` in its errors."""
    try:
        return settle(*args)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{_asked(function)}: {error}") from error


@cache
def _signature(function: Function) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:  # some of NumPy's C functions have no signature
        return inspect.Signature()


def _is_default(function: Function, key: str, v: Any) -> bool:
    """Return whether a keyword has its default value, such as where=True."""
    known = _signature(function).parameters
    return key in known and v is known[key].default


# --- Errors -------------------------------------------------------------------------
# Read this to learn how an error is worded.


def name_of(function: Function) -> str:
    """Return the name that a user would type: np.linalg.inv, sigmoid."""
    name: str = getattr(function, "__name__", repr(function))
    module = getattr(function, "__module__", None) or ""
    if vars(np).get(name) is function:
        return f"np.{name}"
    return f"np{module[5:]}.{name}" if module.startswith("numpy.") else name


def _asked(function: Function) -> str:
    """Name the function that the user called: `function`, or one that calls it."""
    asked = _called.get() or function
    row = TABLE.get(asked)
    return name_of(asked) if row is None else row.name


def shapes(args: Any) -> str:
    """Write the shapes of the arrays in `args`, also of those inside lists."""
    items = itertools.chain(*(x if type(x) in LISTS else (x,) for x in args))
    return ", ".join(str(x.shape) for x in items if hasattr(x, "shape"))


def _no_real_result(function: Function, dtype: np.dtype[Any]) -> TypeError:
    """Return the error for a result that cannot be differentiated."""
    if dtype.kind == "c":
        why = "is complex; only real functions can be differentiated"
    else:
        why = (
            f"has dtype {dtype}, which has no gradient; convert the other arguments "
            "to floats first, np.asarray(x, dtype=float)"
        )
    return TypeError(f"{_asked(function)}: the result {why}")


def _with_shapes(error: Exception, function: Function, inputs: Any) -> Exception:
    """Return NumPy's error with the function and the shapes in its message."""
    message = f"{_asked(function)} of shapes {shapes(inputs)}: {error}"
    if function is np.matmul and all(np.ndim(x) for x in inputs):
        a, b = (x.shape for x in inputs)
        inner = b[-2] if len(b) > 1 else b[-1]
        if a[-1] != inner:
            name = "matmul" if _called.get() is None else _asked(function)
            message = f"{name}: {a} @ {b}: inner sizes {a[-1]} and {inner} differ"
    numpys = (np.linalg.LinAlgError, np.exceptions.AxisError)
    kinds = (*numpys, ValueError, TypeError, IndexError)
    return next(kind(message) for kind in kinds if isinstance(error, kind))
