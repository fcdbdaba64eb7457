"""k nearest neighbours against scikit-learn's brute force and torch.cdist + topk, float32.

    python -m benchmarks.knn [--trains 50000] [--tests 10000] [--rounds 3]

1. The distance matrix of 500 x 5,000 pictures without loops, and labels for k = 5.
2. Labels of 10,000 pictures from 50,000 (k = 10), in blocks, or of fewer. Claims: at most 0.25 GB above the data,
   and twice as fast as scikit-learn. The real CIFAR-10 where its files are, otherwise pictures of its shape.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks._rivals import compare, table
from common.classifiers.knn import KNearestNeighbor
from common.data import cifar10, store

TORCH_ROWS = 640  # of a block for torch: 128 MB of distances, as much as ours
MEMORY, SPEED = 0.25e9, 2.0


def pictures(trains: int, tests: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows (trains, 3072), their labels, and test rows (tests, 3072), float32."""
    if store.is_there("cifar10"):
        root = store.data_root() / "cifar-10-batches-py"
        X, y, T, _ = cifar10.load_CIFAR10(root, np.uint8)
        X, y, T = X[:trains], y[:trains], T[:tests]
    else:
        rng = np.random.RandomState(0)
        patches = rng.randint(0, 64, (trains + tests, 8, 8, 3), dtype=np.uint8)  # patches of 4x4 pixels, and noise
        X = patches.repeat(4, axis=1).repeat(4, axis=2) + rng.randint(0, 192, (1, 32, 32, 3), dtype=np.uint8)
        X, T, y = X[:trains], X[trains:], rng.randint(0, 10, trains)
    return X.reshape(len(X), -1).astype(np.float32), y, T.reshape(len(T), -1).astype(np.float32)


def ours_matrix(trains: int, tests: int, k: int) -> Callable:
    """The whole distance matrix, then the vote."""
    model, T = _model(trains, tests)
    return lambda: model.predict_labels(model.compute_distances_no_loops(T), k)


def ours_blocks(trains: int, tests: int, k: int) -> Callable:
    """What predict does."""
    model, T = _model(trains, tests)
    return lambda: model.predict(T, k)


def scikit_learn(trains: int, tests: int, k: int) -> Callable:
    """NearestNeighbors by brute force; the vote is ours."""
    from sklearn.neighbors import NearestNeighbors

    model, T = _model(trains, tests)
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(model.X_train)
    return lambda: model.vote(search.kneighbors(T, return_distance=False))


def torch_topk(trains: int, tests: int, k: int, rows: int) -> Callable:
    """torch.cdist and topk on blocks of rows; the vote is ours."""
    import torch

    model, T = _model(trains, tests)
    train, blocks = torch.from_numpy(model.X_train), torch.from_numpy(T).split(rows)

    def search(block):
        return torch.cdist(block, train).topk(k, largest=False).indices

    return lambda: model.vote(torch.cat([search(block) for block in blocks]).numpy())


def _model(trains: int, tests: int) -> tuple[KNearestNeighbor, np.ndarray]:
    X, y, T = pictures(trains, tests)
    model = KNearestNeighbor()
    model.train(X, y)
    model.predict(T[:2], 1)  # loads and starts what the first call loads and starts
    return model, T


def same(labels: np.ndarray, ours: np.ndarray) -> float:
    """Share of equal labels."""
    return float(np.mean(labels == ours))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.knn", description=__doc__.splitlines()[0])
    parser.add_argument("--trains", type=int, default=50_000, help="of the second task")
    parser.add_argument("--tests", type=int, default=10_000, help="of the second task")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    task = {"trains": 5000, "tests": 500, "k": 5}
    rivals = {
        "ours": partial(ours_matrix, **task),
        "scikit-learn brute": partial(scikit_learn, **task),
        "torch.cdist + topk": partial(torch_topk, **task, rows=500),
    }
    print(table("5000 x 500, k = 5", compare(rivals, options.rounds, repeats=5), same), "\n", flush=True)

    task = {"trains": options.trains, "tests": options.tests, "k": 10}
    rivals = {
        "ours": partial(ours_blocks, **task),
        "scikit-learn brute": partial(scikit_learn, **task),
        "torch.cdist + topk": partial(torch_topk, **task, rows=TORCH_ROWS),
    }
    measured = compare(rivals, options.rounds)
    print(table(f"{options.trains} x {options.tests}, k = 10", measured, same))
    ours, rival = measured["ours"], measured["scikit-learn brute"]
    print(f"{'held  ' if ours.extra <= MEMORY else 'MISSED'} at most {MEMORY / 1e9} GB above the data")
    print(f"{'held  ' if rival.seconds >= SPEED * ours.seconds else 'MISSED'} {SPEED:g} times scikit-learn's speed")


if __name__ == "__main__":
    main()
