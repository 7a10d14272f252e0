"""Classifier and regressor: learning, and errors."""

import numpy as np
import pytest

from scratchnet import Tensor
from scratchnet.models.supervised import Classifier, Regressor
from scratchnet.optim import Adam
from scratchnet.testing import gradcheck
from scratchnet.training import fit
from tests.helpers import rng


def train(model, x, y, epochs):
    return fit(
        model, (x, y), epochs=epochs, batch_size=50, rng=rng(1), progress=False,
        optimizer=Adam(model.parameters(), lr=0.01), validation=(x, y),
    )  # fmt: skip


def test_a_classifier_learns_classes_that_no_line_separates():
    x = rng(1).uniform(-1, 1, (400, 2)).astype(np.float32)
    label = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    model = Classifier((2, 32, 2), rng=rng())
    history = train(model, x, label, epochs=60)
    assert model.accuracy(x, label) > 0.97
    assert history.losses[-1] < 0.2 < history.losses[0]
    p = model.probabilities(x)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(model.predict(x), p.argmax(axis=1))
    assert model.accuracy(x, 1 - label) < 0.03
    for wrong in (label[:, None], label[:1]):
        with pytest.raises(ValueError, match="Classifier: label has shape"):
            model.accuracy(x, wrong)


def test_a_regressor_learns_a_curve():
    x = rng(1).uniform(-1, 1, (400, 1)).astype(np.float32)
    y = np.concatenate([np.sin(3 * x), x**2], axis=1)
    model = Regressor((1, 32, 2), rng=rng(), activation="tanh")
    train(model, x, y, epochs=60)
    assert np.mean((model.predict(x) - y) ** 2) < 0.01
    assert model.predict(x).shape == (400, 2)
    assert isinstance(model.predict(Tensor(x)), Tensor)


def test_gradients():
    x, y = rng(1).normal(size=(5, 3)), rng(2).normal(size=(5, 2))
    for model, target in (
        (Classifier((3, 4, 2), rng=rng(), dtype=np.float64), np.array([0, 1, 1, 0, 1])),
        (Regressor((3, 4, 2), rng=rng(), dtype=np.float64), y),
    ):
        gradcheck(lambda x, m=model, t=target: m.loss(x, t), x)
        model.loss(x, target).backward()
        assert all(p.grad.any() for p in model.parameters())


def test_wrong_data_are_named():
    x, label = np.zeros((4, 3), np.float32), np.array([0, 1, 2, 1])
    with pytest.raises(ValueError, match=r"label\[2\] is 2; 0 to 1 expected"):
        train(Classifier((3, 2), rng=rng()), x, label, 1)
    with pytest.raises(ValueError, match=r"fit: x\[1\] has 3 rows, x\[0\] has 4"):
        train(Classifier((3, 2), rng=rng()), x, label[:3], 1)
    with pytest.raises(ValueError, match="Regressor: target: x has 1 columns, 2 exp"):
        train(Regressor((3, 2), rng=rng()), x, x[:, :1], 1)
    with pytest.raises(ValueError, match="Classifier: x has 3 columns, 5 expected"):
        Classifier((5, 2), rng=rng()).predict(x)
    with pytest.raises(TypeError, match="Classifier: rng is 0"):
        Classifier((5, 2), rng=0)
