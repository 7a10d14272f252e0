"""A measured number with its bound, and the simplest things that could explain it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Claim:
    """One number that a demo measured.

    Args:
        what: the quantity and its unit; the same text for every seed.
        value: the number.
        at_least: the least value that supports the claim.
        at_most: the largest value that supports the claim.
        baseline: what simpler things get: {"the mean picture": 18.6}.
        tried: for a target that was missed: what was tried.

    Raises:
        ValueError: a baseline is NaN, so that it could not meet the bound.

    """

    what: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    baseline: Mapping[str, float] = field(default_factory=dict)
    tried: str = ""

    def __post_init__(self) -> None:
        for name, value in self.baseline.items():
            if math.isnan(value):
                raise ValueError(f"claim: {self.what!r}: baseline {name!r} is NaN")

    @property
    def bounded(self) -> bool:
        """Return whether there is a bound to meet."""
        return self.at_least is not None or self.at_most is not None

    def met_by(self, value: float) -> bool:
        """Return whether a value meets the bounds; NaN never does."""
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )

    @property
    def explained_by(self) -> list[str]:
        """Return the names of the baselines that meet the bounds too."""
        return [name for name, value in self.baseline.items() if self.met_by(value)]

    @property
    def holds(self) -> bool:
        """Return whether the value meets the bounds and no baseline does."""
        return self.met_by(self.value) and not self.explained_by

    def __str__(self) -> str:
        """Return the claim as one line: verdict, quantity, value, bounds, baselines."""
        notes = [f"at least {self.at_least:.4g}"] if self.at_least is not None else []
        if self.at_most is not None:
            notes.append(f"at most {self.at_most:.4g}")
        notes += [f"{name} {value:.4g}" for name, value in self.baseline.items()]
        if self.met_by(self.value):
            notes += [f"{name} meets the bound too" for name in self.explained_by]
        line = f"{self.what}: {self.value:.4g}"
        return f"{line}  ({'; '.join(notes)})" if notes else line
