"""A classifier for judging pictures, and its last hidden layer as features."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scratchnet.models.supervised import Classifier
from scratchnet.nn import evaluate
from scratchnet.optim import Adam, cosine_decay
from scratchnet.training import fit


def trained(
    sizes: Sequence[int],
    x: np.ndarray,
    label: np.ndarray,
    *,
    epochs: int,
    batch: int,
    init: np.random.Generator,
    shuffle: np.random.Generator,
    **how: Any,
) -> Classifier:
    """Train a classifier by Adam, with a learning rate that falls from 1e-3 to 0.

    Args:
        sizes: columns, hidden layers, classes.
        x, label: the samples (n, d) and their classes (n,).
        epochs, batch: as for `fit`.
        init: draws the initial weights.
        shuffle: shuffles the samples.
        how: more arguments of `fit`.

    """
    model = Classifier(tuple(sizes), rng=init)
    rate = cosine_decay(1e-3, epochs * -(-len(x) // batch))
    fit(
        model, (x, label), epochs=epochs, batch_size=batch, rng=shuffle,
        optimizer=Adam(model.parameters(), lr=rate), progress=False, **how,
    )  # fmt: skip
    return model


def features(model: Classifier) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from samples (n, d) to the last hidden layer (n, units)."""
    before_last = list(model.layers)[:-1]

    def forward(h: Any) -> Any:
        for layer in before_last:
            h = layer(h)
        return h

    return lambda x: evaluate(forward, x)
