"""Normalisation, random shifts and mirror images on whole batches of uint8 pictures, in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from common.data.cifar10 import MEAN, STD

FLIPS = ("alternate", "random", "none")


def normalise(images: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Pictures with about mean 0 and variance 1 in every colour.

    Args:
        images: (N, 3, H, W) uint8.
        dtype: floating.
    Returns:
        (N, 3, H, W) of dtype, (images / 255 - MEAN) / STD with the constants of `common.data.cifar10`.
    Raises:
        TypeError: images is not uint8.
        ValueError: images is not (N, 3, H, W).
    """
    _check_images(images)
    ### BEGIN SOLUTION pytorch, 2
    mean, std = (images.new_tensor(values, dtype=dtype).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images.to(dtype) - 255 * mean) / (255 * std)
    ### END SOLUTION


def pad_reflect(images: torch.Tensor, margin: int) -> torch.Tensor:
    """Pictures with a border of `margin` pixels that mirrors what is inside, edge row not repeated.

    Args:
        images: (N, 3, H, W) uint8.
        margin: 0 <= margin < H, W.
    Returns:
        (N, 3, H + 2 margin, W + 2 margin).
    Raises:
        TypeError, ValueError: as `normalise`; margin out of range.
    """
    _check_images(images)
    if not 0 <= margin < min(images.shape[2:]):
        raise ValueError(f"margin must be 0 or more and less than {min(images.shape[2:])}, got {margin}")
    rows, columns = (_reflected(size, margin, images.device) for size in images.shape[2:])
    return images[:, :, rows][:, :, :, columns]


def _reflected(size: int, margin: int, device: torch.device) -> torch.Tensor:
    """Indices -margin .. size - 1 + margin, reflected at 0 and at size - 1."""
    index = torch.arange(-margin, size + margin, device=device).abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def crop(padded: torch.Tensor, top: torch.Tensor, left: torch.Tensor, size: int = 32) -> torch.Tensor:
    """From every picture the window that begins at its own row and column.

    Args:
        padded: (N, C, H, W).
        top, left: (N,) int64, 0 to H - size and 0 to W - size.
        size: height and width of the window.
    Returns:
        (N, C, size, size).
    Raises:
        ValueError: padded is smaller than the window, or top and left are not one number a picture.
    """
    if padded.ndim != 4 or min(padded.shape[2:]) < size:
        raise ValueError(f"padded has shape {tuple(padded.shape)}; windows of {size} x {size} do not fit")
    if top.shape != (len(padded),) or left.shape != (len(padded),):
        raise ValueError(f"top and left must have shape ({len(padded)},), got {tuple(top.shape)}, {tuple(left.shape)}")
    ### BEGIN SOLUTION pytorch, 11
    windows = padded.unfold(2, size, 1).unfold(3, size, 1)  # (N, C, places, places, size, size), a view: no copy
    return windows[torch.arange(len(padded), device=padded.device), :, top, left]
    ### END SOLUTION


def mirror(images: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """The pictures for which flip is true with left and right exchanged, the others as they are.

    Args:
        images: (N, C, H, W).
        flip: (N,) bool.
    Returns:
        (N, C, H, W), new.
    """
    ### BEGIN SOLUTION pytorch, 11
    return torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)
    ### END SOLUTION


def flips(coin: torch.Tensor, epoch: int, how: str = "alternate", draw: torch.Generator | None = None) -> torch.Tensor:
    """Which pictures to mirror in an epoch.

    Jordan (2024).

    Args:
        coin: (N,) bool, thrown once for the whole training.
        epoch: counted from 0.
        how: "alternate" - as the coin says in even epochs and the opposite in odd ones, so that two epochs show both
            sides of every picture; "random" - a new coin each epoch; "none".
        draw: generator of the new coins.
    Returns:
        (N,) bool.
    Raises:
        ValueError: another `how`.
    """
    if how not in FLIPS:
        raise ValueError(f"how must be one of {FLIPS}, got {how!r}")
    ### BEGIN SOLUTION pytorch, 11
    if how == "alternate":
        return coin ^ bool(epoch % 2)
    if how == "random":
        return (torch.rand(coin.shape, generator=draw) < 0.5).to(coin.device)
    return torch.zeros_like(coin)
    ### END SOLUTION


def views(
    images: torch.Tensor, shifts: Sequence[tuple[int, int]] = ((0, 0),), mirrored: bool = True
) -> list[torch.Tensor]:
    """The same pictures shifted and mirrored, for test-time augmentation.

    Args:
        images: (N, 3, H, W) uint8.
        shifts: (down, right) in pixels; what comes in over the border is its reflection.
        mirrored: give every shifted batch a second time, left and right exchanged.
    Returns:
        len(shifts) or twice as many batches (N, 3, H, W).
    Raises:
        TypeError, ValueError: as `normalise`; no shifts, or one as large as the picture.
    """
    if not shifts:
        raise ValueError("shifts is empty; ((0, 0),) is the picture itself")
    margin = max(abs(step) for shift in shifts for step in shift)
    padded, (height, width) = pad_reflect(images, margin), images.shape[2:]
    ### BEGIN SOLUTION pytorch, 15
    batches = [padded[:, :, margin - y : margin - y + height, margin - x : margin - x + width] for y, x in shifts]
    return batches + [batch.flip(3) for batch in batches] if mirrored else batches
    ### END SOLUTION


def _check_images(images: torch.Tensor) -> None:
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8 (0 to 255), got {images.dtype}")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images has shape {tuple(images.shape)}; (N, 3, H, W) is needed")
