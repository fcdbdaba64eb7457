"""The two-layer network in PyTorch against the NumPy network and numerical gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.checks import compute_numeric_gradient, rel_error
from common.pytorch import two_layer_net as torch_net
from tests.test_two_layer_net import BAD, NAMES, as_torch, random_case, toy


@pytest.mark.learner
@given(
    st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 5), st.integers(1, 6), st.integers(1, 5), st.floats(0, 2)
)
@settings(max_examples=30, deadline=None)
def test_agrees_with_the_numpy_network(seed, N, D, H, C, reg):
    net, X, y = random_case(seed, N, D, H, C)
    params, tX, ty = as_torch(net), torch.tensor(X), torch.tensor(y)
    scores, hidden = torch_net.nn_forward_pass(params, tX)
    np.testing.assert_allclose(scores.numpy(), net.loss(X), rtol=1e-9, atol=1e-12)
    assert hidden.shape == (N, H) and (hidden >= 0).all()
    (loss, grads), (want, want_grads) = torch_net.nn_forward_backward(params, tX, ty, reg), net.loss(X, y, reg)
    assert loss.item() == pytest.approx(want, rel=1e-9, abs=1e-12)
    for name in NAMES:
        np.testing.assert_allclose(grads[name].numpy(), want_grads[name], rtol=1e-8, atol=1e-11)
    np.testing.assert_array_equal(
        torch_net.nn_predict(params, torch_net.nn_forward_backward, tX).numpy(), net.predict(X)
    )


@pytest.mark.learner
def test_gradients_against_numerical_ones():
    net, X, y = toy()
    params, tX, ty = as_torch(net), torch.tensor(X), torch.tensor(y)
    _, grads = torch_net.nn_forward_backward(params, tX, ty, 0.05)
    for name in NAMES:
        numeric = compute_numeric_gradient(
            lambda _: torch_net.nn_forward_backward(params, tX, ty, 0.05)[0], params[name], h=1e-5
        )
        assert rel_error(grads[name], numeric) < 1e-8


def torch_toy(std=1e-1, **options):
    _, X, y = toy()
    draw = torch.Generator().manual_seed(0)
    net = torch_net.TwoLayerNet(4, 10, 3, torch.float64, "cpu", std, generator=draw)
    X, y = torch.tensor(X), torch.tensor(y)
    return net, X, y, draw


@pytest.mark.learner
def test_starts_at_ln_3_and_learns():
    net, X, y, draw = torch_toy(std=1e-6)
    assert net.loss(X, y)[0].item() == pytest.approx(1.098612, abs=1e-5)
    net, X, y, draw = torch_toy()
    kept = X.clone()
    history = net.train(X, y, X, y, 0.1, reg=5e-6, generator=draw)
    assert history["loss_history"][-1] < 0.02
    assert torch.equal(net.predict(X), y) and torch.equal(X, kept)


@pytest.mark.learner
@pytest.mark.parametrize(("batch", "num_iters", "epochs"), [(2, 10, 5), (3, 6, 6), (200, 4, 4)])
def test_counts_epochs_in_whole_iterations(batch, num_iters, epochs):
    net, X, y, draw = torch_toy()
    history = net.train(X, y, X, y, num_iters=num_iters, batch_size=batch, generator=draw)
    assert len(history["val_acc_history"]) == epochs


@pytest.mark.robustness
@pytest.mark.parametrize(
    ("change", "error", "message"), [row for row in BAD if "a" not in str(row[0].get("X", ""))[:5]]
)
def test_names_bad_input(change, error, message):
    net, X, y, _ = torch_toy()
    given = {"X": X, "y": y, "reg": 0.0} | change
    with pytest.raises(error, match=message):
        net.loss(torch.as_tensor(given["X"]), torch.as_tensor(given["y"]), given["reg"])


@pytest.mark.robustness
def test_wants_one_dtype():
    net, X, _, _ = torch_toy()
    with pytest.raises(TypeError, match="float32"):
        net.loss(X.float())


@pytest.mark.robustness
def test_train_checks_first():
    net, X, y, _ = torch_toy()
    with pytest.raises(ValueError, match="y_val"):
        net.train(X, y, X, y + 1)
    with pytest.raises(ValueError, match="batch_size"):
        net.train(X, y, X, y, batch_size=0)


@pytest.mark.robustness
def test_save_and_load(tmp_path):
    net, X, *_ = torch_toy()
    other = torch_net.TwoLayerNet(4, 10, 3, torch.float64)
    net.save(tmp_path / "net.pt")
    other.load(tmp_path / "net.pt")
    assert torch.equal(net.loss(X), other.loss(X))
    torch.save([1], tmp_path / "other.pt")
    with pytest.raises(ValueError, match="parameters"):
        net.load(tmp_path / "other.pt")


@pytest.mark.learner
def test_find_best_net_keeps_the_best():
    _, X, y, _ = torch_toy()
    data = {"X_train": X, "y_train": y, "X_val": X, "y_val": y}
    net, history, accuracy = torch_net.find_best_net(
        data, lambda: ([1e-9, 0.1], [10], [1e-6], [0.95]), num_iters=100, std=0.1
    )
    assert accuracy == 1.0 and history["loss_history"][-1] < 0.1
    assert torch.equal(net.predict(X), y)
    with pytest.raises(ValueError, match="empty"):
        torch_net.find_best_net(data, lambda: ([], [10], [1e-6], [0.95]))
    assert all(len(values) >= 1 for values in torch_net.nn_get_search_params())


@pytest.mark.robustness
@pytest.mark.parametrize("arguments", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1, torch.float32, "cpu", -1.0)])
def test_bad_sizes(arguments):
    with pytest.raises(ValueError, match=r"at least 1|std"):
        torch_net.TwoLayerNet(*arguments)


@pytest.mark.robustness
def test_a_save_that_fails_halfway_leaves_the_old_file(tmp_path, monkeypatch):
    net, *_ = torch_toy()
    net.save(tmp_path / "net.pt")
    before = (tmp_path / "net.pt").read_bytes()

    def half(params, file):
        file.write(before[: len(before) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        net.save(tmp_path / "net.pt")
    assert (tmp_path / "net.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]


class Evil:
    def __reduce__(self):
        return (print, ("run by a pickle",))


@pytest.mark.robustness
def test_load_runs_no_code(tmp_path, capsys):
    torch.save({"W1": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        torch_toy()[0].load(tmp_path / "evil.pt")
    assert "run by a pickle" not in capsys.readouterr().out
