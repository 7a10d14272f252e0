"""What the page of a run shows: pictures, numbers and a decoder, read from its folder.

All random numbers come from a seed of the page, so the same run gives the same page.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scratchnet.metrics import PCA, frechet_distance, psnr, reconstruction_error
from scratchnet.report.doctor import Finding, Game, findings
from scratchnet.report.words import pair
from scratchnet.runs.files import HISTORY, Folder
from scratchnet.runs.identity import About, RunError
from scratchnet.runs.images import SYNTHETIC, Images, load_both
from scratchnet.runs.streams import Streams
from scratchnet.runs.trained import Run, load_run
from scratchnet.training import checkpoint

SHOWN = 12  # pictures in a row
POINTS = 300  # of the plane of codes
JUDGED = 1000  # held-out images that the numbers are about
COMPONENTS = 32  # principal components for distances of images
UNUSED = 0.01  # nats of KL
CHECKS = 8  # codes with NumPy's pictures, for the page's check of itself
MOST_WEIGHTS = 2_000_000  # numbers of a decoder in a page, 2 bytes each


@dataclass
class Contents:
    """What the page of a run shows.

    Attributes:
        run: the run.
        about: its description.
        history: the curves of its training, as in history.json.
        trained: the number of training images.
        weights: how many numbers the model has.
        result: the key of the sentence with the result, and its values.
        rows: rows of pictures (n, rows, columns) by the key of their name.
        samples: the same, of generated images next to real ones.
        ink: whether 1 means ink on paper.
        pca_error: the squared error of PCA, if the loss is comparable.
        plane: points of the plane of codes (n, 2) with labels and pictures.
        axes: the key of the words for the axes of the plane.
        kl: the KL divergence of each number of the code.
        decoder: what the page decodes with; None if there is no decoder, or if it is
            too large.
        too_large: the size of a decoder that was left out, in bytes.
        diagnosis: the findings about a GAN.

    """

    run: Run
    about: About
    history: Mapping[str, Any]
    trained: int
    weights: int
    result: tuple[str, dict[str, object]] = ("", {})
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    samples: dict[str, np.ndarray] = field(default_factory=dict)
    ink: bool = True
    pca_error: float | None = None
    plane: dict[str, Any] | None = None
    axes: str = ""
    kl: list[float] = field(default_factory=list)
    decoder: dict[str, Any] | None = None
    too_large: int = 0
    diagnosis: list[Finding] = field(default_factory=list)

    @property
    def data(self) -> tuple[str, str]:
        """The name of the images, in both languages."""
        where = self.run.data
        known = where in (*SYNTHETIC, "mnist")
        return pair(where) if known else pair("folder", name=Path(where).name)


def read(folder: Path) -> Contents:
    """Read a run, and compute what its page shows.

    Raises:
        FileNotFoundError: there is no run in the folder.
        ValueError: the run is damaged, not finished, or its images have changed.

    """
    run = load_run(folder, "byhand")
    about = Folder(run.folder).read()
    if about is None or run.shape is None:
        raise RunError(
            f"{folder}: this run has format 1, without what a page needs; train again"
        )
    streams = Streams.of(run.seed)
    images, held_out = load_both(run.data, about.options["examples"], streams)
    if run.data not in SYNTHETIC and run.held_out not in (None, held_out.digest):
        raise ValueError(f"{run.data}: the images have changed since the training")
    found = Contents(
        run=run,
        about=about,
        history=checkpoint.read_json(run.folder / HISTORY),
        trained=len(images.x),
        weights=sum(a.size for a in run.model.state_dict().values()),
        ink=held_out.ink,
    )
    rng = np.random.default_rng(0)
    if run.system == "gan":
        _gan(found, images, held_out, rng)
    elif run.system == "denoising":
        _denoising(found, held_out, rng)
    elif run.system in ("vae", "iwae"):
        _vae(found, held_out, rng)
    else:
        _autoencoder(found, images, held_out)
    if run.system not in ("gan", "denoising"):
        _plane(found, held_out)
    _decoder(found, held_out, rng)
    return found


def _autoencoder(found: Contents, images: Images, held_out: Images) -> None:
    """Compare an autoencoder with PCA."""
    model, x = found.run.model, held_out.x[:JUDGED]
    code = found.about.options["code"]
    pca = PCA(code).fit(images.x)
    linear = np.clip(pca.inverse_transform(pca.transform(x)), 0, 1)
    error = reconstruction_error(x, model.reconstruct(x))
    pca_error = reconstruction_error(x, linear)
    found.result = "result_pca", {
        "code": code, "error": f"{error:.2f}", "pca": f"{pca_error:.2f}",
    }  # fmt: skip
    if found.about.options["loss"] == "squared":
        found.pca_error = float(pca_error)
    shown = held_out.mixed(SHOWN)
    own = held_out.x[shown]
    linear = np.clip(pca.inverse_transform(pca.transform(own)), 0, 1)
    made = {"original": own, "model": model.reconstruct(own), "pca": linear}
    found.rows = {name: held_out.pictures(x) for name, x in made.items()}


def _denoising(found: Contents, held_out: Images, rng: np.random.Generator) -> None:
    """Compare images before and after cleaning."""
    model, corruption = found.run.model, found.run.model.corruption
    corrupted = corruption.corrupt(*held_out.batch(model), rng)
    cleaned = model.reconstruct(corruption.preprocess(corrupted))
    before, after = (psnr(held_out.x, y).mean() for y in (corrupted, cleaned))
    found.result = "result_denoising", {
        "before": f"{before:.2f}", "after": f"{after:.2f}",
    }  # fmt: skip
    shown = held_out.mixed(SHOWN)
    how = "fog" if corruption.foggy else "noisy"
    made = {"original": held_out.x, how: corrupted, "cleaned": cleaned}
    found.rows = {name: held_out.pictures(x[shown]) for name, x in made.items()}


def _vae(found: Contents, held_out: Images, rng: np.random.Generator) -> None:
    """Judge the bound of a VAE and each number of its code; draw samples."""
    model, x = found.run.model, held_out.x[:JUDGED]
    log_p, kl = (float(np.mean(term)) for term in model.elbo_terms(x, rng))
    mu, log_var = model.posterior(x)
    each = np.mean((np.exp(log_var) + mu**2 - 1 - log_var) / 2, axis=0)
    found.kl = [float(value) for value in each]
    found.result = "result_vae", {
        "elbo": minus(log_p - kl), "log_p": minus(log_p), "kl": f"{kl:.2f}",
        "code": len(each), "unused": int(np.sum(each < UNUSED)),
    }  # fmt: skip
    shown = held_out.mixed(SHOWN)
    own = held_out.x[shown]
    made = {"original": own, "model": model.reconstruct(own)}
    found.rows = {name: held_out.pictures(x) for name, x in made.items()}
    drawn = model.sample(2 * SHOWN, rng)
    two = {"data": held_out.x[: 2 * SHOWN], "generated": drawn}
    found.samples = {name: held_out.pictures(x) for name, x in two.items()}


def _gan(
    found: Contents, images: Images, held_out: Images, rng: np.random.Generator
) -> None:
    """Judge a game: D's answers, and the distance and spread of generated images."""
    model = found.run.model
    n = min(JUDGED, len(images.x), len(held_out.x)) // model.packing * model.packing
    x, others = held_out.x[:n], images.x[:n]
    z = rng.standard_normal((n, model.generator_sizes[0])).astype(model.dtype)
    generated = model.generate(z)
    a_r, a_f = model.logits(x), model.logits(generated)
    v = float(-np.mean(np.logaddexp(0, -a_r)) - np.mean(np.logaddexp(0, a_f)))
    real, fake = (float(np.mean(model.discriminate(y))) for y in (x, generated))
    pca = PCA(min(COMPONENTS, *images.x.shape)).fit(images.x)
    distance, floor = (
        float(frechet_distance(pca.transform(y), pca.transform(x)))
        for y in (generated, others)
    )
    spread = _spread(generated, rng) / _spread(x, rng)
    found.result = "result_gan", {
        "v": minus(v, 3), "real": f"{real:.3f}", "generated": f"{fake:.3f}",
        "distance": f"{distance:.2f}", "floor": f"{floor:.2f}",
    }  # fmt: skip
    game = Game(real, fake, distance / floor, spread, found.history["v"])
    found.diagnosis = findings(game)
    two = {"data": x[: 2 * SHOWN], "generated": generated[: 2 * SHOWN]}
    found.samples = {name: held_out.pictures(x) for name, x in two.items()}


def _spread(x: np.ndarray, rng: np.random.Generator) -> float:
    """Return the mean distance between pairs of rows of x (n, d)."""
    a, b = rng.permutation(len(x)), rng.permutation(len(x))
    return float(np.mean(np.linalg.norm(x[a] - x[b], axis=1)))


def _plane(found: Contents, held_out: Images) -> None:
    """Place held-out images in the plane, by their codes."""
    z = found.run.model.encode(held_out.x)
    if z.shape[1] < 2:
        return
    found.axes = "axes_code" if z.shape[1] == 2 else "axes_pca"
    shown = held_out.mixed(POINTS)
    flat = z if z.shape[1] == 2 else PCA(2).fit_transform(z)
    labels = None if held_out.label is None else held_out.label[shown].astype(int)
    found.plane = {
        "points": np.round(flat[shown].astype(float), 4).tolist(),
        "labels": None if labels is None else labels.tolist(),
        "pictures": packed(held_out.x[shown]),
    }


def _decoder(found: Contents, held_out: Images, rng: np.random.Generator) -> None:
    """Pack the decoder, codes to start from, and codes to check it with."""
    run, options = found.run, found.about.options
    if run.system == "denoising":
        return
    net = "generator" if run.system == "gan" else "decoder"
    state = run.model.state_dict()
    names = sorted(
        (name for name in state if name.startswith(f"{net}.") and name.endswith(".W")),
        key=lambda name: int(name.split(".")[1]),
    )
    layers = [(state[name], state[name[:-1] + "b"]) for name in names]
    size = sum(W.size + b.size for W, b in layers)
    if size > MOST_WEIGHTS:
        found.too_large = 2 * size
        return
    inputs = layers[0][0].shape[0]
    if run.system == "gan":
        codes = rng.standard_normal((2 * CHECKS, inputs)).astype(np.float32)
        decode, output = run.model.generate, "sigmoid"
    else:
        codes = run.model.encode(held_out.x[held_out.mixed(2 * CHECKS)])
        decode, output = run.model.decode, options.get("output", "sigmoid")
        if options.get("decoder") == "gaussian":
            output = "linear"
    spread = run.model.encode(held_out.x[:JUDGED]) if run.system != "gan" else codes
    rank = np.argsort(found.kl)[::-1] if found.kl else np.argsort(-spread.var(axis=0))
    slope = options["activation"] == "leaky_relu"
    found.decoder = {
        "layers": [[half(W), half(b), *W.shape] for W, b in layers],
        "activation": options["activation"],
        "slope": 0.2 if slope else 0,
        "output": output,
        "codes": np.round(codes.astype(float), 5).tolist(),
        "mean": np.round(spread.mean(axis=0).astype(float), 4).tolist(),
        "range": np.round(3 * spread.std(axis=0).astype(float) + 1e-3, 4).tolist(),
        "first": [int(k) for k in rank[:2]] if inputs > 1 else [0, 0],
        "checks": packed(decode(codes[:CHECKS]), np.float32),
    }


# --- Small things -------------------------------------------------------------------


def minus(value: float, digits: int = 2) -> str:
    """Write a number with a true minus sign."""
    return f"{value:.{digits}f}".replace("-", "−")


def half(a: np.ndarray) -> str:
    """Return an array as base64 of little-endian float16."""
    return base64.b64encode(np.ascontiguousarray(a, "<f2").tobytes()).decode()


def packed(x: np.ndarray, dtype: Any = np.uint8) -> str:
    """Return pictures in [0, 1] as base64: bytes, or little-endian float32."""
    if dtype is np.uint8:
        x = np.round(255 * np.clip(x, 0, 1)).astype(np.uint8)
    else:
        x = np.ascontiguousarray(x, "<f4")
    return base64.b64encode(x.tobytes()).decode()
