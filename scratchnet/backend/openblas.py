"""OpenBLAS, NumPy's library of matrix products: its threads, and its functions."""

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


class Threads:
    """The number of threads for NumPy's products, in OpenBLAS."""

    def threads(self) -> int | None:
        """Return the largest number of threads; None for another BLAS."""
        blas = _openblas()
        return None if blas is None else int(blas.get())

    def use_threads(self, n: int) -> None:
        """Use at most n threads, in the whole process; no effect on another BLAS."""
        if (blas := _openblas()) is not None:
            blas.set(n)

    def threads_for(self, multiply_adds: int) -> int:
        """Return the best number of threads if the user gave none."""
        return int(max(1, min(multiply_adds // WORK, cores())))


def given() -> int:
    """Return the number of threads that the user set in a variable, or 0."""
    return next(filter(None, map(_given, _THREAD_VARIABLES)), 0)


def products() -> list[int]:
    """Return the addresses of OpenBLAS's sgemm, dgemm, sgemv and dgemv.

    Their integers have 64 bits. The addresses are 0 if NumPy's BLAS lacks them.
    """
    names = ("sgemm", "dgemm", "sgemv", "dgemv")
    for library in _libraries_of_numpy():
        for form in ("scipy_cblas_{}64_", "cblas_{}64_"):
            functions = [getattr(library, form.format(name), None) for name in names]
            found = [
                ctypes.cast(f, ctypes.c_void_p).value or 0
                for f in functions
                if f is not None
            ]
            if len(found) == len(names):
                return found
    return [0] * len(names)


def copies_small_factors() -> bool:
    """Return whether OpenBLAS copies the factors of small products, as of large ones.

    Its kernels for processors with AVX-512 do not.
    """
    for library in _libraries_of_numpy():
        for form in ("scipy_openblas_get_corename64_", "openblas_get_corename64_"):
            if (corename := getattr(library, form, None)) is not None:
                corename.argtypes, corename.restype = [], ctypes.c_char_p
                return corename() not in (b"SkylakeX", b"Cooperlake", b"SapphireRapids")
    return True


def _given(variable: str) -> int:
    """Return the number of threads that OpenBLAS reads in a variable, by C's atoi.

    0 if the user gave none.
    """
    found = re.match(r"\s*\+?(\d+)", os.environ.get(variable, ""))
    return int(found[1]) if found else 0


def cores() -> int:
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
