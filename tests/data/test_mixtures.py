"""mixtures.py: densities against integrals and moments, sheets against geometry."""

import math

import numpy as np
import pytest

from scratchnet.data.mixtures import (
    Mixture,
    gaussian,
    grid,
    ring,
    swiss_roll,
    two_moons,
)
from tests.helpers import rng


def test_the_density_of_one_gaussian_is_the_formula():
    x = np.array([[-1.0], [0.0], [3.0]])
    log_p = gaussian(1.0, 2.0).log_density(x)
    for value, point in zip(log_p, x[:, 0], strict=True):
        density = math.exp(-((point - 1) ** 2) / 8) / (2 * math.sqrt(2 * math.pi))
        assert value == pytest.approx(math.log(density), rel=1e-14)


@pytest.mark.parametrize("mixture", [ring(sigma=0.1), grid(2, 1.0, 0.2)])
def test_the_density_in_the_plane_integrates_to_one(mixture):
    ticks = np.linspace(-2, 2, 401)
    x = np.stack(np.meshgrid(ticks, ticks), axis=2).reshape(-1, 2)
    total = np.sum(np.exp(mixture.log_density(x))) * 0.01**2
    assert total == pytest.approx(1, rel=1e-9)


def test_the_density_of_two_gaussians_on_the_line():
    two = Mixture(np.array([[-1.0], [2.0]]), 0.5)
    t = np.linspace(-6, 7, 2001)
    p = np.exp(two.log_density(t[:, None]))
    assert np.trapezoid(p, t) == pytest.approx(1, rel=1e-12)
    assert np.trapezoid(p * t, t) == pytest.approx(0.5, rel=1e-12)
    variance = np.trapezoid(p * (t - 0.5) ** 2, t)
    assert variance == pytest.approx(0.25 + 1.5**2, rel=1e-12)


def test_the_log_density_is_finite_if_the_density_underflows():
    (log_p,) = ring().log_density(np.array([[100.0, 0.0]]))
    nearest = -(99**2) / (2 * 0.01**2)
    assert log_p == pytest.approx(nearest, rel=1e-6)
    assert math.exp(log_p) == 0


def test_the_mean_log_density_of_samples_is_minus_the_entropy():
    for mixture in (ring(), grid()):
        k, d = mixture.centers.shape
        x, _ = mixture.sample(20_000, rng())
        # The modes hardly overlap: the entropy of the mode plus that within it.
        entropy = math.log(k) + d / 2 * math.log(
            2 * math.pi * math.e * mixture.sigma**2
        )
        # log p of a sample is a constant - chi²(2) / 2, with standard deviation 1.
        error = abs(mixture.log_density(x).mean() + entropy)
        assert error < 5 / math.sqrt(20_000)


def test_samples_have_the_moments_of_their_gaussian():
    mixture = grid(3, 1.5, 0.3)
    x, label = mixture.sample(90_000, rng(1))
    assert (x.shape, x.dtype) == ((90_000, 2), np.float32)
    assert (label.shape, label.dtype) == ((90_000,), np.int64)
    counts = np.bincount(label, minlength=9)
    # Chi² of 8 degrees of freedom: above 26.1 once in a thousand.
    assert np.sum((counts - 10_000) ** 2 / 10_000) < 26.1
    for j, center in enumerate(mixture.centers):
        mine = x[label == j]
        np.testing.assert_allclose(mine.mean(axis=0), center, atol=5 * 0.3 / 95)
        np.testing.assert_allclose(
            np.cov(mine.T), 0.09 * np.eye(2), atol=5 * 0.09 * math.sqrt(2) / 95
        )


def test_samples_depend_only_on_the_seed():
    a, label = ring().sample(50, rng(3))
    b, same = ring().sample(50, rng(3))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(label, same)
    assert (a != ring().sample(50, rng(4))[0]).any()


def test_the_ring_has_eight_modes_and_not_seven():
    mixture = ring()
    half = math.sqrt(0.5)
    expected = [(1, 0), (half, half), (0, 1), (-half, half),
                (-1, 0), (-half, -half), (0, -1), (half, -half)]  # fmt: skip
    np.testing.assert_allclose(mixture.centers, expected, atol=1e-15)
    assert mixture.sigma == 0.01
    three = ring(3, radius=2.0).centers
    sides = np.linalg.norm(three - np.roll(three, 1, axis=0), axis=1)
    np.testing.assert_allclose(sides, 2 * math.sqrt(3), rtol=1e-14)


def test_the_grid_is_that_of_the_literature():
    mixture = grid()
    ticks = (-4, -2, 0, 2, 4)
    expected = {(a, b) for a in ticks for b in ticks}
    assert {tuple(center) for center in mixture.centers} == expected
    assert (len(mixture.centers), mixture.sigma) == (25, 0.05)
    assert sorted(grid(2, 3.0).centers[:, 0]) == [-1.5, -1.5, 1.5, 1.5]


def test_a_mixture_is_frozen():
    centers = np.zeros((1, 2))
    mixture = Mixture(centers, 1.0)
    centers[0] = 7
    assert (mixture.centers == 0).all()
    with pytest.raises(ValueError, match="read-only"):
        mixture.centers[0] = 1
    with pytest.raises(AttributeError):
        mixture.sigma = 2.0


def test_mixture_refuses():
    for centers in (np.zeros(3), np.zeros((0, 2)), np.array([[np.nan]])):
        with pytest.raises(ValueError, match="Mixture: centers have shape"):
            Mixture(centers, 1.0)
    for sigma in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="Mixture: sigma is"):
            Mixture(np.zeros((1, 1)), sigma)
    with pytest.raises(ValueError, match="ring: k is 0; at least 1"):
        ring(0)
    with pytest.raises(ValueError, match=r"shape \(5,\); expected \(n, d\) = \(n, 2\)"):
        ring().log_density(np.zeros(5))
    with pytest.raises(ValueError, match=r"shape \(5, 1\); expected"):
        grid().log_density(np.zeros((5, 1)))


def test_the_roll_is_a_spiral_of_its_angle():
    x, sheet = swiss_roll(2000, rng())
    assert (x.shape, sheet.shape) == ((2000, 3), (2000, 2))
    assert x.dtype == sheet.dtype == np.float32
    radius = np.hypot(x[:, 0], x[:, 2])  # r = t: the radius is the angle
    assert (radius.min(), radius.max()) > (1.5 * math.pi, 4.4 * math.pi)
    assert radius.max() < 4.5 * math.pi
    turns = (np.arctan2(x[:, 2], x[:, 0]) - radius) / (2 * math.pi)
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-5)
    np.testing.assert_array_equal(x[:, 1], sheet[:, 1])
    assert 0 < sheet[:, 1].min() < 0.1
    assert 20.9 < sheet[:, 1].max() < 21


def test_the_sheet_has_the_length_of_the_spiral_walked_in_small_steps():
    x, sheet = swiss_roll(200, rng(1))
    t = np.linspace(1.5 * math.pi, 4.5 * math.pi, 100_001)
    walk = np.hypot(np.diff(t * np.cos(t)), np.diff(t * np.sin(t)))
    length = np.concatenate([[0], np.cumsum(walk)])
    at = np.interp(np.hypot(x[:, 0], x[:, 2]), t, length)
    np.testing.assert_allclose(sheet[:, 0], at, atol=1e-4)


def test_the_roll_is_bent_but_not_stretched():
    x, sheet = swiss_roll(4000, rng(2))
    in_space = np.linalg.norm(x[:, None] - x[:500], axis=2)
    on_sheet = np.linalg.norm(sheet[:, None] - sheet[:500], axis=2)
    near = (on_sheet > 0) & (on_sheet < 1)
    assert near.sum() > 1000
    np.testing.assert_allclose(in_space[near], on_sheet[near], rtol=0.01)
    # Elsewhere the way through space is shorter: from one turn to the next.
    assert np.max(on_sheet / np.maximum(in_space, 1e-9) * (in_space > 1)) > 5


@pytest.mark.parametrize("draw", [swiss_roll, two_moons])
def test_noise_is_added_to_the_same_points(draw):
    clean, place = draw(20_000, rng(5))
    noisy, same = draw(20_000, rng(5), noise=0.3)
    np.testing.assert_array_equal(place, same)
    added = (noisy - clean).astype(np.float64)
    np.testing.assert_allclose(added.mean(axis=0), 0, atol=5 * 0.3 / 141)
    np.testing.assert_allclose(added.std(axis=0), 0.3, rtol=5 / 200)


def test_the_moons_are_half_circles():
    x, label = two_moons(4000, rng())
    assert (x.dtype, label.dtype) == (np.float32, np.int64)
    upper, lower = x[label == 0], x[label == 1]
    assert abs(len(upper) - 2000) < 5 * math.sqrt(1000)
    np.testing.assert_allclose(np.linalg.norm(upper, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(lower - np.array([1, 0.5]), axis=1), 1, rtol=1e-6
    )
    assert upper[:, 1].min() >= 0
    assert lower[:, 1].max() <= 0.5
    # Each half circle is filled evenly: its middle is 2/π away from its centre.
    np.testing.assert_allclose(upper.mean(axis=0), [0, 2 / math.pi], atol=0.08)
    np.testing.assert_allclose(lower.mean(axis=0), [1, 0.5 - 2 / math.pi], atol=0.08)
