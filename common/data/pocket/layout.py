"""What a scene holds and where: one to three coloured things in one place, in relations that are true by construction.

A `Scene` is only a description, in the page's coordinates (-100..100, x to the right, y down). `picture.py` draws
it and `grammar.py` puts it into words, so both speak of the same facts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from common.data.pocket import animals, hoofed, vehicles
from common.data.pocket.canvas import Dice


@dataclass(frozen=True)
class Pose:
    """One way to draw a class.

    Attributes:
        draw: the drawing.
        top, bottom: its extent in the drawing's own coordinates; sideways it is within -112..112.
        verb: what the thing does in this pose.
        level: where it can be: "ground", "water" or "air".
    """

    draw: Callable
    top: int
    bottom: int
    verb: str
    level: str = "ground"


@dataclass(frozen=True)
class Thing:
    """One drawn thing: its class, colour and pose, the middle of the drawing, its size in per cent, mirrored or not."""

    kind: str
    colour: str
    pose: Pose
    x: int
    y: int
    scale: int
    flip: bool


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn.

    Attributes:
        place: a key of `PLACES`.
        sky: one of `SKIES`; "" in a room.
        horizon: where ground or water begins, in page coordinates.
        things: one to three, of different classes; the farther ones first.
        relations: (i, relation, j): "left of", "above" or "behind" holds between the things i and j. Exactly
            these hold, and what they imply ("right of", "below", "in front of").
        position: "left", "middle" or "right" for a thing that is alone; otherwise "".
    """

    place: str
    sky: str
    horizon: int
    things: tuple[Thing, ...]
    relations: tuple[tuple[int, str, int], ...]
    position: str = ""


POSES = {
    "plane": (
        Pose(vehicles.airliner, -57, 61, "flying", "air"),
        Pose(vehicles.propeller_plane, -64, 62, "flying", "air"),
    ),
    "boat": (
        Pose(vehicles.steamer, -98, 57, "floating", "water"),
        Pose(vehicles.sailing_boat, -104, 57, "floating", "water"),
        Pose(vehicles.freighter, -78, 57, "floating", "water"),
    ),
    "car": (Pose(vehicles.car_side, -55, 54, "parked"), Pose(vehicles.car_front, -65, 63, "parked")),
    "bus": (Pose(vehicles.bus, -61, 59, "parked"),),
    "bird": (
        Pose(animals.bird_standing, -97, 92, "standing"),
        Pose(animals.bird_flying, -117, 35, "flying", "air"),
        Pose(animals.duck, -100, 52, "swimming", "water"),
    ),
    "cat": (Pose(animals.cat_sitting, -99, 98, "sitting"), Pose(animals.cat_walking, -84, 83, "walking")),
    "dog": (Pose(animals.dog_sitting, -88, 99, "sitting"), Pose(animals.dog_standing, -73, 84, "standing")),
    "horse": (Pose(hoofed.horse_body, -99, 96, "standing"),),
}
CLASSES = tuple(sorted(POSES))
SIZES = {"plane": 108, "boat": 108, "car": 100, "bus": 115, "bird": 90, "cat": 92, "dog": 96, "horse": 102}  # per cent

_PAINTS = ("red", "blue", "white", "yellow", "green")
_FURS = ("black", "white", "brown", "gray")
COLOURS = {  # of each class
    "plane": _PAINTS,
    "boat": _PAINTS,
    "car": _PAINTS,
    "bus": _PAINTS,
    "bird": ("red", "blue", "white", "yellow", "black"),
    "cat": ("black", "white", "gray", "orange"),
    "dog": _FURS,
    "horse": _FURS,
}
# Pairs that no training picture shows, so that one can measure whether a model puts known words together anew.
HELD_OUT = (
    ("blue", "car"),
    ("red", "bus"),
    ("green", "boat"),
    ("yellow", "plane"),
    ("white", "bird"),
    ("black", "cat"),
    ("brown", "dog"),
    ("gray", "horse"),
)

SKIES = ("clear", "cloudy", "evening")
PLACES = {  # the classes that stand or swim there
    "road": ("car", "bus", "dog", "cat", "horse"),
    "field": ("car", "dog", "cat", "horse", "bird"),
    "snow": ("car", "bus", "dog", "cat", "horse", "bird"),
    "beach": ("car", "dog", "cat", "horse", "bird"),
    "sea": ("boat", "bird"),
    "room": ("dog", "cat", "bird"),
    "sky": (),
}
FLYERS = ("bird", "plane")
_PLACE_WEIGHTS = {"road": 19, "field": 17, "snow": 13, "beach": 15, "sea": 16, "room": 12, "sky": 8}
_ON_THE_GROUND = {"alone": 30, "beside": 28, "behind": 17, "above": 15, "beside and above": 10}
_IN_THE_ROOM = {"alone": 35, "beside": 40, "behind": 25}
_ON_THE_SEA = {"alone": 40, "beside": 30, "above": 30}
_IN_THE_SKY = {"alone": 50, "beside": 25, "above": 25}
_ARRANGEMENTS = {"room": _IN_THE_ROOM, "sea": _ON_THE_SEA, "sky": _IN_THE_SKY}


def compose(dice: Dice) -> Scene:
    """A scene, drawn at random: place, sky, arrangement, classes, colours, poses, sizes and positions."""
    place = dice.weighted(_PLACE_WEIGHTS)
    sky = "" if place == "room" else dice.choice(SKIES)
    horizon = dice.between(4, 26) if place == "room" else dice.between(-24, -4)
    arrangement = dice.weighted(_ARRANGEMENTS.get(place, _ON_THE_GROUND))
    return _ARRANGE[arrangement](dice, place, sky, horizon)


def held_out(scene: Scene) -> bool:
    """True if the scene shows one of the pairs that training never shows."""
    return any((thing.colour, thing.kind) in HELD_OUT for thing in scene.things)


# Arrangements: page coordinates, in which a thing of scale s is at most about 1.1 s wide to either side -------------


def _alone(dice: Dice, place: str, sky: str, horizon: int) -> Scene:
    position = dice.choice(("left", "middle", "right"))
    x = {"left": -48, "middle": 0, "right": 48}[position] + dice.between(-5, 5)
    largest = (50, 68) if position == "middle" else (36, 42)
    flies = place == "sky" or (place != "room" and dice.chance(15))
    kind = dice.choice(FLYERS if flies else PLACES[place])
    if place == "sky":
        thing = _flying(dice, kind, x, dice.between(-30, 30), dice.between(*largest))
    elif flies:
        thing = _flying(dice, kind, x, dice.between(-58, -50), dice.between(32, 38))
    else:
        thing = _standing(dice, kind, place, x, dice.between(70, 90), dice.between(*largest))
    return Scene(place, sky, horizon, (thing,), (), position)


def _beside(dice: Dice, place: str, sky: str, horizon: int) -> Scene:
    left, right = _different(dice, FLYERS if place == "sky" else PLACES[place], 2)
    columns = (-50 + dice.between(-4, 4), 50 + dice.between(-4, 4))
    things = []
    for kind, x in zip((left, right), columns, strict=True):
        scale = dice.between(36, 42)
        if place == "sky":
            things.append(_flying(dice, kind, x, dice.between(-24, 24), scale))
        else:
            things.append(_standing(dice, kind, place, x, dice.between(76, 90), scale))
    return Scene(place, sky, horizon, tuple(things), ((0, "left of", 1),))


def _behind(dice: Dice, place: str, sky: str, horizon: int) -> Scene:
    far, near = _different(dice, PLACES[place], 2)
    side, foot = dice.choice((-1, 1)), dice.between(84, 91)
    behind = _standing(dice, far, place, side * dice.between(17, 22), foot - dice.between(26, 34), dice.between(46, 54))
    front = _standing(dice, near, place, -side * dice.between(17, 22), foot, dice.between(40, 48))
    return Scene(place, sky, horizon, (behind, front), ((0, "behind", 1),))


def _above(dice: Dice, place: str, sky: str, horizon: int) -> Scene:
    upper, lower = _flyer_and(dice, place, 1)
    flyer = _flying(dice, upper, dice.between(-25, 25), dice.between(-58, -52), dice.between(32, 37))
    if place == "sky":
        other = _flying(dice, lower, dice.between(-25, 25), dice.between(40, 48), dice.between(34, 42))
    else:
        other = _standing(dice, lower, place, dice.between(-25, 25), dice.between(78, 90), dice.between(42, 48))
    return Scene(place, sky, horizon, (flyer, other), ((0, "above", 1),))


def _beside_and_above(dice: Dice, place: str, sky: str, horizon: int) -> Scene:
    upper, left, right = _flyer_and(dice, place, 2)
    flyer = _flying(dice, upper, dice.between(-10, 10), dice.between(-60, -54), dice.between(30, 35))
    low = [
        _standing(dice, kind, place, x + dice.between(-4, 4), dice.between(78, 90), dice.between(36, 42))
        for kind, x in ((left, -50), (right, 50))
    ]
    return Scene(place, sky, horizon, (flyer, *low), ((1, "left of", 2), (0, "above", 1), (0, "above", 2)))


_ARRANGE = {
    "alone": _alone,
    "beside": _beside,
    "behind": _behind,
    "above": _above,
    "beside and above": _beside_and_above,
}


def _different(dice: Dice, kinds: tuple[str, ...], count: int) -> list[str]:
    """So many different classes, in random order: no caption can mean the wrong one of two cars."""
    left = list(kinds)
    return [left.pop(dice.between(0, len(left) - 1)) for _ in range(count)]


def _flyer_and(dice: Dice, place: str, count: int) -> list[str]:
    """A flyer, then so many classes that are elsewhere."""
    upper = dice.choice(FLYERS)
    others = FLYERS if place == "sky" else PLACES[place]
    return [upper, *_different(dice, tuple(kind for kind in others if kind != upper), count)]


def _flying(dice: Dice, kind: str, x: int, y: int, scale: int) -> Thing:
    """A thing in the air whose middle is at (x, y)."""
    pose = dice.choice([pose for pose in POSES[kind] if pose.level == "air"])
    scale = scale * SIZES[kind] // 100
    return _coloured(dice, kind, pose, x, y - (pose.top + pose.bottom) * scale // 200, scale)


def _standing(dice: Dice, kind: str, place: str, x: int, foot: int, scale: int) -> Thing:
    """A thing whose lowest point is at y = foot."""
    level = "water" if place == "sea" else "ground"
    pose = dice.choice([pose for pose in POSES[kind] if pose.level == level])
    scale = scale * SIZES[kind] // 100
    return _coloured(dice, kind, pose, x, foot - pose.bottom * scale // 100, scale)


def _coloured(dice: Dice, kind: str, pose: Pose, x: int, y: int, scale: int) -> Thing:
    return Thing(kind, dice.choice(COLOURS[kind]), pose, x, y, scale, dice.chance(50))
