"""Base classes of the systems by hand: flat parameters, the step, and the state."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import backend, checks
from scratchnet.backend import Array
from scratchnet.kernels import buffers, updates


class System:
    """A model whose parameters are views of flat memory, allocated once.

    Attributes:
        batch_size: the largest number of rows in one step.
        dtype: of the parameters, and of the data that the model accepts.
        parameters, gradients: views of flat arrays, by name.
        recordable: whether each step calls the same functions on the same arrays, so
            that `backend.capture` can record it.

    """

    recordable = True

    def __init__(self, batch_size: int, dtype: DTypeLike) -> None:
        checks.count(self._name, "batch_size", batch_size)
        self.batch_size = batch_size
        self.dtype = checks.dtype(self._name, dtype)
        self.parameters: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _allocate(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Array, Array]:
        """Allocate parameters and gradients, and name the views of both.

        Returns:
            All these parameters, and all their gradients, each as one flat array.

        """
        theta, parameters = buffers.flat(shapes, self.dtype)
        d_theta, gradients = buffers.flat(shapes, self.dtype)
        self.parameters.update(parameters)
        self.gradients.update(gradients)
        return theta, d_theta

    def _check_rows(self, x: Any, columns: int, name: str = "x") -> Any:
        """Return the rows x as a plain array; an error unless a step can take them."""
        x = checks.rows(self._name, x, columns, self.dtype, name)
        checks.on_backend(self._name, x)
        if len(x) > self.batch_size:
            raise ValueError(
                f"{self._name}: {len(x)} rows at once, but memory for batch_size="
                f"{self.batch_size}"
            )
        return x

    def _in_batches(self, f: Callable[[Array], Array], x: Array, columns: int) -> Array:
        """Return f of the rows x (n, ...) for any n, an array (n, columns).

        The result is on the host or on the device, as x is.
        """
        host = isinstance(x, np.ndarray)
        out = (np.empty if host else backend.empty)((len(x), columns), self.dtype)
        for i in range(0, len(x), self.batch_size):
            found = f(backend.asarray(x[i : i + self.batch_size]))
            out[i : i + self.batch_size] = backend.to_numpy(found) if host else found
        return out

    # State

    def state_arrays(self) -> dict[str, Array]:
        """Return the parameters themselves, by name."""
        return self.parameters

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copy the parameters to the host, under the names of the engine's model."""
        return buffers.copy_state(self.parameters)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set all parameters, or raise ValueError that names what differs."""
        buffers.load_state(f"{self._name}.load_state_dict", self.parameters, state)

    def __reduce__(self) -> Any:
        """Refuse copies: their parameters would no longer be views of theta."""
        raise TypeError(
            f"{self._name} (by hand) cannot be copied or pickled: its arrays share "
            "memory; make another one and load_state_dict(model.state_dict())"
        )


class Minimizer(System):
    """A system that minimises one loss.

    A subclass defines `forward`, which writes the loss to `_loss`, and `backward`,
    which writes its gradients to `gradients`. A batch is the arguments of `forward`:
    the samples, and noise if the system needs it.

    Attributes:
        theta, d_theta: all parameters, all gradients, each a flat array.
        sums: one array of all gradients and then the loss, to sum over the processes
            that train the model together.
        group: these processes (`distributed.Group`), or None.
        optimizer: the update, with its moments.

    """

    theta: Array
    d_theta: Array
    sums: Array
    optimizer: updates.Update

    def __init__(self, batch_size: int, dtype: DTypeLike) -> None:
        super().__init__(batch_size, dtype)
        self.group: Any = None
        self._total_rows: int | None = None  # of the minibatch, over all processes

    def _allocate(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Array, Array]:
        theta, parameters = buffers.flat(shapes, self.dtype)
        self.sums, gradients = buffers.flat({**shapes, "loss": (1,)}, self.dtype)
        self._loss = gradients.pop("loss").reshape(())
        self.parameters.update(parameters)
        self.gradients.update(gradients)
        return theta, self.sums[: len(theta)]

    def forward(self, *batch: Array) -> Array:
        """Compute all values and the loss, a 0-d array, and return the loss."""
        raise NotImplementedError  # each subclass has its own

    def backward(self) -> None:
        """Compute the gradients after `forward`, and overwrite what it computed."""
        raise NotImplementedError  # each subclass has its own

    def step(self, *batch: Array, total_rows: int | None = None) -> Array:
        """Take one step that lowers the loss of a batch.

        Args:
            batch: the arguments of `forward`.
            total_rows: the rows of the whole minibatch if `batch` is only this
                process's part of it; the part may have no rows.

        Returns:
            The loss before the step, a 0-d array that the next step overwrites.

        Raises:
            TypeError, ValueError: the batch has a wrong shape or dtype, or more than
                `batch_size` rows.

        """
        self._total_rows = total_rows
        try:
            if total_rows is None or len(batch[0]):
                self.forward(*batch)
                self.backward()
            else:
                self.sums[...] = 0
        finally:
            self._total_rows = None
        if self.group is not None:
            self.group.add(self.sums)
        self.optimizer.apply([self.theta], [self.d_theta])
        return self._loss

    def _whole(self, n: int) -> int:
        """Return the rows of the whole minibatch; n of them are in this process."""
        return n if self._total_rows is None else self._total_rows

    def loss(self, *batch: Array) -> Array:
        """Return the loss of a batch of any number of rows, as one number."""
        batch = tuple(checks.plain_arrays(self._name, "argument 0", batch))
        for i, a in enumerate(batch):
            if not backend.is_array(a) or a.ndim == 0:
                raise TypeError(
                    f"{self._name}: argument {i} is a {type(a).__name__}, an array "
                    "expected, with a row for each sample"
                )
        n = len(batch[0])
        if n == 0:
            raise ValueError(f"{self._name}: x has no rows")
        total = backend.zeros((), np.float64)
        for i in range(0, n, self.batch_size):
            # The last part takes all remaining rows, so that `forward` refuses an
            # argument with more rows than the first.
            end = i + self.batch_size if i + self.batch_size < n else None
            part = [backend.asarray(a[i:end]) for a in batch]
            total += self.forward(*part) * len(part[0])
        return total / n

    def loss_and_gradients(self, *batch: Array) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss and copies of its gradients by name; change no parameter."""
        self.forward(*batch)
        self.backward()
        return float(backend.to_numpy(self._loss)), buffers.copy_state(self.gradients)
