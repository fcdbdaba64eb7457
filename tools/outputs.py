"""Execute the notebooks on the pocket edition and write their outputs into the .ipynb files.

The only way outputs are made. The same sources give the same bytes: one thread, no progress bars, no timing
metadata, cell ids from the cell's place, figures without version stamps. A cell tagged `nbval-ignore-output` shows a
time or the machine; it keeps the outputs it has until the code of the notebook changes.

    python -m tools.outputs [assignment1/knn.ipynb ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

from common.storage import atomic_write
from tools.execute import ENVIRONMENT, execute
from tools.notebooks import find, notebook_text

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {
    "name": "python",
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "pygments_lexer": "ipython3",
}


def normalise(notebook: nbformat.NotebookNode, stem: str) -> nbformat.NotebookNode:
    """Strip what differs from machine to machine or from run to run, in place.

    Args:
        notebook: executed.
        stem: the file's name without suffix, the root of the cell ids.
    """
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": LANGUAGE})
    for place, cell in enumerate(notebook.cells):
        cell.id = f"{stem[:50]}-{place:03d}"
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": sorted(tags)} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, place)  # a busy machine splits prints at random
            for output in cell.outputs:
                if "metadata" in output:
                    output.metadata = nbformat.from_dict({})
    return notebook


def keep_times(notebook: nbformat.NotebookNode, before: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Where no code changed, measuring a time again is no reason to change the file: take the old outputs, in place.

    Args:
        notebook: executed and normalised.
        before: the file's present content.
    """
    if [_code(cell) for cell in notebook.cells] == [_code(cell) for cell in before.cells]:
        for cell, old in zip(notebook.cells, before.cells, strict=True):
            if "nbval-ignore-output" in cell.metadata.get("tags", []) and old.outputs:
                cell.outputs = old.outputs
    return notebook


def _code(cell: nbformat.NotebookNode) -> tuple[str, str]:
    return cell.cell_type, cell.source if cell.cell_type == "code" else ""


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Replace the file whole; after an interruption the old one is still there."""
    with atomic_write(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(notebook_text(notebook))


def main() -> None:
    try:
        for path in find(sys.argv[1:]):
            renew(path)
    except KeyboardInterrupt:
        sys.exit("Interrupted; the kernel is stopped, and no notebook is half-written.")


def renew(path: Path) -> None:
    """Execute a notebook and write its outputs; SystemExit, without writing, after an error."""
    run = execute(path, ENVIRONMENT)
    if run.error:
        sys.exit(f"{path.name}: not written, {'a cell failed' if run.failed_cell else 'it did not run'}\n{run.error}")
    before = nbformat.read(path, as_version=4)
    write(keep_times(normalise(run.notebook, path.stem), before), path)
    print(f"{path.parent.name}/{path.name}: {run.seconds:.0f} s, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
