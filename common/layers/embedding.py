"""Words as vectors: a table with one row for each word of the vocabulary."""

from __future__ import annotations

import numpy as np

EmbeddingCache = tuple[np.ndarray, np.ndarray]


def word_embedding_forward(x: np.ndarray, W: np.ndarray) -> tuple[np.ndarray, EmbeddingCache]:
    """Row W[id] for each word id.

    Bengio, Ducharme, Vincent and Jauvin, A neural probabilistic language model (2003).
    Args:
        x: (N, T) word ids, integers from 0 to V - 1.
        W: (V, D), a vector for each of the V words.
    Returns:
        out (N, T, D) and the cache (x, W).
    Raises:
        ValueError: x is not (N, T) or is empty, W is not (V, D), or an id is out of range.
        TypeError: the ids are not integers.
    """
    if x.ndim != 2 or not x.size or W.ndim != 2:
        raise ValueError(f"word ids x (N, T), at least one, and W (V, D) are needed, got {x.shape} and {W.shape}")
    if x.dtype.kind not in "iu":
        raise TypeError(f"x must hold integer word ids, got {x.dtype}")
    if not 0 <= x.min() <= x.max() < len(W):
        raise ValueError(f"x holds word ids from {x.min()} to {x.max()}; W has rows for 0 to {len(W) - 1}")
    ### BEGIN SOLUTION rnn_captioning, 3
    out = W[x]  # (N, T, D)
    ### END SOLUTION
    return out, (x, W)


def word_embedding_backward(dout: np.ndarray, cache: EmbeddingCache) -> np.ndarray:
    """The gradient of a row is the sum over all places where its word stands.

    Args:
        dout: (N, T, D) gradient with respect to the output.
        cache: (x, W) of `word_embedding_forward`.
    Returns:
        dW (V, D). There is no gradient with respect to ids.
    Raises:
        ValueError: dout has not the shape of the output.
    """
    x, W = cache
    if dout.shape != (*x.shape, W.shape[1]):
        raise ValueError(f"dout must have the shape of the output, {(*x.shape, W.shape[1])}, got {dout.shape}")
    dW = np.zeros_like(W)
    ### BEGIN SOLUTION rnn_captioning, 3
    np.add.at(dW, x, dout)  # dW[x] += dout would keep only one of the places of a repeated id
    ### END SOLUTION
    return dW
