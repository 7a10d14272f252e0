"""The game of two: `fit_gan`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from scratchnet import backend, checks
from scratchnet.backend import Array
from scratchnet.backend.philox import stream_for
from scratchnet.optim import Optimizer
from scratchnet.training.arguments import (
    check_batch_size,
    check_callback,
    check_data,
    uploaded,
)
from scratchnet.training.checkpoint import (
    Save,
    State,
    save_last,
)
from scratchnet.training.loop import descend, no_bar, recordable
from scratchnet.training.minibatches import begin
from scratchnet.training.state import NotFinite, RunState, streams


@dataclass
class GANHistory:
    """What a game was like, one entry for each time that it was looked at.

    Attributes:
        steps: how many steps the generator had taken.
        v: V(D, G) on a minibatch.
        real: mean D(x) there, the probability given to real samples of being real.
        generated: mean D(G(z)) there, that given to generated ones.

    """

    steps: list[int] = field(default_factory=list)
    v: list[float] = field(default_factory=list)
    real: list[float] = field(default_factory=list)
    generated: list[float] = field(default_factory=list)


def fit_gan(
    gan: Any,
    x: Array,
    *,
    steps: int,
    batch_size: int,
    rng: np.random.Generator,
    noise: np.random.Generator,
    discriminator_steps: int = 1,
    optimizers: tuple[Optimizer, Optimizer] | None = None,
    average: Any = None,
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
        steps: of the generator.
        batch_size: real samples, and rows of noise, in each step.
        rng: chooses the real samples, each time anew.
        noise: draws z. On a GPU both only give keys to streams there, and a step by
            hand is recorded and replayed, as for `fit`.
        discriminator_steps: of the discriminator before each step of the generator.
        optimizers: for the engine, of the generator and of the discriminator.
        average: an `EMA` of the generator's parameters, updated after its steps.
        every: how often to note V, D(x) and D(G(z)), in steps of the generator.
        progress: show a progress bar, if stderr is a terminal.
        callback: called with the history each time that it has grown.
        checkpoints, resume: as for `fit`.

    Raises:
        TypeError, ValueError: an argument is not what is said above, or `resume` is of
            a game with other arguments; nothing was trained then.
        FloatingPointError: V is not finite any more, as for `fit`; looked at when it
            is noted.
        Stopped, OSError: from `checkpoints`.

    """
    check_callback("fit_gan", callback)
    if average is not None and not hasattr(average, "update"):
        raise TypeError(f"fit_gan: average is {average!r}; an EMA expected")
    for name, count in [("steps", steps), ("batch_size", batch_size), ("every", every),
                        ("discriminator_steps", discriminator_steps)]:  # fmt: skip
        checks.count("fit_gan", name, count)
    checks.rng("fit_gan", rng)
    checks.rng("fit_gan: noise", noise)
    _sides(gan, optimizers)  # both are there, or an error
    (x,) = uploaded("fit_gan", "x", (x,))
    check_data("fit_gan", gan, "x", (x,))
    check_batch_size("fit_gan", gan, batch_size, len(x))
    checks.packs(batch_size, gan.packing)
    from tqdm import tqdm

    chosen, drawn = stream_for(rng), stream_for(noise)

    def real() -> Array:
        return x[backend.asarray(chosen.integers(len(x), size=batch_size))]

    def z() -> Array:
        shape = (batch_size, gan.generator_sizes[0])
        return backend.asarray(drawn.standard_normal(shape, gan.dtype.type))

    def move_d(gan: Any) -> Array:
        """Take one step of the discriminator; return its loss."""
        begin(chosen, drawn)
        step, _ = _sides(gan, optimizers)
        return step(real(), z())

    def move_g(gan: Any) -> Array:
        """Take one step of the generator; return its loss."""
        begin(chosen, drawn)
        _, step = _sides(gan, optimizers)
        loss = step(z(), real() if gan.paired else None)
        if average is not None:
            average.update()
        return loss

    moves = [move_d] * discriminator_steps + [move_g]

    def take(step: int, gan: Any) -> Array:
        """Take one step of the generator, and those of the discriminator before it."""
        losses = backend.zeros((), gan.dtype)
        for move in moves:
            losses += move(gan)
        return losses

    history = GANHistory()
    of_g, of_d = optimizers or (
        getattr(gan, of, None) for of in ("optimizer", "discriminator_optimizer")
    )
    parts = {"model": gan, "optimizer": of_g, "discriminator_optimizer": of_d}
    if average is not None:
        parts["average"] = average
    parts |= streams(rng=chosen, noise=drawn)
    replays = {}
    if recordable(gan):
        replays = {move: backend.capture(partial(move, gan)) for move in set(moves)}
    place = RunState(
        "fit_gan", parts, {"rng": rng, "noise": noise}, history, rows=len(x),
        steps=steps, batch_size=batch_size, discriminator_steps=discriminator_steps,
        every=every, average=average is not None,
    )  # fmt: skip
    done = 0
    if checkpoints is not None or resume is not None:
        place.describe((x,))
    if resume is not None:
        place.restore(resume)
        done = resume.facts["step"]
        if callback is not None and history.steps[-1:] == [done]:
            callback(history)  # it was to come after the state was saved
    good, since = place.snapshot(done), done + 1
    for step in tqdm(
        range(done + 1, steps + 1), initial=done, total=steps, unit="step",
        disable=no_bar(progress),
    ):  # fmt: skip
        noted = step % every == 0 or step == steps
        try:
            if replays:
                for move in moves:
                    replays[move]()
            else:
                take(step, gan)
            if noted:
                begin(chosen, drawn)
                _note(history, step, gan.logits(real()), gan.logits(gan.generate(z())))
            if checkpoints is not None:
                checkpoints(partial(place.state, step))
        except NotFinite as error:
            again = range(since, step + 1)
            raise place.diagnosis(
                error, good, again, take, gan, lambda step: f"step {step} of {steps}"
            ) from None
        if noted:
            good, since = place.snapshot(step), step + 1
            if callback is not None:
                callback(history)
    save_last(checkpoints, partial(place.state, steps))
    return history


def _sides(
    gan: Any, optimizers: tuple[Optimizer, Optimizer] | None
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the step of the discriminator and that of the generator."""
    if hasattr(gan, "discriminator_step"):
        if optimizers is not None:
            raise TypeError(
                "fit_gan: this GAN steps by itself; give the optimizers to its "
                "constructor"
            )
        return gan.discriminator_step, gan.generator_step
    if not isinstance(optimizers, tuple) or len(optimizers) != 2:
        raise TypeError(
            "fit_gan: two optimizers expected, like (Adam(gan.generator.parameters()), "
            "Adam(gan.discriminator.parameters()))"
        )
    g, d = optimizers
    return (
        lambda x, z: descend(d, gan.discriminator_loss(x, z)),
        lambda z, x: descend(g, gan.generator_loss(z, x)),
    )


def _note(history: GANHistory, step: int, a_r: Array, a_f: Array) -> None:
    """Note V, D(x) and D(G(z)), of the logits a_r of real and a_f of generated."""
    a_r, a_f = (backend.to_numpy(a).astype(np.float64) for a in (a_r, a_f))
    log_real, log_fake = -np.logaddexp(0, -a_r), -np.logaddexp(0, -a_f)
    v = float(log_real.mean() - np.logaddexp(0, a_f).mean())
    if not np.isfinite(v):
        raise NotFinite(f"V became {v} by step {step}")
    history.steps.append(step)
    history.v.append(v)
    history.real.append(float(np.exp(log_real).mean()))
    history.generated.append(float(np.exp(log_fake).mean()))
