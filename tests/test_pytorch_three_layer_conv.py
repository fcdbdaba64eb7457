"""One network three ways: the same scores from the same weights, and where the weights start."""

import numpy as np
import pytest
import torch
from torch import nn

from common.layers.affine import affine_forward
from common.layers.convolution import conv_forward_naive
from common.pytorch import three_layer_conv as recap

ALL = (recap.initialize_three_layer_conv_part3, recap.initialize_three_layer_conv_part4)


def parameters(part, **options):
    made = part(**options)
    return made if isinstance(made, list) else list(made[0].parameters())


@pytest.mark.learner
def test_bare_tensors_against_the_numpy_layers():
    rng = np.random.RandomState(0)
    shapes = (4, 3, 5, 5), (4,), (2, 4, 3, 3), (2,), (10, 2 * 6 * 5), (10,)
    params, x = [rng.randn(*shape) for shape in shapes], rng.randn(3, 3, 6, 5)
    got = recap.three_layer_convnet(torch.from_numpy(x), [torch.from_numpy(p) for p in params])
    for i, pad in ((0, 2), (2, 1)):
        x = np.maximum(conv_forward_naive(x, params[i], params[i + 1], {"stride": 1, "pad": pad})[0], 0)
    np.testing.assert_allclose(got, affine_forward(x, params[4].T, params[5])[0], atol=1e-10)


@pytest.mark.learner
@pytest.mark.parametrize("part", ALL)
def test_modules_give_the_scores_of_the_bare_tensors(part):
    torch.manual_seed(0)
    model, _ = part(torch.float64)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(model(x), recap.three_layer_convnet(x, list(model.parameters())))


@pytest.mark.learner
@pytest.mark.parametrize("part", [recap.initialize_three_layer_conv_part2, *ALL])
def test_where_the_parameters_start(part):
    torch.manual_seed(0)
    params = parameters(part)
    assert sum(p.numel() for p in params) == 170_906
    for weight, bias in zip(params[::2], params[1::2], strict=True):
        assert not bias.any()
        want = (2 / weight[0].numel()) ** 0.5
        error = want / (2 * weight.numel()) ** 0.5  # the standard error of a standard deviation
        assert abs(weight.std().item() - want) < 5 * error
        assert all(p.requires_grad and p.is_leaf for p in (weight, bias))


@pytest.mark.learner
def test_optimisers():
    (_, plain), (_, momentum) = (part() for part in ALL)
    settings = [{k: o.defaults[k] for k in ("lr", "momentum", "nesterov", "weight_decay")} for o in (plain, momentum)]
    assert settings == [
        {"lr": 3e-3, "momentum": 0, "nesterov": False, "weight_decay": 1e-4},
        {"lr": 1e-2, "momentum": 0.5, "nesterov": True, "weight_decay": 1e-4},
    ]
    assert isinstance(ALL[1]()[0], nn.Sequential)


@pytest.mark.robustness
def test_dtype_and_bad_input():
    assert all(p.dtype == torch.float64 for part in ALL for p in parameters(part, dtype=torch.float64))
    with pytest.raises(ValueError, match="three weights and three biases, got 5"):
        recap.three_layer_convnet(torch.zeros(1, 3, 32, 32), [torch.zeros(1)] * 5)
    with pytest.raises(ValueError, match="channel_2"):
        recap.ThreeLayerConvNet(3, 4, 0, 10)
