"""The arithmetic of the stacked autoencoder's demo; trainings take a few steps."""

import itertools

import numpy as np
import pytest

from demos import stacked
from scratchnet import byhand
from scratchnet.data.digits import draw_digits
from scratchnet.nn import glorot_uniform


@pytest.fixture
def data():
    train = draw_digits(100, np.random.default_rng(1), pixels=stacked.SIDE)
    held_out = draw_digits(20, np.random.default_rng(2), pixels=stacked.SIDE)
    return stacked.Data(train, held_out, [0, 3])


@pytest.fixture
def stack():
    rng = np.random.default_rng(0)
    return byhand.StackedAutoencoder(stacked.STACK, rng=rng, batch_size=8)


def test_networks_of_all_depths_have_as_many_parameters():
    counts = []
    for hidden in (1, 2, 3, 4):
        layers = [stacked.width(hidden)] * hidden
        sizes = [stacked.PIXELS, *layers, stacked.CODE]
        pairs = itertools.pairwise(sizes)
        counts.append(2 * sum(a * b for a, b in pairs))
    assert stacked.width(1) == stacked.WIDTH
    assert max(counts) / min(counts) < 1.02


def test_accuracy_by_hand(data):
    """At equal distances the first digits vote, so a constant has one class."""
    winner = np.bincount(data.train.label[: stacked.VOTERS]).argmax()
    expected = 100 * np.mean(data.held_out.label == winner)
    assert data.accuracy(np.zeros_like) == pytest.approx(expected)


def test_a_row_has_the_error_of_all_digits_and_the_pictures_shown(data):
    x = data.held_out.x
    ((name, pictures),) = data.row("none", np.zeros_like(x)).items()
    assert name == f"none\nerror {np.mean(np.sum(x**2, axis=1)):.1f}"
    assert pictures.shape == (2, stacked.SIDE, stacked.SIDE)


def test_training_keeps_the_rate_with_the_least_error(data):
    found = stacked.train(data, 1, "relu", epochs=1, seeds=[0, 1], rates=(1e-9, 5e-3))
    alone = stacked.train(data, 1, "relu", epochs=1, seeds=[0, 1], rates=(5e-3,))
    assert found.stack.sizes == (stacked.PIXELS, stacked.WIDTH, stacked.CODE)
    assert found.starts == alone.starts
    assert found.accuracy == np.mean(found.starts)
    assert found.rates == [5e-3, 5e-3]
    assert min(found.errors[1e-9]) > max(found.errors[5e-3])


def test_the_network_shown_is_that_of_the_worse_start(data):
    found = stacked.train(data, 1, "relu", epochs=1, seeds=[0, 1], rates=(5e-3,))
    assert data.accuracy(found.encode) == min(found.starts)


def test_ranks_by_hand():
    z = np.array([[0.1, -5], [7, 0], [0.2, -9]])
    np.testing.assert_array_equal(stacked.ranks(z), [[1, 2], [3, 3], [2, 1]])


def test_two_components_of_the_pixels_and_of_the_code(data):
    stack = stacked.untrained(3, "relu", np.random.default_rng(0))
    found = stacked.accuracy_by_layer(data, stack)
    assert len(found) == len(stacked.LAYERS)
    assert found[0] == pytest.approx(stacked.linear(data).accuracy)
    # Two components of a code of two numbers only rotate it.
    assert found[-1] == pytest.approx(data.accuracy(stack.encode), abs=5.1)
    whole = stacked.accuracy_by_layer(data, stack, reduced=False)
    assert whole[0] == data.accuracy(np.asarray)
    assert whole[-1] == data.accuracy(stack.encode)


def test_there_and_back_through_all_layers_is_the_stack(stack):
    x = draw_digits(8, np.random.default_rng(1), pixels=stacked.SIDE).x
    through = stacked.there_and_back(stack, x, len(stacked.STACK) - 1)
    np.testing.assert_allclose(through, stack.reconstruct(x), rtol=1e-5, atol=1e-6)


def test_there_and_back_through_one_layer_by_hand(stack):
    x = draw_digits(3, np.random.default_rng(1), pixels=stacked.SIDE).x
    p = stack.parameters
    h = np.maximum(x @ p["encoder.0.W"], 0)
    a = h @ p["decoder.6.W"]
    through = stacked.there_and_back(stack, x, 1)
    np.testing.assert_allclose(through, 1 / (1 + np.exp(-a)), rtol=1e-5)


def test_small_weights_are_small():
    W = stacked.small(np.random.default_rng(0), (300, 200))
    assert W.dtype == np.float32
    assert np.std(W) == pytest.approx(0.01, rel=0.02)
    assert abs(np.mean(W)) < 2e-4


def test_a_centred_layer_has_codes_of_mean_0_and_the_mean_as_output():
    rng = np.random.default_rng(0)
    layer = byhand.Autoencoder((6, 4), rng=rng, batch_size=5, init=glorot_uniform)
    h = rng.random((50, 6), np.float32) + 3
    stacked.centre(layer, h)
    np.testing.assert_allclose(layer.encode(h).mean(axis=0), 0, atol=1e-5)
    np.testing.assert_array_equal(layer.parameters["decoder.0.b"], h.mean(axis=0))


def test_learning_counts_the_epochs_of_layers(data):
    x = data.train.x
    means = stacked.RELU._replace(pretraining=1)
    one = stacked.learn(means, x, x[:10], epochs=3, layered=True, seed=0)
    assert one.epochs == [1, 2, 3]
    assert len(one.errors) == 3
    assert one.layers.keys() == one.stack.parameters.keys()
    made = stacked.stages(means, one, data)
    assert [picture.shape for picture in made] == [data.held_out.x.shape] * 4
    whole = stacked.learn(means, x, x[:10], epochs=2, layered=False, seed=0)
    assert whole.epochs == [1, 2]
    assert whole.layers == {}
