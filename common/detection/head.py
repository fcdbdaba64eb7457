"""A modern one-stage detector on stored feature maps: no anchors, three scales, and a score for every class.

Each point of three maps, with strides of 16, 32 and 64 pixels, says for each class how likely an object of it is there,
how far away the four sides of its box are, and how central the point lies in it. After FCOS (Tian et al., 2019) and
feature pyramids (Lin et al., 2017).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from common.detection.boxes import checked_share
from common.pytorch.training import autocast
from common.validate import checked_count, checked_sizes
from common.vision.backbone import Backbone

STRIDES = (16, 32, 64)  # pixels between the points of each map
PRIOR = 0.01  # the score of every class at the start, since nearly all points see no object
FARTHEST = 5.0  # limit on the logarithm of a distance in strides: e^5 strides are far beyond any picture


@dataclass
class Predictions:
    """What the head says of P points, those of all maps one after the other, row by row.

    Attributes:
        scores: (B, P, C) class scores before the sigmoid.
        boxes: (B, P, 4) x1, y1, x2, y2 in pixels.
        centre: (B, P) how central the point is in its box, before the sigmoid.
        points: (P, 2) x, y in pixels.
        strides: (P,) in pixels.
    """

    scores: Tensor
    boxes: Tensor
    centre: Tensor
    points: Tensor
    strides: Tensor


class OneStageHead(nn.Module):
    """From the maps of strides 16 and 32 of a backbone to predictions.

    The stride-32 map is either stored as the other one is, or computed by a copy of the backbone's last stages, the
    tail, which can then be fine-tuned.

    Attributes:
        tail: the last stages, from the stride-16 map to the stride-32 map; None if that map is stored.
        num_classes: C.
    """

    def __init__(
        self,
        in_dims: tuple[int, int] = (112, 1280),
        num_classes: int = 20,
        width: int = 128,
        depth: int = 1,
        drop_ratio: float = 0.0,
        *,
        tail: nn.Module | None = None,
        seed: int | None = None,
    ):
        """Draw the weights of everything but the tail.

        Args:
            in_dims: channels of the two maps; (112, 1280) are those of "blocks.4" and "head" of EfficientNet-Lite0.
            num_classes: C.
            width: channels of all maps in the head.
            depth: 3 x 3 convolutions in front of each of the two outputs, classes and boxes.
            drop_ratio: share of the channels of the stride-32 map that is left out in training.
            tail: of `tail_of`, to be fine-tuned; it is copied. Its batch normalisation keeps the means and variances
                that it has, those of ImageNet. None = both maps are stored.
            seed: of the weights; None = PyTorch's global stream.
        Raises:
            TypeError, ValueError: a number is not in its range.
        """
        super().__init__()
        checked_sizes(num_classes=num_classes, width=width)
        checked_count("depth", depth, 0)
        checked_share("drop_ratio", drop_ratio)
        self.num_classes = num_classes
        self.tail = None if tail is None else copy.deepcopy(tail).requires_grad_(True)
        with torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self._make_layers(in_dims, width, depth, drop_ratio)
        self.to(memory_format=torch.channels_last)

    def _make_layers(self, in_dims: tuple[int, int], width: int, depth: int, drop_ratio: float) -> None:
        self.drop = nn.Dropout2d(drop_ratio)
        self.lateral16, self.lateral32 = (conv_block(dim, width, 1) for dim in in_dims)
        self.out16, self.out32, self.out64 = (conv_block(width, width, 3, stride) for stride in (1, 1, 2))
        self.class_tower = nn.Sequential(*[conv_block(width, width, 3) for _ in range(depth)])
        self.box_tower = nn.Sequential(*[conv_block(width, width, 3) for _ in range(depth)])
        self.to_scores = nn.Conv2d(width, self.num_classes, 3, padding=1)
        self.to_boxes = nn.Conv2d(width, 5, 3, padding=1)  # four distances and the centre-ness
        self.scales = nn.Parameter(torch.ones(len(STRIDES)))  # of the logarithms of the distances, one a map
        for layer in (self.to_scores, self.to_boxes):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.to_scores.bias, math.log(PRIOR / (1 - PRIOR)))

    def train(self, mode: bool = True) -> OneStageHead:
        """As `nn.Module.train`, but the tail stays in evaluation mode."""
        super().train(mode)
        if self.tail is not None:
            self.tail.eval()
        return self

    def pyramid(self, x: Tensor, deep: Tensor | None = None) -> list[Tensor]:
        """Three maps (B, width, ., .) of strides 16, 32 and 64; what the coarse ones know reaches the finest.

        Args:
            x, deep: as in `forward`.
        """
        if self.tail is None and deep is None:
            raise ValueError("this head has no tail, so it needs the stride-32 map, too")
        p32 = self.lateral32(self.drop(deep if self.tail is None else self.tail(x)))
        above = nn.functional.interpolate(p32, size=x.shape[-2:], mode="nearest")
        p16 = self.out16(self.lateral16(x) + above)
        p32 = self.out32(p32)
        return [p16, p32, self.out64(p32)]

    def forward(self, x: Tensor, deep: Tensor | None = None) -> Predictions:
        """Predictions for every point.

        Args:
            x: (B, in_dims[0], h, w), the stride-16 map of the backbone.
            deep: (B, in_dims[1], h / 2, w / 2), the stride-32 map; not used where there is a tail.
        Raises:
            ValueError: neither a tail nor a stride-32 map.
        """
        return self.predict(self.pyramid(x, deep))

    def predict(self, maps: Sequence[Tensor]) -> Predictions:
        """Predictions from the three maps of `pyramid`."""
        shapes = [(p.shape[-2], p.shape[-1]) for p in maps]
        points, strides = grid_points(shapes, STRIDES, maps[0].device)
        scores = torch.cat([rows(self.to_scores(self.class_tower(p))) for p in maps], dim=1)  # (B, P, C)
        regressed = [rows(self.to_boxes(self.box_tower(p))) for p in maps]
        logs = torch.cat([scale * r[..., :4] for scale, r in zip(self.scales, regressed, strict=True)], dim=1)
        distances = logs.clamp(max=FARTHEST).exp() * strides[:, None]  # (B, P, 4): left, top, right, bottom
        boxes = torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)
        return Predictions(scores, boxes, torch.cat([r[..., 4] for r in regressed], dim=1), points, strides)


def tail_of(backbone: Backbone, layer: str = "blocks.4") -> nn.Sequential:
    """The stages behind a layer up to the last map, which the classifier reads."""
    return nn.Sequential(*backbone.stages[backbone.index(layer) + 1 :])


def conv_block(in_dim: int, out_dim: int, size: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU; the picture keeps its size but for the stride."""
    conv = nn.Conv2d(in_dim, out_dim, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_dim), nn.ReLU(inplace=True))


def rows(x: Tensor) -> Tensor:
    """A map (B, C, h, w) as float32 (B, h * w, C), row by row."""
    return x.flatten(2).transpose(1, 2).float()


def grid_points(
    shapes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """The middles of the cells of several maps in pixels.

    Args:
        shapes: height and width of each map.
        strides: pixels a cell of each map.
        device: of the results.
    Returns:
        points (P, 2) x, y, in the order of `rows`, one map after the other; and the stride of each, (P,).
    """
    points, widths = [], []
    for (h, w), stride in zip(shapes, strides, strict=True):
        y, x = torch.meshgrid(torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij")
        points.append((torch.stack([x, y], dim=-1).view(-1, 2) + 0.5) * stride)
        widths.append(torch.full((h * w,), float(stride), device=device))
    return torch.cat(points), torch.cat(widths)


# Detections ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def detect(
    head: OneStageHead,
    maps: Sequence[Tensor],
    size: tuple[int, int],
    thresh: float = 0.05,
    nms_thresh: float = 0.6,
    *,
    most: int = 100,
    batch_size: int = 32,
    mirrored: Sequence[Tensor] | None = None,
    bf16: bool | None = None,
) -> list[Tensor]:
    """Detections in pictures whose maps are stored.

    Args:
        head: trained; it is put into evaluation mode.
        maps: the stored maps of N pictures: (N, in_dims[0], h, w), and, if the head has no tail, (N, in_dims[1], h / 2,
            w / 2), too.
        size: width and height of the pictures in pixels, to which boxes are cut.
        thresh: least score, the geometric mean of the probability of the class and of the centre-ness.
        nms_thresh: of two boxes of a class that overlap by more, the one with the lower score is dropped.
        most: detections a picture.
        batch_size: pictures at a time.
        mirrored: maps of the mirrored pictures, whose detections are mirrored back and join the others; None = none.
        bf16: products in bfloat16; None = if the device has units for it.
    Returns:
        For each picture (K, 6), x1, y1, x2, y2, class, score, the highest score first; float32 on the head's device.
    Raises:
        ValueError: a threshold outside 0 to 1, a number below 1, or mirrored of another shape than maps.
    """
    checked_share("thresh", thresh)
    checked_share("nms_thresh", nms_thresh)
    checked_sizes(most=most, batch_size=batch_size)
    versions = [maps] if mirrored is None else [maps, mirrored]
    shapes = [[tuple(part.shape) for part in version] for version in versions]
    if shapes[0] != shapes[-1]:
        raise ValueError(f"mirrored must have the shapes of maps, {shapes[0]}, got {shapes[1]}")
    head.eval()
    found = []
    for start in range(0, len(maps[0]), batch_size):
        parts = [_scored(head, [part[start : start + batch_size] for part in version], bf16) for version in versions]
        if mirrored is not None:
            parts[1] = (parts[1][0], mirror_boxes(parts[1][1], size[0]))
        scores, boxes = (torch.cat(values, dim=1) for values in zip(*parts, strict=True))
        boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([*size, *size]))
        found += [suppress(s, b, thresh, nms_thresh, most) for s, b in zip(scores, boxes, strict=True)]
    return found


def _scored(head: OneStageHead, maps: Sequence[Tensor], bf16: bool | None) -> tuple[Tensor, Tensor]:
    """Final scores (B, P, C) and boxes (B, P, 4)."""
    device = next(head.parameters()).device
    with autocast(device, bf16):
        out = head(*[part.to(device, torch.float32) for part in maps])
    return (out.scores.sigmoid() * out.centre.sigmoid()[..., None]).sqrt(), out.boxes


def mirror_boxes(boxes: Tensor, width: float) -> Tensor:
    """Boxes (..., 4) of a picture so many pixels wide, after left and right have changed places."""
    x1, y1, x2, y2 = boxes.unbind(dim=-1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=-1)


def suppress(scores: Tensor, boxes: Tensor, thresh: float, nms_thresh: float, most: int) -> Tensor:
    """What is left of the predictions for one picture.

    Args:
        scores: (P, C) from 0 to 1.
        boxes: (P, 4).
        thresh, nms_thresh, most: as in `detect`. Suppression is done for each class alone.
    Returns:
        (K, 6), as `detect`.
    """
    point, label = (scores > thresh).nonzero(as_tuple=True)
    score = scores[point, label]
    if len(score) > 10 * most:  # suppression takes time that grows with the square of their number
        score, best = score.topk(10 * most)
        point, label = point[best], label[best]
    kept = batched_nms(boxes[point], score, label, nms_thresh)[:most]
    return torch.cat([boxes[point], label[:, None].float(), score[:, None]], dim=1)[kept]
