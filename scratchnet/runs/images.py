"""The images that a run is trained on and judged by: drawn, or read from files."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratchnet.data.deer import draw_scenes
from scratchnet.data.digits import draw_digits
from scratchnet.data.idx import download_mnist, load_mnist
from scratchnet.runs.streams import Streams

# The data sets that are drawn: how many images to train on, how many held out.
SYNTHETIC = {"drawn": (20_000, 2_000), "deer": (16_000, 1_000)}


class Images(NamedTuple):
    """Images to train on, or to judge by."""

    x: np.ndarray  # (n, d) float32 in [0, 1]
    shape: tuple[int, int]  # rows and columns of each
    label: np.ndarray | None  # (n,) the class; or whether there is a deer
    depth: np.ndarray | None = None  # (n, d), of scenes

    @property
    def ink(self) -> bool:
        """Whether 1 is ink on paper, and not light."""
        return self.depth is None

    @property
    def arrays(self) -> list[np.ndarray | None]:
        """What `digest` is taken of."""
        return [self.x, self.label, self.depth]

    @property
    def digest(self) -> str:
        """What tells these images from any others."""
        return digest(self.arrays)

    def batch(self, model: Any) -> tuple[np.ndarray, ...]:
        """Return what the model is trained on: x, and the depth that fog needs."""
        if not hasattr(model, "corruption") or not model.corruption.foggy:
            return (self.x,)
        if self.depth is None:
            raise ValueError("fog: these images have no depth; --data deer has")
        return self.x, self.depth

    def mixed(self, n: int) -> np.ndarray:
        """Choose n rows of all labels: the first of each, then the second, ..."""
        if self.label is None:
            return np.arange(min(n, len(self.x)))
        turn = np.empty(len(self.label), int)
        for value in np.unique(self.label):
            mine = self.label == value
            turn[mine] = np.arange(mine.sum())
        return np.lexsort((self.label, turn))[:n]

    def pictures(self, x: np.ndarray) -> np.ndarray:
        """Return rows x (n, d) as pictures of the shape of these (n, rows, columns)."""
        return x.reshape(-1, *self.shape)


def load_images(
    where: str, n: int | None, rng: np.random.Generator, *, held_out: bool
) -> Images:
    """Draw n digits ("drawn") or scenes ("deer"), or read MNIST from a folder.

    Args:
        where: "mnist" downloads it; else it is the folder.
        n: how many; by default what `SYNTHETIC` says, or all of MNIST's.
        rng: draws them.
        held_out: of MNIST, take the images for testing.

    Raises:
        ValueError, OSError: the files are not there, or are not what they should be.

    """
    if where in SYNTHETIC:
        n = SYNTHETIC[where][held_out] if n is None else n
        if where == "drawn":
            digits = draw_digits(n, rng)
            return Images(digits.x, digits.images.shape[1:], digits.label)
        scenes = draw_scenes(n, rng)
        return Images(scenes.x, scenes.images.shape[1:], scenes.deer, scenes.x_depth)
    folder = download_mnist() if where == "mnist" else Path(where)
    mnist = load_mnist(folder, "test" if held_out else "train", classes=None)
    if n is not None and n > len(mnist.x):
        raise ValueError(f"--examples {n}: {folder} has {len(mnist.x)}")
    label = None if mnist.label is None else mnist.label[:n]
    return Images(mnist.x[:n], mnist.images.shape[1:], label)


def load_both(where: str, n: int | None, streams: Streams) -> tuple[Images, Images]:
    """Return the images to train on, and those that are held out.

    Raises:
        ValueError, OSError: as for `load_images`; those held out have other rows or
            columns.

    """
    images = load_images(where, n, streams.train, held_out=False)
    held_out = load_images(where, None, streams.held_out, held_out=True)
    check_shape(f"--data {where}: images for testing", held_out, images.shape)
    return images, held_out


def check_shape(what: str, images: Images, shape: tuple[int, int]) -> None:
    """Raise ValueError unless the images have these rows and columns."""
    if images.shape != shape:
        (m, n), (rows, columns) = images.shape, shape
        raise ValueError(f"{what} are {m} x {n}; {rows} x {columns} expected")


def digest(arrays: Iterable[np.ndarray | None]) -> str:
    """Return what tells these arrays, of which some may be None, from any others."""
    found = hashlib.sha256()
    for a in arrays:
        if a is not None:
            found.update(f"{a.dtype} {a.shape}".encode())
            found.update(np.ascontiguousarray(a).data)
    return found.hexdigest()
