"""Layers that do the same at every step of a sequence: scores of all words, and their masked loss."""

from __future__ import annotations

import numpy as np

from common.layers.affine import AffineCache, affine_backward, affine_forward
from common.validate import checked_labels


def temporal_affine_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, AffineCache]:
    """out = x w + b at every step of every sequence.

    Args:
        x: (N, T, D).
        w, b: (D, M) and (M,).
    Returns:
        out (N, T, M) and a cache.
    Raises:
        ValueError: no examples, or shapes that do not fit.
    """
    if x.ndim != 3 or not x.size:
        raise ValueError(f"x (N, T, D), not empty, is needed, got {x.shape}")
    N, T, D = x.shape
    ### BEGIN SOLUTION rnn_captioning, 4
    out, _ = affine_forward(x.reshape(N * T, D), w, b)  # (N T, M)
    out = out.reshape(N, T, -1)
    ### END SOLUTION
    return out, (x, w, b)


def temporal_affine_backward(dout: np.ndarray, cache: AffineCache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of `temporal_affine_forward`; those of w and b are sums over the steps.

    Args:
        dout: (N, T, M) gradient with respect to the output.
        cache: of `temporal_affine_forward`.
    Returns:
        dx (N, T, D), dw (D, M), db (M,).
    Raises:
        ValueError: dout has not the shape of the output.
    """
    x, w, b = cache
    N, T, D = x.shape
    if dout.shape != (N, T, w.shape[1]):
        raise ValueError(f"dout must have the shape of the output, {(N, T, w.shape[1])}, got {dout.shape}")
    ### BEGIN SOLUTION rnn_captioning, 4
    dx, dw, db = affine_backward(dout.reshape(N * T, -1), (x.reshape(N * T, D), w, b))
    dx = dx.reshape(N, T, D)
    ### END SOLUTION
    return dx, dw, db


def temporal_softmax_loss(
    x: np.ndarray, y: np.ndarray, mask: np.ndarray, verbose: bool = False
) -> tuple[float, np.ndarray]:
    """Cross-entropy -log p_y of each word that counts, summed over the steps, as a mean over the N sequences.

    Divided by N, not by N T and not by the number of words that count: it is minus the log-likelihood of a sequence.
    Args:
        x: (N, T, V) scores of all words at every step.
        y: (N, T) integer ids of the right words, 0 to V - 1.
        mask: (N, T) booleans; where False, the word counts neither in the loss nor in the gradient.
        verbose: here for the sake of code written for CS231n; nothing is printed.
    Returns:
        The loss and its gradient dx (N, T, V).
    Raises:
        ValueError: no words, shapes that do not fit, ids out of range.
        TypeError: ids that are not integers, a mask that is not boolean.
    """
    if x.ndim != 3 or not x.size or y.shape != x.shape[:2] or mask.shape != y.shape:
        raise ValueError(
            f"scores x (N, T, V), not empty, with y and mask (N, T) are needed, got {x.shape}, {y.shape}, {mask.shape}"
        )
    if mask.dtype != bool:
        raise TypeError(f"mask must hold booleans, got {mask.dtype}")
    N, T, V = x.shape
    scores, words, counts = x.reshape(N * T, V), checked_labels(y.reshape(-1), "y", (N * T,), V), mask.reshape(-1)
    ### BEGIN SOLUTION rnn_captioning, 4
    places = np.arange(N * T)
    shifted = scores - scores.max(axis=1, keepdims=True)  # softmax does not change, and exp cannot overflow
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))  # (N T, V)
    loss = -(log_p[places, words] * counts).sum() / N
    dscores = np.exp(log_p)
    dscores[places, words] -= 1
    dscores *= counts[:, None] / x.dtype.type(N)
    ### END SOLUTION
    return loss, dscores.reshape(N, T, V)
