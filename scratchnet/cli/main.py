"""Start a command: python -m scratchnet train vae, ... sample, ... gradcheck."""

import argparse
import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence

from scratchnet import backend
from scratchnet.cli.console import from_console, say
from scratchnet.cli.encode import encode
from scratchnet.cli.gradcheck import gradcheck
from scratchnet.cli.options import parser
from scratchnet.cli.reconstruct import reconstruct
from scratchnet.cli.report import report
from scratchnet.cli.sample import sample
from scratchnet.cli.train import train
from scratchnet.training.distributed import GroupError

# Commands by name; each returns the exit status, or None for 0.
COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "train": train,
    "sample": sample,
    "reconstruct": reconstruct,
    "encode": encode,
    "gradcheck": gradcheck,
    "report": report,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return from_console(lambda: _run(parser().parse_args(argv)))


@contextlib.contextmanager
def _few_threads(args: argparse.Namespace) -> Iterator[None]:
    """Multiply matrices with one thread, unless the user or `train` chooses more.

    On small matrices, two threads wait for each other: if another program uses a core,
    they are many times slower than one. The processes of a group keep their number.
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
    """Run the command in the arguments; return the exit status."""
    try:
        with warnings.catch_warnings(), _few_threads(args):
            warnings.showwarning = _show_warning
            if getattr(args, "backend", None):
                backend.use(args.backend)
            return COMMANDS[args.command](args) or 0
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


def _show_warning(message: Warning | str, *where: object, **more: object) -> None:
    say(f"scratchnet: {message}", sys.stderr)
