"""The training steps of demos.speed in PyTorch, JAX, autograd and mygrad."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from demos._systems import (
    BETA1,
    BETA2,
    CODE,
    EPS,
    LOSS,
    LR,
    SLOPE,
    Stepper,
    Weights,
    networks,
    noise_columns,
    numpy_noise,
)

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

    On a GPU (device "cuda") the GPU's clock times it, noise included; with `graph` it
    is one CUDA graph.
    """
    import torch

    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    nets = {
        name: torch_net(name, sizes, weights, leaky=system == "GAN").to(device)
        for name, sizes in networks(system).items()
    }
    # Not dynamic: compiled for this batch size only.
    maybe_compiled: Any = (
        partial(torch.compile, dynamic=False) if compiled else lambda f: f
    )
    make = torch_gan if system == "GAN" else torch_autoencoder
    step = make(system, nets, adam, maybe_compiled)
    columns = noise_columns(system)
    options: dict[str, Any] = {
        "draw": lambda n: tuple(torch.randn(n, c, device=device) for c in columns),
        "array": lambda a: torch.from_numpy(a).to(device),
    }
    if device == "cuda":

        def turn(x: Any) -> Callable[[], object]:
            def take() -> None:
                step(x, *options["draw"](batch))

            return torch_graph(take) if graph else take

        options |= {"turn": turn, "seconds": torch_seconds}
    return Stepper(step, **options)


def torch_net(name: str, sizes: tuple[int, ...], weights: Weights, leaky: bool) -> Any:
    """Return a network with these weights, by torch.nn."""
    import torch
    from torch import nn

    layers: list[Any] = []
    for k in range(len(sizes) - 1):
        linear = nn.Linear(sizes[k], sizes[k + 1])
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weights[f"{name}.{2 * k}.W"].T))
            linear.bias.copy_(torch.from_numpy(weights[f"{name}.{2 * k}.b"]))
        layers += [linear, nn.LeakyReLU(SLOPE) if leaky else nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def torch_adam(adam: dict[str, bool], *nets: Any) -> Callable[[Any], Any]:
    """Return what takes one step of Adam down a loss, and returns the loss."""
    import torch

    parameters = [p for net in nets for p in net.parameters()]
    optimizer = torch.optim.Adam(
        parameters, lr=LR, betas=(BETA1, BETA2), eps=EPS, **adam
    )

    def descend(loss: Any) -> Any:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # Without the graph: as long as it lives, its gradients are added on the stream
        # where it was made, so another stream cannot record the step.
        return loss.detach()

    return descend


def torch_gan(
    system: str, nets: dict[str, Any], adam: dict[str, bool], maybe_compiled: Any
) -> Callable[..., tuple[Any, ...]]:
    """Return a step of D and one of G."""
    import torch
    from torch.nn import functional as F

    G, D = nets["generator"], nets["discriminator"]
    descend_g, descend_d = torch_adam(adam, G), torch_adam(adam, D)

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
        loss_d = descend_d(loss_of_d(x, z))
        D.requires_grad_(False)
        return loss_d, descend_g(loss_of_g(z2))

    return step


def torch_autoencoder(
    system: str, nets: dict[str, Any], adam: dict[str, bool], maybe_compiled: Any
) -> Callable[..., tuple[Any, ...]]:
    """Return a step of an autoencoder or a VAE."""
    import torch
    from torch.nn import functional as F

    encoder, decoder = nets["encoder"], nets["decoder"]
    descend = torch_adam(adam, encoder, decoder)

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
        return (descend(loss_of(*batch)),)

    return step


def torch_graph(f: Callable[[], object]) -> Callable[[], object]:
    """Record f as a CUDA graph, as in PyTorch's manual; return its replay."""
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
        graph.replay()  # reads the arrays that f holds

    return replay


def torch_seconds(f: Callable[[], object]) -> float:
    """Return the seconds of a call, by the GPU's clock."""
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    f()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


# --- Frameworks with NumPy's interface ----------------------------------------------
#
# Numbers are float32 here, and maximum and mean are written in other functions:
# autograd and mygrad would compute these in float64, even for float32 arrays.


def losses_of(xp: Any, system: str) -> tuple[Callable[..., Any], ...]:
    """Return the losses of a system, as functions of (parameters, *batch).

    The GAN has two: D's loss of (D's parameters, G's, *batch), and G's loss of (G's
    parameters, D's, *batch).
    """

    half, one, slope = map(np.float32, (0.5, 1, SLOPE))

    def relu(a: Any) -> Any:
        return a * (a > 0)

    def leaky_relu(a: Any) -> Any:
        return a * xp.where(a > 0, one, slope)

    def sigmoid(a: Any) -> Any:
        return one / (one + xp.exp(-a))

    def softplus(a: Any) -> Any:
        return relu(a) + xp.log1p(xp.exp(-xp.abs(a)))

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
            total = xp.sum(softplus(-a[:n])) + xp.sum(softplus(a[n:]))
            return total / np.float32(n)

        def loss_of_g(g: Any, d: Any, z: Any) -> Any:
            a = net(d, "discriminator", sigmoid(net(g, "generator", z)))
            return xp.sum(softplus(-a)) / np.float32(len(z))

        return loss_of_d, loss_of_g

    def loss_of(p: Any, x: Any, *eps: Any) -> Any:
        kl: Any = np.float32(0)
        n = np.float32(len(x))
        z = net(p, "encoder", x)
        if eps:
            mu, log_var = z[:, :CODE], z[:, CODE:]
            z = mu + xp.exp(log_var * half) * eps[0]
            kl = half * xp.sum(mu * mu + xp.exp(log_var) - one - log_var)
        a = net(p, "decoder", z)
        if LOSS.get(system) == "squared":
            e = sigmoid(a) - x
            return xp.sum(e * e) / n
        return (xp.sum(softplus(a) - a * x) + kl) / n

    return (loss_of,)


def split(system: str, weights: Weights) -> tuple[Weights, ...]:
    """Return the parameters of each loss; for the GAN, D's and G's."""
    if system != "GAN":
        return (weights,)
    return tuple(
        {name: w for name, w in weights.items() if name.startswith(net)}
        for net in ("discriminator", "generator")
    )


def given_to(system: str, i: int, parts: Any, x: Any, noise: Any) -> tuple[Any, ...]:
    """Return the arguments of loss i after its own parameters."""
    if system != "GAN":
        return (x, *noise)
    return (parts[1], x, noise[0]) if i == 0 else (parts[0], noise[1])


def jax(system: str, batch: int, weights: Weights) -> Stepper:
    """Return JAX's step: one jitted function of the whole state, updated in place."""
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
    """Return Adam in NumPy, for frameworks without one."""
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
    """Return autograd's step: it wraps NumPy and differentiates functions."""
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
    """Return mygrad's step: tensors over NumPy, like scratchnet's engine."""
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
