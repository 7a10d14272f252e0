"""Check every row of the table of derivatives: python -m tests.gradcheck [--seed N].

Each row is called in every way listed in cases.py. Its first and second
derivatives are compared with differences of NumPy's values. The exit status is 1 if a
row is wrong or has no call.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from scratchnet.table import TABLE, Nondifferentiable, name_of
from scratchnet.testing import GradientReport, gradcheck
from tests.cases import CASES, Draw

CALLS = 5  # how often each way to call a function is drawn


def main(argv: Sequence[str] | None = None) -> int:
    """Print a verdict for each row; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.gradcheck")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs drawn")
    seed = parser.parse_args(argv).seed
    verdicts = Counter[str]()
    for function in tqdm(sorted(TABLE, key=name_of), disable=None, leave=False):
        verdict, report = check_row(function, seed)
        verdicts[verdict.split()[0].strip(":")] += 1
        tqdm.write(f"{name_of(function):28} {verdict}", file=sys.stdout)
        if report is not None and not report.ok:
            tqdm.write(str(report), file=sys.stdout)
    print(f"{len(TABLE)} rows:", ", ".join(f"{n} {v}" for v, n in verdicts.items()))
    return 0 if set(verdicts) <= {"pass", "constant"} else 1


def check_row(function: Callable, seed: int) -> tuple[str, GradientReport | None]:
    """Check one row of the table; return the line to print, and the last report."""
    if isinstance(TABLE[function], Nondifferentiable):
        return "constant", None
    report = None
    calls, entries = 0, 0
    for way in CASES.get(function, []):
        for attempt in range(CALLS):
            draw = Draw(random.Random(f"{name_of(function)} {seed} {attempt}"))
            call, inputs = way(draw, function)
            if not all(np.size(x) and np.all(np.isfinite(x)) for x in inputs):
                continue  # nothing to check, or no derivative
            found = gradcheck(
                call_of_all(call), inputs, order=2, rng=seed, raise_exception=False
            )
            if found.verdict == "vacuous":
                continue  # this call does not depend on an input
            report = found
            calls += 1
            entries += sum(np.size(x) for x in inputs)
            if not report.ok:
                return report.verdict, report
    if report is None:
        return "not checked: cases.py has no call for it", None
    return f"pass  {calls} calls, {entries} entries", report


def call_of_all(call: Callable) -> Callable:
    """Join the results of `call` into one, if it has several."""

    def joined(*inputs: Any) -> Any:
        result = call(*inputs)
        if isinstance(result, (list, tuple)):
            return np.concatenate([np.ravel(y) for y in result])
        return result

    return joined


if __name__ == "__main__":
    sys.exit(main())
