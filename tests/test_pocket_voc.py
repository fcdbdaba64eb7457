"""The pocket VOC: the same everywhere, boxes tight around what is visible, and flags that say what they mean."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from common.data.pocket import layout, voc
from common.data.pocket.canvas import Dice
from common.data.voc import CLASSES, VOC2007

pytestmark = pytest.mark.robustness
SHA256 = "740db45ac88463bf5b39b39c50ea074f316dac3058101c603c0ba8a0e738f398"


@pytest.fixture(scope="module")
def drawn():
    """Sixty pictures, their objects, and what is visible of each object."""
    return [voc.draw(5, "val", i) for i in range(60)]


@pytest.fixture(scope="module")
def edition(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edition")
    voc.write(folder, seed=3, counts={"train": 12, "val": 5})
    return folder / "VOC2007"


def objects_of(drawn):
    return [(thing, part) for _, objects, parts in drawn for thing, part in zip(objects, parts, strict=True)]


def test_the_same_on_every_machine(drawn):
    """Change the checksum only with the pictures. JPEG files are left out: their bytes depend on Pillow."""
    digest = hashlib.sha256()
    for pixels, objects, _ in drawn[:12]:
        digest.update(pixels.tobytes() + voc.annotation("000001", objects).encode())
    assert digest.hexdigest() == SHA256


def test_order_of_drawing_does_not_matter(drawn):
    pixels, objects, _ = voc.draw(5, "val", 7)
    assert (pixels == drawn[7][0]).all() and objects == drawn[7][1]
    assert not (voc.draw(5, "train", 7)[0] == pixels).all() and not (voc.draw(6, "val", 7)[0] == pixels).all()


def test_boxes_are_tight_around_what_is_visible(drawn):
    """Nothing visible lies outside, and every side touches something visible."""
    for thing, part in objects_of(drawn):
        x1, y1, x2, y2 = (2 * v for v in thing["box"])  # in fine pixels, two a pixel
        inside = part[y1:y2, x1:x2]
        assert inside.sum() == part.sum() > 0
        assert inside[:2].any() and inside[-2:].any() and inside[:, :2].any() and inside[:, -2:].any()


def test_visible_parts_do_not_overlap(drawn):
    for _, _, parts in drawn:
        assert sum(part.astype(int) for part in parts).max() == 1


def test_what_is_nearer_hides_what_is_farther():
    far, near = np.zeros((2, 8, 8), dtype=bool)
    far[2:6, 2:6], near[2:8, 2:5] = True, True
    hidden, whole = voc.visible_parts([far, near])
    assert (whole == near).all() and hidden.sum() == 4 and voc.box_of(hidden) == (2, 1, 3, 3)


def mask_of(rows, columns, side=448):
    mask = np.zeros((side, side), dtype=bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def flags(mask, visible):
    thing = layout.Thing("plane", "red", layout.POSES["plane"][0], 0, 0, 50, False)
    told = voc.describe(thing, mask, visible)
    assert told["name"] == "aeroplane"
    return told["truncated"], told["difficult"]


def test_difficult_is_mostly_hidden_or_small():
    whole = mask_of((100, 200), (100, 200))
    assert flags(whole, whole) == (False, False)
    assert flags(whole, mask_of((100, 150), (100, 200))) == (True, False)
    assert flags(whole, mask_of((100, 149), (100, 200))) == (True, True)
    small, larger = mask_of((100, 200), (100, 126)), mask_of((100, 200), (100, 128))  # 13 and 14 pixels wide
    assert flags(small, small) == (False, True) and flags(larger, larger) == (False, False)


def test_truncated_is_cut_by_the_edge_or_by_something_nearer():
    edge = mask_of((100, 200), (348, 448))
    assert flags(edge, edge) == (True, False)
    whole = mask_of((100, 200), (100, 200))
    hole = whole & ~mask_of((120, 160), (120, 160))  # something stands before its middle: the box stays the same
    assert flags(whole, hole) == (False, False)


def test_scenes_vary(drawn):
    counts = Counter(len(objects) for _, objects, _ in drawn)
    assert set(counts) == {1, 2, 3, 4}
    things = [thing for thing, _ in objects_of(drawn)]
    lengths = np.sqrt([(b[2] - b[0]) * (b[3] - b[1]) for b in (thing["box"] for thing in things)])
    assert np.percentile(lengths, 95) > 3 * np.percentile(lengths, 5)
    difficult = np.mean([thing["difficult"] for thing in things])
    assert 0.03 < difficult < 0.25


def test_classes_are_those_of_voc_and_none_is_rare():
    kinds = Counter()
    for i in range(600):
        *_, things = voc.compose(Dice(np.random.RandomState(i)))
        kinds.update(voc.NAMES.get(thing.kind, thing.kind) for thing in things)
    assert len(kinds) == 8 and set(kinds) <= set(CLASSES)
    assert min(kinds.values()) > 0.05 * sum(kinds.values()) and max(kinds.values()) < 0.25 * sum(kinds.values())


def test_written_layout_is_read_by_the_loader(edition):
    assert sorted(p.name for p in edition.iterdir()) == ["Annotations", "ImageSets", "JPEGImages"]
    train, val, both = (VOC2007(split, edition) for split in ("train", "val", "trainval"))
    assert len(train) == 12 and len(val) == 5 and both.names == train.names + val.names
    pixels, objects, _ = voc.draw(3, "val", 4)
    told = val.annotations[4]
    assert [CLASSES[label] for label in told.labels] == [thing["name"] for thing in objects]
    assert told.difficult.tolist() == [thing["difficult"] for thing in objects]
    assert (told.boxes - [1, 1, 0, 0] == [thing["box"] for thing in objects]).all()  # pixels count from 1
    assert np.abs(val.image(4).astype(int) - pixels).mean() < 4  # JPEG loses a little


def test_twice_the_same_files(edition, tmp_path):
    voc.write(tmp_path, seed=3, counts={"train": 12, "val": 5})
    for path in sorted(edition.rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "VOC2007" / path.relative_to(edition)).read_bytes()


def test_pictures_are_jpeg_files(edition):
    with Image.open(edition / "JPEGImages" / "000001.jpg") as img:
        assert img.format == "JPEG" and img.size == (224, 224)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_bad_seed(tmp_path, seed):
    with pytest.raises(ValueError, match="seed must be in"):
        voc.write(tmp_path, seed=seed)
