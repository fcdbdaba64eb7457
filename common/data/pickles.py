"""Reading pickles that somebody else wrote: NumPy arrays and plain containers, and nothing else.

A pickle is a program; loading it naively runs what it says ("Restricting Globals" in the documentation of
Python's pickle module). This reader knows the four names that rebuild a NumPy array and refuses all others.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np


def load_arrays(path: str | Path) -> Any:
    """Load a pickle of NumPy arrays, numbers, strings and plain containers; text of Python 2 comes as latin-1.

    Args:
        path: the file.

    Returns:
        What was pickled.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is cut short or damaged, or names something that is not NumPy's; nothing has run.
    """
    with open(path, "rb") as file:
        try:
            return _ArrayUnpickler(file, encoding="latin1").load()
        except Exception as error:  # damaged bytes can raise nearly anything inside the unpickler
            raise ValueError(f"{path} is not a readable pickle of NumPy arrays: {error}") from error


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
