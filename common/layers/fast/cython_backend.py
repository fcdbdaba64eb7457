"""The compiled kernels with the interface of `numpy_backend`, and the number of threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

from common.layers.fast import _convolution, _pooling  # the first loads SciPy's BLAS, for the controller below

_all_blas = [it for it in ThreadpoolController().lib_controllers if it.user_api == "blas"]
_scipys_blas = [it for it in _all_blas if any(part.startswith("scipy") for part in Path(it.filepath).parts[:-1])]
_blas = _scipys_blas or _all_blas  # where SciPy has none of its own, it shares one
_most = max(64, os.cpu_count() or 1)  # OpenMP ends the process where the system gives no more threads
_threads = min(_convolution.max_threads(), _most)


def get_num_threads() -> int:
    """How many threads share out the pictures."""
    return _threads


def set_num_threads(number: int) -> None:
    """Let so many threads share out the pictures.

    Raises:
        ValueError: more than this process can have.
    """
    global _threads
    if number > _most:
        why = ", since it was made by a fork" if _most == 1 else ""
        raise ValueError(f"number is {number}; this process may use at most {_most}{why}")
    _threads = number


def _one_thread_after_fork() -> None:
    """A fork copies the thread that calls it and no other; OpenMP would wait for its others for ever."""
    global _threads, _most
    _threads = _most = 1


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_one_thread_after_fork)


@contextmanager
def _single_threaded_blas() -> Iterator[None]:
    """The threads are ours: BLAS's own, inside of them or waiting beside them, cost a factor of two to four."""
    before = [library.get_num_threads() for library in _blas]
    for library in _blas:
        library.set_num_threads(1)
    try:
        yield
    finally:
        for library, number in zip(_blas, before, strict=True):
            library.set_num_threads(number)


def conv_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray, stride: int, pad: int, size: tuple[int, int]):
    """out (N, F, *size)."""
    with _single_threaded_blas():
        return _convolution.conv_forward(x, w, b, stride, pad, _threads)


def conv_backward(dout: np.ndarray, x: np.ndarray, w: np.ndarray, stride: int, pad: int):
    """dx, dw, db."""
    with _single_threaded_blas():
        return _convolution.conv_backward(dout, x, w, stride, pad, _threads)


def pool_forward(x: np.ndarray, window: tuple[int, int], stride: int, size: tuple[int, int]) -> np.ndarray:
    """out (N, C, *size)."""
    return _pooling.pool_forward(x, *window, stride, _threads)


def pool_backward(dout: np.ndarray, x: np.ndarray, window: tuple[int, int], stride: int) -> np.ndarray:
    """dx of the shape of x."""
    return _pooling.pool_backward(dout, x, *window, stride, _threads)


def im2col(x: np.ndarray, HH: int, WW: int, pad: int, stride: int, size: tuple[int, int]) -> np.ndarray:
    """Columns (C*HH*WW, H'*W'*N), the pictures side by side at each place."""
    columns = _convolution.im2col_6d(x, HH, WW, pad, stride)  # (C, HH, WW, N, H', W')
    return columns.transpose(0, 1, 2, 4, 5, 3).reshape(columns.shape[0] * HH * WW, -1)


def col2im_6d(columns: np.ndarray, shape: tuple[int, int], pad: int, stride: int) -> np.ndarray:
    """Columns (C, HH, WW, N, H', W') summed back into pictures (N, C, *shape)."""
    return _convolution.col2im_6d(columns, *shape, pad, stride)
