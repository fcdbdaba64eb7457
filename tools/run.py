"""Execute the notebooks, print a table, and write them as HTML pages with an index.

python -m tools.run [--edition pocket|full|auto] [--dest build/html] [--jobs 1] [assignment1/knn.ipynb ...]

As many notebooks run side by side as there are cores, each with one thread: most of what they do cannot use two. With
`--jobs 1` they run one after the other, each with all threads. Without --edition, WORKBOOK_EDITION chooses, or else it
is pocket. A cell that runs longer than WORKBOOK_CELL_SECONDS (an hour, of the full edition a day) fails its notebook.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import re
import shutil
import sys
import time
from pathlib import Path

import joblib
import nbformat
from tqdm.auto import tqdm

from tools.execute import ONE_THREAD, Execution, cell_seconds, execute_beside, read
from tools.notebooks import ROOT, find
from tools.pages import MATHJAX, name_of, write_index, write_page

EDITIONS = ("pocket", "full", "auto")
# The bars of single trainings: nobody sees them while the run has its own, and on a page they would be dead widgets.
QUIET = {"WORKBOOK_QUIET": "1"}
# For a notebook that has others beside it. The last is for joblib, which would start a worker for every core.
ONE_CORE = ONE_THREAD | {"LOKY_MAX_CPU_COUNT": "1"}


def run(paths: list[Path], edition: str, dest: Path, jobs: int = 1) -> list[Execution]:
    """Execute the notebooks, `jobs` at a time; a page and the index are written as soon as a notebook is done.

    Returns:
        The executions in the order of `paths`.
    """
    shutil.copytree(MATHJAX, dest / "mathjax", dirs_exist_ok=True)
    return asyncio.run(_side_by_side(paths, edition, dest, jobs))


async def _side_by_side(paths: list[Path], edition: str, dest: Path, jobs: int) -> list[Execution]:
    notebooks = {path: read(path)[0] for path in paths}
    cells = {path: sum(cell.cell_type == "code" for cell in nb.cells) for path, nb in notebooks.items()}
    environment = {"WORKBOOK_EDITION": edition} | QUIET | (ONE_CORE if jobs > 1 else {})
    free, one_page, running, finished = asyncio.Semaphore(jobs), asyncio.Lock(), [], {}

    async def one(path: Path) -> None:
        async with free:
            running.append(path.stem)
            bar.set_description(" + ".join(running[:3]))
            done = await execute_beside(path, environment, on_cell=bar.update)
            running.remove(path.stem)
            bar.update(cells[path] - done.cells_run)  # those after a cell that failed
        async with one_page:
            finished[path] = done
            await asyncio.to_thread(write_page, done, dest)
            await asyncio.to_thread(write_index, [finished[p] for p in paths if p in finished], edition, dest)

    with tqdm(total=sum(cells.values()), unit="cell", dynamic_ncols=True, disable=None) as bar:
        async with asyncio.TaskGroup() as group:
            order = sorted(paths, key=lambda path: budget(notebooks[path]), reverse=True) if jobs > 1 else paths
            for path in order:
                group.create_task(one(path))
    return [finished[path] for path in paths]


def budget(notebook: nbformat.NotebookNode) -> float:
    """The seconds that the title cell promises ("Budget: about 40 s"), infinite without a promise.

    The longest notebooks start first: one that started last would run alone while the other cores wait.
    """
    promise = re.search(r"Budget: about (\d+) (s|min)\b", notebook.cells[0].source if notebook.cells else "")
    return int(promise[1]) * {"s": 1, "min": 60}[promise[2]] if promise else math.inf


def table(runs: list[Execution], edition: str) -> str:
    """The edition; notebook, time, checks, cells, a line each; their sum; then where and why notebooks failed."""
    rows = [(name_of(r.path), r.seconds, r.checks, r.cells_run, len(r.code_cells), r.failure) for r in runs]
    rows.append(("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:5]), ""))
    title = f"{edition} edition"
    wide = max(len(name) for name in [title, *(row[0] for row in rows)])
    lines = [f"{title:{wide}}   time  checks   cells"]
    for name, seconds, checks, ran, cells, failure in rows:
        lines.append(f"{name:{wide}}  {seconds:4.0f} s  {checks:6}  {ran:3}/{cells:<3}{'  FAILED' if failure else ''}")
    lines += [f"FAILED  {name.removesuffix('.ipynb')}: {failure}" for name, *_, failure in rows if failure]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="relative to the repository, default all")
    parser.add_argument("--edition", choices=EDITIONS, help="default: WORKBOOK_EDITION, or else pocket")
    parser.add_argument("--dest", type=Path, default=Path("build/html"))
    parser.add_argument("--jobs", type=int, default=joblib.cpu_count(), help="notebooks side by side")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error(f"--jobs (make run JOBS=...) has to be 1 or more, got {options.jobs}")
    edition = options.edition or os.environ.get("WORKBOOK_EDITION", "").strip().lower() or "pocket"
    if edition not in EDITIONS:
        parser.error(f"WORKBOOK_EDITION is {edition!r}; allowed are: {', '.join(EDITIONS)}")
    try:
        cell_seconds(os.environ)
    except ValueError as error:
        parser.error(str(error))
    paths, started = find(options.notebooks), time.perf_counter()
    jobs = min(options.jobs, len(paths))
    try:
        runs = run(paths, edition, ROOT / options.dest, jobs)
    except KeyboardInterrupt:
        sys.exit("Interrupted; the kernels are stopped, and the pages of finished notebooks are written.")
    print(table(runs, edition))
    print(f"{time.perf_counter() - started:.0f} s, {jobs} at a time. Pages: {options.dest / 'index.html'}")
    sys.exit(any(r.error for r in runs))


if __name__ == "__main__":
    main()
