"""Random pictures and labels for the tests of common.pytorch."""

import numpy as np
import torch


def pictures(count: int, seed: int = 0, size: int = 32) -> torch.Tensor:
    """(count, 3, size, size) uint8: squares of 4 x 4 pixels in random colours, with noise."""
    rng = np.random.RandomState(seed)
    coarse = rng.randint(0, 256, (count, 3, size // 4, size // 4)).repeat(4, 2).repeat(4, 3)
    return torch.from_numpy(np.clip(coarse + rng.randint(-20, 20, (count, 3, size, size)), 0, 255).astype(np.uint8))


def labels(count: int, seed: int = 0) -> torch.Tensor:
    """(count,) int64 from 0 to 9."""
    return torch.from_numpy(np.random.RandomState(seed).randint(0, 10, count).astype(np.int64))
