"""Finds the operation that first made a number that is not finite (inf or NaN).

    with detect_anomaly():          # with the engine
        loss = model.loss(x)
        loss.backward()
        optimizer.step()

    with detect_anomaly():          # by hand
        watched(system).step(x)

Either raises a FloatingPointError that names the operation and its line, and says what
its inputs were like. That costs a look at every value, too much for a training:
`training.fit` does it only once the loss is not finite any more.
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

# Files whose lines say nothing of where a computation was written down.
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
        self.lines: dict[int, str] = {}  # that made a node, by its number


# The blocks that are open, in any thread. While there is none, the engine asks no more.
WATCHING: list[_Watch] = []
_watch: ContextVar[_Watch | None] = ContextVar("scratchnet_watch", default=None)


@contextlib.contextmanager
def detect_anomaly() -> Iterator[None]:
    """Raise FloatingPointError at the first operation with a result not finite.

    Inside `with detect_anomaly():`, in this thread, every function of a Tensor is
    looked at, forward and backward, and what optimisers make of the parameters. What
    is infinite on purpose (the log of 0, if `np.where` does not choose it) counts too:
    its derivative is where NaN mostly come from. Only what overflows inside a
    `with np.errstate(over="ignore"):` of its own is taken as meant. NumPy's own
    warnings are not given.
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
        what: made the result.
        result: its values.
        inputs: what it was made of, by names.
        node: on the way back, the number of the node whose line is meant; by default
            it is the line that runs now.

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
    """Return the innermost line that is not the engine's, a loop's or NumPy's own."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = Path(frame.f_code.co_filename).as_posix()
        if name not in _INSIDE and not name.startswith(_ROOMS):
            break
        frame = frame.f_back
    # Imported here, as only errors need it.
    import linecache

    code = frame.f_code.co_filename
    short = "/".join(Path(code).parts[-2:])
    text = linecache.getline(code, frame.f_lineno).strip()
    return f"{short}:{frame.f_lineno}: {text}"


# --- By hand ------------------------------------------------------------------------


class _Watched(np.ndarray):
    """An array that looks at the result of every NumPy function it is used in."""

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any
    ) -> Any:
        """Compute it with plain arrays, and look at the result."""
        name = f"np.{ufunc.__name__}" + f".{method}" * (method != "__call__")
        plain = [_plain(x) for x in inputs]
        said = _said(plain)  # now: the result may take an input's place
        out = kwargs.get("out", ())
        if out:
            kwargs["out"] = tuple(map(_plain, out))
        result = getattr(ufunc, method)(*plain, **kwargs)
        _look(name, result, said)
        return out[0] if len(out) == 1 else _watched(result)

    def __array_function__(self, function: Any, types: Any, args: Any, kw: Any) -> Any:
        """The same for the functions that are no ufuncs."""
        said = _said(args)
        result = super().__array_function__(function, types, args, kw)
        _look(f"np.{function.__name__}", args[0] if result is None else result, said)
        return result


def watched(system: System) -> System:
    """Return a system by hand over the same memory that looks at all it computes.

    Its `step`, and all else, does what that of `system` does, to the same arrays, and
    raises FloatingPointError at the first result that is not finite.

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
