"""MNIST for the papers' protocols, or drawn digits for a quick look."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from demos.papers._jobs import Job
from scratchnet.data.digits import draw_digits
from scratchnet.data.idx import load_mnist


class Split(NamedTuple):
    """Training, validation and test images (n, 784) in [0, 1], with their labels."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    train_label: np.ndarray
    validation_label: np.ndarray
    test_label: np.ndarray


def images(job: Job, validation: int) -> Split:
    """Return MNIST, with its last training images for validation.

    A quick run takes only the first images. Without a folder, return drawn digits.
    """
    if job.data is None:
        x, label = everything(job)
        x, test, label, test_label = x[:2000], x[2000:], label[:2000], label[2000:]
    else:
        (x, label), (test, test_label) = (
            mnist(job.data, "train"),
            mnist(job.data, "test"),
        )
    if job.quick:
        validation = min(validation, 200)
        x, label, test, test_label = (
            x[:2000],
            label[:2000],
            test[:500],
            test_label[:500],
        )
    cut = len(x) - validation
    return Split(x[:cut], x[cut:], test, label[:cut], label[cut:], test_label)


def mnist(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (n, 784) and labels of one split."""
    found = load_mnist(folder, split)
    return found.x, found.label


def everything(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Return all of MNIST; without a folder, 3000 drawn digits."""
    if job.data is None:
        drawn = draw_digits(3000, np.random.default_rng(0))
        return drawn.x, drawn.label
    parts = [mnist(job.data, split) for split in ("train", "test")]
    x, label = (np.concatenate(both) for both in zip(*parts, strict=True))
    return x, label
