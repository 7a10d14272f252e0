"""NumPy's arrays, with kernels in C and matrix products cut over a pool of threads.

The kernels are the texts that a GPU runs, compiled for the processor (compiler.py). The
pool is in native/pool.c. OpenBLAS computes each block of a product with one thread.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from scratchnet.backend import compiler, openblas
from scratchnet.backend.library import Array, BackendError, Kernel, Shape, parameters
from scratchnet.backend.numpy import NumPy

# The C types of a kernel's numbers and arrays, and the names of dtypes in array.h.
_NUMBERS = {
    "T": ("double", ctypes.c_double),
    "float64": ("double", ctypes.c_double),
    "uint64": ("uint64_t", ctypes.c_uint64),
    "uint32": ("uint32_t", ctypes.c_uint32),
}
_ARRAYS = {
    "T": ("T", "T_"), "float64": ("double", "FLOAT64"), "int64": ("int64_t", "INT64")
}  # fmt: skip


class C(NumPy):
    """Arrays on the host; kernels in C."""

    name = "c"

    def __init__(self) -> None:
        if os.name != "posix":
            raise BackendError(
                "backend 'c': its threads need POSIX (Linux, macOS); use 'numpy'"
            )
        _check_fields()
        pool = compiler.load(_HEAD + (compiler.NATIVE / "pool.c").read_text())
        products = openblas.products()
        pool.setup.restype = ctypes.c_void_p
        self._shared = pool.setup(
            ctypes.c_void_p(id(np.ndarray)),
            (ctypes.c_void_p * len(products))(*products),
            openblas.copies_small_factors(),
        )
        self._pool = pool
        self._product = pool.product
        self._product.argtypes = [ctypes.py_object] * 3
        self.product = self._times
        self._kernels: dict[Kernel, Callable[..., int]] = {}

    def chosen(self) -> None:
        # OpenBLAS computes a block by one thread: its own would wait for each other.
        self._before = super().threads()
        super().use_threads(1)
        self.use_threads(openblas.given() or openblas.cores())

    def left(self) -> None:
        if self._before is not None:
            super().use_threads(self._before)

    def threads(self) -> int | None:
        return self._threads

    def use_threads(self, n: int) -> None:
        self._threads = min(n, openblas.cores())
        self._pool.use_threads(self._threads)

    def threads_for(self, multiply_adds: int) -> int:
        return openblas.cores()  # the pool uses fewer for small work

    def zeros(self, shape: Shape, dtype: DTypeLike) -> Array:
        return _aligned(np.zeros, shape, np.dtype(dtype))

    def empty(self, shape: Shape, dtype: DTypeLike) -> Array:
        return _aligned(np.empty, shape, np.dtype(dtype))

    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        return out if self._product(a, b, out) else np.matmul(a, b, out=out)

    def _times(self, a: Array, b: Array) -> Array:
        if type(a) is type(b) is np.ndarray and a.ndim == b.ndim == 2:
            out = np.empty((a.shape[0], b.shape[1]), a.dtype)
            if self._product(a, b, out):
                return out
        return np.matmul(a, b)

    def sum_of_rows(self, a: Array) -> Array:
        if type(a) is np.ndarray and a.ndim == 2 and a.size >= WORTH:
            out = np.empty((1, a.shape[1]), a.dtype)
            if self._product(np.ones((1, len(a)), a.dtype), a, out):
                return out[0]
        return np.sum(a, axis=0)

    def run_kernel(self, kernel: Kernel, arguments: Sequence[Any]) -> bool:
        made = self._kernels.get(kernel)
        if made is None:
            made = self._kernels[kernel] = self._compiled(kernel)
        return bool(made(*arguments))

    def compute(self, kernel: Kernel, arguments: Sequence[Any]) -> Array | None:
        like = arguments[-1]
        if type(like) is not np.ndarray or like.size < WORTH:
            return None
        out = np.empty(like.shape, like.dtype)
        try:
            return out if self.run_kernel(kernel, (*arguments, out)) else None
        except ctypes.ArgumentError:  # a number is a Tensor, or an array
            return None

    def _compiled(self, kernel: Kernel) -> Callable[..., int]:
        """Return the kernel as a function; it returns 0 if NumPy has to do the work."""
        library = compiler.load(text(kernel))
        library.connect(ctypes.c_void_p(self._shared))
        function: Any = getattr(library, kernel.name)
        numbers = [_NUMBERS[kind][1] for kind, _ in parameters(kernel.numbers)]
        objects = [ctypes.py_object] * len(_arrays(kernel))
        function.argtypes = [*numbers, *objects]
        made: Callable[..., int] = function
        return made


_LINE = 64  # bytes in a line of a cache, and in the longest vector of a processor


def _aligned(make: Callable[..., Array], shape: Shape, dtype: np.dtype) -> Array:
    """Make an array whose vectors do not cross lines of the cache."""
    size = math.prod(np.atleast_1d(shape).tolist()) * dtype.itemsize
    memory = make(size + _LINE, np.uint8)
    first = -memory.ctypes.data % _LINE
    return memory[first : first + size].view(dtype).reshape(shape)


# --- Kernels in C -------------------------------------------------------------------

# The bytes before the fields of an array.
_HEAD_SIZE = object.__basicsize__

_HEAD = f"#define HEAD {_HEAD_SIZE}\n"

WORTH = 1000  # entries for which a kernel is faster than several calls of NumPy

LANES = 16  # sums at once of a row: a single one would wait for each addition


class _Parameter(NamedTuple):
    """An array of a kernel."""

    kind: str  # in C
    dtype: str  # in array.h
    name: str
    role: str  # in kernel.h
    output: bool

    @property
    def pointer(self) -> str:
        """The type of its data in C."""
        return f"{'' if self.output else 'const '}{self.kind} *restrict"


def _arrays(kernel: Kernel) -> list[_Parameter]:
    """Return the arrays of a kernel, in the order of its arguments."""
    return [
        _Parameter(*_ARRAYS[kind], name, role, output)
        for declared, role, output in (
            (kernel.rows, "ROW", False),
            (kernel.inputs, "ENTRY", False),
            (kernel.outputs, "ENTRY", True),
            (kernel.sums, "SUM", True),
        )
        for kind, name in parameters(declared)
    ]


def text(kernel: Kernel) -> str:
    """Return a kernel as a file in C: loops for both types, and what Python calls."""
    arrays = _arrays(kernel)
    n = len(arrays)
    whole = max(k for k, a in enumerate(arrays) if a.role == "ENTRY")
    numbers = [(_NUMBERS[kind][0], name) for kind, name in parameters(kernel.numbers)]
    taken = [f"{kind} {name}" for kind, name in numbers]
    fields = "".join(f"{one}; " for one in taken)
    values = "".join(f".{name} = {name}, " for _, name in numbers)
    taken += [f"const void *{a.name}" for a in arrays]
    known = ", ".join(f"{{{a.dtype}, {a.role}, {int(a.output)}}}" for a in arrays)
    objects = ", ".join(a.name for a in arrays)
    return "\n".join([
        f"/* {kernel.name}, made by c.py. */",
        _HEAD,
        '#include "functions.h"',
        '#include "kernel.h"',
        kernel.preamble.replace("__device__", "static inline"),
        f"typedef struct {{ {fields}const void *data[{n}]; long columns; }} arguments;",
        *(_loop(kernel, T) for T in ("float", "double")),
        "static const host *shared;",
        "void connect(const host *h) { shared = h; }",
        f"int {kernel.name}({', '.join(taken)}) {{",
        f"    static const parameter known[] = {{{known}}};",
        f"    const void *objects[] = {{{objects}}};",
        f"    arguments c = {{{values}.columns = 1}};",
        "    long entries;",
        f"    int T = prepare(shared, known, {n}, {whole}, objects, c.data, &entries,",
        "                    &c.columns);",
        f"    if (T < 0{' || !entries' * bool(kernel.sums)})",
        "        return 0;",
        "    if (entries)",
        "        shared->run(T == FLOAT32 ? part_float : part_double, &c,",
        "                    entries / c.columns, 1 + WORK / c.columns);",
        "    return 1;",
        "}",
        "",
    ])  # fmt: skip


def _loop(kernel: Kernel, T: str) -> str:
    """Return the function that computes entries or rows [begin, end), of one type."""
    arrays = _arrays(kernel)
    lines = [
        f"static void part_{T}(const void *call, long begin, long end) {{",
        f"typedef {T} T;",
        "const arguments *c = call;",
    ]
    for kind, name in parameters(kernel.numbers):
        kind = kind if kind == "T" else _NUMBERS[kind][0]
        lines.append(f"const {kind} {name} = c->{name};")
    for k, a in enumerate(arrays):
        lines.append(f"{a.pointer} {a.name}_ = (void *)c->data[{k}];")
    entry = [f"{a.kind} {a.name} = {a.name}_row[i];" for a in arrays if a.role != "SUM"]
    entry.append(kernel.body)
    entry += [f"{a.name}_row[i] = {a.name};" for a in arrays
              if a.role == "ENTRY" and a.output]  # fmt: skip
    if all(a.role == "ENTRY" for a in arrays):
        lines += [f"{a.pointer} {a.name}_row = {a.name}_;" for a in arrays]
        lines += ["for (long i = begin; i < end; ++i) {", *entry, "}"]
    else:
        lines.append("for (long row = begin; row < end; ++row) {")
        for a in arrays:
            start = " + row * c->columns" if a.role == "ENTRY" else ""
            if a.role != "SUM":
                lines.append(f"{a.pointer} {a.name}_row = {a.name}_{start};")
        lines += [*_row(entry, [a for a in arrays if a.role == "SUM"]), "}"]
    return "\n".join([*lines, "}"])


def _row(entry: Sequence[str], sums: Sequence[_Parameter]) -> list[str]:
    """Return the loop over the columns of a row, and its sums."""
    if not sums:
        return ["for (long i = 0; i < c->columns; ++i) {", *entry, "}"]

    def added(lane: str) -> list[str]:
        return [
            *(f"{s.kind} {s.name};" for s in sums),
            *entry,
            *(f"{s.name}_sum[{lane}] += {s.name};" for s in sums),
        ]

    return [
        *(f"{s.kind} {s.name}_sum[{LANES}] = {{0}};" for s in sums),
        "long first = 0;",
        f"for (; first + {LANES} <= c->columns; first += {LANES})",
        f"for (int lane = 0; lane < {LANES}; ++lane) {{",
        "const long i = first + lane;",
        *added("lane"),
        "}",
        "for (long i = first; i < c->columns; ++i) {",
        *added("0"),
        "}",
        f"for (int lane = 1; lane < {LANES}; ++lane) {{",
        *(f"{s.name}_sum[0] += {s.name}_sum[lane];" for s in sums),
        "}",
        *(f"{s.name}_[row] = {s.name}_sum[0];" for s in sums),
    ]


def _check_fields() -> None:
    """Check that C finds the fields of an array where it looks for them.

    Raises:
        BackendError: it does not.

    """
    a = np.zeros((2, 3))[:, ::2]
    at, word = id(a) + _HEAD_SIZE, ctypes.sizeof(ctypes.c_void_p)
    kind = ctypes.c_void_p.from_address(at - word).value
    data, rank, shape, strides, _, dtype, flags = (
        ctypes.c_ssize_t.from_address(at + k * word).value for k in range(7)
    )
    pair = ctypes.c_ssize_t * 2
    found: tuple[object, ...] = (
        kind, data, rank & 0xFFFFFFFF, tuple(pair.from_address(shape)),
        tuple(pair.from_address(strides)), dtype, flags & 0xFFFFFFFF,
    )  # fmt: skip
    expected: tuple[object, ...] = (
        id(np.ndarray), a.ctypes.data, 2, a.shape, a.strides, id(a.dtype), a.flags.num
    )  # fmt: skip
    for d in map(np.dtype, ("f4", "f8", "i8", ">f4")):
        fields = (ctypes.c_char * 3).from_address(id(d) + _HEAD_SIZE + word)
        found += (fields.raw.decode(),)
        expected += (d.kind + d.char + d.byteorder,)
    if found != expected:
        raise BackendError(
            "backend 'c': the arrays of this Python or NumPy are laid out in another "
            "way; use 'numpy'"
        )
