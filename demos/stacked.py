"""With more layers, a code of the same length reconstructs digits better.

The lecture: Stacked 오토인코더. "특징 추출을 더욱 정교하게 수행하기 위해 여러 개의
층으로 구성된 오토인코더 - ReLU" (an autoencoder of several layers, to extract features
more finely; ReLU). Measured as squared error on held-out digits:

- depth: a code of 4 numbers with 1 to 4 hidden layers before it and as many after it.
  All networks have about the same number of parameters, and the same number of steps
  and learning rate;
- pretraining (Bengio et al. 2007): the layers are trained one by one, then all
  together. The comparison trains all layers together from the start, at equal cost: an
  epoch of each layer alone takes as many multiplications as one epoch of the whole
  stack. With sigmoids, small weights and gradient descent, the whole stack learns only
  the mean picture, and pretraining makes a deep stack possible (Hinton & Salakhutdinov
  2006). With ReLU, He's weights and Adam, the whole stack learns without pretraining.

Each training is repeated from other initial weights, to show the variation by chance.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from demos._demo import Demo, main
from scratchnet import backend, byhand, plots
from scratchnet.data.digits import draw_digits
from scratchnet.metrics import PCA, reconstruction_error
from scratchnet.nn import Initializer, he_uniform
from scratchnet.optim import cosine_decay
from scratchnet.training import fit, pretrain

SIDE = 20  # pixels
PIXELS = SIDE**2
CODE = 4  # numbers
DEPTHS = (1, 2, 3, 4)  # hidden layers on either side
WIDTH = 256  # of one hidden layer; `width` returns that of several
STACK = (PIXELS, 200, 100, 50, CODE)  # for pretraining
BATCH = 50
SHOWN = (2, 3, 5, 6, 8, 9)  # the digits in the figure of pictures
BLUE, ORANGE = plots.COLORS[:2]
GRAY = "#666666"


# --- Depth --------------------------------------------------------------------------


def width(hidden: int) -> int:
    """Return the width of each hidden layer, for equally many parameters.

    An encoder with h hidden layers of width w has (pixels + code) w + (h - 1) w²
    weights. This number is to equal that of h = 1 and w = WIDTH.
    """
    ends = PIXELS + CODE
    more = hidden - 1
    if not more:
        return WIDTH
    return round((math.sqrt(ends**2 + 4 * more * ends * WIDTH) - ends) / (2 * more))


def train_depth(demo: Demo, hidden: int, x: np.ndarray, seed: int) -> Any:
    """Train a stack with `hidden` hidden layers on x (n, PIXELS), all together."""
    init, shuffle = backend.streams(seed, 2)
    epochs = demo.choose(9, 6)
    rate = cosine_decay(5e-3, epochs * len(x) // BATCH)
    stack = byhand.StackedAutoencoder(
        (PIXELS, *[width(hidden)] * hidden, CODE),
        rng=init,
        batch_size=BATCH,
        init=he_uniform,
        lr=rate,
    )
    fit(stack, x, epochs=epochs, batch_size=BATCH, rng=shuffle)
    return stack


@plots.styled
def draw_depth(depths: Sequence[int], errors: np.ndarray, of_pca: float) -> Any:
    """Draw the errors (depths, seeds) against the number of hidden layers."""
    figure, ((ax,),) = plots.panels(size=(6.4, 4.4))
    mean = errors.mean(axis=1)
    ax.plot(depths, mean, color=BLUE, label="autoencoder, mean")
    for of_one in errors.T:
        ax.plot(depths, of_one, "o", color=BLUE, ms=7, mfc="white", mew=1.5)
    ax.lines[-1].set_label("from one random seed")
    ax.axhline(of_pca, color=GRAY, ls=":", label=f"PCA, {CODE} components")
    for depth, error in zip(depths, mean, strict=True):
        ax.annotate(f"{error:.2f}", (depth, error), (0, 14), color=BLUE, weight="bold",
                    textcoords="offset points", ha="center")  # fmt: skip
    ax.set_xticks(depths, [f"{h}\n({width(h)} units each)" for h in depths])
    ax.set_xlim(depths[0] - 0.4, depths[-1] + 0.4)
    ax.set_ylim(0, 1.08 * of_pca)
    ax.set_title(f"Deeper networks, same code length ({CODE}) and size")
    ax.set_xlabel("hidden layers before the code")
    ax.set_ylabel("squared error per image")
    ax.legend(loc="lower left")
    return figure


# --- Layer by layer -----------------------------------------------------------------


def small(
    rng: np.random.Generator, shape: tuple[int, int], dtype: Any = np.float32
) -> np.ndarray:
    """Draw W from N(0, 0.01²)."""
    return rng.normal(0, 0.01, shape).astype(dtype)


class Means(NamedTuple):
    """How a stack is trained."""

    name: str
    activation: str
    init: Initializer
    update: dict[str, Any]  # its name and options
    layers_rate: float  # learning rate for single layers
    rate: float  # initial rate for the whole stack; it falls to 0


THEN = Means(
    "sigmoid, small weights,\ngradient descent", "sigmoid", small,
    {"update": "sgd", "momentum": 0.9}, 0.01, 0.1,
)  # fmt: skip
NOW = Means(
    "ReLU, He's weights,\nAdam", "relu", he_uniform, {"update": "adam"}, 3e-3, 3e-3,
)  # fmt: skip


class Learned(NamedTuple):
    """A trained stack, and its errors during training.

    epochs: when each error was measured; an epoch of each layer alone counts as one.
    errors: the squared error per held-out image, of the whole stack.
    layers: the parameters after pretraining; empty without pretraining.
    """

    stack: Any
    epochs: list[int]
    errors: list[float]
    layers: dict[str, np.ndarray]


def learn(
    means: Means,
    x: np.ndarray,
    held_out: np.ndarray,
    *,
    epochs: int,
    each: int,
    seed: int,
) -> Learned:
    """Train STACK for some epochs; the first `each` of them pretrain the layers."""
    init, shuffle = backend.streams(seed, 2)
    stack = byhand.StackedAutoencoder(
        STACK,
        rng=init,
        batch_size=BATCH,
        activation=means.activation,
        init=means.init,
        lr=means.layers_rate,
        **means.update,
    )
    learned = Learned(stack, [], [], {})

    def note(history: Any = None) -> None:
        learned.epochs.append(each + (len(history.losses) if history else 0))
        error = reconstruction_error(held_out, stack.reconstruct(held_out))
        learned.errors.append(error)

    if each:
        pretrain(stack, x, epochs=each, batch_size=BATCH, rng=shuffle)
        learned.layers.update(stack.state_dict())
        note()
    rest = epochs - each
    stack.optimizer.lr = cosine_decay(means.rate, rest * len(x) // BATCH)
    fit(stack, x, epochs=rest, batch_size=BATCH, rng=shuffle, callback=note)
    return learned


def there_and_back(stack: Any, x: np.ndarray, k: int) -> np.ndarray:
    """Encode x (n, d) through layers 1 to k of a stack, and decode it."""
    layers = [stack.layer(i) for i in range(1, k + 1)]
    h = x
    for layer in layers:
        h = layer.encode(h)
    for layer in reversed(layers):
        h = layer.decode(h)
    return h


@plots.styled
def draw_learning(
    found: Sequence[tuple[Means, list[Learned], list[Learned]]], of_mean: float
) -> Any:
    """Draw the error over the epochs, a panel for each Means.

    Args:
        found: the means, the stacks trained together from the start, and those
            pretrained.
        of_mean: the error of the mean picture.

    """
    figure, (axes,) = plots.panels(1, len(found), (3.5, 4.3), sharey=True)
    for ax, (means, whole, layered) in zip(axes, found, strict=True):
        alone, last = layered[0].epochs[0], layered[0].epochs[-1]
        ax.axvspan(0, alone, color=BLUE, alpha=0.12, lw=0,
                   label="pretraining, layer by layer")  # fmt: skip
        ax.axhline(of_mean, color=GRAY, ls=":", label="the mean picture")
        for one in whole:
            ax.plot(one.epochs, one.errors, color=ORANGE, lw=1.5)
        ax.lines[-1].set_label("all layers together from the start")
        for one in layered:
            ax.plot(one.epochs, one.errors, "o--", color=BLUE, lw=1.5, markevery=[0])
        ax.lines[-1].set_label("after pretraining, all layers together")
        ax.set_title(means.name)
        ax.set_xlabel("epochs")
        ax.set_xlim(0, last)
        ax.set_ylim(4, 36)
    axes[0].set_ylabel("squared error per image")
    axes[0].set_yscale("log", base=2)
    axes[0].yaxis.set_major_formatter("{x:g}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=2)  # fmt: skip
    return figure


# --- All of it ----------------------------------------------------------------------


Pictures = dict[str, np.ndarray]  # rows of pictures (n, SIDE, SIDE), by name


class Data(NamedTuple):
    """Digits to train on, held-out digits, and which of those are shown."""

    x: np.ndarray  # (n, PIXELS)
    held_out: np.ndarray
    shown: list[int]
    seeds: list[int]  # of each training

    def row(self, name: str, made: np.ndarray) -> Pictures:
        """Return the pictures shown, of the reconstructions made (n, PIXELS)."""
        error = reconstruction_error(self.held_out, made)
        pictures = made[self.shown].reshape(-1, SIDE, SIDE)
        return {f"{name}\nerror {error:.1f}": pictures}


def compare_depths(demo: Demo, data: Data) -> Pictures:
    """Train stacks of several depths; return their reconstructions."""
    depths = demo.choose(DEPTHS, (1, 3))
    held_out = data.held_out
    pca = PCA(CODE).fit(data.x)
    linear = pca.inverse_transform(pca.transform(held_out))
    of_pca = reconstruction_error(held_out, linear)
    demo.say(f"  a code of {CODE} numbers; PCA: error {of_pca:.2f}")
    rows, pictures = [], {}
    for hidden in depths:
        errors = []
        for seed in data.seeds:
            stack = train_depth(demo, hidden, data.x, seed)
            made = stack.reconstruct(held_out)
            errors.append(reconstruction_error(held_out, made))
            if seed == data.seeds[0]:
                name = f"{hidden} hidden layer{'s' * (hidden > 1)}"
                pictures |= data.row(name, made)
        rows.append(errors)
        parameters = sum(a.size for a in stack.parameters.values())
        demo.say(
            f"  {hidden} x {width(hidden)} hidden units, {parameters:,} "
            f"parameters: error {', '.join(f'{e:.2f}' for e in errors)}"
        )
    found = np.array(rows)
    demo.save(draw_depth(depths, found, of_pca))
    mean = found.mean(axis=1)
    demo.claim("error, 3 hidden layers / 1", mean[depths.index(3)] / mean[0],
               at_most=demo.choose(0.9, 0.96))  # fmt: skip
    demo.claim("the worst with 3 or more / the best with 1",
               found[depths.index(3):].max() / found[0].min(),
               at_most=demo.choose(0.95, 0.96))  # fmt: skip
    if 4 in depths:
        demo.claim("error, 4 hidden layers / 3: no more to gain", mean[-1] / mean[-2],
                   at_least=0.94, at_most=1.06)  # fmt: skip
    return pictures


def compare_training(demo: Demo, data: Data) -> Pictures:
    """Train with and without pretraining; return reconstructions by layer."""
    of_mean = reconstruction_error(
        data.held_out, np.broadcast_to(data.x.mean(axis=0), data.held_out.shape)
    )
    demo.say(f"  the mean picture: error {of_mean:.2f}")
    found, ends = [], []
    for means, epochs, each in (
        (THEN, demo.choose(18, 30), demo.choose(4, 6)),
        (NOW, demo.choose(12, 8), 2),
    ):
        both = [
            [learn(means, data.x, data.held_out, epochs=epochs, each=alone, seed=seed)
             for seed in data.seeds]
            for alone in (0, each)
        ]  # fmt: skip
        found.append((means, *both))
        ends.append([[one.errors[-1] for one in runs] for runs in both])
        name = means.name.replace("\n", " ")
        demo.say(f"  {name}, {epochs} epochs:")
        for what, errors in zip(("the whole", "pretrained"), ends[-1], strict=True):
            demo.say(f"    {what}: error {', '.join(f'{e:.2f}' for e in errors)}")
    demo.save(draw_learning(found, of_mean), "pretraining")
    (then_whole, then_layers), (now_whole, now_layers) = np.array(ends)
    demo.claim("then: the whole / the mean picture, at best",
               then_whole.min() / of_mean, at_least=0.97)  # fmt: skip
    demo.claim("then: pretrained / the whole, at worst",
               then_layers.max() / then_whole.min(),
               at_most=demo.choose(0.5, 0.8))  # fmt: skip
    demo.claim("now: the whole, in fewer epochs / pretrained then",
               now_whole.mean() / then_layers.mean(), at_most=1.0)  # fmt: skip
    demo.claim("now: pretrained / the whole", now_layers.mean() / now_whole.mean(),
               at_least=0.9, at_most=1.1)  # fmt: skip
    return layer_by_layer(found[-1][-1][0], data)


def layer_by_layer(learned: Learned, data: Data) -> Pictures:
    """Return the reconstructions of a pretrained stack from each of its layers."""
    stack = learned.stack
    last = data.row("then trained\ntogether", stack.reconstruct(data.held_out))
    stack.load_state_dict(learned.layers)
    alone = {}
    for k, size in enumerate(STACK[1:], 1):
        made = there_and_back(stack, data.held_out, k)
        alone |= data.row(f"pretrained\nlayer {k}, {size} units", made)
    return alone | last


def run(demo: Demo) -> None:
    """Compare depths, then ways to train."""
    data_rng, held_out_rng = backend.streams(demo.seed, 2)
    x = draw_digits(demo.choose(12_000, 4_000), data_rng, pixels=SIDE).x
    digits = draw_digits(2_000, held_out_rng, pixels=SIDE)
    shown = [int(np.argmax(digits.label == digit)) for digit in SHOWN]
    seeds = [1000 + 10 * demo.seed + i for i in range(demo.choose(3, 1))]
    data = Data(x, digits.x, shown, seeds)
    depths, layers = compare_depths(demo, data), compare_training(demo, data)
    digit = {"digit": digits.images[shown]}
    figure = plots.picture_rows(digit | depths | layers, "error: squared, per image")
    figure.suptitle(f"Digits, reconstructed from a code of {CODE} or from a layer")
    demo.save(figure, "pictures")


if __name__ == "__main__":
    main(__name__)
