"""Black-and-white pictures, log p(x) by an integral, and an autoencoder as a VAE."""

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


def integrated_log_p(
    vae: VAE, x: np.ndarray, step: float, edge: float = 5.0
) -> np.ndarray:
    """Integrate p(x | z) N(z; 0, 1) over the plane: log p(x) of each row (n,), nats.

    A sum over a square grid of z, from -edge to edge. It does not use the encoder.
    """
    axis = np.arange(-edge, edge + step / 2, step)
    z = plane(axis)
    log_p = np.empty((len(x), len(z)))
    nothing = np.zeros(1, vae.dtype)
    for start in range(0, len(z), vae.batch_size):
        rows = slice(start, start + vae.batch_size)
        codes = backend.asarray(z[rows].astype(vae.dtype))
        a = backend.to_numpy(vae.decoder.forward(codes))
        # Σ x a - softplus(a), for every x and z.
        log_p[:, rows] = x @ a.T + log_bernoulli(nothing, a)
    log_p -= np.sum(z**2, axis=1) / 2
    largest = log_p.max(axis=1)
    total = np.exp(log_p - largest[:, None]).sum(axis=1)
    return largest + np.log(total) + 2 * math.log(step) - math.log(2 * math.pi)


def plane(axis: np.ndarray) -> np.ndarray:
    """Return the points (axis[0], axis[0]), (axis[1], axis[0]), ...: (m², 2)."""
    return np.stack(np.meshgrid(axis, axis), axis=2).reshape(-1, 2)
