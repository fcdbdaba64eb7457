"""`make student`: the blank edition, in which every solution waits to be written.

    python -m tools.student [--source TREE] [--destination FOLDER]

The same tree with each region between the solution markers replaced by an error that names the function and the
section that teaches it (code) or by *Your answer here.* (text), and with the notebooks' outputs removed.
"""

import argparse
import ast
import functools
import shutil
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from tools.imports import module_name
from tools.notebooks import (
    MANIFEST,
    ROOT,
    ToolError,
    generated_tree,
    notebook_paths,
    notebook_text,
    plain_python,
    read_notebook,
    sections,
    source_files,
    strip_outputs,
)
from tools.places import Place, all_places, place_of
from tools.regions import ANSWER, Region, code_regions, raise_line, replace_lines, text_regions

NOTICE = """
> **Blank edition.** Every function that you write raises `NotImplementedError("function: notebook, section")`, and
> every question waits for *Your answer here.* Open a notebook with `make lab` and work from top to bottom: the first
> cell that fails names the next function. After editing a module restart the kernel, or put `%load_ext autoreload`
> and `%autoreload 2` into a cell above the set-up. `make run NB=assignment1/knn.ipynb` runs one notebook and
> `.venv/bin/python -m pytest tests -k knn` the tests of one module. `make test` runs everything: it passes when
> all blanks are filled; the comparison of notebook outputs needs outputs first (`make outputs`).
"""
# What a blank leaves behind is no fault of the learner: imports and names that only the solution used.
RUFF = """extend = "../pyproject.toml"
src = [".."]

[lint]
extend-ignore = ["F401", "F821", "F841", "RUF059", "RUF100", "B007"]
"""
SHORT = 12  # shorter lines (`else:`, `return out`) say nothing about a solution


@dataclass(frozen=True)
class Blank:
    """One region: where it is, what a learner sees in its place, and its solution."""

    file: str
    cell: str  # id of the cell, "" in a module
    name: str  # function, or the section's title
    begin: int
    end: int
    text: str
    solution: str  # with its markers


def find_blanks(root: Path) -> list[Blank]:
    """All solution regions below `root`: those in `common/`, then the notebooks' own.

    Raises:
        ToolError: bad markers; a region of a module outside a function; functions that no notebook shows.
    """
    notebooks = tracked_notebooks(root)
    places, blanks, homeless = all_places(root, notebooks), [], []
    for name in _modules(root):
        for region in code_regions(source := _read(root / name), name):
            if not region.function:
                raise ToolError(f"{name}:{region.begin + 1}: a region of a module has to lie in a function")
            place = place_of(f"{module_name(root / name, root)}.{region.function}", places)
            if place is None:
                homeless.append(f"{name}:{region.begin + 1} {region.function}")
            else:
                blanks.append(_code_blank(name, "", source, region, region.function, place))
    if homeless:
        raise ToolError("no notebook shows these functions (show_source):\n  " + "\n  ".join(homeless))
    return blanks + [blank for path in notebooks for blank in _notebook_blanks(path, root)]


def tracked_notebooks(root: Path) -> list[Path]:
    """The notebooks that are handed out: those under version control."""
    handed_out = set(source_files(root))
    return [path for path in notebook_paths(root) if path.relative_to(root).as_posix() in handed_out]


def _modules(root: Path) -> list[str]:
    names = [n for n in source_files(root) if n.startswith(("common/", "assignment"))]
    for name in names:
        if name.endswith((".pyx", ".pxd")) and "### BEGIN SOLUTION" in _read(root / name):
            raise ToolError(f"{name}: solution regions in Cython are not supported")
    return [n for n in names if n.endswith(".py")]


def _notebook_blanks(path: Path, root: Path) -> list[Blank]:
    nb, file, blanks = read_notebook(path), path.relative_to(root).as_posix(), []
    loose: dict[str, int] = {}  # blanks outside functions, counted by section
    for number, (cell, (section, title)) in enumerate(zip(nb.cells, sections(nb), strict=True), 1):
        where = f"{file}, cell {number}"
        if cell.cell_type == "code":
            place = Place("", file.removesuffix(".ipynb"), section, True)
            for region in code_regions(cell.source, where):
                if not region.function:
                    loose[section] = loose.get(section, 0) + 1
                name = region.function or _numbered(title or "this notebook", loose[section])
                blanks.append(_code_blank(file, cell.id, cell.source, region, name, place))
        elif cell.cell_type == "markdown":
            for r in text_regions(cell.source, where):
                blanks.append(Blank(file, cell.id, title, r.begin, r.end, ANSWER, _lines(cell.source, r.begin, r.end)))
    return blanks


def _numbered(title: str, count: int) -> str:
    return title if count == 1 else f"{title} ({count})"


def _code_blank(file: str, cell: str, source: str, region: Region, name: str, place: Place) -> Blank:
    message = f"{name}: {place}".replace("\\", "\\\\").replace('"', '\\"')
    text = raise_line(message, region.indent, _line_length())
    solution = _lines(source, region.begin, region.end)
    return Blank(file, cell, name, region.begin, region.end, text, solution)


@functools.cache
def _line_length() -> int:
    return tomllib.loads(_read(ROOT / "pyproject.toml"))["tool"]["ruff"]["line-length"]


def _lines(source: str, begin: int, end: int) -> str:
    return "\n".join(source.split("\n")[begin : end + 1])


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def blank_source(source: str, blanks: Iterable[Blank], where: str, *, code: bool = True) -> str:
    """`source` with the regions of `blanks` replaced, and proof that code is still valid Python."""
    lines = source.split("\n")
    for blank in sorted(blanks, key=lambda b: b.begin, reverse=True):
        lines[blank.begin : blank.end + 1] = blank.text.split("\n")
    result = "\n".join(lines)
    if code:
        try:
            ast.parse(plain_python(result))
        except SyntaxError as error:
            raise ToolError(f"{where}: not valid Python without its solution ({error})") from error
    return result


def blank_notebook(nb: NotebookNode, blanks: list[Blank], where: str) -> NotebookNode:
    """`nb` with its regions replaced and its outputs removed."""
    for cell in strip_outputs(nb).cells:
        own = [b for b in blanks if b.cell == cell.id]
        cell.source = blank_source(cell.source, own, where, code=bool(own) and cell.cell_type == "code")
    return nb


def write_blank_edition(root: Path, destination: Path) -> list[Blank]:
    """Write the blank edition of `root` to `destination`; returns its blanks.

    Raises:
        ToolError: see `find_blanks` and `generated_tree`; or a solution would show in the result.
    """
    blanks, notebooks = find_blanks(root), tracked_notebooks(root)
    with generated_tree(destination, root) as new:
        for name in source_files(root):
            own = [b for b in blanks if b.file == name]
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, new / name)
            if root / name in notebooks:
                _write(new / name, notebook_text(blank_notebook(read_notebook(root / name), own, name)))
            elif own:
                _write(new / name, blank_source(_read(root / name), own, name))
        _add_notes(new)
        if found := leaks(new, root, blanks):
            raise ToolError("solutions would show in the blank edition:\n  " + "\n  ".join(found))
    return blanks


def _add_notes(new: Path) -> None:
    if (new / "README.md").is_file():
        title, _, rest = _read(new / "README.md").partition("\n")
        _write(new / "README.md", f"{title}\n{NOTICE}{rest}")
    if (new / "pyproject.toml").is_file():
        for folder in [new / "common", *new.glob("assignment*/")]:
            _write(folder / ".ruff.toml", RUFF)


def is_blank_edition(root: Path) -> bool:
    """Whether `root` is a tree that this module wrote (tests of the solved tree do not apply there)."""
    return (root / MANIFEST).is_file()


def leaks(student: Path, solved: Path, blanks: list[Blank]) -> list[str]:
    """Lines of solutions, and outputs, that can be read in the blank edition: "file: line" for each.

    Short lines do not count, nor do lines that the solved edition also has outside all regions.
    """
    secret = {
        line.strip()
        for blank in blanks
        for line in blank.solution.split("\n")[1:-1]
        if len(line.strip()) >= SHORT and not line.strip().startswith("#")
    }
    found = []
    for name in [n for n in source_files(solved) if n.endswith((".py", ".ipynb"))]:
        shown = _visible_lines(student / name)
        outside = _visible_lines(solved / name, [b for b in blanks if b.file == name])
        if name.startswith(("common/", "assignment")):
            found += [f"{name}: {line}" for line in shown if line in secret and line not in outside]
        if name.endswith(".ipynb"):
            nb = read_notebook(student / name)
            found += [f"{name}: an output" for c in nb.cells if c.get("outputs") or c.get("execution_count")]
    return found


def _visible_lines(path: Path, without: list[Blank] | None = None) -> list[str]:
    without = without or []
    if path.suffix == ".py":
        sources = [blank_source(_read(path), without, path.name, code=False)]
    else:
        sources = [
            blank_source(cell.source, [b for b in without if b.cell == cell.id], path.name, code=False)
            for cell in read_notebook(path).cells
        ]
    return [line.strip() for source in sources for line in source.split("\n")]


def restore(
    student: Path, solved: Path, names: Iterable[str] | None = None, blanks: list[Blank] | None = None
) -> list[str]:
    """Put solutions back into a blank edition; regions that the learner has filled stay as they are.

    Args:
        student: the blank edition, changed in place.
        solved: the tree it was made from.
        names: functions (or section titles) to restore; all when None.
        blanks: of the solved tree, when they are known already.

    Returns:
        Names of what was restored, once for each region.
    """
    wanted = None if names is None else set(names)
    restored = []
    for blank in find_blanks(solved) if blanks is None else blanks:
        if (wanted is None or blank.name in wanted) and _put_back(student / blank.file, blank):
            restored.append(blank.name)
    return restored


def _put_back(path: Path, blank: Blank) -> bool:
    if not blank.cell:
        before = _read(path)
        _write(path, after := replace_lines(before, blank.text, blank.solution))
        return after != before
    nb = read_notebook(path)
    cell = next((c for c in nb.cells if c.id == blank.cell), None)
    if cell is None:
        return False
    before, cell.source = cell.source, replace_lines(cell.source, blank.text, blank.solution)
    _write(path, notebook_text(nb))
    return cell.source != before


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.student", description="Write the blank edition.")
    parser.add_argument("--source", type=Path, default=ROOT, help="the solved tree")
    parser.add_argument("--destination", type=Path, help="folder to write (default: build/student in the source)")
    options = parser.parse_args(arguments)
    destination = options.destination or options.source / "build" / "student"
    try:
        blanks = write_blank_edition(options.source.resolve(), destination)
    except (ToolError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    answers = sum(blank.text == ANSWER for blank in blanks)
    print(f"{destination}: {len(blanks) - answers} blanks in code, {answers} answers to write; no solution shows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
