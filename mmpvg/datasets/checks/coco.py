"""The audit of a data set that mmdet's ``CocoDataset`` reads."""

from __future__ import annotations

import gc
import os.path as osp
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .annotations import check_boxes, check_evaluated, check_remains
from .classes import check_categories, count_objects
from .coco_table import read_table
from .finding import Audit, Finding
from .json_file import read_json
from .masks import check_masks
from .sources import Source

#: Path, and width and height in pixels where annotations say them.
ImageItem = tuple[str, 'tuple[int, int] | None']


class JsonFiles:
    """Reads annotation files, and keeps the last: a data set and its metric mostly share one."""

    def __init__(self) -> None:
        self.path, self.content, self.findings = '', None, []

    def read(self, path: str) -> tuple[Any, list[Finding]]:
        """Content of a file, and what keeps training from reading it."""
        if osp.realpath(path) != self.path:
            # The old content goes first: there may not be memory for two.
            self.content = None
            self.content, self.findings = read_json(path)
            self.path = osp.realpath(path)
        return self.content, self.findings


def audit_coco(source: Source, files: JsonFiles) -> tuple[Audit, list[ImageItem]]:
    """Look through an annotation file, and that of the metric if it is another one.

    Args:
        source: The data set.
        files: What reads them.

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
    """The metric reads a file of its own."""
    path = source.evaluated_file
    if not path or '://' in path:
        return
    content, found = files.read(path)
    result.findings += found
    if isinstance(content, dict):
        result.findings += check_evaluated(content, path, source.masks)
    table, found = read_table(content, path, source.folder('img'))
    if content is not None:
        result.findings += found
    if table is not None and not result.fatal:
        result.findings += check_categories(table, source.classes, source.own_classes)
        if source.masks:
            result.findings += check_masks(table, True, training=False)
        listed = {image['id'] for image in table.images}
        content, _ = files.read(source.ann_file)
        images = content.get('images') if isinstance(content, dict) else None
        images = images if isinstance(images, list) else ()
        loaded = {image.get('id') for image in images if isinstance(image, dict)}
        if loaded - listed:
            detail = (
                f'{len(loaded - listed)} of {len(loaded)} images of {source.ann_file} are not in '
                'it; give val_evaluator.ann_file the file of the data set'
            )
            finding = Finding(path, 'metric reads another file', detail, 'stops evaluation')
            result.findings.append(finding)


def _audit_content(source: Source, content: Any, result: Audit) -> list[ImageItem]:
    path = source.ann_file
    table, found = read_table(content, path, source.folder('img'))
    result.findings += found
    if isinstance(content, dict) and osp.realpath(source.evaluated_file or '') == osp.realpath(
        path
    ):
        result.findings += check_evaluated(content, path, source.masks)
    if table is None:
        return []
    result.images = len(table.images)
    images = [
        (table.image_path(row), (int(width), int(height)))
        for row, (width, height) in enumerate(table.sizes)
    ]
    if result.fatal:
        # What follows from it needs no words.
        return images
    result.counts = count_objects(table, source.classes)
    result.findings += check_categories(table, source.classes, source.own_classes)
    boxes = check_boxes(table, source.training)
    result.findings += boxes
    if not any(finding.effect == 'senseless' for finding in boxes):
        told = {(finding.path, finding.box) for finding in boxes}
        result.findings += [
            finding
            for finding in check_masks(table, source.masks, source.training)
            # A box outside the image is not beside its mask as well.
            if finding.problem != 'mask beside its box' or (finding.path, finding.box) not in told
        ]
        result.findings += check_remains(
            table, source.classes, source.config.get('filter_cfg'), source.training
        )
    return images


@contextmanager
def _without_collection() -> Iterator[None]:
    """No search for garbage among the millions of objects of a file, which are none."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
