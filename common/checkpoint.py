"""Checkpoints: what training has reached, in one file that is written whole or not at all and read without running it.

A checkpoint is a pickle of plain containers, numbers, strings and NumPy arrays, followed by its SHA-256. `pickle.load`
would read it, but `read` does so safely: it checks the sum, and admits nothing but NumPy arrays.

What changes in a model while it trains is `model.params` and, with batch normalisation, the running averages in
`model.bn_params`, a list of dicts. A model that keeps anything else offers two methods: `state_dict()` returns it, as
plain containers of arrays and numbers, and `load_state_dict(state)` takes it back. A model that draws random numbers
from NumPy's global stream has nothing to keep: the Solver saves that stream.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from common.storage import atomic_write, load_arrays

DIGEST = hashlib.sha256().digest_size
PLAIN = (bool, int, float, str, bytes, type(None))
Snapshot = dict[str, Any]


def snapshot(model: Any) -> Snapshot:
    """Copies of everything in the model that training changes: {"params": ..., "state": ...}."""
    state = model.state_dict() if hasattr(model, "state_dict") else getattr(model, "bn_params", [])
    return {"params": {name: np.array(value) for name, value in model.params.items()}, "state": copy.deepcopy(state)}


def restore(model: Any, saved: Snapshot) -> None:
    """Give the model copies of what `snapshot` has kept.

    Raises:
        ValueError: the model has other parameters, or other shapes.
    """
    wanted = {name: np.shape(value) for name, value in model.params.items()}
    found = {name: np.shape(value) for name, value in saved["params"].items()}
    if found != wanted:
        different = sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n))
        raise ValueError(f"the saved parameters do not fit this model; they differ in {', '.join(different)}")
    state = copy.deepcopy(saved["state"])
    if hasattr(model, "load_state_dict"):
        model.load_state_dict(state)
    elif len(state) != len(getattr(model, "bn_params", [])):
        raise ValueError(f"{len(state)} bn_params were saved, the model has {len(getattr(model, 'bn_params', []))}")
    elif state:
        model.bn_params[:] = state
    for name, value in saved["params"].items():
        model.params[name] = value.copy()


def save_model(model: Any, path: str | Path) -> None:
    """Write the parameters and running averages of a model to a file."""
    write(path, {"kind": "model", **snapshot(model)})


def load_model(model: Any, path: str | Path) -> None:
    """Read what `save_model` wrote into a model of the same architecture; parameters keep the model's dtype.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or does not fit the model.
    """
    saved = read(path, "model")
    dtypes = {name: value.dtype for name, value in model.params.items()}
    restore(model, saved)
    for name, dtype in dtypes.items():
        model.params[name] = model.params[name].astype(dtype, copy=False)


def write(path: str | Path, content: dict[str, Any]) -> None:
    """Write plain content to a file, whole or not at all; folders on the way are made.

    Args:
        path: the file; one that is there is replaced.
        content: dicts, lists and tuples of numbers, strings and arrays.
    Raises:
        TypeError: something else is in it.
        OSError: the disk is full, no permission, ...
    """
    payload = pickle.dumps(plain(content), protocol=4)
    with atomic_write(path) as file:
        file.write(payload + hashlib.sha256(payload).digest())


def read(path: str | Path, kind: str) -> dict[str, Any]:
    """Read a file that `write` wrote.

    Args:
        path: the file.
        kind: what its content calls itself, such as "model".
    Returns:
        The content.
    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, was written by something else, or is of another kind.
    """
    data = Path(path).read_bytes()  # once: the bytes that are checked are the bytes that are loaded
    payload, digest = data[:-DIGEST], data[-DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError(f"{path} is damaged or cut short, or is no checkpoint of this workbook: its checksum is wrong")
    content = load_arrays(payload)
    if not isinstance(content, dict) or content.get("kind") != kind:
        found = content.get("kind") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} holds a {found}, not a {kind}")
    return content


def plain(value: Any) -> Any:
    """value with NumPy's scalars as Python's numbers, so that a file holds arrays and plain containers only.

    Raises:
        TypeError: it holds something else.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([plain(item) for item in value]) if type(value) in (list, tuple) else plain(list(value))
    if isinstance(value, PLAIN) or (isinstance(value, np.ndarray) and value.dtype.kind in "fiub"):
        return value
    raise TypeError(f"a checkpoint holds numbers, strings, arrays and containers of them, not a {type(value).__name__}")
