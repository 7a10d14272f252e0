"""Black-and-white pictures, log p(x), and a plain autoencoder as a VAE."""

import math
from typing import Any

import numpy as np

from scratchnet import backend
from scratchnet.byhand import VAE, Autoencoder
from scratchnet.twins import log_bernoulli

ACTIVATION = "leaky_relu"  # of all networks here


def black_and_white(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make each pixel of x (n, d) black with its grey value as the probability."""
    return (rng.random(x.shape, np.float32) < x).astype(x.dtype)


def log_odds(x: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)) of the ink p in each column of x (n, d): (d,)."""
    ink = (x.sum(axis=0) + 1) / (len(x) + 2)
    return np.log(ink / (1 - ink))


def start(model: Any, x: np.ndarray) -> None:
    """Set the decoder's last bias to `log_odds`: p(x | z) starts without a code."""
    last = f"decoder.{2 * len(model.sizes) - 4}.b"
    model.load_state_dict(model.state_dict() | {last: log_odds(x).astype(model.dtype)})


def as_vae(model: Autoencoder, mean: np.ndarray, root: np.ndarray, width: float) -> VAE:
    """Return a plain autoencoder with a Gaussian on its codes, as a VAE.

    The Gaussian has the mean m (c,) and the covariance L Lᵀ, L = root (c, c), so that
    z = L⁻¹ (code - m) has the prior N(0, 1). Both maps are linear and go into the
    weights around the code: mu = z, log_var = 2 log width, and the decoder starts from
    m + L z.
    """
    state = model.state_dict()
    last = f"encoder.{2 * len(model.sizes) - 4}"
    W = np.linalg.solve(root, state[f"{last}.W"].T).T
    b = np.linalg.solve(root, state[f"{last}.b"] - mean)
    state[f"{last}.W"] = np.hstack([W, np.zeros_like(W)])
    state[f"{last}.b"] = np.concatenate([b, np.full_like(b, 2 * math.log(width))])
    state["decoder.0.b"] = state["decoder.0.b"] + mean @ state["decoder.0.W"]
    state["decoder.0.W"] = root.T @ state["decoder.0.W"]
    vae = VAE(model.sizes, rng=np.random.default_rng(0),
              batch_size=model.batch_size,
              activation=ACTIVATION)  # fmt: skip
    vae.load_state_dict({k: v.astype(model.dtype) for k, v in state.items()})
    return vae


def logits(vae: VAE, z: np.ndarray) -> np.ndarray:
    """Return the logits of p(x | z) (n, d) for the codes z (n, c)."""
    parts = []
    for i in range(0, len(z), vae.batch_size):
        codes = backend.asarray(z[i : i + vae.batch_size].astype(vae.dtype))
        parts.append(backend.to_numpy(vae.decoder.forward(codes)).copy())
    return np.concatenate(parts)


def log_joint(vae: VAE, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return log p(x | z) + log p(z) of each row (n,), without the factors of 2π."""
    return vae.log_p_x(x, z) - np.sum(z**2, axis=1) / 2


def derivatives(
    vae: VAE, x: np.ndarray, z: np.ndarray, h: float = 0.01
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient of `log_joint` by z (n, c), and a precision (n, c, c).

    The precision is I + Jᵀ diag(p (1 - p)) J (Gauss-Newton), with J the derivatives of
    the logits by z, from differences, and p the probabilities of the pixels.
    """
    n, c = z.shape
    ends = z[:, None] + h * np.concatenate([np.eye(c), -np.eye(c)])
    a = logits(vae, ends.reshape(-1, c)).reshape(n, 2, c, -1)
    J = (a[:, 0] - a[:, 1]) / (2 * h)  # (n, c, d), transposed
    p = vae.decode(z)
    scaled = J * np.sqrt(p * (1 - p))[:, None]
    gradient = (J @ (x - p)[:, :, None])[:, :, 0] - z
    return gradient, scaled @ scaled.swapaxes(1, 2) + np.eye(c)


def log_joints(vae: VAE, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return `log_joint` of every row of x (n, d) with every code z (m, c): (n, m)."""
    a = logits(vae, z)
    # Σ x a - softplus(a), for every x and z.
    return x @ a.T + log_bernoulli(np.zeros(1, a.dtype), a) - np.sum(z**2, axis=1) / 2


def most_probable(
    vae: VAE, x: np.ndarray, rng: np.random.Generator, rounds: int = 10
) -> np.ndarray:
    """Return for each row of x a z (n, c) where `log_joint` is large.

    The search starts from the encoder's mean, or from the best of 1,000 draws of the
    prior, if that is better. A Gauss-Newton step, or a part of it, is taken where it
    helps.
    """
    z = vae.encode(x)
    best = log_joint(vae, x, z)
    drawn = rng.standard_normal((1000, z.shape[1]), vae.dtype)
    joints = log_joints(vae, x, drawn)
    better = joints.max(axis=1) > best
    z[better] = drawn[joints.argmax(axis=1)[better]]
    best = np.maximum(best, joints.max(axis=1))
    for _ in range(rounds):
        gradient, precision = derivatives(vae, x, z)
        step = np.linalg.solve(precision, gradient[:, :, None])[:, :, 0]
        for part in (1, 0.5, 0.25, 0.1):
            moved = z + (part * step).astype(z.dtype)
            found = log_joint(vae, x, moved)
            better = found > best
            z[better], best[better] = moved[better], found[better]
    return z


def log_weights(
    vae: VAE, x: np.ndarray, rng: np.random.Generator, draws: int, wider: float = 1.15
) -> np.ndarray:
    """Return log p(x, z) - log q(z) of draws of z from q, for each row: (n, draws).

    The mean of p(x, z) / q(z) is p(x). Here q is a Gaussian around `most_probable` with
    the precision of `derivatives` (Laplace's method), but wider, so that its tails
    cover those of p(z | x). The encoder only starts the search for z.
    """
    z = most_probable(vae, x, rng)
    precision = derivatives(vae, x, z)[1]
    # The covariance is rootᵀ root.
    root = wider * np.linalg.inv(np.linalg.cholesky(precision))
    eps = rng.standard_normal((len(x), draws, z.shape[1]))
    log_q = -np.sum(eps**2, axis=2) / 2 - np.linalg.slogdet(root)[1][:, None]
    drawn = (z[:, None] + eps @ root).astype(vae.dtype)
    joint = [
        log_joint(vae, np.repeat(row[None], draws, axis=0), codes)
        for row, codes in zip(x, drawn, strict=True)
    ]
    return np.stack(joint) - log_q


def log_mean(log_w: np.ndarray) -> np.ndarray:
    """Return the logarithm of the mean of exp(log_w) along the second axis: (n,)."""
    return np.logaddexp.reduce(log_w, axis=1) - math.log(log_w.shape[1])


def integrated_log_p(
    vae: VAE, x: np.ndarray, step: float, edge: float = 5.0
) -> np.ndarray:
    """Integrate p(x | z) N(z; 0, 1) over the plane: log p(x) of each row (n,), nats.

    A sum over a square grid of z, from -edge to edge. It does not use the encoder.
    """
    axis = np.arange(-edge, edge + step / 2, step)
    z = plane(axis)
    # Not all z at once: for each z there are d logits.
    parts = np.array_split(z, math.ceil(len(z) / 1000))
    joints = np.hstack([log_joints(vae, x, some) for some in parts])
    total = np.logaddexp.reduce(joints, axis=1)
    return total + 2 * math.log(step) - math.log(2 * math.pi)


def plane(axis: np.ndarray) -> np.ndarray:
    """Return the points (axis[0], axis[0]), (axis[1], axis[0]), ...: (m², 2)."""
    return np.stack(np.meshgrid(axis, axis), axis=2).reshape(-1, 2)
