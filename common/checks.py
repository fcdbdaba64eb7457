"""Numerical gradients, relative errors, and the verdict lines that the notebooks print."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from common import verdicts
from common.verdicts import CheckFailed, install
from common.verdicts.difference import BROKEN, as_array, describe_bounds, errors, is_numeric, short
from common.verdicts.hints import explain

__all__ = [
    "CheckFailed",
    "check",
    "compute_numeric_gradient",
    "eval_numerical_gradient",
    "eval_numerical_gradient_array",
    "grad_check_sparse",
    "install",
    "rel_error",
]


def check(
    claim: str,
    got: Any,
    want: Any = None,
    *,
    rel: float | None = None,
    atol: float | None = None,
    below: float | None = None,
    above: float | None = None,
    hints: Mapping[str, Any] | None = None,
) -> None:
    """Print a verdict with its threshold; a failure says what differs and, where it can be computed, why.

        check("the mask is boolean", mask.dtype == bool)
        check("labels agree", predicted, expected)                        exactly equal
        check("dx matches the numerical gradient", dx, dx_num, rel=1e-7)  largest relative error
        check("the loss is ln 10", loss, np.log(10), atol=0.05)           largest absolute error
        check("accuracy beats chance", accuracy, above=0.1)               a bound; also below=

    Args:
        claim: what holds, as a sentence without a full stop.
        got: a truth value, a number or an array (NumPy or torch).
        want: what `got` should be; None when `got` is a truth value or is compared with a bound.
        hints: what typical mistakes give instead, as {"without regularisation": array}; a function is called only
            after a failure, which then says "got is what comes out without regularisation".
    Raises:
        CheckFailed: the claim does not hold, the shapes differ, or a value compared is NaN. In a notebook it is raised
            at the end of the cell, after its other checks (see `install`).
        ValueError: the arguments do not fit together.
    """
    if want is None and (rel is not None or atol is not None):
        raise ValueError("check: rel and atol compare with a wanted value; pass it as the third argument")
    if hints is not None and (want is None or not isinstance(hints, Mapping)):
        raise ValueError("check: hints is a dict of what mistakes give, beside a wanted value as the third argument")
    if want is not None:
        _compare(claim, got, want, rel, atol, hints)
    elif below is not None or above is not None:
        _bounds(claim, got, below, above)
    elif as_array(got).dtype == bool and as_array(got).size == 1:
        verdicts.passed(claim, "") if got else verdicts.failed(claim, "", "this is not so", [])
    else:
        raise ValueError(f"check: {short(got)} is not a truth value; say what it should be (want, below or above)")


def _compare(
    claim: str, got: Any, want: Any, rel: float | None, atol: float | None, hints: Mapping[str, Any] | None
) -> None:
    """A verdict about two values, with the rule that rel, atol or neither asks for."""
    if rel is not None:
        bound = f"rel. error < {rel:.0e}"
    else:
        bound = "exactly equal" if atol is None else f"abs. error < {atol:g}"
    if _agree(got, want, rel, atol):
        verdicts.passed(claim, bound)
    else:
        verdicts.failed(claim, bound, *explain(got, want, rel, atol, hints or {}))


def _agree(got: Any, want: Any, rel: float | None, atol: float | None) -> bool:
    y = as_array(want)
    if rel is not None or atol is not None:
        if not is_numeric(y):
            raise ValueError(f"check: rel and atol compare numbers, the wanted value has dtype {y.dtype}")
        x = _numbers(got)
        if x is None or x.shape != y.shape:
            return False
        error = errors(x, y, relative=rel is not None).max(initial=0.0)
        return bool(error < (atol if rel is None else rel))
    try:
        x = as_array(got)
    except BROKEN:
        return False
    return x.shape == y.shape and bool(np.all(x == y))


def _bounds(claim: str, got: Any, below: float | None, above: float | None) -> None:
    """A verdict about a number, or all numbers of an array, that have to lie between two others."""
    low, high = (-np.inf if above is None else above), (np.inf if below is None else below)
    bound = f"> {low:g}" if below is None else f"< {high:g}" if above is None else f"{low:g} to {high:g}"
    values = _numbers(got)
    if values is None:
        verdicts.failed(claim, bound, f"got {short(got)}, expected numbers", [])
    elif np.all((low < values) & (values < high)):
        verdicts.passed(claim, bound)
    else:
        verdicts.failed(claim, bound, *describe_bounds(values, low, high))


def _numbers(x: Any) -> np.ndarray | None:
    """An array of numbers; None of anything else, such as a tuple of arrays or the None of a missing `return`."""
    try:
        array = as_array(x)
    except BROKEN:
        return None
    return array if is_numeric(array) else None


def rel_error(x: Any, y: Any) -> float:
    """Largest elementwise relative error, max |x - y| / max(1e-8, |x| + |y|).

    Args:
        x, y: numbers or arrays of one shape.
    Returns:
        A float; NaN if either holds a NaN, 0 for empty arrays.
    Raises:
        ValueError: the shapes differ.
    """
    x, y = as_array(x), as_array(y)
    if x.shape != y.shape:
        raise ValueError(f"arrays to compare differ in shape: {x.shape} and {y.shape}")
    return float(errors(x, y, relative=True).max(initial=0.0))


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
    analytic_grad: np.ndarray,
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
        analytic_grad: gradient to test, of the shape of x.
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
    if np.shape(analytic_grad) != x.shape:
        raise ValueError(f"analytic_grad has shape {np.shape(analytic_grad)}, but x has shape {x.shape}")
    draw = np.random if seed is None else np.random.RandomState(seed)
    errors = np.zeros(num_checks)
    for i in range(num_checks):
        index = tuple(draw.randint(size) for size in x.shape)
        numeric = float(_at(f, x, index, +h) - _at(f, x, index, -h)) / (2 * h)
        errors[i] = rel_error(numeric, analytic_grad[index])
        if verbose:
            print(f"numerical {numeric: .6f}  analytic {analytic_grad[index]: .6f}  relative error {errors[i]:.1e}")
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
