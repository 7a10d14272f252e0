"""The random numbers of a run: one stream for each purpose, all from one seed."""

from typing import NamedTuple

import numpy as np

from scratchnet import backend


class Streams(NamedTuple):
    """The random streams of one seed, each for one purpose."""

    train: np.random.Generator
    held_out: np.random.Generator
    init: np.random.Generator
    shuffle: np.random.Generator
    noise: np.random.Generator
    judge: np.random.Generator
    moments: np.random.Generator

    @classmethod
    def of(cls, seed: int) -> "Streams":
        """Spawn the streams from a seed."""
        return cls(*backend.streams(seed, len(cls._fields)))
