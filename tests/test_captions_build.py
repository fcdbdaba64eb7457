"""Captioned photographs of one's own: both forms of json, the layout, interruptions, and files that cannot be read."""

import json

import numpy as np
import pytest
from PIL import Image

from common.captions import __main__ as command
from common.captions.build import PART_SIZE, PARTS, build, read_captions, split_files
from common.captions.scores import references_of
from common.data.captions import load_coco_data

pytestmark = pytest.mark.robustness
COUNT = 20


def fake(pictures):
    """Mean colour and size of each picture in place of a network's features."""
    assert pictures and all(picture.mode == "RGB" for picture in pictures)
    return np.array([[*np.asarray(p).mean(axis=(0, 1)), *p.size] for p in pictures], dtype=np.float32)


@pytest.fixture
def album(tmp_path):
    """Twenty photographs of different sizes and modes, and their captions."""
    (tmp_path / "photos" / "more").mkdir(parents=True)
    told = {}
    for i in range(COUNT):
        name = f"more/{i}.png" if i % 5 == 0 else f"{i}.jpg"
        mode, colour = (("L", 10 * i), ("RGB", (10 * i, 255 - 10 * i, 50)))[i % 2]
        Image.new(mode, (20 + i, 30), colour).save(tmp_path / "photos" / name)
        told[name] = [f"A dog number {i} runs.", "the dog, again"][: 1 + i % 2]
    (tmp_path / "captions.json").write_text(json.dumps(told))
    return tmp_path


def run(album, out="out", **options):
    options = {"threshold": 2, "val_share": 0.25, "extract": fake} | options
    return build(album / "photos", album / "captions.json", album / out, **options)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr("common.captions.build.PART_SIZE", 3)
    assert PART_SIZE == 64


def test_layout_can_be_loaded(album):
    built = run(album)
    assert (built.train_images, built.val_images, built.left_out) == (15, 5, ())
    data = load_coco_data(album / "out", pca_features=False)
    assert data["train_features"].shape == (15, 5) and data["val_features"].shape == (5, 5)
    assert data["train_captions"].shape == (built.train_captions, 17) and len(data["idx_to_word"]) == built.words
    assert data["idx_to_word"][:6] == ["<NULL>", "<START>", "<END>", "<UNK>", "dog", "a"]
    told = json.loads((album / "captions.json").read_text())
    for split in ("train", "val"):
        rows = zip(data[f"{split}_urls"], data[f"{split}_features"], references_of(data, split), strict=True)
        for url, row, sentences in rows:
            name = url.partition("photos/")[2]
            assert (fake([Image.open(url).convert("RGB")])[0] == row).all()
            assert len(sentences) == len(told[name])
            assert sentences[0] == "a dog number <UNK> runs"


def test_the_same_from_coco_json(album):
    told = json.loads((album / "captions.json").read_text())
    coco = {
        "info": {},
        "images": [{"id": 7 * i, "file_name": name, "width": 1} for i, name in enumerate(told)],
        "annotations": [
            {"id": 1, "image_id": 7 * i, "caption": sentence} for i, name in enumerate(told) for sentence in told[name]
        ],
    }
    run(album, "plain")
    (album / "captions.json").write_text(json.dumps(coco))
    run(album, "coco")
    plain, coco = files_of(album / "plain"), files_of(album / "coco")
    assert plain.keys() == coco.keys() and len(plain) == 9
    assert all(plain[name] == coco[name] for name in plain)


def test_seed_and_share(album):
    a, b = run(album, "a", seed=1), run(album, "b", seed=2)
    assert a.val_images == b.val_images == 5
    assert (album / "a/val2014_urls.txt").read_text() != (album / "b/val2014_urls.txt").read_text()
    for count, share in ((2, 0.01), (2, 0.99), (10, 0.1), (7, 0.5)):
        rows = split_files(count, share, 0)
        assert sorted([*rows["train"], *rows["val"]]) == list(range(count)) and min(map(len, rows.values())) >= 1


def test_interrupted_build_goes_on(album):
    """Stopped after each possible number of parts: what was computed is not computed again, and the bytes are equal."""
    run(album, "whole")
    seen = []

    def stopping(pictures):
        if len(seen) == stop:
            raise KeyboardInterrupt
        seen.append(len(pictures))
        return fake(pictures)

    for stop in range(7):
        seen.clear()
        out = f"stopped{stop}"
        with pytest.raises(KeyboardInterrupt):
            run(album, out, extract=stopping)
        assert not list((album / out).glob("*.h5")) and len(list((album / out / PARTS).glob("*.npz"))) == stop
        stop, done = 99, sum(seen)
        seen.clear()
        run(album, out, extract=stopping)
        assert sum(seen) == COUNT - done and files_of(album / out) == files_of(album / "whole")


@pytest.mark.parametrize("change", ["backbone", "photographs"])
def test_parts_of_something_else_are_not_used(album, change):
    def stop(pictures):
        if (pictures[0].size[0] - 20) >= 6:
            raise KeyboardInterrupt
        return fake(pictures) + 1000

    with pytest.raises(KeyboardInterrupt):
        run(album, extract=stop)
    if change == "photographs":
        Image.new("RGB", (50, 50)).save(album / "photos" / "19.jpg")
    run(album, backbone="other" if change == "backbone" else "efficientnet_lite0")
    assert load_coco_data(album / "out", pca_features=False)["train_features"].max() < 1000


def test_unreadable_photographs(album):
    (album / "photos" / "3.jpg").write_bytes(b"no picture")
    whole = (album / "photos" / "7.jpg").read_bytes()
    (album / "photos" / "7.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"3\.jpg cannot be read as a picture.*--skip-bad"):
        run(album)
    built = run(album, skip_bad=True)
    assert built.left_out == ("3.jpg", "7.jpg") and built.train_images + built.val_images == COUNT - 2
    data = load_coco_data(album / "out")
    assert not any(url.endswith(("/3.jpg", "/7.jpg")) for url in [*data["train_urls"], *data["val_urls"]])


def test_no_readable_photograph_in_a_part_or_at_all(album):
    for i in range(COUNT):
        if i not in (4, 6):
            (album / "photos" / (f"more/{i}.png" if i % 5 == 0 else f"{i}.jpg")).write_bytes(b"")
    assert run(album, skip_bad=True, threshold=1).train_images == 1
    (album / "photos" / "4.jpg").write_bytes(b"")
    (album / "photos" / "6.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 20 photographs"):
        run(album, skip_bad=True)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is not a json file"),
        ("[]", "found a list"),
        ('{"a.jpg": "a dog"}', "'a.jpg' must be a list of strings"),
        ('{"a.jpg": [1]}', "'a.jpg' must be a list of strings"),
        ('{"images": [], "annotations": [{"image_id": 1, "caption": "a"}]}', "KeyError: 1"),
        ('{"images": [{"id": 1}], "annotations": []}', "'file_name'"),
        ('{"images": 3, "annotations": []}', "TypeError"),
        ("{}", "at least two photographs"),
    ],
)
def test_bad_json(album, content, message):
    (album / "captions.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        run(album)


def test_captions_without_words_are_left_out(album):
    (album / "captions.json").write_text(json.dumps({"1.jpg": ["A dog!", " ", "..."], "2.jpg": [], "3.jpg": [" . "]}))
    assert read_captions(album / "captions.json") == {"1.jpg": ["A dog!"]}


@pytest.mark.parametrize(
    "options, message",
    [({"threshold": 0}, "threshold"), ({"threshold": 10**6}, "no word occurs"), ({"val_share": 0}, "val_share"),
     ({"val_share": 1.0}, "val_share"), ({"max_words": 0}, "max_words"),
     ({"extract": lambda pictures: np.zeros(3)}, "extract returned")],
)  # fmt: skip
def test_bad_options(album, options, message):
    with pytest.raises(ValueError, match=message):
        run(album, **options)


def test_missing_files(album):
    (album / "photos" / "1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1\.jpg is missing"):
        run(album)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        build(album / "nowhere", album / "captions.json", album / "out")
    with pytest.raises(FileNotFoundError):
        build(album / "photos", album / "nothing.json", album / "out")


def test_command(album, capsys, monkeypatch):
    monkeypatch.setattr("common.captions.build._load_extract", lambda name: fake)
    arguments = ["build", "--images", str(album / "photos"), "--captions", str(album / "captions.json"), "--out",
                 str(album / "out"), "--threshold", "2", "--skip-bad"]  # fmt: skip
    (album / "photos" / "3.jpg").write_bytes(b"no picture")
    assert command.main(arguments) == 0
    out = capsys.readouterr().out
    assert "left out, unreadable: 3.jpg" in out and "17 + 2 photographs, 24 + 4 captions" in out
    assert command.main([*arguments[:-1]]) == 1
    assert "3.jpg cannot be read" in capsys.readouterr().err


def test_command_stopped(album, capsys, monkeypatch):
    def stop(pictures):
        raise KeyboardInterrupt

    monkeypatch.setattr("common.captions.build._load_extract", lambda name: stop)
    arguments = ["build", "--images", str(album / "photos"), "--captions", str(album / "captions.json"), "--out",
                 str(album / "out")]  # fmt: skip
    assert command.main(arguments) == 130 and "goes on" in capsys.readouterr().err


def test_a_folder_of_ones_own_says_so_where_the_published_one_would_be(album, monkeypatch, capsys):
    """The edition line, and what `record` notes, do not call it the published data set."""
    from common import notebook

    run(album, out="root/coco_captioning", title="Our dogs")
    monkeypatch.setenv("WORKBOOK_DATA", str(album / "root"))
    monkeypatch.setenv("WORKBOOK_EDITION", "full")
    monkeypatch.setattr(notebook, "_about", {"edition": None, "seed": None})
    assert notebook.edition("coco_captions") == "full"
    assert "in its place your own: Our dogs, 15 + 5 photographs" in capsys.readouterr().out
    assert notebook._about["edition"] == "Our dogs, 15 + 5 photographs"
