"""Affine, ReLU, the two losses, Kaiming's weights and the sandwiches, against formulas, differences and autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common import layers
from common.checks import eval_numerical_gradient, eval_numerical_gradient_array, rel_error

SIZES = st.integers(1, 6)
SEEDS = st.integers(0, 2**31 - 1)


def ramp(low, high, shape):
    return np.linspace(low, high, int(np.prod(shape))).reshape(shape)


def leaf(x):
    return torch.tensor(x, dtype=torch.float64, requires_grad=True)


class TestAffine:
    @pytest.mark.learner
    def test_known_output(self):
        out, _ = layers.affine_forward(ramp(-0.1, 0.5, (2, 4, 5, 6)), ramp(-0.2, 0.3, (120, 3)), ramp(-0.3, 0.1, 3))
        assert out.shape == (2, 3)
        np.testing.assert_allclose(
            [out.sum(), out[0, 0], out[-1, -1]], [15.66220207, 1.49834967, 3.77273342], atol=6e-9
        )

    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(SIZES, st.lists(st.integers(1, 4), min_size=1, max_size=3), SIZES, SEEDS)
    def test_gradients(self, N, dims, M, seed):
        rng = np.random.RandomState(seed)
        x, w, b, dout = rng.randn(N, *dims), rng.randn(int(np.prod(dims)), M), rng.randn(M), rng.randn(N, M)
        x = x.swapaxes(0, -1).copy().swapaxes(0, -1)  # not contiguous
        out, cache = layers.affine_forward(x, w, b)
        got = layers.affine_backward(dout, cache)
        tx, tw, tb = leaf(x), leaf(w), leaf(b)
        want = torch.nn.functional.linear(tx.flatten(1), tw.T, tb)
        np.testing.assert_allclose(out, want.detach(), rtol=1e-12, atol=1e-12)
        want.backward(torch.tensor(dout))
        for mine, theirs in zip(got, (tx, tw, tb), strict=True):
            np.testing.assert_allclose(mine, theirs.grad, rtol=1e-12, atol=1e-12)
        num = eval_numerical_gradient_array(lambda x: layers.affine_forward(x, w, b)[0], x.copy(), dout)
        np.testing.assert_allclose(got[0], num, rtol=1e-6, atol=1e-8)

    @pytest.mark.robustness
    def test_keeps_float32(self):
        x, w, b = (np.ones(s, np.float32) for s in ((2, 3), (3, 4), (4,)))
        out, cache = layers.affine_forward(x, w, b)
        assert {a.dtype for a in (out, *layers.affine_backward(out, cache))} == {np.dtype(np.float32)}

    @pytest.mark.robustness
    @pytest.mark.parametrize(
        "shapes", [((2, 3), (4, 5), (5,)), ((2, 3), (3, 5), (4,)), ((0, 3), (3, 5), (5,)), ((2, 3), (3,), (3,))]
    )
    def test_shapes_that_do_not_fit(self, shapes):
        with pytest.raises(ValueError, match="are needed, got"):
            layers.affine_forward(*(np.ones(s) for s in shapes))


class TestRelu:
    @pytest.mark.learner
    def test_known_output(self):
        out, _ = layers.relu_forward(np.linspace(-0.5, 0.5, 12).reshape(3, 4))
        want = [0, 0, 0, 0, 0, 0, 0.04545455, 0.13636364, 0.22727273, 0.31818182, 0.40909091, 0.5]
        np.testing.assert_allclose(out.ravel(), want, atol=5e-9)

    @pytest.mark.learner
    def test_gradient_is_zero_where_x_is_not_positive(self):
        x = np.array([-1.0, 0.0, 2.0])
        _, cache = layers.relu_forward(x)
        assert layers.relu_backward(np.array([5.0, 6.0, 7.0]), cache).tolist() == [0, 0, 7]

    @pytest.mark.robustness
    def test_leaves_x_alone(self):
        x = np.array([-1.0, 1.0])
        layers.relu_forward(x)
        assert x.tolist() == [-1, 1]


def svm_by_loops(x, y):
    return np.mean(
        [sum(max(0, s - row[k] + 1) for j, s in enumerate(row) if j != k) for row, k in zip(x, y, strict=True)]
    )


class TestLosses:
    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(SIZES, st.integers(2, 6), SEEDS)
    def test_against_loops_autograd_and_differences(self, N, C, seed):
        rng = np.random.RandomState(seed)
        x, y = 3 * rng.randn(N, C), rng.randint(C, size=N)
        tx = leaf(x)
        ce = torch.nn.functional.cross_entropy(tx, torch.tensor(y))
        ce.backward()
        loss, dx = layers.softmax_loss(x, y)
        np.testing.assert_allclose(loss, ce.item(), rtol=1e-12)
        np.testing.assert_allclose(dx, tx.grad, rtol=1e-10, atol=1e-14)
        loss, dx = layers.svm_loss(x, y)
        np.testing.assert_allclose(loss, svm_by_loops(x, y), rtol=1e-12, atol=1e-14)
        tx = leaf(x)
        (torch.nn.functional.multi_margin_loss(tx, torch.tensor(y), margin=1.0) * C).backward()  # torch divides by C
        np.testing.assert_allclose(dx, tx.grad, rtol=1e-10, atol=1e-14)

    @pytest.mark.learner
    @pytest.mark.parametrize("loss", [layers.svm_loss, layers.softmax_loss])
    def test_numerical_gradient(self, loss):
        rng = np.random.RandomState(0)
        x, y = 0.001 * rng.randn(50, 10), rng.randint(10, size=50)
        assert rel_error(eval_numerical_gradient(lambda x: loss(x, y)[0], x), loss(x, y)[1]) < 1e-7

    @pytest.mark.learner
    def test_small_scores_give_the_losses_of_chance(self):
        rng = np.random.RandomState(0)
        x, y = 0.001 * rng.randn(50, 10), rng.randint(10, size=50)
        assert layers.svm_loss(x, y)[0] == pytest.approx(9, abs=0.01)
        assert layers.softmax_loss(x, y)[0] == pytest.approx(np.log(10), abs=0.001)

    @pytest.mark.learner
    def test_huge_scores_do_not_overflow(self):
        loss, dx = layers.softmax_loss(np.array([[1e4, 0.0]]), np.array([1]))
        assert loss == pytest.approx(1e4)
        assert np.allclose(dx, [[1, -1]])

    @pytest.mark.robustness
    @pytest.mark.parametrize("loss", [layers.svm_loss, layers.softmax_loss])
    def test_keeps_float32_and_its_arguments(self, loss):
        x = np.ones((2, 3), np.float32)
        assert loss(x, np.array([0, 2]))[1].dtype == np.float32
        assert (x == 1).all()

    @pytest.mark.robustness
    @pytest.mark.parametrize("loss", [layers.svm_loss, layers.softmax_loss])
    @pytest.mark.parametrize("y", [[0, 3], [-1, 0], [0], [[0, 1]]])
    def test_bad_labels(self, loss, y):
        with pytest.raises(ValueError, match="labels"):
            loss(np.ones((2, 3)), np.array(y))

    @pytest.mark.robustness
    @pytest.mark.parametrize("loss", [layers.svm_loss, layers.softmax_loss])
    def test_labels_that_are_no_integers(self, loss):
        with pytest.raises(TypeError, match="y must hold integer labels, got float64"):
            loss(np.ones((2, 3)), np.array([0.0, 1.0]))

    @pytest.mark.robustness
    @pytest.mark.parametrize("loss", [layers.svm_loss, layers.softmax_loss])
    def test_empty_minibatch(self, loss):
        with pytest.raises(ValueError, match="at least one"):
            loss(np.ones((0, 3)), np.zeros(0, int))


class TestKaiming:
    @pytest.mark.learner
    def test_shapes_and_spread(self):
        rng = np.random.RandomState(0)
        affine = layers.kaiming_initializer(400, 300, rng=rng)
        filters = layers.kaiming_initializer(64, 128, K=3, relu=False, rng=rng, dtype=np.float32)
        assert affine.shape == (400, 300)
        assert filters.shape == (128, 64, 3, 3)
        assert filters.dtype == np.float32
        assert affine.std() == pytest.approx(np.sqrt(2 / 400), rel=0.02)
        assert filters.std() == pytest.approx(np.sqrt(1 / (64 * 9)), rel=0.02)

    @pytest.mark.robustness
    def test_follows_the_global_stream(self):
        np.random.seed(1)
        first = layers.kaiming_initializer(3, 4)
        np.random.seed(1)
        assert np.array_equal(first, layers.kaiming_initializer(3, 4))

    @pytest.mark.robustness
    @pytest.mark.parametrize("seed", [0, 5, np.int64(7)])
    def test_any_integer_is_a_seed(self, seed):
        """0 was taken for "no seed", and 5 for a generator."""
        first = layers.kaiming_initializer(3, 4, rng=seed)
        np.random.seed(99)
        assert np.array_equal(first, layers.kaiming_initializer(3, 4, rng=seed))
        assert np.array_equal(first, layers.kaiming_initializer(3, 4, rng=np.random.RandomState(seed)))

    @pytest.mark.robustness
    @pytest.mark.parametrize("rng", [2.0, "0", np.random.default_rng(0), True])
    def test_what_is_no_stream(self, rng):
        with pytest.raises(TypeError, match="rng must be a RandomState, an integer seed or None"):
            layers.kaiming_initializer(3, 4, rng=rng)

    @pytest.mark.robustness
    def test_bad_sizes(self):
        with pytest.raises(ValueError, match="at least 1"):
            layers.kaiming_initializer(3, 4, K=0)


SANDWICHES = {
    "affine_relu": ("w b", {}),
    "affine_norm_relu": ("w b gamma beta", {"norm_param": {"mode": "train"}, "normalization": "layernorm"}),
    "conv_relu": ("w b", {"conv_param": {"stride": 1, "pad": 1}}),
    "conv_bn_relu": ("w b gamma beta", {"conv_param": {"stride": 1, "pad": 1}, "bn_param": {"mode": "train"}}),
    "conv_relu_pool": ("w b", {"conv_param": {"stride": 1, "pad": 1}, "pool_param": None}),
}
POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}


@pytest.mark.learner
@pytest.mark.parametrize("name", SANDWICHES)
def test_sandwich_against_numerical_gradients(name):
    rng = np.random.RandomState(3)
    names, params = SANDWICHES[name]
    params = {key: POOL if value is None else value for key, value in params.items()}
    conv = name.startswith("conv")
    shapes = {"w": (3, 2, 3, 3) if conv else (12, 3), "b": (3,), "gamma": (3,), "beta": (3,)}
    args = [rng.randn(2, 2, 4, 4) if conv else rng.randn(4, 3, 4), *(rng.randn(*shapes[n]) for n in names.split())]
    forward, backward = (getattr(layers, f"{name}_{way}") for way in ("forward", "backward"))
    out, cache = forward(*args, **params)
    dout = rng.randn(*out.shape)
    grads = backward(dout, cache)
    assert len(grads) == len(args)
    for i, (arg, grad) in enumerate(zip(args, grads, strict=True)):
        num = eval_numerical_gradient_array(
            lambda a, i=i: forward(*args[:i], a, *args[i + 1 :], **params)[0], arg, dout
        )
        np.testing.assert_allclose(grad, num, rtol=1e-5, atol=1e-7, err_msg=names.split()[i - 1] if i else "x")


@pytest.mark.robustness
def test_unknown_normalization():
    ones = np.ones((2, 2))
    with pytest.raises(ValueError, match="batchnorm, layernorm"):
        layers.affine_norm_relu_forward(ones, ones, ones[0], ones[0], ones[0], {}, "groupnorm")


@pytest.mark.robustness
def test_all_names_exist_and_are_sorted():
    assert layers.__all__ == sorted(layers.__all__)
    assert all(hasattr(layers, name) for name in layers.__all__)
