"""Execute the notebooks, print a table, and write them as HTML pages with an index.

python -m tools.run [--edition pocket|full|auto] [--dest build/html] [assignment1/knn.ipynb ...]
"""

from __future__ import annotations

import argparse
import copy
import html
import shutil
import sys
from pathlib import Path

import jupyter_server_mathjax
import nbformat
from nbconvert import HTMLExporter
from tqdm.auto import tqdm

from tools.execute import ROOT, Execution, execute, find

# The pages show their formulas without a network: MathJax lies beside them, nothing comes from elsewhere.
MATHJAX = Path(jupyter_server_mathjax.__file__).parent / "static"
OFFLINE = {
    "mathjax_url": "../mathjax/MathJax.js?config=TeX-AMS-MML_HTMLorMML-full,Safe",
    "require_js_url": "",
    "mermaid_js_url": "",
}


def run(paths: list[Path], edition: str, dest: Path) -> list[Execution]:
    """Execute the notebooks one after the other; each page is written as soon as its notebook is done."""
    sizes = {path: sum(c.cell_type == "code" for c in nbformat.read(path, as_version=4).cells) for path in paths}
    shutil.copytree(MATHJAX, dest / "mathjax", dirs_exist_ok=True)
    runs = []
    with tqdm(total=sum(sizes.values()), unit="cell", dynamic_ncols=True, disable=None) as bar:
        for path in paths:
            bar.set_description(_name(path))
            done = bar.n
            runs.append(execute(path, {"WORKBOOK_EDITION": edition}, on_cell=bar.update))
            bar.update(done + sizes[path] - bar.n)
            write_page(runs[-1], dest)
    write_index(runs, edition, dest)
    return runs


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
    options = parser.parse_args()
    runs = run(find(options.notebooks), options.edition, ROOT / options.dest)
    print(table(runs))
    print(f"Pages: {options.dest / 'index.html'}")
    sys.exit(any(r.error for r in runs))


if __name__ == "__main__":
    main()
