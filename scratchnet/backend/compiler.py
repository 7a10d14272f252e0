"""Compiling C for this machine's processor, once; the results are kept in a folder.

The folder is the user's own: `scratchnet` in $XDG_CACHE_HOME or ~/.cache. In it, each
compiled text has a folder of its own, named by a hash of the text, of the command and
of the processor. It is made elsewhere and then moved, so that it is there as a whole or
not at all, also when several processes make it at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from scratchnet.backend.library import BackendError

_ARM = platform.machine() in ("aarch64", "arm64")
# Square roots and branches become vectors, and NaN and infinities stay right. Products
# are added without rounding (-ffp-contract) by all compilers: series.h needs it. Not
# -ffast-math: a file linked with it makes the whole thread flush denormals to zero.
FLAGS = (
    "-std=gnu11", "-O3",
    "-mcpu=native" if _ARM else "-march=native",  # clang has no -march=native for ARM
    "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
    "-fPIC", "-shared", "-pthread",
)  # fmt: skip

NATIVE = Path(__file__).parent / "native"


def load(text: str) -> ctypes.CDLL:
    """Return the library compiled from a text in C, compiling it if need be.

    Raises:
        BackendError: there is no C compiler, or it fails, or no file can be written.

    """
    command = compiler()
    name = _digest(
        *command, *FLAGS, _identity(command[0]), _processor(), *_headers(), text
    )
    try:
        cache = _cache()
        return _kept(cache, name) or _made(cache, name, command, text)
    except OSError as error:
        warnings.warn(
            f"backend 'c': no cache for compiled code ({error}); it is compiled again "
            "by each process",
            RuntimeWarning,
            stacklevel=2,
        )
    try:
        with tempfile.TemporaryDirectory() as folder:
            return ctypes.CDLL(str(_compile(Path(folder), command, text)))
    except OSError as error:
        raise BackendError(f"backend 'c': no folder to compile in ({error})") from error


@functools.cache
def compiler() -> tuple[str, ...]:
    """Return the command of the C compiler: $CC, cc, gcc, clang, or pip's ziglang.

    Raises:
        BackendError: there is none.

    """
    if given := os.environ.get("CC"):
        command = shlex.split(given)
        if not command or shutil.which(command[0]) is None:
            raise BackendError(
                f"backend 'c': the compiler $CC, {given!r}, is not there"
            )
        return tuple(command)
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return (found,)
    if importlib.util.find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", "cc")
    raise BackendError(
        "backend 'c': no C compiler (cc, gcc, clang); install one, for instance by "
        "pip install 'scratchnet[c]', or set CC"
    )


# --- The folder ---------------------------------------------------------------------


def _cache() -> Path:
    """Return the folder for compiled code; it is made, for this user alone.

    Raises:
        OSError: it cannot be made, or is not this user's alone.

    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    base.mkdir(parents=True, exist_ok=True)
    cache = base / "scratchnet"
    with contextlib.suppress(FileExistsError):
        cache.mkdir(mode=0o700)
    found = cache.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise OSError(f"{cache} is not a folder")
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise OSError(f"{cache}: others can write to it")
    return cache


def _kept(cache: Path, name: str) -> ctypes.CDLL | None:
    """Load a compiled file that is kept, if it is there and whole."""
    folder = cache / name
    try:
        content = (folder / "code.so").read_bytes()
        whole = (folder / "sum").read_text() == hashlib.sha256(content).hexdigest()
        return ctypes.CDLL(str(folder / "code.so")) if whole else None
    except OSError:
        return None


def _made(cache: Path, name: str, command: tuple[str, ...], text: str) -> ctypes.CDLL:
    """Compile a text, keep the result, and load it."""
    with _temporary(cache) as folder:
        made = _compile(folder, command, text)
        (folder / "sum").write_text(hashlib.sha256(made.read_bytes()).hexdigest())
        try:
            os.replace(folder, cache / name)
        except OSError:  # another process was faster, or what is there is damaged
            if kept := _kept(cache, name):
                return kept
            shutil.rmtree(cache / name)
            os.replace(folder, cache / name)
    return ctypes.CDLL(str(cache / name / "code.so"))


@contextlib.contextmanager
def _temporary(cache: Path) -> Iterator[Path]:
    """Make a folder that is removed, unless it was moved."""
    folder = Path(tempfile.mkdtemp(dir=cache, prefix="making-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- Compiling ----------------------------------------------------------------------


def _compile(folder: Path, command: tuple[str, ...], text: str) -> Path:
    """Write and compile a text in a folder; return the file that was made."""
    source, made = folder / "code.c", folder / "code.so"
    source.write_text(text, encoding="utf-8")
    whole = [*command, *FLAGS, f"-I{NATIVE}", str(source), "-o", str(made), "-lm"]
    try:
        done = subprocess.run(whole, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise BackendError(
            f"backend 'c': {command[0]} does not run ({error})"
        ) from error
    if done.returncode or not made.exists():
        said = next((line for line in done.stderr.splitlines() if "error" in line), "")
        raise BackendError(
            f"backend 'c': {shlex.join(command)} failed with status {done.returncode}"
            f"{': ' if said else ''}{said}"
        )
    return made


def _digest(*parts: str) -> str:
    """Return a name for these texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@functools.cache
def _headers() -> list[str]:
    """Return the headers that a text may include."""
    return [path.read_text() for path in sorted(NATIVE.glob("*.h"))]


def _identity(program: str) -> str:
    """Return what changes when a program is replaced: its path, size and time."""
    path = os.path.realpath(shutil.which(program) or program)
    found = os.stat(path)
    return f"{path} {found.st_size} {found.st_mtime_ns}"


@functools.cache
def _processor() -> str:
    """Return the processor's name and instructions, or else the machine's name."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return f"{platform.machine()} {platform.node()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    lines = {line for line in text.splitlines() if line.startswith(wanted)}
    return "\n".join([platform.machine(), *sorted(lines)])
