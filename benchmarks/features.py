"""Extracting HOG and hue histograms from 50,000 pictures: time on one core and on all, memory of all processes.

usage: python -m benchmarks.features [--pictures 50000]

Peers in the same run: scikit-image's hog with the same cells, and Matplotlib's hue, on 2,000 of the pictures. The
pictures are random bytes, which cost as much as photographs. Each parallel run has an interpreter of its own,
with the start of the workers included; memory is the largest sum over all its processes of what each holds alone,
plus its share of what they share (PSS, Linux only).
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.colors import rgb_to_hsv
from skimage.feature import hog

from common.features import color_histogram_hsv, extract_features, hog_feature, to_grey

FUNCTIONS = [hog_feature, color_histogram_hsv]


def their_hog(im: np.ndarray) -> np.ndarray:
    """scikit-image: 9 angles, cells of 8 x 8, blocks of one cell."""
    return hog(to_grey(im), 9, (8, 8), (1, 1), "L1")


def their_hue(im: np.ndarray) -> np.ndarray:
    """Matplotlib's hue, counted by NumPy."""
    return np.histogram(rgb_to_hsv(im / 255)[..., 0], bins=10, range=(0, 1))[0] / 1024


def family(root: int) -> list[int]:
    """Process ids of root and all its descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    members = [root]
    for pid in members:
        members += [child for child, parent in parents.items() if parent == pid]
    return members


def held(pids: list[int]) -> int:
    """Bytes of memory of the processes, shared pages counted once."""
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(1024 * int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


def worker(pictures: int, n_jobs: int) -> None:
    """One extraction in this interpreter; prints seconds and the peak of the memory in bytes."""
    imgs = np.random.RandomState(0).randint(0, 256, (pictures, 32, 32, 3), dtype=np.uint8)
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.4):
            peak[0] = max(peak[0], held(family(os.getpid())))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    extract_features(imgs, FUNCTIONS, n_jobs=n_jobs)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    print(seconds, peak[0])


def microseconds(fn: Callable[[np.ndarray], np.ndarray], imgs: np.ndarray) -> float:
    """Median over rounds of the time a picture takes."""
    rounds = []
    for part in np.array_split(imgs, 10):
        start = time.perf_counter()
        for im in part:
            fn(im)
        rounds.append((time.perf_counter() - start) / len(part))
    return 1e6 * float(np.median(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=50000)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        return worker(args.pictures, args.worker)
    imgs = np.random.RandomState(0).randint(0, 256, (2000, 32, 32, 3), dtype=np.uint8)
    print("| one picture | ours, µs | peer, µs | ratio |\n|---|---|---|---|")
    for name, ours, theirs in (("HOG", hog_feature, their_hog), ("hue histogram", color_histogram_hsv, their_hue)):
        mine, peer = microseconds(ours, imgs), microseconds(theirs, imgs)
        print(f"| {name} | {mine:.0f} | {peer:.0f} | {peer / mine:.1f} |")
    print(f"\n| {args.pictures:,} pictures | seconds | all processes, GB |\n|---|---|---|")
    for n_jobs, name in ((1, "one process"), (-1, f"one a core ({os.cpu_count()})")):
        command = [
            sys.executable,
            "-m",
            "benchmarks.features",
            "--pictures",
            str(args.pictures),
            "--worker",
            str(n_jobs),
        ]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        seconds, peak = map(float, out.split())
        print(f"| {name} | {seconds:.1f} | {peak / 1e9:.2f} |", flush=True)
    return None


if __name__ == "__main__":
    main()
