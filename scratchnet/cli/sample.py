"""`sample`: draw new images from a trained VAE, IWAE or GAN."""

import argparse
from typing import Any

import numpy as np

from scratchnet import backend, plots
from scratchnet.runs.identity import RunError
from scratchnet.runs.systems import SYSTEMS
from scratchnet.runs.trained import load_run


def sample(args: argparse.Namespace) -> None:
    """Draw new images from a run, and save them as one picture."""
    run = load_run(args.run, args.engine, args.command)
    if run.shape is None:
        raise RunError(
            f"{run.folder}: this run has format 1, without the shape of its images; "
            "train again"
        )
    x = draw(run.model, args.n, np.random.default_rng(args.seed))
    title = (
        f"{len(x)} sample{'s' if len(x) > 1 else ''} of the {SYSTEMS[run.system].name}"
    )
    figure = plots.sheets({title: x.reshape(-1, *run.shape)}, ink=run.data != "deer")
    path = plots.save(figure, run.file(args.out, "sample.png"))
    print(f"{path}: {title}")


def draw(model: Any, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n images (n, d) from a VAE, or from a GAN's generator."""
    if hasattr(model, "sample"):
        return backend.to_numpy(model.sample(n, rng))
    z = rng.standard_normal((n, model.generator_sizes[0]), model.dtype.type)
    samples: np.ndarray = model.generate(z)
    return samples
