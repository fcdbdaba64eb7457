"""Mistakes that keep the shape: factors, shifts, the order of entries, a missing function, a wrong row."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from common.verdicts.difference import errors
from common.verdicts.matching import (
    TOLERANCE,
    Candidate,
    as_float,
    distance,
    first,
    fit,
    simple_factor,
    telling,
    varied,
    whole,
)

FEW_TO_SORT = 200_000  # rows of more entries take seconds to sort


def hint(x: np.ndarray, y: np.ndarray) -> str:
    """From the simplest to the least simple."""
    if distance(x, y) < 1e-4:
        return precision(x, y)
    if x.dtype == y.dtype == bool and x.size > 4 and np.array_equal(x, ~y) and x.any() and y.any():
        return "got is True where expected is False, and the other way round"
    return (
        (_factor(x, y) or first(_shift(x, y)) if varied(y) > 1 else "")
        or (first(_moved(x, y)) or first(_functions(x, y)) or _reordered(x, y) if telling(y) else "")
        or _region(x, y)
    )


def precision(x: np.ndarray, y: np.ndarray) -> str:
    """A small difference that float32 explains."""
    if y.dtype != np.float64 or not 0 < distance(x, y) < 1e-5 or np.array_equal(y, y.astype(np.float32)):
        return ""
    if x.dtype == np.float32:
        return "got has only float32 precision: its dtype is float32, expected is float64"
    if x.dtype == np.float64 and x.size > 2 and np.array_equal(x, x.astype(np.float32)):
        return "got has only float32 precision: each of its numbers went through float32"
    return ""


def _factor(x: np.ndarray, y: np.ndarray) -> str:
    """One factor between all entries; named if it belongs to the shape or is simple."""
    u, v = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    ratio = float(u @ v / (v @ v))
    if not ratio or not fit(as_float(x), (ratio * as_float(y)).astype(as_float(y).dtype)):
        return ""
    general = f"got is {ratio:.4g} x expected" if varied(y) > 2 else ""
    return _factor_of_shape(ratio, len(x), x.size) or simple_factor(ratio) or general


def _factor_of_shape(ratio: float, n: int, size: int) -> str:
    """A mean that is missing or one too many."""
    spread = "the standard deviation divides by N here, by N - 1 there"
    named = [
        (n, f"got is {n} x expected, and {n} is the length of axis 0: a sum instead of a mean?"),
        (1 / n, f"got is 1/{n} x expected, and {n} is the length of axis 0: a mean instead of a sum?"),
        (size, f"got is {size} x expected, and {size} is the number of entries"),
        (1 / size, f"got is 1/{size} x expected, and {size} is the number of entries"),
        (np.sqrt((n - 1) / n), f"got is sqrt({n - 1}/{n}) x expected: {spread}?"),
        (np.sqrt(n / max(n - 1, 1)), f"got is sqrt({n}/{n - 1}) x expected: {spread}?"),
    ]
    if n < 3:  # "2 x" says enough
        return ""
    return next((sentence for r, sentence in named if abs(ratio - r) < TOLERANCE * r), "")


def _shift(x: np.ndarray, y: np.ndarray) -> Iterator[Candidate]:
    """One number added to every entry, or a mean that was not subtracted."""
    x, y = as_float(x), as_float(y)
    if varied(y) > 2 or (varied(y) == 2 and (y == 0).any()):
        c = np.mean(x - y)
        mean = ": its mean is not subtracted" if fit(c, x.mean()) else ""
        yield f"got is expected shifted by {c:.4g}{mean}", x, y + c
    if x.ndim > 1 and telling(y):
        for axis in range(x.ndim):
            mean, std = x.mean(axis, keepdims=True), x.std(axis, keepdims=True)
            yield f"got - got.mean(axis={axis}) is expected: the mean is not subtracted", x - mean, y
            yield f"got / got.std(axis={axis}) is expected: the standard deviation is missing", x / std, y
            yield f"got is expected before it is normalised along axis {axis}", (x - mean) / std, y


def _moved(x: np.ndarray, y: np.ndarray) -> Iterator[Candidate]:
    """The same numbers at other places."""
    if x.ndim == 2:
        yield "got is the transpose of expected", x, y.T
    elif x.ndim <= 5:
        for axes in permutations(range(x.ndim)):
            if axes != tuple(range(x.ndim)):
                yield f"the axes are in another order: got is expected.transpose{axes}", x, y.transpose(axes)
    for axis in range(x.ndim):
        along = f"axis {axis}" if x.ndim != 2 else ("the rows", "the columns")[axis]
        along = "the entries" if x.ndim == 1 else along
        yield f"got is expected with {along} reversed", x, np.flip(y, axis)
        for step in (1, -1):
            yield f"got is expected with {along} rolled by {step}", x, np.roll(y, step, axis)
    if x.ndim > 1:
        yield "got is expected with the last two axes reversed", x, np.flip(y, (-2, -1))


def _functions(x: np.ndarray, y: np.ndarray) -> Iterator[Candidate]:
    """A function that is missing, or that is applied once too often."""
    kind = f" (its dtype is {x.dtype})" if x.dtype.kind in "iu" else ""
    x, y = as_float(x), as_float(y)
    yield "got is |expected|: the signs are lost", x, np.abs(y)
    yield "got is expected with its negative entries set to 0", x, np.maximum(y, 0)
    if telling(np.maximum(x, 0)):
        yield "expected is got with its negative entries set to 0", np.maximum(x, 0), y
    yield "got is the square of expected", x, y**2
    yield "got is the square root of expected", x, np.sqrt(y)
    yield "got is exp(expected)", x, np.exp(y)
    yield "got is log(expected)", x, np.log(y)
    yield "got is -log(expected)", x, -np.log(y)
    yield "got is 1 - expected", x, 1 - y
    yield "got is the softmax of expected along the last axis", x, _softmax(y)
    yield "expected is the softmax of got along the last axis", _softmax(x), y
    yield "expected is the log of the softmax of got along the last axis", np.log(_softmax(x)), y
    if whole(x) and not whole(y):
        yield f"got is expected rounded to whole numbers{kind}", x, np.round(y)
        yield f"got is expected cut to whole numbers{kind}", x, np.trunc(y)
    if whole(x) and whole(y):
        yield "got is expected modulo 256: do numbers of uint8 overflow?", x, np.mod(y, 256)


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _reordered(x: np.ndarray, y: np.ndarray) -> str:
    """The same entries, rows or columns in another order; whole numbers, labels for one, do that by accident."""
    if whole(y) or x.size > FEW_TO_SORT:
        return ""
    if x.ndim == 1:
        return "got holds the numbers of expected in another order" if fit(np.sort(x), np.sort(y)) else ""
    for name, u, v in (("rows", x, y), ("columns", np.moveaxis(x, 1, 0), np.moveaxis(y, 1, 0))):
        u, v = (z.reshape(len(z), -1) for z in (u, v))
        if len(u) > 1 and fit(u[np.lexsort(u.T)], v[np.lexsort(v.T)]):
            return f"got holds the {name} of expected in another order"
    return ""


def _region(x: np.ndarray, y: np.ndarray) -> str:
    """The one place where all differences lie, if most of it is wrong: a few wrong entries lie anywhere."""
    wrong = errors(x, y, relative=False) > TOLERANCE * max(np.abs(x).max(), np.abs(y).max())
    if wrong.sum() < 3 or x.ndim < 2:
        return ""
    for axis in range(x.ndim):
        hit = wrong.any(axis=tuple(k for k in range(x.ndim) if k != axis))
        if hit.sum() == 1 and hit.size > 1 and wrong.sum() > x.size / hit.size / 2:
            return f"got equals expected except in {_slice_name(axis, int(hit.argmax()), x.shape)}"
    for name, region in _regions(x.shape):
        if not (wrong & ~region).any() and wrong.sum() > region.sum() / 2:
            return f"got equals expected except {name}"
    return ""


def _regions(shape: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
    if len(shape) == 2 and shape[0] == shape[1]:
        yield "on the diagonal", np.eye(shape[0], dtype=bool)
    if min(shape[-2:]) > 3:
        border = np.ones(shape, bool)
        border[..., 1:-1, 1:-1] = False
        yield "at the border of the last two axes", border


def _slice_name(axis: int, index: int, shape: tuple[int, ...]) -> str:
    which = f"index {index} of axis {axis}" if len(shape) != 2 else f"{('row', 'column')[axis]} {index}"
    return f"{which}, the last one" if index == shape[axis] - 1 else which
