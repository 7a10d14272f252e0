"""The kind of mistake in a wrong gradient: a sign, a factor, a transpose, ...

Each rule undoes one typical mistake. It gives a hint only if the corrected gradient
passes the check. `MISTAKES` is the list of all rules.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scratchnet.testing.findings import Finding
from scratchnet.testing.oracles import Oracle, Slope
from scratchnet.testing.probe import Probe
from scratchnet.testing.problems import Array
from scratchnet.testing.search import examine


class Mistake(NamedTuple):
    """A kind of mistake: its name, for programs, and its description."""

    name: str
    words: str


@dataclass
class Evidence:
    """The facts about one wrong gradient, for the rules that name its mistake.

    Attributes:
        probe: f, the cotangent, and the measurements.
        j: the number of the input.
        claimed: the gradient, in the shape that was returned.
        given: the gradients of all inputs, as returned.
        located: the wrong entries that were found, with their slopes.
        partial: whether there may be more wrong entries.
        oracle: the caller's choice.
        seen: how many entries are right in the last candidate that was right.

    """

    probe: Probe
    j: int
    claimed: Array
    given: Sequence[Array | None]
    located: dict[int, Slope]
    partial: bool
    oracle: Oracle
    seen: int = 0

    @property
    def x(self) -> Array:
        """The input."""
        return self.probe.problem.xs[self.j]

    @property
    def name(self) -> str:
        """The name of the input."""
        return self.probe.problem.names[self.j]

    @property
    def fits(self) -> bool:
        """Whether the gradient has the shape of its input."""
        return bool(self.claimed.shape == self.x.shape)

    def is_right(self, candidate: Array) -> bool:
        """Return whether `candidate` is right, as far as can be measured.

        The located entries are compared first, then the whole gradient is checked.
        """
        if candidate.shape != self.x.shape or not np.all(np.isfinite(candidate)):
            return False
        if self.fits and np.array_equal(candidate, self.claimed):
            return False
        flat = candidate.ravel()
        doubt = self.probe.rounding[self.j]
        for i, s in self.located.items():
            margin = s.error + 2 * doubt[i] + 1e-9 * abs(s.value)
            if not abs(flat[i] - s.value) <= margin:
                return False
        found = examine(self.probe, self.j, candidate, self.oracle, describe=False)
        self.seen = self.x.size if found.verdict == "pass" else len(self.located)
        return bool(self.seen) and found.verdict != "wrong"

    def jacobian(self) -> Array | None:
        """Measure c * df/dx, of shape x.shape + f.shape; None if it is large."""
        x, probe = self.x, self.probe
        if not 0 < x.size <= 256 or x.size * probe.base.size > 1_000_000:
            return None
        found = np.zeros((x.size, *probe.base.shape))
        for i in range(x.size):
            step = np.zeros(x.size)
            step[i] = 1e-5 * probe.scale[self.j][i]
            up, down = probe.value(self.j, step), probe.value(self.j, -step)
            if up is None or down is None:
                return None
            found[i] = probe.c * (up - down) / (2 * step[i])
        return found.reshape(x.shape + probe.base.shape)


def explain(found: Finding, evidence: Evidence) -> None:
    """Add to `found` what the wrong entries share, and the kind of mistake."""
    mistake, n = _mistake(evidence), evidence.x.size
    said = [_pattern(evidence)]
    if mistake and n > 1:
        seen = f"all {n}" if evidence.seen == n else f"{evidence.seen} of {n}"
        said.append(f"{mistake.words} (seen in {seen} entries)")
    elif mistake:
        said.append(mistake.words)
    found.pattern = "; ".join(filter(None, said))
    found.mistake = mistake.name if mistake else ""


def _pattern(e: Evidence) -> str:
    """Return, in words, what the wrong entries share, and how many were compared."""
    if len(e.located) < 2:
        return ""
    where = np.array(list(e.located))
    some = f" of the {len(where)} that were located" if e.partial else ""
    said = []
    if len(where) == e.x.size:
        said.append("all of them")
    elif e.x.ndim > 1:
        for axis, places in enumerate(np.unravel_index(where, e.x.shape)):
            if np.all(places == places[0]):
                word = ("row", "column")[axis] if e.x.ndim == 2 else f"axis {axis} at"
                said.append(f"they share {word} {places[0]}{some}")
    if not np.any(e.claimed.ravel()[where]):
        said.append(f"each{some} is 0")
    elif (ratio := _ratio(e)) is not None and f"{ratio:.7g}" != "1":
        said.append(f"analytic / numeric = {ratio:.7g} in each{some}")
    return "; ".join(said)


def _ratio(e: Evidence) -> float | None:
    """Return claimed / numeric if it is the same in all located entries."""
    at = np.array(list(e.located), dtype=int)
    numeric = np.array([s.value for s in e.located.values()])
    errors = np.array([s.error for s in e.located.values()])
    claimed = e.claimed.ravel()[at] if e.fits else np.zeros(0)
    if not claimed.size or not np.all(claimed) or not np.all(np.isfinite(claimed)):
        return None
    if not np.all(np.abs(numeric) > 2 * errors):
        return None
    ratios, margins = claimed / numeric, np.abs(errors / numeric) + 1e-7
    ratio = float(ratios[np.argmin(margins)])
    if np.any(np.abs(ratios - ratio) > abs(ratio) * (margins + np.min(margins))):
        return None
    # Return n or 1/n if the ratio is that, within the error of measurement.
    for plain_one in (round(ratio), 1 / round(1 / ratio) if abs(ratio) < 1 else 0.0):
        if plain_one and abs(plain_one - ratio) <= abs(ratio) * np.min(margins):
            return float(plain_one)
    return ratio


# --- Wrong values -------------------------------------------------------------------


def _all_zero(e: Evidence) -> Mistake | None:
    """Nothing was computed, or the result was multiplied by zero."""
    if np.any(e.claimed):
        return None
    e.seen = e.x.size
    return Mistake("zero", "it is 0 everywhere")


def _swapped_inputs(e: Evidence) -> Mistake | None:
    """The order of the gradients differs from the order of the inputs."""
    for i, g in enumerate(e.given):
        if i != e.j and g is not None and e.is_right(g):
            other = e.probe.problem.names[i]
            words = f"the right gradient was returned as the gradient of {other}"
            return Mistake("swapped", words)
    return None


def _factor(e: Evidence) -> Mistake | None:
    """One factor in all entries: a sign, or the n of a mean."""
    ratio = _ratio(e) if len(e.located) > 1 or e.x.size == 1 else None
    if ratio is None or ratio == 1.0 or not e.is_right(e.claimed / ratio):
        return None
    if ratio == -1.0:
        return Mistake("sign", "its sign is wrong")
    for n, what in _lengths(e):
        if n > 2 and math.isclose(ratio, n, rel_tol=1e-6):
            words = f"{n} is {what}: the division by {n} (a mean) is missing"
            return Mistake("mean", words)
        if n > 2 and math.isclose(ratio, 1 / n, rel_tol=1e-6):
            words = f"{n} is {what}: do not divide by {n} (f is a sum, not a mean)"
            return Mistake("sum", words)
    n = round(1 / ratio) if abs(ratio) < 1 else round(ratio)
    if n > 2 and ratio == n:
        words = f"it is {n} times the right gradient: is the division by {n} missing?"
        return Mistake("factor", words)
    if n > 2 and ratio == 1 / n:
        words = (
            f"it is 1/{n} of the right gradient: is it divided by {n} without reason?"
        )
        return Mistake("factor", words)
    return Mistake("factor", f"it is {ratio:.7g} times the right gradient")


def _lengths(e: Evidence) -> Iterator[tuple[int, str]]:
    """Yield the lengths of all axes, and the sizes, of f and its inputs, with words."""
    problem = e.probe.problem
    named = list(zip(problem.names, [x.shape for x in problem.xs], strict=True))
    named.sort(key=lambda one: one[0] != e.name)
    named.append(("f", e.probe.base.shape))
    for name, shape in named:
        yield from (
            (n, f"the length of {name}'s axis {i}") for i, n in enumerate(shape)
        )
    for name, shape in named:
        yield math.prod(shape), f"the number of {name}'s entries"


def _lost_factor(e: Evidence) -> Mistake | None:
    """One factor too few or too many, not constant.

    It may be a factor of the chain rule, the cotangent or the input.
    """
    if not e.fits:
        return None
    x, f, c = e.x, e.probe.base, e.probe.c
    factors = {e.name: x}
    if f.shape == x.shape:
        factors |= {"1 - f": 1 - f, "1 - f * f": 1 - f * f, "f": f}
        factors |= {"the cotangent": c, "the cotangent's square": c * c}
    for name, factor in factors.items():
        if e.is_right(e.claimed * factor):
            return Mistake("factor missing", f"the factor {name} is missing")
        if e.is_right(e.claimed / factor):
            words = f"the factor {name} is one too many"
            return Mistake("factor too many", words)
    return None


# --- Axes in the wrong order --------------------------------------------------------


def _transposed(e: Evidence) -> Mistake | None:
    if e.claimed.ndim == 2 and e.is_right(e.claimed.T):
        return Mistake("transpose", "the gradient is the transpose of the right one")
    return None


def _permuted(e: Evidence) -> Mistake | None:
    if not 3 <= e.claimed.ndim <= 4:
        return None
    for order in itertools.permutations(range(e.claimed.ndim)):
        if e.is_right(e.claimed.transpose(order)):
            words = f"its axes are in a wrong order: .transpose{order} corrects it"
            return Mistake("permuted", words)
    return None


def _reshaped(e: Evidence) -> Mistake | None:
    if not e.fits and e.claimed.size == e.x.size:
        if e.is_right(e.claimed.reshape(e.x.shape)):
            return Mistake("shape", f"its values are right: reshape it to {e.x.shape}")
    return None


def _reversed(e: Evidence) -> Mistake | None:
    for axis in range(e.claimed.ndim if e.fits else 0):
        if e.is_right(np.flip(e.claimed, axis)):
            words = f"it is in reverse order along axis {axis}"
            return Mistake("reversed", words)
    return None


def _shifted(e: Evidence) -> Mistake | None:
    for axis, n in enumerate(e.x.shape if e.fits else ()):
        for k in (1, -1):
            if n > 2 and e.is_right(np.roll(e.claimed, -k, axis)):
                words = f"its entries are shifted by {k:+d} along axis {axis}"
                return Mistake("shifted", words)
    return None


# --- Broadcasting and sums ----------------------------------------------------------


def _unsummed(e: Evidence) -> Mistake | None:
    """The input was broadcast, and the sum over the broadcast axes is missing."""
    if e.claimed.size == e.x.size:
        return None
    padded = (1,) * (e.claimed.ndim - e.x.ndim) + e.x.shape
    if len(padded) == e.claimed.ndim:
        axes = [i for i, n in enumerate(padded) if n != e.claimed.shape[i]]
        if axes and all(padded[i] == 1 for i in axes):
            total = e.claimed.sum(axis=tuple(axes)).reshape(e.x.shape)
            if e.is_right(total):
                words = f"{e.name} was broadcast: its sum over {_axes(axes)} is right"
                return Mistake("unsummed", words)
    for over in _sums(e.claimed.shape, e.x.shape):
        if e.is_right(e.claimed.sum(axis=over)):
            return Mistake("unsummed", f"its sum over {_axes(over)} is right")
    return None


def _spread_wrongly(e: Evidence) -> Mistake | None:
    """f reduces one axis, and the cotangent is broadcast along another."""
    c, shape = e.probe.c, e.x.shape
    if not e.fits or len(shape) < 2 or c.ndim not in (len(shape), len(shape) - 1):
        return None
    kept = c.ndim == len(shape)
    spread = {}
    for axis in range(len(shape)):
        one = c if kept else np.expand_dims(c, axis)
        if one.shape[axis] != 1 or one.size == 1:
            continue
        with contextlib.suppress(ValueError):
            spread[axis] = np.broadcast_to(one, shape)
    for right, wrong in itertools.permutations(spread, 2):
        if e.is_right(e.claimed * spread[right] / spread[wrong]):
            words = (
                f"the cotangent is spread along axis {wrong}, not along axis {right}"
            )
            return Mistake("axis", words)
    return None


def _summed_wrongly(e: Evidence) -> Mistake | None:
    """The input was broadcast, and its gradient is summed over the wrong axes."""
    for name, g in _before_sums(e):
        for wrong in _sums(g.shape, e.claimed.shape):
            if not _alike(e.claimed, g.sum(axis=wrong)):
                continue
            for right in _sums(g.shape, e.x.shape):
                if right != wrong and e.is_right(g.sum(axis=right)):
                    words = f"{name} was summed over {_axes(wrong)}, not {_axes(right)}"
                    return Mistake("axis", words)
    return None


def _row_alone(e: Evidence) -> Mistake | None:
    """The input was broadcast, and one row was returned, not the sum of all rows."""
    for name, g in _before_sums(e):
        for axis in range(g.ndim):
            rows = np.moveaxis(g, axis, 0)
            same = [k for k, row in enumerate(rows) if _alike(e.claimed, row)]
            if len(rows) > 1 and same and e.is_right(rows.sum(axis=0)):
                words = f"it is entry {same[0]} of axis {axis} of {name}, not the sum"
                return Mistake("row", words)
    return None


def _before_sums(e: Evidence) -> Iterator[tuple[str, Array]]:
    """Yield arrays whose sum may be the gradient of a broadcast input, with names.

    These are the gradients of other inputs, and the contribution of each output.
    """
    for name, g in _others(e):
        yield f"the gradient of {name}", g
    if e.probe.base.ndim > e.x.ndim and (jacobian := e.jacobian()) is not None:
        # Each output depends on one entry only; otherwise the sums are not right.
        yield "g * df", jacobian.reshape(e.x.size, *e.probe.base.shape).sum(axis=0)


def _others(e: Evidence) -> Iterator[tuple[str, Array]]:
    """Yield the gradients of inputs with more axes than this one, with names."""
    for i, (name, g) in enumerate(zip(e.probe.problem.names, e.given, strict=True)):
        if i != e.j and g is not None and g.ndim > e.x.ndim:
            yield name, g


def _sums(shape: tuple[int, ...], to: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return each choice of axes whose sum brings an array to the shape `to`."""
    return [
        axes
        for k in range(1, len(shape) + 1)
        for axes in itertools.combinations(range(len(shape)), k)
        if tuple(n for i, n in enumerate(shape) if i not in axes) == to
    ]


def _axes(axes: Sequence[int]) -> str:
    """Write one axis, or several."""
    return f"axis {axes[0]}" if len(axes) == 1 else f"the axes {tuple(axes)}"


# --- The Jacobian -------------------------------------------------------------------


def _diagonal(e: Evidence) -> Mistake | None:
    """Only the diagonal of the Jacobian was used: the classic mistake with softmax."""
    if not e.fits or e.probe.base.shape != e.x.shape:
        return None
    jacobian = e.jacobian()
    if jacobian is None:
        return None
    n = e.x.size
    square = jacobian.reshape(n, n)
    if not _alike(e.claimed.ravel(), np.diag(square)):
        return None
    if _alike(np.diag(square), square.sum(axis=1)):  # there is nothing off the diagonal
        return None
    if not _alike_to(square.sum(axis=1), e.located, 1e-5):
        return None
    e.seen = n
    words = "it is the diagonal of df/dx alone: the terms off the diagonal are missing"
    return Mistake("diagonal", words)


def _alike_to(whole: Array, located: dict[int, Slope], rtol: float) -> bool:
    """Return whether a gradient has the slopes of the located entries."""
    largest = np.max(np.abs(whole), initial=0.0)
    return all(
        abs(whole[i] - s.value) <= rtol * largest + s.error for i, s in located.items()
    )


def _alike(a: Array, b: Array) -> bool:
    """Return whether two arrays agree within the error of differences."""
    if a.shape != b.shape:
        return False
    return bool(np.max(np.abs(a - b), initial=0) <= 1e-6 * np.max(np.abs(b), initial=0))


# --- All of them --------------------------------------------------------------------


# The first rule that makes the gradient right gives the hint.
MISTAKES: list[Callable[[Evidence], Mistake | None]] = [
    _all_zero,
    _swapped_inputs,
    _factor,
    _spread_wrongly,
    _summed_wrongly,
    _row_alone,
    _transposed,
    _permuted,
    _unsummed,
    _reshaped,
    _diagonal,
    _reversed,
    _shifted,
    _lost_factor,
]


def _mistake(e: Evidence) -> Mistake | None:
    """Return the kind of mistake in a wrong gradient; None if it is not known."""
    return next((m for rule in MISTAKES if (m := rule(e)) is not None), None)
