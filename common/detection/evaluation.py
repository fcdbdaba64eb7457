"""How good are detections? Average precision for each class, its mean, and what the wrong ones got wrong.

Detections of an image are rows x1, y1, x2, y2, class, score; its ground truth rows x1, y1, x2, y2, class and, if known,
difficult (0 or 1). Both are in the same unit, whichever. Rows of padding are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.detection.boxes import checked_boxes, checked_share, is_object, is_padding, pairwise_iou
from common.validate import checked_sizes

Rows = Sequence[Tensor]  # one tensor for each image
KINDS = ("right", "duplicate", "localisation", "confusion", "background", "ignored")
LEAST_OVERLAP = 0.1  # with less, a detection is on the background (Hoiem et al., 2012)


@dataclass
class Matched:
    """One image: its detections, highest score first, and the object that each of them found.

    Attributes:
        detections: (K, 6).
        order: (K,) where each of them was in the rows as they came.
        objects: (N, 5 or 6).
        iou: (K, N).
        found: (K,) index of the object; -1 = none, -2 = a difficult one, which does not count.
        counts: (N,) False for difficult objects that do not count.
    """

    detections: np.ndarray
    order: np.ndarray
    objects: np.ndarray
    iou: np.ndarray
    found: np.ndarray
    counts: np.ndarray


# Matching ------------------------------------------------------------------------------------------------------


def match_detections(
    detections: Rows, ground_truth: Rows, num_classes: int, iou_thresh: float = 0.5, use_difficult: bool = False
) -> list[Matched]:
    """Give every detection, highest score first, the free object of its class that it overlaps most, if enough.

    A detection that finds no free object, but a difficult one that does not count, is neither right nor wrong.

    Args:
        detections, ground_truth: for each image (K, 6) and (N, 5 or 6), as above.
        num_classes: C.
        iou_thresh: an overlap of at least this much is enough.
        use_difficult: difficult objects count as others do.
    Returns:
        One `Matched` for each image.
    Raises:
        TypeError, ValueError: lists of different lengths, other shapes, classes or scores that make no sense, an object
            without area, or a threshold outside [0, 1].
    """
    checked_share("iou_thresh", iou_thresh)
    checked_sizes(num_classes=num_classes)
    if len(detections) != len(ground_truth):
        raise ValueError(f"detections are of {len(detections)} images, ground_truth of {len(ground_truth)}")
    matched = []
    for image, (found, true) in enumerate(zip(detections, ground_truth, strict=True)):
        found = checked_rows(found, f"detections[{image}]", 6, num_classes)
        true = checked_rows(true, f"ground_truth[{image}]", 5, num_classes)
        if not is_object(true).all():
            raise ValueError(f"ground_truth[{image}] holds a box with x2 <= x1 or y2 <= y1")
        matched.append(match_image(found, true, iou_thresh, use_difficult))
    return matched


def checked_rows(rows: Any, name: str, columns: int, num_classes: int) -> Tensor:
    """The rows of one image in float64 on the CPU, without padding, if numbers are finite and classes 0 to C - 1.

    Raises:
        TypeError, ValueError: they are not.
    """
    rows = checked_boxes(rows, name, "(K, 6)" if columns == 6 else "(N, 5)", columns).detach().cpu().double()
    rows = rows[~is_padding(rows)]
    if not rows.isfinite().all():
        raise ValueError(f"{name} holds numbers that are not finite")
    classes = rows[:, 4]
    odd = classes[(classes < 0) | (classes >= num_classes) | (classes != classes.floor())]
    if len(odd):
        raise ValueError(f"{name} holds class {odd[0].item():g}; allowed are 0 to {num_classes - 1}")
    return rows


def match_image(detections: Tensor, objects: Tensor, iou_thresh: float, use_difficult: bool) -> Matched:
    """`match_detections` for one image."""
    order = detections[:, 5].argsort(descending=True, stable=True)
    detections = detections[order]
    iou = pairwise_iou(detections, objects).numpy()  # (K, N)
    same_class = (detections[:, 4, None] == objects[:, 4]).numpy()
    difficult = (objects[:, 5] > 0).numpy() if objects.shape[1] > 5 else np.zeros(len(objects), bool)
    counts = ~difficult | use_difficult
    enough = same_class & (iou >= iou_thresh)
    found, free = np.full(len(detections), -1), counts.copy()
    for k in np.flatnonzero(enough.any(axis=1)):
        candidates = np.flatnonzero(enough[k] & free)
        if len(candidates):
            found[k] = candidates[iou[k, candidates].argmax()]
            free[found[k]] = False
        elif (enough[k] & ~counts).any():
            found[k] = -2
    return Matched(detections.numpy(), order.numpy(), objects.numpy(), iou, found, counts)


# Average precision ---------------------------------------------------------------------------------------------


def precision_recall(scores: np.ndarray, right: np.ndarray, num_objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of the k most confident detections of a class, for every k.

    Args:
        scores: (K,); of equal scores the first leads.
        right: (K,) bool.
        num_objects: how many there are to be found.
    Returns:
        precision = right ones / k and recall = right ones / num_objects, (K,) float64 each.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    return hits / np.arange(1, len(hits) + 1), hits / max(num_objects, 1)


def average_precision(precision: np.ndarray, recall: np.ndarray, method: str = "area") -> float:
    """One number for a curve of precision over recall, each precision replaced by the highest at no lower recall.

    Args:
        precision, recall: (K,) of `precision_recall`.
        method: "area" under the curve (VOC since 2010); "11point": mean of the precisions at recall 0, 0.1 ... 1
            (VOC 2007, Everingham et al., 2010).
    Returns:
        From 0 to 1.
    Raises:
        ValueError: another method.
    """
    if method not in ("area", "11point"):
        raise ValueError(f"method must be 'area' or '11point', got {method!r}")
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if method == "area":
        return float(np.sum(np.diff(recall, prepend=0.0) * envelope))
    first = np.searchsorted(recall, np.arange(11) / 10)  # the first place with at least that recall
    return float(np.append(envelope, 0.0)[first].mean())  # a recall that is never reached has precision 0


def evaluate_detections(
    detections: Rows,
    ground_truth: Rows,
    num_classes: int,
    iou_thresh: float = 0.5,
    method: str = "area",
    use_difficult: bool = False,
) -> dict[str, Any]:
    """Average precision for each class, and its mean over the classes that have objects.

    Args:
        detections, ground_truth, num_classes, iou_thresh, use_difficult: as in `match_detections`.
        method: as in `average_precision`.
    Returns:
        "ap" (C,) float64 tensor, NaN for classes without objects; "mAP", their mean, NaN if there are no objects at
        all; "precision", "recall" and "scores", for each class an array (K,), highest score first; "num_objects" (C,).
    Raises:
        TypeError, ValueError: as `match_detections`; another method.
    """
    images = match_detections(detections, ground_truth, num_classes, iou_thresh, use_difficult)
    rows = np.concatenate([np.zeros((0, 6)), *(it.detections for it in images)])
    found = np.concatenate([np.zeros(0, int), *(it.found for it in images)])
    rows, found = rows[found != -2], found[found != -2]  # neither right nor wrong
    objects = np.concatenate([np.zeros(0), *(it.objects[it.counts, 4] for it in images)])
    num_objects = np.bincount(objects.astype(int), minlength=num_classes)
    result: dict[str, Any] = {"precision": [], "recall": [], "scores": [], "num_objects": torch.from_numpy(num_objects)}
    ap = np.full(num_classes, np.nan)
    for c, total in enumerate(num_objects):
        of_class = rows[:, 4] == c
        scores = rows[of_class, 5]
        precision, recall = precision_recall(scores, found[of_class] >= 0, total)
        score_of_class = average_precision(precision, recall, method)
        ap[c] = score_of_class if total else np.nan
        for name, values in {"precision": precision, "recall": recall, "scores": -np.sort(-scores)}.items():
            result[name].append(values)
    mean = float(np.nanmean(ap)) if num_objects.any() else float("nan")
    return {"ap": torch.from_numpy(ap), "mAP": mean} | result


# What went wrong -----------------------------------------------------------------------------------------------


def error_analysis(
    detections: Rows, ground_truth: Rows, num_classes: int, iou_thresh: float = 0.5, use_difficult: bool = False
) -> dict[str, Any]:
    """What kind of detection each one is, and which objects nobody found.

    right         found an object.
    duplicate     overlaps an object of its class enough, but another detection has found it.
    localisation  overlaps an object of its class most, but not enough.
    confusion     overlaps an object of another class most.
    background    overlaps no object by 0.1.
    ignored       found a difficult object that does not count.

    After Hoiem et al., Diagnosing error in object detectors (2012).

    Args:
        detections, ground_truth, num_classes, iou_thresh, use_difficult: as in `match_detections`.
    Returns:
        "kinds": for each image a list of these words, in the order of its detections, padding left out;
        "counts": {word: how many}; "by_class": (C, 6) the same for each class, in the order of `KINDS`;
        "missed": (C,) objects that no detection found; "num_objects": (C,) all that count.
    Raises:
        TypeError, ValueError: as `match_detections`.
    """
    images = match_detections(detections, ground_truth, num_classes, iou_thresh, use_difficult)
    by_class = torch.zeros(num_classes, len(KINDS), dtype=torch.int64)
    missed, num_objects = (torch.zeros(num_classes, dtype=torch.int64) for _ in range(2))
    kinds = []
    for it in images:
        words = np.array([kind_of(it, k, iou_thresh) for k in range(len(it.found))], dtype=object)
        for c, kind in zip(it.detections[:, 4].astype(int), words, strict=True):
            by_class[c, KINDS.index(kind)] += 1
        kinds.append(words[np.argsort(it.order)].tolist())  # as they came
        for n in np.flatnonzero(it.counts):
            num_objects[int(it.objects[n, 4])] += 1
            missed[int(it.objects[n, 4])] += n not in it.found
    counts = dict(zip(KINDS, by_class.sum(dim=0).tolist(), strict=True))
    return {"kinds": kinds, "counts": counts, "by_class": by_class, "missed": missed, "num_objects": num_objects}


def kind_of(it: Matched, k: int, iou_thresh: float) -> str:
    """The word for detection k of an image; see `error_analysis`."""
    if it.found[k] != -1:
        return "right" if it.found[k] >= 0 else "ignored"
    same_class = it.objects[:, 4] == it.detections[k, 4]
    if (same_class & (it.iou[k] >= iou_thresh)).any():
        return "duplicate"
    if it.iou[k].max(initial=0.0) < LEAST_OVERLAP:
        return "background"
    return "localisation" if same_class[it.iou[k].argmax()] else "confusion"
