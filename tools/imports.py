"""Which modules a notebook needs, found by reading imports (nothing is executed)."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode

from tools.notebooks import parse_cell

# Calls whose constant argument names a package: importlib.resources.files("mlxtend") and the like.
NAMING_CALLS = {"files", "find_spec", "import_module", "as_file"}
TOLERANT = {"ImportError", "ModuleNotFoundError", "Exception"}


def imported_names(tree: ast.AST, package: str = "") -> Iterator[str]:
    """Dotted names that `tree` imports, also `a.b` for `from a import b`; imports it can do without are left out.

    Args:
        tree: a module or a cell.
        package: dotted name of the package the module lies in, for relative imports.
    """
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            module = _absolute(child, package)
            yield module
            yield from (f"{module}.{alias.name}" for alias in child.names)
        elif isinstance(child, ast.Try) and any(_tolerates(handler) for handler in child.handlers):
            rest = [*child.handlers, *child.orelse, *child.finalbody]
            yield from imported_names(ast.Module(body=rest, type_ignores=[]), package)
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from imported_names(ast.Module(body=child.orelse, type_ignores=[]), package)
        else:
            yield from _named_by_call(child)
            yield from imported_names(child, package)


def bindings(tree: ast.Module, package: str = "") -> dict[str, str]:
    """Local name -> dotted name for the imports at the top level of `tree`."""
    names: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {
                a.asname or a.name.partition(".")[0]: a.name if a.asname else a.name.partition(".")[0]
                for a in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, package)
            names |= {a.asname or a.name: f"{module}.{a.name}" for a in node.names}
    return names


def _absolute(node: ast.ImportFrom, package: str) -> str:
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join([*base, *([node.module] if node.module else [])])


def _tolerates(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or any(
        isinstance(node, ast.Name) and node.id in TOLERANT for node in ast.walk(handler.type)
    )


def _named_by_call(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in NAMING_CALLS:
        yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


def module_file(name: str, root: Path) -> Path | None:
    """File of the module `name` below `root`, None when there is none."""
    base = root.joinpath(*name.split("."))
    return next((p for p in (base / "__init__.py", base.with_name(base.name + ".py")) if p.is_file()), None)


def module_name(path: Path, root: Path) -> str:
    """Dotted name of the module in the file `path` below `root`."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _imports_of(name: str, path: Path, root: Path) -> Iterator[str]:
    source = path.read_text(encoding="utf-8")
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    yield from imported_names(ast.parse(source, filename=str(path)), package)
    if "import_module(" in source:  # chosen at run time: any module in this package may be meant
        yield from (module_name(p, root) for p in path.parent.rglob("*.py"))


def resolve(name: str, root: Path) -> str:
    """The dotted name where `name` is defined, through packages that re-export it.

    `common.classifiers.KNearestNeighbor` -> `common.classifiers.knn.KNearestNeighbor`
    """
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:cut])
        path = module_file(module, root)
        if path and not module_file(".".join(parts[: cut + 1]), root):
            exported = _bindings_of(module, path, path.stat().st_mtime_ns).get(parts[cut])
            target = ".".join([exported, *parts[cut + 1 :]]) if exported else name
            return name if target == name else resolve(target, root)
    return name


@functools.lru_cache(maxsize=1024)
def _bindings_of(module: str, path: Path, changed: int) -> dict[str, str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return bindings(ast.parse(path.read_text(encoding="utf-8")), package)


def needed_modules(nb: NotebookNode, root: Path) -> set[str]:
    """Top-level names of all modules that the notebook and the modules of `root` that it reaches import."""
    queue = ["common.notebook"]
    for cell in nb.cells:
        if cell.cell_type == "code":
            queue += imported_names(parse_cell(cell.source))
    seen: set[str] = set()
    while queue:
        name = queue.pop()
        if not name or name in seen:
            continue
        seen.add(name)
        queue.append(name.rpartition(".")[0])  # importing a.b runs a/__init__.py
        path = module_file(name, root)
        if path:
            queue += _imports_of(name, path, root)
    return {name.partition(".")[0] for name in seen}
