"""What the command line does: train a system, then sample, reconstruct or encode.

`SYSTEMS` has a row for each system of the lecture: its model, its options with their
defaults, how it is trained, and how it is shown. `train` writes a run, a folder with
the weights and the facts that rebuild the model, the history and pictures. The other
commands start from a run.
"""

import argparse
import contextlib
import io
import math
import secrets
import shlex
import signal
import statistics
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratchnet import __version__, backend, byhand, models, nn, optim, plots
from scratchnet.data.corruption import Fog, Gaussian, Masking, SaltAndPepper
from scratchnet.data.deer import draw_scenes
from scratchnet.data.digits import draw_digits
from scratchnet.data.idx import download_mnist, load_mnist
from scratchnet.kernels import schedules, updates
from scratchnet.metrics import PCA, frechet_distance, psnr, reconstruction_error
from scratchnet.runs.folder import (
    HISTORY,
    RUN,
    WEIGHTS,
    About,
    Folder,
    RunError,
    digest,
    is_size,
    is_text,
    parsed,
)
from scratchnet.training import checkpoint, fit, fit_gan, pretrain
from scratchnet.training.checkpoint import (
    FORMAT,
    Checkpoints,
    Save,
    State,
    Stopped,
    adding,
)
from scratchnet.training.distributed import Group

DRAWN = {"drawn": (20_000, 2_000), "deer": (16_000, 1_000)}  # to train on; held out
JUDGED, DRAWS = 1000, 100  # images, and draws of z for each, of a VAE's log p(x)
FEATURES = 32  # principal components, in which generated images are compared
SHOWN, SHEET, PLANE = 10, 64, 1000  # images in a row, on a sheet; codes in the plane
SIDE = 21  # pictures along each axis of the plane of codes
MOST_DRAWS = 10_000  # of z in the bound of an IWAE
OLD_SHAPES = {"drawn": (28, 28), "deer": (48, 48), "mnist": (28, 28)}  # in format 1
LOSSES = {
    "squared": "squared error per image",
    "cross_entropy": "cross-entropy per image (nats)",
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Sequential,  # of nothing
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
Figures = dict[str, Any]  # by the name of the file


# --- Images -------------------------------------------------------------------------


class Images(NamedTuple):
    """Images to train on, or to judge by."""

    x: np.ndarray  # (n, d) float32 in [0, 1]
    shape: tuple[int, int]  # rows and columns of each
    label: np.ndarray | None  # (n,) the class; or whether there is a deer
    depth: np.ndarray | None = None  # (n, d), of scenes

    @property
    def ink(self) -> bool:
        """Whether 1 is ink on paper, and not light."""
        return self.depth is None

    @property
    def arrays(self) -> list[Any]:
        """What `digest` is taken of."""
        return [self.x, self.label, self.depth]

    @property
    def digest(self) -> str:
        """What tells these images from any others."""
        return digest(self.arrays)

    def batch(self, model: Any) -> tuple[np.ndarray, ...]:
        """Return what the model is trained on: x, and the depth that fog needs."""
        if not hasattr(model, "corruption") or not model.corruption.foggy:
            return (self.x,)
        if self.depth is None:
            raise ValueError("fog: these images have no depth; --data deer has")
        return self.x, self.depth

    def mixed(self, n: int) -> np.ndarray:
        """Choose n rows of all labels: the first of each, then the second, ..."""
        if self.label is None:
            return np.arange(min(n, len(self.x)))
        turn = np.empty(len(self.label), int)
        for value in np.unique(self.label):
            mine = self.label == value
            turn[mine] = np.arange(mine.sum())
        return np.lexsort((self.label, turn))[:n]

    def pictures(self, x: np.ndarray) -> np.ndarray:
        """Return rows x (n, d) as pictures of the shape of these (n, rows, columns)."""
        return x.reshape(-1, *self.shape)


def load_images(
    where: str, n: int | None, rng: np.random.Generator, *, held_out: bool
) -> Images:
    """Draw n digits ("drawn") or scenes ("deer"), or read MNIST from a folder.

    Args:
        where: "mnist" downloads it; else it is the folder.
        n: how many; by default what `DRAWN` says, or all of MNIST's.
        rng: draws them.
        held_out: of MNIST, take the images for testing.

    Raises:
        ValueError, OSError: the files are not there, or are not what they should be.

    """
    if where in DRAWN:
        n = DRAWN[where][held_out] if n is None else n
        if where == "drawn":
            digits = draw_digits(n, rng)
            return Images(digits.x, digits.images.shape[1:], digits.label)
        scenes = draw_scenes(n, rng)
        return Images(scenes.x, scenes.images.shape[1:], scenes.deer, scenes.x_depth)
    folder = download_mnist() if where == "mnist" else Path(where)
    mnist = load_mnist(folder, "test" if held_out else "train", classes=None)
    if n is not None and n > len(mnist.x):
        raise ValueError(f"--examples {n}: {folder} has {len(mnist.x)}")
    label = None if mnist.label is None else mnist.label[:n]
    return Images(mnist.x[:n], mnist.images.shape[1:], label)


def load_both(args: argparse.Namespace, streams: "Streams") -> tuple[Images, Images]:
    """Return the images to train on, and those that are held out.

    Raises:
        ValueError, OSError: as for `load_images`; those held out have other rows or
            columns.

    """
    images = load_images(args.data, args.examples, streams.train, held_out=False)
    held_out = load_images(args.data, None, streams.held_out, held_out=True)
    check_shape(f"--data {args.data}: images for testing", held_out, images.shape)
    return images, held_out


def check_shape(what: str, images: Images, shape: tuple[int, int]) -> None:
    """Raise ValueError unless the images have these rows and columns."""
    if images.shape != shape:
        (m, n), (rows, columns) = images.shape, shape
        raise ValueError(f"{what} are {m} x {n}; {rows} x {columns} expected")


class Streams(NamedTuple):
    """The random streams of one seed, each for one purpose."""

    train: np.random.Generator
    held_out: np.random.Generator
    init: np.random.Generator
    shuffle: np.random.Generator
    noise: np.random.Generator
    judge: np.random.Generator

    @classmethod
    def of(cls, seed: int) -> "Streams":
        """Spawn them."""
        return cls(*backend.streams(seed, len(cls._fields)))


# --- Corruptions --------------------------------------------------------------------


class Corruption(NamedTuple):
    """What happens to clean images on their way into a denoiser."""

    spoil: Any  # of data/corruption.py

    def __call__(self, *batch: Any) -> np.ndarray:
        """Return what the denoiser sees of a batch (x, rng), or (x, depth, rng)."""
        return self.look(self.spoil(*batch))

    def check(self, *batch: Any) -> None:
        """Raise an error unless this batch can be spoiled."""
        self.spoil.check(*batch)

    def look(self, x: np.ndarray) -> np.ndarray:
        """Return how the denoiser sees the rows x.

        In fog, with the mean of each at 0 and the standard deviation at 1, as an eye
        adapts: how thick the fog is then matters less than what is in it.
        """
        if not self.foggy:
            return x
        centred = x - x.mean(axis=1, keepdims=True)
        seen: np.ndarray = centred / x.std(axis=1, keepdims=True)
        return seen

    @property
    def foggy(self) -> bool:
        """Whether it needs the depth of what is shown."""
        return isinstance(self.spoil, Fog)


# How each is made of its level, and the level that it has by default.
CORRUPTIONS: dict[str, tuple[Callable[[float], Any], float]] = {
    "gaussian": (Gaussian, 0.5),
    "masking": (Masking, 0.5),
    "salt-and-pepper": (SaltAndPepper, 0.3),
    "fog": (lambda level: Fog((0.8 * level, 1.2 * level)), 0.25),
}


# --- A model from facts -------------------------------------------------------------


def build(
    system: str,
    facts: Mapping[str, Any],
    engine: str,
    rng: np.random.Generator,
    **memory: Any,
) -> Any:
    """Make the model of a system, with new weights.

    Args:
        system: a name in `SYSTEMS`.
        facts: its arguments, see `facts_of`.
        engine: "byhand" or "autograd".
        rng: draws the weights.
        **memory: what only the model by hand is made for: batch_size, optimizer, ...

    Raises:
        LookupError, TypeError, ValueError: the facts are not those of such a model.

    """
    name = SYSTEMS[system].model
    options = dict(facts)
    if "corruption" in options:
        kind, level = options["corruption"]
        options["corruption"] = Corruption(CORRUPTIONS[kind][0](level))
    if engine == "byhand":
        return getattr(byhand, name)(**options, rng=rng, **memory)
    options["activation"] = ACTIVATIONS[options["activation"]]
    return getattr(models, name)(**options, rng=rng)


def facts_of(args: argparse.Namespace, x: np.ndarray) -> dict[str, Any]:
    """Return the arguments of the model for images x (n, d), as JSON can hold them.

    Raises:
        ValueError: no PCA, with which autoencoders are compared, has a code so long;
            there are too few images for a GAN to be judged by.

    """
    columns = x.shape[1]
    if SYSTEMS[args.system].judge is judge_autoencoder and args.code > min(x.shape):
        raise ValueError(
            f"--code {args.code}: {len(x)} images of {columns} pixels; a shorter code "
            "expected"
        )
    if args.batch_size > len(x):
        raise ValueError(
            f"--batch-size {args.batch_size}: {len(x)} images; no more than that"
        )
    if args.system == "gan" and len(x) < max(2, args.packing):
        raise ValueError(
            f"--packing {args.packing}: {len(x)} images; at least "
            f"{max(2, args.packing)} expected"
        )
    facts = {name: getattr(args, name) for name in SYSTEMS[args.system].passed}
    if args.system == "gan":
        facts["generator"] = (args.noise, *args.hidden, columns)
        facts["discriminator"] = (args.packing * columns, *args.hidden[::-1], 1)
    else:
        facts["sizes"] = (columns, *args.hidden, args.code)
    if args.system == "denoising":
        kind = args.corruption or ("fog" if args.data == "deer" else "gaussian")
        level = CORRUPTIONS[kind][1] if args.level is None else args.level
        facts["corruption"] = (kind, level)
    return facts


# --- Training -----------------------------------------------------------------------


class Job(NamedTuple):
    """What is to be trained, and on what."""

    args: argparse.Namespace
    facts: dict[str, Any]
    train: Images
    held_out: Images
    streams: Streams
    checkpoints: Save
    resume: State | None  # what to go on from
    group: Group | None = None  # the processes that train it

    def build(self, **optimizers: Any) -> Any:
        """Make the model."""
        args = self.args
        memory = {"batch_size": args.batch_size, **optimizers}
        return build(args.system, self.facts, args.engine, self.streams.init, **memory)


def adam(args: argparse.Namespace, steps: int, **options: Any) -> Callable[..., Any]:
    """Return what makes Adam: of arrays by hand, or of parameters with the engine."""
    kind = updates.AdamUpdate if args.engine == "byhand" else optim.Adam
    return partial(kind, lr=schedules.hold_then_decay(args.lr, steps), **options)


def descend(job: Job) -> tuple[Any, dict[str, Any]]:
    """Go down one loss, a stack after its layers one by one.

    Returns:
        The model, and the history as JSON can hold it.

    """
    args, streams = job.args, job.streams
    steps = args.epochs * math.ceil(len(job.train.x) / args.batch_size)
    make = adam(args, steps)
    model = job.build(optimizer=make)
    engine = args.engine == "autograd"
    common: Any = {
        "batch_size": args.batch_size, "rng": streams.shuffle, "group": job.group
    }  # fmt: skip
    record: dict[str, Any] = {}
    resume = job.resume
    if resume is not None and "pretraining" in resume.facts:
        record["pretraining"] = resume.facts["pretraining"]
    elif getattr(args, "pretrain", 0):
        common["optimizer"] = make if engine else None
        layers = pretrain(
            model, job.train.x, epochs=args.pretrain, checkpoints=job.checkpoints,
            resume=resume, **common,
        )  # fmt: skip
        record["pretraining"] = list(map(asdict, layers))
        resume = None
    common["optimizer"] = make(model.parameters()) if engine else None
    history = fit(
        model,
        job.train.batch(model),
        epochs=args.epochs,
        noise=streams.noise if hasattr(model, "with_noise") else None,
        validation=job.held_out.batch(model),
        checkpoints=adding(job.checkpoints, {}, **record),
        resume=resume,
        **common,
    )
    return model, record | asdict(history)


def play(job: Job) -> tuple[Any, dict[str, Any]]:
    """Play the game of a GAN, and leave its generator as its average was.

    Returns:
        The model, and the history as JSON can hold it.

    """
    args, streams = job.args, job.streams
    # No momentum (β1 = 0): two players do not go down one hill (Mescheder et al. 2018).
    of_g, of_d = (
        adam(args, steps, betas=(0.0, 0.99))
        for steps in (args.steps, args.discriminator_steps * args.steps)
    )
    gan = job.build(optimizer=of_g, discriminator_optimizer=of_d)
    optimizers = None
    if args.engine == "byhand":
        average: Any = updates.EMA([gan.theta_g], args.ema)
    else:
        g, d = gan.generator.parameters(), gan.discriminator.parameters()
        optimizers = of_g(g), of_d(d)
        average = optim.EMA(g, args.ema)
    every = max(1, args.steps // 200)
    if job.resume is not None:  # as it was, also if there are more steps now
        every = job.resume.facts["arguments"].get("every", every)
    history = fit_gan(
        gan,
        job.train.x,
        steps=args.steps,
        batch_size=args.batch_size,
        rng=streams.shuffle,
        noise=streams.noise,
        discriminator_steps=args.discriminator_steps,
        optimizers=optimizers,
        average=average,
        every=every,
        checkpoints=job.checkpoints,
        resume=job.resume,
    )
    with average.average():
        state = gan.state_dict()
    gan.load_state_dict(state)
    return gan, asdict(history)


def train(args: argparse.Namespace) -> int:
    """Train a system, and write the run: weights, history and pictures.

    Of several processes the first writes, and says what there is to say.

    Returns:
        The exit status: 0, or 128 and the number of the signal that stopped it.

    """
    if args.resume and args.out and Path(args.resume) != Path(args.out):
        raise RunError(
            f"--resume {args.resume} --out {args.out}: a run is resumed in its own "
            "folder; leave --out away"
        )
    if args.resume and args.overwrite:
        raise RunError("--resume --overwrite: a run is resumed or replaced, not both")
    folder = Folder(Path(args.resume or args.out or f"runs/{args.system}"))
    if not getattr(args, "distributed", False):
        with folder.locked():
            return _train(args, folder, None)
    with Group() as group, contextlib.ExitStack() as stack:
        if group.rank == 0:
            stack.enter_context(folder.locked())
        return _train(args, folder, group)


def _train(args: argparse.Namespace, folder: Folder, group: Group | None) -> int:
    first = group is None or group.rank == 0
    system = SYSTEMS[args.system]
    found = found_there(args, folder) if first else None
    found = group.from_first(found) if group else found
    saved = found.options if found and args.resume else {}
    vars(args).update({**system.defaults, **saved, **vars(args)})
    if args.data not in (*DRAWN, "mnist"):
        args.data = str(Path(args.data).absolute())
    streams = Streams.of(args.seed)
    images, held_out = load_both(args, streams)
    about = About(
        system=args.system,
        options={name: getattr(args, name) for name in system.defaults},
        data=digest([*images.arrays, *held_out.arrays]),
        shape=images.shape,
        id=secrets.token_hex(8),
        threads=threads_of(args, images, found, group),
        files=(WEIGHTS, HISTORY, *pictures(args, images)),
    )
    if group:
        given = {f"--{k}": v for k, v in about.options.items() if k != "data"}
        group.agree("train", {**given, "the images": about.data})
    if found and args.resume:
        about = resumed(args, found, about)
        if first and about.extended != found.extended:
            before, after = about.extended[-1]
            say(
                f"{length_of(args.system)}: {before} before, {after} now; from here on "
                f"the learning rate is that of a run of {after}"
            )
    facts = facts_of(args, images.x)
    checkpoints = RunCheckpoints(
        folder, about, found, every=args.save_every, group=group
    )
    resume = last_state(checkpoints) if args.resume and first else None
    resume = group.from_first(resume) if group else resume
    save = adding(checkpoints, {}, command=about.command())
    job = Job(args, facts, images, held_out, streams, save, resume, group)
    try:
        with stopped_by_signals(checkpoints) as signals:
            model, record = system.train(job)
        result = finish(job, folder, about, model, record) if first else ""
    except Stopped as stopped:
        if first:
            command = resume_command(args, folder, group)
            say(f"scratchnet: {stopped}; resume with\n  {command}", sys.stderr)
        # It may have been another process that got the signal.
        return 128 + (signals[0] if signals else signal.SIGTERM)
    except OSError as error:
        if not checkpoints.files():
            raise
        command = resume_command(args, folder, group)
        raise OSError(
            f"{error}; once that is fixed, resume with\n  {command}"
        ) from error
    if first:
        checkpoints.prune(1)
        print(result)
    return 0


def say(text: str, file: Any = None) -> None:
    """Print a line during a training, which does not end if nobody reads it."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=file, flush=True)


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


def found_there(args: argparse.Namespace, folder: Folder) -> About | None:
    """Return the run that is in the folder; None if there is none.

    Raises:
        RunError: one is there, and neither --resume nor --overwrite says what to do
            with it; --resume, and there is none, or it is another one.

    """
    found = folder.read()
    if found is None:
        if args.resume:
            raise RunError(f"--resume {args.resume}: no run is there")
        return None
    if found.system not in SYSTEMS:
        raise RunError(f"{folder.path}: a run of {found.system!r}, which is unknown")
    if not found.files:  # format 1
        known = SYSTEMS[found.system].pictures
        found = replace(
            found, files=(WEIGHTS, HISTORY, *known, "plane.png", "codes.png")
        )
    if args.resume:
        if found.system != args.system:
            raise RunError(
                f"--resume {args.resume}: it trains {found.system}, not {args.system}"
            )
        return replace(found, options=args.checked(found.options, args.resume))
    has_states = bool(folder.checkpoints(found).files())
    if args.overwrite or not (found.finished or has_states):
        return found
    path = folder.path
    what = "a finished run" if found.finished else "a run that was not finished"
    more = f" --{length_of(found.system)} N, more than it had" if found.finished else ""
    raise RunError(
        f"{path}: {what} is there; resume it, --resume {shlex.quote(str(path))}"
        f"{more}, or replace it, --overwrite"
    )


def resumed(args: argparse.Namespace, found: About, now: About) -> About:
    """Return what the resumed run is.

    Raises:
        RunError: it is another one, or nothing is left to do.

    """
    if found.finished and found.format == 1:
        raise RunError(
            f"--resume {args.resume}: a finished run of format 1, which kept no state "
            "to resume from; train again, into another --out"
        )
    if wrong := now.differences(found):
        raise RunError(f"--resume {args.resume}: {'; '.join(wrong)}")
    length = length_of(args.system)
    before, after = found.options[length], now.options[length]
    if found.finished and after <= before:
        raise RunError(
            f"--resume {args.resume}: it is finished, with {before} {length}; to "
            f"extend it pass --{length} N, more than that"
        )
    extended = (*found.extended, *([(before, after)] if after != before else []))
    files = tuple(dict.fromkeys((*found.files, *now.files)))
    return replace(
        now, id=found.id, files=files, extended=extended, format=found.format
    )


def threads_of(
    args: argparse.Namespace, images: Images, found: About | None, group: Group | None
) -> int | None:
    """Choose the number of threads for matrix products; return what is in effect.

    A run that is resumed takes the number that it had: on it the last bits depend. The
    processes of a group keep theirs. None stands for a BLAS that cannot be asked.
    """
    if group is not None:
        return backend.threads()
    n = found.threads if found and args.resume else None
    if n is None:
        widest = max(images.x.shape[1], args.noise if args.system == "gan" else 0)
        hidden = max(args.hidden, default=widest)
        n = backend.threads_for(args.batch_size * widest * hidden)
    return backend.use_threads(n)


def length_of(system: str) -> str:
    """Return the name of the option that says how long a system is trained."""
    return "steps" if system == "gan" else "epochs"


def last_state(checkpoints: "RunCheckpoints") -> State | None:
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
    if wrong := checkpoints.about.differences(about):
        raise RunError(
            f"{path}: a state of another run: {'; '.join(wrong)}; move it away"
        )
    for name, a in state.arrays.items():
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise RunError(f"{path}: damaged ({name} has values that are not finite)")
    return state


class RunCheckpoints(Checkpoints):
    """The states of a run. The first of them that is written begins the run.

    Before that nothing is written, so that a command that fails leaves no trace.
    """

    def __init__(
        self, folder: Folder, about: About, found: About | None, **how: Any
    ) -> None:
        super().__init__(folder.states, run=about.id, **how)
        self.of, self.about, self.found = folder, about, found
        self.begun = False
        own = found.files if found else ()
        folder.check_free(about.files, own)

    def write(self, state: State) -> Path:
        """Write a state; before the first, what the run is."""
        if not self.begun:
            if self.found and self.found.id != self.about.id:  # the one before
                self.of.remove(self.found)
            self.of.write(self.about)
            self.begun = True
        return super().write(state)


def finish(
    job: Job, folder: Folder, about: About, model: Any, record: dict[str, Any]
) -> str:
    """Write the result of a run, and mark it as finished; say how good it is."""
    args, out = job.args, folder.path
    checkpoint.save(
        out / WEIGHTS,
        model.state_dict(),
        format=FORMAT,
        system=args.system,
        model=job.facts,
        options=about.options,
        shape=job.train.shape,
        held_out=job.held_out.digest,
        versions={"scratchnet": __version__, "numpy": np.__version__},
    )
    checkpoint.write_json(out / HISTORY, record)
    figures, result = SYSTEMS[args.system].judge(job, model, record)
    for name, figure in figures.items():
        plots.save(figure, out / name)
    folder.write(replace(about, finished=True, format=FORMAT))
    return f"pictures in {out}: {', '.join(figures)}\n{result}"


@contextlib.contextmanager
def stopped_by_signals(checkpoints: Checkpoints) -> Iterator[list[int]]:
    """Let SIGINT and SIGTERM finish the step and save; a second one stops at once.

    Gives a list which the signal's number is put into.
    """
    got: list[int] = []

    def stop(number: int, frame: Any) -> None:
        if got:
            raise KeyboardInterrupt
        got.append(number)
        checkpoints.stop = True

    if threading.current_thread() is not threading.main_thread():
        yield got  # signals go to the main thread alone
        return
    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- What a trained system shows ----------------------------------------------------

Judged = tuple[Figures, str]


def pictures(args: argparse.Namespace, images: Images) -> list[str]:
    """Return the names of the pictures that a trained system is shown by."""
    names = list(SYSTEMS[args.system].pictures)
    judge = SYSTEMS[args.system].judge
    if judge is judge_vae and args.code == 2:
        names.append("plane.png")
    if judge in (judge_vae, judge_autoencoder) and images.ink and args.code > 1:
        names.append("codes.png")
    return names


def judge_autoencoder(job: Job, model: Any, record: dict[str, Any]) -> Judged:
    """Compare an autoencoder with the best linear one, PCA."""
    args, images = job.args, job.held_out
    x, k, name = images.x, args.code, SYSTEMS[args.system].name
    pca = PCA(k).fit(job.train.x)
    error = reconstruction_error(x, model.reconstruct(x))
    pca_error = reconstruction_error(x, pca.reconstruct(x))
    # What float32 leaves of x has a square of about this part of x's own.
    exact = pca_error <= 1e-12 * np.mean(np.sum(np.square(x, dtype=float), axis=1))
    ratio = "PCA is exact" if exact else f"ratio {error / pca_error:.2f}"
    rows, _ = reconstructions(args.system, model, images, SHOWN, job.streams.judge)
    rows["PCA"] = images.pictures(pca.reconstruct(x[images.mixed(SHOWN)]))
    references = {f"PCA, {k} numbers": pca_error} if args.loss == "squared" else {}
    figures = {
        "reconstructions.png": plots.picture_rows(rows, ink=images.ink),
        "loss.png": loss_curve(record, LOSSES[args.loss], references),
    }
    figures |= codes_figure(images, {name: model.encode(x), "PCA": pca.encode(x)})
    return figures, (
        f"squared error per held-out image, {k} numbers each: "
        f"{name} {error:.2f}, PCA {pca_error:.2f}, {ratio}"
    )


def judge_denoising(job: Job, model: Any, record: dict[str, Any]) -> Judged:
    """Compare images before and after they were cleaned."""
    args, images = job.args, job.held_out
    rows, result = reconstructions(args.system, model, images, SHOWN, job.streams.judge)
    figures = {
        "reconstructions.png": plots.picture_rows(rows, ink=images.ink),
        "loss.png": loss_curve(record, LOSSES[args.loss]),
    }
    return figures, result


def judge_vae(job: Job, model: Any, record: dict[str, Any]) -> Judged:
    """Bound log p(x), and show what is drawn from the model."""
    args, images, rng = job.args, job.held_out, job.streams.judge
    name = SYSTEMS[args.system].name
    x = images.x[:JUDGED]
    log_p_x, kl = (np.mean(term) for term in model.elbo_terms(x, rng))
    likelihood = np.mean(model.log_likelihood(x, rng, DRAWS))
    rows, _ = reconstructions(args.system, model, images, SHOWN, rng)
    loss = "−ELBO"
    if args.system == "iwae":
        loss = f"−bound of {args.k} draws"
    elif args.beta != 1:
        loss = f"−log p(x | z) + {args.beta:g} KL"
    figures = {
        "reconstructions.png": plots.picture_rows(rows, ink=images.ink),
        "samples.png": beside_data(images, draw(model, SHEET, rng)),
        "loss.png": loss_curve(record, f"{loss} per image (nats)"),
    }
    if args.code == 2:
        normal = statistics.NormalDist()
        z = np.array([normal.inv_cdf((i + 0.5) / SIDE) for i in range(SIDE)])
        codes = np.stack(np.meshgrid(z, z), axis=-1).reshape(-1, 2)
        decoded = images.pictures(model.decode(codes.astype(model.dtype)))
        figures["plane.png"] = plots.code_plane(decoded, z, ink=images.ink)
    figures |= codes_figure(images, {name: model.encode(images.x)})
    return figures, (
        f"on {len(x)} held-out images, nats per image: ELBO {log_p_x - kl:.2f} "
        f"(log p(x | z) {log_p_x:.2f}, KL {kl:.2f}), log p(x) {likelihood:.2f} or more "
        f"({DRAWS} draws)"
    )


def judge_gan(job: Job, model: Any, record: dict[str, Any]) -> Judged:
    """Say how far the game is from its balance, and the samples from the data."""
    n = min(len(job.train.x), len(job.held_out.x)) // model.packing * model.packing
    x, others = job.held_out.x[:n], job.train.x[:n]
    generated = draw(model, n, job.streams.judge)
    a_r, a_f = model.logits(x), model.logits(generated)
    v = -np.mean(np.logaddexp(0, -a_r)) - np.mean(np.logaddexp(0, a_f))
    real, fake = (np.mean(model.discriminate(images)) for images in (x, generated))
    pca = PCA(min(FEATURES, *job.train.x.shape)).fit(job.train.x)
    distance, floor = (
        frechet_distance(pca.encode(images), pca.encode(x))
        for images in (generated, others)
    )
    figures = {
        "samples.png": beside_data(job.held_out, generated[:SHEET]),
        "game.png": plots.game(**record),
    }
    return figures, (
        f"on {n} held-out images: V(D, G) {v:.3f} nats (-log 4 is {-math.log(4):.3f}), "
        f"mean D(x) {real:.3f}, mean D(G(z)) {fake:.3f}; squared Fréchet distance "
        f"of generated images {distance:.2f}, of training images {floor:.2f}"
    )


def reconstructions(
    system: str, model: Any, images: Images, n: int, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], str]:
    """Return n pictures and what becomes of them, row by row, and how good all are."""
    x = images.x
    chosen = images.mixed(n)
    rows = {"original": images.pictures(x[chosen])}
    if not hasattr(model, "corruption"):
        made = model.reconstruct(x)
        error = reconstruction_error(x, made)
        name = SYSTEMS[system].name
        result = f"squared error per image, mean of {len(x)}: {name} {error:.2f}"
    else:
        corrupted = model.corruption.spoil(*images.batch(model), rng)
        made = model.reconstruct(model.corruption.look(corrupted))
        before, after = (np.mean(psnr(x, y)) for y in (corrupted, made))
        how, name = "in fog" if model.corruption.foggy else "noisy", "cleaned"
        rows[how] = images.pictures(corrupted[chosen])
        result = f"PSNR of {len(x)} images, dB: {how} {before:.2f}, {name} {after:.2f}"
    rows[name] = images.pictures(made[chosen])
    return rows, result


def draw(model: Any, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n images (n, d) from a VAE, or from a GAN's generator."""
    if hasattr(model, "sample"):
        return backend.to_numpy(model.sample(n, rng))
    z = rng.standard_normal((n, model.generator_sizes[0]), model.dtype.type)
    samples: np.ndarray = model.generate(z)
    return samples


def beside_data(images: Images, samples: np.ndarray) -> Any:
    """Draw a sheet of samples beside one of as many images."""
    sheets = {"data": images.x[: len(samples)], "samples": samples}
    shown = {name: images.pictures(x) for name, x in sheets.items()}
    return plots.sheets(shown, ink=images.ink)


def loss_curve(
    record: dict[str, Any], unit: str, references: dict[str, float] | None = None
) -> Any:
    """Draw the losses of a history."""
    losses = record["losses"], record["validation_losses"]
    return plots.loss_curve(*losses, references, unit)


def codes_figure(images: Images, codes: dict[str, np.ndarray]) -> Figures:
    """Draw codes of digits (n, k) in the plane, in their main directions if k > 2."""
    k = next(iter(codes.values())).shape[1]
    if not images.ink or k < 2:
        return {}
    axes = ["first number of the code", "second number of the code"]
    if k > 2:
        codes = {name: PCA(2).fit(z).encode(z) for name, z in codes.items()}
        axes = ["first principal component", "second principal component"]
    planes = {f"codes, {name}": z[:PLANE] for name, z in codes.items()}
    label = None if images.label is None else images.label[:PLANE]
    return {"codes.png": plots.planes(planes, label, *axes)}


# --- From a run ---------------------------------------------------------------------


class Run(NamedTuple):
    """What `train` wrote, read back."""

    folder: Path
    system: str
    model: Any
    data: str  # what it was trained on
    seed: int
    columns: int  # pixels of an image
    shape: tuple[int, int] | None  # its rows and columns; None in format 1
    held_out: str | None  # the digest of the images that were; None in format 1

    def images(self, args: argparse.Namespace) -> tuple[Images, Streams]:
        """Return the images that were held out, or those that `args` names.

        Raises:
            ValueError: they have another shape; the run's own data are not what they
                were.

        """
        where = args.data or self.data
        known = where in OLD_SHAPES or Path(where).is_absolute()
        if not args.data and not known:
            raise RunError(
                f"{self.folder}: a run of format 1, which does not say where {where!r} "
                "was; pass --data FOLDER"
            )
        streams = Streams.of(self.seed if args.seed is None else args.seed)
        images = load_images(where, None, streams.held_out, held_out=True)
        if self.shape or math.prod(images.shape) != self.columns:
            expected = self.shape or (1, self.columns)
            check_shape(f"--data {where}: its images", images, expected)
        # What is drawn may differ in its last bits from machine to machine.
        own = not args.data and where not in DRAWN
        if own and self.held_out and images.digest != self.held_out:
            raise ValueError(
                f"{where}: has other images than when {self.folder} was trained; pass "
                "--data FOLDER to take them nevertheless, or others"
            )
        return images, streams

    def file(self, args: argparse.Namespace, name: str) -> Path:
        """Return the file of a result: what `args` names, else NAME in the run.

        Raises:
            RunError: the file is one that training wrote; or it is in the run's folder,
                and is not the run's own.

        """
        path = Path(args.out) if args.out else self.folder / name
        kept = [self.folder / n for n in (WEIGHTS, HISTORY, RUN)]
        if any(path.exists() and one.exists() and path.samefile(one) for one in kept):
            raise RunError(f"{path}: is part of the run; choose another --out")
        if not args.out:
            Folder(self.folder).add(name)
        return path


def load_run(args: argparse.Namespace) -> Run:
    """Read a run, and rebuild its model with the engine that `args` names.

    Raises:
        FileNotFoundError: there is no run there.
        ValueError: the file is damaged, comes from a later version, or its system
            cannot do what `args` asks for.

    """
    path = Path(args.run)
    path = path / WEIGHTS if path.is_dir() else path
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; `train` writes one")
    weights, facts = checkpoint.load(path)
    if not isinstance(facts.get("format"), int):
        raise ValueError(f"{path}: these weights were not written by `train`")
    if facts["format"] > FORMAT:
        raise ValueError(
            f"{path}: written by a later scratchnet than this, {__version__}; "
            "install that one"
        )
    name = facts.get("system")
    if name not in list(SYSTEMS):
        raise ValueError(f"{path}: of {name!r}, not one of {', '.join(SYSTEMS)}")
    if args.command in SYSTEMS[name].cannot:
        raise ValueError(f"{path}: {SYSTEMS[name].cannot[args.command]}")
    for key, a in weights.items():
        if a.dtype.kind != "f" or not np.isfinite(a).all():
            raise ValueError(f"{path}: damaged ({key} has values that are not finite)")
    try:
        check_size(name, facts["model"], sum(a.size for a in weights.values()))
        rng = np.random.default_rng(0)  # of weights that are replaced at once
        model = build(name, facts["model"], args.engine, rng)
        model.load_state_dict(weights)
        options = facts["options"]
        net = "generator" if name == "gan" else "sizes"
        shape = facts.get("shape")
        found = Run(
            folder=path.parent,
            system=name,
            model=model,
            data=options["data"],
            seed=options["seed"],
            columns=facts["model"][net][-1 if name == "gan" else 0],
            shape=tuple(shape) if shape else OLD_SHAPES.get(options["data"]),
            held_out=facts.get("held_out"),
        )
        check_run(found)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = "; ".join(str(error).splitlines())
        raise ValueError(f"{path}: damaged ({reason})") from error
    return found


def check_size(system: str, facts: Mapping[str, Any], n: int) -> None:
    """Raise ValueError unless a model of these facts has no more than n weights.

    Before it is built: a damaged file may claim any size. Nothing else in the facts
    makes a model large but the draws of an IWAE.
    """
    nets = ("generator", "discriminator") if system == "gan" else ("sizes",)
    for net in nets:
        sizes = facts[net]
        if not all(is_size(size) for size in sizes):
            raise ValueError(f"{net} is {str(sizes)[:60]}")
        if sum(a * b for a, b in pairwise(sizes)) > n:
            raise ValueError(f"{net} is {str(sizes)[:60]}, and there are {n} weights")
    if not is_size(facts.get("k", 1)) or facts.get("k", 1) > MOST_DRAWS:
        raise ValueError(f"k is {str(facts['k'])[:60]}; {MOST_DRAWS} at most")


def check_run(run: Run) -> None:
    """Raise ValueError unless the facts of a run fit together."""
    if run.shape is not None:
        if len(run.shape) != 2 or not all(map(is_size, run.shape)):
            raise ValueError(f"shape is {str(run.shape)[:60]}")
        if math.prod(run.shape) != run.columns:
            raise ValueError(
                f"shape is {run.shape}, and images have {run.columns} pixels"
            )
    if not is_text(run.data) or not is_seed(run.seed):
        raise ValueError(f"data is {run.data!r}, seed {run.seed!r}"[:100])
    if not (run.held_out is None or is_text(run.held_out)):
        raise ValueError(f"held_out is {str(run.held_out)[:60]}")


def is_seed(x: Any) -> bool:
    """Return whether x is a seed, as `--seed` takes it."""
    return isinstance(x, int) and not isinstance(x, bool) and 0 <= x < 2**64


def sample(args: argparse.Namespace) -> None:
    """Draw new images from a run, and write a sheet of them."""
    run = load_run(args)
    if run.shape is None:
        raise RunError(
            f"{run.folder}: a run of format 1, which does not know rows and columns of "
            "its images; train again"
        )
    x = draw(run.model, args.n, np.random.default_rng(args.seed))
    figure = plots.sheets({"": x.reshape(-1, *run.shape)}, ink=run.data != "deer")
    path = plots.save(figure, run.file(args, "sample.png"))
    print(f"{path}: {len(x)} samples of the {SYSTEMS[run.system].name}")


def reconstruct(args: argparse.Namespace) -> None:
    """Reconstruct images with a run, or clean them; write some of them."""
    run = load_run(args)
    images, streams = run.images(args)
    rows, result = reconstructions(run.system, run.model, images, args.n, streams.judge)
    figure = plots.picture_rows(rows, ink=images.ink)
    print(plots.save(figure, run.file(args, "reconstruct.png")))
    print(result)


def encode(args: argparse.Namespace) -> None:
    """Write the codes of images, of clean ones, and their labels if they have some."""
    run = load_run(args)
    suffix = Path(args.out or "codes.csv").suffix
    if suffix not in (".csv", ".npz"):
        raise ValueError(f"{args.out}: .csv or .npz expected at the end of the name")
    images, _ = run.images(args)
    x = images.x
    if run.system == "denoising":
        x = run.model.corruption.look(x)
    codes = run.model.encode(x)
    label: dict[str, Any] = {}
    if images.label is not None:
        label["label"] = images.label.astype(int)
    file = io.BytesIO()
    if suffix == ".npz":
        np.savez(file, codes=codes, **label)
    else:
        columns = [f"z{i}" for i in range(codes.shape[1])]
        np.savetxt(
            file,
            np.column_stack([*label.values(), codes]),
            fmt=["%d"] * len(label) + ["%.9g"] * len(columns),
            delimiter=",",
            header=",".join([*label, *columns]),
            comments="",
        )
    path = run.file(args, "codes.csv")
    checkpoint.write_whole(path, file.getvalue())
    labels = ", and the labels" if label else ""
    print(f"{path}: {len(codes)} codes of {codes.shape[1]} numbers{labels}")


# --- The systems --------------------------------------------------------------------


class System(NamedTuple):
    """A system of the lecture, as the command line knows it."""

    name: str  # in pictures
    about: str
    model: str  # the class, in byhand and in models
    train: Callable[[Job], tuple[Any, dict[str, Any]]]
    judge: Callable[[Job, Any, dict[str, Any]], Judged]
    pictures: tuple[str, ...]  # that are always drawn; `pictures` adds the others
    defaults: dict[str, Any]  # of its options
    cannot: dict[str, str]  # commands, and why

    @property
    def passed(self) -> list[str]:
        """The options that are arguments of the model, under the same names."""
        return [name for name in self.defaults if name in ARGUMENTS]


ARGUMENTS = {  # of models, by their own names
    "activation", "output", "loss", "decoder", "beta", "k",
    "objective", "r1", "r2", "packing",
}  # fmt: skip
ALL = {"data": "drawn", "examples": None, "batch_size": 128, "seed": 0,
       "engine": "byhand"}  # fmt: skip
AUTOENCODER = {"activation": "relu", "output": "sigmoid", "loss": "squared", **ALL}
VAE = {"code": 10, "hidden": [256, 256], "activation": "relu", "decoder": "bernoulli",
       "lr": 2e-3, **ALL}  # fmt: skip
NO_PRIOR = {
    "sample": "an autoencoder says nothing of how its codes are distributed, so there "
    "is nothing to draw one from; train vae, iwae or gan"
}
NO_ENCODER = "a GAN has no encoder, and so no code of a given image; train vae"

SYSTEMS = {
    "autoencoder": System(
        name="autoencoder",
        about="squeeze images through a short code, beside PCA",
        model="Autoencoder",
        train=descend,
        judge=judge_autoencoder,
        pictures=("reconstructions.png", "loss.png"),
        defaults={"code": 16, "hidden": [256], "epochs": 20, "lr": 4e-3, **AUTOENCODER},
        cannot=NO_PRIOR,
    ),
    "stacked": System(
        name="stacked autoencoder",
        about="squeeze them through several layers, first trained one by one",
        model="StackedAutoencoder",
        train=descend,
        judge=judge_autoencoder,
        pictures=("reconstructions.png", "loss.png"),
        defaults={
            "code": 16,
            "hidden": [512, 256, 128],
            "pretrain": 3,
            "epochs": 20,
            "lr": 4e-3,
            **AUTOENCODER,
        },
        cannot=NO_PRIOR,
    ),
    "denoising": System(
        name="denoising autoencoder",
        about="take the noise off images, or the fog off a water deer",
        model="DenoisingAutoencoder",
        train=descend,
        judge=judge_denoising,
        pictures=("reconstructions.png", "loss.png"),
        defaults={
            "corruption": None,
            "level": None,
            "code": 128,
            "hidden": [512],
            "epochs": 20,
            "lr": 2e-3,
            **AUTOENCODER,
        },
        cannot=NO_PRIOR,
    ),
    "vae": System(
        name="VAE",
        about="learn a distribution of codes, and draw new images from it",
        model="VAE",
        train=descend,
        judge=judge_vae,
        pictures=("reconstructions.png", "samples.png", "loss.png"),
        defaults={"beta": 1.0, "epochs": 50, **VAE},
        cannot={},
    ),
    "iwae": System(
        name="IWAE",
        about="the VAE with a tighter bound, of several draws",
        model="IWAE",
        train=descend,
        judge=judge_vae,
        pictures=("reconstructions.png", "samples.png", "loss.png"),
        defaults={"k": 5, "epochs": 30, **VAE},
        cannot={},
    ),
    "gan": System(
        name="GAN",
        about="play a generator of images against a discriminator",
        model="GAN",
        train=play,
        judge=judge_gan,
        pictures=("samples.png", "game.png"),
        defaults={
            "noise": 32,
            "hidden": [256, 256],
            "steps": 8000,
            "objective": "non_saturating",
            "r1": 1.0,
            "r2": 0.0,
            "packing": 1,
            "discriminator_steps": 1,
            "ema": 0.99,
            "activation": "leaky_relu",
            "lr": 1e-3,
            **ALL,
        },
        cannot={"reconstruct": NO_ENCODER, "encode": NO_ENCODER},
    ),
}
