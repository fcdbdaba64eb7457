"""The commands behind make: what they say, what they write, and what they leave alone."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import bench, execute, install, outputs, preflight, run
from tools.outputs import ENVIRONMENT

FINE = [
    new_markdown_cell("# Tiny\n\nA notebook.", metadata={"collapsed": True}),
    new_code_cell("import sys\nfrom common.checks import check", metadata={"ExecuteTime": {"start": "now"}}),
    new_code_cell('check("one is one", 1, 1)\nprint("nothing to see", file=sys.stderr)'),
    new_code_cell('import os\n[os.environ.get("WORKBOOK_EDITION"), os.getcwd().rsplit("/")[-1]]'),
    new_code_cell(
        "import matplotlib.pyplot as plt\nfrom common import notebook\nnotebook.setup()\n"
        "_ = plt.plot([1, 3, 2])\nplt.show()",
        metadata={"tags": ["nbval-ignore-output", "a"], "scrolled": False},
    ),
]
WIDGETS = {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2, "version_minor": 0}}
FAILS = [
    new_markdown_cell("# Broken <b>"),
    new_code_cell("1 + 1"),
    new_code_cell('raise ValueError("no <good>\\nat all")'),
    new_code_cell("2 + 2"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A repository with one notebook that runs and one that does not."""
    root = tmp_path_factory.mktemp("workbook")
    (root / "assignment1").mkdir()
    for name, cells in {"tiny": FINE, "broken": FAILS}.items():
        nb = new_notebook(
            cells=cells, metadata={"widgets": WIDGETS, "language_info": {"name": "python", "version": "9.9"}}
        )
        nbformat.write(nb, root / "assignment1" / f"{name}.ipynb")
    return root


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The kernel runs in the fixture's folder; common is found as an installed package would be."""
    monkeypatch.setenv("PYTHONPATH", str(execute.ROOT))


# Preflight ---------------------------------------------------------------------------------------------------


def everything(_):
    return True


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 9), (3, 13, 1), (3, 14, 2)])
def test_supported_pythons_pass(version):
    assert preflight.problem(version, everything, everything) is None


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 8, 1), (3, 10, 14), (3, 15, 0), (4, 0, 0)])
def test_other_pythons_are_named_with_the_remedy(version):
    sentence = preflight.problem(version, everything, everything)
    assert sentence.startswith(f"Python {version[0]}.{version[1]} is not supported")
    assert "3.11 to 3.14" in sentence
    assert "make PYTHON=" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_missing_venv_module(missing):
    sentence = preflight.problem((3, 12, 3), lambda name: name != missing, everything)
    assert "venv module" in sentence
    assert "apt install python3.12-venv" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("compiler", ["cc", "gcc", "clang", None])
def test_missing_compiler_is_only_noted(compiler):
    assert preflight.problem((3, 12, 3), everything, lambda name: None) is None
    sentence = preflight.note(lambda name: "/usr/bin/" + name if name == compiler else None)
    if compiler:
        assert sentence is None
    else:
        assert "no C compiler found" in sentence
        assert "build-essential" in sentence
        assert "\n" not in sentence


def test_preflight_is_syntax_of_any_python_3():
    """An old interpreter must reach the sentence: no f-strings, no annotations, no walrus."""
    import ast

    tree = ast.parse(Path(preflight.__file__).read_text(encoding="utf-8"), feature_version=(3, 4))
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.JoinedStr | ast.NamedExpr | ast.AnnAssign)]


# Installation ------------------------------------------------------------------------------------------------


@pytest.fixture
def pip(monkeypatch):
    """pip that only notes what it is asked, and fails where `fails` says so."""

    class Pip(list):
        fails = ""

        def __call__(self, *arguments):
            self.append(" ".join(arguments))
            return not (self.fails and self.fails in self[-1])

    pip = Pip()
    monkeypatch.setattr(install, "pip", pip)
    return pip


def test_default_installation(pip, capsys):
    install.main("default")
    assert pip == ["-r requirements.txt -c constraints.txt", "--no-build-isolation --no-deps --editable ."]
    assert "Ready after" in capsys.readouterr().out


def test_cpu_wheels_come_first(pip):
    install.main("cpu")
    assert "torch torchvision" in pip[0]
    assert install.CPU_WHEELS in pip[0]
    assert pip[1] == "-r requirements.txt -c constraints.txt"


def test_cpu_wheels_out_of_reach_are_a_message_and_the_default(pip, capsys):
    pip.fails = install.CPU_WHEELS
    install.main("cpu")
    assert "cannot be had" in capsys.readouterr().out
    assert len(pip) == 3


@pytest.mark.parametrize(
    ("torch", "fails", "says"),
    [
        ("gpu", "", "TORCH=gpu is not known"),
        ("default", "requirements.txt", "requirements could not be installed"),
        ("default", "--editable", "common/ could not be installed"),
    ],
)
def test_installation_that_fails_says_why(pip, torch, fails, says):
    pip.fails = fails
    with pytest.raises(SystemExit, match=says):
        install.main(torch)


# Finding -----------------------------------------------------------------------------------------------------


def test_notebooks_are_found_in_the_readme_s_order(tmp_path):
    for name in ("assignment2/a", "assignment1/a", "assignment1/z", "assignment1/m", "elsewhere/n"):
        path = tmp_path / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "assignment1/README.md").write_text("| [z](z.ipynb) |\n| [a](a.ipynb) |\n")
    found = [path.relative_to(tmp_path).as_posix() for path in execute.find(root=tmp_path)]
    assert found == ["assignment1/z.ipynb", "assignment1/a.ipynb", "assignment1/m.ipynb", "assignment2/a.ipynb"]
    assert execute.find(["assignment1/m.ipynb"], tmp_path) == [tmp_path / "assignment1/m.ipynb"]
    with pytest.raises(SystemExit, match=r"No such notebook: assignment1/x.ipynb. There are:\n  assignment1/a.ipynb"):
        execute.find(["assignment1/x.ipynb"], tmp_path)


# Execution and outputs ---------------------------------------------------------------------------------------


def test_outputs_twice_are_the_same_bytes(tree, monkeypatch, capsys):
    path = tree / "assignment1/tiny.ipynb"
    monkeypatch.setattr(outputs, "find", lambda names: execute.find(names, tree))
    monkeypatch.setattr(sys, "argv", ["outputs", "assignment1/tiny.ipynb"])
    outputs.main()
    first = path.read_bytes()
    assert b'"version"' not in first, "metadata of the machine that wrote it"
    outputs.main()
    assert path.read_bytes() == first
    assert list(path.parent.glob("*.part")) == []
    assert capsys.readouterr().out.count("assignment1/tiny.ipynb: ") == 2

    nb = nbformat.read(path, as_version=4)
    nbformat.validate(nb)
    assert [cell.id for cell in nb.cells] == [f"tiny-{i:03d}" for i in range(5)]
    assert [cell.get("execution_count") for cell in nb.cells] == [None, 1, 2, 3, 4]
    assert [dict(cell.metadata) for cell in nb.cells] == [{}, {}, {}, {}, {"tags": ["a", "nbval-ignore-output"]}]
    assert set(nb.metadata) == {"kernelspec", "language_info"}
    assert [o.text for o in nb.cells[2].outputs] == ["ok  one is one  (exactly equal)\n"]  # stderr is gone
    assert nb.cells[3].outputs[0].data["text/plain"] == "['pocket', 'assignment1']"
    (figure,) = nb.cells[4].outputs
    assert figure.metadata == {}
    assert "Matplotlib" not in figure.data["image/png"]


def test_prints_that_arrive_in_pieces_are_one_output():
    def cell(*texts):
        streams = [new_output("stream", name=name, text=text) for name, text in texts]
        return new_notebook(cells=[new_code_cell("x", outputs=streams)])

    split = outputs.normalise(cell(("stdout", "a\n"), ("stderr", "careful"), ("stdout", "b\n")), "n")
    assert split == outputs.normalise(cell(("stdout", "a\nb\n")), "n")


def test_a_failing_cell_leaves_the_file_untouched(tree, monkeypatch, capsys):
    path = tree / "assignment1/broken.ipynb"
    before = path.read_bytes(), path.stat().st_mtime_ns
    monkeypatch.setattr(outputs, "find", lambda names: [path])
    monkeypatch.setattr(sys, "argv", ["outputs"])
    with pytest.raises(SystemExit, match=r"broken.ipynb: not written, a cell failed\nValueError: no <good>"):
        outputs.main()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert list(path.parent.glob("*.part")) == []


def test_execution_counts_cells_and_checks(tree):
    ticks = []
    done = execute.execute(tree / "assignment1/tiny.ipynb", ENVIRONMENT, on_cell=lambda: ticks.append(1))
    assert (len(ticks), done.cells_run, len(done.code_cells), done.checks, done.error) == (4, 4, 4, 1, "")
    assert done.seconds > 0


def test_execution_puts_the_environment_back(tree, monkeypatch):
    monkeypatch.setenv("WORKBOOK_EDITION", "auto")
    monkeypatch.delenv("NEW_HERE", raising=False)
    before = dict(os.environ)
    done = execute.execute(tree / "assignment1/broken.ipynb", {"WORKBOOK_EDITION": "pocket", "NEW_HERE": "1"})
    assert dict(os.environ) == before
    assert done.error == "ValueError: no <good>\nat all"
    assert done.cells_run == 2  # the failing one ran, the next did not


def test_write_keeps_the_old_file_when_interrupted(tmp_path, monkeypatch):
    path = tmp_path / "a.ipynb"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        outputs.write(new_notebook(), path)
    assert path.read_text() == "old"


# Run ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tree):
    """`make run` on the tree: (exit status, the executions, the destination)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(execute.ROOT))
        patch.setattr(run, "ROOT", tree)
        paths = [tree / "assignment1/tiny.ipynb", tree / "assignment1/broken.ipynb"]
        dest = tree / "build" / "html"
        yield run.run(paths, "pocket", dest), dest


def test_table(ran, tree):
    lines = run.table(ran[0]).splitlines()
    assert lines[0].split() == ["notebook", "time", "checks", "cells"]
    tiny, broken, total = (line.split() for line in lines[1:])
    assert [tiny[0], *tiny[2:]] == ["assignment1/tiny.ipynb", "s", "1", "4/4"]
    assert [broken[0], *broken[2:5]] == ["assignment1/broken.ipynb", "s", "0", "2/3"]
    assert lines[2].endswith("FAILED  ValueError: no <good>")
    assert [total[0], *total[2:]] == ["all", "s", "1", "6/7"]


def test_pages_and_index(ran):
    _, dest = ran
    page = (dest / "assignment1/tiny.html").read_text(encoding="utf-8")
    assert "ok  one is one" in page
    assert "data:image/png;base64" in page
    assert "<title>tiny</title>" in page
    assert "ValueError" in (dest / "assignment1/broken.html").read_text(encoding="utf-8")
    index = (dest / "index.html").read_text(encoding="utf-8")
    assert 'href="assignment1/tiny.html">assignment1/tiny.ipynb: Tiny</a>' in index
    assert "<td>1</td><td>4/4</td><td>passed</td>" in index
    assert "Broken &lt;b&gt;" in index
    assert "ValueError: no &lt;good&gt;" in index
    assert "pocket edition" in index


def test_run_does_not_write_notebooks(ran, tree):
    nb = nbformat.read(tree / "assignment1/broken.ipynb", as_version=4)
    assert all(not cell.outputs for cell in nb.cells if cell.cell_type == "code")


@pytest.mark.parametrize(("error", "status"), [("", 0), ("ValueError: no", 1)])
def test_exit_status_of_run(monkeypatch, capsys, tmp_path, error, status):
    done = execute.Execution(run.ROOT / "assignment1/a.ipynb", new_notebook(), 1.0, error)
    monkeypatch.setattr(run, "find", lambda names: [done.path])
    monkeypatch.setattr(run, "run", lambda paths, edition, dest: [done])
    monkeypatch.setattr(sys, "argv", ["run", "--edition", "full", "--dest", str(tmp_path)])
    with pytest.raises(SystemExit) as leaving:
        run.main()
    assert int(leaving.value.code) == status
    assert "index.html" in capsys.readouterr().out


# Benchmarks --------------------------------------------------------------------------------------------------


def test_unknown_benchmark_lists_the_known(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench", "nothing"])
    with pytest.raises(SystemExit, match=r"No such benchmark; there are: .*knn"):
        bench.main()


def test_shared_parts_are_no_benchmarks():
    names = [path.stem for path in bench.ROOT.glob("benchmarks/*.py") if not path.name.startswith("_")]
    assert "knn" in names
    for name in names:
        text = (bench.ROOT / f"benchmarks/{name}.py").read_text(encoding="utf-8")
        assert 'if __name__ == "__main__":' in text, f"benchmarks/{name}.py does nothing when it is run"


def test_a_page_shows_a_film_that_nbconvert_would_drop():
    film = new_output("display_data", {"image/gif": "R0lG\nODlh", "text/plain": "<Image>"})
    notebook = new_notebook(cells=[new_code_cell(outputs=[film]), new_markdown_cell()])
    shown = run.with_movies(notebook)
    assert 'src="data:image/gif;base64,R0lGODlh"' in shown.cells[0].outputs[0].data["text/html"]
    assert "text/html" not in film.data


def test_a_time_is_kept_until_the_code_changes():
    def page(seconds, code="work()"):
        print_ = nbformat.v4.new_output("stream", text=f"{seconds} s\n")
        timed = new_code_cell(code, outputs=[print_], metadata={"tags": ["nbval-ignore-output"]})
        return new_notebook(cells=[new_markdown_cell("text"), timed])

    assert outputs.keep_times(page(2), page(1)).cells[1].outputs[0].text == "1 s\n"
    assert outputs.keep_times(page(2), page(1, "work(); rest()")).cells[1].outputs[0].text == "2 s\n"
    unrun = page(1)
    unrun.cells[1].outputs = []
    assert outputs.keep_times(page(2), unrun).cells[1].outputs[0].text == "2 s\n"
