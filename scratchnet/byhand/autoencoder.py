"""The autoencoder with its backward pass derived on paper: NumPy, and no engine.

Read it together with models/autoencoder.py: the same system differentiated by the
engine, with the same names and initial values of the parameters. Equations (1) to
(6) are in mlp.py.


The model

Rows are samples: x is (n, d). The encoder is a network (1, 2) from x to the code z, the
decoder a network from z to the logits a. The decoder's sizes mirror the encoder's. The
last layer of both is linear, so the code and the logits may take any value.

    z = encoder(x)                                (n, c)
    a = decoder(z)                                (n, d)                 (7)

The reconstruction and its error are

    x̂ = s(a),  e = x̂ - x                          (n, d)                 (8)

where s is the sigmoid, the f of the hidden layers, or the identity. The loss is summed
over the columns j and averaged over the n samples i. It is the squared error

    Loss = 1/n Σ_i Σ_j e_ij²                                             (9)

or, for x in [0, 1] and the sigmoid, the cross-entropy

    Loss = 1/n Σ_i Σ_j -x_ij log x̂_ij - (1 - x_ij) log(1 - x̂_ij)         (9')

Each term of (9') is computed as max(a, 0) - a x + log(1 + e^(-|a|)), which stays finite
where x̂ is rounded to 0 or 1.


The gradient

By (9) and (8),

    dLoss/dx̂_ij = 2/n e_ij,   dx̂_ij/da_ij = s'(a_ij),  hence
    dLoss/da = 2/n e ⊙ s'(a)                                             (10)

where ⊙ multiplies entry by entry. By (9'), with the sigmoid's s' = x̂ (1 - x̂):

    dLoss/da = 1/n (-x/x̂ + (1 - x)/(1 - x̂)) x̂ (1 - x̂)
             = 1/n (-x (1 - x̂) + (1 - x) x̂)  =  1/n (x̂ - x),  hence
    dLoss/da = 1/n e                                                     (10')

The factor s' cancels, so a confident mistake keeps its full gradient. From there
backpropagation (3 to 6) leads through the decoder to its input,

    dLoss/dz                                                             (11)

and on through the encoder (12). The parameters then take one step of Adam or SGD
against the gradient; both are in kernels/updates.py.


The step in plain NumPy

One hidden layer with relu, and the squared error. The encoder has W1, b1, W2, b2, the
decoder W3, b3, W4, b4. The last lines are one step of gradient descent.

    h1 = np.maximum(x @ W1 + b1, 0)                            # (1), (2)
    z = h1 @ W2 + b2                                           # (7)
    h3 = np.maximum(z @ W3 + b3, 0)                            # (1), (2)
    a = h3 @ W4 + b4                                           # (7)
    x_hat = 1 / (1 + np.exp(-a))                               # (8)
    e = x_hat - x                                              # (8)
    loss = np.sum(e**2) / n                                    # (9)

    da = 2 / n * e * x_hat * (1 - x_hat)                       # (10)
    dW4, db4 = h3.T @ da, np.sum(da, axis=0)                   # (3), (4)
    delta3 = (da @ W4.T) * (h3 > 0)                            # (5), (6)
    dW3, db3 = z.T @ delta3, np.sum(delta3, axis=0)            # (3), (4)
    dz = delta3 @ W3.T                                         # (11)
    dW2, db2 = h1.T @ dz, np.sum(dz, axis=0)                   # (12)
    delta1 = (dz @ W2.T) * (h1 > 0)                            # (12)
    dW1, db1 = x.T @ delta1, np.sum(delta1, axis=0)            # (12)

    for p, dp in [(W1, dW1), (b1, db1), (W2, dW2), (b2, db2),
                  (W3, dW3), (b3, db3), (W4, dW4), (b4, db4)]:
        p -= lr * dp

For the cross-entropy, replace two lines. Each term of (9') is log(1 + e^a) - a x, and
np.logaddexp(0, a) computes log(1 + e^a) without overflow:

    loss = np.sum(np.logaddexp(0, a) - a * x) / n              # (9')
    da = 1 / n * e                                             # (10')
"""

from collections.abc import Sequence
from typing import Unpack

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import backend, checks, twins
from scratchnet.backend import Array
from scratchnet.byhand.mlp import MLP, shapes
from scratchnet.byhand.system import Minimizer
from scratchnet.kernels import activations, initializers
from scratchnet.kernels.updates import UpdateOptions, make_update


class Autoencoder(Minimizer):
    """An autoencoder whose `step` allocates nothing.

    Args:
        sizes: columns of the data, hidden layers, length of the code; the decoder
            mirrors them.
        rng: draws the initial weights, layer by layer.
        batch_size: the largest number of rows in one step.
        activation: of the hidden layers: "relu", "leaky_relu", "sigmoid", "tanh" or
            "linear".
        slope: of leaky_relu.
        active_code: whether the code has the activation too.
        output: "sigmoid"; "linear" for data outside [0, 1]; or "activation", that of
            the hidden layers, for data that such a layer computed.
        loss: "squared", or "cross_entropy" for data in [0, 1].
        init: draws each W; every b starts at zero.
        dtype: of the parameters, and of the data that the model accepts.
        update: what `step` does with the gradient: "adam", "adamw" or "sgd".
        **options: of that update: lr (a number, or a function of the number of steps
            taken so far), betas, ...; see `optim.Adam`, `optim.AdamW`, `optim.SGD`.

    Raises:
        TypeError, ValueError: an argument has a wrong type or value.

    """

    def __init__(
        self,
        sizes: Sequence[int] = (784, 256, 16),
        *,
        rng: np.random.Generator,
        batch_size: int = 128,
        activation: str = "relu",
        slope: float = 0.2,
        active_code: bool = False,
        output: str = "sigmoid",
        loss: str = "squared",
        init: initializers.Initializer = initializers.glorot_uniform,
        dtype: DTypeLike = np.float32,
        update: str = "adam",
        **options: Unpack[UpdateOptions],
    ) -> None:
        checks.rng(self._name, rng)
        twins.check_autoencoder(self._name, sizes, output, loss)
        checks.function(self._name, "init", init, "nn.glorot_uniform")
        super().__init__(batch_size, dtype)
        self.sizes = tuple(sizes)
        mirrored = self.sizes[::-1]
        self.theta, self.d_theta = self._allocate(
            shapes("encoder", sizes) | shapes("decoder", mirrored)
        )
        f = activations.activation(activation, slope)
        self.encoder = MLP(
            "encoder", sizes, self.parameters, self.gradients, rows=batch_size,
            dtype=dtype, activation=f, last=f if active_code else None,
        )  # fmt: skip
        self.decoder = MLP(
            "decoder", mirrored, self.parameters, self.gradients, rows=batch_size,
            dtype=dtype, activation=f, inputs=True,
        )  # fmt: skip
        self.encoder.initialize(rng, init)
        self.decoder.initialize(rng, init)
        self.s = f if output == "activation" else activations.activation(output)
        self.cross_entropy = loss == "cross_entropy"
        self.bounded = output == "sigmoid"
        self._losses = backend.empty(batch_size, dtype)  # of each sample
        self._terms = backend.empty((batch_size, self.sizes[0]), dtype)
        self.optimizer = make_update(self._name, [self.theta], update=update, **options)

    # Training

    def forward(self, x: Array) -> Array:
        """Compute the reconstruction and the loss of x (n, d); return the loss."""
        x = self._check_rows(x, self.sizes[0])
        return self._forward(x, x)

    def _forward(self, x: Array, x_in: Array) -> Array:
        """Compute the loss of the reconstruction of x_in (n, d) against x (n, d)."""
        n = len(x)
        a = self.decoder.forward(self.encoder.forward(x_in))  # (7)
        x_hat = a  # x̂ overwrites a
        e = self.decoder.dh  # the backward pass overwrites e with dLoss/da
        if self.cross_entropy:
            losses = self._losses[:n]
            activations.cross_entropy(a, x, losses, e, self._terms)  # (8), (9')
            np.sum(losses, out=self._loss)  # (9')
        else:
            self.s.forward(a, self.decoder.scratch[-1])  # (8)
            np.subtract(x_hat, x, out=e)  # (8)
            np.dot(e.reshape(-1), e.reshape(-1), out=self._loss)  # (9)
        np.divide(self._loss, self._whole(n), out=self._loss)  # (9), (9')
        return self._loss

    def backward(self) -> None:
        """Compute the gradients after `forward`, and overwrite what it computed."""
        x_hat = self.decoder.h[-1]
        e = da = self.decoder.dh  # dLoss/da overwrites e
        n = self._whole(len(e))
        if self.cross_entropy:
            np.multiply(e, 1 / n, out=da)  # (10')
        else:
            np.multiply(e, 2 / n, out=da)  # (10)
            self.s.backward(da, x_hat)  # (10)
        dz = self.decoder.backward(da, inputs=True)  # (11)
        self.encoder.backward(dz)  # (12)

    # Use

    def encode(self, x: Array) -> Array:
        """Return the codes (n, c) of the samples x (n, d), for any n."""
        x = checks.rows(self._name, x, self.sizes[0], self.dtype)
        return self._in_batches(self.encoder.forward, x, self.sizes[-1])

    def decode(self, z: Array) -> Array:
        """Return the samples (n, d) of the codes z (n, c), for any n."""
        z = checks.rows(self._name, z, self.sizes[-1], self.dtype, "z")
        return self._in_batches(self._decode, z, self.sizes[0])

    def reconstruct(self, x: Array) -> Array:
        """Return the reconstructions (n, d) of the samples x (n, d), for any n."""
        return self.decode(self.encode(x))

    def _decode(self, z: Array) -> Array:
        a = self.decoder.forward(z)
        self.s.forward(a, self.decoder.scratch[-1])  # (8)
        return a

    def check(self, x: Array) -> None:
        """Raise an error unless x has the columns, dtype and values to train on."""
        checks.rows(self._name, x, self.sizes[0], self.dtype)
        if self.bounded:
            checks.unit_interval(self._name, x, "output='linear'")
