"""Checks of the arguments of `fit`, `fit_gan` and `pretrain`."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any, Protocol

import numpy as np

from scratchnet import backend, checks, twins
from scratchnet.backend import Array
from scratchnet.optim import Optimizer
from scratchnet.training import distributed
from scratchnet.training.checkpoint import Save
from scratchnet.training.distributed import Group

Batch = tuple[Array, ...]


# What `fit`, `fit_gan` and `pretrain` require of a model


class WithLoss(Protocol):
    """A model with the engine, as in `scratchnet.models`: an optimizer trains it."""

    def loss(self, *batch: Any, **options: Any) -> Any:
        """Return the mean loss of a minibatch, a Tensor."""


class WithStep(Protocol):
    """A model by hand, as in `scratchnet.byhand`: it has its own update."""

    def step(self, *batch: Any, **options: Any) -> Any:
        """Take one step on a minibatch; return its mean loss before the step."""


class GAN(Protocol):
    """A GAN: with the engine it has two losses, by hand two steps."""

    @property
    def generator_sizes(self) -> Sequence[int]:
        """The widths of z, of each layer and of a sample."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the samples."""

    @property
    def packing(self) -> int:
        """How many samples the discriminator judges together."""

    @property
    def paired(self) -> bool:
        """Whether the generator's step needs real samples too."""

    def generate(self, *batch: Any, **options: Any) -> Any:
        """Return samples G(z)."""

    def logits(self, *batch: Any, **options: Any) -> Any:
        """Return the logits of D(x)."""


class Average(Protocol):
    """An average of the generator's parameters, like `optim.EMA`."""

    def update(self) -> object:
        """Add the parameters after a step to the average."""


class Stack(Protocol):
    """A stack of autoencoders."""

    @property
    def sizes(self) -> Sequence[int]:
        """The widths of the data, of the hidden layers and of the code."""

    def layer(self, k: int) -> Any:
        """Return layer k as a separate autoencoder."""

    def set_layer(self, k: int, layer: Any) -> None:
        """Copy the parameters of layer k into the stack."""

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of the parameters, by name."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the parameters."""


# --- Checks -------------------------------------------------------------------------


def check_fit(
    model: object,
    x: object,
    *,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    optimizer: Optimizer | None,
    noise: np.random.Generator | None,
    validation: object,
    callback: object,
    checkpoints: Save | None,
    group: Group | None,
) -> tuple[Batch, Batch | None, int]:
    """Raise an error for any argument that would fail later, or silently.

    Returns:
        The training and validation samples, on the backend, and the number of training
        samples in all processes.

    """
    checks.count("fit", "epochs", epochs)
    checks.count("fit", "batch_size", batch_size)
    checks.rng("fit", rng)
    check_callback("fit", callback)
    data = uploaded("fit", "x", x)
    held_out = None
    if validation is not None:
        held_out = uploaded("fit", "validation", validation)
    if group is not None:
        distributed.check("fit", group, model)
        if checkpoints is not None and getattr(checkpoints, "group", None) is not group:
            raise ValueError("fit: checkpoints: pass Checkpoints(folder, group=group)")
    _check_model(model, optimizer)
    _check_noise(model, noise)
    check_data("fit", model, "x", data)
    if held_out is not None:
        if len(held_out) != len(data):
            raise ValueError(
                f"fit: validation has {len(held_out)} arrays, x has {len(data)}; both "
                "need the same number"
            )
        check_data("fit", model, "validation", held_out)
    n = len(data[0]) if group is None else group.total(len(data[0]))
    check_batch_size("fit", model, batch_size, n)
    return data, held_out, n


def _check_model(model: object, optimizer: Optimizer | None) -> None:
    """Raise TypeError unless this model can be trained with this optimizer."""
    name = type(model).__name__
    by_hand = hasattr(model, "step")
    if not by_hand and not hasattr(model, "loss"):
        hint = "; a GAN is trained by fit_gan" * hasattr(model, "generate")
        raise TypeError(f"fit: a {name} has neither loss nor step{hint}")
    if by_hand and optimizer is not None:
        raise _own_update("fit", name, "optimizer")
    if not by_hand and not isinstance(optimizer, Optimizer):
        missing = "missing" if optimizer is None else f"{optimizer!r}"
        raise TypeError(
            f"fit: optimizer is {missing}; pass optim.Adam(model.parameters()), for "
            "example"
        )


def _own_update(owner: str, model: str, argument: str) -> TypeError:
    """Return the error for an optimizer that is passed to a model by hand."""
    return TypeError(
        f"{owner}: {model} has its own update; pass update= to its constructor instead "
        f"of {argument}="
    )


def _check_noise(model: object, noise: np.random.Generator | None) -> None:
    """Raise TypeError if a model needs noise and has none, or the reverse."""
    name = type(model).__name__
    if hasattr(model, "with_noise") and noise is None:
        raise TypeError(
            f"fit: {name} needs noise; pass noise=np.random.default_rng(...), a second "
            "generator besides rng"
        )
    if noise is not None:
        checks.rng("fit: noise", noise)
        if not hasattr(model, "with_noise"):
            raise TypeError(f"fit: {name} takes no noise; remove noise=")


def check_callback(owner: str, callback: object) -> None:
    """Raise TypeError unless the callback is None or can be called."""
    if callback is not None:
        checks.function(owner, "callback", callback, "print")


def check_batch_size(owner: str, model: object, batch_size: int, n: int) -> None:
    """Raise ValueError if a minibatch is too large for the n rows or for the model."""
    if batch_size > n:
        raise ValueError(f"{owner}: batch_size is {batch_size}, but x has {n} rows")
    most = getattr(model, "batch_size", batch_size)
    if batch_size > most:
        raise ValueError(
            f"{owner}: batch_size is {batch_size}, but {type(model).__name__} was made "
            f"with batch_size={most}"
        )


def uploaded(owner: str, name: str, data: object) -> Batch:
    """Return data, an array or a tuple of arrays, as a tuple on the backend."""
    data = data if isinstance(data, tuple) else (data,)
    for i, a in enumerate(data):
        if not backend.is_array(a):
            raise TypeError(
                f"{owner}: {label_of(name, i, data)} is a {type(a).__name__}, an array "
                "expected"
            )
        checks.plain_array(owner, label_of(name, i, data), a)
    return tuple(map(backend.asarray, data))


def label_of(name: str, i: int, data: Batch) -> str:
    """Return the name of array i of the data, for errors."""
    return f"{name}[{i}]" if len(data) > 1 else name


def check_data(owner: str, model: object, name: str, data: Batch) -> None:
    """Raise an error unless the model can be trained on these arrays."""
    if not data:
        raise ValueError(f"{owner}: {name} is an empty tuple")
    for i, a in enumerate(data):
        label = label_of(name, i, data)
        if (i == 0 and a.ndim != 2) or a.ndim == 0 or a.size == 0:
            raise ValueError(
                f"{owner}: {label} has shape {a.shape}; expected (n, d), a row for "
                "each sample"
            )
        if len(a) != len(data[0]):
            raise ValueError(
                f"{owner}: {label} has {len(a)} rows, {name}[0] has {len(data[0])}"
            )
        if i == 0 and a.dtype.kind != "f":
            raise TypeError(
                f"{owner}: {label} is {a.dtype}, floats expected; for pixels pass "
                f"{label}.astype(np.float32) / 255"
            )
        axes = tuple(range(1, a.ndim))
        finite = backend.to_numpy(np.isfinite(a).all(axis=axes))
        if not finite.all():
            raise ValueError(
                f"{owner}: {label} has values that are not finite, in "
                f"{np.sum(~finite)} of {len(a)} rows; the first is row "
                f"{np.argmin(finite)}"
            )
    if hasattr(model, "check"):
        try:
            signature(model.check).bind(*data)
        except TypeError:
            raise TypeError(
                f"{owner}: {name} is {len(data)} array{'s' * (len(data) > 1)}; "
                f"{type(model).__name__} is trained on "
                + ", ".join(signature(model.check).parameters)
            ) from None
        model.check(*data)


def check_fit_gan(
    gan: GAN,
    x: Array,
    *,
    steps: int,
    batch_size: int,
    rng: np.random.Generator,
    noise: np.random.Generator,
    discriminator_steps: int,
    optimizers: tuple[Optimizer, Optimizer] | None,
    average: Average | None,
    every: int,
    callback: object,
) -> Array:
    """Raise an error for a bad argument; return x on the backend."""
    check_callback("fit_gan", callback)
    if average is not None and not hasattr(average, "update"):
        raise TypeError(f"fit_gan: average is {average!r}; pass an optim.EMA")
    for name, count in [("steps", steps), ("batch_size", batch_size), ("every", every),
                        ("discriminator_steps", discriminator_steps)]:  # fmt: skip
        checks.count("fit_gan", name, count)
    checks.rng("fit_gan", rng)
    checks.rng("fit_gan: noise", noise)
    _check_optimizers(gan, optimizers)
    (x,) = uploaded("fit_gan", "x", (x,))
    check_data("fit_gan", gan, "x", (x,))
    check_batch_size("fit_gan", gan, batch_size, len(x))
    twins.check_packs(batch_size, gan.packing)
    return x


def _check_optimizers(gan: object, optimizers: object) -> None:
    """Raise TypeError unless there are two optimizers, or none for a GAN by hand."""
    if hasattr(gan, "discriminator_step"):
        if optimizers is not None:
            raise _own_update("fit_gan", "this GAN", "optimizers")
    elif not isinstance(optimizers, tuple) or len(optimizers) != 2:
        raise TypeError(
            "fit_gan: pass two optimizers, optimizers=(Adam(gan.generator.parameters())"
            ", Adam(gan.discriminator.parameters()))"
        )


def check_stack(stack: object, optimizer: object) -> None:
    """Raise TypeError unless `pretrain` can train the layers of a stack."""
    name = type(stack).__name__
    if not hasattr(stack, "layer"):
        raise TypeError(
            f"pretrain: {name} has no layers to train one by one; pass a "
            "StackedAutoencoder"
        )
    if hasattr(stack, "step"):
        if optimizer is not None:
            raise _own_update("pretrain", name, "optimizer")
    elif not callable(optimizer):
        raise TypeError(
            "pretrain: optimizer is missing; pass a function of a layer's parameters, "
            "like optim.Adam"
        )
