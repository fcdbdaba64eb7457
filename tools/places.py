"""Which section of which notebook teaches a function: where `show_source(function)` shows it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from tools.imports import bindings, resolve
from tools.notebooks import parse_cell, read_notebook, sections


@dataclass(frozen=True)
class Place:
    """A name of `common`, as a dotted path, that a notebook shows or uses in a section."""

    name: str
    notebook: str  # assignment1/knn
    section: str  # "2", or "" above the first numbered heading
    shown: bool

    def __str__(self) -> str:
        return f"{self.notebook}, section {self.section}" if self.section else self.notebook


def all_places(root: Path, notebooks: list[Path]) -> list[Place]:
    """Every name that one of the notebooks, which lie below `root`, shows or uses, in reading order."""
    return [
        place
        for path in notebooks
        for place in _places(read_notebook(path), path.relative_to(root).with_suffix("").as_posix(), root)
    ]


def _places(nb: NotebookNode, notebook: str, root: Path) -> Iterator[Place]:
    known: dict[str, str] = {}
    for cell, (section, _) in zip(nb.cells, sections(nb), strict=True):
        if cell.cell_type != "code":
            continue
        tree = parse_cell(cell.source)
        known |= bindings(tree) | bindings(ast.Module(body=[*_nested_imports(tree)], type_ignores=[]))
        shown = {id(arg) for call in _show_calls(tree) for arg in call.args}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name | ast.Attribute) and (name := _dotted(node, known)):
                yield Place(resolve(name, root), notebook, section, id(node) in shown)
        known |= _assigned(tree, known)


def _nested_imports(tree: ast.Module) -> Iterator[ast.stmt]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


def _show_calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "show_source":
            yield node


def _dotted(node: ast.expr, known: dict[str, str]) -> str:
    """`np.linalg.norm` -> `numpy.linalg.norm` with the imports in `known`; "" for what does not come from `common`."""
    first, _, rest = ast.unparse(node).partition(".")
    name = known.get(first, "")
    return ".".join([name, *([rest] if rest else [])]) if name.startswith("common") and "(" not in rest else ""


def _assigned(tree: ast.AST, known: dict[str, str]) -> dict[str, str]:
    """Names bound to a name of `common` or to an instance of one of its classes: `model = KNearestNeighbor()`."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            value = node.value.func if isinstance(node.value, ast.Call) else node.value
            if isinstance(value, ast.Name | ast.Attribute) and (name := _dotted(value, known)):
                names[node.targets[0].id] = name
    return names


def place_of(function: str, places: list[Place]) -> Place | None:
    """The section that teaches `function` (dotted path, `common.classifiers.knn.KNearestNeighbor.predict`).

    A section that shows the function, or the class or module around it, comes first, above all in the notebook
    that shares the module's name; otherwise that notebook's first section that uses the function or its module.
    """
    inside = [p for p in places if f"{function}.".startswith(f"{p.name}.") and p.name.count(".") >= 1]
    namesake = [p for p in inside if f".{p.notebook.rpartition('/')[2]}." in f".{function}."]
    by_call = [p for p in places if p.name.rpartition(".")[2] == function.rpartition(".")[2] and p in namesake]
    choices = (
        [p for p in namesake if p.shown],
        [p for p in inside if p.shown],
        by_call,
        namesake,
    )
    return next((max(c, key=lambda p: p.name.count(".")) for c in choices if c), None)
