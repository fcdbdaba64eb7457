"""A modern second stage: what the one-stage head proposes is looked at again, box by box.

For each proposal RoIAlign (He et al., 2017) cuts a 7 x 7 patch out of the pyramid map that suits its size. Two layers
then say which class it is, or background, and how to correct the box. That is the second stage of Faster R-CNN (Ren et
al., 2015) with what the course's version leaves out. Scores of both stages are combined (Zhou et al., 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from common.detection.boxes import checked_share, is_object, pairwise_iou
from common.detection.head import STRIDES, OneStageHead, suppress
from common.detection.training import Average, one_cycle
from common.detection.views import View, batch_of, checked_views
from common.progress import progress
from common.pytorch.training import autocast, clocks, set_rates
from common.validate import checked_count, checked_sizes

SPREAD = (0.1, 0.1, 0.2, 0.2)  # typical corrections, in units of which they are learnt (Girshick, Fast R-CNN, 2015)
FINEST = 112.0  # pixels; boxes with sides up to twice this are cut from the finest map, up to 4 times from the next
LARGEST = 4.0  # limit on the logarithm of a factor on width or height


class SecondStage(nn.Module):
    """Class scores, background first, and corrections for boxes.

    Attributes:
        num_classes: C.
        size: cells of a side of the patches.
    """

    def __init__(
        self, dim: int = 128, num_classes: int = 20, hidden_dim: int = 256, size: int = 7, *, seed: int | None = None
    ):
        """Draw the weights.

        Args:
            dim: channels of the maps, the width of the one-stage head.
            num_classes: C.
            hidden_dim: units of each of the two hidden layers.
            size: cells of a side of the patches.
            seed: of the weights; None = PyTorch's global stream.
        Raises:
            TypeError, ValueError: a number is not a whole one of at least 1.
        """
        super().__init__()
        checked_sizes(dim=dim, num_classes=num_classes, hidden_dim=hidden_dim, size=size)
        self.num_classes, self.size = num_classes, size
        with torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self.hidden = nn.Sequential(
                nn.Flatten(),
                nn.Linear(dim * size * size, hidden_dim), nn.ReLU(inplace=True),
                nn.Linear(hidden_dim, hidden_dim), nn.ReLU(inplace=True),
            )  # fmt: skip
            self.to_scores, self.to_deltas = nn.Linear(hidden_dim, num_classes + 1), nn.Linear(hidden_dim, 4)
            for layer, std in ((self.to_scores, 0.01), (self.to_deltas, 0.001)):
                nn.init.normal_(layer.weight, std=std)
                nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor], proposals: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Scores and corrections for the proposals of all pictures, one picture after the other.

        Args:
            maps: of `OneStageHead.pyramid`, (B, dim, ., .) of strides 16, 32 and 64.
            proposals: for each picture (K, 4), x1, y1, x2, y2 in pixels.
        Returns:
            (M, 1 + C) before the softmax, background first, and (M, 4), float32; M is the sum of all K.
        """
        h = self.hidden(patches(maps, proposals, self.size))
        return self.to_scores(h).float(), self.to_deltas(h).float()


def patches(maps: Sequence[Tensor], proposals: Sequence[Tensor], size: int = 7) -> Tensor:
    """A patch (dim, size, size) for each proposal, cut from the map that suits the size of its box.

    Args:
        maps, proposals: as in `SecondStage.forward`.
        size: cells of a side.
    Returns:
        (M, dim, size, size) in the order of the proposals, float32.
    """
    boxes = torch.cat(list(proposals))
    picture = torch.repeat_interleave(torch.tensor([len(p) for p in proposals], device=boxes.device))
    rois = torch.cat([picture[:, None].to(boxes), boxes], dim=1)  # (M, 5)
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1).prod(dim=1).sqrt()
    level = (sides / FINEST).log2().floor().clamp(0, len(maps) - 1)
    cut = boxes.new_zeros(len(boxes), maps[0].shape[1], size, size)
    for k, (values, stride) in enumerate(zip(maps, STRIDES, strict=True)):
        mine = level == k
        cut[mine] = roi_align(values.float(), rois[mine], size, 1 / stride, sampling_ratio=2, aligned=True)
    return cut


def encode(boxes: Tensor, proposals: Tensor) -> Tensor:
    """Corrections (M, 4) that turn proposals (M, 4) into boxes (M, 4): shifts and logarithms of factors."""
    (x, y, w, h), (px, py, pw, ph) = _middle_and_size(boxes), _middle_and_size(proposals)
    deltas = torch.stack([(x - px) / pw, (y - py) / ph, (w / pw).log(), (h / ph).log()], dim=-1)
    return deltas / deltas.new_tensor(SPREAD)


def decode(deltas: Tensor, proposals: Tensor) -> Tensor:
    """Boxes (M, 4) that corrections (M, 4) make of proposals (M, 4); the inverse of `encode`."""
    px, py, pw, ph = _middle_and_size(proposals)
    dx, dy, dw, dh = (deltas * deltas.new_tensor(SPREAD)).unbind(dim=-1)
    x, y = px + dx * pw, py + dy * ph
    w, h = pw * dw.clamp(max=LARGEST).exp(), ph * dh.clamp(max=LARGEST).exp()
    return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dim=-1)


def _middle_and_size(boxes: Tensor) -> tuple[Tensor, ...]:
    x1, y1, x2, y2 = boxes.unbind(dim=-1)
    return (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1).clamp(min=1e-3), (y2 - y1).clamp(min=1e-3)


@torch.no_grad()
def propose(
    head: OneStageHead, maps: Sequence[Tensor], size: tuple[int, int], most: int = 100, nms_thresh: float = 0.7
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The most promising boxes of the first stage, whatever their class.

    Args:
        head: the first stage, in evaluation mode.
        maps: as in `detect`, float32.
        size: width and height of the pictures in pixels.
        most: proposals a picture.
        nms_thresh: of two that overlap by more, the less promising one is dropped.
    Returns:
        The pyramid maps, for each picture the proposals (K, 4), and their class scores (K, C) from 0 to 1.
    """
    pyramid = head.pyramid(*maps)
    out = head.predict(pyramid)
    scores = (out.scores.sigmoid() * out.centre.sigmoid()[..., None]).sqrt()  # (B, P, C)
    boxes = torch.minimum(out.boxes.clamp(min=0), out.boxes.new_tensor([*size, *size]))
    proposals, classes = [], []
    for s, b in zip(scores, boxes, strict=True):
        best, order = s.amax(dim=1).topk(min(10 * most, len(s)))
        kept = order[nms(b[order], best, nms_thresh)[:most]]
        kept = kept[((b[kept, 2:] - b[kept, :2]) > 1).all(dim=1)]
        proposals.append(b[kept])
        classes.append(s[kept])
    return pyramid, proposals, classes


def sample(
    proposals: Tensor, boxes: Tensor, difficult: Tensor, rng: np.random.RandomState, count: int = 64
) -> tuple[Tensor, Tensor, Tensor]:
    """Proposals of one picture to learn from, and what they should become.

    Args:
        proposals: (K, 4).
        boxes: (N, 5) with rows of -1. They are added to the proposals, so that some of these are right.
        difficult: (N,) bool; proposals that overlap a difficult object by 0.5 or more and no other are left out.
        rng: draws the sample.
        count: at most so many, at most half of them with an object, if there are others.
    Returns:
        proposals (K', 4), labels (K',) with 0 for background and 1 + class, and the boxes to become (K', 4).
    """
    true = is_object(boxes)
    boxes, difficult = boxes[true], difficult[true]
    every = torch.cat([proposals, boxes[~difficult, :4]])
    if not len(boxes):
        labels, aims = torch.zeros(len(every), dtype=torch.long), every
    else:
        overlap = pairwise_iou(every, boxes)
        easy, object_ = overlap.masked_fill(difficult, -1).max(dim=1)
        labels = torch.where(easy >= 0.5, boxes[object_, 4].long() + 1, 0)
        labels[(easy < 0.5) & (overlap.amax(dim=1) >= 0.5)] = -1  # difficult
        aims = boxes[object_, :4]
    positive, negative = ((labels > 0).nonzero()[:, 0], (labels == 0).nonzero()[:, 0])
    positive = positive[rng.permutation(len(positive))[: max(count // 2, count - len(negative))]]
    negative = negative[rng.permutation(len(negative))[: count - len(positive)]]
    chosen = torch.cat([positive, negative])
    return every[chosen], labels[chosen], aims[chosen]


def second_stage_loss(
    scores: Tensor, deltas: Tensor, proposals: Tensor, labels: Tensor, aims: Tensor
) -> dict[str, Tensor]:
    """Cross entropy of the classes, and smooth L1 of the corrections of those that show an object.

    Args:
        scores, deltas: of `SecondStage`, (M, 1 + C) and (M, 4).
        proposals, labels, aims: of `sample`, for all pictures.
    Returns:
        "classes", mean over M; "boxes", sum over the objects divided by M; "total". All 0 if M is 0.
    """
    count, object_ = max(len(labels), 1), labels > 0
    classes = nn.functional.cross_entropy(scores, labels, reduction="sum") / count
    wanted = encode(aims[object_], proposals[object_])
    boxes = nn.functional.smooth_l1_loss(deltas[object_], wanted, reduction="sum", beta=1.0) / count
    return {"classes": classes, "boxes": boxes, "total": classes + boxes}


def train_second_stage(
    stage: SecondStage,
    head: OneStageHead,
    views: Sequence[View],
    size: tuple[int, int],
    *,
    epochs: int = 6,
    batch_size: int = 16,
    rate: float = 1e-3,
    decay: float = 0.05,
    clip: float = 10.0,
    seed: int = 0,
    bf16: bool | None = None,
) -> tuple[SecondStage, dict[str, list[float]]]:
    """Train the second stage on proposals of a first stage that stays as it is.

    Args:
        stage: trained in place, on the device where it is.
        head: the first stage, trained, on the same device.
        views, epochs, batch_size, rate, decay, clip, seed, bf16: as in `train_head`.
        size: width and height of the pictures in pixels.
    Returns:
        The stage with averaged weights, and the history: "classes", "boxes", "total", "seconds" and "cpu_seconds", a
        value an epoch.
    Raises:
        ValueError: as `train_head`.
    """
    checked_sizes(epochs=epochs, batch_size=batch_size)
    count = checked_views(views)
    checked_count("batch_size", batch_size, 1, count)
    rng, per_epoch, average = np.random.RandomState(seed), count // batch_size, Average(stage)
    optimiser = torch.optim.AdamW(stage.parameters(), lr=rate, weight_decay=decay)
    history: dict[str, list[float]] = {"seconds": [], "cpu_seconds": []}
    started, steps = clocks(), epochs * per_epoch
    head.eval()
    with progress(total=steps, desc="second stage") as bar:
        for epoch in range(epochs):
            order, version, losses = rng.permutation(count), rng.randint(len(views), size=count), []
            for step in range(per_epoch):
                chosen = order[step * batch_size : (step + 1) * batch_size]
                set_rates([optimiser], one_cycle((epoch * per_epoch + step) / steps))
                batch = batch_of(views, version[chosen], chosen)
                losses.append(_step(stage, head, optimiser, batch, size, rng, clip, bf16))
                average.update(stage)
                bar.update()
            for name in losses[0]:
                history.setdefault(name, []).append(float(np.mean([loss[name] for loss in losses])))
            for name, now in clocks().items():
                history[name].append(now - started[name])
    return average.net, history


def _step(
    stage: SecondStage, head: OneStageHead, optimiser: Any, batch: View, size: tuple[int, int], rng: Any,
    clip: float, bf16: bool | None,
) -> dict[str, float]:  # fmt: skip
    device = next(stage.parameters()).device
    with autocast(device, bf16):
        maps, proposals, _ = propose(head, [part.to(device, torch.float32) for part in batch.maps], size)
        drawn = [
            sample(p.cpu(), boxes, hard, rng)
            for p, boxes, hard in zip(proposals, batch.boxes, batch.difficult, strict=True)
        ]
        chosen = [one[0].to(device) for one in drawn]
        scores, deltas = stage(maps, chosen)
    labels, aims = (torch.cat([one[i] for one in drawn]).to(device) for i in (1, 2))
    losses = second_stage_loss(scores, deltas, torch.cat(chosen), labels, aims)
    optimiser.zero_grad()
    losses["total"].backward()
    nn.utils.clip_grad_norm_(stage.parameters(), clip)
    optimiser.step()
    return {name: value.item() for name, value in losses.items()}


@torch.no_grad()
def detect_twice(
    stage: SecondStage,
    head: OneStageHead,
    maps: Sequence[Tensor],
    size: tuple[int, int],
    thresh: float = 0.05,
    nms_thresh: float = 0.6,
    *,
    most: int = 100,
    batch_size: int = 32,
    bf16: bool | None = None,
) -> list[Tensor]:
    """Detections of both stages: a score is the geometric mean of what the two say of a class.

    Args:
        stage, head: trained; they are put into evaluation mode.
        maps, size, thresh, nms_thresh, most, batch_size, bf16: as in `detect`.
    Returns:
        For each picture (K, 6), as `detect`.
    Raises:
        ValueError: as `detect`.
    """
    checked_share("thresh", thresh)
    checked_share("nms_thresh", nms_thresh)
    checked_sizes(most=most, batch_size=batch_size)
    stage.eval(), head.eval()
    device, found = next(stage.parameters()).device, []
    for start in range(0, len(maps[0]), batch_size):
        with autocast(device, bf16):
            some = [part[start : start + batch_size].to(device, torch.float32) for part in maps]
            pyramid, proposals, first = propose(head, some, size)
            scores, deltas = stage(pyramid, proposals)
        boxes = decode(deltas, torch.cat(proposals))
        boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([*size, *size]))
        both = (scores.softmax(dim=1)[:, 1:] * torch.cat(first)).sqrt()
        lengths = [len(p) for p in proposals]
        for s, b in zip(both.split(lengths), boxes.split(lengths), strict=True):
            found.append(suppress(s, b, thresh, nms_thresh, most))
    return found
