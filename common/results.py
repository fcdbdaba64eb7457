"""Numbers and figures of runs on the published data sets: how a run hands them over, and how a notebook shows them.

`make results` names a folder in WORKBOOK_RESULTS. There a run leaves its numbers, its figures and the finished trials
of its searches, and `tools/results.py` takes them from there to `results/`. Without the variable nothing is written.
"""

from __future__ import annotations

import base64
import hashlib
import html
import inspect
import itertools
import json
import numbers
import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import psutil

from common.storage import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORDS = Path("results") / "full.json"  # below the repository
FOLDER = "WORKBOOK_RESULTS"  # the environment variable
WORDS = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
KEY = re.compile(rf"(?P<stem>{WORDS.pattern})/(?P<words>{WORDS.pattern})")
VERSIONS = ("numpy", "scipy", "skimage", "torch")
DPI = 96  # one inch of the figure is an inch of the page, so 10 point text is shown with 10 points
_kept_seconds = 0.0  # of the trials that an interrupted run had finished
_searches = itertools.count()  # the searches of this run, in their order

# A run hands over -------------------------------------------------------------------------------------------


def folder() -> Path | None:
    """The folder in which this run collects its results, None when it is not recorded."""
    named = os.environ.get(FOLDER, "").strip()
    return Path(named) if named else None


def record(key: str, value: float, *, edition: str | None, seed: int | None) -> None:
    """Keep a number of this run, rounded to six digits, with edition, seed, seconds of CPU so far and versions.

    Args:
        key: `<notebook stem>/<words>`, for example "svm/test_accuracy".
        value: a finite number; accuracies as fractions.
        edition: of the data set, or what stands in its place; None without one.
        seed: of the run.
    Raises:
        ValueError: a bad key, a value that is not one finite number, or a key that this run has recorded before.
    """
    stem = _stem(key)
    number = _number(key, value)
    run = folder()
    if run is None:
        return
    if stem != run.name:
        raise ValueError(f"key {key!r} begins with another notebook's name; this run is of {run.name!r}")
    kept = read_json(run / "numbers.json")
    if key in kept:
        raise ValueError(f"key {key!r} was recorded before in this run")
    about = {"edition": edition, "seed": seed, "cpu_seconds": round(cpu_seconds(), 1), "versions": versions()}
    write_json(run / "numbers.json", kept | {key: {"value": number, **about}})


def photograph(fig: Figure, name: str, caption: str = "") -> None:
    """Keep a figure of this run as `name`.png.

    Args:
        fig: a Matplotlib figure.
        name: small letters, digits and underscores.
        caption: one sentence that says what is drawn, shown below the figure and read out in its place.
    Raises:
        ValueError: a bad name.
        TypeError: fig is not a figure.
    """
    if not WORDS.fullmatch(name):
        raise ValueError(f"name {name!r}: use small letters, digits and single underscores, such as 'templates'")
    if not hasattr(fig, "savefig"):
        raise TypeError(f"fig has to be a Matplotlib figure, got {type(fig).__name__}")
    run = folder()
    if run is None:
        return
    with atomic_write(run / "figures" / f"{name}.png") as file:
        fig.savefig(file, format="png", dpi=DPI, bbox_inches="tight", facecolor="white", metadata={"Software": None})
    write_json(run / "captions.json", read_json(run / "captions.json") | {name: caption})


def trial(evaluate: Callable[..., dict], params: dict[str, Any], fixed: dict[str, Any], kept: Path | None) -> dict:
    """The scores of one candidate of a search; from the file `kept` if an interrupted run has left them there."""
    if kept is None:
        return evaluate(**params, **fixed)
    if kept.exists():
        return read_json(kept)["scores"]
    before = cpu_seconds()
    scores = {name: float(score) for name, score in evaluate(**params, **fixed).items()}
    write_json(kept, {"params": repr(params), "scores": scores, "cpu_seconds": cpu_seconds() - before})
    return scores


def trial_files(evaluate: Callable, candidates: Sequence[dict], fixed: dict[str, Any]) -> list[Path | None]:
    """Where each candidate's scores are kept; None for all when the run is not recorded.

    A file's name says which search of the run it is, and hashes what decides the scores: evaluate's source, the
    candidate and the fixed arguments.
    """
    global _kept_seconds
    run = folder()
    if run is None:
        return [None] * len(candidates)
    search = next(_searches)
    common = inspect.getsource(evaluate), joblib.hash(fixed)
    files = [run / "trials" / f"{search:03}-{joblib.hash((*common, candidate))}.json" for candidate in candidates]
    _kept_seconds += sum(read_json(file)["cpu_seconds"] for file in files if file.exists())
    return files


def cpu_seconds() -> float:
    """Processor time of this process and of all its children, the living ones and joblib's workers among them."""
    total = sum(os.times()[:4]) + _kept_seconds  # own user and system time, and that of children that have ended
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:  # ended since the list was made
            continue
        total += times.user + times.system
    return total


def versions() -> dict[str, str]:
    """Of Python and of the libraries that are loaded and shape numbers."""
    loaded = {name: sys.modules[name].__version__ for name in VERSIONS if name in sys.modules}
    return {"python": platform.python_version(), **loaded}


def _stem(key: str) -> str:
    match = KEY.fullmatch(key) if isinstance(key, str) else None
    if match is None:
        raise ValueError(f"key {key!r}: it has to be <notebook stem>/<words>, such as 'svm/test_accuracy'")
    return match["stem"]


def _number(key: str, value: Any) -> int | float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise ValueError(f"{key}: a plain number is needed, got {type(value).__name__}")
    if not np.isfinite(value):
        raise ValueError(f"{key}: a finite number is needed, got {value}")
    return int(value) if isinstance(value, numbers.Integral) else float(f"{value:.6g}")


def read_json(path: Path) -> dict:
    """The content of a JSON file, {} when there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_json(path: Path, content: dict) -> None:
    """Sorted and indented, so that a change of one number is a change of one line."""
    with atomic_write(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(content, indent=2, sort_keys=True) + "\n")


# A notebook shows -------------------------------------------------------------------------------------------


def shown(key: str, value: float) -> str:
    """A recorded number as a reader wants it: accuracies in per cent, counts in full, else three digits."""
    words = key.rpartition("/")[2].split("_")
    if "accuracy" in words or "share" in words:
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.3g}"


def label(key: str) -> str:
    """The words of a key: "svm/test_accuracy" -> "test accuracy"."""
    return key.rpartition("/")[2].replace("_", " ")


def duration(seconds: float) -> str:
    """Seconds of CPU, in minutes where they are many."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def run_line(run: dict) -> str:
    """One sentence: edition, seed, processor time, versions and the command."""
    used = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    data = f"{run['edition']} edition" if run["edition"] in ("pocket", "full") else run["edition"] or "no data set"
    seed = "" if run["seed"] is None else f", seed {run['seed']}"
    cost = f"{duration(run['cpu_seconds'])} of processor time"
    return f"Recorded: {data}{seed}, {cost} ({used}). Made by `{run['command']}`."


def table(run: dict) -> str:
    """The numbers of a run as a table in Markdown."""
    rows = [f"| {label(key)} | {shown(key, value)} |" for key, value in run["numbers"].items()]
    return "\n".join(["| number | value |", "|---|---:|", *rows])


def box(stem: str, root: Path) -> list[Any]:
    """What `notebook.on_photographs` shows: for each recorded run a sentence, its numbers and its figures.

    Args:
        stem: of the notebook's file name.
        root: of the repository.
    Returns:
        Objects for IPython's `display`.
    Raises:
        FileNotFoundError: a figure of the record is missing.
        ValueError: a figure is not the recorded one.
    """
    from IPython.display import HTML, Markdown

    row = read_json(root / RECORDS).get(stem)
    if row is None:
        return [Markdown(f"No run of `{stem}` on the full edition has been recorded yet.")]
    parts: list[Any] = []
    for run in row["runs"]:
        parts.append(Markdown("\n\n".join([run_line(run), table(run)] if run["numbers"] else [run_line(run)])))
        for name, about in run["figures"].items():
            content = _checked(root / figure_file(row["notebook"], name), about["sha256"])
            parts.append(HTML(picture(content, about["caption"] or name.replace("_", " "))))
    return parts


def figure_file(notebook: str, name: str) -> Path:
    """Where a figure lies below the repository: results/assignment1/svm/templates.png."""
    return RECORDS.parent / Path(notebook).with_suffix("") / f"{name}.png"


def picture(png: bytes, caption: str) -> str:
    """A figure that carries its picture, with the caption below it and in its place where pictures are read out."""
    source, words = base64.b64encode(png).decode(), html.escape(caption)
    return f'<figure><img alt="{words}" src="data:image/png;base64,{source}"><figcaption>{words}</figcaption></figure>'


def _checked(path: Path, sha256: str) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} is not the figure that {RECORDS} names; `make results` writes both")
    return content
