"""Which output of f has the wrong gradient, and whether forward mode agrees."""

from __future__ import annotations

import numpy as np

from scratchnet.testing.findings import Entry, Finding
from scratchnet.testing.probe import Probe, eps_of
from scratchnet.testing.problems import Array, random_signs, subscript

STEP, COARSE_STEP = 1e-5, 1e-2  # of the differences, in units of the entry


def wrong_output(probe: Probe, j: int, worst: Entry) -> str:
    """Name an output whose gradient by the worst entry of input j is wrong, in words.

    The outputs are halved, with a cotangent of 0 outside of one half. Empty if f is a
    number, or if no single output shows the error.
    """
    if probe.number or probe.problem.is_gradient or worst.slope.kind:
        return ""
    problem = probe.problem
    step = np.zeros(problem.xs[j].size)
    unit = COARSE_STEP if problem.coarse else STEP
    step[worst.i] = unit * probe.scale[j][worst.i]
    up, down = probe.value(j, step), probe.value(j, -step)
    if up is None or down is None:
        return ""
    numeric = (up - down).ravel() / (2 * step[worst.i])

    def analytic(weights: Array) -> float:
        found = problem.gradient(problem.xs, weights.reshape(probe.base.shape))[j]
        return 0.0 if found is None else float(found.ravel()[worst.i])

    outputs = np.arange(numeric.size)
    while len(outputs) > 1:
        halves = np.array_split(outputs, 2)
        errors = []
        for half in halves:
            weights = np.zeros(numeric.size)
            weights[half] = random_signs(probe.rng, len(half))
            errors.append(abs(analytic(weights) - weights @ numeric))
        outputs = halves[int(np.argmax(errors))]
    k = int(outputs[0])
    claimed, measured = analytic(np.eye(1, numeric.size, k)[0]), numeric[k]
    if not abs(claimed - measured) > 1e-5 * max(abs(claimed), abs(measured)):
        return ""
    name = problem.output_at(k, probe.base.shape)
    return f"output {name}: analytic {claimed:.7g}, numeric {measured:.7g}"


def forward_mode(probe: Probe, given: list[Array | None]) -> list[Finding]:
    """Return a finding for each input for which forward mode has another slope.

    c . (J v) is compared with (c J) . v, of the checked gradient, for random v.
    """
    problem, found = probe.problem, []
    for j, (name, x) in enumerate(zip(problem.names, problem.xs, strict=True)):
        if not x.size:
            continue
        one = given[j]
        g = np.zeros(x.shape) if one is None else one

        def forward(v: Array, j: int = j) -> float:
            vs = [np.zeros(x.shape) for x in problem.xs]
            vs[j] = v
            return float(np.vdot(probe.c, problem.jvp(problem.xs, vs)))

        def off(v: Array, g: Array = g, j: int = j) -> float:
            margin = 1e-9 * float(np.sum(np.abs(g * v)))
            margin += 64 * float(np.abs(v).ravel() @ probe.rounding[j])
            margin += 64 * eps_of(g) * float(np.sum(np.abs(g * v)))
            apart = abs(forward(v) - float(np.vdot(g, v)))
            return apart if not apart <= margin else 0.0

        try:
            v = random_signs(probe.rng, x.shape)
            if not off(v):
                continue
        except Exception as error:
            if str(error).startswith("gradcheck: "):  # there is no forward mode
                raise
            text = f"forward mode raised {type(error).__name__}: {error}"
            return [Finding("wrong", detail=text, exception=error)]
        some = np.arange(x.size)
        while len(some) > 1:
            halves = np.array_split(some, 2)
            errors = [
                off(np.where(np.isin(np.arange(x.size), half), v.ravel(), 0.0)
                    .reshape(x.shape))
                for half in halves
            ]  # fmt: skip
            some = halves[int(np.argmax(errors))]
        at = np.unravel_index(some[0], x.shape)
        one = np.zeros(x.shape)
        one[at] = 1.0
        entry = f"d {probe.label}/d {name}{subscript(at)}"
        text = (
            f"forward mode: {entry} is {forward(one) / probe.unit:.7g}; "
            f"reverse mode gives {float(g[at]) / probe.unit:.7g}, which is right"
        )
        found.append(Finding("wrong", name, x.shape, text))
    return found
