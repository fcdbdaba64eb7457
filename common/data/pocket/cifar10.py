"""The pocket CIFAR-10: ten kinds of drawings, 32 x 32, written in the layout of the published python batches."""

import pickle
import struct
from pathlib import Path

import numpy as np

from common.data.pocket import animals, scenes, vehicles
from common.data.pocket.canvas import Canvas, Dice, Pen

CLASSES = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LABEL_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCH_SIZE, TRAIN_BATCHES = 2000, 5
SIZE = 32

_DRAW = (vehicles.plane, vehicles.car, animals.bird, animals.cat, animals.deer, animals.dog, animals.frog,
         animals.horse, vehicles.ship, vehicles.truck)
_COUNTRY = {scenes.meadow: 45, scenes.wood: 30, scenes.road: 10, scenes.plain: 15}
_PLACES = (
    {scenes.sky: 55, scenes.sea: 10, scenes.road: 12, scenes.meadow: 13, scenes.plain: 10},
    {scenes.road: 55, scenes.meadow: 18, scenes.room: 7, scenes.plain: 12, scenes.wood: 8},
    {scenes.sky: 22, scenes.sea: 18, scenes.wood: 25, scenes.meadow: 20, scenes.plain: 15},
    {scenes.room: 50, scenes.meadow: 18, scenes.road: 12, scenes.plain: 20},
    _COUNTRY,
    {scenes.room: 32, scenes.meadow: 33, scenes.road: 15, scenes.plain: 20},
    {scenes.meadow: 30, scenes.wood: 25, scenes.sea: 20, scenes.plain: 25},
    _COUNTRY,
    {scenes.sea: 80, scenes.sky: 5, scenes.plain: 15},
    {scenes.road: 58, scenes.meadow: 20, scenes.plain: 14, scenes.wood: 8},
)


def draw(label: int, rng: np.random.RandomState) -> np.ndarray:
    """Draw one picture of a class.

    Args:
        label: 0..9, in the order of `CLASSES`.
        rng: where the pose, the colours, the background and the noise come from.

    Returns:
        (32, 32, 3) uint8, red, green, blue.

    Raises:
        ValueError: if label is not in 0..9.
    """
    if not 0 <= label < len(CLASSES):
        raise ValueError(f"label must be in 0..{len(CLASSES) - 1}, got {label}")
    canvas, dice = Canvas(SIZE), Dice(rng)
    scenes.paint(canvas, dice, _PLACES[label])
    canvas.start_object()
    _DRAW[label](_pose(canvas, dice, label), dice)
    canvas.finish_object(dice.choice((None, (30, 28, 32), (30, 28, 32), (60, 50, 45), (240, 238, 230))))
    return _photograph(canvas.picture(), dice)


def _pose(canvas: Canvas, dice: Dice, label: int) -> Pen:
    """Where the object stands, how large, how much turned, and which way it looks."""
    scale = dice.between(62, 98)
    room = 104 - scale
    turn = dice.between(-28, 28) if CLASSES[label] in ("plane", "bird") else dice.between(-9, 9)
    return Pen(canvas, dice.between(-room, room), dice.between(-room, room), scale, turn,
               flip=dice.chance(50), stretch=dice.between(86, 114))


def _photograph(picture: np.ndarray, dice: Dice) -> np.ndarray:
    """Light, shrink, blur, expose and grain a fine picture, all in whole numbers."""
    k = picture.shape[0] // SIZE
    small = picture.reshape(SIZE, k, SIZE, k, 3).sum(axis=(1, 3), dtype=np.int64)  # k * k times the colour
    ramp = np.arange(SIZE) * 2 - SIZE + 1
    light = 1000 + dice.between(-5, 5) * ramp[:, None] + dice.between(-5, 5) * ramp  # thousandths
    small = small * light[:, :, None] // (1000 * k * k)
    if dice.chance(35):
        small = _blur(small)
    tint = np.array([dice.between(90, 110) for _ in range(3)]) * dice.between(70, 120)  # ten-thousandths
    small = (small - 128) * tint // 10000 + 128 + dice.between(-32, 32)
    grain = dice.between(1, 7)
    noise = dice.rng.randint(-grain, grain + 1, size=(2, SIZE, SIZE, 3), dtype=np.int64).sum(axis=0)
    return np.clip(small + noise, 0, 255).astype(np.uint8)


def _blur(picture: np.ndarray) -> np.ndarray:
    """The 1-2-1 filter along rows and columns, edges repeated."""
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) // 16


def pictures(seed: int, split: int, labels: np.ndarray, start: int = 0) -> np.ndarray:
    """Draw a run of pictures, each from its own random stream, so the order of drawing does not matter.

    Args:
        seed: the edition's seed, 0..2**32-1.
        split: 0 train, 1 test.
        labels: (N,) class numbers.
        start: the first picture's place in its split.

    Returns:
        (N, 3072) uint8: the 1,024 red values row by row, then green, then blue.
    """
    data = np.empty((len(labels), 3 * SIZE * SIZE), dtype=np.uint8)
    for i, label in enumerate(labels):
        rng = np.random.RandomState([seed, split, start + i])
        data[i] = draw(int(label), rng).transpose(2, 0, 1).reshape(-1)
    return data


def split_labels(seed: int, split: int) -> np.ndarray:
    """The labels of a split, (N,) int64: every class equally often, shuffled."""
    count = BATCH_SIZE * (TRAIN_BATCHES if split == 0 else 1)
    return np.random.RandomState([seed, split]).permutation(np.arange(count) % len(CLASSES))


def write(folder: Path, seed: int = 2007) -> None:
    """Write data_batch_1..5, test_batch and batches.meta into a folder.

    The files have the published layout (Krizhevsky, 2009), with 2,000 pictures a batch instead of 10,000.

    Args:
        folder: where; made if missing.
        seed: another seed draws other pictures; 0..2**32-1.

    Raises:
        OSError: as the file system reports it; files written so far stay.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in ((0, TRAIN_BATCHES), (1, 1)):
        labels = split_labels(seed, split)
        for b in range(count):
            part = labels[b * BATCH_SIZE : (b + 1) * BATCH_SIZE]
            data = pictures(seed, split, part, b * BATCH_SIZE)
            title = f"training batch {b + 1} of {count}" if split == 0 else "testing batch 1 of 1"
            names = [f"{LABEL_NAMES[c]}_p_{b * BATCH_SIZE + i:06d}.png" for i, c in enumerate(part)]
            fields = {"batch_label": title, "labels": [int(c) for c in part], "data": data, "filenames": names}
            name = f"data_batch_{b + 1}" if split == 0 else "test_batch"
            (folder / name).write_bytes(stream(fields))
    meta = {"num_cases_per_batch": BATCH_SIZE, "label_names": list(LABEL_NAMES), "num_vis": 3 * SIZE * SIZE}
    (folder / "batches.meta").write_bytes(stream(meta))


def stream(fields: dict) -> bytes:
    """A protocol-2 pickle with the opcodes of the published files (strings are Python 2's).

    Written by hand because `pickle.dumps` would name NumPy's modules differently from version to version; this
    way the bytes never change, and `encoding="latin1"` and `encoding="bytes"` both work as on the real files.

    Args:
        fields: str keys; values str, int, lists of these, or an (N, D) uint8 array.
    """
    body = b"".join(_value(key) + _value(value) for key, value in fields.items())
    return pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + pickle.MARK + body + pickle.SETITEMS + pickle.STOP


def _value(value) -> bytes:
    if isinstance(value, str):
        return pickle.SHORT_BINSTRING + bytes([len(value)]) + value.encode("ascii")
    if isinstance(value, int):
        if 0 <= value < 256:
            return pickle.BININT1 + bytes([value])
        return pickle.BININT + struct.pack("<i", value)
    if isinstance(value, list):
        return pickle.EMPTY_LIST + pickle.MARK + b"".join(map(_value, value)) + pickle.APPENDS
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        return _array(value)
    raise TypeError(f"fields must hold str, int, lists or uint8 arrays, got {type(value).__name__}")


def _array(array: np.ndarray) -> bytes:
    """What ndarray.__reduce__ gives: _reconstruct(ndarray, (0,), 'b'), then (version, shape, dtype, order, bytes)."""
    def call(function: bytes, *arguments: bytes) -> bytes:
        return function + pickle.MARK + b"".join(arguments) + pickle.TUPLE + pickle.REDUCE

    make = pickle.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n"
    kind = pickle.GLOBAL + b"numpy\ndtype\n"
    empty = call(make, pickle.GLOBAL + b"numpy\nndarray\n", _value(0) + pickle.TUPLE1, _value("b"))
    state = pickle.MARK + _value(3) + _value("|") + pickle.NONE * 3 + _value(-1) * 2 + _value(0) + pickle.TUPLE
    dtype = call(kind, _value("u1"), _value(0), _value(1)) + state + pickle.BUILD
    shape = pickle.MARK + b"".join(map(_value, array.shape)) + pickle.TUPLE
    raw = pickle.BINSTRING + struct.pack("<i", array.nbytes) + array.tobytes()
    return empty + pickle.MARK + _value(1) + shape + dtype + pickle.NEWFALSE + raw + pickle.TUPLE + pickle.BUILD
