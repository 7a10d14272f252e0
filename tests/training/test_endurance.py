"""Long runs keep their memory, and two at once do not disturb each other."""

import gc
import itertools
import sys
import threading
import tracemalloc

import numpy as np
import pytest

from scratchnet import byhand, models, optim
from scratchnet.training import fit, fit_gan
from tests.helpers import rng
from tests.training.test_resume import NETS, RUNS, assert_same

X = rng(1).random((40, 6))


# --- Threads ------------------------------------------------------------------------


def test_training_in_threads_equals_training_alone():
    """All systems with both engines at once, each in its own thread."""
    jobs = [(run, kind, name) for run, name in RUNS for kind in ("hand", "engine")]
    found = [None] * len(jobs)

    def train(i, run, kind, name):
        found[i] = run(kind, name)

    threads = [threading.Thread(target=train, args=(i, *j)) for i, j in enumerate(jobs)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads switch at almost every bytecode
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    for (run, kind, name), one in zip(jobs, found, strict=True):
        assert_same(one, run(kind, name))


# --- Memory -------------------------------------------------------------------------

# For each kind of system a function that trains it for some steps, with a callback
# about every ten steps.


def descend(make, name, steps, callback):
    options = {"rng": rng(0), "dtype": np.float64}
    more = {"batch_size": 10} if make is byhand else {}
    model = getattr(make, name)((6, 5, 2), **options, **more)
    optimizer = None if make is byhand else optim.Adam(model.parameters())
    noise = rng(2) if hasattr(model, "with_noise") else None
    fit(model, X, epochs=steps // 4, batch_size=10, rng=rng(3), optimizer=optimizer,
        noise=noise, validation=X[:10], callback=callback)  # fmt: skip


def play(make, name, steps, callback):
    options = {"rng": rng(0), "dtype": np.float64, "r1": 1.0, **NETS}
    optimizers = None
    if make is byhand:
        gan = byhand.GAN(**options, batch_size=10)
    else:
        gan = models.GAN(**options)
        optimizers = tuple(optim.Adam(net.parameters())
                           for net in (gan.generator, gan.discriminator))  # fmt: skip
    fit_gan(gan, X, steps=steps, batch_size=10, rng=rng(3), noise=rng(2),
            optimizers=optimizers, every=10, callback=callback)  # fmt: skip


def assert_flat(train, make, name, steps):
    """Train, and compare the memory halfway with that at the end.

    The number of arrays must be equal. Everything else (the history has a few numbers
    for each epoch) may grow by 64 bytes per step, less than the smallest array.
    """
    arrays = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
    last = steps // (4 if train is descend else 10)  # calls
    seen = {}
    calls = itertools.count(1)

    def look(history):
        call = next(calls)
        if call in (last // 2, last):
            gc.collect()
            snapshot = tracemalloc.take_snapshot().filter_traces([arrays])
            seen[call] = len(snapshot.traces), tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        train(make, name, steps, look)
    finally:
        tracemalloc.stop()
    (early, start), (late, end) = seen[last // 2], seen[last]
    assert late == early
    assert end - start < 64 * steps


KINDS = [(descend, "Autoencoder"), (descend, "VAE"), (play, "GAN")]


@pytest.mark.parametrize("make", [byhand, models])
@pytest.mark.parametrize(("train", "name"), KINDS)
def test_some_hundred_steps_keep_the_memory_constant(train, name, make):
    assert_flat(train, make, name, 200)


@pytest.mark.slow
@pytest.mark.parametrize("make", [byhand, models])
@pytest.mark.parametrize(("train", "name"), KINDS)
def test_ten_thousand_steps_keep_the_memory_constant(train, name, make):
    assert_flat(train, make, name, 10_000)
