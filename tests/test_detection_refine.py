"""The second stage: patches from the right map, corrections and their inverse, samples, and training."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import roi_align

from common.detection.evaluation import evaluate_detections
from common.detection.head import OneStageHead, detect
from common.detection.refine import (
    SecondStage,
    decode,
    detect_twice,
    encode,
    patches,
    propose,
    sample,
    second_stage_loss,
    train_second_stage,
)
from common.detection.training import train_head
from common.detection.views import View, ground_truth

pytestmark = pytest.mark.robustness
SIZE = (192, 128)


def random_boxes(n, seed=0, low=0.0, high=90.0):
    draw = torch.Generator().manual_seed(seed)
    corner = low + high * torch.rand(n, 2, generator=draw)
    return torch.cat([corner, corner + 4 + 60 * torch.rand(n, 2, generator=draw)], dim=1)


def test_decode_is_the_inverse_of_encode():
    boxes, proposals = random_boxes(50, 0), random_boxes(50, 1)
    assert torch.allclose(decode(encode(boxes, proposals), proposals), boxes, atol=1e-3)
    assert encode(boxes, boxes).abs().max() == 0 and torch.allclose(decode(torch.zeros(50, 4), boxes), boxes, atol=1e-4)


def test_corrections_by_hand():
    """Half a width to the right, twice as high: in units of 0.1 and 0.2."""
    proposal, box = torch.tensor([[10.0, 10, 30, 20]]), torch.tensor([[20.0, 5, 40, 25]])
    assert encode(box, proposal)[0].tolist() == pytest.approx([5, 0, 0, np.log(2) / 0.2], abs=1e-5)


def test_patches_come_from_the_map_that_suits():
    """Maps that hold their number: boxes up to 224, 448 and more pixels are cut from the first, second and third."""
    maps = [torch.full((2, 3, 64 >> k, 96 >> k), float(k)) for k in range(3)]
    proposals = [torch.tensor([[100.0, 100, 300, 300], [0, 0, 900, 900], [50, 60, 90, 70]]),
                 torch.tensor([[0.0, 0, 300, 300]])]  # fmt: skip
    cut = patches(maps, proposals, 5)
    assert cut.shape == (4, 3, 5, 5) and cut[:, 0, 2, 2].tolist() == [0, 2, 0, 1]


def test_patches_are_those_of_roi_align_in_the_order_of_the_proposals():
    maps = [torch.randn(2, 3, 8 >> k, 12 >> k) for k in range(3)]
    proposals = [random_boxes(4, 2), random_boxes(3, 3)]
    cut = patches(maps, proposals, 7)
    for i, (picture, box) in enumerate([(0, b) for b in proposals[0]] + [(1, b) for b in proposals[1]]):
        alone = roi_align(maps[0][picture : picture + 1], [box[None]], 7, 1 / 16, 2, True)
        assert torch.allclose(cut[i], alone[0], atol=1e-6)


def test_no_proposals():
    stage = SecondStage(3, 2, 8, seed=0)
    maps = [torch.randn(2, 3, 8 >> k, 12 >> k) for k in range(3)]
    scores, deltas = stage(maps, [torch.zeros(0, 4), torch.zeros(0, 4)])
    assert scores.shape == (0, 3) and deltas.shape == (0, 4)
    losses = second_stage_loss(scores, deltas, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))
    assert losses["total"] == 0


BOXES = torch.tensor([[10.0, 10, 50, 50, 2], [-1] * 5, [100, 20, 140, 60, 0]])
PROPOSALS = torch.tensor([[12.0, 10, 50, 50], [60, 60, 90, 90], [101, 20, 140, 60], [20, 20, 80, 80], [0, 0, 30, 30]])


def test_labels_of_a_sample():
    found, labels, aims = sample(PROPOSALS, BOXES, torch.zeros(3, dtype=torch.bool), np.random.RandomState(0))
    said = {tuple(p.tolist()): (int(c), aim.tolist()) for p, c, aim in zip(found, labels, aims, strict=True)}
    assert len(said) == 7  # the two objects joined the five proposals
    assert said[12, 10, 50, 50] == (3, [10, 10, 50, 50]) and said[101, 20, 140, 60] == (1, [100, 20, 140, 60])
    assert said[10, 10, 50, 50][0] == 3 and said[100, 20, 140, 60][0] == 1
    assert [said[p][0] for p in ((60, 60, 90, 90), (20, 20, 80, 80), (0, 0, 30, 30))] == [0, 0, 0]


def test_difficult_objects_are_neither_background_nor_objects():
    hard = torch.tensor([True, False, False])
    found, labels, _ = sample(PROPOSALS, BOXES, hard, np.random.RandomState(0))
    said = dict(zip(map(tuple, found.tolist()), labels.tolist(), strict=True))
    assert (12, 10, 50, 50) not in said and (10, 10, 50, 50) not in said
    assert said[101, 20, 140, 60] == 1 and said[60, 60, 90, 90] == 0


@pytest.mark.parametrize("boxes", [torch.full((2, 5), -1.0), torch.tensor([[10.0, 10, 50, 50, 2]])])
def test_sample_of_pictures_without_objects_or_with_difficult_ones_only(boxes):
    hard = torch.ones(len(boxes), dtype=torch.bool)
    found, labels, aims = sample(PROPOSALS, boxes, hard, np.random.RandomState(0))
    assert (labels == 0).all() and len(found) == len(aims) >= 4


def test_a_sample_is_half_objects_and_comes_from_the_seed():
    many = torch.cat([PROPOSALS[:1].expand(50, 4), PROPOSALS[1:2].expand(60, 4)])
    boxes, hard = BOXES, torch.zeros(3, dtype=torch.bool)
    _, labels, _ = sample(many, boxes, hard, np.random.RandomState(0), count=20)
    assert len(labels) == 20 and (labels > 0).sum() == 10
    _, labels, _ = sample(many[:52], boxes, hard, np.random.RandomState(0), count=20)
    assert len(labels) == 20 and (labels == 0).sum() == 2  # too few others
    again = [sample(many, boxes, hard, np.random.RandomState(seed), count=20)[0] for seed in (1, 1)]
    assert torch.equal(*again)


def test_loss_of_the_second_stage():
    scores, labels = torch.randn(6, 4), torch.tensor([0, 1, 0, 3, 2, 0])
    proposals, aims = random_boxes(6, 4), random_boxes(6, 5)
    deltas = encode(aims, proposals)
    losses = second_stage_loss(scores, deltas, proposals, labels, aims)
    assert losses["boxes"].abs() < 1e-5
    assert losses["classes"].item() == pytest.approx(nn.functional.cross_entropy(scores, labels).item())
    deltas[labels == 0] += 100  # background has no box to become
    assert second_stage_loss(scores, deltas, proposals, labels, aims)["boxes"].abs() < 1e-5
    deltas[3, 0] += 3
    assert second_stage_loss(scores, deltas, proposals, labels, aims)["boxes"].item() == pytest.approx(
        2.5 / 6, abs=1e-4
    )


def test_at_the_start_the_second_stage_changes_no_box_and_knows_no_class():
    stage = SecondStage(16, 3, 32, seed=0)
    maps, proposals = [torch.randn(1, 16, 8 >> k, 12 >> k) for k in range(3)], [random_boxes(9)]
    scores, deltas = stage(maps, proposals)
    assert torch.allclose(scores.softmax(1), torch.tensor(0.25), atol=0.02)
    assert (decode(deltas, proposals[0]) - proposals[0]).abs().max() < 0.5


# Both stages ----------------------------------------------------------------------------------------------------


def planted_views(n, seed):
    """Maps in which class and place of an object can be read, in pictures of 128 x 192 pixels."""
    draw, noise = np.random.RandomState(seed), torch.Generator().manual_seed(seed)
    maps = [0.1 * torch.randn(n, 6, 8, 12, generator=noise), 0.1 * torch.randn(n, 10, 4, 6, generator=noise)]
    boxes = torch.full((n, 2, 5), -1.0)
    for i in range(n):
        c, x, y = draw.randint(3), 16 * draw.randint(1, 9), 16 * draw.randint(1, 5)
        boxes[i, 0] = torch.tensor([x, y, x + 48.0, y + 48.0, c])
        maps[0][i, c, y // 16 : y // 16 + 3, x // 16 : x // 16 + 3] += 2
        maps[0][i, 3, y // 16 + 1, x // 16 + 1] += 2
    return View(maps, boxes, torch.zeros(n, 2, dtype=torch.bool))


@pytest.fixture(scope="module")
def trained():
    view = planted_views(24, 0)
    head = OneStageHead((6, 10), 3, 16, seed=0)
    head, _ = train_head(head, [view], epochs=20, batch_size=8, rate=1e-2, bf16=False)
    stage = SecondStage(16, 3, 32, 3, seed=0)
    stage, history = train_second_stage(stage, head, [view], SIZE, epochs=15, batch_size=8, rate=3e-3, bf16=False)
    return head, stage, history


def test_both_stages_find_the_planted_objects(trained):
    head, stage, history = trained
    assert history["total"][-1] < 0.5 * history["total"][0] and len(history["seconds"]) == 15
    val = planted_views(16, 1)
    found = detect_twice(stage, head, val.maps, SIZE, bf16=False)
    assert all(one.shape[1] == 6 and (one[:, 5].diff() <= 0).all() for one in found)
    assert evaluate_detections(found, ground_truth(val), 3)["mAP"] > 0.8
    strict = [evaluate_detections(one, ground_truth(val), 3, iou_thresh=0.75)["mAP"]
              for one in (detect(head, val.maps, SIZE, bf16=False), found)]  # fmt: skip
    assert strict[1] > strict[0] - 0.05


def test_proposals_are_boxes_in_the_picture(trained):
    head, *_ = trained
    maps, proposals, classes = propose(head, planted_views(3, 2).maps, SIZE, most=20)
    assert len(maps) == 3 and len(proposals) == len(classes) == 3
    for boxes, scores in zip(proposals, classes, strict=True):
        assert 0 < len(boxes) <= 20 and scores.shape == (len(boxes), 3) and not boxes.requires_grad
        assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= 192).all() and (boxes[:, [1, 3]] <= 128).all()
        assert (scores.amax(1).diff() <= 0).all()


def test_first_stage_stays_as_it_is(trained):
    head, *_ = trained
    before = {name: value.clone() for name, value in head.state_dict().items()}
    train_second_stage(SecondStage(16, 3, 8, 3), head, [planted_views(8, 0)], SIZE, epochs=1, batch_size=4, bf16=False)
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())


@pytest.mark.parametrize("options", [{"thresh": 2}, {"nms_thresh": -1}, {"most": 0}, {"batch_size": 0}])
def test_bad_options(trained, options):
    head, stage, _ = trained
    with pytest.raises(ValueError, match=next(iter(options))):
        detect_twice(stage, head, planted_views(1, 0).maps, SIZE, **options)
    with pytest.raises(ValueError, match="hidden_dim"):
        SecondStage(hidden_dim=0)
