"""Which run is in a folder, and whether it can be resumed or replaced, or why not."""

import shlex
from dataclasses import replace

import numpy as np

from scratchnet.runs.files import HISTORY, WEIGHTS, Folder, RunCheckpoints
from scratchnet.runs.identity import About, RunError, parsed
from scratchnet.runs.systems import CODES, PLANE, SYSTEMS
from scratchnet.training.checkpoint import State

# Options that a run may change when it is resumed, or that its images stand for.
MAY_CHANGE = frozenset({"epochs", "steps", "data", "examples"})


def found_there(
    folder: Folder, system: str, *, resume: str | None, overwrite: bool
) -> About | None:
    """Return the run that is in the folder; None if there is none.

    Args:
        folder: of the run that is to be trained.
        system: which one is to be trained.
        resume: the folder as the user named it, if the run is to be resumed.
        overwrite: whether it may be replaced.

    Raises:
        RunError: one is there, and neither --resume nor --overwrite says what to do
            with it; --resume, and there is none, or it is another one.

    """
    found = folder.read()
    if found is None:
        if resume:
            raise RunError(f"--resume {resume}: no run is there")
        return None
    if found.system not in SYSTEMS:
        raise RunError(f"{folder.path}: a run of {found.system!r}, which is unknown")
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
    what = "a finished run" if found.finished else "a run that was not finished"
    more = f" --{length} N, more than it had" if found.finished else ""
    raise RunError(
        f"{path}: {what} is there; resume it, --resume {shlex.quote(str(path))}"
        f"{more}, or replace it, --overwrite"
    )


def resumed(found: About, now: About, resume: str) -> About:
    """Return what the resumed run is.

    Args:
        found: what it was.
        now: what it would be, if it were begun with the options that it has now.
        resume: its folder as the user named it.

    Raises:
        RunError: it is another one, or nothing is left to do.

    """
    if found.finished and found.format == 1:
        raise RunError(
            f"--resume {resume}: a finished run of format 1, which kept no state "
            "to resume from; train again, into another --out"
        )
    if wrong := differences(now, found):
        raise RunError(f"--resume {resume}: {'; '.join(wrong)}")
    length = SYSTEMS[now.system].length
    before, after = found.options[length], now.options[length]
    if found.finished and after <= before:
        raise RunError(
            f"--resume {resume}: it is finished, with {before} {length}; to "
            f"extend it pass --{length} N, more than that"
        )
    extended = (*found.extended, *([(before, after)] if after != before else []))
    files = tuple(dict.fromkeys((*found.files, *now.files)))
    return replace(
        now, id=found.id, files=files, extended=extended, format=found.format
    )


def differences(run: About, other: About) -> list[str]:
    """Say in what a run differs from `other`, which a file says that it is."""
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
        wrong.append("its images were others")
    return wrong


def last_state(checkpoints: RunCheckpoints) -> State | None:
    """Return the newest state of a run; None if it has none yet.

    Raises:
        RunError: the newest state in its folder is of another run.
        ValueError: no state can be read.

    """
    newest = checkpoints.newest()
    if newest is None:
        return None
    path, state = newest
    about = parsed(state.facts.get("command") or {}, str(path))
    if wrong := differences(checkpoints.about, about):
        raise RunError(
            f"{path}: a state of another run: {'; '.join(wrong)}; move it away"
        )
    for name, a in state.arrays.items():
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise RunError(f"{path}: damaged ({name} has values that are not finite)")
    return state
