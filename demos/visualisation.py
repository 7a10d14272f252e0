"""An autoencoder maps digits to the plane, where most lie next to the same digit.

The lecture: 데이터 시각화. "고차원 데이터를 저차원으로 변환" (it maps data from many
dimensions to few). An autoencoder and a variational autoencoder map 784 pixels to two
numbers; neither sees a label. This demo measures how often the ten nearest training
digits in the plane classify a held-out digit correctly. Baselines: PCA; the linear map
to the plane that separates the digits best, which does see the labels (Fisher's
discriminant); the same network before training; and chance, one in ten.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from demos._demo import Demo, main
from scratchnet import backend, byhand, plots
from scratchnet.data.digits import Digits, draw_digits
from scratchnet.metrics import PCA, knn_accuracy
from scratchnet.optim import hold_then_decay
from scratchnet.training import fit

VOTES = 10  # neighbours that vote on the label
COMPONENTS = 50  # of PCA, before the discriminant
SHOWN = 1500  # digits in a panel
DISCRIMINANT = "linear, with labels"
ALT = (
    "Four planes of digits: PCA's overlap; in the autoencoder's and the VAE's most "
    "digits lie in regions of their own, but some mix, as 3, 5 and 9 do."
)

Encoder = Callable[[np.ndarray], np.ndarray]


def discriminant(x: np.ndarray, label: np.ndarray) -> Encoder:
    """Return the linear map to the plane that separates the labels best.

    In it the means of the classes are farthest apart, where each class has unit
    variance (Hastie, Tibshirani & Friedman 2009, section 4.3.3).

    Args:
        x: the pictures (n, pixels).
        label: their classes (n,), 0 to 9.

    """
    pca = PCA(min(COMPONENTS, x.shape[1])).fit(x)
    z = pca.transform(x).astype(np.float64)
    means = np.array([z[label == digit].mean(axis=0) for digit in range(10)])
    within = np.cov(z - means[label], rowvar=False)
    to_unit = np.linalg.inv(np.linalg.cholesky(within)).T
    _, _, directions = np.linalg.svd((means - z.mean(axis=0)) @ to_unit)
    plane = to_unit @ directions[:2].T
    return lambda x: pca.transform(x) @ plane


def limits(z: np.ndarray, inside: float = 0.99) -> np.ndarray:
    """Return the limits of the axes of a plane, a row (low, high) for each.

    A few codes lie far out. The axes show the middle `inside` of each coordinate, and a
    margin.
    """
    tail = (1 - inside) / 2
    low, high = np.quantile(z, [tail, 1 - tail], axis=0)
    margin = 0.05 * (high - low)
    return np.stack([low - margin, high + margin], axis=1)


@plots.styled
def draw_planes(
    planes: dict[str, np.ndarray], accuracy: dict[str, float], label: np.ndarray
) -> Any:
    """Draw the codes (n, 2) of each method, each as its digit.

    Codes outside the limits are left out.
    """
    figure, axes = plots.panels(2, len(planes) // 2, size=(5, 4.9))
    for ax, (name, z) in zip(axes.flat, planes.items(), strict=True):
        low, high = limits(z).T
        seen = np.all((low < z) & (z < high), axis=1)
        plots.scatter_digits(ax, z[seen], label[seen], size=30)
        pad = 0.02 * (high - low)
        (left, bottom), (right, top) = low - pad, high + pad
        ax.set(xlim=(left, right), ylim=(bottom, top))
        percent = f"{100 * accuracy[name]:.0f} % classified correctly by neighbours"
        ax.set_title(f"{name}\n{percent}")
    for ax in axes[-1]:
        ax.set_xlabel("first number, z₁")
    for ax in axes[:, 0]:
        ax.set_ylabel("second number, z₂")
    return figure


def train(demo: Demo, data: Digits) -> dict[str, Encoder]:
    """Return the encoders of all methods, trained on the same pictures, by name."""
    init_rng, shuffle_rng, noise_rng = backend.streams(demo.seed + 1000, 3)
    pixels = data.x.shape[1]
    hidden = demo.choose((256, 128, 64), (128, 64, 32))
    epochs, batch = demo.choose((14, 100), (12, 50))
    steps = epochs * len(data) // batch
    rate = hold_then_decay(demo.choose(2e-3, 3e-3), steps)
    options: dict[str, Any] = {
        "rng": init_rng,
        "batch_size": batch,
        "activation": "leaky_relu",
        "lr": rate,
    }
    sizes = (pixels, *hidden, 2)
    schedule: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch,
        "rng": shuffle_rng,
    }
    autoencoder = byhand.Autoencoder(sizes, **options)
    fit(autoencoder, data.x, **schedule)
    vae = byhand.VAE(sizes, **options)
    fit(vae, data.x, noise=noise_rng, **schedule)
    return {
        "PCA": PCA(2).fit(data.x).transform,
        DISCRIMINANT: discriminant(data.x, data.label),
        "autoencoder": autoencoder.encode,
        "VAE": vae.encode,
        "the network before training": byhand.Autoencoder(sizes, **options).encode,
    }


def run(demo: Demo) -> None:
    """Train, and classify by the neighbours in each plane."""
    data_rng, held_out_rng = backend.streams(demo.seed, 2)
    data = draw_digits(demo.choose(30_000, 6_000), data_rng)
    held_out = draw_digits(2_000, held_out_rng)
    planes, right = {}, {"chance": 0.1}
    for name, encode in train(demo, data).items():
        planes[name] = encode(held_out.x)
        right[name] = knn_accuracy(
            encode(data.x), data.label, planes[name], held_out.label, k=VOTES
        )
    baseline = {k: v for k, v in right.items() if k not in ("autoencoder", "VAE")}
    for name, (full, quick) in {
        "autoencoder": (0.85, 0.7),
        "VAE": (0.8, 0.65),
    }.items():
        demo.claim(f"accuracy of neighbours in the plane, {name}", right[name],
                   at_least=demo.choose(full, quick), baseline=baseline)  # fmt: skip
    del planes["the network before training"]
    shown = {name: z[:SHOWN] for name, z in planes.items()}
    demo.save(draw_planes(shown, right, held_out.label[:SHOWN]), alt=ALT)


if __name__ == "__main__":
    main(__name__)
