"""An autoencoder maps digits to the plane, where each digit has its own region.

The lecture: 데이터 시각화. "고차원 데이터를 저차원으로 변환" (it maps data from many
dimensions to few). PCA, an autoencoder and a variational autoencoder map 784 pixels to
two numbers; none of them sees a label. This demo measures how often the ten nearest
neighbours in the plane classify a held-out digit correctly. Chance is one in ten.
"""

from typing import Any

import numpy as np

from demos._demo import Demo, main
from scratchnet import backend, byhand, plots
from scratchnet.data.digits import Digits, draw_digits
from scratchnet.metrics import PCA, knn_accuracy
from scratchnet.optim import hold_then_decay
from scratchnet.training import fit

VOTES = 10  # neighbours that vote on the label


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
    """Draw the codes (n, 2) of each method, each as its digit."""
    figure, (axes,) = plots.panels(1, len(planes), size=(5, 5.2))
    for ax, (name, z) in zip(axes, planes.items(), strict=True):
        plots.scatter_digits(ax, z, label, size=42)
        (left, right), (bottom, top) = limits(z)
        ax.set(xlim=(left, right), ylim=(bottom, top), xlabel="first number, z₁")
        ax.set_title(name, fontsize=16, weight="bold", pad=26)
        correct = f"{100 * accuracy[name]:.0f} % classified correctly by neighbours"
        ax.text(0.5, 1.02, correct, transform=ax.transAxes, ha="center", fontsize=12)
    axes[0].set_ylabel("second number, z₂")
    return figure


def train(demo: Demo, data: Digits) -> dict[str, Any]:
    """Return the encoders of three methods, trained on the same pictures, by name."""
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
    pca = PCA(2).fit(data.x)
    return {"PCA": pca.transform, "autoencoder": autoencoder.encode, "VAE": vae.encode}


def run(demo: Demo) -> None:
    """Train, and classify by the neighbours in each plane."""
    data_rng, held_out_rng = backend.streams(demo.seed, 2)
    data = draw_digits(demo.choose(40_000, 6_000), data_rng)
    held_out = draw_digits(2_000, held_out_rng)
    planes, right = {}, {}
    for name, encode in train(demo, data).items():
        planes[name] = encode(held_out.x)
        right[name] = knn_accuracy(
            encode(data.x), data.label, planes[name], held_out.label, k=VOTES
        )
        demo.say(f"  {name}: {100 * right[name]:.1f} % of held-out digits correct")
    demo.claim("PCA: accuracy / chance", 10 * right["PCA"], at_least=3)
    for name, (full, quick) in {"autoencoder": (0.85, 0.65), "VAE": (0.8, 0.6)}.items():
        demo.claim(f"{name}: accuracy", right[name], at_least=demo.choose(full, quick))
        demo.claim(
            f"{name}: accuracy / accuracy of PCA",
            right[name] / right["PCA"],
            at_least=demo.choose(1.6, 1.2),
        )
    shown = slice(1500)
    demo.save(
        draw_planes(
            {k: z[shown] for k, z in planes.items()}, right, held_out.label[shown]
        )
    )


if __name__ == "__main__":
    main(__name__)
