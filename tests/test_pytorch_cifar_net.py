"""The CIFAR network: whitening, identity filters, a block against the NumPy layers, files."""

import numpy as np
import pytest
import torch
from torch import nn

from common.layers.convolution import conv_forward_naive
from common.layers.pooling import max_pool_forward_naive
from common.layers.spatial_normalization import spatial_batchnorm_forward
from common.pytorch.augment import normalise
from common.pytorch.cifar_net import CifarNet, ConvBlock, identity_filters, whitening_filters
from tests.random_pictures import pictures


@pytest.mark.learner
@pytest.mark.parametrize("size", [1, 2, 3])
def test_whitening_whitens(size):
    x = normalise(pictures(40)).double()
    filters = whitening_filters(x, size, eps=0.0)
    half = 3 * size * size
    assert filters.shape == (2 * half, 3, size, size)
    answers = nn.functional.conv2d(x, filters).transpose(0, 1).flatten(1)  # (filters, patches)
    torch.testing.assert_close(torch.cov(answers[:half]), torch.eye(half, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(filters[half:], -filters[:half])
    strength = filters[:half].flatten(1).norm(dim=1)
    assert (strength.diff() >= 0).all(), "the direction of largest variance comes first and is divided by most"


@pytest.mark.learner
def test_whitening_eps_limits_directions_without_variance():
    grey = normalise(pictures(10))[:, :1].expand(-1, 3, -1, -1).double()
    filters = whitening_filters(grey, 2, eps=1e-2)
    assert filters.isfinite().all()
    assert filters.abs().max() <= 10 + 1e-6


@pytest.mark.robustness
@pytest.mark.parametrize(
    ("images", "error"),
    [
        (torch.zeros(3, 8, 8), ValueError),
        (torch.zeros(2, 3, 1, 8), ValueError),
        (torch.zeros(1, 3, 2, 2), ValueError),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), TypeError),
    ],
)
def test_whitening_refuses(images, error):
    with pytest.raises(error, match="images"):
        whitening_filters(images)


@pytest.mark.learner
@pytest.mark.parametrize(("count", "channels"), [(6, 4), (4, 4), (3, 5)])
def test_identity_filters_copy_channels(count, channels):
    weight = torch.randn(count, channels, 3, 3)
    old, x = weight.clone(), torch.randn(2, channels, 5, 5)
    identity_filters(weight)
    got, same = nn.functional.conv2d(x, weight, padding=1), min(count, channels)
    torch.testing.assert_close(got[:, :same], x[:, :same])
    assert torch.equal(weight[same:], old[same:])


def random_block(seed=0):
    """A block from 3 to 5 channels in double precision, with random biases and running statistics."""
    draw, block = torch.Generator().manual_seed(seed), ConvBlock(3, 5).double()
    for name, values in block.state_dict().items():
        if values.is_floating_point() and not name.endswith("weight"):
            values.uniform_(0.5, 1.5, generator=draw)
    return block


def numpy_block(state, x, mode):
    """The block of `state` by the course's NumPy layers."""
    state = {name: values.detach().numpy() for name, values in state.items()}
    for i in ("1", "2"):
        x, _ = conv_forward_naive(x, state[f"conv{i}.weight"], np.zeros(5), {"stride": 1, "pad": 1})
        if i == "1":
            x, _ = max_pool_forward_naive(x, {"pool_height": 2, "pool_width": 2, "stride": 2})
        statistics = {part: state[f"norm{i}.{part}"].copy() for part in ("running_mean", "running_var")}
        x, _ = spatial_batchnorm_forward(
            x, np.ones(5), state[f"norm{i}.bias"], {"mode": mode, "eps": 1e-5, **statistics}
        )
        x = x / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))  # GELU, Hendrycks and Gimpel (2016)
    return x


@pytest.mark.learner
@pytest.mark.parametrize("mode", ["train", "test"])
def test_block_against_the_numpy_layers(mode):
    block, x = random_block(), np.random.RandomState(1).randn(2, 3, 8, 8)
    want = numpy_block({name: values.clone() for name, values in block.state_dict().items()}, x, mode)
    got = block.train(mode == "train")(torch.from_numpy(x))
    torch.testing.assert_close(got.detach(), torch.from_numpy(want))


@pytest.mark.robustness
def test_block_gradients():
    block, x = random_block(), torch.from_numpy(np.random.RandomState(2).randn(2, 3, 4, 4)).requires_grad_()
    assert torch.autograd.gradcheck(block.eval(), (x,))


@pytest.mark.robustness
def test_only_biases_and_convolutions_of_a_block_learn():
    frozen = {name for name, p in ConvBlock(3, 5).named_parameters() if not p.requires_grad}
    assert frozen == {"norm1.weight", "norm2.weight"}


@pytest.mark.learner
def test_net_shapes_size_and_seed():
    net = CifarNet(whiten_with=normalise(pictures(20)))
    assert net(torch.zeros(64, 3, 32, 32)).shape == (64, 10)
    convolutions = [(24, 64), (64, 64), (64, 256), (256, 256), (256, 256), (256, 256)]
    count = 24 * 3 * 2 * 2 + sum(a * b * 9 for a, b in convolutions) + 256 * 10
    assert sum(p.numel() for p in net.parameters() if p.ndim > 1) == count
    assert not net.whiten.weight.requires_grad
    assert net.whiten.bias.requires_grad
    assert CifarNet((4,), whiten_with=None).whiten.weight.requires_grad
    same, other = (CifarNet((4, 4), seed=seed).state_dict() for seed in (0, 1))
    again = CifarNet((4, 4), seed=0).state_dict()
    assert all(torch.equal(same[k], again[k]) for k in same)
    assert not torch.equal(same["head.weight"], other["head.weight"])


@pytest.mark.learner
def test_net_is_its_parts_in_a_row():
    net, x = CifarNet((4, 6)).eval(), normalise(pictures(3))
    parts = nn.Sequential(
        net.whiten, nn.GELU("tanh"), net.blocks, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 10, bias=False)
    )
    parts[-1].weight.data.copy_(net.head.weight / 6)
    torch.testing.assert_close(net(x), parts(x))


@pytest.mark.robustness
def test_net_does_not_depend_on_the_global_generator():
    torch.manual_seed(1)
    one = CifarNet((4, 4)).state_dict()
    torch.manual_seed(2)
    two = CifarNet((4, 4)).state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.robustness
@pytest.mark.parametrize(("widths", "classes"), [((), 10), ((0, 4), 10), ((4,), 0)])
def test_net_refuses(widths, classes):
    with pytest.raises(ValueError, match="widths"):
        CifarNet(widths, classes)


@pytest.mark.robustness
def test_save_and_load(tmp_path):
    net, other = CifarNet((4, 4), seed=0), CifarNet((4, 4), seed=1)
    net.save(tmp_path / "net.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt"]
    other.load(tmp_path / "net.pt")
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.robustness
@pytest.mark.parametrize("content", [[1, 2], {"head.weight": 3}, {"head.weight": torch.zeros(10, 4)}])
def test_load_refuses_what_is_no_net_of_these_widths(tmp_path, content):
    net, path = CifarNet((4,)), tmp_path / "net.pt"
    before = {name: values.clone() for name, values in net.state_dict().items()}
    torch.save(content, path)
    with pytest.raises(ValueError, match="widths"):
        net.load(path)
    CifarNet((5,)).save(path)
    with pytest.raises(ValueError, match="widths"):
        net.load(path)
    assert all(torch.equal(before[name], values) for name, values in net.state_dict().items())


class Evil:
    def __reduce__(self):
        return (print, ("run by a pickle",))


@pytest.mark.robustness
def test_load_runs_no_code(tmp_path, capsys):
    torch.save({"head.weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        CifarNet((4,)).load(tmp_path / "evil.pt")
    assert "run by a pickle" not in capsys.readouterr().out


@pytest.mark.robustness
def test_a_save_that_fails_halfway_leaves_the_old_file(tmp_path, monkeypatch):
    net = CifarNet((4,))
    net.save(tmp_path / "net.pt")
    before = (tmp_path / "net.pt").read_bytes()

    def half(state, file):
        file.write(before[: len(before) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        net.save(tmp_path / "net.pt")
    assert (tmp_path / "net.pt").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
