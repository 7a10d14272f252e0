"""Backpropagation: a network of dense layers and its gradient, derived on paper.

Every system here is made of such networks. Each system's file derives the rest and
continues the numbering of the equations after (6).


The network

Rows are samples: h_0 is (n, d_0). Layer k = 1, ..., L computes

    a_k = h_{k-1} W_k + b_k                       (n, d_k)               (1)
    h_k = f_k(a_k)                                (n, d_k)               (2)

W_k is (d_{k-1}, d_k) and b_k is (d_k,). The activation f_k is applied entry by entry.
All layers but the last have the same f; the last is linear, h_L = a_L, unless stated
otherwise.


Its gradient

The Loss depends on h_L, and dLoss/dh_L is known. Write δ_k for dLoss/da_k; it has the
shape of a_k. In full, (1) is a_ic = Σ_j h_ij W_jc + b_c. In it, W_jc occurs once for
each sample i, with the factor h_ij; b_c occurs once for each i, with the factor 1; and
h_ij occurs once for each column c, with the factor W_jc. The chain rule sums over all
these places:

    dLoss/dW_jc = Σ_i h_ij δ_ic    that is   dLoss/dW_k = h_{k-1}ᵀ δ_k   (3)
    dLoss/db_c  = Σ_i δ_ic         that is   dLoss/db_k = 1ᵀ δ_k         (4)
    dLoss/dh_ij = Σ_c δ_ic W_jc    that is   dLoss/dh_{k-1} = δ_k W_kᵀ   (5)

In (4), 1 is a column of n ones. One δ_k is enough for all three. The Jacobian of a_k
with respect to W_k has n d_k rows and d_{k-1} d_k columns; nearly all of its entries
are 0. But the Loss is one number, so the chain rule needs only one row times this
Jacobian: the n d_k numbers of δ_k, written as a row. This is the vector-Jacobian
product. (3) to (5) are such products, and no Jacobian is built.

By (2), entry by entry (⊙ multiplies entry by entry),

    δ_k = dLoss/dh_k ⊙ f_k'(a_k)                                         (6)

Backpropagation is (6) and (3 to 5) for k = L down to 1. At k = 1, (5) is skipped
unless dLoss/dh_0 is needed. f' can be computed from h = f(a), so a need not be kept:

    f             f'(a)
    linear        1
    relu          1 if h > 0, else 0
    leaky_relu    1 if h > 0, else slope
    sigmoid       h (1 - h)
    tanh          1 - h²

f and f' are in kernels/activations.py.


The step in plain NumPy

Two layers, with f = tanh in the first. x is h_0; dh2 is the known dLoss/dh_2, for
example 2 (h2 - t) / n for the squared error Σ (h2 - t)² / n; delta1 and delta2 are δ_1
and δ_2.

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

All memory that a step writes is allocated once. h_k overwrites a_k, and δ_k overwrites
dLoss/dh_k. The memory of δ_k serves as scratch until the backward pass needs it. (4) is
a sum over samples; it is computed as the product with a row of ones, which is faster,
especially on a GPU.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import backend
from scratchnet.backend import Array
from scratchnet.kernels import activations, initializers


def shapes(name: str, sizes: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's parameters by name, "NAME.0.W" first.

    The numbers are even because the engine counts the activations as layers too.
    """
    found: dict[str, tuple[int, ...]] = {}
    for k in range(1, len(sizes)):
        found[f"{name}.{2 * k - 2}.W"] = (sizes[k - 1], sizes[k])
        found[f"{name}.{2 * k - 2}.b"] = (sizes[k],)
    return found


class MLP:
    """A multilayer perceptron that allocates its memory once.

    Args:
        name: the parameters are called "NAME.0.W", "NAME.0.b", "NAME.2.W", ...
        sizes: columns of h_0, h_1, ..., h_L.
        parameters: views of all W and b, by name; read.
        gradients: views for all dLoss/dW and dLoss/db, by name; written.
        rows: the largest number of samples in one call.
        dtype: of all arrays.
        activation: f, of the hidden layers.
        last: f_L.
        inputs: whether `backward` can compute dLoss/dh_0.

    Attributes:
        W, b, dW, db: lists with None at 0, so that W[k] is W_k of the derivation.
        h: h_0, ..., h_L of the last `forward`; `backward` overwrites all but h_0.
        delta: memory for dLoss/dh_0 (or None), δ_1, ..., δ_L of the same samples.

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

        # These have room for `rows` samples; h and delta are the parts in use.
        self._h: list[Array] = [None, *(buffer(k) for k in range(1, L + 1))]
        first = buffer(0) if inputs else None
        self._delta: list[Array] = [first, *(buffer(k) for k in range(1, L + 1))]
        self.h = self._h.copy()
        self.delta = self._delta.copy()
        self._ones = backend.asarray(np.ones((1, rows), dtype))

    def initialize(
        self, rng: np.random.Generator, init: initializers.Initializer
    ) -> None:
        """Draw each W, layer by layer; each b stays at zero."""
        for W in self.W[1:]:
            W[...] = backend.asarray(init(rng, W.shape, W.dtype))

    # Other names for the same memory, one for each purpose.

    @property
    def dh(self) -> Array:
        """Memory for dLoss/dh_L, to pass to `backward`, which writes δ_L over it."""
        return self.delta[self.L]

    @property
    def scratch(self) -> list[Array]:
        """Free memory in the shapes of h_0 (or None), ..., h_L: that of `delta`.

        It is free from `forward` until `dh` is written. After `backward` it is free
        again, except for the dLoss/dh_0 that `backward` returned.
        """
        return self.delta

    @property
    def slopes(self) -> list[Array]:
        """f'(a_k), k = 1, ..., L - 1, after `backward`; for relu and leaky_relu alone.

        `backward` computes f'(a_k) in the memory of h_k, so this is the list `h`.
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
            self.f[k].layer(a, self.b[k], scratch[k])  # (1), (2)
        return h[self.L]

    def backward(
        self, dh: Array, *, parameters: bool = True, inputs: bool = False
    ) -> Array:
        """Compute the gradients from `dh` = dLoss/dh_L (n, d_L), which it overwrites.

        It overwrites h_1, ..., h_L too. For relu and leaky_relu, h_k then holds
        f'(a_k); see `slopes`.

        Args:
            dh: an array that shares no memory with this network, or the attribute `dh`.
            parameters: whether to compute dW and db, (3) and (4).
            inputs: whether to compute dLoss/dh_0, (5) at k = 1; the constructor needs
                inputs=True for it.

        Returns:
            dLoss/dh_0 (n, d_0), or None without `inputs`.

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
