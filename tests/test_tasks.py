"""Task boxes of the blank edition: made from docstrings, verdicts and task lines; every blank has its line."""

import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.test_student import cells, save, tree  # noqa: F401  (a fixture)
from tools import student, tasks
from tools.blanks import find_blanks
from tools.notebooks import ROOT, ToolError, notebook_paths, parse_cell, read_notebook

pytestmark = pytest.mark.robustness

DOCSTRING = '''
def scale(values, factor, start=0):
    """Each value times factor, see `total`; a*b of `c_d`.

    Source (1999).

    Args:
        values: numbers, (N,).
        factor, start: one number; either
            may be negative.
    Returns:
        A list of N numbers,
        in order.
    Raises:
        ValueError: nothing.
    """
'''


def lesson():
    """The workbook in small, with task lines and verdicts."""
    own = cells()
    own[0].source += "\n<!-- task: Model.total: Begin with 0. -->"
    own[3].outputs = [new_output("stream", text="ok  the sum is 3  (exactly equal)\nok  it is a number\nother\n")]
    own[4].source += "\n\nMore.\n\n<!-- task: scale: One by one. -->\n<!-- task: Model.root: Mind the sign. -->"
    own[7].source += "\n\n<!-- task: power: Twice. -->\n<!-- task: Yours: add two numbers, and compare. -->"
    return own


@pytest.fixture
def blank(tree, tmp_path):  # noqa: F811
    """The blank edition of the lesson."""
    save(tree / "assignment1/model.ipynb", *lesson())
    student.write_blank_edition(tree, tmp_path / "blank")
    return read_notebook(tmp_path / "blank/assignment1/model.ipynb")


def boxes(nb):
    return [cell for cell in nb.cells if tasks.BOX in cell.metadata.get("tags", [])]


def test_a_box_stands_before_each_cell_that_shows_or_holds_a_blank(blank):
    following = [blank.cells[i + 1].id for i, cell in enumerate(blank.cells) if cell in boxes(blank)]
    assert following == ["cell-2", "cell-5", "cell-8"]
    assert [cell.id for cell in boxes(blank)] == ["model-task-1", "model-task-2", "model-task-3"]


def test_what_a_box_says(blank):
    assert boxes(blank)[0].source.splitlines() == [
        "> **Your turn: `Model.total`** in [common/model.py](../common/model.py)",
        ">",
        "> `Model.total`: The sum.",
        ">",
        "> - **hint:** Begin with 0.",
        ">",
        "> **What the next cells check:** the sum is 3; it is a number.",
    ]


def test_functions_that_one_cell_shows_share_a_box(blank):
    text = boxes(blank)[1].source
    assert text.startswith("> **Your turn: `Model.root` and `scale`** in [common/model.py](../common/model.py)\n")
    assert text.count("**hint:**") == 2
    assert text.index("Mind the sign") < text.index("One by one")


def test_a_function_of_the_notebook_gets_its_box(blank):
    assert boxes(blank)[2].source.startswith("> **Your turn: `power`** in the next cell\n")
    assert "Twice." in boxes(blank)[2].source


def test_task_lines_are_gone_from_the_prose(blank):
    assert not any("<!-- task" in cell.source for cell in blank.cells)
    prose = next(cell.source for cell in blank.cells if cell.id == "cell-4")
    assert prose == "## 2. Roots\n\n```\n## 9. Not a heading\n```\n\nMore."


def test_a_cell_outside_functions_becomes_a_comment_and_runs(blank):
    source = next(cell.source for cell in blank.cells if cell.id == "cell-9")
    assert source.splitlines()[1] == "# Test your answer: add two numbers, and compare."
    assert parse_cell(source).body


def test_the_last_cell_prints_the_progress(blank):
    assert blank.cells[-1].source == 'from common import todo\n\ntodo.progress_line("model")'
    assert tasks.END in blank.cells[-1].metadata.tags


def test_solutions_put_back_leave_the_comment_behind(tree, tmp_path):  # noqa: F811
    save(tree / "assignment1/model.ipynb", *lesson())
    student.write_blank_edition(tree, tmp_path / "blank")
    student.restore(tmp_path / "blank", tree)
    restored = read_notebook(tmp_path / "blank/assignment1/model.ipynb")
    assert next(cell.source for cell in restored.cells if cell.id == "cell-9") == cells()[9].source


def test_comments_are_wrapped():
    lines = tasks.comment("word " * 60).splitlines()
    assert max(map(len, lines)) <= 100
    assert all(line.startswith("# ") for line in lines)


def test_parts_of_a_docstring():
    text = tasks.docstring(DOCSTRING, "scale")
    parts = tasks.docstring_parts(text)
    assert set(parts) == {"Args", "Returns", "Raises"}
    assert tasks.arguments(parts["Args"]) == [
        ("values", "numbers, (N,)."),
        ("factor, start", "one number; either may be negative."),
    ]
    assert parts["Returns"] == "A list of N numbers,\nin order."


def test_a_method_without_docstring_has_that_of_its_class():
    source = 'class A:\n    """Adds."""\n\n    def f(self):\n        return 1\n'
    assert tasks.docstring(source, "A.f") == "Adds."


def test_markdown_shows_a_docstring_letter_by_letter():
    assert tasks.plain("a*b of `c_d` [1], x_hat < 3, **in place**") == (
        r"a\*b of `c_d` \[1\], x\_hat \< 3, **in place**"
    )


@pytest.mark.parametrize(
    "line", ["<!-- task: f -->", "<!-- task f: do it -->", "<!-- task: f: -->", "text <!-- task: f: do it -->"]
)
def test_lines_that_only_look_like_tasks(line):
    with pytest.raises(ToolError, match=r"lesson, section 1: a task line has to be '<!-- task: NAME: sentence -->'"):
        tasks.hints(new_notebook(cells=[new_markdown_cell(f"## 1. One\n\n{line}")]), "lesson")


def test_two_lines_for_one_blank():
    text = "## 1. One\n\n<!-- task: f: do it -->\n<!-- task: f: do that -->"
    with pytest.raises(ToolError, match="two task lines for f"):
        tasks.hints(new_notebook(cells=[new_markdown_cell(text)]), "lesson")


def verdicts(*sources):
    """A notebook of headings (text) and of cells that print verdicts (lists of claims)."""
    made = []
    for source in sources:
        printed = [new_output("stream", text="".join(f"ok  {c}  (rel. error < 1e-07)\n" for c in source))]
        is_text = isinstance(source, str)
        made.append(new_markdown_cell(source) if is_text else new_code_cell("check()", outputs=printed))
    return new_notebook(cells=made)


@pytest.mark.parametrize(
    ("sources", "others", "expected"),
    [
        (([], ["a"], ["b", "a"]), set(), ["a", "b"]),
        (([], ["a", "b"], ["c", "d"]), set(), ["a", "b", "c"]),
        (([], "text", ["a"]), set(), ["a"]),
        (([], ["a"], "### Next", ["b"]), set(), ["a"]),
        (([], ["a"], [], ["b"]), {2}, ["a"]),
        (([], "### Next", ["b"]), set(), ["b"]),
        (([], "## 2. Next", ["b"]), set(), []),
    ],
)
def test_claims_reach_to_the_next_heading_or_box(sources, others, expected):
    assert tasks.claims(verdicts(*sources), 0, others | {0}) == expected


# --- the real notebooks -----------------------------------------------------------------------------------------

REAL = pytest.mark.skipif(student.is_blank_edition(ROOT), reason="this is the blank edition")


@REAL
@pytest.mark.parametrize("path", notebook_paths(tracked=True), ids=lambda path: path.stem)
def test_every_blank_has_its_task_line_and_every_line_its_blank(path):
    notebook = path.relative_to(ROOT).with_suffix("").as_posix()
    own = [b for b in find_blanks(ROOT) if b.notebook == notebook and b.text != student.ANSWER]
    lines = tasks.hints(read_notebook(path), path.stem)
    assert {(b.section, b.name) for b in own} == set(lines)
    assert all(sentence[-1] in ".?" and len(sentence) < 200 for sentence in lines.values())


@REAL
@pytest.mark.parametrize("path", notebook_paths(tracked=True), ids=lambda path: path.stem)
def test_every_function_has_its_box(path):
    notebook, nb = path.relative_to(ROOT).with_suffix("").as_posix(), read_notebook(path)
    own = [b for b in find_blanks(ROOT) if b.notebook == notebook]
    sources = {b.file: (ROOT / b.file).read_text() for b in own if not b.cell} | {c.id: c.source for c in nb.cells}
    text = "".join(cell.source for cell in boxes(tasks.add_tasks(nb, own, sources, path.stem)))
    for blank in own:
        if blank.function:
            assert f"\n> `{blank.name}`" in text
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (path.parent / link).is_file()


@REAL
def test_no_hint_is_a_line_of_a_solution():
    """Code between backticks in a hint is no whole statement of the blank."""
    for path in notebook_paths(tracked=True):
        nb, notebook = read_notebook(path), path.relative_to(ROOT).with_suffix("").as_posix()
        lines = tasks.hints(nb, path.stem)
        for blank in [b for b in find_blanks(ROOT) if b.notebook == notebook and b.function]:
            code = re.findall(r"`([^`]+)`", lines.get((blank.section, blank.name), ""))
            statements = {line.strip() for line in blank.solution.splitlines()}
            assert not statements & set(code), (blank.name, code)
