"""Classifiers that start from stacked denoising autoencoders (Vincent et al. 2008).

Metric: the share of wrongly classified test images, in %. A stack is trained layer by
layer on corrupted codes (SDAE) or clean codes (SAE), or not at all (MLP). Then a
classifier that starts from its layers is trained on the labels.

"basic" and "rot" are made from MNIST as in Larochelle et al. 2007: 10,000 images for
training, 2,000 for validation, 50,000 for testing. In "rot" each image is rotated by a
random angle.
"""

from functools import partial
from typing import Any

import numpy as np

from demos.papers._data import Split, everything, images
from demos.papers._jobs import Aim, Job, Row
from scratchnet import backend
from scratchnet.backend import Array
from scratchnet.data.corruption import Masking
from scratchnet.functions import sigmoid
from scratchnet.losses import binary_cross_entropy_with_logits
from scratchnet.models.supervised import Classifier
from scratchnet.nn import Dense, Module, evaluate, glorot_uniform
from scratchnet.optim import SGD, cosine_decay
from scratchnet.tensor import Tensor
from scratchnet.training import History, fit

HIDDEN = (1000, 1000, 1000)
BATCH, VALIDATION = 20, 10_000
MASKING = {"mnist": 0.25, "basic": 0.1, "rot": 0.25}  # the paper's choices
PRETRAINING = {"mnist": 15, "basic": 30, "rot": 30}  # epochs for each layer
TUNING = {"mnist": 12, "basic": 16, "rot": 25}  # epochs for the classifier
LR, MOMENTUM = 0.1, 0.9
# The classifier's learning rate, selected from 0.03, 0.1 and 0.3 on validation images.
# At 0.3 only the denoising stack still learns.
TUNING_LR = {"MLP": 0.1, "SAE": 0.1, "SDAE": 0.3}
SIDE = 28


def for_sigmoids(rng: np.random.Generator, *shape: Any) -> Array:
    """Draw W four times as large as for tanh: the slope of σ at 0 is a quarter."""
    return 4 * glorot_uniform(rng, *shape)


class TiedLayer(Module):
    """A denoising autoencoder whose decoder uses the encoder's transposed weights.

    z = σ(x̃ W + b) and x̂ = σ(z Wᵀ + c). The loss is the cross-entropy of x̂ and the clean
    x (Vincent et al. 2008, section 2.3).
    """

    def __init__(
        self, d: int, width: int, masking: float, rng: np.random.Generator
    ) -> None:
        self.encoder = Dense(d, width, rng=rng, init=for_sigmoids)
        self.c = Tensor(backend.zeros((d,), np.float32), requires_grad=True)
        self.corruption = Masking(masking)

    def with_noise(self, x: Array, *, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return x (n, d), and x with fresh corruption."""
        return x, self.corruption(x, rng)

    def code(self, x: Any) -> Any:
        """Return the code z (n, width) of x (n, d)."""
        return sigmoid(self.encoder(x))

    def loss(self, x: Array, corrupted: Array) -> Any:
        """Return the cross-entropy in nats: sum over d, mean over n."""
        logits = self.code(corrupted) @ self.encoder.W.T + self.c
        return binary_cross_entropy_with_logits(logits, x)


def pretrain(job: Job, x: np.ndarray, masking: float, epochs: int) -> list[Dense]:
    """Train layer by layer, each on the codes of the previous one."""
    init, shuffle, noise = backend.streams(job.seed + 10_000, 3)
    found = []
    for k, width in enumerate(HIDDEN, 1):
        layer = TiedLayer(x.shape[1], width, masking, init)

        def look(history: History, k: int = k) -> None:
            job.say(f"layer {k}, epoch {len(history.losses)} of {epochs}")

        rate = cosine_decay(LR, epochs * -(-len(x) // BATCH))
        optimizer = SGD(layer.parameters(), lr=rate)
        how: dict[str, Any] = {
            "epochs": epochs, "batch_size": BATCH, "rng": shuffle, "noise": noise,
            "optimizer": optimizer, "callback": look, "progress": False,
        }  # fmt: skip
        make = partial(trained, layer, x, how)
        layer.load_state_dict(job.stage(f"layer-{k}", make, (shuffle, noise)))
        found.append(layer.encoder)
        x = evaluate(layer.code, x)
    return found


def trained(
    layer: TiedLayer, x: np.ndarray, how: dict[str, Any], **more: Any
) -> dict[str, np.ndarray]:
    """Train a layer, and return its weights."""
    fit(layer, x, **how, **more)
    return layer.state_dict()


def train(job: Job, kind: str, name: str) -> dict[str, float]:
    """Train a classifier that starts from a stack; return its errors in %."""
    data = images(job, VALIDATION) if name == "mnist" else regenerated(job, name)
    init, shuffle = backend.streams(job.seed, 2)
    network = Classifier((784, *HIDDEN, 10), rng=init, activation="sigmoid",
                         init=for_sigmoids)  # fmt: skip
    state = network.state_dict()
    # The last layer starts at zero, so at first no gradient changes the layers below.
    state[f"layers.{2 * len(HIDDEN)}.W"][...] = 0
    if kind != "MLP":
        masking = MASKING[name] if kind == "SDAE" else 0.0
        epochs = job.choose(PRETRAINING[name], 1)
        for k, layer in enumerate(pretrain(job, data.train, masking, epochs)):
            found = layer.state_dict()
            state |= {f"layers.{2 * k}.{p}": a for p, a in found.items()}
    network.load_state_dict(state)
    epochs = job.choose(TUNING[name], 1)
    rate = cosine_decay(TUNING_LR[kind], epochs * -(-len(data.train) // BATCH))
    optimizer = SGD(network.parameters(), lr=rate, momentum=MOMENTUM)

    def wrong(x: np.ndarray, label: np.ndarray) -> float:
        return 100 * (1 - network.accuracy(x, label))

    def tuning(**how: Any) -> dict[str, np.ndarray]:
        def look(history: History) -> None:
            error = wrong(data.validation, data.validation_label)
            job.note("validation error, %", error)
            job.say(f"classifier, epoch {len(history.losses)}: {error:.2f} %")

        fit(network, (data.train, data.train_label), epochs=epochs, batch_size=BATCH,
            rng=shuffle, optimizer=optimizer, callback=look, progress=False,
            **how)  # fmt: skip
        return network.state_dict()

    network.load_state_dict(job.stage("classifier", tuning))
    return {
        "test": wrong(data.test, data.test_label),
        "validation": wrong(data.validation, data.validation_label),
    }


def regenerated(job: Job, name: str) -> Split:
    """Return the images of "basic" or "rot", the same for every seed."""
    x, label = everything(job)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x))
    angle = rng.uniform(0, 2 * np.pi, len(x))
    a, b, end = job.choose((10_000, 12_000, 62_000), (1000, 1200, 2000))
    x, label = x[order[:end]], label[order[:end]]
    if name == "rot":
        x = turned(x, angle[:end])
    return Split(x[:a], x[a:b], x[b:], label[:a], label[a:b], label[b:])


def turned(x: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotate pictures (n, 784) about their centre, by bilinear interpolation."""
    found = np.empty_like(x)
    middle = (SIDE - 1) / 2
    rows, columns = np.mgrid[:SIDE, :SIDE] - middle
    framed = np.zeros((SIDE + 2, SIDE + 2), x.dtype)
    for i, a in enumerate(angle):
        framed[1:-1, 1:-1] = x[i].reshape(SIDE, SIDE)
        # The source of each pixel in the framed picture.
        r = np.clip(np.cos(a) * rows - np.sin(a) * columns + middle, -1, SIDE) + 1
        c = np.clip(np.sin(a) * rows + np.cos(a) * columns + middle, -1, SIDE) + 1
        r0 = np.minimum(r.astype(int), SIDE)
        c0 = np.minimum(c.astype(int), SIDE)
        down, right = r - r0, c - c0
        above = framed[r0, c0] * (1 - right) + framed[r0, c0 + 1] * right
        below = framed[r0 + 1, c0] * (1 - right) + framed[r0 + 1, c0 + 1] * right
        found[i] = (above * (1 - down) + below * down).reshape(-1)
    return found


PAPER = {
    ("mnist", "SAE"): "1.40", ("mnist", "SDAE"): "1.28", ("basic", "SAE"): "3.46",
    ("basic", "SDAE"): "2.84", ("rot", "SAE"): "10.30", ("rot", "SDAE"): "9.53",
}  # fmt: skip


# Judged by the validation error of one to three trainings; equal trainings differ by
# up to 0.09.
TRIED = (
    "for the classifier: learning rates of 0.2, 0.4, 0.45 after a warm-up of one "
    "epoch, and 0.5 with momentum 0.8 and batches of 10; 24 epochs; averaged weights; "
    "weight decay of 3e-5 and 1e-4; masked images; for all: layers of 2000. On "
    "validation images no gain is larger than the differences between trainings"
)


def row(name: str, kind: str) -> Row:
    """Return the row for a data set and a kind of start."""
    worse = {"SAE": "mlp", "SDAE": "sae"}.get(kind)
    below = f"{worse}-{name}" if worse else ""
    aims = [Aim("", "≤", 1.28)] if (name, kind) == ("mnist", "SDAE") else []
    if below and name != "mnist":
        aims.append(Aim(f"below {below}", "≥", 0))
    before = ""
    if kind != "MLP":
        masked = f"masking {MASKING[name]}, " if kind == "SDAE" else ""
        before = (
            f"{PRETRAINING[name]} epochs a layer, tied weights, {masked}SGD {LR} "
            "falling as a cosine; then "
        )
    paper = PAPER.get((name, kind))
    departures = (
        "minibatches, momentum; one setting instead of a search, except for the "
        "classifier's learning rate, the best of three on validation images of basic "
        "and rot; each entry is masked at random; the last layer starts at zero"
    )
    if name != "mnist":
        departures += "; the images are generated anew, so the test set differs"
    return Row(
        f"{kind.lower()}-{name}", f"{kind}, 784-1000-1000-1000-10 sigmoid, {name}",
        "test error, %", f"{paper} (Vincent et al. 2010)" if paper else "",
        tuple(aims), 3 if name == "mnist" else 5,
        f"{before}SGD {TUNING_LR[kind]} falling as a cosine, momentum {MOMENTUM}, "
        f"{TUNING[name]} epochs, batch {BATCH}",
        departures, partial(train, kind=kind, name=name), below=below,
        tried=TRIED if (name, kind) == ("mnist", "SDAE") else "",
    )  # fmt: skip


ROWS = [row(name, kind) for name in MASKING for kind in ("MLP", "SAE", "SDAE")]
