"""`train`: train a system, and write the run: weights, history and pictures."""

import argparse
import contextlib
import math
import secrets
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from scratchnet import __version__, backend, optim, plots
from scratchnet.cli.console import say
from scratchnet.cli.judge import JUDGES
from scratchnet.cli.options import checked
from scratchnet.runs.files import HISTORY, MOMENTS, WEIGHTS, Folder, RunCheckpoints
from scratchnet.runs.identity import About, RunError
from scratchnet.runs.images import SYNTHETIC, Images, digest, load_both
from scratchnet.runs.job import Job
from scratchnet.runs.model import check_images, facts_of
from scratchnet.runs.moments import Moments
from scratchnet.runs.resume import found_there, last_state, resumed
from scratchnet.runs.streams import Streams
from scratchnet.runs.systems import SYSTEMS
from scratchnet.training import checkpoint, fit, fit_gan, pretrain
from scratchnet.training.checkpoint import FORMAT, Checkpoints, Stopped, adding
from scratchnet.training.distributed import Group


def train(args: argparse.Namespace) -> int:
    """Train a system, and write the run: weights, history and pictures.

    With several processes, only the first one writes and prints.

    Returns:
        The exit status: 0, or 128 + the number of the signal that stopped it.

    """
    if args.resume and args.out and Path(args.resume) != Path(args.out):
        raise RunError(
            f"--resume {args.resume} --out {args.out}: a run is resumed in its own "
            "folder; remove --out"
        )
    if args.resume and args.overwrite:
        raise RunError("--resume --overwrite: choose one, to resume or to replace")
    folder = Folder(Path(args.resume or args.out or f"runs/{args.system}"))
    if not getattr(args, "distributed", False):
        with folder.locked():
            return train_in(folder, args, None)
    with Group() as group, contextlib.ExitStack() as stack:
        if group.rank == 0:
            stack.enter_context(folder.locked())
        return train_in(folder, args, group)


def train_in(folder: Folder, args: argparse.Namespace, group: Group | None) -> int:
    """Train in a locked folder; return the exit status."""
    first = group is None or group.rank == 0
    job, about, checkpoints = begin(folder, args, group)
    command = resume_command(args, folder, group)
    try:
        with stopped_by_signals(checkpoints) as signals:
            model, record = TRAINERS[job.system](job)
        result = finish(job, folder, about, model, record) if first else ""
    except Stopped as stopped:
        if first:
            say(f"scratchnet: {stopped}; resume with\n  {command}", sys.stderr)
        # Perhaps another process got the signal.
        return 128 + (signals[0] if signals else signal.SIGTERM)
    except OSError as error:
        if not checkpoints.files():
            raise
        raise OSError(
            f"{error}; once that is fixed, resume with\n  {command}"
        ) from error
    if first:
        checkpoints.prune(1)
        print(result)
    return 0


def begin(
    folder: Folder, args: argparse.Namespace, group: Group | None
) -> tuple[Job, About, RunCheckpoints]:
    """Prepare a training, from the start or from a saved state.

    Returns:
        The job, the description of the run, and its checkpoints.

    """
    first = group is None or group.rank == 0
    found = run_there(folder, args) if first else None
    found = group.from_first(found) if group else found
    before = found if args.resume else None
    options = options_of(args, before.options if before else {})
    streams = Streams.of(options["seed"])
    images, held_out = load_both(options["data"], options["examples"], streams)
    drawn = SYSTEMS[args.system].drawn(options, ink=images.ink)
    about = About(
        system=args.system,
        options=options,
        data=digest([*images.arrays, *held_out.arrays]),
        shape=images.shape,
        id=secrets.token_hex(8),
        threads=threads_of(options, images, before, group),
        files=(WEIGHTS, HISTORY, MOMENTS, *drawn),
    )
    if group:
        given = {f"--{k}": v for k, v in options.items() if k != "data"}
        group.agree("train", {**given, "the images": about.data})
    if before:
        about = resumed(before, about, args.resume)
        if first and about.extended != before.extended:
            say(extension(about))
    check_images(args.system, options, images.x)
    facts = facts_of(args.system, options, images.x.shape[1])
    checkpoints = RunCheckpoints(
        folder, about, found, every=args.save_every, group=group
    )
    state = last_state(checkpoints) if args.resume and first else None
    state = group.from_first(state) if group else state
    save = adding(checkpoints, {}, command=about.command())
    moments = None
    # A run that began without moments continues without them.
    if first and (state is None or "moments.steps" in state.arrays):
        moments = Moments(held_out, streams.moments, state)
        save = adding(save, moments.arrays)
    job = Job(
        args.system, options, facts, images, held_out, streams, save, state, group,
        moments,
    )  # fmt: skip
    return job, about, checkpoints


def run_there(folder: Folder, args: argparse.Namespace) -> About | None:
    """Return the run in the folder, with its options checked if it is resumed.

    Raises:
        RunError: see `found_there`.
        ValueError: the saved options of the run are damaged.

    """
    found = found_there(
        folder, args.system, resume=args.resume, overwrite=args.overwrite
    )
    if found is None or not args.resume:
        return found
    return replace(found, options=checked(args.system, found.options, args.resume))


def options_of(args: argparse.Namespace, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a run: those given, else those saved, else the defaults.

    The path of a folder of images is made absolute: the run may be resumed elsewhere.
    """
    defaults = SYSTEMS[args.system].defaults
    chosen = {**defaults, **saved, **vars(args)}
    options = {name: chosen[name] for name in defaults}
    if options["data"] not in (*SYNTHETIC, "mnist"):
        options["data"] = str(Path(options["data"]).absolute())
    return options


def extension(about: About) -> str:
    """Return the message about a run that is extended."""
    before, after = about.extended[-1]
    return (
        f"{SYSTEMS[about.system].length}: {before} before, {after} now; the learning "
        f"rate now follows the schedule of a run of {after}"
    )


def descend(job: Job) -> tuple[Any, dict[str, Any]]:
    """Train a model with one loss; pretrain the layers of a stack first.

    Returns:
        The model, and the history for JSON.

    """
    options, streams = job.options, job.streams
    steps = options["epochs"] * math.ceil(len(job.train.x) / options["batch_size"])
    rate = optim.hold_then_decay(options["lr"], steps)
    model = job.build(lr=rate)
    if job.moments is not None:
        job.moments.watch(model, options["epochs"], batch_size=options["batch_size"])
    make = partial(optim.Adam, lr=rate)
    engine = options["engine"] == "autograd"
    common: Any = {
        "batch_size": options["batch_size"], "rng": streams.shuffle, "group": job.group
    }  # fmt: skip
    record: dict[str, Any] = {}
    resume = job.resume
    if resume is not None and "pretraining" in resume.facts:
        record["pretraining"] = resume.facts["pretraining"]
    elif options.get("pretrain", 0):
        common["optimizer"] = make if engine else None
        layers = pretrain(
            model, job.train.x, epochs=options["pretrain"], checkpoints=job.checkpoints,
            resume=resume, **common,
        )  # fmt: skip
        record["pretraining"] = list(map(asdict, layers))
        resume = None
    common["optimizer"] = make(model.parameters()) if engine else None
    history = fit(
        model,
        job.train.batch(model),
        epochs=options["epochs"],
        noise=streams.noise if hasattr(model, "with_noise") else None,
        validation=job.held_out.batch(model),
        callback=job.moments,
        checkpoints=adding(job.checkpoints, {}, **record),
        resume=resume,
        **common,
    )
    return model, record | asdict(history)


def play(job: Job) -> tuple[Any, dict[str, Any]]:
    """Train a GAN, and give its generator the averaged weights.

    Returns:
        The model, and the history for JSON.

    """
    options, streams = job.options, job.streams
    # No momentum (β1 = 0): there is no single loss to descend (Mescheder et al. 2018).
    steps, d_steps = options["steps"], options["discriminator_steps"]
    betas = (0.0, 0.99)
    of_g, of_d = (
        optim.hold_then_decay(options["lr"], n) for n in (steps, d_steps * steps)
    )
    gan = job.build(betas=betas, generator_lr=of_g, discriminator_lr=of_d)
    optimizers = None
    if options["engine"] == "byhand":
        average: Any = optim.AverageUpdate([gan.theta_g], options["ema"])
    else:
        g, d = gan.generator.parameters(), gan.discriminator.parameters()
        optimizers = optim.Adam(g, of_g, betas), optim.Adam(d, of_d, betas)
        average = optim.EMA(g, options["ema"])
    every = max(1, steps // 200)
    if job.resume is not None:  # unchanged, even if the run is longer now
        every = job.resume.facts["arguments"].get("every", every)
    if job.moments is not None:
        job.moments.watch(
            gan, steps, batch_size=options["batch_size"], every=every, average=average
        )
    history = fit_gan(
        gan,
        job.train.x,
        steps=steps,
        batch_size=options["batch_size"],
        rng=streams.shuffle,
        noise=streams.noise,
        discriminator_steps=d_steps,
        optimizers=optimizers,
        average=average,
        every=every,
        callback=job.moments,
        checkpoints=job.checkpoints,
        resume=job.resume,
    )
    with average.average():
        state = gan.state_dict()
    gan.load_state_dict(state)
    return gan, asdict(history)


# The function that trains each system; it returns the model, and its history for JSON.
TRAINERS: dict[str, Callable[[Job], tuple[Any, dict[str, Any]]]] = {
    "autoencoder": descend,
    "stacked": descend,
    "denoising": descend,
    "vae": descend,
    "iwae": descend,
    "gan": play,
}


def resume_command(
    args: argparse.Namespace, folder: Folder, group: Group | None
) -> str:
    """Return the command that resumes a run."""
    path = str(folder.path)
    path = f"./{path}" if path.startswith("-") else path
    command = f"python -m scratchnet train {args.system}"
    if group is not None:
        command = f"mpirun -n {group.size} {command} --distributed"
    if args.backend:
        command = f"{command} --backend {args.backend}"
    return f"{command} --resume {shlex.quote(path)}"


def threads_of(
    options: Mapping[str, Any],
    images: Images,
    before: About | None,
    group: Group | None,
) -> int | None:
    """Set the number of threads for matrix products; return the number in effect.

    A resumed run keeps its number, because the last bits depend on it. The processes of
    a group keep theirs. None means that the BLAS does not tell its number of threads.
    """
    if group is not None:
        return backend.threads()
    n = before.threads if before else None
    if n is None:
        widest = max(images.x.shape[1], options.get("noise", 0))
        hidden = max(options["hidden"], default=widest)
        n = backend.threads_for(options["batch_size"] * widest * hidden)
    return backend.use_threads(n)


def finish(
    job: Job, folder: Folder, about: About, model: Any, record: dict[str, Any]
) -> str:
    """Write the result of a run, mark it as finished; return the result in words."""
    out = folder.path
    checkpoint.save(
        out / WEIGHTS,
        model.state_dict(),
        format=FORMAT,
        system=job.system,
        model=job.facts,
        options=about.options,
        shape=job.train.shape,
        held_out=job.held_out.digest,
        versions={"scratchnet": __version__, "numpy": np.__version__},
    )
    if job.moments is not None:
        job.moments.write(out / MOMENTS)
    checkpoint.write_json(out / HISTORY, record)
    figures, result = JUDGES[job.system](job, model, record)
    for name, figure in figures.items():
        plots.save(figure, out / name)
    folder.write(replace(about, finished=True, format=FORMAT))
    return f"pictures in {out}: {', '.join(figures)}\n{result}"


@contextlib.contextmanager
def stopped_by_signals(checkpoints: Checkpoints) -> Iterator[list[int]]:
    """Let SIGINT and SIGTERM finish the step and save; a second one stops at once.

    Yields a list. The number of a signal that arrives is appended to it.
    """
    got: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if got:
            raise KeyboardInterrupt
        got.append(number)
        checkpoints.stop = True

    if threading.current_thread() is not threading.main_thread():
        yield got  # only the main thread receives signals
        return
    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
