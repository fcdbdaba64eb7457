"""The labelled photographs: those of the packages, the published file, and files that must not be unpickled."""

import io
import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data import registry, store
from common.data.files import checksum
from common.data.imagenet import FILE, load_imagenet_val
from common.data.pocket import imagenet as pocket

pytestmark = pytest.mark.robustness


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    monkeypatch.setenv("WORKBOOK_QUIET", "1")
    monkeypatch.setenv("WORKBOOK_EDITION", "pocket")
    return tmp_path


def publish(root, monkeypatch, known=None, **fields):
    """Put a file where the full edition lies, and register it with its checksum or with another one."""
    path = root / "imagenet_val" / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **fields)
    entry = known or (path.stat().st_size, checksum(path, "sha256"))
    published = registry.DataSet(**vars(registry.IMAGENET_VAL) | {"files": {FILE: entry}})
    monkeypatch.setitem(registry.DATASETS, "imagenet_val", published)
    monkeypatch.setenv("WORKBOOK_EDITION", "full")
    return path


def test_pocket_edition(root):
    X, y, names = load_imagenet_val()
    assert X.shape == (22, 224, 224, 3) and X.dtype == np.uint8 and y.shape == (22,) and y.dtype == np.int64
    assert sorted(names) == list(range(1000)) and len(set(y)) == 21  # two are jeeps
    assert (names[243], names[967], names[207]) == ("bull mastiff", "espresso", "golden retriever")
    assert [names[i] for i in y[-2:]] == ["tabby, tabby cat", "espresso"]


def test_labels_are_those_of_the_file_names(root):
    folder = Path(find_spec("foolbox").submodule_search_locations[0], "data")
    files = sorted(folder.glob("imagenet_*.jpg"))
    assert load_imagenet_val(20)[1].tolist() == [int(file.stem.split("_")[-1]) for file in files]


def test_pictures_are_the_middle_of_the_photographs(root):
    """A picture shrunk to 8 x 8 is that of the middle square of its photograph, up to the resampling."""
    X, _, _ = load_imagenet_val()
    for row, (file, _) in zip(X, pocket.photographs(), strict=True):
        img = Image.open(file).convert("RGB")
        side = min(img.size)
        left, top = (img.width - side) / 2, (img.height - side) / 2
        want = img.resize((8, 8), Image.Resampling.BOX, box=(left, top, left + side, top + side))
        got = row.reshape(8, 28, 8, 28, 3).mean(axis=(1, 3))
        assert np.abs(got - np.asarray(want)).mean() < 2.5, file


@pytest.mark.parametrize("num, count", [(None, 22), (1, 1), (22, 22)])
def test_num(root, num, count):
    X, y, _ = load_imagenet_val(num)
    assert len(X) == len(y) == count


@pytest.mark.parametrize("num, error", [(0, ValueError), (23, ValueError), (2.0, TypeError)])
def test_bad_num(root, num, error):
    with pytest.raises(error, match="num "):
        load_imagenet_val(num)


def test_packages_are_found_and_not_imported(root):
    code = """if True:
        import sys
        from common.data.imagenet import load_imagenet_val
        load_imagenet_val()
        print({"foolbox", "torch", "timm", "skimage"} & set(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.strip() == "set()"


def test_package_missing():
    with pytest.raises(ImportError, match="no_such_package is not installed"):
        pocket.package_folder("no_such_package")


def test_published_file(root, monkeypatch):
    X, y = np.zeros((3, 224, 224, 3), np.uint8), np.array([958, 85, 244])
    names = np.array({958: np.str_("hay"), 85: "quail", 244: "Tibetan mastiff"}, dtype=object)
    publish(root, monkeypatch, X=X, y=y, label_map=names)
    got, labels, class_names = load_imagenet_val(2)
    assert got.shape == (2, 224, 224, 3) and labels.tolist() == [958, 85] and class_names[958] == "hay"
    assert all(type(name) is str for name in class_names.values())


def test_missing_published_file(root, monkeypatch):
    monkeypatch.setenv("WORKBOOK_EDITION", "full")
    with pytest.raises(FileNotFoundError, match=r"imagenet_val_25\.npz is missing.*make data"):
        load_imagenet_val()


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["WORKBOOK_DATA"] + "/harmed",)


@pytest.mark.parametrize("same_size", [True, False])
def test_unknown_bytes_are_not_unpickled(root, monkeypatch, same_size):
    harmful = np.empty((), dtype=object)
    harmful[()] = Bomb()
    fields = {"X": np.zeros((1, 224, 224, 3), np.uint8), "y": np.zeros(1, int), "label_map": harmful}
    buffer = io.BytesIO()
    np.savez(buffer, **fields)
    size = len(buffer.getvalue()) + (not same_size)
    publish(root, monkeypatch, known=(size, "sha256:" + 64 * "0"), **fields)
    error = ValueError if same_size else FileNotFoundError
    with pytest.raises(error, match="is damaged" if same_size else "is not the published one"):
        load_imagenet_val()
    assert not (root / "harmed").exists()
    pickle.loads(pickle.dumps(Bomb()))  # and it would have been harmful
    assert (root / "harmed").exists()


def test_published_file_without_a_field(root, monkeypatch):
    publish(root, monkeypatch, X=np.zeros((1, 224, 224, 3), np.uint8), y=np.zeros(1, int))
    with pytest.raises(ValueError, match="the fields X, y and label_map are needed"):
        load_imagenet_val()


def test_damaged_pocket_file(root):
    load_imagenet_val()
    path = store.dataset_dir("imagenet_val") / FILE
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        load_imagenet_val()
