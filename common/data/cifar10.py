"""CIFAR-10 (Krizhevsky, 2009): 32x32 colour pictures of ten classes, loaded with an eye on memory.

A batch file is a pickle of a dict whose `data` is uint8 (N, 3072): a picture a row, 1024 red, then 1024 green,
then 1024 blue values, each plane row by row. The whole training set of 50,000 x 3,072 values takes 153.6 MB as
uint8, 614.4 MB as float32 and 1,228.8 MB as float64. Everything stays uint8 until the wanted rows are known, and
no function makes more than one copy in floating point.
"""

from pathlib import Path

import numpy as np

from common.data import store
from common.storage import load_arrays
from common.validate import checked_count

CLASSES = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN = (0.4914, 0.4822, 0.4465)  # of the published training pictures, by colour, in [0, 1]
STD = (0.2023, 0.1994, 0.2010)  # the mean of the standard deviations within single pictures; over all pixels it is 0.25
FOLDER = "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST_FILES = ("test_batch",)


# One file ----------------------------------------------------------------------------------------------------


def load_CIFAR_batch(filename: str | Path, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Load one batch file.

    Args:
        filename: path of a file such as `data_batch_1`.
        dtype: of the pictures: np.uint8, np.float32 or np.float64.
    Returns:
        X (N, 32, 32, 3) of dtype, values 0..255; y (N,) int64, values 0..9. N is what the file holds.
    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, is not a CIFAR-10 batch, or asks for more than NumPy arrays.
    """
    rows, y = _read_batch(Path(filename))
    return _to_images(rows, _checked_dtype(dtype)), y


def load_CIFAR10(
    root: str | Path | None = None, dtype: type = np.float32, *, ROOT: str | Path | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Load the training and the test set.

    Args:
        root: the folder with the batch files, or its parent; None = the edition in use.
        dtype: np.uint8 (full edition: 153.6 + 30.7 MB), np.float32 (four times that) or np.float64 (eight times).
        ROOT: CS231n's name of root.
    Returns:
        X_train (N, 32, 32, 3), y_train (N,), X_test (M, 32, 32, 3), y_test (M,); pixels 0..255 of dtype,
        labels int64. N, M = 50000, 10000 (full) or 10000, 2000 (pocket).
    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or root is given by both of its names.
    """
    if root is not None and ROOT is not None:
        raise ValueError(f"root {root} and ROOT {ROOT} are two names of one folder; give one")
    dtype = _checked_dtype(dtype)
    X_train, y_train, X_test, y_test = read_rows(root if ROOT is None else ROOT)
    return _to_images(X_train, dtype), y_train, _to_images(X_test, dtype), y_test


# Ready-made splits --------------------------------------------------------------------------------------------


def get_CIFAR10_data(
    num_training: int | None = None,
    num_validation: int = 1000,
    num_test: int = 1000,
    subtract_mean: bool = True,
    *,
    dtype: type = np.float32,
    root: str | Path | None = None,
) -> dict[str, np.ndarray]:
    """Training, validation and test pictures for the convolutional and modular networks.

    Args:
        num_training: the first so many training pictures; None = all that validation leaves (49000, pocket 9000).
        num_validation: the training pictures that follow them.
        num_test: the first so many test pictures.
        subtract_mean: subtract the mean picture of the training part from all three parts.
        dtype: np.float32 or np.float64, or np.uint8 with subtract_mean=False. The default sizes make
            626.7 MB in float32 on the full edition, beside 184.3 MB of uint8 while loading.
        root: as in `load_CIFAR10`.
    Returns:
        X_train, X_val, X_test (N, 3, 32, 32) of dtype and y_train, y_val, y_test (N,) int64.
    Raises:
        ValueError: a size is below 1 or above what there is, or uint8 is to become negative.
    """
    split = _split(num_training, num_validation, num_test, root)
    data = {k: _to_images(v, dtype, "NCHW") if k[0] == "X" else v for k, v in split.items()}
    return _subtract_mean(data) if subtract_mean else data


def get_CIFAR10_images(
    num_training: int | None = None,
    num_validation: int = 1000,
    num_test: int = 1000,
    *,
    dtype: type = np.float32,
    root: str | Path | None = None,
) -> dict[str, np.ndarray]:
    """The raw pictures, channels last, for the notebook on image features.

    Args:
        num_training, num_validation, num_test, dtype, root: as in `get_CIFAR10_data`.
    Returns:
        X_train, X_val, X_test (N, 32, 32, 3) of dtype, values 0..255, and y_train, y_val, y_test (N,) int64.
    Raises:
        ValueError: a size is below 1 or above what there is.
    """
    split = _split(num_training, num_validation, num_test, root)
    return {k: _to_images(v, dtype) if k[0] == "X" else v for k, v in split.items()}


def get_CIFAR10_rows(
    num_training: int | None = None,
    num_validation: int = 1000,
    num_test: int = 1000,
    num_dev: int = 500,
    *,
    bias: bool = True,
    subtract_mean: bool = True,
    seed: int = 0,
    dtype: type = np.float32,
    root: str | Path | None = None,
) -> dict[str, np.ndarray]:
    """A picture a row, for the linear classifiers: mean picture subtracted, a one appended (the bias trick).

    Args:
        num_training, num_validation, num_test, subtract_mean, dtype, root: as in `get_CIFAR10_data`.
        num_dev: size of the development set, drawn from the training part without replacement.
        bias: append a column of ones, so that W holds the bias as its last row.
        seed: of that draw.
    Returns:
        X_train, X_val, X_test, X_dev (N, 3073) of dtype (3072 without bias; channels last, so a column of W
        reshapes to a (32, 32, 3) template) and y_train, y_val, y_test, y_dev (N,) int64.
    Raises:
        ValueError: a size is below 1 or above what there is, or uint8 is to become negative.
    """
    split = _split(num_training, num_validation, num_test, root)
    num_dev = checked_count("num_dev", num_dev, 1, len(split["y_train"]))
    data = {k: _to_flat(v, dtype, bias) if k[0] == "X" else v for k, v in split.items()}
    if subtract_mean:
        _subtract_mean(data, columns=3072)
    chosen = np.random.RandomState(seed).choice(len(data["y_train"]), num_dev, replace=False)
    return data | {"X_dev": data["X_train"][chosen], "y_dev": data["y_train"][chosen]}


# What they share ------------------------------------------------------------------------------------------------


def read_rows(root: str | Path | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All pictures as they lie in the files, a picture a row.

    Args:
        root: as in `load_CIFAR10`.
    Returns:
        X_train uint8 (N, 3072), y_train int64 (N,), X_test uint8 (M, 3072), y_test int64 (M,).
    Raises:
        FileNotFoundError, ValueError: as `load_CIFAR10`.
    """
    folder = _find(root)
    parts = []
    for files in (TRAIN_FILES, TEST_FILES):
        batches = [_read_batch(folder / file) for file in files]
        parts += [np.concatenate([rows for rows, _ in batches]), np.concatenate([y for _, y in batches])]
    return tuple(parts)


def _find(root: str | Path | None) -> Path:
    """The folder that holds the batches: the edition in use, root itself, or root/cifar-10-batches-py."""
    if root is None:
        return store.dataset_dir("cifar10")
    for folder in (Path(root), Path(root) / FOLDER):
        if (folder / TEST_FILES[0]).is_file():
            return folder
    raise FileNotFoundError(f"no CIFAR-10 batches in {root} or {Path(root) / FOLDER}; `make data` fetches them")


def _read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows uint8 (N, 3072) and labels int64 (N,) of one verified file."""
    store.verify(path)
    content = load_arrays(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a dict, found {type(content).__name__}")
    content = {k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in content.items()}
    if not {"data", "labels"} <= content.keys():
        raise ValueError(f"{path}: expected the keys 'data' and 'labels', found {sorted(map(str, content))}")
    rows = content["data"]
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != 3072:
        found = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise ValueError(f"{path}: 'data' must be uint8 of shape (N, 3072), found {found}")
    if len(rows) == 0:
        raise ValueError(f"{path}: holds no pictures")
    return rows, _to_labels(path, content["labels"], len(rows))


def _to_labels(path: Path, labels: object, count: int) -> np.ndarray:
    """The labels of one file as int64 (count,), each of them in 0..9."""
    try:
        labels = np.asarray(labels)
    except ValueError:  # nested lists of different lengths
        labels = np.empty(0, dtype=object)
    if labels.shape != (count,):
        raise ValueError(f"{path}: {count} pictures, but labels of shape {labels.shape}")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 9:
        raise ValueError(f"{path}: labels must be integers from 0 to 9")
    return labels.astype(np.int64)


def _split(num_training, num_validation, num_test, root) -> dict[str, np.ndarray]:
    """Views of the uint8 rows and labels: training first, validation right after it, and test."""
    X, y, Xt, yt = read_rows(root)
    num_validation = checked_count("num_validation", num_validation, 1, len(y) - 1)
    left = len(y) - num_validation
    n = left if num_training is None else checked_count("num_training", num_training, 1, left)
    m = checked_count("num_test", num_test, 1, len(yt))
    train, val = slice(0, n), slice(n, n + num_validation)
    return {
        "X_train": X[train], "y_train": y[train], "X_val": X[val], "y_val": y[val],
        "X_test": Xt[:m], "y_test": yt[:m],
    }  # fmt: skip


def _to_images(rows: np.ndarray, dtype: type, layout: str = "NHWC") -> np.ndarray:
    """Rows (N, 3072) as a contiguous copy of dtype, (N, 32, 32, 3) or (N, 3, 32, 32)."""
    images = rows.reshape(-1, 3, 32, 32)
    if layout == "NHWC":
        images = images.transpose(0, 2, 3, 1)
    return images.astype(_checked_dtype(dtype), order="C")


def _to_flat(rows: np.ndarray, dtype: type, bias: bool) -> np.ndarray:
    """Rows (N, 3072 + bias), channels last, with ones in the last column if bias; one copy, filled in place."""
    flat = np.ones((len(rows), 3072 + bias), dtype=_checked_dtype(dtype))
    for colour in range(3):  # every third value of a row is of one colour
        flat[:, colour:3072:3] = rows[:, 1024 * colour : 1024 * (colour + 1)]
    return flat


def _subtract_mean(data: dict[str, np.ndarray], columns: int | None = None) -> dict[str, np.ndarray]:
    """Subtract, in place, the mean training picture from the three parts."""
    if data["X_train"].dtype == np.uint8:
        raise ValueError("dtype uint8 cannot hold differences from the mean; pass subtract_mean=False or a float")
    mean = data["X_train"].mean(axis=0, dtype=np.float64)  # accumulates exactly: float32 drifts over 49,000 terms
    for part in ("X_train", "X_val", "X_test"):
        data[part][..., :columns] -= mean[..., :columns].astype(data[part].dtype)
    return data


def _checked_dtype(dtype: type) -> np.dtype:
    """dtype, if it is one of those that make sense for pixels."""
    if np.dtype(dtype) not in (np.uint8, np.float32, np.float64):
        raise ValueError(f"dtype is {np.dtype(dtype)}; allowed are uint8, float32, float64")
    return np.dtype(dtype)
