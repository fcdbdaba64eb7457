"""Gradients in deep networks: their size in each layer, and whether different pictures agree on them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.pytorch.residual import main_convolutions
from common.pytorch.three_layer_conv import start_kaiming
from common.validate import checked_sizes


class Layer(nn.Module):
    """(batch norm) - ReLU - conv 3x3, with a shortcut around them or without."""

    def __init__(self, channels: int, norm: bool, shortcut: bool):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.around = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        out = self.conv(F.relu(self.norm(x)))
        return x + out if self.around else out


def deep_net(
    seed: int, depth: int = 30, *, he: bool = False, norm: bool = False, shortcut: bool = False, channels: int = 8
) -> nn.Module:
    """A first convolution, equal layers, the mean of the map, and a linear layer to ten scores.

    Args:
        seed: of the weights; whether there are shortcuts does not change them.
        depth: number of layers between the first convolution and the mean.
        he: weights of variance 2 / fan-in instead of PyTorch's 1 / (3 fan-in).
        norm, shortcut: of each layer.
        channels: of each layer.
    """
    checked_sizes(depth=depth, channels=channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(3, channels, 3, padding=1), *(Layer(channels, norm, shortcut) for _ in range(depth))]
        net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
        return net.apply(start_kaiming) if he else net


def layer_gradients(net: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """The gradient of the cross-entropy for each convolution outside shortcuts, flat, the first layer first."""
    net.zero_grad()
    F.cross_entropy(net(x), y).backward()
    return [layer.weight.grad.flatten().clone() for layer in main_convolutions(net)]


def gradient_norms(net: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """The length of the gradient of each convolution outside shortcuts."""
    return [gradient.norm().item() for gradient in layer_gradients(net, x, y)]


def agreement(net: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """For each convolution the cosine between the gradients of both halves of the pictures."""
    halves = (layer_gradients(net, part, labels) for part, labels in zip(x.chunk(2), y.chunk(2), strict=True))
    return [F.cosine_similarity(a, b, dim=0).item() for a, b in zip(*halves, strict=True)]


def cut_identities(net: nn.Module) -> nn.Module:
    """Let the identity shortcuts of a residual network give zeros; those with a convolution stay."""
    for part in net.modules():
        if isinstance(part, nn.Identity):
            part.register_forward_hook(lambda module, args, out: 0 * out)
    return net


def count_nodes(function: Any) -> int:
    """How many operations PyTorch has written down for a result.

    Args:
        function: its `grad_fn`.
    """
    seen, waiting = set(), [function]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(parent for parent, _ in node.next_functions)
    return len(seen)
