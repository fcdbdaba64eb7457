"""The executed notebooks as HTML pages that ask no other host for anything, and the index that lists them."""

from __future__ import annotations

import copy
import functools
import html
import re
from pathlib import Path

import jinja2
import jupyter_server_mathjax
import nbformat
from nbconvert import HTMLExporter

from common.storage import atomic_write
from tools.execute import Execution
from tools.notebooks import notebook_paths

TEMPLATES = Path(__file__).parent / "templates"
# The pages show their formulas without a network: MathJax has to lie beside them, as dest/mathjax.
MATHJAX = Path(jupyter_server_mathjax.__file__).parent / "static"
MATHJAX_URL = "../mathjax/MathJax.js?config=TeX-AMS-MML_HTMLorMML-full,Safe"
SITE = "Vision Workbook"
WIDGET = "application/vnd.jupyter.widget-view+json"
NAVIGATION = re.compile(r'<nav class="workbook">.*?</nav>', re.DOTALL)
TITLE = re.compile(rf"<title>(.*?) - {SITE}</title>", re.DOTALL)
NOTEBOOK_LINK = re.compile(r'(<a href="(?!\w+:)[^"]*)\.ipynb(?=["#])')


def write_page(run: Execution, dest: Path) -> None:
    """One executed notebook as an HTML page; `write_index` adds the links to its neighbours."""
    resources = {
        "metadata": {"name": f"{heading(run.notebook) or run.path.stem} - {SITE}"},
        "navigation": navigation("", ""),
        "failure": run.failure,
        "failed_cell": run.failed_cell.get("id", "") if run.failed_cell else "",
    }
    body, _ = exporter().from_notebook_node(presentable(run.notebook), resources)
    save(page_of(run.path, dest), NOTEBOOK_LINK.sub(r"\1.html", body))


@functools.cache
def exporter() -> HTMLExporter:
    """nbconvert's exporter with the template of this folder."""
    return HTMLExporter(template_name="workbook", extra_template_basedirs=[str(TEMPLATES)], mathjax_url=MATHJAX_URL)


def write_index(runs: list[Execution], edition: str, dest: Path) -> None:
    """The page that lists the others, with the table that the terminal shows; then link the pages that are there."""
    pages = link_pages(runs[0].path.parents[1], dest)
    fresh = {name_of(run.path) for run in runs}
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES / "workbook"), autoescape=True)
    page = environment.get_template("home.html.j2").render(
        edition=edition,
        rows=[_row(run, dest) for run in runs],
        earlier=[page for page in pages if page["name"] not in fresh],
    )
    save(dest / "index.html", page)


def _row(run: Execution, dest: Path) -> dict[str, str | int]:
    return {
        "href": page_of(run.path, dest).relative_to(dest).as_posix(),
        "title": heading(run.notebook) or run.path.stem,
        "name": name_of(run.path),
        "seconds": f"{run.seconds:.0f}",
        "checks": run.checks,
        "cells_run": run.cells_run,
        "cells": len(run.code_cells),
        "failure": run.failure,
    }


def link_pages(root: Path, dest: Path) -> list[dict[str, str]]:
    """Give each page of `dest` links to the previous and the next page that is there, in reading order.

    Returns:
        Address, title and notebook of each page.
    """
    paths = [path for path in notebook_paths(root) if page_of(path, dest).exists()]
    texts = [page_of(path, dest).read_text(encoding="utf-8") for path in paths]
    titles = [found[1] if (found := TITLE.search(text)) else "" for text in texts]
    links = [_link(path, title) for path, title in zip(paths, titles, strict=True)]
    for path, text, before, after in zip(paths, texts, ["", *links], [*links[1:], ""], strict=False):
        linked = NAVIGATION.sub(lambda _, links=(before, after): navigation(*links), text)
        if linked != text:
            save(page_of(path, dest), linked)
    return [
        {"href": page_of(path, Path()).as_posix(), "title": html.unescape(title) or path.stem, "name": name_of(path)}
        for path, title in zip(paths, titles, strict=True)
    ]


def _link(path: Path, title: str) -> str:
    return f'href="../{page_of(path, Path()).as_posix()}">{title or path.stem}'


def navigation(before: str, after: str) -> str:
    """The links at the top and at the bottom of a page; a neighbour that is not there is left out."""
    parts = [f'<a class="home" href="../index.html">{SITE}</a>']
    parts += [f'<a class="previous" rel="prev" {before}</a>'] if before else []
    parts += [f'<a class="next" rel="next" {after}</a>'] if after else []
    return f'<nav class="workbook">{"".join(parts)}</nav>'


def presentable(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of what a page can show: films are included, progress bars are not.

    nbconvert has no place for image/gif. A bar is a widget whose kernel is gone: its place would say "Error displaying
    widget".
    """
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
            for output in cell.outputs:
                if movie := output.get("data", {}).get("image/gif"):
                    output.data["text/html"] = f'<img alt="film" src="data:image/gif;base64,{"".join(movie.split())}">'
    return notebook


def heading(notebook: nbformat.NotebookNode) -> str:
    """The notebook's first heading as plain text, "" without one."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (found := re.search(r"^#{1,6}\s+(.+?)\s*#*$", cell.source, re.MULTILINE)):
            return re.sub(r"[`*]", "", found[1])
    return ""


def page_of(path: Path, dest: Path) -> Path:
    """Where the page of a notebook lies."""
    return dest / Path(name_of(path)).with_suffix(".html")


def name_of(path: Path) -> str:
    """assignment1/knn.ipynb: the notebook's folder and file, as the tables show it."""
    return "/".join(path.parts[-2:])


def save(page: Path, text: str) -> None:
    """Write a page; after an interruption the old one is still there."""
    with atomic_write(page, "w", encoding="utf-8") as file:
        file.write(text)
