"""The affine (fully connected) layer: y = x W + b."""

from __future__ import annotations

import numpy as np

AffineCache = tuple[np.ndarray, np.ndarray, np.ndarray]


def affine_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, AffineCache]:
    """out = x w + b, each example flattened to a row.

    Args:
        x: (N, d_1, ..., d_k) examples, D = d_1 * ... * d_k numbers each.
        w: (D, M) weights.
        b: (M,) biases.
    Returns:
        out (N, M) and the cache (x, w, b).
    Raises:
        ValueError: no examples, or shapes that do not fit.
    """
    if x.ndim < 1 or w.ndim != 2 or not x.size or x.size != len(x) * len(w) or b.shape != w.shape[1:]:
        raise ValueError(
            f"x (N, ...) with D numbers each, w (D, M) and b (M,) are needed, got {x.shape}, {w.shape}, {b.shape}"
        )
    ### BEGIN SOLUTION fully_connected_nets, 1
    rows = x.reshape(len(x), -1)  # (N, D)
    out = rows @ w + b  # (N, M)
    ### END SOLUTION
    return out, (x, w, b)


def affine_backward(dout: np.ndarray, cache: AffineCache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of the affine layer.

    Args:
        dout: (N, M) gradient with respect to the output.
        cache: (x, w, b) of `affine_forward`.
    Returns:
        dx of the shape of x, dw (D, M), db (M,).
    """
    x, w, _ = cache
    ### BEGIN SOLUTION fully_connected_nets, 1
    dx = (dout @ w.T).reshape(x.shape)
    dw = x.reshape(len(x), -1).T @ dout  # (D, M)
    db = dout.sum(axis=0)  # (M,)
    ### END SOLUTION
    return dx, dw, db
