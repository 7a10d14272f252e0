"""Optimisers: they update the parameters from their gradients.

>>> w = Tensor([3.0, -4.0], requires_grad=True)  # or model.parameters()
>>> optimizer = SGD([w], lr=0.25)
>>> optimizer.zero_grad()
>>> loss = np.sum(w * w)
>>> loss.backward()
>>> optimizer.step()
>>> print(w.data)
[ 1.5 -2. ]

The arithmetic is in kernels/updates.py, which the systems by hand use too.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from scratchnet import anomaly, backend, checks
from scratchnet.backend import Array
from scratchnet.graph import mark_modified, plain
from scratchnet.kernels import buffers, updates
from scratchnet.kernels.schedules import Rate, cosine_decay, hold_then_decay
from scratchnet.kernels.updates import AdamUpdate, AverageUpdate
from scratchnet.tensor import Tensor

__all__ = [
    "EMA",
    "SGD",
    "Adam",
    "AdamUpdate",
    "AdamW",
    "AverageUpdate",
    "Optimizer",
    "cosine_decay",
    "hold_then_decay",
]


class _OverParameters:
    """Base class: a list of parameters, and their arrays."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        name = type(self).__name__
        if isinstance(parameters, (Tensor, Mapping)) or not np.iterable(parameters):
            raise TypeError(
                f"{name}: a {type(parameters).__name__} given, a list of Tensors "
                "expected, like model.parameters()"
            )
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError(f"{name}: no parameters given")
        seen: dict[int, int] = {}
        for i, p in enumerate(self.parameters):
            if not isinstance(p, Tensor):
                raise TypeError(
                    f"{name}: parameters[{i}] is a {type(p).__name__}, "
                    "a Tensor expected"
                )
            if p._node is not None:
                raise ValueError(
                    f"{name}: {self._label(i)} is not a leaf tensor but the result of "
                    "a function; pass parameters"
                )
            if p.dtype.kind != "f":
                raise ValueError(
                    f"{name}: {self._label(i)} has dtype {p.dtype}; a parameter needs "
                    "float32 or float64"
                )
            if id(p) in seen:
                raise ValueError(
                    f"{name}: {self._label(i)} is given twice, as parameters"
                    f"[{seen[id(p)]}] and [{i}]"
                )
            seen[id(p)] = i
        self._arrays = [p.data for p in self.parameters]

    def __getstate__(self) -> dict[str, Any]:
        for i in range(len(self.parameters)):
            self._check_array("copy", i)
        return {name: x for name, x in vars(self).items() if name != "_arrays"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._arrays = [p.data for p in self.parameters]

    def _check_array(self, method: str, i: int) -> None:
        """Raise ValueError if the array of parameter i was replaced."""
        if self.parameters[i].data is not self._arrays[i]:
            name = type(self).__name__
            raise ValueError(
                f"{name}.{method}: {self._label(i)} got a new array after this {name} "
                f"was made; write p.data[...] = values, or make a new {name}"
            )

    def _label(self, i: int) -> str:
        p = self.parameters[i]
        return f"{p.name or f'parameters[{i}]'} of shape {p.shape}"

    def _named(self, method: str, error: buffers.ArrayError) -> buffers.ArrayError:
        """Return the error with the names of the parameters."""
        owner = f"{type(self).__name__}.{method}"
        return buffers.ArrayError(owner, error.faults, self._label)


class Optimizer(_OverParameters):
    """Base class of all optimisers; `SGD`, `Adam` and `AdamW` define the update.

    A parameter with requires_grad=False is frozen: `step()` does not change it.

    To copy a model with its optimiser, copy both at once:
    `copy.deepcopy((model, optimizer))`. The copied optimiser then updates the copied
    model, and continues from this state. The same holds for pickle. A copy of the
    optimiser alone updates its own copies of the parameters. `EMA` is copied likewise.
    """

    _update: updates.Update

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__(parameters)
        backend.keep_freed_memory()

    @property
    def lr(self) -> float:
        """The learning rate of the next step.

        Assign a number, or a function of the number of steps taken so far.
        """
        return self._update.lr

    @lr.setter
    def lr(self, lr: Rate) -> None:
        self._update.lr = lr

    def zero_grad(self) -> None:
        """Set `.grad` of every parameter to None."""
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        """Update every parameter once from its `.grad`.

        The errors below are raised before any parameter changes.

        Raises:
            TypeError: a gradient is not an array, or has a mask.
            ValueError: a parameter has no gradient (PyTorch skips it without a message,
                so a layer that forward() forgot is never trained), or one of another
                shape or dtype; a parameter is read-only, or its array was replaced; or
                the learning rate of this step is not positive.

        """
        gradients = []
        for i, (p, a) in enumerate(zip(self.parameters, self._arrays, strict=True)):
            g = p.grad
            if type(g) is not np.ndarray or p.data is not a or not p.requires_grad:
                g = self._gradient(i)
            gradients.append(g)
        try:
            self._update.apply(self._arrays, gradients)
        except buffers.ArrayError as error:  # before the first was moved
            raise self._named("step", error) from None
        except BaseException:
            self._changed(gradients)
            raise
        self._changed(gradients)
        if anomaly.WATCHING:
            self._look(gradients)

    def _gradient(self, i: int) -> Any:
        """Return the gradient of parameter i as an array; None if it is frozen."""
        p = self.parameters[i]
        self._check_array("step", i)
        if not p.requires_grad:
            return None
        g = plain(p.grad)
        owner = f"{type(self).__name__}.step"
        if g is None:
            raise ValueError(
                f"{owner}: {self._label(i)} has no gradient; call backward() on a loss "
                "that depends on it, or set its requires_grad to False"
            )
        if not backend.is_array(g):
            raise TypeError(
                f"{owner}: the gradient of {self._label(i)} is a "
                f"{type(g).__name__}; an array expected"
            )
        return checks.plain_array(owner, f"the gradient of {self._label(i)}", g)

    def _changed(self, gradients: Iterable[Any]) -> None:
        for p, g in zip(self.parameters, gradients, strict=True):
            if g is not None:
                mark_modified(p)

    def _look(self, gradients: Iterable[Any]) -> None:
        """Let `anomaly` check the new values of the parameters."""
        for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            if g is not None:
                what = f"{type(self).__name__}.step on {self._label(i)}"
                anomaly.look(what, p.data, [("gradient", g), ("lr after it", self.lr)])

    def state_arrays(self) -> dict[str, Array]:
        """Return the arrays of the learning rate, the moments and the step count."""
        return self._update.state_arrays()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copy the learning rate, the moments and the step count to the host."""
        return self._update.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a copy that `state_dict` made.

        A learning rate that is a function stays; it continues from the step count.

        Raises:
            ValueError: a name, shape or dtype differs, or a number is out of range;
                nothing was changed.

        """
        self._update.load_state_dict(state)


class SGD(Optimizer):
    """Gradient descent with momentum: v ← momentum·v + g, p ← p − lr·v.

    The form of Sutskever et al. (2013), but with the learning rate outside v, as in
    PyTorch. The steps are the same while lr is constant.

    Args:
        parameters: Tensors that require a gradient; any iterable.
        lr: the learning rate, positive: a number, or a function of the number of steps
            taken so far, like `cosine_decay(1e-3, steps)`.
        momentum: the fraction of the velocity v that the next step keeps, in [0, 1).

    Raises:
        TypeError, ValueError: no parameters; a parameter is not a Tensor, is not a
            leaf, or is given twice; or a number is out of range.

    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: Rate, momentum: float = 0.0
    ) -> None:
        super().__init__(parameters)
        self._update = updates.SGDUpdate(self._arrays, lr, momentum)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, Algorithm 1), with bias correction.

        m ← β1·m + (1 − β1)·g,  v ← β2·v + (1 − β2)·g²
        p ← p − lr · m̂ / (√v̂ + ε),  m̂ = m / (1 − β1^t),  v̂ = v / (1 − β2^t)

    Args:
        parameters: Tensors that require a gradient; any iterable.
        lr: the learning rate, positive: a number, or a function of the number of steps
            taken so far, like `cosine_decay(1e-3, steps)`.
        betas: β1 and β2, each in [0, 1).
        eps: ε, positive.

    Raises:
        TypeError, ValueError: as for `SGD`.

    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters)
        self._update = updates.AdamUpdate(self._arrays, lr, betas, eps)


class AdamW(Optimizer):
    """AdamW (Loshchilov & Hutter 2019, Algorithm 2): Adam with decoupled weight decay.

        p ← p − lr · λ · p    in addition to each step of `Adam`

    Args:
        parameters, lr, betas, eps: as for `Adam`.
        weight_decay: λ, at least 0.

    Raises:
        TypeError, ValueError: as for `SGD`.

    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters)
        self._update = updates.AdamWUpdate(self._arrays, lr, betas, eps, weight_decay)


class EMA(_OverParameters):
    """An exponential moving average of parameters: p̄ ← decay · p̄ + (1 − decay) · p.

    Call `update()` after each step of the optimiser, and use the averages inside
    `with ema.average():`. See `AverageUpdate` for sources, `Optimizer` for copies.

    Args:
        parameters: Tensors; any iterable.
        decay: in [0, 1); the average covers about 1 / (1 − decay) steps.

    Raises:
        TypeError, ValueError: as for `SGD`.

    """

    def __init__(self, parameters: Iterable[Tensor], decay: float) -> None:
        super().__init__(parameters)
        self._ema = updates.AverageUpdate(self._arrays, decay)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._ema.take_from(self._arrays)

    def update(self) -> None:
        """Add the current parameters to the average.

        Raises:
            ValueError: the array of a parameter was replaced after this EMA was made,
                or an average is read-only; nothing was changed.

        """
        self._check("update")
        self._do("update", self._ema.update)

    @contextlib.contextmanager
    def average(self) -> Iterator[None]:
        """Replace the parameters by the averages until the block ends.

        A graph recorded before the block cannot be used inside it, nor one recorded
        inside it afterwards: that is an error, as after a step of an optimiser. When
        the outermost block ends, also by an exception, the parameters have their former
        values and arrays again.

        Raises:
            ValueError: as for `update`; or a parameter is read-only. At the end: some
                parameters have become read-only; all others are restored.

        """
        self._check("average")
        self._do("average", self._ema.put)
        try:
            self._changed()
            yield
        finally:
            for p, a in zip(self.parameters, self._arrays, strict=True):
                if p.data is not a:
                    p.data = a
            try:
                self._do("average", self._ema.give_back)
            finally:
                self._changed()

    def _do(self, method: str, action: Callable[[], None]) -> None:
        try:
            action()
        except buffers.ArrayError as error:
            raise self._named(method, error) from None

    def _check(self, method: str) -> None:
        for i in range(len(self.parameters)):
            self._check_array(method, i)

    def _changed(self) -> None:
        for p in self.parameters:
            mark_modified(p)

    def state_arrays(self) -> dict[str, Array]:
        """Return the arrays of the averages."""
        return self._ema.state_arrays()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copy the averages to the host."""
        return self._ema.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a copy that `state_dict` made (ValueError if it differs)."""
        self._ema.load_state_dict(state)
