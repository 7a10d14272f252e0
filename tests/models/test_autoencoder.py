"""The autoencoder: by hand, by the engine and by complex steps, with equal results."""

import copy
import pickle
import re

import numpy as np
import pytest

from scratchnet import Tensor, byhand, models, nn, optim
from scratchnet.kernels import initializers, schedules
from tests import helpers
from tests.helpers import (
    assert_close,
    assert_every_equation_is_cited,
    assert_imports_no_engine,
    assert_no_allocation,
    rng,
    shake,
)

SIZES = (7, 6, 5, 3)
ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
# loss, output
ENDS = [
    ("squared", "sigmoid"),
    ("squared", "linear"),
    ("squared", "activation"),
    ("cross_entropy", "sigmoid"),
]
CONFIGURATIONS = [(name, *end) for name in ACTIVATIONS for end in ENDS]
every_configuration = pytest.mark.parametrize(
    ("activation", "loss", "output"), CONFIGURATIONS
)
# Adam takes all configurations, SGD each activation once with varying outputs.
every_update = pytest.mark.parametrize(
    ("activation", "loss", "output", "method"),
    [(*c, "adam") for c in CONFIGURATIONS] + [(*c, "sgd") for c in CONFIGURATIONS[::5]],
)


def samples(n=9, d=SIZES[0], dtype=np.float64):
    return helpers.samples(n, d, dtype)


def hand(activation="tanh", loss="squared", output="sigmoid", sizes=SIZES, **kwargs):
    kwargs = {"rng": rng(), "dtype": np.float64, "batch_size": 16} | kwargs
    return byhand.Autoencoder(
        sizes, activation=activation, loss=loss, output=output, **kwargs
    )


def engine(activation="tanh", loss="squared", output="sigmoid", sizes=SIZES, **kwargs):
    kwargs = {"rng": rng(), "dtype": np.float64} | kwargs
    return models.Autoencoder(
        sizes, activation=activation, loss=loss, output=output, **kwargs
    )


def plain_loss(parameters, x, activation, loss, output):
    """Compute the loss without scratchnet; parameters may be complex."""
    f = {
        "relu": lambda a: np.where(a.real > 0, a, 0),
        "leaky_relu": lambda a: np.where(a.real > 0, a, 0.2 * a),
        "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
        "tanh": np.tanh,
    }
    h, last = x, len(parameters) // 2 - 1
    values = list(parameters.values())
    for i in range(last + 1):
        h = h @ values[2 * i] + values[2 * i + 1]
        if i not in (last // 2, last):
            h = f[activation](h)
    if output != "linear":
        h = f[activation if output == "activation" else output](h)
    if loss == "squared":
        return np.sum((h - x) ** 2) / len(x)
    return -np.sum(x * np.log(h) + (1 - x) * np.log(1 - h)) / len(x)


# --- Three ways ---------------------------------------------------------------------


@every_configuration
def test_loss_and_gradients_three_ways(activation, loss, output):
    x = samples()
    one, two = hand(activation, loss, output), engine(activation, loss, output)
    shake(one)
    two.load_state_dict(one.state_dict())

    value, gradients = one.loss_and_gradients(x)
    recorded = two.loss(x)
    recorded.backward()
    assert value == pytest.approx(recorded.item(), rel=1e-13)
    assert one.loss(x) == pytest.approx(value, rel=1e-14)
    names = [name for name, _ in two.named_parameters()]
    assert names == list(gradients)
    for name, p in two.named_parameters():
        assert p.shape == gradients[name].shape
        assert_close(gradients[name], p.grad, rtol=1e-12)

    state = one.state_dict()
    plain = plain_loss(state, x, activation, loss, output)
    assert value == pytest.approx(plain, rel=1e-13)
    for name, g in gradients.items():
        numeric = np.zeros_like(g)
        for i in range(g.size):
            moved = state | {name: state[name].astype(complex)}
            moved[name].flat[i] += 1e-30j
            slope = plain_loss(moved, x, activation, loss, output).imag / 1e-30
            numeric.flat[i] = slope
        assert_close(g, numeric, rtol=1e-12)


@every_update
def test_the_same_weights_after_100_steps(activation, loss, output, method):
    x = samples(40)
    how = {} if method == "adam" else {"lr": 0.01, "momentum": 0.9}
    one = hand(activation, loss, output, update=method, **how)
    two = engine(activation, loss, output)
    p = two.parameters()
    optimizer = optim.Adam(p) if method == "adam" else optim.SGD(p, **how)
    batches = rng(2)
    start = one.state_dict()
    for _ in range(100):
        n = batches.integers(1, 17)
        batch = x[batches.permutation(40)[:n]]
        value = float(one.step(batch))
        optimizer.zero_grad()
        recorded = two.loss(batch)
        recorded.backward()
        optimizer.step()
        assert value == pytest.approx(recorded.item(), rel=1e-10)
    end = two.state_dict()
    for name, a in one.state_dict().items():
        assert_close(a, end[name], rtol=1e-10)
        assert np.abs(a - start[name]).max() > 1e-5
    assert one.loss(x) < hand(activation, loss, output).loss(x)


def test_a_linear_autoencoder_ends_at_pca():
    # Baldi & Hornik 1989: without hidden layers the best code spans the leading
    # principal components, and its loss is the remaining variance.
    x = rng(3).standard_normal((64, 5)) * [3.0, 2.0, 1.0, 0.5, 0.2]
    x -= x.mean(axis=0)
    left = np.sum(np.linalg.svd(x, compute_uv=False)[2:] ** 2) / len(x)
    model = hand(
        output="linear",
        sizes=(5, 2),
        batch_size=64,
        # A decaying rate: with a constant one Adam does not converge.
        lr=schedules.cosine_decay(0.02, 1500),
    )
    for _ in range(1500):
        model.step(x)
    assert model.loss(x) == pytest.approx(left, rel=1e-9)


# --- Shared behaviour ---------------------------------------------------------------


@every_configuration
def test_both_twins_give_equal_results_and_exchange_states(activation, loss, output):
    x = samples(40)
    one = hand(activation, loss, output)
    two = engine(activation, loss, output, rng=rng(5))
    shake(one)
    two.load_state_dict(one.state_dict())
    z = two.encode(x)
    assert z.shape == (40, 3)
    assert_close(one.encode(x), z, rtol=1e-13)
    x_hat = two.decode(z)
    assert x_hat.shape == x.shape
    assert_close(one.decode(z), x_hat, rtol=1e-13)
    assert_close(two.reconstruct(x), x_hat, rtol=1e-15)
    assert_close(one.reconstruct(x), x_hat, rtol=1e-13)
    if output == "sigmoid":
        assert 0 < x_hat.min() < x_hat.max() < 1
    if loss == "squared":
        assert one.loss(x) == pytest.approx(np.sum((x_hat - x) ** 2) / 40, rel=1e-13)

    three = hand(activation, loss, output, rng=rng(6))
    three.load_state_dict(two.state_dict())
    np.testing.assert_array_equal(three.theta, one.theta)


def test_the_code_takes_any_value():
    model = hand("relu")
    model.parameters["encoder.4.b"][...] = [-5.0, 0.0, 5.0]
    z = model.encode(samples())
    assert z.min() < -2
    assert z.max() > 2


@pytest.mark.parametrize("sizes", [(4, 2), (4, 3, 2), (9, 8, 7, 6, 5)])
def test_initial_values_are_equal_in_both_twins_and_dtypes(sizes):
    states = [
        make(sizes=sizes, dtype=dtype, init=init).state_dict()
        for init in (initializers.glorot_uniform, initializers.he_normal)
        for make in (hand, engine)
        for dtype in (np.float32, np.float64)
    ]
    for by_init in (states[:4], states[4:]):
        for state in by_init:
            assert list(state) == list(states[0])
            for name, a in state.items():
                expected = by_init[1][name]
                np.testing.assert_array_equal(a, expected.astype(a.dtype))
    assert states[0]["encoder.0.W"].shape == sizes[:2]
    assert states[0]["encoder.0.W"].any()
    assert not states[0]["decoder.0.b"].any()
    assert (states[0]["encoder.0.W"] != states[4]["encoder.0.W"]).any()


@pytest.mark.parametrize("make", [hand, engine])
def test_float32_stays_float32(make):
    x = samples(dtype=np.float32)
    model = make(dtype=np.float32)
    assert model.encode(x).dtype == np.float32
    assert model.reconstruct(x).dtype == np.float32
    if make is hand:
        assert model.step(x).dtype == np.float32
        assert model.theta.dtype == model.d_theta.dtype == np.float32
    else:
        loss = model.loss(x)
        assert loss.dtype == np.float32
        loss.backward()
        assert {p.grad.dtype.name for p in model.parameters()} == {"float32"}
    exact = make(dtype=np.float64).loss(x.astype(np.float64))
    exact = exact.item() if isinstance(exact, Tensor) else exact
    assert make(dtype=np.float32).loss(x).item() == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("make", [hand, engine])
def test_confident_logits_keep_loss_and_gradient_finite(make):
    model = make(loss="cross_entropy", dtype=np.float32)
    state = model.state_dict()
    state["decoder.4.W"][...] = 0
    state["decoder.4.b"][...] = [1000, -1000] * 3 + [1000]
    model.load_state_dict(state)
    x = np.tile(np.array([0, 1, 1, 0, 0.5, 0.5, 1], np.float32), (4, 1))
    if make is hand:
        loss, gradients = model.loss_and_gradients(x)
        db = gradients["decoder.4.b"]
    else:
        recorded = model.loss(x)
        recorded.backward()
        loss, db = recorded.item(), model.decoder[4].b.grad
    assert loss == pytest.approx(3000, rel=1e-5)
    np.testing.assert_allclose(db, [1, -1, 0, 0, 0.5, -0.5, 0], atol=1e-6)


# --- The engine's model -------------------------------------------------------------


def test_arrays_give_arrays_and_tensors_give_tensors():
    model = engine()
    x = samples()
    for function, given in [
        (model.encode, x),
        (model.decode, model.encode(x)),
        (model.reconstruct, x),
    ]:
        y = function(given)
        assert type(y) is np.ndarray
        recorded = function(Tensor(given))
        assert recorded.requires_grad
        np.testing.assert_array_equal(recorded.data, y)
    assert isinstance(model.loss(x), Tensor)
    assert isinstance(model.loss(Tensor(x)), Tensor)
    assert "encoder: Sequential()" in repr(model)


def test_the_loss_can_be_differentiated_by_its_input():
    model = engine()
    x = Tensor(samples(), requires_grad=True)
    model.loss(x).backward()
    for i in (0, 17):
        ends = []
        for h in (1e-6, -1e-6):
            moved = x.data.copy()
            moved.flat[i] += h
            ends.append(model.loss(moved).item())
        slope = (ends[0] - ends[1]) / 2e-6
        assert x.grad.flat[i] == pytest.approx(slope, rel=1e-6)


def test_both_twins_have_the_slope():
    model = engine("leaky_relu", sizes=(7, 6, 3), slope=0.4)
    twin = hand("leaky_relu", sizes=(7, 6, 3), slope=0.4)
    assert model.loss(samples()).item() == pytest.approx(
        twin.loss(samples()), rel=1e-13
    )
    assert hand("leaky_relu", sizes=(7, 6, 3)).loss(samples()) != twin.loss(samples())


# --- The model by hand --------------------------------------------------------------


def test_it_imports_no_engine_and_every_equation_is_cited():
    assert_imports_no_engine(byhand.Autoencoder)
    assert_every_equation_is_cited(byhand.Autoencoder, elsewhere=["12"])


def test_parameters_and_gradients_are_views_of_flat_buffers():
    model = hand()
    model.loss_and_gradients(samples())
    for flat, views in (
        (model.theta, model.parameters),
        (model.d_theta, model.gradients),
    ):
        laid_out = np.concatenate([a.ravel() for a in views.values()])
        np.testing.assert_array_equal(laid_out[laid_out != 0], flat[flat != 0])
        assert laid_out.any()
        flat[...] = 1
        assert all((a == 1).all() for a in views.values())


def test_a_smaller_batch_uses_the_first_rows_only():
    one, other = hand(), hand(batch_size=4)
    x = samples(16)
    one.loss_and_gradients(x)  # fills 16 rows of the buffers
    value, gradients = one.loss_and_gradients(x[:4])
    expected, expected_gradients = other.loss_and_gradients(x[:4])
    assert value == pytest.approx(expected, rel=1e-14)
    for name, g in gradients.items():
        assert_close(g, expected_gradients[name], rtol=1e-14)


def test_nothing_but_step_changes_the_parameters():
    model = hand()
    x = samples(40)
    theta = model.theta.copy()
    model.loss(x)
    model.loss_and_gradients(x[:16])
    model.reconstruct(x)
    np.testing.assert_array_equal(model.theta, theta)
    kept = x.copy()
    model.step(x[:16])
    assert (model.theta != theta).any()
    np.testing.assert_array_equal(x, kept)


@every_update
def test_a_step_allocates_no_array(activation, loss, output, method):
    sgd = {"update": "sgd", "lr": 1e-4, "momentum": 0.9}
    update = {"update": "adamw"} if method == "adam" else sgd
    # All arrays of a step except biases are larger than the limit. Python's own objects
    # are smaller, and so is NumPy's buffer of 8192 numbers, which broadcasts b over the
    # rows of a.
    limit = 8192 * 4 + 8000
    sizes, n = (180, 150, 120), 128
    x = samples(n, sizes[0], np.float32)
    model = hand(
        activation, loss, output, sizes=sizes, dtype=np.float32, batch_size=n,
        **update,
    )  # fmt: skip
    for mlp in (model.encoder, model.decoder):
        arrays = [*mlp.W[1:], *mlp._h[1:], *mlp._delta[1:]]
        assert min(a.nbytes for a in arrays) * (n - 20) / n > limit

    def steps():
        model.step(x)
        model.step(x[:-20])

    assert_no_allocation(steps, limit)


def test_the_loss_of_a_step_is_overwritten_by_the_next():
    model = hand()
    first = model.step(samples())
    value = float(first)
    assert model.step(samples()) is first
    assert float(first) < value


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copies_are_refused(way):
    with pytest.raises(
        TypeError, match=r"cannot be copied or pickled.*load_state_dict"
    ):
        way(hand())


# --- Errors -------------------------------------------------------------------------


@pytest.mark.parametrize("make", [hand, engine])
@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"sizes": (7,)}, ValueError, "Autoencoder: sizes is (7,); two or more"),
        ({"sizes": (7, 0)}, ValueError, "Autoencoder: sizes[1] is 0; at least 1"),
        ({"sizes": (7, 2.0)}, TypeError, "Autoencoder: sizes[1] is 2.0, a float"),
        ({"output": "tanh"}, ValueError, "output is 'tanh'; one of 'sigmoid', 'lin"),
        ({"loss": "mse"}, ValueError, "loss is 'mse'; one of 'squared', 'cross_"),
        ({"loss": "cross_entropy", "output": "linear"}, ValueError,
         "loss='cross_entropy' compares probabilities; output='sigmoid' expected"),
        ({"rng": 0}, TypeError, "Autoencoder: rng is 0; a np.random.Gen"),
        ({"dtype": np.float16}, TypeError, "dtype is float16; float32 or float64"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(make, kwargs, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make(**kwargs)


@pytest.mark.parametrize("make", [hand, engine])
@pytest.mark.parametrize("method", ["loss", "encode", "reconstruct", "check", "decode"])
def test_wrong_data_are_named(make, method):
    call = getattr(make(), method)
    d = SIZES[-1] if method == "decode" else SIZES[0]
    k = "z" if method == "decode" else "x"
    for x, error, message in [
        (np.zeros((2, 9)), ValueError, f"Autoencoder: {k} has 9 columns, {d} expected"),
        (np.zeros(d), ValueError, rf"{k} has shape \({d},\); \(n, {d}\) expected"),
        (np.zeros((0, d)), ValueError, f"{k} has no rows"),
        (np.zeros((2, d), np.float32), TypeError, f"{k} is float32, the model float64"),
        (np.zeros((2, d), np.uint8), TypeError, f"{k} is uint8, the model float64"),
        ([[0.0] * d], TypeError, " is a list, an array expected"),
    ]:
        with pytest.raises(error, match=message):
            call(x)


def test_wrong_arguments_by_hand():
    with pytest.raises(ValueError, match="batch_size is 0; at least 1"):
        hand(batch_size=0)
    with pytest.raises(ValueError, match="activation: name is 'gelu'; one of"):
        hand(activation="gelu")
    model = hand(batch_size=8)
    theta = model.theta.copy()
    with pytest.raises(ValueError, match="9 rows at once, but memory for batch_size=8"):
        model.step(samples(9))
    with pytest.raises(ValueError, match=r"Autoencoder.load_state_dict: nothing was"):
        model.load_state_dict({"encoder.0.W": np.zeros((7, 6))})
    np.testing.assert_array_equal(model.theta, theta)


@pytest.mark.parametrize("make", [hand, engine])
def test_a_sigmoid_needs_data_between_0_and_1(make):
    x = samples()
    model = make(loss="cross_entropy")
    model.check(x)
    x[3, 2] = 1.5
    for same in (model, make(loss="squared")):  # a sigmoid cannot reach it
        with pytest.raises(ValueError, match=r"x\[3, 2\] is 1.5; values in"):
            same.check(x)
    make(loss="squared", output="linear").check(x)
