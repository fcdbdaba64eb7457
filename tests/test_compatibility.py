"""Calls as the notebooks of CS231n and EECS 498 make them: names, keywords and positions of the source courses."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from common import optim
from common.checks import grad_check_sparse, rel_error
from common.classifiers import cnn, fc_net, linear
from common.data.cifar10 import load_CIFAR10, load_CIFAR_batch
from common.layers import conv_backward_fast, conv_forward_fast, conv_forward_naive, dropout_forward
from common.plots import vis_grid, vis_nn, visualize_grid
from common.solver import Solver
from tests.test_cifar10 import small  # noqa: F401

pytestmark = pytest.mark.robustness


# Networks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dropout_keep_ratio", "dropout", "keep_prob"])
def test_names_of_dropout(name):
    """dropout_keep_ratio since 2021, dropout before; dropout_param stores the probability as p."""
    nets = [fc_net.FullyConnectedNet([15, 20], 15, 10, rng=0, seed=5, **{key: 0.75}) for key in ("keep_prob", name)]
    X, y = np.random.RandomState(0).randn(2, 15), np.array([1, 3])
    (want, _), (got, _) = (net.loss(X, y) for net in nets)
    assert got == want and nets[1].dropout_param == {"mode": "train", "p": 0.75, "seed": 5}
    assert fc_net.FullyConnectedNet([5], 8, 3, 0.5).dropout_param["p"] == 0.5  # by its position


def test_dropout_by_two_names_is_refused():
    with pytest.raises(ValueError, match=r"dropout 0.5 and dropout_keep_ratio 0.7 are names of one thing; give one"):
        fc_net.FullyConnectedNet([5], dropout=0.5, dropout_keep_ratio=0.7)
    with pytest.raises(ValueError, match=r"keep_prob 0.5 and p 0.7 are two names of one thing"):
        dropout_forward(np.ones(3), {"mode": "train", "keep_prob": 0.5, "p": 0.7})


def test_p_of_a_network_may_be_set():
    """Of 500 hidden units nearly all are dropped, so the loss is that of nearly equal scores."""
    net = fc_net.FullyConnectedNet([500], 8, 3, dropout_keep_ratio=0.9, weight_scale=3.0, rng=0, seed=0)
    X, y = np.random.RandomState(0).randn(4, 8), np.array([0, 1, 2, 0])
    before = net.loss(X, y)[0]
    net.dropout_param["p"] = 0.9999
    assert net.loss(X, y)[0] != before


def test_integer_biases_of_the_cat_and_dog_cell():
    """Two filters on two pictures: greys, and edges around a middle grey."""
    rng = np.random.RandomState(0)
    x, w, b = rng.rand(2, 3, 20, 20), rng.randn(2, 3, 3, 3), np.array([0, 128])
    want, _ = conv_forward_naive(x, w, b.astype(float), {"stride": 1, "pad": 1})
    for convolve in (conv_forward_naive, conv_forward_fast):
        out, cache = convolve(x, w, b, {"stride": 1, "pad": 1})
        assert out.dtype == np.float64 and rel_error(out, want) < 1e-9
    assert conv_backward_fast(out, cache)[2].dtype == np.float64


@pytest.mark.parametrize(
    "make",
    [
        lambda: fc_net.TwoLayerNet(12, 5, 3, rng=0),
        lambda: fc_net.FullyConnectedNet([5], 12, 3, normalization="batchnorm", dropout=0.5, rng=0),
        lambda: cnn.ThreeLayerConvNet((3, 4, 4), 2, 3, 5, 3, rng=0),
    ],
)
def test_save_and_load(tmp_path, make):
    net, other = make(), make()
    for w in other.params.values():
        w += 1
    net.save(fname=tmp_path / "best.npy")
    assert other.load(fname=tmp_path / "best.npy") is True
    assert all(np.array_equal(other.params[name], w) for name, w in net.params.items())
    with pytest.warns(UserWarning, match="no such file"):
        assert other.load(tmp_path / "none.npy") is False


def test_save_and_load_of_linear_classifiers(tmp_path):
    classifier, other = linear.Softmax(), linear.Softmax()
    classifier.W = np.arange(6.0).reshape(3, 2)
    classifier.save(fname=tmp_path / "best_softmax.npy")
    assert other.load(fname=tmp_path / "best_softmax.npy") is True and np.array_equal(other.W, classifier.W)
    with pytest.warns(UserWarning, match="no such file"):
        assert other.load("nowhere.npy") is False


def test_verbose_training_of_a_linear_classifier_prints_lines(capsys):
    X, y = np.random.RandomState(0).randn(30, 4), np.arange(30) % 3
    losses = linear.LinearSVM().train(X, y, num_iters=201, verbose=True, rng=0)
    assert capsys.readouterr().out.splitlines() == [
        f"iteration {step} / 201: loss {losses[step]:.6f}" for step in (0, 100, 200)
    ]


# Solver -------------------------------------------------------------------------------------------------------


def solver(**options):
    rng = np.random.RandomState(0)
    data = {
        "X_train": rng.randn(20, 4),
        "y_train": np.arange(20) % 3,
        "X_val": rng.randn(6, 4),
        "y_val": np.arange(6) % 3,
    }
    net = fc_net.TwoLayerNet(4, 5, 3, rng=0)
    return Solver(net, data, **({"batch_size": 10, "verbose": False} | options))


def test_attributes_and_methods_of_the_solver():
    it = solver(num_epochs=2)
    for name in ("X_train", "y_train", "X_val", "y_val"):
        assert getattr(it, name) is it.data[name]
    it._step()
    assert it.iteration == 1 and len(it.loss_history) == 1
    it._reset()
    assert it.iteration == 0 and it.loss_history == [] and it.best_params == {}
    it.train()
    assert it.epoch == 2


def test_no_epochs():
    it = solver(num_epochs=0)
    before = {name: w.copy() for name, w in it.model.params.items()}
    it.train()
    assert it.loss_history == [] and all(np.array_equal(it.model.params[name], w) for name, w in before.items())


def test_an_update_rule_of_ones_own_in_the_optim_module(monkeypatch):
    def nesterov(w, dw, config=None):
        return w - 0.1 * dw, config

    monkeypatch.setattr(optim, "nesterov", nesterov, raising=False)
    own, same = solver(update_rule="nesterov", seed=0), solver(optim_config={"learning_rate": 0.1}, seed=0)
    own.train()
    same.train()
    np.testing.assert_allclose(own.loss_history, same.loss_history)
    for name in ("rule", "with_defaults", "np", "Any", "RULES", "nothing"):
        with pytest.raises(ValueError, match="update_rule must be a function or one of sgd"):
            solver(update_rule=name)


# Checks and data ----------------------------------------------------------------------------------------------


def test_grad_check_sparse_by_keyword(capsys):
    x = np.random.RandomState(0).randn(4, 3)
    errors = grad_check_sparse(lambda x: np.sum(x**2), x, analytic_grad=2 * x, num_checks=5)
    assert errors.max() < 1e-7 and len(capsys.readouterr().out.splitlines()) == 5


def test_names_of_the_loaders(small):  # noqa: F811
    X, y = load_CIFAR_batch(filename=small / "cifar-10-batches-py" / "data_batch_1")
    assert X.shape == (len(y), 32, 32, 3)
    assert np.array_equal(load_CIFAR10(ROOT=small)[0], load_CIFAR10(small)[0])
    with pytest.raises(ValueError, match="two names of one folder"):
        load_CIFAR10(small, ROOT=small)


# Grids of pictures --------------------------------------------------------------------------------------------


def test_visualize_grid():
    """Four pictures in two rows with a black line of one pixel between; the fourth has one grey only."""
    Xs = np.arange(3 * 4 * 5 * 3, dtype=float).reshape(3, 4, 5, 3)
    Xs = np.concatenate([Xs, np.full((1, 4, 5, 3), 7.0)])
    grid = visualize_grid(Xs)
    assert grid.shape == (9, 11, 3) and grid.max() == 255 and grid.min() == 0
    for place, picture in zip(((0, 0), (0, 6), (5, 0)), Xs[:3], strict=True):
        part = grid[place[0] : place[0] + 4, place[1] : place[1] + 5]
        np.testing.assert_allclose(part, 255 * (picture - picture.min()) / 59)
    assert not grid[4].any() and not grid[:, 5].any() and not grid[5:, 6:].any()
    assert visualize_grid(Xs.astype(np.uint8)[:3], ubound=1.0, padding=3).shape == (11, 13, 3)
    assert visualize_grid(Xs[:1]).shape == (4, 5, 3)
    with pytest.raises(ValueError, match=r"\(N, H, W, C\), at least one, got the shape \(4, 5, 3\)"):
        visualize_grid(Xs[0])


def test_vis_grid_and_vis_nn():
    """One scale for all, and a line behind each picture."""
    Xs = np.random.RandomState(0).randint(10, 200, (6, 4, 5, 3)).astype(np.uint8)
    scaled = (Xs - Xs.min().astype(float)) / (int(Xs.max()) - int(Xs.min()))
    grid, rows = vis_grid(Xs), vis_nn([Xs[:3], Xs[3:]])
    assert grid.shape == (15, 18, 3) and rows.shape == (10, 18, 3)
    np.testing.assert_allclose(grid[5:9, 6:11], scaled[4])
    np.testing.assert_allclose(rows[5:9, 6:11], scaled[4])
    assert not grid[10:].any() and not grid[4].any() and not rows[:, 17].any()
    with pytest.raises(ValueError, match=r"equally many pictures \(H, W, C\)"):
        vis_nn(Xs)


# Tensors of EECS 498 ------------------------------------------------------------------------------------------


def test_keywords_and_positions_of_the_eecs_loaders(small, monkeypatch):  # noqa: F811
    import torch

    from common.pytorch import data

    x, y, x_test, _ = data.cifar10(root=small, x_dtype=torch.float64)
    assert x.dtype == x_test.dtype == torch.float64
    assert torch.equal(x, data.cifar10(None, None, torch.float64, root=small)[0])
    shown = []
    monkeypatch.setattr(data.plt, "show", lambda: shown.append(data.plt.gcf()))
    got = data.preprocess_cifar10(False, True, True, True, 0.2, torch.float64, root=small)
    want = data.preprocess_cifar10(cuda=False, show_examples=False, bias_trick=True, dtype=torch.float64, root=small)
    assert len(shown) == 1 and got.keys() == want.keys() and all(torch.equal(got[name], want[name]) for name in got)
    assert got["X_train"].shape == (len(y) - len(y) // 5, 3073)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="PyTorch sees no CUDA device; pass cuda=False"):
            data.preprocess_cifar10(cuda=True, root=small)


def test_the_last_tensor_exercises():
    import torch

    from common.pytorch import tensor_basics as tb

    draw = torch.Generator().manual_seed(0)
    x, w = torch.randn(3, 4, generator=draw), torch.randn(4, 2, generator=draw)
    assert torch.equal(tb.mm_on_cpu(x, w), x @ w)
    xs = [torch.randn(n, generator=draw, dtype=torch.float64) for n in (3, 1, 7)]
    means = tb.challenge_mean_tensors(xs, torch.tensor([3, 1, 7]))
    assert means.dtype == torch.float64 and torch.allclose(means, torch.stack([x.mean() for x in xs]))
    values = torch.randint(-5, 5, (40,), generator=draw)
    uniques, indices = tb.challenge_get_uniques(values)
    want, first = np.unique(values.numpy(), return_index=True)
    assert uniques.tolist() == want.tolist() and indices.tolist() == first.tolist()
    assert [len(part) for part in tb.challenge_get_uniques(values[:0])] == [0, 0]
    with pytest.raises(ValueError, match="ls must hold the lengths"):
        tb.challenge_mean_tensors(xs, torch.tensor([3, 2, 6]))
    with pytest.raises(TypeError, match="floating-point numbers"):
        tb.challenge_mean_tensors([torch.tensor([1, 2])], torch.tensor([2]))
    with pytest.raises(ValueError, match="x must have 1 dimensions"):
        tb.challenge_get_uniques(values.reshape(2, 20))


# The page that says all this ----------------------------------------------------------------------------------


def test_modules_that_the_page_names_exist():
    """docs/coming-from-cs231n.md: every `common.x.y` can be found, and every relative link of README leads there."""
    root = Path(__file__).parents[1]
    page = (root / "docs" / "coming-from-cs231n.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(common(?:\.\w+)+)`", page))
    assert len(names) > 15
    missing = {name for name in names if not importlib.util.find_spec(name)}
    assert not missing
    assert "docs/coming-from-cs231n.md" in (root / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["eval_numerical_gradient_blobs", "load_models"])
def test_what_the_page_calls_missing_is_missing(name):
    from common import checks
    from common.data import cifar10

    assert not hasattr(checks, name) and not hasattr(cifar10, name)
