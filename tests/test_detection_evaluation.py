"""Average precision by hand, against a plain loop and against pycocotools; kinds of mistakes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.detection.boxes import pairwise_iou
from common.detection.evaluation import KINDS, average_precision, error_analysis, evaluate_detections

SEEDS = st.integers(0, 2**31 - 1)
A, B, C, D = [0.0, 0, 10, 10], [20.0, 20, 30, 30], [40.0, 40, 50, 50], [60.0, 60, 70, 70]  # far apart


def rows(*lists, columns=6):
    return torch.tensor(lists, dtype=torch.float64).reshape(-1, columns)


def scores_of(detections, truth, num_classes=1, **options):
    return evaluate_detections(detections, truth, num_classes, **options)


class TestByHand:
    @pytest.mark.learner
    @pytest.mark.parametrize(("method", "want"), [("area", 0.5 + 0.5 * 2 / 3), ("11point", (6 + 5 * 2 / 3) / 11)])
    def test_right_wrong_right(self, method, want):
        truth = [rows([*A, 0], [*B, 0], columns=5)]
        found = [rows([*A, 0, 0.9], [*C, 0, 0.8], [*B, 0, 0.7])]
        got = scores_of(found, truth, method=method)
        assert got["mAP"] == pytest.approx(want)
        assert got["ap"].tolist() == pytest.approx([want])
        assert got["recall"][0].tolist() == [0.5, 0.5, 1]
        assert got["precision"][0].tolist() == pytest.approx([1, 1 / 2, 2 / 3])
        assert got["scores"][0].tolist() == [0.9, 0.8, 0.7]
        assert got["num_objects"].tolist() == [2]

    @pytest.mark.learner
    @pytest.mark.parametrize("method", ["area", "11point"])
    def test_nothing_and_everything_found(self, method):
        truth = [rows([*A, 0], columns=5), rows([*B, 0], columns=5)]
        assert scores_of([rows(), rows()], truth, method=method)["mAP"] == 0
        perfect = [rows([*A, 0, 0.2]), rows([*B, 0, 0.9])]
        assert scores_of(perfect, truth, method=method)["mAP"] == pytest.approx(1)

    @pytest.mark.learner
    def test_an_overlap_of_exactly_one_half_counts(self):
        truth = [rows([0, 0, 10, 10, 0], columns=5)]
        assert scores_of([rows([0, 0, 10, 5, 0, 0.9])], truth)["mAP"] == 1
        assert scores_of([rows([0, 0, 10, 4.99, 0, 0.9])], truth)["mAP"] == 0

    @pytest.mark.learner
    def test_a_second_detection_of_an_object_is_wrong(self):
        truth = [rows([*A, 0], [*B, 0], columns=5)]
        twice = [rows([*A, 0, 0.9], [*A, 0, 0.8], [*B, 0, 0.7])]
        assert scores_of(twice, truth)["mAP"] == pytest.approx(0.5 + 0.5 * 2 / 3)

    @pytest.mark.learner
    def test_the_best_score_takes_the_best_object_that_is_free(self):
        """Both overlap both objects; the second gets what the first leaves."""
        truth = [rows([0, 0, 10, 10, 0], [0, 0, 10, 12, 0], columns=5)]
        found = [rows([0, 0, 10, 10, 0, 0.9], [0, 0, 10, 9, 0, 0.8])]
        assert scores_of(found, truth)["mAP"] == 1

    @pytest.mark.learner
    def test_classes_images_and_the_mean(self):
        """Class 0 found, class 1 in the wrong image, class 2 without objects: not in the mean."""
        truth = [rows([*A, 0], [*B, 1], columns=5), rows(columns=5)]
        found = [rows([*A, 0, 0.9], [*C, 2, 0.9]), rows([*B, 1, 0.9])]
        got = scores_of(found, truth, 3)
        assert got["ap"][:2].tolist() == [1, 0]
        assert math.isnan(got["ap"][2])
        assert got["mAP"] == 0.5
        assert math.isnan(scores_of([rows()], [rows(columns=5)])["mAP"])

    @pytest.mark.learner
    def test_difficult_objects(self):
        """Neither right nor wrong, however often they are found; with the switch they count as others do."""
        truth = [rows([*A, 0, 0], [*B, 0, 1])]
        found = [rows([*B, 0, 0.95], [*B, 0, 0.9], [*A, 0, 0.8])]
        assert scores_of(found, truth)["mAP"] == 1
        assert scores_of(found, truth)["scores"][0].tolist() == [0.8]
        assert scores_of([rows()], truth)["num_objects"].tolist() == [1]
        counted = scores_of(found, truth, use_difficult=True)
        assert counted["num_objects"].tolist() == [2]
        assert counted["mAP"] == pytest.approx(0.5 + 0.5 * 2 / 3)

    @pytest.mark.robustness
    def test_padding_is_left_out(self):
        truth = [torch.tensor([[*A, 0], [-1.0] * 5]), torch.full((2, 5), -1.0)]
        assert scores_of([rows([*A, 0, 0.9]), rows()], truth)["mAP"] == 1

    @pytest.mark.robustness
    def test_eleven_points_at_exact_tenths(self):
        """Three of ten objects reach recall 0.3, though 3 * 0.1 > 0.3 in floating point."""
        recall = np.arange(1, 11) / 10
        for k in range(11):
            assert average_precision(np.ones(k), recall[:k], "11point") == pytest.approx((k + 1 if k else 0) / 11)


def loop(detections, truth, num_classes, use_difficult, iou_thresh=0.5):
    """Area under the curve for each class: one detection after the other, recall step by recall step."""
    result = []
    for c in range(num_classes):
        found = [(-r[5], b, r[:4]) for b, of_image in enumerate(detections) for r in of_image.tolist() if r[4] == c]
        objects = [[r for r in of_image.tolist() if r[4] == c] for of_image in truth]
        total = sum(use_difficult or not r[5] for of_image in objects for r in of_image)
        taken, curve, right, wrong = set(), [], 0, 0
        for _, b, box in sorted(found, key=lambda row: row[0]):
            best, ignore = None, False
            for n, r in enumerate(objects[b]):
                iou = pairwise_iou(torch.tensor([box]).double(), torch.tensor([r[:4]]).double()).item()
                if iou >= iou_thresh and r[5] and not use_difficult:
                    ignore = True
                elif iou >= iou_thresh and (b, n) not in taken and (best is None or iou > best[0]):
                    best = iou, n
            if best:
                taken.add((b, best[1]))
                right += 1
            elif ignore:
                continue
            else:
                wrong += 1
            curve.append((right / max(total, 1), right / (right + wrong)))
        steps = sorted({recall for recall, _ in curve})
        area, last = 0.0, 0.0
        for step in steps:
            area += (step - last) * max(p for recall, p in curve if recall >= step)
            last = step
        result.append(area if total else math.nan)
    return result


def random_case(seed, images=6, num_classes=3):
    """Objects, some difficult, and detections near them or elsewhere; scores with ties."""
    rng = np.random.RandomState(seed)
    truth, found = [], []
    for _ in range(images):
        first = rng.uniform(0, 20, (rng.randint(0, 6), 2))
        boxes = np.hstack((first, first + rng.uniform(4, 20, first.shape)))
        hard = rng.rand(len(boxes), 1) < 0.2
        truth.append(np.hstack((boxes, rng.randint(num_classes, size=(len(boxes), 1)), hard)))
        near = truth[-1][rng.randint(len(boxes), size=rng.randint(0, 9))] if len(boxes) else np.zeros((0, 6))
        near[:, :4] += rng.normal(0, 2, (len(near), 4))
        near[:, 2:4] = np.maximum(near[:, 2:4], near[:, :2] + 0.5)  # pycocotools expects an area
        wild = rng.rand(len(near)) < 0.2
        near[wild, 4] = rng.randint(num_classes, size=wild.sum())
        near[:, 5] = rng.randint(1, 20, len(near)) / 20
        found.append(near)
    return [torch.from_numpy(x) for x in found], [torch.from_numpy(x) for x in truth]


class TestOracles:
    @pytest.mark.learner
    @settings(max_examples=25, deadline=None)
    @given(st.booleans(), SEEDS)
    def test_against_a_loop(self, use_difficult, seed):
        found, truth = random_case(seed)
        got = evaluate_detections(found, truth, 3, use_difficult=use_difficult)
        np.testing.assert_allclose(got["ap"], loop(found, truth, 3, use_difficult), rtol=1e-12, atol=1e-12)

    @pytest.mark.robustness
    @pytest.mark.parametrize("seed", range(10))
    def test_against_pycocotools(self, seed):
        """COCO averages the same envelope of precision at 101 recalls; here at an overlap of 0.5."""
        coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
        found, truth = random_case(seed, images=20)
        api = coco.COCO()
        api.dataset = {
            "info": {},
            "images": [{"id": b + 1} for b in range(20)],
            "categories": [{"id": c} for c in range(3)],
            "annotations": [
                {"image_id": b + 1, "category_id": int(r[4]), "bbox": xywh(r), "area": 1.0, "iscrowd": 0}
                for b, of_image in enumerate(truth)
                for r in of_image.tolist()
            ],
        }
        for k, annotation in enumerate(api.dataset["annotations"]):
            annotation["id"] = k + 1
        api.createIndex()
        said = [
            {"image_id": b + 1, "category_id": int(r[4]), "bbox": xywh(r), "score": r[5]}
            for b, of_image in enumerate(found)
            for r in of_image.tolist()
        ]
        judge = cocoeval.COCOeval(api, api.loadRes(said), "bbox")
        judge.params.iouThrs, judge.params.areaRng = np.array([0.5]), [[0, 1e10]]
        judge.params.areaRngLbl, judge.params.maxDets = ["all"], [100]
        judge.evaluate()
        judge.accumulate()
        got = evaluate_detections(found, truth, 3, use_difficult=True)
        for c in range(3):
            envelope = np.maximum.accumulate(got["precision"][c][::-1])[::-1]
            points = np.searchsorted(got["recall"][c], judge.params.recThrs, side="left")
            mine = np.append(envelope, 0.0)[np.minimum(points, len(envelope))]
            np.testing.assert_allclose(mine, judge.eval["precision"][0, :, c, 0, 0], rtol=1e-9, atol=1e-9)


def xywh(row):
    return [row[0], row[1], row[2] - row[0], row[3] - row[1]]


class TestErrorAnalysis:
    @pytest.mark.learner
    def test_one_of_each(self):
        truth = [rows([*A, 0, 0], [*B, 1, 0], [*C, 0, 1], [*D, 1, 0])]
        cases = {
            "duplicate": [0, 0, 10, 9, 0, 0.5],
            "right": [*A, 0, 0.9],
            "localisation": [0, 0, 10, 3, 0, 0.4],
            "confusion": [*B, 0, 0.8],
            "background": [80, 80, 90, 90, 0, 0.7],
            "ignored": [*C, 0, 0.3],
        }
        got = error_analysis([rows(*cases.values())], truth, 2)
        assert got["kinds"] == [list(cases)]
        assert got["counts"] == dict.fromkeys(KINDS, 1)
        assert got["missed"].tolist() == [0, 2]
        assert got["num_objects"].tolist() == [1, 2]
        assert got["by_class"].tolist() == [[1] * 6, [0] * 6]

    @pytest.mark.robustness
    @settings(max_examples=25, deadline=None)
    @given(SEEDS)
    def test_adds_up(self, seed):
        found, truth = random_case(seed)
        got = error_analysis(found, truth, 3)
        assert [len(words) for words in got["kinds"]] == [len(x) for x in found]
        assert got["counts"]["right"] + got["missed"].sum() == got["num_objects"].sum()
        judged = evaluate_detections(found, truth, 3)
        curves = zip(judged["recall"], judged["num_objects"].tolist(), strict=True)
        right = [round(recall[-1] * total) if len(recall) else 0 for recall, total in curves]
        assert got["by_class"][:, KINDS.index("right")].tolist() == right


class TestBadInput:
    @pytest.mark.robustness
    @pytest.mark.parametrize(
        ("found", "truth", "options", "what"),
        [
            ([rows()], [], {}, "detections are of 1 images, ground_truth of 0"),
            ([rows([*A, 2, 0.5])], [rows(columns=5)], {}, r"detections\[0\] holds class 2; allowed are 0 to 1"),
            ([rows()], [rows([*A, 2], columns=5)], {}, r"ground_truth\[0\] holds class 2"),
            ([rows()], [rows([*A, 0.5], columns=5)], {}, "class 0.5"),
            ([rows()], [rows([5, 5, 5, 9, 0], columns=5)], {}, r"ground_truth\[0\] holds a box with x2 <= x1"),
            ([rows([*A, 0, math.nan])], [rows(columns=5)], {}, r"detections\[0\] holds numbers that are not finite"),
            ([rows(columns=5)], [rows(columns=5)], {}, r"detections\[0\] must have shape"),
            ([rows()], [rows(columns=5)], {"iou_thresh": 1.5}, "iou_thresh must be from 0 to 1"),
            ([rows()], [rows(columns=5)], {"method": "101"}, "method must be 'area' or '11point'"),
        ],
    )
    def test_is_named(self, found, truth, options, what):
        with pytest.raises(ValueError, match=what):
            evaluate_detections(found, truth, 2, **options)

    @pytest.mark.robustness
    def test_no_tensor(self):
        with pytest.raises(TypeError, match=r"detections\[0\] must be a tensor"):
            evaluate_detections([[[0, 0, 1, 1, 0, 0.5]]], [rows(columns=5)], 2)
