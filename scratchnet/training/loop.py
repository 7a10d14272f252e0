"""Training, of a model with the engine or by hand: epochs of shuffled minibatches."""

import contextlib
import copy
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from scratchnet import backend, checks
from scratchnet.backend import Array
from scratchnet.backend.philox import stream_for
from scratchnet.optim import Optimizer
from scratchnet.training import distributed
from scratchnet.training.arguments import (
    Batch,
    check_batch_size,
    check_callback,
    check_fit,
    uploaded,
)
from scratchnet.training.checkpoint import (
    Save,
    State,
    save_last,
)
from scratchnet.training.diagnosis import watch
from scratchnet.training.minibatches import noise_of, validation_loss
from scratchnet.training.state import NotFinite, RunState, streams


@dataclass
class History:
    """What a training run was like, one entry for each epoch.

    Attributes:
        losses: mean loss of the samples, each as it was when its minibatch came.
        validation_losses: mean loss of the validation samples after the epoch; empty
            if there are none.
        seconds: time that the epoch took, validation included.

    """

    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


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
    group: distributed.Group | None = None,
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
    held_out = None if validation is None else uploaded("fit", "validation", validation)
    if group is not None:
        distributed.check("fit", group, model)
        if checkpoints is not None and getattr(checkpoints, "group", None) is not group:
            raise ValueError("fit: checkpoints: pass Checkpoints(folder, group=group)")
    check_fit(model, data, optimizer, noise, held_out)
    n = len(data[0]) if group is None else group.total(len(data[0]))
    check_batch_size("fit", model, batch_size, n)
    source = stream_for(noise)
    draw = noise_of(model, source)
    quiet = noise.spawn(1)[0] if noise is not None else None
    # Here, so that importing this module stays fast.
    from tqdm import tqdm

    starts = range(0, n, batch_size)
    sizes = [min(batch_size, n - start) for start in starts]
    # The losses of an epoch stay where they are computed until its end.
    losses = backend.zeros(len(starts), data[0].dtype)
    order = np.arange(n)
    indices = backend.asarray(order)
    history = History()
    place = RunState(
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
    done = 0  # steps of the epoch
    if group is not None:
        resume = group.from_first(resume)
        group.agree("fit", {
            **place.everything(),
            **distributed.facts_of("x", data, group.sharded),
            **distributed.facts_of("validation", held_out or (), False),
            "checkpoints": checkpoints is not None,
        })  # fmt: skip
    if checkpoints is not None or resume is not None:
        place.describe(() if group is not None and group.sharded else data)
    if resume is not None:
        place.check_facts(resume.facts)
        _check_order(resume, n, len(starts))
        restored = place.restore(resume, losses=losses, order=order)
        losses[...] = backend.asarray(restored["losses"])
        order = restored["order"]
        done = resume.facts["step"]

    def step(i: int, model: Any) -> Array:
        # Fresh arrays each time: the graph of the last loss may still read the last
        # ones.
        end = starts[i] + batch_size
        if group is not None:
            rows = order[starts[i] : end]
            part = group.share(data, rows, draw if noise is not None else None)
            return model.step(*part, total_rows=len(rows))
        return train_on(indices[starts[i] : end], model)

    def train_on(rows: Array, model: Any) -> Array:
        return _step(model, draw(*[a[rows] for a in data]), optimizer)

    # The same for a recording, which finds in an array which step it is.
    position = backend.zeros(1, np.int64)
    within = backend.asarray(np.arange(batch_size))

    def next_step() -> None:
        rows = np.take(indices, position * batch_size + within)
        losses[position] = train_on(rows, model)
        np.add(position, 1, out=position)

    replay = None
    if recordable(model) and group is None:
        replay = backend.capture(next_step)

    def validate(model: Any) -> float:
        same = noise_of(model, stream_for(copy.deepcopy(quiet)))
        return validation_loss(model, held_out or (), batch_size, same, group)

    def name(epoch: int, i: int) -> str:
        return f"epoch {epoch + 1}, step {i + 1} of {len(starts)}"

    first = len(history.losses)
    shown = progress and (group is None or group.rank == 0)
    began_at = first * len(starts) + done
    with (
        trained_by(group, model),
        tqdm(
            total=epochs * len(starts),
            initial=began_at,
            unit="step",
            disable=no_bar(shown),
        ) as bar,
    ):
        for epoch in range(first, epochs):
            began = time.perf_counter()
            if not done:
                order = rng.permutation(n)
            indices[...] = backend.asarray(order)
            position[...] = done
            good = place.snapshot(done)
            try:
                for i in range(done, len(starts)):
                    if replay is not None and sizes[i] == batch_size:
                        replay()
                    else:
                        losses[i] = step(i, model)
                    bar.update(1)
                    if checkpoints is not None:
                        checkpoints(
                            partial(place.state, i + 1, losses=losses, order=order)
                        )
                host = backend.to_numpy(losses).astype(np.float64)
                if not np.isfinite(host).all():
                    i = int(np.argmin(np.isfinite(host)))
                    raise NotFinite(f"the loss became {host[i]} in {name(epoch, i)}")
                place.check()  # the last update has no loss to show itself in
                if group is not None:
                    group.agree("fit", {"the weights": model.theta})
            except NotFinite as error:
                steps = range(done, len(starts))
                raise place.diagnosis(
                    error, good, steps, step, model, partial(name, epoch)
                ) from None
            done = 0
            history.losses.append(float(np.average(host, weights=sizes)))
            if held_out is not None:
                loss = validate(model)
                if not np.isfinite(loss):
                    made = watch(lambda _, model: validate(model), 0, model)
                    raise FloatingPointError(
                        f"fit: the validation loss became {loss} in epoch {epoch + 1}; "
                        f"a smaller learning rate may help. {made}"
                    )
                history.validation_losses.append(loss)
            history.seconds.append(time.perf_counter() - began)
            bar.set_postfix(epoch=epoch + 1, loss=history.losses[-1])
            if callback is not None:
                callback(history)
    save_last(checkpoints, partial(place.state, 0, losses=losses, order=order))
    return history


def _check_order(state: State, n: int, steps: int) -> None:
    """Raise ValueError unless a state visits each of n samples once, in so many steps.

    Of an order of another length `RunState.restore` says more.
    """
    order = state.arrays.get("order")
    wrong = state.facts["step"] > steps
    if order is not None and order.shape == (n,):
        wrong = wrong or not np.array_equal(np.sort(order), np.arange(n))
    if wrong:
        raise ValueError(f"fit: resume: the state is damaged, or not of {n} samples")


def no_bar(shown: bool) -> bool | None:
    """Return tqdm's `disable`; None is its word for "unless stderr is a terminal"."""
    return None if shown and sys.stderr is not None else True


@contextlib.contextmanager
def trained_by(group: distributed.Group | None, model: Any) -> Iterator[None]:
    """Have the model's steps sum over the processes of a group."""
    if group is None:
        yield
        return
    model.group = group
    try:
        yield
    finally:
        model.group = None


def recordable(model: Any) -> bool:
    """Say whether a step does the same to the same arrays, and gains by a recording."""
    return getattr(model, "recordable", False) and not backend.on_host()


def _step(model: Any, batch: Batch, optimizer: Optimizer | None) -> Array:
    """Train on one minibatch; return its loss, still on the device."""
    if optimizer is None:
        return model.step(*batch)
    return descend(optimizer, model.loss(*batch))


def descend(optimizer: Optimizer, loss: Any) -> Array:
    """Take one step down a recorded loss; return its value, still on the device."""
    optimizer.zero_grad()
    loss.backward(inputs=optimizer.parameters)
    optimizer.step()
    return loss.data
