"""Metrics of codes, pictures and generated samples; no engine.

Rows are samples. In the order of the file:

- differences of pictures: `reconstruction_error`, `psnr`, `ssim`;
- the linear code as a reference: `PCA`;
- labels and factors in a code: `knn_accuracy`, `neighbor_agreement`, `linear_probe`;
- distances in many dimensions: `relative_contrast`;
- the dimensions that data need: `intrinsic_dimension`;
- generated samples and the data: `mode_coverage`, `ks_statistic`, `frechet_distance`,
  `nearest_distance`.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from scratchnet import checks
from scratchnet.backend import Array

__all__ = [
    "PCA",
    "Coverage",
    "expected_contrast",
    "frechet_distance",
    "intrinsic_dimension",
    "knn_accuracy",
    "ks_statistic",
    "linear_probe",
    "mode_coverage",
    "nearest_distance",
    "nearest_neighbors",
    "neighbor_agreement",
    "normal_range",
    "parzen_log_likelihood",
    "psnr",
    "reconstruction_error",
    "relative_contrast",
    "ssim",
]

DISTANCES_AT_ONCE = 2**23  # neighbours are found in blocks, so that memory is bounded

# The mean of (x_i - q_i)², and its variance over x, averaged over q, for one coordinate
# of a point x and a query q, independent and from the same distribution.
SQUARED_DIFFERENCE = {"normal": (2.0, 6.0), "uniform": (1 / 6, 1 / 30)}


def reconstruction_error(x: Array, x_hat: Array) -> float:
    """Return the squared error of a reconstruction, per sample.

    It is the sum over the columns and the mean over the rows, as in Hinton &
    Salakhutdinov (2006). For pixels in [0, 1], PCA with 30 components has 13.87 on
    MNIST's test images.

    Args:
        x: the samples (n, d).
        x_hat: their reconstructions (n, d).

    Raises:
        ValueError: the shapes differ, are not (n, d), or there are no samples.

    """
    x = checks.array("reconstruction_error", "x", x)
    x_hat = checks.array("reconstruction_error", "x_hat", x_hat)
    if x.shape != x_hat.shape or x.ndim != 2 or not len(x):
        raise ValueError(
            f"reconstruction_error: shapes {x.shape} and {x_hat.shape}; "
            "expected two equal shapes (n, d), n ≥ 1"
        )
    # Unsigned integers would wrap.
    kind = np.result_type(x, x_hat, np.float32)
    difference = np.subtract(x, x_hat, dtype=kind).reshape(-1)
    total = 0.0
    # The sum is in float64, in pieces, so that float32 data are not copied as a whole.
    for i in range(0, difference.size, 1 << 20):
        piece = difference[i : i + (1 << 20)].astype(np.float64)
        total += float(piece @ piece)
    return total / len(x)


def psnr(x: Array, y: Array) -> np.ndarray:
    """Return the peak signal-to-noise ratio of each picture (n,), in decibels.

        10 log10(1 / mean squared error)

    over the pixels of a picture in the range [0, 1]. Equal pictures give inf. For a set
    of pictures, papers usually report the mean of these numbers.

    Args:
        x, y: the pictures and their references, both (n, ...).

    Raises:
        ValueError: the shapes differ, or there are no pixels.

    """
    x, y = _pairs("psnr", x, y)
    error = np.mean((x - y) ** 2, axis=1)
    with np.errstate(divide="ignore"):
        decibels: np.ndarray = -10 * np.log10(error)
    return decibels


def ssim(x: Array, y: Array, shape: tuple[int, ...]) -> np.ndarray:
    """Return the structural similarity of each picture to its reference (n,).

    It compares brightness, contrast and structure in every 11 x 11 window inside the
    picture, weighted by a Gaussian with σ = 1.5 pixels, and takes the mean:

        (2 μx μy + C1) (2 σxy + C2) / ((μx² + μy² + C1) (σx² + σy² + C2))

    with C1 = 0.01² and C2 = 0.03² for pictures in [0, 1] (Wang, Bovik, Sheikh &
    Simoncelli 2004, equation 13). Only equal pictures have 1; 0 means no similarity; a
    negative image is below 0. Colours are averaged.

    Args:
        x, y: the pictures and their references, both (n, ...).
        shape: the shape of one picture: (height, width) or (height, width, channels),
            each side at least 11.

    Raises:
        ValueError: x and y differ in shape, do not match `shape`, or are smaller than
            the window.

    """
    x, y = _pairs("ssim", x, y)
    sides = isinstance(shape, tuple) and all(isinstance(side, int) for side in shape)
    if not sides or len(shape) not in (2, 3) or min(shape[:2]) < 11:
        raise ValueError(
            f"ssim: shape is {shape}; expected (height, width) or (height, width, "
            "channels), with sides of at least 11 pixels"
        )
    if x.shape[1] != math.prod(shape):
        raise ValueError(
            f"ssim: a picture has {x.shape[1]} numbers; that does not match shape "
            f"{shape}"
        )
    x, y = x.reshape(-1, *shape), y.reshape(-1, *shape)
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights /= weights.sum()

    def mean(values: np.ndarray) -> np.ndarray:  # over each window
        for axis in (1, 2):
            values = sliding_window_view(values, 11, axis=axis) @ weights
        return values

    mu_x, mu_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mu_x**2, mean(y * y) - mu_y**2
    covariance = mean(x * y) - mu_x * mu_y
    c1, c2 = 0.01**2, 0.03**2
    brightness = (2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    similarity: np.ndarray = np.mean((brightness * structure).reshape(len(x), -1), 1)
    return similarity


class PCA:
    """Principal component analysis: the linear code with the least squared error.

    The names are those of scikit-learn.

    Args:
        n_components: the length k of the code.

    Attributes:
        mean_: the mean of the data (d,).
        components_: k orthonormal rows (k, d), largest variance first.
        explained_variance_: the variance of the data along each component (k,), with
            the divisor n − 1.

    Raises:
        ValueError: n_components is not in 1, ..., min(n, d), a shape is wrong, or `fit`
            was not called.

    """

    def __init__(self, n_components: int) -> None:
        checks.count("PCA", "n_components", n_components)
        self.n_components = n_components
        self.mean_ = np.zeros(0)
        self.components_ = np.zeros((n_components, 0))

    def fit(self, x: Array) -> Self:
        """Compute the components of the samples x (n, d), and return self.

        The right singular vectors of the centred data X are those of Xᵀ X, which is
        only (d, d). For 60,000 images this takes a hundredth of the work.
        """
        x = checks.array("PCA", "x", x)
        k = self.n_components
        if x.ndim != 2 or k > min(x.shape):
            raise ValueError(
                f"PCA: x has shape {x.shape}, too small for {k} components; expected "
                f"(n, d) with n and d at least {k}"
            )
        if not np.isfinite(x).all():
            raise ValueError("PCA: the data have values that are not finite")
        n, d = x.shape
        self.dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        self.mean_ = x.mean(axis=0, dtype=np.float64)
        scatter = np.zeros((d, d))
        for i in range(0, n, 8192):
            centered = x[i : i + 8192] - self.mean_
            scatter += centered.T @ centered
        if not np.isfinite(scatter).all():
            raise ValueError("PCA: the squares of the data overflow; rescale x")
        _, values, rows = np.linalg.svd(scatter, hermitian=True)
        self.components_ = rows[:k]
        self.explained_variance_ = values[:k] / max(n - 1, 1)
        return self

    def transform(self, x: Array) -> np.ndarray:
        """Return the codes (n, k) of the samples x (n, d)."""
        x = self._checked(x, "x", "d", len(self.mean_))
        codes: np.ndarray = (x - self.mean_) @ self.components_.T
        return codes.astype(self.dtype)

    def fit_transform(self, x: Array) -> np.ndarray:
        """Return fit(x).transform(x)."""
        return self.fit(x).transform(x)

    def inverse_transform(self, z: Array) -> np.ndarray:
        """Return the samples (n, d) for the codes z (n, k).

        For the codes of x they are the best linear reconstruction from k numbers.
        """
        z = self._checked(z, "z", "k", self.n_components)
        samples: np.ndarray = z @ self.components_ + self.mean_
        return samples.astype(self.dtype)

    def _checked(
        self, given: Array, name: str, letter: str, columns: int
    ) -> np.ndarray:
        if not len(self.mean_):
            raise ValueError("PCA: call fit(x) first")
        x = checks.array("PCA", name, given)
        if x.ndim != 2 or x.shape[1] != columns:
            raise ValueError(
                f"PCA: {name} has shape {x.shape}; expected (n, {letter}) = (n, "
                f"{columns})"
            )
        return x


def nearest_neighbors(x: Array, data: Array | None = None, k: int = 1) -> np.ndarray:
    """Return the indices of the k rows of the data nearest to each row of x.

    All distances are compared, in blocks. The nearest row comes first; at equal
    distances, the earlier row.

    Args:
        x: the points (n, d).
        data: the rows to search (m, d); by default the other rows of x.
        k: the number of neighbours.

    Returns:
        Row indices into the data (n, k), int64.

    Raises:
        ValueError: a shape is wrong, a value is not finite, squared distances overflow,
            or the data have fewer than k rows.

    """
    others = data is None
    x, data = _samples("nearest_neighbors", x=x, data=x if data is None else data)
    checks.count("nearest_neighbors", "k", k)
    if k > len(data) - others:
        raise ValueError(
            f"nearest_neighbors: k is {k}, but there are only {len(data) - others} "
            "points to choose from"
        )
    found = np.empty((len(x), k), np.int64)
    for start, squared in _squared_distances(x, data):
        row = np.arange(len(squared))
        if np.isnan(squared).any():
            raise ValueError(
                "nearest_neighbors: squared distances overflow; scale the data"
            )
        if others:
            squared[row, start + row] = np.inf
        if k == 1:
            found[start + row, 0] = squared.argmin(axis=1)
            continue
        for i, of_one in enumerate(squared, start):
            limit = np.partition(of_one, k - 1)[k - 1]
            near = np.flatnonzero(of_one <= limit)  # k of them, and ties
            found[i] = near[np.argsort(of_one[near], kind="stable")[:k]]
    return found


def knn_accuracy(
    train: Array, train_label: Array, x: Array, label: Array, k: int = 1
) -> float:
    """Return the accuracy of k-nearest-neighbour classification.

    Each of the k nearest training points has one vote (Cover & Hart 1967). With equal
    votes the smallest label wins; at equal distances the earlier point votes.

    Args:
        train, train_label: the training points (m, d) and their labels (m,).
        x, label: the points to classify (n, d) and their labels (n,).
        k: the number of voting points.

    Returns:
        The fraction of x that is classified correctly, from 0 to 1.

    Raises:
        ValueError: a shape is wrong, a value is not finite, or k is not in 1, ..., m.

    """
    train, x = _samples("knn_accuracy", train=train, x=x)
    train_label = _labels("knn_accuracy", train_label, train, "train_label")
    label = _labels("knn_accuracy", label, x)
    classes, train_class = np.unique(train_label, return_inverse=True)
    voters = train_class[nearest_neighbors(x, train, k)]  # (n, k)
    votes = np.sum(voters[:, :, None] == np.arange(len(classes)), axis=1)
    return float(np.mean(classes[votes.argmax(axis=1)] == label))


def neighbor_agreement(x: Array, label: Array) -> float:
    """Return the fraction of points whose nearest other point has the same label.

    Args:
        x: the points (n, d), n ≥ 2.
        label: their labels (n,).

    Raises:
        ValueError: a shape is wrong, a value is not finite, or there is only one point.

    """
    (x,) = _samples("neighbor_agreement", x=x)
    label = _labels("neighbor_agreement", label, x)
    return float(np.mean(label[nearest_neighbors(x)[:, 0]] == label))


def linear_probe(
    codes: Array,
    factor: Array,
    held_out_codes: Array,
    held_out_factor: Array,
    ridge: float = 1e-3,
) -> float:
    """Return R², the part of a factor's variance that is linear in the code.

    The coordinates of the code are standardised, and ridge regression fits the factor y
    from them: w minimises mean((z w - y)²) + ridge ‖w‖², with y centred. On held-out
    codes, R² is 1 - Σ (ŷ - y)² / Σ (y - mean y)²: 1 if the prediction is exact, 0 if it
    is as good as the mean, negative if it is worse. (Alain & Bengio 2017 call it a
    probe.)

    Args:
        codes, factor: the data to fit, (n, k), and (n,) or (n, columns). A full angle
            is two columns, (cos, sin); for several columns the result is the mean of
            their R².
        held_out_codes, held_out_factor: the data to judge, in the same form.
        ridge: the penalty, for a code of variance 1.

    Raises:
        ValueError: a shape is wrong, a value is not finite, the ridge is negative, or a
            held-out factor is constant.

    """
    codes, held_out_codes = _samples(
        "linear_probe", codes=codes, held_out_codes=held_out_codes
    )
    y, held_out_y = _samples(
        "linear_probe",
        factor=_columns("factor", factor),
        held_out_factor=_columns("held_out_factor", held_out_factor),
    )
    if len(y) != len(codes) or len(held_out_y) != len(held_out_codes):
        raise ValueError(
            f"linear_probe: {len(codes)} and {len(held_out_codes)} codes, but "
            f"{len(y)} and {len(held_out_y)} values of the factor"
        )
    checks.number("linear_probe", "ridge", ridge, "[0, inf)")
    y, held_out_y = y.astype(np.float64), held_out_y.astype(np.float64)
    variance = held_out_y.var(axis=0)
    if not np.ptp(held_out_y, axis=0).all():
        raise ValueError("linear_probe: a held-out factor is constant, so R² is 0 / 0")
    center = codes.mean(axis=0, dtype=np.float64)
    scale = codes.std(axis=0, dtype=np.float64)
    scale[np.ptp(codes, axis=0) == 0] = 1  # a constant coordinate has no information
    z = (codes - center) / scale
    scatter = z.T @ z / len(z) + ridge * np.eye(z.shape[1])
    w = np.linalg.solve(scatter, z.T @ (y - y.mean(axis=0)) / len(z))
    guess = (held_out_codes - center) / scale @ w + y.mean(axis=0)
    return float(np.mean(1 - np.mean((guess - held_out_y) ** 2, axis=0) / variance))


def relative_contrast(x: Array, queries: Array) -> np.ndarray:
    """Return (max - min) / min of the distances from each query to the points (m,).

    Near 0 the farthest point is hardly farther than the nearest, so "nearest" means
    little (Beyer, Goldstein, Ramakrishnan & Shaft 1999). A query that is one of the
    points gives inf. `expected_contrast` is the theory.

    Args:
        x: the points (n, d).
        queries: the queries (m, d).

    Raises:
        ValueError: a shape is wrong, or a value is not finite.

    """
    x, queries = _samples("relative_contrast", x=x, queries=queries)
    low = nearest_distance(queries, x)
    blocks = [squared.max(axis=1) for _, squared in _squared_distances(queries, x)]
    high = np.sqrt(np.concatenate(blocks))
    with np.errstate(divide="ignore"):
        contrast: np.ndarray = high / low - 1
    return contrast


def expected_contrast(n: int, d: int, coordinates: str = "normal") -> float:
    """Return an approximation of `relative_contrast` for independent coordinates.

    The squared distance R² from a query to a point is a sum of d independent terms
    (x_i - q_i)² with mean m and, for a given query, mean variance v. By the central
    limit theorem R² is about normal with mean d m and variance d v, and so is

        R ≈ √(d m) + (R² - d m) / (2 √(d m)),   with standard deviation s = √(v / m) / 2

    for any large d: distances grow like √d, but their spread does not grow. The largest
    and the smallest of n such R differ by w s, w = `normal_range(n)`, and are symmetric
    about √(d m):

        (max - min) / min ≈ w s / (√(d m) - w s / 2)

    It falls like 1 / √d, as Aggarwal, Hinneburg & Keim (2001) prove. The variance is
    taken over the points only: all n distances share the query, so a query that is far
    out shifts them together.

    Args:
        n: the number of points.
        d: the number of dimensions. Below about ten, the smallest distances are not
            normal; if the formula has no positive minimum, the result is inf.
        coordinates: "normal" or "uniform", for both points and queries.

    Raises:
        ValueError: n < 2, d < 1, or coordinates is unknown.

    """
    checks.count("expected_contrast", "n", n, 2)
    checks.count("expected_contrast", "d", d)
    choices = tuple(SQUARED_DIFFERENCE)
    checks.choice("expected_contrast", "coordinates", coordinates, choices)
    m, v = SQUARED_DIFFERENCE[coordinates]
    spread = normal_range(n) * math.sqrt(v / m) / 2
    low = math.sqrt(d * m) - spread / 2
    return spread / low if low > 0 else math.inf


def normal_range(n: int) -> float:
    """Return the mean of max - min of n independent standard normal numbers.

    It is the integral of 1 - Φ(t)ⁿ - (1 - Φ(t))ⁿ over all t (Tippett 1925).

    Raises:
        ValueError: n < 2.

    """
    checks.count("normal_range", "n", n, 2)
    t = np.linspace(-10, 10, 1001)
    above = np.array([math.erfc(value / math.sqrt(2)) / 2 for value in t])
    return float(np.trapezoid(1 - (1 - above) ** n - above**n, t))


def intrinsic_dimension(x: Array) -> float:
    """Return the dimension of the manifold on which the samples lie, by TwoNN.

    Let μ be the distance to a sample's second neighbour over that to its first. Where
    the density is about constant as far as the second neighbour, in d dimensions

        P(μ' ≤ μ) = 1 - μ^(-d)

    so -log(1 - F(μ)) against log μ is a line through the origin with slope d. It is
    fitted to the empirical F by least squares, without the largest tenth of the ratios
    (Facco, d'Errico, Rodriguez & Laio 2017). The number of columns does not matter.

    In many dimensions the estimate is too low, as neighbours are far and the boundary
    is near: 4,000 random points of a cube give 2.9 to 3.0 in 3 dimensions, and 15 to 16
    in 20. Noise adds dimensions.

    Args:
        x: the samples (n, d), all different.

    Raises:
        ValueError: a shape is wrong, a value is not finite, there are fewer than 10
            samples, two samples are equal, or all ratios are 1.

    """
    (x,) = _samples("intrinsic_dimension", x=x)
    n = len(x)
    if n < 10:
        raise ValueError(f"intrinsic_dimension: {n} samples; at least 10 expected")
    near = nearest_neighbors(x, k=2)
    # By subtraction, so that near samples keep their digits.
    first, second = (
        np.linalg.norm(x.astype(np.float64) - x[near[:, i]], axis=1) for i in (0, 1)
    )
    if not first.all():
        raise ValueError("intrinsic_dimension: two samples are equal; leave one out")
    log_ratio = np.sort(np.log(second / first))[: n * 9 // 10]
    if not log_ratio.any():
        raise ValueError("intrinsic_dimension: all ratios of distances are 1")
    below = np.arange(1, len(log_ratio) + 1) / (n + 1)
    return float(log_ratio @ -np.log1p(-below) / (log_ratio @ log_ratio))


class Coverage(NamedTuple):
    """How generated samples cover the modes of a mixture; see `mode_coverage`."""

    modes: int
    """The number of modes with a high-quality sample."""

    high_quality: float
    """The fraction of samples near a mode, from 0 to 1."""

    kl: float
    """KL of the samples' shares of the modes from equal shares, in nats."""


def mode_coverage(samples: Array, centers: Array, sigma: float) -> Coverage:
    """Return how samples cover a mixture of equally likely Gaussians.

    A sample within 3 σ of its nearest centre has high quality and counts for that mode;
    one such sample covers a mode. KL compares the shares p_j of the modes with equal
    shares, log K - H(p): 0 if all K modes have the same number, log K if one has all,
    inf if no sample has high quality. (Srivastava et al. 2017; Lin et al. 2018, with
    2,500 samples. Perfect samples of a 2-D mixture have 98.89 % of high quality,
    1 - exp(-9 / 2).)

    Args:
        samples: the samples (n, d).
        centers: the centres of the modes (K, d).
        sigma: the standard deviation of each mode.

    Raises:
        ValueError: a shape is wrong, a value is not finite, or sigma is not positive.

    """
    samples, centers = _samples("mode_coverage", samples=samples, centers=centers)
    checks.number("mode_coverage", "sigma", sigma, checks.POSITIVE)
    nearest = nearest_neighbors(samples, centers)[:, 0]
    near = np.linalg.norm(samples - centers[nearest], axis=1) <= 3 * sigma
    counts = np.bincount(nearest[near], minlength=len(centers))
    share = counts[counts > 0] / max(1, counts.sum())
    kl = math.log(len(centers)) + float(share @ np.log(share)) if near.any() else np.inf
    return Coverage(len(share), float(near.mean()), kl)


def ks_statistic(a: Array, b: Array) -> tuple[float, float]:
    """Compare two samples of a number by the Kolmogorov-Smirnov test.

    D = max |F_a - F_b| is the largest difference of the empirical distribution
    functions. If both samples come from one continuous distribution,
    D √(n m / (n + m)) exceeds λ with a probability that tends to (Smirnov 1948)

        p = 2 Σ_{j ≥ 1} (-1)^(j - 1) exp(-2 j² λ²)

    A small p means that the distributions differ. A large p only means that these
    samples do not show a difference: report D too. For small samples, and for numbers
    that are often equal, the true probability is somewhat smaller than p.

    Args:
        a, b: the samples (n,) and (m,).

    Returns:
        D and p, both from 0 to 1.

    Raises:
        ValueError: a shape is wrong, or a value is not finite.

    """
    a, b = (checks.array("ks_statistic", k, v) for k, v in (("a", a), ("b", b)))
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(
            f"ks_statistic: shapes {a.shape} and {b.shape}; expected (n,) and (m,)"
        )
    _samples("ks_statistic", a=a[:, None], b=b[:, None])
    a, b = np.sort(a), np.sort(b)
    both = np.concatenate([a, b])
    below_a = np.searchsorted(a, both, side="right") / len(a)
    below_b = np.searchsorted(b, both, side="right") / len(b)
    largest = float(np.abs(below_a - below_b).max())
    scaled = largest * math.sqrt(len(a) * len(b) / len(both))
    if scaled < 0.2:  # p is 1 to twelve digits here, and the series converges slowly
        return largest, 1.0
    j = np.arange(1, 101)
    p = 2 * float(np.sum((-1.0) ** (j - 1) * np.exp(-2 * (j * scaled) ** 2)))
    return largest, min(1.0, max(0.0, p))


def frechet_distance(a: Array, b: Array) -> float:
    """Return the squared Fréchet distance of two sets of features.

    It is the distance between Gaussians with their means and covariances (Dowson &
    Landau 1982; Heusel et al. 2017 take features of a classifier):

        ‖μa - μb‖² + Tr(Σa + Σb - 2 (Σa Σb)^½)

    in the square of the features' unit. Two sets from the same source also have a
    distance above 0: report this floor too. It shrinks as the sets grow, so compare
    only sets of the same size.

    With Σ = Rᵀ R, where R is from a QR decomposition of the centred features, the
    eigenvalues of Σa Σb are the squared singular values of Ra Rbᵀ. The last trace is
    the sum of these singular values, so no covariance or matrix root is computed.

    Args:
        a, b: the features (n, d) and (m, d), n and m at least 2.

    Raises:
        ValueError: a shape is wrong, a value is not finite, or there is only one
            sample.

    """
    a, b = _samples("frechet_distance", a=a, b=b)
    if min(len(a), len(b)) < 2:
        raise ValueError(
            f"frechet_distance: {len(a)} and {len(b)} samples; each set needs at "
            "least 2"
        )
    gap = a.mean(axis=0, dtype=np.float64) - b.mean(axis=0, dtype=np.float64)
    root_a, root_b = _covariance_root(a), _covariance_root(b)
    together = np.linalg.norm(root_a @ root_b.T, "nuc")
    apart = np.sum(root_a**2) + np.sum(root_b**2)  # Tr Σ is the sum of squares of R
    return max(0.0, float(gap @ gap + apart - 2 * together))


def parzen_log_likelihood(x: Array, samples: Array, sigma: float) -> np.ndarray:
    """Return log p(x) of each row of x (n,), in nats, by a Parzen window on samples.

    p is the density of the samples plus noise N(0, σ²) in each column,

        p(x) = 1/m Σ_j N(x; s_j, σ² I)

    with σ chosen on validation data (Goodfellow et al. 2014, section 5). A high value
    does not mean good samples: centroids of k-means score higher than real images. Use
    it only together with other metrics (Theis et al. 2016).

    Args:
        x: the points (n, d).
        samples: samples of the generator (m, d).
        sigma: the width of the window, in the data's unit.

    Raises:
        ValueError: a shape is wrong, a value is not finite, or sigma is not positive.

    """
    x, samples = _samples("parzen_log_likelihood", x=x, samples=samples)
    checks.number("parzen_log_likelihood", "sigma", sigma, checks.POSITIVE)
    m, d = samples.shape
    log_p = np.empty(len(x))
    for start, squared in _squared_distances(x, samples):
        squared /= -2 * sigma**2
        largest = squared.max(axis=1, keepdims=True)
        total = np.exp(squared - largest).sum(axis=1)
        log_p[start : start + len(squared)] = largest[:, 0] + np.log(total)
    log_p -= math.log(m) + d / 2 * math.log(2 * math.pi * sigma**2)
    return log_p


def nearest_distance(samples: Array, data: Array) -> np.ndarray:
    """Return the distance from each sample to the nearest row of the data (n,).

    Samples of a generator that memorised the training images are nearer to them than
    held-out images are: compare with `nearest_distance(held_out, data)`.

    Args:
        samples: the samples (n, d).
        data: the data (m, d).

    Raises:
        ValueError: a shape is wrong, or a value is not finite.

    """
    samples, data = _samples("nearest_distance", samples=samples, data=data)
    nearest = nearest_neighbors(samples, data)[:, 0]
    # Computed again by subtraction, so that the distance to a copy is exactly 0.
    difference = samples.astype(np.float64) - data[nearest]
    distance: np.ndarray = np.linalg.norm(difference, axis=1)
    return distance


def _squared_distances(
    x: np.ndarray, data: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the squared distances of the rows of x to all data, block by block.

    ‖x - y‖² = ‖x‖² - 2 x·y + ‖y‖², where the middle term is a matrix product. For near
    points the terms cancel: float64 keeps enough digits for float32 data, and integers
    stay exact, so that equal distances are equal.

    Yields:
        The first row of the block, and its squared distances (rows, m).

    """
    data = data.astype(np.float64)
    squares = np.einsum("nd,nd->n", data, data)
    rows = max(1, DISTANCES_AT_ONCE // len(data))
    for start in range(0, len(x), rows):
        block = x[start : start + rows].astype(np.float64)
        squared = block @ data.T
        squared *= -2
        squared += squares
        squared += np.einsum("nd,nd->n", block, block)[:, None]
        yield start, np.maximum(squared, 0, out=squared)


def _covariance_root(x: np.ndarray) -> np.ndarray:
    """Return R (min(n, d), d) with Rᵀ R the covariance of the rows of x (n, d)."""
    centered = x - x.mean(axis=0, dtype=np.float64)
    _, root = np.linalg.qr(centered / math.sqrt(len(x) - 1))
    return root


def _pairs(name: str, x: Array, y: Array) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets of pictures as rows (n, d) of float64, or raise ValueError."""
    x, y = checks.array(name, "x", x), checks.array(name, "y", y)
    if x.shape != y.shape or x.ndim < 2 or not x.size:
        raise ValueError(
            f"{name}: shapes {x.shape} and {y.shape}; expected two equal shapes "
            "(n, ...), n ≥ 1"
        )
    n = len(x)
    return x.reshape(n, -1).astype(np.float64), y.reshape(n, -1).astype(np.float64)


def _samples(name: str, **sets: Array) -> list[np.ndarray]:
    """Return sets of samples (n, d) as NumPy arrays, or raise ValueError."""
    found = [checks.array(name, argument, x) for argument, x in sets.items()]
    # Differences of unsigned integers would wrap.
    found = [x if x.dtype.kind == "f" else x.astype(np.float64) for x in found]
    shapes = [x.shape for x in found]
    if {len(shape) for shape in shapes} != {2} or len({d for _, d in shapes}) > 1:
        raise ValueError(
            f"{name}: shapes {' and '.join(map(str, shapes))}; expected (n, d), with "
            "the same d"
        )
    if not all(x.size for x in found):
        raise ValueError(f"{name}: no samples in shapes {shapes}; at least 1 expected")
    if not all(np.isfinite(x).all() for x in found):
        raise ValueError(f"{name}: there are values that are not finite")
    return found


def _columns(name: str, y: Array) -> np.ndarray:
    """Return y as a NumPy array, numbers (n,) as one column (n, 1)."""
    columns = checks.array("linear_probe", name, y)
    return columns[:, None] if columns.ndim == 1 else columns


def _labels(
    name: str, label: Array, x: np.ndarray, argument: str = "label"
) -> np.ndarray:
    """Return the labels (n,) of the samples x (n, d), or raise ValueError."""
    labels = checks.array(name, argument, label)
    if labels.shape != (len(x),):
        raise ValueError(
            f"{name}: {argument} has shape {labels.shape}, but there are {len(x)} "
            f"samples; expected ({len(x)},)"
        )
    return labels
