"""Writes named arrays to a file and reads them back, without pickle.

The file is NumPy's .npz, an archive of one .npy file for each array, and a JSON text
that describes them. `Checkpoints` keeps the last few states of a run in a folder, so
that a run that was interrupted can resume.
"""

import contextlib
import json
import math
import os
import platform
import secrets
import stat
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np

from scratchnet import __version__, backend, checks
from scratchnet.backend import Array
from scratchnet.training.distributed import Group

__all__ = [
    "Checkpoints",
    "State",
    "Stopped",
    "adding",
    "generator_state",
    "load",
    "load_facts",
    "machine",
    "read_json",
    "save",
    "set_generator_state",
    "write_json",
    "write_whole",
]

_ABOUT = "about.json"  # the name of the JSON text among the arrays


def save(path: str | Path, arrays: Mapping[str, Array], **about: Any) -> Path:
    """Write `arrays` and the facts `about` them to `path`, completely or not at all.

    An existing file is replaced only when the new one is complete.

    Args:
        path: the file; its folder must exist.
        arrays: arrays by name, for example a `state_dict`.
        **about: any values that JSON can hold.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
        TypeError: JSON cannot hold something in `about`.
        ValueError: an array has the name kept for the facts.

    """
    path = checks.path("save", path)
    _save(path, arrays, about, path.with_name(f".{path.name}.{os.getpid()}"))
    return path


def _save(
    path: Path, arrays: Mapping[str, Array], about: Mapping[str, Any], temporary: Path
) -> None:
    _check_arrays("save", arrays)
    if _ABOUT in arrays:
        raise ValueError(f"save: the name {_ABOUT!r} is reserved; rename that array")
    content = {**arrays, _ABOUT: np.array(json.dumps(about))}
    with _whole(path, temporary) as file, zipfile.ZipFile(file, "w") as archive:
        for name, a in content.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(
                    entry, backend.to_numpy(a), allow_pickle=False
                )


def _check_arrays(owner: str, arrays: Any) -> None:
    """Raise TypeError unless this maps names to arrays of numbers."""
    checks.mapping(owner, "arrays", arrays)
    for name, a in arrays.items():
        if not backend.is_array(a) or a.dtype.hasobject:
            raise TypeError(f"{owner}: {name} is {a!r}; an array of numbers expected")
        checks.plain_array(owner, name, a)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    if not isinstance(content, bytes):
        raise TypeError(f"write_whole: a {type(content).__name__} given, not bytes")
    path = checks.path("write_whole", path)
    with _whole(path, path.with_name(f".{path.name}.{os.getpid()}")) as file:
        file.write(content)


@contextlib.contextmanager
def _whole(path: Path, temporary: Path) -> Iterator[Any]:
    """Open a file for writing; when it is on the disk, it replaces `path`.

    Until then its name is `temporary`, in the same folder, because a rename is atomic
    only within one file system.

    Raises:
        OSError: it cannot be written; the error names `path`.

    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:  # on a full disk it names no file or the temporary one
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def load(
    path: str | Path, *, max_bytes: int = 2**32
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a file that `save` wrote: the arrays, and the facts about them.

    Nothing is unpickled. The arrays take no more memory than the length of the file,
    whatever its headers claim.

    Args:
        path: a plain file, or a link to one.
        max_bytes: a longer file is refused.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: `save` did not write the file, or it is damaged or too long.

    """
    path = checks.path("load", path)
    checks.number("load", "max_bytes", max_bytes, checks.POSITIVE)
    return _read(path, max_bytes, lambda name: True)


def load_facts(path: str | Path) -> dict[str, Any]:
    """Read only the facts of a file that `save` wrote; errors as for `load`."""
    path = checks.path("load_facts", path)
    return _read(path, math.inf, lambda name: name == _ABOUT)[1]


def _read(
    path: Path, max_bytes: float, wanted: Callable[[str], bool]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the arrays whose names are wanted, and the facts."""
    try:
        arrays = {}
        with _plain_file(path, max_bytes) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_entries(entries, os.fstat(file.fileno()).st_size)
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                if not wanted(name):
                    continue
                with archive.open(entry) as content:
                    _check_header(content, entry)
                # Opened again, because seeking back may disable the checksum.
                with archive.open(entry) as content:
                    array = np.lib.format.read_array(content, allow_pickle=False)
                arrays[name] = array
        about = json.loads(str(arrays.pop(_ABOUT)))
        if not isinstance(about, dict):
            raise ValueError(f"{_ABOUT} is not a dict")
        return arrays, about
    except FileNotFoundError:
        raise
    except Exception as error:  # of zipfile, zlib, NumPy or JSON
        raise ValueError(f"{path}: not a file of weights ({error})") from error


@contextlib.contextmanager
def _plain_file(path: Path, max_bytes: float) -> Iterator[BinaryIO]:
    """Open a file for reading. A pipe or a device is refused: it may never end.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not a plain file, or is longer than `max_bytes`.

    """
    # O_NONBLOCK: opening a pipe without a writer would wait forever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is a folder, a pipe or a device; a file expected")
        if status.st_size > max_bytes:
            raise ValueError(f"it has {status.st_size} bytes; at most {max_bytes}")
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_json(path: str | Path, max_bytes: int = 2**20) -> dict[str, Any]:
    """Read a dict from a JSON file in UTF-8.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds no dict, or is longer than `max_bytes`.

    """
    path = checks.path("read_json", path)
    checks.count("read_json", "max_bytes", max_bytes)
    try:
        with _plain_file(path, max_bytes) as file:
            found = json.loads(file.read(max_bytes).decode("utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}; a dict expected")
        return found
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error})") from error


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a dict to a JSON file, completely or not at all."""
    checks.mapping("write_json", "content", content)
    path = checks.path("write_json", path)
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode("utf-8"))


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Raise ValueError unless `save` could have written these entries."""
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise ValueError("two entries have the same name")
    for entry in entries:
        parts = entry.filename.replace("\\", "/").split("/")
        if ".." in parts or not parts[0]:
            raise ValueError(f"{entry.filename} leads out of the folder")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{entry.filename} is compressed")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("its entries claim more bytes than the file has")


def _check_header(content: IO[bytes], entry: zipfile.ZipInfo) -> None:
    """Raise ValueError unless an array has the length in its header."""
    version = np.lib.format.read_magic(content)
    if version != (1, 0):
        raise ValueError(f"{entry.filename} has version {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(content)
    claimed = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or claimed != entry.file_size - content.tell():
        raise ValueError(f"{entry.filename} is shorter or longer than its header says")


def _sync_folder(folder: Path) -> None:
    """Force a rename to the disk, if the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# --- States of a run ----------------------------------------------------------------

# The format of states, of run.json and of the facts in weights; each change adds 1.
# 1: run.json in the folder of the states; no states after the end. 2: see `runs`.
FORMAT = 2


class State(NamedTuple):
    """Everything that a run needs to resume, exact to the last bit."""

    arrays: dict[str, np.ndarray]
    """Arrays by name: of the model, its optimizer and its averages, for instance."""

    facts: dict[str, Any]
    """Values for JSON: generators, counts, the history."""


# A run calls this after each step, with a function that makes its state.
Save = Callable[[Callable[[], State]], None]


def adding(
    save: Save,
    arrays: Mapping[str, Array] | Callable[[], Mapping[str, Array]],
    **facts: Any,
) -> Save:
    """Return a Save that adds arrays and facts to each state before `save` gets it.

    Args:
        save: gets the states.
        arrays: arrays by name; or a function that returns those of the moment.
        **facts: any values that JSON can hold.

    """
    checks.function("adding", "save", save, "Checkpoints(folder)")
    if callable(arrays):
        return _Adding(save, lambda: State(_copied(arrays()), facts))
    kept = State(_copied(arrays), facts)
    return _Adding(save, lambda: kept)


def _copied(arrays: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Return copies on the host."""
    _check_arrays("adding", arrays)
    return {name: np.array(backend.to_numpy(a)) for name, a in arrays.items()}


class _Adding:
    """A Save that adds to every state; its group is that of the inner Save."""

    def __init__(self, save: Save, more: Callable[[], State]) -> None:
        self.save, self.more = save, more
        self.group = getattr(save, "group", None)

    def __call__(self, state: Callable[[], State]) -> None:
        self.save(partial(self._both, state))

    def end(self, state: Callable[[], State]) -> None:
        save_last(self.save, partial(self._both, state))

    def _both(self, state: Callable[[], State]) -> State:
        inner, more = state(), self.more()
        return State(inner.arrays | more.arrays, inner.facts | more.facts)


def save_last(save: Save | None, state: Callable[[], State]) -> None:
    """Pass on the state after the last step, if `save` keeps it (`Checkpoints`)."""
    end = getattr(save, "end", None)
    if end is not None:
        end(state)


class Stopped(Exception):
    """The run was asked to stop; its state is saved."""


class Checkpoints:
    """The last few states of a run, in a folder of their own.

    `fit(..., checkpoints=c)` passes its state to `c` after each step; `c` writes one
    every few seconds. `fit(..., resume=c.last())` resumes the run. The state after the
    last step is always written, so that the run can be extended.

    Every state holds the id of its run. Files of other runs, and any other files in the
    folder, are never overwritten or removed.

    Args:
        folder: the folder; it is made with the first state.
        every: seconds between two states; 0 writes after each step.
        keep: the number of states to keep.
        group: processes that train together (`distributed.Group`). The first one writes
            for all. When one is asked to stop, all stop after the same step.
        run: the id of the run, a string; by default a new one, or that of the resumed
            run.

    Attributes:
        stop: set this to True, for example in a signal handler, to stop after the next
            step: its state is written, and `Stopped` is raised.

    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every: float = 60.0,
        keep: int = 3,
        group: Group | None = None,
        run: str | None = None,
    ) -> None:
        checks.number("Checkpoints", "every", every, "[0, inf]")
        checks.count("Checkpoints", "keep", keep)
        if not isinstance(run, str | None):
            raise TypeError(f"Checkpoints: run is {run!r}; a string expected")
        self.folder = checks.path("Checkpoints", folder)
        self.every = every
        self.keep = keep
        self.group = group
        self.stop = False
        self.run = secrets.token_hex(8) if run is None else run
        self._chosen = run is not None
        self._runs: dict[Path, str | None] = {}  # the runs of the files read so far
        self._written = time.monotonic()

    def __call__(self, state: Callable[[], State]) -> None:
        """Write the state that `state` returns, if it is time to.

        Raises:
            OSError: it cannot be written; the earlier states still exist.
            Stopped: the run was asked to stop, and its state is written.

        """
        due = time.monotonic() - self._written >= self.every
        stop, where = self.stop, self.folder
        if self.group is not None:
            asked = self.group.gathered((stop, due))
            stop, due = any(one for one, _ in asked), asked[0][1]
        if stop or due:
            where = self._write_by_one(state) or where
        if stop:
            raise Stopped(f"stopped; the state is in {where}")

    def end(self, state: Callable[[], State]) -> None:
        """Write the state after the last step."""
        self._write_by_one(state)

    def _write_by_one(self, state: Callable[[], State]) -> Path | None:
        """Let the first process write the state; return the file in that process."""
        path = None
        found = state()  # in all processes, because it may raise an error
        if self.group is None or self.group.rank == 0:
            path = self.write(found)
        self._written = time.monotonic()
        return path

    def write(self, state: State) -> Path:
        """Write a state, remove the oldest ones beyond `keep`; return its file."""
        if not isinstance(state, State):
            raise TypeError(f"Checkpoints: {state!r} given, a State expected")
        if not self._chosen:
            self.run = state.facts.get("run", self.run)  # if the run is resumed
        self.folder.mkdir(parents=True, exist_ok=True)
        own = self.files()
        number = int(own[-1].stem) + 1 if own else 0
        while (path := self.folder / f"{number:08}.npz").exists():
            number += 1
        # One name for all, so that the rest of a killed process is overwritten.
        temporary = self.folder / f".{self.run or 'state'}.part"
        _save(path, state.arrays, {**state.facts, "run": self.run}, temporary)
        self._runs[path] = self.run
        self.prune(self.keep)
        return path

    def prune(self, keep: int) -> None:
        """Remove this run's states except the newest `keep`."""
        checks.count("Checkpoints.prune", "keep", keep, 0)
        files = self.files()
        for path in files[: max(0, len(files) - keep)]:
            path.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """Return the files of this run's states, oldest first."""
        return [path for path in self._all() if self._run_of(path) == self.run]

    def newest(self) -> tuple[Path, State] | None:
        """Return the newest readable state and its file; None if there are no files.

        Raises:
            ValueError: there are files, but none of them can be read.

        """
        errors = []
        for path in reversed(self._all()):
            try:
                state = State(*load(path))
            except (ValueError, OSError) as error:
                errors.append(error)
                continue
            self._runs[path] = _run_in(state.facts)
            return path, state
        if errors:
            raise ValueError(f"{self.folder}: no state can be read; {errors[0]}")
        return None

    def last(self) -> State | None:
        """Return the newest readable state; None if there are no files.

        Raises:
            ValueError: there are files, but none of them can be read.

        """
        found = self.newest()
        return found and found[1]

    def _run_of(self, path: Path) -> str | None:
        """Return the id of the run that wrote a state; None if it is unreadable."""
        if path not in self._runs:
            try:
                self._runs[path] = _run_in(load_facts(path))
            except (ValueError, OSError):
                self._runs[path] = None
        return self._runs[path]

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]" * 8 + ".npz"))


def _run_in(facts: Mapping[str, Any]) -> str:
    """Return the id of a state's run; a state of format 1 has none."""
    return str(facts.get("run", ""))


def machine() -> dict[str, str]:
    """Return the facts that may change the last bits of a result."""
    threads = backend.threads()
    known = {} if threads is None else {"threads": str(threads)}
    return {"backend": backend.name(), **_host(), **known}


@cache
def _host() -> dict[str, str]:
    config: Any = np.show_config(mode="dicts")
    blas = config.get("Build Dependencies", {}).get("blas", {})
    threads = [os.environ.get(f"{name}_NUM_THREADS") for name in ("OPENBLAS", "OMP")]
    chosen = next((t for t in threads if t), str(os.cpu_count()))
    return {
        "scratchnet": __version__,
        "NumPy": np.__version__,
        "BLAS": f"{blas.get('name')} {blas.get('version')}",
        "threads": chosen,
        "processor": f"{platform.machine()} {_processor()}".strip(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")  # on Linux, where platform has no name for it
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.processor()


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """Return the state of a generator, for JSON."""
    checks.rng("generator_state", rng)

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return value.tolist() if isinstance(value, np.ndarray) else value

    state: dict[str, Any] = plain(rng.bit_generator.state)
    return state


def set_generator_state(rng: np.random.Generator, state: Any) -> None:
    """Set a generator to a state from `generator_state`.

    Raises:
        ValueError: it is a state of another kind of generator.

    """
    checks.rng("set_generator_state", rng)
    kind = type(rng.bit_generator).__name__
    found = state.get("bit_generator") if isinstance(state, dict) else None
    if found != kind:
        raise ValueError(f"the saved generator is {found!r}; this one is {kind!r}")
    try:
        rng.bit_generator.state = state
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a state of a {kind}: {error}") from error
