"""A trained run, read back: its model and its data."""

import math
import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratchnet import __version__
from scratchnet.runs.files import HISTORY, MOMENTS, RUN, WEIGHTS, Folder
from scratchnet.runs.identity import RunError, is_size, is_text
from scratchnet.runs.images import SYNTHETIC, Images, check_shape, load_images
from scratchnet.runs.model import build
from scratchnet.runs.streams import Streams
from scratchnet.runs.systems import ENGINES, SYSTEMS
from scratchnet.training import checkpoint
from scratchnet.training.checkpoint import FORMAT

MAX_DRAWS = 10_000  # the most draws of z in the bound of an IWAE
# Rows and columns of an image in runs of format 1, where they are not saved.
FORMAT_1_SHAPES = {"drawn": (28, 28), "deer": (48, 48), "mnist": (28, 28)}


class Run(NamedTuple):
    """A run that `train` wrote, read back."""

    folder: Path
    system: str
    model: Any
    data: str  # the option --data of its training
    seed: int
    columns: int  # pixels of an image
    shape: tuple[int, int] | None  # its rows and columns; None in format 1
    held_out: str | None  # the digest of the held-out images; None in format 1

    def images(self, data: str | None, seed: int | None) -> tuple[Images, Streams]:
        """Return the held-out images of the run, or other images.

        Args:
            data: where to find other images, as for `load_images`.
            seed: the random seed for drawing them; by default the run's.

        Raises:
            ValueError: the images have another shape, or the data of the run have
                changed.

        """
        where = data or self.data
        known = where in FORMAT_1_SHAPES or Path(where).is_absolute()
        if not data and not known:
            raise RunError(
                f"{self.folder}: this run has format 1, without the full path of "
                f"{where!r}; pass --data FOLDER"
            )
        streams = Streams.of(self.seed if seed is None else seed)
        images = load_images(where, None, streams.held_out, held_out=True)
        if self.shape or math.prod(images.shape) != self.columns:
            expected = self.shape or (1, self.columns)
            check_shape(f"--data {where}: its images", images, expected)
        # Drawn images may differ in the last bits between machines.
        own = not data and where not in SYNTHETIC
        if own and self.held_out and images.digest != self.held_out:
            raise ValueError(
                f"{where}: the images have changed since {self.folder} was trained; "
                "pass --data FOLDER to use them, or others"
            )
        return images, streams

    def file(self, out: str | None, name: str) -> Path:
        """Return the file for a result: `out`, or `name` in the run's folder.

        Raises:
            RunError: training wrote that file; or it is in the run's folder, and does
                not belong to the run.

        """
        path = Path(out) if out else self.folder / name
        kept = [self.folder / n for n in (WEIGHTS, HISTORY, MOMENTS, RUN)]
        if any(path.exists() and one.exists() and path.samefile(one) for one in kept):
            raise RunError(
                f"{path}: this file is part of the run; choose another --out"
            )
        if not out:
            Folder(self.folder).add(name)
        return path


def load(run: str | os.PathLike[str], engine: str = "byhand") -> Any:
    """Return the trained model of a run, rebuilt with its weights.

        model = scratchnet.runs.load("runs/vae")
        images = model.sample(16, np.random.default_rng(0))

    Args:
        run: the folder that `python -m scratchnet train` wrote, or the weights in it.
        engine: "byhand" gives a model of `byhand`, "autograd" one of `models`.

    Raises:
        FileNotFoundError: there is no run in the folder.
        ValueError: it is damaged or comes from a later version, or the engine is
            unknown.

    """
    return load_run(run, engine).model


def load_run(
    run: str | os.PathLike[str], engine: str, command: str | None = None
) -> Run:
    """Read a run, and rebuild its model.

    Args:
        run: its folder, or the weights in it.
        engine: "byhand" or "autograd".
        command: the command that uses the run.

    Raises:
        FileNotFoundError: there is no run in the folder.
        ValueError: the file is damaged or comes from a later version, or its system
            does not support the command.

    """
    if engine not in ENGINES:
        raise ValueError(f"load: engine={engine!r}; 'byhand' or 'autograd' expected")
    path = Path(run)
    path = path / WEIGHTS if path.is_dir() else path
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; `train` writes one")
    weights, facts = checkpoint.load(path)
    if not isinstance(facts.get("format"), int):
        raise ValueError(f"{path}: these weights were not written by `train`")
    if facts["format"] > FORMAT:
        raise ValueError(
            f"{path}: written by a later version than this scratchnet {__version__}; "
            "install the later one"
        )
    name = facts.get("system")
    if name not in list(SYSTEMS):
        raise ValueError(f"{path}: unknown system {name!r}; use {', '.join(SYSTEMS)}")
    if command in SYSTEMS[name].cannot:
        raise ValueError(f"{path}: {SYSTEMS[name].cannot[command]}")
    for key, a in weights.items():
        if a.dtype.kind != "f" or not np.isfinite(a).all():
            raise ValueError(f"{path}: damaged ({key} has values that are not finite)")
    try:
        return _rebuilt(path.parent, weights, facts, engine)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = "; ".join(str(error).splitlines())
        raise ValueError(f"{path}: damaged ({reason})") from error


def _rebuilt(
    folder: Path, weights: dict[str, np.ndarray], facts: dict[str, Any], engine: str
) -> Run:
    """Make the model of a run with these weights.

    Raises:
        LookupError, TypeError, ValueError, AttributeError, OverflowError: the weights
            do not fit the facts.

    """
    system = facts["system"]
    check_size(system, facts["model"], sum(a.size for a in weights.values()))
    rng = np.random.default_rng(0)  # for weights that are replaced immediately
    model = build(system, facts["model"], engine, rng)
    model.load_state_dict(weights)
    options = facts["options"]
    gan = system == "gan"
    shape = facts.get("shape")
    run = Run(
        folder=folder,
        system=system,
        model=model,
        data=options["data"],
        seed=options["seed"],
        columns=facts["model"]["generator"][-1] if gan else facts["model"]["sizes"][0],
        shape=tuple(shape) if shape else FORMAT_1_SHAPES.get(options["data"]),
        held_out=facts.get("held_out"),
    )
    check_run(run)
    return run


def check_size(system: str, facts: Mapping[str, Any], n: int) -> None:
    """Raise ValueError if a model with these facts would have more than n weights.

    This is checked before the model is built, because a damaged file may claim any
    size. Only the sizes and an IWAE's number of draws can make a model large.
    """
    nets = ("generator", "discriminator") if system == "gan" else ("sizes",)
    for net in nets:
        sizes = facts[net]
        if not all(is_size(size) for size in sizes):
            raise ValueError(f"{net} is {str(sizes)[:60]}")
        if sum(a * b for a, b in pairwise(sizes)) > n:
            raise ValueError(f"{net} is {str(sizes)[:60]}, but there are {n} weights")
    if not is_size(facts.get("k", 1)) or facts.get("k", 1) > MAX_DRAWS:
        raise ValueError(f"k is {str(facts['k'])[:60]}; at most {MAX_DRAWS}")


def check_run(run: Run) -> None:
    """Raise ValueError unless the facts of a run fit together."""
    if run.shape is not None:
        if len(run.shape) != 2 or not all(map(is_size, run.shape)):
            raise ValueError(f"shape is {str(run.shape)[:60]}")
        if math.prod(run.shape) != run.columns:
            raise ValueError(
                f"shape is {run.shape}, but images have {run.columns} pixels"
            )
    if not is_text(run.data) or not is_seed(run.seed):
        raise ValueError(f"data is {run.data!r}, seed {run.seed!r}"[:100])
    if not (run.held_out is None or is_text(run.held_out)):
        raise ValueError(f"held_out is {str(run.held_out)[:60]}")


def is_seed(x: object) -> bool:
    """Return whether x is a valid value of `--seed`."""
    return isinstance(x, int) and not isinstance(x, bool) and 0 <= x < 2**64
