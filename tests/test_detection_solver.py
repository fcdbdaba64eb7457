"""Training and inference over a loader: units, histories, the border of the map, what a loader may not do."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from common.detection.evaluation import evaluate_detections
from common.detection.faster_rcnn import RPN, TwoStageDetector
from common.detection.solver import DetectionEvaluater, DetectionSolver, MapLoader, detection_inference
from common.detection.yolo import SingleStageDetector
from tests.test_detection_yolo import Tiny, maps

pytestmark = pytest.mark.robustness

W, H = torch.tensor([50, 100]), torch.tensor([30, 15])
PIXELS = torch.tensor([[[10.0, 10, 30, 30, 2], [-1] * 5], [[0, 0, 60, 10, 0], [40, 5, 90, 15, 1]]])


def make(kind=SingleStageDetector, **options):
    torch.manual_seed(0)
    return kind(**{"in_dim": 6, "hidden_dim": 32, "num_classes": 3, "drop_ratio": 0.0, "rng": 0} | options)


def loader(features=None):
    """Two images in one batch, maps of 3 x 5 cells."""
    return [(maps() if features is None else features, PIXELS, W, H, ["a", "b"])]


@pytest.mark.parametrize("kind", [SingleStageDetector, RPN, TwoStageDetector])
def test_it_trains(kind):
    model = make(kind)
    before = DetectionEvaluater(model, loader())
    history = DetectionSolver(model, loader() * 2, learning_rate=1e-2, lr_decay=0.9, num_epochs=20)
    assert [len(history[name]) for name in ("loss_history", "epoch_loss_history", "lr_history")] == [40, 20, 20]
    assert history["lr_history"][:3] == pytest.approx([1e-2, 9e-3, 8.1e-3])
    assert history["epoch_loss_history"][0] == pytest.approx(sum(history["loss_history"][:2]) / 2)
    assert DetectionEvaluater(model, loader()) < before
    assert model.training


def test_detections_in_pixels():
    """Learned by heart, then found where they are in pixels; the maps are not square."""
    model = make(hidden_dim=64)
    DetectionSolver(model, loader(), learning_rate=1e-2, num_epochs=150, optimizer=torch.optim.Adam)
    found = detection_inference(model, loader(), dataset=["a", "b"], thresh=0.5, nms_thresh=0.3)
    assert [rows.shape[1] for rows in found] == [6, 6]
    assert evaluate_detections(found, list(PIXELS), 3)["mAP"] == 1


def test_boxes_are_cut_at_the_border_of_the_map_and_then_scaled():
    """Clamping to 50 or 100 before scaling would leave boxes that end beyond the image."""
    found = detection_inference(make(), loader(), thresh=0.0, nms_thresh=1.0)
    for rows, w, h in zip(found, W.tolist(), H.tolist(), strict=True):
        assert len(rows) == 9 * 3 * 5
        assert rows[:, :4].min() == 0
        assert rows[:, [0, 2]].max().item() == pytest.approx(w)
        assert rows[:, [1, 3]].max().item() == pytest.approx(h)
        assert torch.equal(rows[:, 5], rows[:, 5].sort(descending=True).values)


def test_rpn_alone_gives_class_zero():
    found = detection_inference(make(RPN), loader(), thresh=0.0)
    assert all(len(rows) and not rows[:, 4].any() for rows in found)


def test_images_through_an_extractor():
    model, images = make(extractor=Tiny()), torch.randn(2, 3, 16, 24)
    with_images, with_maps = (
        detection_inference(model, loader(x), thresh=0.0) for x in (images, model.extract(images))
    )
    assert all(torch.equal(a, b) for a, b in zip(with_images, with_maps, strict=True))
    DetectionSolver(model, loader(images), num_epochs=1)
    assert isinstance(model.feat_extractor.network, nn.Module)


def test_the_mean_is_over_images():
    """A batch of one and a batch of two: the mean over three images, not over two batches."""
    model, (features, boxes, w, h, ids) = make(), loader()[0]
    one = (features[:1], boxes[:1], w[:1], h[:1], ids[:1])
    two = (features, boxes, w, h, ids)
    model.rng = None
    torch.manual_seed(1)
    losses = [DetectionEvaluater(model, [batch]) for batch in (one, two)]
    torch.manual_seed(1)
    assert DetectionEvaluater(model, [one, two]) == pytest.approx((losses[0] + 2 * losses[1]) / 3)


def test_map_loader():
    """All once in each pass, row by row together; shuffled anew each time, or not at all."""
    features = np.arange(5 * 6 * 3 * 5, dtype=np.float16).reshape(5, 6, 3, 5)
    boxes, w, h = np.arange(5.0)[:, None, None] * np.ones((1, 2, 5)), np.arange(5) + 10, np.arange(5) + 20
    load = MapLoader(features, boxes, w, h, batch_size=2)
    assert len(load) == len(list(load)) == 3
    assert [ids.tolist() for *_, ids in load] == [[0, 1], [2, 3], [4]]
    shuffled = MapLoader(features, boxes, w, h, batch_size=2, rng=0)
    orders = [torch.cat([ids for *_, ids in shuffled]).tolist() for _ in range(2)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(5))
    for maps_, boxes_, w_, h_, ids in shuffled:
        assert torch.equal(maps_, torch.from_numpy(features)[ids])
        assert boxes_[:, 0, 0].tolist() == ids.tolist()
        assert (w_ - 10).tolist() == (h_ - 20).tolist() == ids.tolist()


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: DetectionSolver(make(), loader(), learning_rate=0), "learning_rate and lr_decay must be above 0"),
        (lambda: DetectionSolver(make(), loader(), lr_decay=math.nan), "learning_rate and lr_decay must be above 0"),
        (lambda: DetectionSolver(make(), loader(), num_epochs=0), "num_epochs is 0"),
        (lambda: MapLoader(maps(), PIXELS, W, H[:1]), "maps, boxes, w and h must have one length above 0"),
        (lambda: MapLoader(maps()[:0], PIXELS[:0], W[:0], H[:0]), "one length above 0"),
        (lambda: MapLoader(maps(), PIXELS, W, H, batch_size=0), "batch_size is 0"),
        (lambda: DetectionSolver(make(), []), "the loader gave no batch"),
        (lambda: DetectionEvaluater(make(), []), "the loader gave no batch"),
        (lambda: detection_inference(make(), loader(), thresh=2), "thresh must be from 0 to 1"),
        (lambda: detection_inference(make(), loader(), nms_thresh=-2), "nms_thresh must be from 0 to 1"),
        (lambda: detection_inference(make(), loader(), dataset=range(3)), "gave 2 images, but dataset holds 3"),
    ],
)
def test_bad_input(call, what):
    with pytest.raises(ValueError, match=what):
        call()
