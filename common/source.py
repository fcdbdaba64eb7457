"""The source of a function or class as it stands in its file now, made ready for the page of a notebook."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

MARKERS = ("### BEGIN SOLUTION", "### END SOLUTION")


def source_of(thing: Any) -> tuple[Path, str]:
    """File and source of a function, method, class or module.

    The file is parsed: line numbers that Python noted when it was loaded are wrong after an edit.

    Raises:
        ValueError: the thing comes from no file, or is not in it any more.
        SyntaxError: the file cannot be parsed; says file and line.
    """
    thing = thing if isinstance(thing, ModuleType) else inspect.unwrap(getattr(thing, "fget", None) or thing)
    module = thing if isinstance(thing, ModuleType) else sys.modules.get(getattr(thing, "__module__", None))
    path, name = getattr(module, "__file__", None), getattr(thing, "__qualname__", "")
    if not path or not (name or thing is module):
        raise ValueError(f"{thing!r} does not come from a file; show functions, classes or modules of common/")
    text = Path(path).read_text(encoding="utf-8")
    node = ast.parse(text, filename=path)
    for part in name.split(".") if name else ():
        found = [child for child in _definitions(node) if child.name == part]
        if not found:
            raise ValueError(f"{Path(path).name} holds no {name} any more")
        node = found[-1]
    return Path(path), _segment(text, node) if name else text


def _definitions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Functions and classes directly inside a node, those under an `if` or `try` included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child
        else:
            yield from _definitions(child)


def _segment(text: str, node: Any) -> str:
    """The lines of a definition, its decorators included, moved to the left."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return textwrap.dedent("\n".join(text.splitlines()[first - 1 : node.end_lineno])) + "\n"


def tidy(source: str) -> str:
    """Source with every docstring cut to its first line and without solution markers.

    A function that is still to be written keeps its docstring: it says what to write.
    """
    lines: list[str | None] = list(source.splitlines())
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) and not _is_blank(node):
            first, last = node.body[0].lineno, node.body[0].end_lineno
            if last > first:
                line = lines[first - 1].rstrip()
                lines[first - 1] = line + (' """' if line.endswith('"') else '"""')
                lines[first:last] = [None] * (last - first)
    kept = (line for line in lines if line is not None)
    return "\n".join(line for line in kept if not line.strip().startswith(MARKERS))


def _is_blank(node: ast.AST) -> bool:
    """Whether a function raises what the blank edition puts in the place of a solution."""
    raised = [part.exc for part in ast.walk(node) if isinstance(part, ast.Raise) and isinstance(node, ast.FunctionDef)]
    return any(re.search(r"NotImplementedError\('.+: .+, section \d+'\)", ast.unparse(e)) for e in raised if e)
