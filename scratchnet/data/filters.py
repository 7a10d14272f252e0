"""The classic ways to clean a picture, which a denoiser that has learned must beat.

Each takes pictures (n, height, width), or (n, height, width, channels), in [0, 1], and
returns as many, of the same shape and dtype. What lies beyond the edge of a picture is
its mirror image.
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
    """Replace each pixel by the mean of those around it, with Gaussian weights.

    Of all linear filters the usual one against Gaussian noise. A Gaussian of two
    coordinates is a product: the rows are filtered and then the columns.

    Args:
        images: (n, height, width) or (n, height, width, channels).
        sigma: the standard deviation of the weights in pixels; they end at 4 sigma.

    Raises:
        ValueError: the shape of images; sigma is not positive.

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

    The usual filter against salt and pepper: an outlier among good pixels is gone, and
    edges stay sharp (Tukey 1977).

    Args:
        images: (n, height, width) or (n, height, width, channels).
        size: of the square, in pixels: odd.

    Raises:
        ValueError: the shape of images; size is even or less than 1.

    """
    images = _check("median_filter", images)
    _check_size("median_filter", size)
    out = np.empty_like(images)
    for i, image in enumerate(images):  # one at a time: size² copies of it are made
        square = _windows(_windows(image, size, 0), size, 1)
        values = square.reshape(*image.shape, size * size)
        out[i] = np.sort(values, axis=-1)[..., size * size // 2]
    return out


def stretch_contrast(images: Images, percent: float = 1.0) -> Images:
    """Stretch the brightness of each picture to the whole of [0, 1].

    The darkest and the brightest `percent` of its pixels become 0 and 1, the others
    are moved linearly. It undoes a fog that is equally thick everywhere, for which
    I = J t + A (1 - t) is linear in J. A picture of one brightness stays as it is.

    Args:
        images: (n, height, width) or (n, height, width, channels).
        percent: of the pixels at each end, from 0 to less than 50.

    Raises:
        ValueError: the shape of images; percent.

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
    """Take fog off by the dark channel prior (He, Sun & Tang 2009).

    In a clear picture nearly every small patch has something dark in it, so the darkest
    value in a patch tells how much fog lies before it. Fog is I = J t + A (1 - t), and

        dark(I)(p) = min over the patch around p and over the channels of I
        A = the mean of I over the pixels with the largest dark(I), one in a hundred
        t = 1 - ω dark(I / A)
        J = (I - A) / max(t, least) + A

    The paper takes for A the brightest of one pixel in a thousand, of which a small
    picture has one, and refines t along the edges of I, which is left out here. Its
    patches find their dark pixel in one of three colours. A grey picture has only one
    channel: the prior then holds less often, and bright ground is taken for fog.

    Args:
        images: (n, height, width) or (n, height, width, channels), 1 is bright.
        size: of the patch, in pixels: odd. The paper has 15 for photographs.
        omega: how much of the fog is taken off; some is left for the far to look far.
        least: the least t, which keeps noise from being blown up.

    Raises:
        ValueError: the shape of images; size is even or less than 1.

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
    """Return the least value over the channels and the patch: (n, height, width)."""
    dark: Images = color.min(axis=3)
    for axis in (1, 2):
        dark = _windows(dark, size, axis).min(axis=-1)
    return dark


def _windows(x: Images, size: int, axis: int) -> Images:
    """Return for each element of x the `size` around it along an axis: (..., size)."""
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
