"""metrics.py: each number against a closed form, a loop, or a worked example."""

import ast
import inspect
import math
from collections import Counter

import numpy as np
import pytest

from scratchnet import metrics
from scratchnet.data.mixtures import swiss_roll
from scratchnet.metrics import (
    PCA,
    Coverage,
    expected_contrast,
    frechet_distance,
    intrinsic_dimension,
    knn_accuracy,
    ks_statistic,
    linear_probe,
    mode_coverage,
    nearest_distance,
    nearest_neighbors,
    neighbor_agreement,
    normal_range,
    parzen_log_likelihood,
    psnr,
    reconstruction_error,
    relative_contrast,
    ssim,
)


def samples(n=200, d=12, dtype=np.float64):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + rng.random(d)
    return x.astype(dtype)


def test_the_error_is_a_sum_over_columns_and_a_mean_over_rows():
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert reconstruction_error(x, np.array([[0.0, 0.0], [3.0, 1.0]])) == 7.0
    assert reconstruction_error(x, x) == 0.0
    bytes_, more = np.array([[0, 10]], np.uint8), np.array([[1, 10]], np.uint8)
    assert reconstruction_error(bytes_, more) == 1.0


def test_the_error_of_many_float32_samples_keeps_its_digits():
    x = np.full((3000, 784), 0.1, np.float32)
    exact = 784 * float(np.float32(0.1)) ** 2
    error = reconstruction_error(x, np.zeros_like(x))
    assert error == pytest.approx(exact, rel=1e-12)
    assert isinstance(error, float)


def test_the_error_refuses_shapes():
    for a, b in [((2, 3), (2, 4)), ((3,), (3,)), ((0, 3), (0, 3)), ((2, 3), (1, 3))]:
        with pytest.raises(ValueError, match="reconstruction_error: shapes"):
            reconstruction_error(np.zeros(a), np.zeros(b))


def reconstructed(pca, x):
    return pca.inverse_transform(pca.transform(x))


@pytest.mark.parametrize("k", [1, 5, 12])
def test_pca_is_the_svd_of_the_centred_data(k):
    x = samples()
    pca = PCA(k).fit(x)
    center = x.mean(axis=0)
    _, values, rows = np.linalg.svd(x - center, full_matrices=False)
    np.testing.assert_allclose(pca.mean_, center, rtol=1e-13)
    np.testing.assert_allclose(
        pca.explained_variance_, values[:k] ** 2 / 199, rtol=1e-10
    )
    signs = np.sign(np.sum(pca.components_ * rows[:k], axis=1, keepdims=True))
    np.testing.assert_allclose(pca.components_ * signs, rows[:k], atol=1e-9)
    np.testing.assert_allclose(
        pca.components_ @ pca.components_.T, np.eye(k), atol=1e-13
    )
    # The rest is the variance along the other directions.
    left = np.sum(values[k:] ** 2) / 200
    error = reconstruction_error(x, reconstructed(pca, x))
    assert error == pytest.approx(left, rel=1e-10, abs=1e-20)
    z = pca.transform(x)
    assert z.shape == (200, k)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(
        z.var(axis=0, ddof=1), pca.explained_variance_, rtol=1e-10
    )
    np.testing.assert_allclose(
        pca.inverse_transform(z), reconstructed(pca, x), rtol=1e-14
    )


def test_pca_in_blocks_is_pca_at_once():
    x = samples(20_000, 5)
    pca = PCA(2).fit(x)
    expected = np.linalg.eigvalsh(np.cov(x.T))[::-1][:2]
    np.testing.assert_allclose(pca.explained_variance_, expected, rtol=1e-11)


def test_no_other_linear_code_is_better():
    x = samples()
    best = reconstruction_error(x, reconstructed(PCA(3).fit(x), x))
    rng = np.random.default_rng(1)
    for _ in range(20):
        basis, _ = np.linalg.qr(rng.standard_normal((12, 3)))
        centered = x - x.mean(axis=0)
        assert reconstruction_error(centered, centered @ basis @ basis.T) > best


def test_pca_keeps_the_dtype():
    x = samples(dtype=np.float32)
    pca = PCA(4).fit(x)
    assert pca.transform(x).dtype == reconstructed(pca, x).dtype == np.float32
    exact = PCA(4).fit(x.astype(np.float64))
    np.testing.assert_allclose(
        abs(pca.transform(x)), abs(exact.transform(x)), atol=1e-4
    )
    assert PCA(1).fit((x * 9).astype(int)).transform(x).dtype == np.float64


def test_pca_refuses():
    x = samples()
    with pytest.raises(ValueError, match="PCA: n_components is 0"):
        PCA(0)
    with pytest.raises(
        ValueError, match=r"PCA: x has shape \(200, 12\), too small for 13 "
    ):
        PCA(13).fit(x)
    with pytest.raises(
        ValueError, match=r"PCA: x has shape \(3, 12\), too small for 4"
    ):
        PCA(4).fit(x[:3])
    with pytest.raises(ValueError, match="too small for 2 components"):
        PCA(2).fit(x[0])
    with pytest.raises(ValueError, match="call fit"):
        PCA(2).transform(x)
    with pytest.raises(ValueError, match="call fit"):
        PCA(2).inverse_transform(x)
    pca = PCA(2).fit(x)
    with pytest.raises(ValueError, match=r"expected \(n, d\) = \(n, 12\)"):
        pca.transform(x[:, :5])
    with pytest.raises(ValueError, match=r"expected \(n, k\) = \(n, 2\)"):
        pca.inverse_transform(x)
    x[3, 4] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        PCA(2).fit(x)


def test_no_engine_is_imported():
    tree = ast.parse(inspect.getsource(metrics))
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {module for module in found if module.startswith("scratchnet")}
    assert ours == {"scratchnet", "scratchnet.backend"}


# Pictures.


def test_psnr_in_decibels_per_picture():
    y = np.zeros((4, 2, 5))
    x = y + np.array([1.0, 0.1, 0.01, 0.0])[:, None, None]
    found = psnr(x, y)
    np.testing.assert_allclose(found[:3], [0, 20, 40], atol=1e-12)
    assert found[3] == math.inf
    # Half of the pixels off by 0.2: mean square 0.02, 10 log10(50).
    half = np.array([[0.2, -0.2, 0, 0]], np.float32)
    (found,) = psnr(half, np.zeros((1, 4), np.float32))
    assert found == pytest.approx(16.9897, abs=1e-4)


def ssim_by_loops(x, y):
    """The definition, by loops over windows and pixels, about each window's means."""
    weights = [
        [math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / 4.5) for j in range(11)]
        for i in range(11)
    ]
    total = sum(map(sum, weights))
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            window = [
                (weights[i][j] / total, x[top + i, left + j], y[top + i, left + j])
                for i in range(11)
                for j in range(11)
            ]
            mx = sum(w * a for w, a, _ in window)
            my = sum(w * b for w, _, b in window)
            vx = sum(w * (a - mx) ** 2 for w, a, _ in window)
            vy = sum(w * (b - my) ** 2 for w, _, b in window)
            both = sum(w * (a - mx) * (b - my) for w, a, b in window)
            top_line = (2 * mx * my + 1e-4) * (2 * both + 9e-4)
            values.append(top_line / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    return sum(values) / len(values)


def test_ssim_is_its_definition():
    rng = np.random.default_rng(0)
    x = rng.random((2, 13, 14))
    y = np.clip(x + 0.3 * rng.standard_normal(x.shape), 0, 1)
    found = ssim(x.reshape(2, -1), y.reshape(2, -1), (13, 14))
    expected = [ssim_by_loops(a, b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(ssim(x, y, (13, 14)), found, rtol=1e-14)


def test_ssim_is_the_number_of_scikit_image():
    # structural_similarity of scikit-image 0.26 with gaussian_weights=True, sigma=1.5,
    # use_sample_covariance=False, data_range=1.
    i, j = np.mgrid[:16, :14]
    x = ((3 * i + 5 * j) % 11) / 10
    y = ((3 * i + 5 * j + (i * j) % 3) % 11) / 10
    (found,) = ssim(x[None], y[None], (16, 14))
    assert found == pytest.approx(0.7517588266105077, rel=1e-12)


def test_ssim_of_colours_is_the_mean_over_them():
    rng = np.random.default_rng(1)
    x, y = rng.random((2, 3, 12, 11, 3))
    each = [ssim(x[..., c], y[..., c], (12, 11)) for c in range(3)]
    np.testing.assert_allclose(ssim(x, y, (12, 11, 3)), np.mean(each, axis=0))


def test_ssim_of_plain_pictures():
    rng = np.random.default_rng(2)
    x = rng.random((2, 400))
    np.testing.assert_allclose(ssim(x, x, (20, 20)), 1, rtol=1e-12)
    assert (ssim(x, 1 - x, (20, 20)) < 0).all()  # the same structure, inverted
    a, b = np.full((1, 400), 0.2), np.full((1, 400), 0.8)
    expected = (2 * 0.2 * 0.8 + 1e-4) / (0.04 + 0.64 + 1e-4)  # brightness alone
    np.testing.assert_allclose(ssim(a, b, (20, 20)), expected, rtol=1e-10)


def test_pictures_are_refused():
    for a, b in [((2, 3), (2, 4)), ((3,), (3,)), ((0, 3), (0, 3))]:
        with pytest.raises(ValueError, match="psnr: shapes"):
            psnr(np.zeros(a), np.zeros(b))
        with pytest.raises(ValueError, match="ssim: shapes"):
            ssim(np.zeros(a), np.zeros(b), (20, 20))
    x = np.zeros((1, 400))
    for shape in [(10, 40), (400,), (5, 5, 4, 4)]:
        with pytest.raises(ValueError, match="ssim: shape is"):
            ssim(x, x, shape)
    with pytest.raises(
        ValueError, match="ssim: a picture has 400 numbers; that does not"
    ):
        ssim(x, x, (20, 21))


# Codes.


def whole_numbers(n, d, seed=0):
    """Points on a lattice, so that many distances are equal."""
    return np.random.default_rng(seed).integers(0, 4, (n, d))


def neighbours_by_loops(x, data, k, others=False):
    found = []
    for i, point in enumerate(x.tolist()):
        ranked = sorted(
            (sum((a - b) ** 2 for a, b in zip(point, row, strict=True)), j)
            for j, row in enumerate(data.tolist())
            if not (others and i == j)
        )
        found.append([j for _, j in ranked[:k]])
    return found


@pytest.mark.parametrize(
    "at_once", [1, 500, 2**23]
)  # blocks of one row, of several, of all
def test_neighbours_are_those_that_a_loop_finds(monkeypatch, at_once):
    monkeypatch.setattr(metrics, "DISTANCES_AT_ONCE", at_once)
    x, data = whole_numbers(40, 3), whole_numbers(70, 3, seed=1)
    found = nearest_neighbors(x, data, k=5)
    assert found.dtype == np.int64
    assert found.tolist() == neighbours_by_loops(x, data, 5)
    found = nearest_neighbors(x, k=4)
    assert found.tolist() == neighbours_by_loops(x, x, 4, others=True)


def test_neighbours_far_from_zero_are_found_in_float32():
    x = (np.random.default_rng(0).random((300, 4)) + 1000).astype(np.float32)
    # Squares near 10^6 in float32 would lose all digits of distances below 1.
    expected = neighbours_by_loops(x, x, 2, others=True)
    assert nearest_neighbors(x, k=2).tolist() == expected


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_knn_is_a_vote(k):
    train, x = whole_numbers(60, 2), whole_numbers(50, 2, seed=1)
    rng = np.random.default_rng(2)
    train_label, label = rng.choice([3, 5, 9], 60), rng.choice([3, 5, 9], 50)
    right = 0
    for near, true in zip(neighbours_by_loops(x, train, k), label, strict=True):
        votes = Counter(int(train_label[j]) for j in near)
        winner = min(c for c, v in votes.items() if v == max(votes.values()))
        right += winner == true
    found = knn_accuracy(train, train_label, x, label, k)
    assert found == right / 50
    assert 0 < found < 1


def test_agreement_by_hand():
    # 0 and 1 have each other, 3 has 1, 10 and 12 have each other.
    x = np.array([[0.0], [1.0], [3.0], [10.0], [12.0]])
    assert neighbor_agreement(x, np.array([1, 1, 1, 2, 2])) == 1.0
    assert neighbor_agreement(x, np.array([1, 1, 2, 2, 1])) == 0.4
    assert neighbor_agreement(x, np.array([1, 2, 1, 2, 1])) == 0.0


def test_neighbours_are_refused():
    x, label = samples(5), np.zeros(5)
    for k, message in [(0, "; at least 1"), (6, ", but there are only 5 points")]:
        with pytest.raises(ValueError, match=f"neighbors: k is {k}{message}"):
            nearest_neighbors(x, x, k)
        with pytest.raises(ValueError, match=f"k is {k}{message}"):
            knn_accuracy(x, label, x, label, k)
    with pytest.raises(ValueError, match="k is 5, but there are only 4 points"):
        nearest_neighbors(x, k=5)
    with pytest.raises(ValueError, match="k is 1, but there are only 0 points"):
        neighbor_agreement(x[:1], label[:1])
    with pytest.raises(
        ValueError, match=r"knn_accuracy: shapes \(5, 12\) and \(5, 3\)"
    ):
        knn_accuracy(x, label, x[:, :3], label)
    for wrong in (label[:4], label[:, None]):
        with pytest.raises(ValueError, match="knn_accuracy: train_label has shape"):
            knn_accuracy(x, wrong, x, label)
        with pytest.raises(ValueError, match="knn_accuracy: label has shape"):
            knn_accuracy(x, label, x, wrong)
        with pytest.raises(ValueError, match="neighbor_agreement: label has shape"):
            neighbor_agreement(x, wrong)


def test_the_probe_reads_what_is_linear_in_the_code():
    codes = samples(3000, 6)
    other = samples(2000, 6)[::-1] * 1.3  # another distribution, the same function
    law = np.array([3.0, -1, 0.5, 0, 2, 7])
    assert linear_probe(codes, codes @ law + 5, other, other @ law + 5) > 0.999
    exact = linear_probe(codes, codes @ law, other, other @ law, ridge=0)
    assert exact == pytest.approx(1, abs=1e-12)


def test_the_probe_of_noise_and_of_what_is_not_linear():
    z, held_out = np.random.default_rng(0).standard_normal((2, 20_000, 2))
    noise, more = np.random.default_rng(1).standard_normal((2, 20_000))
    # y = z + noise / 2: the code explains 1 of its variance of 1.25.
    found = linear_probe(z, z[:, 0] + noise / 2, held_out, held_out[:, 0] + more / 2)
    assert found == pytest.approx(0.8, abs=0.01)
    for law in (lambda z: z[:, 0] ** 2, lambda z: z[:, 0] * z[:, 1]):
        assert abs(linear_probe(z, law(z), held_out, law(held_out))) < 0.01


@pytest.mark.parametrize("ridge", [0.0, 1.0, 3.0])
def test_the_ridge_of_one_coordinate_by_hand(ridge):
    # With z of variance 1 and y = z, w = 1 / (1 + ridge), and 1 - w of y is missed.
    z = np.array([[-1.0], [1.0], [-1.0], [1.0]])
    expected = 1 - (ridge / (1 + ridge)) ** 2
    found = linear_probe(10 * z + 3, z[:, 0], 10 * z + 3, z[:, 0], ridge)
    assert found == pytest.approx(expected, abs=1e-14)


def test_the_probe_is_independent_of_units_and_takes_columns():
    codes, held_out = samples(300, 4), samples(400, 4)[300:]
    y = np.stack([codes[:, 0] + codes[:, 1] ** 2, np.sin(codes[:, 2])], axis=1)
    held_y = np.stack([held_out[:, 0] + held_out[:, 1] ** 2, np.sin(held_out[:, 2])], 1)
    both = linear_probe(codes, y, held_out, held_y)
    each = [linear_probe(codes, y[:, c], held_out, held_y[:, c]) for c in (0, 1)]
    assert both == pytest.approx(sum(each) / 2, rel=1e-12)
    scale, shift = np.array([1e-3, 1, 50, 2]), np.array([3, 100, 0, -7])
    moved = linear_probe(codes * scale + shift, y, held_out * scale + shift, held_y)
    assert moved == pytest.approx(both, rel=1e-9)
    dead = np.ones((300, 1)), np.ones((100, 1))  # a unit that never fires
    padded = linear_probe(
        np.hstack([codes, dead[0]]), y, np.hstack([held_out, dead[1]]), held_y
    )
    assert padded == pytest.approx(both, rel=1e-9)


def test_a_probe_that_is_worse_than_the_mean_is_negative():
    z = np.array([[0.0], [1.0], [2.0]])
    assert linear_probe(z, z[:, 0], z, -z[:, 0]) < -1


def test_the_probe_refuses():
    x, y = samples(5), np.arange(5)
    with pytest.raises(ValueError, match="linear_probe: a held-out factor is constant"):
        linear_probe(x, y, x, np.full(5, 0.1))
    with pytest.raises(ValueError, match="linear_probe: 5 and 5 codes, but 4 and 5"):
        linear_probe(x, y[:4], x, y)
    with pytest.raises(ValueError, match="linear_probe: 5 and 5 codes, but 5 and 3"):
        linear_probe(x, y, x, y[:3])
    with pytest.raises(ValueError, match="linear_probe: ridge is -1"):
        linear_probe(x, y, x, y, ridge=-1)
    with pytest.raises(ValueError, match=r"shapes \(5, 12\) and \(5, 11\)"):
        linear_probe(x, y, x[:, :11], y)
    with pytest.raises(ValueError, match=r"shapes \(5, 1\) and \(5, 2\)"):
        linear_probe(x, y, x, np.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"shapes \(\) and \(5, 1\)"):
        linear_probe(x, np.float64(1), x, y)


# Distances in many dimensions.


def test_contrast_by_hand():
    x = np.array([[3.0, 4.0], [6.0, 8.0], [0.0, 7.0]])
    queries = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 8.0]])
    # Distances 5, 10, 7; then the query is a point; then 4, 3, √10.
    found = relative_contrast(x, queries)
    np.testing.assert_allclose(found, [1, math.inf, 1 / 3], rtol=1e-14)


def test_the_moments_of_a_squared_difference():
    # Quadrature that is exact for these polynomials: nodes of Hermite, of Legendre.
    nodes, weights = np.polynomial.hermite_e.hermegauss(10)
    even, even_weights = np.polynomial.legendre.leggauss(10)
    rules = {"normal": (nodes, weights), "uniform": ((even + 1) / 2, even_weights)}
    assert rules.keys() == metrics.SQUARED_DIFFERENCE.keys()
    for name, (t, w) in rules.items():
        w = w / w.sum()
        squared = (t - t[:, None]) ** 2  # a row for each query
        mean = squared @ w
        variance = squared**2 @ w - mean**2
        expected = metrics.SQUARED_DIFFERENCE[name]
        np.testing.assert_allclose((mean @ w, variance @ w), expected, rtol=1e-12)


@pytest.mark.parametrize("coordinates", ["normal", "uniform"])
@pytest.mark.parametrize(("d", "within"), [(10, 0.25), (50, 0.05), (300, 0.03)])
def test_the_theory_of_contrast_is_what_is_drawn(coordinates, d, within):
    rng = np.random.default_rng(0)
    draw = rng.standard_normal if coordinates == "normal" else rng.random
    drawn = np.mean(
        [relative_contrast(draw((200, d)), draw((5, d))).mean() for _ in range(60)]
    )
    assert expected_contrast(200, d, coordinates) == pytest.approx(drawn, rel=within)


def test_contrast_falls_like_one_over_the_root_of_d():
    assert expected_contrast(100, 10**8) == pytest.approx(
        expected_contrast(100, 10**6) / 10, rel=0.01
    )
    # Two points, far apart from 1: the range is 2 / √π, s = √3 / 2, √m = √2.
    expected = 2 / math.sqrt(math.pi) * math.sqrt(3) / 2 / math.sqrt(2e10)
    assert expected_contrast(2, 10**10) == pytest.approx(expected, rel=1e-4)
    assert expected_contrast(1000, 1) == math.inf


@pytest.mark.parametrize(
    ("n", "expected"),
    [(2, 2 / math.sqrt(math.pi)), (3, 3 / math.sqrt(math.pi)), (5, 2.32593),
     (10, 3.07751), (100, 5.01519)],
)  # fmt: skip
def test_the_range_of_normal_numbers_is_that_of_tables(n, expected):
    assert normal_range(n) == pytest.approx(expected, abs=1e-5)


def test_contrast_refuses():
    with pytest.raises(ValueError, match="relative_contrast: shapes"):
        relative_contrast(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="expected_contrast: coordinates is 'cauchy'"):
        expected_contrast(10, 10, "cauchy")
    with pytest.raises(ValueError, match="d is 0; at least 1"):
        expected_contrast(10, 0)
    with pytest.raises(ValueError, match="normal_range: n is 1"):
        normal_range(1)


@pytest.mark.parametrize(
    ("d", "low", "high"), [(1, 0.95, 1.05), (2, 1.9, 2.1), (3, 2.8, 3.1), (10, 8, 10)]
)
def test_the_dimension_of_a_cube_is_found(d, low, high):
    x = np.random.default_rng(d).random((2000, d))
    assert low < intrinsic_dimension(x) < high


def test_the_dimension_of_a_manifold_is_not_that_of_its_space():
    rng = np.random.default_rng(0)
    points, _ = swiss_roll(2000, rng)
    assert 1.8 < intrinsic_dimension(points) < 2.1
    filled = rng.uniform(points.min(axis=0), points.max(axis=0), (2000, 3))
    assert 2.8 < intrinsic_dimension(filled) < 3.1


def test_the_dimension_keeps_when_points_move_as_one():
    rng = np.random.default_rng(0)
    x = rng.random((500, 2))
    turn, _ = np.linalg.qr(rng.standard_normal((50, 2)))
    moved = 7 * x @ turn.T + rng.standard_normal(50)
    assert intrinsic_dimension(moved) == pytest.approx(intrinsic_dimension(x), 1e-6)


def test_the_dimension_is_the_slope_of_the_line_of_the_paper():
    x = np.array([0, 1, 3, 7, 8.5, 20, 26, 40, 41, 47, 60, 75])[:, None]
    between = np.sort(np.abs(x - x.T), axis=1)
    ratio = np.sort(between[:, 2] / between[:, 1])[:10]
    f = np.arange(1, 11) / 13
    slope, *_ = np.linalg.lstsq(np.log(ratio)[:, None], -np.log(1 - f))
    assert intrinsic_dimension(x) == pytest.approx(slope[0], rel=1e-12)


def test_the_dimension_refuses():
    x = np.arange(30.0)[:, None]
    with pytest.raises(ValueError, match="intrinsic_dimension: all ratios"):
        intrinsic_dimension(x)
    with pytest.raises(ValueError, match="intrinsic_dimension: two samples are equal"):
        intrinsic_dimension(np.append(x, [[3.0]], axis=0))
    with pytest.raises(ValueError, match="intrinsic_dimension: 9 samples; at least 10"):
        intrinsic_dimension(x[:9])
    with pytest.raises(ValueError, match="intrinsic_dimension: shapes"):
        intrinsic_dimension(x[:, 0])


# Generated samples.


CENTERS = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]])


def test_coverage_by_hand():
    near = [[0.1, 0], [0, -0.2], [0.29, 0], [4, 0.1], [4, 0.31]]  # the last is too far
    modes, high_quality, kl = mode_coverage(np.array(near), CENTERS, 0.1)
    assert (modes, high_quality) == (2, 0.8)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert kl == pytest.approx(math.log(4) - entropy, rel=1e-12)


def test_coverage_of_perfect_collapsed_and_far_samples():
    even = mode_coverage(np.repeat(CENTERS, 5, axis=0), CENTERS, 0.1)
    assert even == Coverage(4, 1.0, pytest.approx(0, abs=1e-15))
    collapsed = mode_coverage(np.zeros((9, 2)), CENTERS, 0.1)
    assert collapsed == Coverage(1, 1.0, pytest.approx(math.log(4)))
    assert mode_coverage(np.full((9, 2), 2.0), CENTERS, 0.1) == (0, 0.0, math.inf)


def test_perfect_samples_reach_the_ceiling():
    rng = np.random.default_rng(0)
    label = rng.integers(4, size=40_000)
    x = (CENTERS[label] + 0.05 * rng.standard_normal((40_000, 2))).astype(np.float32)
    modes, high_quality, kl = mode_coverage(x, CENTERS, 0.05)
    ceiling = 1 - math.exp(-4.5)
    error = math.sqrt(ceiling * (1 - ceiling) / 40_000)
    assert modes == 4
    assert abs(high_quality - ceiling) < 5 * error
    assert 0 < kl < 3e-4  # 2 n KL is about chi² of 3 degrees: above 24 once in 40,000


def test_coverage_refuses():
    for sigma in (0, -1, math.nan):
        with pytest.raises(ValueError, match="mode_coverage: sigma is"):
            mode_coverage(CENTERS, CENTERS, sigma)
    with pytest.raises(ValueError, match="mode_coverage: shapes"):
        mode_coverage(CENTERS[:, :1], CENTERS, 0.1)
    with pytest.raises(
        ValueError, match="mode_coverage: there are values that are not"
    ):
        mode_coverage(CENTERS * math.nan, CENTERS, 0.1)
    with pytest.raises(ValueError, match="mode_coverage: no samples"):
        mode_coverage(CENTERS[:0], CENTERS, 0.1)


def test_ks_by_hand():
    assert ks_statistic([1.0, 2, 3], [1.0, 2, 3]) == (0, 1)
    assert ks_statistic([1, 2], [3, 4, 5])[0] == 1
    assert ks_statistic([1, 1, 2], [1, 2, 2])[0] == pytest.approx(1 / 3)
    # At 2 the first has 2 of 4 below or at it, the second 1 of 5.
    assert ks_statistic([4, 1, 2, 9], [2, 5, 6, 7, 8])[0] == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("scaled", "p"), [(1.2238, 0.1), (1.3581, 0.05), (1.6276, 0.01)]
)
def test_ks_has_the_critical_values_of_tables(scaled, p):
    n = 100_000  # a shift by whole steps gives any fraction D
    gap = round(scaled * math.sqrt(2 / n) * n)
    largest, found = ks_statistic(np.arange(n), np.arange(n) + gap)
    assert largest == pytest.approx(gap / n, rel=1e-12)
    assert found == pytest.approx(p, rel=0.01)


def test_ks_calls_the_same_different_as_often_as_it_says():
    rng = np.random.default_rng(0)
    p = [ks_statistic(rng.random(300), rng.random(400))[1] for _ in range(2000)]
    for level in (0.05, 0.2):
        share = np.mean(np.array(p) < level)
        error = math.sqrt(level * (1 - level) / 2000)
        assert (
            level - 0.03 < share < level + 4 * error
        )  # the test is slightly conservative


def test_ks_sees_a_shift_and_a_width():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 4000))
    # Two normals 0.2 apart: the largest gap is at the middle, 2 Φ(0.1) - 1.
    largest, p = ks_statistic(a, b + 0.2)
    assert largest == pytest.approx(math.erf(0.1 / math.sqrt(2)), abs=0.03)
    assert p < 1e-6
    assert ks_statistic(a, 1.3 * b)[1] < 1e-6
    assert ks_statistic(a, b)[1] > 0.01


def test_ks_refuses():
    with pytest.raises(ValueError, match=r"ks_statistic: shapes \(2, 1\) and \(3,\)"):
        ks_statistic(np.zeros((2, 1)), np.zeros(3))
    with pytest.raises(ValueError, match="ks_statistic: no samples"):
        ks_statistic([], [1.0])
    with pytest.raises(ValueError, match="ks_statistic: there are values"):
        ks_statistic([1.0, math.nan], [1.0])


def test_frechet_on_the_line():
    a, b = samples(50, 1), 3 * samples(80, 1)[::-1] + 2
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_with_shared_axes():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((500, 5))
    z -= z.mean(axis=0)
    z @= np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T  # covariance exactly 1
    turn, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    a, b, shift = rng.random((3, 5)) * 3
    # Both √Σ are diagonal in the same axes: the result is the squared gap of the means
    # plus that of the deviations.
    expected = np.sum(shift**2) + np.sum((a - b) ** 2)
    found = frechet_distance(z * a @ turn, (z * b + shift) @ turn)
    assert found == pytest.approx(expected, rel=1e-10)


def test_frechet_is_the_formula():
    a, b = (
        samples(200, 8),
        np.random.default_rng(5).random((150, 8)) @ np.diag(range(8)),
    )
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    values = np.linalg.eigvals(cov_a @ cov_b)
    assert abs(values.imag).max() < 1e-8
    root = np.sum(np.sqrt(np.maximum(values.real, 0)))
    gap = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
    expected = gap + np.trace(cov_a) + np.trace(cov_b) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-12)


def test_frechet_of_a_set_with_itself_and_with_a_moved_one():
    a = samples(30, 40)  # fewer samples than features: the covariance is singular
    assert 0 <= frechet_distance(a, a[::-1]) < 1e-9
    assert frechet_distance(a, a + 2) == pytest.approx(4 * 40, rel=1e-10)
    assert frechet_distance(a.astype(np.float32), a) < 1e-9


def test_frechet_refuses():
    with pytest.raises(ValueError, match="frechet_distance: 1 and 5 samples"):
        frechet_distance(samples(1), samples(5))
    with pytest.raises(ValueError, match="frechet_distance: shapes"):
        frechet_distance(samples(5), samples(5, 3))


def test_parzen_is_a_mean_of_densities():
    x, data = samples(7, 3), samples(9, 3)[::-1] + 0.3
    for sigma in (0.2, 1.5):
        expected = [
            math.log(
                np.mean(
                    [math.exp(-(math.dist(a, b) ** 2) / (2 * sigma**2)) for b in data]
                )
                / (sigma * math.sqrt(2 * math.pi)) ** 3
            )
            for a in x
        ]
        found = parzen_log_likelihood(x, data, sigma)
        np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_parzen_far_away_does_not_underflow():
    found = parzen_log_likelihood(np.full((1, 2), 1e3), np.zeros((4, 2)), 0.1)
    expected = -2e6 / (2 * 0.01) - math.log(2 * math.pi * 0.01)
    assert found[0] == pytest.approx(expected, rel=1e-12)


def test_parzen_of_many_samples_is_the_smoothed_density():
    """For samples from N(0, 1) it is N(0, 1 + σ²)."""
    rng = np.random.default_rng(0)
    x = np.linspace(-2, 2, 9)[:, None]
    found = parzen_log_likelihood(x, rng.standard_normal((200_000, 1)), 0.3)
    expected = -(x[:, 0] ** 2) / (2 * 1.09) - 0.5 * math.log(2 * math.pi * 1.09)
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_nearest_distance_is_that_of_a_loop():
    x, data = samples(20, 5), samples(30, 5)[::-1] + 0.3
    expected = [min(math.dist(a, b) for b in data) for a in x]
    np.testing.assert_allclose(nearest_distance(x, data), expected, rtol=1e-12)


def test_a_copy_is_at_distance_zero_exactly():
    data = samples(400, 50, np.float32) + np.float32(10)
    found = nearest_distance(np.vstack([data[7:9], data[:1] + 1]), data)
    np.testing.assert_array_equal(found[:2], 0)
    assert found[2] > 1


@pytest.mark.data
def test_thirty_components_of_mnist_leave_the_error_in_the_paper(real_mnist):
    from scratchnet.data.idx import load_mnist

    train, test = load_mnist(real_mnist, "train").x, load_mnist(real_mnist, "test").x
    pca = PCA(30).fit(train)
    error = reconstruction_error(test, reconstructed(pca, test))
    assert error == pytest.approx(13.866, abs=0.002)  # 13.87 in the paper


def test_coverage_of_bytes_does_not_wrap():
    centers = np.array([[10], [200]], np.uint8)
    found = mode_coverage(np.array([[9], [201]], np.uint8), centers, 1.0)
    assert (found.modes, found.high_quality) == (2, 1.0)


def test_a_mask_is_not_lost_in_a_list_either():
    x = [[1.0, 2.0], np.ma.array([3.0, 4.0], mask=[False, True])]
    with pytest.raises(
        TypeError, match=r"PCA: x is a masked array of shape \(.*\), 1 of"
    ):
        metrics.PCA(1).fit(x)
    x[1] = [3.0, np.ma.masked]
    with pytest.raises(TypeError, match="nearest_neighbors: data is a masked array"):
        metrics.nearest_neighbors([[1.0, 2.0]], x)
    x[1] = np.ma.array([3.0, 4.0])
    np.testing.assert_array_equal(metrics.nearest_neighbors([[3.0, 4.0]], x), [[1]])
