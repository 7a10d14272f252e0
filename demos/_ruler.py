"""A ruler for digits: a supervised network that measures how a picture was drawn.

Generated and decoded pictures come without factors; the ruler estimates them.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from scratchnet import backend
from scratchnet.data.digits import Digits
from scratchnet.models.supervised import Regressor
from scratchnet.optim import Adam, hold_then_decay
from scratchnet.training import fit


class Ruler:
    """Measures factors from pictures.

    Args:
        names: the factors, one number each, like "thickness".
        train: the digits to learn from.
        epochs: the number of passes over them.
        seed: for the initial weights and the order of the digits.

    """

    def __init__(
        self, names: Sequence[str], train: Digits, epochs: int, seed: int
    ) -> None:
        init, shuffle = backend.streams(seed, 2)
        self.names = tuple(names)
        y = self.truth(train)
        self.mean, self.std = y.mean(axis=0), y.std(axis=0)
        target = ((y - self.mean) / self.std).astype(np.float32)
        pixels, batch = train.x.shape[1], 100
        self.network = Regressor((pixels, 256, 128, len(self.names)), rng=init)
        rate = hold_then_decay(2e-3, epochs * (len(train) // batch))
        fit(
            self.network, (train.x, target), epochs=epochs, batch_size=batch,
            rng=shuffle, optimizer=Adam(self.network.parameters(), lr=rate),
        )  # fmt: skip

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the factors (n, names) of the pictures x (n, pixels)."""
        measured: np.ndarray = self.network.predict(x) * self.std + self.mean
        return measured

    def truth(self, digits: Digits) -> np.ndarray:
        """Return the factors that drew the digits, (n, names)."""
        return np.stack([digits.factors[name] for name in self.names], axis=1)

    def r2(self, digits: Digits) -> np.ndarray:
        """Return R² of each factor (names,), the explained part of its variance."""
        y = self.truth(digits)
        left = np.mean((self(digits.x) - y) ** 2, axis=0)
        explained: np.ndarray = 1 - left / y.var(axis=0)
        return explained


def blurred(digits: Digits, most: float = 0.9) -> Digits:
    """Blur every digit of the second half, by a Gaussian of up to `most` pixels.

    Decoded pictures are blurred. A ruler that learned from sharp digits only would take
    that for thickness.
    """
    sigma = np.linspace(-most, most, len(digits)).clip(1e-3)
    return dataclasses.replace(digits, images=blur(digits.images, sigma))


def blur(images: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Blur pictures (n, side, side) by Gaussians with σ = sigma (n,), in pixels."""
    i = np.arange(images.shape[1])
    g = np.exp(-(((i[:, None] - i) / sigma[:, None, None]) ** 2) / 2)
    g = (g / g.sum(axis=2, keepdims=True)).astype(images.dtype)
    softer: np.ndarray = g @ images @ g.swapaxes(1, 2)
    return softer
