"""demos/gan_digits.py: the measures on pictures whose answer is known."""

import numpy as np
import pytest

from demos import gan_digits
from demos._classifier import features
from demos._page import by_quantity
from demos.gan_digits import Judge, Measured, between, copies
from scratchnet.models.supervised import Classifier
from tests.helpers import rng


def test_a_walk_keeps_the_distribution_of_its_ends():
    a, b = rng().standard_normal((2, 4000, 8))
    walk = between(a, b, 5)
    assert walk.shape == (4000, 5, 8)
    np.testing.assert_allclose(walk[:, 0], a)
    np.testing.assert_allclose(walk[:, -1], b, atol=1e-12)
    error = 4 * np.sqrt(2 / a.size)
    np.testing.assert_allclose(np.mean(walk**2, axis=(0, 2)), 1, atol=error)


def test_copies_are_nearer_than_held_out_pictures():
    train, held_out = rng().random((2, 500, 6))
    assert copies(train[:50], held_out, train) == 1
    assert copies(held_out, held_out, train) == pytest.approx(0.01, abs=0.002)
    half = np.concatenate([train[:50], train[:50] + 10])
    assert copies(half, held_out, train) == 0.5


def test_a_judge_measures_real_pictures_against_themselves():
    judge = object.__new__(Judge)
    judge.real = rng().random((400, 784), np.float32)
    judge.seed, judge.epochs = 0, 2
    judge.inked = np.arange(784) < 500
    np.testing.assert_array_equal(judge.pictures(np.ones((2, 500))).sum(axis=1), 500)
    judge.real[:, 500:] = 0
    judge.classifier = Classifier((784, 8, 10), rng=rng(1))
    judge.features = features(judge.classifier)(judge.real)
    assert judge.features.shape == (400, 8)
    same = judge(judge.real[:, :500])
    assert same.frechet == pytest.approx(0, abs=1e-4)
    assert same.shares.sum() == pytest.approx(100)
    assert same.rarest == same.shares.min()
    dark = judge(0 * judge.real[:, :500])
    assert dark.frechet > 0.1
    assert dark.told > 99
    assert sorted(dark.shares)[-1] == 100  # one picture, one digit


def measured(value):
    x = rng(int(value)).random((100, 784))
    return Measured(value, np.full(10, value), value, x)


def test_the_claims_fail_if_a_baseline_does_as_well(tmp_path):
    good, bad = (
        Measured(60, np.full(10, 10), 0.5, None),
        measured(1.0)._replace(told=99, frechet=50),
    )
    longer = gan_digits.with_average(gan_digits.LONGER)
    names = [gan_digits.LECTURE, longer, gan_digits.VAE_ROW, gan_digits.FITTED]
    names.append(gan_digits.MEAN)
    rows = dict.fromkeys(names, bad) | dict.fromkeys(
        [gan_digits.REAL, gan_digits.with_average(gan_digits.BEST)], good
    )
    demo = gan_digits.Demo("x", quick=False, out=tmp_path)
    gan_digits.claim(demo, rows, 0.01)
    assert demo.failed == []
    gan_digits.report(demo, rows)
    by_quantity([demo.claims])  # raises if two quantities have one name
    gan_digits.claim(demo, rows | {gan_digits.MEAN: good}, 0.5)
    assert len(demo.failed) == 2  # the rarest digit is a missed target


def test_figures_show_every_source():
    rows = {"real digits": measured(1), "a VAE": measured(2), "a GAN": measured(3)}
    axes = gan_digits.draw_remedies(rows).axes
    assert [text.get_text() for text in axes[0].get_yticklabels()] == list(rows)
    assert list(axes[1].lines[0].get_xdata()) == [1, 2, 3]
    bars = gan_digits.draw_shares(rows).axes[0].patches
    assert [bar.get_height() for bar in bars] == [1] * 10 + [2] * 10 + [3] * 10
    nearest = gan_digits.draw_nearest(rows["a VAE"].x[:2], rows["a VAE"].x)
    shown = [np.asarray(ax.images[0].get_array()) for ax in nearest.axes]
    np.testing.assert_array_equal(shown[:2], shown[2:])  # each is its own nearest
    assert len(gan_digits.draw_walk(np.zeros((4, 7, 784))).axes) == 28
