"""The fast CIFAR-10 recipe in PyTorch: whitening, augmentation, optimisers, schedule, training, evaluation."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from common.pytorch import augment
from common.pytorch import cifar_recipe as recipe_module
from common.pytorch.cifar_net import CifarNet, ConvBlock, identity_filters, whitening_filters
from common.pytorch.cifar_recipe import (
    DIAGONAL,
    Recipe,
    autocast,
    evaluate,
    has_bf16,
    optimisers,
    predict,
    train,
)
from common.pytorch.optim import Lookahead, Muon, orthogonalise, triangle

SMALL = Recipe(epochs=2, batch_size=20, widths=(6, 8, 8), bf16=False)


def pictures(count, seed=0, size=32):
    rng = np.random.RandomState(seed)
    coarse = rng.randint(0, 256, (count, 3, size // 4, size // 4)).repeat(4, 2).repeat(4, 3)
    return torch.from_numpy(np.clip(coarse + rng.randint(-20, 20, (count, 3, size, size)), 0, 255).astype(np.uint8))


def labels(count, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).randint(0, 10, count).astype(np.int64))


# Network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3])
def test_whitening_whitens(size):
    x = augment.normalise(pictures(40)).double()
    filters = whitening_filters(x, size, eps=0.0)
    half = 3 * size * size
    assert filters.shape == (2 * half, 3, size, size)
    answers = nn.functional.conv2d(x, filters).transpose(0, 1).flatten(1)  # (filters, patches)
    torch.testing.assert_close(torch.cov(answers[:half]), torch.eye(half, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(filters[half:], -filters[:half])
    strength = filters[:half].flatten(1).norm(dim=1)
    assert (strength.diff() >= 0).all(), "the direction of largest variance comes first and is divided by most"


def test_whitening_eps_tames_directions_without_variance():
    grey = augment.normalise(pictures(10))[:, :1].expand(-1, 3, -1, -1).double()
    filters = whitening_filters(grey, 2, eps=1e-2)
    assert filters.isfinite().all()
    assert filters.abs().max() <= 10 + 1e-6


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (torch.zeros(3, 8, 8), ValueError),
        (torch.zeros(2, 3, 1, 8), ValueError),
        (torch.zeros(1, 3, 2, 2), ValueError),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), TypeError),
    ],
)
def test_whitening_refuses(images, error):
    with pytest.raises(error, match="images"):
        whitening_filters(images)


@pytest.mark.parametrize(("count", "channels"), [(6, 4), (4, 4), (3, 5)])
def test_identity_filters_copy_channels(count, channels):
    weight = torch.randn(count, channels, 3, 3)
    old, x = weight.clone(), torch.randn(2, channels, 5, 5)
    identity_filters(weight)
    got, same = nn.functional.conv2d(x, weight, padding=1), min(count, channels)
    torch.testing.assert_close(got[:, :same], x[:, :same])
    assert torch.equal(weight[same:], old[same:])


def test_net_shapes_size_and_seed():
    net = CifarNet(whiten_with=augment.normalise(pictures(20)))
    assert net(torch.zeros(64, 3, 32, 32)).shape == (64, 10)
    convolutions = [(24, 64), (64, 64), (64, 256), (256, 256), (256, 256), (256, 256)]
    count = 24 * 3 * 2 * 2 + sum(a * b * 9 for a, b in convolutions) + 256 * 10
    assert sum(p.numel() for p in net.parameters() if p.ndim > 1) == count
    assert not net.whiten.weight.requires_grad
    assert net.whiten.bias.requires_grad
    assert CifarNet((4,), whiten_with=None).whiten.weight.requires_grad
    same, other = (CifarNet((4, 4), seed=seed).state_dict() for seed in (0, 1))
    again = CifarNet((4, 4), seed=0).state_dict()
    assert all(torch.equal(same[k], again[k]) for k in same)
    assert not torch.equal(same["head.weight"], other["head.weight"])


def test_net_does_not_depend_on_the_global_generator():
    torch.manual_seed(1)
    one = CifarNet((4, 4)).state_dict()
    torch.manual_seed(2)
    two = CifarNet((4, 4)).state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_block_is_what_it_says():
    block = ConvBlock(3, 5).double()
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    want = nn.functional.max_pool2d(nn.functional.conv2d(x, block.conv1.weight, padding=1), 2)
    for norm, conv in ((block.norm1, block.conv2), (block.norm2, None)):
        mean, var = want.mean((0, 2, 3), keepdim=True), want.var((0, 2, 3), unbiased=False, keepdim=True)
        want = nn.functional.gelu((want - mean) / (var + norm.eps).sqrt(), approximate="tanh")
        want = want if conv is None else nn.functional.conv2d(want, conv.weight, padding=1)
    torch.testing.assert_close(block(x), want)
    assert {name for name, p in block.named_parameters() if not p.requires_grad} == {"norm1.weight", "norm2.weight"}


@pytest.mark.parametrize(("widths", "classes"), [((), 10), ((0, 4), 10), ((4,), 0)])
def test_net_refuses(widths, classes):
    with pytest.raises(ValueError, match="widths"):
        CifarNet(widths, classes)


def test_save_and_load(tmp_path):
    net, other = CifarNet((4, 4), seed=0), CifarNet((4, 4), seed=1)
    net.save(tmp_path / "net.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt"]
    other.load(tmp_path / "net.pt")
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    with pytest.raises(ValueError, match="widths"):
        CifarNet((4, 5)).load(tmp_path / "net.pt")


class Evil:
    def __reduce__(self):
        return (print, ("run by a pickle",))


def test_load_runs_no_code(tmp_path, capsys):
    torch.save({"head.weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        CifarNet((4,)).load(tmp_path / "evil.pt")
    assert "run by a pickle" not in capsys.readouterr().out


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    net = CifarNet((4,))
    net.save(tmp_path / "net.pt")
    before = (tmp_path / "net.pt").read_bytes()
    monkeypatch.setattr(torch, "save", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        net.save(tmp_path / "net.pt")
    assert (tmp_path / "net.pt").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


# Augmentation ------------------------------------------------------------------------------------------------


def test_normalise():
    x = pictures(3)
    got = augment.normalise(x, torch.float64)
    want = (x.double() / 255 - torch.tensor(augment.MEAN).double().view(3, 1, 1)) / torch.tensor(augment.STD).view(
        3, 1, 1
    )
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)


@given(st.integers(3, 8), st.integers(3, 8), st.integers(0, 2))
@settings(deadline=None, max_examples=20)
def test_pad_is_numpys(height, width, margin):
    x = np.random.RandomState(0).randint(0, 256, (2, 3, height, width)).astype(np.uint8)
    want = np.pad(x, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="reflect")
    np.testing.assert_array_equal(augment.pad_reflect(torch.from_numpy(x), margin), want)


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=20)
def test_crop_and_mirror_against_a_loop(seed):
    rng = np.random.RandomState(seed)
    x, (top, left), flip = torch.from_numpy(rng.rand(5, 3, 9, 10)), rng.randint(0, 4, (2, 5)), rng.rand(5) < 0.5
    got = augment.mirror(augment.crop(x, torch.from_numpy(top), torch.from_numpy(left), 6), torch.from_numpy(flip))
    for i in range(5):
        want = x[i, :, top[i] : top[i] + 6, left[i] : left[i] + 6].numpy()
        np.testing.assert_array_equal(got[i], want[:, :, ::-1] if flip[i] else want)


def test_alternating_flips_show_both_sides_in_two_epochs():
    coin = torch.rand(50) < 0.5
    first, second, third = (augment.flips(coin, epoch) for epoch in range(3))
    assert (first ^ second).all()
    assert torch.equal(first, third)
    assert not augment.flips(coin, 1, "none").any()
    draws = [augment.flips(coin, 0, "random", torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*draws)
    assert 0 < draws[0].sum() < 50


def test_views():
    x = pictures(2)
    centre, down, flipped, _ = augment.views(x, ((0, 0), (1, 0)))
    assert torch.equal(centre, x)
    assert torch.equal(down[:, :, 1:], x[:, :, :-1])
    assert torch.equal(down[:, :, 0], x[:, :, 1])
    assert torch.equal(flipped, x.flip(3))
    assert len(augment.views(x, ((0, 0), (1, 0)), mirrored=False)) == 2


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: augment.normalise(torch.zeros(1, 3, 4, 4)), TypeError, "uint8"),
        (lambda: augment.normalise(torch.zeros(1, 1, 4, 4, dtype=torch.uint8)), ValueError, "images"),
        (lambda: augment.pad_reflect(pictures(1), 32), ValueError, "margin"),
        (lambda: augment.pad_reflect(pictures(1), -1), ValueError, "margin"),
        (lambda: augment.crop(torch.zeros(1, 3, 4, 4), torch.zeros(1), torch.zeros(1)), ValueError, "padded"),
        (lambda: augment.crop(torch.zeros(2, 3, 4, 4), torch.zeros(1), torch.zeros(2), 3), ValueError, "top and left"),
        (lambda: augment.flips(torch.ones(2) > 0, 0, "sometimes"), ValueError, "how"),
        (lambda: augment.views(pictures(1), ()), ValueError, "shifts"),
    ],
)
def test_augmentation_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()


# Optimisers and schedule -------------------------------------------------------------------------------------


def test_triangle():
    got = [triangle(f, peak=0.25, start=0.2, end=0.1) for f in (0, 0.125, 0.25, 0.625, 1)]
    np.testing.assert_allclose(got, [0.2, 0.6, 1.0, 0.55, 0.1])
    assert triangle(0, peak=0) == 1
    assert triangle(1) == 0
    for bad in ({"fraction": 1.01}, {"fraction": -0.1}, {"fraction": 0.5, "peak": 1.0}):
        with pytest.raises(ValueError, match="fraction"):
            triangle(**bad)


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (6, 6)])
def test_orthogonalise_keeps_directions_and_levels_strengths(shape):
    G = torch.from_numpy(np.random.RandomState(0).randn(*shape))
    U, S, V = torch.linalg.svd(G, full_matrices=False)
    got = U.T @ orthogonalise(G, steps=5) @ V.T  # diagonal if the singular vectors are kept
    torch.testing.assert_close(got, torch.diag(got.diag()), atol=1e-6, rtol=0)
    s, (a, b, c) = S / S.norm(), (3.4445, -4.7750, 2.0315)
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    torch.testing.assert_close(got.diag(), s, atol=1e-5, rtol=0)
    assert ((got.diag() > 0.5) & (got.diag() < 1.3))[0.05 * S.max() < S].all()
    with pytest.raises(ValueError, match="G has shape"):
        orthogonalise(torch.zeros(3))


def test_muon_step_is_the_formula():
    torch.manual_seed(0)
    p = nn.Parameter(torch.randn(6, 2, 3, 3, dtype=torch.float64))
    muon, want, velocity = Muon([p], lr=0.1, momentum=0.6), p.detach().clone(), torch.zeros(6, 18, dtype=torch.float64)
    for _ in range(3):
        p.grad = torch.randn_like(p)
        grad = p.grad.flatten(1).clone()
        velocity = 0.6 * velocity + grad
        unit = want.flatten(1) * 6**0.5 / want.norm()
        want = (unit - 0.1 * orthogonalise(grad + 0.6 * velocity)).view(want.shape)
        muon.step()
        torch.testing.assert_close(p.detach(), want)


@pytest.mark.parametrize(
    ("options", "shape", "words"),
    [({"lr": -1}, (2, 2), "lr"), ({"momentum": 1.0}, (2, 2), "momentum"), ({}, (3,), r"\(3,\)")],
)
def test_muon_refuses(options, shape, words):
    with pytest.raises(ValueError, match=words):
        Muon([nn.Parameter(torch.zeros(shape))], **options)


def test_lookahead_is_the_formula():
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    ahead, slow = Lookahead([p]), np.array([1.0, 2.0])
    for keep in (0.5, 0.9, 0.0):
        with torch.no_grad():
            p += 3
        slow = keep * slow + (1 - keep) * p.detach().numpy()
        ahead.update(keep)
        np.testing.assert_allclose(p.detach(), slow, rtol=1e-6)
    with pytest.raises(ValueError, match="keep"):
        ahead.update(1.5)


@pytest.mark.parametrize("muon", [True, False])
def test_every_trained_parameter_has_one_optimiser(muon):
    net = CifarNet((4, 4), whiten_with=augment.normalise(pictures(9)))
    groups = [g for o in optimisers(net, replace(SMALL, muon=muon)) for g in o.param_groups]
    held = [id(p) for g in groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in net.parameters() if p.requires_grad)
    shrink = {round(g["lr"] * g["weight_decay"], 12) for g in groups if "weight_decay" in g}
    assert shrink == {round(SMALL.decay * SMALL.batch_size, 12)}


# Training and evaluation -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"muon": False, "warm_up": 0.3},
        {"lookahead": True, "whiten": False, "identity": False},
        {"flip": "random", "translate": 0, "smoothing": 0.0, "constant": True},
    ],
)
def test_training_is_deterministic_and_learns(changes):
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


def test_overfits_a_few_pictures():
    x, y = pictures(40), labels(40)
    recipe = replace(SMALL, epochs=30, widths=(16, 16, 16), translate=0, flip="none")
    net, history = train(x, y, recipe)
    assert evaluate(net, x, y, bf16=False) == 1.0
    assert history["loss"][0] > 2


def test_training_does_not_touch_what_it_is_given():
    x, y = pictures(40), labels(40)
    x0, y0 = x.clone(), y.clone()
    train(x, y, SMALL)
    assert torch.equal(x, x0)
    assert torch.equal(y, y0)


def test_whitening_stays_and_its_bias_stops():
    x, y = pictures(40), labels(40)
    net, _ = train(x, y, replace(SMALL, whiten_bias_epochs=0))
    torch.testing.assert_close(net.whiten.weight.detach(), whitening_filters(augment.normalise(x)))
    assert not net.whiten.bias.any()
    assert train(x, y, SMALL)[0].whiten.bias.any()


def test_lookahead_ends_on_the_slow_weights(monkeypatch):
    keeps = []
    update = Lookahead.update
    monkeypatch.setattr(Lookahead, "update", lambda self, keep: (keeps.append(keep), update(self, keep))[1])
    train(pictures(100), labels(100), replace(SMALL, lookahead=True))
    np.testing.assert_allclose(keeps, [0.95**5 * 0.5**3, 0.95**5, 1.0])


def test_prediction_is_the_mean_over_the_views():
    x, net = pictures(7), CifarNet((4, 4))
    got = predict(net, x, DIAGONAL, mirrored=True, batch_size=3, bf16=False)
    padded = augment.pad_reflect(x, 1)
    batches = [padded[:, :, 1 - s : 33 - s, 1 - s : 33 - s] for s in (0, 1, -1)]
    net.eval()
    with torch.no_grad():
        scores = [net(augment.normalise(b)) for batch in batches for b in (batch, batch.flip(3))]
    torch.testing.assert_close(got, torch.stack(scores).mean(0))
    torch.testing.assert_close(predict(net, x, bf16=False), scores[0])


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


def test_training_in_bf16_works_and_gives_finite_float32_scores():
    x, y = pictures(40), labels(40)
    net, history = train(x, y, replace(SMALL, bf16=True))
    scores = predict(net, x, bf16=True)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    assert np.isfinite(history["loss"]).all()
    assert all(p.dtype == torch.float32 for p in net.parameters())


@pytest.mark.parametrize(
    "changes", [{"epochs": 0}, {"batch_size": 1}, {"translate": -1}, {"smoothing": 1.0}, {"flip": "twice"}]
)
def test_recipe_refuses(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        replace(SMALL, **changes)


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


def test_the_default_recipe_is_within_ten_epochs():
    assert Recipe().epochs <= 10
    assert recipe_module.PLAIN == ((0, 0),)
