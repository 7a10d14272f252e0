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
    """Write `arrays` and the facts `about` them to `path`, whole or not at all.

    A file that stood there is replaced only once the new one is complete.

    Args:
        path: the file; its folder must exist.
        arrays: a `state_dict`, say.
        **about: anything that JSON can hold.

    Raises:
        OSError: the file cannot be written; what stood there still stands.
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
        raise ValueError(f"checkpoint: the name {_ABOUT!r} is taken")
    content = {**arrays, _ABOUT: np.array(json.dumps(about))}
    with _whole(path, temporary) as file, zipfile.ZipFile(file, "w") as archive:
        for name, a in content.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(
                    entry, backend.to_numpy(a), allow_pickle=False
                )


def _check_arrays(owner: str, arrays: Any) -> None:
    """Raise TypeError unless these are arrays, of no objects, by their names."""
    checks.mapping(owner, "arrays", arrays)
    for name, a in arrays.items():
        if not backend.is_array(a) or a.dtype.hasobject:
            raise TypeError(f"{owner}: {name} is {a!r}; an array of numbers expected")
        checks.plain_array(owner, name, a)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    if not isinstance(content, bytes):
        raise TypeError(f"write_whole: a {type(content).__name__} given, not bytes")
    path = checks.path("write_whole", path)
    with _whole(path, path.with_name(f".{path.name}.{os.getpid()}")) as file:
        file.write(content)


@contextlib.contextmanager
def _whole(path: Path, temporary: Path) -> Iterator[Any]:
    """Open a file for writing that replaces `path` once it is on the disk.

    `temporary` is its name until then, in the same folder: a rename is whole only
    within one file system.

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
    except OSError as error:  # a full disk names no file, or the temporary one
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def load(
    path: str | Path, *, max_bytes: int = 2**32
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `save` wrote: the arrays, and the facts about them.

    Nothing is unpickled, and no more memory is taken than the file is long, whatever it
    says of itself.

    Args:
        path: a plain file, or a link to one.
        max_bytes: a longer file is refused.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not one that `save` wrote, is damaged, or is too long.

    """
    path = checks.path("load", path)
    checks.number("load", "max_bytes", max_bytes, checks.POSITIVE)
    return _read(path, max_bytes, lambda name: True)


def load_facts(path: str | Path) -> dict[str, Any]:
    """Read the facts alone out of a file that `save` wrote; errors as for `load`."""
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
                # Opened anew: seeking back may switch the check of its sum off.
                with archive.open(entry) as content:
                    array = np.lib.format.read_array(content, allow_pickle=False)
                arrays[name] = array
        about = json.loads(str(arrays.pop(_ABOUT)))
        if not isinstance(about, dict):
            raise ValueError("the facts are none")
        return arrays, about
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever zipfile, zlib, NumPy and JSON make of it
        raise ValueError(f"{path}: not a file of weights ({error})") from error


@contextlib.contextmanager
def _plain_file(path: Path, max_bytes: float) -> Iterator[BinaryIO]:
    """Open a file for reading. A pipe or a device, which may never end, is refused.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not a plain file, or is longer than `max_bytes`.

    """
    # O_NONBLOCK: opening a pipe without a writer would wait for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is a folder, a pipe or a device; a file expected")
        if status.st_size > max_bytes:
            raise ValueError(f"it has {status.st_size} bytes; {max_bytes} at most")
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_json(path: str | Path, max_bytes: int = 2**20) -> dict[str, Any]:
    """Read a dict out of a JSON file of UTF-8.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds something else, or is longer than `max_bytes`.

    """
    path = checks.path("read_json", path)
    checks.count("read_json", "max_bytes", max_bytes)
    try:
        with _plain_file(path, max_bytes) as file:
            found = json.loads(file.read(max_bytes).decode("utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}, a dict expected")
        return found
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error})") from error


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a dict to a JSON file, whole or not at all."""
    checks.mapping("write_json", "content", content)
    path = checks.path("write_json", path)
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode("utf-8"))


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Raise ValueError unless the entries are as `save` wrote them, in `size` bytes."""
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise ValueError("a name is there twice")
    for entry in entries:
        parts = entry.filename.replace("\\", "/").split("/")
        if ".." in parts or not parts[0]:
            raise ValueError(f"{entry.filename} leads out of the folder")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{entry.filename} is compressed")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("it claims to hold more than the file is long")


def _check_header(content: IO[bytes], entry: zipfile.ZipInfo) -> None:
    """Raise ValueError unless an array is as long as its header says."""
    version = np.lib.format.read_magic(content)
    if version != (1, 0):
        raise ValueError(f"{entry.filename} is of version {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(content)
    claimed = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or claimed != entry.file_size - content.tell():
        raise ValueError(f"{entry.filename} is not as long as its header says")


def _sync_folder(folder: Path) -> None:
    """Force a rename to the disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# --- States of a run ----------------------------------------------------------------

# Of states, of run.json and of the facts beside weights; each change adds 1.
# 1: run.json in the folder of the states; no states after the end. 2: `runs.py`.
FORMAT = 2


class State(NamedTuple):
    """All that a run needs to resume, to the last bit."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]  # what JSON can hold: generators, counts, the history


# What a run calls after each step, with what makes its state if that is wanted.
Save = Callable[[Callable[[], State]], None]


def adding(save: Save, arrays: Mapping[str, Array], **facts: Any) -> Save:
    """Return a Save that adds arrays and facts to every state before `save` has it."""
    checks.function("adding", "save", save, "Checkpoints(folder)")
    _check_arrays("adding", arrays)
    kept = {name: np.array(backend.to_numpy(a)) for name, a in arrays.items()}
    return _Adding(save, State(kept, facts))


class _Adding:
    """A Save with more in every state, of the group of the one that it adds to."""

    def __init__(self, save: Save, more: State) -> None:
        self.save, self.more = save, more
        self.group = getattr(save, "group", None)

    def __call__(self, state: Callable[[], State]) -> None:
        self.save(partial(self._both, state))

    def end(self, state: Callable[[], State]) -> None:
        save_last(self.save, partial(self._both, state))

    def _both(self, state: Callable[[], State]) -> State:
        inner = state()
        return State(inner.arrays | self.more.arrays, inner.facts | self.more.facts)


def save_last(save: Save | None, state: Callable[[], State]) -> None:
    """Hand over the state after the last step, if `save` keeps it (`Checkpoints`)."""
    end = getattr(save, "end", None)
    if end is not None:
        end(state)


class Stopped(Exception):
    """The run was asked to stop; its state is saved."""


class Checkpoints:
    """The last few states of a run, in a folder of their own.

    `fit(..., checkpoints=c)` hands over its state after each step, and `c` writes it
    when it is time to. `fit(..., resume=c.last())` resumes the run. The
    state after the last step is always written: with it a run can be extended.

    Every state carries the id of its run. Files of other runs, and any other file that
    is in the folder, are never written over or removed.

    Args:
        folder: is made with the first state.
        every: seconds from one state to the next; 0 writes after each step.
        keep: how many states stay.
        group: processes that train together (`distributed.Group`). The first writes for
            all, and when one is asked to stop, all do after the same step.
        run: the id of the run, a text; by default a new one, or that of a run that is
            resumed.

    Attributes:
        stop: set it (in a signal's handler, say), and the next step is the last: its
            state is written, and `Stopped` raised.

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
            raise TypeError(f"Checkpoints: run is {run!r}; a text expected")
        self.folder = checks.path("Checkpoints", folder)
        self.every = every
        self.keep = keep
        self.group = group
        self.stop = False
        self.run = secrets.token_hex(8) if run is None else run
        self._chosen = run is not None
        self._runs: dict[Path, str | None] = {}  # of the files, once they were read
        self._written = time.monotonic()

    def __call__(self, state: Callable[[], State]) -> None:
        """Write what `state` returns, if it is time to.

        Raises:
            OSError: it cannot be written; the states before it are still there.
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
        """Have the first of all processes write the state; return its file there."""
        path = None
        found = state()  # by all processes: it may raise an error
        if self.group is None or self.group.rank == 0:
            path = self.write(found)
        self._written = time.monotonic()
        return path

    def write(self, state: State) -> Path:
        """Write a state, remove this run's that are too many; return its file."""
        if not isinstance(state, State):
            raise TypeError(f"Checkpoints: {state!r} given, a State expected")
        if not self._chosen:
            self.run = state.facts.get("run", self.run)  # of a run that is resumed
        self.folder.mkdir(parents=True, exist_ok=True)
        own = self.files()
        number = int(own[-1].stem) + 1 if own else 0
        while (path := self.folder / f"{number:08}.npz").exists():
            number += 1
        # One name for all: what a process that was killed left is written over.
        temporary = self.folder / f".{self.run or 'state'}.part"
        _save(path, state.arrays, {**state.facts, "run": self.run}, temporary)
        self._runs[path] = self.run
        self.prune(self.keep)
        return path

    def prune(self, keep: int) -> None:
        """Remove this run's states but for the newest `keep`."""
        checks.count("Checkpoints.prune", "keep", keep, 0)
        files = self.files()
        for path in files[: max(0, len(files) - keep)]:
            path.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """Return the files of this run's states, the oldest first."""
        return [path for path in self._all() if self._run_of(path) == self.run]

    def newest(self) -> tuple[Path, State] | None:
        """Return the newest state that can be read, with its file; None: there is none.

        Raises:
            ValueError: there are files, and none of them can be read.

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
        """Return the newest state that can be read; None if there is none.

        Raises:
            ValueError: there are files, and none of them can be read.

        """
        found = self.newest()
        return found and found[1]

    def _run_of(self, path: Path) -> str | None:
        """Return the id of the run that wrote a state; None if it cannot be read."""
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
    """Return what the last bits of a result may depend on."""
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
    info = Path("/proc/cpuinfo")  # Linux, where platform does not know it
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.processor()


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """Return the state of a generator as JSON can hold it."""
    checks.rng("generator_state", rng)

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return value.tolist() if isinstance(value, np.ndarray) else value

    state: dict[str, Any] = plain(rng.bit_generator.state)
    return state


def set_generator_state(rng: np.random.Generator, state: Any) -> None:
    """Set a generator to such a state.

    Raises:
        ValueError: it is not a state of that kind of generator.

    """
    checks.rng("set_generator_state", rng)
    kind = type(rng.bit_generator).__name__
    found = state.get("bit_generator") if isinstance(state, dict) else None
    if found != kind:
        raise ValueError(f"a generator {found!r} was saved; this one is {kind!r}")
    try:
        rng.bit_generator.state = state
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"no state of a {kind}: {error}") from error
