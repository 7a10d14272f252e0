"""The graph that a computation leaves behind, and the walk back that differentiates it.

A result keeps a `Node`: which function was called, with what. The Tensors and Nodes
that can be reached from a result are its graph. `_backpropagate` walks it from the
newest Tensor to the oldest. The chain rule is all that it needs to know:

    dL/dx  =  sum over every y = f(..., x, ...) of  dL/dy * dy/dx

Each summand is a vector-Jacobian product, a vjp. The table of derivatives (table.py,
derivatives.py) computes it from dL/dy. This file adds the products up.

Read "The walk back" first. Each later section says when to read it.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np

from scratchnet import anomaly, backend
from scratchnet.anomaly import WATCHING
from scratchnet.backend import Array

__all__ = ["GraphError", "mark_modified", "no_grad"]


class GraphError(ValueError):
    """The graph cannot be walked: freed, stale, or never recorded."""


# --- The walk back ------------------------------------------------------------------

# A result, the node that made it, and the inputs to send gradients to, each with its
# place among the arguments.
Step = tuple["Variable", "Node", list[tuple[int, "Variable"]]]


def _backpropagate(
    output: Variable, g: Any, steps: list[Step], on_tensors: bool, retain: bool
) -> dict[Variable, Any]:
    """Carry g = dL/d(output) back; return what reached each leaf.

    Why newest first? Take `b = a + a; c = b + b`. When c is taken, its gradient 1
    goes to b twice: 2. Only when *both* have arrived may b be taken, and its 2 goes
    to a twice: 4, the right answer, for c = 4a. Taking b after the first arrival, as
    a walk in any other order might, would hand on a 1, and later another 1 or a 2. A
    function's inputs are older than its result, so newest first is always in time.
    """
    gradients = {output: g}
    for t, node, inputs in _newest_first(steps, retain):
        g = gradients.pop(t, None)  # dL/dt: nothing newer is left to add to it
        if g is None:  # every rule on the way gave zero
            continue
        y, args = node.operands(t, on_tensors)
        for i, x in inputs:
            dx = node.vjp(i, x, g, y, args)
            if dx is not None:  # never add in place: dx may be g, which others hold
                gradients[x] = gradients[x] + dx if x in gradients else dx
    return gradients


def _newest_first(steps: list[Step], retain: bool) -> Iterator[Step]:
    """Yield the steps from the last one, and free each as soon as it was taken."""
    while steps:
        step = steps.pop()
        yield step
        if not retain:
            step[1].free()


def _unbroadcast(g: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Bring a gradient to the shape and dtype of the input that it belongs to.

    An input that was broadcast was used once for each copy, and the gradients of the
    copies add up. No rule of the table needs to know that, nor about dtypes: float64
    partners make a rule's result float64, and it is cast back here.
    """
    if type(g) is not np.ndarray and not isinstance(g, Variable):
        g = backend.asarray(g)
    if g.shape != shape:
        if np.broadcast_shapes(shape, g.shape) != g.shape:
            raise ValueError("not a shape that the input was broadcast to")
        padded = (1,) * (g.ndim - len(shape)) + shape
        copied = (i for i, n in enumerate(padded) if n != g.shape[i])
        g = np.reshape(np.sum(g, axis=tuple(copied)), shape)
    return g if g.dtype == dtype else g.astype(dtype)


# --- Before and after the walk ------------------------------------------------------
# Read this to learn which Tensors are visited, and what becomes of the gradients.


def leaf_gradients(
    output: Variable,
    g: Any,
    steps: list[Step],
    create_graph: bool = False,
    retain_graph: bool = False,
) -> dict[Variable, Any]:
    """Return the gradient of each leaf that `steps` lead to, given g = dL/d(output).

    Args:
        output: where the steps start.
        g: an array; with `create_graph` it may be a Tensor.
        steps: made by `steps_back`; they are used up.
        create_graph: run the rules on Tensors, so that the gradients are Tensors too.
        retain_graph: keep the graph for another walk; `create_graph` keeps it too.

    """
    _check_unmodified(steps)
    # An infinite derivative (sqrt at 0) is a value, not an accident.
    with set_recording(create_graph), np.errstate(divide="ignore"):
        retain = retain_graph or create_graph
        found = _backpropagate(output, g, steps, create_graph, retain)
    return _separate(found, create_graph)


def steps_back(output: Variable, wanted: set[Any]) -> tuple[list[Step], bool]:
    """Collect the steps from `output` back to the leaves, oldest first.

    With `wanted`, only those on a way to a wanted Tensor; the flag says whether the
    graph also reaches something else that requires a gradient. The stack is ours and
    not the interpreter's, so a chain of 100,000 calls is no deeper than one of 10.
    """
    seen = {output}
    stack = [output]
    steps: list[Step] = []
    outside = False
    while stack:
        t = stack.pop()
        node = t._node
        if node is None or t in wanted:
            outside = outside or node is not None or t not in wanted
            continue
        inputs = node.inputs()
        steps.append((t, node, inputs))
        for _, x in inputs:
            if x not in seen:
                seen.add(x)
                stack.append(x)
    steps.sort(key=lambda step: step[1].number)
    return _towards(wanted, steps) if wanted else steps, outside


def _towards(wanted: set[Variable], steps: list[Step]) -> list[Step]:
    """Return the steps, and of each step the inputs, that lead to a wanted Tensor."""
    leads = set(wanted)
    chosen = []
    for t, node, inputs in steps:
        inputs = [(i, x) for i, x in inputs if x in leads]
        if inputs:
            leads.add(t)
            chosen.append((t, node, inputs))
    return chosen


def _separate(found: dict[Variable, Any], as_tensors: bool) -> dict[Variable, Any]:
    """Give every leaf an array of its own: of `a + b` both gradients are one."""
    taken: set[int] = set()
    for leaf, g in found.items():
        if as_tensors:  # nobody writes into a Tensor, so leaves may share it
            found[leaf] = g if isinstance(g, Variable) else leaf._result(g)
        elif isinstance(g, np.generic):  # the sum of two arrays without axes
            found[leaf] = backend.asarray(g)
        elif g.base is not None or id(g) in taken:
            found[leaf] = g.copy()
        taken.add(id(g))
    return found


# --- What the graph is made of ------------------------------------------------------
# Read this to learn what a Tensor remembers.

# A result is numbered after its inputs, so the order of numbers is a topological
# order of every graph. One count for the process: the numbers only order.
_numbers = itertools.count()


class Variable:
    """The part of a Tensor that the graph uses; `Tensor` (tensor.py) is the whole."""

    __slots__ = ("__weakref__", "_array", "_node", "_requires_grad", "grad", "name")

    _array: np.ndarray  # or the backend's array, which answers the same calls
    _node: Node | None
    _requires_grad: bool
    grad: Any  # None, an array, or a Tensor after backward(create_graph=True)
    name: str | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""
        return self._array.dtype

    def _result(self, data: Array) -> Any:
        """Return what a function of this made, as a Tensor without history."""
        raise NotImplementedError


class Row(Protocol):
    """What a node asks of its function's row in the table (table.py)."""

    function: Any

    @property
    def name(self) -> str:
        """What errors call the function."""

    def inputs(self, args: Any) -> Sequence[Any]:
        """Return the array inputs among the arguments."""

    def plain(self, args: Any) -> Any:
        """Return the arguments with plain arrays for Tensors."""

    def vjp(self, i: int, g: Any, y: Any, args: Any, kwargs: Any) -> Any:
        """Return dL/d(input i) by the function's rule; None where that is zero."""


class Node:
    """One recorded call, `function(*args, **kwargs)`, by its function's row.

    It holds the inputs of the call and never its result, so a graph has no reference
    cycle: when the last Tensor over it goes, it is freed at once.
    """

    __slots__ = ("args", "kwargs", "number", "row")

    def __init__(self, row: Row, args: Any, kwargs: Any) -> None:
        """Note the call, and give it its place in the order."""
        self.number = next(_numbers)
        self.row = row
        self.args = args
        self.kwargs = kwargs

    @property
    def function(self) -> Any:
        """What was called."""
        return self.row.function

    def inputs(self) -> list[tuple[int, Variable]]:
        """Return the inputs that a gradient flows to, each with its position.

        Raises:
            GraphError: an earlier walk freed the node.

        """
        if self.args is None:
            raise GraphError(
                explained(
                    f"backward: the graph through {self.row.name} was freed by an "
                    "earlier backward()",
                    wrong=["loss.backward(); loss.backward()"],
                    right=[
                        "loss.backward(retain_graph=True); loss.backward()",
                        "or compute the loss again before the second backward()",
                    ],
                    why="backward() frees the graph as it goes, to save memory",
                )
            )
        return [
            (i, x)
            for i, x in enumerate(self.row.inputs(self.args))
            if isinstance(x, Variable) and x._requires_grad
        ]

    def operands(self, y: Variable, on_tensors: bool = False) -> tuple[Any, Any]:
        """Return the result y and the arguments as a rule gets them.

        They are plain arrays, or Tensors if the rule itself is to be recorded.
        """
        if on_tensors:
            return y, self.args
        return y._array, self.row.plain(self.args)

    def vjp(self, i: int, x: Variable, g: Any, y: Any, args: Any) -> Any:
        """Turn g = dL/dy into dL/dx for input i, which is x; None where that is zero.

        With plain arrays for `g`, `y` and `args` (see `operands`) the result is an
        array; with Tensors it is a Tensor that can be differentiated again.
        """
        dx = self.row.vjp(i, g, y, args, self.kwargs)
        if dx is None:
            return None
        try:
            dx = _unbroadcast(dx, x._array.shape, x._array.dtype)
        except ValueError as error:
            raise GraphError(
                f"{self.row.name}: its rule for argument {i} returned shape "
                f"{np.shape(dx)} for an input of shape {x.shape}"
            ) from error
        if WATCHING:
            self._look(i, dx, g)
        return dx

    def _look(self, i: int, dx: Any, g: Any) -> None:
        """Have `anomaly` look at what `vjp` made of g for input i."""
        inputs = named(self.row.inputs(self.args))
        anomaly.look(
            f"the derivative of {self.row.name} by {inputs[i][0]}",
            plain(dx),
            [("dL/d(its result)", plain(g)), *inputs],
            self.number,
        )

    def free(self) -> None:
        """Release the inputs; a walk that meets this node again is an error."""
        self.args = None


# --- Recording ----------------------------------------------------------------------
# Read this to learn when a function of Tensors is recorded.

# Whether functions of Tensors are recorded, for each thread on its own.
recording: ContextVar[bool] = ContextVar("scratchnet_recording", default=True)


@contextlib.contextmanager
def set_recording(on: bool) -> Iterator[None]:
    """Switch recording on or off inside `with set_recording(on):`, in this thread."""
    token = recording.set(on)
    try:
        yield
    finally:
        recording.reset(token)


def no_grad() -> contextlib.AbstractContextManager[None]:
    """Record nothing inside `with no_grad():`, in this thread.

    Results made inside are leaves that require no gradient.
    """
    return set_recording(False)


# --- Stale values -------------------------------------------------------------------
# Read this when an error says that a Tensor was changed after the graph read it.

# Held while something is changed that threads share: `.grad`, the last write.
lock = threading.RLock()

# When an array was last written, and when a Tensor was last given another one, on the
# count that numbers the nodes, by address. An address that is used again does no harm:
# whatever is there now was made, and read, after the number found.
_written: dict[int, int] = {}
_last_write = -1


def mark_modified(tensor: Variable) -> None:
    """Say that the memory of `tensor` was written in place.

    Whoever writes a Tensor's `.data` (an optimiser, `load_state_dict`) calls this
    afterwards. A graph that read the old values, through this Tensor or any other
    over the same memory, then refuses to be walked, instead of giving gradients of a
    mixture of old and new.

    Raises:
        TypeError: `tensor` is something else.

    """
    if not isinstance(tensor, Variable):
        raise TypeError(
            f"mark_modified: a {type(tensor).__name__} given, a Tensor expected"
        )
    note_write(_memory(tensor._array))


def note_write(address: int) -> None:
    """Note that the object at this address has new values."""
    global _last_write
    with lock:
        _last_write = _written[address] = next(_numbers)


def _memory(array: Array) -> int:
    """Return the address of the object that owns the memory of an array, or view."""
    while (base := getattr(array, "base", None)) is not None:
        array = base
    return id(array)


def _check_unmodified(steps: list[Step]) -> None:
    """Find, before the first rule runs, anything written since the graph read it."""
    for t, node, _ in steps:
        if node.number > _last_write:
            continue
        for x in (*node.row.inputs(node.args), t):
            places = (id(x), _memory(plain(x)))
            if any(_written.get(place, -1) > node.number for place in places):
                raise GraphError(
                    explained(
                        f"backward: {label(x)} was changed in place after the graph "
                        f"read it (in {node.row.name})",
                        wrong=["loss = f(W); optimizer.step(); loss.backward()"],
                        right=[
                            "loss = f(W); loss.backward(); optimizer.step()",
                            "or compute the loss again after the change",
                        ],
                        why="the gradient would mix old and new values",
                    )
                )


# --- Tensors as arrays, and as words ------------------------------------------------
# Small helpers of this file and of those above it.

LISTS = frozenset((list, tuple))


def plain(x: Any) -> Any:
    """Replace each Tensor in `x`, also inside lists and tuples, by its array."""
    if isinstance(x, Variable):
        return x._array
    if isinstance(x, (list, tuple)) and holds_tensor(x):
        return type(x)(map(plain, x))
    return x


def holds_tensor(x: object) -> bool:
    """Return whether x is a Tensor, or a list or tuple with one inside."""
    if type(x) in LISTS:
        return any(map(holds_tensor, x))  # type: ignore[call-overload]  # a list
    return isinstance(x, Variable)


def named(inputs: Iterable[Any]) -> list[tuple[str, Any]]:
    """Pair the inputs of a call with what a reader would call them."""
    return [
        (getattr(x, "name", None) or f"input {i}", plain(x))
        for i, x in enumerate(inputs)
    ]


def label(x: Any) -> str:
    """Name a Tensor, or an array, in an error: its name or type, and its shape."""
    name = getattr(x, "name", None)
    return f"{repr(name) if name else f'a {type(x).__name__}'} of shape {np.shape(x)}"


def explained(what: str, wrong: list[str], right: list[str], why: str) -> str:
    """Write an error: what happened, the wrong lines, the right lines, the reason."""
    rows = [("wrong:", wrong), ("right:", right), ("why:", [why])]
    lines = [
        f"  {'' if i else head:6} {line}"
        for head, block in rows
        for i, line in enumerate(block)
    ]
    return "\n".join([what, *lines])
