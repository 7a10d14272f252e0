"""What the demo gan computes next to its trainings, against known answers."""

import math

import numpy as np
import pytest

from demos import _terms, gan
from demos._demo import Demo
from scratchnet.byhand import GAN
from scratchnet.data.mixtures import grid, ring

HALF = np.full(len(gan.AXIS), 0.5)


def normal_density(mean, sigma):
    z = (gan.AXIS - mean) / sigma
    return np.exp(-0.5 * z * z) / (sigma * math.sqrt(2 * math.pi))


@pytest.fixture
def linear():
    """A game whose G is z -> 0.3 + 0.8 z."""
    made = GAN((1, 1), (1, 1), rng=np.random.default_rng(0), output="linear")
    made.parameters["generator.0.W"][:] = 0.8
    made.parameters["generator.0.b"][:] = 0.3
    return made


# --- One dimension ------------------------------------------------------------------


def test_the_density_of_a_linear_g_is_normal(linear):
    q = gan.density(linear)
    assert q.sum() * gan.BIN == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(q, normal_density(0.3, 0.8), atol=1e-3)


def test_d_over_the_axis_is_that_of_the_game(linear):
    d = linear.discriminate(gan.AXIS[:, None].astype(np.float32))[:, 0]
    np.testing.assert_allclose(gan.discriminator(linear), d, rtol=1e-5)


def test_the_best_d_of_two_gaussians_is_the_sigmoid_of_a_line(monkeypatch):
    monkeypatch.setattr(gan, "P", normal_density(0.5, 1))
    best = gan.best(normal_density(-0.5, 1))
    known = np.isfinite(best)
    assert gan.AXIS[known].max() == pytest.approx(0.5 + 2.71, abs=0.02)
    np.testing.assert_allclose(best[known], 1 / (1 + np.exp(-gan.AXIS[known])))


def test_v_of_the_best_d_and_of_one_half():
    q = normal_density(0.3, 0.8)
    best = gan.P / (gan.P + q)
    assert gan.value(best, q) == pytest.approx(gan.best_value(q), abs=1e-6)
    assert gan.value(HALF, q) == pytest.approx(-gan.LOG_4, abs=1e-6)
    assert gan.value(np.clip(best + 0.02, 0, 1), q) < gan.best_value(q)
    assert gan.best_value(gan.P) == pytest.approx(-gan.LOG_4, abs=1e-6)


def test_v_of_the_best_d_is_zero_and_tv_is_one_without_overlap(monkeypatch):
    monkeypatch.setattr(gan, "P", np.where(gan.AXIS < 0, normal_density(-2, 0.3), 0))
    q = np.where(gan.AXIS > 0, normal_density(2, 0.3), 0)
    assert gan.best_value(q) == pytest.approx(0, abs=1e-6)
    assert gan.total_variation(q) == pytest.approx(1, abs=1e-6)
    assert gan.total_variation(gan.P) == 0


def test_errors_are_counted_where_there_is_density():
    q = normal_density(0, 1)
    best = gan.P / (gan.P + q)
    nowhere = np.maximum(gan.P, q) <= 0.01
    assert nowhere.any()
    off = np.where(nowhere, 0.9, 0.01)
    np.testing.assert_allclose(gan.errors(best + off, q), (0.01, 0.01, 0.01))
    one = np.argmax(gan.P)
    off = np.zeros(len(q))
    off[one] = 0.2
    mean, most, largest = gan.errors(best + off, q)
    assert (most, largest) == (pytest.approx(0, abs=1e-12), pytest.approx(0.2))
    known = ~nowhere
    weights = (gan.P + q) / (gan.P + q)[known].sum()
    assert mean == pytest.approx(0.2 * weights[one])


class Little(Demo):
    """A demo that trains D in few steps."""

    def choose(self, full, quick):
        return (3, 64)


def test_a_fresh_d_learns_while_g_is_frozen(linear, tmp_path):
    demo = Little("gan", True, tmp_path)
    before = linear.state_dict()
    fresh, accuracy = gan.fresh_discriminator(demo, linear, times=2)
    np.testing.assert_array_equal(fresh.theta_g, linear.theta_g)
    for name, array in linear.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert fresh.batch_size == 128
    assert 40 < accuracy < 80


# --- The two terms of V -------------------------------------------------------------


@pytest.fixture
def game():
    rng = np.random.default_rng(0)
    made = GAN((32, 16, 784), (784, 16, 1), rng=rng, objective="saturating")
    return made, rng.random((8, 784), np.float32), _terms.draw(rng)[:8]


def test_both_terms_are_log_one_half_for_a_d_that_knows_nothing(game):
    made, x, z = game
    made.theta_d[:] = 0
    assert _terms.terms(made, x, z) == pytest.approx((-math.log(2), -math.log(2)))


def test_the_terms_are_means_of_logarithms_of_d(game):
    made, x, z = game
    first, second = _terms.terms(made, x, z)
    assert first == pytest.approx(np.log(made.discriminate(x)).mean(), rel=1e-5)
    d = made.discriminate(made.generate(z))
    assert second == pytest.approx(np.log(1 - d).mean(), rel=1e-5)


def test_g_gets_its_gradient_from_the_second_term_alone(game):
    made, x, z = game
    made.generator_gradients(z)
    first, second = _terms.gradients_by_g(
        (made.generator_sizes, made.discriminator_sizes), made.state_dict(), x, z
    )
    assert first == 0
    assert second == pytest.approx(np.linalg.norm(made.d_theta_g), rel=1e-5)


# --- The ring and the grid ----------------------------------------------------------


@pytest.mark.parametrize("mixture", [ring(), grid()], ids=["ring", "grid"])
def test_what_samples_find_of_a_mixture(mixture):
    rng = np.random.default_rng(0)
    k = len(mixture.centers)
    data, _ = mixture.sample(gan.N, rng)
    found = gan.find(data, mixture)
    assert found.modes == k
    assert found.near == pytest.approx(98.89, abs=1)
    assert 93 < found.matched < found.near
    point = gan.find(np.repeat(mixture.centers[:1], 100, axis=0), mixture)
    assert point == (1, pytest.approx(100 / k), pytest.approx(100))
    noise = gan.find(gan.gaussian_like(data, rng), mixture)
    assert noise.modes == 0
    assert noise.matched < 3


def test_half_of_a_share_finds_a_mode():
    mixture = ring(4)
    times = [45, 30, 13, 12]
    found = gan.find(np.repeat(mixture.centers, times, axis=0), mixture)
    assert found == (3, pytest.approx(25 + 25 + 13 + 12), pytest.approx(100))


def test_the_gaussian_has_the_mean_and_the_covariance_of_the_data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, 2)) @ [[2, 0.5], [0, 1]] + [3, -1]
    y = gan.gaussian_like(x, rng)
    assert y.shape == x.shape
    np.testing.assert_allclose(y.mean(axis=0), x.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(np.cov(y.T), np.cov(x.T), rtol=0.1)


def test_v_alone_has_no_penalty_and_the_lectures_loss(monkeypatch):
    played = []
    monkeypatch.setattr(
        gan, "fit_gan", lambda game, *args, **options: played.append(game)
    )
    for alone in (False, True):
        gan.play(ring(), 20, 0, alone=alone)
    ours, lectures = played
    assert (ours.r1, ours.objective) == (0.1, "non_saturating")
    assert (lectures.r1, lectures.objective) == (0.0, "saturating")
