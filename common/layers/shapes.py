"""Output sizes of sliding windows, and the checks that the naive and the fast layers share."""

from __future__ import annotations

from typing import Any

import numpy as np

LARGEST = 2**31 - 1  # pixels of a padded side; the compiled loops multiply two sides


def output_size(size: int, kernel: int, stride: int, pad: int = 0) -> int:
    """How many places a window has along one axis: 1 + (size + 2 pad - kernel) / stride, rounded down.

    Where the places do not end at the edge, the pixels behind the last one are left out, as in PyTorch.

    Args:
        size, kernel: of the input and of the window, in pixels.
        stride: step between two places.
        pad: zeros added at each end.
    Raises:
        ValueError: a number is out of range, or the window is larger than the padded input.
    """
    size, kernel = whole("the input's height or width", size, 1), whole("the window's height or width", kernel, 1)
    stride, pad = whole("stride", stride, 1), whole("pad", pad, 0)
    if size + 2 * pad > LARGEST:
        raise ValueError(f"pad {pad} around an input of {size} makes more than {LARGEST} pixels a side")
    room = size + 2 * pad - kernel
    if room < 0:
        raise ValueError(f"a window of {kernel} does not fit an input of {size} with padding {pad}")
    return 1 + room // stride


def conv_geometry(x: np.ndarray, w: np.ndarray, b: np.ndarray, conv_param: dict[str, Any]) -> tuple[int, int, int, int]:
    """Check a convolution's arguments.

    Args:
        x: (N, C, H, W) inputs; w: (F, C, HH, WW) filters; b: (F,) biases.
        conv_param: stride (default 1) and pad (default 0), in pixels.
    Returns:
        stride, pad, and the height and width of the output.
    Raises:
        ValueError: wrong numbers of axes, an empty array, shapes that do not fit, a stride below 1, a pad below 0, an
            entry of another name.
        TypeError: x or w are not floating, b does not hold real numbers.
    """
    if x.ndim != 4 or w.ndim != 4 or not x.size or not w.size or x.shape[1] != w.shape[1] or b.shape != w.shape[:1]:
        raise ValueError(
            f"x (N, C, H, W), w (F, C, HH, WW) and b (F,), none empty, are needed, got {x.shape}, {w.shape}, {b.shape}"
        )
    _floating(x=x, w=w)
    if b.dtype.kind not in "fiu":  # whole numbers are only added
        raise TypeError(f"b must hold real numbers, got {b.dtype}")
    _known("conv_param", conv_param, ("stride", "pad"))
    stride, pad = whole("stride", conv_param.get("stride", 1), 1), whole("pad", conv_param.get("pad", 0), 0)
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
        ValueError: wrong number of axes, no numbers, a window or stride below 1, a window above the input, an
            entry of another name.
        TypeError: numbers that are not floating.
        KeyError: a missing entry.
    """
    if x.ndim != 4 or not x.size:
        raise ValueError(f"x (N, C, H, W), not empty, is needed, got {x.shape}")
    _floating(x=x)
    _known("pool_param", pool_param, ("pool_height", "pool_width", "stride"))
    height, width, stride = (whole(name, pool_param[name], 1) for name in ("pool_height", "pool_width", "stride"))
    return height, width, stride, output_size(x.shape[2], height, stride), output_size(x.shape[3], width, stride)


def column_geometry(
    shape: tuple[int, ...], HH: int, WW: int, pad: int, stride: int
) -> tuple[int, int, int, int, tuple[int, int]]:
    """Check the arguments of the column functions, whose pictures have the given shape.

    Args:
        shape: (N, C, H, W).
        HH, WW: of the window, in pixels.
        pad, stride: in pixels.
    Returns:
        HH, WW, pad, stride as Python's integers - those of NumPy overflow - and (H', W').
    Raises:
        ValueError: an empty array, a number out of range, or a window that does not fit.
    """
    if len(shape) != 4:
        raise ValueError(f"pictures (N, C, H, W) are needed, got the shape {tuple(shape)}")
    for name, size in zip("NCHW", shape, strict=True):
        whole(name, size, 1)
    HH, WW, pad, stride = whole("HH", HH, 1), whole("WW", WW, 1), whole("pad", pad, 0), whole("stride", stride, 1)
    return HH, WW, pad, stride, (output_size(shape[2], HH, stride, pad), output_size(shape[3], WW, stride, pad))


def check_dout(dout: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the gradient has the shape of the output it belongs to."""
    if dout.shape != shape:
        raise ValueError(f"dout must have the output's shape {shape}, got {dout.shape}")


def whole(name: str, value: Any, least: int) -> int:
    """value as a Python integer, which cannot overflow; ValueError unless it is whole and at least `least`."""
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def _known(name: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
    if unknown := [str(entry) for entry in given if entry not in known]:
        raise ValueError(f"{name} holds {', '.join(unknown)}; its entries are {', '.join(known)}")


def _floating(**arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise TypeError(f"{name} must hold floating-point numbers, got {array.dtype}")
