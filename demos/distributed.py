"""What a step costs that several processes take together, and when that pays.

    OPENBLAS_NUM_THREADS=1 mpirun -n 2 python -m demos.distributed

No claim of the lecture. A process takes 1/N of every minibatch, so its products and
elementwise functions take 1/N of the time; Adam's update of all parameters takes all of
its time in each; and gradients and loss, one array of P numbers, are summed over all:

    t(N) = t_rows / N + t_update + t_sum(P, N)

Each of the three is measured alone, and their sum stands beside the step as it is. That
N processes compute what one does is claimed, to rounding in float32.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from demos._demo import Demo, main
from scratchnet import byhand, kernels
from scratchnet.byhand.system import MakeUpdate
from scratchnet.distributed import Group

SIZES = (784, 512, 20)


class NoUpdate(kernels.AdamUpdate):
    """Leaves the parameters as they are."""

    def apply(self, arrays: object, gradients: object) -> None:
        """Do nothing."""


class Cost(NamedTuple):
    """Milliseconds of a step, of its parts and of one process's; how losses differ."""

    one: float  # the whole minibatch, by one process
    rows: float  # this process's rows
    update: float
    sum: float
    step: float
    apart: float  # relative, the largest of five steps


def milliseconds(f: Callable[[], object], group: Group, rounds: int) -> float:
    """Return the median of f's times, all processes at once, the slowest counting."""
    found = []
    for _ in range(rounds + 2):
        group.any(False)  # all begin together
        began = time.perf_counter()
        f()
        took = round(1e6 * (time.perf_counter() - began))
        found.append(max(group.lengths(took)) / 1e3)
    return float(np.median(found[2:]))


def made(n: int, optimizer: MakeUpdate = kernels.AdamUpdate) -> byhand.VAE:
    """Return a VAE, from the same weights each time."""
    rng = np.random.default_rng(1)
    return byhand.VAE(SIZES, rng=rng, batch_size=n, optimizer=optimizer)


def measure(n: int, group: Group, rounds: int) -> Cost:
    """Time a step on n rows, and its parts."""
    rng = np.random.default_rng(0)
    x = rng.random((n, SIZES[0]), np.float32)
    eps = rng.standard_normal((n, SIZES[-1]), np.float32)
    mine = slice(n * group.rank // group.size, n * (group.rank + 1) // group.size)
    part = x[mine], eps[mine]
    alone, together, rows = made(n), made(n), made(n, NoUpdate)
    together.group = group
    losses = []
    for _ in range(5):
        whole = float(alone.step(x, eps))
        losses.append(float(together.step(*part, of=n)) / whole - 1)

    def time_of(f: Callable[[], object]) -> float:
        return milliseconds(f, group, rounds)

    sums = together.sums.copy()
    return Cost(
        one=time_of(lambda: alone.step(x, eps)),
        rows=time_of(lambda: rows.step(*part, of=n)),
        update=time_of(lambda: alone.optimizer.apply([alone.theta], [alone.d_theta])),
        sum=time_of(lambda: group.add(sums)),
        step=time_of(lambda: together.step(*part, of=n)),
        apart=float(np.max(np.abs(losses))),
    )


def run(demo: Demo) -> None:
    """Measure at some sizes of minibatches, and report."""
    group = Group()
    demo.say(f"  {group.size} processes on {os.cpu_count()} cores")
    size = made(1).sums.nbytes / 1e6
    for n in demo.choose((128, 512, 2048), (64,)):
        cost = measure(n, group, demo.choose(60, 3))
        parts = cost.rows + cost.update + cost.sum
        demo.say(
            f"  minibatch {n}: by one {cost.one:.2f} ms; rows {cost.rows:.2f} + update "
            f"{cost.update:.2f} + sum of {size:.1f} MB {cost.sum:.2f} = {parts:.2f}, "
            f"the step {cost.step:.2f}, {cost.one / cost.step:.2f} times as fast"
        )
        demo.claim("losses, relative to those by one", cost.apart, at_most=1e-5)


if __name__ == "__main__":
    if Group().rank:
        sys.stdout = open(os.devnull, "w")  # the first speaks for all
    main(__name__)
