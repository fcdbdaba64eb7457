"""Inverted dropout: the expectation, the mask, the gradient, and what must not be accepted."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.checks import eval_numerical_gradient_array, rel_error
from common.layers import dropout_backward, dropout_forward

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4)
SEEDS = st.integers(0, 2**31 - 1)


@pytest.mark.learner
@pytest.mark.parametrize("keep_prob", [0.25, 0.4, 0.7, 1.0])
def test_means_stay_and_the_right_share_is_dropped(keep_prob):
    x = np.random.RandomState(231).randn(500, 500) + 10
    out, _ = dropout_forward(x, {"mode": "train", "keep_prob": keep_prob, "seed": 0})
    assert out.mean() == pytest.approx(x.mean(), rel=0.01)
    assert (out == 0).mean() == pytest.approx(1 - keep_prob, abs=0.005)


@pytest.mark.learner
@settings(max_examples=40, deadline=None)
@given(SHAPES, st.floats(0.01, 1), SEEDS)
def test_against_loops_and_autograd(shape, keep_prob, seed):
    """The mask of the documented stream: a number is kept where random_sample is below keep_prob."""
    rng = np.random.RandomState(seed)
    x, dout = rng.randn(*shape).T, rng.randn(*shape).T  # not contiguous
    out, cache = dropout_forward(x, {"mode": "train", "keep_prob": keep_prob, "seed": seed})
    drawn, want = np.random.RandomState(seed).random_sample(x.shape), np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        want[index] = x[index] / keep_prob if drawn[index] < keep_prob else 0.0
    np.testing.assert_allclose(out, want, rtol=1e-12)
    tx = torch.tensor(x, requires_grad=True)
    (tx * torch.tensor(drawn < keep_prob) / keep_prob).backward(torch.tensor(dout))
    np.testing.assert_allclose(dropout_backward(dout, cache), tx.grad, rtol=1e-12)


@pytest.mark.learner
@pytest.mark.parametrize("keep_prob", [0.2, 0.75, 1.0])
def test_against_the_numerical_gradient(keep_prob):
    rng = np.random.RandomState(231)
    x, dout = rng.randn(10, 10) + 10, rng.randn(10, 10)
    dropout_param = {"mode": "train", "keep_prob": keep_prob, "seed": 123}
    dx = dropout_backward(dout, dropout_forward(x, dropout_param)[1])
    numeric = eval_numerical_gradient_array(lambda x: dropout_forward(x, dropout_param)[0], x, dout)
    assert rel_error(dx, numeric) < 1e-9


@pytest.mark.learner
def test_testing_changes_nothing():
    x, dout = np.random.RandomState(0).randn(2, 4, 5)
    out, cache = dropout_forward(x, {"mode": "test", "keep_prob": 0.3})
    np.testing.assert_array_equal(out, x)
    np.testing.assert_array_equal(dropout_backward(dout, cache), dout)
    assert cache[1] is None


@pytest.mark.learner
def test_keeping_everything_changes_nothing():
    x = np.random.RandomState(0).randn(50, 50)
    out, cache = dropout_forward(x, {"mode": "train", "keep_prob": 1})
    np.testing.assert_array_equal(out, x)
    np.testing.assert_array_equal(dropout_backward(x, cache), x)


@pytest.mark.learner
@pytest.mark.parametrize("seed", [0, 7])
def test_a_seed_fixes_the_mask(seed):
    x, param = np.ones((20, 20)), {"mode": "train", "keep_prob": 0.5, "seed": seed}
    np.testing.assert_array_equal(dropout_forward(x, param)[0], dropout_forward(x, param)[0])
    other = dropout_forward(x, param | {"seed": seed + 1})[0]
    assert (dropout_forward(x, param)[0] != other).any()


@pytest.mark.learner
def test_a_seed_leaves_the_global_stream_alone():
    """Published solutions call np.random.seed, so that everything drawn later repeats as well."""
    np.random.seed(5)
    want = np.random.random_sample(3)
    np.random.seed(5)
    dropout_forward(np.ones((4, 4)), {"mode": "train", "keep_prob": 0.5, "seed": 1})
    np.testing.assert_array_equal(np.random.random_sample(3), want)


@pytest.mark.learner
def test_without_a_seed_every_call_draws_a_new_mask():
    x = np.ones((20, 20))
    for param in ({}, {"rng": np.random.RandomState(3)}):
        param = {"mode": "train", "keep_prob": 0.5, **param}
        assert (dropout_forward(x, param)[0] != dropout_forward(x, param)[0]).any()


@pytest.mark.learner
def test_streams_can_be_repeated():
    x, param = np.ones((9, 9)), {"mode": "train", "keep_prob": 0.5}
    first, again = (dropout_forward(x, param | {"rng": np.random.RandomState(3)})[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.random.seed(3)  # the global stream is the default one
    np.testing.assert_array_equal(dropout_forward(x, param)[0], first)


@pytest.mark.robustness
def test_the_course_calls_it_p():
    x = np.ones((30, 30))
    ours, theirs = ({"mode": "train", name: 0.3, "seed": 1} for name in ("keep_prob", "p"))
    np.testing.assert_array_equal(dropout_forward(x, ours)[0], dropout_forward(x, theirs)[0])


@pytest.mark.robustness
@pytest.mark.parametrize("mode", ["train", "test"])
def test_keeps_float32_and_its_arguments(mode):
    x, dout = np.random.RandomState(0).randn(2, 6, 7).astype(np.float32)
    param = {"mode": mode, "keep_prob": 0.3, "seed": 0}
    kept = x.copy(), dout.copy(), dict(param)
    out, cache = dropout_forward(x, param)
    dx = dropout_backward(dout, cache)
    assert out.dtype == dx.dtype == np.float32
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(dout, kept[1])
    assert param == kept[2]


@pytest.mark.robustness
@pytest.mark.parametrize("mode", ["eval", "TRAIN", None, "missing"])
def test_another_mode_is_named(mode):
    param = {"keep_prob": 0.5} | ({} if mode == "missing" else {"mode": mode})
    with pytest.raises(ValueError, match=r'dropout_param.*mode.*"train" or "test"'):
        dropout_forward(np.ones(3), param)


@pytest.mark.robustness
@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("keep_prob", [0, -0.5, 1.5, np.nan, None])
def test_keep_prob_outside_of_its_range_is_named(mode, keep_prob):
    for name in ("keep_prob", "p"):
        with pytest.raises(ValueError, match=r"keep_prob.*\(0, 1\].*" + str(keep_prob)):
            dropout_forward(np.ones(3), {"mode": mode, name: keep_prob})
    with pytest.raises(ValueError, match="keep_prob"):
        dropout_forward(np.ones(3), {"mode": mode})
