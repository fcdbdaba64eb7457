"""The training loop against gradient descent written out, PyTorch's own scheduler, and what it promises to record."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.pytorch import training
from common.pytorch.training import autocast, fit, has_bf16, set_rates


def problem(count=12, seed=0):
    """A linear net from 4 inputs to 3 classes, and `count` examples."""
    rng = np.random.RandomState(seed)
    net = nn.Linear(4, 3)
    for p in net.parameters():
        p.data.copy_(torch.from_numpy(rng.randn(*p.shape)))
    return net, torch.from_numpy(rng.randn(count, 4)).float(), torch.from_numpy(rng.randint(0, 3, count))


def in_threes(x, y):
    return lambda epoch: zip(x.split(3), y.split(3), strict=True)


def falling(fraction):
    return 1 - fraction


def run(net, x, y, *optimisers, **options):
    options = {"epochs": 2, "steps_per_epoch": 4, "bf16": False} | options
    return fit(net, in_threes(x, y), F.cross_entropy, optimisers, **options)


@pytest.mark.learner
def test_descent_against_gradients_written_out():
    """d loss / d scores = (softmax - one-hot) / n: the same two epochs without autograd, optimiser or scheduler."""
    net, x, y = problem()
    W, b, losses = net.weight.detach().double().clone(), net.bias.detach().double().clone(), []
    for step in range(8):
        rows = slice(3 * (step % 4), 3 * (step % 4) + 3)
        log_probs = (x[rows].double() @ W.T + b).log_softmax(1)
        losses.append(-log_probs[range(3), y[rows]].mean().item())
        dscores = (log_probs.exp() - F.one_hot(y[rows], 3)) / 3
        W -= 0.5 * (1 - step / 8) * dscores.T @ x[rows].double()
        b -= 0.5 * (1 - step / 8) * dscores.sum(0)
    history = run(net, x, y, torch.optim.SGD(net.parameters(), lr=0.5), schedule=falling)
    torch.testing.assert_close(net.weight.detach().double(), W, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(net.bias.detach().double(), b, atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-6)


@pytest.mark.learner
def test_rates_of_all_groups_against_a_scheduler_of_pytorch():
    """Two optimisers, one of them with two groups, beside torch.optim.lr_scheduler.LambdaLR."""
    (net, x, y), (other, _, _) = problem(), problem()

    def optimisers(net):
        groups = [{"params": [net.weight], "lr": 0.1}, {"params": [net.bias], "lr": 0.7}]
        return torch.optim.SGD(groups, momentum=0.9), torch.optim.Adam(net.parameters(), lr=0.01)

    run(net, x, y, *optimisers(net), schedule=falling)
    pair = optimisers(other)
    schedulers = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: falling(step / 8)) for o in pair]
    for step in range(8):
        for o in pair:
            o.zero_grad()
        F.cross_entropy(other(x[3 * (step % 4) :][:3]), y[3 * (step % 4) :][:3]).backward()
        for part in (*pair, *schedulers):
            part.step()
    torch.testing.assert_close(net.weight, other.weight)
    torch.testing.assert_close(net.bias, other.bias)


@pytest.mark.robustness
def test_rates_are_factors_of_those_the_optimiser_was_made_with():
    optimiser = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.5, 4.0)])
    for factor in (0.5, 0.25, 1.0):
        set_rates([optimiser], factor)
        assert [group["lr"] for group in optimiser.param_groups] == [0.5 * factor, 4.0 * factor]


@pytest.mark.learner
def test_history_is_complete_and_true():
    net, x, y = problem()
    history = run(net, x, y, torch.optim.SGD(net.parameters(), lr=0.0), evaluate=lambda net: net(x).argmax(1)[0].item())
    losses = [F.cross_entropy(net(a), b).item() for a, b in in_threes(x, y)(0)]
    np.testing.assert_allclose(history["loss"], 2 * losses, rtol=1e-6)
    assert history["rate"] == [1.0] * 8
    right = (net(x).argmax(1) == y).double().mean().item()
    assert history["train_acc"] == pytest.approx([right, right])
    assert history["val_acc"] == [net(x).argmax(1)[0].item()] * 2
    assert run(net, x, y, torch.optim.SGD(net.parameters(), lr=0.0))["val_acc"] == []


@pytest.mark.robustness
def test_batches_of_different_sizes_count_by_their_examples():
    net, x, y = problem(5)
    history = fit(
        net,
        lambda epoch: [(x[:1], y[:1]), (x[1:], y[1:])],
        F.cross_entropy,
        [torch.optim.SGD(net.parameters(), lr=0.0)],
        epochs=1,
        steps_per_epoch=2,
        bf16=False,
    )
    assert history["train_acc"] == pytest.approx([(net(x).argmax(1) == y).double().mean().item()])


@pytest.mark.robustness
def test_labels_may_have_more_axes():
    """Scores (N, C, T) and labels (N, T), as cross_entropy takes them: a word a place, or a class a pixel."""
    net = nn.Conv1d(2, 3, 1)
    x, y = torch.randn(4, 2, 5), torch.randint(0, 3, (4, 5))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.0)
    history = fit(net, lambda epoch: [(x, y)], F.cross_entropy, [optimiser], epochs=1, steps_per_epoch=1, bf16=False)
    assert history["train_acc"] == pytest.approx([(net(x).argmax(1) == y).double().mean().item()])


@pytest.mark.robustness
def test_time_of_the_evaluation_is_not_counted(monkeypatch):
    now = {"seconds": 100.0, "cpu_seconds": 50.0}
    monkeypatch.setattr(training, "clocks", lambda: dict(now))

    def spend(wall, cpu):
        now["seconds"] += wall
        now["cpu_seconds"] += cpu

    net, x, y = problem()
    history = run(
        net,
        x,
        y,
        torch.optim.SGD(net.parameters(), lr=0.1),
        on_step=lambda *_: spend(1, 2),
        evaluate=lambda net: spend(1000, 1000) or 0.5,
    )
    assert history["seconds"] == [4, 8]
    assert history["cpu_seconds"] == [8, 16]


@pytest.mark.learner
def test_hooks_come_in_order_and_in_training_mode():
    net, x, y = problem()
    log = []

    def evaluate(net):
        net.eval()  # a validation that forgets to switch back
        log.append("evaluate")
        return 0.0

    run(
        net,
        x,
        y,
        torch.optim.SGD(net.parameters(), lr=0.1),
        on_epoch=lambda epoch: log.append(f"epoch {epoch}"),
        on_step=lambda step, steps: log.append((step, steps, net.training)),
        evaluate=evaluate,
    )
    first, second = ([(step, 8, True) for step in steps] for steps in (range(1, 5), range(5, 9)))
    assert log == ["epoch 0", *first, "evaluate", "epoch 1", *second, "evaluate"]


@pytest.mark.robustness
def test_gradients_do_not_pile_up_on_frozen_parameters():
    net, x, y = problem()
    net.bias.grad = torch.ones(3)
    net.bias.requires_grad_(False)
    before = net.bias.detach().clone()
    run(net, x, y, torch.optim.SGD(net.parameters(), lr=0.1))
    assert torch.equal(net.bias, before)


@pytest.mark.robustness
@pytest.mark.parametrize("steps_per_epoch", [3, 5])
def test_another_number_of_batches_is_named(steps_per_epoch):
    net, x, y = problem()
    with pytest.raises(ValueError, match=f"steps_per_epoch is {steps_per_epoch}, but batches gave"):
        run(net, x, y, torch.optim.SGD(net.parameters(), lr=0.1), steps_per_epoch=steps_per_epoch, schedule=falling)


@pytest.mark.robustness
@pytest.mark.parametrize("name", ["epochs", "steps_per_epoch"])
def test_fit_refuses(name):
    net, x, y = problem()
    with pytest.raises(ValueError, match=name):
        run(net, x, y, torch.optim.SGD(net.parameters(), lr=0.1), **{name: 0})


@pytest.mark.robustness
def test_bf16_products_and_float32_losses():
    net, x, y = problem()
    kinds = []
    net.register_forward_hook(lambda module, args, out: kinds.append(out.dtype))

    def loss_fn(scores, y):
        kinds.append(scores.dtype)
        return F.cross_entropy(scores, y)

    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    history = fit(net, lambda epoch: [(x, y)], loss_fn, [sgd], epochs=1, steps_per_epoch=1, bf16=True)
    assert kinds == [torch.bfloat16, torch.float32]
    assert np.isfinite(history["loss"]).all()
    assert all(p.dtype == torch.float32 for p in net.parameters())


@pytest.mark.robustness
def test_bf16_is_used_where_it_pays_and_can_be_refused(monkeypatch):
    for capabilities, want in (({"avx512_bf16": True}, True), ({"avx512_bf16": False}, False), ({}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False)
        assert has_bf16("cpu") is want
        x = torch.randn(4, 4)
        with autocast("cpu"):
            assert (x @ x).dtype == (torch.bfloat16 if want else torch.float32)
        with autocast("cpu", False):
            assert (x @ x).dtype == torch.float32
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert has_bf16("cpu") is False  # an older PyTorch
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert has_bf16("cuda") is True
