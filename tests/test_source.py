"""Source on the page: what stands in the file now, against inspect where nothing was edited."""

import importlib
import inspect
import os
import sys
import textwrap

import pytest

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
