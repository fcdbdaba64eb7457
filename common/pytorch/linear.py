"""Linear classifiers in PyTorch, under the names of EECS 498: losses and training are functions, the classes hold W.

The gradients are written by hand, as in `common.classifiers.linear`. Everything runs where X is, in X's precision.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from common.storage import atomic_write
from common.validate import checked_count, checked_labels, checked_reg, checked_sizes, file_to_load

Loss = tuple[torch.Tensor, torch.Tensor]


def svm_loss_naive(W: torch.Tensor, X: torch.Tensor, y: torch.Tensor, reg: float) -> Loss:
    """Multiclass hinge loss and its gradient, with loops (Weston and Watkins, 1999).

    Args:
        W: weights, (D, C).
        X: a minibatch, (N, D), of W's dtype and on its device.
        y: labels, (N,), 0 <= y < C.
        reg: regularisation strength, >= 0.
    Returns:
        loss: 0-d; mean over the pictures of the summed margins, plus reg * sum(W^2).
        dW: gradient of the loss, (D, C).
    Raises:
        ValueError: shapes that do not fit, a label out of range, reg < 0.
        TypeError: labels that are not integers, X of another dtype than W.
    """
    _check_batch(W, X, y, reg)
    loss, dW = W.new_zeros(()), torch.zeros_like(W)
    for x_i, y_i in zip(X, y.tolist(), strict=True):
        scores = x_i @ W  # (C,)
        for j in range(W.shape[1]):
            margin = scores[j] - scores[y_i] + 1
            if j != y_i and margin > 0:
                loss += margin
                dW[:, j] += x_i
                dW[:, y_i] -= x_i
    return loss / len(X) + reg * (W**2).sum(), dW / len(X) + 2 * reg * W


def svm_loss_vectorized(W: torch.Tensor, X: torch.Tensor, y: torch.Tensor, reg: float) -> Loss:
    """Multiclass hinge loss and its gradient, without loops; arguments and results of `svm_loss_naive`."""
    rows = _check_batch(W, X, y, reg)
    scores = X @ W  # (N, C)
    margins = (scores - scores[rows, y][:, None] + 1).clamp(min=0)
    margins[rows, y] = 0
    loss = margins.sum() / len(X) + reg * (W**2).sum()
    dscores = (margins > 0).to(scores.dtype)
    dscores[rows, y] = -dscores.sum(dim=1)
    return loss, X.T @ dscores / len(X) + 2 * reg * W


def softmax_loss_naive(W: torch.Tensor, X: torch.Tensor, y: torch.Tensor, reg: float) -> Loss:
    """Cross-entropy of the softmax probabilities and its gradient, with loops; arguments of `svm_loss_naive`."""
    _check_batch(W, X, y, reg)
    loss, dW = W.new_zeros(()), torch.zeros_like(W)
    for x_i, y_i in zip(X, y.tolist(), strict=True):
        scores = x_i @ W  # (C,)
        scores = scores - scores.max()  # p does not change, exp cannot overflow
        p = scores.exp() / scores.exp().sum()
        loss += scores.exp().sum().log() - scores[y_i]
        for j in range(W.shape[1]):
            dW[:, j] += (p[j] - float(j == y_i)) * x_i
    return loss / len(X) + reg * (W**2).sum(), dW / len(X) + 2 * reg * W


def softmax_loss_vectorized(W: torch.Tensor, X: torch.Tensor, y: torch.Tensor, reg: float) -> Loss:
    """Cross-entropy and its gradient, without loops; arguments and results of `svm_loss_naive`."""
    rows = _check_batch(W, X, y, reg)
    log_p = torch.log_softmax(X @ W, dim=1)  # (N, C)
    loss = -log_p[rows, y].mean() + reg * (W**2).sum()
    dscores = log_p.exp()
    dscores[rows, y] -= 1
    return loss, X.T @ dscores / len(X) + 2 * reg * W


def sample_batch(
    X: torch.Tensor, y: torch.Tensor, num_train: int, batch_size: int, *, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A minibatch drawn with replacement from the first num_train pictures.

    Args:
        X, y: (N, D) and (N,).
        num_train: 1 to N.
        batch_size: how many; may exceed num_train.
        generator: a CPU generator of the draw; None = torch's global one.
    Returns:
        (batch_size, D) and (batch_size,).
    """
    checked_count("num_train", num_train, 1, len(X))
    size = (checked_count("batch_size", batch_size),)
    chosen = torch.randint(num_train, size, generator=generator).to(X.device)
    return X[chosen], y[chosen]


def train_linear_classifier(
    loss_func: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], Loss],
    W: torch.Tensor | None,
    X: torch.Tensor,
    y: torch.Tensor,
    learning_rate: float = 1e-3,
    reg: float = 1e-5,
    num_iters: int = 100,
    batch_size: int = 200,
    verbose: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, list[float]]:
    """Gradient descent on minibatches.

    Args:
        loss_func: loss_func(W, X, y, reg) -> loss, dW.
        W: weights to go on from, (D, C), not changed; None = small random ones.
        X: training data, (N, D).
        y: labels, (N,), integers from 0.
        learning_rate, reg, num_iters, batch_size: as in `common.classifiers.linear`.
        verbose: print the loss every 100 steps.
        generator: a CPU generator of the initial weights and the minibatches; None = torch's global one.
    Returns:
        The new weights, and the loss before each step.
    Raises:
        ValueError, TypeError: as `svm_loss_naive`; num_iters or batch_size below 1.
    """
    checked_sizes(num_iters=num_iters, batch_size=batch_size)
    checked_labels(y.cpu().numpy(), "y", tuple(X.shape))
    if W is None:
        W = (1e-6 * torch.randn(X.shape[1], int(y.max()) + 1, generator=generator, dtype=X.dtype)).to(X.device)
    _check_batch(W, X, y, reg)
    W, losses = W.clone(), []
    for step in range(num_iters):
        loss, dW = loss_func(W, *sample_batch(X, y, len(X), batch_size, generator=generator), reg)
        W -= learning_rate * dW
        losses.append(float(loss))
        if verbose and step % 100 == 0:
            print(f"iteration {step} / {num_iters}: loss {losses[-1]:.6f}")
    return W, losses


def predict_linear_classifier(W: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
    """The class with the highest score for each row of X (N, D), (N,) int64."""
    return (X @ W).argmax(dim=1)


class LinearClassifier:
    """scores = X W, trained by minibatch gradient descent. A subclass gives the loss.

    Attributes:
        W: weights, (D, C); None until trained.
    """

    def __init__(self) -> None:
        self.W: torch.Tensor | None = None

    def train(self, X_train: torch.Tensor, y_train: torch.Tensor, *args, **options) -> list[float]:
        """The loss before each step of `train_linear_classifier`, which takes the same arguments."""
        self.W, losses = train_linear_classifier(self.loss, self.W, X_train, y_train, *args, **options)
        return losses

    def predict(self, X: torch.Tensor) -> torch.Tensor:
        """Labels (N,) of the rows X.

        Raises:
            ValueError: not trained.
        """
        if self.W is None:
            raise ValueError("this classifier holds no weights: call train(X_train, y_train) or load(path) first")
        return predict_linear_classifier(self.W, X)

    def loss(self, W: torch.Tensor, X_batch: torch.Tensor, y_batch: torch.Tensor, reg: float) -> Loss:
        """Loss and gradient on a minibatch; subclasses override it."""
        raise NotImplementedError("LinearClassifier has no loss of its own: use LinearSVM or Softmax")

    def save(self, path: str | Path) -> None:
        """Write the weights to a file, which appears complete or not at all."""
        with atomic_write(path) as file:
            torch.save({"W": self.W}, file)

    def load(self, path: str | Path) -> bool:
        """Read weights written by `save`; False, with a warning, if there is no such file."""
        if not file_to_load(path):
            return False
        self.W = torch.load(path, map_location="cpu", weights_only=True)["W"]
        return True


class LinearSVM(LinearClassifier):
    """Linear classifier with the multiclass hinge loss."""

    def loss(self, W: torch.Tensor, X_batch: torch.Tensor, y_batch: torch.Tensor, reg: float) -> Loss:
        """`svm_loss_vectorized`."""
        return svm_loss_vectorized(W, X_batch, y_batch, reg)


class Softmax(LinearClassifier):
    """Linear classifier with the cross-entropy of the softmax probabilities."""

    def loss(self, W: torch.Tensor, X_batch: torch.Tensor, y_batch: torch.Tensor, reg: float) -> Loss:
        """`softmax_loss_vectorized`."""
        return softmax_loss_vectorized(W, X_batch, y_batch, reg)


def svm_get_search_params() -> tuple[list[float], list[float]]:
    """Learning rates and strengths worth trying for `LinearSVM` on centred pixels in [0, 1]."""
    return [1e-3, 3e-3, 1e-2], [1e-3, 1e-2, 1e-1]


def softmax_get_search_params() -> tuple[list[float], list[float]]:
    """Learning rates and strengths worth trying for `Softmax` on centred pixels in [0, 1]."""
    return [1e-2, 3e-2, 9e-2], [1e-4, 1e-3, 1e-2]


def test_one_param_set(
    cls: LinearClassifier, data_dict: dict[str, torch.Tensor], lr: float, reg: float, num_iters: int = 2000
) -> tuple[LinearClassifier, float, float]:
    """Train an untrained classifier with one learning rate and one regularisation strength.

    Args:
        cls: a LinearSVM() or Softmax().
        data_dict: X_train (N, D), y_train, X_val, y_val.
        lr, reg, num_iters: of the training.
    Returns:
        The trained classifier, training accuracy and validation accuracy, as fractions.
    """
    for part in ("train", "val"):
        checked_labels(data_dict[f"y_{part}"].cpu().numpy(), f"y_{part}", tuple(data_dict[f"X_{part}"].shape))
    cls.train(data_dict["X_train"], data_dict["y_train"], lr, reg, num_iters)
    right = {part: cls.predict(data_dict[f"X_{part}"]) == data_dict[f"y_{part}"] for part in ("train", "val")}
    return cls, right["train"].double().mean().item(), right["val"].double().mean().item()


test_one_param_set.__test__ = False  # the course's name for it; pytest must not collect it


def _check_batch(W: torch.Tensor, X: torch.Tensor, y: torch.Tensor, reg: float) -> torch.Tensor:
    """Row numbers of the batch, (N,), if its arguments fit together."""
    if X.dim() != 2 or W.dim() != 2 or X.shape[1] != len(W):
        raise ValueError(
            f"X of shape {tuple(X.shape)} does not fit W of shape {tuple(W.shape)}: X must be (N, {len(W)})"
        )
    if X.dtype != W.dtype:
        raise TypeError(f"X is {X.dtype} but W is {W.dtype}; convert with X.to({W.dtype})")
    checked_reg(reg)
    checked_labels(y.cpu().numpy(), "y", tuple(X.shape), W.shape[1])
    return torch.arange(len(y), device=y.device)
