"""The two-stage detector: layout and losses of the RPN, a single positive, batches without objects, both inferences."""

import math

import numpy as np
import pytest
import torch

from common.detection.anchors import GenerateProposal
from common.detection.boxes import IoU
from common.detection.faster_rcnn import RPN, BboxRegression, ConfScoreRegression, ProposalModule, TwoStageDetector
from common.detection.roi_align import roi_align_naive
from tests.test_detection_yolo import OBJECTS, Tiny, maps

SMALL = {"in_dim": 6, "hidden_dim": 8, "num_classes": 3, "rng": 0}


def make(kind, **options):
    torch.manual_seed(0)
    return kind(**SMALL | options)


class TestProposalModule:
    @pytest.mark.learner
    def test_numbers_of_parameters(self):
        assert sum(p.numel() for p in ProposalModule(1280).parameters()) == 2963254
        assert sum(p.numel() for p in TwoStageDetector().cls_layer.parameters()) == 333076

    @pytest.mark.learner
    def test_channels(self):
        """Of an anchor: object, background, tx, ty, tw, th."""
        net, features = ProposalModule(6, 8, num_anchors=2).eval(), maps()
        raw = net.pred_layer(features)
        conf, offsets = net(features)
        assert (conf.shape, offsets.shape) == ((2, 2, 2, 3, 5), (2, 2, 4, 3, 5))
        assert torch.equal(conf[:, 1, 0], raw[:, 6])
        assert torch.equal(conf[:, 1, 1], raw[:, 7])
        assert torch.equal(offsets[:, 1], raw[:, 8:12])

    @pytest.mark.learner
    @pytest.mark.parametrize("M", [0, 1, 4])
    def test_training_takes_the_same_numbers_on_a_wide_map(self, M):
        """A single positive keeps its axis."""
        net, features = ProposalModule(6, 8, num_anchors=2).eval(), maps()
        pos, neg = torch.from_numpy(np.random.RandomState(1).randint(60, size=(2, M)))
        coord = torch.tensor([[1.0, 1, 2, 3]]).repeat(M, 1)
        conf, offsets, proposals = net(features, coord, pos, neg)
        assert (conf.shape, offsets.shape, proposals.shape) == ((2 * M, 2), (M, 4), (M, 4))
        all_conf, all_offsets = net(features)
        for m, k in enumerate(pos.tolist()):
            b, a, i, j = np.unravel_index(k, (2, 2, 3, 5))
            assert torch.equal(conf[m], all_conf[b, a, :, i, j])
            assert torch.equal(offsets[m], all_offsets[b, a, :, i, j])
        torch.testing.assert_close(proposals, GenerateProposal(coord, offsets, "FasterRCNN"))


class TestLosses:
    @pytest.mark.learner
    def test_known_numbers(self):
        """Logits of 0 cost log 2 each; the target of a positive is (1, 0), of a negative (0, 1)."""
        assert ConfScoreRegression(torch.zeros(4, 2), 2).item() == pytest.approx(8 * math.log(2) / 2)
        right = torch.tensor([[50.0, -50], [-50, 50]])
        assert ConfScoreRegression(right, 1).item() == pytest.approx(0, abs=1e-6)
        assert ConfScoreRegression(-right, 1).item() == pytest.approx(200)
        offsets = torch.tensor([[0.5, -0.5, 0, 0], [3, 0, 0, -2.0]])
        assert BboxRegression(offsets, torch.zeros(2, 4), 2).item() == pytest.approx((0.25 + 2.5 + 1.5) / 2)

    @pytest.mark.learner
    def test_fewer_negatives_than_positives(self):
        right = torch.tensor([[50.0, -50], [50, -50]])
        assert ConfScoreRegression(right, 1, num_positives=2).item() == pytest.approx(0, abs=1e-6)

    @pytest.mark.learner
    def test_nothing_gives_zero_with_a_gradient(self):
        none = torch.zeros(0, 4, requires_grad=True)
        loss = ConfScoreRegression(none[:, :2], 2) + BboxRegression(none, torch.zeros(0, 4), 2)
        loss.backward()
        assert loss.item() == 0


class TestRPN:
    @pytest.mark.learner
    def test_all_it_says(self):
        model, features = make(RPN, drop_ratio=0.0), maps()
        loss, conf, proposals, out, classes, pos, per_image = model(features, OBJECTS, output_mode="all")
        M = len(pos)
        assert (conf.shape, proposals.shape, classes.shape, per_image) == ((2 * M, 2), (M, 4), (M,), 9 * 15)
        assert torch.equal(out, features)
        assert set(classes.tolist()) == {0, 1, 2}
        assert classes[pos // per_image == 0].unique().tolist() == [2]
        assert make(RPN, drop_ratio=0.0)(features, OBJECTS).item() == pytest.approx(loss.item())

    @pytest.mark.learner
    def test_loss_is_conf_plus_five_times_offsets(self):
        features = maps()
        losses = []
        for w_conf, w_reg in ((1, 0), (0, 1), (1, 5)):
            model = make(RPN, drop_ratio=0.0)
            model.w_conf, model.w_reg = w_conf, w_reg
            losses.append(model(features, OBJECTS).item())
        assert losses[2] == pytest.approx(losses[0] + 5 * losses[1])
        assert make(RPN, drop_ratio=0.0)(features, OBJECTS).item() == pytest.approx(losses[2])

    @pytest.mark.learner
    def test_inference_against_a_loop_on_a_wide_map(self):
        model, features = make(RPN), maps()
        conf, offsets = model.eval().prop_module(features)
        _, anchors = model.grid_and_anchors(features)
        boxes, probs, classes = model.inference(features, thresh=0.5, nms_thresh=1.0)
        for b in range(2):
            want = []
            for a, i, j in np.ndindex(9, 3, 5):
                prob = conf[b, a, 0, i, j].sigmoid().item()
                if prob > 0.5:
                    box = GenerateProposal(anchors[b, a, i, j], offsets[b, a, :, i, j], "FasterRCNN")
                    want.append((prob, box.tolist()))
            want.sort(key=lambda row: -row[0])
            torch.testing.assert_close(probs[b][:, 0], torch.tensor([row[0] for row in want]))
            torch.testing.assert_close(boxes[b], torch.tensor([row[1] for row in want]))
            assert classes[b].shape == probs[b].shape
            assert not classes[b].any()

    @pytest.mark.robustness
    def test_modes(self):
        model = make(RPN)
        with pytest.raises(ValueError, match="output_mode must be"):
            model(maps(), OBJECTS, output_mode="none")
        with pytest.raises(ValueError, match="mode must be 'RPN' or 'FasterRCNN'"):
            model.inference(maps(), mode="YOLO")
        assert torch.equal(model.inference(maps(), mode="FasterRCNN")[2], maps())
        with pytest.raises(ValueError, match="thresh must be from 0 to 1"):
            model.inference(maps(), thresh=-0.5)


@pytest.mark.parametrize("kind", [RPN, TwoStageDetector])
class TestBoth:
    @pytest.mark.learner
    @pytest.mark.parametrize(
        "boxes", [torch.full((2, 3, 5), -1.0), torch.zeros(2, 0, 5), torch.tensor([[[3.0, 3, 2, 5, 1]]] * 2)]
    )
    def test_no_objects(self, kind, boxes):
        model = make(kind)
        loss = model(maps(), boxes)
        loss.backward()
        assert torch.isfinite(loss)
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())

    @pytest.mark.learner
    def test_no_negatives(self, kind):
        """On a map of one cell, with one anchor, which is positive."""
        model = make(kind, anchors=[(1, 1)])
        loss = model(maps(1, H=1, W=1), torch.tensor([[[0.0, 0, 1, 1, 2]]]))
        loss.backward()
        assert torch.isfinite(loss)

    @pytest.mark.learner
    def test_a_single_positive(self, kind):
        model = make(kind, anchors=[(2, 2)])
        loss = model(maps(1), torch.tensor([[[1.5, 0.5, 3.5, 2.5, 2]]]))
        loss.backward()
        assert torch.isfinite(loss)

    @pytest.mark.robustness
    def test_bad_input(self, kind):
        with pytest.raises(ValueError, match="class 3; allowed are 0 to 2"):
            make(kind)(maps(), torch.tensor([[[0.0, 0, 2, 2, 3]]] * 2))
        with pytest.raises(ValueError, match=r"maps \(B, 6, H, W\) are needed"):
            make(kind).inference(torch.zeros(1, 3, 224, 224))

    @pytest.mark.robustness
    def test_images_through_an_extractor(self, kind):
        model, images = make(kind, extractor=Tiny()), torch.randn(2, 3, 16, 24)
        found = model.inference(images), model.inference(model.extract(images) if kind is RPN else images)
        assert all(torch.equal(a, b) for a, b in zip(found[0][0], found[1][0], strict=True))
        assert len([p for p in model.parameters() if not p.requires_grad]) == 4


class TestTwoStageDetector:
    @pytest.mark.learner
    def test_loss_is_that_of_the_rpn_plus_the_classes(self):
        features = maps()
        model = make(TwoStageDetector, drop_ratio=0.0)
        rpn_loss, _, proposals, _, classes, pos, per_image = model.rpn(features, OBJECTS, output_mode="all")
        scores = model.class_scores(features, proposals, pos // per_image)
        logp = scores.log_softmax(dim=1)
        want = rpn_loss - sum(logp[m, c] for m, c in enumerate(classes)) / len(classes)
        got = make(TwoStageDetector, drop_ratio=0.0)(features, OBJECTS)
        assert got.item() == pytest.approx(want.item(), rel=1e-5)

    @pytest.mark.learner
    def test_features_of_a_proposal_by_hand(self):
        """RoIAlign of the box in its own image, rows before columns, and the mean of its cells."""
        model = make(TwoStageDetector, roi_output_w=3, roi_output_h=2, drop_ratio=0.0)
        features, boxes = maps(), torch.tensor([[0.0, 0.5, 3, 2.5], [1, 0, 4, 2]])
        pooled = [
            roi_align_naive(features[b], boxes[m], (2, 3), samples=1).mean(dim=(1, 2)) for m, b in enumerate((1, 0))
        ]  # bins of 1 x 1 cell: torchvision takes one point of each
        got = model.class_scores(features, boxes, torch.tensor([1, 0]))
        torch.testing.assert_close(got, model.cls_layer(torch.stack(pooled)))

    @pytest.mark.learner
    def test_inference(self):
        model, features = make(TwoStageDetector), maps()
        boxes, probs, classes = model.inference(features, thresh=0.5, nms_thresh=0.5)
        proposals, scores, _ = model.rpn.inference(features, 0.5, 0.5)
        model.eval()
        for b in range(2):
            assert torch.equal(boxes[b], proposals[b])
            assert torch.equal(probs[b], scores[b])
            image = torch.full((len(boxes[b]),), b)
            want = model.class_scores(features, boxes[b], image).argmax(dim=1, keepdim=True)
            assert torch.equal(classes[b], want)

    @pytest.mark.learner
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_images_without_a_proposal(self, dtype):
        """All of them, and one of two."""
        model = make(TwoStageDetector).to(dtype)
        features = maps().to(dtype)
        found = model.inference(features, thresh=1.0)
        assert [x.shape for column in found for x in column] == [(0, 4)] * 2 + [(0, 1)] * 4
        probs = [p.max().item() for p in model.inference(features, thresh=0.0)[1]]
        found = model.inference(features, thresh=(probs[0] + probs[1]) / 2)
        assert sorted(len(x) > 0 for x in found[0]) == [False, True]
        assert {x.dtype for x in found[0] + found[1]} == {dtype}
        assert {x.dtype for x in found[2]} == {torch.int64}

    @pytest.mark.learner
    def test_it_overfits_three_objects(self):
        model, features = make(TwoStageDetector, hidden_dim=64, drop_ratio=0.0), maps()
        optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(150):
            optimiser.zero_grad()
            loss = model(features, OBJECTS)
            loss.backward()
            optimiser.step()
        assert loss.item() < 0.3
        boxes, _, classes = model.inference(features, thresh=0.8, nms_thresh=0.3)
        for b, want in enumerate((OBJECTS[0, :1], OBJECTS[1])):
            best = IoU(boxes[b].view(1, 1, 1, -1, 4), want[None])[0].max(dim=0)
            assert best.values.min() > 0.7
            assert torch.equal(classes[b][best.indices, 0], want[:, 4].long())
