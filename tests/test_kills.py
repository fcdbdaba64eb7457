"""Processes that are killed at random moments: nothing that was there is lost, and the next run leaves nothing stale.

Three kills each; WORKBOOK_KILLS=20 tries twenty.
"""

import json
import multiprocessing
import os
import random
import shutil
import sys
import textwrap
import time

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from common import checkpoint
from common.data import download, registry, store
from tests.test_download import ARCHIVE, FILES, server, sha256  # noqa: F401  (a fixture)
from tests.test_student import tree  # noqa: F401  (a fixture)
from tools import outputs, student

pytestmark = [
    pytest.mark.robustness,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
]
KILLS = int(os.environ.get("WORKBOOK_KILLS", "3"))
dice = random.Random(0)


def start(work, *arguments, **variables):
    """A process (a fork, which needs no time to begin) that does the work; returns it as it begins."""
    fork = multiprocessing.get_context("fork")
    begins = fork.Event()

    def child():
        os.environ.update({name: str(value) for name, value in variables.items()})
        begins.set()
        work(*arguments)

    process = fork.Process(target=child)
    process.start()
    assert begins.wait(60)
    return process


def finish(process):
    """Let a process end by itself; returns the seconds that it took."""
    began = time.monotonic()
    process.join(120)
    assert process.exitcode == 0
    return time.monotonic() - began


def kill_within(process, seconds):
    """End the process at a random moment of its work; returns whether it was still at it."""
    time.sleep(dice.uniform(0, seconds))
    process.kill()
    process.join()
    return process.exitcode != 0


def contents(folder):
    """Name and bytes of every file, hidden ones included, but for the lock files, which stay."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".filelock"
    }


def enough(hits):
    """At least a third of the kills have to have struck while the work was being done, or the test tests nothing."""
    print(f"{hits} of {KILLS} kills struck while the work was being done")
    assert hits * 3 >= KILLS, f"only {hits} of {KILLS} kills were in time"


def draw(folder):
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # edits within a second would be missed
    registry.DATASETS["toy"] = registry.DataSet("toy", "Toy", "toy", {}, (), "artist.draw")
    store.dataset_dir("toy")


ARTIST = """
import time
def write(folder):
    for i in range(20):
        (folder / f"batch_{i}").write_bytes(bytes([i + SHIFT]) * 20_000)
        time.sleep(0.005)
"""


def test_pocket_writing(tmp_path):
    """Every second time another artist is to replace what is there."""
    (tmp_path / "artist").mkdir()
    (tmp_path / "artist/__init__.py").touch()
    data, hits, seconds = tmp_path / "data", 0, 0.3
    mine = data / "pocket/toy/mine.txt"
    variables = {"WORKBOOK_DATA": data, "WORKBOOK_EDITION": "pocket"}
    for trial in range(KILLS):
        (tmp_path / "artist/draw.py").write_text(textwrap.dedent(ARTIST).replace("SHIFT", str(trial)))
        hits += kill_within(start(draw, tmp_path, **variables), seconds)
        assert trial == 0 or mine.read_text() == "mine"
        seconds = max(finish(start(draw, tmp_path, **variables)), 0.2) if trial == 0 else seconds
        finish(start(draw, tmp_path, **variables))
        mine.write_text("mine")
        found = contents(data)
        assert set(found) == {
            f"pocket/toy/{n}" for n in ("mine.txt", "edition.json", *map("batch_{}".format, range(20)))
        }
        assert all(found[f"pocket/toy/batch_{i}"] == bytes([i + trial]) * 20_000 for i in range(20))
    enough(hits)


def fetch(address, root):
    archive = registry.Archive("toy.tar.gz", len(ARCHIVE), sha256(ARCHIVE), (address,))
    known = {name.partition("/")[2]: (len(content), sha256(content)) for name, content in FILES.items()}
    download.fetch(registry.DataSet("toy", "Toy", "toy", known, (archive,), pocket="none"), root)


def test_download(server, tmp_path):  # noqa: F811
    """The server is slow, and drops the connection half-way now and then."""
    hits, seconds = 0, 1.0
    for trial in range(KILLS):
        root = tmp_path / f"root{trial}"
        (root / "toy").mkdir(parents=True)
        (root / "toy/mine.txt").write_text("mine")
        address = server.at(f"/{trial}", "half slow" if trial % 2 else "slow", "slow")
        hits += kill_within(start(fetch, address, root), seconds)
        assert (root / "toy/mine.txt").read_text() == "mine"
        seconds = max(0.2, finish(start(fetch, address, root)))
        assert contents(root) == {"toy/mine.txt": b"mine", **FILES}
    enough(hits)


def write_steps(path):
    for step in range(40):
        checkpoint.write(path, {"kind": "x", "step": step, "W": np.full(500_000, float(step))})


def test_checkpoint(tmp_path):
    """Whenever it is killed, the file holds one whole step, and the next writer removes the draft."""
    path, hits, seconds = tmp_path / "run.pkl", 0, finish(start(write_steps, tmp_path / "run.pkl"))
    for _ in range(KILLS):
        hits += kill_within(start(write_steps, path), seconds)
        saved = checkpoint.read(path, "x")
        np.testing.assert_array_equal(saved["W"], float(saved["step"]))
        checkpoint.write(tmp_path / "other.pkl", {"kind": "x"})
        assert set(contents(tmp_path)) == {"run.pkl", "other.pkl"}
    enough(hits)


def test_make_student(tree, tmp_path):  # noqa: F811
    """Every time the workbook has changed, and every time a learner's files and branches are there."""
    blank, hits = tmp_path / "blank", 0
    for number in range(40):
        (tree / "common" / f"part{number}.py").write_text("x = 1\n")
    seconds = finish(start(student.write_blank_edition, tree, blank))
    mine = {".git/HEAD": b"ref: mine", "datasets/mine.bin": b"1", "common/mine.py": b"2", "build/page.html": b"3"}
    for trial in range(KILLS):
        for name, content in mine.items():
            (blank / name).parent.mkdir(exist_ok=True)
            (blank / name).write_bytes(content)
        for path in [*tree.glob("common/part*.py")][trial % 2 :]:
            path.write_text(f"x = {trial}\n") if trial % 5 else path.unlink()
        (tree / "common" / f"new{trial}.py").write_text("y = 1\n")
        hits += kill_within(start(student.write_blank_edition, tree, blank), seconds)
        assert {name: (blank / name).read_bytes() for name in mine} == mine
        student.write_blank_edition(tree, blank)
        student.write_blank_edition(tree, fresh := tmp_path / "fresh")
        assert contents(blank) == contents(fresh) | mine
        assert sorted(p.name for p in tmp_path.glob(".blank*")) == [".blank.filelock"]
        shutil.rmtree(fresh)
    enough(hits)


def test_make_outputs(tmp_path):
    """The notebook is the old one or the new one, whole; then it is made, and no draft is left."""
    path, hits = tmp_path / "assignment1/tiny.ipynb", 0
    path.parent.mkdir()
    path.write_text(nbformat.writes(new_notebook(cells=[new_code_cell("print('a' * 1000)")])), encoding="utf-8")
    seconds = finish(start(outputs.renew, path))
    made = path.read_bytes()
    for _ in range(KILLS):
        path.write_text(nbformat.writes(new_notebook(cells=[new_code_cell("print('a' * 1000)", id="x")])))
        before = path.read_bytes()
        hits += kill_within(start(outputs.renew, path), seconds)
        assert path.read_bytes() in (before, made) and json.loads(path.read_bytes())
        outputs.renew(path)
        assert contents(tmp_path) == {"assignment1/tiny.ipynb": made}
    enough(hits)
