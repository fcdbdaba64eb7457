"""How far one is, notebook by notebook: functions written, questions answered, checks passed, and what is next.

    python -m tools.progress

Checks are those in the outputs with which a notebook was last saved or run (`make outputs`).
"""

import sys
from pathlib import Path

from common.todo import Progress, blanks_of, measure
from tools.blanks import find_blanks
from tools.notebooks import ROOT, ToolError
from tools.student import list_of_blanks


def progress(root: Path = ROOT) -> list[Progress]:
    """Of every notebook, in reading order.

    Raises:
        ToolError: in a solved tree: see `find_blanks`.
    """
    blanks = blanks_of(root)
    if blanks is None:
        blanks = list_of_blanks(root, find_blanks(root))
    return [measure(notebook, own, root) for notebook, own in blanks.items()]


def table(rows: list[Progress]) -> str:
    """One line for each notebook, then their sum."""
    counts = ("functions", "written", "answers", "answered", "passed", "failed")
    total = Progress("all", **{name: sum(getattr(row, name) for row in rows) for name in counts}, next="")
    wide = max(len(row.notebook) for row in [*rows, total])
    lines = [f"{'notebook':{wide}}  functions  answers  checks"]
    for row in [*rows, total]:
        functions, answers = f"{row.written}/{row.functions}", f"{row.answered}/{row.answers}"
        failed = f", {row.failed} FAILED" if row.failed else ""
        after = f"  next: {row.next}" if row.next else ""
        lines.append(f"{row.notebook:{wide}}  {functions:>9}  {answers:>7}  {row.passed:6}{failed}{after}")
    return "\n".join(lines)


def main() -> int:
    """The command; returns its exit status."""
    try:
        rows = progress()
    except (ToolError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(table(rows))
    following = next((row for row in rows if row.next), None)
    print(
        f"Next: {following.next}, taught in {following.notebook}.ipynb." if following else "Every function is written."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
