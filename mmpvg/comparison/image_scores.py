"""Scores of predictions on one image: F1 of instances, mean IoU of a label map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement, InstanceData

from mmpvg.apis.tta import evaluators
from mmpvg.utils.errors import UserError

_NO_TRUTH = (
    'the test pipeline loads no ground truth, so there is nothing to compare with; add '
    'LoadAnnotations to it, after any Resize'
)


@dataclass(frozen=True)
class ImageScore:
    """A score of single images.

    Attributes:
        name: Short, for the heads of columns.
        description: What is measured.
        digits: Decimals that are shown.
        of: Scores a sample that holds prediction and ground truth; NaN where there is nothing to
            measure. Higher is better.
    """

    name: str
    description: str
    digits: int
    of: Callable[[BaseDataElement], float]


def image_score(cfg: Config, num_classes: int, score_thr: float = 0.5) -> ImageScore:
    """Make the score of images that suits a config's task and test evaluator.

    Args:
        cfg: Config of a detector or a segmenter.
        num_classes: Classes of its data.
        score_thr: Detections that do not score more are left out.
    """
    metrics = evaluators(cfg)
    if cfg.default_scope == 'mmseg':
        ignored = next((each.ignore_index for each in metrics if 'ignore_index' in each), 255)
        return ImageScore(
            'mIoU',
            'the mean IoU, in percent, over the classes that occur in the ground truth or in the '
            'prediction',
            1,
            lambda sample: _segmentation_score(sample, num_classes, ignored),
        )
    masks = any('segm' in each.get('metric', ()) for each in metrics)
    return ImageScore(
        'F1',
        f'2 × hits / (detections + instances), where a detection with a score above {score_thr:g} '
        f'hits an instance of its class if their {"masks" if masks else "boxes"} have an IoU of '
        '0.5 or more, each instance once',
        2,
        lambda sample: _detection_score(sample, score_thr, masks),
    )


def mean_iou(
    prediction: torch.Tensor, truth: torch.Tensor, num_classes: int, ignore_index: int = 255
) -> float:
    """Compute the mean IoU, in percent, over the classes in a label map or in the ground truth.

    Args:
        prediction: Labels of shape (h, w).
        truth: Labels of shape (h, w).
        num_classes: Number of classes.
        ignore_index: Label of pixels that do not count.

    Returns:
        0 to 100; NaN if no pixel counts.

    Raises:
        UserError: If the shapes differ.
    """
    from mmseg.evaluation import IoUMetric

    _check_shapes(prediction.shape, truth.shape)
    shared, united, _, _ = IoUMetric.intersect_and_union(
        prediction, truth.to(prediction), num_classes, ignore_index
    )
    return 100 * float((shared / united)[united > 0].mean())


def instance_f1(
    labels: np.ndarray,
    scores: np.ndarray,
    true_labels: np.ndarray,
    overlaps: np.ndarray,
    crowd: np.ndarray | None = None,
    iou_thr: float = 0.5,
) -> float:
    """Compute the F1 of detections, each matched to one instance of its class at most.

    Best scores first, a detection takes the free instance that it overlaps most. One that takes
    none, but lies in a crowd of its class, does not count, as with COCO's metrics.

    Args:
        labels: Classes of N detections.
        scores: Their scores.
        true_labels: Classes of M instances.
        overlaps: Their IoU, of shape (N, M); for a crowd the share of the detection that it covers.
        crowd: Which of the M are crowds; none by default.
        iou_thr: Least overlap of a match.

    Returns:
        0 to 1; 1 if there is nothing, and nothing was detected.
    """
    crowd = np.zeros(len(true_labels), bool) if crowd is None else np.asarray(crowd, bool)
    free = ~crowd
    hits = false_alarms = 0
    for index in np.argsort(-np.asarray(scores), kind='stable'):
        near = (true_labels == labels[index]) & (overlaps[index] >= iou_thr)
        open_ones = np.flatnonzero(near & free)
        if len(open_ones):
            free[open_ones[np.argmax(overlaps[index, open_ones])]] = False
            hits += 1
        elif not (near & crowd).any():
            false_alarms += 1
    counted = 2 * hits + false_alarms + int(free.sum())
    return 2 * hits / counted if counted else 1.0


def _segmentation_score(sample: BaseDataElement, num_classes: int, ignore_index: int) -> float:
    if 'gt_sem_seg' not in sample:
        raise UserError(_NO_TRUTH)
    return mean_iou(
        sample.pred_sem_seg.data[0], sample.gt_sem_seg.data[0], num_classes, ignore_index
    )


def _detection_score(sample: BaseDataElement, score_thr: float, masks: bool) -> float:
    if 'pred_instances' not in sample:
        raise UserError('the model predicts no instances; give a detector of instances')
    if 'labels' not in sample.get('gt_instances', ()):
        raise UserError(_NO_TRUTH)
    sample = sample.cpu()
    found = sample.pred_instances
    found = found[found.scores > score_thr]
    truth, crowd = sample.gt_instances, sample.get('ignored_instances', InstanceData())
    crowd_labels = crowd.get('labels', torch.empty(0, dtype=torch.long))
    true_labels = torch.cat([truth.labels, crowd_labels]).numpy()
    is_crowd = np.arange(len(true_labels)) >= len(truth.labels)
    regions = _encoded_masks if masks else _coco_boxes
    true_regions = regions(truth) + (regions(crowd) if len(crowd_labels) else [])
    overlaps = _overlaps(regions(found), true_regions, is_crowd)
    return instance_f1(found.labels.numpy(), found.scores.numpy(), true_labels, overlaps, is_crowd)


def _overlaps(found: list, truth: list, crowd: np.ndarray) -> np.ndarray:
    """COCO's overlaps of masks or boxes, of shape (N, M)."""
    from pycocotools.mask import iou

    if not found or not truth:
        return np.zeros((len(found), len(truth)))
    if isinstance(found[0], dict):
        _check_shapes(found[0]['size'], truth[0]['size'])
    else:
        found, truth = np.array(found, float), np.array(truth, float)
    return iou(found, truth, crowd.astype(np.uint8).tolist())


def _encoded_masks(instances: InstanceData) -> list[dict]:
    from pycocotools.mask import encode

    if 'masks' not in instances:
        raise UserError(
            'test_evaluator measures masks (segm), but the model or the test pipeline gives none; '
            'set test_evaluator.metric=bbox, and with_mask=True in LoadAnnotations otherwise'
        )
    masks = instances.masks
    masks = masks.to_ndarray() if hasattr(masks, 'to_ndarray') else masks.numpy()
    return encode(np.asfortranarray(masks.astype(np.uint8).transpose(1, 2, 0)))


def _coco_boxes(instances: InstanceData) -> list[list[float]]:
    """Left, top, width and height."""
    boxes = instances.bboxes
    boxes = boxes.tensor if hasattr(boxes, 'tensor') else boxes
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()


def _check_shapes(prediction: tuple, truth: tuple) -> None:
    if tuple(prediction) != tuple(truth):
        raise UserError(
            f'the prediction has {prediction[0]}x{prediction[1]} pixels, the ground truth '
            f'{truth[0]}x{truth[1]}; put LoadAnnotations after Resize in the test pipeline, so '
            'that the ground truth keeps its size'
        )
