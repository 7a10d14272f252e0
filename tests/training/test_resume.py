"""An interrupted run is resumed in the library, exact to the last bit."""

from dataclasses import asdict

import numpy as np
import pytest

from scratchnet import byhand, models, nn, optim
from scratchnet.data.corruption import Masking
from scratchnet.kernels import schedules
from scratchnet.training import checkpoint, fit, fit_gan, pretrain
from scratchnet.training.checkpoint import Checkpoints, State, Stopped
from tests.helpers import rng

D = 6
X = np.random.default_rng(1).random((50, D))
RATE = schedules.cosine_decay(1e-2, 40)
SIZES = (D, 5, 4, 2)
NETS = {"generator": (3, 5, D), "discriminator": (D, 5, 1)}


SYSTEMS = {
    "Autoencoder": {}, "StackedAutoencoder": {},
    "DenoisingAutoencoder": {"corruption": Masking(0.5)}, "VAE": {}, "IWAE": {"k": 2},
}  # fmt: skip


def descend(kind, name, **how):
    """Train for some epochs; return weights, moments, history and generators."""
    options = {"rng": rng(0), "dtype": np.float64, **SYSTEMS[name]}
    noise, shuffle = rng(4), rng(3)
    common = {"epochs": 3, "batch_size": 16, "rng": shuffle, "validation": X[:20]}
    if name not in ("Autoencoder", "StackedAutoencoder"):
        common["noise"] = noise
    if kind == "hand":
        model = getattr(byhand, name)(SIZES, batch_size=16, lr=RATE, **options)
        update = model.optimizer
    else:
        model = getattr(models, name)(SIZES, **options)
        update = common["optimizer"] = optim.Adam(model.parameters(), lr=RATE)
    history = asdict(fit(model, X, **common, **how))
    return model.state_dict() | update.state_dict(), history, (noise, shuffle)


def play(kind, name, **how):
    """Play some steps of a GAN, with an average."""
    options = {**NETS, "rng": rng(0), "dtype": np.float64, "objective": name}
    noise, shuffle = rng(4), rng(3)
    optimizers = None
    if kind == "hand":
        gan = byhand.GAN(**options, batch_size=8, lr=RATE)
        average = optim.AverageUpdate([gan.theta_g], 0.9)
        of_d = gan.discriminator_optimizer
    else:
        gan = models.GAN(**options)
        g, of_d = (optim.Adam(net.parameters(), lr=RATE)
                   for net in (gan.generator, gan.discriminator))  # fmt: skip
        optimizers = g, of_d
        average = optim.EMA(gan.generator.parameters(), 0.9)
    history = fit_gan(
        gan, X, steps=9, batch_size=8, rng=shuffle, noise=noise, optimizers=optimizers,
        discriminator_steps=2, average=average, every=2, **how,
    )  # fmt: skip
    state = gan.state_dict() | of_d.state_dict() | average.state_dict()
    return state, asdict(history), (noise, shuffle)


def layers(kind, name, **how):
    """Pretrain a stack."""
    options = {"rng": rng(0), "dtype": np.float64}
    shuffle = rng(3)
    if kind == "hand":
        stack = byhand.StackedAutoencoder(SIZES, batch_size=16, **options)
    else:
        stack = models.StackedAutoencoder(SIZES, **options)
        how["optimizer"] = optim.Adam
    found = pretrain(stack, X, epochs=2, batch_size=16, rng=shuffle, **how)
    record = {"losses": [h.losses for h in found]}
    return stack.state_dict(), record, (shuffle,)


RUNS = [(descend, name) for name in SYSTEMS]
RUNS += [(play, "relativistic"), (play, "non_saturating"), (layers, "")]


class StopAfter(Checkpoints):
    """Asks to stop after so many steps."""

    def __init__(self, folder, steps):
        super().__init__(folder)
        self.steps = steps

    def __call__(self, state):
        self.steps -= 1
        self.stop = self.steps == 0
        super().__call__(state)


def assert_same(one, two):
    (weights, history, generators), (others, record, more) = one, two
    assert list(weights) == list(others)
    for name, a in weights.items():
        np.testing.assert_array_equal(a, others[name])
    for name in set(history) - {"seconds"}:
        assert history[name] == record[name]
    for a, b in zip(generators, more, strict=True):
        assert a.bit_generator.state == b.bit_generator.state


@pytest.mark.parametrize("kind", ["hand", "engine"])
@pytest.mark.parametrize(("run", "name"), RUNS, ids=lambda x: getattr(x, "__name__", x))
@pytest.mark.parametrize("apart", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_stopped_anywhere_ends_as_if_uninterrupted(
    tmp_path, run, name, kind, apart
):
    """By hand after each step, with the engine after every third: an epoch has four."""
    whole = run(kind, name)
    apart = 1 if kind == "hand" else apart
    stopped = 0
    for steps in range(1, 100, apart):
        folder = tmp_path / str(steps)
        try:
            run(kind, name, checkpoints=StopAfter(folder, steps))
        except Stopped:
            stopped += 1
            state = Checkpoints(folder).last()
            assert_same(run(kind, name, resume=state), whole)
        else:
            break
    assert stopped == {descend: 12, play: 9, layers: 24}[run] // apart


@pytest.mark.parametrize("run", [descend, play])
def test_the_callback_sees_all_of_a_run_that_was_stopped_anywhere(tmp_path, run):
    def growing(seen):
        def look(history):
            curve = history.steps if run is play else history.losses
            seen[len(curve)] = seen.get(len(curve), 0) + 1

        return look

    whole = {}
    name = "non_saturating" if run is play else "VAE"
    run("hand", name, callback=growing(whole))
    for steps in range(1, 10):
        seen = {}
        save = StopAfter(tmp_path / str(steps), steps)
        with pytest.raises(Stopped):
            run("hand", name, callback=growing(seen), checkpoints=save)
        run("hand", name, callback=growing(seen), resume=save.last())
        assert seen == whole  # once for each entry


def test_a_run_may_be_stopped_again_and_again(tmp_path):
    whole = descend("hand", "VAE")
    state, saved = None, None
    for _ in range(12):
        with pytest.raises(Stopped, match=r"stopped; the state is in .*npz"):
            descend("hand", "VAE", checkpoints=StopAfter(tmp_path, 1), resume=state)
        saved, state = state, Checkpoints(tmp_path).last()
        assert saved is None or saved.facts["step"] != state.facts["step"]
    assert_same(descend("hand", "VAE", resume=state), whole)
    assert len(list(tmp_path.iterdir())) == 3  # the last ones are kept


def test_states_are_saved_in_time_and_the_last_few_are_kept(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    made = []

    def state():
        made.append(now[0])
        return State({"a": np.array(now[0])}, {"t": now[0]})

    checkpoints = Checkpoints(tmp_path / "new", every=10, keep=2)
    assert checkpoints.last() is None
    for t in range(1, 36):
        now[0] = float(t)
        checkpoints(state)
    assert made == [10, 20, 30]
    assert sorted(p.name for p in checkpoints.folder.iterdir()) == [
        "00000001.npz", "00000002.npz"
    ]  # fmt: skip
    assert checkpoints.last().facts == {"t": 30.0, "run": checkpoints.run}
    assert Checkpoints(tmp_path / "new").last().arrays["a"] == 30


def test_after_a_damaged_state_the_one_before_is_used(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for t in range(3):
        checkpoints.write(State({"a": np.array(t)}, {}))
    (tmp_path / "00000002.npz").write_bytes(b"PK")
    assert checkpoints.last().arrays["a"] == 1
    assert checkpoints.write(State({}, {})).name == "00000003.npz"
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"no state can be read; .*00000003\.npz"):
        checkpoints.last()


def test_earlier_states_stay_if_one_cannot_be_written(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.write(State({"a": np.array(1)}, {}))

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.write(State({"a": np.array(2)}, {}))
    assert [p.name for p in tmp_path.iterdir()] == ["00000000.npz"]
    assert checkpoints.last().arrays["a"] == 1


@pytest.mark.parametrize("options", [{"every": -1}, {"every": float("nan")}])
def test_checkpoints_refuse_numbers(tmp_path, options):
    with pytest.raises(ValueError, match=r"every is .*; a number in \[0, inf\]"):
        Checkpoints(tmp_path, **options)
    with pytest.raises(ValueError, match="keep is 0; at least 1"):
        Checkpoints(tmp_path, keep=0)


def stopped(folder, run=descend, name="VAE"):
    with pytest.raises(Stopped):
        run("hand", name, checkpoints=StopAfter(folder, 6))
    return Checkpoints(folder).last()


def test_the_state_of_another_run_is_refused_and_changes_nothing(tmp_path):
    state = stopped(tmp_path / "a")
    model = byhand.VAE(SIZES, rng=rng(0), batch_size=16, dtype=np.float64)
    before = model.state_dict()
    noise = rng(4)

    def go_on(state, **other):
        arguments = {"epochs": 3, "batch_size": 16, "rng": rng(3), "noise": noise}
        arguments |= {"validation": X[:20], "progress": False} | other
        fit(model, X[: other.pop("rows", 50)], resume=state, **arguments)

    for other, message in [
        ({"epochs": 1}, "the state has begun 2 epochs, but epochs is 1; pass 2"),
        ({"batch_size": 8}, "batch_size is 8 here, 16 there"),
        ({"validation": None}, "validation is False here, True there"),
        ({"rng": np.random.Generator(np.random.MT19937(3))},
         "the saved generator is 'PCG64'; this one is 'MT19937'"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=f"fit: resume: .*{message}"):
            go_on(state, **other)
    of_gan = stopped(tmp_path / "b", play, "saturating")
    with pytest.raises(ValueError, match="run is 'fit' here, 'fit_gan' there"):
        go_on(of_gan)
    with pytest.raises(ValueError, match="not from a pretraining"):
        layers("hand", "", resume=of_gan)
    for change, message in [
        ({"model.encoder.0.W": np.zeros((2, 2))}, r"shape \(2, 2\) given"),
        ({"optimizer.t": None}, "missing: t"),
        ({"losses": np.zeros(7)}, "the array 'losses' is missing or differs"),
    ]:
        arrays = {**state.arrays, **change}
        arrays = {k: a for k, a in arrays.items() if a is not None}
        with pytest.raises(ValueError, match=message):
            go_on(State(arrays, state.facts))
    for name, a in model.state_dict().items():
        np.testing.assert_array_equal(a, before[name])
    assert not model.optimizer.state_dict()["t"]
    assert noise.bit_generator.state == rng(4).bit_generator.state


@pytest.mark.parametrize(("run", "name"), [(descend, "VAE"), (play, "saturating")])
def test_a_warning_about_another_machine_names_the_calling_line(tmp_path, run, name):
    state = stopped(tmp_path, run, name)
    state.facts["machine"]["NumPy"] = "0.1"
    with pytest.warns(UserWarning, match=r"NumPy was 0\.1 and is now") as caught:
        run("hand", name, resume=state)
    assert caught[0].filename == __file__


def test_models_without_a_state_cannot_have_checkpoints(tmp_path):
    class Bare:
        def step(self, x):
            return np.array(0.0)

    with pytest.raises(
        TypeError, match="need state_dict and load_state_dict of the model"
    ):
        fit(Bare(), X, epochs=1, batch_size=16, rng=rng(0),
            checkpoints=StopAfter(tmp_path, 1))  # fmt: skip


@pytest.mark.parametrize("kind", ["PCG64", "MT19937", "Philox", "SFC64", "PCG64DXSM"])
def test_generators_continue_after_json(tmp_path, kind):
    make = getattr(np.random, kind)
    one, other = np.random.Generator(make(0)), np.random.Generator(make(1))
    one.integers(5, dtype=np.uint32)  # the other half of the draw is kept
    state = State({}, {"generator": checkpoint.generator_state(one)})
    Checkpoints(tmp_path).write(state)
    saved = Checkpoints(tmp_path).last().facts["generator"]
    checkpoint.set_generator_state(other, saved)
    np.testing.assert_array_equal(one.integers(9, size=5), other.integers(9, size=5))
    for bad in (None, {}, {"bit_generator": "none"}, {"bit_generator": kind}):
        with pytest.raises(ValueError, match=r"generator|not a state"):
            checkpoint.set_generator_state(other, bad)


def test_the_engines_own_models_resume_too(tmp_path):
    """Any model with parameters, not only the systems of the lecture."""

    class Line(nn.Module):
        def __init__(self):
            self.layer = nn.Dense(D, 1, rng=rng(0), dtype=np.float64)

        def loss(self, x, y):
            return np.mean(np.square(self.layer(x)[:, 0] - y))

    def run(**how):
        model = Line()
        sgd = optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
        history = fit(model, (X, X.sum(axis=1)), epochs=2, batch_size=20, rng=rng(1),
                      optimizer=sgd, **how)  # fmt: skip
        return model.state_dict(), asdict(history), ()

    with pytest.raises(Stopped):
        run(checkpoints=StopAfter(tmp_path, 4))
    assert_same(run(resume=Checkpoints(tmp_path).last()), run())


@pytest.mark.parametrize("kind", ["hand", "engine"])
def test_the_state_of_a_model_with_other_options_is_refused(tmp_path, kind):
    """The shapes are equal, so that only the options differ."""
    module = byhand if kind == "hand" else models

    def run(name, x=X, betas=(0.9, 0.999), folder=None, resume=None, **options):
        options = {"rng": rng(0), "dtype": np.float64, **options}
        how = {"epochs": 2, "batch_size": 25, "rng": rng(1), "resume": resume}
        if kind == "hand":
            options |= {"batch_size": 25, "betas": betas}
        model = getattr(module, name)(SIZES, **options)
        if kind == "engine":
            how["optimizer"] = optim.Adam(model.parameters(), betas=betas)
        if hasattr(model, "with_noise"):
            how["noise"] = rng(4)
        save = folder and StopAfter(folder, 2)
        fit(model, x, checkpoints=save, **how)

    for name, given, others in [
        ("VAE", {}, [{"beta": 2.0}, {"activation": "tanh"}, {"betas": (0.8, 0.999)},
                     {"x": X[::-1].copy()}]),
        ("DenoisingAutoencoder", {"corruption": Masking(0.5)},
         [{"corruption": Masking(0.4)}, {"loss": "cross_entropy"}]),
    ]:  # fmt: skip
        with pytest.raises(Stopped):
            run(name, folder=tmp_path / name, **given)
        state = Checkpoints(tmp_path / name).last()
        run(name, resume=state, **given)
        for other in others:
            with pytest.raises(ValueError, match="the state is from another run"):
                run(name, resume=state, **{**given, **other})
