"""Feature files of the captioning data: reading the published ones, computing those of pictures at hand once.

`{split}2014_vgg16_fc7.h5` holds one row a picture as a network gave it, `{split}2014_vgg16_fc7_pca.h5` the same
reduced to at most 512 numbers. The names are those of the published files, whichever network it was. Features of
another kind, such as maps to attend to, have files of their own, `{split}2014_{kind}.h5`: in half precision, since
maps are large, and not reduced. So neither kind takes the other's place.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np
import scipy.linalg

from common.data.files import exclusive
from common.storage import atomic_write

KEY, PROBE = "features", "probe"
PUBLISHED = "vgg16_fc7"  # the kind of features that came with the captions
KIND = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
COMPONENTS = 512
PATIENCE = 3600.0  # seconds for which one waits for another process that computes the same
BATCH = 500  # pictures in memory at a time, 75 MB of drawn ones
PROBED = 2  # training pictures whose features are computed anew to recognise the network


def file_name(split: str, pca: bool = True, kind: str = PUBLISHED) -> str:
    """ "train", True -> "train2014_vgg16_fc7_pca.h5"."""
    return f"{split}2014_{kind}{'_pca' if pca else ''}.h5"


def checked_kind(kind: str, pca: bool) -> str:
    """A kind of features whose files can have that name.

    Raises:
        ValueError: other signs than small letters, digits and single underscores, or another kind than the published
            one reduced by PCA, which it never is.
    """
    if not isinstance(kind, str) or not KIND.fullmatch(kind) or kind.endswith("_pca"):
        raise ValueError(f"kind must be small letters, digits and single underscores, such as 'grid4', got {kind!r}")
    if pca and kind != PUBLISHED:
        raise ValueError(f"features of the kind {kind!r} are kept as they are; pass pca_features=False")
    return kind


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
    features = features.astype(np.float32, copy=False)
    if not np.isfinite(features.min() + features.max()):
        raise ValueError(f"{path}: '{KEY}' holds values that are not finite")
    return features


# Pictures at hand ----------------------------------------------------------------------------------------------


def ensure(
    base: Path, files: dict[str, np.ndarray], extract: Callable | None, load: Callable, kind: str = PUBLISHED
) -> None:
    """Write the feature files into a folder, unless they are there and of the same network.

    One process writes, the others wait for it. Features are recognised by those of two pictures, so another network,
    other weights, another layer or grid under the same name computes all of them anew.

    Args:
        base: the folder.
        files: the pictures of each split.
        extract: pictures uint8 (N, H, W, 3) -> features float32 (N, F); None = what is there has to do.
        load: files -> pictures.
        kind: of the features; the published one is also reduced by PCA.
    Raises:
        FileNotFoundError: no features and no extract.
        TypeError, ValueError: extract cannot be called, or its result is not float (N, F).
    """
    if extract is None:
        missing = [path for path in _paths(base, files, kind) if not path.is_file()]
        if missing:
            how = "extract=load_backbone().extract, with `from common.vision.backbone import load_backbone`"
            if kind != PUBLISHED:
                how = "extract=FeatureExtractor(...).rows, of `common.pytorch.captioning`"
            raise FileNotFoundError(
                f"the features of these pictures are not computed yet ({missing[0]} is missing). Pass {how}, once"
            )
        return
    if not callable(extract):
        raise TypeError(f"extract must be a function of pictures, got {type(extract).__name__}")
    with exclusive(base / ".features.filelock", PATIENCE):
        probe = _extracted(extract, load(files["train"][:PROBED]))
        if not _is_of(base, files, probe, kind):
            _write(base, files, extract, load, probe, kind)


def _paths(base: Path, files: dict[str, np.ndarray], kind: str) -> list[Path]:
    """The feature files of a kind in the order in which they are written; the last one has the probe."""
    return [base / file_name(split, pca, kind) for pca in (False, True)[: 1 + (kind == PUBLISHED)] for split in files]


def _is_of(base: Path, files: dict[str, np.ndarray], probe: np.ndarray, kind: str) -> bool:
    """True if all feature files are there, and were computed by the network that gave the probe."""
    paths = _paths(base, files, kind)
    if not all(path.is_file() for path in paths):
        return False
    try:
        stored = read_h5(paths[-1], [PROBE])[PROBE]
    except ValueError:
        return False
    return stored.shape == probe.shape and bool(np.allclose(stored, probe, rtol=1e-3, atol=1e-3 * np.abs(probe).max()))


def _extracted(extract: Callable, pictures: Sequence[np.ndarray]) -> np.ndarray:
    features = extract(pictures)
    if not isinstance(features, np.ndarray) or features.dtype.kind != "f" or features.ndim != 2:
        found = f"{features.dtype} {features.shape}" if isinstance(features, np.ndarray) else type(features).__name__
        raise TypeError(f"extract must return an array of floats (N, F), got {found}")
    if len(features) != len(pictures):
        raise ValueError(f"extract returned {len(features)} rows for {len(pictures)} pictures")
    return features.astype(np.float32, copy=False)


def _write(
    base: Path, files: dict[str, np.ndarray], extract: Callable, load: Callable, probe: np.ndarray, kind: str
) -> None:
    raw = {split: np.concatenate([_extracted(extract, load(part)) for part in _batches(names)])
           for split, names in files.items()}  # fmt: skip
    contents = [raw[split] if kind == PUBLISHED else halved(raw[split]) for split in files]
    if kind == PUBLISHED:
        project = fit_pca(raw["train"])
        contents += [project(raw[split]) for split in files]
    paths = _paths(base, files, kind)
    paths[-1].unlink(missing_ok=True)  # until it is there again, the files of two networks cannot pass for one
    for path, content in zip(paths, contents, strict=True):
        save(path, content, probe if path == paths[-1] else None)


def halved(features: np.ndarray) -> np.ndarray:
    """Features in half precision, each right to 1/2000; as they are if one is too large for that, above 65,504."""
    return features.astype(np.float16) if np.abs(features).max() <= np.finfo(np.float16).max else features


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
