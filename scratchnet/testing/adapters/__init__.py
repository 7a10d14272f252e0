"""From the arguments of `gradcheck` to the problems that it checks.

The type of the inputs decides: tensors of torch, arrays of JAX, a layer, or `jac=`;
otherwise a pair of NumPy functions, or a function of Tensors. A library is imported
only if an object of it is passed. For another library, write a `Foreign` (foreign.py).
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchnet.testing.adapters import layers, scipy, trees
from scratchnet.testing.adapters.foreign import Adapted, Foreign
from scratchnet.testing.adapters.pairs import NestedPair, nested_tensors
from scratchnet.testing.adapters.precision import OwnPrecision
from scratchnet.testing.problems import (
    Pair,
    Problem,
    SecondOrder,
    SeveralError,
    TensorFunction,
    listed,
)

# The packages that define the types of a library, and how to make its arrays.
LIBRARIES = {"torch": "torch", "jax": "jax", "jaxlib": "jax"}
CONVERSIONS = {"torch": "torch.from_numpy(x)", "jax": "jnp.asarray(x)"}


def problems_of(
    f: Any,
    inputs: Any,
    order: int,
    *,
    dtype: DTypeLike | None = None,
    jac: bool | Callable[..., Any] | None = None,
    args: Sequence[Any] = (),
) -> list[Problem]:
    """Return the problems to check: f, and for order 2 also its gradient."""
    if order not in (1, 2):
        raise ValueError(f"gradcheck: order={order!r}; use 1 or 2")
    if dtype is not None:
        try:
            dtype = np.dtype(dtype)
        except TypeError:
            raise TypeError(f"gradcheck: dtype={dtype!r}; use np.float32") from None
        if dtype.kind != "f":
            raise ValueError(f"gradcheck: dtype={dtype}; use a real floating dtype")
    first = _problem(f, inputs, dtype, jac, args)
    problems = [first] if order == 1 else [first, _second(first)]
    if dtype is not None:
        return [OwnPrecision(problem, dtype) for problem in problems]
    return [_in_a_precision_of_f(problem) for problem in problems]


def _problem(
    f: Any,
    inputs: Any,
    dtype: np.dtype[Any] | None,
    jac: bool | Callable[..., Any] | None,
    args: Sequence[Any],
) -> Problem:
    """Return the problem of f itself."""
    if jac is not None:
        return scipy.problem(f, np.asarray(inputs, dtype or float), jac, args)
    if args:
        raise ValueError("gradcheck: args= goes with jac=, as in SciPy")
    one = isinstance(inputs, dict) or library_of(inputs)
    given = [inputs] if one else listed(inputs)
    leaves = trees.leaves(given)
    found = {name for leaf in leaves if (name := library_of(leaf))}
    if not leaves and (name := library_of(f)):  # a module without inputs
        found = {name}
    if found:
        return _foreign(min(found), f, given, dtype)
    if callable(f) and (name := library_of(f)):
        raise TypeError(_not_numpy(name))
    if dtype is not None:
        given = trees.rebuild(given, (_cast(leaf, dtype) for leaf in leaves))
    if layers.is_layer(f):
        return Adapted(layers.Layer(f, given))
    if callable(f):
        return nested_tensors(_with_hint(f), given)
    return _pair(f, given)


def _foreign(
    name: str, f: Any, given: list[Any], dtype: np.dtype[Any] | None
) -> Adapted:
    """Return the problem of a function of torch or JAX."""
    if not callable(f):
        raise TypeError(
            f"gradcheck: f must be a function of {name}, since an input is; a pair of "
            "functions takes NumPy arrays"
        )
    foreign: Foreign = importlib.import_module(f"{__name__}.{name}").adapter(f, given)
    if dtype is not None:
        foreign.arrays = [_cast(a, dtype) for a in foreign.arrays]
    return Adapted(foreign)


def _pair(f: Any, given: list[Any]) -> Problem:
    """Return the problem of a pair of NumPy functions."""
    if not isinstance(f, (tuple, list)) or len(f) != 2 or not all(map(callable, f)):
        raise TypeError(
            "gradcheck: f must be a function of Tensors, or a pair (f, gradient); or a "
            "function of torch or JAX, or a layer with forward and backward"
        )
    nested = any(trees.is_tree(x) or np.iscomplexobj(x) for x in given)
    if not nested:
        try:
            return Pair(f[0], f[1], given)
        except SeveralError:
            pass
    return Adapted(NestedPair(f[0], f[1], given))


def _second(problem: Problem) -> Problem:
    """Return the problem of the gradient of a problem, for order 2."""
    if isinstance(problem, TensorFunction):
        return SecondOrder(problem)
    if isinstance(problem, Adapted):
        return problem.second_order()
    raise ValueError(
        "gradcheck: order=2 needs a function of Tensors, torch or JAX; for a pair, "
        "check the gradient as another pair: (gradient, its vjp)"
    )


def _in_a_precision_of_f(problem: Problem) -> Problem:
    """Return the problem in float64, if f takes float64; else in its own precision."""
    if all(d.itemsize >= 8 for d in problem.dtypes):
        return problem
    try:
        problem.value(problem.xs)
    except Exception:  # f takes float32 only; in float32 it did not raise
        return OwnPrecision(problem)
    return problem


def _cast(x: Any, dtype: np.dtype[Any]) -> Any:
    """Return a NumPy array of floating or complex numbers in another precision."""
    if not isinstance(x, (np.ndarray, np.generic, float)):
        return x
    x = np.asarray(x)
    if x.dtype.kind == "c":
        return x.astype(np.result_type(dtype, np.complex64))
    return x.astype(dtype) if x.dtype.kind == "f" else x


# --- Other libraries ----------------------------------------------------------------


def library_of(x: Any) -> str:
    """Return "torch" or "jax" if x is an object of it, without importing it."""
    owner = getattr(x, "__self__", None)  # the class, if x is a Function's apply
    classes = list(type(x).__mro__)
    for one in (x, owner):
        if isinstance(one, type):
            classes += one.__mro__
    classes.append(getattr(x, "__objclass__", type(x)))  # torch.Tensor.sin
    modules = [c.__module__ for c in classes]
    modules.append(getattr(x, "__module__", None) or "")  # torch.sin
    packages = [module.partition(".")[0] for module in modules]
    if isinstance(x, ModuleType):
        packages.append(x.__name__.partition(".")[0])
    return next((LIBRARIES[p] for p in packages if p in LIBRARIES), "")


def _with_hint(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return f, whose errors say so if it is a function of torch or JAX."""

    @functools.wraps(f)
    def with_hint(*args: Any) -> Any:
        try:
            return f(*args)
        except Exception as error:
            if name := _library_inside(f):
                raise TypeError(_not_numpy(name)) from error
            raise

    return with_hint


def _library_inside(f: Any) -> str:
    """Return the library that the code of f names, if any."""
    code = getattr(inspect.unwrap(f), "__code__", None)
    if code is None:
        return ""
    seen = inspect.getclosurevars(inspect.unwrap(f))
    named = [*seen.globals.values(), *seen.nonlocals.values()]
    return next((name for x in named if (name := library_of(x))), "")


def _not_numpy(name: str) -> str:
    return (
        f"gradcheck: f is a function of {name}, but the inputs are not; pass "
        f"{CONVERSIONS[name]} instead of x"
    )
