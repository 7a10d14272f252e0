"""An autoencoder compresses a digit to a few numbers, with less error than PCA.

The lecture: 오토인코더란? 데이터 압축. "입력 데이터를 압축하고, 재구성" (it compresses
the input and reconstructs it). This demo measures, on held-out digits, the squared
error of the reconstruction for codes of 1 to 32 numbers, for the autoencoder and for
PCA, the best linear code. It also counts the components that PCA needs for the error of
an autoencoder.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from demos._demo import Demo, main
from scratchnet import backend, byhand, plots
from scratchnet.data.digits import draw_digits
from scratchnet.metrics import PCA, reconstruction_error
from scratchnet.optim import hold_then_decay
from scratchnet.training import fit

CODES = (1, 2, 4, 8, 16, 32)  # numbers
COMPONENTS = 128  # of PCA, at most
SHOWN = (2, 3, 4, 5, 7, 8)  # the digits in the picture
GAP = 1  # pixels of line between pictures
SIDE = 28  # pixels
CUT = slice(3, -3)  # rows and columns shown; the rest is empty paper
BLUE, ORANGE = plots.COLORS[:2]
GRAY = "#666666"


def pca_errors(pca: PCA, x: np.ndarray) -> np.ndarray:
    """Return the squared error per row of x with 0, 1, ..., k components.

    The components are orthonormal, so each reduces the error by its own square.
    """
    centered = x - pca.mean_
    squares = np.mean((centered @ pca.components_.T) ** 2, axis=0)
    return np.mean(np.sum(centered**2, axis=1)) - np.cumsum(np.append(0, squares))


def needed(errors: np.ndarray, error: float) -> int:
    """Return the smallest number of components with at most this error.

    Raises:
        ValueError: the error of all of them is larger.

    """
    enough = np.flatnonzero(errors <= error)
    if not len(enough):
        raise ValueError(
            f"compression: {len(errors) - 1} components have an error of "
            f"{errors[-1]:.3g}, more than {error:.3g}; fit more components"
        )
    return int(enough[0])


def tiles(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Join columns of pictures (rows, pixels) in one picture, with grey lines."""
    pictures = [
        [x[CUT, CUT] for x in column.reshape(-1, SIDE, SIDE)] for column in columns
    ]
    ruled = np.pad(pictures, ((0, 0), (0, 0), (0, GAP), (0, GAP)), constant_values=0.15)
    return np.vstack(np.concatenate(ruled, axis=2))[:-GAP, :-GAP]


@plots.styled
def draw_errors(errors: Sequence[float], of_pca: np.ndarray, pixels: int) -> Any:
    """Draw the error against the length of the code."""
    figure, ((ax,),) = plots.panels(size=(7.4, 5))
    ax.plot(range(1, len(of_pca)), of_pca[1:], color=ORANGE)
    ax.plot(CODES, of_pca[list(CODES)], "s", color=ORANGE, ms=7)
    ax.plot(CODES, errors, "o-", color=BLUE, ms=8)
    ax.axhline(of_pca[0], color=GRAY, ls=":", lw=1.5)
    near = {"xytext": (10, 2), "textcoords": "offset points"}
    ax.annotate("the mean image", (40, of_pca[0]), color=GRAY, **near)
    ax.annotate("PCA", (64, of_pca[64]), color=ORANGE, weight="bold", **near)
    near |= {"xytext": (-12, -8), "ha": "right"}
    ax.annotate("autoencoder", (4, errors[2]), color=BLUE, weight="bold", **near)
    for k in (4, 16):
        error = errors[CODES.index(k)]
        m = needed(of_pca, error)
        ax.annotate("", (m, error), (k, error),
                    arrowprops={"arrowstyle": "<|-|>", "color": "black", "lw": 1,
                                "shrinkA": 6, "shrinkB": 0})  # fmt: skip
        ax.text(np.sqrt(k * m), error * 1.05, f"PCA needs {m}", ha="center")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    for axis in (ax, top := ax.secondary_xaxis("top")):
        axis.set_xticks([*CODES, 64, 128])
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    top.xaxis.set_major_formatter(lambda k, _: f"{pixels / k:.0f}")
    top.tick_params(which="both", length=0)
    top.spines["top"].set_visible(False)
    ax.set_xlabel("length of the code (numbers)")
    ax.set_ylabel("squared error per image")
    top.set_xlabel(f"compression ({pixels} pixels / numbers)")
    return figure


@plots.styled
def draw_pictures(
    original: np.ndarray,
    blocks: dict[str, tuple[Sequence[np.ndarray], Sequence[float]]],
) -> Any:
    """Draw digits, one in each row, and their reconstructions from each code.

    Args:
        original: the digits (rows, pixels).
        blocks: for each method a column (rows, pixels) for each of CODES, and the mean
            errors.

    """
    sheets = [tiles([original]), *(tiles(columns) for columns, _ in blocks.values())]
    widths = [sheet.shape[1] for sheet in sheets]
    figure, (axes,) = plots.panels(1, len(sheets), size=(3.9, 6.4), width_ratios=widths)
    for ax, sheet in zip(axes, sheets, strict=True):
        ax.imshow(sheet, vmin=0, vmax=1)
        ax.grid(False)
        ax.tick_params(length=0, labelleft=False)
        ax.spines[:].set(visible=True, color="#CCCCCC")
    axes[0].set_title("original", weight="bold", pad=26)
    axes[0].set_xticks([])
    middles = (widths[1] + GAP) / len(CODES) * (np.arange(len(CODES)) + 0.5) - GAP
    for ax, (name, (_, errors)), color in zip(
        axes[1:], blocks.items(), (BLUE, ORANGE), strict=True
    ):
        ax.set_title(f"{name}, numbers in the code", color=color, weight="bold", pad=26)
        ax.set_xticks(middles, [f"{error:.1f}" for error in errors])
        ax.set_xlabel("mean squared error per image")
        for x, k in zip(middles, CODES, strict=True):
            ax.text(x, -2, k, ha="center", va="bottom")
    return figure


def run(demo: Demo) -> None:
    """Train an autoencoder for each length of the code, and compare with PCA."""
    data_rng, held_out_rng, init_rng, shuffle_rng = backend.streams(demo.seed, 4)
    train = draw_digits(demo.choose(20_000, 4_000), data_rng).x
    held_out = draw_digits(2_000, held_out_rng)
    x = held_out.x
    pixels = x.shape[1]
    pca = PCA(COMPONENTS).fit(train)
    of_pca = pca_errors(pca, x)
    shown = x[[int(np.argmax(held_out.label == digit)) for digit in SHOWN]]
    epochs, batch = demo.choose((18, 100), (8, 50))
    steps = epochs * len(train) // batch
    rate = hold_then_decay(demo.choose(2e-3, 5e-3), steps)
    errors, columns = [], []
    for k in CODES:
        model = byhand.Autoencoder(
            (pixels, *demo.choose((256, 128), (256,)), k),
            rng=init_rng,
            batch_size=batch,
            lr=rate,
        )
        fit(model, train, epochs=epochs, batch_size=batch, rng=shuffle_rng)
        errors.append(reconstruction_error(x, model.reconstruct(x)))
        columns.append(model.reconstruct(shown))
        demo.say(
            f"  {k:2} numbers: autoencoder {errors[-1]:5.2f}, PCA {of_pca[k]:5.2f}, "
            f"which needs {needed(of_pca, errors[-1])} for this error"
        )
    at_codes = of_pca[list(CODES)]
    demo.claim(
        "error of the autoencoder / error of PCA, same length, the largest",
        max(errors / at_codes),
        at_most=demo.choose(0.8, 0.99),
    )
    demo.claim(
        "error / error with half as many numbers, the largest",
        max(np.divide(errors[1:], errors[:-1])),
        at_most=demo.choose(0.85, 0.95),
    )
    demo.claim(
        "numbers that PCA needs for the error of 16 / 16",
        needed(of_pca, errors[CODES.index(16)]) / 16,
        at_least=demo.choose(3.5, 1.7),
    )
    demo.save(draw_errors(errors, of_pca, pixels))
    z = pca.transform(shown)
    by_pca = [z[:, :k] @ pca.components_[:k] + pca.mean_ for k in CODES]
    blocks = {"autoencoder": (columns, errors), "PCA": (by_pca, at_codes)}
    demo.save(draw_pictures(shown, blocks), "digits")


if __name__ == "__main__":
    main(__name__)
