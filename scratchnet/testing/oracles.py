"""Slopes of f, measured without its gradient, each with a bound on its error.

Real differences, (phi(x + td) - phi(x - td)) / 2t, are extrapolated to t = 0 (Ridders
1982). They hold for any function and are good to about 1e-10. A kink in the way shows,
because the slopes of the two sides stay apart; see `Line.at_kink`. Where f is only
accurate to float32, many values are fitted with at most one kink anywhere.

The other oracle, the complex step (`Probe.imaginary`), is good to about 1e-13. It is
silently wrong for functions that are not analytic, so `search` believes it only where
real differences agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from scratchnet.testing.probe import EPS, Probe
from scratchnet.testing.problems import Array

FIRST_STEP = 1 / 8  # in units of the entries' size
LAST_STEP = 1e-15
NOISY = 5e-3  # an entry whose relative error may be larger than this is noisy
NEARBY = 5e-5  # a kink that is nearer cannot be told from one at the very point
COMPLEX, RIDDERS = "complex step", "Ridders"

Oracle = Literal["auto", "complex", "ridders"]  # as a caller chooses


@dataclass
class Slope:
    """A measured slope along a direction, with a bound on its error.

    `kind` is "" if all is well; "broken" along a block that met a kink or did not
    settle; and along a single entry "kink", "jump" (the slopes of the two sides grow
    without bound) or "edge" (f is defined on one side only), with the two slopes; or
    "stairs" (f is flat but for jumps).
    """

    value: float = math.nan
    error: float = math.inf
    step: float = 0.0
    kind: str = ""
    left: float = math.nan
    right: float = math.nan


class Line:
    """Slopes of phi along a direction d in input j, by real differences.

    `unit` is the size of a step t along d that changes the entries by about their own;
    a slope below `least` is as good as zero, for the kinks that may hide in it.
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

    def sides(self, t: float) -> tuple[float, float, float]:
        """Return the slopes over the steps -t and t, and what rounding does to them."""
        left = -self.probe.change(self.j, -t * self.d, self.moved) / t
        right = self.probe.change(self.j, t * self.d, self.moved) / t
        steepest = max(abs(v) if math.isfinite(v) else 0.0 for v in (left, right))
        # f is rounded, and so is x + td.
        noise = self.probe.noise_of(self.moved) + 2 * EPS * self.unit * steepest
        return left, right, noise / t

    def slope(self, target: float, depth: int, start: float = 0.0) -> Slope:
        """Measure the slope, to within `target` where that is possible.

        Ridders (1982): the error of a central difference over t is a series in even
        powers of t, of which Neville's scheme removes one more with each t/2; the
        change that each step makes estimates the error left. Two things are added.
        A result that disagrees with one of smaller steps has met something that is not
        at x, such as a kink nearby, and is forgotten. And it must hold at `depth` far
        smaller steps, where the two sides must agree: at a kink they stay apart. Where
        noise hides those steps, the error includes what a kink may have added.
        """
        best, bend = Slope(), 0.0
        rows: list[list[float]] = []
        gaps: list[float] = []
        t = start or FIRST_STEP * self.unit
        last = (LAST_STEP if depth > 1 else 1e-5) * self.unit  # split blocks early
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
        return self.at_kink(best) if depth > 1 else replace(best, kind="broken")

    def _broken_at(
        self, best: Slope, t: float, bend: float, gap: float, target: float, depth: int
    ) -> float | None:
        """Return the far smaller step at which `best`, found at t, fails; 0 at a kink.

        `bend` and `gap` are the error of the plain central difference at t, and the
        difference of its two sides. On a smooth function both are smaller here.
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

    def at_kink(self, best: Slope) -> Slope:
        """Return `best` with the slopes of the two sides, if they stay apart."""
        seen: list[tuple[float, float, float, float]] = []
        t = FIRST_STEP * self.unit
        while t > LAST_STEP * self.unit:
            left, right, noise = self.sides(t)
            gap = abs(right - left)
            if math.isfinite(left) != math.isfinite(right):
                gap = math.inf
            elif seen and gap + noise < 0.5 * seen[-1][0] and noise < seen[-1][0] / 8:
                seen = []  # they come together
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
        if kind == "kink" and error > last / 2:  # the sides are not settled
            return best
        if kind != "edge" and 16 * t > NEARBY * self.unit:  # it may be beside x
            return Slope((left + right) / 2, last + noise, 16 * t)
        return replace(best, error=error, kind=kind, left=left, right=right)

    def _on_stairs(self, claimed: float) -> bool:
        """Say whether f has the claimed slope over large steps, and none over small.

        Computing in float32, or rounding, makes a staircase of a smooth function. It
        is flat almost everywhere, but that is not what its gradient is meant to be.
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

    def closer(self, best: Slope, enough: float) -> Slope:
        """Return the slope to within `enough`, if the fit of many values gives that.

        The more values, the smaller the step that their rounding allows, and the
        fewer kinks are near enough to matter.
        """
        noise = self.probe.noise_of(self.moved)
        for n in (64, 256, 1024):
            step = min(FIRST_STEP * self.unit, 4 * noise / enough * (64 / n) ** 0.25)
            hopeless = 4 * noise / (step * math.sqrt(n)) > enough
            if hopeless or n > self.probe.affordable / 3:
                continue
            fitted = self._fit(step, n)
            best = fitted if fitted.error < best.error else best
            if best.error <= enough:
                break
        return best

    def certain(self, best: Slope, claimed: float) -> Slope:
        """Return the slope, its error no smaller than what is beyond doubt.

        That it is not the claimed one has to show at far smaller steps too, down to
        where rounding hides it, and must not shrink with them: near a kink that is too
        close to be seen, slopes drift to the right one as the steps shrink. Where no
        step is small enough, fits of many values may tell.
        """
        off = abs(best.value - claimed)
        if not math.isfinite(off):
            return best
        at_kink = self.at_kink(best)
        if at_kink.kind:
            return at_kink
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
        # Fits over different steps must both say so; or slopes, by far.
        seen = [self.closer(Slope(), off / part) for part in (3, 6)]
        if not all(math.isfinite(s.value) for s in seen):
            other = self.slope(0.0, depth=6, start=0.7 * FIRST_STEP * self.unit)
            seen = [replace(s, error=4 * s.error) for s in (best, other)]
        if all(abs(s.value - claimed) > 2 * s.error for s in seen):
            return seen[-1]
        return replace(best, error=max(best.error, 1.01 * off))

    def _fit(self, step: float, n: int) -> Slope:
        """Fit n values up to `step` on either side: their rounding averages out.

        The model is a polynomial with at most one kink, at any place and of any size:
        an odd part in t and t^3, an even part in 1, t^2 and t^4, and a ramp that starts
        at the kink, which both parts have half of. The slopes at t = 0 of all models
        that explain the values as well as the best does make the bound. There is none
        if what the best leaves is not rounding alone.
        """
        t = (np.arange(n) + self.probe.rng.random(n)) / n
        moves = [(step * s * self.d, -step * s * self.d) for s in t]
        changes = [
            [self.probe.change(self.j, m, self.moved) for m in ms] for ms in moves
        ]
        up, down = np.array(changes).T / step
        odd, even = (up - down) / 2, (up + down) / 2
        if not np.all(np.isfinite(odd)) or len(np.unique(odd)) < 5:
            return Slope()
        slope, rest, line = _fitted(t, odd, even)
        places = np.append(1e-9, np.linspace(0.02, 0.95, 48))
        places = np.append(-places[::-1], places)
        for _ in range(3):
            ramps = np.maximum(t[:, None] - np.abs(places), 0.0)
            turns, kinks, _ = _fitted(t, np.sign(places) * ramps, ramps)
            lengths = np.linalg.norm(kinks, axis=0)
            turns, kinks = turns / lengths, kinks / lengths
            along = rest @ kinks  # the size of the kink at each place
            most = int(np.argmax(np.abs(along)))
            used = places
            near = places[max(most - 1, 0)], places[min(most + 1, len(places) - 1)]
            places = np.unique(np.append(places, np.linspace(*near, 24)))
        left_over = rest - along[most] * kinks[:, most]
        square = left_over @ left_over / (2 * n - 7)
        white = np.mean(np.diff(left_over) ** 2) / 2
        second = np.max(np.abs(left_over @ kinks))
        if square > (1 + 4 / math.sqrt(n)) * white or second > 4.5 * math.sqrt(white):
            return Slope()
        likely = along**2 >= along[most] ** 2 - 20 * square
        at = np.flatnonzero(likely)
        likely[np.clip(np.append(at - 1, at + 1), 0, len(used) - 1)] = True
        values = (slope - along * turns)[likely]
        wide = 4 * np.sqrt(square * (line @ line + turns[likely] ** 2))
        low, high = float(np.min(values - wide)), float(np.max(values + wide))
        return Slope((low + high) / 2, (high - low) / 2, step)


def _fitted(t: Array, odd: Array, even: Array) -> tuple[Array, Array, Array]:
    """Fit the odd and even parts of values at t and -t; for each column, if several.

    Return the slope at 0, what the fit leaves of both parts in one, and the weights of
    the odd part's values in the slope.
    """
    left = []
    for powers, values in (([t, t**3], odd), ([t**0, t**2, t**4], even)):
        basis, _ = np.linalg.qr(np.stack(powers, axis=1))
        left.append(values - basis @ (basis.T @ values))
    weights = np.linalg.pinv(np.stack([t, t**3], axis=1))[0]
    return weights @ odd, np.concatenate(left), weights


def _extrapolate(middle: float, above: list[float]) -> list[float]:
    """Return the next row of Neville's table, for steps that halve."""
    row = [middle]
    for k, old in enumerate(above[:6]):
        row.append(row[k] + (row[k] - old) / (4 ** (k + 1) - 1))
    return row


def _unseen_kink(gaps: list[float]) -> float:
    """Bound what a kink near x adds to a slope; steps halve, `gaps` are right - left.

    A kink adds to one side only: as much to the gap as twice to the central slope.
    The gap of a smooth function is a series in odd powers of t, so each gap follows
    from those of two larger steps; what is not explained by them is due to kinks. (One
    step alone may miss a kink: two kinds of error cancel at some distance from x.)
    """
    apart = []
    for k in range(max(1, len(gaps) - 3), len(gaps)):
        smooth = gaps[k - 1] / 2
        if k > 1:
            smooth += (gaps[k - 1] / 2 - gaps[k - 2] / 4) / 4
        apart.append(abs(gaps[k] - smooth))
    return 2 * max(apart)


def _steadiest(row: list[float], above: list[float], noise: float, t: float) -> Slope:
    """Return the value of a row that its neighbours in the table differ least from."""
    changes = [
        max(abs(row[k] - v) for v in (row[k - 1], *above[k - 1 : k + 1]))
        for k in range(1, len(row))
    ]
    least = min(changes)
    return Slope(row[changes.index(least) + 1], least + noise, t)
