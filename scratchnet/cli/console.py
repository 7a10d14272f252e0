"""What commands print: it comes out, or goes nowhere, and is never an error."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TextIO


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line during a training, which does not end if nobody reads it."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=file, flush=True)


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
