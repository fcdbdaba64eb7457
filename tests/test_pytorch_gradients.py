"""Measurements of gradients, on networks where the answer is known."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.pytorch import gradients
from common.pytorch.residual import get_resnet
from common.pytorch.scalar import Value, ordered

x, y = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4


def parameters(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_deep_net_draws_equal_weights_with_and_without_shortcuts():
    torch.manual_seed(5)
    want = torch.rand(2)
    torch.manual_seed(5)
    plain, short = (gradients.deep_net(1, 4, norm=True, shortcut=shortcut) for shortcut in (False, True))
    assert torch.equal(torch.rand(2), want), "the global stream is as it was"
    assert torch.equal(parameters(plain), parameters(short))
    assert not torch.equal(plain(x), short(x))
    assert len(gradients.layer_gradients(plain, x, y)) == 5
    with pytest.raises(ValueError, match="depth"):
        gradients.deep_net(0, 0)


def test_he_start_and_shortcut():
    net = gradients.deep_net(0, 2, he=True, channels=64)
    assert net[1].conv.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)
    layer = gradients.Layer(3, norm=False, shortcut=True)
    nn.init.zeros_(layer.conv.weight), nn.init.zeros_(layer.conv.bias)
    assert torch.equal(layer(x), x)


def test_norms_and_agreement_against_autograd():
    net = get_resnet("resnet32", seed=0).eval()
    F.cross_entropy(net(x), y).backward()
    want = [net.cnn[0].net[0].weight.grad.norm().item(), net.cnn[3].net[4].block.net[5].weight.grad.norm().item()]
    net.zero_grad()
    norms = gradients.gradient_norms(net, x, y)
    assert len(norms) == 31
    assert [norms[0], norms[-1]] == pytest.approx(want, rel=1e-5)
    twice = gradients.agreement(net, torch.cat([x, x]), torch.cat([y, y]))
    assert twice == pytest.approx([1.0] * 31, abs=1e-4)


def test_cut_identities_leaves_convolutions():
    net = get_resnet("resnet32", seed=0).eval()
    identity, convolution = net.cnn[1].net[0], net.cnn[2].net[0]
    maps = torch.randn(2, 8, 8, 8)
    whole = convolution(maps)
    assert not torch.equal(identity(maps), identity.block(maps))
    assert gradients.cut_identities(net) is net
    assert torch.equal(identity(maps), identity.block(maps))
    assert torch.equal(convolution(maps), whole)


def test_count_nodes():
    a = torch.tensor(2.0, requires_grad=True)
    assert gradients.count_nodes((a * a).tanh().grad_fn) == 3  # tanh, the product, and the leaf
    b = Value(2)
    assert len(ordered((b * b).tanh())) == 3
