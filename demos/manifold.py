"""Pictures lie on a thin sheet in the space of pixels, and a code is a place on it.

The lecture: 매니폴드. "고차원 공간에 내재한 저차원 공간" (a space of few dimensions
inside one of many), and "매니폴드 학습은 고차원 공간의 데이터를 잘 표현할 수 있는
저차원 공간으로 맵핑시키는 함수를 찾는 과정" (manifold learning finds the map to it).
Shown and measured, on what was not trained on:

- a Swiss roll: a sheet rolled up in space. The map to the plane that unrolls it is
  known (length along the spiral, height), so that R² says how much of it a code is.
  PCA looks at the roll from one side. An autoencoder that is given all of it at once
  cuts it up; one that is given one end first, and then more and more, unrolls it;
- ways along the digits' sheet: from the code of a digit, in the direction in which its
  neighbours' rotation (thickness, size) grows and nothing else does. A network with a
  teacher measures what the pictures show that are decoded on the way;
- the middle between two pictures of one digit that differ by a turn. What lies between
  is known: the digit turned half as far. The mean of the pixels shows both; the mean
  of the codes is nearer to it.
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

STAGES = 50  # in which the part of the roll grows that is trained on


def hops(x: np.ndarray, start: int, k: int = 8) -> np.ndarray:
    """Return how many steps from neighbour to neighbour lead to x[start], (n,).

    A point's neighbours are the k nearest. The steps follow the sheet, as those of
    Isomap do (Tenenbaum et al. 2000), where the straight way would leave it.

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
        demo: says how long, and the seed.
        x: the points, of mean 0 and standard deviation about 1.
        growing: whether the first half of the steps sees a part of the roll only, from
            one end, that grows to all of it; else every step sees all.

    """
    init, shuffle = backend.streams(demo.seed + 1, 2)
    steps = demo.choose(20_000, 6000)
    model = Autoencoder(
        (3, 64, 64, 2), rng=init, batch_size=BATCH, activation="tanh", output="linear",
        lr=hold_then_decay(4e-3, steps),
    )  # fmt: skip
    end = int(hops(x, 0).argmax())  # the farthest from any point is at an end
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
    """Draw the roll x (n, 3), and codes (n, 2), coloured by s (n,) along the spiral."""
    figure, (axes,) = plots.panels(1, 1 + len(codes), (3.9, 4.4))
    axes[0].remove()
    space = figure.add_subplot(1, 1 + len(codes), 1, projection="3d")
    space.scatter(*x.T[[0, 1, 2]], c=s, s=5, cmap="viridis", alpha=1)
    space.view_init(12, -70)
    space.set_box_aspect((1, 1, 0.85), zoom=1.1)
    for axis in (space.xaxis, space.yaxis, space.zaxis):
        axis.set_ticklabels([])
        axis.set_pane_color((1, 1, 1))
    space.set_title("the roll", weight="bold")
    for ax, (name, z) in zip(axes[1:], codes.items(), strict=True):
        dots = ax.scatter(*z.T, c=s, s=7, cmap="viridis")
        ax.set_title(f"{name}\nR² of the sheet {r2[name]:.2f}", weight="bold")
        ax.set_xlabel("first number, z₁")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.grid(False)
    axes[1].set_ylabel("second number, z₂")
    figure.colorbar(dots, ax=axes[1:].tolist(), shrink=0.8, pad=0.01,
                    label="length along the spiral, in the roll's unit")  # fmt: skip
    return figure


def roll(demo: Demo) -> None:
    """Unroll the roll; claim how much of the sheet the codes are."""
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
    demo.claim("the roll from one end: R² of the sheet",
               r2["autoencoder, from one end"],
               at_least=demo.choose(0.9, 0.8))  # fmt: skip
    demo.claim("PCA: R² of the sheet", r2["PCA"], at_most=0.5)


# --- Ways along the digits' sheet ---------------------------------------------------

CODE = 16
TURN = 0.5  # radians to either side, of the digits that are trained on
NEAR = 100  # neighbours whose factors say which way leads where
SHOWN = (2, 4, 7)  # the digits in the pictures
PLACES = 9  # on a way
SIDE = 28  # pixels
FACTORS = {  # from where to where a way leads, and what a number is multiplied by
    "rotation": (-0.4, 0.4, 180 / np.pi, "degrees"),
    "thickness": (*RANGE["thickness"], 28, "pixels"),
    "size": (*RANGE["size"], 28, "pixels"),
}


def draw(n: int, rng: np.random.Generator, **fixed: Any) -> Digits:
    """Draw n digits that vary in label, handwriting and FACTORS alone."""
    rotation = rng.uniform(-TURN, TURN, n)
    still = {"slant": 0.05, "shift": (0.0, 0.0)}
    return draw_digits(n, rng, **({"rotation": rotation} | still | fixed))


class Map(NamedTuple):
    """What is known of the sheet: codes, and the factors of the digits there.

    Args:
        z: codes (n, c).
        y: factors (n, k), each of mean 0 and of variance 1.

    """

    z: np.ndarray
    y: np.ndarray

    def directions(self, z: np.ndarray) -> np.ndarray:
        """Return in which direction of the code each factor grows, at z (m, c).

        Among the NEAR codes nearest to z, let W be the regression of the factors on the
        code, and S the covariance of the code. For Gaussian codes the likeliest change
        that changes the factors, as W reads them, by dy is

            dz = S W (Wᵀ S W)⁻¹ dy

        Returns:
            (m, k, c): dz for a unit of each factor, the others staying as they are.

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
        """Go from z (m, c) until a factor has changed by `far`; return where each ends.

        The sheet is curved, so that the direction is asked again in each of the steps.
        """
        for _ in range(steps):
            z = z + far / steps * self.directions(z)[:, factor]
        return z


def ways(known: Map, z: np.ndarray, factor: int, reach: float) -> np.ndarray:
    """Return codes (PLACES, m, c) on ways through z (m, c), which is in the middle.

    The factor changes by `reach` from the middle to each end.
    """
    half = PLACES // 2
    found = [z]
    for _ in range(half):
        found.append(known.walk(found[-1], factor, reach / half, steps=2))
        found.insert(0, known.walk(found[0], factor, -reach / half, steps=2))
    return np.stack(found)


class Way(NamedTuple):
    """What was measured on the ways along one factor.

    t: the factor as it should be, (PLACES,).
    measured: all FACTORS, as the ruler reads the decoded pictures, (PLACES, m, k).
    drawn: the factor as the ruler reads digits drawn with t, mean of m, (PLACES,).
    pictures: of SHOWN, (digits, PLACES, pixels).
    """

    t: np.ndarray
    measured: np.ndarray
    drawn: np.ndarray
    pictures: np.ndarray


def go(demo: Demo, model: Autoencoder, known: Map, ruler: Ruler, factor: str) -> Way:
    """Walk along a factor from digits in the middle of its range."""
    low, high, _, _ = FACTORS[factor]
    t = np.linspace(low, high, PLACES)
    m, seed, j = demo.choose(500, 200), demo.seed + 50, ruler.names.index(factor)

    def drawn_with(value: float) -> Digits:  # the same handwriting each time
        return draw(m, np.random.default_rng(seed), **{factor: value})

    start = drawn_with(t[PLACES // 2])
    codes = ways(known, model.encode(start.x), j, (high - low) / 2 / ruler.std[j])
    x = np.stack([model.decode(z.astype(np.float32)) for z in codes])
    shown = [np.flatnonzero(start.label == digit)[0] for digit in SHOWN]
    return Way(
        t,
        np.stack([ruler(pictures) for pictures in x]),
        np.array([ruler(drawn_with(v).x)[:, j].mean() for v in t]),
        x[:, shown].swapaxes(0, 1),
    )


def slopes(way: Way, ruler: Ruler, factor: str) -> np.ndarray:
    """Return how much each of the factors changes while one should by 1, (k,).

    In the units of the spread of each; of the factor itself as a part of what the ruler
    reads where it is drawn.
    """
    j = ruler.names.index(factor)
    mean = way.measured.mean(axis=1)  # (PLACES, k)
    found: np.ndarray = np.polyfit(way.t, mean, 1)[0] / ruler.std * ruler.std[j]
    found[j] = np.polyfit(way.drawn, mean[:, j], 1)[0]
    return found


@plots.styled
def draw_ways(found: dict[str, Way], names: tuple[str, ...]) -> Any:
    """Draw the pictures on the ways, and what was measured of them."""
    figure, axes = plots.panels(len(found), 2, (5.2, 2.5), width_ratios=[1.8, 1])
    for (strip, ax), (factor, way) in zip(axes, found.items(), strict=True):
        _, _, times, unit = FACTORS[factor]
        rows = [np.hstack(list(row.reshape(-1, SIDE, SIDE))) for row in way.pictures]
        strip.imshow(np.vstack(rows), vmin=0, vmax=1)
        strip.grid(False)
        strip.set_yticks([])
        strip.spines[:].set_visible(False)
        strip.tick_params(length=0)
        middles = 28 * (np.arange(PLACES) + 0.5) - 0.5
        digits = 0 if factor == "rotation" else 1
        strip.set_xticks(middles, [f"{times * v:.{digits}f}" for v in way.t])
        strip.set_xlabel(f"{factor} ({unit})")
        own = times * way.measured[:, :, names.index(factor)]
        low, middle, high = np.quantile(own, [0.05, 0.5, 0.95], axis=1)
        x = times * way.t
        ax.plot(x, x, color="black", ls=":", lw=1.5)
        ax.fill_between(x, low, high, color=plots.COLORS[0], alpha=0.2, lw=0)
        ax.plot(x, middle, "o-", color=plots.COLORS[0], ms=4)
        ax.set_xlabel(f"{factor} meant ({unit})")
        ax.set_ylabel(f"measured ({unit})")
    axes[0, 0].set_title("decoded on the way; the middle is the digit's own code")
    axes[0, 1].set_title("median of all digits, and 90 % of them")
    return figure


def walks(demo: Demo, model: Autoencoder, known: Map, ruler: Ruler) -> None:
    """Walk along each factor; claim that it changes, and the others little."""
    found = {factor: go(demo, model, known, ruler, factor) for factor in FACTORS}
    demo.say("  walk along: how much of it, and of the others, the pictures show")
    for factor, way in found.items():
        said = zip(ruler.names, slopes(way, ruler, factor), strict=True)
        demo.say(f"  {factor:10}" + "".join(f"  {n} {v:6.3f}" for n, v in said))
    demo.save(draw_ways(found, ruler.names), "walks")
    for factor, way in found.items():
        j = ruler.names.index(factor)
        change = slopes(way, ruler, factor)
        rises = np.all(np.diff(way.measured[:, :, j], axis=0) > 0, axis=0)
        demo.claim(f"{factor}: measured on the way / meant", change[j],
                   at_least=demo.choose(0.8, 0.6), at_most=1.2)  # fmt: skip
        demo.claim(f"{factor}: ways on which it always grows", rises.mean(),
                   at_least=demo.choose(0.95, 0.9))  # fmt: skip
        demo.claim(f"{factor}: the most that another changes",
                   np.abs(np.delete(change, j)).max(), at_most=0.2)  # fmt: skip


# --- Between two pictures -----------------------------------------------------------

APART = 0.3  # radians to either side of the middle


def between(demo: Demo, model: Autoencoder) -> None:
    """Compare the middle in pixels, and in code, with what lies between."""
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
    demo.say("  squared error of the middle: " + ", ".join(
        f"of the {k} {e.mean():.2f}" for k, e in error.items()))  # fmt: skip
    t = np.linspace(0, 1, PLACES, dtype=np.float32)[:, None]
    rows: dict[str, Any] = {}
    for digit in SHOWN[:2]:
        i = np.flatnonzero(a.label == digit)[0]
        angles = APART * (2 * t[:, 0] - 1)
        rows[f"a {digit}, turned"] = [turned(float(v)).images[i] for v in angles]
        rows[f"{digit}: between pixels"] = ((1 - t) * a.x[i] + t * b.x[i]).reshape(
            -1, SIDE, SIDE
        )
        rows[f"{digit}: between codes"] = model.decode(
            (1 - t) * codes[0][i] + t * codes[1][i]
        ).reshape(-1, SIDE, SIDE)
    demo.save(plots.picture_rows(rows), "interpolation")
    demo.claim("error of the middle, of codes / of pixels",
               error["codes"].mean() / error["pixels"].mean(),
               at_most=demo.choose(0.75, 0.85))  # fmt: skip
    demo.claim("pairs of which the codes' middle is nearer",
               np.mean(error["codes"] < error["pixels"]), at_least=0.9)  # fmt: skip


# --- All of it ----------------------------------------------------------------------


def run(demo: Demo) -> None:
    """Unroll the roll, walk along the digits' sheet, and look between two of them."""
    roll(demo)
    data = draw(demo.choose(40_000, 6000), backend.streams(demo.seed + 2, 1)[0])
    init, shuffle = backend.streams(demo.seed + 3, 2)
    sizes = (784, *demo.choose((512, 128), (256, 64)), CODE)
    epochs = demo.choose(15, 12)
    rate = hold_then_decay(2e-3, epochs * (len(data) // BATCH))
    model = Autoencoder(
        sizes, rng=init, batch_size=BATCH, activation="leaky_relu",
        lr=rate,
    )  # fmt: skip
    fit(model, data.x, epochs=epochs, batch_size=BATCH, rng=shuffle)
    ruler = Ruler(tuple(FACTORS), data, demo.choose(10, 8), demo.seed + 4)
    y = (ruler.truth(data) - ruler.mean) / ruler.std
    known = Map(model.encode(data.x), y)
    walks(demo, model, known, ruler)
    between(demo, model)


if __name__ == "__main__":
    main(__name__)
