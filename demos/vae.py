"""A variational autoencoder learns a distribution, and new digits are drawn from it.

The lecture: 변이형(Variational) 오토인코더. "입력 데이터의 잠재적 분포를 학습하고,
재구성된 이미지가 원래 이미지와 유사한 분포를 가지도록 하는 오토인코더" (it learns the
latent distribution of the data, and its reconstructions are distributed like the
images); "다른 오토인코더와 다르게, 학습 데이터에서 샘플링된 것 같은 새로운 데이터를
만들기 때문에 생성모델로 분류됨" (unlike other autoencoders it makes new data that look
as if drawn from the training data, so it is called a generative model). Measured on
held-out digits:

- reconstructions: thickness, size, rotation and slant against those of the images, by
  the Kolmogorov-Smirnov statistic (0: equal distributions, 1: separate ones). Size and
  slant vary more than usual here. A supervised network, the ruler, measures the
  factors; it learned from blurred digits too. Slant is fixed where rotation is read,
  and rotation where slant is read. The VAE meets the bound for size, rotation and
  slant, and nearly for thickness. But this needs no VAE: a plain autoencoder does it
  better. PCA with a code as long and the mean picture miss the bound;
- new digits: the accuracy of a classifier that learns to tell them from real ones (50 %
  if nothing tells them apart; Lopez-Paz & Oquab 2017). Next to the VAE stands a plain
  autoencoder, its codes drawn from a Gaussian fitted to them, or from N(0, 1). Here
  the VAE is better;
- log p(x) of 500 held-out digits. Here the VAE is a little better. The autoencoder with
  a Gaussian is a VAE of a fixed σ (the best of several), so it has both log p(x) and a
  bound on it (ELBO). log p(x) is estimated from 1,000 draws of z around the most
  probable z of each digit. In the mean this is a lower bound, but it is flat: 300 draws
  give nearly the same. So does an integral, where the code has 2 numbers. The VAE's
  bound alone does not show that it is better, because it lies below the autoencoder's
  estimate. For independent pixels log p(x) is exact. Here x is black and white: each
  pixel is black with its grey value as the probability. For grey x the Bernoulli
  formula is not the logarithm of a density;
- whether new digits are copies: the least distance to a training digit.

Pictures of digits are the mean of p(x | z), not draws from it.
"""

import math
import statistics
import textwrap
from typing import Any, NamedTuple

import numpy as np

from demos._demo import Demo, main
from demos._latent import (
    ACTIVATION,
    as_vae,
    black_and_white,
    integrated_log_p,
    log_mean,
    log_odds,
    log_weights,
    plane,
    start,
)
from demos._ruler import Ruler, blurred
from demos._two_samples import told_apart
from scratchnet import backend, plots
from scratchnet.byhand import VAE, Autoencoder
from scratchnet.data.digits import Digits, draw_digits
from scratchnet.metrics import (
    PCA,
    ks_statistic,
    nearest_distance,
    nearest_neighbors,
)
from scratchnet.optim import cosine_decay
from scratchnet.training import History, fit
from scratchnet.twins import log_bernoulli

SIDE = 28  # pixels
PIXELS = SIDE**2
CODE = 24  # numbers
BATCH = 100
WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # σ of q(z | x), where p(z) has σ = 1
DRAWS = (1, 3, 10, 30, 100, 300)  # draws of z from q(z | x) for each digit
FEW, MANY = 300, 1000  # draws of z for an estimate of log p(x)
WIDE = {  # drawn wider than usual, to be seen over the wobble of the hand
    "size": (0.42, 0.62),
    "slant": (-0.3, 0.45),
}
FACTORS = {  # the label of the axis, and its unit in that of `Digits`
    "thickness": ("thickness (pixels)", 28),
    "size": ("height (pixels)", 28),
    "rotation": ("rotation (degrees)", 180 / math.pi),
    "slant": ("slant (shift per height)", 1),
}
# Slant and rotation look alike, so each is read where the other is fixed.
READ: tuple[tuple[tuple[str, ...], dict[str, float]], ...] = (
    (("thickness", "size", "rotation"), {"slant": 0.075}),
    (("slant",), {"rotation": 0.0}),
)
FITTED = "autoencoder, codes from a fitted Gaussian"
STANDARD = "autoencoder, codes from N(0, 1)"
PIXELWISE = "mean picture (independent pixels)"
TIE = "A plain autoencoder meets the bound too, and is better than the VAE."
THICKER = (
    "The VAE blurs thin strokes, and the ruler reads them as thicker. With sizes as "
    "usual, a ruler that learned from sharp digits only read 0.133, and this one "
    f"0.043, but then size had 0.066. {TIE}"
)
BELOW = (
    "The autoencoder's log p(x) is estimated with draws around the most probable z. "
    "Draws from its encoder's q(z | x), 300 for each digit, gave 6 to 7 nats less, "
    "which is less than the VAE's bound. A VAE trained on black-and-white digits (one "
    "seed) had a bound higher by 0.8 nats, but no higher log p(x)."
)
BLUE, ORANGE, GREEN = plots.COLORS[:3]
LOOKS = {  # the colour and line of each source of digits
    "real digits": ("black", "-"),
    "VAE": (BLUE, "--"),
    "plain autoencoder": (GREEN, "-."),
    "PCA": (ORANGE, ":"),
}


def wide(n: int, rng: np.random.Generator, **fixed: float) -> Digits:
    """Draw n digits whose sizes and slants vary more than usual."""
    drawn: dict[str, Any] = {k: rng.uniform(*ends, n) for k, ends in WIDE.items()}
    return draw_digits(n, rng, **(drawn | fixed))


# --- Training -----------------------------------------------------------------------


class Bound(NamedTuple):
    """The two terms of the bound on held-out digits after each epoch: means, nats."""

    log_p_x: list[float]  # log p(x | z)
    kl: list[float]

    @property
    def elbo(self) -> np.ndarray:
        """The bound itself (epochs,)."""
        return np.subtract(self.log_p_x, self.kl)


def options(demo: Demo, code: int, steps: int) -> dict[str, Any]:
    """Return the options that the VAEs and the plain autoencoder share."""
    return {
        "sizes": (PIXELS, *demo.choose((512, 256), (256,)), code),
        "batch_size": BATCH,
        "activation": ACTIVATION,
        "lr": cosine_decay(demo.choose(4e-3, 6e-3), steps),
    }


def train_vae(
    demo: Demo, code: int, epochs: int, x: np.ndarray, held_out: np.ndarray, seed: int
) -> tuple[VAE, Bound]:
    """Train a VAE on x (n, PIXELS); note its bound on held-out digits by epoch."""
    init, shuffle, noise = backend.streams(seed, 3)
    vae = VAE(rng=init, **options(demo, code, epochs * len(x) // BATCH))
    start(vae, x)
    bound = Bound([], [])

    def note(history: History) -> None:
        # The same draws after each epoch, so that only the model changes.
        terms = vae.elbo_terms(held_out, np.random.default_rng(seed))
        for kept, term in zip(bound, terms, strict=True):
            kept.append(float(term.mean()))

    fit(vae, x, epochs=epochs, batch_size=BATCH, rng=shuffle, noise=noise,
        callback=note)  # fmt: skip
    return vae, bound


def train_autoencoder(demo: Demo, epochs: int, x: np.ndarray, seed: int) -> Autoencoder:
    """Train a plain autoencoder: the same network and log p(x | z), no noise, no KL."""
    init, shuffle = backend.streams(seed, 2)
    made = options(demo, CODE, epochs * len(x) // BATCH)
    model = Autoencoder(rng=init, loss="cross_entropy", **made)
    start(model, x)
    fit(model, x, epochs=epochs, batch_size=BATCH, rng=shuffle)
    return model


def plain_as_vaes(model: Autoencoder, x: np.ndarray, seed: int) -> dict[str, VAE]:
    """Return `as_vae` with a Gaussian fitted to the codes of x, and with N(0, 1).

    The width is the one of WIDTHS with the best bound on 500 of the digits x.
    """
    (rng,) = backend.streams(seed, 1)
    some = black_and_white(x[:500], rng)
    codes = model.encode(x).astype(np.float64)
    priors = {
        FITTED: (
            codes.mean(axis=0),
            np.linalg.cholesky(np.cov(codes.T)),
        ),
        STANDARD: (np.zeros(CODE), np.eye(CODE)),
    }
    return {
        name: max(
            (as_vae(model, *prior, width) for width in WIDTHS),
            key=lambda vae: float(vae.elbo(some, rng).mean()),
        )
        for name, prior in priors.items()
    }


# --- The bound ----------------------------------------------------------------------


class Tightness(NamedTuple):
    """The mean of log p(x) of some digits and bounds on it, in nats."""

    elbo: float
    by_draws: np.ndarray  # importance-weighted bounds, for DRAWS
    errors: np.ndarray  # their standard errors, because z is drawn
    estimate: float  # of log p(x), from MANY draws
    exact: float  # log p(x), integrated


def tightness(demo: Demo, vae: VAE, x: np.ndarray) -> Tightness:
    """Compare log p(x) of a VAE with a code of 2 with an estimate and bounds."""
    (rng,) = backend.streams(demo.seed + 1000, 1)
    means, errors = [], []
    for k in DRAWS:
        times = max(4, 100 // k)
        found = np.stack([vae.log_likelihood(x, rng, k) for _ in range(times)])
        means.append(found.mean())
        errors.append(math.sqrt(found.var(axis=0, ddof=1).sum() / times) / len(x))
    return Tightness(
        float(np.mean([vae.elbo(x, rng).mean() for _ in range(20)])),
        np.array(means),
        np.array(errors),
        float(log_mean(log_weights(vae, x, rng, MANY)).mean()),
        float(integrated_log_p(vae, x, demo.choose(0.03, 0.06)).mean()),
    )


@plots.styled
def draw_bound(bound: Bound, log_p: float, tight: Tightness) -> Any:
    """Draw the bound and its terms over the epochs, and its distance to log p(x).

    Args:
        bound: of the VAE with the long code.
        log_p: the estimate of its log p(x) after training.
        tight: of the VAE with a code of 2.

    """
    figure, ((left, right),) = plots.panels(1, 2, (3.9, 4))
    epochs = np.arange(1, len(bound.kl) + 1)
    left.plot(epochs, bound.log_p_x, color=ORANGE, ls="--", label="log p(x | z)")
    left.fill_between(epochs, bound.elbo, bound.log_p_x, color=GREEN, alpha=0.2, lw=0,
                      label="KL(q(z | x) ‖ p(z))")  # fmt: skip
    left.plot(epochs[-1], log_p, "D", color="black", ms=7, clip_on=False,
              label="log p(x), estimated")  # fmt: skip
    left.plot(epochs, bound.elbo, color=BLUE, label="the bound (ELBO)")
    left.set_xlim(0, epochs[-1])
    left.set_xticks(range(0, len(epochs) + 1, 5))
    left.set_title(f"a code of {CODE} numbers, in training")
    left.set_xlabel("epoch")
    left.set_ylabel("nats per held-out digit")
    right.axhline(tight.exact, color="black", ls=":", label="log p(x), integrated")
    right.errorbar(
        DRAWS,
        tight.by_draws,
        2 * tight.errors,
        fmt="o-",
        color=GREEN,
        capsize=3,
        label="bound from draws of q(z | x)\n(± 2 standard errors)",
    )
    right.plot(1, tight.elbo, "s", color=BLUE, ms=8, label="the bound (ELBO)")
    right.plot(MANY, tight.estimate, "D", color="black", ms=7,
               label="log p(x), estimated")  # fmt: skip
    gap = tight.exact - tight.elbo
    right.set_ylim(tight.elbo - gap, tight.exact + 0.3 * gap)
    right.set_xscale("log")
    right.xaxis.set_major_formatter("{x:,.0f}")
    right.set_title("a code of 2 numbers, after training")
    right.set_xlabel("draws of z for each digit")
    for ax in (left, right):
        ax.legend(loc="lower right", fontsize=10)
    figure.supxlabel("x is black and white: each pixel is black with its grey value "
                     "as the probability", fontsize=10)  # fmt: skip
    return figure


def judge_bound(demo: Demo, bound: Bound, log_p: float, flat: VAE, x: Any) -> None:
    """Measure the bounds of both VAEs on the held-out digits x, black and white."""
    demo.measure("log p(x given z) after training (nats)", bound.log_p_x[-1])
    demo.measure("KL of q(z given x) from p(z) after training (nats)", bound.kl[-1])
    tight = tightness(demo, flat, x)
    gap = tight.exact - tight.elbo
    demo.claim(
        f"code of 2: log p(x) over the bound from {DRAWS[-1]} draws (nats)",
        tight.exact - tight.by_draws[-1], at_most=gap / 2, baseline={"the ELBO": gap},
    )  # fmt: skip
    above = (tight.by_draws - tight.exact) / tight.errors
    demo.check("code of 2: largest excess of a bound over log p(x) (standard errors)",
               float(above.max()), at_most=3)  # fmt: skip
    demo.check("code of 2: the estimate of log p(x) against the integral (nats)",
               abs(tight.estimate - tight.exact), at_most=0.1)  # fmt: skip
    demo.save(draw_bound(bound, log_p, tight),
              alt="The bound rises in training and lies below log p(x); with a code of "
              "2 numbers, bounds from more draws of z approach it, and the estimate "
              "meets it.")  # fmt: skip


# --- How reconstructions are distributed --------------------------------------------


def statistic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Kolmogorov-Smirnov statistic of each column of a and b."""
    return np.array([ks_statistic(u, v)[0] for u, v in zip(a.T, b.T, strict=True)])


def teach(demo: Demo) -> list[Ruler]:
    """Train a ruler for each row of READ, on digits drawn like that, half blurred."""
    rulers = []
    for i, (names, fixed) in enumerate(READ):
        (rng,) = backend.streams(demo.seed + 2000 + i, 1)
        digits = wide(demo.choose(30_000, 4_000), rng, **fixed)
        rulers.append(Ruler(names, blurred(digits), 5, demo.seed + 2500 + i))
    return rulers


@plots.styled
def draw_factors(
    read: dict[str, np.ndarray], ks: dict[str, np.ndarray], r2: np.ndarray
) -> Any:
    """Draw the cumulative distribution of each factor.

    Args:
        read: the factors (n, 4), by source.
        ks: the statistics of those against the real ones.
        r2: of the ruler, for each factor.

    """
    figure, axes = plots.panels(2, 2, (3.6, 3.1), sharey=True)
    for i, (ax, (label, unit)) in enumerate(
        zip(axes.flat, FACTORS.values(), strict=True)
    ):
        for name, (color, style) in LOOKS.items():
            ax.ecdf(unit * read[name][:, i], color=color, ls=style, lw=1.8,
                    label=f"{name}, reconstructed" if name in ks else name)  # fmt: skip
        for j, name in enumerate(k for k in ks if k in LOOKS):
            ax.text(0.98, 0.03 + 0.1 * j, f"{name}: KS {ks[name][i]:.3f}", fontsize=9,
                    color=LOOKS[name][0], transform=ax.transAxes, ha="right",
                    bbox={"color": "white", "pad": 1})  # fmt: skip
        low, high = np.quantile(unit * read["real digits"][:, i], [0.001, 0.999])
        ax.set_ylim(-0.02, 1.02)
        ax.set_xlim(1.2 * low - 0.2 * high, 1.2 * high - 0.2 * low)
        ax.set_title(f"R² of the ruler {r2[i]:.2f}", fontsize=10)
        ax.set_xlabel(label)
    figure.supylabel("share of digits at or below", fontsize=11)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def judge_reconstructions(
    demo: Demo, x: np.ndarray, models: dict[str, Any], rng: np.random.Generator
) -> None:
    """Compare the factors of reconstructions with those of held-out digits.

    Args:
        demo: the demo.
        x: the training digits (n, PIXELS).
        models: what reconstructs digits, by name.
        rng: draws the held-out digits.

    """
    rulers, n = teach(demo), demo.choose(4000, 1000)
    digits = [wide(n, rng, **fixed) for _, fixed in READ]
    others = [wide(n, rng, **fixed) for _, fixed in READ]

    def read(change: Any, drawn: list[Digits]) -> np.ndarray:
        return np.hstack([r(change(d.x)) for r, d in zip(rulers, drawn, strict=True)])

    pca = PCA(CODE).fit(x)
    ways = {name: model.reconstruct for name, model in models.items()} | {
        "PCA": lambda x: np.clip(pca.inverse_transform(pca.transform(x)), 0, 1),
        "mean picture": lambda y: y * 0 + x.mean(axis=0),
    }
    real = read(lambda x: x, digits)
    found = {name: read(way, digits) for name, way in ways.items()}
    ks = {name: statistic(y, real) for name, y in found.items()}
    floor = statistic(read(lambda x: x, others), real)
    r2 = np.concatenate([r.r2(d) for r, d in zip(rulers, digits, strict=True)])
    for i, name in enumerate(FACTORS):
        demo.claim(f"R² of the ruler: {name}", r2[i], baseline={"the mean": 0.0},
                   at_least=demo.choose(0.85, 0.75))  # fmt: skip
    for name, columns, tried in (
        ("size, rotation and slant, the largest", slice(1, None), TIE),
        ("thickness", slice(1), THICKER),
    ):
        worst = {way: float(each[columns].max()) for way, each in ks.items()}
        demo.claim(
            f"KS statistic of the VAE's reconstructions: {name}",
            worst.pop("VAE"), at_most=0.05, baseline=worst, tried=tried,
        )  # fmt: skip
    demo.measure("largest KS statistic: other real digits", floor.max())
    demo.save(draw_factors({"real digits": real} | found, ks, r2), "factors",
              alt="Size, rotation and slant of the VAE's reconstructions are "
              "distributed nearly as in real digits, thickness less so; the plain "
              "autoencoder's are closer, PCA's are not close.")  # fmt: skip


# --- New digits ---------------------------------------------------------------------


class Judged(NamedTuple):
    """How a source of digits was judged; NaN where that is not defined."""

    accuracy: float  # %, of telling its digits from real ones
    elbo: float = math.nan  # nats, on held-out digits
    log_p: float = math.nan  # nats, on held-out digits; an estimate
    rise: float = math.nan  # nats, of the estimate from FEW draws to MANY


@plots.styled
def draw_judged(judged: dict[str, Judged]) -> Any:
    """Draw how well new digits are told from real ones, and log p(x), by source."""
    figure, ((left, right),) = plots.panels(1, 2, (3.8, 3.8), sharey=True)
    rows = [textwrap.fill(name, 22) for name in judged]
    accuracy, elbo, log_p, _ = zip(*judged.values(), strict=True)
    left.axvline(50, color="black", ls=":")
    left.annotate("chance", (50, len(rows) - 0.6), (4, 0), textcoords="offset points")
    left.plot(accuracy, rows, "o", color=ORANGE, ms=8)
    right.plot(elbo, rows, "s", color=BLUE, ms=8, label="the bound (ELBO)")
    right.plot(log_p, rows, "D", color="black", ms=6, label="log p(x), estimated")
    for ax, values, right_of in (
        (left, accuracy, True), (right, elbo, False), (right, log_p, True)
    ):  # fmt: skip
        for y, value in enumerate(values):
            if not math.isnan(value):
                ax.annotate(f"{value:.0f}".replace("-", "−"), (value, y),
                            (8 if right_of else -8, 0), va="center", fontsize=10,
                            textcoords="offset points",
                            ha="left" if right_of else "right")  # fmt: skip
    left.set_xlim(45, 108)
    left.set_xticks(range(50, 101, 10))
    left.set_title("new digits told from real ones\n(lower is better)")
    left.set_xlabel("accuracy of a classifier (%)")
    right.margins(x=0.3)
    right.set_title("log p(x) of held-out digits\n(higher is better)")
    right.set_xlabel("nats per digit, black and white")
    left.set_ylim(len(rows) - 0.5, -0.5)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right",
                  ncols=2)  # fmt: skip
    return figure


def judge(
    demo: Demo, made: dict[str, np.ndarray], vaes: dict[str, VAE], x: np.ndarray,
    held_out: np.ndarray, black: np.ndarray,
) -> dict[str, Judged]:  # fmt: skip
    """Tell new digits from real ones, and estimate log p(x) of held-out digits.

    Args:
        demo: the demo.
        made: new digits, by source.
        vaes: the models that made them, where they have a bound.
        x, held_out: the training digits and others (n, PIXELS).
        black: some of those others in black and white.

    """
    (rng,) = backend.streams(demo.seed + 6000, 1)
    judged = {}
    for name, digits in made.items():
        accuracy = 100 * told_apart(held_out, digits, demo.seed + 6100)
        judged[name] = Judged(accuracy)
        if name in vaes:
            elbo = float(vaes[name].elbo(black, rng).mean())
            log_w = log_weights(vaes[name], black, rng, MANY)
            few, many = (float(log_mean(log_w[:, :k]).mean()) for k in (FEW, MANY))
            judged[name] = Judged(accuracy, elbo, many, many - few)
    exact = float(log_bernoulli(black, log_odds(x)[None]).mean())
    judged[PIXELWISE] = judged[PIXELWISE]._replace(log_p=exact)
    return judged


def claim_samples(demo: Demo, judged: dict[str, Judged]) -> None:
    """Compare the VAE's new digits and its log p(x) with those of the others."""
    vae, fitted = judged["VAE"], judged[FITTED]
    simple = {name: judged[name] for name in (STANDARD, PIXELWISE)}
    # A quick VAE is no better than the fitted autoencoder.
    rivals = simple if demo.quick else {FITTED: fitted} | simple
    demo.claim(
        "accuracy of telling from real digits: VAE (%)", vae.accuracy,
        at_most=demo.choose(77.0, 85.0),
        baseline={name: rival.accuracy for name, rival in rivals.items()},
    )  # fmt: skip
    if not demo.quick:
        demo.claim(
            "accuracy: the fitted autoencoder's over the VAE's (points)",
            fitted.accuracy - vae.accuracy, at_least=3.0,
            baseline={k: fitted.accuracy - v.accuracy for k, v in simple.items()},
        )  # fmt: skip
        baseline = {k: v.log_p - fitted.log_p for k, v in simple.items()}
        demo.claim(
            "log p(x), both estimated: the VAE's over the fitted autoencoder's (nats)",
            vae.log_p - fitted.log_p, at_least=1.0, baseline=baseline,
        )  # fmt: skip
        demo.claim(
            "log p(x): the VAE's bound over the fitted autoencoder's estimate (nats)",
            vae.elbo - fitted.log_p, at_least=1.0, baseline=baseline, tried=BELOW,
        )  # fmt: skip
    demo.check(f"estimates of log p(x): largest rise from {FEW} to {MANY:,} draws "
               "(nats)", max(model.rise for model in judged.values()
                             if not math.isnan(model.rise)), at_most=0.2)  # fmt: skip
    demo.measure("accuracy: real digits (%)", judged["real digits"].accuracy)
    for name in ("VAE", FITTED, STANDARD):
        demo.measure(f"estimate of log p(x): {name} (nats)", judged[name].log_p)
    demo.measure(f"log p(x): {PIXELWISE} (nats)", judged[PIXELWISE].log_p)
    for name in ("VAE", FITTED, STANDARD):
        demo.measure(f"bound on log p(x): {name} (nats)", judged[name].elbo)
    demo.save(draw_judged(judged), "judged",
              alt="The VAE's digits are harder to tell from real ones than the "
              "autoencoder's, and log p(x) of held-out digits is a little higher; the "
              "VAE's bound is closer to its log p(x).")  # fmt: skip


def interpolate(vae: VAE, a: np.ndarray, b: np.ndarray, n: int = 7) -> np.ndarray:
    """Decode n points (n, PIXELS) on the line between the codes of a and b."""
    codes = vae.encode(np.stack([a, b]))
    t = np.linspace(0, 1, n, dtype=codes.dtype)[:, None]
    return vae.decode((1 - t) * codes[0] + t * codes[1])


def quantiles(n: int) -> np.ndarray:
    """Return the medians of n equally probable parts of N(0, 1), in ascending order."""
    normal = statistics.NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / n) for i in range(n)])


def pictures(x: np.ndarray) -> np.ndarray:
    """Return rows of pixels (n, d) as pictures (n, rows, columns)."""
    return x.reshape(-1, SIDE, SIDE)


def show_samples(demo: Demo, made: dict[str, np.ndarray], train: np.ndarray) -> None:
    """Draw new digits of each source, and the nearest to training digits."""
    two = (10, 2 * SIDE, SIDE)  # ten panels of two digits, one above the other
    rows = {textwrap.fill(k, 22): x[:20].reshape(two) for k, x in made.items()}
    demo.save(plots.picture_rows(rows), "samples", alt="Digits drawn by the VAE, by "
              "the plain autoencoder, and real ones.")  # fmt: skip
    n = demo.choose(2000, 500)
    new, real = made["VAE"][:n], made["real digits"][:n]
    far, least = nearest_distance(new, train), nearest_distance(real, train).min()
    demo.claim(
        "least distance to a training digit, the VAE's over real ones",
        far.min() / least,
        at_least=0.8,
        baseline={
            "digits with one copy": np.append(
                far, nearest_distance(train[:1], train)
            ).min()
            / least
        },
    )
    near = new[np.argsort(far)[:10]]
    nearest = train[nearest_neighbors(near, train)[:, 0]]
    rows = {"by the VAE": pictures(near),
            "nearest\ntraining digit": pictures(nearest)}  # fmt: skip
    demo.save(plots.picture_rows(rows, f"the ten of {n:,} that are nearest to a "
                                 "training digit"), "nearest",
              alt="The VAE's digits that are nearest to training digits differ from "
              "them.")  # fmt: skip


def show_ways(demo: Demo, vae: VAE, flat: VAE, digits: Digits) -> None:
    """Draw lines between the codes of digits, and the plane of a code of 2."""
    first = {k: digits.x[np.argmax(digits.label == k)] for k in range(10)}
    ways = {
        f"{a} to {b}": pictures(
            np.vstack([first[a], interpolate(vae, first[a], first[b]), first[b]])
        )
        for a, b in ((1, 7), (3, 8), (4, 9), (0, 6), (5, 2))
    }
    notes = "first and last: held-out digits; between: codes on a line, decoded"
    demo.save(plots.picture_rows(ways, notes), "interpolation",
              alt="Digits change smoothly on the line between two codes.")  # fmt: skip
    z = quantiles(19)
    decoded = pictures(flat.decode(plane(z).astype(flat.dtype)))
    demo.save(plots.code_plane(decoded, z), "plane",
              alt="The plane of a code of two numbers is full of digits.")  # fmt: skip


def run(demo: Demo) -> None:
    """Train two VAEs and a plain autoencoder, and judge what they make."""
    train_rng, held_out_rng, real_rng, rng = backend.streams(demo.seed, 4)
    x = wide(demo.choose(40_000, 4_000), train_rng).x
    n, epochs = demo.choose(8_000, 2_000), demo.choose(15, 10)
    held_out = wide(n, held_out_rng)
    followed = black_and_white(held_out.x[: demo.choose(500, 40)], rng)
    vae, bound = train_vae(demo, CODE, epochs, x, followed, demo.seed + 3000)
    flat, _ = train_vae(
        demo, 2, demo.choose(8, 4), x[:20_000], followed, demo.seed + 4000
    )
    plain = train_autoencoder(demo, epochs, x, demo.seed + 5000)
    vaes = {"VAE": vae} | plain_as_vaes(plain, x, demo.seed + 5500)
    z = rng.standard_normal((n, CODE), np.float32)
    made = {
        "real digits": wide(n, real_rng).x,
        **{name: model.decode(z) for name, model in vaes.items()},
        PIXELWISE: np.tile(x.mean(axis=0), (n, 1)),
    }
    models = {"VAE": vae, "plain autoencoder": plain}
    judge_reconstructions(demo, x, models, held_out_rng)
    judged = judge(demo, made, vaes, x, held_out.x, followed)
    claim_samples(demo, judged)
    judge_bound(
        demo, bound, judged["VAE"].log_p, flat, followed[: demo.choose(100, 30)]
    )
    show_samples(demo, made, x)
    show_ways(demo, vae, flat, held_out)


if __name__ == "__main__":
    main(__name__)
