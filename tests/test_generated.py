"""Trees that a tool writes: what somebody put into one stays, what was edited is refused, and a kill costs nothing."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_student import tree, write  # noqa: F401  (a fixture)
from tools import student
from tools.notebooks import MANIFEST, ROOT, ToolError, source_files

OWN = {
    ".git/HEAD": "ref: refs/heads/mine\n",
    ".git/objects/12/34": "a commit",
    "datasets/mine/pictures.bin": "my pictures",
    "build/report.html": "my report",
    ".venv/pyvenv.cfg": "my environment",
    "vision_workbook/notes.txt": "notes",
    "notes.txt": "notes",
    "common/mine.py": "x = 1\n",
    "common/__pycache__/mine.pyc": "",
    "assignment1/Untitled.ipynb": "{}",
}


@pytest.fixture
def blank(tree, tmp_path):  # noqa: F811
    """A blank edition into which a learner has put files of every kind."""
    folder = tmp_path / "blank"
    student.write_blank_edition(tree, folder)
    for name, text in OWN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "empty").mkdir()
    (folder / "link").symlink_to(tree)
    return folder


def everything(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and not p.is_symlink()
    }


def rewritten(root, folder):
    """The blank edition of `root` as it would be in a new folder."""
    fresh = folder.with_name("fresh")
    student.write_blank_edition(root, fresh)
    return {name: content for name, content in everything(fresh).items() if name != MANIFEST}


def drafts(folder):
    return [p.name for p in folder.parent.glob(f".{folder.name}-*")]


def test_what_a_learner_has_added_stays(blank, tree):  # noqa: F811
    before = everything(blank)
    write(tree / "common/new.py", "y = 2\n")
    write(tree / "common/__init__.py", "# changed\n")
    (tree / "run.sh").unlink()
    student.write_blank_edition(tree, blank)
    after = everything(blank)
    assert {name: after[name].decode() for name in OWN} == OWN
    assert (blank / "empty").is_dir() and (blank / "link").is_symlink()
    assert {name: after[name] for name in after.keys() - OWN.keys() - {MANIFEST}} == rewritten(tree, blank)
    assert after["common/new.py"] == b"y = 2\n" and "run.sh" in before and "run.sh" not in after


@pytest.mark.parametrize("name", [".git/HEAD", "datasets/mine/pictures.bin", "build/report.html", ".venv/pyvenv.cfg"])
def test_what_git_ignores_stays(tree, tmp_path, name):  # noqa: F811
    """These were deleted without a word, since the tool took them for nobody's."""
    student.write_blank_edition(tree, tmp_path / "blank")
    (tmp_path / "blank" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "blank" / name).write_text(OWN[name])
    student.write_blank_edition(tree, tmp_path / "blank")
    assert (tmp_path / "blank" / name).read_text() == OWN[name]


def test_what_stays_is_named(blank, tree, capsys):  # noqa: F811
    assert student.main(["--source", str(tree), "--destination", str(blank)]) == 0
    kept = capsys.readouterr().out.splitlines()[-1].removeprefix("Not written by this command, and left as it is: ")
    assert kept.removesuffix(" ...").split(", ") == [
        ".git/", ".venv/", "assignment1/Untitled.ipynb", "build/", "common/mine.py", "datasets/mine/", "empty/", "link",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["common/new.py", "common/deep/new.py"])
def test_a_file_in_the_place_of_a_new_one_is_refused(blank, tree, name):  # noqa: F811
    mine = blank / ("common/deep" if "deep" in name else name)
    mine.write_text("mine")
    before = everything(blank)
    write(tree / name, "y = 2\n")
    with pytest.raises(ToolError, match=f"holds work that would be lost: {name}; move the folder away"):
        student.write_blank_edition(tree, blank)
    assert everything(blank) == before and drafts(blank) == []


def test_a_folder_behind_a_link_is_not_written(blank, tree, tmp_path):  # noqa: F811
    (blank / "datasets").rename(tmp_path / "big_disk")
    (blank / "datasets").symlink_to(tmp_path / "big_disk")
    student.write_blank_edition(tree, blank)  # nothing in it has changed
    before = everything(tmp_path / "big_disk")
    write(tree / "datasets/README.md", "changed\n")
    with pytest.raises(ToolError, match=r"would be lost: datasets/README\.md"):
        student.write_blank_edition(tree, blank)
    (tree / "datasets/README.md").unlink()
    student.write_blank_edition(tree, blank)
    assert everything(tmp_path / "big_disk") == before


def test_the_work_that_came_while_the_tool_ran_is_refused(blank, tree, monkeypatch):  # noqa: F811
    def typed_meanwhile(new):
        (blank / "common/model.py").write_text("my work")

    monkeypatch.setattr(student, "_add_notes", typed_meanwhile)
    with pytest.raises(ToolError, match=r"would be lost: common/model\.py"):
        student.write_blank_edition(tree, blank)
    assert (blank / "common/model.py").read_text() == "my work"


def test_removed_files_come_back(blank, tree):  # noqa: F811
    (blank / "common/model.py").unlink()
    student.write_blank_edition(tree, blank)
    assert (blank / "common/model.py").is_file()


KILLED = """
import os, sys
from pathlib import Path
from tools import generated, student
replace, count = os.replace, 0
def kills(*places):
    global count
    count += 1
    if count > int(sys.argv[3]):
        os._exit(9)
    replace(*places)
generated.os.replace = kills
student.write_blank_edition(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5])
def test_a_kill_between_two_files_is_made_good(blank, tree, after):  # noqa: F811
    for name in source_files(tree):
        if name.endswith((".py", ".sh", ".md")):
            (tree / name).write_text((tree / name).read_text() + "# changed\n")
    command = [sys.executable, "-c", KILLED, str(tree), str(blank), str(after)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 9
    assert len(drafts(blank)) == 1
    student.write_blank_edition(tree, blank)
    after = everything(blank)
    assert {name: after[name].decode() for name in OWN} == OWN
    assert {name: after[name] for name in after.keys() - OWN.keys() - {MANIFEST}} == rewritten(tree, blank)
    assert drafts(blank) == [] and "coming" not in json.loads(after[MANIFEST])


def test_a_draft_of_an_earlier_version_that_holds_the_old_tree_stays(blank, tree):  # noqa: F811
    for name in ("dead/new", "rescue/old"):
        (blank.parent / f".blank-{name}").mkdir(parents=True)
    student.write_blank_edition(tree, blank)
    assert drafts(blank) == [".blank-rescue"]


def _write_too(root, folder, start, answers):
    start.wait()
    try:
        student.write_blank_edition(Path(root), Path(folder))
        answers.put("written")
    except BaseException as error:
        answers.put(repr(error))


def test_two_at_once_take_turns(blank, tree, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    write(tree / "common/__init__.py", "# changed\n")
    spawn = multiprocessing.get_context("spawn")
    start, answers = spawn.Event(), spawn.Queue()
    workers = [spawn.Process(target=_write_too, args=(str(tree), str(blank), start, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    start.set()
    assert [answers.get(timeout=60) for _ in workers] == ["written"] * 2
    for worker in workers:
        worker.join()
    after = everything(blank)
    assert {name: after[name].decode() for name in OWN} == OWN and drafts(blank) == []
