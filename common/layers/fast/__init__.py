"""The fast convolution and max-pooling: the naive functions' signatures, caches, results and errors, much quicker.

Two backends compute the same: "cython", the compiled kernels of the `.pyx` files, and "numpy", which needs no compiler
and serves when they are missing. `BACKEND` names the one in use; the environment variable WORKBOOK_FAST=numpy or
WORKBOOK_FAST=cython chooses one before the first import.
"""

from __future__ import annotations

import os
import warnings
from types import ModuleType
from typing import Any

import numpy as np

from common.layers.convolution import ConvCache
from common.layers.pooling import PoolCache
from common.layers.shapes import check_dout, column_geometry, conv_geometry, pool_geometry

BUILD = "python setup.py build_ext --inplace"  # in the repository's root


def _choose(wanted: str | None) -> tuple[str, ModuleType]:
    """The backend's name and module; None means the compiled one if it is there, else NumPy with a notice."""
    if wanted not in (None, "", "cython", "numpy"):
        raise ValueError(f"WORKBOOK_FAST must be cython or numpy, got {wanted!r}")
    if wanted != "numpy":
        try:
            from common.layers.fast import cython_backend

            return "cython", cython_backend
        except ImportError as missing:
            if wanted == "cython":
                raise ImportError(f"WORKBOOK_FAST=cython, but {missing}; build the kernels with `{BUILD}`") from missing
            warnings.warn(f"fast layers: NumPy code serves, no compiled kernels; `{BUILD}` makes them", stacklevel=3)
    from common.layers.fast import numpy_backend

    return "numpy", numpy_backend


BACKEND, _backend = _choose(os.environ.get("WORKBOOK_FAST"))
HAVE_CYTHON = BACKEND == "cython"


def get_num_threads() -> int:
    """How many threads the compiled kernels use; the NumPy backend leaves threads to NumPy's matrix products."""
    return _backend.get_num_threads()


def set_num_threads(number: int) -> None:
    """Let the compiled kernels use so many threads; at first it is OMP_NUM_THREADS or the number of cores.

    Raises:
        ValueError: a number below 1, or more than there could be: 64, or the number of cores if that is larger. In a
            process made by a fork only 1 is allowed: the threads of the first process are not there.
    """
    if not isinstance(number, int | np.integer) or number < 1:
        raise ValueError(f"number must be a whole number of at least 1, got {number!r}")
    _backend.set_num_threads(int(number))


# Layers -------------------------------------------------------------------------------------------------------


def conv_forward_fast(
    x: np.ndarray, w: np.ndarray, b: np.ndarray, conv_param: dict[str, Any]
) -> tuple[np.ndarray, ConvCache]:
    """`conv_forward_naive`, fast.

    Args:
        x: (N, C, H, W) inputs; w: (F, C, HH, WW) filters; b: (F,) biases. float32 is computed in float32.
        conv_param: stride and pad, in pixels.
    Returns:
        out (N, F, H', W') and the cache (x, w, b, conv_param), the naive function's too.
    Raises:
        ValueError, TypeError: as `conv_forward_naive`.
    """
    stride, pad, *size = conv_geometry(x, w, b, conv_param)
    dtype = np.result_type(x, w)
    out = _backend.conv_forward(*_working(dtype, x, w, b), stride, pad, tuple(size))
    return out.astype(dtype, copy=False), (x, w, b, conv_param)


def conv_backward_fast(dout: np.ndarray, cache: ConvCache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`conv_backward_naive`, fast.

    Args:
        dout: (N, F, H', W') gradient with respect to the output.
        cache: of `conv_forward_fast` or `conv_forward_naive`.
    Returns:
        dx (N, C, H, W), dw (F, C, HH, WW), db (F,).
    Raises:
        ValueError: dout has not the shape of the output.
    """
    x, w, b, conv_param = cache
    stride, pad, *size = conv_geometry(x, w, b, conv_param)
    check_dout(dout, (len(x), len(w), *size))
    dx, dw, db = _backend.conv_backward(*_working(np.result_type(x, w), dout, x, w), stride, pad)
    return dx.astype(x.dtype, copy=False), dw.astype(w.dtype, copy=False), db.astype(dout.dtype, copy=False)


def max_pool_forward_fast(x: np.ndarray, pool_param: dict[str, Any]) -> tuple[np.ndarray, PoolCache]:
    """`max_pool_forward_naive`, fast.

    Args:
        x: (N, C, H, W) inputs.
        pool_param: pool_height, pool_width and stride, in pixels.
    Returns:
        out (N, C, H', W') and the cache (x, pool_param), the naive function's too.
    Raises:
        ValueError, TypeError: as `max_pool_forward_naive`.
    """
    height, width, stride, *size = pool_geometry(x, pool_param)
    out = _backend.pool_forward(*_working(x.dtype, x), (height, width), stride, tuple(size))
    return out.astype(x.dtype, copy=False), (x, pool_param)


def max_pool_backward_fast(dout: np.ndarray, cache: PoolCache) -> np.ndarray:
    """`max_pool_backward_naive`, fast; of equal maxima in a window only the first takes the gradient.

    Args:
        dout: (N, C, H', W') gradient with respect to the output.
        cache: of `max_pool_forward_fast` or `max_pool_forward_naive`.
    Returns:
        dx (N, C, H, W).
    Raises:
        ValueError: dout has not the shape of the output.
    """
    x, pool_param = cache
    height, width, stride, *size = pool_geometry(x, pool_param)
    check_dout(dout, (*x.shape[:2], *size))
    dx = _backend.pool_backward(*_working(x.dtype, dout, x), (height, width), stride)
    return dx.astype(x.dtype, copy=False)


def _working(dtype: np.dtype, *arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays as the backends want them: contiguous, all float32 or all float64."""
    working = np.float32 if dtype.itemsize <= 4 else np.float64
    return [np.ascontiguousarray(array, working) for array in arrays]


def _real(**arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name} must hold real numbers, got {array.dtype}")


# The courses' names for the column functions ------------------------------------------------------------------


def im2col_cython(x: np.ndarray, HH: int, WW: int, pad: int, stride: int) -> np.ndarray:
    """The column matrix of x (N, C, H, W): (C * HH * WW, H' * W' * N), for windows of HH x WW pixels.

    A row belongs to one weight of a filter, a column to one place of the window; the pictures' columns for the same
    place stand side by side.

    Raises:
        ValueError: x has not four axes or is empty, a number is out of range, or the window does not fit.
        TypeError: x does not hold real numbers.
    """
    HH, WW, pad, stride, size = column_geometry(x.shape, HH, WW, pad, stride)
    _real(x=x)
    (working,) = _working(x.dtype, x)
    return _backend.im2col(working, HH, WW, pad, stride, size).astype(x.dtype, copy=False)


def col2im_cython(
    cols: np.ndarray, N: int, C: int, H: int, W: int, HH: int, WW: int, pad: int, stride: int
) -> np.ndarray:
    """Sum the columns (C * HH * WW, H' * W' * N) of `im2col_cython` back into pictures (N, C, H, W).

    Raises:
        ValueError, TypeError: as `im2col_cython`, or cols has another size.
    """
    HH, WW, pad, stride, size = column_geometry((N, C, H, W), HH, WW, pad, stride)
    return col2im_6d_cython(
        cols.reshape(C, HH, WW, *size, N).transpose(0, 1, 2, 5, 3, 4), N, C, H, W, HH, WW, pad, stride
    )


def col2im_6d_cython(
    cols: np.ndarray, N: int, C: int, H: int, W: int, HH: int, WW: int, pad: int, stride: int
) -> np.ndarray:
    """Sum columns (C, HH, WW, N, H', W') back into pictures (N, C, H, W).

    Raises:
        ValueError, TypeError: as `im2col_cython`, or cols has another shape.
    """
    HH, WW, pad, stride, size = column_geometry((N, C, H, W), HH, WW, pad, stride)
    expected = (C, HH, WW, N, *size)
    _real(cols=cols)
    if cols.shape != expected:
        raise ValueError(f"cols must have the shape (C, HH, WW, N, H', W') = {expected}, got {cols.shape}")
    (working,) = _working(cols.dtype, cols)
    return _backend.col2im_6d(working, (H, W), pad, stride).astype(cols.dtype, copy=False)
