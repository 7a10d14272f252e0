"""What the demos vae and stacked compute beside trainings; nothing is trained."""

import itertools

import numpy as np
import pytest

from demos import stacked, vae
from scratchnet import byhand
from scratchnet.data.digits import draw_digits

# --- stacked ------------------------------------------------------------------------


def test_networks_of_all_depths_have_as_many_parameters():
    counts = []
    for hidden in stacked.DEPTHS:
        layers = [stacked.width(hidden)] * hidden
        sizes = [stacked.PIXELS, *layers, stacked.CODE]
        pairs = itertools.pairwise(sizes)
        counts.append(2 * sum(a * b for a, b in pairs))
    assert stacked.width(1) == stacked.WIDTH
    assert max(counts) / min(counts) < 1.02


@pytest.fixture
def stack():
    rng = np.random.default_rng(0)
    return byhand.StackedAutoencoder(stacked.STACK, rng=rng, batch_size=8)


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


def test_learning_counts_the_epochs_of_layers():
    x = draw_digits(100, np.random.default_rng(1), pixels=stacked.SIDE).x
    one = stacked.learn(stacked.NOW, x, x[:10], epochs=3, each=1, seed=0)
    assert one.epochs == [1, 2, 3]
    assert len(one.errors) == 3
    assert one.layers.keys() == one.stack.parameters.keys()
    whole = stacked.learn(stacked.NOW, x, x[:10], epochs=2, each=0, seed=0)
    assert whole.epochs == [1, 2]
    assert whole.layers == {}


# --- vae ----------------------------------------------------------------------------


@pytest.fixture
def flat():
    """A VAE with a code of 2 whose decoder says something, and pictures."""
    rng = np.random.default_rng(0)
    model = byhand.VAE((12, 8, 2), rng=rng, batch_size=16, dtype=np.float64)
    model.theta += rng.normal(0, 0.3, model.theta.shape)
    return model, rng.random((5, 12))


def test_interpolation_begins_and_ends_at_reconstructions(flat):
    model, x = flat
    way = vae.interpolate(model, x[0], x[1], 5)
    np.testing.assert_allclose(way[[0, -1]], model.reconstruct(x[:2]), rtol=1e-12)
    middle = model.decode(model.encode(x[:2]).mean(axis=0, keepdims=True))
    np.testing.assert_allclose(way[2], middle[0], rtol=1e-12)
