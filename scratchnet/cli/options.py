"""The command line: python -m scratchnet train vae, ... sample, ... encode."""

import argparse
import contextlib
import io
import math
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from scratchnet import __version__, backend, checks
from scratchnet.cli.train import (
    CORRUPTIONS,
    DRAWN,
    SHOWN,
    SYSTEMS,
    descend,
    encode,
    length_of,
    reconstruct,
    sample,
    say,
    train,
)
from scratchnet.kernels import activations
from scratchnet.training.distributed import GroupError

LARGEST = 10**9  # of the whole numbers that options take


def positive(text: str) -> int:
    """Read a positive whole number."""
    return _whole(text, 1, LARGEST)


def natural(text: str) -> int:
    """Read 0, 1, 2, ..."""
    return _whole(text, 0, LARGEST)


def seed(text: str) -> int:
    """Read a seed: a whole number of 64 bits."""
    return _whole(text, 0, 2**64 - 1)


def _whole(text: str, least: int, most: int) -> int:
    if len(text) > 100:  # far too large, and Python refuses to read it
        raise argparse.ArgumentTypeError(f"a number of {len(text)} digits is too large")
    n = int(text)
    if n < least:
        raise argparse.ArgumentTypeError(
            f"{n} is {'not positive' if least else 'negative'}"
        )
    if n > most:
        raise argparse.ArgumentTypeError(f"{n}: {most} at most")
    return n


def name(text: str) -> str:
    """Read the name of a file or folder."""
    if not text:
        raise argparse.ArgumentTypeError(
            "an empty name; '.' is the folder that you are in"
        )
    if "\0" in text:
        raise argparse.ArgumentTypeError("a name with a zero byte")
    return text


DATA = "'drawn' digits, 'deer' scenes, a folder of MNIST's files, or 'mnist': download"
# The options of `train`, for any system that has them. Defaults are in `SYSTEMS`.
OPTIONS: dict[str, dict[str, Any]] = {
    "data": {"type": name, "help": DATA},
    "examples": {
        "type": positive,
        "help": "how many images to train on (default: "
        + ", ".join(f"{n} {name}" for name, (n, _) in DRAWN.items())
        + ", all of MNIST's)",
    },
    "epochs": {"type": positive, "help": "how often each image is seen"},
    "steps": {"type": positive, "help": "of the generator"},
    "batch_size": {"type": positive, "help": "images in a step"},
    "lr": {
        "type": float,
        "help": "Adam's learning rate for half of the steps; then it falls to zero",
    },
    "seed": {"type": seed, "help": "of everything that is random"},
    "engine": {
        "choices": ["byhand", "autograd"],
        "help": "gradients derived on paper, or by the engine",
    },
    "code": {"type": positive, "help": "numbers in the code"},
    "hidden": {
        "type": positive,
        "nargs": "*",
        "help": "widths of the hidden layers; the second network mirrors the first",
    },
    "activation": {"choices": activations.ACTIVATIONS, "help": "of hidden layers"},
    "output": {"choices": ["sigmoid", "linear"], "help": "of the decoder"},
    "loss": {"choices": ["squared", "cross_entropy"]},
    "pretrain": {
        "type": natural,
        "metavar": "EPOCHS",
        "help": "for each layer by itself; 0 trains end to end",
    },
    "corruption": {
        "choices": list(CORRUPTIONS),
        "help": "what to clean (default: fog for deer, else gaussian)",
    },
    "level": {
        "type": float,
        "help": "of the corruption: sigma, part of the pixels, or the fog's density by "
        "the metre (default: "
        + ", ".join(f"{level} {name}" for name, (_, level) in CORRUPTIONS.items())
        + ")",
    },
    "beta": {"type": float, "help": "weight of the KL divergence"},
    "decoder": {"choices": ["bernoulli", "gaussian"], "help": "p(x | z)"},
    "k": {"type": positive, "help": "draws of z in the bound"},
    "noise": {"type": positive, "help": "numbers that an image is generated from"},
    "objective": {
        "choices": checks.OBJECTIVES,
        "help": "what the generator goes down",
    },
    "r1": {"type": float, "help": "weight of the gradient penalty on real images"},
    "r2": {"type": float, "help": "the same on generated ones"},
    "packing": {"type": positive, "help": "images that the discriminator sees at once"},
    "discriminator_steps": {
        "type": positive,
        "help": "of the discriminator, for each of the generator",
    },
    "ema": {"type": float, "help": "decay of the generator's average; 0: none"},
}


def add_option(
    to: argparse.ArgumentParser,
    name: str,
    default: Any = None,
    given_only: bool = False,
) -> None:
    """Add one of `OPTIONS`, and say what its default is.

    With `given_only`, what is parsed has it only if it was given.
    """
    about = dict(OPTIONS[name])
    if default is not None:
        shown = " ".join(map(str, default)) if name == "hidden" else default
        about["help"] = f"{about.get('help', '')} (default: {shown})".lstrip()
    value = argparse.SUPPRESS if given_only else default
    to.add_argument(f"--{name.replace('_', '-')}", default=value, **about)


def add_backend(to: argparse.ArgumentParser) -> None:
    """Add the option for where arrays are."""
    to.add_argument(
        "--backend",
        choices=backend.BACKENDS,
        help="where to compute: numpy, or cupy on a GPU (default: SCRATCHNET_BACKEND, "
        "else numpy)",
    )


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m scratchnet",
        description="Deep learning from scratch in NumPy.",
    )
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", required=True)
    _add_train(commands)
    _add_uses(commands)
    return top


def _add_train(commands: Any) -> None:
    """Add `train`, and what it trains."""
    trainer = commands.add_parser(
        "train", help="train a system and draw what it learned"
    )
    trainer.set_defaults(do=train)
    systems = trainer.add_subparsers(dest="system", required=True)
    for system_name, system in SYSTEMS.items():
        own = systems.add_parser(
            system_name, help=system.about, description=system.about
        )
        for option, default in system.defaults.items():
            add_option(own, option, default, given_only=True)
        add_backend(own)
        if system.train is descend:
            own.add_argument(
                "--distributed", action="store_true",
                help="train with all processes of mpirun -n N (pip install "
                "'scratchnet[mpi]')",
            )  # fmt: skip
        own.add_argument(
            "--out", type=name, help=f"folder to write (default: runs/{system_name})"
        )
        own.add_argument(
            "--resume", type=name, metavar="RUN",
            help="resume the run in that folder, with the options that it had; a "
            f"finished one needs more --{length_of(system_name)}",
        )  # fmt: skip
        own.add_argument(
            "--overwrite", action="store_true",
            help="replace the run that is in the folder: its files are removed",
        )  # fmt: skip
        own.set_defaults(checked=partial(checked, system_name))
        own.add_argument(
            "--save-every", type=float, default=30.0, metavar="SECONDS",
            help="how often to save what --resume goes on from (default: 30)",
        )  # fmt: skip


def _add_uses(commands: Any) -> None:
    """Add the commands that start from a run."""
    from_run = argparse.ArgumentParser(add_help=False)
    from_run.add_argument(
        "run", type=name, help="the folder that `train` wrote, or its weights"
    )
    from_run.add_argument("--out", type=name, help="the file (default: in that folder)")
    add_option(from_run, "engine", "byhand")
    add_backend(from_run)
    of_images = argparse.ArgumentParser(add_help=False, parents=[from_run])
    of_images.add_argument(
        "--data", type=name, help=f"{DATA} (default: as in training)"
    )
    of_images.add_argument(
        "--seed", type=seed, help="of the images (default: the run's)"
    )
    own = commands.add_parser(
        "sample", parents=[from_run], help="draw new images with a trained VAE or GAN"
    )
    own.set_defaults(do=sample)
    own.add_argument("--n", type=positive, default=64, help="how many (default: 64)")
    add_option(own, "seed", 0)
    own = commands.add_parser(
        "reconstruct", parents=[of_images], help="reconstruct, or clean, images"
    )
    own.set_defaults(do=reconstruct)
    own.add_argument("--n", type=positive, default=SHOWN, help="how many to show")
    own = commands.add_parser(
        "encode", parents=[of_images], help="write the codes of images: .csv or .npz"
    )
    own.set_defaults(do=encode)


class _Refusing(argparse.ArgumentParser):
    """A parser of options that were saved: what it refuses is no wrong usage."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _check_kind(name: str, value: Any, default: Any) -> None:
    """Raise ValueError unless a saved value is of the kind of an option's default."""
    kinds: dict[type, Any] = {
        float: int | float,
        type(None): int | float | str | None,  # an option that may be left out
    }
    right = isinstance(value, kinds.get(type(default), type(default)))
    infinite = isinstance(value, float) and not math.isfinite(value)
    if not right or isinstance(value, bool) or infinite:
        raise ValueError(f"{name} is {value!r}"[:60])


def checked(system: str, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the options of a run as the command line would read them.

    Raises:
        ValueError: there are too few or too many, or one has a value that is refused.

    """
    defaults = SYSTEMS[system].defaults
    own = _Refusing(add_help=False, allow_abbrev=False)
    arguments: list[str] = []
    for name, default in defaults.items():
        add_option(own, name, default)
        value = options.get(name)
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, list):
            arguments += [flag, *map(str, value)]
        elif value is not None:
            arguments.append(f"{flag}={value}")
    try:
        if options.keys() != defaults.keys():
            names = ", ".join(sorted(options.keys() ^ defaults.keys()))
            raise ValueError(f"missing or unknown: {names[:60]}")
        for name, default in defaults.items():
            _check_kind(name, options[name], default)
        return vars(own.parse_args(arguments))
    except ValueError as error:
        raise ValueError(
            f"{where}: the options of its run are damaged ({error})"
        ) from error


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    say(f"scratchnet: {message}", sys.stderr)


@contextlib.contextmanager
def _usable_streams() -> Iterator[None]:
    """Have what is printed come out, or go nowhere, and never be an error.

    What a console cannot write is replaced. A stream that is not there (pythonw, cron,
    `2>&-`) is one that leads nowhere: else the next file to be opened would be it.
    """
    if sys.stdout is None or sys.stderr is None:
        for descriptor in (0, 1, 2):
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (
            nowhere if stream is None else stream for stream in before
        )
        for stream in before:
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def from_console(command: Callable[[], int]) -> int:
    """Run a command whatever its output is written to; return the exit status.

    If the reader of the output has gone (`| head -1`), that is 141, SIGPIPE's.
    """
    with _usable_streams():
        try:
            try:
                return command()
            finally:
                sys.stdout.flush()
        except OSError as error:
            # Or Python would try once more to write what is left.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                return 128 + getattr(signal, "SIGPIPE", 13)
            say(f"scratchnet: the output cannot be written: {error}", sys.stderr)
            return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return from_console(lambda: _run(parser().parse_args(argv)))


@contextlib.contextmanager
def _few_threads(args: argparse.Namespace) -> Iterator[None]:
    """Multiply matrices with one thread, unless the user or `train` chooses more.

    Two threads that wait for each other on small matrices are many times slower than
    one, if another program holds a core. The processes of a group keep theirs.
    """
    before = backend.threads()
    if not getattr(args, "distributed", False):
        backend.use_threads(backend.threads_for(0))
    try:
        yield
    finally:
        if before is not None:
            backend.use_threads(before)


def _run(args: argparse.Namespace) -> int:
    """Do what the arguments say; return the exit status."""
    try:
        with warnings.catch_warnings(), _few_threads(args):
            warnings.showwarning = _show_warning
            if getattr(args, "backend", None):
                backend.use(args.backend)
            return args.do(args) or 0
    except BrokenPipeError:
        raise
    except (
        ValueError, TypeError, OSError, OverflowError, FloatingPointError, MemoryError,
        backend.BackendError, GroupError,
    ) as error:  # fmt: skip
        print(f"scratchnet: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("scratchnet: interrupted", file=sys.stderr)
        return 130
