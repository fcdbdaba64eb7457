"""kNN and linear classifiers of EECS 498 in PyTorch, against the NumPy ones and autograd in double precision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.checks import rel_error
from common.classifiers import knn as numpy_knn
from common.classifiers import linear as numpy_linear
from common.pytorch import grad, knn, linear

pytestmark = pytest.mark.robustness
DISTANCES = [knn.compute_distances_two_loops, knn.compute_distances_one_loop, knn.compute_distances_no_loops]
LOSSES = ["svm_loss_naive", "svm_loss_vectorized", "softmax_loss_naive", "softmax_loss_vectorized"]


def pictures(n, seed, shape=(3, 4, 4)):
    rng = np.random.RandomState(seed)
    return rng.rand(n, *shape), rng.randint(0, 3, n)


# k-nearest neighbours -----------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(train=st.integers(1, 7), test=st.integers(1, 5), seed=st.integers(0, 99))
def test_squared_distances_are_those_of_numpy_transposed(train, test, seed):
    (x, y), (t, _) = pictures(train, seed), pictures(test, seed + 100)
    model = numpy_knn.KNearestNeighbor()
    model.train(x, y)
    want = model.compute_distances_two_loops(t).T ** 2  # (num_train, num_test)
    for distances in DISTANCES:
        got = distances(torch.tensor(x), torch.tensor(t))
        assert got.dtype == torch.float64 and rel_error(got.numpy(), want) < 1e-9


@pytest.mark.parametrize("distances", DISTANCES)
def test_distances_of_bytes_and_of_themselves(distances):
    x = torch.randint(0, 256, (5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert distances(x, x).diagonal().abs().max() == 0 and distances(x, x).dtype == torch.float32
    with pytest.raises(ValueError, match=r"pictures of one size, at least one each, got \(5, 6\) and \(5, 3\)"):
        distances(x, x[:, :3])
    with pytest.raises(ValueError, match="x_test holds values that are not finite"):
        distances(x, torch.full((2, 6), torch.nan))


@settings(max_examples=25, deadline=None)
@given(k=st.integers(1, 12), seed=st.integers(0, 99))
def test_votes_with_draws_are_those_of_numpy(k, seed):
    rng = np.random.RandomState(seed)
    dists, y = rng.randint(0, 4, (12, 5)).astype(float), rng.randint(0, 4, 12)
    model = numpy_knn.KNearestNeighbor()
    model.train(np.zeros((12, 2)), y)
    got = knn.predict_labels(torch.tensor(dists), torch.tensor(y), k)
    assert got.dtype == torch.int64 and got.tolist() == model.predict_labels(dists.T, k).tolist()


def test_classifier_and_its_line(capsys):
    (x, y), (t, truth) = pictures(60, 0), pictures(20, 1)
    model = numpy_knn.KNearestNeighbor()
    model.train(x, y)
    classifier = knn.KnnClassifier(torch.tensor(x), torch.tensor(y))
    assert classifier.predict(torch.tensor(t), k=5).tolist() == model.predict(t, 5).tolist()
    right = int((model.predict(t, 5) == truth).sum())
    assert classifier.check_accuracy(torch.tensor(t), torch.tensor(truth), k=5) == 5 * right
    assert capsys.readouterr().out == f"Got {right} / 20 correct; accuracy is {5 * right:.2f}%\n"
    assert classifier.check_accuracy(torch.tensor(t), torch.tensor(truth), 5, quiet=True) == 5 * right
    assert capsys.readouterr().out == ""


def test_cross_validation():
    x, y = pictures(53, 3)
    want = numpy_knn.knn_cross_validate(x, y, 5, [1, 3, 8])
    got = knn.knn_cross_validate(torch.tensor(x), torch.tensor(y), 5, [1, 3, 8])
    assert got.keys() == want.keys()
    for k, accuracies in want.items():
        np.testing.assert_allclose(got[k], 100 * np.array(accuracies))
    assert knn.knn_get_best_k(got) == numpy_knn.knn_get_best_k(want)
    assert list(knn.knn_cross_validate(torch.rand(300, 2), torch.arange(300) % 3)) == list(numpy_knn.K_CHOICES)
    with pytest.raises(ValueError, match="k_to_accuracies is empty"):
        knn.knn_get_best_k({})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(3, 2), torch.zeros(3, 1, dtype=torch.long)), ValueError, r"y_train has shape \(3, 1\)"),
        ((torch.zeros(3, 2), torch.zeros(3)), TypeError, "integer labels"),
        ((torch.zeros(3, 2), torch.tensor([0, -1, 1])), ValueError, "label -1"),
        ((torch.zeros(3, 2), torch.tensor([0, 1, 1]), 4), ValueError, "k is 4"),
        ((torch.zeros(3, 2), torch.tensor([0, 1, 1]), 0), ValueError, "k is 0"),
    ],
)
def test_bad_votes(arguments, error, message):
    with pytest.raises(error, match=message):
        knn.predict_labels(*arguments)


# Linear classifiers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=15, deadline=None)
@given(N=st.integers(1, 6), D=st.integers(1, 5), C=st.integers(2, 4), seed=st.integers(0, 99))
def test_losses_are_those_of_numpy_and_their_gradients_those_of_autograd(name, N, D, C, seed):
    rng = np.random.RandomState(seed)
    W, X, y, reg = rng.randn(D, C), rng.randn(N, D), rng.randint(0, C, N), 0.3
    want, want_dW = getattr(numpy_linear, name)(W, X, y, reg)
    weights = torch.tensor(W, requires_grad=True)
    X, y = torch.tensor(X), torch.tensor(y)
    loss, dW = getattr(linear, name)(weights.detach(), X, y, reg)
    assert loss.dim() == 0 and rel_error(loss.item(), want) < 1e-9
    np.testing.assert_allclose(dW.numpy(), want_dW, rtol=1e-9, atol=1e-12)
    scores = X @ weights
    if name.startswith("svm"):
        margins = (scores - scores[torch.arange(N), y][:, None] + 1).clamp(min=0)
        data = margins.sum() / N - 1  # the margin of the right class is 1
    else:
        data = torch.nn.functional.cross_entropy(scores, y)
    (by_autograd,) = torch.autograd.grad(data + reg * (weights**2).sum(), weights)
    np.testing.assert_allclose(dW.numpy(), by_autograd.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["LinearSVM", "Softmax"])
def test_training_takes_the_steps_of_numpy(kind, monkeypatch, tmp_path):
    """The same minibatches and initial weights: the same losses and weights."""
    rng = np.random.RandomState(0)
    X, y = rng.randn(40, 5), rng.randint(0, 3, 40)
    batches = rng.randint(0, 40, (30, 10))
    theirs, ours = getattr(numpy_linear, kind)(), getattr(linear, kind)()
    theirs.W = rng.randn(5, 3)
    ours.W = torch.tensor(theirs.W.copy())
    draws = {"numpy": iter(batches), "torch": iter(batches)}
    monkeypatch.setattr(numpy_linear, "sample_batch", lambda X, y, size, rng: (X[i := next(draws["numpy"])], y[i]))
    monkeypatch.setattr(linear, "sample_batch", lambda X, y, *_, **__: (X[i := next(draws["torch"])], y[i]))
    want = theirs.train(X, y, 0.1, 0.01, 30, 10)
    before = ours.W
    got = ours.train(torch.tensor(X), torch.tensor(y), 0.1, 0.01, 30, 10)
    np.testing.assert_allclose(got, want, rtol=1e-9)
    np.testing.assert_allclose(ours.W.numpy(), theirs.W, rtol=1e-9)
    assert before is not ours.W  # a reference to the weights from before keeps its values
    assert ours.predict(torch.tensor(X)).tolist() == theirs.predict(X).tolist()
    ours.save(tmp_path / "W.pt")
    other = getattr(linear, kind)()
    assert other.load(tmp_path / "W.pt") is True and torch.equal(other.W, ours.W)
    with pytest.warns(UserWarning, match="no such file"):
        assert other.load(tmp_path / "none.pt") is False


def test_training_from_nothing_learns_and_repeats(capsys):
    y = torch.arange(60) % 3
    X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)) + 3 * torch.eye(4)[y]
    runs = []
    for _ in range(2):
        draw = torch.Generator().manual_seed(1)
        options = {"learning_rate": 0.1, "num_iters": 101, "verbose": True, "generator": draw}
        runs.append(linear.train_linear_classifier(linear.softmax_loss_vectorized, None, X, y, **options))
    (W, losses), (again, _) = runs
    assert torch.equal(W, again) and W.shape == (4, 3) and abs(losses[0] - np.log(3)) < 0.01
    assert (linear.predict_linear_classifier(W, X) == y).double().mean() > 0.9
    assert capsys.readouterr().out.splitlines()[:2] == [f"iteration {s} / 101: loss {losses[s]:.6f}" for s in (0, 100)]
    X_batch, y_batch = linear.sample_batch(X, y, 10, 200)
    assert X_batch.shape == (200, 4) and all((X[:10] == row).all(dim=1).any() for row in X_batch[:20])
    assert y_batch.shape == (200,)


def test_one_param_set_and_the_search():
    y = torch.arange(90) % 3
    X = torch.randn(90, 4, generator=torch.Generator().manual_seed(0)) + 3 * torch.eye(4)[y]
    data = {"X_train": X[:60], "y_train": y[:60], "X_val": X[60:], "y_val": y[60:]}
    classifier, train, val = linear.test_one_param_set(linear.LinearSVM(), data, 0.05, 1e-3, num_iters=100)
    assert classifier.W.shape == (4, 3) and 0.9 < train <= 1 and 0.8 < val <= 1
    with pytest.raises(ValueError, match=r"y_val has shape \(30, 1\)"):
        linear.test_one_param_set(linear.LinearSVM(), data | {"y_val": y[60:, None]}, 0.05, 1e-3)
    for rates, strengths in (linear.svm_get_search_params(), linear.softmax_get_search_params()):
        assert 2 <= len(rates) * len(strengths) <= 25 and min(rates) > 0 and min(strengths) >= 0


@pytest.mark.parametrize("name", LOSSES)
def test_bad_batches(name):
    loss, W, X, y = getattr(linear, name), torch.zeros(4, 3), torch.zeros(2, 4), torch.tensor([0, 2])
    for arguments, error, message in (
        ((W, X[:, :3], y, 0.1), ValueError, r"X of shape \(2, 3\) does not fit W"),
        ((W, X.double(), y, 0.1), TypeError, "X is torch.float64 but W is torch.float32"),
        ((W, X, y + 1, 0.1), ValueError, "labels from 1 to 3"),
        ((W, X, y[:, None], 0.1), ValueError, r"y has shape \(2, 1\)"),
        ((W, X, y.float(), 0.1), TypeError, "integer labels"),
        ((W, X, y, -1.0), ValueError, "reg"),
    ):
        with pytest.raises(error, match=message):
            loss(*arguments)
    with pytest.raises(ValueError, match="holds no weights"):
        linear.LinearSVM().predict(X)
    with pytest.raises(NotImplementedError, match="use LinearSVM or Softmax"):
        linear.LinearClassifier().loss(W, X, y, 0.0)


# Gradient checks ----------------------------------------------------------------------------------------------


def test_sparse_gradient_check_of_tensors(capsys):
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    errors = grad.grad_check_sparse(lambda x: (x**3).sum(), x, analytic_grad=3 * x**2, num_checks=6, seed=0)
    assert errors.shape == (6,) and errors.max() < 1e-5 and torch.equal(x, before)
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert grad.grad_check_sparse(lambda x: (x**3).sum(), x, x, verbose=False).max() > 0.1
    assert grad.grad_check_sparse(lambda x: 0 * x.sum(), x, 0 * x, verbose=False).max() == 0
    with pytest.raises(TypeError, match=r"x must be a float64 tensor, got torch\.float32"):
        grad.grad_check_sparse(lambda x: x.sum(), x.float(), x.float())
    with pytest.raises(ValueError, match=r"analytic_grad has shape \(3,\)"):
        grad.grad_check_sparse(lambda x: x.sum(), x, x[:, 0])


def test_relative_error_of_eecs():
    """One number for all: an error in a small entry counts little."""
    x, y = torch.tensor([100.0, 1e-3]), torch.tensor([100.0, 2e-3])
    assert abs(grad.rel_error(x, y) - 1e-3 / 200) < 1e-9
    assert grad.rel_error(x, x) == grad.rel_error(0 * x, 0 * x) == grad.rel_error(x[:0], x[:0]) == 0
    assert np.isnan(grad.rel_error(x, torch.tensor([100.0, torch.nan])))
    with pytest.raises(ValueError, match="differ in shape"):
        grad.rel_error(x, y[:1])
