"""Claim: a vectorised loss costs hardly more than the two matrix products it needs.

    python -m benchmarks.linear

Losses and bare products take turns in one process; medians of the ratio. Target: at most 1.3.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from common.classifiers import linear

LOSSES = {"hinge": linear.svm_loss_vectorized, "softmax": linear.softmax_loss_vectorized}


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def ratio(loss: Callable, N: int, dtype: type, rounds: int = 200) -> float:
    """Median of (time of the loss) / (time of the products), measured in turns on N pictures of CIFAR's size."""
    rng = np.random.RandomState(0)
    X, y = rng.rand(N, 3073).astype(dtype), rng.randint(10, size=N)
    W, G = (1e-4 * rng.randn(3073, 10)).astype(dtype), rng.rand(N, 10).astype(dtype)
    ratios = []
    for _ in range(rounds):
        products = seconds(lambda: (X @ W, X.T @ G))
        ratios.append(seconds(lambda: loss(W, X, y, 1.0)) / products)
    return statistics.median(ratios[5:])


def main() -> None:
    print("time of the loss / time of its two matrix products")
    for N in (200, 500, 5000):
        for dtype in (np.float32, np.float64):
            row = "  ".join(
                f"{name} {ratio(loss, N, dtype, 200 if N < 5000 else 40):.2f}" for name, loss in LOSSES.items()
            )
            print(f"N = {N:4}, {dtype.__name__}:  {row}")


if __name__ == "__main__":
    main()
