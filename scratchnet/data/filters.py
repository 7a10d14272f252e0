"""Classic filters that clean pictures: the baselines of a trained denoiser.

Each takes pictures (n, height, width) or (n, height, width, channels) in [0, 1], and
returns pictures of the same shape and dtype. At its edges a picture is continued by its
mirror image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from scratchnet import checks

__all__ = [
    "dehaze",
    "gaussian_filter",
    "median_filter",
    "stretch_contrast",
]

Images = NDArray[Any]


def gaussian_filter(images: Images, sigma: float) -> Images:
    """Replace each pixel by the mean of its neighbours, with Gaussian weights.

    This is the usual linear filter against Gaussian noise. A 2-D Gaussian is a product
    of two, so the columns are filtered and then the rows.

    Args:
        images: (n, height, width) or (n, height, width, channels).
        sigma: the standard deviation of the weights in pixels; they end at 4 sigma.

    Raises:
        ValueError: images have a wrong shape, or sigma is not positive.

    """
    images = _check("gaussian_filter", images)
    checks.number("gaussian_filter", "sigma", sigma, checks.POSITIVE)
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    out = images
    for axis in (1, 2):
        windows = _windows(out, 2 * reach + 1, axis)  # (n, height, width, ..., size)
        out = windows @ weights.astype(images.dtype)
    return out


def median_filter(images: Images, size: int = 3) -> Images:
    """Replace each pixel by the median of the size x size pixels around it.

    This is the usual filter against salt-and-pepper noise: it removes outliers and
    keeps edges sharp (Tukey 1977).

    Args:
        images: (n, height, width) or (n, height, width, channels).
        size: the side of the square in pixels, an odd number.

    Raises:
        ValueError: images have a wrong shape, or size is even or less than 1.

    """
    images = _check("median_filter", images)
    _check_size("median_filter", size)
    out = np.empty_like(images)
    for i, image in enumerate(images):  # one at a time, as it is copied size² times
        square = _windows(_windows(image, size, 0), size, 1)
        values = square.reshape(*image.shape, size * size)
        out[i] = np.sort(values, axis=-1)[..., size * size // 2]
    return out


def stretch_contrast(images: Images, percent: float = 1.0) -> Images:
    """Stretch the brightness of each picture to the whole of [0, 1].

    The darkest `percent` of its pixels become 0, the brightest become 1, and the others
    are scaled linearly. This removes a fog with the same t everywhere, because
    I = J t + A (1 - t) is linear in J. A uniform picture does not change.

    Args:
        images: (n, height, width) or (n, height, width, channels).
        percent: the percentage of pixels at each end, from 0 to less than 50.

    Raises:
        ValueError: images have a wrong shape, or percent is out of range.

    """
    images = _check("stretch_contrast", images)
    checks.number("stretch_contrast", "percent", percent, "[0, 50)")
    rows = images.reshape(len(images), -1)
    low, high = np.percentile(rows, [percent, 100 - percent], axis=1, keepdims=True)
    flat = high == low
    low, high = np.where(flat, 0, low), np.where(flat, 1, high)
    stretched: Images = np.clip((rows - low) / (high - low), 0, 1)
    return stretched.reshape(images.shape).astype(images.dtype)


def dehaze(
    images: Images, size: int = 5, omega: float = 0.95, least: float = 0.1
) -> Images:
    """Remove fog by the dark channel prior (He, Sun & Tang 2009).

    In a clear picture almost every small patch contains something dark. So the darkest
    value in a patch measures the fog in front of it. Fog is I = J t + A (1 - t), and

        dark(I)(p) = min over the patch around p and over the channels of I
        A = the mean of I over the pixels with the largest dark(I), one in a hundred
        t = 1 - ω dark(I / A)
        J = (I - A) / max(t, least) + A

    The paper computes A from one pixel in a thousand, too few in a small picture. It
    also refines t along the edges of I; this is left out here. In the paper a patch may
    be dark in any of three colours. A grey picture has one channel: the prior holds
    less often, and bright ground is mistaken for fog.

    Args:
        images: (n, height, width) or (n, height, width, channels), 1 is bright.
        size: the side of the patch in pixels, an odd number; 15 in the paper.
        omega: the fraction of the fog to remove; a rest keeps distant objects distant.
        least: the lowest t; it limits the amplification of noise.

    Raises:
        ValueError: images have a wrong shape, or size is even or less than 1.

    """
    images = _check("dehaze", images)
    _check_size("dehaze", size)
    checks.number("dehaze", "omega", omega, "[0, 1]")
    checks.number("dehaze", "least", least, "(0, 1]")
    color = images.reshape(*images.shape[:3], -1)  # (n, height, width, channels)
    n, height, width, channels = color.shape
    pixels = color.reshape(n, height * width, channels)
    brightest = max(1, height * width // 100)
    foggiest = np.argsort(-_dark(color, size).reshape(n, -1), axis=1, kind="stable")
    foggiest = foggiest[:, :brightest, None]
    air = np.take_along_axis(pixels, foggiest, axis=1).mean(axis=1)[:, None, None]
    air = np.maximum(air, 1e-3)
    t = np.maximum(1 - omega * _dark(color / air, size), least)[..., None]
    clear: Images = np.clip((color - air) / t + air, 0, 1)
    return clear.reshape(images.shape).astype(images.dtype)


def _dark(color: Images, size: int) -> Images:
    """Return the minimum over the channels and the patch, (n, height, width)."""
    dark: Images = color.min(axis=3)
    for axis in (1, 2):
        dark = _windows(dark, size, axis).min(axis=-1)
    return dark


def _windows(x: Images, size: int, axis: int) -> Images:
    """Return a window of `size` elements around each element of x: (..., size)."""
    reach = [(0, 0)] * x.ndim
    reach[axis] = (size // 2, size // 2)
    return sliding_window_view(np.pad(x, reach, mode="symmetric"), size, axis=axis)


def _check(name: str, images: Any) -> Images:
    images = checks.plain_array(name, "images", images)
    if not isinstance(images, np.ndarray):
        raise TypeError(
            f"{name}: images is a {type(images).__name__}, an array expected"
        )
    if images.ndim not in (3, 4) or not images.size or images.dtype.kind != "f":
        raise ValueError(
            f"{name}: {images.dtype} of shape {images.shape} given; pictures (n, "
            "height, width) or (n, height, width, channels) of floats expected"
        )
    return images


def _check_size(name: str, size: int) -> None:
    checks.count(name, "size", size)
    if size % 2 == 0:
        raise ValueError(f"{name}: size is {size}; pass an odd number of pixels")
