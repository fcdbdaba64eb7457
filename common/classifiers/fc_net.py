"""Fully connected networks of any depth, built from the forward/backward pairs of `common.layers`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.checkpoint import load_model, save_model
from common.classifiers.two_layer_net import Stream, checked_reg, stream
from common.layers import (
    affine_backward,
    affine_forward,
    affine_norm_relu_backward,
    affine_norm_relu_forward,
    affine_relu_backward,
    affine_relu_forward,
    dropout_backward,
    dropout_forward,
    kaiming_initializer,
    softmax_loss,
)

Array = np.ndarray
NORMALIZATIONS = (None, "batchnorm", "layernorm")


class TwoLayerNet:
    """affine - ReLU - affine - softmax, with L2 regularisation 0.5 reg sum W^2 (assignment 1's net has no 0.5).

    Attributes:
        params: W1 (D, H), b1 (H,), W2 (H, C), b2 (C,).
        reg: strength of the L2 term.
    """

    def __init__(
        self,
        input_dim: int = 3 * 32 * 32,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
        *,
        dtype: type = np.float64,
        rng: Stream = None,
    ):
        """Weights normally distributed around zero, biases zero.

        Args:
            input_dim, hidden_dim, num_classes: D, H and C, each at least 1.
            weight_scale: standard deviation of the weights.
            reg: strength of the L2 term.
            dtype: of the parameters and of all computing.
            rng: RandomState or seed of the weights; None = NumPy's global stream.
        Raises:
            ValueError: a size below 1, a negative weight_scale or reg, a dtype that is not floating.
        """
        sizes = _checked_sizes([input_dim, hidden_dim, num_classes])
        self.reg, self.dtype = checked_reg(reg), _checked_dtype(dtype)
        scale, draw = _checked_scale(weight_scale), stream(rng)
        if scale == "kaiming":
            raise ValueError("weight_scale must be a number here; FullyConnectedNet knows 'kaiming'")
        D, H, C = sizes
        ### BEGIN SOLUTION fully_connected_nets, 5
        params = {
            "W1": scale * draw.randn(D, H),
            "b1": np.zeros(H),
            "W2": scale * draw.randn(H, C),
            "b2": np.zeros(C),
        }
        ### END SOLUTION
        self.params = {name: value.astype(self.dtype) for name, value in params.items()}

    def loss(self, X: Array, y: Array | None = None) -> Any:
        """Scores; with labels, the loss and its gradients.

        Args:
            X: (N, d_1, ..., d_k), D numbers each.
            y: (N,) integer labels, 0 to C - 1, or None.
        Returns:
            scores (N, C) if y is None, else the loss and {name: gradient} of the shapes of params.
        Raises:
            ValueError: shapes that do not fit, labels out of range.
        """
        X, params, reg = np.asarray(X, self.dtype), self.params, self.reg
        ### BEGIN SOLUTION fully_connected_nets, 5
        W1, W2 = params["W1"], params["W2"]
        hidden, hidden_cache = affine_relu_forward(X, W1, params["b1"])  # (N, H)
        scores, scores_cache = affine_forward(hidden, W2, params["b2"])  # (N, C)
        if y is None:
            return scores
        loss, dscores = softmax_loss(scores, y)
        loss += 0.5 * reg * (np.sum(W1**2) + np.sum(W2**2))
        dhidden, dW2, db2 = affine_backward(dscores, scores_cache)
        _, dW1, db1 = affine_relu_backward(dhidden, hidden_cache)
        return loss, {"W1": dW1 + reg * W1, "b1": db1, "W2": dW2 + reg * W2, "b2": db2}
        ### END SOLUTION


class FullyConnectedNet:
    """{affine - [normalisation] - ReLU - [dropout]} x (L - 1) - affine - softmax, with the L2 term 0.5 reg sum W^2.

    Attributes:
        params: W1, b1, ..., WL, bL; with normalisation gamma1, beta1, ..., one pair for each hidden layer.
        num_layers: L, the number of affine layers.
        bn_params: a dict for each normalisation layer: mode, and the running averages of batch normalisation.
    """

    def __init__(
        self,
        hidden_dims: Sequence[int],
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        keep_prob: float = 1,
        normalization: str | None = None,
        reg: float = 0.0,
        weight_scale: float | str = 1e-2,
        dtype: type = np.float32,
        seed: int | None = None,
        *,
        dropout: float | None = None,
        rng: Stream = None,
    ):
        """Weights normally distributed around zero, biases and betas zero, gammas one.

        Args:
            hidden_dims: sizes of the hidden layers; not changed.
            input_dim: D, numbers in an example.
            num_classes: C.
            keep_prob: dropout keeps a unit with this probability, in (0, 1]; 1 = no dropout.
            normalization: None, "batchnorm" or "layernorm".
            reg: strength of the L2 term on the weights.
            weight_scale: standard deviation of the weights, or "kaiming": sqrt(2 / fan_in), and sqrt(1 / fan_in)
                in the last layer.
            dtype: of the parameters and of all computing.
            seed: the same dropout masks in every call, for gradient checks; None = new ones from NumPy's global stream.
            dropout: CS231n's name of keep_prob (the probability of keeping).
            rng: RandomState or seed of the weights; None = NumPy's global stream.
        Raises:
            ValueError: sizes below 1, keep_prob outside (0, 1], an unknown normalization, a negative weight_scale or
                reg, a dtype that is not floating; both keep_prob and dropout.
        """
        if dropout is not None and keep_prob != 1:
            raise ValueError(f"keep_prob {keep_prob} and dropout {dropout} are two names of one thing; give one")
        keep_prob = keep_prob if dropout is None else dropout
        if not 0 < keep_prob <= 1:
            raise ValueError(f"keep_prob must lie in (0, 1], 1 = no dropout, got {keep_prob}")
        if normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization must be one of {NORMALIZATIONS}, got {normalization!r}")
        sizes = _checked_sizes([input_dim, *hidden_dims, num_classes])  # a new list: the caller's stays as it is
        self.num_layers, self.normalization, self.use_dropout = len(sizes) - 1, normalization, keep_prob < 1
        self.reg, self.dtype = checked_reg(reg), _checked_dtype(dtype)
        self.dropout_param = {"mode": "train", "keep_prob": keep_prob, "seed": seed} if self.use_dropout else {}
        self.bn_params = [{"mode": "train"} for _ in sizes[1:-1] if normalization]
        params = self.initial_params(sizes, _checked_scale(weight_scale), stream(rng))
        self.params = {name: value.astype(self.dtype) for name, value in params.items()}

    def initial_params(self, sizes: list[int], weight_scale: float | str, rng: Any) -> dict[str, Array]:
        """All parameters before training.

        Args:
            sizes: D, the hidden layers' sizes, C: layer i of the L layers maps sizes[i - 1] numbers to sizes[i].
            weight_scale: standard deviation of the weights, or "kaiming".
            rng: has randn.
        Returns:
            {"W1": ..., "b1": ..., ...}; gamma and beta for all layers but the last if self.normalization.
        """
        params, L = {}, self.num_layers
        ### BEGIN SOLUTION fully_connected_nets, 7
        for i in range(1, L + 1):
            fan_in, fan_out = sizes[i - 1], sizes[i]
            if weight_scale == "kaiming":
                params[f"W{i}"] = kaiming_initializer(fan_in, fan_out, relu=i < L, rng=rng)
            else:
                params[f"W{i}"] = weight_scale * rng.randn(fan_in, fan_out)
            params[f"b{i}"] = np.zeros(fan_out)
            if self.normalization and i < L:
                params[f"gamma{i}"], params[f"beta{i}"] = np.ones(fan_out), np.zeros(fan_out)
        return params
        ### END SOLUTION

    def hidden_forward(self, x: Array, i: int) -> tuple[Array, tuple]:
        """Hidden layer i: affine - [normalisation] - ReLU - [dropout].

        Args:
            x: (N, fan_in).
            i: 1 to L - 1.
        Returns:
            out (N, fan_out) and the cache.
        """
        W, b = self.params[f"W{i}"], self.params[f"b{i}"]
        ### BEGIN SOLUTION fully_connected_nets, 7
        if self.normalization:
            gamma, beta, norm_param = self.params[f"gamma{i}"], self.params[f"beta{i}"], self.bn_params[i - 1]
            out, cache = affine_norm_relu_forward(x, W, b, gamma, beta, norm_param, self.normalization)
        else:
            out, cache = affine_relu_forward(x, W, b)
        dropout_cache = None
        if self.use_dropout:
            out, dropout_cache = dropout_forward(out, self.dropout_param)
        return out, (cache, dropout_cache)
        ### END SOLUTION

    def hidden_backward(self, dout: Array, cache: tuple, i: int) -> tuple[Array, dict[str, Array]]:
        """Hidden layer i, backward.

        Args:
            dout: (N, fan_out).
            cache: of `hidden_forward`.
            i: 1 to L - 1.
        Returns:
            dx (N, fan_in) and {"Wi": dW, "bi": db, ...}, without the L2 term.
        """
        ### BEGIN SOLUTION fully_connected_nets, 7
        cache, dropout_cache = cache
        if self.use_dropout:
            dout = dropout_backward(dout, dropout_cache)
        names = ("W", "b", "gamma", "beta") if self.normalization else ("W", "b")
        backward = affine_norm_relu_backward if self.normalization else affine_relu_backward
        dx, *grads = backward(dout, cache)
        return dx, {f"{name}{i}": grad for name, grad in zip(names, grads, strict=True)}
        ### END SOLUTION

    def loss(self, X: Array, y: Array | None = None) -> Any:
        """Scores, in test mode; with labels, the loss and its gradients, in training mode.

        Args:
            X: (N, d_1, ..., d_k), D numbers each; converted to the net's dtype.
            y: (N,) integer labels, 0 to C - 1, or None.
        Returns:
            scores (N, C) if y is None, else the loss and {name: gradient} of the shapes of params.
        Raises:
            ValueError: shapes that do not fit, labels out of range.
        """
        for param in (self.dropout_param, *self.bn_params):
            param["mode"] = "test" if y is None else "train"
        out, L, reg, params = np.asarray(X, self.dtype), self.num_layers, self.reg, self.params
        ### BEGIN SOLUTION fully_connected_nets, 7
        caches = {}
        for i in range(1, L):
            out, caches[i] = self.hidden_forward(out, i)
        scores, caches[L] = affine_forward(out, params[f"W{L}"], params[f"b{L}"])
        if y is None:
            return scores

        loss, dscores = softmax_loss(scores, y)
        dout, dW, db = affine_backward(dscores, caches[L])
        grads = {f"W{L}": dW, f"b{L}": db}
        for i in range(L - 1, 0, -1):
            dout, of_layer = self.hidden_backward(dout, caches[i], i)
            grads |= of_layer
        for i in range(1, L + 1):
            W = params[f"W{i}"]
            loss += 0.5 * reg * np.sum(W**2)
            grads[f"W{i}"] += reg * W
        return loss, grads
        ### END SOLUTION

    def save(self, path: str | Path) -> None:
        """Write parameters and running averages to a file, whole or not at all."""
        save_model(self, path)

    def load(self, path: str | Path) -> None:
        """Read what `save` wrote by a net of the same architecture.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged or does not fit.
        """
        load_model(self, path)


def _checked_sizes(sizes: list[int]) -> list[int]:
    if not all(isinstance(size, int | np.integer) and size >= 1 for size in sizes):
        raise ValueError(f"sizes of layers must be whole numbers of at least 1, got {sizes}")
    return sizes


def _checked_dtype(dtype: type) -> np.dtype:
    if np.dtype(dtype).kind != "f":
        raise ValueError(f"dtype must be floating, got {np.dtype(dtype)}")
    return np.dtype(dtype)


def _checked_scale(weight_scale: float | str) -> float | str:
    if isinstance(weight_scale, str) and weight_scale != "kaiming":
        raise ValueError(f"weight_scale must be a number or 'kaiming', got {weight_scale!r}")
    if not isinstance(weight_scale, str) and not 0 <= weight_scale < np.inf:
        raise ValueError(f"weight_scale must be finite and not negative, got {weight_scale}")
    return weight_scale
