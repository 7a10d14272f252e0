"""Draws digits that look handwritten, with known factors for each.

A style of a digit is a few strokes; a stroke is a few points (the table `STYLES`). For
every picture

1. each point moves a little, independently: the wobble of the hand;
2. a smooth curve, a cubic spline, passes through the points of each stroke. A spline
   is linear in its points, so the touches of the pen are a matrix times the points; the
   matrix is the same for all pictures of a style;
3. the figure is scaled, slanted, rotated and shifted;
4. a round pen inks the path (`_ink`).

Each picture has six factors: label, rotation, thickness, size, slant and shift. They
are independent and uniform (`RANGE`), and are returned with the pictures, so that one
can measure what a network's code contains of them. Style and wobble are the rest.
Lengths are in sides: 1 is the side of the picture, for any number of pixels.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scratchnet import checks

__all__ = [
    "Digits",
    "draw_digits",
]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Array = NDArray[Any]

RANGE = {  # a factor that the caller does not fix is uniform on this
    "label": (0, 10),  # rounded down
    "rotation": (-0.3, 0.3),  # radians, counter-clockwise is positive
    "thickness": (0.06, 0.12),  # of the line, in sides: 1.7 to 3.4 pixels of 28
    "size": (0.48, 0.58),  # height of the pen's path when upright, in sides
    "slant": (-0.1, 0.25),  # sides to the right for each side of height
    "shift": (-0.03, 0.03),  # of the figure's middle to the right and down, in sides
}
LIMIT = {  # a caller may fix a factor within these; far outside RANGE digits are cut
    "label": (0, 9),
    "rotation": (-2 * math.pi, 2 * math.pi),
    "thickness": (0.03, 0.2),
    "size": (0.1, 1.0),
    "slant": (-2.0, 2.0),
    "shift": (-1.0, 1.0),
}
WOBBLE = 0.7  # how far a point moves at most, right or down, in the units of STYLES
TOUCHES = 96  # touches of the pen on the paper for one digit
PIXELS_AT_ONCE = 2**18  # pictures are drawn in chunks, so that memory stays bounded

# One style per row, in the order of the digits: the digit, then its strokes. A point is
# (right, down), and the figure is 10 high. Equal points are one point: strokes joined
# there move together. A stroke with equal first and last points is closed.
STYLES: tuple[tuple[int, tuple[tuple[tuple[float, float], ...], ...]], ...] = (
    (0, (((3.2, 0), (0.3, 2.6), (0.4, 7.2), (3.2, 10), (6.2, 7.2), (6.2, 2.6),
          (3.2, 0)),)),
    (0, (((4.8, 0.5), (1, 1.8), (0.3, 7), (3.4, 10), (6.4, 6.6), (5.2, 1.2),
          (2.4, 0.8)),)),
    (1, (((3, 0), (3, 5), (3, 10)),)),
    (1, (((1.6, 2.6), (3.4, 0)), ((3.4, 0), (3.3, 5), (3.2, 10)))),
    (1, (((1.6, 2.6), (3.4, 0)), ((3.4, 0), (3.3, 5), (3.2, 10)),
         ((0.4, 10), (3.2, 10), (6, 10)))),
    (2, (((0.3, 2.3), (3, 0), (5.6, 2.6), (3.4, 6.6), (0, 10)),
         ((0, 10), (3.2, 9.7), (6.6, 10)))),
    (2, (((0.4, 2.3), (3.2, 0), (5.6, 2.8), (3.4, 6.8), (1.2, 9.6), (0.3, 8),
          (3, 8.6), (6.8, 9.6)),)),
    (3, (((0.3, 1.3), (3, 0), (5.4, 2.2), (2, 4.6)),
         ((2, 4.6), (6, 6.4), (4.4, 9.6), (0, 9)))),
    (3, (((0.6, 0.2), (3, 0.2), (5.4, 0.1)), ((5.4, 0.1), (4, 2), (2.2, 4)),
         ((2.2, 4), (5.8, 6), (4.2, 9.7), (0.2, 9.1)))),
    (4, (((1.2, 0), (0.8, 3), (0.2, 6)), ((0.2, 6), (3.4, 6), (6.8, 5.7)),
         ((5.2, 0.8), (5, 5.4), (4.7, 10)))),
    (4, (((5, 0), (2.6, 3.3), (0, 6.8)), ((0, 6.8), (3.5, 6.9), (7, 6.6)),
         ((5, 0), (4.9, 5), (4.7, 10)))),
    (5, (((6, 0.1), (3.6, 0.2), (1.2, 0)), ((1.2, 0), (1, 2.2), (0.8, 4.5)),
         ((0.8, 4.5), (4.8, 4.4), (5.6, 7.8), (3.2, 10), (0, 9)))),
    (5, (((6, 0.1), (3.6, 0.1), (1.5, 0.9), (1.1, 4), (4.2, 4.5), (5.5, 7.3),
          (3.4, 9.9), (0.4, 9)),)),
    (6, (((5, 0), (2, 2.6), (0.3, 6.4), (2.2, 9.9), (5.4, 8.4), (4.2, 5.4),
          (0.8, 7)),)),
    (6, (((2.8, 0), (0.9, 3.4), (0.3, 7), (2.4, 10), (5.4, 8), (3.4, 5.6),
          (0.5, 7.6)),)),
    (7, (((0, 0.4), (3.4, 0.3), (7, 0)), ((7, 0), (4.4, 4.6), (2.4, 10)))),
    (7, (((0, 0.4), (3.4, 0.3), (7, 0)), ((7, 0), (4.4, 4.6), (2.4, 10)),
         ((1.4, 5.2), (3.8, 5), (6.2, 4.8)))),
    (8, (((5.4, 1.6), (3, 0), (0.8, 2), (3.2, 4.8), (5.8, 7.6), (3, 10),
          (0.2, 7.8), (3, 4.9), (5.4, 1.6)),)),
    (8, (((3, 4.6), (0.7, 2.3), (3, 0), (5.3, 2.3), (3, 4.6)),
         ((3, 4.6), (0.2, 7.3), (3, 10), (5.8, 7.3), (3, 4.6)))),
    (9, (((5.8, 1.4), (2.8, 0), (0.4, 2.6), (2.8, 5), (5.8, 1.4)),
         ((5.8, 1.4), (5.4, 5.6), (4.8, 10)))),
    (9, (((5.8, 1.4), (2.8, 0), (0.4, 2.6), (2.8, 5), (5.8, 1.4)),
         ((5.8, 1.4), (5.6, 6), (3.8, 9.5), (0.6, 9.4)))),
)  # fmt: skip


@dataclass(frozen=True)
class Digits:
    """n pictures and their factors; lengths are in sides of the picture.

    Attributes:
        images: (n, pixels, pixels) float32 in [0, 1], ink 1 on paper 0, as in MNIST.
        label: (n,) int64, 0 to 9.
        rotation: (n,) float32, radians, counter-clockwise is positive.
        thickness: (n,) float32, width of the line.
        size: (n,) float32, height of the pen's path before slant and rotation.
        slant: (n,) float32, right per height: positive leans to the right, like /.
        shift: (n, 2) float32, from the middle of the picture to the middle of the
            figure's bounding box: to the right, and down.

    """

    images: Floats
    label: Ints
    rotation: Floats
    thickness: Floats
    size: Floats
    slant: Floats
    shift: Floats

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.images)

    @property
    def x(self) -> Floats:
        """The pictures as rows, (n, pixels * pixels); shares their memory."""
        n, height, width = self.images.shape
        return self.images.reshape(n, height * width)

    @property
    def factors(self) -> dict[str, Floats | Ints]:
        """The six factors by name; `draw_digits(n, rng, **factors)` accepts them."""
        return {name: getattr(self, name) for name in LIMIT}


def draw_digits(
    n: int,
    rng: np.random.Generator,
    *,
    pixels: int = 28,
    label: ArrayLike | None = None,
    rotation: ArrayLike | None = None,
    thickness: ArrayLike | None = None,
    size: ArrayLike | None = None,
    slant: ArrayLike | None = None,
    shift: ArrayLike | None = None,
) -> Digits:
    """Draw n digits of pixels x pixels; the factors are those of `Digits`.

    A factor may be fixed: one value for all digits, or an array with one for each;
    shift is (2,) or (n, 2). A fixed factor uses as many random numbers as a free one:
    the same seed draws the same handwriting, and only that factor changes. With a
    larger n, or more pixels, the first digits of a seed stay the same.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: n is negative, there are fewer than 8 pixels, or a factor has a
            wrong shape or a value outside `LIMIT`.

    """
    checks.count("draw_digits", "n", n, 0)
    checks.count("draw_digits", "pixels", pixels, 8)
    checks.rng("draw_digits", rng)
    points, pen, length, digit_of = _styles()

    # One row of random numbers for each picture, so that picture i depends neither on n
    # nor on the fixed factors.
    u = rng.random((n, 8 + points[0].size))  # (n, 8 + 2 * points)
    digits = Digits(
        images=np.empty((n, pixels, pixels), np.float32),
        label=_factor("label", label, u[:, 0]),
        rotation=_factor("rotation", rotation, u[:, 1]),
        thickness=_factor("thickness", thickness, u[:, 2]),
        size=_factor("size", size, u[:, 3]),
        slant=_factor("slant", slant, u[:, 4]),
        shift=_factor("shift", shift, u[:, 5:7]),
    )
    first = np.searchsorted(digit_of, digits.label)
    count = np.searchsorted(digit_of, digits.label, side="right") - first
    style = first + (count * u[:, 7]).astype(np.int64)
    wobble = WOBBLE * (2 * u[:, 8:] - 1).reshape(n, *points[0].shape)
    figure = (points[style] + wobble).astype(np.float32)  # (n, points, 2)

    chunk = max(1, PIXELS_AT_ONCE // pixels**2)
    for start in range(0, n, chunk):
        at = slice(start, start + chunk)
        path = pen[style[at]] @ figure[at]  # (m, TOUCHES, 2)
        right, down = path[:, :, 0], path[:, :, 1]  # (m, TOUCHES)
        scale = digits.size[at] / np.ptp(down, axis=1)
        right, down = scale[:, None] * right, scale[:, None] * down
        right = right - digits.slant[at, None] * down
        cos, sin = np.cos(digits.rotation[at, None]), np.sin(digits.rotation[at, None])
        right, down = cos * right + sin * down, cos * down - sin * right
        right += digits.shift[at, :1] - _middle(right)
        down += digits.shift[at, 1:] - _middle(down)
        step = scale * length[style[at]] / TOUCHES
        digits.images[at] = _ink(right, down, step, digits.thickness[at], pixels)
    return digits


def _ink(
    right: Array, down: Array, step: Array, thickness: Array, pixels: int
) -> Array:
    """Pictures (m, pixels, pixels) of a round pen that touched (right, down).

    right, down: (m, TOUCHES); step, the distance between touches, and thickness: (m,).

    A pixel is black if its distance d to the path is less than thickness / 2. Finding
    the nearest touch for every pixel would be slow. Instead, each touch adds a Gaussian
    of width sigma. Near a long straight line the sum is

        field = exp(-d**2 / (2 * sigma**2)) * sqrt(2 * pi) * sigma / step

    which gives d. (Near a crossing it is larger, like ink on paper.) A Gaussian of
    (right, down) is a product of two Gaussians, so the sums of a picture are a matrix
    product, (pixels, TOUCHES) @ (TOUCHES, pixels).
    """
    center = ((np.arange(pixels) + 0.5) / pixels - 0.5).astype(np.float32)
    # Narrower than the line, so that its ends are not cut; but not narrower than one
    # step, so that single touches do not show.
    sigma = np.maximum(thickness / 6, step)[:, None, None]
    across = _gaussian((right[:, :, None] - center) / sigma)  # (m, TOUCHES, pixels)
    along = _gaussian((down[:, :, None] - center) / sigma)
    unit = math.sqrt(2 * math.pi) * sigma / step[:, None, None]  # the field at d = 0
    field = (along.transpose(0, 2, 1) @ across) / unit
    with np.errstate(divide="ignore"):  # far from the path: log(0), d = inf, no ink
        d = sigma * np.sqrt(np.maximum(-2 * np.log(field), 0))
    # The edge is a ramp one pixel wide: a pixel that is half covered is grey.
    ink: Array = np.clip(0.5 + pixels * (thickness[:, None, None] / 2 - d), 0, 1)
    return ink


def _gaussian(z: Array) -> Array:
    exponent = -0.5 * z**2
    # Zero in the tail: the product of two tails would be subnormal, and thus slow.
    return np.where(exponent > -40, np.exp(exponent), 0)


def _middle(coordinate: Array) -> Array:
    ends: Array = coordinate.max(1, keepdims=True) + coordinate.min(1, keepdims=True)
    return ends / 2


@functools.cache
def _styles() -> tuple[Floats, Floats, Floats, Ints]:
    """Return `STYLES` as arrays, one row for each style.

    points (styles, p, 2); pen (styles, TOUCHES, p), where pen @ points are the touches
    of the pen, at even distances; length of the path (styles,); digit (styles,). Styles
    with fewer than p points are padded with zeros.
    """
    distinct = [list(dict.fromkeys(sum(strokes, ()))) for _, strokes in STYLES]
    p = max(map(len, distinct))
    points = np.zeros((len(STYLES), p, 2), np.float32)
    pen = np.zeros((len(STYLES), TOUCHES, p), np.float32)
    length = np.zeros(len(STYLES), np.float32)
    for k, (_, strokes) in enumerate(STYLES):
        points[k, : len(distinct[k])] = distinct[k]
        fine = []  # the path of each stroke in steps far smaller than the pen's
        for stroke in strokes:
            chosen = np.eye(p)[[distinct[k].index(point) for point in stroke]]
            fine.append(_spline(chosen, steps=2000))
        walked = [_walked(rows @ points[k]) for rows in fine]
        ends = np.cumsum([distance[-1] for distance in walked])
        length[k] = ends[-1]
        last = np.round(TOUCHES * ends / ends[-1]).astype(int)
        first = 0
        for rows, distance, end in zip(fine, walked, last, strict=True):
            even = (np.arange(end - first) + 0.5) / (end - first) * distance[-1]
            pen[k, first:end] = rows[np.searchsorted(distance, even)]
            first = end
    return points, pen, length, np.array([digit for digit, _ in STYLES])


def _spline(points: Array, steps: int) -> Array:
    """Return `steps` points (steps, d) of the smooth curve through (k, d) points.

    A cubic B-spline with control points h passes through (h[i-1] + 4 h[i] + h[i+1]) / 6
    for each i. First h is solved for, so that these are the given points. An open curve
    is straight at its ends; a closed one (first point = last) has no end.
    """
    k = len(points)
    closed = np.array_equal(points[0], points[-1])
    average = (np.eye(k, k=-1) + 4 * np.eye(k) + np.eye(k, k=1)) / 6
    if closed:
        average[0, -2] = average[-1, 1] = 1 / 6
    else:
        average[[0, -1]] = np.eye(k)[[0, -1]]
    h = np.linalg.solve(average, points)
    before = h[-2] if closed else 2 * h[0] - h[1]
    after = h[1] if closed else 2 * h[-1] - h[-2]
    h = np.vstack([before, h, after])
    t = np.linspace(0, k - 1, steps)
    i = np.minimum(t.astype(int), k - 2)
    u = (t - i)[:, None]
    v = 1 - u
    curve: Array = (
        v**3 * h[i]
        + (4 - 6 * u**2 + 3 * u**3) * h[i + 1]
        + (4 - 6 * v**2 + 3 * v**3) * h[i + 2]
        + u**3 * h[i + 3]
    )
    return curve / 6


def _walked(path: Array) -> Array:
    """Return the distance along a path (steps, 2) from its start, (steps,)."""
    return np.cumsum(np.hypot(*np.diff(path, axis=0, prepend=path[:1]).T))


def _factor(name: str, given: ArrayLike | None, u: Array) -> Array:
    """Return the given values of a factor, checked; or values drawn from u in [0, 1).

    u and the result are (n,), or (n, 2) for the shift.
    """
    dtype, kinds = (np.int64, "iu") if name == "label" else (np.float32, "iuf")
    if given is None:
        low, high = RANGE[name]
        return (low + (high - low) * u).astype(dtype)
    array = checks.array("draw_digits", name, given)
    if array.dtype.kind not in kinds:
        wanted = "integers" if name == "label" else "numbers"
        raise TypeError(f"draw_digits: {name} holds {array.dtype}: pass {wanted}")
    if array.shape not in (u.shape, u.shape[1:]):
        raise ValueError(
            f"draw_digits: {name} has shape {array.shape}: pass shape {u.shape[1:]} to "
            f"draw all digits alike, or {u.shape} for one value each"
        )
    low, high = LIMIT[name]
    outside = ~((array >= low) & (array <= high))  # true for NaN too
    if outside.any():
        raise ValueError(
            f"draw_digits: {name} is {array[outside][0]}: keep it between {low:g} and "
            f"{high:g}"
        )
    return np.broadcast_to(array, u.shape).astype(dtype)
