"""Run notebooks on the full edition and record their numbers and figures under results/.

    python -m tools.results [assignment1/svm.ipynb ...]     run what is not done for the present code, and record it
    python -m tools.results --again assignment1/svm.ipynb   run it from scratch
    python -m tools.results --tables                        only write the recorded accuracies into the READMEs

What `notebook.record` and `notebook.photograph` hand over goes to results/full.json and results/assignmentN/NAME/.
A notebook that fails leaves its old record whole. An interrupted notebook starts again, but does not repeat the trials
that its searches have finished. A run that needs another machine is made there with WORKBOOK_RESULTS=FOLDER/pytorch
and recorded here:

    python -m tools.results --take FOLDER --command "python -m ..." assignment2/pytorch.ipynb
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
import sys
from collections import Counter
from pathlib import Path

from PIL import Image

from common import results
from common.results import read_json, write_json
from common.storage import atomic_write
from tools.execute import ONE_THREAD, Execution, execute
from tools.notebooks import ROOT, find
from tools.pages import MATHJAX, write_index, write_page
from tools.run import table
from tools.tables import rewrite

BUILD = Path("build") / "results"
MOST_BYTES = 200_000  # of a notebook's figures together
# One thread for each process: the order of a sum, and so its last digits, would otherwise depend on the number of
# cores. The workers of a search still use all of them.
ENVIRONMENT = {"WORKBOOK_EDITION": "full", "PYTHONHASHSEED": "0"} | ONE_THREAD


class Refused(Exception):
    """A run that cannot be recorded; the message says why."""


def fingerprint(notebook: Path, root: Path = ROOT) -> str:
    """A hash of all code that a run depends on: the notebook's code cells and common/."""
    cells = read_json(notebook)["cells"]
    digest = hashlib.sha256()
    for cell in cells:
        if cell["cell_type"] == "code":
            digest.update("".join(cell["source"]).encode() + b"\0")
    for path in sorted([*(root / "common").rglob("*.py"), *(root / "common").rglob("*.pyx")]):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def prepare(run: Path, code: str, again: bool = False) -> bool:
    """Make the folder of a run ready; True if the run is done already.

    Args:
        run: the folder; finished trials of the same code stay in it.
        code: the fingerprint.
        again: forget everything.
    """
    if again or read_json(run / "code.json").get("code") != code:
        shutil.rmtree(run, ignore_errors=True)
        write_json(run / "code.json", {"code": code})
    if (run / "done").exists():
        return True
    for name in ("numbers.json", "captions.json"):
        (run / name).unlink(missing_ok=True)
    shutil.rmtree(run / "figures", ignore_errors=True)
    return False


def collect(run: Path, command: str) -> tuple[dict, dict[str, bytes]] | None:
    """What a run has left in its folder: the entry of full.json and the figures by name; None if it recorded nothing.

    Raises:
        Refused: figures without a number, or numbers that disagree about edition or seed.
    """
    numbers = read_json(run / "numbers.json")
    drawn = {path.stem: path.read_bytes() for path in sorted((run / "figures").glob("*.png"))}
    if not numbers:
        if drawn:
            raise Refused(f"{run.name} hands over figures but records no number")
        return None
    about = {(number["edition"], number["seed"]) for number in numbers.values()}
    if len(about) > 1:
        raise Refused(f"{run.name}: numbers of one run with different editions or seeds: {sorted(map(str, about))}")
    figures = {name: optimised(content) for name, content in drawn.items()}
    last = max(numbers.values(), key=lambda number: number["cpu_seconds"])
    captions = read_json(run / "captions.json")
    entry = {
        "command": command,
        "edition": last["edition"],
        "seed": last["seed"],
        "cpu_seconds": last["cpu_seconds"],
        "versions": last["versions"],
        "numbers": {key: number["value"] for key, number in numbers.items()},
        "figures": {name: describe(content, captions[name]) for name, content in figures.items()},
    }
    return entry, figures


def optimised(png: bytes) -> bytes:
    """The picture with at most 256 colours, packed as tightly as Pillow can."""
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=3).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def refuse_large(notebook: str, runs: list[dict]) -> None:
    """Raise Refused, naming the sizes, if the figures of a notebook are too large together."""
    sizes = {name: about["bytes"] for run in runs for name, about in run["figures"].items()}
    if sum(sizes.values()) > MOST_BYTES:
        listed = ", ".join(f"{name} {size / 1e3:.0f} kB" for name, size in sizes.items())
        raise Refused(f"{notebook}: its figures together may have {MOST_BYTES / 1e3:.0f} kB, they have {listed}")


def describe(png: bytes, caption: str) -> dict:
    """What full.json says about a figure."""
    width, height = Image.open(io.BytesIO(png)).size
    about = {"caption": caption, "width": width, "height": height, "bytes": len(png)}
    return about | {"sha256": hashlib.sha256(png).hexdigest()}


def store(notebook: Path, entry: dict, figures: dict[str, bytes], root: Path = ROOT) -> None:
    """Put a run into results/. It takes the place of the run of the same command; other runs and notebooks stay.

    Raises:
        Refused: the figures are too large, or another command has recorded the same; nothing is changed.
    """
    name, records = notebook.relative_to(root).as_posix(), read_json(root / results.RECORDS)
    before = records.get(notebook.stem, {"runs": []})["runs"]
    runs = sorted([r for r in before if r["command"] != entry["command"]] + [entry], key=lambda r: r["command"])
    for kind in ("numbers", "figures"):
        twice = [key for key, count in Counter(key for run in runs for key in run[kind]).items() if count > 1]
        if twice:
            raise Refused(f"{name}: another command has recorded {', '.join(sorted(twice))}")
    refuse_large(name, runs)
    for figure, content in figures.items():
        with atomic_write(root / results.figure_file(name, figure)) as file:
            file.write(content)
    write_json(root / results.RECORDS, records | {notebook.stem: {"notebook": name, "runs": runs}})
    remove_others(
        root / results.RECORDS.parent / Path(name).with_suffix(""), {f for run in runs for f in run["figures"]}
    )


def remove_others(folder: Path, wanted: set[str]) -> None:
    """Delete the figures of a folder that are no longer recorded."""
    for path in folder.glob("*.png"):
        if path.stem not in wanted:
            path.unlink()


def make(notebook: Path, again: bool = False, root: Path = ROOT) -> Execution | None:
    """Run one notebook and record it; None if that is done for the present code. A failure is in the Execution."""
    run, code = root / BUILD / "runs" / notebook.stem, fingerprint(notebook, root)
    if prepare(run, code, again):
        return None
    done = execute(notebook, ENVIRONMENT | {results.FOLDER: str(run)})
    write_page(done, root / BUILD)
    if not done.error:
        try:
            if collected := collect(run, f"make results NB={notebook.relative_to(root).as_posix()}"):
                store(notebook, *collected, root)
            (run / "done").touch()
        except Refused as refusal:
            done.error = str(refusal)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.results", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="relative to the repository, default all")
    parser.add_argument("--again", action="store_true", help="from scratch, even if done for the present code")
    parser.add_argument("--tables", action="store_true", help="only write the numbers into the READMEs")
    parser.add_argument("--take", type=Path, metavar="FOLDER", help="record what a command has left in FOLDER")
    parser.add_argument("--command", help="with --take: the command")
    options = parser.parse_args()
    if bool(options.take) != bool(options.command):
        parser.error("--take and --command belong together")
    try:
        failed = False if options.tables else (take if options.take else run_all)(options)
        rewrite(ROOT)
    except Refused as refusal:
        sys.exit(str(refusal))
    except KeyboardInterrupt:
        sys.exit("Interrupted; the kernel is stopped, and what finished notebooks have recorded is kept.")
    sys.exit(failed)


def run_all(options: argparse.Namespace) -> bool:
    """Run the notebooks one after the other; True if one failed."""
    runs = []
    shutil.copytree(MATHJAX, ROOT / BUILD / "mathjax", dirs_exist_ok=True)
    for notebook in find(options.notebooks):
        name = notebook.relative_to(ROOT).as_posix()
        print(f"{name} ...", flush=True)
        if (done := make(notebook, options.again)) is None:
            print(f"{name} is done for the present code; --again runs it once more")
        else:
            runs.append(done)
    if runs:
        write_index(runs, "full", ROOT / BUILD)
        print(table(runs, "full"))
    return any(run.error for run in runs)


def take(options: argparse.Namespace) -> bool:
    """Record a run that was made elsewhere; never a failure, but Refused where there is nothing."""
    if len(options.notebooks) != 1:
        raise Refused("--take records one notebook: name it")
    (notebook,) = find(options.notebooks)
    collected = collect(options.take / notebook.stem, options.command)
    if collected is None:
        raise Refused(f"{options.take / notebook.stem} holds no recorded number")
    store(notebook, *collected)
    return False


if __name__ == "__main__":
    main()
