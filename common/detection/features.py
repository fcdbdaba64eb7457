"""Feature maps of a frozen backbone, computed once and kept on the disk.

A frozen network gives the same maps for the same pictures in every epoch, so training a detector on stored maps skips
by far the largest part of the work. The maps lie in a folder of HDF5 files with some hundred pictures each. Every
file appears whole or not at all, so a run that was interrupted goes on after the last complete file.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from common.data.files import exclusive
from common.progress import progress
from common.pytorch.training import autocast
from common.storage import atomic_write
from common.validate import checked_count, checked_sizes
from common.vision.backbone import Backbone

KEY = "fingerprint"
PATIENCE = 3600.0  # seconds for which one waits for another process that computes the same maps
Pictures = Callable[[Sequence[int]], np.ndarray]


def cached_maps(
    folder: str | Path,
    pictures: Pictures,
    count: int,
    backbone: Backbone,
    layers: Sequence[str] = ("blocks.6",),
    *,
    batch_size: int = 16,
    rows: int = 256,
    bf16: bool = False,
) -> dict[str, Tensor]:
    """Feature maps of pictures: read where they are stored, computed and stored where not.

    A stored file is used only if it was made by the same weights, layers and precision from the same number of
    pictures of the same size, of which the first one in the file shows the same; otherwise it is made anew.

    Args:
        folder: where the files lie; made if missing. One folder holds the maps of one list of pictures.
        pictures: pictures(rows) gives some of them, uint8 (n, H, W, 3), for example
            `lambda rows: data.batch(rows, 320).images`. All must have the same size.
        count: how many pictures there are, N.
        backbone: of `load_backbone`.
        layers: names of its maps, for example ("blocks.4", "blocks.6").
        batch_size: pictures at a time.
        rows: pictures a file.
        bf16: compute in bfloat16, about twice as fast on processors with units for it, and with about 2 digits less.
    Returns:
        For each layer a float16 tensor (N, C, h, w), stored with the channels last.
    Raises:
        ValueError: no layers, an unknown one, a number below 1, or pictures that are not uint8 (n, H, W, 3).
        TypeError: a number is not an integer, or pictures is no function.
        OSError: the files cannot be written.
    """
    checked_sizes(batch_size=batch_size, rows=rows, count=count)
    if not callable(pictures):
        raise TypeError(f"pictures must be a function of row numbers, got {type(pictures).__name__}")
    layers = [backbone.layers[backbone.index(layer)] for layer in layers]
    if not layers:
        raise ValueError("layers is empty; name at least one")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights, found = weights_digest(backbone, layers), []
    with exclusive(folder / ".maps.filelock", PATIENCE):  # of several processes one computes, the others wait and read
        for start in progress(range(0, count, rows), desc="feature maps", unit="file", disable=count <= rows):
            part = range(start, min(start + rows, count))
            first = checked_pictures(pictures([start]), 1)
            key = fingerprint(weights, layers, bf16, count, part, first)
            path = folder / f"{start // rows:04d}.h5"
            maps = read_maps(path, key, layers)
            if maps is None:
                maps = compute_maps(pictures, part, backbone, layers, batch_size, bf16)
                write_maps(path, key, maps)
            found.append(maps)
    return {layer: _joined([maps[layer] for maps in found]) for layer in layers}


def compute_maps(
    pictures: Pictures, part: Sequence[int], backbone: Backbone, layers: Sequence[str], batch_size: int, bf16: bool
) -> dict[str, np.ndarray]:
    """Maps of some pictures, for each layer float16 (n, h, w, C)."""
    maps = {layer: [] for layer in layers}
    for start in range(0, len(part), batch_size):
        chosen = part[start : start + batch_size]
        images = torch.from_numpy(checked_pictures(pictures(chosen), len(chosen))).permute(0, 3, 1, 2)
        for layer, values in all_maps(backbone, backbone.normalise(images), layers, bf16).items():
            maps[layer].append(values.permute(0, 2, 3, 1).half().cpu().numpy())
    return {layer: np.concatenate(parts) for layer, parts in maps.items()}


@torch.no_grad()
def all_maps(backbone: Backbone, X: Tensor, layers: Sequence[str], bf16: bool = False) -> dict[str, Tensor]:
    """Several maps of the same pictures, in one pass through the network.

    Args:
        backbone: of `load_backbone`.
        X: (N, 3, H, W) normalised pictures.
        layers: names of maps.
        bf16: products in bfloat16.
    Returns:
        For each layer float32 (N, C, h, w).
    """
    maps, x = {}, X.contiguous(memory_format=torch.channels_last)
    with autocast(X.device, bf16):
        for name, stage in zip(backbone.layers, backbone.stages, strict=True):
            x = stage(x)
            if name in layers:
                maps[name] = x.float()
            if len(maps) == len(set(layers)):
                break
    return maps


# Files ---------------------------------------------------------------------------------------------------------


def weights_digest(backbone: Backbone, layers: Sequence[str]) -> str:
    """A checksum of the normalisation, and of all weights up to the last of the layers."""
    digest = hashlib.sha256(repr(type(backbone)).encode())
    last = max(backbone.index(layer) for layer in layers)
    state = backbone.stages[: last + 1].state_dict() | {"mean": backbone.mean, "std": backbone.std}
    for name, value in state.items():
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def fingerprint(
    weights: str, layers: Sequence[str], bf16: bool, count: int, part: Sequence[int], first: np.ndarray
) -> str:
    """What a stored file must have been made from, as text."""
    shown = hashlib.sha256(np.ascontiguousarray(first).tobytes()).hexdigest()
    made_from = {"weights": weights, "layers": list(layers), "bf16": bf16, "count": count, "shape": first.shape[1:]}
    return json.dumps(made_from | {"rows": [part[0], part[-1]], "first": shown})


def read_maps(path: Path, key: str, layers: Sequence[str]) -> dict[str, np.ndarray] | None:
    """The maps in a file, or None if there is none, it is damaged, or it was made from something else."""
    if not path.is_file():
        return None
    try:
        with h5py.File(path, "r") as file:
            return {layer: file[layer][:] for layer in layers} if file.attrs.get(KEY) == key else None
    except (OSError, KeyError):
        return None


def write_maps(path: Path, key: str, maps: dict[str, np.ndarray]) -> None:
    """Write a file of maps whole or not at all; one chunk holds one picture."""
    with tempfile.TemporaryFile() as draft:
        with h5py.File(draft, "w") as file:
            for layer, values in maps.items():
                file.create_dataset(layer, data=values, chunks=(1, *values.shape[1:]))
            file.attrs[KEY] = key
        draft.seek(0)
        with atomic_write(path) as target:
            target.write(draft.read())


def checked_pictures(images: np.ndarray, count: int) -> np.ndarray:
    """images, if they are count pictures, uint8 (count, H, W, 3).

    Raises:
        ValueError: they are not.
    """
    checked_count("count", count)
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or len(images) != count:
        raise ValueError(f"pictures must give uint8 ({count}, H, W, 3), got {images.dtype} {images.shape}")
    return images


def _joined(parts: list[np.ndarray]) -> Tensor:
    """Parts (n, h, w, C) as one tensor (N, C, h, w) whose channels stay side by side in memory."""
    return torch.from_numpy(np.concatenate(parts)).permute(0, 3, 1, 2)
