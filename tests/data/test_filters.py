"""filters.py: against loops over pixels, and on fog that can be removed exactly."""

import math
from statistics import median

import numpy as np
import pytest

from scratchnet.data import filters
from scratchnet.data.filters import (
    dehaze,
    gaussian_filter,
    median_filter,
    stretch_contrast,
)


def pictures(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).random(shape).astype(dtype)


def mirrored(i, n):
    """Return the mirrored index of i in 0, ..., n - 1, as in 1 0 | 0 1 2 | 2 1."""
    i %= 2 * n
    return i if i < n else 2 * n - 1 - i


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.0])  # the last is wider than the picture
def test_the_gaussian_filter_is_a_weighted_mean(sigma):
    (image,) = images = pictures(1, 5, 6)
    (found,) = gaussian_filter(images, sigma)
    reach = round(4 * sigma)
    for i in range(5):
        for j in range(6):
            total = mean = 0.0
            for a in range(-reach, reach + 1):
                for b in range(-reach, reach + 1):
                    weight = math.exp(-(a * a + b * b) / (2 * sigma * sigma))
                    total += weight
                    mean += weight * image[mirrored(i + a, 5), mirrored(j + b, 6)]
            assert found[i, j] == pytest.approx(mean / total, rel=1e-12)


def test_the_gaussian_filter_averages_noise_away():
    noise = np.random.default_rng(0).standard_normal((20, 64, 64))
    # The squared weights sum to about 1 / (4 π σ²) in the plane.
    inside = gaussian_filter(noise, 2.0)[:, 8:-8, 8:-8]  # at an edge noise counts twice
    variance = inside.var()
    assert variance == pytest.approx(1 / (16 * math.pi), rel=0.05)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_median_filter_takes_the_median(size):
    (image,) = images = pictures(1, 6, 5)
    (found,) = median_filter(images, size)
    reach = range(-(size // 2), size // 2 + 1)
    for i in range(6):
        for j in range(5):
            square = [
                image[mirrored(i + a, 6), mirrored(j + b, 5)]
                for a in reach
                for b in reach
            ]
            assert found[i, j] == median(square)


def test_the_median_filter_removes_salt_and_keeps_an_edge():
    clean = np.zeros((1, 12, 12))
    clean[:, :, 6:] = 0.8
    salted = clean.copy()
    salted[0, [2, 5, 9], [2, 8, 5]] = 1
    np.testing.assert_array_equal(median_filter(salted, 3), clean)
    assert abs(gaussian_filter(salted, 1.0) - clean).max() > 0.3


@pytest.mark.parametrize(
    "clean",
    [lambda x: gaussian_filter(x, 1.0), median_filter, stretch_contrast, dehaze],
    ids=["gaussian", "median", "stretch", "dehaze"],
)
def test_shapes_and_dtypes_stay_and_pictures_do_not_mix(clean):
    for shape in [(3, 9, 8), (3, 9, 8, 1), (3, 9, 8, 3)]:
        for dtype in (np.float32, np.float64):
            images = pictures(*shape, dtype=dtype)
            before = images.copy()
            found = clean(images)
            assert (found.shape, found.dtype) == (images.shape, dtype)
            np.testing.assert_array_equal(images, before)
            np.testing.assert_allclose(found[1:2], clean(images[1:2]), atol=1e-6)
    grey = pictures(2, 9, 8)
    np.testing.assert_allclose(clean(grey[..., None])[..., 0], clean(grey), rtol=1e-14)


def test_filters_do_not_mix_channels():
    images = pictures(2, 9, 8, 3)
    for clean in (lambda x: gaussian_filter(x, 1.0), median_filter):
        for c in range(3):
            alone = clean(images[..., c])
            np.testing.assert_allclose(clean(images)[..., c], alone, rtol=1e-14)


@pytest.mark.parametrize("clean", [lambda x: gaussian_filter(x, 1.5), median_filter])
def test_filters_do_not_change_a_constant_picture(clean):
    np.testing.assert_allclose(clean(np.full((2, 7, 7), 0.3)), 0.3, rtol=1e-14)


def test_stretching_removes_uniform_fog():
    clear = pictures(4, 10, 10)
    clear[:, 0, 0], clear[:, 9, 9] = 0, 1
    t = np.array([0.9, 0.5, 0.3, 0.1])[:, None, None]
    found = stretch_contrast(clear * t + 0.8 * (1 - t), percent=0)
    np.testing.assert_allclose(found, clear, atol=1e-12)


def test_stretching_cuts_the_ends_and_leaves_an_even_picture():
    ramp = np.linspace(0.2, 0.6, 101).reshape(1, 1, 101)
    found = stretch_contrast(ramp, percent=10)[0, 0]
    np.testing.assert_allclose(found[10:91], np.linspace(0, 1, 81), atol=1e-12)
    assert (found[:11] == 0).all()
    assert found[90:] == pytest.approx(1)
    even = np.full((1, 3, 3), 0.4)
    np.testing.assert_allclose(stretch_contrast(even), even, rtol=1e-15)


@pytest.mark.parametrize("channels", [1, 3])
def test_dehazing_is_exact_if_the_prior_holds(channels):
    air = np.array([0.8, 0.9, 1.0])[:channels]
    clear = pictures(3, 32, 32, channels) * 0.7
    clear[:, ::2, ::2] = 0  # a dark pixel in each patch,
    clear[:, 4:14, 4:14] = air  # and a patch of sky, which shows the airlight
    t = np.array([0.8, 0.5, 0.3])[:, None, None, None]
    found = dehaze(clear * t + air * (1 - t), omega=1.0)
    np.testing.assert_allclose(found, clear, atol=1e-12)


def test_dehazing_helps_if_fog_thickens_with_depth():
    clear = pictures(20, 32, 32, 3) * 0.8
    t = np.exp(-np.linspace(0, 2, 32))[:, None, None]
    foggy = clear * t + np.array([0.90, 0.92, 0.95]) * (1 - t)

    def decibels(x):
        return -10 * math.log10(np.mean((x - clear) ** 2))

    assert decibels(dehaze(foggy)) > decibels(foggy) + 3


def test_a_black_picture_is_dehazed_to_black():
    np.testing.assert_array_equal(dehaze(np.zeros((1, 8, 8))), 0)


@pytest.mark.parametrize(
    ("name", "more"),
    [("gaussian_filter", (1.0,)), ("median_filter", ()), ("stretch_contrast", ()),
     ("dehaze", ())],
)  # fmt: skip
def test_arrays_that_are_not_pictures_are_refused(name, more):
    for images in (
        np.zeros((4, 4)),
        np.zeros((0, 4, 4)),
        np.zeros((1, 2, 3, 4, 5)),
        np.zeros((1, 4, 4), np.uint8),
    ):
        with pytest.raises(ValueError, match=rf"{name}: .* pictures \(n, height"):
            getattr(filters, name)(images, *more)


def test_arguments_that_make_no_sense_are_refused():
    x = pictures(1, 4, 4)
    for sigma in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="gaussian_filter: sigma is"):
            gaussian_filter(x, sigma)
    for size in (0, 2, -3):
        with pytest.raises(ValueError, match=f"median_filter: size is {size}"):
            median_filter(x, size)
        with pytest.raises(ValueError, match=f"dehaze: size is {size}"):
            dehaze(x, size)
    for percent in (-1, 50):
        with pytest.raises(ValueError, match=f"stretch_contrast: percent is {percent}"):
            stretch_contrast(x, percent)
