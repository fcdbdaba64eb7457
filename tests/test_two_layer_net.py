"""The two-layer network against fixed numbers, numerical gradients and autograd."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.checks import eval_numerical_gradient, rel_error
from common.classifiers.two_layer_net import TwoLayerNet
from common.layers.losses import softmax_loss

NAMES = ("W1", "b1", "W2", "b2")


def toy():
    """The network and the data of the courses: 4 inputs, 10 hidden units, 3 classes, 5 rows."""
    np.random.seed(0)
    net = TwoLayerNet(4, 10, 3, std=1e-1)
    np.random.seed(1)
    return net, 10 * np.random.randn(5, 4), np.array([0, 1, 2, 2, 1])


def random_case(seed, N, D, H, C, scale=1.0):
    rng = np.random.RandomState(seed)
    net = TwoLayerNet(D, H, C, std=0.5, rng=rng)
    net.params["b1"], net.params["b2"] = rng.randn(H), rng.randn(C)
    return net, scale * rng.randn(N, D), rng.randint(0, C, N)


def as_torch(net, requires_grad=False):
    return {name: torch.tensor(value, requires_grad=requires_grad) for name, value in net.params.items()}


# Scores, loss and gradients -----------------------------------------------------------------------------------


@pytest.mark.learner
def test_scores_of_the_toy_network():
    net, X, _ = toy()
    scores = net.loss(X)
    assert scores.shape == (5, 3)
    np.testing.assert_allclose(scores[0], [-0.8123, -1.2765, -0.7034], atol=1e-4)
    np.testing.assert_allclose(scores[4], [-0.0062, -0.1244, -0.1523], atol=1e-4)


@pytest.mark.learner
def test_loss_of_the_toy_network():
    net, X, y = toy()
    loss, _ = net.loss(X, y, reg=0.05)
    assert abs(loss - 1.30378789133) < 1e-12


@pytest.mark.learner
def test_loss_to_twelve_digits_against_autograd():
    net, X, y = toy()
    p = as_torch(net)
    scores = torch.relu(torch.tensor(X) @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
    want = torch.nn.functional.cross_entropy(scores, torch.tensor(y)) + 0.05 * (
        (p["W1"] ** 2).sum() + (p["W2"] ** 2).sum()
    )
    assert abs(net.loss(X, y, reg=0.05)[0] - want.item()) < 1e-12


@pytest.mark.learner
@pytest.mark.parametrize("reg", [0.0, 0.05, 3.0])
def test_gradients_against_the_numerical_ones(reg):
    net, X, y = toy()
    _, grads = net.loss(X, y, reg)
    for name in NAMES:
        numeric = eval_numerical_gradient(lambda _: net.loss(X, y, reg)[0], net.params[name])
        assert rel_error(grads[name], numeric) < (1e-8 if reg <= 0.05 else 1e-7), name


@pytest.mark.learner
@given(
    st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 5), st.integers(1, 6), st.integers(1, 5), st.floats(0, 2)
)
@settings(max_examples=60, deadline=None)
def test_loss_and_gradients_against_autograd(seed, N, D, H, C, reg):
    net, X, y = random_case(seed, N, D, H, C)
    loss, grads = net.loss(X, y, reg)
    p = as_torch(net, requires_grad=True)
    scores = torch.relu(torch.tensor(X) @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
    want = torch.nn.functional.cross_entropy(scores, torch.tensor(y)) + reg * (
        (p["W1"] ** 2).sum() + (p["W2"] ** 2).sum()
    )
    want.backward()
    assert loss == pytest.approx(want.item(), rel=1e-10, abs=1e-12)
    for name in NAMES:
        np.testing.assert_allclose(grads[name], p[name].grad.numpy(), rtol=1e-8, atol=1e-11, err_msg=name)


@pytest.mark.learner
def test_tiny_weights_give_ln_of_the_number_of_classes():
    rng = np.random.RandomState(0)
    loss, _ = TwoLayerNet(20, 10, 3, std=1e-6, rng=0).loss(rng.randn(50, 20), rng.randint(0, 3, 50))
    assert loss == pytest.approx(np.log(3), abs=1e-9)


@pytest.mark.learner
def test_regularisation_has_no_half_and_leaves_biases_alone():
    net, X, y = toy()
    net.params["b1"] += 1.0
    net.params["b2"] += 1.0
    (plain, g0), (with_reg, g1) = net.loss(X, y, 0.0), net.loss(X, y, 0.5)
    squares = sum(np.sum(net.params[name] ** 2) for name in ("W1", "W2"))
    assert with_reg - plain == pytest.approx(0.5 * squares, rel=1e-12)
    for name in ("W1", "W2"):
        np.testing.assert_allclose(g1[name] - g0[name], net.params[name], rtol=1e-9)  # 2 * 0.5 * W
    for name in ("b1", "b2"):
        np.testing.assert_array_equal(g1[name], g0[name])


@pytest.mark.learner
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e3, -1e3, 1e30])
def test_huge_scores_stay_finite(size):
    """Without the shift exp(1e3) overflows: published solutions return NaN here."""
    loss, dscores = softmax_loss(size * np.array([[1.0, 0.5, -1.0], [0.0, 1.0, 0.0]]), np.array([2, 1]))
    assert np.isfinite(loss) and np.isfinite(dscores).all()
    net, X, y = random_case(0, 5, 4, 6, 3, scale=1e3)
    loss, grads = net.loss(X, y)
    assert np.isfinite(loss) and all(np.isfinite(g).all() for g in grads.values())


@pytest.mark.learner
def test_cross_entropy_does_not_change_with_a_constant():
    scores, y = np.random.RandomState(0).randn(4, 3), np.array([0, 2, 1, 1])
    for a, b in zip(softmax_loss(scores, y), softmax_loss(scores + 700, y), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.robustness
def test_pictures_bytes_and_float32_are_welcome():
    rng = np.random.RandomState(0)
    pictures, y = rng.randint(0, 256, (6, 4, 4, 3)).astype(np.uint8), rng.randint(0, 3, 6)
    net, single = TwoLayerNet(48, 5, 3, 0.01, rng=1), TwoLayerNet(48, 5, 3, 0.01, rng=1, dtype=np.float32)
    loss, grads = net.loss(pictures, y, 0.1)
    assert loss == net.loss(pictures.reshape(6, -1).astype(float), y, 0.1)[0]
    loss32, grads32 = single.loss(pictures, y, 0.1)
    assert loss32 == pytest.approx(loss, rel=1e-5)
    assert all(g.dtype == np.float32 for g in grads32.values())
    np.testing.assert_allclose(grads32["W1"], grads["W1"], atol=1e-3)


@pytest.mark.robustness
def test_each_layer_may_have_its_own_std():
    net = TwoLayerNet(100, 200, 50, std=(0.1, 2.0), rng=0)
    assert np.std(net.params["W1"]) == pytest.approx(0.1, rel=0.05)
    assert np.std(net.params["W2"]) == pytest.approx(2.0, rel=0.05)


# Training -----------------------------------------------------------------------------------------------------


def train_toy(**options):
    net, X, y = toy()
    history = net.train(X, y, X, y, **{"learning_rate": 0.1, "reg": 5e-6, "num_iters": 100} | options)
    return net, history, X, y


@pytest.mark.learner
def test_the_toy_network_learns():
    net, history, X, y = train_toy()
    assert history["loss_history"][-1] < 0.02
    assert history.keys() == {"loss_history", "train_acc_history", "val_acc_history"}
    np.testing.assert_array_equal(net.predict(X), y)
    assert net.predict(X).dtype.kind == "i"


@pytest.mark.learner
def test_one_step_is_plain_sgd():
    net, X, y = toy()
    before = {name: value.copy() for name, value in net.params.items()}
    batch = np.random.RandomState(3).choice(5, 4)
    _, grads = net.loss(X[batch], y[batch], 0.1)
    net.train(X, y, X, y, learning_rate=0.5, reg=0.1, num_iters=1, batch_size=4, rng=3)
    for name in NAMES:
        np.testing.assert_allclose(net.params[name], before[name] - 0.5 * grads[name], rtol=1e-12)


@pytest.mark.learner
def test_momentum_and_decay_against_torch_sgd():
    net, X, y = toy()
    p = as_torch(net, requires_grad=True)
    optimizer = torch.optim.SGD(p.values(), lr=0.05, momentum=0.9)
    draw = np.random.RandomState(3)
    for _ in range(7):
        batch = draw.choice(5, 2)
        optimizer.zero_grad()
        scores = torch.relu(torch.tensor(X[batch]) @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
        loss = torch.nn.functional.cross_entropy(scores, torch.tensor(y[batch]))
        (loss + 0.01 * (p["W1"].square().sum() + p["W2"].square().sum())).backward()
        optimizer.step()
    net.train(X, y, X, y, 0.05, 1.0, 0.01, 7, 2, momentum=0.9, rng=3)
    for name in NAMES:  # at a constant rate torch's momentum and the course's are the same
        np.testing.assert_allclose(net.params[name], p[name].detach().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.learner
@pytest.mark.parametrize(
    ("N", "batch", "num_iters", "epochs"),
    [(5, 2, 10, 5), (5, 3, 6, 6), (5, 200, 4, 4), (7, 2, 10, 4), (6, 2, 7, 3)],
)
def test_an_epoch_is_a_whole_number_of_iterations(N, batch, num_iters, epochs):
    """5 / 2 = 2.5 divides only every fifth iteration: the float quotient would record half of the epochs."""
    net, X, y = random_case(0, N, 4, 5, 3)
    history = net.train(X, y, X, y, num_iters=num_iters, batch_size=batch, rng=0)
    assert len(history["loss_history"]) == num_iters
    assert len(history["val_acc_history"]) == len(history["train_acc_history"]) == epochs


@pytest.mark.learner
def test_the_learning_rate_decays_once_an_epoch():
    runs = []
    for rate, decay, iters in ((0.1, 0.5, 3), (0.1, 1.0, 3)):
        net, X, y = toy()
        seen = [net.params["b2"].copy()]
        net.train(
            X,
            y,
            X,
            y,
            rate,
            decay,
            0.0,
            iters,
            2,
            rng=0,
            on_step=lambda it, s=seen, n=net: s.append(n.params["b2"].copy()),
        )
        runs.append(seen)
    np.testing.assert_array_equal(runs[0][1], runs[1][1])  # the first step is taken at the full rate
    moved, full = runs[0][2] - runs[0][1], runs[1][2] - runs[1][1]
    np.testing.assert_allclose(moved, 0.5 * full)  # the second one, from the same place, at half of it


@pytest.mark.robustness
def test_seeds_repeat_a_run_and_none_is_the_global_stream():
    losses = []
    for rng in (4, np.random.RandomState(4), None):
        np.random.seed(4)
        losses.append(train_toy(rng=rng, batch_size=3)[1]["loss_history"])
    assert losses[0] == losses[1]
    net, X, y = toy()
    np.random.seed(4)
    assert net.train(X, y, X, y, 0.1, reg=5e-6, batch_size=3)["loss_history"] == losses[0]


@pytest.mark.robustness
def test_callers_data_and_old_weights_stay_as_they_are():
    net, X, y = toy()
    data = (X.copy(), y.copy())
    before = net.params["W1"]
    kept = before.copy()
    for array in (X, y, before):
        array.setflags(write=False)
    net.loss(X, y, 0.1)
    net.train(X, y, X, y, 0.1)
    np.testing.assert_array_equal(X, data[0])
    np.testing.assert_array_equal(y, data[1])
    np.testing.assert_array_equal(before, kept)
    assert not np.array_equal(net.params["W1"], kept)


@pytest.mark.robustness
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_diverging_run_ends_with_nan_and_says_so_in_the_history():
    net, X, y = toy()
    history = net.train(1e3 * X, y, X, y, learning_rate=1e6, num_iters=60, reg=10.0)
    assert not np.isfinite(history["loss_history"][-1])


@pytest.mark.robustness
def test_verbose_prints_every_hundred_iterations(capsys):
    train_toy(num_iters=201, verbose=True)
    assert capsys.readouterr().out.count("iteration") == 3
    train_toy(num_iters=201)
    assert capsys.readouterr().out == ""


# Bad input ----------------------------------------------------------------------------------------------------

BAD = [
    ({"y": [0, 1, 2, 3, 1]}, ValueError, r"labels from 0 to 3; allowed are 0 to 2"),
    ({"y": [0, 1, -1, 2, 1]}, ValueError, r"from -1 to 2"),
    ({"y": [0, 1, 2]}, ValueError, r"\(3,\).*\(5, 4\).*\(5,\)"),
    ({"y": [0.0, 1, 2, 2, 1]}, TypeError, "integer labels"),
    ({"X": np.zeros((5, 7))}, ValueError, r"\(5, 7\).*\(4, 10\)"),
    ({"X": np.zeros(4)}, ValueError, r"\(N, .*\)|\(4,\)"),
    ({"X": np.zeros((0, 4)), "y": np.zeros(0, int)}, ValueError, r"\(0, 4\)"),
    ({"X": np.full((5, 4), np.nan)}, ValueError, "NaN"),
    ({"X": np.full((5, 4), -np.inf)}, ValueError, "infinity"),
    ({"X": np.array([["a"] * 4] * 5)}, TypeError, "real numbers"),
    ({"reg": -0.1}, ValueError, "reg.*-0.1"),
    ({"reg": np.nan}, ValueError, "reg"),
]


@pytest.mark.robustness
@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input_is_named(change, error, message):
    net, X, y = toy()
    given = {"X": X, "y": y, "reg": 0.0} | change
    with pytest.raises(error, match=message):
        net.loss(given["X"], np.asarray(given["y"]), given["reg"])
    with pytest.raises(error, match=message):
        net.train(given["X"], np.asarray(given["y"]), X, y, reg=given["reg"])


@pytest.mark.robustness
def test_bad_validation_data_is_named_before_training_starts():
    net, X, y = toy()
    with pytest.raises(ValueError, match=r"X_val.*\(5, 3\).*\(4, 10\)"):
        net.train(X, y, X[:, :3], y)
    with pytest.raises(ValueError, match="y_val"):
        net.train(X, y, X, y + 1)


@pytest.mark.robustness
@pytest.mark.parametrize("options", [{"num_iters": 0}, {"batch_size": 0}, {"momentum": 1.0}, {"momentum": -0.1}])
def test_bad_training_options(options):
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        train_toy(**options)


@pytest.mark.robustness
def test_one_bad_value_among_many_is_found():
    net, X, _ = toy()
    X[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        net.predict(X)


@pytest.mark.robustness
@pytest.mark.parametrize("arguments", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1, -1.0)])
def test_bad_sizes(arguments):
    with pytest.raises(ValueError, match=r"at least 1|std"):
        TwoLayerNet(*arguments)


@pytest.mark.robustness
def test_integer_parameters_are_refused():
    with pytest.raises(ValueError, match="dtype"):
        TwoLayerNet(1, 1, 1, dtype=int)


@pytest.mark.robustness
def test_numpy_network_imports_without_torch():
    code = "import sys; sys.modules['torch'] = None; import common.classifiers.two_layer_net"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.robustness
def test_accuracy_refuses_labels_in_a_column():
    net = TwoLayerNet(4, 5, 3, rng=0)
    with pytest.raises(ValueError, match=r"y has shape \(6, 1\)"):
        net.accuracy(np.ones((6, 4)), np.zeros((6, 1), int))
