"""What the demo manifold computes apart from training; nothing is trained."""

import numpy as np
import pytest

from demos import manifold
from scratchnet.data.mixtures import swiss_roll
from scratchnet.metrics import intrinsic_dimension


def test_hops_along_a_line_count_the_neighbours_between():
    # Both neighbours of the last point are on its left: it counts as the nearer one.
    x = np.arange(10.0)[:, None]
    expected = [0, 1, 2, 3, 4, 5, 6, 7, 8, 8]
    np.testing.assert_array_equal(manifold.hops(x, 0, k=2), expected)


def test_hops_follow_the_roll():
    x, sheet = swiss_roll(2500, np.random.default_rng(0))
    start = int(np.argmin(sheet[:, 0]))
    hops = manifold.hops(x, start)
    along = np.corrcoef(hops, sheet[:, 0])[0, 1]
    through_space = np.linalg.norm(x - x[start], axis=1)
    assert along > 0.98
    assert np.corrcoef(through_space, sheet[:, 0])[0, 1] < 0.8


def test_the_order_starts_at_an_end():
    x, sheet = swiss_roll(1500, np.random.default_rng(0))
    order = manifold.from_one_end(x)
    assert abs(np.corrcoef(order, sheet[:, 0])[0, 1]) > 0.98


def test_components_for_the_variance():
    x = np.random.default_rng(0).standard_normal((2000, 3)) * np.sqrt([90, 9, 1])
    assert manifold.linear_dimension(x) == 2
    assert manifold.linear_dimension(x[:, [0, 2]]) == 1


def test_data_without_a_manifold_keep_their_simple_statistics():
    rng = np.random.default_rng(0)
    t = rng.uniform(0, 6, 1500)
    x = np.stack([np.cos(t), np.sin(t), 0.5 * t], axis=1)
    others = manifold.without_manifold(x, rng)
    normal, shuffled = others.values()
    np.testing.assert_allclose(np.cov(normal.T), np.cov(x.T), atol=0.05)
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(x, axis=0))
    assert intrinsic_dimension(x) < 1.1
    assert all(intrinsic_dimension(other) > 1.8 for other in others.values())


def test_one_digit_varies_in_the_factors_it_is_told():
    still = manifold.one_digit(0, 3, seed=1)
    assert np.ptp(still, axis=0).max() == 0
    turned = manifold.one_digit(1, 3, seed=1)
    assert np.ptp(turned, axis=0).max() > 0.5
    ink = turned.sum(axis=1)
    assert np.ptp(ink) < 0.1 * ink.mean()  # a turn keeps the ink, thickness does not


def test_a_walk_is_judged_by_the_drawn_digits():
    t = np.linspace(-1, 1, manifold.PLACES)
    truth = np.random.default_rng(0).random((manifold.PLACES, 2, manifold.SIDE**2))
    drawn = np.stack([t, 0 * t], axis=1)[:, None]
    walk = manifold.Walk(t, truth, truth.copy(), drawn, 0.5 * drawn, np.zeros(2))
    assert walk.similarity() == pytest.approx(1)
    assert abs(walk.similarity_of_staying()) < 0.1
    walk.pictures[1:-1] = 0  # only the ends are compared
    assert walk.similarity() == pytest.approx(1)
    np.testing.assert_allclose(walk.slopes(0), [0.5, 0], atol=1e-12)


def test_hops_between_pieces_are_an_error():
    x = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]])
    with pytest.raises(ValueError, match="not all points are reached with 2"):
        manifold.hops(x, 0, k=2)


@pytest.fixture
def known():
    # The factors are known functions of the code: y₁ = z₁ + z₂, y₂ = 2 z₂. Its third
    # number is noise.
    rng = np.random.default_rng(0)
    z = rng.uniform(-1, 1, (4000, 3))
    return manifold.Map(z, np.stack([z[:, 0] + z[:, 1], 2 * z[:, 1]], axis=1))


def test_the_direction_of_a_factor_changes_it_and_no_other(known):
    directions = known.directions(np.zeros((1, 3)))[0]
    np.testing.assert_allclose(directions @ [1, 1, 0], [1, 0], atol=0.01)
    np.testing.assert_allclose(directions @ [0, 2, 0], [0, 1], atol=0.01)


def test_a_walk_goes_as_far_as_it_is_told(known):
    z = np.array([[-0.2, 0.1, 0.0], [0.3, 0.2, -0.1]])
    end = known.walk(z, 1, 0.4, steps=4)
    np.testing.assert_allclose(2 * (end - z)[:, 1], 0.4, atol=0.02)
    np.testing.assert_allclose((end - z).sum(axis=1), 0.0, atol=0.05)


def test_paths_have_their_start_in_the_middle_and_rise(known):
    z = np.array([[0.1, 0.0, 0.0]])
    found = manifold.paths(known, z, 0, 0.4)
    assert found.shape == (manifold.PLACES, 1, 3)
    np.testing.assert_array_equal(found[manifold.PLACES // 2], z)
    y = found[:, 0, 0] + found[:, 0, 1]
    np.testing.assert_allclose(y, np.linspace(-0.3, 0.5, manifold.PLACES), atol=0.02)


def test_digits_vary_in_nothing_else():
    drawn = manifold.draw(50, np.random.default_rng(0), size=0.5)
    assert np.all(drawn.slant == np.float32(0.05))
    assert np.all(drawn.shift == 0)
    assert np.all(drawn.size == 0.5)
    assert np.abs(drawn.rotation).max() <= manifold.TURN
    assert drawn.rotation.std() > 0.2
