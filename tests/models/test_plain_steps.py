"""Each step in plain NumPy in the docstrings of byhand/ equals the fast step.

The lines of the docstring run with NumPy alone. The loss, every gradient and the
updated weights are then compared with those of the model.
"""

import ast
import inspect
import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pytest

from scratchnet import byhand
from scratchnet.byhand import autoencoder, denoising, gan, iwae, mlp, stacked, vae
from scratchnet.kernels import activations
from tests.helpers import assert_same, noise, rng, samples, shake

HEADING = "\nThe step in plain NumPy\n"
LR = 0.1
SIZES = (7, 6, 5, 4)  # n rows, d columns, hidden units, length of the code


# --- The lines of a docstring -------------------------------------------------------


@cache
def blocks(module):
    """Return the statements of each indented block below the heading."""
    text = module.__doc__.partition(HEADING)[2].partition("\n\n\n")[0] + "\n"
    found = re.findall(r"(?:^(?: {4}.*)?\n)+", text, re.MULTILINE)
    return [ast.parse(inspect.cleandoc(block)).body for block in found if block.strip()]


def assigned(line):
    return ast.unparse(line.targets[0]) if isinstance(line, ast.Assign) else None


def with_lines(step, lines):
    """Insert these lines into the step.

    A line replaces the one that assigns the same name. If there is none, it goes before
    the next line; the last ones go before the update.
    """
    step, new = list(step), []
    for line in lines:
        new.append(line)
        names = [assigned(old) for old in step]
        if assigned(line) in set(names) - {None}:
            place = names.index(assigned(line))
            step[place : place + 1] = new
            new = []
    end = len(step) - isinstance(step[-1], ast.For)
    return step[:end] + new + step[end:]


@cache
def compiled(line):
    return compile(ast.Module([line], type_ignores=[]), "docstring", "exec")


def run(step, given, off=(None, None)):
    """Run statements with NumPy and copies of the arrays; return all names.

    With off=(i, name), that name is changed by 1e-6 after line i.
    """
    names = copies(given)
    for i, line in enumerate(step):
        exec(compiled(line), {"np": np, "__builtins__": {}}, names)
        if i == off[0]:
            names[off[1]] = names[off[1]] + 1e-6
    return names


def copies(arrays):
    return {name: np.copy(a) for name, a in arrays.items()}


# --- The fast steps -----------------------------------------------------------------
# Each returns the inputs of the plain lines and their expected results.


def named(model, names):
    """Return parameters and gradients as plain names: W1, b1, ... and dW1, db1, ..."""
    pairs = zip(names, model.parameters.values(), model.gradients.values(), strict=True)
    return {k: v for name, p, g in pairs for k, v in ((name, p), (f"d{name}", g))}


def options(**more):
    made = {"rng": rng(), "dtype": np.float64, "update": "sgd", "lr": LR}
    return made | more


NAMES = tuple(f"{kind}{k}" for k in (1, 2, 3, 4) for kind in "Wb")


def minimiser(model, names, batch, **given):
    """Return the inputs and the results of one step of a model with one loss."""
    shake(model)
    arrays = named(model, names)
    given |= copies({name: arrays[name] for name in names}) | {"n": len(batch[0])}
    loss = float(model.step(*batch))
    return given, arrays | {"loss": loss}


def fast_mlp(sizes):
    n, *sizes = sizes[:4]
    shapes = mlp.shapes("net", sizes)
    parameters = {name: rng(3).normal(size=shape) for name, shape in shapes.items()}
    gradients = {name: np.zeros(shape) for name, shape in shapes.items()}
    network = mlp.MLP(
        "net", sizes, parameters, gradients, rows=n, dtype=np.float64,
        activation=activations.activation("tanh"), inputs=True,
    )  # fmt: skip
    x, dh2 = samples(n, sizes[0]), noise(n, sizes[-1])
    given = dict(zip(NAMES, parameters.values(), strict=False)) | {"x": x, "dh2": dh2}
    given = copies(given)
    h2 = network.forward(x).copy()
    dx = network.backward(dh2, inputs=True)
    found = dict(zip(NAMES, gradients.values(), strict=False))
    return given, {f"d{k}": g for k, g in found.items()} | {"h2": h2, "dx": dx}


def fast_autoencoder(sizes, loss="squared"):
    n, *sizes = sizes
    x = samples(n, sizes[0])
    model = byhand.Autoencoder(sizes, **options(loss=loss))
    return minimiser(model, NAMES, (x,), x=x, lr=LR)


def fast_stacked(sizes):
    n, *sizes = sizes
    x = samples(n, sizes[0])
    stack = byhand.StackedAutoencoder((*sizes, 2), **options())
    shake(stack)
    first, layer = stack.layer(1), stack.layer(2)
    W1, b1 = (first.parameters[f"encoder.0.{p}"] for p in "Wb")
    batch = (first.encode(x),)
    return minimiser(layer, ("W2", "b2", "V2", "c2"), batch, x=x, W1=W1, b1=b1, lr=LR)


def fast_denoising(sizes):
    n, d, _, c = sizes
    x, keep = samples(n, d), rng(4).integers(0, 2, (n, d)).astype(float)
    model = byhand.DenoisingAutoencoder((d, c), corruption=None, **options())
    given, expected = minimiser(model, NAMES[:4], (x, x * keep), x=x, keep=keep)
    return given, gradients_alone(expected)


def fast_vae(sizes, decoder="bernoulli"):
    n, *sizes = sizes
    x, eps = samples(n, sizes[0]), noise(n, sizes[-1])
    model = byhand.VAE(sizes, **options(decoder=decoder, beta=1.7))
    names = (*NAMES, "lam") if model.gaussian else NAMES
    more = {"x": x, "eps": eps, "beta": 1.7, "d": sizes[0]}
    given, expected = minimiser(model, names, (x, eps), **more)
    return given, gradients_alone(expected)


def fast_iwae(sizes, k=3):
    n, d, _, c = sizes
    x, eps = samples(n, d), noise(n, k, c)
    model = byhand.IWAE((d, c), k=k, **options())
    given, expected = minimiser(model, NAMES[:4], (x, eps), x=x, eps=eps, k=k)
    return given, gradients_alone(expected)


def gradients_alone(expected):
    """Leave out the weights: the lines show no update."""
    return {k: a for k, a in expected.items() if k == "loss" or k.startswith("d")}


def fast_gan(sizes, step, objective="non_saturating", r1=0.0):
    n, d, hidden, k = sizes
    made = options(activation="relu", objective=objective, r1=r1)
    model = byhand.GAN((k, hidden, d), (d, hidden + 1, 1), **made)
    shake(model)
    x, z = samples(n, d), noise(n, k)
    arrays = named(model, NAMES)
    given = copies({name: arrays[name] for name in NAMES})
    given |= {"x": x, "z": z, "n": n, "lr": LR, "gamma": r1}
    if step == "D":
        loss = float(model.discriminator_step(x, z))
    else:
        loss = float(model.generator_step(z, x))
    moved = NAMES[4:] if step == "D" else NAMES[:4]
    gradients = [f"d{name}" for name in moved]
    kept = {k: a for k, a in arrays.items() if k in NAMES or k in gradients}
    return given, kept | {"loss": loss}


D_STEP = partial(fast_gan, step="D")
G_STEP = partial(fast_gan, step="G")
WEIGHTS = "dW1 dW2 dW3 dW4 W1 W2 W3 W4"


class Case(NamedTuple):
    module: Any
    blocks: tuple[int, ...]  # the step, then the lines that change it
    fast: Callable[..., Any]
    # The results with equal bits, whose operations have the same order. (Not sums over
    # rows: the fast step multiplies by a row of ones.)
    exact: str = ""


CASES = {
    "mlp": Case(mlp, (0,), fast_mlp, "h2 dW1 dW2 dx"),
    "autoencoder": Case(autoencoder, (0,), fast_autoencoder, WEIGHTS),
    "autoencoder, cross-entropy": Case(
        autoencoder, (0, 1), partial(fast_autoencoder, loss="cross_entropy"), WEIGHTS
    ),
    "stacked": Case(stacked, (0,), fast_stacked, "dW2 dV2 W2 V2"),
    "denoising": Case(denoising, (0,), fast_denoising, "dW1 dW2"),
    "vae": Case(vae, (0,), fast_vae, "dW3 dW4"),
    "vae, Gaussian": Case(vae, (0, 1), partial(fast_vae, decoder="gaussian")),
    "iwae": Case(iwae, (0,), fast_iwae),
    "D": Case(gan, (0,), D_STEP, "dW3 dW4 W1 b1 W2 b2 W3 W4"),
    "D, pairs": Case(gan, (0, 3), partial(D_STEP, objective="relativistic"), "dW3 dW4"),
    "D with R1": Case(gan, (0, 5), partial(D_STEP, r1=0.9), "W1 b1 W2 b2"),
    "G": Case(gan, (1,), G_STEP, "dW1 dW2 W1 W2 W3 b3 W4 b4"),
    "G, saturating": Case(
        gan, (1, 2), partial(G_STEP, objective="saturating"), "dW1 dW2"
    ),
    "G, pairs": Case(gan, (1, 4), partial(G_STEP, objective="relativistic"), "dW1 dW2"),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def plain_step(case):
    """Return the statements of a case."""
    found = blocks(case.module)
    first, *changes = case.blocks
    step = found[first]
    for i in changes:
        step = with_lines(step, found[i])
    return step


def difference(found, expected):
    """Return the largest difference in a result, in units of the largest entry of all.

    There is one scale for all, because some gradients are zero up to rounding.
    """
    scale = max(np.abs(a).max() for a in expected.values())
    return max(np.abs(found[k] - a).max() for k, a in expected.items()) / scale


@every_case
def test_the_plain_step_equals_the_fast_step(case):
    given, expected = case.fast(SIZES)
    found = run(plain_step(case), given)
    for name, a in expected.items():
        assert np.shape(found[name]) == np.shape(a), name
    assert difference(found, expected) < 1e-12
    for name in case.exact.split():
        assert_same(found[name], expected[name], err_msg=name)


# --- Negative controls --------------------------------------------------------------
# All sizes are equal, so that a missing transpose gives no error of shapes.

EQUAL = (8, 8, 8, 8)
MISTAKES = {
    "a transpose is lost": (r"\.T\b", ""),
    "1/n is lost": (r"1 / n \*", "1 *"),
    "/n is lost": (r" / n\b", ""),
    "a mean is a sum": (r"np\.mean", "np.sum"),
    "relu's derivative is lost": (r" \* \(\w+ > 0\)", ""),
    "half of the sigmoid's derivative is lost": (r" \* \(1 - \w+\)", ""),
    "the error has a wrong sign": (r" - x\b", " + x"),
    "the update has a wrong sign": (r"-= lr", "+= lr"),
}


@every_case
def test_each_line_affects_the_result(case):
    given, expected = case.fast(EQUAL)
    step = plain_step(case)
    assert difference(run(step, given), expected) < 1e-12
    for i, line in enumerate(step):
        if isinstance(line, ast.For):
            continue
        target = line.targets[0] if isinstance(line, ast.Assign) else line.target
        for name in getattr(target, "elts", [target]):
            found = run(step, given, off=(i, name.id))
            assert difference(found, expected) > 1e-9, f"{name.id} in line {i}"


@every_case
def test_a_mistake_is_found(case):
    given, expected = case.fast(EQUAL)
    step = plain_step(case)
    texts = [ast.unparse(line) for line in step]
    made = 0
    for i, text in enumerate(texts):
        for mistake, (right, wrong) in MISTAKES.items():
            for at in re.finditer(right, text):
                line = text[: at.start()] + wrong + text[at.end() :]
                changed = [*step[:i], *ast.parse(line).body, *step[i + 1 :]]
                try:
                    found = difference(run(changed, given), expected)
                except ValueError:  # shapes that do not fit
                    found = np.inf
                assert found > 1e-3, f"{mistake}: {line}"
                made += 1
    assert made >= 4


# --- The docstrings -----------------------------------------------------------------

MODULES = (mlp, autoencoder, stacked, denoising, vae, iwae, gan)


def test_every_block_is_run():
    run = {(case.module, i) for case in CASES.values() for i in case.blocks}
    assert run == {(m, i) for m in MODULES for i in range(len(blocks(m)))}


@pytest.mark.parametrize("module", MODULES)
def test_every_equation_is_in_the_lines(module):
    derivation, _, lines = module.__doc__.partition(HEADING)
    derived = set(re.findall(r" \((\d+['\"]?)\)$", derivation, re.MULTILINE))
    comments = " ".join(re.findall("  # .*", lines))
    assert derived <= set(re.findall(r"\((\d+['\"]?)\)", comments))
