"""The audit of data sets that list files: label maps of mmseg, images of classes of mmpretrain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from ..broken_samples import describe_classes
from .decode import loading_transforms
from .finding import Audit, Finding
from .json_file import decode_text
from .label_maps import check_label_maps
from .sources import Source


def audit_segmentation(
    source: Source,
    model: Mapping,
    sample: int | None,
    jobs: int = 1,
    progress: Callable[[int, int], Any] = lambda done, total: None,
) -> Audit:
    """Check the label maps and image headers of a data set; see ``check_label_maps``."""
    result = Audit(source.key)
    dataset = _build(source, result)
    if not result.images:
        return result
    heads = model.get('decode_head') or {}
    heads = heads if isinstance(heads, (list, tuple)) else [heads]
    numbers = [head['num_classes'] for head in heads if head.get('num_classes')]
    classes = source.classes or dataset.metainfo.get('classes') or ()
    if sample is None:
        result.findings += _unpaired_masks(dataset)
    outputs = max(numbers, default=len(classes))
    found, result.counts = check_label_maps(
        dataset, outputs, sample, source.training, jobs, progress
    )
    result.findings += found
    read = result.images if sample is None else min(sample, result.images)
    result.counted = f'pixels (of {read} label maps)'
    return result


def audit_classification(source: Source) -> tuple[Audit, list[tuple[str, None]]]:
    """Count the images of each class of a data set; returns what was found, and the images."""
    result = Audit(source.key)
    dataset = _build(source, result)
    infos = [dataset.get_data_info(index) for index in range(result.images)]
    images = [(str(info['img_path']), None) for info in infos if 'img_path' in info]
    classes = source.classes or (dataset.metainfo.get('classes') if infos else None)
    if not classes or not infos or 'gt_label' not in infos[0]:
        return result, images
    where = source.ann_file or source.folder('img_path')
    counts = Counter(
        int(label) for info in infos for label in np.atleast_1d(info['gt_label']).tolist()
    )
    outside = sorted(label for label in counts if not 0 <= label < len(classes))
    if outside:
        detail = (
            f'{sum(counts[label] for label in outside)} of {len(infos)} images have the labels '
            f'{outside[:10]}, but there {describe_classes(len(classes))}; give the classes of the '
            'data (metainfo)'
        )
        result.findings.append(Finding(where, 'label outside the classes', detail, 'stops'))
    result.counts = {str(name): counts[label] for label, name in enumerate(classes)}
    empty = [name for name, number in result.counts.items() if not number]
    if empty:
        detail = f'{", ".join(empty[:10])}: {len(empty)} of {len(classes)} classes'
        result.findings.append(Finding(where, 'class without an image', detail, 'unnoticed'))
    return result, images


def _build(source: Source, result: Audit) -> Any:
    """The data set, with the number of its images in the audit; None if it cannot be built."""
    if source.ann_file.endswith('.txt') and Path(source.ann_file).is_file():
        # The error of a data set would not name the file.
        _, found = decode_text(Path(source.ann_file).read_bytes(), source.ann_file)
        if found:
            result.findings += found
            return None
    config = dict(source.config)
    config['pipeline'] = loading_transforms(config.get('pipeline') or ())
    try:
        dataset = DATASETS.build(config)
    except Exception as error:  # whatever a data set makes of its files
        lines = str(error).splitlines() or [type(error).__name__]
        result.findings.append(Finding(source.key, 'cannot be built', lines[-1], 'stops'))
        return None
    result.images = len(dataset)
    if not result.images:
        where = source.ann_file or source.folder('img_path')
        detail = 'no image is there; look at data_prefix, img_suffix and the annotation file'
        result.findings.append(Finding(where, 'no images', detail, 'stops'))
    return dataset


def _unpaired_masks(dataset: Any) -> Iterator[Finding]:
    """Label maps without an image, which mmseg, listing images, does not miss."""
    folders = dataset.data_prefix if isinstance(dataset.data_prefix, dict) else {}
    if getattr(dataset, 'ann_file', '') or not folders.get('seg_map_path'):
        return
    images, masks = Path(folders['img_path']), Path(folders['seg_map_path'])
    for mask in sorted(masks.rglob(f'*{dataset.seg_map_suffix}')):
        name = str(mask.relative_to(masks))[: -len(dataset.seg_map_suffix)] + dataset.img_suffix
        if not (images / name).exists():
            yield Finding(str(images / name), 'image missing', f'{mask} is there', 'left out')
