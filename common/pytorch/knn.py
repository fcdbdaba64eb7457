"""k-nearest neighbours in PyTorch, under the names of EECS 498: plain functions of tensors, and a small class.

Two things differ from `common.classifiers.knn`: distances are *squared*, and the matrix is (num_train, num_test).
Everything runs where the training pictures are; integers are computed in float32, floats in their own precision.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from common.validate import checked_count, checked_labels

K_CHOICES = (1, 3, 5, 8, 10, 12, 15, 20, 50, 100)


def compute_distances_two_loops(x_train: torch.Tensor, x_test: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distance of every training picture to every test picture, one pair at a time.

    Args:
        x_train: (num_train, D) rows or (num_train, ...) pictures.
        x_test: (num_test, ...), pictures of the same shape.
    Returns:
        (num_train, num_test), in the squared units of x_train.
    Raises:
        ValueError: nothing to compare, pictures of different sizes, values that are not finite.
    """
    train, test = _rows(x_train, x_test)
    dists = train.new_zeros(len(train), len(test))
    for i in range(len(train)):
        for j in range(len(test)):
            dists[i, j] = ((train[i] - test[j]) ** 2).sum()
    return dists


def compute_distances_one_loop(x_train: torch.Tensor, x_test: torch.Tensor) -> torch.Tensor:
    """The same distances, one training picture at a time; arguments and result of `compute_distances_two_loops`."""
    train, test = _rows(x_train, x_test)
    dists = train.new_zeros(len(train), len(test))
    for i in range(len(train)):
        dists[i] = ((train[i] - test) ** 2).sum(dim=1)  # (D,) - (num_test, D), summed over D
    return dists


def compute_distances_no_loops(x_train: torch.Tensor, x_test: torch.Tensor) -> torch.Tensor:
    """The same distances from one matrix product; arguments and result of `compute_distances_two_loops`."""
    train, test = _rows(x_train, x_test)
    squares = (train**2).sum(dim=1)[:, None] + (test**2).sum(dim=1)  # (num_train, num_test)
    return (squares - 2 * train @ test.T).clamp(min=0)  # rounding can leave a tiny negative


def predict_labels(dists: torch.Tensor, y_train: torch.Tensor, k: int = 1) -> torch.Tensor:
    """Let the k nearest training pictures vote; a draw goes to the smallest label.

    Args:
        dists: (num_train, num_test), squared or not.
        y_train: (num_train,) integer labels from 0.
        k: voters, 1 to num_train.
    Returns:
        Labels, (num_test,) int64.
    Raises:
        ValueError: k is out of range, labels that do not belong to dists, a label below 0.
        TypeError: labels or k that are not whole numbers.
    """
    y_train = _labels(y_train, dists, "y_train")
    k = checked_count("k", k, 1, len(dists))
    nearest = dists.argsort(dim=0, stable=True)[:k]  # (k, num_test); equal distances by index
    votes = torch.nn.functional.one_hot(y_train[nearest]).sum(dim=0)  # (num_test, C)
    return votes.argmax(dim=1)  # the first maximum belongs to the smallest label


class KnnClassifier:
    """Training pictures and their labels; `predict` compares others with them.

    Attributes:
        x_train, y_train: as given.
    """

    def __init__(self, x_train: torch.Tensor, y_train: torch.Tensor):
        """
        Args:
            x_train: (num_train, ...) pictures.
            y_train: (num_train,) integer labels from 0.
        Raises:
            ValueError, TypeError: as `predict_labels`.
        """
        self.x_train, self.y_train = x_train, _labels(y_train, x_train, "y_train")

    def predict(self, x_test: torch.Tensor, k: int = 1) -> torch.Tensor:
        """Labels (num_test,) int64 of the pictures x_test by the vote of k neighbours."""
        return predict_labels(compute_distances_no_loops(self.x_train, x_test), self.y_train, k)

    def check_accuracy(self, x_test: torch.Tensor, y_test: torch.Tensor, k: int = 1, quiet: bool = False) -> float:
        """Per cent of the pictures whose label is predicted.

        Args:
            x_test, y_test: pictures and their labels.
            k: voters.
            quiet: do not print a line about it.
        Returns:
            0 to 100, as in EECS 498.
        """
        y_test = _labels(y_test, x_test, "y_test")
        right = int((self.predict(x_test, k) == y_test).sum())
        accuracy = 100 * right / len(y_test)
        if not quiet:
            print(f"Got {right} / {len(y_test)} correct; accuracy is {accuracy:.2f}%")
        return accuracy


def knn_cross_validate(
    x_train: torch.Tensor, y_train: torch.Tensor, num_folds: int = 5, k_choices: Sequence[int] | None = None
) -> dict[int, list[float]]:
    """Accuracy of every k on every fold, in per cent; the distances of a fold are computed once and serve all k.

    Args:
        x_train, y_train: pictures and their labels.
        num_folds: parts of (almost) equal size, 2 to num_train.
        k_choices: values of k; None = those of the course, 1 to 100.
    Returns:
        {k: [accuracy of fold 0, accuracy of fold 1, ...]}.
    Raises:
        ValueError, TypeError: as `predict_labels`; num_folds out of range.
    """
    y_train = _labels(y_train, x_train, "y_train")
    num_folds = checked_count("num_folds", num_folds, 2, len(x_train))
    k_to_accuracies: dict[int, list[float]] = {k: [] for k in (K_CHOICES if k_choices is None else k_choices)}
    for fold in torch.arange(len(x_train), device=y_train.device).tensor_split(num_folds):
        rest = torch.ones_like(y_train, dtype=torch.bool).index_fill(0, fold, False)
        dists = compute_distances_no_loops(x_train[rest], x_train[fold])
        for k, accuracies in k_to_accuracies.items():
            right = predict_labels(dists, y_train[rest], k) == y_train[fold]
            accuracies.append(100 * right.double().mean().item())
    return k_to_accuracies


def knn_get_best_k(k_to_accuracies: dict[int, list[float]]) -> int:
    """The k with the highest mean accuracy, the smallest such k when several share it.

    Raises:
        ValueError: there is nothing to choose from.
    """
    if not k_to_accuracies:
        raise ValueError("k_to_accuracies is empty: run knn_cross_validate first")
    means = {k: sum(accuracies) / len(accuracies) for k, accuracies in k_to_accuracies.items()}
    return max(sorted(means), key=means.get)


def _rows(*parts: torch.Tensor) -> list[torch.Tensor]:
    """Pictures of both sets as rows (N, D) of one floating type."""
    first, second = (part.flatten(1) if part.dim() > 1 else part for part in parts)
    if (
        min(first.dim(), second.dim()) < 2
        or not first.numel()
        or not second.numel()
        or first.shape[1] != second.shape[1]
    ):
        shapes = " and ".join(str(tuple(part.shape)) for part in parts)
        raise ValueError(f"x_train and x_test must hold pictures of one size, at least one each, got {shapes}")
    dtype = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
    rows = [part.to(first.device, dtype) for part in (first, second)]
    for name, part in zip(("x_train", "x_test"), rows, strict=True):
        if not torch.isfinite(part).all():
            raise ValueError(f"{name} holds values that are not finite (NaN or infinity)")
    return rows


def _labels(y: torch.Tensor, x: torch.Tensor, name: str) -> torch.Tensor:
    """y as int64 beside x."""
    checked_labels(y.cpu().numpy(), name, tuple(x.shape))
    if y.min() < 0:
        raise ValueError(f"{name} holds the label {int(y.min())}; the smallest allowed is 0")
    return y.to(x.device, torch.int64)
