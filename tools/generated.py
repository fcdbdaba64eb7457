"""Trees that a tool generates, such as the blank edition: written whole, and never over somebody's work."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from common.data.files import exclusive, lock_of
from tools.notebooks import BUILT, MANIFEST, ToolError

CACHES = {"__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".ruff_cache", ".hypothesis"}


@contextmanager
def generated_tree(destination: Path, source: Path, **notes: Any) -> Iterator[Path]:
    """A new empty folder whose files take their places in `destination` when the block ends without an error.

    Nothing is lost. Only files that this function has written and nobody has edited are replaced or removed; an edited
    one, or another's in the place of a new one, is refused by name before anything is changed; everything else in the
    destination stays. After an error the old tree is still there. A process that is killed between two files leaves
    some new and some old ones, all known to the manifest, and the next run completes them.

    Args:
        destination: folder to write.
        source: the tree that is read, which the destination must not contain.
        notes: what else the manifest is to hold, by name.

    Yields:
        The folder to fill.

    Raises:
        ToolError: the destination may not be written; the message says why.
        OSError: the disk is full, another process writes the same, ...
    """
    destination = destination.absolute()
    _refuse_places(destination, source.resolve())
    destination.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(lock_of(destination)):
        _refuse_edited(destination, written(destination))
        _sweep(destination)
        work = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
        try:
            (work / "new").mkdir()
            yield work / "new"
            _take_places(work / "new", destination, {"note": "written by a tool; edit elsewhere", **notes})
        finally:
            shutil.rmtree(work, ignore_errors=True)


def written(destination: Path) -> dict[str, set[str]]:
    """The files that `generated_tree` has written to a folder: name -> the checksums that an unedited one can have.

    Raises:
        ToolError: the folder has files, but none of ours.
    """
    if not destination.exists() or not any(destination.iterdir()):
        return {}
    try:
        manifest = json.loads((destination / MANIFEST).read_text(encoding="utf-8"))
        files, coming = manifest["files"], manifest.get("coming", {})  # the latter where the writer was killed
        return {name: {files.get(name), coming.get(name)} - {None} for name in files.keys() | coming.keys()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ToolError(f"{destination} is not empty and was not written by this command; move it away") from None


def left_alone(destination: Path) -> list[str]:
    """What a destination holds beside the files of the manifest, a folder without any of them by its name alone."""
    names = written(destination)
    own = {MANIFEST, *names} | {str(parent) for name in names for parent in PurePosixPath(name).parents}
    found = []
    for folder, folders, files in os.walk(destination):
        here = Path(folder).relative_to(destination)
        links = [f for f in folders if (Path(folder) / f).is_symlink()]
        found += [n for f in [*files, *links] if (n := (here / f).as_posix()) not in own and not f.endswith(BUILT)]
        strange = [f for f in folders if f not in links and (here / f).as_posix() not in own]
        found += [f"{(here / f).as_posix()}/" for f in strange if f not in CACHES and not f.endswith(BUILT)]
        folders[:] = [f for f in folders if f not in strange]
    return sorted(found)


def _sweep(destination: Path) -> None:
    """Remove the drafts of killed processes; those of earlier versions of this tool may hold the old tree in `old`."""
    for work in destination.parent.glob(f".{destination.name}-*"):
        if not (work / "old").exists():
            shutil.rmtree(work, ignore_errors=True)


def _take_places(new: Path, destination: Path, notes: dict[str, Any]) -> None:
    """Move the new files into the destination and remove those that the last run wrote and this one did not."""
    coming = {p.relative_to(new).as_posix(): _checksum(p) for p in sorted(new.rglob("*")) if p.is_file()}
    before = written(destination)
    if not before and (not destination.exists() or not any(destination.iterdir())):
        _write_manifest(new, new, notes | {"files": coming})
        if destination.exists():
            destination.rmdir()
        new.rename(destination)
        return
    _refuse_edited(destination, before, coming)
    old = json.loads((destination / MANIFEST).read_text(encoding="utf-8"))
    _write_manifest(destination, new, old | {"coming": coming})
    for name, checksum in coming.items():
        if not (destination / name).is_file() or _checksum(destination / name) != checksum:
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(new / name, destination / name)
    for name in before.keys() - coming.keys():
        if (destination / name).is_file() and not _through_link(destination, name):
            (destination / name).unlink()
            _remove_empty((destination / name).parent, destination)
    _write_manifest(destination, new, notes | {"files": coming})


def _remove_empty(folder: Path, destination: Path) -> None:
    """Remove a folder, and those around it, as far as they are empty now."""
    while folder != destination and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _write_manifest(folder: Path, draft: Path, content: dict[str, Any]) -> None:
    """Write the manifest of a folder in one step, by way of a draft."""
    (draft / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(draft / MANIFEST, folder / MANIFEST)


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _refuse_places(destination: Path, source: Path) -> None:
    if destination.is_symlink() or (destination.exists() and not destination.is_dir()):
        raise ToolError(f"{destination} is not a folder; name another destination")
    if destination.resolve() in (source, *source.parents):
        raise ToolError(f"{destination} contains the source tree {source}; name another destination")


def _refuse_edited(destination: Path, before: dict[str, set[str]], coming: dict[str, str] | None = None) -> None:
    """Raise ToolError if a file of the last run was edited, or if something else has the place of a coming one."""
    lost = []
    for name in sorted(before.keys() | (coming or {}).keys()):
        path, wanted = destination / name, (coming or {}).get(name)
        if _through_link(destination, name):  # another folder's files, which are neither replaced nor removed
            fine = wanted is None or (path.is_file() and _checksum(path) == wanted)
        elif path.is_file():
            fine = _checksum(path) in before.get(name, set()) | {wanted}
        else:
            fine = not os.path.lexists(path) and not any(folder.is_file() for folder in path.parents)
        lost += [] if fine else [name]
    if lost:
        raise ToolError(
            f"{destination} holds work that would be lost: {', '.join(lost[:5])}{' ...' if lost[5:] else ''}; "
            "move the folder away (or remove it) and run again"
        )


def _through_link(destination: Path, name: str) -> bool:
    return any((destination / folder).is_symlink() for folder in list(PurePosixPath(name).parents)[:-1])
