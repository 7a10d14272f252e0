"""Every form in which NumPy takes an axis, for arrays of every number of axes.

If NumPy takes a call, a Tensor gives the same value and the right gradient, or the call
raises an error that names the function. No call fails later, in backward, and the first
derivative can always be differentiated again.
"""

import itertools
import random
import warnings
from functools import partial

import numpy as np
import pytest

from scratchnet import Tensor, functions, grad
from scratchnet.graph import plain

SHAPES = [(), (1,), (3,), (0,), (1, 1), (2, 3), (2, 0), (1, 3), (2, 1, 2)]
AXES = [
    "none given", None, 0, -1, 1, -2, 2, (), (0,), (-1,), (0, 1), (1, 0), (0, -1),
    (0, 0), [0], [0, 1], [], np.int64(0), np.int64(-1), np.array(0), np.array([0]),
    (np.int64(0),), True, 1.0, (0, 1, 2),
]  # fmt: skip
EACH = {
    "keepdims": [{}, {"keepdims": True}, {"keepdims": False}],
    "ddof": [{}, {"ddof": 1}, {"ddof": 0.5}, {"ddof": np.int64(1), "keepdims": True}],
    "ord": [{}, *({"ord": o} for o in (None, 1, 2, np.inf, -np.inf, "fro", 2.0))],
    "indices": [
        {"indices": i} for i in (0, [0], -1, [[0, -1]], [], (), np.int64(0), [True])
    ],
    "repeats": [{"repeats": r} for r in (2, 0, [2], (1, 2), np.int64(2), np.array(2))],
    "shift": [{"shift": s} for s in (1, -1, (1,), (1, 2), [1], np.int64(1),
                                     np.array(1), np.array([1]), ())],
    "sections": [{"indices_or_sections": s} for s in (1, 2, [1], (0,), [], np.int64(1),
                                                      np.array([1]))],
    "nothing": [{}],
}  # fmt: skip
ALONG = {
    "keepdims": [np.sum, np.mean, np.prod, np.max, np.min, np.amax, np.amin, np.ptp,
                 np.nansum, np.nanmean, np.average, functions.logsumexp],
    "ddof": [np.var, np.std],
    "ord": [np.linalg.norm, np.linalg.vector_norm],
    "indices": [np.take],
    "repeats": [np.repeat],
    "shift": [np.roll],
    "sections": [np.split, np.array_split],
    "nothing": [np.cumsum, np.cumprod, np.sort, np.diff, np.flip, np.squeeze,
                np.expand_dims, functions.softmax, functions.log_softmax],
}  # fmt: skip
# Functions of two arguments; the second is one of AXES.
OTHERS = {
    "np.transpose": np.transpose,
    "transpose": lambda z, a: z.transpose(a),
    "np.moveaxis": lambda z, a: np.moveaxis(z, a, 0),
    "np.swapaxes": lambda z, a: np.swapaxes(z, a, -1),
    "np.concatenate": lambda z, a: np.concatenate([z, 2 * z], axis=a),
    "np.stack": lambda z, a: np.stack([z, np.ones(np.shape(z))], axis=a),
    "np.append": lambda z, a: np.append(z, z, axis=a),
    "np.rot90": lambda z, a: np.rot90(z, 1, a),
    "np.tensordot": lambda z, a: np.tensordot(z, 2 * z, a),
    "np.vecdot": lambda z, a: np.vecdot(z, 2 * z, axis=a),
    "np.reshape": np.reshape,
    "np.tile": np.tile,
    "np.pad": np.pad,
    "np.broadcast_to": np.broadcast_to,
    "np.tril": np.tril,
    "np.diag": np.diag,
    "np.diagonal": np.diagonal,
    "np.trace": np.trace,
    "indexing": lambda z, a: z[a],
    "np.einsum": lambda z, a: np.einsum(z, a),
    "np.take_along_axis": lambda z, a: np.take_along_axis(
        z, np.zeros((1,) * np.ndim(z), int), a
    ),
}


def calls():
    """Yield the name of each function, a call of it, and the call's options."""
    for kind, all_functions in ALONG.items():
        for f, how, axis in itertools.product(all_functions, EACH[kind], AXES):
            given = {} if type(axis) is str else {"axis": axis}
            module = f.__module__.removesuffix("._linalg")
            name = f.__name__ if f.__module__.startswith("scratchnet") else None
            name = name or f"{module.replace('numpy', 'np', 1)}.{f.__name__}"
            yield name, partial(f, **how, **given), (how, given)
    for (name, f), axis in itertools.product(OTHERS.items(), AXES[1:]):
        yield name, lambda z, f=f, axis=axis: f(z, axis), axis


CALLS = {}
for name, *rest in calls():
    CALLS.setdefault(name, []).append(rest)


def several(result):
    return list(result) if isinstance(result, (tuple, list)) else [result]


def fault(name, call, shape):
    """Return the fault in the derivative of a call, or None."""
    rng = np.random.default_rng(0)
    z = np.array(rng.uniform(0.5, 2, shape))
    try:
        expected = several(call(z))
    except Exception as error:  # then the Tensor may fail or not
        expected = error
    try:
        found = several(call(Tensor(z.copy(), requires_grad=True)))
    except (TypeError, ValueError, IndexError) as error:
        called = name in str(error) or "missing" in str(error)  # Python's own error
        return None if called else f"{error} does not name it"
    if isinstance(expected, Exception):
        return None
    if list(map(np.shape, found)) != list(map(np.shape, expected)):
        return f"shapes {[x.shape for x in found]}"
    same = partial(np.allclose, equal_nan=True)
    if not all(map(same, map(plain, found), expected)):
        return f"values {found}"
    weights = [rng.uniform(0.5, 1.5, np.shape(x)) for x in expected]

    def loss(x):
        return sum(
            np.sum(a * w) for a, w in zip(several(call(x)), weights, strict=True)
        )

    try:
        g = grad(loss)(z)
        grad(lambda x: np.sum(grad(loss)(x) ** 2))(z)
    except Exception as error:
        return f"backward: {error!r}"
    if type(g) is not np.ndarray or g.shape != shape:
        return f"gradient {g!r}"
    slope = np.zeros(shape)
    for i in np.ndindex(*shape):
        right, left = z.copy(), z.copy()
        right[i] += 1e-6
        left[i] -= 1e-6
        slope[i] = (loss(right) - loss(left)) / 2e-6
    defined = np.isfinite(slope)
    agree = np.allclose(g[defined], slope[defined], rtol=1e-5, atol=1e-6)
    return None if agree else f"gradient {g.tolist()}, differences {slope.tolist()}"


def check(name, problems):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # means of empty arrays
        for (call, how), shape in problems:
            wrong = fault(name, call, shape)
            assert wrong is None, f"{name} of shape {shape}, {how}: {wrong}"


@pytest.mark.parametrize("name", CALLS)
def test_some_axes(name):
    problems = list(itertools.product(CALLS[name], SHAPES))
    check(name, random.Random(name).sample(problems, min(40, len(problems))))


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_all_axes(name):
    check(name, itertools.product(CALLS[name], SHAPES))


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda z: np.sum(z, axis=0), 1),
        (lambda z: np.prod(z, axis=0), 1),
        (lambda z: np.prod(z, axis=-1, keepdims=True), 1),
        (lambda z: np.nansum(z, axis=0), 1),
        (lambda z: np.max(z, axis=0), 1),
        (lambda z: np.sum(np.repeat(z, 2, axis=0)), 2),
        (lambda z: np.sum(np.repeat(z, [3], axis=-1)), 3),
        (lambda z: np.sum(np.take(z, [0, 0], axis=0)), 2),
        (lambda z: np.sum(np.cumprod(z, axis=0)), 1),
        (lambda z: np.sum(np.cumsum(z, axis=0)), 1),
    ],
)
def test_axis_0_of_a_number(call, expected):
    """NumPy treats a number as an array of one element."""
    for z in (3.0, np.array(3.0), Tensor(3.0)):
        g = grad(call)(z)
        assert type(g) is np.ndarray
        assert g.shape == ()
        assert g == expected


def test_axes_of_transpose_as_one_number():
    v = np.array([1.0, 2.0])
    for axes in (0, -1, np.int64(0), (0,), [0], np.array(0)):
        g = grad(lambda t, axes=axes: np.transpose(t, axes) @ v)(v)
        np.testing.assert_array_equal(g, v)
    np.testing.assert_array_equal(grad(lambda t: t.transpose(0) @ v)(v), v)


NAMES = [
    ("np.einsum", lambda t: np.einsum("ij,jk->ik", t, np.ones((2, 2)))),
    ("np.einsum", lambda t: np.einsum("ij,ij->", t, np.ones((3, 2)))),
    ("np.einsum", lambda t: np.einsum("ij->ijk", t)),
    ("np.where", lambda t: np.where(t > 0, t, np.ones(4))),
    ("np.clip", lambda t: np.clip(t, np.ones(4), None)),
    ("np.reshape", lambda t: np.reshape(t, 5)),
    ("np.pad", lambda t: np.pad(t, -1)),
    ("np.pad", lambda t: np.pad(t, [[1, 2, 3]])),
    ("np.hstack", lambda t: np.hstack([t, np.ones((3, 3))])),
    ("np.vstack", lambda t: np.vstack([t, np.ones(4)])),
    ("np.column_stack", lambda t: np.column_stack([t, np.ones(4)])),
    ("np.append", lambda t: np.append(t, np.ones(3), axis=0)),
    ("np.block", lambda t: np.block([[t], [np.ones((1, 4))]])),
    ("np.dot", lambda t: np.dot(t, np.ones((2, 2)))),
    ("np.dot", lambda t: np.dot(t, np.ones((2, 2, 2)))),
    ("np.inner", lambda t: np.inner(t, np.ones(2))),
    ("np.linalg.matmul", lambda t: np.linalg.matmul(t, np.ones((2, 2)))),
    ("np.linalg.slogdet", lambda t: np.linalg.slogdet(t)),
    ("np.linalg.norm", lambda t: np.linalg.norm(t, 2, axis=(0, 5))),
    ("np.diagonal", lambda t: np.diagonal(t, axis1=0, axis2=5)),
    ("np.trace", lambda t: np.trace(t[0])),
    ("np.ravel", lambda t: np.ravel(t, "K")),
    ("np.average", lambda t: np.average(t, axis=7)),
    ("indexing", lambda t: t[5]),
    ("indexing", lambda t: t["a"]),
    ("astype", lambda t: t.astype("no dtype")),
]


@pytest.mark.parametrize(("name", "call"), NAMES)
def test_an_error_names_what_was_called(name, call):
    helpers = ("contract", "getitem", "scatter", "two_norm", "log_abs_det")
    with pytest.raises((TypeError, ValueError, IndexError)) as caught:
        call(Tensor(np.ones((2, 3)), requires_grad=True))
    assert name in str(caught.value)
    assert not any(helper in str(caught.value) for helper in helpers)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("np.einsum", lambda x: np.einsum("i->", x)),
        ("indexing", lambda x: x[0]),
        ("np.reshape", lambda x: np.reshape(x, ())),
        ("np.where", lambda x: np.where([True], x, 0.0)),
        ("np.clip", lambda x: np.clip(x, 0, 1)),
        ("np.pad", lambda x: np.pad(x, 0)),
        ("np.linalg.slogdet", lambda x: np.linalg.slogdet(x[:, None])[1]),
        ("astype", lambda x: x.astype(np.float32)),
    ],
)
def test_an_error_on_the_way_back_names_what_was_called(name, call):
    y = call(Tensor(np.ones(1), requires_grad=True))
    y.backward()
    with pytest.raises(ValueError, match=f"the graph through {name} was freed"):
        y.backward()
