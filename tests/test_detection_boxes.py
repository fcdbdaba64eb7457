"""Units of boxes, overlap, non-maximum suppression and RoIAlign, against loops, closed forms and torchvision."""

import math

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from common.detection.boxes import IoU, coord_trans, is_object, is_padding, nms, pairwise_iou
from common.detection.roi_align import bilinear, roi_align_naive

SEEDS = st.integers(0, 2**31 - 1)


def random_boxes(rng, *shape, size=7.0):
    """Boxes with an area, some of them beginning left of 0 or above it."""
    corners = torch.from_numpy(rng.uniform(-1.5, size, (*shape, 2)))
    return torch.cat((corners, corners + torch.from_numpy(rng.uniform(0.1, size, (*shape, 2)))), dim=-1)


def iou_loop(a, b):
    """The textbook, one pair at a time."""
    out = torch.zeros(len(a), len(b), dtype=torch.float64)
    for i, p in enumerate(a.tolist()):
        for j, q in enumerate(b.tolist()):
            w = max(0, min(p[2], q[2]) - max(p[0], q[0]))
            h = max(0, min(p[3], q[3]) - max(p[1], q[1]))
            union = (p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1]) - w * h
            out[i, j] = w * h / union
    return out


class TestCoordTrans:
    @pytest.mark.learner
    def test_known_numbers(self):
        boxes = torch.tensor([[[1.0, 2, 3, 4, 9, 0.5]], [[1.0, 2, 3, 4, -1, 0.5]]])
        got = coord_trans(boxes, torch.tensor([70, 140]), torch.tensor([700, 7]), mode="a2p")
        want = [[[10.0, 200, 30, 400, 9, 0.5]], [[20.0, 2, 60, 4, -1, 0.5]]]
        torch.testing.assert_close(got, torch.tensor(want))

    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(st.integers(1, 4), st.integers(0, 5), st.integers(1, 9), st.integers(1, 9), SEEDS)
    def test_there_and_back(self, B, N, w_amap, h_amap, seed):
        rng = np.random.RandomState(seed)
        boxes = torch.cat((random_boxes(rng, B, N), torch.zeros(B, N, 1)), dim=-1)
        w, h = torch.from_numpy(rng.randint(20, 600, (2, B)))
        pixels = coord_trans(boxes, w, h, w_amap, h_amap, mode="a2p")
        torch.testing.assert_close(coord_trans(pixels, w, h, w_amap, h_amap, mode="p2a"), boxes)

    @pytest.mark.learner
    def test_padding_stays_and_a_coordinate_of_minus_one_does_not(self):
        boxes = torch.tensor([[[-1.0, -1, 2, 3, 0], [-1, -1, -1, -1, -1], [-1, -1, -1, 5, -1]]])
        got = coord_trans(boxes, torch.tensor([14]), torch.tensor([21]))
        assert got.tolist() == [[[-2, -3, 4, 9, 0], [-1, -1, -1, -1, -1], [-2, -3, -2, 15, -1]]]
        assert is_padding(boxes).tolist() == [[False, True, False]]

    @pytest.mark.learner
    def test_anchors_of_a_wide_map(self):
        anchors = torch.arange(2 * 3 * 4 * 5 * 4.0).view(2, 3, 4, 5, 4)
        got = coord_trans(anchors, torch.tensor([50, 100]), torch.tensor([80, 40]), w_amap=5, h_amap=4)
        want = anchors * torch.tensor([[10.0, 20, 10, 20], [20, 10, 20, 10]]).view(2, 1, 1, 1, 4)
        torch.testing.assert_close(got, want)

    @pytest.mark.robustness
    def test_one_image_without_a_batch(self):
        got = coord_trans(torch.tensor([[1.0, 1, 2, 2, 3, 0.5]]), torch.tensor(70), 140)
        assert got.tolist() == [[10, 20, 20, 40, 3, 0.5]]

    @pytest.mark.robustness
    def test_changes_nothing_and_keeps_gradient_and_dtype(self):
        boxes = torch.ones(1, 2, 4, dtype=torch.float64, requires_grad=True)
        coord_trans(boxes, [14], [7]).sum().backward()
        assert boxes.grad.tolist() == [[[2, 1, 2, 1]] * 2]
        assert coord_trans(boxes, [14], [7]).dtype == torch.float64
        empty = torch.zeros(0, 4)
        assert coord_trans(empty, torch.tensor(5), torch.tensor(5)) is empty

    @pytest.mark.robustness
    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ({"mode": "x"}, "mode must be"),
            ({"w_pixel": [0, 5]}, "must be above 0"),
            ({"h_pixel": [1, 2, 3]}, "must be above 0"),
            ({"w_amap": -7}, "must be above 0"),
            ({"bbox": torch.zeros(2, 3)}, "bbox must be"),
            ({"bbox": [[1, 2, 3, 4]]}, "bbox must be"),
        ],
    )
    def test_bad_input(self, change, what):
        good = {"bbox": torch.ones(2, 3, 5), "w_pixel": [7, 7], "h_pixel": [7, 7], "mode": "p2a"}
        with pytest.raises(ValueError, match=what):
            coord_trans(**(good | change))


class TestIoU:
    @pytest.mark.learner
    def test_known_numbers(self):
        """36 / 164 and 9 / 191."""
        proposals = torch.tensor([[5.0, 5, 15, 15], [27, 27, 37, 37]]).view(1, 1, 1, 2, 4)
        boxes = torch.tensor([[[1.0, 1, 11, 11, 0], [20, 20, 30, 30, 0]]])
        got = IoU(proposals, boxes)[0]
        torch.testing.assert_close(got, torch.tensor([[0.21951219, 0], [0, 0.04712042]]))

    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 4), SEEDS)
    def test_against_a_loop_and_torchvision(self, B, A, H, W, N, seed):
        rng = np.random.RandomState(seed)
        proposals, boxes = random_boxes(rng, B, A, H, W), random_boxes(rng, B, N)
        got = IoU(proposals, torch.cat((boxes, torch.zeros(B, N, 1)), dim=-1))
        assert got.shape == (B, A * H * W, N)
        for b in range(B):
            rows = proposals[b].reshape(-1, 4)
            torch.testing.assert_close(got[b], iou_loop(rows, boxes[b]))
            torch.testing.assert_close(got[b], torchvision.ops.box_iou(rows, boxes[b]))

    @pytest.mark.learner
    def test_boxes_without_area_overlap_nothing(self):
        """Padding, a point, a line, a box that ends before it begins: with themselves, too, 0 and not NaN."""
        odd = torch.tensor([[-1.0, -1, -1, -1], [2, 2, 2, 2], [2, 1, 2, 5], [5, 5, 1, 1], [5, 0, 1, 6]])
        good = torch.tensor([[-2.0, -2, 6, 6]])
        assert pairwise_iou(odd, torch.cat((odd, good))).eq(0).all()
        assert is_object(torch.cat((odd, good))).tolist() == [False] * 5 + [True]

    @pytest.mark.robustness
    def test_integers_and_gradients(self):
        assert pairwise_iou(torch.tensor([[0, 0, 2, 2]]), torch.tensor([[1, 0, 3, 2]])).item() == pytest.approx(1 / 3)
        a = torch.tensor([[0.0, 0, 2, 2]], dtype=torch.float64, requires_grad=True)
        b = torch.tensor([[1.0, 0.5, 3, 2.5]], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(pairwise_iou, (a, b))

    @pytest.mark.robustness
    def test_bad_input(self):
        boxes = torch.zeros(2, 3, 5)
        with pytest.raises(ValueError, match="proposals must have shape"):
            IoU(boxes, boxes)
        with pytest.raises(ValueError, match="proposals hold 1 images"):
            IoU(torch.zeros(1, 1, 1, 1, 4), boxes)
        with pytest.raises(TypeError, match="bboxes must be a tensor"):
            IoU(torch.zeros(1, 1, 1, 1, 4), [1])


def nms_loop(boxes, scores, threshold):
    """The definition: the best that is left stays and removes what it overlaps."""
    left, kept = list(np.argsort(-scores.numpy(), kind="stable")), []
    while left:
        best = left.pop(0)
        kept.append(int(best))
        left = [i for i in left if iou_loop(boxes[[best]], boxes[[i]]).item() <= threshold]
    return kept


class TestNms:
    @pytest.mark.learner
    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 50), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), SEEDS)
    def test_against_a_loop(self, N, threshold, seed):
        rng = np.random.RandomState(seed)
        boxes, scores = random_boxes(rng, N), torch.from_numpy(rng.randint(0, 20, N) / 20)
        assert nms(boxes, scores, threshold).tolist() == nms_loop(boxes, scores, threshold)

    @pytest.mark.learner
    @pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
    def test_five_thousand_boxes_against_torchvision(self, threshold):
        rng = np.random.RandomState(0)
        corners = rng.randint(0, 101, (5000, 2))
        boxes = torch.from_numpy(np.hstack((corners, corners + rng.randint(0, 101, (5000, 2)) + 1))).float()
        scores = torch.from_numpy(rng.rand(5000))
        ours, theirs = nms(boxes, scores, threshold), torchvision.ops.nms(boxes, scores.float(), threshold)
        different = len(set(ours.tolist()) ^ set(theirs.tolist()))
        assert different / len(theirs) < 1e-3

    @pytest.mark.learner
    def test_none_one_and_topk(self):
        none = nms(torch.zeros(0, 4), torch.zeros(0))
        assert none.shape == (0,)
        assert none.dtype == torch.int64
        assert nms(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0.1])).tolist() == [0]
        apart = torch.tensor([[0.0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]])
        scores = torch.tensor([[0.2], [0.9], [0.5]])
        assert nms(apart, scores).tolist() == [1, 2, 0]
        assert nms(apart, scores, topk=2).tolist() == [1, 2]
        assert nms(apart, scores, topk=0).tolist() == []

    @pytest.mark.learner
    def test_what_was_removed_removes_nothing(self):
        """The second box overlaps both others, but the first removes it, so the third stays."""
        chain = torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4], [4, 0, 8, 4]])
        assert nms(chain, torch.tensor([0.9, 0.8, 0.7]), 0.3).tolist() == [0, 2]

    @pytest.mark.robustness
    def test_an_overlap_equal_to_the_threshold_stays(self):
        halves = torch.tensor([[0.0, 0, 2, 1], [0, 0, 1, 1]])
        assert nms(halves, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0, 1]

    @pytest.mark.robustness
    @pytest.mark.parametrize(
        ("arguments", "what"),
        [
            ((torch.zeros(2, 4), torch.zeros(3)), "scores for 2 boxes"),
            ((torch.zeros(2, 4), torch.zeros(2), 1.5), "iou_threshold must be from 0 to 1"),
            ((torch.zeros(2, 4), torch.zeros(2), -0.1), "iou_threshold must be from 0 to 1"),
            ((torch.zeros(2, 4), torch.zeros(2), math.nan), "iou_threshold must be from 0 to 1"),
            ((torch.zeros(2, 4), torch.zeros(2), 0.5, -1), "topk of at least 0"),
            ((torch.zeros(4), torch.zeros(1)), "boxes must have shape"),
        ],
    )
    def test_bad_input(self, arguments, what):
        with pytest.raises(ValueError, match=what):
            nms(*arguments)


class TestRoiAlign:
    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), SEEDS)
    def test_against_torchvision(self, H, W, h, w, samples, seed):
        rng = np.random.RandomState(seed)
        features, box = torch.from_numpy(rng.randn(2, H, W)), random_boxes(rng, 1, size=6.0)
        want = torchvision.ops.roi_align(features[None], [box], (h, w), 1.0, samples, aligned=True)[0]
        torch.testing.assert_close(roi_align_naive(features, box[0], (h, w), samples), want)

    @pytest.mark.learner
    def test_constant_and_ramp(self):
        """A constant map gives the constant; the map x gives the centres of the bins."""
        x, y = torch.meshgrid(torch.arange(7) + 0.5, torch.arange(5) + 0.5, indexing="xy")
        maps = torch.stack((torch.full_like(x, 3.0), x, y))
        got = roi_align_naive(maps, torch.tensor([1.0, 1.0, 5.0, 3.0]), (2, 2))
        torch.testing.assert_close(got[0], torch.full((2, 2), 3.0))
        torch.testing.assert_close(got[1], torch.tensor([[2.0, 4.0], [2.0, 4.0]]))
        torch.testing.assert_close(got[2], torch.tensor([[1.5, 1.5], [2.5, 2.5]]))

    @pytest.mark.robustness
    def test_far_outside_is_zero(self):
        assert bilinear(torch.ones(2, 3, 3), -0.6, 1.0).tolist() == [0, 0]
        assert bilinear(torch.ones(2, 3, 3), 0.0, 1.0).tolist() == [1, 1]

    @pytest.mark.robustness
    def test_bad_input(self):
        with pytest.raises(ValueError, match="features must have shape"):
            roi_align_naive(torch.zeros(3, 3), torch.zeros(4), (2, 2))
        with pytest.raises(ValueError, match="h is 0"):
            roi_align_naive(torch.zeros(1, 3, 3), torch.zeros(4), (0, 2))
