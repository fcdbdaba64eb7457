"""Editions of the data sets: which one is in use, where it lies, and the pocket edition when it is not there yet.

Every data set exists as *pocket* (drawn or copied on this machine, no network) and as *full* (the published
files, `make data`). `WORKBOOK_EDITION` = pocket | full | auto chooses; `WORKBOOK_DATA` moves the data root.
Nothing here downloads anything except `fetch`.
"""

import ast
import hashlib
import importlib
import json
import os
import sys
from importlib import resources
from pathlib import Path

from tqdm.auto import tqdm

from common.data import download
from common.data.files import checksum, matches, publish_folder, size_of, tidy
from common.data.registry import DATASETS, DataSet, describe
from common.progress import quiet

EDITIONS = ("pocket", "full", "auto")
NOTE = "note.txt"  # in the place of published files: one line that says what a folder of one's own holds
MARKER = "edition.json"  # written last; a pocket folder without it, or at odds with it, is not whole
ANOTHER = "is not the published one"
COMMAND = "`make data` (or `python -m common.data {name}`)"


def data_root() -> Path:
    """The folder under which all data lies: `WORKBOOK_DATA`, or `datasets/` beside `common/`."""
    chosen = os.environ.get("WORKBOOK_DATA", "").strip()
    return Path(chosen).expanduser().absolute() if chosen else Path(__file__).resolve().parents[2] / "datasets"


def requested_edition() -> str:
    """The value of `WORKBOOK_EDITION`: "pocket", "full" or "auto" (the default).

    Raises:
        ValueError: the variable holds another word.
    """
    chosen = os.environ.get("WORKBOOK_EDITION", "").strip().lower() or "auto"
    if chosen not in EDITIONS:
        raise ValueError(f"WORKBOOK_EDITION is {chosen!r}; allowed are: {', '.join(EDITIONS)}")
    return chosen


def edition(name: str) -> str:
    """The edition of a data set that is in use.

    Args:
        name: a data set, e.g. "cifar10".
    Returns:
        "pocket" or "full". Under "auto" it is "full" exactly if the published files are there.
    Raises:
        ValueError: unknown data set or unknown `WORKBOOK_EDITION`.
        FileNotFoundError: `WORKBOOK_EDITION=full` and a file is missing, or is another; never a silent fallback.
    """
    data, wanted = describe(name), requested_edition()
    if wanted == "pocket":
        return "pocket"
    lacking = _lacking(data)
    if lacking and wanted == "full":
        raise FileNotFoundError(
            f"WORKBOOK_EDITION=full, but {lacking[0]}. {_remedy(data)}; WORKBOOK_EDITION=pocket works without"
        )
    return "pocket" if lacking else "full"


def _remedy(data: DataSet) -> str:
    """How the published files get here."""
    if data.by_hand:
        return f"To get it, {data.by_hand}"
    return f"{COMMAND.format(name=data.name)} downloads it from {data.addresses[0]}"


def is_there(name: str) -> bool:
    """True if the published files of a data set are under the data root (of their bytes only the number is asked)."""
    return not _lacking(describe(name))


def dataset_dir(name: str) -> Path:
    """The folder with the files of the edition in use; writes the pocket edition first if it is not there.

    Args:
        name: a data set, e.g. "cifar10".
    Returns:
        An existing folder.
    Raises:
        ValueError, FileNotFoundError: as `edition`.
        PermissionError, OSError: the pocket edition cannot be written; the error names the place.
    """
    data = describe(name)
    return data_root() / data.folder if edition(name) == "full" else _pocket_dir(data)


def edition_line(name: str) -> str:
    """One line for a notebook: which edition it runs on and how to get the other."""
    data = describe(name)
    if os.environ.get("WORKBOOK_SINGLE_FILE"):
        return _single_file_line(data)
    if edition(name) == "full":
        return f"{data.title}, {full_words(name)}. For the pocket edition: WORKBOOK_EDITION=pocket."
    other = "put its files there by hand (datasets/README.md)" if data.by_hand else "`make data`"
    line = f"{data.title}, pocket edition ({data.pocket_note}). For the full edition: {other}."
    strange = [reason for reason in _lacking(data) if ANOTHER in reason]
    return f"{line} In its place: {strange[0]}." if strange else line


def own_note(name: str) -> str:
    """What stands in the place of a data set's published files if they are not these, "" if they are."""
    path = data_root() / describe(name).folder / NOTE
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def full_words(name: str) -> str:
    """What the full edition holds: the published files, or a folder of one's own in their layout."""
    note = own_note(name)
    return f"in its place your own: {note}" if note else f"full edition ({describe(name).full_note})"


def _single_file_line(data: DataSet) -> str:
    """The edition line where there is no `make`: two lines to paste, and what they start."""
    if edition(data.name) == "full":
        return (
            f"{data.title}, {full_words(data.name)}, with the long budgets named at the top. "
            'Back to the drawings: os.environ["WORKBOOK_EDITION"] = "pocket"'
        )
    if data.by_hand:
        return f"{data.title}, pocket edition ({data.pocket_note}). For the full edition, {data.by_hand}."
    megabytes = sum(archive.size for archive in data.archives) / 1e6
    return (
        f"{data.title}, pocket edition ({data.pocket_note}). For the published data ({megabytes:.0f} MB) run these two "
        "lines in a new cell below the set-up, then everything after it; the budgets are then the long ones named at "
        "the top:\n"
        f'    from common.data import store; store.fetch("{data.name}")\n'
        '    import os; os.environ["WORKBOOK_EDITION"] = "full"'
    )


def fetch(name: str) -> Path:
    """Download, verify and unpack the full edition; does nothing where it is there and intact.

    Args:
        name: a data set, e.g. "cifar10".
    Returns:
        The folder with the published files.
    Raises:
        ValueError: unknown data set.
        common.data.download.DownloadError: no address served the right bytes; the message says what to do.
        PermissionError, OSError: the files cannot be written; the error names the place.
    """
    return download.fetch(describe(name), data_root())


def verify(path: str | Path, must_be_known: bool = False) -> None:
    """Compare a data file with the checksum known for it, if one is known.

    Known are the files of a pocket edition (from its marker) and published files: in their place by name, elsewhere by
    name and size.

    Args:
        path: a file of a data set.
        must_be_known: a file without a known checksum is an error, too: what it holds could run code.
    Raises:
        ValueError: the bytes are not those that were written or published.
    """
    path = Path(path)
    known = _known(path)
    if known is None and must_be_known:
        raise ValueError(f"{path} ({size_of(path)} bytes) is not the published file; it is not read")
    if known is None:
        return
    size, expected = known
    if not matches(path, size, expected):
        drawn = _placed(path) is None and _read_marker(path.parent) is not None
        again = "run this again and it is drawn anew" if drawn else "`make data` brings it again"
        raise ValueError(
            f"{path} is damaged: expected {size} bytes with {expected}, found {size_of(path)} bytes with "
            f"{checksum(path, expected.partition(':')[0])}. Delete {path.parent}; {again}"
        )


def _lacking(data: DataSet) -> list[str]:
    """Of each published file that is not under the data root, why not; a note vouches for files of one's own."""
    folder = data_root() / data.folder
    known = data.files if not own_note(data.name) else dict.fromkeys(data.files)
    absent = [f"{folder / file} is missing" for file in known if not (folder / file).is_file()]
    sizes = [(folder / file, entry[0]) for file, entry in known.items() if entry and (folder / file).is_file()]
    others = [f"{p} ({size_of(p)} bytes) {ANOTHER} ({size} bytes)" for p, size in sizes if size_of(p) != size]
    return absent + others


def _placed(path: Path) -> DataSet | None:
    """The data set whose published files belong where this file lies."""
    return next((d for d in DATASETS.values() if path.absolute().parent == data_root() / d.folder), None)


def _known(path: Path) -> tuple[int, str] | None:
    """Size and checksum that a data file has to have, None if we know of none."""
    data = _placed(path)
    if data and not own_note(data.name):  # in the place of the published files the name alone decides, ...
        return data.files.get(path.name)
    marker = None if data else _read_marker(path.parent)
    return marker["files"].get(path.name) if marker else _published(path)  # ... elsewhere the length, too


def _published(path: Path) -> tuple[int, str] | None:
    """Size and checksum of a published file that has this file's name and length."""
    size = size_of(path)
    known = [data.files[path.name] for data in DATASETS.values() if path.name in data.files]
    return next((entry for entry in known if entry and entry[0] == size), None)


# The pocket edition ------------------------------------------------------------------------------------------


def _pocket_dir(data: DataSet) -> Path:
    """The folder of the pocket edition, written first unless a whole one by the present artist is there."""
    target = data_root() / "pocket" / data.folder
    artist = _artist(data)
    if not _is_whole(target, artist):
        if not quiet():
            tqdm.write(f"Drawing the pocket edition of {data.title} (once) ...", file=sys.stderr)
        publish_folder(
            target, lambda folder: _write(data, artist, folder), lambda it: _is_whole(it, artist), MARKER, _listed
        )
    tidy(target)
    return target


def _artist(data: DataSet) -> str:
    """A fingerprint of the code that writes the pocket edition: when the code changes, so does the edition."""
    return hashlib.sha256(repr((data.pocket, sorted(_sources(data.pocket).items()))).encode()).hexdigest()[:16]


def _sources(module: str) -> dict[str, bytes]:
    """Source of a module and of what it imports from its own package, directly or through others, by file name."""
    package = module.rpartition(".")[0]
    files = {f.name: f.read_bytes() for f in resources.files(package).iterdir() if f.name.endswith(".py")}
    found, waiting = {}, [module]
    while waiting:
        file = f"{waiting.pop().removeprefix(package + '.')}.py"
        if file in files and file not in found:
            found[file] = files[file]
            waiting += _imports(files[file])
    return found


def _imports(source: bytes) -> list[str]:
    """Full names of the modules, and of the names taken from modules, that a source imports anywhere."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _write(data: DataSet, artist: str, folder: Path) -> None:
    """Let the artist fill the folder, then write the marker with the sizes and checksums of what is there."""
    importlib.import_module(data.pocket).write(folder)
    files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    sums = {name: (path.stat().st_size, checksum(path, "sha256")) for name, path in files.items()}
    (folder / MARKER).write_text(json.dumps({"artist": artist, "files": sums}, indent=1))


def _read_marker(folder: Path) -> dict | None:
    """Artist and files (name -> size and checksum) of a pocket edition; None without a marker, or with a bad one."""
    try:
        marker = json.loads((folder / MARKER).read_text())
        files = {name: (int(size), str(expected)) for name, (size, expected) in marker["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # absent, cut short, or not ours
        return None
    outside = [name for name in files if Path(name).is_absolute() or ".." in Path(name).parts]
    return None if outside else {"artist": marker.get("artist"), "files": files}


def _listed(folder: Path) -> list[str]:
    """The files that the present or an earlier artist has written to a folder."""
    marker = _read_marker(folder)
    return list(marker["files"]) if marker else []


def _is_whole(folder: Path, artist: str) -> bool:
    """True if the marker is there, was left by this artist, and every file has the size it tells."""
    marker = _read_marker(folder)
    if marker is None or marker["artist"] != artist:
        return False
    try:
        return all((folder / file).stat().st_size == size for file, (size, _) in marker["files"].items())
    except OSError:
        return False
