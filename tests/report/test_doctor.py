"""The doctor: each rule with a game that triggers it and one that does not."""

import numpy as np
import pytest

from scratchnet.report.doctor import Game, findings, movement
from scratchnet.report.words import WORDS, text

QUIET = list(-1.3 + 0.01 * np.sin(np.arange(100)))
BALANCE = Game(0.52, 0.49, 1.5, 1.0, QUIET)
GAMES = {
    "balance": BALANCE,
    "untrained": BALANCE._replace(distance=80.0),
    "d_wins": Game(0.99, 0.02, 30.0, 0.9, QUIET),
    "g_wins": Game(0.3, 0.7, 8.0, 0.9, QUIET),
    "undecided": Game(0.7, 0.3, 4.0, 0.9, QUIET),
}


def keys(game):
    return [finding.key for finding in findings(game)]


@pytest.mark.parametrize("key", GAMES)
def test_who_is_ahead(key):
    assert keys(GAMES[key]) == [key]


def test_near_a_half_but_neither_close_nor_far_is_undecided():
    assert keys(BALANCE._replace(distance=7.0)) == ["undecided"]


def test_collapse_is_a_small_spread():
    assert keys(BALANCE._replace(spread=0.3)) == ["balance", "collapse"]
    assert keys(BALANCE._replace(spread=0.8)) == ["balance"]


def test_oscillation_is_movement_without_a_trend():
    wild = list(-1.0 + 0.5 * (-1.0) ** np.arange(100))
    assert keys(BALANCE._replace(v=wild)) == ["balance", "oscillation"]
    trend = list(np.linspace(-0.2, -9.0, 100))
    assert keys(BALANCE._replace(v=trend)) == ["balance"]
    assert movement(wild) == pytest.approx((1.0, 0.04), abs=0.05)
    assert movement([0.0, 9.0]) == (0.0, 0.0)


@pytest.mark.parametrize("game", GAMES.values())
def test_the_words_take_the_values(game):
    for finding in findings(game):
        assert finding.key in WORDS
        for language in ("en", "ko"):
            assert "{" not in text(finding.key, language, **finding.values)


def test_the_share_of_the_saturating_gradient():
    """Its size is D(G(z)) against 1 - D(G(z)): d log(1 - D) / d log D."""
    (found,) = findings(GAMES["d_wins"])
    assert found.values["share"] == f"{100 * 0.02 / 0.98:.1f}"
