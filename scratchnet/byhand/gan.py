"""The generative adversarial network, with both updates derived on paper.

Read it together with models/gan.py, the same system differentiated by the engine.
Equations (1) to (6) are in mlp.py. σ is the sigmoid.


The game (Goodfellow et al. 2014, equation 1)

The generator G is a network (1, 2) from noise z to samples. The discriminator D is a
network from a sample to one logit a; D(x) = σ(a) is its probability that x is real. For
n real samples x and n vectors of noise z,

    x_f = G(z)                                    (n, d)
    a_r = logit of x,  a_f = logit of x_f         (n, 1)                 (7)

    V(D, G) = 1/n Σ log D(x) + 1/n Σ log(1 - D(G(z)))
            = - 1/n Σ softplus(-a_r) - 1/n Σ softplus(a_f)               (8)

because log σ(a) = -log(1 + e^-a) = -softplus(-a) and 1 - σ(a) = σ(-a). D maximises V,
G minimises it.


The best D, and the value of V there (section 4.1)

Let the data have the density p, and the samples of a given G the density q. As n grows,
V becomes

    V(D, G) = ∫ p(x) log D(x) + q(x) log(1 - D(x)) dx

D can be chosen at each x alone. As a function of the number D(x) the integrand is
concave: its second derivative, -p/D² - q/(1 - D)², is negative. So it is largest where
the first derivative is zero:

    d/dD [p log D + q log(1 - D)] = p/D - q/(1 - D) = 0
    p (1 - D) = q D,   that is   D* = p/(p + q)

With m = (p + q)/2, D* = p/(2m) and 1 - D* = q/(2m). As p and q each integrate to 1,
each factor 1/2 gives -log 2:

    V(D*, G) = ∫ p log(p/(2m)) + q log(q/(2m)) dx
             = -2 log 2 + KL(p ‖ m) + KL(q ‖ m)
             = -log 4 + 2 JSD(p ‖ q)

The Jensen-Shannon divergence JSD is the mean of both KL divergences. KL is at least 0:
since log t ≤ t - 1,

    -KL(p ‖ m) = ∫ p log(m/p) dx ≤ ∫ p (m/p - 1) dx ≤ 1 - 1 = 0

and log t = t - 1 only at t = 1, so KL is 0 only if p = m. Thus G's minimum is -log 4,
reached only where q = p. D* is then 1/2 everywhere.


The update of D

Both terms depend on D's parameters. With softplus' = σ,

    dV/da_r = 1/n (1 - σ(a_r)),   dV/da_f = - 1/n σ(a_f)                 (9)

Backpropagation (3 to 6) turns these into dV/dθ_D. Real and generated samples are the 2n
rows of one batch, so for a layer of D

    dV/dW_k = h_{k-1}ᵀ δ_k, summed over the real rows and over the generated rows

with δ_L from (9). The update raises a_r and lowers a_f: D learns to call real samples
real and generated ones generated. Each row is weighted by the probability that D gives
to the wrong answer. The code minimises Loss = -V, so its signs are the opposite.


The update of G

The first term of V, 1/n Σ log D(x), does not contain G: its gradient with respect to
θ_G is zero.
The second contains G through x_f. G minimises

    Loss = 1/n Σ log(1 - D(G(z))) = - 1/n Σ softplus(a_f)
    dLoss/da_f = - 1/n σ(a_f)                                            (10)

as the lecture writes it. Early in training D is nearly certain, σ(a_f) ≈ 0, and this
gradient is nearly zero: the loss saturates. So Goodfellow et al. let G maximise
log D(G(z)) instead. The fixed point is the same, and the gradient is largest where G is
worst:

    Loss = - 1/n Σ log D(G(z)) = 1/n Σ softplus(-a_f)
    dLoss/da_f = - 1/n (1 - σ(a_f))                                      (10')

From dLoss/da_f, backpropagation leads through D to its input, (5) at k = 1,

    dLoss/dx_f                                                           (11)

D's parameters do not change. From there backpropagation leads through G (12): for a
layer of G, dLoss/dW_k = h_{k-1}ᵀ δ_k again, starting from dLoss/dh_L = dLoss/dx_f.


Pairs (Jolicoeur-Martineau 2019; Huang et al. 2024, equation 2)

If D judges each sample alone, G may miss modes. Here D compares a pair and says which
sample is the real one: with t = a_r - a_f,

    D: Loss = 1/n Σ softplus(-t),   dLoss/da_r = -dLoss/da_f = - 1/n (1 - σ(t))  (13)
    G: Loss = 1/n Σ softplus(t),    dLoss/da_f = - 1/n σ(t)                      (14)


Packs (Lin et al. 2018)

D may also get m samples at once, side by side in one row, all real or all generated, so
that it can detect a lack of variety. Above, n is then the number of rows that D gets,
and dLoss/dx_f is split into samples again.


The gradient penalties R1 and R2 (Mescheder et al. 2018, equation 9)

    R1 = γ/2 · 1/n Σ_i ‖∇_x a(x_i)‖²   over real samples;  R2, over generated ones  (15)

are added to D's loss. Their gradient with respect to θ_D is a derivative of a
derivative. But if f
is relu or leaky_relu, m_k = f_k'(a_k) is constant around nearly every input, and the
input gradient is a chain of products. Write s_k for da/da_k and u_k for da/dh_k. From
s_L = 1,

    u_{k-1} = s_k W_kᵀ,   s_k = u_k ⊙ m_k                                (16)

down to u_0 = ∇_x a. These are (5) and (6), for the logit instead of a loss. R1 is a
function of u_0, and the chain is linear, so it is differentiated by going through it
once more from its end to its start. With v_k = dR1/du_k,

    v_0 = γ/n u_0                                                        (17)

W_k occurs in (16) as u_ij = Σ_c s_ic W_jc, so

    dR1/dW_k = v_{k-1}ᵀ s_k                                              (18)
    dR1/ds_k = v_{k-1} W_k,   v_k = dR1/ds_k ⊙ m_k                       (19)

for k = 1, ..., L. This looks like a forward pass of v_0, without biases and with the
masks m_k instead of f. The biases do not occur in (16), so their gradient of R1 is 0.


The step in plain NumPy

Both networks have one hidden layer with relu. G has W1, b1, W2, b2 and ends in a
sigmoid; D has W3, b3, W4, b4. 1 - σ(a) is 1 / (1 + e^a). D's step, for n rows of x and
of z:

    h1 = np.maximum(z @ W1 + b1, 0)                            # (1), (2)
    x_f = 1 / (1 + np.exp(-(h1 @ W2 + b2)))                    # (7)
    both = np.vstack([x, x_f])                                 # (2n, d)
    h3 = np.maximum(both @ W3 + b3, 0)                         # (1), (2)
    a_r, a_f = np.split(h3 @ W4 + b4, 2)                       # (7)
    loss = np.mean(np.logaddexp(0, -a_r)) + np.mean(np.logaddexp(0, a_f))  # (8), -V

    da_r = -1 / n * (1 / (1 + np.exp(a_r)))                    # (9), of -V
    da_f = 1 / n * (1 / (1 + np.exp(-a_f)))                    # (9), of -V
    da = np.vstack([da_r, da_f])
    dW4, db4 = h3.T @ da, np.sum(da, axis=0)                   # (3), (4)
    delta3 = (da @ W4.T) * (h3 > 0)                            # (5), (6)
    dW3, db3 = both.T @ delta3, np.sum(delta3, axis=0)         # (3), (4)

    for p, dp in [(W3, dW3), (b3, db3), (W4, dW4), (b4, db4)]:
        p -= lr * dp                                           # G stays

G's step, with the loss that does not saturate:

    h1 = np.maximum(z @ W1 + b1, 0)                            # (1), (2)
    x_f = 1 / (1 + np.exp(-(h1 @ W2 + b2)))                    # (7)
    h3 = np.maximum(x_f @ W3 + b3, 0)                          # (1), (2)
    a_f = h3 @ W4 + b4                                         # (7)
    loss = np.mean(np.logaddexp(0, -a_f))                      # (10')

    da_f = -1 / n * (1 / (1 + np.exp(a_f)))                    # (10')
    delta3 = (da_f @ W4.T) * (h3 > 0)                          # (5), (6)
    dx_f = delta3 @ W3.T                                       # (11)
    delta2 = dx_f * x_f * (1 - x_f)                            # (12)
    dW2, db2 = h1.T @ delta2, np.sum(delta2, axis=0)           # (12)
    delta1 = (delta2 @ W2.T) * (h1 > 0)                        # (12)
    dW1, db1 = z.T @ delta1, np.sum(delta1, axis=0)            # (12)

    for p, dp in [(W1, dW1), (b1, db1), (W2, dW2), (b2, db2)]:
        p -= lr * dp                                           # D stays

For the loss that saturates, replace two lines of G's step:

    loss = -np.mean(np.logaddexp(0, a_f))                      # (10)
    da_f = -1 / n * (1 / (1 + np.exp(-a_f)))                   # (10)

For pairs, replace three lines of D's step:

    loss = np.mean(np.logaddexp(0, a_f - a_r))                 # (13)
    da_r = -1 / n * (1 / (1 + np.exp(a_r - a_f)))              # (13)
    da_f = -da_r                                               # (13)

and two of G's step, which needs a_r too:

    a_r = np.maximum(x @ W3 + b3, 0) @ W4 + b4                 # (7)
    loss = np.mean(np.logaddexp(0, a_r - a_f))                 # (14)
    da_f = -1 / n * (1 / (1 + np.exp(a_f - a_r)))              # (14)

For R1, add these lines before D's update; m is f' of the real samples, u0 is ∇_x a:

    m = h3[:n] > 0
    s = W4.T * m                                               # (16), s_2 being 1
    u0 = s @ W3.T                                              # (16)
    loss += gamma / 2 / n * np.sum(u0**2)                      # (15)
    v0 = gamma / n * u0                                        # (17)
    dW3 += v0.T @ s                                            # (18)
    dW4 += np.sum((v0 @ W3) * m, axis=0)[:, None]              # (18), (19)
"""

from collections.abc import Sequence
from typing import Unpack

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import backend, checks, twins
from scratchnet.backend import Array
from scratchnet.byhand.mlp import MLP, shapes
from scratchnet.byhand.system import System
from scratchnet.kernels import activations, initializers
from scratchnet.kernels.updates import (
    NETWORKS,
    GANUpdateOptions,
    make_update,
    options_of,
)


class GAN(System):
    """A generator and a discriminator whose steps allocate nothing.

    Numbers in brackets are equations in the docstring of byhand/gan.py.

    Args:
        generator: columns of the noise, hidden layers, columns of a sample.
        discriminator: columns of `packing` samples, hidden layers, 1.
        rng: draws the initial weights, the generator's first.
        batch_size: the largest number of real samples, and of noise rows, in one step.
        activation: of the hidden layers: "relu", "leaky_relu", "sigmoid", "tanh" or
            "linear".
        slope: of leaky_relu.
        output: of the generator: "linear", "sigmoid" or "tanh".
        objective: the generator's loss: "saturating" (10), "non_saturating" (10') or
            "relativistic" (13, 14), which changes D's loss too.
        r1, r2: γ of each penalty (15); they need relu or leaky_relu.
        packing: how many samples D gets at once.
        init: draws each W; every b starts at zero.
        dtype: of the parameters, and of the data that the model accepts.
        **options: update, lr, betas, ...: as for `Autoencoder`. An option of one
            network begins with its name: generator_lr, discriminator_update, ...

    Raises:
        TypeError, ValueError: an argument has a wrong type or value.

    """

    def __init__(
        self,
        generator: Sequence[int] = (64, 512, 784),
        discriminator: Sequence[int] = (784, 512, 1),
        *,
        rng: np.random.Generator,
        batch_size: int = 128,
        activation: str = "leaky_relu",
        slope: float = 0.2,
        output: str = "sigmoid",
        objective: str = "non_saturating",
        r1: float = 0.0,
        r2: float = 0.0,
        packing: int = 1,
        init: initializers.Initializer = initializers.glorot_uniform,
        dtype: DTypeLike = np.float32,
        **options: Unpack[GANUpdateOptions],
    ) -> None:
        checks.rng(self._name, rng)
        twins.check_gan(generator, discriminator, output, objective, r1, r2, packing)
        if (r1 or r2) and activation not in ("relu", "leaky_relu"):
            raise ValueError(
                f"GAN: r1 and r2 need activation relu or leaky_relu, not {activation}"
            )
        checks.function(self._name, "init", init, "nn.glorot_uniform")
        super().__init__(batch_size, dtype)
        self.generator_sizes = tuple(generator)
        self.discriminator_sizes = tuple(discriminator)
        self.objective = objective
        self.r1, self.r2 = float(r1), float(r2)
        self.packing = packing

        f = activations.activation(activation, slope)
        self.theta_g, self.d_theta_g = self._allocate(shapes("generator", generator))
        self.theta_d, self.d_theta_d = self._allocate(
            shapes("discriminator", discriminator)
        )
        self.generator = MLP(
            "generator", generator, self.parameters, self.gradients, rows=batch_size,
            dtype=dtype, activation=f, last=activations.activation(output),
        )  # fmt: skip
        self.discriminator = MLP(
            "discriminator", discriminator, self.parameters, self.gradients,
            rows=2 * batch_size, dtype=dtype, activation=f, inputs=True,
        )  # fmt: skip
        self.generator.initialize(rng, init)
        self.discriminator.initialize(rng, init)
        self.optimizer, self.discriminator_optimizer = (
            make_update(f"GAN: {net}", [theta], **options_of(net, options))
            for net, theta in zip(NETWORKS, (self.theta_g, self.theta_d), strict=True)
        )

        self._samples = backend.empty((2 * batch_size, generator[-1]), dtype)
        self._args = backend.empty((2 * batch_size, 1), dtype)  # of softplus
        self._loss = backend.zeros((), self.dtype)
        self._penalty = backend.zeros((), self.dtype)
        if r1 or r2:
            rows = 2 * batch_size if r1 and r2 else batch_size
            self._u = [backend.empty((rows, d), dtype) for d in discriminator[:-1]]
            self._penalty_dW = [None, *(backend.zeros(W.shape, dtype)
                                        for W in self.discriminator.W[1:])]  # fmt: skip
        self._sigmoid = activations.activation("sigmoid").forward

    @property
    def paired(self) -> bool:
        """Whether the generator's step needs real samples."""
        return self.objective == "relativistic"

    # Training

    def discriminator_step(self, x: Array, z: Array) -> Array:
        """Take one step of D, which raises V: x (n, d) real samples, z (n, k) noise.

        Returns:
            D's loss before the step, penalties included: a 0-d array that the next
            step overwrites.

        Raises:
            TypeError, ValueError: a wrong shape or dtype; more than `batch_size` rows,
                or not a multiple of `packing`.

        """
        self.discriminator_gradients(x, z)
        self.discriminator_optimizer.apply([self.theta_d], [self.d_theta_d])
        return self._loss

    def generator_step(self, z: Array, x: Array = None) -> Array:
        """Take one step of G: noise z (n, k); for pairs, real samples x (n, d) too.

        Returns:
            G's loss before the step, a 0-d array that the next step overwrites.

        Raises:
            TypeError, ValueError: as for `discriminator_step`; x is missing.

        """
        self.generator_gradients(z, x)
        self.optimizer.apply([self.theta_g], [self.d_theta_g])
        return self._loss

    def discriminator_gradients(self, x: Array, z: Array) -> Array:
        """Compute D's loss and its gradients, and return the loss."""
        D = self.discriminator
        x, z = self._check_pair(x, z)
        n = len(x)
        p = n // self.packing  # rows that D gets of each kind
        samples = self._samples[: 2 * n]
        samples[:n] = x
        samples[n:] = self.generator.forward(z)  # (7)
        a = D.forward(samples.reshape(2 * p, -1))  # (7)
        da = D.dh
        if self.paired:
            args = self._args[:p]
            np.subtract(a[p:], a[:p], out=args)  # -t of (13)
            np.copyto(da[:p], args)
            self._sigmoid(da[:p], None)  # 1 - σ(t) = σ(-t)
            np.multiply(da[:p], 1 / p, out=da[p:])  # (13)
            np.negative(da[p:], out=da[:p])  # (13)
        else:
            args = self._args[: 2 * p]
            np.negative(a[:p], out=args[:p])
            np.copyto(args[p:], a[p:])
            np.copyto(da, args)
            self._sigmoid(da, None)  # 1 - σ(a_r) = σ(-a_r), and σ(a_f)
            np.multiply(da[:p], -1 / p, out=da[:p])  # (9), of -V
            np.multiply(da[p:], 1 / p, out=da[p:])  # (9), of -V
        terms = args  # softplus(args) overwrites args
        np.logaddexp(args, 0, out=terms)
        np.sum(terms, out=self._loss)
        np.divide(self._loss, p, out=self._loss)  # (8), (13)
        D.backward(da)
        if self.r1 or self.r2:
            self._add_penalties(p)
        return self._loss

    def _add_penalties(self, p: int) -> None:
        """Add R1 and R2 to D's loss and gradients, after D.backward."""
        D = self.discriminator
        L, W = D.L, D.W
        # The penalised rows: the real ones, the generated ones, or all.
        rows = slice(0 if self.r1 else p, 2 * p if self.r2 else p)
        m = [None, *(slopes[rows] for slopes in D.slopes[1:L])]
        n = rows.stop - rows.start
        u = s = [u[:n] for u in self._u]  # s_k overwrites u_k
        np.multiply(m[L - 1], W[L].T, out=s[L - 1])  # (16), s_L being 1
        for k in range(L - 1, 0, -1):
            backend.matmul(s[k], W[k].T, u[k - 1])  # (16)
            if k > 1:
                np.multiply(u[k - 1], m[k - 1], out=s[k - 1])  # (16)
        v = u[0]  # v_0 overwrites u_0
        for gamma, kind in ((self.r1, slice(0, p)), (self.r2, slice(n - p, n))):
            if gamma:
                u_0 = v_0 = v[kind].reshape(-1)
                np.dot(u_0, u_0, out=self._penalty)
                np.multiply(self._penalty, gamma / (2 * p), out=self._penalty)  # (15)
                np.add(self._loss, self._penalty, out=self._loss)
                np.multiply(u_0, gamma / p, out=v_0)  # (17)
        dW = self._penalty_dW
        for k in range(1, L):
            backend.matmul(v.T, s[k], dW[k])  # (18)
            np.add(D.dW[k], dW[k], out=D.dW[k])  # (18)
            v = backend.matmul(v, W[k], D.scratch[k][:n])  # (19)
            np.multiply(v, m[k], out=v)  # (19)
        np.sum(v, axis=0, out=dW[L][:, 0])  # (18), s_L being 1
        np.add(D.dW[L], dW[L], out=D.dW[L])  # (18)

    def generator_gradients(self, z: Array, x: Array = None) -> Array:
        """Compute G's loss and its gradients, and return the loss."""
        G, D = self.generator, self.discriminator
        if self.paired or x is not None:
            x, z = self._check_pair(x, z)
        else:
            z = self._check_noise(z)
        n = len(z)
        p = n // self.packing
        args = self._args[:p]
        if self.paired:
            a_r = args  # a copy: D's next forward pass overwrites its output
            np.copyto(a_r, D.forward(x.reshape(p, -1)))  # (7)
        x_f = G.forward(z)  # (7)
        a_f = D.forward(x_f.reshape(p, -1))  # (7)
        if self.paired:
            np.subtract(a_r, a_f, out=args)  # t of (14)
        elif self.objective == "saturating":
            np.copyto(args, a_f)
        else:
            np.negative(a_f, out=args)
        da = D.dh
        np.copyto(da, args)
        self._sigmoid(da, None)  # σ(t), σ(a_f), or 1 - σ(a_f) = σ(-a_f)
        np.multiply(da, -1 / p, out=da)  # (10), (10'), (14)
        terms = args  # softplus(args) overwrites args
        np.logaddexp(args, 0, out=terms)
        np.sum(terms, out=self._loss)
        sign = -1 if self.objective == "saturating" else 1
        np.divide(self._loss, sign * p, out=self._loss)
        dx = D.backward(da, parameters=False, inputs=True)  # (11)
        G.backward(dx.reshape(n, -1))  # (12)
        return self._loss

    # Use

    def generate(self, z: Array) -> Array:
        """Return the samples (n, d) of the noise z (n, k), for any n."""
        z = checks.rows(self._name, z, self.generator_sizes[0], self.dtype, "z")
        return self._in_batches(self.generator.forward, z, self.generator_sizes[-1])

    def discriminate(self, x: Array) -> Array:
        """Return D(x) (n / packing, 1), the probability that rows of x are real."""
        p = self.logits(x)
        self._sigmoid(p, None)
        return p

    def logits(self, x: Array) -> Array:
        """Return the logits of D(x) (n / packing, 1) for x (n, d), for any n."""
        d, m = self.generator_sizes[-1], self.packing
        x = checks.rows(self._name, x, d, self.dtype)
        twins.check_packs(len(x), m)
        return self._in_batches(self.discriminator.forward, x.reshape(-1, m * d), 1)

    # Checks

    def check(self, x: Array) -> None:
        """Raise an error unless x has the columns and the dtype to train on."""
        checks.rows(self._name, x, self.generator_sizes[-1], self.dtype)

    def _check_noise(self, z: Array) -> Array:
        z = self._check_rows(z, self.generator_sizes[0], "z")
        twins.check_packs(len(z), self.packing)
        return z

    def _check_pair(self, x: Array, z: Array) -> tuple[Array, Array]:
        if x is None:
            raise ValueError(
                "GAN: the generator's step needs real samples x with "
                "objective='relativistic'"
            )
        x = self._check_rows(x, self.generator_sizes[-1])
        z = self._check_noise(z)
        checks.equal_rows(self._name, x=x, z=z)
        return x, z
