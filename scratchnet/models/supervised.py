"""Supervised networks, which measure the results of the other systems.

A classifier predicts which digit a generated picture shows, a regressor how thick its
line is. They are not systems of the lecture and have no twins by hand.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import checks
from scratchnet.backend import Array
from scratchnet.functions import softmax
from scratchnet.kernels import initializers
from scratchnet.losses import softmax_cross_entropy, squared_error
from scratchnet.nn import Module, evaluate, mlp


class _Supervised(Module):
    """A dense network from samples (n, d) to the target of each."""

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rng: np.random.Generator,
        activation: str = "relu",
        slope: float = 0.2,
        init: initializers.Initializer = initializers.glorot_uniform,
        dtype: DTypeLike = np.float32,
    ) -> None:
        name = type(self).__name__
        checks.rng(name, rng)
        checks.sizes(name, sizes)
        self.sizes = tuple(sizes)
        self.dtype = checks.dtype(name, dtype)
        self.layers = mlp(sizes, activation, slope, rng=rng, init=init, dtype=dtype)

    def forward(self, x: Any) -> Any:
        """Return the output of the last layer (n, sizes[-1]) for x (n, d)."""
        x = checks.rows(type(self).__name__, x, self.sizes[0], self.dtype)
        return self.layers(x)


class Classifier(_Supervised):
    """A network that predicts the class of a sample.

    Args:
        sizes: columns of the data, hidden layers, number of classes.
        rng: draws the initial weights, layer by layer.
        activation: of the hidden layers: "relu", "leaky_relu", "sigmoid", "tanh" or
            "linear".
        slope: of leaky_relu.
        init: draws each W; every b starts at zero.
        dtype: of the parameters, and of the data that the model accepts.

    Raises:
        TypeError, ValueError: an argument has a wrong type or value.

    """

    def loss(self, x: Any, label: Array) -> Any:
        """Return −log p(label), averaged over the samples x (n, d), in nats."""
        return softmax_cross_entropy(self.forward(x), label)

    def probabilities(self, x: Any) -> Any:
        """Return the probability of each class (n, classes) for x (n, d)."""
        return evaluate(lambda x: softmax(self.forward(x)), x)

    def predict(self, x: Any) -> Array:
        """Return the most likely class of each sample (n,)."""
        return np.argmax(evaluate(self.forward, x), axis=1)

    def accuracy(self, x: Array, label: Array) -> float:
        """Return the fraction of samples whose prediction is right, from 0 to 1.

        Raises:
            ValueError: label does not have the shape (n,).

        """
        x = checks.rows("Classifier", x, self.sizes[0], self.dtype)
        label = checks.labels("Classifier", label, len(x), self.sizes[-1])
        return float(np.mean(self.predict(x) == label))

    def check(self, x: Array, label: Array) -> None:
        """Raise an error unless (x, label) can be trained on."""
        checks.rows("Classifier", x, self.sizes[0], self.dtype)
        checks.labels("Classifier", label, len(x), self.sizes[-1])


class Regressor(_Supervised):
    """A network that predicts numbers for a sample, trained by squared error.

    Args:
        sizes: columns of the data, hidden layers, number of targets.
        rng, activation, slope, init, dtype: as for `Classifier`.

    Raises:
        TypeError, ValueError: an argument has a wrong type or value.

    """

    def loss(self, x: Any, target: Any) -> Any:
        """Return the squared error of the targets (n, k), sum over k, mean over n."""
        return squared_error(self.forward(x), target)

    def predict(self, x: Any) -> Any:
        """Return the numbers (n, k) of the samples x (n, d)."""
        return evaluate(self.forward, x)

    def check(self, x: Array, target: Array) -> None:
        """Raise an error unless (x, target) can be trained on."""
        checks.rows("Regressor", x, self.sizes[0], self.dtype)
        checks.rows("Regressor: target", target, self.sizes[-1], self.dtype)
