"""Functions of the table that one kernel in C computes, with the backend "c".

`in_c` stands below the rule of a function. It gives the value and the derivatives
again, for one entry, in C. Small arrays, arrays that the kernel does not take, and all
other backends use NumPy's functions, as the table has them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scratchnet import backend
from scratchnet.backend import Array, Kernel
from scratchnet.table import TABLE, Function

__all__: list[str] = []


def in_c(
    function: Function,
    inputs: str,
    value: str,
    *rules: str | None,
    numbers: Mapping[str, float] | None = None,
) -> None:
    """Compute a function in the table, and its derivatives, by kernels.

    Args:
        function: its arguments are the inputs, then the numbers.
        inputs: the names of the inputs, separated by spaces.
        value: C code that assigns y.
        *rules: C code that assigns d, the derivative with respect to each input, from
            g, y and the inputs; None keeps the rule of the table.
        numbers: the names of further arguments, and their values by default.

    """
    row: Any = TABLE[function]
    defaults = dict(numbers or {})
    name = function.__name__.strip("_")
    arrays = ", ".join(f"T {x}" for x in inputs.split())
    taken = ", ".join(f"T {x}" for x in defaults)
    kernel = Kernel(f"{name}_value", arrays, "T y", value, numbers=taken)
    n = len(inputs.split())
    plain = row.forward, row.rules
    made: list[Function | None] = list(row.rules)
    for i, body in enumerate(rules):
        if body is not None:
            found = Kernel(
                f"{name}_rule_{i}", f"T g, T y, {arrays}", "T d", body, numbers=taken
            )
            made[i] = _rule(found, n, tuple(defaults.values()), plain[1][i])
    fused = _value(kernel, n, tuple(defaults.values()), row.forward), tuple(made)

    def choose() -> None:
        row.forward, row.rules = fused if backend.name() == "c" else plain

    backend.follow(choose)


def _value(kernel: Kernel, n: int, defaults: Any, plain: Function) -> Function:
    def forward(*args: Any, **kwargs: Any) -> Array:
        numbers = args[n:] or tuple(kwargs.values()) or defaults
        y = backend.compute(kernel, *numbers, *args[:n])
        return plain(*args, **kwargs) if y is None else y

    return forward


def _rule(kernel: Kernel, n: int, defaults: Any, plain: Any) -> Function:
    # The g of a sum is the same number for all entries.
    constant = kernel._replace(
        name=f"{kernel.name}_constant",
        inputs=kernel.inputs.removeprefix("T g, "),
        numbers=", ".join(filter(None, ("T g", kernel.numbers))),
    )

    def rule(g: Any, y: Any, *args: Any, **kwargs: Any) -> Any:
        numbers = args[n:] or tuple(kwargs.values()) or defaults
        if type(g) is not np.ndarray or type(y) is not np.ndarray or g.dtype != y.dtype:
            d = None
        elif g.size > 1 and not any(g.strides):
            d = backend.compute(constant, g.item(0), *numbers, y, *args[:n])
        else:
            d = backend.compute(kernel, *numbers, g, y, *args[:n])
        return plain(g, y, *args, **kwargs) if d is None else d

    return rule
