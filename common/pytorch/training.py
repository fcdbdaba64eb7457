"""The training loop: it takes a network, batches, a loss and optimisers, and knows nothing about what they are.

The recipe of a network (augmentation, frozen layers, averaged weights) enters through `batches` and the two hooks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from common.validate import checked_sizes

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


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


def constant(fraction: float) -> float:
    """The schedule that changes nothing: a factor of 1 at every fraction of the training."""
    return 1.0


def clocks() -> dict[str, float]:
    """The time now in seconds, by the clock on the wall and by the work of this process, from any starting point."""
    return {"seconds": time.perf_counter(), "cpu_seconds": time.process_time()}


def do_nothing(*_: int) -> None:
    """The hook of a training that needs none."""


def set_rates(optimisers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Give every parameter group `factor` times the learning rate that it was made with."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = factor * group.setdefault("initial_lr", group["lr"])


def fit(
    net: nn.Module,
    batches: Callable[[int], Batches],
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimisers: Sequence[torch.optim.Optimizer],
    *,
    epochs: int,
    steps_per_epoch: int,
    schedule: Callable[[float], float] = constant,
    bf16: bool | None = None,
    on_epoch: Callable[[int], Any] = do_nothing,
    on_step: Callable[[int, int], Any] = do_nothing,
    evaluate: Callable[[nn.Module], float] | None = None,
) -> dict[str, list[float]]:
    """Train a network.

    Args:
        net: maps x to scores (N, C, ...); trained in place.
        batches: batches(epoch), counted from 0, gives the pairs of x and y (N, ...), class numbers, of that epoch,
            on the device of the network.
        loss_fn: loss_fn(scores, y) is the number to make small; it gets float32 scores.
        optimisers: each takes one step a batch.
        epochs: passes over the batches.
        steps_per_epoch: batches in a pass.
        schedule: from the fraction of the training that is done, 0 to 1, to a factor on all learning rates.
        bf16: matrix products in bfloat16; None = if the device has units for it.
        on_epoch: on_epoch(epoch) is called before each epoch.
        on_step: on_step(step, steps) is called after each step, with the steps done and the steps of all epochs.
        evaluate: evaluate(net) is recorded after each epoch as val_acc; the time it takes is not counted.
    Returns:
        A value a step: loss (as loss_fn gives it), rate (the factor). A value an epoch: train_acc (running), val_acc
        (if evaluate is given), seconds (wall, since the start) and cpu_seconds.
    Raises:
        ValueError: epochs or steps_per_epoch below 1, or an epoch with another number of batches.
    """
    record = Record(epochs, steps_per_epoch)
    for epoch in range(epochs):
        record.begin_epoch()
        on_epoch(epoch)
        net.train()
        ### BEGIN SOLUTION pytorch, 14
        for x, y in batches(epoch):
            factor = schedule(record.step / record.steps)
            set_rates(optimisers, factor)
            with autocast(x.device, bf16):
                scores = net(x)
            loss = loss_fn(scores.float(), y)
            net.zero_grad()
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
            record.end_step(loss, factor, scores, y)
            on_step(record.step, record.steps)
        ### END SOLUTION
        record.end_epoch()
        if evaluate:
            record.history["val_acc"].append(evaluate(net))
    return record.history


class Record:
    """The history of a training, and how many of its steps are done.

    Attributes:
        step, steps: steps done, steps of all epochs.
        history: what `fit` returns.
    """

    def __init__(self, epochs: int, steps_per_epoch: int):
        checked_sizes(epochs=epochs, steps_per_epoch=steps_per_epoch)
        self.step, self.steps, self.steps_per_epoch = 0, epochs * steps_per_epoch, steps_per_epoch
        self.history = {name: [] for name in ("loss", "rate", "train_acc", "val_acc", "seconds", "cpu_seconds")}

    def begin_epoch(self) -> None:
        """Start the clocks and count right answers from zero."""
        self.losses, self.right, self.seen = [], 0, 0
        self.started = clocks()

    def end_step(self, loss: torch.Tensor, factor: float, scores: torch.Tensor, y: torch.Tensor) -> None:
        """Note one step; losses stay on the device until the epoch ends, so that a GPU need not wait for them.

        Raises:
            ValueError: the epoch has had its steps already.
        """
        if len(self.losses) == self.steps_per_epoch:
            raise ValueError(f"steps_per_epoch is {self.steps_per_epoch}, but batches gave more")
        self.step += 1
        self.losses.append(loss.detach())
        self.history["rate"].append(factor)
        self.right, self.seen = self.right + (scores.argmax(1) == y).sum(), self.seen + y.numel()

    def end_epoch(self) -> None:
        """Write down losses, accuracy and time of the epoch.

        Raises:
            ValueError: the epoch had too few steps.
        """
        if len(self.losses) < self.steps_per_epoch:
            raise ValueError(f"steps_per_epoch is {self.steps_per_epoch}, but batches gave only {len(self.losses)}")
        self.history["loss"] += torch.stack(self.losses).tolist()
        self.history["train_acc"].append(int(self.right) / self.seen)
        for name, now in clocks().items():
            before = self.history[name][-1] if self.history[name] else 0.0
            self.history[name].append(before + now - self.started[name])


if __name__ == "__main__":
    from common.pytorch.recipes import main

    main()
