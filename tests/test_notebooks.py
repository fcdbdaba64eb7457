"""Hygiene of the committed notebooks; and the rules themselves, on a good notebook that is spoilt in every way."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests import notebook_rules as rules
from tests.notebook_rules import RULES, SETUP, Page
from tools.notebooks import ROOT, notebook_paths
from tools.outputs import normalise
from tools.student import is_blank_edition

HOME = "/".join(["", "root", ""])
TEMPORARY = "/".join(["", "tmp", ""])  # a machine's path, in pieces: this file must not hold one itself


@pytest.mark.skipif(is_blank_edition(ROOT), reason="the blank edition has no outputs")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", notebook_paths(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_notebook(path, rule):
    complaints = list(rule(Page(path, path.read_text(encoding="utf-8"))))
    assert not complaints, f"{rule.__doc__}\n  " + "\n  ".join(complaints)


@pytest.mark.skipif(is_blank_edition(ROOT), reason="the blank edition is made from the solved one")
def test_there_are_notebooks():
    assert notebook_paths()


# The rules ---------------------------------------------------------------------------------------------------


def printed(text):
    return new_output("stream", name="stdout", text=text)


def shown(kind, value):
    return new_output("display_data", data={kind: value})


def good():
    """A notebook with which no rule finds fault."""
    figure = {"image/png": "aGVsbG8=", "text/plain": "<Figure size 560x320 with 1 Axes>"}
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell(SETUP),
        new_code_cell("from common.checks import check\nfrom common.data import cifar10, store"),
        new_code_cell('check("a", 1, 1)', outputs=[printed("ok  a  (exactly equal)\n")]),
        new_code_cell("len(cifar10.CLASSES)", outputs=[new_output("execute_result", data={"text/plain": "10"})]),
        new_code_cell("plt.show()", outputs=[new_output("display_data", data=figure)]),
        new_code_cell(
            "timed()", outputs=[printed("0.3 s of https://example.org/home/x\n")],
            metadata={"tags": ["nbval-ignore-output"]},
        ),
    ]  # fmt: skip
    for number, cell in enumerate(cells[1:], 1):
        cell.execution_count = number
    cells[4].outputs[0].execution_count = 4
    return new_notebook(cells=cells)


def complaints(nb, rule, normalised=True):
    path = ROOT / "assignment1" / "knn.ipynb"  # one that the READMEs list
    nb = normalise(nb, path.stem) if normalised else nb
    return list(rule(Page(path, nbformat.writes(nb) + "\n")))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_good_notebook_passes(rule):
    assert complaints(good(), rule) == []


def spoil(place, **changes):
    """Change attributes of one cell."""

    def change(nb):
        for name, value in changes.items():
            setattr(nb.cells[place], name, value)

    return change


def tagged(place, *names):
    return spoil(place, metadata=nbformat.from_dict({"tags": list(names)}))


@pytest.mark.parametrize(
    ("rule", "change", "says"),
    [
        (rules.set_up, spoil(1, source=SETUP + "\n"), "not the set-up cell"),
        (rules.set_up, lambda nb: nb.cells.pop(0), "not the set-up cell"),
        (rules.set_up, spoil(2, source="notebook.setup(1)"), "more than once"),
        (rules.executed, spoil(3, execution_count=7), "not 1 to 6"),
        (rules.executed, spoil(3, execution_count=None), "not 1 to 6"),
        (rules.executed, lambda nb: nb.cells.insert(3, new_code_cell("1")), "not 1 to 7"),
        (rules.executed, lambda nb: nb.cells.reverse(), "not 1 to 6"),
        (rules.executed, spoil(3, outputs=[new_output("error", ename="E", evalue="", traceback=[])]), "an error"),
        (rules.small, spoil(5, outputs=[shown("image/png", "a" * 1_200_000)]), "1.20 MB"),
        (rules.small, lambda nb: [spoil(i, source="x\n" * 9)(nb) for i in (2, 3, 4, 5)], "has 9 lines"),
        (rules.portable, spoil(3, outputs=[printed("in /home/me/workbook\n")]), "/home/"),
        (rules.portable, spoil(3, outputs=[printed(f"{TEMPORARY}ipykernel_123/1.py:3: Warning\n")]), TEMPORARY),
        (rules.portable, spoil(3, outputs=[printed(r"C:\Users\me")]), "Users"),
        (rules.portable, spoil(3, outputs=[shown("text/plain", "<f at 0x7f23a1b2c3d0>")]), "at 0x7f23a1"),
        (rules.portable, spoil(3, source=f'open("{HOME}data")'), HOME),
        (rules.portable, spoil(3, outputs=[shown("text/plain", "np.float64(0.5)")]), "bare NumPy scalar"),
        (rules.portable, spoil(3, outputs=[printed(" 50%|#####     | 5/10")]), "progress bar"),
        (rules.portable, spoil(3, outputs=[printed("5/10 [00:01, 4.2it/s]")]), "progress bar"),
        (rules.portable, spoil(3, outputs=[shown("text/plain", "a\rb")]), "progress bar"),
        (rules.portable, spoil(3, outputs=[shown("image/svg+xml", "<svg/>")]), "svg"),
        (
            rules.portable,
            spoil(3, outputs=[shown("application/vnd.jupyter.widget-view+json", {"model_id": "a"})]),
            "widget-view",
        ),
        (rules.without_traps, spoil(3, source="%%time\nf()"), "timing magic"),
        (rules.without_traps, spoil(3, source="x = 1\n%timeit f()"), "timing magic"),
        (rules.without_traps, spoil(3, source="%load_ext autoreload\n%autoreload 2"), "autoreload"),
        (rules.without_traps, spoil(3, source="!pip install torch"), "an installation"),
        (rules.without_traps, spoil(3, source="plt.plot(x);"), "semicolon"),
        (rules.without_traps, spoil(3, source="plt.plot(x) ;  \n"), "semicolon"),
        (rules.without_traps, spoil(3, source="# NBVAL_IGNORE_OUTPUT\nf()"), "use a tag"),
        (rules.without_traps, spoil(3, source="from IPython.display import clear_output"), "replaced later"),
        (rules.without_traps, spoil(3, source="from tqdm import tqdm"), "notebook.progress"),
        (rules.compared, tagged(3, "nbval-ignore-outputs"), "does not know: nbval-ignore-outputs"),
        (rules.compared, tagged(5, "nbval-skip"), "without a reason"),
        (rules.compared, lambda nb: [tagged(i, "nbval-ignore-output")(nb) for i in (3, 4)], "0 of 3 cells"),
        (rules.compared, tagged(3, "nbval-ignore-output"), "1 of 3 cells"),
        (rules.compared, lambda nb: [spoil(i, outputs=[])(nb) for i in (3, 4, 6)], "0 of 0 cells"),
        (rules.imports_exist, spoil(3, source="from common.checks import chekc"), "common.checks.chekc"),
        (rules.imports_exist, spoil(3, source="from common import nothing"), "common.nothing"),
        (rules.imports_exist, spoil(3, source="import common.nothing"), "common.nothing"),
        (rules.imports_exist, spoil(3, source="from common.nothing import x"), "common.nothing.x"),
        (rules.imports_exist, spoil(3, source="cifar10.load_CIFAR11()"), "common.data.cifar10.load_CIFAR11"),
        (
            rules.imports_exist,
            spoil(3, source="%matplotlib inline\ndef f():\n    store.nothing"),
            "common.data.store.n",
        ),
    ],
)
def test_a_spoilt_notebook_is_found_out(rule, change, says):
    nb = good()
    change(nb)
    found = complaints(nb, rule)
    assert found, "no complaint"
    assert any(says in complaint for complaint in found), found


@pytest.mark.parametrize(
    "change",
    [
        spoil(3, id="f3a9"),
        spoil(3, metadata=nbformat.from_dict({"ExecuteTime": {}})),
        spoil(0, metadata=nbformat.from_dict({"collapsed": True})),
        spoil(3, outputs=[new_output("stream", name="stderr", text="warning")]),
        spoil(5, outputs=[new_output("display_data", data={"text/plain": "a"}, metadata={"needs_background": 1})]),
        lambda nb: nb.metadata.pop("language_info"),
        lambda nb: nb.metadata.language_info.update(version="3.11.7"),
        lambda nb: nb.metadata.kernelspec.update(name="my-kernel"),
    ],
)
def test_only_make_outputs_writes_notebooks(change):
    nb = normalise(good(), "made_up")
    change(nb)
    assert complaints(nb, rules.normal, normalised=False)


ROW = "| [{0}]({0}.ipynb) | what |"


@pytest.mark.parametrize(
    ("above", "beside", "missing"),
    [
        ([ROW.format("assignment1/a")], [ROW.format("a")], []),
        ([], [ROW.format("a")], ["README.md"]),
        ([ROW.format("assignment1/a")], [], ["assignment1/README.md"]),
        (None, None, ["assignment1/README.md", "README.md"]),
        (["[a](assignment1/a.ipynb) outside the table"], [ROW.format("b")], ["assignment1/README.md", "README.md"]),
        ([ROW.format("assignment1/a")] * 2, [ROW.format("a")], ["README.md"]),
        ([ROW.format("assignment2/a")], [ROW.format("a")], ["README.md"]),
    ],
)
def test_a_notebook_without_its_rows_is_found_out(tmp_path, above, beside, missing):
    path = tmp_path / "assignment1" / "a.ipynb"
    path.parent.mkdir()
    for readme, lines in ((tmp_path / "README.md", above), (path.parent / "README.md", beside)):
        if lines is not None:
            readme.write_text("\n".join(["# Title", *lines, ""]), encoding="utf-8")
    found = list(rules.listed(Page(path, "")))
    assert [complaint.split(" ")[0] for complaint in found] == missing


def test_stderr_in_outputs_is_found():
    nb = good()
    nb.cells[3].outputs.append(new_output("stream", name="stderr", text="warning"))
    assert "wrote to stderr" in complaints(nb, rules.portable, normalised=False)[0]


def test_a_skip_with_a_reason_passes():
    nb = good()
    nb.cells[5].source = "# needs a GPU\nrun()"
    tagged(5, "nbval-skip")(nb)
    assert complaints(nb, rules.compared) == []


def test_the_set_up_cell_is_short_and_needs_nothing():
    assert len(SETUP.splitlines()) <= 10
    assert "pip" not in SETUP
    assert "%" not in SETUP
