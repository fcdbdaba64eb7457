"""DeepDream: change a picture so that what a layer sees in it already becomes stronger.

Mordvintsev, Olah and Tyka, "Inceptionism: going deeper into neural networks" (2015).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from common.progress import progress
from common.validate import Stream, checked_count, stream
from common.vision.class_visualization import Show
from common.vision.gradients import Direction, Scores, feature_map, frozen, valid_range
from common.vision.images import checked_picture, jitter, octave_sizes, resize

LayerGradient = Callable[[Tensor], Tensor]  # features (1, C, h, w) -> the gradient set at the layer, of their shape


def dream_gradient(X: Tensor, phi: Scores, layer_gradient: LayerGradient) -> Tensor:
    """The gradient set at a layer, carried back to the pixels.

    Args:
        X: (1, 3, H, W) normalised picture; not changed.
        phi: pictures -> feature maps (1, C, h, w).
        layer_gradient: features -> gradient at the layer. The features themselves for DeepDream, which ascends
            1/2 ||phi(X)||^2.
    Returns:
        (1, 3, H, W).
    """
    with torch.enable_grad():
        ### BEGIN SOLUTION image_generation, 5
        x = X.detach().clone().requires_grad_()
        feats = phi(x)
        (dX,) = torch.autograd.grad(feats, x, grad_outputs=layer_gradient(feats.detach()))
        ### END SOLUTION
    return dX


def guide_gradient(feats: Tensor, guide_feats: Tensor) -> Tensor:
    """For each location of the picture, the column of the guide's features with the largest dot product.

    Args:
        feats: (1, C, h, w) features of the picture; x_j is the column of location j.
        guide_feats: (1, C, h', w') features of the guide, of any height and width; g_k is a column.
    Returns:
        (1, C, h, w): at location j the g_k with the largest x_j . g_k. It is the gradient of the sum of these maxima.
    Raises:
        ValueError: shapes that do not fit.
    """
    if feats.ndim != 4 or guide_feats.ndim != 4 or len(feats) != 1 or feats.shape[:2] != guide_feats.shape[:2]:
        raise ValueError(
            f"features (1, C, h, w) and (1, C, h', w') are needed, got {tuple(feats.shape)}, {tuple(guide_feats.shape)}"
        )
    ### BEGIN SOLUTION image_generation, 7
    x, g = feats.flatten(2)[0], guide_feats.flatten(2)[0]  # (C, h w), (C, h' w')
    best = (x.T @ g).argmax(dim=1)  # (h w,)
    gradient = g[:, best].reshape(feats.shape)
    ### END SOLUTION
    return gradient


def deepdream(
    X: Tensor,
    layer: Any,
    model: Any,
    learning_rate: float = 5,
    max_jitter: int = 16,
    num_iterations: int = 100,
    show_every: int = 25,
    *,
    direction: Direction | None = None,
    layer_gradient: LayerGradient | None = None,
    octaves: int = 1,
    octave_scale: float = 1.4,
    show: Show | None = None,
    rng: Stream = None,
) -> Tensor:
    """Ascend 1/2 ||phi(X)||^2 from a picture: the gradient at the layer is the activation itself.

    Args:
        X: (1, 3, H, W) normalised picture of any size that the model takes; not changed.
        layer: a layer of the model, or a callable that takes pictures to features.
        model: a Backbone, which also knows its valid range.
        learning_rate: the step is learning_rate times the gradient, after `direction`.
        max_jitter: each step is taken on a picture shifted by up to so many pixels, which is then shifted back.
        num_iterations: steps in each octave; 0 returns a copy of X.
        show_every, show: call show(picture, steps so far) after so many steps; 0 or None = never.
        direction: what makes a step of the gradient, such as `unit_mean`; None = the gradient itself.
        layer_gradient: what is set at the layer; None = the features themselves.
        octaves, octave_scale: begin with a reduced picture and enlarge by this factor, so many sizes in all. What was
            dreamt is enlarged and added to the picture at the next size, so the picture's own detail is kept.
        rng: of the jitter, a RandomState or a seed.
    Returns:
        (1, 3, H, W), within the valid range of a normalised picture after the first step.
    Raises:
        TypeError, ValueError: X is not one picture, unknown layer, a count or size that is not allowed.
    """
    checked_picture(X, "X", one=True)
    for name, value in {"max_jitter": max_jitter, "num_iterations": num_iterations, "show_every": show_every}.items():
        checked_count(name, value, least=0)
    sizes, rng, phi = octave_sizes(tuple(X.shape[2:]), octaves, octave_scale), stream(rng), feature_map(layer, model)
    gradient_at_layer, direction = layer_gradient or (lambda feats: feats), direction or (lambda gradient: gradient)
    lower, upper = valid_range(model, X)
    X, dreamt = X.detach(), torch.zeros_like(X)
    steps = progress(total=num_iterations * len(sizes), desc="dream")
    with frozen(model, layer), torch.no_grad(), steps:
        for here in sizes:
            base = resize(X, here)
            img = base + resize(dreamt, here)
            for t in range(num_iterations):
                ox, oy = rng.randint(-max_jitter, max_jitter + 1, 2)
                ### BEGIN SOLUTION image_generation, 6
                img = jitter(img, ox, oy)
                img = img + learning_rate * direction(dream_gradient(img, phi, gradient_at_layer))
                img = jitter(img, -ox, -oy)
                img = img.clamp(lower, upper)
                ### END SOLUTION
                steps.update()
                if show is not None and show_every and (t + 1) % show_every == 0:
                    show(img, t + 1)
            dreamt = img - base
    return img


def guided_deepdream(X: Tensor, guide: Tensor, layer: Any, model: Any, *args: Any, **options: Any) -> Tensor:
    """DeepDream towards a guide: each location climbs along that column of the guide's features which it matches best.

    Args:
        X: (1, 3, H, W) normalised picture; not changed.
        guide: (1, 3, H', W') normalised picture of any size; not changed.
        layer, model, args, options: as in `deepdream`.
    Returns:
        (1, 3, H, W).
    Raises:
        TypeError, ValueError: as `deepdream`; guide is not one picture.
    """
    checked_picture(guide, "guide", one=True)
    with frozen(model, layer), torch.no_grad():
        guide_feats = feature_map(layer, model)(guide.detach())
    at_layer = partial(guide_gradient, guide_feats=guide_feats)
    return deepdream(X, layer, model, *args, layer_gradient=at_layer, **options)
