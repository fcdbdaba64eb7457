"""What both detectors share: feature maps from a frozen network or from a cache, and anchors on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from common.detection.anchors import ANCHORS, GenerateAnchor, GenerateGrid
from common.detection.boxes import checked_boxes, is_object, nms
from common.validate import Stream, checked_sizes, stream


class FrozenExtractor(nn.Module):
    """A network in front of a detector that is not trained: always in evaluation mode, and no gradient enters it."""

    def __init__(self, network: Callable[[Tensor], Tensor]):
        """
        Args:
            network: images (B, 3, h, w) -> maps (B, D, H, W). The parameters of a module need no gradient from now on.
        """
        super().__init__()
        self.network = network.requires_grad_(False) if isinstance(network, nn.Module) else network
        self.eval()

    def train(self, mode: bool = True) -> FrozenExtractor:
        """Stay in evaluation mode, so that averages of batch normalisation do not move."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, h, w) -> maps (B, D, H, W)."""
        return self.network(images)


class AnchorDetector(nn.Module):
    """Base of the detectors with anchors.

    Whatever takes images takes maps as well: a tensor with in_dim channels is a map already, anything else goes through
    the extractor. So features that were computed once can be used in every epoch, and images when it matters.

    Attributes:
        anchor_list: (A, 2) widths and heights in cells.
        feat_extractor: a `FrozenExtractor`, or None.
        in_dim, num_classes: D channels of a map, C classes.
        rng: draws the negatives; None = PyTorch's global stream.
    """

    anchor_list: Tensor

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        anchors: Sequence[tuple[float, float]] = ANCHORS,
        extractor: Callable[[Tensor], Tensor] | None = None,
        rng: Stream = None,
    ):
        super().__init__()
        checked_sizes(in_dim=in_dim, num_classes=num_classes)
        self.in_dim, self.num_classes = in_dim, num_classes
        self.feat_extractor = None if extractor is None else FrozenExtractor(extractor)
        self.rng = rng if rng is None else stream(rng)
        sizes = torch.as_tensor(anchors, dtype=torch.float32)
        if sizes.ndim != 2 or sizes.shape[1] != 2 or not len(sizes) or not (sizes > 0).all():
            raise ValueError(f"anchors must be pairs of a width and a height above 0, got {anchors}")
        self.register_buffer("anchor_list", sizes, persistent=False)

    def extract(self, images: Tensor) -> Tensor:
        """Feature maps (B, D, H, W) of images (B, 3, h, w); maps come back as they are.

        Raises:
            TypeError: not a tensor.
            ValueError: neither maps of this detector nor images that its extractor makes such maps of.
        """
        maps = checked_boxes(images, "images", "(B, D, H, W)", columns=1)
        if maps.shape[1] != self.in_dim and self.feat_extractor is not None:
            maps = self.feat_extractor(images)
        if maps.ndim != 4 or maps.shape[1] != self.in_dim or not maps.numel():
            extractor = (
                "no extractor" if self.feat_extractor is None else f"an extractor that gives {tuple(maps.shape)}"
            )
            raise ValueError(
                f"maps (B, {self.in_dim}, H, W) are needed, or images and an extractor of such maps; got "
                f"{tuple(images.shape)} and {extractor}"
            )
        return maps.to(self.anchor_list)  # a cache may hold half precision

    def grid_and_anchors(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The cells' centres (B, H, W, 2) and the anchors (B, A, H, W, 4) of a map (B, D, H, W)."""
        B, _, H, W = features.shape
        grid = GenerateGrid(B, W, H, dtype=features.dtype, device=features.device)
        return grid, GenerateAnchor(self.anchor_list, grid)

    def checked_objects(self, bboxes: Tensor, features: Tensor) -> Tensor:
        """bboxes (B, N, 5), on the device and in the dtype of the maps, if their classes are 0 to C - 1.

        Raises:
            TypeError, ValueError: another shape, another number of images, or a class out of range.
        """
        checked_boxes(bboxes, "bboxes", "(B, N, 5)", columns=5)
        if len(bboxes) != len(features):
            raise ValueError(f"bboxes hold {len(bboxes)} images, the maps {len(features)}; as many are needed")
        classes = bboxes[..., 4][is_object(bboxes)]
        odd = classes[(classes < 0) | (classes >= self.num_classes) | (classes != classes.floor())]
        if len(odd):
            raise ValueError(f"bboxes hold class {odd[0].item():g}; allowed are 0 to {self.num_classes - 1}")
        return bboxes.to(features)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Inside, dropout is off and no gradient is kept; afterwards the module is in the mode in which it was."""
    mode = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(mode)


def select_anchors(table: Tensor, index: Tensor) -> Tensor:
    """The numbers of some anchors.

    The axis D has to become the last one without changing the order of A, H and W: permute(0, 1, 3, 4, 2). Swapping
    axes 2 and 4 instead would exchange rows and columns of the map, which goes unnoticed where H = W.

    Args:
        table: (B, A, D, H, W), D numbers for every anchor.
        index: (M,) indices of anchors, as in `common.detection.anchors`.
    Returns:
        (M, D).
    """
    return table.permute(0, 1, 3, 4, 2).reshape(-1, table.shape[2])[index]


def keep_best(
    boxes: Tensor, conf: Tensor, classes: Tensor, thresh: float, nms_thresh: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of one image that pass the threshold and non-maximum suppression, most confident first.

    Args:
        boxes: (P, 4).
        conf, classes: (P,).
        thresh, nms_thresh: as in the detectors' `inference`.
    Returns:
        (K, 4), (K, 1) and (K, 1).
    """
    likely = (conf > thresh).nonzero().squeeze(1)
    kept = likely[nms(boxes[likely], conf[likely], nms_thresh)]
    return boxes[kept], conf[kept, None], classes[kept, None]
