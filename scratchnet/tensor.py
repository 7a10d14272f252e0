"""The Tensor: a NumPy array that remembers which functions made it.

How a gradient is computed:

1. NumPy calls us. A `Tensor` answers NumPy's dispatch protocols, so `np.tanh(x)`
   arrives in `apply(np.tanh, (x,), {})`. NumPy computes the value on the plain
   arrays; nothing of the forward pass is written here.
2. If an input requires a gradient, the result keeps a `Node`: which function was
   called, with what. The Tensors and Nodes reachable from a result are its graph.
3. `loss.backward()` walks that graph from the newest Tensor to the oldest. Each
   Tensor t arrives with g = dL/dt complete, and the table of derivatives turns g
   into a contribution for each input of the function that made t.
4. Contributions to one Tensor add up. What reaches a leaf, a Tensor that no
   function made, becomes its `.grad`.

The table itself, NumPy function -> derivative, is in derivatives.py.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from functools import cache, cached_property, wraps
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from scratchnet import anomaly, backend, checks
from scratchnet.anomaly import WATCHING
from scratchnet.backend import Array

Axis = int | tuple[int, ...] | None
Function = Callable[..., Any]
Operator = Callable[["Tensor", Any], Any]


class NoRuleError(TypeError):
    """A function was given a Tensor, and the table has no derivative for it."""


class GraphError(ValueError):
    """The graph cannot be walked: freed, stale, or never recorded."""


# Whether functions of Tensors are recorded, for each thread on its own.
_recording: ContextVar[bool] = ContextVar("scratchnet_recording", default=True)

# The Tensors whose values the function under `grad` took out; None outside of one.
_reads: ContextVar[list[Tensor] | None] = ContextVar("scratchnet_reads", default=None)

# Which function the user called, while it is computed by others (see `rewrite`).
_called: ContextVar[Function | None] = ContextVar("scratchnet_called", default=None)

# A result is numbered after its inputs, so the order of numbers is a topological
# order of every graph. One count for the process: the numbers only order.
_numbers = itertools.count()

# Held while something is changed that threads share: `.grad`, the last write.
_lock = threading.RLock()


@contextlib.contextmanager
def _recording_set_to(on: bool) -> Iterator[None]:
    token = _recording.set(on)
    try:
        yield
    finally:
        _recording.reset(token)


def no_grad() -> contextlib.AbstractContextManager[None]:
    """Record nothing inside `with no_grad():`, in this thread.

    Results made inside are leaves that require no gradient.
    """
    return _recording_set_to(False)


# --- The graph ----------------------------------------------------------------------


class Node:
    """One recorded call: `function(*args, **kwargs)`, and its row of the table.

    It holds the inputs of the call and never its result, so a graph has no reference
    cycle: when the last Tensor over it goes, it is freed at once.
    """

    __slots__ = ("args", "function", "kwargs", "number", "row")

    def __init__(
        self, row: _Recorded, function: Function, args: Any, kwargs: Any
    ) -> None:
        """Note the call, and give it its place in the order."""
        self.number = next(_numbers)
        self.row = row
        self.function = function
        self.args = args
        self.kwargs = kwargs

    def inputs(self) -> list[tuple[int, Tensor]]:
        """Return the inputs that a gradient flows to, each with its position."""
        return [
            (i, x)
            for i, x in enumerate(self.row.inputs(self.args))
            if isinstance(x, Tensor) and x._requires_grad
        ]

    def vjp(self, i: int, g: Any, y: Any, args: Any) -> Any:
        """Turn g = dL/dy into dL/d(input i), or None where that is zero.

        With plain arrays for `g`, `y` and `args` (see `plain_args`) the result is an
        array; with Tensors it is a Tensor that can be differentiated again.
        """
        dx = self.row.vjp(i, g, y, args, self.kwargs)
        if dx is None:
            return None
        x = self.row.inputs(self.args)[i]
        try:
            return _unbroadcast(dx, x.shape, x.dtype)
        except ValueError as error:
            raise GraphError(
                f"{_spelled(self.function)}: its rule for argument {i} returned shape "
                f"{np.shape(dx)} for an input of shape {x.shape}"
            ) from error

    def look(self, i: int, dx: Any, g: Any) -> None:
        """Have `anomaly` look at what `vjp` made of g for input i."""
        inputs = _named(self.row.inputs(self.args))
        anomaly.look(
            f"the derivative of {_spelled(self.function)} by {inputs[i][0]}",
            plain(dx),
            [("dL/d(its result)", plain(g)), *inputs],
            self.number,
        )

    def plain_args(self) -> Any:
        """Return the arguments of the call with plain arrays for the Tensors."""
        return self.row.plain(self.args)

    def free(self) -> None:
        """Let go of the inputs; a walk that meets this node again is an error."""
        self.args = None


def _unbroadcast(g: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Bring a gradient to the shape and dtype of the input that it belongs to.

    An input that was broadcast was used once for each copy, and the gradients of the
    copies add up. No rule of the table needs to know that, nor about dtypes: float64
    partners make a rule's result float64, and it is cast back here.
    """
    if type(g) is not np.ndarray and not isinstance(g, Tensor):
        g = backend.asarray(g)
    if g.shape != shape:
        if np.broadcast_shapes(shape, g.shape) != g.shape:
            raise ValueError("not a shape that the input was broadcast to")
        padded = (1,) * (g.ndim - len(shape)) + shape
        copied = (i for i, n in enumerate(padded) if n != g.shape[i])
        g = np.reshape(np.sum(g, axis=tuple(copied)), shape)
    return g if g.dtype == dtype else g.astype(dtype)


# One step of the way back: a result, its node, and the inputs to send gradients to.
_Step = tuple["Tensor", Node, list[tuple[int, "Tensor"]]]


def _steps_back(output: Tensor, wanted: set[Tensor]) -> tuple[list[_Step], bool]:
    """Collect the steps from `output` back to the leaves, oldest first.

    With `wanted`, only those on a way to a wanted Tensor; the flag says whether the
    graph also reaches something else that requires a gradient. The stack is ours and
    not the interpreter's, so a chain of 100,000 calls is no deeper than one of 10.
    """
    seen = {output}
    stack = [output]
    steps: list[_Step] = []
    outside = False
    while stack:
        t = stack.pop()
        node = t._node
        if node is None or t in wanted:
            outside = outside or node is not None or t not in wanted
            continue
        if node.args is None:
            raise GraphError(
                f"backward: the graph through {_spelled(node.function)} was freed "
                "by an earlier backward(); pass retain_graph=True to the first one, "
                "or compute the loss again"
            )
        inputs = node.inputs()
        steps.append((t, node, inputs))
        for _, x in inputs:
            if x not in seen:
                seen.add(x)
                stack.append(x)
    steps.sort(key=lambda step: step[1].number)
    if wanted:
        leads = set(wanted)
        on_a_way = []
        for t, node, inputs in steps:
            inputs = [(i, x) for i, x in inputs if x in leads]
            if inputs:
                leads.add(t)
                on_a_way.append((t, node, inputs))
        steps = on_a_way
    return steps, outside


def _backpropagate(
    output: Tensor,
    gradient: Any,
    steps: list[_Step],
    create_graph: bool,
    retain_graph: bool,
) -> dict[Tensor, Any]:
    """Carry the gradient from `output` back; return what reached each leaf.

    Why newest first? Take `b = a + a; c = b + b`. When c is taken, its gradient 1
    goes to b twice: 2. Only when *both* have arrived may b be taken, and its 2 goes
    to a twice: 4, the right answer, for c = 4a. Taking b after the first arrival, as
    a walk in any other order might, would hand on a 1, and later another 1 or a 2. A
    function's inputs are older than its result, so newest first is always in time.
    """
    _check_unchanged(steps)
    gradients = {output: gradient}
    # An infinite derivative (sqrt at 0) is a value, not an accident.
    with _recording_set_to(create_graph), np.errstate(divide="ignore"):
        while steps:
            t, node, inputs = steps.pop()  # newest; popped: its memory may go
            g = gradients.pop(t, None)
            if g is not None:
                y = t if create_graph else t._array
                args = node.args if create_graph else node.plain_args()
                for i, x in inputs:
                    dx = node.vjp(i, g, y, args)
                    if dx is not None:
                        if WATCHING:
                            node.look(i, dx, g)
                        # Never in place: dx may be g itself, which others hold too.
                        gradients[x] = gradients[x] + dx if x in gradients else dx
            if not (retain_graph or create_graph):
                node.free()
    return _separate(gradients, create_graph)


def _separate(gradients: dict[Tensor, Any], as_tensors: bool) -> dict[Tensor, Any]:
    """Give every leaf an array of its own: of `a + b` both gradients are one."""
    taken: set[int] = set()
    for leaf, g in gradients.items():
        if as_tensors:  # which nobody writes
            gradients[leaf] = g if isinstance(g, Tensor) else _tensor(g)
        elif isinstance(g, np.generic):  # the sum of two arrays without axes
            gradients[leaf] = backend.asarray(g)
        elif g.base is not None or id(g) in taken:
            gradients[leaf] = g.copy()
        taken.add(id(g))
    return gradients


# --- Stale values -------------------------------------------------------------------

# When an array was last written, and when a Tensor was last given another one, on the
# count that numbers the nodes, by address. An address that is used again does no harm:
# whatever is there now was made, and read, after the number found.
_written: dict[int, int] = {}
_last_write = -1


def mark_modified(tensor: Tensor) -> None:
    """Say that the memory of `tensor` was written in place.

    Whoever writes a Tensor's `.data` (an optimiser, `load_state_dict`) calls this
    afterwards. A graph that read the old values, through this Tensor or any other
    over the same memory, then refuses to be walked, instead of giving gradients of a
    mixture of old and new.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"mark_modified: a {type(tensor).__name__} given, a Tensor expected"
        )
    _note_write(_memory(tensor._array))


def _note_write(address: int) -> None:
    global _last_write
    with _lock:
        _last_write = _written[address] = next(_numbers)


def _memory(array: Any) -> int:
    """Return the address of the object that owns the memory of an array, or view."""
    while (base := getattr(array, "base", None)) is not None:
        array = base
    return id(array)


def _check_unchanged(steps: list[_Step]) -> None:
    """Find, before the first rule runs, anything written since the graph read it."""
    for t, node, _ in steps:
        if node.number > _last_write:
            continue
        for x in (*node.row.inputs(node.args), t):
            places = (id(x), _memory(plain(x)))
            if any(_written.get(place, -1) > node.number for place in places):
                raise GraphError(
                    f"backward: {_label(x)} was changed in place after the graph read "
                    f"it (in {_spelled(node.function)}); compute the loss again after "
                    "the change, or call backward() before optimizer.step()"
                )


def _named(inputs: Any) -> list[tuple[str, Any]]:
    """Pair the inputs of a call with what a reader would call them."""
    return [
        (getattr(x, "name", None) or f"input {i}", plain(x))
        for i, x in enumerate(inputs)
    ]


def _label(x: Any) -> str:
    name = getattr(x, "name", None)
    return f"{repr(name) if name else f'a {type(x).__name__}'} of shape {np.shape(x)}"


# --- The table ----------------------------------------------------------------------


class _Row:
    """What the table knows of one function: how to call it with Tensors."""

    # How many arguments a usual call has, all by position. Any other call passes
    # through `accept` first.
    usual = -1
    call: Function  # (function, args, kwargs) -> result

    def __init__(self, definition: Function, skip: int = 0) -> None:
        """Note whose arguments, after its first few, are those supported."""
        self.definition = definition
        self.skip = skip
        self.accepted: set[tuple[Any, ...]] = set()

    @cached_property
    def signature(self) -> inspect.Signature:
        """What is supported; read when first asked for, as most rows never are."""
        return inspect.signature(self.definition)

    def accept(self, function: Function, args: Any, kwargs: Any) -> Any:
        """Bring a call into the usual form; refuse what the row does not cover."""
        by_keyword = False
        if kwargs:
            if kwargs.get("out") is not None:
                raise TypeError(
                    f"{_asked(function)}: out= cannot be used with Tensors; write "
                    "h = h + t instead of h += t, and bind the result to a new name"
                )
            given = (k for k in kwargs if not _is_default(function, k, kwargs[k]))
            kwargs = {k: kwargs[k] for k in given}
            by_keyword = any(map(_holds_tensor, kwargs.values()))
        form = (len(args), *kwargs)
        if by_keyword or form not in self.accepted:
            try:
                if by_keyword:
                    bound = _signature(function).bind(*args, **kwargs)
                    args, kwargs = bound.args, bound.kwargs
                self.signature.bind(*(None,) * self.skip, *args, **kwargs)
            except TypeError:
                names = list(self.signature.parameters)[self.skip :]
                what = ", ".join(repr(k) for k in kwargs if k not in names)
                what = what or f"a call with {len(args)} positional arguments"
                raise TypeError(
                    f"{_asked(function)}: {what} is not supported with Tensors; it "
                    f"takes {', '.join(names)}"
                ) from None
            self.accepted.add(form)
        return args, kwargs


class _Recorded(_Row):
    """A row whose calls are recorded; its two kinds say where in a call inputs are."""

    function: Function  # of plain arrays
    inputs: Function  # args -> the array inputs, of which there may be derivatives
    others: Function  # args -> the rest
    plain: Function  # args -> the same with plain arrays for Tensors
    vjp: Function  # see Node.vjp

    def __init__(self, function: Function, definition: Function, skip: int) -> None:
        super().__init__(definition, skip)
        # What a primitive wraps need not look for Tensors once more.
        self.function = getattr(function, "of_arrays", function)

    def accept(self, function: Function, args: Any, kwargs: Any) -> Any:
        args, kwargs = super().accept(function, args, kwargs)
        for x in (*self.others(args), *kwargs.values()):
            if _holds_tensor(x):
                raise TypeError(
                    f"{_asked(function)}: a Tensor was given for an argument that has "
                    "no derivative; pass its value, .detach().numpy()"
                )
        if kwargs:
            kwargs = _settled(function, _bare_values, kwargs)
        return args, kwargs

    def record(
        self, function: Function, values: Any, wanted: bool, args: Any, kwargs: Any
    ) -> Tensor:
        """Compute it of `values`, the plain `args`; remember that if it is `wanted`."""
        f = self.function
        try:
            result = _tensor(f(*values, **kwargs) if kwargs else f(*values))
        except (ValueError, TypeError, IndexError) as error:
            raise _with_shapes(error, function, self.inputs(args)) from error
        if WATCHING:
            anomaly.look(_asked(function), result._array, _named(self.inputs(args)))
        if wanted and _recording.get():
            kind = result._array.dtype.kind
            if kind == "f":
                node = result._node = Node(self, function, args, kwargs)
                result._requires_grad = True
                if WATCHING:
                    anomaly.remember(node.number)
            elif kind not in "iub":  # of these the derivative is zero
                raise _no_real_result(function, result.dtype)
        return result


class _Rule(_Recorded):
    """f(a, b, ...), with one rule for each input."""

    def __init__(self, function: Function, rules: Sequence[Function | None]) -> None:
        super().__init__(function, next(r for r in rules if r is not None), skip=2)
        self.usual = len(rules)
        self.rules = rules

    def call(self, function: Function, args: Any, kwargs: Any) -> Any:
        # Every call passes here, hence one loop for all that is to find out.
        values: list[Any] = []
        wanted = False
        for x in args:
            if isinstance(x, Tensor):
                if x._requires_grad:
                    wanted = True
                x = x._array
            elif type(x) not in _PLAIN:
                args = _settled(function, self.settle, args)
                x = args[len(values)]
            values.append(x)
        return self.record(function, values, wanted, args, kwargs)

    def inputs(self, args: Any) -> Any:
        return args[: self.usual]

    def others(self, args: Any) -> Any:
        return args[self.usual :]

    def plain(self, args: Any) -> Any:
        return [x._array if isinstance(x, Tensor) else x for x in args]

    def settle(self, args: Any) -> Any:
        """Return the arguments with plain arrays for lists and for subclasses."""
        pairs = itertools.zip_longest(args, self.rules[: len(args)])
        return tuple(_bare(x) if r is None else _array_of(x) for x, r in pairs)

    def vjp(self, i: int, g: Any, y: Any, args: Any, kwargs: Any) -> Any:
        rule = self.rules[i]
        return None if rule is None else rule(g, y, *args, **kwargs)


class _RuleEach(_Recorded):
    """f([a, b, ...], ...), with one rule that is told which input is meant."""

    usual = 1

    def __init__(self, function: Function, rule: Function) -> None:
        super().__init__(function, rule, skip=3)
        self.rule = rule

    def call(self, function: Function, args: Any, kwargs: Any) -> Any:
        args = _settled(function, self.settle, args)
        wanted = any([x._requires_grad for x in args[0] if isinstance(x, Tensor)])
        return self.record(function, self.plain(args), wanted, args, kwargs)

    def settle(self, args: Any) -> Any:
        """Return the arguments with plain arrays for lists and for subclasses."""
        return tuple(map(_array_of, args[0])), *map(_bare, args[1:])

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

    def call(self, function: Function, args: Any, kwargs: Any) -> Any:
        if _called.get() is not None:
            return self.definition(*args, **kwargs)
        token = _called.set(function)
        try:
            args, kwargs = _bare_call(function, args, kwargs)
            return self.definition(*args, **kwargs)
        except (ValueError, TypeError, IndexError) as error:
            if str(error).startswith((name_of(function), "matmul")):
                raise
            raise _with_shapes(error, function, args) from error
        finally:
            _called.reset(token)


class Nondifferentiable(_Row):
    """A function that passes no gradient on."""

    def __init__(self) -> None:
        super().__init__(lambda *args, **kwargs: None)

    def call(self, function: Function, args: Any, kwargs: Any) -> Any:
        """Return what the function makes of the plain arrays."""
        args, kwargs = _bare_call(function, args, kwargs)
        return function(*plain(args), **{k: plain(v) for k, v in kwargs.items()})


TABLE: dict[Function, _Row] = {}


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
        TypeError: something is no function.
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
    """
    checks.function("rule_each", "function", function, "np.concatenate")
    checks.function("rule_each", "each", each, "lambda g, y, i, arrays: ...")
    TABLE[function] = _RuleEach(function, each)


def rewrite(function: Function, definition: Function) -> None:
    """Let `function` of Tensors be computed by `definition`, made of other functions.

    For what has several results, and for what is only a name for a combination.
    """
    checks.function("rewrite", "function", function, "np.var")
    checks.function("rewrite", "definition", definition, "lambda x: ...")
    TABLE[function] = _Rewrite(definition)


def nondifferentiable(*functions: Function) -> None:
    """Enter functions with derivative zero, or none: they return plain arrays."""
    for function in functions:
        checks.function("nondifferentiable", "function", function, "np.sign")
        TABLE[function] = Nondifferentiable()


def primitive(forward: Function) -> Function:
    """Let a function of plain arrays take Tensors; `rule` then says its derivative.

    >>> @primitive
    ... def cube(x):
    ...     return x * x * x
    >>> rule(cube, lambda g, y, x: 3 * g * x * x)
    >>> print(grad(cube)(2.0))
    12.0
    """

    checks.function("primitive", "forward", forward, "lambda x: x * x")

    @wraps(forward)
    def function(*args: Any, **kwargs: Any) -> Any:
        if any(map(_holds_tensor, (*args, *kwargs.values()))):
            return apply(function, args, kwargs)
        return forward(*args, **kwargs)

    function.of_arrays = forward  # type: ignore[attr-defined]  # functions have none
    return function


def apply(function: Function, args: Any, kwargs: Any) -> Any:
    """Call `function`, some of whose arguments are Tensors, as the table says."""
    row = TABLE.get(function)
    if row is None:
        name = _asked(function)
        raise NoRuleError(
            f"{name} has no rule in the table of derivatives (shapes {_shapes(args)}); "
            f"add one with scratchnet.rule({name}, lambda g, y, x: ...), or pass plain "
            "arrays (tensor.detach().numpy()) if no gradient is needed"
        )
    if kwargs or len(args) != row.usual:
        args, kwargs = row.accept(function, args, kwargs)
    return row.call(function, args, kwargs)


def name_of(function: Function) -> str:
    """Return the name that a reader would type: np.linalg.inv, sigmoid."""
    name = getattr(function, "__name__", repr(function))
    module = getattr(function, "__module__", None) or ""
    if vars(np).get(name) is function:
        return f"np.{name}"
    return f"np{module[5:]}.{name}" if module.startswith("numpy.") else name


# What errors call the engine's own helpers: what a user writes to get there.
_SPELLED: dict[Function, str] = {}


def spelled(name: str, *helpers: Function) -> None:
    """Have errors call `helpers`, primitives with rows of their own, by that name."""
    _SPELLED.update(dict.fromkeys(helpers, name))


def _spelled(function: Function) -> str:
    return _SPELLED.get(function) or name_of(function)


def _asked(function: Function) -> str:
    """Name what the user called: `function`, or what is made of it."""
    return _spelled(_called.get() or function)


_LISTS = frozenset((list, tuple))

# Types of arguments that need no look inside.
_PLAIN = frozenset((
    np.ndarray, int, float, bool, str, slice, type(None), type(...),
    np.float32, np.float64, np.int32, np.int64, np.bool_,
))  # fmt: skip


def plain(x: Any) -> Any:
    """Replace each Tensor in `x`, also inside lists and tuples, by its array."""
    if isinstance(x, Tensor):
        return x._array
    if isinstance(x, (list, tuple)) and _holds_tensor(x):
        return type(x)(map(plain, x))
    return x


def _holds_tensor(x: Any) -> bool:
    if type(x) in _LISTS:
        return any(map(_holds_tensor, x))
    return isinstance(x, Tensor)


def _array_of(x: Any) -> Any:
    """Return an input as a rule wants it: a Tensor, a plain array or a number."""
    if type(x) in _PLAIN or isinstance(x, Tensor):
        return x
    return backend.asarray(x) if isinstance(x, (list, tuple)) else backend.bare(x)


def _bare(x: Any) -> Any:
    """Return x with plain arrays for subclasses of theirs, also inside lists."""
    if type(x) in _PLAIN or isinstance(x, Tensor):
        return x
    if type(x) not in _LISTS:
        return backend.bare(x)
    return x if _PLAIN.issuperset(map(type, x)) else type(x)(map(_bare, x))


def _bare_values(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {k: _bare(v) for k, v in kwargs.items()}


def _bare_call(function: Function, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return the arguments of a call, each as `_bare` has it."""
    for x in args:
        if type(x) not in _PLAIN and not isinstance(x, Tensor):
            args = _settled(function, _bare, tuple(args))
            break
    if kwargs:
        kwargs = _settled(function, _bare_values, kwargs)
    return args, kwargs


def _settled(function: Function, settle: Function, *args: Any) -> Any:
    """Return settle(*args); what it does not take is said to be of `function`."""
    try:
        return settle(*args)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{_asked(function)}: {error}") from error


def _no_real_result(function: Function, dtype: Any) -> TypeError:
    """Say that a result cannot be differentiated, and why."""
    if dtype.kind == "c":
        why = "is complex; only real functions can be differentiated"
    else:
        why = (
            f"has dtype {dtype}, which has no gradient; make the other arguments "
            "floats first, np.asarray(x, dtype=float)"
        )
    return TypeError(f"{_asked(function)}: the result {why}")


@cache
def _signature(function: Function) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:  # some of NumPy's functions in C do not say
        return inspect.Signature()


def _is_default(function: Function, key: str, v: Any) -> bool:
    """Say whether a keyword has the value that means "not given", like where=True."""
    known = _signature(function).parameters
    return key in known and v is known[key].default


def _shapes(args: Any) -> str:
    """Write the shapes of the arrays in `args`, also in a list among them."""
    items = itertools.chain(*(x if type(x) in _LISTS else (x,) for x in args))
    return ", ".join(str(x.shape) for x in items if hasattr(x, "shape"))


def _with_shapes(error: Exception, function: Function, inputs: Any) -> Exception:
    """Say in an error of NumPy's which function it was, and which shapes met."""
    message = f"{_asked(function)} of shapes {_shapes(inputs)}: {error}"
    if function is np.matmul and all(np.ndim(x) for x in inputs):
        a, b = (x.shape for x in inputs)
        inner = b[-2] if len(b) > 1 else b[-1]
        if a[-1] != inner:
            name = "matmul" if _called.get() is None else _asked(function)
            message = f"{name}: {a} @ {b}: inner sizes {a[-1]} and {inner} differ"
    numpys = (np.linalg.LinAlgError, np.exceptions.AxisError)
    kinds = (*numpys, ValueError, TypeError, IndexError)
    return next(kind(message) for kind in kinds if isinstance(error, kind))


# --- The Tensor ---------------------------------------------------------------------


def _operators(function: Function) -> tuple[Operator, Operator]:
    """Make the methods for `self op other` and `other op self`."""

    def operator(self: Tensor, other: Any) -> Any:
        return apply(function, (self, other), {})

    def reflected(self: Tensor, other: Any) -> Any:
        return apply(function, (other, self), {})

    return operator, reflected


def _method(function: Function) -> Function:
    """Make the method that is a NumPy function of the Tensor."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        return apply(function, (self, *args), kwargs)

    # Not wraps(): it would bring NumPy's docstring along, examples and all.
    method.__name__ = function.__name__
    method.__doc__ = f"Return np.{function.__name__} of this Tensor."
    return method


class Tensor:
    """An array whose history is recorded, so that it can be differentiated.

    Use it in NumPy's functions and operators like an array. It differs from one where
    a gradient would silently be lost or wrong: it cannot be written in place, and it
    becomes neither a plain array nor a float by itself.

    - `a += b` binds the name to a new Tensor; item assignment is an error.
    - `np.asarray(t)` and `float(t)` are errors while `t` requires a gradient, under
      `no_grad()` too, and with them all that asks for a float (`math.sin(t)`,
      `a[i] = t`). `t.item()` and `t.detach()` are the ways out.
    - `bool`, `int`, `round`, indices and formats work for a single element: their
      derivative is zero. `len`, iteration and `in` go along the first axis;
      comparisons give plain boolean arrays.
    - Hashing is by identity, so a Tensor can be a key.
    - Copies of a leaf (`copy.copy`, `copy.deepcopy`, `pickle`) are new leaves with
      their own memory; of what a function made they are an error, as is
      `Tensor(result)`. `np.copy(t)` is a recorded function like any other.

    Args:
        data: an array, which is shared and not copied; or numbers, which become
            float32 if they are floats.
        requires_grad: whether `backward()` shall leave dL/d(this) in `.grad`.
        name: what errors and the gradient checker call it.

    Raises:
        TypeError: `data` is not numeric, or requires a gradient and is not float; it
            is a masked array, or a Tensor that a function made.

    """

    __slots__ = ("__weakref__", "_array", "_node", "_requires_grad", "grad", "name")

    _array: np.ndarray  # or the backend's array, which answers the same calls
    _node: Node | None
    _requires_grad: bool
    grad: Any  # None, an array, or a Tensor after backward(create_graph=True)
    name: str | None

    def __init__(
        self,
        data: ArrayLike | Tensor,
        requires_grad: bool = False,
        name: str | None = None,
    ) -> None:
        """Make a leaf, as the class says."""
        if isinstance(data, Tensor):
            data._refuse_copy("Tensor(t)")
            data = data._array
        array = _numeric("Tensor: data", data)
        if array.dtype.kind == "f" and not backend.is_array(data):
            array = array.astype(np.float32)
        self._array = array
        self._node = None
        self.grad = None
        self.name = name
        self.requires_grad = requires_grad

    # What it is

    @property
    def data(self) -> Array:
        """The plain array. Call `mark_modified(tensor)` after writing into it."""
        self._note_read()
        return self._array

    @data.setter
    def data(self, array: Array) -> None:
        self._array = Tensor(array, self._requires_grad)._array
        _note_write(id(self))

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient flows to it; may be set for a leaf, to freeze it."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, on: bool) -> None:
        if on and self._array.dtype.kind != "f":
            raise TypeError(
                f"Tensor: data of dtype {self.dtype} has no gradient; "
                "use floats, or leave requires_grad off"
            )
        if self._node is not None and not on:
            raise GraphError(
                f"requires_grad: {_label(self)} was made by "
                f"{name_of(self._node.function)}; only a leaf can be frozen, use "
                ".detach()"
            )
        self._requires_grad = bool(on)

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self._array.shape

    @property
    def dtype(self) -> Any:
        """The type of the elements."""
        return self._array.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._array.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._array.size

    @property
    def T(self) -> Any:
        """The Tensor with its axes in reverse order."""
        return apply(np.transpose, (self,), {})

    def item(self) -> Any:
        """Return the only element as a Python number."""
        self._note_read()
        return self._array.item()

    def numpy(self) -> np.ndarray:
        """Return the values on the host; `.detach()` first if a gradient is required.

        Raises:
            TypeError: the Tensor requires a gradient.

        """
        self._refuse_if_gradient()
        return backend.to_numpy(self._array)

    def detach(self) -> Tensor:
        """Return a Tensor over the same memory that has no history."""
        self._note_read()
        return Tensor(self._array, name=self.name)

    # NumPy's protocols

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any
    ) -> Any:
        """Answer NumPy's elementwise functions (NEP 13), and arrays left of us."""
        if method != "__call__":
            instead = {
                "reduce": "np.sum, np.prod, np.max or np.min",
                "accumulate": "np.cumsum or np.cumprod",
                "outer": "a[:, None] and broadcasting",
            }.get(method, "indexing, np.where or np.concatenate")
            raise TypeError(
                f"np.{ufunc.__name__}.{method} of shapes {_shapes(inputs)} does not "
                f"take Tensors; use {instead}"
            )
        return apply(ufunc, inputs, kwargs)

    def __array_function__(
        self, function: Function, types: Any, args: Any, kwargs: Any
    ) -> Any:
        """Answer NumPy's other functions (NEP 18)."""
        return apply(function, args, kwargs)

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> Any:
        """Become a plain array, unless that would lose a gradient."""
        self._refuse_if_gradient()
        return np.asarray(self._array, dtype=dtype, copy=copy)

    def _refuse_if_gradient(self, becoming: str = "plain array") -> None:
        if self._requires_grad:
            raise TypeError(
                f"{_label(self)} that requires a gradient was about to become a "
                f"{becoming}, and the gradient lost; for a list of Tensors use "
                "np.stack(list) or np.concatenate(list) first, for its value "
                ".detach().numpy(), or .item() for a single number"
            )

    def _refuse_copy(self, copying: str) -> None:
        """Refuse a new leaf for what was made, or is an argument under `grad`."""
        if self._node is not None:
            which = f"which {_spelled(self._node.function)} made"
        elif _reads.get() is not None and self._requires_grad:
            which = "inside a function that grad differentiates"
        else:
            return
        raise TypeError(
            f"{copying} of {_label(self)}, {which}: the new Tensor would have no "
            "history, and the gradient would be lost; use the Tensor itself, or copy "
            "t.detach() or the leaves"
        )

    def _note_read(self) -> None:
        """Note for `grad` that values are taken out of what it differentiates."""
        reads = _reads.get()
        if reads is not None and self._requires_grad and _recording.get():
            reads.append(self)

    # The gradient

    def backward(
        self,
        gradient: ArrayLike | Tensor | None = None,
        retain_graph: bool = False,
        create_graph: bool = False,
        inputs: Iterable[Tensor] | None = None,
    ) -> None:
        """Add dL/d(leaf) to `.grad` of every leaf that this Tensor was made from.

        Args:
            gradient: dL/d(this), of this shape; may be left out for a single element,
                where it is 1.
            retain_graph: keep the graph, to walk it again. By default it is freed
                during the walk, so that memory falls as the walk proceeds.
            create_graph: record the walk itself, so that `.grad` is a Tensor that can
                be differentiated again. It keeps the graph, and the leaf with it:
                set `.grad` to None when done, or use `grad`, which stores nothing.
            inputs: the leaves that are wanted, if not all are: the gradient is carried
                to these only. (Of a GAN's generator, past a discriminator whose own
                parameters are not to learn from this.)

        Raises:
            GraphError: nothing to differentiate; the graph was freed by an earlier
                call; a Tensor was changed in place since the graph read it.
            ValueError: `gradient` is missing or has another shape; `inputs` is empty.
            TypeError: `inputs` has something that is no leaf.

        After any error every `.grad` is as it was.

        """
        if not self._requires_grad:
            raise GraphError(
                f"backward: {_label(self)} requires no gradient; was it made under "
                "no_grad(), or from Tensors without requires_grad=True?"
            )
        if gradient is None:
            if self.size != 1:
                raise ValueError(
                    f"backward: shape {self.shape} is not a single number; reduce it "
                    "first (np.sum, np.mean), or pass gradient= of that shape"
                )
            gradient = np.ones_like(self._array)
        given = _numeric("backward: gradient", plain(gradient))
        if given.dtype.kind == "c":
            raise TypeError("backward: gradient is complex; real numbers expected")
        if given.shape != self.shape:
            raise ValueError(
                f"backward: gradient of shape {given.shape} for a Tensor of shape "
                f"{self.shape}"
            )
        if not (create_graph and isinstance(gradient, Tensor)):
            gradient = given
        seed = cast(gradient, self.dtype)  # a copy, so that no leaf keeps the caller's
        if isinstance(inputs, Tensor) or not (inputs is None or np.iterable(inputs)):
            raise TypeError(
                f"backward: inputs is {inputs!r}; a list of leaves expected"
            )
        chosen = None if inputs is None else list(inputs)
        if chosen == []:
            raise ValueError("backward: inputs is empty; None stands for all leaves")
        for x in chosen or ():
            if not isinstance(x, Tensor) or x._node is not None:
                raise TypeError(f"backward: {_label(x)} in inputs is no leaf")
        wanted = set(chosen or ())
        steps, _ = _steps_back(self, wanted)
        found = _backpropagate(self, seed, steps, create_graph, retain_graph)
        if wanted:  # where nothing leads there, what is left is the seed
            found = {leaf: g for leaf, g in found.items() if leaf in wanted}
        with _lock:
            sums = {
                leaf: g if leaf.grad is None else leaf.grad + g
                for leaf, g in found.items()
            }
            for leaf, total in sums.items():
                # 0-d arrays add up to NumPy's scalars; `.grad` is always an array.
                total = _tensor(total) if isinstance(total, np.generic) else total
                leaf.grad = total if create_graph else plain(total)

    # Copies, printing, Python's own functions

    def __reduce__(self) -> Any:
        """Say how copies and pickles are made: of a leaf, as a new leaf."""
        self._refuse_copy("a copy or pickle")
        return type(self), (self._array.copy(), self._requires_grad, self.name)

    def __repr__(self) -> str:
        """Show the values, the dtype if it is not float32, and requires_grad."""
        values = np.array2string(
            backend.to_numpy(self._array), separator=", ", prefix="Tensor("
        )
        dtype = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        grad = ", requires_grad=True" if self._requires_grad else ""
        return f"Tensor({values}{dtype}{grad})"

    def __format__(self, spec: str) -> str:
        """Format a single element as the number that it is."""
        return format(self._array.item(), spec) if spec else str(self)

    def __bool__(self) -> bool:
        """Return the truth of a single element."""
        return bool(self._array)

    def __float__(self) -> float:
        """Return a single element as a float, unless that would lose a gradient."""
        self._refuse_if_gradient("float")
        return float(self._array.item())

    def __complex__(self) -> complex:
        """Return a single element as a complex, unless that would lose a gradient."""
        self._refuse_if_gradient("complex")
        return complex(self._array.item())

    def __int__(self) -> int:
        """Return a single element as an int."""
        return int(self._array.item())

    def __round__(self, ndigits: int | None = None) -> Any:
        """Return a single element rounded, as Python does."""
        return round(self._array.item(), ndigits)

    def __trunc__(self) -> Any:
        """Return a single element rounded towards zero."""
        return math.trunc(self._array.item())

    def __floor__(self) -> Any:
        """Return a single element rounded down."""
        return math.floor(self._array.item())

    def __ceil__(self) -> Any:
        """Return a single element rounded up."""
        return math.ceil(self._array.item())

    def __index__(self) -> int:
        """Return a single integer, for use as an index."""
        return self._array.__index__()

    def __len__(self) -> int:
        """Return the length of the first axis."""
        return len(self._array)

    def __iter__(self) -> Iterator[Any]:
        """Go along the first axis."""
        return (self[i] for i in range(len(self)))

    def __contains__(self, x: Any) -> bool:
        """Say whether any element equals x."""
        return bool((self == x).any())

    def __eq__(self, other: object) -> Any:
        """Compare element by element, as arrays do."""
        return self._array == _bare(plain(other))

    def __ne__(self, other: object) -> Any:
        """Compare element by element, as arrays do."""
        return self._array != _bare(plain(other))

    __hash__ = object.__hash__

    def __getitem__(self, key: Any) -> Any:
        """Return the elements at `key`, any index that NumPy takes."""
        return apply(getitem, (self, plain(key)), {})

    def __setitem__(self, key: Any, value: Any) -> None:
        """Refuse: the values may be needed by a gradient."""
        raise TypeError(
            f"item assignment on {_label(self)}: a Tensor is not written in place; "
            "build a new one with np.where(mask, new, old) or np.concatenate"
        )

    # Operators: each is the NumPy function of the same meaning

    __add__, __radd__ = _operators(np.add)
    __sub__, __rsub__ = _operators(np.subtract)
    __mul__, __rmul__ = _operators(np.multiply)
    __truediv__, __rtruediv__ = _operators(np.divide)
    __floordiv__, __rfloordiv__ = _operators(np.floor_divide)
    __mod__, __rmod__ = _operators(np.remainder)
    __pow__, __rpow__ = _operators(np.power)
    __matmul__, __rmatmul__ = _operators(np.matmul)
    __lt__, __gt__ = _operators(np.less)
    __le__, __ge__ = _operators(np.less_equal)
    __neg__ = _method(np.negative)
    __pos__ = _method(np.positive)
    __abs__ = _method(np.absolute)

    # Methods: each is the NumPy function of the same name

    sum = _method(np.sum)
    mean = _method(np.mean)
    prod = _method(np.prod)
    var = _method(np.var)
    std = _method(np.std)
    max = _method(np.max)
    min = _method(np.min)
    cumsum = _method(np.cumsum)
    cumprod = _method(np.cumprod)
    clip = _method(np.clip)
    dot = _method(np.dot)
    trace = _method(np.trace)
    diagonal = _method(np.diagonal)
    ravel = _method(np.ravel)
    flatten = _method(np.ravel)  # a Tensor is never written, so no copy is needed
    squeeze = _method(np.squeeze)
    swapaxes = _method(np.swapaxes)
    repeat = _method(np.repeat)
    take = _method(np.take)
    copy = _method(np.copy)
    argmax = _method(np.argmax)
    argmin = _method(np.argmin)
    argsort = _method(np.argsort)
    any = _method(np.any)
    all = _method(np.all)

    def reshape(self, *shape: Any) -> Any:
        """Return np.reshape(self, shape), the shape as one argument or several."""
        return apply(np.reshape, (self, shape[0] if len(shape) == 1 else shape), {})

    def transpose(self, *axes: Any) -> Any:
        """Return np.transpose(self, axes), the axes as one argument or several."""
        args = (self, axes[0] if len(axes) == 1 else axes) if axes else (self,)
        return apply(np.transpose, args, {})

    def astype(self, dtype: DTypeLike) -> Any:
        """Return the Tensor in another dtype; the gradient is cast back."""
        return cast(self, dtype)


def _numeric(what: str, data: Any) -> Array:
    """Return numbers, an array or lists of them, as an array of the backend."""
    try:
        array = backend.asarray(data)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{what} is no array: {error}") from None
    except TypeError as error:  # a list of Tensors, a mask
        raise TypeError(f"{what}: {error}") from None
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{what} of dtype {array.dtype} is not numeric")
    return array


def _tensor(data: Any) -> Tensor:
    """Make a result into a Tensor: `Tensor(data)` without its checks."""
    t = Tensor.__new__(Tensor)
    # NumPy's reductions return scalars; a Tensor's data is always an array.
    t._array = data if type(data) is np.ndarray else backend.asarray(data)
    t._node = None
    t._requires_grad = False
    t.grad = None
    t.name = None
    return t


# --- What NumPy has no function for -------------------------------------------------


@primitive
def getitem(x: Any, key: Any) -> Any:
    """Return x[key]."""
    return x[key]


@primitive
def scatter(values: Any, key: Any, like: Any) -> Any:
    """Return zeros of the shape of `like`, with `values` added in at [key]."""
    out = np.zeros_like(like, dtype=values.dtype)
    backend.scatter_add(out, key, values)
    return out


@primitive
def cast(x: Any, dtype: DTypeLike) -> Any:
    """Return x.astype(dtype)."""
    return x.astype(dtype)


@primitive
def where_or_zero(x: Any, mask: Any) -> Any:
    """Return np.where(mask, x, 0) for an array of booleans, several times as fast.

    np.where branches at each element, and no processor can guess which way. Here the
    bits of an element, taken for an integer, are multiplied by 1 or 0. (The element
    itself would not do: inf times 0 is NaN.)
    """
    if x.dtype.itemsize > 8:  # wider than any integer
        return np.where(mask, x, 0)
    return (x.view(f"i{x.dtype.itemsize}") * mask).view(x.dtype)


@primitive
def _alias(x: Any) -> Any:
    return x


spelled("indexing", getitem, scatter)
spelled("astype", cast)
spelled("np.where", where_or_zero)

# Indexing and adding in are each the derivative of the other.
rule(getitem, lambda g, y, x, key: scatter(g, key, x), None)
rule(scatter, lambda g, y, values, key, like: getitem(g, key), None, None)
rule(cast, lambda g, y, x, dtype: g)
rule(where_or_zero, lambda g, y, x, mask: where_or_zero(g, mask), None)
rule(_alias, lambda g, y, x: g)


# --- Gradients as functions ---------------------------------------------------------


def value_and_grad(f: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """Make the function that returns f(*args) and its gradient.

    Like `grad`, and returns the pair (value, gradient). The value is an array, as the
    gradient is, or a Tensor where the gradient is one.
    """
    positions = argnums if isinstance(argnums, tuple) else (argnums,)
    if not callable(f) or not all(isinstance(i, int) for i in positions):
        raise TypeError(
            f"grad: a function and positions of its arguments expected, not {f!r} and "
            f"{argnums!r}"
        )

    @wraps(f)
    def function(*args: Any, **kwargs: Any) -> Any:
        recording = _recording.get()
        inputs = list(args)
        for i in positions:
            if not -len(args) <= i < len(args):
                raise TypeError(
                    f"grad: argument {i} of {name_of(f)} is to be passed by position; "
                    f"{len(args)} were"
                )
            x = args[i]
            # An alias of an outer Tensor: what f reaches by another way stays apart.
            outer = recording and isinstance(x, Tensor) and x._requires_grad
            value = x._array if isinstance(x, Tensor) else x
            inputs[i] = _alias(x) if outer else Tensor(value, requires_grad=True)
        variables = [inputs[i] for i in positions]
        y = _recorded_call(f, inputs, kwargs, set(variables))
        if y.size != 1:
            raise ValueError(
                f"grad: {name_of(f)} returned shape {y.shape}; it must return a single "
                "number (np.sum or np.mean of it, say)"
            )
        found: dict[Tensor, Any] = {}
        again = False
        if y._requires_grad:
            steps, outside = _steps_back(y, set(variables))
            again = recording and outside
            seed = np.ones_like(y._array)
            found = _backpropagate(
                y, seed, steps, create_graph=again, retain_graph=False
            )
            for x in variables:
                # A leaf of our own has served; only outer Tensors get gradients later.
                if x._node is None:
                    x._requires_grad = False
        for x in variables:
            if x not in found:
                zero = np.zeros_like(x._array)
                found[x] = _tensor(zero) if again else zero
        result = tuple(found[x] for x in variables)
        value = y if again else y._array.copy()  # `f` may return what it was given
        return value, result if isinstance(argnums, tuple) else result[0]

    return function


def _recorded_call(f: Function, args: Any, kwargs: Any, variables: set[Tensor]) -> Any:
    """Return f(*args, **kwargs) as a Tensor, unless a gradient was lost on the way."""
    reads: list[Tensor] = []
    outer = _reads.get()
    token = _reads.set(reads)
    try:
        with _recording_set_to(True):
            y = f(*args, **kwargs)
    finally:
        _reads.reset(token)
        if outer is not None:
            outer.extend(reads)
    if isinstance(y, Tensor):
        return y
    value = Tensor(backend.asarray(y))  # an error if it is not made of numbers
    if _depend_on(reads, variables):
        raise GraphError(
            f"grad: {name_of(f)} returned a {type(y).__name__} and no Tensor, though "
            "it took values out of its argument, by .item(), .data or .detach(): there "
            "the gradient was lost; compute with the Tensor, or return Tensor(value) "
            "for what is meant as a constant"
        )
    return value


def _depend_on(tensors: list[Tensor], variables: set[Tensor]) -> bool:
    """Say whether any of the Tensors is, or was made from, one of the variables."""
    stack, seen = list(tensors), set(tensors)
    while stack:
        t = stack.pop()
        if t in variables:
            return True
        if t._node is not None and t._node.args is not None:
            new = {x for _, x in t._node.inputs()} - seen
            seen |= new
            stack.extend(new)
    return False


def grad(f: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """Make the function that returns the gradient of `f`, which returns one number.

    It stores nothing on leaves and can be nested: `grad(grad(f))` is the second
    derivative. The result is a plain array; it is a Tensor, part of the graph, where
    it also depends on Tensors outside that require a gradient (the parameters of a
    discriminator, in a gradient penalty), unless under `no_grad()`.

    A function that does not use its argument, or only by functions with derivative
    zero (`np.sign`, `np.argmax`, comparisons, `int`), has the gradient zero. But if it
    takes values out of the argument, or of what it made from it, by `.item()`,
    `.data` or `.detach()`, outside `no_grad()`, and then returns no Tensor, the
    gradient was lost on the way, and that is an error.

    Args:
        f: takes Tensors at the positions `argnums` and returns a single number.
        argnums: one position, or several; several give a tuple of gradients.

    Raises:
        ValueError: `f` returned more than one number.
        GraphError: it returned no Tensor, though it took values out of its argument.

    """
    both = value_and_grad(f, argnums)

    @wraps(f)
    def function(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return function
