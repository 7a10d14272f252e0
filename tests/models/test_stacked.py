"""The stacked and the denoising autoencoder twice, and their special functions."""

import numpy as np
import pytest

from scratchnet import byhand, models, optim
from scratchnet.data.corruption import Fog
from scratchnet.training import fit, pretrain
from tests.helpers import (
    assert_close,
    assert_imports_no_engine,
    assert_no_allocation,
    assert_same_gradients,
    assert_same_state,
    assert_same_weights,
    rng,
    samples,
)

SIZES = (7, 6, 5, 3)
every_twin = pytest.mark.parametrize("made_by", [byhand, models])
every_end = pytest.mark.parametrize(
    ("loss", "output"),
    [("squared", "sigmoid"), ("squared", "linear"), ("cross_entropy", "sigmoid")],
)


def noisy(x, rng):
    return x + rng.normal(0, 0.1, x.shape)


def make(made_by, name, **options):
    options = {"sizes": SIZES, "rng": rng(), "dtype": np.float64} | options
    if name == "DenoisingAutoencoder":
        options = {"corruption": noisy} | options
    if made_by is byhand:
        options = {"batch_size": 16} | options
    return getattr(made_by, name)(**options)


def twins(name, **options):
    return make(byhand, name, **options), make(models, name, **options)


# --- Denoising ----------------------------------------------------------------------


@every_end
def test_denoising_loss_and_gradients(loss, output):
    x = samples(9, 7)
    corrupted = samples(9, 7, seed=2)
    one, two = twins("DenoisingAutoencoder", loss=loss, output=output)
    gradients = assert_same_gradients(one, two, x, corrupted)
    # It is the plain autoencoder's gradient only where nothing is corrupted.
    plain = make(byhand, "Autoencoder", loss=loss, output=output)
    plain.load_state_dict(one.state_dict())
    same = one.loss_and_gradients(x, x)
    expected = plain.loss_and_gradients(x)
    assert same[0] == pytest.approx(expected[0], rel=1e-14)
    for name, g in gradients.items():
        assert_close(same[1][name], expected[1][name], rtol=1e-13)
        assert np.abs(g - expected[1][name]).max() > 1e-4
    # The target is the clean x and the input the corrupted one, not the reverse.
    x_hat = one.reconstruct(corrupted)
    if loss == "squared":
        value = np.sum((x_hat - x) ** 2) / 9
        assert float(one.loss(x, corrupted)) == pytest.approx(value, rel=1e-13)
    assert float(one.loss(x)) == pytest.approx(expected[0], rel=1e-14)


@every_end
def test_denoising_the_same_weights_after_100_steps(loss, output):
    x = samples(40, 7)
    one, two = twins("DenoisingAutoencoder", loss=loss, output=output)
    r = rng(3)

    def batches():
        for _ in range(100):
            yield one.with_noise(x[r.permutation(40)[: r.integers(1, 17)]], rng=r)

    assert_same_weights(one, two, optim.Adam(two.parameters()), batches())


@every_twin
def test_samples_and_depth_are_checked_before_the_first_step(made_by):
    x, depth = samples(20, 7), np.ones((20, 7))
    model = make(made_by, "DenoisingAutoencoder", corruption=Fog())
    before = model.state_dict()
    options = {"epochs": 1, "batch_size": 8, "rng": rng(), "noise": rng(1)}
    if made_by is models:
        options["optimizer"] = optim.Adam(model.parameters())
    depth[11, 3] = -1
    with pytest.raises(ValueError, match=r"Fog: depth\[11, 3\] is -1\.0"):
        fit(model, (x, depth), **options)
    vae = made_by.VAE((7, 3), rng=rng(), dtype=np.float64)
    with pytest.raises(TypeError, match="fit: x is 2 arrays; VAE is trained on x"):
        fit(vae, (x, depth), **options)
    with pytest.raises(ValueError, match=r"x\[0, 0\] is .*; values in \[0, 1\]"):
        fit(model, (x + 1, depth), **options)
    for name, a in model.state_dict().items():
        np.testing.assert_array_equal(a, before[name])


@every_twin
def test_each_batch_is_corrupted_anew_with_its_own_depth(made_by):
    seen = []

    def fade(x, depth, rng):
        seen.append((x.copy(), depth.copy(), rng.random()))
        return x * depth

    x = samples(20, 7)
    depth = samples(20, 7, seed=9)
    model = make(made_by, "DenoisingAutoencoder", corruption=fade)
    optimizer = optim.Adam(model.parameters()) if made_by is models else None
    history = fit(
        model, (x, depth), epochs=3, batch_size=8, rng=rng(), noise=rng(1),
        optimizer=optimizer, validation=(x, depth), progress=False,
    )  # fmt: skip
    training = [s for s in seen if len(s[0]) in (8, 4)]
    assert len(training) == 3 * 3 * 2  # 3 minibatches each for training and validation
    for batch, belonging, _ in seen:
        for row, d in zip(batch, belonging, strict=True):
            i = int(np.argmax((x == row).all(axis=1)))
            np.testing.assert_array_equal(d, depth[i])
    draws = [u for _, _, u in seen]
    epochs = [draws[i : i + 6] for i in (0, 6, 12)]
    assert len({u for e in epochs for u in e[:3]}) == 9  # training noise is always new
    assert epochs[0][3:] == epochs[1][3:] == epochs[2][3:]  # validation noise repeats
    assert len(history.validation_losses) == 3


@every_twin
def test_denoising_wrong_data_are_named(made_by):
    model = make(made_by, "DenoisingAutoencoder")
    x = samples(4, 7)
    with pytest.raises(ValueError, match="x has 4 rows, corrupted has 3"):
        model.loss(x, x[:3])
    with pytest.raises(ValueError, match="DenoisingAutoencoder: corrupted has 6 co"):
        model.loss(x, x[:, :6])
    with pytest.raises(ValueError, match="fit: validation has 1 arrays, x has 2"):
        fit(model, (x, x), epochs=1, batch_size=2, rng=rng(), noise=rng(1),
            optimizer=None if made_by is byhand else optim.Adam(model.parameters()),
            validation=x)  # fmt: skip
    with pytest.raises(TypeError, match="fit: DenoisingAutoencoder needs noise; pass"):
        fit(
            model, x, epochs=1, batch_size=2, rng=rng(),
            optimizer=optim.Adam(model.parameters()) if made_by is models else None,
        )  # fmt: skip


def test_a_denoiser_removes_noise():
    # Data on a line in 8 dimensions: 7/8 of the noise is off the line.
    direction = np.full((1, 8), 8**-0.5)
    x = rng(1).normal(0, 3, (400, 1)) @ direction

    def corrupt(x, rng):
        return x + rng.normal(0, 1.0, x.shape)

    model = make(byhand, "DenoisingAutoencoder", sizes=(8, 1), output="linear",
                 corruption=corrupt, batch_size=50)  # fmt: skip
    fit(model, x, epochs=300, batch_size=50, rng=rng(), noise=rng(2), progress=False)
    noisy = corrupt(x, rng(5))
    left = np.mean((model.reconstruct(noisy) - x) ** 2) / np.mean((noisy - x) ** 2)
    # The best linear map keeps 9/10 along the line and nothing across it.
    best = 0.9 / 8
    assert left == pytest.approx(best, rel=0.15)


# --- Stacked ------------------------------------------------------------------------


@every_end
def test_stacked_loss_gradients_and_100_steps(loss, output):
    x = samples(40, 7)
    one, two = twins("StackedAutoencoder", loss=loss, output=output)
    r = rng(3)
    batches = [(x[r.permutation(40)[: r.integers(1, 17)]],) for _ in range(100)]
    assert_same_weights(one, two, optim.Adam(two.parameters()), iter(batches))
    assert_same_gradients(one, two, x[:9])


@every_end
def test_pretraining_the_same_weights_in_both(loss, output):
    x = samples(40, 7)
    one, two = twins("StackedAutoencoder", loss=loss, output=output)
    start = one.state_dict()
    for model, optimizer in ((one, None), (two, optim.Adam)):
        histories = pretrain(
            model, x, epochs=7, batch_size=8, rng=rng(4), optimizer=optimizer,
            progress=False,
        )  # fmt: skip
        assert len(histories) == 3
        assert all(h.losses[-1] < h.losses[0] for h in histories)
    # 35 steps per layer, and every layer has changed.
    assert_same_state(one, two, start)


@every_twin
def test_a_layer_is_that_part_of_the_stack(made_by):
    x = samples(9, 7)
    stack = make(made_by, "StackedAutoencoder", activation="tanh", output="linear")
    first, second, third = (stack.layer(k) for k in (1, 2, 3))
    assert [a.sizes for a in (first, second, third)] == [(7, 6), (6, 5), (5, 3)]
    z = third.encode(second.encode(first.encode(x)))
    np.testing.assert_allclose(z, stack.encode(x))
    x_hat = first.decode(second.decode(third.decode(z)))
    np.testing.assert_allclose(x_hat, stack.reconstruct(x))
    for k, message in [(0, "at least 1 expected"), (4, "1 to 3 expected")]:
        with pytest.raises(ValueError, match=f"layer: k is {k}; {message}"):
            stack.layer(k)


@every_twin
def test_pretraining_a_layer_leaves_those_below_and_above(made_by):
    x = samples(40, 7)
    stack = make(made_by, "StackedAutoencoder")
    start = stack.state_dict()
    layer = stack.layer(2)
    state = {name: a + 1 for name, a in layer.state_dict().items()}
    layer.load_state_dict(state)
    np.testing.assert_array_equal(stack.state_dict()["encoder.2.W"],
                                  start["encoder.2.W"])  # fmt: skip
    stack.set_layer(2, layer)
    moved = {n for n, a in stack.state_dict().items() if (a != start[n]).any()}
    assert moved == {f"{part}.2.{p}" for part in ("encoder", "decoder") for p in "Wb"}
    assert x.shape == stack.reconstruct(x).shape


@every_twin
def test_a_layer_is_copied_all_or_nothing(made_by):
    stack = make(made_by, "StackedAutoencoder")
    layer = stack.layer(2)
    layer.load_state_dict({name: a + 1 for name, a in layer.state_dict().items()})
    start, arrays = stack.state_dict(), stack.state_arrays()
    for name in ("encoder.2.b", "decoder.2.W"):
        arrays[name].flags.writeable = False
        message = (
            f"StackedAutoencoder.set_layer: nothing was loaded\n  {name}: is read-o"
        )
        with pytest.raises(ValueError, match=message):
            stack.set_layer(2, layer)
        with pytest.raises(ValueError, match=f"loaded\n  {name}: is read-only"):
            stack.load_state_dict({k: a + 1 for k, a in start.items()})
        for k, a in stack.state_dict().items():
            np.testing.assert_array_equal(a, start[k])
        arrays[name].flags.writeable = True
    # Arrays that are not written may be read-only.
    arrays["encoder.0.W"].flags.writeable = False
    stack.set_layer(2, layer)
    moved = {n for n, a in stack.state_dict().items() if (a != start[n]).any()}
    assert moved == {f"{part}.2.{p}" for part in ("encoder", "decoder") for p in "Wb"}


def test_pretraining_needs_an_optimiser_for_the_engine():
    stack = make(models, "StackedAutoencoder", activation="tanh")
    options = {"epochs": 1, "batch_size": 3, "rng": rng()}
    x = samples(9, 7)
    with pytest.raises(TypeError, match="pretrain: optimizer is missing"):
        pretrain(stack, x, **options)
    with pytest.raises(TypeError, match=r"like optim\.Adam"):
        pretrain(stack, x, optimizer=optim.Adam(stack.parameters()), **options)
    by_hand = make(byhand, "StackedAutoencoder")
    with pytest.raises(TypeError, match="pretrain: StackedAutoencoder has its own"):
        pretrain(by_hand, x, optimizer=optim.Adam, **options)
    with pytest.raises(TypeError, match="pretrain: Autoencoder has no layers"):
        pretrain(make(byhand, "Autoencoder"), x, **options)


# --- Both ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["StackedAutoencoder", "DenoisingAutoencoder"])
def test_no_engine_and_no_allocation(name):
    cls = getattr(byhand, name)
    assert_imports_no_engine(cls)
    n = 128
    model = make(byhand, name, sizes=(180, 150, 120), dtype=np.float32, batch_size=n)
    x = samples(n, 180, np.float32)
    batch = (x, x * 0.5) if name == "DenoisingAutoencoder" else (x,)
    assert_no_allocation(lambda: model.step(*batch), 8192 * 4 + 8000)


@every_twin
def test_a_layer_has_the_code_of_the_stack_and_draws_nothing_from_its_rng(made_by):
    x = samples(9, 7)
    generator = rng()
    stack = make(made_by, "StackedAutoencoder", active_code=True, rng=generator)
    before = generator.bit_generator.state
    h = x
    for k in (1, 2, 3):
        h = stack.layer(k).encode(h)
    np.testing.assert_allclose(h, stack.encode(x))
    assert generator.bit_generator.state == before
