"""Checkpoints: what training has reached, in one file that is written whole or not at all and read without running it.

The file is a zip of plain arrays, as `np.savez` writes them, so `np.load(path)` shows them by name, and of one JSON
text, `content.json`, that says where each belongs; its SHA-256 follows. It is no pickle, whatever its name ends in
(`.pkl` is the Solver's, as in CS231n). The first edition wrote pickles; `read` still takes them, through an interpreter
that makes nothing but NumPy arrays and plain containers.

What changes in a model while it trains is `model.params` and, with batch normalisation, the running averages in
`model.bn_params`, dicts. A model that keeps anything else offers two methods: `state_dict()` returns it, as
plain containers of arrays and numbers, and `load_state_dict(state)` takes it back. A model that draws random numbers
from NumPy's global stream has nothing to keep: the Solver saves that stream.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from common.storage import atomic_write, load_arrays

TEXT = "content.json"
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
    elif isinstance(getattr(model, "bn_params", None), dict) and isinstance(state, dict):
        model.bn_params = state
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
    payload = _pack(plain(content))
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
    content = _unpack(payload, path) if payload.startswith(b"PK") else load_arrays(payload)
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


# Plain content as a zip of arrays and a JSON text ----------------------------------------------------------------


def _pack(content: Any) -> bytes:
    """The bytes of a file; equal content gives equal bytes."""
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_tagged(content, "", arrays))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(TEXT), text)
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def _tagged(value: Any, place: str, arrays: dict[str, np.ndarray]) -> Any:
    """value as JSON has it. What JSON has not becomes {kind: ...}; arrays are put aside, by their place in value."""
    if isinstance(value, dict):
        items = [(key, _tagged(item, f"{place}/{key}", arrays)) for key, item in value.items()]
        return {"dict": [[_tagged(key, "", arrays), item] for key, item in items]}
    if isinstance(value, list | tuple):
        items = [_tagged(item, f"{place}/{number}", arrays) for number, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, np.ndarray):
        name = re.sub(r"[^\w/.-]", "_", place.lstrip("/"), flags=re.ASCII)
        name = name if name not in arrays else f"{name}-{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    return value


def _unpack(payload: bytes, path: str | Path) -> Any:
    """What `_pack` has packed.

    Raises:
        ValueError: it is something else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            if sum(member.file_size for member in archive.infolist()) > len(payload):
                raise ValueError("its members are compressed")  # few bytes could take all memory
            return _untagged(json.loads(archive.read(TEXT)), archive, set(archive.namelist()))
    except Exception as error:  # a zip of somebody else's can be wrong in any way
        raise ValueError(f"{path} is no checkpoint of this workbook: {error}") from error


def _untagged(value: Any, archive: zipfile.ZipFile, unread: set[str]) -> Any:
    """The inverse of `_tagged`; each array may be read once."""
    if isinstance(value, list):
        return [_untagged(item, archive, unread) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    if kind == "dict":
        return {_untagged(key, archive, unread): _untagged(item, archive, unread) for key, item in held}
    if kind == "tuple":
        return tuple(_untagged(item, archive, unread) for item in held)
    if kind == "bytes":
        return bytes.fromhex(held)
    if kind != "array":
        raise ValueError(f"a {kind} in {TEXT}")
    unread.remove(f"{held}.npy")
    array = np.lib.format.read_array(io.BytesIO(archive.read(f"{held}.npy")), allow_pickle=False)
    return plain(array)
