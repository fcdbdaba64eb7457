"""First steps with PyTorch tensors: make them, index them, reshape them, multiply them, move them.

The exercises of "PyTorch 101" (EECS 498/598, University of Michigan). Only `mutate_tensor` and
`slice_assignment_practice` write into the tensor they are given.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

Number = int | float


def _require_tensor(x: Tensor, name: str = "x", ndim: int | None = None) -> None:
    if not torch.is_tensor(x):
        raise TypeError(f"{name} must be a torch tensor, got {type(x).__name__}; torch.as_tensor makes one")
    if ndim is not None and x.dim() != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got shape {tuple(x.shape)}")


def _require_matrix(x: Tensor, rows: int = 0, columns: int = 0) -> None:
    _require_tensor(x, ndim=2)
    if x.shape[0] < rows or x.shape[1] < columns:
        raise ValueError(f"x must have at least {rows} rows and {columns} columns, got shape {tuple(x.shape)}")


def _require_factors(x: Tensor, other: Tensor, name: str, ndim: int) -> None:
    """Refuse two arguments that have no (batched) matrix product x @ other."""
    _require_tensor(x, "x", ndim)
    _require_tensor(other, name, ndim)
    if x.shape[:-2] != other.shape[:-2] or x.shape[-1] != other.shape[-2]:
        raise ValueError(f"x and {name} have no matrix product, got {tuple(x.shape)} and {tuple(other.shape)}")
    if x.dtype != other.dtype:
        raise TypeError(f"x and {name} must have one dtype, got {x.dtype} and {other.dtype}")


def _whole(value: int, name: str) -> int:
    """The value as a Python int; integers of NumPy and torch are allowed, 2.0 and True are not."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None


# Making tensors ----------------------------------------------------------------------------------------------


def create_sample_tensor() -> Tensor:
    """A 3 x 2 tensor of zeros, but for [0, 1] = 10 and [1, 0] = 100.

    Returns:
        (3, 2) float32.
    """
    ### BEGIN SOLUTION tensor_basics, 1
    x = torch.zeros(3, 2)
    x[0, 1] = 10
    x[1, 0] = 100
    return x
    ### END SOLUTION


def mutate_tensor(x: Tensor, indices: Sequence[tuple[int, ...]], values: Sequence[Number]) -> Tensor:
    """Write values[i] to x[indices[i]], in order; of several writes to one place the last wins.

    Args:
        x: of any shape; **modified in place**. Values are converted to its dtype.
        indices: one tuple of x.dim() whole numbers for each value.
        values: numbers.
    Returns:
        The same object x.
    Raises:
        TypeError: x is no tensor, or an index is no tuple of whole numbers (a list would pick whole rows).
        ValueError: indices and values of different length, or an index that x does not have; nothing is written then.
    """
    _require_tensor(x)
    if len(indices) != len(values):
        raise ValueError(f"indices and values must be equally long, got {len(indices)} and {len(values)}")
    for index in indices:
        _require_index(x, index)
    ### BEGIN SOLUTION tensor_basics, 1
    for index, value in zip(indices, values, strict=True):
        x[index] = value
    return x
    ### END SOLUTION


def _require_index(x: Tensor, index: tuple[int, ...]) -> None:
    if not isinstance(index, tuple):
        raise TypeError(f"indices must be tuples, got {index!r}")
    inside = len(index) == x.dim()
    for i, size in zip(index, x.shape, strict=False):
        inside = inside and -size <= _whole(i, "an entry of indices") < size
    if not inside:
        raise ValueError(f"indices: {index} names no single entry of x, which has shape {tuple(x.shape)}")


def count_tensor_elements(x: Tensor) -> int:
    """How many numbers x holds, from its shape alone: the product of the sizes.

    Args:
        x: of any shape. A 0-d tensor holds one number, a tensor with a size of 0 none.
    Raises:
        TypeError: x is no tensor.
    """
    _require_tensor(x)
    ### BEGIN SOLUTION tensor_basics, 1
    return math.prod(x.shape)  # the empty product is 1
    ### END SOLUTION


def create_tensor_of_pi(M: int, N: int) -> Tensor:
    """An M x N tensor full of 3.14.

    Args:
        M, N: rows and columns, 0 or more.
    Returns:
        (M, N) float32.
    Raises:
        TypeError: M or N is not a whole number.
        ValueError: M or N is negative.
    """
    if _whole(M, "M") < 0 or _whole(N, "N") < 0:
        raise ValueError(f"M and N must be 0 or more, got M={M} and N={N}")
    ### BEGIN SOLUTION tensor_basics, 1
    return torch.full((M, N), 3.14)
    ### END SOLUTION


def multiples_of_ten(start: int, stop: int) -> Tensor:
    """The multiples of ten from start to stop, both ends included.

    Args:
        start, stop: whole numbers, negative ones too.
    Returns:
        (K,) float64, ascending; (0,) when no multiple of ten lies between them.
    Raises:
        TypeError: start or stop is not a whole number.
    """
    start, stop = _whole(start, "start"), _whole(stop, "stop")
    ### BEGIN SOLUTION tensor_basics, 2
    first, last = -(-start // 10), stop // 10  # start / 10 rounded up, stop / 10 rounded down
    return 10 * torch.arange(first, max(first, last + 1), dtype=torch.float64)
    ### END SOLUTION


# Slices: windows on the same memory --------------------------------------------------------------------------


def slice_indexing_practice(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four windows on x; all of them share its memory.

    Args:
        x: (M, N) with M >= 3, N >= 5.
    Returns:
        last_row (N,), third_col (M, 1), first_two_rows_three_cols (2, 3), and even_rows_odd_cols: rows 0, 2, 4, ...
        of columns 1, 3, 5, ...
    Raises:
        TypeError, ValueError: x is no matrix of that size.
    """
    _require_matrix(x, 3, 5)
    ### BEGIN SOLUTION tensor_basics, 3
    last_row = x[-1]
    third_col = x[:, 2:3]
    first_two_rows_three_cols = x[:2, :3]
    even_rows_odd_cols = x[::2, 1::2]
    return last_row, third_col, first_two_rows_three_cols, even_rows_odd_cols
    ### END SOLUTION


def slice_assignment_practice(x: Tensor) -> Tensor:
    """Make x[:4, :6] two rows 0 1 2 2 2 2 and two rows 3 4 3 4 5 5, with at most six writes.

    Args:
        x: (M, N) with M >= 4, N >= 6; **modified in place**, the rest of it untouched.
    Returns:
        The same object x.
    Raises:
        TypeError, ValueError: x is no matrix of that size.
    """
    _require_matrix(x, 4, 6)
    ### BEGIN SOLUTION tensor_basics, 3
    x[:2, 0] = 0
    x[:2, 1] = 1
    x[:2, 2:6] = 2
    x[2:4, 0:4:2] = 3
    x[2:4, 1:4:2] = 4
    x[2:4, 4:6] = 5
    return x
    ### END SOLUTION


# Integer and boolean indices: copies -------------------------------------------------------------------------


def shuffle_cols(x: Tensor) -> Tensor:
    """The columns 0, 0, 2, 1 of x, in this order.

    Args:
        x: (M, N) with N >= 3.
    Returns:
        (M, 4), a copy.
    Raises:
        TypeError, ValueError: x is no matrix of that size.
    """
    _require_matrix(x, columns=3)
    ### BEGIN SOLUTION tensor_basics, 4
    return x[:, [0, 0, 2, 1]]
    ### END SOLUTION


def reverse_rows(x: Tensor) -> Tensor:
    """The rows of x, last one first.

    Args:
        x: (M, N).
    Returns:
        (M, N), a copy.
    Raises:
        TypeError, ValueError: x is no matrix.
    """
    _require_matrix(x)
    ### BEGIN SOLUTION tensor_basics, 4
    return x[torch.arange(len(x) - 1, -1, -1)]
    ### END SOLUTION


def take_one_elem_per_col(x: Tensor) -> Tensor:
    """The three entries x[1, 0], x[0, 1] and x[3, 2].

    Args:
        x: (M, N) with M >= 4, N >= 3.
    Returns:
        (3,), a copy.
    Raises:
        TypeError, ValueError: x is no matrix of that size.
    """
    _require_matrix(x, 4, 3)
    ### BEGIN SOLUTION tensor_basics, 4
    return x[[1, 0, 3], [0, 1, 2]]
    ### END SOLUTION


def count_negative_entries(x: Tensor) -> int:
    """How many entries of x are below zero.

    Args:
        x: of any shape and real dtype.
    Returns:
        A Python int.
    Raises:
        TypeError: x is no tensor of real numbers.
    """
    _require_tensor(x)
    if x.is_complex():
        raise TypeError(f"x must hold real numbers, got {x.dtype}")
    ### BEGIN SOLUTION tensor_basics, 4
    return int((x < 0).sum())
    ### END SOLUTION


def sum_positive_entries(x: Tensor) -> int:
    """The sum of the entries of x above zero.

    Args:
        x: of any shape and integer dtype.
    Returns:
        A Python int (added up as int64).
    Raises:
        TypeError: x is no tensor of integers.
    """
    _require_tensor(x)
    if x.is_floating_point() or x.is_complex():
        raise TypeError(f"x must hold integers, got {x.dtype}")
    ### BEGIN SOLUTION tensor_basics, 4
    return int(x[x > 0].sum())
    ### END SOLUTION


def make_one_hot(x: Sequence[int]) -> Tensor:
    """One row for each label: 1 in the label's column, 0 elsewhere.

    Args:
        x: N labels, whole numbers of 0 or more.
    Returns:
        (N, 1 + max(x)) float32.
    Raises:
        TypeError: a label is not a whole number.
        ValueError: a label is negative, or there is none.
    """
    labels = [_whole(label, "every label in x") for label in x]
    if not labels or min(labels) < 0:
        raise ValueError(f"x must hold one or more labels of 0 or more, got {labels}")
    ### BEGIN SOLUTION tensor_basics, 4
    one_hot = torch.zeros(len(labels), 1 + max(labels))
    one_hot[torch.arange(len(labels)), labels] = 1
    return one_hot
    ### END SOLUTION


# Reshaping, reducing, broadcasting ---------------------------------------------------------------------------


def reshape_practice(x: Tensor) -> Tensor:
    """Halve x and lay the halves side by side, four numbers a row: 0-3 and 12-15 in the first row, and so on.

    Args:
        x: (24,).
    Returns:
        (3, 8): [0..3, 12..15], [4..7, 16..19], [8..11, 20..23] for x = arange(24).
    Raises:
        TypeError, ValueError: x is no tensor of that shape.
    """
    _require_tensor(x)
    if x.shape != (24,):
        raise ValueError(f"x must have shape (24,), got {tuple(x.shape)}")
    ### BEGIN SOLUTION tensor_basics, 5
    halves = x.reshape(2, 3, 4)  # (half, row, column)
    return halves.transpose(0, 1).reshape(3, 8)
    ### END SOLUTION


def zero_row_min(x: Tensor) -> Tensor:
    """A copy of x in which the smallest entry of each row, the first of several, is 0.

    Args:
        x: (M, N) with N >= 1.
    Returns:
        (M, N).
    Raises:
        TypeError, ValueError: x is no matrix of that size.
    """
    _require_matrix(x, columns=1)
    ### BEGIN SOLUTION tensor_basics, 6
    y = x.clone()
    y[torch.arange(len(x)), x.argmin(dim=1)] = 0
    return y
    ### END SOLUTION


def normalize_columns(x: Tensor) -> Tensor:
    """Shift and scale each column to mean 0 and standard deviation 1, with sums and arithmetic only.

    Args:
        x: (M, N), real, with M >= 2 rows; the standard deviation divides by M - 1.
    Returns:
        (M, N), of x's dtype (float32 if x holds integers).
    Raises:
        TypeError, ValueError: x is no matrix of that size.
        ValueError: a column is constant; its standard deviation is 0.
    """
    _require_matrix(x, rows=2)
    if constant := torch.nonzero((x == x[0]).all(dim=0)).flatten().tolist():
        raise ValueError(f"x: columns {constant} are constant; their standard deviation is 0")
    ### BEGIN SOLUTION tensor_basics, 7
    M = len(x)
    centered = x - x.sum(dim=0) / M  # (M, N) - (N,)
    std = ((centered**2).sum(dim=0) / (M - 1)) ** 0.5  # (N,)
    return centered / std
    ### END SOLUTION


# Products, on the CPU and on a GPU ---------------------------------------------------------------------------


def batched_matrix_multiply(x: Tensor, y: Tensor, use_loop: bool = True) -> Tensor:
    """The matrix product x[b] @ y[b] for every b.

    Args:
        x: (B, N, M).
        y: (B, M, P), of x's dtype and on its device.
        use_loop: one product after the other, or all with a single call.
    Returns:
        (B, N, P).
    Raises:
        TypeError: x or y is no tensor, or their dtypes differ.
        ValueError: the shapes do not fit together.
    """
    _require_factors(x, y, "y", 3)
    return batched_matrix_multiply_loop(x, y) if use_loop else batched_matrix_multiply_noloop(x, y)


def batched_matrix_multiply_loop(x: Tensor, y: Tensor) -> Tensor:
    """One product after the other; arguments as for `batched_matrix_multiply`."""
    ### BEGIN SOLUTION tensor_basics, 8
    z = x.new_zeros(x.shape[0], x.shape[1], y.shape[2])  # (B, N, P)
    for b in range(len(x)):
        z[b] = x[b] @ y[b]
    return z
    ### END SOLUTION


def batched_matrix_multiply_noloop(x: Tensor, y: Tensor) -> Tensor:
    """All products with one call; arguments as for `batched_matrix_multiply`."""
    ### BEGIN SOLUTION tensor_basics, 8
    return x @ y
    ### END SOLUTION


def mm_on_cpu(x: Tensor, w: Tensor) -> Tensor:
    """The matrix product x @ w on the CPU, which `mm_on_gpu` is compared with.

    Args:
        x: (N, M), on the CPU.
        w: (M, P), on the CPU, of x's dtype.
    Returns:
        (N, P), on the CPU.
    Raises:
        TypeError: x or w is no tensor, or their dtypes differ.
        ValueError: the shapes do not fit together.
    """
    _require_factors(x, w, "w", 2)
    return x @ w


def mm_on_gpu(x: Tensor, w: Tensor) -> Tensor:
    """The matrix product x @ w, computed on the GPU and brought back; without CUDA, on the CPU with a warning.

    Args:
        x: (N, M), on the CPU.
        w: (M, P), on the CPU, of x's dtype.
    Returns:
        (N, P), on the CPU.
    Raises:
        TypeError: x or w is no tensor, or their dtypes differ.
        ValueError: the shapes do not fit together.
    """
    _require_factors(x, w, "w", 2)
    ### BEGIN SOLUTION tensor_basics, 9
    if not torch.cuda.is_available():
        warnings.warn("mm_on_gpu: PyTorch sees no CUDA device; multiplying on the CPU", stacklevel=2)
        return x @ w
    return (x.to("cuda") @ w.to("cuda")).cpu()
    ### END SOLUTION


# Two challenges: no loop over the entries --------------------------------------------------------------------


def challenge_mean_tensors(xs: Sequence[Tensor], ls: Tensor) -> Tensor:
    """The mean of each of several tensors of different lengths, without a loop.

    Args:
        xs: N tensors of one axis, of one floating dtype and on one device, none empty.
        ls: their lengths, (N,) int64.
    Returns:
        (N,), of the dtype of xs.
    Raises:
        TypeError: ls is no tensor of integers, or xs do not hold floating-point numbers.
        ValueError: no tensors, or lengths that are not those of xs.
    """
    _require_tensor(ls, "ls", 1)
    if ls.is_floating_point() or ls.is_complex() or not all(x.is_floating_point() for x in xs):
        raise TypeError("ls must hold whole numbers, and the tensors of xs floating-point numbers")
    if not len(xs) or [tuple(x.shape) for x in xs] != [(n,) for n in ls.tolist()] or ls.min() < 1:
        raise ValueError(f"ls must hold the lengths of the tensors xs, each at least 1, got {ls.tolist()}")
    values = torch.cat(tuple(xs))  # (sum of ls,)
    owner = torch.arange(len(ls), device=ls.device).repeat_interleave(ls)  # whose each value is
    return values.new_zeros(len(ls)).index_add(0, owner, values) / ls


def challenge_get_uniques(x: Tensor) -> tuple[Tensor, Tensor]:
    """The different values of x and where each occurs first, without a loop and with memory for a few copies of x.

    Args:
        x: (N,) whole numbers.
    Returns:
        uniques (K,), ascending, of x's dtype, and indices (K,) int64 with x[indices] == uniques.
    Raises:
        TypeError, ValueError: x is no tensor of one axis.
    """
    _require_tensor(x, ndim=1)
    ordered, places = x.sort(stable=True)  # equal values stay in their order
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first], places[first]
