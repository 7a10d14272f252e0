"""Nested dicts, lists and tuples: their leaves, each with a path as its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from scratchnet.testing.problems import argument_names


def named_leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, leaf) for each leaf; a path reads like `encoder.0.W`."""
    if not is_tree(tree):
        yield path, tree
        return
    for key, branch in _branches(tree):
        yield from named_leaves(branch, join(path, key))


def leaves(tree: Any) -> list[Any]:
    """Return the leaves of a tree, in order."""
    return [leaf for _, leaf in named_leaves(tree)]


def rebuild(tree: Any, new: Iterator[Any]) -> Any:
    """Return a tree like this one, with the next of `new` for each leaf."""
    if not is_tree(tree):
        return next(new)
    made = [rebuild(branch, new) for _, branch in _branches(tree)]
    if isinstance(tree, Mapping):
        named = dict(zip(tree, made, strict=True))
        return named if type(tree) is dict else type(tree)(named)  # type: ignore[call-arg]
    if isinstance(tree, list):
        return made
    return type(tree)(*made) if hasattr(tree, "_fields") else tuple(made)


def is_tree(x: Any) -> bool:
    """Return whether x is a dict, list or tuple; a list of numbers is an array."""
    if isinstance(x, Mapping):
        return True
    return isinstance(x, (list, tuple)) and not _is_array(x)


def join(path: str, key: object) -> str:
    """Return the path of a branch."""
    return f"{path}.{key}" if path else str(key)


def _branches(tree: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(tree, Mapping):
        yield from tree.items()
    else:
        yield from zip(getattr(tree, "_fields", range(len(tree))), tree, strict=True)


def _is_array(x: list[Any] | tuple[Any, ...]) -> bool:
    """Return whether x has numbers alone, in lists of any depth."""
    return bool(x) and all(
        isinstance(v, (bool, int, float, complex))
        or (isinstance(v, (list, tuple)) and _is_array(v))
        for v in x
    )


def argument_paths(f: Callable[..., Any], arguments: Sequence[Any]) -> list[str]:
    """Name the arguments of f; a tree that is the only argument needs no name."""
    if len(arguments) == 1 and is_tree(arguments[0]):
        return [""]
    return argument_names(f, len(arguments))


def aligned(tree: Any, given: Any, path: str) -> Iterator[Any]:
    """Yield the leaf of `given` for each leaf of `tree`; None stands for a branch.

    Raises:
        ValueError: the two have different structures.

    """
    if not is_tree(tree):
        yield given
        return
    keys = [key for key, _ in _branches(tree)]
    parts = dict(_branches(given)) if is_tree(given) else {}
    if given is None:
        parts = dict.fromkeys(keys)
    if parts.keys() != set(keys):
        kind = type(tree).__name__
        raise ValueError(
            f"the gradient of {path or 'the input'} must be a {kind} "
            f"with {', '.join(map(str, keys))}, like the input"
        )
    for key, branch in _branches(tree):
        yield from aligned(branch, parts[key], join(path, key))
