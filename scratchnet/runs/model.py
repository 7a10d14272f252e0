"""The model of a run: made from facts that JSON can hold."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from scratchnet import byhand, models
from scratchnet.data.corruption import Fog, Gaussian, Masking, SaltAndPepper
from scratchnet.runs.systems import SYSTEMS

Corrupting = Gaussian | Masking | SaltAndPepper | Fog


class Corruption(NamedTuple):
    """Corrupts clean images and prepares them for a denoiser."""

    corrupt: Corrupting  # of data/corruption.py

    def __call__(self, *batch: Any) -> np.ndarray:
        """Return the input of the denoiser for a batch (x, rng) or (x, depth, rng)."""
        return self.preprocess(self.corrupt(*batch))

    def check(self, *batch: Any) -> None:
        """Raise an error unless this batch can be corrupted."""
        self.corrupt.check(*batch)

    def preprocess(self, x: np.ndarray) -> np.ndarray:
        """Return the rows x as the input of the denoiser.

        In fog, each row gets mean 0 and standard deviation 1, as an eye adapts: the
        density of the fog then matters less.
        """
        if not self.foggy:
            return x
        centered = x - x.mean(axis=1, keepdims=True)
        seen: np.ndarray = centered / x.std(axis=1, keepdims=True)
        return seen

    @property
    def foggy(self) -> bool:
        """Whether it needs the depth of each pixel."""
        return isinstance(self.corrupt, Fog)


# For each corruption: a function that makes it from its level, and the default level.
CORRUPTIONS: dict[str, tuple[Callable[[float], Corrupting], float]] = {
    "gaussian": (Gaussian, 0.5),
    "masking": (Masking, 0.5),
    "salt-and-pepper": (SaltAndPepper, 0.3),
    "fog": (lambda level: Fog((0.8 * level, 1.2 * level)), 0.25),
}


def build(
    system: str,
    facts: Mapping[str, Any],
    engine: str,
    rng: np.random.Generator,
    **memory: Any,
) -> Any:
    """Make the model of a system, with new weights.

    Args:
        system: a name in `SYSTEMS`.
        facts: the arguments of the model, see `facts_of`.
        engine: "byhand" or "autograd".
        rng: draws the weights.
        **memory: arguments of the model by hand only: batch_size, lr, ...

    Raises:
        LookupError, TypeError, ValueError: the facts do not fit the model.

    """
    name = SYSTEMS[system].model
    options = dict(facts)
    if "corruption" in options:
        kind, level = options["corruption"]
        options["corruption"] = Corruption(CORRUPTIONS[kind][0](level))
    if engine == "byhand":
        return getattr(byhand, name)(**options, rng=rng, **memory)
    return getattr(models, name)(**options, rng=rng)


def facts_of(system: str, options: Mapping[str, Any], columns: int) -> dict[str, Any]:
    """Return the arguments of the model, for JSON; an image has `columns` pixels."""
    facts = {name: options[name] for name in SYSTEMS[system].passed}
    hidden = options["hidden"]
    if system == "gan":
        facts["generator"] = (options["noise"], *hidden, columns)
        facts["discriminator"] = (options["packing"] * columns, *hidden[::-1], 1)
    else:
        facts["sizes"] = (columns, *hidden, options["code"])
    if system == "denoising":
        fog = options["data"] == "deer"
        kind = options["corruption"] or ("fog" if fog else "gaussian")
        level = options["level"]
        facts["corruption"] = (kind, CORRUPTIONS[kind][1] if level is None else level)
    return facts


def check_images(system: str, options: Mapping[str, Any], x: np.ndarray) -> None:
    """Raise ValueError unless there are enough images x (n, d) for these options.

    PCA, the reference for autoencoders, needs at least as many images and pixels as
    numbers in the code. A GAN is judged by packs of images.
    """
    n, columns = x.shape
    code, batch_size = options.get("code"), options["batch_size"]
    if SYSTEMS[system].against_pca and code > min(n, columns):
        raise ValueError(
            f"--code {code}: there are {n} images of {columns} pixels; pass "
            f"{min(n, columns)} or less"
        )
    if batch_size > n:
        raise ValueError(
            f"--batch-size {batch_size}: there are {n} images; pass {n} or less"
        )
    if system == "gan" and n < (least := max(2, options["packing"])):
        raise ValueError(
            f"--packing {options['packing']}: there are {n} images; at least {least} "
            "are needed"
        )
