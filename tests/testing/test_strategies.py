"""Hypothesis strategies give inputs that the checker can judge."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnet import functions
from scratchnet.testing import gradcheck, strategies


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_strategies(data):
    shape = data.draw(strategies.shapes(max_dims=3))
    assert len(shape) <= 3
    assert all(1 <= n <= 4 for n in shape)
    x = data.draw(strategies.arrays(shape, -1, 3, avoid=(0.0, 1.0), margin=0.1))
    assert x.shape == shape
    assert np.all((x >= -1) & (x <= 3))
    assert np.all(np.abs(x) >= 0.1 - 1e-12)
    assert np.all(np.abs(x - 1) >= 0.1 - 1e-12)
    many = data.draw(strategies.arrays(strategies.shapes(1, 2), distinct=True))
    gaps = np.diff(np.sort(many.ravel()))
    assert np.all(gaps >= 0.49 * 4 / many.size)
    a, b = data.draw(strategies.broadcastable())
    np.broadcast_shapes(a, b)
    axis = data.draw(strategies.axes(len(shape)))
    np.sum(x, axis=axis)
    low = data.draw(strategies.arrays((2,), dtype=np.float32))
    assert low.dtype == np.float32


def test_strategies_refuse_an_empty_interval():
    with pytest.raises(ValueError, match="nothing is left"):
        strategies.arrays((2,), -0.01, 0.01, avoid=(0.0,))


@given(strategies.arrays(strategies.shapes(1, 2), avoid=(0.0,), distinct=True))
@settings(max_examples=30, deadline=None)
def test_strategies_give_points_that_the_checker_can_judge(x):
    gradcheck(lambda x: np.max(np.abs(x), axis=0) + functions.relu(x), x)


def test_importing_testing_does_not_import_hypothesis():
    code = (
        "import sys, scratchnet.testing as t; t.strategies; "
        "sys.exit('hypothesis' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
