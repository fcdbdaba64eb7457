"""k-nearest neighbours: remember every training picture, let the k most similar ones vote."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from common.validate import checked_examples, checked_labels

K_CHOICES = (1, 3, 5, 8, 10, 12, 15, 20, 50, 100)
BLOCK_BYTES = 128e6  # of the distances held at once by find_neighbors


class KNearestNeighbor:
    """k-nearest-neighbour classifier with the Euclidean distance (Fix and Hodges, 1951; Cover and Hart, 1967).

    Attributes, once trained:
        X_train: the training pictures as rows, (Ntr, D), float32 or float64.
        y_train: their labels, (Ntr,).
    """

    def train(self, X: np.ndarray, y: np.ndarray) -> None:
        """Memorise the training set; floats are not copied, integers become floats once.

        Args:
            X: (Ntr, D) rows or (Ntr, ...) pictures, any real dtype.
            y: (Ntr,) integer labels.
        Raises:
            ValueError: nothing to learn from, X and y of different length, or values that are not finite.
            TypeError: y does not hold integers.
        """
        X = _rows(X, "X")
        y = checked_labels(y, "y", X.shape)
        self.sq_train = _squared_norms(X, "X")  # (Ntr,), float64
        self.X_train, self.y_train = X, y
        self.classes = np.unique(y)

    def predict(self, X: np.ndarray, k: int = 1, num_loops: int = 0) -> np.ndarray:
        """Label each picture by the vote of its k nearest training pictures.

        Args:
            X: (Nte, D) rows or (Nte, ...) pictures.
            k: number of voters, 1 to Ntr.
            num_loops: 0, 1 or 2 - which version computes the distances. 0 works in blocks of limited memory.
        Returns:
            Labels, (Nte,).
        Raises:
            ValueError: k or num_loops out of range, X of another width than the training set, not trained.
        """
        if num_loops == 0:
            return self.vote(self.find_neighbors(X, k))
        if num_loops == 1:
            return self.predict_labels(self.compute_distances_one_loop(X), k)
        if num_loops == 2:
            return self.predict_labels(self.compute_distances_two_loops(X), k)
        raise ValueError(f"num_loops must be 0, 1 or 2, got {num_loops}")

    def compute_distances_two_loops(self, X: np.ndarray) -> np.ndarray:
        """Euclidean distance of every test picture to every training picture, one pair at a time.

        Args:
            X: (Nte, D) rows or (Nte, ...) pictures.
        Returns:
            Distances, (Nte, Ntr), in the units of X, float64.
        """
        X = self._test_rows(X)
        ### BEGIN SOLUTION knn, 2
        dists = np.zeros((len(X), len(self.X_train)), X.dtype)
        for i in range(len(X)):
            for j in range(len(self.X_train)):
                dists[i, j] = np.sqrt(np.sum((X[i] - self.X_train[j]) ** 2))
        return dists
        ### END SOLUTION

    def compute_distances_one_loop(self, X: np.ndarray) -> np.ndarray:
        """The same distances, one row of the matrix at a time.

        Args:
            X: (Nte, D) rows or (Nte, ...) pictures.
        Returns:
            Distances, (Nte, Ntr), in the units of X, float64.
        """
        X = self._test_rows(X)
        ### BEGIN SOLUTION knn, 5
        dists = np.zeros((len(X), len(self.X_train)), X.dtype)
        for i in range(len(X)):
            dists[i] = np.sqrt(np.sum((X[i] - self.X_train) ** 2, axis=1))  # (D,) - (Ntr, D), summed over D
        return dists
        ### END SOLUTION

    def compute_distances_no_loops(self, X: np.ndarray) -> np.ndarray:
        """The same distances from one matrix product, as |a - b|^2 = |a|^2 + |b|^2 - 2 a.b.

        Args:
            X: (Nte, D) rows or (Nte, ...) pictures.
        Returns:
            Distances, (Nte, Ntr), in the units of X, float64.
        """
        X = self._test_rows(X)
        ### BEGIN SOLUTION knn, 6
        sq_test = np.sum(X**2, axis=1)  # (Nte,)
        sq_dists = sq_test[:, None] + self.sq_train - 2 * X @ self.X_train.T  # (Nte, Ntr)
        return np.sqrt(np.maximum(sq_dists, 0))  # rounding can leave a tiny negative where a picture meets itself
        ### END SOLUTION

    def predict_labels(self, dists: np.ndarray, k: int = 1) -> np.ndarray:
        """Let the k nearest training pictures vote; a draw goes to the smallest label.

        Args:
            dists: distances, (Nte, Ntr).
            k: number of voters, 1 to Ntr.
        Returns:
            Labels, (Nte,).
        Raises:
            ValueError: k is out of range or dists is not (Nte, Ntr).
        """
        dists, k = np.asarray(dists), self._check_k(k)
        if dists.ndim != 2 or dists.shape[1] != len(self.y_train):
            raise ValueError(f"dists must be (num_test, {len(self.y_train)}), got shape {dists.shape}")
        ### BEGIN SOLUTION knn, 3
        return self.vote(k_smallest(dists, k))
        ### END SOLUTION

    def vote(self, neighbors: np.ndarray) -> np.ndarray:
        """The most frequent label among the neighbours of each test picture; a draw goes to the smallest label.

        Args:
            neighbors: indices into the training set, (Nte, k).
        Returns:
            Labels, (Nte,).
        """
        ### BEGIN SOLUTION knn, 3
        voters = self.y_train[neighbors]  # (Nte, k)
        votes = np.stack([np.sum(voters == label, axis=1) for label in self.classes], axis=1)  # (Nte, C)
        return self.classes[np.argmax(votes, axis=1)]  # the first maximum belongs to the smallest label
        ### END SOLUTION

    def find_neighbors(self, X: np.ndarray, k: int = 1) -> np.ndarray:
        """Indices of the k nearest training pictures, holding about 128 MB of distances at a time.

        Only the order of the distances matters, and sqrt and the constant |a|^2 do not change it: in each row
        it is enough to compare |b|^2 / 2 - a.b.

        Args:
            X: (Nte, D) rows or (Nte, ...) pictures.
            k: number of neighbours, 1 to Ntr.
        Returns:
            Indices into the training set, (Nte, k), nearest first; equal distances by index.
        Raises:
            ValueError: k is out of range or X of another width than the training set.
        """
        X, k = self._test_rows(X).astype(self.X_train.dtype, copy=False), self._check_k(k)
        rows = min(len(X), max(1, int(BLOCK_BYTES / (len(self.X_train) * X.itemsize))))
        neighbors = np.empty((len(X), k), dtype=np.int64)
        ### BEGIN SOLUTION knn, 7
        half_sq_train = (self.sq_train / 2).astype(X.dtype)
        memory = np.empty((rows, len(self.X_train)), X.dtype)  # used again for every block
        for start in range(0, len(X), rows):
            block = X[start : start + rows]
            products = np.matmul(block, self.X_train.T, out=memory[: len(block)])  # (rows, Ntr)
            ranks = np.subtract(half_sq_train, products, out=products)
            neighbors[start : start + rows] = k_smallest(ranks, k)
        return neighbors
        ### END SOLUTION

    def _test_rows(self, X: np.ndarray) -> np.ndarray:
        """X as float64 rows of the training set's width.

        The differences are small beside |a|^2 + |b|^2, of which float32 keeps seven digits: on 500 x 5000 pictures the
        distances from one product would be 1.5 off (Frobenius norm) from those of the two loops.
        """
        if not hasattr(self, "X_train"):
            raise ValueError("this classifier holds no training set: call train(X, y) first")
        X = _rows(X, "X")
        if X.shape[1] != self.X_train.shape[1]:
            raise ValueError(f"X has {X.shape[1]} values a row, the training set has {self.X_train.shape[1]}")
        return X.astype(np.float64, copy=False)

    def _check_k(self, k: int) -> int:
        if not hasattr(self, "X_train"):
            raise ValueError("this classifier holds no training set: call train(X, y) first")
        if not 1 <= operator.index(k) <= len(self.X_train):
            raise ValueError(f"k must be between 1 and the {len(self.X_train)} training pictures, got {k}")
        return operator.index(k)


def k_smallest(values: np.ndarray, k: int) -> np.ndarray:
    """Column indices of the k smallest entries of each row, smallest first, equal ones by index.

    What `np.argsort(values, axis=1, kind="stable")[:, :k]` returns, without sorting whole rows: the k-th smallest
    of the minima of many groups of columns is a limit that leaves few columns to sort.

    Args:
        values: (N, M) real.
        k: 1 to M.
    Returns:
        Indices, (N, k).
    """
    groups = min(values.shape[1], 8 * k + 500)
    size = values.shape[1] // groups
    minima = np.min(values[:, : size * groups].reshape(len(values), size, groups), axis=1)  # (N, groups)
    limits = np.partition(minima, k - 1, axis=1)[:, k - 1]  # k groups reach down to here, so k entries do
    smallest = np.empty((len(values), k), dtype=np.int64)
    for i in range(len(values)):
        near = np.flatnonzero(~(values[i] > limits[i]))  # hardly more than k; NaN, which argsort puts last, stays in
        smallest[i] = near[np.argsort(values[i, near], kind="stable")[:k]]
    return smallest


def knn_cross_validate(
    X: np.ndarray, y: np.ndarray, num_folds: int = 5, k_choices: Sequence[int] = K_CHOICES
) -> dict[int, list[float]]:
    """Accuracy of every k on every fold; the neighbours of a fold are searched once and serve all k.

    Args:
        X: (N, D) rows or (N, ...) pictures.
        y: (N,) integer labels.
        num_folds: parts of (almost) equal size, 2 to N; the order of the data is kept.
        k_choices: values of k, each 1 to the size of the smallest training part.
    Returns:
        {k: [accuracy of fold 0, accuracy of fold 1, ...]}, each a share of the fold's own pictures.
    Raises:
        ValueError: num_folds or a k is out of range, or X and y differ in length.
    """
    X, y, k_choices = np.asarray(X), np.asarray(y), list(k_choices)
    if y.shape != (len(X),):
        raise ValueError(f"X has {len(X)} pictures, y has {len(y)} labels in the shape {y.shape}")
    if not 2 <= num_folds <= len(X):
        raise ValueError(f"num_folds must be between 2 and the {len(X)} pictures, got {num_folds}")
    if not k_choices:
        raise ValueError("k_choices is empty")
    ### BEGIN SOLUTION knn, 8
    accuracies: dict[int, list[float]] = {k: [] for k in k_choices}
    for fold in np.array_split(np.arange(len(X)), num_folds):
        model = KNearestNeighbor()
        model.train(np.delete(X, fold, axis=0), np.delete(y, fold))
        neighbors = model.find_neighbors(X[fold], max(k_choices))
        for k in k_choices:
            predicted = model.vote(neighbors[:, : model._check_k(k)])
            accuracies[k].append(float(np.mean(predicted == y[fold])))
    return accuracies
    ### END SOLUTION


def knn_get_best_k(accuracies: dict[int, list[float]]) -> int:
    """The k with the highest mean accuracy, the smallest such k when several share it.

    Args:
        accuracies: from `knn_cross_validate`.
    Raises:
        ValueError: accuracies is empty.
    """
    if not accuracies:
        raise ValueError("accuracies is empty: run knn_cross_validate first")
    ### BEGIN SOLUTION knn, 8
    return max(sorted(accuracies), key=lambda k: np.mean(accuracies[k]))
    ### END SOLUTION


def _rows(X: np.ndarray, name: str) -> np.ndarray:
    """Pictures of any shape as rows of floats: (N, ...) -> (N, D). Integers must not overflow in squares."""
    X = checked_examples(X, name)
    return X.reshape(len(X), -1).astype(np.result_type(X.dtype, np.float32), copy=False)


def _squared_norms(X: np.ndarray, name: str) -> np.ndarray:
    """|x|^2 of each row, without a second array of the size of X; summed in float64, since einsum adds one by one."""
    with np.errstate(over="ignore"):  # the next lines tell
        sq = np.einsum("nd,nd->n", X, X, dtype=np.float64)
        fits = np.all(np.isfinite(sq.astype(X.dtype)))
    if not fits:
        raise ValueError(f"{name} holds values that are not finite (NaN or infinity)")
    return sq
