"""What the notebook tools share: finding, reading and writing notebooks."""

import ast
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ".generated.json"  # lists what a tool wrote, so that it can tell its own files from edited ones
BY_PRODUCTS = {
    ".git", ".venv", "build", "__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".ruff_cache",
    ".hypothesis", "vision_workbook",
}  # fmt: skip
BUILT = (".so", ".pyd", ".pyc", ".o", ".egg-info")
HEADING = re.compile(r"^#{1,6}\s+(\d+)\.\s+(.*?)\s*#*$")


class ToolError(Exception):
    """Something in the tree or on the disk that the user has to put right; the message says what and where."""


def notebook_paths(root: Path = ROOT, *, tracked: bool = False) -> list[Path]:
    """The notebooks of the workbook, `assignment*/*.ipynb`, in reading order: that of the tables in the READMEs.

    Args:
        root: top of the tree.
        tracked: only those under version control, which are handed out.
    """
    paths = list(root.glob("assignment*/*.ipynb"))
    if tracked:
        handed_out = set(source_files(root))
        paths = [path for path in paths if path.relative_to(root).as_posix() in handed_out]
    return sorted(paths, key=lambda path: (path.parent.name, _row(path), path.name))


def _row(path: Path) -> int:
    """The line of the table in its assignment's README that links to a notebook; unlisted ones come last."""
    readme = path.parent / "README.md"
    lines = readme.read_text(encoding="utf-8").splitlines() if readme.is_file() else []
    return next((n for n, line in enumerate(lines) if line.startswith("|") and f"({path.name})" in line), len(lines))


def find(names: list[str], root: Path = ROOT) -> list[Path]:
    """The notebooks named on a command line, or all of them; SystemExit names one that does not exist."""
    every = notebook_paths(root)
    missing = [name for name in names if (root / name) not in every]
    if missing:
        known = "\n  ".join(str(path.relative_to(root)) for path in every)
        raise SystemExit(f"No such notebook: {', '.join(missing)}. There are:\n  {known}")
    return [root / name for name in names] or every


def read_notebook(path: Path) -> NotebookNode:
    """The notebook at `path`; raises ToolError, naming the file, when it is not a version 4 notebook."""
    try:
        nb = nbformat.read(path, as_version=4)
    except (ValueError, AttributeError, nbformat.ValidationError) as error:
        raise ToolError(f"{path}: not a readable notebook ({error})") from error
    if any("id" not in cell for cell in nb.cells):
        raise ToolError(f"{path}: cells without ids; save it as notebook format 4.5")
    return nb


def notebook_text(nb: NotebookNode) -> str:
    """The notebook as JSON in the one form all tools write: sorted keys, indent 1, final newline."""
    return nbformat.writes(nb, version=4) + "\n"


def strip_outputs(nb: NotebookNode) -> NotebookNode:
    """`nb` without outputs, execution counts and whatever front ends left in cell metadata (tags stay)."""
    for cell in nb.cells:
        cell.metadata = NotebookNode({k: v for k, v in cell.metadata.items() if k in ("tags", "jupyter")})
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None
    nb.metadata.pop("widgets", None)
    return nb


def setup_index(nb: NotebookNode, path: Path) -> int:
    """Index of the one set-up cell; raises ToolError when there is none or more than one."""
    found = [
        i
        for i, cell in enumerate(nb.cells)
        if cell.cell_type == "code" and re.search(r"^notebook\.setup\(", cell.source, re.MULTILINE)
    ]
    if len(found) != 1:
        raise ToolError(f"{path}: {len(found)} cells call notebook.setup(), exactly one set-up cell is allowed")
    return found[0]


def plain_python(source: str) -> str:
    """`source` with IPython's lines (`%...`, `!...`) blanked, empty for a cell in another language."""
    if source.lstrip().startswith("%%"):
        return ""
    return re.sub(r"^[ \t]*[%!].*$", "", source, flags=re.MULTILINE)


def parse_cell(source: str) -> ast.Module:
    """Syntax tree of a code cell."""
    return ast.parse(plain_python(source))


def sections(nb: NotebookNode) -> list[tuple[str, str]]:
    """For every cell the (number, title) of the numbered heading above it, ("", "") before the first."""
    here, result = ("", ""), []
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"^```.*?^```", "", cell.source, flags=re.MULTILINE | re.DOTALL)
            for line in prose.splitlines():
                if match := HEADING.match(line):
                    here = (match[1], match[2])
        result.append(here)
    return result


def source_files(root: Path, *, untracked: bool = False) -> list[str]:
    """Paths (relative, with slashes) of the files under version control, or of all sources outside git.

    Args:
        root: top of the tree.
        untracked: also files git does not know yet and does not ignore.
    """
    if (root / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(root), "ls-files", "-z", "--cached"]
        listing = subprocess.run(
            command + ["--others", "--exclude-standard"] * untracked,
            capture_output=True,
            text=True,
            check=False,
        )
        if listing.returncode:
            raise ToolError(f"git cannot list the files of {root}: {listing.stderr.strip()}")
        names = listing.stdout.split("\0")
    else:
        names = _walk(root)
    return sorted({name for name in names if name and (root / name).is_file()})


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [f for f in folders if f not in BY_PRODUCTS and not f.endswith(BUILT)]
        if here.as_posix() == "datasets":  # what lies below is data, whoever put it there
            folders[:], files = [], [f for f in files if f == "README.md"]
        yield from ((here / f).as_posix() for f in files if not f.endswith(BUILT) and f != MANIFEST)
