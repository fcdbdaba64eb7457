"""Gradients with respect to pixels: what all the techniques here share.

Nothing here changes a model: its parameters get no gradient, and it leaves in the mode in which it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from common.validate import checked_labels
from common.vision.images import SQUEEZENET_MEAN, SQUEEZENET_STD, as_row, checked_picture

Scores = Callable[[Tensor], Tensor]  # (N, 3, H, W) -> (N, C)
Direction = Callable[[Tensor], Tensor]  # a gradient -> a step of the same shape


@contextmanager
def frozen(*models: Any) -> Iterator[None]:
    """Inside, the modules are in evaluation mode and their parameters need no gradient; afterwards all is as before.

    Args:
        models: modules; other callables are left alone.
    """
    parts = [part for model in models if isinstance(model, nn.Module) for part in model.modules()]
    parameters = [p for model in models if isinstance(model, nn.Module) for p in model.parameters()]
    modes, needs = [part.training for part in parts], [p.requires_grad for p in parameters]
    try:
        for part in parts:
            part.training = False
        for p in parameters:
            p.requires_grad_(False)
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode
        for p, need in zip(parameters, needs, strict=True):
            p.requires_grad_(need)


def score_gradient(X: Tensor, y: Tensor, model: Scores) -> Tensor:
    """The gradient of each picture's score s_y with respect to its pixels, signs and colours kept.

    Args:
        X: (N, 3, H, W) normalised pictures; not changed.
        y: (N,) classes, 0 to C - 1.
        model: pictures -> scores (N, C), each picture on its own (no batch statistics).
    Returns:
        (N, 3, H, W).
    Raises:
        TypeError, ValueError: X is no batch of pictures, or y holds no classes for it.
    """
    checked_picture(X, "X")
    with frozen(model), torch.enable_grad():
        ### BEGIN SOLUTION network_visualization, 2
        x = X.detach().clone().requires_grad_()  # the caller's X keeps requires_grad and grad as they are
        total = correct_scores(model(x), y).sum()  # a score depends on its own picture only, so the sum mixes nothing
        (dX,) = torch.autograd.grad(total, x)
        ### END SOLUTION
    return dX


def correct_scores(scores: Tensor, y: Tensor) -> Tensor:
    """The score s_y of every picture.

    Args:
        scores: (N, C).
        y: (N,) integers, 0 to C - 1.
    Returns:
        (N,).
    Raises:
        TypeError, ValueError: y does not fit.
    """
    y = torch.as_tensor(y)
    checked_labels(y.cpu().numpy(), "y", tuple(scores.shape), scores.shape[1])
    return scores.gather(1, y.to(scores.device, torch.int64)[:, None]).squeeze(1)


def pixel_gradient(objective: Callable[[Tensor], Tensor], X: Tensor) -> tuple[float, Tensor]:
    """Value of a scalar function of pictures and its gradient, of the shape of X; X is not changed."""
    with torch.enable_grad():
        x = X.detach().clone().requires_grad_()
        value = objective(x)
        (dX,) = torch.autograd.grad(value, x)
    return value.item(), dX


def feature_map(layer: Any, model: Any) -> Scores:
    """Pictures -> the feature map of one layer.

    Args:
        layer: a callable, which is returned as it is; or a name or an index of a layer of the model.
        model: a Backbone, or one of torchvision's networks with their stages in `model.features`.
    Raises:
        TypeError: the model has no named layers.
        ValueError: there is no such layer.
    """
    if callable(layer):
        return layer
    stages = getattr(model, "features", None)
    if isinstance(stages, nn.Sequential):
        if not isinstance(layer, int) or not 0 <= layer < len(stages):
            raise ValueError(f"layer must be an index from 0 to {len(stages) - 1} into model.features, got {layer!r}")
        return stages[: layer + 1]
    if not callable(stages) or not hasattr(model, "index"):
        raise TypeError(f"a {type(model).__name__} has no named layers; pass a callable as layer")
    model.index(layer)  # an unknown layer is refused here, before any computing
    return lambda X: stages(X, layer)


def valid_range(model: Any, X: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised black and white, (1, 3, 1, 1) each: the model's `lower` and `upper`, else those of SQUEEZENET_MEAN."""
    mean, std = as_row(SQUEEZENET_MEAN), as_row(SQUEEZENET_STD)
    low, high = getattr(model, "lower", -mean / std), getattr(model, "upper", (1 - mean) / std)
    return low.to(X), high.to(X)


def device_of(model: Any) -> torch.device:
    """Where a model's first parameter or buffer lies; the CPU for a callable without any."""
    tensors = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    return tensors[0].device if tensors else torch.device("cpu")


# Directions --------------------------------------------------------------------------------------------------


def unit_norm(gradient: Tensor) -> Tensor:
    """g / ||g||_2: a step of length 1 whatever the size of the gradient.

    Raises:
        ValueError: the gradient is zero everywhere, or not finite, and gives no direction.
    """
    norm = gradient.norm()
    if not 0 < norm < float("inf"):
        raise ValueError(f"the gradient has norm {norm.item():g} and gives no direction: the objective is flat here")
    return gradient / norm


def unit_mean(gradient: Tensor) -> Tensor:
    """g / mean |g|: pixels move by 1 on average. A gradient of zeros stays so."""
    return gradient / gradient.abs().mean().clamp_min(1e-12)


# Covariance of red, green and blue, as a share of green's: measured on the 20 ImageNet photographs of foolbox.
COLOURS = ((0.91, 0.85, 0.76), (0.85, 1.00, 0.89), (0.76, 0.89, 0.96))


def natural(gradient: Tensor, power: float = 1.2) -> Tensor:
    """The gradient in the proportions of a photograph: mostly large shapes, mostly grey; its standard deviation is 1.

    The pixel gradient of a network is strong in fine grain and treats colours as independent. Photographs are neither.
    Here each frequency f is divided by f^power, and colours are mixed as in photographs. This is gradient ascent in
    coordinates where photographs are white noise. After Olah, Mordvintsev and Schubert, "Feature visualization" (2017).

    Args:
        gradient: (N, 3, H, W).
        power: 0 leaves the spectrum; the amplitudes of photographs fall about as 1/f^1.3.
    """
    h, w = gradient.shape[2:]
    f = torch.hypot(torch.fft.fftfreq(h)[:, None], torch.fft.rfftfreq(w)[None]).clamp_min(
        1 / max(h, w)
    )  # (h, w // 2 + 1)
    smooth = torch.fft.irfft2(torch.fft.rfft2(gradient) / f.to(gradient) ** power, s=(h, w))
    mixed = torch.einsum("ij,njhw->nihw", torch.tensor(COLOURS).to(gradient), smooth)
    return mixed / mixed.std().clamp_min(1e-12)
