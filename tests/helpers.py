"""Helpers of the tests: draws, damaged files, checks of both twins of a system."""

import ast
import contextlib
import inspect
import re
import tracemalloc

import numpy as np
import pytest

from scratchnet import backend


@contextlib.contextmanager
def using(name):
    """Use a backend; the suite's own is back at the end."""
    before = backend.name()
    backend.use(name)
    try:
        yield backend._library
    finally:
        backend.use(before)


def assert_same(found, expected, err_msg=""):
    """Compare two results of one computation: equal to the last bit.

    Kernels in C may sum in another order, so there a few units of the last digit.
    """
    if backend.name() != "c":
        np.testing.assert_array_equal(found, expected, err_msg=err_msg)
        return
    limit = 64 * np.finfo(np.result_type(found)).eps
    np.testing.assert_allclose(found, expected, limit, limit, err_msg=err_msg)


def rng(seed=0):
    return np.random.default_rng(seed)


def samples(n, d, dtype=np.float64, seed=1):
    """Draw x (n, d), uniform on [0, 1)."""
    return rng(seed).random((n, d)).astype(dtype)


def noise(*shape, dtype=np.float64, seed=2):
    return rng(seed).standard_normal(shape).astype(dtype)


def mutate(data, source):
    """Damage a file: change, remove, insert or repeat some of its bytes."""
    data = bytearray(data)
    for _ in range(source.choice([1, 1, 1, 2, 5])):
        at = source.randrange(len(data))
        how = source.randrange(5)
        if how == 0:
            data[at] ^= 1 << source.randrange(8)
        elif how == 1:
            data[at] = source.choice([0, 1, 127, 128, 255])
        elif how == 2:
            del data[at : at + source.choice([1, 4, 100])]
        elif how == 3:
            data[at:at] = bytes(source.randrange(256) for _ in range(4))
        else:
            data[at:at] = data[at : at + 40]
        if not data:
            break
    return bytes(data)


def assert_close(a, b, rtol):
    """Compare with a tolerance relative to the largest entry."""
    np.testing.assert_allclose(a, b, rtol=0, atol=rtol * np.abs(b).max())


def shake(model, scale=0.3):
    """Move the parameters away from where biases are zero."""
    r = rng(7)
    model.load_state_dict(
        {
            name: a + r.normal(0, scale, a.shape)
            for name, a in model.state_dict().items()
        }
    )


def assert_same_gradients(hand, engine, *batch):
    """Compare loss and gradients at equal parameters; return the gradients."""
    shake(hand)
    engine.load_state_dict(hand.state_dict())
    engine.zero_grad()
    value, gradients = hand.loss_and_gradients(*batch)
    recorded = engine.loss(*batch)
    recorded.backward()
    assert value == pytest.approx(recorded.item(), rel=1e-13)
    assert float(hand.loss(*batch)) == pytest.approx(value, rel=1e-13)
    assert list(gradients) == [name for name, _ in engine.named_parameters()]
    for name, p in engine.named_parameters():
        assert p.grad.shape == gradients[name].shape
        assert_close(gradients[name], p.grad, rtol=1e-12)
    return gradients


def assert_same_weights(hand, engine, optimizer, batches):
    """Train both on the same batches, from the same initial weights."""
    start = hand.state_dict()
    for name, a in engine.state_dict().items():
        np.testing.assert_array_equal(a, start[name])
    count = 0
    for batch in batches:
        value = float(hand.step(*batch))
        optimizer.zero_grad()
        recorded = engine.loss(*batch)
        recorded.backward()
        optimizer.step()
        assert value == pytest.approx(recorded.item(), rel=1e-9)
        count += 1
    assert count == 100
    assert_same_state(hand, engine, start)


def assert_same_state(hand, engine, start, still=()):
    """Compare the weights to 1e-9 of the largest; all but `still` must have moved.

    The scale is the largest of all weights. The gradient of a bias may be zero up to
    rounding; Adam divides by its size, so that its steps differ.
    """
    end = engine.state_dict()
    largest = max(np.abs(a).max() for a in end.values())
    for name, a in hand.state_dict().items():
        np.testing.assert_allclose(a, end[name], rtol=0, atol=1e-9 * largest)
        assert (np.abs(a - start[name]).max() < 1e-5) == (name in still)


def numeric_gradients(loss, arrays, h=1e-6):
    """Return dLoss/d(entry) for every entry of named arrays, by central differences."""
    found = {}
    for name, a in arrays.items():
        g = found[name] = np.zeros(a.shape)
        for i in np.ndindex(a.shape):
            kept = a[i]
            a[i] = kept + h
            above = float(loss())
            a[i] = kept - h
            g[i] = (above - float(loss())) / (2 * h)
            a[i] = kept
    return found


def assert_no_allocation(step, limit):
    """Check that step() allocates no array of `limit` bytes or more, and keeps none.

    Python's own objects are below the limit. So is NumPy's buffer of 8192 numbers,
    which broadcasts a row over the rows of a matrix.
    """
    for _ in range(10):  # Python caches data of functions that are called often
        step()

    def alive():
        arrays_only = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
        return len(tracemalloc.take_snapshot().filter_traces([arrays_only]).traces)

    tracemalloc.start()
    try:
        before = alive()
        start = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(8):
            step()
        peak = tracemalloc.get_traced_memory()[1]
        after = alive()
    finally:
        tracemalloc.stop()
    assert peak - start < limit, peak - start
    assert after == before


def assert_imports_no_engine(cls):
    tree = ast.parse(inspect.getsource(inspect.getmodule(cls)))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    assert {a.name for node in found for a in node.names} <= {"numpy", "math"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("scratchnet"):
            part = node.module.partition(".")[2].partition(".")[0]
            names = {part} if part else {a.name for a in node.names}
            assert names <= {"backend", "byhand", "checks", "kernels", "twins"}


def assert_every_equation_is_cited(cls, elsewhere=()):
    """Check that the code cites each numbered equation of the derivation."""
    module = inspect.getmodule(cls)
    number = r"\((\d+(?:'|\")?)\)"
    derivation = module.__doc__.partition("The step in plain NumPy")[0]
    derived = set(re.findall(rf" {number}$", derivation, re.MULTILINE))
    code = inspect.getsource(module).replace(module.__doc__, "")
    cited = set()
    for comment in re.findall(r"  # .*", code):
        cited |= set(re.findall(number, comment))
    assert derived <= cited
    assert cited - derived <= set(elsewhere)
    assert len(derived) >= 3
