"""Printing for commands: output is written or dropped, and never raises an error."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TextIO


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line; a closed pipe does not stop the training."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=file, flush=True)


@contextlib.contextmanager
def _usable_streams() -> Iterator[None]:
    """Make stdout and stderr writable, whatever they are connected to.

    Characters that the console cannot encode are replaced. A missing stream (pythonw,
    cron, `2>&-`) is sent to os.devnull: otherwise the next file to be opened would get
    its descriptor.
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
    """Run a command, wherever its output goes; return the exit status.

    If the reader of the output has closed it (`| head -1`), the status is 141, as for
    SIGPIPE.
    """
    with _usable_streams():
        try:
            try:
                return command()
            finally:
                sys.stdout.flush()
        except OSError as error:
            # Otherwise Python would try again to write the rest at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                return 128 + getattr(signal, "SIGPIPE", 13)
            say(f"scratchnet: the output cannot be written: {error}", sys.stderr)
            return 1
