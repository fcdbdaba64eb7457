"""Style transfer: losses against loops and by their properties, features, and a descent that moves the right way."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from common.vision import gradients, images, stages, style_transfer
from common.vision.backbone import Backbone

SIZES = st.integers(1, 4)
SEEDS = st.integers(0, 1000)


def maps(*shape, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).randn(*shape))


def small_net(seed=0):
    """Four stages, the second of which works in place; trainable and in training mode."""
    torch.manual_seed(seed)
    convolutions = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(6, 8, 3, 2, padding=1), nn.Tanh()
    return nn.Sequential(*convolutions).train()


def small_backbone():
    torch.manual_seed(0)
    parts = {"a": nn.Conv2d(3, 4, 3, 2, 1), "b": nn.Sequential(nn.Tanh(), nn.Conv2d(4, 5, 3, 2, 1))}
    return Backbone(parts, nn.Flatten(), [0.5] * 3, [0.25] * 3, "b")


def photo(size=(24, 32), seed=0):
    """A random picture of soft shapes."""
    rough = np.random.RandomState(seed).randint(0, 256, (4, 4, 3)).astype(np.uint8)
    return Image.fromarray(rough).resize(size[::-1], Image.Resampling.BICUBIC)


def run(net=None, **options):
    """A few steps on two small pictures."""
    settings = {"content_image": photo(), "style_image": photo(seed=1), "image_size": 16, "style_size": 20}
    settings |= {"content_layer": 2, "content_weight": 1.0, "style_layers": (0, 3), "style_weights": (30.0, 10.0)}
    settings |= {"tv_weight": 1e-3, "num_iterations": 10, "learning_rate": 0.1} | options
    return style_transfer.style_transfer(**settings, model=net or small_net())


class TestContentLoss:
    @pytest.mark.learner
    def test_value_and_gradient(self):
        F, P = maps(1, 3, 4, 5).requires_grad_(), maps(1, 3, 4, 5, seed=1)
        loss = style_transfer.content_loss(0.3, F, P)
        np.testing.assert_allclose(loss.item(), 0.3 * ((F - P).detach().numpy() ** 2).sum())
        loss.backward()
        np.testing.assert_allclose(F.grad, 0.6 * (F - P).detach())
        assert style_transfer.content_loss(0.3, F, F) == 0

    @pytest.mark.robustness
    def test_shapes_that_differ_are_named(self):
        with pytest.raises(ValueError, match=r"one shape, got \(1, 3, 4, 5\) and \(1, 3, 5, 4\)"):
            style_transfer.content_loss(1.0, maps(1, 3, 4, 5), maps(1, 3, 5, 4))


class TestGramMatrix:
    @pytest.mark.learner
    @settings(max_examples=25, deadline=None)
    @given(SIZES, SIZES, SIZES, SIZES, SEEDS)
    def test_against_loops(self, N, C, H, W, seed):
        F = maps(N, C, H, W, seed=seed)
        kept = F.clone()
        got, raw = style_transfer.gram_matrix(F), style_transfer.gram_matrix(F, normalize=False)
        assert got.shape == (N, C, C)
        for n, c, d in np.ndindex(N, C, C):
            want = sum(F[n, c, i, j] * F[n, d, i, j] for i, j in np.ndindex(H, W))
            np.testing.assert_allclose(raw[n, c, d], want, atol=1e-12)
            np.testing.assert_allclose(got[n, c, d], want / (C * H * W), atol=1e-12)
        assert torch.equal(F, kept)

    @pytest.mark.learner
    @settings(max_examples=25, deadline=None)
    @given(SIZES, SIZES, SIZES, SEEDS)
    def test_properties(self, C, H, W, seed):
        F = maps(1, C, H, W, seed=seed)
        gram = style_transfer.gram_matrix(F)
        torch.testing.assert_close(gram, gram.transpose(1, 2))
        assert torch.linalg.eigvalsh(gram).min() > -1e-12
        torch.testing.assert_close(gram[0].trace(), (F**2).mean())  # of C H W numbers
        order = torch.from_numpy(np.random.RandomState(seed).permutation(H * W))
        torch.testing.assert_close(style_transfer.gram_matrix(F.flatten(2)[:, :, order].view_as(F)), gram)
        torch.testing.assert_close(style_transfer.gram_matrix(F.repeat(1, 1, 2, 3)), gram)

    @pytest.mark.learner
    def test_what_is_not_contiguous(self):
        F = maps(2, 5, 4, 3).permute(0, 3, 2, 1)  # (2, 3, 4, 5)
        torch.testing.assert_close(style_transfer.gram_matrix(F), style_transfer.gram_matrix(F.contiguous()))

    @pytest.mark.learner
    def test_a_mask_chooses_places(self):
        F, mask = maps(2, 3, 4, 5), torch.zeros(1, 1, 4, 5, dtype=torch.float64)
        torch.testing.assert_close(style_transfer.gram_matrix(F, mask=mask + 0.5), style_transfer.gram_matrix(F))
        mask[..., 1:3, 2:] = 1
        torch.testing.assert_close(
            style_transfer.gram_matrix(F, mask=mask), style_transfer.gram_matrix(F[:, :, 1:3, 2:])
        )

    @pytest.mark.robustness
    def test_bad_input_is_named(self):
        with pytest.raises(ValueError, match=r"features must have shape \(N, C, H, W\).*got \(3, 4, 5\)"):
            style_transfer.gram_matrix(maps(3, 4, 5))
        for mask in (torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 5), -torch.ones(1, 1, 4, 5)):
            with pytest.raises(ValueError, match=r"mask must have shape \(1, 1, 4, 5\)"):
                style_transfer.gram_matrix(maps(1, 3, 4, 5), mask=mask)


class TestStyleLoss:
    @pytest.mark.learner
    def test_is_the_weighted_sum_of_squared_differences(self):
        feats = [maps(1, c, 6, 6, seed=c) for c in (2, 3, 4)]
        others = [maps(1, c, 5, 7, seed=c + 10) for c in (4, 2)]
        targets = [style_transfer.gram_matrix(other) for other in others]
        want = 0
        for layer, target, weight in ((2, targets[0], 3.0), (0, targets[1], 0.5)):
            F = feats[layer][0].flatten(1).numpy()
            want += weight * ((F @ F.T / F.size - target[0].numpy()) ** 2).sum()
        got = style_transfer.style_loss(feats, (2, 0), targets, (3.0, 0.5))
        np.testing.assert_allclose(got.item(), want)

    @pytest.mark.learner
    def test_is_zero_on_the_style_itself_and_masked_only_there(self):
        feats = [maps(1, 3, 8, 8), maps(1, 4, 4, 4)]
        left = torch.zeros(1, 1, 8, 8)
        left[..., :4] = 1
        targets = [style_transfer.gram_matrix(feats[0][..., :4]), style_transfer.gram_matrix(feats[1][..., :2])]
        # A mask is made smaller by averaging over neighbours, whose weights are single precision.
        np.testing.assert_allclose(style_transfer.style_loss(feats[:1], [0], targets[:1], [1.0], left), 0, atol=1e-12)
        assert style_transfer.style_loss(feats, [0, 1], targets, [1.0, 1.0]) > 0.01
        whole = [style_transfer.gram_matrix(f) for f in feats]
        assert style_transfer.style_loss(feats, [0, 1], whole, [1.0, 1.0]) == 0
        assert style_transfer.style_loss(feats, [], [], []) == 0

    @pytest.mark.robustness
    def test_bad_input_is_named(self):
        feats, target = [maps(1, 3, 4, 4)] * 2, torch.zeros(1, 3, 3)
        with pytest.raises(ValueError, match="2 style_layers, but 1 style_weights"):
            style_transfer.style_loss(feats, [0, 1], [target] * 2, [1.0])
        with pytest.raises(ValueError, match="2 style_layers, but 1 style_targets"):
            style_transfer.style_loss(feats, [0, 1], [target], [1.0, 1.0])
        for layer in (2, -1):
            with pytest.raises(ValueError, match=f"style_layers is {layer}"):
                style_transfer.style_loss(feats, [layer], [target], [1.0])
        for wrong in (torch.zeros(1, 1, 1), torch.zeros(1, 4, 4), torch.zeros(3, 3)):
            with pytest.raises(ValueError, match=r"style_targets.*\(1, 3, 3\)"):
                style_transfer.style_loss(feats, [0], [wrong], [1.0])


class TestTotalVariation:
    @pytest.mark.learner
    @settings(max_examples=25, deadline=None)
    @given(SIZES, SIZES, st.floats(0, 10), SEEDS)
    def test_against_loops(self, H, W, weight, seed):
        img, want = maps(1, 3, H, W, seed=seed), 0.0
        for c, i, j in np.ndindex(3, H, W):
            want += float((img[0, c, i, j] - img[0, c, i + 1, j]) ** 2) if i + 1 < H else 0
            want += float((img[0, c, i, j] - img[0, c, i, j + 1]) ** 2) if j + 1 < W else 0
        np.testing.assert_allclose(style_transfer.tv_loss(img, weight).item(), weight * want, atol=1e-12)

    @pytest.mark.learner
    def test_known_values(self):
        assert style_transfer.tv_loss(torch.full((1, 3, 5, 5), 7.0), 2.0) == 0
        for shape in ((1, 1, 1, 2), (1, 1, 2, 1)):
            step = torch.tensor([1.0, 4.0]).reshape(shape)
            assert style_transfer.tv_loss(step, 0.5) == 0.5 * 3**2

    @pytest.mark.robustness
    def test_bad_input_is_named(self):
        with pytest.raises(ValueError, match="img must have shape"):
            style_transfer.tv_loss(maps(3, 4, 4), 1.0)
        with pytest.raises(TypeError, match="img must be a floating-point tensor"):
            style_transfer.tv_loss(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), 1.0)


class TestFeatures:
    @pytest.mark.learner
    def test_the_output_of_every_stage(self):
        """Also of a convolution that is followed by a ReLU in place."""
        net, x = small_net(), maps(2, 3, 8, 8).float()
        kept, feats = x.clone(), style_transfer.extract_features(x, net)
        want = [net[0](x), net[0](x).relu(), net[2](net[0](x).relu()), net[2](net[0](x).relu()).tanh()]
        for got, right in zip(feats, want, strict=True):
            torch.testing.assert_close(got, right)
        assert torch.equal(x, kept)
        assert len(style_transfer.extract_features(x, net, 1)) == 2
        holder = nn.Module()
        holder.features = net
        torch.testing.assert_close(style_transfer.extract_features(x, holder)[3], want[3])

    @pytest.mark.robustness
    def test_backbones_bring_names_and_their_normalisation(self):
        net, picture = small_backbone(), photo((40, 60))
        feats, X = style_transfer.features_from_img(picture, 32, net)
        assert X.shape == (1, 3, 32, 48)
        torch.testing.assert_close(feats[1], net.features(X, "b"))
        assert not feats[1].requires_grad
        small = np.array(picture.resize((48, 32), Image.Resampling.BICUBIC), np.float32) / 255
        torch.testing.assert_close(X[0], (torch.from_numpy(small).permute(2, 0, 1) - 0.5) / 0.25)
        assert [style_transfer.layer_index(net, layer) for layer in ("a", "b", 0, 1)] == [0, 1, 0, 1]
        with pytest.raises(ValueError, match="unknown layer 'c'; there are a, b"):
            style_transfer.layer_index(net, "c")

    @pytest.mark.robustness
    def test_pictures_come_in_four_ways(self, tmp_path):
        net, picture = small_net(), photo((24, 32))
        picture.save(tmp_path / "p.png")
        ways = picture, np.array(picture), tmp_path / "p.png", str(tmp_path / "p.png")
        first, *others = (stages.as_input(way, 12, net) for way in ways)
        assert first.shape == (1, 3, 12, 16)
        assert all(torch.equal(first, other) for other in others)
        torch.testing.assert_close(first, images.preprocess(picture, 12))
        assert torch.equal(stages.as_input(first, 12, net), first)
        assert stages.as_input(first, 6, net).shape == (1, 3, 6, 8)

    def test_features_divided_by_a_factor(self):
        """Inputs ten times as large give features ten times as large, so both changes together cancel."""
        fire = nn.Sequential(nn.Conv2d(6, 4, 3, bias=False), nn.ReLU())
        net = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(inplace=True), nn.MaxPool2d(2), fire, nn.Conv2d(4, 5, 1))
        x = maps(1, 3, 16, 20).float()
        with torch.no_grad():
            before = stages.extract_features(x, net)
            stages.divide_features(net, 10)
            for f, g in zip(before, stages.extract_features(x, net), strict=True):
                torch.testing.assert_close(10 * g, f)

    @pytest.mark.robustness
    def test_features_that_cannot_be_divided_are_named(self):
        net = small_net()  # ends with a tanh
        kept = net[0].weight.clone()
        with pytest.raises(ValueError, match="scale with their input, not Tanh"):
            stages.divide_features(net, 2)
        for factor in (0, -1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="factor must be a finite number above 0"):
                stages.divide_features(net, factor)
        assert torch.equal(net[0].weight, kept)

    @pytest.mark.robustness
    def test_bad_input_is_named(self, tmp_path):
        net, bad = small_net(), torch.zeros(1, 3, 8, 8)
        bad[0, 0, 0, 0] = float("nan")
        for call in (lambda: stages.as_input(bad, 8, net), lambda: stages.extract_features(bad, net)):
            with pytest.raises(ValueError, match="not finite"):
                call()
        with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\), got float64 \(4, 4, 3\)"):
            stages.as_input(np.zeros((4, 4, 3)), 4, net)
        with pytest.raises(FileNotFoundError):
            stages.as_input(tmp_path / "none.png", 4, net)
        with pytest.raises(ValueError, match="size"):
            stages.as_input(photo(), 0, net)
        with pytest.raises(TypeError, match="Sequential is needed, got Linear"):
            stages.extract_features(torch.zeros(1, 3, 8, 8), nn.Linear(3, 3))
        pool = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(3))
        with pytest.raises(ValueError, match=r"stage 1 cannot take a map of \(1, 4, 2, 2\)"):
            stages.extract_features(torch.zeros(1, 3, 4, 4), pool)


class TestStyleTransfer:
    @pytest.mark.learner
    def test_no_steps_give_the_content_picture_back(self):
        img, history = run(num_iterations=0)
        torch.testing.assert_close(img, images.preprocess(photo(), 16))
        assert history == {"content": [], "style": [], "tv": [], "total": []}

    @pytest.mark.learner
    @pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
    def test_the_loss_falls_and_is_recorded(self, optimizer):
        rate = 0.02 if optimizer == "adam" else None
        img, history = run(optimizer=optimizer, num_iterations=40, learning_rate=rate)
        parts = [history[name] for name in ("content", "style", "tv")]
        np.testing.assert_allclose(history["total"], np.sum(parts, axis=0), rtol=1e-5)
        assert len(history["total"]) == 40 if optimizer == "adam" else 40 <= len(history["total"]) <= 100
        assert history["content"][0] == 0, "it starts from the content picture"
        assert min(history["total"]) < 0.7 * history["total"][0], "less is not possible without losing content"
        assert not img.requires_grad
        assert img.grad is None

    @pytest.mark.robustness
    @pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
    def test_smooth_changes_are_mostly_large_shapes(self, optimizer):
        start, changes, rate = images.preprocess(photo(), 16), [], 0.005 if optimizer == "adam" else None
        for smooth in (0.0, 1.5):
            img, history = run(smooth=smooth, optimizer=optimizer, num_iterations=40, learning_rate=rate)
            assert min(history["total"]) < 0.9 * history["total"][0]
            spectrum = torch.fft.fft2(img - start).abs() ** 2
            changes.append((spectrum[..., 4:13, 4:13].sum() / spectrum.sum()).item())
            low, high = gradients.valid_range(None, img)
            assert ((img >= low) & (img <= high)).all()
        assert changes[1] < 0.3 * changes[0], "share of the high frequencies"

    @pytest.mark.robustness
    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 6), st.integers(1, 6), st.floats(0, 2))
    def test_pink_divides_frequencies_and_keeps_the_variance(self, h, w, power):
        answers = torch.stack([style_transfer.pink(e.view(1, 1, h, w), power) for e in torch.eye(h * w).double()])
        matrix = answers.view(h * w, h * w)
        torch.testing.assert_close(matrix, matrix.T)  # a filter that is the same in both directions
        torch.testing.assert_close((matrix**2).sum(1), torch.ones(h * w).double(), atol=1e-4, rtol=0)
        z, f = torch.fft.fft2(matrix[0].view(h, w)).abs().numpy(), (np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None])
        f = np.maximum(np.hypot(*f), 1 / max(h, w))
        np.testing.assert_allclose(z * f**power, (z * f**power)[0, 0], rtol=1e-4)

    @pytest.mark.learner
    def test_pixels_stay_within_the_limits(self):
        for limit in (None, 1.5):
            img, _ = run(learning_rate=3.0, limit=limit, num_iterations=5)
            low, high = gradients.valid_range(None, img) if limit is None else (-limit, limit)
            assert ((img >= low) & (img <= high)).all()
        assert img.abs().max() == 1.5, "this rate drives pixels to the limit"

    @pytest.mark.learner
    def test_without_style_it_inverts_features(self):
        """Identity features of noise: the picture comes back."""
        net = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False))
        with torch.no_grad():
            net[0].weight.copy_(torch.eye(3)[:, :, None, None])
        options = {"content_layer": 0, "style_layers": (), "style_weights": (), "tv_weight": 0.0, "init_random": True}
        img, history = run(net, **options, num_iterations=300, rng=0)
        torch.testing.assert_close(img, images.preprocess(photo(), 16), atol=0.02, rtol=0)
        assert set(history["style"]) == {0.0}

    @pytest.mark.learner
    def test_without_content_it_makes_texture(self):
        _, history = run(content_weight=0.0, init_random=True, num_iterations=80, learning_rate=0.05, rng=0)
        assert history["style"][-1] < 0.1 * history["style"][0]
        assert set(history["content"]) == {0.0}

    @pytest.mark.learner
    def test_a_mask_keeps_the_style_on_its_side(self):
        """Style features are the colours themselves: what is outside the mask has no gradient."""
        net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Tanh())
        left = np.zeros((16, 16))
        left[:, :8] = 1
        options = {"content_layer": 0, "content_weight": 0.0, "style_layers": [1], "style_weights": [100.0]}
        options |= {"tv_weight": 0.0, "content_image": photo((16, 16))}
        img, _ = run(net, style_image=[photo(seed=1)], masks=[left], **options)
        start = images.preprocess(photo((16, 16)), 16)
        assert torch.equal(img[..., 8:], start[..., 8:])
        assert (img[..., :8] - start[..., :8]).abs().max() > 0.1
        both, _ = run(net, style_image=[photo(seed=1), photo(seed=2)], masks=[left, 1 - left], **options)
        torch.testing.assert_close(both[..., :8], img[..., :8])
        assert (both[..., 8:] - start[..., 8:]).abs().max() > 0.1

    @pytest.mark.learner
    def test_the_network_and_the_pictures_stay(self):
        net, picture = small_net(), images.preprocess(photo(), 16)
        kept = picture.clone()
        run(net, content_image=picture, num_iterations=3)
        assert torch.equal(picture, kept)
        assert net.training
        assert all(p.requires_grad and p.grad is None for p in net.parameters())

    @pytest.mark.robustness
    def test_shows_repeats_and_takes_names(self):
        seen = []
        options = {"init_random": True, "show_every": 4, "show": lambda X, step: seen.append(step)}
        a, b = (run(rng=3, **options)[0] for _ in range(2))
        assert torch.equal(a, b)
        assert seen == [4, 8, 4, 8]
        assert not torch.equal(a, run(rng=4, **options)[0])
        by_name, by_index = (
            run(small_backbone(), image_size=32, content_layer=c, style_layers=[s], style_weights=[9.0])[0]
            for c, s in (("b", "a"), (1, 0))
        )
        assert torch.equal(by_name, by_index)

    @pytest.mark.robustness
    @pytest.mark.parametrize("name", style_transfer.PRESETS)
    def test_presets_are_arguments_that_fit_their_networks(self, name):
        preset = style_transfer.PRESETS[name]
        layers = ["stem", *(f"blocks.{i}" for i in range(7)), "head"] if name == "efficientnet_lite0" else range(13)
        assert {preset["content_layer"], *preset["style_layers"]} <= set(layers)
        assert len(preset["style_layers"]) == len(preset["style_weights"])
        net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *(nn.Tanh() for _ in range(12)))
        places = {"content_layer": 3, "style_layers": range(len(preset["style_layers"]))}
        small = {"image_size": 16, "style_size": 16, "num_iterations": 2}
        img, history = run(net, **(preset | places | small | {"learning_rate": preset.get("learning_rate")}))
        assert img.isfinite().all()
        assert len(history["total"]) == 2

    @pytest.mark.robustness
    def test_the_rate_falls_for_the_last_tenth(self):
        frames = []
        run(num_iterations=20, show_every=1, show=lambda X, step: frames.append(X.clone()), learning_rate=0.03)
        moved = [(b - a).abs().max().item() for a, b in pairwise(frames)]
        assert min(moved[:17]) > 0.01
        np.testing.assert_allclose(moved[17:18], 0.001, rtol=0.01)  # a new Adam's first step is its rate

    @pytest.mark.robustness
    def test_bad_input_is_named(self):
        for options, message in (
            ({"style_weights": (1.0,)}, "2 style_layers, but 1 style_weights"),
            ({"style_layers": (0, 4)}, "layer is 4"),
            ({"content_layer": 9}, "layer is 9"),
            ({"optimizer": "sgd"}, "optimizer must be 'adam' or 'lbfgs', got 'sgd'"),
            ({"limit": 0}, "limit must be"),
            ({"smooth": -1}, "smooth must be"),
            ({"num_iterations": -1}, "num_iterations"),
            ({"show_every": -1}, "show_every"),
            ({"style_image": [photo(), photo()]}, "each style picture needs a mask, got 2 pictures and 0 masks"),
            ({"masks": [np.zeros((4, 4))]}, r"values from 0 to 1, not all 0, got \(4, 4\)"),
            ({"masks": [np.full((4, 4), 2.0)]}, "masks must be"),
            ({"masks": [np.ones(4)]}, "masks must be"),
        ):
            with pytest.raises(ValueError, match=message):
                run(**options)
        with pytest.raises(TypeError, match="layer must be an integer"):
            run(content_layer="b")
