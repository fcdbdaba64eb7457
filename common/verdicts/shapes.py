"""Mistakes that change the shape: axes, sums, a border, one result of several."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from common.verdicts.matching import Candidate, as_float, first, fit, telling


def hint(x: np.ndarray, y: np.ndarray) -> str:
    """The numbers are right in another shape, or before or after a sum."""
    if [n for n in x.shape if n > 1] == [n for n in y.shape if n > 1]:
        if fit(x.ravel(), y.ravel()):
            return f"the numbers agree; only an axis of length 1 differs, {x.shape} and {y.shape}: keepdims?"
        return ""
    if not telling(x if x.size > y.size else y):
        return ""
    return first(_rearranged(x, y)) or first(_summed(x, y))


def _rearranged(x: np.ndarray, y: np.ndarray) -> Iterator[Candidate]:
    if x.ndim == y.ndim <= 5:
        for axes in permutations(range(x.ndim)):
            if y.transpose(axes).shape == x.shape:
                name = "the transpose of expected" if x.ndim == 2 else f"expected.transpose{axes}, other axes first"
                yield f"got is {name}", x, y.transpose(axes)
    if x.size == y.size:
        yield "the numbers agree in their order: got.reshape(...) is expected", x.ravel(), y.ravel()
    if x.ndim == y.ndim + 1:
        for i in range(min(len(x), 4)):
            yield f"got[{i}] is expected", x[i], y
    if x.ndim == 2 and y.ndim == 1 and x.shape == y.shape * 2:
        yield "the diagonal of got is expected: shapes (N,) and (N, 1) combined to (N, N)?", np.diagonal(x), y
    if x.ndim == y.ndim >= 2 and x.shape[:-2] == y.shape[:-2]:
        for wider, narrow, who in ((x, y, "got"), (y, x, "expected")):
            p = (wider.shape[-1] - narrow.shape[-1]) // 2
            if p > 0:
                yield f"{who}[..., {p}:-{p}, {p}:-{p}] is the other: padding?", wider[..., p:-p, p:-p], narrow


def _summed(x: np.ndarray, y: np.ndarray) -> Iterator[Candidate]:
    for many, few, this, that in ((x, y, "got", "expected"), (y, x, "expected", "got")):
        axes = [None, *range(many.ndim)] if few.ndim == 0 else range(many.ndim)
        for axis in axes:
            where = "" if axis is None else f"axis={axis}"
            for name, f in (("sum", np.sum), ("mean", np.mean)):
                for keep in (False, True):
                    yield f"{this}.{name}({where}) is {that}", f(as_float(many), axis=axis, keepdims=keep), few
