"""The running average of parameters."""

import copy

import numpy as np
import pytest

from scratchnet.kernels import updates
from tests.kernels.test_updates import Impatient, lock


def test_ema_of_large_arrays_and_of_single_numbers():
    rng = np.random.default_rng(0)
    arrays = [rng.random(70_001), rng.random((300, 301)), np.array(0.5)]
    ema = updates.AverageUpdate(arrays, 0.9)
    expected = [a.copy() for a in arrays]
    for _ in range(3):
        for a, e in zip(arrays, expected, strict=True):
            a[...] = rng.random(a.shape)
            e[...] = 0.9 * e + 0.1 * a
        ema.update()
    with ema.average():
        for a, e in zip(arrays, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-12)


def test_constant_parameters_are_their_own_average():
    p = np.random.default_rng(0).random(1000, np.float32)
    start = p.copy()
    ema = updates.AverageUpdate([p], 0.999)
    for _ in range(100):
        ema.update()
    with ema.average():
        np.testing.assert_array_equal(p, start)
        assert p.dtype == np.float32


def test_averages_inside_a_block_are_averages_too():
    p = np.zeros(2)
    ema = updates.AverageUpdate([p], 0.5)
    p[...] = 4.0
    ema.update()
    with ema.average(), ema.average():
        np.testing.assert_array_equal(ema.state_dict()["average.0"], [2, 2])
        np.testing.assert_array_equal(p, [2, 2])
    np.testing.assert_array_equal(p, [4, 4])
    ema.update()
    np.testing.assert_array_equal(ema.state_dict()["average.0"], [3, 3])
    with pytest.raises(ValueError, match=r"average.0: shape \(3,\) given"):
        ema.load_state_dict({"average.0": np.ones(3)})


def averaged():
    arrays = [np.full(3, float(i)) for i in range(3)]
    ema = updates.AverageUpdate(arrays, 0.5)
    for a in arrays:
        a += 4
    ema.update()
    return arrays, ema


def assert_back(arrays):
    for i, a in enumerate(arrays):
        np.testing.assert_array_equal(a, np.full(3, i + 4.0))


def test_averages_are_put_in_all_or_none():
    arrays, ema = averaged()
    lock(arrays[1])
    with pytest.raises(ValueError, match=r"EMA.average: arrays\[1\] is read-only"):
        with ema.average():
            pytest.fail("the block began")
    assert_back(arrays)
    arrays[1].flags.writeable = True
    with ema.average():
        np.testing.assert_array_equal(arrays[1], [3, 3, 3])
    assert_back(arrays)
    before = ema.state_dict()
    lock(ema.state_arrays()["average.1"])
    with pytest.raises(
        ValueError, match=r"EMA.update: arrays\[1\] has an average that is"
    ):
        ema.update()
    with pytest.raises(
        ValueError, match=r"nothing was loaded\n  average.1: is read-only"
    ):
        ema.load_state_dict({name: a + 1 for name, a in before.items()})
    for name, a in ema.state_dict().items():
        np.testing.assert_array_equal(a, before[name])


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, GeneratorExit])
def test_the_parameters_come_back_whatever_happens(error):
    arrays, ema = averaged()

    def fail():
        lock(arrays[1])
        raise error

    with pytest.raises(error), ema.average():
        fail()
    assert_back(arrays)
    assert not arrays[1].flags.writeable  # the block's change stays
    arrays[1].flags.writeable = True
    # A block without an end ends when it is deleted.
    block = ema.average()
    block.__enter__()
    np.testing.assert_array_equal(arrays[1], [3, 3, 3])
    del block
    assert_back(arrays)
    # Blocks that end in the wrong order.
    one, other = ema.average(), ema.average()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    np.testing.assert_array_equal(arrays[1], [3, 3, 3])
    other.__exit__(None, None, None)
    assert_back(arrays)


@pytest.mark.parametrize("wait", [0, 1])
def test_an_interrupt_while_averages_are_swapped(wait):
    arrays, _ = averaged()
    arrays[1] = arrays[1].view(Impatient)
    ema = updates.AverageUpdate(arrays, 0.5)
    ema.state_arrays()["average.2"][...] = 0
    arrays[1].wait = wait
    with pytest.raises(KeyboardInterrupt), ema.average():
        np.testing.assert_array_equal(arrays[2], [0, 0, 0])
    assert_back(map(np.asarray, arrays))
    with ema.average():
        pass  # it can be used again
    assert_back(map(np.asarray, arrays))


def test_an_array_that_cannot_be_restored_is_named_and_the_others_are():
    memory = np.zeros(3)
    arrays = [np.zeros(3), memory[:], np.zeros(3)]
    for i, a in enumerate(arrays):
        a += i + 4
    ema = updates.AverageUpdate(arrays, 0.5)
    for a in ema.state_arrays().values():
        a[...] = 1
    message = r"EMA.average: arrays\[1\] still holds averages"
    with pytest.raises(ValueError, match=message), ema.average():
        arrays[1].flags.writeable = memory.flags.writeable = False
    np.testing.assert_array_equal(arrays, [[4] * 3, [1] * 3, [6] * 3])


def test_an_average_is_not_copied_inside():
    _, ema = averaged()
    with (
        ema.average(),
        pytest.raises(ValueError, match=r"EMA: inside average\(\) it can"),
    ):
        copy.deepcopy(ema)
    copy.deepcopy(ema).update()
