"""Numerical gradients, relative errors, and the verdict lines that the notebooks print."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np


class CheckFailed(AssertionError):
    """A claim of the notebook does not hold; the message carries the measured value."""


def check(
    claim: str,
    got: Any,
    want: Any = None,
    *,
    rel: float | None = None,
    atol: float | None = None,
    below: float | None = None,
    above: float | None = None,
) -> None:
    """Print a verdict with its threshold, or raise.

        check("the mask is boolean", mask.dtype == bool)
        check("labels agree", predicted, expected)                        exactly equal
        check("dx matches the numerical gradient", dx, dx_num, rel=1e-7)  largest relative error
        check("the loss is ln 10", loss, np.log(10), atol=0.05)           largest absolute error
        check("accuracy beats chance", accuracy, above=0.1)               a bound; also below=

    Args:
        claim: what holds, as a sentence without a full stop.
        got: a truth value, a number or an array (NumPy or torch).
        want: what `got` should be; None when `got` is a truth value or is compared with a bound.
    Raises:
        CheckFailed: the claim does not hold, or a value compared is NaN.
        ValueError: `got` and `want` differ in shape, or the arguments do not fit together.
    """
    if (rel is not None or atol is not None) and want is None:
        raise ValueError("check: rel and atol compare with a wanted value; pass it as the third argument")
    if want is not None and rel is not None:
        error, bound = rel_error(got, want), f"rel. error < {rel:.0e}"
        _verdict(claim, error < rel, bound, f"rel. error {error:.3g}")
    elif want is not None and atol is not None:
        error, bound = _abs_error(got, want), f"abs. error < {atol:g}"
        _verdict(claim, error < atol, bound, f"abs. error {error:.3g}")
    elif want is not None:
        _verdict(claim, _equal(got, want), "exactly equal", f"got {_short(got)}, expected {_short(want)}")
    elif below is not None or above is not None:
        low, high = (-np.inf if above is None else above), (np.inf if below is None else below)
        bound = f"> {low:g}" if below is None else f"< {high:g}" if above is None else f"{low:g} to {high:g}"
        values = _array(got)
        _verdict(claim, bool(np.all((low < values) & (values < high))), bound, f"measured {_short(got)}")
    elif _array(got).dtype == bool and _array(got).size == 1:
        _verdict(claim, bool(got), "", "it does not")
    else:
        raise ValueError(f"check: {_short(got)} is not a truth value; say what it should be (want, below or above)")


def _verdict(claim: str, holds: bool, bound: str, measured: str) -> None:
    """One line for the reader when the claim holds, an exception when it does not."""
    threshold = f"  ({bound})" if bound else ""
    if not holds:
        raise CheckFailed(f"{claim}{threshold}: {measured}")
    print(f"ok  {claim}{threshold}")


def _array(x: Any) -> np.ndarray:
    """A NumPy array of a number, a list, an array or a torch tensor on any device."""
    if hasattr(x, "detach"):
        x = x.detach().cpu().numpy()
    return np.asarray(x)


def _pair(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = _array(x), _array(y)
    if x.shape != y.shape:
        raise ValueError(f"arrays to compare differ in shape: {x.shape} and {y.shape}")
    return x, y


def _equal(x: Any, y: Any) -> bool:
    x, y = _array(x), _array(y)
    return x.shape == y.shape and bool(np.all(x == y))


def _abs_error(x: Any, y: Any) -> float:
    x, y = _pair(x, y)
    return float(np.max(np.abs(x.astype(np.float64) - y.astype(np.float64)), initial=0.0))


def _short(x: Any) -> str:
    return np.array2string(_array(x), precision=6, threshold=20, edgeitems=3)


def rel_error(x: Any, y: Any) -> float:
    """Largest elementwise relative error, max |x - y| / max(1e-8, |x| + |y|).

    Args:
        x, y: numbers or arrays of one shape.
    Returns:
        A float; NaN if either holds a NaN, 0 for empty arrays.
    Raises:
        ValueError: the shapes differ.
    """
    x, y = (a.astype(np.float64) for a in _pair(x, y))
    return float(np.max(np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y)), initial=0.0))


def _require_float(x: np.ndarray, where: str) -> None:
    """An integer array truncates x + h back to x, so every difference would be 0."""
    if not (isinstance(x, np.ndarray) and np.issubdtype(x.dtype, np.floating)):
        kind = getattr(x, "dtype", type(x).__name__)
        raise TypeError(f"{where}: x must be an array of floats, got {kind}; convert with x.astype(np.float64)")
    if x.dtype != np.float64:
        warnings.warn(
            f"{where}: x is {x.dtype}; steps of 1e-5 lose most digits, use np.float64",
            RuntimeWarning,
            stacklevel=3,
        )


def eval_numerical_gradient(
    f: Callable[[np.ndarray], float], x: np.ndarray, verbose: bool = False, h: float = 1e-5
) -> np.ndarray:
    """Gradient of a scalar function by centred differences, (f(x + h) - f(x - h)) / 2h for every entry.

    Args:
        f: takes x and returns a number.
        x: float64 array of any shape; perturbed in place, restored bit for bit.
        verbose: print every entry.
        h: the step.
    Returns:
        Array of the shape of x.
    Raises:
        TypeError: x is not an array of floats.
    """
    _require_float(x, "eval_numerical_gradient")
    grad = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        grad[index] = (_at(f, x, index, +h) - _at(f, x, index, -h)) / (2 * h)
        if verbose:
            print(index, grad[index])
    return grad


def eval_numerical_gradient_array(
    f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, df: np.ndarray, h: float = 1e-5
) -> np.ndarray:
    """Gradient of sum(f(x) * df): what a layer's backward pass returns for the upstream gradient df.

    Args:
        f: takes x and returns an array.
        x: float64 array of any shape; perturbed in place, restored bit for bit.
        df: upstream gradient of the shape of f(x).
        h: the step.
    Returns:
        Array of the shape of x.
    Raises:
        TypeError: x is not an array of floats.
        ValueError: df and f(x) differ in shape.
    """
    _require_float(x, "eval_numerical_gradient_array")
    if np.shape(f(x)) != np.shape(df):
        raise ValueError(f"df has shape {np.shape(df)}, but f(x) has shape {np.shape(f(x))}")
    grad = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        difference = _at(f, x, index, +h) - _at(f, x, index, -h)
        grad[index] = np.sum(difference * df) / (2 * h)
    return grad


def _at(f: Callable, x: np.ndarray, index: tuple, step: float) -> Any:
    """f with one entry of x moved by step. The result is copied: f may return x itself or a view of it."""
    old = x[index]
    x[index] = old + step
    try:
        return np.array(f(x), copy=True)
    finally:
        x[index] = old


def grad_check_sparse(
    f: Callable[[np.ndarray], float],
    x: np.ndarray,
    analytic: np.ndarray,
    num_checks: int = 10,
    h: float = 1e-5,
    *,
    seed: int | None = None,
    verbose: bool = True,
) -> np.ndarray:
    """Compare an analytic gradient with centred differences at a few random entries.

    Args:
        f: takes x and returns a number.
        x: float64 array; perturbed in place and restored.
        analytic: gradient to test, of the shape of x.
        num_checks: how many entries, drawn with replacement.
        h: the step.
        seed: of the draw; None draws from NumPy's global generator.
        verbose: print one line for each entry.
    Returns:
        Relative errors, (num_checks,).
    Raises:
        TypeError: x is not an array of floats.
        ValueError: the shapes differ.
    """
    _require_float(x, "grad_check_sparse")
    if np.shape(analytic) != x.shape:
        raise ValueError(f"analytic has shape {np.shape(analytic)}, but x has shape {x.shape}")
    draw = np.random if seed is None else np.random.RandomState(seed)
    errors = np.zeros(num_checks)
    for i in range(num_checks):
        index = tuple(draw.randint(size) for size in x.shape)
        numeric = float(_at(f, x, index, +h) - _at(f, x, index, -h)) / (2 * h)
        errors[i] = rel_error(numeric, analytic[index])
        if verbose:
            print(f"numerical {numeric: .6f}  analytic {analytic[index]: .6f}  relative error {errors[i]:.1e}")
    return errors


def compute_numeric_gradient(f: Callable, x: Any, dLdf: Any = None, h: float = 1e-7) -> Any:
    """The torch twin of `eval_numerical_gradient_array`: gradient of sum(f(x) * dLdf), float64.

    Args:
        f: takes x and returns a tensor.
        x: float64 tensor of any shape, contiguous or not; perturbed in place and restored.
        dLdf: upstream gradient of the shape of f(x); None means ones.
        h: the step.
    Returns:
        Tensor of the shape of x.
    Raises:
        TypeError: x is not a float64 tensor.
    """
    torch = sys.modules.get("torch") or __import__("torch")
    if not torch.is_tensor(x) or x.dtype != torch.float64:
        raise TypeError(f"x must be a float64 tensor, got {getattr(x, 'dtype', type(x).__name__)}")
    with torch.no_grad():
        upstream = torch.ones_like(f(x)) if dLdf is None else dLdf
        grad = torch.zeros_like(x)
        for index in np.ndindex(*x.shape):
            difference = _tensor_at(f, x, index, +h) - _tensor_at(f, x, index, -h)
            grad[index] = (difference * upstream).sum() / (2 * h)
    return grad


def _tensor_at(f: Callable, x: Any, index: tuple, step: float) -> Any:
    """`_at` for tensors: f with one entry of x moved by step, x put back whatever happens."""
    old = x[index].item()
    x[index] = old + step
    try:
        return f(x).clone()
    finally:
        x[index] = old
