"""Solution regions: finding the nbgrader markers in Python and in Markdown, and replacing what they enclose."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

from tools.notebooks import ToolError, plain_python

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
LOOKS_LIKE = re.compile(r"(?:<!--\s*)?#+\s*(begin|end)\s+solution", re.IGNORECASE)
NAMED = re.compile(rf"{BEGIN} \w+, \d+")  # in a module: the notebook and section that teach it
ANSWER = "*Your answer here.*"


@dataclass(frozen=True)
class Region:
    """Lines `begin` to `end` (from 0, markers included) of a source, and the function they belong to."""

    begin: int
    end: int
    indent: str
    function: str


def code_regions(source: str, where: str) -> list[Region]:
    """The regions of Python source, in order.

    Args:
        source: a module or a code cell.
        where: its name for messages.

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
    comments = [
        (t.start[0] - 1, NAMED.sub(BEGIN, t.string), NAMED.sub(BEGIN, t.line))
        for t in tokens
        if t.type == tokenize.COMMENT
    ]
    pairs = _pairs([c for c in comments if LOOKS_LIKE.match(c[1])], (BEGIN, END), where)
    return [_region(begin, end, plain.split("\n"), functions, where) for begin, end in pairs]


def text_regions(source: str, where: str) -> list[Region]:
    """The regions of a Markdown cell; their markers are HTML comments on lines of their own."""
    lines = [(i, line.strip(), line) for i, line in enumerate(source.split("\n"))]
    pairs = _pairs([x for x in lines if LOOKS_LIKE.match(x[1])], (f"<!-- {BEGIN} -->", f"<!-- {END} -->"), where)
    return [Region(begin, end, "", "") for begin, end in pairs]


def _pairs(markers: list[tuple[int, str, str]], spelling: tuple[str, str], where: str) -> Iterator[tuple[int, int]]:
    opened = None
    for number, text, line in markers:
        here = f"{where}:{number + 1}"
        if text not in spelling or line.strip() != text:
            raise ToolError(f"{here}: a marker has to be {' or '.join(map(repr, spelling))}, alone on its line")
        if text == spelling[0]:
            if opened is not None:
                raise ToolError(f"{here}: BEGIN SOLUTION inside the region that starts in line {opened + 1}")
            opened = number
        elif opened is None:
            raise ToolError(f"{here}: END SOLUTION without BEGIN SOLUTION")
        else:
            yield opened, number
            opened = None
    if opened is not None:
        raise ToolError(f"{where}:{opened + 1}: BEGIN SOLUTION without END SOLUTION")


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[int, int, str]]:
    """(first line, last line, qualified name) of every function, inner ones after the outer."""
    for node in ast.iter_child_nodes(tree):
        name = prefix
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{node.name}".lstrip(".")
            if not isinstance(node, ast.ClassDef):
                yield node.lineno - 1, node.end_lineno - 1, name
        yield from _functions(node, name)


def _region(begin: int, end: int, lines: list[str], functions: list[tuple[int, int, str]], where: str) -> Region:
    body = [n for n in range(begin + 1, end) if lines[n].strip() and not lines[n].lstrip().startswith("#")]
    if not body:
        raise ToolError(f"{where}:{begin + 1}: the region holds no code")
    owners = [[name for first, last, name in functions if first < n <= last][-1:] for n in (body[0], body[-1])]
    if owners[0] != owners[1]:
        raise ToolError(f"{where}:{begin + 1}: the region reaches beyond one function")
    indent = lines[begin][: len(lines[begin]) - len(lines[begin].lstrip())]
    return Region(begin, end, indent, (owners[0] or [""])[0])


def raise_line(message: str, indent: str, width: int) -> str:
    """The statement that stands for a region, wrapped as ruff does when it is longer than `width`."""
    line = f'{indent}raise NotImplementedError("{message}")'
    if len(line) > width:
        line = f'{indent}raise NotImplementedError(\n{indent}    "{message}"\n{indent})'
    return line


def replace_lines(source: str, old: str, new: str) -> str:
    """`source` with the first run of whole lines equal to `old` replaced by `new`; unchanged when there is none."""
    lines, wanted = source.split("\n"), old.split("\n")
    for i in range(len(lines) - len(wanted) + 1):
        if lines[i : i + len(wanted)] == wanted:
            return "\n".join([*lines[:i], *new.split("\n"), *lines[i + len(wanted) :]])
    return source
