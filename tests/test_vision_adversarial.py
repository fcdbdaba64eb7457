"""Fooling images and FGSM: exact steps on linear models, foolbox as an oracle, and what is refused."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from common.vision.adversarial import fgsm, make_adversarial_attack, make_fooling_image
from tests.test_vision_saliency import linear, pictures, small_net


@pytest.mark.learner
def test_steps_have_length_lr_along_the_gradient():
    W, model = linear()
    X = pictures(1, 3)
    for target in range(4):
        seen = []
        got = make_fooling_image(X, target, model, lr=0.1, callback=lambda step, scores, seen=seen: seen.append(step))
        want = X + 0.1 * seen[-1] * W[target] / W[target].norm()  # the gradient is W_y everywhere
        np.testing.assert_allclose(got, want, atol=1e-12)
        assert model(got).argmax() == target
        assert seen == list(range(len(seen)))


@pytest.mark.learner
def test_it_stops_at_the_first_success():
    _, model = linear()
    X = pictures(1, 3)
    target = (int(model(X).argmax()) + 1) % 4
    history = []
    make_fooling_image(X, target, model, lr=0.1, callback=lambda step, scores: history.append(int(scores.argmax())))
    assert history[-1] == target
    assert target not in history[:-1]


@pytest.mark.learner
def test_an_easy_case_returns_a_copy():
    _, model = linear()
    X = pictures(1, 3)
    got = make_fooling_image(X, int(model(X).argmax()), model)
    assert torch.equal(got, X)
    assert got is not X


@pytest.mark.learner
def test_the_caller_keeps_everything():
    net, X = small_net().train(), pictures(1)
    before = X.clone()
    got = make_fooling_image(X, 3, net, lr=0.2)
    fgsm(X, torch.tensor([1]), net, 0.1)
    assert torch.equal(X, before)
    assert not X.requires_grad
    assert not got.requires_grad
    assert net.training
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_failure_is_reported():
    _, model = linear()
    X = pictures(1, 3)
    target = int(model(X).argmin())
    with pytest.warns(UserWarning, match=rf"not fooled after 3 steps: class {target} is .* behind"):
        got = make_fooling_image(X, target, model, max_iter=3, lr=1e-6)
    assert not torch.equal(got, X)
    with pytest.warns(UserWarning, match="after 0 steps"):
        assert torch.equal(make_fooling_image(X, target, model, max_iter=0), X)


def test_success_in_the_last_step_is_no_failure():
    _, model = linear()
    X = pictures(1, 3)
    target, steps = int(model(X).argmin()), []
    make_fooling_image(X, target, model, lr=0.1, callback=lambda step, scores: steps.append(step))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_fooling_image(X, target, model, max_iter=steps[-1], lr=0.1)


def test_a_zero_gradient_is_an_error():
    with pytest.raises(ValueError, match="gives no direction"):
        make_fooling_image(pictures(1), 1, lambda X: 0 * X.sum() + torch.tensor([[1.0, 0.0]]))


def test_verbose_prints_both_scores(capsys):
    _, model = linear()
    X = pictures(1, 3)
    make_adversarial_attack(X, int(model(X).argmin()), model, lr=0.5, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("step 0: target score ")
    assert "highest score" in lines[0]
    make_fooling_image(X, int(model(X).argmin()), model, lr=0.5)
    assert not capsys.readouterr().out


@pytest.mark.learner
@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_moves_the_loss(targeted):
    net, X, y = small_net().eval(), pictures(2), torch.tensor([3, 0])
    X = 0.5 * X.clamp(-2, 2)
    got = fgsm(X, y, net, 1e-4, targeted)
    np.testing.assert_allclose((got - X).abs(), 1e-4, rtol=1e-6)  # every pixel moves by epsilon
    with torch.no_grad():
        before, after = (nn.functional.cross_entropy(net(x), y, reduction="none") for x in (X, got))
    assert (after < before).all() if targeted else (after > before).all()


def test_fgsm_is_foolboxs():
    """On pixels in [0, 1], normalised inside foolbox, with its own cut to the valid range."""
    import foolbox

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    net.register_buffer("lower", torch.full((1, 3, 1, 1), -1.0))
    net.register_buffer("upper", torch.full((1, 3, 1, 1), 1.0))
    pixels, y = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    wrapped = foolbox.PyTorchModel(net, bounds=(0, 1), preprocessing={"mean": [0.5] * 3, "std": [0.5] * 3, "axis": -3})
    attack = foolbox.attacks.LinfFastGradientAttack()
    want, _, _ = attack(wrapped, pixels, y, epsilons=8 / 255)
    got = fgsm((pixels - 0.5) / 0.5, y, net, epsilon=2 * 8 / 255)
    np.testing.assert_allclose(0.5 * got + 0.5, want, atol=1e-6)


@pytest.mark.learner
def test_fgsm_keeps_to_the_range_and_to_each_colour():
    net, X = small_net().eval(), pictures(1)
    X = X.clamp(-1.5, 1.5)
    epsilon = torch.tensor([0.1, 0.0, 0.2]).reshape(1, 3, 1, 1)
    moved = (fgsm(X, torch.tensor([1]), net, epsilon) - X).abs()
    np.testing.assert_allclose(moved.amax((0, 2, 3)), [0.1, 0, 0.2], atol=1e-6)
    net.register_buffer("lower", torch.full((1, 3, 1, 1), -1.0))
    net.register_buffer("upper", torch.full((1, 3, 1, 1), 1.0))
    assert fgsm(X, torch.tensor([1]), net, 0.3).abs().max() == 1


@pytest.mark.robustness
def test_bad_input_is_named():
    _, model = linear()
    X = pictures(2, 3)
    with pytest.raises(ValueError, match=r"\(1, 3, H, W\), got \(2, 3, 3, 3\)"):
        make_fooling_image(X, 1, model)
    for target in (4, -1):
        with pytest.raises(ValueError, match=rf"target_y is {target}"):
            make_fooling_image(X[:1], target, model)
    with pytest.raises(TypeError, match="target_y must be an integer"):
        make_fooling_image(X[:1], 1.5, model)
    with pytest.raises(ValueError, match="max_iter"):
        make_fooling_image(X[:1], 1, model, max_iter=-1)
    with pytest.raises(ValueError, match="epsilon"):
        fgsm(X, torch.tensor([0, 1]), model, -0.1)
    with pytest.raises(ValueError, match="allowed are 0 to 3"):
        fgsm(X, torch.tensor([0, 9]), model, 0.1)
