"""With more layers and ReLU, two numbers say more about a digit.

The lecture: Stacked 오토인코더. "특징 추출을 더욱 정교하게 수행하기 위해 여러 개의
층으로 구성된 오토인코더 - ReLU" (an autoencoder of several layers, to extract features
more finely; ReLU). Measured on held-out digits; no network sees a label:

- depth: codes of 2 numbers, from 1 and from 3 hidden layers with equally many
  parameters. How often do the 10 nearest codes of a digit vote for its class?
  Baselines: PCA and chance. The result is the mean of 2 starts. The figures show the
  one with the lower accuracy;
- layers: the same vote with 2 principal components of each layer, against a network
  before training; again the start with the lower accuracy. All 400 pixels together
  vote almost without error, and all units of a layer vote worse, the deeper it lies.
  So depth does not find what pixels lack: it lets two numbers say more;
- activation alone: ReLU against sigmoid, with the same initial weights, optimizer and
  steps. Each start has the best of its learning rates by the training error. The lists
  are so wide that, in the mean of both starts, no network is best at an end of its
  list;
- pretraining (Bengio et al. 2007): layers one by one, then all together, against all
  together from the start, for equally many epochs. An epoch of each layer alone takes
  as many multiplications as one epoch of the whole stack. Every pretrained layer must
  beat the mean picture. With sigmoids, small weights and gradient descent, pretraining
  makes a deep stack possible (Hinton & Salakhutdinov 2006). With Glorot's weights,
  Adam and ReLU, the stack learns about as well without it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from demos._demo import Demo, main
from scratchnet import backend, byhand, plots
from scratchnet.data.digits import Digits, draw_digits
from scratchnet.metrics import PCA, knn_accuracy, reconstruction_error
from scratchnet.nn import Initializer, glorot_uniform
from scratchnet.optim import cosine_decay
from scratchnet.training import fit

SIDE = 20  # pixels
PIXELS = SIDE**2
CODE = 2  # numbers, for depth and activation
WIDTH = 256  # of one hidden layer; `width` returns that of several
VOTERS = 10  # nearest codes
STACK = (PIXELS, 200, 100, 50, 4)  # for pretraining
BATCH = 50
LAYERS = ("pixels", "layer 1", "layer 2", "layer 3", "code")
SHOWN = (2, 3, 5, 6, 8, 9)  # the digits in the figure of pictures
BLUE, ORANGE = plots.COLORS[:2]
GRAY = "#666666"

Pictures = dict[str, np.ndarray]  # rows of pictures (n, SIDE, SIDE), by name


class Data(NamedTuple):
    """Digits to train on, held-out digits, and which of those are shown."""

    train: Digits
    held_out: Digits
    shown: list[int]

    def error(self, made: np.ndarray) -> float:
        """Return the squared error per held-out image of reconstructions."""
        return reconstruction_error(self.held_out.x, made)

    def accuracy(self, encode: Callable[[np.ndarray], np.ndarray]) -> float:
        """Return the percentage of held-out digits whose neighbours vote correctly."""
        return self.votes(encode(self.train.x), encode(self.held_out.x))

    def votes(self, codes: np.ndarray, held_out: np.ndarray) -> float:
        """Return that percentage for the codes of both."""
        labels = self.train.label, self.held_out.label
        return 100 * knn_accuracy(codes, labels[0], held_out, labels[1], k=VOTERS)

    def row(self, name: str, made: np.ndarray) -> Pictures:
        """Return the pictures shown, of the reconstructions made (n, PIXELS)."""
        pictures = made[self.shown].reshape(-1, SIDE, SIDE)
        return {f"{name}\nerror {self.error(made):.1f}": pictures}


# --- Depth and activation -----------------------------------------------------------


class Network(NamedTuple):
    """A way to make a code of CODE numbers, and how good it is."""

    encode: Callable[[np.ndarray], np.ndarray]  # from the worse start
    reconstruct: Callable[[np.ndarray], np.ndarray]
    starts: list[float]  # the accuracy from each start, percent
    stack: Any = None  # of the worse start; None for PCA
    errors: Mapping[float, list[float]] = {}  # by rate: of training, from each start

    @property
    def accuracy(self) -> float:
        """The mean accuracy of all starts, percent."""
        return float(np.mean(self.starts))

    @property
    def rates(self) -> list[float]:
        """The learning rate of each start: that with the least training error."""
        starts = range(len(self.starts))
        return [min(self.errors, key=lambda rate: self.errors[rate][i]) for i in starts]


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


def untrained(hidden: int, activation: str, rng: np.random.Generator) -> Any:
    """Return a stack with `hidden` hidden layers and new weights."""
    return byhand.StackedAutoencoder(
        (PIXELS, *[width(hidden)] * hidden, CODE),
        rng=rng,
        batch_size=BATCH,
        init=glorot_uniform,
        activation=activation,
    )


def train(
    data: Data,
    hidden: int,
    activation: str,
    *,
    epochs: int,
    seeds: Sequence[int],
    rates: Sequence[float],
) -> Network:
    """Train a stack from each seed, with the best rate for that seed.

    That rate gives the least error of the training digits, so that no label and no
    held-out digit takes part in the choice.
    """
    x = data.train.x

    def trained(seed: int, rate: float) -> Any:
        init, shuffle = backend.streams(seed, 2)
        stack = untrained(hidden, activation, init)
        stack.optimizer.lr = cosine_decay(rate, epochs * len(x) // BATCH)
        fit(stack, x, epochs=epochs, batch_size=BATCH, rng=shuffle)
        return stack

    errors: dict[float, list[float]] = {rate: [] for rate in rates}
    stacks = []
    for seed in seeds:
        found = [trained(seed, rate) for rate in rates]
        off = [reconstruction_error(x, stack.reconstruct(x)) for stack in found]
        stacks.append(found[int(np.argmin(off))])
        for rate, error in zip(rates, off, strict=True):
            errors[rate].append(error)
    starts = [data.accuracy(stack.encode) for stack in stacks]
    worse = stacks[int(np.argmin(starts))]
    return Network(worse.encode, worse.reconstruct, starts, worse, errors)


def linear(data: Data) -> Network:
    """Return PCA, the best linear code."""
    pca = PCA(CODE).fit(data.train.x)

    def reconstruct(x: np.ndarray) -> np.ndarray:
        return np.clip(pca.inverse_transform(pca.transform(x)), 0, 1)

    return Network(pca.transform, reconstruct, [data.accuracy(pca.transform)])


def accuracy_by_layer(data: Data, stack: Any, *, reduced: bool = True) -> list[float]:
    """Return the accuracy from the pixels and from each layer.

    If `reduced`, from CODE principal components of them, else from all units.
    """
    h, held_out = data.train.x, data.held_out.x
    found = []
    for k in range(len(stack.sizes)):
        if k:
            layer = stack.layer(k)
            h, held_out = layer.encode(h), layer.encode(held_out)
        look = PCA(CODE).fit(h).transform if reduced else np.asarray
        found.append(data.votes(look(h), look(held_out)))
    return found


def ranks(z: np.ndarray) -> np.ndarray:
    """Return the ranks of the numbers in each column of z (n, d), from 1 to n."""
    return np.argsort(np.argsort(z, axis=0), axis=0) + 1


@plots.styled
def draw_planes(data: Data, networks: dict[str, Network], most: int = 500) -> Any:
    """Draw the held-out digits at the ranks of their codes, a panel for each network.

    Codes of ReLU are dense near 0 and sparse elsewhere; ranks are evenly spread.
    """
    figure, axes = plots.panels(2, 2, (3.3, 3.1))
    digits = data.held_out
    for ax, (name, network) in zip(axes.flat, networks.items(), strict=True):
        code = ranks(network.encode(digits.x[:most]))
        plots.scatter_digits(ax, code, digits.label[:most], size=18)
        ax.set_title(f"{name}\n{min(network.starts):.0f} % correct votes")
        ax.set_xticks([1, most])
        ax.set_yticks([1, most])
    for ax in axes[-1]:
        ax.set_xlabel("rank of the first number")
    for ax in axes[:, 0]:
        ax.set_ylabel("rank of the second number")
    return figure


@plots.styled
def draw_accuracy(
    networks: dict[str, Network],
    whole: Sequence[float],
    trained: Sequence[float],
    before: Sequence[float],
) -> Any:
    """Draw the accuracy of networks, and of the layers of one network.

    Args:
        networks: the networks, by name.
        whole: the accuracy from all units of each layer.
        trained, before: that from CODE components, after and before training.

    """
    figure, (axes,) = plots.panels(1, 2, (3.4, 4.2), width_ratios=(1, 1.1))
    left, right = axes
    found = [("chance", [10.0]), *((k, one.starts) for k, one in networks.items())]
    for name, starts in reversed(found):
        label = name.replace(", ", "\n")
        color = BLUE if "layer" in name else GRAY
        left.barh(label, np.mean(starts), color=color, alpha=0.6, height=0.65)
        left.text(112, label, f"{np.mean(starts):.0f}", ha="right", va="center")
        left.plot(starts, [label] * len(starts), "o", color="black", ms=4, mfc="white")
    left.set_xlim(0, 112)
    left.grid(visible=False)
    left.set_title(f"Codes of {CODE} numbers;\nmeans, a circle for each start")
    two = f"{CODE} components"
    right.plot(range(5), whole, "^:", color=GRAY, label="all units")
    right.plot(range(5), trained, "o-", color=BLUE, label=two)
    right.plot(range(5), before, "s--", color=ORANGE, label=f"{two}, before training")
    right.set_xticks(range(5), [name.replace("layer ", "") for name in LAYERS])
    right.set_ylim(0, 104)
    right.set_title("3 hidden layers, ReLU:\nvotes by layer, the worse start")
    right.set_xlabel("hidden layer")
    right.set_ylabel("correct votes of neighbours (%)")
    left.set_xlabel("correct votes of neighbours (%)")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


ONE = "1 hidden layer, ReLU"
LOGISTIC, THREE = "3 hidden layers, sigmoid", "3 hidden layers, ReLU"
# By name: hidden layers, activation, the learning rates to choose from, and that of a
# quick run.
KINDS: dict[str, tuple[int, str, Sequence[float], float]] = {
    ONE: (1, "relu", (5e-3, 1e-2, 2e-2, 4e-2), 1e-2),
    LOGISTIC: (3, "sigmoid", (2e-3, 5e-3, 1e-2, 2e-2), 1e-2),
    THREE: (3, "relu", (2e-3, 5e-3, 1e-2, 2e-2), 5e-3),
}


def train_all(demo: Demo, data: Data) -> dict[str, Network]:
    """Return networks that differ in depth alone, or in activation alone."""
    epochs = demo.choose(24, 8)
    seeds = [1000 + 10 * demo.seed + i for i in range(demo.choose(2, 1))]
    networks = {"PCA": linear(data)}
    for name, (hidden, activation, several, one) in KINDS.items():
        rates = demo.choose(several, (one,))
        networks[name] = train(
            data, hidden, activation, epochs=epochs, seeds=seeds, rates=rates
        )
    return networks


def compare_depths(demo: Demo, data: Data) -> Pictures:
    """Vary depth alone, then activation alone; return reconstructions."""
    networks = train_all(demo, data)
    claim_depth(demo, {name: found.accuracy for name, found in networks.items()})
    pictures: Pictures = {}
    for name, network in networks.items():
        made = network.reconstruct(data.held_out.x)
        demo.measure(f"squared error, {name}", data.error(made))
        pictures |= data.row(name.replace(", ", "\n"), made)
        for rate, errors in network.errors.items():
            demo.measure(f"training error, {name}, learning rate {rate:g}, mean of "
                         "starts", float(np.mean(errors)))  # fmt: skip
        if network.errors:
            demo.measure(f"learning rate chosen, {name}, mean of starts",
                         float(np.mean(network.rates)))  # fmt: skip
    demo.save(draw_planes(data, networks),
              alt="Digits at the ranks of their two numbers, from the worse start: "
              "classes overlap least with three hidden layers and ReLU.")  # fmt: skip
    judge_layers(demo, data, networks)
    return pictures


def claim_depth(demo: Demo, accuracy: dict[str, float]) -> None:
    """Claim what depth and ReLU gain; a quick run is too short for depth."""
    baseline = {"chance": 10.0, "PCA": accuracy["PCA"]}
    if demo.quick:
        demo.claim("accuracy, 3 hidden layers, at least 10 points over PCA, %",
                   accuracy[THREE], at_least=accuracy["PCA"] + 10,
                   baseline=baseline)  # fmt: skip
    else:
        demo.claim("accuracy, 3 hidden layers, at least 3 points over 1, %",
                   accuracy[THREE], at_least=accuracy[ONE] + 3,
                   baseline=baseline | {ONE: accuracy[ONE]})  # fmt: skip
    demo.claim("accuracy, ReLU, at least 3 points over sigmoid and PCA, %",
               accuracy[THREE],
               at_least=max(accuracy[LOGISTIC], accuracy["PCA"]) + 3,
               baseline=baseline | {LOGISTIC: accuracy[LOGISTIC]})  # fmt: skip
    for name, percent in accuracy.items():
        demo.measure(f"accuracy, {name}, %", percent)


def judge_layers(demo: Demo, data: Data, networks: dict[str, Network]) -> None:
    """Measure the layers of the deep network; draw them and all networks."""
    stack = networks[THREE].stack
    init, _ = backend.streams(1000 + demo.seed, 2)
    trained = accuracy_by_layer(data, stack)
    whole = accuracy_by_layer(data, stack, reduced=False)
    before = accuracy_by_layer(data, untrained(3, "relu", init))
    demo.claim("2 components of layer 3, at least 3 points over layer 1, %",
               trained[3], at_least=trained[1] + 3,
               baseline={"pixels": trained[0], "layer 1": trained[1],
                         "layer 3 before training": before[3]})  # fmt: skip
    for name, after, at_first, together in zip(LAYERS, trained, before, whole,
                                               strict=True):  # fmt: skip
        demo.measure(f"2 components of {name}, %", after)
        demo.measure(f"2 components of {name}, before training, %", at_first)
        demo.measure(f"all units of {name}, %", together)
    demo.save(draw_accuracy(networks, whole, trained, before), "accuracy",
              alt="Three hidden layers with ReLU have the most correct votes. By "
              "layer, votes of two components get better after training only, while "
              "all pixels together are almost always correct.")  # fmt: skip


# --- Pretraining --------------------------------------------------------------------


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
    layers_rate: float  # initial learning rate for each layer; it falls to 0
    rate: float  # and for the whole stack
    pretraining: int  # epochs


OLD = Means("sigmoid, small weights,\ngradient descent", "sigmoid", small,
            {"update": "sgd", "momentum": 0.9}, 0.05, 0.1, 6)  # fmt: skip
SIGMOID = Means("sigmoid, Glorot's weights,\nAdam", "sigmoid", glorot_uniform,
                {"update": "adam"}, 1e-3, 5e-3, 6)  # fmt: skip
RELU = SIGMOID._replace(name="ReLU, Glorot's weights,\nAdam", activation="relu")


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


def centre(layer: Any, h: np.ndarray) -> None:
    """Set the biases of a ReLU layer so that its code of h has mean 0.

    The codes h of the layer below have a large mean. With biases of 0, many outputs are
    0 for every digit and have no gradient. The outputs start at the mean of h instead.
    """
    p, mean = layer.parameters, h.mean(axis=0)
    p["encoder.0.b"][...] = -mean @ p["encoder.0.W"]
    p["decoder.0.b"][...] = mean


def pretrain(stack: Any, x: np.ndarray, means: Means, rng: np.random.Generator) -> None:
    """Train the layers of a stack one by one."""
    steps = means.pretraining * len(x) // BATCH
    h = x
    for k in range(1, len(stack.sizes)):
        layer = stack.layer(k)
        layer.optimizer.lr = cosine_decay(means.layers_rate, steps)
        if means.activation == "relu" and k > 1:
            centre(layer, h)
        fit(layer, h, epochs=means.pretraining, batch_size=BATCH, rng=rng)
        stack.set_layer(k, layer)
        h = layer.encode(h)


def learn(
    means: Means,
    x: np.ndarray,
    held_out: np.ndarray,
    *,
    epochs: int,
    layered: bool,
    seed: int,
) -> Learned:
    """Train STACK for some epochs; if `layered`, the first of them pretrain it."""
    init, shuffle = backend.streams(seed, 2)
    stack = byhand.StackedAutoencoder(
        STACK,
        rng=init,
        batch_size=BATCH,
        activation=means.activation,
        init=means.init,
        lr=means.rate,
        **means.update,
    )
    learned = Learned(stack, [], [], {})
    first = means.pretraining if layered else 0

    def note(history: Any = None) -> None:
        learned.epochs.append(first + (len(history.losses) if history else 0))
        error = reconstruction_error(held_out, stack.reconstruct(held_out))
        learned.errors.append(error)

    if layered:
        pretrain(stack, x, means, shuffle)
        learned.layers.update(stack.state_dict())
        note()
    rest = epochs - first
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


def stages(means: Means, learned: Learned, data: Data) -> list[np.ndarray]:
    """Return the reconstructions from each layer after pretraining."""
    stack = byhand.StackedAutoencoder(
        STACK,
        rng=np.random.default_rng(0),
        batch_size=BATCH,
        activation=means.activation,
    )
    stack.load_state_dict(learned.layers)
    x = data.held_out.x
    return [there_and_back(stack, x, k) for k in range(1, len(STACK))]


@plots.styled
def draw_learning(
    found: Sequence[tuple[Means, Learned, Learned]], of_mean: float
) -> Any:
    """Draw the error over the epochs, a panel for each Means.

    Args:
        found: the means, the stack trained together from the start, and the
            pretrained one.
        of_mean: the error of the mean picture.

    """
    figure, (axes,) = plots.panels(1, len(found), (2.5, 4.2), sharey=True)
    for ax, (means, whole, layered) in zip(axes, found, strict=True):
        ax.axvspan(0, means.pretraining, color=BLUE, alpha=0.12, lw=0,
                   label="pretraining, layer by layer")  # fmt: skip
        ax.axhline(of_mean, color=GRAY, ls=":", label="the mean picture")
        ax.plot(whole.epochs, whole.errors, color=ORANGE,
                label="all layers together from the start")  # fmt: skip
        ax.plot(layered.epochs, layered.errors, "o--", color=BLUE, markevery=[0],
                label="after pretraining, all layers together")  # fmt: skip
        ax.set_title(means.name, fontsize=10)
        ax.set_xlabel("epochs")
        ax.set_xlim(0, whole.epochs[-1])
        ax.set_ylim(4, 20)
    axes[0].set_ylabel("squared error per image")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=2)  # fmt: skip
    return figure


def compare_training(demo: Demo, data: Data) -> Pictures:
    """Train with and without pretraining; return reconstructions by layer."""
    x, held_out = data.train.x, data.held_out.x
    epochs, seed = demo.choose(14, 10), 2000 + demo.seed
    mean_picture = np.broadcast_to(x.mean(axis=0), held_out.shape)
    of_mean = data.error(mean_picture)
    found = []
    for means in (OLD, SIGMOID, RELU):
        runs = [
            learn(means, x, held_out, epochs=epochs, layered=layered, seed=seed)
            for layered in (False, True)
        ]
        found.append((means, *runs))
        worst = max(data.error(made) for made in stages(means, runs[1], data))
        name = means.name.replace("\n", " ")
        demo.claim(f"{name}: worst stage of pretraining / the mean picture",
                   worst / of_mean, at_most=0.95,
                   baseline={"the mean picture": 1.0})  # fmt: skip
    claim_pretraining(demo, found, of_mean)
    demo.save(draw_learning(found, of_mean), "pretraining",
              alt="Only with small weights and gradient descent does the stack stay "
              "at the mean picture without pretraining.")  # fmt: skip
    means, _, layered = found[-1]
    pictures = data.row("the mean picture", mean_picture)
    for k, (size, made) in enumerate(
        zip(STACK[1:], stages(means, layered, data), strict=True), 1
    ):
        pictures |= data.row(f"pretrained\nlayer {k}, {size} units", made)
    return pictures | data.row(
        "then trained\ntogether", layered.stack.reconstruct(held_out)
    )


def claim_pretraining(
    demo: Demo, found: Sequence[tuple[Means, Learned, Learned]], of_mean: float
) -> None:
    """Claim what pretraining gains for each Means."""
    old, sigmoid, relu = (
        (whole.errors[-1], layered.errors[-1]) for _, whole, layered in found
    )
    demo.claim("small weights, gradient descent: no pretraining / the mean picture",
               old[0] / of_mean, at_least=0.97,
               baseline={"sigmoid, Glorot's weights, Adam": sigmoid[0] / of_mean,
                         "ReLU, Glorot's weights, Adam": relu[0] / of_mean,
                         "with pretraining": old[1] / of_mean})  # fmt: skip
    demo.claim("small weights, gradient descent: error pretrained / not",
               old[1] / old[0], at_most=demo.choose(0.6, 0.8),
               baseline={"no pretraining": 1.0})  # fmt: skip
    demo.claim("ReLU, Glorot's weights, Adam: error pretrained / not",
               relu[1] / relu[0], at_least=0.9,
               baseline={"sigmoid, small weights, gradient descent": old[1] / old[0],
                         "sigmoid, Glorot's weights, Adam":
                             sigmoid[1] / sigmoid[0]})  # fmt: skip
    for (means, *_), ends in zip(found, (old, sigmoid, relu), strict=True):
        name = means.name.replace("\n", " ")
        demo.measure(f"{name}: squared error, no pretraining", ends[0])
        demo.measure(f"{name}: squared error, pretrained", ends[1])


def run(demo: Demo) -> None:
    """Vary depth, activation and pretraining, one at a time."""
    train_rng, held_out_rng = backend.streams(demo.seed, 2)
    x = draw_digits(demo.choose(8_000, 4_000), train_rng, pixels=SIDE)
    held_out = draw_digits(demo.choose(4_000, 1_000), held_out_rng, pixels=SIDE)
    shown = [int(np.argmax(held_out.label == digit)) for digit in SHOWN]
    data = Data(x, held_out, shown)
    pictures = {"digit": held_out.images[shown]}
    pictures |= compare_depths(demo, data)
    pictures |= compare_training(demo, data)
    title = f"Digits from codes of {CODE} numbers, and from the layers of a stack"
    demo.save(plots.picture_rows(pictures, "error: squared, per image", title=title),
              "pictures",
              alt="Held-out digits and their reconstructions.")  # fmt: skip


if __name__ == "__main__":
    main(__name__)
