"""Convolutional networks in NumPy, on the fast layers: ThreeLayerConvNet, and DeepConvNet of any depth."""

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
    conv_backward_fast,
    conv_forward_fast,
    conv_relu_pool_backward,
    conv_relu_pool_forward,
    kaiming_initializer,
    max_pool_backward_fast,
    max_pool_forward_fast,
    relu_backward,
    relu_forward,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
)
from common.validate import Stream, checked_scale, checked_sizes, stream

Array = np.ndarray

CONV_3X3 = {"stride": 1, "pad": 1}
POOL_2X2 = {"pool_height": 2, "pool_width": 2, "stride": 2}


class ConvNet(Model):
    """A model of pictures (N, C, H, W), all of one size."""

    def __init__(self, input_dim: Sequence[int], num_classes: int, reg: float, dtype: type):
        """
        Raises:
            ValueError: input_dim is not (C, H, W), a size below 1, reg is negative or not finite, dtype not floating.
        """
        super().__init__(reg, dtype)
        self.input_dim, self.num_classes = tuple(map(int, input_dim)), num_classes
        if len(self.input_dim) != 3 or min(*self.input_dim, num_classes) < 1:
            raise ValueError(
                "the input dimensions must be (C, H, W), and they and num_classes at least 1, "
                f"got {self.input_dim} and {num_classes}"
            )

    def inputs(self, X: Array) -> Array:
        """X in the model's dtype, if it holds pictures of the right size.

        Raises:
            ValueError: pictures of another size, or none.
            TypeError: they do not hold real numbers.
        """
        X = np.asarray(X)
        if X.ndim != 4 or not len(X) or X.shape[1:] != self.input_dim:
            raise ValueError(f"X has shape {X.shape}; this network needs (N, {', '.join(map(str, self.input_dim))})")
        if X.dtype.kind not in "fiub":
            raise TypeError(f"X must hold real numbers, got {X.dtype}")
        return X.astype(self.dtype, copy=False)

    def settings(self) -> dict[str, Any]:
        """The arguments that make a network of these sizes, as plain numbers."""
        return {"num_classes": self.num_classes} | super().settings()


class ThreeLayerConvNet(ConvNet):
    """conv - ReLU - 2x2 max-pool - affine - ReLU - affine - softmax.

    Attributes:
        params: W1 (F, C, f, f), b1 (F,), W2 (F H'/2 W'/2, hidden_dim), b2, W3 (hidden_dim, num_classes), b3.
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (3, 32, 32),
        num_filters: int = 32,
        filter_size: int = 7,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
        dtype: type = np.float32,
        *,
        rng: Stream = None,
    ):
        """Weights normally distributed around zero, biases zero.

        Args:
            input_dim: (C, H, W) of a picture.
            num_filters, filter_size: F filters of f x f; stride 1, pad (f - 1) // 2, which keeps H and W for odd f and
                takes one from each for even f.
            hidden_dim, num_classes: units of the two affine layers.
            weight_scale: standard deviation of the weights.
            reg: strength of the L2 term, with its factor 1/2.
            dtype: of parameters and computing.
            rng: RandomState or seed of the weights; None = NumPy's global stream (`np.random.seed`), as in the courses.
        Raises:
            ValueError: a size below 1, a filter larger than the padded picture, maps too small for 2x2 pooling (of
                maps of odd height or width it leaves the last row or column out), a negative weight_scale or reg, a
                dtype that is not floating.
        """
        super().__init__(input_dim, num_classes, reg, dtype)
        checked_sizes(num_filters=num_filters, filter_size=filter_size, hidden_dim=hidden_dim)
        self.num_filters, self.filter_size, self.hidden_dim = num_filters, filter_size, hidden_dim
        self.conv_param = {"stride": 1, "pad": (filter_size - 1) // 2}
        height, width = (size + 2 * self.conv_param["pad"] - filter_size + 1 for size in self.input_dim[1:])
        if min(height, width) < 2:
            raise ValueError(
                f"input_dim {self.input_dim} and filter_size {filter_size} make {height} x {width} maps; "
                "2x2 pooling needs at least 2 x 2"
            )
        shapes = {
            "W1": (num_filters, self.input_dim[0], filter_size, filter_size),
            "W2": (num_filters * (height // 2) * (width // 2), hidden_dim),
            "W3": (hidden_dim, num_classes),
        }
        self.set_params(self.initial_params(shapes, checked_scale(weight_scale), stream(rng)))

    def initial_params(self, shapes: dict[str, tuple[int, ...]], weight_scale: float, rng: Any) -> dict[str, Array]:
        """Normal weights of standard deviation weight_scale; one zero bias for each filter or unit.

        Args:
            shapes: of W1, W2 and W3.
            weight_scale: standard deviation.
            rng: has `standard_normal`; drawn from in the order of `shapes`.
        Returns:
            W1, b1, W2, b2, W3, b3.
        """
        ### BEGIN SOLUTION convolutional_networks, 7
        params = {}
        for i, shape in enumerate(shapes.values(), start=1):
            params[f"W{i}"] = weight_scale * rng.standard_normal(shape)
            params[f"b{i}"] = np.zeros(shape[0] if i == 1 else shape[1])
        return params
        ### END SOLUTION

    def forward(self, X: Array, mode: str) -> tuple[Array, list]:
        """Scores (N, num_classes) of the pictures X (N, C, H, W), and the caches; training and testing are the same."""
        p = self.params
        ### BEGIN SOLUTION convolutional_networks, 7
        maps, cache1 = conv_relu_pool_forward(X, p["W1"], p["b1"], self.conv_param, POOL_2X2)  # (N, F, H/2, W/2)
        hidden, cache2 = affine_relu_forward(maps, p["W2"], p["b2"])  # (N, hidden_dim)
        scores, cache3 = affine_forward(hidden, p["W3"], p["b3"])  # (N, num_classes)
        return scores, [cache1, cache2, cache3]
        ### END SOLUTION

    def backward(self, dscores: Array, caches: list) -> dict[str, Array]:
        """{name: gradient} of the data loss from its gradient with respect to the scores."""
        grads = {}
        cache1, cache2, cache3 = caches
        ### BEGIN SOLUTION convolutional_networks, 7
        dhidden, grads["W3"], grads["b3"] = affine_backward(dscores, cache3)
        dmaps, grads["W2"], grads["b2"] = affine_relu_backward(dhidden, cache2)
        _, grads["W1"], grads["b1"] = conv_relu_pool_backward(dmaps, cache1)
        ### END SOLUTION
        return grads

    def settings(self) -> dict[str, Any]:
        """The arguments that make a network of these sizes, as plain numbers."""
        sizes = ("input_dim", "num_filters", "filter_size", "hidden_dim")
        return {name: getattr(self, name) for name in sizes} | super().settings()


class DeepConvNet(ConvNet, Stack):
    """{conv3x3 - [batch norm] - ReLU - [2x2 max-pool]} x (L - 1) - affine - softmax; what is in braces is a block.

    The way of Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition (2015).

    Attributes:
        params: W1, b1, ... WL, bL; with batch normalisation also gamma1, beta1, ... of the L - 1 blocks.
        bn_params: a dict for each block with its running mean and variance; [] without batch normalisation.
    """

    def __init__(
        self,
        input_dims: Sequence[int] = (3, 32, 32),
        num_filters: Sequence[int] = (8, 8, 8, 8, 8),
        max_pools: Sequence[int] = (0, 1, 2, 3, 4),
        batchnorm: bool = False,
        num_classes: int = 10,
        weight_scale: float | str = 1e-3,
        reg: float = 0.0,
        dtype: type = np.float32,
        *,
        rng: Stream = None,
    ):
        """Normal weights, zero biases; batch normalisation begins with gamma 1 and beta 0.

        Args:
            input_dims: (C, H, W) of a picture.
            num_filters: filters of each block.
            max_pools: the blocks, counted from 0, that end in 2x2 max-pooling.
            batchnorm: whether each convolution is followed by spatial batch normalisation.
            num_classes: scores of the last layer.
            weight_scale: standard deviation of the weights, or "kaiming" for sqrt(2 / fan_in).
            reg, dtype, rng: as for `ThreeLayerConvNet`.
        Raises:
            ValueError: as `ThreeLayerConvNet`; no block; max_pools names one that is not there, or
                pools maps of one row or column; weight_scale is another word than "kaiming".
        """
        super().__init__(input_dims, num_classes, reg, dtype)
        self.num_filters, self.max_pools = tuple(map(int, num_filters)), tuple(sorted(set(map(int, max_pools))))
        self.batchnorm = bool(batchnorm)
        self.num_layers = len(self.num_filters) + 1
        features = self._checked_features()
        self.bn_params: list[dict[str, Any]] = [
            {"mode": "train", "running_mean": np.zeros(F, dtype), "running_var": np.zeros(F, dtype)}
            for F in (self.num_filters if self.batchnorm else ())
        ]
        self.set_params(self.initial_params(features, checked_scale(weight_scale, ("kaiming",)), stream(rng)))

    def _checked_features(self) -> int:
        """How many numbers reach the affine layer; ValueError if there is no such net."""
        last, (height, width) = len(self.num_filters) - 1, self.input_dim[1:]
        if not self.num_filters or min(self.num_filters) < 1:
            raise ValueError(f"num_filters must name at least one filter for each block, got {self.num_filters}")
        if self.max_pools and not 0 <= self.max_pools[0] <= self.max_pools[-1] <= last:
            raise ValueError(f"max_pools must lie between 0 and {last}, got {self.max_pools}")
        for i in self.max_pools:
            if min(height, width) < 2:
                raise ValueError(f"block {i} cannot pool {height} x {width} maps: they must be at least 2 x 2")
            height, width = height // 2, width // 2
        return self.num_filters[last] * height * width

    def initial_params(self, features: int, weight_scale: float | str, rng: Any) -> dict[str, Array]:
        """Weights, biases and, with batch normalisation, gamma and beta of every layer.

        Args:
            features: numbers of a picture that reach the affine layer.
            weight_scale: standard deviation, or "kaiming"; no ReLU follows the affine layer.
            rng: has `standard_normal`; drawn from layer by layer.
        Returns:
            W1, b1[, gamma1, beta1], ... WL, bL.
        """

        def weights(Din, Dout, K=None, relu=True):
            if weight_scale == "kaiming":
                return kaiming_initializer(Din, Dout, K, relu, rng=rng)
            return weight_scale * rng.standard_normal((Din, Dout) if K is None else (Dout, Din, K, K))

        params = {}
        ### BEGIN SOLUTION convolutional_networks, 11
        channels = self.input_dim[0]
        for i, F in enumerate(self.num_filters, start=1):
            params[f"W{i}"], params[f"b{i}"] = weights(channels, F, K=3), np.zeros(F)
            if self.batchnorm:
                params[f"gamma{i}"], params[f"beta{i}"] = np.ones(F), np.zeros(F)
            channels = F
        L, C = self.num_layers, self.num_classes
        params[f"W{L}"], params[f"b{L}"] = weights(features, C, relu=False), np.zeros(C)
        ### END SOLUTION
        return params

    def block_forward(self, x: Array, i: int, mode: str) -> tuple[Array, dict]:
        """Block i: conv - [batch norm] - ReLU - [max-pool].

        Args:
            x: (N, C, H, W).
            i: 1 to L - 1.
            mode: "train" or "test", for batch normalisation.
        Returns:
            (N, F, H, W), or (N, F, H/2, W/2) where it pools, and the caches, by layer.
        """
        params, cache = self.params, {}
        ### BEGIN SOLUTION convolutional_networks, 11
        x, cache["conv"] = conv_forward_fast(x, params[f"W{i}"], params[f"b{i}"], CONV_3X3)
        if self.batchnorm:
            self.bn_params[i - 1]["mode"] = mode
            gamma, beta = params[f"gamma{i}"], params[f"beta{i}"]
            x, cache["norm"] = spatial_batchnorm_forward(x, gamma, beta, self.bn_params[i - 1])
        x, cache["relu"] = relu_forward(x)
        if i - 1 in self.max_pools:
            x, cache["pool"] = max_pool_forward_fast(x, POOL_2X2)
        ### END SOLUTION
        return x, cache

    def block_backward(self, dout: Array, cache: dict, i: int) -> tuple[Array, dict[str, Array]]:
        """Block i, backward: the same layers from last to first.

        Args:
            dout: of the shape of the block's output.
            cache: of `block_forward`.
            i: 1 to L - 1.
        Returns:
            dx (N, C, H, W) and {"Wi": dW, "bi": db, ...}, without the L2 term.
        """
        of_norm = {}
        ### BEGIN SOLUTION convolutional_networks, 11
        if i - 1 in self.max_pools:
            dout = max_pool_backward_fast(dout, cache["pool"])
        dout = relu_backward(dout, cache["relu"])
        if self.batchnorm:
            dout, of_norm[f"gamma{i}"], of_norm[f"beta{i}"] = spatial_batchnorm_backward(dout, cache["norm"])
        dx, dW, db = conv_backward_fast(dout, cache["conv"])
        ### END SOLUTION
        return dx, {f"W{i}": dW, f"b{i}": db} | of_norm

    def settings(self) -> dict[str, Any]:
        """The arguments that make a network of these sizes, as plain numbers."""
        sizes = {name: getattr(self, name) for name in ("num_filters", "max_pools", "batchnorm")}
        return {"input_dims": self.input_dim} | sizes | super().settings()
