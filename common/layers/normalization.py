"""Batch and layer normalisation of rows (N, D): zero mean and unit variance, then a learnt scale and shift."""

from __future__ import annotations

from typing import Any

import numpy as np

Axes = int | tuple[int, ...]
Gradients = tuple[np.ndarray, np.ndarray, np.ndarray]


def batch_moments(x: np.ndarray, axes: Axes, bn_param: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance to normalise with: the minibatch's in training, the running averages in testing.

    Args:
        x: minibatch.
        axes: the axes to average over; the other one counts the D features.
        bn_param: see `batchnorm_forward`; training updates running_mean and running_var in it.
    Returns:
        mean (D,) and the biased variance (D,), of the dtype of x.
    """
    mode, momentum = bn_param["mode"], bn_param.get("momentum", 0.9)
    ### BEGIN SOLUTION batch_normalization, 2
    if mode == "test":
        return bn_param["running_mean"], bn_param["running_var"]
    mean, var = x.mean(axis=axes), x.var(axis=axes)
    bn_param["running_mean"] = momentum * bn_param["running_mean"] + (1 - momentum) * mean
    bn_param["running_var"] = momentum * bn_param["running_var"] + (1 - momentum) * var
    return mean, var
    ### END SOLUTION


def batchnorm_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, bn_param: dict[str, Any]
) -> tuple[np.ndarray, tuple]:
    """Normalise each feature over the minibatch, scale it by gamma and shift it by beta.

    Ioffe and Szegedy, Batch normalization (2015).

    Args:
        x: (N, D) rows.
        gamma, beta: (D,) scale and shift.
        bn_param:
            mode: "train" or "test".
            eps: added to the variance, 1e-5.
            momentum: weight of the past in the running averages, 0.9 (PyTorch's momentum is 1 minus this).
            running_mean, running_var: (D,), zeros if missing; training replaces them, testing uses them. As in the
                courses both start at 0 and the variance is the biased one (PyTorch: from 1, unbiased).
    Returns:
        out (N, D) and the cache (mode, centred, std, x_hat, gamma).
    Raises:
        ValueError: another mode, no rows, shapes that do not fit.
    """
    prepare(x, gamma, beta, bn_param, ndim=2)
    ### BEGIN SOLUTION batch_normalization, 2
    mean, var = batch_moments(x, 0, bn_param)  # (D,)
    centred = x - mean
    std = np.sqrt(var + bn_param.get("eps", 1e-5))
    x_hat = centred / std
    out = gamma * x_hat + beta
    ### END SOLUTION
    return out, (bn_param["mode"], centred, std, x_hat, gamma)


def batchnorm_backward(dout: np.ndarray, cache: tuple) -> Gradients:
    """Gradients of batch normalisation, one node of its computational graph after the other.

    Args:
        dout: (N, D) gradient with respect to the output.
        cache: of `batchnorm_forward`. In test mode mean and std are constants and the layer is linear.
    Returns:
        dx (N, D), dgamma (D,), dbeta (D,).
    """
    mode, centred, std, x_hat, gamma = cache
    ### BEGIN SOLUTION batch_normalization, 4
    N = len(dout)
    dbeta = dout.sum(axis=0)  # out = gamma x_hat + beta
    dgamma = (dout * x_hat).sum(axis=0)
    dx_hat = dout * gamma
    dcentred = dx_hat / std  # x_hat = centred / std
    if mode == "test":
        return dcentred, dgamma, dbeta
    dstd = -(dx_hat * centred).sum(axis=0) / std**2
    dvar = dstd / (2 * std)  # std = sqrt(var + eps)
    dcentred += dvar * 2 * centred / N  # var = mean of centred^2
    dmean = -dcentred.sum(axis=0)  # centred = x - mean
    dx = dcentred + dmean / N  # mean = sum of x / N
    return dx, dgamma, dbeta
    ### END SOLUTION


def batchnorm_backward_alt(dout: np.ndarray, cache: tuple) -> Gradients:
    """The same gradients in one formula: dx = gamma / (N std) (N dout - sum dout - x_hat sum(dout x_hat)).

    Args:
        dout: (N, D) gradient with respect to the output.
        cache: of `batchnorm_forward`.
    Returns:
        dx (N, D), dgamma (D,), dbeta (D,).
    """
    mode, _, std, x_hat, gamma = cache
    ### BEGIN SOLUTION batch_normalization, 5
    N = len(dout)
    dbeta = dout.sum(axis=0)
    dgamma = (dout * x_hat).sum(axis=0)
    dx = dout - (dbeta + x_hat * dgamma) / N if mode == "train" else dout
    return gamma / std * dx, dgamma, dbeta
    ### END SOLUTION


def layernorm_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, ln_param: dict[str, Any]
) -> tuple[np.ndarray, tuple]:
    """Normalise each row over its features, scale by gamma and shift by beta; training and testing are the same.

    Ba, Kiros, Hinton, Layer normalization (2016).

    Args:
        x: (N, D) rows.
        gamma, beta: (D,) scale and shift.
        ln_param: eps, added to the variance, 1e-5.
    Returns:
        out (N, D) and the cache (x_hat, std, gamma).
    Raises:
        ValueError: no rows, shapes that do not fit.
    """
    check_shapes(x, gamma, beta, x.shape[1:2], ndim=2)
    ### BEGIN SOLUTION batch_normalization, 11
    x_hat, std = standardize(x, 1, ln_param.get("eps", 1e-5))
    out = gamma * x_hat + beta
    ### END SOLUTION
    return out, (x_hat, std, gamma)


def layernorm_backward(dout: np.ndarray, cache: tuple) -> Gradients:
    """Gradients of layer normalisation.

    Args:
        dout: (N, D) gradient with respect to the output.
        cache: of `layernorm_forward`.
    Returns:
        dx (N, D), dgamma (D,), dbeta (D,).
    """
    x_hat, std, gamma = cache
    ### BEGIN SOLUTION batch_normalization, 11
    dx = standardize_backward(dout * gamma, x_hat, std, 1)
    dgamma = (dout * x_hat).sum(axis=0)
    dbeta = dout.sum(axis=0)
    ### END SOLUTION
    return dx, dgamma, dbeta


def standardize(x: np.ndarray, axes: Axes, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """(x - mean) / std over the given axes: the one idea of every normalisation.

    Args:
        x: array of any shape.
        axes: the axes that share one mean and one std.
        eps: added to the variance.
    Returns:
        x_hat of the shape of x, and std with the averaged axes kept as 1.
    """
    ### BEGIN SOLUTION batch_normalization, 11
    centred = x - x.mean(axis=axes, keepdims=True)
    std = np.sqrt((centred**2).mean(axis=axes, keepdims=True) + eps)
    return centred / std, std
    ### END SOLUTION


def standardize_backward(dx_hat: np.ndarray, x_hat: np.ndarray, std: np.ndarray, axes: Axes) -> np.ndarray:
    """Gradient of `standardize`: what is left of dx_hat without its mean and its part along x_hat, over std.

    Args:
        dx_hat: gradient with respect to x_hat.
        x_hat, std: of `standardize`.
        axes: the same axes.
    Returns:
        dx, of the shape of dx_hat.
    """
    ### BEGIN SOLUTION batch_normalization, 11
    mean = dx_hat.mean(axis=axes, keepdims=True)
    along = (dx_hat * x_hat).mean(axis=axes, keepdims=True)
    return (dx_hat - mean - along * x_hat) / std
    ### END SOLUTION


def prepare(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, bn_param: dict[str, Any], ndim: int) -> None:
    """Check what batch normalisation is given, and start its running averages.

    Raises:
        ValueError: another mode than "train" and "test", an empty minibatch, shapes that do not fit.
    """
    mode = bn_param.get("mode")
    if mode not in ("train", "test"):
        raise ValueError(f'bn_param["mode"] must be "train" or "test", got {mode!r}')
    features = x.shape[1:2]
    check_shapes(x, gamma, beta, features, ndim)
    for name in ("running_mean", "running_var"):
        if bn_param.setdefault(name, np.zeros(features, x.dtype)).shape != features:
            raise ValueError(f'bn_param["{name}"] must have shape {features}, got {bn_param[name].shape}')


def check_shapes(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, scale: tuple[int, ...], ndim: int) -> None:
    """ValueError unless x is a minibatch of `ndim` axes and gamma and beta have the shape `scale`."""
    if x.ndim != ndim or not x.size:
        raise ValueError(f"x must be a minibatch with {ndim} axes, none of them empty, got shape {x.shape}")
    if gamma.shape != scale or beta.shape != scale:
        raise ValueError(f"gamma and beta must have shape {scale}, got {gamma.shape} and {beta.shape}")
