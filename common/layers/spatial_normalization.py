"""Batch and group normalisation of feature maps (N, C, H, W)."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.layers.normalization import (
    Gradients,
    batch_moments,
    check_shapes,
    prepare,
    standardize,
    standardize_backward,
)

MAPS = (0, 2, 3)  # batch, height and width: what one channel's moments are taken over


def spatial_batchnorm_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, bn_param: dict[str, Any]
) -> tuple[np.ndarray, tuple]:
    """Batch normalisation of each channel over the minibatch and all positions.

    Ioffe and Szegedy, Batch normalization (2015), section 3.2.

    Args:
        x: (N, C, H, W) feature maps.
        gamma, beta: (C,) scale and shift of each channel.
        bn_param: as for `batchnorm_forward`; running_mean and running_var are (C,).
    Returns:
        out (N, C, H, W) and the cache (mode, x, mean, std, gamma).
    Raises:
        ValueError: another mode, an empty minibatch, shapes that do not fit.
    """
    prepare(x, gamma, beta, bn_param, ndim=4)
    ### BEGIN SOLUTION convolutional_networks, 8
    mean, var = batch_moments(x, MAPS, bn_param)  # (C,)
    std = np.sqrt(var + bn_param.get("eps", 1e-5))
    scale = gamma / std
    out = x * _per_channel(scale)
    out += _per_channel(beta - mean * scale)  # gamma (x - mean) / std + beta with two passes over the maps
    ### END SOLUTION
    return out, (bn_param["mode"], x, mean, std, gamma)


def spatial_batchnorm_backward(dout: np.ndarray, cache: tuple) -> Gradients:
    """Gradients of spatial batch normalisation: the formula of `batchnorm_backward_alt` with N H W rows.

    Args:
        dout: (N, C, H, W) gradient with respect to the output.
        cache: of `spatial_batchnorm_forward`.
    Returns:
        dx (N, C, H, W), dgamma (C,), dbeta (C,).
    """
    mode, x, mean, std, gamma = cache
    ### BEGIN SOLUTION convolutional_networks, 8
    x_hat = x - _per_channel(mean)
    x_hat *= _per_channel(1 / std)
    dbeta = dout.sum(axis=MAPS)
    dgamma = np.einsum("nchw,nchw->c", dout, x_hat)
    dx = dout * _per_channel(gamma / std)
    if mode == "train":
        M = dout.size // dout.shape[1]  # N H W
        x_hat *= _per_channel(gamma * dgamma / (M * std))
        dx -= x_hat
        dx -= _per_channel(gamma * dbeta / (M * std))
    ### END SOLUTION
    return dx, dgamma, dbeta


def spatial_groupnorm_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, G: int, gn_param: dict[str, Any]
) -> tuple[np.ndarray, tuple]:
    """Normalise each picture over groups of C / G channels and all positions, then scale and shift each channel.

    Wu and He, Group normalization (2018). G = 1 is layer normalisation over (C, H, W), G = C instance normalisation.

    Args:
        x: (N, C, H, W) feature maps.
        gamma, beta: (1, C, 1, 1) scale and shift of each channel.
        G: number of groups, a divisor of C.
        gn_param: eps, added to the variance, 1e-5.
    Returns:
        out (N, C, H, W) and the cache (x_hat, std, gamma, G).
    Raises:
        ValueError: G does not divide C, an empty minibatch, shapes that do not fit.
    """
    C = x.shape[1] if x.ndim == 4 else 0
    check_shapes(x, gamma, beta, (1, C, 1, 1), ndim=4)
    if G < 1 or C % G:
        raise ValueError(f"the number of groups G must divide the {C} channels, got {G}")
    ### BEGIN SOLUTION convolutional_networks, 9
    groups = x.reshape(len(x), G, -1)  # (N, G, C/G H W)
    x_hat, std = standardize(groups, 2, gn_param.get("eps", 1e-5))
    x_hat = x_hat.reshape(x.shape)
    out = gamma * x_hat + beta
    ### END SOLUTION
    return out, (x_hat, std, gamma, G)


def spatial_groupnorm_backward(dout: np.ndarray, cache: tuple) -> Gradients:
    """Gradients of spatial group normalisation.

    Args:
        dout: (N, C, H, W) gradient with respect to the output.
        cache: of `spatial_groupnorm_forward`.
    Returns:
        dx (N, C, H, W), dgamma and dbeta (1, C, 1, 1).
    """
    x_hat, std, gamma, G = cache
    ### BEGIN SOLUTION convolutional_networks, 9
    groups = (len(dout), G, -1)
    dx = standardize_backward((dout * gamma).reshape(groups), x_hat.reshape(groups), std, 2).reshape(dout.shape)
    dgamma = (dout * x_hat).sum(axis=MAPS, keepdims=True)
    dbeta = dout.sum(axis=MAPS, keepdims=True)
    ### END SOLUTION
    return dx, dgamma, dbeta


def _per_channel(values: np.ndarray) -> np.ndarray:
    return values[:, None, None]  # (C,) -> (C, 1, 1), which broadcasts over (N, C, H, W)
