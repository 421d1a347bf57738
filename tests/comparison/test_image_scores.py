"""Scores of single images against cases worked out by hand."""

import math

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData

from mmpvg.comparison.image_scores import image_score, instance_f1, mean_iou


def f1(labels, scores, true_labels, overlaps, crowd=None):
    overlaps = np.array(overlaps, float).reshape(len(labels), len(true_labels))
    return instance_f1(np.array(labels), np.array(scores), np.array(true_labels), overlaps, crowd)


@pytest.mark.parametrize(
    'labels, scores, true_labels, overlaps, expected',
    [
        ([], [], [], [], 1.0),
        ([1], [0.9], [], [], 0.0),
        ([], [], [1], [], 0.0),
        ([1], [0.9], [1], [[0.5]], 1.0),
        ([1], [0.9], [1], [[0.49]], 0.0),
        # Another class.
        ([2], [0.9], [1], [[0.9]], 0.0),
        # The same instance twice: a hit and a false alarm.
        ([1, 1], [0.9, 0.8], [1], [[0.9], [0.9]], 2 / 3),
        # The second takes the instance that the first, which overlaps another more, leaves.
        ([1, 1], [0.9, 0.8], [1, 1], [[0.6, 0.7], [0.6, 0.9]], 1.0),
        # The better score chooses first, although its overlap is less: the other finds none left.
        ([1, 1], [0.7, 0.8], [1, 1], [[0.9, 0.0], [0.6, 0.0]], 1 / 2),
        # Of equal scores the first chooses first, and leaves the other nothing.
        ([1, 1], [0.8, 0.8], [1, 1], [[0.9, 0.6], [0.8, 0.0]], 1 / 2),
        # Two of three found, one false alarm: 4 / (4 + 1 + 1).
        ([0, 1, 1], [0.9, 0.8, 0.7], [0, 1, 2], [[0.9, 0, 0], [0, 0.6, 0], [0, 0.6, 0.9]], 4 / 6),
    ],
)
def test_f1(labels, scores, true_labels, overlaps, expected):
    assert f1(labels, scores, true_labels, overlaps) == pytest.approx(expected)


def test_what_lies_in_a_crowd_does_not_count():
    one_each = [[0.9, 0.0], [0.0, 0.9], [0.0, 0.9]]
    assert f1([1, 1, 1], [0.9, 0.8, 0.7], [1, 1], one_each, crowd=[False, True]) == 1
    # A crowd of another class does not excuse it, and a crowd need not be found.
    assert f1([1, 1], [0.9, 0.8], [1, 2], one_each[:2], crowd=[False, True]) == pytest.approx(2 / 3)
    assert f1([], [], [1], [], crowd=[True]) == 1


def test_mean_iou():
    truth = torch.tensor([[0, 0, 1], [1, 255, 255]])
    prediction = torch.tensor([[0, 1, 1], [1, 2, 0]])
    # Class 0: 1 of 2 pixels; class 1: 2 of 3; class 2 only where nothing counts.
    expected = 100 * (1 / 2 + 2 / 3) / 2
    assert mean_iou(prediction, truth, 4) == pytest.approx(expected)
    # A class that is only predicted is missed wholly.
    found = mean_iou(torch.tensor([[0, 3]]), torch.tensor([[0, 0]]), 4)
    assert found == pytest.approx(100 * (1 / 2 + 0) / 2)
    assert math.isnan(mean_iou(prediction, torch.full_like(truth, 255), 4))
    assert mean_iou(prediction, torch.full_like(truth, 7), 4, ignore_index=9) == 0
    with pytest.raises(ValueError, match='2x3 pixels, the ground truth 2x2'):
        mean_iou(prediction, truth[:, :2], 4)


def cfg_of(scope, **evaluator):
    return Config(dict(default_scope=scope, test_evaluator=dict(type='Any', **evaluator)))


def test_a_label_map():
    from mmseg.structures import SegDataSample

    sample = SegDataSample()
    sample.pred_sem_seg = PixelData(data=torch.tensor([[[0, 1, 1]]]))
    score = image_score(cfg_of('mmseg', ignore_index=7), 2)
    with pytest.raises(ValueError, match='LoadAnnotations'):
        score.of(sample)
    sample.gt_sem_seg = PixelData(data=torch.tensor([[[0, 1, 7]]]))
    assert score.of(sample) == 100


def rectangles(*corners):
    """Masks of 10x10 pixels, from left, top, right, bottom."""
    masks = torch.zeros(len(corners), 10, 10, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, corners):
        mask[top:bottom, left:right] = True
    return masks


def detections(labels, scores, boxes, masks):
    return InstanceData(
        labels=torch.tensor(labels),
        scores=torch.tensor(scores),
        bboxes=torch.tensor(boxes, dtype=torch.float),
        masks=masks,
    )


def truth(labels, boxes):
    from mmdet.structures.mask import BitmapMasks

    return InstanceData(
        labels=torch.tensor(labels, dtype=torch.long),
        bboxes=torch.tensor(boxes, dtype=torch.float).reshape(-1, 4),
        masks=BitmapMasks(rectangles(*boxes).numpy().astype(np.uint8), 10, 10),
    )


def test_instances():
    from mmdet.structures import DetDataSample

    sample = DetDataSample()
    boxes = [[0, 0, 4, 4], [5, 5, 9, 9], [0, 5, 4, 9]]
    # The second box is right, its mask is the half less a column: IoU 6 of 16.
    masks = rectangles([0, 0, 4, 4], [5, 5, 7, 8], [0, 5, 4, 9])
    sample.pred_instances = detections([0, 1, 0], [0.9, 0.8, 0.4], boxes, masks)
    by_box, by_mask = (
        image_score(cfg_of('mmdet', metric=metric), 2, 0.5) for metric in ('bbox', ['segm'])
    )
    with pytest.raises(ValueError, match='LoadAnnotations'):
        by_box.of(sample)
    sample.gt_instances = truth([0, 1], [[0, 0, 4, 4], [5, 5, 9, 9]])
    assert by_box.of(sample) == 1
    assert by_mask.of(sample) == 1 / 2
    assert 'boxes' in by_box.description and 'masks' in by_mask.description
    # A detection counts if it scores more than the threshold, not as much.
    exact = image_score(cfg_of('mmdet', metric='bbox'), 2, sample.pred_instances.scores[1].item())
    assert exact.of(sample) == pytest.approx(2 / 3)
    # The third detection counts now, and is not there; then a crowd that covers it excuses it.
    low = image_score(cfg_of('mmdet', metric='bbox'), 2, 0.3)
    assert low.of(sample) == pytest.approx(4 / 5)
    sample.ignored_instances = truth([0], [[0, 4, 8, 10]])
    assert low.of(sample) == 1
    assert image_score(cfg_of('mmdet', metric='segm'), 2, 0.3).of(sample) == 1 / 2
    sample.gt_instances = truth([], [])
    sample.pred_instances = sample.pred_instances[:0]
    assert by_box.of(sample) == by_mask.of(sample) == 1
    # Nothing but a false alarm.
    sample.pred_instances = detections([0], [0.9], boxes[:1], masks[:1])
    assert by_box.of(sample) == by_mask.of(sample) == 0


def test_ground_truth_of_another_size_is_refused():
    from mmdet.structures import DetDataSample

    sample = DetDataSample()
    sample.gt_instances = truth([0], [[0, 0, 4, 4]])
    sample.pred_instances = detections(
        [0], [0.9], [[0, 0, 8, 8]], torch.ones(1, 20, 20, dtype=torch.bool)
    )
    score = image_score(cfg_of('mmdet', metric='segm'), 2)
    with pytest.raises(ValueError, match='after Resize'):
        score.of(sample)
    del sample.pred_instances.masks
    with pytest.raises(ValueError, match='metric=bbox'):
        score.of(sample)
    del sample.pred_instances
    with pytest.raises(ValueError, match='predicts no instances'):
        score.of(sample)
