"""The modern head: geometry on maps that are not square, targets against a loop, losses in corner cases, training."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import nms

from common.detection import training
from common.detection.evaluation import evaluate_detections
from common.detection.head import PRIOR, STRIDES, OneStageHead, detect, grid_points, mirror_boxes, rows, suppress
from common.detection.training import Average, assign, centreness, head_loss, one_cycle, train_head
from common.detection.views import View, ground_truth, to_square, voc_view

pytestmark = pytest.mark.robustness
SHAPES = ((8, 12), (4, 6), (2, 3))  # maps of pictures of 128 x 192 pixels
POINTS, WIDTHS = grid_points(SHAPES, STRIDES)


def small_head(**options):
    return OneStageHead((6, 10), **{"num_classes": 3, "width": 16, "seed": 0} | options)


def small_maps(n=2, h=8, w=12, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 6, h, w, generator=draw), torch.randn(n, 10, -(-h // 2), -(-w // 2), generator=draw)]


def some_boxes(seed, pictures=3, most=5):
    """Random boxes, labels and flags with padding at random places."""
    draw = np.random.RandomState(seed)
    corner, side = draw.uniform(0, 120, (pictures, most, 2)), np.exp(draw.uniform(1, 5, (pictures, most, 2)))
    boxes = np.concatenate([corner, corner + side, draw.randint(3, size=(pictures, most, 1))], axis=2)
    boxes[draw.rand(pictures, most) < 0.3] = -1
    return torch.tensor(boxes, dtype=torch.float32), torch.tensor(draw.rand(pictures, most) < 0.2)


# Geometry -------------------------------------------------------------------------------------------------------


def test_points_are_the_middles_of_cells():
    assert POINTS.shape == (8 * 12 + 4 * 6 + 2 * 3, 2)
    assert POINTS[0].tolist() == [8, 8] and POINTS[1].tolist() == [24, 8] and POINTS[12].tolist() == [8, 24]
    assert POINTS[95].tolist() == [184, 120] and POINTS[96].tolist() == [16, 16] and POINTS[-1].tolist() == [160, 96]
    assert WIDTHS.unique_consecutive(return_counts=True)[1].tolist() == [96, 24, 6]


def test_rows_and_points_have_the_same_order():
    """A value planted in row i and column j of a map comes out at the point of that cell."""
    for i, j in ((0, 3), (2, 1), (7, 11)):
        x = torch.zeros(1, 1, 8, 12)
        x[0, 0, i, j] = 1
        k = rows(x)[0, :, 0].argmax()
        assert POINTS[k].tolist() == [16 * j + 8, 16 * i + 8]


@pytest.mark.parametrize(("h", "w"), [(8, 12), (7, 5), (1, 1), (14, 14)])
def test_shapes_of_predictions(h, w):
    half, quarter = (-(-h // 2), -(-w // 2)), (-(-h // 4), -(-w // 4))
    P = h * w + half[0] * half[1] + quarter[0] * quarter[1]
    out = small_head()(*small_maps(2, h, w))
    assert out.scores.shape == (2, P, 3) and out.boxes.shape == (2, P, 4)
    assert out.centre.shape == (2, P) and out.points.shape == (P, 2) and out.strides.shape == (P,)
    assert out.scores.dtype == out.boxes.dtype == torch.float32


def test_at_the_start_scores_are_rare_and_boxes_two_strides_wide():
    out = small_head()(*small_maps())
    assert abs(out.scores.sigmoid().mean() - PRIOR) < 0.002
    sizes = out.boxes[..., 2:] - out.boxes[..., :2]
    assert torch.allclose(sizes / out.strides[:, None], torch.tensor(2.0), atol=0.6)
    assert torch.allclose((out.boxes[..., 2:] + out.boxes[..., :2]) / 2, out.points, atol=0.3 * max(STRIDES))


def test_a_map_that_is_moved_moves_its_predictions():
    """Shift the pictures by 64 pixels to the right: the predictions in the middle come along."""
    head = small_head().eval()
    x, deep = small_maps(1, 16, 24)
    near, far = head(x, deep), head(x.roll(4, dims=3), deep.roll(2, dims=3))
    a, b = (out.scores[0, : 16 * 24].view(16, 24, 3) for out in (near, far))
    assert torch.allclose(a[6:10, 8:12], b[6:10, 12:16], atol=1e-5)


# Targets --------------------------------------------------------------------------------------------------------


def assign_naive(boxes, difficult):
    """`assign` with loops over pictures, points and boxes."""
    B, P = len(boxes), len(POINTS)
    positive, ignored = torch.zeros(B, P, dtype=torch.bool), torch.zeros(B, P, dtype=torch.bool)
    objects, centre = torch.zeros(B, P, dtype=torch.long), torch.zeros(B, P)
    for b in range(B):
        for p, ((x, y), stride) in enumerate(zip(POINTS.tolist(), WIDTHS.tolist(), strict=True)):
            level, best = STRIDES.index(int(stride)), math.inf
            for n, (x1, y1, x2, y2, _) in enumerate(boxes[b].tolist()):
                sides = (x - x1, y - y1, x2 - x, y2 - y)
                if (x1, y1, x2, y2) == (-1, -1, -1, -1) or min(sides) <= 0:
                    continue
                if difficult[b, n]:
                    ignored[b, p] = True
                    continue
                near = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < training.RADIUS * stride
                fits = training.REACH[level] * stride <= max(sides) < training.LIMIT[level] * stride
                if near and fits and (x2 - x1) * (y2 - y1) < best:
                    best, positive[b, p], objects[b, p] = (x2 - x1) * (y2 - y1), True, n
                    ratio = min(sides[0::2]) / max(sides[0::2]) * min(sides[1::2]) / max(sides[1::2])
                    centre[b, p] = math.sqrt(ratio)
    return positive, ignored & ~positive, objects, centre


@pytest.mark.parametrize("seed", range(4))
def test_targets_against_a_loop(seed):
    boxes, difficult = some_boxes(seed)
    aim = assign(POINTS, WIDTHS, boxes, difficult)
    positive, ignored, objects, centre = assign_naive(boxes, difficult)
    assert positive.any() and torch.equal(aim.positive, positive) and torch.equal(aim.ignored, ignored)
    assert torch.equal(aim.objects[positive], objects[positive])
    assert torch.allclose(aim.centre, centre, atol=1e-5)


def test_each_size_has_its_map_and_the_limits_join():
    """Near a limit the points of the coarser map that lie off the middle learn the object, too."""
    x, y = 96, 64
    for size, maps in {40: [16], 140: [16], 200: [32], 280: [32, 64], 400: [64], 2000: [64]}.items():
        boxes = torch.tensor([[[x - size / 2, y - size / 2, x + size / 2, y + size / 2, 0]]], dtype=torch.float32)
        aim = assign(POINTS, WIDTHS, boxes)
        assert WIDTHS[aim.positive[0]].unique().tolist() == maps, size
    assert [limit * stride for limit, stride in zip(training.LIMIT[:2], STRIDES, strict=False)] == [
        reach * stride for reach, stride in zip(training.REACH[1:], STRIDES[1:], strict=True)
    ]


def test_of_two_objects_the_smaller_is_learnt_and_order_does_not_matter():
    large, small = [40, 20, 140, 110, 1], [70, 45, 110, 85, 2]
    for pair in ([large, small], [small, large]):
        boxes = torch.tensor([pair], dtype=torch.float32)
        aim = assign(POINTS, WIDTHS, boxes)
        k = ((POINTS - torch.tensor([88.0, 56.0])).abs().sum(1) + WIDTHS).argmin()  # a point of the first map in both
        assert aim.positive[0, k] and boxes[0, aim.objects[0, k], 4] == 2


def test_centreness():
    sides = torch.tensor([[5.0, 3, 5, 3], [1, 2, 4, 2], [1, 1, 4, 9], [0, 2, 4, 2]])
    assert centreness(sides).tolist() == pytest.approx([1, 0.5, math.sqrt(1 / 4 / 9), 0])
    assert centreness(torch.zeros(1, 4)).tolist() == [0]


# Losses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["padding", "no rows", "all difficult", "tiny", "without area"])
def test_batches_without_positives_have_finite_losses_and_gradients(case):
    boxes = torch.full((2, 3, 5), -1.0)
    difficult = torch.zeros(2, 3, dtype=torch.bool)
    if case == "no rows":
        boxes, difficult = boxes[:, :1], difficult[:, :1]
    elif case == "all difficult":
        boxes[:, 0], difficult[:, 0] = torch.tensor([20.0, 20, 90, 90, 1]), True
    elif case == "tiny":
        boxes[:, 0] = torch.tensor([1.0, 1, 2, 2, 1])  # between all points
    elif case == "without area":
        boxes[:, 0] = torch.tensor([50.0, 20, 50, 60, 1])
    head = small_head()
    losses = head_loss(head(*small_maps()), boxes, difficult)
    assert losses["boxes"] == losses["centre"] == 0 and losses["classes"] > 0
    losses["total"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())
    assert head.to_scores.weight.grad.abs().sum() > 0


def test_losses_against_a_loop():
    boxes, difficult = some_boxes(7, pictures=2)
    out = small_head()(*small_maps())
    out.scores = out.scores + torch.randn(out.scores.shape, generator=torch.Generator().manual_seed(1))
    positive, ignored, objects, centre = assign_naive(boxes, difficult)
    focal = box = central = 0.0
    for b, p in np.ndindex(*positive.shape):
        label = int(boxes[b, objects[b, p], 4]) if positive[b, p] else -1
        for c in range(3):
            if not ignored[b, p]:
                s = out.scores[b, p, c].sigmoid().item()
                q, weight = (s, 0.25) if c == label else (1 - s, 0.75)
                focal -= weight * (1 - q) ** 2 * math.log(q)
        if positive[b, p]:
            mine, true = out.boxes[b, p].tolist(), boxes[b, objects[b, p], :4].tolist()
            box += (1 - giou(mine, true)) * centre[b, p].item()
            s = out.centre[b, p].sigmoid().item()
            central -= centre[b, p].item() * math.log(s) + (1 - centre[b, p].item()) * math.log(1 - s)
    losses = head_loss(out, boxes, difficult)
    count = int(positive.sum())
    assert losses["classes"].item() == pytest.approx(focal / count, rel=1e-4)
    assert losses["boxes"].item() == pytest.approx(2 * box / centre.sum().item(), rel=1e-4)
    assert losses["centre"].item() == pytest.approx(central / count, rel=1e-4)
    assert losses["total"].item() == pytest.approx(sum(losses[k].item() for k in ("classes", "boxes", "centre")))


def giou(a, b):
    """Generalised IoU of two boxes, from its definition."""
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return shared / union - (hull - union) / hull


def test_right_boxes_have_no_loss():
    boxes, _ = some_boxes(1)
    head, maps = small_head(), small_maps(3)
    out = head(*maps)
    aim = assign(out.points, out.strides, boxes)
    out.boxes = boxes[..., :4].gather(1, aim.objects[..., None].expand(-1, -1, 4))
    assert head_loss(out, boxes)["boxes"].abs() < 1e-5


def test_difficult_objects_are_neither_learnt_nor_background():
    """Scores at points inside a difficult object do not change the loss; elsewhere they do."""
    boxes, difficult = torch.tensor([[[20.0, 20, 100, 100, 1]]]), torch.tensor([[True]])
    out = small_head()(*small_maps(1))
    aim = assign(out.points, out.strides, boxes, difficult)
    before = head_loss(out, boxes, difficult)["total"]
    out.scores = out.scores + 3 * aim.ignored[..., None]
    assert aim.ignored.sum() > 10 and torch.equal(head_loss(out, boxes, difficult)["total"], before)
    assert head_loss(out, boxes)["total"] != before


def test_class_that_the_head_does_not_know():
    with pytest.raises(ValueError, match="boxes hold class 3; the head knows 0 to 2"):
        head_loss(small_head()(*small_maps(1)), torch.tensor([[[20.0, 20, 100, 100, 3]]]))


# Detections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nms_thresh", [0.0, 0.3, 0.6, 1.0])
def test_suppression_against_one_class_at_a_time(nms_thresh):
    draw = torch.Generator().manual_seed(3)
    corner = 60 * torch.rand(40, 2, generator=draw)
    boxes = torch.cat([corner, corner + 5 + 60 * torch.rand(40, 2, generator=draw)], dim=1)
    scores = torch.rand(40, 3, generator=draw)
    found = suppress(scores, boxes, 0.4, nms_thresh, most=100)
    expected = []
    for c in range(3):
        over = (scores[:, c] > 0.4).nonzero()[:, 0]
        kept = over[nms(boxes[over], scores[over, c], nms_thresh)]
        expected += [(*boxes[k].tolist(), float(c), scores[k, c].item()) for k in kept]
    expected.sort(key=lambda row: -row[5])
    assert torch.allclose(found, torch.tensor(expected)[:100])
    assert torch.equal(suppress(scores, boxes, 0.4, nms_thresh, most=5), found[:5])


def test_detections_are_cut_sorted_and_do_not_depend_on_the_batch():
    head, maps = small_head(), small_maps(5)
    nn.init.normal_(head.to_scores.weight, std=0.3)
    found = detect(head, maps, (192, 128), thresh=0.05, batch_size=2, bf16=False)
    assert len(found) == 5 and sum(map(len, found)) > 20
    for one, same in zip(found, detect(head, maps, (192, 128), thresh=0.05, batch_size=5, bf16=False), strict=True):
        assert torch.allclose(one, same, atol=1e-4)
        assert (one[:, :4] >= 0).all() and (one[:, [0, 2]] <= 192).all() and (one[:, [1, 3]] <= 128).all()
        assert (one[:, 5].diff() <= 0).all() and (one[:, 5] > 0.05).all()


def test_nothing_found_has_a_shape():
    found = detect(small_head(), small_maps(2), (192, 128), thresh=1.0)
    assert [tuple(one.shape) for one in found] == [(0, 6), (0, 6)]


def test_mirrored_maps_join():
    """Boxes of mirrored maps are mirrored back; the maps themselves as `mirrored` would give them unturned."""
    head, maps = small_head(), small_maps(1)
    nn.init.normal_(head.to_scores.weight, std=0.3)
    turned = [part.flip(3) for part in maps]
    alone, other = (detect(head, part, (192, 128), nms_thresh=1.0, most=999, bf16=False)[0] for part in (maps, turned))
    other[:, :4] = mirror_boxes(other[:, :4], 192)
    both = detect(head, maps, (192, 128), nms_thresh=1.0, most=999, mirrored=turned, bf16=False)[0]
    joined = torch.cat([alone, other])
    assert torch.allclose(both[:, 5], joined[joined[:, 5].argsort(descending=True), 5], atol=1e-5)
    assert torch.allclose(both[:, :4].sum(0), joined[:, :4].sum(0), rtol=1e-4)


def test_mirroring_twice_changes_nothing():
    boxes = torch.tensor([[1.0, 2, 30, 40], [0, 0, 192, 128]])
    assert mirror_boxes(boxes, 192)[0].tolist() == [162, 2, 191, 40]
    assert torch.equal(mirror_boxes(mirror_boxes(boxes, 192), 192), boxes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thresh": 1.5}, "thresh must be from 0 to 1"),
        ({"nms_thresh": -0.1}, "nms_thresh must be from 0 to 1"),
        ({"most": 0}, "most is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"mirrored": small_maps(1)}, "mirrored must have the shapes of maps"),
    ],
)
def test_bad_options_of_detect(options, message):
    with pytest.raises(ValueError, match=message):
        detect(small_head(), small_maps(2), (192, 128), **options)


@pytest.mark.parametrize(
    "options", [{"num_classes": 0}, {"width": 0}, {"depth": -1}, {"drop_ratio": 1.5}, {"drop_ratio": -0.1}]
)
def test_bad_options_of_the_head(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        small_head(**options)


# Training -------------------------------------------------------------------------------------------------------


def planted_views(n=24, seed=0):
    """Maps in which an object's class and place can be read, in pictures of 128 x 192 pixels."""
    draw = np.random.RandomState(seed)
    maps, boxes = small_maps(n, seed=seed), torch.full((n, 2, 5), -1.0)
    maps = [0.1 * part for part in maps]
    for i in range(n):
        c, x, y = draw.randint(3), 16 * draw.randint(1, 9), 16 * draw.randint(1, 5)
        boxes[i, 0] = torch.tensor([x, y, x + 48.0, y + 48.0, c])
        maps[0][i, c, y // 16 : y // 16 + 3, x // 16 : x // 16 + 3] += 2
        maps[0][i, 3, y // 16 + 1, x // 16 + 1] += 2
    return View(maps, boxes, torch.zeros(n, 2, dtype=torch.bool))


def test_it_learns_and_new_pictures_are_right():
    train, val, calls = planted_views(), planted_views(12, seed=1), []
    head, history = train_head(
        small_head(), [train], epochs=30, batch_size=8, rate=1e-2, bf16=False, on_epoch=lambda e, net: calls.append(e)
    )
    assert calls == list(range(30)) and len(history["total"]) == len(history["seconds"]) == 30
    assert history["total"][-1] < 0.4 * history["total"][0]
    found = detect(head, val.maps, (192, 128), bf16=False)
    assert evaluate_detections(found, ground_truth(val), 3)["mAP"] > 0.8


def test_same_seed_same_weights_and_the_global_stream_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    states = []
    for seed in (1, 1, 2):
        head = small_head(drop_ratio=0.5)
        trained, _ = train_head(head, [planted_views(8)], epochs=1, batch_size=4, seed=seed, bf16=False)
        states.append(torch.cat([v.flatten().float() for v in trained.state_dict().values()]))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])
    assert torch.equal(torch.rand(1), expected)


def test_views_are_versions_of_the_same_pictures():
    """Mirrored maps with mirrored boxes: both versions are drawn, each with its own boxes."""
    view = planted_views(8)
    boxes = view.boxes.clone()
    boxes[:, 0, :4] = mirror_boxes(boxes[:, 0, :4], 192)
    turned = View([part.flip(3) for part in view.maps], boxes, view.difficult)
    _, history = train_head(small_head(), [view, turned], epochs=2, batch_size=4, bf16=False)
    assert all(np.isfinite(history["total"]))


@pytest.mark.parametrize("change", ["none", "fewer boxes", "fewer flags", "fewer maps", "other length", "batch"])
def test_views_that_do_not_fit(change):
    view = planted_views(8)
    views = {
        "none": [],
        "fewer boxes": [View(view.maps, view.boxes[:7], view.difficult)],
        "fewer flags": [View(view.maps, view.boxes, view.difficult[:7])],
        "fewer maps": [View([view.maps[0], view.maps[1][:7]], view.boxes, view.difficult)],
        "other length": [view, planted_views(7)],
        "batch": [view],
    }[change]
    with pytest.raises(ValueError, match="batch_size is 9" if change == "batch" else "views must hold"):
        train_head(small_head(), views, epochs=1, batch_size=9 if change == "batch" else 2)


def test_loss_that_explodes_is_reported():
    view = planted_views(8)
    view.maps[0][:] = float("nan")
    with pytest.raises(FloatingPointError, match="smaller rate"):
        train_head(small_head(), [view], epochs=1, batch_size=4, bf16=False)


def tail():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(6, 10, 3, 2, 1), nn.BatchNorm2d(10), nn.ReLU())


def test_tail_is_a_copy_that_learns_with_fixed_statistics():
    own = tail()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    view = planted_views(8)
    view = View(view.maps[:1], view.boxes, view.difficult)
    head, _ = train_head(small_head(tail=own), [view], epochs=2, batch_size=4, tail_factor=0.5, bf16=False)
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    for name, value in head.tail.state_dict().items():
        fixed = "running" in name or "num_batches" in name
        assert torch.equal(value, before[name]) == fixed, name


def test_tail_gives_the_stored_map():
    own = tail().eval()
    with_tail, without = small_head(tail=own).eval(), small_head().eval()
    x = small_maps(2)[0]
    assert torch.allclose(with_tail(x).scores, without(x, own(x)).scores, atol=1e-6)
    with pytest.raises(ValueError, match="no tail"):
        without(x)


def test_average_of_weights():
    net = nn.Linear(1, 1)
    nn.init.zeros_(net.weight)
    average = Average(net, decay=0.5)
    nn.init.ones_(net.weight)
    seen = []
    for _ in range(3):
        average.update(net)
        seen.append(average.net.weight.item())
    decays = [min(0.5, (1 + t) / (10 + t)) for t in (1, 2, 3)]
    assert seen == pytest.approx(1 - np.cumprod(decays))


def test_one_cycle_rises_then_falls():
    factors = [one_cycle(f) for f in np.linspace(0, 1, 101)]
    assert factors[0] == pytest.approx(0.04) and max(factors) == pytest.approx(1) and factors[-1] < 1e-3
    assert np.argmax(factors) == 10 and (np.diff(factors[:11]) > 0).all() and (np.diff(factors[10:]) < 0).all()


# Views of VOC ---------------------------------------------------------------------------------------------------


def test_boxes_of_voc_in_the_square():
    """Pixels of VOC count from 1 and both ends belong to a box: the whole picture is (1, 1, w, h)."""
    boxes = torch.tensor([[[1.0, 1, 300, 200, 4], [76, 1, 150, 100, 7], [-1] * 5]])
    sides = torch.tensor([[300, 200, 300, 200]])
    square = to_square(boxes, sides, 100)[0]
    assert square[0].tolist() == [0, 0, 100, 100, 4] and square[1].tolist() == [25, 0, 50, 50, 7]
    assert to_square(boxes, sides, 100, mirror=True)[0, 1].tolist() == [50, 0, 75, 50, 7]
    assert (square[2] == -1).all() and (to_square(boxes, sides, 100, mirror=True)[0, 2] == -1).all()


def test_mirrored_view_shows_the_mirrored_pictures(tmp_path):
    """The box of a bright square lies where the map of the picture is bright, in both versions."""
    from common.data.pocket import voc as pocket
    from common.data.voc import VOC2007
    from common.vision.backbone import Backbone

    pocket.write(tmp_path, counts={"train": 6, "val": 1})
    data = VOC2007("train", tmp_path / "VOC2007")
    same = Backbone({"mean": nn.AvgPool2d(16)}, nn.Flatten(), (0.0,) * 3, (1.0,) * 3, "mean")
    view, turned = (
        voc_view(data, tmp_path / str(mirror), same, 224, ("mean",), mirror=mirror) for mirror in (False, True)
    )
    assert view.maps[0].shape == (6, 3, 14, 14) and view.maps[0].dtype == torch.float16
    assert torch.allclose(turned.maps[0].float(), view.maps[0].flip(3).float(), atol=2e-3)
    assert len(ground_truth(view)) == 6 and view.boxes.shape[:2] == view.difficult.shape
    for one, other, told in zip(ground_truth(view), ground_truth(turned), data.annotations, strict=True):
        assert torch.allclose(mirror_boxes(one[:, :4], 224), other[:, :4])
        assert one.shape == (len(told.labels), 6) and one[:, 4].tolist() == told.labels.tolist()
        assert torch.allclose(one[:, :4] + torch.tensor([1.0, 1, 0, 0]), torch.from_numpy(told.boxes))
