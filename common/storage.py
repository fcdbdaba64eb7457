"""Files: one way to write a file whole or not at all, and one way to read a pickle of arrays without running it.

A pickle is a program; loading it naively runs what it says ("Restricting Globals" in the documentation of
Python's pickle module). Which functions it may call is only half of it: NumPy's own ones, given wrong arguments, read
and write outside an array. The reader here is Python's own interpreter of pickles with its dangerous instructions
taken out, and it makes arrays itself, from a shape, a numeric dtype and exactly as many bytes as these take.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

DRAFT = ".workbook-draft"


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb", **options: Any) -> Iterator[Any]:
    """An open file that takes the place of `path` when the block ends without an error.

        with atomic_write("weights.npy") as file:
            np.save(file, W)

    After an error or an interruption, a file that was there before is still there, whole. Folders on the way are made.
    What a killed process has left of a file is removed by the next one that writes in the same folder.

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
    _sweep(path.parent)
    number, draft = _new_draft(path)
    held = None if fcntl is None else os.dup(number)  # keeps the lock until the draft has its name
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
    finally:
        if held is not None:
            os.close(held)


def _new_draft(path: Path) -> tuple[int, str]:
    """Number and name of a new open file beside path, locked as long as it is open."""
    while True:
        number, draft = tempfile.mkstemp(prefix=f".{path.name}.", suffix=DRAFT, dir=path.parent)
        if fcntl is not None:
            with suppress(OSError):  # a disk without locks, on which nothing is swept either
                fcntl.flock(number, fcntl.LOCK_EX)
        if os.path.exists(draft):
            return number, draft
        os.close(number)  # swept before it was locked


def _sweep(folder: Path) -> None:
    """Remove drafts that nobody holds any more: the system frees the locks of a process when it ends."""
    for draft in folder.glob(f".*{DRAFT}") if fcntl is not None else ():
        with suppress(OSError), open(draft, "rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink()


def load_arrays(source: str | os.PathLike | bytes) -> Any:
    """Load a pickle of NumPy arrays, numbers, strings and plain containers; text of Python 2 comes as latin-1.

    Args:
        source: a file, or the bytes of one.
    Returns:
        What was pickled.
    Raises:
        FileNotFoundError: no such file.
        ValueError: the pickle is cut short or damaged, or holds something else; nothing of it has run.
    """
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        return _ArrayUnpickler(content).load()
    except Exception as error:  # damaged bytes can raise nearly anything inside the unpickler
        name = "this" if isinstance(source, bytes) else source
        raise ValueError(f"{name} is not a readable pickle of NumPy arrays: {error}") from error


class _Name:
    """A global that a pickle may mention: nothing can be read from it, set on it, or called through it."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name


class _DType:
    """A dtype that a pickle mentions: its kind and size, then, by BUILD, the order of its bytes."""

    __slots__ = ("value",)

    def __init__(self, text: str):
        if not isinstance(text, str) or not re.fullmatch(r"[<>|=]?[biuf]\d{1,2}", text):
            raise pickle.UnpicklingError(f"refused: an array of dtype {text!r}; only numbers are admitted")
        self.value = np.dtype(text)


_ARRAY, _DTYPE, _BYTES, _ENCODE = map(_Name, ("ndarray", "dtype", "bytes", "encode"))
_RECONSTRUCT, _FROM_BUFFER = map(_Name, ("_reconstruct", "_frombuffer"))
_ADMITTED = {
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _DTYPE,
    ("_codecs", "encode"): _ENCODE,  # through this Python 3 writes bytes in the older pickle protocols, ...
    ("builtins", "bytes"): _BYTES,  # ... and through this empty ones
    ("__builtin__", "bytes"): _BYTES,
} | {  # NumPy moved these from numpy.core to numpy._core in version 2
    (f"numpy.{core}.{module}", function.name): function
    for core in ("core", "_core")
    for module, function in (("multiarray", _RECONSTRUCT), ("numeric", _FROM_BUFFER))
}
_KEYS = (str, bytes, int, float, bool, type(None))  # hashing deeply nested tuples would overflow the stack of C
_INSTRUCTIONS = """
PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8
EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT
PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL
"""


class _ArrayUnpickler(pickle._Unpickler):
    """Python's interpreter of pickles (the one in Python, which joblib builds on, too) with fewer instructions.

    Its memo is a dict and its reads are bounded by the file, so no number in a pickle can take memory; what copies
    bytes counts them, so that they cannot be copied over and over.
    """

    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content), encoding="latin1")
        self.room = 4 * len(content) + 2**20
        self.waiting: dict[int, np.ndarray] = {}  # arrays whose BUILD has yet to come, by identity

    def find_class(self, module: str, name: str) -> _Name:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"refused: it asks for {module}.{name}; only NumPy arrays are admitted"
            ) from None

    def refuse(self) -> None:
        raise pickle.UnpicklingError("refused: an instruction that pickles of arrays do not contain")

    def load_bytearray8(self) -> None:
        """Python's own takes the announced memory before it reads."""
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def load_reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if type(args) is not tuple:
            raise pickle.UnpicklingError("refused: a call without a tuple of arguments")
        if function is _RECONSTRUCT and len(args) == 3 and args[0] is _ARRAY and args[1] == (0,):
            result = np.empty(0, np.int8)
            self.waiting[id(result)] = result
        elif function is _DTYPE and 1 <= len(args) <= 3:  # the others say "align" and "copy"
            result = _DType(args[0])
        elif function is _FROM_BUFFER and len(args) == 4:
            result = self.from_buffer(*args)
        elif function is _ENCODE and len(args) == 2 and type(args[0]) is str and args[1] == "latin1":
            result = self.to_bytes(args[0])
        elif function is _BYTES and not args:
            result = b""
        else:
            raise pickle.UnpicklingError("refused: a call that pickles of arrays do not contain")
        self.append(result)

    def load_build(self) -> None:
        """The state of an array or of a dtype; no attribute of anything is set."""
        state, target = self.stack.pop(), self.stack[-1]
        if id(target) in self.waiting and type(state) is tuple and len(state) == 5:
            _, shape, dtype, fortran, data = state
            data = self.to_bytes(data) if type(data) is str else data
            self.waiting.pop(id(target)).__setstate__((1, *_checked(data, dtype, shape), bool(fortran), data))
        elif type(target) is _DType and type(state) is tuple and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            target.value = target.value.newbyteorder(state[1])
        else:
            raise pickle.UnpicklingError("refused: it sets the state of something else than an array")

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _fill(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _fill(self.stack[-1], items)

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        _fill(self.stack[-1], items)

    def from_buffer(self, data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
        """The array of protocol 5: writable if its bytes are."""
        shape, kind = _checked(data, dtype, shape)
        if not data:
            return np.empty(shape, kind)
        return np.frombuffer(data, kind).reshape(shape, order="F" if order == "F" else "C")

    def to_bytes(self, text: str) -> bytes:
        self.room -= len(text)
        if self.room < 0:
            raise pickle.UnpicklingError("refused: it copies the same bytes over and over")
        return text.encode("latin1")


_ArrayUnpickler.dispatch = (
    dict.fromkeys(range(256), _ArrayUnpickler.refuse)
    | {code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in _INSTRUCTIONS.split())}
    | {
        pickle.BYTEARRAY8[0]: _ArrayUnpickler.load_bytearray8,
        pickle.REDUCE[0]: _ArrayUnpickler.load_reduce,
        pickle.BUILD[0]: _ArrayUnpickler.load_build,
        pickle.SETITEM[0]: _ArrayUnpickler.load_setitem,
        pickle.SETITEMS[0]: _ArrayUnpickler.load_setitems,
        pickle.DICT[0]: _ArrayUnpickler.load_dict,
    }
)


def _checked(data: Any, dtype: Any, shape: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype, if the data have exactly the bytes of such an array."""
    fits = type(dtype) is _DType and type(shape) is tuple and len(shape) <= 32 and type(data) in (bytes, bytearray)
    if not fits or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise pickle.UnpicklingError("refused: an array without shape, dtype and bytes")
    if math.prod(shape) * dtype.value.itemsize != len(data):
        raise pickle.UnpicklingError(f"refused: {len(data)} bytes for an array {shape} of {dtype.value}")
    return shape, dtype.value


def _fill(target: Any, items: list) -> None:
    """Put keys and values, which take turns in the list, into a dict."""
    if type(target) is not dict or len(items) % 2 or not all(type(key) in _KEYS for key in items[::2]):
        raise pickle.UnpicklingError("refused: keys of a dict have to be strings or numbers")
    target.update(zip(items[::2], items[1::2], strict=True))
