"""`reconstruct`: reconstruct or clean images with a trained model, and measure it."""

import argparse
from typing import Any

import numpy as np

from scratchnet import plots
from scratchnet.metrics import psnr, reconstruction_error
from scratchnet.runs.images import Images
from scratchnet.runs.systems import SYSTEMS
from scratchnet.runs.trained import load_run

IMAGES_SHOWN = 10  # images in a row


def reconstruct(args: argparse.Namespace) -> None:
    """Reconstruct or clean images with a run; draw some of them."""
    run = load_run(args.run, args.engine, args.command)
    images, streams = run.images(args.data, args.seed)
    rows, result = reconstructions(run.system, run.model, images, args.n, streams.judge)
    title = "Images and their reconstructions"
    figure = plots.picture_rows(rows, title=title, ink=images.ink)
    print(plots.save(figure, run.file(args.out, "reconstruct.png")))
    print(result)


def reconstructions(
    system: str, model: Any, images: Images, n: int, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], str]:
    """Return rows of n originals and their reconstructions, and the error over all."""
    x = images.x
    chosen = images.mixed(n)
    rows = {"original": images.pictures(x[chosen])}
    if not hasattr(model, "corruption"):
        made = model.reconstruct(x)
        error = reconstruction_error(x, made)
        name = SYSTEMS[system].name
        result = f"squared error per image, mean of {len(x)}: {name} {error:.2f}"
    else:
        corrupted = model.corruption.corrupt(*images.batch(model), rng)
        made = model.reconstruct(model.corruption.preprocess(corrupted))
        before, after = (np.mean(psnr(x, y)) for y in (corrupted, made))
        how, name = "in fog" if model.corruption.foggy else "noisy", "cleaned"
        rows[how] = images.pictures(corrupted[chosen])
        result = f"PSNR of {len(x)} images, dB: {how} {before:.2f}, {name} {after:.2f}"
    rows[name] = images.pictures(made[chosen])
    return rows, result
