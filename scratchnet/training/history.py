"""The history of a training: the curves that `fit` and `fit_gan` return.

A notebook shows a history as a small picture of its curves.
"""

import math
from collections.abc import Mapping, Sequence
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

    def _repr_svg_(self) -> str:
        """Return the losses as a picture, for a notebook."""
        curves = {"loss": self.losses, "validation loss": self.validation_losses}
        return _svg({name: values for name, values in curves.items() if values})


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

    def _repr_svg_(self) -> str:
        """Return D's answers as a picture, for a notebook; 1/2 is the balance."""
        curves = {"mean D(x)": self.real, "mean D(G(z))": self.generated}
        half = [0.5] * len(self.steps)
        return _svg({**curves, "1/2": half} if self.steps else {})


def _svg(curves: Mapping[str, Sequence[float]]) -> str:
    """Draw curves over their numbers as SVG, with the first and last value of each."""
    width, height, right = 420, 180, 150
    values = [v for one in curves.values() for v in one if math.isfinite(v)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    styles = ("#0072B2", ""), ("#D55E00", "6 3"), ("#767676", "2 3")
    drawn = []
    for k, ((name, one), (color, dashes)) in enumerate(
        zip(curves.items(), styles, strict=False)
    ):
        points = " ".join(
            f"{8 + (width - right - 16) * i / max(len(one) - 1, 1):.1f},"
            f"{height - 12 - (height - 24) * (v - low) / ((high - low) or 1):.1f}"
            for i, v in enumerate(one)
            if math.isfinite(v)
        )
        drawn.append(
            f'<polyline points="{points}" fill="none" stroke="{color}" '
            f'stroke-width="2" stroke-dasharray="{dashes}"/>'
            f'<text x="{width - right + 4}" y="{24 + 20 * k}" fill="{color}">'
            f"{name}: {one[0]:.4g} → {one[-1]:.4g}</text>"
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
        f'<rect width="{width}" height="{height}" fill="white"/>{"".join(drawn)}</svg>'
    )
