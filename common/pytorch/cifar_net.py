"""A small convolutional network that learns CIFAR-10 in a few passes, in PyTorch.

A whitening convolution that is computed and not learned, three blocks of two 3x3 convolutions, a linear head:
2.0 million parameters at widths (64, 256, 256). The layout follows D. Page, "How to train your ResNet" (2018-19), and
K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.storage import atomic_write


def whitening_filters(images: torch.Tensor, size: int = 2, eps: float = 5e-4) -> torch.Tensor:
    """Filters whose answers to patches of the images are uncorrelated and of variance 1.

    The eigenvectors of the covariance of all size x size patches, each divided by the root of its eigenvalue. Each
    filter comes a second time with the opposite sign, since the activation after it passes one sign only.

    Eigenvalue whitening as a first layer, Page (2018-19); the two signs, Jordan (2024).

    Args:
        images: (N, C, H, W), floating, normalised; a few thousand are enough.
        size: height and width of a patch, in pixels.
        eps: added to the eigenvalues, so that directions of almost no variance are not amplified without limit.
    Returns:
        (2 K, C, size, size) with K = C size^2, by falling eigenvalue, then the negatives in the same order.
    Raises:
        ValueError: images is not a batch of at least size x size pixels, or has too few patches for a covariance.
        TypeError: images is not floating.
    """
    if images.ndim != 4 or size < 1 or min(images.shape[2:]) < size:
        raise ValueError(f"images has shape {tuple(images.shape)}; (N, C, H, W) with H, W >= size = {size} is needed")
    if not images.is_floating_point():
        raise TypeError(f"images is {images.dtype}; normalise it to a floating type first")
    if len(images) * (images.shape[2] - size + 1) * (images.shape[3] - size + 1) < 2:
        raise ValueError("images holds a single patch; a covariance needs two or more")
    ### BEGIN SOLUTION pytorch, 9
    channels = images.shape[1]
    patches = nn.functional.unfold(images, size).transpose(1, 2).reshape(-1, channels * size * size)  # (P, K)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T.double()))  # rising eigenvalues, vectors in columns
    values, vectors = values.flip(0), vectors.flip(1)
    vectors = vectors * torch.where(vectors.sum(0) < 0, -1.0, 1.0)  # an eigenvector's sign is free: fix it
    filters = (vectors / (values + eps).sqrt()).T.reshape(-1, channels, size, size).to(images.dtype)
    return torch.cat([filters, -filters])
    ### END SOLUTION


def identity_filters(weight: torch.Tensor) -> None:
    """Overwrite the first C of the F filters so that filter i copies channel i, in place.

    Dirac initialisation, S. Zagoruyko and N. Komodakis, "DiracNets" (2017).

    Args:
        weight: (F, C, K, K) with odd K. If F < C, the first F channels are copied.
    """
    ### BEGIN SOLUTION pytorch, 10
    count, middle = min(weight.shape[:2]), weight.shape[2] // 2
    weight[:count] = 0
    weight[range(count), range(count), middle, middle] = 1
    ### END SOLUTION


class ConvBlock(nn.Module):
    """conv 3x3 - max-pool 2 - norm - GELU - conv 3x3 - norm - GELU: halves height and width."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm1, self.norm2 = (_norm(channels_out) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ### BEGIN SOLUTION pytorch, 10
        x = nn.functional.max_pool2d(self.conv1(x), 2)  # pool first: norm and GELU then see a quarter of the values
        x = _gelu(self.norm1(x))
        return _gelu(self.norm2(self.conv2(x)))
        ### END SOLUTION


class CifarNet(nn.Module):
    """Whitening - GELU - three blocks - max-pool over the whole map - linear.

    Attributes:
        whiten: 2x2 convolution with frozen filters and a bias that learns.
        blocks: three `ConvBlock`s.
        head: linear, without bias; its input is divided by its width.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 256, 256),
        num_classes: int = 10,
        *,
        whiten_with: torch.Tensor | None = None,
        identity: bool = True,
        seed: int = 0,
    ):
        """
        Args:
            widths: channels of each block, one or more.
            num_classes: number of classes.
            whiten_with: normalised images (N, 3, H, W) from which the whitening filters are computed; None leaves
                the first layer random and lets it learn.
            identity: start each 3x3 convolution as a copy of its input as far as there are channels.
            seed: of the weights.
        Raises:
            ValueError: no widths, a width or num_classes below 1, or images as in `whitening_filters`.
        """
        super().__init__()
        if not widths or min(widths) < 1 or num_classes < 1:
            raise ValueError(f"widths must hold numbers >= 1 and num_classes be >= 1, got {widths} and {num_classes}")
        sizes = (24, *widths)
        self.whiten = nn.Conv2d(3, sizes[0], 2)
        self.blocks = nn.Sequential(*(ConvBlock(a, b) for a, b in pairwise(sizes)))
        self.head = nn.Linear(widths[-1], num_classes, bias=False)
        self._initialise(torch.Generator().manual_seed(seed), identity)
        if whiten_with is not None:
            self.whiten.weight.data.copy_(whitening_filters(whiten_with))
            self.whiten.weight.requires_grad_(False)

    @torch.no_grad()
    def _initialise(self, draw: torch.Generator, identity: bool) -> None:
        """Uniform weights of variance 1 / (3 fan_in), a head of variance 1, zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                bound = module.weight[0].numel() ** -0.5
                module.weight.uniform_(-bound, bound, generator=draw)
                if identity and module.kernel_size == (3, 3):
                    identity_filters(module.weight)
            elif isinstance(module, nn.Linear):
                module.weight.normal_(generator=draw)
        self.whiten.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores (N, num_classes) of normalised images (N, 3, H, W)."""
        ### BEGIN SOLUTION pytorch, 10
        x = self.blocks(_gelu(self.whiten(x)))
        x = x.amax(dim=(2, 3))  # (N, widths[-1])
        return self.head(x / x.shape[1])
        ### END SOLUTION

    def save(self, path: str | Path) -> None:
        """Write the parameters and running statistics; the file appears complete or not at all."""
        with atomic_write(path) as file:
            torch.save(self.state_dict(), file)

    def load(self, path: str | Path) -> None:
        """Read what `save` wrote, to the device of the present parameters.

        Raises:
            ValueError: the file belongs to a network of other widths, or holds something else.
        """
        state = torch.load(path, map_location=self.head.weight.device, weights_only=True)
        if not isinstance(state, dict) or _shapes(state) != _shapes(self.state_dict()):
            raise ValueError(f"{path} does not hold a CifarNet of these widths")
        self.load_state_dict(state)


def _shapes(state: dict[str, Any]) -> dict[str, tuple[int, ...] | None]:
    """The shape of every tensor of a state by its name, None for what is no tensor."""
    return {name: tuple(value.shape) if torch.is_tensor(value) else None for name, value in state.items()}


def _norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm without the learned factor: only its bias learns. A step replaces 40 % of the running statistics."""
    norm = nn.BatchNorm2d(channels, eps=1e-5, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.gelu(x, approximate="tanh")
