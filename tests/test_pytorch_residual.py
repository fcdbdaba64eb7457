"""Residual networks: known sizes, blocks against the NumPy layers, shortcuts, and the three networks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from common.layers.convolution import conv_forward_naive
from common.layers.spatial_normalization import spatial_batchnorm_forward
from common.pytorch import residual

BLOCKS = (residual.PlainBlock, residual.ResidualBlock, residual.ResidualBottleneckBlock)
WITH_SHORTCUT = BLOCKS[1:]


def double(module, seed=0):
    """The module in double precision, with random parameters and running statistics."""
    draw = torch.Generator().manual_seed(seed)
    for name, values in module.double().state_dict().items():
        if values.is_floating_point():
            values.uniform_(0.5 if name.endswith("running_var") else -1, 1, generator=draw)
    return module


def numpy_layers(layers, x):
    """A row of convolutions, batch normalisations and ReLUs in training mode by the course's NumPy layers."""
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            x = np.maximum(x, 0)
            continue
        w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        if isinstance(layer, nn.BatchNorm2d):
            x, _ = spatial_batchnorm_forward(x, w, b, {"mode": "train", "eps": layer.eps})
        else:
            pad, stride = layer.padding[0], layer.stride[0]
            x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
            # CS231n's layer refuses rows that no window reaches, where PyTorch leaves them out.
            rows, columns = ((side - w.shape[2]) % stride for side in x.shape[2:])
            x = x[:, :, : x.shape[2] - rows, : x.shape[3] - columns]
            x, _ = conv_forward_naive(x, w, b, {"stride": stride, "pad": 0})
    return x


class TestBlocks:
    @pytest.mark.learner
    @pytest.mark.parametrize("block", BLOCKS)
    @pytest.mark.parametrize(("downsample", "size"), [(False, (5, 6)), (True, (3, 3))])
    def test_known_shapes(self, block, downsample, size):
        assert block(3, 10, downsample)(torch.zeros(2, 3, 5, 6)).shape == (2, 10, *size)

    @pytest.mark.learner
    @pytest.mark.parametrize("block", BLOCKS)
    @pytest.mark.parametrize("downsample", [False, True])
    @pytest.mark.parametrize("channels", [(3, 8), (8, 8)])
    def test_against_the_numpy_layers(self, block, downsample, channels):
        net, x = double(block(*channels, downsample)), np.random.RandomState(1).randn(2, channels[0], 6, 4)
        path = net.net if block is residual.PlainBlock else getattr(net.block, "net", net.block)
        want = numpy_layers(path, x)
        if block in WITH_SHORTCUT:
            same = channels[0] == channels[1] and not downsample
            want = want + (x if same else numpy_layers([net.shortcut], x))
        np.testing.assert_allclose(net(torch.from_numpy(x)).detach(), want, atol=1e-10)

    @pytest.mark.learner
    @pytest.mark.parametrize("block", WITH_SHORTCUT)
    @pytest.mark.parametrize("downsample", [False, True])
    def test_without_its_last_convolution_only_the_shortcut_is_left(self, block, downsample):
        for channels in ((8, 8), (8, 12)):
            net, x = block(*channels, downsample), torch.randn(2, 8, 5, 6)
            nn.init.zeros_(residual.main_convolutions(net)[-1].weight)
            nn.init.zeros_(residual.main_convolutions(net)[-1].bias)
            assert torch.equal(net(x), net.shortcut(x))
        assert isinstance(block(8, 8, downsample).shortcut, nn.Conv2d if downsample else nn.Identity)

    @pytest.mark.learner
    def test_bottleneck_works_on_a_quarter_of_the_channels(self):
        first, second, third = residual.main_convolutions(residual.ResidualBottleneckBlock(3, 10, downsample=True))
        assert [c.kernel_size[0] for c in (first, second, third)] == [1, 3, 1]
        assert [c.out_channels for c in (first, second, third)] == [2, 2, 10]
        assert [c.stride[0] for c in (first, second, third)] == [2, 1, 1]

    @pytest.mark.robustness
    @pytest.mark.parametrize("block", BLOCKS)
    def test_gradients(self, block):
        net, x = double(block(2, 4, True)).eval(), torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(net, (x,))

    @pytest.mark.robustness
    def test_bad_sizes_are_named(self):
        for Cout in (0, 1, 3):
            with pytest.raises(ValueError, match=f"Cout must be at least 4.*got {Cout}"):
                residual.ResidualBottleneckBlock(3, Cout)
        for block in BLOCKS:
            with pytest.raises(ValueError, match="Cin"):
                block(0, 4)
        for block in (*BLOCKS[:2], residual.ResNetStem):
            with pytest.raises(ValueError, match="Cout"):
                block(4, 0)


class TestStages:
    @pytest.mark.learner
    @pytest.mark.parametrize("block", BLOCKS)
    def test_the_first_block_changes_channels_and_size(self, block):
        stage = residual.ResNetStage(3, 8, 3, block=block)
        assert len(stage.net) == 3
        x = torch.zeros(2, 3, 8, 6)
        for part in stage.net:
            x = part(x)
            assert x.shape == (2, 8, 4, 3)
        assert residual.ResNetStage(3, 8, 2, False, block)(torch.zeros(2, 3, 8, 6)).shape == (2, 8, 8, 6)

    @pytest.mark.learner
    def test_stem(self):
        stem = residual.ResNetStem(3, 10)
        out = stem(torch.randn(2, 3, 5, 6))
        assert out.shape == (2, 10, 5, 6)
        assert out.min() == 0

    @pytest.mark.robustness
    def test_bad_stages_are_named(self):
        with pytest.raises(ValueError, match="num_blocks"):
            residual.ResNetStage(3, 8, 0)
        with pytest.raises(ValueError, match="stages"):
            residual.ResNet([])
        with pytest.raises(ValueError, match=r"stage_args\[1\] takes 8 channels, but the stage before gives 4"):
            residual.ResNet([(4, 4, 1, False), (8, 8, 1, True)])
        with pytest.raises(ValueError, match="num_classes"):
            residual.ResNet(residual.NARROW, num_classes=0)


class TestNetworks:
    @pytest.mark.learner
    @pytest.mark.parametrize(
        ("name", "parameters", "convolutions"),
        [("plain32", 117386, 31), ("resnet32", 118074, 31), ("resnet47", 129146, 46)],
    )
    def test_known_counts(self, name, parameters, convolutions):
        net = residual.get_resnet(name)
        assert sum(p.numel() for p in net.parameters()) == parameters
        assert len(residual.main_convolutions(net)) == convolutions
        assert convolutions + 1 == int(name[-2:])  # the linear layer is the last one

    @pytest.mark.learner
    @pytest.mark.parametrize("name", residual.NETWORKS)
    def test_pictures_of_any_size(self, name):
        net = residual.get_resnet(name, num_classes=7).eval()
        with torch.no_grad():
            for size in ((32, 32), (48, 48), (64, 64), (17, 30)):
                assert net(torch.randn(2, 3, *size)).shape == (2, 7)

    @pytest.mark.learner
    @settings(max_examples=10, deadline=None)
    @given(st.integers(1, 3), st.integers(1, 3), st.sampled_from(BLOCKS), st.integers(1, 4))
    def test_the_stem_follows_the_first_stage(self, width, blocks, block, colours):
        net = residual.ResNet([(4 * width, 8, blocks, False)], colours, block, 3)
        assert net(torch.zeros(2, colours, 6, 6)).shape == (2, 3)

    @pytest.mark.learner
    def test_the_map_is_averaged(self):
        """Whatever the size of the map, the linear layer gets its mean."""
        net = residual.ResNet([(4, 4, 1, False)], block=lambda *_: nn.Identity()).eval()
        with torch.no_grad():
            x = torch.randn(2, 3, 8, 8)
            maps = net.cnn(x)
            torch.testing.assert_close(net(x), maps.mean(dim=(2, 3)) @ net.fc.weight.T + net.fc.bias)

    @pytest.mark.learner
    @pytest.mark.parametrize("name", residual.NETWORKS)
    def test_the_gradient_reaches_the_stem(self, name):
        net = residual.get_resnet(name, seed=0)
        nn.functional.cross_entropy(net(torch.randn(4, 3, 16, 16)), torch.arange(4)).backward()
        norms = [c.weight.grad.norm().item() for c in residual.main_convolutions(net)]
        assert min(norms) > 0
        assert np.isfinite(norms).all()

    @pytest.mark.robustness
    def test_the_seed_is_that_of_the_weights_only(self):
        torch.manual_seed(5)
        want = torch.rand(3)
        torch.manual_seed(5)
        one, two, other = (residual.get_resnet("plain32", seed=seed).state_dict() for seed in (1, 1, 2))
        assert torch.equal(torch.rand(3), want)
        assert all(torch.equal(one[name], two[name]) for name in one)
        assert not torch.equal(one["fc.weight"], other["fc.weight"])
        with pytest.raises(ValueError, match=r"unknown network 'resnet50'; there are plain32, resnet32, resnet47"):
            residual.get_resnet("resnet50")


class TestLearningRate:
    @pytest.mark.learner
    def test_falls_on_the_listed_epochs_only(self):
        groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 8.0)]
        optimizer, seen = torch.optim.SGD(groups), []
        for epoch in range(10):
            seen.append(residual.adjust_learning_rate(optimizer, 0.1, epoch, [6, 8]))
        want = [1.0] * 6 + [0.1] * 2 + [0.01] * 2
        np.testing.assert_allclose(seen, [[w, 8 * w] for w in want])
        assert residual.adjust_learning_rate(optimizer, 0.1, 0) == seen[-1]
        assert seen[-1] == [group["lr"] for group in optimizer.param_groups]

    @pytest.mark.robustness
    @pytest.mark.parametrize("lrd", [0, -1, float("nan"), float("inf")])
    def test_bad_factor_is_named(self, lrd):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        with pytest.raises(ValueError, match="lrd must be a finite number above 0"):
            residual.adjust_learning_rate(optimizer, lrd, 0, (0,))


@pytest.mark.learner
def test_a_short_training_lowers_the_loss():
    from tests.random_pictures import labels, pictures

    net, x, y = residual.get_resnet("resnet32", seed=0), pictures(16, size=16) / 255 - 0.5, labels(16)
    sgd = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(net(x), y)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
