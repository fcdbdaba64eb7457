"""Which common mistake explains a difference: each is tried on the numbers, and named only if it gives them exactly.

Where many sentences would be true, as for arrays of zeros or of one number, none is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from common.verdicts import arrays, shapes
from common.verdicts.difference import BROKEN, as_array, describe, errors, is_numeric, number, place
from common.verdicts.matching import TOLERANCE, Candidate, distance, fit, simple_factor, varied, whole

MANY = 10_000_000  # entries; trying everything on more would take seconds


def explain(
    got: Any, want: Any, rel: float | None, atol: float | None, typical: Mapping[str, Any]
) -> tuple[str, list[str]]:
    """What differs, and last the mistake that explains it: a summary, and the lines below it."""
    summary, lines = describe(got, want, rel, atol)
    reason = hint(got, want, typical, rel, atol)
    return summary, [*lines, f"hint: {reason}"] if reason else lines


def hint(got: Any, want: Any, typical: Mapping[str, Any], rel: float | None = None, atol: float | None = None) -> str:
    """The simplest sentence that is true by computation, or "".

    Args:
        got, want: what differs.
        typical: {how: what a typical mistake gives, or a function that computes it}, tried first and with the
            tolerance of the check.
    """
    if got is None:
        return "got is None: is the `return` missing?"
    try:
        x, y = as_array(got), as_array(want)
    except BROKEN:
        return _of_parts(got, as_array(want))
    if not (is_numeric(x) and is_numeric(y)) or max(x.size, y.size) > MANY or not x.size * y.size:
        return ""
    with np.errstate(all="ignore"):
        expected_mistake, notes = _of_typical(x, y, typical, rel, atol)
        return (
            expected_mistake
            or _of_values(x, y)
            or (shapes.hint(x, y) if x.shape != y.shape else _of_numbers(x, y) if x.ndim == 0 else arrays.hint(x, y))
            or notes
        )


def _of_typical(
    x: np.ndarray, y: np.ndarray, typical: Mapping[str, Any], rel: float | None, atol: float | None
) -> tuple[str, str]:
    """The closest of the caller's candidates that agrees with got and not with want, under the check's own measure.

    Returns:
        A sentence or "", and what kept candidates from being computed.
    """
    limit, relative = max(TOLERANCE, rel if rel is not None else atol or 0), rel is not None or atol is None
    found, notes = [], []
    for how, value in typical.items():
        try:
            z = as_array(value() if callable(value) else value)
        except Exception as error:  # the explanation must not hide the failure that it explains
            notes.append(f"(the hint {how!r} could not be computed: {type(error).__name__}: {error})")
            continue
        if is_numeric(z) and z.shape == x.shape:
            away = errors(x, z, relative).max(initial=0)
            same_as_want = z.shape == y.shape and errors(z, y, relative).max(initial=0) < limit
            if away < limit and not same_as_want:
                found.append((float(away), f"got is what comes out {how}"))
    return min(found)[1] if found else "", "; ".join(notes)


def _of_values(x: np.ndarray, y: np.ndarray) -> str:
    """NaN, zeros, one number everywhere."""
    for name, test in (("NaN", np.isnan), ("inf", np.isposinf), ("-inf", np.isneginf)):
        for who, values in (("got", x), ("expected", y)):
            bad = test(values)
            if bad.any():
                where = f" at {place(np.argwhere(bad)[0])} ({bad.sum()} of {bad.size})" if values.ndim else ""
                return f"{who} holds {name}{where}" if where else f"{who} is {name}"
    if x.shape == y.shape and x.size > 1 and varied(y) > 0:
        if not x.any():
            return "got is all zeros"
        if x.size > 2 and (x == x.flat[0]).all() and not (y == y.flat[0]).all():
            return f"every entry of got is {number(x.flat[0])}"
    return ""


def _of_numbers(x: np.ndarray, y: np.ndarray) -> str:
    """Two plain numbers such as 0.2 and 0.4 agree with several sentences by accident: then nothing is said."""
    a, b = float(x), float(y)
    if not a or not b or distance(x, y) < 1e-4:
        return arrays.precision(x, y)
    if all(v == float(f"{v:.3g}") for v in (a, b)) or (whole(x) and whole(y) and min(abs(a), abs(b)) < 100):
        return ""
    found = [simple_factor(a / b), *(s for s, u, v in _functions_of_number(x, y) if fit(u, v))]
    found = [sentence for sentence in found if sentence]
    return found[0] if len(found) == 1 else ""


def _functions_of_number(x: np.ndarray, y: np.ndarray) -> Iterator[Candidate]:
    y = y.astype(np.float64)
    yield "got is the square of expected", x, y**2
    yield "got is the square root of expected", x, np.sqrt(y)
    yield "got is exp(expected)", x, np.exp(y)
    yield "got is exp(-expected): a probability instead of its -log?", x, np.exp(-y)
    yield "got is log(expected)", x, np.log(y)
    yield "got is -log(expected)", x, -np.log(y)
    yield "got is 1 - expected", x, 1 - y
    if x.dtype.kind in "iu" and not whole(y):
        yield "got is expected rounded to a whole number", x, np.round(y)
        if np.trunc(y) != np.round(y):
            yield "got is expected cut to a whole number", x, np.trunc(y)


def _of_parts(got: Any, y: np.ndarray) -> str:
    """A function that returns several things, where one of them was expected."""
    if isinstance(got, list | tuple):
        for i, part in enumerate(got):
            try:
                if varied(y) and fit(as_array(part), y):
                    return f"got[{i}] is expected: got is a {type(got).__name__} of {len(got)}"
            except BROKEN:
                continue
    return ""
