"""Gradient checkers on one catalogue of right and wrong gradients.

This is a measurement, not a claim of the lecture. Each installed checker judges each
pair (function, gradient) of _gradients.py and _awkward.py, at its defaults: ours,
central differences with one step, torch.autograd.gradcheck in its slow and its fast
mode, jax.test_util.check_grads (order 1, reverse mode) and scipy.optimize.check_grad.

How verdicts count, for all checkers alike:

- A wrong gradient is missed if it is accepted. An exception is a rejection.
- A right gradient that is rejected is a false alarm. At a kink each subgradient is
  right.
- scratchnet is told what is known of the inputs: allow=("kink",) at a kink,
  allow=("vacuous",) where the right gradient is exactly zero, for right and wrong
  gradients alike. Elsewhere kink, noisy and vacuous count as rejections. The others
  have no such option.
- scipy.optimize.check_grad returns an error and no verdict: at most 1e-6 times the norm
  of the gradient (1e-6 if that is zero) is accepted. It judges functions that return a
  number; the other checkers judge all pairs.
- An entry is named correctly if it differs from the right gradient. Of arguments that
  are tied at a kink, either may be named.

`--out demos` writes the table into demos/gradcheck.md.
"""

import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from demos import _checkers, _scale, speed
from demos._awkward import RIGHT
from demos._checkers import Checker, Verdict
from demos._demo import Demo, main
from demos._gradients import WRONG, Pair

OURS, BASELINE = "scratchnet", "central differences"
BEGIN, END = "<!-- made by python -m demos.gradcheck -->", "<!-- end -->"


class Result(NamedTuple):
    """The verdicts of one checker.

    Attributes:
        missed: the names of wrong gradients that it accepted.
        alarms: the names of right gradients that it rejected at ordinary points, and
            at difficult points.
        judged: how many wrong ones it could judge, and how many right ones at both.
        named: of how many wrong ones it named a wrong entry; None if it names none.
        seconds: of processor time for all of them.

    """

    missed: list[str]
    alarms: tuple[list[str], list[str]]
    judged: tuple[int, int, int]
    named: int | None
    seconds: float


def right_ones() -> tuple[list[Pair], list[Pair]]:
    """Return the pairs with right gradients, at ordinary and at difficult points.

    The right twins of the wrong ones are ordinary, except at kinks and in float32.
    """
    twins: tuple[list[Pair], list[Pair]] = [], []
    for pair in WRONG:
        difficult = bool(pair.allow) or "float32" in pair.name
        twins[difficult].append(pair._replace(name=f"right: {pair.name}"))
    return twins[0], twins[1] + RIGHT


def wrong_ones() -> list[Pair]:
    """Return the pairs with wrong gradients."""
    return [pair._replace(vjp=pair.wrong) for pair in WRONG if pair.wrong]


def judge(check: Checker) -> Result:
    """Let a checker judge all pairs."""
    check(WRONG[0])  # what it compiles once is not timed
    began = time.process_time()
    verdicts = [
        [(pair.name, check(pair)) for pair in group]
        for group in (wrong_ones(), *right_ones())
    ]
    seconds = time.process_time() - began
    wrong, *right = [[(n, v) for n, v in group if v] for group in verdicts]
    named = [
        names_a_wrong_entry(pair, verdict)
        for pair, (_, verdict) in zip(WRONG, verdicts[0], strict=True)
        if verdict and not verdict.accepted
    ]
    ordinary, difficult = ([n for n, v in group if not v.accepted] for group in right)
    return Result(
        [n for n, v in wrong if v.accepted],
        (ordinary, difficult),
        (len(wrong), len(right[0]), len(right[1])),
        sum(named) if any(v.input is not None for _, v in wrong) else None,
        seconds,
    )


def names_a_wrong_entry(pair: Pair, verdict: Verdict) -> bool:
    """Return whether the entry that a verdict names is wrong."""
    if verdict.input is None or pair.wrong is None:
        return False
    g = np.random.default_rng(1).standard_normal(np.shape(pair.f(*pair.inputs)))
    off = [
        differences(right, np.zeros_like(right) if found is None else found)
        for right, found in zip(
            pair.vjp(g, *pair.inputs), pair.wrong(g, *pair.inputs), strict=True
        )
    ]
    if "kink" in pair.allow:  # two inputs that are tied are wrong together
        off = [np.any(off, axis=0)] * len(off)
    named = off[verdict.input]
    return bool(np.any(named) if verdict.index is None else named[verdict.index])


def differences(right: Any, found: Any) -> NDArray[np.bool_]:
    """Return which entries of a gradient differ; all, if its shape does."""
    if np.shape(found) != np.shape(right):
        return np.ones(np.shape(right), bool)
    return np.asarray(np.abs(found - right) > 1e-9 * np.max(np.abs(right)))


def table(results: dict[str, Result]) -> str:
    """Return a row for each checker."""
    head = [
        "checker", "wrong: missed", "names the entry", "right, ordinary: rejected",
        "right, difficult: rejected", "CPU s",
    ]  # fmt: skip
    rows = [
        [
            name,
            f"{len(r.missed)} of {r.judged[0]}",
            "no" if r.named is None else f"{r.named} of {r.judged[0] - len(r.missed)}",
            f"{len(r.alarms[0])} of {r.judged[1]}",
            f"{len(r.alarms[1])} of {r.judged[2]}",
            f"{r.seconds:.1f}",
        ]
        for name, r in results.items()
    ]
    return speed.table(head, rows)


def lists(results: dict[str, Result]) -> str:
    """Return, in words, which pairs each checker got wrong."""
    lines = []
    for name, result in results.items():
        lines.append(f"- **{name}**")
        alarms = result.alarms[0] + result.alarms[1]
        for what, names in (("missed", result.missed), ("rejected", alarms)):
            lines.append(f"  - {what}: {'; '.join(names) or 'none'}")
    return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """Write the text between the page's marks; make the page if there is none."""
    page = path.read_text(encoding="utf-8") if path.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def run(demo: Demo) -> None:
    """Let each checker judge all pairs, and report."""
    checkers, missing = _checkers.installed()
    for library, reason in missing.items():
        demo.say(f"  without {library}: {reason}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the steps of some leave a function's domain
        results = {name: judge(check) for name, check in checkers.items()}
    rows = _scale.rows(_scale.SIZES[: demo.choose(3, 2)])
    size = speed.table(_scale.HEAD, [_scale.cells(row) for row in rows])
    found = (
        f"{table(results)}\n\nWith {_checkers.versions()}.\n\n{lists(results)}\n\n"
        "Checks of many entries by scratchnet. The wrong entry has "
        f"{_scale.SHARE:g} of the largest gradient. Smallest error seen: of one entry, "
        "relative to it. In float32 rounding hides more.\n\n"
        f"{size}"
    )
    demo.say(f"\n{found}\n")
    path = demo.out / "gradcheck.md"
    write(path, found)
    demo.say(f"  page {path}")
    ours, baseline = results[OURS], results[BASELINE]
    demo.claim(
        "wrong gradients that scratchnet accepts", len(ours.missed), at_most=0,
        baseline={BASELINE: len(baseline.missed)},
    )  # fmt: skip
    demo.claim(
        "right gradients that scratchnet rejects", sum(map(len, ours.alarms)),
        at_most=2, baseline={BASELINE: sum(map(len, baseline.alarms))},
    )  # fmt: skip
    exact = [row for row in rows if "float32" not in row.name]
    demo.claim(
        "calls of f for a right gradient, at most",
        max(row.right.calls for row in exact), at_most=300,
        baseline={"two calls for each entry": 2 * max(_scale.SIZES)},
    )  # fmt: skip
    demo.claim(
        "calls of f to name a wrong entry, at most, in 10^5 and 10^6",
        max(row.wrong.calls for row in exact if row.named and row.entries > 10**4),
        at_most=1000, baseline={"two calls for each entry": 2 * 10**5},
    )  # fmt: skip
    demo.check("wrong entries that are not named, in float64",
               sum(not row.named for row in exact), at_most=0)  # fmt: skip
    unnamed = ours.judged[0] - len(ours.missed) - (ours.named or 0)
    demo.check("rejections that name a right entry or none", unnamed, at_most=0)


if __name__ == "__main__":
    main(__name__, seeds=False)
