"""Vocabulary, BLEU against its formula, and what a caption says against scenes that the grammar describes."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.captions.scores import bleu, facts, references_of, scene_accuracy
from common.captions.vocabulary import build_vocabulary, encode, plain_words, tokenize
from common.data.pocket import captions as pocket
from common.data.pocket import grammar, layout
from common.data.pocket.canvas import Dice

pytestmark = pytest.mark.robustness
WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, max_size=9)
SCENE = {
    "place": "road", "sky": "cloudy", "position": "",
    "objects": [
        {"class": "plane", "colour": "red", "doing": "flying"},
        {"class": "car", "colour": "blue", "doing": "parked"},
        {"class": "dog", "colour": "white", "doing": "sitting"},
    ],
    "relations": [[1, "left of", 2], [0, "above", 1], [0, "above", 2]],
}  # fmt: skip


def bleu_by_hand(candidates, references, n):
    """Papineni's formula: geometric mean of clipped precisions times the brevity penalty."""
    logs = []
    for k in range(1, n + 1):
        right = total = 0
        for words, told in zip(candidates, references, strict=True):
            grams = lambda w, k=k: Counter(tuple(w[i : i + k]) for i in range(len(w) - k + 1))  # noqa: E731
            mine = grams(words)
            most = Counter()
            for other in told:
                most |= grams(other)
            right, total = right + sum((mine & most).values()), total + max(1, sum(mine.values()))
        if right == 0:
            return 0.0
        logs.append(math.log(right / total))
    length = sum(map(len, candidates))
    closest = sum(min((abs(len(o) - len(w)), len(o)) for o in told)[1]
                  for w, told in zip(candidates, references, strict=True))  # fmt: skip
    return min(1, math.exp(1 - closest / length)) * math.exp(sum(logs) / n)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_bleu_is_the_formula(pairs):
    candidates, references = [words for words, _ in pairs], [told for _, told in pairs]
    got = bleu([" ".join(w) for w in candidates], [[" ".join(w) for w in told] for told in references])
    for n in range(1, 5):
        assert math.isclose(got[f"BLEU-{n}"], bleu_by_hand(candidates, references, n), abs_tol=1e-9)


def test_bleu_of_the_references_is_one_and_of_other_words_zero():
    told = [["a red car on the road", "there is a car"], ["a dog sits here"]]
    assert bleu(["<START> a red car on the road <END> <NULL>", "a dog sits here"], told)["BLEU-4"] == pytest.approx(1)
    assert set(bleu(["x y z v w", "x y z v"], told).values()) == {0.0}


@pytest.mark.parametrize("candidates, references", [([], []), (["a"], []), (["a"], [[]])])
def test_bleu_without_references(candidates, references):
    with pytest.raises(ValueError, match="none of them empty"):
        bleu(candidates, references)


def record(scene):
    return pocket._record(scene, [(0, 0, 1, 1)] * len(scene.things), False)


def test_everything_that_the_grammar_says_is_true():
    kinds = Counter()
    for i in range(500):
        rng = np.random.RandomState([11, i])
        scene = layout.compose(Dice(rng))
        for caption in grammar.captions(scene, Dice(rng)):
            said = facts(caption, record(scene))
            assert all(fact.true for fact in said), (caption, said)
            assert sum(fact.kind == "colour" for fact in said) == sum(fact.kind == "object" for fact in said) > 0
            kinds.update(fact.kind for fact in said)
    assert min(kinds.values()) > 50 and len(kinds) == 7


def said(caption):
    return {(fact.kind, fact.words, fact.true) for fact in facts(caption, SCENE)}


@pytest.mark.parametrize(
    "caption, expected",
    [
        ("a red plane", {("object", "plane", True), ("colour", "red plane", True)}),
        ("a blue plane", {("object", "plane", True), ("colour", "blue plane", False)}),
        ("a blue bus", {("object", "bus", False), ("colour", "blue bus", False)}),
        ("the dog is sitting", {("object", "dog", True), ("action", "dog sitting", True)}),
        ("a dog walking", {("object", "dog", True), ("action", "dog walking", False)}),
        ("on the street", {("place", "street", True)}),
        ("in the sky", {("place", "in the sky", False)}),
        ("under a cloudy sky", {("sky", "cloudy sky", True)}),
        ("at sunset", {("sky", "sunset", False)}),
        ("in the middle", {("position", "in the middle", False)}),
        ("car left of dog", {("object", "car", True), ("object", "dog", True), ("relation", "car left of dog", True)}),
        ("", set()),
        ("of of the <UNK>", set()),
    ],
)
def test_facts(caption, expected):
    assert said(caption) == expected


@pytest.mark.parametrize(
    "caption, true",
    [
        ("a car to the left of a dog", True),
        ("a dog is right of a car", True),
        ("a dog left of a car", False),
        ("a car next to a dog", True),
        ("a dog next to a car", True),
        ("a plane next to a car", False),
        ("a plane flying over a car", True),
        ("a car on the road below a plane", True),
        ("a car above a plane", False),
        ("a car behind a dog", False),
        ("a dog in front of a car", False),
        ("a bus left of a dog", False),
        ("a car with a dog to the right", True),
        ("a dog with a car to the right", False),
        ("a car with a dog behind it", False),
    ],
)
def test_relations(caption, true):
    assert [fact.true for fact in facts(caption, SCENE) if fact.kind == "relation"] == [true]


def test_a_relation_with_two_things_is_two_facts():
    told = [fact.words for fact in facts("a plane above a car and a dog", SCENE) if fact.kind == "relation"]
    assert told == ["plane above car", "plane above dog"]
    told = [fact.words for fact in facts("a car and a dog on the road below a plane", SCENE) if fact.kind == "relation"]
    assert told == ["car below plane", "dog below plane"]


def test_scene_accuracy():
    captions = [
        "<START> a red plane above a blue car <END>",
        "a red plane above a green car",
        "the the <END> a red plane",
    ]
    got = scene_accuracy(captions, [SCENE] * 3)
    assert got["all true"] == 1 / 3 and got["relation"] == 1 and got["object"] == 1 and got["colour"] == 3 / 4
    assert got["facts"] == 9 / 10 and got["named"] == 3 / 9 and "sky" not in got


@pytest.mark.parametrize("captions, scenes", [([], []), (["a"], [])])
def test_bad_scene_accuracy(captions, scenes):
    with pytest.raises(ValueError, match="as many captions as scenes"):
        scene_accuracy(captions, scenes)


def test_references():
    words = ["<NULL>", "<START>", "<END>", "<UNK>", "a", "cat"]
    rows = np.array([[1, 4, 5, 2], [1, 5, 2, 0], [1, 3, 2, 0]])
    data = {"val_features": np.zeros((3, 2)), "val_captions": rows, "val_image_idxs": np.array([2, 0, 2]),
            "idx_to_word": words}  # fmt: skip
    assert references_of(data) == [["cat"], [], ["a cat", "<UNK>"]]


def test_words():
    assert tokenize("A man's T-shirt, red &\tBLUE (2)!") == ["a", "mans", "t", "shirt", "red", "blue", "2"]
    assert tokenize(" . ") == [] and tokenize("Ein Bär_") == ["ein", "bär"]
    assert plain_words("<START> a <UNK> cat <END> cat <NULL>") == ["a", "<UNK>", "cat"]


def test_vocabulary():
    sentences = [["a", "dog"], ["a", "cat"], ["the", "dog"], ["a"]]
    assert build_vocabulary(sentences, 2) == ["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog"]
    assert build_vocabulary(sentences, 1)[4:] == ["a", "dog", "cat", "the"]
    with pytest.raises(ValueError, match="no word occurs 9 times"):
        build_vocabulary(sentences, 9)
    with pytest.raises(ValueError, match="threshold"):
        build_vocabulary(sentences, 0)
    with pytest.raises(TypeError, match="a caption must be a string"):
        tokenize(None)


def test_encode():
    number = {word: i for i, word in enumerate(["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog"])}
    assert encode(["a", "red", "dog"], number, 5).tolist() == [1, 4, 3, 5, 2, 0, 0]
    assert encode(["a"] * 9, number, 5).tolist() == [1, 4, 4, 4, 4, 4, 2] and encode([], number, 1).tolist() == [
        1,
        2,
        0,
    ]
    assert encode(["a"], number).shape == (17,) and encode(["a"], number).dtype == np.int32
