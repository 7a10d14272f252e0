"""The moments of a training: pictures of the same inputs while the model learns.

A run keeps about 25 moments, more of them at the start. The first is the untrained
model, the last is the finished one. They are part of every state, so a run that is
resumed has the moments of a run without an interruption.
"""

import contextlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratchnet import backend, twins
from scratchnet.runs.files import MOMENTS
from scratchnet.runs.identity import RunError
from scratchnet.runs.images import Images
from scratchnet.training import checkpoint
from scratchnet.training.checkpoint import FORMAT, State
from scratchnet.training.history import GANHistory, History
from scratchnet.training.state import part_of

MOST = 25  # moments of a training, if it is not extended
SHOWN = 16  # pictures of each kind in a moment
BYTES = 1_900_000  # of the pictures in all moments
SAMPLES = 64  # for the numbers about a GAN
MAX_BYTES = 2**26  # a longer file is not read
KINDS = ("pictures", "numbers", "references")


class MomentsRead(NamedTuple):
    """The moments of a run.

    Attributes:
        steps: epochs of training before each moment (m,); steps of a GAN's generator.
            The first is 0, the untrained model; for a stack, before its pretraining.
        pictures: by kind, uint8 (m, n, rows, columns). "reconstructions" of the same
            held-out images; "samples" of the same z, a GAN's by its averaged weights.
        numbers: by name, float64 (m,); for a GAN see `numbers_of`.
        references: pictures that stay the same, uint8 (n, rows, columns): "original",
            the held-out images; for a denoiser "corrupted", its input.

    """

    steps: np.ndarray
    pictures: dict[str, np.ndarray]
    numbers: dict[str, np.ndarray]
    references: dict[str, np.ndarray]


class Moments:
    """The moments of a training, taken while it runs.

    It is a callback of `fit` and `fit_gan`; call `watch` before.

    Args:
        images: the held-out images; the first ones with mixed labels are shown.
        rng: draws z, or the corruption; used for nothing else.
        state: the state to resume from; None at the start.

    """

    def __init__(
        self, images: Images, rng: np.random.Generator, state: State | None = None
    ) -> None:
        self.images, self.rng = images, rng
        self.kept: MomentsRead | None = None
        if state is not None:
            self.kept = _parsed(part_of("moments", state.arrays), "the state")

    def watch(
        self,
        model: Any,
        total: int,
        *,
        batch_size: int,
        every: int = 1,
        average: Any = None,
    ) -> None:
        """Set the model to look at; if it is untrained, take the first moment.

        Args:
            model: the model that will be trained, or was until now.
            total: epochs, or steps of a GAN.
            batch_size: samples in a step.
            every: steps between two calls.
            average: the averaged weights of a GAN's generator, an `EMA`; or None.

        Raises:
            ValueError: the images or `batch_size` do not fit the model.
            RunError: the moments of the state do not fit this run.

        """
        self.model, self.average, self.batch_size = model, average, batch_size
        self.gan = hasattr(model, "generator_sizes")
        self.generates = self.gan or hasattr(model, "sample")
        kinds = 2 if self.generates and not self.gan else 1
        n = min(SHOWN, BYTES // (MOST * kinds * math.prod(self.images.shape)))
        rows = self.images.mixed(max(1, n))
        most = BYTES // (len(rows) * kinds * math.prod(self.images.shape))
        self.due = frozenset(schedule(total, min(MOST, most), every))
        if self.gan:
            twins.check_packs(batch_size, model.packing)
        self._draw(rows)
        if self.kept is None:
            self._take(0)
        elif _form(self.kept) != _form(self._moment(0)):
            raise RunError("the moments in the state are not from this run")

    def __call__(self, history: History | GANHistory) -> None:
        """Take a moment, if it is time to; the history tells the step."""
        if isinstance(history, GANHistory):
            step = history.steps[-1]
        else:
            step = len(history.losses)
        if step in self.due and step > self.arrays()["moments.steps"][-1]:
            self._take(step)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the moments as arrays, for a state."""
        named = {} if self.kept is None else _named(self.kept)
        return {f"moments.{name}": a for name, a in named.items()}

    def write(self, path: Path) -> None:
        """Write the file that `read` reads."""
        if self.kept is not None:
            checkpoint.save(path, _named(self.kept), format=FORMAT)

    def _draw(self, rows: np.ndarray) -> None:
        """Draw the inputs of all moments; `rows` are the images to show."""
        model, images = self.model, self.images
        self.x = images.x[rows]
        self.references = {"original": as_bytes(images.pictures(self.x))}
        if hasattr(model, "corruption"):
            batch = (a[rows] for a in images.batch(model))
            corrupted = model.corruption.corrupt(*batch, self.rng)
            self.x = model.corruption.preprocess(corrupted)
            self.references["corrupted"] = as_bytes(images.pictures(corrupted))
        if self.generates:
            columns = model.generator_sizes[0] if self.gan else model.sizes[-1]
            n = packs(SAMPLES, model) if self.gan else len(rows)
            self.z = self.rng.standard_normal((n, columns), model.dtype.type)

    def _take(self, step: int) -> None:
        new = self._moment(step)
        self.kept = new if self.kept is None else _joined(self.kept, new)

    def _moment(self, step: int) -> MomentsRead:
        """Look at the model; it is unchanged afterwards."""
        model, n = self.model, len(self.x)
        numbers: dict[str, float] = {}
        if self.gan:
            with self.average.average() if self.average else contextlib.nullcontext():
                samples = backend.to_numpy(model.generate(self.z))
            real = self.images.x[np.arange(len(self.z)) % len(self.images.x)]
            numbers = numbers_of(model, real, self.z, samples, self.batch_size)
            made = {"samples": samples[:n]}
        else:
            made = {"reconstructions": model.reconstruct(self.x)}
            if self.generates:
                made["samples"] = model.decode(self.z)
        pictures = {k: as_bytes(self.images.pictures(x)) for k, x in made.items()}
        return MomentsRead(
            np.array([step]),
            {k: a[None] for k, a in pictures.items()},
            {k: np.array([v]) for k, v in numbers.items()},
            self.references,
        )


def numbers_of(
    gan: Any, real: np.ndarray, z: np.ndarray, samples: np.ndarray, batch_size: int
) -> dict[str, float]:
    """Return numbers about a GAN that its history does not have.

    Args:
        gan: the GAN, with the weights that are trained, not averaged.
        real: held-out images (n, d).
        z: noise (n, k), always the same.
        samples: generated from z by the averaged weights (n, d).
        batch_size: the largest number of rows in a step.

    Returns:
        "gradient_saturating" and "gradient_non_saturating": the norm of the gradient
        of G's loss, by either loss; "real" and "generated": the mean of D(x) and
        D(G(z)); "distance" and "distance_real": the mean distance between two of the
        samples, and between two of the held-out images.

    """
    found = {}
    own, rows = gan.objective, packs(min(batch_size, len(z)), gan)
    try:
        for loss in ("saturating", "non_saturating"):
            gan.objective = loss
            found[f"gradient_{loss}"] = gradient_norm(gan, backend.asarray(z[:rows]))
    finally:
        gan.objective = own
    for name, x in (("real", real), ("generated", gan.generate(z))):
        found[name] = _mean(gan.discriminate(x))
    return found | {"distance": spread(samples), "distance_real": spread(real)}


def gradient_norm(gan: Any, z: Any) -> float:
    """Return the norm of the gradient of G's loss in its parameters."""
    if hasattr(gan, "generator_gradients"):  # by hand
        gan.generator_gradients(z)
        return math.sqrt(_squares(gan.d_theta_g))
    parameters = gan.generator.parameters()
    kept = [p.grad for p in parameters]
    try:
        for p in parameters:
            p.grad = None
        gan.generator_loss(z).backward(inputs=parameters)
        return math.sqrt(sum(_squares(p.grad) for p in parameters))
    finally:
        for p, grad in zip(parameters, kept, strict=True):
            p.grad = grad


def _squares(a: Any) -> float:
    return float(np.sum(np.square(backend.to_numpy(a), dtype=np.float64)))


def _mean(a: Any) -> float:
    return float(np.mean(backend.to_numpy(a), dtype=np.float64))


def spread(x: np.ndarray) -> float:
    """Return the mean distance between two different rows of x (n, d); 0 for one."""
    x = np.asarray(x, dtype=np.float64)
    n = len(x)
    total = sum(np.linalg.norm(x[i + 1 :] - x[i], axis=1).sum() for i in range(n))
    return float(total / max(1, n * (n - 1) / 2))


def packs(n: int, gan: Any) -> int:
    """Return the number of rows, about n, in whole packs of D; at least one pack."""
    return int(max(1, n // gan.packing) * gan.packing)


def as_bytes(x: np.ndarray) -> np.ndarray:
    """Return pictures with values in [0, 1] as uint8; other values are clipped."""
    clipped = np.clip(backend.to_numpy(x), 0, 1)
    return np.asarray(np.rint(255 * clipped), dtype=np.uint8)


def schedule(total: int, most: int = MOST, every: int = 1) -> list[int]:
    """Return the steps of the moments: 0, then at growing distances up to `total`.

    Args:
        total: the steps of the training.
        most: how many moments, at least 2; fewer if the training is short.
        every: all of them except `total` are multiples of this.

    """
    looks = -(-total // every)  # how often the training can be looked at
    n = min(max(most, 2) - 1, looks)
    k = 1 if n > 1 else looks
    found = [0, k]
    for left in range(n - 1, 0, -1):
        k = max(k + 1, round(k * (looks / k) ** (1 / left)))
        found.append(k)
    return [min(k * every, total) for k in found]


def read(folder: str | os.PathLike[str]) -> MomentsRead | None:
    """Return the moments of a finished run; None if it has none.

    Args:
        folder: the folder of the run.

    Raises:
        RunError: the file is damaged.

    """
    path = Path(folder) / MOMENTS
    try:
        return _parsed(checkpoint.load(path, max_bytes=MAX_BYTES)[0], str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise RunError(
            f"{error}; remove {path.name}, and the run has no moments, or train again"
        ) from error


def _named(kept: MomentsRead) -> dict[str, np.ndarray]:
    """Return moments as arrays by name, the inverse of `_parsed`."""
    found = {"steps": kept.steps}
    for kind in KINDS:
        found |= {f"{kind}.{name}": a for name, a in getattr(kept, kind).items()}
    return found


def _parsed(arrays: Mapping[str, np.ndarray], where: str) -> MomentsRead:
    """Return the moments in arrays by name.

    Raises:
        RunError: an array is missing, or has a wrong name, shape or type.

    """
    kept = MomentsRead(
        arrays.get("steps", np.zeros(0, np.int64)),
        *(part_of(kind, arrays) for kind in KINDS),
    )
    steps = kept.steps
    right = steps.ndim == 1 and steps.dtype.kind == "i" and len(steps) > 0
    right = right and steps[0] == 0 and bool(np.all(np.diff(steps) > 0))
    right = right and _named(kept).keys() == arrays.keys()
    for kind, dtype, axes in (("pictures", "u1", (4, 5)), ("numbers", "f8", (1,))):
        for a in getattr(kept, kind).values():
            right = right and a.dtype == dtype and a.ndim in axes
            right = right and len(a) == len(steps)
    for a in kept.references.values():
        right = right and a.dtype == np.uint8 and a.ndim in (3, 4)
    if not right:
        raise RunError(f"{where}: damaged (moments with a wrong name, shape or type)")
    return kept


def _form(kept: MomentsRead) -> dict[str, tuple[int, ...]]:
    """Return the shape of one moment, by the names of its arrays."""
    return {
        name: a.shape if name.startswith("references") else a.shape[1:]
        for name, a in _named(kept).items()
    }


def _joined(kept: MomentsRead, new: MomentsRead) -> MomentsRead:
    """Return all moments, the new one last."""

    def both(
        a: dict[str, np.ndarray], b: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        return {name: np.concatenate([a[name], b[name]]) for name in a}

    return MomentsRead(
        np.concatenate([kept.steps, new.steps]),
        both(kept.pictures, new.pictures),
        both(kept.numbers, new.numbers),
        kept.references,
    )
