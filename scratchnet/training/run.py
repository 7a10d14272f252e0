"""The work around a training loop: progress, checkpoints, the search for a NaN."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self

import numpy as np

from scratchnet import backend
from scratchnet.anomaly import detect_anomaly, watched
from scratchnet.backend import Array
from scratchnet.training.checkpoint import Save, State
from scratchnet.training.state import NotFinite, RunState


class Run(ABC):
    """Everything that a training needs except its loop.

    The loop gets the numbers of its steps from `stretch` and takes each step. In
    between, `stretch` moves the progress bar and passes states to the checkpoints; at
    the end it calls `look`. If a number is not finite, it goes back and takes the steps
    again (`take`), to find the step that made it.

    Args:
        model: the model to train.
        state: makes and restores the states of the run.
        total: the number of steps of the whole run.
        checkpoints: gets a state after each step; or None.
        progress: whether to show a progress bar, if stderr is a terminal.

    """

    def __init__(
        self,
        model: Any,
        state: RunState,
        total: int,
        checkpoints: Save | None,
        progress: bool,
    ) -> None:
        self.model = model
        self.state = state
        self.total = total
        self.checkpoints = checkpoints
        self.progress = progress

    # Each kind of run defines these

    @abstractmethod
    def take(self, i: int, model: Any) -> Array:
        """Take step i of a model without a replay; return its loss."""

    @abstractmethod
    def look(self) -> None:
        """Raise NotFinite if a number of the steps taken so far is not finite."""

    @abstractmethod
    def name(self, i: int) -> str:
        """Return the name of step i, for errors."""

    @abstractmethod
    def taken(self) -> int:
        """Return the number of steps of the run before this loop."""

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that a state holds besides the parts, by name."""
        return {}

    # Around the steps

    def __enter__(self) -> Self:
        # Here, so that importing this module stays fast.
        from tqdm import tqdm

        # For tqdm, None means "hidden unless stderr is a terminal".
        hidden = None if self.progress and sys.stderr is not None else True
        self.bar = tqdm(
            total=self.total, initial=self.taken(), unit="step", disable=hidden
        )
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def stretch(self, steps: range) -> Iterator[int]:
        """Yield the numbers of some steps; the caller takes each before the next.

        Raises:
            FloatingPointError: a number is not finite. The message names the step and
                the operation; the run is restored to the state before that step.
            Stopped, OSError: from the checkpoints.

        """
        good = self.state.snapshot(steps.start) if self.state.whole else None
        i = steps.start
        try:
            for i in steps:
                yield i
                self.bar.update(1)
                if self.checkpoints is not None and i + 1 < steps.stop:
                    self.checkpoints(self.saved(i + 1))
            self.look()
            if self.checkpoints is not None and steps:
                self.checkpoints(self.saved(steps.stop))
        except NotFinite as error:
            again = range(steps.start, i + 1)
            raise self.diagnosis(error, good, again) from None

    def saved(self, step: int) -> Callable[[], State]:
        """Return a function that makes the state after this number of steps."""
        return partial(self.state.after, step, **self.arrays())

    # The search for a NaN

    def diagnosis(
        self, error: NotFinite, good: State | None, steps: range
    ) -> FloatingPointError:
        """Find the step that made a non-finite number; restore the state before it.

        Args:
            error: the error to explain.
            good: the last snapshot; None if the parts have no state.
            steps: the steps since then, to be taken again.

        Returns:
            The error to raise. Without a snapshot nothing is restored.

        """
        state, hint = self.state, "a smaller learning rate may help"
        if good is None:
            return FloatingPointError(f"{state.owner}: {error}; {hint}")
        state.restore(good)
        with np.errstate(all="ignore"):
            for i in steps:
                before = state.snapshot(i)
                loss = backend.asarray(self.take(i, self.model))
                try:
                    state.check(**{"the loss": loss})
                except NotFinite as bad:
                    state.restore(before)
                    made = operation(partial(self.take, i), self.model)
                    state.restore(before)
                    return FloatingPointError(
                        f"{state.owner}: {bad} in {self.name(i)}; {hint}. The model is "
                        f"restored to the state before that step. {made}"
                    )
        state.restore(good)
        return FloatingPointError(
            f"{state.owner}: {error}; {hint}. A replay did not reproduce it; the model "
            f"is restored to the state before {self.name(steps.start)}"
        )


def operation(f: Callable[[Any], object], model: Any) -> str:
    """Call f(model); return the operation that first made a non-finite number."""
    if getattr(model, "group", None) is not None:
        return "To find the operation, train with one process."
    by_hand = hasattr(model, "step") or hasattr(model, "discriminator_step")
    try:
        with detect_anomaly():
            f(watched(model) if by_hand else model)
    except FloatingPointError as error:
        return f"First not finite:\n  {error}"
    except Exception as error:  # from a model that cannot be watched
        return f"(No operation was found: {error!r})"
    return "No single operation made it."


def recordable(model: Any) -> bool:
    """Return whether to record and replay this model's step."""
    return getattr(model, "recordable", False) and not backend.on_host()
