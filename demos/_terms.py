"""The two terms of V while D learns, and then while G learns; for the demo gan."""

import math
from typing import Any, NamedTuple

import numpy as np

from demos._demo import Demo
from scratchnet import backend, models, plots
from scratchnet.byhand import GAN
from scratchnet.data.digits import draw_digits
from scratchnet.functions import log_sigmoid, sigmoid

LOSSES = {
    "non_saturating": "G raises log D(G(z))",
    "saturating": "G lowers log(1 − D(G(z)))",
}


class Turns(NamedTuple):
    """D learns while G is fixed, then G while D is fixed; lists over the steps."""

    first: list[float]  # mean log D(x), while D learns
    second: list[float]  # mean log(1 − D(G(z)))
    real: list[float]  # mean D(x)
    generated: list[float]  # mean D(G(z))
    norms: dict[str, list[float]]  # of G's gradient, for each loss of G
    after: dict[str, list[float]]  # the second term, while G learns by each loss
    of_terms: tuple[float, float]  # norms of the gradients of both terms by G


def take_turns(demo: Demo) -> Turns:
    """Train D against an untrained G on digits, then G against that D."""
    data_rng, init, shuffle, noise = backend.streams(demo.seed, 4)
    x = draw_digits(2000, data_rng).x
    sizes = (32, 256, 784), (784, 256, 1)

    def game() -> GAN:
        # Plain gradient descent for G: Adam would divide by the gradient's size.
        return GAN(*sizes, rng=init, lr=1e-3, generator_update="sgd", generator_lr=0.1)

    gan = game()
    seen, z = x[:128], draw(noise)
    logs, means = [], []
    norms: dict[str, list[float]] = {loss: [] for loss in LOSSES}
    steps = demo.choose(120, 80)
    for _ in range(steps + 1):
        logs.append(terms(gan, seen, z))
        means.append(
            (gan.discriminate(seen).mean(), gan.discriminate(gan.generate(z)).mean())
        )
        for gan.objective, found in norms.items():
            gan.generator_gradients(backend.asarray(z))
            found.append(float(np.linalg.norm(gan.d_theta_g)))
        trained = gan.state_dict()
        real = backend.asarray(x[shuffle.integers(len(x), size=128)])
        gan.discriminator_step(real, backend.asarray(draw(noise)))
    after = {}
    for loss in LOSSES:
        gan = game()
        gan.load_state_dict(trained)
        gan.objective = loss
        after[loss] = [logs[-1][1]]
        for _ in range(steps):
            gan.generator_step(backend.asarray(draw(noise)))
            after[loss].append(terms(gan, seen, z)[1])
    first, second = zip(*logs, strict=True)
    d_real, d_generated = np.array(means).T
    of_terms = gradients_by_g(sizes, trained, seen, z)
    return Turns(first, second, d_real, d_generated, norms, after, of_terms)


def draw(noise: np.random.Generator) -> np.ndarray:
    """Draw the noise of a batch."""
    return noise.standard_normal((128, 32), np.float32)


def terms(gan: GAN, x: np.ndarray, z: np.ndarray) -> tuple[float, float]:
    """Return mean log D(x) and mean log(1 - D(G(z)))."""
    a_r, a_f = (
        a.astype(np.float64) for a in (gan.logits(x), gan.logits(gan.generate(z)))
    )
    return float(-np.logaddexp(0, -a_r).mean()), float(-np.logaddexp(0, a_f).mean())


def gradients_by_g(
    sizes: tuple[tuple[int, ...], tuple[int, ...]],
    state: dict[str, np.ndarray],
    x: np.ndarray,
    z: np.ndarray,
) -> tuple[float, float]:
    """Return the norms of the gradients of both terms of V by G, from the engine."""
    gan = models.GAN(*sizes, rng=np.random.default_rng(0))
    gan.load_state_dict(state)
    x, z = backend.asarray(x), backend.asarray(z)
    norms = []
    for a in (gan.discriminator(x), -gan.discriminator(sigmoid(gan.generator(z)))):
        parameters = gan.generator.parameters()
        for p in parameters:
            p.grad = None
        np.mean(log_sigmoid(a)).backward()
        squares = [float(np.sum(p.grad**2)) for p in parameters if p.grad is not None]
        norms.append(math.sqrt(sum(squares)))
    return norms[0], norms[1]


def judge_the_terms(demo: Demo) -> None:
    """Claim where both terms of V go, and what G's gradient does."""
    turns = take_turns(demo)
    for what, term in (
        ("mean log D(x)", turns.first), ("mean log(1 - D(G(z)))", turns.second)
    ):  # fmt: skip
        demo.claim(
            f"{what} after D learned alone (nats)", term[-1], at_least=-0.01,
            baseline={"an untrained D": term[0]},
        )  # fmt: skip
    demo.measure("mean D(x) after D learned alone", turns.real[-1])
    demo.claim(
        "mean log(1 - D(G(z))) after G learned alone (nats)",
        turns.after["non_saturating"][-1], at_most=-3.0,
        baseline={
            "an untrained G": turns.second[-1],
            "G that lowers log(1 - D(G(z)))": turns.after["saturating"][-1],
        },
    )  # fmt: skip
    demo.claim(
        "norm of the gradient of mean log D(x) by G", turns.of_terms[0], at_most=0.0,
        baseline={"that of mean log(1 - D(G(z)))": turns.of_terms[1]},
    )  # fmt: skip
    ratio = np.divide(*turns.norms.values())
    demo.claim(
        "gradient of log D(G(z)) over that of log(1 - D(G(z))), D nearly certain",
        ratio[-1], at_least=20.0, baseline={"an untrained D": ratio[0]},
    )  # fmt: skip
    demo.save(draw_terms(turns), "terms", alt=(
        "Both terms of V go to 0 while D learns; then the second falls while G learns."
    ))  # fmt: skip
    demo.save(draw_gradients(turns), "gradients", alt=(
        "As D gets certain, the gradient of log(1 - D(G(z))) vanishes and that of "
        "log D(G(z)) does not."
    ))  # fmt: skip


@plots.styled
def draw_terms(turns: Turns) -> Any:
    """Draw both terms of V while D learns, then while G learns."""
    figure, axes = plots.panels(1, 2, (3.6, 3.9))
    blue, red, green = plots.COLORS[:3]
    left, right = axes[0]
    steps = len(turns.first)
    second = "mean log(1 − D(G(z)))"
    left.plot(turns.first, color=blue, label="mean log D(x)")
    left.plot(turns.second, color=red, ls="--", label=second)
    right.plot([turns.first[-1]] * steps, color=blue, label="mean log D(x)")
    right.plot(turns.after["non_saturating"], color=red, ls="--",
               label=f"{second};\nG raises log D(G(z))")  # fmt: skip
    right.plot(turns.after["saturating"], "s", color=green, mfc="none", ms=7,
               markevery=15, label=f"{second};\nG lowers this term")  # fmt: skip
    left.set_title("D learns, G is fixed")
    left.set_xlabel("steps of D")
    left.set_ylabel("nats")
    left.set_ylim(top=0.05)
    left.set_xlim(-1, 40)  # nothing moves later
    right.set_title("G learns, D is fixed")
    right.set_xlabel("steps of G")
    for ax in (left, right):
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return figure


@plots.styled
def draw_gradients(turns: Turns) -> Any:
    """Draw the norms of both gradients of G over the mean of D(G(z))."""
    figure, axes = plots.panels(1, 1, (5.6, 3.8))
    ax = axes[0, 0]
    for (loss, norms), style, color in zip(
        turns.norms.items(), ("o-", "s--"), plots.COLORS, strict=False
    ):
        ax.plot(turns.generated, norms, style, color=color, ms=3, label=LOSSES[loss])
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.invert_xaxis()
    ax.set_title("D learns to reject the samples of an untrained G")
    ax.set_xlabel("mean of D(G(z)): to the right, D is more certain")
    ax.set_ylabel("norm of G's gradient")
    ax.legend(loc="lower left")
    return figure
