"""Layers that usually come together, as one forward and one backward function."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.layers.activations import relu_backward, relu_forward
from common.layers.affine import affine_backward, affine_forward
from common.layers.fast import (
    conv_backward_fast,
    conv_forward_fast,
    max_pool_backward_fast,
    max_pool_forward_fast,
)
from common.layers.normalization import (
    batchnorm_backward_alt,
    batchnorm_forward,
    layernorm_backward,
    layernorm_forward,
)
from common.layers.spatial_normalization import spatial_batchnorm_backward, spatial_batchnorm_forward

Array = np.ndarray
Param = dict[str, Any]

NORMS = {
    "batchnorm": (batchnorm_forward, batchnorm_backward_alt),
    "layernorm": (layernorm_forward, layernorm_backward),
}


def affine_relu_forward(x: Array, w: Array, b: Array) -> tuple[Array, tuple]:
    """Affine, ReLU: x (N, d_1, ..., d_k), w (D, M), b (M,) -> out (N, M), cache."""
    ### BEGIN SOLUTION fully_connected_nets, 3
    a, affine_cache = affine_forward(x, w, b)
    out, relu_cache = relu_forward(a)
    return out, (affine_cache, relu_cache)
    ### END SOLUTION


def affine_relu_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """dout (N, M) -> dx, dw, db of the shapes of x, w, b."""
    ### BEGIN SOLUTION fully_connected_nets, 3
    affine_cache, relu_cache = cache
    return affine_backward(relu_backward(dout, relu_cache), affine_cache)
    ### END SOLUTION


def affine_norm_relu_forward(
    x: Array, w: Array, b: Array, gamma: Array, beta: Array, norm_param: Param, normalization: str
) -> tuple[Array, tuple]:
    """Affine, batch or layer normalisation, ReLU.

    Args:
        x: (N, d_1, ..., d_k); w: (D, M); b, gamma, beta: (M,).
        norm_param: bn_param or ln_param.
        normalization: "batchnorm" or "layernorm".
    Returns:
        out (N, M) and the cache.
    Raises:
        ValueError: another normalization.
    """
    if normalization not in NORMS:
        raise ValueError(f"normalization must be one of {', '.join(NORMS)}, got {normalization!r}")
    ### BEGIN SOLUTION batch_normalization, 7
    norm_forward, _ = NORMS[normalization]
    a, affine_cache = affine_forward(x, w, b)
    a, norm_cache = norm_forward(a, gamma, beta, norm_param)
    out, relu_cache = relu_forward(a)
    return out, (normalization, affine_cache, norm_cache, relu_cache)
    ### END SOLUTION


def affine_norm_relu_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array, Array, Array]:
    """dout (N, M) -> dx, dw, db, dgamma, dbeta."""
    ### BEGIN SOLUTION batch_normalization, 7
    normalization, affine_cache, norm_cache, relu_cache = cache
    _, norm_backward = NORMS[normalization]
    da, dgamma, dbeta = norm_backward(relu_backward(dout, relu_cache), norm_cache)
    return *affine_backward(da, affine_cache), dgamma, dbeta
    ### END SOLUTION


def conv_relu_forward(x: Array, w: Array, b: Array, conv_param: Param) -> tuple[Array, tuple]:
    """Convolution, ReLU: x (N, C, H, W), w (F, C, HH, WW), b (F,) -> out (N, F, H', W'), cache."""
    a, conv_cache = conv_forward_fast(x, w, b, conv_param)
    out, relu_cache = relu_forward(a)
    return out, (conv_cache, relu_cache)


def conv_relu_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """dout (N, F, H', W') -> dx, dw, db of the shapes of x, w, b."""
    conv_cache, relu_cache = cache
    return conv_backward_fast(relu_backward(dout, relu_cache), conv_cache)


def conv_bn_relu_forward(
    x: Array, w: Array, b: Array, gamma: Array, beta: Array, conv_param: Param, bn_param: Param
) -> tuple[Array, tuple]:
    """Convolution, spatial batch normalisation with gamma, beta (F,), ReLU -> out (N, F, H', W'), cache."""
    a, conv_cache = conv_forward_fast(x, w, b, conv_param)
    a, norm_cache = spatial_batchnorm_forward(a, gamma, beta, bn_param)
    out, relu_cache = relu_forward(a)
    return out, (conv_cache, norm_cache, relu_cache)


def conv_bn_relu_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array, Array, Array]:
    """dout (N, F, H', W') -> dx, dw, db, dgamma, dbeta."""
    conv_cache, norm_cache, relu_cache = cache
    da, dgamma, dbeta = spatial_batchnorm_backward(relu_backward(dout, relu_cache), norm_cache)
    return *conv_backward_fast(da, conv_cache), dgamma, dbeta


def conv_relu_pool_forward(x: Array, w: Array, b: Array, conv_param: Param, pool_param: Param) -> tuple[Array, tuple]:
    """Convolution, ReLU, max-pooling -> out (N, F, H'', W''), cache."""
    a, conv_cache = conv_relu_forward(x, w, b, conv_param)
    out, pool_cache = max_pool_forward_fast(a, pool_param)
    return out, (conv_cache, pool_cache)


def conv_relu_pool_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """dout (N, F, H'', W'') -> dx, dw, db of the shapes of x, w, b."""
    conv_cache, pool_cache = cache
    return conv_relu_backward(max_pool_backward_fast(dout, pool_cache), conv_cache)
