"""Recipes for residual networks on CIFAR-10, and the command line that trains one.

python -m common.pytorch.training --recipe resnet32 --data cifar10 --checkpoint run.pt
python -m torch.distributed.run --nproc_per_node 2 -m common.pytorch.training --recipe resnet32 --batch-size 128
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch.nn import functional as F

from common.data.cifar10 import read_rows
from common.pytorch.augment import crop, mirror, normalise, pad_reflect
from common.pytorch.checkpoints import History, Optimisers
from common.pytorch.cifar_recipe import evaluate
from common.pytorch.optim import Muon, triangle
from common.pytorch.residual import NETWORKS, ResNet, get_resnet
from common.pytorch.runs import train
from common.pytorch.training import Batches
from common.storage import atomic_write
from common.validate import checked_count, checked_sizes


@dataclass(frozen=True)
class ResNetRecipe:
    """How to train one of the networks of `common.pytorch.residual`; by default as EECS 498 does.

    Attributes:
        network: a name of `common.pytorch.residual.NETWORKS`.
        epochs, batch_size: passes over the pictures, and pictures a step; the last step of a pass may have fewer.
        learning_rate, momentum, weight_decay: of SGD.
        drops: shares of the training after which the rate is multiplied by 0.1.
        warm_up: share of the steps in which the rate rises to learning_rate, to fall to zero afterwards, instead of
            drops; 0 = drops.
        translate: largest random shift, pixels.
        flip: mirror half of the pictures, drawn anew in each epoch.
        smoothing: label smoothing.
        muon: learning rate of Muon, which then trains the filters; SGD keeps the rest. 0 = SGD trains all.
    """

    network: str = "resnet32"
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-2
    momentum: float = 0.9
    weight_decay: float = 1e-4
    drops: tuple[float, ...] = (0.6, 0.8)
    warm_up: float = 0.0
    translate: int = 0
    flip: bool = False
    smoothing: float = 0.0
    muon: float = 0.0

    def __post_init__(self):
        checked_sizes(epochs=self.epochs, batch_size=self.batch_size)
        if self.network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {self.network!r}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be a finite number above 0, got {self.learning_rate}")
        for name, value in {"warm_up": self.warm_up, "smoothing": self.smoothing}.items():
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value}")
        checked_count("translate", self.translate, least=0)
        if not 0 <= self.muon < float("inf"):
            raise ValueError(f"muon must be a finite rate, 0 or above, got {self.muon}")


# A rate that rises and falls instead of dropping twice, pictures shifted and mirrored, labels smoothed, and Muon.
IMPROVED: dict[str, Any] = {
    "batch_size": 250,
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "warm_up": 0.2,
    "translate": 2,
    "flip": True,
    "smoothing": 0.1,
    "muon": 0.05,
}
RECIPES = {name: ResNetRecipe(name) for name in ("plain32", "resnet32", "resnet47")}
RECIPES |= {f"{name}_improved": ResNetRecipe(name, **IMPROVED) for name in ("resnet32", "resnet14")}


def steps_down(fraction: float, drops: Sequence[float] = (0.6, 0.8), factor: float = 0.1) -> float:
    """The factor on the rate: 1, multiplied by `factor` at each of the shares of the training that is done.

    Args:
        fraction: of the training that is done, 0 to 1.
        drops: shares, 0 to 1.
        factor: at each of them.
    """
    return factor ** sum(fraction >= drop - 1e-9 for drop in drops)  # 6 of 10 epochs may be 0.6 less a rounding error


def epoch_batches(
    images: torch.Tensor, labels: torch.Tensor, recipe: ResNetRecipe, seed: int = 0
) -> Callable[[int], Batches]:
    """What `train` asks for: all pictures of an epoch in a random order, shifted and mirrored as the recipe says.

    Args:
        images, labels: (N, 3, 32, 32) uint8 and (N,) int64.
        recipe: batch_size, translate and flip count.
        seed: together with the number of an epoch it determines the batches of that epoch.
    Returns:
        batches(epoch), which gives normalised pictures and labels.
    """
    padded = pad_reflect(images, recipe.translate)

    def batches(epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        draw = torch.Generator().manual_seed(1_000_003 * seed + epoch)
        for rows in torch.randperm(len(labels), generator=draw).split(recipe.batch_size):
            top, left = torch.randint(2 * recipe.translate + 1, (2, len(rows)), generator=draw)
            flip = (torch.rand(len(rows), generator=draw) < 0.5) & recipe.flip
            yield normalise(mirror(crop(padded[rows], top, left, images.shape[2]), flip)), labels[rows]

    return batches


def make_optimisers(net: ResNet, recipe: ResNetRecipe) -> Optimisers:
    """SGD for all parameters, or Muon for the filters of convolutions and SGD for the others.

    Args:
        net: of which the parameters are.
        recipe: learning_rate, momentum, weight_decay, warm_up and muon count.
    """
    filters = [p for p in net.parameters() if p.ndim == 4 and recipe.muon]
    chosen = {id(p) for p in filters}
    rates = {"lr": recipe.learning_rate, "momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
    others = [p for p in net.parameters() if id(p) not in chosen]
    sgd = torch.optim.SGD(others, **rates, nesterov=recipe.warm_up > 0)
    return [sgd, Muon(filters, lr=recipe.muon)] if filters else [sgd]


def train_resnet(
    images: torch.Tensor,
    labels: torch.Tensor,
    recipe: ResNetRecipe | None = None,
    *,
    val: tuple[torch.Tensor, torch.Tensor] | None = None,
    seed: int = 0,
    **options: Any,
) -> tuple[ResNet, History]:
    """Train a residual network from its initial weights.

    Args:
        images, labels: (N, 3, H, W) uint8, square, and (N,) int64 from 0 to 9.
        recipe: None = `ResNetRecipe()`.
        val: images and labels of which the accuracy is recorded after each epoch.
        seed: of weights, order, shifts and mirror images.
        options: of `common.pytorch.runs.train`: accelerator, clip, checkpoint, time_limit, on_epoch, on_step.
    Returns:
        The network in evaluation mode, and its history.
    Raises:
        ValueError: no pictures, labels that do not fit, or as `train`.
        TypeError: images that are not uint8.
    """
    recipe = recipe or ResNetRecipe()
    if labels.shape != images.shape[:1] or not len(labels) or labels.dtype != torch.int64:
        raise ValueError(f"labels must be int64, one for each of {len(images)} pictures, got {tuple(labels.shape)}")
    net = get_resnet(recipe.network, seed=seed).to(memory_format=torch.channels_last)  # faster in bf16
    down = partial(steps_down, drops=recipe.drops)
    history = train(
        net,
        epoch_batches(images, labels, recipe, seed),
        partial(F.cross_entropy, label_smoothing=recipe.smoothing),
        make_optimisers(net, recipe),
        epochs=recipe.epochs,
        steps_per_epoch=-(-len(labels) // recipe.batch_size),
        schedule=partial(triangle, peak=recipe.warm_up) if recipe.warm_up else down,
        evaluate=None if val is None else partial(evaluate, images=val[0], labels=val[1], bf16=False),
        seed=seed,
        **options,
    )
    return net.eval(), history


# Command line --------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The arguments of the command line."""
    made = argparse.ArgumentParser("python -m common.pytorch.training", description="Train a network with a recipe.")
    made.add_argument("--recipe", choices=RECIPES, default="resnet32")
    made.add_argument("--data", choices=["cifar10"], default="cifar10", help="in the edition that is in use")
    made.add_argument("--root", help="folder of the data set, instead of that of the edition")
    for name, kind in (("epochs", int), ("batch-size", int), ("learning-rate", float)):
        made.add_argument(f"--{name}", type=kind, help="instead of that of the recipe")
    made.add_argument("--num-train", type=int, help="so many pictures; default: all but those for validation")
    made.add_argument("--num-val", type=int, default=1000, help="the last pictures of the training set")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--precision", choices=["no", "bf16", "fp16"], default="no")
    made.add_argument("--cpu", action="store_true", help="even if there is a GPU")
    made.add_argument("--clip", type=float, help="largest norm of the gradient")
    made.add_argument("--checkpoint", help="a file, written after each epoch; if it is there, go on from it")
    made.add_argument("--time-limit", type=float, help="seconds")
    made.add_argument("--history", help="a file for the history, as JSON")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as the command line says, and print the accuracies.

    Args:
        arguments: None = those of this process.
    """
    args = parser().parse_args(arguments)
    chosen = {name: getattr(args, name) for name in ("epochs", "batch_size", "learning_rate")}
    recipe = replace(RECIPES[args.recipe], **{name: value for name, value in chosen.items() if value is not None})
    X, y, Xt, yt = (torch.from_numpy(part) for part in read_rows(args.root))
    num_val = checked_count("num_val", args.num_val, 1, len(y) - 1)
    num_train = checked_count("num_train", args.num_train or len(y) - num_val, 1, len(y) - num_val)
    X, Xt = (rows.reshape(-1, 3, 32, 32) for rows in (X, Xt))
    accelerator = Accelerator(cpu=args.cpu, mixed_precision=args.precision)
    options = {"clip": args.clip, "checkpoint": args.checkpoint, "time_limit": args.time_limit, "seed": args.seed}
    options |= {"accelerator": accelerator, "val": (X[-num_val:], y[-num_val:])}
    net, history = train_resnet(X[:num_train], y[:num_train], recipe, **options)
    test = evaluate(net, Xt, yt, bf16=False)
    both = evaluate(net, Xt, yt, mirrored=True, bf16=False)
    if accelerator.is_main_process:
        for epoch, (right, val) in enumerate(zip(history["train_acc"], history["val_acc"], strict=True), 1):
            print(f"epoch {epoch:3d}  training {right:.3f}  validation {val:.3f}")
        took = f"{history['seconds'][-1]:.0f} s"
        print(f"{args.recipe}: test accuracy {test:.4f}, {both:.4f} with mirror images, trained in {took}")
        if args.history:
            with atomic_write(args.history, "w", encoding="utf-8") as file:
                json.dump(history | {"test_acc": test, "mirrored_test_acc": both}, file)
