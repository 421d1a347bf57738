"""One look through the data of a config, before anything is built from it."""

from __future__ import annotations

import gc
import os.path as osp
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .annotations import check_boxes, check_evaluated, check_remains
from .classes import check_categories, check_joined, count_objects
from .coco_table import read_table
from .finding import FATAL, Finding
from .json_file import read_json
from .masks import check_masks
from .sources import Source, sources_of


@dataclass
class Audit:
    """What was found in one data set.

    Attributes:
        key: Where it stands in the config.
        images: How many it has; 0 if that is not known.
        counts: Objects, or images, of each class.
        findings: What is wrong, and notes.
    """

    key: str
    images: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def audit(cfg: Mapping, splits: Iterable[str]) -> Iterator[Audit]:
    """Look through annotation files, one data set after another; no image is read.

    Args:
        cfg: The config, its scope being the default one.
        splits: Out of ``train``, ``val`` and ``test``; those that the config lacks are passed over.

    Yields:
        What was found in each data set, and last, in their lists of classes.
    """
    files = _Files()
    classes: dict[str, Any] = {}
    for split in splits:
        for source in sources_of(cfg, split):
            if isinstance(source, Finding):
                yield Audit(source.path, findings=[source])
                continue
            classes[source.key] = source.classes
            if source.is_local:
                with _without_collection():
                    result = _audit_source(source, files)
                yield result
    differing = list(check_joined(classes))
    if differing:
        yield Audit('classes', findings=differing)


@contextmanager
def _without_collection() -> Iterator[None]:
    """No search for garbage among the millions of objects of a file, which holds none."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class _Files:
    """The last file that was read: a data set and its evaluation mostly share one."""

    def __init__(self) -> None:
        self.path, self.content, self.findings = '', None, []

    def read(self, path: str) -> tuple[Any, list[Finding]]:
        if osp.realpath(path) != self.path:
            # The old content first: two of them may not fit.
            self.content = None
            self.content, self.findings = read_json(path)
            self.path = osp.realpath(path)
        return self.content, self.findings


def _audit_source(source: Source, files: _Files) -> Audit:
    result = Audit(source.key)
    if source.is_coco and source.classes and source.ann_file.endswith('.json'):
        _audit_coco(source, files, result)
    return result


def _audit_coco(source: Source, files: _Files, result: Audit) -> None:
    path = source.ann_file
    content, found = files.read(path)
    result.findings += found
    if content is None:
        return
    table, found = read_table(content, path, source.folder('img'))
    result.findings += found
    evaluated = source.evaluated_file
    if evaluated and osp.realpath(evaluated) == osp.realpath(path) and isinstance(content, dict):
        result.findings += check_evaluated(content, path, source.masks)
    if table is None:
        return
    result.images = len(table.images)
    if any(finding.effect in FATAL for finding in result.findings):
        # What follows from it needs no words.
        return
    result.counts = count_objects(table, source.classes)
    result.findings += check_categories(table, source.classes, source.own_classes)
    boxes = check_boxes(table, source.training)
    result.findings += boxes
    if any(finding.effect in FATAL for finding in boxes):
        return
    result.findings += check_masks(table, source.masks)
    result.findings += check_remains(
        table, source.classes, source.config.get('filter_cfg'), source.training
    )
