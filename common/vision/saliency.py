"""Which pixels a class score depends on: saliency maps and two of their successors."""

from __future__ import annotations

import torch
from torch import Tensor

from common.validate import Stream, checked_sizes, stream
from common.vision.gradients import Scores, score_gradient
from common.vision.images import checked_picture


def compute_saliency_maps(X: Tensor, y: Tensor, model: Scores) -> Tensor:
    """The largest absolute derivative of the correct class's raw score over the three colours of each pixel.

    Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks" (2014), section 3.

    Args:
        X: (N, 3, H, W) normalised pictures; not changed.
        y: (N,) classes.
        model: pictures -> scores (N, C) before the softmax.
    Returns:
        (N, H, W), not negative.
    Raises:
        TypeError, ValueError: X is no batch of pictures, or y holds no classes for it.
    """
    ### BEGIN SOLUTION network_visualization, 2
    dX = score_gradient(X, y, model)  # (N, 3, H, W)
    saliency = dX.abs().amax(dim=1)  # (N, H, W)
    ### END SOLUTION
    return saliency


def smooth_grad(
    X: Tensor, y: Tensor, model: Scores, num_samples: int = 16, noise: float = 0.15, rng: Stream = None
) -> Tensor:
    """A saliency map of the gradient averaged over noisy copies of the picture.

    Smilkov et al., "SmoothGrad: removing noise by adding noise" (2017). The signed gradients are averaged;
    absolute value and maximum come last.

    Args:
        X, y, model: as in `compute_saliency_maps`.
        num_samples: noisy copies.
        noise: standard deviation of the noise, as a fraction of the picture's range, max - min.
        rng: a RandomState or a seed.
    Returns:
        (N, H, W), not negative.
    Raises:
        TypeError, ValueError: as `compute_saliency_maps`; num_samples below 1, or noise negative.
    """
    checked_picture(X, "X")
    checked_sizes(num_samples=num_samples)
    if not 0 <= noise < float("inf"):
        raise ValueError(f"noise must be a finite number of at least 0, got {noise}")
    rng, X = stream(rng), X.detach()
    sigma = noise * (X.amax(dim=(1, 2, 3), keepdim=True) - X.amin(dim=(1, 2, 3), keepdim=True))  # (N, 1, 1, 1)
    mean = torch.zeros_like(X)
    for _ in range(num_samples):
        epsilon = torch.from_numpy(rng.standard_normal(tuple(X.shape))).to(X)
        ### BEGIN SOLUTION network_visualization, 3
        dX = score_gradient(X + sigma * epsilon, y, model)
        mean += dX / num_samples
        ### END SOLUTION
    return mean.abs().amax(dim=1)


def integrated_gradients(
    X: Tensor, y: Tensor, model: Scores, baseline: Tensor | None = None, num_steps: int = 32
) -> Tensor:
    """How much each value of the picture adds to the score, on the straight way from a baseline to the picture.

    (X - B) times the mean gradient between B and X. Their sum is s_y(X) - s_y(B), up to the error of the sum that
    stands for the integral. Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks" (2017).

    Args:
        X, y, model: as in `compute_saliency_maps`.
        baseline: a picture without content, of a shape that broadcasts to X; None = zeros, the mean colour.
        num_steps: points on the way, at the middles of equal pieces.
    Returns:
        (N, 3, H, W), signed.
    Raises:
        TypeError, ValueError: as `compute_saliency_maps`; num_steps below 1, or a baseline that does not fit.
    """
    checked_picture(X, "X")
    checked_sizes(num_steps=num_steps)
    X = X.detach()
    start = _baseline(X, baseline)
    mean = torch.zeros_like(X)
    ### BEGIN SOLUTION network_visualization, 4
    for k in range(num_steps):
        between = start + (k + 0.5) / num_steps * (X - start)
        mean += score_gradient(between, y, model) / num_steps
    ### END SOLUTION
    return (X - start) * mean


def _baseline(X: Tensor, baseline: Tensor | None) -> Tensor:
    """The baseline at the shape of X."""
    if baseline is None:
        return torch.zeros_like(X)
    try:
        return baseline.to(X).expand_as(X)
    except RuntimeError:
        raise ValueError(f"baseline has shape {tuple(baseline.shape)}, which does not fit X {tuple(X.shape)}") from None
