"""A run on disk: what it is, which files in its folder are its own, who works there.

    runs/vae/run.json       what the run is, and the names of its files
    runs/vae/checkpoints/   states to resume from; after the end the last one stays
    runs/vae/weights.npz    the result, with history.json and pictures beside it

Other people's files may lie in the same folder. A file is written over or removed only
if run.json lists it, or if it is a state that carries the id of the run.
"""

import contextlib
import hashlib
import os
import platform
import stat
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from scratchnet import __version__
from scratchnet.training.checkpoint import (
    FORMAT,
    Checkpoints,
    load_facts,
    read_json,
    write_json,
)

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

RUN, STATES, LOCK = "run.json", "checkpoints", ".scratchnet.lock"
WEIGHTS, HISTORY = "weights.npz", "history.json"
# Options that a run may change when it is resumed, or that its images stand for.
APART = frozenset({"epochs", "steps", "data", "examples"})


class RunError(ValueError):
    """A folder cannot be used for this run; says why, and what to do."""


# --- What a run is ------------------------------------------------------------------


@dataclass(frozen=True)
class About:
    """What a run is: the content of its run.json.

    Attributes:
        system: which one is trained.
        options: of `train`, by name.
        data: the digest of its images (see `digest`).
        shape: rows and columns of an image; None in runs of format 1.
        id: what its states carry; "" in runs of format 1.
        files: names of the files in its folder that are its own.
        finished: whether the result is written.
        threads: of the BLAS; None if they are not known.
        extended: for each time that it was extended: [from, to], in epochs or steps.
        format: which version of this file it was read from.

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
        """Return the part of it that every state carries."""
        found = asdict(self)
        return {k: found[k] for k in ("format", "system", "options", "data", "shape")}

    def differences(self, other: "About") -> list[str]:
        """Say in what this run, of which a file says that it is `other`, differs."""
        if self.system != other.system:
            return [f"it trains {other.system}, not {self.system}"]
        wrong = [
            f"--{name.replace('_', '-')} was {other.options.get(name)!r}, not {value!r}"
            for name, value in self.options.items()
            if name not in APART and other.options.get(name) != value
        ]
        if self.shape and other.shape and self.shape != other.shape:
            (m, n), (rows, columns) = self.shape, other.shape
            wrong.append(f"its images were {rows} x {columns}, not {m} x {n}")
        elif self.data != other.data:
            wrong.append("its images were others")
        return wrong


def parsed(found: Mapping[str, Any], where: str) -> About:
    """Return what a run.json, or the facts of a state, say of the run.

    Raises:
        RunError: it is damaged, or was written by a later version.

    """

    def is_names(x: Any) -> bool:
        return isinstance(x, list) and all(map(is_name, x))

    def is_pair(x: Any) -> bool:
        return isinstance(x, list) and len(x) == 2 and all(map(is_size, x))

    kinds: dict[str, Any] = {
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
            f"{where}: format {given['format']}, written by a later scratchnet than "
            f"{__version__}; install that one"
        )
    for name in ("shape", "files", "extended"):
        if given.get(name) is not None:
            items = (tuple(x) if isinstance(x, list) else x for x in given[name])
            given[name] = tuple(items)
    return About(**given)


def is_text(x: Any) -> bool:
    """Return whether x is a string of a length that a file may name."""
    return isinstance(x, str) and len(x) <= 4096


def is_size(x: Any) -> bool:
    """Return whether x is a positive int that fits into 63 bits."""
    return isinstance(x, int) and not isinstance(x, bool) and 0 < x < 2**63


def is_name(x: Any) -> bool:
    """Return whether x is the name of a file, and not a path to elsewhere."""
    return is_text(x) and x not in ("", ".", "..") and not set(x) & set("/\\:\0")


def digest(arrays: Iterable[Any]) -> str:
    """Return what tells these arrays, of which some may be None, from any others."""
    found = hashlib.sha256()
    for a in arrays:
        if a is not None:
            found.update(f"{a.dtype} {a.shape}".encode())
            found.update(np.ascontiguousarray(a).data)
    return found.hexdigest()


# --- Its folder ---------------------------------------------------------------------


@dataclass
class Folder:
    """The folder of a run.

    Args:
        path: it is made when something is written.

    """

    path: Path

    @property
    def states(self) -> Path:
        """The folder of the states."""
        return self.path / STATES

    def read(self) -> About | None:
        """Return what the run in this folder is; None if there is none.

        Raises:
            RunError: a file that should say it is damaged.

        """
        for path in (self.path / RUN, self.states / RUN):  # the second: format 1
            try:
                return parsed(read_json(path), str(path))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except ValueError as error:
                raise RunError(str(error)) from error
        with contextlib.suppress(ValueError, OSError):  # or it is no file of ours
            facts = load_facts(self.path / WEIGHTS)
            known = {"data": "", **facts, "finished": True}
            return parsed(known, str(self.path / WEIGHTS))
        return None

    def checkpoints(self, about: About) -> Checkpoints:
        """Return the states of a run in this folder."""
        return Checkpoints(self.states, run=about.id)

    def check_free(self, names: Iterable[str], own: Iterable[str]) -> None:
        """Raise RunError if a file of these names is there that is not the run's own.

        Args:
            names: of the files that are to be written.
            own: of those that may be written over.

        """
        own, places = set(own), {n: self.path / n for n in names}
        taken = [n for n, p in places.items() if n not in own and os.path.lexists(p)]
        taken += [n for n, p in places.items() if n in own and p.is_dir()]
        if self.states.exists() and not self.states.is_dir():
            taken.append(STATES)
        if taken:
            raise RunError(
                f"{self.path}: {', '.join(taken)} would be written over, and was not "
                "written by this run; move it away, or choose another --out"
            )

    def write(self, about: About) -> None:
        """Write run.json; in the place of that of format 1, if there is one."""
        self.path.mkdir(parents=True, exist_ok=True)
        content = asdict(replace(about, format=FORMAT))
        write_json(self.path / RUN, content)
        old = self.states / RUN
        if about.format == 1 and old.is_file():
            old.unlink()

    def add(self, name: str) -> None:
        """Add a file to those of the run, if it is not one of them already.

        Raises:
            RunError: the file is there and is not the run's own; the run is being
                trained.

        """
        about = self.read()
        own = about.files if about else ()
        self.check_free([name], own)
        if about is None or name in own or not (self.path / RUN).exists():
            return
        with self.locked():
            about = self.read() or about
            self.write(replace(about, files=(*about.files, name)))

    def remove(self, about: About) -> None:
        """Remove the files that a run lists as its own, its states, and run.json."""
        self.checkpoints(about).prune(0)
        old = [self.states / RUN] if about.format == 1 else []
        for path in [*(self.path / n for n in about.files), *old, self.path / RUN]:
            if path.is_file() or path.is_symlink():
                path.unlink()
        with contextlib.suppress(OSError):  # it holds other people's files
            self.states.rmdir()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of this folder, until the block ends.

        The system releases the lock when the process dies. If nothing was written, what
        was made for the lock is removed again.

        Raises:
            RunError: another process holds it.
            OSError: the folder cannot be made or written to.

        """
        missing = [p for p in (self.path, *self.path.parents) if not p.exists()]
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path}: a file is there; choose another --out")
        self.path.mkdir(parents=True, exist_ok=True)
        file = _take(self.path)
        try:
            yield
        finally:
            # While it is held: nobody else can have taken it.
            with contextlib.suppress(OSError):
                (self.path / LOCK).unlink()
            file.close()
            for path in missing:  # the innermost first
                with contextlib.suppress(OSError):  # something was written
                    path.rmdir()


# --- The lock -----------------------------------------------------------------------


def _take(folder: Path) -> BinaryIO:
    """Take the lock of a folder; return the file that holds it."""
    path = folder / LOCK
    while True:
        file = _opened(path)
        if not _lock(file):
            file.seek(0)
            holder = file.read(200).decode("utf-8", "replace").strip()
            file.close()
            raise RunError(
                f"{folder}: {holder or 'another process'} trains there; wait for its "
                "end, or choose another --out"
            )
        with contextlib.suppress(FileNotFoundError):
            # Another process may have ended, and removed the file, in between.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                break
        file.close()
    file.seek(0)
    file.truncate()
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    file.write(f"process {os.getpid()} on {platform.node()}, since {since},".encode())
    file.flush()
    return file


def _opened(path: Path) -> BinaryIO:
    """Open the file of a lock, and make it if need be."""
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RunError(f"{path}: not a file; remove it")
    return open(descriptor, "r+b")


def _lock(file: BinaryIO) -> bool:
    """Lock a file for this process alone; return whether that succeeded.

    Where the system has no locks (some network drives) there is a warning.
    """
    try:
        if sys.platform == "win32":
            file.seek(2**30)  # behind the text, which others may then read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        warnings.warn(
            f"{file.name}: no lock ({error.strerror}); make sure that no other process "
            "trains there",
            stacklevel=2,
        )
    return True
