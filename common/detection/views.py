"""Training pictures of a detector as stored maps with boxes, in one or several versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.data.voc import VOC2007, pad_boxes
from common.detection.boxes import is_object
from common.detection.features import cached_maps
from common.detection.head import mirror_boxes
from common.vision.backbone import Backbone


@dataclass
class View:
    """Stored maps of N pictures, and what the pictures show.

    Attributes:
        maps: as in `detect`.
        boxes: (N, M, 5) x1, y1, x2, y2, class in pixels, filled up with rows of -1.
        difficult: (N, M) bool.
    """

    maps: Sequence[Tensor]
    boxes: Tensor
    difficult: Tensor


def voc_view(
    data: VOC2007,
    folder: str | Path,
    backbone: Backbone,
    size: int = 320,
    layers: Sequence[str] = ("blocks.4", "head"),
    *,
    mirror: bool = False,
    bf16: bool = False,
) -> View:
    """Maps and boxes of a split of VOC, squashed to a square; the maps are computed once and kept.

    Args:
        data: the split.
        folder: for the files of maps, one folder for each split, size and version.
        backbone: of `load_backbone`.
        size: pixels of a side.
        layers: maps to keep, with strides of 16 and then 32 pixels for a head without a tail. A picture of 320 pixels
            takes 90 kB for "blocks.4", 64 kB for "blocks.6" and 256 kB for "head".
        mirror: exchange left and right of pictures and boxes.
        bf16: as in `cached_maps`.
    Returns:
        The maps in the order of layers, boxes in pixels of the square, and the flags.
    Raises:
        TypeError, ValueError, OSError: as `cached_maps` and `VOC2007.batch`.
    """

    def pictures(rows: Sequence[int]) -> np.ndarray:
        images = data.batch(rows, size).images
        return np.ascontiguousarray(images[:, :, ::-1]) if mirror else images

    maps = cached_maps(folder, pictures, len(data), backbone, layers, bf16=bf16)
    boxes, difficult = (torch.from_numpy(part) for part in pad_boxes(data.annotations))
    sides = torch.tensor([[told.width, told.height] * 2 for told in data.annotations])  # (N, 4)
    return View([maps[layer] for layer in layers], to_square(boxes, sides, size, mirror), difficult)


def to_square(boxes: Tensor, sides: Tensor, size: int, mirror: bool = False) -> Tensor:
    """Boxes of VOC, whose pixels count from 1, in pixels of a squashed picture, which count from 0.

    Args:
        boxes: (N, M, 5) as of `VOC2007`, with rows of -1.
        sides: (N, 4) width, height, width, height of the pictures.
        size: pixels of a side of the square.
        mirror: exchange left and right.
    Returns:
        (N, M, 5); rows of -1 stay.
    """
    coords = (boxes[..., :4] - boxes.new_tensor([1, 1, 0, 0])) * size / sides[:, None]
    coords = mirror_boxes(coords, size) if mirror else coords
    return torch.where(is_object(boxes)[..., None], torch.cat([coords, boxes[..., 4:]], dim=-1), boxes)


def ground_truth(view: View) -> list[Tensor]:
    """For each picture (M, 6), x1, y1, x2, y2, class, difficult, as `evaluate_detections` takes it."""
    return [
        torch.cat([boxes, hard[:, None].float()], dim=1)[is_object(boxes)]
        for boxes, hard in zip(view.boxes, view.difficult, strict=True)
    ]


def checked_views(views: Sequence[View]) -> int:
    """The number of pictures, if all views have as many maps, boxes and flags.

    Raises:
        ValueError: they do not.
    """
    counts = {len(part) for view in views for part in (*view.maps, view.boxes, view.difficult)}  # N
    widths = {part.shape[1] for view in views for part in (view.boxes, view.difficult)}  # M
    if len(counts) != 1 or len(widths) != 1:
        found = f"{sorted(counts)} pictures with {sorted(widths)} rows for boxes" if views else "no views"
        raise ValueError(f"views must hold equally many maps, boxes and flags, got {found}")
    return len(views[0].boxes)


def batch_of(views: Sequence[View], version: np.ndarray, chosen: np.ndarray) -> View:
    """Some pictures, each in its version; columns without any object are cut."""
    picked = [(views[v], i) for v, i in zip(version, chosen, strict=True)]
    maps = [torch.stack([view.maps[k][i] for view, i in picked]) for k in range(len(views[0].maps))]
    boxes, difficult = torch.stack([v.boxes[i] for v, i in picked]), torch.stack([v.difficult[i] for v, i in picked])
    used = is_object(boxes).any(dim=0)
    used[0] = True  # without any object one column stays
    maps = [part.contiguous(memory_format=torch.channels_last) for part in maps]
    return View(maps, boxes[:, used], difficult[:, used])
