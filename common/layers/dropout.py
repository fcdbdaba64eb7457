"""Inverted dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.validate import stream

DropoutCache = tuple[dict[str, Any], np.ndarray | None]


def dropout_forward(x: np.ndarray, dropout_param: dict[str, Any]) -> tuple[np.ndarray, DropoutCache]:
    """In training, keep each number with probability keep_prob and divide it by keep_prob; in testing, change nothing.

    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, Dropout (2014).

    Args:
        x: array of any shape.
        dropout_param:
            mode: "train" or "test".
            keep_prob: probability of keeping a number, in (0, 1]. CS231n's name for it, p, is understood too.
            seed: optional; the same mask in every call, as gradient checks need it.
            rng: optional RandomState or seed; without seed and rng the mask comes from NumPy's global stream.
    Returns:
        out of the shape and dtype of x, and the cache (dropout_param, mask); the mask is None in testing.
    Raises:
        ValueError: another mode, or keep_prob missing, outside (0, 1] or given twice with different values.
    """
    mode, keep_prob = _read(dropout_param)
    mask = None
    ### BEGIN SOLUTION dropout, 1
    out = x
    if mode == "train":
        mask = (_uniform(x.shape, dropout_param) < keep_prob).astype(x.dtype)
        mask /= keep_prob
        out = x * mask
    ### END SOLUTION
    return out, (dropout_param, mask)


def dropout_backward(dout: np.ndarray, cache: DropoutCache) -> np.ndarray:
    """The gradient passes where the number was kept, with the same factor.

    Args:
        dout: gradient with respect to the output, of any shape.
        cache: (dropout_param, mask) of `dropout_forward`.
    Returns:
        dx, of the shape of dout.
    """
    _, mask = cache
    ### BEGIN SOLUTION dropout, 2
    dx = dout if mask is None else dout * mask
    ### END SOLUTION
    return dx


def _uniform(shape: tuple[int, ...], dropout_param: dict[str, Any]) -> np.ndarray:
    """Uniform numbers in [0, 1) from the stream that dropout_param names."""
    seed, rng = dropout_param.get("seed"), dropout_param.get("rng")
    return stream(rng if seed is None else seed).random_sample(shape)


def _read(dropout_param: dict[str, Any]) -> tuple[str, float]:
    mode, names = dropout_param.get("mode"), [name for name in ("keep_prob", "p") if name in dropout_param]
    keep_prob = dropout_param[names[0]] if names else None
    if len(names) > 1 and keep_prob != dropout_param["p"]:
        raise ValueError(f"keep_prob {keep_prob} and p {dropout_param['p']} are two names of one thing; give one")
    if mode not in ("train", "test"):
        raise ValueError(f'dropout_param["mode"] must be "train" or "test", got {mode!r}')
    if keep_prob is None or not 0 < keep_prob <= 1:
        raise ValueError(f'dropout_param["keep_prob"] must lie in (0, 1], got {keep_prob!r}')
    return mode, keep_prob
