"""The history of a training: the curves that `fit` and `fit_gan` return."""

from dataclasses import dataclass, field

__all__ = ["GANHistory", "History"]


@dataclass
class History:
    """The curves of a training, one entry for each epoch.

    Attributes:
        losses: mean loss of the samples, each computed just before its step.
        validation_losses: mean loss of the validation samples after the epoch; empty
            if there are none.
        seconds: time that the epoch took, validation included.

    """

    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass
class GANHistory:
    """The curves of a game, one entry for each time that V was computed.

    Attributes:
        steps: steps of the generator until then.
        v: V(D, G) on a minibatch.
        real: mean D(x) there, the probability that real samples are real.
        generated: mean D(G(z)) there, the probability that generated ones are real.

    """

    steps: list[int] = field(default_factory=list)
    v: list[float] = field(default_factory=list)
    real: list[float] = field(default_factory=list)
    generated: list[float] = field(default_factory=list)
