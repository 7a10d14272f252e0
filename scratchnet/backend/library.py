"""The interface of an array library, beyond NumPy's own functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

# An array of the backend in use. np.ndarray would be too narrow: a device array takes
# the same calls, but is not one.
Array = Any

Shape = int | Sequence[int]


class BackendError(RuntimeError):
    """A backend cannot be used here; the message says what is missing or to install."""


class Kernel(NamedTuple):
    """A chain of elementwise functions as one kernel in C, for a GPU or a processor.

    The same chain in NumPy's functions is in the code that calls it. A call passes
    numbers, rows, inputs, outputs and sums, in this order. They are declared as
    "type name, ..."; the type `T` is float or double, that of the arrays in the call.
    """

    name: str
    """The name of the kernel."""

    inputs: str
    """The arrays that it reads, all of one shape."""

    outputs: str
    """The arrays that it reads and writes, of the same shape."""

    body: str
    """C code for one entry of each array; `i` is its place."""

    numbers: str = ""
    """Numbers; a call may pass 0-d arrays."""

    rows: str = ""
    """Arrays that it reads, with one entry for each column, (columns,)."""

    sums: str = ""
    """Arrays with one entry for each row: the sums of what the body assigns.

    Only processors run kernels with sums.
    """

    preamble: str = ""
    """C functions that the body calls."""


def parameters(declared: str) -> list[tuple[str, str]]:
    """Return the type and the name of each parameter that is declared."""
    pairs = [one.split() for one in declared.split(",") if one.strip()]
    return [(kind, name) for kind, name in pairs]


# --- The libraries ------------------------------------------------------------------


class Library(Protocol):
    """The functions of an array library that are not NumPy's own."""

    name: str
    array: Any  # the type of its arrays
    host: bool  # whether they are on the host
    product: Callable[[Array, Array], Array]  # np.matmul(a, b)

    def chosen(self) -> None:
        """Prepare the library each time it becomes the backend."""

    def left(self) -> None:
        """Undo that before another library becomes the backend."""

    def threads(self) -> int | None:
        """Return the largest number of threads on the host, if it is known."""

    def use_threads(self, n: int) -> None:
        """Use at most n threads on the host."""

    def threads_for(self, multiply_adds: int) -> int:
        """Return the best number of threads for products as large as that."""

    def asarray(self, x: ArrayLike, dtype: DTypeLike | None) -> Array:
        """Make `x` an array, without a copy if it already is one."""

    def zeros(self, shape: Shape, dtype: DTypeLike) -> Array:
        """Make an array of zeros."""

    def empty(self, shape: Shape, dtype: DTypeLike) -> Array:
        """Make an array with arbitrary values."""

    def to_numpy(self, x: Array) -> np.ndarray:
        """Return `x`, an array of this library or of NumPy, on the host."""

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """Add into repeated positions."""

    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        """Write the product of two matrices to `out`, and return it."""

    def sum_of_rows(self, a: Array) -> Array:
        """Return the sum over the first axis."""

    def run_kernel(self, kernel: Kernel, arguments: Sequence[Any]) -> bool:
        """Run a kernel and return True, or return False if there are no kernels."""

    def compute(self, kernel: Kernel, arguments: Sequence[Any]) -> Array | None:
        """Return the output of a kernel as a new array, or None."""

    def capture(self, f: Callable[[], object]) -> Callable[[], object]:
        """Return a function that does the same as `f`, by a recording if possible."""

    def each_time(self, f: Callable[[], object]) -> None:
        """Call `f`; during a recording, call it before each replay instead."""

    def seconds(self, f: Callable[[], object]) -> float:
        """Return the seconds until all of f() is computed."""

    def machine(self) -> str:
        """Name the library, its version and the device."""
