"""Style transfer: a picture with the content of one picture and the style of another.

Gatys, Ecker and Bethge, "Image style transfer using convolutional neural networks" (2016). With style weights of 0 this
is the inversion of features, with a content weight of 0 it makes texture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.progress import progress
from common.validate import Stream, checked_count, stream
from common.vision.class_visualization import Show
from common.vision.gradients import frozen, pixel_gradient, valid_range
from common.vision.stages import Layer, Picture, extract_features, features_from_img, layer_index, stages
from common.vision.style_losses import checked_layers, content_loss, gram_matrix, style_loss, tv_loss

History = dict[str, list[float]]
Losses = Callable[[Tensor], dict[str, Tensor]]

# What CS231n used for three paintings, with SqueezeNet 1.1: arguments of `style_transfer`, which change together.
_SQUEEZENET = {"content_layer": 3, "style_layers": (1, 4, 6, 7), "image_size": 192}
_SQUEEZENET |= {"learning_rate": 3.0, "limit": 1.5}
PRESETS: dict[str, dict[str, Any]] = {
    "composition_vii": _SQUEEZENET
    | {"style_size": 512, "content_weight": 5e-2, "style_weights": (20_000, 500, 12, 1), "tv_weight": 5e-2},
    "the_scream": _SQUEEZENET
    | {"style_size": 224, "content_weight": 3e-2, "style_weights": (200_000, 800, 12, 1), "tv_weight": 2e-2},
    "starry_night": _SQUEEZENET
    | {"style_size": 192, "content_weight": 6e-2, "style_weights": (300_000, 1000, 15, 3), "tv_weight": 2e-2},
    # EfficientNet-Lite0: its gradients are strong in fine grain, which `smooth` makes harder to change.
    "efficientnet_lite0": {
        "image_size": 192,
        "style_size": 192,
        "content_layer": "blocks.2",
        "content_weight": 1e-3,
        "style_layers": ("stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3"),
        "style_weights": (300, 3, 1, 2, 2),
        "tv_weight": 2e-2,
        "smooth": 1.0,
    },
}


def style_transfer(
    content_image: Picture,
    style_image: Picture | Sequence[Picture],
    image_size: int,
    style_size: int,
    content_layer: Layer,
    content_weight: float,
    style_layers: Sequence[Layer],
    style_weights: Sequence[float],
    tv_weight: float,
    init_random: bool = False,
    *,
    model: Any,
    masks: Sequence[Any] | None = None,
    optimizer: str = "adam",
    learning_rate: float | None = None,
    num_iterations: int = 200,
    limit: float | None = None,
    smooth: float = 0.0,
    show_every: int = 100,
    show: Show | None = None,
    rng: Stream = None,
) -> tuple[Tensor, History]:
    """Descend on content loss + style loss + total variation with respect to the pixels.

    Args:
        content_image, style_image: as in `as_input`; a list of style pictures needs a mask for each.
        image_size, style_size: pixels of the shorter side of the content picture, which is also that of the result,
            and of the style picture: the larger, the larger the pieces of the style.
        content_layer, content_weight: of `content_loss`. A weight of 0 gives texture.
        style_layers, style_weights: of `style_loss`. Weights of 0 give the inversion of the content features.
        tv_weight: of `tv_loss`.
        init_random: start from noise, uniform from 0 to 1, instead of the content picture.
        model: a Backbone, a network with `features`, or an nn.Sequential; it computes on the device where it is.
        masks: (H, W) each, of any size, from 0 to 1: where the result is to have the style of each picture.
        optimizer: "adam", or "lbfgs" with a line search.
        learning_rate: of the optimiser; None = 0.05 for Adam (CS231n: 3), 1 for L-BFGS. Adam's falls to a thirtieth
            for the last tenth of the steps.
        num_iterations: evaluations of losses and gradient; 0 returns the start. L-BFGS takes up to twenty steps at
            a time, so that there may be a few more.
        limit: pixels are kept from -limit to limit (CS231n: 1.5); None = the valid range of a normalised picture.
        smooth: the picture is its start plus a picture z in which each frequency f is divided by f^smooth, and the
            descent is with respect to z: equal changes of z move large shapes more than fine grain. 0 = the pixels.
        show_every, show: call show(picture, evaluations so far) about so often; 0 or None = never.
        rng: of the noise, a RandomState or a seed.
    Returns:
        The picture (1, 3, H, W), normalised, and a history: content, style, tv and total loss at each evaluation.
    Raises:
        TypeError, ValueError: unknown layer or optimizer, lengths or shapes that do not fit, a picture that is too
            small or holds NaN.
    """
    for name, value in {"num_iterations": num_iterations, "show_every": show_every}.items():
        checked_count(name, value, least=0)
    if optimizer not in ("adam", "lbfgs"):
        raise ValueError(f"optimizer must be 'adam' or 'lbfgs', got {optimizer!r}")
    if not 0 <= smooth < float("inf"):
        raise ValueError(f"smooth must be a finite number of at least 0, got {smooth}")
    if limit is not None and not 0 < limit < float("inf"):
        raise ValueError(f"limit must be a finite number above 0, got {limit}")
    losses, content = make_losses(
        (content_image, image_size, content_layer, content_weight),
        (style_image, style_size, style_layers, style_weights, masks),
        tv_weight,
        model,
    )
    start = torch.from_numpy(stream(rng).uniform(size=tuple(content.shape))) if init_random else content
    start = start.to(content, copy=True)
    limits = valid_range(model, start) if limit is None else (start.new_tensor(-limit), start.new_tensor(limit))
    steps = {"num_iterations": num_iterations, "optimizer": optimizer, "learning_rate": learning_rate}
    steps |= {"show_every": show_every, "show": show}
    with frozen(model), torch.no_grad():
        if smooth:
            return descend_smoothly(start, losses, limits, smooth, **steps)
        return start, descend(start, losses, limits, **steps)


def descend_smoothly(
    start: Tensor, losses: Losses, limits: tuple[Tensor, Tensor], power: float, show: Show | None = None, **steps: Any
) -> tuple[Tensor, History]:
    """`descend` with respect to z, where the picture is start + pink(z), cut to the limits.

    Args:
        start: (1, 3, H, W), not changed.
        losses, limits, show, steps: as in `descend`.
        power: of `pink`.
    Returns:
        The picture and the history.
    """

    def pixels(z: Tensor) -> Tensor:
        return (start + pink(z, power)).clamp(*limits)

    z, free = torch.zeros_like(start), start.new_tensor(float("inf"))
    show_pixels = None if show is None else lambda z, done: show(pixels(z), done)
    history = descend(z, lambda z: losses(pixels(z)), (-free, free), show=show_pixels, **steps)
    return pixels(z), history


def pink(z: Tensor, power: float) -> Tensor:
    """z with each frequency f divided by f^power; noise of variance 1 keeps that variance.

    Args:
        z: (N, C, H, W).
        power: 0 or more.
    """
    h, w = z.shape[2:]
    f = torch.hypot(torch.fft.fftfreq(h)[:, None], torch.fft.fftfreq(w)[None]).clamp_min(1 / max(h, w))  # (h, w)
    factor = f**-power / (f ** (-2 * power)).mean().sqrt()
    return torch.fft.irfft2(torch.fft.rfft2(z) * factor[:, : w // 2 + 1].to(z), s=(h, w))


def make_losses(content: tuple, style: tuple, tv_weight: float, model: Any) -> tuple[Losses, Tensor]:
    """What is to be made small, with the targets that the pictures give.

    Args:
        content: content_image, image_size, content_layer and content_weight of `style_transfer`.
        style: style_image, style_size, style_layers, style_weights and masks.
        tv_weight, model: as there.
    Returns:
        losses(X), which gives {"content": ..., "style": ..., "tv": ...}, and the content picture (1, 3, H, W).
    """
    content_image, image_size, content_layer, content_weight = content
    style_image, style_size, style_layers, style_weights, masks = style
    at, layers = layer_index(model, content_layer), [layer_index(model, layer) for layer in style_layers]
    checked_layers(layers, style_weights, len(stages(model)))
    last = max([at, *layers])
    original, X = features_from_img(content_image, image_size, model, last)
    regions = style_targets(*checked_regions(style_image, masks), style_size, layers, model)

    def losses(x: Tensor) -> dict[str, Tensor]:
        feats = extract_features(x, model, last)
        ### BEGIN SOLUTION style_transfer, 6
        return {
            "content": content_loss(content_weight, feats[at], original[at]),
            "style": sum(style_loss(feats, layers, targets, style_weights, mask) for targets, mask in regions),
            "tv": tv_loss(x, tv_weight),
        }
        ### END SOLUTION

    return losses, X


def style_targets(
    pictures: Sequence[Picture], masks: Iterable[Tensor | None], size: int, layers: Sequence[int], model: Any
) -> list[tuple[list[Tensor], Tensor | None]]:
    """For each style picture its Gram matrices, one a layer, and its mask."""
    regions = []
    for picture, mask in zip(pictures, masks, strict=True):
        feats, _ = features_from_img(picture, size, model, max(layers, default=0))
        regions.append(([gram_matrix(feats[layer]) for layer in layers], mask))
    return regions


def checked_regions(style_image: Any, masks: Sequence[Any] | None) -> tuple[list[Picture], list[Tensor | None]]:
    """Style pictures, and as many masks (1, 1, H, W) or None.

    Raises:
        ValueError: more or fewer masks than pictures, or a mask that is no (H, W) of numbers from 0 to 1.
    """
    pictures = list(style_image) if isinstance(style_image, list | tuple) else [style_image]
    if masks is None and len(pictures) == 1:
        return pictures, [None]
    if len(pictures) != len(masks or []) or not pictures:
        raise ValueError(f"each style picture needs a mask, got {len(pictures)} pictures and {len(masks or [])} masks")
    made = [torch.as_tensor(np.asarray(mask, np.float32)) for mask in masks]
    for mask in made:
        if mask.ndim != 2 or not mask.numel() or not 0 <= mask.min() <= mask.max() <= 1 or not mask.any():
            raise ValueError(f"masks must be (H, W) with values from 0 to 1, not all 0, got {tuple(mask.shape)}")
    return pictures, [mask[None, None] for mask in made]


def descend(
    X: Tensor,
    losses: Losses,
    limits: tuple[Tensor, Tensor],
    num_iterations: int,
    optimizer: str = "adam",
    learning_rate: float | None = None,
    show_every: int = 0,
    show: Show | None = None,
) -> History:
    """Make the sum of the losses small by changing X in place; arguments as in `style_transfer`.

    Args:
        X: (1, 3, H, W), changed.
        losses: losses(x) gives {name: scalar}.
        limits: lowest and highest values of the pixels.
    Returns:
        {name: value at each evaluation} of the losses, and of their sum as total.
    """
    history: History = {name: [] for name in ("content", "style", "tv", "total")}

    def objective(x: Tensor) -> Tensor:
        parts = losses(x)
        for name, value in (parts | {"total": sum(parts.values())}).items():
            history[name].append(value.item())
        return sum(parts.values())

    def closure() -> float:
        value, X.grad = pixel_gradient(objective, X)
        bar.update()
        return value

    rule, evaluations = make_optimizer(X, optimizer, learning_rate), history["total"]
    with progress(total=num_iterations, desc="style") as bar:
        while (done := len(evaluations)) < num_iterations:
            ### BEGIN SOLUTION style_transfer, 6
            if optimizer == "adam" and done == num_iterations * 9 // 10:
                rule = make_optimizer(X, optimizer, rule.param_groups[0]["lr"] / 30)
            rule.step(closure)
            X.clamp_(*limits)
            ### END SOLUTION
            if show is not None and show_every and len(evaluations) // show_every > done // show_every:
                show(X, len(evaluations))
    X.grad = None
    return history


def make_optimizer(X: Tensor, name: str, learning_rate: float | None = None) -> torch.optim.Optimizer:
    """Adam, or L-BFGS that takes twenty steps at a time, for the pixels of X; rates as in `style_transfer`."""
    if name == "adam":
        return torch.optim.Adam([X], lr=0.05 if learning_rate is None else learning_rate)
    rate = 1.0 if learning_rate is None else learning_rate
    return torch.optim.LBFGS([X], lr=rate, max_iter=20, history_size=20, line_search_fn="strong_wolfe")
