"""What style transfer makes small: content, style and total variation.

Gatys, Ecker and Bethge, "Image style transfer using convolutional neural networks" (2016). Content is a feature map;
style is which features occur together, wherever that is.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from common.validate import checked_count
from common.vision.images import checked_picture, resize


def content_loss(content_weight: float, content_current: Tensor, content_original: Tensor) -> Tensor:
    """w * sum (F - P)^2.

    Args:
        content_weight: w.
        content_current: F (1, C, h, w), features of the picture that is made.
        content_original: P, features of the content picture, of the same shape.
    Returns:
        A scalar.
    Raises:
        ValueError: shapes that differ.
    """
    if content_current.shape != content_original.shape:
        raise ValueError(
            f"content_current and content_original must have one shape, got {tuple(content_current.shape)} "
            f"and {tuple(content_original.shape)}"
        )
    ### BEGIN SOLUTION style_transfer, 2
    return content_weight * ((content_current - content_original) ** 2).sum()
    ### END SOLUTION


def gram_matrix(features: Tensor, normalize: bool = True, mask: Tensor | None = None) -> Tensor:
    """For each pair of channels the sum over all places of their product: G = F F^T.

    Args:
        features: (N, C, H, W); not changed.
        normalize: divide by C H W.
        mask: (1, 1, H, W), how much each place counts, 0 or more; then H W is replaced by the sum of the mask. None =
            all count 1. Gatys et al., "Controlling perceptual factors in neural style transfer" (2017).
    Returns:
        (N, C, C).
    Raises:
        ValueError: features that are not 4-D, or a mask of another height and width, or of zeros.
    """
    if features.ndim != 4 or not features.numel():
        raise ValueError(f"features must have shape (N, C, H, W), none of them 0, got {tuple(features.shape)}")
    C, H, W = features.shape[1:]
    if mask is not None and (mask.shape != (1, 1, H, W) or not mask.min() >= 0 or not mask.sum() > 0):
        raise ValueError(
            f"mask must have shape (1, 1, {H}, {W}) and values of at least 0, not all of them 0, "
            f"got {tuple(mask.shape)} from {mask.min().item():g} to {mask.max().item():g}"
        )
    ### BEGIN SOLUTION style_transfer, 3
    F = features.flatten(2)  # (N, C, H W), also of what is not contiguous
    weighted = F if mask is None else F * mask.flatten(2)
    gram = weighted @ F.transpose(1, 2)  # (N, C, C)
    places = H * W if mask is None else mask.sum()
    return gram / (C * places) if normalize else gram
    ### END SOLUTION


def style_loss(
    feats: Sequence[Tensor],
    style_layers: Sequence[int],
    style_targets: Sequence[Tensor],
    style_weights: Sequence[float],
    mask: Tensor | None = None,
) -> Tensor:
    """sum over layers of w_l * sum (G_l - A_l)^2, with the Gram matrices G_l of the features.

    Args:
        feats: features of the picture that is made, one (1, C, h, w) a layer, as of `extract_features`.
        style_layers: indices into feats.
        style_targets: A_l, one (1, C, C) for each of these layers.
        style_weights: w_l, one for each of these layers.
        mask: (1, 1, H, W) of any size, where the picture is to have this style; None = everywhere.
    Returns:
        A scalar.
    Raises:
        ValueError: lengths that differ, a layer that is not there, or a target of another shape.
    """
    checked_layers(style_layers, style_weights, len(feats))
    if len(style_targets) != len(style_layers):
        raise ValueError(f"there are {len(style_layers)} style_layers, but {len(style_targets)} style_targets")
    for layer, target in zip(style_layers, style_targets, strict=True):
        C = feats[layer].shape[1]
        if target.shape != (1, C, C):
            raise ValueError(f"style_targets: layer {layer} needs (1, {C}, {C}), got {tuple(target.shape)}")
    ### BEGIN SOLUTION style_transfer, 4
    loss = feats[0].new_zeros(())
    for layer, target, weight in zip(style_layers, style_targets, style_weights, strict=True):
        gram = gram_matrix(feats[layer], mask=mask_at(mask, feats[layer]))
        loss = loss + weight * ((gram - target) ** 2).sum()
    ### END SOLUTION
    return loss


def tv_loss(img: Tensor, tv_weight: float) -> Tensor:
    """Total variation: w times the sum of the squared differences of neighbours, one below or one beside the other.

    Args:
        img: (1, 3, H, W).
        tv_weight: w.
    Returns:
        A scalar.
    Raises:
        ValueError: img is not 4-D.
        TypeError: img is no floating-point tensor.
    """
    checked_picture(img, "img", channels=None)
    ### BEGIN SOLUTION style_transfer, 5
    down = img[:, :, 1:, :] - img[:, :, :-1, :]
    right = img[:, :, :, 1:] - img[:, :, :, :-1]
    return tv_weight * ((down**2).sum() + (right**2).sum())
    ### END SOLUTION


def checked_layers(style_layers: Sequence[int], style_weights: Sequence[float], count: int) -> None:
    """As many weights as layers, and each layer an index below count.

    Raises:
        ValueError: it is not so.
    """
    if len(style_layers) != len(style_weights):
        raise ValueError(f"there are {len(style_layers)} style_layers, but {len(style_weights)} style_weights")
    for layer in style_layers:
        checked_count("style_layers", layer, 0, count - 1)


def mask_at(mask: Tensor | None, features: Tensor) -> Tensor | None:
    """A mask (1, 1, H, W) at the height and width of a feature map; None stays None."""
    return None if mask is None else resize(mask.to(features), features.shape[2:])
