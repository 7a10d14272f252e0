"""The images that train and judge a run: drawn, or read from files."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratchnet.data.deer import draw_scenes
from scratchnet.data.digits import draw_digits
from scratchnet.data.idx import download_mnist, load_mnist
from scratchnet.runs.streams import Streams

# The drawn data sets: the numbers of training images and of held-out images.
SYNTHETIC = {"drawn": (20_000, 2_000), "deer": (16_000, 1_000)}


class Images(NamedTuple):
    """Images for training or for judging."""

    x: np.ndarray  # (n, d) float32 in [0, 1]
    shape: tuple[int, int]  # rows and columns of each
    label: np.ndarray | None  # (n,) the class; or whether there is a deer
    depth: np.ndarray | None = None  # (n, d), only for scenes

    @property
    def ink(self) -> bool:
        """Whether 1 means ink on paper; otherwise 1 means light."""
        return self.depth is None

    @property
    def arrays(self) -> list[np.ndarray | None]:
        """The arrays that `digest` covers."""
        return [self.x, self.label, self.depth]

    @property
    def digest(self) -> str:
        """A digest that identifies these images."""
        return digest(self.arrays)

    def batch(self, model: Any) -> tuple[np.ndarray, ...]:
        """Return the arrays that train the model: x, and the depth if there is fog."""
        if not hasattr(model, "corruption") or not model.corruption.foggy:
            return (self.x,)
        if self.depth is None:
            raise ValueError("fog: these images have no depth; pass --data deer")
        return self.x, self.depth

    def mixed(self, n: int) -> np.ndarray:
        """Choose n rows with mixed labels: the first of each, then the second, ..."""
        if self.label is None:
            return np.arange(min(n, len(self.x)))
        turn = np.empty(len(self.label), int)
        for value in np.unique(self.label):
            mine = self.label == value
            turn[mine] = np.arange(mine.sum())
        return np.lexsort((self.label, turn))[:n]

    def pictures(self, x: np.ndarray) -> np.ndarray:
        """Return rows x (n, d) as pictures (n, rows, columns) of this shape."""
        return x.reshape(-1, *self.shape)


def load_images(
    where: str, n: int | None, rng: np.random.Generator, *, held_out: bool
) -> Images:
    """Draw n digits ("drawn") or scenes ("deer"), or read MNIST from a folder.

    Args:
        where: "drawn", "deer", a folder with MNIST's files, or "mnist" to download.
        n: the number of images; by default as in `SYNTHETIC`, or all of MNIST.
        rng: draws the images.
        held_out: whether to take the held-out images; of MNIST, the test images.

    Raises:
        ValueError, OSError: the files are missing or damaged.

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
    """Return the training images and the held-out images.

    Raises:
        ValueError, OSError: as for `load_images`; or the held-out images have another
            shape.

    """
    images = load_images(where, n, streams.train, held_out=False)
    held_out = load_images(where, None, streams.held_out, held_out=True)
    check_shape(f"--data {where}: images for testing", held_out, images.shape)
    return images, held_out


def check_shape(what: str, images: Images, shape: tuple[int, int]) -> None:
    """Raise ValueError unless the images have this shape."""
    if images.shape != shape:
        (m, n), (rows, columns) = images.shape, shape
        raise ValueError(f"{what} are {m} x {n}; {rows} x {columns} expected")


def digest(arrays: Iterable[np.ndarray | None]) -> str:
    """Return a digest of arrays; None is skipped."""
    found = hashlib.sha256()
    for a in arrays:
        if a is not None:
            found.update(f"{a.dtype} {a.shape}".encode())
            found.update(np.ascontiguousarray(a).data)
    return found.hexdigest()
