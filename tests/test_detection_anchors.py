"""Cells, anchors, offsets and matching: closed forms, loops, and numbers of three images of VOC 2007."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.detection.anchors import ANCHORS, GenerateAnchor, GenerateGrid, GenerateProposal, encode_offsets
from common.detection.boxes import IoU, coord_trans
from common.detection.matching import ReferenceOnActivatedAnchors

SEEDS = st.integers(0, 2**31 - 1)
SIZES = torch.tensor(ANCHORS, dtype=torch.float64)


def tables(B=1, W=7, H=7, sizes=SIZES):
    grid = GenerateGrid(B, W, H, dtype=torch.float64)
    return grid, GenerateAnchor(sizes, grid)


def reference(boxes, W=7, H=7, method="YOLO", **options):
    """All that ReferenceOnActivatedAnchors says about boxes (B, N, 5)."""
    grid, anchors = tables(len(boxes), W, H)
    iou = IoU(anchors, boxes)
    return ReferenceOnActivatedAnchors(anchors, boxes, grid, iou, method=method, **options), anchors, iou


def scenes(seed, B, N, W=7, H=7):
    """Boxes (B, N, 5) inside a map, some rows padding."""
    rng = np.random.RandomState(seed)
    first, last = np.sort(rng.uniform(0, 1, (2, B, N, 2)), axis=0)
    size = np.array((W, H))
    rows = np.concatenate((first * size, last * size + 0.01, rng.randint(0, 20, (B, N, 1))), axis=-1)
    rows[rng.rand(B, N) < 0.3] = -1
    return torch.from_numpy(rows)


class TestGridAndAnchors:
    @pytest.mark.learner
    def test_centres_of_a_wide_map(self):
        grid = GenerateGrid(2, w_amap=5, h_amap=3)
        assert grid.shape == (2, 3, 5, 2)
        assert grid[1, 2, 4].tolist() == [4.5, 2.5]
        assert grid[0, 0, :, 0].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]

    @pytest.mark.learner
    def test_known_numbers(self):
        _, anchors = tables(3)
        assert anchors.shape == (3, 9, 7, 7, 4)
        means = anchors[0, [1, 3, 6, 8]].mean(dim=0)
        assert means[0, 0].tolist() == [-1.25, -0.875, 2.25, 1.875]
        assert (means[0, 3] - means[0, 0]).tolist() == [3, 0, 3, 0]
        assert (means[2, 0] - means[0, 0]).tolist() == [0, 2, 0, 2]

    @pytest.mark.learner
    def test_every_anchor_of_a_wide_map(self):
        _, anchors = tables(1, W=4, H=2)
        for a, (w, h) in enumerate(ANCHORS):
            for i in range(2):
                for j in range(4):
                    want = [j + 0.5 - w / 2, i + 0.5 - h / 2, j + 0.5 + w / 2, i + 0.5 + h / 2]
                    assert anchors[0, a, i, j].tolist() == want

    @pytest.mark.robustness
    def test_dtype_and_bad_input(self):
        assert GenerateGrid(1).dtype == torch.float32
        assert GenerateAnchor(torch.ones(2, 2, dtype=torch.int64), GenerateGrid(1)).dtype == torch.float32
        with pytest.raises(ValueError, match="w_amap is 0"):
            GenerateGrid(1, w_amap=0)
        with pytest.raises(ValueError, match="anc must have shape"):
            GenerateAnchor(torch.ones(2), GenerateGrid(1))
        with pytest.raises(ValueError, match="grid must have shape"):
            GenerateAnchor(torch.ones(2, 2), torch.zeros(7, 7, 2))


class TestProposals:
    @pytest.mark.learner
    def test_known_numbers(self):
        anchor = torch.tensor([[1.0, 2, 5, 4]], dtype=torch.float64)  # centre (3, 3), 4 wide, 2 high
        e = math.e
        yolo = GenerateProposal(anchor, torch.tensor([[0.5, 0.5, 1, 1]], dtype=torch.float64), "YOLO")
        want = [[3.5 - 2 * e, 3.5 - e, 3.5 + 2 * e, 3.5 + e]]
        torch.testing.assert_close(yolo, torch.tensor(want, dtype=torch.float64))
        faster = GenerateProposal(anchor, torch.ones(1, 4, dtype=torch.float64), "FasterRCNN")
        want = [[7 - 2 * e, 5 - e, 7 + 2 * e, 5 + e]]
        torch.testing.assert_close(faster, torch.tensor(want, dtype=torch.float64))

    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(st.sampled_from(["YOLO", "FasterRCNN"]), SEEDS)
    def test_encode_and_generate_are_inverse(self, method, seed):
        rng = np.random.RandomState(seed)
        _, anchors = tables(2, W=4, H=3)
        offsets = torch.from_numpy(rng.uniform(-1, 1, anchors.shape))
        boxes = GenerateProposal(anchors, offsets, method)
        torch.testing.assert_close(encode_offsets(anchors, boxes, method), offsets)
        torch.testing.assert_close(GenerateProposal(anchors, encode_offsets(anchors, boxes, method), method), boxes)

    @pytest.mark.learner
    @pytest.mark.parametrize("method", ["YOLO", "FasterRCNN"])
    def test_gradients_and_no_change_of_the_inputs(self, method):
        anchors = torch.tensor([[0.0, 0, 2, 3], [1, 1, 2, 2]], dtype=torch.float64, requires_grad=True)
        offsets = torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 2, dtype=torch.float64, requires_grad=True)
        before = anchors.detach().clone(), offsets.detach().clone()
        assert torch.autograd.gradcheck(lambda a, t: GenerateProposal(a, t, method), (anchors, offsets))
        assert torch.equal(anchors, before[0])
        assert torch.equal(offsets, before[1])

    @pytest.mark.robustness
    def test_bad_input(self):
        with pytest.raises(ValueError, match="method must be one of YOLO, FasterRCNN"):
            GenerateProposal(torch.zeros(1, 4), torch.zeros(1, 4), "yolo")
        with pytest.raises(ValueError, match="must have one shape"):
            GenerateProposal(torch.zeros(1, 4), torch.zeros(2, 4))
        with pytest.raises(ValueError, match="method must be"):
            encode_offsets(torch.zeros(1, 4), torch.zeros(1, 4), "")


# Images 000012, 004955 and 009959 of VOC 2007, at linspace(0, 2499, 3) of train: w, h, and rows x1, y1, x2, y2, class.
VOC = [
    (500, 333, [[156, 97, 351, 270, 6]]),
    (500, 374, [[97, 16, 382, 291, 7], [1, 225, 441, 373, 19]]),
    (500, 375, [[192, 142, 330, 187, 6]]),
]


@pytest.fixture(scope="module")
def voc():
    w, h, objects = zip(*VOC, strict=True)
    boxes = torch.full((3, 4, 5), -1.0)
    for row, rows in zip(boxes, objects, strict=True):
        row[: len(rows)] = torch.tensor(rows)
    boxes = coord_trans(boxes, torch.tensor(w), torch.tensor(h), mode="p2a")
    grid = GenerateGrid(3)
    anchors = GenerateAnchor(torch.tensor(ANCHORS), grid)
    return anchors, boxes, grid, IoU(anchors, boxes)


def close(got, want, atol=3e-7):
    torch.testing.assert_close(got, torch.tensor(want), atol=atol, rtol=0)


class TestThreeImagesOfVoc:
    @pytest.mark.learner
    def test_mean_overlap(self, voc):
        close(voc[3][:, :, 0].mean(dim=1), [0.11666405, 0.15146968, 0.02956639])

    @pytest.mark.learner
    def test_yolo(self, voc):
        pos, neg, conf, offsets, classes, *_ = ReferenceOnActivatedAnchors(*voc, neg_thresh=0.2, method="YOLO", rng=0)
        close(conf, [0.74538743, 0.72793430, 0.76044953, 0.37116671])
        close(offsets[0], [0.0490, 0.3574, -0.0943, 0.1924], atol=6e-5)
        assert classes.tolist() == [6, 7, 19, 6]
        assert (pos // 441).tolist() == [0, 1, 1, 2]
        assert neg.shape == (4,)

    @pytest.mark.learner
    def test_faster_rcnn(self, voc):
        pos, _, conf, offsets, classes, *_ = ReferenceOnActivatedAnchors(*voc, method="FasterRCNN", rng=0)
        want = [0.74538743, 0.72793430, 0.71128041, 0.70029843, 0.75670898, 0.76044953, 0.37116671, 0.37116671]
        close(conf, want)
        assert classes.tolist() == [6, 7, 7, 7, 19, 19, 6, 6]
        assert torch.bincount(pos // 441).tolist() == [1, 5, 2]
        close(offsets[0], [0.01633, 0.11912, -0.09431, 0.19245], atol=6e-6)
        close(offsets[-1], [0.0770, -0.21467, -0.03459, -0.86750], atol=6e-5)


def yolo_loop(boxes, anchors):
    """(anchor, box) pairs, one object at a time."""
    _, A, H, W, _ = anchors.shape
    pairs = []
    for b, rows in enumerate(boxes.tolist()):
        for n, (x1, y1, x2, y2, _) in enumerate(rows):
            if [x1, y1, x2, y2] != [-1] * 4:
                cells = [(i, j) for i in range(H) for j in range(W)]
                x, y = (x1 + x2) / 2, (y1 + y2) / 2
                i, j = min(cells, key=lambda cell: abs(cell[1] + 0.5 - x) + abs(cell[0] + 0.5 - y))
                iou = IoU(anchors[b : b + 1, :, i : i + 1, j : j + 1], boxes[b : b + 1, n : n + 1])
                pairs.append((((b * A + int(iou.argmax())) * H + i) * W + j, b, n))
    return sorted(pairs)


def faster_loop(boxes, iou, pos_thresh):
    """(anchor, box) pairs, one anchor at a time."""
    pairs = []
    for b in range(len(boxes)):
        for k in range(iou.shape[1]):
            of_anchor = iou[b, k]
            best = any(v > 0 and v == iou[b, :, n].max() for n, v in enumerate(of_anchor))
            if best or (of_anchor > pos_thresh).any():
                pairs.append((b * iou.shape[1] + k, b, int(of_anchor.argmax())))
    return pairs


class TestMatching:
    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(st.sampled_from(["YOLO", "FasterRCNN"]), st.integers(1, 3), st.integers(1, 4), SEEDS)
    def test_against_loops_on_a_wide_map(self, method, B, N, seed):
        W, H = 6, 4
        boxes = scenes(seed, B, N, W, H)
        got, anchors, iou = reference(boxes, W, H, method, pos_thresh=0.6, neg_thresh=0.2, rng=0)
        pos, neg, conf, offsets, classes, pos_coord, neg_coord = got
        pairs = yolo_loop(boxes, anchors) if method == "YOLO" else faster_loop(boxes, iou, 0.6)
        assert pos.tolist() == [k for k, _, _ in pairs]
        rows = anchors.reshape(-1, 4)
        torch.testing.assert_close(pos_coord, rows[pos])
        torch.testing.assert_close(neg_coord, rows[neg])
        for m, (k, b, n) in enumerate(pairs):
            assert classes[m] == boxes[b, n, 4]
            assert conf[m] == iou[b, k % iou.shape[1], n]
            torch.testing.assert_close(GenerateProposal(pos_coord[m], offsets[m], method), boxes[b, n, :4])
        assert len(neg) == len(pos)
        assert not set(neg.tolist()) & set(pos.tolist())
        assert (iou.flatten(0, 1)[neg] < 0.2).all()

    @pytest.mark.learner
    def test_offsets_of_yolo_are_at_most_half_a_cell(self):
        offsets = reference(scenes(0, 20, 5))[0][3]
        assert offsets[:, :2].abs().max() <= 0.5 + 1e-9

    @pytest.mark.learner
    def test_two_objects_may_share_an_anchor_of_yolo(self):
        boxes = torch.tensor([[[2.0, 2, 5, 5, 3], [2.1, 2, 5, 5, 8]]], dtype=torch.float64)
        pos, _, _, offsets, classes, *_ = reference(boxes)[0]
        assert pos[0] == pos[1]
        assert classes.tolist() == [3, 8]
        assert not torch.equal(offsets[0], offsets[1])

    @pytest.mark.learner
    @pytest.mark.parametrize("method", ["YOLO", "FasterRCNN"])
    def test_padding_changes_nothing_and_minus_one_is_a_coordinate(self, method):
        rows = [[-1.0, -1, 2, 3, 4], [2, 2, 6, 7, 1]]
        short = torch.tensor([rows], dtype=torch.float64)
        long = torch.tensor([[[-1.0] * 5, *rows, [-1.0] * 5]], dtype=torch.float64)
        a, b = (reference(boxes, method=method, rng=0)[0] for boxes in (short, long))
        assert sorted(set(a[4].tolist())) == [1, 4]
        for mine, theirs in zip(a, b, strict=True):
            assert torch.equal(mine, theirs)

    @pytest.mark.learner
    @pytest.mark.parametrize("method", ["YOLO", "FasterRCNN"])
    @pytest.mark.parametrize(
        "boxes", [torch.full((2, 3, 5), -1.0), torch.zeros(2, 0, 5), torch.tensor([[[3.0, 3, 2, 5, 1]]] * 2)]
    )
    def test_no_objects(self, method, boxes):
        """Padding only, no rows at all, and a box without area."""
        pos, neg, conf, offsets, classes, pos_coord, neg_coord = reference(boxes.double(), method=method)[0]
        assert [len(x) for x in (pos, neg, conf, classes)] == [0] * 4
        assert pos.dtype == neg.dtype == classes.dtype == torch.int64
        assert offsets.shape == pos_coord.shape == neg_coord.shape == (0, 4)

    @pytest.mark.learner
    def test_no_negatives(self):
        """Every anchor of a single cell overlaps the object."""
        boxes = torch.tensor([[[0.0, 0, 1, 1, 5]]], dtype=torch.float64)
        pos, neg, *_, neg_coord = reference(boxes, W=1, H=1, neg_thresh=0.01)[0]
        assert len(pos) == 1
        assert neg.shape == (0,)
        assert neg_coord.shape == (0, 4)

    @pytest.mark.learner
    def test_a_positive_is_never_negative(self):
        """A tiny object overlaps its own anchor by 0.01, far below the threshold."""
        boxes = torch.tensor([[[0.4, 0.4, 0.5, 0.5, 5]]], dtype=torch.float64)
        for seed in range(20):
            pos, neg, *_ = reference(boxes, W=1, H=1, neg_thresh=0.3, rng=seed)[0]
            assert pos.item() not in neg.tolist()

    @pytest.mark.robustness
    def test_negatives_come_from_the_generator_with_replacement(self):
        boxes = scenes(3, 4, 5)
        first, again, other = (reference(boxes, rng=seed)[0][1] for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        torch.manual_seed(0)
        a = reference(boxes)[0][1]
        torch.manual_seed(0)
        assert torch.equal(a, reference(boxes)[0][1])
        few = torch.tensor([[[0.0, 0, 1, 1, 5], [0.0, 0, 1, 1, 6], [0, 0, 1, 1, 7]]], dtype=torch.float64)
        grid, anchors = tables(1, 1, 1, sizes=torch.tensor([[1.0, 1], [5, 5]], dtype=torch.float64))
        neg = ReferenceOnActivatedAnchors(anchors, few, grid, IoU(anchors, few), neg_thresh=0.3, method="YOLO")[1]
        assert neg.tolist() == [1, 1, 1]  # three are wanted, one is there

    @pytest.mark.robustness
    @pytest.mark.parametrize("method", ["YOLO", "FasterRCNN"])
    def test_changes_no_argument(self, method):
        boxes = scenes(5, 2, 3)
        grid, anchors = tables(2)
        arguments = [anchors, boxes, grid, IoU(anchors, boxes)]
        before = [x.clone() for x in arguments]
        ReferenceOnActivatedAnchors(*arguments, method=method)
        assert all(torch.equal(x, y) for x, y in zip(arguments, before, strict=True))

    @pytest.mark.robustness
    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ({"method": "SSD"}, "method must be"),
            ({"pos_thresh": 1.1}, "pos_thresh must be from 0 to 1"),
            ({"neg_thresh": -0.1}, "neg_thresh must be from 0 to 1"),
            ({"iou_mat": torch.zeros(1, 441, 2)}, "iou_mat"),
            ({"grid": torch.zeros(1, 7, 6, 2)}, "grid"),
            ({"bboxes": torch.zeros(1, 1, 4)}, "bboxes must have shape"),
            ({"bboxes": torch.tensor([[[8.0, 8, 9, 9, 1]]])}, "outside the map of 7 x 7 cells"),
        ],
    )
    def test_bad_input(self, change, what):
        grid, anchors = tables()
        good = {"anchors": anchors, "bboxes": torch.ones(1, 1, 5), "grid": grid, "iou_mat": torch.zeros(1, 441, 1)}
        with pytest.raises(ValueError, match=what):
            ReferenceOnActivatedAnchors(**(good | {"method": "YOLO"} | change))
