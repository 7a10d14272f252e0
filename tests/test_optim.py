"""optim.py: the steps, the errors, and resuming a run."""

import copy
import pickle
import re
from functools import partial

import numpy as np
import pytest

from scratchnet import GraphError, Tensor, backend, mark_modified
from scratchnet.kernels import buffers, updates
from scratchnet.nn import Dense, Sequential, Tanh
from scratchnet.optim import EMA, SGD, Adam, AdamW, cosine_decay, hold_then_decay

OPTIMISERS = [
    lambda parameters: SGD(parameters, lr=0.05),
    lambda parameters: SGD(parameters, lr=0.05, momentum=0.9),
    lambda parameters: Adam(parameters, lr=0.05),
]


def parameter(*values, dtype=np.float64, **kwargs):
    return Tensor(np.array(values, dtype), requires_grad=True, **kwargs)


def test_adam_is_three_steps_worked_by_hand():
    # The same steps as in kernels/test_updates.py.
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
def test_a_generator_of_parameters_works_and_dtypes_stay(make):
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


def test_zero_grad_removes_gradients():
    p = parameter(1.0)
    sgd = SGD([p], lr=1.0)
    for _ in range(2):
        np.sum(p * 2.0).backward()
    assert p.grad == 4  # gradients accumulate until zero_grad
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
    with pytest.raises(ValueError, match=r"q of shape \(3,\) got a new array"):
        optimizer.step()
    assert p.data == 1
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_gradients_of_a_second_order_graph_work():
    p = parameter(3.0)
    np.sum(p * p).backward(create_graph=True)
    SGD([p], lr=0.5).step()
    assert p.data == 0


@pytest.mark.parametrize("make", OPTIMISERS)
def test_a_resumed_run_is_exact_to_the_last_bit(make):
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
         "parameters[0] of shape (1,) is not a leaf tensor"),
        (lambda: Adam([Tensor([1, 2])]), ValueError, "has dtype int64"),
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
    adam = AdamW([w], lr=0.1, weight_decay=0.5, eps=1e-30)
    w.grad = np.array([3.0, -7.0])
    adam.step()
    np.testing.assert_allclose(w.data, [2 * 0.95 - 0.1, -1 * 0.95 + 0.1], rtol=1e-12)
    # With a tiny gradient only the decay is left; the moments do not contain it.
    w = parameter(2.0)
    adam = AdamW([w], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        w.grad = np.array([0.0])
        adam.step()
    np.testing.assert_allclose(w.data, [2 * 0.95**3], rtol=1e-12)
    assert not adam.state_dict()["m.0"].any()
    with pytest.raises(ValueError, match=r"AdamW: weight_decay is -0.1; at least 0"):
        AdamW([w], weight_decay=-0.1)


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
    # A resumed run continues with the same rates.
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
    # The state restores a constant rate.
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
    # The update sees one flat array by hand, and one array per parameter with the
    # engine.
    rng = np.random.default_rng(0)
    shapes = {"W": (70, 31), "b": (31,), "s": ()}
    flat, views = buffers.flat(shapes, dtype)
    flat[...] = rng.standard_normal(len(flat))
    parts = [Tensor(a.copy(), requires_grad=True) for a in views.values()]
    options = {"lr": hold_then_decay(0.01, 100), "weight_decay": 0.1}
    by_hand, adam = updates.AdamWUpdate([flat], **options), AdamW(parts, **options)
    mean, ema = updates.AverageUpdate([flat], 0.99), EMA(parts, 0.99)
    d_flat, gradients = buffers.flat(shapes, dtype)
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


def test_after_its_end_a_schedule_keeps_the_last_rate():
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
        mark_modified(w)
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


def test_ema_takes_the_same_parameters_as_an_optimiser():
    with pytest.raises(TypeError, match="EMA: a Tensor given, a list of Tensors expec"):
        EMA(parameter(1.0), decay=0.5)
    with pytest.raises(ValueError, match="EMA: no parameters given"):
        EMA([], decay=0.5)
    w = parameter(1.0, name="W")
    ema = EMA([w], decay=0.5)
    w.data = np.zeros(1)  # the average would not see this array
    with pytest.raises(ValueError, match=r"EMA.update: W of shape \(1,\) got a new"):
        ema.update()
    with pytest.raises(ValueError, match=r"EMA.average: W"), ema.average():
        pass


def test_an_optimiser_makes_freed_memory_stay(monkeypatch):
    called = []
    monkeypatch.setattr(backend, "keep_freed_memory", lambda: called.append(1))
    SGD([parameter(1.0)], lr=0.1)
    assert called == [1]


# --- All or nothing -------------------------------------------------------------------


def three():
    return [parameter(1.0, 2.0, name=name) for name in ("a", "b", "c")]


def descend(optimizer, x=1.0):
    optimizer.zero_grad()
    loss = sum(np.sum(np.square(p - x * i)) for i, p in enumerate(optimizer.parameters))
    loss.backward()
    optimizer.step()


def bits(*holders):
    """Return the bytes of all parameters and of all objects with a state_dict."""
    return [
        a.tobytes()
        for holder in holders
        for a in (
            [p.data for p in holder]
            if isinstance(holder, list)
            else holder.state_dict().values()
        )
    ]


@pytest.mark.parametrize("make", OPTIMISERS)
def test_a_step_that_is_refused_changes_nothing_and_names_the_parameter(make):
    parameters = three()
    optimizer = make(parameters)
    descend(optimizer)
    q = parameters[1]

    def break_it(data=True, grad=None):
        for p in parameters:
            p.grad = np.ones(2)
        q.data.flags.writeable = data
        if grad is not None:
            q.grad = grad

    before = bits(parameters, optimizer)
    loss = np.sum(np.square(q))
    for how, error, message in [
        ({"data": False}, ValueError, r"b of shape \(2,\) is read-only; use a co"),
        ({"grad": 1.0}, TypeError, r"the gradient of b of shape \(2,\) is a float"),
        ({"grad": [1.0, 1.0]}, TypeError, r"the gradient of b of shape \(2,\) is a"),
        ({"grad": np.ones(2, object)}, ValueError, r"b of .* its gradient object of"),
        ({"grad": np.ones(2, ">f8")}, ValueError, r"b of .* its gradient >f8 of shape"),
        ({"grad": np.ones((2, 1))}, ValueError, r"b of .* float64 of shape \(2, 1\)"),
        ({"grad": np.ma.array([1.0, 2], mask=[0, 1])}, TypeError,
         r"the gradient of b of shape \(2,\) is a masked array of shape"),
    ]:  # fmt: skip
        break_it(**how)
        with pytest.raises(
            error, match=rf"{type(optimizer).__name__}\.step: {message}"
        ):
            optimizer.step()
        assert bits(parameters, optimizer) == before
    loss.backward()  # nothing was written, so the graph is still valid
    break_it()
    for name, a in optimizer.state_arrays().items():
        if name.endswith(".1"):
            a.flags.writeable = False
            with pytest.raises(
                ValueError, match=rf"b of .* has a state '{name}' that is"
            ):
                optimizer.step()
            assert bits(parameters, optimizer) == before
            a.flags.writeable = True
    # A gradient of a subclass counts as its plain array; a frozen parameter may be
    # read-only.
    twins = three()
    other = make(twins)
    descend(other)
    for p in twins:
        p.grad = np.ones(2)
    other.step()
    q.grad = np.ma.array(np.ones(2))
    optimizer.step()
    assert bits(parameters, optimizer) == bits(twins, other)
    break_it(data=False)
    q.requires_grad = False
    optimizer.step()


def test_a_rate_that_fails_changes_nothing():
    def rate(t):
        if t == 2:
            raise RuntimeError("no rate")
        return 0.1

    for make in (SGD, partial(SGD, momentum=0.5), Adam):
        parameters = three()
        optimizer = make(parameters, lr=rate)
        descend(optimizer)
        descend(optimizer)
        before = bits(parameters, optimizer)
        with pytest.raises(RuntimeError, match="no rate"):
            descend(optimizer)
        assert bits(parameters, optimizer) == before
        optimizer.lr = 0.1  # with a rate it works again
        descend(optimizer)


def test_averages_replace_all_parameters_or_none_and_these_come_back():
    parameters = three()
    ema = EMA(parameters, 0.5)
    descend(SGD(parameters, lr=0.1))
    before = bits(parameters, ema)
    q = parameters[1]
    q.data.flags.writeable = False
    loss = np.sum(np.square(q))
    with pytest.raises(
        ValueError, match=r"EMA.average: b of shape \(2,\) is read-only"
    ):
        with ema.average():
            pytest.fail("the block began")
    loss.backward()
    assert bits(parameters, ema) == before
    q.data.flags.writeable = True
    ema.update()
    before, array = bits(parameters, ema), q.data
    with ema.average():
        q.data.flags.writeable = False
    assert bits(parameters, ema) == before
    q.data.flags.writeable = True
    with ema.average(), ema.average():
        q.data = np.zeros(5)
    assert q.data is array
    assert bits(parameters, ema) == before
    ema.state_arrays()["average.1"].flags.writeable = False
    with pytest.raises(
        ValueError, match=r"EMA.update: b of .* has an average that is re"
    ):
        ema.update()
    assert bits(parameters, ema) == before


def test_a_parameter_that_cannot_be_restored_is_named():
    memory = np.array([1.0, 2.0])
    parameters = three()
    parameters[1] = Tensor(memory[:], requires_grad=True, name="b")
    ema = EMA(parameters, 0.5)
    for p in parameters:
        p.data[...] = 7
    losses = []

    def lock():
        losses.append(np.sum(parameters[0] * 1.0))
        parameters[1].data.flags.writeable = memory.flags.writeable = False

    message = r"EMA.average: b of shape \(2,\) still holds averages"
    with pytest.raises(ValueError, match=message), ema.average():
        lock()
    for p, expected in zip(parameters, ([7, 7], [1, 2], [7, 7]), strict=True):
        np.testing.assert_array_equal(p.data, expected)
    with pytest.raises(GraphError, match="was changed in place"):
        losses[0].backward()


# --- Copies ---------------------------------------------------------------------------


def net():
    return Sequential(
        Dense(3, 4, rng=np.random.default_rng(0)), Tanh(),
        Dense(4, 1, rng=np.random.default_rng(1)),
    )  # fmt: skip


def train(model, optimizer, ema, steps=3):
    x = np.random.default_rng(2).random((8, 3), np.float32)
    for _ in range(steps):
        optimizer.zero_grad()
        np.mean(np.square(model(x) - x[:, :1])).backward()
        optimizer.step()
        ema.update()


WAYS = [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
COPIED = [
    lambda p: SGD(p, lr=0.05, momentum=0.9),
    lambda p: Adam(p, lr=cosine_decay(0.05, 20)),
    lambda p: AdamW(p, lr=hold_then_decay(0.05, 20), weight_decay=0.1),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", COPIED)
def test_a_model_and_its_optimiser_that_are_copied_together_stay_connected(make, way):
    model = net()
    optimizer = make(model.parameters())
    ema = EMA(model.parameters(), 0.9)
    train(model, optimizer, ema)
    model[0].b.requires_grad = False
    twins = way({"model": model, "others": (optimizer, ema)})
    twin, (other, mean) = twins["model"], twins["others"]
    assert other.lr == optimizer.lr
    assert all(p is q for p, q in zip(twin.parameters(), other.parameters, strict=True))
    start = bits(model, optimizer, ema)
    assert bits(twin, other, mean) == start
    train(twin, other, mean)
    assert bits(model, optimizer, ema) == start  # the originals did not change
    assert bits(twin, other, mean) != start
    train(model, optimizer, ema)
    assert bits(twin, other, mean) == bits(model, optimizer, ema)
    with ema.average(), mean.average():
        assert bits(twin) == bits(model)
    assert bits(twin, other, mean) == bits(model, optimizer, ema)


@pytest.mark.parametrize("way", WAYS)
def test_an_optimiser_copied_alone_has_parameters_of_its_own(way):
    parameters = three()
    adam = Adam(parameters, lr=0.1)
    descend(adam)
    start = bits(parameters, adam)
    twin = way(adam)
    assert [p.name for p in twin.parameters] == ["a", "b", "c"]
    assert bits(twin.parameters, twin) == start
    descend(twin)
    assert bits(parameters, adam) == start
    descend(adam)
    assert bits(twin.parameters, twin) == bits(parameters, adam)
    parameters[1].data = np.ones(2)  # adam and its copy would not see this array
    with pytest.raises(ValueError, match=r"Adam.copy: b of .* got a new array"):
        way(adam)
