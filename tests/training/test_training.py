"""fit: its minibatches, its reports, its errors."""

import io
import re
import sys

import numpy as np
import pytest

from scratchnet import Tensor, byhand, models, nn
from scratchnet.functions import softmax
from scratchnet.nn import Module
from scratchnet.optim import SGD, Adam
from scratchnet.training import History, fit
from scratchnet.training.checkpoint import Checkpoints, save
from tests.helpers import rng


def samples(n=50, d=6, dtype=np.float64):
    return rng(1).random((n, d)).astype(dtype)


class Recorder:
    """A model by hand that learns nothing and records its minibatches."""

    def __init__(self, losses=None):
        self.batches = []
        self.validated = []
        self.losses = losses

    def step(self, x):
        self.batches.append(x)
        value = x.mean() if self.losses is None else next(self.losses)
        return np.array(value)

    def loss(self, x):
        self.validated.append(x)
        return np.array(x.mean())


class Mean(Module):
    """An engine model with one parameter: the mean of the data."""

    def __init__(self, start=0.0):
        self.mu = Tensor(np.array(start), requires_grad=True)

    def loss(self, x):
        return np.mean(np.square(x - self.mu))


def hand(batch_size=16, seed=0, **kwargs):
    return byhand.Autoencoder(
        (6, 5, 2), rng=rng(seed), batch_size=batch_size, dtype=np.float64, **kwargs
    )


def engine(seed=0):
    return models.Autoencoder((6, 5, 2), rng=rng(seed), dtype=np.float64)


# --- Minibatches --------------------------------------------------------------------


def test_every_epoch_visits_every_sample_once_in_an_order_of_its_own():
    x = np.arange(50.0)[:, None]
    model = Recorder()
    fit(model, x, epochs=3, batch_size=16, rng=rng(), progress=False)
    assert [len(b) for b in model.batches] == [16, 16, 16, 2] * 3
    orders = np.concatenate(model.batches).reshape(3, 50)
    for order in orders:
        assert sorted(order) == list(range(50))
        # Samples are shuffled, not only minibatches.
        assert np.abs(np.diff(order)).mean() > 5
    assert (orders[0] != orders[1]).any()
    assert (orders[1] != orders[2]).any()


def test_the_order_comes_from_rng_alone():
    def run(seed):
        model = Recorder()
        fit(model, samples(), epochs=2, batch_size=7, rng=rng(seed), progress=False)
        return np.concatenate(model.batches)

    np.testing.assert_array_equal(run(3), run(3))
    assert (run(3) != run(4)).any()


def test_no_buffer_is_used_twice_and_the_data_do_not_change():
    x = samples()
    kept = x.copy()
    model = Recorder()
    fit(model, x, epochs=1, batch_size=16, rng=rng(), progress=False)
    for i, batch in enumerate(model.batches):
        assert not np.shares_memory(batch, x)
        assert not any(np.shares_memory(batch, b) for b in model.batches[:i])
    np.testing.assert_array_equal(x, kept)


# --- Reports ------------------------------------------------------------------------


def test_a_validation_loss_that_is_not_finite_is_an_error():
    class Diverges(Recorder):
        def loss(self, x):
            return np.array(np.inf)

    with pytest.raises(FloatingPointError, match="validation loss became inf in epoch"):
        fit(Diverges(), samples(), epochs=1, batch_size=10, rng=rng(),
            validation=samples(), progress=False)  # fmt: skip


def test_losses_are_means_over_samples_not_over_minibatches():
    x = samples()
    model = Recorder()
    history = fit(
        model, x, epochs=2, batch_size=16, rng=rng(), validation=x[:9], progress=False
    )
    assert history.losses == pytest.approx([x.mean()] * 2, rel=1e-14)
    assert history.validation_losses == pytest.approx([x[:9].mean()] * 2, rel=1e-14)
    assert len(history.seconds) == 2
    assert all(0 <= s < 60 for s in history.seconds)
    model = Recorder()
    history = fit(
        model, x, epochs=1, batch_size=20, rng=rng(), validation=x, progress=False
    )
    assert [len(v) for v in model.validated] == [20, 20, 10]
    assert history.validation_losses == pytest.approx([x.mean()], rel=1e-14)


def test_the_first_loss_is_that_of_the_untrained_model():
    x = samples()
    expected = engine().loss(x).item()
    model = engine()
    history = fit(
        model,
        x,
        epochs=1,
        batch_size=50,
        rng=rng(),
        optimizer=Adam(model.parameters()),
        progress=False,
    )
    assert history.losses == pytest.approx([expected], rel=1e-14)


def test_callback_sees_the_history_grow():
    seen = []
    history = fit(
        Recorder(),
        samples(),
        epochs=3,
        batch_size=16,
        rng=rng(),
        validation=samples(),
        progress=False,
        callback=lambda h: seen.append((len(h.losses), len(h.validation_losses), h)),
    )
    assert [entry[:2] for entry in seen] == [(1, 1), (2, 2), (3, 3)]
    assert seen[-1][2] is history
    assert History() == History([], [], [])


def test_the_bar_is_for_terminals(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def shown(stream, progress):
        monkeypatch.setattr(sys, "stderr", stream)
        model, x = Recorder(), samples()
        fit(model, x, epochs=2, batch_size=16, rng=rng(), progress=progress)
        return stream.getvalue()

    bar = shown(Terminal(), True)
    assert "8/8" in bar
    assert "epoch=2, loss=0.491" in bar
    assert shown(Terminal(), False) == ""
    assert shown(io.StringIO(), True) == ""


# --- Training -----------------------------------------------------------------------


def test_one_seed_gives_both_kinds_of_model_the_same_weights():
    x = samples()
    one, two = hand(), engine()
    options = {"epochs": 25, "batch_size": 16, "validation": x[:20], "progress": False}
    by_hand = fit(one, x, rng=rng(5), **options)
    by_engine = fit(
        two, x, rng=rng(5), optimizer=Adam(two.parameters(), lr=1e-3), **options
    )
    np.testing.assert_allclose(by_hand.losses, by_engine.losses, rtol=1e-10)
    np.testing.assert_allclose(
        by_hand.validation_losses, by_engine.validation_losses, rtol=1e-10
    )
    end = two.state_dict()
    for name, a in one.state_dict().items():
        np.testing.assert_allclose(a, end[name], rtol=0, atol=1e-10 * abs(a).max())
    assert by_hand.losses[-1] < by_hand.losses[0]


@pytest.mark.parametrize("make", [hand, engine])
def test_two_runs_with_one_seed_are_the_same_to_the_last_bit(make):
    def run():
        model = make()
        optimizer = Adam(model.parameters()) if make is engine else None
        history = fit(
            model,
            samples(),
            epochs=3,
            batch_size=16,
            rng=rng(),
            optimizer=optimizer,
            validation=samples(20),
            progress=False,
        )
        return model.state_dict(), history

    (a, one), (b, two) = run(), run()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    assert one.losses == two.losses
    assert one.validation_losses == two.validation_losses


def test_any_model_with_a_loss_can_be_trained():
    x = samples(64)
    model = Mean()
    optimizer = SGD(model.parameters(), lr=0.1)
    fit(model, x, epochs=40, batch_size=32, rng=rng(), optimizer=optimizer)
    assert model.mu.data == pytest.approx(x.mean(), abs=0.02)
    assert model.mu.grad.shape == ()


def test_validation_does_not_change_training():
    x = samples()
    one, two = engine(), engine()
    for model, validation in ((one, None), (two, samples(33))):
        fit(
            model,
            x,
            epochs=2,
            batch_size=16,
            rng=rng(),
            optimizer=Adam(model.parameters()),
            validation=validation,
            progress=False,
        )
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
        np.testing.assert_array_equal(a.grad, b.grad)


# --- Errors -------------------------------------------------------------------------


def with_nan():
    x = samples()
    x[[7, 30], 2] = np.nan, np.inf
    return x


X = samples()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": X[:0]}, ValueError, "fit: x has shape (0, 6); expected (n, d), a row"),
        ({"x": X[0]}, ValueError, "fit: x has shape (6,)"),
        ({"x": X.reshape(50, 2, 3)}, ValueError, "fit: x has shape (50, 2, 3)"),
        ({"x": X.tolist()}, TypeError, "fit: x is a list, an array expected"),
        ({"x": (X * 255).astype(np.uint8)}, TypeError,
         "x is uint8, floats expected; for pixels pass x.astype(np.float32) / 255"),
        ({"x": with_nan()}, ValueError,
         "fit: x has values that are not finite, in 2 of 50 rows; the first is row 7"),
        ({"x": X[:, :4]}, ValueError, "Autoencoder: x has 4 columns, 6 expected"),
        ({"x": X.astype(np.float32)}, TypeError, "x is float32, the model float64"),
        ({"validation": with_nan()}, ValueError, "fit: validation has values that are"),
        ({"validation": X[:, :4]}, ValueError, "x has 4 columns, 6 expected"),
        ({"epochs": 0}, ValueError, "fit: epochs is 0; at least 1 expected"),
        ({"epochs": 1.5}, TypeError, "fit: epochs is 1.5, a float; an int expected"),
        ({"batch_size": 0}, ValueError, "fit: batch_size is 0; at least 1 expected"),
        ({"batch_size": 51}, ValueError, "fit: batch_size is 51, but x has 50 rows"),
        ({"batch_size": "16"}, TypeError, "fit: batch_size is '16', a str"),
        ({"rng": 0}, TypeError, "fit: rng is 0; a np.random.Generator expected"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [hand, engine])
def test_errors_come_before_the_first_step(make, change, error, message):
    model = make()
    before = model.state_dict()
    options = {"x": X, "epochs": 2, "batch_size": 16, "rng": rng(), "progress": False}
    if make is engine:
        options["optimizer"] = Adam(model.parameters())
    options |= change
    with pytest.raises(error, match=re.escape(message)):
        fit(model, options.pop("x"), **options)
    for name, a in model.state_dict().items():
        np.testing.assert_array_equal(a, before[name])


def test_the_optimizer_belongs_to_one_kind_of_model():
    options = {"epochs": 1, "batch_size": 16, "rng": rng()}
    with pytest.raises(TypeError, match="fit: optimizer is missing; pass"):
        fit(engine(), X, **options)
    adam = Adam(engine().parameters())
    with pytest.raises(TypeError, match="fit: Autoencoder has its own update"):
        fit(hand(), X, optimizer=adam, **options)
    with pytest.raises(TypeError, match="fit: a object has neither loss nor step"):
        fit(object(), X, **options)
    with pytest.raises(ValueError, match=r"batch_size is 16, but .* batch_size=8"):
        fit(hand(batch_size=8), X, **options)


def test_cross_entropy_checks_the_data_first():
    model = hand(loss="cross_entropy")
    with pytest.raises(ValueError, match=r"x\[0, 0\] is 1\..*values in \[0, 1\]"):
        fit(model, X + 1, epochs=1, batch_size=16, rng=rng(), progress=False)


def test_a_loss_that_is_not_finite_stops_the_run():
    values = iter([1.0, 2.0, 3.0, 4.0, 1.0, np.inf, np.nan, 0.0])
    seen = []
    with pytest.raises(FloatingPointError, match="became inf in epoch 2, step 2 of 4"):
        fit(
            Recorder(values),
            X,
            epochs=5,
            batch_size=16,
            rng=rng(),
            progress=False,
            callback=lambda h: seen.append(h.losses[:]),
        )
    assert len(seen) == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_far_too_high_learning_rate_raises_that_error():
    model = Mean(1.0)
    sgd = SGD(model.parameters(), lr=1e200)
    with pytest.raises(FloatingPointError, match="a smaller learning rate may help"):
        fit(model, X, epochs=3, batch_size=16, rng=rng(), optimizer=sgd, progress=False)


# --- Data of several arrays, and noise ----------------------------------------------


class Fraction(Module):
    """An engine model of pairs (x, y): y is some fraction of the first column of x."""

    def __init__(self):
        self.w = Tensor(np.array(0.0), requires_grad=True)
        self.seen = []

    def loss(self, x, y):
        self.seen.append((x, y))
        return np.mean(np.square(self.w * x[:, 0] - y))


def test_arrays_that_belong_together_stay_together():
    x = samples()
    model = Fraction()
    optimizer = Adam(model.parameters(), lr=0.05)
    history = fit(
        model, (x, 0.5 * x[:, 0]), epochs=20, batch_size=16, rng=rng(),
        optimizer=optimizer, validation=(x[:5], 0.5 * x[:5, 0]), progress=False,
    )  # fmt: skip
    assert model.w.item() == pytest.approx(0.5, abs=0.01)
    assert len(history.validation_losses) == 20
    for batch, y in model.seen:
        np.testing.assert_array_equal(y, 0.5 * batch[:, 0])


class Noisy(Recorder):
    """A model by hand that needs noise, and records it."""

    def __init__(self):
        super().__init__()
        self.noise, self.validation_noise = [], []

    def with_noise(self, x, *, rng):
        return x, rng.random(len(x))

    def step(self, x, eps):
        self.noise.append(eps)
        return super().step(x)

    def loss(self, x, eps):
        self.validation_noise.append(eps)
        return super().loss(x)


def test_noise_has_a_stream_of_its_own_and_validation_another():
    def run(shuffle, noise, **options):
        model = Noisy()
        fit(
            model, samples(), epochs=2, batch_size=25, rng=rng(shuffle),
            noise=rng(noise), progress=False, **options,
        )  # fmt: skip
        return model

    plain = run(3, 4)
    assert len({eps.tobytes() for eps in plain.noise}) == 4
    validated = run(3, 4, validation=samples())
    np.testing.assert_array_equal(plain.noise, validated.noise)
    np.testing.assert_array_equal(plain.batches, validated.batches)
    first, second = validated.validation_noise[:2], validated.validation_noise[2:]
    np.testing.assert_array_equal(first, second)  # every epoch has the same noise
    np.testing.assert_array_equal(run(3, 5).batches, plain.batches)
    np.testing.assert_array_equal(run(5, 4).noise, plain.noise)


@pytest.mark.parametrize(
    ("model", "change", "error", "message"),
    [
        (Noisy(), {}, TypeError, "fit: Noisy needs noise; pass noise="),
        (Noisy(), {"noise": 3}, TypeError, "fit: noise: rng is 3"),
        (Recorder(), {"noise": rng()}, TypeError, "fit: Recorder takes no noise"),
        (Recorder(), {"x": ()}, ValueError, "fit: x is an empty tuple"),
        (
            Recorder(),
            {"x": (samples(), samples(49))},
            ValueError,
            r"fit: x\[1\] has 49 rows, x\[0\] has 50",
        ),
        (
            Recorder(),
            {"x": (samples(), [1.0] * 50)},
            TypeError,
            r"fit: x\[1\] is a list, an array expected",
        ),
        (
            Recorder(),
            {"x": (samples(), np.array([1.0] * 49 + [np.inf]))},
            ValueError,
            r"fit: x\[1\] has values that are not finite, in 1 of 50 rows; .* row 49",
        ),
    ],
)
def test_data_of_several_arrays_and_noise_are_checked(model, change, error, message):
    options = {"x": samples(), "epochs": 1, "batch_size": 5, "rng": rng()} | change
    with pytest.raises(error, match=message):
        fit(model, progress=False, **options)
    assert not model.batches


class Others:
    """Replaces the other processes: adds their sums and records those of this one."""

    def __init__(self, sums=0.0):
        self.sums = sums

    def add(self, a):
        self.seen = a.copy()
        a += self.sums


@pytest.mark.parametrize("k", [0, 3, 9, 10])
def test_parts_of_a_minibatch_give_the_step_of_the_whole(k):
    """Of ten rows k are here, the others elsewhere; test_distributed has a real MPI."""
    x = np.random.default_rng(1).random((10, 6))
    whole, here, there = (
        byhand.Autoencoder((6, 4, 2), rng=np.random.default_rng(0), batch_size=10,
                           dtype=np.float64) for _ in range(3)
    )  # fmt: skip
    expected = float(whole.step(x))
    there.group = Others()
    there.step(x[k:], total_rows=10)
    here.group = Others(there.group.seen)
    for a in (*here.gradients.values(), here.sums[-1:]):
        a[...] = np.nan
    assert float(here.step(x[:k], total_rows=10)) == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(here.theta, whole.theta, rtol=0, atol=1e-14)
    # The next step uses all its rows again.
    here.group = None
    assert float(here.step(x)) == pytest.approx(float(whole.step(x)), rel=1e-12)


def test_a_buffer_may_be_infinite(tmp_path):
    class Masked(nn.Module):
        def __init__(self):
            self.layer = nn.Dense(3, 2, rng=np.random.default_rng(0), dtype=np.float64)
            self.register_buffer("mask", np.array([0.0, -np.inf]))

        def loss(self, x):
            return np.mean(softmax(self.layer(x) + self.mask) * self.layer(x))

    model = Masked()
    x = np.random.default_rng(1).random((8, 3))
    checkpoints = Checkpoints(tmp_path, every=0)
    history = fit(model, x, epochs=2, batch_size=4, rng=np.random.default_rng(2),
                  optimizer=SGD(model.parameters(), lr=0.1),
                  checkpoints=checkpoints)  # fmt: skip
    assert np.isfinite(history.losses).all()
    assert checkpoints.last().arrays["model.mask"][1] == -np.inf


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # np.matrix
def test_a_mask_is_not_lost(tmp_path):
    x = np.random.default_rng(0).random((20, 4)).astype(np.float32)
    masked, whole = np.ma.array(x, mask=x > 0.9), np.ma.array(x)

    def run(x, **how):
        model = byhand.Autoencoder((4, 2), rng=np.random.default_rng(0), batch_size=10)
        return fit(
            model, x, epochs=1, batch_size=10, rng=np.random.default_rng(1), **how
        )

    for data in (whole, np.asmatrix(x)):
        assert run(data, validation=data).losses == run(x).losses
    with pytest.raises(TypeError, match=r"fit: x is a masked array of shape \(20, 4\)"):
        run(masked)
    with pytest.raises(TypeError, match="fit: validation is a masked array"):
        run(x, validation=masked)
    with pytest.raises(TypeError, match="save: W is a masked array"):
        save(tmp_path / "a.npz", {"b": x, "W": masked})
    assert not list(tmp_path.iterdir())
