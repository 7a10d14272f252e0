"""Corruptions: how much they change, what they leave, and the law of fog."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchnet.data.corruption import (
    Fog,
    Gaussian,
    Masking,
    SaltAndPepper,
    koschmieder,
)
from tests.helpers import rng


def deep(corruption, x, source):
    """Call any corruption; fog sees everything 10 metres away."""
    given = (np.full_like(x, 10),) if isinstance(corruption, Fog) else ()
    return corruption(x, *given, source)


ALL = [Gaussian(0.3), Masking(0.25), SaltAndPepper(0.25), Fog()]
each = pytest.mark.parametrize("corruption", ALL, ids=lambda c: type(c).__name__)


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7, 12), (7, 3, 4), (7,), (0, 12)])
def test_shape_and_dtype_stay(corruption, dtype, shape):
    x = rng().random(shape, dtype)
    corrupted = deep(corruption, x, rng())
    assert corrupted.shape == shape
    assert corrupted.dtype == dtype


@each
def test_the_input_is_not_changed(corruption):
    x, depth = rng().random((20, 30)), rng(1).uniform(1, 30, (20, 30))
    kept = x.copy(), depth.copy()
    given = (depth,) if isinstance(corruption, Fog) else ()
    corrupted = corruption(x, *given, rng())
    assert np.array_equal(x, kept[0])
    assert np.array_equal(depth, kept[1])
    assert not np.shares_memory(corrupted, x)
    assert not np.array_equal(corrupted, x)


@each
def test_one_seed_corrupts_alike_and_the_next_call_does_not(corruption):
    x = rng().random((5, 40))
    source = rng(1)
    first, second = deep(corruption, x, source), deep(corruption, x, source)
    assert np.array_equal(first, deep(corruption, x, rng(1)))
    assert not np.array_equal(first, second)


@each
def test_corruptions_are_values(corruption):
    assert corruption == type(corruption)(**vars(corruption))
    with pytest.raises(AttributeError):
        corruption.p = 1.0


def assert_fraction(hits: np.ndarray, p: float) -> None:
    """Check that p is within 5 standard deviations of the fraction of hits."""
    n = hits.size
    assert abs(np.sum(hits) - n * p) <= 5 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("p", [0, 0.1, 0.5, 1])
def test_masking_sets_a_fraction_to_zero_and_no_more(p):
    x = rng().uniform(0.1, 0.9, (300, 200)).astype(np.float32)
    corrupted = Masking(p)(x, rng(1))
    zero = corrupted == 0
    assert_fraction(zero, p)
    assert np.array_equal(corrupted[~zero], x[~zero])
    # In every column and row alike: each entry has the chance p.
    assert abs(zero.mean(0) - p).max() < 0.16
    assert abs(zero.mean(1) - p).max() < 0.19


@pytest.mark.parametrize("p", [0, 0.1, 0.5, 1])
def test_salt_and_pepper_sets_half_of_a_fraction_to_either(p):
    x = rng().uniform(0.1, 0.9, (300, 200)).astype(np.float32)
    corrupted = SaltAndPepper(p)(x, rng(1))
    zero, one = corrupted == 0, corrupted == 1
    assert_fraction(zero, p / 2)
    assert_fraction(one, p / 2)
    kept = ~zero & ~one
    assert np.array_equal(corrupted[kept], x[kept])


def test_gaussian_noise_has_its_mean_and_width_and_is_not_clipped():
    n, sigma = 100_000, 0.3
    for value in (0.0, 1.0):  # clipping to [0, 1] would shift the mean
        noise = Gaussian(sigma)(np.full(n, value), rng(1)) - value
        assert abs(noise.mean()) < 5 * sigma / math.sqrt(n)
        # The variance of a variance is 2 σ⁴ / n.
        assert abs(noise.var() - sigma**2) < 5 * sigma**2 * math.sqrt(2 / n)
        assert abs(np.mean(np.abs(noise) > 2 * sigma) - 0.0455) < 0.004  # from a table
    assert np.array_equal(Gaussian(0)(np.ones(3), rng()), np.ones(3))


def test_koschmieder_by_hand():
    # t = exp(-0.1 · ln 2 · 10) = 1/2:  0.2 / 2 + 0.8 / 2 = 0.5
    beta = 0.1 * math.log(2)
    assert koschmieder(np.array(0.2), 10.0, beta, 0.8) == pytest.approx(0.5)
    # Twice as far, t = 1/4:  0.2 / 4 + 0.8 · 3/4 = 0.65
    assert koschmieder(np.array(0.2), 20.0, beta, 0.8) == pytest.approx(0.65)
    # At 3.912 / β, where sight ends, black on white has a contrast of 2 %.
    assert koschmieder(np.array(0.0), 39.12, 0.1, 1.0) == pytest.approx(0.98, abs=1e-4)


def test_no_fog_shows_the_picture_and_endless_fog_only_itself():
    x, depth = rng().random((4, 9)), rng(1).uniform(1, 300, (4, 9))
    assert np.array_equal(koschmieder(x, depth, 0.0, 0.7), x)
    assert np.array_equal(koschmieder(x, depth, 1e9, 0.7), np.full((4, 9), 0.7))
    clear = Fog(density=(0, 0), noise=0)(x, depth, rng())
    assert np.array_equal(clear, x)
    white = Fog(density=(1e9, 1e9), airlight=(1, 1), noise=0)(x, depth, rng())
    assert np.array_equal(white, np.ones_like(x))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 100))
def test_fog_lies_between_the_picture_and_the_airlight(x, airlight, beta, depth):
    fogged = koschmieder(np.array(x), depth, beta, airlight)
    assert min(x, airlight) - 1e-12 <= fogged <= max(x, airlight) + 1e-12
    farther = koschmieder(np.array(x), depth + 1, beta, airlight)
    assert abs(farther - airlight) <= abs(fogged - airlight) + 1e-12


def test_each_sample_has_one_fog_uniform_on_its_range():
    n, density, airlight = 4000, (0.1, 0.3), (0.6, 0.9)
    # Three pixels of each: two black ones at 5 and 10 metres, one that is all fog.
    x = np.zeros((n, 3))
    depth = np.tile([5.0, 10.0, 1e6], (n, 1))
    fogged = Fog(density, airlight, noise=0)(x, depth, rng(1))
    air = fogged[:, 2]
    beta = -np.log(1 - fogged[:, 1] / air) / 10
    np.testing.assert_allclose(-np.log(1 - fogged[:, 0] / air) / 5, beta, rtol=1e-9)
    for drawn, (low, high) in ((beta, density), (air, airlight)):
        assert low - 1e-9 <= drawn.min() < drawn.max() <= high + 1e-9
        quarters = np.histogram(drawn, np.linspace(low, high, 5))[0]
        assert np.all(np.abs(quarters - n / 4) < 5 * math.sqrt(n * 3 / 16))
    assert abs(np.corrcoef(beta, air)[0, 1]) < 5 / math.sqrt(n)


def test_fog_has_the_noise_of_the_camera_everywhere():
    x, depth = rng().random((50, 400)), rng(1).uniform(1, 300, (50, 400))
    noise = Fog(noise=0.05)(x, depth, rng(2)) - Fog(noise=0)(x, depth, rng(2))
    assert abs(noise.std() / 0.05 - 1) < 5 / math.sqrt(2 * noise.size)
    assert abs(noise.mean()) < 5 * 0.05 / math.sqrt(noise.size)


X = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Masking(1.1), ValueError, "Masking: p is 1.1; a number in"),
        (lambda: Masking(math.nan), ValueError, "Masking: p is nan"),
        (
            lambda: SaltAndPepper(-0.1),
            ValueError,
            "SaltAndPepper: p is -0.1; a number in",
        ),
        (lambda: Gaussian(-1), ValueError, "Gaussian: sigma is -1; at least 0"),
        (lambda: Gaussian(math.inf), ValueError, "Gaussian: sigma is inf"),
        (lambda: Fog(noise=-1), ValueError, "Fog: noise is -1; at least 0"),
        (lambda: Fog(density=(0.2, 0.1)), ValueError, r"\(0.2, 0.1\); low <= high"),
        (lambda: Fog(density=(0, math.inf)), ValueError, "density is inf; at least 0"),
        (lambda: Fog(airlight=(0.5, 1.1)), ValueError, r"airlight is 1.1; .*\[0, 1\]"),
        (lambda: Masking(0.5)(X.astype(int), rng()), TypeError, "x is int64: pass an"),
        (lambda: Masking(0.5)([[0.5]], rng()), TypeError, "x is list: pass an array"),
        (lambda: Masking(0.5)(X[0, 0:1].reshape(()), rng()), ValueError, "one number"),
        (lambda: Gaussian(0.5)(X, 0), TypeError, "rng is 0; a np.random"),
        (lambda: Fog()(X, X[:1], rng()), ValueError, r"\(2, 3\) and depth \(1, 3\)"),
        (lambda: Fog()(X, X - 1, rng()), ValueError, r"depth\[0, 0\] is -1.*: pass"),
        (lambda: Fog()(X, X + math.nan, rng()), ValueError, r"depth\[0, 0\] is nan"),
    ],
)
def test_errors_name_the_argument_and_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()
