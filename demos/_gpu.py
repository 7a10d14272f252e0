"""demos.speed on a GPU: its peak rates, errors and times, next to predictions.

    python -m demos.speed --backend cupy

It first measures the machine's peak rates, for a copy and for large matrix products.
Then it compares every system's gradient with float64, for products in float32 and in
TF32. Then it times a step, by the GPU's clock: by hand (call by call, and captured) and
by PyTorch (eager with fused Adam, compiled, as a CUDA graph). The rivals take turns.

PREDICTED and `predicted` hold the predictions, written before the first run.
"""

import datetime
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np

from demos._demo import Demo
from demos._rivals import (
    CAPTURED,
    COMPILED_GPU,
    COMPILED_GRAPH,
    EAGER_GPU,
    PRECISIONS,
    TORCH_GPU,
    TORCH_GRAPH,
)
from demos._systems import LOSS, NETS, SIZES, SYSTEMS, networks
from scratchnet import backend, byhand

BATCHES = (128, 1024, 16384)
WIDE = (4096, 4096, 4096, 4096)  # a deep autoencoder for the largest batch

# Predicted for an H200: seconds for a node of a graph, for a call from Python, and for
# a PyTorch operation with its backward pass; operations and bytes per second.
NODE, CALL, OPERATION = 2.2e-6, 9e-6, 10e-6
RATE = {"float32": 50e12, "TF32": 350e12}
BANDWIDTH = 4e12
# Nodes of a captured step (tests/demos/test_gpu.py counts them), and an estimate for
# PyTorch.
NODES = {"autoencoder": 32, "deep autoencoder": 55, "VAE": 50, "GAN": 62}
TORCH_NODES = {"autoencoder": 45, "deep autoencoder": 85, "VAE": 75, "GAN": 110}
PREDICTED = {
    "copy, TB/s": 4.0, "products float32, TFLOP/s": 50.0,
    "products TF32, TFLOP/s": 350.0, "wide, part of the products' rate": 0.88,
}  # fmt: skip
# Faster by at least this factor, as the geometric mean over the systems.
TARGETS = [
    (128, TORCH_GPU, 4.0), (1024, TORCH_GPU, 2.5), (16384, TORCH_GPU, 1.1),
    (128, TORCH_GRAPH, 1.2), (128, COMPILED_GRAPH, 1.0),
]  # fmt: skip
WIDE_TARGET = 0.85
# The largest allowed error of a gradient, by activation.
LIMITS = {
    "float32": {"tanh": 1e-5, "relu": 1e-5}, "TF32": {"tanh": 3e-3, "relu": 5e-2}
}  # fmt: skip

Times = dict[str, dict[str, dict[int, float]]]  # ms, by rival, system and batch


def products(system: str, n: int) -> float:
    """Return the floating-point operations of a step's matrix products."""
    layers = {name: [a * b for a, b in pairwise(sizes)]
              for name, sizes in networks(system).items()}  # fmt: skip
    # For each network: the products of the forward pass, and those of the backward
    # pass when the gradient for its inputs is not needed.
    whole = {name: sum(of) for name, of in layers.items()}
    back = {name: sum(of[1:]) for name, of in layers.items()}
    if system == "GAN":
        g, d = whole["generator"], whole["discriminator"]
        step_d = g + 2 * (2 * d + back["discriminator"])
        step_g = g + 2 * d + g + back["generator"]
        return 2.0 * n * (step_d + step_g)
    return 2.0 * n * (3 * whole["decoder"] + 2 * whole["encoder"] + back["encoder"])


def predicted(rival: str, precision: str, system: str, n: int) -> float:
    """Return the predicted milliseconds of a step.

    The maximum of the host's calls and the nodes, plus the products at their rate
    (lower for small batches) and the bytes of the elementwise functions.
    """
    nets = NETS if system == "GAN" else networks(system)
    parameters = sum(a * b for sizes in nets.values() for a, b in pairwise(sizes))
    columns = sum(sum(sizes) for sizes in nets.values())
    rate = RATE[precision] * min(1.0, n / 512)
    passes = 12 if rival in (CAPTURED, EAGER_GPU) else 14
    work = products(system, n) / rate
    work += 4 * (passes * n * columns + 8 * parameters) / BANDWIDTH
    nodes = {
        CAPTURED: NODES[system], EAGER_GPU: NODES[system],
        COMPILED_GPU: 0.5 * TORCH_NODES[system],
        COMPILED_GRAPH: 0.5 * TORCH_NODES[system],
    }.get(rival, TORCH_NODES[system])  # fmt: skip
    each = {EAGER_GPU: CALL, TORCH_GPU: OPERATION, COMPILED_GPU: OPERATION}
    if rival in each:  # the host and the GPU work in parallel
        return 1e3 * max(nodes * each[rival], nodes * NODE + work)
    return 1e3 * (nodes * NODE + work)


# --- Measuring ----------------------------------------------------------------------


def rate_of(f: Callable[[], object], amount: float, repeat: int) -> float:
    """Return amount / seconds of a call, the median after two warm-up calls."""
    f()
    f()
    return amount / float(np.median([backend.seconds(f) for _ in range(repeat)]))


def ceilings(size: int, side: int, repeat: int = 20) -> dict[str, float]:
    """Return the rate of a copy (bytes read and written) and of products.

    Args:
        size: the number of float32 values to copy.
        side: the side of the square matrices.
        repeat: the number of timed calls of each.

    """
    rng = np.random.default_rng(0)
    a = backend.asarray(rng.random(size, np.float32))
    b = backend.empty(size)
    found = {"copy, TB/s": rate_of(lambda: np.copyto(b, a), 8 * size, repeat) / 1e12}
    x, y = (backend.asarray(rng.standard_normal((side, side), np.float32))
            for _ in range(2))  # fmt: skip
    out = backend.empty((side, side))
    for precision in PRECISIONS:
        with products_in(precision):
            rate = rate_of(lambda: backend.matmul(x, y, out), 2 * side**3, repeat)
        found[f"products {precision}, TFLOP/s"] = rate / 1e12
    return found


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Compute products with this precision, if the backend has a choice."""
    kept = backend.name()
    choice = kept.startswith("cupy")
    if choice:
        backend.use("cupy-tf32" if precision == "TF32" else "cupy")
    try:
        yield
    finally:
        if choice:
            backend.use(kept)


def gradient_errors(n: int) -> dict[str, dict[str, float]]:
    """Return ‖g − g₆₄‖ / ‖g₆₄‖ of each system's gradient, by precision.

    With tanh the error is only rounding. With ReLU it can be much larger: rounding
    switches a unit near zero on or off, and with it the unit's whole gradient. If a
    share p of the units switches, the error is about √p.
    """
    rng = np.random.default_rng(1)
    x, eps = rng.random((n, 784)), rng.standard_normal((n, SIZES["VAE"][-1]))
    found: dict[str, dict[str, float]] = {}
    for system, activation in product(SYSTEMS, LIMITS["float32"]):
        if system == "GAN":
            continue  # the other systems have the same kind of networks

        def gradient(
            dtype: Any, system: str = system, activation: str = activation
        ) -> np.ndarray:
            options: Any = {"rng": np.random.default_rng(0), "batch_size": n,
                            "dtype": dtype, "activation": activation}  # fmt: skip
            batch = [x, eps] if system == "VAE" else [x]
            model: Any
            if system == "VAE":
                model = byhand.VAE(SIZES[system], **options)
            else:
                model = byhand.Autoencoder(SIZES[system], loss=LOSS[system], **options)
            model.loss_and_gradients(*[backend.asarray(a.astype(dtype)) for a in batch])
            return backend.to_numpy(model.d_theta)

        exact = gradient(np.float64)
        for precision in PRECISIONS:
            with products_in(precision):
                g = gradient(np.float32)
            error = float(np.linalg.norm(g - exact) / np.linalg.norm(exact))
            found.setdefault(f"{system}, {activation}", {})[precision] = error
    return found


def wide_rate(
    n: int, sizes: Sequence[int], ceiling: dict[str, float]
) -> dict[str, float]:
    """Return the rate of a wide captured step over that of products, by precision."""
    weights = 2 * sum(a * b for a, b in pairwise(sizes))
    work = 2.0 * n * (3 * weights - sizes[0] * sizes[1])  # no dLoss/dx
    found = {}
    for precision in PRECISIONS:
        with products_in(precision):
            rng = np.random.default_rng(0)
            model = byhand.Autoencoder(
                tuple(sizes), rng=rng, batch_size=n, output="linear"
            )
            x = backend.asarray(rng.standard_normal((n, sizes[0]), np.float32))
            step = backend.capture(partial(model.step, x))
            rate = rate_of(step, work, 5) / 1e12
        found[precision] = rate / ceiling[f"products {precision}, TFLOP/s"]
    return found


# --- Reporting ----------------------------------------------------------------------


def speedup(times: Times, precision: str, rival: str, n: int) -> float | None:
    """Return a rival's time over that of the captured step, or None if not timed.

    The geometric mean over the systems.
    """
    ours = times.get(f"{precision}: {CAPTURED}", {})
    theirs = times.get(f"{precision}: {rival}", {})
    both = [system for system in ours if n in theirs.get(system, {})]
    if not both:
        return None
    logs = [np.log(theirs[system][n] / ours[system][n]) for system in both]
    return float(np.exp(np.mean(logs)))


def times_rows(times: Times) -> list[list[str]]:
    """Return rows: system and batch, then milliseconds (predicted) of each rival."""
    rows = []
    for system in SYSTEMS:
        for n in BATCHES:
            row = [f"{system}, {n}"]
            for name, of in times.items():
                precision, _, rival = name.partition(": ")
                if n in of.get(system, {}):
                    expected = predicted(rival, precision, system, n)
                    row.append(f"{of[system][n]:.3f} ({expected:.3f})")
                else:
                    row.append("")
            rows.append(row)
    return rows


def verdicts(times: Times, wide: dict[str, float]) -> list[str]:
    """Return a line for each target: the measured value, met or missed."""
    found = []
    for precision in PRECISIONS:
        for n, rival, target in TARGETS:
            factor = speedup(times, precision, rival, n)
            if factor is None:
                said = "not measured"
            else:
                said = f"{factor:.2f}, {'met' if factor >= target else 'missed'}"
            found.append(
                f"{precision}, minibatch {n}: {rival} / captured at least {target}: "
                f"{said}"
            )
        if precision in wide:
            part = wide[precision]
            said = "met" if part >= WIDE_TARGET else "missed"
            found.append(
                f"{precision}, {WIDE[0]} wide, minibatch {BATCHES[-1]}: at least "
                f"{WIDE_TARGET} of the products' rate: {part:.2f}, {said}"
            )
    return found


def run(demo: Demo) -> None:
    """Measure everything, and report."""
    from demos import speed  # it calls this function

    machine = f"{datetime.date.today()}, {backend.machine()}"
    demo.say(f"\n{machine}\n")
    ceiling = ceilings(demo.choose(1 << 28, 1 << 22), demo.choose(8192, 1024))
    wide = wide_rate(
        demo.choose(BATCHES[-1], 256), demo.choose(WIDE, (256, 256)), ceiling
    )
    for name, value in ceiling.items():
        demo.say(f"  {name}: {value:.3g} (expected {PREDICTED[name]:g})")
    part = PREDICTED["wide, part of the products' rate"]
    for precision, value in wide.items():
        demo.say(f"  wide, {precision}: {value:.2f} of that rate (expected {part})")
    errors = gradient_errors(127)
    for name, error in errors.items():
        activation = name.rpartition(", ")[2]
        for precision, value in error.items():
            demo.check(f"error of the gradient, {name}, {precision}", value,
                       at_most=LIMITS[precision][activation])  # fmt: skip

    backend.use("numpy")  # each rival has its own process
    times: Times = {}
    apart: dict[str, float] = {}
    rounds = demo.choose(3, 1)
    both, first = PRECISIONS, PRECISIONS[:1]
    plans: list[tuple[Sequence[str], Sequence[str], Any, Sequence[str]]] = [
        (both, [CAPTURED, EAGER_GPU, TORCH_GPU, TORCH_GRAPH],
         demo.choose(BATCHES, (128,)), SYSTEMS),
        # Compiling takes a minute for each.
        (first, [CAPTURED, COMPILED_GPU, COMPILED_GRAPH],
         demo.choose((128,), ()), ("autoencoder", "VAE")),
    ]  # fmt: skip
    for precisions, names, batches, systems in plans:
        if not batches:
            continue
        rivals = [f"{p}: {name}" for p in precisions for name in names]
        results, found = speed.measure(
            rivals, batches, rounds, demo.choose(0.1, 0.02), systems, pause=0.02
        )
        apart |= found
        for rival, reason in results.missing.items():
            demo.say(f"  without {rival}: {reason}")
        for rival, cells in results.ms.items():
            for (system, n), ms in cells.items():
                of = times.setdefault(rival, {}).setdefault(system, {})
                of.setdefault(n, float(np.median(ms)))
    for rival, error in apart.items():
        most = 1e-3 if rival.startswith("float32") else 2e-2
        demo.check(f"first losses, {rival}, apart from the first rival's", error,
                   at_most=most)  # fmt: skip
    table = speed.table(["ms a step (expected)", *times], times_rows(times))
    demo.say(f"\n{table}\n")
    for line in verdicts(times, wide):
        demo.say(f"  {line}")
    path = demo.out / "speed-gpu.json"
    content = {
        "machine": machine, "ceilings": ceiling, "wide": wide, "errors": errors,
        "ms": times, "predicted": PREDICTED, "targets": TARGETS,
    }  # fmt: skip
    path.write_text(json.dumps(content, indent=1))
    demo.say(f"  data {path}")
