"""All checks of a cell report before it fails: in a real IPython shell, through nbclient, and not in plain Python."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from common import checks
from common.reload import reload_in_place
from common.verdicts import cell

ROOT = Path(checks.__file__).resolve().parents[1]
SETUP = f"""import sys
sys.path.insert(0, {str(ROOT)!r})
from common import checks
from common.checks import check
checks.install()"""
THREE = "check('one is one', 1, 1)\ncheck('one is two', 1, 2)\ncheck('two is three', 2, 3)\n6 * 7"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An IPython shell of this process with the hooks in place."""
    shell = InteractiveShell.instance()
    shell.run_cell(SETUP).raise_error()
    yield shell
    InteractiveShell.clear_instance()


def test_every_check_of_a_cell_reports(python, capsys):
    result = python.run_cell(THREE, store_history=True)
    printed = capsys.readouterr().out
    verdicts = [line for line in printed.splitlines() if line.startswith(("ok", "FAILED"))]
    assert verdicts == [
        "ok  one is one  (exactly equal)",
        "FAILED  one is two  (exactly equal): got 1, expected 2",
        "FAILED  two is three  (exactly equal): got 2, expected 3",
    ]
    assert result.result == 42, "the value of the last line is lost"
    assert isinstance(result.error_in_exec, checks.CheckFailed)
    assert str(result.error_in_exec) == "2 of 3 checks failed: one is two; two is three"
    assert not python.last_execution_succeeded
    assert "CheckFailed" in printed[printed.index("two is three") :]


def test_the_next_cell_starts_afresh(python):
    python.run_cell(THREE, store_history=True)
    assert python.run_cell("check('one is one', 1, 1)", store_history=True).success
    assert str(python.run_cell("check('b', 0, 1)", store_history=True).error_in_exec) == "1 of 1 checks failed: b"


def test_many_failures_are_counted(python):
    error = python.run_cell("for i in range(5): check(f'claim {i}', i, 9)", store_history=True).error_in_exec
    assert str(error) == "5 of 5 checks failed: claim 0; claim 1; claim 2; and 2 more"


def test_an_exception_after_a_failed_check_does_not_hide_it(python, capsys):
    result = python.run_cell("check('b', 0, 1)\n1 / 0", store_history=True)
    assert str(result.error_in_exec) == (
        "1 of 1 checks failed: b\nThen the cell stopped with ZeroDivisionError: division by zero"
    )
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert isinstance(python.run_cell("check('b', 1, 1)\n1 / 0").error_in_exec, ZeroDivisionError)
    assert isinstance(python.run_cell("check('b', 1 1)").error_before_exec, SyntaxError)


def test_a_cell_inside_a_cell_reports_with_it(python):
    source = "check('outer', 0, 1)\nget_ipython().run_cell('check(\"inner\", 0, 1)')\nx = 1"
    assert str(python.run_cell(source, store_history=True).error_in_exec) == "2 of 2 checks failed: outer; inner"


def test_a_cell_whose_end_was_not_announced_is_not_forgotten(python):
    python.events.trigger("pre_run_cell", type("info", (), {"store_history": True})())
    checks.check("lost", 0, 1)
    assert str(python.run_cell("x = 1", store_history=True).error_in_exec) == "1 of 1 checks failed: lost"


def test_installing_again_changes_nothing(python):
    before = {name: list(functions) for name, functions in python.events.callbacks.items()}
    python.run_cell("checks.install()").raise_error()
    reload_in_place(cell)
    cell.install()
    assert {name: list(functions) for name, functions in python.events.callbacks.items()} == before


def test_between_cells_a_failure_raises_at_once(python):
    with pytest.raises(AssertionError, match="one is two"):
        checks.check("one is two", 1, 2)


def test_in_plain_python_a_failure_raises_at_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SETUP + "\ncheck('one is two', 1, 2)\nprint('never')")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].endswith("CheckFailed: one is two  (exactly equal): got 1, expected 2")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (THREE, "2 of 3 checks failed: one is two; two is three"),
        ("%%time\ncheck('b', 0, 1)", "1 of 1 checks failed: b"),
        ("import asyncio\nawait asyncio.sleep(0)\ncheck('b', 0, 1)", "1 of 1 checks failed: b"),
        (
            "check('b', 0, 1)\n1 / 0",
            "1 of 1 checks failed: b\nThen the cell stopped with ZeroDivisionError: division by zero",
        ),
    ],
)
def test_a_notebook_stops_at_the_cell(source, message, tmp_path):
    notebook = new_notebook(cells=[new_code_cell(text) for text in (SETUP, source, "print('never')")])
    client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    with pytest.raises(CellExecutionError) as raised:
        client.execute()
    assert (raised.value.ename, raised.value.evalue) == ("CheckFailed", message)
    nbformat.validate(notebook)
    outputs = notebook.cells[1].outputs
    assert any("FAILED  " in output.get("text", "") for output in outputs)
    assert outputs[-1].ename == "CheckFailed"
    assert notebook.cells[2].outputs == []


def test_nbval_fails_the_cell(tmp_path):
    notebook = new_notebook(cells=[new_code_cell(source) for source in (SETUP, "check('one is two', 1, 2)")])
    nbformat.write(notebook, tmp_path / "a.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env", "a.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in done.stdout
    assert "1 of 1 checks failed: one is two" in done.stdout
