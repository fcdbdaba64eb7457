"""The pocket captions: the same everywhere, true of their pictures, and training lacks what it should lack."""

import hashlib
import json
import re
from collections import Counter
from itertools import pairwise

import h5py
import numpy as np
import pytest
from PIL import Image

from common.data.pocket import captions, grammar, layout, picture
from common.data.pocket.canvas import Dice

pytestmark = pytest.mark.robustness
SHA256 = "2ca9639f296df7af8d8375f76327a5662d8f3315940263bb8cbb4670e471bfcc"
NOUNS = re.compile(rf"\ban? ({'|'.join(picture.RGB)}) ({'|'.join(layout.CLASSES)})\b")
PLACE_WORDS = {"road": "road street", "field": "field grass", "snow": "snow", "beach": "beach sand", "sea": "sea water",
               "room": "room floor indoors", "sky": "air"}  # fmt: skip


def compositions(count, seed=0):
    """Scenes and their captions, without drawing them."""
    for i in range(count):
        rng = np.random.RandomState([seed, i])
        scene = layout.compose(Dice(rng))
        yield scene, grammar.captions(scene, Dice(rng))


@pytest.fixture(scope="module")
def drawn():
    """Sixty pictures with their scenes and captions."""
    return [captions.draw(5, "val", i, new_pair=i % 4 == 0) for i in range(60)]


def box_of(scene, i):
    return scene["objects"][i]["box"]


def middle(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def test_the_same_on_every_machine(drawn):
    """Change the checksum only with the pictures."""
    digest = hashlib.sha256()
    for pixels, scene, told in drawn[:12]:
        digest.update(pixels.tobytes() + json.dumps([scene, told]).encode())
    assert digest.hexdigest() == SHA256


def test_order_of_drawing_does_not_matter(drawn):
    pixels, scene, told = captions.draw(5, "val", 7)
    assert (pixels == drawn[7][0]).all() and (scene, told) == drawn[7][1:]


def test_relations_are_true_of_the_boxes(drawn):
    seen = Counter()
    for _, scene, _ in drawn:
        for i, relation, j in scene["relations"]:
            a, b = box_of(scene, i), box_of(scene, j)
            (ax, ay), (bx, by) = middle(a), middle(b)
            if relation == "left of":
                assert ax < bx - 60 and a[2] <= b[0] + 8
            elif relation == "above":
                assert ay < by - 40 and a[3] <= b[1] + 8
            else:  # behind: higher on the page, and partly covered
                assert a[3] < b[3] - 8 and a[0] < b[2] and b[0] < a[2] and b[1] < a[3]
            seen[relation] += 1
    assert min(seen.values()) >= 5 and len(seen) == 3


def test_position_of_a_single_thing(drawn):
    for _, scene, _ in drawn:
        if scene["position"]:
            x = middle(box_of(scene, 0))[0]
            assert {"left": x < 84, "middle": 90 < x < 134, "right": x > 140}[scene["position"]], (scene, x)


def test_boxes_lie_in_the_picture_and_are_large_enough(drawn):
    for pixels, scene, _ in drawn:
        assert pixels.shape == (224, 224, 3) and pixels.dtype == np.uint8
        for thing in scene["objects"]:
            x1, y1, x2, y2 = thing["box"]
            assert 0 <= x1 < x2 <= 224 and 0 <= y1 < y2 <= 224 and min(x2 - x1, y2 - y1) >= 20


def test_a_box_shows_its_colour(drawn):
    """Of all colours that a class can have, the caption's is the nearest to more of the box than any other one's."""
    right = total = 0
    for pixels, scene, _ in drawn:
        for thing in scene["objects"]:
            x1, y1, x2, y2 = thing["box"]
            height, width = (y2 - y1) // 5, (x2 - x1) // 5
            inside = pixels[y1 + height : y2 - height, x1 + width : x2 - width].reshape(-1, 1, 3).astype(int)
            names = layout.COLOURS[thing["class"]]
            near = np.abs(inside - np.array([picture.RGB[name] for name in names])).max(axis=2) < 30
            right += names[near.sum(axis=0).argmax()] == thing["colour"]
            total += 1
    assert right > 0.9 * total


def test_sky_and_ground_have_their_colours(drawn):
    for pixels, scene, _ in drawn:
        r, g, b = np.median(pixels[:3].reshape(-1, 3), axis=0)
        if scene["sky"]:
            says = {"clear": b > r + 60, "cloudy": max(r, g, b) - min(r, g, b) < 40, "evening": r > g + 20 and b > g}
            assert says[scene["sky"]], (scene["sky"], r, g, b)
        r, g, b = np.median(pixels[-3:].reshape(-1, 3), axis=0)
        ground = {"road": max(r, g, b) < 120, "field": g > max(r, b) + 20, "snow": min(r, g, b) > 180,
                  "beach": r > b + 40 and g > b, "sea": b > r + 40, "room": r > b + 30, "sky": True}  # fmt: skip
        assert ground[scene["place"]], (scene["place"], r, g, b)


def test_a_thing_hidden_by_more_than_half_has_no_box():
    far, near = np.zeros((2, 8, 8), dtype=bool)
    far[2:6, 2:6], near[2:6, 2:5] = True, True
    assert picture.visible_boxes([far, near]) == []
    near[2:6, 4] = False
    assert picture.visible_boxes([far, near]) == [(2, 1, 3, 3), (1, 1, 2, 3)]  # two fine pixels a pixel


def test_five_different_captions_that_are_true():
    for scene, told in compositions(400):
        pairs = [(thing.colour, thing.kind) for thing in scene.things]
        assert len(set(told)) == 5 == len(told)
        for sentence in told:
            words = sentence.split()
            assert len(words) <= grammar.LONGEST and sentence == " ".join(words).lower()
            assert NOUNS.findall(sentence) and set(NOUNS.findall(sentence)) <= set(pairs), (sentence, pairs)
            elsewhere = [word for place, told in PLACE_WORDS.items() if place != scene.place for word in told.split()]
            assert not set(elsewhere) & set(words), sentence
            if scene.sky != "evening":
                assert "evening" not in words and "sunset" not in words
            assert all(sky == scene.sky for sky in ("clear", "cloudy") if sky in words)


def test_relations_in_the_captions_are_those_of_the_scene():
    """Read the sentences in another way than they were made: the words between two things."""
    says = {"left of": 1, "in front of": -1, "above": 1, "flying over": 1, "below": -1}
    seen = Counter()
    for scene, told in compositions(400, seed=1):
        place = {(thing.colour, thing.kind): i for i, thing in enumerate(scene.things)}
        true = {(i, j) for i, _, j in scene.relations}
        for sentence in told:
            named = [(place[m.groups()], m.span()) for m in NOUNS.finditer(sentence)]
            for (i, (_, end)), (j, (start, _)) in pairwise(named):
                for phrase, order in says.items():
                    if phrase in sentence[end:start]:
                        assert ((i, j) if order > 0 else (j, i)) in true, sentence
                        seen[phrase] += 1
            if " with " in sentence:
                (i, _), (j, _) = named
                assert ((i, j) if sentence.endswith("right") else (j, i)) in true, sentence
                seen["with"] += 1
    assert set(seen) == {*says, "with"}


def test_things_of_a_scene_differ_in_class():
    for scene, _ in compositions(300):
        assert len({thing.kind for thing in scene.things}) == len(scene.things) <= 3
        assert all(thing.colour in layout.COLOURS[thing.kind] for thing in scene.things)


def test_vocabulary_has_the_promised_size():
    words = captions.words_by_frequency(sentence for _, told in compositions(3000) for sentence in told)
    assert 60 <= len(words) <= 150 and words[:4] == list(captions.SPECIAL) and len(set(words)) == len(words)


def test_every_held_out_pair_can_be_drawn_and_every_class_keeps_colours():
    for colour, kind in layout.HELD_OUT:
        assert colour in layout.COLOURS[kind] and len(layout.COLOURS[kind]) >= 4


@pytest.fixture(scope="module")
def edition(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edition")
    captions.write(folder, seed=3, counts={"train": 30, "val": 12}, new_pairs=5)
    return folder


def test_written_layout(edition):
    assert sorted(p.name for p in edition.iterdir()) == [
        "coco2014_captions.h5", "coco2014_vocab.json", "images", "scenes.json",
        "train2014_urls.txt", "val2014_urls.txt",
    ]  # fmt: skip
    with h5py.File(edition / "coco2014_captions.h5") as file:
        for split, count in {"train": 30, "val": 12}.items():
            ids, pictures = file[f"{split}_captions"][:], file[f"{split}_image_idxs"][:]
            assert ids.shape == (5 * count, 17) and ids.dtype == pictures.dtype == np.int32
            assert (pictures == np.arange(count).repeat(5)).all() and (ids[:, 0] == 1).all()
            assert ((ids == 2).sum(axis=1) == 1).all() and (ids != 3).all()
            after = np.arange(17) > (ids == 2).argmax(axis=1)[:, None]
            assert (ids[after] == 0).all() and (ids[~after] != 0).all()


def test_new_pairs_are_in_the_last_val_pictures_only(edition):
    scenes = json.loads((edition / "scenes.json").read_text())
    has = {split: [any((t["colour"], t["class"]) in layout.HELD_OUT for t in scene["objects"]) for scene in told]
           for split, told in scenes.items()}  # fmt: skip
    assert has == {"train": [False] * 30, "val": [False] * 7 + [True] * 5}
    assert [scene["new_pair"] for scene in scenes["val"]] == has["val"]


def test_files_hold_the_pictures(edition):
    files = (edition / "val2014_urls.txt").read_text().splitlines()
    pixels, _, _ = captions.draw(3, "val", 11, new_pair=True)
    assert (np.asarray(Image.open(edition / files[11])) == pixels).all() and len(files) == 12


def test_bad_seed(tmp_path):
    with pytest.raises(ValueError, match="seed must be in"):
        captions.write(tmp_path, seed=-1)
