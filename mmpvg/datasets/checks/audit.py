"""The audit of the data of a config, before anything is built from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from .annotations import WITHOUT_OBJECTS
from .classes import check_joined
from .coco import ImageItem, audit_coco
from .decode import check_dataset
from .finding import Audit, Finding, in_evaluation, join_common
from .image_files import check_image_header, image_loader
from .json_file import JsonFiles
from .label_maps import check_single_class_head
from .listed import audit_classification, audit_segmentation
from .sources import Source, sources_of
from .workers import map_in_processes

# Label maps of a data set that are read at the depth of annotations.
_SAMPLE = 64

# What only CheckLoaded finds in training.
_OF_SIZE = ('size unlike its annotations', 'EXIF orientation unlike the annotations')

Progress = Callable[[str, int, int], Any]


def audit(
    cfg: Mapping,
    splits: Iterable[str],
    depth: str = 'annotations',
    jobs: int = 1,
    progress: Progress = lambda what, done, total: None,
) -> Iterator[Audit]:
    """Check the data of a config, one data set after another.

    Args:
        cfg: The config, in the default scope.
        splits: Out of ``train``, ``val`` and ``test``; those that the config lacks are skipped.
        depth: ``annotations`` reads annotation files and a sample of label maps; ``headers`` also
            reads all label maps and the header of each image; ``pixels`` decodes each image as
            training does.
        jobs: Processes that read images.
        progress: Called with what is read, how much is done, and how much there is (0: unknown).

    Yields:
        What was found in each data set, and last in all of them together.
    """
    files = JsonFiles()
    model = cfg.get('model') or {}
    classes: dict[str, Sequence[str] | None] = {}
    for split in splits:
        results = []
        for source in sources_of(cfg, split):
            if isinstance(source, Finding):
                results.append(Audit(source.path, findings=[source]))
                continue
            progress(source.key, 0, 0)
            result, images = _audit_source(source, model, files, depth, jobs, progress)
            # Those of folders are known to the data set alone.
            classes[source.key] = source.classes or tuple(result.counts)
            of_files = list(_image_findings(source, images, depth, jobs, progress))
            if depth == 'pixels' and source.is_local:
                known = {(f.path, f.problem) for f in (*result.findings, *of_files)}
                whole = {finding.problem for finding in result.fatal}
                of_files += [
                    finding
                    for finding in _decoded(source, jobs, progress)
                    if (finding.path, finding.problem) not in known and finding.problem not in whole
                ]
            result.findings += join_common(of_files, source.key, result.images, source.training)
            if not source.training:
                result.findings = list(map(in_evaluation, result.findings))
            results.append(result)
        _judge_together(results)
        yield from results
    common = list(check_single_class_head(model))
    # Retrieval is tested on other classes than it learns from.
    if not str(model.get('type')).endswith('Retriever'):
        common += check_joined(classes)
    if common:
        yield Audit('config', findings=common)


def _judge_together(results: Sequence[Audit]) -> None:
    """Allow a data set without objects, such as one of backgrounds, beside others with some."""
    alone = [any(f.problem in WITHOUT_OBJECTS for f in result.findings) for result in results]
    if all(alone):
        return
    for result in results:
        result.findings = [
            replace(finding, effect='noted') if finding.problem in WITHOUT_OBJECTS else finding
            for finding in result.findings
        ]


def _audit_source(
    source: Source,
    model: Mapping,
    files: JsonFiles,
    depth: str,
    jobs: int,
    progress: Progress,
) -> tuple[Audit, Sequence[ImageItem]]:
    bases = {f'{kind.__module__.split(".")[0]}.{kind.__name__}' for kind in source.kind.__mro__}
    if source.is_local:
        if source.is_coco and source.classes and source.ann_file.endswith('.json'):
            return audit_coco(source, files)
        if 'mmseg.BaseSegDataset' in bases:
            sample = _SAMPLE if depth == 'annotations' else None
            report = partial(progress, f'{source.key}: label maps')
            return audit_segmentation(source, model, sample, jobs, report), ()
        if 'mmpretrain.BaseDataset' in bases:
            return audit_classification(source)
    why = 'is not on a local disk' if not source.is_local else f'is a {source.kind.__name__}'
    note = Finding(source.key, 'annotations are not looked into', f'it {why}', 'noted')
    return Audit(source.key, findings=[note]), ()


def _image_findings(
    source: Source, images: Sequence[ImageItem], depth: str, jobs: int, progress: Progress
) -> Iterator[Finding]:
    if depth == 'annotations':
        # Training takes another image, evaluation stops.
        for path, _ in () if source.training else images:
            if not os.path.exists(path):
                yield Finding(path, 'image missing', '', 'replaced')
        return
    pipeline = source.config.get('pipeline') or ()
    compared = any(str(t['type']).endswith('CheckLoaded') for t in pipeline)
    try:
        loader = image_loader(pipeline)
    except ValueError:
        return
    check = partial(_check_header, loader)
    for done, found in enumerate(map_in_processes(check, images, jobs), 1):
        progress(f'{source.key}: headers', done, len(images))
        for finding in found:
            if finding.problem in _OF_SIZE and source.training and not compared:
                finding = replace(finding, effect='unnoticed')
            yield finding


def _check_header(loader: Mapping, item: ImageItem) -> list[Finding]:
    return check_image_header(*item, loader)


def _decoded(source: Source, jobs: int, progress: Progress) -> Iterator[Finding]:
    try:
        for done, total, found in check_dataset(source.config, jobs):
            progress(f'{source.key}: pixels', done, total)
            yield from found
    except Exception as error:  # whatever a data set makes of its annotations
        lines = str(error).splitlines() or ['']
        detail = f'{type(error).__name__}: {lines[0]}'
        yield Finding(source.key, 'cannot be decoded', detail, 'stops')
