"""Cached feature maps: as computed, computed once, resumed after an interruption, never those of something else."""

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from common.detection import features
from common.detection.features import all_maps, cached_maps
from common.vision.backbone import Backbone

pytestmark = pytest.mark.robustness
PICTURES = np.random.RandomState(0).randint(256, size=(11, 64, 48, 3), dtype=np.uint8)


class Camera:
    """Hands out rows of an array and counts them; fails when asked for a row that is forbidden."""

    def __init__(self, images=PICTURES, forbidden=()):
        self.images, self.seen, self.forbidden = images, [], forbidden

    def __call__(self, rows):
        if set(rows) & set(self.forbidden):
            raise KeyboardInterrupt
        self.seen += list(rows)
        return self.images[list(rows)]


def small_backbone(seed=0):
    torch.manual_seed(seed)
    stages = {"first": nn.Conv2d(3, 5, 3, 2, 1), "second": nn.Sequential(nn.Conv2d(5, 7, 3, 2, 1), nn.ReLU()),
              "third": nn.Conv2d(7, 3, 1)}  # fmt: skip
    return Backbone(stages, nn.Flatten(), (0.5, 0.4, 0.3), (0.5, 0.6, 0.7), "third")


@pytest.fixture(scope="module")
def backbone():
    return small_backbone()


def read(folder, backbone, camera, layers=("first", "second"), count=11, **options):
    return cached_maps(folder, camera, count, backbone, layers, **{"rows": 4, "batch_size": 3} | options)


def test_maps_are_those_of_the_backbone(tmp_path, backbone):
    """Computed and read again: float16 of what `Backbone.features` gives for each layer."""
    X = backbone.normalise(torch.from_numpy(PICTURES).permute(0, 3, 1, 2))
    for _ in range(2):
        maps = read(tmp_path, backbone, Camera())
        assert list(maps) == ["first", "second"]
        for layer, shape in {"first": (11, 5, 32, 24), "second": (11, 7, 16, 12)}.items():
            assert maps[layer].shape == shape and maps[layer].dtype == torch.float16
            assert maps[layer].is_contiguous(memory_format=torch.channels_last)
            expected = backbone.features(X, layer)
            assert torch.allclose(maps[layer].float(), expected, rtol=1e-3, atol=1e-3)


def test_files_are_chunked_by_picture_and_small(tmp_path, backbone):
    read(tmp_path, backbone, Camera())
    names = sorted(path.name for path in tmp_path.glob("*.h5"))
    assert names == ["0000.h5", "0001.h5", "0002.h5"]
    with h5py.File(tmp_path / "0002.h5") as file:
        assert file["first"].chunks == (1, 32, 24, 5) and file["first"].shape[0] == 3
        assert file["first"].dtype == np.float16
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


def test_computed_once(tmp_path, backbone):
    read(tmp_path, backbone, Camera())
    again = Camera()
    read(tmp_path, backbone, again)
    assert again.seen == [0, 4, 8]  # the first picture of each file, to recognise it


def test_goes_on_after_an_interruption(tmp_path, backbone):
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path, backbone, Camera(forbidden=[6]))
    assert [path.name for path in tmp_path.glob("*.h5")] == ["0000.h5"]
    rest = Camera()
    resumed = read(tmp_path, backbone, rest)
    assert not {1, 2, 3} & set(rest.seen) and set(range(4, 11)) <= set(rest.seen)
    whole = read(tmp_path / "other", backbone, Camera())
    assert all(torch.equal(resumed[layer], whole[layer]) for layer in whole)


def changed(name, tmp_path, backbone):
    """The same call with one thing changed; returns which pictures were asked for."""
    camera, options, net = Camera(), {}, backbone
    if name == "weights":
        net = small_backbone(1)
    elif name == "one weight":
        net = small_backbone()
        net.stages[1][0].bias.data[0] += 1e-3
    elif name == "normalisation":
        net = small_backbone()
        net.mean += 0.1
    elif name == "size":
        camera = Camera(PICTURES[:, :32])
    elif name == "pictures":
        camera = Camera(255 - PICTURES)
    elif name == "count":
        options = {"count": 10}
    elif name == "layers":
        options = {"layers": ("first", "third")}
    elif name == "precision":
        options = {"bf16": True}
    read(tmp_path, net, camera, **options)
    return camera.seen


@pytest.mark.parametrize(
    "name", ["weights", "one weight", "normalisation", "size", "pictures", "count", "layers", "precision"]
)
def test_made_from_something_else_is_made_anew(tmp_path, backbone, name):
    read(tmp_path, backbone, Camera())
    assert set(changed(name, tmp_path, backbone)) >= set(range(10))


def test_weights_behind_the_layers_do_not_matter(tmp_path, backbone):
    read(tmp_path, backbone, Camera())
    net, camera = small_backbone(), Camera()
    net.stages[2].weight.data += 1
    read(tmp_path, net, camera)
    assert camera.seen == [0, 4, 8]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "no layer"])
def test_damaged_file_is_made_anew(tmp_path, backbone, damage):
    whole = read(tmp_path, backbone, Camera())
    path = tmp_path / "0001.h5"
    if damage == "no layer":
        with h5py.File(path, "a") as file:
            del file["second"]
    else:
        path.write_bytes({"cut": path.read_bytes()[:3000], "empty": b"", "text": b"no HDF5"}[damage])
    camera = Camera()
    again = read(tmp_path, backbone, camera)
    assert all(torch.equal(again[layer], whole[layer]) for layer in whole)
    assert {4, 5, 6, 7} <= set(camera.seen) and not {1, 9} & set(camera.seen)


def test_failed_write_leaves_the_old_file(tmp_path, backbone, monkeypatch):
    read(tmp_path, backbone, Camera())
    before = (tmp_path / "0000.h5").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("common.storage.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        read(tmp_path, small_backbone(1), Camera())
    assert (tmp_path / "0000.h5").read_bytes() == before and not list(tmp_path.glob("*.part"))


def test_one_pass_gives_all_layers(backbone):
    X = torch.randn(2, 3, 64, 48)
    maps = all_maps(backbone, X, ("third", "first"))
    assert set(maps) == {"third", "first"}
    for layer, values in maps.items():
        assert torch.allclose(values, backbone.features(X, layer), atol=1e-6) and not values.requires_grad


@pytest.mark.parametrize(
    ("pictures", "options", "error", "message"),
    [
        (PICTURES, {}, TypeError, "pictures must be a function"),
        (Camera(), {"layers": ()}, ValueError, "layers is empty"),
        (Camera(), {"layers": ("fourth",)}, ValueError, "unknown layer 'fourth'; there are first, second, third"),
        (Camera(), {"rows": 0}, ValueError, "rows"),
        (Camera(), {"batch_size": 1.5}, TypeError, "batch_size"),
        (Camera(), {"count": 0}, ValueError, "count"),
        (Camera(PICTURES.astype(float)), {}, ValueError, r"pictures must give uint8 \(1, H, W, 3\), got float64"),
        (Camera(PICTURES[..., :1]), {}, ValueError, "pictures must give uint8"),
        (lambda rows: PICTURES[:2], {}, ValueError, r"uint8 \(1, H, W, 3\), got uint8 \(2,"),
    ],
)
def test_bad_input(tmp_path, backbone, pictures, options, error, message):
    with pytest.raises(error, match=message):
        read(tmp_path, backbone, pictures, **options)
    assert not list(tmp_path.glob("*.h5"))


def test_bf16_is_near(tmp_path, backbone):
    exact = read(tmp_path / "a", backbone, Camera())
    near = read(tmp_path / "b", backbone, Camera(), bf16=True)
    assert (near["second"] - exact["second"]).abs().max() < 0.03 * exact["second"].abs().max()
    assert features.autocast("cpu", True).fast_dtype == torch.bfloat16
