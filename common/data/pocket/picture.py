"""A described scene becomes pixels: place, things from far to near, and the box of what is visible of each."""

from __future__ import annotations

import numpy as np

from common.data.pocket import animals, layout, places, vehicles
from common.data.pocket.canvas import Canvas, Dice, Pen

SIZE = 224
OVERSAMPLE = 2  # fine pixels along each side of a pixel
RGB = {
    "red": (205, 38, 38),
    "blue": (38, 78, 190),
    "white": (242, 242, 240),
    "yellow": (242, 208, 40),
    "green": (40, 140, 62),
    "black": (40, 38, 42),
    "orange": (236, 130, 36),
    "brown": (122, 76, 42),
    "gray": (138, 138, 142),
}
MOST_HIDDEN = 50  # per cent of a thing that a nearer one may cover
_OUTLINE, _SHADOW = (30, 28, 32), (70, 72, 70)
_PALETTES = (frozenset(vehicles.PAINTS), frozenset(animals.FURS), frozenset(animals.FEATHERS))


class Brush(Dice):
    """Dice that give one colour wherever a drawing would choose among all paints, furs or feathers."""

    def __init__(self, rng: np.random.RandomState, colour: tuple[int, int, int]) -> None:
        super().__init__(rng)
        self.colour = colour

    def choice(self, options):
        """The brush's colour in place of any paint, fur or feather; otherwise one of the options."""
        chosen = super().choice(options)
        return self.colour if any(palette.issubset(options) for palette in _PALETTES) else chosen

    def near(self, colour, spread=14):
        """As `Dice.near`, but half as far: the word for the colour must stay true."""
        return super().near(colour, spread // 2)


def draw(scene: layout.Scene, rng: np.random.RandomState) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """Draw a scene.

    Args:
        scene: what to draw.
        rng: for the details that no caption mentions.
    Returns:
        The picture, uint8 (224, 224, 3), and for each thing (x1, y1, x2, y2) of what is visible of it, in pixels,
        x2 and y2 excluded. The boxes are empty (no list entries) if more than half of a thing is hidden.
    """
    canvas, dice = Canvas(SIZE, OVERSAMPLE), Dice(rng)
    places.paint(canvas, dice, scene.place, scene.sky, scene.horizon)
    masks = [_paint(canvas, thing, rng, dice) for thing in scene.things]
    return shrink(canvas.picture()), visible_boxes(masks)


def _paint(canvas: Canvas, thing: layout.Thing, rng: np.random.RandomState, dice: Dice) -> np.ndarray:
    """Draw one thing, with its shadow on the ground; returns where it covers the canvas, bool (side, side)."""
    pen = Pen(canvas, thing.x, thing.y, thing.scale, turn=_tilt(thing, dice), flip=thing.flip)
    if thing.pose.level == "ground":
        pen.oval(0, thing.pose.bottom - 4, 84, 10, _SHADOW)
    canvas.start_object()
    thing.pose.draw(pen, Brush(rng, RGB[thing.colour]))
    canvas.finish_object((205, 205, 205) if thing.colour == "black" else _OUTLINE)
    return canvas.covered.copy()


def _tilt(thing: layout.Thing, dice: Dice) -> int:
    return dice.between(-8, 8) if thing.pose.level == "air" else 0


def visible_boxes(masks: list[np.ndarray]) -> list[tuple[int, int, int, int]]:
    """The box of what is visible of each thing, in final pixels.

    Args:
        masks: bool (side, side) of fine pixels, the farther things first.
    Returns:
        (x1, y1, x2, y2) each, x2 and y2 excluded; an empty list if a thing is hidden by more than `MOST_HIDDEN`.
    """
    boxes, nearer = [], np.zeros_like(masks[0])
    for mask in reversed(masks):
        seen = mask & ~nearer
        if 100 * np.count_nonzero(seen) < (100 - MOST_HIDDEN) * np.count_nonzero(mask):
            return []
        rows, columns = seen.any(axis=1).nonzero()[0], seen.any(axis=0).nonzero()[0]
        k = OVERSAMPLE
        boxes.append((columns[0] // k, rows[0] // k, columns[-1] // k + 1, rows[-1] // k + 1))
        nearer |= mask
    return [tuple(map(int, box)) for box in reversed(boxes)]


def shrink(picture: np.ndarray) -> np.ndarray:
    """The mean of each block of fine pixels, (side, side, 3) to (224, 224, 3) uint8, in whole numbers."""
    k = len(picture) // SIZE
    total = sum(picture[i::k, j::k].astype(np.uint16) for i in range(k) for j in range(k))
    return (total // (k * k)).astype(np.uint8)
