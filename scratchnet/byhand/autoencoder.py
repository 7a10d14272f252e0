"""The autoencoder with its backward pass derived on paper: NumPy, and no engine.

Read it beside models/autoencoder.py, which is the same system, its parameters under
the same names and with the same initial values, differentiated by the engine.


The model

Rows are samples: x is (n, d_0). With sizes = (d_0, ..., d_C) the encoder has C layers
and the decoder C more, which mirror it; L = 2C in all. h_0 = x, and for k = 1, ..., L

    a_k = h_{k-1} W_k + b_k                       (n, d_k)               (1)
    h_k = f_k(a_k)                                (n, d_k)               (2)

f_k is the activation f, entry by entry. Two layers have none, h_k = a_k: the code
z = h_C, so that it may take any value, and the last, whose a_L are called logits. The
reconstruction and its error are

    x̂ = s(a_L),  e = x̂ - x                        (n, d_0)               (3)

with s the sigmoid or nothing. The loss is one number per sample, a sum over the
columns j, and its mean over the n samples i: squared error,

    Loss = 1/n Σ_i Σ_j e_ij²                                             (4)

or, where x is in [0, 1] and s is the sigmoid, the cross-entropy

    Loss = 1/n Σ_i Σ_j -x_ij log x̂_ij - (1 - x_ij) log(1 - x̂_ij)         (4')

Each term of (4') is max(a, 0) - a x + log(1 + e^(-|a|)), a being the logit, and is
computed so: this stays finite where x̂ is rounded to 0 or 1.


The gradient

Write δ_k for dLoss/da_k, of the shape of a_k. At the end, by (4) and (3),

    dLoss/dx̂_ij = 2/n e_ij,   dx̂_ij/da_ij = s'(a_ij),  hence
    δ_L = 2/n e ⊙ s'(a_L)                                                (5)

where ⊙ multiplies entry by entry. By (4'), with x̂ = σ(a), σ' = σ (1 - σ):

    dLoss/da = 1/n (-x/x̂ + (1 - x)/(1 - x̂)) x̂ (1 - x̂)
             = 1/n (-x (1 - x̂) + (1 - x) x̂)  =  1/n (x̂ - x),  hence
    δ_L = 1/n e                                                          (5')

The factor s' has gone: a confident mistake keeps its full gradient.

Now suppose that δ = δ_k is known. (1) in full is a_ic = Σ_j h_ij W_jc + b_c. There
W_jc occurs once for every sample i, with the factor h_ij; b_c likewise, with the
factor 1; h_ij occurs once for every column c, with the factor W_jc. By the chain
rule, a sum over all places where each occurs:

    dLoss/dW_jc = Σ_i h_ij δ_ic    that is   dLoss/dW_k = h_{k-1}ᵀ δ_k   (6)
    dLoss/db_c  = Σ_i δ_ic         that is   dLoss/db_k = Σ_i δ_k        (7)
    dLoss/dh_ij = Σ_c δ_ic W_jc    that is   dLoss/dh_{k-1} = δ_k W_kᵀ   (8)

and by (2), one layer down,

    δ_{k-1} = dLoss/dh_{k-1} ⊙ f'(a_{k-1})                               (9)

From k = L down to 1, that is backpropagation. (8) and (9) end at k = 2: nobody needs
dLoss/dx. f' can be written through h = f(a), so that a need not be kept:

    f             f'(a)
    linear        1
    relu          1 if h > 0, else 0
    leaky_relu    1 if h > 0, else slope
    sigmoid       h (1 - h)
    tanh          1 - h²

The parameters then take one step of Adam or SGD along the gradient (10); both are in
kernels.py, and so are f and f'.


The memory

Everything that a step writes is allocated once, in the constructor. h_k takes the
place of a_k, and δ_k that of dLoss/dh_k. Every parameter is a view of one flat buffer
theta, every gradient of d_theta, so that (10) is one update for all.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from scratchnet import backend, kernels
from scratchnet.backend import Array


class Autoencoder:
    """An autoencoder whose `step` allocates nothing.

    Args:
        sizes: columns of the data, hidden layers, length of the code; the decoder
            mirrors it.
        rng: draws the initial weights, layer by layer.
        batch_size: the most rows that one step can take.
        activation: of the hidden layers, one of `kernels.ACTIVATIONS`.
        slope: of leaky_relu.
        output: "sigmoid", or "linear" for data that are not in [0, 1].
        loss: "squared", or "cross_entropy" for data in [0, 1].
        init: draws each W; every b starts at zero.
        dtype: of the parameters, and of the data that the model accepts.
        optimizer: makes the update from the list of arrays to be updated: `AdamUpdate`,
            or `functools.partial(kernels.SGDUpdate, lr=0.1, momentum=0.9)`.

    Attributes:
        theta, d_theta: all parameters, all gradients, each a flat array.
        parameters, gradients: the same memory by name: "encoder.0.W", ...
        optimizer: the update, with its moments.

    Raises:
        TypeError, ValueError: an argument is not what is said above.

    """

    def __init__(
        self,
        sizes: Sequence[int] = (784, 256, 16),
        *,
        rng: np.random.Generator,
        batch_size: int = 128,
        activation: str = "relu",
        slope: float = 0.2,
        output: str = "sigmoid",
        loss: str = "squared",
        init: kernels.Initialiser = kernels.glorot_uniform,
        dtype: DTypeLike = np.float32,
        optimizer: Callable[[list[Array]], kernels.Update] = kernels.AdamUpdate,
    ) -> None:
        kernels.check_rng("Autoencoder", rng)
        kernels.check_autoencoder(sizes, output, loss)
        kernels.check_count("Autoencoder", "batch_size", batch_size)
        self.sizes = tuple(sizes)
        self.batch_size = batch_size
        self.dtype = kernels.check_dtype("Autoencoder", dtype)

        # Layer k takes d[k - 1] columns to d[k]. The engine counts the activations
        # between its layers too, hence the even numbers in the names.
        C = self.C = len(sizes) - 1
        L = self.L = 2 * C
        d = self.d = (*sizes, *sizes[-2::-1])
        names = [f"{part}.{2 * i}" for part in ("encoder", "decoder") for i in range(C)]
        shapes: dict[str, tuple[int, ...]] = {}
        for k, name in enumerate(names, start=1):
            shapes[f"{name}.W"] = (d[k - 1], d[k])
            shapes[f"{name}.b"] = (d[k],)
        self.theta, self.parameters = kernels.flat(shapes, dtype)
        self.d_theta, self.gradients = kernels.flat(shapes, dtype)

        # Lists with a gap at 0, so that W[k] is the W_k of the derivation.
        self.W: list[Array] = [None, *(self.parameters[f"{name}.W"] for name in names)]
        self.b: list[Array] = [None, *(self.parameters[f"{name}.b"] for name in names)]
        self.dW: list[Array] = [None, *(self.gradients[f"{name}.W"] for name in names)]
        self.db: list[Array] = [None, *(self.gradients[f"{name}.b"] for name in names)]
        for W in self.W[1:]:
            W[...] = init(rng, W.shape, dtype)

        f, none = kernels.activation(activation, slope), kernels.activation("linear")
        self.f = [none if k in (C, L) else f for k in range(L + 1)]
        self.s = kernels.activation(output)
        self.cross_entropy = loss == "cross_entropy"

        # h_k and δ_k of a full batch; h and delta are those of the batch at hand.
        def buffer(k: int) -> Array:
            return backend.empty((batch_size, d[k]), dtype)

        self._h: list[Array] = [None, *(buffer(k) for k in range(1, L + 1))]
        self._delta: list[Array] = [None, *(buffer(k) for k in range(1, L + 1))]
        self._terms = buffer(0)
        self._loss = backend.zeros((), dtype)
        self.h = self._h.copy()
        self.delta = self._delta.copy()
        self.optimizer = optimizer([self.theta])

    # Training

    def step(self, x: Array) -> Array:
        """Take one step down the gradient of the loss of the samples x (n, d_0).

        Returns:
            The loss before the step, a 0-d array that the next step overwrites.

        Raises:
            TypeError, ValueError: the shape or dtype of x, or more than `batch_size`
                rows.

        """
        self.forward(x)
        self.backward()
        self.optimizer.apply([self.theta], [self.d_theta])  # (10)
        return self._loss

    def forward(self, x: Array) -> Array:
        """Compute every h_k, the reconstruction and the loss, and return the loss."""
        self._check(x)
        n = len(x)
        if n > self.batch_size:
            raise ValueError(
                f"Autoencoder: {n} rows at once, and memory for batch_size="
                f"{self.batch_size}"
            )
        L = self.L
        # The last batch of an epoch may be smaller: it takes the first n rows.
        self.delta[1:] = [delta[:n] for delta in self._delta[1:]]
        a = self._layers(x, 1, L)  # the logits
        e = self.delta[L]  # it becomes δ_L on the way back
        if self.cross_entropy:
            kernels.cross_entropy_sum(a, x, self._loss, e, self._terms[:n])  # (4')
        self.s.forward(a, e)  # (3): a becomes x̂
        np.subtract(a, x, out=e)  # (3)
        if not self.cross_entropy:
            np.dot(e.reshape(-1), e.reshape(-1), out=self._loss)  # (4)
        np.divide(self._loss, n, out=self._loss)  # (4), (4')
        return self._loss

    def backward(self) -> None:
        """Compute the gradients at what `forward` left; it uses up every h_k."""
        h, W, dW, db, delta = self.h, self.W, self.dW, self.db, self.delta
        L = self.L
        n = len(h[0])
        if self.cross_entropy:
            np.multiply(delta[L], 1 / n, out=delta[L])  # (5')
        else:
            np.multiply(delta[L], 2 / n, out=delta[L])  # (5)
            self.s.backward(delta[L], h[L])  # (5)
        for k in range(L, 0, -1):
            np.matmul(h[k - 1].T, delta[k], out=dW[k])  # (6)
            np.sum(delta[k], axis=0, out=db[k])  # (7)
            if k > 1:
                np.matmul(delta[k], W[k].T, out=delta[k - 1])  # (8)
                self.f[k - 1].backward(delta[k - 1], h[k - 1])  # (9)

    def _layers(self, h: Array, first: int, last: int) -> Array:
        """Compute h_first, ..., h_last from h_{first-1}, and return h_last."""
        n = len(h)
        self.h[first - 1] = h
        for k in range(first, last + 1):
            a = self._h[k][:n]
            np.matmul(h, self.W[k], out=a)  # (1)
            np.add(a, self.b[k], out=a)  # (1)
            self.f[k].forward(a, self._delta[k][:n])  # (2)
            h = self.h[k] = a
        return h

    # Use

    def encode(self, x: Array) -> Array:
        """Return the codes (n, d_C) of the samples x (n, d_0), for any n."""
        self._check(x)
        return self._in_batches(x, 1, self.C)

    def decode(self, z: Array) -> Array:
        """Return the samples (n, d_0) of the codes z (n, d_C), for any n."""
        kernels.check_rows("Autoencoder", z, self.sizes[-1], self.dtype)
        return self._in_batches(z, self.C + 1, self.L)

    def reconstruct(self, x: Array) -> Array:
        """Return the reconstructions (n, d_0) of the samples x (n, d_0), for any n."""
        self._check(x)
        return self._in_batches(x, 1, self.L)

    def _in_batches(self, h: Array, first: int, last: int) -> Array:
        out = backend.empty((len(h), self.d[last]), self.dtype)
        for i in range(0, len(h), self.batch_size):
            a = self._layers(h[i : i + self.batch_size], first, last)
            if last == self.L:
                self.s.forward(a, self._delta[last][: len(a)])  # (3)
            out[i : i + self.batch_size] = a
        return out

    def loss(self, x: Array) -> Array:
        """Return the loss of the samples x (n, d_0), for any n, as one number."""
        self._check(x)
        total = backend.zeros((), np.float64)
        for i in range(0, len(x), self.batch_size):
            batch = x[i : i + self.batch_size]
            total += self.forward(batch) * len(batch)
        return total / len(x)

    def loss_and_gradients(self, x: Array) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss of x and copies of its gradients by name; changes nothing."""
        self.forward(x)
        self.backward()
        return float(backend.to_numpy(self._loss)), kernels.copy_state(self.gradients)

    def check(self, x: Array) -> None:
        """Raise an error unless x can be trained on: columns, dtype, values."""
        self._check(x)
        if self.cross_entropy:
            kernels.check_unit_interval("Autoencoder", x)

    def _check(self, x: ArrayLike) -> None:
        kernels.check_rows("Autoencoder", x, self.sizes[0], self.dtype)

    # State

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copy the parameters by name, the names of the engine's model."""
        return kernels.copy_state(self.parameters)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set all parameters, or none and say what differs (ValueError)."""
        kernels.load_state("Autoencoder.load_state_dict", self.parameters, state)

    def __reduce__(self) -> Any:
        """Refuse copies: the parts of theta would no longer be parts of it."""
        raise TypeError(
            "Autoencoder (by hand) cannot be copied or pickled, its arrays share "
            "memory; make another one and load_state_dict(model.state_dict())"
        )
