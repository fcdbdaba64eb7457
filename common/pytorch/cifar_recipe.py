"""Train and evaluate `CifarNet`: every ingredient of the recipe can be switched off, to measure what it is worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from common.pytorch.augment import FLIPS, crop, flips, mirror, normalise, pad_reflect, views
from common.pytorch.cifar_net import CifarNet
from common.pytorch.optim import Lookahead, Muon, triangle

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


def has_bf16(device: torch.device | str = "cpu") -> bool:
    """Whether the device multiplies bfloat16 in hardware, so that autocast pays."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(known.get(unit, False) for unit in ("avx512_bf16", "amx_bf16"))


def autocast(device: torch.device | str, bf16: bool | None = None) -> torch.autocast:
    """A context in which convolutions and products run in bfloat16 (bf16=None: if `has_bf16`)."""
    device = torch.device(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device) if bf16 is None else bf16)


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
    found = [torch.optim.SGD(groups, momentum=0.85, nesterov=True)]
    return [*found, Muon(filters, lr=recipe.filter_rate)] if recipe.muon else found
    ### END SOLUTION


def train(
    images: torch.Tensor,
    labels: torch.Tensor,
    recipe: Recipe | None = None,
    *,
    val: tuple[torch.Tensor, torch.Tensor] | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    on_step: Callable[[int, int], Any] | None = None,
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
        The network in evaluation mode, and its history. A value a step: loss (mean of the batch), rate (the factor). A
        value an epoch: train_acc (running), val_acc (if val is given), seconds (wall, since the start), cpu_seconds.
    Raises:
        ValueError: fewer pictures than a batch, labels that do not fit.
        TypeError: images that are not uint8.
    """
    recipe = recipe or Recipe()
    _check_pairs(images, labels)
    if len(images) < recipe.batch_size:
        raise ValueError(f"images holds {len(images)} pictures, fewer than a batch of {recipe.batch_size}")
    draw = torch.Generator().manual_seed(seed)
    images, labels = images.to(device), labels.to(device)
    net = CifarNet(
        recipe.widths,
        whiten_with=normalise(images[:2000].cpu()) if recipe.whiten else None,
        identity=recipe.identity,
        seed=seed,
    ).to(device, memory_format=torch.channels_last)
    run = _Run(net, recipe, len(images) // recipe.batch_size)
    padded, coin = pad_reflect(images, recipe.translate), (torch.rand(len(images), generator=draw) < 0.5).to(device)
    for epoch in range(recipe.epochs):
        net.train()
        net.whiten.bias.requires_grad_(epoch < recipe.whiten_bias_epochs)
        flip = flips(coin, epoch, recipe.flip, draw)
        for batch in torch.randperm(len(images), generator=draw).to(device).split(recipe.batch_size):
            if len(batch) == recipe.batch_size:
                top, left = torch.randint(2 * recipe.translate + 1, (2, len(batch)), generator=draw).to(device)
                x = normalise(mirror(crop(padded[batch], top, left), flip[batch]))
                run.step(x.contiguous(memory_format=torch.channels_last), labels[batch])
                if on_step:
                    on_step(run.done, run.steps)
        run.end_epoch(val)
    return net.eval(), run.history


class _Run:
    """One training under way: optimisers, slow weights, counters and history."""

    def __init__(self, net: CifarNet, recipe: Recipe, steps_per_epoch: int):
        self.net, self.recipe, self.steps, self.done = net, recipe, recipe.epochs * steps_per_epoch, 0
        self.optimisers = optimisers(net, recipe)
        self.groups = [group for optimiser in self.optimisers for group in optimiser.param_groups]
        self.full_rates = [group["lr"] for group in self.groups]
        self.lookahead = Lookahead(net.parameters()) if recipe.lookahead else None
        self.history = {name: [] for name in ("loss", "rate", "train_acc", "val_acc", "seconds", "cpu_seconds")}
        self.right, self.seen = 0, 0
        self.started = time.perf_counter(), time.process_time()

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Forward, backward, one step of every optimiser."""
        factor = 1.0 if self.recipe.constant else triangle(self.done / self.steps, self.recipe.warm_up)
        for group, rate in zip(self.groups, self.full_rates, strict=True):
            group["lr"] = factor * rate
        with autocast(x.device, self.recipe.bf16):
            scores = self.net(x)
        scores = scores.float()
        loss = nn.functional.cross_entropy(scores, y, label_smoothing=self.recipe.smoothing, reduction="sum")
        self.net.zero_grad(set_to_none=True)
        loss.backward()
        for optimiser in self.optimisers:
            optimiser.step()
        self.done += 1
        if self.lookahead and self.done % 5 == 0:
            self.lookahead.update(0.95**5 * (self.done / self.steps) ** 3)  # the later, the more of the slow weights
        self.history["loss"].append(loss.item() / len(y))
        self.history["rate"].append(factor)
        self.right, self.seen = self.right + (scores.argmax(1) == y).sum().item(), self.seen + len(y)

    def end_epoch(self, val: tuple[torch.Tensor, torch.Tensor] | None) -> None:
        """Write down the accuracies and the time (without that of the validation)."""
        if self.lookahead and self.done == self.steps:
            self.lookahead.update(1.0)
        pause = time.perf_counter(), time.process_time()
        self.history["seconds"].append(pause[0] - self.started[0])
        self.history["cpu_seconds"].append(pause[1] - self.started[1])
        self.history["train_acc"].append(self.right / self.seen)
        self.right, self.seen = 0, 0
        if val is not None:
            self.history["val_acc"].append(evaluate(self.net, *val, bf16=self.recipe.bf16))
        self.started = (
            self.started[0] + time.perf_counter() - pause[0],
            self.started[1] + time.process_time() - pause[1],
        )


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
