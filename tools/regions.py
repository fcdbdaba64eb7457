"""Solution regions: finding the nbgrader markers in Python and in Markdown, and replacing what they enclose."""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tools.notebooks import ToolError, plain_python

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
TEXT = f"<!-- {BEGIN} -->", f"<!-- {END} -->"
NAMED = re.compile(rf"{BEGIN} (\w+), (\d+)")  # in a module: the notebook and the section that teach the function
LOOKS_LIKE = re.compile(r"(?:<!--\s*)?#+\s*(begin|end)\s+solution", re.IGNORECASE)
ANSWER = "*Your answer here.*"


@dataclass(frozen=True)
class Region:
    """Lines `begin` to `end` (from 0, markers included) of a source, and what its marker and its place say."""

    begin: int
    end: int
    function: str = ""  # qualified name of the innermost function around it
    notebook: str = ""  # "knn", section "3": named by the marker of a module
    section: str = ""


def code_regions(source: str, where: str, *, named: bool = False) -> list[Region]:
    """The regions of Python source, in order.

    Args:
        source: a module or a code cell.
        where: its name for messages.
        named: whether the markers name notebook and section, as they do in modules.

    Raises:
        ToolError: markers that are nested, unbalanced, misspelt or cross a function; names the line.
    """
    plain = plain_python(source)
    if not LOOKS_LIKE.search(plain):
        return []
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(plain).readline))
        functions = list(_functions(ast.parse(plain)))
    except (SyntaxError, tokenize.TokenError) as error:
        raise ToolError(f"{where}: not valid Python ({error})") from error
    comments = [t for t in tokens if t.type == tokenize.COMMENT and LOOKS_LIKE.match(t.string)]
    pairs = _pairs([(t.start[0] - 1, t.line.strip()) for t in comments], (BEGIN, END), where, named)
    return [replace(region, function=_owner(region, plain.split("\n"), functions, where)) for region in pairs]


def text_regions(source: str, where: str) -> list[Region]:
    """The regions of a Markdown cell; their markers are HTML comments on lines of their own."""
    lines = [(number, line.strip()) for number, line in enumerate(source.split("\n"))]
    return list(_pairs([line for line in lines if LOOKS_LIKE.match(line[1])], TEXT, where, named=False))


def _pairs(markers: Iterable[tuple[int, str]], spelling: tuple[str, str], where: str, named: bool) -> Iterator[Region]:
    begin, end = spelling
    opened = None
    for number, line in markers:
        here, names = f"{where}:{number + 1}", NAMED.fullmatch(line) if named else None
        if not (names or line == end or (line == begin and not named)):
            wanted = f"{begin} notebook, section" if named else begin
            raise ToolError(f"{here}: a marker has to be {wanted!r} or {end!r}, alone on its line")
        if line != end and opened:
            raise ToolError(f"{here}: BEGIN SOLUTION inside the region that starts in line {opened.begin + 1}")
        if line == end and not opened:
            raise ToolError(f"{here}: END SOLUTION without BEGIN SOLUTION")
        if line == end:
            yield replace(opened, end=number)
            opened = None
        else:
            opened = Region(number, number, "", *(names.groups() if names else ()))
    if opened:
        raise ToolError(f"{where}:{opened.begin + 1}: BEGIN SOLUTION without END SOLUTION")


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[int, int, str]]:
    """(first line, last line, qualified name) of every function, inner ones after the outer."""
    for node in ast.iter_child_nodes(tree):
        name = prefix
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{node.name}".lstrip(".")
            if not isinstance(node, ast.ClassDef):
                yield node.lineno - 1, node.end_lineno - 1, name
        yield from _functions(node, name)


def _owner(region: Region, lines: list[str], functions: list[tuple[int, int, str]], where: str) -> str:
    """Qualified name of the innermost function that the region's code lies in, "" outside functions."""
    inside = range(region.begin + 1, region.end)
    body = [n for n in inside if lines[n].strip() and not lines[n].lstrip().startswith("#")]
    if not body:
        raise ToolError(f"{where}:{region.begin + 1}: the region holds no code")
    first, last = body[0], body[-1]
    if any(start < first <= stop < last or first <= start <= last < stop for start, stop, _ in functions):
        raise ToolError(f"{where}:{region.begin + 1}: the region reaches beyond one function")
    return next((name for start, stop, name in reversed(functions) if start < first and last <= stop), "")


def replace_lines(source: str, old: str, new: str) -> str:
    """`source` with the first run of whole lines equal to `old` replaced by `new`; unchanged when there is none."""
    lines, wanted = source.split("\n"), old.split("\n")
    for i in range(len(lines) - len(wanted) + 1):
        if lines[i : i + len(wanted)] == wanted:
            return "\n".join([*lines[:i], *new.split("\n"), *lines[i + len(wanted) :]])
    return source
