"""When a gradient at a kink is wrong, and when it is not.

At a kink f has no derivative, and any subgradient is a valid convention. For one entry
a subgradient is any value between the slopes of its two sides (`Entry.verdict` in
findings.py). For several entries together this is not enough: at a tie of np.max,
(1, 1) is not a subgradient. `judge_kinks` judges them together.
"""

from __future__ import annotations

import math

import numpy as np

from scratchnet.testing.findings import Entry, Finding
from scratchnet.testing.oracles import RIDDERS
from scratchnet.testing.probe import Probe
from scratchnet.testing.problems import Array, random_signs, subscript

MAX_TOGETHER = 32  # entries that are judged together
AWAY = 1e-4  # distance from the kink where pieces are searched, in units of the entries
STEP = 1e-6  # for the slopes of a piece
TRIES = 6  # the search ends after this many rounds without a steeper piece


def judge_kinks(probe: Probe, findings: list[Finding]) -> None:
    """Judge all entries at kinks together: is the gradient a subgradient?

    If it is not, the finding becomes "wrong". If it is, a "wrong" entry that is not
    between its two sides becomes a "kink": where several kinks meet, f has more than
    two pieces (a tie of np.sort with weights).
    """
    entries = [(j, e) for j, f in enumerate(findings) for e in f.kinks]
    if len(entries) < 2 or any(f.verdict == "wrong" and f.located for f in findings):
        return
    joint = SeveralKinks(probe, entries)
    refuted = joint.refuted()
    for f in findings:
        if f.verdict == "wrong" and f.kinks and joint.clear and refuted is None:
            f.verdict, f.differ = "kink", len(f.kinks)
    if refuted is None or any(f.verdict == "wrong" for f in findings):
        return
    d, claimed, steepest = refuted
    j, worst = joint.entries[int(np.argmax(np.abs(d)))]
    f = findings[j]
    f.verdict, f.worst, f.oracle = "wrong", worst, RIDDERS
    along = d * joint.scale
    unit = probe.unit * float(np.max(np.abs(along)))
    f.detail = (
        f"each entry is between its sides, but together they are not a subgradient: "
        f"along ({_direction(joint, findings, along)}) they claim {claimed / unit:.7g},"
        f" and the nearest slope of {probe.label} around here is {steepest / unit:.7g}"
    )


def _direction(joint: SeveralKinks, findings: list[Finding], along: Array) -> str:
    """Write the largest entries of a direction, scaled so that the largest is 1."""
    along = along / np.max(np.abs(along))
    parts = []
    for k in sorted(np.argsort(-np.abs(along))[:4]):
        j, e = joint.entries[k]
        place = subscript(np.unravel_index(e.i, findings[j].shape))
        if abs(along[k]) > 0.05:
            parts.append(f"{along[k]:.3g} in {findings[j].name}{place}")
    return ", ".join(parts)


class SeveralKinks:
    """Entries at kinks, of one input or several, and the pieces of f around them.

    A subgradient is a weighted mean of the gradients that f has nearby. Each of its
    entries lies between the slopes of its two sides, but the reverse does not hold: at
    a tie of np.max, (1, 1) is not a mean of (1, 0) and (0, 1). So the search looks for
    pieces of f nearby. A gradient is refuted if in some direction it is steeper than
    every piece found, and a search in this direction finds no steeper piece.

    Attributes:
        entries: the entries that are judged together, each with its input.
        all: all entries at kinks.
        scale: the size of each entry; the next three are multiplied by it.
        claimed: the gradient under test.
        left, right: the slopes of the two sides of each entry.
        margin: a bound on the error of the slopes of a piece.
        clear: whether f is accurate enough to distinguish pieces.

    """

    def __init__(self, probe: Probe, entries: list[tuple[int, Entry]]) -> None:
        self.probe = probe
        rng = probe.rng
        most = int(min(MAX_TOGETHER, max(2.0, probe.affordable / 200)))
        chosen = sorted(rng.permutation(len(entries))[:most])
        self.entries = [entries[k] for k in chosen]
        self.all = entries
        self.scale = np.array([probe.scale[j][e.i] for j, e in self.entries])
        sides = [(e.slope.left, e.slope.right) for _, e in self.entries]
        self.claimed = np.array([e.analytic for _, e in self.entries]) * self.scale
        self.left, self.right = np.array(sides).T * self.scale
        doubt = np.array([e.slope.error + e.doubt for _, e in self.entries])
        steepest = np.max(np.abs(sides)) * np.max(self.scale)
        noise = probe.noise / STEP
        self.margin = 4 * (np.max(doubt * self.scale) + noise + 5e-4 * steepest)
        self.clear = noise < 0.02 * steepest

    def piece(self, u: Array) -> Array | None:
        """Return the slopes of the piece of f in direction u; None at another kink."""
        at = [np.zeros(x.size) for x in self.probe.problem.xs]
        rng = self.probe.rng
        others = rng.choice([0.0, 1.0])  # at their kinks, or next to them
        for j, e in self.all:
            at[j][e.i] = others * rng.choice([-1, 1]) * rng.uniform(0.5, 1.5)
        for (j, e), move in zip(self.entries, u, strict=True):
            at[j][e.i] = move
        at = [AWAY * s * a for s, a in zip(self.probe.scale, at, strict=True)]
        here = self._phi(at)
        found = []
        for (j, e), size in zip(self.entries, self.scale, strict=True):
            sides = []
            for step in (-STEP, STEP):
                moved = [a.copy() for a in at]
                moved[j][e.i] += step * size
                sides.append((self._phi(moved) - here) / step)
            if not abs(sides[1] - sides[0]) <= self.margin:
                return None
            found.append((sides[0] + sides[1]) / 2)
        return np.array(found)

    def _phi(self, moves: list[Array]) -> float:
        """Return phi(x + moves) - phi(x); NaN outside the domain of f."""
        problem = self.probe.problem
        xs = [x + m.reshape(x.shape) for x, m in zip(problem.xs, moves, strict=True)]
        self.probe.calls += 1
        try:
            change = problem.value(xs) - self.probe.base
        except Exception:  # outside the domain
            return math.nan
        return float(np.vdot(self.probe.c, change))

    def refuted(self) -> tuple[Array, float, float] | None:
        """Return a direction, the claimed slope along it, and the steepest slope of f.

        None if the gradient may be a mean of pieces, or if noise hides the answer.
        """
        if not self.clear:
            return None
        pieces: list[Array] = []
        moves: list[Array] = []
        d = np.ones(len(self.entries))
        without = 0  # consecutive rounds without a steeper piece
        while without < TRIES:
            slopes = [float(p @ d) for p in pieces]
            steepest = max(slopes, default=-math.inf)
            best = moves[slopes.index(steepest)] if moves else d
            before = len(pieces)
            for u in self._toward(d, best):
                if (piece := self.piece(u)) is not None:
                    pieces.append(piece)
                    moves.append(u)
            grown = max((float(p @ d) for p in pieces[before:]), default=-math.inf)
            enough = steepest + 0.1 * self.margin * float(np.linalg.norm(d))
            without = 0 if grown > enough else without + 1
            if not pieces:
                continue
            d = self.claimed - _nearest(np.array(pieces), self.claimed)
            if np.linalg.norm(d) <= self.margin:
                return None
        if not pieces:
            return None
        d /= np.max(np.abs(d))
        claimed, most = self.claimed @ d, max(p @ d for p in pieces)
        if claimed <= most + self.margin * np.sum(np.abs(d)) / 4:
            return None
        return d, float(claimed), float(most)

    def _toward(self, d: Array, best: Array) -> list[Array]:
        """Return displacements where pieces may be steep along d.

        For a convex function along d, for a concave one against d; if the entries are
        independent, to the steeper side of each; and for other functions some changes
        of the best displacement so far.
        """
        rng = self.probe.rng
        size = rng.uniform(0.5, 1.5, len(d))
        tilt = d + 1e-3 * np.max(np.abs(d)) * random_signs(rng, d.shape)
        tilt *= math.sqrt(len(d)) / np.linalg.norm(tilt)
        steep = size * np.where((self.right - self.left) * d >= 0, 1.0, -1.0)
        found = [tilt, -tilt, steep, -steep, size * rng.choice([-1.0, 1.0], len(d))]
        for _ in range(3):
            i, k = rng.integers(len(d), size=2)
            swapped, drawn = best.copy(), best.copy()
            swapped[[i, k]] = best[[k, i]]
            drawn[i] = rng.uniform(-1.5, 1.5)
            found += [swapped, drawn]
        return found


def _nearest(points: Array, to: Array) -> Array:
    """Return the point nearest to `to` in the convex hull of `points` (Frank-Wolfe)."""
    nearest = int(np.argmin(np.linalg.norm(points - to, axis=1)))
    at: Array = points[nearest]
    weights = {nearest: 1.0}
    for _ in range(500):
        # Away-steps let weights reach zero, so that this ends at the exact point.
        along = points @ (to - at)
        best = int(np.argmax(along))
        worst = min(weights, key=lambda k: along[k])
        step = points[best] - points[worst]
        square = float(step @ step)
        if along[best] - along[worst] <= 0 or square == 0.0:
            break
        share = min(weights[worst], float(step @ (to - at)) / square)
        weights[worst] -= share
        weights[best] = weights.get(best, 0.0) + share
        weights = {k: w for k, w in weights.items() if w > 0.0}
        at = at + share * step
    return at
