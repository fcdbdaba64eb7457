"""PASCAL VOC: the layout, batches of one size, and annotations and pictures that are missing, damaged or impossible."""

import numpy as np
import pytest
from PIL import Image

from common.data import store
from common.data import voc as module
from common.data.voc import CLASSES, VOC2007, load_voc, read_annotation

pytestmark = pytest.mark.robustness
OBJECT = """<object><name>{name}</name><pose>Left</pose><truncated>0</truncated><difficult>{difficult}</difficult>
<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>{more}</object>"""
FRAME = """<annotation><folder>VOC2007</folder><filename>x.jpg</filename>
<size><width>{w}</width><height>{h}</height><depth>3</depth></size>{objects}</annotation>"""


def thing(name="cat", x1=3, y1=4, x2=20, y2=16, difficult=0, more=""):
    return OBJECT.format(**locals())


def xml(*objects, w=40, h=30):
    return FRAME.format(w=w, h=h, objects="".join(objects))


@pytest.fixture
def folder(tmp_path):
    """Four pictures in three sizes: two objects, one, none, three."""
    sizes = {"000007": (40, 30), "000003": (30, 40), "000009": (40, 30), "000001": (24, 24)}
    told = {
        "000007": [thing("dog", 1, 1, 40, 30), thing("person", 5.5, 6, 9, 12, 1)],
        "000003": [thing("tvmonitor", 2, 3, 10, 40)],
        "000009": [],
        "000001": [thing("aeroplane", 1, 2, 3, 4), thing("cat", 4, 4, 20, 16), thing("cat", 6, 8, 22, 20)],
    }
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / part).mkdir(parents=True)
    for i, (name, (w, h)) in enumerate(sizes.items()):
        (tmp_path / "Annotations" / f"{name}.xml").write_text(xml(*told[name], w=w, h=h))
        Image.new("RGB", (w, h), (60 * i, 200, 255 - 60 * i)).save(tmp_path / "JPEGImages" / f"{name}.jpg", quality=95)
    (tmp_path / "ImageSets/Main/train.txt").write_text("000007\n000003\n000009\n000001\n")
    return tmp_path


def test_classes_are_in_the_alphabet_order_of_voc():
    assert len(CLASSES) == 20 and list(CLASSES) == sorted(CLASSES)
    assert module.class_to_idx["aeroplane"] == 0 and module.class_to_idx["tvmonitor"] == 19
    assert all(module.idx_to_class[i] == name for name, i in module.class_to_idx.items())


def test_annotations(folder):
    data = load_voc("train", folder)
    assert len(data) == 4 and data.names == ["000007", "000003", "000009", "000001"]
    first, single, nothing, last = data.annotations
    assert (first.width, first.height) == (40, 30) and first.boxes.dtype == np.float32
    assert first.boxes.tolist() == [[1, 1, 40, 30], [5.5, 6, 9, 12]] and first.labels.tolist() == [11, 14]
    assert first.difficult.tolist() == [False, True] and first.labels.dtype == np.int64
    assert single.boxes.shape == (1, 4) and single.labels.tolist() == [19]  # a list of one object is a list
    assert nothing.boxes.shape == (0, 4) and nothing.labels.shape == nothing.difficult.shape == (0,)
    assert last.labels.tolist() == [0, 7, 7]


def test_squashed_batch(folder):
    batch = VOC2007("train", folder).batch([0, 1, 2], size=16)
    assert batch.images.shape == (3, 16, 16, 3) and batch.images.dtype == np.uint8
    assert batch.w.tolist() == [40, 30, 40] and batch.h.tolist() == [30, 40, 30]
    assert batch.boxes.shape == (3, 2, 5) and batch.boxes.dtype == np.float32
    assert batch.boxes[0].tolist() == [[1, 1, 40, 30, 11], [5.5, 6, 9, 12, 14]]
    assert (batch.boxes[1, 1] == -1).all() and (batch.boxes[2] == -1).all()  # filled rows, all of them for no object
    assert batch.difficult.tolist() == [[False, True], [False, False], [False, False]]
    assert batch.names == ["000007", "000003", "000009"]


def test_batch_without_any_object_has_one_filled_row(folder):
    batch = VOC2007("train", folder).batch([2])
    assert batch.boxes.tolist() == [[[-1.0] * 5]] and batch.images.shape == (1, 224, 224, 3)


def test_letterbox_keeps_shapes_and_coordinates(folder):
    """A 40 x 30 picture becomes 40 x 40; what is added is grey, below, and boxes stay as they are."""
    squashed, boxed = (VOC2007("train", folder).batch([0, 1], size=40, fit=fit) for fit in ("squash", "letterbox"))
    assert boxed.w.tolist() == boxed.h.tolist() == [40, 40]
    assert (boxed.boxes == squashed.boxes).all()
    assert (boxed.images[0, 30:] == module.GREY).all() and (boxed.images[1, :, 30:] == module.GREY).all()
    assert (boxed.images[0, :29] != module.GREY).any(axis=2).all()


def test_where_a_pixel_lands(folder):
    """x * size / w in the batch is x in the picture, for both fits: one bright square in a dark picture."""
    picture = np.zeros((30, 40, 3), dtype=np.uint8)
    picture[6:12, 20:30] = 255
    Image.fromarray(picture).save(folder / "JPEGImages/000007.jpg", quality=100)
    for fit in module.FITS:
        batch = VOC2007("train", folder).batch([0], size=80, fit=fit)
        rows, columns = (batch.images[0, :, :, 0] > 200).nonzero()
        x1, x2 = (np.array([20, 30]) * 80 / batch.w[0]).tolist()
        y1, y2 = (np.array([6, 12]) * 80 / batch.h[0]).tolist()
        assert abs(columns.min() - x1) <= 1 and abs(columns.max() + 1 - x2) <= 1
        assert abs(rows.min() - y1) <= 1 and abs(rows.max() + 1 - y2) <= 1


def test_batches_cover_all_pictures_once(folder):
    data = VOC2007("train", folder)
    assert [batch.names for batch in data.batches(3, size=8)] == [data.names[:3], data.names[3:]]
    shuffled = [
        [name for batch in data.batches(3, 8, shuffle=True, rng=seed) for name in batch.names] for seed in range(5)
    ]
    assert all(sorted(names) == sorted(data.names) for names in shuffled) and len(set(map(tuple, shuffled))) > 1
    assert shuffled[1] == [name for batch in data.batches(2, 8, shuffle=True, rng=1) for name in batch.names]


def test_num_takes_the_first(folder):
    assert VOC2007("train", folder, num=2).names == ["000007", "000003"]
    for num in (0, 5, -1):
        with pytest.raises(ValueError, match="num"):
            VOC2007("train", folder, num=num)
    with pytest.raises(TypeError, match="num"):
        VOC2007("train", folder, num=1.5)


def test_grey_and_cmyk_pictures_become_rgb(folder):
    for mode in ("L", "CMYK"):
        Image.new(mode, (40, 30)).save(folder / "JPEGImages/000007.jpg")
        assert VOC2007("train", folder).image(0).shape == (30, 40, 3)


# Bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["Train", "", None, "test2007", ["train"]])
def test_unknown_split(folder, split):
    with pytest.raises(ValueError, match="split must be one of train, val, trainval, test"):
        VOC2007(split, folder)


def test_missing_files_are_named(folder):
    with pytest.raises(FileNotFoundError, match=r"val\.txt is missing"):
        VOC2007("val", folder)
    (folder / "JPEGImages/000009.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"000009\.jpg is missing"):
        VOC2007("train", folder)
    (folder / "Annotations/000003.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"000003\.xml is missing"):
        VOC2007("train", folder)


def test_picture_that_vanishes_later(folder):
    data = VOC2007("train", folder)
    data.path(0).unlink()
    with pytest.raises(FileNotFoundError, match=r"000007\.jpg is missing"):
        data.image(0)


@pytest.mark.parametrize("content", ["", "  \n", "../000007\n", "a/b\n", "..\n"])
def test_split_that_names_no_picture(folder, content):
    (folder / "ImageSets/Main/val.txt").write_text(content)
    with pytest.raises(ValueError, match=r"val\.txt names"):
        VOC2007("val", folder)


def test_split_that_is_not_text(folder):
    (folder / "ImageSets/Main/val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"val\.txt is not text"):
        VOC2007("val", folder)


def test_damaged_pictures_are_named(folder):
    data, path = VOC2007("train", folder), folder / "JPEGImages/000007.jpg"
    noise = np.random.RandomState(0).randint(256, size=(30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:10], b"", b"no picture"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"000007\.jpg cannot be read as a picture"):
            data.image(0)
        with pytest.raises(ValueError, match=r"000007\.jpg cannot be read as a picture"):
            data.batch([3, 0])


def test_picture_of_another_size_than_told(folder):
    Image.new("RGB", (30, 40)).save(folder / "JPEGImages/000007.jpg")
    with pytest.raises(ValueError, match=r"000007\.jpg has 30 x 40 pixels, but its annotation says 40 x 30"):
        VOC2007("train", folder).image(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (xml(thing("kitten")), "unknown class 'kitten'; known are aeroplane"),
        (xml(thing(), thing("")), "unknown class ''"),
        (xml(thing(x1=20, x2=20)), "xmin < xmax"),
        (xml(thing(x1=21, x2=20)), "box of a cat.*xmin < xmax"),
        (xml(thing(y1=16)), "ymin < ymax"),
        (xml(thing(x1=-1)), "not within the picture of 40 x 30 pixels"),
        (xml(thing(x2=41)), "not within the picture"),
        (xml(thing(y2=31)), "not within the picture"),
        (xml(thing(x1="left")), "'bndbox/xmin' must be a number, got 'left'"),
        (xml(thing(x1="nan")), "'bndbox/xmin' must be finite"),
        (xml(thing(x2="inf")), "'bndbox/xmax' must be finite"),
        (xml(thing(difficult="maybe")), "'difficult' of a cat must be 0 or 1"),
        (xml(w=0), "'size/width' must be a whole number"),
        (xml(h="30.5"), "'size/height' must be a whole number"),
        (xml(thing().replace("bndbox", "box")), "'object' has no 'bndbox/xmin'"),
        (xml(thing()).replace("name>", "title>"), "'object' has no 'name'"),
        (xml(thing()).replace("size>", "shape>"), "'annotation' has no 'size/width'"),
        (xml(thing()).replace("annotation>", "note>"), "outermost element must be 'annotation', found 'note'"),
        (xml(thing())[:-20], "not readable XML"),
        ("", "not readable XML"),
        ("just words", "not readable XML"),
    ],
)
def test_annotations_that_say_something_impossible(tmp_path, content, message):
    path = tmp_path / "000123.xml"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_annotation(path)
    assert str(path) in str(caught.value)


BOMB = """<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">
<!ENTITY c SYSTEM "file:///etc/passwd">]>""" + xml(thing("&b;"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-7"])
def test_entities_are_refused(tmp_path, encoding):
    path = tmp_path / "000123.xml"
    path.write_bytes(BOMB.encode(encoding))
    with pytest.raises(ValueError, match=r"000123\.xml"):
        read_annotation(path)


def test_document_type_is_refused_even_beside_a_comment(tmp_path):
    path = tmp_path / "000123.xml"
    for trick in ("<!DOCTYPE annotation>", "<!-- --><!DOCTYPE annotation>", "<!<!--DOCTYPE annotation>"):
        path.write_text(trick + xml(thing()))
        with pytest.raises(ValueError, match="refused"):
            read_annotation(path)
    path.write_text("<!-- a comment -->" + xml(thing()))
    assert read_annotation(path).labels.tolist() == [7]


def test_huge_annotation_is_not_read(tmp_path):
    path = tmp_path / "000123.xml"
    path.write_text(xml(thing()) + " " * module.LARGEST_XML)
    with pytest.raises(ValueError, match="an annotation has at most"):
        read_annotation(path)


def test_parts_and_missing_flags_of_the_published_files(tmp_path):
    """People have parts with boxes of their own, and `difficult` may be absent."""
    part = "<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>2</xmax><ymax>1</ymax></bndbox></part>"
    path = tmp_path / "000123.xml"
    path.write_text(xml(thing("person", more=part).replace("<difficult>0</difficult>", "")))
    told = read_annotation(path)
    assert told.boxes.tolist() == [[3, 4, 20, 16]] and not told.difficult.any()


@pytest.mark.parametrize("rows", [[], [4], [-1], [0.5], ["0"], [[0, 1]]])
def test_rows_that_are_not_there(folder, rows):
    with pytest.raises(ValueError, match="rows"):
        VOC2007("train", folder).batch(rows)


def test_bad_sizes_and_fits(folder):
    data = VOC2007("train", folder)
    with pytest.raises(ValueError, match="fit must be one of squash, letterbox, got 'crop'"):
        data.batch([0], fit="crop")
    with pytest.raises(ValueError, match="size"):
        data.batch([0], size=0)
    with pytest.raises(ValueError, match="batch_size"):
        next(data.batches(0))
    with pytest.raises(TypeError, match="batch_size"):
        next(data.batches("2"))


# Editions -----------------------------------------------------------------------------------------------------


def test_editions(tmp_path, monkeypatch):
    """The published files are taken when they are there; if not, WORKBOOK_EDITION=full says what is missing."""
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    monkeypatch.setenv("WORKBOOK_EDITION", "full")
    with pytest.raises(FileNotFoundError, match=r"VOCdevkit/VOC2007/ImageSets/Main/train\.txt is missing"):
        VOC2007()
    for split in ("train", "val", "trainval"):
        path = tmp_path / f"VOCdevkit/VOC2007/ImageSets/Main/{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("000001\n")
    for part, content in {"Annotations/000001.xml": xml(thing()), "JPEGImages/000001.jpg": ""}.items():
        path = tmp_path / "VOCdevkit/VOC2007" / part
        path.parent.mkdir()
        path.write_text(content)
    monkeypatch.setenv("WORKBOOK_EDITION", "auto")
    assert store.edition("voc2007") == "full" and VOC2007("val").names == ["000001"]


def test_drawn_edition_is_written_once(tmp_path, monkeypatch):
    from common.data.pocket import voc as pocket

    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    monkeypatch.setenv("WORKBOOK_EDITION", "pocket")
    monkeypatch.setattr(pocket, "COUNTS", {"train": 3, "val": 2})
    data = VOC2007("train")
    written = {path: path.stat().st_mtime_ns for path in data.folder.rglob("*.*")}
    assert len(data) == 3 and data.image(2).shape == (224, 224, 3) and len(written) == 13
    assert VOC2007("val").names == ["000004", "000005"]
    assert {path: path.stat().st_mtime_ns for path in data.folder.rglob("*.*")} == written
    data.path(0).unlink()
    assert VOC2007("train").image(0).shape == (224, 224, 3)  # not whole, so drawn anew
    assert "drawn scenes with boxes" in store.edition_line("voc2007")
