"""An autoencoder compresses a digit to 12 bytes; PCA rounded alike needs 3 times that.

The lecture: 오토인코더란? 데이터 압축. "입력 데이터를 압축하고, 재구성" (it compresses
the input and reconstructs it). This demo measures, on held-out digits, the squared
error of the reconstruction against the bytes per picture. Each number of a code is
rounded to 6 bits, so 16 numbers are 12 bytes. The baselines are

- PCA, the best linear code, with its numbers rounded alike and its pictures clipped to
  [0, 1];
- PCA whose numbers have different numbers of bits, more where the variance is larger,
  as image formats do it (reverse water-filling: Cover & Thomas 2006, section 10.3.3);
  it needs 2.4 times the bytes;
- zlib, which keeps every pixel.

Only the code is counted. The decoder and PCA's components are stored once.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from demos._demo import Demo, main
from scratchnet import backend, byhand, plots
from scratchnet.data.digits import draw_digits
from scratchnet.metrics import PCA, reconstruction_error
from scratchnet.optim import hold_then_decay
from scratchnet.training import fit

CODES = (2, 4, 8, 16, 32)  # numbers
MAIN = 16  # the code of the claims
BITS = 6  # of each number
COARSE = 4  # bits, for comparison
COMPONENTS = 128  # of PCA, at most
TAIL = 0.002  # the part of the codes beyond either end of the levels
STEPS = np.geomspace(4, 0.3, 16)  # distances of levels, where bits are chosen
SHOWN = (2, 3, 4, 5, 7, 8)  # the digits in the picture
GAP = 1  # pixels of line between pictures
SIDE = 28  # pixels
CUT = slice(3, -3)  # rows and columns shown; the rest is empty paper
BLUE, ORANGE, GREEN = plots.COLORS[:3]
GRAY = "#555555"

ALT = (
    "Error against bytes per picture: the autoencoder's curve lies below both curves "
    "of PCA, and zlib is far to the right."
)
ALT_DIGITS = (
    "Six digits and their reconstructions: with 6 bytes the autoencoder's are sharp, "
    "PCA's are blurred."
)

Round = Callable[[np.ndarray], np.ndarray]


class Curve(NamedTuple):
    """The error of a method against the bytes per picture.

    Attributes:
        sizes: bytes per picture, ascending.
        errors: the squared errors per picture.

    """

    sizes: np.ndarray
    errors: np.ndarray


def rounding(known: np.ndarray, bits: int | np.ndarray) -> Round:
    """Return a function that rounds codes (n, k) to 2^bits levels per number.

    The levels of a number divide the range of its values in the known codes (m, k)
    evenly. Values outside get the level next to them.

    Args:
        known: the codes of the training pictures.
        bits: of every number, or of each (k,). A number of 0 bits is constant.

    """
    low, high = np.quantile(known, [TAIL, 1 - TAIL], axis=0)
    levels = 2.0**bits
    step = (high - low) / levels

    def to_levels(z: np.ndarray) -> np.ndarray:
        level = np.clip(np.floor((z - low) / step), 0, levels - 1)
        rounded: np.ndarray = low + (level + 0.5) * step
        return rounded.astype(z.dtype)

    return to_levels


def bytes_of(numbers: Sequence[int]) -> np.ndarray:
    """Return the bytes of codes of so many numbers of `BITS` bits."""
    return np.asarray(numbers) * BITS / 8


def pca_errors(pca: PCA, z: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the squared error per row of x with 0, 1, ..., k components.

    Args:
        pca: the components and the mean.
        z: the codes (n, k) of x, rounded or not.
        x: the pictures (n, pixels); reconstructions are clipped to [0, 1].

    """
    x_hat = np.tile(pca.mean_, (len(x), 1))
    errors = [reconstruction_error(x, np.clip(x_hat, 0, 1))]
    for numbers, component in zip(z.T, pca.components_, strict=True):
        x_hat += np.outer(numbers, component)
        errors.append(reconstruction_error(x, np.clip(x_hat, 0, 1)))
    return np.array(errors)


def chosen_bits(known: np.ndarray, step: float) -> np.ndarray:
    """Return the bits of each number (k,), so that all levels are about `step` apart.

    A number whose range is smaller than a step gets no bits.
    """
    low, high = np.quantile(known, [TAIL, 1 - TAIL], axis=0)
    return np.maximum(np.round(np.log2((high - low) / step)), 0)


def chosen_curve(pca: PCA, known: np.ndarray, z: np.ndarray, x: np.ndarray) -> Curve:
    """Return the curve of PCA with bits chosen for each number.

    Args:
        pca: the components and the mean.
        known: the codes of the training pictures.
        z: the codes (n, k) of x.
        x: the pictures (n, pixels).

    """
    sizes, errors = [], []
    for step in STEPS:
        bits = chosen_bits(known, step)
        rounded = rounding(known, bits)(z) * (bits > 0)
        x_hat = np.clip(pca.inverse_transform(rounded), 0, 1)
        sizes.append(bits.sum() / 8)
        errors.append(reconstruction_error(x, x_hat))
    return Curve(np.array(sizes), np.array(errors))


def needed(curve: Curve, error: float) -> float:
    """Return the bytes at which a curve falls to this error, between two points too.

    Raises:
        ValueError: the whole curve is above it.

    """
    if curve.errors.min() > error:
        raise ValueError(
            f"compression: {curve.sizes[-1]:g} bytes have an error of "
            f"{curve.errors[-1]:.3g}, more than {error:.3g}; use more bytes"
        )
    return float(np.interp(-error, -curve.errors, curve.sizes))


def zlib_bytes(x: np.ndarray) -> float:
    """Return the mean bytes per picture after zlib, for pixels of one byte."""
    pixels = np.round(255 * x).astype(np.uint8)
    return float(np.mean([len(zlib.compress(row.tobytes(), 9)) for row in pixels]))


def tiles(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Join columns of pictures (rows, pixels) in one picture, with grey lines."""
    pictures = [
        [x[CUT, CUT] for x in column.reshape(-1, SIDE, SIDE)] for column in columns
    ]
    ruled = np.pad(pictures, ((0, 0), (0, 0), (0, GAP), (0, GAP)), constant_values=0.15)
    return np.vstack(np.concatenate(ruled, axis=2))[:-GAP, :-GAP]


@plots.styled
def draw_errors(curves: dict[str, Curve], lossless: float, constant: float) -> Any:
    """Draw the error against the bytes of the code.

    Args:
        curves: the bytes and the errors of each method; the autoencoder is first.
        lossless: bytes per picture of zlib.
        constant: the error of the mean picture.

    """
    figure, ((ax,),) = plots.panels(size=(7.4, 5.4))
    for (name, curve), color, marker, line in zip(
        curves.items(), (BLUE, ORANGE, GREEN), "os^", ("-", "-", "--"), strict=True
    ):
        every = max(1, len(curve.sizes) // 8)
        ax.plot(*curve, color=color, marker=marker, ls=line, ms=7, markevery=every,
                label=name)  # fmt: skip
    ax.axhline(constant, color=GRAY, ls="-.", lw=1.5)
    ax.annotate("the mean picture", (1, constant), (0, 5), color=GRAY,
                textcoords="offset points")  # fmt: skip
    ax.axvline(lossless, color=GRAY, ls=":")
    ax.annotate(f"zlib: {lossless:.0f} bytes, no error", (lossless, 8), (-5, 0),
                textcoords="offset points", color=GRAY, rotation=90, ha="right",
                va="center")  # fmt: skip
    auto, pca, *_ = curves.values()
    start = MAIN * BITS / 8
    error = float(np.interp(start, *auto))
    end = needed(pca, error)
    ax.annotate("", (end, error), (start, error),
                arrowprops={"arrowstyle": "-|>", "color": "black", "shrinkA": 6,
                            "shrinkB": 0})  # fmt: skip
    ax.annotate(f"{start:g} bytes", (start, error), (-8, -6),
                textcoords="offset points", ha="right", va="top")  # fmt: skip
    ax.annotate(f"{end:.0f} bytes", (end, error), (4, 2), textcoords="offset points",
                va="bottom")  # fmt: skip
    ax.set(xscale="log", yscale="log", xlim=(0.65, 256), ylim=(0.8, 48))
    for axis in (ax, top := ax.secondary_xaxis("top")):
        axis.set_xticks(2 ** np.arange(9))
        axis.minorticks_off()
    ax.set_yticks([1, 2, 5, 10, 20, 40])
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    top.xaxis.set_major_formatter(lambda size, _: f"{SIDE**2 / size:.0f}")
    top.tick_params(which="both", length=0)
    top.spines["top"].set_visible(False)
    ax.set_xlabel("bytes per picture")
    ax.set_ylabel("squared error per picture")
    top.set_xlabel(f"compression ({SIDE**2} pixels of one byte / bytes)")
    ax.legend(loc="lower left")
    return figure


@plots.styled
def draw_pictures(
    original: np.ndarray,
    blocks: dict[str, tuple[Sequence[np.ndarray], Sequence[float]]],
    sizes: Sequence[float],
) -> Any:
    """Draw digits, one in each row, and their reconstructions from each code.

    Args:
        original: the digits (rows, pixels).
        blocks: for each method a column (rows, pixels) for each code, and the mean
            errors.
        sizes: the bytes of each code.

    """
    sheets = [tiles([original]), *(tiles(columns) for columns, _ in blocks.values())]
    widths = [sheet.shape[1] for sheet in sheets]
    size = (0.3 * sum(widths) / widths[0], 6.4)
    figure, (axes,) = plots.panels(1, len(sheets), size=size, width_ratios=widths)
    for ax, sheet in zip(axes, sheets, strict=True):
        ax.imshow(sheet, vmin=0, vmax=1)
        ax.grid(False)
        ax.tick_params(length=0, labelleft=False)
        ax.spines[:].set(visible=True, color="#CCCCCC")
    axes[0].set_title("original", weight="bold", pad=26)
    axes[0].set_xticks([])
    for ax, (name, (_, errors)), color in zip(
        axes[1:], blocks.items(), (BLUE, ORANGE), strict=True
    ):
        middles = (widths[1] + GAP) * (np.arange(len(sizes)) + 0.5) / len(sizes) - GAP
        ax.set_title(f"{name}, bytes", color=color, weight="bold", pad=26)
        ax.set_xticks(middles, [f"{error:.1f}" for error in errors])
        ax.set_xlabel("squared error per picture")
        for x, size in zip(middles, sizes, strict=True):
            ax.text(x, -2, f"{size:g}", ha="center", va="bottom")
    return figure


def train(demo: Demo, x: np.ndarray) -> dict[int, byhand.Autoencoder]:
    """Return an autoencoder for each length of the code, trained on x (n, pixels).

    A run that draws no figures needs only the code of the claims.
    """
    epochs, batch = demo.choose((20, 100), (8, 50))
    rate = hold_then_decay(demo.choose(2e-3, 5e-3), epochs * len(x) // batch)
    models = {}
    for k in demo.choose(CODES, (4, MAIN)) if demo.draws else (MAIN,):
        init_rng, shuffle_rng = backend.streams(demo.seed + 1000 * k, 2)
        sizes = (x.shape[1], *demo.choose((256, 128), (256,)), k)
        models[k] = byhand.Autoencoder(sizes, rng=init_rng, batch_size=batch, lr=rate)
        fit(models[k], x, epochs=epochs, batch_size=batch, rng=shuffle_rng)
    return models


def claims(
    demo: Demo, curves: dict[str, Curve], rise: dict[int, float], constant: float
) -> None:
    """Claim what the curves show at the code of MAIN numbers.

    Args:
        demo: the run.
        curves: of the autoencoder, and of both forms of PCA.
        rise: of the error by rounding, in %, by the number of bits.
        constant: the error of the mean picture.

    """
    auto, pca, chosen = curves.values()
    size = MAIN * BITS / 8
    error = float(np.interp(size, *auto))
    by_pca, by_chosen = needed(pca, error), needed(chosen, error)
    demo.claim(
        f"rise of the error by rounding {MAIN} numbers to {BITS} bits (%)",
        rise[BITS],
        at_most=3,
        baseline={f"to {COARSE} bits": rise[COARSE]},
    )
    demo.claim(
        f"squared error per picture of {size:g} bytes",
        error,
        at_most=demo.choose(3.5, 6),
        baseline={
            "PCA": float(np.interp(size, *pca)),
            "PCA, bits chosen": float(np.interp(size, *chosen)),
            "the mean picture": constant,
        },
    )
    demo.claim(
        f"bytes of PCA for the same error / {size:g}",
        by_pca / size,
        at_least=demo.choose(3, 1.9),
        baseline={"bytes of PCA / bytes of PCA, bits chosen": by_pca / by_chosen},
    )
    demo.measure(f"bytes of PCA, bits chosen, for the same error / {size:g}",
                 by_chosen / size)  # fmt: skip


def run(demo: Demo) -> None:
    """Train an autoencoder for each length of the code, and compare with PCA."""
    data_rng, held_out_rng = backend.streams(demo.seed, 2)
    known = draw_digits(demo.choose(20_000, 4_000), data_rng).x
    held_out = draw_digits(2_000, held_out_rng)
    x = held_out.x
    shown = x[[int(np.argmax(held_out.label == digit)) for digit in SHOWN]]

    exact, errors, columns, rise = {}, {}, [], {}
    for k, model in train(demo, known).items():
        z, codes = model.encode(x), model.encode(known)
        exact[k] = reconstruction_error(x, model.reconstruct(x))
        to_levels = rounding(codes, BITS)
        errors[k] = reconstruction_error(x, model.decode(to_levels(z)))
        columns.append(model.decode(to_levels(model.encode(shown))))
        demo.say(f"  {k:2} numbers: error {exact[k]:5.2f}, rounded {errors[k]:5.2f}")
        if k == MAIN:
            coarse = model.decode(rounding(codes, COARSE)(z))
            rise = {
                BITS: 100 * (errors[k] / exact[k] - 1),
                COARSE: 100 * (reconstruction_error(x, coarse) / exact[k] - 1),
            }
    pca = PCA(COMPONENTS).fit(known)
    z, codes = pca.transform(x), pca.transform(known)
    to_levels = rounding(codes, BITS)
    of_pca = pca_errors(pca, to_levels(z), x)
    curves = {
        f"autoencoder, {BITS} bits a number": Curve(
            bytes_of([*errors]), np.array([*errors.values()])
        ),
        f"PCA, {BITS} bits a number": Curve(
            bytes_of(range(1, COMPONENTS + 1)), of_pca[1:]
        ),
        "PCA, bits chosen for each number": chosen_curve(pca, codes, z, x),
    }
    lossless = zlib_bytes(x)
    claims(demo, curves, rise, of_pca[0])
    demo.measure("bytes per picture of zlib, without error", lossless)
    demo.save(draw_errors(curves, lossless, of_pca[0]), alt=ALT)
    z = to_levels(pca.transform(shown))
    by_pca = [np.clip(z[:, :k] @ pca.components_[:k] + pca.mean_, 0, 1) for k in errors]
    blocks = {
        "autoencoder": (columns, [*errors.values()]),
        "PCA": (by_pca, of_pca[[*errors]]),
    }
    demo.save(
        draw_pictures(shown, blocks, bytes_of([*errors])),
        "digits",
        alt=ALT_DIGITS,
    )


if __name__ == "__main__":
    main(__name__)
