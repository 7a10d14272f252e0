"""Activations and the cross-entropy, in place: nothing is allocated.

Where it is faster on a GPU, a chain of calls also exists as one kernel in C; the same
chain in NumPy calls follows it.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scratchnet import backend, checks
from scratchnet.backend import Array, Kernel
from scratchnet.kernels.buffers import blocks

# --- Activations, in place ----------------------------------------------------------

ADD_ROW = Kernel("add_row", "", "T a", "a += b;", rows="T b")


def add_row(a: Array, b: Array) -> None:
    """Add the row b (d,) to every row of a (n, d)."""
    # On a GPU np.add computes row and column of each entry, and is slower than a copy.
    if not backend.run_kernel(ADD_ROW, b, a):
        np.add(a, b, out=a)


class Activation(NamedTuple):
    """An activation h = f(a) and its derivative, both without new memory.

    `forward(a, scratch)` overwrites a with h. `backward(delta, h)` overwrites delta
    with delta ⊙ f'(a), where f'(a) is computed from h; it overwrites h too.
    """

    forward: Callable[[Array, Array], None]
    backward: Callable[[Array, Array], None]

    def layer(self, a: Array, b: Array, scratch: Array) -> None:
        """Overwrite a with f(a + b), where b is a row: a dense layer."""
        if known := _LAYERS.get(self.forward):
            kernel, numbers = known
            if backend.run_kernel(kernel, *numbers, b, a):
                return
        add_row(a, b)
        self.forward(a, scratch)


# The kernel of a layer, and its numbers, by the activation's `forward`.
_LAYERS: dict[Callable[[Array, Array], None], tuple[Kernel, tuple[float, ...]]] = {}


def _linear(a: Array, scratch: Array) -> None:
    pass


def _linear_backward(delta: Array, h: Array) -> None:
    pass  # f' = 1


def _relu(a: Array, scratch: Array) -> None:
    np.maximum(a, 0, out=a)


# NaN stays NaN.
RELU_LAYER = Kernel("relu_layer", "", "T a", "a += b; a = a < 0 ? 0 : a;", rows="T b")
_LAYERS[_relu] = RELU_LAYER, ()


LEAKY_RELU = Kernel(
    "leaky_relu", "", "T a", "a = a > 0 ? a : slope * a;", numbers="T slope"
)

LEAKY_RELU_LAYER = Kernel(
    "leaky_relu_layer", "", "T a", "a += b; a = a > 0 ? a : slope * a;",
    numbers="T slope", rows="T b",
)  # fmt: skip

STEPS = Kernel(
    "steps",
    "",
    "T delta, T h",
    "h = h > 0 ? (T)1 : h <= 0 ? slope : h; delta *= h;",
    numbers="T slope",
)


@functools.cache
def _leaky_relu(slope: float) -> Callable[[Array, Array], None]:
    def forward(a: Array, scratch: Array) -> None:
        if backend.run_kernel(LEAKY_RELU, slope, a):
            return
        np.multiply(a, slope, out=scratch)
        np.maximum(a, scratch, out=a)  # right for slope < 1

    _LAYERS[forward] = LEAKY_RELU_LAYER, (slope,)
    return forward


def _steps(slope: float) -> Callable[[Array, Array], None]:
    def backward(delta: Array, h: Array) -> None:
        if backend.run_kernel(STEPS, slope, delta, h):
            return
        # f' = 1 where h > 0, else slope: for h > 0, ceil(h) is at least 1. (np.sign
        # takes ten times as long: its branches are unpredictable.) h becomes f'.
        np.ceil(h, out=h)
        np.clip(h, slope, 1, out=h)
        np.multiply(delta, h, out=delta)

    return backward


SIGMOID = Kernel("sigmoid", "", "T a", "a = 1 / (1 + exp(-a));")

SIGMOID_LAYER = Kernel(
    "sigmoid_layer", "", "T a", "a += b; a = 1 / (1 + exp(-a));", rows="T b"
)

SIGMOID_BACKWARD = Kernel(
    "sigmoid_backward", "", "T delta, T h", "delta *= h * (1 - h);"
)


def _sigmoid(a: Array, scratch: Array) -> None:
    if backend.run_kernel(SIGMOID, a):
        return
    np.negative(a, out=a)
    # exp(-a) becomes inf for a very negative a, and 1 / (1 + inf) = 0 is right.
    with np.errstate(over="ignore"):
        np.exp(a, out=a)
        np.add(a, 1, out=a)
    np.divide(1, a, out=a)


_LAYERS[_sigmoid] = SIGMOID_LAYER, ()


def _sigmoid_backward(delta: Array, h: Array) -> None:
    if backend.run_kernel(SIGMOID_BACKWARD, delta, h):
        return
    np.multiply(delta, h, out=delta)
    np.subtract(1, h, out=h)
    np.multiply(delta, h, out=delta)  # f' = h (1 - h)


def _tanh(a: Array, scratch: Array) -> None:
    np.tanh(a, out=a)


TANH_BACKWARD = Kernel("tanh_backward", "", "T delta, T h", "delta *= 1 - h * h;")


def _tanh_backward(delta: Array, h: Array) -> None:
    if backend.run_kernel(TANH_BACKWARD, delta, h):
        return
    np.multiply(h, h, out=h)
    np.subtract(1, h, out=h)  # f' = 1 - h²
    np.multiply(delta, h, out=delta)


ACTIVATIONS = ("linear", "relu", "leaky_relu", "sigmoid", "tanh")


def activation(name: str, slope: float = 0.2) -> Activation:
    """Return the activation of that name; `slope` is that of leaky_relu, in [0, 1).

    Raises:
        ValueError: no activation has that name, or `slope` is out of range.

    """
    checks.choice("activation", "name", name, ACTIVATIONS)
    slope = checks.number("leaky_relu", "slope", slope, "[0, 1)")
    if name == "leaky_relu":
        return Activation(_leaky_relu(slope), _steps(slope))
    return {
        "linear": Activation(_linear, _linear_backward),
        "relu": Activation(_relu, _steps(0)),
        "sigmoid": Activation(_sigmoid, _sigmoid_backward),
        "tanh": Activation(_tanh, _tanh_backward),
    }[name]


_TERM = (
    "T s = 1 / (1 + exp(-a));"
    "term = (a > 0 ? a : (T)0) - a * x - log(s > 1 - s ? s : 1 - s);"
    "a = s;"
    "delta = s - x;"
)
CROSS_ENTROPY = Kernel("cross_entropy", "T x", "T a, T delta, T term", _TERM)

# With the sum of each row.
CROSS_ENTROPIES = Kernel("cross_entropies", "T x", "T a, T delta", _TERM, sums="T term")


def cross_entropy(
    a: Array, x: Array, loss: Array, delta: Array, scratch: Array
) -> None:
    """Compute the cross-entropy of logits and its derivative.

        loss  = Σ −x·log σ(a) − (1 − x)·log(1 − σ(a)), over the last axis
              = Σ max(a, 0) − a·x − log σ(|a|)
        delta = σ(a) − x

    σ is the sigmoid. The second form is the first with log(1 − σ(a)) = log σ(a) − a; it
    overflows for no logit. σ(|a|) is the larger of σ(a) and 1 − σ(a). Each term has the
    absolute rounding error of numbers near 1/2: 6e-8 nats in float32.

    Args:
        a: the logits (n, ..., d); σ(a) overwrites them.
        x: the target, in [0, 1], of a shape (n, ...) that broadcasts to theirs.
        loss: memory for the loss, of the shape of a without its last axis.
        delta: memory for delta, of the shape of a.
        scratch: more memory of that shape.

    """
    if backend.run_kernel(CROSS_ENTROPIES, x, a, delta, loss):
        return
    if backend.run_kernel(CROSS_ENTROPY, x, a, delta, scratch[: len(a)]):
        np.sum(scratch[: len(a)], axis=-1, out=loss)
        return
    for part in blocks(a):
        s, target, d = a[part], x[part], delta[part]
        terms = scratch[: len(s)]
        np.maximum(s, 0, out=terms)
        np.multiply(s, target, out=d)
        np.subtract(terms, d, out=terms)
        _sigmoid(s, d)
        np.subtract(1, s, out=d)
        np.maximum(s, d, out=d)
        np.log(d, out=d)
        np.subtract(terms, d, out=terms)
        np.sum(terms, axis=-1, out=loss[part])
        np.subtract(s, target, out=d)
