"""A two-stage detector after Ren et al., "Faster R-CNN" (2015): first where something is, then what it is.

Two simplifications are those of EECS 498: the second stage has no class "background" and does not move the boxes again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from common.detection.anchors import ANCHORS, GenerateProposal
from common.detection.boxes import IoU, checked_share
from common.detection.detector import AnchorDetector, evaluation_mode, keep_best, select_anchors
from common.detection.matching import ReferenceOnActivatedAnchors
from common.validate import Stream, checked_sizes

# The first stage -----------------------------------------------------------------------------------------------


class ProposalModule(nn.Module):
    """From a map to 6 A numbers a cell: for each anchor the scores of object and background, and tx, ty, tw, th.

    Attributes:
        pred_layer: 3 x 3 convolution, dropout, leaky ReLU, 1 x 1 convolution.
    """

    def __init__(self, in_dim: int, hidden_dim: int = 256, num_anchors: int = 9, drop_ratio: float = 0.3):
        super().__init__()
        checked_sizes(in_dim=in_dim, hidden_dim=hidden_dim, num_anchors=num_anchors)
        self.num_anchors = num_anchors
        self.pred_layer = nn.Sequential(
            nn.Conv2d(in_dim, hidden_dim, kernel_size=3, padding=1),
            nn.Dropout(drop_ratio),
            nn.LeakyReLU(),
            nn.Conv2d(hidden_dim, 6 * num_anchors, kernel_size=1),
        )

    def forward(
        self,
        features: Tensor,
        pos_anchor_coord: Tensor | None = None,
        pos_anchor_idx: Tensor | None = None,
        neg_anchor_idx: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Predictions for all anchors, or (all three given) for those that are trained.

        Args:
            features: (B, D, H, W).
            pos_anchor_coord: (M, 4) boxes of the positive anchors.
            pos_anchor_idx, neg_anchor_idx: (M,) indices of positive and negative anchors.
        Returns:
            Scores (B, A, 2, H, W) and offsets (B, A, 4, H, W); in training scores (2M, 2), positives first, offsets
            (M, 4), and the boxes (M, 4) that these make of the positive anchors.
        """
        out = self.pred_layer(features).unflatten(1, (self.num_anchors, 6))  # (B, A, 6, H, W)
        conf, offsets = out[:, :, :2], out[:, :, 2:]
        if pos_anchor_coord is None or pos_anchor_idx is None or neg_anchor_idx is None:
            return conf, offsets
        both = torch.cat((pos_anchor_idx, neg_anchor_idx))
        conf, offsets = select_anchors(conf, both), select_anchors(offsets, pos_anchor_idx)
        return conf, offsets, GenerateProposal(pos_anchor_coord, offsets, method="FasterRCNN")


def ConfScoreRegression(conf_scores: Tensor, batch_size: int, num_positives: int | None = None) -> Tensor:
    """Binary cross-entropy of both scores, (object, background), with (1, 0) for positives and (0, 1) for negatives.

    Args:
        conf_scores: (2M, 2) logits, positives first.
        batch_size: B images.
        num_positives: M, needed where there are fewer negatives than positives; None = half the rows.
    Returns:
        A scalar: the sum divided by B.
    """
    M = len(conf_scores) // 2 if num_positives is None else num_positives
    target = torch.zeros_like(conf_scores)
    target[:M, 0] = 1
    target[M:, 1] = 1
    return F.binary_cross_entropy_with_logits(conf_scores, target, reduction="sum") / batch_size


def BboxRegression(offsets: Tensor, GT_offsets: Tensor, batch_size: int) -> Tensor:
    """Smooth L1 distance of the offsets: d^2 / 2 for |d| < 1, |d| - 1/2 beyond.

    Args:
        offsets, GT_offsets: (M, 4).
        batch_size: B images.
    Returns:
        A scalar: the sum divided by B.
    """
    return F.smooth_l1_loss(offsets, GT_offsets, reduction="sum") / batch_size


class RPN(AnchorDetector):
    """The region proposal network: boxes around anything that is an object.

    Attributes:
        prop_module: the `ProposalModule`.
    """

    w_conf, w_reg = 1, 5  # weights of the two losses

    def __init__(
        self,
        in_dim: int = 1280,
        hidden_dim: int = 256,
        num_classes: int = 20,
        drop_ratio: float = 0.3,
        anchors: Sequence[tuple[float, float]] = ANCHORS,
        extractor: Callable[[Tensor], Tensor] | None = None,
        rng: Stream = None,
    ):
        """Arguments and errors are those of `SingleStageDetector`; classes are only handed on."""
        super().__init__(in_dim, num_classes, anchors, extractor, rng)
        self.prop_module = ProposalModule(in_dim, hidden_dim, len(self.anchor_list), drop_ratio)

    def forward(self, images: Tensor, bboxes: Tensor, output_mode: str = "loss") -> Tensor | tuple:
        """The loss of a batch: confidence + 5 times offsets.

        Args:
            images: (B, 3, h, w), or their maps (B, D, H, W).
            bboxes: (B, N, 5) objects in units of the map, filled up with rows of -1.
            output_mode: "loss" or "all".
        Returns:
            The loss, a scalar. With "all" also the scores (2M, 2), the boxes proposed for the positives (M, 4), the
            maps, the classes of the positives (M,), their indices (M,), and the number of anchors of an image.
        Raises:
            TypeError, ValueError: another mode, shapes that do not fit, or a class out of range.
        """
        if output_mode not in ("loss", "all"):
            raise ValueError(f"output_mode must be 'loss' or 'all', got {output_mode!r}")
        features = self.extract(images)
        bboxes = self.checked_objects(bboxes, features)
        grid, anchors = self.grid_and_anchors(features)
        iou = IoU(anchors, bboxes)
        pos, neg, _, GT_offsets, GT_class, pos_coord, _ = ReferenceOnActivatedAnchors(
            anchors, bboxes, grid, iou, method="FasterRCNN", rng=self.rng
        )
        conf, offsets, proposals = self.prop_module(features, pos_coord, pos, neg)
        conf_loss = ConfScoreRegression(conf, len(features), len(pos))
        loss = self.w_conf * conf_loss + self.w_reg * BboxRegression(offsets, GT_offsets, len(features))
        return loss if output_mode == "loss" else (loss, conf, proposals, features, GT_class, pos, iou.shape[1])

    def inference(
        self, images: Tensor, thresh: float = 0.5, nms_thresh: float = 0.7, mode: str = "RPN"
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | Tensor]:
        """Proposals for each image, in evaluation mode whatever the mode of the network.

        Args:
            images: (B, 3, h, w), or their maps (B, D, H, W).
            thresh: proposals are kept whose probability of an object is above it ...
            nms_thresh: ... unless a more probable one overlaps them by more than this.
            mode: "RPN" or "FasterRCNN", which says what comes third.
        Returns:
            For each image the proposals (K, 4) in units of the map and their probabilities (K, 1); and, with "RPN",
            zeros (K, 1) int64 in place of classes, with "FasterRCNN" the maps (B, D, H, W).
        Raises:
            TypeError, ValueError: another mode, thresholds outside [0, 1], shapes that do not fit.
        """
        if mode not in ("RPN", "FasterRCNN"):
            raise ValueError(f"mode must be 'RPN' or 'FasterRCNN', got {mode!r}")
        checked_share("thresh", thresh)
        checked_share("nms_thresh", nms_thresh)
        with evaluation_mode(self):
            features = self.extract(images)
            conf, offsets = self.prop_module(features)
            anchors = self.grid_and_anchors(features)[1]
            boxes = GenerateProposal(anchors, offsets.permute(0, 1, 3, 4, 2), method="FasterRCNN").flatten(1, 3)
            prob = conf[:, :, 0].sigmoid().flatten(1)  # (B, A * H * W)
            classes = torch.zeros_like(prob, dtype=torch.int64)
            found = [keep_best(*of_image, thresh, nms_thresh) for of_image in zip(boxes, prob, classes, strict=True)]
        proposals, probs, zeros = (list(column) for column in zip(*found, strict=True))
        return proposals, probs, (zeros if mode == "RPN" else features)


# The second stage ----------------------------------------------------------------------------------------------


class TwoStageDetector(nn.Module):
    """Proposals of an RPN, each classified from what the map shows inside it.

    Attributes:
        rpn: the `RPN`.
        cls_layer: linear, dropout, ReLU, linear: D numbers of a proposal -> C class scores.
    """

    def __init__(
        self,
        in_dim: int = 1280,
        hidden_dim: int = 256,
        num_classes: int = 20,
        roi_output_w: int = 2,
        roi_output_h: int = 2,
        drop_ratio: float = 0.3,
        anchors: Sequence[tuple[float, float]] = ANCHORS,
        extractor: Callable[[Tensor], Tensor] | None = None,
        rng: Stream = None,
    ):
        """
        Args:
            in_dim: D channels of a feature map; 1280 is MobileNetV2's last.
            hidden_dim, drop_ratio: of the RPN and of `cls_layer`.
            num_classes: C.
            roi_output_w, roi_output_h: columns and rows that RoIAlign makes of a proposal.
            anchors, extractor, rng: as in `SingleStageDetector`.
        Raises:
            TypeError, ValueError: a size below 1, or anchors that are no pairs above 0.
        """
        super().__init__()
        checked_sizes(roi_output_w=roi_output_w, roi_output_h=roi_output_h)
        self.num_classes, self.roi_output_w, self.roi_output_h = num_classes, roi_output_w, roi_output_h
        self.rpn = RPN(in_dim, hidden_dim, num_classes, drop_ratio, anchors, extractor, rng)
        self.cls_layer = nn.Sequential(
            nn.Linear(in_dim, hidden_dim), nn.Dropout(drop_ratio), nn.ReLU(), nn.Linear(hidden_dim, num_classes)
        )

    def extract(self, images: Tensor) -> Tensor:
        """Feature maps (B, D, H, W), as `AnchorDetector.extract`."""
        return self.rpn.extract(images)

    def class_scores(self, features: Tensor, proposals: Tensor, image: Tensor) -> Tensor:
        """Class scores of proposals: RoIAlign, the mean over its cells, and `cls_layer`.

        Boxes are in units of the map already, so the scale is 1. aligned=True because the value in row i, column j
        lies at (j + 0.5, i + 0.5), the centre of its cell.

        Args:
            features: (B, D, H, W).
            proposals: (M, 4).
            image: (M,) the image of each, 0 to B - 1.
        Returns:
            (M, C).
        """
        rois = torch.cat((image[:, None].to(proposals), proposals), dim=1)  # (M, 5)
        size = (self.roi_output_h, self.roi_output_w)
        regions = torchvision.ops.roi_align(features, rois, size, spatial_scale=1.0, aligned=True)  # (M, D, h, w)
        return self.cls_layer(regions.mean(dim=(2, 3)))

    def forward(self, images: Tensor, bboxes: Tensor) -> Tensor:
        """The loss of a batch: that of the RPN + the mean cross-entropy of the positive proposals.

        Args:
            images: (B, 3, h, w), or their maps (B, D, H, W).
            bboxes: (B, N, 5) objects in units of the map, filled up with rows of -1.
        Returns:
            A scalar.
        Raises:
            TypeError, ValueError: shapes that do not fit, or a class out of range.
        """
        rpn_loss, _, proposals, features, GT_class, pos, anc_per_img = self.rpn(images, bboxes, output_mode="all")
        scores = self.class_scores(features, proposals, pos // anc_per_img)
        return rpn_loss + F.cross_entropy(scores, GT_class, reduction="sum") / max(len(pos), 1)

    def inference(
        self, images: Tensor, thresh: float = 0.5, nms_thresh: float = 0.7
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """What is in each image, in evaluation mode whatever the mode of the detector.

        Args:
            images: (B, 3, h, w), or their maps (B, D, H, W).
            thresh, nms_thresh: as in `RPN.inference`.
        Returns:
            For each image the proposals (K, 4) in units of the map, the probabilities (K, 1) that they are objects, and
            their classes (K, 1) int64.
        Raises:
            TypeError, ValueError: thresholds outside [0, 1], shapes that do not fit.
        """
        with evaluation_mode(self):
            proposals, probs, features = self.rpn.inference(images, thresh, nms_thresh, mode="FasterRCNN")
            counts = [len(of_image) for of_image in proposals]
            image = torch.arange(len(counts), device=features.device).repeat_interleave(
                torch.tensor(counts, device=features.device)
            )
            classes = self.class_scores(features, torch.cat(proposals), image).argmax(dim=1, keepdim=True)
        return proposals, probs, list(classes.split(counts))
