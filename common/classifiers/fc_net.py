"""Fully connected networks of any depth, built from the forward/backward pairs of `common.layers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.classifiers.model import Model, Stack
from common.layers import (
    affine_backward,
    affine_forward,
    affine_relu_backward,
    affine_relu_forward,
    dropout_backward,
    dropout_forward,
    kaiming_initializer,
    relu_backward,
    relu_forward,
)
from common.layers.sandwiches import NORMS
from common.validate import Stream, checked_scale, checked_sizes, stream

Array = np.ndarray


class TwoLayerNet(Model):
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
        super().__init__(reg, dtype)
        checked_sizes(input_dim=input_dim, hidden_dim=hidden_dim, num_classes=num_classes)
        scale, draw = checked_scale(weight_scale), stream(rng)
        self.sizes = D, H, C = input_dim, hidden_dim, num_classes
        ### BEGIN SOLUTION fully_connected_nets, 5
        params = {
            "W1": scale * draw.randn(D, H),
            "b1": np.zeros(H),
            "W2": scale * draw.randn(H, C),
            "b2": np.zeros(C),
        }
        ### END SOLUTION
        self.set_params(params)

    def forward(self, X: Array, mode: str) -> tuple[Array, tuple]:
        """Scores (N, C) of X (N, d_1, ..., d_k), D numbers each, and the caches; training and testing are the same."""
        params = self.params
        ### BEGIN SOLUTION fully_connected_nets, 5
        hidden, hidden_cache = affine_relu_forward(X, params["W1"], params["b1"])  # (N, H)
        scores, scores_cache = affine_forward(hidden, params["W2"], params["b2"])  # (N, C)
        return scores, (hidden_cache, scores_cache)
        ### END SOLUTION

    def backward(self, dscores: Array, caches: tuple) -> dict[str, Array]:
        """{name: gradient} of the data loss, from its gradient dscores (N, C) with respect to the scores."""
        hidden_cache, scores_cache = caches
        ### BEGIN SOLUTION fully_connected_nets, 5
        dhidden, dW2, db2 = affine_backward(dscores, scores_cache)
        _, dW1, db1 = affine_relu_backward(dhidden, hidden_cache)
        return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}
        ### END SOLUTION

    def settings(self) -> dict[str, Any]:
        """The arguments that make a network of these sizes."""
        return dict(zip(("input_dim", "hidden_dim", "num_classes"), self.sizes, strict=True)) | super().settings()


class FullyConnectedNet(Stack):
    """{affine - [normalisation] - ReLU - [dropout]} x (L - 1) - affine - softmax, with the L2 term 0.5 reg sum W^2.

    Attributes:
        params: W1, b1, ..., WL, bL; with normalisation gamma1, beta1, ..., one pair for each hidden layer.
        num_layers: L, the number of affine layers.
        bn_params: a dict for each normalisation layer: mode, and the running averages of batch normalisation.
        dropout_param: {} without dropout, else mode, p (the probability of keeping) and seed.
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
        dropout_keep_ratio: float | None = None,
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
            dropout, dropout_keep_ratio: CS231n's names of keep_prob, until 2020 and since (the probability of keeping).
            rng: RandomState or seed of the weights; None = NumPy's global stream.
        Raises:
            ValueError: sizes below 1, keep_prob outside (0, 1], an unknown normalization, a negative weight_scale or
                reg, a dtype that is not floating; keep_prob by two of its names.
        """
        named = {"keep_prob": None if keep_prob == 1 else keep_prob}
        named |= {"dropout": dropout, "dropout_keep_ratio": dropout_keep_ratio}
        named = {name: value for name, value in named.items() if value is not None}
        if len(named) > 1:
            given = " and ".join(f"{name} {value}" for name, value in named.items())
            raise ValueError(f"{given} are names of one thing; give one")
        keep_prob = next(iter(named.values()), 1)
        if not 0 < keep_prob <= 1:
            raise ValueError(f"keep_prob must lie in (0, 1], 1 = no dropout, got {keep_prob}")
        if normalization is not None and normalization not in NORMS:
            raise ValueError(f"normalization must be None or one of {', '.join(NORMS)}, got {normalization!r}")
        super().__init__(reg, dtype)
        self.sizes = [input_dim, *hidden_dims, num_classes]  # a new list: the caller's stays as it is
        checked_sizes(**{f"the size of layer {i}": size for i, size in enumerate(self.sizes)})
        self.num_layers, self.normalization, self.use_dropout = len(self.sizes) - 1, normalization, keep_prob < 1
        self.dropout_param = {"mode": "train", "p": keep_prob, "seed": seed} if self.use_dropout else {}
        self.bn_params = [{"mode": "train"} for _ in hidden_dims if normalization]
        self.set_params(self.initial_params(self.sizes, checked_scale(weight_scale, ("kaiming",)), stream(rng)))

    def initial_params(self, sizes: list[int], weight_scale: float | str, rng: Any) -> dict[str, Array]:
        """All parameters before training.

        Args:
            sizes: D, the hidden layers' sizes, C: layer i of the L layers maps sizes[i - 1] numbers to sizes[i].
            weight_scale: standard deviation of the weights, or "kaiming".
            rng: a RandomState, or `np.random` for NumPy's global stream.
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

    def block_forward(self, x: Array, i: int, mode: str) -> tuple[Array, dict]:
        """Block i, a hidden layer: affine - [normalisation] - ReLU - [dropout].

        Args:
            x: (N, fan_in).
            i: 1 to L - 1.
            mode: "train" or "test", for normalisation and dropout.
        Returns:
            out (N, fan_out) and the caches, by layer.
        """
        params, cache = self.params, {}
        ### BEGIN SOLUTION fully_connected_nets, 7
        x, cache["affine"] = affine_forward(x, params[f"W{i}"], params[f"b{i}"])
        if self.normalization:
            norm_forward, _ = NORMS[self.normalization]
            self.bn_params[i - 1]["mode"] = mode
            x, cache["norm"] = norm_forward(x, params[f"gamma{i}"], params[f"beta{i}"], self.bn_params[i - 1])
        x, cache["relu"] = relu_forward(x)
        if self.use_dropout:
            self.dropout_param["mode"] = mode
            x, cache["dropout"] = dropout_forward(x, self.dropout_param)
        ### END SOLUTION
        return x, cache

    def block_backward(self, dout: Array, cache: dict, i: int) -> tuple[Array, dict[str, Array]]:
        """Block i, backward: the same layers from last to first.

        Args:
            dout: (N, fan_out).
            cache: of `block_forward`.
            i: 1 to L - 1.
        Returns:
            dx (N, fan_in) and {"Wi": dW, "bi": db, ...}, without the L2 term.
        """
        of_norm = {}
        ### BEGIN SOLUTION fully_connected_nets, 7
        if self.use_dropout:
            dout = dropout_backward(dout, cache["dropout"])
        dout = relu_backward(dout, cache["relu"])
        if self.normalization:
            _, norm_backward = NORMS[self.normalization]
            dout, of_norm[f"gamma{i}"], of_norm[f"beta{i}"] = norm_backward(dout, cache["norm"])
        dx, dW, db = affine_backward(dout, cache["affine"])
        ### END SOLUTION
        return dx, {f"W{i}": dW, f"b{i}": db} | of_norm

    def settings(self) -> dict[str, Any]:
        """The arguments that make a network of these sizes."""
        input_dim, *hidden_dims, num_classes = self.sizes
        own = {"hidden_dims": hidden_dims, "input_dim": input_dim, "num_classes": num_classes}
        dropout = {"keep_prob": self.dropout_param.get("p", 1), "seed": self.dropout_param.get("seed")}
        return own | dropout | {"normalization": self.normalization} | super().settings()
