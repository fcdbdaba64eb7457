"""Training a detector and running it over a data set, as in EECS 498.

A loader gives batches (images, boxes, w, h, ids): what the detector takes, ground truth (B, N, 5) in pixels filled up
with rows of -1, and widths and heights (B,) of the images in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.detection.boxes import checked_share, coord_trans
from common.detection.detector import evaluation_mode
from common.progress import progress
from common.validate import Stream, checked_sizes, stream

Loader = Iterable[tuple]
MakeOptimiser = Callable[..., torch.optim.Optimizer]


class MapLoader:
    """A loader of maps or images that lie in memory: each pass over it gives all of them once, in batches.

    Attributes:
        rng: of the order, a new one for each pass; None = the order in which they lie, as inference needs it.
    """

    def __init__(self, maps: Any, boxes: Any, w: Any, h: Any, batch_size: int = 100, rng: Stream = None):
        """
        Args:
            maps: (P, D, H, W), an array or a tensor, in any floating dtype.
            boxes: (P, N, 5) objects in pixels, filled up with rows of -1.
            w, h: (P,) sizes of the images in pixels.
            batch_size: images in a batch; the last one may be smaller.
            rng: seed or RandomState, to shuffle; None = no shuffling.
        Raises:
            TypeError, ValueError: lengths that differ, nothing to load, a batch_size below 1.
        """
        checked_sizes(batch_size=batch_size)
        self.columns = [torch.as_tensor(column) for column in (maps, boxes, w, h)]
        self.batch_size, self.rng = batch_size, rng if rng is None else stream(rng)
        lengths = [len(column) for column in self.columns]
        if len(set(lengths)) > 1 or not lengths[0]:
            raise ValueError(f"maps, boxes, w and h must have one length above 0, got {', '.join(map(str, lengths))}")

    def __len__(self) -> int:
        """How many batches a pass gives."""
        return -(-len(self.columns[0]) // self.batch_size)

    def __iter__(self) -> Iterator[tuple]:
        """One pass: (maps, boxes, w, h, their indices)."""
        count = len(self.columns[0])
        order = np.arange(count) if self.rng is None else self.rng.permutation(count)
        for ids in torch.from_numpy(order).split(self.batch_size):
            yield (*(column[ids] for column in self.columns), ids)


def on_map(detector: Any, batch: tuple, device: torch.device | str | None) -> tuple[Tensor, Tensor]:
    """The maps of a batch, and its boxes in units of these maps, both on the device (None = the detector's)."""
    images, boxes, w, h, *_ = batch
    device = next(detector.parameters()).device if device is None else device
    maps = detector.extract(images.to(device))
    return maps, coord_trans(boxes.to(maps), w, h, maps.shape[3], maps.shape[2], mode="p2a")


def DetectionSolver(
    detector: nn.Module,
    train_loader: Loader,
    learning_rate: float = 3e-3,
    lr_decay: float = 1.0,
    num_epochs: int = 20,
    device: torch.device | str | None = None,
    optimizer: MakeOptimiser = torch.optim.SGD,
) -> dict[str, list[float]]:
    """Train a detector, in place.

    Args:
        detector: a `SingleStageDetector`, `RPN` or `TwoStageDetector`.
        train_loader: batches, see above; each pass over it is an epoch.
        learning_rate: in the first epoch.
        lr_decay: factor on the learning rate after each epoch.
        num_epochs: passes over the loader.
        device: where to train; the detector moves there. None = where it is.
        optimizer: makes an optimiser of (parameters, lr=...).
    Returns:
        {"loss_history": a value for each batch, "epoch_loss_history": the mean over the images of each epoch,
        "lr_history": the learning rate of each epoch}.
    Raises:
        ValueError: num_epochs below 1, an empty loader, or a learning rate or decay that is not above 0.
    """
    checked_sizes(num_epochs=num_epochs)
    if not (learning_rate > 0 and lr_decay > 0):
        raise ValueError(f"learning_rate and lr_decay must be above 0, got {learning_rate} and {lr_decay}")
    if device is not None:
        detector.to(device)
    optimiser = optimizer([p for p in detector.parameters() if p.requires_grad], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda epoch: lr_decay**epoch)
    history: dict[str, list[float]] = {"loss_history": [], "epoch_loss_history": [], "lr_history": []}
    detector.train()
    for _ in progress(range(num_epochs), desc="train", unit="epoch"):
        losses, sizes = [], []
        for batch in train_loader:
            loss = detector(*on_map(detector, batch, device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            sizes.append(len(batch[0]))
        history["loss_history"] += losses
        history["epoch_loss_history"].append(weighted_mean(losses, sizes))
        history["lr_history"] += schedule.get_last_lr()
        schedule.step()
    return history


def weighted_mean(losses: Sequence[float], sizes: Sequence[int]) -> float:
    """The mean over images of losses that are means over batches of these sizes.

    Raises:
        ValueError: no batches.
    """
    if not sizes:
        raise ValueError("the loader gave no batch")
    return math.fsum(loss * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)


def DetectionEvaluater(detector: nn.Module, loader: Loader, device: torch.device | str | None = None) -> float:
    """The mean loss over the images of a data set, in evaluation mode and without gradients.

    Args:
        detector, loader, device: as in `DetectionSolver`.
    Returns:
        The loss. Negatives are drawn at random, so it varies a little unless the detector has a seeded rng.
    Raises:
        ValueError: an empty loader.
    """
    if device is not None:
        detector.to(device)
    losses, sizes = [], []
    with evaluation_mode(detector):
        for batch in progress(loader, desc="loss", unit="batch"):
            losses.append(detector(*on_map(detector, batch, device)).item())
            sizes.append(len(batch[0]))
    return weighted_mean(losses, sizes)


def detection_inference(
    detector: nn.Module,
    data_loader: Loader,
    dataset: Any = None,
    thresh: float = 0.8,
    nms_thresh: float = 0.3,
    device: torch.device | str | None = None,
) -> list[Tensor]:
    """What a detector finds in each image of a data set, in pixels.

    Boxes are cut at the border of the map first and scaled to pixels then, so that none leaves its image.

    Args:
        detector, data_loader, device: as in `DetectionSolver`; the loader must not shuffle.
        dataset: what the loader reads; if given, it must hold as many images as the loader gave.
        thresh: only detections with more confidence. 0.8 is the course's; for average precision take 0.05, since what
            is left out here can never be recalled.
        nms_thresh: of two detections that overlap by more than this, one stays.
    Returns:
        For each image (K, 6) on the CPU: x1, y1, x2, y2, class, score.
    Raises:
        ValueError: thresholds outside [0, 1], or a loader that leaves images out.
    """
    checked_share("thresh", thresh)
    checked_share("nms_thresh", nms_thresh)
    if device is not None:
        detector.to(device)
    detections = []
    for batch in progress(data_loader, desc="detect", unit="batch"):
        with evaluation_mode(detector):
            maps, _ = on_map(detector, batch, device)
            found = detector.inference(maps, thresh, nms_thresh)
        for boxes, conf, classes, w, h in zip(*found, batch[2], batch[3], strict=True):
            rows = torch.cat((clamp_to_map(boxes, maps), classes.to(boxes), conf), dim=1)
            detections.append(coord_trans(rows, w, h, maps.shape[3], maps.shape[2], mode="a2p").cpu())
    if dataset is not None and len(dataset) != len(detections):
        raise ValueError(f"data_loader gave {len(detections)} images, but dataset holds {len(dataset)}")
    return detections


def clamp_to_map(boxes: Tensor, maps: Tensor) -> Tensor:
    """Boxes (K, 4) in units of the maps (B, D, H, W), cut at their border."""
    H, W = maps.shape[2:]
    return boxes.clamp(min=boxes.new_zeros(4), max=boxes.new_tensor((W, H, W, H)))
