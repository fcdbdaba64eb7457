"""Numerical gradients against analytic ones, and the verdict lines."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.checks import (
    CheckFailed,
    check,
    compute_numeric_gradient,
    eval_numerical_gradient,
    eval_numerical_gradient_array,
    grad_check_sparse,
    rel_error,
)

# f and its gradient, for entries between -2 and 2.
FUNCTIONS = {
    "sum of squares": (lambda x: np.sum(x**2), lambda x: 2 * x),
    "sine times cosine of the neighbour": (
        lambda x: np.sum(np.sin(x) * np.cos(np.roll(x, 1))),
        lambda x: np.cos(x) * np.cos(np.roll(x, 1)) - np.sin(np.roll(x, -1)) * np.sin(x),
    ),
    "log of a sum": (lambda x: np.log(np.sum(np.exp(x))), lambda x: np.exp(x) / np.sum(np.exp(x))),
    "constant": (lambda x: 3.0, lambda x: 0 * x),
}
shapes = st.sampled_from([(), (1,), (5,), (3, 4), (2, 3, 2), (0,), (2, 0)])
layouts = st.sampled_from(["as it is", "transposed", "every second", "reversed"])


def strided(x, how):
    """A writable view with the same values and another memory layout."""
    if how == "transposed":
        return np.ascontiguousarray(x.T).T
    if how == "every second" and x.ndim:
        return np.repeat(x, 2, axis=0)[::2]
    if how == "reversed" and x.ndim:
        return np.ascontiguousarray(x[::-1])[::-1]
    return x


def numbers(seed, shape):
    return np.asarray(np.random.RandomState(seed).uniform(-2, 2, shape))


# Relative error ----------------------------------------------------------------------------------------------


@given(hnp.arrays(np.float64, (4, 3), elements=st.floats(-1e6, 1e6)), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_rel_error_is_the_largest_of_the_entries(x, seed):
    y = x + np.random.RandomState(seed).choice([0.0, 1e-9, 0.1], x.shape)
    entries = [abs(a - b) / max(1e-8, abs(a) + abs(b)) for a, b in zip(x.flat, y.flat, strict=True)]
    assert rel_error(x, y) == rel_error(y, x) == max(entries)


@pytest.mark.parametrize(
    ("x", "y", "error"),
    [
        (1.0, 1.0, 0.0),
        (0.0, 0.0, 0.0),
        (1.0, -1.0, 1.0),
        (3, 1, 0.5),
        ([1, 2], [1, 6], 0.5),
        (0.0, 1e-9, 0.1),  # the denominator is never below 1e-8
        (np.zeros(0), np.zeros(0), 0.0),
        (np.array([200], np.uint8), np.array([100], np.uint8), 1 / 3),  # bytes neither wrap in - nor in +
    ],
)
def test_rel_error_by_hand(x, y, error):
    assert rel_error(x, y) == pytest.approx(error, abs=1e-15)
    assert isinstance(rel_error(x, y), float)


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_rel_error_passes_nan_on(shape):
    x = np.zeros(shape)
    y = x.copy()
    y[(0,) * len(shape)] = np.nan
    assert np.isnan(rel_error(x, y))
    assert np.isnan(rel_error(y, x))
    assert np.isnan(rel_error(y, y))


@pytest.mark.parametrize(("x", "y"), [((3,), (3, 1)), ((2,), (3,)), ((), (1,)), ((2, 3), (3, 2))])
def test_rel_error_wants_equal_shapes(x, y):
    with pytest.raises(ValueError, match=re.escape(f"{x} and {y}")):
        rel_error(np.zeros(x), np.zeros(y))


def test_rel_error_of_tensors():
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    assert rel_error(x, np.full(3, 3.0)) == 0.5


# Numerical gradients -----------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(FUNCTIONS)), st.integers(0, 2**31), shapes, layouts)
@settings(max_examples=80, deadline=None)
def test_gradient_of_a_scalar_function(name, seed, shape, how):
    f, df = FUNCTIONS[name]
    x = strided(numbers(seed, shape), how)
    if name == "log of a sum" and not x.size:
        return
    before = x.copy()
    got = eval_numerical_gradient(f, x)
    assert got.shape == x.shape
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, df(x), atol=1e-8)
    assert x.tobytes() == before.tobytes()


@given(st.integers(0, 2**31), shapes, layouts)
@settings(max_examples=60, deadline=None)
def test_gradient_of_an_array_function(seed, shape, how):
    """f = A x, so the gradient of sum(f(x) * df) is A^T df; f = x returns the very array that is perturbed."""
    x = strided(numbers(seed, shape), how)
    rng = np.random.RandomState(seed)
    A, before = rng.randn(4, x.size), x.copy()
    upstream = rng.randn(4)
    got = eval_numerical_gradient_array(lambda x: A @ x.ravel(), x, upstream)
    np.testing.assert_allclose(got, (A.T @ upstream).reshape(x.shape), atol=1e-8)
    upstream = rng.randn(*x.shape)
    np.testing.assert_allclose(eval_numerical_gradient_array(lambda x: x, x, upstream), upstream, atol=1e-8)
    assert x.tobytes() == before.tobytes()


def test_entries_are_restored_bit_for_bit():
    """0.1 + h - h is not 0.1, and -0.0 + h - h is +0.0."""
    x = np.array([0.1, -0.0, 1e300, 1e-300, 1 / 3])
    before = x.tobytes()
    eval_numerical_gradient(lambda x: np.sum(x[[0, 1, 4]]), x)
    eval_numerical_gradient_array(lambda x: x, x, np.ones(5))
    grad_check_sparse(np.sum, x, np.ones(5), 20, seed=0, verbose=False)
    assert x.tobytes() == before


def test_entries_are_restored_when_the_function_raises():
    x = np.array([0.1, 0.2])
    before = x.tobytes()

    def f(x):
        if x[1] != 0.2:
            raise RuntimeError("no")
        return 0.0

    with pytest.raises(RuntimeError):
        eval_numerical_gradient(f, x)
    assert x.tobytes() == before


@pytest.mark.parametrize("fails_at", range(2, 6))
def test_tensors_are_restored_when_f_raises(fails_at):
    x = torch.arange(4.0, dtype=torch.float64)
    calls = []

    def f(x):
        calls.append(1)
        if len(calls) == fails_at:
            raise RuntimeError("no")
        return x**2

    with pytest.raises(RuntimeError, match="no"):
        compute_numeric_gradient(f, x)
    assert torch.equal(x, torch.arange(4.0, dtype=torch.float64))


def test_nan_passes_through_gradients():
    x = np.array([1.0, np.nan])
    assert np.isnan(eval_numerical_gradient(np.sum, x)).all()
    assert np.isnan(eval_numerical_gradient_array(lambda x: x**2, x, np.ones(2))[1])
    errors = grad_check_sparse(lambda x: np.nan, np.ones(2), np.ones(2), 3, seed=0, verbose=False)
    assert np.isnan(errors).all()


@pytest.mark.parametrize(
    "x", [np.arange(3), np.arange(3, dtype=np.uint8), np.array([True]), np.ones(2, complex), [1.0, 2.0], 1.0]
)
def test_only_arrays_of_floats(x):
    """An image of bytes would be truncated back to itself, and every gradient be 0."""
    for call in (
        lambda: eval_numerical_gradient(np.sum, x),
        lambda: eval_numerical_gradient_array(np.sum, x, 1.0),
        lambda: grad_check_sparse(np.sum, x, np.ones(3)),
    ):
        with pytest.raises(TypeError, match=r"x must be an array of floats, got .*float64"):
            call()


def test_float32_is_warned_about():
    with pytest.warns(RuntimeWarning, match="float32"):
        got = eval_numerical_gradient(lambda x: np.sum(x.astype(np.float64) ** 2), np.ones(3, np.float32), h=1e-2)
    np.testing.assert_allclose(got, 2, rtol=1e-3)


def test_upstream_gradient_of_another_shape():
    with pytest.raises(ValueError, match=r"df has shape \(3,\), but f\(x\) has shape \(2,\)"):
        eval_numerical_gradient_array(lambda x: x, np.ones(2), np.ones(3))


def test_verbose_prints_every_entry(capsys):
    eval_numerical_gradient(np.sum, np.ones((2, 2)), verbose=True)
    assert [line.split(")")[0] for line in capsys.readouterr().out.splitlines()] == ["(0, 0", "(0, 1", "(1, 0", "(1, 1"]


# Sparse checks -----------------------------------------------------------------------------------------------


def test_sparse_check_tells_right_from_wrong(capsys):
    x = numbers(0, (5, 6))
    right = grad_check_sparse(lambda x: np.sum(x**3), x, 3 * x**2, 12, seed=1)
    assert right.shape == (12,)
    assert right.max() < 1e-6
    assert len(capsys.readouterr().out.splitlines()) == 12
    wrong = grad_check_sparse(lambda x: np.sum(x**3), x, 3 * x**2 + 0.1, 12, seed=1, verbose=False)
    assert wrong.min() > 1e-4
    assert capsys.readouterr().out == ""


def test_sparse_check_of_zero_gradients_is_no_division_by_zero():
    assert np.array_equal(grad_check_sparse(lambda x: 1.0, np.ones(3), np.zeros(3), 4, verbose=False), np.zeros(4))


def test_sparse_check_draws_by_seed(capsys):
    x = numbers(0, (50,))
    lines = []
    for seed in (3, 3, 4):
        grad_check_sparse(lambda x: np.sum(x**2), x, 2 * x, 5, seed=seed)
        lines.append(capsys.readouterr().out)
    assert lines[0] == lines[1] != lines[2]
    state = np.random.get_state()[1].copy()
    grad_check_sparse(np.sum, x, np.ones(50), seed=0, verbose=False)
    assert np.array_equal(np.random.get_state()[1], state)  # a seed leaves the global generator alone


def test_sparse_check_wants_a_gradient_of_the_shape_of_x():
    with pytest.raises(ValueError, match=r"analytic_grad has shape \(3,\), but x has shape \(2,\)"):
        grad_check_sparse(np.sum, np.ones(2), np.ones(3))


# Torch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["contiguous", "transposed", "sliced"])
def test_torch_gradient_is_autograds(how):
    base = torch.linspace(-2, 2, 24, dtype=torch.float64)
    x = {"contiguous": base.view(4, 6), "transposed": base.view(6, 4).t(), "sliced": base.view(2, 12)[:, ::2]}[how]
    before = x.clone()
    upstream = torch.linspace(1, 3, x.numel(), dtype=torch.float64).view(x.shape)
    leaf = x.clone().requires_grad_()
    (want,) = torch.autograd.grad((torch.tanh(leaf) * upstream).sum(), leaf)
    got = compute_numeric_gradient(torch.tanh, x, upstream)
    assert got.dtype == torch.float64
    assert torch.allclose(got, want, atol=1e-7)
    assert torch.equal(x, before)
    assert torch.allclose(compute_numeric_gradient(torch.tanh, x), 1 - torch.tanh(x) ** 2, atol=1e-7)
    assert torch.allclose(compute_numeric_gradient(lambda x: x, x, upstream), upstream, atol=1e-7)


@pytest.mark.parametrize("x", [torch.ones(2), torch.ones(2, dtype=torch.int64), np.ones(2)])
def test_torch_gradient_wants_float64(x):
    with pytest.raises(TypeError, match="x must be a float64 tensor, got"):
        compute_numeric_gradient(lambda x: x, x)


# Verdicts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "line"),
    [
        (("it holds", True), {}, "ok  it holds"),
        (("it holds", np.bool_(True)), {}, "ok  it holds"),
        (("labels agree", np.arange(3), [0, 1, 2]), {}, "ok  labels agree  (exactly equal)"),
        (("words agree", "cat", "cat"), {}, "ok  words agree  (exactly equal)"),
        (("dx", 1.0, 1.0 + 1e-9), {"rel": 1e-7}, "ok  dx  (rel. error < 1e-07)"),
        (("the loss is ln 10", 2.31, np.log(10)), {"atol": 0.05}, "ok  the loss is ln 10  (abs. error < 0.05)"),
        (("bytes", np.array([3], np.uint8), np.array([4], np.uint8)), {"atol": 2}, "ok  bytes  (abs. error < 2)"),
        (("a", 0.3), {"above": 0.1}, "ok  a  (> 0.1)"),
        (("a", [0.3, 0.4]), {"below": 0.5}, "ok  a  (< 0.5)"),
        (("a", 0.3), {"above": 0.1, "below": 0.5}, "ok  a  (0.1 to 0.5)"),
        (("a tensor", torch.ones(2), torch.ones(2)), {}, "ok  a tensor  (exactly equal)"),
    ],
)
def test_a_claim_that_holds_prints_one_line(capsys, arguments, options, line):
    check(*arguments, **options)
    assert capsys.readouterr().out == line + "\n"


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        (("it holds", False), {}, "it holds: this is not so"),
        (("labels", [0, 1], [0, 2]), {}, "labels  (exactly equal): 1 of 2 entries differs"),
        (("shapes", [0, 1], [[0, 1]]), {}, "shapes  (exactly equal): got shape (2,), expected (1, 2)"),
        (("dx", 1.0, 3.0), {"rel": 0.1}, "dx  (rel. error < 1e-01): got 1, expected 3, rel. error 0.5"),
        (("loss", 1.0, 3.0), {"atol": 0.1}, "loss  (abs. error < 0.1): got 1, expected 3"),
        (("loss", 1.0, 1.5), {"atol": 0.5}, "got 1, expected 1.5"),  # the bound itself is not below the bound
        (("a", 0.05), {"above": 0.1}, "a  (> 0.1): measured 0.05"),
        (("a", 0.1), {"above": 0.1}, "measured 0.1"),
        (("a", [0.2, 0.9]), {"below": 0.5}, "measured [0.2 0.9]"),
        (("nan", np.nan), {"above": 0.1}, "measured nan"),
        (("nan", np.nan), {"below": 0.1}, "measured nan"),
        (("nan", np.nan, np.nan), {}, "got nan"),
        (("nan", [1.0, np.nan], [1.0, np.nan]), {"rel": 1e-3}, "rel. error nan"),
        (("nan", [1.0, np.nan], [1.0, 2.0]), {"atol": 1e-3}, "abs. error nan"),
        (("bytes", np.array([3], np.uint8), np.array([4], np.uint8)), {"atol": 0.5}, "abs. error 1"),
    ],
)
def test_a_claim_that_fails_raises_with_the_measured_value(capsys, arguments, options, says):
    with pytest.raises(CheckFailed, match=re.escape(says)) as raised:
        check(*arguments, **options)
    assert isinstance(raised.value, AssertionError)
    assert capsys.readouterr().out == ""


def test_long_arrays_are_shortened_in_the_message():
    with pytest.raises(CheckFailed) as raised:
        check("long", np.arange(10000), np.zeros(10000))
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("options", [{"rel": 1e-3}, {"atol": 1e-3}])
def test_a_tolerance_needs_something_to_compare_with(options):
    with pytest.raises(ValueError, match="pass it as the third argument"):
        check("a", 1.0, **options)
    with pytest.raises(ValueError, match="compare numbers, the wanted value has dtype"):
        check("a", 1.0, "one", **options)


@pytest.mark.parametrize("options", [{}, {"rel": 1e-3}, {"atol": 1e-3}])
def test_other_shapes_are_a_failure_of_the_claim(options):
    with pytest.raises(CheckFailed, match=r"^the loss .*: got shape \(10,\), expected \(\)"):
        check("the loss", np.ones(10), 1.0, **options)


@pytest.mark.parametrize("got", [None, (np.ones(3), {"cache": 1}), "three", {"x": 1}])
@pytest.mark.parametrize("options", [{"want": 1.5}, {"want": np.ones(3), "rel": 1e-3}, {"above": 2.0}])
def test_what_is_no_number_fails_the_claim(got, options):
    with pytest.raises(CheckFailed, match=r"^the loss .*: got (None|a tuple of 2|'three'|{'x': 1}), expected "):
        check("the loss", got, **options)


def test_hints_belong_to_a_wanted_value(capsys):
    check("equal", 1, 1, hints={"with a mistake": lambda: 1 / 0})
    assert capsys.readouterr().out == "ok  equal  (exactly equal)\n"  # and nothing was computed
    for arguments, hints in ((("a", True), {"b": 1}), (("a", 1, 1), ["b"])):
        with pytest.raises(ValueError, match="hints is a dict of what mistakes give, beside a wanted value"):
            check(*arguments, hints=hints)


@pytest.mark.parametrize("got", [np.array([True, False]), 2.3, np.nan, 1, "yes", [], None])
def test_only_truth_values_stand_alone(got):
    """A forgotten wanted value, or np.isclose without all(), must not pass by accident."""
    with pytest.raises(ValueError, match="is not a truth value; say what it should be"):
        check("the loss is ln 10", got)


def test_truth_values_of_torch(capsys):
    check("all", (torch.ones(2) == 1).all())
    assert capsys.readouterr().out == "ok  all\n"
