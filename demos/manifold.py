"""Pictures lie on a thin sheet in the space of pixels; a code is a place on it.

The lecture: 매니폴드. "고차원 공간에 내재한 저차원 공간" (a space of few dimensions
inside one of many), and "매니폴드 학습은 고차원 공간의 데이터를 잘 표현할 수 있는
저차원 공간으로 맵핑시키는 함수를 찾는 과정" (manifold learning finds the map to it).

Measured on held-out data, each number next to what simpler things get:

- Intrinsic dimension: TwoNN estimates how many dimensions the data need. A roll in
  space needs 2. Pictures of one digit in which k factors vary need about k, and drawn
  digits about 11 of 784. Baselines: the dimensions that PCA needs, and data without a
  manifold (a filled box, normal data of the same covariance, shuffled pixels).
- A Swiss roll is a sheet rolled up in space. Its flat coordinates are known (length
  along the spiral, height), so R² says how much of them a code of two numbers contains.
  A plain autoencoder fails: it cuts the roll into pieces. One that is trained in an
  order, from one end of the roll to the other, unrolls it. The order comes from hops
  between neighbours, as in Isomap, and does the work: it contains the length, and with
  the height, an axis of the space, it is a better code than the network's.
- Walks on the digits' manifold: from the code of a digit, in the direction in which
  rotation (or thickness, or size) grows among its neighbours and the other factors
  stay. A supervised network measures the factors of the pictures on the walk, and the
  ends are compared with the same handwriting, drawn with that factor. Baselines: the
  same walk with the codes of PCA, and no walk.
- The midpoint of two pictures of one digit that differ by a turn. The true midpoint is
  known: the digit turned half as far. Baselines: the mean of the pixels, that mean
  through the autoencoder, and the midpoint of PCA's codes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from demos._demo import Demo, main
from demos._ruler import Ruler
from scratchnet import backend, plots
from scratchnet.byhand import Autoencoder
from scratchnet.data.digits import RANGE, Digits, draw_digits
from scratchnet.data.mixtures import swiss_roll
from scratchnet.metrics import (
    PCA,
    intrinsic_dimension,
    linear_probe,
    nearest_neighbors,
    ssim,
)
from scratchnet.optim import hold_then_decay
from scratchnet.training import fit

BATCH = 100
# --- Intrinsic dimension ------------------------------------------------------------

VARIED = ("rotation", "thickness", "size", "slant")  # one after the other
HELD = {"label": 3, "rotation": 0.0, "thickness": 0.09, "size": 0.53, "slant": 0.05,
        "shift": (0.0, 0.0)}  # fmt: skip
EXPLAINED = 0.95  # of the variance


def one_digit(k: int, n: int, seed: int) -> np.ndarray:
    """Return n pictures (n, pixels) of one handwritten 3 in which k factors vary."""
    (rng,) = backend.streams(seed, 1)
    varied = {name: rng.uniform(*RANGE[name], n) for name in VARIED[:k]}
    return np.concatenate([
        # The same random numbers each time: the same handwriting.
        draw_digits(1, np.random.default_rng(seed),
                    **HELD | {name: float(v[i]) for name, v in varied.items()}).x
        for i in range(n)
    ])  # fmt: skip


def linear_dimension(x: np.ndarray) -> int:
    """Return how many components of PCA have EXPLAINED of the variance of x (n, d)."""
    variance = PCA(min(x.shape)).fit(x).explained_variance_
    return int(np.searchsorted(np.cumsum(variance) / variance.sum(), EXPLAINED)) + 1


def without_manifold(x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return data like x (n, d) in simple statistics, but without its manifold."""
    values, vectors = np.linalg.eigh(np.cov(x.T))
    normal = rng.standard_normal(x.shape) * np.sqrt(np.maximum(values, 0))
    return {
        "normal data, same covariance": normal @ vectors.T,
        "shuffled pixels": rng.permuted(x, axis=0),
    }


@plots.styled
def draw_dimensions(
    known: dict[int, tuple[float, int]], digits: dict[str, float]
) -> Any:
    """Draw intrinsic dimensions.

    Args:
        known: for k factors that vary: the dimension by TwoNN and by PCA.
        digits: dimensions of drawn digits, and of what they are compared with.

    """
    figure, ((left, right),) = plots.panels(1, 2, (3.8, 3.2))
    k = list(known)
    two_nn, linear = zip(*known.values(), strict=True)
    left.plot(k, linear, "s--", color=plots.COLORS[1], label="PCA, 95 % of variance")
    left.plot(k, two_nn, "o-", color=plots.COLORS[0], label="TwoNN")
    left.plot(k, k, ":", color="black", label="factors that vary")
    left.set_xticks(k)
    left.set_ylim(0, 1.6 * max(linear))
    left.set_title("One digit, k factors vary")
    left.set_xlabel("k, number of factors")
    left.set_ylabel("dimension")
    left.legend(loc="upper left", fontsize=9)
    names = [name.replace(", ", ",\n") for name in digits]
    values = list(digits.values())
    right.barh(names, values, color=[plots.COLORS[0]] + ["#AAAAAA"] * (len(names) - 1))
    for i, value in enumerate(values):
        right.annotate(f"{value:.0f}", (value, i), (4, 0), va="center",
                       textcoords="offset points")  # fmt: skip
    right.set_xscale("log")
    right.set_xlim(1, 3000)
    right.xaxis.set_major_formatter("{x:g}")
    right.grid(axis="y", visible=False)
    right.set_title("Drawn digits")
    right.set_xlabel("dimension")
    return figure


def dimensions(demo: Demo) -> None:
    """Claim that the roll and digits need fewer dimensions than they are given in."""
    rng = backend.streams(demo.seed + 5, 1)[0]
    points, _ = swiss_roll(demo.choose(4000, 2000), rng)
    box = rng.uniform(points.min(axis=0), points.max(axis=0), points.shape)
    demo.claim(
        "dimension of the roll in space (its sheet has 2)",
        intrinsic_dimension(points),
        at_least=1.8, at_most=2.2,
        baseline={"PCA, 95 % of variance": linear_dimension(points),
                  "a filled box of that size": intrinsic_dimension(box)},
    )  # fmt: skip
    known = {}
    for k in range(1, len(VARIED) + 1):
        # Two angles may be so near that the pictures are equal: one is enough.
        x = np.unique(one_digit(k, demo.choose(1000, 400), demo.seed), axis=0)
        known[k] = intrinsic_dimension(x), linear_dimension(x)
        demo.say("  {} factors vary: dimension {:.2f}, {} by PCA".format(k, *known[k]))
    demo.claim(
        "pictures of one digit, dimension / number of factors, farthest from 1",
        max((two_nn / k for k, (two_nn, _) in known.items()), key=off),
        at_least=0.75, at_most=1.25,
        baseline={"PCA, 95 % of variance, nearest to 1":
                  min((linear / k for k, (_, linear) in known.items()), key=off)},
    )  # fmt: skip
    x = draw_digits(demo.choose(4000, 1500), rng).x
    others = without_manifold(x, rng)
    digits: dict[str, float] = {
        "drawn digits": intrinsic_dimension(x),
        **{name: intrinsic_dimension(data) for name, data in others.items()},
        "PCA, 95 % of variance": linear_dimension(x),
        "pixels": x.shape[1],
    }
    demo.claim(
        "dimension of drawn digits",
        digits["drawn digits"],
        at_most=16,
        baseline=dict(list(digits.items())[1:]),
    )
    demo.save(
        draw_dimensions(known, digits),
        "dimension",
        alt="The estimated dimension of pictures of one digit is about the number of "
        "factors that vary; that of drawn digits is about 11, far below all baselines.",
    )


def off(ratio: float) -> float:
    """Return how far a ratio is from 1."""
    return abs(ratio - 1)


# --- The Swiss roll -----------------------------------------------------------------

STAGES = 50  # of training, each on a longer part of the roll


def hops(x: np.ndarray, start: int, k: int = 8) -> np.ndarray:
    """Return the number of steps between neighbours from x[start] to each point, (n,).

    The neighbours of a point are the k nearest. The steps follow the sheet, as in
    Isomap (Tenenbaum et al. 2000), where the straight line would leave it.

    Raises:
        ValueError: the points are in several pieces.

    """
    neighbours = nearest_neighbors(x, k=k)
    steps = np.full(len(x), -1)
    steps[start] = 0
    step = 0
    while (steps < 0).any():
        step += 1
        new = (steps[neighbours] >= 0).any(axis=1) & (steps < 0)
        if not new.any():
            raise ValueError(f"hops: not all points are reached with {k} neighbours")
        steps[new] = step
    return steps


def from_one_end(x: np.ndarray) -> np.ndarray:
    """Return the number of steps between neighbours from an end of the roll, (n,)."""
    end = int(hops(x, 0).argmax())  # the point farthest from x[0] is at an end
    return hops(x, end)


def unroll(demo: Demo, x: np.ndarray, order: np.ndarray | None) -> Autoencoder:
    """Train an autoencoder with a code of two on the roll x (n, 3).

    Args:
        demo: gives the number of steps and the seed.
        x: the points, of mean 0 and standard deviation about 1.
        order: numbers (n,). The first half of the steps train on a part of the roll
            that starts at the lowest number and grows. Without an order, every step
            uses all points.

    """
    init, shuffle = backend.streams(demo.seed + 1, 2)
    steps = demo.choose(20_000, 4000)
    model = Autoencoder(
        (3, 64, 64, 2), rng=init, batch_size=BATCH, activation="tanh", output="linear",
        lr=hold_then_decay(4e-3, steps),
    )  # fmt: skip
    parts = [len(x)]
    if order is not None:
        x = x[np.argsort(order, kind="stable")]
        parts = [len(x) * (i + 1) // STAGES for i in range(STAGES)] + parts
    done = 0
    for i, n in enumerate(tqdm(parts, unit="part", disable=None)):
        until = steps if i == len(parts) - 1 else steps // 2 * (i + 1) // STAGES
        epoch = -(-n // BATCH)  # steps
        epochs = max(1, (until - done) // epoch)
        fit(model, x[:n], epochs=epochs, batch_size=min(n, BATCH),
            rng=shuffle, progress=False)  # fmt: skip
        done += epochs * epoch
    return model


@plots.styled
def draw_roll(
    x: np.ndarray, codes: dict[str, np.ndarray], r2: dict[str, float], s: np.ndarray
) -> Any:
    """Draw the roll x (n, 3) and the codes (n, 2), coloured by length s (n,)."""
    figure, axes = plots.panels(2, 2, (3.8, 3.4))
    axes[0, 0].remove()
    space = figure.add_subplot(2, 2, 1, projection="3d")
    space.scatter(*x.T, c=s, s=4, cmap="viridis", alpha=1)
    space.view_init(12, -70)
    space.set_box_aspect((1, 1, 0.85), zoom=1.1)
    for axis in (space.xaxis, space.yaxis, space.zaxis):
        axis.set_ticklabels([])
        axis.set_pane_color((1, 1, 1))
    space.set_title("the roll, points in space")
    for ax, (name, z) in zip(axes.flat[1:], codes.items(), strict=True):
        dots = ax.scatter(*z.T, c=s, s=5, cmap="viridis")
        ax.set_title(f"{name}\nflat position, R² = {r2[name]:.2f}")
        ax.set_xlabel("first number of the code, z₁")
        ax.set_ylabel("second number, z₂")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.grid(False)
    figure.colorbar(
        dots,
        ax=[space, *axes.flat[1:]],
        location="bottom",
        shrink=0.6,
        aspect=40,
        label="length along the spiral (units of the roll)",
    )
    return figure


def roll(demo: Demo) -> None:
    """Unroll the roll; claim how much of its flat coordinates the codes contain."""
    rngs = backend.streams(demo.seed, 2)
    points, sheet = swiss_roll(demo.choose(4000, 2500), rngs[0])
    held_out, held_out_sheet = swiss_roll(2000, rngs[1])
    center, scale = points.mean(axis=0), points.std()
    x, other = (points - center) / scale, (held_out - center) / scale
    order = from_one_end(x)
    encoders = {
        "PCA": PCA(2).fit(x).transform,
        "autoencoder, no order": unroll(demo, x, None).encode,
        "autoencoder, with the order": unroll(demo, x, order).encode,
        "the order alone": lambda rows: order[nearest_neighbors(rows, x)] * 1.0,
        "the order and the height": lambda rows: np.column_stack(
            [order[nearest_neighbors(rows, x)], rows[:, 1]]  # the height
        ),
    }
    codes = {name: encode(other) for name, encode in encoders.items()}
    r2 = {}
    for name, encode in encoders.items():
        z = encode(x)
        along, height = (
            linear_probe(z, sheet[:, i], codes[name], held_out_sheet[:, i])
            for i in (0, 1)
        )
        r2[name] = min(along, height)
        demo.say(f"  {name}: R² of length {along:.3f}, of height {height:.3f}")
    in_order = r2.pop("autoencoder, with the order")
    demo.claim(
        "the roll, autoencoder with the order: R² of length and height, the smaller",
        in_order,
        at_least=demo.choose(0.9, 0.8),
        baseline=r2,
        tried="The height is an axis of the space. With the order, which contains the "
        "length, it is a better code than the network's: the order unrolls the roll.",
    )
    demo.claim(
        "the roll, plain autoencoder without the order, fails: the same R²",
        r2["autoencoder, no order"],
        at_most=0.3,
        baseline={"with the order": in_order},
    )
    del codes["the order alone"], codes["the order and the height"]
    demo.save(
        draw_roll(held_out, codes, r2 | {"autoencoder, with the order": in_order},
                  held_out_sheet[:, 0]),
        alt="A rolled-up sheet in space, and three codes of two numbers: PCA shows a "
        "spiral, a plain autoencoder separate pieces, the one with the order a sheet.",
    )  # fmt: skip


# --- Walks on the digits' manifold --------------------------------------------------

CODE = 16
AUTOENCODER, LINEAR = "autoencoder", "PCA"
TURN = 0.5  # radians; training digits turn by at most this to either side
NEAR = 100  # neighbours, from which the direction of a factor is estimated
PLACES = 9  # on a walk
ENDS = (0, -1)
SIDE = 28  # pixels
FACTORS = {  # the ends of a walk, the scale and the unit of the axis, the digit shown
    "rotation": (-0.4, 0.4, 180 / np.pi, "degrees", 4),
    "thickness": (*RANGE["thickness"], 28, "pixels", 2),
    "size": (*RANGE["size"], 28, "pixels", 7),
}
LEAST = {"rotation": (0.68, 0.62), "thickness": (0.88, 0.83), "size": (0.88, 0.836)}


def draw(n: int, rng: np.random.Generator, **fixed: Any) -> Digits:
    """Draw n digits that vary only in label, handwriting and FACTORS."""
    rotation = rng.uniform(-TURN, TURN, n)
    still = {"slant": 0.05, "shift": (0.0, 0.0)}
    return draw_digits(n, rng, **({"rotation": rotation} | still | fixed))


class Coder(NamedTuple):
    """A code and its way back to pictures in [0, 1]: the autoencoder's, or PCA's."""

    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray], np.ndarray]


def linear_coder(x: np.ndarray) -> Coder:
    """Return PCA with as many numbers as the autoencoder has."""
    pca = PCA(CODE).fit(x)
    return Coder(pca.transform, lambda z: np.clip(pca.inverse_transform(z), 0, 1))


class Map(NamedTuple):
    """Known points of the manifold: the codes of digits, and the digits' factors.

    Args:
        z: codes (n, c).
        y: factors (n, k), each of mean 0 and of variance 1.

    """

    z: np.ndarray
    y: np.ndarray

    def directions(self, z: np.ndarray) -> np.ndarray:
        """Return the direction of the code in which each factor grows, at z (m, c).

        Among the NEAR codes nearest to z, let W be the regression of the factors on the
        code, and S the covariance of the code. For Gaussian codes, the most likely
        change of the code that changes the factors by dy, as W predicts them, is

            dz = S W (Wᵀ S W)⁻¹ dy

        Returns:
            (m, k, c): dz for one unit of each factor while the others stay constant.

        """
        near = nearest_neighbors(z, self.z, NEAR)
        a = self.z[near] - self.z[near].mean(axis=1, keepdims=True)  # (m, NEAR, c)
        b = self.y[near] - self.y[near].mean(axis=1, keepdims=True)  # (m, NEAR, k)
        s = a.swapaxes(1, 2) @ a / NEAR
        c = s.shape[1]
        ridge = 1e-3 * np.trace(s, axis1=1, axis2=2)[:, None, None] / c * np.eye(c)
        w = np.linalg.solve(s + ridge, a.swapaxes(1, 2) @ b / NEAR)
        s_w = s @ w
        return np.linalg.solve(w.swapaxes(1, 2) @ s_w, s_w.swapaxes(1, 2))

    def walk(self, z: np.ndarray, factor: int, far: float, steps: int) -> np.ndarray:
        """Go from z (m, c) until a factor has changed by `far`; return the end points.

        The manifold is curved, so the direction is computed again in each step.
        """
        for _ in range(steps):
            z = z + far / steps * self.directions(z)[:, factor]
        return z


def paths(known: Map, z: np.ndarray, factor: int, reach: float) -> np.ndarray:
    """Return codes (PLACES, m, c) on walks through z (m, c), which is in the middle.

    The factor changes by `reach` from the middle to each end.
    """
    half = PLACES // 2
    found = [z]
    for _ in range(half):
        found.append(known.walk(found[-1], factor, reach / half, steps=2))
        found.insert(0, known.walk(found[0], factor, -reach / half, steps=2))
    return np.stack(found)


class Walk(NamedTuple):
    """The measurements on the walks along one factor.

    t: the intended values of the factor, (PLACES,).
    truth: the same handwriting, drawn with t, (PLACES, m, pixels).
    pictures: the decoded pictures, (PLACES, m, pixels).
    drawn, measured: all FACTORS of both, as the ruler reads them, standardized,
        (PLACES, m, k).
    label: the digits, (m,).
    """

    t: np.ndarray
    truth: np.ndarray
    pictures: np.ndarray
    drawn: np.ndarray
    measured: np.ndarray
    label: np.ndarray

    def similarity(self) -> float:
        """Return the mean SSIM of the pictures at both ends to the drawn ones."""
        return float(np.mean([similar(self.pictures[i], self.truth[i]) for i in ENDS]))

    def similarity_of_staying(self) -> float:
        """Return the same for the drawn picture in the middle: no walk at all."""
        middle = self.truth[PLACES // 2]
        return float(np.mean([similar(middle, self.truth[i]) for i in ENDS]))

    def slopes(self, j: int) -> np.ndarray:
        """Return the change of every factor while j changes by 1 in the drawn digits.

        The unit of each factor is its standard deviation.
        """
        mean = self.measured.mean(axis=1)  # (PLACES, k)
        found: np.ndarray = np.polyfit(self.drawn[:, :, j].mean(axis=1), mean, 1)[0]
        return found


def similar(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the SSIM of pictures (m, pixels)."""
    return ssim(x, y, (SIDE, SIDE))


def go(demo: Demo, coder: Coder, known: Map, ruler: Ruler, factor: str) -> Walk:
    """Walk along a factor, from digits in the middle of its range."""
    low, high, *_ = FACTORS[factor]
    t = np.linspace(low, high, PLACES)
    m, seed, j = demo.choose(500, 200), demo.seed + 50, ruler.names.index(factor)
    # The same random numbers each time: the same handwriting.
    digits = [draw(m, np.random.default_rng(seed), **{factor: v}) for v in t]
    start = coder.encode(digits[PLACES // 2].x)
    codes = paths(known, start, j, (high - low) / 2 / ruler.std[j])
    truth = np.stack([d.x for d in digits])
    pictures = np.stack([coder.decode(z.astype(np.float32)) for z in codes])
    drawn, measured = (
        np.stack([(ruler(x) - ruler.mean) / ruler.std for x in walk])
        for walk in (truth, pictures)
    )
    return Walk(t, truth, pictures, drawn, measured, digits[0].label)


@plots.styled
def draw_walks(found: dict[str, dict[str, Walk]], ruler: Ruler) -> Any:
    """Draw pictures on the walks, and the factor measured from all of them.

    Args:
        found: the walks by factor and coder.
        ruler: what measured them.

    """
    figure, axes = plots.panels(len(found), 2, (4.2, 2.2), width_ratios=[1.7, 1])
    for (strip, ax), (factor, walks) in zip(axes, found.items(), strict=True):
        *_, scale, unit, digit = FACTORS[factor]
        j = ruler.names.index(factor)
        first, *_ = walks.values()
        t = scale * first.t
        shown = int(np.argmax(first.label == digit))
        rows = {"drawn": first.truth} | {k: w.pictures for k, w in walks.items()}
        draw_strips(strip, {name: x[:, shown] for name, x in rows.items()})
        decimals = 0 if factor == "rotation" else 1
        labels = [f"{v:.{decimals}f}".replace("-", "−") for v in t]
        strip.set_xticks(SIDE * (np.arange(PLACES) + 0.5) - 0.5, labels)
        strip.set_xlabel(f"intended {factor} ({unit})")
        ax.plot(t, t, color="black", ls="--", lw=1.5, label="intended")
        for (name, walk), color, marker in zip(
            walks.items(), plots.COLORS, "os", strict=False
        ):
            own = scale * (walk.measured[:, :, j] * ruler.std[j] + ruler.mean[j])
            low, middle, high = np.quantile(own, [0.05, 0.5, 0.95], axis=1)
            ax.plot(t, middle, marker=marker, color=color, ms=4, lw=1.5, label=name)
            if walk is first:
                ax.fill_between(t, low, high, color=color, alpha=0.2, lw=0)
        ax.locator_params(nbins=5)
        ax.set_xlabel(f"intended ({unit})")
        ax.set_ylabel(f"measured ({unit})")
    axes[0, 0].set_title("one digit; a walk starts in the middle")
    axes[0, 1].set_title("all digits: median, 90 %")
    axes[0, 1].legend(loc="upper left", fontsize=8, borderaxespad=0)
    return figure


def draw_strips(ax: Any, rows: dict[str, np.ndarray]) -> None:
    """Draw rows of pictures (PLACES, pixels) with their names as one image."""
    pictures = [np.hstack(list(x.reshape(-1, SIDE, SIDE))) for x in rows.values()]
    ax.imshow(np.vstack(pictures), vmin=0, vmax=1)
    ax.grid(False)
    ax.set_yticks(SIDE * (np.arange(len(rows)) + 0.5) - 0.5, list(rows))
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def walks(demo: Demo, coders: dict[str, Coder], data: Digits, ruler: Ruler) -> None:
    """Walk along each factor; claim that the pictures are those of the true walk."""
    y = (ruler.truth(data) - ruler.mean) / ruler.std
    found: dict[str, dict[str, Walk]] = {factor: {} for factor in FACTORS}
    for name, coder in coders.items():
        known = Map(coder.encode(data.x), y)
        for factor in FACTORS:
            found[factor][name] = go(demo, coder, known, ruler, factor)
    demo.save(
        draw_walks(found, ruler),
        "walks",
        alt="Digits that turn, grow thicker and grow larger along a walk in the code: "
        "the autoencoder's are like the drawn ones, those of PCA change less and blur.",
    )
    for factor, walks in found.items():
        j = ruler.names.index(factor)
        changes = {name: walk.slopes(j) for name, walk in walks.items()}
        likeness = {name: walk.similarity() for name, walk in walks.items()}
        staying = walks[AUTOENCODER].similarity_of_staying()
        demo.claim(
            f"{factor}: measured change on the walk / in drawn digits",
            changes[AUTOENCODER][j],
            at_least=demo.choose(0.8, 0.65), at_most=1.2,
            baseline={LINEAR: changes[LINEAR][j], "no walk": 0.0},
        )  # fmt: skip
        demo.claim(
            f"{factor}: SSIM of the ends of the walk to the drawn digits",
            likeness[AUTOENCODER],
            at_least=demo.choose(*LEAST[factor]),
            baseline={LINEAR: likeness[LINEAR], "no walk": staying},
        )
        demo.measure(f"{factor}: largest change of another factor",
                     np.abs(np.delete(changes[AUTOENCODER], j)).max())  # fmt: skip


# --- Between two pictures -----------------------------------------------------------

APART = 0.3  # radians from the middle to each of the two pictures


def between(demo: Demo, coders: dict[str, Coder]) -> None:
    """Compare the midpoint of pixels, and that of codes, with the true midpoint."""
    m, seed = demo.choose(1000, 400), demo.seed + 60

    def turned(angle: float) -> Digits:
        return draw(m, np.random.default_rng(seed), rotation=angle)

    t = np.linspace(0, 1, PLACES, dtype=np.float32)[:, None, None]
    angles = APART * (2 * t.ravel() - 1)
    truth = np.stack([turned(float(angle)).x for angle in angles])  # (PLACES, m, 784)
    a, b = truth[0], truth[-1]
    mixed = (1 - t) * a + t * b

    def through(coder: Coder, z: np.ndarray) -> np.ndarray:
        return np.stack([coder.decode(row) for row in z])

    def codes_mixed(coder: Coder) -> np.ndarray:
        return through(coder, (1 - t) * coder.encode(a) + t * coder.encode(b))

    auto, linear = coders[AUTOENCODER], coders[LINEAR]
    rows = {
        "drawn": truth,
        "pixels mixed": mixed,
        "PCA's codes mixed": codes_mixed(linear),
        "mixed pixels, coded\nand decoded": through(
            auto, np.stack([auto.encode(x) for x in mixed])
        ),
        "codes mixed": codes_mixed(auto),
    }
    middle = PLACES // 2
    error = {
        name: np.sum((x[middle] - truth[middle]) ** 2, axis=1)
        for name, x in rows.items()
    }
    relative = {
        name.replace("\n", " "): float(e.mean() / error["pixels mixed"].mean())
        for name, e in error.items()
    }
    shown = int(np.argmax(turned(0.0).label == 2))
    demo.save(
        plots.picture_rows(
            {name: x[:, shown].reshape(-1, SIDE, SIDE) for name, x in rows.items()},
            "from the first picture to the last, in equal steps",
        ),
        "interpolation",
        alt="A 2 that turns in steps: drawn; mixed as pixels, which shows two at once; "
        "by PCA, the same in a blur; mixed as codes, which shows one 2, blurred "
        "halfway.",
    )
    demo.claim(
        "squared error of the midpoint / that of pixels mixed",
        relative.pop("codes mixed"),
        at_most=demo.choose(0.7, 0.8),
        baseline=dict(list(relative.items())[1:]),
    )
    demo.claim(
        "share of pairs whose midpoint is nearer to the truth than pixels mixed",
        np.mean(error["codes mixed"] < error["pixels mixed"]),
        at_least=0.9,
        baseline={"PCA's codes mixed": np.mean(
            error["PCA's codes mixed"] < error["pixels mixed"])},
    )  # fmt: skip


# --- All of it ----------------------------------------------------------------------


def run(demo: Demo) -> None:
    """Measure dimensions, unroll the roll, walk among digits, compare midpoints."""
    dimensions(demo)
    roll(demo)
    data = draw(demo.choose(20_000, 6000), backend.streams(demo.seed + 2, 1)[0])
    init, shuffle = backend.streams(demo.seed + 3, 2)
    sizes = (784, *demo.choose((512, 128), (256, 64)), CODE)
    epochs = demo.choose(15, 12)
    rate = hold_then_decay(2e-3, epochs * (len(data) // BATCH))
    model = Autoencoder(
        sizes, rng=init, batch_size=BATCH, activation="leaky_relu", lr=rate
    )
    fit(model, data.x, epochs=epochs, batch_size=BATCH, rng=shuffle)
    ruler = Ruler(tuple(FACTORS), data, demo.choose(10, 8), demo.seed + 4)
    coders = {
        AUTOENCODER: Coder(model.encode, model.decode),
        LINEAR: linear_coder(data.x),
    }
    walks(demo, coders, data, ruler)
    between(demo, coders)


if __name__ == "__main__":
    main(__name__)
