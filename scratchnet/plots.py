"""The pictures: what was trained, as a person would want to see it.

Every function returns a matplotlib Figure and shows nothing; `save` writes it. The
style is a context around each drawing, so that nobody's own settings change.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from scratchnet import checks

# Okabe & Ito 2008: told apart with any kind of colour blindness. The digits are drawn
# as digits besides, so that ten classes need not be told by colour alone.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DIGIT_COLOURS = (*COLOURS, "#000000", "#7F3C8D", "#8B6D00", "#7F7F7F")

STYLE: Any = {  # matplotlib types the keys by a list of all settings
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "image.cmap": "gray_r",
    "image.interpolation": "nearest",
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Mark a function that draws a Figure: it draws in the style of the house."""

    checks.function("styled", "draw", draw, "plots.sheets")

    @wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def panels(
    rows: int = 1,
    columns: int = 1,
    size: tuple[float, float] = (4.6, 3.6),
    **layout: Any,
) -> tuple[Figure, np.ndarray]:
    """Make a Figure of rows x columns panels, each of `size` inches.

    Call it in a function marked `@styled`; what is drawn on the panels takes its style
    from there.

    Returns:
        The Figure, and its Axes as an array (rows, columns).

    """
    checks.count("panels", "rows", rows)
    checks.count("panels", "columns", columns)
    if not isinstance(size, tuple) or len(size) != 2:
        raise TypeError(f"panels: size is {size!r}; (width, height) expected")
    for side in size:
        checks.number("panels", "size", side, checks.POSITIVE)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows))
    return figure, figure.subplots(rows, columns, squeeze=False, **layout)


def save(figure: Figure, path: str | Path) -> Path:
    """Write `figure` to `path`, as PNG or what its ending says; return the path."""
    if not isinstance(figure, Figure):
        raise TypeError(f"plots.save: {figure!r} given, a Figure expected")
    path = checks.path("plots.save", path)
    with matplotlib.rc_context(STYLE):
        # No software version in the file: the same figure is the same bytes.
        metadata = {"Software": None} if path.suffix == ".png" else None
        figure.savefig(path, metadata=metadata)
    return path


def as_image(x: ArrayLike) -> np.ndarray:
    """Give a row of pixels (d,) the shape of a square picture.

    Raises:
        ValueError: d is not a square number.

    """
    x = checks.array("plots", "a picture", x)
    if x.ndim == 2:
        return x
    side = round(x.size**0.5)
    if side * side != x.size:
        raise ValueError(
            f"plots: {x.size} pixels are no square picture; pass (rows, columns)"
        )
    return x.reshape(side, side)


@styled
def picture_rows(
    rows: Mapping[str, Sequence[ArrayLike]], notes: str = "", *, ink: bool = True
) -> Figure:
    """Draw rows of small pictures, each with its name on the left.

    Args:
        rows: for each row its name and n pictures, each (d,) or (rows, columns), with
            0 for paper and 1 for ink.
        notes: a line below.
        ink: False if 1 is light, and 0 dark.

    """
    _check_named("picture_rows", rows)
    n = max(len(pictures) for pictures in rows.values())
    figure = Figure(
        figsize=(1.6 + 0.8 * n, 0.86 * len(rows) + (0.35 if notes else 0.1))
    )
    axes = figure.subplots(len(rows), n, squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for ax, picture in zip(line, pictures, strict=True):
            _show(ax, as_image(picture), ink)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
    if notes:
        figure.supxlabel(notes, fontsize=10)
    return figure


@styled
def sheets(pictures: Mapping[str, ArrayLike], *, ink: bool = True) -> Figure:
    """Draw sheets of many small pictures, side by side.

    Args:
        pictures: for each sheet its title, which may be empty, and its pictures (n, d).
        ink: False if 1 is light, and 0 dark.

    """
    _check_named("sheets", pictures)
    figure, axes = panels(1, len(pictures), (4.2, 4.48))
    for ax, (title, x) in zip(axes[0], pictures.items(), strict=True):
        x = np.asarray(x)
        columns = math.ceil(len(x) ** 0.5)
        _show(ax, _tiled(x, columns, ink), ink)
        ax.set_title(title)
    return figure


@styled
def code_plane(pictures: ArrayLike, z: np.ndarray, *, ink: bool = True) -> Figure:
    """Draw what is decoded from a grid of codes in the plane.

    Args:
        pictures: (m * m, d), of (z[0], z[0]), (z[1], z[0]), ...: z₁ changes first.
        z: the m values that each number of the code takes, rising.
        ink: False if 1 is light, and 0 dark.

    """
    (z,) = _series("code_plane", z=z)
    m = len(z)
    x = checks.array("code_plane", "pictures", pictures)
    if x.ndim < 2 or len(x) != m * m:
        raise ValueError(
            f"code_plane: pictures have shape {x.shape}; ({m * m}, d) expected, one "
            f"for each pair of the {m} values in z"
        )
    upwards = x.reshape(m, m, -1)[::-1].reshape(m * m, -1)
    figure, ((ax,),) = panels(size=(7, 6.8))
    _show(ax, _tiled(upwards, m, ink), ink)
    marked = np.linspace(0, m - 1, 5).astype(int)
    side = ax.get_xlim()[1] / m
    labels = [f"{z[i]:.1f}" for i in marked]
    ax.set_xticks(side * (marked + 0.5), labels)
    ax.set_yticks(side * (m - marked - 0.5), labels)
    ax.set_xlabel("first number of the code, z₁")
    ax.set_ylabel("second number of the code, z₂")
    return figure


def _tiled(x: np.ndarray, columns: int, ink: bool) -> np.ndarray:
    """Lay pictures (n, d) out as one, row by row; what is left over is paper."""
    images = np.stack([as_image(picture) for picture in x])
    n, height, width = images.shape
    rows = math.ceil(n / columns)
    gap = 0 if ink else 1  # pixels; ink has its own margin of paper
    paper = 0.0 if ink else 1.0
    empty = np.full((rows * columns, height + gap, width + gap), paper, images.dtype)
    empty[:n, :height, :width] = images
    grid = empty.reshape(rows, columns, height + gap, width + gap).swapaxes(1, 2)
    return grid.reshape(rows * (height + gap), -1)


def _show(ax: Axes, picture: np.ndarray, ink: bool) -> None:
    """Show one picture in a thin frame."""
    ax.imshow(picture, vmin=0, vmax=1, cmap="gray_r" if ink else "gray")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color("#CCCCCC")


@styled
def loss_curve(
    train: Sequence[float],
    held_out: Sequence[float] = (),
    references: Mapping[str, float] | None = None,
    ylabel: str = "squared error per image",
) -> Figure:
    """Draw the loss after each epoch, on a logarithmic axis if it falls far.

    Args:
        train: the mean loss in epoch 1, 2, ...
        held_out: the same for data not trained on.
        references: names and values of horizontal lines to compare with.
        ylabel: what the loss is.

    """
    (train,) = _series("loss_curve", train=train)
    references = references or {}
    checks.mapping("loss_curve", "references", references)
    for name, value in references.items():
        checks.number("loss_curve", f"references[{name!r}]", value)
    if checks.array("loss_curve", "held_out", held_out).size:
        train, held_out = _series("loss_curve", train=train, held_out=held_out)
    figure = Figure(figsize=(6.4, 4))
    ax = figure.subplots()
    epochs = np.arange(1, len(train) + 1)
    marker = "o" if len(train) < 40 else ""
    ax.plot(epochs, train, color=COLOURS[0], marker=marker, ms=4, label="training")
    if len(held_out):
        ax.plot(epochs, held_out, color=COLOURS[1], marker=marker, ms=4, ls="--",
                label="held out")  # fmt: skip
    for (name, value), colour in zip(references.items(), COLOURS[2:], strict=False):
        ax.axhline(value, color=colour, ls=":")
        ax.annotate(name, (1, value), (0, 4), xycoords=("axes fraction", "data"),
                    textcoords="offset points", ha="right", color=colour)  # fmt: skip
    lowest, highest = np.min([*train, *held_out]), np.max([*train, *held_out])
    if highest > 4 * lowest > 0:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("{x:g}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.set_ylabel(ylabel)
    ax.legend(loc="upper right", bbox_to_anchor=(1, 0.98))
    return figure


@styled
def game(
    steps: Sequence[int],
    v: Sequence[float],
    real: Sequence[float],
    generated: Sequence[float],
) -> Figure:
    """Draw what a GAN's V and D were in each step, and where they are in balance.

    Args:
        steps: of the generator.
        v: V(D, G) on a minibatch, nats.
        real, generated: mean D(x) and mean D(G(z)) there.

    """
    steps, v, real, generated = _series(
        "game", steps=steps, v=v, real=real, generated=generated
    )
    figure, ((left, right),) = panels(1, 2, (4.8, 3.4))
    left.plot(steps, v, color=COLOURS[0], lw=1)
    _balance(left, -math.log(4), "−log 4")
    left.set_ylabel("V(D, G) (nats)")
    right.plot(steps, real, color=COLOURS[0], lw=1, label="D(x), data")
    right.plot(steps, generated, color=COLOURS[1], lw=1, label="D(G(z)), generated")
    _balance(right, 0.5, "1/2")
    right.set_ylim(0, 1)
    right.set_ylabel("mean probability of being real")
    right.legend(loc="upper right")
    for ax in (left, right):
        ax.set_xlabel("steps of the generator")
    return figure


def _balance(ax: Axes, value: float, name: str) -> None:
    """Draw where D and V are when neither network can gain, its name beside it."""
    ax.axhline(value, color="black", ls=":")
    ax.annotate(name, (1, value), (4, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", va="center")  # fmt: skip


@styled
def planes(
    points: Mapping[str, np.ndarray], label: np.ndarray, xlabel: str, ylabel: str
) -> Figure:
    """Draw points in the plane, each as the digit that it stands for.

    Args:
        points: for each panel its title and the points (n, 2).
        label: (n,), the digits.
        xlabel, ylabel: what the axes are.

    """
    _check_named("planes", points)
    figure = Figure(figsize=(5.2 * len(points), 4.8))
    for ax, (title, xy) in zip(figure.subplots(1, len(points), squeeze=False)[0],
                               points.items(), strict=True):  # fmt: skip
        draw_digits(ax, xy, label)
        ax.set_title(title)
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel)
    return figure


def draw_digits(ax: Axes, xy: np.ndarray, label: np.ndarray, size: float = 26) -> None:
    """Draw points xy (n, 2), each as the digit `label` (n,) that it stands for.

    Args:
        ax: where.
        xy, label: the points and their digits.
        size: of a digit, in square points.

    """
    if not isinstance(ax, Axes):
        raise TypeError(f"draw_digits: {ax!r} given, Axes expected")
    xy = checks.array("draw_digits", "xy", xy)
    checks.labels("draw_digits", label, len(xy) if xy.ndim else 0, len(DIGIT_COLOURS))
    checks.number("draw_digits", "size", size, checks.POSITIVE)
    if xy.shape[1:] != (2,):
        raise ValueError(f"draw_digits: xy has shape {xy.shape}; (n, 2) expected")
    for digit, colour in enumerate(DIGIT_COLOURS):
        mine = xy[label == digit]
        ax.scatter(mine[:, 0], mine[:, 1], s=size, marker=f"${digit}$", color=colour,
                   linewidths=0.1, alpha=0.8)  # fmt: skip


# --- Checks -------------------------------------------------------------------------


def _check_named(owner: str, named: Any) -> None:
    """Raise an error unless these are some arrays, each with rows, by their names."""
    checks.mapping(owner, "its argument", named)
    if not named:
        raise ValueError(f"{owner}: nothing to draw; pass at least one by its name")
    for name, x in named.items():
        if not hasattr(x, "__len__") or not len(x):
            raise ValueError(f"{owner}: {name!r} is {x!r}; at least one row expected")


def _series(owner: str, **series: Any) -> list[Any]:
    """Return lists of numbers as arrays (n,) of one length, or refuse them."""
    found = [checks.array(owner, name, values) for name, values in series.items()]
    for name, values in zip(series, found, strict=True):
        if values.ndim != 1 or not len(values) or len(values) != len(found[0]):
            raise ValueError(
                f"{owner}: {name} has shape {values.shape}; a list of numbers "
                f"expected, as long as {next(iter(series))}"
            )
    return found
