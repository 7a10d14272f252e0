"""Flat memory and its state."""

import numpy as np
import pytest

from scratchnet.kernels import buffers
from tests.kernels.test_updates import lock


def test_flat_lays_out_views_in_order():
    shapes = {"W": (2, 3), "b": (4,), "s": ()}
    buffer, views = buffers.flat(shapes, np.float64)
    assert buffer.shape == (13,)
    assert buffer.dtype == np.float64
    assert list(views) == ["W", "b", "s"]
    buffer[...] = np.arange(13)
    np.testing.assert_array_equal(views["W"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(views["b"], [8, 9, 10, 11])  # at a multiple of 4
    assert views["s"] == 12
    views["b"][1] = -1
    assert buffer[9] == -1


def test_state_is_a_copy_and_loads_back():
    arrays = {"a": np.arange(3.0), "b": np.ones((2, 2), np.float32)}
    state = buffers.copy_state(arrays)
    arrays["a"][:] = 0
    np.testing.assert_array_equal(state["a"], [0, 1, 2])
    a = arrays["a"]
    buffers.load_state("here", arrays, state)
    assert arrays["a"] is a
    np.testing.assert_array_equal(a, [0, 1, 2])


def test_load_state_lists_every_difference_and_writes_nothing():
    arrays = {"a": np.zeros(3), "b": np.zeros(2), "c": np.zeros(2), "d": np.zeros(1)}
    state = {"a": np.ones(3), "b": np.ones(4), "c": np.ones(2, np.float32), "e": 1}
    with pytest.raises(ValueError, match="nothing was loaded") as caught:
        buffers.load_state("M.load_state_dict", arrays, state)
    assert str(caught.value) == (
        "M.load_state_dict: nothing was loaded\n"
        "  missing: d\n"
        "  unexpected: e\n"
        "  b: shape (4,) given, (2,) expected\n"
        "  c: float32 given, float64 expected"
    )
    assert not arrays["a"].any()
    with pytest.raises(ValueError, match="a: a list given, an array expected"):
        buffers.load_state("M", {"a": np.zeros(1)}, {"a": [1.0]})
    with pytest.raises(TypeError, match="M: a list given, a dict of arrays expected"):
        buffers.load_state("M", arrays, [1])


def test_states_are_loaded_all_or_none():
    arrays = {name: np.arange(3.0) for name in "abc"}
    state = {name: a + 1 for name, a in arrays.items()}
    lock(arrays["b"])
    with pytest.raises(
        ValueError, match="X: nothing was loaded\n  b: is read-only; use"
    ):
        buffers.load_state("X", arrays, state)
    arrays["b"].flags.writeable = True
    for wrong, message in [
        (
            np.ma.array(np.zeros(3), mask=[0, 1, 0]),
            "b: masked entries given; pass x.filled",
        ),
        (np.full(3, None), "b: object given, float64 expected"),
        (np.zeros(3, ">f8"), "b: >f8 given, float64 expected"),
        (np.zeros((3, 1)), r"b: shape \(3, 1\) given, \(3,\) expected"),
        ([0.0, 0.0, 0.0], "b: a list given, an array expected"),
    ]:
        with pytest.raises(ValueError, match=message):
            buffers.load_state("X", arrays, {**state, "b": wrong})
    for a in arrays.values():
        np.testing.assert_array_equal(a, [0, 1, 2])
    # Arrays of subclasses and read-only arrays may be loaded.
    given = {"a": np.ma.array(state["a"]), "b": lock(state["b"]), "c": state["c"]}
    buffers.load_state("X", arrays, given)
    for a in arrays.values():
        np.testing.assert_array_equal(a, [1, 2, 3])


def test_a_state_may_be_made_of_the_arrays_themselves():
    a, b = np.zeros(2), np.ones(2)
    buffers.load_state("X", {"a": a, "b": b}, {"a": b, "b": a})
    np.testing.assert_array_equal([a, b], [[1, 1], [0, 0]])
