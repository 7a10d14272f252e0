"""SciPy's spelling: `fun` with `jac=True` or a function `jac`, and `args`.

SciPy itself is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scratchnet.testing.problems import Array, Pair, argument_names


def problem(
    fun: Any, x: Any, jac: bool | Callable[..., Any], args: Sequence[Any]
) -> Pair:
    """Return the problem of an objective, or of residuals with their Jacobian.

    With `jac=True`, fun(x, *args) returns (value, gradient); otherwise jac(x, *args)
    returns the gradient, or the Jacobian of shape (m, n) if fun returns m values.
    """
    if jac is not True and not callable(jac):
        raise ValueError(f"gradcheck: jac={jac!r}; use True or a function, as in SciPy")
    if not callable(fun):
        raise TypeError(f"gradcheck: with jac=, fun must be a function; got {fun!r}")

    def value(x: Array) -> Array:
        returned = fun(x, *args)
        return np.asarray(returned[0] if jac is True else returned)

    def derivative(x: Array) -> Array:
        found = jac(x.copy(), *args) if callable(jac) else fun(x.copy(), *args)[1]
        # SciPy accepts sparse matrices.
        return np.asarray(found.toarray() if hasattr(found, "toarray") else found)

    def vjp(c: Array, x: Array) -> Array:
        jacobian = derivative(x)
        if c.size == 1 and jacobian.size == x.size:
            return np.asarray(c.ravel()[0] * jacobian.reshape(x.shape))
        if jacobian.shape != (c.size, x.size):
            raise ValueError(
                f"jac returned shape {jacobian.shape}; fun returns {c.size} values for "
                f"{x.size} variables, so it must be {(c.size, x.size)}"
            )
        return (c.ravel() @ jacobian).reshape(x.shape)

    return Pair(value, vjp, [np.array(x)], argument_names(fun, 1))
