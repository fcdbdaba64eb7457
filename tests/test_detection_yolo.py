"""The one-stage detector: its losses against loops, its layout on a wide map, batches without objects, inference."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from common.detection.anchors import GenerateProposal
from common.detection.boxes import IoU
from common.detection.detector import FrozenExtractor, select_anchors
from common.detection.matching import ReferenceOnActivatedAnchors
from common.detection.yolo import (
    BboxRegression,
    ConfScoreRegression,
    ObjectClassification,
    PredictionNetwork,
    SingleStageDetector,
    select_cells,
)

SEEDS = st.integers(0, 2**31 - 1)
OBJECTS = torch.tensor([[[1.0, 1, 3, 3, 2], [-1, -1, -1, -1, -1]], [[0, 0, 3, 2, 0], [2, 1, 4.5, 3, 1]]])


def numbered(B, A, D, H, W):
    """A table whose entries say where they are."""
    return torch.arange(B * A * D * H * W, dtype=torch.float64).view(B, A, D, H, W)


def maps(B=2, D=6, H=3, W=5, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).randn(B, D, H, W)).float()


def detector(**options):
    torch.manual_seed(0)
    return SingleStageDetector(**{"in_dim": 6, "hidden_dim": 8, "num_classes": 3, "rng": 0} | options)


class TestLayout:
    @pytest.mark.learner
    def test_anchors_of_a_wide_map(self):
        """Exchanging axes 2 and 4 instead of permuting gives other numbers here, though not where H = W = 1."""
        B, A, D, H, W = 2, 3, 4, 2, 5
        table = numbered(B, A, D, H, W)
        got = select_anchors(table, torch.arange(B * A * H * W))
        want = [table[b, a, :, i, j].tolist() for b in range(B) for a in range(A) for i in range(H) for j in range(W)]
        assert got.tolist() == want
        assert not torch.equal(table.transpose(2, 4).reshape(-1, D), got)

    @pytest.mark.learner
    def test_cells_of_a_wide_map(self):
        B, A, C, H, W = 2, 3, 4, 2, 5
        scores = numbered(B, 1, C, H, W)[:, 0]
        got = select_cells(scores, torch.arange(B * A * H * W), A)
        want = [scores[b, :, i, j].tolist() for b in range(B) for _ in range(A) for i in range(H) for j in range(W)]
        assert got.tolist() == want

    @pytest.mark.learner
    def test_number_of_parameters(self):
        assert sum(p.numel() for p in PredictionNetwork(1280).parameters()) == 172353

    @pytest.mark.learner
    def test_channels_and_ranges(self):
        """Channels of an anchor are conf, tx, ty, tw, th; the C class scores come last."""
        net = PredictionNetwork(6, 8, num_anchors=2, num_classes=3).eval()
        features = maps()
        raw = net.pred_layer(features)
        conf, offsets, scores = net(features)
        assert (conf.shape, offsets.shape, scores.shape) == ((2, 2, 3, 5), (2, 2, 4, 3, 5), (2, 3, 3, 5))
        torch.testing.assert_close(conf[:, 1], raw[:, 5].sigmoid())
        torch.testing.assert_close(offsets[:, 1, 0], raw[:, 6].sigmoid() - 0.5)
        torch.testing.assert_close(offsets[:, 1, 3], raw[:, 9])
        torch.testing.assert_close(scores, raw[:, 10:])
        assert offsets[:, :, :2].abs().max() < 0.5

    @pytest.mark.learner
    @pytest.mark.parametrize("M", [0, 1, 4])
    def test_training_takes_the_same_numbers(self, M):
        """A single positive keeps its axis."""
        net = PredictionNetwork(6, 8, num_anchors=2, num_classes=3).eval()
        features, rng = maps(), np.random.RandomState(1)
        pos, neg = torch.from_numpy(rng.randint(60, size=(2, M)))
        conf, offsets, scores = net(features, pos, neg)
        assert (conf.shape, offsets.shape, scores.shape) == ((2 * M, 1), (M, 4), (M, 3))
        all_conf, all_offsets, all_scores = net(features)
        for m, k in enumerate(pos.tolist()):
            b, a, i, j = np.unravel_index(k, (2, 2, 3, 5))
            assert conf[m] == all_conf[b, a, i, j]
            assert torch.equal(offsets[m], all_offsets[b, a, :, i, j])
            assert torch.equal(scores[m], all_scores[b, :, i, j])
        assert torch.equal(conf[M:, 0], all_conf.flatten()[neg])


class TestLosses:
    @pytest.mark.learner
    def test_known_numbers(self):
        conf = torch.tensor([[0.5], [0.8], [0.1], [0.4]])
        got = ConfScoreRegression(conf, torch.tensor([0.7, 0.6]))
        assert got.item() == pytest.approx((0.25 + 0.04 + 0.01 + 0.16) / 4)  # the targets are 1, not 0.7 and 0.6
        offsets = torch.tensor([[1.0, 2, 3, 4], [0, 0, 0, 1]])
        assert BboxRegression(offsets, torch.zeros(2, 4)).item() == pytest.approx(31 / 2)

    @pytest.mark.learner
    @settings(max_examples=25, deadline=None)
    @given(st.integers(1, 4), st.integers(0, 8), SEEDS)
    def test_classification_against_a_loop(self, B, M, seed):
        rng = np.random.RandomState(seed)
        scores, classes = torch.from_numpy(rng.randn(M, 5)), torch.from_numpy(rng.randint(5, size=M))
        index = torch.from_numpy(np.sort(rng.randint(B * 10, size=M)))
        want = 0.0
        for b in range(B):
            losses = [
                -scores[m].log_softmax(0)[classes[m]].item() for m in range(M) if 10 * b <= index[m] < 10 * (b + 1)
            ]
            want += np.mean(losses) / B if losses else 0.0
        assert ObjectClassification(scores, classes, B, 10, index).item() == pytest.approx(want)

    @pytest.mark.learner
    def test_nothing_gives_zero_with_a_gradient(self):
        scores = torch.zeros(0, 5, requires_grad=True)
        for loss in (
            ConfScoreRegression(scores[:, :1], torch.zeros(0)),
            BboxRegression(scores[:, :4], torch.zeros(0, 4)),
            ObjectClassification(scores, torch.zeros(0, dtype=torch.int64), 2, 10, torch.zeros(0, dtype=torch.int64)),
        ):
            assert loss.item() == 0
            loss.backward()


class TestDetector:
    @pytest.mark.learner
    def test_loss_from_the_table_of_all_predictions(self):
        model, features = detector(drop_ratio=0.0), maps()
        conf, offsets, scores = model.pred_network(features)
        grid, anchors = model.grid_and_anchors(features)
        pos, neg, _, want, classes, *_ = ReferenceOnActivatedAnchors(
            anchors, OBJECTS, grid, IoU(anchors, OBJECTS), neg_thresh=0.2, method="YOLO", rng=0
        )
        assert len(pos) == len(neg) == 3
        on, off = conf.flatten()[pos], conf.flatten()[neg]
        conf_loss = (((1 - on) ** 2).sum() + (off**2).sum()) / 6
        reg_loss, of_class = 0.0, {0: [], 1: []}
        for m, k in enumerate(pos.tolist()):
            b, a, i, j = np.unravel_index(k, (2, 9, 3, 5))
            reg_loss += ((offsets[b, a, :, i, j] - want[m]) ** 2).sum() / 3
            of_class[int(b)].append(-scores[b, :, i, j].log_softmax(0)[classes[m]])
        cls_loss = sum(sum(losses) / len(losses) for losses in of_class.values()) / 2
        parts = detector(drop_ratio=0.0).losses(features, OBJECTS)
        for name, value in {"conf": conf_loss, "reg": reg_loss, "cls": cls_loss}.items():
            torch.testing.assert_close(parts[name], value)
        torch.testing.assert_close(model(features, OBJECTS), conf_loss + reg_loss + cls_loss)

    @pytest.mark.learner
    @pytest.mark.parametrize(
        "boxes", [torch.full((2, 3, 5), -1.0), torch.zeros(2, 0, 5), torch.tensor([[[3.0, 3, 2, 5, 1]]] * 2)]
    )
    def test_no_objects(self, boxes):
        """Padding only, no rows, a box without area: the loss is finite and has a gradient."""
        model = detector()
        loss = model(maps(), boxes)
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())

    @pytest.mark.learner
    def test_one_image_with_objects_and_one_without(self):
        boxes = OBJECTS.clone()
        boxes[0] = -1
        model = detector(drop_ratio=0.0)
        model(maps(), boxes).backward()
        assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in model.parameters())

    @pytest.mark.learner
    def test_inference_against_a_loop_on_a_wide_map(self):
        model, features = detector(), maps()
        conf, offsets, scores = model.eval().pred_network(features)
        _, anchors = model.grid_and_anchors(features)
        boxes, confs, classes = model.inference(features, thresh=0.5, nms_thresh=1.0)  # nothing overlaps by more
        for b in range(2):
            want = []
            for a, i, j in np.ndindex(9, 3, 5):
                if conf[b, a, i, j] > 0.5:
                    box = GenerateProposal(anchors[b, a, i, j], offsets[b, a, :, i, j])
                    want.append((conf[b, a, i, j].item(), int(scores[b, :, i, j].argmax()), box.tolist()))
            want.sort(key=lambda row: -row[0])
            assert confs[b][:, 0].tolist() == [row[0] for row in want]
            assert classes[b][:, 0].tolist() == [row[1] for row in want]
            torch.testing.assert_close(boxes[b], torch.tensor([row[2] for row in want]))

    @pytest.mark.learner
    def test_inference_suppresses(self):
        boxes, confs, _ = detector().inference(maps(), thresh=0.0, nms_thresh=0.3)
        for rows, conf in zip(boxes, confs, strict=True):
            overlaps = IoU(rows.view(1, 1, 1, -1, 4), rows[None])[0].fill_diagonal_(0)
            assert overlaps.max() <= 0.3
            assert torch.equal(conf, conf.sort(dim=0, descending=True).values)

    @pytest.mark.learner
    def test_nothing_found(self):
        boxes, confs, classes = detector().inference(maps(), thresh=1.0)
        assert [x.shape for x in (*boxes, *confs, *classes)] == [(0, 4)] * 2 + [(0, 1)] * 4
        assert {x.dtype for x in (*boxes, *confs)} == {torch.float32}
        assert {x.dtype for x in classes} == {torch.int64}

    @pytest.mark.learner
    def test_it_overfits_three_scenes(self):
        """Boxes and classes of a handful of scenes are learned by heart."""
        model, features = detector(hidden_dim=64, drop_ratio=0.0), maps()
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(150):
            optimiser.zero_grad()
            loss = model(features, OBJECTS)
            loss.backward()
            optimiser.step()
        assert loss.item() < 0.1
        boxes, _, classes = model.inference(features, thresh=0.8, nms_thresh=0.3)
        for b, want in enumerate((OBJECTS[0, :1], OBJECTS[1])):
            overlaps = IoU(boxes[b].view(1, 1, 1, -1, 4), want[None])[0]
            best = overlaps.max(dim=0)
            assert best.values.min() > 0.8
            assert torch.equal(classes[b][best.indices, 0], want[:, 4].long())


class Tiny(nn.Module):
    """An extractor with batch normalisation: images of 16 x 24 pixels -> maps of 2 x 3."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 8, stride=8), nn.BatchNorm2d(6))

    def forward(self, x):
        return self.layers(x)


class TestExtractor:
    @pytest.mark.robustness
    def test_images_and_their_maps_give_the_same(self):
        model, images = detector(extractor=Tiny()), torch.randn(2, 3, 16, 24)
        features = model.extract(images)
        assert features.shape == (2, 6, 2, 3)
        for mine, theirs in zip(model.inference(images), model.inference(features), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))

    @pytest.mark.robustness
    def test_it_is_not_trained(self):
        """No gradient, and the averages of its batch normalisation stay."""
        tiny = Tiny()
        model = detector(extractor=tiny).train()
        before = {name: value.clone() for name, value in tiny.state_dict().items()}
        boxes = torch.tensor([[[0.0, 0, 1, 1, 0]]] * 2)
        model(torch.randn(2, 3, 16, 24), boxes).backward()
        assert all(p.grad is None and not p.requires_grad for p in tiny.parameters())
        assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())
        assert model.training
        assert not model.feat_extractor.training
        assert FrozenExtractor(lambda x: x).train()(torch.ones(1)).item() == 1

    @pytest.mark.robustness
    def test_half_precision_maps_of_a_cache(self):
        model = detector().eval()
        half = maps().half()
        for mine, theirs in zip(model.inference(half), model.inference(half.float()), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
        assert detector().double()(maps().double(), OBJECTS.double()).dtype == torch.float64


class TestBadInput:
    @pytest.mark.robustness
    @pytest.mark.parametrize(
        ("call", "what"),
        [
            (lambda d: d.inference(maps(), thresh=1.5), "thresh must be from 0 to 1"),
            (lambda d: d.inference(maps(), nms_thresh=-1), "nms_thresh must be from 0 to 1"),
            (lambda d: d.inference(torch.zeros(1, 3, 224, 224)), r"maps \(B, 6, H, W\) are needed"),
            (lambda d: d.inference(torch.zeros(6, 3, 5)), "images must have shape"),
            (lambda d: d(maps(), torch.tensor([[[0.0, 0, 2, 2, 3]]] * 2)), "class 3; allowed are 0 to 2"),
            (lambda d: d(maps(), torch.tensor([[[0.0, 0, 2, 2, -1]]] * 2)), "class -1; allowed"),
            (lambda d: d(maps(), torch.tensor([[[0.0, 0, 2, 2, 0.5]]] * 2)), "class 0.5; allowed"),
            (lambda d: d(maps(), torch.zeros(3, 1, 5)), "bboxes hold 3 images, the maps 2"),
            (lambda d: d(maps(), torch.zeros(2, 1, 4)), "bboxes must have shape"),
            (lambda d: detector(anchors=[(1, 0)]), "anchors must be pairs"),
            (lambda d: detector(anchors=[]), "anchors must be pairs"),
            (lambda d: detector(num_classes=0), "num_classes is 0"),
        ],
    )
    def test_is_named(self, call, what):
        with pytest.raises(ValueError, match=what):
            call(detector())

    @pytest.mark.robustness
    def test_an_extractor_of_other_maps(self):
        model = detector(extractor=nn.Conv2d(3, 5, 8))
        with pytest.raises(ValueError, match="an extractor that gives"):
            model.inference(torch.zeros(1, 3, 16, 16))

    @pytest.mark.robustness
    def test_inference_leaves_the_mode(self):
        model = detector().train()
        model.inference(maps())
        assert model.training
        assert model.pred_network.training
        once, again = (detector().train().inference(maps())[1] for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
