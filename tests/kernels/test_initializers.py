"""Initializers: the variance of what they draw."""

import numpy as np
import pytest

from scratchnet.kernels import initializers

INITIALISERS = {
    # name: variance of an entry of W (d_in, d_out)
    initializers.glorot_uniform: lambda d_in, d_out: 2 / (d_in + d_out),
    initializers.glorot_normal: lambda d_in, d_out: 2 / (d_in + d_out),
    initializers.he_uniform: lambda d_in, d_out: 2 / d_in,
    initializers.he_normal: lambda d_in, d_out: 2 / d_in,
}


@pytest.mark.parametrize(("init", "variance"), INITIALISERS.items())
def test_initialisers_have_their_variance(init, variance):
    W = init(np.random.default_rng(0), (300, 500), np.float64)
    assert W.shape == (300, 500)
    assert W.mean() == pytest.approx(0, abs=4 * W.std() / np.sqrt(W.size))
    assert W.var() == pytest.approx(variance(300, 500), rel=0.02)
    if "uniform" in init.__name__:
        r = np.sqrt(3 * variance(300, 500))
        assert 0.999 * r < np.abs(W).max() <= r
    else:
        assert np.abs(W).max() > 4 * W.std()


@pytest.mark.parametrize("init", INITIALISERS)
def test_float32_starts_where_float64_does(init):
    double = init(np.random.default_rng(3), (5, 4), np.float64)
    single = init(np.random.default_rng(3), (5, 4))
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, double.astype(np.float32))


def test_relu_keeps_the_mean_square_with_he_and_not_with_glorot():
    def mean_square(init):
        rng = np.random.default_rng(0)
        h = rng.standard_normal((500, 200))
        for _ in range(10):
            h = np.maximum(h @ init(rng, (200, 200), np.float64), 0)
        return np.mean(h**2)

    assert 0.5 < mean_square(initializers.he_normal) < 2
    assert mean_square(initializers.glorot_normal) < 0.01
