"""The game of a GAN: Algorithm 1 of Goodfellow et al. (2014)."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from scratchnet import backend
from scratchnet.backend import Array
from scratchnet.backend.philox import stream_for
from scratchnet.optim import Optimizer
from scratchnet.training.arguments import GAN, Average, check_fit_gan
from scratchnet.training.checkpoint import Save, State, save_last
from scratchnet.training.history import GANHistory
from scratchnet.training.loop import descend
from scratchnet.training.minibatches import begin
from scratchnet.training.run import Run, recordable
from scratchnet.training.state import NotFinite, RunState, Source, streams

__all__ = ["fit_gan"]

Move = Callable[[Any], Array]  # takes one network's step in a GAN; returns its loss


def play(
    run: "Game",
    optimizers: tuple[Optimizer, Optimizer] | None,
    average: Average | None,
) -> None:
    """Play the game of a GAN, with the engine or by hand.

    All else that a training needs is in `run`, as in `loop.train`.
    """

    def move_discriminator(gan: Any) -> Array:
        """Take one step of the discriminator; return its loss."""
        x, z = run.draw_x(), run.draw_z()
        if optimizers is None:  # by hand
            return gan.discriminator_step(x, z)
        return descend(gan.discriminator_loss(x, z), optimizers[1])

    def move_generator(gan: Any) -> Array:
        """Take one step of the generator; return its loss."""
        z, x = run.draw_z(), run.draw_x() if gan.paired else None
        if optimizers is None:  # by hand
            loss = gan.generator_step(z, x)
        else:
            loss = descend(gan.generator_loss(z, x), optimizers[0])
        if average is not None:
            average.update()
        return loss

    discriminator, generator = run.around(move_discriminator, move_generator)
    for _ in run.steps():
        for _ in range(run.discriminator_steps):
            discriminator()
        generator()


def fit_gan(
    gan: GAN,
    x: Array,
    *,
    steps: int,
    batch_size: int,
    rng: np.random.Generator,
    noise: np.random.Generator,
    discriminator_steps: int = 1,
    optimizers: tuple[Optimizer, Optimizer] | None = None,
    average: Average | None = None,
    every: int = 100,
    progress: bool = True,
    callback: Callable[[GANHistory], None] | None = None,
    checkpoints: Save | None = None,
    resume: State | None = None,
) -> GANHistory:
    """Play the game of a GAN on the samples x (Goodfellow et al. 2014, Algorithm 1).

    Args:
        gan: a GAN, with the engine or by hand.
        x: real samples (n, d).
        steps: the number of steps of the generator.
        batch_size: real samples, and rows of noise, in each step.
        rng: chooses new real samples for each step.
        noise: draws z. On a GPU, `rng` and `noise` only draw keys for streams on the
            device, and a step by hand is recorded and replayed, as for `fit`.
        discriminator_steps: steps of the discriminator before each of the generator.
        optimizers: for the engine, those of the generator and the discriminator.
        average: an `EMA` of the generator's parameters, updated after its steps.
        every: steps of the generator between two records of V, D(x) and D(G(z)).
        progress: show a progress bar, if stderr is a terminal.
        callback: called with the history after each record.
        checkpoints, resume: as for `fit`.

    Raises:
        TypeError, ValueError: an argument has a wrong type or value, or `resume` is
            from a game with other arguments. Nothing was trained then.
        FloatingPointError: V is no longer finite, as for `fit`; checked with each
            record.
        Stopped, OSError: from `checkpoints`.

    """
    x = check_fit_gan(
        gan, x, steps=steps, batch_size=batch_size, rng=rng, noise=noise,
        discriminator_steps=discriminator_steps, optimizers=optimizers,
        average=average, every=every, callback=callback,
    )  # fmt: skip
    chosen, drawn = stream_for(rng), stream_for(noise)
    of_g, of_d = optimizers or (
        getattr(gan, of, None) for of in ("optimizer", "discriminator_optimizer")
    )
    parts = {"model": gan, "optimizer": of_g, "discriminator_optimizer": of_d}
    if average is not None:
        parts["average"] = average
    history = GANHistory()
    state = RunState(
        "fit_gan", parts | streams(rng=chosen, noise=drawn),
        {"rng": rng, "noise": noise}, history, rows=len(x), steps=steps,
        batch_size=batch_size, discriminator_steps=discriminator_steps, every=every,
        average=average is not None,
    )  # fmt: skip
    run = Game(
        gan, state, steps, checkpoints, progress, x=x, batch_size=batch_size,
        discriminator_steps=discriminator_steps, chosen=chosen, drawn=drawn,
        every=every, history=history, callback=callback,
    )  # fmt: skip
    if checkpoints is not None or resume is not None:
        state.describe((x,))
    if resume is not None:
        run.resume(resume)
    with run:
        play(run, optimizers, average)
    save_last(checkpoints, run.saved(steps))
    return history


class Game(Run):
    """A run of `fit_gan`: the work around its loop, and the minibatches.

    Args:
        gan, state, steps, checkpoints, progress: as for `Run`.
        x: real samples.
        batch_size: samples, and rows of noise, in each move.
        discriminator_steps: steps of the discriminator before each of the generator.
        chosen: chooses the samples.
        drawn: draws the noise.
        every: steps between two records of V, D(x) and D(G(z)).
        history: holds the records.
        callback: called with the history after each record.

    """

    def __init__(
        self,
        gan: GAN,
        state: RunState,
        steps: int,
        checkpoints: Save | None,
        progress: bool,
        *,
        x: Array,
        batch_size: int,
        discriminator_steps: int,
        chosen: Source,
        drawn: Source,
        every: int,
        history: GANHistory,
        callback: Callable[[GANHistory], None] | None,
    ) -> None:
        super().__init__(gan, state, steps, checkpoints, progress)
        self.x, self.batch_size = x, batch_size
        self.discriminator_steps = discriminator_steps
        self.chosen, self.drawn = chosen, drawn
        self.every, self.history, self.callback = every, history, callback
        self.done = 0  # steps taken

    def resume(self, state: State) -> None:
        """Restore a state; if it does not fit, raise ValueError and change nothing."""
        self.state.restore(state)
        self.done = state.facts["step"]
        if self.callback is not None and self.history.steps[-1:] == [self.done]:
            self.callback(self.history)  # the stop came between saving and this call

    # For the loop

    def draw_x(self) -> Array:
        """Choose real samples."""
        rows = self.chosen.integers(len(self.x), size=self.batch_size)
        return self.x[backend.asarray(rows)]

    def draw_z(self) -> Array:
        """Draw noise."""
        shape = (self.batch_size, self.model.generator_sizes[0])
        return backend.asarray(self.drawn.standard_normal(shape, self.model.dtype.type))

    def steps(self) -> Iterator[int]:
        """Yield the remaining steps; record V after each `every` of them."""
        while self.done < self.total:
            end = min(self.done + self.every - self.done % self.every, self.total)
            steps = range(self.done, end)
            self.done = end
            yield from self.stretch(steps)
            if self.callback is not None:
                self.callback(self.history)

    def around(self, *moves: Move) -> tuple[Callable[[], object], ...]:
        """Return functions that make these moves: discriminator first, then generator.

        On a GPU a move by hand is recorded once and then replayed.
        """

        def begun(move: Move, gan: Any) -> Array:
            begin(self.chosen, self.drawn)
            return move(gan)

        self._moves = [partial(begun, move) for move in moves]
        turns = [partial(move, self.model) for move in self._moves]
        if recordable(self.model):
            return tuple(map(backend.capture, turns))
        return tuple(turns)

    # For `stretch`

    def take(self, i: int, model: Any) -> Array:
        """Take step i of a GAN without a replay; return the sum of its losses."""
        losses = backend.zeros((), model.dtype)
        discriminator, generator = self._moves
        for move in [discriminator] * self.discriminator_steps + [generator]:
            losses += move(model)
        return losses

    def look(self) -> None:
        """Record V, D(x) and D(G(z)); raise NotFinite if V is not finite."""
        begin(self.chosen, self.drawn)
        gan, step = self.model, self.done
        logits = gan.logits(self.draw_x()), gan.logits(gan.generate(self.draw_z()))
        a_r, a_f = (backend.to_numpy(a).astype(np.float64) for a in logits)
        log_real, log_fake = -np.logaddexp(0, -a_r), -np.logaddexp(0, -a_f)
        v = float(log_real.mean() - np.logaddexp(0, a_f).mean())
        if not np.isfinite(v):
            raise NotFinite(f"V became {v} by step {step}")
        self.history.steps.append(step)
        self.history.v.append(v)
        self.history.real.append(float(np.exp(log_real).mean()))
        self.history.generated.append(float(np.exp(log_fake).mean()))

    def name(self, i: int) -> str:
        """Return the name of step i, for errors."""
        return f"step {i + 1} of {self.total}"

    def taken(self) -> int:
        """Return the number of steps of the run before this loop."""
        return self.done
