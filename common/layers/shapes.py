"""Output sizes of sliding windows, and the checks that the naive and the fast layers share."""

from __future__ import annotations

from typing import Any

import numpy as np


def output_size(size: int, kernel: int, stride: int, pad: int = 0) -> int:
    """How many places a window has along one axis: 1 + (size + 2 pad - kernel) / stride.

    Args:
        size, kernel: of the input and of the window, in pixels.
        stride: step between two places.
        pad: zeros added at each end.
    Raises:
        ValueError: the window is larger than the padded input, or the places do not end at its edge.
    """
    room = size + 2 * pad - kernel
    if room < 0:
        raise ValueError(f"a window of {kernel} does not fit an input of {size} with padding {pad}")
    if room % stride:
        raise ValueError(
            f"(size + 2 pad - kernel) / stride must be a whole number, got ({size} + {2 * pad} - {kernel}) / {stride}"
        )
    return 1 + room // stride


def conv_geometry(x: np.ndarray, w: np.ndarray, b: np.ndarray, conv_param: dict[str, Any]) -> tuple[int, int, int, int]:
    """Check a convolution's arguments.

    Args:
        x: (N, C, H, W) inputs; w: (F, C, HH, WW) filters; b: (F,) biases.
        conv_param: stride (default 1) and pad (default 0), in pixels.
    Returns:
        stride, pad, and the height and width of the output.
    Raises:
        ValueError: wrong numbers of axes, an empty array, shapes that do not fit, a stride below 1, a pad below 0.
        TypeError: numbers that are not floating.
    """
    if x.ndim != 4 or w.ndim != 4 or not x.size or not w.size or x.shape[1] != w.shape[1] or b.shape != w.shape[:1]:
        raise ValueError(
            f"x (N, C, H, W), w (F, C, HH, WW) and b (F,), none empty, are needed, got {x.shape}, {w.shape}, {b.shape}"
        )
    _floating(x=x, w=w, b=b)
    stride, pad = conv_param.get("stride", 1), conv_param.get("pad", 0)
    _whole("stride", stride, 1)
    _whole("pad", pad, 0)
    H, W = (output_size(x.shape[i], w.shape[i], stride, pad) for i in (2, 3))
    return stride, pad, H, W


def pool_geometry(x: np.ndarray, pool_param: dict[str, Any]) -> tuple[int, int, int, int, int]:
    """Check a pooling layer's arguments.

    Args:
        x: (N, C, H, W) inputs.
        pool_param: pool_height, pool_width and stride, in pixels.
    Returns:
        pool_height, pool_width, stride, and the height and width of the output.
    Raises:
        ValueError: wrong number of axes, no numbers, a window or stride below 1, windows that miss the edge.
        TypeError: numbers that are not floating.
        KeyError: a missing entry.
    """
    if x.ndim != 4 or not x.size:
        raise ValueError(f"x (N, C, H, W), not empty, is needed, got {x.shape}")
    _floating(x=x)
    sizes = [pool_param[name] for name in ("pool_height", "pool_width", "stride")]
    for name, value in zip(("pool_height", "pool_width", "stride"), sizes, strict=True):
        _whole(name, value, 1)
    height, width, stride = sizes
    return height, width, stride, output_size(x.shape[2], height, stride), output_size(x.shape[3], width, stride)


def check_dout(dout: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the gradient has the shape of the output it belongs to."""
    if dout.shape != shape:
        raise ValueError(f"dout must have the output's shape {shape}, got {dout.shape}")


def _whole(name: str, value: int, least: int) -> None:
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _floating(**arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise TypeError(f"{name} must hold floating-point numbers, got {array.dtype}")
