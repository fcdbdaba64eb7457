"""Measure rivals fairly: each in worker processes of its own, taking turns, medians compared.

Thread pools of different libraries fight inside one process, and a machine is not equally fast all the time; so
every measurement starts a fresh process, and the rivals alternate.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import psutil
from tqdm.auto import tqdm

Prepare = Callable[[], Callable[[], Any]]  # makes the data and returns what is to be timed


@dataclass
class Measured:
    """Medians over the rounds: seconds, peak memory in bytes above what was there before; and a result."""

    seconds: float
    extra: float
    result: Any


class PeakMemory:
    """Resident memory that this process reached above its start, sampled every few milliseconds by a thread."""

    def __enter__(self) -> PeakMemory:
        self.process, self.done = psutil.Process(), threading.Event()
        self.start = self.peak = self.process.memory_info().rss
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.done.wait(0.003):
            self.peak = max(self.peak, self.process.memory_info().rss)

    @property
    def extra(self) -> int:
        return self.peak - self.start


def compare(rivals: dict[str, Prepare], rounds: int = 3, repeats: int = 1) -> dict[str, Measured]:
    """Time every rival `rounds` times in turn.

    Args:
        rivals: name -> a function of a module (or a partial of one) that prepares the data, imports what it needs
            and returns the call to be timed.
        rounds: worker processes for each rival.
        repeats: calls in each process; the fastest counts, so that the first, cold one does not.
    Returns:
        Name -> medians over the rounds, and the last result.
    """
    runs: dict[str, list[tuple]] = {name: [] for name in rivals}
    turns = [name for _ in range(rounds) for name in rivals]
    for name in tqdm(turns, leave=False, disable=None):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as worker:
            runs[name].append(worker.submit(_measure, rivals[name], repeats).result())
    return {name: _medians(measured) for name, measured in runs.items()}


def _medians(runs: list[tuple]) -> Measured:
    seconds, extra, results = zip(*runs, strict=True)
    return Measured(statistics.median(seconds), statistics.median(extra), results[-1])


def _measure(prepare: Prepare, repeats: int) -> tuple[float, int, Any]:
    """Runs in the worker."""
    call = prepare()
    _give_free_memory_back()
    seconds = []
    with PeakMemory() as memory:
        for _ in range(repeats):
            started = time.perf_counter()
            result = call()
            seconds.append(time.perf_counter() - started)
    return min(seconds), memory.extra, result


def _give_free_memory_back() -> None:
    """What the preparation freed, but the C library kept, would otherwise be used again and not count as extra."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)


def table(title: str, measured: dict[str, Measured], agreement: Callable[[Any, Any], float]) -> str:
    """Ratios to the first rival, which is ours: above 1 the rival takes more.

    Args:
        title: the claim or the task.
        measured: from `compare`.
        agreement: share of equal results, given a rival's and ours.
    """
    ours = next(iter(measured.values()))
    wide = max(map(len, measured))
    lines = [f"{title} ({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})"]
    lines.append(f"{'':{wide}}  time / ours   seconds   extra memory   same result")
    for name, it in measured.items():
        lines.append(
            f"{name:{wide}}  {it.seconds / ours.seconds:11.2f}  {it.seconds:8.2f}  {it.extra / 1e9:10.2f} GB"
            f"  {agreement(it.result, ours.result):11.2%}"
        )
    return "\n".join(lines)
