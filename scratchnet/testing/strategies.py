"""Hypothesis strategies for the inputs of gradient checks.

Hypothesis draws a seed, and a generator with this seed draws the values. Hypothesis's
own floats favour zeros, ties and extremes, where few functions have a derivative.
Hypothesis is imported when one of these functions is called.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from scratchnet.testing.problems import Array

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["arrays", "axes", "broadcastable", "shapes"]

Shape = tuple[int, ...]


def shapes(
    min_dims: int = 0, max_dims: int = 3, max_side: int = 4
) -> SearchStrategy[Shape]:
    """Draw shapes without empty axes."""
    from hypothesis.extra.numpy import array_shapes

    return array_shapes(
        min_dims=min_dims, max_dims=max_dims, min_side=1, max_side=max_side
    )


def broadcastable(
    n: int = 2, max_dims: int = 3, max_side: int = 4
) -> SearchStrategy[tuple[Shape, ...]]:
    """Draw tuples of n shapes that broadcast together."""
    from hypothesis.extra.numpy import mutually_broadcastable_shapes

    together = mutually_broadcastable_shapes(
        num_shapes=n, max_dims=max_dims, min_side=1, max_side=max_side
    )
    return together.map(lambda found: tuple(found.input_shapes))


def axes(ndim: int, several: bool = True) -> SearchStrategy[int | Shape | None]:
    """Draw an `axis` of an array with ndim axes: None, an int, or several."""
    from hypothesis import strategies as st

    if ndim == 0:
        return st.none()
    one = st.integers(-ndim, ndim - 1)
    some = st.lists(one, min_size=1, max_size=ndim, unique_by=lambda i: i % ndim)
    return st.one_of(st.none(), one, *([some.map(tuple)] if several else []))


def arrays(
    shape: Shape | SearchStrategy[Shape],
    lo: float = -2.0,
    hi: float = 2.0,
    avoid: Sequence[float] = (),
    margin: float = 0.05,
    distinct: bool = False,
    dtype: DTypeLike = np.float64,
) -> SearchStrategy[Array]:
    """Draw arrays of a shape, which may be a strategy, with values in [lo, hi].

    All values are at least `margin` away from the points of `avoid`, where f may have a
    kink. With `distinct`, they differ by at least half their mean distance: no ties.
    """
    from hypothesis import strategies as st

    ends = [lo, *(p + s * margin for p in sorted(avoid) for s in (-1, 1)), hi]
    cuts = zip(ends[::2], ends[1::2], strict=True)
    pieces = [(max(a, lo), min(b, hi)) for a, b in cuts]
    pieces = [(a, b) for a, b in pieces if a < b]
    if not pieces:
        raise ValueError(
            f"arrays: nothing is left of [{lo}, {hi}] at distance {margin} from {avoid}"
        )

    def draw(shape: Shape, seed: int) -> Array:
        rng = np.random.default_rng(seed)
        n = math.prod(shape)
        part = rng.random(n)
        if distinct:
            part = (rng.permutation(n) + 0.25 + 0.5 * part) / max(n, 1)
        # Place the pieces end to end, and find the piece that contains each part.
        starts, lengths = np.array([(a, b - a) for a, b in pieces]).T
        at = part * np.sum(lengths)
        ends = np.cumsum(lengths)
        k = np.minimum(np.searchsorted(ends, at), len(ends) - 1)
        values = starts[k] + at - (ends - lengths)[k]
        drawn: Array = values.reshape(shape).astype(dtype)
        return drawn

    if not isinstance(shape, st.SearchStrategy):
        shape = st.just(tuple(shape))
    return st.builds(draw, shape, st.integers(0, 2**32 - 1))
