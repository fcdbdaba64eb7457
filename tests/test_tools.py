"""The commands behind make: what they say, what they write, and what they leave alone."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import bench, execute, install, notebooks, outputs, preflight, run
from tools import results as results_tool
from tools.execute import ENVIRONMENT

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
    new_markdown_cell("# Broken <b>\n\n## 1. Good"),
    new_code_cell("1 + 1"),
    new_markdown_cell("## 2. Bad"),
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


def notebook_of(path, *sources, title="# A notebook"):
    """Write a notebook with these code cells; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell(title), *map(new_code_cell, sources)]), path)
    return path


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The kernel runs in the fixture's folder; common is found as an installed package would be."""
    monkeypatch.setenv("PYTHONPATH", str(notebooks.ROOT))


# Preflight ---------------------------------------------------------------------------------------------------


def everything(_):
    return True


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 9), (3, 13, 1), (3, 14, 2)])
def test_supported_pythons_pass(version):
    assert preflight.problem(version, everything) is None


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 8, 1), (3, 10, 14), (3, 15, 0), (4, 0, 0)])
def test_other_pythons_are_named_with_the_remedy(version):
    sentence = preflight.problem(version, everything)
    assert sentence.startswith(f"Python {version[0]}.{version[1]} is not supported")
    assert "3.11 to 3.14" in sentence
    assert "make PYTHON=" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_missing_venv_module(missing):
    sentence = preflight.problem((3, 12, 3), lambda name: name != missing)
    assert "venv module" in sentence
    assert "apt install python3.12-venv" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("compiler", ["cc", "gcc", "clang", None])
def test_missing_compiler_is_only_noted(compiler):
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


FAKE_PIP = """
import os, sys
asked = " ".join(sys.argv[1:])
print("Looking in links: here")
print("WARNING: Location 'there' is ignored: it is neither a file nor a directory.", file=sys.stderr)
print("Collecting numpy>=1.26 (from -r requirements.txt (line 4))")
print("  Downloading https://example.org/simple/numpy-2.0-py3-none-any.whl (19 MB)")
print("Installing collected packages: a, b, c")
if os.environ["FAILS"] and os.environ["FAILS"] in asked:
    print("ERROR: no matching distribution", file=sys.stderr)
    print("line\\n" * 20, "WARNING: you should upgrade", sep="")
    sys.exit(1)
"""


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """A pip that says what the real one does; returns the environment's variables, of which FAILS names its failure."""
    (tmp_path / "pip.py").write_text(FAKE_PIP)
    monkeypatch.setattr(install, "PIP", [sys.executable, str(tmp_path / "pip.py")])
    monkeypatch.setattr(install, "LOG", tmp_path / "install.log")
    monkeypatch.setenv("FAILS", "")
    return monkeypatch


def asked():
    """What pip was asked for, from the log."""
    lines = install.LOG.read_text().splitlines()
    return [line.removeprefix("== pip install ") for line in lines if line.startswith("== pip install ")]


def test_default_installation(pip, capsys):
    install.main("default")
    assert asked() == ["-r requirements.txt -c constraints.txt", "--no-build-isolation --no-deps --editable ."]
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:5] == [
        "1 of 2, requirements: starting",
        "1 of 2, requirements: installing 3 packages",
        "2 of 2, common/: starting",
        "2 of 2, common/: installing 3 packages",
    ]
    assert lines[5].startswith("Ready after")
    assert install.LOG.read_text().count("WARNING: Location") == 2


def test_a_terminal_has_one_line_that_overwrites_itself(pip, capsys):
    pip.setattr(sys.stdout, "isatty", lambda: True)
    pip.setenv("COLUMNS", "70")
    install.main("default")
    shown = capsys.readouterr().out.rstrip("\n").split("\n")
    assert len(shown) == 2, "the line stays one line"
    steps = shown[1].split("\r")
    assert f"1 of 2, requirements: package 1 of about {install.pins()}, collecting numpy>=1.26"[:69] + "\033[K" in steps
    assert (
        f"1 of 2, requirements: package 1 of about {install.pins()}, downloading numpy-2.0 (19 MB)"[:69] + "\033[K"
        in steps
    )
    assert steps[-1].startswith("\033[KReady after")


def test_where_nobody_watches_a_line_comes_now_and_then(pip, capsys):
    pip.setattr(install, "SECONDS", 0)
    install.main("default")
    line = f"1 of 2, requirements: package 1 of about {install.pins()}, downloading numpy-2.0 (19 MB)\n"
    assert line in capsys.readouterr().out


def test_cpu_wheels_come_first(pip):
    install.main("cpu")
    assert "torch torchvision" in asked()[0]
    assert install.CPU_WHEELS in asked()[0]
    assert asked()[1] == "-r requirements.txt -c constraints.txt"


def test_cpu_wheels_out_of_reach_are_a_message_and_the_default(pip, capsys):
    pip.setenv("FAILS", install.CPU_WHEELS)
    install.main("cpu")
    shown = capsys.readouterr().out
    assert "cannot be had" in shown
    assert "no matching distribution" not in shown
    assert len(asked()) == 3


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        ("requirements.txt", "The requirements could not be installed"),
        ("--editable", "The package common/ could not be installed"),
    ],
)
def test_installation_that_fails_says_why(pip, fails, says):
    pip.setenv("FAILS", fails)
    with pytest.raises(SystemExit) as leaving:
        install.main("default")
    lines = str(leaving.value).splitlines()
    assert lines[0] == f"{says}:"
    assert lines[1] == "ERROR: no matching distribution"
    assert lines[2:17] == ["line"] * 15
    assert lines[17:] == [f"All that pip said: {install.LOG}"]


def test_an_unknown_kind_of_torch(pip):
    with pytest.raises(SystemExit, match="TORCH=gpu is not known"):
        install.main("gpu")


# Finding -----------------------------------------------------------------------------------------------------


def test_notebooks_are_found_in_the_readme_s_order(tmp_path):
    for name in ("assignment2/a", "assignment1/a", "assignment1/z", "assignment1/m", "elsewhere/n"):
        path = tmp_path / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "assignment1/README.md").write_text("m.ipynb is no row\n| [z](z.ipynb) |\n| [a](a.ipynb) |\n")
    found = [path.relative_to(tmp_path).as_posix() for path in notebooks.notebook_paths(tmp_path)]
    assert found == ["assignment1/z.ipynb", "assignment1/a.ipynb", "assignment1/m.ipynb", "assignment2/a.ipynb"]
    assert notebooks.find([], tmp_path) == notebooks.notebook_paths(tmp_path)
    assert notebooks.find(["assignment1/m.ipynb"], tmp_path) == [tmp_path / "assignment1/m.ipynb"]
    with pytest.raises(SystemExit, match=r"No such notebook: assignment1/x.ipynb. There are:\n  assignment1/z.ipynb"):
        notebooks.find(["assignment1/x.ipynb"], tmp_path)


# Execution and outputs ---------------------------------------------------------------------------------------


def test_outputs_twice_are_the_same_bytes(tree, monkeypatch, capsys):
    path = tree / "assignment1/tiny.ipynb"
    monkeypatch.setattr(outputs, "find", lambda names: notebooks.find(names, tree))
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


def test_execution_ends_at_the_first_error_and_leaves_the_environment_alone(tree):
    before = dict(os.environ)
    done = execute.execute(tree / "assignment1/broken.ipynb", {"WORKBOOK_EDITION": "full", "NEW_HERE": "1"})
    assert dict(os.environ) == before
    assert done.error == "ValueError: no <good>\nat all"
    assert done.cells_run == 2  # the failing one ran, the next did not


def test_a_kernel_that_dies_is_an_error_of_its_notebook(tmp_path):
    path = notebook_of(tmp_path / "dies.ipynb", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert execute.execute(path, {}).error.startswith("the kernel died")


SET_UP = "from common import notebook\nfrom common.checks import check\nnotebook.setup()"
CLAIMS = """
check("the shift is right", 1, 1)
check("votes are counted", [3, 4], [3, 5])
check("ties go to the smaller label", 2, 1)
check("the sum is ten", 9, 10)
"""


def test_a_failure_names_section_cell_and_claim(tmp_path):
    """For several failed checks the first, and how many more."""
    path = notebook_of(tmp_path / "n/a.ipynb", SET_UP, CLAIMS, "2", title="# A\n\n## 3. Votes")
    done = execute.execute(path, ENVIRONMENT)
    assert done.failure.startswith("section 3, cell 2: votes are counted")
    assert done.failure.endswith("(and 2 more)")
    assert "\n" not in done.failure
    assert done.failed_cell is done.code_cells[1]


def test_a_failure_above_the_first_section_or_without_a_cell(tree, tmp_path):
    one = execute.execute(notebook_of(tmp_path / "n/a.ipynb", 'raise KeyError("x")'), {})
    assert one.failure == "cell 1: KeyError: 'x'"
    assert execute.Execution(one.path, new_notebook(), 1.0, "refused:\ntoo large").failure == "refused:"
    assert execute.Execution(one.path, new_notebook(), 1.0).failure == ""


def test_threads_are_set_before_numpy_loads():
    """conftest.py takes the variables from a module that must not load NumPy."""
    code = "import sys, tools.execute; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=notebooks.ROOT, check=False).returncode == 0


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
        patch.setenv("PYTHONPATH", str(notebooks.ROOT))
        paths = [tree / "assignment1/tiny.ipynb", tree / "assignment1/broken.ipynb"]
        dest = tree / "build" / "html"
        yield run.run(paths, "pocket", dest, jobs=2), dest


def test_table(ran, tree):
    lines = run.table(ran[0], "pocket").splitlines()
    assert lines[0].split() == ["pocket", "edition", "time", "checks", "cells"]
    tiny, broken, total = (line.split() for line in lines[1:4])
    assert [tiny[0], *tiny[2:]] == ["assignment1/tiny.ipynb", "s", "1", "4/4"]
    assert [broken[0], *broken[2:]] == ["assignment1/broken.ipynb", "s", "0", "2/3", "FAILED"]
    assert [total[0], *total[2:]] == ["all", "s", "1", "6/7"]
    assert lines[4:] == ["FAILED  assignment1/broken: section 2, cell 2: ValueError: no <good>"]


def test_run_does_not_write_notebooks(ran, tree):
    nb = nbformat.read(tree / "assignment1/broken.ipynb", as_version=4)
    assert all(not cell.outputs for cell in nb.cells if cell.cell_type == "code")


@pytest.mark.parametrize(("error", "status"), [("", 0), ("ValueError: no", 1)])
def test_exit_status_of_run(monkeypatch, capsys, tmp_path, error, status):
    done = execute.Execution(run.ROOT / "assignment1/a.ipynb", new_notebook(), 1.0, error)
    monkeypatch.setattr(run, "find", lambda names: [done.path])
    monkeypatch.setattr(run, "run", lambda paths, edition, dest, jobs: [done])
    monkeypatch.setattr(sys, "argv", ["run", "--edition", "full", "--dest", str(tmp_path)])
    with pytest.raises(SystemExit) as leaving:
        run.main()
    assert int(leaving.value.code) == status
    assert "index.html" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variable", "option", "edition"),
    [(None, None, "pocket"), ("", None, "pocket"), (" FULL ", None, "full"), ("auto", None, "auto"),
     ("full", "pocket", "pocket")],
)  # fmt: skip
def test_the_edition_that_was_asked_for_is_run_and_named(monkeypatch, capsys, tmp_path, variable, option, edition):
    asked, done = [], execute.Execution(run.ROOT / "assignment1/a.ipynb", new_notebook(), 1.0)
    monkeypatch.delenv("WORKBOOK_EDITION")
    if variable is not None:
        monkeypatch.setenv("WORKBOOK_EDITION", variable)
    monkeypatch.setattr(run, "find", lambda names: [done.path])
    monkeypatch.setattr(run, "run", lambda paths, edition, dest, jobs: asked.append(edition) or [done])
    monkeypatch.setattr(sys, "argv", ["run", "--dest", str(tmp_path), *(["--edition", option] if option else [])])
    with pytest.raises(SystemExit):
        run.main()
    assert asked == [edition] and f"{edition} edition" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value"),
    [("WORKBOOK_EDITION", "bogus"), ("WORKBOOK_CELL_SECONDS", "soon"), ("WORKBOOK_CELL_SECONDS", "0")],
)
def test_a_variable_that_says_nothing_is_named(monkeypatch, capsys, name, value):
    monkeypatch.setattr(run, "run", lambda *_: pytest.fail("it ran all the same"))
    monkeypatch.setattr(sys, "argv", ["run"])
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="2"):
        run.main()
    assert f"{name} is '{value}'" in capsys.readouterr().err


def test_one_bad_notebook_does_not_stop_the_others(tmp_path, monkeypatch):
    """Not readable, empty, killed, too slow: each is a row of the table, and the good one is run."""
    monkeypatch.setenv("WORKBOOK_CELL_SECONDS", "8")
    folder = tmp_path / "n"
    paths = [
        notebook_of(folder / "killed.ipynb", "1", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"),
        notebook_of(folder / "slow.ipynb", "import time\ntime.sleep(600)"),
        notebook_of(folder / "good.ipynb", "print('ok  fine')"),
    ]
    for name, text in {"cut": '{"cells": [', "list": "[]", "nothing": ""}.items():
        (folder / f"{name}.ipynb").write_text(text)
        paths.append(folder / f"{name}.ipynb")
    (folder / "bare.ipynb").write_text(nbformat.writes(new_notebook()))
    runs = run.run([*paths, folder / "bare.ipynb"], "pocket", tmp_path / "html", jobs=2)
    failures = {done.path.stem: done.failure for done in runs}
    assert failures["killed"].startswith("the kernel died in cell 2: it ran out of memory")
    assert failures["slow"] == "cell 1 ran longer than 8 s; WORKBOOK_CELL_SECONDS sets another limit"
    assert all(failures[name].startswith("not a readable notebook: ") for name in ("cut", "list", "nothing"))
    assert failures["good"] == failures["bare"] == ""
    assert run.table(runs, "pocket").count("  FAILED\n") == 5
    assert (tmp_path / "html" / "n" / "good.html").is_file()


def test_a_kernel_that_does_not_start_is_an_error_of_its_notebook(tmp_path, monkeypatch):
    spec = tmp_path / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text('{"argv": ["/no/such/program"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    done = execute.execute(notebook_of(tmp_path / "n/a.ipynb", "1"), {})
    if not done.error:
        pytest.skip("the environment's own kernel comes before JUPYTER_PATH")
    assert done.failure.startswith("the kernel did not start: ")


def test_a_kernel_that_ends_at_once_is_an_error_of_its_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "ipykernel_launcher.py").write_text("raise SystemExit('no')")
    done = execute.execute(notebook_of(tmp_path / "n/a.ipynb", "1"), {})
    assert done.failure.startswith("the kernel did not start: ")


def test_the_time_limit_is_generous_and_can_be_set():
    assert execute.cell_seconds({"WORKBOOK_EDITION": "pocket"}) == 3600
    assert execute.cell_seconds({"WORKBOOK_EDITION": "full"}) == 24 * 3600
    assert execute.cell_seconds({"WORKBOOK_EDITION": "full", "WORKBOOK_CELL_SECONDS": "5"}) == 5


def test_an_interrupted_command_says_one_sentence(monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    for command, name in ((outputs, "find"), (results_tool, "run_all")):
        monkeypatch.setattr(command, name, interrupted)
        monkeypatch.setattr(sys, "argv", ["command"])
        with pytest.raises(SystemExit, match=r"^Interrupted; the kernel is stopped"):
            command.main()


@pytest.mark.parametrize("wrong", ["0", "-1", "two"])
def test_jobs_is_a_number_of_notebooks(monkeypatch, capsys, wrong):
    monkeypatch.setattr(sys, "argv", ["run", f"--jobs={wrong}"])
    with pytest.raises(SystemExit, match="2"):
        run.main()
    assert "--jobs" in capsys.readouterr().err


MEETS = """
import os, pathlib, time
pathlib.Path("{name}").touch()
until = time.monotonic() + 60
while not os.path.exists("{other}") and time.monotonic() < until:
    time.sleep(0.05)
assert os.path.exists("{other}"), "the other notebook has not begun"
names = "OMP_NUM_THREADS", "WORKBOOK_THREADS", "LOKY_MAX_CPU_COUNT", "WORKBOOK_QUIET"
print([os.environ.get(name) for name in names])
"""


def test_notebooks_run_side_by_side_with_one_thread_each(tmp_path):
    """Each waits for the other: one after the other they could not end."""
    pairs = [("a", "b"), ("b", "a")]
    paths = [notebook_of(tmp_path / f"n/{name}.ipynb", MEETS.format(name=name, other=other)) for name, other in pairs]
    runs = run.run(paths, "pocket", tmp_path / "html", jobs=2)
    assert [done.path for done in runs] == paths
    assert [done.error for done in runs] == ["", ""]
    assert runs[0].code_cells[0].outputs[0].text == "['1', '1', '1', '1']\n"


def test_one_after_the_other_in_the_given_order_with_all_threads(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    source = (
        "import os, time\nprint(time.time(), os.environ.get('OMP_NUM_THREADS'))\ntime.sleep(0.2)\nprint(time.time())"
    )
    paths = [notebook_of(tmp_path / f"n/{name}.ipynb", source) for name in ("b", "a")]
    runs = run.run(paths, "pocket", tmp_path / "html", jobs=1)
    (start1, threads, end1), (start2, *_) = (" ".join(done.printed()).split() for done in runs)
    assert threads == "None"
    assert float(start1) < float(end1) < float(start2)


@pytest.mark.parametrize(
    ("title", "seconds"),
    [
        ("# A\n\n*Budget: about 40 s on two CPU cores (pocket edition), about 2 min (full).*", 40),
        ("*Budget: about 3 min*", 180),
        ("# A\n\nabout 5 s", float("inf")),
    ],
)
def test_budget_of_the_title_cell(title, seconds):
    assert run.budget(new_notebook(cells=[new_markdown_cell(title)])) == seconds


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
@pytest.mark.parametrize("stop", ["SIGINT", "SIGTERM"])
def test_stopping_the_run_stops_every_kernel(tmp_path, stop):
    """With Ctrl-C, and also when the process is ended from outside."""
    source = "import os, pathlib, time\npathlib.Path(f'{os.getpid()}.pid').touch()\ntime.sleep(600)"
    paths = [str(notebook_of(tmp_path / f"n/{name}.ipynb", source)) for name in "abc"]
    code = textwrap.dedent(f"""
        from pathlib import Path
        from tools import run
        run.ROOT, run.find = Path({str(tmp_path)!r}), lambda names: [Path(p) for p in {paths!r}]
        run.main()
    """)
    command = [sys.executable, "-c", code, "--jobs", "2", "--dest", "html"]
    running = subprocess.Popen(command, cwd=notebooks.ROOT, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(list((tmp_path / "n").glob("*.pid"))) == 2)
    running.send_signal(getattr(signal, stop))
    _, said = running.communicate(timeout=60)
    assert running.returncode
    assert "Traceback" not in said
    assert stop == "SIGTERM" or said.endswith("the pages of finished notebooks are written.\n")
    kernels = [int(path.stem) for path in (tmp_path / "n").glob("*.pid")]
    assert len(kernels) == 2, "the third notebook was started after all"
    wait_for(lambda: not any(alive(kernel) for kernel in kernels))


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


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
