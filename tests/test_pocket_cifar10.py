"""The pocket CIFAR-10: same bytes for a seed everywhere, the published layout, and pictures that are worth learning."""

import errno
import hashlib
import io
import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.pocket import cifar10
from common.data.pocket.canvas import STEPS, Canvas, Dice, Pen, smooth

FILES = (*(f"data_batch_{b}" for b in range(1, 6)), "test_batch", "batches.meta")
INK, PAPER = (10, 20, 30), (200, 210, 220)

# Change these only with the pictures, and then measure benchmarks/pocket_difficulty.py again.
TEST_BATCH_SHA256 = "511a83be304062ec80aac48c65790f4eb3eb7ddbe701a097dc243da76a2f4bb8"
SMALL_EDITION_SHA256 = "997f9ccafa6fb3443c8e3f93b1b8e9c8e8ba4c7dfec886f61599b77f19a29ba4"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class ArraysOnly(pickle.Unpickler):
    def find_class(self, module, name):
        assert (module, name) in {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}
        return super().find_class(module, name)


def read(path: Path, encoding: str = "latin1") -> dict:
    return ArraysOnly(io.BytesIO(path.read_bytes()), encoding=encoding).load()


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(cifar10, "BATCH_SIZE", 20)


@pytest.fixture(scope="module")
def edition(tmp_path_factory):
    """All seven files, with 20 pictures a batch."""
    folder = tmp_path_factory.mktemp("edition")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "BATCH_SIZE", 20)
        cifar10.write(folder)
    return folder


@pytest.fixture(scope="module")
def test_batch():
    """The test batch as it is shipped, 2,000 pictures."""
    return cifar10.batch_fields(2007, 1, 0)


# The same bytes for a seed ----------------------------------------------------------------------------------


def test_a_whole_batch_file_is_bit_identical_everywhere(test_batch):
    assert sha256(cifar10.stream(test_batch)) == TEST_BATCH_SHA256


def test_every_file_is_bit_identical_everywhere(edition):
    assert sha256(b"".join((edition / name).read_bytes() for name in FILES)) == SMALL_EDITION_SHA256


def test_another_seed_draws_other_pictures(edition, tmp_path, small_batches):
    other = tmp_path / "other"
    cifar10.write(other, seed=1)
    for name in FILES[:-1]:
        ours, theirs = read(edition / name)["data"], read(other / name)["data"]
        assert (ours != theirs).any(axis=1).all()


def test_train_and_test_share_no_picture(edition):
    rows = [row.tobytes() for name in FILES[:-1] for row in read(edition / name)["data"]]
    assert len(set(rows)) == len(rows) == 120


def test_a_picture_does_not_depend_on_what_was_drawn_before():
    labels = np.arange(30) % 10
    whole = cifar10.pictures(3, 0, labels)
    np.testing.assert_array_equal(cifar10.pictures(3, 0, labels[17:20], start=17), whole[17:20])


# The published layout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES[:-1])
def test_batches_have_the_published_fields(edition, name):
    batch = read(edition / name)
    assert list(batch) == ["batch_label", "labels", "data", "filenames"]
    title = "testing batch 1 of 1" if name == "test_batch" else f"training batch {name[-1]} of 5"
    assert batch["batch_label"] == title
    assert batch["data"].shape == (20, 3072) and batch["data"].dtype == np.uint8
    assert batch["data"].flags.c_contiguous and batch["data"].flags.writeable
    assert [type(c) for c in batch["labels"]] == [int] * 20
    for label, filename in zip(batch["labels"], batch["filenames"], strict=True):
        assert filename.startswith(cifar10.LABEL_NAMES[label] + "_")


def test_bytes_keys_as_in_the_published_files(edition):
    batch = read(edition / "data_batch_1", encoding="bytes")
    assert set(batch) == {b"batch_label", b"labels", b"data", b"filenames"}
    np.testing.assert_array_equal(batch[b"data"], read(edition / "data_batch_1")["data"])


def test_meta_names_the_classes(edition):
    assert read(edition / "batches.meta") == {
        "num_cases_per_batch": 20,
        "label_names": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
        "num_vis": 3072,
    }


def test_rows_are_colour_planes(edition):
    batch = read(edition / "data_batch_2")
    rng = np.random.RandomState([2007, 0, 20 + 3])
    picture = cifar10.draw(batch["labels"][3], rng)
    np.testing.assert_array_equal(batch["data"][3].reshape(3, 32, 32), picture.transpose(2, 0, 1))


@pytest.mark.parametrize(("split", "count"), [(0, 10_000), (1, 2_000)])
def test_labels_are_balanced_and_shuffled(split, count):
    labels = cifar10.split_labels(2007, split)
    assert np.bincount(labels, minlength=10).tolist() == [count // 10] * 10
    assert 0.05 < (labels[1:] == labels[:-1]).mean() < 0.15  # neighbours agree by chance


def test_stream_is_what_pickle_reads():
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    fields = {"text": "a" * 255, "numbers": [0, 255, 256, 2**31 - 1, -1], "array": array, "none": []}
    back = pickle.loads(cifar10.stream(fields), encoding="latin1")
    np.testing.assert_array_equal(back.pop("array"), fields.pop("array"))
    assert back == fields


@pytest.mark.parametrize("bad", [1.5, None, np.zeros(3), {"a": 1}])
def test_stream_refuses_other_types(bad):
    with pytest.raises(TypeError, match="fields must hold"):
        cifar10.stream({"x": bad})


# Pictures worth learning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", range(10))
def test_a_picture(label):
    picture = cifar10.draw(label, np.random.RandomState(label))
    assert picture.shape == (32, 32, 3) and picture.dtype == np.uint8
    assert picture.std() > 5


def test_colour_alone_does_not_decide_the_class(test_batch):
    colours, labels = test_batch["data"].reshape(-1, 3, 1024).mean(axis=2), np.array(test_batch["labels"])
    train, test = np.arange(2000) < 1500, np.arange(2000) >= 1500
    means = np.array([colours[train & (labels == c)].mean(axis=0) for c in range(10)])
    nearest = ((colours[test, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == labels[test]).mean() < 0.25
    assert means.std(axis=0).max() < colours.std(axis=0).min()


@pytest.mark.parametrize("label", [-1, 10])
def test_unknown_label(label):
    with pytest.raises(ValueError, match=rf"label must be in 0\.\.9, got {label}"):
        cifar10.draw(label, np.random.RandomState(0))


# Bad seeds and bad disks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range(tmp_path, seed):
    with pytest.raises(ValueError, match="seed must be in"):
        cifar10.write(tmp_path / "x", seed=seed)
    assert not (tmp_path / "x").exists()


def test_a_full_disk_is_reported(tmp_path, small_batches, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        cifar10.write(tmp_path)


def test_a_file_in_the_way_is_reported(tmp_path, small_batches):
    (tmp_path / "taken").write_text("")
    with pytest.raises(FileExistsError):
        cifar10.write(tmp_path / "taken")


# The canvas -------------------------------------------------------------------------------------------------


def inside_exactly(points, x, y):
    """Even-odd rule in exact fractions: is an odd number of edges at or left of the point?"""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if (y0 <= y) != (y1 <= y):
            crossings += x0 + Fraction((y - y0) * (x1 - x0), y1 - y0) // 1 < x
    return crossings % 2 == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-60, 200), st.integers(-60, 200)), min_size=3, max_size=8))
def test_fill_agrees_with_exact_geometry(points):
    canvas = Canvas(2, oversample=4)
    canvas.paint(PAPER)
    canvas.fill(np.array(points, dtype=np.int64), INK)
    centres = [STEPS * i + STEPS // 2 for i in range(8)]
    want = [[inside_exactly(points, x, y) for x in centres] for y in centres]
    np.testing.assert_array_equal(canvas.number == canvas.paint(INK), want)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(-60, 200)] * 4))
def test_fill_box_agrees_with_fill(corners):
    (left, right), (top, bottom) = sorted(corners[:2]), sorted(corners[2:])
    slow, fast = Canvas(2), Canvas(2)
    for canvas in (slow, fast):
        canvas.paint(PAPER)
    slow.fill(np.array([(left, top), (right, top), (right, bottom), (left, bottom)]), INK)
    fast.fill_box(left, top, right, bottom, INK)
    np.testing.assert_array_equal(slow.number, fast.number)


def test_shading_stays_inside_its_body():
    canvas = Canvas(8)
    canvas.paint(PAPER)
    pen = Pen(canvas, scale=50)
    pen.oval(0, 0, 80, 80, INK)
    body = canvas.number == canvas.paint(INK)
    pen.box(-100, 0, 100, 100, (1, 2, 3), only=INK)
    shade = canvas.number == canvas.paint((1, 2, 3))
    assert shade.any() and (shade <= body).all() and not shade[: canvas.side // 2].any()


def test_object_box_and_outline():
    canvas = Canvas(10, oversample=2)
    canvas.paint(PAPER)
    canvas.start_object()
    Pen(canvas).box(-60, -40, 20, 80, INK)  # a page unit is a tenth of a fine pixel
    assert canvas.finish_object(outline=None) == (2, 3, 6, 9)
    canvas.finish_object(outline=(1, 1, 1))
    ring = canvas.number == canvas.paint((1, 1, 1))
    assert ring.sum() == 2 * (8 + 12)  # a four-neighbour ring has no corners
    canvas.start_object()
    assert canvas.finish_object(outline=None) is None


def test_flip_mirrors_and_turn_turns():
    def ink(**pose):
        canvas = Canvas(8)
        canvas.paint(PAPER)
        Pen(canvas, **pose).box(-100, -100, 0, 100, INK)
        return canvas.number == canvas.paint(INK)

    plain = ink()
    np.testing.assert_array_equal(ink(flip=True), plain[:, ::-1])
    np.testing.assert_array_equal(ink(turn=90), plain.T)
    np.testing.assert_array_equal(ink(turn=180), plain[::-1, ::-1])


def test_smooth_goes_through_its_points():
    points = np.array([(0, 0), (100, 10), (90, 120), (-20, 80)])
    curve = smooth(points)
    assert curve.shape == (16, 2)
    np.testing.assert_array_equal(curve[::4], points)


def test_a_canvas_holds_256_colours():
    canvas = Canvas(1)
    for i in range(256):
        assert canvas.paint((i, 0, 0)) == i
    with pytest.raises(ValueError, match="at most 256 colours"):
        canvas.paint((0, 1, 0))


def test_dice():
    dice = Dice(np.random.RandomState(0))
    rolls = [dice.between(-2, 3) for _ in range(6000)]
    assert set(rolls) == set(range(-2, 4)) and abs(np.mean(rolls) - 0.5) < 0.1
    drawn = [dice.weighted({"often": 3, "seldom": 1}) for _ in range(4000)]
    assert 0.70 < drawn.count("often") / 4000 < 0.80
    with pytest.raises(ValueError, match="weights"):
        dice.weighted({"a": 1, "b": -1})
    assert not any(dice.chance(0) for _ in range(200)) and all(dice.chance(100) for _ in range(200))
