"""Random numbers that are a function of their place: Philox4x32-10.

Salmon et al. 2011. A number depends on a seed and a counter and on nothing that was
drawn before it. So any backend draws the same ones, any process its own part of them,
and a step that was captured on a GPU draws anew each time that its counter is moved.

The counter is 128 bits wide, four words of 32, the key two. Ten rounds of

    (hi0, lo0) = M0 · c0,   (hi1, lo1) = M1 · c2           64 bits each
    c ← (hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0),   k ← k + W

make of a counter four words that nothing is known to tell from chance. All of it is
plain NumPy, so it runs where its arrays are.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import backend, checks
from scratchnet.backend import Array

M0, M1 = 0xD2511F53, 0xCD9E8D57  # multipliers
W0, W1 = 0x9E3779B9, 0xBB67AE85  # what the key grows by: of the golden ratio, of √3
ROUNDS = 10
_LOW = 0xFFFFFFFF  # of a 64-bit number, the lower half


def philox(counter: Array, key: tuple[int, int]) -> Array:
    """Return four random words for each counter.

    Args:
        counter: (n, 4) uint64, each below 2³²; the first word is the lowest.
        key: two words of 32 bits.

    Returns:
        (n, 4) uint64, each below 2³², where the counter is.

    """
    c0, c1, c2, c3 = (counter[:, i] for i in range(4))
    k0, k1 = key
    for _ in range(ROUNDS):
        one, two = c0 * np.uint64(M0), c2 * np.uint64(M1)
        c0 = (two >> np.uint64(32)) ^ c1 ^ np.uint64(k0)
        c1 = two & np.uint64(_LOW)
        c2 = (one >> np.uint64(32)) ^ c3 ^ np.uint64(k1)
        c3 = one & np.uint64(_LOW)
        k0, k1 = (k0 + W0) & _LOW, (k1 + W1) & _LOW
    return np.stack([c0, c1, c2, c3], axis=1)


def words(seed: int, step: int, start: int, n: int) -> Array:
    """Return n random words of 32 bits, those from `start` on of a step: (n,) uint64.

    The words of a step are the same whether they are drawn at once or in parts.

    Args:
        seed: the key, in [0, 2⁶⁴).
        step: the upper half of the counter, in [0, 2⁶⁴).
        start, n: which of the step's words, fewer than 2⁶⁴ · 4.

    """
    for name, value in (("seed", seed), ("step", step), ("start", start), ("n", n)):
        checks.count("philox", name, value, 0)
    first, last = start // 4, -(-(start + n) // 4)
    index = np.arange(first, max(last, first + 1), dtype=np.uint64)
    host = np.empty((len(index), 4), np.uint64)
    host[:, 0], host[:, 1] = index & np.uint64(_LOW), index >> np.uint64(32)
    host[:, 2], host[:, 3] = step & _LOW, step >> 32
    found = philox(backend.asarray(host), (seed & _LOW, seed >> 32)).reshape(-1)
    return found[start - 4 * first :][:n]


def uniform(
    seed: int, step: int, shape: tuple[int, ...], dtype: DTypeLike = np.float32,
    start: int = 0,
) -> Array:  # fmt: skip
    """Return numbers from U(0, 1), never 0 or 1, each made of one word.

    Args:
        seed, step: see `words`.
        shape: of the result, in the order of the words.
        dtype: of the result; both kinds have the same 23 bits.
        start: how many numbers of the step come before the first.

    """
    found = words(seed, step, start, math.prod(shape))
    # The upper 23 bits, and half a unit more: no number is 0 or 1.
    fraction = (found >> np.uint64(9)).astype(np.float64) + 0.5
    made: Array = (fraction * 2.0**-23).astype(dtype)
    return made.reshape(shape)


def normal(
    seed: int, step: int, shape: tuple[int, ...], dtype: DTypeLike = np.float32,
    start: int = 0,
) -> Array:  # fmt: skip
    """Return numbers from N(0, 1), as `uniform` does from U(0, 1).

    By Box & Muller (1958): of two uniform numbers u and v, √(-2 log u) cos 2πv. Each
    takes two words of its own, so that a part of them is drawn without the rest.
    """
    pairs = uniform(seed, step, (math.prod(shape), 2), np.float64, 2 * start)
    u, v = pairs[:, 0], pairs[:, 1]
    made: Any = np.sqrt(-2 * np.log(u)) * np.cos((2 * math.pi) * v)
    return made.astype(dtype).reshape(shape)
