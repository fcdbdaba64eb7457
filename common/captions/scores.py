"""How good are written captions: BLEU against references, and for drawn scenes, what of it is true.

BLEU (Papineni et al., 2002) counts words and word groups in common with sentences that people, or a grammar, wrote. It
cannot tell that "a red car" is wrong where "a blue car" stands. Where the content of a picture is known, each thing
that a caption says can be compared with it instead.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.captions.vocabulary import plain_words
from common.data.pocket.grammar import OVER, PLACES
from common.data.pocket.layout import CLASSES, COLOURS, POSES

KINDS = ("object", "colour", "relation", "place", "sky", "action", "position")


def bleu(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU-1 to BLEU-4 of a whole set of captions, by nltk's `corpus_bleu`: uniform weights, no smoothing.

    Args:
        candidates: one written caption a picture; <START>, <END> and <NULL> do not count.
        references: all captions of each picture.
    Returns:
        {"BLEU-1": 0..1, ..., "BLEU-4": 0..1}; 0 if not a single group of so many words is right.
    Raises:
        ValueError: no captions, another number of references, or a picture without any.
    """
    if not len(candidates) or len(candidates) != len(references) or not all(len(told) for told in references):
        raise ValueError(
            f"as many lists of references as candidates are needed, none of them empty; got {len(candidates)} "
            f"candidates and references of the lengths {[len(told) for told in references][:10]}"
        )
    from nltk.translate.bleu_score import corpus_bleu

    written = [plain_words(caption) for caption in candidates]
    wanted = [[plain_words(caption) for caption in told] for told in references]
    weights = [tuple(1 / n for _ in range(n)) for n in range(1, 5)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # nltk warns of a zero, and then returns about 1e-78 or less
        scores = corpus_bleu(wanted, written, weights)
    return {f"BLEU-{n}": float(score) if score > 1e-50 else 0.0 for n, score in enumerate(scores, 1)}


def references_of(data: dict[str, Any], split: str = "val") -> list[list[str]]:
    """All captions of each picture of a split, in words, in the order of `split_features`.

    Args:
        data: of `load_coco_data`.
        split: "train" or "val".
    Returns:
        A list of strings for each picture; empty for a picture without captions.
    """
    from common.data.captions import decode_captions

    told = [[] for _ in data[f"{split}_features"]]
    sentences = decode_captions(data[f"{split}_captions"], data["idx_to_word"])
    for sentence, picture in zip(sentences, data[f"{split}_image_idxs"], strict=True):
        told[picture].append(" ".join(plain_words(sentence)))
    return told


# What is true -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fact:
    """One thing that a caption says: its kind (of `KINDS`), the words, and whether the scene agrees."""

    kind: str
    words: str
    true: bool


_COLOURS = sorted({colour for colours in COLOURS.values() for colour in colours})
_VERBS = sorted({pose.verb for poses in POSES.values() for pose in poses})
_THING = re.compile(
    rf"\b(?:an? |the )?(?:({'|'.join(_COLOURS)}) )?({'|'.join(CLASSES)})\b(?: (?:is )?({'|'.join(_VERBS)})\b)?"
)
_PLACE_OF = {  # "road" -> "road", "street" -> "road", ...; "in the sky" is a place, "under a clear sky" is not
    told.split()[-1]: place for places in (PLACES, OVER) for place, phrases in places.items() for told in phrases
}  # fmt: skip
_PLACE = re.compile(rf"\b(?:in the sky|{'|'.join(sorted(set(_PLACE_OF) - {'sky'}))})\b")
_SKY = re.compile(r"\b(?:(clear|cloudy|evening) sky|sunset)\b")
_POSITION = re.compile(r"\b(?:(left|right) side|in the (middle))\b")
_RELATIONS = {  # words before the second thing -> relations as scenes record them, and whether the order is turned
    "left of": ("left of", False),
    "right of": ("left of", True),
    "behind": ("behind", False),
    "in front of": ("behind", True),
    "above": ("above", False),
    "over": ("above", False),
    "below": ("above", True),
    "under": ("above", True),
    "next to": ("left of", None),  # either order
}
_AFTER_WITH = {" to the right": "left of", " behind it": "in front of"}  # "a car with a dog to the right"


def facts(caption: str, scene: dict[str, Any]) -> list[Fact]:
    """Everything that a caption says about a scene, as far as the grammar's words can say it.

    "a red car left of a dog on the road" says: there is a car, the car is red, there is a dog, the car is left of the
    dog, the place is a road. A colour, an action or a relation of a thing that is not there is false. "left of",
    "above" and "behind" hold where the scene records them; "next to" holds for what is left or right of each other.

    Args:
        caption: words with spaces between them; <START>, <END> and <NULL> do not count.
        scene: of `data["val_scenes"]`: place, sky, position, objects, relations.
    Returns:
        The facts, in no particular order; words that say nothing of the kind are passed over.
    """
    text = " ".join(plain_words(caption))
    things = list(_THING.finditer(text))
    found = [fact for thing in things for fact in _about_thing(thing, scene)] + _relations(text, things, scene)
    for match in _PLACE.finditer(text):
        found.append(Fact("place", match[0], _PLACE_OF[match[0].split()[-1]] == scene["place"]))
    for match in _SKY.finditer(text):
        found.append(Fact("sky", match[0], (match[1] or "evening") == scene["sky"]))
    for match in _POSITION.finditer(text):
        found.append(Fact("position", match[0], (match[1] or match[2]) == scene["position"]))
    return found


def _about_thing(thing: re.Match, scene: dict[str, Any]) -> list[Fact]:
    """That it is there, and its colour and what it does, if they are told."""
    colour, kind, verb = thing.groups()
    shown = _shown(kind, scene)
    found = [Fact("object", kind, shown is not None)]
    if colour:
        found.append(Fact("colour", f"{colour} {kind}", shown is not None and shown["colour"] == colour))
    if verb:
        found.append(Fact("action", f"{kind} {verb}", shown is not None and shown["doing"] == verb))
    return found


def _shown(kind: str, scene: dict[str, Any]) -> dict[str, Any] | None:
    """The scene's object of a class, if there is one; there are never two."""
    return next((thing for thing in scene["objects"] if thing["class"] == kind), None)


def _relations(text: str, things: list[re.Match], scene: dict[str, Any]) -> list[Fact]:
    """What is told between things; "a bird above a cat and a dog" relates the bird to both."""
    groups, phrases = [], []
    for last, thing in zip([None, *things], things, strict=False):
        between = text[last.end() : thing.start()].strip() if last else ""
        if last and between == "and":
            groups[-1].append(thing[2])
        else:
            groups.append([thing[2]])
            phrases.append(_phrase(between, text[thing.end() :]))
    return [
        Fact("relation", f"{a} {phrase} {b}", _holds(a, phrase, b, scene))
        for before, after, phrase in zip(groups, groups[1:], phrases[1:], strict=False)
        if phrase
        for a in before
        for b in after
    ]


def _phrase(between: str, after: str) -> str | None:
    """Which of `_RELATIONS` the words between and after two things tell of them, if any."""
    if between == "with":
        return next((phrase for words, phrase in _AFTER_WITH.items() if f"{after} ".startswith(f"{words} ")), None)
    return next((phrase for phrase in _RELATIONS if f" {between}".endswith(f" {phrase}")), None)


def _holds(a: str, phrase: str, b: str, scene: dict[str, Any]) -> bool:
    relation, turned = _RELATIONS[phrase]
    kinds = [thing["class"] for thing in scene["objects"]]
    true = {(kinds[i], kinds[j]) for i, name, j in scene["relations"] if name == relation}
    if turned is None:
        return (a, b) in true or (b, a) in true
    return ((b, a) if turned else (a, b)) in true


def scene_accuracy(captions: Sequence[str], scenes: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How much of what captions say about scenes is true.

    Args:
        captions: one for each scene.
        scenes: of `data["val_scenes"]`.
    Returns:
        "all true": the share of captions that name at least one object and say nothing false. "facts": the share of
        all told facts that are true, and for each kind that was told ("object", "colour", "relation", "place", "sky",
        "action", "position") the same for this kind. "named": the share of the scenes' objects that the caption names,
        with the right colour.
    Raises:
        ValueError: no captions, or another number of scenes.
    """
    if not len(captions) or len(captions) != len(scenes):
        raise ValueError(f"as many captions as scenes are needed, at least one; got {len(captions)} and {len(scenes)}")
    told = [facts(caption, scene) for caption, scene in zip(captions, scenes, strict=True)]
    by_kind = defaultdict(list)
    for fact in (fact for some in told for fact in some):
        by_kind[fact.kind].append(fact.true)
    every = [true for some in by_kind.values() for true in some]
    named = [len({fact.words for fact in some if fact.kind == "colour" and fact.true}) for some in told]
    return {
        "all true": _share([any(f.kind == "object" for f in some) and all(f.true for f in some) for some in told]),
        "facts": _share(every),
        "named": sum(named) / sum(len(scene["objects"]) for scene in scenes),
        **{kind: _share(by_kind[kind]) for kind in KINDS if by_kind[kind]},
    }


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0
