"""Figures show the data that they are given, and the user's settings do not change."""

import matplotlib
import numpy as np
import pytest

from scratchnet import plots


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_picture_rows_show_every_picture(rng, tmp_path):
    rows = {"original": rng.random((3, 4, 4)), "copy": rng.random((3, 4, 4))}
    figure = plots.picture_rows(rows, notes="squares")
    shown = [ax.images[0].get_array() for ax in figure.axes]
    assert len(shown) == 6
    np.testing.assert_array_equal(shown[0], rows["original"][0])
    np.testing.assert_array_equal(shown[5], rows["copy"][2])
    path = plots.save(figure, tmp_path / "rows.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_light_is_shown_as_light_and_ink_as_ink():
    for ink, shade in ((True, 0.0), (False, 1.0)):
        for figure in (
            plots.picture_rows({"a": np.ones((1, 4, 4))}, ink=ink),
            plots.sheets({"a": np.ones((1, 4, 4))}, ink=ink),
            plots.code_plane(np.ones((1, 4, 4)), np.zeros(1), ink=ink),
        ):
            image = figure.axes[0].images[0]
            assert image.to_rgba(np.ones((1, 1)))[0, 0, 0] == shade


def test_sheets_show_pictures_in_reading_order(rng):
    x = rng.random((5, 3, 3))
    figure = plots.sheets({"five": x, "one": x[:1]})
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("five", "one")
    shown = np.asarray(first.images[0].get_array())
    assert shown.shape == (6, 9)  # two rows of three
    np.testing.assert_array_equal(shown[:3, 6:], x[2])
    np.testing.assert_array_equal(shown[3:, :3], x[3])
    np.testing.assert_array_equal(shown[3:, 6:], 0)  # the sixth place is paper
    np.testing.assert_array_equal(second.images[0].get_array(), x[0])


def test_scenes_on_a_sheet_have_gaps(rng):
    x = 0.9 * rng.random((4, 3, 3))
    shown = plots.sheets({"": x}, ink=False).axes[0].images[0].get_array()
    assert shown.shape == (8, 8)
    assert set(shown[3]) == set(shown[:, 3]) == {1.0}  # paper is light
    np.testing.assert_array_equal(shown[4:7, 4:7], x[3])


def test_the_ticks_of_the_code_plane_match_its_pictures():
    z = np.array([-2.0, 0.0, 2.0])
    # The picture of (z1, z2) is one pixel of 10 z1 + z2.
    pictures = np.array([[[10 * z1 + z2]] for z2 in z for z1 in z])
    (ax,) = plots.code_plane(pictures, z).axes
    shown = ax.images[0].get_array()
    ticks = {
        axis: {float(t.get_text().replace("−", "-")):
               round(t.get_position()[axis] - 0.5) for t in labels if t.get_text()}
        for axis, labels in enumerate((ax.get_xticklabels(), ax.get_yticklabels()))
    }  # fmt: skip
    for z1 in z:
        for z2 in z:
            assert shown[ticks[1][z2], ticks[0][z1]] == 10 * z1 + z2
    bottom, top = ax.get_ylim()
    assert (ticks[1][2.0] - ticks[1][-2.0]) * (top - bottom) > 0  # z2 rises upwards


def test_rows_of_different_lengths_are_refused(rng):
    with pytest.raises(ValueError, match=r"shorter|longer"):
        plots.picture_rows({"a": rng.random((3, 4, 4)), "b": rng.random((2, 4, 4))})


@pytest.mark.parametrize("shape", [(3, 5), (1, 14, 56), (2, 4, 1)])
def test_pictures_of_any_shape_are_drawn_as_they_are(rng, shape):
    x = rng.random((4, *shape[-2:]))
    for figure in (
        plots.picture_rows({"a": x}),
        plots.sheets({"a": x}),
        plots.code_plane(x, np.array([0.0, 1.0])),
    ):
        rows, columns = figure.axes[0].images[0].get_array().shape
        assert rows % shape[-2] == columns % shape[-1] == 0
        assert rows // shape[-2] == columns // shape[-1]


def test_the_shape_of_pictures_is_never_guessed(rng):
    for draw in (plots.picture_rows, plots.sheets):
        with pytest.raises(ValueError, match=r"expected \(n, rows, columns\)"):
            draw({"a": rng.random((3, 16))})
    with pytest.raises(ValueError, match=r"expected \(n, rows, columns\)"):
        plots.code_plane(rng.random((4, 16)), np.array([0.0, 1.0]))


def test_the_loss_curve_starts_at_epoch_one(rng):
    figure = plots.loss_curve([3.0, 2.0], [3.5, 2.5], {"PCA": 1.0})
    train, held_out, reference = figure.axes[0].lines
    np.testing.assert_array_equal(train.get_xydata(), [[1, 3], [2, 2]])
    np.testing.assert_array_equal(held_out.get_xydata(), [[1, 3.5], [2, 2.5]])
    assert set(reference.get_ydata()) == {1.0}


def test_losses_are_on_a_logarithmic_axis_if_they_fall_far():
    for losses, scale in (
        ([50.0, 10.0], "log"),
        ([15.0, 10.0], "linear"),
        ([50.0, -10.0], "linear"),  # a Gaussian decoder may have these
    ):
        assert plots.loss_curve(losses).axes[0].get_yscale() == scale


def test_the_game_is_drawn_with_its_balance():
    figure = plots.game([10, 20], [-1.0, -1.2], [0.7, 0.6], [0.2, 0.4])
    left, right = figure.axes
    v, balance = left.lines
    np.testing.assert_array_equal(v.get_xydata(), [[10, -1], [20, -1.2]])
    # At D = 1/2: log 1/2 + log 1/2.
    assert set(balance.get_ydata()) == {2 * np.log(0.5)}
    real, generated, half = right.lines
    np.testing.assert_array_equal(real.get_xydata(), [[10, 0.7], [20, 0.6]])
    np.testing.assert_array_equal(generated.get_xydata(), [[10, 0.2], [20, 0.4]])
    assert set(half.get_ydata()) == {0.5}


def test_planes_draw_each_point_once(rng):
    label = np.arange(30) % 10
    figure = plots.planes({"codes": rng.random((30, 2))}, label, "first", "second")
    (ax,) = figure.axes
    assert sum(len(drawn.get_offsets()) for drawn in ax.collections) == 30
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("first", "second")


@pytest.mark.parametrize("label", [np.arange(30) % 27, np.arange(30) + 200, None])
def test_any_number_of_classes_is_drawn(rng, label):
    figure = plots.planes({"codes": rng.random((30, 2))}, label, "first", "second")
    (ax,) = figure.axes
    assert sum(len(drawn.get_offsets()) for drawn in ax.collections) == 30


def test_the_colours_differ():
    assert len(set(plots.DIGIT_COLORS)) == 10


def test_the_users_settings_do_not_change(rng, tmp_path):
    def settings():
        # matplotlib chooses the backend when it is first asked for.
        return {k: v for k, v in matplotlib.rcParams.items() if k != "backend"}

    before = settings()
    plots.save(plots.loss_curve([1.0]), tmp_path / "loss.png")
    assert settings() == before


def test_equal_figures_give_equal_files(tmp_path):
    files = [
        plots.save(plots.loss_curve([2.0, 1.0]), tmp_path / name).read_bytes()
        for name in ("a.png", "b.png")
    ]
    assert files[0] == files[1]
