"""What a gradient check of many entries costs, for the demo gradcheck."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from scratchnet.testing import GradientReport, gradcheck

SIZES = (10**3, 10**5, 10**6)
SHARE = 2e-3  # the wrong entry has this part of the largest gradient
ERROR = 0.01  # and is off by 1 %


class Layer(NamedTuple):
    """A loss of activation(x W) and its gradient, at W."""

    loss: Callable[[np.ndarray], np.ndarray]
    gradient: Callable[[np.ndarray], np.ndarray]
    W: np.ndarray


class Row(NamedTuple):
    """A check of a right gradient, and one with a single wrong entry."""

    entries: int
    name: str
    right: GradientReport
    seconds: float
    wrong: GradientReport
    wrong_seconds: float
    named: bool


def layer(n: int, activation: Any, slope: Any) -> Layer:
    """Return a layer with about n weights and 4 samples."""
    rng, d = np.random.default_rng(0), round(n**0.5)
    x, W = rng.normal(size=(4, d)), rng.normal(size=(d, n // d)) / d**0.5

    def loss(W: np.ndarray) -> np.ndarray:
        return np.sum(activation(x.astype(W.dtype) @ W) ** 2)

    def gradient(W: np.ndarray) -> np.ndarray:
        a = x.astype(W.dtype) @ W
        return x.astype(W.dtype).T @ (2 * activation(a) * slope(a))

    return Layer(loss, gradient, W)


def measure(n: int, name: str, made: Layer, **options: Any) -> Row:
    """Check the gradient of a layer as it is, and with one entry that is off."""
    g = np.abs(made.gradient(made.W))
    at = np.unravel_index(np.argmin(np.abs(g - SHARE * np.max(g))), g.shape)

    def wrong(W: np.ndarray) -> np.ndarray:
        found = made.gradient(W)
        found[at] *= 1 + ERROR
        return found

    found = []
    for gradient in (made.gradient, wrong):
        began = time.perf_counter()
        pair = (made.loss, gradient)
        report = gradcheck(pair, made.W, raise_exception=False, **options)
        found += [report, time.perf_counter() - began]
    named = found[2].verdict == "wrong" and found[2].index == tuple(map(int, at))
    return Row(made.W.size, name, *found, named)


def rows(sizes: Sequence[int]) -> list[Row]:
    """Return a row for each size and each kind of function."""
    relu = lambda a: np.maximum(a, 0)
    kinds = {
        "tanh": (np.tanh, lambda a: 1 - np.tanh(a) ** 2),
        "relu": (relu, lambda a: (a > 0).astype(a.dtype)),
        "abs, no complex step": (np.abs, np.sign),
    }
    found = []
    for n in sizes:
        made = {name: layer(n, *kind) for name, kind in kinds.items()}
        found += [measure(n, name, one) for name, one in made.items()]
        low = made["tanh"]
        found.append(measure(n, "tanh, float32 alone", low, dtype=np.float32))
    return found


def cells(row: Row) -> list[str]:
    """Return the cells of a row of the table."""
    blind = row.right.blind
    return [
        f"{row.entries:,}", row.name,
        f"{row.right.calls:,}" if row.right else row.right.verdict,
        f"{row.seconds:.2f}",
        f"{row.wrong.calls:,}" if row.named else "not seen",
        f"{row.wrong_seconds:.2f}",
        "" if blind is None else f"{blind:.0e}",
    ]  # fmt: skip


HEAD = [
    "entries", "function", "right: calls of f", "s", "1 % in one entry: calls", "s",
    "smallest error seen",
]  # fmt: skip
