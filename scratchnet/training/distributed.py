"""Several processes that train one model: each takes a part of every minibatch.

    mpirun -n 4 python -m scratchnet train vae --distributed

All processes hold the same parameters and draw the same numbers. Each takes its own
rows of every minibatch and computes the gradient of its part of the loss: the sum over
its rows, divided by the number of all rows. The sum over the processes is the gradient
of the minibatch; it is computed in place, on one array. Then every process takes the
same step. So N processes compute what one would, except for rounding.

Messages go through MPI (mpi4py); on GPUs, with a process for each, through NCCL.
"""

import contextlib
import hashlib
import importlib
import os
import platform
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TypeVar

import numpy as np

from scratchnet import __version__, backend
from scratchnet.backend import Array

__all__ = ["Group", "GroupError"]

# For these errors the message is enough; for others the traceback is shown too.
EXPECTED = (
    ValueError, TypeError, OSError, FloatingPointError, MemoryError, KeyboardInterrupt,
    backend.BackendError,
)  # fmt: skip

# Within so many seconds all processes must make a Group, if the variable is not set.
TIMEOUT = 60.0
TIMEOUT_VARIABLE = "SCRATCHNET_MPI_TIMEOUT"

T = TypeVar("T")


class GroupError(RuntimeError):
    """Processes cannot work together here; the message names what is missing."""


class Group:
    """The processes of an MPI job.

    Make it before the model: on a machine with several GPUs it chooses the GPU of this
    process. `with Group() as group:` ends the whole job if this process fails, because
    the others would wait for it forever.

    All processes must make it within 60 s of each other. After that the waiting ones
    end with a message: a missing process may be training alone. SCRATCHNET_MPI_TIMEOUT
    sets another number of seconds.

    Args:
        sharded: whether each process holds only its own rows of the training data, in
            the order of the ranks; see `data.idx.load_mnist(shard=)`. It takes the rows
            of each minibatch that it holds.

    Attributes:
        rank: the number of this process, 0, 1, ...
        size: the number of processes.

    Raises:
        GroupError: there is no mpi4py, or no MPI that it can use.
        ValueError: the processes differ in `sharded`, backend or versions, or
            SCRATCHNET_MPI_TIMEOUT is not a number of seconds.

    """

    def __init__(self, sharded: bool = False) -> None:
        self.sharded = bool(sharded)
        with _in_time():
            try:
                self._mpi = importlib.import_module("mpi4py.MPI")
            except (ImportError, RuntimeError) as error:
                raise GroupError(
                    f"Group: mpi4py cannot be used ({error}); install it with pip "
                    "install 'scratchnet[mpi]', and an MPI, MPICH or Open MPI (pip "
                    "install mpich)"
                ) from error
            self._comm = self._mpi.COMM_WORLD
            self.rank: int = self._comm.Get_rank()
            self.size: int = self._comm.Get_size()
            self._comm.Barrier()
        started = _launched()
        if self.size == 1 and started is not None and started[1] > 1:
            raise GroupError(
                f"Group: mpirun started {started[1]} processes, but MPI sees only this "
                "one; use the mpirun of the MPI that mpi4py was installed for"
            )
        self.agree("Group", {
            "sharded": self.sharded, "backend": backend.name(),
            "the version of scratchnet": __version__,
            "the version of NumPy": np.__version__,
            "the version of Python": platform.python_version_tuple()[:2],
        })  # fmt: skip
        self._add: Callable[[Array], None] = self._add_by_mpi
        if not backend.on_host():
            here = self._comm.Split_type(self._mpi.COMM_TYPE_SHARED).Get_rank()
            missing = None
            try:
                backend.choose_gpu(here)
            except backend.BackendError as error:
                missing = str(error)
            # All raise it: otherwise the others would wait for the one that failed.
            if found := [one for one in self.gathered(missing) if one]:
                raise GroupError(f"Group: {found[0]}")
            self._add = backend.sum_over_gpus(self.rank, self.size)

    # Messages

    def add(self, a: Array) -> None:
        """Sum an array over all processes, in place."""
        self._add(a)

    def _add_by_mpi(self, a: Array) -> None:
        self._comm.Allreduce(self._mpi.IN_PLACE, np.asarray(a))

    def any(self, flag: bool) -> bool:
        """Wait for all processes; return whether `flag` is true in any of them."""
        return bool(self._comm.allreduce(bool(flag), self._mpi.LOR))

    def from_first(self, x: T) -> T:
        """Return the value of process 0."""
        found: T = self._comm.bcast(x)
        return found

    def gathered(self, x: T) -> list[T]:
        """Return the values of all processes, by rank."""
        found: list[T] = self._comm.allgather(x)
        return found

    def agree(self, owner: str, facts: Mapping[str, object]) -> None:
        """Raise ValueError unless all processes have the same facts.

        Args:
            owner: the name of the caller, for the error.
            facts: values by name; arrays are compared by dtype, shape and values.

        """
        mine = {name: _digest(value) for name, value in facts.items()}
        theirs = self.gathered(mine)
        wrong = [
            f"{name} in process {rank}"
            for rank, other in enumerate(theirs)
            for name in theirs[0] | other
            if other.get(name) != theirs[0].get(name)
        ]
        if wrong:
            more = f" and {len(wrong) - 20} more" if len(wrong) > 20 else ""
            raise ValueError(
                f"{owner}: not as in process 0: {', '.join(wrong[:20])}{more}; all "
                "must be made from the same arguments and seeds"
            )

    # Shares

    def total(self, n: int) -> int:
        """Return the number of training rows in all processes; this one holds n."""
        if not self.sharded:
            return n
        lengths = self.gathered(n)
        self._first = sum(lengths[: self.rank])
        self._end = self._first + n
        return sum(lengths)

    def share(
        self,
        data: Sequence[Array],
        rows: np.ndarray,
        draw: Callable[..., Iterable[Array]] | None,
    ) -> list[Array]:
        """Return this process's rows of a minibatch.

        Args:
            data: arrays of the rows that this process holds.
            rows: row numbers of the minibatch in the whole data, (n,) on the host.
            draw: adds noise to the arrays of a minibatch; None for no noise. It gets
                all n rows, so that all processes draw the same numbers; rows that a
                sharded process does not hold are zeros.

        """
        n = len(rows)
        if self.sharded:
            places = np.flatnonzero((rows >= self._first) & (rows < self._end))
            held = rows[places] - self._first
        else:
            places = np.arange(
                n * self.rank // self.size, n * (self.rank + 1) // self.size
            )
            held = rows[places]
        mine, held = backend.asarray(places), backend.asarray(held)
        if draw is None:
            return [a[held] for a in data]
        if self.sharded:
            batch = [backend.zeros((n, *a.shape[1:]), a.dtype) for a in data]
            for whole, a in zip(batch, data, strict=True):
                whole[mine] = a[held]
        else:
            every = backend.asarray(rows)
            batch = [a[every] for a in data]
        return [a[mine] for a in draw(*batch)]

    # The end

    def __enter__(self) -> "Group":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """If this process failed, print the error and let MPI stop the others."""
        if error is None or (isinstance(error, SystemExit) and not error.code):
            return
        if not isinstance(error, EXPECTED):
            traceback.print_exception(error)
        what = str(error) or repr(error)
        here = f"scratchnet: process {self.rank} of {self.size}"
        print(f"{here}: {what}; this ends the job", file=sys.stderr, flush=True)
        time.sleep(0.5)  # Abort could otherwise arrive first, and the message is lost
        self._comm.Abort(1)


# --- The first meeting --------------------------------------------------------------

# When MPI starts, it waits for all processes inside C code, and no Python thread runs.
# So another process watches the clock. Its input ends when all processes have started,
# or when the waiting one has ended.
_WATCH = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
seconds, waiting, message = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
over = threading.Thread(target=os.read, args=(0, 1), daemon=True)
over.start()
over.join(seconds)
if over.is_alive():
    print(message, file=sys.stderr, flush=True)
    time.sleep(1)  # every waiting process prints before the first one ends the job
    os.kill(waiting, getattr(signal, "SIGKILL", signal.SIGTERM))
os._exit(0)
"""


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    """End this process with a message, unless the block ends in time."""
    seconds = _timeout()
    started = _launched()
    who = "one process" if started is None else f"process {started[0]} of {started[1]}"
    message = (
        f"scratchnet: {who} has waited {seconds:g} s for the others, and some are "
        "missing; start all under one mpirun, each with --distributed (in Python, each "
        f"with Group()), or set {TIMEOUT_VARIABLE} to more seconds; this ends the job"
    )
    command = [sys.executable, "-I", "-S", "-c", _WATCH, f"{seconds}", f"{os.getpid()}"]
    watch = subprocess.Popen([*command, message], stdin=subprocess.PIPE)
    try:
        yield
    finally:
        watch.communicate()


def _timeout() -> float:
    """Return the number of seconds within which all processes must start.

    Raises:
        ValueError: the variable is not a positive number.

    """
    text = os.environ.get(TIMEOUT_VARIABLE, f"{TIMEOUT}")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise ValueError(
            f"Group: {TIMEOUT_VARIABLE} is {text!r}; a positive number of seconds "
            "expected"
        )
    return seconds


def _launched() -> tuple[int, int] | None:
    """Return the rank and the number of processes, if mpirun sets them."""
    for rank, size in (
        ("PMI_RANK", "PMI_SIZE"),  # MPICH, Intel MPI
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ):
        with contextlib.suppress(KeyError, ValueError):
            return int(os.environ[rank]), int(os.environ[size])
    return None


# --- Comparing ----------------------------------------------------------------------


def digest(a: Array) -> str:
    """Return a digest of an array's dtype, shape and values."""
    host = np.ascontiguousarray(backend.to_numpy(a))
    found = hashlib.sha256(f"{host.dtype.str} {a.shape}".encode())
    found.update(host.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _digest(value: object) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    return digest(value) if backend.is_array(value) else repr(value)


def facts_of(name: str, data: Sequence[Array], sharded: bool) -> dict[str, object]:
    """Return the facts about the data that all processes must share, by name.

    Args:
        name: the name of the data, for errors.
        data: arrays of the rows that this process holds.
        sharded: whether the other processes hold other rows.

    """
    found: dict[str, object] = {f"the number of arrays of {name}": len(data)}
    for i, a in enumerate(data):
        label = f"{name}[{i}]" if len(data) > 1 else name
        if sharded:
            found |= {
                f"the columns of {label}": a.shape[1:],
                f"the dtype of {label}": f"{a.dtype}",
            }
        else:
            found[label] = a
    return found


def check(owner: str, group: object, model: object) -> None:
    """Raise TypeError unless this is a Group that can train the model."""
    if not isinstance(group, Group):
        raise TypeError(f"{owner}: group is {group!r}; a distributed.Group expected")
    if not hasattr(model, "sums"):
        raise TypeError(
            f"{owner}: a {type(model).__name__} cannot be trained by several "
            "processes; pass an autoencoder or a VAE of scratchnet.byhand"
        )
