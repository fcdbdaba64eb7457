"""Checks of arguments that many modules share: random streams, labels, rows, rates and sizes."""

from __future__ import annotations

import operator
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

Stream = np.random.RandomState | int | None


def stream(rng: Stream) -> Any:
    """What draws the random numbers: a RandomState, one made from a seed, or NumPy's global stream for None.

    Raises:
        TypeError: something else.
        ValueError: a seed outside 0 .. 2**32 - 1.
    """
    if rng is None or rng is np.random:
        return np.random
    if isinstance(rng, np.random.RandomState):
        return rng
    if isinstance(rng, int | np.integer) and not isinstance(rng, bool):
        return np.random.RandomState(rng)
    raise TypeError(f"rng must be a RandomState, an integer seed or None, got {type(rng).__name__}")


def checked_labels(y: Any, name: str, shape: tuple[int, ...], num_classes: int | None = None) -> np.ndarray:
    """y as an array, if it holds one class number for each example of a batch.

    Args:
        y: labels.
        name: of the argument, for the message.
        shape: of the batch, examples first.
        num_classes: C; None = any integers are labels.
    Returns:
        y, (N,) integers, from 0 to C - 1 if num_classes is given.
    Raises:
        ValueError: no examples, another number of labels, or a label out of range.
        TypeError: y does not hold integers.
    """
    y = np.asarray(y)
    if y.shape != tuple(shape[:1]) or not len(y):
        raise ValueError(
            f"{name} has shape {y.shape}; a batch of shape {tuple(shape)} needs labels of shape {tuple(shape[:1])}, "
            "at least one"
        )
    if y.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integer labels, got {y.dtype}")
    if num_classes is not None and not 0 <= y.min() <= y.max() < num_classes:
        raise ValueError(f"{name} holds labels from {y.min()} to {y.max()}; allowed are 0 to {num_classes - 1}")
    return y


def checked_pairs(data: dict[str, Any], parts: tuple[str, ...]) -> None:
    """Each part of a data set, such as "train", has X_part and y_part of the same length, not empty.

    Raises:
        ValueError: one is missing or empty, or they differ in length.
    """
    missing = [f"{kind}_{part}" for part in parts for kind in "Xy" if f"{kind}_{part}" not in data]
    if missing:
        raise ValueError(f"data lacks {', '.join(missing)}; it holds {', '.join(map(str, data)) or 'nothing'}")
    for part in parts:
        pictures, labels = len(data[f"X_{part}"]), len(data[f"y_{part}"])
        if pictures != labels or pictures == 0:
            found = f"X_{part} has {pictures} pictures and y_{part} {labels} labels"
            raise ValueError(f"{found}; as many of both are needed, and at least one")


def checked_examples(X: Any, name: str) -> np.ndarray:
    """X as an array, if it holds at least one example of real, finite numbers.

    Args:
        X: (N, D) rows or (N, ...) pictures.
        name: of the argument, for the message.
    Raises:
        ValueError: fewer than two axes, nothing in it, NaN or infinity.
        TypeError: not real numbers.
    """
    X = np.asarray(X)
    if X.ndim < 2 or X.size == 0:
        raise ValueError(f"{name} must hold at least one picture, as (N, D) or (N, ...), got shape {X.shape}")
    if X.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got {X.dtype}")
    if not (np.isfinite(X.min()) and np.isfinite(X.max())):  # both pass a NaN on; no array of the size of X
        raise ValueError(f"{name} holds values that are not finite (NaN or infinity)")
    return X


def checked_reg(reg: float) -> float:
    """reg, if it is a finite number that is not negative.

    Raises:
        ValueError: it is not.
    """
    if not 0 <= reg < np.inf:
        raise ValueError(f"reg must be a finite number of at least 0, got {reg}")
    return reg


def checked_scale(weight_scale: float | str, words: tuple[str, ...] = ()) -> float | str:
    """weight_scale, if it is a standard deviation or one of the words.

    Raises:
        ValueError: negative, not finite, or another word.
    """
    known = weight_scale in words if isinstance(weight_scale, str) else 0 <= weight_scale < np.inf
    if not known:
        also = "".join(f" or {word!r}" for word in words)
        raise ValueError(f"weight_scale must be a finite number of at least 0{also}, got {weight_scale!r}")
    return weight_scale


def checked_float(dtype: Any) -> type:
    """dtype as a NumPy scalar type, if it is floating.

    Raises:
        ValueError: it is not.
    """
    if np.dtype(dtype).kind != "f":
        raise ValueError(f"dtype must be floating, got {np.dtype(dtype)}")
    return np.dtype(dtype).type


def checked_count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """value as an int, if it is a whole number from least to most.

    Args:
        name: of the argument, for the message.
        value: what was given.
        least, most: what is allowed; most = None: no limit.
    Raises:
        TypeError: not an integer.
        ValueError: out of range.
    """
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(value).__name__} ({value!r})") from None
    if count < least or (most is not None and count > most):
        limit = "" if most is None else f" and at most {most}, which is what there is"
        raise ValueError(f"{name} is {value}; it must be at least {least}{limit}")
    return count


def checked_sizes(**sizes: int) -> None:
    """Each of the named numbers is a whole number of at least 1; otherwise as `checked_count`."""
    for name, value in sizes.items():
        checked_count(name, value)


def file_to_load(fname: str | os.PathLike) -> bool:
    """Whether there is such a file; if not, a warning says that nothing is loaded (CS231n's `load` returns False)."""
    found = Path(fname).is_file()
    if not found:
        warnings.warn(f"{fname}: there is no such file; nothing is loaded", UserWarning, stacklevel=3)
    return found
