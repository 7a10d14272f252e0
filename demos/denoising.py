"""A denoising autoencoder removes noise, and the fog in front of a water deer.

The lecture: "입력 데이터에 노이즈 추가 후, 이를 제거해 더 정확한 재구성 만듦" (noise is
added to the input and then removed, for a more exact reconstruction). Its example is
the water deer in the fog, "고라니 안개 예제".

Digits get three kinds of noise, scenes get fog by Koschmieder's law. PSNR and SSIM
compare held-out pictures, cleaned by the denoiser, with the clear ones. The baselines
clean the same pictures:

- the classic filter that is best on training pictures;
- the mean of the training pictures, whatever the input is;
- ridge regression, the best linear map, from the input of the denoiser; each training
  picture is corrupted several times, and in fog it is seen in the mirror too;
- a plain autoencoder: the network of the denoiser, trained on clear pictures only.

The denoiser of the fog is dense too, but works block by block, see `Blocks`. The fog is
thinner than that of `Fog()`, and the camera has less noise (0.002, not 0.005): in
`Fog()` the light from trees beyond 30 m is weaker than the noise, and the target is
missed.

Two things are measured and not claimed. On the pixels of the deer alone, ridge
regression does better: the denoiser gains in what is far. And a classifier
trained on foggy scenes finds the deer in fog.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from demos._classifier import trained
from demos._demo import Demo, main
from scratchnet import backend, plots
from scratchnet.byhand import Autoencoder, DenoisingAutoencoder
from scratchnet.data.corruption import Fog, Gaussian, Masking, SaltAndPepper
from scratchnet.data.deer import draw_scenes
from scratchnet.data.digits import draw_digits
from scratchnet.data.filters import (
    dehaze,
    gaussian_filter,
    median_filter,
    stretch_contrast,
)
from scratchnet.losses import squared_error
from scratchnet.metrics import psnr, ssim
from scratchnet.nn import Module, evaluate, mlp
from scratchnet.optim import AdamW, cosine_decay
from scratchnet.training import fit

Map = Callable[[np.ndarray], np.ndarray]  # rows (n, d) -> rows (n, d)

FILTER, MEAN, RIDGE = "best classic filter", "mean training picture", "ridge regression"
PLAIN, DENOISER = "plain autoencoder", "denoising autoencoder"


class Score(NamedTuple):
    """How close cleaned pictures are to the clear ones, on average."""

    psnr: float  # dB
    ssim: float  # 1 if equal


class Cleaned(NamedTuple):
    """Held-out pictures (n, side²): clear, corrupted, and cleaned in several ways."""

    clear: np.ndarray
    corrupted: np.ndarray
    ways: dict[str, np.ndarray]

    def everything(self) -> dict[str, np.ndarray]:
        """Return the corrupted and the cleaned pictures."""
        return {"corrupted": self.corrupted, **self.ways}

    def scores(self) -> dict[str, Score]:
        """Return the scores of the corrupted and of the cleaned pictures."""
        shape = pictures(self.clear).shape[1:]
        found = {}
        for name, x in self.everything().items():
            shown = np.clip(x, 0, 1)
            found[name] = Score(
                float(psnr(shown, self.clear).mean()),
                float(ssim(shown, self.clear, shape).mean()),
            )
        return found


# --- Baselines ----------------------------------------------------------------------


def pictures(x: np.ndarray) -> np.ndarray:
    """Give rows (n, side²) the shape of pictures (n, side, side)."""
    side = round(x.shape[1] ** 0.5)
    return x.reshape(-1, side, side)


def on_rows(clean: Map) -> Map:
    """Return a filter of pictures (n, side, side) as one of rows (n, side²)."""
    return lambda x: clean(pictures(x)).reshape(x.shape)


def best(maps: list[Map], x: np.ndarray, y: np.ndarray) -> Map:
    """Return the map from rows x to rows y (n, d) with the highest mean PSNR."""
    return max(maps, key=lambda f: float(psnr(np.clip(f(x), 0, 1), y).mean()))


def ridge(
    x: np.ndarray, y: np.ndarray, penalties: tuple[float, ...] = (1e-3, 0.01, 0.1, 1)
) -> Map:
    """Return the linear map of ridge regression from rows x (n, d) to y (n, k).

    With centred x and y it minimises mean ‖x W − y‖² + penalty ‖W‖². A tenth of the
    rows chooses the penalty, the others the map.
    """
    n = len(x) - len(x) // 10
    x_mean, y_mean = x[:n].mean(axis=0), y[:n].mean(axis=0)
    z = x[:n] - x_mean
    scatter = (z.T @ z / n).astype(np.float64)
    cross = (z.T @ (y[:n] - y_mean) / n).astype(np.float64)

    def fitted(penalty: float) -> Map:
        W = np.linalg.solve(scatter + penalty * np.eye(len(scatter)), cross)
        W = W.astype(x.dtype)
        return lambda x: (x - x_mean) @ W + y_mean

    return best([fitted(penalty) for penalty in penalties], x[n:], y[n:])


# --- Digits -------------------------------------------------------------------------

NOISES: dict[str, Any] = {
    "Gaussian": Gaussian(0.5),
    "masking": Masking(0.5),
    "salt and pepper": SaltAndPepper(0.3),
}
FILTERS = [
    *(on_rows(partial(gaussian_filter, sigma=s)) for s in (0.5, 0.8, 1.1, 1.5)),
    *(on_rows(partial(median_filter, size=s)) for s in (3, 5)),
]
# Masking leaves half of the ink.
FILTERS += [lambda x, f=f: 2 * f(x) for f in FILTERS]
DRAWS = 4  # of the noise, for each training picture of ridge regression


def clean_digits(demo: Demo) -> dict[str, Cleaned]:
    """Train on digits with each kind of noise, and clean held-out ones."""
    draw, other, init, shuffle, noisy, last = backend.streams(demo.seed, 6)
    pixels = demo.choose(28, 16)
    x = draw_digits(demo.choose(25_000, 4500), draw, pixels=pixels).x
    clear = draw_digits(demo.choose(1000, 500), other, pixels=pixels).x
    epochs, batch = demo.choose(5, 10), 100
    sizes = (pixels**2, 512)
    options: Any = {
        "rng": init, "batch_size": batch, "active_code": True, "loss": "cross_entropy",
        "lr": cosine_decay(4e-3, epochs * (len(x) // batch)),
    }  # fmt: skip
    training: Any = {"epochs": epochs, "batch_size": batch, "rng": shuffle}
    plain = Autoencoder(sizes, **options)
    fit(plain, x, **training)
    found = {}
    for name, noise in NOISES.items():
        model = DenoisingAutoencoder(sizes, corruption=noise, **options)
        fit(model, x, noise=noisy, **training)
        corrupted, again = noise(clear, last), noise(x, last)
        many = np.tile(x, (demo.choose(DRAWS, 1), 1))
        ways = {
            FILTER: best(FILTERS, again[:500], x[:500])(corrupted),
            MEAN: np.broadcast_to(x.mean(axis=0), clear.shape),
            RIDGE: ridge(noise(many, last), many)(corrupted),
            PLAIN: plain.reconstruct(corrupted),
            DENOISER: model.reconstruct(corrupted),
        }
        found[name] = Cleaned(clear, corrupted, ways)
    return found


# --- The deer in the fog ------------------------------------------------------------

FOG = Fog(density=(0.1, 0.15), noise=0.002)  # 9 to 37 % of the deer's light arrives
SIDE = 48  # pixels of a scene
BLOCK = 6  # pixels of the piece that the network cleans at once
WINDOWS = (10, 9)  # pixels around it that the network sees, sharp and at half the size


def level(x: np.ndarray) -> np.ndarray:
    """Set the mean of each row of x (n, d) to 0, its standard deviation to 1."""
    centered = x - x.mean(axis=1, keepdims=True)
    leveled: np.ndarray = centered / x.std(axis=1, keepdims=True)
    return leveled


def half(x: Any) -> Any:
    """Return scenes (n, side²) at half the size, (n, side² / 4)."""
    side = round(x.shape[1] ** 0.5)
    small = x.reshape(-1, side // 2, 2, side // 2, 2).mean(axis=(2, 4))
    return small.reshape(len(x), -1)


def mirrored(x: np.ndarray) -> np.ndarray:
    """Return scenes (n, SIDE²) with left and right exchanged."""
    return pictures(x)[:, :, ::-1].reshape(x.shape)


def squares(side: int, block: int, width: int) -> np.ndarray:
    """Return the pixels of a square around each block of a scene, (blocks, width²).

    Args:
        side: of the scene, in pixels.
        block, width: of a block and of the square; -1 is outside the scene.

    """
    number = np.pad(np.arange(side**2).reshape(side, side), side, constant_values=-1)
    first = side - (width - block) // 2
    window = sliding_window_view(number, (width, width))
    window = window[first : first + side : block, first : first + side : block]
    return window.reshape(-1, width**2)


class Blocks(Module):
    """Dense layers that clean a scene block by block.

        block = mean + 0.1 layers(window around it, whole scene, which block it is)

    Pixels are about 0.1 from the mean of their place. All blocks share the weights, so
    that one scene is many samples. The window is seen sharp and, wider, at half the
    size; the whole scene at a quarter. The input is level twice: each scene has mean 0
    and standard deviation 1, so that the density of the fog matters less; then so has
    each pixel over all scenes, so that faint distant things count.

    Args:
        clear: scenes to learn from, (n, SIDE²).
        given: the same scenes, corrupted; they set the level.
        corruption: called as corruption(x, depth, rng) for each batch.
        hidden: sizes of the hidden layers.
        rng: draws the initial weights.

    """

    def __init__(
        self,
        clear: np.ndarray,
        given: np.ndarray,
        *,
        corruption: Callable[..., np.ndarray],
        hidden: tuple[int, ...],
        rng: np.random.Generator,
    ) -> None:
        self.corruption = corruption
        block = squares(SIDE, BLOCK, BLOCK)
        sharp, wide = WINDOWS
        around = [
            squares(SIDE, BLOCK, sharp),
            squares(SIDE // 2, BLOCK // 2, wide),
            np.tile(np.arange((SIDE // 4) ** 2), (len(block), 1)),
        ]
        starts = np.cumsum([0, SIDE**2, SIDE**2 // 4])
        columns = [
            np.where(pixels < 0, -1, start + pixels)
            for start, pixels in zip(starts, around, strict=True)
        ]
        self.register_buffer("around", np.concatenate(columns, axis=1))
        self.register_buffer("block", block)
        self.register_buffer("which", np.eye(len(block), dtype=np.float32))
        self.register_buffer("mean", clear.mean(axis=0))
        sizes = self.sizes_of(level(given))
        self.register_buffer("center", sizes.mean(axis=0))
        self.register_buffer("scale", sizes.std(axis=0))
        inputs = self.around.shape[1] + len(block)
        self.layers = mlp((inputs, *hidden, BLOCK**2), rng=rng)

    def with_noise(self, x: Any, depth: Any, rng: Any) -> tuple[Any, Any]:
        """Return the batch of a training step: clear scenes, and these corrupted."""
        return x, self.corruption(x, depth, rng)

    @staticmethod
    def sizes_of(x: Any) -> Any:
        """Return scenes (n, SIDE²) in three sizes, one after the other in each row."""
        return np.concatenate([x, half(x), half(half(x))], axis=1)

    def seen(self, x: Any) -> Any:
        """Return the level scenes x (n, SIDE²) in three sizes."""
        center, scale = (backend.bring(a, to=x) for a in (self.center, self.scale))
        return (self.sizes_of(level(x)) - center) / scale

    def forward(self, x: Any) -> Any:
        """Return what to add to the mean block, (n · blocks, BLOCK²), for scenes x."""
        outside = np.zeros_like(x[:, :1])
        around = np.concatenate([self.seen(x), outside], axis=1)[:, self.around]
        which = np.broadcast_to(self.which, (len(x), *self.which.shape))
        samples = np.concatenate([around, which], axis=2)
        return 0.1 * self.layers(samples.reshape(-1, samples.shape[2]))

    def loss(self, x: Any, corrupted: Any) -> Any:
        """Return the squared error of the cleaned blocks against those of x (n, d)."""
        blocks = (x - self.mean)[:, self.block].reshape(-1, BLOCK**2)
        return squared_error(self.forward(corrupted), blocks)

    def clean(self, x: np.ndarray) -> np.ndarray:
        """Return scenes x (n, SIDE²), cleaned."""
        block, mean = (backend.bring(a, to=x) for a in (self.block, self.mean))
        cleaned = np.empty_like(x)
        cleaned[:, block] = evaluate(self.forward, x).reshape(len(x), *block.shape)
        return cleaned + mean

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """Return the mean of scenes x (n, SIDE²) and their mirror images, cleaned."""
        return (self.clean(x) + mirrored(self.clean(mirrored(x)))) / 2


FOG_FILTERS = [
    on_rows(stretch_contrast),
    on_rows(lambda images: dehaze(np.clip(images, 0, 1))),
]


class Deer(NamedTuple):
    """Held-out scenes, cleaned, and the accuracy of classifiers of the deer."""

    cleaned: Cleaned
    deer: np.ndarray  # (n,) bool, whether there is one
    mask: np.ndarray  # (n, SIDE²) bool, its pixels
    accuracy: dict[str, float]  # percent


def clear_fog(demo: Demo, fog: Fog = FOG) -> Deer:
    """Train on scenes in fog, and clean held-out ones."""
    draw, other, init, shuffle, foggy, last = backend.streams(demo.seed + 100, 6)
    train = draw_scenes(demo.choose(10_000, 1600), draw, pixels=SIDE)
    test = draw_scenes(demo.choose(1000, 200), other, pixels=SIDE)
    given = fog(train.x, train.x_depth, last)
    fogged = fog(test.x, test.x_depth, last)
    epochs, batch = demo.choose(5, 3), 8

    def cleaner(given: np.ndarray, corruption: Any, epochs: int) -> Blocks:
        hidden = demo.choose((256, 256), (128, 128))
        model = Blocks(train.x, given, corruption=corruption, hidden=hidden, rng=init)
        rate = cosine_decay(3e-3, epochs * (len(train) // batch))
        fit(
            model, (train.x, train.x_depth), epochs=epochs, batch_size=batch,
            rng=shuffle, noise=foggy,
            optimizer=AdamW(model.parameters(), lr=rate),
        )  # fmt: skip
        return model

    def seen(x: np.ndarray) -> np.ndarray:
        sharp: np.ndarray = model.seen(x)[:, : SIDE**2]
        return sharp

    # In a quick run no claim needs the plain one.
    plain = cleaner(train.x, lambda x, depth, rng: x, demo.choose(epochs, 1))
    model = cleaner(given, fog, epochs)
    draws = demo.choose(DRAWS, 1)
    many = [seen(fog(train.x, train.x_depth, last)) for _ in range(draws)]
    many += [mirrored(x) for x in many]
    clear = [train.x] * draws + [mirrored(train.x)] * draws
    penalties = demo.choose((0.1, 0.3, 1), (0.3,))
    line = ridge(np.concatenate(many), np.concatenate(clear), penalties)
    ways = {
        FILTER: best(FOG_FILTERS, given[:500], train.x[:500])(fogged),
        MEAN: np.broadcast_to(train.x.mean(axis=0), test.x.shape),
        RIDGE: (line(seen(fogged)) + mirrored(line(mirrored(seen(fogged))))) / 2,
        PLAIN: plain.reconstruct(fogged),
        DENOISER: model.reconstruct(fogged),
    }
    cleaned = Cleaned(test.x, fogged, ways)
    right = {}
    for name, x in {"clear": train.x, "foggy": given}.items():
        knows = trained(
            (SIDE**2, 256, 2), level(x), train.deer.astype(np.int64), epochs=4,
            batch=100, init=init, shuffle=shuffle,
        )  # fmt: skip
        for other_name, y in {"clear": test.x, "foggy": fogged}.items():
            found = knows.accuracy(level(y), test.deer)
            right[f"{name} scenes: accuracy on {other_name} ones"] = 100 * found
    return Deer(cleaned, test.deer, test.mask.reshape(test.x.shape), right)


# --- Figures ------------------------------------------------------------------------

MARKERS = {  # marker and colour of each way to clean
    "corrupted": ("x", "black"),
    FILTER: ("s", plots.COLORS[1]),
    MEAN: ("D", plots.COLORS[3]),
    RIDGE: ("^", plots.COLORS[2]),
    PLAIN: ("v", plots.COLORS[4]),
    DENOISER: ("o", plots.COLORS[0]),
}


@plots.styled
def draw_scores(scores: dict[str, dict[str, Score]]) -> Any:
    """Draw PSNR and SSIM of every way to clean, one group of lines per noise."""
    figure, axes = plots.panels(1, 2, (4.2, 1.1 * len(scores) + 1.2), sharey=True)
    for ax, label in zip(axes[0], ("PSNR (dB)", "SSIM (1 if equal)"), strict=True):
        for k, (way, (marker, color)) in enumerate(MARKERS.items()):
            values = [found[way] for found in scores.values()]
            numbers = [v.psnr if "PSNR" in label else v.ssim for v in values]
            lines = np.arange(len(scores)) + 0.13 * (k - 2.5)
            ax.plot(numbers, lines, marker, ms=8, color=color, label=way)
        ax.set_xlabel(label)
        ax.margins(x=0.08)
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
        for line in range(1, len(scores)):
            ax.axhline(line - 0.5, color="#DDDDDD", lw=0.6)
    axes[0, 0].set_yticks(range(len(scores)), list(scores))
    axes[0, 0].set_ylim(len(scores) - 0.5, -0.5)
    figure.suptitle("Cleaned pictures compared with the clear ones, held out")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=3)  # fmt: skip
    return figure


@plots.styled
def draw_pictures(
    cleaned: Cleaned,
    scores: dict[str, Score],
    shown: list[int],
    corrupted: str,
    what: str,
    ink: bool,
) -> Any:
    """Draw clear, corrupted and cleaned pictures, with the mean scores of each row."""
    rows = {"clear": pictures(cleaned.clear[shown])}
    for way, x in cleaned.everything().items():
        name = corrupted if way == "corrupted" else way
        label = f"{name}\n{scores[way].psnr:.1f} dB, SSIM {scores[way].ssim:.2f}"
        rows[label] = pictures(np.clip(x[shown], 0, 1))
    n = len(cleaned.clear)
    title = f"{what}: {len(shown)} of {n:,} held out; mean PSNR and SSIM of all"
    return plots.picture_rows(rows, title=title, ink=ink)


# --- Claims -------------------------------------------------------------------------

MARGINS = {  # dB by which the denoiser must be above a baseline
    "Gaussian": {PLAIN: 2.0, RIDGE: 1.0},
    "masking": {PLAIN: 3.5, RIDGE: 1.0},
    "salt and pepper": {PLAIN: 2.5, RIDGE: 1.0},
    "fog": {MEAN: 3.0, RIDGE: 1.0},
}


def claim_psnr(demo: Demo, name: str, found: dict[str, float]) -> None:
    """Claim the PSNR (dB) of the denoiser, by the margins over its baselines."""
    margins = demo.choose(MARGINS[name], {RIDGE: 0.3})
    bound = ", ".join(f"{way} + {margin:g}" for way, margin in margins.items())
    demo.claim(
        f"{name}: PSNR of the {DENOISER} (dB); bound: {bound}", found[DENOISER],
        at_least=max(found[way] + margin for way, margin in margins.items()),
        baseline={way: value for way, value in found.items() if way != DENOISER},
    )  # fmt: skip


def claim_ssim(demo: Demo, name: str, found: dict[str, float]) -> None:
    """Claim the SSIM of the denoiser: above each baseline; in fog also at least 0.7."""
    simpler = {way: value for way, value in found.items() if way != DENOISER}
    margin = demo.choose(0.01 if name == "fog" else 0.05, 0.001)
    least, bound = max(simpler.values()) + margin, f"best baseline + {margin:g}"
    if name == "fog":
        if demo.quick:  # the network ties with ridge regression
            return
        least, bound = max(least, 0.7), f"{bound}, 0.7"
    demo.claim(
        f"{name}: SSIM of the {DENOISER}; bound: {bound}", found[DENOISER],
        at_least=least, baseline=simpler,
    )  # fmt: skip


def claim_thick_fog(demo: Demo, scores: dict[str, Score]) -> None:
    """Claim the target in the fog of `Fog()`, where it is missed."""
    demo.claim(
        "the fog of Fog(): PSNR over that of ridge regression (dB)",
        scores[DENOISER].psnr - scores[RIDGE].psnr, at_least=1.0,
        baseline={RIDGE: 0.0},
        tried="A network that works block by block and sees a scene in three sizes. "
        "The other claims are about a thinner fog.",
    )  # fmt: skip


def measure_deer(demo: Demo, deer: Deer) -> None:
    """Measure how well the deer itself is cleaned, and whether classifiers find it."""
    for way, x in deer.cleaned.everything().items():
        error = (np.clip(x, 0, 1) - deer.cleaned.clear)[deer.mask] ** 2
        demo.measure(f"pixels of the deer, {way} (dB)", -10 * np.log10(error.mean()))
    for name, right in deer.accuracy.items():
        demo.measure(f"deer or none, a classifier trained on {name} (%)", right)


def run(demo: Demo) -> None:
    """Remove three kinds of noise from digits, and fog from scenes."""
    digits = clean_digits(demo)
    deer = clear_fog(demo)
    scores = {name: cleaned.scores() for name, cleaned in digits.items()}
    scores["fog"] = deer.cleaned.scores()
    demo.save(
        draw_scores(scores), "scores",
        alt="PSNR and SSIM of six ways to clean pictures, for three noises and fog.",
    )  # fmt: skip
    for name, cleaned in digits.items():
        what = f"Digits with {name} noise"
        demo.save(
            draw_pictures(
                cleaned, scores[name], list(range(8)), "noisy", what, ink=True
            ),
            name.replace(" ", "-").lower(),
            alt=f"{what}: clear, noisy, and cleaned in five ways.",
        )
    shown = [*np.flatnonzero(deer.deer)[:6], *np.flatnonzero(~deer.deer)[:2]]
    demo.save(
        draw_pictures(
            deer.cleaned, scores["fog"], shown, "in fog", "Scenes in fog", ink=False
        ),
        "deer",
        alt="Six water deer, a bush, a stone or a log: clear, in fog, and cleaned.",
    )
    if not demo.quick:
        claim_thick_fog(demo, clear_fog(demo, Fog()).cleaned.scores())
    for name, found in scores.items():
        claim_psnr(demo, name, {way: score.psnr for way, score in found.items()})
        claim_ssim(demo, name, {way: score.ssim for way, score in found.items()})
    measure_deer(demo, deer)


if __name__ == "__main__":
    main(__name__)
