"""The doctor of a GAN: sentences about the game, decided by rules on its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SURE, NEAR = 0.1, 0.1  # D is sure below this; near 1/2 within that
FAR, CLOSE = 10.0, 5.0  # times the distance of real images among themselves
ALIKE = 0.5  # of the mean distance between real images
SWING = 0.2  # nats


class Game(NamedTuple):
    """The numbers of a game at its end.

    Attributes:
        real: the mean of D(x) over real images.
        generated: the mean of D(G(z)) over generated ones.
        distance: of the generated images from real ones, over that of other real ones.
        spread: the mean distance between generated images, over that of real ones.
        v: V(D, G) at each record of the training.

    """

    real: float
    generated: float
    distance: float
    spread: float
    v: Sequence[float]


class Finding(NamedTuple):
    """A sentence: the key of its words, and their values."""

    key: str
    values: dict[str, str]


def findings(game: Game) -> list[Finding]:
    """Return what the numbers say; the first finding is about the balance."""
    found = [_balance(game)]
    if game.spread < ALIKE:
        found.append(Finding("collapse", {"share": f"{100 * game.spread:.0f}"}))
    swing, trend = movement(game.v)
    if swing > max(SWING, 2 * trend):
        values = {"swing": f"{swing:.2f}", "trend": f"{trend:.2f}"}
        found.append(Finding("oscillation", values))
    return found


def _balance(game: Game) -> Finding:
    """Return who is ahead. D near 1/2 alone may also be a D that has not learned."""
    values = {
        "real": f"{game.real:.2f}",
        "generated": f"{game.generated:.2f}",
        "times": f"{game.distance:.1f}",
    }
    if max(abs(game.real - 0.5), abs(game.generated - 0.5)) <= NEAR:
        if game.distance > FAR:
            return Finding("untrained", values)
        if game.distance <= CLOSE:
            return Finding("balance", values)
    if game.generated < SURE and game.real > 1 - SURE:
        # The gradients are D(G(z)) and 1 - D(G(z)) times the same vector.
        share = 100 * game.generated / (1 - game.generated)
        return Finding("d_wins", values | {"share": f"{share:.1f}"})
    if game.real < 0.5 < game.generated:
        return Finding("g_wins", values)
    return Finding("undecided", values)


def movement(v: Sequence[float]) -> tuple[float, float]:
    """Return how far V moves from record to record, and its trend, in the second half.

    The first is the mean of abs(differences), the second the absolute difference of
    the means of the two quarters.
    """
    late = np.asarray(v, float)[len(v) // 2 :]
    if len(late) < 8:
        return 0.0, 0.0
    first, second = np.array_split(late, 2)
    swing = float(np.mean(np.abs(np.diff(late))))
    return swing, float(abs(second.mean() - first.mean()))
