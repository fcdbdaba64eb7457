"""What nbval's comparison lets through, and what it must not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode

from tests.nbval_tolerance import ABSOLUTE, NUMBER, RELATIVE, Text, close, comparable, same_text


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("", ""),
        ("loss 2.302585", "loss 2.302584"),
        ("loss 2.3", "loss 2.302585"),  # other digits, the same number
        ("1e-7", "1e-07"),
        ("-0.0001", "0.0001"),  # zero up to rounding
        ("5 of 500", "5 of 500"),
        ("right: 141", "right: 142"),
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


@given(st.floats(-1e6, 1e6, allow_nan=False), st.floats(-1, 1))
@settings(max_examples=200, deadline=None)
def test_tolerance_of_any_number(x, share):
    """Within the tolerance: the same; three times further: not, unless the absolute tolerance covers it."""
    inside, outside = x * (1 + 0.9 * share * RELATIVE), x * (1 + 3 * RELATIVE)
    assert close(repr(float(x)), repr(float(inside)))
    assert close(repr(float(x)), repr(float(outside))) == (abs(outside - x) <= ABSOLUTE)


@given(st.integers(-19, 19), st.integers(-19, 19))
@settings(deadline=None)
def test_small_whole_numbers_are_counts(a, b):
    assert close(str(a), str(b)) == (a == b)


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=200, deadline=None)
def test_every_printed_number_is_found_whole(x):
    assert NUMBER.findall(f"value {x!r}, {x:.3g} and {x:.1e}") == [repr(x), f"{x:.3g}", f"{x:.1e}"]


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
