"""Backpropagation: a network of dense layers and its gradient, derived on paper.

Every system here is made of such networks; its own file has what is special to it, and
counts its equations on from (6).


The network

Rows are samples: h_0 is (n, d_0). Layer k = 1, ..., L computes

    a_k = h_{k-1} W_k + b_k                       (n, d_k)               (1)
    h_k = f_k(a_k)                                (n, d_k)               (2)

with f_k an activation, entry by entry: the same f in all layers but the last, whose
h_L = a_L unless it is said otherwise.


Its gradient

Some Loss depends on h_L, and dLoss/dh_L is known. Write δ_k for dLoss/da_k, of the
shape of a_k. (1) in full is a_ic = Σ_j h_ij W_jc + b_c. There W_jc occurs once for
every sample i, with the factor h_ij; b_c likewise, with the factor 1; h_ij occurs once
for every column c, with the factor W_jc. By the chain rule, a sum over all places
where each occurs:

    dLoss/dW_jc = Σ_i h_ij δ_ic    that is   dLoss/dW_k = h_{k-1}ᵀ δ_k   (3)
    dLoss/db_c  = Σ_i δ_ic         that is   dLoss/db_k = 1ᵀ δ_k         (4)
    dLoss/dh_ij = Σ_c δ_ic W_jc    that is   dLoss/dh_{k-1} = δ_k W_kᵀ   (5)

and by (2), entry by entry,

    δ_k = dLoss/dh_k ⊙ f_k'(a_k)                                         (6)

From k = L down to 1, that is backpropagation. At k = 1, (5) is left out where nobody
needs dLoss/dh_0. f' can be written through h = f(a), so that a need not be kept:

    f             f'(a)
    linear        1
    relu          1 if h > 0, else 0
    leaky_relu    1 if h > 0, else slope
    sigmoid       h (1 - h)
    tanh          1 - h²

f and f' are in kernels/activations.py.


The step in plain NumPy

Two layers, with f = tanh in the first. x is h_0; dh2 stands for dLoss/dh_2, which is
known; delta1 and delta2 are δ_1 and δ_2.

    h1 = np.tanh(x @ W1 + b1)                                  # (1), (2)
    h2 = h1 @ W2 + b2                                          # (1), (2)

    delta2 = dh2                                               # (6), f' = 1
    dW2 = h1.T @ delta2                                        # (3)
    db2 = np.sum(delta2, axis=0)                               # (4)
    dh1 = delta2 @ W2.T                                        # (5)
    delta1 = dh1 * (1 - h1**2)                                 # (6)
    dW1 = x.T @ delta1                                         # (3)
    db1 = np.sum(delta1, axis=0)                               # (4)
    dx = delta1 @ W1.T                                         # (5)


The memory

Everything that a step writes is allocated once. h_k takes the place of a_k, and δ_k
that of dLoss/dh_k. The memory for δ_k is free until the way back, and is scratch until
then. (4) is a sum over samples; a product with a row of ones is the faster way to it,
on a GPU by far.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import backend
from scratchnet.backend import Array
from scratchnet.kernels import activations, initializers


def shapes(name: str, sizes: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's parameters by name, "NAME.0.W" first.

    The engine counts the activations between its layers too, hence the even numbers.
    """
    found: dict[str, tuple[int, ...]] = {}
    for k in range(1, len(sizes)):
        found[f"{name}.{2 * k - 2}.W"] = (sizes[k - 1], sizes[k])
        found[f"{name}.{2 * k - 2}.b"] = (sizes[k],)
    return found


class MLP:
    """A multilayer perceptron that writes into memory which it allocated once.

    Args:
        name: its parameters are "NAME.0.W", "NAME.0.b", "NAME.2.W", ...
        sizes: columns of h_0, h_1, ..., h_L.
        parameters: views to read the W and b from, by name.
        gradients: views to write dLoss/dW and dLoss/db to, by name.
        rows: the most samples at once.
        dtype: of everything.
        activation: f, of the hidden layers.
        last: f_L.
        inputs: whether `backward` will be asked for dLoss/dh_0.

    Attributes:
        W, b, dW, db: lists with a gap at 0, so that W[k] is the W_k of the derivation.
        h: h_0, ..., h_L of the last `forward`; `backward` uses up all but h_0.
        delta: memory for dLoss/dh_0 (or None), δ_1, ..., δ_L of as many samples.

    """

    def __init__(
        self,
        name: str,
        sizes: Sequence[int],
        parameters: Mapping[str, Array],
        gradients: Mapping[str, Array],
        *,
        rows: int,
        dtype: DTypeLike,
        activation: activations.Activation,
        last: activations.Activation | None = None,
        inputs: bool = False,
    ) -> None:
        L = self.L = len(sizes) - 1
        names = [f"{name}.{2 * k - 2}" for k in range(1, L + 1)]
        self.W: list[Array] = [None, *(parameters[f"{n}.W"] for n in names)]
        self.b: list[Array] = [None, *(parameters[f"{n}.b"] for n in names)]
        self.dW: list[Array] = [None, *(gradients[f"{n}.W"] for n in names)]
        self.db: list[Array] = [None, *(gradients[f"{n}.b"] for n in names)]
        self.f = [activation] * L + [last or activations.activation("linear")]

        def buffer(k: int) -> Array:
            return backend.empty((rows, sizes[k]), dtype)

        # For the most samples; h and delta are the parts that this batch uses.
        self._h: list[Array] = [None, *(buffer(k) for k in range(1, L + 1))]
        first = buffer(0) if inputs else None
        self._delta: list[Array] = [first, *(buffer(k) for k in range(1, L + 1))]
        self.h = self._h.copy()
        self.delta = self._delta.copy()
        self._ones = backend.asarray(np.ones((1, rows), dtype))

    def initialize(
        self, rng: np.random.Generator, init: initializers.Initializer
    ) -> None:
        """Draw every W, layer by layer; every b stays at zero."""
        for W in self.W[1:]:
            W[...] = backend.asarray(init(rng, W.shape, W.dtype))

    # Other names for the same memory, each for one purpose.

    @property
    def dh(self) -> Array:
        """Memory for dLoss/dh_L, which `backward` may be given; δ_L takes its place."""
        return self.delta[self.L]

    @property
    def scratch(self) -> list[Array]:
        """Memory of the shapes of h_0 (or None), ..., h_L: that of `delta`.

        It is free from `forward` until `dh` is written, and after `backward`, but for
        the dLoss/dh_0 that it returned.
        """
        return self.delta

    @property
    def slopes(self) -> list[Array]:
        """After `backward`, f'(a_k) at k = 1, ..., L - 1, if f is relu or leaky_relu.

        It is in the memory of `h`.
        """
        return self.h

    def forward(self, x: Array) -> Array:
        """Compute h_1, ..., h_L from h_0 = x (n, d_0); return h_L (n, d_L)."""
        n = len(x)
        h = self.h
        h[0] = x
        self.delta = scratch = [None if d is None else d[:n] for d in self._delta]
        for k in range(1, self.L + 1):
            h[k] = a = self._h[k][:n]
            backend.matmul(h[k - 1], self.W[k], a)  # (1)
            activations.add_row(a, self.b[k])  # (1)
            self.f[k].forward(a, scratch[k])  # (2)
        return h[self.L]

    def backward(
        self, dh: Array, *, parameters: bool = True, inputs: bool = False
    ) -> Array:
        """Compute the gradients from `dh` = dLoss/dh_L (n, d_L), which it overwrites.

        Args:
            dh: memory of its own, or the attribute `dh`.
            parameters: compute dW and db, (3) and (4).
            inputs: compute dLoss/dh_0, (5) at k = 1; the constructor was told so.

        Returns:
            dLoss/dh_0 (n, d_0) or None. h_1, ..., h_L are used up; see `slopes`.

        """
        h, W, delta = self.h, self.W, self.delta
        ones = self._ones[:, : len(dh)]
        delta[self.L] = dh
        for k in range(self.L, 0, -1):
            self.f[k].backward(delta[k], h[k])  # (6)
            if parameters:
                backend.matmul(h[k - 1].T, delta[k], self.dW[k])  # (3)
                backend.matmul(ones, delta[k], self.db[k][None])  # (4)
            if k > 1 or inputs:
                backend.matmul(delta[k], W[k].T, delta[k - 1])  # (5)
        return delta[0] if inputs else None
