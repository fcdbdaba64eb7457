"""Five captions of a scene, each another true sentence about it, from a small grammar.

Every sentence names each thing with its colour ("an orange cat"), so that it can be compared with the scene word by
word; the place, the sky, the relation and what a thing does are told in some of the five only.
"""

from __future__ import annotations

from common.data.pocket.canvas import Dice
from common.data.pocket.layout import Scene, Thing

CAPTIONS = 5  # a picture
LONGEST = 15  # words
PLACES = {
    "road": ("on the road", "on a road", "on the street"),
    "field": ("in a field", "in the field", "on the grass"),
    "snow": ("in the snow", "on the snow"),
    "beach": ("on the beach", "on a beach", "on the sand"),
    "sea": ("on the sea", "on the water"),
    "room": ("in a room", "on the floor", "indoors"),
    "sky": ("in the sky", "in the air"),
}
OVER = {  # where something flies
    "road": ("over the road", "over a road", "over the street"),
    "field": ("over a field", "over the field", "over the grass"),
    "snow": ("over the snow",),
    "beach": ("over the beach", "over a beach", "over the sand"),
    "sea": ("over the sea", "over the water"),
    "sky": PLACES["sky"],
}
SKIES = {
    "clear": ("under a clear sky", "below a clear sky"),
    "cloudy": ("under a cloudy sky", "below a cloudy sky"),
    "evening": ("under an evening sky", "at sunset"),
}
POSITIONS = {
    "left": ("on the left side", "on the left side of the picture"),
    "middle": ("in the middle", "in the middle of the picture"),
    "right": ("on the right side", "on the right side of the picture"),
}

_ALONE = (
    "{a} {a_does} {a_where}",
    "{a} is {a_does} {a_where}",
    "{a} {a_where} {sky}",
    "there is {a} {a_where}",
    "the picture shows {a} {a_where}",
    "{a} {position}",
    "there is {a} {position}",
    "{a} {a_does} {position}",
)
# Of things beside or behind each other, the one to the left or in front comes first. If both orders occurred, the word
# between the two would depend on which of them a sentence happened to begin with, and a small network learns that late.
_TEMPLATES = {
    "left of": (
        "{a} is left of {b}",
        "{a} to the left of {b} {b_where}",
        "{a} left of {b} {sky}",
        "{a} and {b} {b_where} {sky}",
        "there is {a} next to {b} {b_where}",
        "{a} {a_does} to the left of {b}",
        "the picture shows {a} left of {b}",
        "{a} with {b} to the right",
    ),
    "above": (
        "{a} is above {b}",
        "{b} is below {a}",
        "{a} flying over {b} {b_where}",
        "{b} {b_does} {b_where} below {a}",
        "{a} above {b} {sky}",
        "there is {b} {b_where} below {a}",
        "the picture shows {a} above {b}",
        "{a} and {b} {sky}",
    ),
    "behind": (
        "{b} is in front of {a}",
        "{b} {b_does} in front of {a} {a_where}",
        "{b} in front of {a} {sky}",
        "{b} and {a} {b_where} {sky}",
        "there is {b} in front of {a} {b_where}",
        "the picture shows {b} in front of {a}",
        "{b} with {a} behind it",
    ),
}
_THREE = (  # c is above a and b, a is left of b
    "{c} above {a} and {b}",
    "{c} flying over {a} and {b} {b_where}",
    "{a} left of {b} below {c}",
    "{a} and {b} {b_where} below {c}",
    "{c} above {a} and {b} {sky}",
    "there is {a} next to {b} below {c}",
    "the picture shows {c} above {a} and {b}",
    "{a} is left of {b} {b_where}",
)


def captions(scene: Scene, dice: Dice) -> list[str]:
    """Five different captions of a scene, at most 15 words each, lower case, words separated by one space.

    Args:
        scene: what to describe.
        dice: chooses among the sentences that are true of it.
    """
    templates, named = _sentences(scene)
    templates, told = list(templates), []
    while len(told) < CAPTIONS:
        template = templates.pop(dice.between(0, len(templates) - 1))
        told.append(" ".join(template.format_map(_words(scene, named, dice)).split()))
    return told


def noun_phrase(thing: Thing) -> str:
    """ "a red car"."""
    return f"{'an' if thing.colour[0] in 'aeiou' else 'a'} {thing.colour} {thing.kind}"


def _sentences(scene: Scene) -> tuple[tuple[str, ...], dict[str, Thing]]:
    """The templates that fit a scene, and which thing each of their letters is."""
    if len(scene.things) == 1:
        templates = _ALONE if scene.sky else tuple(t for t in _ALONE if "{sky}" not in t)
        return templates, {"a": scene.things[0]}
    if len(scene.things) == 3:
        return _THREE, dict(zip("cab", scene.things, strict=True))
    return _TEMPLATES[scene.relations[0][1]], dict(zip("ab", scene.things, strict=True))


def _words(scene: Scene, named: dict[str, Thing], dice: Dice) -> dict[str, str]:
    """What each slot of a template says this time; in a room, nothing of the sky."""
    words = {"sky": dice.choice(SKIES[scene.sky]) if scene.sky else ""}
    if scene.position:
        words["position"] = dice.choice(POSITIONS[scene.position])
    for letter, thing in named.items():
        where = OVER if thing.pose.level == "air" else PLACES
        words[letter], words[f"{letter}_does"] = noun_phrase(thing), thing.pose.verb
        words[f"{letter}_where"] = dice.choice(where[scene.place])
    return words
