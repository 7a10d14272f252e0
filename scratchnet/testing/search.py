"""How wrong entries are located: blocks of entries are checked at once, and split.

Along a direction d the gradient a claims the slope a . d. One direction checks many
entries: a wrong entry shows in the slope if its effect is above the oracle's error. If
it might not show, the entries are split into blocks of similar magnitude, down to
single entries. If the slopes differ, they are split down to the wrong entry.

Neither a block nor the complex step can make an entry wrong: only real differences
along this entry decide (`Search.entry`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from scratchnet.testing.findings import Entry, Finding, distance
from scratchnet.testing.oracles import COMPLEX, FIRST_STEP, NOISY, Line, Oracle, Slope
from scratchnet.testing.probe import EPS, Probe, finite_size
from scratchnet.testing.problems import Array, random_signs

TARGET = 1e-4  # a relative error of this size in any one entry must be seen
CONFIRMED = 1e-2  # the same for the real differences that confirm a complex step
VAGUE = 0.5  # in a low precision, an entry with a larger relative error is noisy
TOGETHER = 1e-2  # in a low precision: a factor of all entries of this size must be seen
NEGLIGIBLE = 1e-6  # entries below this part of the largest may be less accurate
FLOAT32_ERROR = 1e-6  # an error that float32 inside f explains is not wrong
SMALLEST_NORMAL = float(np.finfo(float).tiny)
PARTS = 8  # a block is split into this many blocks
CLOSE_LOOKS = 4  # this many wrong entries are examined closely; others are counted
MAX_LOCATED = 64  # this many wrong entries are located; a complex step counts the rest
MAX_COUNTED = 4096  # ... in gradients of up to this size
MAX_CALLS = 50_000  # evaluations of f for one input; then the search stops
COARSE_CALLS = 3000  # the same in a low precision, where more calls show little more


# --- One input ----------------------------------------------------------------------


def examine(
    probe: Probe, j: int, g: Array | None, oracle: Oracle, describe: bool = True
) -> Finding:
    """Check the gradient `g` of input j."""
    name, x = probe.problem.names[j], probe.problem.xs[j]
    found = Finding("pass", name, x.shape)
    if not x.size:
        return replace(found, verdict="vacuous", detail=f"{name} has no entries")
    search = Search(probe, j, np.zeros(x.size) if g is None else g.ravel())
    entries = _unconfirmed(found, search, oracle, MAX_LOCATED if describe else 1)
    found.tolerated = len(search.tolerated)
    if probe.late():
        found.unchecked, search.left = search.left, 0
    for verdict in ("wrong", "kink", "noisy"):
        some = [e for e in entries if e.verdict == verdict]
        if some:
            found.verdict = verdict
            found.worst, found.differ = max(some, key=lambda e: e.off), len(some)
            found.kinks = [e for e in entries if e.slope.kind == "kink"]
            if verdict == "wrong" and describe:
                _describe(found, search, some)
            elif verdict == "noisy":
                found.differ += search.lost + search.left
            return found
    if probe.problem.coarse and (detail := search.contradiction()):
        return replace(found, verdict="wrong", detail=detail)
    if found.blind >= 1 and search.together > VAGUE:  # nothing would show
        search.lost = x.size
    if search.lost or search.left:
        return replace(found, verdict="noisy", detail=_unseen(search, name))
    if found.unchecked:
        return unfinished(found)
    if oracle == "complex" and found.oracle != COMPLEX:
        detail = f'the complex step does not hold for f and {name}; use oracle="auto"'
        return replace(found, verdict="noisy", detail=detail)
    if search.zero and not probe.problem.may_be_zero[j]:
        return _zero(found, search, g)
    return found


def unfinished(found: Finding) -> Finding:
    """Return the finding if the deadline came before all entries were checked."""
    of = math.prod(found.shape)
    detail = f"{found.unchecked} of {of} entries of {found.name} were not checked"
    return replace(found, verdict="unfinished", detail=detail)


def _unconfirmed(
    found: Finding, search: Search, oracle: Oracle, most: int
) -> list[Entry]:
    """Return the entries that no oracle confirms; note the oracle of the others."""
    disputed = None if oracle == "ridders" else search.by_complex_step(1)
    if disputed == []:
        found.oracle, found.blind = COMPLEX, search.blind
        entries = search.by_differences(CONFIRMED, MAX_CALLS // 10, most)
        if not search.probe.late():
            # The complex step confirmed the entries that the differences leave open.
            search.lost = search.left = 0
        return [e for e in entries if e.verdict != "noisy"]
    calls = COARSE_CALLS if search.probe.problem.coarse else MAX_CALLS
    entries = search.by_differences(TARGET, calls, most)
    found.blind, found.together = search.blind, search.together
    if disputed and not entries:
        # Either the complex step does not hold for f, or it sees a smaller error.
        closer = [search.entry(i) for i in search.by_complex_step(CLOSE_LOOKS) or []]
        return [e for e in closer if e.verdict == "wrong"]
    return entries


def _zero(found: Finding, search: Search, g: Array | None) -> Finding:
    """Return the finding if the gradient and the slope of f are both zero."""
    probe, name = search.probe, found.name
    if g is None:
        detail = f"no gradient reached {name}, and f does not change with it"
        return replace(found, verdict="vacuous", detail=detail)
    small = FLOAT32_ERROR * float(np.sum(np.abs(probe.c * probe.base)))
    if np.any(np.abs(g.ravel()) * search.scale > small):  # not even in float32
        accuracy = f"f is accurate to {probe.noise:.0e} only"
        detail = f"rounding of f hides the gradient of {name}: {accuracy}"
        return replace(found, verdict="noisy", detail=detail)
    lost = " up to rounding" if np.any(g) else ""
    detail = f"the gradient of {name} is 0{lost}, and so is the slope of f"
    return replace(found, verdict="vacuous", detail=detail)


def _unseen(search: Search, name: str) -> str:
    """Return, in words, how many entries noise or the budget left unchecked."""
    accuracy = f"{search.probe.noise:.0e}"
    unchecked = f"{search.left} entries of {name} remain unchecked"
    if not search.lost:
        return (
            f"{unchecked} after {search.probe.calls} evaluations of f, which is "
            f"accurate to {accuracy}"
        )
    judged = (
        f"{search.lost} entries of {name} cannot be judged: f is accurate to "
        f"{accuracy} only"
    )
    return f"{judged}; {unchecked}" if search.left else judged


def _describe(found: Finding, search: Search, entries: list[Entry]) -> None:
    """Count the wrong entries, and name the worst."""
    located = {e.i: e.slope for e in entries}
    partial = len(entries) >= MAX_LOCATED
    if all([search.sharpen(e) for e in entries]):
        located = {e.i: e.slope for e in entries}
        counted = _count(search)
        if counted.keys() >= located.keys():
            located, partial = counted, False
    i = max(
        located, key=lambda i: distance(float(search.analytic[i]), located[i].value)
    )
    found.worst = search.entry(i)
    if found.worst.verdict != "wrong":
        found.worst = entries[0]
    search.sharpen(found.worst)
    found.differ = len(located)
    found.detail = f"{'at least ' if partial else ''}{len(located)} differ"
    found.located = {i: s for i, s in located.items() if not s.kind}
    found.partial = partial


def _count(search: Search) -> dict[int, Slope]:
    """Return the slope by the complex step at each wrong entry of a gradient.

    Empty if the gradient is large, or if real differences contradict a slope.
    """
    if len(search.analytic) > MAX_COUNTED or search.probe.late():
        return {}
    numeric = np.array([search.imaginary(i) for i in range(len(search.analytic))])
    margin = 4 * search.doubt + 1e-9 * np.maximum(np.abs(numeric), search.size)
    margin += search.tolerance(numeric, 1.0)
    wrong = np.flatnonzero(~(np.abs(search.analytic - numeric) <= margin))
    largest = wrong[np.argsort(-np.abs(search.analytic - numeric)[wrong])[:1]]
    for i in (*largest, *search.probe.rng.permutation(wrong)[:3]):
        entry = search.entry(int(i))
        if entry.verdict != "wrong" or not search.sharpen(entry):
            return {}
    return {int(i): Slope(float(numeric[i]), float(margin[i])) for i in wrong}


# --- Its entries --------------------------------------------------------------------


class _Measured(NamedTuple):
    """The result of real differences along one block.

    Attributes:
        slope: the slope along the block.
        agrees: whether the gradient has that slope.
        blind: the largest relative error of a single entry that could hide there, in
            the entries that are confirmed.
        confirmed: which entries are: the gradient agrees, and an error of the size
            sought would show.
        weight: the sum of abs(c) over the outputs that change.
        constant: the gradient is zero, and f does not change, to the last bit.
        hidden: the gradient agrees, and noise would hide an error in any entry.

    """

    slope: Slope
    agrees: bool
    blind: float
    confirmed: Array
    weight: float
    constant: bool
    hidden: bool


class Search:
    """The search for wrong entries among the n entries of input j.

    Attributes:
        probe: f near the inputs.
        j: the number of the input.
        analytic: the gradient under test, of shape (n,).
        doubt: bounds on its rounding (n,).
        scale: steps proportional to the entries of the input (n,).
        size: the error of each entry is compared with this (n,).
        order: the entries, sorted by `size`, largest first (n,).
        least: a slope below this counts as zero.
        zero: whether the gradient is zero up to rounding.
        complex: whether f takes complex numbers.
        blind: the largest relative error of one entry that may be missed.
        bound: the same for each entry, by the measurements so far (n,).
        together: the same of all entries together, if f is coarse.
        tolerated: the entries with an error within the caller's tolerance.
        lost: how many entries noise hides.
        left: how many entries were not checked, for lack of budget.

    """

    def __init__(self, probe: Probe, j: int, analytic: Array) -> None:
        self.probe = probe
        self.j = j
        self.analytic = analytic
        self.doubt = probe.rounding[j]
        self.scale = probe.scale[j]
        self.blind = 0.0
        self.together = 0.0
        self.bound = np.full(len(analytic), math.inf)
        self.tolerated: set[int] = set()
        self.lost = 0
        self.left = 0
        self.complex = False
        size = finite_size(analytic)
        floor = NEGLIGIBLE * float(np.max(size))
        # The largest value that differences may give for a slope of zero.
        zero = (
            4 * (probe.noise / FIRST_STEP / self.scale + self.doubt) + SMALLEST_NORMAL
        )
        self.zero = bool(np.all(size <= 8 * zero))
        size = np.where(size < floor, 10 * floor, size)
        if probe.problem.coarse:  # rounding hides the smallest entries: compare less
            most = 0.1 * float(np.max(size))
            size = np.maximum(size, np.minimum(zero / NOISY, most))
        self.size = zero / TARGET if self.zero else size
        self.least = 1e-3 * float(np.max(self.size))
        # Group similar magnitudes: small entries need not show next to large ones.
        self.order = np.argsort(-self.size, kind="stable")

    def by_complex_step(self, most: int) -> list[int] | None:
        """Return up to `most` entries that the complex step contradicts.

        None if f does not take complex numbers.
        """
        self.complex = not math.isnan(self.probe.imaginary(self.j, self.size))
        if not self.complex:
            return None
        weight = np.max(self.size) / self.size  # any step is allowed: equal effects
        blocks = self._blocks(True)
        found: list[int] = []
        self.blind = 0.0
        while blocks and len(found) < most:
            block = blocks.pop()
            if self.probe.late():
                return None
            d = self._direction(block, weight)
            slope = Slope(self.probe.imaginary(self.j, d), 0.0)
            agrees, margin = self._compare(slope, d)
            blind = margin / float(np.min(np.abs(d * self.size)[block]))
            if agrees and (blind <= TARGET or len(block) == 1):
                self.blind = max(self.blind, blind)
            elif len(block) == 1:
                found.append(int(block[0]))
            else:
                blocks += _split(block)
        return found

    def by_differences(self, aim: float, calls: int, most: int) -> list[Entry]:
        """Return the entries that real differences do not confirm to within `aim`.

        Up to `most` of them are wrong; `lost` and `left` count the unchecked entries.
        The search takes up to `calls` evaluations of f.
        """
        blocks = self._blocks(aim == TARGET)
        found: list[Entry] = []
        later: list[tuple[float, int]] = []
        wrong = looks = 0
        coarse = self.probe.problem.coarse
        # Entries that even many of the widest steps cannot show.
        hidden = self.probe.noise / FIRST_STEP / self.scale > 8 * NOISY * self.size
        noisy = bool(np.any(hidden & (self.analytic != 0.0)))
        budget = Budget(self.probe, len(self.order), calls, noisy)
        while blocks and wrong < most:
            block = blocks.pop()
            if budget.over():
                self._leave(block)
                continue
            seen = self._measure(block, aim)
            if np.any(seen.confirmed):
                self.blind = max(self.blind, seen.blind)
                budget.done += int(np.sum(seen.confirmed))
                rest = block[~seen.confirmed]
                blocks += [rest] if rest.size else []
                continue
            if len(block) == 1 and seen.agrees:  # more accuracy takes long
                i, slope = int(block[0]), seen.slope
                later.append((abs(slope.value - self.analytic[i]) / slope.error, i))
            elif len(block) == 1:
                i = int(block[0])
                quick = self._entry(i, seen.slope, seen.weight)
                if quick.verdict == "tolerated":
                    self.tolerated.add(i)
                    budget.done += 1
                    continue
                looks += 1
                enough = wrong >= CLOSE_LOOKS or (coarse and looks > 4 * CLOSE_LOOKS)
                found += [quick] if enough else self._suspect(i)
                wrong += bool(found) and found[-1].verdict == "wrong"
            elif seen.constant:
                pass
            elif seen.hidden and coarse:
                self._leave(block)
            elif seen.hidden:
                self.lost += len(block)
            elif budget.hopeless and (seen.agrees or seen.slope.kind):
                self._leave(block)
            else:
                if not seen.agrees and not seen.slope.kind:
                    block, others = self._narrowed(block, aim)
                    blocks += [others] if others.size else []
                blocks += _split(block)
                continue
            budget.done += len(block)
        if not wrong:
            found += self._look_closer(sorted(later, reverse=True), budget)
        return found

    def _leave(self, block: Array) -> None:
        """Note entries that the budget does not suffice for."""
        bound = float(np.max(self.bound[block]))
        if self.probe.problem.coarse and math.isfinite(bound):
            self.blind = max(self.blind, bound)
        else:
            self.left += len(block)

    def _narrowed(self, block: Array, aim: float) -> tuple[Array, Array]:
        """Halve a block whose slope differs, down to a few entries; one is wrong.

        Also return the other entries, together: most likely they are right.
        """
        others = [block[:0]]
        while len(block) > MAX_LOCATED and not self.probe.late():
            half, other = np.array_split(block, 2)
            if self._measure(half, aim).agrees:
                half, other = other, half
            block = half
            others.append(other)
        rest = np.concatenate(others)
        return block, rest[np.argsort(-self.size[rest], kind="stable")]

    def _measure(self, block: Array, aim: float) -> _Measured:
        """Measure the slope along a block, and compare the gradient with it."""
        alone = len(block) == 1
        d = self._direction(block, self.scale)
        reach = np.abs(d[block]) * self.size[block]
        unit, depth = (self.scale[block[0]], 3) if alone else (1.0, 1)
        line = Line(self.probe, self.j, d, unit, self.least * np.max(np.abs(d)))
        slope = line.slope(aim * np.min(reach) / 4, depth)
        agrees, margin = self._compare(slope, d)
        # The best accuracy that rounding permits, for each entry.
        noise = self.probe.noise / (FIRST_STEP * unit)
        enough = np.maximum(aim, np.minimum(NOISY, 4 * noise / reach))
        confirmed = agrees & (margin <= (NOISY if alone else enough) * reach)
        if agrees:
            self.bound[block] = np.minimum(self.bound[block], margin / reach)
        if self.probe.problem.coarse and agrees:
            # Rounding permits no more: a smaller block would not show smaller errors.
            most = VAGUE * reach[0] if alone else math.inf
            confirmed |= margin <= min(16 * noise, most)
        if self.probe.problem.coarse and len(block) == len(self.order) > 1:
            whole = float(np.linalg.norm(d * self.analytic))
            self.together = margin / whole if agrees and whole else 1.0
        blind = np.max(margin / reach, initial=0.0, where=confirmed)
        zeros = not np.any(self.analytic[block])
        return _Measured(
            slope,
            agrees,
            float(blind),
            confirmed,
            self._weight(line),
            constant=agrees and zeros and not np.any(line.moved),
            hidden=bool(agrees and noise > NOISY * np.max(reach) and not zeros),
        )

    def _look_closer(
        self, later: list[tuple[float, int]], budget: Budget
    ) -> list[Entry]:
        """Return the entries that a close look does not confirm, most suspect first.

        After a few undecided entries the others cannot improve the verdict.
        """
        found: list[Entry] = []
        for _, i in later:
            if budget.spent() or len(found) >= CLOSE_LOOKS:
                self._leave(np.array([i]))
            else:
                found += self._suspect(i)
        return found

    def _suspect(self, i: int) -> list[Entry]:
        """Return entry i in a list, if a close look does not confirm it."""
        entry = self.entry(i)
        if entry.verdict == "tolerated":
            self.tolerated.add(i)
            return []
        blind = (entry.slope.error + entry.doubt) / self.size[i]
        most = VAGUE if self.probe.problem.coarse else NOISY
        if entry.verdict != "noisy" or blind > most:
            return [entry]
        self.blind = max(self.blind, blind)
        return []

    def _blocks(self, alone: bool) -> list[Array]:
        n = len(self.order)
        alone = alone and n <= self.probe.problem.max_alone
        return np.array_split(self.order, n if alone else 1)[::-1]

    def _direction(self, block: Array, weight: Array) -> Array:
        """Return a random direction in a block of entries; for one entry, its unit."""
        if len(block) == 1:
            return self._unit(int(block[0]))
        d = np.zeros(len(self.size))
        d[block] = weight[block] * random_signs(self.probe.rng, len(block))
        return d

    def _compare(self, slope: Slope, d: Array) -> tuple[bool, float]:
        """Return whether the gradient has this slope along d, within the error bounds.

        Also return the margin: a smaller effect of a single entry could hide there.
        """
        on = d != 0
        margin = slope.error + float(np.abs(d[on]) @ self.doubt[on])
        agrees = abs(slope.value - float(d[on] @ self.analytic[on])) <= margin
        return agrees and not slope.kind, margin

    def contradiction(self) -> str:
        """Return, in words, how all entries together are wrong, if no single one is."""
        said = ""
        for _ in range(3):  # random directions; each must show it
            d = self._direction(self.order, self.scale)
            slope = Line(self.probe, self.j, d, 1.0, self.least).slope(0.0, 1)
            claimed, (_, margin) = float(d @ self.analytic), self._compare(slope, d)
            least = TOGETHER * float(np.linalg.norm(d * self.analytic))
            if slope.kind or not abs(slope.value - claimed) > max(4 * margin, least):
                return ""
            a, b = claimed / self.probe.unit, slope.value / self.probe.unit
            said = f"along a random direction it claims {a:.7g}, f changes by {b:.7g}"
        name = self.probe.problem.names[self.j]
        return f"the gradient of {name}: {said}; no single entry shows it"

    def entry(self, i: int) -> Entry:
        """Examine one entry as closely as possible."""
        claimed, doubt = float(self.analytic[i]), float(self.doubt[i])
        enough = NOISY * self.size[i]
        line = Line(self.probe, self.j, self._unit(i), self.scale[i], self.least)
        slope = line.slope(0.0, depth=6)
        size = abs(float(self.probe.problem.xs[self.j].ravel()[i]))
        if (slope.kind or slope.error > enough) and 0.0 < size < line.unit / 100:
            # A small entry among large ones: f may change over steps of its own size.
            own = Line(self.probe, self.j, self._unit(i), size, self.least)
            again = own.slope(0.0, depth=6)
            if not again.kind and again.error <= enough:
                line, slope = own, again
        coarse, off = self.probe.problem.coarse, abs(slope.value - claimed)
        if math.isfinite(slope.value) and not slope.kind:
            if claimed == 0.0 and slope.error > enough and self._flat(i, size):
                slope = Slope(0.0, 0.0, line.unit)
            elif slope.error > enough and not (coarse and off > slope.error + doubt):
                slope = line.by_fits(slope, enough)
            off = abs(slope.value - claimed)
            if not off <= slope.error + doubt:
                slope = line.verify(slope, claimed)
            if off <= FLOAT32_ERROR * abs(claimed) and self._agreed(slope, i) is None:
                slope = replace(slope, error=max(slope.error, off))
        return self._entry(i, slope, self._weight(line))

    def _entry(self, i: int, slope: Slope, weight: float) -> Entry:
        """Return entry i with its measured slope."""
        tolerance = float(self.tolerance(slope.value, weight))
        claimed, doubt = float(self.analytic[i]), float(self.doubt[i])
        return Entry(i, claimed, slope, doubt, tolerance=tolerance)

    def _weight(self, line: Line) -> float:
        """Return the sum of abs(c) over the outputs that change along a line."""
        return float(np.sum(np.abs(self.probe.c), where=line.moved))

    def tolerance(self, slope: Array | float, weight: float) -> Array | float:
        """Return the error that the caller accepts: `atol` counts for each output."""
        limits = self.probe.limits
        return limits.atol * weight + limits.rtol * np.abs(slope)

    def _flat(self, i: int, size: float) -> bool:
        """Return whether f does not change with entry i, to the last bit.

        The steps are so large that they would show a change of other entries.
        """
        t = FIRST_STEP * float(min(size, self.scale[i]) or self.scale[i])
        for _ in range(6):
            if self.probe.noise / t > NOISY * np.max(self.size):
                break
            line = Line(self.probe, self.j, self._unit(i), self.scale[i])
            line.sides(t)
            line.sides(t / 4)
            if not np.any(line.moved):
                return True
            t /= 4
        return False

    def _unit(self, i: int) -> Array:
        """Return the direction of entry i alone."""
        d = np.zeros(len(self.size))
        d[i] = 1.0
        return d

    def imaginary(self, i: int) -> float:
        """Return the slope by the complex step along one entry."""
        return self.probe.imaginary(self.j, self._unit(i))

    def sharpen(self, entry: Entry) -> bool:
        """Replace the differences' slope by the complex step's, if the two agree."""
        value = self._agreed(entry.slope, entry.i)
        if value is None:
            return False
        entry.slope = Slope(value, entry.doubt + 8 * EPS * abs(value))
        entry.oracle = COMPLEX
        return True

    def _agreed(self, slope: Slope, i: int) -> float | None:
        """Return the complex step's slope along an entry, if differences agree."""
        if not self.complex or slope.kind:
            return None
        value = self.imaginary(i)
        return value if abs(value - slope.value) <= slope.error else None


def _split(block: Array) -> list[Array]:
    """Return the parts of a block, in reverse order."""
    return np.array_split(block, min(PARTS, len(block)))[::-1]


class Budget:
    """How many evaluations of f the search of one input may take.

    The limit is `calls`. After MAX_SECONDS the search is `hopeless` if some entries
    stay unknown in any case, or if `calls` is not enough for all entries at this rate.
    It then continues for the same time again, and splits only blocks whose slopes
    differ.
    """

    def __init__(self, probe: Probe, entries: int, calls: int, noisy: bool) -> None:
        self.probe = probe
        self.noisy = noisy  # some entries stay unknown
        self.entries = entries
        self.calls = calls
        self.start = probe.calls
        self.done = 0  # entries that are decided, or cannot be decided
        self.hopeless = False
        share = entries / sum(x.size for x in probe.problem.xs)
        self.patience = max(200.0, probe.affordable * share)

    @property
    def used(self) -> int:
        """Evaluations of f since the search began."""
        return self.probe.calls - self.start

    def over(self) -> bool:
        """Return whether the budget for blocks is used up."""
        if self.probe.late():
            return True
        if self.used > self.patience:
            slow = self.used * self.entries > self.calls * self.done
            self.hopeless = self.hopeless or self.noisy or slow
        limit = 2 * self.patience if self.hopeless else self.calls
        return self.used > min(limit, self.calls)

    def spent(self) -> bool:
        """Return whether the budget for close looks is used up."""
        return self.used > min(2 * self.patience, self.calls) or self.probe.late()
