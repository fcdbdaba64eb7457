"""A one-stage detector after Redmon et al., "You only look once" (2016): one pass over the map says what is where."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.detection.anchors import ANCHORS, GenerateProposal
from common.detection.boxes import IoU, checked_share
from common.detection.detector import AnchorDetector, evaluation_mode, keep_best, select_anchors
from common.detection.matching import ReferenceOnActivatedAnchors
from common.validate import Stream, checked_sizes

# The network ---------------------------------------------------------------------------------------------------


class PredictionNetwork(nn.Module):
    """From a map to 5 A + C numbers a cell: for each anchor conf, tx, ty, tw, th, then C class scores for all of them.

    Attributes:
        pred_layer: 1 x 1 convolution, dropout, leaky ReLU, 1 x 1 convolution.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int = 128,
        num_anchors: int = 9,
        num_classes: int = 20,
        drop_ratio: float = 0.3,
    ):
        super().__init__()
        checked_sizes(in_dim=in_dim, hidden_dim=hidden_dim, num_anchors=num_anchors, num_classes=num_classes)
        self.num_anchors, self.num_classes = num_anchors, num_classes
        self.pred_layer = nn.Sequential(
            nn.Conv2d(in_dim, hidden_dim, kernel_size=1),
            nn.Dropout(drop_ratio),
            nn.LeakyReLU(),
            nn.Conv2d(hidden_dim, 5 * num_anchors + num_classes, kernel_size=1),
        )

    def forward(
        self, features: Tensor, pos_anchor_idx: Tensor | None = None, neg_anchor_idx: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predictions for all anchors, or (both indices given) for those that are trained.

        Args:
            features: (B, D, H, W).
            pos_anchor_idx, neg_anchor_idx: (M,) indices of positive and negative anchors.
        Returns:
            Confidences from 0 to 1, offsets with tx and ty from -0.5 to 0.5, and class scores: (B, A, H, W),
            (B, A, 4, H, W) and (B, C, H, W) without indices; with them (2M, 1), positives first, (M, 4) and (M, C).
        """
        conf, offsets, scores = self.split(self.pred_layer(features))
        if pos_anchor_idx is None or neg_anchor_idx is None:
            return conf.squeeze(2), offsets, scores
        both = torch.cat((pos_anchor_idx, neg_anchor_idx))
        class_scores = select_cells(scores, pos_anchor_idx, self.num_anchors)
        return select_anchors(conf, both), select_anchors(offsets, pos_anchor_idx), class_scores

    def split(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The output (B, 5 A + C, H, W) as conf (B, A, 1, H, W), offsets (B, A, 4, H, W) and scores (B, C, H, W)."""
        of_anchors = out[:, : 5 * self.num_anchors].unflatten(1, (self.num_anchors, 5))  # (B, A, 5, H, W)
        conf, shift, stretch = of_anchors.split((1, 2, 2), dim=2)
        offsets = torch.cat((shift.sigmoid() - 0.5, stretch), dim=2)
        return conf.sigmoid(), offsets, out[:, 5 * self.num_anchors :]


def select_cells(scores: Tensor, index: Tensor, num_anchors: int) -> Tensor:
    """The class scores at the cells of some anchors; all anchors of a cell share them.

    Args:
        scores: (B, C, H, W).
        index: (M,) indices of anchors, as in `common.detection.anchors`.
        num_anchors: A.
    Returns:
        (M, C).
    """
    cells = scores.shape[2] * scores.shape[3]
    image = index // (num_anchors * cells)
    rows = scores.permute(0, 2, 3, 1).reshape(-1, scores.shape[1])  # (B * H * W, C)
    return rows[image * cells + index % cells]


# Losses --------------------------------------------------------------------------------------------------------


def ConfScoreRegression(conf_scores: Tensor, GT_conf_scores: Tensor) -> Tensor:
    """Mean squared difference of the confidences from 1 for the positives and 0 for the negatives.

    Args:
        conf_scores: (2M, 1), positives first.
        GT_conf_scores: (M,), of which only the length counts: the target is 1, not the overlap.
    Returns:
        A scalar: the sum divided by 2M; 0 without anchors.
    """
    target = torch.zeros_like(conf_scores)
    target[: len(GT_conf_scores)] = 1
    return F.mse_loss(conf_scores, target, reduction="sum") / max(len(conf_scores), 1)


def BboxRegression(offsets: Tensor, GT_offsets: Tensor) -> Tensor:
    """Squared differences of the offsets, summed over the four numbers, as a mean over the M positives.

    Args:
        offsets, GT_offsets: (M, 4).
    Returns:
        A scalar; 0 without positives.
    """
    return F.mse_loss(offsets, GT_offsets, reduction="sum") / max(len(offsets), 1)


def ObjectClassification(
    class_prob: Tensor, GT_class: Tensor, batch_size: int, anc_per_img: int, activated_anc_ind: Tensor
) -> Tensor:
    """Cross-entropy, as a mean over the positives of each image and then over the images.

    So an image of a crowd counts no more than one of a single object. An image without positives adds 0.

    Args:
        class_prob: (M, C) scores, before any softmax.
        GT_class: (M,) int64 classes.
        batch_size: B images.
        anc_per_img: A * H * W anchors of an image.
        activated_anc_ind: (M,) indices of the positive anchors.
    Returns:
        A scalar.
    """
    losses = F.cross_entropy(class_prob, GT_class, reduction="none")  # (M,)
    image = activated_anc_ind // anc_per_img  # (M,)
    count = torch.bincount(image, minlength=batch_size)  # (B,) positives
    return (losses / count[image]).sum() / batch_size


# The detector --------------------------------------------------------------------------------------------------


class SingleStageDetector(AnchorDetector):
    """Confidence, offsets and class for every anchor, in one pass.

    Attributes:
        pred_network: the `PredictionNetwork`.
    """

    def __init__(
        self,
        in_dim: int = 1280,
        hidden_dim: int = 128,
        num_classes: int = 20,
        drop_ratio: float = 0.3,
        anchors: Sequence[tuple[float, float]] = ANCHORS,
        extractor: Callable[[Tensor], Tensor] | None = None,
        rng: Stream = None,
    ):
        """
        Args:
            in_dim: D channels of a feature map; 1280 is MobileNetV2's last.
            hidden_dim, drop_ratio: of the `PredictionNetwork`.
            num_classes: C.
            anchors: (width, height) of each, in cells.
            extractor: images -> maps (B, D, H, W), not trained; None = the detector is given maps only.
            rng: seed or RandomState of the draw of negatives; None = PyTorch's global stream.
        Raises:
            TypeError, ValueError: a size below 1, or anchors that are no pairs above 0.
        """
        super().__init__(in_dim, num_classes, anchors, extractor, rng)
        self.pred_network = PredictionNetwork(in_dim, hidden_dim, len(self.anchor_list), num_classes, drop_ratio)

    def forward(self, images: Tensor, bboxes: Tensor) -> Tensor:
        """The loss of a batch: confidence + offsets + classes, all with weight 1.

        Args:
            images: (B, 3, h, w), or their maps (B, D, H, W).
            bboxes: (B, N, 5) objects in units of the map, filled up with rows of -1.
        Returns:
            A scalar.
        Raises:
            TypeError, ValueError: shapes that do not fit, or a class out of range.
        """
        return sum(self.losses(images, bboxes).values())

    def losses(self, images: Tensor, bboxes: Tensor) -> dict[str, Tensor]:
        """The three parts of the loss, by name: conf, reg, cls; otherwise as `forward`."""
        features = self.extract(images)
        bboxes = self.checked_objects(bboxes, features)
        grid, anchors = self.grid_and_anchors(features)
        iou = IoU(anchors, bboxes)
        pos, neg, GT_conf, GT_offsets, GT_class, _, _ = ReferenceOnActivatedAnchors(
            anchors, bboxes, grid, iou, neg_thresh=0.2, method="YOLO", rng=self.rng
        )
        conf, offsets, scores = self.pred_network(features, pos, neg)
        return {
            "conf": ConfScoreRegression(conf, GT_conf),
            "reg": BboxRegression(offsets, GT_offsets),
            "cls": ObjectClassification(scores, GT_class, len(features), iou.shape[1], pos),
        }

    def inference(
        self, images: Tensor, thresh: float = 0.5, nms_thresh: float = 0.7
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """What is in each image, in evaluation mode whatever the mode of the detector.

        Args:
            images: (B, 3, h, w), or their maps (B, D, H, W).
            thresh: boxes with a confidence above it are kept ...
            nms_thresh: ... unless one with more confidence overlaps them by more than this, of whatever class.
        Returns:
            For each image the boxes (K, 4) in units of the map, confidences (K, 1) and classes (K, 1) int64.
        Raises:
            TypeError, ValueError: thresholds outside [0, 1], shapes that do not fit.
        """
        checked_share("thresh", thresh)
        checked_share("nms_thresh", nms_thresh)
        with evaluation_mode(self):
            features = self.extract(images)
            conf, offsets, scores = self.pred_network(features)
            anchors = self.grid_and_anchors(features)[1]
            boxes = GenerateProposal(anchors, offsets.permute(0, 1, 3, 4, 2), method="YOLO").flatten(1, 3)
            classes = scores.argmax(dim=1, keepdim=True).expand_as(conf)  # (B, A, H, W)
            tables = zip(boxes, conf.flatten(1), classes.flatten(1), strict=True)
            found = [keep_best(*of_image, thresh, nms_thresh) for of_image in tables]
        boxes, conf, classes = zip(*found, strict=True)
        return list(boxes), list(conf), list(classes)
