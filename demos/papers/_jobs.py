"""Long trainings as jobs: each is done once, goes on after a stop, and is timed.

A job trains and judges one thing from one seed, in a process of its own with one
thread. What it has done is kept in its folder, stage by stage, and within a stage by
checkpoints; its result is a small JSON file, and a job that has one is never run again.
Commands that run at once share what there is to do.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import numpy as np

from scratchnet import backend, plots
from scratchnet.runs import Folder, RunError
from scratchnet.training import checkpoint
from scratchnet.training.checkpoint import Checkpoints, State, Stopped

Arrays = Mapping[str, np.ndarray]
Curve = list[tuple[float, float]]  # (CPU seconds, value)


class Aim(NamedTuple):
    """What a metric is to reach, as the mean over seeds."""

    metric: str  # "" is the row's first
    sign: str  # "≤" or "≥"
    value: float

    def met(self, found: float) -> bool:
        """Whether it is reached."""
        return found <= self.value if self.sign == "≤" else found >= self.value

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.value:g}".strip()


class Row(NamedTuple):
    """One row of the table: what a paper reports, and how it is done here.

    Attributes:
        name: of the row, and of its results' files.
        about: what is trained.
        metric: what is reported, with its unit.
        paper: the paper's number, and which paper.
        aims: what is to be reached.
        seeds: how many trainings.
        settings: what was chosen here.
        departures: what is otherwise than in the paper.
        train: does it; returns the metrics, the row's first.
        table: the heading of the table that it belongs to.
        gpu: whether it takes a GPU: left out elsewhere, unless it is asked for.
        below: the row whose metric is to be larger, seed by seed.
        tried: what did not help, where an aim is missed.

    """

    name: str
    about: str
    metric: str
    paper: str
    aims: tuple[Aim, ...]
    seeds: int
    settings: str
    departures: str
    train: Callable[["Job"], dict[str, float]]
    table: str = "The papers' numbers"
    gpu: bool = False
    below: str = ""
    tried: str = ""


class Job:
    """One training, as its function sees it.

    Args:
        row: what to do.
        seed: of everything that is random.
        data: the folder of MNIST's files, or None.
        work: the folder for what is unfinished.
        deadline: when to stop, by `time.time()`.
        quick: train on little.
        results: the folder for results.

    Raises:
        ValueError: its folder is of a training by other settings or another backend.

    Attributes:
        curves: what was noted on the way, by name.

    """

    def __init__(
        self, row: Row, seed: int, data: Path | None, work: Path, deadline: float,
        quick: bool, results: Path,
    ) -> None:  # fmt: skip
        self.row, self.seed, self.data, self.quick = row, seed, data, quick
        self.results = results
        self.folder = folder_of(work, row.name, seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings = settings_of(row, data, quick)
        check_unfinished(self.folder, self.settings)
        by = computed_by(self.settings, {backend.name()})
        checkpoint.write_whole(self.folder / "settings", by.encode())
        self.deadline = deadline
        self.curves: dict[str, Curve] = {}
        self._began, self._before = time.process_time(), 0.0

    def choose(self, full: Any, quick: Any) -> Any:
        """Return what this run uses."""
        return quick if self.quick else full

    @property
    def seconds(self) -> float:
        """CPU seconds that the job has taken, before a stop too."""
        return self._before + time.process_time() - self._began

    def say(self, text: str) -> None:
        """Leave word of how far it is, for who watches."""
        (self.folder / "progress").write_text(f"{self.seconds:.0f} s: {text}\n")

    def note(self, curve: str, value: float) -> None:
        """Add a point to a curve."""
        self.curves.setdefault(curve, []).append((round(self.seconds, 1), float(value)))

    def draw(self, figure: Callable[[], Any]) -> None:
        """Save a figure beside the result, for the first seed."""
        if self.seed == 0:
            plots.save(figure(), self.results / f"{self.row.name}.png")

    def stage(
        self, name: str, make: Callable[..., Arrays],
        streams: Sequence[np.random.Generator] = (),
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """Return what `make(checkpoints=, resume=)` returns, made once.

        Both are for `fit`; a training that is stopped goes on from there. `streams` are
        the random generators that later stages draw from too: they are left as `make`
        left them, also where it is not called again.
        """
        path = self.folder / f"{name}.npz"
        made_here = not path.exists()
        if made_here:
            if time.time() > self.deadline:
                raise Stopped(f"before {name}")
            save = Checkpoints(self.folder / name, every=60.0, keep=1)
            state = save.last()
            if state is not None:
                self._take_up(state.facts["job"])
            made = make(checkpoints=partial(self._save, save), resume=state)
            states = [checkpoint.generator_state(rng) for rng in streams]
            checkpoint.save(path, made, job=self._facts(), streams=states)
        arrays, about = checkpoint.load(path)
        for i, rng in enumerate(streams):
            checkpoint.set_generator_state(rng, about["streams"][i])
        if not made_here:
            self._take_up(about["job"])
        return arrays

    def _save(self, save: Checkpoints, state: Callable[[], State]) -> None:
        """Hand a state on, with the job's own facts, and stop in time."""
        if time.time() > self.deadline:
            save.stop = True

        def with_facts() -> State:
            inner = state()
            return State(inner.arrays, inner.facts | {"job": self._facts()})

        save(with_facts)

    def _facts(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "curves": self.curves}

    def _take_up(self, facts: dict[str, Any]) -> None:
        self._before = max(self.seconds, facts["seconds"])
        self._began = time.process_time()
        self.curves = {k: [(t, v) for t, v in c] for k, c in facts["curves"].items()}


def run(
    row: Row, seed: int, data: Path | None, work: Path, results: Path, deadline: float,
    quick: bool,
) -> str:  # fmt: skip
    """Run a job, and write its result; return in a line what came of it."""
    path = result_path(results, row.name, seed)
    if time.time() > deadline:
        return f"{path.stem}: no time left"
    with ExitStack() as stack:
        try:
            stack.enter_context(Folder(folder_of(work, row.name, seed)).locked())
        except RunError:
            return f"{path.stem}: another command is at work on it"
        if is_done(path, settings_of(row, data, quick)):
            return f"{path.stem}: done before"
        job = Job(row, seed, data, work, deadline, quick, results)
        try:
            metrics = row.train(job)
        except Stopped:
            after = f"{job.seconds:.0f} CPU s"
            return f"{path.stem}: stopped after {after}; by the same --work it goes on"
        content = {
            "row": row.name, "seed": seed, "metrics": metrics, "seconds": job.seconds,
            "settings": job.settings, "curves": job.curves,
            "machine": machine(),
        }  # fmt: skip
        checkpoint.write_whole(path, (json.dumps(content) + "\n").encode())
    name, value = next(iter(metrics.items()))
    return f"{path.stem}: {name} {value:.4g}, {job.seconds:.0f} CPU s"


def end_with_parent() -> None:
    """Have this process end when that which started it does; checkpoints stay."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by which it ends this one
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def result_path(results: Path, name: str, seed: int) -> Path:
    """Return where a job's result is."""
    return results / f"{name}-{seed}.json"


def folder_of(work: Path, name: str, seed: int) -> Path:
    """Return where a job keeps what is unfinished."""
    return work / f"{name}-{seed}"


def is_done(path: Path, settings: str) -> bool:
    """Return whether a job has its result.

    Raises:
        ValueError: it has one by other settings, or a file that is none.

    """
    if not path.exists():
        return False
    check_settings(path, read(path)["settings"], settings)
    return True


def settings_of(row: Row, data: Path | None, quick: bool) -> str:
    """Return what is said of how a job trains."""
    drawn = " on drawn digits" if data is None else ""
    return f"quick{drawn}" if quick else row.settings


BY = "; computed by "


def computed_by(settings: str, backends: set[str]) -> str:
    """Return settings with the backends that computed, if not NumPy alone."""
    return BY.join([settings, *sorted(backends - {"numpy"})])


def check_unfinished(folder: Path, settings: str) -> None:
    """Raise ValueError if a job's folder is of other settings or another backend."""
    kept = folder / "settings"
    if not kept.exists():
        return
    found = kept.read_text()
    before, _, by = found.partition(BY)
    check_settings(folder, before, settings)
    if found != computed_by(settings, {backend.name()}):
        raise ValueError(
            f"{folder} is of a training by {by or 'numpy'}, and this is "
            f"{backend.name()}; go on with --backend {by or 'numpy'}, or move the "
            "folder away to train anew"
        )


def check_settings(path: Path, found: str, wanted: str) -> None:
    """Raise ValueError unless a file or folder is of the wanted settings."""
    if found != wanted:
        raise ValueError(
            f"{path} is of a training by other settings ({found!r}, now {wanted!r}); "
            "move it away to train anew, or give another --work and --out"
        )


def read(path: Path) -> dict[str, Any]:
    """Return a result.

    Raises:
        ValueError: the file has none.

    """
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        _ = [result[k] for k in ("row", "seed", "metrics", "seconds", "settings")]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no result; remove it ({error!r})") from None
    return result


def load(results: Path, name: str) -> list[dict[str, Any]]:
    """Return the results of a row, by seed."""
    paths = results.glob(f"{name}-[0-9]*.json")
    found = [one for one in map(read, paths) if one["row"] == name]
    return sorted(found, key=lambda one: one["seed"])


def machine() -> dict[str, Any]:
    """Return what CPU seconds depend on, but for what else was running."""
    facts = checkpoint.machine()
    return {k: facts[k] for k in ("NumPy", "BLAS", "processor")} | {
        "cores": os.cpu_count(), "backend": backend.name(),
    }  # fmt: skip
