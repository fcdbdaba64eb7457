"""What the NumPy models of assignments 2 and 3 share: parameters, the loss with its L2 term, saving and loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from common import checkpoint
from common.layers.affine import affine_backward, affine_forward
from common.layers.losses import softmax_loss
from common.validate import checked_float, checked_reg, file_to_load

Array = np.ndarray


class Model:
    """A classifier built from layers.

    A subclass draws its `params` in `__init__`, computes scores in `forward` and gradients in `backward`, and names in
    `settings` the arguments that make a model of its sizes; its `__init__` also takes those in `UNTRAINED`.

    Attributes:
        params: arrays by name; names that begin with W are weights and are regularised.
        reg: strength of the L2 term.
        dtype: of the parameters and of all computing.
    """

    UNTRAINED: ClassVar[dict[str, Any]] = {"weight_scale": 0, "rng": 0}  # where `load` replaces the parameters anyway

    def __init__(self, reg: float, dtype: type):
        """
        Raises:
            ValueError: reg is negative or not finite, or dtype is not floating.
        """
        self.reg, self.dtype = checked_reg(reg), checked_float(dtype)
        self.params: dict[str, Array] = {}

    def loss(self, X: Array, y: Array | None = None) -> Any:
        """Scores; with labels, the loss L = -mean log p_y + reg/2 * (sum of all squared weights) and its gradients.

        Without labels the model is in test mode: dropout keeps everything, batch normalisation uses running averages.

        Args:
            X: examples, (N, ...).
            y: (N,) integer labels, 0 to C - 1, or None.
        Returns:
            scores (N, C) if y is None, else the loss and {name: gradient} of the shapes of params.
        Raises:
            ValueError: shapes that do not fit, labels out of range.
            TypeError: labels that are not integers.
        """
        scores, caches = self.forward(self.inputs(X), "test" if y is None else "train")
        if y is None:
            return scores
        ### BEGIN SOLUTION fully_connected_nets, 5
        loss, dscores = softmax_loss(scores, y)
        grads = self.backward(dscores, caches)
        for name, W in self.params.items():
            if name.startswith("W"):  # biases, gammas and betas are not regularised
                loss += 0.5 * self.reg * np.sum(W * W)
                grads[name] += self.reg * W
        return loss, grads
        ### END SOLUTION

    def inputs(self, X: Array) -> Array:
        """X as an array of the model's dtype."""
        return np.asarray(X, self.dtype)

    def forward(self, X: Array, mode: str) -> tuple[Array, Any]:
        """Scores (N, C) and what `backward` needs; mode is "train" or "test"."""
        raise NotImplementedError(f"{type(self).__name__} has no forward pass")

    def backward(self, dscores: Array, caches: Any) -> dict[str, Array]:
        """{name: gradient} of the data loss, from its gradient with respect to the scores."""
        raise NotImplementedError(f"{type(self).__name__} has no backward pass")

    def settings(self) -> dict[str, Any]:
        """The arguments that make a model of these sizes, as plain numbers and strings."""
        return {"reg": self.reg, "dtype": np.dtype(self.dtype).name}

    def save(self, fname: str | Path) -> None:
        """Write settings, parameters and running averages to one file, whole or not at all.

        Args:
            fname: path of the file.
        Raises:
            OSError: the file cannot be written.
        """
        content = {"kind": "model", "class": type(self).__name__, "settings": self.settings()}
        checkpoint.write(fname, content | checkpoint.snapshot(self))

    def load(self, fname: str | Path, dtype: type | None = None) -> bool:
        """Become the model that `save` wrote, whatever its sizes; reading the file runs no code from it.

        Args:
            fname: path of the file.
            dtype: compute in this precision; None = in the saved one.
        Returns:
            True; False, with a warning, if there is no such file, as in CS231n.
        Raises:
            ValueError: the file is damaged, or holds no model of this class. This model stays as it was.
        """
        if not file_to_load(fname):
            return False
        saved = checkpoint.read(fname, "model")
        if saved.get("class") != type(self).__name__:
            raise ValueError(f"{fname} holds a {saved.get('class', 'model')}, not a {type(self).__name__}")
        settings = saved["settings"] | ({"dtype": np.dtype(dtype).name} if dtype else {})
        checkpoint.restore(type(self)(**settings, **self.UNTRAINED), saved)  # an error here changes nothing
        self.__init__(**settings, **self.UNTRAINED)
        checkpoint.restore(self, saved)
        self.set_params(self.params)  # in the wanted precision, and so the running averages
        for bn_param in getattr(self, "bn_params", ()):
            bn_param |= {
                name: value.astype(self.dtype) for name, value in bn_param.items() if name.startswith("running")
            }
        return True

    def set_params(self, params: dict[str, Array]) -> None:
        """Take these parameters, in the model's dtype."""
        self.params = {name: value.astype(self.dtype) for name, value in params.items()}


class Stack(Model):
    """Blocks one after the other, and an affine layer: {block} x (L - 1) - affine - softmax.

    A subclass says what a block is. Block i has the parameters whose names end in i, the affine layer WL and bL.

    Attributes:
        num_layers: L.
    """

    num_layers: int

    def block_forward(self, x: Array, i: int, mode: str) -> tuple[Array, Any]:
        """Output and caches of block i = 1 .. L - 1; mode is "train" or "test"."""
        raise NotImplementedError(f"{type(self).__name__} has no blocks")

    def block_backward(self, dout: Array, cache: Any, i: int) -> tuple[Array, dict[str, Array]]:
        """Gradient with respect to the input of block i, and {name: gradient} of its parameters."""
        raise NotImplementedError(f"{type(self).__name__} has no blocks")

    def forward(self, X: Array, mode: str) -> tuple[Array, list]:
        """Scores (N, C) and one cache a layer.

        Args:
            X: (N, ...), what the first block takes.
            mode: "train" or "test".
        """
        x, L, caches = X, self.num_layers, []
        ### BEGIN SOLUTION fully_connected_nets, 7
        for i in range(1, L):
            x, cache = self.block_forward(x, i, mode)
            caches.append(cache)
        scores, cache = affine_forward(x, self.params[f"W{L}"], self.params[f"b{L}"])
        ### END SOLUTION
        return scores, [*caches, cache]

    def backward(self, dscores: Array, caches: list) -> dict[str, Array]:
        """{name: gradient} of the data loss, from its gradient dscores (N, C) with respect to the scores."""
        grads, L = {}, self.num_layers
        ### BEGIN SOLUTION fully_connected_nets, 7
        dx, grads[f"W{L}"], grads[f"b{L}"] = affine_backward(dscores, caches[-1])
        for i in reversed(range(1, L)):
            dx, of_block = self.block_backward(dx, caches[i - 1], i)
            grads |= of_block
        ### END SOLUTION
        return grads
