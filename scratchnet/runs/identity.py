"""The description of a run: the content of its run.json, and its checks."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard

from scratchnet import __version__
from scratchnet.training.checkpoint import FORMAT


class RunError(ValueError):
    """A folder cannot be used for this run; the message says why, and what to do."""


@dataclass(frozen=True)
class About:
    """The description of a run: the content of its run.json.

    Attributes:
        system: the name of the system.
        options: the options of `train`, by name.
        data: the digest of its images (see `digest`).
        shape: rows and columns of an image; None in runs of format 1.
        id: the id in all its states; "" in runs of format 1.
        files: names of the files in its folder that belong to it.
        finished: whether the result is written.
        threads: the number of threads of the BLAS; None if unknown.
        extended: (from, to) in epochs or steps, for each extension.
        format: the version of the file that it was read from.

    """

    system: str
    options: dict[str, Any]
    data: str
    shape: tuple[int, int] | None = None
    id: str = ""
    files: tuple[str, ...] = ()
    finished: bool = False
    threads: int | None = None
    extended: tuple[tuple[int, int], ...] = ()
    format: int = FORMAT

    def command(self) -> dict[str, Any]:
        """Return the part that is saved in every state."""
        found = asdict(self)
        return {k: found[k] for k in ("format", "system", "options", "data", "shape")}


def parsed(found: Mapping[str, Any], where: str) -> About:
    """Return the description in a run.json or in the facts of a state.

    Raises:
        RunError: it is damaged, or was written by a later version.

    """

    def is_names(x: object) -> bool:
        return isinstance(x, list) and all(map(is_name, x))

    def is_pair(x: object) -> bool:
        return isinstance(x, list) and len(x) == 2 and all(map(is_size, x))

    kinds: dict[str, Callable[[object], bool]] = {
        "format": is_size,
        "system": is_text,
        "options": lambda x: isinstance(x, dict),
        "data": is_text,
        "shape": lambda x: x is None or is_pair(x),
        "id": is_text,
        "files": is_names,
        "finished": lambda x: isinstance(x, bool),
        "threads": lambda x: x is None or is_size(x),
        "extended": lambda x: isinstance(x, list) and all(map(is_pair, x)),
    }
    given = {k: v for k, v in found.items() if k in kinds}
    for name in ("format", "system", "options", "data"):
        if name not in given:
            raise RunError(f"{where}: damaged ({name} is missing)")
    for name, value in given.items():
        if not kinds[name](value):
            shown = repr(value)
            shown = shown if len(shown) < 60 else f"{shown[:60]}..."
            raise RunError(f"{where}: damaged ({name} is {shown})")
    if given["format"] > FORMAT:
        raise RunError(
            f"{where}: format {given['format']}, written by a later version than this "
            f"scratchnet {__version__}; install the later one"
        )
    for name in ("shape", "files", "extended"):
        if given.get(name) is not None:
            items = (tuple(x) if isinstance(x, list) else x for x in given[name])
            given[name] = tuple(items)
    return About(**given)


def is_text(x: object) -> TypeGuard[str]:
    """Return whether x is a string that is short enough for a path."""
    return isinstance(x, str) and len(x) <= 4096


def is_size(x: object) -> TypeGuard[int]:
    """Return whether x is a positive int below 2**63."""
    return isinstance(x, int) and not isinstance(x, bool) and 0 < x < 2**63


def is_name(x: object) -> TypeGuard[str]:
    """Return whether x is the plain name of a file, without a path."""
    return is_text(x) and x not in ("", ".", "..") and not set(x) & set("/\\:\0")
