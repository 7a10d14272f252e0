"""The report of a check, and its message in words."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np

from scratchnet.testing.findings import Entry, Finding
from scratchnet.testing.oracles import COMPLEX, RIDDERS
from scratchnet.testing.probe import Probe
from scratchnet.testing.problems import Array, subscript


@dataclass(frozen=True, repr=False)
class GradientReport:
    """The result of a check. `str(report)` is the message, `bool(report)` is `ok`.

    Attributes:
        verdict: "pass"; "wrong"; "kink" (f has no derivative there: the slopes of its
            two sides differ, however small the step); "noisy" (f is not accurate
            enough to decide); "nondeterministic" (two calls differ); "vacuous" (the
            gradient of an input is zero, and so is the slope: nothing was checked).
        ok: whether the verdict is "pass", or one that the caller allowed.
        message: the report in words.
        input: the name of the input that the verdict is about.
        index: the worst entry of this input.
        analytic: the gradient under test at that entry.
        numeric: the slope that the oracle measured there.
        error: a bound on the error of `numeric`.
        oracle: "complex step" or "Ridders".
        entries: how many entries were checked (if not "pass": of that input).
        differ: how many of them have this verdict (for a large input, at least).
        pattern: what the wrong entries have in common, if anything, in words.
        mistake: the name of the kind of mistake, if it is known. Correcting it as
            `pattern` says then gives the right gradient.
        output: an output of f whose derivative is wrong there, in words.
        rule: the function of the graph whose own rule is wrong, and its argument.
        blind: for a pass, the largest relative error of one entry that may be missed
            (for entries of at least 1e-6 of the largest).
        tolerated: how many entries differ, but within the caller's `atol` and `rtol`.
        unchecked: how many entries were not checked before `seconds` were over.
        cotangent: c, if `analytic` and `numeric` belong to sum(c * f).
        exception: the error that the gradient raised.
        calls: how often f was evaluated.

    """

    verdict: str
    ok: bool
    message: str
    input: str | None = None
    index: tuple[int, ...] | None = None
    analytic: float | None = None
    numeric: float | None = None
    error: float | None = None
    oracle: str | None = None
    entries: int = 0
    differ: int = 0
    pattern: str | None = None
    mistake: str | None = None
    output: str | None = None
    rule: str | None = None
    blind: float | None = None
    tolerated: int = 0
    unchecked: int = 0
    cotangent: Array | None = field(default=None, repr=False, compare=False)
    exception: Exception | None = field(default=None, repr=False, compare=False)
    calls: int = 0

    def __str__(self) -> str:
        """Return the message."""
        return self.message

    def __repr__(self) -> str:
        """Return the message, which pytest shows of `assert gradcheck(...)`."""
        return self.message

    def __bool__(self) -> bool:
        """Return `ok`."""
        return self.ok

    def raise_if_wrong(self) -> None:
        """Raise GradientError if the gradient was not accepted."""
        __tracebackhide__ = True
        if not self:
            raise GradientError(self.message, self) from self.exception


class GradientError(AssertionError):
    """A gradient was not accepted. `.report` is the whole report."""

    __module__ = "scratchnet.testing"  # where users import it; pytest prints this

    def __init__(self, message: str, report: GradientReport) -> None:
        """Store the report with the message."""
        super().__init__(message)
        self.report = report


def report_of(
    probe: Probe,
    findings: list[Finding],
    rule: str | None,
    output: str,
    allow: Collection[str],
) -> GradientReport:
    """Return the report of the first finding, the most serious one."""
    f, entry = findings[0], findings[0].worst
    report = GradientReport(
        f.verdict,
        f.verdict == "pass" or f.verdict in allow,
        "",
        input=f.name or None,
        entries=math.prod(f.shape),
        differ=f.differ,
        pattern=f.pattern or None,
        mistake=f.mistake or None,
        output=output or None,
        rule=rule,
        tolerated=sum(g.tolerated for g in findings),
        unchecked=sum(g.unchecked for g in findings),
        cotangent=None if probe.number else probe.c,
        exception=f.exception,
        calls=probe.calls,
    )
    if f.verdict == "pass":
        return _passed(report, probe, findings)
    head, lines = f.detail, []
    if entry is not None:
        report = _with_entry(report, f, entry, probe)
        head = f"d {probe.label}/d {f.name}{subscript(report.index or ())}"
        lines += _lines(f, entry, probe)
    lines += [output] if output else []
    lines += [f"rule: {rule}"] if rule else []
    lines += [f"also wrong: {g.name} ({g.detail})" for g in findings[1:]
              if g.verdict == "wrong"]  # fmt: skip
    lines += [f"not checked in time: {g.unchecked} entries of {g.name}"
              for g in findings[1:] if g.unchecked]  # fmt: skip
    lines += _notes(report, probe)
    head = f"gradcheck: {f.verdict.upper()}  {head}"
    return replace(report, message="\n  ".join([head, *lines]))


def _with_entry(
    report: GradientReport, f: Finding, worst: Entry, probe: Probe
) -> GradientReport:
    """Return the report with the numbers of the worst entry."""
    return replace(
        report,
        index=tuple(int(i) for i in np.unravel_index(worst.i, f.shape)),
        analytic=worst.analytic / probe.unit,
        numeric=worst.slope.value / probe.unit,
        error=worst.slope.error / abs(probe.unit),
        oracle=worst.oracle,
    )


def _lines(f: Finding, worst: Entry, probe: Probe) -> list[str]:
    """Return the lines about the worst entry."""
    s, unit = worst.slope, probe.unit
    analytic, numeric = _digits(worst.analytic / unit, s.value / unit)
    if f.verdict == "kink" or s.kind == "kink":
        sides = f"{s.left / unit:.7g} below, {s.right / unit:.7g} above"
        measured = f"one-sided  {sides}"
    else:
        error = f"{worst.oracle}, error < {s.error / abs(unit):.0e}"
        measured = f"numeric    {numeric}  ({error})"
    return [f"analytic   {analytic}", measured, _explained(f, worst, probe)]


def _passed(
    report: GradientReport, probe: Probe, findings: list[Finding]
) -> GradientReport:
    """Return the report of a pass: the smallest error that would have shown."""
    entries = sum(math.prod(f.shape) for f in findings)
    oracle = RIDDERS if any(f.oracle == RIDDERS for f in findings) else COMPLEX
    blind = max(f.blind for f in findings)
    names = ", ".join(f.name for f in findings)
    message = (
        f"gradcheck: pass  d {probe.label}/d ({names}): "
        f"no entry of {entries} is off by more than {blind:.0e} ({oracle})"
    )
    if together := max(f.together for f in findings):
        message += f", all together by {together:.0e}"
    message = "\n  ".join([message, *_notes(report, probe)])
    return replace(
        report, message=message, input=None, oracle=oracle, entries=entries, blind=blind
    )


def _notes(report: GradientReport, probe: Probe) -> list[str]:
    """Return the lines at the end: what to know about this check."""
    notes = list(probe.problem.notes)
    if report.verdict == "vacuous":
        notes.append('if that is right, pass allow=["vacuous"]')
    if report.verdict == "unfinished":
        notes.append(f"the time was over after {probe.calls} evaluations of f")
    if report.tolerated:
        atol, rtol, _ = probe.limits
        notes.append(
            f"{report.tolerated} entries differ, within atol={atol:g} and rtol={rtol:g}"
        )
    return notes


def _digits(a: float, b: float) -> tuple[str, str]:
    """Write two numbers with as many digits as show their difference."""
    digits = 7
    if math.isfinite(a) and math.isfinite(b) and a != b:
        apart = abs(a - b) / max(abs(a), abs(b))
        digits = min(16, max(7, 3 - math.floor(math.log10(apart))))
    return f"{a:.{digits}g}", f"{b:.{digits}g}"


def _explained(f: Finding, worst: Entry, probe: Probe) -> str:
    """Return, in words, how many entries have the verdict, and what to do."""
    entries = math.prod(f.shape)
    if f.verdict == "wrong":
        kink = "f has a kink here, but no such slope" if worst.slope.kind else ""
        facts = [f"worst of {entries} entries", f.detail, f.pattern, kink]
        return "; ".join(fact for fact in facts if fact)
    if f.verdict == "kink":
        why = {
            "kink": "f has no derivative here: its two sides differ",
            "jump": "f has no derivative here: it jumps, or gets ever steeper",
            "edge": "f is defined on one side of this point only",
        }[worst.slope.kind]
        return f"{why} ({f.differ} of {entries} entries); move the point"
    text = f"{f.differ} of {entries} entries cannot be judged"
    if worst.slope.kind == "stairs":
        return f"{text}: f moves in steps here (float32 or rounding inside f?)"
    if probe.raised and math.isnan(worst.slope.value):
        return f"{text}; nearby, f raised {probe.raised}"
    return f"{text}: f is accurate to {probe.noise:.0e} only"
