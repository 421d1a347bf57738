"""Metrics by class."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from mmengine.evaluator import BaseMetric, Evaluator


def metrics_by_class(evaluator: Evaluator, scope: str) -> dict[str, dict[str, float]]:
    """Compute the metrics of an evaluator for each class.

    Args:
        evaluator: It has processed the test set, but not evaluated it yet, and is left as it is.
        scope: ``mmdet`` or ``mmseg``.

    Returns:
        Metric -> class -> value: box AP and mask AP of a ``CocoMetric``, IoU in percent of an
        ``IoUMetric``; empty for other metrics.
    """
    measure = {'mmdet': _average_precisions, 'mmseg': _ious}[scope]
    return {name: values for metric in evaluator.metrics for name, values in measure(metric)}


def _average_precisions(metric: BaseMetric) -> Iterator[tuple[str, dict[str, float]]]:
    from mmdet.evaluation import CocoMetric

    if not isinstance(metric, CocoMetric):
        return
    for kind, name in (('bbox', 'box AP'), ('segm', 'mask AP')):
        if kind not in metric.metrics:
            continue
        # One at a time: CocoMetric gives both the same names.
        alone = copy.copy(metric)
        alone.metrics, alone.classwise = [kind], True
        found = alone.compute_metrics(list(metric.results))
        classes = metric.dataset_meta['classes']
        values = {
            each: found[f'{each}_precision'] for each in classes if f'{each}_precision' in found
        }
        if values:
            yield name, {each: float(value) for each, value in values.items()}


def _ious(metric: BaseMetric) -> Iterator[tuple[str, dict[str, float]]]:
    from mmseg.evaluation import IoUMetric

    if not isinstance(metric, IoUMetric) or not metric.results:
        return
    areas = [sum(column) for column in zip(*metric.results)]
    ious = metric.total_area_to_metrics(*areas, metrics=['mIoU'])['IoU']
    classes = metric.dataset_meta['classes']
    yield 'IoU', {name: round(100 * float(iou), 2) for name, iou in zip(classes, ious)}
