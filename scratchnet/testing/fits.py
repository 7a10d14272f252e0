"""A slope fitted to many values of f, used if rounding hides it in few values.

The rounding of many values averages out. So the steps can be smaller, and fewer kinks
are within them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from scratchnet.testing.problems import Array


def fitted_slope(
    change: Callable[[float], float], step: float, n: int, rng: np.random.Generator
) -> tuple[float, float] | None:
    """Fit n values up to `step` on either side of 0; return the slope and its error.

    The model is a polynomial with at most one kink, at any place and of any size. It
    has an odd part in t and t^3, an even part in 1, t^2 and t^4, and a ramp that starts
    at the kink; each part gets half of the ramp. All models that explain the values as
    well as the best one are kept: the range of their slopes at t = 0 is the bound.

    Args:
        change: f(t) - f(0), as a function of t.
        step: the largest t.
        n: how many values to fit on each side.
        rng: chooses their places between 0 and `step`.

    Returns:
        The slope and a bound on its error; None if no model explains the values.

    """
    t = (np.arange(n) + rng.random(n)) / n
    up, down = np.array([(change(step * s), change(-step * s)) for s in t]).T / step
    odd, even = (up - down) / 2, (up + down) / 2
    if not np.all(np.isfinite(odd)) or len(np.unique(odd)) < 5:
        return None
    slope, rest, weights = _fitted(t, odd, even)
    places, turns, kinks = _kinks(t, rest)
    along = rest @ kinks  # the size of the kink at each place
    most = int(np.argmax(np.abs(along)))
    left_over = rest - along[most] * kinks[:, most]
    square = left_over @ left_over / (2 * n - 7)
    # Rounding has no trend: neighbours differ as much as any two values.
    white = np.mean(np.diff(left_over) ** 2) / 2
    second = np.max(np.abs(left_over @ kinks))
    if square > (1 + 4 / math.sqrt(n)) * white or second > 4.5 * math.sqrt(white):
        return None
    likely = along**2 >= along[most] ** 2 - 20 * square
    at = np.flatnonzero(likely)
    likely[np.clip(np.append(at - 1, at + 1), 0, len(places) - 1)] = True
    values = (slope - along * turns)[likely]
    wide = 4 * np.sqrt(square * (weights @ weights + turns[likely] ** 2))
    low, high = float(np.min(values - wide)), float(np.max(values + wide))
    return (low + high) / 2, (high - low) / 2


def _kinks(t: Array, rest: Array) -> tuple[Array, Array, Array]:
    """Return places of a kink, more of them near the best, and `_effects` of each.

    The best place explains most of `rest`, the residual of the fit without a kink.
    """
    places = np.append(1e-9, np.linspace(0.02, 0.95, 48))
    places = np.append(-places[::-1], places)
    turns, kinks = _effects(t, places)
    for _ in range(2):
        best = int(np.argmax(np.abs(rest @ kinks)))
        near = places[max(best - 1, 0)], places[min(best + 1, len(places) - 1)]
        places = np.unique(np.append(places, np.linspace(*near, 24)))
        turns, kinks = _effects(t, places)
    return places, turns, kinks


def _effects(t: Array, places: Array) -> tuple[Array, Array]:
    """Return the effect of a kink at each place on the slope at 0 and on the residual.

    The size of each kink is such that its effect on the residual has length 1.
    """
    ramps = np.maximum(t[:, None] - np.abs(places), 0.0)
    turns, kinks, _ = _fitted(t, np.sign(places) * ramps, ramps)
    lengths = np.linalg.norm(kinks, axis=0)
    return turns / lengths, kinks / lengths


def _fitted(t: Array, odd: Array, even: Array) -> tuple[Array, Array, Array]:
    """Fit the odd and even parts of values at t and -t, for each column.

    Return the slope at 0, the residuals of both parts in one array, and the weights of
    the values of the odd part in the slope.
    """
    left = []
    for powers, values in (([t, t**3], odd), ([t**0, t**2, t**4], even)):
        basis, _ = np.linalg.qr(np.stack(powers, axis=1))
        left.append(values - basis @ (basis.T @ values))
    weights = np.linalg.pinv(np.stack([t, t**3], axis=1))[0]
    return weights @ odd, np.concatenate(left), weights
