"""Measures how good a trained system is, and draws the pictures of its run."""

import math
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from scratchnet import plots
from scratchnet.cli.reconstruct import IMAGES_SHOWN, reconstructions
from scratchnet.cli.sample import draw
from scratchnet.metrics import PCA, frechet_distance, reconstruction_error
from scratchnet.runs.images import Images
from scratchnet.runs.job import Job
from scratchnet.runs.systems import CODES, PLANE, SYSTEMS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIKELIHOOD_IMAGES, LIKELIHOOD_DRAWS = 1000, 100  # draws of z for each
FRECHET_COMPONENTS = 32  # principal components for comparing generated images
SAMPLES_SHOWN = 64  # on a sheet
CODES_SHOWN = 200  # points in the plane
PLANE_SIDE = 21  # pictures along each axis of the plane of codes
LOSSES = {
    "squared": "squared error per image",
    "cross_entropy": "cross-entropy per image (nats)",
}

Figures: TypeAlias = "dict[str, Figure]"  # by the name of the file
Judged: TypeAlias = tuple[Figures, str]  # the pictures, and the result in words


def judge_autoencoder(job: Job, model: Any, record: dict[str, Any]) -> Judged:
    """Compare an autoencoder with the best linear one, PCA."""
    options, images = job.options, job.held_out
    x, k, name = images.x, options["code"], SYSTEMS[job.system].name
    numbers = f"{k} number{'s' if k > 1 else ''}"
    pca = PCA(k).fit(job.train.x)
    error = reconstruction_error(x, model.reconstruct(x))
    linear = pca.inverse_transform(pca.transform(x))
    pca_error = reconstruction_error(x, linear)
    # Rounding x to float32 leaves a squared error of about this fraction of x².
    exact = pca_error <= 1e-12 * np.mean(np.sum(np.square(x, dtype=float), axis=1))
    ratio = "PCA is exact" if exact else f"ratio {error / pca_error:.2f}"
    rows, _ = reconstructions(
        job.system, model, images, IMAGES_SHOWN, job.streams.judge
    )
    rows["PCA"] = images.pictures(linear[images.mixed(IMAGES_SHOWN)])
    squared = options["loss"] == "squared"
    references = {f"PCA, {numbers}": pca_error} if squared else {}
    title = f"Held-out images, each reconstructed from {numbers}"
    figures = {
        "reconstructions.png": plots.picture_rows(rows, title=title, ink=images.ink),
        "loss.png": loss_curve(job, record, LOSSES[options["loss"]], references),
    }
    figures |= codes_figure(images, {name: model.encode(x), "PCA": pca.transform(x)})
    return figures, (
        f"squared error per held-out image, {numbers} each: "
        f"{name} {error:.2f}, PCA {pca_error:.2f}, {ratio}"
    )


def judge_denoising(job: Job, model: Any, record: dict[str, Any]) -> Judged:
    """Compare images before and after cleaning."""
    options, images = job.options, job.held_out
    rows, result = reconstructions(
        job.system, model, images, IMAGES_SHOWN, job.streams.judge
    )
    title = "Held-out images, corrupted and cleaned"
    figures = {
        "reconstructions.png": plots.picture_rows(rows, title=title, ink=images.ink),
        "loss.png": loss_curve(job, record, LOSSES[options["loss"]]),
    }
    return figures, result


def judge_vae(job: Job, model: Any, record: dict[str, Any]) -> Judged:
    """Bound log p(x), and draw samples from the model."""
    options, images, rng = job.options, job.held_out, job.streams.judge
    name = SYSTEMS[job.system].name
    x = images.x[:LIKELIHOOD_IMAGES]
    log_p_x, kl = (np.mean(term) for term in model.elbo_terms(x, rng))
    likelihood = np.mean(model.log_likelihood(x, rng, LIKELIHOOD_DRAWS))
    rows, _ = reconstructions(job.system, model, images, IMAGES_SHOWN, rng)
    loss = "−ELBO"
    if job.system == "iwae":
        loss = f"−bound of {options['k']} draws"
    elif options["beta"] != 1:
        loss = f"−log p(x | z) + {options['beta']:g} KL"
    title = "Held-out images, each encoded and decoded"
    figures = {
        "reconstructions.png": plots.picture_rows(rows, title=title, ink=images.ink),
        "samples.png": next_to_data(job, draw(model, SAMPLES_SHOWN, rng)),
        "loss.png": loss_curve(job, record, f"{loss} per image (nats)"),
    }
    if options["code"] == 2:
        normal = statistics.NormalDist()
        levels = (np.arange(PLANE_SIDE) + 0.5) / PLANE_SIDE
        z = np.array([normal.inv_cdf(level) for level in levels])
        codes = np.stack(np.meshgrid(z, z), axis=-1).reshape(-1, 2)
        decoded = images.pictures(model.decode(codes.astype(model.dtype)))
        title = f"Image decoded by the {name} from each code (z₁, z₂)"
        figures[PLANE] = plots.code_plane(decoded, z, title=title, ink=images.ink)
    figures |= codes_figure(images, {name: model.encode(images.x)})
    return figures, (
        f"on {len(x)} held-out images, nats per image: ELBO {log_p_x - kl:.2f} "
        f"(log p(x | z) {log_p_x:.2f}, KL {kl:.2f}), log p(x) at least "
        f"{likelihood:.2f} ({LIKELIHOOD_DRAWS} draws)"
    )


def judge_gan(job: Job, model: Any, record: dict[str, Any]) -> Judged:
    """Measure how far the game is from balance, and the samples from the data."""
    n = min(len(job.train.x), len(job.held_out.x)) // model.packing * model.packing
    x, others = job.held_out.x[:n], job.train.x[:n]
    generated = draw(model, n, job.streams.judge)
    a_r, a_f = model.logits(x), model.logits(generated)
    v = -np.mean(np.logaddexp(0, -a_r)) - np.mean(np.logaddexp(0, a_f))
    real, fake = (np.mean(model.discriminate(images)) for images in (x, generated))
    pca = PCA(min(FRECHET_COMPONENTS, *job.train.x.shape)).fit(job.train.x)
    distance, floor = (
        frechet_distance(pca.transform(images), pca.transform(x))
        for images in (generated, others)
    )
    figures = {
        "samples.png": next_to_data(job, generated[:SAMPLES_SHOWN]),
        "game.png": plots.game(**record),
    }
    return figures, (
        f"on {n} held-out images: V(D, G) {v:.3f} nats (-log 4 is {-math.log(4):.3f}), "
        f"mean D(x) {real:.3f}, mean D(G(z)) {fake:.3f}; squared Fréchet distance "
        f"of generated images {distance:.2f}, of training images {floor:.2f}"
    )


def next_to_data(job: Job, samples: np.ndarray) -> "Figure":
    """Draw a sheet of samples next to a sheet of as many images."""
    images, name = job.held_out, SYSTEMS[job.system].name
    sheets = {
        "Held-out images": images.x[: len(samples)],
        f"Samples of the {name}": samples,
    }
    shown = {title: images.pictures(x) for title, x in sheets.items()}
    return plots.sheets(shown, ink=images.ink)


def loss_curve(
    job: Job,
    record: dict[str, Any],
    unit: str,
    references: dict[str, float] | None = None,
) -> "Figure":
    """Draw the losses of a history."""
    losses = record["losses"], record["validation_losses"]
    title = f"Loss of the {SYSTEMS[job.system].name} in each epoch"
    return plots.loss_curve(*losses, references, unit, title)


def codes_figure(images: Images, codes: dict[str, np.ndarray]) -> Figures:
    """Draw codes of digits (n, k) in the plane, for k > 2 as principal components."""
    k = next(iter(codes.values())).shape[1]
    if not images.ink or k < 2:
        return {}
    axes = ["first number of the code", "second number of the code"]
    if k > 2:
        codes = {name: PCA(2).fit_transform(z) for name, z in codes.items()}
        axes = ["first principal component", "second principal component"]
    shown = images.mixed(CODES_SHOWN)
    planes = {name: z[shown] for name, z in codes.items()}
    label = None if images.label is None else images.label[shown]
    drawn = "each drawn as its label" if label is not None else "one dot each"
    title = f"Codes of {len(shown)} held-out images, {drawn}"
    return {CODES: plots.planes(planes, label, *axes, title)}


# The function that judges each system. It gets the model, and its history for JSON.
JUDGES: dict[str, Callable[[Job, Any, dict[str, Any]], Judged]] = {
    "autoencoder": judge_autoencoder,
    "stacked": judge_autoencoder,
    "denoising": judge_denoising,
    "vae": judge_vae,
    "iwae": judge_vae,
    "gan": judge_gan,
}
