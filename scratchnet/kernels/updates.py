"""What a step by the engine and a step by hand share, down to the last bit.

Initialisers, flat buffers, the updates of SGD and Adam, activations in place, and
the checks of what comes in. Everything that runs in a training step writes into
arrays that exist already: plain NumPy calls with `out=`, nothing allocated. What
changes from step to step (Adam's t, the learning rate) is kept in arrays too, so
that a recorded step can be replayed without asking Python again. Where a GPU gains by
it, a chain of calls is one kernel in C too, and the NumPy calls follow it.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike

from scratchnet import backend, checks
from scratchnet.backend import Array, Fused

Initialiser = Callable[..., Array]

# --- Initialisers -------------------------------------------------------------------
#
# `(rng, (d_in, d_out), dtype) -> W`. Each is drawn in float64 and then cast, so a
# float32 and a float64 model of one seed start from the same numbers.


def glorot_uniform(
    rng: np.random.Generator, shape: tuple[int, int], dtype: DTypeLike = np.float32
) -> Array:
    """Draw W from U(-r, r), r = √(6 / (d_in + d_out)).

    The variance 2 / (d_in + d_out) is a compromise that keeps the size of values on
    the way forward, and of gradients on the way back, about the same in all layers
    (Glorot & Bengio 2010, equation 16).
    """
    d_in, d_out = _check_initialiser("glorot_uniform", rng, shape, dtype)
    r = math.sqrt(6 / (d_in + d_out))
    return backend.asarray(rng.uniform(-r, r, shape), dtype)


def glorot_normal(
    rng: np.random.Generator, shape: tuple[int, int], dtype: DTypeLike = np.float32
) -> Array:
    """Draw W from N(0, 2 / (d_in + d_out)) (Glorot & Bengio 2010, equation 12)."""
    d_in, d_out = _check_initialiser("glorot_normal", rng, shape, dtype)
    std = math.sqrt(2 / (d_in + d_out))
    return backend.asarray(rng.normal(0.0, std, shape), dtype)


def he_uniform(
    rng: np.random.Generator, shape: tuple[int, int], dtype: DTypeLike = np.float32
) -> Array:
    """Draw W from U(-r, r), r = √(6 / d_in): the variance of `he_normal`."""
    d_in, _ = _check_initialiser("he_uniform", rng, shape, dtype)
    r = math.sqrt(6 / d_in)
    return backend.asarray(rng.uniform(-r, r, shape), dtype)


def he_normal(
    rng: np.random.Generator, shape: tuple[int, int], dtype: DTypeLike = np.float32
) -> Array:
    """Draw W from N(0, 2 / d_in), for layers followed by ReLU.

    ReLU halves the mean square of its input, and the 2 makes up for it (He et al.
    2015, equation 10).
    """
    d_in, _ = _check_initialiser("he_normal", rng, shape, dtype)
    std = math.sqrt(2 / d_in)
    return backend.asarray(rng.normal(0.0, std, shape), dtype)


def _check_initialiser(
    owner: str, rng: Any, shape: Any, dtype: DTypeLike
) -> tuple[int, int]:
    """Return the shape of a W, (d_in, d_out), or raise an error."""
    checks.rng(owner, rng)
    checks.dtype(owner, dtype)
    checks.sizes(owner, shape, "shape")
    if len(shape) != 2:
        raise ValueError(f"{owner}: shape is {shape}; (d_in, d_out) expected")
    return shape[0], shape[1]


# --- Flat buffers -------------------------------------------------------------------


def flat(
    shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike = np.float32
) -> tuple[Array, dict[str, Array]]:
    """Lay out named arrays one after another in a single buffer of zeros.

    One update of the buffer is then an update of every array in it. Each begins at a
    multiple of four entries, 16 bytes of float32, as a GPU's fast products want their
    matrices; what is between them stays zero.

    Returns:
        The buffer, and for each name its view of that shape.

    """
    places = {}
    stop = 0
    for name, shape in shapes.items():
        start = -(-stop // 4) * 4
        stop = start + math.prod(shape)
        places[name] = slice(start, stop)
    buffer = backend.zeros(stop, dtype)
    return buffer, {name: buffer[places[name]].reshape(shapes[name]) for name in shapes}


# --- State: named arrays, out and back in -------------------------------------------


def copy_state(arrays: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Copy named arrays to the host."""
    return {name: np.array(backend.to_numpy(a)) for name, a in arrays.items()}


def load_state(
    owner: str, arrays: Mapping[str, Array], state: Mapping[str, Any]
) -> None:
    """Write the values of `state` into `arrays`, all of them or none.

    Args:
        owner: who is asking, for the error.
        arrays: the named arrays to write into.
        state: for each name an array of the same shape and dtype.

    Raises:
        TypeError, ValueError: as for `check_state`; nothing was written.

    """
    write_state(arrays, check_state(owner, arrays, state))


def check_state(
    owner: str, arrays: Mapping[str, Array], state: Mapping[str, Any]
) -> dict[str, Array]:
    """Return the values that `write_state` is to write into `arrays`.

    They are copies: an array of `state` may be one of `arrays`, under another name.

    Raises:
        TypeError: `state` is not a mapping.
        ValueError: names are missing or unexpected, a shape or dtype differs, an array
            to write into is read-only, or a value has masked entries; every fault is
            listed.

    """
    if not isinstance(state, Mapping):
        raise TypeError(
            f"{owner}: a {type(state).__name__} given, a dict of arrays expected"
        )
    wrong = [f"missing: {name}" for name in arrays if name not in state]
    wrong += [f"unexpected: {name}" for name in state if name not in arrays]
    for name, a in arrays.items():
        if name in state and (fault := _state_fault(a, state[name])):
            wrong.append(f"{name}: {fault}")
    if wrong:
        raise ValueError("\n  ".join([f"{owner}: nothing was loaded", *wrong]))
    return {name: backend.asarray(state[name]).copy() for name in arrays}


def _state_fault(a: Array, value: Any) -> str | None:
    """Say why `value` cannot be written into `a`; None if it can."""
    if not backend.is_array(value):
        return f"a {type(value).__name__} given, an array expected"
    if value.shape != a.shape:
        return f"shape {value.shape} given, {a.shape} expected"
    if value.dtype != a.dtype:
        return f"{value.dtype} given, {a.dtype} expected"
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        return "masked entries given; pass what .filled(value) returns"
    return READ_ONLY if checks.read_only(a) else None


def write_state(arrays: Mapping[str, Array], values: Mapping[str, Array]) -> None:
    """Write what `check_state` returned."""
    for name, a in arrays.items():
        a[...] = values[name]


# --- What stops a write -------------------------------------------------------------

READ_ONLY = "is read-only; use a copy, or set its flags.writeable to True"


class ArrayError(ValueError):
    """Something is wrong with some of a list of arrays.

    Attributes:
        faults: for each of them its position in the list, and what is wrong. None is
            the position of what belongs to no single array.

    """

    def __init__(
        self,
        owner: str,
        faults: Sequence[tuple[int | None, str]],
        label: Callable[[int], str] = "arrays[{}]".format,
    ) -> None:
        self.owner = owner
        self.faults = list(faults)
        names = ["the update" if i is None else label(i) for i, _ in faults]
        lines = [f"{name} {why}" for name, (_, why) in zip(names, faults, strict=True)]
        super().__init__("\n  ".join([f"{owner}: {lines[0]}", *lines[1:]]))

    def __reduce__(self) -> Any:
        return type(self), (self.owner, self.faults)


def _refuse_read_only(owner: str, arrays: Sequence[Array], before: str = "") -> None:
    """Raise ArrayError unless all of these can be written."""
    found = [i for i, a in enumerate(arrays) if checks.read_only(a)]
    if found:
        raise ArrayError(owner, [(i, before + READ_ONLY) for i in found])


# --- Updates ------------------------------------------------------------------------

# What is passed over several times is worked on in blocks of about this many elements,
# which stay in the core's cache from one pass to the next. A device takes it at once.
BLOCK = 1 << 16


def _rows(a: Array) -> int:
    """Return how many rows of `a` make a block."""
    if not backend.on_host():
        return max(1, len(a))
    return max(1, BLOCK * len(a) // max(1, int(a.size)))


def _blocks(a: Array) -> Iterator[slice]:
    """Cut the rows of `a` into blocks."""
    rows = _rows(a)
    return (slice(i, i + rows) for i in range(0, len(a), rows))


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
        p: the parameters, of any shape but a 0-d one.
        g: dL/dp, of the same shape; only read.
        velocity: of the same shape; None stands for no momentum.
        scratch: at least one block of rows of `p`.
        lr: the learning rate, a 0-d array of the dtype of `p`.
        momentum: how much of the velocity stays, in [0, 1).

    """
    for block in _blocks(p):
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


ADAM = Fused(
    "adam", "T g, T lr_t, T eps_t, T keep, T beta1, T beta2", "T p, T m, T v",
    "m = beta1 * m + g;"
    "v = beta2 * v + g * g;"
    "p = keep * p - lr_t * (m / (sqrt(v) + eps_t));",
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

    The paper's moments are running means, of the gradient and of its square:

        m ← β1·m + (1 − β1)·g
        v ← β2·v + (1 − β2)·g²
        p ← p − lr · m̂ / (√v̂ + ε)              m̂ = m/c1, v̂ = v/c2, ci = 1 − βi^t

    What is a number and the same for all entries needs no pass over the arrays. Kept
    are m / (1 − β1) and v / (1 − β2), here called m and v:

        m ← β1·m + g
        v ← β2·v + g²
        p ← p − lr_t · m / (√v + eps_t)

    is the same, exactly, if lr_t and eps_t take the factors over: see `adam_scalars`.

    Args:
        p: the parameters, of any shape but a 0-d one.
        g: dL/dp, of the same shape; only read.
        m: the first moment, of the same shape.
        v: the second moment, of the same shape.
        scratch: at least one block of rows of `p`.
        lr_t: a 0-d array of the dtype of `p`.
        eps_t: a 0-d array of the dtype of `p`.
        beta1: the decay of m.
        beta2: the decay of v.
        keep: what p is multiplied by before, a 0-d array of its dtype: 1 − lr·λ for a
            decoupled weight decay λ (Loshchilov & Hutter 2019, Algorithm 2). None
            stands for 1.

    """
    kept = 1.0 if keep is None else keep
    if backend.fused(ADAM, g, lr_t, eps_t, kept, beta1, beta2, p, m, v):
        return
    for block in _blocks(p):
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


ADAM_SCALARS = Fused(
    "adam_scalars", "float64 lr, float64 beta1, float64 beta2, float64 eps",
    "float64 t, float64 lr_t, float64 eps_t",
    "t += 1;"
    "double r = sqrt((1 - pow(beta2, t)) / (1 - beta2));"
    "lr_t = r / (1 - pow(beta1, t)) * (1 - beta1) * lr;"
    "eps_t = r * eps;",
)  # fmt: skip


def adam_scalars(
    t: Array,
    lr: Array,
    lr_t: Array,
    eps_t: Array,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Count one step in `t`, and write what `adam_update` needs of it.

        m̂ = (1 − β1)/c1 · m,   v̂ = (1 − β2)/c2 · v,   m and v as they are kept
        lr · m̂ / (√v̂ + ε) = lr_t · m / (√v + eps_t)

    with r = √(c2 / (1 − β2)), lr_t = lr · r · (1 − β1)/c1 and eps_t = r · ε. All are
    0-d float64 arrays, written in place; ci = 1 − βi^t.
    """
    if backend.fused(ADAM_SCALARS, lr, *betas, eps, t, lr_t, eps_t):
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


# --- Learning rates -----------------------------------------------------------------

# A learning rate is a number, or a function of the number of steps taken so far.
Rate = float | Callable[[int], float]


def cosine_decay(lr: float, steps: int, final: float = 0.0) -> Callable[[int], float]:
    """Return the rate that falls from `lr` to `final` as half a cosine.

    final + (lr − final) · (1 + cos(π t / steps)) / 2 in step t = 0, 1, ... (Loshchilov
    & Hutter 2017, equation 5, without restarts). From t = steps on it stays where the
    last step had it, which is above `final`: a rate is positive.

    Raises:
        TypeError, ValueError: lr or steps is not positive, or final not in [0, lr].

    """
    _check_decay("cosine_decay", lr, steps, final)
    return partial(_cosine, lr=lr, steps=steps, final=final)


# The rates are functions of the module, so that they can be pickled.


def _cosine(t: int, *, lr: float, steps: int, final: float) -> float:
    part = min(t, steps - 1) / steps
    # (1 + cos 2a) / 2 = cos² a, which is not rounded to 0 near the end.
    return final + (lr - final) * math.cos(math.pi / 2 * part) ** 2


def hold_then_decay(
    lr: float, steps: int, hold: float = 0.5, final: float = 0.0
) -> Callable[[int], float]:
    """Return the rate that is `lr` for a while, then falls to `final` in a line.

    So GANs are often trained (Zhu et al. 2017, section 4).

    Args:
        lr: the rate of the first hold · steps steps.
        steps: from t = steps on it stays where the last step had it, above `final`.
        hold: the fraction of the steps that come before the fall, in [0, 1).
        final: where it would be in step t = steps, in [0, lr].

    Raises:
        TypeError, ValueError: a number is out of its range.

    """
    _check_decay("hold_then_decay", lr, steps, final)
    held = checks.number("hold_then_decay", "hold", hold, "[0, 1)") * steps
    return partial(_line, lr=lr, steps=steps, held=held, final=final)


def _line(t: int, *, lr: float, steps: int, held: float, final: float) -> float:
    part = max(0.0, min(t, steps - 1) - held) / (steps - held)
    return lr + (final - lr) * part


def _check_decay(owner: str, lr: float, steps: int, final: float) -> None:
    checks.number(owner, "lr", lr, checks.POSITIVE)
    checks.count(owner, "steps", steps)
    checks.number(owner, "final", final, f"[0, {lr}]")


# --- Updates of lists of arrays -----------------------------------------------------


class Update(Protocol):
    """What changes parameters: `SGDUpdate`, `AdamUpdate`, or one of your own."""

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""

    @lr.setter
    def lr(self, lr: Rate) -> None: ...

    def apply(self, arrays: Sequence[Array], gradients: Sequence[Array | None]) -> None:
        """Take one step, in place; an array whose gradient is None stays."""

    def state_arrays(self) -> dict[str, Array]:
        """Return what a resumed run needs, itself."""

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copy what a resumed run needs to the host."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from such a copy, or change nothing and say what differs."""


class _Update:
    """What both updates keep: a learning rate, the count of steps, scratch, state."""

    _name: str  # in errors

    def __init__(self, arrays: Sequence[Array], lr: Rate) -> None:
        arrays = _listed(self._name, arrays)
        self._made_for = [(a.shape, a.dtype) for a in arrays]
        self._on_host = all(isinstance(a, np.ndarray) for a in arrays)
        self._state: dict[str, Array] = {
            "lr": backend.zeros((), np.float64),
            "t": backend.zeros((), np.float64),
        }
        # The same on the host, where a rate that is a function is called.
        self._steps = 0
        self._rate: Rate
        self.lr = lr
        self._scratch = []
        buffers: dict[Any, Array] = {}
        # The rate and what Adam makes of it, in the dtype of the arrays: a float64
        # number in an array would pull a float32 computation up to float64.
        self._scalars: dict[Any, list[Array]] = {}
        for dtype in dict.fromkeys(a.dtype for a in arrays):
            same = [at_least_1d(a) for a in arrays if a.dtype == dtype]
            size = max((_rows(a) * a[:1].size for a in same), default=0)
            buffers[dtype] = backend.empty(size, dtype)
            self._scalars[dtype] = [backend.zeros((), dtype) for _ in range(3)]
        for a in map(at_least_1d, arrays):
            rows = min(len(a), _rows(a))
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
        """Return what `rate` is in the next step; ValueError unless it is positive."""
        if callable(rate):
            owner = f"{self._name}, step {self._steps}"
            return checks.number(owner, "lr", rate(self._steps), checks.POSITIVE)
        return checks.number(self._name, "lr", rate, checks.POSITIVE)

    def _checked(
        self, arrays: Sequence[Array], gradients: Sequence[Array | None]
    ) -> Sequence[Array | None]:
        """Return the gradients as plain arrays if a step can be taken as a whole.

        Raises:
            ValueError: there are more arrays or fewer than this was made for.
            ArrayError: an array or its gradient is not what this was made for, or an
                array, or what is kept for it, is read-only.

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
        """Return whether all is as it should be, of arrays on the host: a fast look."""
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
        """Set the rate of this step, and count it; `t` is counted by the caller."""
        if callable(self._rate):
            self._state["lr"][...] = self.lr
        self._steps += 1

    def _moments(self, name: str, arrays: Sequence[Array]) -> list[Array]:
        """Make zeros like each array, and keep them as state."""
        made = [backend.zeros(a.shape, a.dtype) for a in arrays]
        self._state.update({f"{name}.{i}": a for i, a in enumerate(made)})
        return made  # and no views of them, which a copy would tear from the state

    def state_arrays(self) -> dict[str, Array]:
        """Return the learning rate, the moments and the count of steps themselves."""
        return self._state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copy the learning rate, the moments and the count of steps to the host."""
        return copy_state(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a copy that `state_dict` made.

        A learning rate that is a function stays, and goes on from the count of steps.

        Raises:
            ValueError: a name, shape or dtype differs, an array is read-only, or a
                number is out of its range; nothing was changed.

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
        """Raise ValueError if numbers in a state are not what they may be."""


def _step_fault(a: Array, g: Any, shape: tuple[int, ...], dtype: Any) -> str | None:
    """Say why `a`, once of that shape and dtype, cannot be moved by the gradient g."""
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


def at_least_1d(a: Array) -> Array:
    """Return a view of `a` that has rows."""
    return a if a.ndim else a.reshape(1)


class SGDUpdate(_Update):
    """Gradient descent with momentum, over a list of arrays (see `sgd_update`).

    Args:
        arrays: what will be updated; only shapes and dtypes are read here.
        lr: the learning rate, positive: a number, or a function of the number of steps
            taken so far.
        momentum: how much of the velocity stays from step to step, in [0, 1).

    Raises:
        ValueError: a number is out of its range. If it is the rate of a later step,
            that step changes nothing; nor does one that finds an array read-only, or
            of another shape or dtype (`ArrayError`).

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
        arrays: what will be updated; only shapes and dtypes are read here.
        lr: the learning rate, positive: a number, or a function of the number of steps
            taken so far.
        betas: the decays of the two moments, each in [0, 1).
        eps: added to the root of v̂, positive.
        weight_decay: λ of p ← p − lr·λ·p beside each step (Loshchilov & Hutter 2019),
            at least 0.

    Raises:
        ValueError: as for `SGDUpdate`.

    """

    _name = "Adam"

    def __init__(
        self,
        arrays: Sequence[Array],
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
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
        # What m and v are kept without depends on them (see `adam_update`).
        self._state["betas"] = backend.asarray(self.betas, np.float64)
        self.eps = checks.number(self._name, "eps", eps, checks.POSITIVE)
        self.weight_decay = checks.number(
            self._name, "weight_decay", weight_decay, "[0, inf)"
        )
        self._lr_t = backend.zeros((), np.float64)
        self._eps_t = backend.zeros((), np.float64)
        self._keep = backend.zeros((), np.float64)
        self._m = self._moments("m", arrays)
        self._v = self._moments("v", arrays)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a copy that `state_dict` made, with its betas; as for SGD."""
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


# --- Averages -----------------------------------------------------------------------


class EMA:
    """An exponential moving average of parameters: p̄ ← decay · p̄ + (1 − decay) · p.

    It starts at the parameters as they are. Averaged weights end nearer to the middle
    of what training wanders about (Polyak & Juditsky 1992), which helps the generator
    of a GAN most (Yazıcı et al. 2019).

    Args:
        arrays: the parameters, which are averaged in their own dtype.
        decay: in [0, 1); about 1 / (1 − decay) steps are remembered.

    Raises:
        ValueError: decay is out of its range.

    """

    def __init__(self, arrays: Sequence[Array], decay: float) -> None:
        self.decay = checks.number("EMA", "decay", decay, "[0, 1)")
        self._arrays = _listed("EMA", arrays)
        self._averages = [a.copy() for a in self._arrays]
        self._scratch = [a[: _rows(a)].copy() for a in map(at_least_1d, self._arrays)]
        self._depth = 0  # of the `with average():` that are open
        self._kept: list[Array] = []  # the parameters, while there are any

    def update(self) -> None:
        """Take the parameters as they are now into the average; nothing is allocated.

        Raises:
            ValueError: inside `with average():`, where the parameters are the average.
            ArrayError: an average is read-only; nothing was changed.

        """
        if self._depth:
            raise ValueError("EMA.update: inside average(), parameters are averages")
        _refuse_read_only("EMA.update", self._averages, "has an average that ")
        for a, mean, scratch in zip(
            self._arrays, self._averages, self._scratch, strict=True
        ):
            p, m = at_least_1d(a), at_least_1d(mean)
            for block in _blocks(p):
                p_, m_ = p[block], m[block]
                s = scratch[: len(p_)]
                # p̄ + (1 − decay)·(p − p̄): at rest, p is its average to the last bit.
                np.subtract(p_, m_, out=s)
                np.multiply(s, 1 - self.decay, out=s)
                np.add(m_, s, out=m_)

    @contextlib.contextmanager
    def average(self) -> Iterator[None]:
        """Put the averages in the place of the parameters: `with ema.average():`.

        The parameters come back when the outermost block ends, whatever happened in it.

        Raises:
            ArrayError: a parameter is read-only, and nothing was changed; or, at the
                end, some could not be written, and all others are back.

        """
        self.put()
        try:
            yield
        finally:
            self.give_back()

    def put(self) -> None:
        """Put the averages in the place of the parameters; `give_back` must follow."""
        if not self._depth:
            _refuse_read_only("EMA.average", self._arrays)
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
        """Put the parameters back, if this ends the outermost block."""
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
                if locked:  # since the block began
                    a.flags.writeable = True
                a[...] = kept
                if locked:
                    a.flags.writeable = False
            except ValueError as error:
                faults.append((i, f"still holds averages: {error}"))
        if faults:
            raise ArrayError("EMA.average", faults)

    def take_from(self, arrays: Sequence[Array]) -> None:
        """Average these arrays from now on, of the same shapes: a copied model's."""
        self._arrays = list(arrays)

    def __getstate__(self) -> dict[str, Any]:
        if self._depth:
            raise ValueError("EMA: inside average() it cannot be copied or pickled")
        return vars(self)

    def state_arrays(self) -> dict[str, Array]:
        """Return the averages themselves."""
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


# --- Activations, in place ----------------------------------------------------------

ADD_ROW = Fused("add_row", "raw T b, uint32 d", "T a", "a += b[(unsigned int)i % d];")


def add_row(a: Array, b: Array) -> None:
    """Add the row b (d,) to every row of a (n, d)."""
    # On a GPU np.add counts rows and columns, which makes it slower than a copy.
    if not backend.fused(ADD_ROW, b, len(b), a):
        np.add(a, b, out=a)


class Activation(NamedTuple):
    """An activation h = f(a) and its derivative, both without new memory.

    `forward(a, scratch)` overwrites a with h. `backward(delta, h)` overwrites delta
    with delta ⊙ f'(a), f' being written through h alone, and uses up h.
    """

    forward: Callable[[Array, Array], None]
    backward: Callable[[Array, Array], None]


def _linear(a: Array, scratch: Array) -> None:
    pass


def _linear_backward(delta: Array, h: Array) -> None:
    pass  # f' = 1


def _relu(a: Array, scratch: Array) -> None:
    np.maximum(a, 0, out=a)


LEAKY_RELU = Fused("leaky_relu", "T slope", "T a", "a = a > 0 ? a : slope * a;")
STEPS = Fused(
    "steps", "T slope", "T delta, T h", "h = h > 0 ? T(1) : slope; delta *= h;"
)


def _leaky_relu(slope: float) -> Callable[[Array, Array], None]:
    def forward(a: Array, scratch: Array) -> None:
        if backend.fused(LEAKY_RELU, slope, a):
            return
        np.multiply(a, slope, out=scratch)
        np.maximum(a, scratch, out=a)  # right while slope < 1

    return forward


def _steps(slope: float) -> Callable[[Array, Array], None]:
    def backward(delta: Array, h: Array) -> None:
        if backend.fused(STEPS, slope, delta, h):
            return
        # f' = 1 where h > 0, else slope: rounded up, h > 0 is at least 1. (np.sign
        # takes ten times as long: the processor cannot guess where it branches.)
        np.ceil(h, out=h)
        np.clip(h, slope, 1, out=h)
        np.multiply(delta, h, out=delta)

    return backward


SIGMOID = Fused("sigmoid", "", "T a", "a = 1 / (1 + exp(-a));")
SIGMOID_BACKWARD = Fused(
    "sigmoid_backward", "", "T delta, T h", "delta *= h * (1 - h);"
)


def _sigmoid(a: Array, scratch: Array) -> None:
    if backend.fused(SIGMOID, a):
        return
    np.negative(a, out=a)
    # exp(-a) becomes inf for a very negative a, and 1 / (1 + inf) = 0 is right.
    with np.errstate(over="ignore"):
        np.exp(a, out=a)
        np.add(a, 1, out=a)
    np.divide(1, a, out=a)


def _sigmoid_backward(delta: Array, h: Array) -> None:
    if backend.fused(SIGMOID_BACKWARD, delta, h):
        return
    np.multiply(delta, h, out=delta)
    np.subtract(1, h, out=h)
    np.multiply(delta, h, out=delta)  # f' = h (1 - h)


def _tanh(a: Array, scratch: Array) -> None:
    np.tanh(a, out=a)


TANH_BACKWARD = Fused("tanh_backward", "", "T delta, T h", "delta *= 1 - h * h;")


def _tanh_backward(delta: Array, h: Array) -> None:
    if backend.fused(TANH_BACKWARD, delta, h):
        return
    np.multiply(h, h, out=h)
    np.subtract(1, h, out=h)  # f' = 1 - h²
    np.multiply(delta, h, out=delta)


ACTIVATIONS = ("linear", "relu", "leaky_relu", "sigmoid", "tanh")


def activation(name: str, slope: float = 0.2) -> Activation:
    """Return the activation of that name; `slope` is leaky_relu's, in [0, 1).

    Raises:
        ValueError: there is no activation of that name, or `slope` is out of range.

    """
    checks.choice("activation", "name", name, ACTIVATIONS)
    slope = checks.number("leaky_relu", "slope", slope, "[0, 1)")
    if name == "leaky_relu":
        return Activation(_leaky_relu(slope), _steps(slope))
    return {
        "linear": Activation(_linear, _linear_backward),
        "relu": Activation(_relu, _steps(0)),
        "sigmoid": Activation(_sigmoid, _sigmoid_backward),
        "tanh": Activation(_tanh, _tanh_backward),
    }[name]


CROSS_ENTROPY = Fused(
    "cross_entropy", "T x", "T a, T delta, T terms",
    "T s = 1 / (1 + exp(-a));"
    "terms = (a > 0 ? a : T(0)) - a * x - log(s > 1 - s ? s : 1 - s);"
    "a = s;"
    "delta = s - x;",
)  # fmt: skip


def cross_entropy(
    a: Array, x: Array, loss: Array, delta: Array, scratch: Array
) -> None:
    """Compute the cross-entropy of logits, and its derivative, which comes along.

        loss  = Σ −x·log σ(a) − (1 − x)·log(1 − σ(a)), over the last axis
              = Σ max(a, 0) − a·x − log σ(|a|)
        delta = σ(a) − x

    The second form is the first with log(1 − σ(a)) = log σ(a) − a; no logit makes it
    overflow. σ(|a|) is the larger of σ(a) and 1 − σ(a). Each term is right to the
    digits of 1/2: in float32, to 6e-8 nats.

    Args:
        a: the logits (n, ..., d), which become σ(a).
        x: the target, in [0, 1], of a shape (n, ...) that broadcasts to theirs.
        loss: memory (n, ...), one axis less.
        delta: memory of the shape of a.
        scratch: more memory of that shape.

    """
    if backend.fused(CROSS_ENTROPY, x, a, delta, scratch[: len(a)]):
        np.sum(scratch[: len(a)], axis=-1, out=loss)
        return
    for part in _blocks(a):
        s, target, d = a[part], x[part], delta[part]
        terms = scratch[: len(s)]
        np.maximum(s, 0, out=terms)
        np.multiply(s, target, out=d)
        np.subtract(terms, d, out=terms)
        _sigmoid(s, d)
        np.subtract(1, s, out=d)
        np.maximum(s, d, out=d)
        np.log(d, out=d)
        np.subtract(terms, d, out=terms)
        np.sum(terms, axis=-1, out=loss[part])
        np.subtract(s, target, out=d)


# --- Stacks ------------------------------------------------------------------------


def layer_names(sizes: Sequence[int], k: int) -> dict[str, str]:
    """Map the names in an autoencoder of one layer to those of layer k of a stack.

    Raises:
        ValueError: there is no layer k = 1, ..., len(sizes) - 1.

    """
    C = len(sizes) - 1
    checks.count("layer", "k", k)
    if not 1 <= k <= C:
        raise ValueError(f"layer: k is {k}; 1 to {C} expected, one for each layer")
    places = {"encoder": 2 * (k - 1), "decoder": 2 * (C - k)}
    return {f"{net}.0.{p}": f"{net}.{i}.{p}" for net, i in places.items() for p in "Wb"}


def layer_options(sizes: Sequence[int], k: int) -> dict[str, Any]:
    """Return in which options of an autoencoder layer k differs from its stack."""
    # A generator of its own: the weights that it draws are not the stack's.
    options: dict[str, Any] = {"rng": np.random.default_rng(0)}
    if k < len(sizes) - 1:
        options |= {"active_code": True}
    if k > 1:
        options |= {"output": "activation", "loss": "squared"}
    return options
