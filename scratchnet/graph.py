"""The graph that a computation leaves behind, and the walk back that differentiates it.

A result keeps a `Node`: the function that was called, and its arguments. The Tensors
and Nodes that can be reached from a result are its graph. `_backpropagate` walks it
from the newest Tensor to the oldest. It applies one rule, the chain rule:

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

# A result, the node that made it, and the inputs that receive gradients, each with its
# position among the arguments.
Step = tuple["Variable", "Node", list[tuple[int, "Variable"]]]


def _backpropagate(
    output: Variable, g: Any, steps: list[Step], on_tensors: bool, retain: bool
) -> dict[Variable, Any]:
    """Carry g = dL/d(output) back; return the gradient of each leaf.

    Why newest first? Take `b = a + a; c = b + b`. The walk visits c first and sends
    its gradient 1 to b twice, so b has 2. Only when *both* have arrived may the walk
    visit b. It sends 2 to a twice, so a has 4, the right answer: c = 4a. A walk in
    another order might visit b after the first arrival. It would pass on 1 instead of
    2; the late share would then be lost, or counted twice. The inputs of a function are
    older than its result, so newest first is right.
    """
    gradients = {output: g}
    for t, node, inputs in _newest_first(steps, retain):
        g = gradients.pop(t, None)  # dL/dt is complete: all newer Tensors were visited
        if g is None:  # every rule on the way returned zero
            continue
        y, args = node.operands(t, on_tensors)
        for i, x in inputs:
            dx = node.vjp(i, x, g, y, args)
            if dx is not None:  # never add in place: dx may be g, which is shared
                gradients[x] = gradients[x] + dx if x in gradients else dx
    return gradients


def _newest_first(steps: list[Step], retain: bool) -> Iterator[Step]:
    """Yield the steps, last one first, and free each step after its visit."""
    while steps:
        step = steps.pop()
        yield step
        if not retain:
            step[1].free()


def _unbroadcast(g: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Bring a gradient to the shape and dtype of its input.

    Broadcasting copies an input, and the gradients of the copies add up. This sum is
    done here, so no rule of the table mentions it. A float64 partner makes the result
    of a rule float64; it is cast back here too.
    """
    if type(g) is not np.ndarray and not isinstance(g, Variable):
        g = backend.asarray(g)
    if g.shape != shape:
        padded = (1,) * (g.ndim - len(shape)) + shape
        pairs = list(zip(padded, g.shape, strict=False))
        if g.ndim < len(shape) or any([n not in (1, m) for n, m in pairs]):
            raise ValueError("not a shape that the input was broadcast to")
        copied = tuple([i for i, (n, m) in enumerate(pairs) if n != m])
        plain_rows = copied == (0,) and not isinstance(g, Variable)
        total = backend.sum_of_rows(g) if plain_rows else np.sum(g, axis=copied)
        g = np.reshape(total, shape)
    return g if g.dtype == dtype else g.astype(dtype)


# --- Before and after the walk ------------------------------------------------------
# Read this to learn which Tensors are visited, and where the gradients go.


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
        steps: from `steps_back`; the walk empties the list.
        create_graph: run the rules on Tensors, so that the gradients are Tensors too.
        retain_graph: keep the graph for another walk; `create_graph` also keeps it.

    """
    _check_unmodified(steps)
    # An infinite derivative (sqrt at 0) is a valid result: no warning.
    with set_recording(create_graph), np.errstate(divide="ignore"):
        retain = retain_graph or create_graph
        found = _backpropagate(output, g, steps, create_graph, retain)
    return _separate(found, create_graph)


def steps_back(output: Variable, wanted: set[Any]) -> tuple[list[Step], bool]:
    """Collect the steps from `output` back to the leaves, oldest first.

    With `wanted`, return only the steps that lead to a wanted Tensor. The flag is true
    if the graph also reaches other Tensors that require a gradient. An explicit stack
    replaces recursion, so a chain of 100,000 calls works.
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
    """Keep the steps, and the inputs of each step, that lead to a wanted Tensor."""
    leads = set(wanted)
    chosen = []
    for t, node, inputs in steps:
        inputs = [(i, x) for i, x in inputs if x in leads]
        if inputs:
            leads.add(t)
            chosen.append((t, node, inputs))
    return chosen


def _separate(found: dict[Variable, Any], as_tensors: bool) -> dict[Variable, Any]:
    """Give every leaf its own array: both gradients of `a + b` are the same array."""
    taken: set[int] = set()
    for leaf, g in found.items():
        if as_tensors:  # a Tensor is never written in place, so leaves may share it
            found[leaf] = g if isinstance(g, Variable) else leaf._result(g)
        elif isinstance(g, np.generic):  # the sum of two 0-d arrays
            found[leaf] = backend.asarray(g)
        elif g.base is not None or id(g) in taken:
            found[leaf] = g.copy()
        taken.add(id(g))
    return found


# --- What the graph is made of ------------------------------------------------------
# Read this to learn what a Tensor remembers.

# A result gets its number after its inputs, so the numbers are a topological order of
# every graph. The process has one count; the numbers have no other meaning.
_numbers = itertools.count()


class Variable:
    """The part of a Tensor that the graph uses; tensor.py has the class `Tensor`."""

    __slots__ = ("__weakref__", "_array", "_node", "_requires_grad", "grad", "name")

    _array: np.ndarray  # or an array of the backend, with the same interface
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
        """Wrap the result of a function of this in a Tensor without history."""
        raise NotImplementedError  # `Tensor` has it


class Row(Protocol):
    """The part of a row of the table (table.py) that a node uses."""

    function: Any

    @property
    def name(self) -> str:
        """The name of the function in errors."""

    def inputs(self, args: Any) -> Sequence[Any]:
        """Return the array inputs among the arguments."""

    def plain(self, args: Any) -> Any:
        """Return the arguments with plain arrays for Tensors."""

    def vjp(self, i: int, g: Any, y: Any, args: Any, kwargs: Any) -> Any:
        """Return dL/d(input i) by the function's rule; None where that is zero."""


class Node:
    """One recorded call, `function(*args, **kwargs)`, with the row of its function.

    It holds the inputs of the call and never its result, so a graph has no reference
    cycle. It is freed as soon as the last Tensor that refers to it is deleted.
    """

    __slots__ = ("args", "kwargs", "number", "row")

    def __init__(self, row: Row, args: Any, kwargs: Any) -> None:
        """Record the call and number it."""
        self.number = next(_numbers)
        self.row = row
        self.args = args
        self.kwargs = kwargs

    @property
    def function(self) -> Any:
        """The function that was called."""
        return self.row.function

    def inputs(self) -> list[tuple[int, Variable]]:
        """Return the inputs that require a gradient, each with its position.

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
        """Return the result y and the arguments for a rule.

        They are plain arrays; with `on_tensors` Tensors, so that the rule is recorded.
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
        """Let `anomaly` check dx, the result of `vjp` for input i."""
        inputs = named(self.row.inputs(self.args))
        anomaly.look(
            f"the derivative of {self.row.name} by {inputs[i][0]}",
            plain(dx),
            [("dL/d(its result)", plain(g)), *inputs],
            self.number,
        )

    def free(self) -> None:
        """Release the inputs; a second walk through this node is an error."""
        self.args = None


# --- Recording ----------------------------------------------------------------------
# Read this to learn when a function of Tensors is recorded.

# Whether functions of Tensors are recorded; each thread has its own value.
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

    Results made inside are leaves, and they require no gradient.
    """
    return set_recording(False)


# --- Stale values -------------------------------------------------------------------
# Read this when an error says that a Tensor was changed after the graph read it.

# Guards the state that threads share: `.grad` and the last write.
lock = threading.RLock()

# Address -> the time of the last write: into the array there, or of `.data` of the
# Tensor there. Time is the count that numbers the nodes. If Python uses an address
# again, the new object was made and read after that write, so nothing is stale.
_written: dict[int, int] = {}
_last_write = -1


def mark_modified(tensor: Variable) -> None:
    """Record that the memory of `tensor` was written in place.

    Call this after writing into a Tensor's `.data`, as optimisers and
    `load_state_dict` do. If a graph read the old values, through this Tensor or another
    one over the same memory, its backward() is then an error. Otherwise the gradient
    would mix old and new values.

    Raises:
        TypeError: `tensor` is something else.

    """
    if not isinstance(tensor, Variable):
        raise TypeError(
            f"mark_modified: a {type(tensor).__name__} given, a Tensor expected"
        )
    note_write(_memory(tensor._array))


def note_write(address: int) -> None:
    """Record that the object at this address has new values."""
    global _last_write
    with lock:
        _last_write = _written[address] = next(_numbers)


def _memory(array: Array) -> int:
    """Return the address of the object that owns the memory of an array or view."""
    while (base := getattr(array, "base", None)) is not None:
        array = base
    return id(array)


def _check_unmodified(steps: list[Step]) -> None:
    """Raise GraphError if anything was written after the graph read it."""
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
# Small helpers, also for the files above this one.

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
    """Pair each input of a call with its name, or with its position."""
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
