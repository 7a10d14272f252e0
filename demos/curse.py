"""In many dimensions distances carry little information; a short code restores it.

The lecture: 차원의 저주. "차원이 높아질수록, 데이터간의 공간이 커짐" (the space between
data grows with the dimension), "데이터가 존재할 공간에 비해 데이터의 밀도가 낮아지는
문제" (the density of the data falls), so methods that use distances get worse;
"오토인코더는 특징의 개수를 줄임으로써 데이터 차원 축소 가능" (an autoencoder reduces
the dimension).

Measured and compared with theory, for random points in a cube: the distance to the
nearest and the farthest point, their contrast (max - min) / min, and the share of the
cube near its centre. Then dimensions of pure noise are added to digits: how often does
the nearest neighbour show the same digit, if it is found in all dimensions, or among
the codes of an autoencoder that was trained on the same noisy vectors without labels?
PCA's codes are drawn too. They also help, because any short code does.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from demos._demo import Demo, main
from scratchnet import backend, byhand, plots
from scratchnet.data.digits import draw_digits
from scratchnet.metrics import (
    PCA,
    expected_contrast,
    knn_accuracy,
    nearest_distance,
    relative_contrast,
)
from scratchnet.training import fit

POINTS = 1000
DIMENSIONS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
NORMAL_FROM = 20  # dimensions; the theory of the contrast holds from here on
SIDE = 16  # pixels
CODE = 8  # numbers
LABELLED = 1000  # digits among which neighbours are found
SHOWN = 3  # the digit in the picture
BATCH = 50
BLUE, ORANGE = plots.COLORS[:2]
GRAY = "#666666"


# --- Random points ------------------------------------------------------------------


def measured_distances(
    d: int, rng: np.random.Generator, queries: int = 100
) -> tuple[float, float, float]:
    """Return the mean nearest distance, farthest distance and contrast.

    POINTS points and the queries are uniform in the unit cube of d dimensions.
    """
    x, q = rng.random((POINTS, d)), rng.random((queries, d))
    near, contrast = nearest_distance(q, x), relative_contrast(x, q)
    return np.mean(near), np.mean(near * (1 + contrast)), np.mean(contrast)


def ball_in_cube(d: float) -> float:
    """Return the share of a cube that its largest ball fills, in d dimensions.

    The ball of radius 1 has π^(d/2) / Γ(d/2 + 1), the cube around it 2^d.
    """
    return math.exp(d / 2 * math.log(math.pi / 4) - math.lgamma(d / 2 + 1))


def measured_share(d: int, n: int, rng: np.random.Generator) -> float:
    """Return the share of n random points of the cube that lie in its ball."""
    return float(np.mean(np.sum((rng.random((n, d)) - 0.5) ** 2, axis=1) <= 0.25))


@plots.styled
def draw_distances(
    near: np.ndarray, far: np.ndarray, contrast: np.ndarray, shares: dict[int, float]
) -> Any:
    """Draw how distances, density and contrast change with the dimension.

    Args:
        near, far, contrast: the means at DIMENSIONS.
        shares: the share of the ball in the cube, by dimension.

    """
    figure, ((space, density, alike),) = plots.panels(1, 3, size=(3.4, 3.4))
    d = np.array(DIMENSIONS)
    theory = {"color": "black", "ls": "--", "lw": 1.5, "label": "theory"}
    measured = {"color": BLUE, "ms": 7, "ls": "", "label": "measured"}
    note = {"color": BLUE, "textcoords": "offset points"}

    space.fill_between(d, near, far, color=BLUE, alpha=0.15, lw=0)
    space.plot(d, far, **measured | {"marker": "v"})
    space.plot(d, near, **measured | {"marker": "^"})
    (root,) = space.plot(d, np.sqrt(d / 6), **theory)
    space.legend([root], ["root mean\nsquare, √(d/6)"], loc="lower right")
    space.annotate(f"farthest of {POINTS:,}", (1, far[0]), (-4, 28), **note)
    space.annotate("nearest", (5, near[2]), (10, -10), **note)
    space.set_title("The space between points grows")
    space.set_ylabel("distance (sides of the cube)")

    smooth = np.linspace(1, max(shares), 100)
    density.plot(list(shares), list(shares.values()), marker="o", **measured)
    density.plot(smooth, [ball_in_cube(t) for t in smooth], **theory)
    density.legend(loc="upper right")
    density.annotate(f"1 point of {1 / shares[10]:.0f}", (10, shares[10]), (-12, -4),
                     ha="right", **note)  # fmt: skip
    density.set_xticks(range(2, max(shares) + 1, 2))
    density.set_title("The density of points falls")
    density.set_ylabel("share within ½ of the centre")

    normal = d[d >= NORMAL_FROM]
    alike.plot(d, contrast, marker="o", **measured)
    alike.plot(normal, [expected_contrast(POINTS, t, "uniform") for t in normal],
               **theory)  # fmt: skip
    alike.legend(loc="upper right")
    alike.annotate(f"{100 * contrast[-1]:.0f} %", (d[-1], contrast[-1]), (0, 12),
                   ha="center", **note)  # fmt: skip
    alike.set_title("Near and far become alike")
    alike.set_ylabel("(farthest − nearest) / nearest")
    for ax in (space, density, alike):
        ax.set_xlabel("dimensions d")
        ax.set_yscale("log")
    for ax in (space, alike):
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
    return figure


def compare_distances(demo: Demo) -> None:
    """Compare random points with theory."""
    (rng,) = backend.streams(demo.seed, 1)
    near, far, contrast = np.transpose([measured_distances(d, rng) for d in DIMENSIONS])
    shares = {
        d: measured_share(d, demo.choose(1_000_000, 200_000), rng) for d in range(1, 12)
    }
    theory = [expected_contrast(POINTS, d, "uniform") for d in DIMENSIONS]
    off = [
        abs(c / t - 1)
        for d, c, t in zip(DIMENSIONS, contrast, theory, strict=True)
        if d >= NORMAL_FROM
    ]
    hundred = DIMENSIONS.index(100)
    demo.claim(
        f"nearest of {POINTS} points in 100 dimensions, in sides of the cube",
        near[hundred],
        at_least=2.5,
    )
    demo.claim(
        f"contrast of distances in {DIMENSIONS[-1]} dimensions",
        contrast[-1],
        at_most=0.1,
    )
    demo.claim(
        f"relative difference from theory, {NORMAL_FROM} dimensions and more",
        max(off),
        at_most=0.12,
    )
    demo.claim(
        "share of the ball in the cube, 10 dimensions", shares[10], at_most=0.004
    )
    demo.claim(
        "largest relative difference from theory, 1 to 11 dimensions",
        max(abs(share / ball_in_cube(d) - 1) for d, share in shares.items()),
        at_most=demo.choose(0.15, 0.3),
    )
    demo.save(draw_distances(near, far, contrast, shares))


# --- Digits among noise -------------------------------------------------------------


def with_noise(x: np.ndarray, d: int, rng: np.random.Generator) -> np.ndarray:
    """Append d columns of noise, uniform over the range of a pixel, [0, 1)."""
    return np.hstack([x, rng.random((len(x), d), np.float32)])


def as_picture(row: np.ndarray) -> np.ndarray:
    """Return a square picture of a digit with its noise around it.

    Args:
        row: SIDE² pixels, then noise; numbers that do not fill the square are left out.

    """
    side = math.isqrt(len(row))
    first = (side - SIDE) // 2
    middle = np.zeros((side, side), bool)
    middle[first : first + SIDE, first : first + SIDE] = True
    picture = np.empty((side, side), row.dtype)
    picture[middle] = row[: SIDE**2]
    picture[~middle] = row[SIDE**2 : side**2]
    return picture


@plots.styled
def draw_noise(
    added: Sequence[int],
    accuracy: dict[str, list[float]],
    pictures: dict[str, np.ndarray],
) -> Any:
    """Draw the accuracy against the number of noise dimensions, and one example.

    Args:
        added: numbers of noise dimensions.
        accuracy: the accuracy at `added`, by the space in which neighbours are found.
        pictures: one vector before and after coding, by title.

    """
    figure = Figure(figsize=(7.6, 4.6))
    axes = figure.subplot_mosaic([[0, 2], [1, 2]], width_ratios=(1, 2.2))
    for i, (title, picture) in enumerate(pictures.items()):
        axes[i].imshow(picture, vmin=0, vmax=1)
        axes[i].set_title(title)
        axes[i].set_axis_off()
    ax = axes[2]
    looks = ((ORANGE, "s", "-"), (BLUE, "o", "-"), (GRAY, "^", "--"))
    for (name, values), (color, marker, line) in zip(
        accuracy.items(), looks, strict=True
    ):
        ax.plot(added, 100 * np.array(values), color=color, marker=marker, ls=line,
                ms=7, label=name)  # fmt: skip
    ax.legend(loc="lower left", title="neighbours found among", alignment="left")
    ax.set_xticks([d for d in added if d != 128])
    ax.set_ylim(40, 102)
    ax.set_xlabel(f"dimensions of noise added to {SIDE**2} pixels")
    ax.set_ylabel("nearest neighbour shows the same digit (%)")
    return figure


def compare_neighbors(demo: Demo) -> None:
    """Find neighbours of digits in all dimensions and among codes."""
    *digit_rngs, noise_rng, init_rng, shuffle_rng = backend.streams(demo.seed, 5)
    train = draw_digits(demo.choose(16_000, 6_000), digit_rngs[0], pixels=SIDE)
    test = draw_digits(2_000, digit_rngs[1], pixels=SIDE)
    label = train.label[:LABELLED]
    epochs = demo.choose(15, 10)
    added = demo.choose((0, 128, 256, 512, 1024, 2048), (0, 512, 1024))
    found: list[list[float]] = []
    for d in added:
        x = with_noise(train.x, d, noise_rng)
        held_out = with_noise(test.x, d, noise_rng)
        model = byhand.Autoencoder(
            (SIDE**2 + d, 128, CODE),
            rng=init_rng,
            batch_size=BATCH,
            lr=2e-3,
        )
        fit(model, x, epochs=epochs, batch_size=BATCH, rng=shuffle_rng)
        encoders = (np.copy, model.encode, PCA(CODE).fit(x).transform)
        found.append([
            knn_accuracy(encode(x[:LABELLED]), label, encode(held_out), test.label)
            for encode in encoders
        ])  # fmt: skip
        right = "{:.3f} in all dimensions, {:.3f} in codes, {:.3f} in PCA's codes"
        demo.say(
            f"  {d:4} dimensions of noise: nearest neighbour right "
            + right.format(*found[-1])
        )
    everywhere, coded, pca = map(list, zip(*found, strict=True))
    demo.claim(
        f"nearest neighbour right in all dimensions, {d} of them noise",
        everywhere[-1],
        at_most=demo.choose(0.6, 0.75),
    )
    demo.claim(
        f"nearest neighbour right in codes of {CODE} numbers",
        coded[-1],
        at_least=demo.choose(0.88, 0.85),
    )
    demo.claim(
        "accuracy of the codes, lost to the noise",
        coded[0] - coded[-1],
        at_most=demo.choose(0.08, 0.1),
    )
    accuracy = {
        "all pixels and noise": everywhere,
        f"autoencoder's codes of {CODE}": coded,
        f"PCA's codes of {CODE}": pca,
    }
    shown = held_out[[int(np.argmax(test.label == SHOWN))]]
    pictures = {
        f"a digit and {d:,}\ndimensions of noise": as_picture(shown[0]),
        f"decoded from\nits code of {CODE}": as_picture(model.reconstruct(shown)[0]),
    }
    demo.save(draw_noise(added, accuracy, pictures), "digits")


def run(demo: Demo) -> None:
    """Measure distances of random points, then neighbours of digits."""
    compare_distances(demo)
    compare_neighbors(demo)


if __name__ == "__main__":
    main(__name__)
