"""Gradient checks of tensors, under the names of EECS 498.

Its relative error is one number for the whole array, measured by the largest entries: more lenient than
`common.checks.rel_error`, which takes the largest of the entries' own errors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from common.checks import compute_numeric_gradient
from common.validate import Stream, checked_count, stream

__all__ = ["compute_numeric_gradient", "grad_check_sparse", "rel_error"]


def rel_error(x: torch.Tensor, y: torch.Tensor, eps: float = 1e-10) -> float:
    """max |x - y| / max(|x| + |y|, eps), both maxima over all entries.

    Args:
        x, y: tensors of one shape.
        eps: keeps two zeros from dividing by zero.
    Returns:
        A float; NaN if either holds a NaN, 0 for empty tensors.
    Raises:
        ValueError: the shapes differ.
    """
    if x.shape != y.shape:
        raise ValueError(f"tensors to compare differ in shape: {tuple(x.shape)} and {tuple(y.shape)}")
    if not x.numel():
        return 0.0
    return ((x - y).abs().max() / (x.abs() + y.abs()).max().clamp(min=eps)).item()


def grad_check_sparse(
    f: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    analytic_grad: torch.Tensor,
    num_checks: int = 10,
    h: float = 1e-7,
    *,
    seed: Stream = None,
    verbose: bool = True,
) -> torch.Tensor:
    """Compare an analytic gradient with centred differences at a few random entries.

    Args:
        f: takes x and returns one number.
        x: float64 tensor; perturbed in place and restored.
        analytic_grad: gradient to test, of the shape of x.
        num_checks: how many entries, drawn with replacement.
        h: the step.
        seed: of the draw; None = NumPy's global stream.
        verbose: print one line for each entry.
    Returns:
        |numerical - analytic| / (|numerical| + |analytic| + 1e-12) of each, (num_checks,).
    Raises:
        TypeError: x is no float64 tensor.
        ValueError: the shapes differ.
    """
    if not torch.is_tensor(x) or x.dtype != torch.float64:
        raise TypeError(f"x must be a float64 tensor, got {getattr(x, 'dtype', type(x).__name__)}")
    if analytic_grad.shape != x.shape:
        raise ValueError(f"analytic_grad has shape {tuple(analytic_grad.shape)}, but x has shape {tuple(x.shape)}")
    draw, errors = stream(seed), []
    for _ in range(checked_count("num_checks", num_checks)):
        index = tuple(draw.randint(size) for size in x.shape)
        numeric, analytic = _difference(f, x, index, h), analytic_grad[index].item()
        errors.append(abs(numeric - analytic) / (abs(numeric) + abs(analytic) + 1e-12))
        if verbose:
            print(f"numerical: {numeric:f} analytic: {analytic:f}, relative error: {errors[-1]:e}")
    return torch.tensor(errors, dtype=torch.float64)


def _difference(f: Callable, x: torch.Tensor, index: tuple[int, ...], h: float) -> float:
    """(f(x + h) - f(x - h)) / 2h in one entry, which is put back whatever happens."""
    old = x[index].item()
    with torch.no_grad():
        try:
            x[index] = old + h
            above = float(f(x))
            x[index] = old - h
            return (above - float(f(x))) / (2 * h)
        finally:
            x[index] = old
