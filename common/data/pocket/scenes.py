"""Backgrounds: skies, seas, roads, meadows, woods, rooms and plain walls, none of which belongs to one class only."""

from common.data.pocket.canvas import Canvas, Dice, Pen, mix, tone

SKIES = (
    ((70, 130, 205), (185, 215, 235)),
    ((110, 165, 220), (225, 235, 240)),
    ((205, 150, 120), (245, 215, 160)),
    ((120, 125, 135), (190, 195, 200)),
    ((45, 60, 110), (190, 140, 130)),
    ((160, 190, 200), (240, 240, 225)),
)
GROUNDS = (
    (95, 140, 60),
    (125, 150, 75),
    (70, 110, 55),
    (170, 150, 90),
    (200, 180, 130),
    (120, 95, 65),
    (225, 230, 235),
)
TARMACS = ((95, 95, 100), (125, 122, 120), (75, 75, 82), (150, 145, 138), (140, 120, 100))
SEAS = ((40, 95, 150), (60, 130, 150), (80, 110, 120), (35, 70, 110), (110, 150, 165))
WALLS = (
    (215, 205, 185),
    (180, 195, 205),
    (200, 165, 150),
    (150, 165, 140),
    (120, 115, 125),
    (230, 220, 200),
    (95, 85, 95),
    (165, 140, 110),
)
FLOORS = ((150, 105, 65), (185, 150, 110), (110, 80, 60), (140, 140, 145), (120, 60, 60), (90, 100, 125))
FOLIAGE = ((50, 95, 45), (75, 120, 55), (35, 70, 45), (150, 120, 45), (165, 85, 40))
FLOWERS = ((240, 220, 90), (240, 240, 240), (215, 80, 90), (150, 110, 190))


def bands(page: Pen, top: int, bottom: int, upper, lower, steps: int = 10) -> None:
    """A vertical gradient in flat bands."""
    for i in range(steps):
        y = top + (bottom - top) * i // steps
        page.box(-101, y, 101, bottom + 1, mix(upper, lower, 100 * i // (steps - 1)))


def _sky(page: Pen, dice: Dice, horizon: int) -> None:
    upper, lower = dice.choice(SKIES)
    bands(page, -101, horizon, dice.near(upper, 20), dice.near(lower, 20))
    if dice.chance(20):
        x, y = dice.between(-90, 90), dice.between(-90, max(-80, horizon - 30))
        page.oval(x, y, 15, 15, (255, 240, 170))
    for _ in range(dice.between(0, 3)):
        x, y = dice.between(-100, 100), dice.between(-95, max(-80, horizon - 10))
        cloud(page, dice, x, y, mix(lower, (250, 250, 250), 70))


def cloud(page: Pen, dice: Dice, x: int, y: int, colour) -> None:
    """A cloud of three ovals."""
    for _ in range(3):
        page.oval(x + dice.between(-26, 26), y + dice.between(-7, 7), dice.between(14, 32), dice.between(6, 14), colour)


def hills(page: Pen, dice: Dice, horizon: int) -> None:
    """A ridge above the horizon, pale with distance."""
    colour = dice.near(mix(dice.choice(FOLIAGE), (170, 185, 200), dice.between(20, 65)))
    ridge = [(x, horizon - dice.between(2, 32)) for x in range(-120, 121, 40)]
    page.blob([*ridge, (130, horizon + 20), (-130, horizon + 20)], colour)


def tree(page: Pen, dice: Dice, x: int, foot: int, height: int) -> None:
    """A fir or a broad tree whose trunk begins at `foot`."""
    leaf = dice.near(dice.choice(FOLIAGE))
    page.limb([(x, foot), (x, foot - height // 2)], (height // 8 + 3, height // 10 + 2), (85, 62, 45))
    if dice.chance(40):  # a fir
        low, wide = foot - height // 5, height // 3
        page.poly([(x - wide, low), (x, foot - height), (x + wide, low)], leaf)
        page.poly([(x, low), (x, foot - height), (x + wide, low)], tone(leaf, 75))
    else:
        page.oval(x, foot - height * 2 // 3, height // 3, height // 3, leaf)
        page.oval(x + height // 8, foot - height * 3 // 5, height // 5, height // 5, tone(leaf, 78))


def house(page: Pen, dice: Dice, x: int, foot: int, height: int) -> None:
    """A house whose wall begins at `foot`."""
    wall = dice.near(dice.choice(WALLS))
    width = dice.between(height // 2, height)
    page.box(x - width // 2, foot - height, x + width // 2, foot, wall)
    if dice.chance(60):
        eaves = width * 6 // 10
        page.poly(
            [(x - eaves, foot - height), (x, foot - height * 15 // 10), (x + eaves, foot - height)],
            dice.near((150, 75, 60), 30),
        )
    for i in (-1, 1):
        page.box(
            x + i * width // 4 - 5,
            foot - height * 8 // 10,
            x + i * width // 4 + 5,
            foot - height * 5 // 10,
            dice.choice(((60, 70, 90), (250, 225, 140))),
        )


def _behind(page: Pen, dice: Dice, horizon: int) -> None:
    """Hills, trees and houses standing on the horizon."""
    if dice.chance(50):
        hills(page, dice, horizon)
    for _ in range(dice.between(0, 3)):
        thing = tree if dice.chance(65) else house
        thing(page, dice, dice.between(-100, 100), horizon + dice.between(0, 10), dice.between(24, 70))


def sky(page: Pen, dice: Dice) -> None:
    """Nothing but sky, sometimes with land far below."""
    _sky(page, dice, 120)
    if dice.chance(30):
        hills(page, dice, dice.between(80, 100))


def sea(page: Pen, dice: Dice) -> None:
    """Sky, a horizon, water with waves."""
    horizon = dice.between(-40, 40)
    _sky(page, dice, horizon)
    if dice.chance(35):
        hills(page, dice, horizon)
    water = dice.near(dice.choice(SEAS), 18)
    bands(page, horizon, 101, tone(water, 120), tone(water, 80), 8)
    for _ in range(dice.between(3, 9)):
        x, y = dice.between(-100, 100), dice.between(horizon + 6, 100)
        page.limb(
            [(x - dice.between(8, 24), y), (x, y - 3), (x + dice.between(8, 24), y)],
            (4, 5, 4),
            tone(water, dice.choice((75, 140))),
        )


def road(page: Pen, dice: Dice) -> None:
    """A street with a broken line, houses or country behind."""
    horizon = dice.between(-30, 25)
    _sky(page, dice, horizon)
    _behind(page, dice, horizon)
    page.box(-101, horizon, 101, 101, dice.near(dice.choice(GROUNDS)))
    top = horizon + dice.between(4, 30)
    tarmac = dice.near(dice.choice(TARMACS))
    page.box(-101, top, 101, 101, tarmac)
    page.box(-101, top, 101, top + 5, tone(tarmac, 140))
    y, shift = dice.between(top + 16, 92), dice.between(0, 50)
    for x in range(-140 + shift, 110, 50):
        page.box(x, y, x + 26, y + 6, dice.choice(((235, 235, 225), (235, 200, 90))))


def meadow(page: Pen, dice: Dice) -> None:
    """Open ground - grass, sand, snow - under a sky."""
    horizon = dice.between(-60, 40)
    _sky(page, dice, horizon)
    _behind(page, dice, horizon)
    ground = dice.near(dice.choice(GROUNDS), 18)
    bands(page, horizon, 101, tone(ground, 115), tone(ground, 85), 8)
    for _ in range(dice.between(3, 12)):
        x, y = dice.between(-100, 100), dice.between(horizon + 8, 100)
        if dice.chance(65):
            tuft = [(x - 6, y), (x - 3, y - 14), (x, y - 4), (x + 4, y - 16), (x + 7, y)]
            page.poly(tuft, tone(ground, dice.choice((65, 130))))
        else:
            page.oval(x, y, 5, 5, dice.choice(FLOWERS))


def wood(page: Pen, dice: Dice) -> None:
    """Trunks and leaves."""
    far = dice.near(mix(dice.choice(FOLIAGE), (150, 165, 150), dice.between(0, 60)))
    page.box(-101, -101, 101, 101, far)
    for _ in range(dice.between(3, 8)):
        page.oval(
            dice.between(-100, 100),
            dice.between(-100, 60),
            dice.between(16, 42),
            dice.between(14, 34),
            tone(dice.near(dice.choice(FOLIAGE)), dice.choice((80, 100, 120))),
        )
    for _ in range(dice.between(1, 4)):
        x, w = dice.between(-100, 100), dice.between(9, 26)
        bark = dice.near(dice.choice(((85, 62, 45), (120, 100, 80), (60, 50, 45), (205, 200, 190))))
        page.box(x, -101, x + w, 80, bark)
        page.box(x + w * 6 // 10, -101, x + w, 80, tone(bark, 72))
    ground = dice.near(dice.choice(GROUNDS))
    page.box(-101, dice.between(40, 90), 101, 101, tone(ground, 85))


def room(page: Pen, dice: Dice) -> None:
    """A wall, a floor, perhaps a window, a picture, a sofa or a rug."""
    wall, floor, edge = dice.near(dice.choice(WALLS)), dice.near(dice.choice(FLOORS)), dice.between(0, 70)
    page.box(-101, -101, 101, 101, wall)
    if dice.chance(35):
        for x in range(-100, 100, 24):
            page.box(x, -101, x + 10, edge, tone(wall, 92))
    x = dice.between(-90, 60)
    if dice.chance(35):
        page.box(x, -80, x + 56, -16, (240, 240, 235))
        page.box(x + 6, -74, x + 50, -22, dice.near(dice.choice(SKIES)[0]))
        page.box(x + 25, -76, x + 31, -20, (240, 240, 235))
    elif dice.chance(50):
        page.box(x, -70, x + 40, -34, (90, 65, 45))
        page.box(x + 6, -64, x + 34, -40, dice.near(dice.choice(FLOORS + GROUNDS)))
    page.box(-101, edge, 101, 101, floor)
    page.box(-101, edge, 101, edge + 6, tone(wall, 130))
    if dice.chance(40):
        sofa = dice.near(dice.choice(FLOORS + WALLS))
        x = dice.between(-110, 20)
        page.blob([(x, edge + 26), (x, edge - 34), (x + 100, edge - 34), (x + 100, edge + 26)], sofa)
        page.box(x - 6, edge - 2, x + 104, edge + 26, tone(sofa, 78))
    if dice.chance(45):
        rug = dice.near(dice.choice(FLOORS + SEAS))
        page.oval(dice.between(-40, 40), 92, dice.between(50, 90), 22, rug)


def plain(page: Pen, dice: Dice) -> None:
    """A soft gradient between two colours."""
    colours = WALLS + FLOORS + SEAS + GROUNDS + tuple(s[0] for s in SKIES)
    bands(page, -101, 101, dice.near(dice.choice(colours), 25), dice.near(dice.choice(colours), 25), 10)


def foreground(page: Pen, dice: Dice) -> None:
    """Grass or flowers between the object and the eye, along the lower edge."""
    leaf = dice.near(dice.choice(FOLIAGE))
    for _ in range(dice.between(2, 6)):
        x, high = dice.between(-100, 100), dice.between(20, 62)
        blade = [(x - 6, 101), (x - 3 + dice.between(-12, 12), 101 - high), (x + 6, 101)]
        page.poly(blade, tone(leaf, dice.choice((80, 100, 120))))
        if dice.chance(25):
            page.oval(x, 101 - high, 8, 8, dice.choice(FLOWERS))


def paint(canvas: Canvas, dice: Dice, weights: dict) -> None:
    """Paint one of the scenes over the whole canvas, chosen by whole-number weights."""
    dice.weighted(weights)(Pen(canvas), dice)
