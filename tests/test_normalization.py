"""Batch, layer, spatial batch and group normalisation: loops, numerical gradients and float64 autograd as oracles."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from common import layers
from common.checks import eval_numerical_gradient_array, rel_error
from common.layers.normalization import standardize, standardize_backward

SIZES = st.integers(1, 5)
SEEDS = st.integers(0, 2**31 - 1)
LAYOUTS = st.sampled_from(["C", "F", "strided"])
MAPS = (0, 2, 3)
BACKWARDS = [layers.batchnorm_backward, layers.batchnorm_backward_alt]
TOLERANCE = {"rtol": 1e-7, "atol": 1e-8}  # of autograd: with N = 1 the true gradient is 0, times 1 / sqrt(eps) = 300


def laid_out(x, layout):
    """The same numbers in another order of memory: NumPy's, Fortran's, or every second one of a larger array."""
    if layout == "strided":
        larger = np.full([2 * n for n in x.shape], np.nan)
        larger[tuple(slice(None, None, 2) for _ in x.shape)] = x
        return larger[tuple(slice(None, None, 2) for _ in x.shape)]
    return np.array(x, order=layout)


def draw(seed, shape, layout="C", scale=None):
    """x, gamma, beta, dout; gamma and beta have the shape `scale`, by default (shape[1],)."""
    rng = np.random.RandomState(seed)
    scale = shape[1:2] if scale is None else scale
    x, dout = (laid_out(3 * rng.randn(*shape) + 5, layout) for _ in range(2))
    return x, rng.randn(*scale), rng.randn(*scale), dout


def leaf(x):
    return torch.tensor(np.ascontiguousarray(x), dtype=torch.float64, requires_grad=True)


def close(got, want, **tolerance):
    for mine, theirs in zip(got, want, strict=True):
        theirs = theirs.detach().numpy() if torch.is_tensor(theirs) else theirs
        np.testing.assert_allclose(mine, np.reshape(theirs, mine.shape), **(tolerance or TOLERANCE))


def autograd(function, x, gamma, beta, dout):
    """Output, dx, dgamma, dbeta of a PyTorch expression in float64."""
    tensors = leaf(x), leaf(gamma), leaf(beta)
    out = function(*tensors)
    out.backward(torch.tensor(np.ascontiguousarray(dout)))
    return out, *(t.grad for t in tensors)


def numerical(forward, x, gamma, beta, dout):
    """dx, dgamma, dbeta by centred differences: each lambda uses what it is given, not a captured array."""
    return (
        eval_numerical_gradient_array(lambda v: forward(v, gamma, beta), x.copy(), dout),
        eval_numerical_gradient_array(lambda v: forward(x, v, beta), gamma.copy(), dout),
        eval_numerical_gradient_array(lambda v: forward(x, gamma, v), beta.copy(), dout),
    )


def running(seed, features):
    rng = np.random.RandomState(seed)
    return {"running_mean": rng.randn(features), "running_var": 0.1 + rng.rand(features)}


def batchnorm_by_loops(x, gamma, beta, eps=1e-5):
    out = np.zeros(x.shape)
    for d in range(x.shape[1]):
        column = [x[n, d] for n in range(len(x))]
        mean = sum(column) / len(column)
        var = sum((value - mean) ** 2 for value in column) / len(column)
        for n, value in enumerate(column):
            out[n, d] = gamma[d] * (value - mean) / (var + eps) ** 0.5 + beta[d]
    return out


def groupnorm_by_loops(x, gamma, beta, G, eps=1e-5):
    N, C, H, W = x.shape
    out = np.zeros(x.shape)
    for n in range(N):
        for g in range(G):
            channels = range(g * C // G, (g + 1) * C // G)
            values = [x[n, c, i, j] for c in channels for i in range(H) for j in range(W)]
            mean = sum(values) / len(values)
            var = sum((value - mean) ** 2 for value in values) / len(values)
            for c in channels:
                out[n, c] = gamma[c] * (x[n, c] - mean) / (var + eps) ** 0.5 + beta[c]
    return out


class TestBatchnormForward:
    @pytest.mark.learner
    @settings(max_examples=40, deadline=None)
    @given(SIZES, SIZES, SEEDS, LAYOUTS)
    def test_against_loops(self, N, D, seed, layout):
        x, gamma, beta, _ = draw(seed, (N, D), layout)
        out, _ = layers.batchnorm_forward(x, gamma, beta, {"mode": "train"})
        np.testing.assert_allclose(out, batchnorm_by_loops(x, gamma, beta), rtol=1e-9, atol=1e-9)

    @pytest.mark.learner
    def test_columns_get_mean_0_and_std_1_and_then_beta_and_gamma(self):
        x = np.random.RandomState(231).randn(200, 3) * [0.1, 10, 1000] + [5, -700, 3]
        out, _ = layers.batchnorm_forward(x, np.ones(3), np.zeros(3), {"mode": "train", "eps": 1e-12})
        np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-10)
        np.testing.assert_allclose(out.std(axis=0), 1, atol=1e-8)
        gamma, beta = np.array([1.0, 2.0, 3.0]), np.array([11.0, 12.0, 13.0])
        out, _ = layers.batchnorm_forward(x, gamma, beta, {"mode": "train", "eps": 1e-12})
        np.testing.assert_allclose(out.mean(axis=0), beta, atol=1e-9)
        np.testing.assert_allclose(out.std(axis=0), gamma, atol=1e-7)

    @pytest.mark.learner
    def test_one_row_gives_beta(self):
        x, gamma, beta, dout = draw(0, (1, 4))
        out, cache = layers.batchnorm_forward(x, gamma, beta, {"mode": "train"})
        np.testing.assert_array_equal(out[0], beta)
        for backward in BACKWARDS:
            np.testing.assert_allclose(backward(dout, cache)[0], 0, atol=1e-10)

    @pytest.mark.learner
    def test_constant_columns_give_beta(self):
        out, _ = layers.batchnorm_forward(np.full((6, 2), 0.1), np.ones(2), np.full(2, 7.0), {"mode": "train"})
        np.testing.assert_allclose(out, 7, atol=1e-10)

    @pytest.mark.learner
    def test_eps_is_inside_the_root(self):
        x = np.array([[-1.0], [1.0]])
        out, _ = layers.batchnorm_forward(x, np.ones(1), np.zeros(1), {"mode": "train", "eps": 3.0})
        np.testing.assert_allclose(out, x / 2)

    @pytest.mark.learner
    def test_running_averages_approach_the_data(self):
        rng = np.random.RandomState(231)
        w1, w2, bn_param = rng.randn(50, 60), rng.randn(60, 3), {"mode": "train"}
        for _ in range(50):
            layers.batchnorm_forward(np.maximum(0, rng.randn(200, 50) @ w1) @ w2, np.ones(3), np.zeros(3), bn_param)
        bn_param["mode"] = "test"
        a = np.maximum(0, rng.randn(2000, 50) @ w1) @ w2
        out, _ = layers.batchnorm_forward(a, np.ones(3), np.zeros(3), bn_param)
        assert np.abs(out.mean(axis=0)).max() < 0.1
        assert np.abs(out.std(axis=0) - 1).max() < 0.1

    @pytest.mark.learner
    @pytest.mark.parametrize("momentum", [0.9, 0.99, 0.25])
    def test_momentum_is_one_minus_that_of_pytorch(self, momentum):
        """PyTorch keeps the unbiased variance; ours is the biased one, smaller by (N - 1) / N."""
        N, D = 7, 3
        ours, mean, var = {"mode": "train", "momentum": momentum}, torch.zeros(D).double(), torch.zeros(D).double()
        for seed in range(4):
            x, gamma, beta, _ = draw(seed, (N, D))
            layers.batchnorm_forward(x, gamma, beta, ours)
            F.batch_norm(torch.tensor(x), mean, var, training=True, momentum=1 - momentum)
        np.testing.assert_allclose(ours["running_mean"], mean, rtol=1e-12)
        np.testing.assert_allclose(ours["running_var"] * N / (N - 1), var, rtol=1e-12)

    @pytest.mark.learner
    def test_defaults_are_momentum_0_9_eps_1e_5_and_averages_from_0(self):
        x, gamma, beta, _ = draw(3, (6, 2))
        short, full = {"mode": "train"}, {"mode": "train", "eps": 1e-5, "momentum": 0.9}
        full |= {"running_mean": np.zeros(2), "running_var": np.zeros(2)}
        np.testing.assert_array_equal(
            layers.batchnorm_forward(x, gamma, beta, short)[0], layers.batchnorm_forward(x, gamma, beta, full)[0]
        )
        for bn_param in (short, full):
            np.testing.assert_allclose(bn_param["running_mean"], 0.1 * x.mean(axis=0))
            np.testing.assert_allclose(bn_param["running_var"], 0.1 * x.var(axis=0))

    @pytest.mark.learner
    @settings(max_examples=25, deadline=None)
    @given(SIZES, SIZES, SEEDS, LAYOUTS)
    def test_test_mode_against_pytorch(self, N, D, seed, layout):
        x, gamma, beta, _ = draw(seed, (N, D), layout)
        stats = running(seed, D)
        out, _ = layers.batchnorm_forward(x, gamma, beta, {"mode": "test", **stats})
        mean, var = (torch.tensor(stats[name]) for name in ("running_mean", "running_var"))
        want = F.batch_norm(torch.tensor(x), mean, var, torch.tensor(gamma), torch.tensor(beta), training=False)
        np.testing.assert_allclose(out, want, rtol=1e-11, atol=1e-11)

    @pytest.mark.learner
    def test_test_mode_leaves_the_averages_alone(self):
        x, gamma, beta, _ = draw(0, (6, 3))
        stats = running(0, 3)
        bn_param = {"mode": "test", **{name: value.copy() for name, value in stats.items()}}
        layers.batchnorm_forward(x, gamma, beta, bn_param)
        for name, value in stats.items():
            np.testing.assert_array_equal(bn_param[name], value)

    @pytest.mark.robustness
    def test_training_does_not_write_into_the_callers_averages(self):
        x, gamma, beta, _ = draw(0, (6, 3))
        stats = running(0, 3)
        kept = {name: value.copy() for name, value in stats.items()}
        layers.batchnorm_forward(x, gamma, beta, {"mode": "train", **stats})
        for name, value in kept.items():
            np.testing.assert_array_equal(stats[name], value)


class TestBatchnormBackward:
    @pytest.mark.learner
    @pytest.mark.parametrize("backward", BACKWARDS)
    @settings(max_examples=30, deadline=None)
    @given(N=SIZES, D=SIZES, seed=SEEDS, layout=LAYOUTS)
    def test_training_against_autograd(self, backward, N, D, seed, layout):
        x, gamma, beta, dout = draw(seed, (N, D), layout)

        def expression(x, gamma, beta):  # PyTorch's own batch_norm refuses a single row
            centred = x - x.mean(dim=0)
            return gamma * centred / torch.sqrt((centred**2).mean(dim=0) + 1e-5) + beta

        out, cache = layers.batchnorm_forward(x, gamma, beta, {"mode": "train"})
        close((out, *backward(dout, cache)), autograd(expression, x, gamma, beta, dout))

    @pytest.mark.learner
    @pytest.mark.parametrize("backward", BACKWARDS)
    def test_training_against_torch_batch_norm(self, backward):
        x, gamma, beta, dout = draw(1, (9, 4))
        out, cache = layers.batchnorm_forward(x, gamma, beta, {"mode": "train"})
        want = autograd(lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True), x, gamma, beta, dout)
        close((out, *backward(dout, cache)), want)

    @pytest.mark.learner
    @pytest.mark.parametrize("backward", BACKWARDS)
    @pytest.mark.parametrize("mode", ["train", "test"])
    def test_against_the_numerical_gradient(self, backward, mode):
        rng = np.random.RandomState(231)
        x, gamma, beta, dout = 5 * rng.randn(4, 5) + 12, rng.randn(5), rng.randn(5), rng.randn(4, 5)
        stats = running(231, 5)

        def forward(x, gamma, beta):
            return layers.batchnorm_forward(x, gamma, beta, {"mode": mode, **stats})

        got = backward(dout, forward(x, gamma, beta)[1])
        for mine, theirs in zip(got, numerical(lambda *a: forward(*a)[0], x, gamma, beta, dout), strict=True):
            assert rel_error(mine, theirs) < 1e-7

    @pytest.mark.learner
    @pytest.mark.parametrize("backward", BACKWARDS)
    @settings(max_examples=20, deadline=None)
    @given(N=SIZES, D=SIZES, seed=SEEDS, layout=LAYOUTS)
    def test_test_mode_is_linear(self, backward, N, D, seed, layout):
        """Published solutions use the training formula in test mode as well."""
        x, gamma, beta, dout = draw(seed, (N, D), layout)
        stats = running(seed, D)
        mean, var = (torch.tensor(stats[name]) for name in ("running_mean", "running_var"))
        want = autograd(lambda x, g, b: F.batch_norm(x, mean, var, g, b, training=False), x, gamma, beta, dout)
        _, cache = layers.batchnorm_forward(x, gamma, beta, {"mode": "test", **stats})
        got = backward(dout, cache)
        close(got, want[1:])
        np.testing.assert_allclose(got[0], dout * gamma / np.sqrt(stats["running_var"] + 1e-5), rtol=1e-12)

    @pytest.mark.learner
    def test_one_formula_agrees_with_the_staged_graph(self):
        rng = np.random.RandomState(231)
        x, gamma, beta, dout = 5 * rng.randn(100, 500) + 12, rng.randn(500), rng.randn(500), rng.randn(100, 500)
        _, cache = layers.batchnorm_forward(x, gamma, beta, {"mode": "train"})
        for one, two in zip(*(backward(dout, cache) for backward in BACKWARDS), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-13)

    @pytest.mark.learner
    @pytest.mark.parametrize("backward", BACKWARDS)
    def test_dx_has_no_mean_and_no_part_along_x_hat(self, backward):
        x, gamma, beta, dout = draw(2, (50, 4))
        _, cache = layers.batchnorm_forward(x, gamma, beta, {"mode": "train", "eps": 0.0})
        dx = backward(dout, cache)[0]
        np.testing.assert_allclose(dx.sum(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose((dx * x).sum(axis=0), 0, atol=1e-10)

    @pytest.mark.robustness
    @pytest.mark.parametrize("backward", BACKWARDS)
    @pytest.mark.parametrize("mode", ["train", "test"])
    def test_arguments_and_cache_are_left_alone(self, backward, mode):
        x, gamma, beta, dout = draw(2, (5, 3))
        kept = [a.copy() for a in (x, gamma, beta, dout)]
        _, cache = layers.batchnorm_forward(x, gamma, beta, {"mode": mode, **running(0, 3)})
        first = backward(dout, cache)
        for mine, theirs in zip(first, backward(dout, cache), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        for array, before in zip((x, gamma, beta, dout), kept, strict=True):
            np.testing.assert_array_equal(array, before)


class TestLayernorm:
    @pytest.mark.learner
    @settings(max_examples=40, deadline=None)
    @given(SIZES, SIZES, SEEDS, LAYOUTS)
    def test_against_autograd_and_loops(self, N, D, seed, layout):
        x, gamma, beta, dout = draw(seed, (N, D), layout)
        out, cache = layers.layernorm_forward(x, gamma, beta, {})
        want = autograd(lambda x, g, b: F.layer_norm(x, (D,), g, b), x, gamma, beta, dout)
        close((out, *layers.layernorm_backward(dout, cache)), want)
        rows = batchnorm_by_loops(x.T, np.ones(N), np.zeros(N)).T  # a row of x is a column of x.T
        np.testing.assert_allclose(out, gamma * rows + beta, rtol=1e-9, atol=1e-9)

    @pytest.mark.learner
    def test_against_the_numerical_gradient(self):
        rng = np.random.RandomState(231)
        x, gamma, beta, dout = 5 * rng.randn(4, 5) + 12, rng.randn(5), rng.randn(5), rng.randn(4, 5)
        _, cache = layers.layernorm_forward(x, gamma, beta, {})
        want = numerical(lambda *a: layers.layernorm_forward(*a, {})[0], x, gamma, beta, dout)
        for mine, theirs in zip(layers.layernorm_backward(dout, cache), want, strict=True):
            assert rel_error(mine, theirs) < 1e-7

    @pytest.mark.learner
    def test_rows_get_mean_0_and_std_1_and_then_beta_and_gamma(self):
        rng = np.random.RandomState(231)
        x = np.maximum(0, rng.randn(4, 50) @ rng.randn(50, 60)) @ rng.randn(60, 3)
        out, _ = layers.layernorm_forward(x, np.ones(3), np.zeros(3), {})
        np.testing.assert_allclose(out.mean(axis=1), 0, atol=1e-12)
        np.testing.assert_allclose(out.std(axis=1), 1, atol=1e-6)
        out, _ = layers.layernorm_forward(x, np.full(3, 3.0), np.full(3, 5.0), {})
        np.testing.assert_allclose(out.mean(axis=1), 5, atol=1e-12)
        np.testing.assert_allclose(out.std(axis=1), 3, atol=1e-5)

    @pytest.mark.learner
    def test_training_and_testing_are_the_same_and_keep_no_averages(self):
        x, gamma, beta, _ = draw(0, (5, 4))
        params = {"mode": "train"}, {"mode": "test"}
        first, second = (layers.layernorm_forward(x, gamma, beta, p)[0] for p in params)
        np.testing.assert_array_equal(first, second)
        assert params == ({"mode": "train"}, {"mode": "test"})

    @pytest.mark.learner
    def test_a_row_does_not_see_the_others(self):
        x, gamma, beta, _ = draw(0, (5, 4))
        alone = [layers.layernorm_forward(row[None], gamma, beta, {})[0] for row in x]
        np.testing.assert_allclose(np.concatenate(alone), layers.layernorm_forward(x, gamma, beta, {})[0], rtol=1e-12)


class TestStandardize:
    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(st.integers(1, 3), min_size=4, max_size=4),
        st.sampled_from([(0, 2, 3), (1, 2, 3), (2, 3), (0,), (0, 1, 2, 3)]),
        SEEDS,
    )
    def test_any_axes_against_autograd(self, shape, axes, seed):
        rng = np.random.RandomState(seed)
        x, dout = rng.randn(*shape) + 1, rng.randn(*shape)
        tx = leaf(x)
        var, mean = torch.var_mean(tx, dim=axes, keepdim=True, correction=0)
        want = (tx - mean) / torch.sqrt(var + 1e-3)
        want.backward(torch.tensor(dout))
        x_hat, std = standardize(x, axes, 1e-3)
        close((x_hat, standardize_backward(dout, x_hat, std, axes)), (want, tx.grad))
        assert std.shape == tuple(1 if axis in axes else n for axis, n in enumerate(shape))


class TestSpatialBatchnorm:
    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(SIZES, SIZES, SIZES, SIZES, SEEDS, LAYOUTS, st.sampled_from(["train", "test"]))
    def test_is_batchnorm_of_all_positions(self, N, C, H, W, seed, layout, mode):
        x, gamma, beta, dout = draw(seed, (N, C, H, W), layout)
        rows, drows = (a.transpose(0, 2, 3, 1).reshape(-1, C) for a in (x, dout))
        ours, theirs = ({"mode": mode, **running(seed, C)} for _ in range(2))
        out, cache = layers.spatial_batchnorm_forward(x, gamma, beta, ours)
        want, row_cache = layers.batchnorm_forward(rows, gamma, beta, theirs)
        dx, *rest = layers.spatial_batchnorm_backward(dout, cache)
        dwant, *row_rest = layers.batchnorm_backward(drows, row_cache)
        images = [a.reshape(N, H, W, C).transpose(0, 3, 1, 2) for a in (want, dwant)]
        close((out, dx, *rest), (*images, *row_rest))
        for name in ("running_mean", "running_var"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12)

    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(SIZES, SIZES, SIZES, st.integers(2, 5), SEEDS, LAYOUTS)
    def test_training_against_autograd(self, N, C, H, W, seed, layout):
        x, gamma, beta, dout = draw(seed, (N, C, H, W), layout)
        out, cache = layers.spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"})
        want = autograd(lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True), x, gamma, beta, dout)
        close((out, *layers.spatial_batchnorm_backward(dout, cache)), want)

    @pytest.mark.learner
    @settings(max_examples=20, deadline=None)
    @given(SIZES, SIZES, SIZES, SIZES, SEEDS)
    def test_test_mode_against_autograd(self, N, C, H, W, seed):
        x, gamma, beta, dout = draw(seed, (N, C, H, W))
        stats = running(seed, C)
        mean, var = (torch.tensor(stats[name]) for name in ("running_mean", "running_var"))
        out, cache = layers.spatial_batchnorm_forward(x, gamma, beta, {"mode": "test", **stats})
        want = autograd(lambda x, g, b: F.batch_norm(x, mean, var, g, b, training=False), x, gamma, beta, dout)
        close((out, *layers.spatial_batchnorm_backward(dout, cache)), want)

    @pytest.mark.learner
    @pytest.mark.parametrize("mode", ["train", "test"])
    def test_against_the_numerical_gradient(self, mode):
        x, gamma, beta, dout = draw(231, (2, 3, 4, 5))
        stats = running(231, 3)

        def forward(x, gamma, beta):
            return layers.spatial_batchnorm_forward(x, gamma, beta, {"mode": mode, **stats})

        got = layers.spatial_batchnorm_backward(dout, forward(x, gamma, beta)[1])
        for mine, theirs in zip(got, numerical(lambda *a: forward(*a)[0], x, gamma, beta, dout), strict=True):
            assert rel_error(mine, theirs) < 1e-6

    @pytest.mark.learner
    def test_channels_get_mean_0_and_std_1_and_then_beta_and_gamma(self):
        x = 4 * np.random.RandomState(231).randn(2, 3, 4, 5) + 10
        out, _ = layers.spatial_batchnorm_forward(x, np.ones(3), np.zeros(3), {"mode": "train"})
        np.testing.assert_allclose(out.mean(axis=MAPS), 0, atol=1e-12)
        np.testing.assert_allclose(out.std(axis=MAPS), 1, atol=1e-5)
        gamma, beta = np.array([3.0, 4.0, 5.0]), np.array([6.0, 7.0, 8.0])
        out, _ = layers.spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"})
        np.testing.assert_allclose(out.mean(axis=MAPS), beta)
        np.testing.assert_allclose(out.std(axis=MAPS), gamma, rtol=1e-5)

    @pytest.mark.robustness
    def test_large_maps_in_float32_keep_their_digits(self):
        """131,072 terms a channel, far from zero: sums and the folded shift must not lose the picture."""
        rng = np.random.RandomState(0)
        x = (20 + rng.randn(128, 2, 32, 32)).astype(np.float32)
        dout, (gamma, beta) = rng.randn(*x.shape).astype(np.float32), rng.randn(2, 2).astype(np.float32)
        out, cache = layers.spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"})
        got = out, *layers.spatial_batchnorm_backward(dout, cache)
        double = [a.astype(np.float64) for a in (x, gamma, beta, dout)]
        want = autograd(lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True), *double)
        close(got[:2], want[:2], rtol=1e-3, atol=1e-4)
        close(got[2:], want[2:], rtol=1e-3, atol=0.05)


def group_case():
    """N, C, H, W and a divisor G of C."""
    channels = st.sampled_from([(1, 1), (4, 1), (4, 2), (4, 4), (6, 3), (6, 2), (3, 3), (5, 1)])
    return st.tuples(SIZES, channels, SIZES, SIZES)


class TestSpatialGroupnorm:
    @pytest.mark.learner
    @settings(max_examples=40, deadline=None)
    @given(group_case(), SEEDS, LAYOUTS)
    def test_against_autograd_and_loops(self, case, seed, layout):
        N, (C, G), H, W = case
        x, gamma, beta, dout = draw(seed, (N, C, H, W), layout, scale=(1, C, 1, 1))
        out, cache = layers.spatial_groupnorm_forward(x, gamma, beta, G, {})
        grads = layers.spatial_groupnorm_backward(dout, cache)
        assert [g.shape for g in grads] == [(N, C, H, W), (1, C, 1, 1), (1, C, 1, 1)]
        want = autograd(lambda x, g, b: group_norm(x, G, g, b), x, gamma, beta, dout)
        close((out, *grads), want)
        loops = groupnorm_by_loops(x, gamma.ravel(), beta.ravel(), G)
        np.testing.assert_allclose(out, loops, rtol=1e-9, atol=1e-9)

    @pytest.mark.learner
    @pytest.mark.parametrize("G", [1, 2, 3, 6])
    def test_against_torch_group_norm_and_the_numerical_gradient(self, G):
        x, gamma, beta, dout = draw(231, (2, 6, 4, 5), scale=(1, 6, 1, 1))

        def forward(x, gamma, beta):
            return layers.spatial_groupnorm_forward(x, gamma, beta, G, {})

        out, cache = forward(x, gamma, beta)
        got = layers.spatial_groupnorm_backward(dout, cache)
        want = autograd(lambda x, g, b: F.group_norm(x, G, g.flatten(), b.flatten()), x, gamma, beta, dout)
        close((out, *got), want)
        for mine, theirs in zip(got, numerical(lambda *a: forward(*a)[0], x, gamma, beta, dout), strict=True):
            assert rel_error(mine, theirs) < 1e-6

    @pytest.mark.learner
    def test_groups_get_mean_0_and_std_1(self):
        x = 4 * np.random.RandomState(231).randn(2, 6, 4, 5) + 10
        ones, zeros = np.ones((1, 6, 1, 1)), np.zeros((1, 6, 1, 1))
        groups = layers.spatial_groupnorm_forward(x, ones, zeros, 2, {})[0].reshape(4, -1)
        np.testing.assert_allclose(groups.mean(axis=1), 0, atol=1e-12)
        np.testing.assert_allclose(groups.std(axis=1), 1, atol=1e-5)

    @pytest.mark.learner
    def test_one_group_is_layer_normalisation_of_channels_and_positions(self):
        x, gamma, beta, _ = draw(0, (3, 4, 2, 5), scale=(1, 4, 1, 1))
        out, _ = layers.spatial_groupnorm_forward(x, gamma, beta, 1, {})
        rows = [np.broadcast_to(a, (1, 4, 2, 5)).ravel() for a in (gamma, beta)]
        want, _ = layers.layernorm_forward(x.reshape(3, -1), *rows, {})
        np.testing.assert_allclose(out.reshape(3, -1), want, rtol=1e-12)

    @pytest.mark.learner
    def test_as_many_groups_as_channels_is_instance_normalisation(self):
        x, gamma, beta, _ = draw(0, (3, 4, 2, 5), scale=(1, 4, 1, 1))
        out, _ = layers.spatial_groupnorm_forward(x, gamma, beta, 4, {})
        want = F.instance_norm(torch.tensor(x), weight=torch.tensor(gamma.ravel()), bias=torch.tensor(beta.ravel()))
        np.testing.assert_allclose(out, want, rtol=1e-10)


def group_norm(x, G, gamma, beta):
    """PyTorch's own refuses a group of one number."""
    groups = x.reshape(len(x), G, -1)
    centred = groups - groups.mean(dim=2, keepdim=True)
    return (centred / torch.sqrt((centred**2).mean(dim=2, keepdim=True) + 1e-5)).reshape(x.shape) * gamma + beta


# What all of them share -----------------------------------------------------------------------------------------

ROWS = ((6, 4), (4,))
CHANNELS = ((2, 4, 3, 5), (4,))
GROUPS = ((2, 4, 3, 5), (1, 4, 1, 1))
EVERY = [
    (layers.batchnorm_forward, layers.batchnorm_backward, ({"mode": "train"},), ROWS),
    (layers.batchnorm_forward, layers.batchnorm_backward_alt, ({"mode": "train"},), ROWS),
    (layers.batchnorm_forward, layers.batchnorm_backward, ({"mode": "test"},), ROWS),
    (layers.batchnorm_forward, layers.batchnorm_backward_alt, ({"mode": "test"},), ROWS),
    (layers.layernorm_forward, layers.layernorm_backward, ({},), ROWS),
    (layers.spatial_batchnorm_forward, layers.spatial_batchnorm_backward, ({"mode": "train"},), CHANNELS),
    (layers.spatial_batchnorm_forward, layers.spatial_batchnorm_backward, ({"mode": "test"},), CHANNELS),
    (layers.spatial_groupnorm_forward, layers.spatial_groupnorm_backward, (2, {}), GROUPS),
]


@pytest.mark.robustness
@pytest.mark.parametrize(("forward", "backward", "rest", "shapes"), EVERY)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept(forward, backward, rest, shapes, dtype):
    rest = tuple(dict(r) if isinstance(r, dict) else r for r in rest)
    x, gamma, beta, dout = (a.astype(dtype) for a in draw(0, shapes[0], scale=shapes[1]))
    out, cache = forward(x, gamma, beta, *rest)
    kept = [out, *backward(dout, cache)]
    kept += [rest[-1][name] for name in ("running_mean", "running_var") if name in rest[-1]]
    assert {a.dtype for a in kept} == {np.dtype(dtype)}


@pytest.mark.robustness
@pytest.mark.parametrize(("forward", "backward", "rest", "shapes"), EVERY)
def test_arguments_are_left_alone(forward, backward, rest, shapes):
    rest = tuple(dict(r) if isinstance(r, dict) else r for r in rest)
    arrays = draw(0, shapes[0], scale=shapes[1])
    kept = [a.copy() for a in arrays]
    out, cache = forward(*arrays[:3], *rest)
    before = out.copy()
    first = backward(arrays[3], cache)
    for mine, theirs in zip(first, backward(arrays[3], cache), strict=True):  # the cache too
        np.testing.assert_array_equal(mine, theirs)
    for array, copy in zip((*arrays, out), (*kept, before), strict=True):
        np.testing.assert_array_equal(array, copy)


FORWARDS = {forward: (rest, shapes) for forward, _, rest, shapes in EVERY}


@pytest.mark.robustness
@pytest.mark.parametrize("forward", FORWARDS)
def test_shapes_that_do_not_fit(forward):
    rest, (shape, scale) = FORWARDS[forward]
    gamma, x = np.ones(scale), np.ones(shape)
    for wrong in (np.ones(5), np.ones((1, 5, 1, 1)), np.ones(()), np.ones((*scale, 1))):
        with pytest.raises(ValueError, match="gamma and beta must have shape"):
            forward(x, wrong, gamma, *rest)
        with pytest.raises(ValueError, match="gamma and beta must have shape"):
            forward(x, gamma, wrong, *rest)
    for wrong in (x[0], x[None], x[:0], np.ones(())):
        with pytest.raises(ValueError, match=f"x must be a minibatch with {x.ndim} axes"):
            forward(wrong, gamma, gamma, *rest)


@pytest.mark.robustness
@pytest.mark.parametrize("forward", [layers.batchnorm_forward, layers.spatial_batchnorm_forward])
@pytest.mark.parametrize("bn_param", [{"mode": "eval"}, {"mode": "Train"}, {"mode": None}, {}])
def test_another_mode_is_named(forward, bn_param):
    shape, scale = FORWARDS[forward][1]
    with pytest.raises(ValueError, match='bn_param.*"train" or "test".*' + repr(bn_param.get("mode"))):
        forward(np.ones(shape), np.ones(scale), np.ones(scale), bn_param)


@pytest.mark.robustness
@pytest.mark.parametrize("forward", [layers.batchnorm_forward, layers.spatial_batchnorm_forward])
@pytest.mark.parametrize("name", ["running_mean", "running_var"])
@pytest.mark.parametrize("mode", ["train", "test"])
def test_averages_of_another_size_are_named(forward, name, mode):
    shape, scale = FORWARDS[forward][1]
    with pytest.raises(ValueError, match=rf"{name}.*\(4,\).*\(3,\)"):
        forward(np.ones(shape), np.ones(scale), np.ones(scale), {"mode": mode, name: np.ones(3)})


@pytest.mark.robustness
@pytest.mark.parametrize("G", [0, -1, 4, 5, 7, 12])
def test_groups_have_to_divide_the_channels(G):
    scale = np.ones((1, 6, 1, 1))
    with pytest.raises(ValueError, match=f"divide the 6 channels, got {G}"):
        layers.spatial_groupnorm_forward(np.ones((2, 6, 3, 3)), scale, scale, G, {})
