"""The variational autoencoder with its backward pass derived on paper.

Read it together with models/vae.py, the same system differentiated by the engine.
Equations (1) to (6) are in mlp.py. σ is a standard deviation, σ = exp(log_var / 2). The
sigmoid is s(a) = 1 / (1 + exp(-a)).


The model (Kingma & Welling 2014)

The code z of a sample has the prior p(z) = N(0, 1) in each of its c columns, and the
decoder gives p(x | z). The encoder approximates the posterior p(z | x) by a Gaussian
q(z | x). It is a network (1, 2) whose last layer has 2c columns: mu, and the logarithm
of the variance, which may take any value,

    [mu, log_var] = encoder(x)                    (n, 2c)                (7)

A draw z from q is computed from mu, log_var and noise ε from N(0, 1), a distribution
without parameters. This is the reparameterisation (section 2.4 of the paper); "The
gradient" below says why it is needed. With σ = exp(log_var / 2),

    z = mu + σ ⊙ ε                                (n, c)                 (8)
    a = decoder(z)                                (n, d)                 (9)

A Bernoulli decoder returns logits a. With x in [0, 1] and the sigmoid s,

    -log p(x | z) = Σ_j -x_j log s(a_j) - (1 - x_j) log(1 - s(a_j))      (10)

A Gaussian decoder returns means a. All columns have the variance e^λ; λ is a parameter:

    -log p(x | z) = 1/2 Σ_j (e_j² e^-λ + λ + log 2π),   e = a - x        (10')


The loss is a bound

log p(x) is the logarithm of an integral over all z. Write the integral as a mean over
q, and move the logarithm inside the mean. It is concave, so the result is not larger
(Jensen's inequality):

    log p(x) = log ∫ p(x | z) p(z) dz = log E_q[p(x | z) p(z) / q(z | x)]
             ≥ E_q[log p(x | z) + log p(z) - log q(z | x)]
             = E_q[log p(x | z)] - KL(q(z | x) ‖ p(z))

The last line is the evidence lower bound (ELBO). The gap to log p(x) is
KL(q(z | x) ‖ p(z | x)), so the bound is tight where q is the posterior. The KL
divergence to the prior has a closed form; for one column, with E_q[z²] = mu² + σ² and
E_q[(z - mu)²] = σ²,

    KL = E_q[log q(z | x) - log p(z)]
       = E_q[-1/2 log σ² - (z - mu)² / (2σ²) + z² / 2]     the log 2π cancel
       = 1/2 (-log_var - 1 + mu² + σ²)

The columns are independent, so their divergences add up:

    KL = 1/2 Σ_j (mu_j² + exp(log_var_j) - 1 - log_var_j)                (11)

The first term of the ELBO is estimated by one draw z. For β = 1 the loss is minus the
ELBO (equation 10 of the paper), averaged over the samples:

    Loss = 1/n Σ_i (-log p(x_i | z_i) + β KL_i)                          (12)


The gradient

By (10), as for the cross-entropy in autoencoder.py, and by (10'):

    dLoss/da = 1/n (s(a) - x)                                            (13)
    dLoss/da = 1/n e^-λ e                                                (13')
    dLoss/dλ = 1/2 (d - 1/n e^-λ Σ_i Σ_j e_ij²)                          (13")

Backpropagation (3 to 6) through the decoder gives

    dLoss/dz                                                             (14)

Now the reparameterisation is needed. Let r(z) = -log p(x | z). We want the gradient of
E_q[r(z)] with respect to mu and σ, but q itself depends on them: the derivative cannot
simply move inside the mean, and a number drawn from q has no derivative with respect to
mu. By (8) the same mean is one over ε, whose distribution has no parameter, so the
derivative moves inside:

    d/dmu E_q[r(z)] = d/dmu E_ε[r(mu + σ ε)] = E_ε[r'(mu + σ ε)]

One draw of ε estimates this without bias. For a given ε, z in (8) is an ordinary
function of mu and log_var:

    dz/dmu = 1,   dz/dlog_var = ε dσ/dlog_var = 1/2 σ ε

With the derivatives of (11), mu and (exp(log_var) - 1) / 2,

    dLoss/dmu      = dLoss/dz + β/n mu                                   (15)
    dLoss/dlog_var = dLoss/dz ⊙ 1/2 σ ⊙ ε + β/(2n) (exp(log_var) - 1)    (16)

Side by side, (15) and (16) are the gradient with respect to the encoder's output; (3 to
6) lead from there through the encoder (17).


The step in plain NumPy

A Bernoulli decoder; one hidden layer with relu in each network. The encoder has W1, b1,
W2, b2, the decoder W3, b3, W4, b4. Each term of (10) is log(1 + e^a) - a x.

    h1 = np.maximum(x @ W1 + b1, 0)                            # (1), (2)
    mu, log_var = np.split(h1 @ W2 + b2, 2, axis=1)            # (7)
    sigma = np.exp(log_var / 2)                                # (8)
    z = mu + sigma * eps                                       # (8)
    h3 = np.maximum(z @ W3 + b3, 0)                            # (1), (2)
    a = h3 @ W4 + b4                                           # (9)
    nll = np.sum(np.logaddexp(0, a) - a * x)                   # (10)
    kl = np.sum(mu**2 + np.exp(log_var) - 1 - log_var) / 2     # (11)
    loss = 1 / n * (nll + beta * kl)                           # (12)

    da = 1 / n * (1 / (1 + np.exp(-a)) - x)                    # (13)
    dW4, db4 = h3.T @ da, np.sum(da, axis=0)                   # (3), (4)
    delta3 = (da @ W4.T) * (h3 > 0)                            # (5), (6)
    dW3, db3 = z.T @ delta3, np.sum(delta3, axis=0)            # (3), (4)
    dz = delta3 @ W3.T                                         # (14)
    dmu = dz + beta / n * mu                                   # (15)
    dlog_var = dz * sigma * eps / 2 + beta / 2 / n * (np.exp(log_var) - 1)  # (16)
    delta2 = np.hstack([dmu, dlog_var])                        # (17)
    dW2, db2 = h1.T @ delta2, np.sum(delta2, axis=0)           # (17)
    delta1 = (delta2 @ W2.T) * (h1 > 0)                        # (17)
    dW1, db1 = x.T @ delta1, np.sum(delta1, axis=0)            # (17)

For a Gaussian decoder, replace nll and da. lam is λ, a parameter too:

    e = a - x                                                  # (10')
    nll = np.sum(e**2 * np.exp(-lam) + lam + np.log(2 * np.pi)) / 2  # (10')
    da = 1 / n * np.exp(-lam) * e                              # (13')
    dlam = (d - 1 / n * np.exp(-lam) * np.sum(e**2)) / 2       # (13")
"""

import math
from collections.abc import Sequence
from typing import Unpack

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import backend, checks
from scratchnet.backend import Array
from scratchnet.byhand.mlp import MLP, shapes
from scratchnet.byhand.system import Minimizer
from scratchnet.kernels import activations, initializers
from scratchnet.kernels.updates import UpdateOptions, make_update
from scratchnet.twins import LatentVariableModel, check_vae, log_bernoulli, log_gaussian


class VAE(Minimizer, LatentVariableModel):
    """A variational autoencoder whose `step` allocates nothing.

    Numbers in brackets are equations in the docstring of byhand/vae.py.

    Args:
        sizes: columns of the data, hidden layers, length of the code; the decoder
            mirrors them.
        rng: draws the initial weights, layer by layer.
        batch_size: the largest number of rows in one step.
        activation: of the hidden layers: "relu", "leaky_relu", "sigmoid", "tanh" or
            "linear".
        slope: of leaky_relu.
        decoder: "bernoulli" for data in [0, 1] (10), or "gaussian" (10').
        beta: the weight β of the KL divergence (Higgins et al. 2017); 1 is the bound.
        init: draws each W; every b, and λ, starts at zero.
        dtype: of the parameters, and of the data that the model accepts.
        update, **options: as for `Autoencoder`.

    Raises:
        TypeError, ValueError: an argument has a wrong type or value.

    """

    def __init__(
        self,
        sizes: Sequence[int] = (784, 512, 20),
        *,
        rng: np.random.Generator,
        batch_size: int = 128,
        activation: str = "relu",
        slope: float = 0.2,
        decoder: str = "bernoulli",
        beta: float = 1.0,
        init: initializers.Initializer = initializers.glorot_uniform,
        dtype: DTypeLike = np.float32,
        update: str = "adam",
        **options: Unpack[UpdateOptions],
    ) -> None:
        checks.rng(self._name, rng)
        check_vae(self._name, sizes, decoder, beta)
        checks.function(self._name, "init", init, "nn.glorot_uniform")
        super().__init__(batch_size, dtype)
        self.sizes = tuple(sizes)
        self.gaussian = decoder == "gaussian"
        self.beta = float(beta)
        d, *hidden, c = sizes
        inwards, outwards = (d, *hidden, 2 * c), self.sizes[::-1]
        made = shapes("encoder", inwards) | shapes("decoder", outwards)
        if self.gaussian:
            made["log_var_x"] = (1,)
        self.theta, self.d_theta = self._allocate(made)
        f = activations.activation(activation, slope)
        rows = self._decoder_rows()
        self.encoder = MLP(
            "encoder", inwards, self.parameters, self.gradients, rows=batch_size,
            dtype=dtype, activation=f,
        )  # fmt: skip
        self.decoder = MLP(
            "decoder", outwards, self.parameters, self.gradients, rows=rows,
            dtype=dtype, activation=f, inputs=True,
        )  # fmt: skip
        self.encoder.initialize(rng, init)
        self.decoder.initialize(rng, init)
        self._sigmoid = activations.activation("sigmoid").forward
        self._z = backend.empty((rows, c), dtype)
        self._sigma = backend.empty((batch_size, c), dtype)
        self._nll = backend.empty(batch_size, dtype)  # of each sample
        self._terms = backend.empty((rows, d), dtype)
        self._kl = backend.zeros((), self.dtype)
        if self.gaussian:
            self._lam = self.parameters["log_var_x"].reshape(())
            self._d_lam = self.gradients["log_var_x"].reshape(())
            self._precision = backend.zeros((), self.dtype)
            self._log_2pi_var = backend.zeros((), self.dtype)
        self.optimizer = make_update(self._name, [self.theta], update=update, **options)

    def _decoder_rows(self) -> int:
        """Return the largest number of rows in one call of the decoder."""
        return self.batch_size

    # Training

    def forward(self, x: Array, eps: Array) -> Array:
        """Compute the loss of x (n, d) under the noise eps (n, c), and return it."""
        d, c = self.sizes[0], self.sizes[-1]
        x = self._check_rows(x, d)
        n = len(x)
        eps = checks.noise(self._name, eps, (n, c), self.dtype)
        self.x, self.eps = x, eps
        self.mu, self.log_var = self._encode(x)  # (7)
        sigma, z = self._sigma[:n], self._z[:n]
        np.multiply(self.log_var, 0.5, out=sigma)
        np.exp(sigma, out=sigma)
        np.multiply(sigma, eps, out=z)  # (8)
        np.add(z, self.mu, out=z)  # (8)
        a = self.decoder.forward(z)  # (9)
        self._reconstruct(a, x)  # (10), (10')
        terms = self.encoder.scratch[-1]  # of (11), (n, 2c)
        np.multiply(self.mu, self.mu, out=terms[:, :c])
        np.expm1(self.log_var, out=terms[:, c:])
        np.subtract(terms[:, c:], self.log_var, out=terms[:, c:])
        np.sum(terms, out=self._kl)  # (11), twice
        np.multiply(self._kl, self.beta / 2, out=self._kl)
        np.add(self._loss, self._kl, out=self._loss)
        np.divide(self._loss, self._whole(n), out=self._loss)  # (12)
        return self._loss

    def _encode(self, x: Array) -> tuple[Array, Array]:
        c = self.sizes[-1]
        h = self.encoder.forward(x)
        return h[:, :c], h[:, c:]

    def _reconstruct(self, a: Array, x: Array) -> None:
        """Write Σ -log p(x | z) to the loss, and n dLoss/da to the decoder's dh."""
        da = self.decoder.dh
        loss = self._loss
        if not self.gaussian:
            nll = self._nll[: len(x)]
            activations.cross_entropy(a, x, nll, da, self._terms)  # (10), (13)
            np.sum(nll, out=loss)  # (10)
            return
        e = da  # dLoss/da overwrites e
        np.subtract(a, x, out=e)
        np.dot(e.reshape(-1), e.reshape(-1), out=loss)
        np.negative(self._lam, out=self._precision)
        np.exp(self._precision, out=self._precision)
        np.multiply(loss, self._precision, out=loss)
        np.subtract(x.size, loss, out=self._d_lam)
        np.divide(self._d_lam, 2 * self._whole(len(x)), out=self._d_lam)  # (13")
        np.add(self._lam, math.log(2 * math.pi), out=self._log_2pi_var)
        np.multiply(self._log_2pi_var, x.size, out=self._log_2pi_var)
        np.add(loss, self._log_2pi_var, out=loss)
        np.multiply(loss, 0.5, out=loss)  # (10')
        np.multiply(e, self._precision, out=da)  # (13')

    def backward(self) -> None:
        """Compute the gradients after `forward`, and overwrite what it computed."""
        rows = len(self.x)
        n = self._whole(rows)
        da = self.decoder.dh
        np.multiply(da, 1 / n, out=da)  # (13), (13')
        dz = self.decoder.backward(da, inputs=True)  # (14)
        both = self.encoder.dh
        d_mu, d_log_var = both[:, : self.sizes[-1]], both[:, self.sizes[-1] :]
        sigma = self._sigma[:rows]
        np.multiply(dz, self.eps, out=d_log_var)
        np.multiply(d_log_var, sigma, out=d_log_var)
        np.multiply(d_log_var, 0.5, out=d_log_var)  # (16)
        np.multiply(self.mu, self.beta / n, out=d_mu)
        np.add(d_mu, dz, out=d_mu)  # (15)
        d_kl = sigma  # the same memory: σ is no longer needed
        np.expm1(self.log_var, out=d_kl)
        np.multiply(d_kl, self.beta / (2 * n), out=d_kl)
        np.add(d_log_var, d_kl, out=d_log_var)  # (16)
        self.encoder.backward(both)  # (17)

    # Use

    def posterior(self, x: Array) -> tuple[Array, Array]:
        """Return mu and log_var of q(z | x), (n, c) each, for x (n, d), any n."""
        x = checks.rows(self._name, x, self.sizes[0], self.dtype)
        c = self.sizes[-1]
        both = self._in_batches(self.encoder.forward, x, 2 * c)
        return both[:, :c], both[:, c:]

    def encode(self, x: Array) -> Array:
        """Return the codes (n, c) of the samples x (n, d): the mean mu of q(z | x)."""
        return self.posterior(x)[0]

    def decode(self, z: Array) -> Array:
        """Return the mean of p(x | z) (n, d) for the codes z (n, c), for any n."""
        a = self._logits(z)
        if not self.gaussian:
            self._sigmoid(a, None)
        return a

    def reconstruct(self, x: Array) -> Array:
        """Return decode(encode(x)), (n, d)."""
        return self.decode(self.encode(x))

    def log_p_x(self, x: Array, z: Array) -> Array:
        """Return log p(x_i | z_i) for each row (n,), in nats."""
        x = checks.rows(self._name, x, self.sizes[0], self.dtype)
        a = self._logits(z)
        checks.equal_rows(self._name, x=x, z=z)
        if self.gaussian:
            return log_gaussian(x, a, self.parameters["log_var_x"])
        return log_bernoulli(x, a)

    def _logits(self, z: Array) -> Array:
        z = checks.rows(self._name, z, self.sizes[-1], self.dtype, "z")
        return self._in_batches(self.decoder.forward, z, self.sizes[0])

    def check(self, x: Array) -> None:
        """Raise an error unless x has the columns, dtype and values to train on."""
        checks.rows(self._name, x, self.sizes[0], self.dtype)
        if not self.gaussian:
            checks.unit_interval(self._name, x, "decoder='gaussian'")
