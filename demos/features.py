"""A code of 10 numbers holds rotation, thickness, size and slant; it finds like digits.

The lecture: "숫자 이미지에 대해 매니폴드를 잘 찾았다고 가정하면, 숫자별 회전, 두께,
크기 등 특징 추출 가능" (rotation, thickness, size and so on can be extracted for each
digit), and "비지도학습을 통해 중요한 특징이나 의미적으로 가까운 데이터를 찾을 수 있음"
(unsupervised learning finds important features, and data near in meaning). The
autoencoder sees neither labels nor factors. This demo measures, on held-out digits,

- R² of a linear and of a nonlinear probe for each factor: ridge regression from
  the codes of one digit, and the mean over the ten digits. Rotation, size and slant are
  drawn wide here, two to three times their usual range. Slant and rotation change a
  picture in a similar way, so each is read with the other fixed;
- the correlation of rotation with one direction of the code, the direction of largest
  variance, which is found without labels and factors;
- how often the nearest neighbour of a digit shows the same digit. These digits have
  their usual factors.

Baselines: the same network before training, PCA, and the pixels, from which all codes
are computed. A nonlinear probe reads PCA's 10 numbers nearly as well as the code, and
thickness as well. So the bounds for the other factors lie above what PCA gets.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from demos._demo import Demo, main
from scratchnet import backend, plots
from scratchnet.byhand import Autoencoder
from scratchnet.data.digits import Digits, draw_digits
from scratchnet.metrics import PCA, nearest_neighbors, neighbor_agreement
from scratchnet.optim import hold_then_decay
from scratchnet.training import fit

CODE = 10  # numbers
WIDE = {  # the ranges for the probes
    "rotation": (-np.pi / 4, np.pi / 4),  # usually ±0.3
    "size": (0.43, 0.63),  # usually 0.48 to 0.58
    "slant": (-0.275, 0.425),  # usually -0.1 to 0.25
}
# Each factor, and the value of another that is fixed while it is probed.
FACTORS: dict[str, dict[str, float]] = {
    "rotation": {"slant": 0.075},
    "thickness": {},
    "size": {},
    "slant": {"rotation": 0.0},
}
# R². PCA's codes miss these, except thickness. They reach 0.95 for rotation and 0.85
# for slant.
TARGET = {"rotation": 0.967, "thickness": 0.95, "size": 0.86, "slant": 0.9}
TRIED = {"thickness": "A nonlinear probe reads thickness as well from PCA's numbers."}
WIDTH = 1.0  # of the nonlinear kernel, for codes with a mean square of 1
RIDGE = {"linear": 1.0, "nonlinear": 1e-2}  # this and WIDTH: chosen on other digits
NEAR = 200  # digits, among which each has its neighbour
LENGTHS = (CODE, 16, 32)  # numbers of PCA
SHOWN = 12  # digits in the picture of neighbours

NAMES = {
    "rotation": "rotation\n(drawn wide: ±45°)",
    "thickness": "thickness\n(as usual)",
    "size": "size\n(drawn wide:\ntwice the usual range)",
    "slant": "slant\n(drawn wide:\ntwice the usual range)",
}
SPACES = {
    "code": f"the autoencoder's code, {CODE} numbers",
    "PCA": f"PCA, {CODE} numbers",
    "untrained": "the network before training",
    "pixels": "pixels",
}
SHADES = (plots.COLORS[0], plots.COLORS[4], "#DDDDDD", "white")
HATCHES = ("", "//", "..", "")
WRONG = plots.COLORS[1]
ALT = (
    "R² of linear and nonlinear probes: the code and PCA are close to the pixels, the "
    "network before training is far below."
)
ALT_DIRECTION = (
    "The direction in which the codes vary most follows the rotation of the digit, "
    "more closely for the autoencoder than for PCA."
)
ALT_NEIGHBOURS = (
    "Digits and their nearest neighbours: where pixels find another digit, the code "
    "often finds the same one."
)

Encoder = Callable[[np.ndarray], np.ndarray]


def wide(n: int, rng: np.random.Generator, **fixed: Any) -> Digits:
    """Draw n digits with wide ranges of rotation, size and slant."""
    drawn = {factor: rng.uniform(*span, n) for factor, span in WIDE.items()}
    return draw_digits(n, rng, **(drawn | fixed))


def train(
    seed: int, x: np.ndarray, hidden: tuple[int, ...], epochs: int
) -> tuple[Encoder, Encoder]:
    """Train on digits x (n, 784); return an untrained encoder and the trained one."""
    first, second, shuffle = backend.streams(seed, 3)
    rate = hold_then_decay(2e-3, epochs * (len(x) // 100))
    untrained, model = (
        Autoencoder((784, *hidden, CODE), rng=rng, batch_size=100,
                    activation="leaky_relu", lr=rate)
        for rng in (first, second)
    )  # fmt: skip
    fit(model, x, epochs=epochs, batch_size=100, rng=shuffle)
    return untrained.encode, model.encode


def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return exp(-‖a − b‖² / (2 WIDTH²)) for rows a (n, k) and b (m, k): (n, m)."""
    squared = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1) - 2 * a @ b.T
    return np.exp(squared / (-2 * WIDTH**2))


def probe(
    kind: str, z: np.ndarray, y: np.ndarray, others: np.ndarray, wanted: np.ndarray
) -> float:
    """Return R² of ridge regression of a factor from the code.

    The codes are centred and scaled to a mean square of 1. The linear prediction is z w
    with (zᵀz + ridge) w = zᵀy, the nonlinear one K(z', z) α with (K(z, z) + ridge) α =
    y (Hastie, Tibshirani & Friedman 2009, sections 3.4.1 and 5.8).

    Args:
        kind: "linear" or "nonlinear".
        z, y: the codes (n, k) and the factor (n,) to fit.
        others, wanted: the held-out codes and their factor.

    """
    center = z.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(np.mean(np.sum((z - center) ** 2, axis=1)))
    z, others = (z - center) / scale, (others - center) / scale
    rest = y - y.mean()
    if kind == "linear":
        square, features, right = z.T @ z, others, z.T @ rest
    else:
        square, features, right = kernel(z, z), kernel(others, z), rest
    weights = np.linalg.solve(square + RIDGE[kind] * np.eye(len(square)), right)
    guess = features @ weights + y.mean()
    return float(1 - np.mean((guess - wanted) ** 2) / np.var(wanted))


def probes(encode: Encoder, factor: str, known: Digits, unseen: Digits) -> np.ndarray:
    """Return R² of the linear and of the nonlinear probe for a factor: (2, 10 digits).

    Args:
        encode: from pictures to codes.
        factor: its name.
        known, unseen: the digits to fit, and the held-out digits.

    """
    z, others = encode(known.x), encode(unseen.x)
    y, wanted = known.factors[factor], unseen.factors[factor]
    parts = [(known.label == d, unseen.label == d) for d in range(10)]
    return np.array([[probe(kind, z[i], y[i], others[j], wanted[j]) for i, j in parts]
                     for kind in RIDGE])  # fmt: skip


def along(encode: Encoder, x: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the codes of `others` along the direction in which those of x vary most.

    It has unit length; the sign is free.
    """
    z = encode(x)
    direction = PCA(1).fit(z).components_[0]
    return (encode(others) - z.mean(axis=0)) @ direction


def agreement(z: np.ndarray, label: np.ndarray) -> float:
    """Return how often the nearest of NEAR digits shows the same digit, in %."""
    parts = range(0, len(z) - NEAR + 1, NEAR)
    return 100 * float(np.mean([neighbor_agreement(z[i : i + NEAR], label[i : i + NEAR])
                                for i in parts]))  # fmt: skip


@plots.styled
def draw_probes(r2: dict[str, dict[str, np.ndarray]]) -> Any:
    """Draw R² of both probes for each factor, by the space that they read.

    Args:
        r2: for each factor and space, R² (2, 10 digits).

    """
    figure, (axes,) = plots.panels(1, 2, (5, 5.6), sharey=True)
    spaces = list(r2["rotation"])
    height = 0.8 / len(spaces)
    for i, (ax, kind) in enumerate(zip(axes, RIDGE, strict=True)):
        for k, space in enumerate(spaces):
            means = [r2[factor][space][i].mean() for factor in r2]
            y = np.arange(len(r2)) + height * (k - (len(spaces) - 1) / 2)
            bars = ax.barh(y, np.maximum(means, 0), height, color=SHADES[k], ec="black",
                           hatch=HATCHES[k], label=SPACES[space])  # fmt: skip
            ax.bar_label(bars, [f"{mean:.2f}" for mean in means], padding=3, fontsize=9)
        ax.set_title(f"{kind} probe")
        ax.set_xlim(0, 1.12)
        ax.set_xticks(np.arange(0, 1.1, 0.2))
        ax.set_xlabel("R² on held-out digits (mean of ten digits)")
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(r2)), [NAMES[factor] for factor in r2])
    axes[0].invert_yaxis()
    axes[1].tick_params(left=False)
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=len(spaces),
                  loc="outside upper center")  # fmt: skip
    return figure


@plots.styled
def draw_direction(
    found: dict[str, np.ndarray], rotation: np.ndarray, rho: dict[str, float]
) -> Any:
    """Draw the rotation of held-out digits against one direction of each code.

    Args:
        found: the codes along the direction (n,), by method.
        rotation: in radians (n,).
        rho: the absolute correlation of both.

    """
    figure, (axes,) = plots.panels(1, len(found), (4.2, 3.9), sharex=True)
    for ax, (name, z), color in zip(axes, found.items(), plots.COLORS, strict=False):
        z = z * np.sign(np.corrcoef(z, rotation)[0, 1]) / z.std()
        ax.plot(np.degrees(rotation), z, ".", ms=3, color=color, alpha=0.5)
        title = {"code": "autoencoder's code"}.get(name, name)
        ax.set_title(f"{title}: |ρ| = {rho[name]:.2f}")
        ax.set_xticks([-45, 0, 45])
        ax.set_xlabel("rotation of the digit (degrees)")
        ax.yaxis.set_major_formatter("{x:g}")
    axes[0].set_ylabel(
        "code along the direction of largest\nvariance (standard deviations)"
    )
    return figure


def draw_neighbours(held_out: Digits, spaces: dict[str, np.ndarray]) -> Any:
    """Draw digits, and the nearest other digit by each distance.

    The first half of the columns is chosen, the rest is not.

    Args:
        held_out: the digits.
        spaces: by the name of the row, codes of NEAR of them; pixels are first.

    """
    label, images = held_out.label[:NEAR], held_out.images[:NEAR]
    near = {name: nearest_neighbors(z[:NEAR])[:, 0] for name, z in spaces.items()}
    pixels = next(iter(near.values()))
    differ = np.flatnonzero(label[pixels] != label)[: SHOWN // 2]
    rest = np.setdiff1d(np.arange(NEAR), differ)[: SHOWN - len(differ)]
    shown = np.append(differ, rest)
    rows = {"digit": images[shown]} | {n: images[i[shown]] for n, i in near.items()}
    figure = plots.picture_rows(
        rows,
        "thick frame: another digit; in the "
        f"{len(differ)} columns on the left, pixels find another digit",
    )
    for row, found in enumerate(near.values(), 1):
        for column, i in enumerate(shown):
            if label[found[i]] != label[i]:
                ax = figure.axes[row * SHOWN + column]
                ax.spines[:].set(color=WRONG, linewidth=3)
    return figure


def claim_factors(demo: Demo, r2: dict[str, dict[str, np.ndarray]]) -> None:
    """Claim what a nonlinear probe reads from the code, and tell the other numbers."""
    for factor, found in r2.items():
        means = {space: r.mean(axis=1) for space, r in found.items()}
        demo.claim(
            f"{factor}, R² of a nonlinear probe of the code",
            means["code"][1],
            at_least=demo.choose(TARGET[factor], TARGET[factor] - 0.2),
            baseline={"the network before training": means["untrained"][1]}
            # A network that is hardly trained has no claim against PCA.
            | ({} if demo.quick else {"PCA": means["PCA"][1]}),
            tried=TRIED.get(factor, ""),
        )
    for factor, found in r2.items():
        for space, r in found.items():
            for kind, value in zip(RIDGE, r.mean(axis=1), strict=True):
                if (space, kind) not in {
                    ("code", "nonlinear"),
                    ("untrained", "nonlinear"),
                }:
                    demo.measure(f"{factor}, R², {kind}, {SPACES[space]}", value)


def run_factors(demo: Demo) -> None:
    """Train on widely drawn digits, probe each factor, and look along one direction."""
    rngs = backend.streams(demo.seed, 2)
    x = wide(demo.choose(20_000, 6000), rngs[0]).x
    untrained, code = train(demo.seed + 1000, x, (256, 64), demo.choose(24, 6))
    encoders = {
        "code": code,
        "PCA": PCA(CODE).fit(x).transform,
        "untrained": untrained,
        "pixels": lambda x: x,
    }
    n = demo.choose(20_000, 3000)
    r2: dict[str, dict[str, np.ndarray]] = {}
    for factor, fixed in FACTORS.items():
        known, unseen = wide(n, rngs[1], **fixed), wide(2500, rngs[1], **fixed)
        r2[factor] = {
            space: probes(encode, factor, known, unseen)
            for space, encode in encoders.items()
        }
    claim_factors(demo, r2)
    demo.save(draw_probes(r2), alt=ALT)

    unseen = wide(2500, rngs[1], **FACTORS["rotation"])
    found = {name: along(encoders[name], x, unseen.x)
             for name in ("code", "PCA", "untrained")}  # fmt: skip
    rho = {
        name: abs(np.corrcoef(z, unseen.rotation)[0, 1]) for name, z in found.items()
    }
    demo.claim(
        "absolute correlation of rotation and one direction of the code",
        rho["code"],
        at_least=demo.choose(0.8, 0.775),
        baseline={"PCA": rho["PCA"], "the network before training": rho["untrained"]},
    )
    del found["untrained"]
    demo.save(
        draw_direction(found, unseen.rotation, rho), "direction", alt=ALT_DIRECTION
    )


def run_neighbours(demo: Demo) -> None:
    """Train on digits with their usual factors, and find neighbours."""
    data, held_out = backend.streams(demo.seed + 1, 2)
    x = draw_digits(demo.choose(20_000, 6000), data).x
    digits = draw_digits(8000, held_out)
    hidden, epochs = demo.choose(((256, 128, 64), 24), ((256, 64), 6))
    untrained, code = train(demo.seed + 2000, x, hidden, epochs)
    pca = PCA(max(LENGTHS)).fit(x).transform(digits.x)
    spaces = {"pixels": digits.x}
    spaces |= {f"PCA, {k} numbers": pca[:, :k] for k in LENGTHS}
    others = {name: agreement(z, digits.label) for name, z in spaces.items()}
    mine = agreement(code(digits.x), digits.label)
    before = {
        "the network before training": agreement(untrained(digits.x), digits.label)
    }
    demo.claim(
        f"nearest of {NEAR} shows the same digit, code of {CODE} numbers (%)",
        mine,
        at_least=demo.choose(max(others.values()) + 3, max(before.values()) + 10),
        baseline=before | demo.choose(others, {}),
    )
    percent = "{}\n({:.0f} % the same digit)".format
    name = f"PCA, {CODE} numbers"
    rows = {
        percent("nearest in pixels", others["pixels"]): digits.x,
        percent(f"nearest in {name}", others[name]): pca[:, :CODE],
        percent(f"nearest in the code, {CODE} numbers", mine): code(digits.x),
    }
    demo.save(draw_neighbours(digits, rows), "neighbours", alt=ALT_NEIGHBOURS)


def run(demo: Demo) -> None:
    """Probe the code for factors, and find neighbours."""
    run_factors(demo)
    run_neighbours(demo)


if __name__ == "__main__":
    main(__name__)
