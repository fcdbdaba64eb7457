"""Training runs: `common.pytorch.training.fit` with checkpoints, in one process or in several, on any device.

`train` hands the loop to `fit` one epoch at a time and does what happens between epochs and around a step. Devices,
processes and precision are Hugging Face's accelerate. The same script runs

    python script.py                                                one process
    accelerate launch script.py                                     the GPUs of this machine, or of several
    python -m torch.distributed.run --nproc_per_node 2 script.py    two processes, also on a CPU

The random numbers of an epoch come from the seed and the number of the epoch alone. So a run that was killed and starts
again from its last checkpoint ends with the same weights as one that was not.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from common.progress import progress
from common.pytorch.checkpoints import History, Optimisers, has_checkpoint, load_checkpoint, save_checkpoint
from common.pytorch.training import Batches, constant, do_nothing, fit
from common.validate import checked_sizes


def train(
    net: nn.Module,
    batches: Callable[[int], Batches],
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimisers: Optimisers,
    *,
    epochs: int,
    steps_per_epoch: int,
    schedule: Callable[[float], float] = constant,
    accelerator: Accelerator | None = None,
    clip: float | None = None,
    checkpoint: str | Path | None = None,
    time_limit: float | None = None,
    on_epoch: Callable[[int], Any] = do_nothing,
    on_step: Callable[[int, int], Any] = do_nothing,
    evaluate: Callable[[nn.Module], float] | None = None,
    seed: int = 0,
) -> History:
    """Train a network, and write down after each epoch how far it got; a run that finds a checkpoint goes on from it.

    In several processes each works on its share of every batch, and gradients are averaged over them before a step: up
    to rounding that is one process with the whole batch. Batch normalisation is the exception, since it uses the mean
    and variance of the share.

    Args:
        net: maps x to scores (N, C, ...); trained in place, and moved to the accelerator's device.
        batches: batches(epoch) gives the pairs x, y of that epoch on any device. It is the same in every process, of
            which each takes its share of a batch, and depends on nothing but the epoch.
        loss_fn: loss_fn(scores, y) is a mean over the examples, so that the mean over processes is that of the batch.
        optimisers: each takes one step a batch; made of the parameters of net.
        epochs, steps_per_epoch, schedule, on_epoch, on_step, evaluate: as in `fit`.
        accelerator: device, processes and precision; None = `Accelerator()`, which takes the GPU if there is one.
        clip: largest norm of the gradient of all parameters together; None = any.
        checkpoint: a file. The one before it is kept beside it, as `NAME.previous`.
        time_limit: seconds. No epoch begins that would probably end later than that; the first one always runs.
        seed: of PyTorch's global stream, which dropout uses, in each epoch and process; afterwards it is as before.
    Returns:
        The history, as of `fit`, of all epochs that were trained, those before the checkpoint too. In several
        processes loss and train_acc are means over them.
    Raises:
        ValueError: epochs or steps_per_epoch below 1, a batch that processes cannot share equally, fp16 with several
            optimisers, a limit that is not above 0, or a checkpoint that is damaged or of another network.
    """
    checked_sizes(epochs=epochs, steps_per_epoch=steps_per_epoch)
    for name, value in {"clip": clip, "time_limit": time_limit}.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")
    accelerator = accelerator or Accelerator()
    if accelerator.scaler is not None and len(optimisers) > 1:
        raise ValueError(f"fp16 scales the loss for one optimiser, got {len(optimisers)}; use bf16 or no")
    net.to(accelerator.device)
    history = load_checkpoint(checkpoint, net, optimisers) if checkpoint and has_checkpoint(checkpoint) else {}
    accelerator.wait_for_everyone()  # nobody writes before all have read
    done = len(history.get("train_acc", ()))  # epochs
    prepared, steppers = accelerator.prepare(net), prepare_optimisers(net, optimisers, accelerator, clip)
    quiet = not accelerator.is_main_process
    bar = progress(total=epochs * steps_per_epoch, initial=done * steps_per_epoch, desc="train", disable=quiet)

    def one_epoch(epoch: int) -> History:
        def after_step(step: int, _: int) -> None:
            bar.update()
            on_step(epoch * steps_per_epoch + step, epochs * steps_per_epoch)

        with epoch_stream(seed, epoch, accelerator):
            part = fit(
                prepared,
                lambda _: shares(batches(epoch), accelerator),
                scaled(loss_fn, accelerator),
                steppers,
                epochs=1,
                steps_per_epoch=steps_per_epoch,
                schedule=lambda fraction: schedule((epoch + fraction) / epochs),
                bf16=False,  # what the accelerator casts, it casts inside the network
                on_epoch=lambda _: on_epoch(epoch),
                on_step=after_step,
            )
        return part | ({"val_acc": [evaluate(net)]} if evaluate else {})

    limit = Limit(time_limit)
    try:
        for epoch in range(done, epochs):
            if everyone(limit.reached(), accelerator):
                break
            append(history, averaged(one_epoch(epoch), accelerator))
            if checkpoint and accelerator.is_main_process:
                save_checkpoint(checkpoint, net, optimisers, history)
            accelerator.wait_for_everyone()
    finally:
        bar.close()
        accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
    return history


class Limit:
    """A limit on time that is looked at before each epoch."""

    def __init__(self, seconds: float | None):
        self.seconds, self.started, self.last, self.longest = seconds, time.perf_counter(), None, 0.0

    def reached(self) -> bool:
        """Whether another epoch, as long as the longest so far, would end too late; never before the first one."""
        now = time.perf_counter()
        self.longest = max(self.longest, now - (self.last or now))
        first, self.last = self.last is None, now
        return self.seconds is not None and not first and now + self.longest > self.started + self.seconds


def append(history: History, part: History) -> None:
    """Add the values of one more epoch; times go on from where they were."""
    for name, values in part.items():
        before = history.setdefault(name, [])
        start = before[-1] if before and name in ("seconds", "cpu_seconds") else 0.0
        history[name] = before + [start + value if start else value for value in values]


# Several processes ---------------------------------------------------------------------------------------------


def shares(batches: Batches, accelerator: Accelerator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The part of each batch that this process works on, on its device.

    Raises:
        ValueError: the processes cannot share a batch equally.
    """
    count, mine = accelerator.num_processes, accelerator.process_index
    for x, y in batches:
        if len(x) % count:
            raise ValueError(
                f"{count} processes cannot share a batch of {len(x)} equally; choose a multiple of {count}"
            )
        yield tuple(part.chunk(count)[mine].to(accelerator.device) for part in (x, y))


def averaged(part: History, accelerator: Accelerator) -> History:
    """The history of an epoch with the means over the processes of loss and train_acc."""
    if accelerator.num_processes == 1:
        return part
    both = {name: torch.tensor(part[name], device=accelerator.device) for name in ("loss", "train_acc")}
    return part | {name: values.tolist() for name, values in accelerator.reduce(both, reduction="mean").items()}


def everyone(stop: bool, accelerator: Accelerator) -> bool:
    """Whether any process wants to stop: all of them stop, or none."""
    if accelerator.num_processes == 1:
        return stop
    return bool(accelerator.reduce(torch.tensor(float(stop), device=accelerator.device), reduction="sum") > 0)


@contextmanager
def epoch_stream(seed: int, epoch: int, accelerator: Accelerator) -> Iterator[None]:
    """Inside, PyTorch's global stream is that of one epoch in one process; afterwards it is as it was before."""
    key = f"{seed} {epoch} {accelerator.process_index}".encode()
    with torch.random.fork_rng(devices=[accelerator.device] if accelerator.device.type == "cuda" else []):
        torch.manual_seed(int.from_bytes(hashlib.sha256(key).digest()[:7], "little"))
        yield


# Gradients -----------------------------------------------------------------------------------------------------


class Stepper:
    """An optimiser as `fit` uses it: its groups, and its step, before which the gradient may be clipped."""

    def __init__(self, optimiser: Any, before: Callable[[], Any] = do_nothing):
        self.optimiser, self.before = optimiser, before

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of the optimiser; `fit` sets their rates."""
        return self.optimiser.param_groups

    def step(self) -> None:
        """Clip, then step."""
        self.before()
        self.optimiser.step()


def prepare_optimisers(
    net: nn.Module, optimisers: Optimisers, accelerator: Accelerator, clip: float | None
) -> list[Stepper]:
    """Optimisers that undo the scaling of fp16; the first one clips the gradient of all parameters before it steps."""
    prepared = [accelerator.prepare_optimizer(optimiser) for optimiser in optimisers]
    limit = do_nothing if clip is None else lambda: accelerator.clip_grad_norm_(net.parameters(), clip)
    return [Stepper(optimiser, limit if i == 0 else do_nothing) for i, optimiser in enumerate(prepared)]


def scaled(loss_fn: Callable, accelerator: Accelerator) -> Callable:
    """loss_fn with the same values, whose gradient is multiplied as fp16 needs it; in other precisions itself."""
    if accelerator.scaler is None:
        return loss_fn

    def loss(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        value = loss_fn(scores, y)
        factor = accelerator.scaler.scale(value.new_ones(()))
        value.register_hook(lambda gradient: gradient * factor)
        return value

    return loss
