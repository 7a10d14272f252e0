"""A code of 16 numbers contains rotation, thickness and size, and finds like digits.

The lecture: "숫자 이미지에 대해 매니폴드를 잘 찾았다고 가정하면, 숫자별 회전, 두께,
크기 등 특징 추출 가능" (rotation, thickness, size and so on can be extracted for each
digit), and "비지도학습을 통해 중요한 특징이나 의미적으로 가까운 데이터를 찾을 수 있음"
(unsupervised learning finds data near in meaning). The autoencoder never sees the
factors. This demo measures, on held-out digits,

- R² of a linear probe for each factor: ridge regression on the codes of one digit, and
  the mean over the ten digits. Slant and rotation change a picture in a similar way, so
  each is probed with the other fixed;
- how often the nearest neighbour of a digit shows the same digit, in the code and in
  pixels.
"""

from typing import Any

import numpy as np

from demos._demo import Demo, main
from scratchnet import backend, plots
from scratchnet.byhand import Autoencoder
from scratchnet.data.digits import Digits, draw_digits
from scratchnet.metrics import (
    PCA,
    linear_probe,
    nearest_neighbors,
    neighbor_agreement,
)
from scratchnet.optim import hold_then_decay
from scratchnet.training import fit

CODE = 16
TURN = np.pi / 4  # the largest rotation, in radians
# Each factor, and the value of another that is fixed while it is probed.
FACTORS: dict[str, dict[str, float]] = {
    "rotation": {"slant": 0.075},
    "thickness": {},
    "size": {},
    "slant": {"rotation": 0.0},
}
NEAR = 200  # digits, among which each has its neighbour


def turned(n: int, rng: np.random.Generator, **fixed: Any) -> Digits:
    """Draw n digits with a wide range of rotations."""
    rotation = rng.uniform(-TURN, TURN, n)
    return draw_digits(n, rng, **({"rotation": rotation} | fixed))


def train(demo: Demo, x: np.ndarray) -> Autoencoder:
    """Train the autoencoder on digits x (n, 784)."""
    init, shuffle = backend.streams(demo.seed + 1, 2)
    epochs, batch = demo.choose(30, 14), 100
    rate = hold_then_decay(2e-3, epochs * (len(x) // batch))
    model = Autoencoder(
        (784, 512, 128, CODE), rng=init, batch_size=batch, activation="leaky_relu",
        lr=rate,
    )  # fmt: skip
    fit(model, x, epochs=epochs, batch_size=batch, rng=shuffle)
    return model


def probe(encode: Any, factor: str, train: Digits, held_out: Digits) -> np.ndarray:
    """Return the held-out R² of a linear probe of a factor, for each digit (10,)."""
    z, others = encode(train.x), encode(held_out.x)
    found = []
    for digit in range(10):
        mine, theirs = train.label == digit, held_out.label == digit
        found.append(
            linear_probe(z[mine], train.factors[factor][mine],
                         others[theirs], held_out.factors[factor][theirs])
        )  # fmt: skip
    return np.array(found)


def agreement(z: np.ndarray, label: np.ndarray) -> float:
    """Return how often the nearest of NEAR digits shows the same digit: 0 to 1."""
    parts = range(0, len(z) - NEAR + 1, NEAR)
    return float(np.mean([neighbor_agreement(z[i : i + NEAR], label[i : i + NEAR])
                          for i in parts]))  # fmt: skip


@plots.styled
def draw_probes(r2: dict[str, dict[str, np.ndarray]]) -> Any:
    """Draw R² of each factor from each code: the mean, and a line for each digit."""
    figure, axes = plots.panels(1, 1, (6.4, 4.8))
    ax = axes[0, 0]
    rows = list(FACTORS)
    for k, (name, found) in enumerate(r2.items()):
        color, shift = plots.COLORS[k], 0.13 * (2 * k - 1)
        for y, factor in enumerate(rows):
            values = np.maximum(found[factor], 0)
            ax.plot(values, np.full(10, y + shift), "|", color=color, ms=9, alpha=0.6)
            ax.plot(values.mean(), y + shift, "os"[k], color=color, ms=8,
                    label=name if y == 0 else None)  # fmt: skip
            ax.annotate(f"{values.mean():.2f}", (values.mean(), y + shift),
                        (0, (7, -8)[k]), textcoords="offset points", ha="center",
                        va=("bottom", "top")[k], color=color)  # fmt: skip
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.6)
    ax.set_xlim(0, 1.03)
    ax.set_xlabel("R² of a linear probe (large: mean of ten digits, small: one digit)")
    figure.legend(*ax.get_legend_handles_labels(), ncols=2, loc="outside upper center")
    return figure


def run(demo: Demo) -> None:
    """Train, probe the code for each factor, and find neighbours."""
    rngs = backend.streams(demo.seed, 10)
    x = turned(demo.choose(20_000, 8000), rngs[0]).x
    encoders = {
        "autoencoder": train(demo, x).encode, "PCA": PCA(CODE).fit(x).transform
    }  # fmt: skip
    n = demo.choose(20_000, 8000)
    r2: dict[str, dict[str, np.ndarray]] = {name: {} for name in encoders}
    for i, (factor, fixed) in enumerate(FACTORS.items()):
        known = turned(n, rngs[2 + 2 * i], **fixed)
        unseen = turned(n // 4, rngs[3 + 2 * i], **fixed)
        for name, encode in encoders.items():
            r2[name][factor] = probe(encode, factor, known, unseen)
    held_out = turned(4000, rngs[1])
    spaces = {"pixels": held_out.x} | {
        name: encode(held_out.x) for name, encode in encoders.items()
    }
    agree = {name: agreement(z, held_out.label) for name, z in spaces.items()}
    for name, found in r2.items():
        means = ", ".join(f"{f} {v.mean():.3f}" for f, v in found.items())
        demo.say(f"  R², {name}: {means}")
    said = ", ".join(f"{name} {100 * v:.1f} %" for name, v in agree.items())
    demo.say(f"  the nearest of {NEAR} shows the same digit: {said}")
    demo.save(draw_probes(r2))

    z, label = spaces["autoencoder"][:NEAR], held_out.label[:NEAR]
    images, pictures = held_out.x[:NEAR], held_out.images[:NEAR]
    near = {"pixels": nearest_neighbors(images)[:, 0],
            "code": nearest_neighbors(z)[:, 0]}  # fmt: skip
    differ = np.flatnonzero(label[near["pixels"]] != label)[:5]
    shown = [*differ, *np.setdiff1d(np.arange(20), differ)[: 12 - len(differ)]]
    demo.save(plots.picture_rows({
        "digit": pictures[shown],
        "nearest in pixels": pictures[near["pixels"][shown]],
        "nearest in code": pictures[near["code"][shown]],
    }), "neighbours")  # fmt: skip

    for factor in ("rotation", "thickness"):
        demo.claim(f"{factor} from {CODE} numbers, R²",
                   r2["autoencoder"][factor].mean(),
                   at_least=demo.choose(0.9, 0.75))  # fmt: skip
    size = {name: found["size"].mean() for name, found in r2.items()}
    demo.claim("size, R² from the autoencoder's code − R² from PCA's",
               size["autoencoder"] - size["PCA"], at_least=0.05)  # fmt: skip
    demo.claim("neighbours with the same label, code − pixels (percentage points)",
               100 * (agree["autoencoder"] - agree["pixels"]),
               at_least=demo.choose(2, 0.1))  # fmt: skip


if __name__ == "__main__":
    main(__name__)
