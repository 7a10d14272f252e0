"""Every system is written twice, and by hand, engine and differences agree.

No claim of the lecture, but what stands behind all of them: the updates that it names
(D up V, G down V, ...) are computed here in three ways that share no line of gradient,

- by hand: the backward pass derived on paper, in byhand/;
- by the engine: the loss in models/, differentiated by the table of derivatives;
- by differences: the loss at parameters moved a little, one after another.

Measured, in float64 on drawn digits of 8 x 8 pixels: the largest difference between
their gradients, relative to the largest entry, and between the weights of the first two
after 100 steps of Adam from the same seed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from demos._demo import Demo, main
from scratchnet import backend, byhand, models, optim, plots
from scratchnet.data.digits import draw_digits
from scratchnet.training import fit, fit_gan

SIZES = (64, 20, 12, 4)
STEPS = (1e-3, 1e-4, 1e-5, 1e-6)  # of the differences; the error is of order h⁴
BATCH = 32


class Twins(NamedTuple):
    """A system twice, and how far apart the two and the differences are."""

    name: str
    engine: float  # gradients, by hand and by the engine
    differences: float  # gradients, by hand and by differences
    weights: float  # after 100 steps
    entries: int  # parameters


def halve(x: Any, rng: np.random.Generator) -> Any:
    """Corrupt x (n, d): half of the pixels become 0."""
    return x * np.asarray(rng.random(x.shape) < 0.5, like=x)


SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "autoencoder": ("Autoencoder", {"sizes": SIZES, "loss": "cross_entropy"}),
    "stacked": ("StackedAutoencoder", {"sizes": SIZES}),
    "denoising": ("DenoisingAutoencoder", {"sizes": SIZES, "corruption": halve}),
    "VAE, Bernoulli": ("VAE", {"sizes": SIZES}),
    "VAE, Gaussian, β = 4": ("VAE", {"sizes": SIZES, "decoder": "gaussian",
                                     "beta": 4.0}),
    "IWAE, 5 draws": ("IWAE", {"sizes": SIZES, "k": 5}),
}  # fmt: skip
NETS: dict[str, Any] = {"generator": (5, 20, 64), "discriminator": (64, 20, 12, 1)}
GANS: dict[str, dict[str, Any]] = {
    "GAN, log(1 − D)": {"objective": "saturating"},
    "GAN, log D": {"objective": "non_saturating"},
    "GAN, log D, R1": {"objective": "non_saturating", "r1": 1.0},
    "GAN, pairs, R1, R2": {"objective": "relativistic", "r1": 1.0, "r2": 1.0},
    "GAN, packs of 2": {"discriminator": (128, 20, 12, 1), "packing": 2},
}


def compare(name: str, x: np.ndarray, seed: int) -> Twins:
    """Measure one of SYSTEMS on the digits x (n, 64)."""
    cls, options = SYSTEMS[name]

    def make(where: Any, **more: Any) -> Any:
        rng = np.random.default_rng(seed)
        return getattr(where, cls)(rng=rng, dtype=np.float64, **options, **more)

    one, two = make(byhand, batch_size=BATCH), make(models)
    noise = np.random.default_rng(seed + 1)
    wants_noise = hasattr(one, "with_noise")
    rows = backend.asarray(x[:BATCH])
    batch = one.with_noise(rows, rng=noise) if wants_noise else (rows,)
    shake([one.theta], seed)
    two.load_state_dict(one.state_dict())
    _, by_hand = one.loss_and_gradients(*batch)
    two.loss(*batch).backward()
    by_engine = {name: p.grad for name, p in two.named_parameters()}
    numeric = differences(lambda: one.forward(*batch), one.parameters)
    entries = sum(a.size for a in one.parameters.values())

    one, two = make(byhand, batch_size=BATCH), make(models)
    steps = {"epochs": 1, "batch_size": BATCH, "progress": False}
    for model, optimizer in ((one, None), (two, optim.Adam(two.parameters()))):
        extra = {"noise": np.random.default_rng(3)} if wants_noise else {}
        fit(model, x, rng=np.random.default_rng(2), optimizer=optimizer,
            **steps, **extra)  # fmt: skip
    weights = apart(one.state_dict(), two.state_dict())
    return Twins(
        name, apart(by_hand, by_engine), apart(by_hand, numeric), weights, entries
    )


def compare_gan(name: str, x: np.ndarray, seed: int) -> Twins:
    """Measure one of GANS, both of its updates, on the digits x (n, 64)."""
    options = NETS | GANS[name] | {"dtype": np.float64}

    def make(where: Any, **more: Any) -> Any:
        return where.GAN(rng=np.random.default_rng(seed), **options, **more)

    one, two = make(byhand, batch_size=BATCH), make(models)
    z = backend.asarray(np.random.default_rng(seed + 1).standard_normal((BATCH, 5)))
    batch = backend.asarray(x[:BATCH])
    shake([one.theta_g, one.theta_d], seed)
    two.load_state_dict(one.state_dict())
    sides: Sequence[tuple[str, Callable[[], Any], Callable[[], Any]]] = (
        ("discriminator", partial(one.discriminator_gradients, batch, z),
         partial(two.discriminator_loss, batch, z)),
        ("generator", partial(one.generator_gradients, z, batch),
         partial(two.generator_loss, z, batch)),
    )  # fmt: skip
    by_hand, by_engine, numeric = {}, {}, {}
    for side, hand, engine in sides:
        mine = {k: p for k, p in one.parameters.items() if k.startswith(side)}
        hand()
        by_hand.update({k: one.gradients[k].copy() for k in mine})
        two.zero_grad()
        engine().backward()
        by_engine.update({k: p.grad for k, p in two.named_parameters() if k in mine})
        numeric.update(differences(hand, mine))
    entries = sum(a.size for a in one.parameters.values())

    one, two = make(byhand, batch_size=BATCH), make(models)
    parts = (two.generator, two.discriminator)
    optimizers = tuple(optim.Adam(part.parameters()) for part in parts)
    for model, given in ((one, None), (two, optimizers)):
        fit_gan(model, x, steps=100, batch_size=BATCH, rng=np.random.default_rng(2),
                noise=np.random.default_rng(3), optimizers=given,
                progress=False)  # fmt: skip
    weights = apart(one.state_dict(), two.state_dict())
    return Twins(
        name, apart(by_hand, by_engine), apart(by_hand, numeric), weights, entries
    )


def shake(arrays: list[np.ndarray], seed: int) -> None:
    """Move parameters away from the start, where every bias is zero."""
    rng = np.random.default_rng(seed + 5)
    for a in arrays:
        a += backend.asarray(rng.normal(0, 0.05, a.shape))


def differences(
    loss: Callable[[], Any], parameters: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Differentiate loss() by every parameter, by differences of fourth order.

    (8 (L(h) − L(−h)) − (L(2h) − L(−2h))) / 12h, with the largest h of STEPS for which
    h and h / 2 agree: where a relu switches in between, they do not.
    """

    def slope(a: np.ndarray, i: Any, h: float) -> float:
        kept = float(a[i])
        values = []
        for t in (h, -h, 2 * h, -2 * h):
            a[i] = kept + t
            values.append(float(loss()))
        a[i] = kept
        near, far = values[0] - values[1], values[2] - values[3]
        return (8 * near - far) / (12 * h)

    found = {}
    for name, a in parameters.items():
        g = found[name] = np.empty(a.shape)
        for i in np.ndindex(a.shape):
            for h in STEPS:
                g[i], again = slope(a, i, h), slope(a, i, h / 2)
                if abs(g[i] - again) < 1e-6 * STEPS[0] * (1 + abs(g[i])):
                    break
    return found


def apart(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Return the largest difference of named arrays, relative to the largest entry."""
    a, b = ({k: backend.to_numpy(v) for k, v in given.items()} for given in (a, b))
    largest = max(float(np.abs(v).max()) for v in b.values())
    return max(float(np.abs(a[k] - b[k]).max()) for k in b) / largest


@plots.styled
def draw(rows: list[Twins]) -> Any:
    """Draw the differences of every system, on one logarithmic axis."""
    figure, axes = plots.panels(1, 1, (7.2, 4.6))
    ax = axes[0, 0]
    y = np.arange(len(rows))
    for label, values, marker, color in (
        ("gradient: by hand and engine", [r.engine for r in rows], "o", 0),
        ("weights after 100 steps: by hand and engine", [r.weights for r in rows],
         "s", 2),
        ("gradient: by hand and differences", [r.differences for r in rows], "^", 1),
    ):  # fmt: skip
        ax.plot(np.maximum(values, 1e-17), y, marker, color=plots.COLORS[color],
                ms=7, ls="", label=label)  # fmt: skip
    eps = float(np.finfo(np.float64).eps)
    ax.axvline(eps, color="gray", ls=":", label="rounding of one operation")
    ax.set_xscale("log")
    ax.set_xlim(1e-17, 1e-6)
    ax.set_yticks(y, [row.name for row in rows])
    ax.invert_yaxis()
    ax.set_xlabel("largest difference, relative to the largest entry")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=1)
    return figure


def run(demo: Demo) -> None:
    """Compare every system three ways."""
    (rng,) = backend.streams(demo.seed, 1)
    x = draw_digits(100 * BATCH, rng, pixels=8).x.astype(np.float64)
    names = [*SYSTEMS, *GANS]
    if demo.quick:
        names = ["denoising", "VAE, Bernoulli", "IWAE, 5 draws", "GAN, pairs, R1, R2"]
    rows = []
    for name in tqdm(names, disable=None, leave=False):
        rows.append((compare if name in SYSTEMS else compare_gan)(name, x, demo.seed))
    demo.say(f"  {'largest difference':24} {'engine':>9} {'differences':>12} "
             f"{'100 steps':>10} {'entries':>8}")  # fmt: skip
    for row in rows:
        demo.say(f"  {row.name:24} {row.engine:9.1e} {row.differences:12.1e} "
                 f"{row.weights:10.1e} {row.entries:8,}")  # fmt: skip
    demo.save(draw(rows))
    demo.claim("gradients, by hand and engine", max(r.engine for r in rows),
               at_most=1e-12)  # fmt: skip
    demo.claim("gradients, by hand and differences", max(r.differences for r in rows),
               at_most=1e-7)  # fmt: skip
    demo.claim("weights after 100 steps", max(r.weights for r in rows),
               at_most=1e-9)  # fmt: skip


if __name__ == "__main__":
    main(__name__)
