"""Checks which run is in a folder, and whether it can be resumed or replaced."""

import shlex
from dataclasses import replace

import numpy as np

from scratchnet.runs.files import HISTORY, WEIGHTS, Folder, RunCheckpoints
from scratchnet.runs.identity import About, RunError, parsed
from scratchnet.runs.systems import CODES, PLANE, SYSTEMS
from scratchnet.training.checkpoint import State

# Options that may change when a run is resumed. Images are compared by their digest.
MAY_CHANGE = frozenset({"epochs", "steps", "data", "examples"})


def found_there(
    folder: Folder, system: str, *, resume: str | None, overwrite: bool
) -> About | None:
    """Return the run in the folder; None if there is none.

    Args:
        folder: the folder of the run to train.
        system: the system to train.
        resume: the folder as the user named it, if the run is to be resumed.
        overwrite: whether the run may be replaced.

    Raises:
        RunError: there is a run, but neither --resume nor --overwrite; or with
            --resume, there is no run, or one of another system.

    """
    found = folder.read()
    if found is None:
        if resume:
            raise RunError(f"--resume {resume}: there is no run in this folder")
        return None
    if found.system not in SYSTEMS:
        raise RunError(f"{folder.path}: its run has an unknown system {found.system!r}")
    if not found.files:  # format 1
        names = (WEIGHTS, HISTORY, *SYSTEMS[found.system].pictures, PLANE, CODES)
        found = replace(found, files=tuple(dict.fromkeys(names)))
    if resume:
        if found.system != system:
            raise RunError(f"--resume {resume}: it trains {found.system}, not {system}")
        return found
    has_states = bool(folder.checkpoints(found).files())
    if overwrite or not (found.finished or has_states):
        return found
    path, length = folder.path, SYSTEMS[found.system].length
    what = "a finished run" if found.finished else "an unfinished run"
    more = f" --{length} N (more than before)" if found.finished else ""
    raise RunError(
        f"{path}: {what} is in this folder; resume it with --resume "
        f"{shlex.quote(str(path))}{more}, or replace it with --overwrite"
    )


def resumed(found: About, now: About, resume: str) -> About:
    """Return the description of the resumed run.

    Args:
        found: the saved description.
        now: the description of a new run with the options of today.
        resume: its folder as the user named it.

    Raises:
        RunError: the two runs differ, or nothing is left to do.

    """
    if found.finished and found.format == 1:
        raise RunError(
            f"--resume {resume}: a finished run of format 1 has no state to resume "
            "from; train again, into another --out"
        )
    if wrong := differences(now, found):
        raise RunError(f"--resume {resume}: {'; '.join(wrong)}")
    length = SYSTEMS[now.system].length
    before, after = found.options[length], now.options[length]
    if found.finished and after <= before:
        raise RunError(
            f"--resume {resume}: the run is finished, with {before} {length}; to "
            f"extend it, pass --{length} N with N > {before}"
        )
    extended = (*found.extended, *([(before, after)] if after != before else []))
    files = tuple(dict.fromkeys((*found.files, *now.files)))
    return replace(
        now, id=found.id, files=files, extended=extended, format=found.format
    )


def differences(run: About, other: About) -> list[str]:
    """Return the differences between a run and the saved one, `other`, in words."""
    if run.system != other.system:
        return [f"it trains {other.system}, not {run.system}"]
    wrong = [
        f"--{name.replace('_', '-')} was {other.options.get(name)!r}, not {value!r}"
        for name, value in run.options.items()
        if name not in MAY_CHANGE and other.options.get(name) != value
    ]
    if run.shape and other.shape and run.shape != other.shape:
        (m, n), (rows, columns) = run.shape, other.shape
        wrong.append(f"its images were {rows} x {columns}, not {m} x {n}")
    elif run.data != other.data:
        wrong.append("its images were different")
    return wrong


def last_state(checkpoints: RunCheckpoints) -> State | None:
    """Return the newest state of a run; None if it has none yet.

    Raises:
        RunError: the newest state in its folder is from another run.
        ValueError: no state can be read.

    """
    newest = checkpoints.newest()
    if newest is None:
        return None
    path, state = newest
    about = parsed(state.facts.get("command") or {}, str(path))
    if wrong := differences(checkpoints.about, about):
        raise RunError(
            f"{path}: this state is from another run: {'; '.join(wrong)}; move it away"
        )
    for name, a in state.arrays.items():
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise RunError(f"{path}: damaged ({name} has values that are not finite)")
    return state
