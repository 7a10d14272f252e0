"""Jobs of test_distributed.py under mpiexec: python -m tests.training.mpi_job NAME ...

Every process calls the named functions in turn. `same` compares the results with those
of one process.
"""

import os
import re
import signal
import sys
import tempfile
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pytest

from scratchnet import backend, byhand
from scratchnet.data.corruption import Gaussian, Masking
from scratchnet.kernels import initializers, schedules, updates
from scratchnet.training import distributed, fit, pretrain
from scratchnet.training.checkpoint import Checkpoints
from scratchnet.training.distributed import Group
from tests.helpers import rng

D, N = 6, 49  # the last minibatch has one row: some processes have none
X = np.random.default_rng(1).random((N, D))
SYSTEMS = {
    "Autoencoder": {"loss": "cross_entropy"}, "StackedAutoencoder": {},
    "DenoisingAutoencoder": {"corruption": Masking(0.5)}, "VAE": {"beta": 2.0},
    "IWAE": {"k": 3},
}  # fmt: skip
KINDS = [(name, options) for name, options in SYSTEMS.items()]
KINDS += [(name, {"decoder": "gaussian"}) for name in ("VAE", "IWAE")]


def made(name, options):
    if "update" not in options:
        options = {"lr": schedules.cosine_decay(1e-2, 40), **options}
    options = {"dtype": np.float64, **options}
    return getattr(byhand, name)((D, 5, 4, 2), rng=rng(0), batch_size=16, **options)


def run(model, x=X, **how):
    noise = {"noise": rng(4)} if hasattr(model, "with_noise") else {}
    return fit(
        model, x, epochs=3, batch_size=16, rng=rng(3), validation=X[:20], **noise, **how
    )


def same():
    """All systems, by one process and by all, which hold all rows or their shards."""
    for name, options in KINDS:
        alone = made(name, options)
        expected = run(alone)
        for sharded in (False, True):
            group = Group(sharded)
            model = made(name, options)
            x = X
            if sharded:
                end = [N * k // group.size for k in range(group.size + 1)]
                x = X[end[group.rank] : end[group.rank + 1]]
            found = run(model, x, group=group)
            # To 1e-10 after 12 steps of Adam, in float64.
            np.testing.assert_allclose(model.theta, alone.theta, rtol=0, atol=1e-10)
            np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-10)
            np.testing.assert_allclose(
                found.validation_losses, expected.validation_losses, rtol=1e-10
            )
            assert model.group is None
            print(f"{name} {sharded} in {group.rank} of {group.size}")


def layers():
    """Pretrain a stack layer by layer."""
    found = []
    for group in (None, Group()):
        stack = made("StackedAutoencoder", {})
        pretrain(stack, X, epochs=2, batch_size=16, rng=rng(3), group=group)
        found.append(stack.theta)
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-10)


def resumed_shards():
    """Resume a stack on shards, where each process has other rows."""
    with Group(sharded=True) as group:
        end = [N * k // group.size for k in range(group.size + 1)]
        x = X[end[group.rank] : end[group.rank + 1]]
        how = {"epochs": 2, "batch_size": 16, "group": group}
        folder = group.from_first(tempfile.mkdtemp())
        save = Checkpoints(folder, every=0, group=group)
        whole = made("StackedAutoencoder", {})
        pretrain(whole, x, rng=rng(3), checkpoints=save, **how)
        state = save.last() if group.rank == 0 else None
        again = made("StackedAutoencoder", {})
        pretrain(again, x, rng=rng(3), resume=state, **how)
        np.testing.assert_array_equal(again.theta, whole.theta)


def exploding():
    """If weights become infinite, all processes go back.

    This is found at the end of the epoch, or when a state is saved.
    """
    group = Group()
    folder = group.from_first(tempfile.mkdtemp())
    for how in ({}, {"checkpoints": Checkpoints(folder, every=0, group=group)}):
        model = made("Autoencoder", {"output": "linear"})
        model.optimizer.lr = lambda t: 1e-2 if t < 6 else 1e300
        said = r"in epoch 2, step 4 of 4; .* To find the operation, train with one"
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=said):
            run(model, group=group, **how)
        assert np.isfinite(model.theta).all()


def killed():
    with Group() as group:
        die = partial(os.kill, os.getpid(), signal.SIGKILL)
        run(made("VAE", {}), group=group,
            callback=(lambda _: die()) if group.rank == 1 else None)  # fmt: skip


def failing():
    def fail(_):
        raise ValueError("no room for more")

    with Group() as group:
        run(made("VAE", {}), group=group, callback=fail if group.rank == 1 else None)


def differing():
    with Group() as group:
        model = made("VAE", {})
        model.theta[0] += group.rank
        run(model, group=group)


def differing_kinds():
    """An optimizer of another kind, with fewer options to compare."""
    group = Group()
    model = made("VAE", {})
    if group.rank:
        model.optimizer = updates.SGDUpdate([model.theta], lr=1e-2)
    said = r"fit: not as in process 0: optimizer in process 1, optimizer\."
    with pytest.raises(ValueError, match=said):
        run(model, group=group)


def drifting():
    """A difference that no fact shows is found at the end of the epoch."""
    group = Group()
    model = made("VAE", {})

    def drift(_):
        model.theta[0] += group.rank

    said = "fit: not as in process 0: the weights in process 1"
    with pytest.raises(ValueError, match=said):
        run(model, group=group, callback=drift)


# Differences of two processes: the name in the error, then the system, its options and
# the arguments of `fit` in process r.

LEVEL = 0.0  # a global that a user's function reads


@dataclass
class Mask:
    """A user's corruption, with an array."""

    kept: np.ndarray

    def __call__(self, x, rng):
        return x * self.kept


class Doubled:
    """A user's corruption that holds a corruption and a generator."""

    def __init__(self, inner, seed):
        self._inner, self._rng = inner, rng(seed)

    def __call__(self, x, _):
        return self._inner(self._inner(x, self._rng), self._rng)


def mixed(x, rng, *, level):
    return Masking(level)(x, rng)


def through_a_closure(level):
    return lambda x, rng: Masking(level)(x, rng)


def through_a_global(x, rng):
    return Masking(LEVEL)(x, rng)


@cache
def table(r):
    rates = [1e-2] * 11 + [1e-2 + 1e-9 * r]
    return rates.__getitem__


def adam(**options):
    return {"update": "adam", **options}


def sgd(**options):
    return {"update": "sgd", "lr": 0.1, **options}


def corrupted(corruption):
    return "DenoisingAutoencoder", {"corruption": corruption}, {}


def differing_options(r):
    """Yield the name of each difference, and the arguments that differ."""
    vae, ae, denoising = "VAE", "Autoencoder", corrupted
    init = (initializers.he_normal, initializers.he_uniform)[r]
    halved = (lambda x, rng: x * 0.5, lambda x, rng: x * 0.25)[r]
    cosine = schedules.cosine_decay(1e-2, 40 + r)
    held = schedules.hold_then_decay(1e-2, 9, 0.5 + r / 9)
    kind = (np.float64, np.float32)[r]
    yield "model.beta", vae, {"beta": 1.0 + r}, {}
    yield "model.encoder.f[0].forward", vae, {"activation": ("relu", "tanh")[r]}, {}
    yield ("model.encoder.f[0].forward.slope", ae,
           {"activation": "leaky_relu", "slope": 0.1 + r / 10}, {})  # fmt: skip
    yield "model.bounded", ae, {"output": ("sigmoid", "linear")[r]}, {}
    yield "model.cross_entropy", ae, {"loss": ("squared", "cross_entropy")[r]}, {}
    yield "model.encoder.f[3].forward", ae, {"active_code": bool(r)}, {}
    yield "model.gaussian", vae, {"decoder": ("bernoulli", "gaussian")[r]}, {}
    yield "model.k", "IWAE", {"k": 3 + r}, {}
    yield "model", ("VAE", "IWAE")[r], {}, {}
    yield "model.encoder.0.W", ae, {"init": init}, {}
    yield "model.corruption.p", *denoising(Masking(0.4 + r / 10))
    yield "model.corruption", *denoising((Masking(0.5), Gaussian(0.5))[r])
    yield "model.corruption.kept", *denoising(Mask(np.ones(D) - r * np.eye(D)[0]))
    yield "model.corruption._inner.sigma", *denoising(Doubled(Gaussian(0.1 + r), 0))
    yield "model.corruption._rng", *denoising(Doubled(Gaussian(0.1), r))
    yield "model.corruption.level", *denoising(partial(mixed, level=0.4 + r / 10))
    yield "model.corruption.level", *denoising(through_a_closure(0.4 + r / 10))
    yield "model.corruption.LEVEL", *denoising(through_a_global)
    yield "model.corruption (code)", *denoising(halved)
    yield "optimizer.lr", vae, adam(lr=1e-2 * (1 + r)), {}
    yield "optimizer.betas", vae, adam(betas=(0.9, 0.99 + r / 1000)), {}
    yield "optimizer.eps", vae, adam(eps=1e-8 * (1 + r)), {}
    yield "optimizer.weight_decay", vae, {"update": "adamw", "weight_decay": r / 10}, {}
    yield "optimizer.momentum", vae, sgd(momentum=0.5 + r / 10), {}
    yield "optimizer", vae, (adam, sgd)[r](lr=0.1), {}
    yield "optimizer.lr of all steps", vae, adam(lr=cosine), {}
    yield "optimizer._rate.held", vae, adam(lr=held), {}
    yield "optimizer.lr of all steps", vae, adam(lr=table(r)), {}
    yield "batch_size", vae, {}, {"batch_size": 16 - r}
    yield "epochs", vae, {}, {"epochs": 3 + r}
    yield "rng", vae, {}, {"rng": rng(3 + r)}
    yield "noise", vae, {}, {"noise": rng(4 + r)}
    yield "x", vae, {}, {"x": X + 1e-9 * r * (X < 0.5)}
    yield "rows", vae, {}, {"x": X[r:]}
    yield "validation", vae, {}, {"validation": X[:20] * (1 - r / 2)}
    yield "validation", vae, {}, {"validation": (None, X)[r]}
    folder = Checkpoints("nowhere", group=GROUPS[-1])
    yield "checkpoints", vae, {}, {"checkpoints": (None, folder)[r]}
    data = {"x": X.astype(kind), "validation": None}
    yield "model.dtype", vae, {"dtype": kind}, data


GROUPS = []


def refused(name, owner, f):
    """Check that a call is refused in all processes, and the difference named."""
    said = rf"^{owner}: not as in process 0: .*\b{re.escape(name)} in process 1[,;]"
    with pytest.raises(ValueError, match=said):
        f()


def differing_groups():
    """Processes compare themselves, and then their shards of the data."""
    rank = Group().rank
    refused("sharded", "Group", lambda: Group(sharded=rank == 1))
    with pytest.MonkeyPatch.context() as patch:
        if rank:
            patch.setattr(distributed, "__version__", "0.0.1")
        refused("the version of scratchnet", "Group", Group)
    with pytest.MonkeyPatch.context() as patch:
        if rank:
            patch.setattr(backend, "name", lambda: "cupy")
        refused("backend", "Group", Group)
    group = Group(sharded=True)
    model = byhand.Autoencoder((D + rank, 2), rng=rng(0), batch_size=16, dtype="f8")
    x = np.ones((20 + rank, D + rank))
    how = {"epochs": 1, "batch_size": 16, "rng": rng(3), "group": group}
    refused("the columns of x", "fit", partial(fit, model, x, **how))
    kind = ("f8", "f4")[rank]
    model = byhand.Autoencoder((D, 2), rng=rng(0), batch_size=16, dtype=kind)
    refused("the dtype of x", "fit", partial(fit, model, x[:, :D].astype(kind), **how))


def differing_in_all():
    """Everything that defines a run is compared before its first step."""
    global LEVEL
    differing_groups()
    group = Group()
    GROUPS.append(group)
    r = group.rank
    LEVEL = 0.4 + r / 10
    for name, system, options, how in differing_options(r):
        model = made(system, options)
        before = model.theta.copy()
        how = {"epochs": 3, "batch_size": 16, "rng": rng(3), "validation": X[:20]} | how
        if hasattr(model, "with_noise"):
            how.setdefault("noise", rng(4))
        refused(name, "fit", partial(fit, model, how.pop("x", X), group=group, **how))
        np.testing.assert_array_equal(model.theta, before)
    stacks = [({"activation": ("relu", "tanh")[r]}, {}, "model._options.activation"),
              ({}, {"epochs": 1 + r}, "epochs"), ({}, {"x": X * (1 - r / 2)}, "x"),
              (adam(lr=table(r)), {}, "optimizer.lr of all steps")]  # fmt: skip
    for options, how, name in stacks:
        stack = made("StackedAutoencoder", options)
        how = {"x": X, "epochs": 3, "batch_size": 16, "rng": rng(3)} | how
        refused(name, "pretrain", partial(pretrain, stack, group=group, **how))


def alone():
    """One process has started MPI, but trains without the others."""
    from mpi4py import MPI

    group = None if MPI.COMM_WORLD.Get_rank() else Group()
    run(made("VAE", {}), group=group)


def surprised():
    """An unexpected error is shown with its traceback."""
    with Group() as group:
        if group.rank == 1:
            {}["no such key"]
        run(made("VAE", {}), group=group)


def unguarded():
    """Without the group each process would write its own checkpoints."""
    with pytest.raises(ValueError, match=r"pass Checkpoints\(folder, group=group\)"):
        run(made("VAE", {}), group=Group(), checkpoints=Checkpoints("nowhere"))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{name} begins", file=sys.stderr, flush=True)
        globals()[name]()
