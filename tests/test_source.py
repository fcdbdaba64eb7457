"""Source on the page: what stands in the file now, against inspect where nothing was edited."""

import ast
import importlib
import inspect
import os
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import optim, solver
from common.classifiers import cnn, fc_net, knn
from common.layers import normalization
from common.source import source_of, tidy


@pytest.mark.parametrize(
    "thing",
    [
        optim.adam, knn.KNearestNeighbor, knn.KNearestNeighbor.vote, fc_net.TwoLayerNet.forward, cnn.DeepConvNet,
        solver.Solver.step, normalization.batchnorm_forward,
    ],
)  # fmt: skip
def test_as_inspect_says(thing):
    path, source = source_of(thing)
    assert tidy(source) == tidy(textwrap.dedent(inspect.getsource(thing)))
    assert path.samefile(inspect.getsourcefile(thing))


def test_a_module_is_its_file():
    assert source_of(optim)[1] == inspect.getsource(optim)


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """A module whose file has grown at the top since it was loaded."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "some_lesson.py"
    path.write_text("import functools\n\n\ndef f(x):\n    return x\n\n\nclass A:\n    def f(self):\n        return 1\n")
    module = importlib.import_module("some_lesson")
    f = '@functools.cache\ndef f(x):\n    """New."""\n    return 2 * x\n'
    grown = f"import functools\n\n# a comment\n# of two lines\n\n\n{f}\n\nif True:\n    class A:\n"
    path.write_text(grown + "        def f(self):\n            return 3\n")
    os.utime(path, (0, 0))
    yield module
    del sys.modules["some_lesson"]


def test_after_an_edit_the_new_text_is_found(edited):
    assert source_of(edited.f)[1] == '@functools.cache\ndef f(x):\n    """New."""\n    return 2 * x\n'
    assert source_of(edited.A.f)[1] == "def f(self):\n    return 3\n"


def test_what_is_gone_is_named(edited):
    edited.A.f.__qualname__ = "A.g"
    with pytest.raises(ValueError, match=r"some_lesson\.py holds no A\.g any more"):
        source_of(edited.A.f)


@pytest.mark.parametrize("thing", [3, len, "text", print])
def test_what_has_no_file(thing):
    with pytest.raises(ValueError, match="does not come from a file"):
        source_of(thing)


def test_markers_that_name_a_section_are_left_out():
    source = "def f():\n    ### BEGIN SOLUTION knn, 3\n    return 1\n    ### END SOLUTION"
    assert tidy(source) == "def f():\n    return 1"


def test_tidy_shortens_docstrings_and_drops_markers():
    source = '''
class A:
    """First line.

    Second.
    """

    def f(self):
        """Only line."""
        ### BEGIN SOLUTION
        text = """kept
        as it is"""
        return text
        ### END SOLUTION

    def g(self):
        """Starts here
        and goes on."""
        return "### BEGIN SOLUTION"
'''.strip()
    assert (
        tidy(source)
        == '''
class A:
    """First line."""

    def f(self):
        """Only line."""
        text = """kept
        as it is"""
        return text

    def g(self):
        """Starts here"""
        return "### BEGIN SOLUTION"
'''.strip()
    )


def without_docstrings(source):
    """The syntax tree as text, docstrings left out: what the code does."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body[0].value.value = ""
    return ast.dump(tree)


@pytest.mark.parametrize("name", ["checks", "notebook", "classifiers.knn", "data.cifar10", "data.store"])
def test_tidy_keeps_the_code(name):
    module = importlib.import_module(f"common.{name}")
    with open(module.__file__, encoding="utf-8") as file:
        source = file.read()
    tidied = tidy(source)
    assert without_docstrings(tidied) == without_docstrings(source)
    assert "### BEGIN SOLUTION" not in tidied.replace('"### BEGIN SOLUTION"', "")
    assert tidy(tidied) == tidied


@given(
    st.lists(st.sampled_from(["first", 'has "quotes"', "ends with a dot.", "  indented", ""]), min_size=1, max_size=5),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_tidy_of_any_docstring(lines, raw, quotes_below):
    text = "First. " + "\n    ".join(lines) + ("\n    " if quotes_below else "")
    source = f'def f():\n    {"r" if raw else ""}"""{text}x"""\n    return 1'
    tree = ast.parse(tidy(source))
    assert ast.get_docstring(tree.body[0]).startswith("First.")
    assert len(ast.get_docstring(tree.body[0]).splitlines()) == 1
    assert ast.unparse(tree.body[0].body[-1]) == "return 1"


def test_a_function_to_be_written_keeps_its_docstring():
    doc = '    """First.\n\n    Args:\n        x: a number.\n    """\n'
    stub = f'def f(x):\n{doc}    raise NotImplementedError("f: assignment1/knn, section 3")'
    wrapped = f'def f(x):\n{doc}    raise NotImplementedError(\n        "f: assignment1/knn, section 3"\n    )'
    assert tidy(stub) == stub
    assert tidy(wrapped) == wrapped
    for other in ('raise NotImplementedError("abstract")', "raise NotImplementedError", "return x", "raise"):
        assert tidy(f"def f(x):\n{doc}    {other}") == f'def f(x):\n    """First."""\n    {other}'


def test_of_a_class_only_the_method_to_be_written_keeps_it():
    doc = '"""First.\n\n        Second.\n        """'
    stub = f'    def f(self):\n        {doc}\n        raise NotImplementedError("A.f: assignment1/knn, section 3")'
    source = f'class A:\n    """A.\n\n    More.\n    """\n\n{stub}\n\n    def g(self):\n        {doc}'
    assert tidy(source) == f'class A:\n    """A."""\n\n{stub}\n\n    def g(self):\n        """First."""'
