"""The C kernels of a GPU, compiled for this machine's processor.

`run` does to host arrays what CuPy's ElementwiseKernel does to those of a GPU. So each
kernel can be compared with the NumPy calls next to it. This needs the compiler `g++`.
"""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from ctypes import CDLL
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scratchnet.backend import Kernel, cupy, philox
from scratchnet.kernels import activations, updates

ALL = [
    made
    for module in (activations, updates, philox)
    for made in vars(module).values()
    if isinstance(made, Kernel)
]
KERNELS = [kernel for kernel in ALL if not kernel.sums]  # a GPU's
TYPES = {
    "float64": "double", "int64": "long long", "uint64": "unsigned long long",
    "uint32": "unsigned int",
}  # fmt: skip
HEAD = """
#include <cmath>
using std::cos; using std::exp; using std::log; using std::pow; using std::sqrt;
#define __device__ static
typedef long long place;
"""

alone = shutil.which("g++") is None
needs_compiler = pytest.mark.skipif(alone, reason="no g++ to compile the kernels with")


def declared(kernel: Kernel) -> tuple[list[list[str]], list[list[str]]]:
    """Return the inputs and outputs for a GPU: ["raw", type, name] or [type, name]."""
    inputs, _ = cupy.for_gpu(kernel)
    return tuple(
        [one.split() for one in declarations.split(",") if one.strip()]
        for declarations in (inputs, kernel.outputs)
    )


def text(kernel: Kernel) -> str:
    """Return C++ that runs a kernel on each entry, for float and for double."""
    lines = [f"namespace of_{kernel.name} {{", kernel.preamble]
    lines.append("template <typename T> void run(place n, char** data) {")
    lines.append("for (place i = 0; i < n; ++i) {")
    inputs, outputs = declared(kernel)
    known = [(*p, "const ") for p in inputs] + [(*p, "") for p in outputs]
    for k, (*raw, kind, name, const) in enumerate(known):
        kind = TYPES.get(kind, kind)
        array = f"(({const}{kind}*)data[{k}])"
        lines.append(f"{const}{kind}* {name} = {array};" if raw
                     else f"{const}{kind}& {name} = {array}[i];")  # fmt: skip
    lines += [cupy.for_gpu(kernel)[1], "}", "}", "}"]
    for letter, kind in (("f", "float"), ("d", "double")):
        lines.append(
            f'extern "C" void {kernel.name}_{letter}(place n, char** data) '
            f"{{ of_{kernel.name}::run<{kind}>(n, data); }}"
        )
    return "\n".join(lines)


@cache
def library() -> Any:
    """Compile all kernels."""
    folder = Path(tempfile.mkdtemp())
    source, made = folder / "kernels.cpp", folder / "kernels.so"
    source.write_text(HEAD + "\n".join(map(text, KERNELS)))
    subprocess.run(
        ["g++", "-O1", "-ffp-contract=off", "-Wall", "-Werror", "-Wno-unused-function",
         "-shared", "-fPIC", str(source), "-o", str(made)],
        check=True,
    )  # fmt: skip
    found = CDLL(str(made))
    shutil.rmtree(folder)
    return found


def run(kernel: Kernel, arguments: Sequence[Any]) -> None:
    """Run a kernel on arrays and numbers, the inputs first and then the outputs."""
    inputs, made = declared(kernel)
    known = inputs + made
    if kernel.rows:
        arguments = (arguments[-1].shape[-1], *arguments)
    assert len(arguments) == len(known), kernel.name
    outputs = arguments[len(inputs) :]
    shape = outputs[0].shape
    assert all(out.shape == shape for out in outputs), kernel.name
    own = [a.dtype for a, (*_, kind, _) in zip(arguments, known, strict=True)
           if kind == "T" and isinstance(a, np.ndarray)]  # fmt: skip
    assert len(set(own)) <= 1, f"{kernel.name}: T stands for {set(own)}"
    T = own[0] if own else np.dtype(np.float64)
    full = []
    for a, (*raw, kind, name) in zip(arguments, known, strict=True):
        dtype = T if kind == "T" else np.dtype(kind)
        if isinstance(a, np.ndarray):
            assert a.dtype == dtype, f"{kernel.name}: {name} is {a.dtype}"
        array = np.asarray(a, dtype)
        array = array if raw else np.broadcast_to(array, shape)
        full.append(np.array(array, order="C"))
    pointers = (ctypes.c_void_p * len(full))(*(a.ctypes.data for a in full))
    function = getattr(library(), f"{kernel.name}_{T.char}")
    function(ctypes.c_longlong(full[-1].size), pointers)
    for out, made in zip(outputs, full[-len(outputs) :], strict=True):
        out[...] = made
