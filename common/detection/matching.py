"""Which anchors should see which object: positives, negatives, and what a detector should predict for each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from common.detection.anchors import centre_and_size, checked_method, encode_offsets
from common.detection.boxes import checked_boxes, checked_share, is_object
from common.validate import Stream, stream

Matches = tuple[Tensor, Tensor]  # (M,) indices of anchors over the batch, and (M,) of the objects: b * N + n


def ReferenceOnActivatedAnchors(
    anchors: Tensor,
    bboxes: Tensor,
    grid: Tensor,
    iou_mat: Tensor,
    pos_thresh: float = 0.7,
    neg_thresh: float = 0.3,
    method: str = "FasterRCNN",
    rng: Stream = None,
) -> tuple[Tensor, ...]:
    """Positive anchors with their targets, and as many negative ones, drawn with replacement.

    Rows of padding and boxes without area take no part. Without an object in the batch M is 0; without an anchor that
    may be negative there are no negatives.

    Args:
        anchors: (B, A, H, W, 4).
        bboxes: (B, N, 5) objects in units of the map, the class last.
        grid: (B, H, W, 2) centres of the cells.
        iou_mat: (B, A * H * W, N), as from `IoU`.
        pos_thresh: with "FasterRCNN", an anchor that overlaps an object by more is positive.
        neg_thresh: an anchor is negative if it is not positive and overlaps every object by less.
        method: "YOLO" (see `match_yolo`) or "FasterRCNN" (see `match_faster_rcnn`).
        rng: seed or RandomState for the draw of negatives; None = PyTorch's global stream.
    Returns:
        Indices of the M positive anchors, int64; of M negative ones, int64; the IoU of each positive with its object
        (M,); its offsets (M, 4), its class (M,) int64, its box (M, 4); and the boxes of the negatives (M, 4).
    Raises:
        TypeError, ValueError: another method, thresholds outside [0, 1], shapes that do not fit, or (YOLO) an object
            whose centre lies outside the map.
    """
    checked_method(method)
    checked_share("pos_thresh", pos_thresh)
    checked_share("neg_thresh", neg_thresh)
    checked_batch(anchors, bboxes, grid, iou_mat)
    real = is_object(bboxes)  # (B, N)
    iou = torch.where(real[:, None], iou_mat, 0)  # (B, A * H * W, N)
    if method == "YOLO":
        positive, which = match_yolo(bboxes, grid, iou, real)
    else:
        positive, which = match_faster_rcnn(iou, pos_thresh)
    negative = sample_negatives(iou, positive, neg_thresh, rng)
    boxes, flat = bboxes.flatten(0, 1)[which], anchors.reshape(-1, 4)  # (M, 5), (B * A * H * W, 4)
    conf = iou.flatten(0, 1)[positive, which % max(bboxes.shape[1], 1)]
    offsets = encode_offsets(flat[positive], boxes[:, :4], method)
    return positive, negative, conf, offsets, boxes[:, 4].long(), flat[positive], flat[negative]


def checked_batch(anchors: Tensor, bboxes: Tensor, grid: Tensor, iou_mat: Tensor) -> None:
    """The four tables are about the same images, anchors and objects.

    Raises:
        TypeError, ValueError: they are not.
    """
    checked_boxes(anchors, "anchors", "(B, A, H, W, 4)")
    checked_boxes(bboxes, "bboxes", "(B, N, 5)", columns=5)
    B, A, H, W, _ = anchors.shape
    wanted = {"grid": (B, H, W, 2), "iou_mat": (B, A * H * W, bboxes.shape[1])}
    got = {"grid": tuple(grid.shape), "iou_mat": tuple(iou_mat.shape)}
    if got != wanted or len(bboxes) != B:
        raise ValueError(f"anchors {tuple(anchors.shape)} and bboxes {tuple(bboxes.shape)} need {wanted}, got {got}")


def match_yolo(bboxes: Tensor, grid: Tensor, iou: Tensor, real: Tensor) -> Matches:
    """For each object the cell whose centre is nearest, and in this cell the anchor that overlaps the object most.

    The distance is |dx| + |dy|. One anchor may be matched with several objects, and then comes several times.

    Args:
        bboxes: (B, N, 5).
        grid: (B, H, W, 2).
        iou: (B, A * H * W, N).
        real: (B, N), True for objects, False for padding.
    Returns:
        Indices of anchors and of objects, (M,) each, in the order of the anchors.
    Raises:
        ValueError: an object whose centre lies outside the map, where no cell can reach it.
    """
    (B, H, W, _), (_, count, N) = grid.shape, iou.shape
    A = count // (H * W)
    centres, _ = centre_and_size(bboxes)  # (B, N, 2)
    distance = (grid.reshape(B, H * W, 1, 2) - centres[:, None]).abs()  # (B, H * W, N, 2)
    cell = distance.sum(dim=-1).argmin(dim=1)  # (B, N)
    checked_centres(centres[real], H, W)
    in_cell = iou.reshape(B, A, H * W, N).gather(2, cell[:, None, None].expand(B, A, 1, N))
    anchor = in_cell.squeeze(2).argmax(dim=1)  # (B, N)
    image = torch.arange(B, device=cell.device)[:, None]
    index = image * count + anchor * H * W + cell  # (B, N)
    which = real.flatten().nonzero().squeeze(1)  # (M,)
    positive, order = index.flatten()[which].sort(stable=True)
    return positive, which[order]


def checked_centres(centres: Tensor, H: int, W: int) -> None:
    """Centres (M, 2) lie in a map of H rows and W columns.

    Raises:
        ValueError: one does not.
    """
    outside = (centres < 0) | (centres > centres.new_tensor((W, H)))
    if outside.any():
        x, y = centres[outside.any(dim=1)][0].tolist()
        raise ValueError(f"bboxes holds a box with its centre at ({x:g}, {y:g}), outside the map of {W} x {H} cells")


def match_faster_rcnn(iou: Tensor, pos_thresh: float) -> Matches:
    """Every anchor that overlaps some object by more than pos_thresh, or more than any other anchor does (ties too).

    Each takes the object that it overlaps most.

    Args:
        iou: (B, A * H * W, N), 0 for padding.
        pos_thresh: from 0 to 1.
    Returns:
        Indices of anchors and of objects, (M,) each, in the order of the anchors.
    """
    _, count, N = iou.shape
    if not N:
        none = torch.zeros(0, dtype=torch.int64, device=iou.device)
        return none, none
    best_of_box = iou.amax(dim=1, keepdim=True)  # (B, 1, N)
    active = ((iou == best_of_box) & (iou > 0)) | (iou > pos_thresh)  # (B, A * H * W, N)
    positive = active.any(dim=2).flatten().nonzero().squeeze(1)  # (M,)
    box = iou.argmax(dim=2).flatten()[positive]
    return positive, positive // count * N + box


def sample_negatives(iou: Tensor, positive: Tensor, neg_thresh: float, rng: Stream = None) -> Tensor:
    """As many negatives as positives, drawn with replacement; none if no anchor may be negative.

    Args:
        iou: (B, A * H * W, N).
        positive: (M,) indices of the positive anchors, which are never negative, however little they overlap.
        neg_thresh: negatives overlap every object by less.
        rng: seed or RandomState; None = PyTorch's global stream.
    Returns:
        int64 indices, (M,) or (0,).
    """
    allowed = (iou < neg_thresh).all(dim=2).flatten()
    allowed[positive] = False
    candidates = allowed.nonzero().squeeze(1)
    if not len(candidates):
        return candidates
    if rng is None:
        draw = torch.randint(len(candidates), positive.shape, device=candidates.device)
    else:
        draw = torch.from_numpy(stream(rng).randint(len(candidates), size=len(positive), dtype=np.int64))
    return candidates[draw.to(candidates.device)]
