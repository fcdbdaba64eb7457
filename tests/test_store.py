"""Editions of the data: which one, where, and a pocket edition that is whole or not there."""

import errno
import importlib
import itertools
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from common.data import files, registry, store
from common.data.registry import Archive, DataSet

ARTIST = """
import pathlib, time
def write(folder):
    for i in range(3):
        (folder / f"batch_{i}").write_bytes(bytes([i]) * 5000)
        time.sleep(PAUSE)
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data root, and no wish for any edition."""
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WORKBOOK_QUIET", "1")
    monkeypatch.delenv("WORKBOOK_EDITION", raising=False)
    return tmp_path / "data"


@pytest.fixture
def toy(root, tmp_path, monkeypatch):
    """Registers a data set "toy" whose pocket edition is written by the given source code."""

    def register(source=ARTIST, pause=0):
        package = tmp_path / "path" / "toy_artist"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").touch()
        (package / "draw.py").write_text(textwrap.dedent(source).replace("PAUSE", str(pause)))
        for name in [name for name in sys.modules if name.startswith("toy_artist")]:
            del sys.modules[name]
        monkeypatch.setattr(sys, "dont_write_bytecode", True)  # edits within a second would be missed
        importlib.invalidate_caches()
        monkeypatch.setitem(registry.DATASETS, "toy", toy_set())
        return root / "pocket" / "toy"

    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    yield register
    for name in [name for name in sys.modules if name.startswith("toy_artist")]:
        del sys.modules[name]


def toy_set():
    archive = Archive("toy.tar.gz", 10, "sha256:0", ("https://example.org/toy.tar.gz", "https://example.net/toy"))
    known = {f"batch_{i}": (5000, "md5:0") for i in range(3)}
    return DataSet("toy", "Toy", "toy", known, (archive,), "toy_artist.draw", "three files", "three drawings")


def put_full(root):
    (root / "toy").mkdir(parents=True)
    for i in range(3):
        (root / "toy" / f"batch_{i}").write_bytes(b"published".ljust(5000))


def left_in(folder):
    """Names in a folder; the lock file, which stays for the next writer, does not count."""
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".filelock") if folder.exists() else []


# Where, and which -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "", "  "])
def test_data_root_is_datasets_beside_common(monkeypatch, value):
    monkeypatch.delenv("WORKBOOK_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("WORKBOOK_DATA", value)
    assert store.data_root() == Path(__file__).resolve().parents[1] / "datasets"


def test_data_root_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKBOOK_DATA", "here")
    assert store.data_root() == tmp_path / "here"
    monkeypatch.setenv("WORKBOOK_DATA", "~/data")
    assert store.data_root() == Path.home() / "data"


@pytest.mark.parametrize("value, want", [(None, "auto"), ("", "auto"), ("pocket", "pocket"), (" FULL ", "full")])
def test_requested_edition(monkeypatch, value, want):
    monkeypatch.delenv("WORKBOOK_EDITION", raising=False)
    if value is not None:
        monkeypatch.setenv("WORKBOOK_EDITION", value)
    assert store.requested_edition() == want


@pytest.mark.parametrize("value", ["real", "pocket,full", "0"])
def test_unknown_edition_lists_the_allowed(root, monkeypatch, value):
    monkeypatch.setenv("WORKBOOK_EDITION", value)
    for ask in (store.edition, store.dataset_dir, store.edition_line):
        with pytest.raises(ValueError, match=rf"WORKBOOK_EDITION is '{value}'; allowed are: pocket, full, auto"):
            ask("cifar10")


@pytest.mark.parametrize("ask", [store.edition, store.dataset_dir, store.edition_line, store.fetch, store.is_there])
def test_unknown_data_set_lists_the_known(root, ask):
    with pytest.raises(ValueError, match=r"unknown data set 'cifar11'; known are: .*cifar10"):
        ask("cifar11")


def test_full_without_files_is_an_error_and_writes_nothing(root, monkeypatch):
    monkeypatch.setenv("WORKBOOK_EDITION", "full")
    for ask in (store.edition, store.dataset_dir, store.edition_line):
        with pytest.raises(FileNotFoundError) as caught:
            ask("cifar10")
        for word in (str(root / "cifar-10-batches-py" / "batches.meta"), "https://", "cifar-10-python.tar.gz"):
            assert word in str(caught.value)
        assert "`make data`" in str(caught.value)
    assert not root.exists()


def test_full_with_one_file_missing_names_that_file(root, toy, monkeypatch):
    toy()
    put_full(root)
    (root / "toy" / "batch_1").unlink()
    assert store.edition("toy") == "pocket"
    monkeypatch.setenv("WORKBOOK_EDITION", "full")
    with pytest.raises(FileNotFoundError, match="batch_1 is missing"):
        store.edition("toy")


def test_auto_is_full_once_the_files_are_there(root, toy, monkeypatch):
    target = toy()
    assert store.edition("toy") == "pocket" and store.dataset_dir("toy") == target
    put_full(root)
    assert store.edition("toy") == "full" and store.dataset_dir("toy") == root / "toy"
    monkeypatch.setenv("WORKBOOK_EDITION", "pocket")
    assert store.edition("toy") == "pocket" and store.dataset_dir("toy") == target


def test_asking_for_the_edition_writes_nothing(root, toy):
    toy()
    line = store.edition_line("toy")
    assert line == "Toy, pocket edition (three drawings). For the full edition: `make data`."
    assert not root.exists()


def test_edition_line_of_the_full_edition(root, toy):
    toy()
    put_full(root)
    assert store.edition_line("toy") == (
        "Toy, full edition (three files). For the pocket edition: WORKBOOK_EDITION=pocket."
    )


def copied_into_place(root, size=4999):
    """The pocket edition, whose files are smaller than the published ones, in the place of the full one."""
    shutil.copytree(store.dataset_dir("toy"), root / "toy")
    for path in (root / "toy").glob("batch_*"):
        path.write_bytes(path.read_bytes()[:size])


def test_pocket_files_in_the_place_of_the_full_edition_are_not_taken_for_it(root, toy, monkeypatch):
    toy()
    copied_into_place(root)
    assert store.edition("toy") == "pocket" and not store.is_there("toy")
    line = store.edition_line("toy")
    assert line.startswith("Toy, pocket edition (three drawings). For the full edition: `make data`. In its place: ")
    assert line.endswith(f"{root / 'toy' / 'batch_0'} (4999 bytes) is not the published one (5000 bytes).")
    monkeypatch.setenv("WORKBOOK_EDITION", "full")
    for ask in (store.edition, store.dataset_dir, store.edition_line):
        with pytest.raises(FileNotFoundError, match=r"batch_0 \(4999 bytes\) is not the published one \(5000 bytes\)"):
            ask("toy")


@pytest.mark.parametrize("size", [4999, 5000])
def test_there_a_files_name_alone_says_what_it_must_hold(root, toy, size):
    """Neither a marker that was copied along nor another length makes it a file that nobody knows."""
    toy()
    copied_into_place(root, size)
    with pytest.raises(ValueError, match=r"batch_1 is damaged: expected 5000 bytes with md5:0.*`make data` brings it"):
        store.verify(root / "toy" / "batch_1")


def test_files_of_ones_own_need_a_note(root, toy, monkeypatch):
    toy()
    copied_into_place(root)
    (root / "toy" / store.NOTE).write_text("three drawings of mine")
    assert store.edition("toy") == "full"
    assert "in its place your own: three drawings of mine" in store.edition_line("toy")
    store.verify(root / "toy" / "batch_1")


# Writing the pocket edition -------------------------------------------------------------------------------------


def test_pocket_is_written_once(toy):
    target = toy()
    assert store.dataset_dir("toy") == target
    assert left_in(target) == ["batch_0", "batch_1", "batch_2", store.MARKER]
    before = (target / "batch_0").stat().st_mtime_ns
    assert store.dataset_dir("toy") == target
    assert (target / "batch_0").stat().st_mtime_ns == before and left_in(target.parent) == ["toy"]


def test_one_line_says_what_is_going_on(toy, capsys, monkeypatch):
    toy()
    monkeypatch.setenv("WORKBOOK_QUIET", "0")
    store.dataset_dir("toy")
    store.dataset_dir("toy")
    out, err = capsys.readouterr()
    assert out == "" and err == "Drawing the pocket edition of Toy (once) ...\n"


def test_quiet_is_quiet(toy, capsys):
    toy()
    store.dataset_dir("toy")
    assert capsys.readouterr() == ("", "")


def test_changed_artist_draws_again(toy):
    target = toy()
    store.dataset_dir("toy")
    assert toy(ARTIST.replace("bytes([i])", "bytes([i + 7])")) == target
    store.dataset_dir("toy")
    assert (target / "batch_0").read_bytes() == bytes([7]) * 5000 and left_in(target.parent) == ["toy"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / store.MARKER).unlink(),
        lambda folder: (folder / store.MARKER).write_text('{"artist": "me"'),
        lambda folder: (folder / store.MARKER).write_text("[]"),
        lambda folder: (folder / "batch_2").unlink(),
        lambda folder: (folder / "batch_1").write_bytes(b"half"),
    ],
)
def test_folder_that_is_not_whole_is_drawn_again(toy, damage):
    target = toy()
    damage(store.dataset_dir("toy"))
    store.dataset_dir("toy")
    assert [(target / f"batch_{i}").read_bytes() for i in range(3)] == [bytes([i]) * 5000 for i in range(3)]
    assert left_in(target.parent) == ["toy"]


def test_empty_folder_in_the_way(toy):
    target = toy()
    target.mkdir(parents=True)
    assert (store.dataset_dir("toy") / "batch_0").exists()


def test_nobody_sees_half_an_edition(toy):
    """While the artist works, the folder has no name yet; when it fails, it never gets one."""
    target = toy("""
        def write(folder):
            (folder / "batch_0").write_bytes(b"0")
            assert not (folder.parent / "toy").exists()
            raise KeyboardInterrupt
    """)
    with pytest.raises(KeyboardInterrupt):
        store.dataset_dir("toy")
    assert left_in(target.parent) == []


def test_disk_full_in_the_middle(toy):
    target = toy("""
        import errno
        def write(folder):
            (folder / "batch_0").write_bytes(b"0" * 5000)
            raise OSError(errno.ENOSPC, "No space left on device", str(folder / "batch_1"))
    """)
    with pytest.raises(OSError, match="No space left on device while writing") as caught:
        store.dataset_dir("toy")
    assert caught.value.errno == errno.ENOSPC
    assert str(target) in str(caught.value) and "WORKBOOK_DATA" in str(caught.value)
    assert left_in(target.parent) == []
    toy()  # there is room again
    assert (store.dataset_dir("toy") / "batch_2").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_disk_really_full(toy):
    target = toy("""
        def write(folder):
            (folder / "batch_0").symlink_to("/dev/full")
            (folder / "batch_0").write_bytes(b"0" * 5000)
    """)
    with pytest.raises(OSError, match="No space left on device while writing"):
        store.dataset_dir("toy")
    assert left_in(target.parent) == []


def test_disk_full_at_the_marker_or_the_flush(toy, monkeypatch):
    target = toy()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device while writing"):
        store.dataset_dir("toy")
    assert left_in(target.parent) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_folder_without_permission(toy, monkeypatch, number):
    target = toy()

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.tempfile, "mkdtemp", refuse)
    with pytest.raises(PermissionError, match="WORKBOOK_DATA") as caught:
        store.dataset_dir("toy")
    assert str(target) in str(caught.value) and left_in(target.parent) == []


def test_folder_really_without_permission(toy, root):
    toy()
    root.mkdir()
    root.chmod(0o500)
    try:
        if os.access(root, os.W_OK):
            pytest.skip("permissions do not bind this user (root)")
        with pytest.raises(PermissionError, match="WORKBOOK_DATA"):
            store.dataset_dir("toy")
    finally:
        root.chmod(0o700)


def test_data_root_that_is_a_file(toy, root):
    toy()
    root.write_text("not a folder")
    with pytest.raises(OSError, match="WORKBOOK_DATA"):
        store.dataset_dir("toy")
    assert root.read_text() == "not a folder"


def test_drafts_of_the_dead_are_swept_at_once(toy):
    """Drafts are made under a lock that ends with its process: whoever holds it knows that the others are dead."""
    target = toy()
    dead = target.parent / ".toy.draft-dead"
    dead.mkdir(parents=True)
    (dead / "batch_0").write_bytes(b"0")
    store.dataset_dir("toy")
    assert left_in(target.parent) == ["toy"]


# Several processes at once --------------------------------------------------------------------------------------


def _generate(start, answers):
    registry.DATASETS["toy"] = toy_set()
    start.wait()
    try:
        folder = store.dataset_dir("toy")
        answers.put((str(folder), sorted((p.name, p.read_bytes()[:1]) for p in folder.glob("batch_*"))))
    except BaseException as error:
        answers.put(("failed", repr(error)))
        raise


@pytest.mark.parametrize("before", ["nothing", "stale"])
def test_two_processes_at_once(toy, before, monkeypatch, tmp_path):
    if before == "stale":
        toy(ARTIST.replace("bytes([i])", "bytes([9])"))
        store.dataset_dir("toy")
    target = toy(pause=0.05)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "path"), str(Path(__file__).parents[1])]))
    spawn = multiprocessing.get_context("spawn")
    start, answers = spawn.Event(), spawn.Queue()
    workers = [spawn.Process(target=_generate, args=(start, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    start.set()
    got = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert got == [(str(target), [(f"batch_{i}", bytes([i])) for i in range(3)])] * 2
    assert left_in(target.parent) == ["toy"]


def test_the_loser_of_the_race_uses_the_winners_copy(tmp_path):
    target, first_is_in = tmp_path / "toy", threading.Event()

    def write(folder):
        first_is_in.set()
        time.sleep(0.3)
        (folder / "theirs").touch()

    winner = threading.Thread(target=files.publish_folder, args=(target, write, lambda folder: False))
    winner.start()
    first_is_in.wait(5)
    files.publish_folder(
        target, lambda folder: (folder / "mine").touch(), whole=lambda folder: (folder / "theirs").exists()
    )
    winner.join()
    assert left_in(target) == ["theirs"] and left_in(tmp_path) == ["toy"]


def test_a_slow_holder_keeps_its_turn(tmp_path):
    """Two writers at once: while the first is still deciding, however long, the second waits."""
    (tmp_path / "toy").mkdir()
    first_is_in, inside, together = threading.Event(), [], []

    def slow(folder):
        inside.append(folder)
        together.append(len(inside))
        first_is_in.set()
        time.sleep(0.5)
        inside.remove(folder)
        return False

    def publish():
        files.publish_folder(tmp_path / "toy", lambda folder: (folder / "mine").touch(), slow)

    writers = [threading.Thread(target=publish) for _ in range(3)]
    for writer in writers:
        writer.start()
        first_is_in.wait(5)
    for writer in writers:
        writer.join()
    assert together == [1, 1, 1]
    assert left_in(tmp_path / "toy") == ["mine"]


def test_a_writer_that_was_killed_in_its_turn_stops_nobody(tmp_path):
    killed = """
        import os, pathlib, sys
        from common.data import files
        target = pathlib.Path(sys.argv[1], "toy")
        target.mkdir()
        files.publish_folder(target, lambda folder: None, lambda folder: os._exit(3))
    """
    command = [sys.executable, "-c", textwrap.dedent(killed), str(tmp_path)]
    assert subprocess.run(command, timeout=60, check=False).returncode == 3
    started = time.monotonic()
    files.publish_folder(tmp_path / "toy", lambda folder: (folder / "mine").touch(), whole=lambda folder: False)
    assert time.monotonic() - started < 5
    assert left_in(tmp_path / "toy") == ["mine"]


HOLD = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_turn_that_does_not_come_ends_with_an_error_that_names_the_lock(toy, monkeypatch, caplog):
    target = toy()
    target.parent.mkdir(parents=True)
    lock = target.with_name(".toy.filelock")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    )
    try:
        holder.stdout.readline()
        monkeypatch.setattr(files, "PATIENCE", 0.2, raising=False)
        with pytest.raises(OSError, match=rf"another process has been writing the same for 0 s and holds {lock}"):
            store.dataset_dir("toy")
        assert f"waiting for it ({lock})" in caplog.text  # said at once, not after the time is up
    finally:
        holder.kill()
        holder.wait()
    assert (store.dataset_dir("toy") / "batch_0").exists()  # the system has freed it


@pytest.mark.parametrize("kind", ["folder", "from the future", "not writable"])
def test_a_lock_that_is_strange_is_used_or_named(toy, kind):
    target = toy()
    target.parent.mkdir(parents=True)
    lock = target.with_name(".toy.filelock")
    if kind == "folder":
        lock.mkdir()
        with pytest.raises(OSError, match=re.escape(str(lock))):
            store.dataset_dir("toy")
        return
    lock.write_text("left by somebody")
    if kind == "from the future":
        os.utime(lock, (time.time() + 10**6,) * 2)
    else:
        lock.chmod(0o444)
    assert (store.dataset_dir("toy") / "batch_0").exists()


# What is somebody else's ------------------------------------------------------------------------------------------


def test_healing_keeps_what_is_not_ours(toy, tmp_path):
    target = toy()
    store.dataset_dir("toy")
    (target / "notes").mkdir()
    (target / "notes" / "mine.txt").write_text("mine")
    (target / "batch_1").unlink()
    assert (store.dataset_dir("toy") / "batch_1").read_bytes() == bytes([1]) * 5000
    assert (target / "notes" / "mine.txt").read_text() == "mine"
    toy(ARTIST.replace("range(3)", "range(2)"))  # what an earlier artist drew is ours
    store.dataset_dir("toy")
    assert left_in(target) == ["batch_0", "batch_1", store.MARKER, "notes"]


def test_a_link_to_a_folder_stays_a_link(toy, tmp_path):
    target, disk = toy(), tmp_path / "big_disk"
    disk.mkdir()
    target.parent.mkdir(parents=True)
    target.symlink_to(disk)
    store.dataset_dir("toy")
    (disk / "batch_1").unlink()
    assert (store.dataset_dir("toy") / "batch_1").exists()
    assert target.is_symlink() and left_in(disk) == ["batch_0", "batch_1", "batch_2", store.MARKER]
    assert left_in(target.parent) == ["toy"]


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_healing_that_was_killed_is_made_good(toy, monkeypatch, after):
    """A file appears whole or not at all, and the marker, which vouches for all, comes last."""
    target = toy()
    store.dataset_dir("toy")
    toy(ARTIST.replace("bytes([i])", "bytes([i + 7])"))
    replace, count = os.replace, itertools.count()

    def kill(*places):
        if next(count) >= after:
            raise KeyboardInterrupt
        replace(*places)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(files.os, "replace", kill)
        store.dataset_dir("toy")
    store.dataset_dir("toy")
    assert [(target / f"batch_{i}").read_bytes()[:1] for i in range(3)] == [b"\7", b"\x08", b"\x09"]


@pytest.mark.parametrize(
    "marker",
    ["", "[]", '{"files": 1}', '{"artist": "ARTIST"}', '{"artist": "ARTIST", "files": {"batch_0": 5000}}',
     '{"artist": "ARTIST", "files": {"batch_0": ["many", "sha256:0"]}}', '{"artist": "ARTIST", "files": ["batch_0"]}',
     '{"artist": "ARTIST", "files": {"../../precious": [0, "sha256:0"]}}'],
)  # fmt: skip
def test_a_malformed_marker_is_drawn_anew(toy, root, marker):
    target = toy()
    artist = json.loads((store.dataset_dir("toy") / store.MARKER).read_text())["artist"]
    (root / "precious").touch()
    (target / store.MARKER).write_text(marker.replace("ARTIST", artist))
    assert (store.dataset_dir("toy") / "batch_2").exists() and (root / "precious").exists()
    assert json.loads((target / store.MARKER).read_text())["files"]["batch_0"][0] == 5000


# Checksums ------------------------------------------------------------------------------------------------------


def test_flipped_bit_in_the_pocket_edition_is_named(toy):
    path = toy() / "batch_1"
    store.dataset_dir("toy")
    store.verify(path)
    path.write_bytes(bytes([1]) * 4999 + bytes([3]))
    with pytest.raises(ValueError, match=r"batch_1 is damaged: expected 5000 bytes with sha256:.*drawn anew"):
        store.verify(path)


def test_flipped_bit_in_the_full_edition_is_named(toy, root):
    toy()
    put_full(root)
    (root / "toy" / "batch_1").write_bytes(bytes(5000))
    with pytest.raises(ValueError, match=r"batch_1 is damaged: .*`make data` brings it again"):
        store.verify(root / "toy" / "batch_1")


def test_files_nobody_knows_are_not_judged(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(b"a small fixture")
    store.verify(tmp_path / "data_batch_1")
    store.verify(tmp_path / "not there")
