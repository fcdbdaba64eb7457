"""The naive max-pooling against fixed numbers, PyTorch in float64 and numerical gradients; ties, NaN, every error."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.checks import eval_numerical_gradient_array, rel_error
from common.layers import max_pool_backward_naive, max_pool_forward_naive

HALF = {"pool_height": 2, "pool_width": 2, "stride": 2}


@st.composite
def pools(draw):
    """x, pool_param and dout of shapes that fit; few different values, so that there are ties."""
    N, C, height, width, stride, OH, OW = (draw(st.integers(1, 4)) for _ in range(7))
    rng = np.random.RandomState(draw(st.integers(0, 99)))
    left, over = (draw(st.integers(0, stride - 1)) for _ in range(2))  # rows and columns in no window
    x = rng.randint(0, 9, (N, C, (OH - 1) * stride + height + left, (OW - 1) * stride + width + over)).astype(float)
    return x, {"pool_height": height, "pool_width": width, "stride": stride}, rng.randn(N, C, OH, OW)


def by_autograd(x, pool_param, dout):
    """out and dx from PyTorch, in float64; its first maximum takes the gradient, too."""
    tensor = torch.tensor(x.astype(np.float64), requires_grad=True)
    window = pool_param["pool_height"], pool_param["pool_width"]
    out = torch.nn.functional.max_pool2d(tensor, window, pool_param["stride"])
    (dx,) = torch.autograd.grad(out, tensor, torch.tensor(dout.astype(np.float64)))
    return out.detach().numpy(), dx.numpy()


@pytest.mark.learner
def test_fixed_numbers():
    x = np.linspace(-0.3, 0.4, num=2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    out, cache = max_pool_forward_naive(x, HALF)
    assert out.shape == (2, 3, 2, 2)
    assert rel_error(out.sum(), 1.64210526) < 1e-8
    assert np.abs(out.ravel()[[0, -1]] - [-0.26315789, 0.4]).max() < 5e-9  # all printed digits
    assert cache[0] is x


@pytest.mark.learner
def test_numerical_gradient():
    rng = np.random.RandomState(231)
    x, dout = rng.randn(3, 2, 8, 8), rng.randn(3, 2, 4, 4)
    dx = max_pool_backward_naive(dout, max_pool_forward_naive(x, HALF)[1])
    want = eval_numerical_gradient_array(lambda a: max_pool_forward_naive(a, HALF)[0], x, dout)
    assert rel_error(dx, want) < 1e-7


@pytest.mark.learner
@settings(max_examples=60, deadline=None)
@given(pools())
def test_against_autograd(case):
    x, param, dout = case
    before = x.copy()
    out, cache = max_pool_forward_naive(x, param)
    for got, want in zip([out, max_pool_backward_naive(dout, cache)], by_autograd(*case), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    assert np.array_equal(x, before)


@pytest.mark.learner
def test_first_of_equal_maxima_takes_the_gradient():
    x = np.array([[[[1.0, 3.0], [3.0, 3.0]]]])
    dx = max_pool_backward_naive(np.array([[[[5.0]]]]), (x, HALF))
    assert np.array_equal(dx, [[[[0, 5], [0, 0]]]])


@pytest.mark.robustness
def test_nan_is_the_largest():
    x = np.array([[[[1.0, np.nan], [np.nan, 3.0]]]])
    out, cache = max_pool_forward_naive(x, HALF)
    assert np.isnan(out).all()
    assert np.array_equal(max_pool_backward_naive(np.ones((1, 1, 1, 1)), cache), [[[[0, 1], [0, 0]]]])


X = np.ones((2, 3, 5, 5))
BAD = {
    "window above the input": ((X, {"pool_height": 6, "pool_width": 2, "stride": 1}), "window of 6 does not fit"),
    "window wider than the input": ((X, {"pool_height": 2, "pool_width": 6, "stride": 1}), "window of 6 does not fit"),
    "an entry of another name": ((X, HALF | {"strides": 2}), "pool_param holds strides; its entries are pool_height"),
    "three axes": ((X[0], HALF), "x .N, C, H, W"),
    "empty batch": ((X[:0], HALF), "not empty"),
    "height 0": ((X, HALF | {"pool_height": 0}), "pool_height must be .* got 0"),
    "width 2.0": ((X, HALF | {"pool_width": 2.0}), "pool_width must be .* got 2.0"),
    "stride -1": ((X, HALF | {"stride": -1}), "stride must be .* got -1"),
}


@pytest.mark.robustness
@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    arguments, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        max_pool_forward_naive(*arguments)


@pytest.mark.robustness
def test_whole_numbers_are_refused():
    with pytest.raises(TypeError, match="x must hold floating-point numbers, got int64"):
        max_pool_forward_naive(np.ones((1, 1, 2, 2), int), HALF)


@pytest.mark.robustness
def test_a_missing_entry():
    with pytest.raises(KeyError, match="stride"):
        max_pool_forward_naive(X, {"pool_height": 2, "pool_width": 2})


@pytest.mark.robustness
def test_dout_of_another_shape():
    with pytest.raises(ValueError, match=r"output's shape \(1, 1, 2, 2\), got \(1, 1, 3, 3\)"):
        max_pool_backward_naive(np.ones((1, 1, 3, 3)), (np.ones((1, 1, 4, 4)), HALF))
