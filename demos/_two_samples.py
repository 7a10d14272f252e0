"""The classifier two-sample test: how well two sets of samples can be told apart."""

import numpy as np

from demos._classifier import trained
from scratchnet import backend


def told_apart(
    a: np.ndarray, b: np.ndarray, seed: int, hidden: int = 128, epochs: int = 10
) -> float:
    """Return the held-out accuracy of a fresh classifier of a and b.

    0.5 means that it cannot tell them apart (Lopez-Paz & Oquab 2017). The classifier
    is new, so no generator was trained against it.

    Args:
        a, b: the samples (2n, d) each: n train the classifier, n test it.
        seed: the random seed.
        hidden: the units of the classifier's hidden layer.
        epochs: the epochs of its training.

    """
    init, shuffle = backend.streams(seed, 2)
    n = min(len(a), len(b)) // 2
    label = np.repeat([0, 1], n)
    classifier = trained(
        (a.shape[1], hidden, 2), np.concatenate([a[:n], b[:n]]), label, epochs=epochs,
        batch=128, init=init, shuffle=shuffle,
    )  # fmt: skip
    held_out = np.concatenate([a[n : 2 * n], b[n : 2 * n]])
    return classifier.accuracy(held_out, label)
