"""Check a gradient against differences of the function, and name what is wrong.

    gradcheck((f, gradient), inputs)      # plain NumPy: your own gradient, by hand
    gradcheck(f, inputs)                  # f of Tensors, torch or JAX, or a layer

    GradientError: gradcheck: WRONG  d f/d W[17, 3]
      analytic   0.4181093
      numeric    0.4139700  (complex step, error < 2e-13)
      worst of 784 entries; 12 differ; they share row 17
      rule: np.multiply, argument 1

How it works. Random weights c, the cotangent, turn f into a number,
φ(x) = Σ_i c_i f(x)_i. Along a direction d the gradient a claims the slope a · d. An
*oracle* measures this slope from values of f alone. One direction checks many entries
at once. If the slopes differ, the entries are split into blocks, down to the wrong
entry. The tolerance is not a constant: it is the oracle's error bound plus the rounding
of f and of the gradient, all measured.

The files, in the order to read them:

- procedure: one check from beginning to end;
- problems: a function and its gradient, in one form for all callers;
- adapters: functions of torch, JAX and SciPy, layers, nested inputs;
- probe: values of f near the inputs, and their rounding;
- oracles: slopes of f, each with a bound on its error (fits: from many values);
- search: how a wrong entry is located;
- kinks: when a gradient at a kink is wrong, and when it is not;
- mistakes: the typical mistake in a wrong gradient;
- outputs: the output of f that shows it, and forward mode;
- findings, report: the verdicts, and the message in words;
- mutants: wrong gradients, for `assert_detects`;
- strategies: Hypothesis strategies for inputs to check at.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchnet.testing import probe, strategies
from scratchnet.testing.adapters import problems_of
from scratchnet.testing.findings import VERDICTS
from scratchnet.testing.mutants import Mutant, mutations
from scratchnet.testing.oracles import Oracle
from scratchnet.testing.probe import Limits, Probe
from scratchnet.testing.problems import Function, Inputs, subscript
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
    *,
    dtype: DTypeLike | None = None,
    jac: bool | Callable[..., Any] | None = None,
    args: Sequence[Any] = (),
    forward: bool = False,
    seconds: float | None = None,
    atol: float = 0.0,
    rtol: float = 0.0,
    **options: Any,
) -> GradientReport:
    """Check the gradient of f at `inputs` against finite differences of f.

    Args:
        f: what to check, one of
            - a pair of functions of plain arrays. If f returns a number, the pair is
              `(f, gradient)`: `gradient(*inputs)` returns the gradient, or a tuple of
              one for each input. If f returns an array, the pair is `(f, vjp)`:
              `vjp(g, *inputs)`, the vector-Jacobian product, returns the same for
              sum(g * f), with random weights g. None claims that a gradient is zero;
              the gradients of integer inputs may be left out;
            - a function of Tensors, differentiated by the engine;
            - a function of torch tensors, a `torch.autograd.Function` or its `apply`,
              or a `torch.nn.Module`, whose parameters are checked too;
            - a function of JAX arrays, differentiated by `jax.vjp`;
            - a layer: an object with `forward(x)` and `backward(g)`, which returns the
              gradient of x and leaves those of parameters next to them (`W` and `dW`,
              or dicts `params` and `grads`);
            - with `jac`, a function of SciPy's optimizers.
        inputs: an array, or a tuple or list of several: those to differentiate. Inside,
            dicts, lists and tuples may be nested (JAX: any pytree); a report then names
            `encoder.0.W`. Bind the others:
            `gradcheck((lambda w: f(w, x), lambda w: df(w, x)), w)`.
            Integers are constants. Use float64 if possible; float32 inputs are checked
            in float64 if f takes it, and then their gradient in float32 is compared
            with it. Of torch's tensors only those that require a gradient are checked,
            if there is one. A Tensor that requires a gradient is checked in place, even
            if f does not take it as an argument:
            `gradcheck(lambda *_: model.loss(x), model.parameters())`.
        order: 2 checks the gradient of the gradient too (Tensors, torch and JAX).
        rng: a seed, or a generator, for the cotangent and the directions.
        oracle: "auto"; "ridders", real differences only (Ridders 1982); "complex", the
            complex step only (Squire & Trapp 1998): if it does not hold for f, the
            check fails.
        allow: verdicts to accept in addition to "pass". An input whose gradient is
            zero is "vacuous" and not accepted, because nothing was checked; pass
            allow=("vacuous",) if zero is right. At a kink, a gradient that is not a
            subgradient is always "wrong".
        raise_exception: False returns the report even if the gradient is not accepted.
        dtype: float32 calls f in that precision only. A small error in one entry then
            disappears in rounding; the report says how small.
        jac: as in `scipy.optimize.minimize`: True if f returns (value, gradient); or
            the function that returns the gradient, or the Jacobian (m, n) of m values.
        args: more arguments of f and `jac`, as in SciPy.
        forward: compare forward mode with the checked gradient (torch and JAX).
        seconds: the check ends after this time. If entries are left, and none is
            wrong, the verdict is "unfinished".
        atol, rtol: an entry that is off by at most atol + rtol * abs(slope) is accepted
            (for several outputs, atol counts for each); the report says how many are.
        options: the other arguments of `torch.autograd.gradcheck`, so that its calls
            run as they are. `eps`, `fast_mode` and `nondet_tol` are not needed;
            `check_forward_ad` is `forward`; those that ask for more are refused.

    Returns:
        The report; it is true if the gradient is accepted.

    Raises:
        GradientError: the gradient is not accepted; `.report` has the report. If the
            gradient itself raised an error, that error is the cause.
        TypeError, ValueError: an argument has a wrong type or value; an input, a
            gradient or the result of f is a masked array with a mask set (other
            subclasses of ndarray count as plain arrays). Errors of f at `inputs` are
            not caught.

    """
    __tracebackhide__ = hides
    if oracle not in ("auto", "complex", "ridders"):
        raise ValueError(f"gradcheck: oracle={oracle!r}; use auto, complex or ridders")
    if not set(allow) <= set(VERDICTS) or isinstance(allow, str):
        raise ValueError(f"gradcheck: allow={allow!r}; use some of {VERDICTS}")
    if not isinstance(rng, (numbers.Integral, np.random.Generator)):
        raise TypeError(f"gradcheck: rng={rng!r}; use a seed or a generator")
    forward = bool(_torch_options(options) or forward)
    limits = _limits(seconds, atol, rtol)
    report = GradientReport("vacuous", False, "")
    for problem in problems_of(f, inputs, order, dtype=dtype, jac=jac, args=args):
        forward = forward and not problem.is_gradient
        report = check(problem, rng, oracle, allow, limits=limits, forward=forward)
        if report.verdict != "vacuous" and not report:
            break
    if raise_exception:
        report.raise_if_wrong()
    return report


# Arguments of torch.autograd.gradcheck. These have no meaning here: the steps and the
# rounding are measured, and every entry is covered.
IGNORED = {"eps", "fast_mode", "nondet_tol"}
# These are accepted with the value that asks for nothing more.
REFUSED = {
    "check_undefined_grad": False, "check_grad_dtypes": False, "masked": False,
    "check_batched_grad": False, "check_batched_forward_ad": False,
    "check_backward_ad": True,
}  # fmt: skip


def _torch_options(options: dict[str, Any]) -> bool:
    """Return `check_forward_ad`; raise TypeError for an option that is not known."""
    forward = bool(options.pop("check_forward_ad", False))
    for name, value in options.items():
        if name in IGNORED or (name in REFUSED and value == REFUSED[name]):
            continue
        raise TypeError(f"gradcheck: {name}={value!r} is not supported; leave it out")
    return forward


def _limits(seconds: float | None, atol: float, rtol: float) -> Limits:
    """Return the limits of a check that begins now."""
    for name, value in {"seconds": seconds, "atol": atol, "rtol": rtol}.items():
        if value is None:
            continue
        if not isinstance(value, numbers.Real):
            raise TypeError(f"gradcheck: {name}={value!r}; use a number, 0 or more")
        if not value >= 0:
            raise ValueError(f"gradcheck: {name}={value!r}; use 0 or more")
    deadline = math.inf if seconds is None else probe.clock() + seconds
    return Limits(float(atol), float(rtol), deadline)


# pytest hides the frames for which this is true, so that its traceback ends at the line
# that called the check. (For other errors, such as f's own, it shows all frames.)
hides = operator.methodcaller("errisinstance", GradientError)


def assert_detects(
    f: Function | Sequence[Function],
    inputs: Inputs,
    order: int = 1,
    rng: Rng = 0,
    oracle: Oracle = "auto",
) -> None:
    """Check that a wrong gradient of f would be noticed.

    The unchanged gradient must pass. Then the gradient of each input is changed in five
    ways: the sign, a factor of 1.001, one entry by 1 %, the transpose (of a square
    matrix), all zero. The check must find each of them wrong, and name the one entry.

    Raises:
        GradientError: the gradient does not pass, or a change was not noticed.

    """
    __tracebackhide__ = hides
    gradcheck(f, inputs, order, rng, oracle, allow=("vacuous",))
    problem = problems_of(f, inputs, order)[-1]
    measured = Probe(problem, np.random.default_rng(rng))
    tried = 0
    for j, g in enumerate(problem.gradient(problem.xs, measured.c)):
        for change, mutate in mutations(g, measured.rng).items():
            tried += 1
            mutant = Mutant(problem, j, mutate)
            report = check(mutant, rng, oracle, find_rule=False)
            named = report.verdict == "wrong" and report.input == problem.names[j]
            if "at " in change:
                named = named and change.endswith(subscript(report.index or ()))
            if not named:
                raise GradientError(
                    f"assert_detects: the gradient of {problem.names[j]} was changed "
                    f"({change}), but the check reported:\n{report}",
                    report,
                )
    if not tried:
        report = GradientReport("vacuous", False, "assert_detects: each gradient is 0")
        raise GradientError(report.message, report)
