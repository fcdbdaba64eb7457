"""Pictures on their way into a network and back: normalise, blur, shift, load."""

from __future__ import annotations

import io
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, UnidentifiedImageError
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from common.validate import checked_sizes

# Mean and standard deviation by colour of the ImageNet training pictures, in [0, 1], as torchvision's networks expect.
SQUEEZENET_MEAN = (0.485, 0.456, 0.406)
SQUEEZENET_STD = (0.229, 0.224, 0.225)


def as_row(values: Sequence[float]) -> Tensor:
    """One number for each colour as (1, 3, 1, 1), so that it meets pictures (N, 3, H, W)."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1)


def preprocess(img: Image.Image, size: int = 224) -> Tensor:
    """A picture as a normalised tensor: shorter side `size`, values (x / 255 - mean) / std.

    Args:
        img: any PIL picture; grey ones and those with transparency become RGB.
        size: pixels of the shorter side.
    Returns:
        (1, 3, H, W) float32.
    Raises:
        ValueError: size below 1.
        TypeError: img is no PIL picture.
    """
    pixels = torch.from_numpy(np.array(shorter_side(to_rgb(img), size), np.float32) / 255)  # (H, W, 3)
    return (pixels.permute(2, 0, 1)[None] - as_row(SQUEEZENET_MEAN)) / as_row(SQUEEZENET_STD)


def deprocess(img: Tensor, should_rescale: bool = True) -> Image.Image:
    """A normalised tensor as a picture.

    Args:
        img: (1, 3, H, W) or (3, H, W), as `preprocess` makes it.
        should_rescale: stretch the values from darkest to brightest; otherwise cut them to 0..255.
    Raises:
        ValueError: another shape.
    """
    x = checked_picture(img[None] if img.ndim == 3 else img, "img", one=True).detach().float().cpu()
    x = x * as_row(SQUEEZENET_STD) + as_row(SQUEEZENET_MEAN)
    x = rescale(x) if should_rescale else x.clamp(0, 1)
    return Image.fromarray((255 * x[0]).round().byte().permute(1, 2, 0).numpy())


def rescale(x: Tensor) -> Tensor:
    """x stretched so that its smallest value is 0 and its largest 1; a constant becomes 0.5 everywhere."""
    low, high = x.min(), x.max()
    return (x - low) / (high - low) if high > low else torch.full_like(x, 0.5)


def blur_image(X: Tensor, sigma: float = 1) -> Tensor:
    """Smooth pictures with a Gaussian along both spatial axes, in place.

    Args:
        X: (N, 3, H, W).
        sigma: standard deviation in pixels; 0 leaves X as it is.
    Returns:
        X.
    Raises:
        ValueError: X is not 4-D, or sigma is negative.
    """
    checked_picture(X, "X", channels=None)
    if not 0 <= sigma < float("inf"):
        raise ValueError(f"sigma must be a finite number of at least 0, got {sigma}")
    if sigma == 0:
        return X
    smooth = X.detach().cpu().numpy()
    for axis in (2, 3):
        smooth = gaussian_filter1d(smooth, sigma, axis=axis)
    with torch.no_grad():
        return X.copy_(torch.from_numpy(smooth))


def jitter(X: Tensor, ox: int, oy: int) -> Tensor:
    """Shift pictures by ox pixels to the right and oy down; what leaves on one side comes back on the other.

    Args:
        X: (N, C, H, W).
        ox, oy: pixels; negative ones shift to the left and up, so `jitter(jitter(X, 3, 5), -3, -5)` is X.
    Returns:
        A new tensor of the shape of X.
    Raises:
        ValueError: X is not 4-D.
    """
    return torch.roll(checked_picture(X, "X", channels=None), (oy, ox), dims=(2, 3))


# Files -------------------------------------------------------------------------------------------------------


def load_image(path: str | Path, size: int | None = None) -> np.ndarray:
    """A picture file as RGB.

    Args:
        path: of a file in any format that Pillow reads.
        size: pixels of the shorter side; None = as it is.
    Returns:
        (H, W, 3) uint8.
    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no picture.
    """
    try:
        with Image.open(path) as file:
            img = to_rgb(file)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a picture that Pillow can read: {error}") from error
    return np.array(img if size is None else shorter_side(img, size))


def image_from_url(url: str | Path) -> np.ndarray:
    """The picture at an address or in a file; without network, or if it is gone, a grey one that says so.

    Args:
        url: http(s) address, or a path.
    Returns:
        (H, W, 3) uint8.
    """
    try:
        if not str(url).startswith(("http://", "https://")):
            return load_image(url)
        with urllib.request.urlopen(str(url), timeout=10) as answer:
            return np.array(to_rgb(Image.open(io.BytesIO(answer.read()))))
    except (OSError, ValueError, RuntimeError) as error:  # pictures of 2014 have long left their hosts
        return _placeholder(f"not available:\n{type(error).__name__}")


def _placeholder(words: str) -> np.ndarray:
    img = Image.new("RGB", (224, 224), (200, 200, 200))
    ImageDraw.Draw(img).multiline_text((112, 112), words, fill=(60, 60, 60), anchor="mm", align="center", font_size=16)
    return np.array(img)


def to_rgb(img: Image.Image) -> Image.Image:
    """A PIL picture with three colours, whatever it had.

    Raises:
        TypeError: it is no PIL picture.
    """
    if not isinstance(img, Image.Image):
        raise TypeError(
            f"a PIL picture is needed, got {type(img).__name__}; Image.fromarray makes one of uint8 (H, W, 3)"
        )
    return img.convert("RGB")


def shorter_side(img: Image.Image, size: int, how: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
    """The picture scaled so that its shorter side has `size` pixels; itself if it has them already."""
    checked_sizes(size=size)
    factor = size / min(img.size)
    return img if factor == 1 else img.resize([max(size, round(factor * side)) for side in img.size], how)


def checked_picture(X: Tensor, name: str, *, channels: int | None = 3, least: int = 1, one: bool = False) -> Tensor:
    """X, if it is a batch of pictures in floating point.

    Args:
        X: (N, C, H, W).
        name: of the argument, for the message.
        channels: how many colours there must be; None = any number.
        least: the smallest allowed height and width.
        one: exactly one picture is allowed.
    Raises:
        TypeError: no tensor, or not of floating-point numbers.
        ValueError: not 4-D, no pictures, wrong number of colours, or too small.
    """
    if not torch.is_tensor(X) or not X.is_floating_point():
        kind = X.dtype if torch.is_tensor(X) else type(X).__name__
        raise TypeError(
            f"{name} must be a floating-point tensor, got {kind}; Backbone.preprocess makes one of pictures"
        )
    colours, pictures = "C" if channels is None else channels, "1" if one else "N"
    wrong = X.ndim != 4 or 0 in X.shape or (one and len(X) != 1) or channels not in (None, X.shape[1])
    if wrong or min(X.shape[2:]) < least:
        size = f" of at least {least} x {least} pixels" if least > 1 else ""
        raise ValueError(f"{name} must have shape ({pictures}, {colours}, H, W){size}, got {tuple(X.shape)}")
    return X


# Sizes -------------------------------------------------------------------------------------------------------


def resize(X: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures (N, C, H, W) at another size (height, width), bilinear; X itself if it has that size."""
    if tuple(X.shape[2:]) == tuple(size):
        return X
    return torch.nn.functional.interpolate(X, size=tuple(size), mode="bilinear", antialias=True, align_corners=False)


def octave_sizes(size: tuple[int, int], octaves: int = 1, scale: float = 1.4, least: int = 32) -> list[tuple[int, int]]:
    """Sizes from small to `size`, each `scale` times the one before; none has a side below `least`.

    Args:
        size: (height, width) of the last one.
        octaves: how many at most; the last one is always there.
        scale: above 1.
        least: pixels.
    Raises:
        ValueError: octaves below 1, or scale not above 1.
    """
    checked_sizes(octaves=octaves)
    if not 1 < scale < float("inf"):
        raise ValueError(f"scale must be a finite number above 1, got {scale}")
    sizes = [tuple(round(side / scale**k) for side in size) for k in reversed(range(octaves))]
    return [s for s in sizes[:-1] if min(s) >= least] + sizes[-1:]
