"""Where arrays are made: defaults, copies, adding into repeated positions, streams."""

import platform
import subprocess
import sys

import numpy as np
import pytest

from scratchnet import backend


def test_arrays_are_float32_by_default():
    for make in (backend.zeros, backend.empty):
        assert make((2, 3)).dtype == np.float32
        assert make((2, 3)).shape == (2, 3)
        assert make(4, np.float64).dtype == np.float64
        assert make(()).shape == ()
    assert not backend.zeros((2, 3)).any()


def test_asarray_does_not_copy_arrays():
    x = np.ones(3)
    assert backend.asarray(x) is x
    assert backend.asarray(x, np.float64) is x
    assert backend.asarray(x, np.float32).dtype == np.float32
    assert backend.asarray([1, 2], np.float32).dtype == np.float32
    assert type(backend.asarray(np.float64(1))) is np.ndarray


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (np.ones(2), True),
        (np.float32(1), True),
        (1.0, False),
        ([1.0], False),
        (None, False),
    ],
)
def test_is_array(x, expected):
    assert backend.is_array(x) is expected


def test_to_numpy():
    x = np.ones(3)
    assert backend.to_numpy(x) is x
    assert type(backend.to_numpy(np.float32(2))) is np.ndarray


class Units(np.ndarray):
    """An array of a subclass."""


class Table:
    """An object that converts to an array."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of np.matrix
def test_arrays_of_subclasses_are_arrays():
    x = np.array([[1.0, 2.0]])
    masked = np.ma.array(x)
    for given in (np.matrix(x), x.view(Units), masked, np.ma.array(x, mask=[[0, 0]]),
                  x.view(np.recarray), Table(x), Table(x.view(Units))):  # fmt: skip
        for f in (backend.bare, backend.asarray, backend.to_numpy):
            found = f(given)
            assert type(found) is np.ndarray
            np.testing.assert_array_equal(found, x)
    assert np.shares_memory(backend.bare(masked), masked.data)
    for given in (x, 1.0, np.float64(1), [1.0], None, "text", np.float64, {1: 2}):
        assert backend.bare(given) is given


def test_a_mask_is_refused():
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    nested = [[masked, masked], [1.0, np.ma.masked], (np.ones(2), [masked])]
    for given in (masked, np.ma.masked, Table(masked), *nested):
        for f in (backend.bare, backend.asarray, backend.to_numpy):
            with pytest.raises(
                TypeError, match=r"1 of \d entr.*mask.*x\.filled\(value\)"
            ):
                f(given)
    with pytest.raises(TypeError, match="mask"):
        backend.asarray(masked, np.float32)


INDICES = {
    "integer": 1,
    "NumPy integer": np.int64(-1),
    "slice": slice(0, 3, 2),
    "pair": (1, slice(None)),
    "dots": (..., 2),
    "new axis": (None, 1),
    "mask": np.arange(12).reshape(3, 4) % 2 == 0,
    "mask of rows": np.array([True, False, True]),
    "mask and slice": (np.array([True, False, True]), slice(1, 3)),
    "two masks": (np.array([True, False, True]), np.array([True, False, True, False])),
    "repeated list": [0, 2, 0, 0],
    "repeated array": np.array([[1, 1], [1, 0]]),
    "repeated pair": (np.array([0, 0, 2]), np.array([1, 1, 3])),
    "slice and repeated": (slice(None), np.array([3, 3])),
    "integer and repeated": (1, np.array([3, 3])),
    "mask and repeated": (np.array([True, False, True]), np.array([1, 1])),
    "all": (),
}


@pytest.mark.parametrize("kind", INDICES)
def test_scatter_add_adds_at_repeated_positions(kind):
    index = INDICES[kind]
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 4))
    values = rng.normal(size=start[index].shape)
    expected = start.copy().ravel()
    places = np.arange(12).reshape(3, 4)[index]
    for place, value in zip(places.ravel(), values.ravel(), strict=True):
        expected[place] += value
    target = start.copy()
    backend.scatter_add(target, index, values)
    np.testing.assert_allclose(target, expected.reshape(3, 4), rtol=1e-13)


def test_scatter_add_keeps_the_dtype():
    target = np.zeros(3, np.float32)
    backend.scatter_add(target, np.array([0, 0]), np.ones(2, np.float32))
    backend.scatter_add(target, 1, np.float32(5))
    assert target.dtype == np.float32
    np.testing.assert_array_equal(target, [2, 5, 0])


def test_streams_are_reproducible_and_independent():
    a, b, c = (s.random(4) for s in backend.streams(7, 3))
    again = [s.random(4) for s in backend.streams(7, 3)]
    np.testing.assert_array_equal([a, b, c], again)
    other = [s.random(4) for s in backend.streams(8, 3)]
    for one in (a, b, c):
        for rest in (*other, *(x for x in (a, b, c) if x is not one)):
            assert not np.intersect1d(one, rest).size
    # More draws from one, or more streams, do not change the others.
    first, second = backend.streams(7, 2)
    first.random(1000)
    np.testing.assert_array_equal(second.random(4), b)
    np.testing.assert_array_equal(backend.streams(7, 5)[2].random(4), c)


FAULTS = """
import resource
import sys
import numpy as np
from scratchnet import backend

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        arrays = [np.ones(1 << 18, np.float32) for _ in range(16)]  # 1 MiB each
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before = faults()
backend.keep_freed_memory()
faults()
print(before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what glibc does")
def test_freed_memory_is_reused_for_the_next_arrays():
    """In a page fault the system clears and maps a page (4 KiB)."""
    run = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    before, after = map(int, run.stdout.split())
    pages = 20 * 16 * 256  # of all arrays
    assert before > pages / 2  # otherwise keeping it has no benefit
    assert after < pages / 20
