"""The places of the captioned scenes: each is what its word says, under the sky that the caption names."""

from __future__ import annotations

from common.data.pocket.canvas import Canvas, Dice, Pen, tone
from common.data.pocket.scenes import SKIES as LIGHTS
from common.data.pocket.scenes import bands, cloud, house, tree

_SKY = {  # at the top, at the horizon
    "clear": ((70, 140, 215), (190, 220, 240)),
    "cloudy": ((128, 134, 144), (188, 193, 200)),
    "evening": ((120, 75, 130), (250, 170, 95)),
}
_GRASS, _TARMAC, _SNOW, _SAND = (98, 150, 66), (98, 98, 104), (232, 236, 242), (222, 198, 140)
_SEA, _WALLS, _FLOOR = (52, 118, 160), ((222, 212, 190), (200, 208, 214), (214, 200, 204)), (150, 108, 70)


def paint(canvas: Canvas, dice: Dice, place: str, sky: str, horizon: int) -> None:
    """Paint a place over the whole canvas.

    Args:
        canvas: a new one.
        dice: for the clouds, trees, flowers, ...
        place: a key of `layout.PLACES`.
        sky: "clear", "cloudy" or "evening"; not used in a room.
        horizon: where ground or water begins, -100..100.
    """
    page = Pen(canvas)
    if place == "room":
        return _room(page, dice, horizon)
    _sky(page, dice, sky, 120 if place == "sky" else horizon)
    return {"road": _road, "field": _field, "snow": _snow, "beach": _beach, "sea": _sea, "sky": _nothing}[place](
        page, dice, horizon
    )


def _sky(page: Pen, dice: Dice, sky: str, horizon: int) -> None:
    upper, lower = _SKY[sky]
    bands(page, -101, horizon, dice.near(upper, 10), dice.near(lower, 10), 16)
    high = max(-80, horizon - 30)
    if sky == "cloudy":
        for _ in range(dice.between(6, 9)):
            x, y = dice.between(-100, 100), dice.between(-98, high)
            cloud(page, dice, x, y + 5, (150, 155, 164))
            cloud(page, dice, x, y, dice.choice(((238, 240, 243), (222, 225, 230))))
    elif sky == "evening":
        page.oval(dice.between(-80, 80), horizon - 12, 20, 20, (255, 226, 150))
        for _ in range(2):
            x, y = dice.between(-90, 90), dice.between(-95, high)
            page.oval(x, y, dice.between(30, 50), 4, (225, 130, 120))
    elif dice.chance(60):
        page.oval(dice.choice((-1, 1)) * dice.between(70, 88), -82, 12, 12, (255, 240, 150))


def _nothing(page: Pen, dice: Dice, horizon: int) -> None:
    """The sky alone."""


def _behind(page: Pen, dice: Dice, horizon: int, houses: int) -> None:
    """Trees, and houses in so many of a hundred cases, on the horizon."""
    for _ in range(dice.between(0, 3)):
        thing = house if dice.chance(houses) else tree
        thing(page, dice, dice.between(-100, 100), horizon + 6, dice.between(22, 42))


def _road(page: Pen, dice: Dice, horizon: int) -> None:
    _behind(page, dice, horizon, 60)
    page.box(-101, horizon, 101, 101, dice.near(_GRASS, 8))
    top, tarmac = horizon + 12, dice.near(_TARMAC, 8)
    page.box(-101, top, 101, 101, tarmac)
    page.box(-101, top, 101, top + 4, tone(tarmac, 150))
    shift = dice.between(0, 50)
    for x in range(-140 + shift, 110, 50):
        page.poly([(x + 4, 58), (x + 30, 58), (x + 27, 65), (x, 65)], (238, 236, 226))


def _field(page: Pen, dice: Dice, horizon: int) -> None:
    _behind(page, dice, horizon, 15)
    grass = dice.near(_GRASS, 10)
    bands(page, horizon, 101, tone(grass, 118), tone(grass, 86), 8)
    for _ in range(dice.between(14, 20)):
        x, y = dice.between(-100, 100), dice.between(horizon + 10, 100)
        tuft = [(x - 6, y), (x - 3, y - 12), (x, y - 4), (x + 4, y - 14), (x + 7, y)]
        page.poly(tuft, tone(grass, dice.choice((70, 80, 125))))


def _snow(page: Pen, dice: Dice, horizon: int) -> None:
    _behind(page, dice, horizon, 15)
    snow = dice.near(_SNOW, 5)
    bands(page, horizon, 101, snow, tone(snow, 91), 8)
    for _ in range(dice.between(4, 7)):
        x, y = dice.between(-100, 100), dice.between(horizon + 14, 98)
        page.oval(x, y, dice.between(20, 44), 4, (208, 216, 230))
    for _ in range(30):
        page.oval(dice.between(-100, 100), dice.between(-100, 100), 2, 2, (248, 250, 252))


def _beach(page: Pen, dice: Dice, horizon: int) -> None:
    _water(page, dice, horizon, horizon + 26)
    page.box(-101, horizon + 22, 101, horizon + 28, (240, 243, 240))
    sand = dice.near(_SAND, 8)
    bands(page, horizon + 26, 101, tone(sand, 115), tone(sand, 92), 6)
    for _ in range(dice.between(8, 14)):
        x, y = dice.between(-100, 100), dice.between(horizon + 36, 99)
        page.oval(x, y, dice.between(2, 4), 2, tone(sand, dice.choice((75, 140))))


def _sea(page: Pen, dice: Dice, horizon: int) -> None:
    _water(page, dice, horizon, 101)


def _water(page: Pen, dice: Dice, top: int, bottom: int) -> None:
    water = dice.near(_SEA, 10)
    bands(page, top, bottom, tone(water, 122), tone(water, 88), 8)
    for _ in range((bottom - top) // 7):
        x, y, w = dice.between(-100, 100), dice.between(top + 5, bottom), dice.between(8, 22)
        page.limb([(x - w, y), (x, y - 3), (x + w, y)], (3, 4, 3), tone(water, dice.choice((80, 150))))


def _room(page: Pen, dice: Dice, edge: int) -> None:
    wall, floor = dice.near(dice.choice(_WALLS), 8), dice.near(_FLOOR, 8)
    page.box(-101, -101, 101, 101, wall)
    x = dice.between(-90, 34)
    page.box(x, -84, x + 56, -22, (245, 244, 240))
    page.box(x + 5, -79, x + 51, -27, dice.near(LIGHTS[1][1], 6))
    page.box(x + 26, -80, x + 30, -26, (245, 244, 240))
    page.box(-101, edge, 101, 101, floor)
    page.box(-101, edge, 101, edge + 5, tone(wall, 140))
    for y in (edge + 20, edge + 42, edge + 70):
        page.box(-101, y, 101, y + 1, tone(floor, 85))
