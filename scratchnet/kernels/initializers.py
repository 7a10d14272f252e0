"""Initializers draw the initial weights of a layer.

Each is called as `(rng, (d_in, d_out), dtype) -> W`. It draws in float64 and then
casts, so a float32 and a float64 model of one seed start from the same numbers.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import backend, checks
from scratchnet.backend import Array

Initializer = Callable[..., Array]


def glorot_uniform(
    rng: np.random.Generator, shape: tuple[int, int], dtype: DTypeLike = np.float32
) -> Array:
    """Draw W from U(-r, r), r = √(6 / (d_in + d_out)).

    The variance 2 / (d_in + d_out) is a compromise: it keeps the size of values in the
    forward pass, and of gradients in the backward pass, about the same in all layers
    (Glorot & Bengio 2010, equation 16).
    """
    d_in, d_out = _check_arguments("glorot_uniform", rng, shape, dtype)
    r = math.sqrt(6 / (d_in + d_out))
    return backend.asarray(rng.uniform(-r, r, shape), dtype)


def glorot_normal(
    rng: np.random.Generator, shape: tuple[int, int], dtype: DTypeLike = np.float32
) -> Array:
    """Draw W from N(0, 2 / (d_in + d_out)) (Glorot & Bengio 2010, equation 12)."""
    d_in, d_out = _check_arguments("glorot_normal", rng, shape, dtype)
    std = math.sqrt(2 / (d_in + d_out))
    return backend.asarray(rng.normal(0.0, std, shape), dtype)


def he_uniform(
    rng: np.random.Generator, shape: tuple[int, int], dtype: DTypeLike = np.float32
) -> Array:
    """Draw W from U(-r, r), r = √(6 / d_in): the variance of `he_normal`."""
    d_in, _ = _check_arguments("he_uniform", rng, shape, dtype)
    r = math.sqrt(6 / d_in)
    return backend.asarray(rng.uniform(-r, r, shape), dtype)


def he_normal(
    rng: np.random.Generator, shape: tuple[int, int], dtype: DTypeLike = np.float32
) -> Array:
    """Draw W from N(0, 2 / d_in), for layers followed by ReLU.

    ReLU halves the mean square of its input; the 2 compensates for this (He et al.
    2015, equation 10).
    """
    d_in, _ = _check_arguments("he_normal", rng, shape, dtype)
    std = math.sqrt(2 / d_in)
    return backend.asarray(rng.normal(0.0, std, shape), dtype)


def _check_arguments(
    owner: str, rng: Any, shape: Any, dtype: DTypeLike
) -> tuple[int, int]:
    """Return the shape of a W, (d_in, d_out), or raise an error."""
    checks.rng(owner, rng)
    checks.dtype(owner, dtype)
    checks.sizes(owner, shape, "shape")
    if len(shape) != 2:
        raise ValueError(f"{owner}: shape is {shape}; (d_in, d_out) expected")
    return shape[0], shape[1]
