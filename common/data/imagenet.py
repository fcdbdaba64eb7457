"""A handful of labelled photographs of ImageNet (Russakovsky et al., 2015), 224 x 224, to look into networks with."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np

from common.data import store
from common.validate import checked_count

FILE = "imagenet_val_25.npz"


def load_imagenet_val(num: int | None = None) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Labelled photographs.

    Args:
        num: the first so many; None = all: 25 (full) or 22 (pocket).
    Returns:
        X uint8 (N, 224, 224, 3), y int64 (N,), class_names {label: name}.
    Raises:
        FileNotFoundError: WORKBOOK_EDITION=full and the file is missing; the message names it and the command.
        ValueError: num is below 1 or above what there is, or the file is not the one that was published or written.
        TypeError: num is not an integer.
        ImportError: a package from which the pocket edition is copied is not installed.
    """
    X, y, class_names = _read(store.dataset_dir("imagenet_val") / FILE)
    num = len(X) if num is None else checked_count("num", num, 1, len(X))
    return X[:num], y[:num], class_names


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """The three fields. The names are a pickle, and a pickle can run code: only known bytes are unpickled."""
    store.verify(path, must_be_known=True)
    try:
        with np.load(path, allow_pickle=True) as file:
            X, y, names = file["X"], file["y"], file["label_map"].item()
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: the fields X, y and label_map are needed: {error}") from error
    return X, y.astype(np.int64), {int(label): str(name) for label, name in names.items()}
