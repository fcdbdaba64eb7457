"""Training the modern head: which point is responsible for which object, three losses, and averaged weights.

A point learns an object if it lies near the object's middle and the object's size suits the point's map (FCOS, Tian et
al., 2019). Class scores have the focal loss (Lin et al., 2017), boxes the generalised IoU (Rezatofighi et al., 2019).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from common.detection.boxes import is_object
from common.detection.head import OneStageHead, Predictions
from common.detection.views import View, batch_of, checked_views
from common.progress import progress
from common.pytorch.training import autocast, clocks, set_rates
from common.validate import checked_count, checked_sizes

RADIUS = 1.5  # strides around the middle of an object within which a point may learn it
REACH = (0.0, 3.0, 3.0)  # of the three maps: least distance to the farthest side, in strides ...
LIMIT = (6.0, 6.0, float("inf"))  # ... and the distance from which on the next map takes over


@dataclass
class Targets:
    """What each of P points of B pictures should say.

    Attributes:
        positive: (B, P) bool, points that learn an object.
        ignored: (B, P) bool, points in a difficult object and in no other: they learn nothing.
        objects: (B, P) which of the N objects a positive point learns.
        centre: (B, P) its centre-ness, 1 in the middle of the object, 0 on its edge.
    """

    positive: Tensor
    ignored: Tensor
    objects: Tensor
    centre: Tensor


def assign(points: Tensor, strides: Tensor, boxes: Tensor, difficult: Tensor | None = None) -> Targets:
    """Which point learns which object.

    Args:
        points: (P, 2) x, y in pixels.
        strides: (P,) in pixels.
        boxes: (B, N, 4 or more) x1, y1, x2, y2 in pixels; rows of -1 and boxes without area are no objects.
        difficult: (B, N) bool; None = none is.
    Returns:
        Targets. Where several objects suit a point, it learns the smallest of them.
    """
    x, y = points[:, None].unbind(dim=-1)  # (P, 1)
    x1, y1, x2, y2 = boxes[:, None, :, :4].unbind(dim=-1)  # (B, 1, N)
    sides = torch.stack([x - x1, y - y1, x2 - x, y2 - y], dim=-1)  # (B, P, N, 4): to the left, top, right, bottom
    there = is_object(boxes)[:, None]  # (B, 1, N)
    hard = torch.zeros_like(there) if difficult is None else difficult[:, None] & there
    inside = (sides.amin(dim=-1) > 0) & there
    middle = torch.maximum((x - (x1 + x2) / 2).abs(), (y - (y1 + y2) / 2).abs())  # (B, P, N)
    far, stride = sides.amax(dim=-1), strides[:, None]
    least, most = (per_map(limits, strides)[:, None] * stride for limits in (REACH, LIMIT))
    suits = inside & ~hard & (middle < RADIUS * stride) & (far >= least) & (far < most)
    area = ((x2 - x1) * (y2 - y1)).expand_as(suits).masked_fill(~suits, float("inf"))
    smallest, objects = area.min(dim=-1)
    positive = smallest.isfinite()
    chosen = sides.gather(2, objects[..., None, None].expand(-1, -1, 1, 4)).squeeze(2)  # (B, P, 4)
    ignored = (inside & hard).any(dim=-1) & ~positive
    return Targets(positive, ignored, objects, centreness(chosen) * positive)


def per_map(values: tuple[float, ...], strides: Tensor) -> Tensor:
    """One value for each map, handed to its points: (P,). Maps are told apart by their stride."""
    _, number = strides.unique(return_inverse=True)
    return strides.new_tensor(values)[number]


def centreness(sides: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of distances (..., 4) to left, top, right and bottom."""
    across, along = sides[..., 0::2].clamp(min=0), sides[..., 1::2].clamp(min=0)
    near = across.amin(dim=-1) * along.amin(dim=-1)
    return (near / (across.amax(dim=-1) * along.amax(dim=-1)).clamp(min=1e-9)).sqrt()


def head_loss(out: Predictions, boxes: Tensor, difficult: Tensor | None = None) -> dict[str, Tensor]:
    """The three losses of a batch, and their sum.

    Args:
        out: predictions for B pictures.
        boxes: (B, N, 5) x1, y1, x2, y2, class in pixels, filled up with rows of -1.
        difficult: (B, N) bool, objects that are neither learnt nor background; None = none.
    Returns:
        "classes": focal loss of all points, per positive point. "boxes": 1 - GIoU, weighted by centre-ness, times 2.
        "centre": cross entropy of the centre-ness, per positive point. "total". Without objects the last two are 0.
    Raises:
        ValueError: a class is C or more.
    """
    labels = boxes[..., 4].long()
    if labels.numel() and labels.max() >= out.scores.shape[-1]:
        raise ValueError(f"boxes hold class {labels.max()}; the head knows 0 to {out.scores.shape[-1] - 1}")
    with torch.no_grad():
        aim = assign(out.points, out.strides, boxes, difficult)
        wanted = torch.zeros_like(out.scores)
        wanted[aim.positive] = one_hot(labels.gather(1, aim.objects)[aim.positive], out.scores.shape[-1])
        truth = boxes[..., :4].gather(1, aim.objects[..., None].expand(-1, -1, 4))[aim.positive]  # (M, 4)
        central = aim.centre[aim.positive]  # (M,)
    count = max(len(truth), 1)
    focal = sigmoid_focal_loss(out.scores, wanted)[~aim.ignored].sum() / count
    giou = generalized_box_iou_loss(out.boxes[aim.positive], truth)
    box = 2 * (giou * central).sum() / central.sum().clamp(min=1e-6)
    said = out.centre[aim.positive]
    centre = nn.functional.binary_cross_entropy_with_logits(said, central, reduction="sum") / count
    return {"classes": focal, "boxes": box, "centre": centre, "total": focal + box + centre}


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Rows with a 1 at the label, float32."""
    return nn.functional.one_hot(labels, num_classes).float()


# The loop ------------------------------------------------------------------------------------------------------


class Average:
    """Exponentially averaged weights: less noisy than those of the last step (Polyak and Juditsky, 1992).

    Attributes:
        net: a copy of the network with the averaged weights.
    """

    def __init__(self, net: nn.Module, decay: float = 0.998):
        self.net, self.decay, self.steps = copy.deepcopy(net).eval().requires_grad_(False), decay, 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move a little towards the weights of net; the first steps move further, since the start is random."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for mine, other in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(other, 1 - decay)
            else:
                mine.copy_(other)


def one_cycle(fraction: float, warm: float = 0.1) -> float:
    """A factor on the learning rate: up in a straight line, then down to nearly 0 along half a cosine."""
    if fraction < warm:
        return 0.04 + 0.96 * fraction / warm
    return 0.5 * (1 + float(np.cos(np.pi * (fraction - warm) / (1 - warm))))


def make_optimiser(head: OneStageHead, rate: float, tail_factor: float, decay: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, 2019); a fine-tuned tail learns more slowly, and vectors do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, value in head.named_parameters():
        if value.requires_grad:
            key = (rate * tail_factor if name.startswith("tail.") else rate, decay if value.ndim > 1 else 0.0)
            groups.setdefault(key, []).append(value)
    return torch.optim.AdamW([{"params": p, "lr": r, "weight_decay": d} for (r, d), p in groups.items()], lr=rate)


def train_head(
    head: OneStageHead,
    views: Sequence[View],
    *,
    epochs: int = 12,
    batch_size: int = 16,
    rate: float = 2e-3,
    tail_factor: float = 0.1,
    decay: float = 0.05,
    clip: float = 10.0,
    seed: int = 0,
    bf16: bool | None = None,
    on_epoch: Callable[[int, nn.Module], Any] | None = None,
) -> tuple[OneStageHead, dict[str, list[float]]]:
    """Train a head on stored maps.

    Args:
        head: trained in place, on the device where it is.
        views: the training pictures in one or several versions, for example as they are and mirrored, with the same
            numbers N of pictures and M of rows for boxes. In every epoch each picture comes once, in a version drawn
            at random.
        epochs, batch_size: passes over the pictures, and pictures a step; the last incomplete batch is left out.
        rate, tail_factor, decay: the largest learning rate, its factor for a fine-tuned tail, and weight decay.
        clip: largest norm of the gradient.
        seed: of the order, the versions and dropout.
        bf16: products in bfloat16; None = if the device has units for it.
        on_epoch: on_epoch(epoch, averaged) after each epoch, with the averaged head, for example to measure it.
    Returns:
        The head with averaged weights, and the history: "classes", "boxes", "centre" and "total", a value an epoch;
        "seconds" and "cpu_seconds" since the start, measurements by on_epoch not included.
    Raises:
        ValueError: no views, views of different lengths, fewer pictures than a batch, or as `head_loss`.
        FloatingPointError: the loss is no longer finite.
    """
    checked_sizes(epochs=epochs, batch_size=batch_size)
    count = checked_views(views)
    checked_count("batch_size", batch_size, 1, count)
    rng, per_epoch = np.random.RandomState(seed), count // batch_size
    optimiser, average = make_optimiser(head, rate, tail_factor, decay), Average(head)
    history: dict[str, list[float]] = {"seconds": [], "cpu_seconds": []}
    steps, spent = epochs * per_epoch, dict.fromkeys(clocks(), 0.0)
    with progress(total=steps, desc="train") as bar, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for epoch in range(epochs):
            begun, losses = clocks(), []
            head.train()
            order, version = rng.permutation(count), rng.randint(len(views), size=count)
            for step in range(per_epoch):
                chosen = order[step * batch_size : (step + 1) * batch_size]
                set_rates([optimiser], one_cycle((epoch * per_epoch + step) / steps))
                losses.append(train_step(head, optimiser, batch_of(views, version[chosen], chosen), clip, bf16))
                average.update(head)
                bar.update()
            for name in losses[0]:
                history.setdefault(name, []).append(float(np.mean([loss[name] for loss in losses])))
            for name, now in clocks().items():
                spent[name] += now - begun[name]
                history[name].append(spent[name])
            if on_epoch:
                on_epoch(epoch, average.net)
    return average.net, history


def train_step(
    head: OneStageHead, optimiser: torch.optim.Optimizer, batch: View, clip: float, bf16: bool | None
) -> dict[str, float]:
    """One step of the optimiser; returns the losses before it."""
    device = next(head.parameters()).device
    with autocast(device, bf16):
        out = head(*[part.to(device, torch.float32) for part in batch.maps])
    losses = head_loss(out, batch.boxes.to(device), batch.difficult.to(device))
    if not losses["total"].isfinite():
        raise FloatingPointError("the loss is no longer finite; train with a smaller rate")
    optimiser.zero_grad()
    losses["total"].backward()
    nn.utils.clip_grad_norm_(head.parameters(), clip)
    optimiser.step()
    return {name: value.item() for name, value in losses.items()}
