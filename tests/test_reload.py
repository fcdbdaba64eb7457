"""Edit and run: what a cell sees after a file of the package has changed."""

import importlib
import os
import sys
import textwrap

import pytest

from common import reload

MODEL = """
    from contextlib import contextmanager
    from book.helpers import scale

    RATE = 1

    def double(x):
        return 2 * scale(x)

    class Base:
        def name(self):
            return "base"

    class Net(Base):
        kind = "old"

        def __init__(self, width):
            self.width = width

        def name(self):
            return super().name() + " net"

        @property
        def area(self):
            return self.width

        @staticmethod
        def zero():
            return 0

        def gone(self):
            return "still here"

    @contextmanager
    def ready(value):
        yield value

    def build(width, kind=Net, *, other=Net):
        return kind(width), other(width)

    class Row:
        def __init__(self, kind=Net):
            self.net = kind(1)

    KINDS = {"wide": {"kind": Net}, "all": [Net], "pair": (Net, 1)}
"""
HELPERS = "def scale(x):\n    return x\n"


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A small package on the path; `edit(name, old, new)` changes a file as an editor does."""
    monkeypatch.setattr(reload, "PACKAGE", "book")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "book"
    folder.mkdir()
    for name, text in (("__init__", ""), ("helpers", HELPERS), ("model", textwrap.dedent(MODEL))):
        (folder / f"{name}.py").write_text(text)
    importlib.import_module("book.model")

    def edit(name, old, new):
        path = folder / f"{name}.py"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        later = path.stat().st_mtime_ns + 1_000_000_000  # the clock of a file system may be coarse
        os.utime(path, ns=(later, later))

    yield edit
    for name in [name for name in sys.modules if name.partition(".")[0] == "book"]:
        del sys.modules[name]


def test_nothing_changed_nothing_done(book, capsys):
    assert reload.Reloader().refresh() == []
    assert capsys.readouterr() == ("", "")


def test_functions_that_were_imported_by_name_follow(book, capsys):
    from book.model import double

    reloader = reload.Reloader()
    book("model", "2 * scale(x)", "3 * scale(x)")
    assert double(5) == 10
    assert reloader.refresh() == ["book.model"] and reloader.refresh() == []
    assert double(5) == 15
    assert capsys.readouterr().err == "reloaded book/model.py\n"


def test_other_modules_follow(book):
    from book.model import double

    reloader = reload.Reloader()
    book("helpers", "return x", "return 10 * x")
    reloader.refresh()
    assert double(5) == 100


def test_instances_follow(book):
    from book.model import Base, Net

    net, reloader = Net(3), reload.Reloader()
    book("model", '" net"', '" network"')
    book("model", "return self.width", "return self.width**2")
    book("model", "return 0", "return 0.0")
    book("model", 'kind = "old"', 'kind = "new"')
    book("model", "def gone", "def come")
    reloader.refresh()
    assert net.name() == "base network" and net.area == 9 and net.kind == "new" and net.come() == "still here"
    assert isinstance(net.zero(), float) and not hasattr(net, "gone")
    assert sys.modules["book.model"].Net is Net and isinstance(net, Base)


def test_a_method_that_is_new_finds_super(book):
    from book.model import Net

    net, reloader = Net(1), reload.Reloader()
    book(
        "model",
        "def gone(self):\n        return",
        "def gone(self):\n        return super().name()\n\n    def old(self):\n        return",
    )
    book("model", "    kind =", "    def fresh(self):\n        return super().name()\n\n    kind =")
    reloader.refresh()
    assert net.fresh() == net.gone() == "base"


def test_tables_and_defaults_mention_the_class_that_stays(book):
    from book.model import KINDS, Net, Row, build

    reloader = reload.Reloader()
    book("model", '" net"', '" new net"')
    reloader.refresh()
    import book.model as model

    made = [*build(2), Row().net, Row(model.KINDS["wide"]["kind"]).net, KINDS["all"][0](1), model.KINDS["pair"][0](1)]
    assert [type(net) for net in made] == [Net] * 6
    assert model.Net is Net and {net.name() for net in made} == {"base new net"}  # super() finds its class, too


def test_decorated_functions_follow(book):
    from book.model import ready

    reloader = reload.Reloader()
    book("model", "yield value", "yield 2 * value")
    reloader.refresh()
    with ready(4) as value:
        assert value == 8


def test_a_syntax_error_keeps_the_code_that_worked(book, capsys):
    from book.model import double

    reloader = reload.Reloader()
    book("model", "return 2 * scale(x)", "return 2 * (scale(x)")
    assert reloader.refresh() == [] and double(5) == 10
    said = capsys.readouterr().err
    assert "book/model.py: SyntaxError, line" in said and "the code from before this edit is still in use" in said
    book("model", "return 2 * (scale(x)", "return 4 * scale(x)")
    assert reloader.refresh() == ["book.model"] and double(5) == 20


def test_an_error_while_it_is_executed_leaves_the_module_whole(book, capsys):
    reloader, module = reload.Reloader(), sys.modules["book.model"]
    before = dict(vars(module))
    book("model", "RATE = 1", "RATE = 1 / 0")
    assert reloader.refresh() == []
    assert vars(module) == before and "ZeroDivisionError" in capsys.readouterr().err


def test_a_name_that_is_new_in_another_module(book):
    """model comes first in sys.modules, but needs what helpers has just got."""
    reloader = reload.Reloader()
    book("helpers", "def scale", "def shift(x):\n    return x + 1\n\n\ndef scale")
    book("model", "import scale", "import scale, shift")
    book("model", "2 * scale(x)", "shift(x)")
    assert sorted(reloader.refresh()) == ["book.helpers", "book.model"]
    assert sys.modules["book.model"].double(5) == 6


def test_a_module_imported_later_is_remembered_after_its_cell(book, tmp_path):
    reloader = reload.Reloader()
    (tmp_path / "book/late.py").write_text("value = 1\n")
    late = importlib.import_module("book.late")
    reloader.remember()
    book("late", "1", "2")
    assert reloader.refresh() == ["book.late"] and late.value == 2


def test_a_submodule_stays_an_attribute_of_its_package(book):
    import book as package

    reloader = reload.Reloader()
    path = reload._files()["book"]
    path.write_text("answer = 42\n")
    reloader.refresh()
    assert package.answer == 42 and package.model is sys.modules["book.model"]


def test_cells_of_ipython_see_the_edit(book):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        reload.install()
        reload.install()  # once is enough
        shell.run_cell("from book.model import double\nfirst = double(1)")
        book("model", "2 * scale(x)", "7 * scale(x)")
        shell.run_cell("second = double(1)")
        assert (shell.user_ns["first"], shell.user_ns["second"]) == (2, 7)
        assert shell.events.callbacks["pre_run_cell"].count(shell.workbook_reloader.refresh) == 1
    finally:
        InteractiveShell.clear_instance()


def test_outside_ipython_nothing_happens():
    reload.install()
