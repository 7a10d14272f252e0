"""The arithmetic of the VAE's demo; nothing is trained."""

import numpy as np
import pytest

from demos import _latent, vae
from demos._ruler import Ruler, blur, blurred
from scratchnet import byhand
from scratchnet.data.digits import draw_digits

# --- vae ----------------------------------------------------------------------------


@pytest.fixture
def flat():
    """A VAE with a code of 2 whose decoder says something, and pictures."""
    rng = np.random.default_rng(0)
    model = byhand.VAE((12, 8, 2), rng=rng, batch_size=16, dtype=np.float64)
    model.theta += rng.normal(0, 0.3, model.theta.shape)
    return model, rng.random((5, 12))


def test_interpolation_begins_and_ends_at_reconstructions(flat):
    model, x = flat
    way = vae.interpolate(model, x[0], x[1], 5)
    np.testing.assert_allclose(way[[0, -1]], model.reconstruct(x[:2]), rtol=1e-12)
    middle = model.decode(model.encode(x[:2]).mean(axis=0, keepdims=True))
    np.testing.assert_allclose(way[2], middle[0], rtol=1e-12)


def test_log_p_integrated_is_that_of_draws_from_the_prior(flat):
    model, x = flat
    z = np.random.default_rng(1).standard_normal((200_000, 2))
    draws = [np.exp(model.log_p_x(np.repeat(row[None], len(z), 0), z)) for row in x]
    mean, error = np.mean(draws, axis=1), np.std(draws, axis=1) / np.sqrt(len(z))
    found = np.exp(_latent.integrated_log_p(model, x, step=0.1))
    assert np.all(np.abs(found - mean) < 4 * error)
    assert np.all(error < 0.01 * mean)


def test_log_p_integrated_of_all_pictures_adds_up_to_one():
    rng = np.random.default_rng(0)
    model = byhand.VAE((4, 8, 2), rng=rng, batch_size=16, dtype=np.float64)
    model.theta += rng.normal(0, 0.3, model.theta.shape)
    x = np.stack(np.meshgrid(*[[0.0, 1.0]] * 4), axis=-1).reshape(-1, 4)
    log_p = _latent.integrated_log_p(model, x, step=0.1)
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-5)


def test_log_p_estimated_is_log_p_integrated(flat):
    model, x = flat
    log_w = _latent.log_weights(model, x, np.random.default_rng(1), 20_000)
    error = np.exp(log_w - log_w.max(axis=1)[:, None])
    error = error.std(axis=1) / error.mean(axis=1) / np.sqrt(log_w.shape[1])
    exact = _latent.integrated_log_p(model, x, step=0.1)
    assert np.all(np.abs(_latent.log_mean(log_w) - exact) < 4 * error)
    assert np.all(error < 0.01)


def test_the_gradient_by_z_is_that_of_differences(flat):
    model, x = flat
    z = np.random.default_rng(1).normal(size=(5, 2))
    gradient, _ = _latent.derivatives(model, x, z, h=1e-6)
    for i, h in enumerate(1e-6 * np.eye(2)):
        ends = [_latent.log_joint(model, x, z + sign * h) for sign in (1, -1)]
        np.testing.assert_allclose((ends[0] - ends[1]) / 2e-6, gradient[:, i], 1e-4)


def test_the_precision_of_a_linear_model_is_that_of_logistic_regression():
    rng = np.random.default_rng(0)
    model = byhand.VAE((12, 2), rng=rng, batch_size=16, dtype=np.float64)
    x, z = rng.random((5, 12)), rng.normal(size=(5, 2))
    W, p = model.parameters["decoder.0.W"], model.decode(z)
    _, precision = _latent.derivatives(model, x, z)
    expected = np.einsum("cd,nd,ed->nce", W, p * (1 - p), W) + np.eye(2)
    np.testing.assert_allclose(precision, expected, rtol=1e-9)


def test_the_most_probable_z_of_a_smooth_decoder_has_no_gradient():
    rng = np.random.default_rng(0)
    model = byhand.VAE(
        (12, 8, 2), rng=rng, batch_size=16, activation="tanh", dtype=np.float64
    )
    model.theta += rng.normal(0, 0.3, model.theta.shape)
    x = rng.random((5, 12))
    z = _latent.most_probable(model, x, rng)
    gradient, _ = _latent.derivatives(model, x, z, h=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-5)


def test_every_row_with_every_code(flat):
    model, x = flat
    z = np.random.default_rng(1).normal(size=(3, 2))
    rows = [_latent.log_joint(model, np.repeat(row[None], 3, 0), z) for row in x]
    np.testing.assert_allclose(_latent.log_joints(model, x, z), rows, rtol=1e-12)


def test_the_logarithm_of_a_mean():
    log_w = np.log([[1.0, 3.0], [2.0, 2.0]]) + 1000
    np.testing.assert_allclose(_latent.log_mean(log_w), np.log([2, 2]) + 1000)


def test_the_plane_is_in_the_order_of_rows():
    points = _latent.plane(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(points, [[1, 1], [2, 1], [1, 2], [2, 2]])


def test_quantiles_of_the_normal_distribution():
    z = vae.quantiles(4)
    np.testing.assert_allclose(z, [-1.15035, -0.31864, 0.31864, 1.15035], atol=1e-5)


@pytest.fixture
def plain():
    """A plain autoencoder of pictures with 12 pixels, its pictures, and a prior."""
    rng = np.random.default_rng(0)
    model = byhand.Autoencoder(
        (12, 8, 2), rng=rng, activation=_latent.ACTIVATION, loss="cross_entropy",
        batch_size=16, dtype=np.float32,
    )  # fmt: skip
    model.theta += rng.normal(0, 0.3, model.theta.shape).astype(np.float32)
    mean, root = np.array([0.5, -1.0]), np.array([[2.0, 0.0], [0.3, 0.7]])
    return model, rng.random((30, 12), np.float32), mean, root


def test_an_autoencoder_as_a_vae_has_its_codes_and_pictures(plain):
    model, x, mean, root = plain
    made = _latent.as_vae(model, mean, root, width=0.2)
    mu, log_var = made.posterior(x)
    np.testing.assert_allclose(mu @ root.T + mean, model.encode(x), atol=1e-5)
    np.testing.assert_allclose(log_var, 2 * np.log(0.2), rtol=1e-6)
    np.testing.assert_allclose(made.reconstruct(x), model.reconstruct(x), atol=1e-5)
    z = np.random.default_rng(1).standard_normal((5, 2)).astype(np.float32)
    codes = (z @ root.T + mean).astype(np.float32)
    np.testing.assert_allclose(made.decode(z), model.decode(codes), atol=1e-5)


def test_a_model_starts_at_independent_pixels(plain):
    model, x, *_ = plain
    model.theta[:] = 0
    _latent.start(model, x)
    ink = (x.sum(axis=0) + 1) / 32
    np.testing.assert_allclose(model.reconstruct(x[:1])[0], ink, rtol=1e-5)


def test_grey_is_the_probability_of_black():
    x = np.tile(np.array([0.0, 0.3, 1.0], np.float32), (20_000, 1))
    b = _latent.black_and_white(x, np.random.default_rng(0))
    assert b.dtype == np.float32
    assert set(np.unique(b)) == {0, 1}
    np.testing.assert_allclose(b.mean(axis=0), [0, 0.3, 1], atol=0.01)


def test_the_statistic_is_that_of_each_column():
    a = np.array([[0.0, 0.0], [1.0, 1.0]])
    b = np.array([[0.0, 2.0], [1.0, 3.0]])
    np.testing.assert_array_equal(vae.statistic(a, b), [0, 1])


def test_digits_are_slanted_wide_unless_fixed():
    rng = np.random.default_rng(0)
    slant = vae.wide(2000, rng).slant
    np.testing.assert_allclose([slant.min(), slant.max()], vae.WIDE["slant"], atol=0.01)
    np.testing.assert_allclose(vae.wide(3, rng, slant=0.1).slant, 0.1)


def test_the_ruler_knows_what_drew_a_digit_and_learns_to_see_it():
    rng = np.random.default_rng(0)
    ruler = Ruler(("thickness", "size"), draw_digits(3000, rng, label=1), 3, seed=0)
    digits = draw_digits(300, rng, label=1)
    truth = ruler.truth(digits)
    np.testing.assert_array_equal(truth, np.stack([digits.thickness, digits.size], 1))
    left = np.mean((ruler(digits.x) - truth) ** 2, axis=0)
    np.testing.assert_allclose(ruler.r2(digits), 1 - left / truth.var(axis=0))
    assert ruler.r2(digits)[0] > 0.8


def test_a_blurred_dot_is_a_gaussian_of_that_width():
    dots = np.zeros((2, 21, 21), np.float32)
    dots[:, 10, 10] = 1
    sharp, soft = blur(dots, np.array([1e-3, 1.5]))
    np.testing.assert_array_equal(sharp, dots[0])
    i = np.arange(21) - 10
    assert soft.sum() == pytest.approx(1, abs=1e-5)
    assert np.sum(soft * i**2) == pytest.approx(2.25, rel=1e-3)


def test_half_of_the_digits_are_blurred():
    digits = draw_digits(10, np.random.default_rng(0))
    pairs = zip(digits.images, blurred(digits).images, strict=True)
    same = [np.array_equal(a, b) for a, b in pairs]
    assert same == [True] * 5 + [False] * 5
