"""The arithmetic of the demos of codes: compression, features and visualisation."""

import zlib

import numpy as np
import pytest

from demos import compression, features, visualisation
from scratchnet.metrics import PCA, knn_accuracy, reconstruction_error

# --- compression --------------------------------------------------------------------


@pytest.fixture
def fitted():
    rng = np.random.default_rng(0)
    train, x = rng.random((2, 60, 9)) @ np.diag(np.linspace(0.2, 1.4, 9))
    return PCA(6).fit(train), x


def test_codes_are_rounded_to_the_middles_of_even_levels(monkeypatch):
    monkeypatch.setattr(compression, "TAIL", 0)
    known = np.array([[0.0, 10.0], [8.0, 18.0]])
    z = np.array([[0.1, 10.1], [3.9, 13.9], [7.9, 30.0], [-5.0, 17.0]])
    to_levels = compression.rounding(known, 2)
    np.testing.assert_allclose(to_levels(z), [[1, 11], [3, 13], [7, 17], [1, 17]])
    to_levels = compression.rounding(known, np.array([1, 0]))
    np.testing.assert_allclose(to_levels(z), [[2, 14], [2, 14], [6, 14], [2, 14]])


def test_the_errors_of_pca_are_those_of_its_clipped_reconstructions(fitted):
    pca, x = fitted
    z = pca.transform(x)
    errors = compression.pca_errors(pca, z, x)
    mean = np.tile(np.clip(pca.mean_, 0, 1), (len(x), 1))
    assert errors[0] == pytest.approx(reconstruction_error(x, mean))
    two = np.clip(z[:, :2] @ pca.components_[:2] + pca.mean_, 0, 1)
    assert errors[2] == pytest.approx(reconstruction_error(x, two))
    whole = np.clip(pca.inverse_transform(z), 0, 1)
    assert errors[6] == pytest.approx(reconstruction_error(x, whole))
    assert np.any(whole == 1)  # clipping matters here


def test_bits_are_chosen_so_that_the_levels_are_a_step_apart(monkeypatch):
    monkeypatch.setattr(compression, "TAIL", 0)
    known = np.outer([-0.5, 0.5], [8.0, 4.0, 2.0, 0.5, 0.1])
    np.testing.assert_array_equal(compression.chosen_bits(known, 1.0), [3, 2, 1, 0, 0])
    np.testing.assert_array_equal(compression.chosen_bits(known, 0.5), [4, 3, 2, 0, 0])


def test_chosen_bits_cost_less_than_equal_bits(fitted):
    pca, x = fitted
    z = pca.transform(x)
    chosen = compression.chosen_curve(pca, z, z, x)
    assert np.all(np.diff(chosen.sizes) >= 0)
    assert chosen.errors[-1] < chosen.errors[0]


def test_the_bytes_for_an_error_lie_between_points_of_the_curve():
    curve = compression.Curve(np.array([1.0, 2.0, 4.0]), np.array([9.0, 5.0, 3.0]))
    assert compression.needed(curve, 5.0) == 2
    assert compression.needed(curve, 4.0) == 3
    with pytest.raises(ValueError, match="4 bytes have an error of 3, more than 2"):
        compression.needed(curve, 2.0)
    np.testing.assert_array_equal(compression.bytes_of([4, 16]), [3, 12])


def test_zlib_counts_a_byte_for_each_pixel():
    x = np.linspace(0, 1, 2 * 784).reshape(2, 784)
    sizes = [len(zlib.compress(np.round(255 * row).astype(np.uint8), 9)) for row in x]
    assert compression.zlib_bytes(x) == pytest.approx(np.mean(sizes))


def test_tiles_stand_in_rows_and_columns():
    first, second = np.zeros((3, 784)), np.ones((3, 784))
    second[2] = 0.5
    sheet = compression.tiles([first, second])
    side = 28 - 6
    assert sheet.shape == (3 * side + 2, 2 * side + 1)
    assert sheet[0, 0] == 0
    assert sheet[0, -1] == 1
    assert sheet[-1, -1] == 0.5
    assert sheet[0, side] == sheet[side, 0] == 0.15


# --- features -----------------------------------------------------------------------


def test_the_kernel_by_hand():
    a, b = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[2.0, 0.0]])
    by_hand = np.exp(-np.array([[4], [2]]) / (2 * features.WIDTH**2))
    np.testing.assert_allclose(features.kernel(a, b), by_hand)


def test_a_linear_probe_reads_lines_and_a_nonlinear_one_curves():
    z = np.random.default_rng(0).uniform(-1, 1, (600, 3))
    line, curve = z @ [1.0, -2.0, 0.5] + 7, z[:, 0] ** 2
    for kind, y, low, high in [
        ("linear", line, 0.999, 1),
        ("nonlinear", line, 0.999, 1),
        ("linear", curve, -0.1, 0.1),
        ("nonlinear", curve, 0.99, 1),
    ]:
        r2 = features.probe(kind, z[:400], y[:400], z[400:], y[400:])
        assert low <= r2 <= high


def test_a_probe_does_not_read_noise():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(600, 10)), rng.normal(size=600)
    assert features.probe("linear", z[:400], y[:400], z[400:], y[400:]) < 0.1
    assert features.probe("nonlinear", z[:400], y[:400], z[400:], y[400:]) < 0.1


def test_the_direction_is_that_of_the_largest_variance():
    x = np.random.default_rng(0).normal(size=(500, 4)) * [1, 1, 5, 1] + 3
    found = features.along(lambda x: x, x, x[:50])
    assert abs(np.corrcoef(found, x[:50, 2])[0, 1]) > 0.99
    assert abs(found).max() == pytest.approx(abs(x[:50, 2] - 3).max(), abs=1)


def test_neighbours_agree_where_the_labels_are_clusters():
    label = np.arange(2 * features.NEAR) % 2
    noise = np.random.default_rng(0).normal(size=(len(label), 3))
    assert features.agreement(noise + 100 * label[:, None], label) == 100
    assert 30 < features.agreement(noise, label) < 70


# --- visualisation ------------------------------------------------------------------


def test_the_discriminant_finds_classes_where_the_variance_is_small():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 10, 1000)
    angle = 2 * np.pi * label / 10
    x = rng.normal(size=(1000, 6)) * [0.05, 0.05, 1, 1, 1, 1]
    x[:, :2] += 0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def accuracy(z):
        return knn_accuracy(z[:500], label[:500], z[500:], label[500:], k=10)

    z = visualisation.discriminant(x, label)(x)
    assert accuracy(z) > 0.97
    assert accuracy(PCA(2).fit_transform(x)) < 0.3
    means = np.array([z[label == digit].mean(axis=0) for digit in range(10)])
    within = np.cov(z - means[label], rowvar=False)
    np.testing.assert_allclose(within, np.eye(2), atol=1e-6)


def test_limits_leave_out_what_lies_far_away():
    z = np.stack([np.linspace(0, 1, 1001), np.linspace(-10, 10, 1001)], axis=1)
    z[0] = -1e6
    low, high = visualisation.limits(z, inside=0.98).T
    np.testing.assert_allclose(low, [0.01 - 0.049, -9.8 - 0.98], atol=2e-3)
    np.testing.assert_allclose(high, [0.99 + 0.049, 9.8 + 0.98], atol=2e-3)
