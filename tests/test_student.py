"""The blank edition: no solution left, every blank loud, and whole again when the solutions are put back."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import nbclient
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.test_colab import chosen
from tools import student
from tools.blanks import find_blanks, raise_line
from tools.notebooks import (
    MANIFEST,
    ROOT,
    ToolError,
    notebook_paths,
    notebook_text,
    parse_cell,
    read_notebook,
    sections,
    source_files,
    strip_outputs,
)
from tools.regions import ANSWER, code_regions, replace_lines, text_regions
from tools.tasks import TAGS, without_task_lines

B, E = "### BEGIN SOLUTION", "### END SOLUTION"
MODULE = f'''
"""A model."""

import math


class Model:
    """Adds up."""

    def total(self, values):
        """The sum."""
        if not values:
            raise ValueError("values is empty")
        {B} model, 1
        result = 0
        for value in values:
            result = result + value
        {E}
        return result

    def root(self, value):
        {B} model, 2
        return math.sqrt(abs(value))
        # the end
        {E}


def scale(values, factor):
    out = []
    for value in values:
        {B} model, 2
        scaled_value = factor * value
        out.append(scaled_value)
        {E}
    return out
'''
NOTEBOOK_PY = "def setup():\n    pass\n\n\ndef show_source(*objects):\n    print('source of', objects)\n"
SETUP = """
import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd().parent))
from common import notebook

notebook.setup()
"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")


def save(path, *cells):
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
        if cell.cell_type == "code":
            cell.execution_count = number + 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(notebook_text(new_notebook(cells=list(cells))), encoding="utf-8")


def cells():
    shown = new_output("display_data", data={"text/markdown": "```python\nresult = result + value\n```"})
    return [
        new_markdown_cell("# Model\n\n## 1. Sums\n"),
        new_code_cell(SETUP),
        new_code_cell("from common.model import Model, scale\nnotebook.show_source(Model.total)", outputs=[shown]),
        new_code_cell("model = Model()\nassert model.total([1, 2]) == 3"),
        new_markdown_cell("## 2. Roots\n\n```\n## 9. Not a heading\n```"),
        new_code_cell("notebook.show_source(model.root, scale)\nassert model.root(-4) == 2"),
        new_code_cell("%matplotlib --list\nassert scale([1, 2], 3) == [3, 6]"),
        new_markdown_cell(
            f"## 3. Yours\n\n**Why?**\n\n<!-- {B} -->\n<details>The secret answer</details>\n<!-- {E} -->"
        ),
        new_code_cell(f"def power(x):\n    {B}\n    return x ** 2 + 0 * x\n    {E}\n\n\nassert power(3) == 9"),
        new_code_cell(f"x = 1\n{B}\nx = x + 41 - 0\n{E}\nassert x == 42"),
        new_code_cell(f"{B}\ny = x + 58 - 0\n{E}\nassert y == 100"),
    ]


@pytest.fixture
def tree(tmp_path):
    """A workbook in small."""
    root = tmp_path / "solved"
    write(root / "common/__init__.py", "")
    write(root / "common/notebook.py", NOTEBOOK_PY)
    write(root / "common/model.py", MODULE)
    write(root / "README.md", "# Workbook\n\nText.\n")
    write(root / "pyproject.toml", '[tool.ruff.lint]\nselect = ["E", "F"]\n')
    write(root / "run.sh", "#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    write(root / "datasets/README.md", "data\n")
    write(root / "datasets/big.bin", "not for the blank edition")
    write(root / "build/junk.txt", "junk")
    save(root / "assignment1/model.ipynb", *cells())
    return root


def left_in(folder):
    """Names in a folder; the lock file, which stays for the next writer, does not count."""
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".filelock")


MESSAGES = {
    "Model.total": "Model.total: assignment1/model, section 1",
    "Model.root": "Model.root: assignment1/model, section 2",
    "scale": "scale: assignment1/model, section 2",
    "power": "power: assignment1/model, section 3",
    "Yours": "Yours: assignment1/model, section 3",
    "Yours (2)": "Yours (2): assignment1/model, section 3",
}


def work_through(folder: Path, solved: Path, notebook: str, **variables: str) -> list[str]:
    """Run a notebook of the blank edition as a learner does: to a blank, fill that one, run the cell again.

    One kernel serves for all blanks: IPython's autoreload brings the filled function into it.

    Returns:
        The messages of the blanks in the order in which they stopped the notebook.
    """
    nb = read_notebook(folder / notebook)
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"WORKBOOK_QUIET": "1", **variables}
    path = str((folder / notebook).parent)
    client = nbclient.NotebookClient(nb, timeout=600, resources={"metadata": {"path": path}})
    nb.cells.insert(0, new_code_cell("%load_ext autoreload\n%autoreload 2"))
    messages, blanks = [], find_blanks(solved)
    with client.setup_kernel(env=env):
        for index, cell in enumerate(nb.cells):
            while error := run_cell(client, cell, index):
                assert error.ename == "NotImplementedError", f"cell {index}: {error.ename}: {error.evalue}"
                assert error.evalue not in messages, f"filled, but still blank: {error.evalue}"
                messages.append(error.evalue)
                name = error.evalue.rpartition(": ")[0]
                assert name in student.restore(folder, solved, [name], blanks)
                take_sources(nb, folder / notebook)
    return messages


def run_cell(client, cell, index):
    try:
        client.execute_cell(cell, index)
    except nbclient.exceptions.CellExecutionError as error:
        return error
    return None


def take_sources(nb, path):
    filled = {cell.id: cell.source for cell in read_notebook(path).cells}
    for cell in nb.cells:
        cell.source = filled.get(cell.id, cell.source)


def stripped(path):
    """Text of a file; of a notebook without outputs and without what belongs to one edition only."""
    if path.suffix != ".ipynb":
        return path.read_text("utf-8")
    nb = strip_outputs(read_notebook(path))
    nb.cells = [cell for cell in nb.cells if not set(TAGS) & set(cell.metadata.get("tags", []))]
    for cell in nb.cells:
        cell.source = without_task_lines(cell.source)
    return notebook_text(nb)


def differences(blank: Path, solved: Path) -> list[str]:
    """Files of `solved` that `blank` has not, or has with other content than outputs and the notice in README.md."""
    result = []
    for name in source_files(solved):
        if not (blank / name).exists():
            result.append(name)
        elif name == "README.md":
            if stripped(blank / name).replace(student.NOTICE, "") != stripped(solved / name):
                result.append(name)
        elif name.endswith((".py", ".ipynb")):
            if stripped(blank / name) != stripped(solved / name):
                result.append(name)
        elif (blank / name).read_bytes() != (solved / name).read_bytes():
            result.append(name)
    return result


# --- regions ----------------------------------------------------------------------------------------------------


def test_regions_know_their_function():
    found = code_regions(MODULE, "model.py", named=True)
    assert [r.function for r in found] == ["Model.total", "Model.root", "scale"]
    assert [(r.notebook, r.section) for r in found] == [("model", "1"), ("model", "2"), ("model", "2")]


def test_a_region_may_hold_whole_functions():
    source = f"def outer():\n    {B}\n    def inner():\n        return 1\n    {E}\n    return inner\n"
    assert [r.function for r in code_regions(source, "x.py")] == ["outer"]


def test_markers_in_strings_are_text():
    assert code_regions(f'text = """\n{B}\n"""\n', "x.py") == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (f"{B}\nx = 1\n", r"x\.py:1: BEGIN SOLUTION without END"),
        (f"x = 1\n{E}\n", r"x\.py:2: END SOLUTION without BEGIN"),
        (f"{B}\n{B}\nx = 1\n{E}\n{E}\n", r"x\.py:2: BEGIN SOLUTION inside the region that starts in line 1"),
        ("# BEGIN SOLUTION\nx = 1\n# END SOLUTION\n", r"x\.py:1: a marker has to be"),
        (f"x = 1  {B}\ny = 1\n{E}\n", r"x\.py:1: a marker has to be .* alone on its line"),
        (f"{B}\n# nothing\n{E}\n", r"x\.py:1: the region holds no code"),
        (f"def f():\n    {B}\n    x = 1\n\n\ndef g():\n    x = 1\n    {E}\n", r"x\.py:2: .* beyond one function"),
        (f"def f(:\n    {B}\n", r"x\.py: not valid Python"),
        (f"{B} knn, 3\nx = 1\n{E}\n", r"x\.py:1: a marker has to be '### BEGIN SOLUTION' or"),
    ],
)
def test_bad_markers_name_the_line(source, message):
    with pytest.raises(ToolError, match=message):
        code_regions(source, "x.py")


@pytest.mark.parametrize(
    "marker", [B, f"{B} knn", f"{B} knn 3", f"{B} assignment1/knn, 3", "### Begin Solution knn, 3"]
)
def test_markers_of_modules_name_notebook_and_section(marker):
    source = f"def f():\n    {marker}\n    return 1\n    {E}\n"
    with pytest.raises(ToolError, match=r"x\.py:2: a marker has to be '### BEGIN SOLUTION notebook, section' or"):
        code_regions(source, "x.py", named=True)


def test_bad_markers_in_text():
    with pytest.raises(ToolError, match="cell 3:1: BEGIN SOLUTION without END"):
        text_regions(f"<!-- {B} -->\nanswer", "cell 3")


def test_long_messages_are_wrapped():
    line = raise_line("x" * 70, "    ", 110)
    assert line.count("\n") == 0
    wrapped = raise_line("x" * 100, "    ", 110)
    assert max(map(len, wrapped.split("\n"))) <= 110
    with pytest.raises(NotImplementedError, match=r"^x{100}$"):
        exec(textwrap.dedent(wrapped))


def test_replace_lines_matches_whole_lines():
    assert replace_lines("  a\na\nb", "a\nb", "c") == "  a\nc"
    assert replace_lines("  a", "a", "c") == "  a"


# --- the edition ------------------------------------------------------------------------------------------------


def test_every_blank_is_found(tree):
    blanks = find_blanks(tree)
    assert [b.name for b in blanks] == ["Model.total", "Model.root", "scale", "Yours", "power", "Yours", "Yours (2)"]
    assert blanks[3].text == ANSWER
    for blank in blanks[:3] + blanks[4:]:
        assert MESSAGES[blank.name] in blank.text


def test_no_solution_remains(tree, tmp_path):
    student.write_blank_edition(tree, tmp_path / "blank")
    text = "".join(p.read_text() for p in (tmp_path / "blank").rglob("*") if p.is_file())
    for secret in ("result + value", "math.sqrt(", "scaled_value", "x ** 2", "+ 41", "+ 58", "secret answer", B, E):
        assert secret not in text
    nb = read_notebook(tmp_path / "blank/assignment1/model.ipynb")
    assert all(not c.outputs and c.execution_count is None for c in nb.cells if c.cell_type == "code")
    assert next(c for c in nb.cells if c.id == "cell-7").source == f"## 3. Yours\n\n**Why?**\n\n{ANSWER}"
    nbformat.validate(nb)


def test_what_is_given_stays(tree, tmp_path):
    student.write_blank_edition(tree, tmp_path / "blank")
    blank = tmp_path / "blank"
    module = (blank / "common/model.py").read_text()
    assert 'raise ValueError("values is empty")\n        raise NotImplementedError("Model.total: ' in module
    assert module.count("return result") == 1
    assert "import math" in module
    assert os.access(blank / "run.sh", os.X_OK)
    assert (blank / "datasets/README.md").is_file()
    assert not (blank / "datasets/big.bin").exists()
    assert not (blank / "build").exists()
    assert (blank / "README.md").read_text().startswith("# Workbook\n\n> **Blank edition.**")


def test_blanks_stop_the_notebook_in_order_and_solutions_make_it_pass(tree, tmp_path):
    blank = tmp_path / "blank"
    student.write_blank_edition(tree, blank)
    assert work_through(blank, tree, "assignment1/model.ipynb") == list(MESSAGES.values())
    student.restore(blank, tree)  # the answer in text stops nothing
    assert differences(blank, tree) == []


def test_restore_one_and_all(tree, tmp_path):
    blank = tmp_path / "blank"
    student.write_blank_edition(tree, blank)
    assert "common/model.py" in differences(blank, tree)
    assert student.restore(blank, tree, ["scale"]) == ["scale"]
    assert "scaled_value" in (blank / "common/model.py").read_text()
    assert "math.sqrt" not in (blank / "common/model.py").read_text()
    assert len(student.restore(blank, tree)) == 6
    assert student.restore(blank, tree) == []
    assert differences(blank, tree) == []


def test_restore_keeps_the_learners_work(tree, tmp_path):
    blank = tmp_path / "blank"
    student.write_blank_edition(tree, blank)
    module = blank / "common/model.py"
    own = module.read_text().replace(f'raise NotImplementedError("{MESSAGES["scale"]}")', "out.append(value * factor)")
    module.write_text(own)
    assert "scale" not in student.restore(blank, tree)
    assert "out.append(value * factor)" in module.read_text()


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("modle, 1", r"common/lost\.py:2: there is no notebook 'modle'; there are model\n"),
        ("model, 4", r"common/lost\.py:2: assignment1/model has no section 4\n"),
    ],
)
def test_a_place_that_does_not_exist_is_an_error(tree, tmp_path, capsys, marker, message):
    write(tree / "common/lost.py", f"def lost():\n    {B} {marker}\n    return 1\n    {E}\n")
    assert student.main(["--source", str(tree), "--destination", str(tmp_path / "blank")]) == 1
    assert re.fullmatch(message, capsys.readouterr().err)
    assert not (tmp_path / "blank").exists()


def test_two_notebooks_of_one_name_are_an_error(tree):
    save(tree / "assignment2/model.ipynb", *cells())
    with pytest.raises(ToolError, match=r"assignment2/model and assignment1/model have the same name"):
        find_blanks(tree)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "common/bad.py",
            f"{B} model, 1\nx = 1\n{E}\n",
            r"common/bad\.py:1: a region of a module has to lie in a function",
        ),
        (
            "common/bad.py",
            f"def f():\n    {B} model, 1\n    return 1\n",
            r"common/bad\.py:2: BEGIN SOLUTION without END",
        ),
        ("common/bad.pyx", f"def f():\n    {B}\n    return 1\n    {E}\n", r"bad\.pyx: .*Cython are not supported"),
        ("assignment1/bad.ipynb", "{", r"bad\.ipynb: not a readable notebook"),
    ],
)
def test_bad_trees_are_refused(tree, tmp_path, name, text, message):
    write(tree / name, text)
    with pytest.raises(ToolError, match=message):
        student.write_blank_edition(tree, tmp_path / "blank")
    assert left_in(tmp_path) == ["solved"]


def test_what_would_not_compile_is_refused(tree, tmp_path):
    half = f"def scale(x):\n    {B} model, 2\n    if x:\n        return 1\n    {E}\n    else:\n        return 2\n"
    write(tree / "common/model.py", half)
    with pytest.raises(ToolError, match=r"common/model\.py: not valid Python without its solution"):
        student.write_blank_edition(tree, tmp_path / "blank")


def test_a_solution_repeated_elsewhere_is_a_leak(tree, tmp_path):
    blanks = student.write_blank_edition(tree, tmp_path / "blank")
    nb = read_notebook(tmp_path / "blank/assignment1/model.ipynb")
    nb.cells[-2].source += "\nscaled_value = factor * value"
    (tmp_path / "blank/assignment1/model.ipynb").write_text(notebook_text(nb))
    found = student.leaks(tmp_path / "blank", tree, blanks)
    assert found == ["assignment1/model.ipynb: scaled_value = factor * value"]


def test_the_learner_is_not_blamed_by_ruff(tree, tmp_path):
    student.write_blank_edition(tree, tmp_path / "blank")
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", str(tmp_path / "blank")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


# --- the destination --------------------------------------------------------------------------------------------


def test_written_twice_it_is_the_same(tree, tmp_path):
    student.write_blank_edition(tree, tmp_path / "blank")
    before = {p: p.read_bytes() for p in (tmp_path / "blank").rglob("*") if p.is_file()}
    student.write_blank_edition(tree, tmp_path / "blank")
    assert {p: p.read_bytes() for p in (tmp_path / "blank").rglob("*") if p.is_file()} == before
    assert left_in(tmp_path) == ["blank", "solved"]


def test_a_foreign_folder_is_refused(tree, tmp_path):
    write(tmp_path / "mine/letter.txt", "dear")
    with pytest.raises(ToolError, match="mine is not empty and was not written by this command"):
        student.write_blank_edition(tree, tmp_path / "mine")
    assert (tmp_path / "mine/letter.txt").is_file()


def test_a_learners_work_is_not_overwritten(tree, tmp_path):
    student.write_blank_edition(tree, tmp_path / "blank")
    (tmp_path / "blank/common/model.py").write_text("my work")
    with pytest.raises(ToolError, match=r"holds work that would be lost: common/model\.py; move the folder away"):
        student.write_blank_edition(tree, tmp_path / "blank")
    assert (tmp_path / "blank/common/model.py").read_text() == "my work"


def test_the_source_is_never_the_destination(tree):
    for destination in (tree, tree.parent):
        with pytest.raises(ToolError, match="contains the source tree"):
            student.write_blank_edition(tree, destination)


def test_links_and_files_are_no_destination(tree, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(ToolError, match=f"{name} is not a folder"):
            student.write_blank_edition(tree, tmp_path / name)


def test_after_an_error_the_old_edition_is_still_there(tree, tmp_path):
    student.write_blank_edition(tree, tmp_path / "blank")
    before = json.loads((tmp_path / "blank" / MANIFEST).read_text())
    write(tree / "common/lost.py", f"def lost():\n    {B}\n    return 1\n    {E}\n")
    with pytest.raises(ToolError):
        student.write_blank_edition(tree, tmp_path / "blank")
    assert json.loads((tmp_path / "blank" / MANIFEST).read_text()) == before


def test_only_what_git_tracks_is_handed_out(tree, tmp_path):
    git = shutil.which("git") or pytest.skip("git is not installed")
    write(tree / ".gitignore", "build/\ndatasets/*\n!datasets/README.md\n")
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run([git, "-C", str(tree), *command], check=True)
    write(tree / "solutions.txt", "result = result + value")
    student.write_blank_edition(tree, tmp_path / "blank")
    assert (tmp_path / "blank/common/model.py").is_file()
    assert not (tmp_path / "blank/solutions.txt").exists()
    assert not (tmp_path / "blank/.git").exists()


# --- the sections that markers name ---------------------------------------------------------------------------------


def untaught(root):
    """The functions, each with its section, that the section named by their marker does not teach."""
    found = []
    for blank in find_blanks(root):
        if not blank.cell:
            _, notebook, section = re.search(r'"(.+): (.+), section (\d+)"', blank.text).groups()
            if not teaches(read_notebook(root / f"{notebook}.ipynb"), section, blank):
                found.append(f"{blank.file} {blank.name}: {notebook}, section {section}")
    return found


def teaches(nb, section, blank):
    """Whether a cell of the section shows the function, its class or its module, or at least uses it by name."""
    pairs = zip(nb.cells, sections(nb), strict=True)
    trees = [parse_cell(cell.source) for cell, (number, _) in pairs if (number, cell.cell_type) == (section, "code")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    calls = [node for node in nodes if isinstance(node, ast.Call) and last_name(node.func) == "show_source"]
    shown = {last_name(argument) for call in calls for argument in call.args}
    around = {Path(blank.file).stem, *blank.name.split(".")}
    return bool(shown & around) or blank.name.rpartition(".")[2] in {last_name(node) for node in nodes}


def last_name(node):
    """`c` of the expression `a.b.c`, "" for anything else than names and attributes."""
    return ast.unparse(node).rpartition(".")[2] if isinstance(node, ast.Name | ast.Attribute) else ""


def test_each_section_teaches_what_its_markers_say(tree):
    assert untaught(tree) == []


def test_a_wrong_section_is_found(tree):
    module = (tree / "common/model.py").read_text()
    write(tree / "common/model.py", module.replace("model, 2", "model, 1", 1).replace("model, 2", "model, 3"))
    assert untaught(tree) == [
        "common/model.py Model.root: assignment1/model, section 1",
        "common/model.py scale: assignment1/model, section 3",
    ]


@pytest.mark.parametrize("shown", ["Model", "common.model", "Model.total"])
def test_a_class_or_a_module_shows_its_functions(tree, shown):
    own = cells()
    own[2].source = f"import common.model\nfrom common.model import Model, scale\nnotebook.show_source({shown})"
    own[3].source = "model = Model()"
    save(tree / "assignment1/model.ipynb", *own)
    assert untaught(tree) == []
    own[2].source = "from common.model import Model, scale\nnotebook.show_source(scale)"
    save(tree / "assignment1/model.ipynb", *own)
    assert untaught(tree) == ["common/model.py Model.total: assignment1/model, section 1"]


# --- the real tree ----------------------------------------------------------------------------------------------

REAL = pytest.mark.skipif(student.is_blank_edition(ROOT), reason="this is the blank edition")


@REAL
def test_the_real_tree_has_its_blank_edition(tmp_path):
    blank = tmp_path / "blank"
    blanks = student.write_blank_edition(ROOT, blank)
    assert student.leaks(blank, ROOT, blanks) == []
    assert len(student.restore(blank, ROOT)) == len(blanks)
    assert differences(blank, ROOT) == []


@REAL
def test_each_real_section_teaches_what_its_markers_say():
    assert untaught(ROOT) == []


@REAL
@pytest.mark.parametrize("path", chosen(notebook_paths(tracked=True)))
def test_every_real_blank_stops_its_notebook(path, tmp_path):
    from common.data import store

    blank, name = tmp_path / "blank", path.relative_to(ROOT).as_posix()
    blanks = [b for b in student.write_blank_edition(ROOT, blank) if b.text != ANSWER]
    functions = [b for b in blanks if b.function]
    own = {b.name for b in functions if f"{b.notebook}.ipynb" == name}
    student.restore(blank, ROOT, {b.name for b in functions} - own)
    data = {"WORKBOOK_DATA": str(store.data_root()), "WORKBOOK_EDITION": "pocket"}
    messages = work_through(blank, ROOT, name, **data)
    assert {message.rpartition(": ")[0] for message in messages} == own
    assert all(f": {name.removesuffix('.ipynb')}, section " in message for message in messages)
