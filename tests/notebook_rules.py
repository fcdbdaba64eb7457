"""What a committed notebook has to be, as rules: each takes a Page and yields what is wrong with it."""

from __future__ import annotations

import ast
import copy
import importlib
import importlib.util
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat

from tools.notebooks import parse_cell
from tools.outputs import normalise

SETUP = """\
import pathlib
import sys

here = pathlib.Path(globals().get("__vsc_ipynb_file__", "a notebook")).absolute().parent
tree = next((p for p in (here, *here.parents) if (p / "common" / "notebook.py").is_file()), None)
if tree is None:
    raise SystemExit(f"No workbook around {here}: open the notebook inside its folder, or use its Colab file")
sys.path.insert(0, str(tree))
from common import notebook
notebook.setup()"""

MOST_BYTES = 1.1e6
MOST_LINES = 8  # of the median code cell
TAGS = {"nbval-ignore-output", "nbval-check-output", "nbval-raises-exception", "nbval-skip"}

MACHINE = re.compile(
    r"(?<![\w.:/-])/(?:home|root|Users|tmp|work|var|private|opt|usr|mnt|srv|content)/"  # not inside an address
    r"|[A-Z]:\\{1,2}Users|ipykernel_\d+|ipykernel/|site-packages|\bat 0x[0-9a-f]{6,}"
)
BARE_SCALAR = re.compile(r"^np\.(?:float|int|bool|str)\w*_?\(")
BAR = re.compile(r"\r|\d+%\|| ?\d+(?:\.\d+)?(?:it/s|s/it)\b")
TRAPS = {
    r"^\s*%{1,2}(?:time|timeit|prun)\b": "a timing magic, whose output differs from run to run",
    r"^\s*%(?:load_ext|reload_ext|autoreload)\b": "autoreload, which not every front end has",
    r"^\s*[!%]pip\b": "an installation",
    r"\bclear_output\b|\bdisplay_id\b": "an output that is replaced later, which cannot be compared",
    r"^\s*#\s*(?:NBVAL_|PYTEST_VALIDATE_)": "an nbval comment; use a tag",
    r"\bfrom tqdm import|\btqdm\.(?:std|asyncio)\b": "text progress; use notebook.progress",
}


@dataclass(frozen=True)
class Page:
    """A notebook and the text of its file."""

    path: Path
    text: str

    @cached_property
    def nb(self) -> nbformat.NotebookNode:
        return nbformat.reads(self.text, as_version=4)

    @cached_property
    def code(self) -> list[tuple[str, nbformat.NotebookNode]]:
        """("cell 3 (x = 1 ...)", cell) of each code cell."""
        return [
            (f"cell {number} ({(cell.source.splitlines() or [''])[0][:40]})", cell)
            for number, cell in enumerate(self.nb.cells, 1)
            if cell.cell_type == "code"
        ]


def set_up(page: Page) -> Iterator[str]:
    """The second cell is the set-up cell, the same bytes everywhere, and none follows."""
    if len(page.nb.cells) < 2 or page.nb.cells[0].cell_type != "markdown" or page.nb.cells[1].source != SETUP:
        yield "the second cell, after the title, is not the set-up cell of the other notebooks"
    if sum("notebook.setup(" in cell.source for _, cell in page.code) > 1:
        yield "notebook.setup() is called more than once"


def executed(page: Page) -> Iterator[str]:
    """Top to bottom in one fresh kernel: counts 1 to n, no errors."""
    counts = [cell.execution_count for _, cell in page.code]
    if counts != list(range(1, len(counts) + 1)):
        strange = next(i for i, count in enumerate(counts, 1) if i != count)
        yield f"execution counts are not 1 to {len(counts)}: code cell {strange} has {counts[strange - 1]}"
    for name, cell in page.code:
        if any(output.output_type == "error" for output in cell.outputs):
            yield f"{name} ended with an error"


def normal(page: Page) -> Iterator[str]:
    """What `make outputs` writes: ids from places, language metadata, nothing of the machine or the front end."""
    written = normalise(copy.deepcopy(page.nb), page.path.stem)
    pairs = enumerate(zip(page.nb.cells, written.cells, strict=True), 1)
    changed = [str(number) for number, (cell, wanted) in pairs if cell != wanted]
    if changed:
        yield f"ids, metadata or outputs that `make outputs` would not leave, in cells {', '.join(changed)}"
    if page.nb.metadata != written.metadata:
        yield "the metadata do not name kernel and language as `make outputs` does"
    if page.text != nbformat.writes(written) + "\n":
        yield "the file is not in the form that `make outputs` writes"


def small(page: Page) -> Iterator[str]:
    """About a megabyte, and cells that one can read."""
    size = len(page.text.encode())
    if size > MOST_BYTES:
        yield f"the file has {size / 1e6:.2f} MB, at most {MOST_BYTES / 1e6} are allowed"
    median = statistics.median(len(cell.source.splitlines()) for _, cell in page.code)
    if median > MOST_LINES:
        yield f"the median code cell has {median:g} lines, at most {MOST_LINES} are allowed"


def portable(page: Page) -> Iterator[str]:
    """No traces of the machine, and no outputs that another machine or NumPy prints differently."""
    for name, cell in page.code:
        for text in (cell.source, *texts(cell)):
            if found := MACHINE.search(text):
                yield f"{name} shows the machine it ran on: {found[0]}"
        for output in cell.outputs:
            if output.get("name") == "stderr":
                yield f"{name} wrote to stderr"
            for kind in output.get("data", {}):
                if "widget" in kind or "javascript" in kind or kind == "image/svg+xml":
                    yield f"{name} shows {kind}, which cannot be compared"
            if BARE_SCALAR.match(output.get("data", {}).get("text/plain", "")):
                yield f"{name} ends with a bare NumPy scalar, which NumPy 1 and 2 show differently; use print"
        if any(BAR.search(text) for text in texts(cell)):
            yield f"{name} left a progress bar"


def without_traps(page: Page) -> Iterator[str]:
    """Nothing that cannot be compared or does not work everywhere."""
    for name, cell in page.code:
        for trap, why in TRAPS.items():
            if re.search(trap, cell.source, re.MULTILINE):
                yield f"{name} holds {why}"
        if cell.source.rstrip().endswith(";"):
            yield f"{name} ends with a semicolon, which hides no output here; use plt.show() or assign"


def compared(page: Page) -> Iterator[str]:
    """Tags are known, skips have a reason, and at least half of what prints is compared."""
    for name, cell in page.code:
        unknown = [tag for tag in tags(cell) if tag.startswith("nbval") and tag not in TAGS]
        if unknown:
            yield f"{name} has a tag that nbval does not know: {', '.join(unknown)}"
        if "nbval-skip" in tags(cell) and not re.search(r"#\s*\S+", cell.source):
            yield f"{name} is skipped in tests without a reason (a comment in the cell)"
    printing = [cell for _, cell in page.code if prints(cell)]
    left = [cell for cell in printing if not {"nbval-ignore-output", "nbval-skip"} & set(tags(cell))]
    if not left or 2 * len(left) < len(printing):
        yield f"{len(left)} of {len(printing)} cells that print are compared, at least half must be"


def imports_exist(page: Page) -> Iterator[str]:
    """Every name of common/ that a cell imports, or asks a module of common/ for, is there."""
    bound: dict[str, str] = {}
    for name, cell in page.code:
        for node in ast.walk(parse_cell(cell.source)):
            for dotted in _asked_for(node, bound):
                if dotted.partition(".")[0] == "common" and not _exists(dotted):
                    yield f"{name} uses {dotted}, which does not exist"


def _asked_for(node: ast.AST, bound: dict[str, str]) -> list[str]:
    """The dotted names that an import or an attribute asks for; `bound` keeps what local names stand for, in place."""
    if isinstance(node, ast.ImportFrom):
        names = {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    elif isinstance(node, ast.Import):
        names = {alias.asname or alias.name: alias.name for alias in node.names}
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        owner = bound.get(node.value.id, "")
        return [f"{owner}.{node.attr}"] if _is_module(owner) else []
    else:
        return []
    bound |= names
    return list(names.values())


def _is_module(dotted: str) -> bool:
    if dotted.partition(".")[0] != "common":
        return False
    try:
        return importlib.util.find_spec(dotted) is not None
    except ModuleNotFoundError:
        return False


def _exists(dotted: str) -> bool:
    owner, _, name = dotted.rpartition(".")
    if _is_module(dotted):
        return True
    return _is_module(owner) and hasattr(importlib.import_module(owner), name)


def listed(page: Page) -> Iterator[str]:
    """A row in the tables of README.md and assignmentN/README.md, which set the order and lead a reader here."""
    folder, file = page.path.parent, page.path.name
    for readme, link in ((folder / "README.md", file), (folder.parent / "README.md", f"{folder.name}/{file}")):
        text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
        rows = [line for line in text.splitlines() if line.startswith("|") and f"]({link})" in line]
        if len(rows) != 1:
            name = readme.relative_to(folder.parent).as_posix()
            yield f"{name} has {len(rows)} table rows that link to {link}, it must have one"


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def texts(cell: nbformat.NotebookNode) -> Iterator[str]:
    """All text that the cell's outputs show, pictures left out."""
    for output in cell.outputs:
        yield output.get("text", "")
        yield from output.get("traceback", [])
        for kind, value in output.get("data", {}).items():
            if isinstance(value, str) and not kind.startswith("image/"):
                yield value


def prints(cell: nbformat.NotebookNode) -> bool:
    """Whether the cell prints or ends with a value: more than a picture, or source shown on the page."""
    shown = [output.get("text", output.get("data", {}).get("text/plain", "")) for output in cell.outputs]
    return any(text.strip() and not re.fullmatch(r"<(?:Figure|IPython)\b.*>", text.strip()) for text in shown)


RULES: tuple[Callable[[Page], Iterator[str]], ...] = (
    set_up,
    executed,
    normal,
    small,
    portable,
    without_traps,
    compared,
    imports_exist,
    listed,
)
