"""Hand-made image features: gradient histograms (HOG) for texture and shape, a hue histogram for colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import joblib
import numpy as np

from common.progress import progress

GREY_WEIGHTS = np.array([0.299, 0.587, 0.114])  # of red, green, blue (ITU-R BT.601, 1982); they sum to 1
CHUNK = 500  # pictures that a worker process gets at a time
PARALLEL_FROM = 5000  # pictures; below, starting workers costs more than it saves

Feature = Callable[[np.ndarray], np.ndarray]


# Histograms of oriented gradients -----------------------------------------------------------------------------


def to_grey(im: np.ndarray) -> np.ndarray:
    """Luminance 0.299 R + 0.587 G + 0.114 B: the eye is most sensitive to green, least to blue.

    Args:
        im: (H, W, 3), or (H, W) which is grey already; any real dtype.
    Returns:
        (H, W) float64 in the units of im; floats, because differences of unsigned bytes would wrap around.
    Raises:
        ValueError: im has another shape, holds no pixels or a value that is not finite.
        TypeError: im does not hold real numbers.
    """
    im = _checked_picture(im, grey_allowed=True)
    ### BEGIN SOLUTION features, 2
    return im @ GREY_WEIGHTS if im.ndim == 3 else im.astype(np.float64)
    ### END SOLUTION


def forward_differences(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Change of brightness to the next pixel on the right and to the next one below; 0 where there is none.

    Args:
        grey: (H, W) floats.
    Returns:
        gx, gy: each (H, W), in grey levels per pixel.
    """
    ### BEGIN SOLUTION features, 2
    gx, gy = np.zeros_like(grey), np.zeros_like(grey)
    gx[:, :-1] = grey[:, 1:] - grey[:, :-1]
    gy[:-1, :] = grey[1:, :] - grey[:-1, :]
    return gx, gy
    ### END SOLUTION


def fold_orientation(gx: np.ndarray, gy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Length of each gradient and its direction without a sign: dark-to-bright and bright-to-dark count alike.

    Args:
        gx, gy: of one shape.
    Returns:
        magnitude >= 0 in the units of gx, and angle in degrees from 0 (brightness changes along x) to below 180.
    """
    ### BEGIN SOLUTION features, 3
    magnitude = np.sqrt(gx**2 + gy**2)
    angle = np.degrees(np.arctan2(gy, gx)) % 180  # -170 and 10 degrees are one line
    return magnitude, np.where(angle < 180, angle, 0)  # rounding: -1e-20 % 180 is 180, which has no bin
    ### END SOLUTION


def orientation_histograms(
    magnitude: np.ndarray, angle: np.ndarray, orientations: int = 9, cell: int = 8
) -> np.ndarray:
    """In each cell and for each interval of angles, the sum of the magnitudes over the pixels of the cell.

    Every pixel votes once, with its magnitude, so the total is mean(magnitude) summed over the cells.

    Args:
        magnitude, angle: from `fold_orientation`, (H, W).
        orientations: number of equal intervals that share the 180 degrees.
        cell: side of a square cell in pixels; divides H and W.
    Returns:
        Sums divided by the number of pixels in a cell, (H / cell, W / cell, orientations).
    Raises:
        ValueError: cell does not divide H and W, or orientations or cell is below 1.
    """
    rows, columns = _cells(magnitude.shape, orientations, cell)
    ### BEGIN SOLUTION features, 4
    interval = (angle * orientations / 180).astype(int)  # (H, W), 0 .. orientations - 1
    row, column = (np.arange(size) // cell for size in magnitude.shape)
    ballot_box = (row[:, None] * columns + column) * orientations + interval  # (H, W), one number each
    sums = np.bincount(ballot_box.ravel(), weights=magnitude.ravel(), minlength=rows * columns * orientations)
    return sums.reshape(rows, columns, orientations) / cell**2
    ### END SOLUTION


def hog_feature(im: np.ndarray, orientations: int = 9, cell: int = 8) -> np.ndarray:
    """Histogram of oriented gradients of one picture (after Dalal and Triggs, 2005), without block normalisation.

    Args:
        im: (H, W, 3) or (H, W), any real dtype; the feature is in the units of im.
        orientations: intervals of 180 / orientations degrees.
        cell: side of a cell in pixels; divides H and W.
    Returns:
        (H / cell * W / cell * orientations,) float64: 144 values for 32 x 32. Cells row by row, angles last.
    Raises:
        ValueError: im is no picture, holds values that are not finite, or is not made of whole cells.
        TypeError: im does not hold real numbers.
    """
    ### BEGIN SOLUTION features, 4
    gx, gy = forward_differences(to_grey(im))
    magnitude, angle = fold_orientation(gx, gy)
    return orientation_histograms(magnitude, angle, orientations, cell).ravel()
    ### END SOLUTION


# Colour -------------------------------------------------------------------------------------------------------


def to_hue(im: np.ndarray) -> np.ndarray:
    """Place of each pixel on the colour circle: red 0, green 1/3, blue 2/3, and back to red (Smith, 1978).

    Args:
        im: (H, W, 3) red, green, blue, any real dtype; a common factor or offset does not change the hue.
    Returns:
        (H, W) float64, 0 <= hue < 1; 0 for grey pixels, which have none.
    Raises:
        ValueError: im is no colour picture or holds values that are not finite.
        TypeError: im does not hold real numbers.
    """
    im = _checked_picture(im).astype(np.float64)
    ### BEGIN SOLUTION features, 6
    r, g, b = im[..., 0], im[..., 1], im[..., 2]
    high = np.maximum(np.maximum(r, g), b)
    spread = high - np.minimum(np.minimum(r, g), b)
    spread[spread == 0] = 1  # grey: all differences below are 0
    sixth = np.where(high == r, (g - b) / spread, np.where(high == g, 2 + (b - r) / spread, 4 + (r - g) / spread))
    hue = sixth / 6 % 1  # purple reds, -1/6 .. 0, move to the circle's end
    return np.where(hue < 1, hue, 0)  # rounding: -1e-20 % 1 is 1
    ### END SOLUTION


def color_histogram_hsv(
    im: np.ndarray, nbin: int = 10, xmin: float = 0, xmax: float = 255, normalized: bool = True
) -> np.ndarray:
    """How often each hue occurs. Grey pixels have no hue; by convention they count as hue 0, red.

    Args:
        im: (H, W, 3) red, green, blue, from xmin (none) to xmax (full).
        nbin: intervals that share the colour circle.
        xmin, xmax: the range of the values in im.
        normalized: divide by the number of pixels, so that the histogram sums to 1.
    Returns:
        (nbin,) float64.
    Raises:
        ValueError: im is no colour picture or leaves xmin..xmax, nbin < 1 or xmin >= xmax.
        TypeError: im does not hold real numbers.
    """
    im = _checked_picture(im)
    if nbin < 1 or xmin >= xmax:
        raise ValueError(f"needs nbin >= 1 and xmin < xmax, got nbin={nbin}, xmin={xmin}, xmax={xmax}")
    if im.min() < xmin or im.max() > xmax:
        raise ValueError(f"im has values from {im.min()} to {im.max()}, outside xmin={xmin} .. xmax={xmax}")
    ### BEGIN SOLUTION features, 6
    interval = (to_hue(im) * nbin).astype(int)  # (H, W), 0 .. nbin - 1
    counts = np.bincount(interval.ravel(), minlength=nbin).astype(np.float64)
    return counts / interval.size if normalized else counts
    ### END SOLUTION


def color_cells(im: np.ndarray, cell: int = 8) -> np.ndarray:
    """Mean and standard deviation of red, green and blue in each cell: where the colours are, not only which.

    Args:
        im: (H, W, 3), any real dtype.
        cell: side of a square cell in pixels; divides H and W.
    Returns:
        (H / cell * W / cell * 6,) float64: 96 values for 32 x 32. Cells row by row; in each, three means and three
        deviations, in the units of im.
    Raises:
        ValueError: im is no colour picture, holds values that are not finite, or is not made of whole cells.
        TypeError: im does not hold real numbers.
    """
    im = _checked_picture(im).astype(np.float64)
    rows, columns = _cells(im.shape[:2], 1, cell)
    ### BEGIN SOLUTION features, 10
    cells = im.reshape(rows, cell, columns, cell, 3)
    return np.stack([cells.mean(axis=(1, 3)), cells.std(axis=(1, 3))], axis=2).ravel()  # (rows, columns, 2, 3)
    ### END SOLUTION


# Many pictures ------------------------------------------------------------------------------------------------


def extract_features(
    imgs: Sequence[np.ndarray] | np.ndarray,
    feature_fns: Sequence[Feature],
    verbose: bool = False,
    *,
    n_jobs: int | None = None,
) -> np.ndarray:
    """Every feature function on every picture, the results of one picture joined in a row.

    Args:
        imgs: N pictures: an array (N, H, W, 3) or (N, H, W), or a list. uint8 is enough, and the smallest.
        feature_fns: each takes one picture and returns a 1-D array, as long for every picture.
        verbose: show a progress bar.
        n_jobs: worker processes (joblib), -1 for one a core, 1 to stay in this process; None = every core from
            5,000 pictures on. The result is the same. HOG and hue take some 150 µs a picture: 50,000 pictures of
            CIFAR-10 need about 7 s on one core, and less than 0.5 GB, the pictures and all workers included.
    Returns:
        (N, sum of the lengths) float64; (0, 0) without pictures, for nobody knows the lengths then.
    Raises:
        ValueError: no feature functions, or one returns something that is not 1-D or changes its length.
        Exception: whatever a feature function raises.
    """
    fns = list(feature_fns)
    if not fns:
        raise ValueError("feature_fns is empty: give at least one function from a picture to a 1-D array")
    if len(imgs) == 0:
        return np.empty((0, 0))
    if n_jobs is None:
        n_jobs = -1 if len(imgs) >= PARALLEL_FROM else 1
    lengths = [len(_describe(imgs[0], fn)) for fn in fns]
    features = np.empty((len(imgs), sum(lengths)))
    starts = range(0, len(imgs), CHUNK)
    # max_nbytes=None: a chunk travels through a pipe and is gone afterwards, instead of staying in a shared file.
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator", max_nbytes=None)
    chunks = parallel(joblib.delayed(_describe_all)(imgs[start : start + CHUNK], fns, lengths) for start in starts)
    bar = progress(starts, desc=f"features, {CHUNK} pictures a step") if verbose else starts
    for start, rows in zip(bar, chunks, strict=True):
        features[start : start + CHUNK] = rows
    return features


def _describe_all(imgs: Sequence[np.ndarray], fns: Sequence[Feature], lengths: Sequence[int]) -> np.ndarray:
    """The rows of one chunk, (len(imgs), sum(lengths)); runs in a worker process."""
    return np.stack(
        [np.concatenate([_describe(im, fn, length) for fn, length in zip(fns, lengths, strict=True)]) for im in imgs]
    )


def _describe(im: np.ndarray, fn: Feature, length: int | None = None) -> np.ndarray:
    """fn(im) if it is 1-D and has the length it had before."""
    feature = np.asarray(fn(im), dtype=np.float64)
    name = getattr(fn, "__name__", repr(fn))
    if feature.ndim != 1:
        raise ValueError(f"feature function {name} must return a 1-D array, got shape {feature.shape}; use .ravel()")
    if length is not None and len(feature) != length:
        raise ValueError(f"feature function {name} must keep its length, got {length} values and then {len(feature)}")
    return feature


# Preparing features for a classifier ------------------------------------------------------------------------------


def feature_scale(X_train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every column, from the training set only.

    A column that is constant up to rounding gets std 1: it becomes 0, not 0 / 0 or amplified rounding.

    Args:
        X_train: (N, F) features, N >= 1.
    Returns:
        mean, std: each (F,) float64, std > 0.
    Raises:
        ValueError: X_train is not (N, F) with N >= 1, or holds values that are not finite.
    """
    X_train = _checked_features(X_train, "X_train")
    ### BEGIN SOLUTION features, 7
    mean, std = X_train.mean(axis=0), X_train.std(axis=0)
    constant = std <= 1e-10 * np.abs(X_train).max(axis=0)
    return mean, np.where(constant, 1.0, std)
    ### END SOLUTION


def scale_features(X: np.ndarray, mean: np.ndarray, std: np.ndarray, bias: bool = True) -> np.ndarray:
    """(X - mean) / std, and a column of ones for the bias trick.

    Args:
        X: (N, F) features of any split.
        mean, std: (F,), from `feature_scale` on the training split.
        bias: append the ones.
    Returns:
        (N, F + bias) float64.
    Raises:
        ValueError: the widths differ, X is not (N, F), or holds values that are not finite.
    """
    X = _checked_features(X, "X")
    if np.shape(mean) != (X.shape[1],) or np.shape(std) != (X.shape[1],):
        raise ValueError(f"X has {X.shape[1]} features a row, mean {np.shape(mean)} and std {np.shape(std)}")
    ### BEGIN SOLUTION features, 7
    scaled = (X - mean) / std
    return np.hstack([scaled, np.ones((len(X), 1))]) if bias else scaled
    ### END SOLUTION


# What they share --------------------------------------------------------------------------------------------------


def _checked_picture(im: np.ndarray, grey_allowed: bool = False) -> np.ndarray:
    im = np.asarray(im)
    allowed = "(H, W, 3) or (H, W)" if grey_allowed else "(H, W, 3)"
    if im.size == 0 or not ((im.ndim == 3 and im.shape[2] == 3) or (im.ndim == 2 and grey_allowed)):
        raise ValueError(f"im must be one picture, {allowed}, got shape {im.shape}")
    if im.dtype.kind not in "iufb":
        raise TypeError(f"im must hold real numbers, got {im.dtype}")
    if im.dtype.kind == "f" and not np.isfinite(im).all():
        raise ValueError("im holds values that are not finite (NaN or infinity)")
    return im


def _cells(shape: tuple[int, ...], orientations: int, cell: int) -> tuple[int, int]:
    """Rows and columns of cells."""
    if orientations < 1 or cell < 1:
        raise ValueError(f"orientations and cell must be at least 1, got {orientations} and {cell}")
    if shape[0] % cell or shape[1] % cell:
        raise ValueError(f"im has {shape[0]} x {shape[1]} pixels, not whole cells of {cell} x {cell}; crop it")
    return shape[0] // cell, shape[1] // cell


def _checked_features(X: np.ndarray, name: str) -> np.ndarray:
    X = np.asarray(X, dtype=np.float64)
    if X.ndim != 2 or (name == "X_train" and len(X) == 0):
        raise ValueError(f"{name} must be (N, F) features, got shape {X.shape}")
    if not np.isfinite(X).all():
        raise ValueError(f"{name} holds values that are not finite (NaN or infinity)")
    return X
