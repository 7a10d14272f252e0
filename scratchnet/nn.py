"""Layers: what holds parameters, finds them by name, and says what it is.

A layer is a `Module`: parameters as attributes, and `forward`, which is plain NumPy.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import backend, checks, functions
from scratchnet.backend import Array
from scratchnet.graph import mark_modified, no_grad
from scratchnet.kernels import buffers
from scratchnet.kernels.activations import ACTIVATIONS
from scratchnet.kernels.initializers import (
    Initializer,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
)
from scratchnet.tensor import Tensor

__all__ = [
    "Dense",
    "Dropout",
    "Initializer",
    "LeakyReLU",
    "Maxout",
    "Module",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "activation",
    "evaluate",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "inference",
    "mlp",
]

# Whether this thread is inside `with inference():`.
_inference: ContextVar[bool] = ContextVar("scratchnet_inference", default=False)


class _Buffer(NamedTuple):
    """Where a buffer is found; its array may be replaced at any time."""

    module: "Module"
    name: str

    @property
    def data(self) -> Array:
        """Return the array that it is now."""
        return getattr(self.module, self.name)


class Module:
    """A function with parameters.

    Assign parameters (`Tensor(array, requires_grad=True)`), other Modules, or lists of
    either, as attributes; they are found again in the order of assignment, under dotted
    names: "encoder.0.W". Every Tensor that no function made counts as a parameter. One
    whose `requires_grad` was switched off is frozen: it is still saved and loaded, and
    no optimiser moves it.

    Keep what is not a parameter as a plain array. `state_dict` leaves plain arrays out:
    a model that is loaded, or a run that is resumed, has them as its constructor makes
    them. If an array changes in training and the results depend on it, like the running
    mean of a BatchNorm, register it with `register_buffer`, and it is saved too.

    A parameter or Module that is reached by two ways (shared weights) counts once,
    under the name found first.
    """

    _training = True
    _buffer_names: tuple[str, ...] = ()

    def __call__(self, *args: Any) -> Tensor:
        """Return `forward` of the same arguments."""
        result: Tensor = self.forward(*args)
        return result

    def forward(self, *args: Any) -> Any:
        """Compute the function; subclasses write it."""
        raise NotImplementedError(f"{type(self).__name__} has no forward()")  # abstract

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """Return the parameters with their dotted names, in the order of assignment.

        A parameter without a name is given this one, for the engine's errors.
        """
        return self._named(Tensor)

    def named_generators(self) -> list[tuple[str, np.random.Generator]]:
        """Return the random generators that are attributes, as those of `Dropout`.

        Under dotted names, in the order of assignment. `training.fit` keeps their
        states in its checkpoints.
        """
        return self._named(np.random.Generator)

    def _named(self, *kinds: type) -> list[tuple[str, Any]]:
        """Find what is of those kinds in this Module and its parts, by dotted names.

        Buffers come after all else that their Module holds.
        """
        found: list[tuple[str, Any]] = []
        seen = {id(self)}

        def collect(module: Module, prefix: str) -> None:
            for name, item in module._members():
                if id(item) in seen:
                    continue
                seen.add(id(item))
                if isinstance(item, Module):
                    collect(item, f"{prefix}{name}.")
                elif isinstance(item, kinds):
                    found.append((prefix + name, item))
                    if isinstance(item, Tensor) and item.name is None:
                        item.name = prefix + name
            if _Buffer in kinds:
                names = module._buffer_names
                found.extend((prefix + name, _Buffer(module, name)) for name in names)

        collect(self, "")
        return found

    def parameters(self) -> list[Tensor]:
        """Return the parameters, in the order of assignment."""
        return [p for _, p in self.named_parameters()]

    def register_buffer(self, name: str, array: Array) -> None:
        """Keep an array that is not a parameter, but belongs to the state.

            def __init__(self, d):
                self.scale = Tensor(np.ones(d, np.float32), requires_grad=True)
                self.register_buffer("mean", np.zeros(d, np.float32))

            def forward(self, x):
                if self.training:  # x is a Tensor
                    mean = np.mean(x, axis=0)
                    self.mean = 0.9 * self.mean + 0.1 * mean.detach()
                ...

        It is the attribute `name`. `state_dict` holds it, `load_state_dict` sets it, no
        optimiser moves it. Write into it, or assign another array of the same shape and
        dtype: `state_dict` takes the array that the attribute holds then. A Tensor that
        requires no gradient gives its values. Registering the name again replaces the
        buffer, by an array of any shape and dtype.

        Args:
            name: a Python name that the Module does not use for anything else.
            array: of floats, integers or booleans; kept, not copied.

        Raises:
            TypeError: `name` is not a str, or `array` not such an array, or it has
                masked entries.
            ValueError: `name` is not a Python name, or is taken.

        """
        owner = f"{type(self).__name__}.register_buffer"
        if not isinstance(name, str):
            raise TypeError(f"{owner}: name is {name!r}; a str expected")
        if not name.isidentifier():
            raise ValueError(
                f"{owner}: name is {name!r}; a Python name expected, like "
                "'running_mean' (state_dict adds the names of the Modules around it)"
            )
        free = not hasattr(type(self), name)
        if not free or not backend.is_array(vars(self).get(name, np.zeros(0))):
            kind = type(getattr(self, name)).__name__
            raise ValueError(
                f"{owner}: the name {name!r} is taken by a {kind}; choose another"
            )
        array = self._checked_buffer(owner, name, array)
        if name not in self._buffer_names:
            self._buffer_names = (*self._buffer_names, name)
        vars(self)[name] = array

    def _checked_buffer(self, owner: str, name: str, array: Any) -> Array:
        """Return what may be a buffer as an array of the backend."""
        if isinstance(array, Tensor) and not array.requires_grad:
            array = array.data.copy()  # no later write goes to what a graph has read
        if not backend.is_array(array) or array.dtype.kind not in "biuf":
            kind = getattr(array, "dtype", "")
            what = f"a {type(array).__name__}{f' of {kind}' if kind else ''}"
            if isinstance(array, Tensor):
                what += " that requires a gradient; its value is .detach()"
            raise TypeError(
                f"{owner}: {name} is {what}; an array of floats, integers or booleans "
                "expected"
            )
        return backend.asarray(checks.plain_array(owner, name, array))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._buffer_names:
            owner = type(self).__name__
            value = self._checked_buffer(owner, f"the buffer {name!r}", value)
            now = vars(self)[name]
            if value.shape != now.shape or value.dtype != now.dtype:
                raise ValueError(
                    f"{owner}: the buffer {name!r} is {now.dtype} of shape {now.shape},"
                    f" {value.dtype} of shape {value.shape} was assigned; cast or "
                    "reshape it, or call register_buffer again"
                )
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name in self._buffer_names:
            left = (other for other in self._buffer_names if other != name)
            self._buffer_names = tuple(left)

    def named_buffers(self) -> list[tuple[str, Array]]:
        """Return the buffers with their dotted names: see `register_buffer`.

        Module by Module, each Module's in the order in which they were registered.
        """
        return [(name, b.data) for name, b in self._named(_Buffer)]

    def buffers(self) -> list[Array]:
        """Return the buffers, in the order of `named_buffers`."""
        return [a for _, a in self.named_buffers()]

    @property
    def training(self) -> bool:
        """Whether to behave as in training; what `Dropout` asks.

        So it is until `eval()`, and again after `train()`; inside `inference()`, and
        thus in `evaluate` of a plain array, it is not.
        """
        return self._training and not _inference.get()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of this Module and all its parts; return self."""
        waiting: list[Module] = [self]
        seen = {id(self)}
        while waiting:
            module = waiting.pop()
            module._training = mode
            for _, item in module._members():
                if isinstance(item, Module) and id(item) not in seen:
                    seen.add(id(item))
                    waiting.append(item)
        return self

    def eval(self) -> Self:
        """Leave training mode: `train(False)`."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients: `.grad` of every parameter becomes None."""
        for p in self.parameters():
            p.grad = None

    def state_arrays(self) -> dict[str, Array]:
        """Return the arrays of the parameters and buffers themselves, by name.

        In the order of assignment; the buffers of a Module come after its parameters
        and parts, in the order in which they were registered.
        """
        return {name: x.data for name, x in self._named(Tensor, _Buffer)}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copy the values of parameters and buffers, by name, to arrays on the host."""
        return buffers.copy_state(self.state_arrays())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the values of all parameters and buffers, or of none.

        Parameters are written in place; each buffer becomes an array of its own.

        Raises:
            TypeError: `state` is not a mapping.
            ValueError: names are missing or unexpected, a shape or a dtype differs, a
                parameter is read-only, or a value has masked entries; all faults are
                listed, and nothing was changed.

        """
        self._load(f"{type(self).__name__}.load_state_dict", state)

    def _load(
        self, owner: str, state: Mapping[str, Any], names: Iterable[str] | None = None
    ) -> None:
        """Set the values of those names, of all by default, or of none."""
        held = dict(self._named(Tensor, _Buffer))
        if names is not None:
            held = {name: held[name] for name in names}
        parameters = {k: x for k, x in held.items() if isinstance(x, Tensor)}
        # New arrays for buffers, as forward() may have bound one to any memory.
        arrays = {
            name: x.data if name in parameters else np.empty_like(x.data)
            for name, x in held.items()
        }
        values = buffers.check_state(owner, arrays, state)
        try:
            buffers.write_state(arrays, values)
        finally:
            for p in parameters.values():
                mark_modified(p)
        for name, x in held.items():
            if name not in parameters:
                vars(x.module)[x.name] = arrays[name]

    def __repr__(self) -> str:
        """Draw the tree of Modules, each with the parameters that it holds itself.

        Its buffers are shown too, and not counted.
        """
        lines = []
        total = 0
        seen = {id(self)}

        def draw(module: Module, label: str, depth: int) -> None:
            nonlocal total
            own, parts, count = [], [], 0
            for name, item in module._members():
                if id(item) in seen:
                    own.append(f"{name} (shared)")
                    continue
                seen.add(id(item))
                if isinstance(item, Module):
                    parts.append((name, item))
                elif isinstance(item, Tensor):
                    frozen = "" if item.requires_grad else " frozen"
                    own.append(f"{name} {item.shape}{frozen}")
                    count += item.size
            for name in module._buffer_names:
                own.append(f"{name} {getattr(module, name).shape} buffer")
            end = [", ".join(own)] * bool(own) + [f"{count:,}"] * bool(count)
            lines.append("  ".join(["    " * depth + label + module._label(), *end]))
            total += count
            for name, part in parts:
                draw(part, f"{name}: ", depth + 1)

        draw(self, "", 0)
        return "\n".join([*lines, f"{total:,} parameters"])

    def _items(self) -> Iterable[tuple[Any, Any]]:
        """Return the names and values among which the members are found."""
        return vars(self).items()

    def _members(self) -> Iterator[tuple[str, Any]]:
        """Find the parameters, Modules and generators that this Module holds itself."""
        waiting = [(str(name), value) for name, value in self._items()]
        while waiting:
            name, value = waiting.pop(0)
            if isinstance(value, (list, tuple)):
                waiting[:0] = [(f"{name}.{i}", item) for i, item in enumerate(value)]
            elif isinstance(value, dict):
                waiting[:0] = [(f"{name}.{key}", item) for key, item in value.items()]
            elif isinstance(value, Module):
                yield name, value
            elif isinstance(value, Tensor) and value._node is None:
                yield name, value  # with a node it is a result that forward() kept
            elif isinstance(value, np.random.Generator):
                yield name, value

    def _label(self) -> str:
        """Return what stands for this Module in a repr and in errors."""
        return f"{type(self).__name__}()"


def evaluate(function: Callable[[Any], Any], x: Any) -> Any:
    """Return function(x) as what x is: a Tensor for a Tensor, an array for an array.

    An array asks for values and not for gradients: that is `inference`. One that is on
    the host goes to the device and back, if the backend has one.
    """
    checks.function("evaluate", "function", function, "model.encoder")
    if isinstance(x, Tensor):
        return function(x)
    x = checks.plain_array("evaluate", "x", x)
    with inference():
        y = function(backend.asarray(x) if isinstance(x, np.ndarray) else x)
    return backend.bring(y.data if isinstance(y, Tensor) else y, to=x)


@contextmanager
def inference() -> Iterator[None]:
    """Record nothing and drop nothing inside `with inference():`, in this thread.

    All Modules behave as after `eval()`, and keep their own mode for afterwards.
    """
    token = _inference.set(True)
    try:
        with no_grad():
            yield
    finally:
        _inference.reset(token)


# --- Layers -------------------------------------------------------------------------


class Dense(Module):
    """The affine map y = x W + b.

    Args:
        d_in: columns of x (..., d_in).
        d_out: columns of y (..., d_out).
        rng: draws W.
        init: `(rng, (d_in, d_out), dtype) -> W`; b starts at zero.
        dtype: of W and b, and of the x that is accepted.
        bias: whether there is a b.

    Raises:
        TypeError: `rng` is no generator, `dtype` neither float32 nor float64, or x
            of another dtype.
        ValueError: a size is not positive, or x has another number of columns.

    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        rng: np.random.Generator,
        init: Initializer = glorot_uniform,
        dtype: DTypeLike = np.float32,
        bias: bool = True,
    ) -> None:
        checks.count("Dense", "d_in", d_in)
        checks.count("Dense", "d_out", d_out)
        checks.rng("Dense", rng)
        checks.function("Dense", "init", init, "nn.glorot_uniform")
        dtype = checks.dtype("Dense", dtype)
        self.W = Tensor(init(rng, (d_in, d_out), dtype), requires_grad=True)
        zeros = backend.zeros((d_out,), dtype)
        self.b = Tensor(zeros, requires_grad=True) if bias else None

    def forward(self, x: Any) -> Any:
        """Return x W + b: x (..., d_in) -> (..., d_out)."""
        x = checks.plain_array("Dense", "x", x)
        d_in = self.W.shape[0]
        if not hasattr(x, "shape"):
            raise TypeError(f"{self._label()}: x is a {type(x).__name__}, not an array")
        if x.shape[-1:] != (d_in,):
            raise ValueError(
                f"{self._label()}: x has {x.shape[-1] if x.shape else 'no'} columns, "
                f"{d_in} expected (shape {x.shape})"
            )
        if x.dtype != self.W.dtype:
            raise TypeError(
                f"{self._label()}: x is {x.dtype}, W is {self.W.dtype}; "
                f"pass x.astype(np.{self.W.dtype})"
            )
        y = x @ self.W
        return y if self.b is None else y + self.b

    def _label(self) -> str:
        d_in, d_out = self.W.shape
        return f"Dense({d_in}, {d_out})"


class ReLU(Module):
    """max(x, 0), entry by entry."""

    def forward(self, x: Any) -> Any:
        """Return max(x, 0), of the shape of x."""
        return functions.relu(checks.plain_array("ReLU", "x", x))


class LeakyReLU(Module):
    """x where it is positive, else slope * x (Maas et al. 2013)."""

    def __init__(self, slope: float = 0.2) -> None:
        self.slope = checks.number("LeakyReLU", "slope", slope)

    def forward(self, x: Any) -> Any:
        """Return x or slope * x, of the shape of x."""
        return functions.leaky_relu(checks.plain_array("LeakyReLU", "x", x), self.slope)

    def _label(self) -> str:
        return f"LeakyReLU({self.slope})"


class Sigmoid(Module):
    """1 / (1 + e^(-x)), entry by entry."""

    def forward(self, x: Any) -> Any:
        """Return sigmoid(x), of the shape of x."""
        return functions.sigmoid(checks.plain_array("Sigmoid", "x", x))


class Tanh(Module):
    """tanh(x), entry by entry."""

    def forward(self, x: Any) -> Any:
        """Return tanh(x), of the shape of x."""
        return np.tanh(checks.plain_array("Tanh", "x", x))


class Maxout(Module):
    """The largest of several affine maps, entry by entry: y_j = max_i (x W_i + b_i)_j.

    A convex activation that is learned (Goodfellow et al. 2013). Maps that tie share
    the gradient.

    Args:
        d_in: columns of x (..., d_in).
        d_out: columns of y (..., d_out).
        pieces: how many maps there are. Side by side they are one Dense, with W
            (d_in, pieces * d_out): W_0 first.
        rng, init, dtype: as for `Dense`; `init` draws each map by itself.

    Raises:
        TypeError, ValueError: as for `Dense`; pieces is not positive.

    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        pieces: int,
        *,
        rng: np.random.Generator,
        init: Initializer = glorot_uniform,
        dtype: DTypeLike = np.float32,
    ) -> None:
        for name, count in [("d_in", d_in), ("d_out", d_out), ("pieces", pieces)]:
            checks.count("Maxout", name, count)
        checks.function("Maxout", "init", init, "nn.glorot_uniform")
        self.pieces = pieces

        def each(
            rng: np.random.Generator, shape: tuple[int, int], dtype: DTypeLike
        ) -> Array:
            maps = [init(rng, (d_in, d_out), dtype) for _ in range(pieces)]
            return np.concatenate(maps, axis=1)

        self.maps = Dense(d_in, pieces * d_out, rng=rng, init=each, dtype=dtype)

    def forward(self, x: Any) -> Any:
        """Return the largest map of x (..., d_in): (..., d_out)."""
        y = self.maps(x)
        *rows, columns = y.shape
        y = y.reshape(*rows, self.pieces, columns // self.pieces)
        return np.max(y, axis=-2)  # far faster than over a short last axis

    def _label(self) -> str:
        d_in, columns = self.maps.W.shape
        return f"Maxout({d_in}, {columns // self.pieces}, pieces={self.pieces})"


class Dropout(Module):
    """In training, zeros in random places, and the rest made up for it.

    An entry is dropped with probability p, else divided by 1 − p, so that its mean is
    what it was (Srivastava et al. 2014, where p is what is kept). After `eval()`, and
    in `inference()`, it changes nothing.

    Args:
        p: the probability, in [0, 1).
        rng: draws what is dropped.

    Raises:
        TypeError, ValueError: an argument is not what is said above.

    """

    def __init__(self, p: float, *, rng: np.random.Generator) -> None:
        checks.rng("Dropout", rng)
        self.p = checks.number("Dropout", "p", p, "[0, 1)")
        self.rng = rng

    def forward(self, x: Any) -> Any:
        """Return x with some entries dropped, of the same shape."""
        x = checks.plain_array("Dropout", "x", x)
        if not self.training or self.p == 0:
            return x
        kept = backend.asarray(self.rng.random(x.shape) >= self.p)
        return x * kept / (1 - self.p)

    def _label(self) -> str:
        return f"Dropout({self.p})"


class Sequential(Module):
    """Modules one after another: each takes what the one before returned.

    It can be indexed (a slice is a Sequential over the same Modules), counted with
    `len`, and iterated over. Its parameters are named by position: "0.W", "2.W".

    Raises:
        TypeError: an argument is no Module.

    """

    def __init__(self, *modules: Module) -> None:
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                raise TypeError(
                    f"Sequential: argument {i} is a {type(module).__name__}, "
                    "a Module expected"
                )
        self._modules = modules

    def forward(self, x: Any) -> Any:
        """Return the last Module's result."""
        x = checks.plain_array("Sequential", "x", x)
        for module in self._modules:
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules)

    def __getitem__(self, i: int | slice) -> Any:
        chosen = self._modules[i]
        return Sequential(*chosen) if isinstance(chosen, tuple) else chosen

    def _items(self) -> Iterable[tuple[Any, Any]]:
        return enumerate(self._modules)


def activation(name: str, slope: float = 0.2) -> Module:
    """Return the layer of an activation: "relu", "leaky_relu", "sigmoid", "tanh".

    "linear" stands for none. `slope` is leaky_relu's, in [0, 1).

    Raises:
        ValueError: there is no activation of that name, or `slope` is out of range.

    """
    checks.choice("activation", "name", name, ACTIVATIONS)
    slope = checks.number("leaky_relu", "slope", slope, "[0, 1)")
    if name == "leaky_relu":
        return LeakyReLU(slope)
    layers: dict[str, type[Module]] = {
        "linear": Sequential, "relu": ReLU, "sigmoid": Sigmoid, "tanh": Tanh
    }  # fmt: skip
    return layers[name]()


def _maker(given: str | Callable[[], Module], slope: float) -> Callable[[], Module]:
    """Return what makes the activation after each layer of `mlp`."""
    if isinstance(given, str):
        return partial(activation, given, slope)
    checks.function("mlp", "activation", given, "nn.ReLU")
    return given


def mlp(
    sizes: Sequence[int],
    activation: str | Callable[[], Module] = "relu",
    slope: float = 0.2,
    *,
    rng: np.random.Generator,
    init: Initializer = glorot_uniform,
    dtype: DTypeLike = np.float32,
) -> Sequential:
    """Make Dense layers with an activation between them, and none after the last.

    Args:
        sizes: columns of the input, of each hidden layer, of the output.
        activation: a name that `nn.activation` knows; or what is called once for each
            hidden layer and returns a Module.
        slope: of leaky_relu.
        rng, init, dtype: as for `Dense`.

    """
    checks.sizes("mlp", sizes)
    make = _maker(activation, slope)
    layers: list[Module] = []
    for d_in, d_out in pairwise(sizes):
        layers.append(Dense(d_in, d_out, rng=rng, init=init, dtype=dtype))
        layers.append(make())
    return Sequential(*layers[:-1])
