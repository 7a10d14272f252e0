"""The rivals of demos.speed, each in its own process.

`python -m demos._rivals NAME FOLDER` reads commands from its input, one line of JSON
each, and answers each with a line of JSON. All rivals start from the weights, samples
and noise that demos.speed wrote to FOLDER. A comparison of their first losses shows
that they do the same work.
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
from demos._frameworks import autograd, jax, mygrad, torch
from demos._systems import (
    LOSS,
    NETS,
    SIZES,
    Stepper,
    Weights,
    networks,
    noise_columns,
    numpy_noise,
)

# --- scratchnet ---------------------------------------------------------------------


def by_hand(
    system: str, batch: int, weights: Weights, *, library: str = "numpy"
) -> Stepper:
    """Return the step by hand, with the gradient derived on paper."""
    from scratchnet import backend, byhand

    backend.use(library)
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
        loss_d = model.discriminator_step(x, noise[0]).copy()  # G's step reuses it
        return loss_d, model.generator_step(noise[1])

    return Stepper(step, numpy_noise(system))


def on_gpu(
    system: str, batch: int, weights: Weights, *, library: str, captured: bool
) -> Stepper:
    """Return the step by hand on a GPU: call by call, or captured and replayed.

    The timed step draws its noise on the GPU.
    """
    from scratchnet import backend
    from scratchnet.backend.philox import Stream

    made = by_hand(system, batch, weights, library=library)

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


def engine(
    system: str, batch: int, weights: Weights, *, library: str = "numpy"
) -> Stepper:
    """Return the step by the engine, with derivatives from the table."""
    from scratchnet import backend, models, optim

    backend.use(library)
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
    """Return the floor: only the matrix products of a step, by NumPy or torch."""
    matmul = importlib.import_module(library).matmul
    array = importlib.import_module(library).asarray
    passes: list[tuple[str, int, str]] = {
        "GAN": [
            # D's step: G forward, D forward and back on real and generated rows.
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
        # Zeros stay finite, and the time does not depend on the values.
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


# --- The process --------------------------------------------------------------------


class Rival(NamedTuple):
    """A function that makes a rival's steps, and the name of its package."""

    make: Callable[..., Stepper]
    package: str


RIVALS: dict[str, Rival] = {
    "products": Rival(partial(products, library="numpy"), "numpy"),
    "products, torch": Rival(partial(products, library="torch"), "torch"),
    "by hand": Rival(by_hand, "numpy"),
    "engine": Rival(engine, "numpy"),
    "by hand, C": Rival(partial(by_hand, library="c"), "numpy"),
    "engine, C": Rival(partial(engine, library="c"), "numpy"),
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
    """Return the rivals on a GPU; their names begin with the precision of products."""
    tf32 = precision == "TF32"
    library = "cupy-tf32" if tf32 else "cupy"
    gpu: dict[str, Any] = {"device": "cuda", "tf32": tf32}
    fused: dict[str, Any] = {**gpu, "adam": {"fused": True}}
    # In a graph, Adam counts its steps on the GPU.
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


# Steps in a turn. All steps have the same samples. So after about 700 steps Adam's
# moments of units that are dead for them are denormal numbers, and a step of PyTorch's
# takes 1.5 times as long. In a training, other samples revive most of these units.
MOST = 100


def peak() -> float:
    """Return the peak memory of this process in MiB, or NaN if unknown."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return math.nan


def forget_peak() -> None:
    """Reset the peak memory, if the system can."""
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
        """Import the framework and return its version."""
        importlib.import_module(self.rival.package)
        return {"version": version(self.rival.package)}

    def make(self, system: str, batch: int, keep: bool) -> dict[str, Any]:
        """Make a system's stepper; return its first losses and the memory it needed."""
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
        return {"ms": 1e3 * steps(min(max(3, round(seconds / one)), MOST))}

    def calls(self, rounds: int, number: int) -> dict[str, float]:
        """Return the microseconds of single calls on small arrays."""
        return call_times(self.name, rounds, number)


def main() -> None:
    """Answer commands until the input ends."""
    name, folder = sys.argv[1:]
    # Other output, for example a compiler's, must not be read as an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    runner = Runner(name, Path(folder))
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        try:
            answer = getattr(runner, command)(*arguments)
        except Exception as error:  # the parent reports it
            first = str(error).strip().splitlines() or [""]
            answer = {"error": f"{type(error).__name__}: {first[0]}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
