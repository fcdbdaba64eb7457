"""Execute notebooks top to bottom in fresh kernels, away from the user's own IPython configuration."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from tools.notebooks import sections

ONE_THREAD = {
    "WORKBOOK_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
# Of tests and committed outputs. One thread: the order of a sum, and so its last bits, would otherwise depend on the
# machine's cores. This module must not load NumPy, which reads these variables only once.
ENVIRONMENT = {"WORKBOOK_EDITION": "pocket", "WORKBOOK_QUIET": "1", "PYTHONHASHSEED": "0"} | ONE_THREAD

LIMIT = "WORKBOOK_CELL_SECONDS"  # the variable that sets the time limit of a cell
SECONDS = {"pocket": 3600}  # without it; of the other editions, whose cells may train for hours, a day
DAY = 24 * 3600


class _Stopped(Exception):
    """The run of a notebook ended without an error in a cell; the message says why."""


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
        return sum(line.startswith("ok  ") for line in self.printed())

    @property
    def failed_cell(self) -> nbformat.NotebookNode | None:
        """The cell that ended with an error."""
        errors = (cell for cell in self.code_cells if any(o.output_type == "error" for o in cell.outputs))
        return next(errors, None)

    @property
    def failure(self) -> str:
        """One line: section, cell (by the number in its brackets), and the claim or error; "" after a good run."""
        cell, what = self.failed_cell, self.error.partition("\n")[0]
        if not self.error or cell is None:
            return what
        claims = [line.removeprefix("FAILED  ") for line in _lines(cell) if line.startswith("FAILED  ")]
        if claims:
            what = claims[0] + (f" (and {len(claims) - 1} more)" if claims[1:] else "")
        section = sections(self.notebook)[self.notebook.cells.index(cell)][0]
        place = [f"section {section}"] if section else []
        return f"{', '.join([*place, f'cell {cell.execution_count}'])}: {what.removeprefix('CheckFailed: ')}"

    def printed(self) -> Iterator[str]:
        """The lines that the cells printed."""
        for cell in self.code_cells:
            yield from _lines(cell)


def _lines(cell: nbformat.NotebookNode) -> Iterator[str]:
    """What a cell printed; a stream that arrived in pieces may have been cut inside a line."""
    yield from "".join(output.get("text", "") for output in cell.outputs).splitlines()


def execute(path: Path, environment: dict[str, str], on_cell: Callable[[], object] = lambda: None) -> Execution:
    """Run every cell in the notebook's own folder until one fails.

    Args:
        path: of the notebook; the file is not written.
        environment: variables set for the kernel on top of the present ones.
        on_cell: called after each code cell, for a progress bar.
    """
    return asyncio.run(execute_beside(path, environment, on_cell))


async def execute_beside(
    path: Path, environment: dict[str, str], on_cell: Callable[[], object] = lambda: None
) -> Execution:
    """`execute` as a coroutine: several of them run side by side, each with its own kernel process."""
    notebook, error = read(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as ipython:
        try:
            if not error:
                await _run_cells(notebook, path.parent, os.environ | environment | {"IPYTHONDIR": ipython}, on_cell)
        except CellExecutionError as failure:
            error = f"{failure.ename}: {failure.evalue}"
        except _Stopped as reason:
            error = str(reason)
    return Execution(path, notebook, time.perf_counter() - started, error)


def read(path: Path) -> tuple[nbformat.NotebookNode, str]:
    """The notebook and "", or an empty one and why it cannot be read."""
    try:
        return nbformat.read(path, as_version=4), ""
    except Exception as error:  # nbformat raises nearly anything for a file that is not what it expects
        return nbformat.v4.new_notebook(), f"not a readable notebook: {error}"


def cell_seconds(environment: Mapping[str, str]) -> int:
    """The time limit of a cell.

    Raises:
        ValueError: WORKBOOK_CELL_SECONDS is not a whole number of seconds.
    """
    chosen = environment.get(LIMIT, "").strip()
    if chosen and not (chosen.isdecimal() and int(chosen) > 0):
        raise ValueError(f"{LIMIT} is {chosen!r}; it has to be a whole number of seconds, 1 or more")
    return int(chosen) if chosen else SECONDS.get(environment.get("WORKBOOK_EDITION", ""), DAY)


async def _run_cells(
    notebook: nbformat.NotebookNode, folder: Path, environment: dict[str, str], on_cell: Callable[[], object]
) -> None:
    """Start a kernel, run the cells in it, and stop it whatever happens.

    nbclient's own `async_execute` takes the interrupt signal for itself, and so would stop one kernel of several.
    """
    client = NotebookClient(
        notebook,
        timeout=cell_seconds(environment),
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],  # no advice about transports in the middle of the progress bar
        resources={"metadata": {"path": str(folder)}},
        on_cell_executed=lambda **_: on_cell(),
    )
    client.log.setLevel(logging.CRITICAL)  # what it would log is what the table says
    client.reset_execution_trackers()
    try:
        await _start(client, environment)
        for index, cell in enumerate(notebook.cells):
            await _run_cell(client, cell, index)
        client.set_widgets_metadata()
    except (asyncio.CancelledError, _Stopped):
        if not asyncio.current_task().cancelling():
            raise
        if client.km and client.km.has_kernel:
            await client.km.signal_kernel(signal.SIGTERM)  # _stop would interrupt the cell, which prints a traceback
        raise asyncio.CancelledError from None  # nbclient takes a cancelled run for a dead kernel
    finally:
        await _stop(client)


async def _start(client: NotebookClient, environment: dict[str, str]) -> None:
    try:
        client.create_kernel_manager()
        await client.async_start_new_kernel(env=environment)
        await client.async_start_new_kernel_client()
    except Exception as error:  # no such kernel, no program, no memory, no folder, ...
        raise _Stopped(f"the kernel did not start: {error}") from error


async def _run_cell(client: NotebookClient, cell: nbformat.NotebookNode, index: int) -> None:
    """Run one cell; what is not its own error is told with its number."""
    number = client.code_cells_executed + 1
    try:
        await client.async_execute_cell(cell, index, execution_count=number)
    except CellTimeoutError:
        raise _Stopped(f"cell {number} ran longer than {client.timeout} s; {LIMIT} sets another limit") from None
    except DeadKernelError:
        raise _Stopped(f"the kernel died in cell {number}: it ran out of memory, or somebody ended it") from None


async def _stop(client: NotebookClient) -> None:
    """Ask the kernel to shut down (so that joblib removes its shared files), and end it if it does not answer."""
    if client.kc:
        client.kc.stop_channels()
    if client.km and client.km.has_kernel and await client.km.is_alive():
        await client.km.shutdown_kernel()
    elif client.km:
        await client.km.cleanup_resources()
