"""A stand-in for a GPU's arrays, for machines without one.

`Device` wraps a NumPy array and implements NumPy's two protocols, as CuPy's arrays do.
It refuses what they refuse: to become a host array implicitly, to be mixed with one in
either order, to be indexed by one, and `where=`. `syncs` counts how often a value comes
back to the host, where a GPU would make the program wait.

`backend.capture` records its operations, like a CUDA graph, and repeats them with the
same memory. While it records, nothing may come from the host or go there.

`use` makes scratchnet compute with it, inside a `with` block.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from scratchnet import backend
from scratchnet.backend import Kernel
from tests.backend import compiled

# Functions that make device arrays from host data, with `like=`.
_MAKERS = (np.asarray, np.array, np.arange, np.zeros, np.ones, np.empty, np.full)
_METHODS = (
    "all", "any", "argmax", "argmin", "argsort", "astype", "clip", "copy", "cumsum",
    "dot", "max", "mean", "min", "prod", "ravel", "repeat", "reshape", "round", "sort",
    "squeeze", "std", "sum", "swapaxes", "take", "transpose", "var", "view",
)  # fmt: skip

syncs = 0
_tape: list[Callable[[], object]] | None = None  # the operations being recorded
_hooks: list[Callable[[], object]] = []  # Python functions to call at each replay


class RecordError(RuntimeError):
    """An operation that cannot be recorded."""


def _count() -> None:
    global syncs
    if _tape is not None:
        raise RecordError("the host asks for a value while a step is recorded")
    syncs += 1


def _do(f: Callable[[], Any], source: Any = None) -> Any:
    """Compute something, and record it while a step is recorded."""
    found = _wrap(f(), source)
    view = isinstance(found, Device) and found.base is not None
    if _tape is not None and not view:
        _tape.append(lambda: _again(found, f()))
    return found


def _again(found: Any, result: Any) -> None:
    """Write a result into the memory of the recorded result."""
    if isinstance(found, Device):
        if not np.shares_memory(found._host, result):  # they share it with out=
            np.copyto(found._host, result)
    elif isinstance(found, (list, tuple)):
        for a, b in zip(found, result, strict=True):
            _again(a, b)


class Device:
    """An array on the simulated device."""

    __array_priority__ = 100

    def __init__(self, host: np.ndarray, base: Any = None) -> None:
        self._host = host
        self.base = base  # the owner of its memory

    # Known without asking the device

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    T = property(lambda self: _wrap(self._host.T, self))

    def __len__(self) -> int:
        return len(self._host)

    def __repr__(self) -> str:
        return f"Device({self._host!r})"

    # These make the host wait

    def get(self) -> np.ndarray:
        """Copy to the host: the explicit way."""
        _count()
        return self._host.copy()

    def item(self, *args: Any) -> Any:
        _count()
        return self._host.item(*args)

    def tolist(self) -> Any:
        _count()
        return self._host.tolist()

    def __bool__(self) -> bool:
        _count()
        return bool(self._host)

    def __float__(self) -> float:
        _count()
        return float(self._host)

    def __int__(self) -> int:
        _count()
        return int(self._host)

    def __index__(self) -> int:
        _count()
        return self._host.__index__()

    def __format__(self, spec: str) -> str:
        _count()
        return format(self._host.item(), spec)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "Implicit conversion of a device array to a NumPy array is not allowed"
        )

    # NumPy's protocols

    def __array_ufunc__(self, f: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if _foreign(inputs):
            return NotImplemented
        if method != "__call__":
            raise TypeError(f"np.{f.__name__}.{method} is not supported on the device")
        return _call(f, inputs, kwargs)

    def __array_function__(self, f: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if not all(issubclass(t, Device | np.ndarray) for t in types):
            return NotImplemented
        if f in _MAKERS:
            kwargs = {k: v for k, v in kwargs.items() if k != "like"}
            if f in (np.asarray, np.array) and _tape is not None:
                _refuse_host(args)
            return _do(lambda: np.array(f(*_unwrapped(args), **_unwrapped(kwargs))))
        if f is np.copyto:
            _refuse_host(args)
        return _call(f, args, kwargs)

    # Indexing

    def __getitem__(self, key: Any) -> Any:
        place = _key(key)
        return _do(lambda: self._host[place], self)

    def __setitem__(self, key: Any, value: Any) -> None:
        _refuse_host(value)
        place, given = _key(key), _unwrapped(value)

        def put() -> None:
            self._host[place] = given

        _do(put)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    __hash__ = None  # type: ignore[assignment]


def _binary(name: str, f: Any) -> None:
    # CuPy 14 asks NumPy if the other operand is not a CuPy array.
    def operator(self: Device, other: Any) -> Any:
        return f(self, other)

    def reflected(self: Device, other: Any) -> Any:
        return f(other, self)

    def in_place(self: Device, other: Any) -> Any:
        return _call(f, (self, other), {"out": (self,)})

    setattr(Device, f"__{name}__", operator)
    if f not in (np.less, np.less_equal, np.greater, np.greater_equal, np.equal,
                 np.not_equal):  # fmt: skip
        setattr(Device, f"__r{name}__", reflected)
        setattr(Device, f"__i{name}__", in_place)


for _name, _f in {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide,
    "floordiv": np.floor_divide, "mod": np.remainder, "pow": np.power,
    "matmul": np.matmul, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
}.items():  # fmt: skip
    _binary(_name, _f)
Device.__neg__ = lambda self: _call(np.negative, (self,), {})  # type: ignore[attr-defined]
Device.__pos__ = lambda self: _call(np.positive, (self,), {})  # type: ignore[attr-defined]
Device.__abs__ = lambda self: _call(np.absolute, (self,), {})  # type: ignore[attr-defined]
Device.__invert__ = lambda self: _call(np.invert, (self,), {})  # type: ignore[attr-defined]


def _foreign(inputs: Any) -> bool:
    """Return whether some input implements the protocol in another way."""
    own = (Device, np.ndarray, np.generic)
    return any(hasattr(x, "__array_ufunc__") and not isinstance(x, own) for x in inputs)


def _method(name: str) -> Any:
    def method(self: Device, *args: Any, **kwargs: Any) -> Any:
        _refuse_host(args)
        _refuse_host(list(kwargs.values()))
        f = getattr(self._host, name)
        return _do(lambda: f(*_unwrapped(args), **_unwrapped(kwargs)), self)

    return method


for _name in _METHODS:
    setattr(Device, _name, _method(_name))


def _call(f: Any, args: Any, kwargs: Any) -> Any:
    if kwargs.get("where") is not None and f not in (np.where,):
        raise TypeError(f"{f.__name__}: where= is not supported on the device")
    out = kwargs.get("out")
    if out is not None:
        outs = out if isinstance(out, tuple) else (out,)
        if not all(isinstance(o, Device) for o in outs):
            raise TypeError(f"{f.__name__}: out= is not on the device")
    _refuse_host([args, *(v for k, v in kwargs.items() if k != "out")])

    def compute() -> Any:
        return f(*_unwrapped(args), **_unwrapped(kwargs))

    if out is not None:
        _do(compute)
        return outs[0] if len(outs) == 1 else outs
    return _do(compute, next((a for a in args if isinstance(a, Device)), None))


def _wrap(result: Any, source: Any = None) -> Any:
    """Bring a NumPy result to the device, together with the memory that it shares."""
    if isinstance(result, np.ndarray):
        shares = source is not None and np.shares_memory(result, source._host)
        owner = source if source is None or source.base is None else source.base
        return Device(result, owner if shares else None)
    if isinstance(result, np.generic):
        return Device(np.asarray(result))
    if type(result) in (list, tuple):
        return type(result)(_wrap(r, source) for r in result)
    if isinstance(result, tuple):  # a named tuple
        return type(result)(*(_wrap(r, source) for r in result))
    return result


def _unwrapped(x: Any) -> Any:
    if isinstance(x, Device):
        return x._host
    if type(x) in (list, tuple):
        return type(x)(map(_unwrapped, x))
    if type(x) is dict:
        return {k: _unwrapped(v) for k, v in x.items()}
    return x


def _refuse_host(x: Any) -> None:
    if isinstance(x, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>: it is on the host")
    if type(x) in (list, tuple):
        for item in x:
            _refuse_host(item)


def _key(key: Any) -> Any:
    _refuse_host(key if isinstance(key, tuple) else (key,))
    return _unwrapped(key)


# --- As a backend -------------------------------------------------------------------


class StandIn(backend.openblas.Threads):
    """The functions that backend/ needs from an array library."""

    name = "stand-in"
    array = Device
    host = False

    def __init__(self, kernels: bool = False) -> None:
        self.kernels = kernels  # whether to use those in C too

    def asarray(self, x: Any, dtype: Any = None) -> Device:
        if isinstance(x, Device):
            return x if dtype is None or x.dtype == dtype else x.astype(dtype)
        if _tape is not None:
            raise RecordError("an array comes from the host while a step is recorded")
        return Device(np.array(x, dtype=dtype))  # an upload has its own memory

    def zeros(self, shape: Any, dtype: Any) -> Device:
        return _do(lambda: np.zeros(shape, dtype))

    def empty(self, shape: Any, dtype: Any) -> Device:
        poisoned = np.empty(shape, dtype)
        poisoned.fill(np.nan if poisoned.dtype.kind == "f" else 77)
        return Device(poisoned)

    def to_numpy(self, x: Any) -> np.ndarray:
        return x.get() if isinstance(x, Device) else np.asarray(x)

    def scatter_add(self, target: Device, index: Any, values: Device) -> None:
        place = _key(index)
        _do(lambda: np.add.at(target._host, place, values._host))

    def matmul(self, a: Device, b: Device, out: Device) -> Device:
        return np.matmul(a, b, out=out)

    product = staticmethod(np.matmul)

    def sum_of_rows(self, a):
        return np.sum(a, axis=0)

    def run_kernel(self, kernel: Kernel, arguments: Any) -> bool:
        runs = self.kernels and not kernel.sums
        if runs:
            _refuse_host(arguments)
            host = _unwrapped(tuple(arguments))
            _do(lambda: compiled.run(kernel, host))
        return runs

    def capture(self, f: Callable[[], object]) -> Callable[[], object]:
        return _Recording(f)

    def seconds(self, f: Callable[[], object]) -> float:
        return backend.numpy.NumPy().seconds(f)

    def machine(self) -> str:
        return "a stand-in"

    def each_time(self, f: Callable[[], object]) -> None:
        global _tape
        if _tape is not None:
            _hooks.append(f)
        tape, _tape = _tape, None  # its own operations are not recorded
        try:
            f()
        finally:
            _tape = tape


class _Recording:
    """Calls a function, then records a second call, then replays the recording."""

    def __init__(self, f: Callable[[], object]) -> None:
        self.f = f
        self.calls = 0
        self.tape: list[Callable[[], object]] = []
        self.hooks: list[Callable[[], object]] = []

    def __call__(self) -> None:
        global _tape, _hooks
        self.calls += 1
        if self.calls == 1:
            self.f()
        elif self.calls == 2:
            _tape, _hooks = self.tape, self.hooks
            try:
                self.f()
            finally:
                _tape, _hooks = None, []
        else:
            for f in (*self.hooks, *self.tape):
                f()


@contextlib.contextmanager
def use(kernels: bool = False) -> Iterator[None]:
    """Make scratchnet use the stand-in, and optionally its kernels in C."""
    before = backend._library
    backend._library = StandIn(kernels)
    try:
        yield
    finally:
        backend._library = before


@contextlib.contextmanager
def the_host_alike() -> Iterator[None]:
    """Make NumPy compute as a device does: noise from streams, steps by position."""
    numpy = backend._library
    assert numpy.name == "numpy"
    numpy.host = False
    try:
        yield
    finally:
        numpy.host = True
