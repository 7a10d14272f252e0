"""The rivals of demos.speed: the same training steps, as users of each framework write.

Each runs in a process of its own, `python -m demos._rivals NAME FOLDER`, which reads
commands from its input, a line of JSON each, and answers with another. All start from
the weights, samples and noise that demos.speed left in FOLDER, so that their first
losses can be compared: who does less work, or other work, is found out there.
"""

import contextlib
import gc
import importlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from demos._around import call_times

LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8
SLOPE = 0.2
CODE, NOISE = 20, 64  # columns of noise in a step of the VAE, of the GAN

SIZES: dict[str, tuple[int, ...]] = {
    "autoencoder": (784, 512, 64),
    "deep autoencoder": (784, 1000, 500, 250, 30),
    "VAE": (784, 512, CODE),
}
NETS: dict[str, tuple[int, ...]] = {
    "generator": (NOISE, 512, 784),
    "discriminator": (784, 512, 1),
}
SYSTEMS = (*SIZES, "GAN")
# Made before the others, so that what a framework loads on first use is not counted.
WARM_UP = "warm-up"
SIZES[WARM_UP] = (784, 8, 4)
LOSS = {
    "autoencoder": "squared", "deep autoencoder": "cross_entropy", WARM_UP: "squared"
}  # fmt: skip

Weights = dict[str, np.ndarray]


def noise_columns(system: str) -> tuple[int, ...]:
    """Return the columns of each array of noise that a step takes."""
    return {"VAE": (CODE,), "GAN": (NOISE, NOISE)}.get(system, ())


class Stepper(NamedTuple):
    """One system in one framework, ready to train.

    `step(x, *noise)` takes one step (the GAN one of D and one of G) and returns its
    losses; `draw(n)` fresh noise; `array` makes an array the framework's own, `wait`
    waits until everything is computed, and `value` makes a loss a number.

    On a GPU `turn(x)` returns what takes a step with fresh noise, to be timed, and
    `seconds` times a call by the GPU's clock.
    """

    step: Callable[..., tuple[Any, ...]]
    draw: Callable[[int], tuple[Any, ...]]
    array: Callable[[np.ndarray], Any] = lambda a: a
    wait: Callable[[], None] = lambda: None
    value: Callable[[Any], float] = float
    turn: Callable[[Any], Callable[[], object]] | None = None
    seconds: Callable[[Callable[[], object]], float] | None = None


def numpy_noise(system: str) -> Callable[[int], tuple[np.ndarray, ...]]:
    """Return what draws the noise of a step with NumPy."""
    rng = np.random.default_rng(0)
    columns = noise_columns(system)
    return lambda n: tuple(rng.standard_normal((n, c), np.float32) for c in columns)


# --- scratchnet ---------------------------------------------------------------------


def by_hand(system: str, batch: int, weights: Weights) -> Stepper:
    """Return the step by hand: NumPy, the gradient derived on paper."""
    from scratchnet import byhand

    options: Any = {"rng": np.random.default_rng(0), "batch_size": batch}
    model: Any
    if system == "GAN":
        model = byhand.GAN(**NETS, **options)
    elif system == "VAE":
        model = byhand.VAE(SIZES[system], **options)
    else:
        model = byhand.Autoencoder(SIZES[system], loss=LOSS[system], **options)
    model.load_state_dict(weights)

    def step(x: Any, *noise: Any) -> tuple[Any, ...]:
        if system != "GAN":
            return (model.step(x, *noise),)
        loss_d = model.discriminator_step(x, noise[0]).copy()  # G's takes its place
        return loss_d, model.generator_step(noise[1])

    return Stepper(step, numpy_noise(system))


def on_gpu(
    system: str, batch: int, weights: Weights, *, library: str, captured: bool
) -> Stepper:
    """Return the step by hand on a GPU: call by call, or recorded and replayed.

    Its noise is drawn there, and belongs to what is timed.
    """
    from scratchnet import backend
    from scratchnet.backend.philox import Stream

    backend.use(library)
    made = by_hand(system, batch, weights)

    def turn(x: Any) -> Callable[[], object]:
        stream = Stream(1)
        shapes = [(batch, columns) for columns in noise_columns(system)]

        def take() -> None:
            stream.begin()
            made.step(x, *[stream.standard_normal(s, np.float32) for s in shapes])

        return backend.capture(take) if captured else take

    return Stepper(
        made.step, made.draw, backend.asarray, turn=turn, seconds=backend.seconds
    )


def engine(system: str, batch: int, weights: Weights) -> Stepper:
    """Return the step by the engine: NumPy, differentiated by the table."""
    from scratchnet import models, optim

    rng = np.random.default_rng(0)
    model: Any

    def descend(optimizer: Any, loss: Any) -> Any:
        optimizer.zero_grad()
        loss.backward(inputs=optimizer.parameters)
        optimizer.step()
        return loss

    if system == "GAN":
        model = models.GAN(**NETS, rng=rng)
        adam_g = optim.Adam(model.generator.parameters())
        adam_d = optim.Adam(model.discriminator.parameters())

        def step(x: Any, z: Any, z2: Any) -> tuple[Any, ...]:
            loss_d = descend(adam_d, model.discriminator_loss(x, z))
            return loss_d, descend(adam_g, model.generator_loss(z2))
    else:
        if system == "VAE":
            model = models.VAE(SIZES[system], rng=rng)
        else:
            model = models.Autoencoder(SIZES[system], loss=LOSS[system], rng=rng)
        adam = optim.Adam(model.parameters())

        def step(*batch: Any) -> tuple[Any, ...]:
            return (descend(adam, model.loss(*batch)),)

    model.load_state_dict(weights)
    return Stepper(step, numpy_noise(system), value=lambda loss: loss.item())


def products(system: str, batch: int, weights: Weights, *, library: str) -> Stepper:
    """Return the floor: a step's matrix products alone, by NumPy or torch."""
    matmul = importlib.import_module(library).matmul
    array = importlib.import_module(library).asarray
    passes: list[tuple[str, int, str]] = {
        "GAN": [
            # D's step: G forward, D forward and back, of real and generated rows.
            ("generator", batch, "forward"),
            ("discriminator", 2 * batch, "forward, parameters"),
            # G's step: both forward, back through D to its inputs, and through G.
            ("generator", batch, "forward, parameters"),
            ("discriminator", batch, "forward, inputs"),
        ]
    }.get(system, [
        ("encoder", batch, "forward, parameters"),
        ("decoder", batch, "forward, parameters, inputs"),
    ])  # fmt: skip
    nets = networks(system)
    calls: list[tuple[Any, Any, Any]] = []
    for name, rows, what in passes:
        # Zeros, which stay finite; the time does not depend on what is multiplied.
        h = [array(np.zeros((rows, d), np.float32)) for d in nets[name]]
        W = [array(np.zeros(shape, np.float32)) for shape in pairwise(nets[name])]
        dW = [array(np.zeros(shape, np.float32)) for shape in pairwise(nets[name])]
        layers = range(len(W))
        calls += [(h[k], W[k], h[k + 1]) for k in layers]
        for k in reversed(layers):
            if "parameters" in what:
                calls.append((h[k].T, h[k + 1], dW[k]))
            if "inputs" in what or ("parameters" in what and k > 0):
                calls.append((h[k + 1], W[k].T, h[k]))

    def step(*batch: Any) -> tuple[Any, ...]:
        for a, b, out in calls:
            matmul(a, b, out=out)
        return ()

    return Stepper(step, lambda n: ())


def networks(system: str) -> dict[str, tuple[int, ...]]:
    """Return the sizes of the networks of a system."""
    if system == "GAN":
        return NETS
    d, *hidden, c = SIZES[system]
    code = 2 * c if system == "VAE" else c
    return {"encoder": (d, *hidden, code), "decoder": (c, *hidden[::-1], d)}


# --- PyTorch ------------------------------------------------------------------------


def torch(
    system: str,
    batch: int,
    weights: Weights,
    *,
    adam: dict[str, bool],
    compiled: bool = False,
    device: str = "cpu",
    tf32: bool = False,
    graph: bool = False,
) -> Stepper:
    """Return PyTorch's step: eager or compiled, with one of its three Adams.

    On a GPU (device "cuda") it is timed by the GPU's clock, noise included, if asked
    for as one CUDA graph.
    """
    import torch
    from torch import nn
    from torch.nn import functional as F

    def net(name: str, sizes: tuple[int, ...]) -> Any:
        activation = nn.LeakyReLU(SLOPE) if system == "GAN" else nn.ReLU()
        layers: list[Any] = []
        for k in range(len(sizes) - 1):
            linear = nn.Linear(sizes[k], sizes[k + 1])
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(weights[f"{name}.{2 * k}.W"].T))
                linear.bias.copy_(torch.from_numpy(weights[f"{name}.{2 * k}.b"]))
            layers += [linear, activation]
        return nn.Sequential(*layers[:-1]).to(device)

    torch.set_float32_matmul_precision("high" if tf32 else "highest")

    nets = {name: net(name, sizes) for name, sizes in networks(system).items()}

    def make_adam(*names: str) -> Any:
        parameters = [p for name in names for p in nets[name].parameters()]
        return torch.optim.Adam(
            parameters, lr=LR, betas=(BETA1, BETA2), eps=EPS, **adam
        )

    def descend(optimizer: Any, loss: Any) -> Any:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # Without the graph: while that lives, its gradients are added on the stream
        # that it was made on, which a recording on another cannot have.
        return loss.detach()

    # Not dynamic: compiled for each batch size, as for the only one.
    maybe_compiled: Any = (
        partial(torch.compile, dynamic=False) if compiled else lambda f: f
    )
    columns = noise_columns(system)
    options: Any = {
        "draw": lambda n: tuple(torch.randn(n, c, device=device) for c in columns),
        "array": lambda a: torch.from_numpy(a).to(device),
        "value": float,
    }
    if device == "cuda":

        def turn(x: Any) -> Callable[[], object]:
            def take() -> None:
                step(x, *options["draw"](batch))

            return torch_graph(take) if graph else take

        options |= {"turn": turn, "seconds": torch_seconds}
    if system == "GAN":
        G, D = nets["generator"], nets["discriminator"]
        adam_g, adam_d = make_adam("generator"), make_adam("discriminator")

        @maybe_compiled
        def loss_of_d(x: Any, z: Any) -> Any:
            with torch.no_grad():
                x_f = torch.sigmoid(G(z))
            a_r, a_f = D(torch.cat([x, x_f])).chunk(2)
            return F.softplus(-a_r).mean() + F.softplus(a_f).mean()

        @maybe_compiled
        def loss_of_g(z: Any) -> Any:
            return F.softplus(-D(torch.sigmoid(G(z)))).mean()

        def step(x: Any, z: Any, z2: Any) -> tuple[Any, ...]:
            D.requires_grad_(True)
            loss_d = descend(adam_d, loss_of_d(x, z))
            D.requires_grad_(False)
            return loss_d, descend(adam_g, loss_of_g(z2))

        return Stepper(step, **options)

    encoder, decoder = nets["encoder"], nets["decoder"]
    optimizer = make_adam("encoder", "decoder")

    @maybe_compiled
    def loss_of(x: Any, *eps: Any) -> Any:
        kl: Any = 0.0
        z = encoder(x)
        if eps:
            mu, log_var = z.chunk(2, dim=1)
            z = mu + torch.exp(log_var / 2) * eps[0]
            kl = 0.5 * torch.sum(mu * mu + log_var.exp() - 1 - log_var)
        a = decoder(z)
        if LOSS.get(system) == "squared":
            return torch.sum((torch.sigmoid(a) - x) ** 2) / len(x)
        error = F.binary_cross_entropy_with_logits(a, x, reduction="sum")
        return (error + kl) / len(x)

    def step(*batch: Any) -> tuple[Any, ...]:
        return (descend(optimizer, loss_of(*batch)),)

    return Stepper(step, **options)


def torch_graph(f: Callable[[], object]) -> Callable[[], object]:
    """Return the replays of a recording of f, as PyTorch's manual makes one."""
    import torch

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(5):
            f()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        f()

    def replay(reads: Callable[[], object] = f) -> None:
        graph.replay()  # which reads the arrays that f holds

    return replay


def torch_seconds(f: Callable[[], object]) -> float:
    """Return how long a call takes by the GPU's clock."""
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    f()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


# --- Frameworks that look like NumPy ------------------------------------------------
#
# autograd and mygrad compute part of these steps in float64, whatever they are given:
# the derivative of maximum in the one, a Python number in maximum in the other.


def losses_of(xp: Any, system: str) -> tuple[Callable[..., Any], ...]:
    """Return the losses of a system, as functions of (parameters, *batch).

    The GAN has two: D's, of D's parameters, G's, and the batch; and G's, of G's, D's,
    and the batch.
    """

    def relu(a: Any) -> Any:
        return xp.maximum(a, 0)

    def leaky_relu(a: Any) -> Any:
        return xp.maximum(a, SLOPE * a)

    def sigmoid(a: Any) -> Any:
        return 1 / (1 + xp.exp(-a))

    def softplus(a: Any) -> Any:
        return xp.maximum(a, 0) + xp.log1p(xp.exp(-xp.abs(a)))

    f = leaky_relu if system == "GAN" else relu
    sizes = networks(system)

    def net(p: Any, name: str, h: Any) -> Any:
        for k in range(len(sizes[name]) - 1):
            h = (f(h) if k else h) @ p[f"{name}.{2 * k}.W"] + p[f"{name}.{2 * k}.b"]
        return h

    if system == "GAN":

        def loss_of_d(d: Any, g: Any, x: Any, z: Any) -> Any:
            x_f = sigmoid(net(g, "generator", z))
            a = net(d, "discriminator", xp.concatenate([x, x_f]))
            n = len(x)
            return (xp.sum(softplus(-a[:n])) + xp.sum(softplus(a[n:]))) / n

        def loss_of_g(g: Any, d: Any, z: Any) -> Any:
            a = net(d, "discriminator", sigmoid(net(g, "generator", z)))
            return xp.mean(softplus(-a))

        return loss_of_d, loss_of_g

    def loss_of(p: Any, x: Any, *eps: Any) -> Any:
        kl: Any = 0.0
        z = net(p, "encoder", x)
        if eps:
            mu, log_var = z[:, :CODE], z[:, CODE:]
            z = mu + xp.exp(log_var / 2) * eps[0]
            kl = 0.5 * xp.sum(mu * mu + xp.exp(log_var) - 1 - log_var)
        a = net(p, "decoder", z)
        if LOSS.get(system) == "squared":
            return xp.sum((sigmoid(a) - x) ** 2) / len(x)
        return (xp.sum(softplus(a) - a * x) + kl) / len(x)

    return (loss_of,)


def split(system: str, weights: Weights) -> tuple[Weights, ...]:
    """Return the parameters of each loss: the GAN's D and G apart."""
    if system != "GAN":
        return (weights,)
    return tuple(
        {name: w for name, w in weights.items() if name.startswith(net)}
        for net in ("discriminator", "generator")
    )


def given_to(system: str, i: int, parts: Any, x: Any, noise: Any) -> tuple[Any, ...]:
    """Return what loss i takes after its own parameters."""
    if system != "GAN":
        return (x, *noise)
    return (parts[1], x, noise[0]) if i == 0 else (parts[0], noise[1])


def jax(system: str, batch: int, weights: Weights) -> Stepper:
    """Return JAX's step: one jitted function of all state, which it may overwrite."""
    import jax
    import jax.numpy as jnp

    parts = [{k: jnp.asarray(w) for k, w in part.items()}
             for part in split(system, weights)]  # fmt: skip
    zeros = [jax.tree.map(jnp.zeros_like, part) for part in parts]
    state: Any = (parts, zeros, jax.tree.map(jnp.zeros_like, zeros), jnp.zeros(()))
    losses = losses_of(jnp, system)

    def adam(p: Any, g: Any, m: Any, v: Any, t: Any) -> Any:
        m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
        v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
        c1, c2 = 1 - BETA1**t, 1 - BETA2**t
        p = jax.tree.map(
            lambda p, m, v: p - LR * (m / c1) / (jnp.sqrt(v / c2) + EPS), p, m, v
        )
        return p, m, v

    @partial(jax.jit, donate_argnums=0)
    def step_of(state: Any, x: Any, noise: Any) -> Any:
        parts, m, v, t = state
        parts, m, v, t = list(parts), list(m), list(v), t + 1
        found = []
        for i, loss in enumerate(losses):
            given = given_to(system, i, parts, x, noise)
            value, g = jax.value_and_grad(loss)(parts[i], *given)
            parts[i], m[i], v[i] = adam(parts[i], g, m[i], v[i], t)
            found.append(value)
        return (parts, m, v, t), found

    columns = noise_columns(system)
    key = jax.random.key(0)

    @partial(jax.jit, static_argnums=1)
    def draw_of(key: Any, n: int) -> Any:
        key, *keys = jax.random.split(key, 1 + len(columns))
        return key, [
            jax.random.normal(k, (n, c)) for k, c in zip(keys, columns, strict=True)
        ]

    def draw(n: int) -> tuple[Any, ...]:
        nonlocal key
        if not columns:
            return ()
        key, noise = draw_of(key, n)
        return tuple(noise)

    def step(x: Any, *noise: Any) -> tuple[Any, ...]:
        nonlocal state
        state, found = step_of(state, x, noise)
        return tuple(found)

    return Stepper(step, draw, jnp.asarray, lambda: jax.block_until_ready(state))


def numpy_adam(parts: tuple[Weights, ...]) -> Callable[[int, Weights], None]:
    """Return Adam as users of a framework without one write it, in NumPy."""
    m = [{k: np.zeros_like(w) for k, w in part.items()} for part in parts]
    v = [{k: np.zeros_like(w) for k, w in part.items()} for part in parts]
    t = [0] * len(parts)

    def update(i: int, gradients: Weights) -> None:
        t[i] += 1
        c1, c2 = 1 - BETA1 ** t[i], 1 - BETA2 ** t[i]
        for k, g in gradients.items():
            m[i][k] = BETA1 * m[i][k] + (1 - BETA1) * g
            v[i][k] = BETA2 * v[i][k] + (1 - BETA2) * g * g
            parts[i][k] -= LR * (m[i][k] / c1) / (np.sqrt(v[i][k] / c2) + EPS)

    return update


def autograd(system: str, batch: int, weights: Weights) -> Stepper:
    """Return autograd's step: NumPy wrapped, a function's gradient as a function."""
    import autograd
    import autograd.numpy as anp

    parts = split(system, {k: w.copy() for k, w in weights.items()})
    update = numpy_adam(parts)
    both = [autograd.value_and_grad(loss) for loss in losses_of(anp, system)]

    def step(x: Any, *noise: Any) -> tuple[Any, ...]:
        found = []
        for i, f in enumerate(both):
            value, g = f(parts[i], *given_to(system, i, parts, x, noise))
            update(i, g)
            found.append(value)
        return tuple(found)

    return Stepper(step, numpy_noise(system))


def mygrad(system: str, batch: int, weights: Weights) -> Stepper:
    """Return mygrad's step: tensors over NumPy, as in scratchnet's engine."""
    import mygrad as mg

    parts = split(system, {k: w.copy() for k, w in weights.items()})
    update = numpy_adam(parts)
    losses = losses_of(mg, system)

    def step(x: Any, *noise: Any) -> tuple[Any, ...]:
        found = []
        for i, f in enumerate(losses):
            p = {k: mg.tensor(w, copy=False) for k, w in parts[i].items()}
            loss = f(p, *given_to(system, i, parts, x, noise))
            loss.backward()
            gradients = {k: t.grad for k, t in p.items()}
            update(i, gradients)
            found.append(loss.item())
        return tuple(found)

    return Stepper(step, numpy_noise(system))


# --- The process --------------------------------------------------------------------


class Rival(NamedTuple):
    """What makes a rival's steps, and the package whose version it is."""

    make: Callable[..., Stepper]
    package: str


RIVALS: dict[str, Rival] = {
    "products": Rival(partial(products, library="numpy"), "numpy"),
    "products, torch": Rival(partial(products, library="torch"), "torch"),
    "by hand": Rival(by_hand, "numpy"),
    "engine": Rival(engine, "numpy"),
    "torch, default": Rival(partial(torch, adam={}), "torch"),
    "torch, foreach": Rival(partial(torch, adam={"foreach": True}), "torch"),
    "torch, fused": Rival(partial(torch, adam={"fused": True}), "torch"),
    "torch.compile": Rival(
        partial(torch, adam={"fused": True}, compiled=True), "torch"
    ),
    "JAX": Rival(jax, "jax"),
    "autograd": Rival(autograd, "autograd"),
    "mygrad": Rival(mygrad, "mygrad"),
}
EAGER_GPU, CAPTURED = "by hand, call by call", "by hand, captured"
TORCH_GPU, TORCH_GRAPH = "torch, eager", "torch, graph"
COMPILED_GPU, COMPILED_GRAPH = "torch, compiled", "torch, compiled and graph"


def _on_gpu(precision: str) -> dict[str, Rival]:
    """Return the rivals on a GPU: their names begin with the precision of products."""
    tf32 = precision == "TF32"
    library = "cupy-tf32" if tf32 else "cupy"
    gpu: dict[str, Any] = {"device": "cuda", "tf32": tf32}
    fused: dict[str, Any] = {**gpu, "adam": {"fused": True}}
    # Adam for a graph counts its steps on the GPU too.
    graph: dict[str, Any] = {
        **gpu, "adam": {"fused": True, "capturable": True}, "graph": True
    }  # fmt: skip
    made = {
        CAPTURED: Rival(partial(on_gpu, library=library, captured=True), "numpy"),
        EAGER_GPU: Rival(partial(on_gpu, library=library, captured=False), "numpy"),
        TORCH_GPU: Rival(partial(torch, **fused), "torch"),
        TORCH_GRAPH: Rival(partial(torch, **graph), "torch"),
        COMPILED_GPU: Rival(partial(torch, **fused, compiled=True), "torch"),
        COMPILED_GRAPH: Rival(partial(torch, **graph, compiled=True), "torch"),
    }
    return {f"{precision}: {name}": rival for name, rival in made.items()}


PRECISIONS = ("float32", "TF32")
RIVALS_GPU = {k: r for precision in PRECISIONS for k, r in _on_gpu(precision).items()}


def peak() -> float:
    """Return the most memory that this process has had, in MiB; NaN if unknown."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return math.nan


def forget_peak() -> None:
    """Start again to note the most memory, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


class Runner:
    """Answers the commands of one process: `hello`, `make`, `time`, `calls`."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.rival = (RIVALS | RIVALS_GPU)[name]
        self.folder = folder
        self.made: dict[int, tuple[Stepper, Callable[[], object]]] = {}

    def hello(self) -> dict[str, Any]:
        """Import the framework; return its version."""
        importlib.import_module(self.rival.package)
        return {"version": version(self.rival.package)}

    def make(self, system: str, batch: int, keep: bool) -> dict[str, Any]:
        """Make a system's stepper; return its first losses, and what memory it took."""
        with np.load(self.folder / f"{system}.npz") as file:
            weights = dict(file)
        x = weights.pop("x")[:batch]
        noises = weights.pop("noise")[:, :, :batch]  # (steps, arrays, rows, columns)
        gc.collect()
        forget_peak()
        before = peak()
        made = self.rival.make(system, batch, weights)
        native = made.array(x)
        losses = []
        for noise in noises:
            found = made.step(native, *[made.array(a.copy()) for a in noise])
            losses.append([made.value(loss) for loss in found])
        after = peak()
        if keep:
            turn = (
                made.turn(native)
                if made.turn
                else lambda: made.step(native, *made.draw(batch))
            )
            self.made[batch] = made, turn
        return {"losses": losses, "memory": after - before, "process": after}

    def time(self, batch: int, seconds: float) -> dict[str, Any]:
        """Return the milliseconds of a step, over `seconds` of steps."""
        made, turn = self.made[batch]

        def take(k: int) -> None:
            for _ in range(k):
                turn()
            made.wait()

        def steps(k: int) -> float:
            if made.seconds is not None:
                return made.seconds(partial(take, k)) / k
            began = time.perf_counter()
            take(k)
            return (time.perf_counter() - began) / k

        one = steps(3)
        return {"ms": 1e3 * steps(max(3, round(seconds / one)))}

    def calls(self, rounds: int, number: int) -> dict[str, float]:
        """Return the microseconds of single calls on small arrays."""
        return call_times(self.name, rounds, number)


def main() -> None:
    """Answer commands until the input ends."""
    name, folder = sys.argv[1:]
    # Whatever else is printed (compilers do) must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    runner = Runner(name, Path(folder))
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        try:
            answer = getattr(runner, command)(*arguments)
        except Exception as error:  # named in the parent's report
            first = str(error).strip().splitlines() or [""]
            answer = {"error": f"{type(error).__name__}: {first[0]}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
