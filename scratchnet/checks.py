"""Argument checks: each error names the argument, what is wrong and what is expected.

`owner` is the function or class that was called, `name` its argument; both begin the
message. A wrong type raises TypeError, a wrong value ValueError.
"""

import os
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import backend
from scratchnet.backend import Array
from scratchnet.backend.philox import Stream

# --- Numbers, choices, functions ----------------------------------------------------

POSITIVE = "(0, inf)"
_IN_WORDS = {POSITIVE: "a positive number", "[0, inf)": "at least 0"}


def number(owner: str, name: str, value: Any, interval: str = "(-inf, inf)") -> float:
    """Return `value` as a float if it is a real number in the interval.

    The interval has the usual notation: `[0, 1)` contains 0 but not 1. No interval
    contains NaN.
    """
    expected = f"{_IN_WORDS.get(interval, f'a number in {interval}')} expected"
    if not isinstance(value, Real):
        kind = type(value).__name__
        raise TypeError(f"{owner}: {name} is {value!r}, a {kind}; {expected}")
    found = float(value)
    low, high = map(float, interval[1:-1].split(","))
    above = low <= found if interval[0] == "[" else low < found
    below = found <= high if interval[-1] == "]" else found < high
    if not (above and below):
        raise ValueError(f"{owner}: {name} is {value}; {expected}")
    return found


def count(owner: str, name: str, value: Any, least: int = 1) -> None:
    """Raise TypeError or ValueError unless `value` is an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(
            f"{owner}: {name} is {value!r}, a {type(value).__name__}; an int expected"
        )
    if value < least:
        raise ValueError(f"{owner}: {name} is {value}; at least {least} expected")


def choice(owner: str, name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"{owner}: {name} is {value!r}; one of {listed} expected")


def function(owner: str, name: str, value: Any, example: str) -> None:
    """Raise TypeError unless `value` can be called."""
    if not callable(value):
        raise TypeError(
            f"{owner}: {name} is {value!r}; a function expected, like {example}"
        )


def path(owner: str, value: Any) -> Path:
    """Return `value` as a Path; TypeError unless it names a file or folder."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{owner}: {value!r} given; the path of a file expected")
    return Path(value)


def mapping(owner: str, name: str, value: Any) -> None:
    """Raise TypeError unless `value` is a mapping, like a dict."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{owner}: {name} is a {type(value).__name__}, a dict expected")


def dtype(owner: str, dtype: DTypeLike) -> np.dtype:
    """Return `dtype` as an np.dtype; TypeError unless it is float32 or float64."""
    try:
        known = np.dtype(dtype)
    except TypeError:
        known = None
    if known is None or known not in (np.float32, np.float64):
        given = dtype if known is None else known
        raise TypeError(f"{owner}: dtype is {given}; float32 or float64 expected")
    return known


def rng(owner: str, rng: Any) -> None:
    """Raise TypeError unless `rng` is a NumPy generator, or a stream on a device."""
    if not isinstance(rng, np.random.Generator | Stream):
        raise TypeError(
            f"{owner}: rng is {rng!r}; a np.random.Generator expected, "
            "like np.random.default_rng(0)"
        )


# --- Arrays -------------------------------------------------------------------------


def plain_array(owner: str, name: str, x: Any) -> Any:
    """Return `x` as a plain np.ndarray if it is of a subclass, else `x` itself.

    The memory is shared, nothing is copied (see `backend.bare`).

    Raises:
        TypeError: `x` is a masked array with masked entries.

    """
    if type(x) is np.ndarray or not isinstance(x, np.ndarray):
        return x
    try:
        return backend.bare(x)
    except TypeError as error:
        raise TypeError(f"{owner}: {name} is {error}") from None


def plain_arrays(owner: str, name: str, arrays: Sequence[Any]) -> list[Any]:
    """Return `plain_array` of each; `name` names the first, numbers name the others."""
    names = (name, *(f"argument {i}" for i in range(1, len(arrays))))
    return [plain_array(owner, k, a) for k, a in zip(names, arrays, strict=True)]


def read_only(a: Any) -> bool:
    """Return whether `a` is an array on the host that cannot be written."""
    return isinstance(a, np.ndarray) and not a.flags.writeable


def array(owner: str, name: str, x: Any) -> np.ndarray:
    """Return `x`, an array or lists of real numbers, as an array on the host."""
    x = _without_subclasses(owner, name, x)
    try:
        host = backend.to_numpy(x)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{owner}: {name} is not an array: {error}") from None
    if host.dtype.kind not in "biuf":
        raise TypeError(f"{owner}: {name} is {_kind(x)}; real numbers expected")
    return host


def _without_subclasses(owner: str, name: str, x: Any) -> Any:
    """Return `x` with each array in it, also inside lists, as a plain array."""
    if not isinstance(x, list | tuple):
        return plain_array(owner, name, x)
    return [
        _without_subclasses(owner, name, item)
        if isinstance(item, list | tuple | np.ndarray)
        else item
        for item in x
    ]


def real(owner: str, name: str, x: Any) -> Any:
    """Return `x`, a real number or an array of them, never a subclass of ndarray.

    Raises:
        TypeError: it is something else; as for `plain_array`.

    """
    x = plain_array(owner, name, x)
    dtype = getattr(x, "dtype", None)
    if not isinstance(x, Real) if dtype is None else dtype.kind not in "biuf":
        raise TypeError(f"{owner}: {name} is {_kind(x)}; real numbers expected")
    return x


def _kind(x: Any) -> str:
    """Return what x is, for an error: the dtype of an array, else the type."""
    return str(getattr(x, "dtype", f"a {type(x).__name__}"))


def rows(owner: str, x: Any, columns: int, dtype: DTypeLike, name: str = "x") -> Any:
    """Return `x` as a plain array, of shape (n, columns), n ≥ 1, and of that dtype.

    It does not cast: casting float64 data would cost time in every step, and casting
    integers would hide that they are not scaled.

    Raises:
        TypeError, ValueError: it is something else; as for `plain_array`.

    """
    if type(x) is not np.ndarray:
        x = plain_array(owner, name, x)
    shape, given = getattr(x, "shape", None), getattr(x, "dtype", None)
    if shape is None or given is None:
        raise TypeError(f"{owner}: {name} is a {type(x).__name__}, an array expected")
    if len(shape) != 2:
        raise ValueError(
            f"{owner}: {name} has shape {shape}; (n, {columns}) expected, a row for "
            "each sample"
        )
    if shape[1] != columns:
        raise ValueError(
            f"{owner}: {name} has {shape[1]} columns, {columns} expected (shape "
            f"{shape})"
        )
    if shape[0] == 0:
        raise ValueError(f"{owner}: {name} has no rows (shape {shape})")
    if given != dtype:
        want = np.dtype(dtype)
        scaled = " / 255" if given.kind in "iu" else ""
        raise TypeError(
            f"{owner}: {name} is {given}, the model {want}; pass "
            f"{name}.astype(np.{want}){scaled}"
        )
    return x


def on_backend(owner: str, x: Any) -> None:
    """Raise TypeError if x is on the host and the backend's arrays are not.

    A step does not copy its data to the device: that would cost more than the step.
    """
    if isinstance(x, np.ndarray) and not backend.is_own(x):
        raise TypeError(
            f"{owner}: x is a NumPy array, but the backend is {backend.name()!r}; pass "
            "backend.asarray(x), made once for a data set"
        )


def equal_rows(owner: str, **arrays: Array) -> None:
    """Raise ValueError unless two named arrays have the same number of rows."""
    (one, a), (two, b) = arrays.items()
    if len(a) != len(b):
        raise ValueError(f"{owner}: {one} has {len(a)} rows, {two} has {len(b)}")


def noise(owner: str, eps: Any, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
    """Return the noise as a plain array; raise unless it has that shape and dtype."""
    eps = plain_array(owner, "eps", eps)
    given, kind = getattr(eps, "shape", None), getattr(eps, "dtype", None)
    if given != shape:
        raise ValueError(f"{owner}: eps has shape {given}; {shape} expected")
    if kind != dtype:
        raise TypeError(f"{owner}: eps is {kind}, the model {np.dtype(dtype)}")
    return eps


def labels(owner: str, label: Any, n: int, k: int) -> Any:
    """Return `label` as a plain array, (n,) integers from 0 to k − 1, or booleans.

    Raises:
        TypeError, ValueError: it is something else; as for `plain_array`.

    """
    label = plain_array(owner, "label", label)
    host = array(owner, "label", label)
    if host.dtype.kind not in "biu":
        raise TypeError(f"{owner}: label is {host.dtype}, integers expected")
    if host.shape != (n,):
        raise ValueError(f"{owner}: label has shape {host.shape}, ({n},) expected")
    wrong = (host < 0) | (host >= k)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(f"{owner}: label[{i}] is {host[i]}; 0 to {k - 1} expected")
    return label


def unit_interval(owner: str, x: Array, instead: str) -> None:
    """Raise ValueError unless every value is in [0, 1]; it names the first other value.

    This is the only check that reads values: once for a data set, never in a step.
    `instead` is the option for other data.
    """
    x = backend.to_numpy(x)
    bad = ~((x >= 0) & (x <= 1))
    if bad.any():
        at = np.unravel_index(int(np.argmax(bad)), x.shape)
        raise ValueError(
            f"{owner}: x[{', '.join(map(str, at))}] is {x[at]}; values in [0, 1] "
            f"expected, or {instead} for others"
        )


# --- Sizes of networks --------------------------------------------------------------


def sizes(owner: str, sizes: Any, name: str = "sizes") -> None:
    """Raise an error unless `sizes` is a sequence of two or more positive ints."""
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        raise TypeError(
            f"{owner}: {name} is {sizes!r}, a {type(sizes).__name__}; a sequence of "
            "ints expected, like (784, 256, 16)"
        )
    if len(sizes) < 2:
        raise ValueError(
            f"{owner}: {name} is {sizes!r}; two or more expected, from the data's "
            "columns to the code's length, like (784, 256, 16)"
        )
    for i, size in enumerate(sizes):
        count(owner, f"{name}[{i}]", size)
