"""Execute a notebook top to bottom in a fresh kernel, away from the user's own IPython configuration."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Execution:
    """One notebook after its run: the executed cells, the wall time in seconds, the error if there was one."""

    path: Path
    notebook: nbformat.NotebookNode
    seconds: float
    error: str = ""

    @property
    def code_cells(self) -> list[nbformat.NotebookNode]:
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @property
    def cells_run(self) -> int:
        return sum(cell.execution_count is not None for cell in self.code_cells)

    @property
    def checks(self) -> int:
        """Verdict lines printed by common.checks.check."""
        return sum(line.startswith("ok  ") for line in self._printed())

    def _printed(self) -> Iterator[str]:
        for cell in self.code_cells:
            for output in cell.outputs:
                yield from output.get("text", "").splitlines()


def find(wanted: list[str] | None = None, root: Path = ROOT) -> list[Path]:
    """The notebooks named, or all of them in reading order; SystemExit names one that does not exist."""
    every = sorted(root.glob("assignment*/*.ipynb"))
    if not wanted:
        return sorted(every, key=lambda path: (path.parent.name, _place(path)))
    missing = [name for name in wanted if (root / name) not in every]
    if missing:
        known = "\n  ".join(str(path.relative_to(root)) for path in every)
        raise SystemExit(f"No such notebook: {', '.join(missing)}. There are:\n  {known}")
    return [root / name for name in wanted]


def _place(path: Path) -> int:
    """A notebook's place in its assignment: the row of the README's table that names it."""
    readme = path.parent / "README.md"
    place = readme.read_text(encoding="utf-8").find(path.name) if readme.exists() else -1
    return place if place >= 0 else 1 << 30


def execute(path: Path, environment: dict[str, str], on_cell: Callable[[], object] = lambda: None) -> Execution:
    """Run every cell in the notebook's own folder until one fails.

    Args:
        path: of the notebook; the file is not written.
        environment: variables set for the kernel on top of the present ones.
        on_cell: called after each code cell, for a progress bar.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],  # no advice about transports in the middle of the progress bar
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_executed=lambda **_: on_cell(),
    )
    started, error = time.perf_counter(), ""
    with (
        _variables(environment),
        tempfile.TemporaryDirectory() as ipython,
        _variables({"IPYTHONDIR": ipython}),
    ):
        try:
            client.execute()
        except CellExecutionError as failure:
            error = f"{failure.ename}: {failure.evalue}"
    return Execution(path, notebook, time.perf_counter() - started, error)


@contextlib.contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """Environment variables set for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
