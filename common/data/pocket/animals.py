"""Birds, cats, dogs and frogs, drawn with a `Pen` in their own coordinates; side views look right."""

from common.data.pocket.canvas import Dice, Pen, tone

FURS = (
    (150, 95, 50),
    (95, 62, 38),
    (60, 48, 42),
    (205, 165, 110),
    (225, 140, 60),
    (130, 125, 125),
    (225, 218, 205),
    (178, 120, 72),
    (45, 42, 48),
)
FEATHERS = (*FURS, (60, 110, 180), (200, 60, 50), (235, 195, 60), (80, 140, 90), (245, 245, 240))
SKINS = (
    (95, 150, 60),
    (70, 120, 50),
    (140, 165, 60),
    (60, 140, 95),
    (150, 120, 60),
    (190, 150, 50),
    (110, 95, 60),
    (60, 100, 120),
)
BLACK, WHITE, PINK = (25, 22, 25), (245, 242, 235), (225, 140, 140)


def eye(pen: Pen, x: int, y: int, r: int, iris=None) -> None:
    """An eye of radius r with its glint, ringed by the iris if one is given."""
    if iris:
        pen.oval(x, y, r * 135 // 100, r * 135 // 100, iris)
    pen.oval(x, y, r, r, BLACK)
    pen.oval(x + r // 3, y - r // 3, max(2, r * 2 // 5), max(2, r * 2 // 5), WHITE)


def legs(pen: Pen, dice: Dice, feet, top: int, bottom: int, thick: int, colour, stride: int) -> None:
    """Four legs: the far pair darker and first; `feet` are the hips' x."""
    for i, x in enumerate(feet):
        far = i % 2 == 0
        swing, bend = dice.between(-stride, stride), dice.between(-stride // 2, stride // 2)
        knee, hoof = (x + swing // 2 + bend, (top + bottom) // 2), (x + swing, bottom)
        shade = tone(colour, 66) if far else colour
        pen.limb([(x, top), knee, hoof], (thick * 3 // 2, thick, thick * 3 // 4), shade)
        pen.limb([hoof, (hoof[0] + thick // 2, bottom)], (thick, thick), tone(colour, 45))


def bird(pen: Pen, dice: Dice) -> None:
    """A bird on its legs, in flight, or swimming."""
    dice.weighted({bird_standing: 50, bird_flying: 30, duck: 20})(pen, dice)


def bird_standing(pen: Pen, dice: Dice) -> None:
    """A bird on its legs."""
    body, breast = dice.near(dice.choice(FEATHERS)), dice.near(dice.choice(FEATHERS))
    beak, legs = dice.choice(((240, 170, 40), (220, 110, 40), (70, 65, 60))), dice.between(0, 22)
    for x in (-8, 14):
        pen.limb([(x, 40), (x + 4, 76 + legs)], (8, 6), beak)
        pen.limb([(x - 8, 77 + legs), (x + 20, 77 + legs)], (7, 6), beak)
    tail = dice.between(-14, 24)
    pen.poly([(-40, 2), (-100, 6 + tail), (-104, 24 + tail), (-40, 36)], tone(body, 62))
    pen.blob([(-58, 16), (-30, -22), (14, -30), (48, -14), (50, 20), (24, 50), (-24, 48)], body)
    pen.blob([(20, -10), (52, -10), (54, 24), (24, 54), (-10, 50)], breast, only=body)
    pen.poly([(68, -58), (104, -44), (66, -34)], beak)
    pen.poly([(68, -44), (104, -44), (66, -34)], tone(beak, 70))
    pen.oval(46, -46, 30, 28, body)
    wing = tone(body, 72)
    pen.blob([(-72, 34), (-40, -10), (6, -16), (18, 4), (-8, 32)], wing)
    pen.limb([(-60, 28), (-20, 20), (4, 4)], (5, 6, 4), tone(body, 50))
    if dice.chance(30):
        pen.poly([(28, -68), (22, -96), (44, -84), (58, -68)], tone(body, 75))
    eye(pen, 54, -52, 9, WHITE if dice.chance(60) else None)


def bird_flying(pen: Pen, dice: Dice) -> None:
    """A bird in flight."""
    body = dice.near(dice.choice(FEATHERS))
    beak, lift = dice.choice(((240, 170, 40), (220, 110, 40), (70, 65, 60))), dice.between(-20, 16)
    pen.blob([(14, -4), (6, -40), (-20, -78 + lift), (-58, -96 + lift), (-44, -60 + lift), (-28, -10)], tone(body, 60))
    pen.poly([(-46, 2), (-102, -6), (-92, 14), (-104, 30), (-44, 22)], tone(body, 70))
    pen.blob([(-60, 12), (-20, -12), (36, -14), (56, 4), (30, 26), (-20, 30)], body)
    pen.blob([(-60, 20), (50, 12), (30, 30), (-20, 34)], dice.near(dice.choice(FEATHERS)), only=body)
    pen.poly([(76, -18), (108, -6), (74, 4)], beak)
    pen.oval(60, -10, 24, 21, body)
    wing = [
        (20, 0),
        (34, -44),
        (20, -76 + lift),
        (-4, -100 + lift),
        (-14, -66 + lift),
        (-34, -58 + lift),
        (-30, -34),
        (-44, -22),
        (-20, 4),
    ]
    pen.poly(wing, tone(body, 118))
    for dx in (-14, 4):
        pen.limb([(dx + 8, -8), (dx - 8, -60 + lift)], (5, 3), tone(body, 70))
    eye(pen, 66, -15, 7)


def duck(pen: Pen, dice: Dice) -> None:
    """A bird that swims; the water line is the lower edge of its body."""
    body, head = dice.near(dice.choice(FEATHERS)), dice.near(dice.choice(FEATHERS))
    neck = dice.between(0, 30)
    pen.blob([(-98, -10), (-60, 2), (0, 0), (40, 6), (66, 20), (44, 50), (-40, 52), (-78, 30)], body)
    pen.box(-110, 34, 110, 60, tone(body, 65), only=body)
    pen.limb([(44, 24), (52, -6), (46, -36 - neck)], (36, 26, 26), head)
    pen.poly([(60, -54 - neck), (102, -40 - neck), (98, -30 - neck), (60, -32 - neck)], (240, 165, 40))
    pen.oval(48, -44 - neck, 27, 24, head)
    pen.blob([(-70, 6), (-20, -4), (24, 12), (0, 36), (-46, 30)], tone(body, 75))
    pen.limb([(-52, 24), (0, 22)], (5, 5), tone(body, 52))
    eye(pen, 56, -50 - neck, 8, WHITE if dice.chance(50) else None)


def cat(pen: Pen, dice: Dice) -> None:
    """A cat sitting, walking, or its face."""
    dice.weighted({cat_sitting: 42, cat_walking: 28, _cat_face: 30})(pen, dice)


def _cat_head(pen: Pen, dice: Dice, x: int, y: int, r: int, fur) -> None:
    """A round face with pointed ears and whiskers; r is its radius."""

    def at(dx, dy):
        return x + dx * r // 100, y + dy * r // 100

    for side in (-1, 1):
        pen.poly([at(96 * side, -20), at(84 * side, -150), at(12 * side, -82)], fur)
        pen.poly([at(80 * side, -50), at(74 * side, -122), at(34 * side, -80)], PINK)
    pen.oval(x, y, r * 108 // 100, r * 92 // 100, fur)
    mark = dice.between(0, 3)
    if mark == 0:
        for dx in (-28, 0, 28):
            pen.limb([at(dx, -95), at(dx * 3 // 4, -45)], (r * 14 // 100, r * 8 // 100), tone(fur, 55), only=fur)
    elif mark == 1:
        pen.oval(*at(-50, -50), r * 60 // 100, r * 60 // 100, tone(fur, 60), only=fur)
    iris = dice.choice(((170, 210, 70), (235, 190, 60), (110, 180, 220)))
    for side in (-1, 1):
        ex, ey = at(44 * side, -8)
        pen.oval(ex, ey, r * 27 // 100, r * 25 // 100, iris)
        pen.oval(ex, ey, r * 11 // 100, r * 24 // 100, BLACK)
        muzzle_x, muzzle_y = at(20 * side, 42)
        pen.oval(muzzle_x, muzzle_y, r * 28 // 100, r * 22 // 100, tone(fur, 150))
        for dy in (28, 52):
            pen.limb([at(36 * side, 38), at(140 * side, dy)], (r * 8 // 100, r * 6 // 100), WHITE)
    pen.poly([at(-15, 22), at(15, 22), at(0, 42)], (215, 100, 110))


def cat_sitting(pen: Pen, dice: Dice) -> None:
    """A cat that sits and looks at us."""
    fur, side = dice.near(dice.choice(FURS)), dice.choice((-1, 1))
    pen.limb([(30 * side, 80), (72 * side, 74), (88 * side, 40), (76 * side, 10)], (20, 20, 18, 12), tone(fur, 78))
    pen.blob([(-28, -20), (28, -20), (48, 40), (52, 84), (0, 94), (-52, 84), (-48, 40)], fur)
    pen.oval(0, 30, 22, 34, tone(fur, 140), only=fur)
    for x in (-16, 16):
        pen.limb([(x, 30), (x, 84)], (20, 18), tone(fur, 110))
        pen.oval(x, 88, 15, 9, tone(fur, 135))
    for x in (-44, 44):
        pen.oval(x, 82, 22, 13, tone(fur, 80))
    _cat_head(pen, dice, 0, -34, 42, fur)


def cat_walking(pen: Pen, dice: Dice) -> None:
    """A cat that walks, from the side."""
    fur, tip = dice.near(dice.choice(FURS)), dice.between(-16, 12)
    pen.limb([(-66, 4), (-88, -24), (-84 + tip, -62), (-66 + tip, -84)], (18, 16, 14, 10), fur)
    legs(pen, dice, (-58, -44, 18, 32), 24, 80, 15, fur, 14)
    pen.blob([(-78, 14), (-62, -12), (0, -14), (44, -16), (54, 14), (30, 36), (-20, 34), (-62, 38)], fur)
    pen.box(-110, 22, 110, 50, tone(fur, 70), only=fur)
    if dice.chance(50):
        for x in range(-56, 30, 20):
            pen.limb([(x, -20), (x + 4, 12)], (9, 4), tone(fur, 55), only=fur)
    _cat_head(pen, dice, 58, -28, 34, fur)


def _cat_face(pen: Pen, dice: Dice) -> None:
    fur = dice.near(dice.choice(FURS))
    pen.blob([(-60, 64), (0, 40), (60, 64), (84, 240), (-84, 240)], tone(fur, 80))
    _cat_head(pen, dice, 0, 12, 66, fur)


def dog(pen: Pen, dice: Dice) -> None:
    """A dog standing, sitting, or its face."""
    dice.weighted({dog_standing: 40, dog_sitting: 30, _dog_face: 30})(pen, dice)


def _dog_head(pen: Pen, dice: Dice, x: int, y: int, r: int, fur, ear) -> None:
    """A face with drooping ears, a long muzzle and a tongue."""

    def at(dx, dy):
        return x + dx * r // 100, y + dy * r // 100

    pen.blob([at(-70, -80), at(0, -100), at(70, -80), at(76, 0), at(52, 70), at(-52, 70), at(-76, 0)], fur)
    if dice.chance(40):
        pen.box(*at(-14, -110), *at(14, 30), WHITE, only=fur)
    if dice.chance(35):
        pen.oval(*at(40, -16), r * 34 // 100, r * 40 // 100, tone(fur, 60), only=fur)
    if dice.chance(70):
        pen.blob([at(-16, 66), at(16, 66), at(20, 110), at(0, 128), at(-20, 110)], (225, 95, 110))
    pen.oval(*at(0, 46), r * 50 // 100, r * 42 // 100, tone(fur, 155))
    pen.oval(*at(0, 24), r * 26 // 100, r * 19 // 100, BLACK)
    pen.limb([at(0, 40), at(0, 68)], (r * 9 // 100, r * 9 // 100), BLACK)
    for side in (-1, 1):
        eye(pen, *at(36 * side, -22), max(5, r * 15 // 100))
        pen.blob(
            [
                at(46 * side, -92),
                at(84 * side, -86),
                at(122 * side, -10),
                at(112 * side, 52),
                at(80 * side, 36),
                at(66 * side, -30),
            ],
            ear,
        )


def dog_sitting(pen: Pen, dice: Dice) -> None:
    """A dog that sits and looks at us."""
    fur, side = dice.near(dice.choice(FURS)), dice.choice((-1, 1))
    pen.limb([(30 * side, 82), (70 * side, 66), (90 * side, 40)], (16, 14, 8), tone(fur, 80))
    pen.blob([(-34, -10), (34, -10), (46, 40), (56, 86), (0, 92), (-56, 86), (-46, 40)], fur)
    pen.blob([(-22, -6), (22, -6), (16, 46), (-16, 46)], tone(fur, 150), only=fur)
    for x in (-20, 20):
        pen.limb([(x, 20), (x, 84)], (24, 22), tone(fur, 112))
        pen.oval(x, 88, 18, 10, tone(fur, 140))
    pen.box(-34, -4, 34, 8, dice.choice(((200, 40, 40), (40, 80, 190), (240, 200, 60))))
    _dog_head(pen, dice, 0, -44, 44, fur, tone(fur, 60))


def dog_standing(pen: Pen, dice: Dice) -> None:
    """A dog that stands, from the side."""
    fur, patch = dice.near(dice.choice(FURS)), dice.near(dice.choice(FURS))
    wag = dice.between(-14, 14)
    pen.limb([(-64, -8), (-84, -34), (-94 + wag, -64)], (16, 12, 6), fur)
    legs(pen, dice, (-58, -44, 22, 36), 20, 82, 17, fur, 16)
    pen.blob([(-76, 6), (-60, -20), (0, -20), (40, -26), (54, 0), (40, 32), (-10, 22), (-60, 28)], fur)
    if dice.chance(45):
        pen.oval(-20, -8, 28, 24, patch, only=fur)
    pen.limb([(36, 0), (56, -38)], (42, 36), fur)
    pen.limb([(36, -18), (62, -6)], (9, 9), dice.choice(((200, 40, 40), (40, 80, 190), (240, 200, 60))))
    pen.blob([(38, -66), (64, -72), (76, -54), (104, -48), (106, -32), (78, -24), (48, -28)], fur)
    pen.blob([(72, -38), (104, -40), (102, -28), (78, -22)], tone(fur, 145), only=fur)
    pen.oval(104, -47, 8, 7, BLACK)
    if dice.chance(50):
        pen.blob([(86, -28), (98, -28), (98, -8), (88, -8)], (225, 95, 110))
    pen.blob([(34, -66), (54, -66), (54, -34), (44, -14), (28, -22)], tone(fur, 58))
    eye(pen, 70, -54, 7)


def _dog_face(pen: Pen, dice: Dice) -> None:
    fur = dice.near(dice.choice(FURS))
    pen.blob([(-54, 60), (0, 40), (54, 60), (80, 240), (-80, 240)], tone(fur, 80))
    _dog_head(pen, dice, 0, -2, 72, fur, dice.near(tone(fur, dice.choice((55, 70, 130)))))


def frog(pen: Pen, dice: Dice) -> None:
    """A frog squatting, seen from the side or from the front."""
    dice.weighted({_frog_side: 50, _frog_front: 50})(pen, dice)


def _spots(pen: Pen, dice: Dice, skin, places) -> None:
    if dice.chance(60):
        spot = tone(skin, dice.choice((60, 150)))
        for x, y in places:
            pen.oval(x, y, 9, 8, spot, only=skin)


def _frog_side(pen: Pen, dice: Dice) -> None:
    skin = dice.near(dice.choice(SKINS))
    belly, dark = dice.choice((tone(skin, 165), (235, 225, 150))), tone(skin, 70)
    pen.blob([(-92, 62), (-66, 6), (-20, -32), (30, -44), (78, -30), (92, -2), (70, 30), (30, 62), (-40, 74)], skin)
    pen.blob([(96, 0), (60, 14), (20, 40), (20, 80), (80, 60)], belly, only=skin)
    _spots(pen, dice, skin, ((-44, 4), (-16, -14), (-20, 18), (10, -26), (-60, 30)))
    pen.limb([(96, -2), (62, 8), (34, 2)], (7, 8, 5), tone(skin, 35))
    pen.limb([(40, 36), (54, 62), (46, 78)], (22, 17, 14), dark)
    pen.limb([(40, 82), (78, 84)], (12, 10), dark)
    pen.blob([(-90, 44), (-56, 16), (-16, 30), (-14, 54), (-52, 70), (-86, 70)], dark)
    pen.blob([(-78, 44), (-54, 26), (-26, 34), (-50, 52)], tone(skin, 115), only=dark)
    pen.limb([(-84, 78), (-10, 82)], (14, 12), dark)
    pen.oval(48, -48, 25, 24, skin)
    pen.oval(51, -50, 18, 18, dice.choice(((245, 225, 90), (240, 240, 225), (235, 140, 60))))
    pen.oval(54, -50, 10, 11, BLACK)
    pen.oval(50, -55, 4, 4, WHITE)
    pen.oval(86, -16, 4, 3, dark)


def _frog_front(pen: Pen, dice: Dice) -> None:
    skin = dice.near(dice.choice(SKINS))
    belly, dark = dice.choice((tone(skin, 165), (235, 225, 150))), tone(skin, 70)
    iris = dice.choice(((245, 225, 90), (240, 240, 225), (235, 140, 60)))
    for side in (-1, 1):
        pen.blob([(40 * side, 30), (78 * side, 14), (98 * side, 44), (86 * side, 72), (50 * side, 76)], dark)
        pen.limb([(50 * side, 78), (102 * side, 82)], (14, 12), dark)
    pen.blob([(-62, 20), (0, -10), (62, 20), (56, 66), (0, 80), (-56, 66)], skin)
    pen.oval(0, 56, 40, 30, belly, only=skin)
    for side in (-1, 1):
        pen.limb([(36 * side, 40), (30 * side, 78)], (19, 16), tone(skin, 88))
        pen.limb([(14 * side, 82), (48 * side, 82)], (12, 12), tone(skin, 88))
    pen.blob([(-82, 0), (-60, -40), (0, -46), (60, -40), (82, 0), (50, 30), (0, 36), (-50, 30)], skin)
    _spots(pen, dice, skin, ((-16, -32), (12, -28), (0, -10), (-50, -12), (50, -10)))
    pen.blob([(-66, 8), (0, 16), (66, 8), (44, 30), (0, 36), (-44, 30)], belly, only=skin)
    pen.limb([(-76, 0), (-40, 14), (0, 18), (40, 14), (76, 0)], (6, 8, 8, 8, 6), tone(skin, 35))
    for side in (-1, 1):
        pen.oval(46 * side, -48, 29, 28, skin)
        pen.oval(46 * side, -50, 20, 20, iris)
        pen.oval(46 * side, -50, 12, 11, BLACK)
        pen.oval(46 * side + 4, -55, 4, 4, WHITE)
        pen.oval(10 * side, -18, 4, 3, dark)
