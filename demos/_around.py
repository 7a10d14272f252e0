"""Overhead outside a training step, for demos.speed: calls, imports, data."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scratchnet.data.digits import draw_digits

# Called with a library, a vector (4,) and a matrix (4, 4); both require gradients.
CALLS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "a + b": lambda xp, a, A: a + a,
    "a * b": lambda xp, a, A: a * a,
    "exp": lambda xp, a, A: xp.exp(a),
    "tanh": lambda xp, a, A: xp.tanh(a),
    "A @ B": lambda xp, a, A: A @ A,
    "relu": lambda xp, a, A: xp.relu(a),
    "sigmoid": lambda xp, a, A: xp.sigmoid(a),
    "sum": lambda xp, a, A: xp.sum(a),
    "mean": lambda xp, a, A: xp.mean(a),
    "a[1:3]": lambda xp, a, A: a[1:3],
    "concatenate": lambda xp, a, A: xp.concatenate([a, a]),
    "reshape": lambda xp, a, A: xp.reshape(a, (2, 2)),
}


class _NumPy:
    """NumPy, with relu and sigmoid from scratchnet.functions."""

    def __getattr__(self, name: str) -> Any:
        from scratchnet import functions

        return getattr(np, name, None) or getattr(functions, name)


def library(rival: str) -> tuple[Any, Callable[[np.ndarray], Any]]:
    """Return the library for CALLS, and a function that makes their arguments."""
    if rival.startswith("torch"):
        import torch

        return torch, lambda a: torch.tensor(a, requires_grad=True)
    if rival == "engine":
        from scratchnet import Tensor

        return _NumPy(), lambda a: Tensor(a, requires_grad=True)
    return _NumPy(), lambda a: a


def call_times(rival: str, rounds: int, calls: int) -> dict[str, float]:
    """Return the microseconds of each call, the median of the rounds."""
    xp, array = library(rival)
    found = {}
    for name, call in CALLS.items():
        f = getattr(xp, name, None)  # looked up once, as by `from numpy import exp`
        target = xp if f is None else type("", (), {name: staticmethod(f)})
        a = array(np.array([0.1, 0.2, 0.3, 0.4], np.float32))
        A = array(np.eye(4, dtype=np.float32))
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            for _ in range(calls):
                call(target, a, A)
            times.append((time.perf_counter() - began) / calls * 1e6)
        found[name] = float(np.median(times))
    return found


def chain_times(lengths: Sequence[int]) -> list[float]:
    """Return the microseconds per operation in backward(), for chains of operations."""
    from scratchnet import Tensor

    found = []
    for n in lengths:
        times = []
        for _ in range(3):
            y = x = Tensor(1.0, requires_grad=True)
            for _ in range(n):
                y = y + 0.5
            began = time.perf_counter()
            y.backward()
            times.append((time.perf_counter() - began) / n * 1e6)
            assert x.grad == 1
        found.append(min(times))
    return found


def import_time(rounds: int) -> tuple[float, float]:
    """Return the milliseconds to import NumPy, and then to load the engine.

    The first use loads the engine; `import scratchnet` does not.
    """

    def once(load: str) -> float:
        code = (
            f"import time; t = time.perf_counter(); {load}; "
            "print(time.perf_counter() - t)"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return float(run.stdout) * 1e3

    numpy = "import numpy as np"
    engine = f"{numpy}, scratchnet; np.exp(scratchnet.Tensor(1.0))"
    pairs = np.array([(once(numpy), once(engine)) for _ in range(rounds)])
    alone = float(np.median(pairs[:, 0]))
    return alone, float(np.median(pairs[:, 1] - pairs[:, 0]))


def minibatch_ratio(n: int, rounds: int) -> float:
    """Return the time of an epoch of shuffled minibatches over that of a plain copy."""
    x = np.random.default_rng(0).random((n, 784), np.float32)
    out = np.empty((128, 784), np.float32)
    starts = range(0, n - n % 128, 128)
    ratios = []
    for seed in range(rounds):
        order = np.random.default_rng(seed).permutation(n)
        began = time.perf_counter()
        for i in starts:
            x[order[i : i + 128]]  # as fit() does
        shuffled = time.perf_counter() - began
        began = time.perf_counter()
        for i in starts:
            np.copyto(out, x[i : i + 128])
        ratios.append(shuffled / (time.perf_counter() - began))
    return float(np.median(ratios))


def digits_seconds(n: int) -> float:
    """Return the seconds to draw n digits."""
    began = time.perf_counter()
    draw_digits(n, np.random.default_rng(0))
    return time.perf_counter() - began
