"""The same code on a device: all training, on the stand-in of device.py.

The runs are those of test_resume.py. Their results on the device are compared with
those on the host, from the same noise. By hand, the device records the second step and
then replays it.
"""

import contextlib
import random
from functools import cache

import numpy as np
import pytest

from scratchnet import backend, byhand, models, optim
from scratchnet.cli.main import main
from scratchnet.graph import plain
from scratchnet.runs import images
from scratchnet.table import TABLE, Nondifferentiable, load, name_of
from scratchnet.tensor import Tensor
from scratchnet.training import checkpoint, fit
from scratchnet.training.checkpoint import Checkpoints, Stopped
from scratchnet.twins import OBJECTIVES
from tests.backend import compiled, device
from tests.cases import CASES, Draw
from tests.cli.test_resume import COMMON
from tests.cli.test_resume import RUNS as COMMANDS
from tests.commands import draw_nothing
from tests.helpers import rng
from tests.training.test_resume import (
    NETS,
    RUNS,
    SIZES,
    SYSTEMS,
    D,
    StopAfter,
    X,
    assert_same,
    descend,
    play,
)

every_run = pytest.mark.parametrize(
    ("run", "name"), RUNS, ids=lambda x: getattr(x, "__name__", x)
)
both_kinds = pytest.mark.parametrize("kind", ["hand", "engine"])


@cache
def run_on_the_host(run, name, kind):
    """Train once; every test compares with the result."""
    with device.the_host_alike():
        return run(kind, name)


@both_kinds
@every_run
def test_a_run_on_the_device_equals_that_on_the_host(run, name, kind):
    with device.use():
        there = run(kind, name)
    assert_same(there, run_on_the_host(run, name, kind))
    if name in ("Autoencoder", "StackedAutoencoder", ""):  # these need no noise
        assert_same(there, run(kind, name))


@both_kinds
@every_run
@pytest.mark.parametrize("first", ["host", "device"])
def test_a_run_may_be_resumed_on_the_other_backend(tmp_path, run, name, kind, first):
    def begin():
        with pytest.raises(Stopped):
            run(kind, name, checkpoints=StopAfter(tmp_path, 5))

    def go_on():
        with pytest.warns(UserWarning, match="backend was .* the last bits may differ"):
            return run(kind, name, resume=Checkpoints(tmp_path).last())

    one, other = device.the_host_alike, device.use
    if first == "device":
        one, other = other, one
    with one():
        begin()
    with other():
        end = go_on()
    assert_same(end, run_on_the_host(run, name, kind))


@compiled.needs_compiler
@both_kinds
@every_run
def test_a_run_with_the_kernels_in_c_is_the_same_up_to_rounding(run, name, kind):
    here, history, _ = run_on_the_host(run, name, kind)
    with device.use(kernels=True):
        there, record, _ = run(kind, name)
    for key, a in here.items():
        # If D judges pairs, the gradient of its last b is zero up to rounding. Adam
        # divides it by its own size, or by 1e-8, so that b is about 1e-10.
        zero = name == "relativistic" and key == "discriminator.2.b"
        limit = 1e-9 if zero else 1e-11
        np.testing.assert_allclose(there[key], a, rtol=1e-8, atol=limit)
    for key in set(history) - {"seconds"}:
        np.testing.assert_allclose(record[key], history[key], rtol=1e-9)


@pytest.mark.parametrize("first", ["host", "device"])
@pytest.mark.parametrize(("run", "name"), [(descend, "VAE"), (play, "relativistic")])
def test_resuming_with_other_noise_warns(tmp_path, run, name, first):
    here, there = contextlib.nullcontext, device.use
    one, other = (here, there) if first == "host" else (there, here)
    with one(), pytest.raises(Stopped):
        run("hand", name, checkpoints=StopAfter(tmp_path, 5))
    with (
        other(),
        pytest.warns(UserWarning, match="noise was drawn on a device and is"),
        pytest.warns(UserWarning, match="backend was"),
    ):
        weights, _, _ = run("hand", name, resume=Checkpoints(tmp_path).last())
    assert all(np.isfinite(a).all() for a in weights.values())


# --- Uses of a trained model --------------------------------------------------------


def made(kind, name, **options):
    options |= {"rng": rng(0), "dtype": np.float64}
    if name == "GAN":
        options |= NETS
    else:
        options |= {"sizes": SIZES, **SYSTEMS[name]}
    if kind == "hand":
        return getattr(byhand, name)(**options, batch_size=16)
    return getattr(models, name)(**options)


def uses(name, model, x):
    """Yield (use, result) for all uses of a model of that name."""
    if name == "GAN":
        z = backend.asarray(rng(2).standard_normal((20, 3)))
        yield "generate", model.generate(z)
        yield "discriminate", model.discriminate(x)
        yield "logits", model.logits(x)
        return
    z = model.encode(x)
    yield "encode", z
    yield "decode", model.decode(z)
    yield "reconstruct", model.reconstruct(x)
    if name in ("VAE", "IWAE"):
        yield from zip(("mu", "log_var"), model.posterior(x), strict=True)
        yield "log_p_x", model.log_p_x(x, z)
        yield "elbo", model.elbo(x, rng(2))
        yield "sample", model.sample(5, rng(2))
        yield "log_likelihood", model.log_likelihood(x, rng(2), 7)


@both_kinds
@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("name", [*SYSTEMS, "GAN"])
@pytest.mark.parametrize("given", ["host", "device"])
def test_uses_on_the_device(name, kind, decoder, given):
    """The results are those on the host. Host arrays in, host arrays out."""
    options = {"decoder": decoder} if name in ("VAE", "IWAE") else {}
    here = dict(uses(name, made(kind, name, **options), X))
    with device.use():
        x = X if given == "host" else backend.asarray(X)
        there = dict(uses(name, made(kind, name, **options), x))
        for asked, found in there.items():
            if given == "host" and asked not in ("sample", "generate"):
                assert type(found) is np.ndarray  # sample and generate take no array
            np.testing.assert_array_equal(backend.to_numpy(found), here[asked])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_penalties_and_packs_on_the_device(objective):
    options = {"r1": 1.0, "r2": 0.5, "packing": 2, "objective": objective}
    options |= {"generator": (3, 5, D), "discriminator": (2 * D, 5, 1)}

    def gradients():
        x, z = backend.asarray(X[:8]), backend.asarray(rng(2).standard_normal((8, 3)))
        gan = byhand.GAN(**options, rng=rng(0), batch_size=8, dtype=np.float64)
        yield gan.discriminator_gradients(x, z)
        yield gan.generator_gradients(z, x)
        yield from gan.gradients.values()
        twin = models.GAN(**options, rng=rng(0), dtype=np.float64)
        twin.discriminator_loss(x, z).backward()
        yield from (p.grad for p in twin.discriminator.parameters())

    here = [np.array(g) for g in gradients()]
    with device.use():
        there = [backend.to_numpy(g) for g in gradients()]
    assert len(here) == 14
    for a, b in zip(there, here, strict=True):
        np.testing.assert_array_equal(a, b)


@both_kinds
@pytest.mark.parametrize("name", [*SYSTEMS, "GAN"])
def test_a_step_takes_nothing_from_the_host(name, kind):
    with device.use():
        model = made(kind, name)
        if name == "GAN":
            z = rng(2).standard_normal((8, 3))
            step = (
                getattr(model, "discriminator_step", None) or model.discriminator_loss
            )
            batch = (X[:8], z)
        else:
            step = getattr(model, "step", model.loss)
            batch = (X[:8],)
            if hasattr(model, "with_noise"):
                batch = model.with_noise(X[:8], rng=rng(1))
        with pytest.raises(
            TypeError, match=r"the backend is 'stand-in'; pass backend\.as"
        ):
            step(*batch)


def test_a_step_by_hand_is_called_twice_and_then_replayed(monkeypatch):
    """Except for the last minibatch of each epoch, which is smaller."""
    calls = []
    step = byhand.VAE.step
    monkeypatch.setattr(
        byhand.VAE,
        "step",
        lambda self, *b: (calls.append(len(b[0])), step(self, *b))[1],
    )
    with device.use():
        fit(made("hand", "VAE"), X, epochs=4, batch_size=16, rng=rng(3), noise=rng(4))
    assert calls == [16, 16, 2, 2, 2, 2]


@pytest.mark.parametrize("kind", ["hand", "engine"])
def test_the_host_waits_for_three_numbers_an_epoch(kind):
    """The losses, the check that all weights are finite, and the validation loss."""

    def counted(epochs):
        model = made(kind, "VAE")
        adam = None if kind == "hand" else optim.Adam(model.parameters())
        device.syncs = 0
        fit(model, X, epochs=epochs, batch_size=10, rng=rng(3), noise=rng(4),
            optimizer=adam, validation=X[:20])  # fmt: skip
        return device.syncs

    with device.use():
        assert counted(7) - counted(2) == 5 * 3


# --- The table ----------------------------------------------------------------------

# Cases whose calls contain host arrays.
ON_THE_HOST = {
    "softmax_cross_entropy", "keep_some", "choosing_with_number", "take_along_axis",
    "where", "scatter",
}  # fmt: skip
load()
ROWS = sorted(
    (f for f, row in TABLE.items() if type(row) is not Nondifferentiable), key=name_of
)


def rows_result(function, way, seed):
    """Return the value of a case and its gradients, on the host."""
    call, inputs = way(Draw(random.Random(f"{name_of(function)} {seed}")), function)
    variables = [Tensor(backend.asarray(x), requires_grad=True) for x in inputs]
    results = call(*variables)
    found = []
    for y in results if isinstance(results, (list, tuple)) else [results]:
        found.append(backend.to_numpy(plain(y)))
        if isinstance(y, Tensor) and y.requires_grad:
            y.backward(np.full_like(y.data, 0.5), retain_graph=True)
    found += [v.grad for v in variables if v.grad is not None]
    return [backend.to_numpy(a) for a in found]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("function", ROWS, ids=name_of)
def test_every_row_of_the_table_on_the_device(function):
    for way in CASES.get(function, []):
        for seed in range(3):
            if way.__name__ in ON_THE_HOST:
                continue
            here = rows_result(function, way, seed)
            with device.use():
                there = rows_result(function, way, seed)
            for a, b in zip(there, here, strict=True):
                # NumPy's loops may round the last bit differently in other memory.
                np.testing.assert_allclose(a, b, rtol=4e-16, atol=0)


# --- The command line ---------------------------------------------------------------


ENGINES = [(name, "byhand") for name in COMMANDS]
ENGINES += [("vae", "autograd"), ("gan", "autograd")]


@pytest.mark.parametrize(("name", "engine"), ENGINES)
def test_commands_on_the_device_write_what_they_write_on_the_host(
    tmp_path, capsys, monkeypatch, name, engine
):
    monkeypatch.setattr(images, "SYNTHETIC", {"drawn": (200, 50), "deer": (200, 50)})
    draw_nothing(monkeypatch)
    asked = [f"{COMMANDS[name]} {COMMON} --engine {engine} --out RUN"]
    if name in ("vae", "iwae", "gan"):
        asked.append("sample RUN --n 4")
    if name != "gan":
        asked += ["reconstruct RUN --n 3", "encode RUN --out RUN/codes.npz"]

    def answers(run):
        for command in asked:
            assert main(command.replace("RUN", str(run)).split()) == 0
        said = capsys.readouterr().out.replace(str(run), "RUN")
        weights, _ = checkpoint.load(run / "weights.npz")
        return said, weights

    with device.the_host_alike():
        here = answers(tmp_path / "host")
    with device.use():
        there = answers(tmp_path / "device")
    assert there[0] == here[0]
    for key, a in here[1].items():
        np.testing.assert_array_equal(there[1][key], a)
