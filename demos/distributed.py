"""The cost of a training step that several processes share.

    OPENBLAS_NUM_THREADS=1 mpirun -n 2 python -m demos.distributed

This is a benchmark, not a claim of the lecture. Each of N processes takes 1/N of every
minibatch, so its products and elementwise functions take 1/N of the time. Every process
repeats the rest in full: it chooses the minibatch, draws the noise and updates all
parameters by Adam. One array of P numbers, the gradients and the loss, is summed over
all processes:

    t(N) = t_rows / N + t_alike + t_sum(P, N)

The demo measures each term alone and prints their sum next to the time of a whole step.
It claims that N processes compute the same as one, up to rounding in float32.
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
    """An optimizer that leaves the parameters unchanged."""

    def apply(self, arrays: object, gradients: object) -> None:
        """Do nothing."""


class Cost(NamedTuple):
    """Milliseconds of a step and of its parts, and the difference of the losses."""

    one: float  # the whole minibatch in one process
    rows: float  # this process's rows
    alike: float  # work repeated by every process: minibatch, noise, update
    sum: float
    step: float
    apart: float  # the largest relative difference of the losses in five steps


def milliseconds(f: Callable[[], object], group: Group, rounds: int) -> float:
    """Return the median time of f in all processes at once; the slowest counts."""
    found = []
    for _ in range(rounds + 2):
        group.any(False)  # all start together
        began = time.perf_counter()
        f()
        took = round(1e6 * (time.perf_counter() - began))
        found.append(max(group.gathered(took)) / 1e3)
    return float(np.median(found[2:]))


def made(n: int) -> byhand.VAE:
    """Return a VAE with the same initial weights each time."""
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
    """Measure minibatches of several sizes, and report."""
    group = Group()
    demo.say(f"  {group.size} processes on {os.cpu_count()} cores")
    size = made(1).sums.nbytes / 1e6
    for n in demo.choose((128, 512, 2048), (64,)):
        cost = measure(n, group, demo.choose(60, 3))
        parts = cost.rows + cost.alike + cost.sum
        demo.say(
            f"  minibatch {n}: one process {cost.one:.2f} ms; rows {cost.rows:.2f} + "
            f"alike {cost.alike:.2f} + sum of {size:.1f} MB {cost.sum:.2f} = "
            f"{parts:.2f}, the step {cost.step:.2f}, "
            f"{cost.one / cost.step:.2f} times as fast"
        )
        demo.check("losses, relative to those of one process", cost.apart, at_most=1e-5)


if __name__ == "__main__":
    if Group().rank:
        sys.stdout = open(os.devnull, "w")  # only the first process prints
    main(__name__, few_threads=False, seeds=False)
