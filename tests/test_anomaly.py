"""Numbers that are not finite: their operation is named, and nothing is lost.

The systems and the runs are those of test_resume.py.
"""

import re
import threading

import numpy as np
import pytest

from scratchnet import anomaly, byhand, detect_anomaly, models, nn, optim, twins
from scratchnet.anomaly import watched
from scratchnet.graph import no_grad
from scratchnet.kernels import activations
from scratchnet.tensor import Tensor
from scratchnet.training import fit
from scratchnet.training.checkpoint import Checkpoints, Stopped
from tests.helpers import rng
from tests.training import test_resume
from tests.training.test_resume import (
    NETS,
    RUNS,
    SIZES,
    SYSTEMS,
    StopAfter,
    X,
    layers,
)


def variable(*values, name=None):
    return Tensor(np.array(values), requires_grad=True, name=name)


def message(f):
    with pytest.raises(FloatingPointError) as caught:
        f()
    return str(caught.value)


# --- With the engine ----------------------------------------------------------------


def test_the_operation_its_line_and_its_inputs_are_named():
    W = variable(1.0, 0.0, 2.5, name="W")
    with detect_anomaly():
        text = message(lambda: np.log(W))
    assert re.fullmatch(
        r"np\.log made 1 of 3 values -inf, the first at \[1\]\n"
        r"  tests/test_anomaly\.py:\d+: text = message\(lambda: np\.log\(W\)\)\n"
        r"  W: float64 \(3,\), from 0 to 2\.5",
        text,
    )


def test_operations_that_are_not_recorded_are_checked_too():
    with detect_anomaly(), no_grad():
        text = message(lambda: np.exp(variable(1.0, 800.0)))
    assert "np.exp made 1 of 2 values inf, the first at [1]" in text
    with detect_anomaly():
        text = message(lambda: Tensor(np.array([[0.0, np.nan]])) * 2)
    assert "np.multiply made 1 of 2 values nan, the first at [0, 1]" in text
    assert "input 0: float64 (1, 2), from 0 to 0, 1 NaN\n  input 1: 2" in text


def test_a_derivative_is_named_by_the_line_of_its_function():
    x = variable(4.0, 0.0)
    with detect_anomaly():
        root = np.sqrt(x)  # here
        text = message(np.sum(root).backward)
    assert "the derivative of np.sqrt by input 0 made 1 of 2 values inf" in text
    assert "root = np.sqrt(x)  # here" in text
    assert "dL/d(its result): float64 (2,), from 1 to 1" in text
    assert x.grad is None
    root = np.sum(np.sqrt(x))
    with detect_anomaly():
        assert "recorded before detect_anomaly()" in message(root.backward)


def test_compositions_are_named_where_they_are_called():
    x = variable(np.inf, 0.0)
    with detect_anomaly():
        text = message(lambda: np.var(x))  # of x
    assert "text = message(lambda: np.var(x))  # of x" in text


def test_a_step_of_an_optimiser_is_checked():
    W = variable(1.0, name="W")
    W.grad = np.array([1e200])
    sgd = optim.SGD([W], lr=1e200)
    with detect_anomaly():
        text = message(sgd.step)
    assert "SGD.step on W of shape (1,) made 1 of 1 values -inf" in text
    assert "gradient: float64 (1,), from 1e+200 to 1e+200" in text


def test_only_the_thread_inside_is_watched_and_only_while_it_is():
    found = []

    def elsewhere():
        with np.errstate(all="ignore"):
            found.append(np.log(variable(0.0)).item())

    with detect_anomaly():
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()
        message(lambda: np.log(variable(0.0)))
    elsewhere()
    assert found == [-np.inf, -np.inf]
    assert not anomaly.WATCHING


# --- By hand ------------------------------------------------------------------------


def systems():
    """Yield every system by hand and with the engine, with a batch for its loss."""
    for name, options in SYSTEMS.items():
        for gaussian in [False] + [True] * (name in ("VAE", "IWAE")):
            more = {"decoder": "gaussian"} if gaussian else {}
            options = {**options, **more, "rng": rng(0), "dtype": np.float64}
            hand = getattr(byhand, name)(SIZES, batch_size=50, **options)
            engine = getattr(models, name)(SIZES, **(options | {"rng": rng(0)}))
            batch = (X,)
            if hasattr(hand, "with_noise"):
                batch = hand.with_noise(X, rng=rng(1))
            yield hand, engine, batch


def test_nothing_is_found_in_healthy_systems_and_nothing_is_changed():
    for hand, engine, batch in systems():
        twin = watched(hand)
        assert np.shares_memory(twin.theta, hand.theta)
        before = hand.state_dict()
        with detect_anomaly():
            seen = twin.step(*batch)
            adam = optim.Adam(engine.parameters())
            engine.loss(*batch).backward()
            adam.step()
        after = hand.state_dict()
        hand.load_state_dict(before)
        hand.optimizer.load_state_dict(type(hand.optimizer)([hand.theta]).state_dict())
        assert hand.step(*batch) == seen
        for name, a in hand.state_dict().items():
            np.testing.assert_array_equal(a, after[name])


@pytest.mark.parametrize("objective", twins.OBJECTIVES)
def test_a_healthy_game_too(objective):
    options = {"rng": rng(0), "objective": objective, "r1": 1.0, "r2": 1.0}
    gan = byhand.GAN(**NETS, **options, batch_size=8, dtype=np.float64)
    z = rng(1).standard_normal((8, 3))
    with detect_anomaly():
        watched(gan).discriminator_step(X[:8], z)
        watched(gan).generator_step(z, X[:8])


def test_a_line_by_hand_is_named():
    model = byhand.VAE(SIZES, rng=rng(0), batch_size=50, dtype=np.float64)
    model.parameters["encoder.4.b"][2:] = 2000
    with detect_anomaly():
        text = message(lambda: watched(model).step(X, np.ones((50, 2))))
    assert re.match(
        r"np\.exp made 100 of 100 values inf, the first at \[0, 0\]\n"
        r"  byhand/vae\.py:\d+: np\.exp\(sigma, out=sigma\)\n"
        r"  input 0: float64 \(50, 2\), from (99|100)\d\.\d+ to 100\d\.\d+$",
        text,
    )


def test_an_intended_infinity_is_no_anomaly():
    a = np.array([-1000.0, 0.0]).view(anomaly._Watched)
    with detect_anomaly():
        activations.activation("sigmoid").forward(a, None)
        assert a.tolist() == [0, 0.5]
        a[:] = np.nan
        with pytest.raises(FloatingPointError, match=r"np\.negative made 2 of 2"):
            activations.activation("sigmoid").forward(a, None)


# --- In training --------------------------------------------------------------------


@pytest.fixture
def far_too_fast(monkeypatch):
    """Make every run diverge after five steps of an optimiser."""
    monkeypatch.setattr(test_resume, "RATE", lambda t: 1e-2 if t < 5 else 1e300)


def steps_before(text):
    """Return the number of steps before the named one."""
    found = re.search(r"in epoch (\d+), step (\d+) of (\d+)", text)
    if found:
        epoch, step, of = map(int, found.groups())
        return (epoch - 1) * of + step - 1
    return int(re.search(r"in step (\d+) of", text)[1]) - 1


@pytest.mark.parametrize("kind", ["hand", "engine"])
@pytest.mark.parametrize(
    ("run", "name"),
    [r for r in RUNS if r[0] is not layers],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_a_run_that_diverges_goes_back_to_the_state_before(
    tmp_path, far_too_fast, monkeypatch, run, name, kind
):
    seen = []

    def caught(*args, **options):
        seen.append(args[0])
        return trained(*args, **options)

    trainer = "fit" if run.__name__ == "descend" else "fit_gan"
    trained = getattr(test_resume, trainer)
    monkeypatch.setattr(test_resume, trainer, caught)
    with np.errstate(all="ignore"):
        text = message(lambda: run(kind, name))
        assert "restored to the state before that step. First not finite:\n" in text
        where = (
            r"  (byhand/\w+|models/\w+|scratchnet/nn|training/test_resume)\.py:\d+: "
        )
        assert re.search(where, text)
        steps = steps_before(text)
        assert 2 <= steps <= 7
        # A run that was stopped there has the same weights.
        with pytest.raises(Stopped):
            run(kind, name, checkpoints=StopAfter(tmp_path / "a", steps))
        state = Checkpoints(tmp_path / "a").last()
        for key, a in seen[0].state_dict().items():
            np.testing.assert_array_equal(a, state.arrays[f"model.{key}"])
            assert np.isfinite(a).all()
        # With checkpoints, the last of them is the same state.
        every = Checkpoints(tmp_path / "b", every=0)
        again = message(lambda: run(kind, name, checkpoints=every))
        assert again.partition(";")[2] == text.partition(";")[2]
        last = every.last()
        for key, a in state.arrays.items():
            np.testing.assert_array_equal(a, last.arrays[key])


class Line(nn.Module):
    """A model whose loss is not finite for some rows, in different ways."""

    def __init__(self):
        self.w = Tensor(np.array(1.0), requires_grad=True)
        self.rng = None

    def loss(self, x):
        noise = 0.0 if self.rng is None else self.rng() * x[:, 0]
        return np.sum(np.log(np.sum(x, axis=1) * self.w + noise))


def run(model, x, **options):
    sgd = optim.SGD(model.parameters(), lr=1e-3)
    with np.errstate(all="ignore"):
        fit(model, x, epochs=1, batch_size=10, rng=rng(0), optimizer=sgd, **options)


def test_a_row_that_fails_names_the_function():
    x = X.copy()
    x[17] = 0
    text = message(lambda: run(Line(), x))
    assert text.startswith("fit: the loss became -inf in epoch 1, step ")
    assert "np.log made 1 of 10 values -inf" in text
    assert "test_anomaly.py" in text


def test_a_validation_loss_too():
    x = X.copy()
    x[17] = 0
    text = message(lambda: run(Line(), X, validation=x))
    assert "the validation loss became -inf in epoch 1" in text
    assert "First not finite:\n  np.log made 1 of 10 values -inf" in text


def test_an_update_that_no_loss_shows_is_found_too():
    model = Line()
    sgd = optim.SGD(model.parameters(), lr=lambda t: 1e-3 if t < 4 else 1e308)
    with np.errstate(all="ignore"):
        text = message(lambda: fit(model, X, epochs=1, batch_size=10, rng=rng(0),
                                   optimizer=sgd))  # fmt: skip
    assert "w became -inf in epoch 1, step 5 of 5" in text
    assert "SGD.step on w of shape () made 1 of 1 values -inf" in text
    assert re.search(r"tests/test_anomaly\.py:\d+: text = message\(lambda: fit\(", text)
    assert abs(model.w.item() - 1) < 0.1


def test_a_failure_that_a_replay_does_not_reproduce_is_reported():
    model = Line()
    values = iter([0.0, np.nan] + [0.0] * 20)  # fit cannot replay this
    model.rng = lambda: next(values)
    text = message(lambda: run(model, X))
    assert "the loss became nan in epoch 1, step 2 of 5" in text
    said = "A replay did not reproduce it; the model is restored to the state before"
    assert f"{said} epoch 1, st" in text
    assert model.w.item() == 1.0


def test_a_generator_of_the_models_own_goes_back_too(tmp_path):
    """`Dropout` draws the same numbers in a diagnosis and in a resumed run."""

    class Net(nn.Module):
        def __init__(self):
            self.layers = nn.Sequential(
                nn.Dense(6, 5, rng=rng(0), dtype=np.float64),
                nn.Dropout(0.5, rng=rng(1)),
                nn.Dense(5, 1, rng=rng(2), dtype=np.float64),
            )

        def loss(self, x):
            return np.mean(np.square(self.layers(x)))

    def train(**how):
        model = Net()
        adam = optim.Adam(model.parameters())
        # Shuffling with the dropout's generator is a bad idea, but allowed.
        shuffle = model.layers[1].rng
        history = fit(model, X, epochs=2, batch_size=10, rng=shuffle, optimizer=adam,
                      **how)  # fmt: skip
        return model.state_dict(), history.losses

    weights, losses = train()
    for steps in range(1, 10):
        with pytest.raises(Stopped):
            train(checkpoints=StopAfter(tmp_path / str(steps), steps))
        state = Checkpoints(tmp_path / str(steps)).last()
        assert "model.layers.1.rng" in state.facts["generators"]
        resumed, more = train(resume=state)
        assert more == losses
        for name, a in weights.items():
            np.testing.assert_array_equal(a, resumed[name])
