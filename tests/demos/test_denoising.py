"""The baselines and the blocks of the demo of denoising, on known answers."""

import numpy as np
import pytest

from demos import denoising
from demos._demo import Demo
from demos.denoising import (
    BLOCK,
    DENOISER,
    MEAN,
    PLAIN,
    RIDGE,
    SIDE,
    WINDOWS,
    Blocks,
    Cleaned,
    best,
    half,
    mirrored,
    ridge,
    squares,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def scenes(rng):
    return rng.random((20, SIDE**2), np.float32)


@pytest.fixture
def model(scenes, rng):
    return Blocks(
        scenes, scenes, corruption=lambda x, depth, rng: x, hidden=(3,), rng=rng
    )


def test_ridge_finds_a_linear_map(rng):
    x, W = rng.normal(size=(200, 4)), rng.normal(size=(4, 3))
    found = ridge(x, x @ W + 5, penalties=(1e-9, 10))
    new = rng.normal(size=(7, 4))
    np.testing.assert_allclose(found(new), new @ W + 5, rtol=1e-6)


def test_ridge_gives_the_mean_where_x_says_nothing(rng):
    x, y = rng.normal(size=(60, 40)), rng.random((60, 3))
    found = ridge(x, y, penalties=(1e-9, 1e9))
    np.testing.assert_allclose(found(x), np.tile(y[:54].mean(axis=0), (60, 1)))


def test_the_best_map_is_the_nearest(rng):
    x = rng.random((5, 4))
    maps = [lambda x: x + 0.2, lambda x: x - 0.1, lambda x: x / 2]
    assert best(maps, x, x) is maps[1]


def test_the_scores_of_cleaned_pictures():
    clear = np.tile(np.linspace(0, 0.9, 144, dtype=np.float32), (2, 1))
    cleaned = Cleaned(clear, clear + 0.1, {"all": clear, "black": clear - 2})
    scores = cleaned.scores()
    assert scores["corrupted"].psnr == pytest.approx(20, abs=1e-4)
    assert scores["all"].ssim == pytest.approx(1)
    assert scores["black"].psnr == pytest.approx(-10 * np.log10(np.mean(clear[0] ** 2)))


def test_blocks_cover_a_scene_once_and_squares_surround_them():
    blocks, windows = squares(8, 2, 2), squares(8, 2, 4)
    np.testing.assert_array_equal(np.sort(blocks, axis=None), np.arange(64))
    windows = windows.reshape(-1, 4, 4)
    np.testing.assert_array_equal(windows[:, 1:-1, 1:-1].reshape(blocks.shape), blocks)
    np.testing.assert_array_equal(windows[0, 0], [-1, -1, -1, -1])
    np.testing.assert_array_equal(windows[0, 1], [-1, 0, 1, 2])


def test_half_the_size():
    x = np.arange(16.0)[None]
    np.testing.assert_array_equal(half(x), [[2.5, 4.5, 10.5, 12.5]])


def test_the_input_of_the_blocks_is_level(model, scenes):
    seen = model.seen(scenes)
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(model.seen(0.2 * scenes + 0.7), seen, atol=1e-3)


def test_blocks_that_copy_their_middle_give_the_scene_back(model, scenes):
    side = WINDOWS[0]
    edge = (side - BLOCK) // 2
    pixels = np.arange(side**2).reshape(side, side)[edge:-edge, edge:-edge]
    model.layers = lambda samples: 10 * samples[:, pixels.ravel()]
    expected = model.seen(scenes)[:, : SIDE**2] + scenes.mean(axis=0)
    np.testing.assert_allclose(model.clean(scenes), expected, atol=1e-6)


def test_a_reconstruction_is_the_mean_of_two_mirror_images(model, scenes):
    found, other = model.reconstruct(scenes), model.reconstruct(mirrored(scenes))
    np.testing.assert_allclose(mirrored(found), other, atol=1e-6)
    np.testing.assert_array_equal(mirrored(scenes[:, ::-1])[:, :3], scenes[:, -48:-45])


def test_the_whole_scene_at_a_quarter_is_the_same_for_each_block(model, scenes):
    small = half(half(scenes)).shape[1]
    whole = model.around[:, -small:]
    np.testing.assert_array_equal(whole, np.tile(whole[0], (len(whole), 1)))
    np.testing.assert_array_equal(
        model.seen(scenes)[:, whole[0]], model.seen(scenes)[:, -small:]
    )


def test_the_loss_is_the_squared_error_of_a_block(model, scenes):
    cleaned = model.clean(scenes)
    loss = model.loss(scenes, scenes).item()
    blocks = (SIDE // BLOCK) ** 2
    error = np.sum((cleaned - scenes) ** 2) / (len(scenes) * blocks)
    assert loss == pytest.approx(error, rel=1e-4)


FOUND = {"corrupted": 9.0, MEAN: 17.0, RIDGE: 19.0, PLAIN: 16.0, DENOISER: 20.4}


@pytest.mark.parametrize(
    ("name", "value", "holds"),
    [
        ("Gaussian", 20.4, True),  # PLAIN + 2 and RIDGE + 1
        ("Gaussian", 19.9, False),
        ("masking", 20.1, True),
        ("salt and pepper", 19.9, False),
        ("fog", 20.1, True),
        ("fog", 19.9, False),  # MEAN + 3, RIDGE + 1
    ],
)
def test_the_denoiser_must_be_above_its_baselines(tmp_path, name, value, holds):
    demo = Demo("denoising", quick=False, out=tmp_path)
    denoising.claim_psnr(demo, name, {**FOUND, DENOISER: value})
    assert bool(demo.failed) is not holds


def test_the_similarity_must_be_above_its_baselines(tmp_path):
    demo = Demo("denoising", quick=False, out=tmp_path)
    denoising.claim_ssim(demo, "fog", {RIDGE: 0.5, DENOISER: 0.71})
    denoising.claim_ssim(demo, "fog", {RIDGE: 0.71, DENOISER: 0.725})
    assert demo.failed == []
    denoising.claim_ssim(demo, "fog", {RIDGE: 0.5, DENOISER: 0.69})
    denoising.claim_ssim(demo, "fog", {RIDGE: 0.747, DENOISER: 0.75})
    denoising.claim_ssim(demo, "masking", {RIDGE: 0.6, DENOISER: 0.64})
    assert len(demo.failed) == 3
