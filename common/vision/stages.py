"""Networks as stages that follow one another, and pictures as what they take: any Backbone, and CS231n's `cnn`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from common.validate import checked_count, checked_sizes
from common.vision.gradients import device_of, frozen
from common.vision.images import checked_picture, load_image, preprocess, resize, shorter_side, to_rgb

Layer = int | str  # an index of a stage, or a name of a Backbone's layers
Picture = str | Path | Image.Image | np.ndarray | Tensor


def extract_features(x: Tensor, cnn: Any, last: int | None = None) -> list[Tensor]:
    """The output of every stage of a network, first to last.

    Args:
        x: (N, 3, H, W) normalised pictures.
        cnn: a Backbone, one of torchvision's networks with its stages in `features`, or an nn.Sequential.
        last: index of the last stage that is needed; None = all.
    Returns:
        One (N, C, h, w) a stage.
    Raises:
        TypeError: cnn has no stages, or x is no floating-point tensor.
        ValueError: x is no batch of pictures, holds NaN, or is too small for the network.
    """
    checked_picture(x, "x", channels=None)
    if not x.isfinite().all():
        raise ValueError("x holds pixels that are not finite (NaN or infinity)")
    feats = []
    for module in stages(cnn)[: None if last is None else last + 1]:
        try:
            # A ReLU that works in place would change the map that is in the list already.
            x = module(x.clone() if getattr(module, "inplace", False) else x)
        except RuntimeError as error:
            raise ValueError(f"stage {len(feats)} cannot take a map of {tuple(x.shape)}: {error}") from error
        feats.append(x)
    return feats


def stages(cnn: Any) -> list[nn.Module]:
    """The modules of a network that follow one another, first to last.

    Raises:
        TypeError: there are none.
    """
    for name in ("stages", "features"):
        if isinstance(getattr(cnn, name, None), nn.ModuleList | nn.Sequential):
            return list(getattr(cnn, name))
    if not isinstance(cnn, nn.Sequential) or not len(cnn):
        raise TypeError(f"a Backbone, a network with features, or an nn.Sequential is needed, got {type(cnn).__name__}")
    return list(cnn)


def divide_features(cnn: Any, factor: float) -> None:
    """Divide every feature map of a network by one factor, in place.

    For weights that were trained on pixels of another scale: a loss with the square of the features, and one with
    their fourth power, keep their proportion only if the features have the size that its weights were chosen for.
    Args:
        cnn: stages of convolutions, ReLUs, maximum pooling and concatenation, which are homogeneous: with the first
            kernel and all biases divided, so is every map.
        factor: above 0.
    Raises:
        ValueError: factor is no finite number above 0, or the network has other layers.
    """
    if not 0 < factor < float("inf"):
        raise ValueError(f"factor must be a finite number above 0, got {factor}")
    layers = [part for stage in stages(cnn) for part in stage.modules() if not list(part.children())]
    for layer in layers:
        if not isinstance(layer, nn.Conv2d | nn.ReLU | nn.MaxPool2d):
            raise ValueError(f"only convolutions, ReLUs and maximum pooling scale with their input, not {layer}")
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        convolutions[0].weight.div_(factor)
        for layer in convolutions:
            if layer.bias is not None:
                layer.bias.div_(factor)


def layer_index(cnn: Any, layer: Layer) -> int:
    """Place of a stage: a name of a Backbone's layers as its index, an index as it is.

    Raises:
        ValueError: no such stage.
        TypeError: neither a name nor a whole number.
    """
    if isinstance(layer, str) and hasattr(cnn, "index"):
        return cnn.index(layer)
    return checked_count("layer", layer, 0, len(stages(cnn)) - 1)


def features_from_img(img: Picture, size: int = 512, cnn: Any = None, last: int | None = None) -> tuple[list, Tensor]:
    """Features of a picture, and the picture as the network saw it.

    Args:
        img: as in `as_input`.
        size: pixels of the shorter side.
        cnn, last: as in `extract_features`.
    Returns:
        One (1, C, h, w) a stage, and the normalised picture (1, 3, H, W), none with a gradient.
    Raises:
        TypeError, ValueError, FileNotFoundError: as `as_input` and `extract_features`.
    """
    with torch.no_grad(), frozen(cnn):
        X = as_input(img, size, cnn)
        return extract_features(X, cnn, last), X


def as_input(img: Picture, size: int, cnn: Any) -> Tensor:
    """A picture as the network wants it, on the network's device.

    Args:
        img: a path, a PIL picture, uint8 (H, W, 3), or a tensor (1, 3, H, W), which is normalised already and is only
            brought to its size.
        size: pixels of the shorter side.
        cnn: a Backbone, which knows its normalisation; for other networks it is that of torchvision.
    Returns:
        (1, 3, H, W) float32, or the dtype of the tensor.
    Raises:
        FileNotFoundError: no such file.
        TypeError, ValueError: no picture, or pixels that are not finite.
    """
    checked_sizes(size=size)
    if torch.is_tensor(img):
        if not checked_picture(img, "img", one=True).isfinite().all():
            raise ValueError("img holds pixels that are not finite (NaN or infinity)")
        factor = size / min(img.shape[2:])
        return resize(img.detach(), tuple(round(factor * side) for side in img.shape[2:])).to(device_of(cnn))
    if isinstance(img, str | Path):
        img = load_image(img)
    if isinstance(img, np.ndarray):
        if img.dtype != np.uint8 or img.ndim != 3 or img.shape[2] != 3:
            raise ValueError(f"a picture as an array must be uint8 (H, W, 3), got {img.dtype} {img.shape}")
        img = Image.fromarray(img)
    if not hasattr(cnn, "normalise"):
        return preprocess(img, size).to(device_of(cnn))
    pixels = torch.from_numpy(np.array(shorter_side(to_rgb(img), size)))
    return cnn.normalise(pixels.permute(2, 0, 1)[None])
