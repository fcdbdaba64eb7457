"""The recipe for CIFAR-10: reproducible training, its switches, and evaluation over views."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import functional as vision

from common.pytorch import cifar_recipe
from common.pytorch.augment import normalise, pad_reflect
from common.pytorch.cifar_net import CifarNet, whitening_filters
from common.pytorch.cifar_recipe import DIAGONAL, Recipe, augmented_batches, evaluate, optimisers, predict, train
from common.pytorch.optim import Lookahead
from tests.random_pictures import labels, pictures

SMALL = Recipe(epochs=2, batch_size=20, widths=(6, 8, 8), bf16=False)


@pytest.mark.learner
@pytest.mark.parametrize("translate", [0, 2])
def test_augmented_batches_show_each_picture_once_in_a_window_of_its_own(translate):
    """Every picture of a batch is found among the windows of the padded original with its label."""
    x, y = pictures(23), torch.arange(23)  # labels that tell the pictures apart
    padded, flip = pad_reflect(x, translate), torch.rand(23, generator=torch.Generator().manual_seed(1)) < 0.5
    batches = list(augmented_batches(padded, y, flip, 5, torch.Generator().manual_seed(0)))
    chosen = torch.cat([names for _, names in batches])
    assert [len(names) for _, names in batches] == [5] * 4
    assert len(set(chosen.tolist())) == 20
    assert not torch.equal(chosen, chosen.sort().values)
    places = range(2 * translate + 1)
    found = set()
    for picture, name in ((p, n) for batch, names in batches for p, n in zip(batch, names, strict=True)):
        source = vision.hflip(padded[name]) if flip[name] else padded[name]
        windows = {(i, j): normalise(source[None, :, i : i + 32, j : j + 32])[0] for i in places for j in places}
        matches = [place for place, window in windows.items() if torch.equal(window, picture)]
        assert matches
        found.update(matches)
    assert len(found) >= (10 if translate else 1)


@pytest.mark.learner
@pytest.mark.parametrize("muon", [True, False])
def test_every_trained_parameter_has_one_optimiser(muon):
    net = CifarNet((4, 4), whiten_with=normalise(pictures(9)))
    groups = [g for o in optimisers(net, replace(SMALL, muon=muon)) for g in o.param_groups]
    held = [id(p) for g in groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in net.parameters() if p.requires_grad)
    shrink = {round(g["lr"] * g["weight_decay"], 12) for g in groups if "weight_decay" in g}
    assert shrink == {round(SMALL.decay * SMALL.batch_size, 12)}


@pytest.mark.robustness
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"muon": False, "warm_up": 0.3},
        {"lookahead": True, "whiten": False, "identity": False},
        {"flip": "random", "translate": 0, "smoothing": 0.0, "constant": True},
    ],
)
def test_training_is_deterministic_and_recorded(changes):
    x, y = pictures(45), labels(45)
    recipe, calls = replace(SMALL, epochs=3, **changes), []
    net, history = train(x, y, recipe, val=(x, y), seed=4, on_step=lambda *step: calls.append(step))
    again, _ = train(x, y, recipe, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
    assert calls == [(i, 6) for i in range(1, 7)]
    assert {k: len(v) for k, v in history.items()} == {
        "loss": 6,
        "rate": 6,
        **dict.fromkeys(("train_acc", "val_acc", "seconds", "cpu_seconds"), 3),
    }
    assert np.isfinite(history["loss"]).all()
    assert not net.training
    other, _ = train(x, y, recipe, seed=5)
    assert not torch.equal(net.head.weight, other.head.weight)


@pytest.mark.robustness
def test_seed_is_also_that_of_order_and_augmentation(monkeypatch):
    initial_net = cifar_recipe.initial_net
    monkeypatch.setattr(cifar_recipe, "initial_net", lambda images, recipe, device, seed: initial_net(images, recipe))
    one, two = (train(pictures(40), labels(40), SMALL, seed=seed)[0] for seed in (4, 5))
    assert not torch.equal(one.head.weight, two.head.weight)


@pytest.mark.robustness
def test_history_holds_the_mean_loss_of_a_batch():
    """A step that changes only the scale of the filters, which batch norm divides out: the same batch, once more."""
    x, y = pictures(20), labels(20)
    still = replace(SMALL, epochs=1, filter_rate=1e-30, head_rate=1e-30, bias_rate=1e-30, decay=0.0, translate=0)
    still = replace(still, flip="none", smoothing=0.3)
    net, history = train(x, y, still)
    want = nn.functional.cross_entropy(net.train()(normalise(x)), y, label_smoothing=0.3).item()
    assert history["loss"] == [pytest.approx(want, rel=1e-4)]


@pytest.mark.learner
def test_overfits_a_few_pictures():
    x, y = pictures(40), labels(40)
    recipe = replace(SMALL, epochs=30, widths=(16, 16, 16), translate=0, flip="none")
    net, history = train(x, y, recipe)
    assert evaluate(net, x, y, bf16=False) == 1.0
    assert history["loss"][0] > 2


@pytest.mark.robustness
def test_training_does_not_touch_what_it_is_given():
    x, y = pictures(40), labels(40)
    x0, y0 = x.clone(), y.clone()
    train(x, y, SMALL)
    assert torch.equal(x, x0)
    assert torch.equal(y, y0)


@pytest.mark.robustness
def test_whitening_stays_and_its_bias_stops():
    x, y = pictures(40), labels(40)
    net, _ = train(x, y, replace(SMALL, whiten_bias_epochs=0))
    torch.testing.assert_close(net.whiten.weight.detach(), whitening_filters(normalise(x)))
    assert not net.whiten.bias.any()
    assert train(x, y, SMALL)[0].whiten.bias.any()


@pytest.mark.robustness
def test_lookahead_acts_every_five_steps_and_ends_on_the_slow_weights(monkeypatch):
    made, at = [], []

    class Watched(Lookahead):
        def __init__(self, params):
            super().__init__(params)
            made.append(self)

        def update(self, keep):
            super().update(keep)
            at.append(keep)

    monkeypatch.setattr(cifar_recipe, "Lookahead", Watched)
    counts = []
    net, _ = train(
        pictures(120), labels(120), replace(SMALL, lookahead=True), on_step=lambda *_: counts.append(len(at))
    )
    assert counts == [0] * 4 + [1] * 5 + [2] * 2 + [3]  # 12 steps: after 5, after 10, and at the end
    assert at == sorted(at), "the slow weights follow less and less"
    assert 0 < at[0] < at[1] < at[2] == 1
    assert all(torch.equal(p, slow) for p, slow in zip(net.parameters(), made[0].slow, strict=True))


@pytest.mark.learner
def test_prediction_is_the_mean_over_the_views():
    x, net = pictures(7), CifarNet((4, 4))
    got = predict(net, x, DIAGONAL, mirrored=True, batch_size=3, bf16=False)
    padded = pad_reflect(x, 1)
    batches = [padded[:, :, 1 - s : 33 - s, 1 - s : 33 - s] for s in (0, 1, -1)]
    net.eval()
    with torch.no_grad():
        scores = [net(normalise(b)) for batch in batches for b in (batch, vision.hflip(batch))]
    torch.testing.assert_close(got, torch.stack(scores).mean(0))
    torch.testing.assert_close(predict(net, x, bf16=False), scores[0])


@pytest.mark.robustness
@pytest.mark.parametrize("training", [True, False])
def test_prediction_restores_the_mode_and_leaves_statistics_alone(training):
    net = CifarNet((4, 4)).train(training)
    before = copy.deepcopy(net.state_dict())
    evaluate(net, pictures(5), labels(5))
    assert net.training is training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    with pytest.raises(TypeError, match="uint8"):
        predict(net, torch.zeros(2, 3, 32, 32))
    assert net.training is training


@pytest.mark.robustness
def test_training_in_bf16_works_and_gives_finite_float32_scores():
    x, y = pictures(40), labels(40)
    net, history = train(x, y, replace(SMALL, bf16=True))
    scores = predict(net, x, bf16=True)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    assert np.isfinite(history["loss"]).all()
    assert all(p.dtype == torch.float32 for p in net.parameters())


@pytest.mark.robustness
@pytest.mark.parametrize(
    "changes", [{"epochs": 0}, {"batch_size": 1}, {"translate": -1}, {"smoothing": 1.0}, {"flip": "twice"}]
)
def test_recipe_refuses(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        replace(SMALL, **changes)


@pytest.mark.robustness
@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        (pictures(5), labels(5), ValueError, "batch of 20"),
        (pictures(20), labels(19), ValueError, "labels"),
        (pictures(20), labels(20).float(), ValueError, "labels"),
        (pictures(20).float(), labels(20), TypeError, "uint8"),
    ],
)
def test_training_refuses(x, y, error, words):
    with pytest.raises(error, match=words):
        train(x, y, SMALL)


@pytest.mark.robustness
def test_evaluate_counts():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return nn.functional.one_hot(torch.arange(len(x)) % 10, 10).float() + self.weight

    y = torch.arange(20) % 10
    y[:5] = 9
    assert evaluate(Fixed(), pictures(20), y, bf16=False) == 0.75
    with pytest.raises(ValueError, match="labels"):
        evaluate(Fixed(), pictures(20), y[:3])
