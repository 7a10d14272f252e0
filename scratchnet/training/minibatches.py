"""Minibatches: the rows of a step, with their noise, and the mean loss of all rows."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from scratchnet import backend
from scratchnet.backend import Array
from scratchnet.backend.philox import Stream, stream_for
from scratchnet.graph import plain
from scratchnet.nn import inference
from scratchnet.training.arguments import Batch
from scratchnet.training.distributed import Group
from scratchnet.training.state import Source

Draw = Callable[..., Batch]  # adds noise to the arrays of a minibatch


class Minibatches:
    """The minibatches of an epoch: all rows of the data, in a new order each time.

    Args:
        data: arrays of the rows that this process has.
        n: the number of rows in all processes.
        batch_size: rows in a minibatch; the last one may be smaller.
        rng: shuffles the rows.
        add_noise: adds noise to the arrays of a minibatch; None for no noise.

    Attributes:
        order: the rows in the order of this epoch, on the host.
        sizes: the number of rows of each minibatch.

    """

    def __init__(
        self,
        data: Batch,
        n: int,
        batch_size: int,
        rng: np.random.Generator,
        add_noise: Draw | None,
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self.rng = rng
        self.add_noise = add_noise
        self.order = np.arange(n)
        self.sizes = [min(batch_size, n - i) for i in range(0, n, batch_size)]
        self._indices = backend.asarray(self.order)  # the order, where the data are
        self._within = backend.asarray(np.arange(batch_size))
        self._begun = False

    def __len__(self) -> int:
        return len(self.sizes)

    def resume(self, order: np.ndarray) -> None:
        """Let the next epoch continue one that began in this order."""
        self.order = order
        self._begun = True

    def shuffle(self) -> None:
        """Begin an epoch: put the rows in a new order."""
        if not self._begun:
            self.order = self.rng.permutation(len(self.order))
        self._begun = False
        self._indices[...] = backend.asarray(self.order)

    def draw(self, i: int | Array) -> Batch:
        """Return minibatch i, with noise; in a recorded step, i is an array.

        The arrays are new each time, because the graph of the last loss may still read
        the old ones.
        """
        if isinstance(i, int):
            start = i * self.batch_size
            rows = self._indices[start : start + self.batch_size]
        else:
            rows = np.take(self._indices, i * self.batch_size + self._within)
        batch = tuple([a[rows] for a in self.data])
        return batch if self.add_noise is None else self.add_noise(*batch)

    def rows(self, i: int) -> np.ndarray:
        """Return the row numbers of minibatch i, on the host."""
        return self.order[i * self.batch_size : (i + 1) * self.batch_size]


def noise_of(model: Any, source: Source | None) -> Draw | None:
    """Return a function that adds noise to a minibatch; None if there is no source."""
    if source is None:
        return None

    def add_noise(*batch: Array) -> Batch:
        begin(source)
        made: Batch = model.with_noise(*batch, rng=source)
        return made

    return add_noise


def begin(*sources: Source) -> None:
    """Move the streams among these sources to the next step."""
    for source in sources:
        if isinstance(source, Stream):
            source.begin()


class Validation:
    """The mean loss of held-out samples, always with the same noise.

    Args:
        data: arrays of the samples.
        batch_size: samples in a minibatch.
        noise: copies of it draw the noise; None for no noise.
        group: the processes that share the minibatches.

    """

    def __init__(
        self,
        data: Batch,
        batch_size: int,
        noise: np.random.Generator | None,
        group: Group | None,
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self.noise = noise
        self.group = group

    def loss(self, model: Any) -> float:
        """Return the mean loss of the samples; nothing is recorded or trained."""
        add_noise = noise_of(model, stream_for(copy.deepcopy(self.noise)))
        n, group = len(self.data[0]), self.group
        total = backend.zeros((), np.float64)
        with inference():
            for i, start in enumerate(range(0, n, self.batch_size)):
                rows = slice(start, start + self.batch_size)
                batch = tuple([a[rows] for a in self.data])
                if add_noise is not None:
                    batch = add_noise(*batch)
                if group is None or i % group.size == group.rank:
                    total += plain(model.loss(*batch)) * len(batch[0])
        if group is not None:
            group.add(total)
        return float(backend.to_numpy(total)) / n
