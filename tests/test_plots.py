"""The pictures: what was asked is drawn, and nobody's settings change."""

import matplotlib
import numpy as np
import pytest

from scratchnet import plots


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_picture_rows_show_every_picture(rng, tmp_path):
    rows = {"original": rng.random((3, 16)), "copy": rng.random((3, 4, 4))}
    figure = plots.picture_rows(rows, notes="squares")
    shown = [ax.images[0].get_array() for ax in figure.axes]
    assert len(shown) == 6
    np.testing.assert_array_equal(shown[0], rows["original"][0].reshape(4, 4))
    np.testing.assert_array_equal(shown[5], rows["copy"][2])
    path = plots.save(figure, tmp_path / "rows.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_rows_of_different_lengths_are_refused(rng):
    with pytest.raises(ValueError, match=r"shorter|longer"):
        plots.picture_rows({"a": rng.random((3, 16)), "b": rng.random((2, 16))})


def test_pixels_that_are_no_square_are_refused():
    with pytest.raises(ValueError, match="15 pixels are no square picture"):
        plots.as_image(np.zeros(15))


def test_the_loss_curve_starts_at_epoch_one(rng):
    figure = plots.loss_curve([3.0, 2.0], [3.5, 2.5], {"PCA": 1.0})
    train, held_out, reference = figure.axes[0].lines
    np.testing.assert_array_equal(train.get_xydata(), [[1, 3], [2, 2]])
    np.testing.assert_array_equal(held_out.get_xydata(), [[1, 3.5], [2, 2.5]])
    assert set(reference.get_ydata()) == {1.0}


def test_planes_draw_each_point_once(rng):
    label = np.arange(30) % 10
    figure = plots.planes({"codes": rng.random((30, 2))}, label, "first", "second")
    (ax,) = figure.axes
    assert sum(len(drawn.get_offsets()) for drawn in ax.collections) == 30
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("first", "second")


def test_the_colours_differ():
    assert len(set(plots.DIGIT_COLOURS)) == 10


def test_nobodys_settings_change(rng, tmp_path):
    def settings():
        # matplotlib chooses the backend when it is first asked for.
        return {k: v for k, v in matplotlib.rcParams.items() if k != "backend"}

    before = settings()
    plots.save(plots.loss_curve([1.0]), tmp_path / "loss.png")
    assert settings() == before


def test_the_same_figure_is_the_same_file(tmp_path):
    files = [
        plots.save(plots.loss_curve([2.0, 1.0]), tmp_path / name).read_bytes()
        for name in ("a.png", "b.png")
    ]
    assert files[0] == files[1]
