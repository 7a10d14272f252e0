"""What a training was like: the curves that `fit` and `fit_gan` return."""

from dataclasses import dataclass, field

__all__ = ["GANHistory", "History"]


@dataclass
class History:
    """The curves of a training, one entry for each epoch.

    Attributes:
        losses: mean loss of the samples, each as it was when its minibatch came.
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
        steps: how many steps the generator had taken.
        v: V(D, G) on a minibatch.
        real: mean D(x) there, the probability given to real samples of being real.
        generated: mean D(G(z)) there, that given to generated ones.

    """

    steps: list[int] = field(default_factory=list)
    v: list[float] = field(default_factory=list)
    real: list[float] = field(default_factory=list)
    generated: list[float] = field(default_factory=list)
