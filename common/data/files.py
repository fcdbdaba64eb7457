"""Checksums, and writing folders whole or not at all: temporary sibling, fsync, rename."""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pooch
from filelock import FileLock

STALE_AFTER = 3600.0  # seconds without a write after which a temporary folder was left by a process that no longer runs


def checksum(path: Path, algorithm: str) -> str:
    """The checksum of a file, written like "sha256:6d95..."."""
    return f"{algorithm}:{pooch.file_hash(str(path), alg=algorithm)}"


def matches(path: Path, size: int, expected: str) -> bool:
    """True if the file is there with this size in bytes and this checksum ("algorithm:digest")."""
    return size_of(path) == size and path.is_file() and checksum(path, expected.partition(":")[0]) == expected


def size_of(path: Path) -> int:
    """Length of a file in bytes, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


@contextmanager
def os_errors_name(place: Path) -> Iterator[None]:
    """Re-raise an operating-system error so that it names the place and the way out.

    Args:
        place: the folder that is being written.
    Raises:
        PermissionError: no permission to write there, or a read-only disk.
        OSError: of the same kind as the original (disk full, not a folder, ...).
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the operating system's: a download error, for example
            raise
        denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        kind = PermissionError if denied else OSError
        raise kind(
            error.errno,
            f"{error.strerror or error} while writing in {place}; nothing half-written was kept. "
            "Make room or give permission there, or set WORKBOOK_DATA to a folder that you can write to",
        ) from error


def publish_folder(target: Path, write: Callable[[Path], None], whole: Callable[[Path], bool]) -> None:
    """Write a folder completely, then give it its name in one step.

    Any number of processes may do this at once: the first to rename wins, the others drop their copy.

    Args:
        target: the folder to appear; one that is there and not whole is replaced.
        write: fills the empty folder that it is given.
        whole: tells whether a folder is complete and current.
    Raises:
        OSError: the disk is full, no permission, ...; the error names `target`, and nothing stays behind.
    """
    with os_errors_name(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        draft = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
        draft.chmod(0o755)  # mkdtemp's 0700 would lock out the other users of a shared data root
        try:
            write(draft)
            _flush(draft)
            _rename_into(draft, target, whole)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _prefix(target: Path) -> str:
    return f".{target.name}.draft-"


def _sweep(target: Path) -> None:
    """Remove drafts in which nothing has changed for an hour: their writer no longer runs."""
    for draft in target.parent.glob(f"{_prefix(target)}*"):
        try:
            newest = max(path.stat().st_mtime for path in (draft, *draft.rglob("*")))
        except OSError:  # it is being renamed at this moment
            continue
        if time.time() - newest > STALE_AFTER:
            shutil.rmtree(draft, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Put every file on the disk before the rename does, or a power cut could leave a whole-looking folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())


def _rename_into(draft: Path, target: Path, whole: Callable[[Path], bool]) -> None:
    """Rename draft to target; where target exists, keep it if it is whole and replace it if not."""
    with FileLock(target.with_name(f".{target.name}.filelock")):  # the system frees it when its process ends
        if target.exists() and whole(target):
            return  # another process was faster
        if target.exists():
            target.rename(draft.with_name(f"{draft.name}-old"))
        draft.rename(target)
    shutil.rmtree(draft.with_name(f"{draft.name}-old"), ignore_errors=True)
