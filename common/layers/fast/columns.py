"""im2col and col2im under CS231n's names and in its layout, for code that calls them directly.

A column holds one window, channel by channel; the columns run over places first and pictures last.
"""

from __future__ import annotations

import numpy as np

from common.layers.shapes import output_size


def im2col_cython(x: np.ndarray, field_height: int, field_width: int, padding: int, stride: int) -> np.ndarray:
    """Every window of x as a column.

    Args:
        x: (N, C, H, W) pictures.
        field_height, field_width: HH and WW of the window; padding, stride: in pixels.
    Returns:
        (C HH WW, H' W' N): row (c, i, j), column (place, picture).
    Raises:
        ValueError: windows that do not end at the edge.
    """
    N, C, H, W = x.shape
    out = output_size(H, field_height, stride, padding), output_size(W, field_width, stride, padding)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (field_height, field_width), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]  # (N, C, H', W', HH, WW)
    return windows.transpose(1, 4, 5, 2, 3, 0).reshape(C * field_height * field_width, out[0] * out[1] * N)


def col2im_cython(
    cols: np.ndarray, N: int, C: int, H: int, W: int, field_height: int, field_width: int, padding: int, stride: int
) -> np.ndarray:
    """The reverse of `im2col_cython`: numbers that came from the same pixel are added.

    Args:
        cols: (C HH WW, H' W' N).
        N, C, H, W: shape of the pictures; the rest as for `im2col_cython`.
    Returns:
        (N, C, H, W).
    """
    out = output_size(H, field_height, stride, padding), output_size(W, field_width, stride, padding)
    cols = cols.reshape(C, field_height, field_width, *out, N).transpose(0, 1, 2, 5, 3, 4)
    return col2im_6d_cython(cols, N, C, H, W, field_height, field_width, padding, stride)


def col2im_6d_cython(
    cols: np.ndarray, N: int, C: int, H: int, W: int, HH: int, WW: int, pad: int, stride: int
) -> np.ndarray:
    """`col2im_cython` for columns of shape (C, HH, WW, N, H', W')."""
    out_height, out_width = output_size(H, HH, stride, pad), output_size(W, WW, stride, pad)
    padded = np.zeros((N, C, H + 2 * pad, W + 2 * pad), cols.dtype)
    for i, j in np.ndindex(HH, WW):
        rows, columns = slice(i, i + stride * out_height, stride), slice(j, j + stride * out_width, stride)
        padded[:, :, rows, columns] += cols[:, i, j].swapaxes(0, 1)
    return padded[:, :, pad : pad + H, pad : pad + W]
