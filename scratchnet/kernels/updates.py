"""Updates: SGD, Adam, AdamW and the running average, each written once for both twins.

The engine's optimizers and the systems by hand use the same code, so they agree to the
last bit. It writes into existing arrays, by plain NumPy calls with `out=`. Numbers that
change from step to step (Adam's t, the learning rate) are in arrays too, so that a
recorded step can be replayed. Where it is faster on a GPU, a chain of calls also exists
as one kernel in C; the same chain in NumPy calls follows it.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from typing import Any, Protocol, TypedDict

import numpy as np

from scratchnet import backend, checks
from scratchnet.backend import Array, Kernel
from scratchnet.kernels.buffers import (
    READ_ONLY,
    ArrayError,
    at_least_1d,
    blocks,
    check_state,
    copy_state,
    load_state,
    refuse_read_only,
    rows_in_block,
    write_state,
)
from scratchnet.kernels.schedules import Rate

# The moments of a dead unit shrink to denormal numbers and stay there. A processor
# takes many times as long for these, and they change no parameter: they become 0.
_NORMAL = "const T normal = sizeof(T) == 4 ? 0x1p-126 : 0x1p-1022;"

SGD = Kernel("sgd", "T g", "T p", "p -= lr * g;", numbers="T lr")

MOMENTUM = Kernel(
    "momentum", "T g", "T p, T v",
    f"{_NORMAL}"
    "v = momentum * v + g;"
    "v = v < normal && v > -normal ? 0 : v;"
    "p -= lr * v;",
    numbers="T lr, T momentum",
)  # fmt: skip


def sgd_update(
    p: Array,
    g: Array,
    velocity: Array | None,
    scratch: Array,
    lr: Array,
    momentum: float,
) -> None:
    """Take one step of gradient descent with momentum, in place.

        velocity ← momentum · velocity + g
        p        ← p − lr · velocity

    Args:
        p: the parameters, of any shape except 0-d.
        g: dL/dp, of the same shape; only read.
        velocity: of the same shape; None means no momentum.
        scratch: at least one block of rows of `p`.
        lr: the learning rate, a 0-d array of the dtype of `p`.
        momentum: the fraction of the velocity that is kept, in [0, 1).

    """
    if velocity is None:
        if backend.run_kernel(SGD, lr, g, p):
            return
    elif backend.run_kernel(MOMENTUM, lr, momentum, g, p, velocity):
        return
    for block in blocks(p):
        p_, g_ = p[block], g[block]
        s = scratch[: len(p_)]
        if velocity is None:
            np.multiply(g_, lr, out=s)
        else:
            v = velocity[block]
            np.multiply(v, momentum, out=v)
            np.add(v, g_, out=v)
            np.multiply(v, lr, out=s)
        np.subtract(p_, s, out=p_)


ADAM = Kernel(
    "adam", "T g", "T p, T m, T v",
    f"{_NORMAL}"
    "m = beta1 * m + g;"
    "v = beta2 * v + g * g;"
    "m = m < normal && m > -normal ? 0 : m;"
    "v = v < normal ? 0 : v;"
    "p = keep * p - lr_t * (m / (sqrt(v) + eps_t));",
    numbers="T lr_t, T eps_t, T keep, T beta1, T beta2",
)  # fmt: skip


def adam_update(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    scratch: Array,
    lr_t: Array,
    eps_t: Array,
    beta1: float,
    beta2: float,
    keep: Array | None = None,
) -> None:
    """Take one step of Adam, in place (Kingma & Ba 2015, Algorithm 1).

    The paper's moments are running means of the gradient and of its square:

        m ← β1·m + (1 − β1)·g
        v ← β2·v + (1 − β2)·g²
        p ← p − lr · m̂ / (√v̂ + ε)              m̂ = m/c1, v̂ = v/c2, ci = 1 − βi^t

    To save passes over the arrays, factors that are the same for all entries are moved
    into two numbers, lr_t and eps_t (see `adam_scalars`). With m / (1 − β1) called m
    and v / (1 − β2) called v, these lines are mathematically the same:

        m ← β1·m + g
        v ← β2·v + g²
        p ← p − lr_t · m / (√v + eps_t)

    Args:
        p: the parameters, of any shape except 0-d.
        g: dL/dp, of the same shape; only read.
        m: the first moment, of the same shape.
        v: the second moment, of the same shape.
        scratch: at least one block of rows of `p`.
        lr_t: a 0-d array of the dtype of `p`.
        eps_t: a 0-d array of the dtype of `p`.
        beta1: the decay of m.
        beta2: the decay of v.
        keep: a factor for p before the step, a 0-d array of its dtype: 1 − lr·λ for a
            decoupled weight decay λ (Loshchilov & Hutter 2019, Algorithm 2). None
            means 1.

    """
    kept = 1.0 if keep is None else keep
    if backend.run_kernel(ADAM, lr_t, eps_t, kept, beta1, beta2, g, p, m, v):
        return
    for block in blocks(p):
        p_, g_, m_, v_ = p[block], g[block], m[block], v[block]
        s = scratch[: len(p_)]
        np.multiply(m_, beta1, out=m_)
        np.add(m_, g_, out=m_)
        np.multiply(v_, beta2, out=v_)
        np.multiply(g_, g_, out=s)
        np.add(v_, s, out=v_)
        np.sqrt(v_, out=s)
        np.add(s, eps_t, out=s)
        np.divide(m_, s, out=s)
        np.multiply(s, lr_t, out=s)
        if keep is not None:
            np.multiply(p_, keep, out=p_)
        np.subtract(p_, s, out=p_)


ADAM_SCALARS = Kernel(
    "adam_scalars", "", "float64 t, float64 lr_t, float64 eps_t",
    "t += 1;"
    "double r = sqrt((1 - pow(beta2, t)) / (1 - beta2));"
    "lr_t = r / (1 - pow(beta1, t)) * (1 - beta1) * lr;"
    "eps_t = r * eps;",
    numbers="float64 lr, float64 beta1, float64 beta2, float64 eps",
)  # fmt: skip


def adam_scalars(
    t: Array,
    lr: Array,
    lr_t: Array,
    eps_t: Array,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Add 1 to `t`, and compute lr_t and eps_t of `adam_update`.

        m̂ = (1 − β1)/c1 · m,   v̂ = (1 − β2)/c2 · v,   ci = 1 − βi^t
        lr · m̂ / (√v̂ + ε) = lr_t · m / (√v + eps_t)

    with r = √(c2 / (1 − β2)), lr_t = lr · r · (1 − β1)/c1 and eps_t = r · ε; m and v
    are those of `adam_update`. All are 0-d float64 arrays, written in place.
    """
    if backend.run_kernel(ADAM_SCALARS, lr, *betas, eps, t, lr_t, eps_t):
        return
    np.add(t, 1, out=t)
    np.power(betas[0], t, out=lr_t)
    np.subtract(1, lr_t, out=lr_t)  # c1
    np.power(betas[1], t, out=eps_t)
    np.subtract(1, eps_t, out=eps_t)  # c2
    np.divide(eps_t, 1 - betas[1], out=eps_t)
    np.sqrt(eps_t, out=eps_t)  # r
    np.divide(eps_t, lr_t, out=lr_t)
    np.multiply(lr_t, 1 - betas[0], out=lr_t)
    np.multiply(lr_t, lr, out=lr_t)
    np.multiply(eps_t, eps, out=eps_t)


# --- Updates of lists of arrays -----------------------------------------------------


class Update(Protocol):
    """An update of parameters: `SGDUpdate`, `AdamUpdate`, or one of your own."""

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""

    @lr.setter
    def lr(self, lr: Rate) -> None: ...

    def apply(self, arrays: Sequence[Array], gradients: Sequence[Array | None]) -> None:
        """Take one step, in place; an array whose gradient is None does not change."""

    def state_arrays(self) -> dict[str, Array]:
        """Return the arrays that a resumed run needs."""

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copy the arrays that a resumed run needs to the host."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from such a copy, or change nothing and name what differs."""


class _Update:
    """Base class: the learning rate, the step count, scratch memory and the state."""

    _name: str  # in errors

    def __init__(self, arrays: Sequence[Array], lr: Rate) -> None:
        arrays = _listed(self._name, arrays)
        self._made_for = [(a.shape, a.dtype) for a in arrays]
        self._on_host = all(isinstance(a, np.ndarray) for a in arrays)
        self._state: dict[str, Array] = {
            "lr": backend.zeros((), np.float64),
            "t": backend.zeros((), np.float64),
        }
        # The step count on the host, the argument of a rate that is a function.
        self._steps = 0
        self._rate: Rate
        self.lr = lr
        self._scratch = []
        buffers: dict[Any, Array] = {}
        # The rate and Adam's scalars in the dtype of the arrays: a float64 number in an
        # array would promote a float32 computation to float64.
        self._scalars: dict[Any, list[Array]] = {}
        for dtype in dict.fromkeys(a.dtype for a in arrays):
            same = [at_least_1d(a) for a in arrays if a.dtype == dtype]
            size = max((rows_in_block(a) * a[:1].size for a in same), default=0)
            buffers[dtype] = backend.empty(size, dtype)
            self._scalars[dtype] = [backend.zeros((), dtype) for _ in range(3)]
        for a in map(at_least_1d, arrays):
            rows = min(len(a), rows_in_block(a))
            shape = (rows, *a.shape[1:])
            scratch = buffers[a.dtype][: math.prod(shape)].reshape(shape)
            self._scratch.append(scratch)

    @property
    def lr(self) -> float:
        """The learning rate of the next step.

        Assign a number, or a function of the number of steps taken so far.
        """
        return self._next(self._rate)

    @lr.setter
    def lr(self, lr: Rate) -> None:
        self._state["lr"][...] = self._next(lr)
        self._rate = lr

    def _next(self, rate: Rate) -> float:
        """Return the rate of the next step; ValueError unless it is positive."""
        if callable(rate):
            owner = f"{self._name}, step {self._steps}"
            return checks.number(owner, "lr", rate(self._steps), checks.POSITIVE)
        return checks.number(self._name, "lr", rate, checks.POSITIVE)

    def _checked(
        self, arrays: Sequence[Array], gradients: Sequence[Array | None]
    ) -> Sequence[Array | None]:
        """Return the gradients as plain arrays, after checking the whole step.

        Raises:
            ValueError: the number of arrays is not that of the constructor.
            ArrayError: an array or its gradient has another shape or dtype than in the
                constructor, or an array or its state is read-only.

        """
        if self._ready(arrays, gradients):
            return gradients
        if not len(arrays) == len(gradients) == len(self._made_for):
            raise ValueError(
                f"{self._name}: {len(arrays)} arrays and {len(gradients)} gradients "
                f"given, {len(self._made_for)} of each expected"
            )
        faults: list[tuple[int | None, str]] = []
        for name, a in self._state.items():
            if checks.read_only(a):
                number = name.partition(".")[2]
                place = int(number) if number else None
                faults.append((place, f"has a state {name!r} that {READ_ONLY}"))
        plain = list(gradients)
        for i, (a, g) in enumerate(zip(arrays, gradients, strict=True)):
            if g is None:
                continue
            if type(g) is not np.ndarray:
                plain[i] = checks.plain_array(self._name, f"gradients[{i}]", g)
            if fault := _step_fault(a, g, *self._made_for[i]):
                faults.append((i, fault))
        if faults:
            raise ArrayError(self._name, faults)
        return plain

    def _ready(
        self, arrays: Sequence[Array], gradients: Sequence[Array | None]
    ) -> bool:
        """Return whether a quick check finds all arrays valid; they are on the host."""
        if not (
            self._on_host
            and len(arrays) == len(gradients) == len(self._made_for)
            and all([a.flags.writeable for a in self._state.values()])
        ):
            return False
        each = zip(arrays, gradients, self._made_for, strict=True)
        fine = [
            type(g) is np.ndarray
            and (a.shape, a.dtype) == made == (g.shape, g.dtype)
            and a.flags.writeable
            for a, g, made in each
            if g is not None
        ]
        return all(fine)

    def _begin(self) -> None:
        """Set the rate of this step, and count it; the caller adds 1 to `t`."""
        if callable(self._rate):
            self._state["lr"][...] = self.lr
        self._steps += 1

    def _moments(self, name: str, arrays: Sequence[Array]) -> list[Array]:
        """Make zeros like each array, and add them to the state."""
        made = [backend.zeros(a.shape, a.dtype) for a in arrays]
        self._state.update({f"{name}.{i}": a for i, a in enumerate(made)})
        return made  # not views: in a deep copy they would lose their link to the state

    def state_arrays(self) -> dict[str, Array]:
        """Return the arrays of the learning rate, the moments and the step count."""
        return self._state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copy the learning rate, the moments and the step count to the host."""
        return copy_state(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a copy that `state_dict` made.

        A learning rate that is a function stays; it continues from the step count.

        Raises:
            ValueError: a name, shape or dtype differs, an array is read-only, or a
                number is out of range; nothing was changed.

        """
        owner = f"{self._name}.load_state_dict"
        values = check_state(owner, self._state, state)
        lr, t = (float(backend.to_numpy(values[name])) for name in ("lr", "t"))
        checks.number(owner, "lr", lr, checks.POSITIVE)
        checks.number(owner, "t", t, "[0, inf)")
        self._check_loaded(owner, values)
        write_state(self._state, values)
        self._steps = int(t)
        if not callable(self._rate):
            self._rate = lr

    def _check_loaded(self, owner: str, values: Mapping[str, Array]) -> None:
        """Raise ValueError if a number in a state is out of range."""


def _step_fault(a: Array, g: Any, shape: tuple[int, ...], dtype: Any) -> str | None:
    """Return why `a` cannot be updated by g, given its former shape and dtype."""
    if a.shape != shape or a.dtype != dtype:
        return f"is {a.dtype} of shape {a.shape}; {dtype} of shape {shape} expected"
    if type(g) is not type(a):
        on_host = isinstance(g, np.ndarray | np.generic)
        if not backend.is_array(g) or on_host != isinstance(a, np.ndarray):
            return f"is a {type(a).__name__}, its gradient a {type(g).__name__}"
    if g.shape != shape or g.dtype != dtype:
        return f"is {dtype}, its gradient {g.dtype} of shape {g.shape}"
    return READ_ONLY if checks.read_only(a) else None


def _listed(owner: str, arrays: Any) -> list[Array]:
    """Return the arrays as a list; TypeError unless they are arrays of floats."""
    if not (isinstance(arrays, list | tuple) and all(map(backend.is_array, arrays))):
        raise TypeError(f"{owner}: {arrays!r} given, a list of arrays expected")
    kinds = [a.dtype for a in arrays]
    if not all(kind.kind == "f" and kind.itemsize > 2 for kind in kinds):
        found = ", ".join(map(str, kinds))
        raise TypeError(f"{owner}: arrays of {found}; float32 or wider expected")
    for i, a in enumerate(arrays):
        if isinstance(a, np.ma.MaskedArray):
            raise TypeError(f"{owner}: arrays[{i}] is a masked array; pass a plain one")
    return list(arrays)


class SGDUpdate(_Update):
    """Gradient descent with momentum, over a list of arrays (see `sgd_update`).

    Args:
        arrays: the arrays to update; the constructor reads only shapes and dtypes.
        lr: the learning rate, positive: a number, or a function of the number of steps
            taken so far.
        momentum: the fraction of the velocity that the next step keeps, in [0, 1).

    Raises:
        ValueError: a number is out of range. A later step raises it for its rate, and
            `ArrayError` for an array that is read-only or has another shape or dtype;
            such a step changes nothing.

    """

    _name = "SGD"

    def __init__(
        self, arrays: Sequence[Array], lr: Rate, momentum: float = 0.0
    ) -> None:
        super().__init__(arrays, lr)
        self.momentum = checks.number(self._name, "momentum", momentum, "[0, 1)")
        self._velocity: list[Array] | None = None
        if self.momentum > 0:
            self._velocity = self._moments("velocity", arrays)

    def apply(self, arrays: Sequence[Array], gradients: Sequence[Array | None]) -> None:
        """Take one step, in place; an array whose gradient is None stays."""
        gradients = self._checked(arrays, gradients)
        backend.each_time(self._begin)
        np.add(self._state["t"], 1, out=self._state["t"])
        for lr, *_ in self._scalars.values():
            lr[...] = self._state["lr"]
        for i, (p, g) in enumerate(zip(arrays, gradients, strict=True)):
            if g is not None:
                sgd_update(
                    at_least_1d(p),
                    at_least_1d(g),
                    at_least_1d(self._velocity[i]) if self._velocity else None,
                    self._scratch[i],
                    self._scalars[p.dtype][0],
                    self.momentum,
                )


class AdamUpdate(_Update):
    """Adam, over a list of arrays (see `adam_update`).

    Args:
        arrays: the arrays to update; the constructor reads only shapes and dtypes.
        lr: the learning rate, positive: a number, or a function of the number of steps
            taken so far.
        betas: the decays of the two moments, each in [0, 1).
        eps: added to the root of v̂, positive.

    Raises:
        ValueError: as for `SGDUpdate`.

    """

    _name = "Adam"
    weight_decay: float

    def __init__(
        self,
        arrays: Sequence[Array],
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(arrays, lr)
        if not isinstance(betas, tuple) or len(betas) != 2:
            raise TypeError(
                f"{self._name}: betas is {betas!r}; (beta1, beta2) expected"
            )
        beta1, beta2 = betas
        self.betas = (
            checks.number(self._name, "betas[0]", beta1, "[0, 1)"),
            checks.number(self._name, "betas[1]", beta2, "[0, 1)"),
        )
        # They belong to the state: the scale of m and v depends on them.
        self._state["betas"] = backend.asarray(self.betas, np.float64)
        self.eps = checks.number(self._name, "eps", eps, checks.POSITIVE)
        self.weight_decay = 0.0  # AdamW's
        self._lr_t = backend.zeros((), np.float64)
        self._eps_t = backend.zeros((), np.float64)
        self._keep = backend.zeros((), np.float64)
        self._m = self._moments("m", arrays)
        self._v = self._moments("v", arrays)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a copy that `state_dict` made, with the betas in it."""
        super().load_state_dict(state)
        beta1, beta2 = backend.to_numpy(self._state["betas"])
        self.betas = float(beta1), float(beta2)

    def _check_loaded(self, owner: str, values: Mapping[str, Array]) -> None:
        for i, beta in enumerate(backend.to_numpy(values["betas"])):
            checks.number(owner, f"betas[{i}]", float(beta), "[0, 1)")

    def apply(self, arrays: Sequence[Array], gradients: Sequence[Array | None]) -> None:
        """Take one step, in place; an array whose gradient is None stays."""
        gradients = self._checked(arrays, gradients)
        backend.each_time(self._begin)
        state = self._state
        adam_scalars(
            state["t"], state["lr"], self._lr_t, self._eps_t, self.betas, self.eps
        )
        for lr_t, eps_t, keep in self._scalars.values():
            lr_t[...] = self._lr_t
            eps_t[...] = self._eps_t
            if self.weight_decay:
                np.multiply(state["lr"], -self.weight_decay, out=self._keep)
                np.add(self._keep, 1, out=self._keep)
                keep[...] = self._keep
        for i, (p, g) in enumerate(zip(arrays, gradients, strict=True)):
            if g is not None:
                lr_t, eps_t, keep = self._scalars[p.dtype]
                adam_update(
                    at_least_1d(p),
                    at_least_1d(g),
                    at_least_1d(self._m[i]),
                    at_least_1d(self._v[i]),
                    self._scratch[i],
                    lr_t,
                    eps_t,
                    *self.betas,
                    keep if self.weight_decay else None,
                )


class AdamWUpdate(AdamUpdate):
    """AdamW, over a list of arrays: Adam with decoupled weight decay.

    Each step of Adam also does p ← p − lr·λ·p (Loshchilov & Hutter 2019, Algorithm 2).

    Args:
        arrays, lr, betas, eps: as for `AdamUpdate`.
        weight_decay: λ, at least 0.

    Raises:
        ValueError: as for `SGDUpdate`.

    """

    _name = "AdamW"

    def __init__(
        self,
        arrays: Sequence[Array],
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(arrays, lr, betas, eps)
        self.weight_decay = checks.number(
            self._name, "weight_decay", weight_decay, "[0, inf)"
        )


# --- An update by its name ----------------------------------------------------------

UPDATES: dict[str, type[SGDUpdate] | type[AdamUpdate]] = {
    "adam": AdamUpdate,
    "adamw": AdamWUpdate,
    "sgd": SGDUpdate,
}


class UpdateOptions(TypedDict, total=False):
    """The options of the updates; each update takes some of them."""

    lr: Rate
    betas: tuple[float, float]  # adam, adamw
    eps: float  # adam, adamw
    weight_decay: float  # adamw
    momentum: float  # sgd


class GANUpdateOptions(UpdateOptions, total=False):
    """The options of a GAN's updates, for both networks or for one."""

    generator_update: str
    generator_lr: Rate
    generator_betas: tuple[float, float]
    generator_eps: float
    generator_weight_decay: float
    generator_momentum: float
    discriminator_update: str
    discriminator_lr: Rate
    discriminator_betas: tuple[float, float]
    discriminator_eps: float
    discriminator_weight_decay: float
    discriminator_momentum: float


NETWORKS = ("generator", "discriminator")


def options_of(network: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of one network of a GAN: those for both, and its own."""
    both = {k: x for k, x in options.items() if k.partition("_")[0] not in NETWORKS}
    begin = f"{network}_"
    own = {k.removeprefix(begin): x for k, x in options.items() if k.startswith(begin)}
    return {"update": "adam"} | both | own


def make_update(
    owner: str, arrays: Sequence[Array], *, update: str, **options: Any
) -> Update:
    """Return the update of that name for the arrays.

    Args:
        owner: the caller, for the error.
        arrays: the arrays to update.
        update: "adam", "adamw" or "sgd".
        **options: the other arguments of the update: lr, betas, ...

    Raises:
        TypeError: the update has no such option, or a required one is missing.
        ValueError: no update has that name, or a number is out of range.

    """
    checks.choice(owner, "update", update, tuple(UPDATES))
    kind = UPDATES[update]
    _, *known = signature(kind).parameters.values()
    names = [p.name for p in known]
    for name in options:
        if name not in names:
            raise TypeError(
                f"{owner}: {name!r} is not an argument; update={update!r} takes "
                f"{', '.join(names)}"
            )
    for p in known:
        if p.default is p.empty and p.name not in options:
            raise TypeError(f"{owner}: update={update!r} needs {p.name}")
    return kind(arrays, **options)


# --- Averages -----------------------------------------------------------------------


AVERAGE = Kernel(
    "average", "T p", "T mean", "mean += share * (p - mean);", numbers="T share"
)


class AverageUpdate:
    """An exponential moving average (EMA): p̄ ← decay · p̄ + (1 − decay) · p.

    It starts from the current parameters. Averaging removes much of the noise of the
    steps (Polyak & Juditsky 1992); it helps most for the generator of a GAN (Yazıcı et
    al. 2019).

    Args:
        arrays: the parameters; each average has the dtype of its parameter.
        decay: in [0, 1); the average covers about 1 / (1 − decay) steps.

    Raises:
        ValueError: decay is out of range.

    """

    def __init__(self, arrays: Sequence[Array], decay: float) -> None:
        self.decay = checks.number("EMA", "decay", decay, "[0, 1)")
        self._arrays = _listed("EMA", arrays)
        self._averages = [a.copy() for a in self._arrays]
        self._scratch = [
            a[: rows_in_block(a)].copy() for a in map(at_least_1d, self._arrays)
        ]
        self._depth = 0  # the number of open `with average():` blocks
        self._kept: list[Array] = []  # copies of the parameters, inside such a block

    def update(self) -> None:
        """Add the current parameters to the average; nothing is allocated.

        Raises:
            ValueError: inside `with average():`, where the parameters are the average.
            ArrayError: an average is read-only; nothing was changed.

        """
        if self._depth:
            raise ValueError("EMA.update: inside average(), parameters are averages")
        refuse_read_only("EMA.update", self._averages, "has an average that ")
        for a, mean, scratch in zip(
            self._arrays, self._averages, self._scratch, strict=True
        ):
            p, m = at_least_1d(a), at_least_1d(mean)
            if backend.run_kernel(AVERAGE, 1 - self.decay, p, m):
                continue
            for block in blocks(p):
                p_, m_ = p[block], m[block]
                s = scratch[: len(p_)]
                # p̄ + (1 − decay)·(p − p̄): where p = p̄, nothing is rounded.
                np.subtract(p_, m_, out=s)
                np.multiply(s, 1 - self.decay, out=s)
                np.add(m_, s, out=m_)

    @contextlib.contextmanager
    def average(self) -> Iterator[None]:
        """Replace the parameters by the averages inside `with ema.average():`.

        When the outermost block ends, also by an exception, the parameters have their
        former values again.

        Raises:
            ArrayError: a parameter is read-only, and nothing was changed; or, at the
                end, some could not be written, and all others are restored.

        """
        self.put()
        try:
            yield
        finally:
            self.give_back()

    def put(self) -> None:
        """Replace the parameters by the averages; `give_back` must follow."""
        if not self._depth:
            refuse_read_only("EMA.average", self._arrays)
            self._kept = [a.copy() for a in self._arrays]
        self._depth += 1
        if self._depth == 1:
            try:
                for a, mean in zip(self._arrays, self._averages, strict=True):
                    a[...] = mean
            except BaseException:
                self.give_back()
                raise

    def give_back(self) -> None:
        """Restore the parameters, if this ends the outermost block."""
        self._depth -= 1
        if self._depth:
            return
        try:
            self._restore()
        except KeyboardInterrupt:
            self._restore()
            raise
        finally:
            self._kept = []

    def _restore(self) -> None:
        faults = []
        for i, (a, kept) in enumerate(zip(self._arrays, self._kept, strict=True)):
            try:
                locked = checks.read_only(a)
                if locked:  # it became read-only inside the block
                    a.flags.writeable = True
                a[...] = kept
                if locked:
                    a.flags.writeable = False
            except ValueError as error:
                faults.append((i, f"still holds averages: {error}"))
        if faults:
            raise ArrayError("EMA.average", faults)

    def take_from(self, arrays: Sequence[Array]) -> None:
        """Average these arrays from now on, of the same shapes: those of a copy."""
        self._arrays = list(arrays)

    def __getstate__(self) -> dict[str, Any]:
        if self._depth:
            raise ValueError("EMA: inside average() it cannot be copied or pickled")
        return vars(self)

    def state_arrays(self) -> dict[str, Array]:
        """Return the arrays of the averages."""
        return {f"average.{i}": a for i, a in enumerate(self._averages)}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copy the averages to the host."""
        return copy_state(self.state_arrays())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a copy that `state_dict` made.

        Raises:
            ValueError: a name, shape or dtype differs; nothing was changed.

        """
        load_state("EMA.load_state_dict", self.state_arrays(), state)
