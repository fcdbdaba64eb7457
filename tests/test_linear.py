"""Linear classifiers against numerical gradients, autograd, each other and the faults of published solutions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.checks import eval_numerical_gradient, rel_error
from common.classifiers import linear
from common.classifiers.linear import LinearClassifier, LinearSVM, Softmax, sample_batch

NAIVE = {"svm": linear.svm_loss_naive, "softmax": linear.softmax_loss_naive}
VECTORIZED = {"svm": linear.svm_loss_vectorized, "softmax": linear.softmax_loss_vectorized}
ALL = [*NAIVE.values(), *VECTORIZED.values()]


def batch(N=7, D=5, C=4, seed=0):
    rng = np.random.RandomState(seed)
    return rng.randn(D, C), rng.randn(N, D), rng.randint(C, size=N)


def torch_loss(kind, W, X, y, reg):
    """The definitions, written once more in PyTorch."""
    scores = X @ W
    if kind == "softmax":
        data = torch.nn.functional.cross_entropy(scores, y)
    else:
        data = torch.nn.functional.multi_margin_loss(scores, y) * W.shape[1]  # PyTorch divides by C
    return data + reg * (W**2).sum()


@pytest.mark.learner
@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["svm", "softmax"]),
    N=st.integers(1, 9),
    D=st.integers(1, 6),
    C=st.integers(2, 6),
    reg=st.sampled_from([0.0, 0.5, 50.0]),
    seed=st.integers(0, 2**31 - 1),
)
def test_loss_and_gradient_equal_autograd(kind, N, D, C, reg, seed):
    W, X, y = batch(N, D, C, seed)
    W_t = torch.tensor(W, requires_grad=True)
    expected = torch_loss(kind, W_t, torch.tensor(X), torch.tensor(y), reg)
    expected.backward()
    for f in (NAIVE[kind], VECTORIZED[kind]):
        loss, dW = f(W, X, y, reg)
        assert rel_error(loss, expected.item()) < 1e-9
        np.testing.assert_allclose(dW, W_t.grad.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.learner
@pytest.mark.parametrize("kind", ["svm", "softmax"])
@pytest.mark.parametrize("reg", [0.0, 5.0])
def test_gradient_equals_numerical_gradient(kind, reg):
    W, X, y = batch(seed=3)
    dW = VECTORIZED[kind](W, X, y, reg)[1]
    numerical = eval_numerical_gradient(lambda W: VECTORIZED[kind](W, X, y, reg)[0], W)
    assert rel_error(dW, numerical) < 1e-6


@pytest.mark.learner
def test_losses_at_the_start():
    rng = np.random.RandomState(0)
    W, X, y = 1e-4 * rng.randn(3073, 10), rng.rand(200, 3073), rng.randint(10, size=200)
    assert abs(linear.svm_loss_vectorized(W, X, y, 0.0)[0] - 9) < 0.02
    assert abs(linear.softmax_loss_vectorized(W, X, y, 0.0)[0] - np.log(10)) < 0.01


@pytest.mark.learner
@pytest.mark.parametrize("f", [linear.softmax_loss_naive, linear.softmax_loss_vectorized])
def test_softmax_survives_large_scores(f):
    """Published solutions exponentiate unshifted scores."""
    X, y = np.random.RandomState(0).rand(20, 3073), np.arange(20) % 10
    loss = f(np.ones((3073, 10)), X, y, 2.5e4)[0]
    assert loss == pytest.approx(2.5e4 * 3073 * 10 + np.log(10), rel=1e-14)
    loss, dW = f(1e3 * np.eye(3), np.eye(3), np.array([1, 1, 1]), 0.0)
    assert loss == pytest.approx(2000 / 3)
    assert np.isfinite(dW).all()


@pytest.mark.learner
@pytest.mark.parametrize("f", ALL)
def test_regularisation_has_no_one_half(f):
    W, X, y = batch()
    (loss_0, dW_0), (loss_1, dW_1) = f(W, X, y, 0.0), f(W, X, y, 1.0)
    assert loss_1 - loss_0 == pytest.approx(np.sum(W**2))
    np.testing.assert_allclose(dW_1 - dW_0, 2 * W)


@pytest.mark.robustness
@pytest.mark.parametrize("f", ALL)
def test_inputs_are_not_modified_and_integers_do_not_overflow(f):
    W, _, y = batch()
    X = np.full((7, 5), 200, dtype=np.uint8)
    before = W.copy(), X.copy(), y.copy()
    expected, got = f(W, X.astype(np.float64), y, 0.1), f(W, X, y, 0.1)
    assert got[0] == pytest.approx(expected[0])
    np.testing.assert_allclose(got[1], expected[1])
    for now, then in zip((W, X, y), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.robustness
@pytest.mark.parametrize("f", ALL)
def test_bad_input_is_named(f):
    W, X, y = batch()
    with pytest.raises(ValueError, match=r"X of shape \(7, 5\).*W of shape \(4, 4\)"):
        f(W[:-1], X, y, 0.0)
    with pytest.raises(ValueError, match=r"y has shape \(6,\).*\(7, 5\).*\(7,\)"):
        f(W, X, y[:-1], 0.0)
    with pytest.raises(ValueError, match="at least one"):
        f(W, X[:0], y[:0], 0.0)
    with pytest.raises(ValueError, match=r"allowed are 0 to 3"):
        f(W, X, y + 4, 0.0)
    with pytest.raises(ValueError, match="labels from -5"):
        f(W, X, y - 5, 0.0)
    with pytest.raises(TypeError, match="integer labels"):
        f(W, X, y.astype(float), 0.0)
    with pytest.raises(ValueError, match="reg must be a finite number of at least 0"):
        f(W, X, y, -1.0)
    X = X.copy()
    X[3, 2] = np.nan
    with pytest.raises(ValueError, match="X holds NaN"):
        f(W, X, y, 0.0)


def blobs(N=300, seed=0):
    """Three well separated clouds in the plane, with the bias column."""
    rng = np.random.RandomState(seed)
    y = rng.randint(3, size=N)
    X = np.array([[0, 4], [4, -3], [-4, -3]])[y] + rng.randn(N, 2)
    return np.hstack([X, np.ones((N, 1))]), y


@pytest.mark.learner
@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training_separates_clouds(kind, dtype):
    X, y = blobs()
    X = X.astype(dtype)
    model = kind()
    losses = model.train(X, y, learning_rate=0.05, reg=1e-4, num_iters=300, rng=np.random.RandomState(0))
    assert len(losses) == 300
    assert losses[-1] < 0.3 * losses[0]
    predicted = model.predict(X)
    assert predicted.dtype.kind == "i"
    assert np.mean(predicted == y) > 0.97


@pytest.mark.robustness
@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
def test_weights_have_the_precision_of_the_data(kind):
    X, y = blobs()
    for dtype in (np.float32, np.float64):
        model = kind()
        model.train(X.astype(dtype), y, num_iters=2, rng=0)
        assert model.W.dtype == dtype


@pytest.mark.learner
def test_training_is_reproducible_and_goes_on():
    X, y = blobs()
    models = [Softmax(), Softmax(), Softmax()]
    models[0].train(X, y, num_iters=20, rng=np.random.RandomState(1))
    rng = np.random.RandomState(1)
    models[1].train(X, y, num_iters=10, rng=rng)
    models[1].train(X, y, num_iters=10, rng=rng)
    np.random.seed(1)
    models[2].train(X, y, num_iters=20)  # the course's way: NumPy's global generator
    np.testing.assert_array_equal(models[0].W, models[1].W)
    np.testing.assert_array_equal(models[0].W, models[2].W)


@pytest.mark.robustness
def test_training_accepts_batches_larger_than_the_data_and_shows_nothing_when_quiet(capsys):
    X, y = blobs(N=10)
    assert len(LinearSVM().train(X, y, batch_size=50, num_iters=3, verbose=True)) == 3
    assert capsys.readouterr().err == ""  # no progress bar; verbose prints its lines


@pytest.mark.robustness
def test_training_rejects_bad_data():
    X, y = blobs()
    with pytest.raises(ValueError, match="not finite"):
        LinearSVM().train(np.where(np.arange(3) == 1, np.inf, X), y)
    with pytest.raises(ValueError, match=r"\(299,\).*\(300, 3\)"):
        Softmax().train(X, y[:-1])
    with pytest.raises(ValueError, match="labels from -1"):
        Softmax().train(X, y - 1)
    with pytest.raises(ValueError, match="reg must be a finite number of at least 0"):
        Softmax().train(X, y, reg=-1)
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        Softmax().train(X, y, batch_size=0)
    with pytest.raises(NotImplementedError):
        LinearClassifier().train(X, y)


@pytest.mark.robustness
def test_diverging_training_is_shown_not_raised():
    X, y = blobs()
    with np.errstate(all="ignore"):
        losses = LinearSVM().train(X, y, learning_rate=1e3, reg=1e3, num_iters=200, rng=np.random.RandomState(0))
    assert not np.isfinite(losses[-1])


@pytest.mark.robustness
def test_predict_needs_weights_of_the_right_size():
    X, y = blobs()
    with pytest.raises(ValueError, match="holds no weights"):
        Softmax().predict(X)
    model = Softmax()
    model.train(X, y, num_iters=1)
    with pytest.raises(ValueError, match=r"X of shape \(300, 2\) does not fit W of shape \(3, 3\)"):
        model.predict(X[:, :2])


@pytest.mark.robustness
def test_save_and_load(tmp_path):
    X, y = blobs()
    model, again = Softmax(), Softmax()
    with pytest.raises(ValueError, match="no weights to save"):
        model.save(tmp_path / "W.npy")
    model.train(X, y, num_iters=5)
    model.save(tmp_path / "W.npy")
    again.load(tmp_path / "W.npy")
    np.testing.assert_array_equal(model.predict(X), again.predict(X))
    assert [path.name for path in tmp_path.iterdir()] == ["W.npy"]
    np.save(tmp_path / "flat.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        again.load(tmp_path / "flat.npy")


@pytest.mark.robustness
@pytest.mark.parametrize("seed", [0, 5])
def test_any_integer_is_a_seed(seed):
    """0 was taken for "no seed", and 5 for a generator."""
    X, y = blobs()
    runs = []
    for noise in (1, 2):
        np.random.seed(noise)
        model = Softmax()
        runs.append((model.train(X, y, num_iters=5, rng=seed), model.W))
    assert runs[0][0] == runs[1][0]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    for first, second in zip(*(sample_batch(X, y, 7, seed) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.robustness
def test_sample_batch_draws_with_replacement():
    X, y = np.arange(10.0)[:, None], np.arange(10)
    X_batch, y_batch = sample_batch(X, y, 200, np.random.RandomState(0))
    assert X_batch.shape == (200, 1)
    np.testing.assert_array_equal(X_batch[:, 0], y_batch)
    assert set(y_batch) == set(range(10))


@pytest.mark.robustness
@pytest.mark.parametrize("params", [linear.svm_get_search_params, linear.softmax_get_search_params])
def test_search_params_are_a_small_grid(params):
    rates, strengths = params()
    assert len(rates) >= 2
    assert len(strengths) >= 2
    assert 5 <= len(rates) * len(strengths) <= 25


@pytest.mark.robustness
def test_one_param_set_reports_both_accuracies():
    X, y = blobs()
    data = {"X_train": X[:200], "y_train": y[:200], "X_val": X[200:], "y_val": y[200:]}
    model, train, val = linear.test_one_param_set(Softmax(), data, 0.1, 1e-4, num_iters=100)
    assert train == np.mean(model.predict(X[:200]) == y[:200])
    assert val == np.mean(model.predict(X[200:]) == y[200:])


@pytest.mark.robustness
@pytest.mark.parametrize("part", ["train", "val"])
def test_one_param_set_refuses_labels_in_a_column(part):
    """(N,) == (N, 1) compares all with all: the accuracy of a perfect classifier was a third."""
    rng = np.random.RandomState(0)
    data = {
        "X_train": rng.randn(30, 4),
        "y_train": np.arange(30) % 3,
        "X_val": rng.randn(9, 4),
        "y_val": np.arange(9) % 3,
    }
    with pytest.raises(ValueError, match=rf"y_{part} has shape \(\d+, 1\)"):
        linear.test_one_param_set(
            linear.LinearSVM(), data | {f"y_{part}": data[f"y_{part}"][:, None]}, 1e-3, 0.1, num_iters=1
        )
