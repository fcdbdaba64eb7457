"""Task boxes: what the blank edition says before each function that the learner writes.

A box is made from the function's docstring, from the verdicts that the notebook prints next, and from one line in the
Markdown of the same section:

    <!-- task: affine_forward: a sentence that helps and does not give the solution away -->

The line is an HTML comment, which nobody sees in the solved edition. Its name is that of a blank of the section.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from tools.notebooks import HEADING, ToolError, parse_cell, sections

if TYPE_CHECKING:
    from tools.blanks import Blank

LINE = re.compile(r"^<!-- task: ([^:\n]+): (\S.*?) -->$", re.MULTILINE)
LOOKS_LIKE = re.compile(r"<!--\s*task\b", re.IGNORECASE)
TAGS = BOX, END = "task", "progress"  # of the cells that only the blank edition has
MOST_CLAIMS = 3
VERDICT = re.compile(r"^ok  (.+?)(?:  \(.*\))?$", re.MULTILINE)
Hints = dict[tuple[str, str], str]  # (section, name of a blank) -> the sentence


def hints(nb: NotebookNode, where: str) -> Hints:
    """The task lines of a notebook.

    Raises:
        ToolError: a line that only looks like one, or two for one blank.
    """
    result: Hints = {}
    for cell, (section, _) in zip(nb.cells, sections(nb), strict=True):
        found = LINE.findall(cell.source) if cell.cell_type == "markdown" else []
        if cell.cell_type == "markdown" and len(LOOKS_LIKE.findall(cell.source)) != len(found):
            raise ToolError(f"{where}, section {section}: a task line has to be '<!-- task: NAME: sentence -->'")
        for name, sentence in found:
            if (section, name) in result:
                raise ToolError(f"{where}, section {section}: two task lines for {name}")
            result[section, name] = sentence
    return result


def without_task_lines(source: str) -> str:
    """Markdown without its task lines and the empty lines before them."""
    return re.sub(r"\n{3,}", "\n\n", LINE.sub("", source)).strip("\n") if LINE.search(source) else source


def comment(task: str) -> str:
    """What stands in a cell outside functions: the task as a comment, so that the notebook goes on."""
    return textwrap.fill(f"Test your answer: {task}", 100, initial_indent="# ", subsequent_indent="# ")


def add_tasks(nb: NotebookNode, blanks: Iterable["Blank"], sources: dict[str, str], stem: str) -> NotebookNode:
    """`nb` with a box before each cell that shows a blank, a line of progress at its end, and without task lines.

    Args:
        nb: a solved notebook with its outputs; changed.
        blanks: those that it teaches.
        sources: text of their modules.
        stem: of its file name.
    """
    tasks, boxes = hints(nb, stem), {}
    for blank in blanks:
        if blank.function and (place := shown_at(nb, blank)) is not None:
            boxes.setdefault(place, []).append(blank)
    texts = {place: box(own, tasks, sources, claims(nb, place, set(boxes))) for place, own in boxes.items()}
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = without_task_lines(cell.source)
    for number, place in reversed(list(enumerate(sorted(texts), 1))):
        nb.cells.insert(place, _marked(new_markdown_cell(texts[place]), f"{stem}-task-{number}", BOX))
    last = new_code_cell(f'from common import todo\n\ntodo.progress_line("{stem}")')
    nb.cells.append(_marked(last, f"{stem}-progress", END, "nbval-ignore-output"))
    return nb


def _marked(cell: NotebookNode, name: str, *tags: str) -> NotebookNode:
    cell.id, cell.metadata["tags"] = name, list(tags)
    return cell


# Where a blank is shown, and what is checked there ------------------------------------------------------------


def shown_at(nb: NotebookNode, blank: "Blank") -> int | None:
    """Index of the cell that shows a function, its class or its module, or holds it, or uses it first."""
    best, place = 0, None
    for index, (cell, (section, _)) in enumerate(zip(nb.cells, sections(nb), strict=True)):
        if blank.cell:
            if blank.cell == cell.id:
                return index
        elif cell.cell_type == "code" and section == blank.section:
            score = _score(parse_cell(cell.source), blank)
            if score > best:
                best, place = score, index
    return place


def _score(tree: ast.Module, blank: "Blank") -> int:
    """4 for a cell that shows the function by its full name, 3 by its last, 2 its class or module, 1 for a use."""
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func).endswith("show_source")]
    shown = [f".{ast.unparse(argument)}" for call in calls for argument in call.args]
    short, around = blank.name.rpartition(".")[2], (PurePosixPath(blank.file).stem, *blank.name.split(".")[:-1])
    if any(name.endswith(f".{blank.name}") for name in shown):
        return 4
    if any(name.endswith(f".{short}") for name in shown):
        return 3
    if any(name.rpartition(".")[2] in around for name in shown):
        return 2
    used = {getattr(node, "attr", getattr(node, "id", "")) for node in ast.walk(tree)}
    return int(short in used)


def claims(nb: NotebookNode, place: int, boxes: set[int]) -> list[str]:
    """What the verdicts after a cell say, up to the next heading or box; if there are none, up to the next section."""
    numbers, near, far = sections(nb), [], []
    here = True
    for index in range(place, len(nb.cells)):
        cell = nb.cells[index]
        if numbers[index] != numbers[place]:
            break
        here = here and not (index > place and (index in boxes or _has_heading(cell)))
        for output in cell.get("outputs", []):
            found = VERDICT.findall(output.get("text", ""))
            far += found
            near += found if here else []
    return list(dict.fromkeys(near or far))[:MOST_CLAIMS]


def _has_heading(cell: NotebookNode) -> bool:
    lines = cell.source.splitlines() if cell.cell_type == "markdown" else []
    return any(HEADING.match(line) or re.match(r"#{1,6} ", line) for line in lines)


# The text of a box --------------------------------------------------------------------------------------------


def box(blanks: list["Blank"], tasks: Hints, sources: dict[str, str], checked: list[str]) -> str:
    """The Markdown of one box, for all functions that one cell shows."""
    lines = [f"**Your turn: {_and([f'`{blank.name}`' for blank in blanks])}** in {_where(blanks)}"]
    for blank in blanks:
        lines += ["", *_contract(blank, docstring(sources[blank.cell or blank.file], blank.name))]
        if sentence := tasks.get((blank.section, blank.name)):
            lines.append(f"- **hint:** {sentence}")
    if checked:
        lines += ["", f"**What the next cells check:** {'; '.join(map(plain, checked))}."]
    return "\n".join(f"> {line}".rstrip() for line in lines)


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _where(blanks: list["Blank"]) -> str:
    files = dict.fromkeys(blank.file for blank in blanks if not blank.cell)
    return _and([f"[{file}](../{file})" for file in files]) if files else "the next cell"


def _contract(blank: "Blank", text: str) -> Iterator[str]:
    """What a function computes, what goes in and what comes out."""
    summary = plain(" ".join(text.split("\n\n")[0].split("\nArgs:")[0].split()))
    yield f"`{blank.name}`" + (f": {summary}" if summary else "")
    yield ""
    parts = docstring_parts(text)
    for names, what in arguments(parts.get("Args", "")):
        yield f"- **in:** {_and([f'`{name}`' for name in names.split(', ')])}: {plain(what)}"
    for part in ("Returns", "Yields"):
        if part in parts:
            yield f"- **out:** {plain(' '.join(parts[part].split()))}"


def docstring(source: str, name: str) -> str:
    """Docstring of the function `name`, or of its class if it has none itself."""
    node, text = ast.parse(source), ""
    for part in name.split("."):
        node = next(n for n in ast.walk(node) if getattr(n, "name", None) == part and n is not node)
        text = ast.get_docstring(node) or text
    return text


def docstring_parts(text: str) -> dict[str, str]:
    """The indented parts of a docstring by their titles: Args, Returns, Yields, Raises."""
    found = re.findall(r"^(\w+):\n((?:[ ]+.*(?:\n|$)|\n(?=[ ]))+)", text, re.MULTILINE)
    return {title: inspect.cleandoc(body) for title, body in found}


def arguments(part: str) -> list[tuple[str, str]]:
    """(names, description) of the entries of an Args part; lines that are indented further belong to the one above."""
    entries: list[str] = []
    for line in part.splitlines():
        if line.startswith(" ") and entries:
            entries[-1] += f" {line.strip()}"
        else:
            entries.append(line)
    return [(name, what.strip()) for name, _, what in (entry.partition(":") for entry in entries)]


def plain(text: str) -> str:
    """Text of a docstring as Markdown that shows it letter by letter; `code` and **bold** stay what they are."""
    parts = re.split(r"(`[^`]*`|\*\*[^*`]+\*\*)", text)
    return "".join(part if i % 2 else re.sub(r"([\\*_<>\[\]$])", r"\\\1", part) for i, part in enumerate(parts))
