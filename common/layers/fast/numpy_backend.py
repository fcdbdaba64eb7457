"""Convolution and max-pooling without loops over pictures or places, in pure NumPy.

Every window becomes a column of a matrix (im2col), so that a convolution is one matrix product. The whole matrix
would be HH * WW times larger than the input; a few pictures at a time keep it in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK_BYTES = 1 << 20  # of columns at a time: about what a core's cache holds


def conv_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray, stride: int, pad: int, out: np.ndarray) -> None:
    """Write the convolution of x (N, C, H, W) with w (F, C, HH, WW) plus b (F,) into out (N, F, H', W')."""
    padded, filters = _pad(x, pad), w.reshape(len(w), -1)  # (F, K), K = C HH WW
    for block in _blocks(x, w, out):
        columns = _columns(padded[block], w, stride, out)  # (n, K, H' W')
        np.matmul(filters, columns, out=out[block].reshape(*out[block].shape[:2], -1))
    out += b[:, None, None]


def conv_backward(
    dout: np.ndarray, x: np.ndarray, w: np.ndarray, stride: int, pad: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx, dw, db of `conv_forward`; the columns are made again, which is cheaper than keeping them."""
    padded, filters = _pad(x, pad), w.reshape(len(w), -1)
    dpadded, dfilters = np.zeros_like(padded), np.zeros_like(filters)
    for block in _blocks(x, w, dout):
        columns = _columns(padded[block], w, stride, dout)
        d = dout[block].reshape(columns.shape[0], len(w), -1)  # (n, F, H' W')
        dfilters += np.matmul(d, columns.swapaxes(1, 2)).sum(axis=0)
        np.matmul(filters.T, d, out=columns)  # now the gradient of the columns
        _scatter(columns, dpadded[block], w, stride, dout)
    _, _, H, W = x.shape
    dx = dpadded[:, :, pad : pad + H, pad : pad + W]
    return np.ascontiguousarray(dx), dfilters.reshape(w.shape), dout.sum(axis=(0, 2, 3))


def max_pool_forward(x: np.ndarray, height: int, width: int, stride: int, out: np.ndarray) -> None:
    """Write the largest number of each height x width window of x (N, C, H, W) into out (N, C, H', W')."""
    windows = [x[:, :, rows, columns] for rows, columns in _shifts(height, width, stride, *out.shape[2:])]
    out[...] = windows[0]
    for window in windows[1:]:
        np.maximum(out, window, out=out)


def max_pool_backward(
    dout: np.ndarray, x: np.ndarray, out: np.ndarray, height: int, width: int, stride: int
) -> np.ndarray:
    """dx of `max_pool_forward`; of several equal numbers the first one takes the gradient."""
    dx = np.zeros_like(x)
    open_ = np.ones(out.shape, bool)  # windows whose largest number was not met yet
    for rows, columns in _shifts(height, width, stride, *out.shape[2:]):
        value = x[:, :, rows, columns]
        first = open_ & ((value == out) | (value != value))  # the largest of a window with a NaN is its first NaN
        dx[:, :, rows, columns] += dout * first
        open_ &= ~first
    return dx


def _pad(x: np.ndarray, pad: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad))) if pad else x


def _blocks(x: np.ndarray, w: np.ndarray, out: np.ndarray) -> Iterator[slice]:
    """Slices of pictures whose columns fit BLOCK_BYTES (at least one picture)."""
    step = max(1, BLOCK_BYTES // (w[0].size * out[0, 0].size * x.itemsize))
    return (slice(n, n + step) for n in range(0, len(x), step))


def _shifts(height: int, width: int, stride: int, out_height: int, out_width: int) -> Iterator[tuple[slice, slice]]:
    """For each place inside the window, in reading order: the rows and columns of the input that fall on it."""
    for i in range(height):
        for j in range(width):
            yield (
                slice(i, i + stride * (out_height - 1) + 1, stride),
                slice(j, j + stride * (out_width - 1) + 1, stride),
            )


def _columns(padded: np.ndarray, w: np.ndarray, stride: int, out: np.ndarray) -> np.ndarray:
    """im2col: (n, C, H, W) -> (n, C HH WW, H' W'), one slice per place in the window."""
    _, C, HH, WW = w.shape
    columns = np.empty((len(padded), C, HH * WW, *out.shape[2:]), padded.dtype)
    for k, (rows, cols) in enumerate(_shifts(HH, WW, stride, *out.shape[2:])):
        columns[:, :, k] = padded[:, :, rows, cols]
    return columns.reshape(len(padded), C * HH * WW, -1)


def _scatter(columns: np.ndarray, padded: np.ndarray, w: np.ndarray, stride: int, out: np.ndarray) -> None:
    """col2im: add each column's numbers to the places they came from."""
    _, C, HH, WW = w.shape
    columns = columns.reshape(len(padded), C, HH * WW, *out.shape[2:])
    for k, (rows, cols) in enumerate(_shifts(HH, WW, stride, *out.shape[2:])):
        padded[:, :, rows, cols] += columns[:, :, k]
