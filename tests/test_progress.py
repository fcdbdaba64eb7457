"""make progress: what is written, what has passed, what is next; in the blank edition and in the solved one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_output

from common import todo
from tests.test_student import tree  # noqa: F401  (a fixture)
from tools import student
from tools.notebooks import MANIFEST, ROOT, notebook_text, read_notebook
from tools.progress import progress, table

pytestmark = pytest.mark.robustness


@pytest.fixture
def blank(tree, tmp_path):  # noqa: F811
    student.write_blank_edition(tree, tmp_path / "blank")
    return tmp_path / "blank"


def edit(path, change):
    nb = read_notebook(path)
    change(nb)
    path.write_text(notebook_text(nb), encoding="utf-8")


def test_names_shared_with_the_tools():
    assert todo.MANIFEST == MANIFEST
    assert todo.ANSWER == student.ANSWER


def test_the_solved_edition_is_done(tree):  # noqa: F811
    (row,) = progress(tree)
    assert (row.notebook, row.functions, row.written, row.answers, row.answered) == ("assignment1/model", 4, 4, 1, 1)
    assert row.next == ""


def test_nothing_is_done_at_first(blank):
    (row,) = progress(blank)
    assert (row.functions, row.written, row.answers, row.answered, row.passed) == (4, 0, 1, 0, 0)
    assert row.next == "Model.total in common/model.py, section 1"


def test_functions_are_counted_as_they_are_written(blank, tree):  # noqa: F811
    student.restore(blank, tree, ["Model.total"])
    (row,) = progress(blank)
    assert (row.written, row.next) == (1, "Model.root in common/model.py, section 2")
    student.restore(blank, tree, ["Model.root", "scale"])
    (row,) = progress(blank)
    assert (row.written, row.next) == (3, "power in assignment1/model.ipynb, section 3")
    student.restore(blank, tree)
    (row,) = progress(blank)
    assert (row.written, row.answered, row.next) == (4, 1, "")


def test_an_error_in_a_comment_does_not_wait(blank):
    path = blank / "common/model.py"
    path.write_text(path.read_text().replace("        raise NotImpl", "        return sum(values)  # raise NotImpl", 1))
    assert progress(blank)[0].written == 0  # still in the line, behind code: somebody may want it back
    path.write_text(path.read_text().replace("return sum(values)  # raise", "# raise"))
    assert progress(blank)[0].written == 1


def test_checks_are_those_of_the_saved_outputs(blank):
    def run(nb):
        code = next(cell for cell in nb.cells if cell.cell_type == "code")
        text = "ok  one  (exactly equal)\nFAILED  two: got 1\n        hint\nok  three\nnot ok  four\n"
        code.outputs = [new_output("stream", text=text)]

    edit(blank / "assignment1/model.ipynb", run)
    (row,) = progress(blank)
    assert (row.passed, row.failed) == (2, 1)
    assert "2 checks had passed, 1 FAILED." in row.line()
    assert "2, 1 FAILED  next: Model.total" in table([row])


def test_the_list_holds_no_solution(blank):
    manifest = json.loads((blank / MANIFEST).read_text())
    assert [b["name"] for b in manifest["blanks"]["assignment1/model"]] == [
        "Model.total", "Model.root", "scale", "power", "Yours",
    ]  # fmt: skip
    assert "result + value" not in (blank / MANIFEST).read_text()


def test_the_table_adds_up(blank):
    lines = table(progress(blank) * 2).splitlines()
    assert lines[0].split() == ["notebook", "functions", "answers", "checks"]
    assert lines[-1].split() == ["all", "0/8", "0/2", "0"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda root: (root / MANIFEST).unlink(),
        lambda root: (root / MANIFEST).write_text("{"),
        lambda root: (root / MANIFEST).write_text("[]"),
        lambda root: (root / "assignment1/model.ipynb").write_text("{"),
        lambda root: (root / "assignment1/model.ipynb").unlink(),
        lambda root: (root / "common/model.py").unlink(),
    ],
)
def test_the_line_in_the_notebook_never_fails(blank, damage, monkeypatch, capsys):
    damage(blank)
    monkeypatch.setattr(todo, "ROOT", blank)
    todo.progress_line("model")
    assert capsys.readouterr().out.count("\n") == 1


def test_the_line_in_the_notebook(blank, monkeypatch, capsys):
    monkeypatch.setattr(todo, "ROOT", blank)
    todo.progress_line("model")
    assert capsys.readouterr().out == (
        "assignment1/model: 0 of 4 functions written; 0 of 1 questions answered; when last saved 0 checks had passed. "
        "Next: Model.total in common/model.py, section 1\n"
    )


def test_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "tools.progress"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[0].startswith("notebook")
    assert result.stdout.splitlines()[-1].startswith(("Every function is written.", "Next: "))


# --- build/student needs no environment of its own ------------------------------------------------------------------


@pytest.fixture
def nested(tmp_path):
    """A workbook with an environment and compiled layers, and its blank edition in build/student."""
    above, here = tmp_path / "book", tmp_path / "book/build/student"
    for folder in (above / ".venv/bin", above / "common/layers/fast", here / "common/layers/fast"):
        folder.mkdir(parents=True)
    (above / ".venv/.ready").touch()
    (above / "common/layers/fast/_pooling.so").write_text("compiled")
    (above / ".venv/bin/python").write_text('#!/bin/sh\necho "$0" "$@"\n')
    (above / ".venv/bin/python").chmod(0o755)
    (here / "Makefile").write_text((ROOT / "Makefile").read_text())
    (here / MANIFEST).write_text("{}")
    return here


def make(folder: Path, *arguments: str) -> str:
    """What make prints at a prompt; as a child of `make test` it would name the folders as well."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=clean, capture_output=True, text=True, check=True
    ).stdout


def test_make_uses_the_environment_above(nested):
    python = nested.parents[1].resolve() / ".venv/bin/python"
    assert make(nested, "progress") == f"{python} -m tools.progress\n"
    assert (nested / "common/layers/fast/_pooling.so").read_text() == "compiled"
    assert not (nested / ".venv").exists()


def test_without_compiled_layers_it_works_all_the_same(nested):
    (nested.parents[1] / "common/layers/fast/_pooling.so").unlink()
    assert "-m tools.progress" in make(nested, "progress")


def test_elsewhere_make_makes_its_own(nested, tmp_path):
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml", "setup.py"):
        (nested / name).touch()
    nested.rename(tmp_path / "mine")
    assert "-m venv .venv" in make(tmp_path / "mine", "-n", "progress")
