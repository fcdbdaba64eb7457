"""Pictures with boxes: the layout of PASCAL VOC 2007 (Everingham et al., IJCV 2010), photographs and drawings alike.

`ImageSets/Main/{split}.txt` names the pictures of a split, `JPEGImages/NAME.jpg` is one of them, and
`Annotations/NAME.xml` says what it shows. A box is the smallest rectangle around the visible part of an object. Its
coordinates are given back as the file has them: pixels counted from 1, x to the right, y down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from common.data import store
from common.validate import Stream, checked_count, stream

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
class_to_idx = {name: i for i, name in enumerate(CLASSES)}
idx_to_class = dict(enumerate(CLASSES))
SPLITS = ("train", "val", "trainval", "test")
FITS = ("squash", "letterbox")
PADDING = -1.0  # fills rows of `boxes` that hold no box
GREY = 128  # fills what `letterbox` adds to a picture
LARGEST_XML = 1_000_000  # bytes; the longest published one has 18 kB


@dataclass(frozen=True, eq=False)
class Annotation:
    """What one picture shows.

    Attributes:
        name: of the picture, without ".jpg".
        width, height: of the picture, in pixels.
        boxes: float32 (n, 4), x1, y1, x2, y2 in pixels.
        labels: int64 (n,), class numbers from 0 to 19.
        difficult: bool (n,), objects so small or hidden that an evaluation may leave them out.
    """

    name: str
    width: int
    height: int
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Pictures of one size with their boxes.

    Attributes:
        images: uint8 (B, size, size, 3).
        boxes: float32 (B, N, 5), x1, y1, x2, y2, class in pixels of the original picture; rows of -1 fill up to N,
            the largest number of boxes in the batch.
        difficult: bool (B, N), False in filled rows.
        w, h: int64 (B,), pixels of the original that became `size` pixels, so x * size / w is in pixels of `images`.
        names: of the pictures, without ".jpg".
    """

    images: np.ndarray
    boxes: np.ndarray
    difficult: np.ndarray
    w: np.ndarray
    h: np.ndarray
    names: list[str]


class VOC2007:
    """One split: annotations are read at once, pictures when they are asked for.

    Attributes:
        split: "train", "val", "trainval" or "test".
        folder: the folder with Annotations, ImageSets and JPEGImages.
        names: of the pictures, without ".jpg".
        annotations: one `Annotation` for each name.
    """

    def __init__(self, split: str = "train", base_dir: str | Path | None = None, num: int | None = None):
        """Read the annotations of a split.

        Args:
            split: "train", "val", "trainval" or "test" (of the published files, test is an archive of its own).
            base_dir: the folder VOC2007; None = the edition in use.
            num: the first so many pictures; None = all. EECS 498 uses the first 2,500 of the 2,501 in train.
        Raises:
            FileNotFoundError: the split, an annotation or a picture is missing; the message names the file.
            ValueError: no such split, a num that is too large, or an annotation that is damaged or says something
                impossible; the message names the file.
            TypeError: num is not an integer.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        self.split = split
        self.folder = store.dataset_dir("voc2007") / "VOC2007" if base_dir is None else Path(base_dir)
        names = read_split(self.folder, split)
        self.names = names[: len(names) if num is None else checked_count("num", num, 1, len(names))]
        self.annotations = [read_annotation(self.folder / "Annotations" / f"{name}.xml") for name in self.names]
        missing = [path for path in map(self.path, range(len(self))) if not path.is_file()]
        if missing:
            raise FileNotFoundError(f"{missing[0]} is missing; ImageSets/Main/{split}.txt names it")

    def __len__(self) -> int:
        return len(self.names)

    def path(self, i: int) -> Path:
        """The file of picture i."""
        return self.folder / "JPEGImages" / f"{self.names[i]}.jpg"

    def image(self, i: int) -> np.ndarray:
        """Picture i as uint8 (height, width, 3).

        Raises:
            ValueError: the file is cut short, no picture, or of another size than its annotation says.
            FileNotFoundError: it is no longer there.
        """
        return np.asarray(self._open(i))

    def batch(self, rows: Iterable[int], size: int = 224, fit: str = "squash") -> Batch:
        """Pictures with their boxes, all of one size.

        Args:
            rows: numbers of pictures.
            size: pixels of a side.
            fit: "squash" changes width and height to `size` each, as EECS 498 does. "letterbox" first adds grey at the
                right or at the bottom until the picture is square, which keeps shapes and the coordinates of boxes.
        Returns:
            The batch.
        Raises:
            ValueError: another fit, no rows, a row that is not there, a size below 1, or as `image`.
            TypeError: size is not an integer.
        """
        rows = self._checked_rows(rows)
        checked_count("size", size)
        if fit not in FITS:
            raise ValueError(f"fit must be one of {', '.join(FITS)}, got {fit!r}")
        pictures = [_square(self._open(i)) if fit == "letterbox" else self._open(i) for i in rows]
        images = np.stack([np.asarray(img.resize((size, size), Image.Resampling.BILINEAR)) for img in pictures])
        boxes, difficult = pad_boxes([self.annotations[i] for i in rows])
        w, h = np.array([img.size for img in pictures], dtype=np.int64).T
        return Batch(images, boxes, difficult, w, h, [self.names[i] for i in rows])

    def batches(
        self, batch_size: int, size: int = 224, fit: str = "squash", shuffle: bool = False, rng: Stream = None
    ) -> Iterator[Batch]:
        """All pictures once, so many at a time; the last batch may be smaller.

        Args:
            batch_size: pictures in a batch.
            size, fit: as in `batch`.
            shuffle: in random order.
            rng: of the order: a RandomState, a seed, or None for NumPy's global stream.
        Yields:
            Batches, as `batch`.
        Raises:
            TypeError, ValueError: batch_size is no whole number of at least 1, or as `batch`.
        """
        checked_count("batch_size", batch_size)
        order = stream(rng).permutation(len(self)) if shuffle else np.arange(len(self))
        for start in range(0, len(self), batch_size):
            yield self.batch(order[start : start + batch_size], size, fit)

    def _open(self, i: int) -> Image.Image:
        """Picture i, decoded."""
        path, told = self.path(i), self.annotations[i]
        try:
            with Image.open(path) as img:
                picture = img.convert("RGB")
        except FileNotFoundError:
            raise FileNotFoundError(f"{path} is missing") from None
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path} cannot be read as a picture: {error}") from error
        if picture.size != (told.width, told.height):
            found = f"{picture.width} x {picture.height} pixels, but its annotation says {told.width} x {told.height}"
            raise ValueError(f"{path} has {found}")
        return picture

    def _checked_rows(self, rows: Iterable[int]) -> list[int]:
        rows = np.atleast_1d(np.asarray(rows if isinstance(rows, np.ndarray) else list(rows)))
        if rows.ndim != 1 or not len(rows) or rows.dtype.kind not in "iu":
            raise ValueError(f"rows must be whole numbers, at least one, got {rows.tolist()[:10]}")
        if not 0 <= rows.min() <= rows.max() < len(self):
            raise ValueError(f"rows holds {rows.min()} to {rows.max()}; allowed are 0 to {len(self) - 1}")
        return rows.tolist()


def load_voc(split: str = "train", base_dir: str | Path | None = None, num: int | None = None) -> VOC2007:
    """One split of PASCAL VOC 2007; arguments and errors are those of `VOC2007`."""
    return VOC2007(split, base_dir, num)


def pad_boxes(annotations: list[Annotation]) -> tuple[np.ndarray, np.ndarray]:
    """The boxes of several pictures in one array.

    Args:
        annotations: B of them.
    Returns:
        boxes float32 (B, N, 5), x1, y1, x2, y2, class, rows of -1 up to the largest number of boxes N (at least 1),
        and difficult bool (B, N).
    """
    most = max([1, *(len(told.labels) for told in annotations)])
    boxes = np.full((len(annotations), most, 5), PADDING, dtype=np.float32)
    difficult = np.zeros((len(annotations), most), dtype=bool)
    for row, hard, told in zip(boxes, difficult, annotations, strict=True):
        n = len(told.labels)
        row[:n, :4], row[:n, 4], hard[:n] = told.boxes, told.labels, told.difficult
    return boxes, difficult


def read_split(folder: Path, split: str) -> list[str]:
    """Names of the pictures of a split.

    Raises:
        FileNotFoundError: the folder has no such split.
        ValueError: the file is not text, is empty, or names something that is not the name of a file.
    """
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; the folder should have the layout of VOCdevkit/VOC2007")
    try:
        names = path.read_text(encoding="utf-8").split()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text: {error}") from error
    odd = [name for name in names if Path(name).name != name or name in (".", "..")]
    if odd or not names:
        raise ValueError(f"{path} names {odd[0]!r}, which is no picture" if odd else f"{path} names no pictures")
    return names


def read_annotation(path: str | Path) -> Annotation:
    """What an annotation file says.

    Args:
        path: `Annotations/NAME.xml`.
    Returns:
        The annotation, with zero boxes if the file has no objects.
    Raises:
        FileNotFoundError: no such file.
        ValueError: not XML, XML with a document type (which could define entities that grow without limit), an unknown
            class, a box with x2 <= x1, y2 <= y1 or outside the picture, or something is missing.
    """
    path = Path(path)
    root = _parse(path)
    try:
        width, height = (_whole(root, f"size/{side}") for side in ("width", "height"))
        objects = [_read_object(element, width, height) for element in root.findall("object")]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    boxes, labels, difficult = zip(*objects, strict=True) if objects else ((), (), ())
    return Annotation(path.stem, width, height, np.array(boxes, dtype=np.float32).reshape(-1, 4),
                      np.array(labels, dtype=np.int64), np.array(difficult, dtype=bool))  # fmt: skip


# Reading XML that the world gave us ---------------------------------------------------------------------------


def _parse(path: Path) -> ElementTree.Element:
    """The root of an annotation. Without a document type there are no entities, so nothing in it can expand."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    if path.stat().st_size > LARGEST_XML:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; an annotation has at most {LARGEST_XML}")
    try:
        text = path.read_text(encoding="utf-8-sig")  # text, so no other encoding can hide what is looked for
        if "<!" in text.replace("<!--", ""):
            raise ValueError(f"{path}: refused, because it has a document type; annotations need none")
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable XML: {error}") from error
    if root.tag != "annotation":
        raise ValueError(f"{path}: the outermost element must be 'annotation', found {root.tag!r}")
    return root


def _read_object(element: ElementTree.Element, width: int, height: int) -> tuple[list[float], int, bool]:
    """Box, class number and the flag of one object; parts of it, such as hands and heads, are left out."""
    name = _text(element, "name")
    if name not in class_to_idx:
        raise ValueError(f"unknown class {name!r}; known are {', '.join(CLASSES)}")
    x1, y1, x2, y2 = box = [_number(element, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"the box of a {name}, {box}, must have xmin < xmax and ymin < ymax")
    if min(x1, y1) < 0 or x2 > width or y2 > height:
        raise ValueError(f"the box of a {name}, {box}, is not within the picture of {width} x {height} pixels")
    flag = element.findtext("difficult", "0").strip()
    if flag not in ("0", "1"):
        raise ValueError(f"'difficult' of a {name} must be 0 or 1, got {flag!r}")
    return box, class_to_idx[name], flag == "1"


def _text(element: ElementTree.Element, place: str) -> str:
    text = element.findtext(place)
    if text is None:
        raise ValueError(f"'{element.tag}' has no '{place}'")
    return text.strip()


def _number(element: ElementTree.Element, place: str) -> float:
    text = _text(element, place)
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"'{place}' must be a number, got {text!r}") from None
    if not np.isfinite(value):
        raise ValueError(f"'{place}' must be finite, got {text!r}")
    return value


def _whole(element: ElementTree.Element, place: str) -> int:
    value = _number(element, place)
    if value < 1 or value != int(value):
        raise ValueError(f"'{place}' must be a whole number of at least 1, got {value:g}")
    return int(value)


def _square(picture: Image.Image) -> Image.Image:
    """The picture in the upper left corner of a grey square."""
    side = max(picture.size)
    square = Image.new("RGB", (side, side), (GREY, GREY, GREY))
    square.paste(picture, (0, 0))
    return square
