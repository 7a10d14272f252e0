"""Random numbers computed from a counter: Philox4x32-10 (Salmon et al. 2011).

A number depends only on a key, the step and its position within the step, not on the
numbers drawn before. So all backends draw the same numbers, and a step recorded on a
GPU draws new ones after its step count was increased.

The counter is 128 bits wide, four words of 32, the key two. Ten rounds of

    (hi0, lo0) = M0 · c0,   (hi1, lo1) = M1 · c2           64 bits each
    c ← (hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0),   k ← k + W

turn a counter into four words; no known test distinguishes them from random ones. The
words of the counter are here: the group of four numbers within a draw, the draw within
the step, and two words for the step.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import backend
from scratchnet.backend import Array, Kernel

M0, M1 = 0xD2511F53, 0xCD9E8D57  # multipliers
W0, W1 = 0x9E3779B9, 0xBB67AE85  # added to the key: from the golden ratio, from √3
ROUNDS = 10
_LOW = 0xFFFFFFFF  # mask of the lower half of a 64-bit number
_HALF = np.uint64(32)

Words = tuple[Array, ...]  # of 32 bits, in arrays of 64


def philox(counter: Words, key: Words) -> Words:
    """Return four random words for each counter.

    Args:
        counter: four arrays of uint64, each below 2³², that broadcast together; the
            first is the lowest word.
        key: two of them.

    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        one, two = c0 * np.uint64(M0), c2 * np.uint64(M1)
        c0, c1 = (two >> _HALF) ^ c1 ^ k0, two & np.uint64(_LOW)
        c2, c3 = (one >> _HALF) ^ c3 ^ k1, one & np.uint64(_LOW)
        k0 = (k0 + np.uint64(W0)) & np.uint64(_LOW)
        k1 = (k1 + np.uint64(W1)) & np.uint64(_LOW)
    return c0, c1, c2, c3


# The same in C for one counter, and the conversion of its words.
_PREAMBLE = f"""
__device__ unsigned int philox(
    unsigned long long key, unsigned long long step, unsigned int draw,
    unsigned long long number)
{{
    unsigned int c[4] = {{
        (unsigned int)(number / 4), draw, (unsigned int)step, (unsigned int)(step >> 32)
    }};
    unsigned int k0 = (unsigned int)key, k1 = (unsigned int)(key >> 32);
    for (int round = 0; round < {ROUNDS}; ++round) {{
        unsigned long long one = {M0}ull * c[0], two = {M1}ull * c[2];
        c[0] = (unsigned int)(two >> 32) ^ c[1] ^ k0;
        c[1] = (unsigned int)two;
        c[2] = (unsigned int)(one >> 32) ^ c[3] ^ k1;
        c[3] = (unsigned int)one;
        k0 += {W0}u;
        k1 += {W1}u;
    }}
    return c[number % 4];
}}
__device__ double fraction(unsigned int word)
{{
    return ((word >> 9) + 0.5) * {2.0**-23!r};
}}
"""
_PLACE = "uint64 key, uint64 step, uint32 draw"
UNIFORM = Kernel(
    "philox_uniform", "", "T u", "u = (T)fraction(philox(key, step, draw, i));",
    numbers=_PLACE, preamble=_PREAMBLE,
)  # fmt: skip
NORMAL = Kernel(
    "philox_normal", "", "T z",
    "double u = fraction(philox(key, step, draw, 2ull * i));"
    "double v = fraction(philox(key, step, draw, 2ull * i + 1));"
    f"z = (T)(sqrt(-2 * log(u)) * cos({2 * math.pi!r} * v));",
    numbers=_PLACE, preamble=_PREAMBLE,
)  # fmt: skip
INTEGERS = Kernel(
    "philox_integers", "", "int64 r",
    "r = (limit * philox(key, step, draw, i)) >> 32;",
    numbers=f"{_PLACE}, uint64 limit", preamble=_PREAMBLE,
)  # fmt: skip


class Stream:
    """A random generator that draws arrays of the backend.

    It has the methods of NumPy's Generator that training needs. A run on a GPU draws
    its noise from one.

    Args:
        key: in [0, 2⁶⁴): streams with different keys are independent.

    """

    def __init__(self, key: int) -> None:
        if not 0 <= key < 2**64:
            raise ValueError(f"Stream: key is {key}; an integer in [0, 2⁶⁴) expected")
        self._state = {
            "key": backend.asarray(np.array(key, np.uint64)),
            "step": backend.zeros((), np.uint64),
        }
        self._draws = 0  # in this step

    def begin(self) -> None:
        """Begin the next step, with new numbers."""
        np.add(self._state["step"], np.uint64(1), out=self._state["step"])
        self._draws = 0

    def random(self, shape: Any = (), dtype: DTypeLike = np.float64) -> Array:
        """Return numbers from U(0, 1): (k + ½) / 2²³, k an integer; never 0 or 1."""
        return self._drawn(UNIFORM, shape, dtype, self._fractions)

    def standard_normal(self, shape: Any = (), dtype: DTypeLike = np.float64) -> Array:
        """Return numbers from N(0, 1), each from two words (Box & Muller 1958)."""

        def numbers(n: int) -> Array:
            pairs = self._fractions(2 * n)
            u, v = pairs[::2], pairs[1::2]
            return np.sqrt(-2 * np.log(u)) * np.cos((2 * math.pi) * v)

        return self._drawn(NORMAL, shape, dtype, numbers)

    def uniform(self, low: float, high: float, shape: Any = ()) -> Array:
        """Return float64 numbers from U(low, high)."""
        return low + (high - low) * self.random(shape)

    def integers(self, n: int, size: Any = ()) -> Array:
        """Return integers from 0 to n - 1, for n < 2³².

        Their probabilities are 1/n up to a relative error of n / 2³².
        """
        if not 0 < n <= _LOW:
            raise ValueError(f"Stream: integers below {n}; n in [1, 2³²) expected")

        def numbers(count: int) -> Array:
            return (self._words(count) * np.uint64(n)) >> _HALF

        return self._drawn(INTEGERS, size, np.int64, numbers, n)

    def __getattr__(self, name: str) -> Any:
        """Name the methods that exist instead."""
        raise AttributeError(
            f"Stream: no {name}; on a device, use random, uniform, standard_normal or "
            "integers"
        )

    def _drawn(
        self, kernel: Kernel, shape: Any, dtype: DTypeLike, numbers: Any, *more: Any
    ) -> Array:
        """Return an array of numbers of that shape, and count the draw."""
        out = backend.empty(shape, dtype)
        key, step = self._state["key"], self._state["step"]
        if not backend.run_kernel(kernel, key, step, self._draws, *more, out):
            out[...] = numbers(out.size).reshape(out.shape)
        self._draws += 1
        return out

    def _fractions(self, n: int) -> Array:
        return ((self._words(n) >> np.uint64(9)).astype(np.float64) + 0.5) * 2.0**-23

    def _words(self, n: int) -> Array:
        """Return the first n words of this draw, (n,) uint64."""
        key, step = self._state["key"], self._state["step"]
        low = np.uint64(_LOW)
        number = np.arange(-(-n // 4), dtype=np.uint64, like=key)
        draw = np.full_like(number, self._draws)
        words = philox(
            (number, draw, step & low, step >> _HALF), (key & low, key >> _HALF)
        )
        found: Array = np.stack(words, axis=1).reshape(-1)[:n]
        return found

    # State

    def state_arrays(self) -> dict[str, Array]:
        """Return the arrays of the key and the step count."""
        return self._state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copy the key and the step count to the host."""
        return {name: np.array(backend.to_numpy(a)) for name, a in self._state.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from such a copy (ValueError if it is not one; nothing changes)."""
        for name, a in self._state.items():
            given: Any = state.get(name)
            if getattr(given, "dtype", None) != a.dtype or given.shape != ():
                raise ValueError(f"Stream: {name} is {given!r}; a uint64 expected")
        for name, a in self._state.items():
            a[...] = backend.asarray(state[name])
        self._draws = 0


def stream_for(rng: Any) -> Any:
    """Return a generator for the backend's arrays.

    On the host it is `rng` itself (or None), else a Stream with a key drawn from `rng`.
    """
    if rng is None or backend.on_host():
        return rng
    return Stream(int(rng.integers(2**64, dtype=np.uint64)))
