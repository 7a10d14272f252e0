"""A run of `fit`: the work around its loop, epoch by epoch."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self

import numpy as np

from scratchnet import backend
from scratchnet.backend import Array
from scratchnet.training.checkpoint import Save, State
from scratchnet.training.distributed import Group
from scratchnet.training.history import History
from scratchnet.training.minibatches import Minibatches, Validation
from scratchnet.training.run import Run, operation, recordable
from scratchnet.training.state import NotFinite, RunState

Step = Callable[[Any, Any], Array]  # (number of the step, model) -> loss


class Descent(Run):
    """A run of `fit`.

    Args:
        model, state, checkpoints, progress: as for `Run`.
        minibatches: the minibatches of the data.
        history: records each epoch.
        epochs: the number of epochs of the whole run.
        validation: its loss is recorded too; or None.
        callback: called with the history after each epoch.
        group: the processes that take each step together.

    Attributes:
        losses: the loss of each minibatch of this epoch, on the device until its end.

    """

    def __init__(
        self,
        model: Any,
        minibatches: Minibatches,
        state: RunState,
        history: History,
        *,
        epochs: int,
        validation: Validation | None,
        callback: Callable[[History], None] | None,
        checkpoints: Save | None,
        group: Group | None,
        progress: bool,
    ) -> None:
        shown = progress and (group is None or group.rank == 0)
        super().__init__(model, state, epochs * len(minibatches), checkpoints, shown)
        self.minibatches = minibatches
        self.history = history
        self.epochs_in_all = epochs
        self.validation = validation
        self.callback = callback
        self.group = group
        self.losses = backend.zeros(len(minibatches), minibatches.data[0].dtype)
        self.done = 0  # steps of this epoch taken before the run was resumed

    def resume(self, state: State) -> None:
        """Restore a state; if it does not fit, raise ValueError and change nothing."""
        batches = self.minibatches
        self.state.check_facts(state.facts)
        _check_order(state, len(batches.order), len(batches))
        arrays = self.state.restore(state, **self.arrays())
        self.losses[...] = backend.asarray(arrays["losses"])
        self.done = state.facts["step"]
        if self.done:
            batches.resume(arrays["order"])

    def __enter__(self) -> Self:
        if self.group is not None:
            self.model.group = self.group  # a step sums over the processes
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        if self.group is not None:
            self.model.group = None
        super().__exit__(*error)

    # For the loop

    def epochs(self) -> Iterator[int]:
        """Yield the remaining epochs; after each, record its losses."""
        history = self.history
        for epoch in range(len(history.losses), self.epochs_in_all):
            began = time.perf_counter()
            yield epoch
            self.done = 0
            history.losses.append(self._mean_loss)
            if self.validation is not None:
                history.validation_losses.append(self._validate(self.validation))
            history.seconds.append(time.perf_counter() - began)
            self.bar.set_postfix(epoch=epoch + 1, loss=history.losses[-1])
            if self.callback is not None:
                self.callback(history)

    def steps(self) -> Iterator[int]:
        """Yield the remaining steps of an epoch."""
        return self.stretch(range(self.done, len(self.minibatches)))

    def around(self, step: Step) -> Callable[[int], None]:
        """Return a function that takes step i and records its loss.

        It calls `step`, or shares the step among several processes. On a GPU a step by
        hand is recorded and then replayed, except for a smaller last minibatch.
        """
        if self.group is not None:
            step = partial(self._shared_step, self.group)
        self._step = step
        model, losses, batches = self.model, self.losses, self.minibatches

        def take(i: int) -> None:
            losses[i] = step(i, model)

        if self.group is not None or not recordable(model):
            return take
        position = backend.zeros(1, np.int64)  # the number of the step, for a recording

        def next_step() -> None:
            losses[position] = step(position, model)
            np.add(position, 1, out=position)

        replay = backend.capture(next_step)

        def take_or_replay(i: int) -> None:
            if i == self.done:  # the first of the epoch
                position[...] = i
            if batches.sizes[i] == batches.batch_size:
                replay()
            else:
                take(i)

        return take_or_replay

    def _shared_step(self, group: Group, i: int, model: Any) -> Array:
        """Take this process's part of step i; return the loss of all parts."""
        batches = self.minibatches
        rows = batches.rows(i)
        part = group.share(batches.data, rows, batches.add_noise)
        return model.step(*part, total_rows=len(rows))

    def _validate(self, validation: Validation) -> float:
        loss = validation.loss(self.model)
        if not np.isfinite(loss):
            made = operation(validation.loss, self.model)
            epoch = len(self.history.losses)
            raise FloatingPointError(
                f"fit: the validation loss became {loss} in epoch {epoch}; a smaller "
                f"learning rate may help. {made}"
            )
        return loss

    # For `stretch`

    def take(self, i: int, model: Any) -> Array:
        """Take step i of a model without a replay; return its loss."""
        return self._step(i, model)

    def look(self) -> None:
        """Raise NotFinite if a loss of the epoch or a weight is not finite."""
        losses = backend.to_numpy(self.losses).astype(np.float64)
        finite = np.isfinite(losses)
        if not finite.all():
            i = int(np.argmin(finite))
            raise NotFinite(f"the loss became {losses[i]} in {self.name(i)}")
        self.state.check()  # no loss shows the last update
        if self.group is not None:
            self.group.agree("fit", {"the weights": self.model.theta})
        self._mean_loss = float(np.average(losses, weights=self.minibatches.sizes))

    def name(self, i: int) -> str:
        """Return the name of step i, for errors."""
        epoch = len(self.history.losses) + 1
        return f"epoch {epoch}, step {i + 1} of {len(self.minibatches)}"

    def taken(self) -> int:
        """Return the number of steps of the run before this loop."""
        return len(self.history.losses) * len(self.minibatches) + self.done

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that a state holds besides the parts, by name."""
        return {"losses": self.losses, "order": self.minibatches.order}


def _check_order(state: State, n: int, steps: int) -> None:
    """Raise ValueError unless a state visits each of n samples once in the given steps.

    `RunState.restore` checks the length of the order, with a better message.
    """
    order = state.arrays.get("order")
    wrong = state.facts["step"] > steps
    if order is not None and order.shape == (n,):
        wrong = wrong or not np.array_equal(np.sort(order), np.arange(n))
    if wrong:
        raise ValueError(f"fit: resume: the state is damaged, or not for {n} samples")
