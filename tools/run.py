"""Execute the notebooks, print a table, and write them as HTML pages with an index.

python -m tools.run [--edition pocket|full|auto] [--dest build/html] [--jobs 1] [assignment1/knn.ipynb ...]

As many notebooks run side by side as there are cores, each with one thread: most of what they do cannot use two. With
`--jobs 1` they run one after the other, each with all threads.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import html
import math
import re
import shutil
import sys
import time
from pathlib import Path

import joblib
import jupyter_server_mathjax
import nbformat
from nbconvert import HTMLExporter
from tqdm.auto import tqdm

from tools.execute import ONE_THREAD, Execution, execute_beside
from tools.notebooks import ROOT, find

# The bars of single trainings: nobody sees them while the run has its own, and on a page they would be dead widgets.
QUIET = {"WORKBOOK_QUIET": "1"}
# For a notebook that has others beside it. The last is for joblib, which would start a worker for every core.
ONE_CORE = ONE_THREAD | {"LOKY_MAX_CPU_COUNT": "1"}
# The pages show their formulas without a network: MathJax lies beside them, nothing comes from elsewhere.
MATHJAX = Path(jupyter_server_mathjax.__file__).parent / "static"
OFFLINE = {
    "mathjax_url": "../mathjax/MathJax.js?config=TeX-AMS-MML_HTMLorMML-full,Safe",
    "require_js_url": "",
    "mermaid_js_url": "",
}


def run(paths: list[Path], edition: str, dest: Path, jobs: int = 1) -> list[Execution]:
    """Execute the notebooks, `jobs` at a time; each page is written as soon as its notebook is done.

    Returns:
        The executions in the order of `paths`.
    """
    shutil.copytree(MATHJAX, dest / "mathjax", dirs_exist_ok=True)
    runs = asyncio.run(_side_by_side(paths, edition, dest, jobs))
    write_index(runs, edition, dest)
    return runs


async def _side_by_side(paths: list[Path], edition: str, dest: Path, jobs: int) -> list[Execution]:
    notebooks = {path: nbformat.read(path, as_version=4) for path in paths}
    cells = {path: sum(cell.cell_type == "code" for cell in nb.cells) for path, nb in notebooks.items()}
    environment = {"WORKBOOK_EDITION": edition} | QUIET | (ONE_CORE if jobs > 1 else {})
    free, one_page, running = asyncio.Semaphore(jobs), asyncio.Lock(), []

    async def one(path: Path) -> Execution:
        async with free:
            running.append(path.stem)
            bar.set_description(" + ".join(running[:3]))
            done = await execute_beside(path, environment, on_cell=bar.update)
            running.remove(path.stem)
            bar.update(cells[path] - done.cells_run)  # those after a cell that failed
        async with one_page:
            await asyncio.to_thread(write_page, done, dest)
        return done

    with tqdm(total=sum(cells.values()), unit="cell", dynamic_ncols=True, disable=None) as bar:
        async with asyncio.TaskGroup() as group:
            order = sorted(paths, key=lambda path: budget(notebooks[path]), reverse=True) if jobs > 1 else paths
            tasks = {path: group.create_task(one(path)) for path in order}
    return [tasks[path].result() for path in paths]


def budget(notebook: nbformat.NotebookNode) -> float:
    """The seconds that the title cell promises ("Budget: about 40 s"), infinite without a promise.

    The longest notebooks start first: one that started last would run alone while the other cores wait.
    """
    promise = re.search(r"Budget: about (\d+) (s|min)\b", notebook.cells[0].source)
    return int(promise[1]) * {"s": 1, "min": 60}[promise[2]] if promise else math.inf


def write_page(run: Execution, dest: Path) -> None:
    """One executed notebook as an HTML page."""
    page = dest / Path(_name(run.path)).with_suffix(".html")
    page.parent.mkdir(parents=True, exist_ok=True)
    notebook = with_movies(run.notebook)
    body, _ = HTMLExporter(**OFFLINE).from_notebook_node(notebook, {"metadata": {"name": run.path.stem}})
    page.write_text(body, encoding="utf-8")


def with_movies(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy in which every GIF is also an <img>: nbconvert has no place for image/gif and would leave it out."""
    notebook = copy.deepcopy(notebook)
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if movie := output.get("data", {}).get("image/gif"):
            output.data["text/html"] = f'<img alt="film" src="data:image/gif;base64,{"".join(movie.split())}">'
    return notebook


def write_index(runs: list[Execution], edition: str, dest: Path) -> None:
    """The page that lists the others, with the same table that the terminal shows."""
    rows = "\n".join(
        f'<tr><td><a href="{Path(_name(r.path)).with_suffix(".html")}">{html.escape(title(r))}</a></td>'
        f"<td>{r.seconds:.0f} s</td><td>{r.checks}</td><td>{r.cells_run}/{len(r.code_cells)}</td>"
        f"<td>{html.escape(r.error) or 'passed'}</td></tr>"
        for r in runs
    )
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Vision Workbook</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 3rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse }} td, th {{ padding: .3rem 1rem .3rem 0; text-align: left }}</style>
<h1>Vision Workbook</h1><p>Executed on the {edition} edition.</p>
<table><tr><th>notebook</th><th>time</th><th>checks passed</th><th>cells</th><th>result</th></tr>
{rows}
</table></html>
"""
    (dest / "index.html").write_text(page, encoding="utf-8")


def title(run: Execution) -> str:
    """The notebook's first heading."""
    first = run.notebook.cells[0].source.splitlines()[0]
    return f"{_name(run.path)}: {first.lstrip('# ')}"


def table(runs: list[Execution]) -> str:
    """Notebook, time, checks passed, cells; one line each, then the sum."""
    rows = [(_name(r.path), r.seconds, r.checks, r.cells_run, len(r.code_cells), r.error) for r in runs]
    rows.append(("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:5]), ""))
    wide = max(len(row[0]) for row in rows)
    lines = [f"{'notebook':{wide}}   time  checks   cells"]
    for name, seconds, checks, ran, cells, error in rows:
        failed = f"  FAILED  {error.splitlines()[0]}" if error else ""
        lines.append(f"{name:{wide}}  {seconds:4.0f} s  {checks:6}  {ran:3}/{cells:<3}{failed}")
    return "\n".join(lines)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="relative to the repository, default all")
    parser.add_argument("--edition", choices=["pocket", "full", "auto"], default="pocket")
    parser.add_argument("--dest", type=Path, default=Path("build/html"))
    parser.add_argument("--jobs", type=int, default=joblib.cpu_count(), help="notebooks side by side")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error(f"--jobs (make run JOBS=...) has to be 1 or more, got {options.jobs}")
    paths, started = find(options.notebooks), time.perf_counter()
    jobs = min(options.jobs, len(paths))
    try:
        runs = run(paths, options.edition, ROOT / options.dest, jobs)
    except KeyboardInterrupt:
        sys.exit("Interrupted; the kernels are stopped, and the pages of finished notebooks are written.")
    print(table(runs))
    print(f"{time.perf_counter() - started:.0f} s, {jobs} at a time. Pages: {options.dest / 'index.html'}")
    sys.exit(any(r.error for r in runs))


if __name__ == "__main__":
    main()
