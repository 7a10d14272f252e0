"""What stands around the loop of a training: progress, states, the hunt for a NaN."""

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
    """What a training needs, but for its loop.

    The loop asks `stretch` for the numbers of its steps and takes each one. In between,
    `stretch` moves the progress bar and offers states to the checkpoints; at the end it
    calls `look`. If a number is not finite, it goes back and takes the steps again
    (`take`), to say which one made it.

    Args:
        model: what is trained.
        state: what the states of the run are made of.
        total: steps of the whole run.
        checkpoints: is offered a state after each step; None: there are none.
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

    # What each kind of run has of its own

    @abstractmethod
    def take(self, i: int, model: Any) -> Array:
        """Take step i of a model, never by a replay; return its loss."""

    @abstractmethod
    def look(self) -> None:
        """Raise NotFinite if a number of the steps taken so far is not finite."""

    @abstractmethod
    def name(self, i: int) -> str:
        """Return what errors call step i."""

    @abstractmethod
    def taken(self) -> int:
        """Return how many steps of the run were taken before this loop."""

    def arrays(self) -> dict[str, Array]:
        """Return what a state holds besides the parts, by name."""
        return {}

    # What surrounds the steps

    def __enter__(self) -> Self:
        # Here, so that importing this module stays fast.
        from tqdm import tqdm

        # None is tqdm's word for "unless stderr is a terminal".
        hidden = None if self.progress and sys.stderr is not None else True
        self.bar = tqdm(
            total=self.total, initial=self.taken(), unit="step", disable=hidden
        )
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def stretch(self, steps: range) -> Iterator[int]:
        """Yield the numbers of some steps, each to be taken before the next is asked.

        Raises:
            FloatingPointError: a number is not finite. The message names the step and
                the operation; the run is as it was before that step.
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
        """Return what makes the state after so many steps."""
        return partial(self.state.after, step, **self.arrays())

    # The hunt for a NaN

    def diagnosis(
        self, error: NotFinite, good: State | None, steps: range
    ) -> FloatingPointError:
        """Find what made numbers that are not finite, and go back to before it.

        Args:
            error: what was noticed.
            good: the last snapshot; None if the parts have no state.
            steps: those since then, to be taken again.

        Returns:
            The error to raise. The run is as it was before the step that it names; or
            as it is, where there is no snapshot.

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
                        f"as it was before that step. {made}"
                    )
        state.restore(good)
        return FloatingPointError(
            f"{state.owner}: {error}; {hint}. It did not happen again; the model is as "
            f"it was before {self.name(steps.start)}"
        )


def operation(f: Callable[[Any], object], model: Any) -> str:
    """Call f(model); return which operation first made a number that is not finite."""
    if getattr(model, "group", None) is not None:
        return "One process alone finds out which operation made it."
    by_hand = hasattr(model, "step") or hasattr(model, "discriminator_step")
    try:
        with detect_anomaly():
            f(watched(model) if by_hand else model)
    except FloatingPointError as error:
        return f"First not finite:\n  {error}"
    except Exception as error:  # of a model that cannot be watched
        return f"(No operation was found: {error!r})"
    return "No single operation made it."


def recordable(model: Any) -> bool:
    """Return whether a recording of this model's step can be replayed, and gains."""
    return getattr(model, "recordable", False) and not backend.on_host()
