"""The naive convolution against fixed numbers, PyTorch in float64 and numerical gradients; every documented error."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.checks import eval_numerical_gradient_array, rel_error
from common.layers import conv_backward_naive, conv_forward_naive


def ramp(first, last, shape):
    return np.linspace(first, last, num=int(np.prod(shape))).reshape(shape)


@st.composite
def convolutions(draw, largest=3):
    """x, w, b, conv_param and dout of shapes that fit."""
    number = st.integers(1, largest)
    N, C, F, HH, WW, stride = (draw(number) for _ in range(6))
    pad = draw(st.integers(0, 2))
    # the smallest output whose input has at least one pixel
    H, W = (
        max(draw(st.integers(1, 4)), 1 + -(-(2 * pad + 1 - kernel) // stride)) * stride
        - stride
        + kernel
        - 2 * pad
        + draw(st.integers(0, stride - 1))  # pixels in no window
        for kernel in (HH, WW)
    )
    rng = np.random.RandomState(draw(st.integers(0, 99)))
    x, w, b = rng.randn(N, C, H, W), rng.randn(F, C, HH, WW), rng.randn(F)
    dout = rng.randn(N, F, 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride)
    return x, w, b, {"stride": stride, "pad": pad}, dout


def by_autograd(x, w, b, conv_param, dout):
    """out, dx, dw, db from PyTorch, in float64."""
    tensors = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in (x, w, b)]
    out = torch.nn.functional.conv2d(*tensors, stride=conv_param["stride"], padding=conv_param["pad"])
    grads = torch.autograd.grad(out, tensors, torch.tensor(dout.astype(np.float64)))
    return [out.detach().numpy(), *(grad.numpy() for grad in grads)]


@pytest.mark.learner
def test_fixed_numbers():
    x, w, b = ramp(-0.1, 0.5, (2, 3, 4, 4)), ramp(-0.2, 0.3, (3, 3, 4, 4)), ramp(-0.1, 0.2, 3)
    out, cache = conv_forward_naive(x, w, b, {"stride": 2, "pad": 1})
    assert out.shape == (2, 3, 2, 2)
    assert rel_error(out.sum(), 10.22358484) < 1e-8
    assert np.abs(out.ravel()[[0, -1]] - [-0.08759809, 2.38247847]).max() < 5e-9  # all printed digits
    assert cache[0] is x and cache[1] is w


@pytest.mark.learner
def test_numerical_gradient():
    rng = np.random.RandomState(231)
    x, w, b, dout = rng.randn(4, 3, 5, 5), rng.randn(2, 3, 3, 3), rng.randn(2), rng.randn(4, 2, 5, 5)
    param = {"stride": 1, "pad": 1}
    dx, dw, db = conv_backward_naive(dout, conv_forward_naive(x, w, b, param)[1])
    assert rel_error(dx, eval_numerical_gradient_array(lambda a: conv_forward_naive(a, w, b, param)[0], x, dout)) < 1e-7
    assert rel_error(dw, eval_numerical_gradient_array(lambda a: conv_forward_naive(x, a, b, param)[0], w, dout)) < 1e-7
    assert rel_error(db, eval_numerical_gradient_array(lambda a: conv_forward_naive(x, w, a, param)[0], b, dout)) < 1e-7


@pytest.mark.learner
@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_against_autograd(case):
    x, w, b, param, dout = case
    before = x.copy()
    out, cache = conv_forward_naive(x, w, b, param)
    for got, want in zip([out, *conv_backward_naive(dout, cache)], by_autograd(*case), strict=True):
        assert got.shape == want.shape  # dx without the padding
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
    assert np.array_equal(x, before)


@pytest.mark.learner
def test_one_pixel_filter_mixes_channels():
    x, w = np.random.RandomState(0).randn(2, 3, 4, 5), np.array([[0.3, 0.6, 0.1]]).reshape(1, 3, 1, 1)
    out, _ = conv_forward_naive(x, w, np.zeros(1), {"stride": 1, "pad": 0})
    np.testing.assert_allclose(out[:, 0], np.einsum("nchw,c->nhw", x, [0.3, 0.6, 0.1]))


@pytest.mark.learner
def test_sizes_are_rounded_down():
    """3 x 3 filters with stride 2 and padding 1 on 32 x 32 pictures: the course's cell. PyTorch rounds down as well."""
    rng = np.random.RandomState(0)
    x, w, b, param = rng.randn(2, 3, 32, 32), rng.randn(2, 3, 3, 3), rng.randn(2), {"stride": 2, "pad": 1}
    out, cache = conv_forward_naive(x, w, b, param)
    dout = rng.randn(2, 2, 16, 16)
    for got, want in zip([out, *conv_backward_naive(dout, cache)], by_autograd(x, w, b, param, dout), strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)


@pytest.mark.robustness
def test_float32_stays_float32():
    x, w, b = (np.ones(shape, np.float32) for shape in ((1, 1, 3, 3), (1, 1, 3, 3), 1))
    out, cache = conv_forward_naive(x, w, b, {"stride": 1, "pad": 1})
    assert {a.dtype for a in (out, *conv_backward_naive(out, cache))} == {np.dtype(np.float32)}


X, W, B = np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), np.ones(4)
BAD = {
    "kernel above the padded input": ((np.ones((2, 3, 2, 5)), W, B, {"stride": 1, "pad": 0}), "does not fit"),
    "kernel wider than the padded input": ((np.ones((2, 3, 5, 2)), W, B, {"stride": 1, "pad": 0}), "does not fit"),
    "three axes": ((X[0], W, B, {"stride": 1, "pad": 0}), "x .N, C, H, W"),
    "filters with three axes": ((X, W[0], B, {"stride": 1, "pad": 0}), "w .F, C, HH, WW"),
    "other channels": ((X[:, :2], W, B, {"stride": 1, "pad": 0}), r"\(2, 2, 5, 5\)"),
    "other biases": ((X, W, B[:3], {"stride": 1, "pad": 0}), r"\(3,\)"),
    "empty batch": ((X[:0], W, B, {"stride": 1, "pad": 0}), "none empty"),
    "stride 0": ((X, W, B, {"stride": 0, "pad": 0}), "stride must be .* got 0"),
    "stride 1.5": ((X, W, B, {"stride": 1.5, "pad": 0}), "stride must be .* got 1.5"),
    "an entry of another name": ((X, W, B, {"strid": 2, "pad": 1}), "conv_param holds strid; its entries are"),
    "pad -1": ((X, W, B, {"stride": 1, "pad": -1}), "pad must be .* got -1"),
}


@pytest.mark.robustness
@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    arguments, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        conv_forward_naive(*arguments)


@pytest.mark.robustness
@pytest.mark.parametrize("place", range(2))
def test_whole_numbers_are_refused(place):
    arrays = [X, W, B]
    arrays[place] = arrays[place].astype(int)
    with pytest.raises(TypeError, match=f"{'xwb'[place]} must hold floating-point numbers, got int64"):
        conv_forward_naive(*arrays, {"stride": 1, "pad": 1})


@pytest.mark.robustness
def test_biases_may_be_whole_numbers():
    """The source course adds np.array([0, 128]) to its grey pictures."""
    want, _ = conv_forward_naive(X, W, B, {"pad": 1})
    out, cache = conv_forward_naive(X, W, B.astype(int), {"pad": 1})
    assert out.dtype == X.dtype and np.array_equal(out, want)
    _, _, db = conv_backward_naive(np.full_like(out, 0.5), cache)
    assert db.dtype == X.dtype and np.allclose(db, 0.5 * out[:, 0].size)
    with pytest.raises(TypeError, match="b must hold real numbers, got complex128"):
        conv_forward_naive(X, W, B.astype(complex), {"pad": 1})


@pytest.mark.robustness
def test_dout_of_another_shape():
    _, cache = conv_forward_naive(X, W, B, {"stride": 1, "pad": 1})
    with pytest.raises(ValueError, match=r"output's shape \(2, 4, 5, 5\), got \(2, 4, 3, 3\)"):
        conv_backward_naive(np.ones((2, 4, 3, 3)), cache)
