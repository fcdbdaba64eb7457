"""What nbval's comparison lets through, and what it must not."""

import os
import subprocess
import sys

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.nbval_tolerance import (
    ANSI,
    DEFAULT,
    NUMBER,
    OVERRIDES,
    Text,
    Tolerance,
    close,
    comparable,
    same_text,
    tolerance_of,
    unit,
)
from tools.notebooks import ROOT, notebook_paths


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("", ""),
        ("loss 2.302585", "loss 2.302584"),
        ("loss 2.3", "loss 2.3001"),  # NumPy leaves out zeros at the end
        ("9.9e-03", "1.0e-02"),
        ("1e-7", "1e-07"),
        ("-0.0000", "0.0000"),
        ("-0.0001", "0.0000"),  # the last printed digit
        ("12345.6", "12346.5"),  # 1e-4 of it
        ("1.25e-05", "1.26e-05"),
        ("5 of 500", "5 of 500"),
        ("[ 0.5  1.25]", "[0.5 1.25]"),  # a width changed, and so did the blanks
        ("[[0.1 0.2]\n [0.3 0.4]]", "[[0.1 0.2]\n\n  [0.3 0.4]]"),
        ("accuracy 28.2 %", "accuracy 28.1 %"),
        ("nan inf", "nan inf"),
        ("x1 y2 conv2d v1.2.3", "x1 y2 conv2d v1.2.3"),
        ("3.", "3.0"),
        (".5", "0.5"),
    ],
)
def test_the_same(left, right):
    assert same_text(left, right)
    assert same_text(right, left)
    assert Text(left) == right
    assert (Text(left) != right) is False
    assert left == Text(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("ok  loss", "no  loss"),
        ("loss 2.302585", "loss"),
        ("loss", "loss 2.302585"),
        ("1 2", "1 2 3"),
        ("2.30", "2.40"),
        ("2.30", "2.32"),
        ("12345.6", "12348.5"),
        ("right: 141", "right: 142"),
        ("-0.0001", "0.0001"),
        ("1e-7", "2e-4"),
        ("rel. error < 1e-07", "rel. error < 1e-09"),
        ("1.25e-05", "1.28e-05"),
        ("5 classes", "6 classes"),  # counts agree exactly
        ("k = 10", "k = 11"),
        ("0", "1"),
        ("-1", "1"),
        ("accuracy 0.28", "accuracy 0.20"),
        ("0.5", "-0.5"),
        ("1e-3", "1e-2"),
        ("nan", "0.5"),
        ("inf", "1e9"),
        ("conv2d", "conv3d"),  # digits inside words are words
        ("x1", "x2"),
        ("v1.2.3", "v1.2.4"),
        ("(5000, 3072)", "(5000, 3000)"),
        ("cat dog", "dog cat"),
        ("cat 1.0 dog 2.0", "cat 2.0 dog 1.0"),  # the order of the numbers counts
        ("catdog", "cat dog"),
        ("True", "False"),
    ],
)
def test_not_the_same(left, right):
    assert not same_text(left, right)
    assert not same_text(right, left)
    assert Text(left) != right
    assert (Text(left) == right) is False


def test_text_is_a_string_that_compares_only_with_strings():
    assert Text("1.0") != 1.0
    assert hash(Text("a")) == hash("a")
    assert {"text": Text("loss 2.301")} == {"text": "loss 2.302"}


@given(st.floats(-1e6, 1e6, allow_nan=False).filter(lambda x: abs(x) > 1e-3), st.floats(-1, 1))
@settings(max_examples=200, deadline=None)
def test_tolerance_of_any_number(x, share):
    """Within the tolerance: the same; three times further: not."""
    inside, outside = x * (1 + 0.9 * share * DEFAULT.relative), x * (1 + 3 * DEFAULT.relative)
    assert close(f"{x:.12e}", f"{inside:.12e}")
    assert not close(f"{x:.12e}", f"{outside:.12e}")
    assert close(f"{x:.12e}", f"{outside:.12e}", Tolerance(1e-3, 0.0, ""))


@given(st.floats(-1e4, 1e4, allow_nan=False), st.integers(1, 6), st.sampled_from("fe"))
@settings(max_examples=200, deadline=None)
def test_numbers_that_are_equal_up_to_their_last_bits_agree_as_printed(x, digits, style):
    """The last bits can turn the last printed digit, and with it those before: 0.0999 and 0.1000."""
    for close_by in (x * (1 + 1e-12), x * (1 - 1e-12)):
        assert close(f"{x:.{digits}{style}}", f"{close_by:.{digits}{style}}")


@pytest.mark.parametrize(
    ("text", "size"), [("3.14", 0.01), ("-2.5e-07", 1e-8), ("1e-3", 1e-3), ("3.", 1.0), (".5", 0.1), ("1.5E+2", 10.0)]
)
def test_unit_of_the_last_digit(text, size):
    assert unit(text) == pytest.approx(size, rel=1e-12)


def test_a_notebook_has_the_tolerance_that_the_table_gives(monkeypatch, tmp_path):
    path = tmp_path / "assignment9" / "a.ipynb"
    assert tolerance_of(path) == DEFAULT
    row = Tolerance(0.02, 2e-3, "a net is trained")
    monkeypatch.setitem(OVERRIDES, "assignment9/a", row)
    assert tolerance_of(path) is row
    for left, right, same in [
        ("2.300", "2.320", True),
        ("141 of 500", "142 of 500", True),
        ("0.0001", "0.0019", True),
        ("3 of 500", "4 of 500", False),
        ("2.300", "2.360", False),
    ]:
        assert (Text(left, row) == right) is same
        assert Text(left) != right


def test_rows_of_the_table_name_notebooks_and_reasons():
    there = {f"{path.parent.name}/{path.stem}" for path in notebook_paths(ROOT)}
    for name, (relative, absolute, reason) in OVERRIDES.items():
        assert name in there, f"OVERRIDES names {name}, which does not exist"
        assert DEFAULT.relative < relative <= 0.06, f"{name}: {relative}"
        assert 0 <= absolute <= 0.05, f"{name}: {absolute}"
        assert len(reason) > 20, f"{name}: say why"


@given(st.integers(-19, 19), st.integers(-19, 19))
@settings(deadline=None)
def test_small_whole_numbers_are_counts(a, b):
    assert close(str(a), str(b)) == (a == b)


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=200, deadline=None)
def test_every_printed_number_is_found_whole(x):
    assert NUMBER.findall(f"value {x!r}, {x:.3g} and {x:.1e}") == [repr(x), f"{x:.3g}", f"{x:.1e}"]


# Colours -----------------------------------------------------------------------------------------------------

WRONG = """
def test_wrong():
    assert "a b" == "a c"
"""


def pytest_on(folder, *options, **environment):
    """What pytest says with the workbook's conftest about a notebook whose output differs and one that raises."""
    cells = [
        new_code_cell("print('ok  b')", execution_count=1, outputs=[new_output("stream", text="ok  a\n")]),
        new_code_cell("1 / 0", execution_count=2),
    ]
    nbformat.write(new_notebook(cells=cells), folder / "n.ipynb")
    (folder / "test_wrong.py").write_text(WRONG)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "1", "--nbval", "--nbval-current-env", "-p", "conftest"]
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "PY_COLORS")}
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider", f"--rootdir={folder}", *options, str(folder)],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    for said in ("ok  a", "ZeroDivisionError", "3 failed"):
        assert said in ANSI.sub("", run.stdout)
    return run.stdout


def test_colours_only_where_somebody_watches(tmp_path):
    """A pipe is nobody; FORCE_COLOR stands for a terminal."""
    assert not ANSI.search(pytest_on(tmp_path))
    assert ANSI.search(pytest_on(tmp_path, FORCE_COLOR="1"))


# Outputs -----------------------------------------------------------------------------------------------------


def outputs(*them):
    return [NotebookNode(output) for output in them]


STREAM = {"output_type": "stream", "name": "stdout", "text": "ok\n"}
NOISE = {"output_type": "stream", "name": "stderr", "text": "warning\n"}
FIGURE = {
    "output_type": "display_data",
    "data": {"image/png": "aGVsbG8=", "text/plain": "<Figure size 560x320 with 1 Axes>"},
    "metadata": {},
}


def test_stderr_and_pictures_are_not_compared():
    kept = comparable(outputs(STREAM, NOISE, FIGURE))
    assert kept[0] == STREAM
    assert len(kept) == 2
    assert kept[1]["data"] == {"text/plain": FIGURE["data"]["text/plain"]}
    gif = {**FIGURE, "data": {"image/gif": "R0lG"}}
    assert comparable(outputs(gif))[0]["data"] == {}


def test_originals_are_left_alone():
    figure = NotebookNode(FIGURE)
    comparable([figure])
    assert "image/png" in figure["data"]


def test_lengths_of_the_two_sides_stay_comparable():
    """A figure that appears on one side only is a difference, whatever its pixels."""
    assert len(comparable(outputs(STREAM, FIGURE))) != len(comparable(outputs(STREAM, NOISE)))
    assert len(comparable(outputs(NOISE, STREAM))) == len(comparable(outputs(STREAM)))
