"""Deer and horses, drawn with a `Pen` in their own coordinates; side views look to the right."""

from common.data.pocket.animals import BLACK, FURS, PINK, WHITE, eye, legs
from common.data.pocket.canvas import Dice, Pen, tone

HORNS = ((215, 195, 150), (100, 75, 50), (70, 50, 35))
MANES = ((45, 35, 30), (225, 205, 160), (80, 50, 30))
CLOTHS = ((150, 40, 40), (50, 70, 140), (90, 60, 35))


def deer(pen: Pen, dice: Dice) -> None:
    """A stag standing or grazing, or its head from the front."""
    dice.weighted({_deer_standing: 68, _deer_face: 32})(pen, dice)


def _antler(pen: Pen, x: int, y: int, side: int, size: int, colour) -> None:
    def at(dx, dy):
        return x + dx * side * size // 100, y + dy * size // 100

    pen.limb([at(0, 0), at(30, -34), at(34, -72), at(20, -104)], (11, 10, 9, 6), colour)
    pen.limb([at(24, -30), at(62, -52)], (9, 6), colour)
    pen.limb([at(34, -66), at(66, -96)], (9, 6), colour)


def _deer_standing(pen: Pen, dice: Dice) -> None:
    fur, horn = dice.near(dice.choice(FURS)), dice.choice(HORNS)
    low = dice.between(0, 14)
    legs(pen, dice, (-56, -44, 18, 30), 24, 96, 10, fur, 12)
    pen.blob([(-76, 8), (-84, -8), (-66, -10)], WHITE)
    pen.blob([(-74, 6), (-60, -12), (0, -8), (34, -14), (44, 8), (28, 32), (-20, 30), (-58, 34)], fur)
    pen.box(-110, 22, 110, 50, tone(fur, 150), only=fur)
    if dice.chance(55):
        for x, y in ((-56, 2), (-38, 8), (-20, 0), (-4, 10), (12, 0)):
            pen.oval(x, y, 5, 5, tone(fur, 165))
    pen.limb([(28, 8), (46, -28 + low), (52, -44 + low)], (36, 22, 22), fur)
    for side in (-1, 1):
        _antler(pen, 50 + 6 * side, -54 + low, side, 62, horn if side > 0 else tone(horn, 75))
    head = [(36, -58), (60, -64), (92, -40), (90, -28), (66, -30), (44, -36)]
    pen.blob([(x, y + low) for x, y in head], fur)
    pen.oval(90, -35 + low, 7, 7, BLACK)
    pen.poly([(46, -54 + low), (14, -66 + low), (36, -42 + low)], tone(fur, 80))
    eye(pen, 64, -48 + low, 6)


def _deer_face(pen: Pen, dice: Dice) -> None:
    fur, horn = dice.near(dice.choice(FURS)), dice.choice(HORNS)
    pen.poly([(-26, 30), (26, 30), (46, 76), (96, 112), (110, 260), (-110, 260), (-96, 112), (-46, 76)], tone(fur, 75))
    for side in (-1, 1):
        _antler(pen, 16 * side, -20, side, 84, horn)
        pen.blob([(22 * side, -12), (64 * side, -34), (76 * side, -16), (40 * side, 6)], tone(fur, 80))
        pen.oval(54 * side, -17, 14, 6, PINK, turn=-20 * side)
    pen.blob([(-32, -26), (0, -34), (32, -26), (32, 10), (20, 50), (0, 60), (-20, 50), (-32, 10)], fur)
    pen.blob([(-18, 26), (18, 26), (20, 54), (0, 64), (-20, 54)], tone(fur, 160))
    pen.oval(0, 38, 12, 9, BLACK)
    for x in (-20, 20):
        eye(pen, x, -2, 8)


def horse(pen: Pen, dice: Dice) -> None:
    """A horse standing or galloping, or its head."""
    dice.weighted({horse_body: 72, _horse_head: 28})(pen, dice)


def horse_body(pen: Pen, dice: Dice) -> None:
    """A horse on its legs, from the side."""
    fur, mane = dice.near(dice.choice(FURS)), dice.near(dice.choice(MANES))
    legs(pen, dice, (-58, -42, 22, 36), 20, 94, 15, fur, dice.choice((6, 14, 30)))
    wave = dice.between(-10, 14)
    pen.blob([(-66, -14), (-84, -14), (-100 - wave, 24), (-96 - wave, 60), (-82 - wave, 56), (-76, 10)], mane)
    pen.blob([(-78, 4), (-66, -24), (-20, -18), (24, -24), (48, -6), (44, 26), (0, 30), (-40, 26), (-70, 30)], fur)
    pen.box(-110, 16, 110, 50, tone(fur, 70), only=fur)
    pen.limb([(30, 2), (50, -34), (60, -60)], (52, 36, 28), fur)
    pen.blob([(46, -76), (62, -82), (84, -56), (102, -34), (94, -20), (78, -26), (58, -44)], fur)
    pen.blob([(88, -44), (104, -34), (94, -16), (80, -24)], tone(fur, 65), only=fur)
    pen.poly([(48, -74), (50, -98), (62, -78)], fur)
    pen.blob([(60, -84), (44, -80), (24, -48), (8, -20), (10, -6), (28, -16), (46, -46)], mane)
    pen.poly([(54, -82), (74, -70), (60, -66)], mane)
    if dice.chance(35):
        pen.limb([(66, -66), (90, -34)], (8, 7), WHITE, only=fur)
    if dice.chance(25):
        pen.blob([(-32, -24), (14, -26), (16, -6), (-30, -4)], dice.choice(CLOTHS))
    eye(pen, 72, -58, 6)


def _horse_head(pen: Pen, dice: Dice) -> None:
    fur, mane = dice.near(dice.choice(FURS)), dice.near(dice.choice(MANES))
    pen.poly([(-130, 240), (-104, 110), (-60, 10), (-26, -52), (20, -40), (30, 0), (10, 50), (16, 110), (30, 240)], fur)
    pen.blob([(-34, -50), (-6, -70), (28, -54), (54, -10), (88, 38), (80, 62), (54, 66), (20, 24), (-12, 4)], fur)
    pen.blob([(62, 20), (94, 38), (82, 68), (50, 68)], tone(fur, 65), only=fur)
    for x in (-22, 4):
        pen.poly([(x - 12, -58), (x - 2, -98), (x + 16, -62)], fur if x else tone(fur, 75))
    pen.poly([(-12, -64), (-14, -90), (-2, -66)], tone(fur, 60))
    pen.blob([(0, -74), (-30, -72), (-62, -34), (-92, 30), (-116, 120), (-78, 110), (-46, 30), (-20, -20)], mane)
    pen.blob([(-8, -74), (24, -66), (30, -34), (12, -46)], mane)
    if dice.chance(40):
        pen.limb([(30, -46), (72, 30)], (14, 10), WHITE, only=fur)
    pen.oval(76, 46, 6, 5, BLACK)
    eye(pen, 22, -26, 10)
