"""Data-parallel training by hand: every process has the whole network and works on its share of each batch.

The script below runs in two processes on this machine:

    python -m torch.distributed.run --standalone --nproc_per_node 2 -m common.pytorch.parallel weights.pt
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from common.storage import atomic_write
from common.validate import checked_sizes

ROOT = Path(__file__).resolve().parents[2]
STEPS, BATCH, RATE = 5, 32, 0.1


def average_gradients(net: nn.Module, all_reduce: Callable[[Tensor], Any], processes: int) -> None:
    """Replace the gradient of each parameter by its mean over the processes.

    Args:
        net: after its `backward`, in this process.
        all_reduce: all_reduce(tensor) replaces a tensor by the sum of those of all processes, in place.
        processes: how many there are.
    """
    for parameter in net.parameters():
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 9
        all_reduce(parameter.grad)
        parameter.grad /= processes
        ### END SOLUTION


def small_net(batch_norm: bool = False) -> nn.Module:
    """conv 3x3 - (batch norm) - ReLU - linear for pictures of 8 x 8, with the same weights in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        convolution, linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 64, 10)
    norm = nn.BatchNorm2d(8) if batch_norm else nn.Identity()
    return nn.Sequential(convolution, norm, nn.ReLU(), nn.Flatten(), linear).double()


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Random pictures (32, 3, 8, 8), float64, and labels (32,) of one step, the same in every process."""
    draw = torch.Generator().manual_seed(step)
    return torch.randn(BATCH, 3, 8, 8, generator=draw, dtype=torch.float64), torch.randint(10, (BATCH,), generator=draw)


def train_share(net: nn.Module, rank: int = 0, processes: int = 1) -> Tensor:
    """Some steps of gradient descent, in which this process works on its share of each batch.

    Args:
        net: trained in place.
        rank: number of this process, from 0.
        processes: how many there are; they share 32 pictures equally.
    Returns:
        All parameters in one row.
    """
    for step in range(STEPS):
        x, y = (part.chunk(processes)[rank] for part in batch(step))
        net.zero_grad()
        F.cross_entropy(net(x), y).backward()
        if processes > 1:
            average_gradients(net, dist.all_reduce, processes)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= RATE * parameter.grad
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def launch(processes: int = 2, timeout: float = 300.0) -> dict[str, Tensor]:
    """Run this module as a script in several processes on this machine, and wait for them.

    Args:
        processes: how many, a divisor of 32.
        timeout: seconds.
    Returns:
        What `main` writes.
    Raises:
        ValueError: processes that cannot share 32 pictures equally.
        RuntimeError: a process failed; with the end of what they wrote.
    """
    checked_sizes(processes=processes)
    if BATCH % processes:
        raise ValueError(f"{processes} processes cannot share a batch of {BATCH} equally")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.pt"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
        command = [
            sys.executable,
            *launcher,
            f"--nproc-per-node={processes}",
            "-m",
            "common.pytorch.parallel",
            str(file),
        ]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise RuntimeError(f"{processes} processes ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return torch.load(file, weights_only=True)


def environment() -> dict[str, str]:
    """Of the processes: they find this package from any folder, use one thread, and talk through loopback."""
    found = {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if loopback:
        found["GLOO_SOCKET_IFNAME"] = loopback[0]
    return os.environ | found | {"OMP_NUM_THREADS": "1"}


def main(arguments: Sequence[str] | None = None) -> None:
    """In each process: train with and without batch normalisation; the first process writes the weights to a file."""
    parser = argparse.ArgumentParser("python -m common.pytorch.parallel", description="Data-parallel training by hand.")
    parser.add_argument("file", type=Path)
    file = parser.parse_args(arguments).file
    dist.init_process_group("gloo")
    try:
        rank, processes = dist.get_rank(), dist.get_world_size()
        nets = {"plain": small_net(), "batch_norm": small_net(batch_norm=True)}
        weights = {name: train_share(net, rank, processes) for name, net in nets.items()}
        if rank == 0:
            with atomic_write(file) as out:
                torch.save(weights | {"processes": torch.tensor(processes)}, out)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
