"""A variational autoencoder learns a distribution, and new digits are drawn from it.

The lecture: "입력 데이터의 잠재적 분포를 학습하고, 재구성된 이미지가 원래 이미지와
유사한 분포를 가지도록 하는 오토인코더" (it learns the latent distribution of the
data, so that what it makes is distributed like them), and "학습 데이터에서 샘플링된 것
같은 새로운 데이터를 만들기 때문에 생성모델로 분류됨" (it makes new data that might
have been drawn from the training data, hence it is a generative model), unlike the
other autoencoders. Shown and measured, on drawn digits held out:

- the bound (ELBO) and its two terms over the epochs, and below log p(x), which the
  bound with many draws approaches;
- samples, and pictures along the plane of a code of two numbers;
- interpolation between two digits, in code;
- thickness, size, rotation and slant of generated digits, measured by a network with a
  teacher, against those of held-out ones: the Kolmogorov-Smirnov statistic, 0 where two
  samples are distributed alike and 1 where they are apart. Beside it, what a plain
  autoencoder makes of the same draws from N(0, 1): it is no generative model.
"""

import statistics
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from demos._demo import Demo, main
from scratchnet import backend, kernels, plots
from scratchnet.byhand import VAE, Autoencoder
from scratchnet.data.digits import Digits, draw_digits
from scratchnet.metrics import ks_statistic, nearest_distance
from scratchnet.models.supervised import Regressor
from scratchnet.optim import Adam
from scratchnet.training import History, fit

FACTORS = {"thickness": "sides", "size": "sides", "rotation": "radians",
           "slant": "right per height"}  # fmt: skip
CODE = 16
JUDGED, DRAWS = 200, 500  # digits, and draws of z for each, of log p(x)
SIDE = 15  # pictures along each axis of the plane of codes


class Ruler:
    """Measures factors from pictures: a regressor trained with a teacher."""

    def __init__(self, demo: Demo, train: Digits) -> None:
        init, shuffle = backend.streams(demo.seed + 1, 2)
        y = factors(train)
        self.mean, self.std = y.mean(axis=0), y.std(axis=0)
        target = ((y - self.mean) / self.std).astype(np.float32)
        self.network = Regressor((784, 256, 128, len(FACTORS)), rng=init)
        epochs, batch = demo.choose(15, 8), 100
        rate = kernels.cosine_decay(1e-3, epochs * (len(train) // batch))
        fit(
            self.network, (train.x, target), epochs=epochs, batch_size=batch,
            rng=shuffle, optimizer=Adam(self.network.parameters(), lr=rate),
        )  # fmt: skip

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the factors (n, 4) of the pictures x (n, 784)."""
        measured: np.ndarray = self.network.predict(x) * self.std + self.mean
        return measured

    def r2(self, digits: Digits) -> np.ndarray:
        """Return for each factor which part of its variance is explained (4,)."""
        y = factors(digits)
        left = np.mean((self(digits.x) - y) ** 2, axis=0)
        explained: np.ndarray = 1 - left / y.var(axis=0)
        return explained


def factors(digits: Digits) -> np.ndarray:
    """Return the factors that drew the digits, (n, 4)."""
    return np.stack([digits.factors[name] for name in FACTORS], axis=1)


class Bound(NamedTuple):
    """The bound and its terms on held-out digits, after each epoch, in nats."""

    log_p_x: list[float]
    kl: list[float]

    @property
    def elbo(self) -> list[float]:
        """The bound: log p(x | z) less the divergence."""
        return [a - b for a, b in zip(self.log_p_x, self.kl, strict=True)]


def train_vae(
    demo: Demo, code: int, x: np.ndarray, held_out: np.ndarray, seed: int
) -> tuple[VAE, Bound]:
    """Train a VAE on x (n, 784), and follow its bound on the held-out digits."""
    init, shuffle, noise = backend.streams(seed, 3)
    epochs, batch = demo.choose(30, 10) if code == CODE else demo.choose(15, 3), 100
    rate = kernels.cosine_decay(3e-3, epochs * (len(x) // batch))
    vae = VAE(
        (784, 400, 200, code), rng=init, batch_size=batch,
        optimizer=partial(kernels.AdamUpdate, lr=rate),
    )  # fmt: skip
    bound = Bound([], [])

    def note(history: History) -> None:
        same = np.random.default_rng(seed)
        for term, values in zip(
            vae.elbo_terms(held_out, same), (bound.log_p_x, bound.kl), strict=True
        ):
            values.append(float(term.mean()))

    fit(vae, x, epochs=epochs, batch_size=batch, rng=shuffle, noise=noise,
        callback=note)  # fmt: skip
    return vae, bound


def train_autoencoder(demo: Demo, x: np.ndarray, seed: int) -> Autoencoder:
    """Train a plain autoencoder of the same sizes."""
    init, shuffle = backend.streams(seed, 2)
    epochs, batch = demo.choose(12, 5), 100
    rate = kernels.cosine_decay(2e-3, epochs * (len(x) // batch))
    model = Autoencoder(
        (784, 400, 200, CODE), rng=init, batch_size=batch, loss="cross_entropy",
        optimizer=partial(kernels.AdamUpdate, lr=rate),
    )  # fmt: skip
    fit(model, x, epochs=epochs, batch_size=batch, rng=shuffle)
    return model


def interpolate(vae: VAE, a: np.ndarray, b: np.ndarray, n: int = 9) -> np.ndarray:
    """Return n pictures (n, 784) on the straight way in code from a to b (784,)."""
    codes = vae.encode(np.stack([a, b]))
    t = np.linspace(0, 1, n, dtype=codes.dtype)[:, None]
    return vae.decode((1 - t) * codes[0] + t * codes[1])


@plots.styled
def draw_bound(bound: Bound, log_likelihood: float) -> Any:
    """Draw the bound and its terms over the epochs."""
    figure, axes = plots.panels(1, 2, (4.6, 3.4))
    left, right = axes[0]
    epochs = np.arange(1, len(bound.kl) + 1)
    blue, red, green = plots.COLOURS[:3]
    left.plot(epochs, bound.elbo, "o-", ms=3, color=blue)
    left.annotate("ELBO", (epochs[-1], bound.elbo[-1]), (-4, -18), color=blue,
                  textcoords="offset points", ha="right")  # fmt: skip
    left.axhline(log_likelihood, color="black", ls=":")
    left.annotate(f"log p(x) at the end, {DRAWS} draws", (0, log_likelihood), (6, 5),
                  xycoords=("axes fraction", "data"),
                  textcoords="offset points")  # fmt: skip
    left.set_ylim(bound.elbo[min(1, len(bound.elbo) - 1)] - 5, log_likelihood + 12)
    left.set_ylabel("nats per held-out digit")
    right.plot(epochs, [-v for v in bound.log_p_x], "s-", ms=3, color=red)
    right.plot(epochs, bound.kl, "^-", ms=3, color=green)
    right.annotate("−log p(x | z)", (epochs[-1], -bound.log_p_x[-1]), (-4, 8),
                   color=red, textcoords="offset points", ha="right")  # fmt: skip
    right.annotate("KL(q(z | x) ‖ N(0, 1))", (epochs[-1], bound.kl[-1]), (-4, 8),
                   color=green, textcoords="offset points", ha="right")  # fmt: skip
    right.set_ylim(0, -1.15 * bound.log_p_x[min(1, len(bound.log_p_x) - 1)])
    right.set_ylabel("nats per held-out digit")
    for ax in axes[0]:
        ax.set_xlabel("epoch")
    return figure


@plots.styled
def draw_factors(measured: dict[str, np.ndarray], ks: dict[str, np.ndarray]) -> Any:
    """Draw how each factor is distributed: data, VAE, plain autoencoder."""
    figure, axes = plots.panels(1, len(FACTORS), (3.0, 3.0))
    looks = zip(measured.items(), ("black", *plots.COLOURS[:2]), ("-", "-", "--"),
                strict=True)  # fmt: skip
    for (name, values), colour, style in looks:
        for j, (ax, (factor, unit)) in enumerate(
            zip(axes[0], FACTORS.items(), strict=True)
        ):
            low, high = np.quantile(measured["data"][:, j], [0, 1])
            edges = np.linspace(low - 0.2 * (high - low), high + 0.2 * (high - low), 31)
            share, _ = np.histogram(np.clip(values[:, j], edges[0], edges[-1]), edges)
            ax.stairs(share / len(values), edges, color=colour, ls=style, lw=1.8,
                      label=name)  # fmt: skip
            ax.set_xlabel(f"{factor} ({unit})")
            ax.set_yticks([])
            ax.set_title(f"KS {ks['VAE'][j]:.2f} against {ks['autoencoder'][j]:.2f}")
    axes[0, 0].set_ylabel("share of digits")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=3,
                  loc="outside upper center")  # fmt: skip
    return figure


@plots.styled
def draw_plane(pictures: np.ndarray) -> Any:
    """Draw the pictures of a code of two numbers (SIDE², 784) in one sheet."""
    figure, axes = plots.panels(1, 1, (5.4, 5.4))
    sheet = pictures.reshape(SIDE, SIDE, 28, 28).transpose(0, 2, 1, 3)
    ax = axes[0, 0]
    ax.imshow(sheet.reshape(SIDE * 28, -1), vmin=0, vmax=1)
    ax.grid(False)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("first number of the code, at even quantiles of N(0, 1)")
    ax.set_ylabel("second")
    return figure


def run(demo: Demo) -> None:
    """Train, bound log p(x), draw digits, and measure how they are distributed."""
    rngs = backend.streams(demo.seed, 4)
    train = draw_digits(demo.choose(20_000, 5000), rngs[0])
    held_out = draw_digits(2000, rngs[1])
    ruler = Ruler(demo, train)
    vae, bound = train_vae(demo, CODE, train.x, held_out.x, demo.seed + 10)
    plane, _ = train_vae(demo, 2, train.x, held_out.x, demo.seed + 20)
    plain = train_autoencoder(demo, train.x, demo.seed + 30)

    likelihood = vae.log_likelihood(held_out.x[:JUDGED], rngs[2], DRAWS).mean()
    elbo = vae.elbo(held_out.x[:JUDGED], rngs[2]).mean()
    z = rngs[3].standard_normal((2000, CODE), np.float32)
    made = {"VAE": vae.decode(z), "autoencoder": plain.decode(z)}
    real = ruler(held_out.x)
    measured = {"data": real} | {name: ruler(x) for name, x in made.items()}
    ks = {
        name: np.array([ks_statistic(f[:, j], real[:, j])[0] for j in range(4)])
        for name, f in measured.items()
    }
    other = draw_digits(2000, np.random.default_rng(demo.seed + 99))
    again = ruler(other.x)
    floor = np.array([ks_statistic(again[:, j], real[:, j])[0] for j in range(4)])
    r2 = ruler.r2(held_out)
    demo.say(f"  {'KS statistic':14}" + "".join(f"{name:>11}" for name in FACTORS))
    for name, values in {"VAE": ks["VAE"], "autoencoder": ks["autoencoder"],
                         "other digits": floor, "R² of ruler": r2}.items():  # fmt: skip
        demo.say(f"  {name:14}" + "".join(f"{value:11.3f}" for value in values))

    normal = statistics.NormalDist()
    t = np.array([normal.inv_cdf((i + 0.5) / SIDE) for i in range(SIDE)], np.float32)
    codes = np.stack(np.meshgrid(t, t[::-1]), axis=-1).reshape(-1, 2)
    shown = {"data": held_out.x[:12]}
    shown |= {f"by the {name}": x[:12] for name, x in made.items()}
    ways = {}
    for a, b in ((1, 7), (3, 8), (4, 9), (0, 6)):
        ends = [held_out.x[np.flatnonzero(held_out.label == k)[0]] for k in (a, b)]
        ways[f"{a} to {b}"] = interpolate(vae, *ends)
    demo.save(draw_bound(bound, float(likelihood)))
    demo.save(plots.picture_rows(shown), "samples")
    demo.save(plots.picture_rows(ways), "interpolation")
    demo.save(draw_plane(plane.decode(codes)), "plane")
    demo.save(draw_factors(measured, ks), "factors")

    copies = nearest_distance(made["VAE"][:500], train.x)
    fresh = nearest_distance(held_out.x[:500], train.x)
    demo.claim("log p(x) above the bound (nats)", likelihood - elbo, at_least=0.5)
    gained = bound.elbo[-1] - bound.elbo[0]
    demo.claim("the bound, gained after the first epoch (nats)", gained,
               at_least=demo.choose(40, 20))  # fmt: skip
    demo.claim("R² of the ruler, thickness", r2[0],
               at_least=demo.choose(0.9, 0.7))  # fmt: skip
    demo.claim("KS of the VAE's digits, mean of the factors", ks["VAE"].mean(),
               at_most=demo.choose(0.15, 0.35))  # fmt: skip
    demo.claim("KS of the autoencoder's, over the VAE's",
               ks["autoencoder"].mean() / ks["VAE"].mean(),
               at_least=demo.choose(2, 1.2))  # fmt: skip
    demo.claim("distance to the nearest training digit, samples over held-out digits",
               np.median(copies) / np.median(fresh), at_least=0.5)  # fmt: skip


if __name__ == "__main__":
    main(__name__)
