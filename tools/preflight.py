"""Say in one plain sentence what this machine lacks, before pip says it in fifty.

Runs on any Python 3, so that an old one is told so instead of stumbling over syntax.
"""

import shutil
import sys

OLDEST, NEWEST = (3, 11), (3, 14)


def problem(version, importable):
    """The first thing that stops the installation, or None."""
    given = ".".join(map(str, version[:2]))
    if not OLDEST <= tuple(version[:2]) <= NEWEST:
        return (
            "Python {} is not supported: install one of 3.11 to 3.14 and call `make PYTHON=python3.12 ...` "
            "with its name.".format(given)
        )
    if not (importable("venv") and importable("ensurepip")):
        return (
            "This Python cannot make virtual environments: install its venv module, on Debian or Ubuntu "
            "with `sudo apt install python{}-venv`.".format(given)
        )
    return None


def note(on_path):
    """What is missing but can wait, or None."""
    if not any(on_path(name) for name in ("cc", "gcc", "clang", "cl")):
        return (
            "Note: no C compiler found. Everything runs, the fast convolution through slower NumPy code; "
            "to have it compiled, install one (Debian: `sudo apt install build-essential`, "
            "macOS: `xcode-select --install`) and run `make clean` once."
        )
    return None


def _importable(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    fatal = problem(sys.version_info, _importable)
    if fatal:
        sys.exit(fatal)
    if note(shutil.which):
        print(note(shutil.which))
