"""The number of threads for NumPy's products, set in OpenBLAS."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

# --- Threads ------------------------------------------------------------------------

# A further thread pays from this many multiply-adds of one product, about 6 ms of work.
# With less, threads wait for each other too often: as soon as another program uses a
# core, ten times as long as they compute.
WORK = 500_000_000

# The variables that OpenBLAS reads when it is loaded; another BLAS has its own.
_THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS", "OPENBLAS_DEFAULT_NUM_THREADS", "GOTO_NUM_THREADS",
    "OMP_NUM_THREADS",
)  # fmt: skip


def threads() -> int | None:
    """Return the largest number of threads for a NumPy product.

    None if NumPy's BLAS is not OpenBLAS: only OpenBLAS can be asked.
    """
    blas = _openblas()
    return None if blas is None else int(blas.get())


def use_threads(n: int) -> int | None:
    """Use at most n threads for NumPy's products from now on, in the whole process.

    The number is limited to the cores that this process may use. It has no effect on a
    BLAS other than OpenBLAS.

    Returns:
        The number now in effect; None for another BLAS.

    Raises:
        TypeError, ValueError: n is not a positive int.

    """
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"use_threads: n is {n!r}; an int expected")
    if n < 1:
        raise ValueError(f"use_threads: n is {n}; at least 1 expected")
    if (blas := _openblas()) is not None:
        blas.set(min(n, _cores()))
    return threads()


def threads_for(multiply_adds: int) -> int:
    """Return the best number of threads for the largest products of a computation.

    It is one for each `WORK` multiply-adds of a product, at least one, and at most the
    cores that this process may use. If the user set a number (OPENBLAS_NUM_THREADS,
    GOTO_NUM_THREADS or OMP_NUM_THREADS), it is the number in effect.

    Args:
        multiply_adds: m · k · n of the largest product of an (m, k) and a (k, n).

    """
    if any(_positive(os.environ.get(name, "")) for name in _THREAD_VARIABLES):
        return threads() or 1
    return int(max(1, min(multiply_adds // WORK, _cores())))


def _positive(text: str) -> bool:
    """Return whether OpenBLAS reads this as a number of threads, by C's atoi."""
    found = re.match(r"\s*\+?(\d+)", text)
    return found is not None and int(found[1]) > 0


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS or Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _OpenBLAS(NamedTuple):
    get: Callable[[], int]
    set: Callable[[int], None]


@functools.cache
def _openblas() -> _OpenBLAS | None:
    """Return OpenBLAS's own functions for its threads; None if it is another BLAS."""
    for library in _libraries_of_numpy():
        # NumPy's wheels use other names; 64_ is the build with long integers.
        for name in ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_",
                     "openblas_{}"):  # fmt: skip
            get, put = (
                getattr(library, name.format(f"{verb}_num_threads"), None)
                for verb in ("get", "set")
            )
            if get is not None and put is not None:
                get.argtypes, get.restype = [], ctypes.c_int
                put.argtypes, put.restype = [ctypes.c_int], None
                return _OpenBLAS(get, put)
    return None


def _libraries_of_numpy() -> Iterator[ctypes.CDLL]:
    """Yield the loaded libraries that may contain NumPy's BLAS."""
    # NumPy's extension module first: a name is searched in the libraries linked to it,
    # and nowhere else. Windows does not search these, but has them in one folder.
    beside = Path(np.__file__).parent.parent / "numpy.libs"
    umath = str(importlib.import_module("numpy._core._multiarray_umath").__file__)
    for path in (umath, *map(str, sorted(beside.glob("*openblas*")))):
        with contextlib.suppress(OSError):
            yield ctypes.CDLL(path)
