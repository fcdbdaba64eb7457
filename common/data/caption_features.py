"""Feature files of the captioning data: reading the published ones, computing those of drawn pictures once.

`{split}2014_vgg16_fc7.h5` holds one row a picture as a network gave it, `{split}2014_vgg16_fc7_pca.h5` the same
reduced to at most 512 numbers. The names are those of the published files, whichever network it was.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np
import scipy.linalg
from filelock import FileLock

from common.storage import atomic_write

KEY, PROBE = "features", "probe"
COMPONENTS = 512
BATCH = 500  # pictures in memory at a time, 75 MB
PROBED = 2  # training pictures whose features are computed anew to recognise the network


def file_name(split: str, pca: bool = True) -> str:
    """ "train", True -> "train2014_vgg16_fc7_pca.h5"."""
    return f"{split}2014_vgg16_fc7{'_pca' if pca else ''}.h5"


def read_h5(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Whole arrays of an HDF5 file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an HDF5 file, or a name is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        with h5py.File(path, "r") as file:
            missing = [name for name in names if not isinstance(file.get(name), h5py.Dataset)]
            if missing:
                raise ValueError(f"{path}: the key '{missing[0]}' is missing; it has {', '.join(file) or 'none'}")
            return {name: file[name][:] for name in names}
    except OSError as error:
        raise ValueError(f"{path} is not a readable HDF5 file: {error}") from error


def read(path: Path) -> np.ndarray:
    """The features of a file, float32 (N, D).

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an HDF5 file, no key 'features', or not finite real numbers (N, D).
    """
    features = read_h5(path, [KEY])[KEY]
    if features.ndim != 2 or features.dtype.kind != "f" or not features.size:
        raise ValueError(f"{path}: '{KEY}' must hold floats (N, D), found {features.dtype} {features.shape}")
    if not np.isfinite(features.min() + features.max()):
        raise ValueError(f"{path}: '{KEY}' holds values that are not finite")
    return features.astype(np.float32, copy=False)


# Drawn pictures ------------------------------------------------------------------------------------------------


def ensure(base: Path, files: dict[str, np.ndarray], extract: Callable | None, load: Callable) -> None:
    """Write the feature files into a folder, unless they are there and of the same network.

    One process writes, the others wait for it. Features are recognised by those of two pictures, so another network,
    other weights or another layer computes all of them anew.

    Args:
        base: the folder.
        files: the pictures of each split.
        extract: pictures uint8 (N, H, W, 3) -> features float32 (N, F); None = what is there has to do.
        load: files -> pictures.
    Raises:
        FileNotFoundError: no features and no extract.
        TypeError, ValueError: extract cannot be called, or its result is not float (N, F).
    """
    whole = all((base / file_name(split, pca)).is_file() for split in files for pca in (True, False))
    if extract is None:
        if not whole:
            raise FileNotFoundError(
                f"the features of these pictures are not computed yet ({base / file_name('train')} is missing). Pass "
                "extract=load_backbone().extract, with `from common.vision.backbone import load_backbone`, once"
            )
        return
    if not callable(extract):
        raise TypeError(f"extract must be a function of pictures, got {type(extract).__name__}")
    with FileLock(base / ".features.filelock"):
        probe = _extracted(extract, load(files["train"][:PROBED]))
        if not _is_of(base, files, probe):
            _write(base, files, extract, load, probe)


def _is_of(base: Path, files: dict[str, np.ndarray], probe: np.ndarray) -> bool:
    """True if all feature files are there, and were computed by the network that gave the probe."""
    if not all((base / file_name(split, pca)).is_file() for split in files for pca in (True, False)):
        return False
    try:
        stored = read_h5(base / file_name("val"), [PROBE])[PROBE]  # the file that is written last
    except ValueError:
        return False
    return stored.shape == probe.shape and bool(np.allclose(stored, probe, rtol=1e-3, atol=1e-3 * np.abs(probe).max()))


def _extracted(extract: Callable, pictures: np.ndarray) -> np.ndarray:
    features = extract(pictures)
    if not isinstance(features, np.ndarray) or features.dtype.kind != "f" or features.ndim != 2:
        found = f"{features.dtype} {features.shape}" if isinstance(features, np.ndarray) else type(features).__name__
        raise TypeError(f"extract must return an array of floats (N, F), got {found}")
    if len(features) != len(pictures):
        raise ValueError(f"extract returned {len(features)} rows for {len(pictures)} pictures")
    return features.astype(np.float32, copy=False)


def _write(base: Path, files: dict[str, np.ndarray], extract: Callable, load: Callable, probe: np.ndarray) -> None:
    raw = {split: np.concatenate([_extracted(extract, load(part)) for part in _batches(names)])
           for split, names in files.items()}  # fmt: skip
    project = fit_pca(raw["train"])
    for split in files:
        save(base / file_name(split, False), raw[split])
    for split in files:
        save(base / file_name(split), project(raw[split]), probe)


def _batches(names: np.ndarray) -> list[np.ndarray]:
    return [names[i : i + BATCH] for i in range(0, len(names), BATCH)]


def save(path: Path, features: np.ndarray, probe: np.ndarray | None = None) -> None:
    """Write features, and those of the probe, whole or not at all."""
    with tempfile.TemporaryFile() as draft:
        with h5py.File(draft, "w") as file:
            file[KEY] = features
            if probe is not None:
                file[PROBE] = probe
        draft.seek(0)
        with atomic_write(path) as target:
            target.write(draft.read())


def fit_pca(features: np.ndarray, components: int = COMPONENTS) -> Callable[[np.ndarray], np.ndarray]:
    """Principal components (Pearson, 1901) of training features, the largest first.

    One common factor then makes the mean square of all numbers 1, so that a layer's usual initial weights suit them.

    Args:
        features: float (N, F).
        components: D; at most min(N, F) are kept.
    Returns:
        A function (M, F) -> float32 (M, D).
    """
    mean = features.mean(axis=0, dtype=np.float64)
    X = features - mean  # (N, F) float64
    few = min(components, *X.shape)
    gram = X @ X.T if len(X) < X.shape[1] else X.T @ X  # the smaller one has the same eigenvalues
    last = len(gram) - 1
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=(last - few + 1, last), driver="evr")
    axes = (X.T @ vectors if len(X) < X.shape[1] else vectors)[:, ::-1]  # (F, D)
    lengths, varies = np.linalg.norm(axes, axis=0), values[::-1] > 1e-10 * values.max()
    axes = np.where(varies, axes / np.maximum(lengths, 1e-300), 0)  # where nothing varies, a direction means nothing
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(few)])  # an axis and its opposite serve alike: fix one
    scale = np.sqrt(np.maximum(values.sum(), 1e-12) / X[:, :few].size)
    return lambda rows: ((rows - mean) @ (axes / scale)).astype(np.float32)
