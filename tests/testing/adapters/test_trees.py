"""Nested dicts, lists and tuples: their names, order and rebuilding."""

import collections

import numpy as np
import pytest

from scratchnet.testing.adapters import trees

Point = collections.namedtuple("Point", "x y")
TREE = {"encoder": [{"W": 1, "b": 2}, Point(3, (4, None))], "scale": 5}


def test_leaves_have_paths():
    assert dict(trees.named_leaves(TREE)) == {
        "encoder.0.W": 1, "encoder.0.b": 2, "encoder.1.x": 3, "encoder.1.y.0": 4,
        "encoder.1.y.1": None, "scale": 5,
    }  # fmt: skip
    assert [name for name, _ in trees.named_leaves({"W": 1}, "p")] == ["p.W"]


def test_a_tree_is_rebuilt_with_other_leaves():
    new = trees.rebuild(TREE, iter("abcdef"))
    assert new == {
        "encoder": [{"W": "a", "b": "b"}, Point("c", ("d", "e"))], "scale": "f",
    }  # fmt: skip
    assert type(new["encoder"][1]) is Point


def test_lists_of_numbers_are_arrays():
    assert not trees.is_tree([1.0, 2.0])
    assert not trees.is_tree([[1, 2], [3, 4]])
    assert trees.is_tree([np.ones(2), 1.0])
    assert trees.is_tree([])


def test_gradients_are_aligned_by_key():
    given = {"scale": 6, "encoder": [{"b": 2, "W": 1}, None]}
    assert list(trees.aligned(TREE, given, "p")) == [1, 2, None, None, None, 6]
    with pytest.raises(ValueError, match=r"gradient of p must be a dict with encoder"):
        list(trees.aligned(TREE, {"encoder": 1}, "p"))
