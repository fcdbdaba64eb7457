"""Anchors: boxes of fixed sizes at every cell of the feature map, and the four numbers that move one onto an object.

Cell (row i, column j) of a map of H rows and W columns has its centre at x = j + 0.5, y = i + 0.5. Tables over anchors
have the axes (B, A, H, W, ...), and an anchor's index is its place in them flattened: ((b * A + a) * H + i) * W + j.
"""

from __future__ import annotations

import torch
from torch import Tensor

from common.detection.boxes import checked_boxes
from common.validate import checked_sizes

METHODS = ("YOLO", "FasterRCNN")
ANCHORS = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (2, 3), (3, 2), (3, 5), (5, 3))  # (width, height) in cells


def checked_method(method: str) -> str:
    """method, if it is "YOLO" or "FasterRCNN".

    Raises:
        ValueError: it is not.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    return method


def GenerateGrid(
    batch_size: int,
    w_amap: int = 7,
    h_amap: int = 7,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The centre of every cell.

    Args:
        batch_size: B.
        w_amap, h_amap: columns and rows of the map.
        dtype, device: of the result.
    Returns:
        (B, H, W, 2): x and y.
    Raises:
        TypeError, ValueError: a size that is not a whole number of at least 1.
    """
    checked_sizes(batch_size=batch_size, w_amap=w_amap, h_amap=h_amap)
    x = torch.arange(w_amap, dtype=dtype, device=device) + 0.5  # (W,)
    y = torch.arange(h_amap, dtype=dtype, device=device) + 0.5  # (H,)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)  # (H, W, 2)
    return grid.repeat(batch_size, 1, 1, 1)


def GenerateAnchor(anc: Tensor, grid: Tensor) -> Tensor:
    """Boxes of A sizes around every centre: centre -/+ size / 2.

    Args:
        anc: (A, 2) widths and heights in cells.
        grid: (B, H, W, 2) centres of `GenerateGrid`.
    Returns:
        (B, A, H, W, 4).
    Raises:
        TypeError, ValueError: not tensors of these shapes.
    """
    checked_boxes(anc, "anc", "(A, 2)", columns=2)
    checked_boxes(grid, "grid", "(B, H, W, 2)", columns=2)
    half = anc.to(grid)[:, None, None] / 2  # (A, 1, 1, 2)
    centres = grid[:, None]  # (B, 1, H, W, 2)
    return torch.cat((centres - half, centres + half), dim=-1)


def centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (..., 4 or more) as centres (..., 2) and widths and heights (..., 2)."""
    first, last = boxes[..., :2], boxes[..., 2:4]
    return (first + last) / 2, last - first


def GenerateProposal(anchors: Tensor, offsets: Tensor, method: str = "YOLO") -> Tensor:
    """Anchors moved and stretched by offsets.

    The width and the height of an anchor are multiplied by exp(tw) and exp(th). Its centre moves by tx, ty cells with
    "YOLO" (Redmon et al., 2016), and by tx widths and ty heights of the anchor with "FasterRCNN" (Ren et al., 2015).

    Args:
        anchors: (..., 4), for example (B, A, H, W, 4).
        offsets: (..., 4): tx, ty, tw, th.
        method: "YOLO" or "FasterRCNN".
    Returns:
        Boxes of the same shape; gradients reach anchors and offsets, which are not changed.
    Raises:
        ValueError: another method, or shapes that differ.
    """
    checked_method(method)
    if anchors.shape[-1:] != (4,) or offsets.shape[-1:] != (4,) or anchors.shape != offsets.shape:
        raise ValueError(
            f"anchors and offsets must have one shape (..., 4), got {tuple(anchors.shape)} and {tuple(offsets.shape)}"
        )
    centre, size = centre_and_size(anchors)
    shift, stretch = offsets[..., :2], offsets[..., 2:]
    centre = centre + (shift if method == "YOLO" else shift * size)
    half = size * stretch.exp() / 2
    return torch.cat((centre - half, centre + half), dim=-1)


def encode_offsets(anchors: Tensor, boxes: Tensor, method: str = "YOLO") -> Tensor:
    """The offsets with which `GenerateProposal` makes these boxes of these anchors: its inverse.

    Args:
        anchors, boxes: (..., 4), with areas.
        method: "YOLO" or "FasterRCNN".
    Returns:
        (..., 4): tx, ty, tw, th.
    Raises:
        ValueError: another method.
    """
    checked_method(method)
    (from_centre, from_size), (to_centre, to_size) = centre_and_size(anchors), centre_and_size(boxes)
    shift = to_centre - from_centre
    if method == "FasterRCNN":
        shift = shift / from_size
    return torch.cat((shift, torch.log(to_size / from_size)), dim=-1)
