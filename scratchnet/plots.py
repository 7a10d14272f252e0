"""The pictures: what was trained, as a person would want to see it.

Every function returns a matplotlib Figure and shows nothing; `save` writes it. The
style is a context around each drawing, so that nobody's own settings change.
"""

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
    figure = Figure(figsize=(size[0] * columns, size[1] * rows))
    return figure, figure.subplots(rows, columns, squeeze=False, **layout)


def save(figure: Figure, path: str | Path) -> Path:
    """Write `figure` to `path`, as PNG or what its ending says; return the path."""
    path = Path(path)
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
    x = np.asarray(x)
    if x.ndim == 2:
        return x
    side = round(x.size**0.5)
    if side * side != x.size:
        raise ValueError(
            f"plots: {x.size} pixels are no square picture; pass (rows, columns)"
        )
    return x.reshape(side, side)


@styled
def picture_rows(rows: Mapping[str, Sequence[ArrayLike]], notes: str = "") -> Figure:
    """Draw rows of small pictures, each with its name on the left.

    Args:
        rows: for each row its name and n pictures, each (d,) or (rows, columns), with
            0 for paper and 1 for ink.
        notes: a line below.

    """
    n = max(len(pictures) for pictures in rows.values())
    figure = Figure(
        figsize=(1.6 + 0.8 * n, 0.86 * len(rows) + (0.35 if notes else 0.1))
    )
    axes = figure.subplots(len(rows), n, squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for ax, picture in zip(line, pictures, strict=True):
            ax.imshow(as_image(picture), vmin=0, vmax=1)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.grid(False)
            for spine in ax.spines.values():
                spine.set_visible(True)
                spine.set_color("#CCCCCC")
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
    if notes:
        figure.supxlabel(notes, fontsize=10)
    return figure


@styled
def loss_curve(
    train: Sequence[float],
    held_out: Sequence[float] = (),
    references: Mapping[str, float] | None = None,
    ylabel: str = "squared error per image",
) -> Figure:
    """Draw the loss after each epoch, on a logarithmic axis.

    Args:
        train: the mean loss in epoch 1, 2, ...
        held_out: the same for data not trained on.
        references: names and values of horizontal lines to compare with.
        ylabel: what the loss is.

    """
    figure = Figure(figsize=(6.4, 4))
    ax = figure.subplots()
    epochs = np.arange(1, len(train) + 1)
    marker = "o" if len(train) < 40 else ""
    ax.plot(epochs, train, color=COLOURS[0], marker=marker, ms=4, label="training")
    if len(held_out):
        ax.plot(epochs, held_out, color=COLOURS[1], marker=marker, ms=4, ls="--",
                label="held out")  # fmt: skip
    for (name, value), colour in zip(
        (references or {}).items(), COLOURS[2:], strict=False
    ):
        ax.axhline(value, color=colour, ls=":")
        ax.annotate(name, (1, value), (0, 4), xycoords=("axes fraction", "data"),
                    textcoords="offset points", ha="right", color=colour)  # fmt: skip
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.set_ylabel(ylabel)
    ax.legend(loc="upper right", bbox_to_anchor=(1, 0.98))
    return figure


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
    figure = Figure(figsize=(5.2 * len(points), 4.8))
    for ax, (title, xy) in zip(figure.subplots(1, len(points), squeeze=False)[0],
                               points.items(), strict=True):  # fmt: skip
        _draw_digits(ax, xy, label)
        ax.set_title(title)
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel)
    return figure


def _draw_digits(ax: Axes, xy: np.ndarray, label: np.ndarray) -> None:
    for digit, colour in enumerate(DIGIT_COLOURS):
        mine = xy[label == digit]
        ax.scatter(mine[:, 0], mine[:, 1], s=26, marker=f"${digit}$", color=colour,
                   linewidths=0.1, alpha=0.8)  # fmt: skip
