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
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from scratchnet import backend
from scratchnet.backend import Array

Axis = int | tuple[int, ...] | None
Function = Callable[..., Any]


class NoRuleError(TypeError):
    """A function was given a Tensor, and the table has no derivative for it."""


class GraphError(ValueError):
    """The graph cannot be walked: freed, stale, or never recorded."""


# Whether functions of Tensors are recorded, for each thread on its own.
_recording: ContextVar[bool] = ContextVar("scratchnet_recording", default=True)

# A Tensor is made after its inputs, so numbers in order of making are a
# topological order of every graph. Process-wide: the numbers only order.
_numbers = itertools.count()


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


# --- Stale values -------------------------------------------------------------------


class _Version:
    """How often the memory of some Tensors has been written since they were made."""

    __slots__ = ("__weakref__", "number")

    def __init__(self) -> None:
        self.number = 0


# One cell for one piece of memory, found by the array that owns it. The Tensors hold
# the cell and the memory, so an entry lives as long as the address stays theirs.
_versions: WeakValueDictionary[int, _Version] = WeakValueDictionary()


def _version(tensor: Tensor) -> _Version:
    if tensor._version is None:
        owner = tensor._data
        while isinstance(owner.base, type(owner)):
            owner = owner.base
        tensor._version = _versions.setdefault(id(owner), _Version())
    return tensor._version


def changed(tensor: Tensor) -> None:
    """Say that the memory of `tensor` was written in place.

    Whoever writes a Tensor's `.data` (an optimiser, `load_state_dict`) calls this
    afterwards. A graph that read the old values then refuses to be walked, instead
    of giving gradients of a mixture of old and new.
    """
    _version(tensor).number += 1


# --- The graph ----------------------------------------------------------------------


class Node:
    """One recorded call: `function(*args, **kwargs)`, and its row of the table.

    It holds the inputs of the call and never its result, so a graph has no reference
    cycle: when the last Tensor over it goes, it is freed at once.
    """

    __slots__ = ("args", "function", "kwargs", "number", "row", "versions")

    def __init__(
        self, row: _Differentiable, function: Function, args: Any, kwargs: Any
    ) -> None:
        self.number = next(_numbers)
        self.row = row
        self.function = function
        self.args = args
        self.kwargs = kwargs
        # A Tensor that a function made needs no check of its own: the memory that it
        # may share with a leaf was read by its own node too.
        self.versions = [
            (x, _version(x), _version(x).number)
            for x in row.inputs(args)
            if isinstance(x, Tensor) and x._node is None
        ]

    def inputs(self) -> list[tuple[int, Tensor]]:
        """Return the inputs that a gradient flows to, each with its position."""
        return [
            (i, x)
            for i, x in enumerate(self.row.inputs(self.args))
            if isinstance(x, Tensor) and x.requires_grad
        ]

    def pull(self, i: int, g: Any, y: Any, args: Any) -> Any:
        """Turn g = dL/dy into dL/d(input i), or None where that is zero.

        With plain arrays for `g`, `y` and `args` (see `plain_args`) the result is an
        array; with Tensors it is a Tensor that can be differentiated again.
        """
        dx = self.row.pull(i, g, y, args, self.kwargs)
        if dx is None:
            return None
        x = self.row.inputs(args)[i]
        try:
            return _fit(dx, x.shape, x.dtype)
        except ValueError as error:
            raise GraphError(
                f"{name_of(self.function)}: its rule for argument {i} returned shape "
                f"{np.shape(dx)} for an input of shape {x.shape}"
            ) from error

    def plain_args(self) -> Any:
        """Return the arguments of the call with plain arrays for the Tensors."""
        return self.row.plain(self.args)

    def free(self) -> None:
        """Let go of the inputs; a walk that meets this node again is an error."""
        self.args = None
        self.versions = []


def _fit(g: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Bring a gradient to the shape and dtype of the input that it belongs to.

    An input that was broadcast was used once for each copy, and the gradients of the
    copies add up. No rule of the table needs to know that, nor about dtypes: float64
    partners make a rule's result float64, and it is cast back here.
    """
    if not isinstance(g, Tensor):
        g = backend.asarray(g)
    if g.shape != shape:
        extra = g.ndim - len(shape)
        stretched = (i for i, n in enumerate(shape, extra) if n == 1 != g.shape[i])
        g = np.sum(g, axis=(*range(extra), *stretched))
        g = np.reshape(g, shape)
    return g if g.dtype == dtype else g.astype(dtype)


def _graph(output: Tensor, wanted: set[Tensor] | None) -> tuple[list[Tensor], bool]:
    """Collect the recorded Tensors between `output` and the leaves, oldest first.

    With `wanted`, only those on a way to a wanted Tensor; the flag says whether the
    graph also reaches something else that requires a gradient. The stack is ours and
    not the interpreter's, so a chain of 100,000 calls is no deeper than one of 10.
    """
    seen = {output}
    stack = [output]
    found: list[Tensor] = []
    outside = False
    while stack:
        t = stack.pop()
        stop = wanted is not None and t in wanted
        if t._node is None or stop:
            outside = outside or not stop or t._node is not None
            continue
        if t._node.args is None:
            raise GraphError(
                f"backward: the graph through {name_of(t._node.function)} was freed "
                "by an earlier backward(); pass retain_graph=True to the first one, "
                "or compute the loss again"
            )
        found.append(t)
        for _, x in t._node.inputs():
            if x not in seen:
                seen.add(x)
                stack.append(x)
    found.sort(key=lambda t: t._node.number)  # type: ignore[union-attr]
    if wanted is not None:
        leads = set(wanted)
        for t in found:
            if any(x in leads for _, x in t._node.inputs()):  # type: ignore[union-attr]
                leads.add(t)
        found = [t for t in found if t in leads]
    return found, outside


def _walk(
    output: Tensor,
    gradient: Array,
    graph: list[Tensor],
    wanted: set[Tensor] | None,
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
    for t in graph:
        for x, version, number in t._node.versions:  # type: ignore[union-attr]
            if version.number != number:
                raise GraphError(
                    f"backward: {x._label()} was changed in place after the graph read "
                    f"it (in {name_of(t._node.function)}); "  # type: ignore[union-attr]
                    "compute the loss again after the change, or call backward() "
                    "before optimizer.step()"
                )
    on_the_way = None if wanted is None else set(graph) | wanted
    gradients: dict[Tensor, Any] = {output: gradient}
    # An infinite derivative (sqrt at 0) is a value, not an accident.
    with _recording_set_to(create_graph), np.errstate(divide="ignore"):
        while graph:
            t = graph.pop()  # newest; popped, so that its memory is free when done
            node = t._node
            g = gradients.pop(t, None)
            if node is None or g is None:
                continue
            y = t if create_graph else t._data
            args = node.args if create_graph else node.plain_args()
            for i, x in node.inputs():
                if on_the_way is not None and x not in on_the_way:
                    continue
                dx = node.pull(i, g, y, args)
                if dx is not None:
                    # Never in place: dx may be g itself, which others hold too.
                    gradients[x] = gradients[x] + dx if x in gradients else dx
            if not retain_graph:
                node.free()
    return gradients


# --- The table ----------------------------------------------------------------------


class _Row:
    """What the table knows of one function: how to call it with Tensors."""

    def __init__(self, function: Function, skip: int, arity: int) -> None:
        """Read from the signature of `function` which arguments a call may have."""
        code = function.__code__
        count = code.co_argcount
        self.arity = arity
        self.most = 999 if code.co_flags & 0x04 else count - skip  # 0x04: has *args
        self.names = code.co_varnames[skip : count + code.co_kwonlyargcount]

    def call(self, function: Function, args: Any, kwargs: Any) -> Any:
        raise TypeError

    def accept(self, function: Function, args: Any, kwargs: Any) -> Any:
        """Refuse, at the call, the arguments that the derivative does not cover."""
        name = name_of(function)
        if any(_holds_tensor(v) for v in kwargs.values()):
            args, kwargs = _bind(function, args, kwargs)
        kwargs = {k: v for k, v in kwargs.items() if k in self.names or not _unset(v)}
        for key, v in kwargs.items():
            if key not in self.names:
                raise TypeError(
                    f"{name}: the argument {key!r} is not supported for Tensors"
                    + (f" (supported: {', '.join(self.names)})" if self.names else "")
                )
            if _holds_tensor(v) and not isinstance(self, _Rewrite):
                raise TypeError(f"{name}: {key!r} cannot be a Tensor")
        if len(args) > self.most:
            raise TypeError(
                f"{name}: {len(args)} positional arguments, and with a Tensor at most "
                f"{self.most} are supported"
            )
        return args, kwargs


class _Differentiable(_Row):
    """A row whose calls are recorded; subclasses say where the inputs are."""

    def inputs(self, args: Any) -> Sequence[Any]:
        raise TypeError

    def plain(self, args: Any) -> Any:
        raise TypeError

    def pull(self, i: int, g: Any, y: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError

    def call(self, function: Function, args: Any, kwargs: Any) -> Any:
        try:
            data = function(*self.plain(args), **kwargs)
        except (ValueError, TypeError) as error:
            raise _with_shapes(error, function, self.inputs(args)) from error
        result = _tensor(data)
        if _recording.get():
            for x in self.inputs(args):
                if isinstance(x, Tensor) and x.requires_grad:
                    kind = result._data.dtype.kind
                    if kind == "f":
                        result._node = Node(self, function, args, kwargs)
                        result.requires_grad = True
                    elif kind == "c":
                        raise TypeError(
                            f"{name_of(function)}: the result is complex; only real "
                            "functions can be differentiated"
                        )
                    break
        return result


class _Rule(_Differentiable):
    def __init__(self, rules: tuple[Function | None, ...]) -> None:
        written = next(r for r in rules if r is not None)
        super().__init__(written, skip=2, arity=len(rules))
        self.rules = rules

    def inputs(self, args: Any) -> Sequence[Any]:
        return args[: self.arity]  # type: ignore[no-any-return]

    def plain(self, args: Any) -> Any:
        return [x._data if isinstance(x, Tensor) else x for x in args]

    def pull(self, i: int, g: Any, y: Any, args: Any, kwargs: Any) -> Any:
        rule = self.rules[i]
        return None if rule is None else rule(g, y, *args, **kwargs)


class _RuleEach(_Differentiable):
    def __init__(self, rule: Function) -> None:
        super().__init__(rule, skip=3, arity=1)
        self.rule = rule

    def inputs(self, args: Any) -> Sequence[Any]:
        return args[0]  # type: ignore[no-any-return]

    def plain(self, args: Any) -> Any:
        arrays = [x._data if isinstance(x, Tensor) else x for x in args[0]]
        return [arrays, *args[1:]]

    def pull(self, i: int, g: Any, y: Any, args: Any, kwargs: Any) -> Any:
        return self.rule(g, y, i, *args, **kwargs)

    def call(self, function: Function, args: Any, kwargs: Any) -> Any:
        return super().call(function, (tuple(args[0]), *args[1:]), kwargs)


class _Rewrite(_Row):
    def __init__(self, definition: Function) -> None:
        super().__init__(definition, skip=0, arity=-1)
        self.definition = definition

    def call(self, function: Function, args: Any, kwargs: Any) -> Any:
        return self.definition(*args, **kwargs)


class _Constant(_Row):
    def __init__(self) -> None:
        self.arity = -1

    def accept(self, function: Function, args: Any, kwargs: Any) -> Any:
        return args, kwargs

    def call(self, function: Function, args: Any, kwargs: Any) -> Any:
        args = [plain(x) for x in args]
        return function(*args, **{k: plain(v) for k, v in kwargs.items()})


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

    """
    TABLE[function] = _Rule(rules)


def rule_each(function: Function, each: Function) -> None:
    """Enter the derivative of y = function([a, b, ...], ...) into the table.

    `each(g, y, i, arrays, ...)` returns dL/d(arrays[i]).
    """
    TABLE[function] = _RuleEach(each)


def rewrite(function: Function, definition: Function) -> None:
    """Let `function` of Tensors be computed by `definition`, made of other functions.

    For what has several results, and for what is only a name for a combination.
    """
    TABLE[function] = _Rewrite(definition)


def constant(*functions: Function) -> None:
    """Enter functions with derivative zero, or none: they return plain arrays."""
    for function in functions:
        TABLE[function] = _Constant()


def primitive(forward: Function) -> Function:
    """Let a function of plain arrays take Tensors; `rule` then says its derivative.

        @primitive
        def cube(x):
            return x * x * x

        rule(cube, lambda g, y, x: 3 * g * x * x)
    """

    @wraps(forward)
    def function(*args: Any, **kwargs: Any) -> Any:
        if any(map(_holds_tensor, args)) or any(map(_holds_tensor, kwargs.values())):
            return apply(function, args, kwargs)
        return forward(*args, **kwargs)

    return function


def apply(function: Function, args: Any, kwargs: Any) -> Any:
    """Call `function`, some of whose arguments are Tensors, as the table says."""
    row = TABLE.get(function)
    if row is None:
        name = name_of(function)
        raise NoRuleError(
            f"{name} has no rule in the table of derivatives; add one with "
            f"scratchnet.rule({name}, lambda g, y, x: ...), or pass plain arrays "
            "(tensor.detach().numpy()) if no gradient is needed"
        )
    if kwargs or len(args) != row.arity:
        if kwargs.get("out") is not None:
            raise TypeError(
                f"{name_of(function)}: out= cannot be used with Tensors; write "
                "h = h + t instead of h += t, and bind the result to a new name"
            )
        args, kwargs = row.accept(function, args, kwargs)
    return row.call(function, args, kwargs)


def name_of(function: Function) -> str:
    """Return the name that a reader would type: np.linalg.inv, sigmoid."""
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__name__", repr(function))
    if isinstance(function, np.ufunc) or module == "numpy":
        return f"np.{name}"
    return f"np.linalg.{name}" if module == "numpy.linalg" else name


def _unset(v: Any) -> bool:
    """Say whether an argument has the value that means "not given"."""
    return v is None or v is True or v is np._NoValue  # type: ignore[attr-defined]


def _holds_tensor(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return any(map(_holds_tensor, x))
    return isinstance(x, Tensor)


def plain(x: Any) -> Any:
    """Replace each Tensor in `x`, also inside lists and tuples, by its array."""
    if isinstance(x, Tensor):
        return x._data
    if isinstance(x, (list, tuple)) and _holds_tensor(x):
        return type(x)(plain(v) for v in x)
    return x


def _bind(function: Function, args: Any, kwargs: Any) -> Any:
    """Move what was passed by keyword to its position, by NumPy's own signature."""
    import inspect  # only here, so that importing scratchnet need not

    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except ValueError:
        names = [k for k, v in kwargs.items() if _holds_tensor(v)]
        raise TypeError(
            f"{name_of(function)}: pass the Tensor {', '.join(names)} by position"
        ) from None
    return bound.args, bound.kwargs


def _with_shapes(error: Exception, function: Function, inputs: Any) -> Exception:
    """Say in an error of NumPy's which shapes met where."""
    shapes = [np.shape(x) for x in inputs if isinstance(x, Tensor) or np.ndim(x)]
    if function is np.matmul and all(shapes) and isinstance(error, ValueError):
        a, b = shapes
        inner = b[-2] if len(b) > 1 else b[-1]
        if a[-1] != inner:
            return ValueError(
                f"matmul: {a} @ {b}: inner sizes {a[-1]} and {inner} differ"
            )
    named = type(error) if type(error) in (ValueError, TypeError) else ValueError
    return named(f"{name_of(function)} of shapes {shapes}: {error}")


# --- The Tensor ---------------------------------------------------------------------


class Tensor:
    """An array whose history is recorded, so that it can be differentiated.

    Use it in NumPy's functions and operators like an array. It differs from one where
    a gradient would silently be lost or wrong: it cannot be written in place, and it
    does not become a plain array by itself.

    - `a += b` binds the name to a new Tensor; item assignment is an error.
    - `np.asarray(t)` is an error while `t` requires a gradient.
    - `bool`, `float`, `int` and formats work for a single element; `len`, iteration
      and `in` go along the first axis; comparisons give plain boolean arrays.
    - Hashing is by identity, so a Tensor can be a key.
    - Copies (`copy.copy`, `copy.deepcopy`, `pickle`) are new leaves with their own
      memory and no history. `np.copy(t)` is a recorded function like any other.

    Args:
        data: an array, which is shared and not copied; or numbers, which become
            float32 if they are floats.
        requires_grad: whether `backward()` shall leave dL/d(this) in `.grad`.
        name: what errors and the gradient checker call it.

    Raises:
        TypeError: `data` is not numeric, or requires a gradient and is not float.

    """

    __slots__ = (
        "__weakref__",
        "_data",
        "_node",
        "_version",
        "grad",
        "name",
        "requires_grad",
    )

    _data: Array
    _node: Node | None
    _version: _Version | None
    grad: Any  # None, an array, or a Tensor after backward(create_graph=True)
    name: str | None
    requires_grad: bool

    def __init__(
        self, data: ArrayLike | Tensor, requires_grad: bool = False, name: str | None = None
    ) -> None:
        if isinstance(data, Tensor):
            data = data._data
        array = backend.asarray(data)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"Tensor: data of dtype {array.dtype} is not numeric")
        if array.dtype.kind == "f" and not backend.is_array(data):
            array = array.astype(np.float32)
        if requires_grad and array.dtype.kind != "f":
            raise TypeError(
                f"Tensor: data of dtype {array.dtype} has no gradient; "
                "use floats, or leave requires_grad off"
            )
        self._data = array
        self._node = None
        self._version = None
        self.grad = None
        self.name = name
        self.requires_grad = requires_grad

    # What it is

    @property
    def data(self) -> Array:
        """The plain array. Call `changed(tensor)` after writing into it."""
        return self._data

    @data.setter
    def data(self, array: Array) -> None:
        changed(self)
        self._data = Tensor(array, self.requires_grad)._data
        self._version = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self._data.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        """The type of the elements."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._data.size  # type: ignore[no-any-return]

    @property
    def T(self) -> Tensor:
        """The Tensor with its axes in reverse order."""
        return np.transpose(self)  # type: ignore[call-overload, no-any-return]

    def item(self) -> Any:
        """Return the only element as a Python number."""
        return self._data.item()

    def numpy(self) -> np.ndarray:
        """Return the values on the host; `.detach()` first if a gradient is required.

        Raises:
            TypeError: the Tensor requires a gradient.

        """
        return backend.to_numpy(self.__array__())

    def detach(self) -> Tensor:
        """Return a Tensor over the same memory that has no history."""
        return Tensor(self._data)

    def _label(self) -> str:
        kind = "a Tensor" if self.name is None else f"{self.name!r}"
        return f"{kind} of shape {self.shape}"

    # NumPy's protocols

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any
    ) -> Any:
        if method != "__call__":
            instead = {
                "reduce": "np.sum, np.prod, np.max or np.min",
                "accumulate": "np.cumsum or np.cumprod",
                "outer": "a[:, None] and broadcasting",
            }.get(method, "indexing, np.where or np.concatenate")
            raise TypeError(
                f"np.{ufunc.__name__}.{method} does not take Tensors; use {instead}"
            )
        return apply(ufunc, inputs, kwargs)

    def __array_function__(
        self, function: Function, types: Any, args: Any, kwargs: Any
    ) -> Any:
        return apply(function, args, kwargs)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Any:
        if self.requires_grad:
            raise TypeError(
                "a Tensor that requires a gradient was about to become a plain array, "
                "and the gradient lost; for a list of Tensors use np.stack(list) or "
                "np.concatenate(list) first, for its value .detach().numpy()"
            )
        array = self._data if dtype is None else self._data.astype(dtype)
        return array.copy() if copy else array

    # The gradient

    def backward(
        self,
        gradient: ArrayLike | None = None,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> None:
        """Add dL/d(leaf) to `.grad` of every leaf that this Tensor was made from.

        Args:
            gradient: dL/d(this), of this shape; may be left out for a single element,
                where it is 1.
            retain_graph: keep the graph, to walk it again. By default it is freed
                during the walk, so that memory falls as the walk proceeds.
            create_graph: record the walk itself, so that `.grad` is a Tensor that can
                be differentiated again. It keeps the graph.

        Raises:
            GraphError: nothing to differentiate; the graph was freed by an earlier
                call; a Tensor was changed in place since the graph read it. No
                `.grad` is touched then.
            ValueError: `gradient` is missing or has another shape.

        """
        if not self.requires_grad:
            raise GraphError(
                "backward: this Tensor requires no gradient; was it made under "
                "no_grad(), or from Tensors without requires_grad=True?"
            )
        if gradient is None:
            if self.size != 1:
                raise ValueError(
                    f"backward: shape {self.shape} is not a single number; reduce it "
                    "first (np.sum, np.mean), or pass gradient= of that shape"
                )
            seed = np.ones_like(self._data)
        else:
            seed = backend.asarray(plain(gradient), self.dtype).copy()
            if seed.shape != self.shape:
                raise ValueError(
                    f"backward: gradient of shape {seed.shape} for a Tensor of shape "
                    f"{self.shape}"
                )
        start = _tensor(seed) if create_graph else seed
        graph, _ = _graph(self, None)
        found = _walk(self, start, graph, None, create_graph, retain_graph or create_graph)
        for leaf, g in _separate(found).items():
            leaf.grad = g if leaf.grad is None else leaf.grad + g

    # Copies, printing, Python's own functions

    def __reduce__(self) -> Any:
        return Tensor, (self._data.copy(), self.requires_grad, self.name)

    def __repr__(self) -> str:
        values = np.array2string(backend.to_numpy(self._data), separator=", ", prefix="Tensor(")
        dtype = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({values}{dtype}{grad})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return self._data.__index__()  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __contains__(self, x: Any) -> bool:
        return bool((self._data == plain(x)).any())

    __hash__ = object.__hash__

    def __getitem__(self, key: Any) -> Tensor:
        return getitem(self, plain(key))  # type: ignore[no-any-return]

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            f"item assignment on {self._label()}: a Tensor is not written in place; "
            "build a new one with np.where(mask, new, old) or np.concatenate"
        )

    # Operators: fmt: off so that the list reads as one

    # fmt: off
    def __neg__(self) -> Tensor: return _op(np.negative, self)
    def __pos__(self) -> Tensor: return _op(np.positive, self)
    def __abs__(self) -> Tensor: return _op(np.absolute, self)
    def __add__(self, other: Any) -> Tensor: return _op(np.add, self, other)
    def __radd__(self, other: Any) -> Tensor: return _op(np.add, other, self)
    def __sub__(self, other: Any) -> Tensor: return _op(np.subtract, self, other)
    def __rsub__(self, other: Any) -> Tensor: return _op(np.subtract, other, self)
    def __mul__(self, other: Any) -> Tensor: return _op(np.multiply, self, other)
    def __rmul__(self, other: Any) -> Tensor: return _op(np.multiply, other, self)
    def __truediv__(self, other: Any) -> Tensor: return _op(np.divide, self, other)
    def __rtruediv__(self, other: Any) -> Tensor: return _op(np.divide, other, self)
    def __mod__(self, other: Any) -> Tensor: return _op(np.remainder, self, other)
    def __rmod__(self, other: Any) -> Tensor: return _op(np.remainder, other, self)
    def __pow__(self, other: Any) -> Tensor: return _op(np.power, self, other)
    def __rpow__(self, other: Any) -> Tensor: return _op(np.power, other, self)
    def __matmul__(self, other: Any) -> Tensor: return _op(np.matmul, self, other)
    def __rmatmul__(self, other: Any) -> Tensor: return _op(np.matmul, other, self)
    def __floordiv__(self, other: Any) -> Any: return _op(np.floor_divide, self, other)
    def __rfloordiv__(self, other: Any) -> Any: return _op(np.floor_divide, other, self)
    def __eq__(self, other: object) -> Any: return _op(np.equal, self, other)
    def __ne__(self, other: object) -> Any: return _op(np.not_equal, self, other)
    def __lt__(self, other: Any) -> Any: return _op(np.less, self, other)
    def __le__(self, other: Any) -> Any: return _op(np.less_equal, self, other)
    def __gt__(self, other: Any) -> Any: return _op(np.greater, self, other)
    def __ge__(self, other: Any) -> Any: return _op(np.greater_equal, self, other)
    # fmt: on

    # Methods: each is the NumPy function of the same name

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Return np.sum(self, ...)."""
        return _op(np.sum, self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Return np.mean(self, ...)."""
        return _op(np.mean, self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Return np.prod(self, ...)."""
        return _op(np.prod, self, axis=axis, keepdims=keepdims)

    def var(self, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
        """Return np.var(self, ...)."""
        return _op(np.var, self, axis=axis, ddof=ddof, keepdims=keepdims)

    def std(self, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
        """Return np.std(self, ...)."""
        return _op(np.std, self, axis=axis, ddof=ddof, keepdims=keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Return np.max(self, ...)."""
        return _op(np.max, self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Return np.min(self, ...)."""
        return _op(np.min, self, axis=axis, keepdims=keepdims)

    def cumsum(self, axis: int | None = None) -> Tensor:
        """Return np.cumsum(self, axis)."""
        return _op(np.cumsum, self, axis=axis)

    def cumprod(self, axis: int | None = None) -> Tensor:
        """Return np.cumprod(self, axis)."""
        return _op(np.cumprod, self, axis=axis)

    def clip(self, min: Any = None, max: Any = None) -> Tensor:
        """Return np.clip(self, min, max)."""
        return _op(np.clip, self, min, max)

    def dot(self, other: Any) -> Tensor:
        """Return np.dot(self, other)."""
        return _op(np.dot, self, other)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """Return np.trace(self, ...)."""
        return _op(np.trace, self, offset, axis1, axis2)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """Return np.diagonal(self, ...)."""
        return _op(np.diagonal, self, offset, axis1, axis2)

    def reshape(self, *shape: Any) -> Tensor:
        """Return np.reshape(self, shape), the shape as one argument or several."""
        return _op(np.reshape, self, shape[0] if len(shape) == 1 else shape)

    def ravel(self) -> Tensor:
        """Return np.ravel(self)."""
        return _op(np.ravel, self)

    def flatten(self) -> Tensor:
        """Return np.ravel(self): a Tensor is never written, so no copy is needed."""
        return _op(np.ravel, self)

    def transpose(self, *axes: Any) -> Tensor:
        """Return np.transpose(self, axes), the axes as one argument or several."""
        if not axes:
            return _op(np.transpose, self)
        return _op(np.transpose, self, axes[0] if len(axes) == 1 else axes)

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """Return np.swapaxes(self, axis1, axis2)."""
        return _op(np.swapaxes, self, axis1, axis2)

    def squeeze(self, axis: Axis = None) -> Tensor:
        """Return np.squeeze(self, axis)."""
        return _op(np.squeeze, self, axis=axis)

    def repeat(self, repeats: Any, axis: int | None = None) -> Tensor:
        """Return np.repeat(self, repeats, axis)."""
        return _op(np.repeat, self, repeats, axis=axis)

    def take(self, indices: Any, axis: int | None = None) -> Tensor:
        """Return np.take(self, indices, axis)."""
        return _op(np.take, self, indices, axis=axis)

    def copy(self) -> Tensor:
        """Return np.copy(self), a recorded function like any other."""
        return _op(np.copy, self)

    def astype(self, dtype: DTypeLike) -> Tensor:
        """Return the Tensor in another dtype; the gradient is cast back."""
        return cast(self, dtype)  # type: ignore[no-any-return]

    def argmax(self, axis: int | None = None) -> Any:
        """Return np.argmax of the values, a plain array."""
        return _op(np.argmax, self, axis=axis)

    def argmin(self, axis: int | None = None) -> Any:
        """Return np.argmin of the values, a plain array."""
        return _op(np.argmin, self, axis=axis)

    def argsort(self, axis: int | None = -1) -> Any:
        """Return np.argsort of the values, a plain array."""
        return _op(np.argsort, self, axis=axis)

    def any(self, axis: Axis = None) -> Any:
        """Return np.any of the values, plain."""
        return _op(np.any, self, axis=axis)

    def all(self, axis: Axis = None) -> Any:
        """Return np.all of the values, plain."""
        return _op(np.all, self, axis=axis)


def _op(function: Function, *args: Any, **kwargs: Any) -> Any:
    return apply(function, args, kwargs)


def _tensor(data: Any) -> Tensor:
    """Make a result into a Tensor: `Tensor(data)` without its checks."""
    t = Tensor.__new__(Tensor)
    # NumPy's reductions return scalars; a Tensor's data is always an array.
    t._data = backend.asarray(data) if isinstance(data, np.generic) else data
    t._node = None
    t._version = None
    t.grad = None
    t.name = None
    t.requires_grad = False
    return t


def _separate(gradients: dict[Tensor, Any]) -> dict[Tensor, Any]:
    """Give every leaf memory of its own: of `a + b` both gradients are one array."""
    taken: set[int] = set()
    for leaf, g in gradients.items():
        if not isinstance(g, Tensor) and (g.base is not None or id(g) in taken):
            gradients[leaf] = g.copy()
        taken.add(id(g))
    return gradients


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
def _alias(x: Any) -> Any:
    return x


# Indexing and adding in are each the derivative of the other.
rule(getitem, lambda g, y, x, key: scatter(g, key, x), None)
rule(scatter, lambda g, y, values, key, like: getitem(g, key), None, None)
rule(cast, lambda g, y, x, dtype: g, None)
rule(_alias, lambda g, y, x: g)


# --- Gradients as functions ---------------------------------------------------------


def value_and_grad(f: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """Make the function that returns f(*args) and its gradient.

    Like `grad`, and returns the pair (value, gradient).
    """
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @wraps(f)
    def function(*args: Any, **kwargs: Any) -> Any:
        recording = _recording.get()
        inputs = list(args)
        for i in positions:
            # An alias of an outer Tensor: what f reaches by another way stays apart.
            outer = recording and isinstance(args[i], Tensor) and args[i].requires_grad
            inputs[i] = _alias(args[i]) if outer else Tensor(args[i], requires_grad=True)
        variables = [inputs[i] for i in positions]
        wanted = set(variables)
        with _recording_set_to(True):
            y = f(*inputs, **kwargs)
        if np.size(y) != 1:
            raise ValueError(
                f"grad: {name_of(f)} returned shape {np.shape(y)}; it must return a "
                "single number (np.sum or np.mean of it, say)"
            )
        if isinstance(y, Tensor) and y.requires_grad:
            graph, outside = _graph(y, wanted)
            again = recording and outside
            seed = np.ones_like(y._data)
            start = _tensor(seed) if again else seed
            found = _walk(y, start, graph, wanted, again, again)
        else:
            again, found = False, {}
        found = _separate({x: found[x] for x in wanted if x in found})
        result = tuple(
            found[x] if x in found else np.zeros_like(x._data) for x in variables
        )
        return y if again else plain(y), result[0] if isinstance(argnums, int) else result

    return function


def grad(f: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """Make the function that returns the gradient of `f`, which returns one number.

    It stores nothing on leaves and can be nested: `grad(grad(f))` is the second
    derivative. The result is a plain array; it is a Tensor, part of the graph, where
    it also depends on Tensors outside that require a gradient (the parameters of a
    discriminator, in a gradient penalty), unless under `no_grad()`.

    Args:
        f: takes Tensors at the positions `argnums` and returns a single number.
        argnums: one position, or several; several give a tuple of gradients.

    Raises:
        ValueError: `f` returned more than one number.

    """
    both = value_and_grad(f, argnums)

    @wraps(f)
    def function(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return function
