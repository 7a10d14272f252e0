"""Two networks compete until neither can gain: the balance, where D(x) is 1/2.

The lecture: D maximises V(D, G) ("판별 네트워크가 V(D,G)를 최대화한다고 가정하면"), G
minimises it, and they meet where D cannot tell real from generated ("1/2(균형점, 판별
네트워크가 구분할 수 없도록)"). Shown and measured:

- one dimension, as in figure 1 of Goodfellow et al. 2014: the densities p of the data
  and q of the generated samples, D(x), and the best D for that G, p / (p + q);
- why G should raise log D(G(z)) rather than lower log(1 - D(G(z))): the norm of both
  gradients once D is nearly certain;
- a ring of 8 Gaussians and a grid of 25: how many of them G finds, and how many of its
  samples are good, that is within 3 standard deviations of a Gaussian's centre.

The generated digits are in gan_digits.py.
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
from scratchnet.optim import hold_then_decay
from scratchnet.training import GANHistory, fit_gan

LOG_4 = math.log(4)
N = 2500  # samples that judge ring and grid, as in the papers

# Adam without momentum: each player's step changes the loss of the other, so past
# gradients mislead (Mescheder et al. 2018).
BETAS = (0.0, 0.99)


def averaged(gan: GAN, steps: int) -> optim.AverageUpdate:
    """Average G's weights over about the last hundredth of the steps."""
    return optim.AverageUpdate([gan.theta_g], max(0.0, 1 - 100 / steps))


def normal(rng: np.random.Generator, n: int, columns: int) -> np.ndarray:
    """Draw standard normal noise (n, columns)."""
    return rng.standard_normal((n, columns), np.float32)


# --- One dimension ------------------------------------------------------------------

TWO_BUMPS = Mixture(np.array([[-1.2], [1.2]]), 0.45)
AXIS = np.linspace(-3.2, 3.2, 321)


class Moment(NamedTuple):
    """The game in one dimension at one moment; densities and D over `AXIS`."""

    step: int
    q: np.ndarray  # density of the generated samples
    d: np.ndarray  # D(x)
    best: np.ndarray  # p / (p + q); nan where p + q is at most 0.01
    z: np.ndarray  # 25 values of the noise, in order
    x: np.ndarray  # G(z)


def one_dimension(demo: Demo, seed: int) -> tuple[list[Moment], GANHistory, GAN]:
    """Play the game in one dimension, and record four moments."""
    data_rng, init, shuffle, noise, look = backend.streams(seed, 5)
    steps = demo.choose(3000, 800)
    k = 5  # steps of D for each step of G: the theory assumes the best D
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
    """Record the densities, D, and G's map from noise to samples."""
    x = gan.generate(z)[:, 0]
    q = density(x)
    p = np.exp(TWO_BUMPS.log_density(AXIS[:, None]))
    d = gan.discriminate(AXIS[:, None].astype(np.float32))[:, 0]
    shown = np.linspace(-2, 2, 25, dtype=np.float32)[:, None]
    best = np.where(p + q > 0.01, p / (p + q), np.nan)
    return Moment(step, q, d, best, shown[:, 0], gan.generate(shown)[:, 0])


def from_best(now: Moment) -> float:
    """Return the mean of |D − p / (p + q)| over data and samples in equal parts."""
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
    """Draw the densities and D at four moments, as in figure 1 of the GAN paper."""
    figure, axes = plots.panels(
        4, 2, (3.4, 1.9), sharey="row", gridspec_kw={"height_ratios": [3, 1.2] * 2}
    )
    p = np.exp(TWO_BUMPS.log_density(AXIS[:, None]))
    blue, red, green = plots.COLORS[:3]
    pairs = zip(axes[0::2].flat, axes[1::2].flat, strict=True)
    for (top, below), now in zip(pairs, moments, strict=True):
        top.plot(AXIS, p, color="black", ls=":", label="data, p")
        top.fill_between(AXIS, now.q, color=green, alpha=0.35, lw=0)
        top.plot(AXIS, now.q, color=green, lw=1, label="generated, q")
        top.axhline(0.5, color="gray", ls="-.", lw=1, label="balance, 1/2")
        top.plot(AXIS, now.best, color=red, ls="--", label="best D, p / (p + q)")
        top.plot(AXIS, now.d, color=blue, label="D(x)")
        top.set_title(f"step {now.step:,}" if now.step else "untrained")
        top.set_ylim(0, 1.2)
        top.set_xlabel("x")
        if now.q.max() > 1.2:
            top.text(0.3, 1.1, f"q rises to {now.q.max():.1f}", color=green)
        for z, x in zip(now.z, now.x, strict=True):
            below.plot([z, x], [0, 1], color=green, lw=0.8)
        below.set_yticks([0, 1], ["z", "G(z)"])
        below.set_ylim(0, 1)
        below.grid(False)
        below.set_xlabel("bottom: noise z; top: sample G(z)")
        for ax in (top, below):
            ax.set_xlim(AXIS[0], AXIS[-1])
    for ax in axes[0::2, 0]:
        ax.set_ylabel("density, or D(x)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


@plots.styled
def draw_balance(history: GANHistory) -> Any:
    """Draw V and the means of D over the steps, with their values at the balance."""
    figure, axes = plots.panels(1, 2, (3.6, 3.2))
    blue, red = plots.COLORS[:2]
    left, right = axes[0]
    left.plot(history.steps, history.v, color=blue, lw=0.8)
    left.axhline(-LOG_4, color="black", ls=":", label="balance, −log 4")
    left.set_title("value of the game")
    left.set_ylabel("V(D, G), nats")
    right.plot(history.steps, history.real, color=blue, lw=0.8, label="D(x), data")
    right.plot(history.steps, history.generated, color=red, lw=0.8, ls="--",
               label="D(G(z)), generated")  # fmt: skip
    right.axhline(0.5, color="black", ls=":", label="balance, 1/2")
    right.set_title("mean of D in each batch")
    right.set_ylim(0, 1.4)
    right.set_yticks([0, 0.25, 0.5, 0.75, 1])
    right.set_ylabel("probability of being real")
    left.legend(loc="center left")
    right.legend(loc="upper right")
    for ax in axes[0]:
        ax.set_xscale("log")
        ax.set_xlabel("steps of G")
    return figure


# --- The generator's gradient -------------------------------------------------------


class Race(NamedTuple):
    """The norms of G's two gradients while D learns and G does not."""

    generated: list[float]  # mean D(G(z))
    saturating: list[float]  # of log(1 − D(G(z)))
    other: list[float]  # of −log D(G(z))


def gradients_at_the_start(demo: Demo, seed: int) -> Race:
    """Train D alone against an untrained G on digits; measure both gradients of G."""
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
    """Draw the norms of both gradients over the mean of D(G(z))."""
    figure, axes = plots.panels(1, 1, (5.6, 3.8))
    ax = axes[0, 0]
    blue, red = plots.COLORS[:2]
    ax.plot(race.generated, race.other, "o-", color=blue, ms=3,
            label="G raises log D(G(z))")  # fmt: skip
    ax.plot(race.generated, race.saturating, "s--", color=red, ms=3,
            label="G lowers log(1 − D(G(z)))")  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.invert_xaxis()
    ax.set_title("D learns to reject the samples of an untrained G")
    ax.set_xlabel("mean of D(G(z)): to the right, D is more certain")
    ax.set_ylabel("norm of G's gradient")
    ax.legend(loc="lower left")
    return figure


# --- The ring and the grid ----------------------------------------------------------


class Played(NamedTuple):
    """A GAN's samples of a mixture during training, in the mixture's scale."""

    mixture: Mixture
    frames: dict[int, np.ndarray]  # steps -> samples (N, 2)
    coverage: Coverage  # of the last frame


def play(mixture: Mixture, steps: int, seed: int) -> Played:
    """Train on a mixture in the plane: a deep G with sharp kinks, a smooth D (R1)."""
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
    """Draw the samples of each mixture in a row, from the first to the last step."""
    columns = len(played[0].frames) + 1
    figure, axes = plots.panels(len(played), columns, (1.3, 1.9))
    for row, game in zip(axes, played, strict=True):
        k = len(game.mixture.centers)
        row[0].set_ylabel(f"{k} Gaussians")
        good = 100 * game.coverage.high_quality
        row[-2].set_xlabel(
            f"{game.coverage.modes} of {k} found\n{good:.0f} % within 3σ"
        )
        data, _ = game.mixture.sample(N, np.random.default_rng(0))
        edge = 1.25 * np.abs(game.mixture.centers).max()
        for ax, (step, samples) in zip(row, game.frames.items(), strict=False):
            ax.scatter(*samples.T, s=2, lw=0, color=plots.COLORS[0], alpha=0.5)
            ax.set_title(f"step {step:,}" if step else "untrained")
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


# --- All of it ----------------------------------------------------------------------


def measure(demo: Demo, seed: int, draw: bool) -> dict[str, float]:
    """Train everything from one random seed; return the claimed numbers by name."""
    demo.say("  one dimension")
    moments, history, gan = one_dimension(demo, seed)
    v, real, generated = balance(gan, seed)
    demo.say("  the generator's gradient")
    race = gradients_at_the_start(demo, seed)
    played = []
    for name, mixture, steps in (
        ("ring of 8", ring(), demo.choose(8_000, 160)),
        ("grid of 25", grid(), demo.choose(12_000, 160)),
    ):
        demo.say(f"  {name}")
        played.append(play(mixture, steps, seed))
    if draw:
        demo.save(draw_one_dimension(moments), "1d")
        demo.save(draw_balance(history), "balance")
        demo.save(draw_gradients(race), "gradients")
        demo.save(draw_frames(played), "mixtures")
    circle, square = (game.coverage for game in played)
    return {
        "|V + log 4| at the end (nats)": abs(v + LOG_4),
        "mean |D - p / (p + q)| early (step 50)": from_best(moments[1]),
        "mean |D - p / (p + q)| at the end": from_best(moments[-1]),
        "total variation between p and q at the end": total_variation(moments[-1]),
        "|mean of D(x) - 1/2| at the end": abs(real - 0.5),
        "|mean of D(G(z)) - 1/2| at the end": abs(generated - 0.5),
        "gradient of log D over that of log(1 - D), D nearly certain": race.other[-1]
        / race.saturating[-1],
        "ring: modes of 8": circle.modes,
        "ring: good samples (%)": 100 * circle.high_quality,
        "grid: modes of 25": square.modes,
        "grid: good samples (%)": 100 * square.high_quality,
    }


# The bounds of the claims, in full and under --quick. A quick run trains too little on
# ring and grid for a strong claim.
BOUNDS = {
    "|V": ("at_most", 0.05, 0.05),
    "mean |D": ("at_most", 0.1, 0.12),
    "total": ("at_most", 0.1, 0.15),
    "|mean": ("at_most", 0.03, 0.03),
    "gradient": ("at_least", 20.0, 20.0),
    "ring: modes": ("at_least", 8, 3),
    "ring: good": ("at_least", 94.0, 0.5),
    "grid: modes": ("at_least", 25, 5),
    "grid: good": ("at_least", 93.0, 0.5),
}


def claim(demo: Demo, values: dict[str, float]) -> None:
    """Compare the measured numbers with their bounds."""
    for what, value in values.items():
        side, full, quick = next(b for k, b in BOUNDS.items() if what.startswith(k))
        demo.claim(what, value, **{side: demo.choose(full, quick)})


def run(demo: Demo) -> None:
    """Train everything once."""
    claim(demo, measure(demo, demo.seed, draw=True))


if __name__ == "__main__":
    main(__name__)
