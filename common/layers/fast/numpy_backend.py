"""Convolution and max-pooling in plain NumPy: windows become columns, and the convolution a matrix product.

The column matrix of a whole batch is HH * WW times as large as the pictures and would leave the processor's cache
before it is used. Here a few pictures at a time become columns, in one workspace that is used again and again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

WORKSPACE = 2**20  # bytes of columns, about what a core's second-level cache holds


def get_num_threads() -> int:
    """One: NumPy's matrix products have threads of their own."""
    return 1


def set_num_threads(number: int) -> None:
    """Nothing to set, see `get_num_threads`."""


# Convolution --------------------------------------------------------------------------------------------------


def conv_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray, stride: int, pad: int, size: tuple[int, int]):
    """out (N, F, *size) of a convolution.

    Args:
        x: (N, C, H, W); w: (F, C, HH, WW); b: (F,).
        stride, pad: in pixels.
        size: height and width of the output.
    """
    rows, places = w.reshape(len(w), -1), size[0] * size[1]  # (F, C*HH*WW)
    out = np.empty((len(x), len(w), places), x.dtype)
    for some, columns in _column_blocks(x, w.shape[2:], stride, pad, size):
        np.matmul(rows, columns, out=out[some])  # (F, C*HH*WW) @ (C*HH*WW, H'*W') for each picture
    out += b[:, None]
    return out.reshape(len(x), len(w), *size)


def conv_backward(dout: np.ndarray, x: np.ndarray, w: np.ndarray, stride: int, pad: int):
    """dx, dw, db of a convolution; the columns are made again, which is quicker than to keep them all.

    Args:
        dout: (N, F, H', W').
        x, w, stride, pad: as in `conv_forward`.
    """
    size, rows = dout.shape[2:], w.reshape(len(w), -1)
    dout = dout.reshape(len(x), len(w), -1)
    dx, dw = np.empty_like(x), np.zeros_like(rows)
    for some, columns in _column_blocks(x, w.shape[2:], stride, pad, size):
        for gradient, column in zip(dout[some], columns, strict=True):
            dw += gradient @ column.T
        np.matmul(rows.T, dout[some], out=columns)  # from here on they are the gradients of the columns
        dx[some] = _windows_back(columns.reshape(len(columns), -1, *w.shape[2:], *size), x.shape[2:], stride, pad)
    return dx, dw.reshape(w.shape), dout.sum(axis=(0, 2))


def _column_blocks(
    x: np.ndarray, kernel: tuple[int, int], stride: int, pad: int, size: tuple[int, int]
) -> Iterator[tuple[slice, np.ndarray]]:
    """A slice of pictures and their columns (pictures, C*HH*WW, H'*W'), for all pictures in turn."""
    N, C = x.shape[:2]
    one = C * kernel[0] * kernel[1] * size[0] * size[1]  # numbers of a picture
    group = max(1, min(N, WORKSPACE // (one * x.itemsize)))
    workspace = np.empty((group, C, *kernel, *size), x.dtype)
    for start in range(0, N, group):
        some = slice(start, min(start + group, N))
        columns = workspace[: some.stop - start]
        _windows(x[some], stride, pad, columns)
        yield some, columns.reshape(len(columns), -1, size[0] * size[1])


def _windows(x: np.ndarray, stride: int, pad: int, columns: np.ndarray) -> None:
    """columns[n, c, i, j] = the pixels that weight (i, j) of a filter meets, (N, C, HH, WW, H', W')."""
    padded = _padded(x, pad)
    for i, j, view in _shifted(padded, columns.shape[2:], stride):
        columns[:, :, i, j] = view


def _windows_back(columns: np.ndarray, shape: tuple[int, int], stride: int, pad: int) -> np.ndarray:
    """The adjoint of `_windows`: what each pixel (N, C, *shape) receives from all the windows it lies in."""
    H, W = shape
    padded = np.zeros((*columns.shape[:2], H + 2 * pad, W + 2 * pad), columns.dtype)
    for i, j, view in _shifted(padded, columns.shape[2:], stride):
        view += columns[:, :, i, j]
    return padded[:, :, pad : pad + H, pad : pad + W]


def _padded(x: np.ndarray, pad: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad))) if pad else x


def _shifted(x: np.ndarray, sizes: tuple[int, ...], stride: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """i, j and the view of x with what stands at (i, j) in each window, for sizes (HH, WW, H', W')."""
    HH, WW, out_height, out_width = sizes
    for i, j in np.ndindex(HH, WW):
        bottom, right = i + stride * (out_height - 1) + 1, j + stride * (out_width - 1) + 1
        yield i, j, x[:, :, i:bottom:stride, j:right:stride]


# Max-pooling --------------------------------------------------------------------------------------------------


def pool_forward(x: np.ndarray, window: tuple[int, int], stride: int, size: tuple[int, int]) -> np.ndarray:
    """out (N, C, *size): the largest number in each window of x (N, C, H, W); NaN if there is one."""
    views = _shifted(x, (*window, *size), stride)
    out = next(views)[2].copy()
    for _, _, view in views:
        np.maximum(out, view, out=out)
    return out


def pool_backward(dout: np.ndarray, x: np.ndarray, window: tuple[int, int], stride: int) -> np.ndarray:
    """dx (N, C, H, W): the gradient of a window goes to the first of its largest numbers (or NaNs)."""
    largest = pool_forward(x, window, stride, dout.shape[2:])
    dx, waiting = np.zeros_like(x), np.ones(dout.shape, bool)
    views = _shifted(x, (*window, *dout.shape[2:]), stride)
    targets = _shifted(dx, (*window, *dout.shape[2:]), stride)
    for (_, _, view), (_, _, target) in zip(views, targets, strict=True):
        here = waiting & ((view == largest) | (view != view))
        target += np.where(here, dout, 0)
        waiting &= ~here
    return dx


# The courses' column layout -----------------------------------------------------------------------------------


def im2col(x: np.ndarray, HH: int, WW: int, pad: int, stride: int, size: tuple[int, int]) -> np.ndarray:
    """Columns (C*HH*WW, H'*W'*N): a row for each weight of a filter, the pictures side by side at each place."""
    columns = np.empty((*x.shape[:2], HH, WW, *size), x.dtype)
    _windows(x, stride, pad, columns)
    return columns.transpose(1, 2, 3, 4, 5, 0).reshape(x.shape[1] * HH * WW, -1)


def col2im_6d(columns: np.ndarray, shape: tuple[int, int], pad: int, stride: int) -> np.ndarray:
    """Sum columns (C, HH, WW, N, H', W') back into pictures (N, C, *shape)."""
    return np.ascontiguousarray(_windows_back(columns.transpose(3, 0, 1, 2, 4, 5), shape, stride, pad))
