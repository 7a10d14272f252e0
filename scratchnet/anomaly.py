"""Finds the operation that first made a number that is not finite (inf or NaN).

With the engine:

>>> import numpy as np
>>> from scratchnet import Tensor, detect_anomaly
>>> W = Tensor([4.0, 0.0], requires_grad=True, name="W")
>>> with detect_anomaly():  # doctest: +ELLIPSIS
...     loss = np.sum(np.sqrt(W))
...     loss.backward()
Traceback (most recent call last):
    ...
FloatingPointError: the derivative of np.sqrt by W made 1 of 2 values inf, the first...
  <doctest scratchnet.anomaly[3]>:2: loss = np.sum(np.sqrt(W))
  dL/d(its result): float32 (2,), from 1 to 1
  W: float32 (2,), from 0 to 4

By hand:

    with detect_anomaly():
        watched(system).step(x)

The error names the operation, its line and its inputs. Every value is checked, which is
too slow for training. So `training.fit` waits for a loss that is not finite: then it
repeats the steps of that epoch with the check on, and names the first step that fails.
"""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from scratchnet.backend import Array

__all__ = ["detect_anomaly", "watched"]

System = TypeVar("System")

# Files of the engine: an error names the line of the user's code that called them.
_ENGINE = (
    *("anomaly", "graph", "table", "tensor"),
    *("derivatives", "compositions", "functions", "optim"),
)
_INSIDE = {Path(__file__).with_name(f"{name}.py").as_posix() for name in _ENGINE}
_ROOMS = tuple(
    f"{folder.as_posix()}/"
    for folder in (
        Path(np.__file__).parent,
        Path(__file__).with_name("backend"),
        Path(__file__).with_name("training"),
    )
)


class _Watch:
    """The state of a watched thread."""

    def __init__(self) -> None:
        self.lines: dict[int, str] = {}  # number of a node -> the line that made it


# The open blocks of all threads. While it is empty, the engine checks nothing.
WATCHING: list[_Watch] = []
_watch: ContextVar[_Watch | None] = ContextVar("scratchnet_watch", default=None)


@contextlib.contextmanager
def detect_anomaly() -> Iterator[None]:
    """Raise FloatingPointError at the first operation whose result is not finite.

    Inside `with detect_anomaly():`, in this thread, the result of every function of a
    Tensor is checked, forward and backward, and the parameters after each step of an
    optimiser. An infinity that `np.where` later discards (the log of 0) is an error
    too: its derivative is the most common source of NaN. Arrays by hand may overflow
    inside their own `with np.errstate(over="ignore"):`. NumPy's own warnings are off.
    """
    watch = _Watch()
    token = _watch.set(watch)
    WATCHING.append(watch)
    try:
        with np.errstate(all="call", call=lambda kind, flag: None):
            yield
    finally:
        WATCHING.remove(watch)
        _watch.reset(token)


def look(
    what: str,
    result: Array,
    inputs: Iterable[tuple[str, Any]],
    node: int | None = None,
) -> None:
    """Raise FloatingPointError if this thread is watched and `result` is not finite.

    Args:
        what: the name of the operation.
        result: the values that it returned.
        inputs: pairs of a name and an input.
        node: in the backward pass, the number of the node whose line is named;
            without it, the line that runs now is named.

    """
    watch = _watch.get()
    if watch is None or _finite(result):
        return
    line = _line()
    if node is not None:
        line = watch.lines.get(node, "recorded before detect_anomaly()")
    said = [f"{name}: {describe(x)}" for name, x in inputs]
    raise FloatingPointError(_message(what, result, [line, *said]))


def remember(number: int) -> None:
    """Note which line made the node of that number, if this thread is watched."""
    if (watch := _watch.get()) is not None:
        watch.lines[number] = _line()


def _finite(a: Any) -> bool:
    """Return whether all values are finite; True for integers and objects."""
    return getattr(a, "dtype", np.dtype(int)).kind not in "fc" or bool(
        np.isfinite(a).all()
    )


def _message(what: str, result: Array, more: Iterable[str]) -> str:
    bad = ~np.isfinite(result)
    at = tuple(int(i) for i in np.argwhere(bad)[0])
    place = f", the first at {list(at)}" if at else ""
    first = f"{what} made {int(bad.sum())} of {bad.size} values {result[at]}{place}"
    return "\n  ".join([first, *more])


def describe(x: Any) -> str:
    """Describe the values of x in a few words: dtype, shape, range."""
    if not hasattr(x, "dtype"):
        return repr(x)
    text = f"{x.dtype} {x.shape}"
    finite = x[np.isfinite(x)]
    if finite.size:
        text += f", from {finite.min():.6g} to {finite.max():.6g}"
    counts = {"NaN": np.isnan(x).sum(), "inf": np.isinf(x).sum()}
    return text + "".join(f", {int(n)} {kind}" for kind, n in counts.items() if n)


def _line() -> str:
    """Return the innermost line outside the engine, the training loops and NumPy."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = Path(frame.f_code.co_filename).as_posix()
        if name not in _INSIDE and not name.startswith(_ROOMS):
            break
        frame = frame.f_back
    # Imported here because only errors need it.
    import linecache

    code = frame.f_code.co_filename
    short = "/".join(Path(code).parts[-2:])
    text = linecache.getline(code, frame.f_lineno).strip()
    return f"{short}:{frame.f_lineno}: {text}"


# --- By hand ------------------------------------------------------------------------


class _Watched(np.ndarray):
    """An array that checks the result of every NumPy function of it."""

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any
    ) -> Any:
        """Compute it with plain arrays, and check the result."""
        name = f"np.{ufunc.__name__}" + f".{method}" * (method != "__call__")
        plain = [_plain(x) for x in inputs]
        said = _said(plain)  # before the call: the result may overwrite an input
        out = kwargs.get("out", ())
        if out:
            kwargs["out"] = tuple(map(_plain, out))
        result = getattr(ufunc, method)(*plain, **kwargs)
        _look(name, result, said)
        return out[0] if len(out) == 1 else _watched(result)

    def __array_function__(self, function: Any, types: Any, args: Any, kw: Any) -> Any:
        """The same for functions other than ufuncs."""
        said = _said(args)
        result = super().__array_function__(function, types, args, kw)
        _look(f"np.{function.__name__}", args[0] if result is None else result, said)
        return result


def watched(system: System) -> System:
    """Return a copy of a system by hand that checks every result it computes.

    The copy shares the arrays of `system`. Its methods do the same to them, and raise
    FloatingPointError at the first result that is not finite.

    Raises:
        TypeError: `system` is not an object with arrays.

    """
    if callable(system) or not hasattr(system, "__dict__"):
        raise TypeError(f"watched: {system!r} given; a system by hand expected")
    made: dict[int, Any] = {}

    def twin(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.view(_Watched)
        if id(value) in made:
            return made[id(value)]
        if type(value) is dict:
            made[id(value)] = {k: twin(v) for k, v in value.items()}
        elif type(value) in (list, tuple):
            made[id(value)] = type(value)(map(twin, value))
        elif hasattr(value, "__dict__") and not callable(value):
            copied = made[id(value)] = object.__new__(type(value))
            vars(copied).update({k: twin(v) for k, v in vars(value).items()})
        else:
            return value
        return made[id(value)]

    found: System = twin(system)
    return found


def _look(name: str, result: Array, said: list[str]) -> None:
    meant = np.geterr()["over"] == "ignore" and not np.isnan(result).any()
    if not (_finite(result) or meant):
        raise FloatingPointError(_message(name, np.asarray(result), [_line(), *said]))


def _said(inputs: Iterable[Any]) -> list[str]:
    arrays = [x for x in inputs if isinstance(x, np.ndarray)]
    return [f"input {i}: {describe(_plain(x))}" for i, x in enumerate(arrays)]


def _plain(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, _Watched) else x


def _watched(x: Any) -> Any:
    return x.view(_Watched) if type(x) is np.ndarray else x
