"""One check from beginning to end.

First it looks for problems that make a search pointless: values of f that are not
finite, two calls that differ, a gradient that raises or has a wrong shape. Then it
searches each input, judges kinks together, and explains a wrong gradient: the kind of
mistake, and the function whose own rule is wrong.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence

import numpy as np

from scratchnet.testing.findings import VERDICTS, Finding
from scratchnet.testing.kinks import judge_kinks
from scratchnet.testing.mistakes import Evidence, explain
from scratchnet.testing.oracles import Oracle
from scratchnet.testing.outputs import forward_mode, wrong_output
from scratchnet.testing.probe import EPS, Limits, Probe, TimeUpError
from scratchnet.testing.problems import (
    Array,
    MaskedError,
    Problem,
    SecondOrder,
    TensorFunction,
    flatten,
    subscript,
)
from scratchnet.testing.report import GradientReport, report_of
from scratchnet.testing.search import examine, unfinished

Rng = int | np.random.Generator


def check(
    problem: Problem,
    rng: Rng,
    oracle: Oracle = "auto",
    allow: Collection[str] = (),
    find_rule: bool = True,
    limits: Limits | None = None,
    forward: bool = False,
) -> GradientReport:
    """Check the gradients of all inputs of a problem; return the report.

    With `find_rule`, also find the kind of mistake, the wrong output and the wrong
    rule. With `forward`, compare forward mode with a gradient that passes.
    """
    probe = Probe(problem, np.random.default_rng(rng), limits)
    rule, output = None, ""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        findings = _findings(probe, oracle, find_rule, forward)
        findings.sort(key=lambda f: VERDICTS.index(f.verdict))
        first = findings[0]
        if first.verdict == "wrong" and first.worst and find_rule and not probe.late():
            output = wrong_output(probe, problem.names.index(first.name), first.worst)
            rule = _wrong_rule(problem)
    return report_of(probe, findings, rule, output, allow)


def _wrong_rule(problem: Problem) -> str | None:
    """Name the function in the graph whose own rule is wrong; None without a graph.

    Each recorded call is checked alone, at its recorded inputs.
    """
    first = problem.first if isinstance(problem, SecondOrder) else problem
    if not isinstance(first, TensorFunction):
        return None
    for call in first.recorded_calls():
        alone = call.problem if problem is first else SecondOrder(call.problem)
        report = check(alone, 0, find_rule=False)
        if report.verdict == "wrong":
            place = call.arguments.get(report.input or "")
            at = "" if place is None else f", argument {place}"
            return f"{call.function}{at}"
    return "each function is right alone; is a link cut (.data, detach)?"


def _findings(
    probe: Probe, oracle: Oracle, find_mistake: bool, forward: bool
) -> list[Finding]:
    """Return a finding for each input, or one that makes the search pointless."""
    problem = probe.problem
    if not np.all(np.isfinite(probe.base)):
        at = tuple(np.argwhere(~np.isfinite(probe.base))[0])
        return [Finding("noisy", detail=f"f{subscript(at)} itself is {probe.base[at]}")]
    again = problem.value(problem.xs)
    if _differ(again, probe.base):
        text = f"f gave {_different(probe.base, again)}, for the same inputs"
        why = problem.randomness() or "does it draw random numbers (dropout)?"
        return [Finding("nondeterministic", detail=f"{text}; {why}")]
    try:
        given = problem.gradient(problem.xs, probe.c)
        repeated = problem.gradient(problem.xs, probe.c)
    except MaskedError:
        raise
    except Exception as error:
        text = f"the gradient raised {type(error).__name__}: {error}"
        return [Finding("wrong", detail=text, exception=error)]
    if unfit := _unfit(probe, given, oracle):
        return unfit
    for name, g, h in zip(problem.names, given, repeated, strict=True):
        if _differ(h, g):
            text = f"the gradient of {name} changes from call to call"
            if g is not None and h is not None and not _differ(h, 2 * g):
                text += ": the second is twice the first. Does the code accumulate it? "
                text += "Set it to 0 before each call"
            return [Finding("nondeterministic", name, detail=text)]
    try:
        probe.measure_rounding(given)
    except TimeUpError:
        return [_unchecked(probe, j) for j in range(len(given))]
    probe.measure_time()
    found = [
        _unchecked(probe, j) if probe.late() else examine(probe, j, g, oracle)
        for j, g in enumerate(given)
    ]
    if not probe.late():
        judge_kinks(probe, found)
    for j, f in enumerate(found):
        if f.located and find_mistake and not probe.late():
            g = given[j]
            claimed = np.zeros(f.shape) if g is None else g
            explain(f, Evidence(probe, j, claimed, given, f.located, f.partial, oracle))
    if all(f.verdict == "pass" for f in found):
        found += _in_own_precision(probe, given)
        found += forward_mode(probe, given) if forward else []
    return found


def _unchecked(probe: Probe, j: int) -> Finding:
    """Return the finding of an input that was not looked at before the deadline."""
    name, x = probe.problem.names[j], probe.problem.xs[j]
    return unfinished(Finding("pass", name, x.shape, unchecked=x.size))


def _unfit(
    probe: Probe, given: Sequence[Array | None], oracle: Oracle
) -> list[Finding]:
    """Return a finding for each gradient with a wrong shape or dtype."""
    problem = probe.problem
    findings = []
    for j, (x, g) in enumerate(zip(problem.xs, given, strict=True)):
        if g is None or (g.shape == x.shape and g.dtype.kind in "biuf"):
            continue
        name = problem.names[j]
        what = f"dtype {g.dtype}" if g.shape == x.shape else f"shape {g.shape}"
        text = f"the gradient of {name} has {what}; {name} has shape {x.shape}"
        found = Finding("wrong", name, x.shape, text)
        if g.dtype.kind in "biuf" and np.all(np.isfinite(g)):
            probe.measure_rounding(None)
            explain(found, Evidence(probe, j, g, given, {}, False, oracle))
            found.detail = "; ".join(filter(None, [text, found.pattern]))
        findings.append(found)
    return findings


def _differ(a: Array | None, b: Array | None) -> bool:
    """Return whether two results of one call differ by more than rounding of a sum."""
    if a is None or b is None:
        return a is not b
    if a.shape != b.shape:
        return True
    largest = np.max(np.abs(b), initial=0.0, where=np.isfinite(b))
    return not np.allclose(a, b, rtol=0, atol=1e-6 * largest, equal_nan=True)


def _different(a: Array, b: Array) -> str:
    """Write the entries of two results that differ most."""
    if a.shape != b.shape:
        return f"shape {a.shape}, then {b.shape}"
    with np.errstate(invalid="ignore"):
        k = int(np.argmax(np.nan_to_num(np.abs(a - b), nan=np.inf)))
    return f"{a.ravel()[k]:.7g}, then {b.ravel()[k]:.7g}"


def _in_own_precision(probe: Probe, gradients: Sequence[Array | None]) -> list[Finding]:
    """Compare the gradient of float32 inputs, in float32, with that in float64.

    The margin is measured: by how much does the gradient change if the inputs change
    in their last digit?
    """
    problem = probe.problem
    eps = max(float(np.finfo(dtype).eps) for dtype in problem.dtypes)
    if eps <= EPS:
        return []
    low = [x.astype(dtype) for x, dtype in zip(problem.xs, problem.dtypes, strict=True)]
    y = problem.value(low)
    if y.shape != probe.base.shape or not np.allclose(
        y, probe.base, rtol=0, atol=0.1 * float(np.max(np.abs(probe.base), initial=0))
    ):
        problem.notes = [*problem.notes, "f has other values in float32"]
        return []
    found = problem.gradient(low, probe.c.astype(problem.dtypes[0]))
    sway = np.zeros(sum(x.size for x in problem.xs))
    whole = flatten(gradients, problem.xs)
    for _ in range(4):
        *xs, c = (
            x * (1 + eps * probe.rng.choice([-1.0, 1.0], x.shape))
            for x in [*problem.xs, probe.c]
        )
        moved = flatten(problem.gradient(xs, c), xs)
        sway = np.maximum(sway, np.abs(moved - whole))
    ends = np.cumsum([x.size for x in problem.xs])[:-1]
    findings = []
    sways = np.split(sway, ends)
    for name, g, h, s in zip(problem.names, found, gradients, sways, strict=True):
        if g is None or h is None:
            continue
        s = s.reshape(h.shape)
        margin = 100 * (s + eps * (np.abs(h) + np.max(np.abs(h), initial=0.0)))
        off = ~(np.abs(g - h) <= margin)
        if np.any(off):
            at = tuple(np.argwhere(off)[0])
            text = (
                f"d f/d {name}{subscript(at)} is {g[at]:.7g} in {g.dtype} and "
                f"{h[at]:.7g} in float64: right, but lost to rounding"
            )
            findings.append(Finding("noisy", name, h.shape, text))
    return findings
