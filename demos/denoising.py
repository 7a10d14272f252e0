"""A denoising autoencoder removes noise, and the fog in front of a water deer.

The lecture: "입력 데이터에 노이즈 추가 후, 이를 제거해 더 정확한 재구성 만듦" (noise is
added to the input and then removed, for a more exact reconstruction). Its example is
the water deer in the fog, "고라니 안개 예제". Measured on held-out pictures:

- digits with three kinds of noise: PSNR and SSIM of the noisy picture, of classic
  filters, and of the autoencoder. The width of a filter is chosen on training pictures;
- scenes with and without a water deer, in fog by Koschmieder's law: PSNR and SSIM of
  the foggy picture, of stretched contrast, of the dark channel prior, and of the
  autoencoder;
- a network learns on clear scenes whether there is a deer: its accuracy on clear, foggy
  and cleaned scenes.

The autoencoder for the fog gets each picture with its mean set to 0 and its standard
deviation to 1, minus the mean foggy picture. So the density of the fog matters less.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from demos._demo import Demo, main
from scratchnet import backend, plots
from scratchnet.byhand import DenoisingAutoencoder
from scratchnet.data.corruption import Fog, Gaussian, Masking, SaltAndPepper
from scratchnet.data.deer import Scenes, draw_scenes
from scratchnet.data.digits import draw_digits
from scratchnet.data.filters import (
    dehaze,
    gaussian_filter,
    median_filter,
    stretch_contrast,
)
from scratchnet.metrics import psnr, ssim
from scratchnet.models.supervised import Classifier
from scratchnet.nn import glorot_uniform
from scratchnet.optim import Adam, cosine_decay
from scratchnet.training import fit

GRAY = np.float32(0.5)  # subtracted before the classifier
Filter = Callable[[np.ndarray], np.ndarray]  # pictures (n, h, w) -> pictures


class Cleaned(NamedTuple):
    """Pictures (n, side²): clear, corrupted, and cleaned in several ways."""

    clear: np.ndarray
    corrupted: np.ndarray
    ways: dict[str, np.ndarray]

    @property
    def side(self) -> int:
        """The number of rows, and of columns, of a picture."""
        return round(self.clear.shape[1] ** 0.5)

    def scores(self) -> dict[str, tuple[float, float]]:
        """Return the mean PSNR (dB) and SSIM, corrupted and cleaned in each way."""
        side = self.side
        found = {}
        for name, x in {"corrupted": self.corrupted, **self.ways}.items():
            shown = np.clip(x, 0, 1)
            similar = ssim(shown, self.clear, (side, side))
            found[name] = (float(psnr(shown, self.clear).mean()), float(similar.mean()))
        return found


# --- Digits -------------------------------------------------------------------------

NOISES: dict[str, Any] = {
    "Gaussian": Gaussian(0.5),
    "masking": Masking(0.5),
    "salt and pepper": SaltAndPepper(0.3),
}
FILTERS: dict[str, list[Filter]] = {
    "Gaussian filter": [
        partial(gaussian_filter, sigma=s) for s in (0.5, 0.8, 1.1, 1.5)
    ],
    "median filter": [partial(median_filter, size=s) for s in (3, 5)],
}


def pictures(x: np.ndarray) -> np.ndarray:
    """Give rows (n, side²) the shape of pictures (n, side, side)."""
    side = round(x.shape[1] ** 0.5)
    return x.reshape(-1, side, side)


def best(filters: list[Filter], corrupted: np.ndarray, clear: np.ndarray) -> Filter:
    """Return the filter with the highest PSNR on training pictures (n, side²)."""

    def score(f: Filter) -> float:
        return float(psnr(f(pictures(corrupted)), pictures(clear)).mean())

    return max(filters, key=score)


def clean_digits(demo: Demo, name: str, seed: int) -> Cleaned:
    """Train on digits with one kind of noise, and clean held-out ones."""
    noise = NOISES[name]
    draw, other, init, shuffle, noisy, last = backend.streams(seed, 6)
    pixels = demo.choose(28, 16)
    x = draw_digits(demo.choose(12_000, 5000), draw, pixels=pixels).x
    held_out = draw_digits(1000, other, pixels=pixels).x
    epochs, batch = demo.choose(12, 16), 100
    steps = epochs * (len(x) // batch)
    model = DenoisingAutoencoder(
        (pixels**2, 512), corruption=noise, rng=init, batch_size=batch,
        active_code=True, loss="cross_entropy",
        lr=cosine_decay(1e-3, steps),
    )  # fmt: skip
    fit(model, x, epochs=epochs, batch_size=batch, rng=shuffle, noise=noisy)
    corrupted = noise(held_out, last)
    some = x[:500]
    some_corrupted = noise(some, last)
    ways = {}
    for label, filters in FILTERS.items():
        chosen = best(filters, some_corrupted, some)
        ways[label] = chosen(pictures(corrupted)).reshape(corrupted.shape)
    ways["autoencoder"] = model.reconstruct(corrupted)
    return Cleaned(held_out, corrupted, ways)


# --- Deer ---------------------------------------------------------------------------


class Look:
    """The input of the autoencoder: level contrast, minus the mean foggy picture."""

    def __init__(self, foggy: np.ndarray) -> None:
        # On the device of training: a recorded GPU step cannot copy it there.
        self.mean = backend.asarray(self.level(foggy).mean(axis=0))

    @staticmethod
    def level(x: np.ndarray) -> np.ndarray:
        """Set the mean of each row of x (n, d) to 0, its standard deviation to 1."""
        centered = x - x.mean(axis=1, keepdims=True)
        return centered / x.std(axis=1, keepdims=True)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the input (n, d) for foggy pictures x (n, d)."""
        seen: np.ndarray = self.level(x) - backend.bring(self.mean, to=x)
        return seen


class Deer(NamedTuple):
    """Held-out scenes, cleaned, and the accuracy of a classifier of the deer."""

    cleaned: Cleaned
    deer: np.ndarray  # (n,) bool, whether there is one
    accuracy: dict[str, float]  # on "clear", "foggy", "cleaned": from 0 to 1


def small(rng: np.random.Generator, shape: Any, dtype: Any) -> np.ndarray:
    """Draw W ten times smaller than usual, to start near the mean picture."""
    W: np.ndarray = glorot_uniform(rng, shape, dtype) / 10
    return W


def clear_fog(demo: Demo, seed: int) -> Deer:
    """Train a denoiser on foggy scenes and a classifier on clear ones."""
    draw, other, init, shuffle, noisy, last = backend.streams(seed + 100, 6)
    train = draw_scenes(demo.choose(16_000, 2000), draw)
    test = draw_scenes(demo.choose(2000, 500), other)
    fog = Fog()
    look = Look(fog(train.x[:1000], train.x_depth[:1000], last))
    mean = train.x.mean(axis=0)
    epochs, batch = demo.choose(10, 5), 100
    steps = epochs * (len(train) // batch)
    model = DenoisingAutoencoder(
        (train.x.shape[1], 1024), rng=init, batch_size=batch, active_code=True,
        output="linear", init=small,
        corruption=lambda x, depth, rng: look(fog(x, depth, rng)),
        lr=cosine_decay(5e-4, steps),
    )  # fmt: skip
    model.parameters["decoder.0.b"][...] = backend.asarray(mean)
    fit(model, (train.x, train.x_depth), epochs=epochs, batch_size=batch, rng=shuffle,
        noise=noisy)  # fmt: skip
    foggy = fog(test.x, test.x_depth, last)
    ways = {
        "contrast stretched": stretch_contrast(pictures(foggy)).reshape(foggy.shape),
        "dark channel prior": dehaze(pictures(np.clip(foggy, 0, 1))).reshape(
            foggy.shape
        ),
        "autoencoder": model.reconstruct(look(foggy)),
    }
    cleaned = Cleaned(test.x, foggy, ways)
    classifier = deer_classifier(demo, train, init, shuffle)
    accuracy = {
        name: classifier.accuracy(x - GRAY, test.deer)
        for name, x in (
            ("clear", test.x),
            ("foggy", foggy),
            ("cleaned", ways["autoencoder"]),
        )
    }
    return Deer(cleaned, test.deer, accuracy)


def deer_classifier(
    demo: Demo,
    train: Scenes,
    init: np.random.Generator,
    shuffle: np.random.Generator,
) -> Classifier:
    """Train a network on clear scenes to predict whether there is a deer."""
    classifier = Classifier((train.x.shape[1], 256, 2), rng=init)
    epochs, batch = demo.choose(6, 8), 100
    rate = cosine_decay(1e-3, epochs * (len(train) // batch))
    fit(
        classifier, (train.x - GRAY, train.deer.astype(np.int64)),
        epochs=epochs, batch_size=batch, rng=shuffle,
        optimizer=Adam(classifier.parameters(), lr=rate),
    )  # fmt: skip
    return classifier


# --- Figures ------------------------------------------------------------------------


def strip(cleaned: Cleaned, shown: list[int], corrupted: str) -> dict[str, Any]:
    """Return rows of pictures by name, clear ones first."""
    rows = {"clear": cleaned.clear, corrupted: cleaned.corrupted, **cleaned.ways}
    shape = (len(shown), cleaned.side, cleaned.side)
    return {name: np.clip(x[shown], 0, 1).reshape(shape) for name, x in rows.items()}


MARKERS = {  # marker and colour of each way to clean
    "corrupted": ("x", "black"),
    "Gaussian filter": ("s", plots.COLORS[1]),
    "median filter": ("^", plots.COLORS[3]),
    "contrast stretched": ("D", plots.COLORS[4]),
    "dark channel prior": ("v", plots.COLORS[2]),
    "autoencoder": ("o", plots.COLORS[0]),
}


@plots.styled
def draw_scores(scores: dict[str, dict[str, tuple[float, float]]]) -> Any:
    """Draw PSNR and SSIM of every way to clean, one row per kind of noise."""
    figure, axes = plots.panels(1, 2, (4.4, 0.6 * len(scores) + 1.4), sharey=True)
    for j, (ax, label) in enumerate(
        zip(axes[0], ("PSNR (dB)", "SSIM (1 is equal)"), strict=True)
    ):
        for way, (marker, color) in MARKERS.items():
            rows = [y for y, found in enumerate(scores.values()) if way in found]
            values = [found[way][j] for found in scores.values() if way in found]
            ax.plot(values, rows, marker, ms=9, color=color, label=way)
        ax.set_xlabel(label)
        ax.margins(x=0.08)
    axes[0, 0].set_yticks(range(len(scores)), list(scores))
    axes[0, 0].set_ylim(len(scores) - 0.5, -0.5)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center",
                  ncols=3)  # fmt: skip
    return figure


# --- All of it ----------------------------------------------------------------------


def run(demo: Demo) -> None:
    """Remove three kinds of noise from digits, and fog from scenes."""
    scores = {}
    rows = {}
    for k, name in enumerate(NOISES):
        cleaned = clean_digits(demo, name, demo.seed + k)
        scores[name] = cleaned.scores()
        rows[name] = strip(cleaned, list(range(8)), "noisy")
    deer = clear_fog(demo, demo.seed)
    scores["fog"] = deer.cleaned.scores()
    for noise, found in scores.items():
        demo.say(f"  {noise}: PSNR (dB), SSIM")
        for name, (decibels, similar) in found.items():
            demo.say(f"    {name:20} {decibels:6.2f} {similar:6.3f}")
    chosen = [*np.flatnonzero(deer.deer)[:6], *np.flatnonzero(~deer.deer)[:2]]
    demo.save(draw_scores(scores), "scores")
    for name, pictures_of in rows.items():
        demo.save(plots.picture_rows(pictures_of), name.replace(" ", "-").lower())
    demo.save(
        plots.picture_rows(strip(deer.cleaned, chosen, "in fog"), ink=False), "deer"
    )

    for noise in NOISES:
        found = scores[noise]
        classic = max(found[name][0] for name in FILTERS)
        demo.claim(f"{noise}: autoencoder over the better filter (dB)",
                   found["autoencoder"][0] - classic,
                   at_least=demo.choose(2.0, 0.5))  # fmt: skip
        demo.claim(f"{noise}: autoencoder over noisy, SSIM",
                   found["autoencoder"][1] - found["corrupted"][1],
                   at_least=demo.choose(0.2, 0.1))  # fmt: skip
    found = scores["fog"]
    gain = found["autoencoder"][0] - found["corrupted"][0]
    demo.claim("fog: autoencoder over foggy (dB)", gain, at_least=6.0)
    classic = max(found[n][0] for n in ("contrast stretched", "dark channel prior"))
    demo.claim("fog: autoencoder over the better classic way (dB)",
               found["autoencoder"][0] - classic, at_least=2.0)  # fmt: skip
    right = {name: 100 * share for name, share in deer.accuracy.items()}
    demo.claim("deer or none, accuracy on clear scenes (%)", right["clear"],
               at_least=demo.choose(95, 80))  # fmt: skip
    demo.claim("deer or none, accuracy in the fog (%)", right["foggy"],
               at_most=70)  # fmt: skip
    demo.claim("deer or none, accuracy on cleaned scenes (%)", right["cleaned"],
               at_least=demo.choose(90, 72))  # fmt: skip


if __name__ == "__main__":
    main(__name__)
