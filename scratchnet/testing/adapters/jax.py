"""JAX: functions of JAX arrays and pytrees, with the gradient of `jax.vjp`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scratchnet.testing.adapters import trees
from scratchnet.testing.adapters.foreign import Foreign
from scratchnet.testing.problems import Array

Named = list[tuple[str, Any]]


class JaxFunction(Foreign):
    """A function of JAX arrays, in pytrees of any kind.

    Floating arrays are differentiated; Python's numbers and other leaves are constants.
    float64 is switched on for the calls that need it (`jax.enable_x64`).
    """

    convention = "dL/da - i dL/db for z = a + ib (JAX)"
    conjugate = True

    def __init__(
        self, f: Callable[..., Any], arguments: Sequence[Any], names: Sequence[str]
    ) -> None:
        self.f = f
        found: Named = []
        self.structures = []
        for name, argument in zip(names, arguments, strict=True):
            found += _named_leaves(argument, name)
            self.structures.append(jax.tree_util.tree_structure(argument))
        self.leaves = [leaf for _, leaf in found]
        self.places = [i for i, leaf in enumerate(self.leaves) if _is_floating(leaf)]
        self.names = [found[i][0] for i in self.places]
        self.arrays = [_to_numpy(self.leaves[i]) for i in self.places]

    def value(self, arrays: list[Array]) -> list[tuple[str, Array]]:
        """Return the floating outputs."""
        with _precision(arrays):
            outputs = self._outputs(self._variables(arrays))
            return [(name, _to_numpy(y)) for name, y in outputs]

    def vjp(self, arrays: list[Array], cotangents: list[Array]) -> list[Array | None]:
        """Return the gradients of jax.vjp."""
        with _precision(arrays):
            gradients = self._pull(self._variables(arrays), cotangents)
            return [_to_numpy(g) for g in gradients]

    def jvp(self, arrays: list[Array], tangents: list[Array]) -> list[Array]:
        """Return the derivatives of jax.jvp."""
        with _precision(arrays):
            _, found = jax.jvp(
                lambda *given: [y for _, y in self._outputs(list(given))],
                self._variables(arrays),
                self._variables(tangents),
            )
            return [_to_numpy(y) for y in found]

    def gradient_as_function(self, cotangents: list[Array]) -> Foreign:
        """Return the gradients as a function, which JAX differentiates again."""
        variables = [self.leaves[i] for i in self.places]
        outputs = [y for _, y in self._outputs(variables)]
        pairs = zip(cotangents, outputs, strict=True)
        own = [jnp.asarray(c, y.dtype) for c, y in pairs]
        return JaxFunction(self._pull, [variables, own], ["", ""])

    def _pull(self, variables: list[Any], cotangents: list[Any]) -> list[Any]:
        outputs, pull = jax.vjp(
            lambda *given: [y for _, y in self._outputs(list(given))], *variables
        )
        pairs = zip(cotangents, outputs, strict=True)
        return list(pull([jnp.asarray(c, y.dtype) for c, y in pairs]))

    def _variables(self, arrays: list[Array]) -> list[Any]:
        """Return JAX arrays with these values, each on the device of its leaf."""
        pairs = zip(self.places, arrays, strict=True)
        return [_like(self.leaves[i], a) for i, a in pairs]

    def _outputs(self, variables: list[Any]) -> Named:
        """Call f; return its floating outputs, each with its name."""
        leaves = [_constant(leaf, variables) for leaf in self.leaves]
        for i, x in zip(self.places, variables, strict=True):
            leaves[i] = x
        rest = iter(leaves)
        arguments = [
            jax.tree_util.tree_unflatten(s, [next(rest) for _ in range(s.num_leaves)])
            for s in self.structures
        ]
        outputs = _named_leaves(self.f(*arguments), "f")
        return [(name, y) for name, y in outputs if _is_floating(y)]


def adapter(f: Any, inputs: list[Any]) -> Foreign:
    """Return the adapter of a function."""
    return JaxFunction(f, inputs, trees.argument_paths(f, inputs))


def _named_leaves(tree: Any, path: str) -> Named:
    found = []
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = path
        for key in keys:
            named = (getattr(key, a) for a in ("key", "idx", "name") if hasattr(key, a))
            name = trees.join(name, next(named, key))
        found.append((name, leaf))
    return found


def _is_floating(x: Any) -> bool:
    if not isinstance(x, (jax.Array, np.ndarray, np.generic)):
        return False
    return bool(jnp.issubdtype(x.dtype, jnp.inexact))


def _to_numpy(x: Any) -> Array:
    """Return a copy; NumPy has no bfloat16."""
    x = x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x
    return np.array(x)


def _like(x: Any, a: Array) -> Any:
    """Return a JAX array with the values of `a`, on the device of x."""
    made = jnp.asarray(a)
    return jax.device_put(made, x.sharding) if isinstance(x, jax.Array) else made


def _constant(x: Any, variables: list[Any]) -> Any:
    """Return a constant in double precision, if the variables are."""
    wide = any(v.dtype in (jnp.float64, jnp.complex128) for v in variables)
    if not wide or not _is_floating(x):
        return x
    return x.astype(jnp.result_type(x.dtype, jnp.float64))


@contextlib.contextmanager
def _precision(arrays: list[Array]) -> Iterator[None]:
    """Switch float64 on for arrays that need it."""
    wide = any(a.dtype in (np.float64, np.complex128) for a in arrays)
    if not wide or jax.config.jax_enable_x64:
        yield
        return
    with jax.enable_x64(True):
        yield
