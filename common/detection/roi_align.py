"""RoIAlign by hand, one region at a time: what `torchvision.ops.roi_align` computes for many, and with gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from common.detection.boxes import checked_boxes
from common.validate import checked_sizes


def bilinear(features: Tensor, x: float, y: float) -> Tensor:
    """The map at one point, between the four cells whose centres surround it.

    The value of row i, column j lies at (j + 0.5, i + 0.5). Up to half a cell beyond the outermost centres, and so up
    to the border of the map, the nearest value holds; more than a cell beyond them the map is 0.

    Args:
        features: (D, H, W).
        x, y: in units of the map.
    Returns:
        (D,).
    """
    _, H, W = features.shape
    x, y = x - 0.5, y - 0.5  # so that centres have whole coordinates
    if not (-1 <= x <= W and -1 <= y <= H):
        return torch.zeros_like(features[:, 0, 0])
    x, y = min(max(x, 0.0), W - 1), min(max(y, 0.0), H - 1)
    j, i = min(int(x), max(W - 2, 0)), min(int(y), max(H - 2, 0))  # the cell above and to the left
    right, below = min(j + 1, W - 1), min(i + 1, H - 1)
    u, v = x - j, y - i  # how far towards the next column and the next row
    above_value = (1 - u) * features[:, i, j] + u * features[:, i, right]
    below_value = (1 - u) * features[:, below, j] + u * features[:, below, right]
    return (1 - v) * above_value + v * below_value


def roi_align_naive(features: Tensor, box: Tensor, output_size: tuple[int, int], samples: int = 2) -> Tensor:
    """Cut a box into h x w bins and average samples x samples points of the map in each.

    He et al., Mask R-CNN (2017). Nothing is rounded to whole cells, neither the box nor the bins.

    Args:
        features: (D, H, W) the map of one image.
        box: (4,) in units of the map.
        output_size: (h, w).
        samples: points along each side of a bin, at equal distances.
    Returns:
        (D, h, w).
    Raises:
        TypeError, ValueError: shapes that do not fit, or a size below 1.
    """
    checked_boxes(features, "features", "(D, H, W)", columns=1)
    checked_boxes(box, "box", "(4)")
    h, w = output_size
    checked_sizes(h=h, w=w, samples=samples)
    x1, y1, x2, y2 = box[:4].tolist()
    bin_w, bin_h = (x2 - x1) / w, (y2 - y1) / h
    out = features.new_zeros((len(features), h, w))
    for i in range(h):
        for j in range(w):
            for p in range(samples):
                for q in range(samples):
                    x = x1 + (j + (q + 0.5) / samples) * bin_w
                    y = y1 + (i + (p + 0.5) / samples) * bin_h
                    out[:, i, j] += bilinear(features, x, y) / samples**2
    return out
