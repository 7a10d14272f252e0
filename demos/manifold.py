"""Pictures lie on a thin sheet in the space of pixels, and a code is a place on it.

The lecture: 매니폴드. "고차원 공간에 내재한 저차원 공간" (a space of few dimensions
inside one of many), and "매니폴드 학습은 고차원 공간의 데이터를 잘 표현할 수 있는
저차원 공간으로 맵핑시키는 함수를 찾는 과정" (manifold learning finds the map to it).
Measured on held-out data:

- A Swiss roll is a sheet rolled up in space. Its flat coordinates are known (length
  along the spiral, height), so R² says how much of them a code contains. PCA looks at
  the roll from one side. An autoencoder that sees the whole roll from the start cuts it
  into pieces. One that starts at one end and sees more and more of it unrolls it.
- Walks on the digits' manifold: from the code of a digit, in the direction in which
  rotation (or thickness, or size) grows among its neighbours and the other factors
  stay. A supervised network measures the factors of the pictures on the walk.
- The midpoint of two pictures of one digit that differ by a turn. The true midpoint is
  known: the digit turned half as far. The mean of the pixels shows both digits; the
  decoded mean of the codes is nearer to the truth.
"""

from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from demos._demo import Demo, main
from demos._ruler import Ruler
from scratchnet import backend, plots
from scratchnet.byhand import Autoencoder
from scratchnet.data.digits import RANGE, Digits, draw_digits
from scratchnet.data.mixtures import swiss_roll
from scratchnet.metrics import PCA, linear_probe, nearest_neighbors
from scratchnet.optim import hold_then_decay
from scratchnet.training import fit

BATCH = 100
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


def unroll(demo: Demo, x: np.ndarray, *, growing: bool) -> Autoencoder:
    """Train an autoencoder with a code of two on the roll x (n, 3).

    Args:
        demo: gives the number of steps and the seed.
        x: the points, of mean 0 and standard deviation about 1.
        growing: in the first half of the steps, train on a part of the roll that starts
            at one end and grows; otherwise every step uses all points.

    """
    init, shuffle = backend.streams(demo.seed + 1, 2)
    steps = demo.choose(20_000, 6000)
    model = Autoencoder(
        (3, 64, 64, 2), rng=init, batch_size=BATCH, activation="tanh", output="linear",
        lr=hold_then_decay(4e-3, steps),
    )  # fmt: skip
    end = int(hops(x, 0).argmax())  # the point farthest from x[0] is at an end
    near_first = np.argsort(hops(x, end), kind="stable")
    parts = [len(x)]
    if growing:
        parts = [len(x) * (i + 1) // STAGES for i in range(STAGES)] + parts
    done = 0
    for i, n in enumerate(tqdm(parts, unit="part", disable=None)):
        until = steps if i == len(parts) - 1 else steps // 2 * (i + 1) // STAGES
        epoch = -(-n // BATCH)  # steps
        epochs = max(1, (until - done) // epoch)
        fit(model, x[near_first[:n]], epochs=epochs, batch_size=min(n, BATCH),
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
        ax.set_title(f"{name}\nR² = {r2[name]:.2f}")
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
    encoders = {
        "PCA": PCA(2).fit(x).transform,
        "autoencoder, all at once": unroll(demo, x, growing=False).encode,
        "autoencoder, from one end": unroll(demo, x, growing=True).encode,
    }
    codes = {name: encode(other) for name, encode in encoders.items()}
    r2 = {}
    for name, encode in encoders.items():
        along, height = (
            linear_probe(encode(x), sheet[:, i], codes[name], held_out_sheet[:, i])
            for i in (0, 1)
        )
        r2[name] = min(along, height)
        demo.say(f"  {name}: R² of length {along:.3f}, of height {height:.3f}")
    demo.save(draw_roll(held_out, codes, r2, held_out_sheet[:, 0]))
    demo.claim("autoencoder, from one end: R² of the flat coordinates",
               r2["autoencoder, from one end"],
               at_least=demo.choose(0.9, 0.8))  # fmt: skip
    demo.claim("PCA: R² of the flat coordinates", r2["PCA"], at_most=0.5)


# --- Walks on the digits' manifold --------------------------------------------------

CODE = 16
TURN = 0.5  # radians; training digits turn by at most this to either side
NEAR = 100  # neighbours, from which the direction of a factor is estimated
SHOWN = (2, 4, 7)  # the digits in the pictures
PLACES = 9  # on a walk
SIDE = 28  # pixels
FACTORS = {  # the ends of a walk, then the scale and the unit of the axis
    "rotation": (-0.4, 0.4, 180 / np.pi, "degrees"),
    "thickness": (*RANGE["thickness"], 28, "pixels"),
    "size": (*RANGE["size"], 28, "pixels"),
}


def draw(n: int, rng: np.random.Generator, **fixed: Any) -> Digits:
    """Draw n digits that vary only in label, handwriting and FACTORS."""
    rotation = rng.uniform(-TURN, TURN, n)
    still = {"slant": 0.05, "shift": (0.0, 0.0)}
    return draw_digits(n, rng, **({"rotation": rotation} | still | fixed))


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
    measured: all FACTORS of the decoded pictures, read by the ruler, (PLACES, m, k).
    drawn: the ruler's mean reading of m digits that were drawn with t, (PLACES,).
    pictures: the decoded pictures of SHOWN, (digits, PLACES, pixels).
    """

    t: np.ndarray
    measured: np.ndarray
    drawn: np.ndarray
    pictures: np.ndarray


def go(demo: Demo, model: Autoencoder, known: Map, ruler: Ruler, factor: str) -> Walk:
    """Walk along a factor, from digits in the middle of its range."""
    low, high, _, _ = FACTORS[factor]
    t = np.linspace(low, high, PLACES)
    m, seed, j = demo.choose(500, 200), demo.seed + 50, ruler.names.index(factor)

    def drawn_with(value: float) -> Digits:  # always the same handwriting
        return draw(m, np.random.default_rng(seed), **{factor: value})

    start = drawn_with(t[PLACES // 2])
    codes = paths(known, model.encode(start.x), j, (high - low) / 2 / ruler.std[j])
    x = np.stack([model.decode(z.astype(np.float32)) for z in codes])
    shown = [np.flatnonzero(start.label == digit)[0] for digit in SHOWN]
    return Walk(
        t,
        np.stack([ruler(pictures) for pictures in x]),
        np.array([ruler(drawn_with(v).x)[:, j].mean() for v in t]),
        x[:, shown].swapaxes(0, 1),
    )


def slopes(walk: Walk, ruler: Ruler, factor: str) -> np.ndarray:
    """Return the change of every factor per unit of the intended factor, (k,).

    The unit of each factor is its standard deviation. The intended factor itself is
    compared with the ruler's reading of digits that were drawn with it.
    """
    j = ruler.names.index(factor)
    mean = walk.measured.mean(axis=1)  # (PLACES, k)
    found: np.ndarray = np.polyfit(walk.t, mean, 1)[0] / ruler.std * ruler.std[j]
    found[j] = np.polyfit(walk.drawn, mean[:, j], 1)[0]
    return found


@plots.styled
def draw_walks(found: dict[str, Walk], names: tuple[str, ...]) -> Any:
    """Draw the pictures on the walks, and the factor measured from them."""
    figure, axes = plots.panels(len(found), 2, (4.1, 2.4), width_ratios=[1.7, 1])
    for (strip, ax), (factor, walk) in zip(axes, found.items(), strict=True):
        _, _, scale, unit = FACTORS[factor]
        t = scale * walk.t
        draw_strips(strip, walk.pictures)
        middles = SIDE * (np.arange(PLACES) + 0.5) - 0.5
        decimals = 0 if factor == "rotation" else 1
        labels = [f"{v:.{decimals}f}".replace("-", "−") for v in t]
        strip.set_xticks(middles, labels)
        strip.set_xlabel(f"intended {factor} ({unit})")
        own = scale * walk.measured[:, :, names.index(factor)]
        low, middle, high = np.quantile(own, [0.05, 0.5, 0.95], axis=1)
        ax.plot(t, t, color="black", ls="--", lw=1.5, label="intended")
        ax.fill_between(t, low, high, color=plots.COLORS[0], alpha=0.2, lw=0,
                        label="90 % of digits")  # fmt: skip
        ax.plot(t, middle, "o-", color=plots.COLORS[0], ms=4, label="median")
        ax.set_aspect("equal", "datalim")
        ax.locator_params(nbins=5)
        ax.set_xlabel(f"intended ({unit})")
        ax.set_ylabel(f"measured ({unit})")
    axes[0, 0].set_title("decoded pictures; the middle column is the start")
    axes[0, 1].legend(loc="upper left", fontsize=8, borderaxespad=0)
    axes[0, 1].set_title("measured in the pictures")
    return figure


def draw_strips(ax: Any, pictures: np.ndarray) -> None:
    """Draw rows of pictures (rows, PLACES, pixels) as one image without a frame."""
    rows = [np.hstack(list(row.reshape(-1, SIDE, SIDE))) for row in pictures]
    ax.imshow(np.vstack(rows), vmin=0, vmax=1)
    ax.grid(False)
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def walks(demo: Demo, model: Autoencoder, known: Map, ruler: Ruler) -> None:
    """Walk along each factor; claim that it changes and the others hardly do."""
    found = {factor: go(demo, model, known, ruler, factor) for factor in FACTORS}
    demo.say("  change per unit of the intended factor, of every measured factor")
    for factor, walk in found.items():
        said = zip(ruler.names, slopes(walk, ruler, factor), strict=True)
        demo.say(f"  {factor:10}" + "".join(f"  {n} {v:6.3f}" for n, v in said))
    demo.save(draw_walks(found, ruler.names), "walks")
    for factor, walk in found.items():
        j = ruler.names.index(factor)
        change = slopes(walk, ruler, factor)
        rises = np.all(np.diff(walk.measured[:, :, j], axis=0) > 0, axis=0)
        demo.claim(f"{factor}: measured change / intended change", change[j],
                   at_least=demo.choose(0.8, 0.6), at_most=1.2)  # fmt: skip
        demo.claim(f"{factor}: share of walks on which it always grows", rises.mean(),
                   at_least=demo.choose(0.95, 0.9))  # fmt: skip
        demo.claim(f"{factor}: largest change of another factor",
                   np.abs(np.delete(change, j)).max(), at_most=0.2)  # fmt: skip


# --- Between two pictures -----------------------------------------------------------

APART = 0.3  # radians from the middle to each of the two pictures


def between(demo: Demo, model: Autoencoder) -> None:
    """Compare the midpoint of pixels, and that of codes, with the true midpoint."""
    m, seed = demo.choose(1000, 400), demo.seed + 60

    def turned(angle: float) -> Digits:
        return draw(m, np.random.default_rng(seed), rotation=angle)

    a, b, truth = turned(-APART), turned(APART), turned(0.0).x
    codes = model.encode(a.x), model.encode(b.x)
    middle = {
        "pixels": (a.x + b.x) / 2,
        "codes": model.decode((codes[0] + codes[1]) / 2),
    }
    error = {k: np.sum((x - truth) ** 2, axis=1) for k, x in middle.items()}
    demo.say("  squared error of the midpoint: " + ", ".join(
        f"of the {k} {e.mean():.2f}" for k, e in error.items()))  # fmt: skip
    t = np.linspace(0, 1, PLACES, dtype=np.float32)[:, None]
    rows: dict[str, Any] = {}
    for digit in SHOWN[:2]:
        i = np.flatnonzero(a.label == digit)[0]
        angles = APART * (2 * t[:, 0] - 1)
        rows[f"a {digit}, turned in steps"] = [
            turned(float(v)).images[i] for v in angles
        ]
        rows[f"{digit}: pixels mixed"] = ((1 - t) * a.x[i] + t * b.x[i]).reshape(
            -1, SIDE, SIDE
        )
        rows[f"{digit}: codes mixed"] = model.decode(
            (1 - t) * codes[0][i] + t * codes[1][i]
        ).reshape(-1, SIDE, SIDE)
    note = "from the first picture to the last, in equal steps"
    demo.save(plots.picture_rows(rows, note), "interpolation")
    demo.claim("error of the midpoint, codes / pixels",
               error["codes"].mean() / error["pixels"].mean(),
               at_most=demo.choose(0.75, 0.85))  # fmt: skip
    demo.claim("share of pairs whose midpoint of codes is nearer to the truth",
               np.mean(error["codes"] < error["pixels"]), at_least=0.9)  # fmt: skip


# --- All of it ----------------------------------------------------------------------


def run(demo: Demo) -> None:
    """Unroll the roll, walk on the digits' manifold, and compare midpoints."""
    roll(demo)
    data = draw(demo.choose(40_000, 6000), backend.streams(demo.seed + 2, 1)[0])
    init, shuffle = backend.streams(demo.seed + 3, 2)
    sizes = (784, *demo.choose((512, 128), (256, 64)), CODE)
    epochs = demo.choose(15, 12)
    rate = hold_then_decay(2e-3, epochs * (len(data) // BATCH))
    model = Autoencoder(
        sizes, rng=init, batch_size=BATCH, activation="leaky_relu", lr=rate
    )
    fit(model, data.x, epochs=epochs, batch_size=BATCH, rng=shuffle)
    ruler = Ruler(tuple(FACTORS), data, demo.choose(10, 8), demo.seed + 4)
    y = (ruler.truth(data) - ruler.mean) / ruler.std
    known = Map(model.encode(data.x), y)
    walks(demo, model, known, ruler)
    between(demo, model)


if __name__ == "__main__":
    main(__name__)
