"""The files of a run in its folder: which belong to it, and which may be removed.

    runs/vae/run.json       describes the run, and lists the names of its files
    runs/vae/checkpoints/   states to resume from; after the end the last one stays
    runs/vae/weights.npz    the result, next to history.json and pictures
    runs/vae/moments.npz    pictures of the same inputs while it was trained

The folder may hold other files. A file is overwritten or removed only if run.json lists
it, or if it is a state with the id of the run.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from scratchnet.runs import lock
from scratchnet.runs.identity import About, RunError, parsed
from scratchnet.training.checkpoint import (
    FORMAT,
    Checkpoints,
    State,
    load_facts,
    read_json,
    write_json,
)
from scratchnet.training.distributed import Group

RUN, STATES = "run.json", "checkpoints"
WEIGHTS, HISTORY, MOMENTS = "weights.npz", "history.json", "moments.npz"


@dataclass
class Folder:
    """The folder of a run.

    Args:
        path: the folder; it is made when the first file is written.

    """

    path: Path

    @property
    def states(self) -> Path:
        """The folder of the states."""
        return self.path / STATES

    def read(self) -> About | None:
        """Return the description of the run in this folder; None if there is no run.

        Raises:
            RunError: the file with the description is damaged.

        """
        for path in (self.path / RUN, self.states / RUN):  # the second: format 1
            try:
                return parsed(read_json(path), str(path))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except ValueError as error:
                raise RunError(str(error)) from error
        with contextlib.suppress(ValueError, OSError):  # none, or not from scratchnet
            facts = load_facts(self.path / WEIGHTS)
            known = {"data": "", **facts, "finished": True}
            return parsed(known, str(self.path / WEIGHTS))
        return None

    def checkpoints(self, about: About) -> Checkpoints:
        """Return the states of a run in this folder."""
        return Checkpoints(self.states, run=about.id)

    def check_free(self, names: Iterable[str], own: Iterable[str]) -> None:
        """Raise RunError if a file to be written exists and is not the run's own.

        Args:
            names: names of the files to be written.
            own: names of the files that may be overwritten.

        """
        own, places = set(own), {n: self.path / n for n in names}
        taken = [n for n, p in places.items() if n not in own and os.path.lexists(p)]
        taken += [n for n, p in places.items() if n in own and p.is_dir()]
        if self.states.exists() and not self.states.is_dir():
            taken.append(STATES)
        if taken:
            raise RunError(
                f"{self.path}: {', '.join(taken)} would be overwritten, but this run "
                "did not write it; move it away, or choose another --out"
            )

    def write(self, about: About) -> None:
        """Write run.json, and remove a file of format 1."""
        self.path.mkdir(parents=True, exist_ok=True)
        content = asdict(replace(about, format=FORMAT))
        write_json(self.path / RUN, content)
        old = self.states / RUN
        if about.format == 1 and old.is_file():
            old.unlink()

    def add(self, name: str) -> None:
        """Add a file to those of the run, unless it is one of them already.

        Raises:
            RunError: the file exists and is not the run's own, or the run is being
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
        with contextlib.suppress(OSError):  # it holds other files
            self.states.rmdir()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of this folder, until the block ends.

        The system releases the lock when the process dies. If nothing was written,
        folders that were made for the lock are removed.

        Raises:
            RunError: another process holds it.
            OSError: the folder cannot be made or written to.

        """
        missing = [p for p in (self.path, *self.path.parents) if not p.exists()]
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path}: this is a file; choose another --out")
        self.path.mkdir(parents=True, exist_ok=True)
        file = lock.take(self.path)
        try:
            yield
        finally:
            # Remove it before it is released, so that no other process holds it.
            with contextlib.suppress(OSError):
                (self.path / lock.LOCK).unlink()
            file.close()
            for path in missing:  # the innermost first
                with contextlib.suppress(OSError):  # something was written
                    path.rmdir()


class RunCheckpoints(Checkpoints):
    """The states of a run. Writing the first one begins the run.

    Nothing is written before that, so a command that fails early leaves no files.
    """

    def __init__(
        self,
        folder: Folder,
        about: About,
        found: About | None,
        *,
        every: float,
        group: Group | None,
    ) -> None:
        super().__init__(folder.states, every=every, group=group, run=about.id)
        self.of, self.about, self.found = folder, about, found
        self.begun = False
        own = found.files if found else ()
        folder.check_free(about.files, own)

    def write(self, state: State) -> Path:
        """Write a state; before the first one, write run.json."""
        if not self.begun:
            if self.found and self.found.id != self.about.id:  # the old run
                self.of.remove(self.found)
            self.of.write(self.about)
            self.begun = True
        return super().write(state)
