"""The audit of a data set that mmdet's ``CocoDataset`` reads."""

from __future__ import annotations

import gc
import os.path as osp
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .annotations import check_boxes, check_evaluated, check_remains
from .classes import check_categories, count_objects
from .coco_table import ids_of, read_table
from .finding import Audit, Finding
from .json_file import JsonFiles
from .masks import check_masks
from .sources import Source

#: Path, and width and height in pixels if annotations state them.
ImageItem = tuple[str, 'tuple[int, int] | None']


def audit_coco(source: Source, files: JsonFiles) -> tuple[Audit, list[ImageItem]]:
    """Check an annotation file, and that of the metric if it is another one.

    Returns:
        What was found, and the images that the file lists.
    """
    result, images = Audit(source.key), []
    with _without_collection():
        if osp.realpath(source.evaluated_file or '') != osp.realpath(source.ann_file):
            _audit_evaluated(source, files, result)
        content, found = files.read(source.ann_file)
        result.findings += found
        if content is not None:
            images = _audit_content(source, content, result)
    return result, images


def _audit_evaluated(source: Source, files: JsonFiles, result: Audit) -> None:
    """Check the annotation file of the metric."""
    path = source.evaluated_file
    if not path or '://' in path:
        return
    content, found = files.read(path)
    result.findings += found
    if content is None:
        return
    if isinstance(content, dict):
        result.findings += check_evaluated(content, path, source.masks)
    table, found = read_table(content, path, source.folder('img'))
    result.findings += found
    if table is None or result.fatal:
        return
    result.findings += check_categories(table, source.classes, source.own_classes)
    if source.masks:
        result.findings += check_masks(table, True, training=False)
    content, _ = files.read(source.ann_file)
    images = content.get('images') if isinstance(content, dict) else None
    loaded = ids_of(images) if isinstance(images, list) else set()
    if lacking := loaded - ids_of(table.images):
        detail = (
            f'{len(lacking)} of {len(loaded)} images of {source.ann_file} are not in it; give '
            'val_evaluator.ann_file the file of the data set'
        )
        result.findings.append(
            Finding(path, 'metric reads another file', detail, 'stops evaluation')
        )


def _audit_content(source: Source, content: Any, result: Audit) -> list[ImageItem]:
    path, classes, training = source.ann_file, source.classes, source.training
    table, found = read_table(content, path, source.folder('img'))
    result.findings += found
    evaluated = osp.realpath(source.evaluated_file or '') == osp.realpath(path)
    if isinstance(content, dict) and evaluated:
        result.findings += check_evaluated(content, path, source.masks)
    if table is None:
        return []
    result.images = len(table.images)
    images: list[ImageItem] = [
        (table.image_path(row), (int(width), int(height)))
        for row, (width, height) in enumerate(table.sizes)
    ]
    if result.fatal:
        # Further findings would only follow from these.
        return images
    result.counts = count_objects(table, classes)
    result.findings += check_categories(table, classes, source.own_classes)
    boxes = list(check_boxes(table, training))
    result.findings += boxes
    if not any(finding.effect == 'senseless' for finding in boxes):
        # A box outside the image is not beside its mask as well.
        known = {(finding.path, finding.box) for finding in boxes}
        result.findings += [
            finding
            for finding in check_masks(table, source.masks, training)
            if finding.problem != 'mask beside its box' or (finding.path, finding.box) not in known
        ]
        filter_cfg = source.config.get('filter_cfg')
        result.findings += check_remains(table, classes, filter_cfg, training)
    return images


@contextmanager
def _without_collection() -> Iterator[None]:
    """No garbage collection, which would search the millions of objects of a file."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
