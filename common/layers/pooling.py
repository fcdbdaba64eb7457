"""The max-pooling layer, written as its definition reads; `common.layers.fast` computes the same quickly."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.layers.shapes import check_dout, pool_geometry

PoolCache = tuple[np.ndarray, dict[str, Any]]


def max_pool_forward_naive(x: np.ndarray, pool_param: dict[str, Any]) -> tuple[np.ndarray, PoolCache]:
    """out[n, c, i, j] = the largest number in window (i, j) of channel c; a NaN in the window gives NaN.

    Args:
        x: (N, C, H, W) inputs.
        pool_param: pool_height, pool_width and stride, in pixels. Windows may overlap.
    Returns:
        out (N, C, H', W') with H' = 1 + (H - pool_height) / stride, rounded down, W' alike, and the cache
        (x, pool_param). Where H' is rounded, the last rows are in no window, as in PyTorch.
    Raises:
        ValueError: shapes that do not fit, a window larger than the input.
        TypeError: numbers that are not floating.
    """
    height, width, stride, out_height, out_width = pool_geometry(x, pool_param)
    ### BEGIN SOLUTION convolutional_networks, 4
    out = np.empty((*x.shape[:2], out_height, out_width), x.dtype)
    for i, j in np.ndindex(out_height, out_width):
        top, left = i * stride, j * stride
        out[:, :, i, j] = x[:, :, top : top + height, left : left + width].max(axis=(2, 3))
    ### END SOLUTION
    return out, (x, pool_param)


def max_pool_backward_naive(dout: np.ndarray, cache: PoolCache) -> np.ndarray:
    """The gradient goes to the largest number of each window; of several equal ones, to the first in reading order.

    Args:
        dout: (N, C, H', W') gradient with respect to the output.
        cache: (x, pool_param) of `max_pool_forward_naive`.
    Returns:
        dx (N, C, H, W).
    Raises:
        ValueError: dout has not the shape of the output.
    """
    x, pool_param = cache
    height, width, stride, out_height, out_width = pool_geometry(x, pool_param)
    check_dout(dout, (*x.shape[:2], out_height, out_width))
    ### BEGIN SOLUTION convolutional_networks, 4
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(dout.shape):
        top, left = i * stride, j * stride
        window = x[n, c, top : top + height, left : left + width]
        row, column = np.unravel_index(window.argmax(), window.shape)
        dx[n, c, top + row, left + column] += dout[n, c, i, j]
    ### END SOLUTION
    return dx
