"""Which packages a notebook needs: the imports of its cells and of the modules of `common/` that they reach."""

import ast
import re
import sys
from pathlib import Path

from nbformat import NotebookNode
from packaging.requirements import Requirement

from tools.notebooks import ToolError, parse_cell

# Modules whose distribution has another name.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "cv2": "opencv-python",
}
# Always there where a notebook runs.
PROVIDED = {"IPython", "ipykernel", "matplotlib_inline", "common", "google"}


class Imports(ast.NodeVisitor):
    """Collects the dotted names that a module or a cell imports, at its top or inside functions.

    A string that names a module of `common`, and the package whose files `resources.files("package")` opens, count
    as imported too: the registry of data sets names the modules that draw them.
    """

    def __init__(self, tree: ast.AST, where: str) -> None:
        self.names: set[str] = set()
        self.where = where
        self.visit(tree)

    def visit_Import(self, node: ast.Import) -> None:
        self.names |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level:
            raise ToolError(f"{self.where}:{node.lineno}: a relative import; name the module in full")
        self.names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node = ast.Module(node.orelse, [])
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if ast.unparse(node.func).endswith("files") and node.args and isinstance(node.args[0], ast.Constant):
            self.names.add(node.args[0].value)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and re.fullmatch(r"common(\.\w+)+", node.value):
            self.names.add(node.value)


def imported_modules(nb: NotebookNode, root: Path, path: Path) -> set[str]:
    """Dotted names of all modules that the notebook and the modules of `common` that it reaches import."""
    cells = [parse_cell(cell.source) for cell in nb.cells if cell.cell_type == "code"]
    waiting = set().union(*(Imports(cell, str(path)).names for cell in cells))
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        found = {name.rpartition(".")[0]} - {""}  # importing a.b runs a/__init__.py
        if file := _module_file(name, root):
            found |= Imports(ast.parse(file.read_text(encoding="utf-8"), str(file)), str(file)).names
        waiting |= found - seen
    return seen


def _module_file(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split("."))
    return next((file for file in (base / "__init__.py", base.with_name(f"{base.name}.py")) if file.is_file()), None)


def requirements(root: Path) -> dict[str, list[str]]:
    """The lines of requirements.txt by normalised distribution name (several where markers differ)."""
    lines: dict[str, list[str]] = {}
    path = root / "requirements.txt"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        line = line.partition(" #")[0].strip()
        if line and not line.startswith(("#", "-")):
            lines.setdefault(_normal(Requirement(line).name), []).append(line)
    return lines


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needs(nb: NotebookNode, root: Path, path: Path) -> dict[str, list[str]]:
    """Module -> the lines of requirements.txt that bring it, for all that the notebook needs.

    Raises:
        ToolError: a module comes from no line of requirements.txt, so Colab would not get it.
    """
    lines = requirements(root)
    tops = {name.partition(".")[0] for name in imported_modules(nb, root, path)}
    modules = sorted(tops - PROVIDED - sys.stdlib_module_names)
    result = {module: lines.get(_normal(DISTRIBUTIONS.get(module, module)), []) for module in modules}
    if unknown := [module for module, found in result.items() if not found]:
        raise ToolError(f"{path}: no line of requirements.txt brings the imported {', '.join(unknown)}")
    return result
