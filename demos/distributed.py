"""What a step costs that several processes take together, and when that pays.

    OPENBLAS_NUM_THREADS=1 mpirun -n 2 python -m demos.distributed

No claim of the lecture. A process takes 1/N of every minibatch, so its products and
elementwise functions take 1/N of the time. What all do alike takes all of its time in
each: choosing the minibatch, drawing its noise, Adam's update of all parameters. And
gradients and loss, one array of P numbers, are summed over all:

    t(N) = t_rows / N + t_alike + t_sum(P, N)

Each is measured alone, and their sum stands beside the step as `fit` takes it. That N
processes compute what one does is claimed, to rounding in float32.
"""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from demos._demo import Demo, main
from scratchnet import byhand, optim
from scratchnet.training.distributed import Group

SIZES = (784, 512, 20)


class NoUpdate(optim.AdamUpdate):
    """Leaves the parameters as they are."""

    def apply(self, arrays: object, gradients: object) -> None:
        """Do nothing."""


class Cost(NamedTuple):
    """Milliseconds of a step, of its parts and of one process's; how losses differ."""

    one: float  # the whole minibatch, by one process
    rows: float  # this process's rows
    alike: float  # what all processes do: the minibatch, its noise, the update
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
        found.append(max(group.gathered(took)) / 1e3)
    return float(np.median(found[2:]))


def made(n: int) -> byhand.VAE:
    """Return a VAE, from the same weights each time."""
    return byhand.VAE(SIZES, rng=np.random.default_rng(1), batch_size=n)


def measure(n: int, group: Group, rounds: int) -> Cost:
    """Time a step on n of 10,000 rows, and its parts."""
    rng = np.random.default_rng(0)
    x = rng.random((10_000, SIZES[0]), np.float32)
    rows = rng.permutation(len(x))[:n]
    alone, together, still = made(n), made(n), made(n)
    still.optimizer = NoUpdate([still.theta])
    together.group = group

    def drawn(seed: int = 0) -> tuple[np.ndarray, ...]:
        return alone.with_noise(x[rows], rng=np.random.default_rng(seed))

    def part(seed: int = 0) -> list[np.ndarray]:
        draw = partial(alone.with_noise, rng=np.random.default_rng(seed))
        return group.share((x,), rows, draw)

    def alike() -> None:
        part()
        alone.optimizer.apply([alone.theta], [alone.d_theta])

    losses = []
    for i in range(5):
        whole = float(alone.step(*drawn(i)))
        losses.append(float(together.step(*part(i), total_rows=n)) / whole - 1)

    def time_of(f: Callable[[], object]) -> float:
        return milliseconds(f, group, rounds)

    sums, mine = together.sums.copy(), part()
    return Cost(
        one=time_of(lambda: alone.step(*drawn())),
        rows=time_of(lambda: still.step(*mine, total_rows=n)),
        alike=time_of(alike),
        sum=time_of(lambda: group.add(sums)),
        step=time_of(lambda: together.step(*part(), total_rows=n)),
        apart=float(np.max(np.abs(losses))),
    )


def run(demo: Demo) -> None:
    """Measure at some sizes of minibatches, and report."""
    group = Group()
    demo.say(f"  {group.size} processes on {os.cpu_count()} cores")
    size = made(1).sums.nbytes / 1e6
    for n in demo.choose((128, 512, 2048), (64,)):
        cost = measure(n, group, demo.choose(60, 3))
        parts = cost.rows + cost.alike + cost.sum
        demo.say(
            f"  minibatch {n}: by one {cost.one:.2f} ms; rows {cost.rows:.2f} + alike "
            f"{cost.alike:.2f} + sum of {size:.1f} MB {cost.sum:.2f} = {parts:.2f}, "
            f"the step {cost.step:.2f}, {cost.one / cost.step:.2f} times as fast"
        )
        demo.check("losses, relative to those by one", cost.apart, at_most=1e-5)


if __name__ == "__main__":
    if Group().rank:
        sys.stdout = open(os.devnull, "w")  # the first speaks for all
    main(__name__, few_threads=False, seeds=False)
