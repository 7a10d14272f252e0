"""The lock of a run's folder: one process at a time trains there."""

import contextlib
import os
import platform
import stat
import sys
import time
import warnings
from pathlib import Path
from typing import BinaryIO

from scratchnet.runs.identity import RunError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = ".scratchnet.lock"


def take(folder: Path) -> BinaryIO:
    """Take the lock of a folder; return the file that holds it."""
    path = folder / LOCK
    while True:
        file = _opened(path)
        if not _lock(file):
            file.seek(0)
            holder = file.read(200).decode("utf-8", "replace").strip()
            file.close()
            raise RunError(
                f"{folder}: {holder or 'another process'} is training here; wait until "
                "it ends, or choose another --out"
            )
        with contextlib.suppress(FileNotFoundError):
            # In between, another process may have ended and removed the file.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                break
        file.close()
    file.seek(0)
    file.truncate()
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    file.write(f"process {os.getpid()} on {platform.node()}, since {since},".encode())
    file.flush()
    return file


def _opened(path: Path) -> BinaryIO:
    """Open the file of a lock, and make it if it is missing."""
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RunError(f"{path}: this is not a plain file; remove it")
    return open(descriptor, "r+b")


def _lock(file: BinaryIO) -> bool:
    """Lock a file for this process only; return whether that succeeded.

    On a system without locks (some network drives) it warns and returns True.
    """
    try:
        if sys.platform == "win32":
            file.seek(2**30)  # far behind the text, so that others can read it
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        warnings.warn(
            f"{file.name}: cannot be locked ({error.strerror}); make sure that no "
            "other process trains in this folder",
            stacklevel=2,
        )
    return True
