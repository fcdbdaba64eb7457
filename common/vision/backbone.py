"""Networks trained on ImageNet behind one small interface: pictures in, scores and feature maps out.

EfficientNet-Lite0 (after Tan and Le, "EfficientNet", 2019; weights by TensorFlow's authors) comes inside a Python
package, so it needs no download. SqueezeNet (Iandola et al., 2016) and MobileNetV2 (Sandler et al., 2018) are
torchvision's; their weights are files under `weights/` in the data root.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from common.progress import progress
from common.validate import checked_count, checked_sizes
from common.vision.images import SQUEEZENET_MEAN, SQUEEZENET_STD, as_row, checked_picture, shorter_side, to_rgb
from common.vision.weights import load_weights

SIZE = 224  # pixels of a side that all of them were trained with
SMALLEST = 32  # every network halves the picture five times, or nearly so


class Backbone(nn.Module):
    """A frozen classifier of ImageNet whose feature maps have names.

    Attributes:
        layers: names of the feature maps, first to last.
        labels: names of the 1,000 classes.
        feature_layer: the map that `extract` reads.
        mean, std: of the normalisation, (1, 3, 1, 1), for pixels in [0, 1].
        lower, upper: normalised black and white, (1, 3, 1, 1): a valid picture lies between them.
    """

    def __init__(
        self,
        stages: dict[str, nn.Module],
        head: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        feature_layer: str,
    ):
        super().__init__()
        self.layers, self.feature_layer = tuple(stages), feature_layer
        self.stages, self.head = nn.ModuleList(stages.values()), head
        for name, value in {"mean": as_row(mean), "std": as_row(std)}.items():
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("lower", (0 - self.mean) / self.std, persistent=False)
        self.register_buffer("upper", (1 - self.mean) / self.std, persistent=False)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @property
    def labels(self) -> list[str]:
        """Names of the 1,000 classes, in the order of the scores."""
        from torchvision.models import SqueezeNet1_0_Weights

        return SqueezeNet1_0_Weights.IMAGENET1K_V1.meta["categories"]

    def forward(self, X: Tensor) -> Tensor:
        """Scores before the softmax.

        Args:
            X: (N, 3, H, W) normalised pictures; H and W at least 32.
        Returns:
            (N, 1000).
        Raises:
            TypeError, ValueError: X is no such batch.
        """
        return self.head(self.features(X, len(self.layers) - 1))

    def features(self, X: Tensor, layer: str | int) -> Tensor:
        """The feature map of one layer.

        Args:
            X: as in `forward`.
            layer: a name of `layers`, or its index.
        Returns:
            (N, C, h, w).
        Raises:
            TypeError, ValueError: X is no such batch, or there is no such layer.
        """
        x = checked_picture(X, "X", least=SMALLEST)
        x = x.contiguous(memory_format=torch.channels_last)  # channels side by side: faster on a CPU
        for stage in self.stages[: self.index(layer) + 1]:
            x = stage(x)
        return x

    def index(self, layer: str | int) -> int:
        """Place of a layer in `layers`; -1 is the last.

        Raises:
            ValueError: no such name or index.
            TypeError: neither a name nor a whole number.
        """
        if isinstance(layer, str):
            if layer not in self.layers:
                raise ValueError(f"unknown layer {layer!r}; there are {', '.join(self.layers)}")
            return self.layers.index(layer)
        count = len(self.layers)
        return checked_count("layer", layer, -count, count - 1) % count

    def preprocess(self, images: Any) -> Tensor:
        """Pictures as this network wants them: shorter side 256 (bicubic), the middle 224 x 224, normalised.

        A picture of exactly 224 x 224 pixels is only normalised, so that what it shows stays where it is.

        Args:
            images: a PIL picture, uint8 (H, W, 3) or (N, H, W, 3), or a list of such pictures, of any sizes.
        Returns:
            (N, 3, 224, 224) float32 on the device of the network.
        Raises:
            TypeError: something else, or an array that is not uint8.
            ValueError: no pictures, or not three colours.
        """
        pictures = np.stack([_square(img) for img in _each(images)])
        return self.normalise(torch.from_numpy(pictures).permute(0, 3, 1, 2))

    def normalise(self, pixels: Tensor) -> Tensor:
        """(x / 255 - mean) / std of pixels (N, 3, H, W) from 0 to 255, in float32 on the device of the network."""
        return (pixels.to(self.mean.device, torch.float32).contiguous() / 255 - self.mean) / self.std

    def deprocess(self, X: Tensor) -> np.ndarray:
        """Normalised pictures (N, 3, H, W) as uint8 (N, H, W, 3); what is outside black and white is cut."""
        x = checked_picture(X, "X").detach().to(self.mean.device) * self.std + self.mean
        return (255 * x.clamp(0, 1)).round().byte().permute(0, 2, 3, 1).cpu().numpy()

    def extract(self, images: Any, *, layer: str | int | None = None, grid: int = 3, batch_size: int = 8) -> np.ndarray:
        """Features for captions: a late map, averaged over a coarse grid so that they still say where things are.

        Args:
            images: as in `preprocess`.
            layer: which map; None = `feature_layer`, the last one before the head.
            grid: cells along each side.
            batch_size: pictures at a time.
        Returns:
            (N, C * grid * grid) float32.
        Raises:
            TypeError, ValueError: as `preprocess` and `index`; grid or batch_size below 1.
        """
        checked_sizes(grid=grid, batch_size=batch_size)
        layer, pictures, rows = self.index(self.feature_layer if layer is None else layer), _each(images), []
        starts, few = range(0, len(pictures), batch_size), len(pictures) <= 64
        with torch.no_grad():
            for start in progress(starts, desc="features", unit="batch", disable=few):
                X = self.preprocess(pictures[start : start + batch_size])
                maps = self.features(X, layer)
                rows.append(nn.functional.adaptive_avg_pool2d(maps, grid).flatten(1).cpu().numpy())
        return np.concatenate(rows)


def _each(images: Any) -> Sequence[Any]:
    """The pictures of a batch one by one; of an array a view, without a copy."""
    single = isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 3)
    if not single and not isinstance(images, list | tuple | np.ndarray):
        raise TypeError(f"images must be a PIL picture, a uint8 array or a list of these, got {type(images).__name__}")
    pictures = [images] if single else images
    if not len(pictures):
        raise ValueError("images holds no picture")
    return pictures


def _square(img: Any) -> np.ndarray:
    """The middle SIZE x SIZE pixels of one picture, after its shorter side got SIZE / 0.875 = 256."""
    if isinstance(img, np.ndarray):
        if img.dtype != np.uint8:
            raise TypeError(f"a picture as an array must be uint8 (values 0 to 255), got {img.dtype}")
        if img.ndim != 3 or img.shape[2] != 3 or 0 in img.shape:
            raise ValueError(f"a picture as an array must have shape (H, W, 3), got {img.shape}")
        img = Image.fromarray(img)
    img = to_rgb(img)
    if img.size != (SIZE, SIZE):
        img = shorter_side(img, round(SIZE / 0.875))
        left, top = ((side - SIZE) // 2 for side in img.size)
        img = img.crop((left, top, left + SIZE, top + SIZE))
    return np.array(img)


# Loading -----------------------------------------------------------------------------------------------------


def load_backbone(
    name: str = "efficientnet_lite0", weights: str | Path | None = None, device: str | torch.device = "cpu"
) -> Backbone:
    """A network with its ImageNet weights.

    Args:
        name: "efficientnet_lite0", or torchvision's "squeezenet1_0", "squeezenet1_1", "mobilenet_v2".
        weights: a file with a state dict for that network; None = the published one, whose checksum is verified.
        device: where it computes.
    Raises:
        ValueError: unknown name, or a file that is damaged or holds another network.
        FileNotFoundError: the file is not there; the message says how to get it.
        ImportError: the package with the weights of EfficientNet-Lite0 is not installed.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown backbone {name!r}; there are {', '.join(NETWORKS)}")
    net, make = NETWORKS[name]()
    load_weights(net, name, weights)
    return make(net).to(device)


def _efficientnet_lite0() -> tuple[nn.Module, Callable[[Any], Backbone]]:
    import timm

    def cut(net: Any) -> Backbone:
        stages = {"stem": nn.Sequential(net.conv_stem, net.bn1)}
        stages |= {f"blocks.{i}": block for i, block in enumerate(net.blocks)}
        stages |= {"head": nn.Sequential(net.conv_head, net.bn2)}
        head = nn.Sequential(net.global_pool, net.classifier)
        return Backbone(stages, head, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), feature_layer="blocks.6")

    return timm.create_model("tf_efficientnet_lite0"), cut


def _torchvision(name: str, feature_layer: int) -> tuple[nn.Module, Callable[[Any], Backbone]]:
    import torchvision

    def cut(net: Any) -> Backbone:
        stages = {f"features.{i}": stage for i, stage in enumerate(net.features)}
        pool = [] if name.startswith("squeezenet") else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        head = nn.Sequential(*pool, net.classifier, nn.Flatten())
        return Backbone(stages, head, SQUEEZENET_MEAN, SQUEEZENET_STD, feature_layer=f"features.{feature_layer}")

    return getattr(torchvision.models, name)(weights=None), cut


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Callable[[Any], Backbone]]]] = {
    "efficientnet_lite0": _efficientnet_lite0,
    "squeezenet1_0": partial(_torchvision, "squeezenet1_0", 12),
    "squeezenet1_1": partial(_torchvision, "squeezenet1_1", 12),
    "mobilenet_v2": partial(_torchvision, "mobilenet_v2", 17),
}
