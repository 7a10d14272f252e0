"""Scenes with a deer: measurements in the pictures must match the fields."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnet.data import deer as module
from scratchnet.data.deer import EYE, FOCAL, HILLS, RANGE, SKY, Scenes, draw_scenes
from tests.helpers import rng

FINE = 96  # pixels: enough to measure lengths to about 0.02 sides
ONE_EACH = (
    "horizon", "distance", "place", "facing", "turn", "look", "neck", "stride",
)  # fmt: skip


@pytest.fixture(scope="module")
def fine() -> Scenes:
    return draw_scenes(200, rng(5), pixels=FINE, deer=True)


@pytest.fixture(scope="module")
def many() -> Scenes:
    return draw_scenes(2000, rng(6), pixels=24)


@given(n=st.integers(0, 4), pixels=st.integers(16, 60), seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_any_number_and_any_size(n, pixels, seed):
    scenes = draw_scenes(n, rng(seed), pixels=pixels)
    assert len(scenes) == n
    for name in ("images", "depth", "mask"):
        assert getattr(scenes, name).shape == (n, pixels, pixels)
    assert scenes.images.dtype == scenes.depth.dtype == np.float32
    assert scenes.mask.dtype == scenes.deer.dtype == np.bool_
    assert scenes.deer.shape == (n,)
    for name in ONE_EACH:
        assert getattr(scenes, name).shape == (n,)
        assert getattr(scenes, name).dtype == np.float32
    assert np.all((scenes.images >= 0) & (scenes.images <= 1))
    assert np.all((scenes.depth > 8) & (scenes.depth <= SKY))
    assert np.array_equal(scenes.x, scenes.images.reshape(n, pixels**2))
    assert np.array_equal(scenes.x_depth, scenes.depth.reshape(n, pixels**2))
    assert np.shares_memory(scenes.x, scenes.images) == (n > 0)


def test_fields_lie_on_their_ranges_and_fill_them(many):
    neck = np.where(many.neck > 0, "neck up", "neck down")
    drawn = {k: getattr(many, k) for k in ("distance", "place", "turn", "stride")}
    drawn |= {k: many.neck[neck == k] for k in ("neck up", "neck down")}
    for name, values in drawn.items():
        low, high = RANGE[name]
        thirds = np.histogram(values, np.linspace(low - 1e-6, high + 1e-6, 4))[0]
        assert thirds.sum() == len(values)
        n = len(values)
        assert np.all(np.abs(thirds - n / 3) < 5 * math.sqrt(n * 2 / 9)), name
    columns = np.stack([getattr(many, k) for k in ONE_EACH if k != "look"])
    correlation = np.corrcoef([*columns, many.deer]) - np.eye(len(columns) + 1)
    assert np.abs(correlation).max() < 5 / math.sqrt(len(many))
    assert set(many.facing) == {-1, 1}


def test_about_half_of_the_scenes_have_a_deer(many):
    n = len(many)
    assert abs(many.deer.sum() - n / 2) < 5 * math.sqrt(n / 4)
    assert np.array_equal(many.mask.any((1, 2)), many.deer)


def test_one_seed_gives_one_set_bit_for_bit():
    first, second = draw_scenes(20, rng(7)), draw_scenes(20, rng(7))
    for name in vars(first):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert not np.array_equal(first.images, draw_scenes(20, rng(8)).images)


def test_a_scene_depends_neither_on_n_nor_on_chunks(monkeypatch):
    longer = draw_scenes(30, rng())
    shorter = draw_scenes(9, rng())
    monkeypatch.setattr(module, "SCENES_AT_ONCE", 7)
    chunks = draw_scenes(30, rng())
    for name in vars(longer):
        whole = getattr(longer, name)
        np.testing.assert_allclose(getattr(shorter, name), whole[:9], atol=1e-5)
        np.testing.assert_allclose(getattr(chunks, name), whole, atol=1e-5)


def test_higher_resolution_shows_the_same_scene():
    few, finer = draw_scenes(30, rng(), pixels=48), draw_scenes(30, rng(), pixels=192)
    blocks = finer.images.reshape(30, 48, 4, 48, 4).mean((2, 4))
    assert np.abs(few.images - blocks).mean() < 0.01
    other = draw_scenes(30, rng(1), pixels=48)
    assert np.abs(other.images - blocks).mean() > 0.05


def test_edges_are_smooth(fine):
    # Between the deer and the meadow lies a pixel of intermediate brightness: one step
    # between pixels is rarely the whole difference.
    image, mask = fine.images, fine.mask
    outline = mask[:, :, 2:-1] & ~mask[:, :, 1:-2]
    step = np.abs(image[:, :, 2:-1] - image[:, :, 1:-2])[outline]
    whole = np.abs(image[:, :, 3:] - image[:, :, :-3])[outline]
    clear = whole > 0.15
    assert np.mean(step[clear] > 0.95 * whole[clear]) < 0.2


def test_with_and_without_a_deer_the_meadow_is_the_same():
    source, other = rng(3), rng(3)
    with_deer = draw_scenes(60, source, pixels=FINE, deer=True)
    without = draw_scenes(60, other, pixels=FINE, deer=False)
    assert with_deer.deer.all()
    assert not without.deer.any()
    assert not without.mask.any()
    assert source.random() == other.random()
    for name in ONE_EACH:
        assert np.array_equal(getattr(with_deer, name), getattr(without, name))

    distance = with_deer.distance[:, None, None]
    thing = without.depth == distance  # a bush, a stone or a log, and its shadow
    changed = np.abs(with_deer.images - without.images) > 0.02
    # The changes are there, except for twigs and hooves that cover no half pixel.
    elsewhere = changed & ~spread(thing | with_deer.mask)
    assert elsewhere.mean() < 1e-3 * changed.mean()
    # The deer is visible where it hides no bush, stone or log.
    assert np.mean(changed[with_deer.mask & ~thing]) > 0.9


def spread(mask: np.ndarray) -> np.ndarray:
    """Return the mask with all neighbours, which its soft edge reaches."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    size = mask.shape[1]
    shifts = [(i, j) for i in range(3) for j in range(3)]
    return np.any([padded[:, i : i + size, j : j + size] for i, j in shifts], axis=0)


def test_one_choice_for_each_scene():
    chosen = rng().random(20) < 0.5
    scenes = draw_scenes(20, rng(1), deer=chosen)
    assert np.array_equal(scenes.deer, chosen)
    assert not np.shares_memory(scenes.deer, chosen)
    # The choices of the generator, passed as an argument, draw the same scenes.
    free = draw_scenes(20, rng(1))
    again = draw_scenes(20, rng(1), deer=free.deer)
    assert np.array_equal(free.images, again.images)
    assert np.array_equal(scenes.images[chosen == free.deer],
                          free.images[chosen == free.deer])  # fmt: skip


def ground_depth(scenes: Scenes) -> np.ndarray:
    """Similar triangles: EYE / distance = (row - horizon) / FOCAL."""
    size = scenes.images.shape[1]
    row = (np.arange(size) + 0.5) / size
    below = row - scenes.horizon[:, None]
    return np.where(below > 0, EYE * FOCAL / np.maximum(below, 1e-9), np.inf)


def test_depth_of_the_ground_follows_from_perspective(fine):
    ground = np.minimum(ground_depth(fine), HILLS)[:, :, None]
    row = (np.arange(FINE) + 0.5) / FINE
    below = row > fine.horizon[:, None] + 1 / FINE
    depth = fine.depth
    same = np.broadcast_to(np.abs(depth / ground - 1) < 1e-4, depth.shape)
    assert np.mean(same[below]) > 0.6
    # Objects stand in front of the ground; round ones sink in by a pixel.
    lower = np.where(below, row - fine.horizon[:, None] - 1.5 / FINE, 0)[:, :, None]
    assert np.max(depth * lower) < 1.06 * EYE * FOCAL
    # It grows towards the horizon. (Measured at the left edge, without a deer.)
    edge = np.median(depth[:, row > 0.34, :8], axis=(0, 2))
    assert np.all(np.diff(edge) < 0)
    assert edge[0] > 100 > 10 > edge[-1]


def test_above_the_horizon_are_trees_hills_and_sky(fine):
    row = (np.arange(FINE) + 0.5) / FINE
    above = row < fine.horizon[:, None] - 1 / FINE
    depth = fine.depth[above]
    far = (depth == SKY) | (depth == HILLS)
    assert 0.4 < far.mean() < 0.95
    trees = depth[~far & (depth > module.TREES[-1])]
    assert trees.max() <= module.TREES[0]
    assert len(np.unique(trees)) > 2 * len(fine)  # several, at different depths
    sky = fine.depth == SKY
    dark, bright = np.quantile(fine.images[sky], 0.1), fine.images[~sky]
    assert dark > 0.75 > np.quantile(bright, 0.9)


def test_the_deer_is_at_its_distance(fine):
    depth = np.where(fine.mask, fine.depth, np.nan)
    behind_grass = depth < fine.distance[:, None, None] - 1e-3
    assert np.mean(behind_grass[fine.mask]) < 0.05
    seen = fine.mask & ~behind_grass
    expected = np.broadcast_to(fine.distance[:, None, None], seen.shape)
    assert np.array_equal(fine.depth[seen], expected[seen])


def box(mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return left, right, top and bottom of each mask (n, size, size), in sides."""
    size = mask.shape[1]
    columns, rows = mask.any(1), mask.any(2)
    return (
        columns.argmax(1) / size - 0.5,
        0.5 - columns[:, ::-1].argmax(1) / size,
        rows.argmax(1) / size,
        1 - rows[:, ::-1].argmax(1) / size,
    )


def test_the_deer_stands_on_the_ground_and_is_life_size(fine):
    left, right, top, bottom = box(fine.mask)
    metres = fine.distance / FOCAL
    foot = fine.horizon + EYE / metres
    np.testing.assert_allclose(bottom, foot, atol=0.03)
    height, width = (bottom - top) * metres, (right - left) * metres
    standing, side = fine.neck > 0, fine.turn**2 < 0.05
    # A water deer is about half a metre at the shoulder and a metre long.
    assert np.all((height[standing] > 0.7) & (height[standing] < 1))
    assert np.all((height[~standing] > 0.5) & (height[~standing] < 0.68))
    assert np.all((width[side] > 0.7) & (width[side] < 1.05))
    # At twice the distance it is half as large; sizes in the picture vary by 1.6.
    tall = (bottom - top)[standing]
    assert np.corrcoef(tall, 1 / fine.distance[standing])[0, 1] > 0.9


def test_the_deer_is_whole_and_in_its_place(fine):
    left, right, top, bottom = box(fine.mask)
    assert left.min() >= -0.5 + 1 / FINE
    assert right.max() <= 0.5 - 1 / FINE
    assert top.min() > 0
    assert bottom.max() < 1
    np.testing.assert_allclose((left + right) / 2, fine.place, atol=0.08)
    assert np.corrcoef((left + right) / 2, fine.place)[0, 1] > 0.9


def test_facing_is_where_the_head_is(fine):
    left, right, _, _ = box(fine.mask)
    head = np.empty(len(fine))
    for i, mask in enumerate(fine.mask):
        row = mask.any(1).argmax() + 3  # the ears
        head[i] = (np.flatnonzero(mask[row]).mean() + 0.5) / FINE - 0.5
    standing = fine.neck > 0
    side = np.sign(head - (left + right) / 2)
    assert np.array_equal(side[standing], fine.facing[standing])


def test_a_deer_that_turns_gets_narrower(fine):
    left, right, _, _ = box(fine.mask)
    body = (right - left) * fine.distance
    turned = np.abs(fine.turn)
    assert body[turned < 0.2].mean() > 1.12 * body[turned > 0.6].mean()


class Fixed(np.random.Generator):
    """A generator whose uniform numbers are given."""

    def __init__(self, u: np.ndarray) -> None:
        super().__init__(np.random.PCG64(0))
        self.u = u

    def random(self, size: tuple[int, ...], dtype: type) -> np.ndarray:
        assert size == self.u.shape
        return self.u.astype(dtype)


def test_every_random_number_shows_in_some_scene():
    # Each scene differs from the first in one number.
    shows = np.zeros(module.NUMBERS, bool)
    moves = set()
    for seed in range(12):
        u = np.tile(rng(seed).random(module.NUMBERS), (module.NUMBERS + 1, 1))
        i = np.arange(module.NUMBERS)
        u[i + 1, i] = (u[i + 1, i] + 0.5) % 1
        scenes = draw_scenes(len(u), Fixed(u), pixels=32, deer=seed % 3 == 0)
        changed = np.any(scenes.x[1:] != scenes.x[0], axis=1)
        shows |= changed
        for name in ONE_EACH:
            value = getattr(scenes, name)
            (moved,) = np.nonzero(value[1:] != value[0])
            if seed % 3 == 0 and moved.size:
                moves.add(name)
                assert changed[moved].all()
    # All except the number that chooses whether there is a deer: here it is an
    # argument.
    assert np.sum(~shows) == 1
    assert moves == set(ONE_EACH)


def test_the_deer_is_found_by_shape_and_not_by_brightness(many):
    brightness = many.x.mean(1)
    rank = brightness.argsort().argsort()
    deer = many.deer
    n1, n0 = deer.sum(), (~deer).sum()
    area = (rank[deer].sum() - n1 * (n1 - 1) / 2) / (n1 * n0)  # under the ROC curve
    assert 0.4 < area < 0.6
    # Least squares on the pixels, the simplest classifier.
    x = many.x - many.x.mean(0)
    y = 2.0 * deer - 1
    known, asked = slice(0, 1600), slice(1600, None)
    gram = x[known].T @ x[known] + 5 * np.eye(x.shape[1])
    w = np.linalg.solve(gram, x[known].T @ y[known])
    assert np.mean((x[asked] @ w > 0) == deer[asked]) > 0.8


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 2.5}, TypeError, "n is 2.5, a float; an int expected"),
        ({"n": True}, TypeError, "n is True, a bool; an int expected"),
        ({"n": -1}, ValueError, "n is -1; at least 0 expected"),
        ({"pixels": 48.0}, TypeError, "pixels is 48.0, a float; an int expected"),
        ({"pixels": 15}, ValueError, "pixels is 15; at least 16 expected"),
        ({"rng": 0}, TypeError, "rng is 0; a np.random.Generator expected, like"),
        ({"deer": 1}, TypeError, "deer holds int64: pass True or False"),
        ({"deer": [True, False]}, ValueError, r"shape \(2,\): pass one .* or \(3,\)"),
    ],
)
def test_errors_name_the_argument_and_the_remedy(arguments, error, message):
    with pytest.raises(error, match="^draw_scenes: .*" + message):
        draw_scenes(**({"n": 3, "rng": rng()} | arguments))
