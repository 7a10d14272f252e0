"""A variational autoencoder learns a distribution, and new digits are drawn from it.

The lecture: 변이형(Variational) 오토인코더. "입력 데이터의 잠재적 분포를 학습하고,
재구성된 이미지가 원래 이미지와 유사한 분포를 가지도록 하는 오토인코더" (it learns the
latent distribution of the data, and its images are distributed like them); "다른
오토인코더와 다르게, 학습 데이터에서 샘플링된 것 같은 새로운 데이터를 만들기 때문에
생성모델로 분류됨" (unlike other autoencoders it makes new data that look as if drawn
from the training data, so it is called a generative model). Measured on held-out
digits, where a grey pixel is a probability of ink:

- the bound on log p(x) (ELBO) and its two terms during training; the gap between the
  bound and log p(x). Importance sampling estimates log p(x). For a code of 2 numbers
  an integral over the plane gives it without the encoder;
- thickness, size, rotation and slant of generated digits against those of real ones, by
  the Kolmogorov-Smirnov statistic: 0 for equal distributions, 1 for separate ones. A
  supervised network measures the factors. Also the share of pictures that a classifier
  is sure of. The reference is a plain autoencoder of the same size that decodes the
  same draws from N(0, 1), although its codes are not distributed like that. With a
  Gaussian fitted to its codes it is a generative model too: its factors are distributed
  as well as the VAE's, but the classifier is sure of fewer of its pictures;
- whether generated digits are new: their distance to the nearest training digit, next
  to that of held-out digits.
"""

import math
import statistics
from typing import Any, NamedTuple

import numpy as np

from demos._demo import Demo, main
from demos._ruler import Ruler
from scratchnet import backend, plots
from scratchnet.byhand import VAE, Autoencoder
from scratchnet.data.digits import Digits, draw_digits
from scratchnet.metrics import ks_statistic, nearest_distance, nearest_neighbors
from scratchnet.models.supervised import Classifier
from scratchnet.optim import Adam, cosine_decay
from scratchnet.training import History, fit
from scratchnet.twins import log_bernoulli

SIDE = 28  # pixels
PIXELS = SIDE**2
CODE = 16  # numbers
BATCH = 100
DRAWS = (1, 3, 10, 30, 100, 300, 1000)  # draws of z for each picture
SURE = 0.9  # the classifier is sure at this probability or more
FACTORS = {  # the label of the axis, and its unit in that of `Digits`
    "thickness": ("thickness (pixels)", 28),
    "size": ("height (pixels)", 28),
    "rotation": ("rotation (degrees)", 180 / math.pi),
    "slant": ("slant (shift per height)", 1),
}
BLUE, ORANGE, GREEN = plots.COLORS[:3]
LOOKS = {  # the colour, line and marker of each source of digits
    "real digits": ("black", "-", "s"),
    "VAE": (BLUE, "--", "o"),
    "autoencoder": (ORANGE, ":", "v"),
    "autoencoder, fitted": (GREEN, "-.", "^"),
}


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
    rate = cosine_decay(3e-3, steps)
    return {
        "sizes": (PIXELS, *demo.choose((256, 256), (256,)), code),
        "batch_size": BATCH,
        "activation": "leaky_relu",
        "lr": rate,
    }


def train_vae(
    demo: Demo, code: int, epochs: int, x: np.ndarray, held_out: np.ndarray, seed: int
) -> tuple[VAE, Bound]:
    """Train a VAE on x (n, PIXELS); note its bound on held-out digits by epoch."""
    init, shuffle, noise = backend.streams(seed, 3)
    vae = VAE(rng=init, **options(demo, code, epochs * len(x) // BATCH))
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
    fit(model, x, epochs=epochs, batch_size=BATCH, rng=shuffle)
    return model


# --- The bound ----------------------------------------------------------------------


def integrated_log_p(
    vae: VAE, x: np.ndarray, step: float, edge: float = 5.0
) -> np.ndarray:
    """Integrate p(x | z) N(z; 0, 1) over the plane: log p(x) of each row (n,), nats.

    A sum over a square grid of z, from -edge to edge. It does not use the encoder.
    """
    axis = np.arange(-edge, edge + step / 2, step)
    z = plane(axis)
    log_p = np.empty((len(x), len(z)))
    nothing = np.zeros(1, vae.dtype)
    for start in range(0, len(z), vae.batch_size):
        rows = slice(start, start + vae.batch_size)
        codes = backend.asarray(z[rows].astype(vae.dtype))
        a = backend.to_numpy(vae.decoder.forward(codes))
        # Σ x a - softplus(a), for every x and z.
        log_p[:, rows] = x @ a.T + log_bernoulli(nothing, a)
    log_p -= np.sum(z**2, axis=1) / 2
    largest = log_p.max(axis=1)
    total = np.exp(log_p - largest[:, None]).sum(axis=1)
    return largest + np.log(total) + 2 * math.log(step) - math.log(2 * math.pi)


def plane(axis: np.ndarray) -> np.ndarray:
    """Return the points (axis[0], axis[0]), (axis[1], axis[0]), ...: (m², 2)."""
    return np.stack(np.meshgrid(axis, axis), axis=2).reshape(-1, 2)


class Tightness(NamedTuple):
    """The mean of log p(x) of some digits and bounds on it, in nats."""

    elbo: float
    by_draws: list[float]  # importance-weighted bounds, for DRAWS
    exact: float  # log p(x), integrated
    apart: float  # the last bound's distance from it, for the median digit


def tightness(demo: Demo, vae: VAE, x: np.ndarray) -> Tightness:
    """Compare log p(x) of a VAE with a code of 2 with tighter and tighter bounds."""
    (rng,) = backend.streams(demo.seed + 1000, 1)
    by_draws = [vae.log_likelihood(x, rng, k) for k in DRAWS]
    exact = integrated_log_p(vae, x, demo.choose(0.03, 0.06))
    return Tightness(
        float(np.mean([vae.elbo(x, rng).mean() for _ in range(20)])),
        [float(bound.mean()) for bound in by_draws],
        float(exact.mean()),
        float(np.median(np.abs(exact - by_draws[-1]))),
    )


@plots.styled
def draw_bound(bound: Bound, log_p: float, tight: Tightness) -> Any:
    """Draw the bound and its terms over the epochs, and its distance to log p(x).

    Args:
        bound: of the VAE with the long code.
        log_p: the estimate of its log p(x) after training.
        tight: of the VAE with a code of 2.

    """
    figure, ((left, right),) = plots.panels(1, 2, (3.9, 3.9))
    epochs = np.arange(1, len(bound.kl) + 1)
    left.plot(epochs, bound.log_p_x, color=ORANGE, ls="--", label="log p(x | z)")
    left.fill_between(epochs, bound.elbo, bound.log_p_x, color=GREEN, alpha=0.2, lw=0,
                      label="KL(q(z | x) ‖ p(z))")  # fmt: skip
    left.plot(epochs[-1], log_p, "D", color="black", ms=7, clip_on=False,
              label=f"log p(x), {DRAWS[-1]:,} draws")  # fmt: skip
    left.plot(epochs, bound.elbo, color=BLUE, label="the bound (ELBO)")
    left.set_xlim(0, epochs[-1])
    left.set_xticks(range(0, len(epochs) + 1, 5))
    left.set_title(f"a code of {CODE} numbers, in training")
    left.set_xlabel("epoch")
    left.set_ylabel("nats per held-out digit")
    right.axhline(tight.exact, color="black", ls=":", label="log p(x), integrated")
    right.plot(DRAWS, tight.by_draws, "o-", color=GREEN, label="bound from many draws")
    right.plot(1, tight.elbo, "s", color=BLUE, ms=8, label="the bound (ELBO)")
    gap = tight.exact - tight.elbo
    right.set_ylim(tight.elbo - 0.8 * gap, tight.exact + 0.3 * gap)
    right.set_xscale("log")
    right.xaxis.set_major_formatter("{x:,.0f}")
    right.set_title("a code of 2 numbers, after training")
    right.set_xlabel("draws of z for each picture")
    for ax in (left, right):
        ax.legend(loc="lower right", fontsize=10)
    return figure


def judge_bound(
    demo: Demo, vae: VAE, bound: Bound, flat: VAE, x: np.ndarray, rng: Any
) -> None:
    """Measure the bounds of both VAEs on the held-out digits x."""
    log_p = float(vae.log_likelihood(x, rng, DRAWS[-1]).mean())
    elbo = float(vae.elbo(x, rng).mean())
    tight = tightness(demo, flat, x)
    demo.say(
        f"  log p(x | z) {bound.log_p_x[-1]:.2f}, KL {bound.kl[-1]:.2f}, bound "
        f"{bound.elbo[-1]:.2f} nats per held-out digit"
    )
    demo.claim("the bound, gained after the first epoch (nats)",
               bound.elbo[-1] - bound.elbo[0],
               at_least=demo.choose(20.0, 15.0))  # fmt: skip
    demo.claim(f"log p(x) by {DRAWS[-1]} draws, above the bound (nats)", log_p - elbo,
               at_least=0.5, at_most=6.0)  # fmt: skip
    demo.claim("code of 2: log p(x) integrated, above the bound (nats)",
               tight.exact - tight.elbo, at_least=0.05, at_most=3.0)  # fmt: skip
    demo.claim(f"the same, above the bound by {DRAWS[-1]} draws",
               tight.exact - tight.by_draws[-1],
               at_least=-0.1, at_most=tight.exact - tight.elbo)  # fmt: skip
    demo.claim("and from it for the median digit", tight.apart,
               at_most=0.1)  # fmt: skip
    demo.save(draw_bound(bound, log_p, tight))


# --- How new digits are distributed -------------------------------------------------


def teach(demo: Demo) -> tuple[Ruler, Classifier]:
    """Train a ruler for the factors of pictures, and a classifier of digits."""
    draw, init, shuffle = backend.streams(demo.seed + 2000, 3)
    digits = draw_digits(demo.choose(20_000, 5_000), draw)
    ruler = Ruler(tuple(FACTORS), digits, demo.choose(15, 8), demo.seed + 2500)
    classifier = Classifier((PIXELS, 256, 10), rng=init)
    epochs = 5
    rate = cosine_decay(1e-3, epochs * len(digits) // BATCH)
    fit(classifier, (digits.x, digits.label), epochs=epochs, batch_size=BATCH,
        rng=shuffle, optimizer=Adam(classifier.parameters(), lr=rate))  # fmt: skip
    return ruler, classifier


def sure_shares(p: np.ndarray) -> np.ndarray:
    """Return the share of rows of p (n, 10) that are SURE of each class: (10,)."""
    return np.mean(p >= SURE, axis=0)


def like(codes: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n codes from the Gaussian with the mean and covariance of these (m, c)."""
    drawn = rng.multivariate_normal(codes.mean(axis=0), np.cov(codes.T), n)
    return drawn.astype(codes.dtype)


def statistic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Kolmogorov-Smirnov statistic of each column of a and b."""
    return np.array([ks_statistic(u, v)[0] for u, v in zip(a.T, b.T, strict=True)])


@plots.styled
def draw_factors(
    data: np.ndarray, made: dict[str, np.ndarray], ks: dict[str, np.ndarray]
) -> Any:
    """Draw the cumulative distribution of each factor.

    Args:
        data: the factors of real digits (n, 4).
        made: those of generated digits, by source.
        ks: the statistics of those against the data.

    """
    figure, axes = plots.panels(2, 2, (3.6, 2.9), sharey=True)
    everyone = {"real digits": data} | made
    for i, (ax, (label, _)) in enumerate(zip(axes.flat, FACTORS.values(), strict=True)):
        for name, y in everyone.items():
            color, style, _ = LOOKS[name]
            ax.ecdf(y[:, i], color=color, ls=style, lw=1.8, label=name)
        for j, name in enumerate(made):
            ax.text(0.98, 0.24 - 0.1 * j, f"KS {ks[name][i]:.2f}", weight="bold",
                    color=LOOKS[name][0], transform=ax.transAxes, ha="right",
                    va="bottom", bbox={"color": "white", "pad": 1})  # fmt: skip
        low, high = np.quantile(data[:, i], [0.001, 0.999])
        ax.set_ylim(-0.02, 1.02)
        ax.set_xlim(1.4 * low - 0.4 * high, 1.4 * high - 0.4 * low)
        ax.set_xlabel(label)
    figure.supylabel("share of digits at or below", fontsize=11)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


@plots.styled
def draw_shares(shares: dict[str, np.ndarray]) -> Any:
    """Draw the share of pictures that the classifier is sure of, by digit."""
    figure, ((ax,),) = plots.panels(size=(7.2, 4.2))
    for i, (name, share) in enumerate(shares.items()):
        color, _, marker = LOOKS[name]
        label = f"{name}: {100 * share.sum():.0f} % of all"
        ax.plot(np.arange(10) + 0.15 * (i - 1.5), 100 * share, marker, color=color,
                ms=7, label=label, clip_on=False)  # fmt: skip
    ax.set_xticks(range(10))
    ax.set_ylim(bottom=0)
    ax.set_xlabel("digit")
    ax.set_ylabel(f"share of pictures, p ≥ {SURE} (%)")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def judge_samples(
    demo: Demo, made: dict[str, np.ndarray], again: np.ndarray, held_out: Digits
) -> None:
    """Compare pictures of each source, and reconstructions, with held-out digits."""
    ruler, classifier = teach(demo)
    data = ruler(held_out.x)
    measured = {name: ruler(x) for name, x in made.items()}
    ks = {name: statistic(y, data) for name, y in measured.items()}
    shares = {
        name: sure_shares(classifier.probabilities(x)) for name, x in made.items()
    }
    r2 = ruler.r2(held_out)
    rows = {
        "R² of the ruler": r2,
        "reconstructed": statistic(ruler(again), data),
    }
    demo.say(f"  {'KS statistic':19}" + "".join(f"{name:>11}" for name in FACTORS)
             + "      sure")  # fmt: skip
    for name, values in (ks | rows).items():
        sure = f"{100 * shares[name].sum():8.1f} %" if name in shares else ""
        demo.say(f"  {name:19}" + "".join(f"{v:11.3f}" for v in values) + sure)
    accuracy = classifier.accuracy(held_out.x, held_out.label)
    demo.claim("R² of the ruler, thickness", r2[0], at_least=demo.choose(0.9, 0.8))
    demo.claim("the classifier's accuracy (%)", 100 * accuracy,
               at_least=demo.choose(98.0, 94.0))  # fmt: skip
    mine, plain, fitted = (ks[name].mean() for name in list(LOOKS)[1:])
    demo.claim("KS of the VAE's digits, mean of the factors", mine,
               at_most=demo.choose(0.15, 0.35))  # fmt: skip
    demo.claim("KS of the autoencoder's, over the VAE's", plain / mine,
               at_least=demo.choose(2.0, 1.2))  # fmt: skip
    mine, plain, fitted = (shares[name].sum() for name in list(LOOKS)[1:])
    demo.claim("surely digits, of the VAE's (%)", 100 * mine,
               at_least=demo.choose(50.0, 15.0))  # fmt: skip
    if not demo.quick:
        demo.claim("over the autoencoder's", mine / plain, at_least=3.0)
        demo.claim("over the autoencoder's with codes fitted", mine / fitted,
                   at_least=1.05)  # fmt: skip
        demo.claim("the VAE's rarest digit (%)", 100 * shares["VAE"].min(),
                   at_least=2.0)  # fmt: skip
    units = np.array([unit for _, unit in FACTORS.values()])
    shown = {name: measured[name] * units for name in list(LOOKS)[1:]}
    demo.save(draw_factors(data * units, shown, ks), "factors")
    demo.save(draw_shares(shares), "shares")


# --- New digits ---------------------------------------------------------------------


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
    """Draw pictures of each source, and the training digits nearest to the VAE's."""
    two = (10, 2 * SIDE, SIDE)  # ten panels of two digits, one above the other
    rows = {k.replace(", ", ",\n"): x[:20].reshape(two) for k, x in made.items()}
    demo.save(plots.picture_rows(rows), "samples")
    new = made["VAE"]
    nearest = train[nearest_neighbors(new[:10], train)[:, 0]]
    rows = {"by the VAE": pictures(new[:10]),
            "nearest\ntraining digit": pictures(nearest)}  # fmt: skip
    demo.save(plots.picture_rows(rows), "nearest")
    n = demo.choose(1000, 300)
    new, real = (nearest_distance(x[:n], train) for x in (new, made["real digits"]))
    # A few copies would show in the nearest of them.
    demo.claim("the twentieth nearest to training digits, VAE's over real ones",
               np.quantile(new, 0.05) / np.quantile(real, 0.05),
               at_least=0.8)  # fmt: skip


def show_ways(demo: Demo, vae: VAE, flat: VAE, digits: Digits) -> None:
    """Draw lines between the codes of digits, and the plane of a code of 2."""
    first = {k: digits.x[np.argmax(digits.label == k)] for k in range(10)}
    ways = {
        f"{a} to {b}": pictures(
            np.vstack([first[a], interpolate(vae, first[a], first[b]), first[b]])
        )
        for a, b in ((1, 7), (3, 8), (4, 9), (0, 6), (5, 2))
    }
    notes = "first and last: held-out digits; between: decoded from the line of codes"
    demo.save(plots.picture_rows(ways, notes), "interpolation")
    z = quantiles(19)
    decoded = pictures(flat.decode(plane(z).astype(flat.dtype)))
    demo.save(plots.code_plane(decoded, z), "plane")


def run(demo: Demo) -> None:
    """Train two VAEs and a plain autoencoder; measure the pictures they generate."""
    train_rng, held_out_rng, real_rng, rng = backend.streams(demo.seed, 4)
    x = draw_digits(demo.choose(20_000, 5_000), train_rng).x
    held_out = draw_digits(demo.choose(5_000, 2_000), held_out_rng)
    n, epochs = len(held_out), demo.choose(30, 10)
    followed = held_out.x[: demo.choose(2_000, 500)]
    vae, bound = train_vae(demo, CODE, epochs, x, followed, demo.seed + 3000)
    flat, _ = train_vae(demo, 2, demo.choose(15, 5), x, followed, demo.seed + 4000)
    plain = train_autoencoder(demo, epochs, x, demo.seed + 5000)

    judge_bound(demo, vae, bound, flat, held_out.x[: demo.choose(200, 40)], rng)
    z = rng.standard_normal((n, CODE), np.float32)
    made = {
        "real digits": draw_digits(n, real_rng).x,
        "VAE": vae.decode(z),
        "autoencoder": plain.decode(z),
        "autoencoder, fitted": plain.decode(like(plain.encode(x), n, rng)),
    }
    judge_samples(demo, made, vae.reconstruct(held_out.x), held_out)
    show_samples(demo, made, x)
    show_ways(demo, vae, flat, held_out)


if __name__ == "__main__":
    main(__name__)
