"""The VAE and the IWAE of Burda et al. 2016: negative log-likelihood on MNIST.

Metric: the mean −log p(x) of all test images in nats, by 5000 importance samples each.
The test images are binarized once at random (u < x), the training images afresh in each
step.
"""

import math
from functools import partial
from typing import Any

import numpy as np

from demos.papers._data import images
from demos.papers._jobs import Aim, Job, Row
from scratchnet import backend, byhand, optim
from scratchnet.backend import Array
from scratchnet.backend.philox import stream_for
from scratchnet.optim import cosine_decay
from scratchnet.training import History, fit

HIDDEN, CODE = (200, 200), 50
BATCH, LR, VALIDATION, DRAWS = 100, 1e-3, 400, 5000
AVERAGED = 0.999  # decay of the averaged weights, which are evaluated
LOOKS = 12  # points of the validation curve, by DRAWS / 10 samples each
CURVE = "-log p(x) of validation images"


def binarized(x: Array, rng: np.random.Generator) -> Array:
    """Return 1 with probability x, otherwise 0."""
    return (rng.random(x.shape, x.dtype.type) < x).astype(x.dtype)


class VAE(byhand.VAE):
    """The VAE by hand, on images that are binarized afresh in each step."""

    def with_noise(self, x: Array, *, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return binary images, and ε."""
        return super().with_noise(binarized(x, rng), rng=rng)


class IWAE(VAE, byhand.IWAE):
    """The IWAE by hand, on the same images."""


class AveragedAdam(optim.AdamUpdate):
    """Adam with an average of its weights."""

    def __init__(self, arrays: list[Array], **options: Any) -> None:
        super().__init__(arrays, **options)
        self.average = optim.AverageUpdate(arrays, AVERAGED)

    def apply(self, arrays: Any, gradients: Any) -> None:
        """Take one step, and update the average."""
        super().apply(arrays, gradients)
        self.average.update()

    def state_arrays(self) -> dict[str, Array]:
        """Return the state of both."""
        return super().state_arrays() | self.average.state_arrays()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copy the state of both."""
        return super().state_dict() | self.average.state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Load a copy from `state_dict`."""
        mine = {k: a for k, a in state.items() if k.startswith("average.")}
        rest = {k: a for k, a in state.items() if k not in mine}
        before = self.average.state_dict()
        self.average.load_state_dict(mine)
        try:
            super().load_state_dict(rest)
        except ValueError:  # load both or none
            self.average.load_state_dict(before)
            raise


def train(job: Job, k: int, epochs: int) -> dict[str, float]:
    """Train, and return −log p(x) of the test images."""
    init, shuffle, noise, look, judge = backend.streams(job.seed, 5)
    data = images(job, VALIDATION)
    epochs = job.choose(epochs, 2)
    draws = job.choose(DRAWS, 50)
    steps = epochs * -(-len(data.train) // BATCH)
    options: dict[str, Any] = {
        "sizes": (784, *HIDDEN, CODE), "rng": init, "batch_size": BATCH,
        "activation": "tanh",
    }  # fmt: skip
    model: Any = VAE(**options) if k == 1 else IWAE(k=k, **options)
    mean = np.clip(data.train.mean(axis=0), 0.001, 0.999)
    last = 2 * len(HIDDEN)
    bias = backend.asarray(np.log(mean / (1 - mean)))
    model.parameters[f"decoder.{last}.b"][...] = bias
    # Made here, so that the average starts from that bias.
    model.optimizer = AveragedAdam([model.theta], lr=cosine_decay(LR, steps))
    validation = binarized(data.validation, look)

    def training(**how: Any) -> dict[str, np.ndarray]:
        def note(history: History) -> None:
            done = len(history.losses)
            job.say(f"epoch {done} of {epochs}, bound {-history.losses[-1]:.2f}")
            if done % max(1, epochs // 50) == 0:
                job.note("bound on training images", -history.losses[-1])
            if done % max(1, epochs // LOOKS) == 0:
                with model.optimizer.average.average():
                    rng = np.random.default_rng(done)
                    found = model.log_likelihood(validation, rng, draws // 10)
                job.note(CURVE, -float(found.mean()))

        fit(model, data.train, epochs=epochs, batch_size=BATCH, rng=shuffle,
            noise=noise, callback=note, progress=False, **how)  # fmt: skip
        with model.optimizer.average.average():
            return model.state_dict()

    model.load_state_dict(job.stage("training", training))
    test = binarized(data.test, judge)

    def judged(**how: Any) -> dict[str, np.ndarray]:
        source, x = stream_for(judge), backend.asarray(test)
        parts = []
        for i in range(0, len(x), 500):
            parts.append(model.log_likelihood(x[i : i + 500], source, draws))
            job.say(f"evaluated {i + 500} of {len(x)} images")
        elbo = backend.to_numpy(model.elbo(x, source))
        return {"log_p": np.concatenate(parts), "elbo": elbo}

    found = job.stage("judged", judged)
    log_p = found["log_p"]
    return {
        "test": -float(log_p.mean()),
        "its standard error": float(log_p.std() / math.sqrt(len(log_p))),
        "−ELBO": -float(found["elbo"].mean()),
    }


def settings(epochs: int) -> str:
    """Return the settings as text."""
    return (
        f"tanh, batch {BATCH}, Adam {LR} falling as a cosine over {epochs} epochs, "
        f"weights averaged ({AVERAGED}); {DRAWS} importance samples, all test images"
    )


DEPARTURES = (
    f"batch {BATCH} instead of 20, other settings and schedule of the optimiser, "
    "averaged weights"
)
BURDA = "(Burda et al. 2016)"
NLL = "−log p(x), nats"
ROWS = [
    Row("vae", "VAE 784-200-200-50", NLL, f"86.76 {BURDA}",
        (Aim("", "≤", 86.76), Aim("CPU min", "≤", 60)), 1, settings(1000), DEPARTURES,
        partial(train, k=1, epochs=1000)),
    Row("iwae-5", "IWAE, k = 5", NLL, f"85.54 {BURDA}", (Aim("", "≤", 86.0),), 1,
        settings(1000), DEPARTURES, partial(train, k=5, epochs=1000)),
    Row("iwae-50", "IWAE, k = 50, on a GPU", NLL, f"84.78 {BURDA}",
        (Aim("", "≤", 84.78),), 1, settings(1000), DEPARTURES,
        partial(train, k=50, epochs=1000), gpu=True),
]  # fmt: skip
