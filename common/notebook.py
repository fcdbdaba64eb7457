"""What a notebook needs beside its ideas: seeds, threads, plot style, source on the page, the edition line, and the box
that shows what the published data gave."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from threadpoolctl import threadpool_limits

from common import checks, reload, results
from common.data import store
from common.progress import progress, quiet
from common.results import photograph
from common.source import source_of, tidy

__all__ = ["edition", "on_photographs", "photograph", "progress", "quiet", "record", "setup", "show_source"]

ROOT = Path(__file__).resolve().parents[1]
_about: dict[str, Any] = {"edition": None, "seed": None}  # what `record` notes beside a number

STYLE = {
    "figure.dpi": 80,
    "figure.figsize": (7, 4),
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "image.cmap": "viridis",
    "image.interpolation": "nearest",
    "legend.frameon": False,
}


def setup(seed: int = 0) -> None:
    """Seed the generators, set the plot style and NumPy's printing, and keep to WORKBOOK_THREADS threads.

    From then on each cell runs the code of common/ as it stands in the files at that moment, and all checks of a cell
    report before it fails.

    Args:
        seed: for `random` and `np.random`; notebooks that need more than one stream make their own RandomState.
    Raises:
        ValueError: WORKBOOK_THREADS is not a positive whole number.
    """
    _about["seed"] = seed
    random.seed(seed)
    np.random.seed(seed)
    np.set_printoptions(precision=4, suppress=True, linewidth=100)
    plt.rcParams.update(STYLE)
    _inline_figures()
    _limit_threads(os.environ.get("WORKBOOK_THREADS", ""))
    reload.install()
    checks.install()


def _inline_figures() -> None:
    """PNG figures without the Matplotlib version inside, so that equal pictures are equal bytes."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is not None and "IPKernelApp" in shell.config:
        shell.run_line_magic("matplotlib", "inline")
        from matplotlib_inline.config import InlineBackend

        options = {"bbox_inches": "tight", "metadata": {"Software": None}}
        InlineBackend.instance(parent=shell).print_figure_kwargs = options


def _limit_threads(wanted: str) -> None:
    """Cap BLAS and OpenMP; with an empty text they use every core."""
    if not wanted:
        return
    if not wanted.isdecimal() or int(wanted) < 1:
        raise ValueError(f"WORKBOOK_THREADS={wanted!r}: give a whole number of threads, 1 or more")
    threadpool_limits(int(wanted))
    os.environ["OMP_NUM_THREADS"] = wanted  # for libraries that load later, PyTorch among them


def edition(name: str) -> str:
    """Print which edition of a data set this notebook runs on, and how to get the other.

    Args:
        name: of the data set, for example "cifar10".
    Returns:
        "pocket" or "full": the key into a notebook's budgets.
    """
    print(store.edition_line(name))
    chosen = store.edition(name)
    _about["edition"] = (chosen == "full" and store.own_note(name)) or chosen
    return chosen


def record(key: str, value: float) -> None:
    """Keep a number of this run under `make results`; does nothing else, and nothing at all for a reader.

    Args:
        key: `<notebook stem>/<words>`, for example "svm/test_accuracy".
        value: a finite number; accuracies as fractions.
    Raises:
        ValueError: a bad key, or a value that is not one finite number.
    """
    results.record(key, value, **_about)


def on_photographs(stem: str) -> None:
    """Show the numbers and figures recorded on the full edition, with the command that makes them again.

    Args:
        stem: of the notebook's file name.
    """
    from IPython.display import display

    for part in results.box(stem, ROOT):
        display(part)


def show_source(*objects: Any) -> None:
    """Show the source of functions or classes of common/ on the page.

    The page has just derived what the code does, so a docstring is shortened to its first line. The markers of
    the solution regions are left out.
    """
    from IPython.display import Markdown, display

    for thing in objects:
        path, source = source_of(thing)
        display(Markdown(f"`{path.resolve().relative_to(ROOT).as_posix()}`\n```python\n{tidy(source)}\n```"))
