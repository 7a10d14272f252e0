"""What the backend asks of a library of arrays, beyond NumPy's own functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

# An array of the backend in use. NumPy's ndarray type would promise too much: a
# device array answers the same calls without being one.
Array = Any

Shape = int | Sequence[int]


class BackendError(RuntimeError):
    """A backend cannot be used here; says what is missing, and what to install."""


class Kernel(NamedTuple):
    """A chain of elementwise functions as one kernel of a GPU.

    Beside each stands the same in NumPy's functions, for where there is none.

    Attributes:
        name: of the kernel.
        inputs, outputs: what it reads; what it reads and writes. Declarations in C,
            `T` standing for a dtype that is found at the call, as CuPy has them; of
            what is `raw`, the body says which entry.
        body: C, for entry i of what its arguments broadcast to.
        preamble: C, functions that the body calls.

    """

    name: str
    inputs: str
    outputs: str
    body: str
    preamble: str = ""


# --- The libraries ------------------------------------------------------------------


class Library(Protocol):
    """What is asked of a library of arrays beside NumPy's own functions."""

    name: str
    array: Any  # the type of its arrays
    host: bool  # whether they are where Python is

    def chosen(self) -> None:
        """Do what is to be done whenever it comes into use."""

    def asarray(self, x: ArrayLike, dtype: DTypeLike | None) -> Array:
        """Make `x` an array, without a copy where it already is one."""

    def zeros(self, shape: Shape, dtype: DTypeLike) -> Array:
        """Make an array of zeros."""

    def empty(self, shape: Shape, dtype: DTypeLike) -> Array:
        """Make an array of whatever the memory held."""

    def to_numpy(self, x: Array) -> np.ndarray:
        """Return `x`, an array of its own or NumPy's, on the host."""

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """Add into repeated positions."""

    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        """Write the product of two matrices to `out`, and return it."""

    def run_kernel(self, kernel: Kernel, arguments: Sequence[Any]) -> bool:
        """Run a kernel, or say that there are none here."""

    def capture(self, f: Callable[[], object]) -> Callable[[], object]:
        """Return what does the same as `f`, by a recording if there is such a thing."""

    def each_time(self, f: Callable[[], object]) -> None:
        """Call `f`, now and whenever what is being recorded is replayed."""

    def seconds(self, f: Callable[[], object]) -> float:
        """Return how long a call takes, until all is computed."""

    def machine(self) -> str:
        """Name what computes, and the versions that it depends on."""
