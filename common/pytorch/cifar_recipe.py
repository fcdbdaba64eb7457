"""Train and evaluate `CifarNet`: every ingredient of the recipe can be switched off, to measure what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from common.pytorch.augment import FLIPS, crop, flips, mirror, normalise, pad_reflect, views
from common.pytorch.cifar_net import CifarNet
from common.pytorch.optim import Lookahead, Muon, triangle
from common.pytorch.training import autocast, constant, do_nothing, fit

PLAIN = ((0, 0),)
DIAGONAL = ((0, 0), (1, 1), (-1, -1))


@dataclass(frozen=True)
class Recipe:
    """How to train. The loss is summed over the batch, so rates of the SGD groups do not depend on its size.

    Attributes:
        epochs: passes over the training set.
        batch_size: pictures a step; a last, smaller batch is left out.
        widths: channels of the three blocks.
        whiten: compute the first layer from patches (else it learns).
        identity: Dirac initialisation.
        muon: orthogonalised momentum for the filters (else Nesterov SGD at sgd_rate, with decay).
        filter_rate: learning rate of Muon.
        sgd_rate, head_rate, bias_rate: rates of Nesterov SGD for filters (without Muon), head and biases.
        decay: share of the SGD weights that a step at full rate takes away, per picture of the batch.
        warm_up: share of the steps in which the rate rises; constant=True keeps the rate constant instead.
        smoothing: label smoothing, the probability that is spread over all classes.
        translate: largest random shift, pixels.
        flip: "alternate", "random" or "none".
        lookahead: mix with slow weights every five steps.
        whiten_bias_epochs: how long the bias of the first layer learns.
        bf16: matrix products in bfloat16; None = if the device has units for it.
    """

    epochs: int = 10
    batch_size: int = 500
    widths: tuple[int, ...] = (64, 256, 256)
    whiten: bool = True
    identity: bool = True
    muon: bool = True
    filter_rate: float = 0.17
    sgd_rate: float = 0.0015
    head_rate: float = 0.67
    bias_rate: float = 0.053
    decay: float = 2e-6
    warm_up: float = 0.0
    constant: bool = False
    smoothing: float = 0.2
    translate: int = 2
    flip: str = "alternate"
    lookahead: bool = False
    whiten_bias_epochs: int = 3
    bf16: bool | None = None

    def __post_init__(self):
        if self.epochs < 1 or self.batch_size < 2 or self.translate < 0:
            raise ValueError(
                "epochs must be >= 1, batch_size >= 2 and translate >= 0, "
                f"got {self.epochs}, {self.batch_size} and {self.translate}"
            )
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must be in [0, 1), got {self.smoothing}")
        if self.flip not in FLIPS:
            raise ValueError(f"flip must be one of {FLIPS}, got {self.flip!r}")


def optimisers(net: CifarNet, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Nesterov SGD for head, biases (and filters without Muon); Muon for the filters.

    PyTorch multiplies weight_decay by the rate, so it is divided by it here: all groups shrink equally fast.
    """
    ### BEGIN SOLUTION pytorch, 12
    trained = [p for p in net.parameters() if p.requires_grad]
    filters = [p for p in trained if p.ndim == 4]
    biases = [p for p in trained if p.ndim == 1]
    rates = [(biases, recipe.bias_rate), ([net.head.weight], recipe.head_rate)]
    rates += [] if recipe.muon else [(filters, recipe.sgd_rate)]
    shrink = recipe.decay * recipe.batch_size
    groups = [{"params": params, "lr": rate, "weight_decay": shrink / rate} for params, rate in rates]
    sgd = torch.optim.SGD(groups, momentum=0.85, nesterov=True)
    return [sgd, Muon(filters, lr=recipe.filter_rate)] if recipe.muon else [sgd]
    ### END SOLUTION


def augmented_batches(
    padded: torch.Tensor, labels: torch.Tensor, flip: torch.Tensor, batch_size: int, draw: torch.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield an epoch of normalised batches in random order, a random window of each padded picture.

    Args:
        padded: (N, 3, H, W) uint8, at least 32 x 32.
        labels: (N,).
        flip: (N,) bool, the pictures to mirror.
        batch_size: pictures a batch; a last, smaller batch is left out.
        draw: generator of the order and of the windows.
    Yields:
        x (batch_size, 3, 32, 32) float32 in channels_last order, y (batch_size,).
    """
    ### BEGIN SOLUTION pytorch, 14
    places = padded.shape[2] - 31  # where a window of 32 rows can begin
    order = torch.randperm(len(padded), generator=draw).to(padded.device)
    for batch in order.split(batch_size)[: len(order) // batch_size]:
        top, left = torch.randint(places, (2, batch_size), generator=draw).to(padded.device)
        x = normalise(mirror(crop(padded[batch], top, left), flip[batch]))
        yield x.contiguous(memory_format=torch.channels_last), labels[batch]
    ### END SOLUTION


def augmentation(
    images: torch.Tensor, labels: torch.Tensor, recipe: Recipe, draw: torch.Generator
) -> Callable[[int], Iterator[tuple[torch.Tensor, torch.Tensor]]]:
    """The function epoch -> `augmented_batches` that `fit` wants; arguments as in `train`."""
    padded = pad_reflect(images, recipe.translate)
    coin = (torch.rand(len(images), generator=draw) < 0.5).to(images.device)

    def batches(epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        flip = flips(coin, epoch, recipe.flip, draw)
        return augmented_batches(padded, labels, flip, recipe.batch_size, draw)

    return batches


def train(
    images: torch.Tensor,
    labels: torch.Tensor,
    recipe: Recipe | None = None,
    *,
    val: tuple[torch.Tensor, torch.Tensor] | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    on_step: Callable[[int, int], Any] = do_nothing,
) -> tuple[CifarNet, dict[str, list[float]]]:
    """Train a network from its initialisation to the end of the recipe.

    Args:
        images: (N, 3, 32, 32) uint8.
        labels: (N,) int64, 0 to 9.
        recipe: None = `Recipe()`.
        val: images and labels of which the accuracy is recorded after each epoch.
        device: where to compute.
        seed: of weights, order, shifts and mirror images; the same seed on the same machine gives the same network.
        on_step: called with (step, steps) after each step.
    Returns:
        The network in evaluation mode, and its history as `common.pytorch.training.fit` returns it, with the mean
        loss of each batch.
    Raises:
        ValueError: fewer pictures than a batch, labels that do not fit.
        TypeError: images that are not uint8.
    """
    recipe = recipe or Recipe()
    _check_pairs(images, labels)
    if len(images) < recipe.batch_size:
        raise ValueError(f"images holds {len(images)} pictures, fewer than a batch of {recipe.batch_size}")
    net, draw = initial_net(images, recipe, device, seed), torch.Generator().manual_seed(seed)
    slow = Lookahead(net.parameters()) if recipe.lookahead else None

    def after_step(step: int, steps: int) -> None:
        if slow is not None:
            update_slow_weights(slow, step, steps)
        on_step(step, steps)

    history = fit(
        net,
        augmentation(images.to(device), labels.to(device), recipe, draw),
        partial(nn.functional.cross_entropy, label_smoothing=recipe.smoothing, reduction="sum"),
        optimisers(net, recipe),
        epochs=recipe.epochs,
        steps_per_epoch=len(images) // recipe.batch_size,
        schedule=constant if recipe.constant else partial(triangle, peak=recipe.warm_up),
        bf16=recipe.bf16,
        on_epoch=lambda epoch: net.whiten.bias.requires_grad_(epoch < recipe.whiten_bias_epochs),
        on_step=after_step,
        evaluate=None if val is None else partial(evaluate, images=val[0], labels=val[1], bf16=recipe.bf16),
    )
    history["loss"] = [loss / recipe.batch_size for loss in history["loss"]]
    return net.eval(), history


def initial_net(images: torch.Tensor, recipe: Recipe, device: torch.device | str = "cpu", seed: int = 0) -> CifarNet:
    """The untrained network of a recipe, whitened with the first 2,000 images; arguments as in `train`."""
    return CifarNet(
        recipe.widths,
        whiten_with=normalise(images[:2000].cpu()) if recipe.whiten else None,
        identity=recipe.identity,
        seed=seed,
    ).to(device, memory_format=torch.channels_last)


def update_slow_weights(slow: Lookahead, step: int, steps: int) -> None:
    """Lookahead every five steps, at which the slow weights follow less and less; the last step ends on them."""
    if step % 5 == 0:
        slow.update(keep=0.95**5 * (step / steps) ** 3)
    if step == steps:
        slow.update(keep=1.0)


def predict(
    net: nn.Module,
    images: torch.Tensor,
    shifts: Sequence[tuple[int, int]] = PLAIN,
    mirrored: bool = False,
    *,
    batch_size: int = 500,
    bf16: bool | None = None,
) -> torch.Tensor:
    """Scores, averaged over views of each picture. Without shifts and mirror image this is the plain forward pass.

    Args:
        net: takes normalised pictures; left in the mode, training or evaluation, in which it came.
        images: (N, 3, H, W) uint8.
        shifts, mirrored: as in `common.pytorch.augment.views`.
        batch_size: pictures a forward pass.
        bf16: as in `Recipe`.
    Returns:
        (N, C) float32, on the device of the network.
    Raises:
        TypeError, ValueError: as `views`.
    """
    device, was_training = next(net.parameters()).device, net.training
    net.eval()
    try:
        ### BEGIN SOLUTION pytorch, 15
        scores = []
        for batch in images.split(batch_size):
            with torch.inference_mode(), autocast(device, bf16):
                seen = [net(normalise(view.to(device))).float() for view in views(batch, shifts, mirrored)]
            scores.append(torch.stack(seen).mean(0))
        return torch.cat(scores)
        ### END SOLUTION
    finally:
        net.train(was_training)


def evaluate(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, *args, **options) -> float:
    """Share of the pictures whose highest score is that of their label; arguments as in `predict`."""
    _check_pairs(images, labels)
    return (predict(net, images, *args, **options).argmax(1).cpu() == labels.cpu()).double().mean().item()


def _check_pairs(images: torch.Tensor, labels: torch.Tensor) -> None:
    if labels.shape != (len(images),) or len(images) == 0 or labels.dtype != torch.int64:
        raise ValueError(
            f"labels must be int64 of shape ({len(images)},), at least one, got {labels.dtype} {tuple(labels.shape)}"
        )
