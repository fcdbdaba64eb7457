"""One small convolutional network three ways: bare tensors, a module, and a list of layers.

conv 5x5 - ReLU - conv 3x3 - ReLU - linear, from CIFAR-10 pictures to scores, 170,906 parameters. The exercises of
"PyTorch autograd and nn" (EECS 498/598, University of Michigan). Weights have the layout of `F.linear` and
`F.conv2d`, what goes out first; they start as in He, Zhang, Ren and Sun, "Delving deep into rectifiers" (2015), and
biases start at zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.validate import checked_sizes

SIZE = 32  # height and width of the pictures, which padding keeps
CHANNELS = (3, 32, 16)  # colours, and filters of both convolutions
WEIGHT_DECAY = 1e-4


def flatten(x: Tensor, start_dim: int = 1, end_dim: int = -1) -> Tensor:
    """The axes from start_dim to end_dim as one; by default a picture (N, C, H, W) becomes a row (N, C H W)."""
    return x.flatten(start_dim, end_dim)


# Part 2: bare tensors ----------------------------------------------------------------------------------------


def three_layer_convnet(x: Tensor, params: Sequence[Tensor]) -> Tensor:
    """Scores of pictures.

    Args:
        x: (N, 3, H, W).
        params: conv_w1 (C1, 3, 5, 5), conv_b1 (C1,), conv_w2 (C2, C1, 3, 3), conv_b2 (C2,), fc_w (C, C2 H W),
            fc_b (C,).
    Returns:
        (N, C).
    Raises:
        ValueError: not six parameters.
    """
    if len(params) != 6:
        raise ValueError(f"params must hold three weights and three biases, got {len(params)} tensors")
    conv_w1, conv_b1, conv_w2, conv_b2, fc_w, fc_b = params
    ### BEGIN SOLUTION pytorch_autograd_and_nn, 2
    x = F.relu(F.conv2d(x, conv_w1, conv_b1, padding=2))
    x = F.relu(F.conv2d(x, conv_w2, conv_b2, padding=1))
    return F.linear(flatten(x), fc_w, fc_b)
    ### END SOLUTION


def initialize_three_layer_conv_part2(
    dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> list[Tensor]:
    """Parameters for `three_layer_convnet`, drawn from PyTorch's global stream.

    Returns:
        conv_w1, conv_b1, conv_w2, conv_b2, fc_w, fc_b; each is a leaf that autograd follows.
    """
    (colours, C1, C2), made = CHANNELS, {"dtype": dtype, "device": device, "requires_grad": True}
    ### BEGIN SOLUTION pytorch_autograd_and_nn, 2
    params = []
    for shape in ((C1, colours, 5, 5), (C2, C1, 3, 3), (10, C2 * SIZE * SIZE)):
        params.append(nn.init.kaiming_normal_(torch.empty(shape, **made)))
        params.append(torch.zeros(shape[0], **made))
    return params
    ### END SOLUTION


# Part 3: a module --------------------------------------------------------------------------------------------


class ThreeLayerConvNet(nn.Module):
    """The same network as a module.

    Attributes:
        conv1, conv2, fc: the layers.
    """

    def __init__(self, in_channel: int, channel_1: int, channel_2: int, num_classes: int):
        """
        Args:
            in_channel: colours of the 32 x 32 pictures.
            channel_1, channel_2: filters of the convolutions.
            num_classes: C.
        Raises:
            ValueError: a number below 1.
        """
        super().__init__()
        checked_sizes(in_channel=in_channel, channel_1=channel_1, channel_2=channel_2, num_classes=num_classes)
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 2
        self.conv1 = nn.Conv2d(in_channel, channel_1, 5, padding=2)
        self.conv2 = nn.Conv2d(channel_1, channel_2, 3, padding=1)
        self.fc = nn.Linear(channel_2 * SIZE * SIZE, num_classes)
        self.apply(start_kaiming)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, C) of pictures (N, in_channel, 32, 32)."""
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 2
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        return self.fc(flatten(x))
        ### END SOLUTION


def start_kaiming(module: nn.Module) -> None:
    """Give a convolution or linear layer normal weights of variance 2 / fan_in and zero biases; leave others alone."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(module.bias)


def initialize_three_layer_conv_part3(
    dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", learning_rate: float = 3e-3
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A `ThreeLayerConvNet` of the usual sizes, and plain SGD with weight decay."""
    ### BEGIN SOLUTION pytorch_autograd_and_nn, 2
    model = ThreeLayerConvNet(*CHANNELS, num_classes=10).to(device, dtype)
    return model, torch.optim.SGD(model.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    ### END SOLUTION


# Part 4: a list of layers ------------------------------------------------------------------------------------


def initialize_three_layer_conv_part4(
    dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", learning_rate: float = 1e-2
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The same network as an `nn.Sequential`, and SGD with Nesterov momentum 0.5 and weight decay."""
    colours, C1, C2 = CHANNELS
    ### BEGIN SOLUTION pytorch_autograd_and_nn, 2
    convolutions = nn.Conv2d(colours, C1, 5, padding=2), nn.ReLU(), nn.Conv2d(C1, C2, 3, padding=1), nn.ReLU()
    model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(C2 * SIZE * SIZE, 10))
    model = model.apply(start_kaiming).to(device, dtype)
    options = {"momentum": 0.5, "nesterov": True, "weight_decay": WEIGHT_DECAY}
    return model, torch.optim.SGD(model.parameters(), lr=learning_rate, **options)
    ### END SOLUTION
