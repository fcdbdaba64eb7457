"""Data-parallel training by hand: the mean of gradients, shares against the whole batch, and real processes."""

import os
import sys

import pytest
import torch
from torch import nn

from common.pytorch import parallel

pytestmark = pytest.mark.robustness


def test_average_gradients():
    net = nn.Linear(2, 3)
    others = [torch.randn_like(p) for p in net.parameters()]
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    own, left = [p.grad.clone() for p in net.parameters()], list(others)
    parallel.average_gradients(net, lambda tensor: tensor.add_(left.pop(0)), 2)
    for parameter, a, b in zip(net.parameters(), own, others, strict=True):
        torch.testing.assert_close(parameter.grad, (a + b) / 2)


def test_batches_and_weights_are_the_same_each_time():
    torch.manual_seed(3)
    want = torch.rand(2)
    torch.manual_seed(3)
    for make in (lambda: parallel.batch(2)[0], lambda: next(parallel.small_net().parameters())):
        assert torch.equal(make(), make())
    assert torch.equal(torch.rand(2), want), "the global stream is as it was"
    assert not torch.equal(parallel.batch(0)[0], parallel.batch(1)[0])


def test_two_processes_are_one_with_the_whole_batch(tmp_path, monkeypatch):
    """From another folder, and without the package on the path of the caller's environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    found = parallel.launch(2)
    assert found["processes"] == 2
    one = parallel.train_share(parallel.small_net())
    torch.testing.assert_close(found["plain"], one, rtol=0, atol=1e-13)
    start = torch.cat([p.detach().flatten() for p in parallel.small_net().parameters()])
    assert (one - start).abs().max() > 1e-3
    assert (found["batch_norm"] - parallel.train_share(parallel.small_net(batch_norm=True))).abs().max() > 1e-6
    assert not os.listdir(tmp_path)


def test_a_failure_says_what_the_processes_wrote(monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RuntimeError, match="2 processes ended with 1"):
        parallel.launch(2)


def test_bad_input_is_named():
    for processes, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="processes"):
            parallel.launch(processes)
    with pytest.raises(ValueError, match="3 processes cannot share a batch of 32 equally"):
        parallel.launch(3)
