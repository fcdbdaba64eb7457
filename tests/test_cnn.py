"""ThreeLayerConvNet and DeepConvNet against known losses, numerical gradients and the same nets in autograd."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from common import storage
from common.checks import eval_numerical_gradient, grad_check_sparse, rel_error
from common.classifiers.cnn import DeepConvNet, ThreeLayerConvNet
from common.solver import Solver

LN10 = np.log(10)


def pictures(N, dims=(3, 32, 32), C=10, seed=0):
    rng = np.random.RandomState(seed)
    return rng.randn(N, *dims), rng.randint(C, size=N)


def leaves(net):
    return {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in net.params.items()}


def l2(p, reg):
    return 0.5 * reg * sum(W.square().sum() for name, W in p.items() if name[0] == "W")


def torch_three_layer(net, X, y):
    """Loss and gradients of the same network, in autograd."""
    p = leaves(net)
    maps = F.max_pool2d(F.relu(F.conv2d(torch.tensor(X), p["W1"], p["b1"], padding=(net.filter_size - 1) // 2)), 2)
    scores = F.relu(maps.flatten(1) @ p["W2"] + p["b2"]) @ p["W3"] + p["b3"]
    loss = F.cross_entropy(scores, torch.tensor(y)) + l2(p, net.reg)
    loss.backward()
    return loss.item(), {name: value.grad.numpy() for name, value in p.items()}


def torch_deep(net, X, y):
    p, x = leaves(net), torch.tensor(X)
    for i in range(1, net.num_layers):
        x = F.conv2d(x, p[f"W{i}"], p[f"b{i}"], padding=1)
        if net.batchnorm:
            x = F.batch_norm(x, None, None, p[f"gamma{i}"], p[f"beta{i}"], training=True, eps=1e-5)
        x = F.relu(x)
        if i - 1 in net.max_pools:
            x = F.max_pool2d(x, 2)
    scores = x.flatten(1) @ p[f"W{net.num_layers}"] + p[f"b{net.num_layers}"]
    loss = F.cross_entropy(scores, torch.tensor(y)) + l2(p, net.reg)
    loss.backward()
    return loss.item(), {name: value.grad.numpy() for name, value in p.items()}


def compare(net, X, y, oracle):
    loss, grads = net.loss(X, y)
    want, want_grads = oracle(net, X, y)
    assert abs(loss - want) < 1e-10 * max(1, abs(want))
    assert grads.keys() == net.params.keys()
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, want_grads[name], rtol=1e-8, atol=1e-10, err_msg=name)
        assert grad.shape == net.params[name].shape


def deep_like_course(reg=0.0, batchnorm=False, weight_scale=5e-2, dims=(3, 8, 8)):
    return DeepConvNet(dims, (8, 8, 8), (0, 2), batchnorm, 10, weight_scale, reg, np.float64, rng=0)


# ThreeLayerConvNet -----------------------------------------------------------------------------------------------


@pytest.mark.learner
@pytest.mark.parametrize(("reg", "want", "atol"), [(0.0, LN10, 1e-4), (0.5, 2.5086, 3e-3)])
def test_initial_loss_of_the_three_layer_net(reg, want, atol):
    net = ThreeLayerConvNet(weight_scale=1e-3, reg=reg, dtype=np.float64, rng=0)
    assert abs(net.loss(*pictures(10))[0] - want) < atol


@pytest.mark.learner
@given(
    st.integers(0, 2**31 - 1),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from([(2, 4), (4, 6), (8, 2)]),
    st.floats(0, 3),
)
@settings(max_examples=30, deadline=None)
def test_three_layer_gradients_against_autograd(seed, C, num_filters, f, size, reg):
    net = ThreeLayerConvNet((C, *size), num_filters, f, 5, 4, 0.3, reg, np.float64, rng=seed)
    for name in ("b1", "b2", "b3"):
        net.params[name] += np.random.RandomState(seed).randn(*net.params[name].shape)
    X, y = pictures(3, (C, *size), 4, seed)
    compare(net, X, y, torch_three_layer)


@pytest.mark.learner
@pytest.mark.parametrize("reg", [0.0, 0.7])
def test_three_layer_gradients_against_numerical_ones(reg):
    net = ThreeLayerConvNet((3, 8, 8), 3, 3, 7, 10, 5e-2, reg, np.float64, rng=0)
    X, y = pictures(2, (3, 8, 8))
    _, grads = net.loss(X, y)
    for name, value in net.params.items():
        errors = grad_check_sparse(lambda _: net.loss(X, y)[0], value, grads[name], 20, seed=1, verbose=False)
        assert errors.max() < 1e-5, name


@pytest.mark.learner
def test_the_l2_term_enters_loss_and_gradients_as_reg_times_w():
    """A published solution adds reg * sum(W) to the gradient; checks with reg = 0 cannot see it."""
    nets = [ThreeLayerConvNet((3, 8, 8), 3, 3, 7, reg=reg, dtype=np.float64, rng=0) for reg in (0, 2.0)]
    X, y = pictures(4, (3, 8, 8))
    (loss0, grads0), (loss2, grads2) = (net.loss(X, y) for net in nets)
    squares = sum(np.sum(nets[0].params[f"W{i}"] ** 2) for i in (1, 2, 3))
    assert abs(loss2 - loss0 - squares) < 1e-12
    for name, W in nets[0].params.items():
        extra = 2.0 * W if name[0] == "W" else np.zeros_like(W)
        np.testing.assert_allclose(grads2[name] - grads0[name], extra, atol=1e-13)


@pytest.mark.learner
def test_even_filters_shrink_the_maps_by_one():
    net = ThreeLayerConvNet((1, 5, 7), 2, 2, 4, 3, 0.5, 0.1, np.float64, rng=0)
    assert net.params["W2"].shape == (2 * 2 * 3, 4)
    compare(net, *pictures(3, (1, 5, 7), 3), torch_three_layer)


# DeepConvNet -----------------------------------------------------------------------------------------------------


@pytest.mark.learner
def test_initial_loss_of_the_deep_net():
    net = DeepConvNet((3, 32, 32), (8, 64), (0, 1), dtype=np.float64, rng=0)
    assert abs(net.loss(*pictures(10))[0] - LN10) < 1e-3


@pytest.mark.learner
@given(
    st.integers(0, 2**31 - 1),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.sets(st.integers(0, 3), max_size=2),
    st.booleans(),
    st.sampled_from([(4, 4), (4, 8), (12, 4)]),
    st.floats(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_deep_gradients_against_autograd(seed, num_filters, max_pools, batchnorm, size, reg):
    max_pools = {i for i in max_pools if i < len(num_filters)}
    net = DeepConvNet((2, *size), num_filters, max_pools, batchnorm, 5, "kaiming", reg, np.float64, rng=seed)
    compare(net, *pictures(5, (2, *size), 5, seed), torch_deep)


@pytest.mark.learner
@pytest.mark.parametrize("reg", [0.0, 3.14])
@pytest.mark.parametrize(("batchnorm", "scale", "bound"), [(False, 5e-2, 1e-5), (True, "kaiming", 1e-3)])
def test_deep_gradients_against_numerical_ones(reg, batchnorm, scale, bound):
    net = deep_like_course(reg, batchnorm, scale)
    X, y = pictures(2, (3, 8, 8))
    _, grads = net.loss(X, y)
    for name, value in net.params.items():
        if batchnorm and name[0] == "b" and name in ("b1", "b2", "b3"):
            np.testing.assert_allclose(grads[name], 0, atol=1e-10)  # batch normalisation takes the bias out again
            continue
        errors = grad_check_sparse(lambda _: net.loss(X, y)[0], value, grads[name], 10, seed=1, verbose=False)
        assert errors.max() < bound, name


@pytest.mark.learner
def test_params_of_the_course():
    net = DeepConvNet(batchnorm=True)
    layers = [f"{name}{i}" for i in range(1, 6) for name in ("W", "b", "gamma", "beta")]
    assert list(net.params) == [*layers, "W6", "b6"]
    assert net.params["W1"].shape == (8, 3, 3, 3) and net.params["W6"].shape == (8, 10)
    assert {value.dtype for value in net.params.values()} == {np.dtype(np.float32)}
    assert list(ThreeLayerConvNet().params) == ["W1", "b1", "W2", "b2", "W3", "b3"]


@pytest.mark.learner
def test_max_pools_are_blocks_counted_from_zero():
    net = DeepConvNet((3, 16, 8), (2, 3, 4), (0, 2), rng=0)
    assert net.params["W4"].shape == (4 * 4 * 2, 10)  # 16 x 8, halved twice
    shapes = []
    x = np.zeros((1, 3, 16, 8), np.float32)
    for i in (1, 2, 3):
        x, _ = net.block_forward(x, i, "train")
        shapes.append(x.shape[1:])
    assert shapes == [(2, 8, 4), (3, 8, 4), (4, 4, 2)]
    assert DeepConvNet((3, 16, 8), (2, 3), ()).params["W3"].shape == (3 * 16 * 8, 10)


@pytest.mark.learner
def test_kaiming_variances():
    net = DeepConvNet((3, 32, 32), (64, 64), (0, 1), weight_scale="kaiming", dtype=np.float64, rng=0)
    for name, want in (("W1", 2 / 27), ("W2", 2 / (64 * 9)), ("W3", 1 / (64 * 64))):
        assert abs(net.params[name].var() / want - 1) < 0.1, name
        assert not net.params[name.replace("W", "b")].any()


@pytest.mark.robustness
def test_arguments_are_not_changed_and_defaults_not_shared():
    filters, pools, dims = [4, 4], [1, 0], [3, 8, 8]
    for _ in range(2):
        DeepConvNet(dims, filters, pools)
    assert (filters, pools, dims) == ([4, 4], [1, 0], [3, 8, 8])
    one, two = DeepConvNet(batchnorm=True), DeepConvNet(batchnorm=True)
    assert one.bn_params[0] is not one.bn_params[1] and one.bn_params[0] is not two.bn_params[0]


@pytest.mark.learner
def test_testing_uses_running_averages_and_leaves_them_alone():
    net = deep_like_course(batchnorm=True, weight_scale="kaiming")
    X, y = pictures(20, (3, 8, 8))
    for _ in range(80):
        net.loss(X, y)
    before = [{k: np.array(v) for k, v in p.items()} for p in net.bn_params]
    scores = net.loss(X)
    for old, new in zip(before, net.bn_params, strict=True):
        np.testing.assert_array_equal(old["running_mean"], new["running_mean"])
        np.testing.assert_array_equal(old["running_var"], new["running_var"])
    np.testing.assert_allclose(net.loss(X[:1]), scores[:1], atol=1e-10)  # a picture alone gets the same scores
    train_scores, _ = net.forward(X, "train")
    np.testing.assert_allclose(scores, train_scores, atol=1e-2)


@pytest.mark.robustness
def test_single_precision_stays_single():
    net = DeepConvNet((3, 8, 8), (4, 4), (1,), True, weight_scale="kaiming", reg=0.1, rng=0)
    X, y = pictures(4, (3, 8, 8))
    _, grads = net.loss(X, y)
    assert {g.dtype for g in grads.values()} == {np.dtype(np.float32)} and net.loss(X).dtype == np.float32


@pytest.mark.robustness
def test_streams():
    def weights(seed):
        return DeepConvNet((3, 4, 4), (2,), (0,), rng=seed).params["W1"]

    np.testing.assert_array_equal(weights(3), weights(np.random.RandomState(3)))
    np.random.seed(3)
    np.testing.assert_array_equal(weights(3), weights(None))


@pytest.mark.robustness
def test_loss_does_not_change_the_pictures():
    X, y = pictures(3, (3, 8, 8))
    before = X.copy()
    deep_like_course(batchnorm=True).loss(X, y)
    ThreeLayerConvNet((3, 8, 8), dtype=np.float64).loss(X, y)
    np.testing.assert_array_equal(X, before)


# Saving and loading ------------------------------------------------------------------------------------------------


@pytest.mark.robustness
def test_deep_round_trip(tmp_path):
    net = DeepConvNet((3, 8, 12), (4, 5), (1,), True, 7, "kaiming", 0.25, np.float64, rng=0)
    X, y = pictures(6, (3, 8, 12), 7)
    net.loss(X, y)
    net.save(tmp_path / "net")
    other = DeepConvNet()  # other sizes, other precision: the file says what it holds
    other.load(tmp_path / "net")
    assert (other.reg, other.max_pools, other.dtype) == (0.25, (1,), np.float64)
    np.testing.assert_array_equal(other.loss(X), net.loss(X))
    assert other.loss(X, y)[0] == net.loss(X, y)[0]
    other.load(tmp_path / "net", np.float32)
    assert {v.dtype for v in other.params.values()} == {np.dtype(np.float32)} and other.loss(X).dtype == np.float32
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


@pytest.mark.robustness
def test_three_layer_round_trip(tmp_path):
    net, other = ThreeLayerConvNet((1, 6, 6), 2, 5, 4, 3, 0.1, rng=0), ThreeLayerConvNet()
    net.save(tmp_path / "net.pkl")
    other.load(tmp_path / "net.pkl")
    X, _ = pictures(3, (1, 6, 6))
    np.testing.assert_array_equal(other.loss(X), net.loss(X))


@pytest.mark.robustness
def test_what_cannot_be_loaded_leaves_the_net_as_it_was(tmp_path):
    net = DeepConvNet(rng=0)
    before = {name: value.copy() for name, value in net.params.items()}
    ThreeLayerConvNet().save(tmp_path / "other")
    net.save(tmp_path / "short")
    (tmp_path / "short").write_bytes((tmp_path / "short").read_bytes()[:-100])
    (tmp_path / "pickle").write_bytes(pickle.dumps({"kind": "model"}))
    for name, message in (("other", "holds a ThreeLayerConvNet"), ("short", "damaged"), ("pickle", "damaged")):
        with pytest.raises(ValueError, match=message):
            net.load(tmp_path / name)
    with pytest.warns(UserWarning, match="there is no such file; nothing is loaded"):
        assert not net.load(tmp_path / "nothing")
    assert all(np.array_equal(net.params[name], before[name]) for name in before)


@pytest.mark.robustness
def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    """The disk is full when the new file is open and half written."""
    net = ThreeLayerConvNet((1, 2, 2), 1, 1, 1)
    net.save(tmp_path / "net")
    old, beside = (tmp_path / "net").read_bytes(), []

    def full(number):
        beside.extend(path.stat().st_size for path in tmp_path.iterdir() if path.name != "net")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    net.params["W1"] = net.params["W1"] + 1
    with pytest.raises(OSError, match="No space left"):
        net.save(tmp_path / "net")
    assert beside and beside[0] > 0
    assert (tmp_path / "net").read_bytes() == old and len(list(tmp_path.iterdir())) == 1


# Bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.robustness
@pytest.mark.parametrize(
    "make",
    [
        lambda: ThreeLayerConvNet((2, 9, 7), 3, 3, 5, 3, 0.1, rng=0, dtype=np.float64),  # odd maps
        lambda: ThreeLayerConvNet((2, 8, 8), 3, 4, 5, 3, 0.1, rng=0, dtype=np.float64),  # an even filter: 7 x 7 maps
        lambda: DeepConvNet((2, 9, 7), (3, 3), (0, 1), weight_scale=0.1, num_classes=3, rng=0, dtype=np.float64),
    ],
)
def test_pooling_rounds_down(make):
    """What 2x2 pooling leaves over of odd maps has no influence, and the gradients know it."""
    net = make()
    X, y = np.random.RandomState(0).randn(4, *net.input_dim), np.array([0, 1, 2, 1])
    loss, grads = net.loss(X, y)
    assert abs(loss - np.log(3)) < 0.3
    for name, w in net.params.items():
        numerical = eval_numerical_gradient(lambda _: net.loss(X, y)[0], w)
        assert rel_error(numerical.round(9), grads[name].round(9)) < 1e-3, name


@pytest.mark.robustness
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_dim": (3, 32)}, r"\(C, H, W\)"),
        ({"input_dim": (0, 32, 32)}, "at least 1"),
        ({"num_classes": 0}, "at least 1"),
        ({"num_filters": 0}, "num_filters"),
        ({"filter_size": 0}, "filter_size"),
        ({"hidden_dim": 0}, "hidden_dim"),
        ({"input_dim": (3, 1, 32)}, "1 x 32 maps; 2x2 pooling needs at least 2 x 2"),
        ({"input_dim": (3, 2, 2), "filter_size": 8}, "at least 2 x 2"),
        ({"weight_scale": -1.0}, "weight_scale"),
        ({"weight_scale": float("nan")}, "weight_scale"),
        ({"weight_scale": "kaiming"}, "weight_scale"),
        ({"reg": -1.0}, "reg"),
        ({"reg": float("nan")}, "reg"),
        ({"dtype": int}, "dtype"),
    ],
)
def test_bad_arguments_of_the_three_layer_net(arguments, message):
    with pytest.raises(ValueError, match=message):
        ThreeLayerConvNet(**arguments)


@pytest.mark.robustness
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_dims": (32, 32)}, r"\(C, H, W\)"),
        ({"num_filters": ()}, "num_filters"),
        ({"num_filters": (8, 0), "max_pools": ()}, "num_filters"),
        ({"max_pools": (5,)}, "max_pools"),
        ({"max_pools": (-1,)}, "max_pools"),
        ({"input_dims": (3, 8, 24)}, "1 x 3"),
        ({"weight_scale": "xavier"}, "kaiming"),
        ({"weight_scale": -1e-3}, "weight_scale"),
        ({"reg": -1}, "reg"),
        ({"dtype": np.int64}, "dtype"),
        ({"num_classes": 0}, "num_classes"),
    ],
)
def test_bad_arguments_of_the_deep_net(arguments, message):
    with pytest.raises(ValueError, match=message):
        DeepConvNet(**arguments)


@pytest.mark.robustness
@pytest.mark.parametrize("make", [ThreeLayerConvNet, DeepConvNet])
def test_bad_pictures_and_labels(make):
    net, (X, y) = make(), pictures(2)
    for bad in (X[0], X[:, :1], X[..., :16], X[:0]):
        with pytest.raises(ValueError, match="this network needs"):
            net.loss(bad)
    with pytest.raises(TypeError, match="real numbers"):
        net.loss(X.astype(complex))
    for labels in (y[:1], y + 10):
        with pytest.raises(ValueError, match="labels"):
            net.loss(X, labels)
    with pytest.raises(TypeError, match="integer labels"):
        net.loss(X, y.astype(float))


# Training ----------------------------------------------------------------------------------------------------------


@pytest.mark.learner
@pytest.mark.parametrize("batchnorm", [False, True])
def test_the_solver_overfits_a_few_pictures(batchnorm):
    X, y = pictures(20, (3, 8, 8), 10, seed=1)
    data = {"X_train": X, "y_train": y, "X_val": X, "y_val": y}
    net = DeepConvNet((3, 8, 8), (8, 16), (0, 1), batchnorm, weight_scale="kaiming", rng=0)
    options = {"update_rule": "adam", "optim_config": {"learning_rate": 5e-3}, "num_epochs": 40}
    solver = Solver(net, data, batch_size=10, verbose=False, seed=0, **options)
    solver.train()
    assert max(solver.train_acc_history) == 1.0
