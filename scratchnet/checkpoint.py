"""Writes named arrays to a file and reads them back, without pickle.

The file is NumPy's .npz, an archive of one .npy file for each array, with a JSON text
beside them that says what they are. `Checkpoints` keeps the last few states of a run in
a folder, for a run that was interrupted to go on from.
"""

import contextlib
import json
import math
import os
import platform
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratchnet import __version__, backend, checks
from scratchnet.backend import Array

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
    _check_arrays("save", arrays)
    if _ABOUT in arrays:
        raise ValueError(f"checkpoint: the name {_ABOUT!r} is taken")
    content = {**arrays, _ABOUT: np.array(json.dumps(about))}
    with _whole(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, a in content.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(
                    entry, backend.to_numpy(a), allow_pickle=False
                )
    return path


def _check_arrays(owner: str, arrays: Any) -> None:
    """Raise TypeError unless these are arrays, of no objects, by their names."""
    checks.mapping(owner, "arrays", arrays)
    for name, a in arrays.items():
        if not backend.is_array(a) or a.dtype.hasobject:
            raise TypeError(f"{owner}: {name} is {a!r}; an array of numbers expected")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    if not isinstance(content, bytes):
        raise TypeError(f"write_whole: a {type(content).__name__} given, not bytes")
    with _whole(checks.path("write_whole", path)) as file:
        file.write(content)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Any]:
    """Give a file to write, which takes the place of `path` once it is on the disk."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    # In the same folder, because a rename is whole only within one file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `save` wrote: the arrays, and the facts about them.

    Nothing is unpickled, and no more memory is taken than the file is long, whatever it
    says of itself.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not one that `save` wrote, or is damaged.

    """
    path = checks.path("load", path)
    try:
        arrays = {}
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_entries(entries, os.fstat(file.fileno()).st_size)
            for entry in entries:
                with archive.open(entry) as content:
                    _check_header(content, entry)
                # Opened anew: seeking back may switch the check of its sum off.
                with archive.open(entry) as content:
                    array = np.lib.format.read_array(content, allow_pickle=False)
                arrays[entry.filename.removesuffix(".npy")] = array
        about = json.loads(str(arrays.pop(_ABOUT)))
        if not isinstance(about, dict):
            raise ValueError("the facts are none")
        return arrays, about
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever zipfile, zlib, NumPy and JSON make of it
        raise ValueError(f"{path}: not a file of weights ({error})") from error


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


def _check_header(content: Any, entry: zipfile.ZipInfo) -> None:
    """Raise ValueError unless an array is as long as its header says."""
    version = np.lib.format.read_magic(content)
    if version != (1, 0):
        raise ValueError(f"{entry.filename} is of version {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(content)
    claimed = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or claimed != entry.file_size - content.tell():
        raise ValueError(f"{entry.filename} is not as long as its header says")


def _sync_folder(folder: Path) -> None:
    """See to it that a rename is on the disk, where the system has a way to."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# --- A run that goes on -------------------------------------------------------------

FORMAT = 1  # of states, and of the facts beside weights; what old readers miss adds 1


class State(NamedTuple):
    """All that a run needs to go on from where it was, to the last bit."""

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
        def both() -> State:
            inner = state()
            arrays = inner.arrays | self.more.arrays
            return State(arrays, inner.facts | self.more.facts)

        self.save(both)


class Stopped(Exception):
    """The run was asked to stop; its state is saved."""


class Checkpoints:
    """The last few states of a run, in a folder of their own.

    `fit(..., checkpoints=c)` hands over its state after each step, and `c` writes it
    when it is time to. `c.last()` is what `fit(..., resume=...)` goes on from.

    Args:
        folder: is made with the first state.
        every: seconds from one state to the next; 0 writes after each step.
        keep: how many states stay.
        group: processes that train together (`distributed.Group`). The first writes for
            all, and when one is asked to stop, all do after the same step.

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
        group: Any = None,
    ) -> None:
        checks.number("Checkpoints", "every", every, "[0, inf]")
        checks.count("Checkpoints", "keep", keep)
        self.folder = checks.path("Checkpoints", folder)
        self.every = every
        self.keep = keep
        self.group = group
        self.stop = False
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
            found = state()  # by all: it may say that this is none to go on from
            if self.group is None or self.group.rank == 0:
                where = self.write(found)
            self._written = time.monotonic()
        if stop:
            raise Stopped(f"stopped; the state is in {where}")

    def write(self, state: State) -> Path:
        """Write a state, and let go of those that are too many; return its file."""
        if not isinstance(state, State):
            raise TypeError(f"Checkpoints: {state!r} given, a State expected")
        self.folder.mkdir(parents=True, exist_ok=True)
        there = self._files()
        number = int(there[-1].stem) + 1 if there else 0
        path = save(self.folder / f"{number:08}.npz", state.arrays, **state.facts)
        for old in [*there, path][: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def last(self) -> State | None:
        """Return the newest state that can be read; None if there is none.

        Raises:
            ValueError: there are files, and none of them can be read.

        """
        errors = []
        for path in reversed(self._files()):
            try:
                return State(*load(path))
            except (ValueError, OSError) as error:
                errors.append(error)
        if errors:
            raise ValueError(f"{self.folder}: no state can be read; {errors[0]}")
        return None

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]" * 8 + ".npz"))


def machine() -> dict[str, str]:
    """Return what the last bits of a result may depend on."""
    return {"backend": backend.name(), **_host()}


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
    """Have a generator go on from such a state.

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
