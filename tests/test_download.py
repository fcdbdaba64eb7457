"""Downloads, against a small HTTP server on this machine that behaves as badly as real ones do."""

import contextlib
import errno
import hashlib
import io
import logging
import subprocess
import sys
import tarfile
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from common.data import __main__ as command
from common.data import download, registry, store
from common.data.registry import Archive, DataSet

BYTES = np.random.RandomState(0).bytes(400_000)  # does not compress, so half an archive is about half of it
FILES = {"toy/pixels.bin": BYTES, "toy/names.txt": b"cat\ndog\n"}


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVE = tar_of(FILES)
HALF = len(ARCHIVE) // 2


def sha256(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Handler(BaseHTTPRequestHandler):
    """Does what the script of the path says, one entry a request; the last entry stays."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        script = self.server.scripts[self.path]
        how = script.pop(0) if len(script) > 1 else script[0]
        wanted = self.headers.get("Range")
        entry = {"path": self.path, "range": wanted, "sent": 0}
        self.server.log.append(entry)
        if isinstance(how, int):
            self.send_error(how)
            return
        body = self.server.content
        other = {"wrong": bytes(len(body)), "short": body[:1000], "long": body + b"!", "page": b"<html>Log in</html>"}
        body = other.get(how.split()[0], body)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and "norange" not in how else 0
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {9 if 'shifted' in how else start}-{len(body) - 1}/{len(body)}")
        if "chunked" in how:
            self.send_header("Connection", "close")  # no length at all: only we can tell that it is short
        else:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = (start + HALF) if "half" in how else start + 1000 if "crumb" in how else len(body)
        step = 20_000 if "slow" in how else 1 if "drip" in how else len(body)
        if "endless" in how:
            with contextlib.suppress(OSError):
                while entry["sent"] < 2 * 10**8:
                    entry["sent"] += self.wfile.write(bytes(10**5))
        for i in range(start, min(end, len(body)), step):
            piece = body[i : min(i + step, end)]
            self.wfile.write(piece)
            entry["sent"] += len(piece)
            if "slow" in how or "drip" in how:
                time.sleep(0.01)
        self.close_connection = True


@pytest.fixture
def server(monkeypatch):
    """A server; `server.at("/a", "half", "right")` scripts a path and returns its address."""
    monkeypatch.setenv("WORKBOOK_QUIET", "1")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.scripts, http.log, http.content = defaultdict(lambda: [404]), [], ARCHIVE

    def at(path, *script):
        http.scripts[path] = list(script)
        return f"http://127.0.0.1:{http.server_port}{path}"

    http.at = at
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield http
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """Registers a data set "toy" with the given addresses; its data root is tmp_path / "root"."""
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "root"))
    monkeypatch.delenv("WORKBOOK_EDITION", raising=False)

    def register(*addresses, archive=ARCHIVE, files=FILES):
        known = {name.partition("/")[2]: (len(content), sha256(content)) for name, content in files.items()}
        entry = Archive("toy.tar.gz", len(archive), sha256(archive), addresses)
        data = DataSet("toy", "Toy", "toy", known, (entry,), pocket="no.such.module", full_note="two files")
        monkeypatch.setitem(registry.DATASETS, "toy", data)
        return tmp_path / "root"

    return register


def fetched(root):
    """What `fetch` must leave behind, and nothing else."""
    files = [p for p in root.rglob("*") if p.is_file() and p.suffix != ".filelock"]
    assert {p.relative_to(root).as_posix(): p.read_bytes() for p in files} == FILES
    return True


def left_in(folder):
    """Names in a folder; the lock files, which stay for the next writer, do not count."""
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".filelock")


def asked(server):
    return [(entry["path"], entry["range"]) for entry in server.log]


# The right bytes, by all kinds of ways ------------------------------------------------------------------------


def test_right_bytes(server, toy):
    root = toy(server.at("/a", "right"))
    assert store.fetch("toy") == root / "toy"
    assert fetched(root) and asked(server) == [("/a", None)]
    assert store.edition("toy") == "full" and store.dataset_dir("toy") == root / "toy"


def test_a_second_fetch_asks_nobody(server, toy):
    root = toy(server.at("/a", "right"))
    store.fetch("toy")
    store.fetch("toy")
    assert fetched(root) and len(server.log) == 1


def test_damaged_file_is_fetched_again(server, toy):
    root = toy(server.at("/a", "right"))
    store.fetch("toy")
    (root / "toy" / "pixels.bin").write_bytes(BYTES[:-1] + b"?")
    store.fetch("toy")
    assert fetched(root) and len(server.log) == 2


@pytest.mark.parametrize("status", [403, 404, 410])
def test_missing_there_then_a_mirror(server, toy, status):
    root = toy(server.at("/a", status), server.at("/b", "right"))
    store.fetch("toy")
    assert fetched(root) and asked(server) == [("/a", None), ("/b", None)]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_server_is_asked_again(server, toy, status):
    root = toy(server.at("/a", status, status, "right"))
    store.fetch("toy")
    assert fetched(root) and len(server.log) == 3


def test_wrong_bytes_then_a_mirror(server, toy):
    root = toy(server.at("/a", "wrong"), server.at("/b", "right"))
    store.fetch("toy")
    assert fetched(root) and asked(server) == [("/a", None), ("/b", None)]


def test_slow_stream(server, toy):
    root = toy(server.at("/a", "slow"))
    store.fetch("toy")
    assert fetched(root) and len(server.log) == 1


# Resuming -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["half", "half chunked"])
def test_dropped_connection_is_continued(server, toy, how):
    root = toy(server.at("/a", how, "right"))
    store.fetch("toy")
    assert fetched(root)
    (_, first), (_, second) = asked(server)
    have = int(second.removeprefix("bytes=").rstrip("-"))
    assert first is None and 0 < have <= HALF
    assert server.log[1]["sent"] == len(ARCHIVE) - have


def test_part_of_an_earlier_day_is_continued(server, toy):
    root = toy(server.at("/a", "right"))
    root.mkdir()
    (root / "toy.tar.gz.part").write_bytes(ARCHIVE[:100_001])
    store.fetch("toy")
    assert fetched(root) and asked(server) == [("/a", "bytes=100001-")]
    assert server.log[0]["sent"] == len(ARCHIVE) - 100_001


def test_part_is_continued_at_a_mirror(server, toy):
    root = toy(server.at("/a", "half", 404), server.at("/b", "right"))
    store.fetch("toy")
    assert fetched(root)
    assert server.log[-1]["path"] == "/b" and server.log[-1]["range"] == server.log[1]["range"] is not None


def test_server_without_ranges_starts_over(server, toy):
    root = toy(server.at("/a", "half", "right norange"))
    store.fetch("toy")
    assert fetched(root) and server.log[1]["range"] and server.log[1]["sent"] == len(ARCHIVE)


def test_server_that_always_drops_and_knows_no_ranges_is_given_up(server, toy):
    root = toy(server.at("/a", "half norange"), server.at("/b", "right"))
    store.fetch("toy")
    assert fetched(root) and sum(entry["path"] == "/a" for entry in server.log) == 1 + download.TRIES


def test_server_that_always_drops_but_continues_gets_there(server, toy, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 1)  # whoever gets further each time is not failing
    big = np.random.RandomState(1).bytes(5 * HALF)
    server.content = archive = tar_of({"toy/pixels.bin": big})
    root = toy(server.at("/a", "half"), archive=archive, files={"toy/pixels.bin": big})
    store.fetch("toy")
    assert (root / "toy" / "pixels.bin").read_bytes() == big and len(server.log) >= 5


@pytest.mark.parametrize("part", [bytes(1000), bytes(len(ARCHIVE)), bytes(2 * len(ARCHIVE))])
def test_part_that_is_not_of_this_file(server, toy, part):
    root = toy(server.at("/a", "right"))
    root.mkdir()
    (root / "toy.tar.gz.part").write_bytes(part)
    store.fetch("toy")
    assert fetched(root) and server.log[-1]["range"] is None


def test_mirror_with_a_shorter_file_does_not_cost_us_our_part(server, toy):
    root = toy(server.at("/a", "short"), server.at("/b", "right"))
    root.mkdir()
    (root / "toy.tar.gz.part").write_bytes(ARCHIVE[:5000])
    store.fetch("toy")
    assert fetched(root) and asked(server) == [("/a", "bytes=5000-"), ("/b", "bytes=5000-")]


@pytest.mark.parametrize("how", ["page norange", "long", "long norange"])
def test_file_of_another_length_is_refused_at_once(server, toy, how):
    root = toy(server.at("/a", how))
    root.mkdir()
    (root / "toy.tar.gz.part").write_bytes(ARCHIVE[:5000])
    with pytest.raises(download.DownloadError, match=f"expected a file of {len(ARCHIVE)} bytes, got one of"):
        store.fetch("toy")
    assert len(server.log) == 1 and (root / "toy.tar.gz.part").read_bytes() == ARCHIVE[:5000]


def test_answer_to_another_range_is_refused(server, toy):
    root = toy(server.at("/a", "shifted"), server.at("/b", "right"))
    root.mkdir()
    (root / "toy.tar.gz.part").write_bytes(ARCHIVE[:5000])
    store.fetch("toy")
    assert fetched(root) and asked(server) == [("/a", "bytes=5000-"), ("/b", "bytes=5000-")]


def test_complete_part_needs_no_network(server, toy):
    root = toy("http://127.0.0.1:9/nobody")
    root.mkdir()
    (root / "toy.tar.gz.part").write_bytes(ARCHIVE)
    store.fetch("toy")
    assert fetched(root)


# Servers that would keep us for ever ------------------------------------------------------------------------------


def test_a_file_of_unknown_length_is_cut_off_at_ours(server, toy):
    root = toy(server.at("/a", "endless chunked"), server.at("/b", "right"))
    store.fetch("toy")
    assert fetched(root) and asked(server) == [("/a", None), ("/b", None)]
    assert server.log[0]["sent"] < 10**7  # what the buffers of the system hold, not 200 MB


def test_a_longer_file_costs_nothing_that_was_there(server, toy):
    root = toy(server.at("/a", "endless chunked"))
    root.mkdir()
    (root / "toy.tar.gz.part").write_bytes(ARCHIVE[:5000])
    with pytest.raises(download.DownloadError, match=f"expected a file of {len(ARCHIVE)} bytes, got more"):
        store.fetch("toy")
    assert (root / "toy.tar.gz.part").read_bytes() == ARCHIVE[:5000]


def test_a_drip_of_bytes_yields_to_the_next_address(server, toy, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 0.3)
    root = toy(server.at("/a", "drip"), server.at("/b", "right"))
    started = time.monotonic()
    store.fetch("toy")
    assert fetched(root) and time.monotonic() - started < 20
    assert [path for path, _ in asked(server)] == ["/a", "/b"]
    assert asked(server)[1][1] not in (None, "bytes=0-")  # the drops were kept


def test_a_drip_over_many_connections_yields_too(server, toy, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 0.3)
    monkeypatch.setattr(download, "SLOWEST", 1e9)
    root = toy(server.at("/a", "crumb"), server.at("/b", 503))
    with pytest.raises(download.DownloadError, match=r"too slow: \d+ bytes a second"):
        store.fetch("toy")
    assert (root / "toy.tar.gz.part").stat().st_size > 0


@pytest.mark.parametrize("how", ["crumb", "crumb chunked"])
def test_drops_after_a_few_bytes_make_progress(server, toy, how):
    content = {"toy/pixels.bin": BYTES[:20_000]}
    server.content = archive = tar_of(content)
    root = toy(server.at("/a", how), archive=archive, files=content)
    assert (store.fetch("toy") / "pixels.bin").read_bytes() == BYTES[:20_000]
    assert len(server.log) == -(-len(archive) // 1000) and left_in(root) == ["toy"]


# Several processes, and what is left behind ------------------------------------------------------------------------


FETCH = """
import sys
from common.data import download, registry, store
archive = registry.Archive("toy.tar.gz", int(sys.argv[2]), sys.argv[3], (sys.argv[1],))
known = {"pixels.bin": (int(sys.argv[4]), sys.argv[5])}
registry.DATASETS["toy"] = registry.DataSet("toy", "Toy", "toy", known, (archive,), pocket="none")
download.PAUSE = 0.0
print(store.fetch("toy"))
"""


def fetching(address):
    """A process that fetches the toy."""
    numbers = [len(ARCHIVE), sha256(ARCHIVE), len(BYTES), sha256(BYTES)]
    command = [sys.executable, "-c", FETCH, address, *map(str, numbers)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_two_processes_fetch_it_once(server, toy):
    address = server.at("/a", "slow")
    root = toy(address)
    both = [fetching(address) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()
        assert out.decode().strip() == str(root / "toy")
    assert fetched(root) and asked(server) == [("/a", None)]


def test_full_disk_while_unpacking_leaves_no_archive_for_ever(server, toy, monkeypatch):
    root = toy(server.at("/a", "right"))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(tarfile.TarFile, "extract", full)
        with pytest.raises(OSError, match="No space left on device while writing"):
            store.fetch("toy")
    assert left_in(root) == ["toy.tar.gz.part"]  # of use to the next fetch, which removes it
    store.fetch("toy")
    assert fetched(root) and len(server.log) == 1


def test_what_a_kill_after_the_last_file_has_left_is_removed(server, toy):
    root = toy(server.at("/a", "right"))
    store.fetch("toy")
    (root / "toy.tar.gz.part").write_bytes(ARCHIVE)
    (root / ".toy.draft-dead").mkdir()
    store.fetch("toy")
    store.fetch("toy")
    assert fetched(root) and left_in(root) == ["toy"] and len(server.log) == 1


def test_every_wrong_archive_is_kept(toy, server):
    root = toy(server.at("/a", "right"))
    root.mkdir()
    for text in ("first", "second", "third"):
        (root / "toy.tar.gz").write_text(text)
        (root / "toy" / "pixels.bin").unlink(missing_ok=True)
        store.fetch("toy")
    kept = [(root / f"toy.tar.gz.wrong{number}").read_text() for number in ("", ".2", ".3")]
    assert kept == ["first", "second", "third"]


def test_what_is_not_ours_in_the_folder_stays(server, toy, tmp_path):
    root = toy(server.at("/a", "right"))
    (tmp_path / "big_disk").mkdir()
    root.mkdir()
    (root / "toy").symlink_to(tmp_path / "big_disk")
    (root / "toy" / "notes.txt").write_text("mine")
    (root / "toy" / "names.txt").write_text("damaged")
    store.fetch("toy")
    assert (root / "toy").is_symlink() and (tmp_path / "big_disk" / "notes.txt").read_text() == "mine"
    found = {p.name: p.read_bytes() for p in (tmp_path / "big_disk").iterdir()}
    assert found == {"pixels.bin": BYTES, "names.txt": b"cat\ndog\n", "notes.txt": b"mine"}


# Without a network ----------------------------------------------------------------------------------------------


def test_offline_error_names_file_addresses_and_command(toy, monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    root = toy("http://127.0.0.1:9/a", "http://127.0.0.1:9/b")
    with pytest.raises(download.DownloadError) as caught:
        store.fetch("toy")
    for word in ("toy.tar.gz", "9/a: Failed to establish", "http://127.0.0.1:9/b", "`make data`", str(root)):
        assert word in str(caught.value)


def test_archive_put_there_by_hand_is_used_and_kept(toy):
    root = toy("http://127.0.0.1:9/nobody")
    root.mkdir()
    (root / "toy.tar.gz").write_bytes(ARCHIVE)
    assert (store.fetch("toy") / "pixels.bin").read_bytes() == BYTES
    assert (root / "toy.tar.gz").exists()


def test_wrong_archive_put_there_by_hand_is_set_aside(server, toy, caplog):
    root = toy(server.at("/a", "right"))
    root.mkdir()
    (root / "toy.tar.gz").write_bytes(b"an error page")
    with caplog.at_level(logging.WARNING, "common.data.download"):
        store.fetch("toy")
    assert (root / "toy" / "pixels.bin").read_bytes() == BYTES
    assert (root / "toy.tar.gz.wrong").read_bytes() == b"an error page" and "set aside" in caplog.text


# Nothing but the right bytes ------------------------------------------------------------------------------------


def test_wrong_bytes_everywhere(server, toy):
    root = toy(server.at("/a", "wrong"), server.at("/b", "wrong"))
    with pytest.raises(download.DownloadError) as caught:
        store.fetch("toy")
    for word in ("toy.tar.gz", "/a", "/b", sha256(ARCHIVE), sha256(bytes(len(ARCHIVE))), "`make data`"):
        assert word in str(caught.value)
    assert left_in(root) == [] and store.edition("toy") == "pocket"


@pytest.mark.parametrize("name", ["../evil.txt", "toy/../../evil.txt", "/evil.txt"])
def test_tar_that_climbs_out(toy, name):
    archive = tar_of(FILES | {name: b"evil"})
    root = toy("http://127.0.0.1:9/nobody", archive=archive)
    root.mkdir()
    (root / "toy.tar.gz").write_bytes(archive)
    if name.startswith("/"):  # the data filter strips the leading slash, and what is left is not in our folder
        store.fetch("toy")
        assert (root / "toy" / "pixels.bin").exists()
    else:
        with pytest.raises(ValueError, match=r"toy\.tar\.gz.*outside"):
            store.fetch("toy")
        assert left_in(root) == ["toy.tar.gz"]
    assert not list(root.parent.rglob("evil.txt"))


def test_tar_with_a_link_out(toy, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        link = tarfile.TarInfo("toy/pixels.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    root = toy("http://127.0.0.1:9/nobody", archive=buffer.getvalue())
    root.mkdir()
    (root / "toy.tar.gz").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="absolute path"):
        store.fetch("toy")
    assert not (root / "toy").exists()


def test_archive_without_the_published_files(toy):
    archive = tar_of({"toy/pixels.bin": BYTES, "elsewhere/names.txt": b"cat\ndog\n"})
    root = toy("http://127.0.0.1:9/nobody", archive=archive)
    root.mkdir()
    (root / "toy.tar.gz").write_bytes(archive)
    with pytest.raises(ValueError, match=r"toy\.tar\.gz do not hold the published names\.txt"):
        store.fetch("toy")
    assert not (root / "toy").exists()


def test_file_that_is_no_archive(server, toy, monkeypatch):
    server.content = BYTES
    single = {"toy/pixels.bin": BYTES}
    root = toy(archive=BYTES, files=single)
    plain = Archive("pixels.bin", len(BYTES), sha256(BYTES), (server.at("/p", "half", "right"),), is_tar=False)
    data = DataSet("toy", "Toy", "toy", {"pixels.bin": (len(BYTES), sha256(BYTES))}, (plain,), pocket="none.such")
    monkeypatch.setitem(registry.DATASETS, "toy", data)
    store.fetch("toy")
    assert [p.relative_to(root).as_posix() for p in root.rglob("*.bin")] == ["toy/pixels.bin"]


def test_full_disk_while_downloading_keeps_the_part(server, toy, monkeypatch):
    root = toy(server.at("/a", "half", 404, "right"))
    with pytest.raises(download.DownloadError):
        store.fetch("toy")
    arrived = (root / "toy.tar.gz.part").stat().st_size

    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "progress", full)
    with pytest.raises(OSError, match="No space left on device while writing") as caught:
        store.fetch("toy")
    assert caught.value.errno == errno.ENOSPC and str(root) in str(caught.value)
    assert not isinstance(caught.value, download.DownloadError)
    assert (root / "toy.tar.gz.part").stat().st_size == arrived > 0


# The command ----------------------------------------------------------------------------------------------------


def test_command_fetches(server, toy, capsys):
    root = toy(server.at("/a", "right"))
    assert command.main(["toy"]) == 0
    assert fetched(root) and f"ok  Toy: {root / 'toy'}" in capsys.readouterr().out


def test_command_reports_failure(server, toy, capsys):
    root = toy(server.at("/a", 404))
    assert command.main(["toy"]) == 1
    error = capsys.readouterr().err
    assert "FAILED  Toy: toy.tar.gz could not be downloaded" in error and "Traceback" not in error
    assert "/a: HTTP 404 Not Found" in error and left_in(root) == []


def test_command_lists(toy, capsys):
    toy("http://127.0.0.1:9/a")
    assert command.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("cifar10" in line and "170.5 MB" in line and "not there" in line for line in lines)


def test_command_with_an_unknown_name(capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(["cifar11"])
    assert caught.value.code == 2 and "unknown data set 'cifar11'; known are: cifar10" in capsys.readouterr().err


def test_every_published_file_has_two_places_at_least():
    for data in registry.DATASETS.values():
        for archive in data.archives:
            assert len(archive.addresses) >= 2 and all(a.startswith("https://") for a in archive.addresses)
