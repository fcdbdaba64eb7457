"""Pixel gradients and the maps made of them: exact on linear models, and nothing of the caller's is touched."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from common.vision import gradients, saliency

RNG = np.random.RandomState


def linear(num_classes=4, size=3, seed=0):
    """Scores W x: the gradient of s_y is the row W_y."""
    W = torch.from_numpy(RNG(seed).randn(num_classes, 3, size, size))
    return W, lambda X: (X[:, None] * W).sum(dim=(2, 3, 4))


def small_net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 36, 5)
    ).double()


def pictures(N=2, size=8, seed=0):
    return torch.from_numpy(RNG(seed).randn(N, 3, size, size))


def every_function(X, y, model):
    yield gradients.score_gradient(X, y, model)
    yield saliency.compute_saliency_maps(X, y, model)
    yield saliency.smooth_grad(X, y, model, num_samples=2, rng=0)
    yield saliency.integrated_gradients(X, y, model, num_steps=2)


@pytest.mark.learner
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(0, 1000))
def test_saliency_of_a_linear_model(N, seed):
    W, model = linear(seed=seed)
    X, y = pictures(N, 3, seed), torch.from_numpy(RNG(seed).randint(0, 4, N))
    assert torch.equal(gradients.score_gradient(X, y, model), W[y])
    assert torch.equal(saliency.compute_saliency_maps(X, y, model), W[y].abs().amax(dim=1))


@pytest.mark.learner
def test_score_gradient_matches_differences():
    net, X, y = small_net().eval(), pictures(), torch.tensor([3, 0])
    dX, h = gradients.score_gradient(X, y, net), 1e-6
    rng = RNG(0)
    for _ in range(10):
        place = tuple(rng.randint(n) for n in X.shape)
        step = torch.zeros_like(X)
        step[place] = h
        with torch.no_grad():
            up, down = (net(X + s * step)[place[0], y[place[0]]] for s in (1, -1))
        np.testing.assert_allclose(dX[place], (up - down) / (2 * h), rtol=1e-6, atol=1e-8)


@pytest.mark.learner
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 9))
def test_integrated_gradients_are_complete_on_linear_models(seed, num_steps):
    W, model = linear(seed=seed)
    X, y, baseline = pictures(2, 3, seed), torch.tensor([1, 2]), pictures(1, 3, seed + 1)
    got = saliency.integrated_gradients(X, y, model, baseline, num_steps)
    np.testing.assert_allclose(got, (X - baseline) * W[y], atol=1e-12)


@pytest.mark.learner
def test_integrated_gradients_are_complete_on_a_smooth_net():
    net, X, y = small_net().eval(), pictures(), torch.tensor([3, 0])
    got = saliency.integrated_gradients(X, y, net, num_steps=400)
    with torch.no_grad():
        want = (net(X) - net(torch.zeros_like(X))).gather(1, y[:, None])[:, 0]
    np.testing.assert_allclose(got.sum(dim=(1, 2, 3)), want, rtol=1e-4)


@pytest.mark.learner
def test_smooth_grad():
    _, model = linear()
    X, y = pictures(2, 3), torch.tensor([1, 2])
    plain = saliency.compute_saliency_maps(X, y, model)
    np.testing.assert_allclose(
        saliency.smooth_grad(X, y, model, 5, rng=0), plain, atol=1e-12
    )  # its gradient is constant
    net, X = small_net().eval(), pictures()
    y = torch.tensor([3, 0])
    plain = saliency.compute_saliency_maps(X, y, net)
    np.testing.assert_allclose(saliency.smooth_grad(X, y, net, 3, noise=0, rng=0), plain, atol=1e-12)
    noisy = saliency.smooth_grad(X, y, net, 3, noise=0.2, rng=0)
    assert not torch.allclose(noisy, plain, rtol=1e-2)
    assert torch.equal(noisy, saliency.smooth_grad(X, y, net, 3, noise=0.2, rng=RNG(0)))


@pytest.mark.learner
def test_smooth_grad_is_the_mean_of_signed_gradients():
    net, X, y = small_net().eval(), pictures(1), torch.tensor([2])
    rng, sigma = RNG(5), 0.1 * (X.max() - X.min())
    copies = [X + sigma * torch.from_numpy(rng.standard_normal(tuple(X.shape))) for _ in range(4)]
    mean = sum(gradients.score_gradient(copy, y, net) for copy in copies) / 4
    np.testing.assert_allclose(saliency.smooth_grad(X, y, net, 4, 0.1, rng=5), mean.abs().amax(1), atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_else_changes(training):
    net = small_net().train(training)
    net[3].eval()  # a mixture of modes comes back, too
    modes = [part.training for part in net.modules()]
    X, y = pictures(), torch.tensor([3, 0])
    before, running = X.clone(), net[1].running_mean.clone()
    for _ in every_function(X, y, net):
        assert torch.equal(X, before)
        assert not X.requires_grad
        assert X.grad is None
        assert all(p.grad is None and p.requires_grad for p in net.parameters())
        assert [part.training for part in net.modules()] == modes
        assert torch.equal(net[1].running_mean, running)


def test_modes_come_back_after_an_error():
    net = small_net().train()
    with pytest.raises(ValueError, match="y holds labels"):
        gradients.score_gradient(pictures(), torch.tensor([0, 5]), net)
    assert net.training
    assert all(p.requires_grad for p in net.parameters())


def test_works_where_gradients_are_off():
    W, model = linear()
    with torch.no_grad():
        assert torch.equal(gradients.score_gradient(pictures(1, 3), torch.tensor([2]), model), W[[2]])


def test_results_carry_no_graph():
    net, X, y = small_net(), pictures().requires_grad_(), torch.tensor([3, 0])
    for result in every_function(X, y, net):
        assert not result.requires_grad
    assert X.requires_grad
    assert X.grad is None


def test_directions():
    g = pictures(1)
    np.testing.assert_allclose(gradients.unit_norm(g).norm(), 1)
    np.testing.assert_allclose(gradients.unit_mean(g).abs().mean(), 1)
    assert not gradients.unit_mean(torch.zeros(1, 3, 4, 4)).any()
    for bad in (torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), float("nan"))):
        with pytest.raises(ValueError, match="gives no direction"):
            gradients.unit_norm(bad)


def test_natural_keeps_large_shapes():
    """The slow wave of two waves of equal height comes out higher, by the ratio of the frequencies to the power."""
    t = torch.arange(64, dtype=torch.float64)
    for power in (0, 1, 1.5):
        slow, fast = (
            gradients.natural(torch.cos(2 * np.pi * k * t / 64).expand(1, 3, 64, 64), power=power) for k in (2, 8)
        )
        both = gradients.natural(
            (torch.cos(2 * np.pi * 2 * t / 64) + torch.cos(2 * np.pi * 8 * t / 64)).expand(1, 3, 64, 64), power
        )
        amplitude = torch.fft.rfft(both[0, 1, 0]).abs()
        np.testing.assert_allclose(amplitude[2] / amplitude[8], 4.0**power, rtol=1e-6)
        for wave in (slow, fast, both):
            np.testing.assert_allclose(wave.std(), 1, rtol=1e-6)


def test_natural_goes_uphill():
    """It is a positive definite matrix times the gradient, so its product with the gradient is positive."""
    for seed in range(5):
        for size in (7, 8):
            g = pictures(1, size, seed)
            assert (g * gradients.natural(g)).sum() > 0
    assert not gradients.natural(torch.zeros(1, 3, 4, 4)).any()


def test_feature_map_of_torchvisions_layout():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())

    net, X = Net(), torch.randn(1, 3, 8, 8)
    assert torch.equal(gradients.feature_map(0, net)(X), net.features[0](X))
    assert gradients.feature_map(torch.sin, None) is torch.sin
    for wrong in (2, -1, "conv"):
        with pytest.raises(ValueError, match="index from 0 to 1"):
            gradients.feature_map(wrong, net)
    with pytest.raises(TypeError, match="no named layers"):
        gradients.feature_map(0, nn.Linear(2, 2))


@pytest.mark.robustness
def test_bad_input_is_named():
    _, model = linear()
    X, y = pictures(2, 3), torch.tensor([1, 2])
    for function in (gradients.score_gradient, saliency.compute_saliency_maps):
        with pytest.raises(ValueError, match=r"\(N, 3, H, W\), got \(3, 3, 3\)"):
            function(X[0], y, model)
        with pytest.raises(ValueError, match=r"got \(2, 1, 3, 3\)"):
            function(X[:, :1], y, model)
        with pytest.raises(TypeError, match="floating-point"):
            function(X.long(), y, model)
        with pytest.raises(ValueError, match="y holds labels from 1 to 4; allowed are 0 to 3"):
            function(X, torch.tensor([1, 4]), model)
        with pytest.raises(ValueError, match="y has shape"):
            function(X, y[:1], model)
        with pytest.raises(TypeError, match="integer labels"):
            function(X, torch.tensor([1.0, 2.0]), model)
    with pytest.raises(ValueError, match="noise"):
        saliency.smooth_grad(X, y, model, noise=-1)
    with pytest.raises(ValueError, match="num_samples"):
        saliency.smooth_grad(X, y, model, num_samples=0)
    with pytest.raises(ValueError, match="num_steps"):
        saliency.integrated_gradients(X, y, model, num_steps=0)
    with pytest.raises(ValueError, match=r"baseline has shape \(1, 3, 4, 4\)"):
        saliency.integrated_gradients(X, y, model, torch.zeros(1, 3, 4, 4))
