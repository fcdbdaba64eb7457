"""Class visualisation, inversion and DeepDream: exact steps on linear models, objectives that move the right way."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from common.vision import deepdream, gradients, images, inversion
from common.vision.class_visualization import class_visualization_step, create_class_visualization
from tests.test_vision_saliency import linear, pictures, small_net

PLAIN = {"max_jitter": 0, "blur_every": 0, "show_every": 0}


def conv_net(seed=0, channels=4, kernel=3, training=True):
    """Differentiable features with batch normalisation, in training mode and trainable."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, channels, kernel), nn.BatchNorm2d(channels), nn.Tanh()).double()
    net[1].running_var.uniform_(0.5, 2)
    return net.train(training)


def wide(net):
    """The net with a valid range so wide that nothing is cut."""
    net.register_buffer("lower", torch.full((1, 3, 1, 1), -1e6))
    net.register_buffer("upper", torch.full((1, 3, 1, 1), 1e6))
    return net


def unchanged(net):
    return net.training and all(p.grad is None and p.requires_grad for p in net.parameters())


class TestClassVisualization:
    @pytest.mark.learner
    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 3), st.floats(0, 1), st.floats(0, 3), st.integers(0, 100))
    def test_step_on_a_linear_model(self, target, l2_reg, rate, seed):
        W, model = linear(seed=seed)
        img = pictures(1, 3, seed)
        before = img.clone()
        assert class_visualization_step(img, target, model, l2_reg, rate) is img
        np.testing.assert_allclose(img, before + rate * (W[target] - 2 * l2_reg * before), atol=1e-12)

    @pytest.mark.learner
    def test_small_steps_raise_the_objective(self):
        net, img = small_net().train(), pictures(1)

        def objective():
            with torch.no_grad():
                return (net.eval()(img)[0, 2] - 0.1 * (img**2).sum()).item()

        values = [objective()]
        net.train()
        for _ in range(30):
            class_visualization_step(img, 2, net.train(), l2_reg=0.1, learning_rate=0.01)
            assert unchanged(net)
            values.append(objective())
        assert all(b > a for a, b in pairwise(values))

    @pytest.mark.learner
    def test_more_l2_reg_makes_a_smaller_picture(self):
        net = wide(small_net())
        norms = [
            create_class_visualization(
                2, net, torch.float64, l2_reg=reg, learning_rate=0.05, num_iterations=40, size=8, rng=0, **PLAIN
            ).norm()
            for reg in (0, 0.1, 1)
        ]
        assert norms[0] > norms[1] > norms[2]

    @pytest.mark.learner
    def test_jitter_is_undone_and_the_range_kept(self):
        """With a rate of zero nothing moves but what jitter forgets to move back."""
        net, start = small_net(), 0.3 * pictures(1)
        got = create_class_visualization(
            2, net, torch.float64, start=start, size=8, learning_rate=0, num_iterations=5, blur_every=0, rng=0
        )
        assert torch.equal(got, start)
        loud = create_class_visualization(2, net, torch.float64, size=8, learning_rate=1e3, num_iterations=3, rng=0)
        lower, upper = gradients.valid_range(net, loud)
        assert ((loud >= lower) & (loud <= upper)).all()
        assert unchanged(net)

    @pytest.mark.learner
    def test_blur(self):
        """Rate zero: the picture is smoothed after steps 0 and 2 of 4."""
        net, start = small_net(), 0.3 * pictures(1)
        options = {"start": start, "size": 8, "learning_rate": 0, "max_jitter": 3, "rng": 0}
        got = create_class_visualization(2, net, torch.float64, num_iterations=4, blur_every=2, **options)
        want = images.blur_image(images.blur_image(start.clone(), 0.5), 0.5)
        np.testing.assert_allclose(got, want, atol=1e-12)

    @pytest.mark.learner
    def test_the_score_rises_with_jitter_and_octaves(self):
        net = wide(nn.Sequential(conv_net(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5).double())).eval()
        seen = []
        got = create_class_visualization(
            3, net, torch.float64, size=64, octaves=2, num_iterations=8, learning_rate=20, show_every=4, rng=0,
            show=lambda img, step: seen.append((tuple(img.shape[2:]), step)), direction=gradients.natural,
        )  # fmt: skip
        with torch.no_grad():
            assert net(got)[0, 3] > net(torch.zeros_like(got))[0, 3]
        assert seen == [((46, 46), 4), ((46, 46), 8), ((64, 64), 4), ((64, 64), 8)]

    def test_repeatable_and_silent(self, capsys):
        net = small_net()
        a, b = (create_class_visualization(1, net, torch.float64, size=8, num_iterations=3, rng=7) for _ in range(2))
        assert torch.equal(a, b)
        assert not capsys.readouterr().out
        kept = create_class_visualization(1, net, torch.float64, size=8, num_iterations=0, start=a)
        assert torch.equal(kept, a)
        assert kept is not a

    @pytest.mark.robustness
    def test_bad_input_is_named(self):
        _, model = linear()
        img = pictures(1, 3)
        for target in (4, -1):
            with pytest.raises(ValueError, match=r"target_y is|y holds labels"):
                class_visualization_step(img, target, model)
            with pytest.raises(ValueError, match="target_y is"):
                create_class_visualization(target, model, torch.float64, size=3)
        with pytest.raises(ValueError, match="reg must be"):
            class_visualization_step(img, 1, model, l2_reg=-1)
        with pytest.raises(ValueError, match=r"\(1, 3, H, W\)"):
            class_visualization_step(pictures(2, 3), 1, model)
        for name in ("num_iterations", "blur_every", "max_jitter", "show_every"):
            with pytest.raises(ValueError, match=name):
                create_class_visualization(1, model, torch.float64, size=3, **{name: -1})


class TestInversion:
    def step(self, net, X, target, **options):
        return inversion.invert_features(target, net, wide(net), optimizer="descent", start=X, **options)

    @pytest.mark.learner
    @settings(max_examples=15, deadline=None)
    @given(st.floats(0, 1), st.floats(1e-3, 0.1), st.integers(0, 100))
    def test_step_on_a_linear_map(self, l2_reg, rate, seed):
        """phi is a 1x1 convolution A, so the gradient is 2 A^T (A x - t) + 2 l2_reg x at every pixel."""
        net = nn.Conv2d(3, 5, 1, bias=False).double()
        A, X, target = net.weight.detach()[:, :, 0, 0], pictures(1, 4, seed), torch.randn(1, 5, 4, 4).double()
        difference = torch.einsum("ij,njhw->nihw", A, X) - target
        want = X - rate * (2 * torch.einsum("ij,nihw->njhw", A, difference) + 2 * l2_reg * X)
        got = self.step(net, X, target, learning_rate=rate, num_iterations=1, l2_reg=l2_reg)
        np.testing.assert_allclose(got, want, atol=1e-12)

    @pytest.mark.learner
    def test_gradient_matches_autograd(self):
        net, X, target = conv_net(training=False), pictures(1), torch.randn(1, 4, 6, 6).double()
        x = X.clone().requires_grad_()
        want = ((net(x) - target) ** 2).sum() + 0.3 * (x**2).sum()
        want.backward()
        value, dX = inversion.inversion_gradient(X, target, net, 0.3)
        np.testing.assert_allclose(value, want.item())
        np.testing.assert_allclose(dX, x.grad, atol=1e-12)
        assert not dX.requires_grad

    @pytest.mark.learner
    def test_small_steps_lower_the_objective(self):
        net, X = conv_net(), 0.1 * pictures(1)
        with torch.no_grad():
            target = net.eval()(pictures(1, seed=3))
        values = []
        for _ in range(30):
            X = self.step(net.train(), X, target, learning_rate=0.01, num_iterations=1, l2_reg=0.01)
            assert unchanged(net)
            values.append(inversion.inversion_gradient(X, target, net.eval(), 0.01)[0])
        assert all(b < a for a, b in pairwise(values))

    @pytest.mark.learner
    def test_identity_features_give_the_picture_back(self):
        net = nn.Conv2d(3, 3, 1, bias=False).double()
        with torch.no_grad():
            net.weight.copy_(torch.eye(3)[:, :, None, None])
        picture = pictures(1)
        options = {"num_iterations": 100, "l2_reg": 0, "start": torch.zeros(1, 3, 8, 8).double()}
        got = inversion.invert_features(picture, net, wide(net), 0.2, optimizer="descent", **options)
        np.testing.assert_allclose(got, picture, atol=1e-8)
        options |= {"num_iterations": 600}
        np.testing.assert_allclose(inversion.invert_features(picture, net, net, 0.02, **options), picture, atol=1e-2)

    @pytest.mark.learner
    def test_more_l2_reg_makes_a_smaller_picture(self):
        net, target = conv_net(), torch.randn(1, 4, 6, 6).double()
        norms = [
            self.step(net, pictures(1), target, learning_rate=0.02, num_iterations=50, l2_reg=reg).norm()
            for reg in (0, 0.3, 3)
        ]
        assert norms[0] > norms[1] > norms[2]

    @pytest.mark.learner
    @pytest.mark.parametrize("optimizer", ["adam", "descent"])
    def test_zero_steps_and_the_callers_tensors(self, optimizer):
        net, X, target = conv_net(), pictures(1), torch.randn(1, 4, 6, 6).double()
        kept = X.clone(), target.clone()
        none = inversion.invert_features(target, net, net, num_iterations=0, start=X, optimizer=optimizer)
        assert torch.equal(none, X)
        assert none is not X
        got = inversion.invert_features(target, net, net, num_iterations=3, blur_every=2, start=X, optimizer=optimizer)
        assert torch.equal(X, kept[0])
        assert torch.equal(target, kept[1])
        assert not got.requires_grad
        assert got.grad is None
        lower, upper = gradients.valid_range(net, got)
        assert ((got >= lower) & (got <= upper)).all()
        assert unchanged(net)

    def test_shows_and_repeats(self):
        net, target, seen = conv_net(), torch.randn(1, 4, 6, 6).double(), []
        options = {"num_iterations": 5, "show_every": 2, "size": 8, "show": lambda X, step: seen.append(step)}
        a, b = (inversion.invert_features(target, net, net, rng=3, **options) for _ in range(2))
        assert torch.equal(a, b)
        assert seen == [2, 4, 2, 4]

    @pytest.mark.robustness
    def test_bad_input_is_named(self):
        net, target = conv_net(), torch.randn(1, 4, 6, 6).double()
        with pytest.raises(ValueError, match=r"target_feats has shape \(1, 4, 6, 6\).*\(1, 4, 7, 7\); pass start"):
            inversion.invert_features(target, net, net, size=9)
        with pytest.raises(ValueError, match="optimizer must be 'adam' or 'descent', got 'sgd'"):
            inversion.invert_features(target, net, net, size=8, optimizer="sgd")
        with pytest.raises(ValueError, match="reg must be"):
            inversion.invert_features(target, net, net, size=8, l2_reg=-1)
        for name in ("num_iterations", "blur_every", "show_every"):
            with pytest.raises(ValueError, match=name):
                inversion.invert_features(target, net, net, size=8, **{name: -1})
        with pytest.raises(ValueError, match=r"start must have shape \(1, 3, H, W\)"):
            inversion.invert_features(target, net, net, start=torch.zeros(2, 3, 8, 8))


class TestDeepDream:
    @pytest.mark.learner
    @settings(max_examples=15, deadline=None)
    @given(st.floats(0, 0.5), st.integers(0, 100))
    def test_step_on_a_linear_map(self, rate, seed):
        """phi is a 1x1 convolution A: the gradient of 1/2 ||A x||^2 is A^T A x at every pixel, without a 2."""
        net = wide(nn.Conv2d(3, 5, 1, bias=False).double())
        A, X = net.weight.detach()[:, :, 0, 0], pictures(1, 4, seed)
        got = deepdream.deepdream(X, net, net, rate, 0, 1)
        np.testing.assert_allclose(got, X + rate * torch.einsum("ij,njhw->nihw", A.T @ A, X), atol=1e-12)

    @pytest.mark.learner
    def test_small_steps_raise_the_objective(self):
        net, X, values = wide(conv_net()), pictures(1), []
        for _ in range(30):
            X = deepdream.deepdream(X, net, net, 0.01, 4, 1, rng=0)
            assert unchanged(net)
            with torch.no_grad():
                values.append((net.eval()(X) ** 2).sum().item() / 2)
            net.train()
        assert all(b > a for a, b in pairwise(values))

    @pytest.mark.learner
    def test_jitter_is_undone_and_the_range_kept(self):
        net, X = conv_net(), 0.3 * pictures(1)
        assert torch.equal(deepdream.deepdream(X, net, net, 0, 5, 7, rng=0), X)
        loud = deepdream.deepdream(X, net, net, 1e4, 5, 3, rng=0)
        lower, upper = gradients.valid_range(net, loud)
        assert ((loud >= lower) & (loud <= upper)).all()

    @pytest.mark.learner
    def test_zero_steps_return_a_copy(self):
        net, X = conv_net(), 5 * pictures(1)  # beyond the valid range, and still the same
        for got in (
            deepdream.deepdream(X, net, net, num_iterations=0),
            deepdream.guided_deepdream(X, pictures(1), net, net, num_iterations=0),
        ):
            assert torch.equal(got, X)
            assert got.data_ptr() != X.data_ptr()

    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(*[st.integers(1, 4)] * 5, st.integers(0, 1000))
    def test_guide_gradient_against_loops(self, C, h, w, gh, gw, seed):
        rng = np.random.RandomState(seed)
        x, g = rng.randn(1, C, h, w), rng.randn(1, C, gh, gw)
        got = deepdream.guide_gradient(torch.from_numpy(x), torch.from_numpy(g))
        for i, j in np.ndindex(h, w):
            columns = [g[0, :, a, b] for a, b in np.ndindex(gh, gw)]
            best = max(columns, key=lambda column: column @ x[0, :, i, j])
            np.testing.assert_array_equal(got[0, :, i, j], best)

    @pytest.mark.learner
    def test_guided_by_itself_at_one_location_is_plain(self):
        net, X = wide(conv_net(kernel=8)), pictures(1)  # the features are 1 x 1
        plain = deepdream.deepdream(X, net, net, 0.1, 0, 1)
        guided = deepdream.guided_deepdream(X, X, net, net, 0.1, 0, 1)
        np.testing.assert_allclose(guided, plain, atol=1e-12)
        assert not torch.allclose(plain, X)

    @pytest.mark.learner
    def test_guided_steps_raise_the_sum_of_the_best_products(self):
        net, X, guide, values = wide(conv_net()), pictures(1), pictures(1, 11, 5), []
        kept = X.clone(), guide.clone()
        with torch.no_grad():
            g = net.eval()(guide).flatten(2)[0]
        net.train()
        for _ in range(20):
            X = deepdream.guided_deepdream(X, guide, net, net, 0.01, 0, 1)
            assert unchanged(net)
            with torch.no_grad():
                values.append((net.eval()(X).flatten(2)[0].T @ g).amax(1).sum().item())
            net.train()
        assert all(b > a for a, b in pairwise(values))
        assert torch.equal(guide, kept[1])

    @pytest.mark.learner
    def test_the_callers_pictures_stay(self):
        net, X, guide = conv_net(), pictures(1), pictures(1, 10, 5)
        kept = X.clone(), guide.clone()
        deepdream.deepdream(X, net, net, 0.1, 2, 3, rng=0)
        deepdream.guided_deepdream(X, guide, net, net, 0.1, 2, 3, rng=0)
        assert torch.equal(X, kept[0])
        assert torch.equal(guide, kept[1])
        assert not X.requires_grad

    def test_octaves_keep_the_detail_of_the_picture(self):
        """Rate zero: shrinking and enlarging again must not blur the picture."""
        net, X = conv_net(), 0.3 * pictures(1, 64)
        np.testing.assert_allclose(deepdream.deepdream(X, net, net, 0, 3, 2, octaves=2, rng=0), X, atol=1e-12)
        seen = []
        deepdream.deepdream(
            X, net, net, 0.1, 3, 4, 2, octaves=2, rng=0, show=lambda img, step: seen.append((img.shape[-1], step))
        )
        assert seen == [(46, 2), (46, 4), (64, 2), (64, 4)]

    @pytest.mark.robustness
    def test_bad_input_is_named(self):
        net, X = conv_net(), pictures(1)
        with pytest.raises(ValueError, match=r"X must have shape \(1, 3, H, W\)"):
            deepdream.deepdream(pictures(2), net, net)
        with pytest.raises(ValueError, match=r"guide must have shape \(1, 3, H, W\)"):
            deepdream.guided_deepdream(X, pictures(2), net, net)
        with pytest.raises(TypeError, match="no named layers"):
            deepdream.deepdream(X, "conv", net)
        for name in ("max_jitter", "num_iterations", "show_every"):
            with pytest.raises(ValueError, match=name):
                deepdream.deepdream(X, net, net, **{name: -1})
        with pytest.raises(ValueError, match="octaves"):
            deepdream.deepdream(X, net, net, octaves=0)
        with pytest.raises(ValueError, match=r"\(1, C, h, w\) and \(1, C, h', w'\) are needed"):
            deepdream.guide_gradient(torch.zeros(1, 3, 2, 2), torch.zeros(1, 4, 2, 2))


@pytest.mark.robustness
def test_layers_of_a_backbone_by_name_or_index():
    from common.vision.backbone import Backbone

    torch.manual_seed(0)
    stages = {"a": nn.Conv2d(3, 4, 3, 2, 1), "b": nn.Conv2d(4, 5, 3, 2, 1)}
    net = Backbone(stages, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), [0.5] * 3, [0.5] * 3, "b")
    X = 0.1 * torch.randn(1, 3, 32, 32)
    a, b = (deepdream.deepdream(X, layer, net, 0.1, 2, 2, rng=0) for layer in ("a", 0))
    assert torch.equal(a, b)
    assert inversion.invert_features(net.features(X, "b"), "b", net, num_iterations=1, size=32).shape == X.shape
    with pytest.raises(ValueError, match="unknown layer 'c'; there are a, b"):
        deepdream.deepdream(X, "c", net)
    with pytest.raises(ValueError, match="layer is 2"):
        inversion.invert_features(X, 2, net)
