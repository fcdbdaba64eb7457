"""What was got, what was expected and where they differ, in at most a few lines."""

from __future__ import annotations

import re
import reprlib
from typing import Any

import numpy as np

FEW = 8  # so many numbers are shown, of more only the worst
REPR = reprlib.Repr()
REPR.maxstring = REPR.maxother = 60
BROKEN = (TypeError, ValueError, RuntimeError)  # what NumPy and torch raise for what is no array


def as_array(x: Any) -> np.ndarray:
    """A NumPy array of a number, a list, an array or a torch tensor on any device."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = (x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy()
    return np.asarray(x)


def is_numeric(x: np.ndarray) -> bool:
    """Truth values, integers or floats."""
    return x.dtype.kind in "biuf"


def errors(x: np.ndarray, y: np.ndarray, relative: bool) -> np.ndarray:
    """|x - y| of every entry, or |x - y| / max(1e-8, |x| + |y|); equal infinities give NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        x, y = x.astype(np.float64), y.astype(np.float64)
        return np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y)) if relative else np.abs(x - y)


def describe(got: Any, want: Any, rel: float | None = None, atol: float | None = None) -> tuple[str, list[str]]:
    """A summary for the first line of the message, and the lines below it."""
    y = as_array(want)
    try:
        x = as_array(got)
    except BROKEN:
        return f"got {short(got)}, expected {_kind(y)}", []
    if _is_shape(got) and _is_shape(want):
        return f"got {tuple(got)}, expected {tuple(want)}", []
    if got is None or is_numeric(x) != is_numeric(y) or not (is_numeric(x) or x.shape == y.shape != ()):
        return f"got {short(got)}, expected {_kind(y) if is_numeric(y) and y.ndim else short(want)}", []
    if x.shape != y.shape:
        return f"got shape {x.shape}, expected {y.shape}", _both(x, y) if max(x.size, y.size) <= FEW else []
    if not is_numeric(x):
        return _describe_other(x, y)
    return _describe_numbers(x, y, rel, atol)


def _describe_numbers(x: np.ndarray, y: np.ndarray, rel: float | None, atol: float | None) -> tuple[str, list[str]]:
    """Two arrays of numbers of one shape: all of them if they are few, else the worst."""
    error = errors(x, y, relative=rel is not None)
    name, limit = ("rel. error", rel) if rel is not None else ("abs. error", atol)
    measured = "" if limit is None else f"{name} {error.max():.3g}"
    if x.ndim == 0:
        a, b = apart([x], [y])
        return ", ".join([f"got {a[0]}, expected {b[0]}", *([measured] if rel is not None else [])]), []
    wrong = x != y if limit is None else ~(error < limit)
    count = f"{wrong.sum()} of {_entries(x.size)} {'differs' if wrong.sum() == 1 else 'differ'}"
    if x.size <= FEW:
        return measured or count, [*_both(x, y), *_dtypes(x, y)]
    whole = limit is None and x.dtype.kind in "biu"  # labels for one: no difference is larger than another
    worst = np.unravel_index(np.argmax(wrong) if whole else _worst(error, x, y), x.shape)
    what = "first difference" if whole else "largest rel. error" if rel is not None else "largest difference"
    (a,), (b,) = apart([x[worst]], [y[worst]])
    where = f"{what} at {place(worst)}: got {a}, expected {b}"
    count = f"{count}, shape {x.shape}"
    return measured or count, [where, *([count] if measured else []), *_dtypes(x, y)]


def _worst(error: np.ndarray, x: np.ndarray, y: np.ndarray) -> int:
    """Position of the largest error; among equals, such as relative errors of 1, of the largest difference."""
    if np.isnan(error).any():
        return int(np.argmax(error))
    return int(np.argmax(np.where(error >= 0.999 * error.max(), errors(x, y, relative=False), -1)))


def _dtypes(x: np.ndarray, y: np.ndarray) -> list[str]:
    """Said only where whole numbers cannot hold what is expected."""
    lost = x.dtype.kind in "biu" and y.dtype.kind == "f" and not np.all(y == np.round(y))
    return [f"got has dtype {x.dtype}, expected {y.dtype}"] if lost else []


def _describe_other(x: np.ndarray, y: np.ndarray) -> tuple[str, list[str]]:
    """Two arrays of words or other objects of one shape."""
    wrong = np.asarray(x != y)
    first = np.unravel_index(np.argmax(wrong), wrong.shape)
    where = f"at {place(first)}: got {short(x[first].item())}, expected {short(y[first].item())}"
    return f"{wrong.sum()} of {_entries(wrong.size)} differ, the first {where}", []


def describe_bounds(got: Any, low: float, high: float) -> tuple[str, list[str]]:
    """What was measured where numbers above `low` and below `high` were promised."""
    x = as_array(got)
    words = [apart([v], [np.asarray(high if v >= high else low)])[0][0] for v in x.ravel()[:FEW]]
    if x.size <= FEW:
        return f"measured {_layout(np.array(words).reshape(x.shape)) if x.ndim else words[0]}", []
    outside = ~((low < x) & (x < high))
    with np.errstate(invalid="ignore"):
        beyond = np.where(np.isnan(x), np.inf, np.maximum(low - x, x - high))
    worst = np.unravel_index(np.argmax(beyond), x.shape)
    (word,), _ = apart([x[worst]], [np.asarray(high if x[worst] >= high else low)])
    return f"measured {word} at {place(worst)}, {outside.sum()} of {_entries(x.size)} outside", []


def apart(x: Any, y: Any) -> tuple[list[str], list[str]]:
    """The numbers as text, with four digits or as many as it takes to tell unequal ones apart."""
    for digits in range(4, 18):
        a, b = [number(v, digits) for v in x], [number(v, digits) for v in y]
        if all(s != t or v == w or v != v for s, t, v, w in zip(a, b, x, y, strict=True)):
            break
    return a, b


def number(value: Any, digits: int = 4) -> str:
    """One number: whole ones and truth values in full, others with so many digits."""
    value = as_array(value)
    return f"{float(value):.{digits}g}" if value.dtype.kind == "f" else str(value.item())


def place(index: tuple) -> str:
    """The index of an entry as one would write it: [3, 7]."""
    return f"[{', '.join(str(int(i)) for i in index)}]"


def short(value: Any) -> str:
    """Any value on one line."""
    if isinstance(value, list | tuple) and any(hasattr(part, "shape") for part in value):
        return f"a {type(value).__name__} of {len(value)}"
    return re.sub(r"\s+", " ", REPR.repr(value))


def _both(x: np.ndarray, y: np.ndarray) -> list[str]:
    """All numbers, the columns aligned where both have one shape."""
    same = x.shape == y.shape
    a, b = apart(x.ravel(), y.ravel()) if same else ([number(v) for v in x.flat], [number(v) for v in y.flat])
    wide = max(map(len, a + b)) if same and x.size else 0
    rows = [_layout(np.array([s.rjust(wide) for s in side]).reshape(z.shape)) for side, z in ((a, x), (b, y))]
    return [f"got       {rows[0]}", f"expected  {rows[1]}"]


def _layout(words: np.ndarray) -> str:
    """Numbers in the brackets of NumPy, on one line."""
    return re.sub(r"\n\s*", " ", np.array2string(words, formatter={"all": str}, max_line_width=10_000))


def _entries(n: int) -> str:
    return f"{n} entry" if n == 1 else f"{n} entries"


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(v) is int for v in value)


def _kind(x: np.ndarray) -> str:
    return f"{x.dtype} of shape {x.shape}"
