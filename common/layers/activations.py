"""Activation functions."""

from __future__ import annotations

import numpy as np


def relu_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """max(x, 0), elementwise.

    Nair and Hinton, Rectified linear units improve restricted Boltzmann machines (2010).

    Args:
        x: array of any shape.
    Returns:
        out of the same shape and dtype, and the cache x.
    """
    ### BEGIN SOLUTION fully_connected_nets, 2
    out = np.maximum(x, 0)
    ### END SOLUTION
    return out, x


def relu_backward(dout: np.ndarray, cache: np.ndarray) -> np.ndarray:
    """The gradient passes where the input was positive; at exactly 0 it is 0.

    Args:
        dout: gradient with respect to the output, of the shape of x.
        cache: x of `relu_forward`.
    Returns:
        dx, of the same shape.
    """
    x = cache
    ### BEGIN SOLUTION fully_connected_nets, 2
    dx = dout * (x > 0)
    ### END SOLUTION
    return dx
