"""How far one is in the blank edition: which functions are written, and which one comes next.

`make student` leaves a list of the blanks beside the tree. A function is written when the error that names it is gone
from its file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = ".generated.json"
ANSWER = "*Your answer here.*"


@dataclass(frozen=True)
class Progress:
    """What is done in one notebook, and what is next."""

    notebook: str  # "assignment1/knn"
    functions: int
    written: int
    answers: int
    answered: int
    passed: int  # checks in the outputs that the notebook was saved with
    failed: int
    next: str  # the first function that is not written, with its file and section; "" at the end

    def line(self) -> str:
        """All of it in one line."""
        parts = [f"{self.written} of {self.functions} functions written"]
        parts += [f"{self.answered} of {self.answers} questions answered"] if self.answers else []
        parts.append(f"when last saved {self.passed} checks had passed" + f", {self.failed} FAILED" * bool(self.failed))
        return f"{self.notebook}: {'; '.join(parts)}. {f'Next: {self.next}' if self.next else 'Nothing left to write.'}"


def blanks_of(root: Path) -> dict[str, list[dict[str, str]]] | None:
    """The blanks of each notebook as `make student` listed them; None in a tree that it did not write."""
    try:
        return json.loads((root / MANIFEST).read_text(encoding="utf-8"))["blanks"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def measure(notebook: str, blanks: list[dict[str, str]], root: Path) -> Progress:
    """Look into the files.

    Args:
        notebook: "assignment1/knn".
        blanks: its functions (name, file, section, message) and questions (message "").
        root: of the tree.
    """
    functions = [blank for blank in blanks if blank["message"]]
    texts = {name: _text(root / name) for name in {blank["file"] for blank in functions}}
    waiting = [blank for blank in functions if _is_waiting(blank["message"], texts[blank["file"]])]
    cells = _cells(root / f"{notebook}.ipynb")
    printed = [line for cell in cells for line in _printed(cell)]
    answers = len(blanks) - len(functions)
    return Progress(
        notebook,
        functions=len(functions),
        written=len(functions) - len(waiting),
        answers=answers,
        answered=answers - sum(_source(cell).count(ANSWER) for cell in cells),
        passed=sum(line.startswith("ok  ") for line in printed),
        failed=sum(line.startswith("FAILED  ") for line in printed),
        next="{name} in {file}, section {section}".format(**waiting[0]) if waiting else "",
    )


def progress_line(stem: str) -> None:
    """Print how far one is in a notebook; the last cell of each notebook of the blank edition.

    Args:
        stem: of the notebook's file name.
    """
    blanks = blanks_of(ROOT) or {}
    notebook = next((name for name in blanks if name.rpartition("/")[2] == stem), None)
    if notebook is None:
        print(f"{stem}: progress is counted in the folder that `make student` writes")
    else:
        print(measure(notebook, blanks[notebook], ROOT).line())


def _text(path: Path) -> str:
    """A module, or the code of a notebook; nothing if the file cannot be read."""
    if path.suffix == ".ipynb":
        return "\n".join(_source(cell) for cell in _cells(path) if cell.get("cell_type") == "code")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _is_waiting(message: str, text: str) -> bool:
    """Whether the error that stands for a function is still there; as a comment it does not count."""
    return any(f'"{message}"' in line and not line.lstrip().startswith("#") for line in text.splitlines())


def _cells(path: Path) -> list[dict[str, Any]]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return cells if isinstance(cells, list) else []


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell.get("source", ""))


def _printed(cell: dict[str, Any]) -> list[str]:
    return [line for output in cell.get("outputs", []) for line in "".join(output.get("text", "")).splitlines()]
