"""Files: one way to write a file whole or not at all, and one way to read a pickle of arrays without running it.

A pickle is a program; loading it naively runs what it says ("Restricting Globals" in the documentation of
Python's pickle module). The reader here knows the four names that rebuild a NumPy array and refuses all others.
"""

from __future__ import annotations

import io
import os
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb", **options: Any) -> Iterator[Any]:
    """An open file that takes the place of `path` when the block ends without an error.

        with atomic_write("weights.npy") as file:
            np.save(file, W)

    After an error or an interruption, a file that was there before is still there, whole. Folders on the way are made.

    Args:
        path: the file to write.
        mode: "wb", or "w" for text.
        options: of `open`, such as encoding and newline.
    Yields:
        A file beside `path`; its content is on the disk before it gets its name.
    Raises:
        OSError: the disk is full, no permission, ...
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    number, draft = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(number, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)  # mkstemp's 0600 would lock out the other users of a shared folder
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def load_arrays(source: str | os.PathLike | bytes) -> Any:
    """Load a pickle of NumPy arrays, numbers, strings and plain containers; text of Python 2 comes as latin-1.

    Args:
        source: a file, or the bytes of one.
    Returns:
        What was pickled.
    Raises:
        FileNotFoundError: no such file.
        ValueError: the pickle is cut short or damaged, or names something that is not NumPy's; nothing has run.
    """
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        return _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # damaged bytes can raise nearly anything inside the unpickler
        name = "this" if isinstance(source, bytes) else source
        raise ValueError(f"{name} is not a readable pickle of NumPy arrays: {error}") from error


def _text_to_bytes(text: str, encoding: str) -> bytes:
    """Stands for `_codecs.encode`, through which Python 3 writes bytes in the older pickle protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"refused: bytes in the encoding {encoding!r}")
    return text.encode("latin1")


# NumPy moved these from numpy.core to numpy._core in version 2; asking an array for them serves both.
_RECONSTRUCT = np.empty(0).__reduce_ex__(2)[0]
_FROM_BUFFER = np.empty(0).__reduce_ex__(5)[0]
_ADMITTED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _text_to_bytes,
} | {
    (f"numpy.{core}.{module}", function.__name__): function
    for core in ("core", "_core")
    for module, function in (("multiarray", _RECONSTRUCT), ("numeric", _FROM_BUFFER))
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"refused: it asks for {module}.{name}; only NumPy arrays are admitted"
            ) from None
