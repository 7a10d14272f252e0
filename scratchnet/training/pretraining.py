"""Greedy pretraining of a stack of autoencoders, one layer after another."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from scratchnet.backend import Array
from scratchnet.optim import Optimizer
from scratchnet.tensor import Tensor
from scratchnet.training import distributed
from scratchnet.training.arguments import Stack, check_stack, uploaded
from scratchnet.training.checkpoint import Save, State, adding
from scratchnet.training.distributed import digest
from scratchnet.training.history import History
from scratchnet.training.loop import fit
from scratchnet.training.state import RunState, part_of

__all__ = ["pretrain"]


def pretrain(
    stack: Stack,
    x: Array,
    *,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    optimizer: Callable[[list[Tensor]], Optimizer] | None = None,
    progress: bool = True,
    checkpoints: Save | None = None,
    resume: State | None = None,
    group: distributed.Group | None = None,
) -> list[History]:
    """Train the layers of a stacked autoencoder greedily, from the first to the last.

    Each layer is an autoencoder for the codes of the layers below, which do not change
    (Bengio et al. 2007). `fit` can then train the whole stack.

    Args:
        stack: a StackedAutoencoder, with the engine or by hand.
        x: the samples (n, d).
        epochs: how many times each layer visits all samples.
        batch_size: samples in a minibatch.
        rng: shuffles the samples.
        optimizer: for the engine, a function that makes an optimiser from a layer's
            parameters, like `optim.Adam`.
        progress: show progress bars, if stderr is a terminal.
        checkpoints, resume, group: as for `fit`.

    Returns:
        A History for each layer.

    Raises:
        As `fit`; the layers below the failing one stay trained.

    """
    check_stack(stack, optimizer)
    (h,) = uploaded("pretrain", "x", (x,))
    if group is not None:
        distributed.check("pretrain", group, stack)
        parts = {"model": stack, "optimizer": getattr(stack, "optimizer", None)}
        state = RunState(
            "pretrain", parts, {"rng": rng}, None, rows=group.total(len(h)),
            batch_size=batch_size, epochs=epochs,
        )  # fmt: skip
        resume = state.shared(group, resume, checkpoints, x=(h,))
    # The mark identifies the data; a shard has none, as each process holds another.
    sharded = group is not None and group.sharded
    kept = checkpoints is not None or resume is not None
    mark = digest(h) if kept and not sharded else ""
    histories = [] if resume is None else _resumed(stack, resume, mark)
    first = len(histories) + 1
    for k in range(1, len(stack.sizes)):
        layer = stack.layer(k)
        if k >= first:
            save = checkpoints and adding(
                checkpoints,
                {f"stack.{name}": a for name, a in stack.state_dict().items()},
                layer=k,
                x=mark,
                layers=[asdict(made) for made in histories],
            )
            made = fit(
                layer, h, epochs=epochs, batch_size=batch_size, rng=rng,
                optimizer=None if optimizer is None else optimizer(layer.parameters()),
                progress=progress, checkpoints=save,
                resume=resume if k == first else None, group=group,
            )  # fmt: skip
            histories.append(made)
            stack.set_layer(k, layer)
        h = layer.encode(h)
    return histories


def _resumed(stack: Stack, state: State, mark: str) -> list[History]:
    """Restore the layers of a stack; return the histories of the finished layers.

    Raises:
        ValueError: the state is from another run, or damaged.

    """
    facts = state.facts
    if "layer" not in facts:
        raise ValueError("pretrain: resume: the state is not from a pretraining")
    if mark and facts.get("x", mark) not in ("", mark):
        raise ValueError("pretrain: resume: the state is from another run: x differs")
    try:
        histories = [History(**made) for made in facts["layers"]]
        if not len(histories) == facts["layer"] - 1 < len(stack.sizes) - 1:
            layer = facts["layer"]
            raise ValueError(f"layer {layer}, but {len(histories)} finished layers")
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"pretrain: resume: the state is damaged ({error})") from error
    stack.load_state_dict(part_of("stack", state.arrays))
    return histories
