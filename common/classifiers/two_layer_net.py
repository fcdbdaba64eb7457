"""A network with one hidden layer: affine, ReLU, affine, softmax - forward, backward and training, in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from common.layers.losses import softmax_loss
from common.validate import (
    Stream,
    checked_examples,
    checked_float,
    checked_labels,
    checked_reg,
    checked_sizes,
    stream,
)


class TwoLayerNet:
    """Fully connected two-layer network trained with softmax loss and L2 regularisation of the weights.

    Rumelhart, Hinton, Williams, Learning representations by back-propagating errors (1986).

    Attributes:
        params: W1 (D, H), b1 (H,), W2 (H, C), b2 (C,).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        std: float | tuple[float, float] = 1e-4,
        *,
        rng: Stream = None,
        dtype: type = np.float64,
    ):
        """Weights normally distributed around zero, biases zero.

        Args:
            input_size, hidden_size, output_size: D, H and C, each at least 1.
            std: standard deviation of the weights; a pair gives each layer its own.
            rng: RandomState or seed of the weights; None = NumPy's global stream (`np.random.seed`), as in the courses.
            dtype: of the parameters and of all computing: np.float64, or np.float32 at twice the speed.
        Raises:
            ValueError: a size below 1, a negative std, or a dtype that is not floating.
        """
        checked_sizes(input_size=input_size, hidden_size=hidden_size, output_size=output_size)
        checked_float(dtype)
        if not np.min(std) >= 0:
            raise ValueError(f"std must not be negative, got {std}")
        rng, (std1, std2) = stream(rng), np.broadcast_to(std, 2)
        weights = {
            "W1": std1 * rng.randn(input_size, hidden_size),
            "b1": np.zeros(hidden_size),
            "W2": std2 * rng.randn(hidden_size, output_size),
            "b2": np.zeros(output_size),
        }
        self.params = {name: value.astype(dtype) for name, value in weights.items()}

    def forward(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the classes, and the hidden layer that the backward pass needs.

        Args:
            X: (N, D) rows.
        Returns:
            scores (N, C) and hidden (N, H), which is 0 where a unit is off.
        """
        ### BEGIN SOLUTION two_layer_net, 1
        a = X @ self.params["W1"] + self.params["b1"]  # (N, H)
        hidden = np.maximum(a, 0)
        scores = hidden @ self.params["W2"] + self.params["b2"]  # (N, C)
        return scores, hidden
        ### END SOLUTION

    def loss(self, X: np.ndarray, y: np.ndarray | None = None, reg: float = 0.0) -> Any:
        """Scores; with labels, the loss L = -mean log p_y + reg (sum W1^2 + sum W2^2) and its gradients.

        Args:
            X: (N, D) rows or (N, ...) pictures.
            y: (N,) integer labels, 0 to C - 1, or None.
            reg: strength of the L2 term, without a factor 1/2; biases are not regularised.
        Returns:
            scores (N, C) if y is None, else the loss and {name: gradient} of the shapes of params.
        Raises:
            ValueError: shapes that do not fit, labels out of range, NaN or infinity in X, reg < 0.
            TypeError: labels that are not integers.
        """
        X = self._rows(X, "X")
        scores, hidden = self.forward(X)
        if y is None:
            return scores
        y, reg = self._labels(y, "y", X), checked_reg(reg)
        data_loss, dscores = softmax_loss(scores, y)
        return float(data_loss) + self.penalty(reg), self.backward(X, hidden, dscores, reg)

    def penalty(self, reg: float) -> float:
        """The L2 term: reg times the sum of all squared weights, no 1/2, no biases."""
        ### BEGIN SOLUTION two_layer_net, 2
        return reg * float(np.sum(self.params["W1"] ** 2) + np.sum(self.params["W2"] ** 2))
        ### END SOLUTION

    def backward(self, X: np.ndarray, hidden: np.ndarray, dscores: np.ndarray, reg: float) -> dict[str, np.ndarray]:
        """Gradients of the whole loss, from dL/dscores back to each parameter by the chain rule.

        Args:
            X: (N, D) rows.
            hidden: (N, H) from the forward pass.
            dscores: dL/dscores, (N, C).
            reg: strength of the L2 term.
        Returns:
            {name: gradient}, shapes as in params.
        """
        W1, W2 = self.params["W1"], self.params["W2"]
        ### BEGIN SOLUTION two_layer_net, 3
        dhidden = dscores @ W2.T  # (N, H)
        da = dhidden * (hidden > 0)  # ReLU lets the gradient through where the unit was on
        return {
            "W1": X.T @ da + 2 * reg * W1,
            "b1": da.sum(axis=0),
            "W2": hidden.T @ dscores + 2 * reg * W2,
            "b2": dscores.sum(axis=0),
        }
        ### END SOLUTION

    def train(
        self,
        X: np.ndarray,
        y: np.ndarray,
        X_val: np.ndarray,
        y_val: np.ndarray,
        learning_rate: float = 1e-3,
        learning_rate_decay: float = 0.95,
        reg: float = 5e-6,
        num_iters: int = 100,
        batch_size: int = 200,
        verbose: bool = False,
        *,
        momentum: float = 0.0,
        rng: Stream = None,
        on_step: Callable[[int], None] | None = None,
    ) -> dict[str, list[float]]:
        """Stochastic gradient descent on minibatches drawn with replacement.

        At the start of every epoch, of max(N // batch_size, 1) iterations, the accuracies are recorded and the
        learning rate decays. A run that diverges is not stopped: its losses become NaN.

        Args:
            X, y: training rows (N, D) or pictures (N, ...) and labels (N,); not changed.
            X_val, y_val: the same for validation.
            learning_rate: of the first iteration.
            learning_rate_decay: factor an epoch.
            reg: strength of the L2 term.
            num_iters: number of steps.
            batch_size: may exceed N, since rows are drawn with replacement.
            verbose: print the loss every 100 iterations.
            momentum: mu in v = mu v - learning_rate dW, W += v; 0 is the plain SGD of the courses.
            rng: RandomState or seed of the minibatches; None = NumPy's global stream.
            on_step: called with the number of steps done after each of them, for example to film the weights.
        Returns:
            loss_history, a value a step; train_acc_history (of the batch) and val_acc_history, a value an epoch.
        Raises:
            ValueError, TypeError: as `loss`; num_iters or batch_size below 1; momentum outside 0 <= mu < 1.
        """
        X, X_val = self._pictures(X, "X"), self._rows(X_val, "X_val")
        y, y_val, reg = self._labels(y, "y", X), self._labels(y_val, "y_val", X_val), checked_reg(reg)
        checked_sizes(num_iters=num_iters, batch_size=batch_size)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        rng, history = stream(rng), {"loss_history": [], "train_acc_history": [], "val_acc_history": []}
        # New arrays: a reference to the parameters from before the training keeps their values.
        self.params = {name: value.copy() for name, value in self.params.items()}
        velocity = {name: np.zeros_like(value) for name, value in self.params.items()}
        ### BEGIN SOLUTION two_layer_net, 4
        iterations_per_epoch = max(len(X) // batch_size, 1)  # a whole number: `it % 2.5 == 0` would skip epochs
        for it in range(num_iters):
            batch = rng.choice(len(X), batch_size)  # with replacement
            with np.errstate(over="ignore", invalid="ignore"):  # a diverging run shows as NaN in the history
                loss, grads = self.loss(X[batch], y[batch], reg)
                self.step(grads, velocity, learning_rate, momentum)
                history["loss_history"].append(loss)
                if it % iterations_per_epoch == 0:
                    history["train_acc_history"].append(self.accuracy(X[batch], y[batch]))
                    history["val_acc_history"].append(self.accuracy(X_val, y_val))
                    learning_rate *= learning_rate_decay
            if verbose and it % 100 == 0:
                print(f"iteration {it} / {num_iters}: loss {loss:.6f}")
            if on_step is not None:
                on_step(it + 1)
        return history
        ### END SOLUTION

    def step(self, grads: dict, velocity: dict, learning_rate: float, momentum: float = 0.0) -> None:
        """One step of gradient descent in place: v = momentum v - learning_rate dW, W += v (Polyak, 1964).

        Args:
            grads: {name: gradient}.
            velocity: {name: v}, zeros before the first step; changed.
            learning_rate: of this step.
            momentum: share of the last step that is kept; 0 is plain SGD, W -= learning_rate dW.
        """
        ### BEGIN SOLUTION two_layer_net, 4
        for name, grad in grads.items():
            velocity[name] *= momentum
            velocity[name] -= learning_rate * grad
            self.params[name] += velocity[name]
        ### END SOLUTION

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The class with the highest score.

        Args:
            X: (N, D) rows or (N, ...) pictures.
        Returns:
            Labels, (N,) int64.
        Raises:
            ValueError: as `loss`.
        """
        ### BEGIN SOLUTION two_layer_net, 4
        return np.argmax(self.loss(X), axis=1)
        ### END SOLUTION

    def accuracy(self, X: np.ndarray, y: np.ndarray) -> float:
        """Share of the rows of X whose label is predicted; y as in `loss`."""
        y = self._labels(y, "y", np.asarray(X))
        return float(np.mean(self.predict(X) == y))

    def _pictures(self, X: np.ndarray, name: str) -> np.ndarray:
        """X as an array whose rows fit W1 and are finite."""
        X, W1 = checked_examples(X, name), self.params["W1"]
        if X[0].size != len(W1):
            raise ValueError(f"{name} has shape {X.shape}; W1 of shape {W1.shape} needs (N, {len(W1)})")
        return X

    def _rows(self, X: np.ndarray, name: str) -> np.ndarray:
        """X as rows (N, D) of the parameters' dtype."""
        X = self._pictures(X, name)
        return X.reshape(len(X), -1).astype(self.params["W1"].dtype, copy=False)

    def _labels(self, y: np.ndarray, name: str, X: np.ndarray) -> np.ndarray:
        """y as (N,) integers below C."""
        return checked_labels(y, name, X.shape, len(self.params["b2"]))
