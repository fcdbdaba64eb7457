"""Losses on class scores, with their gradients: multiclass SVM and softmax, both means over the minibatch."""

from __future__ import annotations

import numpy as np

from common.validate import checked_labels


def svm_loss(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean over the examples of sum_{j != y} max(0, x_j - x_y + 1).

    Crammer and Singer, On the algorithmic implementation of multiclass kernel-based vector machines (2001).

    Args:
        x: (N, C) scores.
        y: (N,) integer labels, 0 to C - 1.
    Returns:
        The loss and its gradient dx (N, C).
    Raises:
        ValueError: no examples, shapes that do not fit, labels out of range.
        TypeError: labels that are not integers.
    """
    y = _checked(x, y)
    ### BEGIN SOLUTION fully_connected_nets, 4
    N, rows = len(x), np.arange(len(x))
    margins = np.maximum(0, x - x[rows, y][:, None] + 1)  # (N, C)
    margins[rows, y] = 0
    loss = margins.sum() / N
    dx = (margins > 0).astype(x.dtype)  # each violated margin pushes its own score down ...
    dx[rows, y] = -dx.sum(axis=1)  # ... and the right score up
    dx /= N
    ### END SOLUTION
    return loss, dx


def softmax_loss(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean cross-entropy -log p_y of the probabilities p = softmax(x).

    Args:
        x: (N, C) scores, of any size: the largest is subtracted before exp.
        y: (N,) integer labels, 0 to C - 1.
    Returns:
        The loss and its gradient dx (N, C).
    Raises:
        ValueError: no examples, shapes that do not fit, labels out of range.
        TypeError: labels that are not integers.
    """
    y = _checked(x, y)
    ### BEGIN SOLUTION two_layer_net, 2
    N, rows = len(x), np.arange(len(x))
    shifted = x - x.max(axis=1, keepdims=True)  # softmax does not change, and exp cannot overflow
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))  # (N, C)
    loss = -log_p[rows, y].mean()
    dx = np.exp(log_p)
    dx[rows, y] -= 1
    dx /= N
    ### END SOLUTION
    return loss, dx


def _checked(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The labels of the scores x (N, C)."""
    if np.ndim(x) != 2:
        raise ValueError(f"scores must be (N, C), got shape {np.shape(x)}")
    return checked_labels(y, "y", x.shape, x.shape[1])
