"""The convolution layer, written as its definition reads; `common.layers.fast` computes the same quickly."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.layers.shapes import check_dout, conv_geometry

ConvCache = tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


def conv_forward_naive(
    x: np.ndarray, w: np.ndarray, b: np.ndarray, conv_param: dict[str, Any]
) -> tuple[np.ndarray, ConvCache]:
    """out[n, f, i, j] = sum of (window of the padded x at (i, j)) * w[f], plus b[f].

    It is a cross-correlation: the filter is not flipped. LeCun, Bottou, Bengio, Haffner, Gradient-based learning
    applied to document recognition (1998).

    Args:
        x: (N, C, H, W) inputs.
        w: (F, C, HH, WW) filters.
        b: (F,) biases.
        conv_param: stride and pad (zeros around the picture), in pixels.
    Returns:
        out (N, F, H', W') with H' = 1 + (H + 2 pad - HH) / stride, rounded down, W' alike, and the cache
        (x, w, b, conv_param). Where H' is rounded, the last rows are in no window, as in PyTorch.
    Raises:
        ValueError: shapes that do not fit, a filter larger than the padded input.
        TypeError: numbers that are not floating.
    """
    stride, pad, out_height, out_width = conv_geometry(x, w, b, conv_param)
    ### BEGIN SOLUTION convolutional_networks, 1
    _, _, HH, WW = w.shape
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = np.empty((len(x), len(w), out_height, out_width), np.result_type(x, w))
    for n, f, i, j in np.ndindex(out.shape):
        top, left = i * stride, j * stride
        window = padded[n, :, top : top + HH, left : left + WW]  # (C, HH, WW)
        out[n, f, i, j] = (window * w[f]).sum() + b[f]
    ### END SOLUTION
    return out, (x, w, b, conv_param)


def conv_backward_naive(dout: np.ndarray, cache: ConvCache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of the convolution: each output hands dout * w[f] to its window and dout * window to its filter.

    Args:
        dout: (N, F, H', W') gradient with respect to the output.
        cache: (x, w, b, conv_param) of `conv_forward_naive`.
    Returns:
        dx (N, C, H, W), dw (F, C, HH, WW), db (F,).
    Raises:
        ValueError: dout has not the shape of the output.
    """
    x, w, b, conv_param = cache
    stride, pad, out_height, out_width = conv_geometry(x, w, b, conv_param)
    check_dout(dout, (len(x), len(w), out_height, out_width))
    ### BEGIN SOLUTION convolutional_networks, 3
    _, _, H, W = x.shape
    _, _, HH, WW = w.shape
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dpadded, dw = np.zeros_like(padded), np.zeros_like(w)
    for n, f, i, j in np.ndindex(dout.shape):
        top, left = i * stride, j * stride
        window = np.s_[n, :, top : top + HH, left : left + WW]
        dpadded[window] += dout[n, f, i, j] * w[f]
        dw[f] += dout[n, f, i, j] * padded[window]
    dx = dpadded[:, :, pad : pad + H, pad : pad + W]
    db = dout.sum(axis=(0, 2, 3))
    ### END SOLUTION
    return dx, dw, db
