"""What mmdet does with wrong COCO annotations without a word, or stops at late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .coco_table import CocoTable
from .finding import Finding

# Pixels, and share of the image's side, by which a box may reach beyond an image: annotators and
# rounding do. Share of the boxes that may do so before all are taken to mean something else.
_SLACK, _SLACK_SHARE, _FEW = 2.0, 0.02, 0.05

#: Problems of a file that may stand beside others with objects.
WITHOUT_OBJECTS = ('no object is left', 'iscrowd everywhere')


def check_boxes(table: CocoTable, training: bool) -> Iterator[Finding]:
    """Boxes that are no boxes of their image.

    Args:
        table: The annotations.
        training: Whether only mmdet's data set reads them, which leaves some out.

    Yields:
        One finding for the whole file if all boxes are written in another format, otherwise one for
        each box.
    """
    boxes, sizes = table.boxes, table.sizes[table.image_of]
    finite = np.isfinite(boxes).all(1)
    if written := _other_format(boxes[finite], sizes[finite]):
        detail = f'{written[1]}; write [left, top, width, height] in pixels'
        yield Finding(table.path, written[0], detail, 'senseless')
        return
    left, top, width, height = boxes.T
    with np.errstate(invalid='ignore'):
        right, bottom = left + width, top + height
        empty = (width < 1) | (height < 1) | (table.areas <= 0)
        outside = (left >= sizes[:, 0]) | (top >= sizes[:, 1]) | (right <= 0) | (bottom <= 0)
        beyond = ~_inside(left, top, right, bottom, sizes)
    effect = 'left out' if training else 'unnoticed'
    for row in np.flatnonzero(~finite | empty | outside | beyond):
        detail = f'box {table.annotations[row]["bbox"]}'
        if not finite[row]:
            # mmdet drops a box with a NaN and keeps an infinite one, which CheckLoaded refuses.
            kept = training and not np.isnan(boxes[row]).any()
            yield table.finding(row, 'not finite', detail, 'replaced' if kept else effect)
        elif outside[row]:
            yield table.finding(row, 'box outside the image', detail, effect)
        elif empty[row]:
            detail += f', area {table.areas[row]:g}'
            yield table.finding(row, 'box without area', detail, effect)
        else:
            detail += f', image {sizes[row, 0]:g}x{sizes[row, 1]:g}'
            yield table.finding(row, 'box beyond the image', detail, 'unnoticed')


def _inside(left: Any, top: Any, right: Any, bottom: Any, sizes: np.ndarray) -> np.ndarray:
    slack = np.maximum(_SLACK, _SLACK_SHARE * sizes)
    low = (left >= -slack[:, 0]) & (top >= -slack[:, 1])
    return low & (right <= sizes[:, 0] + slack[:, 0]) & (bottom <= sizes[:, 1] + slack[:, 1])


def _other_format(boxes: np.ndarray, sizes: np.ndarray) -> tuple[str, str] | None:
    """The format in which all boxes fit their images, if it is not COCO's."""
    if not len(boxes):
        return None
    a, b, c, d = boxes.T
    example = [round(float(value), 4) for value in boxes[0]]
    if boxes.max() <= 1 and boxes.min() >= 0 and sizes.max() > 2:
        detail = f'all {len(boxes)} boxes lie between 0 and 1, such as {example}'
        return 'boxes are shares of the image', detail
    beyond = np.mean(~_inside(a, b, a + c, b + d, sizes))
    if beyond <= _FEW:
        return None
    start = f'as left, top, width, height {beyond:.0%} of {len(boxes)} boxes leave their image'
    if np.mean((c > a) & (d > b) & _inside(a, b, c, d, sizes)) > 0.99:
        detail = f'{start}, as left, top, right, bottom they fit, such as {example}'
        return 'boxes are corners', detail
    if np.mean(_inside(a - c / 2, b - d / 2, a + c / 2, b + d / 2, sizes)) > 0.99:
        detail = f'{start}, as center x, center y, width, height they fit, such as {example}'
        return 'boxes are centers and sizes', detail
    return None


def check_evaluated(content: Mapping, path: str, masks: bool) -> Iterator[Finding]:
    """What COCO's evaluation needs of a parsed file, beyond what a data set does."""
    records = content.get('annotations')
    annotations = [a for a in records if isinstance(a, dict)] if isinstance(records, list) else []
    total = len(annotations)
    if not annotations:
        detail = 'it has no annotation, so that every metric is -1; give a validation set with some'
        yield Finding(path, 'nothing to evaluate on', detail, 'senseless')
        return
    fixes = {'iscrowd': '0, or 1 for a crowd'}
    if masks:
        fixes['segmentation'] = "the object's mask"
    for field, fix in fixes.items():
        without = [a for a in annotations if a.get(field) is None]
        if without:
            detail = (
                f'{field!r} of {len(without)} of {total} is missing or null (the first: '
                f'{without[0].get("id")}), which ends the first evaluation; write {fix}'
            )
            yield Finding(path, f'annotation without {field}', detail, 'stops evaluation')
    refused = [a['id'] for a in annotations if 'id' in a and not _is_float(a['id'])]
    if refused:
        detail = (
            f'ids of {len(refused)} of {total} annotations, such as {refused[0]!r}, are not '
            'numbers, which ends the first evaluation; number them from 1'
        )
        yield Finding(path, 'annotation id is not a number', detail, 'stops evaluation')
    if any(a.get('id') == 0 for a in annotations):
        detail = 'COCO counts the annotation with id 0 as missed by every detector; number from 1'
        yield Finding(path, 'annotation id 0', detail, 'unnoticed')


def _is_float(value: Any) -> bool:
    """Whether COCO's evaluation can store a value in its arrays."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def check_remains(
    table: CocoTable, classes: Sequence[str], filter_cfg: Mapping | None, training: bool
) -> Iterator[Finding]:
    """Whether anything is left to train on, or to evaluate with.

    Args:
        table: The annotations.
        classes: Names that the config chose.
        filter_cfg: Of mmdet's data set: ``filter_empty_gt`` and ``min_size``.
        training: False for a set to evaluate on, of which nothing is filtered out.
    """
    count = len(table.images)
    if not count:
        yield Finding(table.path, 'no images', 'it lists no image', 'stops')
        return
    chosen = np.array([c['name'] in classes for c in table.categories] + [False], bool)
    of_class = chosen[table.category_of]
    with_object = np.zeros(count, bool)
    with_object[table.image_of[of_class]] = True
    filter_cfg = (filter_cfg or {}) if training else {}
    filter_empty = filter_cfg.get('filter_empty_gt', False)
    large = table.sizes.min(1) >= filter_cfg.get('min_size', 0)
    kept = large & (with_object if filter_empty else True)
    if not kept.any():
        why = []
        if filter_empty:
            why.append(f'{np.sum(~with_object)} have no object of the classes (filter_empty_gt)')
        if not large.all():
            why.append(f'{np.sum(~large)} are smaller than min_size={filter_cfg["min_size"]}')
        fix = 'change the filter_cfg'
        if not with_object.any():
            fix = 'give objects of the classes' if len(table.annotations) else 'add annotations'
        detail = f'of {count} images {" and ".join(why)}; {fix}'
        yield Finding(table.path, 'nothing is left of the images', detail, 'stops')
        return
    found = usable(table) & of_class & kept[table.image_of]
    if not found.any():
        detail = (
            f'of {len(table.annotations)} annotations with a box none is of the classes '
            f'({", ".join(map(str, classes[:5]))}{", ..." if len(classes) > 5 else ""}), has an '
            'area, lies in its image and is not marked with ignore: there is nothing to learn, and '
            'losses stay at 0'
        )
        yield Finding(table.path, 'no object is left', detail, 'senseless')
    elif table.crowd[found].all():
        detail = (
            f'all {found.sum()} annotations have iscrowd 1, which training and evaluation ignore; '
            'write 0 for single objects'
        )
        yield Finding(table.path, 'iscrowd everywhere', detail, 'senseless')
    if training:
        detail = 'left out' if filter_empty else 'kept as background'
        for row in np.flatnonzero(~with_object):
            yield Finding(table.image_path(row), 'no object', detail, 'noted')
    texts = sum(isinstance(a.get('iscrowd'), str) for a in table.annotations)
    if texts:
        detail = f'{texts} are text, and "0" counts as 1; write numbers'
        yield Finding(table.path, 'iscrowd is text', detail, 'senseless')


def usable(table: CocoTable) -> np.ndarray:
    """(N,) whether mmdet's data set keeps an annotation, whatever its category."""
    left, top, width, height = table.boxes.T
    right, bottom = table.sizes[table.image_of].T
    with np.errstate(invalid='ignore'):
        inside = (np.minimum(left + width, right) > np.maximum(left, 0)) & (
            np.minimum(top + height, bottom) > np.maximum(top, 0)
        )
        kept = inside & (width >= 1) & (height >= 1) & (table.areas > 0)
    return kept & ~np.array([bool(a.get('ignore', False)) for a in table.annotations], bool)
