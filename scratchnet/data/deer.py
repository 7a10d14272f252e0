"""Draws meadows with or without a water deer, with the distance of each pixel.

The lecture's example of a denoising autoencoder is the water deer in the fog (고라니
안개). Fog hides distant things, so a scene is a grey picture and a depth map.

The camera is EYE metres above flat ground and looks at the horizon. In perspective, a
metre at some distance is FOCAL / distance sides of the picture, and the ground there is
EYE times that below the horizon. An object on the ground is a figure: a list of
capsules in metres, each painted over the ones before. A capsule is the area of a ball
that moves along a line while its radius changes linearly: a trunk, a neck, a leg; if
the ball does not move, a disc. Light falls from above.

The water deer (*Hydropotes inermis*) has no antlers, but large round ears and tusks,
slender legs, a short tail, and a back that is highest at the rump. Its joints are
points in space, so that it can turn. A scene without a deer has a bush, a stone or a
fallen log instead, of the same size and tone: only its shape identifies a deer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scratchnet import checks

__all__ = [
    "Scenes",
    "draw_scenes",
]

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Array = NDArray[Any]
Draw = Callable[[float, float], Floats]  # one uniform number for each scene, (n,)
Value = float | Array  # the same in all scenes, or (n,)
Point = tuple[Value, Value, Value]
Capsule = tuple[Value, ...]

EYE = 0.8  # metres, height of the camera
FOCAL = 8.0  # sides, length of a metre at a distance of one metre
NEAREST = 9.2  # metres, the nearest visible ground
HILLS, SKY = 150.0, 300.0  # metres
TREES = (70.0, 45.0, 30.0, 23.0, 18.0)  # metres: a tree between each two
RANGE = {  # a factor is uniform on this
    "distance": (10.0, 16.0),  # metres
    "place": (-0.12, 0.12),  # sides
    "turn": (-0.4, 0.8),  # radians
    "look": (0.6, 1.0),  # fraction of the turn to us, in half of the scenes; else 0
    "neck up": (0.8, 1.3),  # radians, in two scenes of three
    "neck down": (-1.1, -0.7),  # radians, in the others: the deer grazes
    "stride": (-1.0, 1.0),
}
LIGHT = 0.06  # how much brighter the top of a capsule is than its middle
NUMBERS = 207  # random numbers for one scene
SCENES_AT_ONCE = 64  # painted together: few, because of the processor's cache


@dataclass(frozen=True)
class Scenes:
    """n scenes with their depth and factors.

    In a scene without a deer, `distance` and `place` are those of the object in its
    place; the other factors of the deer are drawn but not used.

    Attributes:
        images: (n, pixels, pixels) float32 in [0, 1], 1 is bright.
        depth: (n, pixels, pixels) float32, the distance of each pixel in metres.
        horizon: (n,) float32, sides below the upper edge of the picture.
        deer: (n,) bool, whether there is a deer.
        mask: (n, pixels, pixels) bool, the pixels of the deer, and of grass before it.
        distance: (n,) float32, metres.
        place: (n,) float32, sides to the right of the middle of the picture.
        facing: (n,) float32, 1 to the right, -1 to the left.
        turn: (n,) float32, radians from the side view towards us.
        look: (n,) float32, radians by which the head turns further towards us, at most
            π/2 - turn.
        neck: (n,) float32, radians above the horizontal; negative if the deer grazes.
        stride: (n,) float32, from -1 to 1; at 0 the two legs of a pair are side by
            side.

    """

    images: Floats
    depth: Floats
    horizon: Floats
    deer: Bools
    mask: Bools
    distance: Floats
    place: Floats
    facing: Floats
    turn: Floats
    look: Floats
    neck: Floats
    stride: Floats

    def __len__(self) -> int:
        """The number of scenes."""
        return len(self.images)

    @property
    def x(self) -> Floats:
        """The pictures as rows, (n, pixels * pixels); shares their memory."""
        return _rows(self.images)

    @property
    def x_depth(self) -> Floats:
        """The depth maps as rows, (n, pixels * pixels); shares their memory."""
        return _rows(self.depth)


def draw_scenes(
    n: int,
    rng: np.random.Generator,
    *,
    pixels: int = 48,
    deer: ArrayLike | None = None,
) -> Scenes:
    """Draw n scenes of pixels x pixels, about half of them with a deer.

    `deer` may be fixed: True or False for all scenes, or an array (n,) with one for
    each. It does not change the random numbers used, so the same seed draws the same
    meadow with and without a deer. With a larger n, or more pixels, the first scenes of
    a seed stay the same.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: n is negative, there are fewer than 16 pixels, or `deer` has a wrong
            shape.

    """
    checks.count("draw_scenes", "n", n, 0)
    checks.count("draw_scenes", "pixels", pixels, 16)
    checks.rng("draw_scenes", rng)
    # One row of random numbers for each scene, so that scene i does not depend on n.
    columns = iter(rng.random((n, NUMBERS), np.float32).T)

    def draw(low: float, high: float) -> Floats:
        number: Floats = low + (high - low) * next(columns)
        return number

    def choose(p: float, a: ArrayLike, b: ArrayLike) -> Floats:
        return np.where(draw(0, 1) < p, a, b).astype(np.float32)

    turn = draw(*RANGE["turn"])
    scenes = Scenes(
        images=np.empty((n, pixels, pixels), np.float32),
        depth=np.empty((n, pixels, pixels), np.float32),
        horizon=draw(0.28, 0.33),
        deer=_given(deer, draw(0, 1) < 0.5),
        mask=np.zeros((n, pixels, pixels), np.bool_),
        distance=draw(*RANGE["distance"]),
        place=draw(*RANGE["place"]),
        facing=choose(1 / 2, 1, -1),
        turn=turn,
        look=choose(1 / 2, draw(*RANGE["look"]) * (math.pi / 2 - turn), 0),
        neck=choose(2 / 3, draw(*RANGE["neck up"]), draw(*RANGE["neck down"])),
        stride=draw(*RANGE["stride"]),
    )
    land, soil, coat = _land(draw), draw(0.55, 0.68), draw(0.28, 0.42)
    behind = [_tree(draw, near, far) for far, near in itertools.pairwise(TREES)]
    behind += [_grass(draw, soil, scenes.distance, TREES[-1]) for _ in range(3)]
    before = [_grass(draw, soil, NEAREST, scenes.distance) for _ in range(3)]
    shadow, kind = _shadow(soil), np.floor(draw(0, 3))
    others = _bush(draw, coat), _stone(draw, coat), _log(draw, coat)
    things = [(_deer(scenes, coat), scenes.deer)]
    things += [(thing, ~scenes.deer & (kind == k)) for k, thing in enumerate(others)]

    for start in range(0, n, SCENES_AT_ONCE):
        at = slice(start, start + SCENES_AT_ONCE)
        images, depth, horizon = scenes.images[at], scenes.depth[at], scenes.horizon[at]
        place, distance = scenes.place[at], scenes.distance[at]
        _paint_land(images, depth, land[at], soil[at], horizon)
        for figure, x, away in behind:
            _paint(images, depth, figure[at], x[at], away[at], horizon)
        _paint(images, depth, shadow[at], place, distance, horizon)
        for figure, chosen in things:
            i = np.flatnonzero(chosen[at])
            some = images[i], depth[i]
            ink = _paint(*some, figure[at][i], place[i], distance[i], horizon[i])
            images[i], depth[i] = some
            scenes.mask[at][i] = ink & scenes.deer[at][i, None, None]
        for figure, x, away in before:
            _paint(images, depth, figure[at], x[at], away[at], horizon)
    return scenes


def _rows(images: Floats) -> Floats:
    n, height, width = images.shape
    return images.reshape(n, height * width)


# The land


def _land(draw: Draw) -> Floats:
    """Return the numbers that describe the land of each scene, (n, 17)."""
    brightness = [draw(0.84, 0.94), draw(0.62, 0.74)]
    ridge = [draw(0.04, 0.1), draw(0, 1), draw(0, 1)]
    waves = [
        (draw(-1.5, 1.5), draw(0.8, 2), draw(0, 1), draw(0.01, 0.03)) for _ in range(3)
    ]
    return np.stack([*brightness, *ridge, *itertools.chain(*waves)], axis=1)


def _paint_land(
    images: Floats, depth: Floats, land: Floats, soil: Floats, horizon: Floats
) -> None:
    """Paint sky, hills and uneven ground over everything."""
    pixels = images.shape[1]
    right, down = _centers(pixels)
    sky, hill, height, phase1, phase2, *waves = land.T[:, :, None, None]
    below = down[:, None] - horizon[:, None, None]  # sides below the horizon
    images[...] = sky - 0.06 * (1 - down[:, None])
    depth[...] = SKY

    ridge = height + 0.025 * _wave(right + phase1) + 0.011 * _wave(2.3 * right + phase2)
    _blend(images, depth, _cover((below + ridge) * pixels), hill, HILLS)

    away = EYE * FOCAL / np.maximum(below, EYE * FOCAL / HILLS)
    tone = soil[:, None, None] - 0.1 * below
    for k in range(0, len(waves), 4):
        across, along, phase, size = waves[k : k + 4]
        tone = tone + size * _wave(across * right + along * np.log(away) + phase)
    _blend(images, depth, _cover(below * pixels), tone, away)


def _wave(cycles: Array) -> Array:
    height: Array = np.sin(2 * math.pi * cycles)
    return height


# The figures: arrays (n, capsules, 7). A row is one capsule, x0, y0, r0, x1, y1, r1 and
# tone: the ball has the radius r0 at (x0, y0) and r1 at (x1, y1). The origin is on
# the ground below the figure; x is to the right and y up, in metres.


def _figure(n: int, *capsules: Capsule) -> Floats:
    """Return capsules as an array (n, capsules, 7); a number may be an array (n,)."""
    columns = [np.broadcast_to(value, n) for capsule in capsules for value in capsule]
    return np.stack(columns, axis=1).astype(np.float32).reshape(n, len(capsules), 7)


def _disc(x: Value, y: Value, r: Value, tone: Value) -> Capsule:
    return x, y, r, x, y, r, tone


def _tree(draw: Draw, near: float, far: float) -> tuple[Floats, Floats, Floats]:
    """Return a tree, its place in sides, and its distance."""
    away, place, tone = draw(near, far), draw(-0.55, 0.55), draw(0.3, 0.5)
    height, trunk = draw(2.5, 7), draw(0.07, 0.13)
    lean = height * draw(-0.1, 0.1)
    if near < 30:  # only the trunk is visible; it is placed so as not to hide the deer
        top = (2 * lean, 2 * height, 0.7 * trunk, tone)
        place = np.copysign(0.27 + abs(place) / 2, place)
        return _figure(len(away), (0, trunk, trunk, *top)), place, away
    radius, taper = draw(0.5, 1), draw(0, 0.75)
    capsules: list[Capsule] = [(0, trunk, trunk, lean, 0.8 * height, 0.6 * trunk, tone)]
    for k in range(4):
        r = radius * (1 - taper * k / 3)
        x, y = lean + draw(-0.5, 0.5) * r, (0.62 + 0.14 * k) * height
        capsules.append(_disc(x, y, r, tone + draw(-0.04, 0.1)))
    return _figure(len(away), *capsules), place, away


def _grass(
    draw: Draw, soil: Floats, near: Value, far: Value
) -> tuple[Floats, Floats, Floats]:
    """Return a tuft of three blades, its place in sides, and its distance."""
    away: Floats = (near + (far - near) * draw(0, 1)).astype(np.float32)
    place = draw(-0.5, 0.5)
    tone = soil + np.where(draw(0, 1) < 0.5, -0.13, 0.12)
    blades = [
        (x, 0, 0.012, 3 * x + draw(-0.04, 0.04), draw(0.07, 0.16), 0.004, tone)
        for x in (-0.02, 0, 0.02)
    ]
    return _figure(len(soil), *blades), place, away


def _shadow(soil: Floats) -> Floats:
    dark = soil - 0.12
    left, right = ((end, 0, 0, 0, 0, 0.035, dark) for end in (-0.4, 0.4))
    return _figure(len(soil), left, right)


def _bush(draw: Draw, coat: Floats) -> Floats:
    leaves = [
        _disc(
            x + draw(-0.07, 0.07),
            y + draw(0, 0.06),
            draw(0.09, 0.14),
            coat + draw(-0.07, 0.07),
        )
        for y, row in ((0.33, (-0.1, 0.1)), (0.2, (-0.25, -0.08, 0.08, 0.25)),
                       (0.1, (-0.3, -0.15, 0, 0.15, 0.3)))
        for x in row
    ]  # fmt: skip
    twigs = []
    for _ in range(3):
        x = draw(-0.35, 0.35)
        end = x + draw(-0.15, 0.15), draw(0.5, 0.85)
        twigs.append((x, 0.2, 0.02, *end, 0.012, coat - 0.05))
    return _figure(len(coat), *leaves, *twigs)


def _stone(draw: Draw, coat: Floats) -> Floats:
    r, half, x, y = draw(0.15, 0.23), draw(0.14, 0.26), draw(-0.2, 0.2), draw(0.2, 0.36)
    return _figure(
        len(coat),
        (-half, 0.8 * r, r, half, draw(0.7, 1.2) * r, draw(0.7, 1) * r, coat),
        (x - 0.08, y, 0.8 * r, x + 0.1, y, 0.7 * r, coat + 0.04),
        (x - 0.08, y + 0.3 * r, 0.4 * r, x + 0.1, y + 0.3 * r, 0.3 * r, coat + 0.12),
        _disc(draw(-0.5, 0.5), 0.08, draw(0.07, 0.11), coat - 0.04),
    )


def _log(draw: Draw, coat: Floats) -> Floats:
    end, rise, r = np.copysign(0.45, draw(-1, 1)), draw(-0.08, 0.08), draw(0.09, 0.13)
    y = r + abs(rise) + draw(0, 0.1)
    branches = []
    for _ in range(4):
        x = draw(-0.4, 0.4)
        tip = x + draw(-0.12, 0.12), np.maximum(y + draw(-0.35, 0.5), 0)
        branches.append((x, y, 0.03, *tip, 0.016, coat - 0.08))
    return _figure(
        len(coat),
        *branches,
        (-end, y - rise, r, end, y + rise, 0.85 * r, coat),
        _disc(1.04 * end, y + rise, 0.75 * r, coat + 0.25),
        _disc(1.05 * end, y + rise, 0.3 * r, coat + 0.1),
    )


def _deer(scenes: Scenes, coat: Floats) -> Floats:
    """Return the deer. Its points are (forward, up, towards its side nearer to us)."""
    turn, look, neck, stride = scenes.turn, scenes.look, scenes.neck, scenes.stride
    cos, sin = np.cos(turn), np.sin(turn)
    capsules: list[Capsule] = []

    def seen(point: Point) -> tuple[Array, Array]:
        forward, up, side = point
        nearer = sin * forward + cos * side
        # The deer is centred, and points nearer to us are lower in the picture.
        right = scenes.facing * (cos * (forward - 0.07) - sin * side)
        return right, up - EYE / scenes.distance * nearer

    def add(a: Point, r0: float, b: Point, r1: float, tone: Value) -> None:
        capsules.append((*seen(a), r0, *seen(b), r1, tone))

    def legs(side: float, upper: Array, lower: Array) -> None:
        step = stride * np.sign(side)
        shoulder, knee = (0.19, 0.40, side), (0.21 + 0.03 * step, 0.22, side)
        add(shoulder, 0.065, knee, 0.026, upper)
        add(knee, 0.024, (0.20 + 0.10 * step, 0.02, side), 0.016, lower)
        hip, stifle = (-0.24, 0.44, side), (-0.20 - 0.02 * step, 0.29, side)
        hock = (-0.30 - 0.06 * step, 0.18, side)
        add(hip, 0.10, stifle, 0.05, upper)
        add(stifle, 0.048, hock, 0.022, upper)
        add(hock, 0.021, (-0.27 - 0.10 * step, 0.02, side), 0.016, lower)

    # The head has its own directions: along the muzzle, to the crown, to the side.
    nod = np.where(neck > 0, -0.25, neck - 0.25)
    along = np.cos(nod) * np.cos(look), np.sin(nod), np.cos(nod) * np.sin(look)
    crown = -np.sin(nod) * np.cos(look), np.cos(nod), -np.sin(nod) * np.sin(look)
    aside = -np.sin(look), np.zeros_like(look), np.cos(look)
    withers = (0.22, 0.43, 0.0)
    bend = 0.3 * look  # of the neck, out of the body's plane
    level = 0.27 * np.cos(neck)
    skull = (
        0.22 + level * np.cos(bend),
        0.43 + 0.27 * np.sin(neck),
        level * np.sin(bend),
    )

    def head(a: float, b: float, c: float) -> Point:
        x, y, z = (
            s + a * f + b * u + c * w
            for s, f, u, w in zip(skull, along, crown, aside, strict=True)
        )
        return x, y, z

    def ear(side: int, tone: Array) -> None:
        middle = head(-0.045, 0.09, 0.085 * side)
        add(head(-0.02, 0.03, 0.04 * side), 0.02, middle, 0.042, tone)
        add(middle, 0.042, head(-0.06, 0.14, 0.1 * side), 0.022, tone)
        inside = head(-0.02, 0.06, 0.062 * side), head(-0.04, 0.11, 0.088 * side)
        add(inside[0], 0.012, inside[1], 0.022, coat + 0.24)

    # The far side first.
    legs(-0.06, coat - 0.1, coat - 0.16)
    ear(-1, coat - 0.06)
    add((-0.34, 0.50, 0), 0.03, (-0.37, 0.46, 0), 0.025, coat - 0.08)  # tail
    add((-0.24, 0.455, 0), 0.115, (0.19, 0.41, 0), 0.105, coat)  # rump to chest
    add((-0.20, 0.40, 0), 0.06, (0.18, 0.37, 0), 0.065, coat + 0.06)  # belly
    add((-0.22, 0.49, 0), 0.075, (0.20, 0.455, 0), 0.055, coat - 0.03)  # back
    add(withers, 0.09, skull, 0.05, coat)  # neck
    legs(0.06, coat, coat - 0.08)
    add(skull, 0.06, head(0.07, -0.01, 0), 0.042, coat)
    add(head(0.06, -0.012, 0), 0.042, head(0.14, -0.03, 0), 0.03, coat + 0.08)  # muzzle
    add(head(0.10, -0.045, 0), 0.018, head(0.14, -0.047, 0), 0.016, coat + 0.3)  # chin
    add(head(0.155, -0.025, 0), 0.02, head(0.16, -0.025, 0), 0.018, 0.08)  # nose
    for side in (-1, 1):
        tusk = head(0.10, -0.05, 0.024 * side), head(0.095, -0.095, 0.026 * side)
        add(tusk[0], 0.007, tusk[1], 0.003, 0.9)
        eye = head(0.045, 0.02, 0.045 * side)
        add(eye, 0.014, eye, 0.014, 0.07)
    ear(1, coat - 0.03)
    return _figure(len(scenes), *capsules)


# Painting


def _centers(pixels: int) -> tuple[Floats, Floats]:
    """Return the pixel centres: sides right of the middle, and sides from the top."""
    down = ((np.arange(pixels) + 0.5) / pixels).astype(np.float32)
    return down - np.float32(0.5), down


def _cover(inside: Array) -> Array:
    """Return the covered part of a pixel whose centre is that many pixels inside."""
    return np.clip(inside + np.float32(0.5), 0, 1)


def _blend(images: Array, depth: Array, cover: Array, tone: Any, away: Any) -> None:
    images += cover * (tone - images)
    np.copyto(depth, away, where=cover > 0.5)


def _paint(
    images: Floats,
    depth: Floats,
    figure: Floats,
    place: Floats,
    distance: Floats,
    horizon: Floats,
) -> Bools:
    """Paint a figure into each picture; return the pixels it covers by more than half.

    If a and b are the ends of a capsule, the point of its axis nearest to a pixel p is

        a + t (b - a),  t = (p - a)·(b - a) / |b - a|², clipped to [0, 1]

    and the depth of p inside is the radius there, r0 + t (r1 - r0), minus the distance.
    """
    mask = np.zeros(images.shape, np.bool_)
    if not len(images):
        return mask
    pixels = images.shape[1]
    right, down = _centers(pixels)
    scale = FOCAL / distance
    x0, y0, r0, x1, y1, r1, tone = figure.transpose(2, 1, 0)  # (capsules, n) each
    ax, bx = place + scale * x0, place + scale * x1
    ay, by = horizon + scale * (EYE - y0), horizon + scale * (EYE - y1)
    ra, rb = scale * r0, scale * r1
    dx, dy = bx - ax, by - ay
    square = np.maximum(dx**2 + dy**2, 1e-9)
    reach = np.maximum(ra, rb) + 1 / pixels
    light = LIGHT / np.maximum(ra, rb)
    for k in range(len(tone)):
        columns = _window(right, ax[k], bx[k], reach[k])
        rows = _window(down, ay[k], by[k], reach[k])

        def plane(of_scene: Array) -> Array:
            return of_scene[:, None, None]

        x = right[columns] - plane(ax[k])  # (n, 1, columns): p - a
        y = down[rows, None] - plane(ay[k])  # (n, rows, 1)
        along = x * plane(dx[k] / square[k]) + y * plane(dy[k] / square[k])
        t = np.clip(along, 0, 1)
        shade = t * plane(dy[k] * light[k]) + (plane(tone[k]) - y * plane(light[k]))
        # |p - a - t d|² = |p - a|² - t (2 along - t) |d|², d = b - a
        gap = x**2 + y**2
        along *= 2
        along -= t
        along *= t
        along *= plane(square[k])
        gap -= along
        t *= plane(rb[k] - ra[k])
        t += plane(ra[k])
        t -= np.sqrt(np.maximum(gap, 0, out=gap), out=gap)
        cover = _cover(t * pixels)
        window = (slice(None), rows, columns)
        _blend(images[window], depth[window], cover, shade, plane(distance))
        mask[window] |= cover > 0.5
    return mask


def _window(centers: Floats, a: Floats, b: Floats, reach: Floats) -> slice:
    """Return the pixels along one axis that a capsule may touch in any picture."""
    low, high = np.min(np.minimum(a, b) - reach), np.max(np.maximum(a, b) + reach)
    first, end = np.searchsorted(centers, [low, high])
    return slice(first, end)


def _given(deer: ArrayLike | None, drawn: Bools) -> Bools:
    """Return whether there is a deer (n,): the given values, checked, or as drawn."""
    if deer is None:
        return drawn
    array = checks.array("draw_scenes", "deer", deer)
    if array.dtype != np.bool_:
        raise TypeError(f"draw_scenes: deer holds {array.dtype}: pass True or False")
    if array.shape not in ((), drawn.shape):
        raise ValueError(
            f"draw_scenes: deer has shape {array.shape}: pass one for all scenes, or "
            f"{drawn.shape} for one each"
        )
    return np.broadcast_to(array, drawn.shape).copy()
