"""How hard is the pocket CIFAR-10? Measures the course's ladder on it, from nearest neighbours to a small ResNet.

usage: python -m benchmarks.pocket_difficulty [--data FOLDER] [--device cpu] [--skip resnet] [--runs 1]

FOLDER holds cifar-10-batches-py files; without it the pocket edition is drawn afresh. Everything but the ResNet
takes about two minutes on two cores. Every rung has one fixed recipe; the scores describe the pictures,
not the methods at their best.
"""

import argparse
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from common.data.pocket import cifar10

RUNGS = ("knn", "linear", "two_layer", "features", "cnn", "resnet")


def load(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read the batches: X (N, 3072) float32 in 0..255 and y (N,) for train and test."""

    def read(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        parts = [pickle.loads((folder / name).read_bytes(), encoding="latin1") for name in names]
        return (
            np.concatenate([p["data"] for p in parts]).astype(np.float32),
            np.concatenate([p["labels"] for p in parts]),
        )

    return *read([f"data_batch_{b}" for b in range(1, 6)]), *read(["test_batch"])


def knn_accuracy(X, y, X_test, y_test, k: int) -> float:
    """Brute-force k nearest neighbours on raw pixels, ties to the smaller class."""
    squares = (X**2).sum(axis=1)
    near = np.concatenate([np.argpartition(squares - 2 * q @ X.T, k, axis=1)[:, :k] for q in np.split(X_test, 4)])
    votes = (y[near][:, :, None] == np.arange(10)).sum(axis=1)
    return float((votes.argmax(axis=1) == y_test).mean())


def hog_and_hue(X: np.ndarray) -> np.ndarray:
    """Gradient histograms (Dalal and Triggs, 2005) of the grey picture beside a histogram of 10 hues, (N, 334)."""
    from skimage.color import rgb2gray, rgb2hsv
    from skimage.feature import hog

    pictures = X.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) / 255
    shape = [hog(g, 9, (8, 8), (2, 2), feature_vector=True) for g in rgb2gray(pictures)]
    hues = [np.histogram(h, 10, (0, 1))[0] / h.size for h in rgb2hsv(pictures)[..., 0]]
    return np.concatenate([np.array(shape), np.array(hues)], axis=1).astype(np.float32)


def train(net: nn.Module, X, y, epochs: int, rate: float, decay: float, flip: bool = False, device="cpu") -> None:
    """AdamW with the one-cycle rate, batches of 100; `flip` mirrors half of the pictures."""
    net.to(device).train()
    optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=decay)
    steps = len(X) // 100
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * steps)
    for _ in range(epochs):
        for part in torch.randperm(len(X)).split(100)[:steps]:
            x = X[part].to(device)
            if flip:
                mirrored = torch.rand(len(x), device=device) < 0.5
                x = torch.where(mirrored[:, None], x.view(-1, 3, 32, 32).flip(3).flatten(1), x)
            loss = F.cross_entropy(net(x), y[part].to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def accuracy(net: nn.Module, X, y, device="cpu") -> float:
    """Share of right answers."""
    net.eval()
    with torch.no_grad():
        guesses = torch.cat([net(part.to(device)).argmax(dim=1).cpu() for part in X.split(500)])
    return float((guesses == y).float().mean())


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution and batch normalisation."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


def small_cnn() -> nn.Module:
    """Three convolutions (16, 32, 64) with pooling, then a linear layer: 34,000 weights."""
    layers = [nn.Unflatten(1, (3, 32, 32))]
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        layers += [conv(inputs, outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 10))


class Residual(nn.Module):
    """relu(shortcut(x) + conv(relu(conv(x)))) (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(inputs, outputs, stride), nn.ReLU(), conv(outputs, outputs))
        same = inputs == outputs and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.shortcut(x) + self.body(x))


def small_resnet() -> nn.Module:
    """A stem and six residual blocks (16, 32, 64 channels)."""
    blocks = [
        Residual(i, o, s) for i, o, s in ((16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1))
    ]
    return nn.Sequential(
        nn.Unflatten(1, (3, 32, 32)),
        conv(3, 16),
        nn.ReLU(),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def networks(features: int) -> dict[str, tuple[str, Callable[[], nn.Module], dict]]:
    """Every trained rung: its row's title, how to make the net, the recipe."""
    return {
        "linear": (
            "softmax regression on pixels",
            lambda: nn.Linear(3072, 10),
            {"epochs": 15, "rate": 1e-3, "decay": 1.0},
        ),
        "two_layer": (
            "two-layer net on pixels, 128 hidden units",
            lambda: nn.Sequential(nn.Linear(3072, 128), nn.ReLU(), nn.Linear(128, 10)),
            {"epochs": 15, "rate": 1e-3, "decay": 0.5},
        ),
        "features": (
            "softmax regression on HOG and hue histogram",
            lambda: nn.Linear(features, 10),
            {"epochs": 30, "rate": 1e-2, "decay": 0.01},
        ),
        "cnn": ("CNN, 3 convolutions, 8 epochs", small_cnn, {"epochs": 8, "rate": 5e-3, "decay": 0.05, "flip": True}),
        "resnet": (
            "ResNet, 6 blocks, 8 epochs",
            small_resnet,
            {"epochs": 8, "rate": 5e-3, "decay": 0.05, "flip": True},
        ),
    }


def standardise(X: np.ndarray, X_test: np.ndarray, each: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Subtract the training mean; divide by one deviation, or by each column's own."""
    mean, spread = X.mean(axis=0), X.std(axis=0) + 1e-6 if each else X.std()
    return torch.from_numpy((X - mean) / spread), torch.from_numpy((X_test - mean) / spread)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--skip", nargs="*", default=[], choices=RUNGS)
    parser.add_argument("--runs", type=int, default=1, help="repetitions of each trained rung, seeds 0, 1, ...")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.data or Path(scratch)
        if args.data is None:
            start = time.perf_counter()
            cifar10.write(folder)
            print(f"drew 12,000 pictures in {time.perf_counter() - start:.1f} s")
        X, y, X_test, y_test = load(folder)
    print(f"{len(X):,} train, {len(X_test):,} test\n\n| classifier | test accuracy | seconds |\n|---|---|---|")
    print("| chance | 10.0 % | |")
    for k in () if "knn" in args.skip else (1, 5, 10):
        start = time.perf_counter()
        right = knn_accuracy(X, y, X_test, y_test, k)
        print(f"| nearest neighbours on pixels, k = {k} | {right:.1%} | {time.perf_counter() - start:.0f} |")
    pixels = standardise(X, X_test, each=False)
    start = time.perf_counter()
    described = pixels if "features" in args.skip else standardise(hog_and_hue(X), hog_and_hue(X_test), each=True)
    describing = time.perf_counter() - start
    targets, wanted = torch.from_numpy(y), torch.from_numpy(y_test)
    for rung, (title, build, recipe) in networks(described[0].shape[1]).items():
        if rung in args.skip:
            continue
        inputs, queries = described if rung == "features" else pixels
        start, scores = time.perf_counter(), []
        for seed in range(args.runs):
            torch.manual_seed(seed)
            net = build()
            train(net, inputs, targets, device=args.device, **recipe)
            scores.append(accuracy(net, queries, wanted, args.device))
        seconds = (time.perf_counter() - start) / args.runs + (describing if rung == "features" else 0)
        spread = f" ± {(max(scores) - min(scores)) / 2:.1%}" if args.runs > 1 else ""
        print(f"| {title} | {np.mean(scores):.1%}{spread} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
