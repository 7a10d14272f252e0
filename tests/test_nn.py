"""nn.py: finding, saving and showing parameters; what each layer computes."""

import copy
import math
import pickle
import re

import numpy as np
import pytest

from scratchnet import GraphError, Tensor, nn, no_grad, optim, training
from scratchnet.graph import plain
from scratchnet.kernels import initializers
from scratchnet.nn import (
    Dense,
    LeakyReLU,
    Module,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
    evaluate,
)
from scratchnet.testing import gradcheck
from scratchnet.training import checkpoint
from tests.helpers import rng


def parameter(*shape):
    return Tensor(np.ones(shape), requires_grad=True)


class Net(Module):
    """Parameters in every place where they are found."""

    def __init__(self):
        self.scale = parameter(3)
        self.layers = [Dense(3, 2, rng=rng(), dtype=np.float64), (ReLU(), parameter(2))]
        self.by_name = {"head": Dense(2, 1, rng=rng(), dtype=np.float64, bias=False)}
        self.constant = np.ones(3)
        self.last = parameter()

    def forward(self, x):
        hidden = self.layers[1][0](self.layers[0](x * self.scale * self.constant))
        self.hidden = hidden  # a stored result, not a parameter
        return self.by_name["head"](hidden * self.layers[1][1]) * self.last


NAMES = ["scale", "layers.0.W", "layers.0.b", "layers.1.1", "by_name.head.W", "last"]


# --- Finding parameters -------------------------------------------------------------


def test_parameters_are_found_everywhere_in_order_and_named():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert [p.name for p in net.parameters()] == NAMES
    assert net.parameters()[0] is net.scale
    net.layers[0].named_parameters()
    assert net.layers[0].W.name == "layers.0.W"  # the first name is kept


def test_results_that_forward_stores_are_not_parameters():
    net = Net()
    np.sum(net(np.ones((4, 3)))).backward()
    assert net.hidden.shape == (4, 2)
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_shared_parameters_and_modules_count_once():
    class Tied(Module):
        def __init__(self):
            self.a = Dense(3, 3, rng=rng(), dtype=np.float64)
            self.again = self.a
            self.b = Dense(3, 3, rng=rng(), dtype=np.float64)
            self.b.W = self.a.W
            self.me = self

    net = Tied()
    assert [name for name, _ in net.named_parameters()] == ["a.W", "a.b", "b.b"]
    assert list(net.state_dict()) == ["a.W", "a.b", "b.b"]
    assert repr(net) == (
        "Tied()  again (shared), me (shared)\n"
        "    a: Dense(3, 3)  W (3, 3), b (3,)  12\n"
        "    b: Dense(3, 3)  W (shared), b (3,)  3\n"
        "15 parameters"
    )


def test_frozen_parameters_are_still_saved():
    net = Net()
    net.scale.requires_grad = False
    assert "scale" in net.state_dict()
    assert "scale (3,) frozen" in repr(net)


# --- State --------------------------------------------------------------------------


def test_state_moves_between_models():
    one = Sequential(Dense(3, 4, rng=rng(0)), Tanh(), Dense(4, 2, rng=rng(1)))
    two = Sequential(Dense(3, 4, rng=rng(2)), Tanh(), Dense(4, 2, rng=rng(3)))
    x = rng(9).random((5, 3), dtype=np.float32)
    arrays = [p.data for p in two.parameters()]
    state = one.state_dict()
    assert list(state) == ["0.W", "0.b", "2.W", "2.b"]
    assert all(type(a) is np.ndarray for a in state.values())
    two.load_state_dict(state)
    np.testing.assert_array_equal(one(x).data, two(x).data)
    for p, a in zip(two.parameters(), arrays, strict=True):
        assert p.data is a  # written in place, so an optimiser still updates it
    state["0.W"][...] = 7
    assert (one[0].W.data != 7).all()
    assert (two[0].W.data != 7).all()


def test_loading_is_all_or_nothing_and_lists_what_differs():
    net = Sequential(Dense(3, 4, rng=rng(0)), Dense(4, 2, rng=rng(1)))
    before = net.state_dict()
    state = net.state_dict()
    state["0.W"] += 1
    state["0.b"] = np.zeros(5, np.float32)
    state["1.W"] = state["1.W"].astype(np.float64)
    state["2.b"] = state.pop("1.b")
    with pytest.raises(ValueError, match="nothing") as caught:
        net.load_state_dict(state)
    assert str(caught.value) == (
        "Sequential.load_state_dict: nothing was loaded\n"
        "  missing: 1.b\n"
        "  unexpected: 2.b\n"
        "  0.b: shape (5,) given, (4,) expected\n"
        "  1.W: float64 given, float32 expected"
    )
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_graph_from_before_loading_is_stale():
    net = Dense(3, 2, rng=rng())
    loss = np.sum(net(np.ones((1, 3), np.float32)))
    net.load_state_dict(net.state_dict())
    with pytest.raises(GraphError, match=r"'W' of shape \(3, 2\) was changed"):
        loss.backward()


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies_share_nothing(way):
    net = Sequential(Dense(3, 2, rng=rng()), ReLU())
    twin = way(net)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(net(x).data, twin(x).data)
    twin[0].W.data[...] = 0
    assert net[0].W.data.any()
    assert repr(twin) == repr(net)


# --- repr ---------------------------------------------------------------------------


def test_repr_draws_the_tree():
    net = Sequential(
        Dense(784, 256, rng=rng()),
        Sequential(LeakyReLU(0.1), Dense(256, 16, rng=rng(), bias=False)),
        Sigmoid(),
    )
    assert repr(net) == (
        "Sequential()\n"
        "    0: Dense(784, 256)  W (784, 256), b (256,)  200,960\n"
        "    1: Sequential()\n"
        "        0: LeakyReLU(0.1)\n"
        "        1: Dense(256, 16)  W (256, 16)  4,096\n"
        "    2: Sigmoid()\n"
        "205,056 parameters"
    )
    assert (
        repr(Net()).splitlines()[0] == "Net()  scale (3,), layers.1.1 (2,), last ()  6"
    )


# --- Layers -------------------------------------------------------------------------


def test_dense_is_x_W_plus_b():
    layer = Dense(3, 2, rng=rng(), dtype=np.float64)
    layer.b.data[...] = [10, 20]
    x = rng(1).random((4, 3))
    expected = [[sum(x[i, j] * layer.W.data[j, k] for j in range(3)) + 10 * (k + 1)
                 for k in range(2)] for i in range(4)]  # fmt: skip
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-14)
    np.testing.assert_allclose(layer(x[0]).data, expected[0], rtol=1e-14)
    np.testing.assert_allclose(layer(x[None]).data, [expected], rtol=1e-14)
    bare = Dense(3, 2, rng=rng(), dtype=np.float64, bias=False)
    assert bare.b is None
    np.testing.assert_allclose(bare(x).data + np.array([10, 20]), expected, rtol=1e-14)


def test_dense_takes_its_initialiser_and_dtype():
    layer = Dense(30, 20, rng=rng(5), init=initializers.he_normal)
    np.testing.assert_array_equal(
        layer.W.data, initializers.he_normal(rng(5), (30, 20))
    )
    assert layer.W.dtype == layer.b.dtype == np.float32
    assert not layer.b.data.any()
    y = layer(np.ones((2, 30), np.float32))
    assert y.dtype == np.float32
    default = Dense(30, 20, rng=rng(5))
    np.testing.assert_array_equal(
        default.W.data, initializers.glorot_uniform(rng(5), (30, 20))
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda d: d(np.ones((32, 100), np.float32)), ValueError,
         "Dense(784, 256): x has 100 columns, 784 expected (shape (32, 100))"),
        (lambda d: d(np.float32(1)), ValueError,
         "Dense(784, 256): x has no columns, 784 expected (shape ())"),
        (lambda d: d(np.ones((32, 784))), TypeError,
         "Dense(784, 256): x is float64, W is float32; pass x.astype(np.float32)"),
        (lambda d: d(np.ones((32, 784), int)), TypeError, "x is int64, W is float32"),
        (lambda d: d([[1.0] * 784]), TypeError, "x is a list, not an array"),
        (lambda d: Dense(3, 2, rng=0), TypeError, "Dense: rng is 0; a np.random.Gen"),
        (lambda d: Dense(0, 2, rng=rng()), ValueError, "Dense: d_in is 0; at least 1"),
        (lambda d: Dense(3, 2.0, rng=rng()), TypeError, "Dense: d_out is 2.0, a float"),
        (lambda d: Dense(3, 2, rng=rng(), dtype=int), TypeError, "dtype is int64"),
        (lambda d: Sequential(d, np.tanh), TypeError, "Sequential: argument 1 is a"),
        (lambda d: Module()(1), NotImplementedError, "Module has no forward()"),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call(Dense(784, 256, rng=rng()))


def test_a_generator_is_required():
    with pytest.raises(TypeError, match="rng"):
        Dense(3, 2)


@pytest.mark.parametrize(
    ("layer", "formula"),
    [
        (ReLU(), lambda x: np.maximum(x, 0)),
        (LeakyReLU(), lambda x: np.where(x > 0, x, 0.2 * x)),
        (LeakyReLU(0.01), lambda x: np.where(x > 0, x, 0.01 * x)),
        (Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
        (Tanh(), np.tanh),
    ],
)
def test_activations(layer, formula):
    x = rng().normal(0, 2, (4, 5))
    np.testing.assert_allclose(layer(x), formula(x), rtol=1e-14)
    y = layer(Tensor(x, requires_grad=True))
    np.testing.assert_allclose(y.data, formula(x), rtol=1e-14)
    assert layer.parameters() == []


def test_sequential_is_a_list_that_computes():
    parts = [Dense(3, 4, rng=rng(0)), Tanh(), Dense(4, 2, rng=rng(1))]
    net = Sequential(*parts)
    assert len(net) == 3
    assert list(net) == parts
    assert net[-1] is parts[2]
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(net(x).data, parts[2](np.tanh(parts[0](x))).data)
    front = net[:2]
    assert isinstance(front, Sequential)
    np.testing.assert_array_equal(front(x).data, np.tanh(parts[0](x)).data)
    assert front.parameters()[0] is parts[0].W
    assert Sequential()(x) is x


def test_evaluate_returns_arrays_for_arrays_and_tensors_for_tensors():
    layer = Dense(3, 2, rng=rng())
    x = np.ones((1, 3), np.float32)
    y = evaluate(layer, x)
    assert type(y) is np.ndarray
    recorded = evaluate(layer, Tensor(x))
    assert recorded.requires_grad
    np.testing.assert_array_equal(recorded.data, y)
    with no_grad():
        assert not evaluate(layer, Tensor(x)).requires_grad
    assert evaluate(lambda x: x, x) is x


# --- Maxout, Dropout, and its mode --------------------------------------------------


def test_maxout_is_the_largest_of_its_maps():
    x = np.random.default_rng(1).normal(size=(5, 3))
    layer = nn.Maxout(3, 4, 2, rng=np.random.default_rng(0), dtype=np.float64)
    W, b = layer.maps.W.data, layer.maps.b.data
    first = initializers.glorot_uniform(rng(), (3, 4), np.float64)
    np.testing.assert_array_equal(W[:, :4], first)
    b[...] = np.arange(8) / 10
    expected = np.empty((5, 4))
    for i in range(5):
        for j in range(4):
            ys = [x[i] @ W[:, 4 * k + j] + b[4 * k + j] for k in range(2)]
            expected[i, j] = max(ys)
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-13)
    np.testing.assert_allclose(layer(x[None]).data, expected[None], rtol=1e-13)
    assert layer(x[:0]).shape == (0, 4)
    gradcheck(layer, x)
    gradcheck(lambda *_: layer(x), layer.parameters(), order=2)
    # The gradient of an entry goes to the larger of its two maps.
    layer.zero_grad()
    layer(x)[0, 0].backward()
    larger = x[0] @ W[:, 4] + b[4] > x[0] @ W[:, 0] + b[0]
    assert layer.maps.b.grad[4 * larger] == 1
    assert np.count_nonzero(layer.maps.b.grad) == 1
    # Each map is initialised like a Dense layer of its size.
    limit = math.sqrt(6 / (3 + 4))
    big = nn.Maxout(3, 4, 500, rng=np.random.default_rng(0)).maps.W.data
    assert 0.99 * limit < np.abs(big).max() <= limit
    assert "Maxout(3, 4, pieces=2)" in repr(layer)
    with pytest.raises(ValueError, match="Maxout: pieces is 0"):
        nn.Maxout(3, 4, 0, rng=np.random.default_rng(0))


def test_dropout_drops_and_keeps_the_mean():
    layer = nn.Dropout(0.25, rng=np.random.default_rng(0))
    x = np.full((200, 500), 3.0, np.float32)
    y = layer(x)
    assert y.dtype == np.float32
    assert set(np.unique(y)) == {0.0, 4.0}
    # 100,000 draws: the fraction's standard deviation is 0.0014.
    assert np.mean(y == 0) == pytest.approx(0.25, abs=0.006)
    assert (layer(x) != y).any()
    x = Tensor(np.ones((4, 5)), requires_grad=True)
    y = layer(x)
    np.sum(y).backward()
    np.testing.assert_array_equal(x.grad, y.data)  # dropped entries have no gradient
    assert nn.Dropout(0.0, rng=np.random.default_rng(0))(x) is x
    ones = nn.Dropout(0.2, rng=np.random.default_rng(0))(np.ones(100, int))
    assert set(ones) == {0.0, 1.25}
    with pytest.raises(ValueError, match=r"Dropout: p is 1.0; a number in \[0, 1\)"):
        nn.Dropout(1.0, rng=np.random.default_rng(0))
    with pytest.raises(TypeError, match="Dropout: rng is None"):
        nn.Dropout(0.5, rng=None)


def test_dropout_drops_the_same_entries_in_either_dtype():
    x = np.ones((20, 30))
    double = nn.Dropout(0.5, rng=rng(3))(x)
    single = nn.Dropout(0.5, rng=rng(3))(x.astype(np.float32))
    np.testing.assert_array_equal(single, double)
    twin = copy.deepcopy(layer := nn.Dropout(0.5, rng=rng(3)))
    np.testing.assert_array_equal(layer(x), twin(x))


def test_dropout_skips_arrays_and_follows_the_mode_for_tensors():
    class Noisy(Module):  # a user's layer that reads the mode
        def forward(self, x):
            return x + 1 if self.training else x

    layer = Sequential(nn.Dropout(0.5, rng=rng()), Noisy())
    x = np.ones((10, 20), np.float32)
    np.testing.assert_array_equal(evaluate(layer, x), x)
    np.testing.assert_array_equal(evaluate(lambda x: layer(2 * x), x), 2 * x)
    assert layer.training
    assert set(np.unique(evaluate(layer, Tensor(x)).data)) == {1, 3}
    with nn.inference():
        assert not layer.training
        assert not layer[0].training
        np.testing.assert_array_equal(layer(x), x)
        assert not np.exp(Tensor(x, requires_grad=True)).requires_grad
    with pytest.raises(ZeroDivisionError):
        evaluate(lambda x: 1 / 0, x)
    assert layer[0].training
    assert (layer(x) != x).any()
    layer.eval()
    with nn.inference():
        pass
    assert not layer[0].training
    assert evaluate(layer, Tensor(x, requires_grad=True)).requires_grad


def test_modes_reach_parts_in_lists_and_in_a_circle():
    net = Net()
    net.me = net
    net.layers.append({"more": (nn.Dropout(0.5, rng=rng()),)})
    net.eval()
    assert not net.layers[2]["more"][0].training
    assert not net.layers[1][0].training
    assert not net.by_name["head"].training
    net.layers[0].train()
    assert net.layers[0].training
    assert not net.training


def test_eval_reaches_all_parts_and_is_not_saved():
    rng = np.random.default_rng(0)
    inner = nn.Sequential(nn.Dense(2, 2, rng=rng), nn.Dropout(0.5, rng=rng))
    model = nn.Sequential(inner, nn.Dropout(0.5, rng=rng))
    x = np.ones((50, 2), np.float32)
    names = list(model.state_dict())
    text = repr(model)
    assert model.eval() is model
    assert not inner[1].training
    np.testing.assert_array_equal(model(x).data, inner[0](x).data)
    assert list(model.state_dict()) == names == ["0.0.W", "0.0.b"]
    assert repr(model) == text
    twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert not twin[1].training
    assert model.train().training
    assert inner[1].training
    assert (model(x).data == 0).any()


def test_mlp_has_activations_between_its_layers_only():
    model = nn.mlp((4, 3, 2), nn.Tanh, rng=np.random.default_rng(0))
    assert [type(m).__name__ for m in model] == ["Dense", "Tanh", "Dense"]
    assert list(model.state_dict()) == ["0.W", "0.b", "2.W", "2.b"]
    with pytest.raises(ValueError, match=r"mlp: sizes is \(4,\)"):
        nn.mlp((4,), rng=np.random.default_rng(0))


# --- All or nothing, and subclasses of ndarray ----------------------------------------


def test_loading_writes_all_or_nothing_if_one_is_read_only():
    net = Sequential(Dense(3, 4, rng=rng(0)), Tanh(), Dense(4, 2, rng=rng(1)))
    before, state = net.state_dict(), {k: a + 1 for k, a in net.state_dict().items()}
    x = np.ones((2, 3), np.float32)
    loss = np.sum(net(x))
    for name, p in net.named_parameters():
        p.data.flags.writeable = False
        message = (
            f"Sequential.load_state_dict: nothing was loaded\n  {name}: is read-only"
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            net.load_state_dict(state)
        for k, a in net.state_dict().items():
            np.testing.assert_array_equal(a, before[k])
        p.data.flags.writeable = True
    loss.backward()  # nothing was written
    net.load_state_dict(state)
    for k, a in net.state_dict().items():
        np.testing.assert_array_equal(a, state[k])


def test_layers_treat_a_subclass_as_its_plain_array():
    x = rng(1).normal(size=(4, 3))
    W = Dense(3, 2, rng=rng(), dtype=np.float64)
    layers = [
        W, nn.Maxout(3, 2, 2, rng=rng(), dtype=np.float64), ReLU(), LeakyReLU(0.1),
        Sigmoid(), Tanh(), Sequential(), Sequential(W, Tanh()),
        nn.Dropout(0.5, rng=rng()).eval(),
    ]  # fmt: skip
    masked = np.ma.array(x, mask=x > 0)
    for layer in layers:
        right = layer(x)
        for given in (np.ma.array(x), x.view(np.recarray)):
            found = layer(given)
            assert type(plain(found)) is np.ndarray
            np.testing.assert_array_equal(plain(found), plain(right))
        with pytest.raises(
            TypeError, match=r": x is a masked array of .* entries masked"
        ):
            layer(masked)
        with pytest.raises(TypeError, match=r"evaluate: x is a masked array of"):
            evaluate(layer, masked)
        assert type(evaluate(layer, np.ma.array(x))) is np.ndarray
    # A gradient through a product with values of a subclass.
    for given in (x, np.ma.array(x)):
        W.zero_grad()
        np.sum(np.square(W(given))).backward()
        expected = 2 * x.T @ (x @ W.W.data + W.b.data)
        np.testing.assert_allclose(W.W.grad, expected, rtol=1e-13)


# --- Buffers --------------------------------------------------------------------------


class BatchNorm1d(Module):
    """A layer as a user would write it (Ioffe & Szegedy 2015)."""

    def __init__(self, d, dtype=np.float32):
        self.scale = Tensor(np.ones(d, dtype), requires_grad=True)
        self.shift = Tensor(np.zeros(d, dtype), requires_grad=True)
        self.register_buffer("mean", np.zeros(d, dtype))
        self.register_buffer("var", np.ones(d, dtype))
        self.register_buffer("steps", np.array(0))

    def forward(self, x):
        if self.training:
            mean, var = np.mean(x, axis=0), np.var(x, axis=0)
            self.mean = 0.9 * self.mean + 0.1 * mean.detach()
            self.var *= 0.9
            self.var += 0.1 * var.data
            self.steps = self.steps + 1
        else:
            mean, var = self.mean, self.var
        return (x - mean) / np.sqrt(var + 1e-5) * self.scale + self.shift


class Normed(Module):
    """A network with a BatchNorm in a list, and the same one in a dict."""

    def __init__(self, seed=0):
        self.layers = [Dense(3, 5, rng=rng(seed)), BatchNorm1d(5), Tanh()]
        self.register_buffer("seen", np.zeros(2, bool))
        self.more = {"again": self.layers[1], "last": Dense(5, 2, rng=rng(seed + 1))}

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.more["last"](x)

    def loss(self, x):
        return np.mean(np.square(self(x) - x[:, :2]))


STATE = [
    "layers.0.W", "layers.0.b", "layers.1.scale", "layers.1.shift", "layers.1.mean",
    "layers.1.var", "layers.1.steps", "more.last.W", "more.last.b", "seen",
]  # fmt: skip
BUFFERS = ["layers.1.mean", "layers.1.var", "layers.1.steps", "seen"]


def test_buffers_are_saved_and_are_not_parameters():
    net = Normed()
    assert list(net.state_dict()) == list(net.state_arrays()) == STATE
    assert [name for name, _ in net.named_buffers()] == BUFFERS
    assert [a.shape for a in net.buffers()] == [(5,), (5,), (), (2,)]
    assert [name for name, _ in net.named_parameters()] == [
        name for name in STATE if name not in BUFFERS
    ]
    assert net.state_arrays()["layers.1.mean"] is net.layers[1].mean
    assert repr(net) == (
        "Normed()  more.again (shared), seen (2,) buffer\n"
        "    layers.0: Dense(3, 5)  W (3, 5), b (5,)  20\n"
        "    layers.1: BatchNorm1d()  scale (5,), shift (5,), mean (5,) buffer, "
        "var (5,) buffer, steps () buffer  10\n"
        "    layers.2: Tanh()\n"
        "    more.last: Dense(5, 2)  W (5, 2), b (2,)  12\n"
        "42 parameters"
    )


def test_the_arrays_that_forward_assigns_are_saved():
    net = Normed()
    x = rng(1).random((8, 3), np.float32)
    hidden = net.layers[0](x).data
    for _ in range(2):
        net(x)
    state = net.state_dict()
    mean = 0.19 * hidden.mean(axis=0)
    np.testing.assert_allclose(state["layers.1.mean"], mean, rtol=1e-5)
    var = 0.81 + 0.19 * hidden.var(axis=0)
    np.testing.assert_allclose(state["layers.1.var"], var, rtol=1e-5)
    assert state["layers.1.steps"] == 2
    assert state["layers.1.steps"].dtype == int
    assert type(net.layers[1].mean) is type(net.layers[1].steps) is np.ndarray
    with nn.inference():
        net(x)
    assert net.layers[1].steps == 2


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_buffers_are_copied_and_loaded(way):
    net = Normed()
    x = rng(1).random((8, 3), np.float32)
    net(x)
    twin = way(net)
    assert list(twin.state_dict()) == STATE
    right = evaluate(net, x)
    np.testing.assert_array_equal(evaluate(twin, x), right)
    twin(x + 1)
    assert net.layers[1].steps == 1
    np.testing.assert_array_equal(evaluate(net, x), right)
    other = Normed(seed=5)
    mean = other.layers[1].mean
    other.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(evaluate(other, x), right)
    # A buffer may share memory with anything, so loading writes into none.
    assert not mean.any()
    assert twin.more["again"] is twin.layers[1]


def test_buffers_are_loaded_with_the_parameters_or_not_at_all():
    net = Normed()
    before = net.state_dict()
    state = {k: np.ones_like(a) for k, a in before.items()}
    for wrong, message in [
        ({"layers.1.var": np.ones(4, np.float32)}, r"layers.1.var: shape \(4,\) given"),
        ({"layers.1.steps": np.ones(())}, "layers.1.steps: float64 given, int64 expec"),
        (
            {"seen": np.ma.array([True, True], mask=[0, 1])},
            "seen: masked entries given",
        ),
        ({"more": np.ones(3)}, "unexpected: more"),
    ]:
        with pytest.raises(ValueError, match=message):
            net.load_state_dict(state | wrong)
    with pytest.raises(ValueError, match=r"missing: layers.1.mean"):
        net.load_state_dict({k: a for k, a in state.items() if k != "layers.1.mean"})
    net.layers[1].shift.data.flags.writeable = False
    with pytest.raises(ValueError, match=r"layers.1.shift: is read-only"):
        net.load_state_dict(state)
    for k, a in net.state_dict().items():
        np.testing.assert_array_equal(a, before[k])


def test_two_buffers_that_share_an_array_are_loaded_separately():
    net = Module()
    for name in ("a", "b"):
        net.register_buffer(name, np.zeros(2))
    data = np.array([1.0, 2.0])
    net.a = net.b = data
    net.load_state_dict({"a": np.full(2, 3.0), "b": np.full(2, 4.0)})
    np.testing.assert_array_equal([net.a, net.b, data], [[3, 3], [4, 4], [1, 2]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda n: n.register_buffer(3, np.ones(2)), TypeError,
         "Normed.register_buffer: name is 3; a str expected"),
        (lambda n: n.register_buffer("a.b", np.ones(2)), ValueError,
         "name is 'a.b'; a Python name expected, like 'running_mean'"),
        (lambda n: n.register_buffer("", np.ones(2)), ValueError, "name is ''; a Pyth"),
        (lambda n: n.register_buffer("layers", np.ones(2)), ValueError,
         "the name 'layers' is taken by a list; choose another"),
        (lambda n: n.register_buffer("forward", np.ones(2)), ValueError,
         "the name 'forward' is taken by a method"),
        (lambda n: n.register_buffer("training", np.ones(2)), ValueError,
         "the name 'training' is taken by a bool"),
        (lambda n: n.layers[0].register_buffer("W", np.ones(2)), ValueError,
         "Dense.register_buffer: the name 'W' is taken by a Tensor"),
        (lambda n: n.register_buffer("x", [1.0]), TypeError,
         "x is a list; an array of floats, integers or booleans expected"),
        (lambda n: n.register_buffer("x", None), TypeError, "x is a NoneType; an arra"),
        (lambda n: n.register_buffer("x", np.array("a")), TypeError, "ndarray of <U1"),
        (lambda n: n.register_buffer("x", parameter(2)), TypeError,
         "Tensor of float64 that requires a gradient; pass its value, .detach()"),
        (lambda n: n.register_buffer("x", np.ma.array([1, 2], mask=[0, 1])), TypeError,
         "x is a masked array of shape (2,), 1 of 2 entries masked"),
        (lambda n: setattr(n, "seen", parameter(2) * 2), TypeError,
         "Normed: the buffer 'seen' is a Tensor of float64 that requires a gradient"),
        (lambda n: setattr(n, "seen", True), TypeError,
         "the buffer 'seen' is a bool; an array of floats, integers or booleans"),
        (lambda n: setattr(n, "seen", np.zeros(3, bool)), ValueError,
         "Normed: the buffer 'seen' is bool of shape (2,), but bool of shape (3,)"),
        (lambda n: setattr(n.layers[1], "mean", np.zeros(5)), ValueError,
         "BatchNorm1d: the buffer 'mean' is float32 of shape (5,), but float64 of"),
    ],
)  # fmt: skip
def test_wrong_buffers_are_refused(call, error, message):
    net = Normed()
    before = net.state_dict()
    with pytest.raises(error, match=re.escape(message)):
        call(net)
    assert list(net.state_dict()) == STATE
    for k, a in net.state_dict().items():
        np.testing.assert_array_equal(a, before[k])


def test_buffers_may_replace_buffers_or_attributes_and_be_deleted():
    net = Module()
    net.table = np.arange(3)
    assert net.state_dict() == {}  # only registered arrays are saved
    net.register_buffer("table", net.table)
    net.register_buffer("rate", np.float32(0.5))
    net.register_buffer("table", np.ones((2, 2)))
    assert {k: a.shape for k, a in net.state_dict().items()} == {
        "table": (2, 2), "rate": (),
    }  # fmt: skip
    net.rate = net.rate * 2  # NumPy turns a 0-d array into a number
    assert net.state_dict()["rate"] == 1
    net.table = np.ma.array(np.zeros((2, 2)))
    assert type(net.table) is np.ndarray
    del net.table
    net.table = "anything"
    assert list(net.state_dict()) == ["rate"]

    class Counting(Sequential):
        def __init__(self, *modules):
            super().__init__(*modules)
            self.register_buffer("calls", np.array(0))

    assert list(Counting(BatchNorm1d(2)).state_dict()) == [
        "0.scale", "0.shift", "0.mean", "0.var", "0.steps", "calls",
    ]  # fmt: skip


def test_buffers_are_trained_saved_and_resumed_to_the_bit(tmp_path):
    x = rng(3).random((20, 3), np.float32)

    def run(**options):
        net = Normed()
        adam = optim.Adam(net.parameters(), lr=0.01)
        training.fit(
            net, x, epochs=3, batch_size=8, rng=rng(1), optimizer=adam, progress=False,
            **options,
        )  # fmt: skip
        return net

    whole = run()
    assert whole.layers[1].steps == 9
    assert abs(whole.layers[1].mean).max() > 0.01
    checkpoint.save(tmp_path / "net.npz", whole.state_dict())
    loaded = Normed(seed=9)
    loaded.load_state_dict(checkpoint.load(tmp_path / "net.npz")[0])
    np.testing.assert_array_equal(evaluate(loaded, x), evaluate(whole, x))
    # Interrupted after the fifth step, and resumed.
    states = []

    def stop(state):
        states.append(state())
        if len(states) == 5:
            raise checkpoint.Stopped

    with pytest.raises(checkpoint.Stopped):
        run(checkpoints=stop)
    resumed = run(resume=states[-1])
    for name, a in whole.state_dict().items():
        np.testing.assert_array_equal(resumed.state_dict()[name], a, err_msg=name)
