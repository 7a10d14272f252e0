"""Two networks against each other reach the balance where neither can gain: 1/2.

The lecture: D maximises V(D, G) ("판별 네트워크가 V(D,G)를 최대화한다고 가정하면"), G
minimises it, and they meet where D cannot tell ("1/2(균형점, 판별 네트워크가 구분할 수
없도록)"). Shown and measured:

- one dimension, as in figure 1 of Goodfellow et al. 2014: the density of the data and
  of what is generated, D(x), and the best D for that G, p / (p + q), until all of D is
  at 1/2 and V at -log 4;
- why G should go up log D(G(z)) and not down log(1 - D(G(z))): the gradient that is
  left to it when D is sure;
- a ring of 8 Gaussians and a grid of 25: how many of them G finds, and how many of its
  samples are good ones, within 3 standard deviations of a Gaussian's middle;
- digits: how many of 10,000 generated ones a classifier takes for each digit, being at
  least 0.9 sure.

`python -m demos.gan --seeds 5` trains everything from 5 seeds and claims the medians.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from demos._demo import Demo, main
from scratchnet import backend, optim, plots
from scratchnet.byhand import GAN
from scratchnet.data.digits import draw_digits
from scratchnet.data.mixtures import Mixture, grid, ring
from scratchnet.metrics import Coverage, mode_coverage
from scratchnet.models.supervised import Classifier
from scratchnet.optim import Adam, hold_then_decay
from scratchnet.training import GANHistory, fit, fit_gan

LOG_4 = math.log(4)
N = 2500  # samples by which ring and grid are judged, as in the papers


# Adam without momentum: two players do not go down one hill (Mescheder et al. 2018).
BETAS = (0.0, 0.99)


def averaged(gan: GAN, steps: int) -> optim.AverageUpdate:
    """Make the average of G's weights, over about the last hundredth of the steps."""
    return optim.AverageUpdate([gan.theta_g], max(0.0, 1 - 100 / steps))


def normal(rng: np.random.Generator, n: int, columns: int) -> np.ndarray:
    """Draw noise (n, columns)."""
    return rng.standard_normal((n, columns), np.float32)


# --- One dimension ------------------------------------------------------------------

TWO_BUMPS = Mixture(np.array([[-1.2], [1.2]]), 0.45)
AXIS = np.linspace(-3.2, 3.2, 321)


class Moment(NamedTuple):
    """What the game in one dimension looks like at one moment, over `AXIS`."""

    step: int
    q: np.ndarray  # density of what is generated
    d: np.ndarray  # D(x)
    best: np.ndarray  # p / (p + q), or nan where there is nearly nothing of either
    z: np.ndarray  # some noise, in order
    x: np.ndarray  # where G puts it


def one_dimension(demo: Demo, seed: int) -> tuple[list[Moment], GANHistory, GAN]:
    """Play the game between one-dimensional densities, and look at it now and then."""
    data_rng, init, shuffle, noise, look = backend.streams(seed, 5)
    steps = demo.choose(3000, 800)
    k = 5  # steps of D for each of G: the theory wants D at its best
    gan = GAN(
        (1, 64, 64, 1), (1, 64, 64, 1), rng=init, batch_size=256, output="linear",
        r1=0.001, betas=BETAS, generator_lr=hold_then_decay(2e-3, steps),
        discriminator_lr=hold_then_decay(5e-3, k * steps),
    )  # fmt: skip
    x, _ = TWO_BUMPS.sample(50_000, data_rng)
    z = normal(look, 50_000, 1)
    moments = [moment(gan, 0, z)]

    def note(history: GANHistory) -> None:
        if history.steps[-1] in (50, 250, steps):
            moments.append(moment(gan, history.steps[-1], z))

    history = fit_gan(
        gan, x, steps=steps, batch_size=256, rng=shuffle, noise=noise, every=10,
        discriminator_steps=k, callback=note,
    )  # fmt: skip
    return moments, history, gan


def moment(gan: GAN, step: int, z: np.ndarray) -> Moment:
    """Look at the game: densities, D, and where G puts the noise."""
    x = gan.generate(z)[:, 0]
    q = density(x)
    p = np.exp(TWO_BUMPS.log_density(AXIS[:, None]))
    d = gan.discriminate(AXIS[:, None].astype(np.float32))[:, 0]
    shown = np.linspace(-2, 2, 25, dtype=np.float32)[:, None]
    best = np.where(p + q > 0.01, p / (p + q), np.nan)
    return Moment(step, q, d, best, shown[:, 0], gan.generate(shown)[:, 0])


def from_best(now: Moment) -> float:
    """Return the mean of |D − p / (p + q)| over data and samples, half and half."""
    p = np.exp(TWO_BUMPS.log_density(AXIS[:, None]))
    known = np.isfinite(now.best)
    off = np.abs(now.d - now.best)[known]
    return float(np.average(off, weights=(p + now.q)[known]))


def total_variation(now: Moment) -> float:
    """Return half the area between the densities p and q, from 0 to 1."""
    p = np.exp(TWO_BUMPS.log_density(AXIS[:, None]))
    return float(np.sum(np.abs(p - now.q)) * (AXIS[1] - AXIS[0]) / 2)


def density(x: np.ndarray, width: float = 0.06) -> np.ndarray:
    """Estimate the density of samples x (n,) over AXIS, with Gaussians of one width."""
    edges = np.linspace(AXIS[0] - 2, AXIS[-1] + 2, 2 * len(AXIS) + 1)
    counts, _ = np.histogram(x, edges)
    middles = (edges[1:] + edges[:-1]) / 2
    kernel = np.exp(-0.5 * ((AXIS[:, None] - middles) / width) ** 2)
    height: np.ndarray = kernel @ counts / (len(x) * width * math.sqrt(2 * math.pi))
    return height


def balance(gan: GAN, seed: int, n: int = 50_000) -> tuple[float, float, float]:
    """Return V, mean D(x) and mean D(G(z)) over n fresh samples of each kind."""
    data_rng, noise = backend.streams(seed + 1000, 2)
    a_r = gan.logits(TWO_BUMPS.sample(n, data_rng)[0]).astype(np.float64)
    a_f = gan.logits(gan.generate(normal(noise, n, 1))).astype(np.float64)
    real, fake = -np.logaddexp(0, -a_r), -np.logaddexp(0, -a_f)
    v = real.mean() - np.logaddexp(0, a_f).mean()
    return float(v), float(np.exp(real).mean()), float(np.exp(fake).mean())


@plots.styled
def draw_one_dimension(moments: list[Moment]) -> Any:
    """Draw the densities and D at each moment, as in figure 1 of the GAN paper."""
    figure, axes = plots.panels(
        2, len(moments), (3.1, 2.0), sharex=True, sharey="row",
        gridspec_kw={"height_ratios": [3, 1]},
    )  # fmt: skip
    p = np.exp(TWO_BUMPS.log_density(AXIS[:, None]))
    blue, red, green = plots.COLORS[:3]
    for (top, below), now in zip(axes.T, moments, strict=True):
        top.plot(AXIS, p, color="black", ls=":", label="data, p")
        top.fill_between(AXIS, now.q, color=green, alpha=0.35, lw=0)
        top.plot(AXIS, now.q, color=green, label="generated, q")
        top.plot(AXIS, now.best, color=red, ls="--", label="best D, p / (p + q)")
        top.plot(AXIS, now.d, color=blue, label="D")
        top.axhline(0.5, color="gray", lw=0.8)
        top.set_title(f"step {now.step:,}" if now.step else "at the start")
        top.set_ylim(0, 1.15)
        for z, x in zip(now.z, now.x, strict=True):
            below.plot([z, x], [0, 1], color=green, lw=0.8)
        below.set_yticks([0, 1], ["z", "G(z)"])
        below.set_ylim(0, 1)
        below.grid(False)
        below.set_xlabel("x")
        below.set_xlim(AXIS[0], AXIS[-1])
    axes[0, 0].set_ylabel("density, or D(x)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


@plots.styled
def draw_balance(history: GANHistory) -> Any:
    """Draw V and D's means over the steps, with where they should end."""
    figure, axes = plots.panels(1, 2, (4.6, 3.2))
    blue, red = plots.COLORS[:2]
    left, right = axes[0]
    left.plot(history.steps, history.v, color=blue, lw=0.8)
    left.axhline(-LOG_4, color="black", ls=":")
    left.annotate("−log 4", (1, -LOG_4), (-2, 14), xycoords=("axes fraction", "data"),
                  textcoords="offset points", ha="right")  # fmt: skip
    left.set_ylabel("V(D, G), nats")
    right.plot(history.steps, history.real, color=blue, lw=0.8)
    right.plot(history.steps, history.generated, color=red, lw=0.8)
    right.axhline(0.5, color="black", ls=":")
    right.annotate("D(x), data", (history.steps[0], history.real[0]), (0, 8),
                   textcoords="offset points", color=blue)  # fmt: skip
    right.annotate("D(G(z)), generated", (history.steps[0], history.generated[0]),
                   (0, -42), textcoords="offset points", color=red)  # fmt: skip
    right.set_ylim(0, 1)
    right.set_ylabel("mean probability of being real")
    for ax in axes[0]:
        ax.set_xscale("log")
        ax.set_xlabel("steps of G")
    return figure


# --- The gradient at the start ------------------------------------------------------


class Race(NamedTuple):
    """G's two gradients while D learns and G stands still."""

    generated: list[float]  # mean D(G(z)), falling
    saturating: list[float]  # ‖gradient of log(1 − D(G(z)))‖
    other: list[float]  # ‖gradient of −log D(G(z))‖


def gradients_at_the_start(demo: Demo, seed: int) -> Race:
    """Train D alone against a fresh G on digits; measure G's gradient both ways."""
    data_rng, init, shuffle, noise = backend.streams(seed, 4)
    x = draw_digits(2000, data_rng).x
    gan = GAN((32, 256, 784), (784, 256, 1), rng=init, lr=1e-3)
    race = Race([], [], [])
    z = backend.asarray(normal(noise, 128, 32))
    for _ in range(demo.choose(120, 80)):
        race.generated.append(float(gan.discriminate(gan.generate(z)).mean()))
        for objective, norms in (
            ("saturating", race.saturating),
            ("non_saturating", race.other),
        ):
            gan.objective = objective
            gan.generator_gradients(z)
            norms.append(float(np.linalg.norm(gan.d_theta_g)))
        real = backend.asarray(x[shuffle.integers(len(x), size=128)])
        gan.discriminator_step(real, backend.asarray(normal(noise, 128, 32)))
    return race


@plots.styled
def draw_gradients(race: Race) -> Any:
    """Draw the size of both gradients against what D thinks of the samples."""
    figure, axes = plots.panels(1, 1, (5.6, 3.8))
    ax = axes[0, 0]
    blue, red = plots.COLORS[:2]
    ax.plot(race.generated, race.other, "o-", color=blue, ms=3)
    ax.plot(race.generated, race.saturating, "s-", color=red, ms=3)
    end = race.generated[-1]
    ax.annotate("G goes up log D(G(z))", (end, race.other[-1]), (0, 8),
                textcoords="offset points", color=blue, ha="right")  # fmt: skip
    ax.annotate("G goes down log(1 − D(G(z)))", (end, race.saturating[-1]), (-16, -4),
                textcoords="offset points", color=red, ha="right")  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.invert_xaxis()
    ax.set_ylim(top=20)
    ax.set_xlabel("mean D(G(z)), falling as D learns and G stands still")
    ax.set_ylabel("length of G's gradient")
    return figure


# --- The ring and the grid ----------------------------------------------------------


class Played(NamedTuple):
    """A GAN's samples of a mixture, in the mixture's unit, as training goes on."""

    mixture: Mixture
    frames: dict[int, np.ndarray]  # steps -> samples (N, 2)
    coverage: Coverage  # of the last frame


def play(mixture: Mixture, steps: int, seed: int) -> Played:
    """Train on a mixture in the plane: G deep and of sharp kinks, D kept smooth."""
    data_rng, init, shuffle, noise, look = backend.streams(seed, 5)
    x, _ = mixture.sample(100_000, data_rng)
    scale = x.std()
    gan = GAN(
        (4, 128, 128, 128, 128, 128, 2), (2, 128, 128, 128, 128, 1), rng=init,
        batch_size=256, slope=0.05, output="linear", r1=0.1,
        betas=BETAS, lr=hold_then_decay(2e-3, steps),
    )  # fmt: skip
    ema = averaged(gan, steps)
    z = normal(look, N, 4)
    frames = {0: gan.generate(z) * scale}
    moments = {steps // 20, steps // 4, steps // 2, steps}

    def note(history: GANHistory) -> None:
        if history.steps[-1] in moments:
            with ema.average():
                frames[history.steps[-1]] = gan.generate(z) * scale

    fit_gan(
        gan, x / scale, steps=steps, batch_size=256, rng=shuffle, noise=noise,
        average=ema, every=steps // 20, callback=note,
    )  # fmt: skip
    found = mode_coverage(frames[steps], mixture.centers, mixture.sigma)
    return Played(mixture, frames, found)


@plots.styled
def draw_frames(played: list[Played]) -> Any:
    """Draw the samples of each mixture in a row, from the start to the end."""
    columns = len(played[0].frames) + 1
    figure, axes = plots.panels(len(played), columns, (2.1, 2.5))
    for row, game in zip(axes, played, strict=True):
        k = len(game.mixture.centers)
        row[0].set_ylabel(f"{k} Gaussians")
        good = 100 * game.coverage.high_quality
        row[-2].set_xlabel(f"{game.coverage.modes} of {k}, {good:.0f} % good")
        data, _ = game.mixture.sample(N, np.random.default_rng(0))
        edge = 1.25 * np.abs(game.mixture.centers).max()
        for ax, (step, samples) in zip(row, game.frames.items(), strict=False):
            ax.scatter(*samples.T, s=2, lw=0, color=plots.COLORS[0], alpha=0.5)
            ax.set_title(f"step {step:,}" if step else "at the start")
        row[-1].scatter(*data.T, s=2, lw=0, color="black", alpha=0.5)
        row[-1].set_title("data")
        for ax in row:
            ax.set_xlim(-edge, edge)
            ax.set_ylim(-edge, edge)
            ax.set_aspect("equal")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.grid(False)
            ax.spines[:].set_visible(True)
            ax.spines[:].set_color("#CCCCCC")
    return figure


# --- Digits -------------------------------------------------------------------------


class Generated(NamedTuple):
    """10,000 generated digits, and what a classifier thinks of them."""

    x: np.ndarray  # (10,000, 784)
    label: np.ndarray  # (10,000,) the likeliest digit
    sure: np.ndarray  # (10,000,) whether its probability is at least 0.9
    accuracy: float  # of the classifier on held-out drawn digits

    @property
    def shares(self) -> np.ndarray:
        """The fraction of all that is surely a 0, a 1, ...: (10,)."""
        return np.bincount(self.label[self.sure], minlength=10) / len(self.x)


def teacher(demo: Demo, seed: int) -> tuple[Classifier, float]:
    """Train a classifier of drawn digits; return its accuracy on others too."""
    draw, other, init, shuffle = backend.streams(seed + 2000, 4)
    train = draw_digits(demo.choose(20_000, 8000), draw)
    held_out = draw_digits(2000, other)
    classifier = Classifier((784, 256, 10), rng=init)
    fit(
        classifier, (train.x, train.label), epochs=demo.choose(8, 5), batch_size=128,
        rng=shuffle, optimizer=Adam(classifier.parameters()),
    )  # fmt: skip
    return classifier, classifier.accuracy(held_out.x, held_out.label)


def generate_digits(demo: Demo, seed: int) -> Generated:
    """Train on drawn digits, generate 10,000, and ask the classifier."""
    classifier, accuracy = teacher(demo, seed)
    data_rng, init, shuffle, noise, look = backend.streams(seed, 5)
    steps = demo.choose(5000, 400)
    x = draw_digits(demo.choose(20_000, 4000), data_rng).x
    gan = GAN(
        (32, 256, 256, 784), (784, 256, 256, 1), rng=init, objective="relativistic",
        r1=1.0, r2=1.0, betas=BETAS, lr=hold_then_decay(1e-3, steps),
    )  # fmt: skip
    ema = averaged(gan, steps)
    fit_gan(
        gan, x, steps=steps, batch_size=128, rng=shuffle, noise=noise, average=ema,
        every=steps // 10,
    )  # fmt: skip
    with ema.average():
        x = gan.generate(normal(look, 10_000, 32))
    p = classifier.probabilities(x)
    return Generated(x, p.argmax(axis=1), p.max(axis=1) >= 0.9, accuracy)


@plots.styled
def draw_digits_figure(made: Generated) -> Any:
    """Draw a row of generated digits for each class, and how many there are."""
    figure, axes = plots.panels(
        10, 13, (0.52, 0.52), gridspec_kw={"width_ratios": [1] * 12 + [5]}
    )
    shares = made.shares
    for digit, row in enumerate(axes):
        mine = made.x[made.sure & (made.label == digit)][:12]
        for ax in row[:12]:
            ax.axis("off")
        for ax, x in zip(row, mine.reshape(-1, 28, 28), strict=False):
            ax.imshow(x, vmin=0, vmax=1)
        bar = row[12]
        bar.barh(0, 100 * shares[digit], color=plots.COLORS[0])
        bar.axvline(5, color="black", ls=":")
        bar.annotate(f"{100 * shares[digit]:.1f} %", (100 * shares[digit], 0), (4, 0),
                     textcoords="offset points", va="center")  # fmt: skip
        bar.set_xlim(0, 14)
        bar.set_yticks([])
        bar.grid(False)
        bar.spines[:].set_visible(False)
        if digit < 9:
            bar.set_xticks([])
    axes[9, 12].set_xticks([0, 5, 10])
    axes[9, 12].set_xlabel("% of 10,000")
    return figure


# --- All of it ----------------------------------------------------------------------


def measure(demo: Demo, seed: int, draw: bool) -> dict[str, float]:
    """Train everything from one seed; return what is claimed, by name."""
    demo.say("  one dimension")
    moments, history, gan = one_dimension(demo, seed)
    v, real, generated = balance(gan, seed)
    demo.say("  the gradient at the start")
    race = gradients_at_the_start(demo, seed)
    played = []
    for name, mixture, steps in (
        ("ring of 8", ring(), demo.choose(8_000, 160)),
        ("grid of 25", grid(), demo.choose(12_000, 160)),
    ):
        demo.say(f"  {name}")
        played.append(play(mixture, steps, seed))
    demo.say("  digits")
    made = generate_digits(demo, seed)
    if draw:
        demo.save(draw_one_dimension(moments), "1d")
        demo.save(draw_balance(history), "balance")
        demo.save(draw_gradients(race), "gradients")
        demo.save(draw_frames(played), "mixtures")
        demo.save(draw_digits_figure(made), "digits")
    circle, square = (game.coverage for game in played)
    return {
        "V at the end, from -log 4 (nats)": abs(v + LOG_4),
        "D from p / (p + q), mean, while G was far (step 50)": from_best(moments[1]),
        "D from p / (p + q), mean, at the end": from_best(moments[-1]),
        "q from p at the end, total variation": total_variation(moments[-1]),
        "mean D(x) at the end, from 1/2": abs(real - 0.5),
        "mean D(G(z)) at the end, from 1/2": abs(generated - 0.5),
        "G's gradient, log D against log(1 - D), once D is sure": race.other[-1]
        / race.saturating[-1],
        "ring: modes of 8": circle.modes,
        "ring: good samples (%)": 100 * circle.high_quality,
        "grid: modes of 25": square.modes,
        "grid: good samples (%)": 100 * square.high_quality,
        "the classifier's accuracy on drawn digits (%)": 100 * made.accuracy,
        "digits: the rarest one's share of 10,000 (%)": 100 * made.shares.min(),
    }


# What is claimed: at most, or at least, in full and under --quick. The plays of a
# quick run on ring, grid and digits are too short for a claim worth its name: of the
# digits, that there are five of each among 10,000.
BOUNDS = {
    "V": ("at_most", 0.05, 0.05),
    "D from": ("at_most", 0.1, 0.12),
    "q from": ("at_most", 0.1, 0.15),
    "mean D": ("at_most", 0.03, 0.03),
    "G's gradient": ("at_least", 20.0, 20.0),
    "ring: modes": ("at_least", 8, 3),
    "ring: good": ("at_least", 94.0, 0.5),
    "grid: modes": ("at_least", 25, 5),
    "grid: good": ("at_least", 93.0, 0.5),
    "the classifier": ("at_least", 98.0, 95.0),
    "digits": ("at_least", 5.0, 0.05),
}


def claim(demo: Demo, values: dict[str, float]) -> None:
    """Compare what was measured with what is claimed."""
    for what, value in values.items():
        side, full, quick = next(b for k, b in BOUNDS.items() if what.startswith(k))
        demo.claim(what, value, **{side: demo.choose(full, quick)})


def run(demo: Demo) -> None:
    """Train everything once."""
    claim(demo, measure(demo, demo.seed, draw=True))


if __name__ == "__main__":
    main(__name__)
