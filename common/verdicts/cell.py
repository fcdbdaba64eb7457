"""When a failed check raises: in a notebook at the end of the cell, everywhere else at once.

All checks of a cell report before the cell fails. IPython announces the beginning and the end of each cell. Between the
two a failure is printed and kept; at the end the result of the cell becomes one CheckFailed, which is what the kernel
answers: JupyterLab does not run the next cells, nbclient and nbval see an error. (A statement appended to the cell
would hide the value of its last line, and would not run after an exception.)
"""

from __future__ import annotations

import sys
from typing import Any


class CheckFailed(AssertionError):
    """A claim of the notebook does not hold; the message says what was got and what was expected."""


def passed(claim: str, bound: str) -> None:
    """Print the line of a claim that holds."""
    cell = _running_cell()
    if cell:
        cell.checks += 1
    print(f"ok  {claim}{_threshold(bound)}")


def failed(claim: str, bound: str, summary: str, details: list[str]) -> None:
    """Print the explanation if a cell is running, which then fails at its end; raise it otherwise.

    Raises:
        CheckFailed: no cell is running.
    """
    text = "\n        ".join([f"{claim}{_threshold(bound)}: {summary}", *details])
    cell = _running_cell()
    if not cell:
        raise CheckFailed(text)
    cell.checks += 1
    cell.failed.append(claim)
    print(f"FAILED  {text}")


def _threshold(bound: str) -> str:
    return f"  ({bound})" if bound else ""


class Cell:
    """The checks of the cell that is running in one IPython shell."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.info: Any = None  # what IPython calls the running cell; None between cells
        self.checks, self.failed = 0, []

    def begin(self, info: Any) -> None:
        """A cell may run another one, as %%capture does: only the outer one, which is in the history, reports."""
        if self.info is None or info.store_history:
            self.info = info

    def end(self, result: Any) -> None:
        """Let the cell fail if a check in it did. A cell that stopped by itself has shown its own error already."""
        if self.info is None or getattr(result, "info", None) is not self.info:
            return
        message = f"{len(self.failed)} of {self.checks} checks failed: {_enumerate(self.failed)}"
        any_failed = bool(self.failed)
        self.info, self.checks, self.failed = None, 0, []
        if any_failed:
            stopped = result.error_before_exec or result.error_in_exec
            if stopped:
                message += f"\nThen the cell stopped with {type(stopped).__name__}: {stopped}"
            self._fail(result, CheckFailed(message))

    def _fail(self, result: Any, error: CheckFailed) -> None:
        """Show the error, and make it the result of the cell."""
        result.error_in_exec = error
        self.shell.last_execution_succeeded = False
        self.shell.showtraceback((CheckFailed, error, None))


def _enumerate(claims: list[str], most: int = 3) -> str:
    more = [f"and {len(claims) - most} more"] if len(claims) > most else []
    return "; ".join(claims[:most] + more)


def _shell() -> Any:
    """The running IPython; None elsewhere, where IPython need not even be installed."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def _running_cell() -> Cell | None:
    cell = getattr(_shell(), "workbook_checks", None)
    return cell if cell and cell.info is not None else None


def install() -> None:
    """Let the checks of each later cell report together; nothing outside IPython, or when it is done already.

    The state lies on the shell, so that it survives a reload of this module.
    """
    shell = _shell()
    if shell is None or getattr(shell, "workbook_checks", None):
        return
    shell.workbook_checks = Cell(shell)
    shell.events.register("pre_run_cell", shell.workbook_checks.begin)
    shell.events.register("post_run_cell", shell.workbook_checks.end)
