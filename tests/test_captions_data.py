"""Captioning data: the layout, features computed once, minibatches, words, and files that do not fit together."""

import json
import shutil

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.decomposition import PCA

from common.data import caption_features, registry, store
from common.data.captions import decode_captions, load_coco_data, load_scene_images, sample_coco_minibatch
from common.data.pocket import captions as pocket

pytestmark = pytest.mark.robustness
WORDS = ["<NULL>", "<START>", "<END>", "<UNK>", "a", "cat", "dog"]
ROWS = np.array([[1, 4, 5, 2, 0], [1, 4, 6, 2, 0], [1, 4, 3, 5, 2]], dtype=np.int32)


class Extract:
    """Means of a 4 x 4 grid in place of a network; counts how many pictures it saw."""

    def __init__(self, factor=1.0):
        self.factor, self.seen = factor, 0

    def __call__(self, images):
        assert images.dtype == np.uint8 and images.ndim == 4
        self.seen += len(images)
        return (self.factor * images.reshape(len(images), 4, 56, 4, 56, 3).mean(axis=(2, 4)).reshape(len(images), 48)
                ).astype(np.float32)  # fmt: skip


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    pocket.write(folder, counts={"train": 12, "val": 6}, new_pairs=2)
    return folder


@pytest.fixture
def scenes(drawn, tmp_path):
    """A small pocket edition without features."""
    return shutil.copytree(drawn, tmp_path / "scenes")


@pytest.fixture
def layout(tmp_path):
    """A small folder as CS231n published it: web addresses, no pictures."""
    with h5py.File(tmp_path / "coco2014_captions.h5", "w") as file:
        for split in ("train", "val"):
            file[f"{split}_captions"], file[f"{split}_image_idxs"] = ROWS, np.array([0, 1, 1], dtype=np.int32)
    words = {"idx_to_word": WORDS, "word_to_idx": {word: i for i, word in enumerate(WORDS)}}
    (tmp_path / "coco2014_vocab.json").write_text(json.dumps(words))
    for split in ("train", "val"):
        (tmp_path / f"{split}2014_urls.txt").write_text("http://example.org/1.jpg\nhttp://example.org/2.jpg\n")
        for pca, width in ((True, 512), (False, 4096)):
            with h5py.File(tmp_path / caption_features.file_name(split, pca), "w") as file:
                file["features"] = np.arange(2 * width, dtype=np.float32).reshape(2, width)
    return tmp_path


# The layout -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pca, width", [(True, 512), (False, 4096)])
def test_published_layout(layout, pca, width):
    data = load_coco_data(layout, pca_features=pca)
    assert set(data) == {"idx_to_word", "word_to_idx"} | {
        f"{split}_{kind}" for split in ("train", "val") for kind in ("captions", "image_idxs", "features", "urls")
    }
    assert data["train_features"].shape == (2, width) and data["train_features"].dtype == np.float32
    assert data["val_captions"].dtype == np.int32 and (data["val_captions"] == ROWS).all()
    assert data["val_urls"].tolist() == ["http://example.org/1.jpg", "http://example.org/2.jpg"]


def test_max_train_draws_with_replacement(layout):
    data = load_coco_data(layout, max_train=50, seed=3)
    chosen = np.random.RandomState(3).randint(3, size=50)
    assert (data["train_captions"] == ROWS[chosen]).all()
    assert (data["train_image_idxs"] == np.array([0, 1, 1])[chosen]).all()
    assert len(data["train_features"]) == 2 and len(data["val_captions"]) == 3


def test_drawn_edition(scenes):
    data = load_coco_data(scenes, extract=Extract())
    assert data["train_captions"].shape == (60, 17) and data["val_image_idxs"].max() == 5
    assert data["train_features"].shape == (12, 12) and data["val_features"].shape == (6, 12)  # min(512, N, F)
    assert len(data["train_scenes"]) == 12 and {"class", "colour", "box"} <= data["val_scenes"][0]["objects"][0].keys()
    for split, i in (("train", 3), ("val", 5)):
        pixels, scene, told = pocket.draw(2014, split, i, new_pair=split == "val")
        assert (load_scene_images(data, split, [i])[0] == pixels).all() and data[f"{split}_scenes"][i] == scene
        rows = data[f"{split}_captions"][data[f"{split}_image_idxs"] == i]
        assert decode_captions(rows, data["idx_to_word"]) == [f"<START> {sentence} <END>" for sentence in told]


def test_through_the_store(drawn, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    monkeypatch.setenv("WORKBOOK_QUIET", "1")
    monkeypatch.delenv("WORKBOOK_EDITION", raising=False)
    monkeypatch.setattr(pocket, "COUNTS", {"train": 4, "val": 3})
    monkeypatch.setattr(pocket, "NEW_PAIRS", 1)
    data = load_coco_data(extract=Extract())
    assert data["train_features"].shape == (4, 4) and "pocket edition" in store.edition_line("coco_captions")
    assert load_coco_data()["train_features"].tolist() == data["train_features"].tolist()


# Features of drawn pictures --------------------------------------------------------------------------------------


def test_features_are_computed_once(scenes):
    first, second = Extract(), Extract()
    got = load_coco_data(scenes, extract=first)
    again = load_coco_data(scenes, extract=second)
    assert first.seen == 18 + 2 and second.seen == 2  # two pictures tell whether it is the same network
    assert (got["train_features"] == again["train_features"]).all()
    assert (got["val_features"] == load_coco_data(scenes)["val_features"]).all()


def test_another_network_computes_them_anew(scenes):
    load_coco_data(scenes, extract=Extract())
    other = Extract(-2.0)
    data = load_coco_data(scenes, extract=other, pca_features=False)
    assert other.seen == 20
    assert np.allclose(data["train_features"], Extract(-2.0)(load_scene_images(data, "train", range(12))))


def test_interrupted_features_are_computed_anew(scenes):
    class Stop(Extract):
        def __call__(self, images):
            if self.seen >= 12:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        load_coco_data(scenes, extract=Stop())
    assert not list(scenes.glob("*fc7*"))
    assert len(load_coco_data(scenes, extract=Extract())["val_features"]) == 6


def test_another_kind_has_files_of_its_own(scenes):
    """Loading the two kinds in turn computes each of them once."""
    one, two = Extract(), Extract(-2.0)
    for extract in (one, two):
        extract.options = {"pca_features": False} | ({"kind": "grid4"} if extract is two else {})
        first = load_coco_data(scenes, extract=extract, **extract.options)
        assert extract.seen == 20
        assert np.allclose(first["val_features"], extract(load_scene_images(first, "val", range(6))), rtol=6e-4)
        extract.seen = 0
    for extract in (one, two, one):
        load_coco_data(scenes, extract=extract, **extract.options)
    assert (one.seen, two.seen) == (4, 2)
    assert load_coco_data(scenes)["val_features"].shape == (6, 12)  # the reduced ones are still there
    with h5py.File(scenes / "val2014_grid4.h5", "r") as file:
        assert file["features"].dtype == np.float16
    assert not (scenes / "val2014_grid4_pca.h5").exists()
    again = Extract(3.0)
    assert load_coco_data(scenes, extract=again, pca_features=False, kind="grid4")["train_features"].max() > 3
    assert again.seen == 20  # another network under the same name


def test_numbers_too_large_for_half_precision_stay_whole(scenes):
    for factor, want in ((100.0, np.float16), (1000.0, np.float32)):
        load_coco_data(scenes, extract=Extract(factor), pca_features=False, kind="grid4")
        with h5py.File(scenes / "train2014_grid4.h5", "r") as file:
            assert file["features"].dtype == want and np.isfinite(file["features"][:]).all()


def test_files_of_two_networks_never_pass_for_one(scenes, monkeypatch):
    """Killed between two files of another network, the features of the first network are not believed."""
    load_coco_data(scenes, extract=Extract())
    save = caption_features.save

    def killed(path, features, probe=None):
        if "val" in path.name:
            raise KeyboardInterrupt
        save(path, features, probe)

    monkeypatch.setattr(caption_features, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        load_coco_data(scenes, extract=Extract(-2.0))
    monkeypatch.undo()
    first = Extract()
    assert (load_coco_data(scenes, extract=first, pca_features=False)["train_features"] >= 0).all()
    assert first.seen == 20


def test_photographs_of_any_sizes_get_features_of_another_kind(layout):
    for split in ("train", "val"):
        names = [f"{split}{i}.png" for i in range(2)]
        for i, name in enumerate(names):
            Image.new("RGB", (30 + 10 * i, 20), (50 * i, 0, 0)).save(layout / name)
        (layout / f"{split}2014_urls.txt").write_text("".join(f"{name}\n" for name in names))
    shapes = lambda pictures: np.array([[*p.shape, p[0, 0, 0]] for p in pictures], dtype=np.float32)  # noqa: E731
    data = load_coco_data(layout, pca_features=False, extract=shapes, kind="sizes")
    assert data["val_features"].tolist() == [[20, 30, 3, 0], [20, 40, 3, 50]]
    assert load_coco_data(layout)["val_features"].shape == (2, 512)  # the published ones are left alone


def test_features_of_another_kind_need_the_photographs(layout):
    with pytest.raises(FileNotFoundError, match=r"http://example\.org/1\.jpg is not a picture on this machine"):
        load_coco_data(layout, pca_features=False, extract=Extract(), kind="grid4")
    with pytest.raises(FileNotFoundError, match=r"train2014_grid4\.h5 is missing.*FeatureExtractor"):
        load_coco_data(layout, pca_features=False, kind="grid4")


@pytest.mark.parametrize("kind", ["", "Grid", "../grid4", "grid4_pca", 4])
def test_bad_kind(layout, kind):
    with pytest.raises(ValueError, match="kind must be small letters"):
        load_coco_data(layout, pca_features=False, kind=kind)


def test_another_kind_is_never_reduced(layout):
    with pytest.raises(ValueError, match="pass pca_features=False"):
        load_coco_data(layout, kind="grid4")


def test_no_features_and_no_network(scenes):
    with pytest.raises(FileNotFoundError, match=r"extract=load_backbone\(\)\.extract"):
        load_coco_data(scenes)


@pytest.mark.parametrize(
    "extract, error, message",
    [
        ("efficientnet", TypeError, "extract must be a function"),
        (lambda images: images, TypeError, r"array of floats \(N, F\), got uint8"),
        (lambda images: [0.0], TypeError, r"array of floats \(N, F\), got list"),
        (lambda images: np.ones((7, 3)), ValueError, "7 rows for 2 pictures"),
    ],
)
def test_bad_extract(scenes, extract, error, message):
    with pytest.raises(error, match=message):
        load_coco_data(scenes, extract=extract)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 8), st.integers(0, 2**31 - 1))
def test_pca_is_that_of_scikit_learn(N, F, D, seed):
    rng = np.random.RandomState(seed)
    X, new = rng.randn(N, F) * rng.uniform(0.5, 4, F) + 3, rng.randn(5, F)
    project, few = caption_features.fit_pca(X, D), min(N - 1, F, D)  # the Nth direction has no variance
    oracle = PCA(few, svd_solver="full").fit(X)
    scale = np.sqrt((oracle.transform(X) ** 2).sum() / (N * min(N, F, D)))
    got, want = project(new), oracle.transform(new) / scale
    assert got.shape == (5, min(N, F, D)) and not got[:, few:].any()
    np.testing.assert_allclose(np.abs(got[:, :few]), np.abs(want), rtol=1e-3, atol=2e-3 * np.abs(want).max())


def test_pca_features_have_mean_square_one():
    X = np.random.RandomState(0).randn(60, 20) * np.arange(1, 21)
    assert np.isclose((caption_features.fit_pca(X, 20)(X) ** 2).mean(), 1, atol=1e-5)


# Minibatches, words, pictures -------------------------------------------------------------------------------------


def test_minibatch_belongs_together(layout):
    data = load_coco_data(layout)
    captions, features, urls = sample_coco_minibatch(data, 40, "val", rng=np.random.RandomState(1))
    assert captions.shape == (40, 5) and features.shape == (40, 512) and urls.shape == (40,)
    for caption, row, url in zip(captions, features, urls, strict=True):
        picture = [0, 1, 1][ROWS.tolist().index(caption.tolist())]
        assert (row == data["val_features"][picture]).all() and url == data["val_urls"][picture]
    again = sample_coco_minibatch(data, 40, "val", rng=1)
    assert (again[0] == captions).all() and len(sample_coco_minibatch(data)[0]) == 100


def test_decode():
    assert decode_captions(ROWS[0], WORDS) == "<START> a cat <END>"
    assert decode_captions(ROWS, WORDS)[2] == "<START> a <UNK> cat <END>"
    assert decode_captions(np.array([0, 4, 0, 5, 2, 6]), WORDS) == "a cat <END>"  # nothing after <END>
    assert decode_captions(np.array([4, 5]), WORDS) == "a cat"
    assert decode_captions(np.zeros((1, 0), int), WORDS) == [""]


@pytest.mark.parametrize(
    "captions, error, message",
    [
        (np.array([7]), ValueError, "the vocabulary allows 0 to 6"),
        (np.array([-1]), ValueError, "the vocabulary allows 0 to 6"),
        (np.array([1.0]), TypeError, "integers"),
        (np.zeros((1, 1, 1), int), ValueError, "shape"),
    ],
)
def test_bad_captions_to_decode(captions, error, message):
    with pytest.raises(error, match=message):
        decode_captions(captions, WORDS)


@pytest.mark.parametrize(
    "size, split, error, message",
    [(0, "train", ValueError, "batch_size"), (2.5, "train", TypeError, "batch_size"), (3, "test", ValueError, "split")],
)
def test_bad_minibatch(layout, size, split, error, message):
    with pytest.raises(error, match=message):
        sample_coco_minibatch(load_coco_data(layout), size, split)


def test_pictures_that_are_not_here(layout, scenes):
    with pytest.raises(FileNotFoundError, match=r"http://example\.org/2\.jpg"):
        load_scene_images(load_coco_data(layout), "train", [1])
    data = load_coco_data(scenes, extract=Extract())
    for rows in ([12], [-1], []):
        with pytest.raises(ValueError, match="from 0 to 11"):
            load_scene_images(data, "train", rows)
    (scenes / "images" / "val_000001.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"val_000001\.png cannot be read"):
        load_scene_images(data, "val", [1])


# Files that do not fit ------------------------------------------------------------------------------------------


def put(folder, name, **arrays):
    """Replace arrays of an HDF5 file, or delete those that are None."""
    with h5py.File(folder / name, "a") as file:
        for key, array in arrays.items():
            del file[key]
            if array is not None:
                file[key] = array


C, F, V = "coco2014_captions.h5", "val2014_vgg16_fc7_pca.h5", "coco2014_vocab.json"
DAMAGE = {
    "captions missing": (lambda d: put(d, C, val_captions=None), f"{C}: the key 'val_captions' is missing"),
    "captions are floats": (
        lambda d: put(d, C, train_captions=ROWS * 1.0),
        f"{C}: 'train_captions' must hold integers",
    ),
    "captions flat": (lambda d: put(d, C, train_captions=ROWS[0]), f"{C}: 'train_captions' must hold integers"),
    "no captions": (lambda d: put(d, C, train_captions=ROWS[:0]), f"{C}: 'train_captions' must hold integers"),
    "word too high": (lambda d: put(d, C, val_captions=ROWS + 1), f"{C}: 'val_captions' holds the numbers 1 to 7"),
    "word negative": (lambda d: put(d, C, val_captions=ROWS - 1), f"{C}: 'val_captions' holds the numbers -1 to 5"),
    "too few pictures": (lambda d: put(d, C, val_image_idxs=np.array([0, 1])), f"{C}: 'val_image_idxs' must hold"),
    "picture numbers float": (lambda d: put(d, C, val_image_idxs=np.ones(3)), f"{C}: 'val_image_idxs' must hold"),
    "picture too high": (lambda d: put(d, C, val_image_idxs=np.array([0, 1, 2])), f"{C}: 'val_image_idxs' names.*{F}"),
    "features missing": (lambda d: put(d, F, features=None), f"{F}: the key 'features' is missing"),
    "features flat": (lambda d: put(d, F, features=np.ones(4)), rf"{F}: 'features' must hold floats \(N, D\)"),
    "features are integers": (lambda d: put(d, F, features=np.ones((2, 4), int)), f"{F}: 'features' must hold floats"),
    "features not finite": (lambda d: put(d, F, features=np.full((2, 4), np.nan)), f"{F}: 'features'.*not finite"),
    "one picture more": (
        lambda d: put(d, F, features=np.ones((3, 4), "f4")),
        f"val2014_urls.txt has 2 lines, but.*{F}",
    ),
    "not HDF5": (lambda d: (d / F).write_text("hello"), f"{F} is not a readable HDF5 file"),
    "captions not HDF5": (lambda d: (d / C).write_bytes(b""), f"{C} is not a readable HDF5 file"),
    "vocabulary not JSON": (
        lambda d: (d / V).write_text("{"),
        f"{V} is not readable",
    ),
    "vocabulary a list": (lambda d: (d / V).write_text("[]"), f"{V}: the keys"),
    "vocabulary at odds": (
        lambda d: (d / V).write_text(json.dumps({"idx_to_word": WORDS, "word_to_idx": {"a": 4}})),
        f"{V}: 'word_to_idx' is not the inverse",
    ),
    "no special words": (
        lambda d: (d / V).write_text('{"idx_to_word": ["a"], "word_to_idx": {"a": 0}}'),
        f"{V}: 'idx_to_word' lacks <NULL>",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_files_that_do_not_fit(layout, damage):
    spoil, message = DAMAGE[damage]
    spoil(layout)
    with pytest.raises(ValueError, match=message):
        load_coco_data(layout)


@pytest.mark.parametrize("name", ["coco2014_captions.h5", "coco2014_vocab.json", F, "train2014_urls.txt"])
def test_missing_file(layout, name):
    (layout / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        load_coco_data(layout)


def test_scenes_that_do_not_fit(scenes):
    (scenes / "scenes.json").write_text('{"train": [], "val": []}')
    with pytest.raises(ValueError, match=r"scenes\.json: the key 'train' must hold as many scenes"):
        load_coco_data(scenes, extract=Extract())


@pytest.mark.parametrize("max_train, error", [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_bad_max_train(layout, max_train, error):
    with pytest.raises(error, match="max_train"):
        load_coco_data(layout, max_train=max_train)


def test_full_edition_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    monkeypatch.setenv("WORKBOOK_EDITION", "full")
    with pytest.raises(FileNotFoundError, match=r"coco2014_captions\.h5 is missing.*coco_captioning\.zip"):
        load_coco_data()
    with pytest.raises(OSError, match="has to be put there by hand"):
        store.fetch("coco_captions")


def test_published_vocabulary_is_compared(layout, tmp_path, monkeypatch):
    """A file of the published length with other bytes is reported; of the other files nothing is known."""
    size, _ = registry.COCO_CAPTIONS.files["coco2014_vocab.json"]
    path = layout / "coco2014_vocab.json"
    path.write_text(path.read_text().ljust(size))
    with pytest.raises(ValueError, match=r"coco2014_vocab\.json is damaged"):
        load_coco_data(layout)
