"""Losses: a sum over the features of each sample, then the mean over the batch.

All losses follow this rule, so that a reconstruction in nats and a KL divergence add
up to a bound on log p(x). Predictions and targets are (n, ...), a row for each sample.
Their shapes must be equal: broadcasting (n, 1) against (n,) would compare each sample
with all others.
"""

import math
from typing import Any

import numpy as np

from scratchnet import backend, checks
from scratchnet.backend import Array
from scratchnet.functions import sigmoid, softmax
from scratchnet.fused import in_c
from scratchnet.table import primitive, rule
from scratchnet.tensor import ArrayOrTensor, Tensor

__all__ = [
    "bernoulli_terms",
    "binary_cross_entropy_with_logits",
    "gaussian_kl",
    "gaussian_nll",
    "gaussian_terms",
    "softmax_cross_entropy",
    "squared_error",
]


def squared_error(prediction: ArrayOrTensor, target: Array | Tensor) -> ArrayOrTensor:
    """Return 1/n Σ_i Σ_j (prediction_ij − target_ij)², without a factor 1/2.

    Args:
        prediction: (n, ...), a Tensor or an array.
        target: of the same shape.

    Returns:
        A single number, in the square of the data's unit.

    Raises:
        ValueError: the shapes differ, or there are no samples.

    """
    prediction, target = _samples("squared_error", prediction=prediction, target=target)
    terms = _squared_difference(prediction, target)
    loss: ArrayOrTensor = np.sum(terms) / len(target)
    return loss


@primitive
def _squared_difference(a: Array, b: Array) -> Array:
    return np.square(a - b)


rule(
    _squared_difference,
    lambda g, y, a, b: 2 * g * (a - b),
    lambda g, y, a, b: -2 * g * (a - b),
)
in_c(
    _squared_difference, "a b",
    "y = (a - b) * (a - b);", "d = 2 * g * (a - b);", "d = -2 * g * (a - b);",
)  # fmt: skip


@primitive
def _cross_entropy(logits: Array, target: Array) -> Array:
    # −x·log s(a) − (1 − x)·log(1 − s(a)), in a form that overflows for no logit a.
    return np.maximum(logits, 0) - logits * target + np.log1p(np.exp(-np.abs(logits)))


# The parts of the formula have kinks at a = 0 that cancel in the sum, so the rule is
# that of the whole. (A confident mistake keeps its full gradient.)
rule(
    _cross_entropy,
    lambda g, y, a, x: g * (sigmoid(a) - x),
    lambda g, y, a, x: -g * a,
)
in_c(
    _cross_entropy, "a x",
    "T e = exp(a > 0 ? -a : a), u = 1 + e;"
    "T log1p = u == 1 ? e : log(u) * (e / (u - 1));"  # (u - 1) / e is u's rounding
    "y = (a > 0 ? a : 0) - a * x + log1p;",
    "d = g * (1 / (1 + exp(-a)) - x);",
)  # fmt: skip


def binary_cross_entropy_with_logits(
    logits: ArrayOrTensor, target: Array | Tensor
) -> ArrayOrTensor:
    """Return 1/n Σ_i Σ_j −x·log s(a) − (1 − x)·log(1 − s(a)): a logits, x target.

    s is the sigmoid. This is the negative log-likelihood of the target under
    independent Bernoulli variables (Kingma & Welling 2014, appendix C.1). It is finite
    for any logits, without clipping.

    Args:
        logits: (n, ...), a Tensor or an array.
        target: of the same shape, in [0, 1] (not checked, to avoid reading it).

    Returns:
        A single number, in nats.

    Raises:
        ValueError: the shapes differ, or there are no samples.

    """
    logits, target = _samples(
        "binary_cross_entropy_with_logits", logits=logits, target=target
    )
    loss: ArrayOrTensor = np.sum(_cross_entropy(logits, target)) / len(target)
    return loss


def gaussian_kl(mu: ArrayOrTensor, log_var: ArrayOrTensor) -> ArrayOrTensor:
    """Return 1/n Σ_i Σ_j KL(N(mu, σ²) ‖ N(0, 1)), with log_var = log σ².

    KL = ½ (mu² + σ² − 1 − log σ²) (Kingma & Welling 2014, appendix B).

    Args:
        mu: (n, ...), a Tensor or an array.
        log_var: of the same shape.

    Returns:
        A single number, in nats; it is 0 for mu = 0 and log_var = 0.

    Raises:
        ValueError: the shapes differ, or there are no samples.

    """
    mu, log_var = _samples("gaussian_kl", mu=mu, log_var=log_var)
    # expm1(v) − v keeps the digits that exp(v) − 1 loses near v = 0.
    total: ArrayOrTensor = np.sum(np.square(mu) + np.expm1(log_var) - log_var)
    return total * (0.5 / len(mu))


def _samples(owner: str, **arrays: Any) -> list[Any]:
    """Return two arrays of one shape (n, ...), n ≥ 1, as plain arrays or Tensors."""
    found = [_real(owner, name, a) for name, a in arrays.items()]
    (name, other), (shape, other_shape) = arrays, (a.shape for a in found)
    if shape != other_shape:
        raise ValueError(
            f"{owner}: {name} has shape {shape}, {other} {other_shape}; "
            "they must be equal"
        )
    if not shape or shape[0] == 0:
        raise ValueError(f"{owner}: no samples in shape {shape}")
    return found


def _real(owner: str, name: str, a: Any) -> Any:
    """Return an array of real numbers or a Tensor, never a subclass of ndarray."""
    a = checks.plain_array(owner, name, a)
    kind = getattr(getattr(a, "dtype", None), "kind", "")
    if kind not in "biuf" or not kind:
        what = getattr(a, "dtype", f"a {type(a).__name__}")
        raise TypeError(
            f"{owner}: {name} is {what}; an array or Tensor of real numbers expected"
        )
    return a


def bernoulli_terms(logits: ArrayOrTensor, x: Array | Tensor) -> ArrayOrTensor:
    """Return −log p(x) of Bernoulli variables, entry by entry, in nats.

    The terms of `binary_cross_entropy_with_logits`; `x` broadcasts to `logits`' shape.
    """
    logits = checks.plain_array("bernoulli_terms", "logits", logits)
    x = checks.plain_array("bernoulli_terms", "x", x)
    return _cross_entropy(logits, x)


def gaussian_terms(
    mean: ArrayOrTensor, log_var: Array | Tensor, x: Array | Tensor
) -> ArrayOrTensor:
    """Return −log N(x; mean, exp(log_var)), entry by entry, in nats.

    ½ ((x − mean)² / σ² + log σ² + log 2π), with log_var = log σ²; all broadcast.
    """
    mean = checks.plain_array("gaussian_terms", "mean", mean)
    log_var = checks.plain_array("gaussian_terms", "log_var", log_var)
    x = checks.plain_array("gaussian_terms", "x", x)
    square = _squared_difference(mean, x) * np.exp(-log_var)
    terms: ArrayOrTensor = (square + (log_var + math.log(2 * math.pi))) / 2
    return terms


def gaussian_nll(
    mean: ArrayOrTensor, log_var: Array | Tensor, x: Array | Tensor
) -> ArrayOrTensor:
    """Return 1/n Σ_i Σ_j −log N(x_ij; mean_ij, exp(log_var)).

    Args:
        mean: (n, ...), a Tensor or an array.
        log_var: log σ², of a shape that broadcasts to that of mean.
        x: of the shape of mean.

    Returns:
        A single number, in nats (Kingma & Welling 2014, appendix C.2).

    Raises:
        TypeError: an argument is not an array of real numbers.
        ValueError: the shapes of mean and x differ, log_var does not broadcast to
            them, or there are no samples.

    """
    mean, x = _samples("gaussian_nll", mean=mean, x=x)
    log_var = _real("gaussian_nll", "log_var", log_var)
    try:
        wider = np.broadcast_shapes(mean.shape, log_var.shape) != mean.shape
    except ValueError:
        wider = True
    if wider:
        raise ValueError(
            f"gaussian_nll: log_var has shape {log_var.shape}, which does not "
            f"broadcast to the shape of mean, {mean.shape}"
        )
    loss: ArrayOrTensor = np.sum(gaussian_terms(mean, log_var, x)) / len(x)
    return loss


@primitive
def _softmax_cross_entropy(logits: Array, label: Array) -> Array:
    # −log softmax(a)_label, row by row. It depends only on the gaps to the largest
    # logit: their exponentials do not overflow, and small gaps keep their digits.
    gaps = logits - np.max(logits, axis=1, keepdims=True)
    chosen = np.take_along_axis(gaps, label[:, None], axis=1)[:, 0]
    return np.log(np.sum(np.exp(gaps), axis=1)) - chosen


# softmax minus the one-hot row of the label.
rule(
    _softmax_cross_entropy,
    lambda g, y, a, label: g[:, None] * (
        softmax(a) - (label[:, None] == np.arange(a.shape[1], like=label))
    ),
)  # fmt: skip


def softmax_cross_entropy(logits: ArrayOrTensor, label: Array) -> ArrayOrTensor:
    """Return 1/n Σ_i −log softmax(logits_i)[label_i], in nats.

    This is the negative log-likelihood of the labels under a categorical distribution.
    It is finite for any logits. Its gradient is (softmax(logits) − one-hot label) / n.
    Labels are checked on the host.

    Args:
        logits: (n, k), a Tensor or an array.
        label: (n,), integers from 0 to k − 1.

    Raises:
        TypeError: label is not an array of integers.
        ValueError: a wrong shape, or a label out of range.

    """
    logits = _real("softmax_cross_entropy", "logits", logits)
    if logits.ndim != 2 or not len(logits):
        raise ValueError(
            f"softmax_cross_entropy: logits have shape {logits.shape}; (n, k), n ≥ 1, "
            "expected"
        )
    n, k = logits.shape
    label = checks.labels("softmax_cross_entropy", label, n, k)
    label = backend.asarray(label, np.int64)
    loss: ArrayOrTensor = np.sum(_softmax_cross_entropy(logits, label)) / n
    return loss
