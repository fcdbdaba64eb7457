"""What the convolutional networks share: the loss with its L2 term, checks of the input, saving and loading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import checkpoint
from common.classifiers.two_layer_net import checked_reg
from common.layers import softmax_loss

Array = np.ndarray


class ConvNet:
    """A network with `params`, `forward(X, mode) -> scores, caches` and `backward(dscores, caches) -> gradients`."""

    def __init__(
        self,
        input_dim: Sequence[int],
        num_classes: int,
        weight_scale: float | str,
        reg: float,
        dtype: type,
        *,
        kaiming: bool = False,
    ):
        """Check and keep what every convolutional network is told.

        Raises:
            ValueError: input_dim is not (C, H, W), a size below 1, weight_scale is negative or a word (with
                kaiming: other than "kaiming"), reg is negative or not finite, or dtype is not floating.
        """
        self.input_dim = tuple(map(int, input_dim))
        if len(self.input_dim) != 3 or min(*self.input_dim, num_classes) < 1:
            raise ValueError(
                "the input dimensions must be (C, H, W), and they and num_classes at least 1, "
                f"got {self.input_dim} and {num_classes}"
            )
        known = weight_scale == "kaiming" if isinstance(weight_scale, str) else 0 <= weight_scale < np.inf
        if not known or (isinstance(weight_scale, str) and not kaiming):
            word = ' or "kaiming"' if kaiming else ""
            raise ValueError(f"weight_scale must be a finite number of at least 0{word}, got {weight_scale!r}")
        if np.dtype(dtype).kind != "f":
            raise ValueError(f"dtype must be floating, got {np.dtype(dtype)}")
        self.num_classes, self.reg, self.dtype = num_classes, checked_reg(reg), np.dtype(dtype).type
        self.params: dict[str, Array] = {}

    def loss(self, X: Array, y: Array | None = None) -> Any:
        """Scores; with labels, the loss L = -mean log p_y + reg/2 * (sum of all squared weights) and its gradients.

        Without labels the net is in test mode: batch normalisation uses its running averages.

        Args:
            X: (N, C, H, W) pictures.
            y: (N,) integer labels, 0 to num_classes - 1, or None.
        Returns:
            scores (N, num_classes) if y is None, else the loss and {name: gradient} of the shapes of params.
        Raises:
            ValueError: shapes that do not fit, labels that are not integers of that range.
            TypeError: pictures that do not hold real numbers.
        """
        scores, caches = self.forward(self._pictures(X), "test" if y is None else "train")
        if y is None:
            return scores
        ### BEGIN SOLUTION convolutional_networks, 7
        loss, dscores = softmax_loss(scores, y)
        grads = self.backward(dscores, caches)
        for name, W in self.params.items():
            if name.startswith("W"):  # no price on biases, gamma, beta
                loss += 0.5 * self.reg * np.sum(W * W)
                grads[name] += self.reg * W
        return loss, grads
        ### END SOLUTION

    def forward(self, X: Array, mode: str) -> tuple[Array, list]:
        """Scores and caches; each network has its own."""
        raise NotImplementedError

    def backward(self, dscores: Array, caches: list) -> dict[str, Array]:
        """Gradients of the data loss; each network has its own."""
        raise NotImplementedError

    def save(self, path: str | Path) -> None:
        """Write parameters, running averages and settings to one file, whole or not at all.

        Args:
            path: of the file.
        Raises:
            OSError: the file cannot be written.
        """
        content = {"kind": "model", "class": type(self).__name__, "settings": self.settings()}
        checkpoint.write(path, content | checkpoint.snapshot(self))

    def load(self, path: str | Path, dtype: type | None = None) -> None:
        """Become the network that `save` wrote, whatever its sizes; reading the file runs no code from it.

        Args:
            path: of the file.
            dtype: compute in this precision; None = in the saved one.
        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged, or holds no network of this class. This network stays as it was.
        """
        saved = checkpoint.read(path, "model")
        if saved.get("class") != type(self).__name__:
            raise ValueError(f"{path} holds a {saved.get('class', 'model')}, not a {type(self).__name__}")
        settings = saved["settings"] | ({"dtype": np.dtype(dtype).name} if dtype else {})
        new = type(self)(**settings, weight_scale=0, rng=0)
        checkpoint.restore(new, saved)
        new._set_params(new.params)  # in the wanted precision, and so the running averages
        for bn_param in getattr(new, "bn_params", ()):
            bn_param |= {name: bn_param[name].astype(new.dtype) for name in ("running_mean", "running_var")}
        self.__dict__ = new.__dict__

    def settings(self) -> dict[str, Any]:
        """The arguments that make a network of these sizes, as plain numbers."""
        return {"num_classes": self.num_classes, "reg": self.reg, "dtype": np.dtype(self.dtype).name}

    def _set_params(self, params: dict[str, Array]) -> None:
        self.params = {name: value.astype(self.dtype) for name, value in params.items()}

    def _pictures(self, X: Array) -> Array:
        """X in the dtype of the parameters, if it holds pictures of the right shape."""
        X = np.asarray(X)
        if X.ndim != 4 or not len(X) or X.shape[1:] != self.input_dim:
            raise ValueError(f"X has shape {X.shape}; this network needs (N, {', '.join(map(str, self.input_dim))})")
        if X.dtype.kind not in "fiub":
            raise TypeError(f"X must hold real numbers, got {X.dtype}")
        return X.astype(self.dtype, copy=False)
