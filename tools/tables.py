"""Numbers in the READMEs that come from results/full.json: `39.4 %<!-- svm/test_accuracy -->`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from common import results
from common.storage import atomic_write

KEYED = re.compile(rf"(?P<number>[-\d][\d.,e+-]*(?: %)?)<!-- (?P<key>{results.KEY.pattern}) -->")
COMMENT = re.compile(rf"<!-- ({results.WORDS.pattern}/{results.WORDS.pattern}) -->")
PER_CENT = re.compile(r"\d+(?:\.\d+)? %(?P<key><!-- [a-z0-9_]+/[a-z0-9_]+ -->)?")
FULL_COLUMNS = ("full", "result on photographs")  # headings of columns that show results on the published data
# Notebooks whose full runs are recorded with their own issues; their numbers stand in the tables already.
PENDING = ("convolutional_networks", "fully_connected_nets", "pytorch")


def readmes(root: Path) -> list[Path]:
    """The files with tables."""
    return [root / "README.md", *sorted(root.glob("assignment*/README.md"))]


def numbers(root: Path) -> dict[str, int | float]:
    """All recorded numbers by key."""
    rows = results.read_json(root / results.RECORDS).values()
    return {key: value for row in rows for run in row["runs"] for key, value in run["numbers"].items()}


def rewrite(root: Path) -> None:
    """Put the recorded number before every key, where there is a record."""
    recorded = numbers(root)

    def current(match: re.Match) -> str:
        key = match["key"]
        return f"{results.shown(key, recorded[key])}<!-- {key} -->" if key in recorded else match[0]

    for path in readmes(root):
        old = path.read_text(encoding="utf-8")
        new = KEYED.sub(current, old)
        if new != old:
            with atomic_write(path, "w", encoding="utf-8", newline="\n") as file:
                file.write(new)


def complaints(text: str, recorded: dict[str, int | float]) -> Iterator[str]:
    """What is wrong with the numbers of one README.

    Args:
        text: of the file.
        recorded: number by key.
    """
    keyed = {match.end(): match for match in KEYED.finditer(text)}
    for comment in COMMENT.finditer(text):
        key, match = comment[1], keyed.get(comment.end())
        if match is None:
            yield f"there is no number before the key {key}"
        elif key in recorded:
            if match["number"] != results.shown(key, recorded[key]):
                yield f"{key} is {match['number']}, recorded is {results.shown(key, recorded[key])}"
        elif key.partition("/")[0] not in PENDING:
            yield f"{key} has no record"
    yield from (f"{number} in the row of {row} has no key" for row, number in without_key(text))


def without_key(text: str) -> Iterator[tuple[str, str]]:
    """(first cell of the row, number) of every percentage without a key in a column of results on published data."""
    columns: list[int] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            columns = []
        elif found := [place for place, cell in enumerate(cells) if cell in FULL_COLUMNS]:
            columns = found
        elif cells[0] != "chance":
            for number in (n for place in columns for n in PER_CENT.finditer(cells[place]) if not n["key"]):
                yield cells[0], number[0]
