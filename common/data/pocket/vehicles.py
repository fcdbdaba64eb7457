"""Aeroplanes, cars, ships and lorries, drawn with a `Pen` in their own coordinates; side views look to the right."""

from common.data.pocket.canvas import Dice, Pen, tone

PAINTS = (
    (200, 40, 40),
    (40, 80, 170),
    (225, 225, 225),
    (240, 190, 40),
    (45, 130, 80),
    (120, 125, 135),
    (60, 60, 70),
    (225, 120, 40),
    (110, 170, 210),
    (150, 50, 90),
    (235, 230, 200),
)
GLASS = ((70, 95, 120), (45, 55, 75), (150, 190, 215), (110, 140, 160))
RUBBER, CHROME, LAMP, COCKPIT = (35, 35, 40), (190, 195, 200), (255, 240, 170), (45, 55, 75)


def _wheel(pen: Pen, x: int, y: int, r: int) -> None:
    pen.oval(x, y, r, r, RUBBER)
    pen.oval(x, y, r * 45 // 100, r * 45 // 100, CHROME)


def plane(pen: Pen, dice: Dice) -> None:
    """An aeroplane: an airliner from the side, one from above, or a propeller plane."""
    dice.weighted({airliner: 45, plane_from_above: 30, propeller_plane: 25})(pen, dice)


def airliner(pen: Pen, dice: Dice) -> None:
    """An airliner from the side."""
    body = dice.near(dice.choice(((235, 235, 240), (215, 220, 225), (170, 175, 185), *PAINTS)))
    fin = dice.near(dice.choice(PAINTS))
    dark, sweep = tone(body, 68), dice.between(-8, 8)
    pen.poly([(20, -10), (-8, -10), (-42 + sweep, -44), (-26 + sweep, -44)], dark)  # far wing
    pen.poly([(-96, -8), (-104, -56), (-80, -56), (-48, -12)], fin)
    hull = [(-100, -10), (-60, -19), (10, -20), (65, -18), (88, -8), (97, 4), (84, 15), (40, 20), (-30, 18)]
    pen.blob(hull, body)
    pen.poly([(-110, 8), (110, 8), (110, 40), (-110, 40)], tone(body, 78), only=body)
    if dice.chance(60):
        pen.box(-110, 2, 110, 8, fin, only=body)
    for x in range(-58, 58, 17):
        pen.box(x, -10, x + 9, -2, COCKPIT)
    pen.poly([(68, -14), (84, -8), (86, -2), (68, -3)], COCKPIT)
    pen.poly([(-104, -6), (-72, -2), (-96, 22), (-116, 22)], dark)
    pen.poly([(30, 6), (-14, 6), (-62 + sweep, 58), (-38 + sweep, 60)], tone(body, 58))  # near wing
    pen.poly([(30, 6), (14, 6), (-46 + sweep, 60), (-38 + sweep, 60)], tone(body, 125))
    pen.oval(4 + sweep // 2, 32, 17, 9, tone(fin, 80))


def plane_from_above(pen: Pen, dice: Dice) -> None:
    """An aeroplane from above."""
    body = dice.near(dice.choice(((235, 235, 240), (150, 160, 165), *PAINTS)))
    wing, sweep, jet = tone(body, 82), dice.between(10, 50), dice.chance(40)
    for side in (-1, 1):
        pen.poly([(-18, 8 * side), (22, 8 * side), (-sweep, 96 * side), (-sweep - 20, 96 * side)], wing)
        pen.poly([(-18, 8 * side), (-6, 8 * side), (-sweep - 12, 96 * side), (-sweep - 20, 96 * side)], tone(body, 62))
        pen.poly([(-82, 4 * side), (-60, 4 * side), (-84, 40 * side), (-98, 40 * side)], wing)
        if not jet:
            for out in (30, 56):
                x = 14 - (sweep + 22) * out // 96
                pen.oval(x, out * side, 15, 8, tone(body, 55))
    pen.blob([(-95, 0), (-60, -11), (60, -13), (85, -8), (98, 0), (85, 8), (60, 13), (-60, 11)], body)
    pen.box(-110, 4, 110, 14, tone(body, 80), only=body)
    pen.poly([(-98, -3), (-64, -2), (-64, 2), (-98, 3)], dice.near(dice.choice(PAINTS)))
    pen.oval(70, 0, 12, 8, (45, 55, 75))


def propeller_plane(pen: Pen, dice: Dice) -> None:
    """A small aeroplane with a propeller."""
    body, wing = dice.near(dice.choice(PAINTS)), dice.near(dice.choice(PAINTS))
    pen.poly([(-90, -6), (-98, -42), (-78, -44), (-56, -10)], wing)
    pen.blob([(-96, -4), (-40, -20), (10, -30), (45, -24), (74, -18), (82, 2), (66, 20), (10, 24), (-50, 12)], body)
    pen.box(-110, 8, 110, 40, tone(body, 72), only=body)
    pen.poly([(-4, -22), (8, -40), (30, -38), (42, -20)], (120, 160, 185))
    pen.poly([(-92, 0), (-60, -2), (-66, 12), (-100, 12)], tone(wing, 80))
    if dice.chance(50):  # a biplane
        pen.limb([(-8, 8), (-8, -50)], (5, 5), tone(wing, 60))
        pen.limb([(34, 8), (34, -50)], (5, 5), tone(wing, 60))
        pen.poly([(-26, -62), (54, -62), (46, -46), (-34, -46)], wing)
    pen.poly([(-34, 4), (48, 4), (30, 24), (-54, 24)], wing)
    pen.poly([(-48, 18), (35, 18), (30, 24), (-54, 24)], tone(wing, 65))
    pen.limb([(30, 20), (36, 42)], (6, 6), RUBBER)
    _wheel(pen, 38, 48, 13)
    pen.oval(86, 0, 6, 46, (215, 220, 225), turn=dice.between(-20, 20))
    pen.oval(84, 0, 10, 8, tone(wing, 70))


def car(pen: Pen, dice: Dice) -> None:
    """A car from the side or from the front."""
    dice.weighted({car_side: 68, car_front: 32})(pen, dice)


def car_side(pen: Pen, dice: Dice) -> None:
    """A car from the side."""
    body, glass = dice.near(dice.choice(PAINTS)), dice.choice(GLASS)
    roof = dice.choice(
        (
            ((-62, -6), (-42, -46), (18, -46), (50, -6)),  # saloon
            ((-86, -4), (-74, -48), (12, -48), (46, -6)),  # estate
            ((-58, -6), (-30, -36), (4, -36), (46, -6)),  # sports car
            ((-52, -2), (-44, -54), (26, -54), (52, -2)),
        )
    )  # small car
    pen.poly(roof, body)
    middle = sum(x for x, _ in roof) // 4
    pane = [(middle + (x - middle) * 80 // 100, -6 + (y + 10) * 80 // 100 if y < -10 else -6) for x, y in roof]
    pen.poly(pane, glass)
    pen.poly([(middle - 20, -60), (middle + 2, -60), (middle - 26, 0), (middle - 44, 0)], tone(glass, 150), only=glass)
    pen.box(middle - 3, -44, middle + 4, -4, body)
    pen.blob([(-98, 20), (-95, -2), (-60, -10), (45, -10), (86, -2), (98, 14), (96, 32), (-96, 32)], body)
    pen.box(-110, 12, 110, 40, tone(body, 68), only=body)
    pen.box(-92, -3, 86, 1, tone(body, 145), only=body)
    pen.limb([(middle - 10, 2), (middle - 2, 2)], (5, 5), CHROME)
    pen.oval(91, 8, 8, 7, LAMP)
    pen.box(-99, 2, -90, 12, (190, 30, 30))
    for x in (-54, 56):
        pen.oval(x, 28, 25, 24, tone(body, 40), only=body)
        _wheel(pen, x, 32, 21)


def car_front(pen: Pen, dice: Dice) -> None:
    """A car from the front."""
    body, glass = dice.near(dice.choice(PAINTS)), dice.choice(GLASS)
    high = dice.between(-60, -46)
    for side in (-1, 1):
        pen.box(min(58 * side, 84 * side), 20, max(58 * side, 84 * side), 62, RUBBER)
        pen.oval(84 * side, -12, 12, 8, tone(body, 80))
    pen.blob([(-72, -8), (-54, high), (0, high - 4), (54, high), (72, -8)], body)
    pen.poly([(-60, -10), (-46, high + 8), (46, high + 8), (60, -10)], glass)
    pen.poly([(-30, high + 8), (-6, high + 8), (-34, -10), (-56, -10)], tone(glass, 150), only=glass)
    pen.blob([(-88, 6), (-74, -14), (0, -18), (74, -14), (88, 6), (86, 46), (0, 50), (-86, 46)], body)
    pen.box(-110, 28, 110, 60, tone(body, 68), only=body)
    pen.box(-74, -12, 74, -6, tone(body, 140), only=body)
    pen.box(-38, 8, 38, 24, (45, 45, 50))
    pen.box(-30, 12, 30, 15, CHROME)
    for side in (-1, 1):
        pen.oval(64 * side, 12, 17, 13, LAMP)
        pen.oval(64 * side, 12, 8, 7, (255, 255, 240))
    pen.box(-20, 32, 20, 42, (235, 235, 225))


def bus(pen: Pen, dice: Dice) -> None:
    """A bus from the side."""
    body, glass = dice.near(dice.choice(PAINTS)), dice.choice(GLASS)
    hull = [(-98, -46), (-88, -60), (84, -60), (96, -44), (99, 8), (99, 36), (-98, 36)]
    pen.poly(hull, body)
    pen.box(-110, 10, 110, 40, tone(body, 70), only=body)
    pen.box(-110, -6, 110, 0, tone(body, 150), only=body)
    for x in range(-90, 50, 24):
        pen.box(x, -46, x + 19, -12, glass)
        pen.poly([(x + 4, -46), (x + 12, -46), (x + 5, -12), (x, -12)], tone(glass, 150), only=glass)
    pen.box(58, -46, 78, 30, tone(glass, 70))
    pen.box(67, -44, 69, 30, body)
    pen.poly([(83, -46), (90, -46), (97, -10), (83, -10)], glass)
    pen.oval(94, 18, 6, 7, LAMP)
    pen.box(-99, 8, -93, 20, (190, 30, 30))
    for x in (-62, 32):
        pen.oval(x, 34, 25, 24, tone(body, 40), only=body)
        _wheel(pen, x, 38, 20)


def ship(pen: Pen, dice: Dice) -> None:
    """A steamer, a sailing boat or a freighter; the pen's y = 40 is the water line."""
    dice.weighted({steamer: 40, sailing_boat: 35, freighter: 25})(pen, dice)


def _hull(pen: Pen, dice: Dice, colour, deck: int, bow: int) -> None:
    keel = dice.choice(PAINTS)
    pen.poly([(-92, deck), (70, deck), (104, deck - bow), (78, 50), (-78, 50)], colour)
    pen.poly([(-110, 32), (110, 32), (110, 60), (-110, 60)], dice.near(keel), only=colour)
    pen.poly([(-110, deck - bow), (110, deck - bow), (110, deck + 6), (-110, deck + 6)], tone(colour, 140), only=colour)


def _wake(pen: Pen) -> None:
    foam = (225, 235, 240)
    pen.poly([(-112, 54), (-80, 46), (80, 46), (114, 54), (60, 56), (-60, 56)], foam)


def steamer(pen: Pen, dice: Dice) -> None:
    """A steamer."""
    hull = dice.near(dice.choice(PAINTS))
    house = dice.near(dice.choice(((240, 240, 235), (235, 225, 200), (200, 205, 210))))
    funnel = dice.near(dice.choice(PAINTS))
    for x in (-22, 20) if dice.chance(50) else (0,):
        pen.poly([(x - 14, -22), (x - 12, -64), (x + 10, -64), (x + 12, -22)], funnel)
        pen.box(x - 13, -66, x + 11, -54, RUBBER)
        if dice.chance(60):
            pen.oval(x - 18, -76, 16, 10, (170, 170, 175))
            pen.oval(x - 40, -86, 20, 11, (185, 185, 190))
    pen.limb([(56, 0), (56, -74)], (6, 4), (90, 70, 50))
    pen.poly([(-72, 0), (-72, -16), (-52, -30), (36, -30), (50, -12), (54, 4), (-72, 4)], house)
    pen.box(-90, -10, 90, -6, tone(house, 70), only=house)
    for x in range(-50, 36, 17):
        pen.box(x, -24, x + 9, -14, (50, 60, 85), only=house)
    _hull(pen, dice, hull, 2, dice.between(8, 20))
    for x in range(-60, 61, 24):
        pen.oval(x, 18, 5, 5, (235, 235, 215))
    _wake(pen)


def sailing_boat(pen: Pen, dice: Dice) -> None:
    """A boat under sail."""
    sail = dice.near(dice.choice(((245, 245, 240), (240, 230, 200), (245, 245, 240), *PAINTS)))
    jib, lean = dice.near(dice.choice((sail, dice.choice(PAINTS)))), dice.between(-4, 8)
    pen.poly([(-2, -98), (-2, 8), (-70 + lean, 8), (-46, -30)], sail)
    pen.poly([(-2, -98), (-2, 8), (-22, 8), (-14, -50)], tone(sail, 78))
    pen.poly([(6, -88), (6, 6), (74 - lean, 10)], jib)
    pen.poly([(6, -88), (6, 6), (26, 8)], tone(jib, 80))
    pen.limb([(2, 20), (2, -100)], (7, 5), (90, 65, 40))
    pen.poly([(2, -100), (2, -86), (26, -93)], dice.choice(PAINTS))
    _hull(pen, dice, dice.near(dice.choice(PAINTS + ((130, 85, 45),) * 4)), 14, dice.between(4, 12))
    _wake(pen)


def freighter(pen: Pen, dice: Dice) -> None:
    """A ship with crates on its deck."""
    hull = dice.near(dice.choice(PAINTS))
    pen.poly([(-86, 8), (-86, -56), (-52, -56), (-52, 8)], (235, 232, 222))
    pen.box(-86, -48, -50, -38, (50, 60, 85))
    pen.box(-86, -24, -52, -19, (190, 188, 180))
    pen.box(-80, -76, -64, -56, dice.near(dice.choice(PAINTS)))
    for x in range(-44, 58, 26):
        for row in range(dice.between(1, 3)):
            crate = dice.near(dice.choice(PAINTS))
            pen.box(x, -14 - 18 * row, x + 24, 4 - 18 * row, crate)
            pen.box(x, -1 - 18 * row, x + 24, 4 - 18 * row, tone(crate, 70))
    pen.limb([(82, 0), (82, -50)], (6, 4), (90, 90, 95))
    _hull(pen, dice, hull, 2, dice.between(8, 16))
    _wake(pen)


def truck(pen: Pen, dice: Dice) -> None:
    """A lorry: box, tank, tipper or from the front."""
    dice.weighted({_lorry_side: 75, _lorry_front: 25})(pen, dice)


def _lorry_side(pen: Pen, dice: Dice) -> None:
    cab, load = dice.near(dice.choice(PAINTS)), dice.near(dice.choice(PAINTS + ((235, 235, 235),) * 3))
    pen.box(-98, 26, 90, 38, (60, 60, 65))
    dice.weighted({_box_load: 50, _tank_load: 22, _tipper_load: 28})(pen, dice, load)
    if dice.chance(70):  # flat-nosed
        pen.poly([(38, 34), (38, -44), (46, -50), (82, -50), (94, -6), (96, 34)], cab)
        pen.poly([(54, -38), (78, -38), (88, -6), (54, -6)], dice.choice(GLASS))
    else:  # with a bonnet
        pen.poly([(32, 34), (32, -46), (58, -46), (68, -8), (98, -4), (98, 34)], cab)
        pen.poly([(42, -36), (55, -36), (63, -8), (42, -8)], dice.choice(GLASS))
        pen.limb([(30, 20), (30, -66)], (7, 7), CHROME)
    pen.box(20, 12, 110, 40, tone(cab, 68), only=cab)
    pen.oval(92, 14, 6, 7, LAMP)
    for x in (-74, -36, 64):
        _wheel(pen, x, 40, 19)


def _box_load(pen: Pen, dice: Dice, load) -> None:
    pen.box(-100, -66, 28, 28, load)
    pen.box(-100, 14, 28, 28, tone(load, 68))
    pen.box(-100, -66, 28, -58, tone(load, 135))
    if dice.chance(60):
        sign = dice.near(dice.choice(PAINTS))
        dice.choice(
            (
                lambda: pen.oval(-36, -20, 30, 22, sign),
                lambda: pen.box(-90, -30, 18, -8, sign),
                lambda: pen.poly([(-90, 10), (-40, -54), (0, -54), (-50, 10)], sign),
            )
        )()
    else:
        for x in range(-80, 20, 22):
            pen.box(x, -58, x + 5, 14, tone(load, 80))


def _tank_load(pen: Pen, dice: Dice, load) -> None:
    pen.blob([(-100, -18), (-92, -50), (-36, -54), (20, -50), (28, -18), (20, 18), (-36, 22), (-92, 18)], load)
    pen.box(-110, 0, 40, 40, tone(load, 62), only=load)
    pen.box(-110, -42, 40, -32, tone(load, 150), only=load)
    for x in (-66, -12):
        pen.box(x, -60, x + 6, 40, tone(load, 50), only=load)
    pen.box(-46, -62, -26, -52, tone(load, 70))


def _tipper_load(pen: Pen, dice: Dice, load) -> None:
    heap = dice.near(dice.choice(((150, 115, 70), (95, 90, 85), (200, 175, 120), (120, 80, 50))))
    pen.blob([(-92, -22), (-66, -50), (-38, -60), (-8, -52), (18, -24), (-30, -10)], heap)
    pen.poly([(-104, -30), (28, -30), (22, 28), (-90, 28)], load)
    for x in range(-82, 20, 25):
        pen.box(x, -30, x + 7, 28, tone(load, 68))
    pen.box(-102, -30, 28, -24, tone(load, 135), only=load)


def _lorry_front(pen: Pen, dice: Dice) -> None:
    cab, load = dice.near(dice.choice(PAINTS)), dice.near(dice.choice(PAINTS))
    for side in (-1, 1):
        pen.box(min(34 * side, 66 * side), 50, max(34 * side, 66 * side), 92, RUBBER)
        pen.box(min(70 * side, 84 * side), -36, max(70 * side, 84 * side), -4, (50, 50, 55))
    pen.box(-62, -96, 62, 60, load)
    pen.box(-64, -62, 64, 72, cab)
    pen.box(-64, 30, 64, 72, tone(cab, 68))
    glass = dice.choice(GLASS)
    pen.box(-54, -50, 54, -4, glass)
    pen.poly([(-30, -50), (0, -50), (-26, -4), (-54, -4)], tone(glass, 150), only=glass)
    pen.box(-36, 8, 36, 44, (50, 50, 55))
    for y in (14, 24, 34):
        pen.box(-30, y, 30, y + 4, CHROME)
    for side in (-1, 1):
        pen.oval(50 * side, 52, 11, 10, LAMP)
        pen.oval(40 * side, -72, 8, 5, (255, 180, 60))
