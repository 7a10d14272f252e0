"""The promises of the Tensor and the tape, each with a test that can fail."""

import array
import cmath
import contextlib
import copy
import ctypes
import gc
import math
import operator
import pickle
import re
import statistics
import struct
import sys
import tempfile
import threading
import tracemalloc
import weakref
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scratchnet
from scratchnet import (
    GraphError,
    NoRuleError,
    Tensor,
    grad,
    leaky_relu,
    mark_modified,
    no_grad,
    primitive,
    relu,
    rewrite,
    rule,
    rule_each,
    value_and_grad,
)
from scratchnet.graph import Node, plain
from scratchnet.nn import Module
from scratchnet.table import TABLE, apply, load, name_of, nondifferentiable
from tests.helpers import rng


def leaf(values, name=None):
    """Make a float64 leaf that requires a gradient, over memory of its own."""
    return Tensor(np.array(values, dtype=np.float64), requires_grad=True, name=name)


def slopes(f, x, step=1e-6):
    """Return df/dx entry by entry by central differences, for a plain f."""
    x = np.array(x, dtype=np.float64)
    found = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        there, here = x.copy(), x.copy()
        there[i] += step
        here[i] -= step
        found[i] = (f(there) - f(here)) / (2 * step)
    return found


@pytest.fixture
def table():
    """Let a test add rows to the table; remove them afterwards."""
    load()
    before = dict(TABLE)
    yield TABLE
    TABLE.clear()
    TABLE.update(before)


@contextlib.contextmanager
def no_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# --- The walk -----------------------------------------------------------------------


def test_the_question_of_the_docstring():
    a = leaf(3.0)
    b = a + a
    c = b + b
    c.backward()
    assert c.item() == 12
    assert a.grad == 4
    assert b.grad is None  # only leaves keep a gradient


def test_a_tensor_used_many_times_gets_every_contribution_once():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    p = a * b
    q = p + a
    r = p * q  # p twice, once through q
    np.sum(r * a).backward()
    # L = sum(a^2 b (a b + a)) = sum(a^3 b^2 + a^3 b)
    np.testing.assert_allclose(a.grad, 3 * a.data**2 * (b.data**2 + b.data))
    np.testing.assert_allclose(b.grad, a.data**3 * (2 * b.data + 1))


def test_a_tower_of_diamonds_is_walked_once_and_not_once_for_each_way():
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad == 2.0**60


def test_the_rules_of_each_node_run_once(table):
    calls = []

    @primitive
    def step(x):
        return x * 1.0

    rule(step, lambda g, y, x: calls.append(1) or g)
    x = leaf(1.0)
    y = x
    for _ in range(30):
        y = step(y) + step(y)
    y.backward()
    assert len(calls) == 60


def test_a_short_branch_waits_for_the_others():
    # The walk must not visit `h` by the short path before the long path has arrived.
    x = leaf(2.0)
    h = x * x
    long = h
    for _ in range(5):
        long = long * 1.5
    (h + long).backward()
    np.testing.assert_allclose(x.grad, 2 * 2.0 * (1 + 1.5**5))


def test_a_chain_of_100_000_calls():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 0.0
    y.backward()
    assert x.grad == 1
    del y  # freed by the walk


def test_a_chain_of_100_000_calls_can_be_freed_unwalked():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 0.0
    gone = weakref.ref(y)
    with no_garbage_collector():
        del y
        assert gone() is None


def test_a_chain_of_10_000_calls_differentiated_twice():
    x = leaf(1.0)

    def f(x):
        y = x * x
        for _ in range(10_000):
            y = y + 0.0
        return y

    assert grad(grad(f))(x) == 2


def test_gradients_of_all_inputs_reach_leaves_through_views_and_methods():
    x = leaf(np.arange(6.0).reshape(2, 3))
    np.sum(x.T.reshape(6)[1:4] ** 2).backward()
    expected = slopes(lambda v: np.sum(v.T.reshape(6)[1:4] ** 2), x.data)
    np.testing.assert_allclose(x.grad, expected, atol=1e-8)


def test_backward_of_a_leaf_itself():
    x = leaf(5.0)
    x.backward()
    assert x.grad == 1


def test_an_infinite_derivative_is_a_value_and_no_warning():
    x = leaf([0.0, 4.0])
    np.sum(np.sqrt(x)).backward()
    np.testing.assert_array_equal(x.grad, [np.inf, 0.25])


# --- Memory -------------------------------------------------------------------------


def build(x):
    """Return a loss, and weak references to all its intermediate results."""
    made = [np.tanh(x)]
    for _ in range(5):
        made.append(made[-1] * 2.0 - np.tanh(made[-1]))
    loss = np.sum(made[-1])
    watched = [weakref.ref(v) for t in made for v in (t, t.data, t._node)]
    return loss, watched


def dead(watched):
    return all(ref() is None for ref in watched)


@pytest.fixture
def node_with_weakref(monkeypatch):
    """Add a slot for weak references to Nodes."""

    class Watched(Node):
        __slots__ = ("__weakref__",)

    monkeypatch.setattr("scratchnet.table.Node", Watched)


@pytest.mark.usefixtures("node_with_weakref")
def test_a_graph_is_freed_without_the_garbage_collector():
    x = leaf([1.0, 2.0])
    with no_garbage_collector():
        loss, watched = build(x)
        assert not dead(watched)
        del loss
        assert dead(watched)


@pytest.mark.usefixtures("node_with_weakref")
def test_a_walked_graph_is_freed_though_the_loss_lives():
    x = leaf([1.0, 2.0])
    with no_garbage_collector():
        loss, watched = build(x)
        loss.backward()
        assert dead(watched)
        assert loss.item() > 0


@pytest.mark.usefixtures("node_with_weakref")
@pytest.mark.parametrize("order", [1, 2])
def test_grad_leaves_nothing_behind(order):
    x = leaf([1.0, 2.0])
    watched = []

    def f(x):
        loss, found = build(x)
        watched.extend(found)
        return loss

    with no_garbage_collector():
        result = f
        for _ in range(order - 1):
            inner = grad(result)
            result = lambda x, inner=inner: np.sum(inner(x))
        grad(result)(x)
        assert dead(watched)


@pytest.mark.usefixtures("node_with_weakref")
def test_a_graph_that_failed_is_freed_too():
    x = leaf([1.0, 2.0])
    with no_garbage_collector():
        loss, watched = build(x)
        mark_modified(x)
        with pytest.raises(GraphError):
            loss.backward()
        del loss
        assert dead(watched)


@pytest.mark.usefixtures("node_with_weakref")
def test_create_graph_holds_the_graph_until_grad_is_forgotten():
    x = leaf([1.0, 2.0])
    with no_garbage_collector():
        loss, watched = build(x)
        loss.backward(create_graph=True)
        del loss
        assert not dead(watched)  # x.grad is a Tensor made from them
        x.grad = None
        assert dead(watched)


@pytest.mark.parametrize("walk", ["backward", "grad"])
def test_memory_falls_during_the_walk(table, walk):
    alive_at_the_end = []

    @primitive
    def first(x):
        return x + 0.0

    def count(g, y, x):
        alive_at_the_end.append(sum(ref() is not None for ref in arrays))
        return g

    rule(first, count)
    arrays = []

    def f(x):
        y = first(x)
        for _ in range(20):
            y = np.exp(-y)
            arrays.append(weakref.ref(y.data))
        return np.sum(y)

    x = leaf(np.ones(3))
    f(x).backward() if walk == "backward" else grad(f)(x.data)
    assert alive_at_the_end[0] <= 1


def test_peak_memory_of_backward_is_a_few_arrays():
    x = leaf(np.ones(100_000))  # 0.8 MB
    y = x
    for _ in range(30):
        y = np.tanh(y)
    loss = np.sum(y)
    del y
    tracemalloc.start()
    loss.backward()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * x.data.nbytes


def test_no_grad_and_plain_inputs_record_nothing():
    x, c = leaf([1.0]), Tensor([1.0])
    with no_grad():
        y = np.exp(x)
    for t in (y, np.exp(c), c + 1, c @ c):
        assert not t.requires_grad
        assert t._node is None


# --- Walking twice ------------------------------------------------------------------


def test_a_second_backward_says_that_the_graph_was_freed():
    x = leaf([1.0, 2.0])
    loss = np.sum(x * x)
    loss.backward()
    first = x.grad.copy()
    with pytest.raises(GraphError, match=r"(?s)freed .*retain_graph=True"):
        loss.backward()
    np.testing.assert_array_equal(x.grad, first)


def test_a_new_result_over_a_freed_graph_says_so_and_touches_no_grad():
    x, z = leaf([1.0, 2.0]), leaf([1.0, 1.0])
    h = np.exp(x)
    np.sum(h).backward()
    x.grad = None
    with pytest.raises(GraphError, match=r"np\.exp was freed"):
        np.sum(h * z).backward()
    assert x.grad is None
    assert z.grad is None


def test_retain_graph_gives_the_right_answer_each_time():
    x = leaf([1.0, 2.0])
    loss = np.sum(np.exp(x) * x)
    expected = np.exp(x.data) * (x.data + 1)
    for times in (1, 2, 3):
        loss.backward(retain_graph=times < 3)
        np.testing.assert_allclose(x.grad, times * expected)
    with pytest.raises(GraphError, match="freed"):
        loss.backward()


def test_two_losses_with_a_shared_part():
    x = leaf([0.5, 2.0])
    h = np.tanh(x)
    first, second = np.sum(h), np.sum(h * h)
    first.backward(retain_graph=True)
    second.backward()
    y = np.tanh(x.data)
    np.testing.assert_allclose(x.grad, (1 - y * y) * (1 + 2 * y))


# --- .grad --------------------------------------------------------------------------


def test_grad_accumulates_until_it_is_set_to_none():
    x = leaf([1.0, 2.0])
    for _ in range(3):
        np.sum(3 * x).backward()
    np.testing.assert_array_equal(x.grad, [9.0, 9.0])
    x.grad = None
    np.sum(3 * x).backward()
    np.testing.assert_array_equal(x.grad, [3.0, 3.0])


def test_accumulating_does_not_change_the_old_array():
    x = leaf([1.0])
    np.sum(x).backward()
    kept = x.grad
    np.sum(x).backward()
    assert kept == 1
    assert x.grad == 2


@pytest.mark.parametrize(
    "f",
    [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a + b[::-1],
        lambda a, b: np.concatenate([a, b]).reshape(2, 3).sum(axis=0),
        lambda a, b: np.stack([a, b]).sum(axis=0),
        lambda a, b: np.broadcast_to(a, (1, 3))[0] + b,
        lambda a, b: a.reshape(3, 1).T[0] + b,
        lambda a, b: np.positive(a) + b.copy(),
    ],
)
@pytest.mark.parametrize("given_gradient", [True, False])
def test_grad_never_shares_memory(f, given_gradient):
    a, b = leaf([1.0, 2.0, 3.0]), leaf([4.0, 5.0, 6.0])
    g = np.ones(3)
    y = f(a, b)
    if given_gradient:
        y.backward(g)
    else:
        np.sum(y).backward()
    arrays = [a.grad, b.grad, g, a.data, b.data, y.data]
    for i, one in enumerate(arrays[:2]):
        assert one.flags.writeable
        assert one.flags.owndata
        assert not any(np.shares_memory(one, other) for other in arrays[i + 1 :])
    a.grad *= 0
    np.testing.assert_array_equal(np.abs(b.grad), np.ones(3))
    np.testing.assert_array_equal(g, np.ones(3))


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("chosen", [False, True])
def test_the_gradient_of_a_number_is_an_array(times, create_graph, chosen):
    """Also if the number is used twice: the sum of two 0-d arrays is a NumPy scalar."""
    x, y = leaf(2.0), leaf(3.0)
    for calls in (1, 2, 3):
        loss = sum(x * y for _ in range(times))
        loss.backward(create_graph=create_graph, inputs=[x, y] if chosen else None)
        for t in (x, y):
            g = plain(t.grad)
            assert isinstance(t.grad, Tensor) is create_graph
            assert type(g) is np.ndarray
            assert g.shape == ()
        assert plain(x.grad) == 3 * times * calls
        assert not np.shares_memory(plain(x.grad), plain(y.grad))
        if not create_graph:
            kept = x.grad.copy()
            x.grad[...] = 0
            assert y.grad == 2 * times * calls
            x.grad[...] = kept
    x.grad = None


def test_gradients_as_functions_give_arrays():
    for f in (lambda a: a, lambda a: a + a, lambda a: a * a * a, lambda a: 3.0,
              lambda a: np.float64(3.0), lambda a: np.sign(a)):  # fmt: skip
        for x in (3.0, np.float64(3.0), np.array(3.0), np.float32(3.0)):
            value, g = value_and_grad(f)(x)
            for found in (value, g, grad(f)(x), grad(f, (0,))(x)[0]):
                assert type(found) is np.ndarray
                assert found.shape == ()
                found[...] = 7  # no other array changes
    assert type(grad(grad(lambda a: a**3))(3.0)) is np.ndarray
    x = np.array([1.0, 2.0])
    value, g = value_and_grad(lambda a: a[0])(x)
    value[...] = g[...] = 5
    np.testing.assert_array_equal(x, [1, 2])


def test_the_gradient_of_a_leaf_is_not_the_array_that_was_passed():
    x, g = leaf([1.0, 2.0]), np.array([1.0, 1.0])
    x.backward(g)
    assert x.grad is not g
    assert not np.shares_memory(x.grad, g)


def test_one_leaf_reached_by_nothing_but_views_gets_its_own_array():
    x = leaf([1.0, 2.0])
    np.sum(x).backward()
    assert x.grad.base is None
    x.grad += 1
    np.testing.assert_array_equal(x.grad, [2.0, 2.0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_gradient_has_the_dtype_of_its_input(dtype):
    x = Tensor(np.array([1.0, 2.0], dtype), requires_grad=True)
    for partner in (
        np.array([1.5, 2.5]),
        np.array([1, 2]),
        np.float64(2.0),
        np.int64(3),
        np.array([True, False]),
        3,
        0.5,
    ):
        for f in (np.add, np.multiply, np.divide, np.power, np.maximum, np.arctan2):
            x.grad = None
            np.sum(f(x, partner + np.int8(1) if f is np.divide else partner)).backward()
            assert x.grad.dtype == dtype, (f, partner)
            x.grad = None
            np.sum(f(partner, x)).backward()
            assert x.grad.dtype == dtype, (f, partner)
    x.grad = None
    (x * 1).backward(np.ones(2, np.float64))
    assert x.grad.dtype == dtype
    x.grad = None
    (x * 1).backward([1, 1])
    assert x.grad.dtype == dtype
    assert grad(lambda v: np.sum(v * np.array([1.5, 2.5])))(x).dtype == dtype


def test_float32_stays_float32():
    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    w = Tensor(np.ones((3, 3), np.float32), requires_grad=True)
    h = relu(np.tanh(x @ w + 1.0) * 2 - 0.5) / 3
    loss = np.mean(np.square(h)) + 0.1 * np.sum(np.abs(w)) ** 2
    for t in (h, loss, x.mean(), x.std(axis=0), 1 / (x + 1), 2.0**x, x**2):
        assert t.dtype == np.float32
    loss.backward()
    assert x.grad.dtype == w.grad.dtype == np.float32


def test_dtypes_are_mixed_in_the_backward_pass():
    x = Tensor(np.array([1.0, 2.0], np.float32), requires_grad=True)
    y = leaf([3.0, 4.0])
    h = x.astype(np.float64) * y
    assert h.dtype == np.float64
    np.sum(h.astype("float32")).backward()
    assert x.grad.dtype == np.float32
    assert y.grad.dtype == np.float64
    np.testing.assert_array_equal(x.grad, y.data)


@given(data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_gradients_are_summed_over_broadcast_axes(data):
    whole = tuple(data.draw(st.lists(st.integers(0, 3), max_size=4)))
    shapes = []
    for _ in range(2):
        start = data.draw(st.integers(0, len(whole)))
        ones = data.draw(st.lists(st.booleans(), min_size=4, max_size=4))
        part = zip(whole[start:], ones, strict=False)
        shapes.append(tuple(1 if one else n for n, one in part))
    rng = np.random.default_rng(0)
    a, b = (leaf(rng.normal(size=shape)) for shape in shapes)
    y = a * b
    g = rng.normal(size=y.shape)
    y.backward(g)
    for x, other in ((a, b), (b, a)):
        expected = np.zeros(x.shape)
        contributions = g * other.data
        for i in np.ndindex(y.shape):
            tail = i[len(i) - x.ndim :]
            place = tuple(min(k, n - 1) for k, n in zip(tail, x.shape, strict=True))
            expected[place] += contributions[i]
        assert x.grad.shape == x.shape
        np.testing.assert_allclose(x.grad, expected, rtol=1e-12, atol=1e-12)


def test_backward_goes_only_to_the_inputs_that_are_asked_for():
    used = []
    spy = primitive(lambda x, W: x @ W)
    rule(
        spy,
        lambda g, y, x, W: used.append("x") or g @ W.T,
        lambda g, y, x, W: used.append("W") or x.T @ g,
    )
    try:
        first, second = leaf(np.eye(2)), leaf([[1.0, 2.0], [3.0, 4.0]])
        h = spy(np.ones((3, 2)), first)
        np.sum(spy(h, second)).backward(inputs=[first])
    finally:
        del TABLE[spy]
    assert used == ["x", "W"]  # through the second product, but not to its W
    np.testing.assert_array_equal(first.grad, 3 * np.array([[3.0, 7.0], [3.0, 7.0]]))
    assert second.grad is None
    a, b = leaf(2.0), leaf(3.0)
    (a * b).backward(inputs=(x for x in (a, a)))  # any iterable; duplicates count once
    assert a.grad == 3
    assert b.grad is None
    for create_graph in (False, True):
        y = a * a
        y.backward(inputs=[b], create_graph=create_graph)  # b is not in the graph
        assert y.grad is b.grad is None


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([], ValueError, "inputs is empty; None stands for all"),
        ([np.ones(2)], TypeError, r"ndarray of shape \(2,\) in inputs is not a leaf"),
        ("result", TypeError, r"Tensor of shape \(\) in inputs is not a leaf"),
    ],
)
def test_inputs_of_backward_are_leaves(inputs, error, message):
    a = leaf(2.0)
    y = a * a
    with pytest.raises(error, match=message):
        (y + 1).backward(inputs=[y] if inputs == "result" else inputs)
    assert a.grad is None
    (y + 1).backward()
    assert a.grad == 4


# --- Errors of the walk -------------------------------------------------------------


def test_backward_needs_a_single_number():
    x = leaf([[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"\(1, 2\) is not a single number.*np.sum"):
        (x * 2).backward()
    (x[:, :1] * 2).backward()  # one element, whatever its shape
    np.testing.assert_array_equal(x.grad, [[2.0, 0.0]])


@pytest.mark.parametrize("g", [np.ones(3), np.ones((2, 1)), 1.0, np.ones((1, 2))])
def test_a_gradient_of_another_shape(g):
    x = leaf([1.0, 2.0])
    with pytest.raises(ValueError, match=r"gradient of shape .* of shape \(2,\)"):
        (x * 2).backward(g)
    assert x.grad is None


def test_nothing_to_differentiate():
    x = leaf([1.0])
    with no_grad():
        y = np.sum(x)
    for t in (y, Tensor(1.0), x.detach()):
        with pytest.raises(GraphError, match=r"(?s)requires no gradient.*no_grad"):
            t.backward()


def wrong_rule(g, y, x):
    raise RuntimeError("this rule is broken")


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (wrong_rule, "this rule is broken"),
        (
            lambda g, y, x: g.T,
            r"returned shape \(3, 2\) for an input of shape \(2, 3\)",
        ),
        (lambda g, y, x: g.reshape(6), r"returned shape \(6,\)"),
        (lambda g, y, x: np.sum(g), r"returned shape \(\)"),
        (lambda g, y, x: g[0], r"returned shape \(3,\)"),
        (lambda g, y, x: g[:1], r"returned shape \(1, 3\)"),
        (lambda g, y, x: np.stack([g, g], axis=-1), r"returned shape \(2, 3, 2\)"),
    ],
)
@pytest.mark.parametrize("create_graph", [False, True])
def test_an_error_midway_touches_no_grad(table, wrong, error, create_graph):
    @primitive
    def broken(x):
        return x * 2.0

    rule(broken, wrong)
    first, last = leaf(np.ones((2, 3))), leaf(np.ones((2, 3)))
    last.grad = kept = np.full((2, 3), 7.0)
    loss = np.sum(broken(first) + last)  # `last` has its gradient before the error
    with pytest.raises((RuntimeError, GraphError), match=error):
        loss.backward(create_graph=create_graph)
    assert first.grad is None
    assert last.grad is kept
    np.testing.assert_array_equal(kept, 7.0)


def test_a_grad_that_cannot_be_added_to_touches_no_other():
    a, b = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    for one, other in ((a, b), (b, a)):
        one.grad, other.grad = np.ones(3), None
        with pytest.raises(ValueError, match="broadcast"):
            np.sum(a * b).backward()
        assert other.grad is None
        assert one.grad.shape == (3,)


def test_recording_is_restored_after_an_error(table):
    @primitive
    def broken(x):
        return x * 2.0

    rule(broken, wrong_rule)
    x = leaf([1.0])
    with pytest.raises(RuntimeError):
        broken(x).backward()
    assert (x * 2).requires_grad
    with pytest.raises(RuntimeError):
        grad(lambda v: np.sum(broken(v)))(x)
    assert (x * 2).requires_grad
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (x * 2).requires_grad


# --- Stale values -------------------------------------------------------------------


def write(w):
    """Change a parameter as an optimiser does."""
    w.data -= 0.1
    mark_modified(w)


def over_the_flat_buffer(w):
    """Return another Tensor over the whole memory of w."""
    return Tensor(w.data.base if w.data.base is not None else w.data)


def detached(w):
    return w.detach()


def reshaped_outside(w):
    with no_grad():
        return np.reshape(w, (-1,))


@pytest.mark.parametrize(
    "read",
    [
        lambda w: w * w,
        lambda w: w.T @ w.T,
        lambda w: np.transpose(w)[0],
        lambda w: w[1:],
        lambda w: w.reshape(4),
        detached,
        lambda w: detached(w).T,
        lambda w: detached(w).reshape(4)[1:],
        reshaped_outside,
        lambda w: Tensor(w),
        lambda w: Tensor(w.data.T),
        lambda w: Tensor(w.data[:1].view()),
        over_the_flat_buffer,
        lambda w: w.data,  # a plain array
    ],
)
@pytest.mark.parametrize("flat", [True, False])
def test_a_parameter_that_changed_after_it_was_read(read, flat):
    if flat:
        buffer = np.arange(10.0)
        w = Tensor(buffer[2:6].reshape(2, 2), requires_grad=True, name="W")
    else:
        w = leaf([[1.0, 2.0], [3.0, 4.0]], name="W")
    z = leaf(2.0, name="z")
    loss = np.sum(z * np.sum(z * read(w))) + z
    write(w)
    with pytest.raises(GraphError, match=r"(?s)changed in place .*; optimizer.step"):
        loss.backward()
    assert w.grad is None
    assert z.grad is None
    np.sum(z * read(w)).backward()  # valid after reading w again
    assert z.grad is not None


def test_a_value_that_was_computed_before_the_change_is_not_stale():
    w, z = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    loss = np.sum(z * (w.detach() * 2.0) + z * w.detach().copy() + z * w.data.copy())
    write(w)
    loss.backward()
    np.testing.assert_array_equal(z.grad, [4.0, 8.0])


def test_the_error_names_the_parameter_its_shape_and_the_function():
    w = leaf(np.ones((3, 2)), name="discriminator.W")
    loss = np.sum(np.ones((1, 3)) @ w)
    write(w)
    with pytest.raises(
        GraphError, match=r"'discriminator.W' of shape \(3, 2\) .*\(in np.matmul\)"
    ):
        loss.backward()


def test_a_frozen_input_can_be_stale():
    x, w = leaf([1.0, 2.0]), Tensor(np.array([3.0, 4.0]), name="frozen")
    loss = np.sum(x * w)
    w.data[...] = 0
    mark_modified(w)
    with pytest.raises(GraphError, match="'frozen'"):
        loss.backward()
    assert x.grad is None


def test_the_classic_mistake_of_a_gan():
    g, d = leaf([1.0], "G.w"), leaf([2.0], "D.w")
    fake = g * 3.0
    d_loss, g_loss = np.sum(d * fake.detach()), np.sum(d * fake)
    d_loss.backward()
    write(d)  # D's step, then G's loss, which read the old D
    with pytest.raises(GraphError, match=r"'D\.w'"):
        g_loss.backward()
    assert g.grad is None


def test_an_intermediate_result_that_was_written_is_stale():
    x = leaf([1.0, 2.0])
    h = np.exp(x)
    loss = np.sum(h)
    h.data[...] = 0
    mark_modified(h)
    with pytest.raises(GraphError, match=r"shape \(2,\) .*in np.exp"):
        loss.backward()


def test_data_bound_to_another_array():
    w = leaf([1.0, 2.0], name="W")
    loss = np.sum(w * w)
    w.data = np.array([3.0, 4.0])
    with pytest.raises(GraphError, match="'W'"):
        loss.backward()
    assert w.grad is None
    np.sum(w * w).backward()
    np.testing.assert_array_equal(w.grad, [6.0, 8.0])


def test_binding_data_leaves_other_graphs_over_the_old_memory_valid():
    w, x = leaf([1.0, 2.0]), leaf([1.0, 1.0])
    loss = np.sum(x * w.detach())
    w.data = np.array([3.0, 4.0])
    loss.backward()
    np.testing.assert_array_equal(x.grad, [1.0, 2.0])


def test_binding_data_leaves_graphs_over_the_new_memory_valid():
    a, b, x = leaf([1.0, 2.0]), leaf([3.0, 4.0]), leaf([1.0, 1.0])
    loss = np.sum(x * b)
    a.data = b.data
    loss.backward()
    np.testing.assert_array_equal(x.grad, [3.0, 4.0])


def test_a_tensor_bound_to_the_array_of_another_shares_its_version():
    a, b, x = leaf([1.0]), leaf([2.0]), leaf([3.0])
    a.data = b.data
    loss = np.sum(x * a)
    write(b)
    with pytest.raises(GraphError, match="changed"):
        loss.backward()


def test_a_change_before_the_graph_or_of_other_memory_does_no_harm():
    buffer = np.ones(4)
    w, other = Tensor(buffer[:2], requires_grad=True), leaf([1.0, 1.0])
    write(w)
    loss = np.sum(w * w)
    write(other)
    loss.backward()
    write(w)
    loss = np.sum(w * w)
    loss.backward()


def test_a_change_of_views_of_other_memory_than_a_plain_ndarray(tmp_path):
    memory = np.memmap(tmp_path / "w", dtype=np.float64, shape=(2, 2), mode="w+")
    memory[...] = 1
    for owner in (memory, np.ones((2, 2)).view(np.ma.MaskedArray), bytearray(32)):
        array = np.frombuffer(owner) if isinstance(owner, bytearray) else owner
        w, x = Tensor(array, requires_grad=True), leaf(np.ones(array.shape))
        loss = np.sum(x * Tensor(array.T if array.ndim == 2 else array[:]))
        write(w)
        with pytest.raises(GraphError, match="changed"):
            loss.backward()


def test_an_address_that_is_used_again_raises_no_false_error():
    x = leaf([1.0, 2.0])
    addresses = set()
    for _ in range(200):
        w = Tensor(np.ones(2))
        addresses.add(id(w.data))
        np.sum(x * w).backward()
        mark_modified(w)
        w.data = np.ones(2)
    assert len(addresses) < 200  # so some were used again


def test_every_version_is_compared_before_the_first_rule_runs(table):
    calls = []

    @primitive
    def watched(x):
        return x * 1.0

    rule(watched, lambda g, y, x: calls.append(1) or g)
    w = leaf([1.0])
    loss = np.sum(watched(w * 2.0))  # the oldest call is the stale one
    write(w)
    with pytest.raises(GraphError, match="changed"):
        loss.backward()
    assert calls == []


@pytest.mark.parametrize("transform", [grad, value_and_grad])
def test_a_change_inside_a_function_that_is_differentiated(transform):
    w = leaf([1.0, 2.0], name="W")

    def f(x):
        y = np.sum(x * w)
        write(w)
        return y

    with pytest.raises(GraphError, match="'W'"):
        transform(f)(np.ones(2))


# --- Copies -------------------------------------------------------------------------


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_a_new_leaf(how):
    w = leaf([1.0, 2.0], name="W")
    np.sum(w * 3).backward()
    twin = COPIES[how](w)
    assert type(twin) is Tensor
    assert twin.requires_grad
    assert twin.name == "W"
    assert twin.grad is None
    assert twin._node is None
    assert twin.dtype == w.dtype
    np.testing.assert_array_equal(twin.data, w.data)
    assert not np.shares_memory(twin.data, w.data)
    np.sum(twin * 5).backward()
    np.testing.assert_array_equal(twin.grad, [5.0, 5.0])
    np.testing.assert_array_equal(w.grad, [3.0, 3.0])


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize(
    "around", [lambda t: t, lambda t: [t], lambda t: {"a": (1, t)}, lambda t: Keeper(t)]
)
def test_a_copy_of_a_result_is_refused(how, around):
    """A copy would be a leaf, and results made from it would lose their gradient."""
    w = leaf([1.0, 2.0], name="W")
    h = np.exp(w)
    shallow = how == "copy" and around(h) is not h
    refusal = contextlib.nullcontext() if shallow else pytest.raises(
        TypeError,
        match=r"(?s)shape \(2,\), which np\.exp made.*gradient.*t\.detach\(\)",
    )  # fmt: skip
    with refusal:  # a shallow copy holds the Tensor itself
        COPIES[how](around(h))
    np.sum(h).backward()
    with refusal:  # freed, but still a result
        COPIES[how](around(h))
    np.testing.assert_allclose(w.grad, h.data)
    kept = COPIES[how](around(h.detach()))
    assert kept is not None


def test_a_copy_of_a_result_that_has_no_history_is_a_leaf():
    w = leaf([1.0, 2.0])
    with no_grad():
        h = np.exp(w)
    np.testing.assert_array_equal(copy.deepcopy(h).data, h.data)
    np.testing.assert_array_equal(copy.copy(Tensor([1.0]) * 2).data, [2.0])


class Layer(Module):
    """A module that stores its result, as many do."""

    def __init__(self):
        self.w = leaf([2.0])

    def forward(self, x):
        self.kept = x * self.w
        return self.kept


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_of_a_module_that_kept_a_result_is_refused(how):
    layer = Layer()
    layer(np.ones(1))
    with pytest.raises(TypeError, match=r"(?s)np\.multiply made.*t\.detach\(\)"):
        COPIES[how](layer)
    layer.kept = layer.kept.detach()
    np.testing.assert_array_equal(COPIES[how](layer).w.data, [2.0])


def test_a_tensor_made_of_a_result_is_refused():
    w = leaf([1.0, 2.0])
    for make in (Tensor, lambda t: Tensor(t, requires_grad=True)):
        with pytest.raises(TypeError, match=r"Tensor\(t\) of .*np\.exp made"):
            make(np.exp(w))
        assert make(w).data is w.data  # a leaf may be wrapped again
        for x in (np.ones(2), w):  # grad's argument is not a leaf of the user
            with pytest.raises(TypeError, match="gradient would be lost"):
                grad(lambda t, make=make: np.sum(make(t) ** 2))(x)
    with pytest.raises(TypeError, match=r"np\.exp made"):
        w.data = np.exp(w)


class Keeper:
    def __init__(self, kept):
        self.kept = kept


class Model:
    def __init__(self):
        self.W, self.b = leaf([[1.0, 2.0]], "W"), leaf([3.0], "b")
        self.tied = self.W

    def loss(self, x):
        return np.sum(np.tanh(x @ self.W.T + self.b) * self.tied[0, 0])


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copied_model_shares_nothing_with_its_twin(how):
    model = Model()
    twin = COPIES[how](model)
    assert twin.tied is twin.W  # a shared Tensor stays shared
    x = np.array([[1.0, -1.0]])
    together = model.loss(x) + twin.loss(x)  # their calls alternate in one graph
    together.backward()
    alone = Model()
    alone.loss(x).backward()
    for one in (model, twin):
        np.testing.assert_array_equal(one.W.grad, alone.W.grad)
        np.testing.assert_array_equal(one.b.grad, alone.b.grad)
    assert not np.shares_memory(model.W.grad, twin.W.grad)
    loss = model.loss(x)
    write(twin.W)
    loss.backward()  # not stale: the twin has other memory
    np.testing.assert_array_equal(model.W.data, alone.W.data)


def test_a_copy_of_a_subclass_has_its_class():
    class Parameter(Tensor):
        __slots__ = ()

    assert type(copy.deepcopy(Parameter([1.0]))) is Parameter


def test_np_copy_is_recorded():
    x = leaf([1.0, 2.0])
    np.sum(np.copy(x) * 2 + x.copy()).backward()
    np.testing.assert_array_equal(x.grad, [3.0, 3.0])


# --- Derivatives of derivatives -----------------------------------------------------


def test_create_graph_makes_grad_a_tensor_that_can_be_differentiated():
    x = leaf([1.0, 2.0])
    np.sum(x**3).backward(create_graph=True)
    first = x.grad
    assert isinstance(first, Tensor)
    np.testing.assert_allclose(first.data, 3 * x.data**2)
    x.grad = None
    np.sum(first * first).backward()
    np.testing.assert_allclose(x.grad, 36 * x.data**3)
    assert isinstance(x.grad, np.ndarray)
    x.grad = None


def test_after_an_ordinary_backward_grad_is_an_array_again():
    x = leaf([1.0, 2.0])
    loss = np.sum(x**3)
    loss.backward(create_graph=True)
    loss.backward()
    assert type(x.grad) is np.ndarray
    np.testing.assert_allclose(x.grad, 6 * x.data**2)


def test_create_graph_accumulates_recorded():
    x = leaf([1.0, 2.0])
    for _ in range(2):
        np.sum(x**3).backward(create_graph=True)
    total, x.grad = x.grad, None
    np.sum(total).backward()
    np.testing.assert_allclose(x.grad, 12 * x.data)
    x.grad = None


def test_create_graph_keeps_the_graph():
    x = leaf([1.0, 2.0])
    loss = np.sum(np.exp(x))
    loss.backward(create_graph=True)
    x.grad = None
    loss.backward()
    np.testing.assert_allclose(x.grad, np.exp(x.data))


def test_create_graph_of_a_constant_slope_is_still_a_tensor(table):
    @primitive
    def three_times(x):
        return 3.0 * x

    rule(three_times, lambda g, y, x: np.full(x.shape, 3.0))
    x = leaf([1.0, 2.0])
    np.sum(three_times(x)).backward(create_graph=True)
    assert isinstance(x.grad, Tensor)
    x.grad = None


def test_a_gradient_with_a_history_of_its_own():
    x, v = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (x * x).backward(v, create_graph=True)
    product, x.grad = x.grad, None  # 2 x v
    np.sum(product * product).backward()  # sum (2 x v)^2
    np.testing.assert_allclose(v.grad, 8 * x.data**2 * v.data)
    np.testing.assert_allclose(x.grad, 8 * x.data * v.data**2)
    x.grad = v.grad = None
    (x * x).backward(v)  # without create_graph only its value counts
    np.testing.assert_allclose(x.grad, 2 * x.data * v.data)
    assert v.grad is None


@pytest.mark.parametrize("order", range(1, 6))
def test_grad_of_grad_of(order):
    f = np.sin
    for _ in range(order):
        f = grad(f)
    x = np.float64(0.7)
    result = f(x)
    assert type(result) is np.ndarray
    np.testing.assert_allclose(result, np.sin(x + order * np.pi / 2), rtol=1e-12)


def test_the_diagonal_of_a_hessian():
    f = lambda x: np.sum(np.exp(x) * np.sum(x * x))
    x = np.array([0.5, -1.0, 2.0])
    for i in range(3):
        row = grad(lambda v, i=i: grad(f)(v)[i])(x)
        expected = slopes(lambda v, i=i: grad(f)(v)[i], x)
        np.testing.assert_allclose(row, expected, rtol=1e-7, atol=1e-7)


def penalty(x, w, v, recorded):
    """Return the squared slope of D(x) = tanh(x W) v along its inputs, a row each."""
    slope = grad(lambda x: np.sum(np.tanh(x @ w) @ v))(x)
    assert isinstance(slope, Tensor) == recorded
    return np.mean(np.sum(slope * slope, axis=1))


def test_a_gradient_penalty_reaches_the_parameters_outside():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 3))
    w, v = leaf(rng.normal(size=(3, 5))), leaf(rng.normal(size=5))
    loss = penalty(x, w, v, recorded=True)
    assert w.grad is None  # stored nowhere
    loss.backward()
    for p, f in (
        (w, lambda a: penalty(x, a, v.data, recorded=False)),
        (v, lambda a: penalty(x, w.data, a, recorded=False)),
    ):
        np.testing.assert_allclose(p.grad, slopes(f, p.data), rtol=1e-7, atol=1e-8)


def test_a_gradient_penalty_is_a_number_under_no_grad():
    x, w, v = np.ones((2, 3)), leaf(np.ones((3, 2))), leaf(np.ones(2))
    with no_grad():
        penalty(x, w, v, recorded=False)
        assert not (w * 2).requires_grad
    frozen = Tensor(w.data), Tensor(v.data)
    penalty(x, *frozen, recorded=False)


def test_a_gradient_penalty_by_backward_with_create_graph():
    x, w = leaf([[1.0, 2.0]]), leaf([[0.5], [-1.0]])
    np.sum(np.tanh(x @ w)).backward(create_graph=True)
    slope, x.grad, w.grad = x.grad, None, None
    np.sum(slope * slope).backward()
    f = lambda a: np.sum((a * (1 - np.tanh(x.data @ a) ** 2)) ** 2)
    np.testing.assert_allclose(w.grad, slopes(f, w.data), rtol=1e-8)
    x.grad = w.grad = None


def test_grad_stores_nothing_on_leaves():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    w.grad = kept = np.array([9.0, 9.0])
    grad(lambda v: np.sum(v * w * x))(x)
    value_and_grad(lambda v: np.sum(grad(lambda u: np.sum(u * u * w))(v)))(x)
    assert x.grad is None
    assert w.grad is kept
    np.testing.assert_array_equal(kept, 9.0)


def test_no_perturbation_confusion():
    # d/dx (x * d/dy (x + y)) = 1; an engine that confuses x and y gives 2.
    assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0) == 1
    # d/dx (x * d/dy (x y)) = d/dx x^2, where the inner y is the outer x itself
    assert grad(lambda x: x * grad(lambda y: x * y)(x))(3.0) == 6
    # the inner function uses x twice; only one is its argument
    assert grad(lambda x: grad(lambda y: x * y * y)(x))(3.0) == 12
    # and with a Tensor outside that requires a gradient
    x = leaf(3.0)
    result = grad(lambda y: x * y * y)(x)
    assert result.item() == 18
    result.backward()
    assert x.grad == 12


def test_the_same_tensor_as_both_arguments():
    x = leaf(3.0)
    da, db = grad(lambda a, b: a * a * b, argnums=(0, 1))(x, x)
    assert (da.item(), db.item()) == (18, 9)
    da.backward()  # through both arguments: d(2 a b)/dx = 4 x
    assert x.grad == 12


def test_argnums():
    f = lambda a, b, c: np.sum(a * b * b + 0 * c)
    a, b = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    np.testing.assert_array_equal(grad(f)(a, b, 0), b * b)
    np.testing.assert_array_equal(grad(f, 1)(a, b, 0), 2 * a * b)
    np.testing.assert_array_equal(grad(f, -2)(a, b, 0), 2 * a * b)
    pair = grad(f, (1, 0))(a, b, 0)
    assert type(pair) is tuple
    np.testing.assert_array_equal(pair[0], 2 * a * b)
    np.testing.assert_array_equal(pair[1], b * b)
    (single,) = grad(f, (0,))(a, b, c=0)
    np.testing.assert_array_equal(single, b * b)
    with pytest.raises(TypeError, match=r"argument 1 .* by position"):
        grad(f, 1)(a, b=b, c=0)


def test_value_and_grad():
    value, slope = value_and_grad(lambda x: np.sum(x * x))(np.array([1.0, 2.0]))
    assert type(value) is np.ndarray
    assert value == 5
    np.testing.assert_array_equal(slope, [2.0, 4.0])
    w = leaf(2.0)
    value, slope = value_and_grad(lambda x: np.sum(w * x * x))(np.array([1.0, 2.0]))
    (value + np.sum(slope)).backward()  # 5 w + 6 w
    assert w.grad == 11


@pytest.mark.parametrize("f", [lambda a, b: np.sum(a), lambda a, b: np.sum(a > 0)])
def test_an_argument_that_is_not_used_has_gradient_zero(f):
    a, b = np.ones(2), np.ones((2, 3), np.float32)
    for inputs in ((a, b), (leaf(a), Tensor(b, requires_grad=True))):
        result = grad(f, 1)(*inputs)
        np.testing.assert_array_equal(plain(result), np.zeros((2, 3)))
        assert result.dtype == np.float32


def test_an_unused_argument_next_to_a_recorded_one_is_a_tensor_too():
    a, b = leaf([1.0]), leaf([2.0])
    da, db = grad(lambda a, b: np.sum(a * a), (0, 1))(a, b)
    assert isinstance(da, Tensor)
    assert isinstance(db, Tensor)
    np.sum(da * db + da).backward()
    np.testing.assert_array_equal(a.grad, [2.0])


def test_grad_skips_what_does_not_lead_to_an_argument(table):
    calls = []

    @primitive
    def watched(x):
        return x * 1.0

    rule(watched, lambda g, y, x: calls.append(1) or g)
    w = leaf([1.0])
    result = grad(lambda x: np.sum(x * watched(w)))(np.ones(1))
    assert calls == []
    np.sum(result).backward()
    assert calls == [1]
    assert w.grad == 1


@pytest.mark.parametrize("walk", ["backward", "grad"])
def test_a_gradient_that_is_not_needed_is_not_computed(table, walk):
    calls = []

    @primitive
    def product(a, b):
        return a * b

    rule(
        product,
        lambda g, y, a, b: calls.append("a") or g * b,
        lambda g, y, a, b: calls.append("b") or g * a,
    )
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    if walk == "grad":
        grad(lambda v: np.sum(product(w, v)))(x)
    else:
        np.sum(product(x.data, w)).backward()
    assert calls == ["b"]


def test_an_argument_of_grad_is_in_no_later_graph():
    w, seen = leaf([2.0, 3.0]), []

    def f(x):
        seen.append(x)
        return np.sum(w * x * x)

    np.sum(grad(f)(np.array([5.0, 7.0]))).backward()
    np.testing.assert_array_equal(w.grad, [10.0, 14.0])
    assert seen[0].grad is None


def test_grad_at_a_tensor_stops_there():
    w = leaf([1.0, 2.0])
    h = np.exp(w)
    np.sum(h).backward()  # the graph of h is freed and not needed
    np.testing.assert_allclose(grad(lambda v: np.sum(v * v))(h).data, 2 * h.data)


def test_what_grad_requires_of_the_function():
    with pytest.raises(ValueError, match=r"returned shape \(2,\).*a single number"):
        grad(lambda x: x * 2)(np.ones(2))
    with pytest.raises(TypeError, match="not numeric"):
        grad(lambda x: None)(1.0)
    with pytest.raises(TypeError, match=r"np\.stack\(\[t, u\]\)"):
        grad(lambda x: (x, x))(1.0)
    with pytest.raises(TypeError, match="int64 has no gradient; use floats"):
        grad(np.square)(3)
    assert grad(lambda x: 3.0)(1.0) == 0  # a constant
    assert grad(lambda x: x)(1.0) == 1
    assert grad(lambda x: x)(leaf(1.0)).item() == 1
    assert grad(lambda x: np.sum(x * x))([1.0, 2.0]).tolist() == [2.0, 4.0]


def test_grad_keeps_the_name_of_the_function():
    def loss(x):
        """Return the loss."""

    for transform in (grad, value_and_grad):
        assert transform(loss).__name__ == "loss"
        assert transform(loss).__doc__ == "Return the loss."


def test_grad_records_under_no_grad_and_leaves_it_on():
    with no_grad():
        assert grad(lambda x: grad(np.sin)(x))(np.float64(1.0)) == -np.sin(1.0)
        assert not (leaf(1.0) * 2).requires_grad


def test_no_grad_inside_a_function_stops_the_gradient():
    def f(x):
        with no_grad():
            c = x * x
        return c * x

    assert grad(f)(3.0) == 9


# --- Threads ------------------------------------------------------------------------


def in_threads(count, work):
    """Run work(i) in several threads at once, and raise their first error."""
    errors = []

    def run(i):
        try:
            work(i)
        except BaseException as error:  # raised again in the thread of the test
            errors.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    if errors:
        raise errors[0]


def test_no_grad_affects_only_its_own_thread():
    x = leaf([1.0])
    both = threading.Barrier(2, timeout=30)

    def work(i):
        with no_grad() if i == 0 else contextlib.nullcontext():
            both.wait()
            assert (x * 2).requires_grad == (i == 1)
            both.wait()
        assert (x * 2).requires_grad

    in_threads(2, work)
    with no_grad():
        in_threads(1, lambda i: (x * 2).backward())  # a new thread records
    assert x.grad == 2


def test_threads_that_share_a_parameter_lose_no_gradient():
    w = leaf(np.zeros(3))

    def work(i):
        for k in range(50):
            x = np.full(3, float(i * 50 + k))
            np.sum(x * w).backward()

    in_threads(4, work)
    np.testing.assert_array_equal(w.grad, np.full(3, np.arange(200).sum()))


def test_two_threads_never_add_to_a_gradient_at_once():
    together = threading.Barrier(2, timeout=0.1)
    met = []

    class Sum:
        def __add__(self, g):
            with contextlib.suppress(threading.BrokenBarrierError):
                met.append(together.wait())
            return self

    w = leaf([1.0])
    w.grad = Sum()
    in_threads(2, lambda i: np.sum(w * 2.0).backward())
    assert met == []


def test_threads_with_graphs_of_their_own():
    def work(i):
        for _ in range(20):
            w = leaf([1.0 + i, 2.0])
            y = w
            for _ in range(10):
                y = y * w
            np.sum(y).backward()
            np.testing.assert_allclose(w.grad, 11 * w.data**10)
            write(w)

    in_threads(4, work)


# --- Operators ----------------------------------------------------------------------


OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "%": operator.mod,
    "@": operator.matmul,
}
PARTNERS = {
    "Tensor": Tensor(np.array([1.5, 2.0])),
    "ndarray": np.array([1.5, 2.0]),
    "list": [1.5, 2.0],
    "tuple": (1.5, 2.0),
    "float": 1.5,
    "int": 2,
    "bool": True,
    "NumPy float": np.float64(1.5),
    "NumPy float32": np.float32(1.5),
    "NumPy int": np.int64(2),
    "0-d array": np.array(1.5),
}


PAIRS = [
    (sign, kind)
    for sign in OPERATORS
    for kind, partner in PARTNERS.items()
    if sign != "@" or np.ndim(partner)  # matmul takes no single number
]


@pytest.mark.parametrize("reflected", [False, True])
@pytest.mark.parametrize(("sign", "kind"), PAIRS)
def test_an_operator(sign, kind, reflected):
    partner = PARTNERS[kind]
    value = np.asarray(plain(partner))

    def f(a, b):
        return OPERATORS[sign](b, a) if reflected else OPERATORS[sign](a, b)

    x = leaf([0.7, 3.1])
    y = f(x, partner)
    assert isinstance(y, Tensor)
    expected = f(x.data, plain(partner) if kind != "tuple" else value)
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y.data, expected)
    np.sum(y).backward()
    numeric = slopes(lambda v: np.sum(f(v, value.astype(float))), x.data)
    np.testing.assert_allclose(x.grad, numeric, rtol=1e-6, atol=1e-7)


def test_an_operator_on_two_that_require_a_gradient():
    u, v = np.array([1.3, 2.3]), np.array([0.7, 1.1])
    for f in OPERATORS.values():
        a, b = leaf(u), leaf(v)
        np.sum(f(a, b)).backward()
        for x, g in (
            (a, lambda x, f=f: np.sum(f(x, v))),
            (b, lambda x, f=f: np.sum(f(u, x))),
        ):
            numeric = slopes(g, x.data)
            np.testing.assert_allclose(x.grad, numeric, rtol=1e-6, atol=1e-7)


def test_operators_with_one_operand():
    x = leaf([-2.0, 3.0])
    np.testing.assert_array_equal((-x).data, [2.0, -3.0])
    np.testing.assert_array_equal((+x).data, [-2.0, 3.0])
    np.testing.assert_array_equal(abs(x).data, [2.0, 3.0])
    np.sum(-x + +x + abs(x)).backward()
    np.testing.assert_array_equal(x.grad, [-1.0, 1.0])


def test_a_list_next_to_a_tensor_is_an_array_for_every_rule():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    for f in (
        lambda x: x @ [1.0, 2.0],
        lambda x: [[1.0, 2.0]] @ x,
        lambda x: np.arctan2(x, [1.0, 2.0]),
        lambda x: np.power([1.0, 2.0], x),
        lambda x: np.linalg.solve(x, [1.0, 2.0]),
        lambda x: np.concatenate([x, [[1.0, 2.0]]]) ** 2,
    ):
        x.grad = None
        np.sum(f(x)).backward()
        expected = slopes(lambda v, f=f: np.sum(f(v)), x.data)
        np.testing.assert_allclose(x.grad, expected, rtol=1e-6, atol=1e-7)
        second = grad(lambda v, f=f: np.sum(grad(lambda u: np.sum(f(u)))(v) ** 2))
        assert np.shape(second(x.data)) == (2, 2)


@pytest.mark.parametrize("f", [operator.floordiv, np.floor_divide])
def test_floor_division_is_constant_almost_everywhere(f):
    x = leaf([5.0, 7.0])
    for result in (f(x, 2.0), f(np.array([9.0, 8.0]), x)):
        assert type(result) is np.ndarray


COMPARISONS = [
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
]


@pytest.mark.parametrize("compare", COMPARISONS)
def test_comparisons_are_plain_arrays(compare):
    x, y = leaf([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])
    expected = compare(x.data, y)
    for result in (compare(x, y), compare(x, Tensor(y)), compare(Tensor(x), leaf(y))):
        assert type(result) is np.ndarray
        assert result.dtype == bool
        np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(compare(y, x), compare(y, x.data))
    np.testing.assert_array_equal(compare(x, 2), compare(x.data, 2))
    np.testing.assert_array_equal(compare(2, x), compare(2, x.data))


def test_equality_with_anything_is_an_answer():
    x = leaf([1.0, 2.0])
    for other in (None, "text", object()):
        np.testing.assert_array_equal(x == other, [False, False])
        np.testing.assert_array_equal(x != other, [True, True])


def test_in_place_operators_bind_a_new_tensor():
    for f in (
        operator.iadd,
        operator.isub,
        operator.imul,
        operator.itruediv,
        operator.ipow,
    ):
        a = leaf([1.0, 2.0])
        b = f(a, 2.0)
        assert b is not a
        np.testing.assert_array_equal(a.data, [1.0, 2.0])
        assert b.requires_grad
    a = old = leaf([1.0, 2.0])
    a += 1
    a *= a
    np.testing.assert_array_equal(old.data, [1.0, 2.0])
    np.sum(a).backward()
    np.testing.assert_array_equal(old.grad, [4.0, 6.0])


# --- Indexing -----------------------------------------------------------------------


KEYS = {
    "integer": 1,
    "negative": -1,
    "NumPy integer": np.int64(1),
    "pair": (1, 2),
    "slice": slice(1, None),
    "step": slice(None, None, -2),
    "dots": (..., 0),
    "new axis": (slice(None), None, 1),
    "all": (),
    "only dots": ...,
    "none": None,
    "list": [2, 0, 2, 2],
    "array": np.array([[0, 1], [1, 1]]),
    "arrays": (np.array([0, 2, 0]), np.array([1, 3, 1])),
    "broadcast": np.ix_([2, 2, 0], [0, 3, 3]),
    "array and slice": (np.array([1, 1]), slice(1, 3)),
    "slice and list": (slice(None), [3, 3, 0]),
    "array and new axis": (np.array([1, 1]), None),
    "mask": np.arange(12).reshape(3, 4) % 3 == 0,
    "mask of rows": np.array([True, False, True]),
    "mask and integer": (np.array([True, False, True]), 2),
    "mask and array": (np.array([True, False, True]), np.array([1, 1])),
    "list of bools": [True, False, True],
    "empty": slice(0, 0),
    "empty list": [],
    "0-d integer": np.array(2),
    "True": True,
}


@pytest.mark.parametrize("kind", KEYS)
def test_indexing(kind):
    key = KEYS[kind]
    rng = np.random.default_rng(0)
    x = leaf(rng.normal(size=(3, 4)))
    y = x[key]
    assert type(y.data) is np.ndarray
    np.testing.assert_array_equal(y.data, x.data[key])
    g = rng.normal(size=y.shape)
    (y * 2.0).backward(g)
    places = np.arange(12).reshape(3, 4)[key]
    expected = np.bincount(places.ravel(), 2 * g.ravel(), minlength=12).reshape(3, 4)
    np.testing.assert_allclose(x.grad, expected, rtol=1e-12)


@pytest.mark.parametrize("kind", KEYS)
def test_indexing_differentiated_twice(kind):
    first = grad(lambda x: np.sum(x[KEYS[kind]] ** 3))
    squared = lambda x: np.sum(first(x) ** 2)
    x = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(
        grad(squared)(x), slopes(squared, x), rtol=1e-6, atol=1e-6
    )


def test_indexing_by_a_tensor_of_integers_or_bools():
    x = leaf([1.0, 2.0, 3.0])
    np.sum(x[Tensor(np.array([2, 2]))]).backward()
    np.testing.assert_array_equal(x.grad, [0.0, 0.0, 2.0])
    x.grad = None
    np.sum(x[x > 1.5]).backward()
    np.testing.assert_array_equal(x.grad, [0.0, 1.0, 1.0])
    x.grad = None
    x[Tensor(1)].backward()
    np.testing.assert_array_equal(x.grad, [0.0, 1.0, 0.0])
    assert [10, 20, 30][Tensor(1)] == 20


def test_indexing_out_of_bounds():
    with pytest.raises(IndexError, match="out of bounds"):
        leaf([1.0])[3]


# --- The Tensor as an object --------------------------------------------------------


def test_what_a_tensor_is_made_of():
    array = np.ones((2, 3))
    x = Tensor(array, requires_grad=True, name="x")
    assert x.data is array  # shared
    assert (x.shape, x.ndim, x.size, x.dtype) == ((2, 3), 2, 6, np.float64)
    assert x.T.shape == (3, 2)
    assert Tensor(x).data is array
    assert not Tensor(x).requires_grad
    for numbers in (1.0, [1.0, 2.0], [[1, 2.5]], (1.0,)):
        assert Tensor(numbers).dtype == np.float32
    assert Tensor(np.float64(1)).dtype == np.float64
    assert Tensor([np.float64(1)]).dtype == np.float32
    assert Tensor([1, 2]).dtype.kind == "i"
    assert Tensor([True]).dtype == bool


@pytest.mark.parametrize(
    "data", ["text", ["a", "b"], None, {}, [None], np.array([object()]), b"bytes"]
)
def test_data_that_is_not_numeric(data):
    with pytest.raises(TypeError, match="not numeric"):
        Tensor(data)


@pytest.mark.parametrize("data", [[1, 2], [True], [1j], np.ones(2, np.int8), 3])
def test_data_that_has_no_gradient(data):
    with pytest.raises(TypeError, match="has no gradient; use floats"):
        Tensor(data, requires_grad=True)
    x = Tensor(data)
    with pytest.raises(TypeError, match="has no gradient; use floats"):
        x.requires_grad = True
    assert not x.requires_grad


def test_requires_grad_freezes_leaves_and_only_them():
    w, v = leaf([1.0]), leaf([2.0])
    w.requires_grad = False
    np.sum(w * v).backward()
    assert w.grad is None
    assert v.grad == 1
    w.requires_grad = True
    np.sum(w * v).backward()
    assert w.grad == 2
    h = np.exp(w)
    with pytest.raises(GraphError, match=r"made by np\.exp.*detach"):
        h.requires_grad = False
    assert h.requires_grad


def test_data_can_be_bound_to_floats_only_where_a_gradient_is_required():
    w = leaf([1.0])
    with pytest.raises(TypeError, match="no gradient"):
        w.data = np.array([1])
    np.testing.assert_array_equal(w.data, [1.0])
    w.data = [1.0, 2.0]
    assert type(w.data) is np.ndarray


@pytest.mark.parametrize(
    "make",
    [
        lambda x: np.sum(x),
        lambda x: x.mean(),
        lambda x: np.max(x),
        lambda x: x[0, 0],
        lambda x: x[0] @ x[1],
        lambda x: np.linalg.det(x),
        lambda x: np.prod(x) * 2.0,
        lambda x: np.dot(x[0], x[0]),
        lambda x: np.trace(x),
        lambda x: np.linalg.norm(x),
        lambda x: np.einsum("ij->", x),
        lambda x: Tensor(1.0),
        lambda x: -np.sum(x),
        lambda x: grad(lambda v: v * v)(np.sum(x)),
    ],
)
def test_data_is_always_an_array(make):
    for x in (leaf([[1.0, 2.0], [3.0, 4.0]]), Tensor(np.ones((2, 2)))):
        y = make(x)
        if isinstance(y, Tensor):
            assert type(y.data) is np.ndarray
            assert y.shape == ()
            y.data[...] = 7  # and so it can be written
            assert y.item() == 7


def test_a_primitive_may_return_a_python_number(table):
    @primitive
    def total(x):
        return float(x.sum())

    rule(total, lambda g, y, x: g * np.ones_like(x))
    x = leaf([1.0, 2.0])
    y = total(x)
    assert type(y.data) is np.ndarray
    y.backward()
    np.testing.assert_array_equal(x.grad, [1.0, 1.0])


def test_truth_and_numbers():
    assert bool(leaf(1.0))
    assert not leaf([0.0])
    with pytest.raises(ValueError, match="ambiguous"):
        bool(leaf([1.0, 2.0]))
    assert float(Tensor([[2.5]])) == 2.5
    assert complex(Tensor([[2.5]])) == 2.5
    assert int(leaf(2.5)) == 2
    assert type(round(leaf(2.5))) is int
    assert round(leaf(2.5)) == 2
    assert round(leaf(2.567), 2) == 2.57
    assert math.trunc(leaf(-2.5)) == math.ceil(leaf(-2.5)) == -2
    assert math.floor(leaf(-2.5)) == -3
    assert isinstance(leaf(2.5).item(), float)
    assert isinstance(Tensor(3).item(), int)
    for f in (float, complex, int, round, math.floor, Tensor.item):
        with pytest.raises(ValueError, match="size 1"):
            f(Tensor([1.0, 2.0]))
    assert list(range(Tensor(np.array(3)))) == [0, 1, 2]
    with pytest.raises(TypeError, match="integer"):
        range(leaf(3.0))


def test_length_iteration_and_membership():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    assert len(x) == 2
    first, second = x
    np.sum(first * 2 + second).backward()
    np.testing.assert_array_equal(x.grad, [[2.0, 2.0], [1.0, 1.0]])
    assert 3.0 in x
    assert 5.0 not in x
    assert Tensor([1.0, 2.0]) in x
    for f in (len, iter):
        with pytest.raises(TypeError, match="unsized"):
            f(leaf(1.0))


def test_hashing_is_by_identity():
    a, b = leaf([1.0]), leaf([1.0])
    assert {a: 1, b: 2}[a] == 1
    assert len({a, b, a}) == 2
    assert hash(a) != hash(b)


def test_printing():
    assert repr(Tensor([1.0, 2.0])) == "Tensor([1., 2.])"
    assert repr(leaf(1.5)) == "Tensor(1.5, dtype=float64, requires_grad=True)"
    assert str(Tensor([1, 2])) == "Tensor([1, 2], dtype=int64)"
    assert repr(Tensor([[1.0], [2.0]])) == "Tensor([[1.],\n        [2.]])"
    assert f"{leaf(1.23456):.2f}" == "1.23"
    assert f"{leaf([1.23456]):>8.3f}" == "   1.235"
    assert f"{Tensor([1.0, 2.0])}" == "Tensor([1., 2.])"
    assert len(repr(Tensor(np.zeros(100_000)))) < 200
    with pytest.raises(ValueError, match="size 1"):
        f"{Tensor([1.0, 2.0]):.2f}"


def test_the_ways_to_a_plain_array():
    x = leaf([1.0, 2.0])
    assert x.detach().numpy() is x.data
    c = Tensor(np.array([1.0, 2.0]))
    assert np.asarray(c) is c.data
    assert np.asarray(c, dtype=np.float32).dtype == np.float32
    assert not np.shares_memory(np.array(c), c.data)
    with pytest.raises(ValueError, match="copy"):
        np.asarray(c, dtype=np.float32, copy=False)
    np.testing.assert_array_equal(np.array([c, c]), [[1.0, 2.0], [1.0, 2.0]])


def fill(put, dtype=float):
    """Return a function that puts two squares into an array and adds them."""

    def f(t):
        a = np.zeros(2, dtype)
        put(a, t)
        return np.sum(a)

    return f


def put_one_by_one(a, t):
    for i in range(2):
        a[i] = t[i] ** 2


def put_flat(a, t):
    for i in range(2):
        a.flat[i] = t[i] ** 2


def put_through_memory(a, t):
    memoryview(a)[0] = t[0]


# Each converts a Tensor to a float or an array, which would lose its gradient.
LOSSES = {
    "a[i] = t": fill(put_one_by_one),
    "float32": fill(put_one_by_one, np.float32),
    "float16": fill(put_one_by_one, np.float16),
    "longdouble": fill(put_one_by_one, np.longdouble),
    "complex": fill(put_one_by_one, complex),
    "a.flat[i] = t": fill(put_flat),
    "a.flat[:] = t": fill(lambda a, t: operator.setitem(a.flat, slice(None), t[0])),
    "a[:] = t": fill(lambda a, t: operator.setitem(a, slice(None), t)),
    "a[mask] = t": fill(lambda a, t: operator.setitem(a, a == 0, t[0])),
    "a[:] = list": fill(lambda a, t: operator.setitem(a, slice(None), [t[0], t[1]])),
    "a[...] = t": fill(lambda a, t: operator.setitem(a, ..., t[0])),
    "a.fill": fill(lambda a, t: a.fill(t[0])),
    "a.put": fill(lambda a, t: a.put([0], t[0])),
    "np.put": fill(lambda a, t: np.put(a, [0], t[0])),
    "np.copyto": fill(lambda a, t: np.copyto(a, t)),
    "np.place": fill(lambda a, t: np.place(a, a == 0, t)),
    "np.putmask": fill(lambda a, t: np.putmask(a, a == 0, t)),
    "np.fill_diagonal": lambda t: np.fill_diagonal(np.zeros((2, 2)), t[0]),
    "memoryview": fill(put_through_memory),
    "astype of objects": lambda t: np.sum(objects(t).astype(float)),
    "a field": lambda t: operator.setitem(np.zeros(1, [("x", float)])["x"], 0, t[0]),
    "float": lambda t: float(t[0]) ** 2,
    "complex(t)": lambda t: complex(t[0]).real,
    "np.float64": lambda t: np.float64(t[0]) ** 2,
    "np.float32": lambda t: np.float32(t[0]) ** 2,
    "np.float64 of several": lambda t: np.sum(np.float64(t)),
    "np.array": lambda t: np.sum(np.array([t[0], t[1]])),
    "np.array of objects": lambda t: np.sum(np.array([t[0], t[1]], object)),
    "np.full": lambda t: np.sum(np.full(2, t[0])),
    "np.full of floats": lambda t: np.sum(np.full(2, t[0], float)),
    "np.fromiter": lambda t: np.sum(np.fromiter(iter(t), float)),
    "initial=": lambda t: np.sum(np.ones(2), initial=t[0]),
    "np.vectorize": lambda t: np.sum(np.vectorize(lambda x: x * x)(t)),
    "np.frompyfunc": lambda t: np.sum(np.frompyfunc(lambda x: x * x, 1, 1)(t)),
    "np.apply_along_axis": lambda t: np.apply_along_axis(np.sum, 0, t),
    "np.piecewise": lambda t: np.sum(np.piecewise(t, [t > 0], [lambda x: x * x])),
    "np.ma": lambda t: np.ma.sum(np.ma.sqrt(t)),
    "masked * t": lambda t: np.sum(np.ma.array([1.0, 2.0], mask=[0, 1]) * t),
    "np.ma.add": lambda t: np.ma.add(t, 1.0).sum(),
    "rng.normal": lambda t: rng().normal(t[0]),
    "math.sin": lambda t: math.sin(t[0]),
    "math.fsum": lambda t: math.fsum([t[0], t[1]]),
    "math.isnan": lambda t: float(math.isnan(t[0])),
    "cmath.exp": lambda t: cmath.exp(t[0]).real,
    "statistics.fmean": lambda t: statistics.fmean([t[0], t[1]]),
    "statistics.mean": lambda t: statistics.mean([t[0], t[1]]),
    "array.array": lambda t: sum(array.array("d", [t[0], t[1]])),
    "struct.pack": lambda t: struct.unpack("d", struct.pack("d", t[0]))[0],
    "ctypes": lambda t: ctypes.c_double(t[0]).value,
    "%": lambda t: float("%f" % t[0]),  # noqa: UP031
    # the error comes after the call, because values may be taken out on purpose
    "item": lambda t: t[0].item() ** 2,
    "data": lambda t: np.sum(t.data**2),
    "detach": lambda t: np.sum(t.detach().numpy()),
    "item of a result": lambda t: np.sum(np.exp(t)).item(),
    "item of several": lambda t: fill(lambda a, t: a.fill(t[0].item()))(t),
    "nested": lambda t: grad(lambda u: u * t[0].item())(1.0),
}


def objects(t):
    """Return the elements of a Tensor as an array of objects, which loses nothing."""
    a = np.empty(2, object)
    a[0], a[1] = t[0], t[1]
    return a


@pytest.mark.parametrize("way", LOSSES)
@pytest.mark.parametrize("nested", [False, True])
def test_a_gradient_is_not_lost_through_a_number(way, nested):
    x = np.array([3.0, 4.0])
    f = LOSSES[way]
    with pytest.raises(Exception) as caught:  # noqa: PT011  # struct has its own kind
        grad(lambda t: np.sum(grad(f)(t)))(x) if nested else grad(f)(x)
    # NumPy may raise its own error; ours is then the cause.
    chain, error = [], caught.value
    while error is not None:
        chain.append(str(error))
        error = error.__cause__ or error.__context__
    said = any(re.search(r"\.detach\(\)|\.item\(\)", message) for message in chain)
    foreign = ("memoryview", "a.flat[i] = t", "struct.pack", "statistics.mean")
    assert said or way in foreign  # these keep no cause


@pytest.mark.parametrize("recording", [True, False])
def test_a_tensor_that_requires_a_gradient_is_not_a_float_under_no_grad(recording):
    x = leaf(2.0, "x")
    with contextlib.nullcontext() if recording else no_grad():
        for f in (float, complex, math.sin, np.asarray):
            with pytest.raises(TypeError, match=r"(?s)'x'.*gradient.*\.item\(\)"):
                f(x)
    with no_grad():
        assert float(x * x) == 4  # the result has no gradient


# Functions of Python and NumPy that keep the gradient, with df/dt at (3.5, 4.25).
KEPT = {
    "sum": (lambda t: sum(t), [1, 1]),
    "max": (lambda t: max(t), [0, 1]),
    "sorted": (lambda t: sorted(t)[0], [1, 0]),
    "math.prod": (lambda t: math.prod(t), [4.25, 3.5]),
    "pow": (lambda t: pow(t[0], 2), [7, 0]),
    "statistics.median": (lambda t: statistics.median(t), [0.5, 0.5]),
    "objects": (lambda t: np.sum(objects(t**2)), [7, 8.5]),
    "objects @": (lambda t: objects(t) @ np.array([2.0, 3.0]), [2, 3]),
    "dx of trapezoid": (lambda t: np.trapezoid(np.ones(3), dx=t[0]), [2, 0]),
    "list.append": (lambda t: np.sum(np.stack([x * x for x in t])), [7, 8.5]),
    # constant almost everywhere, or independent of the argument
    "a constant": (lambda t: 3.0, [0, 0]),
    "int": (lambda t: int(t[0]), [0, 0]),
    "round": (lambda t: round(t[0]) + round(t[1], 1), [0, 0]),
    "math.floor": (lambda t: math.floor(t[0]) + math.ceil(t[1]), [0, 0]),
    "bool": (lambda t: 1.0 if t[0] else 2.0, [0, 0]),
    "comparison": (lambda t: 1.0 if t[0] > 0 else 2.0, [0, 0]),
    "format": (lambda t: float(f"{t[0]:.1f}"), [0, 0]),
    "repr": (lambda t: float(len(repr(t))), [0, 0]),
    "len": (lambda t: len(t), [0, 0]),
    "shape": (lambda t: t.shape[0], [0, 0]),
    "np.sign": (lambda t: np.sum(np.sign(np.sin(t))), [0, 0]),
    "np.argmax": (lambda t: np.argmax(t), [0, 0]),
    "np.zeros_like": (lambda t: np.sum(np.zeros_like(t)), [0, 0]),
    "into integers": (fill(put_one_by_one, int), [0, 0]),
    "a Tensor of item": (lambda t: Tensor(t[0].item()), [0, 0]),
    "detached": (lambda t: np.sum(t.detach() ** 2), [0, 0]),
    "of another": (lambda t: OTHER.item() + OTHER.data.sum(), [0, 0]),
    "of a constant": (lambda t: np.sum(np.exp(OTHER).data), [0, 0]),
}
OTHER = leaf(5.0)


@pytest.mark.parametrize("way", KEPT)
@pytest.mark.parametrize("outer", [False, True])
def test_gradients_through_pythons_own_functions(way, outer):
    f, expected = KEPT[way]
    x = leaf([3.5, 4.25]) if outer else np.array([3.5, 4.25])
    np.testing.assert_array_equal(plain(grad(f)(x)), expected)


def test_values_may_be_taken_out_under_no_grad():
    def f(t):
        with no_grad():
            return float(np.sum(t * t)) + t[0].item() + t.data[0]

    np.testing.assert_array_equal(grad(f)(np.ones(2)), [0, 0])


def test_detach_cuts_and_shares_memory():
    x = leaf([1.0, 2.0], name="x")
    d = x.detach()
    assert d.data is x.data
    assert d.name == "x"
    assert not d.requires_grad
    np.sum(x * d).backward()
    np.testing.assert_array_equal(x.grad, x.data)


METHODS = {
    "sum": [(), (0,)],
    "mean": [(), (1,)],
    "prod": [()],
    "var": [(), (0,)],
    "std": [(1,)],
    "max": [(), (0,)],
    "min": [(1,)],
    "cumsum": [(), (0,)],
    "cumprod": [(1,)],
    "clip": [(1.5, 3.0)],
    "dot": [(np.ones((2, 2)),)],
    "trace": [()],
    "diagonal": [(), (1,)],
    "reshape": [(4,), ((4, 1),), (2, -1), ([1, 4],)],
    "ravel": [()],
    "flatten": [()],
    "transpose": [(), (1, 0), ((0, 1),)],
    "swapaxes": [(0, 1)],
    "squeeze": [()],
    "repeat": [(2,), (2, 1)],
    "take": [([1, 1],), ([1, 0], 1)],
    "copy": [()],
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_the_function_of_its_name(name):
    for args in METHODS[name]:
        x = leaf([[1.0, 2.5], [3.5, 2.0]])
        y = getattr(x, name)(*args)
        np.testing.assert_array_equal(y.data, getattr(x.data, name)(*args))
        (y**2).backward(np.ones(y.shape))
        f = lambda v, args=args: np.sum(getattr(v, name)(*args) ** 2)
        np.testing.assert_allclose(x.grad, slopes(f, x.data), rtol=1e-6, atol=1e-6)


def test_methods_take_keywords():
    x = leaf([[1.0, 2.0], [3.0, 5.0]])
    for name in ("sum", "mean", "prod", "var", "std", "max", "min"):
        y = getattr(x, name)(axis=1, keepdims=True)
        np.testing.assert_array_equal(
            y.data, getattr(x.data, name)(axis=1, keepdims=True)
        )
    np.testing.assert_array_equal(x.var(ddof=1).data, x.data.var(ddof=1))
    np.testing.assert_array_equal(x.clip(min=2.0).data, x.data.clip(min=2.0))
    np.testing.assert_array_equal(x.clip(max=2.0).data, x.data.clip(max=2.0))


@pytest.mark.parametrize("name", ["argmax", "argmin", "argsort", "any", "all"])
def test_methods_that_return_plain_values(name):
    x = leaf([[1.0, 2.0], [3.0, 0.0]])
    result = getattr(x, name)()
    assert not isinstance(result, Tensor)
    np.testing.assert_array_equal(result, getattr(x.data, name)())


# --- Refusals -----------------------------------------------------------------------


X, Y = leaf([1.0, 2.0], name="weights"), leaf([3.0, 4.0])
M = leaf(np.ones((2, 3)))
ARRAY = np.ones(2)


def assign(target, key, value):
    target[key] = value


REFUSALS = {
    # item assignment
    "t[0] = 1": (
        lambda: assign(X, 0, 1.0),
        TypeError,
        r"(?s)item assignment on 'weights' of shape \(2,\): .*np.where",
    ),
    "no gradient": (
        lambda: assign(Tensor([1.0]), 0, 1.0),
        TypeError,
        "item assignment",
    ),
    "array[:] = t": (lambda: assign(ARRAY, slice(None), X), TypeError, "detach"),
    # becoming an array
    "asarray": (
        lambda: np.asarray(X),
        TypeError,
        r"(?s)'weights' of shape \(2,\).*detach",
    ),
    "array": (lambda: np.array(X), TypeError, "gradient, which would be lost"),
    "numpy()": (lambda: X.numpy(), TypeError, r"\.detach\(\)\.numpy\(\)"),
    "list in sum": (lambda: np.sum([X, Y]), TypeError, r"np\.stack\(\[t, u\]\)"),
    "list in mean": (lambda: np.mean([np.sum(X), np.sum(Y)]), TypeError, r"np\.stack"),
    "list in array": (lambda: np.array([X, Y]), TypeError, r"np\.stack\(\[t, u\]\)"),
    "list in add": (
        lambda: np.add(X, [np.sum(X), 1.0]),
        TypeError,
        r"np\.stack\(\[t, u\]\)",
    ),
    "list in operator": (lambda: X * [Y[0], 1.0], TypeError, r"np\.stack\(\[t, u\]\)"),
    "list in Tensor": (lambda: Tensor([X, Y]), TypeError, r"np\.stack\(\[t, u\]\)"),
    "nested list": (
        lambda: np.stack([X, [Y[0], 1.0]]),
        TypeError,
        r"np\.stack\(\[t, u\]\)",
    ),
    "testing": (lambda: np.testing.assert_allclose(X, ARRAY), TypeError, "detach"),
    # no rule
    "no rule": (
        lambda: np.unwrap(X),
        NoRuleError,
        r"(?s)np\.unwrap has no rule.*\(2,\).*scratchnet\.rule\(np\.unwrap.*detach",
    ),
    "no rule for a ufunc": (lambda: np.frexp(X), NoRuleError, r"np\.frexp has"),
    "no rule in a module": (
        lambda: np.fft.fft(M),
        NoRuleError,
        r"np\.fft\.fft has .*2, 3",
    ),
    "copyto": (lambda: np.copyto(ARRAY, X), NoRuleError, r"np\.copyto has no rule"),
    # out=
    "array += t": (lambda: operator.iadd(ARRAY, X), TypeError, r"np\.add.*h = h \+ t"),
    "out=t": (lambda: np.add(ARRAY, ARRAY, out=X), TypeError, r"h = h \+ t"),
    "out by position": (lambda: np.add(X, X, ARRAY), TypeError, r"out= cannot"),
    "out of a sum": (lambda: np.sum(M, axis=1, out=ARRAY), TypeError, r"np\.sum: out="),
    "out, rewritten": (lambda: np.clip(X, 0, 1, out=ARRAY), TypeError, "out= cannot"),
    "out of a constant": (
        lambda: np.greater(X, 0, out=np.ones(2, bool)),
        TypeError,
        r"np\.greater: out=",
    ),
    # ufunc methods
    "reduce": (lambda: np.add.reduce(X), TypeError, r"np\.add\.reduce of .*np\.sum"),
    "accumulate": (lambda: np.add.accumulate(X), TypeError, r"np\.cumsum"),
    "outer": (lambda: np.multiply.outer(X, Y), TypeError, r"a\[:, None\]"),
    "at": (lambda: np.add.at(ARRAY, [0, 1], X), TypeError, r"np\.add\.at .*np\.where"),
    "reduceat": (lambda: np.add.reduceat(X, [0]), TypeError, r"np\.add\.reduceat"),
    # keywords that the derivative does not cover
    "where": (lambda: np.add(X, 1, where=ARRAY > 0), TypeError, r"np\.add: .*'where'"),
    "where in a sum": (lambda: np.sum(X, where=[True, False]), TypeError, "'where'"),
    "where is a Tensor": (lambda: np.add(X, 1, where=X), TypeError, r"np\.add"),
    "initial": (lambda: np.max(X, initial=0.0), TypeError, "'initial'.*axis, keepdims"),
    "dtype": (lambda: np.sum(X, dtype=np.float16), TypeError, "'dtype'"),
    "dtype by position": (lambda: np.sum(X, 0, np.float16), TypeError, "3 positional"),
    "axis is a Tensor": (lambda: np.sum(M, Tensor(0)), TypeError, "no derivative"),
    "keyword is a Tensor": (lambda: np.sum(M, axis=Tensor(0)), TypeError, r"np\.sum"),
    "x1 by keyword": (lambda: np.add(1.0, x2=X), TypeError, r"np\.add|positional"),
    # complex results
    "complex": (lambda: X * 1j, TypeError, r"np\.multiply: the result is complex"),
    "complex array": (lambda: np.ones(2, complex) + X, TypeError, r"np\.add.*complex"),
    # NumPy's own errors, with the arguments
    "matmul": (
        lambda: M @ M,
        ValueError,
        r"^matmul: \(2, 3\) @ \(2, 3\): inner sizes 3 and 2 differ$",
    ),
    "matmul of vectors": (
        lambda: X @ np.ones(3),
        ValueError,
        r"\(2,\) @ \(3,\): inner",
    ),
    "matmul, array left": (lambda: np.ones((4, 5)) @ M, ValueError, "sizes 5 and 2"),
    "matmul, list left": (lambda: [1.0, 2.0, 3.0] @ M, ValueError, "sizes 3 and 2"),
    "matmul of stacks": (
        lambda: np.ones((2, 2, 3)) @ leaf(np.ones((3, 3, 1))),
        ValueError,
        r"np\.matmul of shapes \(2, 2, 3\), \(3, 3, 1\)",
    ),
    "matmul by a number": (
        lambda: M @ 2.0,
        ValueError,
        r"np\.matmul of shapes \(2, 3\):",
    ),
    "broadcast": (
        lambda: M + X,
        ValueError,
        r"np\.add of shapes \(2, 3\), \(2,\): operands could not",
    ),
    "reshape": (lambda: M.reshape(5), ValueError, r"shapes? \(2, 3\).*size 6"),
    "concatenate": (
        lambda: np.concatenate([X, M]),
        ValueError,
        r"np\.concatenate of shapes \(2,\), \(2, 3\)",
    ),
    "axis": (lambda: np.sum(X, axis=3), np.exceptions.AxisError, r"np\.sum of.*axis 3"),
    "singular": (
        lambda: np.linalg.inv(leaf(np.zeros((2, 2)))),
        np.linalg.LinAlgError,
        r"np\.linalg\.inv of shapes \(2, 2\): Singular",
    ),
    "text": (lambda: X + "text", TypeError, "add"),
    "None": (lambda: X + None, TypeError, r"np\.add of shapes \(2,\)"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_an_error_names_the_fault_and_the_remedy(case):
    call, error, message = REFUSALS[case]
    values = X.data.copy(), ARRAY.copy()
    with pytest.raises(error, match=message):
        call()
    np.testing.assert_array_equal(X.data, values[0])
    np.testing.assert_array_equal(ARRAY, values[1])  # nothing was written


def freed():
    loss = np.sum(leaf([1.0]) * 2)
    loss.backward()
    return loss


def stale():
    w = leaf([1.0])
    loss = np.sum(w * w)
    write(w)
    return loss


@pytest.mark.parametrize(
    "call",
    [
        lambda: freed().backward(),
        lambda: stale().backward(),
        lambda: Tensor(1.0).backward(),
        lambda: np.unwrap(X),
        lambda: float(X[0]),
        lambda: np.asarray(X),
        lambda: assign(X, 0, 1.0),
        lambda: copy.deepcopy(np.exp(X)),
        lambda: Tensor(np.exp(X)),
        lambda: grad(lambda t: t.item() ** 2)(1.0),
    ],
)
def test_an_error_of_the_graph_shows_wrong_and_right_in_six_lines(call):
    with pytest.raises((GraphError, TypeError)) as caught:
        call()
    _, *lines = str(caught.value).split("\n")
    heads = [line[:9] for line in lines if line[:9].strip()]
    assert heads == ["  wrong: ", "  right: ", "  why:   "]
    assert len(lines) <= 5


def test_the_first_error_of_numpy_is_kept_as_the_cause():
    with pytest.raises(ValueError, match="inner sizes") as caught:
        M @ M
    assert "mismatch" in str(caught.value.__cause__)


def test_an_array_is_not_touched_by_a_refused_in_place_addition():
    h = np.zeros(2)
    with pytest.raises(TypeError, match="h = h"):
        h += X
    np.testing.assert_array_equal(h, 0)
    h = h + X
    assert isinstance(h, Tensor)


def test_a_keyword_with_its_default_value_is_accepted():
    for y in (
        np.sum(X, out=None, dtype=None),
        np.sum(X, initial=np._NoValue),
        np.sum(X, keepdims=np._NoValue),
        np.mean(X, axis=None) * 2,
    ):
        X.grad = None
        np.sum(y).backward()
        assert X.grad.shape == (2,)
    assert np.sum(X, keepdims=np._NoValue).shape == ()
    X.grad = None


def test_a_tensor_by_keyword():
    x = leaf([1.0, 2.0, 4.0])
    np.sum(a=x * 2, axis=0).backward()
    np.testing.assert_array_equal(x.grad, [2.0, 2.0, 2.0])
    x.grad = None
    np.sum(np.clip(x, a_min=1.5, a_max=x * 0 + 3.0)).backward()
    np.testing.assert_array_equal(x.grad, [0.0, 1.0, 0.0])
    x.grad = None
    np.average([1.0, 2.0, 3.0], weights=x).backward()
    assert x.grad.shape == (3,)
    x.grad = None
    np.sum(relu(x=x)).backward()
    np.testing.assert_array_equal(x.grad, [1.0, 1.0, 1.0])


# --- The table ----------------------------------------------------------------------


def test_a_function_of_the_users_own(table):
    @primitive
    def cube(x):
        """Return the cube."""
        return x * x * x

    x = leaf([1.0, 2.0])
    assert cube.__doc__ == "Return the cube."
    assert type(cube(x.data)) is np.ndarray  # plain arrays never need the table
    with pytest.raises(NoRuleError, match=r"(?s)^cube has .*\(2,\).*rule\(cube, "):
        cube(x)
    rule(cube, lambda g, y, x: 3 * g * x * x)
    np.sum(cube(x)).backward()
    np.testing.assert_array_equal(x.grad, [3.0, 12.0])
    second = grad(lambda v: np.sum(grad(lambda u: np.sum(cube(u)))(v)))(x.data)
    np.testing.assert_array_equal(second, [6.0, 12.0])


def test_a_rule_may_have_options_and_refuse_others(table):
    @primitive
    def shifted(x, by=1.0, flag=False, text="a"):
        return x + by + flag

    rule(shifted, lambda g, y, x, by=1.0, *, text="a": g)
    x = leaf([1.0])
    for y in (shifted(x), shifted(x, 2.0), shifted(x, by=2.0), shifted(x, text="b")):
        assert y.requires_grad
    assert shifted(x, flag=False).requires_grad
    with pytest.raises(TypeError, match=r"shifted: 'flag' is not .* takes x, by, text"):
        shifted(x, flag=True)  # the derivative does not cover it
    for call in (
        lambda: shifted(x, x),
        lambda: shifted(x, by=x),
        lambda: shifted(1.0, x),
    ):
        with pytest.raises(TypeError, match="argument that has no derivative"):
            call()


def test_a_rule_with_free_arguments(table):
    @primitive
    def scaled(x, **options):
        return x * options.get("by", 1.0)

    rule(scaled, lambda g, y, x, **options: g * options.get("by", 1.0))
    x = leaf([1.0])
    scaled(x, by=3.0).backward()
    assert x.grad == 3


def test_an_input_without_a_derivative(table):
    @primitive
    def gated(x, gate):
        return x * (gate > 0)

    rule(gated, lambda g, y, x, gate: g * (gate > 0), None)
    x, gate = leaf([1.0, 2.0]), leaf([1.0, -1.0])
    np.sum(gated(x, gate)).backward()
    np.testing.assert_array_equal(x.grad, [1.0, 0.0])
    assert gate.grad is None


def test_rule_each_rewrite_and_constant(table):
    @primitive
    def total(arrays, factor=1.0):
        return sum(arrays) * factor

    rule_each(total, lambda g, y, i, arrays, factor=1.0: g * factor * (i + 1) / (i + 1))
    a, b = leaf([1.0]), leaf([2.0])
    for call in (total([a, b], 3.0), total((a, [2.0], b), factor=3.0)):
        a.grad = b.grad = None
        call.backward()
        assert a.grad == b.grad == 3
    a.grad = None
    total([a, a]).backward()
    assert a.grad == 2

    @primitive
    def both(x):
        return x, -x

    rewrite(both, lambda x: (x * 1, x * -1))
    up, down = both(a)
    a.grad = None
    (up + 2 * down).backward()
    assert a.grad == -1

    @primitive
    def level(x):
        return np.floor(x)

    nondifferentiable(level)
    assert type(level(a)) is np.ndarray


def test_a_rule_without_any_derivative_is_refused(table):
    for rules in ((), (None,), (None, None)):
        with pytest.raises(
            ValueError, match=r"rule: .* np\.sin.*nondifferentiable\(\)"
        ):
            rule(np.sin, *rules)


def test_replacing_a_row_takes_effect(table):
    x = leaf(2.0)
    rule(np.sin, lambda g, y, x: 7 * g)
    np.sin(x).backward()
    assert x.grad == 7


def test_a_node_can_be_inspected():
    x = leaf([1.0, 2.0])
    y = np.sum(x * np.array([3.0, 4.0]), axis=0)
    node = y._node
    assert node.function is np.sum
    assert node.kwargs == {"axis": 0}
    ((i, product),) = node.inputs()
    assert i == 0
    node = product._node
    assert node.function is np.multiply
    assert node.args[0] is x
    assert [(i, t) for i, t in node.inputs()] == [(0, x)]
    _, (a, b) = node.operands(product)
    assert a is x.data
    np.testing.assert_array_equal(b, [3.0, 4.0])
    dx = node.vjp(0, x, np.ones(2), *node.operands(product))
    np.testing.assert_array_equal(dx, [3.0, 4.0])
    with no_grad():
        assert isinstance(
            node.vjp(0, x, Tensor(np.ones(2)), product, node.args), Tensor
        )


def test_names():
    for function, name in (
        (np.add, "np.add"),
        (np.sum, "np.sum"),
        (np.where, "np.where"),
        (np.linalg.inv, "np.linalg.inv"),
        (np.fft.fft, "np.fft.fft"),
        (relu, "relu"),
        (leaf, "leaf"),
    ):
        assert name_of(function) == name


def test_apply_is_what_numpy_calls():
    x = leaf([1.0, 2.0])
    y = apply(np.exp, (x,), {})
    np.testing.assert_array_equal(y.data, np.exp(x.data))
    assert y.requires_grad


def test_plain():
    x = leaf([1.0])
    assert plain(x) is x.data
    array, three = np.ones(2), [1, 2, 3]
    assert plain(array) is array
    assert plain(three) is three
    assert plain([x, (x, 2)]) == [x.data, (x.data, 2)]


def test_every_public_name_exists():
    for name in scratchnet.__all__:
        assert getattr(scratchnet, name) is not None


# --- Other dtypes than floats, and subclasses of arrays -------------------------------

HALVES = np.array([Fraction(1, 2)] * 3)
TENTHS = np.array([Decimal("0.1")] * 3)


class Column:
    """A column of a table, as in pandas: it converts to an array."""

    __array_ufunc__ = None
    __array_priority__ = 1000

    def __init__(self, values):
        self.values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)


OBJECTS = {
    "Fraction * t": ("multiply", lambda t: Fraction(1, 2) * t),
    "t * Fraction": ("multiply", lambda t: t * Fraction(1, 2)),
    "t / Fraction": ("divide", lambda t: t / Fraction(1, 2)),
    "Fraction - t": ("subtract", lambda t: Fraction(1, 2) - t),
    "t ** Fraction": ("power", lambda t: t ** Fraction(1, 2)),
    "Decimal * t": ("multiply", lambda t: Decimal(2) * t),
    "t + Decimal": ("add", lambda t: t + Decimal(2)),
    "array * t": ("multiply", lambda t: HALVES * t),
    "t * array": ("multiply", lambda t: t * HALVES),
    "decimals": ("multiply", lambda t: TENTHS * t),
    "column * t": ("multiply", lambda t: Column(HALVES) * t),
    "t * column": ("multiply", lambda t: t * Column(HALVES)),
    "t * list": ("multiply", lambda t: t * [Fraction(1, 2)] * 3),
    "matrix @": ("matmul", lambda t: np.ones((2, 3)) * t @ HALVES),
    "dot": ("dot", lambda t: np.dot(np.ones((2, 3)) * t, HALVES)),
    "where": ("where", lambda t: np.where([True, False, True], t, HALVES)),
    "where number": ("where", lambda t: np.where(t > 0, t, Fraction(1, 2))),
    "concatenate": ("concatenate", lambda t: np.concatenate([t, HALVES])),
    "stack": ("stack", lambda t: np.stack([HALVES, t])),
    "hstack": ("hstack", lambda t: np.hstack([t, HALVES])),
    "append": ("append", lambda t: np.append(t, HALVES)),
    "einsum": ("einsum", lambda t: np.einsum("i,j->ij", t, HALVES)),
    "outer": ("outer", lambda t: np.outer(t, HALVES)),
    "kron": ("kron", lambda t: np.kron(HALVES, t)),
    "inner": ("inner", lambda t: np.inner(t, HALVES)),
    "average": ("average", lambda t: np.average(t, weights=HALVES)),
    "maximum": ("maximum", lambda t: np.maximum(t, HALVES)),
    "clip": ("clip", lambda t: np.clip(t, HALVES, None)),
    "large integers": ("multiply", lambda t: t * np.array([2**70] * 3)),
    "large integer in a list": ("multiply", lambda t: t * [2**70, 1, 1]),
    "times": ("multiply", lambda t: t * np.timedelta64(1, "s")),
    "astype": ("astype", lambda t: t.astype(object)),
    "astype str": ("astype", lambda t: t.astype(str)),
}


@pytest.mark.parametrize("case", OBJECTS)
def test_a_result_that_is_not_numeric_is_refused(case):
    name, f = OBJECTS[case]
    dtype = "<U|Decimal|object|timedelta64"
    with pytest.raises(TypeError, match=rf"{name}.*({dtype})"):
        grad(lambda t: np.sum(f(t)))(np.ones(3))
    with pytest.raises(TypeError, match=rf"{name}.*({dtype})"):
        f(leaf(np.ones(3)))


def test_numbers_of_other_types_that_make_floats_are_right():
    for f, expected in (
        (lambda t: t[0] * Fraction(1, 2), [0.5, 0, 0]),
        (lambda t: HALVES @ t, [0.5, 0.5, 0.5]),
        (lambda t: np.einsum("i,i->", t, HALVES), [0.5, 0.5, 0.5]),
        (lambda t: np.sum(t * 2**70), [2.0**70] * 3),
        (lambda t: np.sum(t * np.True_), [1, 1, 1]),
        (lambda t: np.sum(t * HALVES.astype(float)), [0.5, 0.5, 0.5]),
        (lambda t: np.sum(t.astype(int)), [0, 0, 0]),
        (lambda t: np.sum(Column([1.0, 2.0, 3.0]) * t), [1, 2, 3]),
        (lambda t: np.sum(t / Column([1.0, 2.0, 4.0])), [1, 0.5, 0.25]),
        (lambda t: t @ Column([1, 2, 3]), [1, 2, 3]),
        (lambda t: np.average(t, weights=Column([1.0, 1.0, 2.0])), [0.25, 0.25, 0.5]),
    ):
        g = grad(f)(np.ones(3))
        assert g.dtype == np.float64
        np.testing.assert_array_equal(g, expected)


class Scaled(np.ndarray):
    """A subclass whose operators have another meaning, such as units."""

    __array_priority__ = 10_000

    def __mul__(self, other):
        return NotImplemented

    def __rmul__(self, other):
        return np.asarray(self) * np.asarray(other) * 100


VALUES = np.array([[5.0, 6.0], [7.0, 8.0]])
SUBCLASSES = {
    "np.matrix": lambda: np.matrix(VALUES),
    "not masked": lambda: np.ma.array(VALUES),
    "nothing masked": lambda: np.ma.array(VALUES, mask=np.zeros((2, 2), bool)),
    "recarray": lambda: VALUES.view(np.recarray),
    "a class of the user's": lambda: VALUES.view(Scaled),
    "memmap": lambda: MEMMAP,
}
with tempfile.TemporaryFile() as file:
    MEMMAP = np.memmap(file, np.float64, shape=(2, 2))
    MEMMAP[...] = VALUES
# Each is called with the subclass and with the plain array.
WAYS = {
    "t * m": lambda t, m: t * m,
    "m @ t": lambda t, m: m @ t,
    "t @ m": lambda t, m: t @ m,
    "t / m": lambda t, m: t / m,
    "t - m": lambda t, m: (t - m) * t,
    "t ** m": lambda t, m: t**m,
    "np.multiply": lambda t, m: np.multiply(m, t),
    "np.dot": lambda t, m: np.dot(m, t),
    "np.einsum": lambda t, m: np.einsum("ij,jk", t, m),
    "np.where": lambda t, m: np.where(t > 1.5, t * t, m),
    "a condition": lambda t, m: np.where(m > 6, t * t, 0.0),
    "np.concatenate": lambda t, m: np.concatenate([m, t], axis=1) ** 2,
    "np.stack": lambda t, m: np.stack([t, m]) ** 2,
    "np.vstack": lambda t, m: np.vstack([t, m]) ** 2,
    "np.block": lambda t, m: np.block([[t], [m]]) ** 2,
    "np.append": lambda t, m: np.append(t, m) ** 2,
    "np.average": lambda t, m: np.average(t, weights=m),
    "np.average along": lambda t, m: np.average(t, axis=1, weights=m),
    "np.clip": lambda t, m: np.clip(t * 6, m, None),
    "np.clip by keyword": lambda t, m: np.clip(t * 6, a_min=m, a_max=None),
    "np.maximum": lambda t, m: np.maximum(t * 6, m),
    "np.outer": lambda t, m: np.outer(t, m),
    "np.kron": lambda t, m: np.kron(t, m),
    "np.tensordot": lambda t, m: np.tensordot(t, b=m),
    "np.linalg.solve": lambda t, m: np.linalg.solve(m, t),
    "np.hypot": lambda t, m: np.hypot(m, t),
    "leaky_relu": lambda t, m: leaky_relu(-t, m),
    "Tensor": lambda t, m: t * Tensor(m),
    "an index": lambda t, m: t[m > 6],
    "indices": lambda t, m: np.take(t, (m - 5).astype(int)),
    "indices by keyword": lambda t, m: np.take(t, indices=(m - 5).astype(int)),
    "np.full_like": lambda t, m: t * np.full_like(t, m),
    "np.broadcast_arrays": lambda t, m: t * np.broadcast_arrays(t, m)[1],
}


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of np.matrix
@pytest.mark.parametrize("kind", SUBCLASSES)
@pytest.mark.parametrize("way", WAYS)
def test_subclasses_of_arrays_count_as_arrays(kind, way):
    f, x = WAYS[way], np.eye(2) + 1
    m = SUBCLASSES[kind]()
    for order in (1, 2):
        power = lambda t, m, order=order: np.sum(f(t, m) ** order)
        found = grad(power)(x, m)
        assert type(found) is np.ndarray
        expected = grad(power)(x, VALUES)
        np.testing.assert_array_equal(found, expected)
    assert type(f(leaf(x), m).data) is np.ndarray


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_a_matrix_is_multiplied_element_by_element():
    M, x = np.matrix(VALUES), np.eye(2) + 1
    for f in (lambda t: t * M, lambda t: M * t, lambda t: np.multiply(t, M)):
        np.testing.assert_array_equal(grad(lambda t, f=f: np.sum(f(t)))(x), VALUES)
    np.testing.assert_array_equal(
        grad(lambda t: np.sum(M @ t))(x), VALUES.T @ np.ones((2, 2))
    )
    w = leaf(x)
    (w * M).backward(gradient=np.matrix(VALUES))
    assert type(w.grad) is np.ndarray
    np.testing.assert_array_equal(w.grad, VALUES * VALUES)
    assert type(Tensor(M).data) is np.ndarray
    for compare in (operator.lt, operator.ge, operator.eq, operator.ne, np.greater):
        assert type(compare(w, M)) is np.ndarray
    w.data = M
    assert type(w.data) is np.ndarray
    value, g = value_and_grad(np.sum)(M)
    assert (type(value), type(g)) == (np.ndarray, np.ndarray)
    np.testing.assert_array_equal(grad(lambda t: np.sum(t * t))(M), 2 * VALUES)


MASKED = np.ma.array(VALUES, mask=[[False, True], [False, False]])


@pytest.mark.parametrize("way", WAYS)
def test_a_mask_is_not_lost(way):
    f, x = WAYS[way], leaf(np.eye(2) + 1)
    with pytest.raises(TypeError, match=r"masked.*mask would be lost.*\.filled\("):
        f(x, MASKED)


def test_a_mask_is_not_lost_in_other_calls():
    w = leaf(np.ones((2, 2)))
    for name, call in (
        ("Tensor: data", lambda: Tensor(MASKED)),
        ("Tensor: data", lambda: Tensor([[1.0, np.ma.masked], [1.0, 2.0]])),
        ("Tensor: data", lambda: Tensor([MASKED[0], MASKED[1]])),
        ("Tensor: data", lambda: setattr(w, "data", MASKED)),
        ("backward: gradient", lambda: (w * w).backward(gradient=MASKED)),
        ("np.add", lambda: np.add(w, [MASKED[0], VALUES[1]])),
        ("np.add", lambda: w + np.ma.masked),
        ("indexing", lambda: w[MASKED > 6, None]),
        ("indexing", lambda: w[[0], np.ma.array([1], mask=[True])]),
        ("np.concatenate", lambda: np.concatenate((w, (MASKED[0], MASKED[1])))),
        ("leaky_relu", lambda: leaky_relu(w, MASKED)),
        ("Tensor", lambda: grad(np.sum)(MASKED)),
        ("np.less", lambda: w < MASKED),
        ("np.isclose", lambda: np.isclose(w, MASKED)),
        ("", lambda: w == MASKED),
    ):
        with pytest.raises(
            TypeError, match=rf"(?s){name}.*mask would be lost"
        ) as caught:
            call()
        assert "masked" in str(caught.value)
    assert w.grad is None
    # here np.ma computes first
    with pytest.raises(TypeError, match="gradient, which would be lost"):
        MASKED * w
    np.testing.assert_array_equal(w.data, np.ones((2, 2)))
