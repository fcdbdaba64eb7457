"""Muon against torch.optim.SGD, torch.optim.Muon and the SVD, lookahead against closed forms, the triangle."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from common.pytorch import optim
from common.pytorch.optim import Lookahead, Muon, orthogonalise, triangle


@pytest.mark.learner
@given(st.floats(0, 1), st.floats(0.01, 0.99), st.floats(0, 1), st.floats(0, 1))
def test_triangle_against_interpolation(fraction, peak, start, end):
    want = np.interp(fraction, [0, peak, 1], [start, 1, end])
    assert triangle(fraction, peak, start, end) == pytest.approx(want, abs=1e-9)


@pytest.mark.learner
def test_triangle_without_a_rise_begins_at_one():
    assert [triangle(f, peak=0) for f in (0, 0.25, 1)] == [1, 0.75, 0]


@pytest.mark.robustness
@pytest.mark.parametrize("options", [{"fraction": 1.01}, {"fraction": -0.1}, {"fraction": 0.5, "peak": 1.0}])
def test_triangle_refuses(options):
    with pytest.raises(ValueError, match="fraction"):
        triangle(**options)


def matrix(shape, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).randn(*shape))


@pytest.mark.learner
@pytest.mark.parametrize("steps", [3, 5])
@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (16, 16)])
def test_orthogonalise_keeps_directions_and_levels_singular_values(shape, steps):
    G = matrix(shape)
    U, S, V = torch.linalg.svd(G, full_matrices=False)
    got = U.T @ orthogonalise(G, steps) @ V.T  # diagonal if the singular vectors are kept
    torch.testing.assert_close(got, torch.diag(got.diag()), atol=1e-6, rtol=0)
    large = 0.3 * S.max() < S
    assert large.sum() >= 3
    assert ((got.diag() > 0.5) & (got.diag() < 1.3))[large].all()


@pytest.mark.learner
def test_orthogonalise_ignores_scale_and_commutes_with_transposition():
    G = matrix((5, 9))
    torch.testing.assert_close(orthogonalise(1e4 * G), orthogonalise(G), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(orthogonalise(G.T), orthogonalise(G).T)


@pytest.mark.robustness
@pytest.mark.parametrize(("G", "steps"), [(torch.zeros(3), 3), (torch.zeros(2, 2), -1)])
def test_orthogonalise_refuses(G, steps):
    with pytest.raises(ValueError, match="G has shape"):
        orthogonalise(G, steps)


@pytest.mark.learner
def test_muon_without_orthogonalisation_is_sgd_with_nesterov_momentum(monkeypatch):
    monkeypatch.setattr(optim, "orthogonalise", lambda G, steps: G)
    p, q = (nn.Parameter(matrix((6, 2, 3, 3))) for _ in range(2))
    muon, sgd = Muon([p], lr=0.1, momentum=0.6), torch.optim.SGD([q], lr=0.1, momentum=0.6, nesterov=True)
    for seed in range(4):
        p.grad, q.grad = (matrix((6, 2, 3, 3), seed) for _ in range(2))
        q.data = 6**0.5 * nn.functional.normalize(q.data.flatten(), dim=0).view_as(q)  # filters of length 1 on average
        muon.step()
        sgd.step()
        torch.testing.assert_close(p, q)


@pytest.mark.learner
@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch is older than its own Muon")
def test_muon_steps_against_that_of_pytorch():
    """PyTorch averages gradients where ours adds them up; the orthogonalised step is the same, up to bfloat16."""
    p, q = (nn.Parameter(matrix((6, 20)).float()) for _ in range(2))
    ours = Muon([p], lr=0.1, momentum=0.6, steps=5)
    theirs = torch.optim.Muon([q], lr=0.1, momentum=0.6, weight_decay=0.0, ns_steps=5)
    for seed in range(4):
        p.grad, q.grad = (matrix((6, 20), seed).float() for _ in range(2))
        before = p.detach() * 6**0.5 / p.detach().norm(), q.detach().clone()
        ours.step()
        theirs.step()
        torch.testing.assert_close(p - before[0], q - before[1], atol=0.004, rtol=0)  # a step has entries up to 0.1


@pytest.mark.learner
def test_muon_brings_filters_to_length_one_on_average():
    p = nn.Parameter(7 * matrix((6, 2, 3, 3)))
    p.grad = torch.zeros_like(p)
    Muon([p], lr=0.1).step()
    assert p.detach().square().sum() == pytest.approx(6)


@pytest.mark.robustness
def test_muon_leaves_parameters_without_gradient_alone():
    p = nn.Parameter(matrix((4, 4)))
    before = p.detach().clone()
    Muon([p]).step()
    assert torch.equal(p, before)


@pytest.mark.robustness
def test_muon_allocates_a_velocity_once(monkeypatch):
    """It used to make a tensor of zeros for every filter in every step, and throw all but the first away."""
    made, zeros_like = [], torch.zeros_like
    monkeypatch.setattr(torch, "zeros_like", lambda *args, **options: made.append(1) or zeros_like(*args, **options))
    params = [nn.Parameter(matrix((4, 2, 3, 3), seed).float()) for seed in range(2)]
    muon = Muon(params)
    for _ in range(3):
        for p in params:
            p.grad = torch.ones_like(p)
        muon.step()
    assert len(made) == len(params)


@pytest.mark.robustness
def test_muon_resumes_from_its_state():
    grads = [matrix((4, 6), seed) for seed in range(4)]

    def steps(p, muon, chosen):
        for grad in chosen:
            p.grad = grad.clone()
            muon.step()
        return p

    whole = nn.Parameter(matrix((4, 6), 9))
    steps(whole, Muon([whole]), grads)
    first = nn.Parameter(matrix((4, 6), 9))
    before = Muon([first])
    steps(first, before, grads[:2])
    second = nn.Parameter(first.detach().clone())
    after = Muon([second])
    after.load_state_dict(before.state_dict())
    assert torch.equal(steps(second, after, grads[2:]), whole)


@pytest.mark.robustness
@pytest.mark.parametrize(
    ("options", "shape", "words"),
    [({"lr": -1}, (2, 2), "lr"), ({"momentum": 1.0}, (2, 2), "momentum"), ({}, (3,), r"\(3,\)")],
)
def test_muon_refuses(options, shape, words):
    with pytest.raises(ValueError, match=words):
        Muon([nn.Parameter(torch.zeros(shape))], **options)


@pytest.mark.learner
@given(st.floats(0, 1), st.integers(1, 12), st.floats(-2, 2))
@settings(deadline=None)
def test_lookahead_behind_weights_that_move_evenly(keep, steps, pace):
    """Fast weights that move by d between updates: each update moves both by (1 - keep) d."""
    p = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    ahead = Lookahead([p])
    for _ in range(steps):
        p.data += pace
        ahead.update(keep)
    want = torch.tensor([1.0, -2.0], dtype=torch.float64) + steps * (1 - keep) * pace
    torch.testing.assert_close(p.detach(), want)
    assert torch.equal(ahead.slow[0], p.detach())


@pytest.mark.learner
def test_lookahead_keeps_nothing_or_everything():
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    ahead = Lookahead([p])
    p.data += 3
    ahead.update(0.0)
    assert p.tolist() == [4, 5]
    p.data += 3
    ahead.update(1.0)
    assert p.tolist() == [4, 5]


@pytest.mark.robustness
@pytest.mark.parametrize("keep", [1.5, -0.1])
def test_lookahead_refuses(keep):
    with pytest.raises(ValueError, match="keep"):
        Lookahead([]).update(keep)
