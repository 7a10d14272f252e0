"""optim.py: the steps, what is refused, and how a run is resumed."""

import re

import numpy as np
import pytest

from scratchnet import GraphError, Tensor, backend, changed, kernels
from scratchnet.nn import Dense, Sequential, Tanh
from scratchnet.optim import EMA, SGD, Adam, cosine_decay, hold_then_decay

OPTIMISERS = [
    lambda parameters: SGD(parameters, lr=0.05),
    lambda parameters: SGD(parameters, lr=0.05, momentum=0.9),
    lambda parameters: Adam(parameters, lr=0.05),
]


def parameter(*values, dtype=np.float64, **kwargs):
    return Tensor(np.array(values, dtype), requires_grad=True, **kwargs)


def test_adam_is_three_steps_worked_by_hand():
    # The same steps as in test_kernels.py.
    p = parameter(1.0, 1.0)
    adam = Adam([p], lr=0.1)
    for g, value in [
        (0.5, 0.9000000019999999600),
        (-0.25, 0.8733662987078461626),
        (1.0, 0.8075551396770896156),
    ]:
        adam.zero_grad()
        np.sum(p * g).backward()
        adam.step()
        np.testing.assert_allclose(p.data, value, rtol=1e-14)


def test_sgd_is_two_steps_worked_by_hand():
    p = parameter(1.0)
    sgd = SGD([p], lr=0.1, momentum=0.5)
    for g, value in [(1.0, 0.9), (2.0, 0.65)]:
        sgd.zero_grad()
        np.sum(p * g).backward()
        sgd.step()
        np.testing.assert_allclose(p.data, value, rtol=1e-15)


@pytest.mark.parametrize("make", OPTIMISERS)
def test_they_find_the_minimum(make):
    target = np.array([3.0, -1.0])
    p = parameter(0.0, 0.0)
    optimizer = make([p])
    for _ in range(300):
        optimizer.zero_grad()
        np.sum(np.square(p - target)).backward()
        optimizer.step()
    np.testing.assert_allclose(p.data, target, atol=1e-3)


@pytest.mark.parametrize("make", OPTIMISERS)
def test_a_generator_will_do_and_dtypes_stay(make):
    net = Sequential(Dense(3, 4, rng=np.random.default_rng(0)), Tanh())
    optimizer = make(p for p in net.parameters())
    arrays = [p.data for p in net.parameters()]
    before = net.state_dict()
    np.sum(net(np.ones((2, 3), np.float32))).backward()
    optimizer.step()
    for p, a, old in zip(net.parameters(), arrays, before.values(), strict=True):
        assert p.data is a
        assert a.dtype == np.float32
        assert (a != old).all()


def test_zero_grad_forgets():
    p = parameter(1.0)
    sgd = SGD([p], lr=1.0)
    for _ in range(2):
        np.sum(p * 2.0).backward()
    assert p.grad == 4  # gradients add up until they are forgotten
    sgd.zero_grad()
    assert p.grad is None


def test_the_learning_rate_can_be_changed():
    p = parameter(0.0)
    sgd = SGD([p], lr=1.0)
    sgd.lr = 0.5
    p.grad = np.ones(1)
    sgd.step()
    assert sgd.lr == 0.5
    assert p.data == -0.5


def test_a_graph_from_before_the_step_is_stale():
    p = parameter(1.0, name="discriminator.W")
    loss = np.sum(p * p)
    p.grad = np.ones(1)
    SGD([p], lr=1.0).step()
    with pytest.raises(GraphError, match=r"'discriminator.W' of shape .* was changed"):
        loss.backward()


def test_frozen_parameters_stay_and_their_graphs_stay_valid():
    p, frozen = parameter(1.0), parameter(1.0)
    frozen.grad = np.ones(1)
    frozen.requires_grad = False
    adam = Adam([p, frozen], lr=0.1)
    loss = np.sum(parameter(1.0) * frozen)
    p.grad = np.ones(1)
    adam.step()
    assert frozen.data == 1
    assert p.data != 1
    loss.backward()


@pytest.mark.parametrize("make", OPTIMISERS)
def test_a_step_is_all_or_nothing(make):
    p, q = parameter(1.0), parameter(1.0, 2.0, name="q")
    optimizer = make([p, q])
    before = optimizer.state_dict()
    p.grad = np.ones(1)
    for g, message in [
        (None, r"q of shape \(2,\) has no gradient; call backward\(\)"),
        (
            np.ones(1),
            r"q of shape \(2,\) is float64, its gradient float64 of shape \(1,",
        ),
        (np.ones(2, np.float32), "is float64, its gradient float32"),
    ]:
        q.grad = g
        with pytest.raises(ValueError, match=message):
            optimizer.step()
    q.grad = np.ones(2)
    q.data = np.ones(3)
    with pytest.raises(ValueError, match=r"q of shape \(3,\) has another array"):
        optimizer.step()
    assert p.data == 1
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_gradients_of_a_second_order_graph_will_do():
    p = parameter(3.0)
    np.sum(p * p).backward(create_graph=True)
    SGD([p], lr=0.5).step()
    assert p.data == 0


@pytest.mark.parametrize("make", OPTIMISERS)
def test_a_resumed_run_goes_on_to_the_last_bit(make):
    gradients = np.random.default_rng(0).standard_normal((8, 3))

    def run(p, optimizer, gradients):
        for g in gradients:
            p.grad = g
            optimizer.step()

    p = parameter(1.0, 2.0, 3.0)
    optimizer = make([p])
    run(p, optimizer, gradients[:4])
    q = Tensor(p.data.copy(), requires_grad=True)
    state = optimizer.state_dict()
    run(p, optimizer, gradients[4:])
    resumed = make([q])
    resumed.load_state_dict(state)
    run(q, resumed, gradients[4:])
    np.testing.assert_array_equal(p.data, q.data)


def test_loading_another_optimisers_state_changes_nothing():
    adam = Adam([parameter(1.0, 2.0)])
    state = adam.state_dict()
    assert list(state) == ["lr", "t", "betas", "m.0", "v.0"]
    state["m.0"] = np.ones(3)
    state["t"] += 5
    with pytest.raises(ValueError, match=r"m.0: shape \(3,\) given, \(2,\) expected"):
        adam.load_state_dict(state)
    assert adam.state_dict()["t"] == 0
    with pytest.raises(ValueError, match="nothing was loaded") as caught:
        adam.load_state_dict(SGD([parameter(1.0)], lr=1, momentum=0.5).state_dict())
    assert "missing: m.0" in str(caught.value)
    assert "unexpected: velocity.0" in str(caught.value)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Adam([]), ValueError, "Adam: no parameters given"),
        (lambda: SGD(iter(()), lr=1), ValueError, "SGD: no parameters given"),
        (lambda: Adam(parameter(1.0)), TypeError, "Adam: a Tensor given, a list"),
        (lambda: Adam(3), TypeError, "Adam: a int given, a list of Tensors expected"),
        (lambda: Adam({"a": 1}), TypeError, "Adam: a dict given"),
        (lambda: Adam([parameter(1.0), np.ones(1)]), TypeError,
         "Adam: parameters[1] is a ndarray, a Tensor expected"),
        (lambda: Adam(Dense(1, 1, rng=np.random.default_rng(0)).named_parameters()),
         TypeError, "Adam: parameters[0] is a tuple, a Tensor expected"),
        (lambda: Adam([parameter(1.0) * 2]), ValueError,
         "parameters[0] of shape (1,) is no parameter, but a result"),
        (lambda: Adam([Tensor([1, 2])]), ValueError, "is no parameter, but made of"),
        (lambda: Adam([p := parameter(1.0, name="W"), p]), ValueError,
         "W of shape (1,) is given twice, as parameters[0] and [1]"),
        (lambda: Adam([parameter(1.0)], lr=0), ValueError, "lr is 0; a positive"),
        (lambda: SGD([parameter(1.0)], lr=-1.0), ValueError, "lr is -1.0; a positive"),
        (lambda: SGD([parameter(1.0)], lr=1, momentum=1.5), ValueError, "tum is 1.5"),
        (lambda: Adam([parameter(1.0)], betas=(0.9, 1)), ValueError, "betas[1] is 1;"),
        (lambda: Adam([parameter(1.0)], eps=0), ValueError, "eps is 0"),
    ],
)  # fmt: skip
def test_errors(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


# --- Weight decay, rates that change, averages --------------------------------------


def test_decoupled_weight_decay_worked_by_hand():
    # Adam's first step is lr · g/(|g| + ε) = lr; the decay acts on p alone, before it.
    w = parameter(2.0, -1.0)
    adam = Adam([w], lr=0.1, weight_decay=0.5, eps=1e-30)
    w.grad = np.array([3.0, -7.0])
    adam.step()
    np.testing.assert_allclose(w.data, [2 * 0.95 - 0.1, -1 * 0.95 + 0.1], rtol=1e-12)
    # Without a gradient to speak of only the decay is left: no moment sees it.
    w = parameter(2.0)
    adam = Adam([w], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        w.grad = np.array([0.0])
        adam.step()
    np.testing.assert_allclose(w.data, [2 * 0.95**3], rtol=1e-12)
    assert not adam.state_dict()["m.0"].any()
    with pytest.raises(ValueError, match=r"Adam: weight_decay is -0.1; at least 0"):
        Adam([w], weight_decay=-0.1)


@pytest.mark.parametrize("make", [Adam, SGD])
def test_a_rate_may_be_a_function_of_the_step(make):
    asked = []

    def rate(t):
        asked.append(t)
        return 0.5 / (1 + t)

    one, other = parameter(1.0), parameter(1.0)
    a = make([one], lr=rate)
    b = make([other], lr=0.5)
    asked.clear()
    for t in range(4):
        assert a.lr == 0.5 / (1 + t)
        b.lr = 0.5 / (1 + t)
        for p, optimizer in ((one, a), (other, b)):
            p.grad = np.array([np.cos(t)])
            optimizer.step()
        np.testing.assert_array_equal(one.data, other.data)
    assert set(asked) == {0, 1, 2, 3, 4} - {4}
    # A resumed run goes on with the same rates.
    resumed = make([one], lr=rate)
    resumed.load_state_dict(a.state_dict())
    assert resumed.lr == 0.5 / 5
    for p, optimizer in ((one, resumed), (other, b)):
        b.lr = 0.5 / 5
        p.grad = np.array([2.0])
        optimizer.step()
    np.testing.assert_array_equal(one.data, other.data)
    b.lr = 0.125
    resumed.lr = 0.25
    assert resumed.lr == 0.25
    # A number that was loaded is the rate that was saved.
    c = make([other], lr=3.0)
    c.load_state_dict(b.state_dict())
    assert c.lr == b.lr == 0.125


@pytest.mark.parametrize("make", [Adam, SGD])
def test_a_wrong_rate_is_named_and_changes_nothing(make):
    w = parameter(1.0)
    optimizer = make([w], lr=lambda t: 0.1 - 0.05 * t)
    for _ in range(2):
        w.grad = np.array([1.0])
        optimizer.step()
    kept, state = w.data.copy(), optimizer.state_dict()
    with pytest.raises(ValueError, match=rf"{make.__name__}, step 2: lr is 0.0; a pos"):
        optimizer.step()
    np.testing.assert_array_equal(w.data, kept)
    for name, a in optimizer.state_dict().items():
        np.testing.assert_array_equal(a, state[name])
    with pytest.raises(ValueError, match="step 0: lr is -1; a positive number"):
        make([w], lr=lambda t: -1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_flat_array_and_its_parts_take_the_same_steps_to_the_last_bit(dtype):
    # By hand the update sees one flat array, with the engine one array a parameter.
    rng = np.random.default_rng(0)
    shapes = {"W": (70, 31), "b": (31,), "s": ()}
    flat, views = kernels.flat(shapes, dtype)
    flat[...] = rng.standard_normal(len(flat))
    parts = [Tensor(a.copy(), requires_grad=True) for a in views.values()]
    options = {"lr": hold_then_decay(0.01, 100), "weight_decay": 0.1}
    by_hand, adam = kernels.AdamUpdate([flat], **options), Adam(parts, **options)
    mean, ema = kernels.EMA([flat], 0.99), EMA(parts, 0.99)
    d_flat, gradients = kernels.flat(shapes, dtype)
    for _ in range(100):
        d_flat[...] = rng.standard_normal(len(flat))
        for p, g in zip(parts, gradients.values(), strict=True):
            p.grad = g
        by_hand.apply([flat], [d_flat])
        adam.step()
        mean.update()
        ema.update()
    for p, a in zip(parts, views.values(), strict=True):
        np.testing.assert_array_equal(p.data, a)
    with mean.average(), ema.average():
        for p, a in zip(parts, views.values(), strict=True):
            np.testing.assert_array_equal(p.data, a)


def test_a_schedule_may_be_left_behind():
    w = parameter(1.0)
    sgd = SGD([w], lr=cosine_decay(1.0, 2))
    for value in (0.0, -0.5, -1.0, -1.5):  # rates 1, 1/2, and then 1/2 again
        w.grad = np.array([1.0])
        sgd.step()
        np.testing.assert_allclose(w.data, value, atol=1e-15)


def test_ema_averages_and_gives_the_parameters_back():
    w = parameter(1.0, 0.0)
    ema = EMA([w], decay=0.75)
    for value in (5.0, 9.0):
        w.data[...] = value
        changed(w)
        ema.update()
    # 1 -> 1 + (5 - 1)/4 = 2 -> 2 + (9 - 2)/4; 0 -> 1.25 -> 1.25 + (9 - 1.25)/4
    with ema.average():
        np.testing.assert_allclose(w.data, [3.75, 3.1875])
        with pytest.raises(ValueError, match=r"EMA\.update: inside average"):
            ema.update()
    np.testing.assert_array_equal(w.data, [9, 9])
    with pytest.raises(KeyError), ema.average():
        raise KeyError
    np.testing.assert_array_equal(w.data, [9, 9])
    other = EMA([w], decay=0.75)
    other.load_state_dict(ema.state_dict())
    with other.average():
        np.testing.assert_allclose(w.data, [3.75, 3.1875])
    with pytest.raises(ValueError, match=r"EMA: decay is 1\.0; a number in"):
        EMA([w], decay=1.0)


def test_a_graph_of_other_weights_is_stale():
    w = parameter(1.0)
    ema = EMA([w], decay=0.5)
    loss = np.sum(w * w)
    with ema.average(), pytest.raises(GraphError, match="was changed in place"):
        loss.backward()
    loss = np.sum(w * w)
    loss.backward()
    with ema.average():
        loss = np.sum(w * w)
    with pytest.raises(GraphError, match="was changed in place"):
        loss.backward()


def test_a_graph_of_averages_is_stale_after_an_error_too():
    w = parameter(1.0)
    ema = EMA([w], decay=0.5)
    w.data[...] = 3.0
    ema.update()
    losses = []

    def fail():
        losses.append(np.sum(w * w))
        raise KeyError

    with pytest.raises(KeyError), ema.average():
        fail()
    assert w.data == 3
    assert losses[0].data == 4
    with pytest.raises(GraphError, match="was changed in place"):
        losses[0].backward()


def test_ema_takes_what_an_optimiser_takes():
    with pytest.raises(TypeError, match="EMA: a Tensor given, a list of Tensors expec"):
        EMA(parameter(1.0), decay=0.5)
    with pytest.raises(ValueError, match="EMA: no parameters given"):
        EMA([], decay=0.5)
    w = parameter(1.0, name="W")
    ema = EMA([w], decay=0.5)
    w.data = np.zeros(1)  # of which the average would know nothing
    with pytest.raises(ValueError, match=r"EMA.update: W of shape \(1,\) has another"):
        ema.update()
    with pytest.raises(ValueError, match=r"EMA.average: W"), ema.average():
        pass


def test_an_optimiser_says_that_training_begins(monkeypatch):
    called = []
    monkeypatch.setattr(backend, "keep_freed_memory", lambda: called.append(1))
    SGD([parameter(1.0)], lr=0.1)
    assert called == [1]
