"""`make data`: download, verify and unpack the full editions."""

import argparse
import logging
import sys

from common.data import store
from common.data.registry import DATASETS, describe


def main(arguments: list[str] | None = None) -> int:
    """Fetch the named data sets, or all of them.

    Args:
        arguments: of the command line; None = sys.argv.
    Returns:
        The exit status: 0, or 1 if something could not be fetched.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.list:
        print("\n".join(_row(name) for name in DATASETS))
        return 0
    try:
        return max(_fetch(name) for name in options.names or _fetchable())
    except KeyboardInterrupt:
        print("stopped; the next `make data` continues here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m common.data",
        description="Download, verify and unpack the full editions of the data sets.",
        epilog="WORKBOOK_DATA moves the data root. A download that was cut off is continued.",
    )
    parser.add_argument("names", nargs="*", type=_known, metavar="NAME", help="data sets (default: all of them)")
    parser.add_argument("--list", action="store_true", help="list the data sets and stop")
    return parser


def _known(name: str) -> str:
    try:
        return describe(name).name
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _row(name: str) -> str:
    data = DATASETS[name]
    size = f"{sum(archive.size for archive in data.archives) / 1e6:8.1f} MB" if data.archives else "    by hand"
    state = "there" if store.is_there(name) else "not there"
    return f"{name:13} {data.title:15} {size}  {state:9}  {data.full_note}"


def _fetchable() -> list[str]:
    """The data sets that can be downloaded; says of the others how they get here."""
    for name, data in DATASETS.items():
        if data.by_hand and not store.is_there(name):
            print(f"--  {data.title} is not downloaded: {data.by_hand}", flush=True)
    return [name for name, data in DATASETS.items() if not data.by_hand]


def _fetch(name: str) -> int:
    try:
        print(f"ok  {DATASETS[name].title}: {store.fetch(name)}", flush=True)
        return 0
    except (OSError, ValueError, RuntimeError) as error:
        print(f"FAILED  {DATASETS[name].title}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
