"""Fetching published files: several addresses, retry, resume, checksum, and unpacking in one step.

requests does the HTTP transfer and pooch the checksums; what they leave to us is to continue a broken transfer (an
HTTP range request, RFC 9110 section 14), to keep every byte that has arrived, and to leave an address that sends too
much, or next to nothing, for the next one. The checksum has the last word, so a part that came from one address may be
continued from another.
"""

import itertools
import logging
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import requests
from requests.packages.urllib3.exceptions import HTTPError as TransferError

from common.data.files import checksum, exclusive, matches, os_errors_name, publish_folder, size_of, tidy
from common.data.registry import Archive, DataSet
from common.progress import progress

log = logging.getLogger(__name__)
TRIES = 3  # failures in a row at one address before the next one
PAUSE = 1.0  # seconds before going on where bytes came; with failures in a row 2, then 4 times as long
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte
SLOWEST = 2000.0  # bytes a second; an address that sends fewer for as long as PATIENCE is left for the next one
PATIENCE = 60.0  # seconds
OTHERS = 6 * 3600.0  # seconds to wait for another process that fetches the same
CHUNK = 2**20  # bytes read at once at most; what has arrived is written at once


class DownloadError(OSError):
    """No address served the right bytes; the message names file, addresses, reasons and the way out."""


class _WrongBytes(Exception):
    """A complete file, but not the one we want."""


class _TooSlow(requests.RequestException):
    """Bytes come, but so few that another address should be tried."""


class _Pace:
    """Counts the bytes of one address, over all tries."""

    def __init__(self) -> None:
        self.since, self.came = time.monotonic(), 0

    def arrived(self, count: int) -> None:
        """Note so many bytes more.

        Raises:
            _TooSlow: fewer than SLOWEST bytes a second for PATIENCE seconds.
        """
        self.came += count
        if (seconds := time.monotonic() - self.since) > PATIENCE:
            if self.came < SLOWEST * seconds:
                raise _TooSlow(f"too slow: {self.came / seconds:.0f} bytes a second")
            self.since, self.came = time.monotonic(), 0


def fetch(data: DataSet, root: Path) -> Path:
    """Download, verify and unpack one data set; does nothing where it is there and intact.

    Args:
        data: what to fetch.
        root: the data root.
    Returns:
        The folder with the published files.
    Raises:
        DownloadError: no address served the right bytes, or the reader has to put the files there by hand.
        ValueError: an archive holds unsafe members, or not the published files.
        OSError: the files cannot be written; the error names the place.
    """
    folder = root / data.folder
    parts = [_part_of(root / archive.filename) for archive in data.archives]
    if is_intact(data, folder) and not any(part.exists() for part in parts):
        tidy(folder)
        return folder
    if data.by_hand:
        raise DownloadError(f"{data.title} has to be put there by hand: {data.by_hand}")
    with os_errors_name(root):
        root.mkdir(parents=True, exist_ok=True)
    with exclusive(root / f".{data.name}.download.filelock", OTHERS):
        if not is_intact(data, folder):  # another process may have brought it
            paths = [obtain(archive, root) for archive in data.archives]
            publish_folder(folder, lambda draft: _unpack(data, paths, draft), lambda it: is_intact(data, it))
        for part in parts:
            part.unlink(missing_ok=True)
    return folder


def is_intact(data: DataSet, folder: Path) -> bool:
    """True if every published file is in the folder, with its checksum where one is known."""
    return all(_is_published(folder / file, known) for file, known in data.files.items())


def _is_published(path: Path, known: tuple[int, str] | None) -> bool:
    return matches(path, *known) if known else path.is_file()


def obtain(archive: Archive, root: Path) -> Path:
    """The verified archive under the data root: put there by hand, continued, or downloaded.

    Args:
        archive: what to get, and from where.
        root: the data root.
    Returns:
        A file whose checksum has been verified: the one that was put there by hand, or else the `.part` file, which is
        ours and is removed once it is unpacked.
    Raises:
        DownloadError: no address served the right bytes.
        OSError: the disk is full, no permission, ...; what has arrived stays in the `.part` file.
    """
    path = root / archive.filename
    if matches(path, archive.size, archive.checksum):
        return path
    if path.exists():
        aside = _free_name(path.with_name(f"{path.name}.wrong"))
        log.warning("%s is not the published file; set aside as %s", path, aside.name)
        path.replace(aside)
    part, reasons = _part_of(path), []
    for address in archive.addresses:
        log.info("%s (%.1f MB) from %s", path.name, archive.size / 1e6, address)
        try:
            _download(address, archive, part)
            return part
        except (requests.RequestException, _WrongBytes) as reason:
            reasons.append(f"  {address}: {_plainly(reason)}")
            log.warning("failed %s", reasons[-1].strip())
    if size_of(part) == 0:
        part.unlink(missing_ok=True)
    raise DownloadError(
        f"{archive.filename} could not be downloaded:\n" + "\n".join(reasons) + "\n"
        "`make data` tries again and continues where it stopped. Without a network: put the archive, "
        f"from whatever source, at {path} and run `make data`; its checksum is verified first."
    )


def _free_name(path: Path) -> Path:
    """The path, or with a number behind it, so that no file has it."""
    taken = (path.with_name(f"{path.name}.{number}") for number in itertools.count(2))
    return path if not path.exists() else next(name for name in taken if not name.exists())


def _part_of(path: Path) -> Path:
    """Where the bytes that have arrived wait for the others."""
    return path.with_name(f"{path.name}.part")


def _download(address: str, archive: Archive, part: Path) -> None:
    """Bring the file from one address, continuing what is there, and verify it."""
    best, failures, pace = size_of(part), 0, _Pace()
    while True:
        have = size_of(part)
        try:
            if have < archive.size:
                _transfer(address, part, archive.size, pace)
            return _accept(part, archive)
        except _WrongBytes:
            if not have or part.exists():
                raise  # it is this address's fault; otherwise our part may have been wrong: begin again
        except requests.RequestException as reason:
            if _is_final(reason):
                raise
            failures = 0 if size_of(part) > best else failures + 1  # a try that brings bytes is no failure
            best = max(best, size_of(part))
            if failures == TRIES:
                raise
            pace.arrived(0)
            log.info("%s; trying %s again", _plainly(reason), address)
            time.sleep(PAUSE * 2**failures)


def _plainly(reason: Exception) -> str:
    """What went wrong, without the layers of libraries around it."""
    if isinstance(reason, requests.HTTPError):
        return f"HTTP {reason.response.status_code} {reason.response.reason}"
    cause = getattr(reason.args[0] if reason.args else None, "reason", reason)  # urllib3 keeps it there
    return str(cause).partition("): ")[2] or str(cause)


def _is_final(reason: requests.RequestException) -> bool:
    """True for an answer that a second try will not change, such as 403 or 404, and for a drip of bytes."""
    if isinstance(reason, _TooSlow):
        return True
    status = reason.response.status_code if reason.response is not None else 0
    return 400 <= status < 500 and status not in (408, 429)


def _transfer(address: str, part: Path, size: int, pace: _Pace) -> None:
    """Append to the part what the server still has of the file, or start over if it serves it whole only."""
    have = size_of(part)
    headers = {"Accept-Encoding": "identity"}  # or a server may "helpfully" unzip a .tar.gz on the way
    if have:
        log.info("continuing %s at %.1f MB", part.name, have / 1e6)
        headers["Range"] = f"bytes={have}-"
    with (
        requests.get(address, headers=headers, stream=True, timeout=TIMEOUT) as response,
        os_errors_name(part.parent),
        open(part, "ab") as file,
    ):
        response.raise_for_status()
        start = _first_byte(response, have, size)
        file.truncate(start)  # in append mode the next write then begins there
        with progress(total=size, initial=start, unit="B", unit_scale=True, desc=part.stem) as bar:
            for piece in _pieces(response):
                if file.tell() + len(piece) > size:
                    file.truncate(start)
                    raise _WrongBytes(f"wrong bytes: expected a file of {size} bytes, got more")
                file.write(piece)
                file.flush()
                bar.update(len(piece))
                pace.arrived(len(piece))


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as it arrives: what came before a connection dropped is not lost with the rest of a chunk.

    Raises:
        requests.ConnectionError: the connection dropped.
    """
    try:
        while piece := response.raw.read1(CHUNK, decode_content=False):
            yield piece
    except (TransferError, ConnectionError) as error:
        raise requests.ConnectionError(str(error)) from error


def _first_byte(response: requests.Response, have: int, size: int) -> int:
    """Where the answer begins in the file, 0 or have; refuses, before a byte is written, another file."""
    first, total = "0", response.headers.get("Content-Length", "")
    if response.status_code == 206:
        span, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        first = span.partition("-")[0]
    if total.isdecimal() and int(total) != size:  # a login page, an error page, another version
        raise _WrongBytes(f"wrong bytes: expected a file of {size} bytes, got one of {total}")
    if first not in ("0", str(have)):
        raise _WrongBytes(f"wrong bytes: asked for those from {have} on, got those from {first or 'nowhere'} on")
    return int(first)


def _accept(part: Path, archive: Archive) -> None:
    """Return if the part is complete and right; report one that is short; remove one that is wrong."""
    if size_of(part) < archive.size:
        raise requests.ConnectionError(f"the connection closed after {size_of(part)} of {archive.size} bytes")
    if not matches(part, archive.size, archive.checksum):
        got = checksum(part, archive.checksum.partition(":")[0])
        part.unlink()
        raise _WrongBytes(f"wrong bytes: expected {archive.checksum}, got {got}")


def _unpack(data: DataSet, paths: list[Path], draft: Path) -> None:
    """Fill the draft, the data set's folder to be, from its verified archives, and verify every file."""
    if not hasattr(tarfile, "data_filter"):
        raise RuntimeError("unpacking safely needs Python 3.11.4 or newer; please update Python")
    for archive, path in zip(data.archives, paths, strict=True):
        if archive.is_tar:
            _untar(path, data.folder, draft)
        else:
            shutil.copy(path, draft / archive.filename)
    bad = [file for file, known in data.files.items() if not _is_published(draft / file, known)]
    if bad:
        raise ValueError(f"{', '.join(p.name for p in paths)} do not hold the published {', '.join(bad)}")


def _untar(path: Path, folder: str, draft: Path) -> None:
    """Unpack the members below `folder/` into the draft; nothing may land outside it."""
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                tarfile.data_filter(member, str(draft))  # refuses absolute paths, `..`, links out, devices
                inside = Path(member.name).parts
                if member.isfile() and inside[:1] == (folder,):
                    member.name = "/".join(inside[1:])
                    tar.extract(member, draft, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{path}: {error}") from error
