"""`make student`: the blank edition, in which every solution waits to be written.

    python -m tools.student [--source TREE] [--destination FOLDER]

The same tree with each region between the solution markers replaced by an error that names the function and the
section that teaches it (code) or by *Your answer here.* (text), with a task box before each cell that shows such a
function (see `tools.tasks`), and with the notebooks' outputs removed.
"""

import argparse
import ast
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from nbformat import NotebookNode

from tools.blanks import Blank, find_blanks
from tools.generated import generated_tree, left_alone
from tools.notebooks import (
    MANIFEST,
    ROOT,
    ToolError,
    notebook_paths,
    notebook_text,
    plain_python,
    read_notebook,
    source_files,
    strip_outputs,
)
from tools.regions import ANSWER, replace_lines
from tools.tasks import add_tasks, shown_at

NOTICE = """
> **Blank edition.** Before each function that you write, its notebook says what goes in, what comes out and what is
> checked next; until then the function raises `NotImplementedError("function: notebook, section")`. Questions wait for
> *Your answer here.* Open a notebook with `make lab` and work from top to bottom. The next cell that you run uses
> the code that you have just saved: there is nothing to reload or restart.
>
> `make progress` lists what is written, which checks have passed, and the next function. `make learner K=knn` runs the
> tests that every correct solution of that notebook passes. `make run NB=assignment1/knn.ipynb` runs one notebook.
> `make test` runs everything, tests of error messages and of precision included: it passes when all blanks are
> filled, and compares the outputs of notebooks after `make outputs`. As long as this folder lies in `build/` of the
> workbook that wrote it, it uses that workbook's environment and compiled layers; elsewhere `make lab` installs its
> own.
"""
# What a blank leaves behind is no fault of the learner: imports and names that only the solution used.
RUFF = """extend = "../pyproject.toml"
src = [".."]

[lint]
extend-ignore = ["F401", "F821", "F841", "RUF059", "RUF100", "B007"]
"""
SHORT = 12  # shorter lines (`else:`, `return out`) say nothing about a solution


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
    blanks, notebooks = find_blanks(root), notebook_paths(root, tracked=True)
    with generated_tree(destination, root, blanks=list_of_blanks(root, blanks)) as new:
        for name in source_files(root):
            own = [b for b in blanks if b.file == name]
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, new / name)
            if root / name in notebooks:
                _write(new / name, notebook_text(_lesson(root, name, blanks)))
            elif own:
                _write(new / name, blank_source(_read(root / name), own, name))
        _add_notes(new)
        if found := leaks(new, root, blanks):
            raise ToolError("solutions would show in the blank edition:\n  " + "\n  ".join(found))
    return blanks


def _lesson(root: Path, name: str, blanks: list[Blank]) -> NotebookNode:
    """A notebook as the learner gets it."""
    nb, path = read_notebook(root / name), Path(name)
    taught = [b for b in blanks if f"{b.notebook}.ipynb" == name]
    sources = {b.file: _read(root / b.file) for b in taught if not b.cell} | {c.id: c.source for c in nb.cells}
    add_tasks(nb, taught, sources, path.stem)
    return blank_notebook(nb, [b for b in blanks if b.file == name], name)


def list_of_blanks(root: Path, blanks: list[Blank]) -> dict[str, list[dict[str, str]]]:
    """For each notebook the functions and questions that it teaches, in its order, without their solutions."""
    result = {}
    for path in notebook_paths(root, tracked=True):
        nb, notebook = read_notebook(path), path.relative_to(root).with_suffix("").as_posix()
        taught = [b for b in blanks if b.notebook == notebook and (b.function or b.text == ANSWER)]
        taught.sort(key=lambda b: (shown_at(nb, b) or 0) if b.function else len(nb.cells))
        result[notebook] = [
            {"name": b.name, "file": b.file, "section": b.section, "message": b.message if b.function else ""}
            for b in taught
        ]
    return result


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
    functions, answers = sum(b.function for b in blanks), sum(b.text == ANSWER for b in blanks)
    print(f"{destination}: {functions} functions and {answers} answers to write; no solution shows")
    if kept := left_alone(destination):
        print(f"Not written by this command, and left as it is: {', '.join(kept[:8])}{' ...' if kept[8:] else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
