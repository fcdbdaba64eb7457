"""Fully connected networks against fixed numbers, numerical gradients and autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.checks import eval_numerical_gradient
from common.classifiers.fc_net import FullyConnectedNet, TwoLayerNet


def ramp(first, last, *shape):
    return np.linspace(first, last, int(np.prod(shape))).reshape(shape)


def small_case(draw=231, rows=2, **options):
    """The courses' case: N = 2, D = 15, hidden layers of 20 and 30, C = 10."""
    rng = np.random.RandomState(draw)
    X, y = rng.randn(rows, 15), rng.randint(10, size=rows)
    settings = {"input_dim": 15, "weight_scale": 5e-2, "dtype": np.float64, "rng": rng} | options
    return FullyConnectedNet([20, 30], **settings), X, y


def assert_numerical(net, X, y, bound=1e-6):
    _, grads = net.loss(X, y)
    assert grads.keys() == net.params.keys()
    for name, value in net.params.items():
        numeric = eval_numerical_gradient(lambda _: net.loss(X, y)[0], value)
        assert np.max(np.abs(grads[name] - numeric)) < bound * max(1e-2, np.max(np.abs(numeric))), name


# Two layers ---------------------------------------------------------------------------------------------------


def fixed_two_layer_net():
    net = TwoLayerNet(input_dim=5, hidden_dim=50, num_classes=7, weight_scale=1e-3)
    net.params["W1"], net.params["b1"] = ramp(-0.7, 0.3, 5, 50), ramp(-0.1, 0.9, 50)
    net.params["W2"], net.params["b2"] = ramp(-0.3, 0.4, 50, 7), ramp(-0.9, 0.1, 7)
    return net, ramp(-5.5, 4.5, 5, 3).T, np.array([0, 5, 1])


@pytest.mark.learner
def test_two_layer_scores_and_losses():
    net, X, y = fixed_two_layer_net()
    scores = net.loss(X)
    got = [scores.sum(), scores[0, 0], scores[-1, -1]]
    np.testing.assert_allclose(got, [296.58386526, 11.53165108, 16.28463190], atol=1e-8)
    assert abs(net.loss(X, y)[0] - 3.4702243556) < 1e-10
    net.reg = 1.0
    assert abs(net.loss(X, y)[0] - 26.5948426952) < 1e-10  # 49.7194610349 without the factor 1/2


@pytest.mark.learner
@pytest.mark.parametrize("reg", [0.0, 0.7])
def test_two_layer_gradients(reg):
    net, X, y = fixed_two_layer_net()
    net.reg = reg
    assert_numerical(net, X, y)


@pytest.mark.learner
def test_two_layer_initial_weights():
    np.random.seed(231)
    net = TwoLayerNet(weight_scale=1e-2)
    assert {name: value.shape for name, value in net.params.items()} == {
        "W1": (3072, 100), "b1": (100,), "W2": (100, 10), "b2": (10,),
    }  # fmt: skip
    for name in ("W1", "W2"):
        assert abs(net.params[name].std() - 1e-2) < 1e-3
    assert not net.params["b1"].any() and not net.params["b2"].any()


@pytest.mark.robustness
def test_two_layer_weights_come_from_the_global_stream():
    np.random.seed(3)
    net = TwoLayerNet(4, 5, 3, weight_scale=2.0)
    np.random.seed(3)
    np.testing.assert_array_equal(net.params["W1"], 2.0 * np.random.randn(4, 5))
    np.testing.assert_array_equal(net.params["W2"], 2.0 * np.random.randn(5, 3))


# Any depth ----------------------------------------------------------------------------------------------------


@pytest.mark.learner
def test_initial_losses_are_what_the_courses_print():
    np.random.seed(231)
    X, y = np.random.randn(2, 15), np.random.randint(10, size=2)
    for reg, loss in ((0.0, 2.30), (3.14, 7.05)):
        net = FullyConnectedNet([20, 30], 15, reg=reg, weight_scale=5e-2, dtype=np.float64)
        assert abs(net.loss(X, y)[0] - loss) < 0.01


@pytest.mark.learner
@pytest.mark.parametrize("normalization", [None, "batchnorm", "layernorm"])
@pytest.mark.parametrize("reg", [0.0, 3.14])
def test_gradients_against_the_numerical_ones(normalization, reg):
    rows = 2 if normalization is None else 5  # batch normalisation would turn two rows into +1 and -1
    net, X, y = small_case(rows=rows, normalization=normalization, reg=reg)
    assert_numerical(net, X, y)


@pytest.mark.learner
@pytest.mark.parametrize("keep_prob", [1, 0.75, 0.5])
def test_gradients_with_dropout(keep_prob):
    net, X, y = small_case(keep_prob=keep_prob, seed=123, reg=0.5)
    assert_numerical(net, X, y)


@pytest.mark.learner
@given(
    seed=st.integers(0, 2**31),
    hidden=st.lists(st.integers(1, 6), max_size=4),
    N=st.integers(1, 5),
    reg=st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=40, deadline=None)
def test_loss_and_gradients_against_autograd(seed, hidden, N, reg):
    rng = np.random.RandomState(seed)
    net = FullyConnectedNet(hidden, 7, 4, reg=reg, weight_scale=0.8, dtype=np.float64, rng=rng)
    for name, value in net.params.items():
        value += 0.1 * rng.randn(*value.shape) if name[0] == "b" else 0
    X, y = rng.randn(N, 7), rng.randint(0, 4, N)
    p = {name: torch.tensor(value, requires_grad=True) for name, value in net.params.items()}
    out = torch.tensor(X)
    for i in range(1, net.num_layers + 1):
        out = out @ p[f"W{i}"] + p[f"b{i}"]
        out = torch.relu(out) if i < net.num_layers else out
    want = torch.nn.functional.cross_entropy(out, torch.tensor(y))
    want = want + 0.5 * reg * sum(p[f"W{i}"].square().sum() for i in range(1, net.num_layers + 1))
    want.backward()
    loss, grads = net.loss(X, y)
    assert abs(loss - want.item()) < 1e-12
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, p[name].grad, atol=1e-12, err_msg=name)


@pytest.mark.learner
def test_batchnorm_net_against_autograd():
    net, _, _ = small_case(normalization="batchnorm", reg=0.2)
    rng = np.random.RandomState(0)
    X, y = rng.randn(6, 15), rng.randint(0, 10, 6)
    p = {name: torch.tensor(value, requires_grad=True) for name, value in net.params.items()}
    out = torch.tensor(X)
    for i in (1, 2):
        a = out @ p[f"W{i}"] + p[f"b{i}"]
        out = torch.relu(torch.nn.functional.batch_norm(a, None, None, p[f"gamma{i}"], p[f"beta{i}"], True, eps=1e-5))
    want = torch.nn.functional.cross_entropy(out @ p["W3"] + p["b3"], torch.tensor(y))
    want = want + 0.1 * sum(p[f"W{i}"].square().sum() for i in (1, 2, 3))
    want.backward()
    loss, grads = net.loss(X, y)
    assert abs(loss - want.item()) < 1e-12
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, p[name].grad, atol=1e-12, err_msg=name)


@pytest.mark.learner
def test_names_and_shapes_of_parameters():
    net = FullyConnectedNet([4, 3], 6, 2, normalization="batchnorm")
    assert {name: value.shape for name, value in net.params.items()} == {
        "W1": (6, 4), "b1": (4,), "gamma1": (4,), "beta1": (4,),
        "W2": (4, 3), "b2": (3,), "gamma2": (3,), "beta2": (3,),
        "W3": (3, 2), "b3": (2,),
    }  # fmt: skip
    assert net.num_layers == 3 and len(net.bn_params) == 2


@pytest.mark.learner
def test_hidden_dims_can_be_used_again():
    """A published solution appends num_classes to the list, so that the second net has a layer more."""
    hidden_dims = [8, 6]
    shapes = [{n: v.shape for n, v in FullyConnectedNet(hidden_dims, 5).params.items()} for _ in range(2)]
    assert hidden_dims == [8, 6] and shapes[0] == shapes[1]
    assert FullyConnectedNet((8, 6), 5).params.keys() == shapes[0].keys()
    assert FullyConnectedNet(np.array([8, 6]), 5).params.keys() == shapes[0].keys()


@pytest.mark.robustness
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_computes_in_its_dtype(dtype):
    net = FullyConnectedNet([8], 12, dtype=dtype, normalization="batchnorm", keep_prob=0.5, reg=0.1)
    X, y = np.random.RandomState(0).randint(0, 255, (4, 3, 2, 2)), np.array([0, 1, 2, 3])
    loss, grads = net.loss(X, y)
    assert np.isfinite(loss) and net.loss(X).dtype == dtype
    assert {value.dtype for value in (*grads.values(), *net.params.values())} == {np.dtype(dtype)}


@pytest.mark.learner
def test_kaiming_weights():
    net = FullyConnectedNet([400, 300], 500, weight_scale="kaiming", rng=0)
    stds = [net.params[f"W{i}"].std() for i in (1, 2, 3)]
    np.testing.assert_allclose(stds, [np.sqrt(2 / 500), np.sqrt(2 / 400), np.sqrt(1 / 300)], rtol=0.03)


@pytest.mark.learner
def test_training_and_test_mode():
    net, X, y = small_case(normalization="batchnorm", keep_prob=0.5)
    net.loss(X, y)
    running = net.bn_params[0]["running_mean"].copy()
    np.testing.assert_array_equal(net.loss(X), net.loss(X))  # no dropout, running averages untouched
    np.testing.assert_array_equal(net.bn_params[0]["running_mean"], running)
    assert net.loss(X, y)[0] != net.loss(X, y)[0]  # new masks


@pytest.mark.learner
def test_seed_makes_dropout_repeat_itself():
    net, X, y = small_case(keep_prob=0.5, seed=0)
    assert net.loss(X, y)[0] == net.loss(X, y)[0]


@pytest.mark.robustness
def test_dropout_is_another_name_of_keep_prob():
    assert FullyConnectedNet([5], 4, dropout=0.25).dropout_param["p"] == 0.25
    assert FullyConnectedNet([5], 4, dropout=1).use_dropout is False


@pytest.mark.robustness
def test_nothing_of_the_caller_is_written_to():
    net, X, y = small_case(reg=0.1, keep_prob=0.5)
    X_before, y_before = X.copy(), y.copy()
    params = {name: value.copy() for name, value in net.params.items()}
    net.loss(X, y)
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(y, y_before)
    for name, value in params.items():
        np.testing.assert_array_equal(net.params[name], value)


@pytest.mark.robustness
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_prob": 0}, r"keep_prob must lie in \(0, 1\]"),
        ({"keep_prob": 1.2}, r"keep_prob must lie in \(0, 1\]"),
        ({"dropout": -0.5}, r"keep_prob must lie in \(0, 1\]"),
        ({"dropout": 0.5, "keep_prob": 0.5}, "give one"),
        ({"normalization": "groupnorm"}, "normalization must be None or one of"),
        ({"reg": -1}, "reg must be"),
        ({"weight_scale": "xavier"}, "weight_scale must be a finite number of at least 0 or 'kaiming'"),
        ({"weight_scale": -1e-2}, "weight_scale must be a finite number"),
        ({"hidden_dims": [10, 0]}, "the size of layer 2 is 0"),
        ({"num_classes": 0}, "the size of layer 2 is 0"),
        ({"dtype": np.int64}, "dtype must be floating"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        FullyConnectedNet(**({"hidden_dims": [10], "input_dim": 12} | options))


@pytest.mark.robustness
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dim": 0}, "hidden_dim is 0"),
        ({"reg": -1}, "reg must be"),
        ({"weight_scale": "kaiming"}, "a finite number"),
    ],
)
def test_bad_options_of_the_two_layer_net(options, message):
    with pytest.raises(ValueError, match=message):
        TwoLayerNet(**options)


@pytest.mark.robustness
def test_a_size_that_is_no_integer():
    with pytest.raises(TypeError, match="the size of layer 1 must be an integer, not float"):
        FullyConnectedNet([10.5])


@pytest.mark.robustness
def test_bad_batches():
    net, X, y = small_case()
    for bad_X, bad_y in ((X[:, :-1], y), (X[:0], y[:0]), (X, y[:1]), (X, y + 10), (X, y - 10)):
        with pytest.raises(ValueError):
            net.loss(bad_X, bad_y)


# Files --------------------------------------------------------------------------------------------------------


@pytest.mark.robustness
def test_save_and_load(tmp_path):
    net, X, y = small_case(normalization="batchnorm")
    net.loss(X, y)
    net.save(tmp_path / "net.pkl")
    other, _, _ = small_case(draw=1, normalization="batchnorm")
    other.load(tmp_path / "net.pkl")
    np.testing.assert_array_equal(net.loss(X), other.loss(X))
    assert [path.name for path in tmp_path.iterdir()] == ["net.pkl"]


@pytest.mark.robustness
@pytest.mark.parametrize("normalization", [None, "batchnorm", "layernorm"])
def test_load_becomes_the_saved_net(tmp_path, normalization):
    """Other sizes, other precision, other options: the file says what it holds."""
    net = FullyConnectedNet([7, 6], 5, 4, 0.5, normalization, 0.25, dtype=np.float64, seed=3, rng=0)
    X, y = np.random.RandomState(0).randn(9, 5), np.arange(9) % 4
    net.loss(X, y)
    net.save(tmp_path / "net.pkl")
    other = FullyConnectedNet([3])
    np.random.seed(1)
    stream = np.random.get_state()[1].copy()
    other.load(tmp_path / "net.pkl")
    np.testing.assert_array_equal(np.random.get_state()[1], stream)
    assert other.settings() == net.settings() and other.loss(X, y)[0] == net.loss(X, y)[0]
    np.testing.assert_array_equal(other.loss(X), net.loss(X))
    other.load(tmp_path / "net.pkl", np.float32)
    assert {value.dtype for value in other.params.values()} == {np.dtype(np.float32)}
    assert other.loss(X).dtype == np.float32


@pytest.mark.robustness
def test_two_layer_net_is_saved_and_loaded(tmp_path):
    net, other = TwoLayerNet(5, 4, 3, 0.5, 0.1, rng=0), TwoLayerNet()
    net.save(tmp_path / "net.pkl")
    other.load(tmp_path / "net.pkl")
    X = np.random.RandomState(0).randn(6, 5)
    np.testing.assert_array_equal(other.loss(X), net.loss(X))
    assert other.reg == 0.1


@pytest.mark.robustness
def test_what_cannot_be_loaded_leaves_the_net_as_it_was(tmp_path):
    TwoLayerNet(15, 20, 10).save(tmp_path / "net.pkl")
    net, X, _ = small_case()
    before = net.loss(X)
    with pytest.raises(ValueError, match="holds a TwoLayerNet, not a FullyConnectedNet"):
        net.load(tmp_path / "net.pkl")
    np.testing.assert_array_equal(net.loss(X), before)
    with pytest.warns(UserWarning, match="there is no such file; nothing is loaded"):
        assert not net.load(tmp_path / "nothing.pkl")
