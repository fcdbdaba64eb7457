"""Recorded results: what a run hands over, how it gets to results/, the box, the tables - and the committed records."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from IPython.display import HTML, Markdown
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from common import notebook, results
from tests.notebook_rules import SETUP
from tools import results as tool
from tools import tables
from tools.notebooks import ROOT, notebook_paths
from tools.student import is_blank_edition


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a recorded run of the notebook `svm`."""
    monkeypatch.setenv(results.FOLDER, str(tmp_path / "svm"))
    return tmp_path / "svm"


@pytest.fixture
def learner(tmp_path, monkeypatch):
    """An empty folder to work in, without recording."""
    monkeypatch.delenv(results.FOLDER, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def figure(size=(2, 1)):
    fig, ax = plt.subplots(figsize=size)
    ax.plot([0, 1])
    plt.close(fig)
    return fig


# A run hands over -------------------------------------------------------------------------------------------

BAD_KEYS = [
    "accuracy",
    "svm/",
    "/accuracy",
    "svm/Test",
    "svm/test accuracy",
    "a/b/c",
    "svm/test__accuracy",
    "../x",
    "",
    3,
]
BAD_VALUES = [np.nan, np.inf, -np.inf, np.ones(1), np.ones(()), [0.5], "0.5", None, True, np.True_, 1j, torch.ones(())]


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys_are_named(request, recorded, key):
    request.getfixturevalue("run" if recorded else "learner")
    with pytest.raises(ValueError, match=re.escape(f"key {key!r}")):
        notebook.record(key, 1.0)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("value", BAD_VALUES, ids=repr)
def test_values_that_are_no_plain_number_are_refused(request, recorded, value):
    request.getfixturevalue("run" if recorded else "learner")
    with pytest.raises(ValueError, match=r"svm/loss: a (plain|finite) number is needed"):
        notebook.record("svm/loss", value)


def test_a_learner_notices_nothing(learner, capsys):
    notebook.record("svm/test_accuracy", np.float32(0.5))
    notebook.record("svm/test_accuracy", 0.6)
    notebook.photograph(figure(), "templates")
    assert list(learner.iterdir()) == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (3, 3),
        (np.int64(7), 7),
        (0.25, 0.25),
        (np.float32(0.1), 0.1),
        (1 / 3, 0.333333),
        (np.float64(1234567.0), 1234570.0),
    ],
)
def test_numbers_are_kept_with_what_made_them(run, value, kept):
    results.record("svm/x", value, edition="full", seed=4)
    (number,) = results.read_json(run / "numbers.json").values()
    assert (number["value"], type(number["value"])) == (kept, type(kept))
    assert (number["edition"], number["seed"], number["versions"]["numpy"]) == ("full", 4, np.__version__)
    assert number["versions"]["torch"] == torch.__version__
    assert number["cpu_seconds"] == pytest.approx(results.cpu_seconds(), abs=1)


def test_notebook_notes_the_seed_and_the_edition(run, monkeypatch, capsys):
    monkeypatch.setenv("WORKBOOK_EDITION", "pocket")
    monkeypatch.setattr(notebook, "_about", {"edition": None, "seed": None})
    with plt.rc_context():
        notebook.setup(seed=5)
    notebook.edition("cifar10")
    notebook.record("svm/x", 1)
    (number,) = results.read_json(run / "numbers.json").values()
    assert (number["edition"], number["seed"]) == ("pocket", 5)


def test_a_key_of_another_notebook_or_a_second_time_is_refused(run):
    notebook.record("svm/x", 1)
    with pytest.raises(ValueError, match="'svm/x' was recorded before"):
        notebook.record("svm/x", 1)
    with pytest.raises(ValueError, match="'knn/x' begins with another notebook's name; this run is of 'svm'"):
        notebook.record("knn/x", 1)
    assert list(results.read_json(run / "numbers.json")) == ["svm/x"]


def test_living_children_count():
    """A child says how much processor time it has used, and lives on."""
    work = "import time\nwhile time.process_time() < 0.5: pass\nprint(time.process_time(), flush=True)\ninput()"
    before = results.cpu_seconds()
    with subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        used = float(child.stdout.readline())
        assert results.cpu_seconds() - before > 0.8 * used
        child.communicate(b"\n")
    assert results.cpu_seconds() - before > 0.8 * used  # and those that have ended


def test_figures_are_kept_with_captions(run):
    notebook.photograph(figure((3, 2)), "one_figure", "A line that rises.")
    notebook.photograph(figure(), "two")
    picture = Image.open(run / "figures" / "one_figure.png")
    assert np.allclose(picture.size, 96 * np.array([3, 2]), atol=30)  # the tight box cuts the margins
    assert "Software" not in picture.info
    assert results.read_json(run / "captions.json") == {"one_figure": "A line that rises.", "two": ""}


@pytest.mark.parametrize("name", ["Templates", "a b", "../a", "a.png", "", "a__b"])
def test_bad_names_of_figures(run, name):
    with pytest.raises(ValueError, match=re.escape(f"name {name!r}")):
        notebook.photograph(figure(), name)


def test_only_figures_are_photographed(learner):
    with pytest.raises(TypeError, match="fig has to be a Matplotlib figure, got ndarray"):
        notebook.photograph(np.ones(3), "a")


# From the folder of a run to results/ -----------------------------------------------------------------------


def made_up_tree(root, *cells):
    """A tree with one notebook of two or more cells, and the real common/."""
    (root / "assignment1").mkdir()
    (root / "common").symlink_to(ROOT / "common")
    nb = new_notebook(cells=[new_markdown_cell("# Made up"), new_code_cell(SETUP), *map(new_code_cell, cells)])
    path = root / "assignment1" / "made_up.ipynb"
    nbformat.write(nb, path)
    return path


RECORDS = """\
notebook.record("made_up/test_accuracy", 0.3938)
import matplotlib.pyplot as plt
fig, ax = plt.subplots()
notebook.photograph(fig, "axes", "Two axes & nothing on them.")"""

SEARCHES = """\
import pathlib
from common.search import best, search

def evaluate(x):
    with open("evaluated.txt", "a") as file:
        file.write(f"{x} ")
    if x == 2 and not pathlib.Path("power").exists():
        raise RuntimeError("power cut")
    return {"val": x / 10}

trials = search(evaluate, [{"x": x} for x in range(4)], n_jobs=1)
notebook.record("made_up/best_accuracy", best(trials).scores["val"])"""


@pytest.fixture
def without_pages(monkeypatch):
    monkeypatch.setattr(tool, "write_page", lambda *_: None)


def test_a_notebook_from_end_to_end(tmp_path, without_pages):
    path = made_up_tree(tmp_path, RECORDS)
    assert tool.make(path, root=tmp_path).error == ""
    (entry,) = results.read_json(tmp_path / "results" / "full.json")["made_up"]["runs"]
    assert entry["numbers"] == {"made_up/test_accuracy": 0.3938}
    assert (entry["seed"], entry["edition"]) == (0, None)
    assert entry["command"] == "make results NB=assignment1/made_up.ipynb"
    png = (tmp_path / "results" / "assignment1" / "made_up" / "axes.png").read_bytes()
    described = entry["figures"]["axes"]
    assert (described["bytes"], described["sha256"]) == (len(png), hashlib.sha256(png).hexdigest())
    assert (described["width"], described["height"]) == Image.open(io.BytesIO(png)).size

    sentence, shown = results.box("made_up", tmp_path)
    assert "seed 0" in sentence.data
    assert "| test accuracy | 39.4 % |" in sentence.data
    assert 'alt="Two axes &amp; nothing on them."' in shown.data

    assert tool.make(path, root=tmp_path) is None  # done for the present code
    before = (tmp_path / "results" / "full.json").read_text()
    assert tool.make(path, again=True, root=tmp_path).error == ""
    after = json.loads((tmp_path / "results" / "full.json").read_text())
    after["made_up"]["runs"][0]["cpu_seconds"] = entry["cpu_seconds"]
    assert after == json.loads(before)  # a run made again is equal, down to the bytes of its figures


def test_an_interrupted_notebook_goes_on_and_a_failure_leaves_the_record_whole(tmp_path, without_pages):
    path = made_up_tree(tmp_path, SEARCHES)
    results.write_json(tmp_path / "results" / "full.json", {"knn": {"notebook": "assignment1/knn.ipynb", "runs": []}})
    before = (tmp_path / "results" / "full.json").read_bytes()
    assert tool.make(path, root=tmp_path).error == "RuntimeError: power cut"
    assert (tmp_path / "results" / "full.json").read_bytes() == before
    evaluated = tmp_path / "assignment1" / "evaluated.txt"
    assert evaluated.read_text().split() == ["0", "1", "2"]

    (tmp_path / "assignment1" / "power").touch()
    assert tool.make(path, root=tmp_path).error == ""
    assert evaluated.read_text().split() == ["0", "1", "2", "2", "3"]
    rows = results.read_json(tmp_path / "results" / "full.json")
    assert rows["made_up"]["runs"][0]["numbers"] == {"made_up/best_accuracy": 0.3}
    assert rows["knn"] == {"notebook": "assignment1/knn.ipynb", "runs": []}  # the others stay


def test_other_code_starts_from_scratch(tmp_path):
    folder, path = tmp_path / "run", made_up_tree(tmp_path, "1")
    assert not tool.prepare(folder, tool.fingerprint(path, tmp_path))
    (folder / "trials").mkdir()
    (folder / "done").touch()
    assert tool.prepare(folder, tool.fingerprint(path, tmp_path))
    prose = nbformat.read(path, 4)
    prose.cells[0].source = "# Another title"
    nbformat.write(prose, path)
    assert tool.prepare(folder, tool.fingerprint(path, tmp_path))  # words change no number
    prose.cells[2].source = "2"
    nbformat.write(prose, path)
    assert not tool.prepare(folder, tool.fingerprint(path, tmp_path))
    assert sorted(p.name for p in folder.iterdir()) == ["code.json"]


def test_common_is_part_of_the_code(tmp_path):
    path = made_up_tree(tmp_path, "1")
    before = tool.fingerprint(path, tmp_path)
    (tmp_path / "common").unlink()
    shutil.copytree(ROOT / "common", tmp_path / "common", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    assert tool.fingerprint(path, tmp_path) == before
    with open(tmp_path / "common" / "search.py", "a") as file:
        file.write("# more\n")
    assert tool.fingerprint(path, tmp_path) != before


def entry(command="a", numbers=("made_up/x",), figures=(), value=1):
    about = {"edition": "full", "seed": 0, "cpu_seconds": 1.0, "versions": {}}
    described = {name: {"caption": "", "bytes": size, "sha256": ""} for name, size in dict(figures).items()}
    return about | {"command": command, "numbers": dict.fromkeys(numbers, value), "figures": described}


def test_too_large_figures_are_refused_with_their_sizes(tmp_path):
    path = made_up_tree(tmp_path, "1")
    tool.store(path, entry(), {}, tmp_path)
    before = (tmp_path / "results" / "full.json").read_bytes()
    sizes = {"one": 150_000, "two": 60_000}
    with pytest.raises(tool.Refused, match="may have 200 kB, they have one 150 kB, two 60 kB"):
        tool.store(path, entry(figures=sizes), dict.fromkeys(sizes, b""), tmp_path)
    assert (tmp_path / "results" / "full.json").read_bytes() == before
    assert not (tmp_path / "results" / "assignment1").exists()


def test_noise_is_too_large_for_a_run(tmp_path, without_pages):
    noise = 'notebook.record("made_up/x", 1)\nimport numpy as np\nimport matplotlib.pyplot as plt\n'
    noise += "fig, ax = plt.subplots(figsize=(8, 8))\nax.imshow(np.random.rand(800, 800, 3))\n"
    path = made_up_tree(tmp_path, noise + 'notebook.photograph(fig, "noise")')
    assert "may have 200 kB, they have noise" in tool.make(path, root=tmp_path).error
    assert not (tmp_path / "results").exists()
    assert tool.make(path, root=tmp_path) is not None  # and it is not done


def test_runs_of_other_commands_stay(tmp_path):
    path = made_up_tree(tmp_path, "1")
    tool.store(path, entry("b", ["made_up/x"], {"old": 1}), {"old": b"1"}, tmp_path)
    tool.store(path, entry("a", ["made_up/y"]), {}, tmp_path)
    tool.store(path, entry("b", ["made_up/x"], {"new": 1}, value=2), {"new": b"2"}, tmp_path)
    runs = results.read_json(tmp_path / "results" / "full.json")["made_up"]["runs"]
    assert [(run["command"], run["numbers"]) for run in runs] == [("a", {"made_up/y": 1}), ("b", {"made_up/x": 2})]
    assert [p.name for p in (tmp_path / "results" / "assignment1" / "made_up").iterdir()] == ["new.png"]
    with pytest.raises(tool.Refused, match="another command has recorded made_up/x"):
        tool.store(path, entry("c"), {}, tmp_path)


def test_a_run_made_elsewhere(tmp_path, monkeypatch, capsys):
    path = made_up_tree(tmp_path, "1")
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "find", lambda names: [path])
    monkeypatch.setattr(tool.store, "__defaults__", (tmp_path,))
    monkeypatch.setattr(tool, "rewrite", lambda root: None)
    monkeypatch.setenv(results.FOLDER, str(tmp_path / "far" / "made_up"))
    results.record("made_up/test_accuracy", 0.9, edition="full", seed=1)
    monkeypatch.setattr(sys, "argv", ["", "--take", str(tmp_path / "far"), "--command", "python -m x", "made_up"])
    with pytest.raises(SystemExit) as end:
        tool.main()
    assert not end.value.code
    (run,) = results.read_json(tmp_path / "results" / "full.json")["made_up"]["runs"]
    assert (run["command"], run["numbers"]) == ("python -m x", {"made_up/test_accuracy": 0.9})
    monkeypatch.setattr(sys, "argv", ["", "--take", str(tmp_path), "--command", "python -m x", "made_up"])
    with pytest.raises(SystemExit, match="holds no recorded number"):
        tool.main()
    monkeypatch.setattr(sys, "argv", ["", "--take", str(tmp_path), "made_up"])
    with pytest.raises(SystemExit):
        tool.main()
    assert "--take and --command belong together" in capsys.readouterr().err


def test_a_run_has_one_edition_and_its_figures_a_number(run):
    notebook.photograph(figure(), "alone")
    with pytest.raises(tool.Refused, match="figures but records no number"):
        tool.collect(run, "a")
    results.record("svm/x", 1, edition="full", seed=0)
    assert list(tool.collect(run, "a")[0]["figures"]) == ["alone"]
    results.record("svm/y", 1, edition="pocket", seed=0)
    with pytest.raises(tool.Refused, match="different editions or seeds"):
        tool.collect(run, "a")


def test_optimised_pictures_are_small_and_look_the_same():
    rows = np.linspace(0, 255, 200).astype(np.uint8)
    picture = np.stack([np.tile(rows, (200, 1)), np.tile(rows, (200, 1)).T, np.full((200, 200), 90, np.uint8)], axis=2)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    packed = Image.open(io.BytesIO(tool.optimised(buffer.getvalue()))).convert("RGB")
    assert np.abs(np.asarray(packed, float) - picture).mean() < 8  # of 255 levels: 40,000 colours became 256


# The box ----------------------------------------------------------------------------------------------------


def test_a_box_without_a_record_says_so(tmp_path):
    (sentence,) = results.box("svm", tmp_path)
    assert sentence.data == "No run of `svm` on the full edition has been recorded yet."


def test_a_figure_that_is_not_the_recorded_one(tmp_path):
    path = made_up_tree(tmp_path, "1")
    tool.store(path, entry(figures={"one": 3}), {"one": b"abc"}, tmp_path)
    with pytest.raises(ValueError, match=r"one.png is not the figure that .*full.json names"):
        results.box("made_up", tmp_path)
    (tmp_path / "results" / "assignment1" / "made_up" / "one.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"one.png"):
        results.box("made_up", tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("svm/test_accuracy", 0.3938, "39.4 %"),
        ("softmax/share_of_equal_answers", 0.5, "50.0 %"),
        ("two_layer_net/hidden_units", 1024, "1,024"),
        ("svm/reg", 25000.0, "25,000"),
        ("svm/learning_rate", 3.33333e-07, "3.33e-07"),
        ("svm/loss", 2.30259, "2.3"),
    ],
)
def test_numbers_as_a_reader_wants_them(key, value, text):
    assert results.shown(key, value) == text


# The tables -------------------------------------------------------------------------------------------------

TABLE = """\
# Title

| notebook | full | pocket |
|---|---|---|
| chance | 10.0 % | 10.0 % |
| [svm](svm.ipynb) | 39.4 %<!-- svm/test_accuracy --> with 1,024<!-- svm/units --> units | 39.1 % |
| later | 93.2 %<!-- pytorch/test_accuracy --> | 80.0 % |
"""
NUMBERS = {"svm/test_accuracy": 0.3938, "svm/units": 1024}


def test_a_table_in_order():
    assert list(tables.complaints(TABLE, NUMBERS)) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("39.4 %<", "39.5 %<", "svm/test_accuracy is 39.5 %, recorded is 39.4 %"),
        ("1,024<", "1024<", "svm/units is 1024, recorded is 1,024"),
        ("<!-- svm/test_accuracy -->", "", "39.4 % in the row of [svm](svm.ipynb) has no key"),
        ("<!-- pytorch/test_accuracy -->", "", "93.2 % in the row of later has no key"),
        ("pytorch/test", "knn/test", "knn/test_accuracy has no record"),
        ("svm/units", "svm/unit", "svm/unit has no record"),
        ("1,024<", "many<", "there is no number before the key svm/units"),
    ],
)
def test_a_wrong_number_is_found_out(old, new, says):
    assert TABLE.count(old) == 1
    assert list(tables.complaints(TABLE.replace(old, new), NUMBERS)) == [says]


def test_tables_are_rewritten(tmp_path):
    (tmp_path / "assignment1").mkdir()
    (tmp_path / "README.md").write_text("nothing here")
    readme = tmp_path / "assignment1" / "README.md"
    readme.write_text(TABLE.replace("39.4 %", "12 %").replace("1,024", "9"))
    row = {"notebook": "assignment1/svm.ipynb", "runs": [{"numbers": NUMBERS}]}
    results.write_json(tmp_path / "results" / "full.json", {"svm": row})
    tables.rewrite(tmp_path)
    assert readme.read_text() == TABLE


# What is committed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", tables.readmes(ROOT), ids=lambda path: path.parent.name)
def test_the_tables_agree_with_the_records(path):
    complaints = list(tables.complaints(path.read_text(encoding="utf-8"), tables.numbers(ROOT)))
    assert not complaints, "`python -m tools.results --tables` writes them:\n  " + "\n  ".join(complaints)


def test_notebooks_without_a_record_yet_are_listed():
    """The list only shrinks: who has a record leaves it, who has no number in a table does not belong to it."""
    keyed = {key for path in tables.readmes(ROOT) for key in tables.COMMENT.findall(path.read_text(encoding="utf-8"))}
    recorded = set(results.read_json(ROOT / results.RECORDS))
    assert {key.partition("/")[0] for key in keyed} - recorded == set(tables.PENDING)


def test_the_records_are_whole():
    text = (ROOT / results.RECORDS).read_text(encoding="utf-8")
    rows = json.loads(text)
    assert text == json.dumps(rows, indent=2, sort_keys=True) + "\n"
    wanted = set()
    for stem, row in rows.items():
        assert Path(row["notebook"]).stem == stem
        tool.refuse_large(stem, row["runs"])
        for run in row["runs"]:
            assert {key.partition("/")[0] for key in run["numbers"]} == {stem}
            for name, about in run["figures"].items():
                path = ROOT / results.figure_file(row["notebook"], name)
                assert tool.describe(path.read_bytes(), about["caption"]) == about
                wanted.add(path)
    assert set((ROOT / "results").rglob("*.png")) == wanted


@pytest.mark.parametrize("path", notebook_paths(), ids=lambda path: path.stem)
def test_a_recorded_notebook_has_one_box(path):
    """Below a heading, with the recorded numbers and figures in its output."""
    recorded = path.stem in results.read_json(ROOT / results.RECORDS)
    cells = nbformat.read(path, 4).cells
    places = [i for i, cell in enumerate(cells) if "on_photographs(" in cell.source and cell.cell_type == "code"]
    assert len(places) == recorded
    for place in places:
        assert cells[place].source == f'notebook.on_photographs("{path.stem}")'
        assert cells[place - 1].source.startswith("## On photographs\n")
        if not is_blank_edition(ROOT):
            outputs = [output.data for output in cells[place].outputs]
            shown = [out.get("text/markdown", out.get("text/html")) for out in outputs]
            parts = results.box(path.stem, ROOT)
            assert all(isinstance(part, Markdown | HTML) for part in parts)
            assert shown == [part.data for part in parts], "`make outputs` writes the box anew"
