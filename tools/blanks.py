"""The blanks of the workbook: every solution region, what a learner reads in its place, and its solution."""

import functools
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tools.notebooks import ROOT, ToolError, notebook_paths, read_notebook, sections, source_files
from tools.regions import ANSWER, BEGIN, Region, code_regions, text_regions
from tools.tasks import comment, hints


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
    notebook: str  # "assignment1/knn": the one that teaches it
    section: str  # number, "" before the first
    function: bool = False  # code of a function, which raises until it is written

    @property
    def message(self) -> str:
        """What the stub of a function raises."""
        place = f"{self.notebook}, section {self.section}" if self.section else self.notebook
        return f"{self.name}: {place}"


def find_blanks(root: Path) -> list[Blank]:
    """All solution regions below `root`: those in modules, then the notebooks' own.

    Raises:
        ToolError: bad markers; a region of a module outside a function; a marker that names no notebook or section.
    """
    notebooks = notebook_paths(root, tracked=True)
    taught = _sections_by_stem(notebooks, root)
    blanks = [blank for name in _modules(root) for blank in _module_blanks(name, root, taught)]
    return blanks + [blank for path in notebooks for blank in _notebook_blanks(path, root)]


def _sections_by_stem(notebooks: list[Path], root: Path) -> dict[str, tuple[str, set[str]]]:
    """Stem -> ("assignment1/knn", the numbers of its sections); a marker names a notebook by its stem."""
    result: dict[str, tuple[str, set[str]]] = {}
    for path in notebooks:
        name = _notebook_name(path, root)
        if path.stem in result:
            raise ToolError(f"{name} and {result[path.stem][0]} have the same name: markers could not tell them apart")
        result[path.stem] = name, {number for number, _ in sections(read_notebook(path))} - {""}
    return result


def _notebook_name(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _modules(root: Path) -> list[str]:
    names = [n for n in source_files(root) if n.startswith(("common/", "assignment"))]
    for name in names:
        if name.endswith((".pyx", ".pxd")) and BEGIN in (root / name).read_text(encoding="utf-8"):
            raise ToolError(f"{name}: solution regions in Cython are not supported")
    return [n for n in names if n.endswith(".py")]


def _module_blanks(name: str, root: Path, taught: dict[str, tuple[str, set[str]]]) -> Iterator[Blank]:
    source = (root / name).read_text(encoding="utf-8")
    for region in code_regions(source, name, named=True):
        here = f"{name}:{region.begin + 1}"
        if not region.function:
            raise ToolError(f"{here}: a region of a module has to lie in a function")
        if region.notebook not in taught:
            raise ToolError(f"{here}: there is no notebook {region.notebook!r}; there are {', '.join(taught)}")
        notebook, numbers = taught[region.notebook]
        if region.section not in numbers:
            raise ToolError(f"{here}: {notebook} has no section {region.section}")
        yield _stub(Blank(name, "", region.function, *_lines(source, region), notebook, region.section, True))


def _notebook_blanks(path: Path, root: Path) -> Iterator[Blank]:
    nb, file, name = read_notebook(path), path.relative_to(root).as_posix(), _notebook_name(path, root)
    loose: Counter[str] = Counter()  # blanks outside functions, by section
    tasks = hints(nb, name)
    for number, (cell, (section, title)) in enumerate(zip(nb.cells, sections(nb), strict=True), 1):
        where = f"{file}, cell {number}"
        if cell.cell_type == "code":
            for region in code_regions(cell.source, where):
                loose[section] += not region.function
                function = region.function or _numbered(title or "this notebook", loose[section])
                place = name, section, bool(region.function)
                blank = _stub(Blank(file, cell.id, function, *_lines(cell.source, region), *place))
                task = tasks.get((section, function))
                yield blank if region.function or not task else replace(blank, text=comment(task))
        elif cell.cell_type == "markdown":
            for region in text_regions(cell.source, where):
                begin, end, _, solution = _lines(cell.source, region)
                yield Blank(file, cell.id, title, begin, end, ANSWER, solution, name, section)


def _numbered(title: str, count: int) -> str:
    return title if count == 1 else f"{title} ({count})"


def _stub(blank: Blank) -> Blank:
    """The blank with the statement that raises its message."""
    message = blank.message.replace("\\", "\\\\").replace('"', '\\"')
    indent = re.match(r"\s*", blank.solution)[0]
    return replace(blank, text=raise_line(message, indent, _line_length()))


def _lines(source: str, region: Region) -> tuple[int, int, str, str]:
    """Begin, end, no text yet, and the solution of a region."""
    return region.begin, region.end, "", "\n".join(source.split("\n")[region.begin : region.end + 1])


def raise_line(message: str, indent: str, width: int) -> str:
    """The statement that stands for a region, wrapped as ruff does when it is longer than `width`."""
    line = f'{indent}raise NotImplementedError("{message}")'
    if len(line) > width:
        line = f'{indent}raise NotImplementedError(\n{indent}    "{message}"\n{indent})'
    return line


@functools.cache
def _line_length() -> int:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return settings["tool"]["ruff"]["line-length"]
