"""The systems that demos.speed times: their sizes, and the interface of a rival."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8
SLOPE = 0.2
CODE, NOISE = 20, 64  # columns of noise in a step of the VAE, of the GAN

SIZES: dict[str, tuple[int, ...]] = {
    "autoencoder": (784, 512, 64),
    "deep autoencoder": (784, 1000, 500, 250, 30),
    "VAE": (784, 512, CODE),
}
NETS: dict[str, tuple[int, ...]] = {
    "generator": (NOISE, 512, 784),
    "discriminator": (784, 512, 1),
}
SYSTEMS = (*SIZES, "GAN")

# The autoencoders of demos.speed --growth, by the width of their first layer.
WIDTHS = (128, 256, 512, 1024, 2048, 4096)
GROWING = {w: f"width {w}" for w in WIDTHS}
SIZES |= {name: (784, w, w // 2, 64) for w, name in GROWING.items()}

# Made first, so that code that a framework loads on first use is not counted.
WARM_UP = "warm-up"
SIZES[WARM_UP] = (784, 8, 4)
LOSS = {
    "autoencoder": "squared", "deep autoencoder": "cross_entropy", WARM_UP: "squared"
} | dict.fromkeys(GROWING.values(), "cross_entropy")  # fmt: skip

Weights = dict[str, np.ndarray]


def noise_columns(system: str) -> tuple[int, ...]:
    """Return the columns of each array of noise that a step takes."""
    return {"VAE": (CODE,), "GAN": (NOISE, NOISE)}.get(system, ())


class Stepper(NamedTuple):
    """One system in one framework, ready to train.

    `step(x, *noise)` takes one step (for the GAN, one of D and one of G) and returns
    the losses. `draw(n)` returns fresh noise, `array` converts an array to the
    framework's own, `wait` waits until everything is computed, and `value` converts a
    loss to a number.

    On a GPU, `turn(x)` returns a function that takes a step with fresh noise, and
    `seconds` times a call by the GPU's clock.
    """

    step: Callable[..., tuple[Any, ...]]
    draw: Callable[[int], tuple[Any, ...]]
    array: Callable[[np.ndarray], Any] = lambda a: a
    wait: Callable[[], None] = lambda: None
    value: Callable[[Any], float] = float
    turn: Callable[[Any], Callable[[], object]] | None = None
    seconds: Callable[[Callable[[], object]], float] | None = None


def numpy_noise(system: str) -> Callable[[int], tuple[np.ndarray, ...]]:
    """Return a function that draws the noise of a step with NumPy."""
    rng = np.random.default_rng(0)
    columns = noise_columns(system)
    return lambda n: tuple(rng.standard_normal((n, c), np.float32) for c in columns)


def networks(system: str) -> dict[str, tuple[int, ...]]:
    """Return the sizes of the networks of a system."""
    if system == "GAN":
        return NETS
    d, *hidden, c = SIZES[system]
    code = 2 * c if system == "VAE" else c
    return {"encoder": (d, *hidden, code), "decoder": (c, *hidden[::-1], d)}
