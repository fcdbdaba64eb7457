"""When two arrays count as equal, and when an agreement is more than an accident."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Candidate = tuple[str, np.ndarray, np.ndarray]  # a sentence, and two arrays that are equal if it is true
TOLERANCE = 1e-6  # of the largest number
SAMPLE = 1000  # entries


def distance(x: np.ndarray, y: np.ndarray) -> float:
    """Largest difference as a share of the largest number."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return np.inf
    scale = max(np.abs(x).max(initial=0), np.abs(y).max(initial=0))
    return float(np.abs(x - y).max(initial=0) / scale) if scale else 0.0


def fit(x: np.ndarray, y: np.ndarray) -> bool:
    """Equal up to rounding; float32 rounds more. Of large arrays a sample is compared first."""
    x, y = np.asarray(x), np.asarray(y)
    tolerance = 1e-5 if np.float32 in (x.dtype, y.dtype) else TOLERANCE
    if x.shape != y.shape:
        return False
    if x.size > SAMPLE:
        some = np.unravel_index(np.linspace(0, x.size - 1, SAMPLE).astype(int), x.shape)
        if not np.abs(x[some].astype(float) - y[some]).max() <= 2 * tolerance * np.abs(x).max():
            return False
    return distance(x, y) < tolerance


def first(candidates: Iterator[Candidate]) -> str:
    return next((sentence for sentence, x, y in candidates if fit(x, y)), "")


def varied(x: np.ndarray) -> int:
    """How many different numbers other than zero there are (in a sample of a large array)."""
    numbers = x.ravel()[:: 1 + x.size // (20 * SAMPLE)].astype(np.float64)
    scale = np.abs(numbers).max(initial=0)
    numbers = np.unique(np.round(numbers / scale, 9)) if scale else np.zeros(0)
    return int(np.sum(numbers != 0))


def whole(x: np.ndarray) -> bool:
    return bool(np.all(x == np.round(x)))


def telling(x: np.ndarray) -> bool:
    """Enough different numbers that an agreement is no accident; small whole numbers agree more easily."""
    return varied(x) >= (4 if whole(x) else 3)


def as_float(x: np.ndarray) -> np.ndarray:
    """Floats as they are, whole numbers and truth values as float64."""
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def simple_factor(ratio: float) -> str:
    """-1, n or 1/n, as a sentence; a large n has to fit more exactly, or one would always be near."""
    if abs(ratio + 1) < TOLERANCE:
        return "the sign is turned: got is -1 x expected"
    big = ratio if abs(ratio) > 1 else 1 / ratio
    n = round(big)
    if 2 <= n <= 10_000 and abs(big - n) < n * (TOLERANCE if n <= 20 else 1e-9):
        return f"got is {n if abs(ratio) > 1 else f'1/{n}'} x expected"
    return ""
