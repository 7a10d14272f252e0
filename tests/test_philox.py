"""Philox4x32-10: the published vectors, and what is made of its words."""

import math

import numpy as np
import pytest

from scratchnet import backend, philox
from scratchnet.metrics import ks_statistic
from tests import device

# Of Random123 (Salmon et al. 2011), kat_vectors, "philox4x32 10".
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def numbers(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_published_vectors(counter, key, expected):
    counters = np.array([numbers(counter)] * 2, np.uint64)
    counters[1, 0] ^= np.uint64(1)
    found = philox.philox(counters, tuple(numbers(key)))
    assert found[0].tolist() == numbers(expected)
    assert found[1].tolist() != numbers(expected)
    with device.use():
        there = philox.philox(backend.asarray(counters), tuple(numbers(key)))
        np.testing.assert_array_equal(backend.to_numpy(there), found)


def test_parts_are_parts_of_the_whole():
    whole = philox.words(5, 2**40 + 3, 0, 50)
    for start, n in [(0, 0), (0, 1), (3, 2), (7, 20), (4, 4), (49, 1)]:
        part = philox.words(5, 2**40 + 3, start, n)
        np.testing.assert_array_equal(part, whole[start : start + n])
    z = philox.normal(5, 1, (6, 4))
    np.testing.assert_array_equal(philox.normal(5, 1, (2, 4), start=8), z[2:4])
    # Beyond 2³² counters, the second word counts on.
    far = philox.words(0, 0, 4 * 2**32 - 2, 4)
    assert len(set(far.tolist())) == 4


def test_seeds_and_steps_give_other_numbers():
    drawn = [philox.words(seed, step, 0, 8).tolist()
             for seed in (0, 1, 2**32, 2**63) for step in (0, 1, 2**32)]  # fmt: skip
    assert len({word for words in drawn for word in words}) == 8 * 12


def test_uniform_and_normal_numbers_are_so():
    u = philox.uniform(1, 2, (200_000,), np.float64)
    assert 0 < u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    assert ks_statistic(u, np.linspace(0, 1, 200_001)[1:])[1] > 0.01
    z = philox.normal(1, 2, (200_000,), np.float64)
    assert abs(z.mean()) < 4 / math.sqrt(200_000)
    assert z.var() == pytest.approx(1, abs=4 * math.sqrt(2 / 200_000))
    expected = np.random.default_rng(0).standard_normal(200_000)
    assert ks_statistic(z, expected)[1] > 0.01
    pairs = np.corrcoef(z[:-1], z[1:])[0, 1], np.corrcoef(z[::2], z[1::2])[0, 1]
    assert max(map(abs, pairs)) < 4 / math.sqrt(100_000)


def test_the_device_draws_the_same():
    here = philox.normal(7, 3, (50, 3))
    assert here.dtype == np.float32
    with device.use():
        there = philox.normal(7, 3, (50, 3))
        assert isinstance(there, device.Device)
        np.testing.assert_array_equal(backend.to_numpy(there), here)


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"step": 1.5}, {"start": -4}])
def test_wrong_places_are_named(wrong):
    (name,) = wrong
    with pytest.raises((TypeError, ValueError), match=f"philox: {name} is"):
        philox.words(**({"seed": 0, "step": 0, "start": 0, "n": 4} | wrong))
