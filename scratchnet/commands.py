"""What the command line does: train a system, then sample, reconstruct or encode.

`SYSTEMS` has a row for each system of the lecture: its model, its options with their
defaults, how it is trained, and how it is shown. `train` writes a run, a folder with
the weights and the facts that rebuild the model, the history and pictures. The other
commands start from a run.
"""

import argparse
import contextlib
import hashlib
import json
import math
import shutil
import signal
import statistics
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratchnet import (
    __version__,
    backend,
    byhand,
    checkpoint,
    kernels,
    models,
    nn,
    optim,
    plots,
)
from scratchnet.checkpoint import FORMAT, Checkpoints, Save, State, Stopped, adding
from scratchnet.data.corruption import Fog, Gaussian, Masking, SaltAndPepper
from scratchnet.data.deer import draw_scenes
from scratchnet.data.digits import draw_digits
from scratchnet.data.idx import download_mnist, load_mnist
from scratchnet.distributed import Group
from scratchnet.metrics import PCA, frechet_distance, psnr, reconstruction_error
from scratchnet.training import fit, fit_gan, pretrain

WEIGHTS = "weights.npz"
UNFINISHED = "checkpoints"  # the folder, in a run's, that is there until it is finished
DRAWN = {"drawn": (20_000, 2_000), "deer": (16_000, 1_000)}  # to train on; held out
JUDGED, DRAWS = 1000, 100  # images, and draws of z for each, of a VAE's log p(x)
FEATURES = 32  # principal components, in which generated images are compared
SHOWN, SHEET, PLANE = 10, 64, 1000  # images in a row, on a sheet; codes in the plane
SIDE = 21  # pictures along each axis of the plane of codes
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
    label: np.ndarray  # (n,) the digit; or whether there is a deer
    depth: np.ndarray | None = None  # (n, d), of scenes

    @property
    def ink(self) -> bool:
        """Whether 1 is ink on paper, and not light."""
        return self.depth is None

    def batch(self, model: Any) -> tuple[np.ndarray, ...]:
        """Return what the model is trained on: x, and the depth that fog needs."""
        if not hasattr(model, "corruption") or not model.corruption.foggy:
            return (self.x,)
        if self.depth is None:
            raise ValueError("fog: these images have no depth; --data deer has")
        return self.x, self.depth

    def mixed(self, n: int) -> np.ndarray:
        """Choose n rows of all labels: the first of each, then the second, ..."""
        turn = np.empty(len(self.label), int)
        for value in np.unique(self.label):
            mine = self.label == value
            turn[mine] = np.arange(mine.sum())
        return np.lexsort((self.label, turn))[:n]


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
            return Images(digits.x, digits.label)
        scenes = draw_scenes(n, rng)
        return Images(scenes.x, scenes.deer, scenes.x_depth)
    folder = download_mnist() if where == "mnist" else Path(where)
    mnist = load_mnist(folder, "test" if held_out else "train")
    if n is not None and n > len(mnist.x):
        raise ValueError(f"--examples {n}: {folder} has {len(mnist.x)}")
    return Images(mnist.x[:n], mnist.label[:n])


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
    kind = kernels.AdamUpdate if args.engine == "byhand" else optim.Adam
    return partial(kind, lr=kernels.hold_then_decay(args.lr, steps), **options)


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
        average: Any = kernels.EMA([gan.theta_g], args.ema)
    else:
        g, d = gan.generator.parameters(), gan.discriminator.parameters()
        optimizers = of_g(g), of_d(d)
        average = optim.EMA(g, args.ema)
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
        every=max(1, args.steps // 200),
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
    if not getattr(args, "distributed", False):
        return _train(args, None)
    with Group() as group:
        return _train(args, group)


def _train(args: argparse.Namespace, group: Group | None) -> int:
    first = group is None or group.rank == 0
    system = SYSTEMS[args.system]
    out = Path(args.resume or args.out)
    path = out / UNFINISHED / "run.json"
    found = begun(args, path) if args.resume and first else None
    found = group.from_first(found) if group else found
    options = found[0] if found else {}
    vars(args).update({**system.defaults, **options, **vars(args)})
    if first and not found and path.exists():
        raise ValueError(
            f"{out}: a run that was not finished is there; go on with it, --resume "
            f"{out}, or remove {out / UNFINISHED}"
        )
    streams = Streams.of(args.seed)
    images = load_images(args.data, args.examples, streams.train, held_out=False)
    held_out = load_images(args.data, None, streams.held_out, held_out=True)
    facts = facts_of(args, images.x)
    checkpoints = Checkpoints(path.parent, every=args.save_every, group=group)
    data = digest(images, held_out)
    if found and found[1] != data:
        raise ValueError(f"--resume {out}: {args.data} has other images than it had")
    resume = checkpoints.last() if found and first else None
    resume = group.from_first(resume) if group else resume
    about = {
        "format": FORMAT,
        "system": args.system,
        "options": {name: getattr(args, name) for name in system.defaults},
        "data": data,
    }
    save = adding(checkpoints, {}, command=about)
    job = Job(args, facts, images, held_out, streams, save, resume, group)
    if first and not found:
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_whole(path, json.dumps(about, indent=1).encode())
    with stopped_by_signals(checkpoints) as signals:
        try:
            model, record = system.train(job)
        except Stopped as stopped:
            if first:
                print(f"scratchnet: {stopped}; go on with", file=sys.stderr)
                command = f"python -m scratchnet train {args.system} --resume {out}"
                print(f"  {command}", file=sys.stderr)
            # It may have been another process that got the signal.
            return 128 + (signals[0] if signals else signal.SIGTERM)
    if not first:
        return 0
    checkpoint.save(
        out / WEIGHTS,
        model.state_dict(),
        format=FORMAT,
        system=args.system,
        model=facts,
        options={name: getattr(args, name) for name in system.defaults},
        versions={"scratchnet": __version__, "numpy": np.__version__},
    )
    (out / "history.json").write_text(json.dumps(record, indent=1) + "\n")
    figures, result = system.judge(job, model, record)
    for name, figure in figures.items():
        plots.save(figure, out / name)
    shutil.rmtree(path.parent)
    print(f"pictures in {out}:", ", ".join(figures))
    print(result)
    return 0


def begun(args: argparse.Namespace, path: Path) -> tuple[dict[str, Any], str]:
    """Read what an unfinished run is.

    Returns:
        Its options, and the digest of its images.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: it is of another system, or of other options than `args` names.

    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"--resume {args.resume}: no unfinished run is there"
        ) from None
    try:
        about = json.loads(text)
        saved = dict(about["options"])
        system, data = about["system"], about["data"]
        later = about["format"] > FORMAT
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error})") from error
    if later:
        raise ValueError(f"{path}: written by a later scratchnet than {__version__}")
    wrong = [] if system == args.system else [f"it trains {system}, not {args.system}"]
    if not wrong:
        given = [name for name in SYSTEMS[args.system].defaults if hasattr(args, name)]
        wrong = [
            f"--{name.replace('_', '-')} was {saved.get(name)!r}, not {value!r}"
            for name, value in ((name, getattr(args, name)) for name in given)
            if value != saved.get(name)
        ]
    if wrong:
        raise ValueError(f"--resume {args.resume}: {'; '.join(wrong)}")
    return saved, data


def digest(*images: Images) -> str:
    """Return what tells these images from any others."""
    found = hashlib.sha256()
    for one in images:
        for a in one:
            if a is not None:
                found.update(f"{a.dtype} {a.shape}".encode())
                found.update(np.ascontiguousarray(a).data)
    return found.hexdigest()


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


def judge_autoencoder(job: Job, model: Any, record: dict[str, Any]) -> Judged:
    """Compare an autoencoder with the best linear one, PCA."""
    args, images = job.args, job.held_out
    x, k, name = images.x, args.code, SYSTEMS[args.system].name
    pca = PCA(k).fit(job.train.x)
    error = reconstruction_error(x, model.reconstruct(x))
    pca_error = reconstruction_error(x, pca.reconstruct(x))
    rows, _ = reconstructions(args.system, model, images, SHOWN, job.streams.judge)
    rows["PCA"] = pca.reconstruct(rows["original"])
    references = {f"PCA, {k} numbers": pca_error} if args.loss == "squared" else {}
    figures = {
        "reconstructions.png": plots.picture_rows(rows, ink=images.ink),
        "loss.png": loss_curve(record, LOSSES[args.loss], references),
    }
    figures |= codes_figure(images, {name: model.encode(x), "PCA": pca.encode(x)})
    return figures, (
        f"squared error per held-out image, {k} numbers each: "
        f"{name} {error:.2f}, PCA {pca_error:.2f}, ratio {error / pca_error:.2f}"
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
        pictures = model.decode(codes.astype(model.dtype))
        figures["plane.png"] = plots.code_plane(pictures, z, ink=images.ink)
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
    """Return n images and what becomes of them, row by row, and how good all are."""
    x = images.x
    chosen = images.mixed(n)
    rows = {"original": x[chosen]}
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
        rows[how] = corrupted[chosen]
        result = f"PSNR of {len(x)} images, dB: {how} {before:.2f}, {name} {after:.2f}"
    rows[name] = made[chosen]
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
    return plots.sheets(sheets, ink=images.ink)


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
    return {"codes.png": plots.planes(planes, images.label[:PLANE], *axes)}


# --- From a run ---------------------------------------------------------------------


class Run(NamedTuple):
    """What `train` wrote, read back."""

    folder: Path
    system: str
    model: Any
    data: str  # what it was trained on
    seed: int

    def images(self, args: argparse.Namespace) -> tuple[Images, Streams]:
        """Return the images that were held out, or those that `args` names."""
        where = args.data or self.data
        streams = Streams.of(self.seed if args.seed is None else args.seed)
        return load_images(where, None, streams.held_out, held_out=True), streams


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
    if not isinstance(facts, dict) or not isinstance(facts.get("format"), int):
        raise ValueError(f"{path}: these weights were not written by `train`")
    if facts["format"] > FORMAT:
        raise ValueError(
            f"{path}: written by a later scratchnet than this, {__version__}; "
            "install that one"
        )
    name = facts.get("system")
    if name not in SYSTEMS:
        raise ValueError(f"{path}: of {name!r}, not one of {', '.join(SYSTEMS)}")
    if args.command in SYSTEMS[name].cannot:
        raise ValueError(f"{path}: {SYSTEMS[name].cannot[args.command]}")
    try:
        rng = np.random.default_rng(0)  # of weights that are replaced at once
        model = build(name, facts["model"], args.engine, rng)
        model.load_state_dict(weights)
        options = facts["options"]
        return Run(path.parent, name, model, options["data"], options["seed"])
    except (LookupError, TypeError, ValueError) as error:
        reason = "; ".join(str(error).splitlines())
        raise ValueError(f"{path}: damaged ({reason})") from error


def sample(args: argparse.Namespace) -> None:
    """Draw new images from a run, and write a sheet of them."""
    run = load_run(args)
    x = draw(run.model, args.n, np.random.default_rng(args.seed))
    figure = plots.sheets({"": x}, ink=run.data != "deer")
    path = plots.save(figure, args.out or run.folder / "sample.png")
    print(f"{path}: {len(x)} samples of the {SYSTEMS[run.system].name}")


def reconstruct(args: argparse.Namespace) -> None:
    """Reconstruct images with a run, or clean them; write some of them."""
    run = load_run(args)
    images, streams = run.images(args)
    rows, result = reconstructions(run.system, run.model, images, args.n, streams.judge)
    figure = plots.picture_rows(rows, ink=images.ink)
    print(plots.save(figure, args.out or run.folder / "reconstruct.png"))
    print(result)


def encode(args: argparse.Namespace) -> None:
    """Write the codes of images, of clean ones, and their labels."""
    run = load_run(args)
    path = Path(args.out or run.folder / "codes.csv")
    if path.suffix not in (".csv", ".npz"):
        raise ValueError(f"{path}: .csv or .npz expected at the end of the name")
    images, _ = run.images(args)
    x, label = images.x, images.label.astype(int)
    if run.system == "denoising":
        x = run.model.corruption.look(x)
    codes = run.model.encode(x)
    if path.suffix == ".npz":
        np.savez(path, codes=codes, label=label)
    else:
        columns = [f"z{i}" for i in range(codes.shape[1])]
        np.savetxt(
            path,
            np.column_stack([label, codes]),
            fmt=["%d"] + ["%.9g"] * len(columns),
            delimiter=",",
            header=",".join(["label", *columns]),
            comments="",
        )
    print(f"{path}: {len(codes)} codes of {codes.shape[1]} numbers, and the labels")


# --- The systems --------------------------------------------------------------------


class System(NamedTuple):
    """A system of the lecture, as the command line knows it."""

    name: str  # in pictures
    about: str
    model: str  # the class, in byhand and in models
    train: Callable[[Job], tuple[Any, dict[str, Any]]]
    judge: Callable[[Job, Any, dict[str, Any]], Judged]
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
        defaults={"code": 16, "hidden": [256], "epochs": 20, "lr": 4e-3, **AUTOENCODER},
        cannot=NO_PRIOR,
    ),
    "stacked": System(
        name="stacked autoencoder",
        about="squeeze them through several layers, first trained one by one",
        model="StackedAutoencoder",
        train=descend,
        judge=judge_autoencoder,
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
        defaults={"beta": 1.0, "epochs": 50, **VAE},
        cannot={},
    ),
    "iwae": System(
        name="IWAE",
        about="the VAE with a tighter bound, of several draws",
        model="IWAE",
        train=descend,
        judge=judge_vae,
        defaults={"k": 5, "epochs": 30, **VAE},
        cannot={},
    ),
    "gan": System(
        name="GAN",
        about="play a generator of images against a discriminator",
        model="GAN",
        train=play,
        judge=judge_gan,
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
