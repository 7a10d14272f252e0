"""Slopes of f along a line, by real differences, each with a bound on its error.

The differences (phi(x + td) - phi(x - td)) / 2t are extrapolated to t = 0 (Ridders
1982). This works for any function and is accurate to about 1e-10. At a kink the slopes
of the two sides differ, however small the step: `Line.one_sided` measures both. If f is
only accurate to float32, small steps show only rounding, and large steps cross kinks
nearby. Then the bound includes the effect of a kink nearby, and many values are fitted
(fits.py).

The other oracle is the complex step, `Probe.imaginary`. It is valid for analytic
functions only and silently wrong for others (np.abs, np.var, a cast). So `search`
trusts it for an input only if real differences also agree with the gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from scratchnet.testing.fits import fitted_slope
from scratchnet.testing.probe import EPS, Probe
from scratchnet.testing.problems import Array

FIRST_STEP = 1 / 8  # in units of the size of the entries
LAST_STEP = 1e-15
NOISY = 5e-3  # an entry is noisy if its relative error may be larger than this
NEARBY = 5e-5  # a kink nearer than this looks like a kink at the point itself
COMPLEX, RIDDERS = "complex step", "Ridders"

Oracle = Literal["auto", "complex", "ridders"]  # the caller's choice


@dataclass
class Slope:
    """A measured slope along a direction, with a bound on its error.

    Attributes:
        value: the slope.
        error: a bound on its error.
        step: the largest step of the measurement.
        kind: "" if f has a derivative. Along a block of entries "broken" (a kink, or
            the slopes do not converge). Along a single entry "kink" (the slopes of the
            two sides differ), "jump" (they grow without bound), "edge" (f is defined
            on one side only) or "stairs" (f is flat between jumps).
        left, right: the slopes of the two sides, if they differ.

    """

    value: float = math.nan
    error: float = math.inf
    step: float = 0.0
    kind: str = ""
    left: float = math.nan
    right: float = math.nan


class Line:
    """The line x + td through the inputs, and slopes of phi along it at t = 0.

    Attributes:
        probe: evaluates phi.
        j: the number of the input that moves.
        d: the direction, in that input.
        unit: the t that moves the entries by about their own size.
        least: a slope below this counts as zero; a kink may hide in it.
        moved: which outputs of f have changed along the line so far.

    """

    def __init__(
        self, probe: Probe, j: int, d: Array, unit: float, least: float = 0.0
    ) -> None:
        self.probe = probe
        self.j = j
        self.d = d
        self.unit = unit
        self.least = least
        self.moved = np.zeros(probe.base.shape, dtype=bool)

    def _change(self, t: float) -> float:
        """Return phi(x + td) - phi(x)."""
        return self.probe.change(self.j, t * self.d, self.moved)

    def sides(self, t: float) -> tuple[float, float, float]:
        """Return the slopes over the steps -t and t, and a bound on their rounding."""
        left, right = -self._change(-t) / t, self._change(t) / t
        steepest = max(abs(v) if math.isfinite(v) else 0.0 for v in (left, right))
        # f is rounded, and so is x + td.
        noise = self.probe.noise_of(self.moved) + 2 * EPS * self.unit * steepest
        return left, right, noise / t

    def slope(self, target: float, depth: int, start: float = 0.0) -> Slope:
        """Measure the slope to within `target`, if possible.

        Ridders (1982): the error of a central difference over t is a series in even
        powers of t. Neville's scheme removes one more power with each t/2, and the
        change at each step estimates the remaining error. Two checks are added. First,
        a result that disagrees with one of smaller steps is discarded: it met something
        that is not at x, such as a kink nearby. Second, the slope must hold at `depth`
        far smaller steps, and the two sides must agree there: at a kink they differ. If
        noise hides those steps, the error includes the possible effect of a kink.
        """
        best, bend = Slope(), 0.0
        rows: list[list[float]] = []
        gaps: list[float] = []
        t = start or FIRST_STEP * self.unit
        last = (LAST_STEP if depth > 1 else 1e-7) * self.unit  # split blocks early
        while t > last:
            left, right, noise = self.sides(t)
            middle = (left + right) / 2
            if not math.isfinite(middle):  # outside the domain of f
                best, rows, gaps, t = Slope(), [], [], t / 8
                continue
            rows.append(_extrapolate(middle, rows[-1] if rows else []))
            gaps.append(right - left)
            if len(rows) > 2:
                new = _steadiest(rows[-1], rows[-2], noise, t)
                seen = NOISY * max(abs(new.value), self.least) + new.error + target
                if 256 * noise > seen:
                    new.error += _unseen_kink(gaps)
                move, before = (abs(rows[k][0] - rows[k - 1][0]) for k in (-1, -2))
                settling = move <= 0.75 * before + 2 * noise
                disagrees = abs(new.value - best.value) > new.error + best.error
                if settling and (disagrees or new.error < best.error):
                    best, bend = new, abs(middle - new.value)
                elif disagrees:
                    best = Slope()
            if best.error <= target or noise > best.error:
                s = self._broken_at(best, t, bend, abs(right - left), target, depth)
                if s is None:
                    return best
                if s == 0.0:
                    break
                best, rows, gaps, t = Slope(), [], [], 2 * s
            t /= 2
        return self.one_sided(best) if depth > 1 else replace(best, kind="broken")

    def _broken_at(
        self, best: Slope, t: float, bend: float, gap: float, target: float, depth: int
    ) -> float | None:
        """Return the far smaller step at which `best`, found at t, fails; 0 at a kink.

        `bend` is the error of the plain central difference at t, `gap` the difference
        of its two sides. For a smooth function both shrink with the step.
        """
        s = t
        for k in range(depth):
            s /= 256
            left, right, noise = self.sides(s)
            off = abs((left + right) / 2 - best.value)
            if k > 0 and noise > 0.05 * abs(best.value) + best.error:
                break  # rounding would hide anything
            if off > best.error + noise + bend / 64:
                return s
            if abs(right - left) > 0.5 * gap + 4 * noise + max(target, best.error):
                return 0.0
        return None

    def one_sided(self, best: Slope) -> Slope:
        """Return `best` with the slopes of the two sides, if they differ."""
        seen: list[tuple[float, float, float, float]] = []
        t = FIRST_STEP * self.unit
        while t > LAST_STEP * self.unit:
            left, right, noise = self.sides(t)
            gap = abs(right - left)
            if math.isfinite(left) != math.isfinite(right):
                gap = math.inf
            elif seen and gap + noise < 0.5 * seen[-1][0] and noise < seen[-1][0] / 8:
                seen = []  # they converge
            if not noise < gap / 8:
                break
            seen.append((gap, left + 0.0, right + 0.0, noise))
            t /= 16
        if len(seen) < 3:
            return best
        (first, *old, _), (_, left, right, noise), (last, *_) = seen[-3:]
        error = noise + max(abs(left - old[0]), abs(right - old[1]))
        kind = "jump" if last > 2 * first else "kink"
        kind = "edge" if last == math.inf else kind
        if kind == "kink" and error > last / 2:  # the sides have not converged
            return best
        if kind != "edge" and 16 * t > NEARBY * self.unit:  # it may be next to x
            return Slope((left + right) / 2, last + noise, 16 * t)
        return replace(best, error=error, kind=kind, left=left, right=right)

    def _on_stairs(self, claimed: float) -> bool:
        """Return whether f has the claimed slope over large steps, and 0 over small.

        Float32 arithmetic, or rounding, turns a smooth function into a staircase. Its
        slope is zero almost everywhere, but that is not the intended gradient.
        """
        t = self.unit
        in_a_row = most = 0
        while t > LAST_STEP * self.unit:
            left, right, noise = self.sides(t)
            if left == right == 0.0:
                return most > 1 and noise < abs(claimed) / 8
            steep = abs((left + right) / 2 - claimed) < 0.2 * abs(claimed)
            in_a_row = in_a_row + 1 if steep else 0
            most = max(most, in_a_row)
            t /= 2
        return False

    def by_fits(self, best: Slope, enough: float) -> Slope:
        """Return the slope to within `enough`, if fits of many values reach it."""
        noise = self.probe.noise_of(self.moved)
        for n in (64, 256, 1024):
            step = min(FIRST_STEP * self.unit, 4 * noise / enough * (64 / n) ** 0.25)
            hopeless = 4 * noise / (step * math.sqrt(n)) > enough
            if hopeless or n > self.probe.affordable / 3:
                continue
            fitted = fitted_slope(self._change, step, n, self.probe.rng)
            if fitted and fitted[1] < best.error:
                best = Slope(*fitted, step)
            if best.error <= enough:
                break
        return best

    def verify(self, best: Slope, claimed: float) -> Slope:
        """Return the slope; its error covers the claimed one, unless that is refuted.

        The difference must also show at far smaller steps, until rounding hides it, and
        must not shrink with the steps: near a kink that is too close to be seen, slopes
        drift to the right one as the steps shrink. If no step is small enough, fits of
        many values may decide.
        """
        off = abs(best.value - claimed)
        if not math.isfinite(off):
            return best
        sides = self.one_sided(best)
        if sides.kind:
            return sides
        if self._on_stairs(claimed):
            return replace(best, kind="stairs", error=max(best.error, 1.01 * off))
        if off <= 0.02 * abs(claimed):
            near = self.slope(0.0, depth=6, start=best.step / 16)
            if near.error <= off / 4 and abs(near.value - best.value) <= off / 4:
                return best

        def steady(old: float, new: float, error: float, drift: float) -> bool:
            drift = min(drift, 0.15 * max(abs(old), abs(new)))
            if old == new == 0.0:
                return True
            return error <= drift and abs(new - old) <= error + drift

        shown, before, t = 0, best.value, best.step / 16
        while t > LAST_STEP * self.unit:
            left, right, noise = self.sides(t)
            middle = (left + right) / 2
            if not noise <= min(off, abs(middle) or off) / 64:
                break
            shown = shown + 1 if steady(before, middle, 2 * noise, off / 32) else 0
            before = middle
            t /= 4
        if shown > 1 and abs(before - best.value) < off / 2:
            return best
        # Two fits over different steps must refute it, or two slopes by a wide margin.
        seen = [self.by_fits(Slope(), off / part) for part in (3, 6)]
        if not all(math.isfinite(s.value) for s in seen):
            other = self.slope(0.0, depth=6, start=0.7 * FIRST_STEP * self.unit)
            seen = [replace(s, error=4 * s.error) for s in (best, other)]
        if all(abs(s.value - claimed) > 2 * s.error for s in seen):
            return seen[-1]
        return replace(best, error=max(best.error, 1.01 * off))


# --- Ridders' extrapolation ---------------------------------------------------------


def _extrapolate(middle: float, above: list[float]) -> list[float]:
    """Return the next row of Neville's table, for steps that halve."""
    row = [middle]
    for k, old in enumerate(above[:6]):
        row.append(row[k] + (row[k] - old) / (4 ** (k + 1) - 1))
    return row


def _unseen_kink(gaps: list[float]) -> float:
    """Bound the effect of a kink near x on a slope. Steps halve; `gaps` = right - left.

    A kink changes one side only, so the gap changes by twice as much as the central
    slope. The gap of a smooth function is a series in odd powers of t, so each gap
    follows from those of two larger steps; kinks explain the rest. (One step alone may
    miss a kink: two kinds of error cancel at some distance from x.)
    """
    apart = []
    for k in range(max(1, len(gaps) - 3), len(gaps)):
        smooth = gaps[k - 1] / 2
        if k > 1:
            smooth += (gaps[k - 1] / 2 - gaps[k - 2] / 4) / 4
        apart.append(abs(gaps[k] - smooth))
    return 2 * max(apart)


def _steadiest(row: list[float], above: list[float], noise: float, t: float) -> Slope:
    """Return the value of a row that differs least from its neighbours in the table."""
    changes = [
        max(abs(row[k] - v) for v in (row[k - 1], *above[k - 1 : k + 1]))
        for k in range(1, len(row))
    ]
    least = min(changes)
    return Slope(row[changes.index(least) + 1], least + noise, t)
