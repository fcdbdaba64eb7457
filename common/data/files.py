"""Checksums, turns between processes, and writing folders whole: temporary sibling, fsync, rename."""

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pooch
from filelock import FileLock, Timeout

log = logging.getLogger(__name__)
PATIENCE = 900.0  # seconds to wait for another process that writes the same thing; the slowest takes about a minute


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


def lock_of(target: Path) -> Path:
    """The lock file that belongs to a file or folder; it stays there for the next writer."""
    return target.with_name(f".{target.name}.filelock")


@contextmanager
def exclusive(lock: Path, patience: float | None = None) -> Iterator[None]:
    """One process (or thread) at a time is inside. The system frees the lock when its process ends, however it ends.

    Args:
        lock: the lock file; its folder exists.
        patience: seconds to wait for another process; None = `PATIENCE`. That one waits is logged at once.
    Raises:
        OSError: the other did not finish in time, or the lock is something else than a file that can be locked;
            the error names it.
    """
    patience, turn = PATIENCE if patience is None else patience, FileLock(lock)
    try:
        try:
            turn.acquire(timeout=0)
        except Timeout:
            if patience == 0:
                raise
            log.warning("another process is writing the same; waiting for it (%s)", lock)
            turn.acquire(timeout=patience)
    except Timeout:
        raise TimeoutError(
            f"another process has been writing the same for {patience:.0f} s and holds {lock}. End that process, or "
            "remove the file if there is none, and run this again"
        ) from None
    except (OSError, NotImplementedError) as error:
        if lock.is_file() or not lock.exists():
            raise
        raise OSError(f"{lock} has to be a file that can be locked ({error}); remove it and run this again") from error
    try:
        yield
    finally:
        turn.release()


def publish_folder(
    target: Path,
    write: Callable[[Path], None],
    whole: Callable[[Path], bool],
    last: str = "",
    before: Callable[[Path], Iterable[str]] = lambda folder: (),
) -> None:
    """Write a folder completely, then let it appear.

    Any number of processes may do this at once: the first writes, the others wait and find it whole. A folder that is
    new gets its name in one step. In one that is there and not whole, files are replaced one by one, each in one step,
    and files of other names stay: they are somebody's. A link to a folder stays a link.

    Args:
        target: the folder to appear.
        write: fills the empty folder that it is given.
        whole: tells whether a folder is complete and current.
        last: the file that makes the folder whole, which therefore comes last.
        before: names of the files that an earlier writer has left in a folder; those not written again are removed.
    Raises:
        OSError: the disk is full, no permission, ...; the error names `target`, and nothing stays behind.
    """
    with os_errors_name(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.resolve().mkdir(parents=True, exist_ok=True)
        beside = target if target.is_symlink() else target.parent  # on the disk where the files will lie
        with exclusive(lock_of(target)):
            sweep(beside, _prefix(target))
            if target.exists() and whole(target):
                return  # another process was faster
            draft = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=beside))
            draft.chmod(0o755)  # mkdtemp's 0700 would lock out the other users of a shared data root
            try:
                write(draft)
                _flush(draft)
                _install(draft, target, last, before)
            finally:
                shutil.rmtree(draft, ignore_errors=True)


def tidy(target: Path) -> None:
    """Remove what killed writers of a folder have left, if nobody is writing it now and it may be removed."""
    beside = target if target.is_symlink() else target.parent
    if any(beside.glob(f"{_prefix(target)}*")):
        with suppress(OSError), exclusive(lock_of(target), patience=0):
            sweep(beside, _prefix(target))


def sweep(folder: Path, prefix: str) -> None:
    """Remove drafts of processes that were killed. Whoever calls this holds the lock under which drafts are made."""
    for draft in folder.glob(f"{prefix}*"):
        shutil.rmtree(draft, ignore_errors=True)


def _prefix(target: Path) -> str:
    return f".{target.name}.draft-"


def _flush(folder: Path) -> None:
    """Put every file on the disk before the rename does, or a power cut could leave a whole-looking folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())


def _install(draft: Path, target: Path, last: str, before: Callable[[Path], Iterable[str]]) -> None:
    """Move the draft to its place, as a whole where nothing is there, otherwise file by file."""
    if not target.exists():
        draft.rename(target)
        return
    names = sorted((p.relative_to(draft).as_posix() for p in draft.rglob("*") if p.is_file()), key=lambda n: n == last)
    for name in set(before(target)) - set(names):
        (target / name).unlink(missing_ok=True)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(draft / name, target / name)
