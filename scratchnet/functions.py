"""The few functions that NumPy lacks, each followed by its derivative.

All are finite, forward and backward, for inputs of any size. They take plain arrays and
Tensors. So does a function of your own with the decorator @primitive.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from scratchnet.backend import Array
from scratchnet.fused import in_c
from scratchnet.table import Axis, primitive, rule
from scratchnet.tensor import ArrayOrTensor, Tensor, where_or_zero

__all__ = [
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "relu",
    "sigmoid",
    "softmax",
    "softplus",
]

# --- Activations --------------------------------------------------------------------


@primitive
def relu(x: Array) -> Array:
    """Return max(x, 0); its derivative at 0 is defined as 0."""
    return np.maximum(x, 0)


rule(relu, lambda g, y, x: where_or_zero(g, x > 0))
in_c(relu, "x", "y = x < 0 ? 0 : x;", "d = x > 0 ? g : 0;")  # NaN stays NaN


def _usual(slope: object) -> bool:
    return isinstance(slope, (int, float)) and 0 < slope <= 1


@primitive
def leaky_relu(x: Array, slope: ArrayLike | Tensor = 0.2) -> Array:
    """Return x where it is positive, else slope * x (Maas et al. 2013)."""
    if _usual(slope):
        return np.maximum(x, slope * x)
    return np.maximum(x, 0) + slope * np.minimum(x, 0)


def _leaky_relu(g: Any, y: Any, x: Any, slope: Any = 0.2) -> Any:
    if _usual(slope):  # ceil of a positive x is at least 1, of any other at most 0
        return g * np.clip(np.ceil(x), slope, 1)
    return where_or_zero(g, x > 0) + slope * where_or_zero(g, x <= 0)


rule(
    leaky_relu,
    _leaky_relu,
    lambda g, y, x, slope=0.2: where_or_zero(x * g, x <= 0),
)
in_c(
    leaky_relu, "x",
    "y = x > 0 ? x : slope * x;",
    "d = g * (x > 0 ? 1 : x <= 0 ? slope : x);",  # NaN stays NaN
    numbers={"slope": 0.2},
)  # fmt: skip


@primitive
def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)); 0 where the exponential overflows to inf."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


rule(sigmoid, lambda g, y, x: g * y * (1 - y))
in_c(sigmoid, "x", "y = 1 / (1 + exp(-x));", "d = g * y * (1 - y);")


@primitive
def softplus(x: Array) -> Array:
    """Return log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


rule(softplus, lambda g, y, x: g * sigmoid(x))


def log_sigmoid(x: ArrayOrTensor) -> ArrayOrTensor:
    """Return log(sigmoid(x)) = -softplus(-x)."""
    return -softplus(-x)


# --- Along an axis ------------------------------------------------------------------


def _gaps(x: Array, axis: Axis) -> tuple[Array, Array]:
    """Return x minus its largest value along the axis, and that largest value.

    The gap of the largest is 0, also if it is infinite.
    """
    largest = np.max(x, axis=axis, keepdims=True)
    top = x == largest
    return np.where(top, 0.0, x) - np.where(top, 0.0, largest), largest


@primitive
def logsumexp(x: Array, axis: Axis = -1, keepdims: bool = False) -> Array:
    """Return log(sum(exp(x))) along the axis, with the largest x taken out first.

    An x of -inf adds nothing to the value and gets the gradient 0. Where the sum is
    infinite, or all x are -inf, the largest share the gradient.
    """
    gaps, largest = _gaps(x, axis)
    total = np.log(np.sum(np.exp(gaps), axis=axis, keepdims=True)) + largest
    return total if keepdims else np.squeeze(total, axis=axis)


def _logsumexp(g: Any, y: Any, x: Any, axis: Axis = -1, keepdims: bool = False) -> Any:
    if not keepdims:
        kept = (1,) * x.ndim
        g = np.reshape(g, kept) if axis is None else np.expand_dims(g, axis)
    return g * softmax(x, axis)


rule(logsumexp, _logsumexp)


@primitive
def softmax(x: Array, axis: Axis = -1) -> Array:
    """Return exp(x) / sum(exp(x)) along the axis."""
    e = np.exp(_gaps(x, axis)[0])
    return e / np.sum(e, axis=axis, keepdims=True)


# dy_j/dx_i = y_j ([i = j] - y_i): the term -y_i gives the sum over all j.
rule(
    softmax,
    lambda g, y, x, axis=-1: y * (g - np.sum(g * y, axis=axis, keepdims=True)),
)


@primitive
def log_softmax(x: Array, axis: Axis = -1) -> Array:
    """Return log(softmax(x)) = x - logsumexp(x).

    It depends only on the gaps between the x. The largest is taken out first, so that
    small gaps between large x keep their digits.
    """
    gaps = _gaps(x, axis)[0]
    return gaps - np.log(np.sum(np.exp(gaps), axis=axis, keepdims=True))


rule(
    log_softmax,
    lambda g, y, x, axis=-1: g - np.exp(y) * np.sum(g, axis=axis, keepdims=True),
)
