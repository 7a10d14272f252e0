"""Layers: Modules that hold parameters, name them, and print as a tree.

A `Module` has parameters as attributes, and `forward`, which is plain NumPy.
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
from scratchnet.derivatives import matmul_a, matmul_b
from scratchnet.graph import mark_modified, no_grad
from scratchnet.kernels import buffers
from scratchnet.kernels.activations import ACTIVATIONS, add_row
from scratchnet.kernels.initializers import (
    Initializer,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
)
from scratchnet.table import primitive, rule, spelled
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
    """The place of a buffer, whose array may be replaced at any time."""

    module: "Module"
    name: str

    @property
    def data(self) -> Array:
        """Return the current array."""
        return getattr(self.module, self.name)


class Module:
    """A function with parameters.

    Assign parameters (`Tensor(array, requires_grad=True)`), other Modules, or lists of
    either, as attributes. They get dotted names, "encoder.0.W", and keep the order of
    assignment. Every leaf Tensor is a parameter. With requires_grad=False it is frozen:
    it is still saved and loaded, but no optimiser changes it.

    Keep other arrays as plain arrays. `state_dict` does not save these: a model that is
    loaded, or a run that is resumed, has the arrays that its constructor makes. If an
    array changes during training and the results depend on it, like the running mean of
    a BatchNorm, register it with `register_buffer`; then it is saved too.

    A parameter or Module with two names (shared weights) counts once, under the name
    found first.
    """

    _training = True
    _buffer_names: tuple[str, ...] = ()

    def __call__(self, *args: Any) -> Tensor:
        """Return `forward` of the same arguments."""
        result: Tensor = self.forward(*args)
        return result

    def forward(self, *args: Any) -> Any:
        """Compute the function; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} has no forward()")  # abstract

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """Return the parameters with their dotted names, in the order of assignment.

        A parameter without a name of its own gets this one, for error messages.
        """
        return self._named(Tensor)

    def named_generators(self) -> list[tuple[str, np.random.Generator]]:
        """Return the random generators among the attributes, like that of `Dropout`.

        They have dotted names and the order of assignment. `training.fit` saves their
        states in its checkpoints.
        """
        return self._named(np.random.Generator)

    def _named(self, *kinds: type) -> list[tuple[str, Any]]:
        """Find the objects of these types in this Module and its parts, with names.

        The buffers of a Module come last.
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
        """Add an array to the state that is not a parameter.

            def __init__(self, d):
                self.scale = Tensor(np.ones(d, np.float32), requires_grad=True)
                self.register_buffer("mean", np.zeros(d, np.float32))

            def forward(self, x):
                if self.training:  # x is a Tensor
                    mean = np.mean(x, axis=0)
                    self.mean = 0.9 * self.mean + 0.1 * mean.detach()
                ...

        It becomes the attribute `name`. `state_dict` saves it, `load_state_dict` sets
        it, no optimiser changes it. You may write into it, or assign another array of
        the same shape and dtype; `state_dict` uses the current array. Of a Tensor that
        requires no gradient the values are copied. Registering the name again replaces
        the buffer, by an array of any shape and dtype.

        Args:
            name: a Python name that the Module does not use otherwise.
            array: of floats, integers or booleans; not copied.

        Raises:
            TypeError: `name` is not a str, or `array` is not such an array, or it has
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
        """Return a valid buffer as an array of the backend."""
        if isinstance(array, Tensor) and not array.requires_grad:
            array = array.data.copy()  # so that no later write changes a graph's input
        if not backend.is_array(array) or array.dtype.kind not in "biuf":
            kind = getattr(array, "dtype", "")
            what = f"a {type(array).__name__}{f' of {kind}' if kind else ''}"
            if isinstance(array, Tensor):
                what += " that requires a gradient; pass its value, .detach()"
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
                    f" but {value.dtype} of shape {value.shape} was assigned; cast or "
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

        They come Module by Module, in the order of registration.
        """
        return [(name, b.data) for name, b in self._named(_Buffer)]

    def buffers(self) -> list[Array]:
        """Return the buffers, in the order of `named_buffers`."""
        return [a for _, a in self.named_buffers()]

    @property
    def training(self) -> bool:
        """Whether to behave as in training; `Dropout` reads it.

        True until `eval()`, and again after `train()`. False inside `inference()`, and
        so in `evaluate` of a plain array.
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
        """Set `.grad` of every parameter to None."""
        for p in self.parameters():
            p.grad = None

    def state_arrays(self) -> dict[str, Array]:
        """Return the arrays of the parameters and buffers by name, not copied.

        The order is that of assignment; the buffers of a Module come after its
        parameters and parts, in the order of registration.
        """
        return {name: x.data for name, x in self._named(Tensor, _Buffer)}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copy the values of parameters and buffers to the host, by name."""
        return buffers.copy_state(self.state_arrays())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the values of all parameters and buffers, or of none.

        Parameters are written in place; each buffer becomes a new array.

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
        """Set all values of these names (default: of all names), or none."""
        held = dict(self._named(Tensor, _Buffer))
        if names is not None:
            held = {name: held[name] for name in names}
        parameters = {k: x for k, x in held.items() if isinstance(x, Tensor)}
        # New arrays for buffers, because forward() may share one with other code.
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
        """Draw the tree of Modules, each with its own parameters.

        Buffers are shown too, but not counted.
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
        """Return the names and values to search for members."""
        return vars(self).items()

    def _members(self) -> Iterator[tuple[str, Any]]:
        """Find the parameters, Modules and generators that are attributes."""
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
        """Return the text for this Module in a repr and in errors."""
        return f"{type(self).__name__}()"


def evaluate(function: Callable[[Any], Any], x: Any) -> Any:
    """Return function(x): a Tensor for a Tensor, an array for an array.

    For an array no graph is recorded: this is `inference`. An array on the host goes to
    the device and back, if the backend has a device.
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
    """Record no graph and drop no entries inside `with inference():`, in this thread.

    All Modules behave as after `eval()`; afterwards they have their own mode again.
    """
    token = _inference.set(True)
    try:
        with no_grad():
            yield
    finally:
        _inference.reset(token)


# --- Layers -------------------------------------------------------------------------


@primitive
def _affine(x: Array, W: Array, b: Array) -> Array:
    """Return x @ W + b: one function, so that the sum needs no further memory."""
    y = backend.product()(x, W)
    add_row(y, b)
    return y


rule(
    _affine,
    lambda g, y, x, W, b: matmul_a(g, y, x, W),
    lambda g, y, x, W, b: matmul_b(g, y, x, W),
    lambda g, y, x, W, b: g,
)
spelled("x @ W + b", _affine)


class Dense(Module):
    """The affine map y = x W + b.

    Args:
        d_in: columns of x (..., d_in).
        d_out: columns of y (..., d_out).
        rng: draws W.
        init: `(rng, (d_in, d_out), dtype) -> W`; b starts at zero.
        dtype: of W, b and x.
        bias: whether there is a b.

    Raises:
        TypeError: `rng` is not a generator, `dtype` is neither float32 nor float64, or
            x has another dtype.
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
        W = backend.empty((d_in, d_out), dtype)
        W[...] = backend.asarray(init(rng, W.shape, dtype))
        self.W = Tensor(W, requires_grad=True)
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
        return x @ self.W if self.b is None else _affine(x, self.W, self.b)

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

    It is a learned convex activation (Goodfellow et al. 2013). Maps with equal values
    share the gradient.

    Args:
        d_in: columns of x (..., d_in).
        d_out: columns of y (..., d_out).
        pieces: the number of maps. Side by side they are one Dense, with W
            (d_in, pieces * d_out): W_0 first.
        rng, init, dtype: as for `Dense`; `init` draws each map separately.

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
        return np.max(y, axis=-2)  # much faster than over a short last axis

    def _label(self) -> str:
        d_in, columns = self.maps.W.shape
        return f"Maxout({d_in}, {columns // self.pieces}, pieces={self.pieces})"


class Dropout(Module):
    """Set random entries to zero during training, and scale the others.

    An entry becomes 0 with probability p and is divided by 1 − p otherwise, so its mean
    does not change (Srivastava et al. 2014, where p is the probability to keep an
    entry). After `eval()`, and in `inference()`, x is returned unchanged.

    Args:
        p: the probability, in [0, 1).
        rng: draws the entries to drop.

    Raises:
        TypeError, ValueError: an argument has a wrong type or value.

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
    """Modules in sequence: the output of each is the input of the next.

    It supports indexing (a slice is a Sequential of the same Modules), `len` and
    iteration. Its parameters are named by position: "0.W", "2.W".

    Raises:
        TypeError: an argument is not a Module.

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

    "linear" is the identity. `slope` is that of leaky_relu, in [0, 1).

    Raises:
        ValueError: no activation has that name, or `slope` is out of range.

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
    """Return a function that makes one activation of `mlp`."""
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
    """Make Dense layers with an activation after each but the last.

    Args:
        sizes: columns of the input, of each hidden layer, of the output.
        activation: a name for `nn.activation`, or a function without arguments that
            returns a new Module for each hidden layer.
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
