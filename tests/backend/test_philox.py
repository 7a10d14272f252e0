"""Philox4x32-10: the published vectors, and the numbers made from its words."""

import copy
import math

import numpy as np
import pytest

from scratchnet import backend
from scratchnet.backend.philox import Stream, philox
from scratchnet.metrics import ks_statistic
from tests.backend import device

# From Random123 (Salmon et al. 2011), kat_vectors, "philox4x32 10".
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


def split(text):
    return [np.array([word], np.uint64) for word in numbers(text)]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_published_vectors(counter, key, expected):
    found = [int(word[0]) for word in philox(split(counter), split(key))]
    assert found == numbers(expected)
    with device.use():
        there = philox(
            *([backend.asarray(w) for w in split(x)] for x in (counter, key))
        )
        assert [int(word[0]) for word in there] == numbers(expected)


def test_the_words_of_a_stream():
    """Each number uses the four words of the counter (number, draw, step, step)."""
    stream = Stream(0xA4093822 + (0x299F31D0 << 32))
    step = 2**33 + 5
    state = {**stream.state_dict(), "step": np.array(step - 1, np.uint64)}
    stream.load_state_dict(state)
    stream.begin()
    stream.random()
    found = stream.integers(2**32 - 1, size=9)  # almost the words themselves
    key = [np.uint64(0xA4093822), np.uint64(0x299F31D0)]
    words = []
    for number in range(3):
        counter = (number, 1, step % 2**32, step // 2**32)
        words += [int(w) for w in philox([np.uint64(c) for c in counter], key)]
    assert [int(w) * (2**32 - 1) >> 32 for w in words[:9]] == found.tolist()


def test_nothing_is_drawn_twice():
    drawn = []
    for key in (0, 1, 2**32, 2**63):
        stream = Stream(key)
        for _ in range(3):
            stream.begin()
            drawn += [*stream.random(5), *stream.random(7), *stream.random(4)]
    # Among 192 numbers of 23 bits, a repeated one has a chance of 0.2 %.
    assert len(set(drawn)) >= 191


def test_uniform_and_normal_numbers_have_their_distribution():
    stream = Stream(1)
    u = stream.random(200_000)
    assert u.dtype == np.float64
    assert 0 < u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    assert ks_statistic(u, np.linspace(0, 1, 200_001)[1:])[1] > 0.01
    z = stream.standard_normal(200_000)
    assert abs(z.mean()) < 4 / math.sqrt(200_000)
    assert z.var() == pytest.approx(1, abs=4 * math.sqrt(2 / 200_000))
    expected = np.random.default_rng(0).standard_normal(200_000)
    assert ks_statistic(z, expected)[1] > 0.01
    pairs = np.corrcoef(z[:-1], z[1:])[0, 1], np.corrcoef(z[::2], z[1::2])[0, 1]
    assert max(map(abs, pairs)) < 4 / math.sqrt(100_000)
    between = stream.uniform(-2.0, 5.0, 200_000)
    assert ks_statistic((between + 2) / 7, np.linspace(0, 1, 200_001)[1:])[1] > 0.01


def test_all_integers_are_drawn():
    found = Stream(2).integers(7, size=70_000)
    counts = np.bincount(found, minlength=7)
    assert found.dtype == np.int64
    assert len(counts) == 7
    assert (
        (counts - 10_000) ** 2 / 10_000
    ).sum() < 22.5  # chi² of 6 degrees: above 22.5 once in 1,000


def test_the_device_draws_the_same():
    here = Stream(7).standard_normal((50, 3), np.float32)
    assert here.dtype == np.float32
    with device.use():
        there = Stream(7).standard_normal((50, 3), np.float32)
        assert isinstance(there, device.Device)
        np.testing.assert_array_equal(backend.to_numpy(there), here)


def test_a_stream_continues_from_its_state():
    stream = Stream(3)
    stream.begin()
    stream.random(3)
    state = copy.deepcopy(stream.state_dict())
    stream.begin()
    expected = stream.random(5)
    other = Stream(4)
    other.load_state_dict(state)
    other.begin()
    np.testing.assert_array_equal(other.random(5), expected)


@pytest.mark.parametrize("key", [-1, 2**64])
def test_wrong_keys_are_named(key):
    with pytest.raises(ValueError, match=f"Stream: key is {key}"):
        Stream(key)


def test_wrong_states_change_nothing():
    stream = Stream(3)
    before = stream.state_dict()
    for wrong in (
        {},
        {**before, "step": 1},
        {**before, "step": np.zeros(2, np.uint64)},
    ):
        with pytest.raises(ValueError, match=r"Stream: .* a uint64 expected"):
            stream.load_state_dict({**wrong, "key": np.array(9, np.uint64)})
        assert stream.state_dict() == before


def test_an_error_names_what_a_stream_lacks():
    with pytest.raises(AttributeError, match="no choice; on a device, use random"):
        Stream(0).choice(3)
    for n in (0, 2**32):
        with pytest.raises(ValueError, match=f"integers below {n}"):
            Stream(0).integers(n)
