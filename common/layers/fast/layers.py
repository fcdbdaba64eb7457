"""The fast layers' public functions: checks, memory for the result, and the backend's loops."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.layers.convolution import ConvCache
from common.layers.fast.backend import IMPLEMENTATION as backend
from common.layers.shapes import conv_geometry, pool_geometry

PoolCache = tuple[np.ndarray, np.ndarray, dict[str, Any]]


def conv_forward_fast(
    x: np.ndarray, w: np.ndarray, b: np.ndarray, conv_param: dict[str, Any]
) -> tuple[np.ndarray, ConvCache]:
    """The same as `conv_forward_naive`, a thousand times faster.

    Args:
        x: (N, C, H, W) inputs.
        w: (F, C, HH, WW) filters.
        b: (F,) biases.
        conv_param: stride and pad, in pixels.
    Returns:
        out (N, F, H', W') and the cache (x, w, b, conv_param).
    Raises:
        ValueError, TypeError: as `conv_forward_naive`.
    """
    stride, pad, H, W = conv_geometry(x, w, b, conv_param)
    dtype = _dtype(x, w)
    out = np.empty((len(x), len(w), H, W), dtype)
    backend.conv_forward(_ready(x, dtype), _ready(w, dtype), _ready(b, dtype), stride, pad, out)
    return out, (x, w, b, conv_param)


def conv_backward_fast(dout: np.ndarray, cache: ConvCache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same as `conv_backward_naive`.

    Args:
        dout: (N, F, H', W') gradient with respect to the output.
        cache: of `conv_forward_fast` or `conv_forward_naive`.
    Returns:
        dx (N, C, H, W), dw (F, C, HH, WW), db (F,).
    Raises:
        ValueError: a dout of another shape.
    """
    x, w, b, conv_param = cache
    stride, pad, H, W = conv_geometry(x, w, b, conv_param)
    _same_shape(dout, (len(x), len(w), H, W))
    dtype = _dtype(x, w)
    return backend.conv_backward(_ready(dout, dtype), _ready(x, dtype), _ready(w, dtype), stride, pad)


def max_pool_forward_fast(x: np.ndarray, pool_param: dict[str, Any]) -> tuple[np.ndarray, PoolCache]:
    """The same as `max_pool_forward_naive`.

    Args:
        x: (N, C, H, W) inputs.
        pool_param: pool_height, pool_width and stride, in pixels. Windows may overlap.
    Returns:
        out (N, C, H', W') and the cache (x, out, pool_param).
    Raises:
        ValueError, TypeError: as `max_pool_forward_naive`.
    """
    height, width, stride, H, W = pool_geometry(x, pool_param)
    dtype = _dtype(x)
    out = np.empty((*x.shape[:2], H, W), dtype)
    backend.max_pool_forward(_ready(x, dtype), height, width, stride, out)
    return out, (x, out, pool_param)


def max_pool_backward_fast(dout: np.ndarray, cache: PoolCache) -> np.ndarray:
    """The same as `max_pool_backward_naive`: of several equal numbers the first takes the gradient.

    Args:
        dout: (N, C, H', W') gradient with respect to the output.
        cache: of `max_pool_forward_fast`.
    Returns:
        dx (N, C, H, W).
    Raises:
        ValueError: a dout of another shape.
    """
    x, out, pool_param = cache
    height, width, stride, _, _ = pool_geometry(x, pool_param)
    _same_shape(dout, out.shape)
    dtype = out.dtype
    return backend.max_pool_backward(_ready(dout, dtype), _ready(x, dtype), out, height, width, stride)


def _dtype(*arrays: np.ndarray) -> np.dtype:
    """float32 stays float32; everything else is computed in float64."""
    return np.result_type(np.float32, *arrays) if np.result_type(*arrays).itemsize <= 8 else np.dtype(np.float64)


def _ready(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The array itself where it is already contiguous and of this dtype."""
    return np.ascontiguousarray(array, dtype)


def _same_shape(dout: np.ndarray, shape: tuple[int, ...]) -> None:
    if dout.shape != shape:
        raise ValueError(f"dout must have the output's shape {shape}, got {dout.shape}")
