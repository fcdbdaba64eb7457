"""Checkpoints of a training run: written whole or not at all, the one before kept, read without running anything."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.storage import atomic_write

History = dict[str, list[float]]
Optimisers = Sequence[torch.optim.Optimizer]
DIGEST = hashlib.sha256().digest_size


def save_checkpoint(path: str | Path, net: nn.Module, optimisers: Optimisers, history: History) -> None:
    """Write a run to a file, whole or not at all, with a SHA-256 at its end; the last one is renamed `NAME.previous`.

    Raises:
        OSError: the disk is full, no permission, ...
    """
    states = [optimiser.state_dict() for optimiser in optimisers]
    buffer = io.BytesIO()
    torch.save({"kind": "run", "net": net.state_dict(), "optimisers": states, "history": history}, buffer)
    payload, path = buffer.getvalue(), Path(path)
    if path.exists():
        path.replace(previous(path))
    with atomic_write(path) as file:
        file.write(payload + hashlib.sha256(payload).digest())


def previous(path: str | Path) -> Path:
    """Where the checkpoint before the last one is."""
    return Path(f"{path}.previous")


def has_checkpoint(path: str | Path) -> bool:
    """Whether there is a checkpoint, or one before it: a process may die between renaming and writing."""
    return Path(path).is_file() or previous(path).is_file()


def load_checkpoint(path: str | Path, net: nn.Module, optimisers: Optimisers) -> History:
    """Put network and optimisers into the state of a checkpoint; if it is damaged, into that of the one before it.

    Returns:
        The history up to there.
    Raises:
        FileNotFoundError: there is none.
        ValueError: both are damaged, or it is of another network or of other optimisers; then nothing has changed.
    """
    found = [file for file in (Path(path), previous(path)) if file.is_file()]
    if not found:
        raise FileNotFoundError(f"there is no checkpoint {path}")
    for i, file in enumerate(found):
        try:
            content = read_checkpoint(file)
        except ValueError as error:
            if i + 1 == len(found):
                raise
            warnings.warn(f"{error}; going on from {found[i + 1]}", stacklevel=2)
            continue
        check_fits(file, content, net, optimisers)
        net.load_state_dict(content["net"])
        for optimiser, state in zip(optimisers, content["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        return content["history"]
    raise AssertionError("unreachable")


def read_checkpoint(file: Path) -> dict[str, Any]:
    """The content of a file that `save_checkpoint` wrote; tensors come to the CPU.

    Raises:
        ValueError: it is damaged or something else; nothing in it has run.
    """
    data = file.read_bytes()
    payload, digest = data[:-DIGEST], data[-DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError(f"{file} is damaged or cut short, or is no checkpoint of a run: its checksum is wrong")
    content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or content.get("kind") != "run":
        raise ValueError(f"{file} holds no checkpoint of a run")
    return content


def check_fits(file: Path, content: dict[str, Any], net: nn.Module, optimisers: Optimisers) -> None:
    """Raise ValueError unless the checkpoint has the tensors of this network and the groups of these optimisers."""
    shapes = [
        {name: tuple(value.shape) for name, value in state.items()} for state in (content["net"], net.state_dict())
    ]
    if shapes[0] != shapes[1]:
        different = sorted(name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name))
        raise ValueError(f"{file} is of another network; they differ in {', '.join(different[:5])}")
    groups = [[len(group["params"]) for group in o["param_groups"]] for o in content["optimisers"]]
    wanted = [[len(group["params"]) for group in o.param_groups] for o in optimisers]
    if groups != wanted:
        raise ValueError(f"{file} is of other optimisers: parameters in their groups {groups}, here {wanted}")
