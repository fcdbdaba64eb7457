"""CIFAR-10 as PyTorch tensors in [0, 1], the way the EECS 498 notebooks want it."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from common import plots
from common.data.cifar10 import CLASSES, read_rows
from common.validate import checked_count


def cifar10(
    num_train: int | None = None,
    num_test: int | None = None,
    x_dtype: torch.dtype = torch.float32,
    *,
    dtype: torch.dtype | None = None,
    root: str | Path | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The data as PyTorch tensors with values in [0, 1].

    Args:
        num_train: the first so many training pictures; None = all.
        num_test: the first so many test pictures; None = all.
        x_dtype: of the pictures, floating.
        dtype: another name of x_dtype.
        root: as in `common.data.cifar10.load_CIFAR10`.
    Returns:
        x_train (N, 3, 32, 32), y_train (N,) int64, x_test (M, 3, 32, 32), y_test (M,) int64.
    Raises:
        ValueError: a size is below 1 or above what there is, or dtype is not floating.
    """
    dtype = x_dtype if dtype is None else dtype
    if not dtype.is_floating_point:
        raise ValueError(f"dtype is {dtype}; allowed are floating types such as torch.float32")
    X, y, Xt, yt = read_rows(root)
    n = len(y) if num_train is None else checked_count("num_train", num_train, 1, len(y))
    m = len(yt) if num_test is None else checked_count("num_test", num_test, 1, len(yt))

    def scaled(rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(rows).reshape(-1, 3, 32, 32).to(dtype).div_(255)

    return scaled(X[:n]), torch.from_numpy(y[:n]), scaled(Xt[:m]), torch.from_numpy(yt[:m])


def preprocess_cifar10(
    cuda: bool = False,
    show_examples: bool = False,
    bias_trick: bool = False,
    flatten: bool = True,
    validation_ratio: float = 0.2,
    dtype: torch.dtype = torch.float32,
    *,
    device: torch.device | str | None = None,
    num_train: int | None = None,
    num_test: int | None = None,
    root: str | Path | None = None,
) -> dict[str, torch.Tensor]:
    """Tensors in [0, 1] minus the mean of each colour channel, with the tail of the training set for validation.

    Args:
        cuda: put the tensors on the GPU; device="cuda".
        show_examples: draw a few pictures of every class first.
        bias_trick: append a column of ones (needs flatten).
        validation_ratio: share of the training pictures that goes to validation, 0 < ratio < 1.
        dtype, num_train, num_test, root: as in `cifar10`.
        flatten: a picture a row (N, 3072) instead of (N, 3, 32, 32).
        device: where the tensors shall live; None = as `cuda` says.
    Returns:
        X_train, X_val, X_test and y_train, y_val, y_test; 40,000 / 10,000 / 10,000 by default (full edition).
    Raises:
        ValueError: the ratio leaves nothing on one side, bias_trick without flatten, cuda where PyTorch sees no GPU,
            or as in `cifar10`.
    """
    device = device or ("cuda" if cuda else "cpu")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"PyTorch sees no CUDA device; pass cuda=False (here cuda={cuda}, device={device!r})")
    if bias_trick and not flatten:
        raise ValueError("bias_trick=True needs flatten=True: a column of ones has no place in a picture")
    x, y, x_test, y_test = (t.to(device) for t in cifar10(num_train, num_test, dtype, root=root))
    num_val = int(len(y) * validation_ratio)
    if not 0 < num_val < len(y):
        raise ValueError(
            f"validation_ratio is {validation_ratio}; of {len(y)} pictures it must leave at least one on each side"
        )
    if show_examples:
        plots.class_grid(255 * x.permute(0, 2, 3, 1).cpu().numpy(), y.cpu().numpy(), CLASSES)
        plt.show()
    mean = x.mean(dim=(0, 2, 3), keepdim=True)  # (1, 3, 1, 1)
    X = {"X_train": x[:-num_val], "X_val": x[-num_val:], "X_test": x_test}
    for key, part in X.items():
        part.sub_(mean)
        X[key] = part.flatten(1) if flatten else part
        if bias_trick:
            X[key] = torch.cat([X[key], X[key].new_ones(len(part), 1)], dim=1)
    return X | {"y_train": y[:-num_val], "y_val": y[-num_val:], "y_test": y_test}
