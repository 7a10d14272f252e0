"""The GAN on MNIST (Goodfellow et al. 2014): a Parzen window of its samples.

Metric: the mean log-likelihood of the 10,000 test images under a Parzen window of
10,000 samples. Its σ is selected from ten values on validation images. This metric can
be gamed, so there are controls: training images, held-out images, a Gaussian and
centroids of k-means. There are two further measures:

- The Fréchet distance of a classifier's features from those of the test images. Other
  real images have a distance too, as other people wrote them. Its floor is the distance
  after both sets are mixed and split at random.
- The distance from samples to training images. Memorised samples would be nearer than
  held-out images are.
"""

import math
from functools import partial
from typing import Any

import numpy as np

from demos._classifier import features as of_classifier
from demos.gan import BETAS, averaged
from demos.papers._data import Split, images
from demos.papers._jobs import Aim, Job, Row
from scratchnet import backend, byhand, plots
from scratchnet.metrics import (
    frechet_distance,
    nearest_distance,
    nearest_neighbors,
    parzen_log_likelihood,
)
from scratchnet.models.supervised import Classifier
from scratchnet.optim import Adam, cosine_decay, hold_then_decay
from scratchnet.training import GANHistory, fit, fit_gan

NOISE, BATCH, LR, STEPS, VALIDATION, SAMPLES = 100, 64, 1e-3, 80_000, 10_000, 10_000
R1, SLOPE = 1.0, 0.1
WIDTHS = np.logspace(-1, 0, 10)
CHOSEN_ON = 1000  # validation images that select σ; the others are held out
HELD_OUT = VALIDATION - CHOSEN_ON
ROUNDS = 5  # rounds of k-means


def parzen(samples: np.ndarray, data: Split) -> dict[str, float]:
    """Return the mean log-likelihood of the test images, and the selected σ."""
    on = data.validation[:CHOSEN_ON]
    scores = [float(parzen_log_likelihood(on, samples, s).mean()) for s in WIDTHS]
    sigma = float(WIDTHS[int(np.argmax(scores))])
    log_p = parzen_log_likelihood(data.test, samples, sigma)
    return {
        "Parzen": float(log_p.mean()),
        "its standard error": float(log_p.std() / math.sqrt(len(log_p))),
        "σ": sigma, "of validation images": max(scores),
    }  # fmt: skip


def nearness(x: np.ndarray, train: np.ndarray) -> tuple[float, float]:
    """Return the mean and the 5 % quantile of the distance to training images."""
    distance = nearest_distance(x, train)
    return float(distance.mean()), float(np.quantile(distance, 0.05))


def features(job: Job, data: Split) -> Any:
    """Return a function that computes features, a classifier's last hidden layer."""
    init, shuffle = backend.streams(10_000, 2)  # the same for all seeds
    network = Classifier((784, 256, 64, 10), rng=init)

    def training(**how: Any) -> dict[str, np.ndarray]:
        epochs = job.choose(12, 1)
        rate = cosine_decay(1e-3, epochs * -(-len(data.train) // 100))
        fit(network, (data.train, data.train_label), epochs=epochs, batch_size=100,
            rng=shuffle, optimizer=Adam(network.parameters(), lr=rate), progress=False,
            **how)  # fmt: skip
        return network.state_dict()

    network.load_state_dict(job.stage("classifier", training))
    return of_classifier(network)


def measures(job: Job, samples: np.ndarray, data: Split) -> dict[str, float]:
    """Return all measures of generated or other images."""
    of = features(job, data)
    mean, least = nearness(samples[:1000], data.train)
    return parzen(samples, data) | {
        "Fréchet distance": frechet_distance(of(samples[:HELD_OUT]), of(data.test)),
        "mean distance to the nearest training image": mean, "of 5 % below": least,
    }  # fmt: skip


def train(job: Job) -> dict[str, float]:
    """Train on MNIST, and measure the samples."""
    init, shuffle, noise, judge = backend.streams(job.seed, 4)
    data = images(job, VALIDATION)
    steps = job.choose(STEPS, 50)
    gan = byhand.GAN(
        (NOISE, 512, 512, 784), (784, 512, 512, 1), rng=init, batch_size=BATCH,
        slope=SLOPE, r1=R1, betas=BETAS, lr=hold_then_decay(LR, steps),
    )  # fmt: skip
    ema = averaged(gan, steps)

    def playing(**how: Any) -> dict[str, np.ndarray]:
        def note(history: GANHistory) -> None:
            job.say(f"step {history.steps[-1]} of {steps}, V {history.v[-1]:.3f}")
            job.note("V", history.v[-1])

        fit_gan(gan, data.train, steps=steps, batch_size=BATCH, rng=shuffle,
                noise=noise, average=ema, every=max(1, steps // 50), callback=note,
                progress=False, **how)  # fmt: skip
        with ema.average():
            return gan.state_dict()

    gan.load_state_dict(job.stage("game", playing))
    n = job.choose(SAMPLES, 500)
    samples = gan.generate(judge.standard_normal((n, NOISE), np.float32))
    job.draw(lambda: with_nearest(samples[:10], data.train))
    return measures(job, samples, data)


def with_nearest(samples: np.ndarray, train: np.ndarray) -> Any:
    """Draw samples, and below each its nearest training image."""
    nearest = train[nearest_neighbors(samples, train)[:, 0]]
    rows = {"generated": samples, "nearest\ntraining image": nearest}
    pictures = {k: x.reshape(-1, 28, 28) for k, x in rows.items()}
    return plots.picture_rows(pictures, "GAN trained on MNIST: the first samples")


def control(job: Job, kind: str) -> dict[str, float]:
    """Measure images of another source in the same way."""
    data = images(job, VALIDATION)
    rng = np.random.default_rng(job.seed)
    n = min(job.choose(SAMPLES, 500), len(data.train))
    if kind == "training":
        samples = data.train[:n]
    elif kind == "validation":
        samples = data.validation[job.choose(CHOSEN_ON, 100) :]  # the others select σ
    elif kind == "gaussian":
        mean, centered = data.train.mean(axis=0), data.train - data.train.mean(axis=0)
        values, vectors = np.linalg.eigh(centered.T @ centered / len(centered))
        z = rng.standard_normal((n, len(mean)))
        samples = mean + z * np.sqrt(np.maximum(values, 0)) @ vectors.T
        samples = np.clip(samples, 0, 1).astype(np.float32)
    else:
        samples = centroids(data.train, n, rng, rounds=job.choose(ROUNDS, 1))
    found = measures(job, samples, data)
    if kind == "validation":
        of = features(job, data)
        mixed = rng.permutation(np.concatenate([samples, data.test]))
        one, other = of(mixed[: len(samples)]), of(mixed[len(samples) :])
        found["Fréchet distance if mixed with the test images"] = frechet_distance(
            one, other
        )
    return found


def centroids(
    x: np.ndarray, k: int, rng: np.random.Generator, rounds: int
) -> np.ndarray:
    """Return the means of k clusters of the rows of x, by k-means."""
    middle = x[rng.permutation(len(x))[:k]]
    for _ in range(rounds):
        nearest = nearest_neighbors(x, middle)[:, 0]
        total = np.zeros((k, x.shape[1]))
        np.add.at(total, nearest, x)
        counts = np.bincount(nearest, minlength=k)
        kept = counts > 0  # an empty cluster keeps its mean
        middle = middle.copy()
        middle[kept] = total[kept] / counts[kept, None]
    return middle.astype(x.dtype)


PAPER = "225 ± 2 (Goodfellow et al. 2014)"
METRIC = "log-likelihood by a Parzen window, nats"
SETTINGS = (
    f"leaky ReLU of slope {SLOPE}, R1 = {R1:g}, Adam {LR} falling in the second half, "
    f"β = (0, 0.99), batch {BATCH}, {STEPS} steps, averaged G"
)
DEPARTURES = (
    "leaky ReLU and R1 instead of maxout and dropout, other sizes, normal instead of "
    "uniform noise, Adam instead of SGD, averaged weights"
)
CONTROLS = {
    "training": "10,000 training images",
    "validation": f"{HELD_OUT:,} images held out",
    "gaussian": "a Gaussian of mean and covariance",
    "kmeans": f"10,000 centroids of {ROUNDS} rounds of k-means",
}
ROWS = [
    Row("gan", "GAN, G 100-512-512-784, D 784-512-512-1", METRIC, PAPER,
        (Aim("", "≥", 225),), 3, SETTINGS, DEPARTURES, train),
    *(Row(f"parzen-{kind}", f"control: {about}", METRIC, "", (), 1, about, "",
          partial(control, kind=kind)) for kind, about in CONTROLS.items()),
]  # fmt: skip
