"""Data of many dimensions can be looked at when a code brings them into the plane.

The lecture: "데이터 시각화: 고차원 데이터를 저차원으로 변환" (visualisation: from many
dimensions to few). Digits of 784 pixels become two numbers, by principal components, by
an autoencoder and by a variational autoencoder. Measured, on digits held out: how often
the five nearest neighbours in the plane name the digit.
"""

from functools import partial
from typing import Any

import numpy as np

from demos._demo import Demo, main
from scratchnet import backend, kernels, plots
from scratchnet.byhand import VAE, Autoencoder
from scratchnet.data.digits import draw_digits
from scratchnet.metrics import PCA, knn_accuracy
from scratchnet.training import fit

NEIGHBOURS = 5
SHOWN = 1000  # digits in each plane of the figure


def codes(
    demo: Demo, x: np.ndarray, others: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the planes by name: codes (n, 2) of x and (m, 2) of the others."""
    init, other_init, shuffle, noise = backend.streams(demo.seed + 1, 4)
    epochs, batch = demo.choose(25, 20), 100
    rate = kernels.cosine_decay(2e-3, epochs * (len(x) // batch))
    options: Any = {
        "batch_size": batch,
        "optimizer": partial(kernels.AdamUpdate, lr=rate),
    }
    sizes = (x.shape[1], 256, 64, 2)
    autoencoder = Autoencoder(sizes, rng=init, **options)
    vae = VAE(sizes, rng=other_init, **options)
    fit(autoencoder, x, epochs=epochs, batch_size=batch, rng=shuffle)
    fit(vae, x, epochs=epochs, batch_size=batch, rng=shuffle, noise=noise)
    models = {"PCA": PCA(2).fit(x), "autoencoder": autoencoder, "VAE": vae}
    return {name: (m.encode(x), m.encode(others)) for name, m in models.items()}


@plots.styled
def draw(
    planes: dict[str, np.ndarray], label: np.ndarray, accuracy: dict[str, float]
) -> Any:
    """Draw the codes of held-out digits, each as the digit that it stands for."""
    figure, axes = plots.panels(1, len(planes), (4.4, 4.2))
    for ax, (name, z) in zip(axes[0], planes.items(), strict=True):
        for digit, colour in enumerate(plots.DIGIT_COLOURS):
            mine = z[:SHOWN][label[:SHOWN] == digit]
            ax.scatter(*mine.T, s=30, marker=f"${digit}$", color=colour, lw=0.1,
                       alpha=0.8)  # fmt: skip
        ax.set_title(f"{name}: {100 * accuracy[name]:.0f} % by {NEIGHBOURS} neighbours")
        ax.set_xlabel("first number of the code")
        ax.set_ylabel("second")
    return figure


def run(demo: Demo) -> None:
    """Put digits into three planes, and let neighbours there name them."""
    rngs = backend.streams(demo.seed, 2)
    train = draw_digits(demo.choose(20_000, 6000), rngs[0])
    held_out = draw_digits(2000, rngs[1])
    planes = codes(demo, train.x, held_out.x)
    accuracy = {
        name: knn_accuracy(z, train.label, others, held_out.label, k=NEIGHBOURS)
        for name, (z, others) in planes.items()
    }
    demo.save(draw({k: z for k, (_, z) in planes.items()}, held_out.label, accuracy))
    demo.claim("PCA, right by neighbours (%), chance being 10", 100 * accuracy["PCA"],
               at_least=20)  # fmt: skip
    for name in ("autoencoder", "VAE"):
        demo.claim(f"{name} over PCA (points of %)",
                   100 * (accuracy[name] - accuracy["PCA"]),
                   at_least=demo.choose(25, 8))  # fmt: skip


if __name__ == "__main__":
    main(__name__)
