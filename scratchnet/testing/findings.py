"""The findings of a check: the verdict on one entry, and on one input."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from scratchnet.testing.oracles import RIDDERS, Slope

# The most serious first.
VERDICTS = (
    "nondeterministic", "wrong", "kink", "noisy", "unfinished", "vacuous", "pass",
)  # fmt: skip
ITERATED = 1e-10  # no mistake is smaller, but the error of an iterative f may be


@dataclass
class Entry:
    """An entry that is wrong, at a kink, or too noisy to judge.

    Attributes:
        i: its position in the flattened input.
        analytic: the gradient under test there.
        slope: the slope that an oracle measured there.
        doubt: a bound on the rounding of `analytic`.
        oracle: the oracle.
        tolerance: an error up to this is accepted.

    """

    i: int
    analytic: float
    slope: Slope
    doubt: float
    oracle: str = RIDDERS
    tolerance: float = 0.0

    @property
    def off(self) -> float:
        """How far the gradient is from the slope."""
        return distance(self.analytic, self.slope.value)

    @property
    def verdict(self) -> str:
        """The verdict on this entry: "tolerated", "wrong", "kink" or "noisy"."""
        s = self.slope
        if not s.kind and self.off + s.error <= self.tolerance:
            return "tolerated"
        if s.kind == "kink":
            # At a kink any value between the two slopes is a valid convention.
            margin = s.error + self.doubt + 1e-3 * max(abs(s.left), abs(s.right))
            low, high = sorted((s.left, s.right))
            between = low - margin <= self.analytic <= high + margin
            return "kink" if between else "wrong"
        if s.kind == "stairs":
            return "noisy"
        if s.kind:
            return "kink"
        doubt = self.doubt + ITERATED * abs(s.value)
        if not math.isfinite(s.value) or self.off <= s.error + doubt:
            return "noisy"
        return "wrong"


def distance(analytic: float, numeric: float) -> float:
    """Return the distance of two values; infinite if one of them is not finite."""
    off = abs(analytic - numeric)
    return off if math.isfinite(off) else math.inf


@dataclass
class Finding:
    """The result for one input, or for all inputs if `name` is empty.

    Attributes:
        verdict: one of `VERDICTS`.
        name: the input's name.
        shape: its shape.
        detail: the reason in words, if no entry shows it.
        worst: the entry with the largest error.
        differ: how many entries have this verdict.
        pattern: what the wrong entries have in common, in words.
        mistake: the name of the kind of mistake.
        oracle: the oracle that the entries were compared with.
        blind: for a pass, the largest relative error of one entry that may be missed.
        together: the same of all entries together, if f is called in a low precision.
        tolerated: how many entries differ within the caller's tolerance.
        unchecked: how many entries were not checked before the deadline.
        exception: the error that the gradient raised.
        located: the wrong entries that are not at a kink, with their slopes.
        partial: whether more entries may be wrong than those in `located`.
        kinks: the entries at kinks.

    """

    verdict: str
    name: str = ""
    shape: tuple[int, ...] = ()
    detail: str = ""
    worst: Entry | None = None
    differ: int = 0
    pattern: str = ""
    mistake: str = ""
    oracle: str = RIDDERS
    blind: float = 0.0
    together: float = 0.0
    tolerated: int = 0
    unchecked: int = 0
    exception: Exception | None = None
    located: dict[int, Slope] = field(default_factory=dict)
    partial: bool = False
    kinks: list[Entry] = field(default_factory=list)
