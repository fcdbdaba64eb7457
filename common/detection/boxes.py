"""Boxes: pixels and activation units, overlap, and non-maximum suppression.

A box is x1, y1, x2, y2, x to the right and y down. Ground truth of a batch is (B, N, 5), the class last, filled up with
rows of -1 where an image has fewer than N objects. Boxes are compared in units of the activation map: its top-left
corner is (0, 0), its bottom-right corner (w_amap, h_amap).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

BLOCK = 32  # boxes that `nms` settles at a time: their overlaps with all others fit into a cache

# Rows ----------------------------------------------------------------------------------------------------------


def checked_boxes(boxes: Any, name: str, shape: str, columns: int = 4) -> Tensor:
    """boxes, if it is a tensor with as many axes as `shape` names and at least so many columns in the last.

    Raises:
        TypeError: not a tensor.
        ValueError: another shape.
    """
    if not isinstance(boxes, Tensor):
        raise TypeError(f"{name} must be a tensor {shape}, got {type(boxes).__name__}")
    if boxes.ndim != shape.count(",") + 1 or boxes.shape[-1] < columns:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(boxes.shape)}")
    return boxes


def checked_share(name: str, value: float) -> float:
    """value, if it is a number from 0 to 1, as thresholds on scores and overlaps are.

    Raises:
        ValueError: it is not.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value}")
    return value


def is_padding(boxes: Tensor) -> Tensor:
    """Which rows (..., 4 or more) are padding: those with -1 in all four coordinates; the result has shape (...).

    One coordinate of -1 is no padding: a box may begin left of the map.
    """
    return (boxes[..., :4] == -1).all(dim=-1)


def is_object(boxes: Tensor) -> Tensor:
    """Which rows (..., 4 or more) are boxes with an area: not padding, x2 > x1 and y2 > y1."""
    return (boxes[..., 2:4] > boxes[..., :2]).all(dim=-1) & ~is_padding(boxes)


def coord_trans(
    bbox: Tensor, w_pixel: Any, h_pixel: Any, w_amap: float = 7, h_amap: float = 7, mode: str = "a2p"
) -> Tensor:
    """Boxes from activation units to pixels, or back: x times w_pixel / w_amap, y times h_pixel / h_amap.

    Args:
        bbox: (B, ..., 4 or more), for example (B, N, 5) or (B, A, H, W, 4). Columns after the fourth (class, score) and
            rows of padding stay as they are.
        w_pixel, h_pixel: (B,) sizes of the images; or one number each, for boxes of a single image.
        w_amap, h_amap: size of the map.
        mode: "a2p" to pixels, "p2a" from pixels.
    Returns:
        A new tensor of the shape of bbox; an empty one comes back as it is.
    Raises:
        TypeError, ValueError: another mode, fewer than four columns, or sizes that are not above 0 or not B of them.
    """
    if mode not in ("a2p", "p2a"):
        raise ValueError(f"mode must be 'a2p' or 'p2a', got {mode!r}")
    if not isinstance(bbox, Tensor) or bbox.ndim < 2 or bbox.shape[-1] < 4:
        raise ValueError(f"bbox must be a tensor (B, ..., 4 or more), got {getattr(bbox, 'shape', type(bbox))}")
    if not bbox.numel():
        return bbox
    bbox = bbox if bbox.is_floating_point() else bbox.float()
    scale = pixels_per_unit(bbox, w_pixel, h_pixel, w_amap, h_amap)  # (B or 1, 1, ..., 4)
    coords = bbox[..., :4] * scale if mode == "a2p" else bbox[..., :4] / scale
    coords = torch.where(is_padding(bbox)[..., None], bbox[..., :4], coords)
    return torch.cat((coords, bbox[..., 4:]), dim=-1)


def pixels_per_unit(bbox: Tensor, w_pixel: Any, h_pixel: Any, w_amap: float, h_amap: float) -> Tensor:
    """The factors of x1, y1, x2, y2 for each image, shaped so that they multiply bbox[..., :4]."""
    w, h = (torch.as_tensor(side, dtype=bbox.dtype, device=bbox.device).reshape(-1) for side in (w_pixel, h_pixel))
    if not (len(w) == len(h) and len(w) in (1, len(bbox)) and min(w.min(), h.min(), w_amap, h_amap) > 0):
        raise ValueError(
            f"w_pixel, h_pixel, w_amap and h_amap must be above 0, one w_pixel and h_pixel for each of {len(bbox)} "
            f"images or one for all, got {w.tolist()}, {h.tolist()}, {w_amap}, {h_amap}"
        )
    x, y = w / w_amap, h / h_amap
    return torch.stack((x, y, x, y), dim=1).view(-1, *[1] * (bbox.ndim - 2), 4)


# Overlap -------------------------------------------------------------------------------------------------------


def IoU(proposals: Tensor, bboxes: Tensor) -> Tensor:
    """Intersection over union of all proposals with all boxes of the same image.

    Args:
        proposals: (B, A, H, W, 4), anchors or what a detector made of them.
        bboxes: (B, N, 4 or more); padding and boxes without area overlap nothing.
    Returns:
        (B, A * H * W, N), from 0 to 1, in the order of proposals.reshape(B, -1, 4).
    Raises:
        TypeError, ValueError: not tensors of these shapes.
    """
    checked_boxes(proposals, "proposals", "(B, A, H, W, 4)")
    checked_boxes(bboxes, "bboxes", "(B, N, 5)")
    if len(proposals) != len(bboxes):
        raise ValueError(f"proposals hold {len(proposals)} images and bboxes {len(bboxes)}; as many are needed")
    return pairwise_iou(proposals.flatten(1, 3), bboxes)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every box of a with every box of b.

    Args:
        a: (..., P, 4 or more).
        b: (..., Q, 4 or more).
    Returns:
        (..., P, Q) from 0 to 1; 0 wherever a box has no area.
    """
    a, b = (boxes if boxes.is_floating_point() else boxes.float() for boxes in (a, b))
    ax1, ay1, ax2, ay2 = a[..., :4, None].unbind(dim=-2)  # (..., P, 1)
    columns = b[..., :4].transpose(-1, -2).contiguous()  # (..., 4, Q): computed several at a time
    bx1, by1, bx2, by2 = columns[..., None, :].unbind(dim=-3)  # (..., 1, Q)
    w = torch.minimum(ax2, bx2).sub_(torch.maximum(ax1, bx1)).clamp_(min=0)  # (..., P, Q)
    h = torch.minimum(ay2, by2).sub_(torch.maximum(ay1, by1)).clamp_(min=0)
    shared = w * h
    union = (area(ax1, ay1, ax2, ay2) + area(bx1, by1, bx2, by2)).sub_(shared)
    return shared / union.clamp_(min=torch.finfo(union.dtype).tiny)  # 0 / 0 would be NaN


def area(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> Tensor:
    """Width times height, 0 for a box that ends before it begins."""
    return (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)


# Non-maximum suppression ---------------------------------------------------------------------------------------


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float = 0.5, topk: int | None = None) -> Tensor:
    """Keep the box with the highest score, drop what overlaps it by more than iou_threshold, and go on with the rest.

    Args:
        boxes: (N, 4).
        scores: (N,) or (N, 1).
        iou_threshold: from 0 to 1.
        topk: at most so many are kept; None = all.
    Returns:
        int64 indices of the kept boxes, highest score first, on the device of boxes; of equal scores the first leads.
    Raises:
        TypeError, ValueError: not tensors of these shapes, or a threshold or topk that makes no sense.
    """
    checked_boxes(boxes, "boxes", "(N, 4)")
    checked_share("iou_threshold", iou_threshold)
    if scores.numel() != len(boxes) or (topk is not None and topk < 0):
        raise ValueError(
            f"scores for {len(boxes)} boxes and a topk of at least 0 are needed, got {tuple(scores.shape)} and {topk}"
        )
    boxes = boxes if boxes.is_floating_point() else boxes.float()
    limit, kept = rounded_down(iou_threshold, boxes), []
    left = scores.flatten().argsort(descending=True, stable=True)
    while len(left):
        block, left = left[:BLOCK], left[BLOCK:]
        block = block[greedy(pairwise_iou(boxes[block], boxes[block]) > limit)]
        kept.append(block)
        left = left[~(pairwise_iou(boxes[block], boxes[left]) > limit).any(dim=0)]
    return torch.cat(kept)[:topk] if kept else torch.zeros(0, dtype=torch.int64, device=boxes.device)


def rounded_down(value: float, like: Tensor) -> Tensor:
    """The largest number of the precision of `like` that is at most value.

    An overlap is above it just when it is above value itself. Rounding to nearest would not do: 0.3 becomes more than
    0.3 in single precision, and torchvision compares in double.
    """
    near = like.new_tensor(value)
    return near if near.item() <= value else torch.nextafter(near, torch.zeros_like(near))


def greedy(overlaps: Tensor) -> Tensor:
    """Which boxes survive, where each survivor removes the later ones that it overlaps.

    Args:
        overlaps: (N, N), True where two boxes overlap too much; highest score first.
    Returns:
        (N,) bool.
    """
    removes = overlaps.triu(diagonal=1).cpu().numpy()  # row i: the later boxes that i removes if it survives
    removed = np.zeros(len(removes), dtype=bool)
    for i, row in enumerate(removes):
        if not removed[i]:
            removed |= row
    return torch.from_numpy(~removed).to(overlaps.device)
