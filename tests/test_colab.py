"""The Colab files: self-contained, the same bytes every time, and working with nothing beside them."""

import ast
import base64
import io
import os
import re
import subprocess
import sys
import tarfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbclient
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import colab
from tools.needs import Imports, imported_modules, needs, requirements
from tools.notebooks import MANIFEST, ROOT, ToolError, notebook_paths, read_notebook
from tools.student import is_blank_edition

SETUP = "import sys\ntry:\n    from common import notebook\nexcept ModuleNotFoundError:\n    raise\nnotebook.setup()"
NOTEBOOK_PY = """
import os

READY = []


def setup():
    READY.append(os.environ["WORKBOOK_DATA"])
"""


def chosen(paths):
    """kNN, the template, always; the other notebooks, which take minutes, when WORKBOOK_TEST_NOTEBOOKS=all."""
    every = os.environ.get("WORKBOOK_TEST_NOTEBOOKS") == "all"
    skip = pytest.mark.skipif(not every, reason="runs with WORKBOOK_TEST_NOTEBOOKS=all")
    return [pytest.param(p, id=p.stem, marks=[] if p.stem == "knn" else [skip]) for p in paths]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")


def save(path, *cells):
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=list(cells)), path)


@pytest.fixture
def tree(tmp_path):
    """A workbook in small: one notebook, one package, things that must not travel."""
    root = tmp_path / "source"
    write(root / "common/__init__.py", "")
    write(root / "common/notebook.py", NOTEBOOK_PY)
    write(root / "common/double.py", "def double(x):\n    return 2 * x\n")
    write(root / "common/words.json", '["a"]')
    write(root / "common/__pycache__/double.cpython-311.pyc", "junk")
    write(root / "requirements.txt", "# ranges\nnumpy>=1.26  # arrays\npillow>=10\n")
    write(root / "README.md", "# read me\n")
    save(
        root / "assignment1/demo.ipynb",
        new_markdown_cell("# Demo\nSee [`double`](../common/double.py) and [NumPy](https://numpy.org)."),
        new_code_cell(SETUP, execution_count=1),
        new_code_cell(
            "from common.double import double\ndouble(21)",
            execution_count=2,
            outputs=[new_output("execute_result", data={"text/plain": "42"}, execution_count=2)],
        ),
    )
    return root


def build(root, tmp_path, name="colab"):
    colab.write_all(root, tmp_path / name)
    return tmp_path / name


def execute(path, cwd, tmp_path, **variables):
    """Run the notebook at `path` in `cwd`, in a kernel without the repository and the network; returns it executed."""
    guard = """
        import importlib.util, os, pytest_socket, sys
        pytest_socket.socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)
        root = os.environ["REPOSITORY"]
        sys.path[:] = [p for p in sys.path if os.path.realpath(p) != root]
        sys.meta_path[:] = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "")]
        assert importlib.util.find_spec("common") is None, "common can be imported"
    """
    write(tmp_path / "ipython/profile_default/startup/00-guard.py", guard)
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "WORKBOOK_DATA")}
    env |= {"IPYTHONDIR": str(tmp_path / "ipython"), "REPOSITORY": str(ROOT), "WORKBOOK_QUIET": "1", **variables}
    nb = nbformat.read(path, as_version=4)
    nb.cells.append(
        new_code_cell("import os, sys, common\nprint(os.path.realpath(common.__file__))\nprint(sys.path[0])")
    )
    client = nbclient.NotebookClient(nb, timeout=600, resources={"metadata": {"path": str(cwd)}})
    client.execute(env=env)
    return nb


def printed(nb):
    return nb.cells[-1].outputs[0].text.splitlines()


def set_up_script(path, tmp_path, name="setup.py"):
    """The set-up cell as a program of its own."""
    nb = read_notebook(path)
    script = tmp_path / name
    script.write_text(nb.cells[1].source + "\nprint(code)\nprint(notebook.READY[0])\n", encoding="utf-8")
    return script


def run(script, cwd, **variables):
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "WORKBOOK_DATA")} | variables
    command = [sys.executable, "-P", str(script)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def answers(result):
    """What the script prints after the lines of the set-up."""
    return [line for line in result.stdout.splitlines() if line != "Vision Workbook" and not line.startswith("  ")]


def archive_of(path):
    source = read_notebook(path).cells[1].source
    data = base64.b64decode(re.search(r'ARCHIVE = """(.*?)"""', source, re.DOTALL)[1])
    return tarfile.open(fileobj=io.BytesIO(data), mode="r:xz")


# --- the file ---------------------------------------------------------------------------------------------------


def test_only_what_is_needed_travels(tree):
    assert colab.code_files(tree) == [
        "common/__init__.py", "common/double.py", "common/notebook.py", "common/words.json",
    ]  # fmt: skip


def test_the_same_bytes_every_time(tree, tmp_path):
    first = build(tree, tmp_path, "one") / "assignment1/demo.ipynb"
    os.utime(tree / "common/double.py", (1, 1))
    second = build(tree, tmp_path, "two") / "assignment1/demo.ipynb"
    assert first.read_bytes() == second.read_bytes()


def test_the_archive_holds_the_sources(tree, tmp_path):
    path = build(tree, tmp_path) / "assignment1/demo.ipynb"
    with archive_of(path) as tar:
        assert tar.extractfile("common/double.py").read() == (tree / "common/double.py").read_bytes()
        assert {(m.mtime, m.uid, m.mode) for m in tar} == {(0, 0, 0o644)}
    assert max(map(len, read_notebook(path).cells[1].source.splitlines())) <= 130


def test_recorded_results_travel_with_the_pictures_of_this_notebook_alone(tree, tmp_path):
    without = archive_of(build(tree, tmp_path, "without") / "assignment1/demo.ipynb").getnames()
    (tree / "assignment1/other.ipynb").write_bytes((tree / "assignment1/demo.ipynb").read_bytes())
    write(tree / "results/full.json", "{}")
    for name in ("assignment1/demo/a.png", "assignment1/other/b.png", "assignment1/demo2/c.png", "notes.txt"):
        write(tree / "results" / name, name)
    folder = build(tree, tmp_path) / "assignment1"
    shared = {*without, "results/full.json"}
    assert set(archive_of(folder / "demo.ipynb").getnames()) == shared | {"results/assignment1/demo/a.png"}
    assert set(archive_of(folder / "other.ipynb").getnames()) == shared | {"results/assignment1/other/b.png"}
    code = Path(answers(run(set_up_script(folder / "demo.ipynb", tmp_path), tmp_path))[0])
    assert (code / "results/assignment1/demo/a.png").read_text() == "assignment1/demo/a.png"


def test_a_valid_clean_colab_notebook(tree, tmp_path):
    nb = nbformat.read(build(tree, tmp_path) / "assignment1/demo.ipynb", as_version=4)
    nbformat.validate(nb)
    assert [cell.id for cell in nb.cells] == ["cell-0", "cell-1", "cell-2"]
    assert all(not c.outputs and c.execution_count is None for c in nb.cells if c.cell_type == "code")
    assert nb.cells[1].source.startswith("# @title Set-up")
    assert nb.cells[1].metadata == {"cellView": "form", "jupyter": {"source_hidden": True}}
    assert nb.metadata.colab == {"name": "demo.ipynb", "provenance": []}
    assert nb.metadata.kernelspec.name == "python3"
    assert not re.search(r"github|drive\.mount|/work", nb.cells[1].source)


def test_a_set_up_cell_has_to_be_there(tree, tmp_path):
    save(tree / "assignment1/demo.ipynb", new_code_cell("1 + 1"))
    with pytest.raises(ToolError, match=r"demo\.ipynb: 0 cells call notebook\.setup\(\)"):
        build(tree, tmp_path)
    assert not (tmp_path / "colab").exists()


def test_the_command_states_sizes(tree, tmp_path, capsys):
    assert colab.main(["--source", str(tree), "--destination", str(tmp_path / "out")]) == 0
    assert re.search(r"assignment1/demo\.ipynb  \d+ kB", capsys.readouterr().out)
    assert colab.main(["--source", str(tmp_path / "out"), "--destination", str(tmp_path / "out2")]) == 1
    assert "no common/notebook.py" in capsys.readouterr().err


# --- links ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[a](../common/a.py)", "a"),
        ("[`a.py`](../common/a.py) end", "`a.py` end"),
        ('[next](demo.ipynb "title")', "next"),
        ("[here](#section)", "[here](#section)"),
        ("[web](https://example.org/a.py)", "[web](https://example.org/a.py)"),
        ("[mail](mailto:a@b.c)", "[mail](mailto:a@b.c)"),
        ("$f[i](x)$", "$f[i](x)$"),
        ("```python\n[a](../common/a.py)\n```", "```python\n[a](../common/a.py)\n```"),
        ("`[a](../common/a.py)`", "`[a](../common/a.py)`"),
        ('<a href="../common/a.py">a</a>', '<a href="#">a</a>'),
        ("![dot](dot.png)", "![dot](data:image/png;base64,AAEC)"),
        ('<img src="dot.png" width="9">', '<img src="data:image/png;base64,AAEC" width="9">'),
    ],
)
def test_links(tmp_path, before, after):
    (tmp_path / "dot.png").write_bytes(b"\x00\x01\x02")
    (tmp_path / "demo.ipynb").touch()
    assert colab.plain_links(before, tmp_path) == after


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(ToolError, match=r"gone\.png"):
        colab.plain_links("![x](./gone.png)", tmp_path)


# --- which packages ---------------------------------------------------------------------------------------------


def test_needs_are_found_through_common(tree):
    write(
        tree / "common/double.py", "import numpy as np\n\n\ndef f():\n    from PIL import Image\n    return Image, np\n"
    )
    write(tree / "common/unused.py", "import torch\n")
    path = tree / "assignment1/demo.ipynb"
    assert needs(read_notebook(path), tree, path) == {"PIL": ["pillow>=10"], "numpy": ["numpy>=1.26"]}


def test_markers_keep_all_lines(tree):
    write(tree / "requirements.txt", "numpy>=2; python_version >= '3.13'\nnumpy>=1.26; python_version < '3.13'\n")
    assert len(requirements(tree)["numpy"]) == 2


def test_an_import_without_requirement_is_an_error(tree, tmp_path):
    write(tree / "common/double.py", "import torch\n")
    with pytest.raises(ToolError, match=r"demo\.ipynb: no line of requirements\.txt brings the imported torch"):
        build(tree, tmp_path)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import a.b as c", {"a.b"}),
        ("from a import b", {"a", "a.b"}),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import b", {"b"}),
        ("if x:\n    import a", {"a"}),
        ("def f():\n    import a", {"a"}),
        ("resources.files('pack') / 'x'", {"pack"}),
        ("Entry(draw='common.data.late', text='common. Rare')", {"common.data.late"}),
    ],
)
def test_what_counts_as_imported(source, names):
    assert Imports(ast.parse(source), "x.py").names == names


def test_a_relative_import_is_refused():
    with pytest.raises(ToolError, match=r"x\.py:2: a relative import"):
        Imports(ast.parse("import a\nfrom . import b"), "x.py")


def test_a_module_that_only_a_string_names_counts(tree):
    write(tree / "common/registry.py", 'DRAWN_BY = "common.late"\n')
    write(tree / "common/late.py", "import scipy\n")
    write(tree / "common/double.py", "from common import registry\n")
    path = tree / "assignment1/demo.ipynb"
    assert "scipy" in imported_modules(read_notebook(path), tree, path)


# --- running it -------------------------------------------------------------------------------------------------


def test_runs_alone_in_an_empty_folder(tree, tmp_path):
    path = build(tree, tmp_path) / "assignment1/demo.ipynb"
    empty = tmp_path / "empty"
    empty.mkdir()
    nb = execute(path, empty, tmp_path)
    assert nb.cells[2].outputs[0].data["text/plain"] == "42"
    where = Path(printed(nb)[0])
    assert where.is_relative_to(empty.resolve() / "vision_workbook")
    assert [p.name for p in empty.iterdir()] == ["vision_workbook"]


def test_unpacked_once_and_kept(tree, tmp_path):
    script = set_up_script(build(tree, tmp_path) / "assignment1/demo.ipynb", tmp_path)
    first = run(script, tmp_path)
    code, data = map(Path, answers(first))
    assert data == code.parent / "datasets"
    write(code / "common/double.py", "edited = 1\n")
    assert answers(run(script, tmp_path)) == answers(first)
    assert (code / "common/double.py").read_text() == "edited = 1\n"
    assert [p.name for p in code.parent.iterdir()] == [code.name]  # no temporary folder is left


def test_several_at_once(tree, tmp_path):
    script = set_up_script(build(tree, tmp_path) / "assignment1/demo.ipynb", tmp_path)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: run(script, tmp_path), range(4)))
    assert [r.returncode for r in results] == [0] * 4, results
    assert len({tuple(answers(r)) for r in results}) == 1
    assert len(list((tmp_path / "vision_workbook").iterdir())) == 1


def test_a_broken_folder_is_replaced(tree, tmp_path):
    script = set_up_script(build(tree, tmp_path) / "assignment1/demo.ipynb", tmp_path)
    code = Path(answers(run(script, tmp_path))[0])
    (code / "common/notebook.py").unlink()
    assert run(script, tmp_path).returncode == 0
    assert (code / "common/notebook.py").is_file()


def test_another_version_lies_beside(tree, tmp_path):
    old = set_up_script(build(tree, tmp_path) / "assignment1/demo.ipynb", tmp_path, "old.py")
    write(tree / "common/double.py", "def double(x):\n    return x + x\n")
    new = set_up_script(build(tree, tmp_path, "again") / "assignment1/demo.ipynb", tmp_path, "new.py")
    codes = [answers(run(script, tmp_path))[0] for script in (old, new)]
    assert len(set(codes)) == 2


def test_the_users_data_folder_is_respected(tree, tmp_path):
    script = set_up_script(build(tree, tmp_path) / "assignment1/demo.ipynb", tmp_path)
    assert answers(run(script, tmp_path, WORKBOOK_DATA="/data"))[1] == "/data"


def test_damage_is_noticed(tree, tmp_path):
    script = set_up_script(build(tree, tmp_path) / "assignment1/demo.ipynb", tmp_path)
    text = script.read_text()
    at = text.index('ARCHIVE = """') + 60
    script.write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
    result = run(script, tmp_path)
    assert result.returncode == 1
    assert "damaged (wrong checksum)" in result.stderr
    assert list((tmp_path / "vision_workbook").iterdir()) == []


def test_a_folder_that_cannot_be_written(tree, tmp_path):
    script = set_up_script(build(tree, tmp_path) / "assignment1/demo.ipynb", tmp_path)
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "vision_workbook").write_text("a file in the way stops even the superuser")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    result = run(script, closed, TMPDIR=str(temporary))
    assert Path(answers(result)[0]).is_relative_to(temporary)


def test_missing_packages_are_asked_of_pip(tree, tmp_path):
    script = set_up_script(build(tree, tmp_path) / "assignment1/demo.ipynb", tmp_path)
    script.write_text(script.read_text().replace("NEEDS = {}", "NEEDS = {'no_such_module': ['./no-such-package']}"))
    result = run(script, tmp_path)
    assert result.returncode == 1
    assert "Could not install ./no-such-package; pip says:" in result.stderr


PYX = "def triple(double x):\n    return 3 * x\n"
SETUP_PY = """
from Cython.Build import cythonize
from setuptools import setup

setup(ext_modules=cythonize("common/fast.pyx"))
"""


@pytest.mark.parametrize("name", ["Untitled.ipynb", "Untitled3.ipynb"])
@pytest.mark.parametrize("content", ["", "{}", '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'])
def test_a_scratch_notebook_is_left_out_and_named(tree, tmp_path, capsys, name, content):
    (tree / "assignment1" / name).write_text(content)
    assert colab.main(["--source", str(tree), "--destination", str(tmp_path / "colab")]) == 0
    assert f"left out, a notebook of your own: {tree / 'assignment1' / name}" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "colab" / "assignment1").iterdir()] == ["demo.ipynb"]


def test_an_archive_that_is_cut_is_one_sentence(tree, tmp_path):
    script = set_up_script(build(tree, tmp_path) / "assignment1/demo.ipynb", tmp_path)
    head, archive, tail = re.split(r'(ARCHIVE = """\n.*?""")', script.read_text(), maxsplit=1, flags=re.DOTALL)
    for place in (-5, -6, -7, -8):  # of whatever length
        script.write_text(head + archive[:place] + '"""' + tail)
        (tmp_path / f"empty{place}").mkdir()
        result = run(script, tmp_path / f"empty{place}")
        assert "The code inside this notebook is damaged (wrong checksum): get the file again." in result.stderr
        assert "binascii" not in result.stderr


def test_where_nothing_can_be_written_the_code_is_unpacked_once(tree, tmp_path):
    script = set_up_script(build(tree, tmp_path) / "assignment1/demo.ipynb", tmp_path)
    for name in ("cwd", "temporary"):
        (tmp_path / name).mkdir()
    (tmp_path / "cwd/vision_workbook").write_text("in the way, as a read-only folder would be")
    first, second = (answers(run(script, tmp_path / "cwd", TMPDIR=str(tmp_path / "temporary"))) for _ in range(2))
    assert first == second and len(list((tmp_path / "temporary").iterdir())) == 1
    (folder,) = (tmp_path / "temporary").iterdir()
    folder.chmod(0o777)  # anybody could have put code there
    third = answers(run(script, tmp_path / "cwd", TMPDIR=str(tmp_path / "temporary")))
    assert third[0] != first[0] and len(list((tmp_path / "temporary").iterdir())) == 2


def test_what_a_killed_set_up_has_left_is_swept(tree, tmp_path):
    script = set_up_script(build(tree, tmp_path) / "assignment1/demo.ipynb", tmp_path)
    run(script, tmp_path)
    for name, age in (("dead", 3600), ("alive", 0)):
        (tmp_path / f"vision_workbook/.new-{name}").mkdir()
        os.utime(tmp_path / f"vision_workbook/.new-{name}", (time.time() - age,) * 2)
    run(script, tmp_path)
    assert [p.name for p in (tmp_path / "vision_workbook").glob(".new-*")] == [".new-alive"]


@pytest.mark.parametrize("broken", [False, True])
def test_an_extension_is_compiled_or_done_without(tree, tmp_path, broken):
    pytest.importorskip("Cython")
    write(tree / "common/fast.pyx", PYX + "def (" * broken)
    write(tree / "pyproject.toml", "[project]\nname = 'not for this setuptools'")
    write(tree / "setup.py", SETUP_PY)
    script = set_up_script(build(tree, tmp_path) / "assignment1/demo.ipynb", tmp_path)
    assert "common/fast.c" not in colab.code_files(tree)
    assert "pyproject.toml" not in colab.code_files(tree)
    first = run(script, tmp_path)
    if broken:
        assert "fast layers: NumPy, which is slower" in first.stdout and "build.log says why" in first.stdout
        again = run(script, tmp_path)
        assert "compiling the fast layers ..." in again.stdout  # a failed build is tried again
        return
    if "fast layers: NumPy" in first.stdout:
        pytest.skip("no C compiler here")
    assert "fast layers: compiled in" in first.stdout
    script.write_text(script.read_text() + "from common.fast import triple\nprint(triple(2.0))\n")
    second = run(script, tmp_path)
    assert "fast layers: compiled\n" in second.stdout and second.stdout.endswith("6.0\n")


def test_only_a_notebook_that_uses_the_fast_layers_compiles_them():
    builds = {path.stem: bool(colab.build_needs(read_notebook(path), ROOT, path)) for path in notebook_paths(ROOT)}
    assert builds["convolutional_networks"] and builds["fully_connected_nets"]
    assert not builds["tensor_basics"] and not builds["knn"] and not builds["svm"]


def test_the_set_up_says_what_it_does(tree, tmp_path):
    out = run(set_up_script(build(tree, tmp_path) / "assignment1/demo.ipynb", tmp_path), tmp_path).stdout
    assert out.startswith("Vision Workbook\n  packages: all there\n  code: ")
    assert "fast layers" not in out


def test_real_data_are_asked_for(tree, tmp_path, monkeypatch):
    """After a download the long budgets do not start by themselves: the set-up chooses the pocket edition."""
    script = set_up_script(build(tree, tmp_path) / "assignment1/demo.ipynb", tmp_path)
    script.write_text(
        script.read_text() + "print(os.environ['WORKBOOK_EDITION'], os.environ['WORKBOOK_SINGLE_FILE'])\n"
    )
    assert run(script, tmp_path, WORKBOOK_EDITION="full").stdout.endswith("full 1\n")
    environment = {name: value for name, value in os.environ.items() if name != "WORKBOOK_EDITION"}
    done = subprocess.run(
        [sys.executable, "-P", str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.endswith("pocket 1\n")


def test_every_notebook_has_a_colab_file(tmp_path):
    sizes = colab.write_all(ROOT, tmp_path / "colab")
    assert list(sizes) == [p.relative_to(ROOT).as_posix() for p in notebook_paths(ROOT)]
    assert max(sizes.values()) < 2**20


# --- the real notebooks -----------------------------------------------------------------------------------------


@pytest.mark.skipif(is_blank_edition(ROOT), reason="the notebooks of the blank edition stop at the first blank")
@pytest.mark.parametrize("path", chosen(notebook_paths(ROOT)))
def test_every_notebook_runs_alone(path, tmp_path):
    from common.data import store

    target = build(ROOT, tmp_path) / path.relative_to(ROOT)
    empty = tmp_path / "empty"
    empty.mkdir()
    nb = execute(target, empty, tmp_path, WORKBOOK_DATA=str(store.data_root()), WORKBOOK_EDITION="pocket")
    assert Path(printed(nb)[0]).is_relative_to(empty.resolve())
    assert not (tmp_path / "colab" / MANIFEST).read_text().count(".pyc")
