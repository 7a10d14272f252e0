"""Optimisers: what changes the parameters once their gradients are there.

>>> w = Tensor([3.0, -4.0], requires_grad=True)  # or model.parameters()
>>> optimizer = SGD([w], lr=0.25)
>>> optimizer.zero_grad()
>>> loss = np.sum(w * w)
>>> loss.backward()
>>> optimizer.step()
>>> print(w.data)
[ 1.5 -2. ]

The arithmetic is in kernels/updates.py, which the steps by hand share.
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
    """What holds on to a list of parameters, and to their arrays."""

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
            if p._node is not None or p.dtype.kind != "f":
                raise ValueError(
                    f"{name}: {self._label(i)} is no parameter, but "
                    + ("a result" if p._node is not None else f"made of {p.dtype}")
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
        """Raise ValueError if parameter i has another array than in the beginning."""
        if self.parameters[i].data is not self._arrays[i]:
            name = type(self).__name__
            raise ValueError(
                f"{name}.{method}: {self._label(i)} has another array than when this "
                f"{name} was made; write p.data[...] = values, or make a new {name}"
            )

    def _label(self, i: int) -> str:
        p = self.parameters[i]
        return f"{p.name or f'parameters[{i}]'} of shape {p.shape}"

    def _named(self, method: str, error: buffers.ArrayError) -> buffers.ArrayError:
        """Return the error with the names of parameters in it."""
        owner = f"{type(self).__name__}.{method}"
        return buffers.ArrayError(owner, error.faults, self._label)


class Optimizer(_OverParameters):
    """What all optimisers share; `SGD` and `Adam` say which update it is.

    A parameter whose `requires_grad` is switched off is frozen: `step()` leaves it.

    Copy it together with its model, `copy.deepcopy((model, optimizer))`, and the copy
    moves the copied model from where this one is; so does a pickle of both. A copy of
    the optimiser alone moves copies of the parameters, its own `parameters`. The same
    holds for an `EMA`.
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
        """Forget the gradients: `.grad` of every parameter becomes None."""
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        """Move every parameter once, by its `.grad`; or none, if one has no gradient.

        Raises:
            TypeError: a gradient is not an array, or has a mask. Nothing was changed.
            ValueError: a parameter has no gradient (PyTorch passes over it in silence,
                and a layer that was forgotten in forward() stays as it was), or one of
                another shape or dtype; a parameter is read-only, or has another array
                than in the beginning; or the learning rate of this step is not
                positive. Nothing was changed.

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
                f"{owner}: {self._label(i)} has a {type(g).__name__} for its "
                "gradient; an array expected"
            )
        return checks.plain_array(owner, f"the gradient of {self._label(i)}", g)

    def _changed(self, gradients: Iterable[Any]) -> None:
        for p, g in zip(self.parameters, gradients, strict=True):
            if g is not None:
                mark_modified(p)

    def _look(self, gradients: Iterable[Any]) -> None:
        """Have `anomaly` look at what the step made of the parameters."""
        for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            if g is not None:
                what = f"{type(self).__name__}.step on {self._label(i)}"
                anomaly.look(what, p.data, [("gradient", g), ("lr after it", self.lr)])

    def state_arrays(self) -> dict[str, Array]:
        """Return the learning rate, the moments and the count of steps themselves."""
        return self._update.state_arrays()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copy the learning rate, the moments and the count of steps to the host."""
        return self._update.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a copy that `state_dict` made.

        A learning rate that is a function stays, and goes on from the count of steps.

        Raises:
            ValueError: a name, shape or dtype differs, or a number is out of its range;
                nothing was changed.

        """
        self._update.load_state_dict(state)


class SGD(Optimizer):
    """Gradient descent with momentum: v ← momentum·v + g, p ← p − lr·v.

    The form of Sutskever et al. (2013) with the learning rate taken out of v, as in
    PyTorch: the same steps while lr is constant.

    Args:
        parameters: Tensors that require a gradient; any iterable.
        lr: the learning rate, positive: a number, or a function of the number of steps
            taken so far, like `cosine_decay(1e-3, steps)`.
        momentum: how much of the velocity v stays from step to step, in [0, 1).

    Raises:
        TypeError, ValueError: a parameter is no Tensor, a result, given twice; there
            are none; or a number is out of its range.

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

        p ← p − lr · λ · p    next to each step of `Adam`

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
        decay: in [0, 1); about 1 / (1 − decay) steps are remembered.

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
        """Take the parameters as they are now into the average.

        Raises:
            ValueError: a parameter has another array than when this EMA was made, or
                an average is read-only; nothing was changed.

        """
        self._check("update")
        self._do("update", self._ema.update)

    @contextlib.contextmanager
    def average(self) -> Iterator[None]:
        """Put the averages in the place of the parameters, until the block ends.

        A graph recorded with the ones is not to be walked with the others: that is an
        error, as after a step of an optimiser. When the outermost block ends, however
        it ends, the parameters have the values and the arrays that they had.

        Raises:
            ValueError: as for `update`; or a parameter is read-only. At the end: some
                could not be written any more, and all others are back.

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
        """Return the averages themselves."""
        return self._ema.state_arrays()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copy the averages to the host."""
        return self._ema.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a copy that `state_dict` made (ValueError if it differs)."""
        self._ema.load_state_dict(state)
