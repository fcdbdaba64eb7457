"""What a feature map still knows of a picture: look for a picture with the same features.

Mahendran and Vedaldi, "Understanding deep image representations by inverting them" (2015).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from common.progress import progress
from common.validate import Stream, checked_count, checked_reg, stream
from common.vision.class_visualization import Show
from common.vision.gradients import Direction, feature_map, frozen, valid_range
from common.vision.images import blur_image, checked_picture


def inversion_gradient(X: Tensor, target_feats: Tensor, phi: Any, l2_reg: float) -> tuple[float, Tensor]:
    """||phi(X) - target||^2 + l2_reg * ||X||^2 and its gradient with respect to the pixels.

    Args:
        X: (1, 3, H, W) normalised picture; not changed.
        target_feats: (1, C, h, w), of the shape of phi(X).
        phi: pictures -> feature maps.
        l2_reg: strength of the L2 term.
    Returns:
        The value, and the gradient (1, 3, H, W).
    Raises:
        ValueError: phi(X) has another shape than the target.
    """
    with torch.enable_grad():
        x = X.detach().clone().requires_grad_()
        feats = phi(x)  # (1, C, h, w)
        if feats.shape != target_feats.shape:
            raise ValueError(
                f"target_feats has shape {tuple(target_feats.shape)}, but a picture of {tuple(X.shape)} has features "
                f"{tuple(feats.shape)}; pass start with the height and width that the target came from"
            )
        ### BEGIN SOLUTION image_generation, 2
        difference = feats - target_feats
        value = (difference**2).sum() + l2_reg * (x**2).sum()
        (dX,) = torch.autograd.grad(feats, x, grad_outputs=2 * difference.detach())
        dX = dX + 2 * l2_reg * X
        ### END SOLUTION
    return value.item(), dX.detach()


def invert_features(
    target_feats: Tensor,
    layer: Any,
    model: Any,
    learning_rate: float = 0.05,
    num_iterations: int = 200,
    l2_reg: float = 1e-6,
    blur_every: int = 0,
    show_every: int = 0,
    *,
    optimizer: str = "adam",
    direction: Direction | None = None,
    blur_sigma: float = 0.5,
    start: Tensor | None = None,
    size: int = 224,
    show: Show | None = None,
    rng: Stream = None,
) -> Tensor:
    """A picture whose features are those of another one, by descent on ||phi(X) - target||^2 + l2_reg * ||X||^2.

    Args:
        target_feats: (1, C, h, w) features of the picture that is looked for; not changed.
        layer: a layer of the model, or a callable that takes pictures to features.
        model: a Backbone, which also knows its valid range.
        learning_rate: of the optimiser.
        num_iterations: steps; 0 returns a copy of the start.
        l2_reg: strength of the L2 term.
        blur_every, blur_sigma: smooth the picture after so many steps; 0 = never.
        show_every, show: call show(picture, steps so far) after so many steps; 0 or None = never.
        optimizer: "adam", or "descent" for X -= learning_rate * gradient.
        direction: what makes a step of the gradient, such as `natural`; None = the gradient itself.
        start: (1, 3, H, W) to begin with; None = small normal noise of size x size pixels. Not changed.
        rng: of the noise, a RandomState or a seed.
    Returns:
        (1, 3, H, W), within the valid range of a normalised picture after the first step.
    Raises:
        TypeError, ValueError: shapes that do not fit, an unknown layer or optimizer, a negative number.
    """
    phi = feature_map(layer, model)
    checked_reg(l2_reg)
    for name, value in {"num_iterations": num_iterations, "blur_every": blur_every, "show_every": show_every}.items():
        checked_count(name, value, least=0)
    if optimizer not in ("adam", "descent"):
        raise ValueError(f"optimizer must be 'adam' or 'descent', got {optimizer!r}")
    if start is None:
        start = torch.from_numpy(0.1 * stream(rng).standard_normal((1, 3, size, size)))
    X = checked_picture(start, "start", one=True).detach().to(target_feats, copy=True)
    target_feats = target_feats.detach()
    lower, upper = valid_range(model, X)
    direction = direction or (lambda gradient: gradient)
    rule = (torch.optim.Adam if optimizer == "adam" else torch.optim.SGD)([X], lr=learning_rate)
    with frozen(model, layer), torch.no_grad():
        for t in progress(range(num_iterations), desc="inversion"):
            ### BEGIN SOLUTION image_generation, 3
            _, dX = inversion_gradient(X, target_feats, phi, l2_reg)
            X.grad = direction(dX)
            rule.step()
            X.clamp_(lower, upper)
            if blur_every and t % blur_every == 0:
                blur_image(X, blur_sigma)
            ### END SOLUTION
            if show is not None and show_every and (t + 1) % show_every == 0:
                show(X, t + 1)
    X.grad = None
    return X
