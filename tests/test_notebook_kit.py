"""The set-up of a notebook: seeds, style, threads, source on the page, the edition line, progress."""

import ast
import os
import random
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from threadpoolctl import threadpool_info, threadpool_limits

from common import notebook
from common.classifiers.knn import KNearestNeighbor, k_smallest, knn_get_best_k
from common.data import store
from tests.notebook_rules import SETUP

ROOT = notebook.ROOT


@pytest.fixture(autouse=True)
def as_before():
    """What setup() changes for the whole process is put back."""
    states = random.getstate(), np.random.get_state(), np.get_printoptions(), os.environ.get("OMP_NUM_THREADS")
    with plt.rc_context(), threadpool_limits():
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    np.set_printoptions(**states[2])
    os.environ.update({} if states[3] is None else {"OMP_NUM_THREADS": states[3]})


# Set-up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7])
def test_setup_seeds_both_generators(seed):
    notebook.setup(seed)
    drawn = random.random(), np.random.rand()
    assert drawn == (random.Random(seed).random(), np.random.RandomState(seed).rand())
    notebook.setup(seed)
    assert drawn == (random.random(), np.random.rand())


def test_setup_sets_style_and_printing():
    notebook.setup()
    assert {name: plt.rcParams[name] for name in ("figure.dpi", "image.interpolation")} == {
        "figure.dpi": 80,
        "image.interpolation": "nearest",
    }
    assert str(np.array([1 / 3, 1e-9])) == "[0.3333 0.    ]"


def test_setup_prints_nothing(capsys):
    notebook.setup()
    assert capsys.readouterr() == ("", "")


def test_threads_are_limited(monkeypatch):
    monkeypatch.setenv("WORKBOOK_THREADS", "1")
    notebook.setup()
    assert {pool["num_threads"] for pool in threadpool_info()} == {1}
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_threads_are_left_alone_without_a_wish(monkeypatch):
    monkeypatch.delenv("WORKBOOK_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before = [pool["num_threads"] for pool in threadpool_info()]
    notebook.setup()
    assert [pool["num_threads"] for pool in threadpool_info()] == before
    assert os.environ["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize("wanted", ["0", "-1", "two", "1.5", " "])
def test_bad_number_of_threads(monkeypatch, wanted):
    monkeypatch.setenv("WORKBOOK_THREADS", wanted)
    with pytest.raises(ValueError, match=f"WORKBOOK_THREADS='{wanted}': give a whole number"):
        notebook.setup()


def test_import_has_no_side_effects():
    """Neither files nor output, nor a seed, nor torch."""
    code = (
        "import sys, numpy as np; before = np.random.get_state()[1].copy(); import common.notebook, common.checks;"
        "assert 'torch' not in sys.modules; assert (np.random.get_state()[1] == before).all()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Edition -----------------------------------------------------------------------------------------------------


def test_edition_prints_one_line_and_returns_the_key(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    monkeypatch.setenv("WORKBOOK_EDITION", "pocket")
    assert notebook.edition("cifar10") == "pocket"
    out = capsys.readouterr().out
    assert out == store.edition_line("cifar10") + "\n"
    assert out.count("\n") == 1
    assert "make data" in out
    assert not list(tmp_path.iterdir()), "asking for the edition must not write data"


def test_full_edition_without_files_is_no_silent_fallback(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    monkeypatch.setenv("WORKBOOK_EDITION", "full")
    with pytest.raises(FileNotFoundError, match="make data"):
        notebook.edition("cifar10")


def test_unknown_edition_and_data_set(monkeypatch):
    with pytest.raises(ValueError, match="cifar11"):
        notebook.edition("cifar11")
    monkeypatch.setenv("WORKBOOK_EDITION", "pokcet")
    with pytest.raises(ValueError, match="pokcet"):
        notebook.edition("cifar10")


# Progress ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "silent"), [("1", True), ("yes", True), ("0", False), ("", False), (None, False)])
def test_progress_is_silent_where_nobody_watches(monkeypatch, capsys, value, silent):
    monkeypatch.delenv("WORKBOOK_QUIET", raising=False)
    if value is not None:
        monkeypatch.setenv("WORKBOOK_QUIET", value)
    assert notebook.quiet() is silent
    assert list(notebook.progress(range(3), desc="folds")) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert ("folds" not in err) is silent


BARS = """
from common.progress import progress
for _ in progress(range(3)):
    pass
with progress(total=2) as bar:
    bar.write("half way")
    bar.set_postfix(val="0.5")
    bar.update(2)
try:
    for _ in progress(range(3)):
        raise ValueError
except ValueError:
    print("stopped")
"""


def test_a_finished_bar_leaves_no_widget_in_the_notebook(monkeypatch):
    monkeypatch.setenv("WORKBOOK_QUIET", "0")
    made = new_notebook(cells=[new_code_cell(BARS)])
    NotebookClient(made, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = made.cells[0].outputs
    shown = [output["data"] for output in outputs if output.output_type == "display_data"]
    assert shown == [{"text/plain": ""}] * 3, "three bars, each emptied when it closed"
    assert [output["text"] for output in outputs if output.get("name") == "stdout"] == ["half way\n", "stopped\n"]


# Source on the page ------------------------------------------------------------------------------------------


def shown(monkeypatch, *things):
    pages = []
    monkeypatch.setattr("IPython.display.display", lambda page: pages.append(page.data))
    notebook.show_source(*things)
    return pages


def test_show_source_shows_path_and_code(monkeypatch):
    (page,) = shown(monkeypatch, k_smallest)
    path, fence, *code, end = page.splitlines()
    assert (path, fence, end) == ("`common/classifiers/knn.py`", "```python", "```")
    assert code[0].startswith("def k_smallest(")
    assert code[-1].strip() == "return smallest"
    assert not any("SOLUTION" in line for line in code)


def test_show_source_of_methods_and_several_things(monkeypatch):
    pages = shown(monkeypatch, KNearestNeighbor.vote, KNearestNeighbor, knn_get_best_k)
    assert len(pages) == 3
    assert pages[0].splitlines()[2].startswith("def vote(")  # a method loses its indentation
    for page in pages:
        source = page.split("```python\n")[1].removesuffix("\n```")
        ast.parse(source)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
                assert "\n" not in ast.get_docstring(node)


# The set-up cell -----------------------------------------------------------------------------------------------


def set_up_in(folder, **names):
    """The set-up cell run in a folder, with `common` of this repository installed; what it prints or says."""
    program = f"globals().update({names!r})\n{SETUP}\nprint(notebook.__file__)"
    command = [sys.executable, "-c", program]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def other_tree(tmp_path):
    """A workbook with a `common` of its own, as the blank edition has."""
    common = tmp_path / "tree" / "common"
    common.mkdir(parents=True)
    (common / "__init__.py").touch()
    (common / "notebook.py").write_text("def setup():\n    pass\n")
    (tmp_path / "tree" / "assignment1").mkdir()
    return tmp_path / "tree"


def test_the_tree_around_the_notebook_is_imported(other_tree):
    done = set_up_in(other_tree / "assignment1")
    assert done.stdout.strip() == str(other_tree / "common" / "notebook.py"), done.stderr


def test_an_editor_may_say_where_the_notebook_lies(other_tree, tmp_path):
    """VS Code starts the kernel in the folder of its workspace."""
    done = set_up_in(tmp_path, __vsc_ipynb_file__=str(other_tree / "assignment1" / "knn.ipynb"))
    assert done.stdout.strip() == str(other_tree / "common" / "notebook.py"), done.stderr


def test_outside_a_tree_nothing_else_is_imported(tmp_path):
    """Not the workbook that happens to be installed, which has the solutions."""
    done = set_up_in(tmp_path)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(f"No workbook around {tmp_path}: open the notebook inside its folder")
