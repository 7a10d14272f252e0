"""The loop of a training: epochs of shuffled minibatches, down one loss."""

from collections.abc import Callable
from typing import Any

import numpy as np

from scratchnet import checks
from scratchnet.backend import Array
from scratchnet.backend.philox import stream_for
from scratchnet.optim import Optimizer
from scratchnet.training.arguments import (
    check_batch_size,
    check_callback,
    check_fit,
    check_group,
    uploaded,
)
from scratchnet.training.checkpoint import Save, State
from scratchnet.training.descent import Descent
from scratchnet.training.distributed import Group
from scratchnet.training.history import History
from scratchnet.training.minibatches import Minibatches, Validation, noise_of
from scratchnet.training.state import RunState, streams


def train(run: Descent, model: Any, optimizer: Optimizer | None) -> None:
    """Train a model, with the engine or by hand, for the epochs of a run.

    What else a run needs is around this loop, in `run`: a progress bar, states to
    resume from, the hunt for a NaN, other processes, and on a GPU a recording.
    """
    minibatches = run.minibatches

    def step(i: int | Array, model: Any) -> Array:
        """Take one step down the loss of minibatch i; return that loss."""
        batch = minibatches.draw(i)
        if optimizer is None:  # by hand: one method for the loss and all of `descend`
            return model.step(*batch)
        return descend(model.loss(*batch), optimizer)

    take = run.around(step)
    for _ in run.epochs():
        minibatches.shuffle()
        for i in run.steps():
            take(i)


def descend(loss: Any, optimizer: Optimizer) -> Array:
    """Take one step down a loss; return its value, still on the device."""
    optimizer.zero_grad()
    loss.backward(inputs=optimizer.parameters)
    optimizer.step()
    return loss.data


def fit(
    model: Any,
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
    """Train a model on the samples x, and say how it went.

    Every epoch visits all samples once, in an order of its own, `batch_size` at a time;
    the last minibatch holds what is left. Where the model wants noise (a VAE's ε, a
    corruption), it has a method `with_noise`, and each minibatch gets its own.

    On a GPU the noise is drawn there, by a `philox.Stream` with a key that `noise`
    draws; and by hand a step is recorded and then replayed (`backend.capture`), but for
    the last, smaller minibatch of an epoch, which is computed as it comes. What a
    callback changes in between, but for a learning rate, a recording does not know of.

    Args:
        model: with the engine, anything with `loss(*batch)`, trained by `optimizer`; or
            by hand, anything with `step(*batch)`, which brings its own update.
        x: the samples (n, d), in the dtype of the model: nothing is cast in passing. Or
            a tuple of arrays with n rows each, (x, label), that belong together.
        epochs: how many times to visit all samples.
        batch_size: samples in a minibatch, at most n.
        rng: shuffles; only the order of the samples comes from it.
        optimizer: for a model with the engine.
        noise: draws the noise, for a model that wants some.
        validation: like x; its loss is taken after each epoch, every time under the
            same noise.
        progress: show a progress bar, if stderr is a terminal.
        callback: called after each epoch with the history so far.
        checkpoints: a `Checkpoints`; is handed the state after each step, to be written
            now and then, and the state after the last step.
        resume: a state of such a run, `checkpoints.last()`. With the same arguments as
            in that run, generators made from the same seeds among them, the run goes on
            from there and ends as it would have ended, to the last bit. `epochs` may
            differ: more of them extend a run, also one that has ended.
        group: other processes, which call `fit` with the same arguments (but x, if the
            group is `sharded`), to train the same model by hand together. `batch_size`
            is the rows of all. Process 0 has the progress bar, and its state counts.
            Before the first step they compare all that makes the run, data too.

    Raises:
        TypeError, ValueError: an argument is not what is said above, x is empty or
            has values that are not finite, or `resume` is of a run with other
            arguments; nothing was trained then.
        FloatingPointError: the loss is not finite any more. Looked at once an epoch,
            as looking would make a GPU wait. The epoch is then gone through again, to
            say in which step, and which operation (with the engine) or line (by hand)
            made the first number that is not finite; model, optimizer and generators
            are left as they were before that step.
        Stopped, OSError: from `checkpoints`.

    """
    checks.count("fit", "epochs", epochs)
    checks.count("fit", "batch_size", batch_size)
    checks.rng("fit", rng)
    check_callback("fit", callback)
    data = uploaded("fit", "x", x)
    held_out = () if validation is None else uploaded("fit", "validation", validation)
    check_group("fit", group, model, checkpoints)
    check_fit(model, data, optimizer, noise, None if validation is None else held_out)
    n = len(data[0]) if group is None else group.total(len(data[0]))
    check_batch_size("fit", model, batch_size, n)
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
        rows=n, batch_size=batch_size, epochs=epochs, validation=validation is not None,
    )  # fmt: skip
    run = Descent(
        model,
        Minibatches(data, n, batch_size, rng, noise_of(model, source)),
        state,
        history,
        epochs=epochs,
        validation=Validation(held_out, batch_size, quiet, group) if held_out else None,
        callback=callback,
        checkpoints=checkpoints,
        group=group,
        progress=progress,
    )
    resume = state.shared(group, resume, checkpoints, x=data, validation=held_out)
    if checkpoints is not None or resume is not None:
        state.describe(() if group is not None and group.sharded else data)
    if resume is not None:
        run.resume(resume)
    with run:
        train(run, model, optimizer)
    run.save_last(0)
    return history
