"""Minibatches: what a step is given, and the loss of all of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from scratchnet import backend
from scratchnet.backend import Array
from scratchnet.backend.philox import Stream
from scratchnet.nn import inference
from scratchnet.tensor import plain
from scratchnet.training import distributed
from scratchnet.training.arguments import Batch
from scratchnet.training.state import Source


def begin(*sources: Source | None) -> None:
    """Have the streams among these go on to the next step."""
    for source in sources:
        if isinstance(source, Stream):
            source.begin()


def noise_of(model: Any, noise: Source | None) -> Callable[..., Batch]:
    """Return what makes the arguments of `step` or `loss` of a minibatch."""

    def draw(*batch: Array) -> Batch:
        if noise is None:
            return batch
        begin(noise)
        made: Batch = model.with_noise(*batch, rng=noise)
        return made

    return draw


def validation_loss(
    model: Any,
    data: Batch,
    batch_size: int,
    draw: Callable[..., Batch],
    group: distributed.Group | None = None,
) -> float:
    """Return the mean loss of the data; nothing is recorded or trained.

    The minibatches are dealt out to the processes of a group, one after another.
    """
    n = len(data[0])
    total = backend.zeros((), np.float64)
    with inference():
        for i, start in enumerate(range(0, n, batch_size)):
            batch = draw(*[a[start : start + batch_size] for a in data])
            if group is None or i % group.size == group.rank:
                total += plain(model.loss(*batch)) * len(batch[0])
    if group is not None:
        group.add(total)
    return float(backend.to_numpy(total)) / n
