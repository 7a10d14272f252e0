"""Long trainings as jobs: each runs once, resumes after a stop, and is timed.

A job trains and evaluates one model from one seed, in its own process with one thread.
Its folder keeps every finished stage, and checkpoints of the current one. Its result is
a small JSON file; a job with a result never runs again. Commands that run at the same
time share the jobs.
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
    """The target of a metric, for the mean over seeds."""

    metric: str  # "" means the row's first
    sign: str  # "≤" or "≥"
    value: float

    def met(self, found: float) -> bool:
        """Return whether this value reaches the target."""
        return found <= self.value if self.sign == "≤" else found >= self.value

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.value:g}".strip()


class Row(NamedTuple):
    """One row of the table: a paper's number, and our training.

    Attributes:
        name: the name of the row and of its result files.
        about: a short description of the model.
        metric: the paper's metric, with its unit.
        paper: the paper's number and its source.
        aims: the targets.
        seeds: the number of trainings.
        settings: the hyperparameters.
        departures: the differences from the paper.
        train: a function that trains and returns the metrics, the row's first.
        table: the heading of the row's table.
        gpu: whether the row needs a GPU; without one it runs only if requested.
        below: the row whose metric should be larger, seed by seed.
        tried: attempts that did not help, if a target is missed.

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
    """One training, the argument of `Row.train`.

    Args:
        row: the row of the table.
        seed: the random seed.
        data: the folder of MNIST's files, or None.
        work: the folder for unfinished trainings.
        deadline: the time to stop, by `time.time()`.
        quick: train on few images.
        results: the folder for results.

    Raises:
        ValueError: the job's folder holds a training with other settings or by another
            backend.

    Attributes:
        curves: values noted during the training, by name.

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
        """Return `full`, or `quick` in a quick run."""
        return quick if self.quick else full

    @property
    def seconds(self) -> float:
        """The CPU seconds of the job, including earlier runs."""
        return self._before + time.process_time() - self._began

    def say(self, text: str) -> None:
        """Write the progress to a file, for the parent process."""
        (self.folder / "progress").write_text(f"{self.seconds:.0f} s: {text}\n")

    def note(self, curve: str, value: float) -> None:
        """Add a point to a curve."""
        self.curves.setdefault(curve, []).append((round(self.seconds, 1), float(value)))

    def draw(self, figure: Callable[[], Any]) -> None:
        """Save a figure next to the result, for the first seed."""
        if self.seed == 0:
            plots.save(figure(), self.results / f"{self.row.name}.png")

    def stage(
        self, name: str, make: Callable[..., Arrays],
        streams: Sequence[np.random.Generator] = (),
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """Return the result of `make(checkpoints=, resume=)`, computed once.

        Both arguments are for `fit`, which resumes a stopped training from them.
        `streams` are random generators that later stages use too. They get the state in
        which `make` left them, even if it is not called again.
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
        """Save a state with the job's own facts, and stop at the deadline."""
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
    """Run a job and write its result; return one line of report."""
    path = result_path(results, row.name, seed)
    if time.time() > deadline:
        return f"{path.stem}: no time left"
    with ExitStack() as stack:
        try:
            stack.enter_context(Folder(folder_of(work, row.name, seed)).locked())
        except RunError:
            return f"{path.stem}: another command is training it"
        if is_done(path, settings_of(row, data, quick)):
            return f"{path.stem}: done before"
        job = Job(row, seed, data, work, deadline, quick, results)
        try:
            metrics = row.train(job)
        except Stopped:
            after = f"{job.seconds:.0f} CPU s"
            return f"{path.stem}: stopped after {after}; the same --work resumes it"
        content = {
            "row": row.name, "seed": seed, "metrics": metrics, "seconds": job.seconds,
            "settings": job.settings, "curves": job.curves,
            "machine": machine(),
        }  # fmt: skip
        checkpoint.write_whole(path, (json.dumps(content) + "\n").encode())
    name, value = next(iter(metrics.items()))
    return f"{path.stem}: {name} {value:.4g}, {job.seconds:.0f} CPU s"


def end_with_parent() -> None:
    """End this process when its parent ends; checkpoints stay."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # sent by the parent
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def result_path(results: Path, name: str, seed: int) -> Path:
    """Return the path of a job's result."""
    return results / f"{name}-{seed}.json"


def folder_of(work: Path, name: str, seed: int) -> Path:
    """Return the folder of an unfinished job."""
    return work / f"{name}-{seed}"


def is_done(path: Path, settings: str) -> bool:
    """Return whether a job has a result.

    Raises:
        ValueError: the result has other settings, or the file is not a result.

    """
    if not path.exists():
        return False
    check_settings(path, read(path)["settings"], settings)
    return True


def settings_of(row: Row, data: Path | None, quick: bool) -> str:
    """Return the text that describes a job's settings."""
    drawn = " on drawn digits" if data is None else ""
    return f"quick{drawn}" if quick else row.settings


BY = "; computed by "


def computed_by(settings: str, backends: set[str]) -> str:
    """Return settings with the backends used, if not only NumPy."""
    return BY.join([settings, *sorted(backends - {"numpy"})])


def check_unfinished(folder: Path, settings: str) -> None:
    """Raise ValueError if a job's folder has other settings or another backend."""
    kept = folder / "settings"
    if not kept.exists():
        return
    found = kept.read_text()
    before, _, by = found.partition(BY)
    check_settings(folder, before, settings)
    if found != computed_by(settings, {backend.name()}):
        raise ValueError(
            f"{folder} holds a training by {by or 'numpy'}, and this is "
            f"{backend.name()}; resume with --backend {by or 'numpy'}, or move the "
            "folder away to train again"
        )


def check_settings(path: Path, found: str, wanted: str) -> None:
    """Raise ValueError unless a file or folder has the wanted settings."""
    if found != wanted:
        raise ValueError(
            f"{path} holds a training with other settings ({found!r}, now {wanted!r}); "
            "move it away to train again, or give another --work and --out"
        )


def read(path: Path) -> dict[str, Any]:
    """Read a result.

    Raises:
        ValueError: the file is not a result.

    """
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        _ = [result[k] for k in ("row", "seed", "metrics", "seconds", "settings")]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a result; remove it ({error!r})") from None
    return result


def load(results: Path, name: str) -> list[dict[str, Any]]:
    """Read the results of a row, in the order of seeds."""
    paths = results.glob(f"{name}-[0-9]*.json")
    found = [one for one in map(read, paths) if one["row"] == name]
    return sorted(found, key=lambda one: one["seed"])


def machine() -> dict[str, Any]:
    """Describe the machine, on which CPU seconds depend."""
    facts = checkpoint.machine()
    return {k: facts[k] for k in ("NumPy", "BLAS", "processor")} | {
        "cores": os.cpu_count(), "backend": backend.name(),
    }  # fmt: skip
