"""Learning rates that change."""

import math
import pickle

import pytest

from scratchnet.kernels import schedules


def test_cosine_decay():
    rate = schedules.cosine_decay(2.0, 8)
    assert rate(0) == 2.0
    assert rate(4) == pytest.approx(1.0)
    assert rate(2) == pytest.approx(1 + math.sqrt(0.5))
    assert rate(7) == rate(8) == rate(1000) > 0
    rate = schedules.cosine_decay(2.0, 8, final=1.0)
    assert rate(4) == pytest.approx(1.5)
    assert 1 < rate(100) < 1.05
    for steps in (1, 10**12):  # positive, although 1 + cos(π t / steps) rounds to 0
        assert schedules.cosine_decay(1e-3, steps)(steps - 1) > 0


def test_hold_then_decay():
    rate = schedules.hold_then_decay(2.0, 8)
    assert [rate(t) for t in range(8)] == pytest.approx([2, 2, 2, 2, 2, 1.5, 1, 0.5])
    assert rate(8) == rate(1000) == 0.5
    rate = schedules.hold_then_decay(2.0, 10, hold=0.0, final=1.0)
    assert [rate(0), rate(5), rate(9)] == pytest.approx([2, 1.5, 1.1])


@pytest.mark.parametrize("decay", [schedules.cosine_decay, schedules.hold_then_decay])
def test_decays_name_what_is_wrong(decay):
    for args, message in [
        ((0.0, 5), "lr is 0.0; a positive"),
        ((1.0, 0), "steps is 0; at least 1"),
        (
            (1.0, 5, 0.5, 2.0)[: 2 if decay is schedules.cosine_decay else 4],
            "final is 2",
        ),
    ]:
        options = {"final": 2.0} if len(args) == 2 and "final" in message else {}
        with pytest.raises(ValueError, match=f"{decay.__name__}: {message}"):
            decay(*args, **options)
    with pytest.raises(ValueError, match=r"hold is 1\.0; a number in"):
        schedules.hold_then_decay(1.0, 5, hold=1.0)


def test_rates_can_be_pickled():
    for rate in (
        schedules.cosine_decay(2.0, 8, 0.5),
        schedules.hold_then_decay(2.0, 10, 0.3, 0.5),
    ):
        twin = pickle.loads(pickle.dumps(rate))
        assert [twin(t) for t in range(12)] == [rate(t) for t in range(12)]
