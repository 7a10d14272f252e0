"""Gradient pairs for the checker's tests: f, gradient, inputs, expected verdict.

MISTAKES has wrong gradients by kind of mistake, NO_KIND wrong ones of no known kind,
RIGHT right ones at difficult points, KINKS pairs at points without a derivative.
`of_seed` makes float32 networks with kinks, and their true gradients.
"""

import numpy as np

from scratchnet import functions

# --- Kinds of mistake ---------------------------------------------------------------

R = np.random.default_rng(5)
X, Y = R.normal(size=(2, 5, 4))
S, S2 = R.normal(size=(2, 4, 4)) + 2
B, B5 = R.normal(size=4), R.normal(size=5)
V = R.normal(size=7)
W43 = R.normal(size=(4, 3))
T3 = R.normal(size=(3, 4, 4))
T4 = R.normal(size=(2, 3, 4))
C4 = R.normal(size=(2, 3, 4))


def softmax(x):
    return functions.softmax(x)


def softmax_vjp(g, x):
    y = softmax(x)
    return y * (g - np.sum(g * y, axis=-1, keepdims=True))


def log_softmax_vjp(g, x):
    return g - softmax(x) * np.sum(g, axis=-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cubes(x):
    return np.sum(x**3)


def cubes_d(x):
    return 3 * x**2


def weighted(x):
    return np.sum(C4 * np.sin(x))


def product(x, W):
    return x @ W


def product_vjp(g, x, W):
    return g @ W.T, x.T @ g


def mean_square(x):
    return np.mean(x**2)


def biased(x, b):
    return np.tanh(x + b)


def biased_vjp(g, x, b):
    g = g * (1 - np.tanh(x + b) ** 2)
    return g, g.sum(axis=0)


def biased_sum(x, b):
    return np.sum(Y * np.tanh(x + b))


def biased_sum_d(x, b):
    g = Y * (1 - np.tanh(x + b) ** 2)
    return g, g.sum(axis=0)


def quotient(a, b):
    return np.sum(a / b)


def quotient_d(a, b):
    return 1 / b, -a / b**2


def pair(rule, change):
    """Return a rule whose last gradient is changed."""

    def changed(*args):
        found = list(rule(*args))
        found[-1] = change(found[-1])
        return tuple(found)

    return changed


def change(rule, how):
    return lambda *args: how(rule(*args))


def exp_vjp(g, x):
    return g * np.exp(x)


def matrix_vjp(g, x):
    return 3 * g * x**2


def square_biased_vjp(axis):
    def vjp(g, x, b):
        g = g * (1 - np.tanh(x + b) ** 2)
        return g, g.sum(axis=axis)

    return vjp


def row_sums(x):
    return np.sum(x**2, axis=1)


def row_sums_vjp(g, x):
    return 2 * x * g[:, None]


def column_means(x):
    return np.mean(np.exp(x), axis=0)


MISTAKES = {
    "zero": [
        (np.exp, exp_vjp, lambda g, x: 0 * x, (X,), "0 everywhere"),
        (cubes, cubes_d, lambda x: 0 * x, (X,), "each is 0"),
    ],
    "sign": [
        (np.exp, exp_vjp, lambda g, x: -g * np.exp(x), (X,), "sign"),
        (quotient, quotient_d, pair(quotient_d, np.negative), (X, Y), "sign"),
    ],
    "factor": [
        (cubes, cubes_d, lambda x: x**2, (X + 3,), "analytic / numeric = 0.3333333"),
        (np.tanh, lambda g, x: g * (1 - np.tanh(x) ** 2),
         lambda g, x: 1.7 * g * (1 - np.tanh(x) ** 2), (X,), "= 1.7 in each"),
    ],
    "mean": [
        (mean_square, lambda x: 2 * x / x.size, lambda x: 2 * x, (X,),
         "20 is the number of x's entries"),
        (lambda x: np.mean(x**2, axis=0), lambda g, x: 2 * g * x / 5,
         lambda g, x: 2 * g * x, (X,), "5 is the length of x's axis 0"),
        (lambda x: np.sum(np.mean(np.abs(x), axis=1)), lambda x: np.sign(x) / 4,
         np.sign, (X,), "4 is the length of x's axis 1"),
    ],
    "sum": [
        (cubes, cubes_d, lambda x: 3 * x**2 / len(x), (X,), "x's axis 0"),
        (lambda x: np.sum(np.sin(x), axis=1), lambda g, x: g[:, None] * np.cos(x),
         lambda g, x: g[:, None] * np.cos(x) / 4, (X,), "x's axis 1"),
    ],
    "transpose": [
        (lambda x: np.sum(x**3 * S2), lambda x: 3 * x**2 * S2,
         lambda x: (3 * x**2 * S2).T, (S,), "is the transpose"),
        (product, product_vjp, pair(product_vjp, np.transpose), (X, W43),
         "has shape (3, 4)"),
        (lambda x: np.exp(x) @ B, lambda g, x: np.outer(g, B) * np.exp(x),
         lambda g, x: (np.outer(g, B) * np.exp(x)).T, (X,), "is the transpose"),
    ],
    "permuted": [
        (lambda x: np.sum(np.sin(x) * T3), lambda x: np.cos(x) * T3,
         lambda x: (np.cos(x) * T3).transpose(0, 2, 1), (T3 + 1,), "(0, 2, 1)"),
        (weighted, lambda x: C4 * np.cos(x), lambda x: np.transpose(C4 * np.cos(x)),
         (T4,), ".transpose(2, 1, 0)"),
        (lambda x: np.einsum("bij,bjk->bik", x, T3),
         lambda g, x: np.einsum("bik,bjk->bij", g, T3),
         lambda g, x: np.einsum("bik,bjk->bji", g, T3), (T3[::-1] + 1,), "(0, 2, 1)"),
    ],
    "unsummed": [
        (biased, biased_vjp, lambda g, x, b: 2 * biased_vjp(g, x, b)[:1], (X, B),
         "its sum over axis 0 is right"),
        (lambda x, b: x * b, lambda g, x, b: (g * b, (g * x).sum(1, keepdims=True)),
         lambda g, x, b: (g * b, g * x), (X, B5[:, None]), "its sum over axis 1"),
        (lambda x, s: s * x, lambda g, x, s: (s * g, np.sum(g * x)),
         lambda g, x, s: (s * g, g * x), (X, np.array(1.5)), "the axes (0, 1)"),
    ],
    "row": [
        (lambda x, b: x + b, lambda g, x, b: (g, g.sum(0)), lambda g, x, b: (g, g[0]),
         (X, B), "it is entry 0 of axis 0"),
        (biased_sum, biased_sum_d, lambda x, b: (biased_sum_d(x, b)[0],
         biased_sum_d(x, b)[0][-1]), (X, B), "entry 4 of axis 0"),
    ],
    "axis": [
        (biased, square_biased_vjp(0), square_biased_vjp(1), (S, B),
         "over axis 1, not axis 0"),
        (biased, square_biased_vjp(0), square_biased_vjp(1), (X, B),
         "has shape (5,)"),
        (row_sums, row_sums_vjp, lambda g, x: 2 * x * g, (S,),
         "spread along axis 0, not along axis 1"),
        (column_means, lambda g, x: g * np.exp(x) / 4,
         lambda g, x: g[:, None] * np.exp(x) / 4, (S,),
         "spread along axis 1, not along axis 0"),
    ],
    "diagonal": [
        (softmax, softmax_vjp, lambda g, x: g * softmax(x) * (1 - softmax(x)), (X,),
         "diagonal"),
        (functions.log_softmax, log_softmax_vjp, lambda g, x: g * (1 - softmax(x)),
         (X,), "diagonal"),
        (lambda x: x / np.sum(x), lambda g, x: g / np.sum(x) - g @ x / np.sum(x) ** 2,
         lambda g, x: g / np.sum(x) - g * x / np.sum(x) ** 2, (V**2 + 1,), "diagonal"),
    ],
    "reversed": [
        (cubes, cubes_d, lambda x: 3 * x[::-1] ** 2, (X,), "reverse order along"),
        (np.cumsum, lambda g, x: np.cumsum(g[::-1])[::-1],
         lambda g, x: np.cumsum(g[::-1]), (V,), "reverse order along"),
    ],
    "shifted": [
        (lambda x: x[1:] * x[:-1],
         lambda g, x: np.append(g * x[1:], 0) + np.append(0, g * x[:-1]),
         lambda g, x: np.roll(np.append(g * x[1:], 0) + np.append(0, g * x[:-1]), 1),
         (V,), "shifted by +1 along axis 0"),
        (np.exp, exp_vjp, change(exp_vjp, lambda g: np.roll(g, -1, axis=1)), (X,),
         "shifted by -1 along axis 1"),
    ],
    "swapped": [
        (quotient, quotient_d, lambda a, b: quotient_d(a, b)[::-1], (X, Y),
         "returned as the gradient of b"),
        (product, product_vjp, lambda g, x, W: product_vjp(g, x, W)[::-1],
         (X, W43), "returned as the gradient of W"),
    ],
    "factor missing": [
        (sigmoid, lambda g, x: g * sigmoid(x) * (1 - sigmoid(x)),
         lambda g, x: g * sigmoid(x), (X,), "the factor 1 - f is missing"),
        (lambda x: x**3, matrix_vjp, lambda g, x: 3 * g * x, (X,), "the factor x"),
        (np.exp, exp_vjp, lambda g, x: np.exp(x), (X,), "the cotangent"),
    ],
    "factor too many": [
        (lambda x: np.exp(x), exp_vjp, lambda g, x: g * np.exp(x) * x, (X,),
         "the factor x"),
        (cubes, cubes_d, lambda x: 3 * x**3, (X,), "the factor x"),
    ],
    "shape": [
        (lambda x: np.sum(np.sin(x)), np.cos, lambda x: np.cos(x)[:, None], (V,),
         "reshape it to (7,)"),
        (np.exp, exp_vjp, change(exp_vjp, np.ravel), (B[None],), "has shape (4,)"),
    ],
}  # fmt: skip

NO_KIND = {
    "one entry": (cubes, lambda x: 3 * x**2 * np.where(x == x.max(), 1.01, 1), (X,)),
    "a row twice": (
        cubes,
        lambda x: 3 * x**2 * np.where(np.arange(5)[:, None] == 2, 2, 1),
        (X,),
    ),
    "noise": (cubes, lambda x: 3 * x**2 + 0.1 * Y, (X,)),
    "a term is missing": (lambda x: x * np.exp(x), exp_vjp, (X,)),
    "another shape": (np.exp, lambda g, x: (g * np.exp(x))[:3], (X,)),
    "another function": (np.sin, lambda g, x: g * np.sin(x), (X,)),
    "other rows": (cubes, lambda x: 3 * x[[1, 0, 2, 4, 3]] ** 2, (X,)),
    "constant": (cubes, np.ones_like, (X,)),
    "matmul without a transpose": (
        lambda x, W: x @ W,
        lambda g, x, W: (g @ W, x.T @ g),
        (S, S2),
    ),
    "a half is zero": (cubes, lambda x: 3 * x**2 * (np.arange(4) < 2), (X,)),
    "halves by 2 and 3": (
        cubes,
        lambda x: 3 * x**2 * np.where(np.arange(4) < 2, 2, 3),
        (X,),
    ),
}


# --- Right, at difficult points -----------------------------------------------------


def in_single(f):
    """Return f computed in float32, as by a library that always uses it."""
    return lambda x: f(np.asarray(x, np.float32))


NEAR = np.array([1e-3, -1e-3, 1e-5, 0.7])
RIGHT = {
    "abs near 0": (np.abs, lambda g, x: g * np.sign(x), NEAR),
    "relu near 0": (functions.relu, lambda g, x: g * (x > 0), NEAR),
    "leaky near 0": (lambda x: np.maximum(x, 0.1 * x),
                     lambda g, x: g * np.where(x > 0, 1, 0.1), NEAR),
    "clip near its limits": (lambda x: np.clip(x, -0.7, 1e-4),
                             lambda g, x: g * ((x > -0.7) & (x < 1e-4)), NEAR),
    "max near a tie": (np.max, lambda x: 1.0 * (x == x.max()),
                       np.array([1, 1 + 1e-6, 0])),
    "sort near a tie": (lambda x: np.sort(x) * [1, 2, 5],
                        lambda g, x: (g * [1, 2, 5])[np.argsort(np.argsort(x))],
                        np.array([1, 1 + 1e-6, 0])),
    "norm near 0": (np.linalg.norm, lambda x: x / np.linalg.norm(x),
                    np.array([1e-7, -2e-7])),
    "entropy near 0": (lambda x: x * np.log(x), lambda g, x: g * (1 + np.log(x)),
                       np.array([1e-6, 0.3])),
    "1 / x": (lambda x: 1 / x, lambda g, x: -g / x**2, np.array([1e-4, 30.0])),
    "steep": (lambda x: np.tanh(1e3 * x), lambda g, x: 1e3 * g / np.cosh(1e3 * x) ** 2,
              np.array([1e-3, -2e-4])),
    "sum of large ones": (lambda x: 1e6 + np.sum(np.abs(x)), np.sign, NEAR + 1),
    "float32 smooth": (in_single(np.tanh), lambda g, x: g * (1 - np.tanh(x) ** 2), X),
    "float32 abs": (in_single(np.abs), lambda g, x: g * np.sign(x), X),
    "float32 relu": (in_single(functions.relu), lambda g, x: g * (x > 0), X),
    "float32 sum": (in_single(lambda x: np.sum(x * x)), lambda x: 2 * x, X + 3),
    "float32 at 0": (in_single(lambda x: np.sum(x * np.abs(x))),
                     lambda x: 2 * np.abs(x), np.array([1.0, 0.3, -2.0])),
    "softplus of large": (functions.softplus, lambda g, x: g * sigmoid(x), 30 * X),
    "logsumexp": (functions.logsumexp, lambda g, x: (g[..., None] * softmax(x)), 9 * X),
    "a dead unit": (lambda x: np.maximum(x - 9, 0) + np.sin(x),
                    lambda g, x: g * np.cos(x), X),
}  # fmt: skip


# --- Kinks --------------------------------------------------------------------------


def constant(*gradients):
    return lambda *inputs: tuple(np.array(g, float) for g in gradients)


TIE = np.array([1.0, 3.0, 3.0])
SIGNED = np.array([1.0, -2.0, 3.0, -0.5])
SHARED = np.array([[1.0, -1.0], [1.0, 1.0], [-1.0, 2.0]])
KINKS = {  # f, gradient, inputs, verdict
    "max, both": (np.max, constant([0, 1, 1]), (TIE,), "wrong"),
    "max, none": (np.max, constant([0, 0, 0]), (TIE,), "wrong"),
    "max, too much": (np.max, constant([0, 0.6, 0.6]), (TIE,), "wrong"),
    "max, shared": (np.max, constant([0, 0.5, 0.5]), (TIE,), "kink"),
    "max, the first": (np.max, constant([0, 1, 0]), (TIE,), "kink"),
    "max, a mixture": (np.max, constant([0, 0.3, 0.7]), (TIE,), "kink"),
    "min, both": (np.min, constant([1, 1, 0]), (TIE[::-1] * [1, 1, 5],), "wrong"),
    "min, all": (np.min, constant([1, 1, 1]), (np.ones(3),), "wrong"),
    "min, shared": (np.min, constant([1 / 3] * 3), (np.ones(3),), "kink"),
    "max of 10, each": (np.max, constant(np.ones(10)), (np.ones(10),), "wrong"),
    "max of 10, shared": (np.max, constant(np.ones(10) / 10), (np.ones(10),), "kink"),
    "maximum, both": (lambda a, b: np.sum(np.maximum(a, b)), constant([1, 0], [1, 1]),
                      (np.array([1.0, 2]), np.array([1.0, 4])), "wrong"),
    "maximum, none": (lambda a, b: np.sum(np.maximum(a, b)), constant([0, 0], [0, 1]),
                      (np.array([1.0, 2]), np.array([1.0, 4])), "wrong"),
    "maximum, shared": (lambda a, b: np.sum(np.maximum(a, b)),
                        constant([0.5, 0], [0.5, 1]),
                        (np.array([1.0, 2]), np.array([1.0, 4])), "kink"),
    "minimum, one": (lambda a, b: np.sum(np.minimum(a, b)), constant([1], [0]),
                     (np.ones(1), np.ones(1)), "kink"),
    "minimum, both": (lambda a, b: np.sum(np.minimum(a, b)), constant([1], [1]),
                      (np.ones(1), np.ones(1)), "wrong"),
    "norm, too long": (np.linalg.norm, constant([1, 1]), (np.zeros(2),), "wrong"),
    "norm, 0": (np.linalg.norm, constant([0, 0]), (np.zeros(2),), "kink"),
    "norm, a unit vector": (np.linalg.norm, constant([0.6, 0.8]), (np.zeros(2),),
                            "kink"),
    "abs, any signs": (lambda x: np.sum(np.abs(x) * SIGNED),
                       constant(SIGNED * [1, 1, -1, 0.2]), (np.zeros(4),), "kink"),
    "relu, any": (lambda x: np.sum(np.maximum(x, 0) * SIGNED),
                  constant(SIGNED * [1, 0, 0.5, 1]), (np.zeros(4),), "kink"),
    "relu, shared weights": (lambda w: np.sum(np.maximum(SHARED @ w, 0)),
                             constant(SHARED.T @ [0.5, 0.5, 0.5]), (np.zeros(2),),
                             "kink"),
    "relu, all on": (lambda w: np.sum(np.maximum(SHARED @ w, 0)),
                     constant(SHARED.sum(axis=0) + 0.9), (np.zeros(2),), "wrong"),
    "sort, in order": (lambda x: np.sort(x) @ [1, 2, 5], constant([1, 2, 5]),
                       (np.array([1.0, 1, 3]),), "kink"),
    "sort, shared": (lambda x: np.sort(x) @ [1, 2, 5], constant([1.5, 1.5, 5]),
                     (np.array([1.0, 1, 3]),), "kink"),
    "sort, twice": (lambda x: np.sort(x) @ [1, 2, 5], constant([2, 2, 5]),
                    (np.array([1.0, 1, 3]),), "wrong"),
    "sort, three, not a side of its own": (
        lambda x: np.sort(x) @ [1, 5, 2], constant([1, 5, 2]), (np.ones(3),), "kink"),
    "median, both": (np.median, constant([0, 1, 1, 0, 0]),
                     (np.array([1, 2, 2, 1.5, 4]),), "wrong"),
    "median, shared": (np.median, constant([0, 0.5, 0.5, 0, 0]),
                       (np.array([1, 2, 2, 1.5, 4]),), "kink"),
    "clip, at its limits": (lambda x: np.sum(np.clip(x, -1, 1)), constant([1, 1, 0]),
                            (np.array([-1.0, 1, 1]),), "kink"),
    "hinge": (lambda x: np.sum(np.maximum(0, 1 - x)), constant([-1, 0, -0.5]),
              (np.ones(3),), "kink"),
    "abs of a difference": (lambda w: np.abs(w[0] - w[1]), constant([0.5, 0.5]),
                            (np.ones(2),), "wrong"),
}  # fmt: skip


# --- Networks that compute in float32 -----------------------------------------------


def relu(z):
    return np.maximum(z, 0), z > 0


def leaky(z):
    return np.where(z > 0, z, z * z.dtype.type(0.1)), np.where(z > 0, 1, 0.1)


def largest(z):
    top = z == np.max(z, axis=1, keepdims=True)
    return np.where(top, z, 0), top


def clipped(z):
    return np.clip(z, -1, 1), np.abs(z) < 1


def absolute(z):
    return np.abs(z), np.sign(z)


def hinge(z):
    return np.maximum(0, 1 - z), -1.0 * (z < 1)


def maximum_of_three(z):
    top = z == np.maximum(np.maximum(z[:, :1], z[:, 1:2]), z[:, 2:3])
    top[:, 3:] = False
    return np.where(top, z, 0), top


UNITS = [relu, leaky, largest, clipped, absolute, hinge, maximum_of_three]


def network(seed, kind, shape=(6, 2, 3), single=np.float32):
    """Return the mean over rows of the sums of kind(X @ W)."""
    n, d, h = shape
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)).astype(single)
    W = rng.standard_normal((d, h)).astype(single)

    def f(X, W):
        z = np.asarray(X, single) @ np.asarray(W, single)
        return np.mean(np.sum(kind(z)[0], axis=1))

    def gradient(X, W, dtype=single):
        X, W = np.asarray(X, dtype), np.asarray(W, dtype)
        delta = kind(X @ W)[1].astype(dtype) / dtype(n)
        return delta @ W.T, X.T @ delta

    def truth():
        return gradient(X, W, np.float64)

    return f, gradient, (X, W), truth


def deep(seed, kind, sizes=(4, 5, 1), n=6):
    """Return the mean squared error of a network with two layers of weights."""
    rng = np.random.default_rng(seed)
    single = np.float32
    X = rng.standard_normal((n, sizes[0])).astype(single)
    target = rng.standard_normal((n, sizes[2])).astype(single)
    inputs = (
        (rng.standard_normal(sizes[:2]) / 2).astype(single),
        rng.standard_normal(sizes[1]).astype(single) / 8,
        (rng.standard_normal(sizes[1:]) / 2).astype(single),
    )

    def forward(W, b, V, dtype):
        W, b, V = (np.asarray(p, dtype) for p in (W, b, V))
        hidden, slopes = kind(X.astype(dtype) @ W + b)
        return hidden, slopes, hidden @ V - target.astype(dtype), V

    def f(W, b, V):
        return np.mean(forward(W, b, V, single)[2] ** 2)

    def gradient(W, b, V, dtype=single):
        hidden, slopes, off, V = forward(W, b, V, dtype)
        delta = 2 * off / off.size
        below = (delta @ V.T) * slopes.astype(dtype)
        return X.astype(dtype).T @ below, below.sum(axis=0), hidden.T @ delta

    def truth():
        return gradient(*inputs, dtype=np.float64)

    return f, gradient, inputs, truth


def of_seed(seed, rows=6):
    """Return a network with one layer or two, of each kind in turn."""
    kind = UNITS[seed % len(UNITS)]
    if seed % 2 and kind is not maximum_of_three:
        return deep(seed, kind, (rows // 2, rows - 2, 1), rows)
    return network(seed, kind, (rows, 2, 3))
