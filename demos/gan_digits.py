"""A GAN's digits: the lecture's game collapses, and a penalty on D mends it.

The lecture: a GAN generates images that look like real ones ("실제 이미지와 비슷해
보이는 이미지를 생성하는 모델"), without labels ("비지도 학습 기반 생성모델"), and
approximates the distribution of the data ("실제 데이터 분포를 근사").

With the lecture's V alone (G maximises log D(G(z))) the game collapses: at least one
digit nearly vanishes. Good digits do not come from V alone. Remedies, tried in games of
equal length:

- the relativistic loss, which compares pairs of a real and a generated image
  (Jolicoeur-Martineau 2019);
- the penalties R1 and R2 on D's gradient at real and generated images (Mescheder et al.
  2018);
- the average of G's weights over about the last eighth of the steps.

The relativistic loss alone collapses too. The penalties mend the game, with either loss
about equally well, and averaging removes noise from the images. A game three times as
long helps too: the lecture's V, averaged, comes much nearer to real digits there, but
one digit stays rare. The best digits come from V with R1 and averaging in such a game.

All models see only the pixels that have ink in some digit; the others stay white. The
demo measures, for 10,000 generated images:

- the accuracy of a fresh D, a classifier trained anew, on held-out images: 50 % means
  that it cannot tell them from real digits;
- the share of the rarest digit, by a classifier of real digits;
- the Fréchet distance from real digits, in that classifier's features. Two sets of real
  digits have a distance too, the floor.

Baselines: the lecture's V, a VAE, a Gaussian fitted to an autoencoder's codes, and the
mean picture.
"""

from typing import Any, NamedTuple

import numpy as np

from demos._classifier import features, trained
from demos._demo import Demo, main
from demos._two_samples import told_apart
from demos.gan import BETAS, normal
from scratchnet import backend, plots
from scratchnet.byhand import GAN, VAE, Autoencoder
from scratchnet.data.digits import draw_digits
from scratchnet.metrics import frechet_distance, nearest_distance, nearest_neighbors
from scratchnet.optim import AverageUpdate, cosine_decay, hold_then_decay
from scratchnet.training import fit, fit_gan

N = 10_000  # generated digits that are measured
NOISE, BATCH, SLOPE, LR = 64, 64, 0.05, 2e-3
TOLD, RAREST, FRECHET = 70.0, 7.0, 2.0  # the bounds of the claims


class Recipe(NamedTuple):
    """The loss of a game, the sizes of its penalties, and how long it takes."""

    objective: str = "non_saturating"
    r1: float = 0.0
    r2: float = 0.0
    times: int = 1  # as long as the other games


LECTURE, BEST = "the lecture's V", "V with R1, longer"
LONGER = "the lecture's V, longer"
GAMES = {
    LECTURE: Recipe(),
    "relativistic loss": Recipe("relativistic"),
    "V with R1": Recipe(r1=5.0),
    "V with R2": Recipe(r2=5.0),
    "relativistic, R1, R2": Recipe("relativistic", 5.0, 5.0),
    LONGER: Recipe(times=3),
    BEST: Recipe(r1=5.0, times=3),
}
REAL, VAE_ROW = "real digits", "a VAE"
FITTED, MEAN = "an autoencoder, fitted", "the mean picture"
SIMPLE = (LECTURE, f"{LONGER}, averaged", VAE_ROW, FITTED, MEAN)  # the baselines


def with_average(name: str) -> str:
    """Return the name of a game's digits by the averaged weights of G."""
    return f"{name}, averaged"


# --- Measuring ----------------------------------------------------------------------


class Measured(NamedTuple):
    """Digits of one source, and their measures."""

    told: float  # %, accuracy of a fresh D on held-out images
    shares: np.ndarray  # (10,) %, the share of each digit
    frechet: float  # in the classifier's features
    x: np.ndarray  # (1000, 784), the first digits

    @property
    def rarest(self) -> float:
        """The share of the rarest digit, in %."""
        return float(self.shares.min())


class Judge:
    """Measures pictures against real digits, with a classifier of real digits."""

    def __init__(self, demo: Demo) -> None:
        draw, one, other, init, shuffle = backend.streams(demo.seed + 2000, 5)
        self.n = demo.choose(N, 2000)
        self.epochs, self.seed = demo.choose(10, 5), demo.seed
        train = draw_digits(demo.choose(20_000, 4000), draw)
        self.inked = train.x.max(axis=0) > 0
        self.real = draw_digits(self.n, one).x
        self.classifier = trained(
            (784, 256, 64, 10), train.x, train.label, epochs=demo.choose(8, 5),
            batch=128, init=init, shuffle=shuffle,
        )  # fmt: skip
        self.features = features(self.classifier)(self.real)
        self.floor = self._measure(draw_digits(self.n, other).x)

    def __call__(self, inked: np.ndarray) -> Measured:
        """Measure pictures, given their pixels `self.inked`."""
        return self._measure(self.pictures(inked))

    def pictures(self, inked: np.ndarray) -> np.ndarray:
        """Return the pictures (n, 784) with these pixels, and white elsewhere."""
        x = np.zeros((len(inked), len(self.inked)), inked.dtype)
        x[:, self.inked] = inked
        return x

    def _measure(self, x: np.ndarray) -> Measured:
        """Measure pictures x (n, 784)."""
        label = np.asarray(self.classifier.predict(x))
        return Measured(
            100 * told_apart(self.real, x, self.seed + 3000, epochs=self.epochs),
            100 * np.bincount(label, minlength=10) / len(x),
            frechet_distance(self.features, features(self.classifier)(x)),
            x[:1000],
        )


# --- The games, and the baselines ---------------------------------------------------


def play(
    demo: Demo, name: str, x: np.ndarray, judge: Judge
) -> tuple[dict[str, Measured], np.ndarray]:
    """Play a game on the inked pixels x of digits, and measure what it generates.

    Returns:
        The digits by the last weights of G and by the averaged ones; and walks between
        two z by the averaged weights, (4, 7, 784).

    """
    recipe = GAMES[name]
    init, shuffle, noise, look = backend.streams(demo.seed + 100, 4)
    steps, d = recipe.times * demo.choose(1500, 120), x.shape[1]
    gan = GAN(
        (NOISE, 256, 256, d), (d, 512, 1), rng=init, batch_size=BATCH,
        slope=SLOPE, objective=recipe.objective, r1=recipe.r1, r2=recipe.r2,
        betas=BETAS, lr=hold_then_decay(LR, steps),
    )  # fmt: skip
    ema = AverageUpdate([gan.theta_g], 1 - 8 / steps)  # over about an eighth of them
    fit_gan(
        gan, x, steps=steps, batch_size=BATCH, rng=shuffle, noise=noise, average=ema,
        progress=False,
    )  # fmt: skip
    z = normal(look, judge.n, NOISE)
    last = judge(gan.generate(z))
    with ema.average():
        averaged = judge(gan.generate(z))
        walks = gan.generate(between(z[:4], z[4:8], 7).reshape(-1, NOISE))
        walks = judge.pictures(walks)
    return {name: last, with_average(name): averaged}, walks.reshape(4, 7, -1)


def between(a: np.ndarray, b: np.ndarray, n: int) -> np.ndarray:
    """Return (m, n, d): n steps from a (m, d) to b, on circles about the origin.

    z = a cos(t) + b sin(t) is distributed like a and b, for every t from 0 to π/2.
    """
    t = np.linspace(0, np.pi / 2, n, dtype=a.dtype)[:, None]
    return a[:, None] * np.cos(t) + b[:, None] * np.sin(t)


def baselines(demo: Demo, x: np.ndarray, judge: Judge) -> dict[str, Measured]:
    """Train the baselines on inked pixels x, and measure their pictures."""
    init, shuffle, noise, look = backend.streams(demo.seed + 200, 4)
    x = x[: demo.choose(len(x), 2000)]
    epochs, batch, code = demo.choose(20, 2), 100, 16
    hidden = demo.choose((512, 256), (256,))
    made: dict[str, Any] = {
        "sizes": (x.shape[1], *hidden, code), "rng": init, "batch_size": batch,
        "lr": cosine_decay(2e-3, epochs * len(x) // batch),
    }  # fmt: skip
    how: dict[str, Any] = {
        "epochs": epochs, "batch_size": batch, "rng": shuffle, "progress": False,
    }  # fmt: skip
    vae, plain = VAE(**made), Autoencoder(**made)
    fit(vae, x, noise=noise, **how)
    fit(plain, x, **how)
    z = plain.encode(x)
    codes = look.multivariate_normal(z.mean(axis=0), np.cov(z.T), size=judge.n)
    return {
        VAE_ROW: judge(vae.decode(normal(look, judge.n, code))),
        FITTED: judge(plain.decode(codes.astype(np.float32))),
        MEAN: judge(np.repeat(x.mean(axis=0)[None], judge.n, axis=0)),
    }


# --- Figures ------------------------------------------------------------------------


@plots.styled
def draw_remedies(rows: dict[str, Measured], shown: int = 5) -> Any:
    """Draw some pictures of each source, and its three measures."""
    lines = range(len(rows))
    figure, axes = plots.panels(
        1, 4, (1.7, 0.38 * len(rows) + 0.8), sharey=True,
        gridspec_kw={"width_ratios": [1.7, 1, 1, 1]},
    )  # fmt: skip
    pictures, *measures = axes[0]
    sheet = np.stack([one.x[:shown].reshape(-1, 28, 28) for one in rows.values()])
    pictures.imshow(
        sheet.transpose(0, 2, 1, 3).reshape(28 * len(rows), -1), vmin=0, vmax=1,
        aspect="auto", extent=(0, shown, len(rows) - 0.5, -0.5),
    )  # fmt: skip
    pictures.set_title(f"{shown} pictures", fontsize=10)
    pictures.set_xticks([])
    pictures.set_yticks(lines, list(rows), fontsize=10)
    told, rarest, frechet = zip(*[(r.told, r.rarest, r.frechet) for r in rows.values()],
                                strict=True)  # fmt: skip
    for ax, title, values, ticks, bound in (
        (measures[0], "accuracy of\nfresh D (%)", told, (50, TOLD, 100), TOLD),
        (measures[1], "rarest\ndigit (%)", rarest, (0, 7), RAREST),
        (measures[2], "Fréchet\ndistance", frechet, (0.1, 2, 100), FRECHET),
    ):
        ax.plot(values, lines, "o", color=plots.COLORS[0], ms=5)
        for y, value in zip(lines, values, strict=True):
            ax.annotate(
                f"{value:.3g}", (value, y), (0, 5), textcoords="offset points",
                ha="center", fontsize=8, bbox={"fc": "white", "ec": "none", "pad": 0.5},
            )  # fmt: skip
        ax.axvline(bound, color="black", ls=":", lw=1, zorder=0)
        ax.set_title(title, fontsize=10)
        ax.set_xscale("log" if ax is measures[2] else "linear")
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=9)
        ax.minorticks_off()
        ax.margins(x=0.3)
        ax.tick_params(axis="y", length=0)
    for ax in axes[0]:
        ax.spines[:].set_visible(False)
        ax.grid(visible=ax is not pictures, axis="y")
        ax.grid(visible=False, axis="x")
    figure.supxlabel("dotted: the bounds claimed for a full run", fontsize=10)
    return figure


@plots.styled
def draw_shares(rows: dict[str, Measured]) -> Any:
    """Draw the share of each digit among real and generated ones."""
    figure, axes = plots.panels(1, 1, (6.4, 3.4))
    ax = axes[0, 0]
    width = 0.8 / len(rows)
    hatches = ("", "//", "..")
    for i, (name, one) in enumerate(rows.items()):
        ax.bar(np.arange(10) + width * (i - (len(rows) - 1) / 2), one.shares, width,
               color=plots.COLORS[i], hatch=hatches[i], edgecolor="white",
               label=name)  # fmt: skip
    ax.axhline(RAREST, color="black", ls=":")
    ax.annotate(f"{RAREST:g} %", (1, RAREST), (2, 0), textcoords="offset points",
                xycoords=("axes fraction", "data"), va="center")  # fmt: skip
    ax.set_xticks(range(10))
    ax.set_xlabel("digit, by a classifier")
    ax.set_ylabel("share of the pictures (%)")
    ax.grid(visible=False, axis="x")
    figure.legend(loc="outside upper center", ncols=len(rows))
    return figure


def draw_rows(rows: dict[str, np.ndarray], notes: str) -> Any:
    """Draw rows of pictures (n, 784)."""
    pictures = {name: x.reshape(-1, 28, 28) for name, x in rows.items()}
    return plots.picture_rows(pictures, notes)


def draw_nearest(x: np.ndarray, train: np.ndarray) -> Any:
    """Draw pictures x, and below each the nearest training picture."""
    nearest = train[nearest_neighbors(x, train)[:, 0]]
    rows = {"generated": x, "nearest\ntraining picture": nearest}
    return draw_rows(rows, f"nearest of {len(train):,} pictures, by distance")


def draw_walk(walk: np.ndarray) -> Any:
    """Draw walks (4, 7, 784), one in each row, from one z to another."""
    rows = {f"walk {i + 1}": way for i, way in enumerate(walk)}
    return draw_rows(rows, "G(z) along walks from one z, left, to another, right")


# --- All of it ----------------------------------------------------------------------


def claim(demo: Demo, rows: dict[str, Measured], copied: float) -> None:
    """Claim that the lecture's game collapses, and that the best one does not."""
    lecture, best = rows[LECTURE], rows[with_average(BEST)]
    simple = {name: rows[name] for name in SIMPLE}
    demo.claim(
        "share of the rarest digit by the lecture's V alone (%)", lecture.rarest,
        at_most=2.0,
        baseline={REAL: rows[REAL].rarest},
    )  # fmt: skip
    demo.claim(
        "accuracy of a fresh D on held-out images (%)", best.told,
        at_most=demo.choose(TOLD, 97.0),
        baseline={name: one.told for name, one in simple.items()},
    )  # fmt: skip
    demo.claim(
        "share of the rarest digit (%)", best.rarest,
        at_least=demo.choose(RAREST, 0.5),
        baseline={name: one.rarest for name, one in simple.items()},
        tried="The digits meet the bound, but those of the VAE meet it too.",
    )  # fmt: skip
    demo.claim(
        "Fréchet distance from real digits", best.frechet,
        at_most=demo.choose(FRECHET, 30.0),
        baseline={name: one.frechet for name, one in simple.items()},
    )  # fmt: skip
    demo.measure(
        "share nearer to a training picture than 99 % of held-out ones (%)",
        100 * copied,
    )


def report(demo: Demo, rows: dict[str, Measured]) -> None:
    """Print the measures of the sources that no claim names; keep them for the table.

    Of the last weights of G only those of the best game are kept, next to its average.
    """
    for name, one in rows.items():
        if name in (*SIMPLE, with_average(BEST)) or (name in GAMES and name != BEST):
            continue
        demo.measure(f"{name}: accuracy of a fresh D (%)", one.told)
        demo.measure(f"{name}: share of the rarest digit (%)", one.rarest)
        demo.measure(f"{name}: Fréchet distance", one.frechet)


def copies(x: np.ndarray, held_out: np.ndarray, train: np.ndarray) -> float:
    """Return the share of x nearer to a training picture than 99 % of held-out ones."""
    near = np.quantile(nearest_distance(held_out, train), 0.01)
    return float(np.mean(nearest_distance(x, train) < near))


def run(demo: Demo) -> None:
    """Play the games, train the baselines, and judge their pictures."""
    x = draw_digits(demo.choose(40_000, 4000), backend.streams(demo.seed, 1)[0]).x
    judge = Judge(demo)
    inked = x[:, judge.inked]
    rows, walks = {REAL: judge.floor}, {}
    report(demo, rows)
    for name in GAMES:
        found, walks[name] = play(demo, name, inked, judge)
        report(demo, found)
        rows |= found
    found = baselines(demo, inked, judge)
    report(demo, found)
    rows |= found
    best = rows[with_average(BEST)]
    claim(demo, rows, copies(best.x, rows[REAL].x, x))
    demo.save(draw_remedies(rows), alt="The lecture's V loses digits; R1 "
              "and averaging make all ten, nearest to real ones.")  # fmt: skip
    three = {name: rows[name] for name in (REAL, LECTURE, with_average(BEST))}
    demo.save(draw_shares(three), "shares", alt="The lecture's V loses some digits, "
              "V with R1 all ten about equally often.")  # fmt: skip
    demo.save(draw_nearest(best.x[:7], x), "nearest", alt="Each generated digit "
              "differs from the training picture nearest to it.")  # fmt: skip
    demo.save(draw_walk(walks[BEST]), "walk", alt="From left to right, one generated "
              "digit turns into another.")  # fmt: skip


if __name__ == "__main__":
    main(__name__)
