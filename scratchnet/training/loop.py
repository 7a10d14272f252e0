"""The training loop of models with one loss: epochs of shuffled minibatches."""

from collections.abc import Callable
from typing import Any

import numpy as np

from scratchnet.backend import Array
from scratchnet.backend.philox import stream_for
from scratchnet.optim import Optimizer
from scratchnet.training.arguments import WithLoss, WithStep, check_fit
from scratchnet.training.checkpoint import Save, State, save_last
from scratchnet.training.descent import Descent
from scratchnet.training.distributed import Group
from scratchnet.training.history import History
from scratchnet.training.minibatches import Minibatches, Validation, noise_of
from scratchnet.training.state import RunState, streams

__all__ = ["fit"]


def train(run: Descent, optimizer: Optimizer | None) -> None:
    """Train a model, with the engine or by hand.

    `run` handles the rest: the progress bar, checkpoints, the search for a NaN, several
    processes, and recording on a GPU. The GAN's loop is in gan.py.
    """

    def step(i: int, model: Any) -> Array:
        """Take one step on minibatch i; return its loss before the step."""
        batch = run.minibatches.draw(i)
        if optimizer is None:  # by hand: the loss and all of `descend` in one method
            return model.step(*batch)
        return descend(model.loss(*batch), optimizer)

    take = run.around(step)
    for _ in run.epochs():
        run.minibatches.shuffle()
        for i in run.steps():
            take(i)


def descend(loss: Any, optimizer: Optimizer) -> Array:
    """Take one step of gradient descent; return the loss, still on the device."""
    optimizer.zero_grad()
    loss.backward(inputs=optimizer.parameters)
    optimizer.step()
    return loss.data


def fit(
    model: WithLoss | WithStep,
    x: Array | tuple[Array, ...],
    *,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    optimizer: Optimizer | None = None,
    noise: np.random.Generator | None = None,
    validation: Array | tuple[Array, ...] | None = None,
    progress: bool = True,
    callback: Callable[[History], None] | None = None,
    checkpoints: Save | None = None,
    resume: State | None = None,
    group: Group | None = None,
) -> History:
    """Train a model on the samples x; return the curves of its loss.

    Every epoch visits all samples once, in a new order, `batch_size` at a time; the
    last minibatch may be smaller. A model that needs noise (a VAE's ε, a corruption)
    has a method `with_noise`, and each minibatch gets new noise.

    On a GPU the noise is drawn by a `philox.Stream`, whose key comes from `noise`. A
    step by hand is recorded once and then replayed (`backend.capture`), except for a
    smaller last minibatch. A recording sees a new learning rate; it does not see any
    other change that a callback makes.

    Args:
        model: with the engine, an object with `loss(*batch)`, trained by `optimizer`;
            or by hand, an object with `step(*batch)`, which has its own update.
        x: the samples (n, d), in the dtype of the model: nothing is cast silently. Or
            a tuple of arrays with n rows each, like (x, label).
        epochs: how many times to visit all samples.
        batch_size: samples in a minibatch, at most n.
        rng: shuffles the samples, and draws nothing else.
        optimizer: for a model with the engine.
        noise: draws the noise, for a model that needs it.
        validation: like x; its loss is computed after each epoch, always with the same
            noise.
        progress: show a progress bar, if stderr is a terminal.
        callback: called after each epoch with the history so far.
        checkpoints: a `Checkpoints`. It gets the state after each step and decides
            whether to write it; it always writes the state after the last step.
        resume: the state of an interrupted run, `checkpoints.last()`. With the same
            arguments, and generators made from the same seeds, the run ends as without
            the interruption, to the last bit. `epochs` may be larger: this extends a
            run, even a finished one.
        group: other processes that train the same model by hand together. They call
            `fit` with the same arguments, except x if the group is `sharded`.
            `batch_size` counts the rows of all processes. Process 0 shows the progress
            bar, and its state is used. Before the first step the processes compare all
            arguments, the data included.

    Raises:
        TypeError, ValueError: an argument has a wrong type or value, x is empty or has
            values that are not finite, or `resume` is from a run with other arguments.
            Nothing was trained then.
        FloatingPointError: the loss is no longer finite. `fit` checks this once an
            epoch, because a check makes a GPU wait. It then repeats the epoch to find
            the step, and the operation (with the engine) or line (by hand) that made
            the first non-finite number. Model, optimizer and generators are restored to
            the state before that step.
        Stopped, OSError: from `checkpoints`.

    """
    data, held_out, n = check_fit(
        model, x, epochs=epochs, batch_size=batch_size, rng=rng, optimizer=optimizer,
        noise=noise, validation=validation, callback=callback,
        checkpoints=checkpoints, group=group,
    )  # fmt: skip
    source = stream_for(noise)
    quiet = None if noise is None else noise.spawn(1)[0]
    history = History()
    state = RunState(
        "fit",
        {
            "model": model,
            "optimizer": optimizer or getattr(model, "optimizer", None),
            **streams(noise=source),
        },
        {"rng": rng, "noise": noise, "quiet": quiet},
        history,
        rows=n, batch_size=batch_size, epochs=epochs, validation=held_out is not None,
    )  # fmt: skip
    minibatches = Minibatches(data, n, batch_size, rng, noise_of(model, source))
    validated = None
    if held_out is not None:
        validated = Validation(held_out, batch_size, quiet, group)
    run = Descent(
        model, minibatches, state, history, epochs=epochs, validation=validated,
        callback=callback, checkpoints=checkpoints, group=group, progress=progress,
    )  # fmt: skip
    resume = state.shared(group, resume, checkpoints, x=data, validation=held_out or ())
    if checkpoints is not None or resume is not None:
        state.describe(() if group is not None and group.sharded else data)
    if resume is not None:
        run.resume(resume)
    with run:
        train(run, optimizer)
    save_last(checkpoints, run.saved(0))
    return history
