"""Right gradients at difficult points, where a checker may raise a false alarm."""

import numpy as np

from demos._gradients import (
    LONG,
    TIED,
    Pair,
    S,
    V,
    X,
    Y,
    huber,
    in_single,
    layer_norm,
    layer_norm_vjp,
    logsumexp,
    of_number,
    softmax,
    two_sizes,
    two_sizes_vjp,
)

KINK, ZERO = ("kink",), ("vacuous",)
AT_ZERO = np.array([0.0, 1.2, -0.7, 0.0])
NEAR = np.array([1e-7, -1e-7, 0.3])


def relu(x):
    return np.maximum(x, 0)


def elementwise(slope):
    """Return the vjp of a function of each entry alone."""
    return lambda g, x: (g * slope(x),)


def sorted_vjp(g, x):
    return ((g * WEIGHTS)[np.argsort(np.argsort(x, kind="stable"), kind="stable")],)


WEIGHTS = np.array([1.0, 2.0, 5.0, -1.0])

KINKS = [
    Pair("relu at 0, slope 0", relu, elementwise(lambda x: x > 0), (AT_ZERO,),
         allow=KINK),
    Pair("relu at 0, slope 1", relu, elementwise(lambda x: x >= 0), (AT_ZERO,),
         allow=KINK),
    Pair("abs at 0, slope 0", np.abs, elementwise(np.sign), (AT_ZERO,), allow=KINK),
    Pair("clip at its limits", lambda x: np.clip(x, 0, 1.2),
         elementwise(lambda x: (x > 0) & (x < 1.2)), (AT_ZERO,), allow=KINK),
    Pair("hinge loss at the margin", lambda x: np.sum(np.maximum(0, 1 - x)),
         of_number(lambda x: (-1.0 * (x < 1),)), (np.array([1.0, 0.2, 3.0]),),
         allow=KINK),
    Pair("max of equal entries, the first", np.max,
         of_number(lambda x: (1.0 * (np.arange(4) == np.argmax(x)),)), (TIED,),
         allow=KINK),
    Pair("max of equal entries, shared", np.max,
         of_number(lambda x: ((x == x.max()) / np.sum(x == x.max()),)), (TIED,),
         allow=KINK),
    Pair("maximum of equal arguments, shared", np.maximum,
         lambda g, a, b: (g * ((a > b) + (a == b) / 2), g * ((a < b) + (a == b) / 2)),
         (V, np.where(V > 0, V, -V)), allow=KINK),
    Pair("norm at 0", np.linalg.norm, of_number(lambda x: (np.zeros(3),)),
         (np.zeros(3),), allow=KINK),
    Pair("sort with equal entries", lambda x: np.sort(x) * WEIGHTS, sorted_vjp,
         (TIED,), allow=KINK),
]  # fmt: skip

NEAR_KINKS = [
    Pair("relu, 1e-7 from 0", relu, elementwise(lambda x: x > 0), (NEAR,)),
    Pair("abs, 1e-7 from 0", np.abs, elementwise(np.sign), (NEAR,)),
    Pair("max, 1e-8 from a tie", np.max,
         of_number(lambda x: (1.0 * (x == x.max()),)), (np.array([1, 1 + 1e-8, 0]),)),
    Pair("clip, 1e-6 from its limit", lambda x: np.clip(x, -1, 1),
         elementwise(lambda x: np.abs(x) < 1), (np.array([1 - 1e-6, -1 - 1e-6, 0.2]),)),
    Pair("norm, 1e-7 from 0", np.linalg.norm,
         of_number(lambda x: (x / np.linalg.norm(x),)), (np.array([1e-7, -2e-7]),)),
    Pair("Huber at delta", huber, of_number(lambda x: (np.clip(x, -2, 2),)),
         (np.array([2.0, -2.0, 0.5, 3.0]),)),
]  # fmt: skip


# --- Precision ----------------------------------------------------------------------


def by_newton(x):
    """Return the root y of y³ + y = x, to about 1e-9."""
    y = np.zeros_like(x)
    for _ in range(100):
        step = (y**3 + y - x) / (3 * y**2 + 1)
        y = y - step
        if np.max(np.abs(step)) < 1e-5:  # the error is the square of the last step
            break
    return y


SINGLE = LONG[:20].astype(np.float32).astype(np.float64)
ROWS = X.astype(np.float32).astype(np.float64)

PRECISION = [
    Pair("float32 kernel: tanh", in_single(np.tanh),
         elementwise(lambda x: 1 - np.tanh(x) ** 2), (SINGLE,)),
    Pair("float32 kernel: relu", in_single(relu), elementwise(lambda x: x > 0),
         (SINGLE,)),
    Pair("float32 kernel: layer norm", in_single(layer_norm), layer_norm_vjp(True),
         (ROWS,)),
    Pair("float32 kernel: sum of squares", in_single(lambda x: np.sum(x * x)),
         of_number(lambda x: (2 * x,)), (SINGLE,)),
    Pair("a large constant is added", lambda x: 1e6 + np.sum(x**2),
         of_number(lambda x: (2 * x,)), (V,)),
    Pair("a solver with a tolerance", by_newton,
         elementwise(lambda x: 1 / (1 + 3 * by_newton(x) ** 2)), (V,)),
]  # fmt: skip


# --- Sizes --------------------------------------------------------------------------


def scaled_rosenbrock(x):
    return 1e4 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def scaled_rosenbrock_d(x):
    off = 2e4 * (x[1] - x[0] ** 2)
    return (np.array([-2 * x[0] * off - 2 * (1 - x[0]), off]),)


TINY = np.array([1e-8, 3e-8, 2e-9])
HUGE = np.array([1e8, -3e8, 2e7])

SIZES = [
    Pair("log at 1e-8", np.log, elementwise(lambda x: 1 / x), (TINY,)),
    Pair("square root at 1e-8", np.sqrt, elementwise(lambda x: 0.5 / np.sqrt(x)),
         (TINY,)),
    Pair("entropy at 1e-8", lambda x: x * np.log(x),
         elementwise(lambda x: 1 + np.log(x)), (TINY,)),
    Pair("1 / x at 1e-4", lambda x: 1 / x, elementwise(lambda x: -1 / x**2),
         (np.array([1e-4, 30.0]),)),
    Pair("squares at 1e8", np.square, elementwise(lambda x: 2 * x), (HUGE,)),
    Pair("arctan of x / 1e8 at 1e8", lambda x: np.arctan(x / 1e8),
         elementwise(lambda x: 1e-8 / (1 + (x / 1e8) ** 2)), (HUGE,)),
    Pair("exp at 30", np.exp, elementwise(np.exp), (np.array([30.0, -30.0, 0.1]),)),
    Pair("outputs of two sizes", two_sizes, two_sizes_vjp(3.0), (V,)),
    Pair("steep: tanh(1e4 x)", lambda x: np.tanh(1e4 * x),
         elementwise(lambda x: 1e4 / np.cosh(1e4 * x) ** 2),
         (np.array([1e-4, -2e-5]),)),
    Pair("fast: sin(1e6 x)", lambda x: np.sin(1e6 * x),
         elementwise(lambda x: 1e6 * np.cos(1e6 * x)), (np.array([0.1, 0.7]),)),
    Pair("stiff: a Rosenbrock valley", scaled_rosenbrock,
         of_number(scaled_rosenbrock_d), (np.array([1.2, 1.44]),)),
    Pair("logsumexp at 1,000", logsumexp, lambda g, x: (g[:, None] * softmax(x),),
         (1000 + X,)),
]  # fmt: skip


# --- Flat, and at the end of the domain ---------------------------------------------

EDGES = [
    Pair("flat: sigmoid at 40", lambda x: 1 / (1 + np.exp(-x)),
         elementwise(lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
         (np.array([40.0, 35.0]),)),
    Pair("flat: x**8 at 0.01", lambda x: x**8, elementwise(lambda x: 8 * x**7),
         (np.array([0.01, -0.02]),)),
    Pair("zero: all units of a relu are off", lambda x: relu(x - 9),
         elementwise(lambda x: x > 9), (X,), allow=ZERO),
    Pair("zero: the minimum of a parabola", lambda x: np.sum((x - Y) ** 2),
         of_number(lambda x: (2 * (x - Y),)), (Y,), allow=ZERO),
    Pair("arccos, 1e-9 from 1", np.arccos,
         elementwise(lambda x: -1 / np.sqrt(1 - x**2)), (np.array([1 - 1e-9, 0.3]),)),
    Pair("log det of a nearly singular matrix",
         lambda a: np.linalg.slogdet(a)[1],
         of_number(lambda a: (np.linalg.inv(a).T,)),
         (np.outer(S[0], S[1]) + 1e-6 * np.diag([1.0, 2.0, 3.0, 4.0]),)),
]  # fmt: skip

RIGHT = [*KINKS, *NEAR_KINKS, *PRECISION, *SIZES, *EDGES]
