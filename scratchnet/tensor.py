"""The Tensor: a NumPy array that remembers which functions made it.

How a gradient is computed:

1. NumPy calls us. A `Tensor` answers NumPy's dispatch protocols, so `np.tanh(x)`
   calls `apply(np.tanh, (x,), {})` (table.py). NumPy computes the value on the
   plain arrays; the forward pass needs no code here.
2. If an input requires a gradient, the result keeps a `Node` (graph.py): the function
   and its arguments. The Tensors and Nodes reachable from a result are its graph.
3. `loss.backward()` walks that graph from the newest Tensor to the oldest. When it
   visits a Tensor t, g = dL/dt is complete. The table of derivatives turns g into a
   contribution to each input of the function that made t.
4. Contributions to one Tensor add up. A leaf is a Tensor that no function made; the
   sum of its contributions becomes its `.grad`.

The walk is in graph.py, `_backpropagate`: read that first. The table, NumPy function ->
derivative, is in derivatives.py. This file is the part that users and NumPy call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, SupportsIndex, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from scratchnet import backend
from scratchnet.backend import Array
from scratchnet.graph import (
    GraphError,
    Variable,
    explained,
    label,
    leaf_gradients,
    lock,
    note_write,
    plain,
    recording,
    set_recording,
    steps_back,
)
from scratchnet.table import (
    Function,
    apply,
    bare,
    name_of,
    primitive,
    rule,
    shapes,
    spelled,
)

__all__ = ["Tensor", "grad", "value_and_grad"]

_new = object.__new__

# The Tensors that the function under `grad` took values out of; None outside `grad`.
_reads: ContextVar[list[Tensor] | None] = ContextVar("scratchnet_reads", default=None)

# --- The Tensor ---------------------------------------------------------------------

# For type checkers only: NumPy's annotations treat a Tensor as an array. This parameter
# leaves its dtype open, so np.mean(t) has the type Any. Otherwise it would be a NumPy
# float, which has no backward().
if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    _DType = TypeVarWithDefault("_DType", bound=np.generic, default=Any)
else:
    _DType = TypeVar("_DType")

Comparison = Callable[["Tensor", "ArrayLike | Tensor"], Array]

# `apply`, typed for functions that have a derivative: their results are Tensors.
_recorded: Callable[[Function, Any, Any], Tensor] = apply


def _operators(
    function: Function,
) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Make the methods for `self op other` and `other op self`."""

    def operator(self: Tensor, other: ArrayLike | Tensor) -> Tensor:
        return _recorded(function, (self, other), {})

    def reflected(self: Tensor, other: ArrayLike | Tensor) -> Tensor:
        return _recorded(function, (other, self), {})

    return operator, reflected


def _comparisons(function: Function) -> tuple[Comparison, Comparison]:
    """Make the same two methods for an operator whose result is a plain array."""
    return _operators(function)


def _method(function: Function) -> Callable[..., Tensor]:
    """Make the method that is a NumPy function of the Tensor."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return _recorded(function, (self, *args), kwargs)

    # Not wraps(): it would copy NumPy's docstring, with all its examples.
    method.__name__ = function.__name__
    method.__doc__ = f"Return np.{function.__name__} of this Tensor."
    return method


def _plain_method(function: Function) -> Callable[..., Array]:
    """Make the method for a function whose result is a plain array."""
    return _method(function)


class Tensor(Variable, Generic[_DType]):
    """An array that records its history, so that it can be differentiated.

    Use it in NumPy's functions and operators like an array. It behaves differently
    where a gradient would silently be lost or wrong: it cannot be written in place, and
    it never silently becomes a plain array or a float.

    - `a += b` binds the name to a new Tensor; item assignment is an error.
    - `np.asarray(t)` and `float(t)` are errors if `t` requires a gradient, also under
      `no_grad()`. So is everything that calls them (`math.sin(t)`, `a[i] = t`). Use
      `t.item()` or `t.detach()` for the value.
    - `bool`, `int`, `round`, indices and formats work for a single element: their
      derivative is zero. `len`, iteration and `in` use the first axis; comparisons
      return plain boolean arrays.
    - Hashing is by identity, so a Tensor can be a key.
    - Copies of a leaf (`copy.copy`, `copy.deepcopy`, `pickle`) are new leaves with
      their own memory. Copies of a result are an error, and so is `Tensor(result)`.
      `np.copy(t)` is a recorded function like any other.

    Args:
        data: an array, which is shared and not copied; or numbers, where floats become
            float32.
        requires_grad: whether `backward()` stores dL/d(this) in `.grad`.
        name: its name in errors and in reports of the gradient checker.

    Raises:
        TypeError: `data` is not numeric, or requires a gradient and is not float; it
            is a masked array, or the result of a function of Tensors.

    """

    __slots__ = ()  # all slots are in Variable

    def __init__(
        self,
        data: ArrayLike | Tensor,
        requires_grad: bool = False,
        name: str | None = None,
    ) -> None:
        """Make a leaf."""
        if isinstance(data, Tensor):
            data._refuse_copy("Tensor(t)", "Tensor(t)")
            data = data._array
        array = _numeric("Tensor: data", data)
        if array.dtype.kind == "f" and not backend.is_array(data):
            array = array.astype(np.float32)
        self._array = array
        self._node = None
        self.grad = None
        self.name = name
        self.requires_grad = requires_grad

    def _result(self, data: Array) -> Tensor:
        """Wrap the result of a function of this: `Tensor(data)` without checks."""
        t = _new(Tensor)
        # NumPy's reductions return scalars; a Tensor's data is always an array.
        t._array = data if type(data) is np.ndarray else backend.asarray(data)
        t._node = None
        t._requires_grad = False
        t.grad = None
        t.name = None
        return t

    # Attributes

    @property
    def data(self) -> Array:
        """The plain array. Call `mark_modified(tensor)` after writing into it."""
        self._note_read()
        return self._array

    @data.setter
    def data(self, array: Array) -> None:
        self._array = Tensor(array, self._requires_grad)._array
        note_write(id(self))

    @property
    def requires_grad(self) -> bool:
        """Whether it receives a gradient; set it to False to freeze a leaf."""
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
                f"requires_grad: {label(self)} was made by {self._node.row.name}; only "
                "a leaf can be frozen, use .detach()"
            )
        self._requires_grad = bool(on)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._array.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._array.size

    @property
    def T(self) -> Tensor:
        """The Tensor with its axes in reverse order."""
        return _recorded(np.transpose, (self,), {})

    def item(self) -> Any:
        """Return the only element as a Python number."""
        self._note_read()
        return self._array.item()

    def numpy(self) -> np.ndarray:
        """Return the values on the host; `.detach()` first if there is a gradient.

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
        """Handle NumPy's elementwise functions (NEP 13), and `array op tensor`."""
        if method != "__call__":
            instead = {
                "reduce": "np.sum, np.prod, np.max or np.min",
                "accumulate": "np.cumsum or np.cumprod",
                "outer": "a[:, None] and broadcasting",
            }.get(method, "indexing, np.where or np.concatenate")
            raise TypeError(
                f"np.{ufunc.__name__}.{method} of shapes {shapes(inputs)} does not "
                f"take Tensors; use {instead}"
            )
        return apply(ufunc, inputs, kwargs)

    def __array_function__(
        self, function: Function, types: Any, args: Any, kwargs: Any
    ) -> Any:
        """Handle NumPy's other functions (NEP 18)."""
        return apply(function, args, kwargs)

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> np.ndarray[Any, np.dtype[_DType]]:
        """Become a plain array, unless that would lose a gradient."""
        self._refuse_if_gradient()
        return np.asarray(self._array, dtype=dtype, copy=copy)

    def _refuse_if_gradient(self, becoming: str = "plain array") -> None:
        if self._requires_grad:
            noun = "complex number" if becoming == "complex" else becoming
            if becoming == "plain array":
                wrong = "np.asarray(t), t.numpy(), np.array([t, u])"
                right = "np.stack([t, u]) or np.concatenate([t, u]), for a list"
            else:
                wrong = f"{becoming}(t), math.sin(t), a[i] = t"
                right = "np.sin(t), np.stack([t, u]), to keep the gradient"
            raise TypeError(
                explained(
                    f"{label(self)} requires a gradient, which would be lost in a "
                    f"{noun}",
                    wrong=[wrong],
                    right=[right, "t.detach().numpy() or t.item(), for its value"],
                    why=f"a {noun} has no history for backward() to follow",
                )
            )

    def _refuse_copy(self, copying: str, wrong: str) -> None:
        """Refuse a new leaf made of a result, or of an argument of `grad`."""
        if self._node is not None:
            which = f"which {self._node.row.name} made"
        elif _reads.get() is not None and self._requires_grad:
            which = "inside a function that grad differentiates"
        else:
            return
        raise TypeError(
            explained(
                f"{copying} of {label(self)}, {which}: the gradient would be lost",
                wrong=[wrong],
                right=[
                    "t itself, or np.copy(t), which is recorded",
                    "or a copy of t.detach(), the value, or of the leaves",
                ],
                why="the new Tensor would be a leaf without history",
            )
        )

    def _note_read(self) -> None:
        """Tell `grad` that values are taken out of this Tensor."""
        reads = _reads.get()
        if reads is not None and self._requires_grad and recording.get():
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
            gradient: dL/d(this), of this shape; the default for a single element is 1.
            retain_graph: keep the graph, to walk it again. By default each part is
                freed after its visit, which saves memory.
            create_graph: record the walk too, so that `.grad` is a Tensor that can be
                differentiated again. The graph then holds the leaf and is not freed:
                set `.grad` to None afterwards, or use `grad`, which stores nothing.
            inputs: the leaves that receive a gradient; by default all. (For the step
                of a GAN's generator: its parameters, without the discriminator's.)

        Raises:
            GraphError: this requires no gradient; an earlier call freed the graph; a
                Tensor was changed in place after the graph read it.
            ValueError: `gradient` is missing or has another shape; `inputs` is empty.
            TypeError: `inputs` has something other than leaves.

        After an error every `.grad` is unchanged.

        """
        if not self._requires_grad:
            raise GraphError(
                explained(
                    f"backward: {label(self)} requires no gradient",
                    wrong=[
                        "W = Tensor(w); loss = f(W); loss.backward()",
                        "with no_grad(): loss = f(W)",
                    ],
                    right=["W = Tensor(w, requires_grad=True); loss = f(W)"],
                    why="nothing was recorded, so backward() has no graph to walk",
                )
            )
        seed = self._seed(gradient, create_graph)
        wanted = _leaves(inputs)
        steps, _ = steps_back(self, wanted)
        found = leaf_gradients(self, seed, steps, create_graph, retain_graph)
        if wanted:  # if no step leads to a wanted leaf, the seed is left: drop it
            found = {leaf: g for leaf, g in found.items() if leaf in wanted}
        with lock:
            sums = {
                leaf: g if leaf.grad is None else leaf.grad + g
                for leaf, g in found.items()
            }
            for leaf, total in sums.items():
                # The sum of 0-d arrays is a NumPy scalar; `.grad` is always an array.
                total = leaf._result(total) if isinstance(total, np.generic) else total
                leaf.grad = total if create_graph else plain(total)

    def _seed(
        self, gradient: ArrayLike | Tensor | None, create_graph: bool
    ) -> Array | Tensor:
        """Return dL/d(this), where `backward` starts: checked, in this dtype."""
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
        seed = gradient if create_graph and isinstance(gradient, Tensor) else given
        return cast(seed, self.dtype)  # a copy, so that no leaf shares the argument

    # Copies, printing, Python's own functions

    def __reduce__(self) -> tuple[type[Tensor], tuple[Array, bool, str | None]]:
        """Copy and pickle a leaf as a new leaf; refuse results."""
        ways = "copy.copy(t), copy.deepcopy(t), pickle.dumps(t), or of what holds t"
        self._refuse_copy("a copy or pickle", ways)
        return type(self), (self._array.copy(), self._requires_grad, self.name)

    def __repr__(self) -> str:
        """Show the values, a dtype other than float32, and requires_grad."""
        values = np.array2string(
            backend.to_numpy(self._array), separator=", ", prefix="Tensor("
        )
        dtype = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        grad = ", requires_grad=True" if self._requires_grad else ""
        return f"Tensor({values}{dtype}{grad})"

    def __format__(self, spec: str) -> str:
        """Format a single element as a number."""
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

    def __trunc__(self) -> int:
        """Return a single element rounded towards zero."""
        return int(self._array.item())

    def __floor__(self) -> int:
        """Return a single element rounded down."""
        below: int = math.floor(self._array.item())
        return below

    def __ceil__(self) -> int:
        """Return a single element rounded up."""
        above: int = math.ceil(self._array.item())
        return above

    def __index__(self) -> int:
        """Return a single integer, for use as an index."""
        return self._array.__index__()

    def __len__(self) -> int:
        """Return the length of the first axis."""
        return len(self._array)

    def __iter__(self) -> Iterator[Tensor]:
        """Iterate over the first axis."""
        return (self[i] for i in range(len(self)))

    def __contains__(self, x: object) -> bool:
        """Return whether any element equals x."""
        return bool((self == x).any())

    def __eq__(self, other: object) -> Array:
        """Compare element by element, as arrays do."""
        return self._array == bare(plain(other))

    def __ne__(self, other: object) -> Array:
        """Compare element by element, as arrays do."""
        return self._array != bare(plain(other))

    __hash__ = object.__hash__

    def __getitem__(self, key: Any) -> Tensor:
        """Return the elements at `key`, any index that NumPy accepts."""
        return _recorded(_getitem, (self, plain(key)), {})

    def __setitem__(self, key: object, value: object) -> None:
        """Refuse: the values may be needed by a gradient."""
        raise TypeError(
            explained(
                f"item assignment on {label(self)}: a Tensor is not written in place",
                wrong=["t[mask] = new"],
                right=[
                    "t = np.where(mask, new, t)",
                    "or np.concatenate([t[:i], new, t[j:]]) for t[i:j] = new",
                ],
                why="the gradient may still need the old values",
            )
        )

    # Operators: each calls the NumPy function of the same meaning

    __add__, __radd__ = _operators(np.add)
    __sub__, __rsub__ = _operators(np.subtract)
    __mul__, __rmul__ = _operators(np.multiply)
    __truediv__, __rtruediv__ = _operators(np.divide)
    __floordiv__, __rfloordiv__ = _operators(np.floor_divide)
    __mod__, __rmod__ = _operators(np.remainder)
    __pow__, __rpow__ = _operators(np.power)
    __matmul__, __rmatmul__ = _operators(np.matmul)
    __lt__, __gt__ = _comparisons(np.less)
    __le__, __ge__ = _comparisons(np.less_equal)
    __neg__ = _method(np.negative)
    __pos__ = _method(np.positive)
    __abs__ = _method(np.absolute)

    # Methods: each calls the NumPy function of the same name

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
    argmax = _plain_method(np.argmax)
    argmin = _plain_method(np.argmin)
    argsort = _plain_method(np.argsort)
    any = _plain_method(np.any)
    all = _plain_method(np.all)

    def reshape(self, *shape: SupportsIndex | Sequence[SupportsIndex]) -> Tensor:
        """Return np.reshape(self, shape), the shape as one argument or several."""
        return _recorded(np.reshape, (self, shape[0] if len(shape) == 1 else shape), {})

    def transpose(
        self, *axes: SupportsIndex | Sequence[SupportsIndex] | None
    ) -> Tensor:
        """Return np.transpose(self, axes), the axes as one argument or several."""
        args = (self, axes[0] if len(axes) == 1 else axes) if axes else (self,)
        return _recorded(np.transpose, args, {})

    def astype(self, dtype: DTypeLike) -> Tensor:
        """Return the Tensor in another dtype; the gradient is cast back."""
        return _recorded(cast, (self, dtype), {})


def _leaves(inputs: Iterable[Tensor] | None) -> set[Variable]:
    """Return the leaves that receive a gradient; the empty set means all leaves."""
    if inputs is None:
        return set()
    if isinstance(inputs, Tensor) or not np.iterable(inputs):
        raise TypeError(f"backward: inputs is {inputs!r}; a list of leaves expected")
    chosen = list(inputs)
    if not chosen:
        raise ValueError("backward: inputs is empty; None stands for all leaves")
    for x in chosen:
        if not isinstance(x, Tensor) or x._node is not None:
            raise TypeError(f"backward: {label(x)} in inputs is not a leaf")
    return set(chosen)


def _numeric(what: str, data: ArrayLike) -> Array:
    """Return numbers, an array or lists of them, as an array of the backend."""
    try:
        array = backend.asarray(data)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{what} is not an array: {error}") from None
    except TypeError as error:  # a list of Tensors, a mask
        raise TypeError(f"{what}: {error}") from None
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{what} of dtype {array.dtype} is not numeric")
    return array


# For a function that returns arrays for arrays and Tensors for Tensors.
ArrayOrTensor = TypeVar("ArrayOrTensor", NDArray[Any], Tensor)

# --- Functions that NumPy lacks -----------------------------------------------------


@primitive
def _getitem(x: Array, key: Any) -> Array:
    """Return x[key]."""
    return x[key]


@primitive
def scatter(values: Array, key: Any, like: Array) -> Array:
    """Return zeros of the shape of `like`, with `values` added at [key]."""
    out = np.zeros_like(like, dtype=values.dtype)
    backend.scatter_add(out, key, values)
    return out


@primitive
def cast(x: Array, dtype: DTypeLike) -> Array:
    """Return x.astype(dtype)."""
    return x.astype(dtype)


@primitive
def where_or_zero(x: Array, mask: Array) -> Array:
    """Return np.where(mask, x, 0) for an array of booleans, several times as fast.

    np.where branches at each element, which a processor cannot predict. Here the bits
    of each element are read as an integer and multiplied by 1 or 0. (Multiplying the
    element itself would be wrong: inf times 0 is NaN.)
    """
    if x.dtype.itemsize > 8:  # wider than any integer
        return np.where(mask, x, 0)
    return (x.view(f"i{x.dtype.itemsize}") * mask).view(x.dtype)


@primitive
def _alias(x: Array) -> Array:
    return x


# The derivative of indexing is scatter, and that of scatter is indexing.
rule(_getitem, lambda g, y, x, key: scatter(g, key, x), None)
rule(scatter, lambda g, y, values, key, like: _getitem(g, key), None, None)
rule(cast, lambda g, y, x, dtype: g)
rule(where_or_zero, lambda g, y, x, mask: where_or_zero(g, mask), None)
rule(_alias, lambda g, y, x: g)

spelled("indexing", _getitem, scatter)
spelled("astype", cast)
spelled("np.where", where_or_zero)


# --- Gradients as functions ---------------------------------------------------------


def value_and_grad(
    f: Function, argnums: int | tuple[int, ...] = 0
) -> Callable[..., tuple[Any, Any]]:
    """Make the function that returns f(*args) and its gradient.

    Like `grad`, but it returns the pair (value, gradient). Both are arrays, or both
    are Tensors.
    """
    positions = argnums if isinstance(argnums, tuple) else (argnums,)
    if not callable(f) or not all(isinstance(i, int) for i in positions):
        raise TypeError(
            f"grad: expected a function and positions of its arguments, not {f!r} and "
            f"{argnums!r}"
        )

    @wraps(f)
    def function(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        recorded = recording.get()
        inputs = list(args)
        for i in positions:
            if not -len(args) <= i < len(args):
                raise TypeError(
                    f"grad: pass argument {i} of {name_of(f)} by position; only "
                    f"{len(args)} arguments were passed so"
                )
            x = args[i]
            # An alias of an outer Tensor: f may also reach that Tensor in another way,
            # which must not count here.
            outer = recorded and isinstance(x, Tensor) and x._requires_grad
            value = x._array if isinstance(x, Tensor) else x
            inputs[i] = _alias(x) if outer else Tensor(value, requires_grad=True)
        variables = [inputs[i] for i in positions]
        y = _recorded_call(f, inputs, kwargs, set(variables))
        if y.size != 1:
            raise ValueError(
                f"grad: {name_of(f)} returned shape {y.shape}; it must return a single "
                "number, such as np.sum or np.mean of it"
            )
        found: dict[Variable, Any] = {}
        again = False
        if y._requires_grad:
            steps, outside = steps_back(y, set(variables))
            again = recorded and outside
            seed = np.ones_like(y._array)
            found = leaf_gradients(y, seed, steps, create_graph=again)
            for x in variables:
                # Our own leaf is done: later walks reach only outer Tensors.
                if x._node is None:
                    x._requires_grad = False
        for x in variables:
            if x not in found:
                zero = np.zeros_like(x._array)
                found[x] = x._result(zero) if again else zero
        result = tuple(found[x] for x in variables)
        value = y if again else y._array.copy()  # `f` may return its own argument
        return value, result if isinstance(argnums, tuple) else result[0]

    return function


def _recorded_call(
    f: Function, args: Any, kwargs: Any, variables: set[Variable]
) -> Tensor:
    """Return f(*args, **kwargs) as a Tensor; raise GraphError for a lost gradient."""
    reads: list[Tensor] = []
    outer = _reads.get()
    token = _reads.set(reads)
    try:
        with set_recording(True):
            y = f(*args, **kwargs)
    finally:
        _reads.reset(token)
        if outer is not None:
            outer.extend(reads)
    if isinstance(y, Tensor):
        return y
    value = Tensor(backend.asarray(y))  # raises if it is not numeric
    if _depend_on(reads, variables):
        raise GraphError(
            explained(
                f"grad: {name_of(f)} returned a {type(y).__name__}, not a Tensor, and "
                "took values out of its argument",
                wrong=["return t.item() ** 2, or with t.data or t.detach().numpy()"],
                right=["return t ** 2", "or return Tensor(value) if it is a constant"],
                why="values that are taken out of a Tensor have no gradient",
            )
        )
    return value


def _depend_on(tensors: list[Tensor], variables: set[Variable]) -> bool:
    """Return whether any of the Tensors is a variable, or was made from one."""
    stack: list[Variable] = list(tensors)
    seen = set(stack)
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
    """Make the function that returns the gradient of `f`; `f` returns one number.

    It stores nothing on leaves and can be nested: `grad(grad(f))` is the second
    derivative. The result is usually a plain array. It is a Tensor, part of the graph,
    if it also depends on outer Tensors that require a gradient (in a gradient penalty:
    the parameters of the discriminator), except under `no_grad()`.

    The gradient is zero if `f` does not use its argument, or uses it only in functions
    with derivative zero (`np.sign`, `np.argmax`, comparisons, `int`). The gradient is
    lost if `f` takes values out of its argument or of a result, by `.item()`, `.data`
    or `.detach()`, outside `no_grad()`, and returns no Tensor. That is an error.

    Args:
        f: takes Tensors at the positions `argnums` and returns a single number.
        argnums: one position, or a tuple of several for a tuple of gradients.

    Raises:
        ValueError: `f` returned more than one number.
        GraphError: `f` took values out of its argument and returned no Tensor.

    """
    both = value_and_grad(f, argnums)

    @wraps(f)
    def function(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return function
