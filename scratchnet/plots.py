"""Plots of training, codes, samples and pictures.

Every function returns a matplotlib Figure and shows nothing; `save` writes it. The
style is a context around each drawing, so the user's settings do not change.
"""

import contextlib
import io
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from scratchnet import checks

__all__ = [
    "COLORS",
    "DIGIT_COLORS",
    "STYLE",
    "as_images",
    "code_plane",
    "game",
    "loss_curve",
    "panels",
    "picture_rows",
    "planes",
    "png",
    "save",
    "scatter_digits",
    "sheets",
    "styled",
]

# No window is opened here. But if MPLBACKEND names a backend that is not installed,
# matplotlib cannot be imported.
window = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib
    import matplotlib.image
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator
finally:
    if window is not None:
        os.environ["MPLBACKEND"] = window
if window is not None:
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = window

# Okabe & Ito 2008: distinct with any kind of colour blindness. Points of ten classes
# are drawn as digits too, so the colours are not needed.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DIGIT_COLORS = (*COLORS, "#000000", "#7F3C8D", "#8B6D00", "#7F7F7F")

STYLE: Any = {  # Any, because matplotlib's type for the keys lists all settings
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": 11,
    "figure.titlesize": 12,
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
    """Decorate a function that draws a Figure, so that it uses `STYLE`."""

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

    Call it in a function with `@styled`, which sets the style of the panels.

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


def png(picture: ArrayLike, *, ink: bool = True) -> bytes:
    """Return a picture (rows, columns) in [0, 1] as the content of a PNG file.

    Args:
        picture: its pixels.
        ink: whether 1 is black, as ink on paper; otherwise 1 is white.

    """
    a = checks.array("plots.png", "picture", picture)
    if a.ndim != 2 or not a.size:
        raise ValueError(f"plots.png: shape {a.shape}; (rows, columns) expected")
    content = io.BytesIO()
    matplotlib.image.imsave(
        content, np.clip(a, 0, 1), cmap="gray_r" if ink else "gray", vmin=0, vmax=1,
        format="png", metadata={"Software": ""},
    )  # fmt: skip
    return content.getvalue()


def save(figure: Figure, path: str | Path) -> Path:
    """Write `figure` to `path`, as PNG or the format of its suffix; return the path.

    Raises:
        OSError: the file cannot be written; the error names the path.

    """
    if not isinstance(figure, Figure):
        raise TypeError(f"plots.save: {figure!r} given, a Figure expected")
    path = checks.path("plots.save", path)
    kind = path.suffix[1:] or "png"
    path = path if path.suffix else path.with_suffix(".png")
    content = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        # No software version in the file, so that equal figures have equal bytes.
        metadata = {"Software": None} if kind == "png" else None
        figure.savefig(content, format=kind, metadata=metadata)
    try:
        path.write_bytes(content.getvalue())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    return path


def as_images(owner: str, name: str, x: ArrayLike) -> np.ndarray:
    """Return pictures as an array (n, rows, columns).

    Raises:
        ValueError: x has another shape; it is not guessed from the number of pixels.

    """
    images = checks.array(owner, name, x)
    if images.ndim != 3 or not images.size:
        raise ValueError(
            f"{owner}: {name} has shape {images.shape}; expected (n, rows, columns), "
            "like x.reshape(-1, 28, 28)"
        )
    return images


@styled
def picture_rows(
    rows: Mapping[str, ArrayLike],
    notes: str = "",
    *,
    title: str = "",
    ink: bool = True,
) -> Figure:
    """Draw rows of small pictures, each with its name on the left.

    Args:
        rows: for each row its name and its pictures (n, rows, columns), with 0 for
            paper and 1 for ink.
        notes: a line of text below the rows.
        title: the title of the figure.
        ink: False if 0 is dark and 1 is light.

    """
    _check_named("picture_rows", rows)
    drawn = [as_images("picture_rows", repr(k), x) for k, x in rows.items()]
    n = max(map(len, drawn))
    width, height = _panel(drawn[0].shape[1:], 0.8)
    figure = Figure(
        figsize=(
            _wide_enough(1.6 + width * n, title, notes),
            (height + 0.06) * len(rows) + 0.1 + 0.3 * (bool(notes) + bool(title)),
        )
    )
    axes = figure.subplots(len(rows), n, squeeze=False)
    for line, name, pictures in zip(axes, rows, drawn, strict=True):
        for ax, picture in zip(line, pictures, strict=True):
            _show(ax, picture, ink)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
    if notes:
        figure.supxlabel(notes, fontsize=10)
    if title:
        figure.suptitle(title)
    return figure


@styled
def sheets(pictures: Mapping[str, ArrayLike], *, ink: bool = True) -> Figure:
    """Draw sheets of many small pictures, side by side.

    Args:
        pictures: for each sheet its title, which may be empty, and its pictures
            (n, rows, columns).
        ink: False if 0 is dark and 1 is light.

    """
    _check_named("sheets", pictures)
    drawn = [as_images("sheets", repr(k), x) for k, x in pictures.items()]
    tiled = [_tiled(x, math.ceil(len(x) ** 0.5), ink) for x in drawn]
    width, height = _panel(tiled[0].shape, 4.2)
    figure, axes = panels(1, len(pictures), (width, height + 0.28))
    for ax, title, sheet in zip(axes[0], pictures, tiled, strict=True):
        _show(ax, sheet, ink)
        ax.set_title(title)
    return figure


@styled
def code_plane(
    pictures: ArrayLike, z: np.ndarray, *, title: str = "", ink: bool = True
) -> Figure:
    """Draw the pictures decoded from a grid of codes in the plane.

    Args:
        pictures: (m * m, rows, columns), for the codes (z[0], z[0]), (z[1], z[0]), ...:
            z₁ changes first.
        z: the m values of each number of the code, in ascending order.
        title: the title of the figure.
        ink: False if 0 is dark and 1 is light.

    """
    (z,) = _series("code_plane", z=z)
    m = len(z)
    x = as_images("code_plane", "pictures", pictures)
    if len(x) != m * m:
        raise ValueError(
            f"code_plane: pictures have shape {x.shape}; expected ({m * m}, rows, "
            f"columns), one for each pair of the {m} values in z"
        )
    upwards = x.reshape(m, m, *x.shape[1:])[::-1].reshape(x.shape)
    width, height = _panel(x.shape[1:], 6.8)
    size = _wide_enough(width + 0.2, title), height + (0.2 if title else 0)
    figure, ((ax,),) = panels(size=size)
    tiled = _tiled(upwards, m, ink)
    _show(ax, tiled, ink)
    lower = np.linspace(0, (m - 1) // 2, 3).astype(int)
    marked = np.unique([lower, m - 1 - lower])
    down, right = (side / m for side in tiled.shape)
    labels = [f"{z[i]:.1f}".replace("-", "−") for i in marked]
    ax.set_xticks(right * (marked + 0.5), labels)
    ax.set_yticks(down * (m - marked - 0.5), labels)
    ax.set_title(title)
    ax.set_xlabel("first number of the code, z₁")
    ax.set_ylabel("second number of the code, z₂")
    return figure


def _wide_enough(width: float, *lines: object) -> float:
    """Return a width, in inches, in which lines of text are not cut off."""
    return max(width, *(0.09 * len(str(line)) for line in lines))


def _panel(shape: tuple[int, ...], side: float) -> tuple[float, float]:
    """Return width and height, in inches, of a panel for pictures of this shape.

    The panel has the area of a square of that side, and a ratio of at most 4 to 1.
    """
    rows, columns = shape
    stretch = min(max(columns / rows, 1 / 4), 4) ** 0.5
    return side * stretch, side / stretch


def _tiled(images: np.ndarray, columns: int, ink: bool) -> np.ndarray:
    """Arrange pictures (n, rows, columns) in one; empty places are paper."""
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
    title: str = "",
) -> Figure:
    """Draw the loss after each epoch, on a logarithmic axis if it falls far.

    Args:
        train: the mean loss in epoch 1, 2, ...
        held_out: the same for held-out data.
        references: names and values of horizontal lines to compare with.
        ylabel: the name and unit of the loss.
        title: the title of the figure.

    """
    (train,) = _series("loss_curve", train=train)
    references = references or {}
    checks.mapping("loss_curve", "references", references)
    for name, value in references.items():
        checks.number("loss_curve", f"references[{name!r}]", value)
    if checks.array("loss_curve", "held_out", held_out).size:
        train, held_out = _series("loss_curve", train=train, held_out=held_out)
    figure = Figure(figsize=(6.4, 4.2))
    ax = figure.subplots()
    epochs = np.arange(1, len(train) + 1)
    many = len(train) >= 40
    ax.plot(epochs, train, color=COLORS[0], marker="" if many else "o", ms=4,
            label="training")  # fmt: skip
    if len(held_out):
        ax.plot(epochs, held_out, color=COLORS[1], marker="" if many else "s", ms=4,
                ls="--", label="held out")  # fmt: skip
    for (name, value), color in zip(references.items(), COLORS[2:], strict=False):
        ax.axhline(value, color=color, ls=":", label=name)
    lowest, highest = np.min([*train, *held_out]), np.max([*train, *held_out])
    if highest > 4 * lowest > 0:
        ax.set_yscale("log")
        ticks = (1, 2, 5) if highest > 100 * lowest else (1, 2, 3, 5, 7)
        ax.yaxis.set_major_locator(LogLocator(subs=ticks))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_xlabel("epoch")
    ax.set_ylabel(ylabel)
    ax.set_title(title)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@styled
def game(
    steps: Sequence[int],
    v: Sequence[float],
    real: Sequence[float],
    generated: Sequence[float],
) -> Figure:
    """Draw V and D of a GAN against the steps, with their values in balance.

    Args:
        steps: the steps of the generator.
        v: V(D, G) on a minibatch, in nats.
        real, generated: mean D(x) and mean D(G(z)) on it.

    """
    steps, v, real, generated = _series(
        "game", steps=steps, v=v, real=real, generated=generated
    )
    figure, ((left, right),) = panels(1, 2, (4.8, 3.8))
    left.plot(steps, v, color=COLORS[2], lw=1, label="V(D, G)")
    left.axhline(-math.log(4), color="black", ls=":")
    left.set_ylabel("V(D, G) (nats)")
    left.set_title("Value of the game (balance: −log 4)")
    right.plot(steps, real, color=COLORS[0], lw=1.2, label="D(x), data")
    right.plot(steps, generated, color=COLORS[1], lw=1.2, ls="--",
               label="D(G(z)), generated")  # fmt: skip
    right.axhline(0.5, color="black", ls=":", label="balance")
    right.set_ylim(0, 1)
    right.set_ylabel("mean probability of being real")
    right.set_title("Discriminator's output (balance: 1/2)")
    for ax in (left, right):
        ax.set_xlabel("steps of the generator")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


@styled
def planes(
    points: Mapping[str, np.ndarray],
    label: np.ndarray | None,
    xlabel: str,
    ylabel: str,
    title: str = "",
) -> Figure:
    """Draw points in the plane, each as the number of its class.

    Args:
        points: for each panel its title and the points (n, 2).
        label: the classes (n,), integers from 0; None draws dots.
        xlabel, ylabel: the names of the axes.
        title: the title of the figure.

    """
    _check_named("planes", points)
    figure, (line,) = panels(1, len(points), (5.2, 4.8))
    for ax, (name, xy) in zip(line, points.items(), strict=True):
        if label is None:
            ax.scatter(*np.transpose(xy), s=8, color=COLORS[0], alpha=0.6)
        else:
            scatter_digits(ax, xy, label, size=40)
        ax.set_title(name)
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel)
    if title:
        figure.suptitle(title)
    return figure


def scatter_digits(
    ax: Axes, xy: np.ndarray, label: np.ndarray, size: float = 26
) -> None:
    """Draw points xy (n, 2), each as the number `label` (n,) of its class.

    Args:
        ax: the Axes to draw in.
        xy, label: the points, and their classes, integers from 0.
        size: the area of a digit, in square points.

    """
    if not isinstance(ax, Axes):
        raise TypeError(f"scatter_digits: {ax!r} given, Axes expected")
    xy = checks.array("scatter_digits", "xy", xy)
    most = np.iinfo(np.int64).max
    checks.labels("scatter_digits", label, len(xy) if xy.ndim else 0, most)
    checks.number("scatter_digits", "size", size, checks.POSITIVE)
    if xy.shape[1:] != (2,):
        raise ValueError(f"scatter_digits: xy has shape {xy.shape}; (n, 2) expected")
    for value in map(int, np.unique(label)):
        mine = xy[label == value]
        color = DIGIT_COLORS[value % len(DIGIT_COLORS)]
        wide = size * len(str(value)) ** 2  # the same height for more digits
        ax.scatter(mine[:, 0], mine[:, 1], s=wide, marker=f"${value}$", color=color,
                   linewidths=0.1, alpha=0.8)  # fmt: skip


# --- Checks -------------------------------------------------------------------------


def _check_named(owner: str, named: Any) -> None:
    """Raise an error unless this maps at least one name to an array with rows."""
    checks.mapping(owner, "its argument", named)
    if not named:
        raise ValueError(f"{owner}: nothing to draw; pass at least one named array")
    for name, x in named.items():
        if not hasattr(x, "__len__") or not len(x):
            raise ValueError(f"{owner}: {name!r} is {x!r}; at least one row expected")


def _series(owner: str, **series: Any) -> list[Any]:
    """Return lists of numbers as arrays (n,) of one length, or raise ValueError."""
    found = [checks.array(owner, name, values) for name, values in series.items()]
    for name, values in zip(series, found, strict=True):
        if values.ndim != 1 or not len(values) or len(values) != len(found[0]):
            raise ValueError(
                f"{owner}: {name} has shape {values.shape}; expected a list of "
                f"numbers, as long as {next(iter(series))}"
            )
    return found
