"""NumPy functions that call other functions, and so need no derivative.

A row here defines only how a call is computed. The functions that it calls are
recorded, and their rules are in derivatives.py. There are three kinds of such
functions: with several results (np.split), with many forms of arguments (np.einsum),
and combinations (np.ptp). Read this file if a call is computed in an unexpected way.
"""

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from scratchnet import backend
from scratchnet.derivatives import (
    along,
    band,
    clip,
    contract,
    log_abs_det,
    one_axis,
    pad_constant,
    pad_widths,
    positions,
    reshape,
    restore,
    spectral_norm,
    swap,
    two_norm,
    where,
)
from scratchnet.graph import plain
from scratchnet.table import Axis, Function, rewrite
from scratchnet.tensor import Tensor, cast

__all__: list[str] = []  # imported for its rows; nothing here is public

# fmt: off
# The rows are aligned by hand, so that they read as one table.

# --- Choosing -----------------------------------------------------------------------

rewrite(np.where,        lambda condition, *xy:
                         where(condition, *xy) if xy else np.nonzero(plain(condition)))


def _clip_by_name(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None,
                  max: Any = None) -> Any:
    new = min is not None or max is not None
    if new and (a_min is not None or a_max is not None):
        raise ValueError("np.clip: give either a_min and a_max, or min and max")
    return clip(a, min, max) if new else clip(a, a_min, a_max)


rewrite(np.clip,         _clip_by_name)

# --- Reductions ---------------------------------------------------------------------


def _average(a: Any, axis: Axis = None, weights: Any = None, *,
             keepdims: bool = False) -> Any:
    if weights is None:
        return np.mean(a, axis=axis, keepdims=keepdims)
    if np.shape(weights) != np.shape(a):
        axes = normalize_axis_tuple(() if axis is None else axis, np.ndim(a))
        if np.shape(weights) != tuple(np.shape(a)[i] for i in axes):
            raise ValueError(
                f"np.average: weights of shape {np.shape(weights)} for shape "
                f"{np.shape(a)} and axis {axis}; give a weight for each element of "
                "the axes"
            )
        order = sorted(range(len(axes)), key=axes.__getitem__)
        shape = tuple(n if i in axes else 1 for i, n in enumerate(np.shape(a)))
        weights = np.reshape(np.transpose(weights, order), shape)
        weights = np.broadcast_to(weights, np.shape(a))
    total = np.sum(a * weights, axis=axis, keepdims=keepdims)
    return total / np.sum(weights, axis=axis, keepdims=keepdims)


def _diff(a: Any, n: int = 1, axis: int = -1) -> Any:
    if n < 0:
        raise ValueError(f"np.diff: n = {n} is negative")
    for _ in range(n):
        later = along(a, slice(1, None), axis)
        a = later - along(a, slice(0, later.shape[axis]), axis)
    return a


rewrite(np.average,      _average)
rewrite(np.diff,         _diff)
rewrite(np.ptp,          lambda a, axis=None, *, keepdims=False:
                         np.max(a, axis=axis, keepdims=keepdims)
                         - np.min(a, axis=axis, keepdims=keepdims))
rewrite(np.nansum,       lambda a, axis=None, *, keepdims=False:
                         np.sum(np.where(np.isnan(a), 0, a), axis=axis,
                                keepdims=keepdims))
rewrite(np.nanmean,      lambda a, axis=None, *, keepdims=False:
                         np.nansum(a, axis=axis, keepdims=keepdims)
                         / np.sum(~np.isnan(a), axis=axis, dtype=a.dtype,
                                  keepdims=keepdims))

# --- Products -----------------------------------------------------------------------


def _dot(a: Any, b: Any) -> Any:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    if np.ndim(b) == 1 or (np.ndim(a) <= 2 and np.ndim(b) == 2):
        return np.matmul(a, b)
    return np.tensordot(a, b, axes=(-1, -2))


def _inner(a: Any, b: Any) -> Any:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return np.tensordot(a, b, axes=(-1, -1))


def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = _at_least(a, 0), _at_least(b, 0)
    if not np.iterable(axes):
        axes = range(a.ndim - int(axes), a.ndim), range(int(axes))
    pair_a = list(normalize_axis_tuple(axes[0], a.ndim))
    pair_b = list(normalize_axis_tuple(axes[1], b.ndim))
    if [a.shape[i] for i in pair_a] != [b.shape[i] for i in pair_b]:
        raise ValueError(
            f"axes {pair_a} and {pair_b} differ in length"
        )
    free_a = [i for i in range(a.ndim) if i not in pair_a]
    free_b = [i for i in range(b.ndim) if i not in pair_b]
    inner = int(np.prod([a.shape[i] for i in pair_a]))
    shape_a = tuple(a.shape[i] for i in free_a)
    shape_b = tuple(b.shape[i] for i in free_b)
    left = np.reshape(np.transpose(a, free_a + pair_a), (int(np.prod(shape_a)), inner))
    right = np.reshape(np.transpose(b, pair_b + free_b), (inner, int(np.prod(shape_b))))
    return np.reshape(left @ right, shape_a + shape_b)


def _kron(a: Any, b: Any) -> Any:
    ndim = max(np.ndim(a), np.ndim(b))
    a, b = _at_least(a, ndim), _at_least(b, ndim)
    each_a = np.reshape(a, [n for m in a.shape for n in (m, 1)])
    each_b = np.reshape(b, [n for m in b.shape for n in (1, m)])
    shape = tuple(m * n for m, n in zip(a.shape, b.shape, strict=True))
    return np.reshape(each_a * each_b, shape)


def _at_least(x: Any, ndim: int) -> Any:
    """Return x with axes of length 1 in front, so that it has at least `ndim`."""
    x = x if isinstance(x, Tensor) else backend.asarray(x)
    return x if x.ndim >= ndim else np.reshape(x, (1,) * (ndim - x.ndim) + x.shape)


def _cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1,
           axis: int | None = None) -> Any:
    if axis is not None:
        axisa, axisb, axisc = axis, axis, axis
    a = np.moveaxis(_at_least(a, 1), axisa, -1)
    b = np.moveaxis(_at_least(b, 1), axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ValueError(
            f"np.cross: vectors of length {a.shape[-1]} and {b.shape[-1]}; only "
            "vectors of length 3 are supported"
        )
    a1, a2 = np.roll(a, -1, -1), np.roll(a, -2, -1)
    b1, b2 = np.roll(b, -1, -1), np.roll(b, -2, -1)
    return np.moveaxis(a1 * b2 - a2 * b1, -1, axisc)


def _einsum(*operands: Any, optimize: Any = False) -> Any:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    if not isinstance(operands[0], str):  # operand, list of numbers, operand, ...
        def spell(numbers: Any) -> str:
            return "".join("..." if n is ... else letters[n] for n in numbers)

        spelt = ",".join(spell(numbers) for numbers in operands[1::2])
        if len(operands) % 2:
            spelt += "->" + spell(operands[-1])
        operands = (spelt, *operands[: len(operands) // 2 * 2 : 2])
    subscripts = operands[0].replace(" ", "")
    arrays = [_at_least(x, 0) for x in operands[1:]]
    inputs, arrow, output = subscripts.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(arrays):
        raise ValueError(
            f"np.einsum: {subscripts!r} names {len(terms)} operands, not {len(arrays)}"
        )
    # Replace "..." by unused letters, aligned at the right.
    spare = [c for c in letters if c not in subscripts]
    hidden = [
        x.ndim - len(t.replace("...", "")) if "..." in t else 0
        for t, x in zip(terms, arrays, strict=True)
    ]
    dots = "".join(spare[: max(0, *hidden)])
    if dots and arrow and "..." not in output:
        raise ValueError(f"np.einsum: {subscripts!r}: '...' is missing from the output")
    terms = [
        t.replace("...", dots[len(dots) - n :])
        for t, n in zip(terms, hidden, strict=True)
    ]
    if arrow:
        output = output.replace("...", dots)
    else:
        counted = "".join(terms)
        output = dots + "".join(
            c for c in sorted(counted) if counted.count(c) == 1 and c not in dots
        )
    for k, (term, x) in enumerate(zip(terms, arrays, strict=True)):
        if len(term) != x.ndim:
            raise ValueError(f"np.einsum: operand {k} has shape {x.shape} for {term!r}")
        for c in sorted(set(term)):
            while term.count(c) > 1:  # "ii" is the diagonal
                i = term.index(c)
                j = term.index(c, i + 1)
                if x.shape[i] != x.shape[j]:
                    raise ValueError(f"np.einsum: {c!r} has two lengths in {x.shape}")
                x = np.diagonal(x, 0, i, j)
                term = term[:i] + term[i + 1 : j] + term[j + 1 :] + c
        terms[k], arrays[k] = term, x
    spelt = ",".join(terms) + "->" + output
    return contract(arrays, spelt, optimize)  # type: ignore[type-var]  # a list


rewrite(np.dot,          _dot)
rewrite(np.inner,        _inner)
rewrite(np.outer,        lambda a, b: np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1)))
rewrite(np.tensordot,    _tensordot)
rewrite(np.einsum,       _einsum)
rewrite(np.kron,         _kron)
rewrite(np.cross,        _cross)

# --- Shapes -------------------------------------------------------------------------


def _reshape(a: Any, shape: Any, order: Any = "C") -> Any:
    if order not in ("C", "F"):
        raise TypeError(f"np.reshape: order {order!r} is not supported; use 'C' or 'F'")
    return reshape(a, shape, order)


rewrite(np.reshape,      _reshape)
rewrite(np.ravel,        lambda a, order="C": _reshape(a, (-1,), order))
rewrite(np.matrix_transpose, swap)
rewrite(np.astype,       lambda x, dtype, *, copy=True: cast(x, dtype))


def _each(reshaped: Function) -> Function:
    """Apply `reshaped` to one array or to each of several, as np.atleast_1d does."""

    def definition(*arys: Any) -> Any:
        results = tuple(reshaped(x) for x in arys)
        return results[0] if len(results) == 1 else results

    return definition


def _at_least_3d(x: Any) -> Any:
    if np.ndim(x) < 2:
        return np.reshape(x, (1, -1, 1))
    return np.expand_dims(x, -1) if np.ndim(x) == 2 else x


rewrite(np.atleast_1d,   _each(lambda x: _at_least(x, 1)))
rewrite(np.atleast_2d,   _each(lambda x: _at_least(x, 2)))
rewrite(np.atleast_3d,   _each(_at_least_3d))
rewrite(np.broadcast_arrays, lambda *args: tuple(
                         np.broadcast_to(x, np.broadcast_shapes(*map(np.shape, args)))
                         for x in args))


def _meshgrid(*xi: Any, copy: bool = True, sparse: bool = False,
              indexing: str = "xy") -> tuple[Any, ...]:
    if indexing not in ("xy", "ij"):
        raise ValueError(f"np.meshgrid: indexing {indexing!r}; use 'xy' or 'ij'")
    n = len(xi)
    order = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    grids = []
    for x, axis in zip(xi, order, strict=True):
        shape = [1] * n
        shape[axis] = -1
        grids.append(np.reshape(x, tuple(shape)))
    return tuple(grids) if sparse else np.broadcast_arrays(*grids)


rewrite(np.meshgrid,     _meshgrid)

# --- Joining and splitting ----------------------------------------------------------


def _column_stack(tup: Any) -> Any:
    columns = [np.reshape(x, (-1, 1)) if np.ndim(x) < 2 else x for x in tup]
    return np.concatenate(columns, axis=1)


def _hstack(tup: Any) -> Any:
    tup = [_at_least(x, 1) for x in tup]
    return np.concatenate(tup, axis=0 if tup[0].ndim == 1 else 1)


def _append(arr: Any, values: Any, axis: int | None = None) -> Any:
    if axis is None:
        return np.concatenate([np.reshape(arr, (-1,)), np.reshape(values, (-1,))])
    return np.concatenate([arr, values], axis=axis)


def _block(arrays: Any) -> Any:
    depth, inner = 0, arrays
    while isinstance(inner, list):
        depth, inner = depth + 1, inner[0]

    def widest(x: Any) -> int:
        return max(map(widest, x)) if isinstance(x, list) else int(np.ndim(x))

    ndim = max(depth, widest(arrays))

    def join(x: Any, level: int) -> Any:
        if isinstance(x, list) != (level < depth):
            raise ValueError(f"np.block: the lists are not all {depth} deep")
        if not isinstance(x, list):
            return _at_least(x, ndim)
        return np.concatenate([join(v, level + 1) for v in x], axis=level - depth)

    return join(arrays, 0)


rewrite(np.vstack,       lambda tup: np.concatenate([_at_least(x, 2) for x in tup]))
rewrite(np.hstack,       _hstack)
rewrite(np.dstack,       lambda tup: np.concatenate([_at_least_3d(x) for x in tup], 2))
rewrite(np.column_stack, _column_stack)
rewrite(np.append,       _append)
rewrite(np.block,        _block)


def _splits(split: Function, ary: Any, sections: Any, axis: int) -> list[Any]:
    """Split `ary` where `split` splits the positions along the axis."""
    pieces = split(np.arange(ary.shape[axis]), sections)
    bounds = [slice(int(p[0]), int(p[-1]) + 1) if p.size else slice(0) for p in pieces]
    return [along(ary, piece, axis) for piece in bounds]


rewrite(np.split,        lambda ary, indices_or_sections, axis=0:
                         _splits(np.split, ary, indices_or_sections, axis))
rewrite(np.array_split,  lambda ary, indices_or_sections, axis=0:
                         _splits(np.array_split, ary, indices_or_sections, axis))
rewrite(np.vsplit,       lambda ary, indices_or_sections:
                         _splits(np.split, ary, indices_or_sections, 0))
rewrite(np.hsplit,       lambda ary, indices_or_sections:
                         _splits(np.split, ary, indices_or_sections, int(ary.ndim > 1)))
rewrite(np.dsplit,       lambda ary, indices_or_sections:
                         _splits(np.split, ary, indices_or_sections, 2))

# --- Picking and repeating ----------------------------------------------------------


def _repeat(a: Any, repeats: Any, axis: int | None = None) -> Any:
    a = np.reshape(a, (-1,)) if axis is None or a.ndim == 0 else a
    axis = 0 if axis is None else axis
    return along(a, np.repeat(positions(a.shape[axis], a), plain(repeats)), axis)


def _tile(A: Any, reps: Any) -> Any:
    reps = tuple(plain(reps)) if np.ndim(reps) else (int(reps),)
    A = _at_least(A, len(reps))
    reps = (1,) * (A.ndim - len(reps)) + reps
    blocks = np.reshape(A, [n for m in A.shape for n in (1, m)])
    copies = [n for r, m in zip(reps, A.shape, strict=True) for n in (r, m)]
    shape = tuple(r * m for r, m in zip(reps, A.shape, strict=True))
    return np.reshape(np.broadcast_to(blocks, copies), shape)


def _pad(array: Any, pad_width: Any, mode: Any = "constant", *,
         constant_values: Any = 0) -> Any:
    if isinstance(pad_width, dict) or isinstance(constant_values, Tensor):
        raise TypeError(
            "np.pad: pad_width as a dictionary and constant_values as a Tensor are not "
            "supported for Tensors"
        )
    if mode == "constant":
        return pad_constant(array, pad_width, constant_values)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise TypeError(
            f"np.pad: mode {mode!r} is not supported for Tensors; use 'constant', "
            "'edge', 'reflect', 'symmetric' or 'wrap'"
        )
    picked = (
        np.pad(positions(n, array), pair, mode=mode)
        for n, pair in zip(array.shape, pad_widths(pad_width, array.ndim), strict=True)
    )
    return array[np.ix_(*picked)]


def _diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    x = np.moveaxis(a, (axis1, axis2), (-2, -1))
    return x[(..., *band(x, offset))]


rewrite(np.repeat,       _repeat)
rewrite(np.tile,         _tile)
rewrite(np.pad,          _pad)
rewrite(np.diagonal,     _diagonal)
rewrite(np.trace,        lambda a, offset=0, axis1=0, axis2=1:
                         np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1))

# --- Linear algebra -----------------------------------------------------------------


def _slogdet(a: Any) -> Any:
    values = np.linalg.slogdet(plain(a))
    return type(values)(values[0], log_abs_det(a))


rewrite(np.linalg.slogdet, _slogdet)


def _norm(x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Any:
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    size = None
    if ord is None or (ord, len(axes)) in ((2, 1), ("fro", 2)):
        size = two_norm(x, axes)
    elif ord in (1, np.inf, -np.inf) and len(axes) in (1, 2):
        size = np.absolute(x)
        if len(axes) == 2:  # the largest column sum (1), the extreme row sum (inf)
            size = np.sum(size, axis=axes[0 if ord == 1 else 1], keepdims=True)
        if ord == 1 and len(axes) == 1:
            size = np.sum(size, axis=axes, keepdims=True)
        else:
            extreme = np.min if ord == -np.inf else np.max
            size = extreme(size, axis=axes, keepdims=True)
    elif ord == 2 and len(axes) == 2:
        size = spectral_norm(np.moveaxis(x, axes, (-2, -1)))
        size = np.expand_dims(size, axes)
    if size is None:
        raise ValueError(
            f"np.linalg.norm: ord={ord!r} over {len(axes)} axes is not supported for "
            "Tensors; use None, 1, 2, inf or -inf, and 'fro' for matrices"
        )
    return size if keepdims else np.squeeze(size, axis=axes)


def _vector_norm(x: Any, *, axis: Axis = None, keepdims: bool = False,
                 ord: Any = 2) -> Any:
    if axis is not None and not isinstance(axis, tuple):
        return _norm(x, ord, axis, keepdims)
    flat, _ = one_axis(x, axis)
    size = _norm(flat, ord, -1)
    return restore(size, x, axis, False) if keepdims else size


rewrite(np.linalg.norm,  _norm)
rewrite(np.linalg.vector_norm, _vector_norm)
rewrite(np.linalg.matrix_norm, lambda x, *, keepdims=False, ord="fro":
                         _norm(x, ord, (-2, -1), keepdims))

# In NumPy 2 these are separate from the functions of the same name in np.
rewrite(np.linalg.matmul,    lambda x1, x2: np.matmul(x1, x2))
rewrite(np.linalg.outer,     lambda x1, x2: np.einsum("i,j->ij", x1, x2))
rewrite(np.linalg.cross,     lambda x1, x2, *, axis=-1: np.cross(x1, x2, axis=axis))
rewrite(np.linalg.tensordot, lambda x1, x2, *, axes=2: np.tensordot(x1, x2, axes))
rewrite(np.linalg.vecdot,    lambda x1, x2, *, axis=-1:
        np.vecdot(x1, x2, axis=axis))  # type: ignore[call-overload]  # no axis in stubs
rewrite(np.linalg.diagonal,  lambda x, *, offset=0: np.diagonal(x, offset, -2, -1))
rewrite(np.linalg.trace,     lambda x, *, offset=0: np.trace(x, offset, -2, -1))
rewrite(np.linalg.matrix_transpose, swap)

# --- Filling ------------------------------------------------------------------------


def _full_like(a: Any, fill_value: Any, dtype: Any = None, *, shape: Any = None) -> Any:
    if not isinstance(fill_value, Tensor):
        return np.full_like(plain(a), fill_value, dtype, shape=shape)
    filled = np.broadcast_to(fill_value, np.shape(a) if shape is None else shape)
    return cast(filled, a.dtype if dtype is None else dtype)


rewrite(np.full_like,    _full_like)
