"""Overlap and non-maximum suppression of 5,000 boxes against torchvision's operators on the CPU.

    python -m benchmarks.detection [--threads 2] [--rounds 5]

"crowded": corners and sizes drawn from 0 to 100 pixels, as in the check of EECS 498, so that most boxes overlap many
others. "scattered": corners over 1000 pixels, so that most boxes stay. Every rival runs in worker processes of its own,
in turns. Claim: at most twice the time of torchvision, and the same boxes kept.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks._rivals import compare

BOXES = 5000
SPREAD = {"crowded": 100, "scattered": 1000}  # pixels
MOST = 2.0  # times the time of torchvision


def data(spread: int) -> tuple:
    """Boxes (5000, 4) with whole coordinates in float32, and scores (5000,)."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    rng = np.random.RandomState(0)
    corners, sizes = rng.randint(0, spread + 1, (BOXES, 2)), rng.randint(1, 102, (BOXES, 2))
    boxes = torch.from_numpy(np.hstack((corners, corners + sizes)).astype(np.float32))
    return boxes, torch.from_numpy(rng.permutation(BOXES).astype(np.float32))


def ours_nms(spread: int, threshold: float) -> Callable:
    """Our nms."""
    from common.detection.boxes import nms

    boxes, scores = data(spread)
    return warm(lambda: nms(boxes, scores, threshold).numpy())


def torchvision_nms(spread: int, threshold: float) -> Callable:
    """torchvision's, which is written in C++."""
    from torchvision.ops import nms

    boxes, scores = data(spread)
    return warm(lambda: nms(boxes, scores, threshold).numpy())


def ours_iou() -> Callable:
    """Our IoU of 5,000 proposals with as many boxes; a few rows of the table are compared."""
    from common.detection.boxes import IoU

    boxes, _ = data(100)
    return warm(lambda: IoU(boxes.view(1, 1, 1, BOXES, 4), boxes[None])[0, ::500].numpy().copy())


def torchvision_iou() -> Callable:
    """torchvision's."""
    from torchvision.ops import box_iou

    boxes, _ = data(100)
    return warm(lambda: box_iou(boxes, boxes)[::500].numpy().copy())


def warm(call: Callable) -> Callable:
    """The call, after one that is not timed."""
    call()
    return call


def judge(name: str, ours: Callable, theirs: Callable, rounds: int, repeats: int) -> None:
    """Time both, see that results agree, print the ratio."""
    mine, other = compare({"ours": ours, "torchvision": theirs}, rounds, repeats).values()
    assert mine.result.shape == other.result.shape and np.allclose(mine.result, other.result), f"{name}: other results"
    ratio = mine.seconds / other.seconds
    print(
        f"{'held  ' if ratio <= MOST else 'MISSED'} {name:22}{1e3 * mine.seconds:8.1f} ms, torchvision "
        f"{1e3 * other.seconds:8.1f} ms: {ratio:.2f} times its time, at most {MOST:g}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    os.environ.update(
        dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(options.threads))
    )
    print(f"{options.threads} threads, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    judge("IoU", ours_iou, torchvision_iou, options.rounds, options.repeats)
    for scene, spread in SPREAD.items():
        for threshold in (0.3, 0.5, 0.7):
            ours, theirs = (partial(f, spread, threshold) for f in (ours_nms, torchvision_nms))
            judge(f"nms, {scene}, {threshold}", ours, theirs, options.rounds, options.repeats)


if __name__ == "__main__":
    main()
