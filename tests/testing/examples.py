"""Functions and inputs that several tests of the checker share."""

import numpy as np

from scratchnet import functions
from scratchnet.testing import gradcheck

R = np.random.default_rng(0)
X = R.normal(size=(5, 4))
SQUARE = R.normal(size=(4, 4))

N, D, K = 6, 4, 4
DATA, TARGET = R.normal(size=(N, D)), R.normal(size=(N, K))
WEIGHTS, BIAS = R.normal(size=(D, K)), R.normal(size=K)
KINK = ("kink",)


def report_of(*args, **options):
    """Check a gradient; always return the report."""
    return gradcheck(*args, raise_exception=False, **options)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def quadratic(x):
    return np.sum(x * x * x)


def quadratic_gradient(x):
    return 3 * x * x


def mean_squared(W):
    return np.mean((DATA @ W - TARGET) ** 2)


def mean_squared_gradient(W):
    return 2 * DATA.T @ (DATA @ W - TARGET) / TARGET.size


def softmax_vjp(g, x):
    y = functions.softmax(x)
    return y * (g - np.sum(g * y, axis=-1, keepdims=True))


def needle(kind, seed):
    """Return f with a gradient of 10,000 entries over six orders of magnitude."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=10_000)
    c = np.exp(rng.uniform(np.log(1e-6), 0, x.size))
    if kind == "analytic":
        return x, lambda x: np.sum(c * np.tanh(x)), lambda x: c / np.cosh(x) ** 2
    if kind == "abs":
        return x, lambda x: np.sum(c * np.abs(x)), lambda x: c * np.sign(x)
    f = lambda x: np.sum(c * np.logaddexp(x, 0.3) * np.abs(x))
    df = lambda x: (
        c * (sigmoid(x - 0.3) * np.abs(x) + np.logaddexp(x, 0.3) * np.sign(x))
    )
    return x, f, df
