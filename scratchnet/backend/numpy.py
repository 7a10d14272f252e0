"""NumPy as the array library, on the host."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from scratchnet.backend.library import Array, Kernel, Shape
from scratchnet.backend.openblas import Threads


class NumPy(Threads):
    """Arrays on the host, without kernels or recordings."""

    name = "numpy"
    array: Any = np.ndarray
    host = True

    def chosen(self) -> None:
        pass

    def left(self) -> None:
        pass

    def asarray(self, x: ArrayLike, dtype: DTypeLike | None) -> Array:
        return np.asarray(x, dtype=dtype)

    def zeros(self, shape: Shape, dtype: DTypeLike) -> Array:
        return np.zeros(shape, dtype)

    def empty(self, shape: Shape, dtype: DTypeLike) -> Array:
        return np.empty(shape, dtype)

    def to_numpy(self, x: Array) -> np.ndarray:
        return np.asarray(x)

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        np.add.at(target, index, values)

    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        return np.matmul(a, b, out=out)

    product: Callable[[Array, Array], Array] = staticmethod(np.matmul)

    def sum_of_rows(self, a: Array) -> Array:
        return np.sum(a, axis=0)

    def run_kernel(self, kernel: Kernel, arguments: Sequence[Any]) -> bool:
        return False

    def compute(self, kernel: Kernel, arguments: Sequence[Any]) -> Array | None:
        return None

    def capture(self, f: Callable[[], object]) -> Callable[[], object]:
        return f

    def each_time(self, f: Callable[[], object]) -> None:
        f()

    def seconds(self, f: Callable[[], object]) -> float:
        began = time.perf_counter()
        f()
        return time.perf_counter() - began

    def machine(self) -> str:
        return f"NumPy {np.__version__}"
