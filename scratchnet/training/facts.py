"""Describes the parts of a run by facts: the options of a model and its optimizer.

If the facts of two models are equal, both were made in the same way, even in different
processes. Arrays are usually not facts: they are state, or memory for a step. Arrays in
a function or a callable object are facts: the table of a learning rate, the mask of a
corruption.
"""

import functools
import hashlib
import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from enum import Enum
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any

import numpy as np

from scratchnet import backend
from scratchnet.training.distributed import Group, digest

Fact = str | int | float
Facts = Iterator[tuple[str, Any]]  # names and facts; a generator counts as one

# Attributes of a part with a state that are not facts.
_IN_STATE = ("_steps", "_on_host", "group")
# Modules of the standard library whose objects have a complete repr.
_VALUES = ("builtins", "collections", "datetime", "decimal", "fractions", "operator")


def described(**parts: object) -> dict[str, Fact]:
    """Return all options of some parts of a run and of the objects in them, by name.

        described(model=model, optimizer=model.optimizer)
        {"model": "scratchnet.byhand.vae.VAE", "model.batch_size": 128, ...,
         "model.beta": 1.0, ..., "optimizer.eps": 1e-08, ...}

    Attributes are followed through objects, tuples, lists and dicts. A function is
    described by its name and the values that it holds (closure, defaults, arguments of
    `partial`). A function of the user is also described by a digest of its code,
    "NAME (code)", and by the globals that it reads. No fact depends on the process, as
    an address or the order of a set would. The digest of code depends on the version of
    Python.

    Args:
        **parts: the parts to describe, by the names with which their facts begin. An
            object that occurs again is described as "as NAME".

    """
    found: dict[str, Fact] = {}
    for name, value in _Walk(parts).facts():
        if isinstance(value, np.random.Generator):
            value = f"a {type(value.bit_generator).__name__} generator"
        found[name] = value
    return found


def generators_of(**parts: object) -> dict[str, np.random.Generator]:
    """Return the random generators in some parts of a run, by the same names."""
    return {
        name: value
        for name, value in _Walk(parts).facts()
        if isinstance(value, np.random.Generator)
    }


class _Walk:
    """A walk through some parts of a run and all objects in them."""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self.parts = {name: part for name, part in parts.items() if part is not None}
        self.seen = {id(part): name for name, part in self.parts.items()}

    def facts(self) -> Facts:
        """Yield the facts of all parts."""
        for name, part in self.parts.items():
            yield from self._once(name, part, False)

    # `arrays`: whether arrays are facts here.

    def _any(self, name: str, value: Any, arrays: bool) -> Facts:
        if isinstance(value, np.generic):
            value = value.item()
        plain = _plain(value)
        if value is None or isinstance(value, ModuleType | Group):
            return
        if plain is not None:
            yield name, plain
        elif backend.is_array(value) or hasattr(type(value), "__array_function__"):
            if arrays and backend.is_array(value) and not value.dtype.hasobject:
                yield name, digest(value)
        elif isinstance(value, tuple):  # not in `seen`: Python shares equal ones
            yield from self._items(name, value, arrays)
        elif id(value) in self.seen:
            yield name, f"as {self.seen[id(value)]}"
        else:
            self.seen[id(value)] = name
            yield from self._once(name, value, arrays)

    def _items(self, name: str, items: Any, arrays: bool) -> Facts:
        if hasattr(items, "_fields"):
            yield from self._held(name, items._asdict(), True)
            return
        for i, item in enumerate(items):
            yield from self._any(f"{name}[{i}]", item, arrays)

    def _held(self, name: str, held: Mapping[Any, Any], arrays: bool) -> Facts:
        for key, item in held.items():
            yield from self._any(f"{name}.{key}", item, arrays)

    def _once(self, name: str, value: object, arrays: bool) -> Facts:
        if isinstance(value, np.random.Generator):
            yield name, value
        elif isinstance(value, Mapping):
            yield from self._held(name, value, arrays)
        elif isinstance(value, list):
            yield from self._items(name, value, arrays)
        elif isinstance(value, set | frozenset):
            items = sorted(repr([*self._any("", item, True)]) for item in value)
            yield name, ", ".join(items)
        elif isinstance(value, FunctionType):
            yield from self._function(name, value)
        elif isinstance(value, functools.partial):
            yield from self._any(name, value.func, True)
            yield from self._items(name, value.args, True)
            yield from self._held(name, value.keywords, True)
        elif isinstance(value, MethodType | BuiltinFunctionType | MethodWrapperType):
            function = getattr(value, "__func__", None)
            yield name, _name(value if function is None else function)
            yield from self._any(f"{name}.__func__", function, True)
            yield from self._any(f"{name}.__self__", value.__self__, True)
        elif hasattr(value, "__wrapped__"):  # for example by functools.cache
            yield from self._any(name, value.__wrapped__, True)
        elif hasattr(value, "state_dict"):
            yield from self._object(name, value, False)
            if arrays:
                yield from self._held(name, value.state_dict(), True)
        else:
            called = callable(value) or is_dataclass(value)
            yield from self._object(name, value, arrays or called)

    def _object(self, name: str, value: object, arrays: bool) -> Facts:
        kind = type(value)
        if _is_from(kind, *sys.stdlib_module_names):
            shown = repr(value) if _is_from(kind, *_VALUES) else ""
            addressed = re.search(r" at 0x[0-9a-f]", shown, re.IGNORECASE)
            yield name, _name(kind) if addressed or not shown else shown
            return
        yield name, _name(kind)
        slots = [slot for base in kind.__mro__ for slot in _slots(base)]
        held = {slot: getattr(value, slot) for slot in slots if hasattr(value, slot)}
        held |= getattr(value, "__dict__", {})
        if hasattr(value, "state_dict"):
            held = {k: item for k, item in held.items() if k not in _IN_STATE}
        yield from self._held(name, held, arrays)

    def _function(self, name: str, f: FunctionType) -> Facts:
        yield name, _name(f)
        code = f.__code__
        defaults = f.__defaults__ or ()
        given = code.co_varnames[: code.co_argcount]
        held = dict(zip(given[len(given) - len(defaults) :], defaults, strict=True))
        held |= (f.__kwdefaults__ or {}) | vars(f)
        for free, cell in zip(code.co_freevars, f.__closure__ or (), strict=True):
            try:
                held[free] = cell.cell_contents
            except ValueError:  # no value yet
                continue
        if not _is_from(f, "scratchnet", "numpy", *sys.stdlib_module_names):
            text = "\n".join(map(_text, _codes(code)))
            yield f"{name} (code)", hashlib.sha256(text.encode()).hexdigest()
            reads = {read: None for one in _codes(code) for read in one.co_names}
            held |= {k: f.__globals__[k] for k in reads if k in f.__globals__}
        yield from self._held(name, held, True)


def _plain(value: Any) -> Fact | None:
    """Return a simple value as a fact; None if it is not simple."""
    if isinstance(value, Enum):
        return f"{_name(type(value))}.{value.name}"
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, int | str):
        return value
    if isinstance(value, complex | bytes):
        return repr(value)
    if isinstance(value, np.dtype):
        return str(value)
    if isinstance(value, type | np.ufunc):
        return _name(value)
    if type(value) in (tuple, list) and all(
        isinstance(item, int | float | str) for item in value
    ):
        return repr(tuple(value))
    return None


def _name(f: object) -> str:
    """Return the full name of a class or function."""
    name = getattr(f, "__qualname__", None) or getattr(f, "__name__", type(f).__name__)
    return f"{getattr(f, '__module__', None) or type(f).__module__}.{name}"


def _is_from(f: object, *packages: str) -> bool:
    """Return whether a class or function is from one of some packages."""
    return (getattr(f, "__module__", None) or "").partition(".")[0] in packages


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(slot for slot in names if slot not in ("__dict__", "__weakref__"))


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object, and those of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _text(code: CodeType) -> str:
    """Return the instructions of code as text, without its file and lines."""
    constants = [
        repr(sorted(map(repr, c)) if isinstance(c, frozenset) else c)
        for c in code.co_consts
        if not isinstance(c, CodeType)
    ]
    return f"{code.co_code.hex()} {code.co_names} {constants}"
