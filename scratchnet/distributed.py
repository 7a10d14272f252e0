"""Several processes that train one model: each a part of every minibatch.

    mpirun -n 4 python -m scratchnet train vae --distributed

All processes hold the same parameters and draw the same numbers. Each takes its own
rows of every minibatch, and computes the gradient of their part of the loss, which is
their sum over the number of all rows. Summed over the processes, in place and in one
piece, that is the gradient of the minibatch, and each takes the same step. So N
processes compute what one would, but for rounding.

The messages go through MPI (mpi4py), or on GPUs, a process for each, through NCCL.
"""

import hashlib
import importlib
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from scratchnet import backend
from scratchnet.backend import Array

# What errors say is enough; of others, where they come from is shown too.
EXPECTED = (
    ValueError, TypeError, OSError, FloatingPointError, MemoryError, KeyboardInterrupt,
    backend.BackendError,
)  # fmt: skip


class GroupError(RuntimeError):
    """Processes cannot work together here; says what is missing."""


class Group:
    """The processes of an MPI job.

    Make it before the model: on a machine with several GPUs it chooses this process's.
    As `with Group() as group:` it ends the whole job if this process fails, as the
    others would wait for it for ever.

    Args:
        sharded: that each process holds its own rows of the training data, one after
            another in the order of the ranks, and not all of them; see
            `data.idx.load_mnist(shard=)`. Of each minibatch it takes those that it has.

    Attributes:
        rank: which process this is, 0, 1, ...
        size: how many there are.

    Raises:
        GroupError: there is no mpi4py, or no MPI that it could use.

    """

    def __init__(self, sharded: bool = False) -> None:
        try:
            self._mpi = importlib.import_module("mpi4py.MPI")
        except (ImportError, RuntimeError) as error:
            raise GroupError(
                f"Group: mpi4py cannot be used ({error}); install it with pip install "
                "'scratchnet[mpi]', and an MPI, MPICH or Open MPI (pip install mpich)"
            ) from error
        self._comm = self._mpi.COMM_WORLD
        self.rank: int = self._comm.Get_rank()
        self.size: int = self._comm.Get_size()
        self.sharded = sharded
        self._add: Callable[[Array], None] = self._add_by_mpi
        if not backend.on_host():
            here = self._comm.Split_type(self._mpi.COMM_TYPE_SHARED).Get_rank()
            missing = None
            try:
                backend.choose_gpu(here)
            except backend.BackendError as error:
                missing = str(error)
            # Said by all, or those that could go on would wait for the others.
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
        """Say whether `flag` is true in any process; all have come here by then."""
        return bool(self._comm.allreduce(bool(flag), self._mpi.LOR))

    def from_first(self, x: Any) -> Any:
        """Return what process 0 gave."""
        return self._comm.bcast(x)

    def gathered(self, x: Any) -> list[Any]:
        """Return what each process gave, by rank."""
        found: list[Any] = self._comm.allgather(x)
        return found

    def agree(self, owner: str, facts: Mapping[str, Any]) -> None:
        """Raise ValueError unless all processes have the same facts.

        Args:
            owner: who asks, for the error.
            facts: by name; arrays are compared by what they hold.

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
            raise ValueError(
                f"{owner}: not as in process 0: {', '.join(wrong)}; all must be made "
                "from the same arguments and seeds"
            )

    # Shares

    def total(self, n: int) -> int:
        """Return how many rows the training data has, of which this process holds n."""
        if not self.sharded:
            return n
        lengths = self.gathered(n)
        self._first = sum(lengths[: self.rank])
        self._end = self._first + n
        return sum(lengths)

    def share(
        self, data: Sequence[Array], rows: np.ndarray, draw: Callable[..., Any] | None
    ) -> list[Array]:
        """Return this process's rows of a minibatch.

        Args:
            data: arrays of the rows that it holds.
            rows: the minibatch, by rows of the whole data, (n,) on the host.
            draw: adds noise to arrays of a whole minibatch; None: there is no noise. So
                that all processes draw alike, it is given all n rows; those that a
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
        """End the job if this process failed: say so, and have MPI stop the others."""
        if error is None or (isinstance(error, SystemExit) and not error.code):
            return
        if not isinstance(error, EXPECTED):
            traceback.print_exception(error)
        what = str(error) or repr(error)
        here = f"scratchnet: process {self.rank} of {self.size}"
        print(f"{here}: {what}; this ends the job", file=sys.stderr, flush=True)
        time.sleep(0.5)  # or Abort is there first, and the launcher drops what was said
        self._comm.Abort(1)


def _digest(value: Any) -> str:
    if not backend.is_array(value):
        return repr(value)
    host = np.ascontiguousarray(backend.to_numpy(value))
    text = f"{host.dtype} {host.shape}".encode()
    return hashlib.sha256(text + host.tobytes()).hexdigest()


def check(owner: str, group: Any, model: Any) -> None:
    """Raise TypeError unless this is a Group, and the model can be trained by one."""
    if not isinstance(group, Group):
        raise TypeError(f"{owner}: group is {group!r}; a distributed.Group expected")
    if not hasattr(model, "sums"):
        raise TypeError(
            f"{owner}: a {type(model).__name__} cannot be trained by several "
            "processes; pass an autoencoder or a VAE of scratchnet.byhand"
        )
