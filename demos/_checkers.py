"""Gradient checkers under one interface, each at its defaults, for demos/gradcheck.py.

A checker is a function of a `Pair`. It returns a `Verdict`, or None if it cannot judge
the pair. The frameworks get the NumPy functions as their own custom functions, in
float64.
"""

import importlib.metadata
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from demos._gradients import Array, Pair
from scratchnet.testing import gradcheck
from scratchnet.testing.problems import argument_names

STEP = 1e-5  # of the central differences
TOLERANCE = 1e-4  # of their relative error
SCIPY_TOLERANCE = 1e-6  # of scipy.optimize.check_grad's error, over the gradient's norm


class Verdict(NamedTuple):
    """Whether a gradient was accepted; else the input and the entry that was named."""

    accepted: bool
    input: int | None = None
    index: tuple[int, ...] | None = None


Checker = Callable[[Pair], Verdict | None]


def gradient_of(pair: Pair) -> Callable[..., Any]:
    """Return the gradient of a pair whose function returns a number."""
    if len(pair.inputs) == 1:
        return lambda x: pair.vjp(1.0, x)[0]
    return lambda *xs: pair.vjp(1.0, *xs)


def is_number(pair: Pair) -> bool:
    """Return whether the function returns a number."""
    return np.ndim(pair.f(*pair.inputs)) == 0


def scratchnet(pair: Pair) -> Verdict:
    """Check with scratchnet."""
    derivative = gradient_of(pair) if is_number(pair) else pair.vjp
    report = gradcheck(
        (pair.f, derivative), pair.inputs, allow=pair.allow, raise_exception=False
    )
    names = argument_names(pair.f, len(pair.inputs))
    named = names.index(report.input) if report.input in names else None
    return Verdict(bool(report), named, report.index)


def central_differences(pair: Pair) -> Verdict:
    """Check each entry with one step, as courses teach it."""
    rng = np.random.default_rng(0)
    g = rng.standard_normal(np.shape(pair.f(*pair.inputs)))
    gradients = pair.vjp(g, *pair.inputs)
    worst: tuple[float, int, tuple[int, ...]] = (-1.0, 0, ())
    for j, (x, a) in enumerate(zip(pair.inputs, gradients, strict=True)):
        a = np.zeros_like(x) if a is None else np.asarray(a)
        if a.shape != x.shape:
            return Verdict(False, j)
        for i in np.ndindex(x.shape):
            sides = [_moved(pair, g, j, i, h) for h in (STEP, -STEP)]
            numeric = (sides[0] - sides[1]) / (2 * STEP)
            size = max(abs(a[i]), abs(numeric))
            error = abs(a[i] - numeric) / size if size else 0.0
            worst = max(worst, (error if error == error else np.inf, j, i))
    return Verdict(worst[0] <= TOLERANCE, worst[1], worst[2])


def _moved(pair: Pair, g: Array, j: int, i: tuple[int, ...], h: float) -> float:
    xs = [x.copy() for x in pair.inputs]
    xs[j][i] += h
    with np.errstate(all="ignore"):
        return float(np.sum(g * pair.f(*xs)))


def torch_checkers() -> dict[str, Checker]:
    """Return torch's gradcheck, in its slow and its fast mode."""
    import torch

    def function_of(pair: Pair) -> Any:
        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *xs: Any) -> Any:
                ctx.save_for_backward(*xs)
                y = pair.f(*(x.detach().numpy().copy() for x in xs))
                return torch.from_numpy(np.array(y, np.float64))

            @staticmethod
            def backward(ctx: Any, g: Any) -> Any:
                xs = (x.detach().numpy().copy() for x in ctx.saved_tensors)
                found = pair.vjp(g.numpy().copy(), *xs)
                return tuple(
                    None if d is None else torch.from_numpy(np.array(d, np.float64))
                    for d in found
                )

        return Function.apply

    def check(pair: Pair, fast: bool) -> Verdict:
        inputs = [torch.from_numpy(x.copy()).requires_grad_() for x in pair.inputs]
        try:
            torch.autograd.gradcheck(function_of(pair), inputs, fast_mode=fast)
        except (RuntimeError, ValueError):  # GradcheckError is a RuntimeError
            return Verdict(False)
        return Verdict(True)

    return {
        "torch, slow": lambda pair: check(pair, False),
        "torch, fast": lambda pair: check(pair, True),
    }


def jax_checker() -> Checker:
    """Return JAX's check_grads, in reverse mode."""
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)

    def function_of(pair: Pair) -> Any:
        shape = jax.ShapeDtypeStruct(np.shape(pair.f(*pair.inputs)), np.float64)
        shapes = tuple(jax.ShapeDtypeStruct(x.shape, np.float64) for x in pair.inputs)

        @jax.custom_vjp
        def function(*xs: Any) -> Any:
            return jax.pure_callback(value, shape, *xs)

        def value(*xs: Any) -> Any:
            return np.asarray(pair.f(*(np.array(x) for x in xs)), np.float64)

        def pull(g: Any, *xs: Any) -> Any:
            found = pair.vjp(np.array(g), *(np.array(x) for x in xs))
            pairs = zip(found, xs, strict=True)
            return tuple(np.array(np.zeros_like(x) if d is None else d, np.float64)
                         for d, x in pairs)  # fmt: skip

        function.defvjp(
            lambda *xs: (function(*xs), xs),
            lambda xs, g: jax.pure_callback(pull, shapes, g, *xs),
        )
        return function

    def check(pair: Pair) -> Verdict:
        try:
            check_grads(function_of(pair), pair.inputs, order=1, modes=["rev"])
        except (AssertionError, TypeError, ValueError, RuntimeError):
            return Verdict(False)
        return Verdict(True)

    return check


def scipy_checker() -> Checker:
    """Return scipy.optimize.check_grad, for functions that return a number."""
    from scipy.optimize import check_grad

    def check(pair: Pair) -> Verdict | None:
        if not is_number(pair):
            return None
        ends = np.cumsum([x.size for x in pair.inputs])[:-1]

        def split(v: Array) -> list[Array]:
            parts = zip(np.split(v, ends), pair.inputs, strict=True)
            return [part.reshape(x.shape) for part, x in parts]

        def gradient(v: Array) -> Array:
            return np.concatenate([np.ravel(d) for d in pair.vjp(1.0, *split(v))])

        x0 = np.concatenate([x.ravel() for x in pair.inputs])
        with np.errstate(all="ignore"):
            error = check_grad(lambda v: pair.f(*split(v)), gradient, x0)
        size = float(np.linalg.norm(gradient(x0))) or 1.0
        return Verdict(bool(error <= SCIPY_TOLERANCE * size))

    return check


def installed() -> tuple[dict[str, Checker], dict[str, str]]:
    """Return the checkers that can run, and why others cannot."""
    found: dict[str, Checker] = {
        "scratchnet": scratchnet,
        "central differences": central_differences,
    }
    missing = {}
    for library, make in {
        "torch": torch_checkers,
        "jax": lambda: {"JAX": jax_checker()},
        "scipy": lambda: {"SciPy": scipy_checker()},
    }.items():
        try:
            found |= make()
        except ImportError as error:
            missing[library] = str(error)
    return found, missing


def versions() -> str:
    """Return the versions of the libraries that are installed."""
    found = []
    for library in ("numpy", "torch", "jax", "scipy"):
        try:
            found.append(f"{library} {importlib.metadata.version(library)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
