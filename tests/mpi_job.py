"""What test_distributed.py runs with mpiexec: python -m tests.mpi_job NAME.

Each function is what every process does. `same` is where it must come out.
"""

import os
import signal
import sys
import tempfile
from functools import partial

import numpy as np
import pytest

from scratchnet import byhand, kernels
from scratchnet.checkpoint import Checkpoints
from scratchnet.data.corruption import Masking
from scratchnet.distributed import Group
from scratchnet.training import fit, pretrain

D, N = 6, 49  # the last of the minibatches of 16 has one row: some have none
X = np.random.default_rng(1).random((N, D))
SYSTEMS = {
    "Autoencoder": {"loss": "cross_entropy"}, "StackedAutoencoder": {},
    "DenoisingAutoencoder": {"corruption": Masking(0.5)}, "VAE": {"beta": 2.0},
    "IWAE": {"k": 3},
}  # fmt: skip
KINDS = [(name, options) for name, options in SYSTEMS.items()]
KINDS += [(name, {"decoder": "gaussian"}) for name in ("VAE", "IWAE")]


def rng(seed):
    return np.random.default_rng(seed)


def made(name, options):
    make = partial(kernels.AdamUpdate, lr=kernels.cosine_decay(1e-2, 40))
    return getattr(byhand, name)(
        (D, 5, 4, 2), rng=rng(0), batch_size=16, dtype=np.float64, optimizer=make,
        **options,
    )  # fmt: skip


def run(model, x=X, **how):
    noise = {"noise": rng(4)} if hasattr(model, "with_noise") else {}
    return fit(
        model, x, epochs=3, batch_size=16, rng=rng(3), validation=X[:20], **noise, **how
    )


def same():
    """All systems, by one process and by all, each with all rows or with its own."""
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
    """A stack, layer by layer."""
    found = []
    for group in (None, Group()):
        stack = made("StackedAutoencoder", {})
        pretrain(stack, X, epochs=2, batch_size=16, rng=rng(3), group=group)
        found.append(stack.theta)
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-10)


def exploding():
    """What becomes infinite does so everywhere, and everywhere is gone back.

    Whether it is noticed at the end of the epoch, or by the state that is to be saved.
    """
    group = Group()
    folder = group.from_first(tempfile.mkdtemp())
    for how in ({}, {"checkpoints": Checkpoints(folder, every=0, group=group)}):
        model = made("Autoencoder", {"output": "linear"})
        model.optimizer.lr = lambda t: 1e-2 if t < 6 else 1e300
        said = r"in epoch 2, step 4 of 4; .* One process alone finds out"
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
    """An optimizer of another kind, which has less to compare."""
    with Group() as group:
        model = made("VAE", {})
        if group.rank:
            model.optimizer = kernels.SGDUpdate([model.theta], lr=1e-2)
        run(model, group=group)


def drifting():
    """What no state shows is found out at the end of the epoch."""
    with Group() as group:
        model = made("VAE", {})
        model.optimizer.weight_decay = 0.1 * group.rank
        run(model, group=group)


def surprised():
    """An error that nobody counted on is shown with where it comes from."""
    with Group() as group:
        if group.rank == 1:
            {}["no such key"]
        run(made("VAE", {}), group=group)


def unguarded():
    """Each would write for itself."""
    with pytest.raises(ValueError, match=r"pass Checkpoints\(folder, group=group\)"):
        run(made("VAE", {}), group=Group(), checkpoints=Checkpoints("nowhere"))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
