"""Check a gradient against differences of the function, and name what is wrong.

    gradcheck(f, inputs)                  # f of Tensors: the engine's gradient
    gradcheck((f, gradient), inputs)      # plain NumPy: one that you derived by hand

    GradientError: gradcheck: WRONG  d f/d W[17, 3]
      analytic   0.4181093
      numeric    0.4139700  (complex step, error < 2e-13)
      worst of 784 entries; 12 differ; they share row 17
      rule: np.multiply, argument 1

How it works. A random cotangent c makes a number of f: phi(x) = sum(c * f(x)). Along a
direction d the gradient a claims the slope a . d, and an *oracle*, which sees only
values of f, measures it. One direction checks many entries at once: where the slopes
differ, they are split, down to the entry at fault. No tolerance is a constant. It is
the oracle's error bound and the rounding of f and of the gradient, all measured.

The files, in the order to read them:

- procedure: one check from beginning to end;
- problems: what is checked, a function and its gradient in one form for all callers;
- probe: f near the inputs, and how much of what is seen there is rounding;
- oracles: slopes of f, each with a bound on its error (fits: from many values);
- search: how a wrong entry is located;
- kinks: why a gradient at a kink is not called wrong, and when it is;
- mistakes: which typical mistake a wrong gradient is;
- findings, report: the verdicts, and the message in words;
- mutants: wrong gradients, for `assert_detects`;
- strategies: Hypothesis strategies for inputs to check at.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence

import numpy as np

from scratchnet.testing import strategies
from scratchnet.testing.findings import VERDICTS, subscript
from scratchnet.testing.mutants import Mutant, mutations
from scratchnet.testing.oracles import Oracle
from scratchnet.testing.probe import Probe
from scratchnet.testing.problems import Function, Inputs, problems_of
from scratchnet.testing.procedure import Rng, check
from scratchnet.testing.report import GradientError, GradientReport

__all__ = [
    "GradientError",
    "GradientReport",
    "assert_detects",
    "gradcheck",
    "strategies",
]


def gradcheck(
    f: Function | Sequence[Function],
    inputs: Inputs,
    order: int = 1,
    rng: Rng = 0,
    oracle: Oracle = "auto",
    allow: Collection[str] = (),
    raise_exception: bool = True,
) -> GradientReport:
    """Check the gradient of f at `inputs` against finite differences of f.

    Args:
        f: a function of Tensors, whose gradient the engine takes; or a pair of
            functions of plain arrays: `(f, gradient)` if f returns a number, with
            `gradient(*inputs)` returning its gradient with respect to the input, or a
            tuple of them, one for each; `(f, vjp)` if f returns an array, with
            `vjp(g, *inputs)`, the vector-Jacobian product, returning the same of
            sum(g * f). None stands for "no gradient"; those of integer inputs may be
            left out.
        inputs: an array, or several in a tuple or list. The floating ones are
            differentiated, integers are constants. Best in float64; float32 is
            checked in float64, and then against itself in float64. A Tensor that
            requires a gradient is checked in place, whether f takes it as an
            argument or reaches it otherwise:
            `gradcheck(lambda *_: model.loss(x), model.parameters())`.
        order: 2 checks the gradient of the gradient too (functions of Tensors only).
        rng: a seed, or a generator, for the cotangent and the directions.
        oracle: "auto"; "ridders", real differences only (Ridders 1982); "complex",
            which does not accept a function that the complex step (Squire & Trapp
            1998) does not hold for.
        allow: verdicts to accept beside "pass". An input with gradient zero is
            "vacuous", and not accepted, for a check that checks nothing is mostly a
            mistake; pass allow=("vacuous",) where zero is right. At a kink the verdict
            is "wrong", whatever is allowed, if the gradient is no subgradient.
        raise_exception: False returns the report even if the gradient is not accepted.

    Returns:
        The report, which is true if the gradient is accepted.

    Raises:
        GradientError: the gradient is not accepted; `.report` has the report. If the
            gradient itself raised, that is the cause.
        TypeError, ValueError: an argument has a wrong type or value; an input, a
            gradient or what f returns is a masked array with a mask set (other
            subclasses of ndarray are taken as plain arrays). What f itself raises at
            `inputs` is not caught.

    """
    __tracebackhide__ = _is_gradient_error
    if oracle not in ("auto", "complex", "ridders"):
        raise ValueError(f"gradcheck: oracle={oracle!r}; say auto, complex or ridders")
    if not set(allow) <= set(VERDICTS) or isinstance(allow, str):
        raise ValueError(f"gradcheck: allow={allow!r}; say some of {VERDICTS}")
    report = GradientReport("vacuous", False, "")
    for problem in problems_of(f, inputs, order):
        report = check(problem, rng, oracle, allow)
        if report.verdict != "vacuous" and not report:
            break
    if raise_exception and not report:
        raise GradientError(report.message, report) from report.exception
    return report


# pytest leaves out the frames for which this is true, so that its traceback ends in the
# line that called the check. (Of other errors, such as f's own, all frames are shown.)
_is_gradient_error = operator.methodcaller("errisinstance", GradientError)


def assert_detects(
    f: Function | Sequence[Function],
    inputs: Inputs,
    order: int = 1,
    rng: Rng = 0,
    oracle: Oracle = "auto",
) -> None:
    """Check that a wrong gradient of f would be noticed.

    The gradient has to pass as it is. Then each input's is changed in turn: its sign,
    a factor of 1.001, one entry by 1 %, transposed (a square matrix), all zero. Each
    has to be found wrong, and the one entry named.

    Raises:
        GradientError: the gradient does not pass, or a change was not noticed.

    """
    __tracebackhide__ = _is_gradient_error
    gradcheck(f, inputs, order, rng, oracle, allow=("vacuous",))
    problem = problems_of(f, inputs, order)[-1]
    probe = Probe(problem, np.random.default_rng(rng))
    tried = 0
    for j, g in enumerate(problem.gradient(problem.xs, probe.c)):
        for change, mutate in mutations(g, probe.rng).items():
            tried += 1
            mutant = Mutant(problem, j, mutate)
            report = check(mutant, rng, oracle, find_rule=False)
            named = report.verdict == "wrong" and report.input == problem.names[j]
            if "at " in change:
                named = named and change.endswith(subscript(report.index or ()))
            if not named:
                raise GradientError(
                    f"assert_detects: the gradient of {problem.names[j]} was changed "
                    f"({change}) and this was found:\n{report}",
                    report,
                )
    if not tried:
        report = GradientReport("vacuous", False, "assert_detects: each gradient is 0")
        raise GradientError(report.message, report)
