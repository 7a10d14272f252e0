"""The drawn digits: measurements in the pictures must match the factors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnet.data import digits as module
from scratchnet.data.digits import LIMIT, RANGE, STYLES, Digits, draw_digits
from tests.helpers import rng

FINE = 112  # pixels: enough to measure lengths to about 0.01 sides
TEN = np.repeat(np.arange(10), 6)  # every digit, six times


PLAIN = {
    "label": TEN,
    "rotation": 0,
    "thickness": 0.08,
    "size": 0.5,
    "slant": 0,
    "shift": (0, 0),
}


def plain(**changed: object) -> Digits:
    """Sixty digits in one handwriting, upright and in the middle unless changed."""
    return draw_digits(60, rng(), pixels=FINE, **(PLAIN | changed))


def coordinates(pixels: int) -> np.ndarray:
    return (np.arange(pixels) + 0.5) / pixels - 0.5


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return variances of the ink: right-right, down-down, right-down, (n,) each."""
    c = coordinates(images.shape[1])
    ink = images / images.sum((1, 2), keepdims=True)
    right = c - np.sum(ink * c, (1, 2))[:, None, None]
    down = c[:, None] - np.sum(ink * c[:, None], (1, 2))[:, None, None]
    return tuple(
        np.sum(ink * square, (1, 2)) for square in (right**2, down**2, right * down)
    )


def measured_turn(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the turn of the ink's long axis, counter-clockwise, in radians, (n,)."""
    angles = []
    for images in (before, after):
        right, down, both = moments(images)
        angles.append(np.arctan2(-2 * both, right - down) / 2)
    turn = angles[1] - angles[0]
    return (turn + np.pi / 2) % np.pi - np.pi / 2


def bounding_box(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return middle (n, 2) and extent (n, 2) of ink above 1/2, right and down."""
    c = coordinates(images.shape[1])
    low = np.empty((len(images), 2))
    high = np.empty((len(images), 2))
    for i, image in enumerate(images):
        for axis in (0, 1):
            inked = c[(image > 0.5).any(axis)]
            low[i, axis], high[i, axis] = inked[0], inked[-1]
    return (low + high) / 2, high - low + 1 / images.shape[1]


@given(n=st.integers(0, 5), pixels=st.integers(8, 40), seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_any_number_and_any_size(n, pixels, seed):
    digits = draw_digits(n, rng(seed), pixels=pixels)
    assert len(digits) == n
    assert digits.images.shape == (n, pixels, pixels)
    assert digits.x.shape == (n, pixels**2)
    assert np.shares_memory(digits.x, digits.images) == (n > 0)
    assert digits.images.dtype == np.float32
    assert np.all((digits.images >= 0) & (digits.images <= 1))
    assert list(digits.factors) == list(RANGE) == list(LIMIT)
    for name, factor in digits.factors.items():
        assert factor.shape == ((n, 2) if name == "shift" else (n,))
        assert factor.dtype == (np.int64 if name == "label" else np.float32)
        low, high = np.float32(RANGE[name])
        assert np.all((factor >= low) & (factor <= high))


def test_one_seed_gives_one_set_bit_for_bit():
    first, second = draw_digits(50, rng(7)), draw_digits(50, rng(7))
    assert np.array_equal(first.images, second.images)
    assert all(np.array_equal(first.factors[k], second.factors[k]) for k in RANGE)
    assert not np.array_equal(first.images, draw_digits(50, rng(8)).images)


def test_a_picture_depends_neither_on_n_nor_on_chunks(monkeypatch):
    many = draw_digits(30, rng())
    np.testing.assert_allclose(draw_digits(9, rng()).images, many.images[:9], atol=1e-5)
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", 7 * 28**2)
    np.testing.assert_allclose(draw_digits(30, rng()).images, many.images, atol=1e-5)


def test_higher_resolution_shows_the_same_picture():
    few, many = draw_digits(50, rng(), pixels=28), draw_digits(50, rng(), pixels=112)
    blocks = many.images.reshape(50, 28, 4, 28, 4).mean((2, 4))
    assert np.abs(few.images - blocks).max() < 0.35
    assert np.abs(few.images - blocks).mean() < 0.01
    other = draw_digits(50, rng(1), pixels=28)
    assert np.abs(other.images - blocks).mean() > 0.05


def test_lines_have_grey_edges_on_white_paper():
    images = draw_digits(200, rng()).images
    inked = images[images > 0]
    assert 0.3 < np.mean(inked < 1) < 0.8
    assert len(np.unique(np.round(inked, 2))) == 101
    assert 0.7 < np.mean(images == 0) < 0.95


def test_labels_are_balanced_and_factors_independent():
    digits = draw_digits(5000, rng(), pixels=8)
    assert np.all(np.abs(np.bincount(digits.label, minlength=10) - 500) < 100)
    columns = np.column_stack(list(digits.factors.values()))  # (n, 7)
    for column, name in zip(
        columns.T, [*list(RANGE)[:-1], "shift", "shift"], strict=True
    ):
        low, high = RANGE[name]
        if name != "label":
            thirds = np.histogram(column, np.linspace(low - 1e-6, high + 1e-6, 4))[0]
            assert np.all(np.abs(thirds - 5000 / 3) < 150)
    correlation = np.corrcoef(columns.T) - np.eye(7)
    assert np.abs(correlation).max() < 0.06


def test_passing_the_factors_draws_the_same_pictures():
    digits = draw_digits(40, rng(3))
    again = draw_digits(40, rng(3), **digits.factors)
    assert np.array_equal(digits.images, again.images)


@pytest.mark.parametrize("name", RANGE)
def test_changing_one_factor_changes_neither_the_others_nor_the_rng(name):
    source, other = rng(4), rng(4)
    before = draw_digits(5, source)
    value = (0.01, -0.02) if name == "shift" else 3 if name == "label" else 0.11
    after = draw_digits(5, other, **{name: value})
    for k in RANGE:
        if k == name:
            expected = np.broadcast_to(value, after.factors[k].shape)
            assert np.array_equal(after.factors[k], expected.astype(np.float32))
        else:
            assert np.array_equal(before.factors[k], after.factors[k])
    assert source.random() == other.random()


def test_shift_moves_the_picture_by_whole_pixels():
    moved = plain(shift=(5 / FINE, -3 / FINE)).images
    expected = np.roll(plain().images, (-3, 5), axis=(1, 2))
    np.testing.assert_allclose(moved, expected, atol=1e-3)


def test_shift_is_the_middle_of_the_figure():
    shift = rng().uniform(-0.05, 0.05, (60, 2))
    middle, _ = bounding_box(plain(shift=shift).images)
    np.testing.assert_allclose(middle, shift, atol=0.02)


def test_rotation_turns_the_long_axis():
    angle = rng().uniform(-0.4, 0.4, 60)
    before, after = plain().images, plain(rotation=angle).images
    right, down, both = moments(before)
    long = np.hypot(right - down, 2 * both) > 0.3 * (right + down)
    assert long.sum() > 30
    turn = measured_turn(before, after)
    np.testing.assert_allclose(turn[long], angle[long], atol=0.02)
    # The measurement can fail: in a mirror the turn is the opposite.
    mirrored = measured_turn(before[:, :, ::-1], after[:, :, ::-1])
    np.testing.assert_allclose(mirrored[long], -angle[long], atol=0.02)


def test_slant_leans_to_the_right_by_the_stated_amount():
    slant = np.linspace(-0.3, 0.3, 60)
    _, down, both = moments(plain(thickness=0.04).images)
    _, slanted_down, slanted_both = moments(plain(thickness=0.04, slant=slant).images)
    lean = both / down - slanted_both / slanted_down
    np.testing.assert_allclose(lean, slant, atol=0.035)


def test_size_is_the_height_and_scales_the_width_alike():
    size = np.linspace(0.3, 0.7, 60)
    _, extent = bounding_box(plain(size=size, thickness=0.05).images)
    np.testing.assert_allclose(extent[:, 1] - 0.05, size, atol=0.03)
    _, half = bounding_box(plain(size=0.35, thickness=0.05).images)
    _, whole = bounding_box(plain(size=0.7, thickness=0.05).images)
    np.testing.assert_allclose(whole - 0.05, 2 * (half - 0.05), atol=0.06)


def test_thickness_is_the_width_of_the_line():
    thickness = np.linspace(0.06, 0.16, 60)
    ones = plain(label=1, thickness=thickness)  # only the stem crosses the middle row
    across = ones.images[:, FINE // 2].sum(1) / FINE
    np.testing.assert_allclose(across, thickness, rtol=0.04)


def test_more_thickness_is_more_ink_everywhere():
    thin, thick = plain(thickness=0.07).images, plain(thickness=0.1).images
    assert np.all(thick >= thin)
    assert np.all(thick.sum((1, 2)) > 1.2 * thin.sum((1, 2)))


def test_the_points_of_a_stroke_move_independently():
    # Every factor is fixed. A map of the whole figure would keep the stem of a one
    # straight. It bends only if its middle moves and its ends do not.
    ones = plain(label=1).images
    assert len(np.unique(ones.reshape(60, -1), axis=0)) == 60
    c = coordinates(FINE)
    stem = ones[:, [52, 62, 72]]  # (60, 3, FINE) rows below the flag, above the foot
    place = (stem * c).sum(2) / stem.sum(2)
    bend = place[:, 0] - 2 * place[:, 1] + place[:, 2]
    assert bend.std() > 0.002


def test_every_style_is_drawn():
    points, _, _, digit_of = module._styles()
    assert sorted(set(digit_of.tolist())) == list(range(10))
    for digit in range(10):
        variants = sum(label == digit for label, _ in STYLES)
        # Equal random rows, except for the number that chooses the style.
        u = np.full((variants, 8 + points[0].size), 0.5)
        u[:, 7] = (np.arange(variants) + 0.5) / variants
        images = draw_digits(variants, Fixed(u), label=digit).images
        assert len(np.unique(images.reshape(variants, -1), axis=0)) == variants >= 2


class Fixed(np.random.Generator):
    """A generator whose uniform numbers are given."""

    def __init__(self, u: np.ndarray) -> None:
        super().__init__(np.random.PCG64(0))
        self.u = u

    def random(self, size: tuple[int, ...]) -> np.ndarray:
        assert size == self.u.shape
        return self.u


def test_nothing_touches_the_edge_at_extreme_factors():
    u = rng().random((4000, 8 + module._styles()[0][0].size))
    extreme = np.where(u < 0.5, 0.0, 1 - 1e-9)
    extreme[:, [0, 7]] = u[:, [0, 7]]  # all digits and styles
    images = draw_digits(4000, Fixed(extreme)).images
    edge = np.ones((28, 28), bool)
    edge[1:-1, 1:-1] = False
    assert images[:, edge].max() == 0
    # The check above can fail: a figure far larger than RANGE allows is cut off.
    assert draw_digits(10, rng(), size=1.0).images[:, edge].max() > 0


def test_ink_of_a_straight_line_is_exact():
    line = np.linspace(-0.3, 0.3, module.TOUCHES, dtype=np.float32)[None]
    step = np.array([0.6 / (module.TOUCHES - 1)], np.float32)
    thickness = np.array([0.1], np.float32)
    ink = module._ink(line, np.zeros_like(line), step, thickness, 100)[0]
    exact = np.clip(0.5 + 100 * (0.05 - np.abs(coordinates(100))), 0, 1)
    np.testing.assert_allclose(ink[:, 50], exact, atol=1e-3)


def test_spline_passes_through_its_points_smoothly():
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]], float)
    for points in (square, square[:4], square[:2]):
        steps = 1000 * (len(points) - 1) + 1
        curve = module._spline(points, steps)
        np.testing.assert_allclose(curve[::1000], points, atol=1e-12)
        velocity = np.diff(curve, axis=0)
        assert np.abs(np.diff(velocity, axis=0)).max() < 1e-5
    closed = module._spline(square, 4001)
    np.testing.assert_allclose(
        closed[1] - closed[0], closed[-1] - closed[-2], atol=1e-5
    )
    # A square drawn with corners fails the test of smoothness.
    corners = np.diff([[0, 0], [1e-3, 0], [1e-3, 1e-3]], axis=0)
    assert np.abs(np.diff(corners, axis=0)).max() > 1e-5


def test_the_digits_can_be_told_apart():
    known, asked = draw_digits(3000, rng(1)), draw_digits(500, rng(2))
    nearest = np.argmin(np.sum(known.x**2, 1) - 2 * asked.x @ known.x.T, axis=1)
    assert np.mean(known.label[nearest] == asked.label) > 0.95


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 2.5}, TypeError, "n is 2.5, a float; an int expected"),
        ({"n": True}, TypeError, "n is True, a bool; an int expected"),
        ({"n": -1}, ValueError, "n is -1; at least 0 expected"),
        ({"pixels": 28.0}, TypeError, "pixels is 28.0, a float; an int expected"),
        ({"pixels": 7}, ValueError, "pixels is 7; at least 8 expected"),
        ({"rng": 0}, TypeError, "rng is 0; a np.random.Generator expected, like"),
        ({"label": 10}, ValueError, "label is 10: keep it between 0 and 9"),
        ({"label": [0, 1, -1]}, ValueError, "label is -1: keep it between 0 and 9"),
        ({"label": 3.0}, TypeError, "label holds float64: pass integers"),
        ({"label": [1, 2]}, ValueError, r"label has shape \(2,\): pass shape \(\) to"),
        ({"size": "big"}, TypeError, "size is a str; real numbers expected"),
        ({"size": 0}, ValueError, "size is 0: keep it between 0.1 and 1"),
        ({"thickness": -0.1}, ValueError, "thickness is -0.1: keep it between 0.03"),
        ({"rotation": np.nan}, ValueError, "rotation is nan: keep it between"),
        ({"slant": [0, np.inf, 0]}, ValueError, "slant is inf: keep it between -2"),
        ({"rotation": np.ones((3, 1))}, ValueError, r"rotation has shape \(3, 1\)"),
        ({"shift": 0.1}, ValueError, r"\(\): pass shape \(2,\) to .* or \(3, 2\)"),
        ({"shift": [0.1, 2]}, ValueError, "shift is 2.0: keep it between -1 and 1"),
    ],
)
def test_errors_name_the_argument_and_the_remedy(arguments, error, message):
    with pytest.raises(error, match="^draw_digits: .*" + message):
        draw_digits(**({"n": 3, "rng": rng()} | arguments))
