"""The table: for each function, how it is called with Tensors and differentiated.

NumPy hands a call with a Tensor to the Tensor, which passes it to `apply`. `apply`
looks the function up in `TABLE` and lets the row it finds do the rest: compute the
value on plain arrays, and note the call in the graph (graph.py).

    rule              one derivative for each input          np.exp, np.multiply
    rule_each         one derivative for a list of inputs    np.stack
    rewrite           made of other functions                np.split, np.einsum
    nondifferentiable derivative zero, or none               np.sign, np.argmax

The rows themselves stand in derivatives.py, compositions.py and functions.py. Read
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
    """A function was given a Tensor, and the table has no derivative for it."""


TABLE: dict[Function, _Row] = {}

# Which function the user called, while it is computed by others (see `rewrite`).
_called: ContextVar[Function | None] = ContextVar("scratchnet_called", default=None)


def apply(function: Function, args: Any, kwargs: Any) -> Any:
    """Call `function`, some of whose arguments are Tensors, as the table says."""
    try:
        row = TABLE[function]
    except KeyError:
        row = _row_of(function, args)
    if kwargs or len(args) != row.usual:
        args, kwargs = row.accept(args, kwargs)
    return row.call(args, kwargs)


# The files that define rows. They stand above this one, hence only their names.
_ROOMS = ("scratchnet.derivatives", "scratchnet.compositions", "scratchnet.functions")


def load() -> None:
    """Fill the table. Rows that were entered before stay as they are.

    The first lookup that finds nothing does this, so that no import comes too late.
    """
    entered = dict(TABLE)
    for room in _ROOMS:
        import_module(room)
    TABLE.update(entered)


def _row_of(function: Function, args: Any) -> _Row:
    """Return the row that `apply` did not find: of a table not yet filled.

    Raises:
        NoRuleError: the full table has none either.

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
    """Enter the derivative of y = function(a, b, ...) into the table.

    Args:
        function: a NumPy function, or one marked with `primitive`.
        *rules: one for each array input, in order: `rule(g, y, a, b, ...)` returns
            dL/d(that input), given g = dL/dy; None where it is zero everywhere. Its
            parameters after g and y are those of `function` that it supports. It
            may return the shape that the input was broadcast to. It is plain NumPy
            too, so that it can be differentiated itself.

    Raises:
        TypeError: something is not a function.
        ValueError: there is no rule among `rules`.

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
    """Enter the derivative of y = function([a, b, ...], ...) into the table.

    `each(g, y, i, arrays, ...)` returns dL/d(arrays[i]).

    Raises:
        TypeError: something is not a function.

    """
    checks.function("rule_each", "function", function, "np.concatenate")
    checks.function("rule_each", "each", each, "lambda g, y, i, arrays: ...")
    TABLE[function] = RuleEach(function, each)


def rewrite(function: Function, definition: Function) -> None:
    """Let `function` of Tensors be computed by `definition`, made of other functions.

    Use it for a function with several results, or for a name of a combination.

    Raises:
        TypeError: something is not a function.

    """
    checks.function("rewrite", "function", function, "np.var")
    checks.function("rewrite", "definition", definition, "lambda x: ...")
    TABLE[function] = _Rewrite(function, definition)


def nondifferentiable(*functions: Function) -> None:
    """Enter functions with derivative zero, or none: they return plain arrays.

    Raises:
        TypeError: something is not a function.

    """
    for function in functions:
        checks.function("nondifferentiable", "function", function, "np.sign")
        TABLE[function] = Nondifferentiable(function)


def primitive(
    forward: Callable[Concatenate[Array, _More], Array],
) -> Callable[Concatenate[_X, _More], _X]:
    """Let a function of plain arrays take Tensors; `rule` then says its derivative.

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


def spelled(name: str, *helpers: Function) -> None:
    """Have errors call `helpers`, primitives with rows of their own, by that name.

    A user who reads the error wrote `name`, and never heard of the helper.
    """
    for helper in helpers:
        TABLE[helper].name = name


# --- Rows ---------------------------------------------------------------------------
# Read this to learn what happens in a call.


class _Row:
    """What the table knows of one function: how to call it with Tensors."""

    # How many arguments a usual call has, all by position. Any other call passes
    # through `accept` first.
    usual = -1
    call: Function  # (args, kwargs) -> result

    def __init__(self, function: Function, definition: Function, skip: int = 0) -> None:
        """Note whose arguments, after its first few, are those supported."""
        self.function = function
        self.definition = definition
        self.skip = skip
        self.accepted: set[tuple[Any, ...]] = set()

    @cached_property
    def name(self) -> str:
        """What errors call the function."""
        return name_of(self.function)

    @cached_property
    def signature(self) -> inspect.Signature:
        """The supported arguments; read when first needed, as most rows never are."""
        return inspect.signature(self.definition)

    def accept(self, args: Any, kwargs: Any) -> Any:
        """Bring a call into the usual form; refuse what the row does not cover."""
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
    """A row whose calls are recorded; its two kinds say where in a call inputs are."""

    forward: Function  # the function of plain arrays
    inputs: Function  # args -> the array inputs, of which there may be derivatives
    others: Function  # args -> the rest
    plain: Function  # args -> the same with plain arrays for Tensors
    vjp: Function  # see graph.Row

    def __init__(self, function: Function, definition: Function, skip: int) -> None:
        super().__init__(function, definition, skip)
        # What a primitive wraps need not look for Tensors once more.
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
        """Compute it of `values`, the plain `args`; remember that if it is `wanted`.

        The result is of the class that `tensor`, one of the inputs, wraps arrays in.
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
            elif kind not in "iub":  # of these the derivative is zero
                raise _no_real_result(self.function, result.dtype)
        return result


class _Rule(_Recorded):
    """f(a, b, ...), with one rule for each input."""

    def __init__(self, function: Function, rules: Sequence[Function | None]) -> None:
        super().__init__(function, next(r for r in rules if r is not None), skip=2)
        self.usual = len(rules)
        self.rules = rules

    def call(self, args: Any, kwargs: Any) -> Variable:
        # Every call passes here, hence one loop for everything.
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
    """f([a, b, ...], ...), with one rule that is told which input is meant."""

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
    """A function that is made of others."""

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
    """A function that passes no gradient on."""

    def __init__(self, function: Function) -> None:
        super().__init__(function, lambda *args, **kwargs: None)

    def call(self, args: Any, kwargs: Any) -> Any:
        """Return what the function makes of the plain arrays."""
        args, kwargs = _bare_call(self.function, args, kwargs)
        return self.function(*plain(args), **{k: plain(v) for k, v in kwargs.items()})


# --- Arguments ----------------------------------------------------------------------
# Read this when a call is refused, or an argument arrives in another form.

# Types of arguments that need no look inside.
_PLAIN = frozenset((
    np.ndarray, int, float, bool, str, slice, type(None), type(...),
    np.float32, np.float64, np.int32, np.int64, np.bool_,
))  # fmt: skip


def _array_of(x: Any) -> Any:
    """Return an input as a rule wants it: a Tensor, a plain array or a number."""
    if type(x) in _PLAIN or isinstance(x, Variable):
        return x
    return backend.asarray(x) if isinstance(x, (list, tuple)) else backend.bare(x)


def bare(x: Any) -> Any:
    """Return x with plain arrays for subclasses of theirs, also inside lists."""
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
    """Return the arguments of a call, each as `bare` has it."""
    for x in args:
        if type(x) not in _PLAIN and not isinstance(x, Variable):
            args = _settled(function, bare, tuple(args))
            break
    if kwargs:
        kwargs = _settled(function, _bare_values, kwargs)
    return args, kwargs


def _settled(function: Function, settle: Function, *args: Any) -> Any:
    """Return settle(*args); an error of it names `function`."""
    try:
        return settle(*args)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{_asked(function)}: {error}") from error


@cache
def _signature(function: Function) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:  # some of NumPy's functions in C do not say
        return inspect.Signature()


def _is_default(function: Function, key: str, v: Any) -> bool:
    """Return whether a keyword has the value that means "not given": where=True."""
    known = _signature(function).parameters
    return key in known and v is known[key].default


# --- Errors -------------------------------------------------------------------------
# Read this to learn where the words of an error come from.


def name_of(function: Function) -> str:
    """Return the name that a reader would type: np.linalg.inv, sigmoid."""
    name: str = getattr(function, "__name__", repr(function))
    module = getattr(function, "__module__", None) or ""
    if vars(np).get(name) is function:
        return f"np.{name}"
    return f"np{module[5:]}.{name}" if module.startswith("numpy.") else name


def _asked(function: Function) -> str:
    """Name what the user called: `function`, or what is made of it."""
    asked = _called.get() or function
    row = TABLE.get(asked)
    return name_of(asked) if row is None else row.name


def shapes(args: Any) -> str:
    """Write the shapes of the arrays in `args`, also in a list among them."""
    items = itertools.chain(*(x if type(x) in LISTS else (x,) for x in args))
    return ", ".join(str(x.shape) for x in items if hasattr(x, "shape"))


def _no_real_result(function: Function, dtype: np.dtype[Any]) -> TypeError:
    """Return the error for a result that cannot be differentiated."""
    if dtype.kind == "c":
        why = "is complex; only real functions can be differentiated"
    else:
        why = (
            f"has dtype {dtype}, which has no gradient; make the other arguments "
            "floats first, np.asarray(x, dtype=float)"
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
