"""Linear classifiers: one template a class, scored by a dot product; trained with the hinge or the softmax loss.

Assignment 1's regularisation is reg * sum(W^2), without the factor 1/2 that assignment 2 uses.
"""

from __future__ import annotations

import os

import numpy as np

from common.progress import progress
from common.storage import atomic_write
from common.validate import Stream, checked_count, checked_examples, checked_labels, checked_reg, file_to_load, stream


def svm_loss_naive(W: np.ndarray, X: np.ndarray, y: np.ndarray, reg: float) -> tuple[float, np.ndarray]:
    """Multiclass hinge loss and its gradient, with loops (Weston and Watkins, 1999).

    Args:
        W: weights, (D, C).
        X: a minibatch, (N, D).
        y: labels, (N,), 0 <= y < C.
        reg: regularisation strength, >= 0.
    Returns:
        loss: mean over the pictures of the summed margins, plus reg * sum(W^2).
        dW: gradient of the loss, (D, C).
    Raises:
        ValueError: shapes that do not fit, a label out of range, reg < 0, or NaN in X.
        TypeError: y does not hold integers.
    """
    X, y = _check_batch(W, X, y, reg)
    _not_from_nan(np.sum(X), X)
    loss, dW = 0.0, np.zeros(W.shape, np.result_type(W, X))
    ### BEGIN SOLUTION svm, 3
    for x_i, y_i in zip(X, y, strict=True):
        scores = x_i @ W  # (C,)
        for j in range(W.shape[1]):
            margin = scores[j] - scores[y_i] + 1
            if j != y_i and margin > 0:
                loss += margin
                dW[:, j] += x_i
                dW[:, y_i] -= x_i
    loss, dW = loss / len(X) + reg * np.sum(W**2), dW / len(X) + 2 * reg * W
    ### END SOLUTION
    return float(loss), dW


def svm_loss_vectorized(W: np.ndarray, X: np.ndarray, y: np.ndarray, reg: float) -> tuple[float, np.ndarray]:
    """Multiclass hinge loss and its gradient, without loops; arguments and results of `svm_loss_naive`."""
    X, y = _check_batch(W, X, y, reg)
    N, rows = len(X), np.arange(len(X))
    ### BEGIN SOLUTION svm, 4
    scores = X @ W  # (N, C)
    margins = np.maximum(0, scores - scores[rows, y][:, None] + 1)
    margins[rows, y] = 0
    loss = np.sum(margins) / N + reg * np.sum(W**2)

    dscores = (margins > 0).astype(scores.dtype)  # every violated margin pushes its class down ...
    dscores[rows, y] = -np.sum(dscores, axis=1)  # ... and the right class up
    dW = X.T @ dscores / N + 2 * reg * W
    ### END SOLUTION
    return _not_from_nan(loss, X), dW


def softmax_loss_naive(W: np.ndarray, X: np.ndarray, y: np.ndarray, reg: float) -> tuple[float, np.ndarray]:
    """Cross-entropy of the softmax probabilities and its gradient, with loops.

    Args:
        W: weights, (D, C).
        X: a minibatch, (N, D).
        y: labels, (N,), 0 <= y < C.
        reg: regularisation strength, >= 0.
    Returns:
        loss: mean of -log p(y), plus reg * sum(W^2).
        dW: gradient of the loss, (D, C).
    Raises:
        ValueError: shapes that do not fit, a label out of range, reg < 0, or NaN in X.
        TypeError: y does not hold integers.
    """
    X, y = _check_batch(W, X, y, reg)
    _not_from_nan(np.sum(X), X)
    loss, dW = 0.0, np.zeros(W.shape, np.result_type(W, X))
    ### BEGIN SOLUTION softmax, 2
    for x_i, y_i in zip(X, y, strict=True):
        scores = x_i @ W  # (C,)
        scores -= np.max(scores)  # p does not change, exp cannot overflow
        p = np.exp(scores) / np.sum(np.exp(scores))
        loss += np.log(np.sum(np.exp(scores))) - scores[y_i]
        for j in range(W.shape[1]):
            dW[:, j] += (p[j] - (j == y_i)) * x_i
    loss, dW = loss / len(X) + reg * np.sum(W**2), dW / len(X) + 2 * reg * W
    ### END SOLUTION
    return float(loss), dW


def softmax_loss_vectorized(W: np.ndarray, X: np.ndarray, y: np.ndarray, reg: float) -> tuple[float, np.ndarray]:
    """Cross-entropy and its gradient, without loops; arguments and results of `softmax_loss_naive`."""
    X, y = _check_batch(W, X, y, reg)
    N, rows = len(X), np.arange(len(X))
    ### BEGIN SOLUTION softmax, 3
    scores = X @ W  # (N, C)
    scores -= np.max(scores, axis=1, keepdims=True)
    log_p = scores - np.log(np.sum(np.exp(scores), axis=1, keepdims=True))
    loss = -np.mean(log_p[rows, y]) + reg * np.sum(W**2)

    dscores = np.exp(log_p)
    dscores[rows, y] -= 1
    dW = X.T @ dscores / N + 2 * reg * W
    ### END SOLUTION
    return _not_from_nan(loss, X), dW


class LinearClassifier:
    """scores = X W, trained by minibatch gradient descent. A subclass gives the loss.

    Attributes:
        W: weights, (D, C); None until trained.
    """

    def __init__(self) -> None:
        self.W: np.ndarray | None = None

    def train(
        self,
        X: np.ndarray,
        y: np.ndarray,
        learning_rate: float = 1e-3,
        reg: float = 1e-5,
        num_iters: int = 100,
        batch_size: int = 200,
        verbose: bool = False,
        rng: Stream = None,
    ) -> list[float]:
        """Gradient descent on minibatches drawn with replacement; a second call goes on from the present weights.

        Args:
            X: training data, (N, D).
            y: labels, (N,), integers from 0.
            learning_rate: step size.
            reg: regularisation strength, >= 0.
            num_iters: steps.
            batch_size: pictures a step; may exceed N.
            verbose: print the loss every 100 steps, beside a progress bar.
            rng: RandomState or seed of the initial weights and the minibatches; None = NumPy's global stream.
        Returns:
            The loss before each step.
        Raises:
            ValueError: shapes that do not fit, labels out of range, reg < 0, NaN or infinity in X.
            TypeError: labels that are not integers, an rng of another kind.
        """
        draw, X = stream(rng), checked_examples(X, "X")
        y = checked_labels(y, "y", X.shape)
        if self.W is None:
            self.W = _initial_weights(X, int(y.max()) + 1, draw)
        _check_batch(self.W, X, y, reg)
        losses, steps = [], progress(range(num_iters), disable=not verbose)
        for step in steps:
            X_batch, y_batch = sample_batch(X, y, batch_size, draw)
            ### BEGIN SOLUTION svm, 5
            loss, dW = self.loss(X_batch, y_batch, reg)
            self.W -= learning_rate * dW
            ### END SOLUTION
            losses.append(loss)
            if verbose and step % 100 == 0:
                steps.write(f"iteration {step} / {num_iters}: loss {loss:.6f}")
        return losses

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The class with the highest score for each row of X.

        Args:
            X: (N, D).
        Returns:
            Labels, (N,) integers.
        Raises:
            ValueError: not trained, or X does not fit the weights.
        """
        if self.W is None:
            raise ValueError("this classifier holds no weights: call train(X, y) or load(path) first")
        _check_width(self.W, X)
        ### BEGIN SOLUTION svm, 5
        return np.argmax(X @ self.W, axis=1)
        ### END SOLUTION

    def loss(self, X_batch: np.ndarray, y_batch: np.ndarray, reg: float) -> tuple[float, np.ndarray]:
        """Loss and gradient on a minibatch; subclasses override it."""
        raise NotImplementedError("LinearClassifier has no loss of its own: use LinearSVM or Softmax")

    def save(self, fname: str | os.PathLike) -> None:
        """Write the weights to a .npy file; an interruption leaves an older file whole."""
        if self.W is None:
            raise ValueError("this classifier holds no weights to save")
        with atomic_write(fname) as file:
            np.save(file, self.W)

    def load(self, fname: str | os.PathLike) -> bool:
        """Read weights written by `save`; False, with a warning, if there is no such file, as in CS231n.

        Raises:
            ValueError: the file holds no matrix.
        """
        if not file_to_load(fname):
            return False
        W = np.load(fname, allow_pickle=False)
        if W.ndim != 2:
            raise ValueError(f"{fname} holds an array of shape {W.shape}, weights have shape (D, C)")
        self.W = W
        return True


class LinearSVM(LinearClassifier):
    """Linear classifier with the multiclass hinge loss."""

    def loss(self, X_batch: np.ndarray, y_batch: np.ndarray, reg: float) -> tuple[float, np.ndarray]:
        """`svm_loss_vectorized` at the present weights."""
        return svm_loss_vectorized(self.W, X_batch, y_batch, reg)


class Softmax(LinearClassifier):
    """Linear classifier with the cross-entropy of the softmax probabilities."""

    def loss(self, X_batch: np.ndarray, y_batch: np.ndarray, reg: float) -> tuple[float, np.ndarray]:
        """`softmax_loss_vectorized` at the present weights."""
        return softmax_loss_vectorized(self.W, X_batch, y_batch, reg)


def sample_batch(X: np.ndarray, y: np.ndarray, batch_size: int, rng: Stream = None) -> tuple[np.ndarray, np.ndarray]:
    """A minibatch drawn with replacement, which is faster than without and as good for training.

    Args:
        X, y: (N, D) and (N,).
        batch_size: how many, >= 1; may exceed N.
        rng: RandomState or seed of the draw; None = NumPy's global stream.
    Returns:
        (batch_size, D) and (batch_size,).
    """
    chosen = stream(rng).randint(len(X), size=checked_count("batch_size", batch_size))
    return X[chosen], y[chosen]


def svm_get_search_params() -> tuple[list[float], list[float]]:
    """Learning rates and regularisation strengths worth trying for `LinearSVM` on centred pixels 0..255."""
    return [5e-8, 1e-7, 2e-7, 4e-7], [1e2, 1e3, 7.5e3, 2.5e4]


def softmax_get_search_params() -> tuple[list[float], list[float]]:
    """Learning rates and regularisation strengths worth trying for `Softmax` on centred pixels 0..255."""
    return [2.5e-7, 5e-7, 1e-6, 2e-6], [1e2, 1e3, 5e3, 2.5e4]


def test_one_param_set(
    cls: LinearClassifier, data: dict[str, np.ndarray], lr: float, reg: float, num_iters: int = 2000
) -> tuple[LinearClassifier, float, float]:
    """Train an untrained classifier with one learning rate and one regularisation strength.

    Args:
        cls: a LinearSVM() or Softmax().
        data: X_train (N, D), y_train, X_val, y_val.
        lr, reg, num_iters: of the training.
    Returns:
        The trained classifier, training accuracy and validation accuracy, as fractions.
    """
    labels = {
        part: checked_labels(data[f"y_{part}"], f"y_{part}", np.shape(data[f"X_{part}"])) for part in ("train", "val")
    }
    cls.train(data["X_train"], labels["train"], lr, reg, num_iters)
    train, val = (float(np.mean(cls.predict(data[f"X_{part}"]) == y)) for part, y in labels.items())
    return cls, train, val


test_one_param_set.__test__ = False  # the course's name for it; pytest must not collect it


def _initial_weights(X: np.ndarray, num_classes: int, draw: np.random.RandomState) -> np.ndarray:
    """Small random weights, (D, C)."""
    return (0.001 * draw.randn(X.shape[1], num_classes)).astype(np.result_type(X.dtype, np.float32))


def _check_width(W: np.ndarray, X: np.ndarray) -> None:
    if np.ndim(X) != 2 or np.shape(X)[1] != len(W):
        raise ValueError(f"X of shape {np.shape(X)} does not fit W of shape {W.shape}: X must be (N, {len(W)})")


def _check_batch(W: np.ndarray, X: np.ndarray, y: np.ndarray, reg: float) -> tuple[np.ndarray, np.ndarray]:
    """Reject what would give a wrong loss instead of an error."""
    X = np.asarray(X)
    _check_width(W, X)
    checked_reg(reg)
    return X, checked_labels(y, "y", X.shape, W.shape[1])


def _not_from_nan(loss: float, X: np.ndarray) -> float:
    """A NaN loss comes from weights that diverged, which the learner may see, or from the data: an error."""
    if np.isnan(loss) and np.isnan(np.sum(X)):
        raise ValueError("X holds NaN")
    return float(loss)
