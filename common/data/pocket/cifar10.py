"""The pocket CIFAR-10: ten kinds of drawings, 32 x 32, written in the layout of the published python batches."""

import pickle
import struct
from pathlib import Path

import numpy as np

from common.data.pocket import animals, hoofed, scenes, vehicles
from common.data.pocket.canvas import Canvas, Dice, Pen

CLASSES = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LABEL_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCH_SIZE, TRAIN_BATCHES = 2000, 5
SIZE = 32
_SHADOW = (58, 60, 62)

_DRAW = (
    vehicles.plane,
    vehicles.car,
    animals.bird,
    animals.cat,
    hoofed.deer,
    animals.dog,
    animals.frog,
    hoofed.horse,
    vehicles.ship,
    vehicles.truck,
)
_COUNTRY = {scenes.meadow: 45, scenes.wood: 30, scenes.road: 10, scenes.plain: 15}
_PLACES = (
    {scenes.sky: 42, scenes.sea: 16, scenes.road: 15, scenes.meadow: 15, scenes.plain: 12},
    {scenes.road: 55, scenes.meadow: 18, scenes.room: 7, scenes.plain: 12, scenes.wood: 8},
    {scenes.sky: 22, scenes.sea: 18, scenes.wood: 25, scenes.meadow: 20, scenes.plain: 15},
    {scenes.room: 50, scenes.meadow: 18, scenes.road: 12, scenes.plain: 20},
    _COUNTRY,
    {scenes.room: 32, scenes.meadow: 33, scenes.road: 15, scenes.plain: 20},
    {scenes.meadow: 30, scenes.wood: 25, scenes.sea: 20, scenes.plain: 25},
    _COUNTRY,
    {scenes.sea: 72, scenes.sky: 8, scenes.meadow: 8, scenes.plain: 12},
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
    scale = dice.between(54, 100)
    pen = _pose(canvas, dice, label, scale)
    if CLASSES[label] not in ("plane", "bird", "ship") and dice.chance(60):
        pen.oval(0, 76, 84, 20, _SHADOW)
    canvas.start_object()
    _DRAW[label](pen, dice)
    canvas.finish_object(dice.choice((None, (30, 28, 32), (30, 28, 32), (60, 50, 45), (240, 238, 230))))
    if dice.chance(20):
        scenes.foreground(Pen(canvas), dice)
    return _photograph(canvas.picture(), dice, blurred=scale > 66 and dice.chance(35))


def _pose(canvas: Canvas, dice: Dice, label: int, scale: int) -> Pen:
    """Where the object stands, how much turned, and which way it looks."""
    room = 108 - scale
    turn = dice.between(-30, 30) if CLASSES[label] in ("plane", "bird") else dice.between(-12, 12)
    return Pen(
        canvas,
        dice.between(-room, room),
        dice.between(-room, room),
        scale,
        turn,
        flip=dice.chance(50),
        stretch=dice.between(86, 114),
    )


def _photograph(picture: np.ndarray, dice: Dice, blurred: bool) -> np.ndarray:
    """Light, shrink, blur, expose and grain a fine picture, all in whole numbers."""
    k = picture.shape[0] // SIZE
    rows = picture.reshape(SIZE, k, -1).sum(axis=1, dtype=np.uint16)
    small = rows.reshape(SIZE, SIZE, k, 3).sum(axis=2, dtype=np.int32)  # k * k times the colour
    ramp = np.arange(SIZE, dtype=np.int32) * 2 - SIZE + 1
    light = 1000 + dice.between(-8, 8) * ramp[:, None] + dice.between(-8, 8) * ramp  # thousandths
    small = small * light[:, :, None] // (1000 * k * k)
    if blurred:
        small = _blur(small)
    tint = np.array([dice.between(86, 114) for _ in range(3)]) * dice.between(70, 120)  # ten-thousandths
    small = (small - 128) * tint // 10000 + 128 + dice.between(-38, 38)
    grain = dice.between(1, 7)
    noise = dice.rng.randint(-grain, grain + 1, size=(2, SIZE, SIZE, 3), dtype=np.int32).sum(axis=0)
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


def batch_fields(seed: int, split: int, batch: int) -> dict:
    """What one batch file holds: `batch_label`, `labels`, `data` (2000, 3072) uint8, `filenames`.

    Args:
        seed: the edition's seed, 0..2**32-1.
        split: 0 train, 1 test.
        batch: 0..4 in the training split, 0 in the test split.
    """
    start = batch * BATCH_SIZE
    labels = split_labels(seed, split)[start : start + BATCH_SIZE]
    return {
        "batch_label": "testing batch 1 of 1" if split else f"training batch {batch + 1} of {TRAIN_BATCHES}",
        "labels": labels.tolist(),
        "data": pictures(seed, split, labels, start),
        "filenames": [f"{LABEL_NAMES[c]}_p_{start + i:06d}.png" for i, c in enumerate(labels)],
    }


def write(folder: Path, seed: int = 2007) -> None:
    """Write data_batch_1..5, test_batch and batches.meta into a folder.

    The files have the published layout (Krizhevsky, 2009), with 2,000 pictures a batch instead of 10,000.

    Args:
        folder: where; made if missing.
        seed: another seed draws other pictures; 0..2**32-1.

    Raises:
        ValueError: if seed is out of range.
        OSError: as the file system reports it; files written so far stay.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in 0..2**32-1, got {seed}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for split, batch in [*((0, b) for b in range(TRAIN_BATCHES)), (1, 0)]:
        name = "test_batch" if split else f"data_batch_{batch + 1}"
        (folder / name).write_bytes(stream(batch_fields(seed, split, batch)))
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
