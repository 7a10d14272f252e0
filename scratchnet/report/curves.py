"""Line charts as SVG: a few curves, their ends named, axes with ticks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scratchnet.report.words import both, text

WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 30, 12, 36


class Curve(NamedTuple):
    """Values over steps, with the key of its name."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]


def chart(curves: Sequence[Curve], lines: Mapping[str, float], x: str, y: str) -> str:
    """Return a figure with curves and horizontal lines of reference.

    Args:
        curves: at most three; a value that is not finite is left out.
        lines: values of reference, by the key of their name.
        x, y: keys of the names of the axes.

    """
    points = [
        (curve.name, np.array([curve.steps, curve.values], float)) for curve in curves
    ]
    points = [(name, p[:, np.isfinite(p).all(axis=0)]) for name, p in points]
    points = [(name, p) for name, p in points if p.size]
    if not points:
        return ""
    xs = np.concatenate([p[0] for _, p in points])
    ys = np.concatenate([*(p[1] for _, p in points), list(lines.values())])
    x_ticks = ticks(xs.min(), xs.max(), whole=True)
    y_ticks = ticks(ys.min(), ys.max())
    x_from, x_to = min(xs.min(), x_ticks[0]), max(xs.max(), x_ticks[-1])
    y_from, y_to = min(ys.min(), y_ticks[0]), max(ys.max(), y_ticks[-1])

    def place(a: np.ndarray, b: np.ndarray) -> list[str]:
        u = LEFT + (a - x_from) / ((x_to - x_from) or 1) * (WIDTH - LEFT - RIGHT)
        v = (
            HEIGHT
            - BOTTOM
            - (b - y_from) / ((y_to - y_from) or 1) * (HEIGHT - TOP - BOTTOM)
        )
        return [f"{i:.1f},{j:.1f}" for i, j in zip(u, v, strict=True)]

    drawn = []
    for value in y_ticks:
        (at,) = place(np.array([x_from]), np.array([value]))
        v = at.partition(",")[2]
        drawn.append(
            f'<path class="grid" d="M{LEFT},{v}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 6}" y="{v}" class="y">{number(value)}</text>'
        )
    for value in x_ticks:
        (at,) = place(np.array([value]), np.array([y_from]))
        u = at.partition(",")[0]
        drawn.append(
            f'<text x="{u}" y="{HEIGHT - BOTTOM + 16}" class="x">{number(value)}</text>'
        )
    for value in lines.values():
        (at,) = place(np.array([x_from]), np.array([value]))
        v = at.partition(",")[2]
        drawn.append(f'<path class="reference" d="M{LEFT},{v}H{WIDTH - RIGHT}"/>')
    for k, (_, p) in enumerate(points):
        drawn.append(f'<polyline class="curve c{k}" points="{" ".join(place(*p))}"/>')
    names = [
        f'<li class="c{k}">{both(name)}</li>' for k, (name, _) in enumerate(points)
    ]
    names += [f'<li class="reference">{both(name)}</li>' for name in lines]
    title = f"{text(y, 'en')} / {text(x, 'en')}"
    return (
        f'<figure class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{title}">{"".join(drawn)}</svg>'
        f'<figcaption>{both(y)} · {both(x)}<ul class="legend">{"".join(names)}</ul>'
        "</figcaption></figure>"
    )


def ticks(low: float, high: float, most: int = 6, whole: bool = False) -> list[float]:
    """Return round numbers that cover a range: multiples of 1, 2 or 5 times 10^k.

    With `whole` they are whole numbers.
    """
    if not high > low:
        return [low]
    rough = max((high - low) / (most - 1), 1.0 if whole else 0.0)
    base = 10.0 ** math.floor(math.log10(rough))
    step = next(m * base for m in (1, 2, 5, 10) if m * base >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(k * step, 12) for k in range(first, last + 1)]


def number(value: float) -> str:
    """Write a number of an axis, with a true minus sign."""
    return f"{value:,.6g}".replace("-", "−")
