"""metrics.py: PCA against the singular value decomposition, and the squared error."""

import ast
import inspect
import os
from pathlib import Path

import numpy as np
import pytest

from scratchnet import metrics
from scratchnet.metrics import PCA, reconstruction_error


def samples(n=200, d=12, dtype=np.float64):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + rng.random(d)
    return x.astype(dtype)


def test_the_error_is_a_sum_over_columns_and_a_mean_over_rows():
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert reconstruction_error(x, np.array([[0.0, 0.0], [3.0, 1.0]])) == 7.0
    assert reconstruction_error(x, x) == 0.0


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


@pytest.mark.parametrize("k", [1, 5, 12])
def test_pca_is_the_svd_of_the_centred_data(k):
    x = samples()
    pca = PCA(k).fit(x)
    centre = x.mean(axis=0)
    _, values, rows = np.linalg.svd(x - centre, full_matrices=False)
    np.testing.assert_allclose(pca.mean, centre, rtol=1e-13)
    np.testing.assert_allclose(pca.variances, values[:k] ** 2 / 200, rtol=1e-10)
    signs = np.sign(np.sum(pca.components * rows[:k], axis=1, keepdims=True))
    np.testing.assert_allclose(pca.components * signs, rows[:k], atol=1e-9)
    np.testing.assert_allclose(pca.components @ pca.components.T, np.eye(k), atol=1e-13)
    # What is left over is the variance along the other directions.
    left = np.sum(values[k:] ** 2) / 200
    error = reconstruction_error(x, pca.reconstruct(x))
    assert error == pytest.approx(left, rel=1e-10, abs=1e-20)
    z = pca.encode(x)
    assert z.shape == (200, k)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(z.var(axis=0), pca.variances, rtol=1e-10)
    np.testing.assert_allclose(pca.decode(z), pca.reconstruct(x), rtol=1e-14)


def test_pca_in_pieces_is_pca_at_once():
    x = samples(20_000, 5)
    pca = PCA(2).fit(x)
    expected = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1][:2]
    np.testing.assert_allclose(pca.variances, expected, rtol=1e-11)


def test_no_other_linear_code_is_better():
    x = samples()
    best = reconstruction_error(x, PCA(3).fit(x).reconstruct(x))
    rng = np.random.default_rng(1)
    for _ in range(20):
        basis, _ = np.linalg.qr(rng.standard_normal((12, 3)))
        centred = x - x.mean(axis=0)
        assert reconstruction_error(centred, centred @ basis @ basis.T) > best


def test_pca_keeps_the_dtype():
    x = samples(dtype=np.float32)
    pca = PCA(4).fit(x)
    assert pca.encode(x).dtype == pca.reconstruct(x).dtype == np.float32
    exact = PCA(4).fit(x.astype(np.float64))
    np.testing.assert_allclose(abs(pca.encode(x)), abs(exact.encode(x)), atol=1e-4)
    assert PCA(1).fit((x * 9).astype(int)).encode(x).dtype == np.float64


def test_pca_refuses():
    x = samples()
    with pytest.raises(ValueError, match="PCA: k is 0"):
        PCA(0)
    with pytest.raises(
        ValueError, match=r"PCA: shape \(200, 12\) has no 13 components"
    ):
        PCA(13).fit(x)
    with pytest.raises(ValueError, match=r"PCA: shape \(3, 12\) has no 4 components"):
        PCA(4).fit(x[:3])
    with pytest.raises(ValueError, match="has no 2 components"):
        PCA(2).fit(x[0])
    with pytest.raises(ValueError, match="call fit"):
        PCA(2).encode(x)
    with pytest.raises(ValueError, match="call fit"):
        PCA(2).decode(x)
    pca = PCA(2).fit(x)
    with pytest.raises(ValueError, match=r"\(n, d\) = \(n, 12\) expected"):
        pca.encode(x[:, :5])
    with pytest.raises(ValueError, match=r"\(n, k\) = \(n, 2\) expected"):
        pca.decode(x)
    x[3, 4] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        PCA(2).fit(x)


def test_no_engine_is_imported():
    tree = ast.parse(inspect.getsource(metrics))
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert found == {"scratchnet", "scratchnet.backend"}


@pytest.mark.data
def test_thirty_components_leave_of_mnist_what_the_paper_says():
    from scratchnet.data.idx import load_mnist

    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SCRATCHNET_DATA", default)) / "mnist"
    train, test = load_mnist(folder, "train").x, load_mnist(folder, "test").x
    pca = PCA(30).fit(train)
    error = reconstruction_error(test, pca.reconstruct(test))
    assert error == pytest.approx(13.866, abs=0.002)  # 13.87 in the paper
