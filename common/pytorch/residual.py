"""Residual networks with pre-activation, for pictures of any size: blocks, stages, and four networks for CIFAR-10.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition" (2015) and "Identity mappings in deep residual
networks" (2016). Names and layouts are those of EECS 498 (University of Michigan).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from common.validate import checked_sizes

Stage = tuple[int, int, int, bool]  # Cin, Cout, number of blocks, downsample

log = logging.getLogger(__name__)


class PlainBlock(nn.Module):
    """BN - ReLU - conv 3x3 - BN - ReLU - conv 3x3, without a shortcut.

    Attributes:
        net: these six layers.
    """

    def __init__(self, Cin: int, Cout: int, downsample: bool = False):
        """
        Args:
            Cin, Cout: channels that come in and go out.
            downsample: halve height and width (rounded up) by a stride of 2 in the first convolution.
        Raises:
            ValueError: fewer than one channel.
        """
        super().__init__()
        checked_sizes(Cin=Cin, Cout=Cout)
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 4
        stride = 2 if downsample else 1
        self.net = nn.Sequential(
            nn.BatchNorm2d(Cin),
            nn.ReLU(),
            nn.Conv2d(Cin, Cout, 3, stride, padding=1),
            nn.BatchNorm2d(Cout),
            nn.ReLU(),
            nn.Conv2d(Cout, Cout, 3, padding=1),
        )
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(N, Cin, H, W) -> (N, Cout, H, W), or half of H and W."""
        return self.net(x)


class ResidualBlock(nn.Module):
    """F(x) + G(x): a plain block F, and a shortcut G around it.

    Attributes:
        block: F, a `PlainBlock`.
        shortcut: G, as `make_shortcut` gives it.
    """

    def __init__(self, Cin: int, Cout: int, downsample: bool = False):
        """Arguments and errors as of `PlainBlock`."""
        super().__init__()
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 5
        self.block = PlainBlock(Cin, Cout, downsample)
        self.shortcut = make_shortcut(Cin, Cout, downsample)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(N, Cin, H, W) -> (N, Cout, H, W), or half of H and W."""
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 5
        return self.block(x) + self.shortcut(x)
        ### END SOLUTION


def make_shortcut(Cin: int, Cout: int, downsample: bool = False) -> nn.Module:
    """The identity where shapes allow it, otherwise a 1x1 convolution, of stride 2 if the block downsamples.

    Args:
        Cin, Cout, downsample: of the block.
    """
    ### BEGIN SOLUTION pytorch_autograd_and_nn, 5
    if Cin == Cout and not downsample:
        return nn.Identity()
    return nn.Conv2d(Cin, Cout, 1, stride=2 if downsample else 1)
    ### END SOLUTION


class ResidualBottleneckBlock(nn.Module):
    """F(x) + G(x), where F does its 3x3 convolution on a quarter of the channels.

    F is BN - ReLU - conv 1x1 to Cout // 4 - BN - ReLU - conv 3x3 - BN - ReLU - conv 1x1 to Cout.

    Attributes:
        block: F, nine layers; a stride of 2 stands in the first 1x1 convolution.
        shortcut: G, as `make_shortcut` gives it.
    """

    def __init__(self, Cin: int, Cout: int, downsample: bool = False):
        """Arguments as of `PlainBlock`.

        Raises:
            ValueError: Cin below 1, or Cout below 4, of which a quarter would be no channel.
        """
        super().__init__()
        checked_sizes(Cin=Cin)
        if Cout < 4:
            raise ValueError(f"Cout must be at least 4, since a bottleneck has Cout // 4 channels inside; got {Cout}")
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 6
        stride, inner = 2 if downsample else 1, Cout // 4
        self.block = nn.Sequential(
            nn.BatchNorm2d(Cin),
            nn.ReLU(),
            nn.Conv2d(Cin, inner, 1, stride),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, Cout, 1),
        )
        self.shortcut = make_shortcut(Cin, Cout, downsample)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(N, Cin, H, W) -> (N, Cout, H, W), or half of H and W."""
        return self.block(x) + self.shortcut(x)


class ResNetStage(nn.Module):
    """Blocks in a row; the first one changes the number of channels and the size, the others change neither.

    Attributes:
        net: the blocks.
    """

    def __init__(
        self, Cin: int, Cout: int, num_blocks: int, downsample: bool = True, block: type[nn.Module] = ResidualBlock
    ):
        """
        Args:
            Cin, Cout, downsample: of the first block.
            num_blocks: how many.
            block: `PlainBlock`, `ResidualBlock`, `ResidualBottleneckBlock`, or any with the same arguments.
        Raises:
            ValueError: num_blocks below 1, or as the block.
        """
        super().__init__()
        checked_sizes(num_blocks=num_blocks)
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 7
        others = [block(Cout, Cout) for _ in range(num_blocks - 1)]
        self.net = nn.Sequential(block(Cin, Cout, downsample), *others)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(N, Cin, H, W) -> (N, Cout, H, W), or half of H and W."""
        return self.net(x)


class ResNetStem(nn.Module):
    """conv 3x3 - ReLU: from colours to the channels of the first stage.

    Attributes:
        net: these two layers.
    """

    def __init__(self, Cin: int = 3, Cout: int = 8):
        """
        Args:
            Cin, Cout: channels that come in and go out.
        Raises:
            ValueError: fewer than one channel.
        """
        super().__init__()
        checked_sizes(Cin=Cin, Cout=Cout)
        self.net = nn.Sequential(nn.Conv2d(Cin, Cout, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(N, Cin, H, W) -> (N, Cout, H, W)."""
        return self.net(x)


class ResNet(nn.Module):
    """Stem - stages - mean over the whole map - linear.

    Attributes:
        cnn: the stem, which has as many channels as the first stage takes, and the stages.
        fc: linear.
    """

    def __init__(
        self,
        stage_args: Sequence[Stage],
        Cin: int = 3,
        block: type[nn.Module] = ResidualBlock,
        num_classes: int = 10,
    ):
        """
        Args:
            stage_args: (Cin, Cout, num_blocks, downsample) of every stage.
            Cin: channels of the pictures.
            block: as in `ResNetStage`.
            num_classes: C.
        Raises:
            ValueError: no stage, a stage that does not take what the one before it gives, or a size below 1.
        """
        super().__init__()
        checked_sizes(num_classes=num_classes, stages=len(stage_args))
        for i, (before, after) in enumerate(pairwise(stage_args), 1):
            if before[1] != after[0]:
                raise ValueError(f"stage_args[{i}] takes {after[0]} channels, but the stage before gives {before[1]}")
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 7
        stem = ResNetStem(Cin, stage_args[0][0])
        self.cnn = nn.Sequential(stem, *(ResNetStage(*args, block=block) for args in stage_args))
        self.fc = nn.Linear(stage_args[-1][1], num_classes)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, C) of pictures (N, Cin, H, W) of any height and width."""
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 7
        maps = self.cnn(x)  # (N, channels, h, w)
        return self.fc(maps.mean(dim=(2, 3)))
        ### END SOLUTION


# Networks for CIFAR-10 -----------------------------------------------------------------------------------------

NARROW: tuple[Stage, ...] = ((8, 8, 5, False), (8, 16, 5, True), (16, 32, 5, True))
WIDE: tuple[Stage, ...] = ((32, 32, 5, False), (32, 64, 5, True), (64, 128, 5, True))
SHORT: tuple[Stage, ...] = ((32, 64, 2, True), (64, 128, 2, True), (128, 256, 2, True))  # wider, and small at once

# The numbers count the layers from the stem to the scores: 1 + 3 * 5 * 2 + 1, 1 + 3 * 5 * 3 + 1 and 1 + 3 * 2 * 2 + 1.
NETWORKS: dict[str, dict[str, Any]] = {
    "plain32": {"block": PlainBlock, "stage_args": NARROW},
    "resnet32": {"block": ResidualBlock, "stage_args": NARROW},
    "resnet47": {"block": ResidualBottleneckBlock, "stage_args": WIDE},
    "resnet14": {"block": ResidualBlock, "stage_args": SHORT},
}


def get_resnet(name: str, *, num_classes: int = 10, seed: int | None = None) -> ResNet:
    """One of the networks, with PyTorch's initial weights.

    Args:
        name: "plain32", "resnet32", "resnet47" or "resnet14", which is four times as wide at least.
        num_classes: C.
        seed: of the weights; None = PyTorch's global stream.
    Raises:
        ValueError: another name.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; there are {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[], enabled=seed is not None):  # a seed leaves the global stream as it was
        if seed is not None:
            torch.manual_seed(seed)
        return ResNet(**NETWORKS[name], num_classes=num_classes)


def main_convolutions(net: nn.Module) -> list[nn.Conv2d]:
    """The convolutions from the pictures to the scores in their order, without those in shortcuts."""
    named = [(name.split("."), module) for name, module in net.named_modules()]
    return [module for parts, module in named if isinstance(module, nn.Conv2d) and "shortcut" not in parts]


def adjust_learning_rate(
    optimizer: torch.optim.Optimizer, lrd: float, epoch: int, schedule: Collection[int] = ()
) -> list[float]:
    """Multiply the learning rates by lrd, if this epoch is one of the schedule.

    Args:
        optimizer: its parameter groups are changed.
        lrd: the factor, such as 0.1.
        epoch: which is about to begin, counted from 0.
        schedule: the epochs at which the rates fall.
    Returns:
        The learning rate of each parameter group from now on.
    Raises:
        ValueError: lrd is not a finite number above 0.
    """
    if not 0 < lrd < float("inf"):
        raise ValueError(f"lrd must be a finite number above 0, got {lrd}")
    ### BEGIN SOLUTION pytorch_autograd_and_nn, 8
    if epoch in schedule:
        for group in optimizer.param_groups:
            log.info("epoch %d: learning rate %g -> %g", epoch, group["lr"], group["lr"] * lrd)
            group["lr"] *= lrd
    ### END SOLUTION
    return [group["lr"] for group in optimizer.param_groups]
