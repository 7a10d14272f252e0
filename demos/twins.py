"""Every system's gradient: by hand, by the engine and by finite differences.

The lecture does not claim that they agree, but all its claims rest on it. The updates
that it names (D raises V, G lowers V, ...) are computed here in three ways that share
no gradient code:

- by hand: the backward pass derived on paper, in byhand/;
- by the engine: the loss in models/, differentiated by the table of derivatives;
- by finite differences: the loss after a small change of one parameter at a time.

Measured in float64 on drawn digits of 8 x 8 pixels: the largest difference between two
gradients, relative to the largest entry, and the same between the weights by hand and
by the engine after 100 steps of Adam from the same seed. Two baselines must miss the
bounds: a gradient with one array of parameters off by 0.1 %, the array where that shows
least; and the initial weights, which both versions have in common.
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
STEPS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)  # h of finite differences; the error is O(h⁴)
BATCH = 32
ROUNDING = 1e-12  # a difference that rounding may cause, relative to the largest entry


class Twins(NamedTuple):
    """One system: the largest relative differences between its versions."""

    name: str
    engine: float  # gradients: by hand and by the engine
    differences: float  # gradients: by hand and by finite differences
    weights: float  # weights after 100 steps: by hand and by the engine
    entries: int  # the number of parameters
    wrong: float  # gradients: by hand, one array off by 0.1 %, and by the engine
    start: float  # weights: the initial ones and the trained ones


def halve(x: Any, rng: np.random.Generator) -> Any:
    """Set each pixel of x (n, d) to 0 with probability 1/2."""
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
    needs_noise = hasattr(one, "with_noise")
    rows = backend.asarray(x[:BATCH])
    batch = one.with_noise(rows, rng=noise) if needs_noise else (rows,)
    shake([one.theta], seed)
    two.load_state_dict(one.state_dict())
    _, by_hand = one.loss_and_gradients(*batch)
    two.loss(*batch).backward()
    by_engine = {name: p.grad for name, p in two.named_parameters()}
    numeric = differences(lambda: one.forward(*batch), one.parameters)
    entries = sum(a.size for a in one.parameters.values())

    one, two = make(byhand, batch_size=BATCH), make(models)
    start = two.state_dict()
    steps = {"epochs": 1, "batch_size": BATCH, "progress": False}
    for model, optimizer in ((one, None), (two, optim.Adam(two.parameters()))):
        extra = {"noise": np.random.default_rng(3)} if needs_noise else {}
        fit(model, x, rng=np.random.default_rng(2), optimizer=optimizer,
            **steps, **extra)  # fmt: skip
    return Twins(
        name, apart(by_hand, by_engine), apart(by_hand, numeric),
        apart(one.state_dict(), two.state_dict()), entries,
        off(by_hand, by_engine), apart(start, two.state_dict()),
    )  # fmt: skip


def compare_gan(name: str, x: np.ndarray, seed: int) -> Twins:
    """Measure both updates of one of GANS on the digits x (n, 64)."""
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
    start = two.state_dict()
    parts = (two.generator, two.discriminator)
    optimizers = tuple(optim.Adam(part.parameters()) for part in parts)
    for model, given in ((one, None), (two, optimizers)):
        fit_gan(model, x, steps=100, batch_size=BATCH, rng=np.random.default_rng(2),
                noise=np.random.default_rng(3), optimizers=given,
                progress=False)  # fmt: skip
    return Twins(
        name, apart(by_hand, by_engine), apart(by_hand, numeric),
        apart(one.state_dict(), two.state_dict()), entries,
        off(by_hand, by_engine), apart(start, two.state_dict()),
    )  # fmt: skip


def shake(arrays: list[np.ndarray], seed: int) -> None:
    """Add noise to parameters: at the start every bias is zero."""
    rng = np.random.default_rng(seed + 5)
    for a in arrays:
        a += backend.asarray(rng.normal(0, 0.05, a.shape))


def differences(
    loss: Callable[[], Any], parameters: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Differentiate loss() by every parameter, by fourth-order finite differences.

    (8 (L(h) − L(−h)) − (L(2h) − L(−2h))) / 12h, with the largest h of STEPS for which
    h and h / 2 agree, or the one for which they agree best. They disagree if a relu
    switches between −2h and 2h.
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
            best = np.inf
            for h in STEPS:
                once, again = slope(a, i, h), slope(a, i, h / 2)
                if abs(once - again) < best:
                    g[i], best = once, abs(once - again)
                if best < 1e-6 * STEPS[0] * (1 + abs(g[i])):
                    break
    return found


def apart(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Return the largest difference of named arrays, relative to the largest entry."""
    a, b = ({k: backend.to_numpy(v) for k, v in given.items()} for given in (a, b))
    largest = max(float(np.abs(v).max()) for v in b.values())
    return max(float(np.abs(a[k] - b[k]).max()) for k in b) / largest


def off(by_hand: dict[str, np.ndarray], by_engine: dict[str, np.ndarray]) -> float:
    """Return what `apart` gives for one array of by_hand off by 0.1 %, at least.

    Arrays whose gradient is 0 but for rounding are left out: a factor changes nothing.
    """
    seen = []
    for name, g in by_hand.items():
        found = apart(by_hand | {name: 1.001 * g}, by_engine)
        if apart(by_hand | {name: 0 * g}, by_engine) > ROUNDING:
            seen.append(found)
    return min(seen)


@plots.styled
def draw(rows: list[Twins]) -> Any:
    """Draw the differences of every system on one logarithmic axis."""
    figure, ((ax,),) = plots.panels(size=(7.2, 5))
    y = np.arange(len(rows))
    zero = 1e-18  # drawn here: versions that are equal to the last bit
    for label, values, marker, color in (
        ("gradient: by hand and by the engine", [r.engine for r in rows], "o", 0),
        ("weights after 100 steps: by hand and by the engine",
         [r.weights for r in rows], "s", 2),
        ("gradient: by hand and by finite differences",
         [r.differences for r in rows], "^", 1),
        ("baseline: gradient by hand, one array off by 0.1 %",
         [r.wrong for r in rows], "x", 3),
    ):  # fmt: skip
        ax.plot(np.maximum(values, zero), y, marker, color=plots.COLORS[color],
                ms=7, ls="", label=label, clip_on=False)  # fmt: skip
    eps = float(np.finfo(np.float64).eps)
    ax.axvline(eps, color="gray", ls=":", label="float64 rounding, 2.2e-16")
    for i, row in enumerate(rows):
        if "pairs" in row.name:
            ax.annotate("last bias of D: gradient 0,\nAdam enlarges the rounding",
                        (max(row.weights, row.differences), i), (8, 0),
                        textcoords="offset points", va="center", fontsize=8.5,
                        bbox={"color": "white", "pad": 1})  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlim(zero, 1e-3)
    powers = range(-16, -3, 2)
    ax.set_xticks([zero, *(10.0**k for k in powers)],
                  ["0", *(f"$10^{{{k}}}$" for k in powers)])  # fmt: skip
    ax.set_yticks(y, [row.name for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("largest difference, relative to the largest entry")
    figure.suptitle("Every system three ways: how far apart?", fontsize=12)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=1)
    return figure


def run(demo: Demo) -> None:
    """Compare the three gradients of every system."""
    (rng,) = backend.streams(demo.seed, 1)
    x = draw_digits(100 * BATCH, rng, pixels=8).x.astype(np.float64)
    names = [*SYSTEMS, *GANS]
    if demo.quick:
        names = ["denoising", "IWAE, 5 draws", "GAN, pairs, R1, R2"]
    rows = []
    for name in tqdm(names, disable=None, leave=False):
        rows.append((compare if name in SYSTEMS else compare_gan)(name, x, demo.seed))
    demo.say(f"  {'largest difference':24} {'engine':>9} {'differences':>12} "
             f"{'100 steps':>10} {'entries':>8}")  # fmt: skip
    for row in rows:
        demo.say(f"  {row.name:24} {row.engine:9.1e} {row.differences:12.1e} "
                 f"{row.weights:10.1e} {row.entries:8,}")  # fmt: skip
    demo.save(
        draw(rows),
        alt="For every system the gradients by hand and by the "
        "engine differ by rounding; a gradient off by 0.1 % is far to the right.",
    )
    wrong = {"one array of the gradient off by 0.1 %": min(r.wrong for r in rows)}
    demo.claim(
        "gradients, by hand and by the engine: largest relative difference",
        max(r.engine for r in rows),
        at_most=ROUNDING,
        baseline=wrong,
    )
    demo.claim(
        "gradients, by hand and by finite differences",
        max(r.differences for r in rows),
        at_most=1e-7,
        baseline=wrong,
    )
    demo.claim(
        "weights after 100 steps, by hand and by the engine",
        max(r.weights for r in rows),
        at_most=1e-9,
        baseline={"the initial weights": min(r.start for r in rows)},
    )


if __name__ == "__main__":
    main(__name__)
