"""The pocket edition of PASCAL VOC 2007: drawn scenes with one to four objects, in the layout that VOC published.

The classes are eight of VOC's twenty. Far objects are small and near ones large, they may hide each other in part, and
some are cut by the edge of the picture. As in VOC, a box is the smallest one around what is *visible* of an object.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from common.data.pocket import layout, picture, places
from common.data.pocket.canvas import Canvas, Dice, Pen

COUNTS = {"train": 1600, "val": 400}
NAMES = {"plane": "aeroplane"}  # VOC's word where it is not the drawing's
QUALITY = 92  # of the JPEG files
LEAST_VISIBLE = 20  # per cent of an object; a scene that hides more of one is drawn again
MOSTLY_VISIBLE = 50  # per cent; an object of which less is visible is difficult
SMALL = 14  # pixels; an object whose box is narrower or lower is difficult
_COUNT = {1: 24, 2: 34, 3: 26, 4: 16}  # objects in a scene, by weight
_PLACES = {"road": 26, "field": 18, "snow": 12, "beach": 12, "sea": 16, "room": 8, "sky": 8}
# The places do not hold the classes equally often; these weights even them out.
_WEIGHTS = {"plane": 5, "bird": 2, "boat": 3, "car": 4, "bus": 9, "cat": 3, "dog": 3, "horse": 4}
_SCALE = (13, 80)  # per cent of the picture's width, far and near
_OUTLINE, _PALE_OUTLINE, _SHADOW = (30, 28, 32), (205, 205, 205), (70, 72, 70)


def draw(seed: int, split: str, index: int) -> tuple[np.ndarray, list[dict], list[np.ndarray]]:
    """Draw one picture, from its own random stream, so the order of drawing does not matter.

    Args:
        seed: the edition's seed, 0..2**32-1.
        split: "train" or "val".
        index: the picture's place in its split.
    Returns:
        The picture, uint8 (224, 224, 3). For each object, the farthest first, a dict of name, box (x1, y1, x2, y2 of
        the visible part in pixels, x2 and y2 excluded), truncated and difficult. And what is visible of each object,
        bool (448, 448), two fine pixels a pixel.
    """
    rng = np.random.RandomState([seed, sorted(COUNTS).index(split), index])
    shown = False
    while not shown:
        place, sky, horizon, things = compose(Dice(rng))
        pixels, masks = _paint(place, sky, horizon, things, rng)
        visible = visible_parts(masks)
        shown = all(_share(part, mask) >= LEAST_VISIBLE for part, mask in zip(visible, masks, strict=True))
    return pixels, [describe(*parts) for parts in zip(things, masks, visible, strict=True)], visible


def write(folder: Path, seed: int = 2007, counts: dict[str, int] | None = None) -> None:
    """Draw all pictures and write them as `VOC2007/{JPEGImages,Annotations,ImageSets/Main}`.

    Pixels, annotations and lists are the same on every machine. How a JPEG file packs the pixels is its library's, so
    decoded pictures may differ by a few grey values from one version of Pillow to another.

    Args:
        folder: where; made if missing.
        seed: another seed draws other pictures; 0..2**32-1.
        counts: pictures a split; None = `COUNTS`.
    Raises:
        ValueError: if seed is out of range.
        OSError: as the file system reports it; files written so far stay.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in 0..2**32-1, got {seed}")
    root, counts = Path(folder) / "VOC2007", counts or COUNTS
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / part).mkdir(parents=True, exist_ok=True)
    names, number = {}, 0
    for split, count in counts.items():
        names[split] = [f"{number + i + 1:06d}" for i in range(count)]
        number += count
        for i, name in enumerate(names[split]):
            pixels, objects, _ = draw(seed, split, i)
            Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=QUALITY)
            (root / "Annotations" / f"{name}.xml").write_text(annotation(name, objects), encoding="utf-8")
    names["trainval"] = [name for listed in names.values() for name in listed]
    for split, listed in names.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in listed))


def annotation(name: str, objects: list[dict]) -> str:
    """The annotation of a picture in VOC's XML, whose pixels count from 1, both ends of a box included."""
    size = f"<width>{picture.SIZE}</width><height>{picture.SIZE}</height><depth>3</depth>"
    lines = [
        "<annotation>",
        f"\t<folder>VOC2007</folder><filename>{escape(name)}.jpg</filename>",
        "\t<source><database>drawn</database></source>",
        f"\t<size>{size}</size>",
        "\t<segmented>0</segmented>",
        *(_object_xml(thing) for thing in objects),
        "</annotation>",
    ]
    return "\n".join(lines) + "\n"


def _object_xml(thing: dict) -> str:
    x1, y1, x2, y2 = thing["box"]
    box = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
    flags = f"<truncated>{thing['truncated']:d}</truncated><difficult>{thing['difficult']:d}</difficult>"
    return f"\t<object><name>{thing['name']}</name><pose>Unspecified</pose>{flags}<bndbox>{box}</bndbox></object>"


# What a scene holds ------------------------------------------------------------------------------------------


def compose(dice: Dice) -> tuple[str, str, int, list[layout.Thing]]:
    """A scene at random: its place, its sky, its horizon (-100..100), and its objects, the farther ones first."""
    place, sky = dice.weighted(_PLACES), dice.choice(layout.SKIES)
    horizon = dice.between(4, 26) if place == "room" else dice.between(-30, 0)
    count = dice.weighted(_COUNT)
    things = [_thing(dice, place, horizon) for _ in range(count)]
    return place, sky, horizon, sorted(things, key=lambda thing: thing.scale)


def _thing(dice: Dice, place: str, horizon: int) -> layout.Thing:
    """An object on the ground, the nearer the larger and lower; or in the air, anywhere above."""
    flies = place == "sky" or (place != "room" and dice.chance(18))
    kind = dice.weighted({kind: _WEIGHTS[kind] for kind in (layout.FLYERS if flies else layout.PLACES[place])})
    level = "air" if flies else "water" if place == "sea" else "ground"
    pose = dice.choice([pose for pose in layout.POSES[kind] if pose.level == level])
    near = dice.between(0, 100)  # per cent of the way from the horizon to the eye
    far_scale, near_scale = _SCALE
    scale = (far_scale + (near_scale - far_scale) * near // 100) * layout.SIZES[kind] // 100
    if flies:
        highest = scale // 2 - 100
        y = dice.between(highest, 60 if place == "sky" else max(highest + 20, horizon - scale // 2))
    else:
        foot = horizon + 14 + (96 - horizon - 14) * near // 100 + dice.between(-4, 4)
        y = foot - pose.bottom * scale // 100
    most = 100 - scale // 2  # to the left and right: the edge of the picture cuts off a quarter at most, or nearly so
    colour = dice.choice(layout.COLOURS[kind])
    return layout.Thing(kind, colour, pose, dice.between(-most, most), y, scale, dice.chance(50))


def describe(thing: layout.Thing, mask: np.ndarray, visible: np.ndarray) -> dict:
    """Name, box and flags of an object.

    Args:
        thing: the object.
        mask: where it covers the canvas, bool (side, side) of fine pixels.
        visible: where nothing nearer covers it.
    """
    x1, y1, x2, y2 = box = box_of(visible)
    cut = bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())
    difficult = _share(visible, mask) < MOSTLY_VISIBLE or min(x2 - x1, y2 - y1) < SMALL
    name = NAMES.get(thing.kind, thing.kind)
    return {"name": name, "box": box, "truncated": cut or box != box_of(mask), "difficult": difficult}


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The smallest box (x1, y1, x2, y2) of whole pixels around fine pixels, x2 and y2 excluded."""
    rows, columns, k = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0], picture.OVERSAMPLE
    return int(columns[0]) // k, int(rows[0]) // k, int(columns[-1]) // k + 1, int(rows[-1]) // k + 1


def visible_parts(masks: list[np.ndarray]) -> list[np.ndarray]:
    """Of each object what nothing nearer covers; objects and results are ordered from far to near."""
    parts, nearer = [], np.zeros_like(masks[0])
    for mask in reversed(masks):
        parts.append(mask & ~nearer)
        nearer |= mask
    return parts[::-1]


def _share(part: np.ndarray, mask: np.ndarray) -> int:
    """Per cent of the mask that the part covers; 0 if there is no mask or less than a few pixels of it."""
    whole = np.count_nonzero(mask)
    return 100 * np.count_nonzero(part) // whole if np.count_nonzero(part) > 60 else 0


# Painting ----------------------------------------------------------------------------------------------------


def _paint(
    place: str, sky: str, horizon: int, things: list[layout.Thing], rng: np.random.RandomState
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The picture, and of each object where it covers the canvas, its outline not included."""
    canvas, dice = Canvas(picture.SIZE, picture.OVERSAMPLE), Dice(rng)
    places.paint(canvas, dice, place, sky, horizon)
    masks = [_paint_thing(canvas, thing, rng, dice) for thing in things]
    return picture.shrink(canvas.picture()), masks


def _paint_thing(canvas: Canvas, thing: layout.Thing, rng: np.random.RandomState, dice: Dice) -> np.ndarray:
    turn = dice.between(-12, 12) if thing.pose.level == "air" else 0
    pen = Pen(canvas, thing.x, thing.y, thing.scale, turn=turn, flip=thing.flip)
    if thing.pose.level == "ground":
        pen.oval(0, thing.pose.bottom - 4, 84, 10, _SHADOW)
    canvas.start_object()
    thing.pose.draw(pen, picture.Brush(rng, picture.RGB[thing.colour]))
    canvas.finish_object(_PALE_OUTLINE if thing.colour == "black" else _OUTLINE)
    return canvas.covered.copy()
