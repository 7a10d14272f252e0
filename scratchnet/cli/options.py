"""The options of the commands: how each is parsed, and its text in `--help`."""

import argparse
import math
from collections.abc import Mapping
from types import UnionType
from typing import Any, NoReturn

from scratchnet import __version__, backend, twins
from scratchnet.cli.reconstruct import IMAGES_SHOWN
from scratchnet.kernels import activations
from scratchnet.report.words import LANGUAGES
from scratchnet.runs.images import SYNTHETIC
from scratchnet.runs.model import CORRUPTIONS
from scratchnet.runs.systems import ENGINES, SYSTEMS

LARGEST = 10**9  # the largest whole number that an option accepts


def positive(text: str) -> int:
    """Read a positive whole number."""
    return _whole(text, 1, LARGEST)


def natural(text: str) -> int:
    """Read 0, 1, 2, ..."""
    return _whole(text, 0, LARGEST)


def seed(text: str) -> int:
    """Read a seed: a whole number from 0 to 2**64 - 1."""
    return _whole(text, 0, 2**64 - 1)


def _whole(text: str, least: int, most: int) -> int:
    """Read a whole number from `least` to `most`."""
    if len(text) > 100:  # far too large, and Python refuses to read it
        raise argparse.ArgumentTypeError(f"a number of {len(text)} digits is too large")
    n = int(text)
    if n < least:
        raise argparse.ArgumentTypeError(
            f"{n} is {'not positive' if least else 'negative'}"
        )
    if n > most:
        raise argparse.ArgumentTypeError(f"{n} is too large; {most} at most")
    return n


def name(text: str) -> str:
    """Read the name of a file or folder."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; '.' is the current folder")
    if "\0" in text:
        raise argparse.ArgumentTypeError("the name has a zero byte")
    return text


DATA = (
    "the images: 'drawn' digits, 'deer' scenes, a folder with MNIST's files, or "
    "'mnist' to download them"
)
# The options of `train`. `SYSTEMS` lists the options of each system, with defaults.
OPTIONS: dict[str, dict[str, Any]] = {
    "data": {"type": name, "help": DATA},
    "examples": {
        "type": positive,
        "help": "number of training images (default: "
        + ", ".join(f"{n} {name}" for name, (n, _) in SYNTHETIC.items())
        + ", all of MNIST)",
    },
    "epochs": {"type": positive, "help": "passes over the training images"},
    "steps": {"type": positive, "help": "steps of the generator"},
    "batch_size": {"type": positive, "help": "images per step"},
    "lr": {
        "type": float,
        "help": "Adam's learning rate: constant for half of the steps, then falls to "
        "zero",
    },
    "seed": {"type": seed, "help": "random seed"},
    "engine": {
        "choices": ENGINES,
        "help": "gradients derived by hand, or computed by the engine",
    },
    "code": {"type": positive, "help": "size of the code"},
    "hidden": {
        "type": positive,
        "nargs": "*",
        "help": "widths of the hidden layers; the second network mirrors the first",
    },
    "activation": {
        "choices": activations.ACTIVATIONS,
        "help": "activation of the hidden layers",
    },
    "output": {
        "choices": ["sigmoid", "linear"],
        "help": "activation of the decoder's output",
    },
    "loss": {"choices": ["squared", "cross_entropy"], "help": "reconstruction loss"},
    "pretrain": {
        "type": natural,
        "metavar": "EPOCHS",
        "help": "epochs of pretraining for each layer; 0: train end to end only",
    },
    "corruption": {
        "choices": list(CORRUPTIONS),
        "help": "the corruption to remove (default: fog for deer, else gaussian)",
    },
    "level": {
        "type": float,
        "help": "strength of the corruption: sigma, fraction of the pixels, or density "
        "of the fog per metre (default: "
        + ", ".join(f"{level} {name}" for name, (_, level) in CORRUPTIONS.items())
        + ")",
    },
    "beta": {"type": float, "help": "weight of the KL divergence"},
    "decoder": {"choices": ["bernoulli", "gaussian"], "help": "p(x | z)"},
    "k": {"type": positive, "help": "draws of z in the bound"},
    "noise": {"type": positive, "help": "size of the generator's noise z"},
    "objective": {
        "choices": twins.OBJECTIVES,
        "help": "the generator's loss",
    },
    "r1": {"type": float, "help": "weight of the gradient penalty on real images"},
    "r2": {
        "type": float,
        "help": "weight of the gradient penalty on generated images",
    },
    "packing": {
        "type": positive,
        "help": "images that the discriminator judges together",
    },
    "discriminator_steps": {
        "type": positive,
        "help": "steps of the discriminator for each step of the generator",
    },
    "ema": {
        "type": float,
        "help": "decay of the moving average of the generator's weights; 0: no average",
    },
}


def add_option(
    to: argparse.ArgumentParser,
    name: str,
    default: Any = None,
    given_only: bool = False,
) -> None:
    """Add one of `OPTIONS`, with its default in the help.

    With `given_only`, the parsed arguments contain it only if the user gave it.
    """
    about = dict(OPTIONS[name])
    if default is not None:
        shown = " ".join(map(str, default)) if name == "hidden" else default
        about["help"] = f"{about.get('help', '')} (default: {shown})".lstrip()
    value = argparse.SUPPRESS if given_only else default
    to.add_argument(f"--{name.replace('_', '-')}", default=value, **about)


def add_backend(to: argparse.ArgumentParser) -> None:
    """Add the option for the backend."""
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
    _add_report(commands)
    _add_gradcheck(commands)
    return top


def _add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `train`, with a subcommand for each system."""
    trainer = commands.add_parser(
        "train", help="train a system and draw what it learned"
    )
    systems = trainer.add_subparsers(dest="system", required=True)
    for system_name, system in SYSTEMS.items():
        own = systems.add_parser(
            system_name, help=system.about, description=system.about
        )
        for option, default in system.defaults.items():
            add_option(own, option, default, given_only=True)
        add_backend(own)
        if system.length == "epochs":  # `fit` takes several processes
            own.add_argument(
                "--distributed", action="store_true",
                help="train with all processes of mpirun -n N (needs pip install "
                "'scratchnet[mpi]')",
            )  # fmt: skip
        own.add_argument(
            "--out", type=name, help=f"output folder (default: runs/{system_name})"
        )
        own.add_argument(
            "--resume", type=name, metavar="RUN",
            help="resume the run in this folder, with its saved options; a finished "
            f"run needs a larger --{system.length}",
        )  # fmt: skip
        own.add_argument(
            "--overwrite", action="store_true",
            help="replace the run in the folder: its files are removed",
        )  # fmt: skip
        own.add_argument(
            "--save-every", type=float, default=30.0, metavar="SECONDS",
            help="seconds between checkpoints for --resume (default: 30)",
        )  # fmt: skip


def _add_uses(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands that use a trained run."""
    from_run = argparse.ArgumentParser(add_help=False)
    from_run.add_argument(
        "run", type=name, help="the folder of a run, or its file of weights"
    )
    from_run.add_argument(
        "--out", type=name, help="output file (default: in the run's folder)"
    )
    add_option(from_run, "engine", "byhand")
    add_backend(from_run)
    of_images = argparse.ArgumentParser(add_help=False, parents=[from_run])
    of_images.add_argument(
        "--data", type=name, help=f"{DATA} (default: as in training)"
    )
    of_images.add_argument(
        "--seed", type=seed, help="random seed of the images (default: the run's)"
    )
    own = commands.add_parser(
        "sample", parents=[from_run], help="draw new images with a trained VAE or GAN"
    )
    own.add_argument(
        "--n", type=positive, default=64, help="number of images (default: 64)"
    )
    add_option(own, "seed", 0)
    own = commands.add_parser(
        "reconstruct", parents=[of_images], help="reconstruct or clean images"
    )
    own.add_argument(
        "--n", type=positive, default=IMAGES_SHOWN,
        help=f"number of images to show (default: {IMAGES_SHOWN})",
    )  # fmt: skip
    commands.add_parser(
        "encode", parents=[of_images], help="write the codes of images to .csv or .npz"
    )


def _add_report(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the command that writes the page of a run."""
    own = commands.add_parser(
        "report", help="write the page of a run: one HTML file to open or to mail"
    )
    own.add_argument("run", type=name, help="the folder of a run")
    own.add_argument(
        "--out", type=name, help="output file (default: report.html in the folder)"
    )
    own.add_argument(
        "--lang", choices=LANGUAGES, default="en",
        help="the language that the page shows first (default: en)",
    )  # fmt: skip


def _add_gradcheck(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the command that checks gradients."""
    own = commands.add_parser(
        "gradcheck", help="check gradients of your own, in CI without pytest",
        description="Check gradients. The exit status is 0 if all are right, 1 if one "
        "is wrong, 2 if one could not be checked.",
    )  # fmt: skip
    own.add_argument(
        "targets", nargs="+", metavar="package.module:function",
        help="a function without arguments that returns (f, inputs), or a dict of "
        "arguments of scratchnet.testing.gradcheck",
    )  # fmt: skip
    own.add_argument(
        "--order", type=int, choices=(1, 2),
        help="2: check second derivatives too (default: 1)",
    )  # fmt: skip
    own.add_argument(
        "--dtype", choices=("float32", "float16"),
        help="call f in this precision only, if it refuses float64",
    )  # fmt: skip
    own.add_argument(
        "--seconds", type=float, help="time limit for each check (default: none)"
    )
    own.add_argument("--seed", type=seed, help="random seed of the check (default: 0)")


class _Refusing(argparse.ArgumentParser):
    """A parser of saved options: it raises ValueError and does not print the usage."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _check_kind(name: str, value: object, default: object) -> None:
    """Raise ValueError unless a saved value has the type of the option's default."""
    kinds: dict[type, type | UnionType] = {
        float: int | float,
        type(None): int | float | str | None,  # an option without a default
    }
    right = isinstance(value, kinds.get(type(default), type(default)))
    infinite = isinstance(value, float) and not math.isfinite(value)
    if not right or isinstance(value, bool) or infinite:
        raise ValueError(f"{name} is {value!r}"[:60])


def checked(system: str, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the saved options of a run, parsed as on the command line.

    Raises:
        ValueError: an option is missing or unknown, or its value is invalid.

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
