"""Decoding every image and annotation of a data set, as training does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.dataset import Compose
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from mmpvg.utils.errors import UserError

from ..broken_samples import labels_outside
from ..checked_loading import BrokenSampleError
from .finding import Finding
from .workers import map_in_processes


def check_dataset(config: Mapping, jobs: int = 1) -> Iterator[tuple[int, int, list[Finding]]]:
    """Load every image and annotation of a data set as training does, without augmentation.

    Args:
        config: Of a data set, with the pipeline of training.
        jobs: Processes that load.

    Yields:
        Images done, images in all, and what was found since.

    Raises:
        ValueError: If the pipeline loads nothing.
    """
    config = dict(config)
    pipeline = loading_transforms(config.get('pipeline') or ())
    if not pipeline:
        raise UserError('the pipeline of the data set has no transform of a type Load...')
    # Also what training filters out.
    config.update(pipeline=[], filter_cfg=None, test_mode=True)
    dataset = DATASETS.build(config)
    total = len(dataset)
    yield 0, total, []
    # A copy of the metainfo for each image would take longer than loading it.
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    load = partial(_check_image, dataset, Compose(pipeline).transforms, classes)
    for index, found in enumerate(map_in_processes(load, range(total), jobs)):
        yield index + 1, total, found


def loading_transforms(pipeline: Sequence[Mapping]) -> list[dict]:
    """What loads, out of a pipeline: ``Load...`` and ``mmpvg.CheckLoaded``."""
    return [
        dict(transform)
        for transform in pipeline
        if str(transform['type']).split('.')[-1].startswith(('Load', 'CheckLoaded'))
    ]


def _check_image(
    dataset: Dataset, load: Sequence[Callable], classes: Sequence | None, index: int
) -> list[Finding]:
    info = dataset.get_data_info(index)
    path = str(info.get('img_path', f'sample {index}'))
    results = dict(info)
    for stage, transform in enumerate(load):
        try:
            results = transform(results)
        except Exception as error:  # whatever a loader makes of broken data
            why = str(error).splitlines()[0] if str(error) else ''
            detail = f'{type(error).__name__}: {why}'
            kind = _kind(error, results, stage)
            if kind in ('mask missing', 'mask cannot be decoded'):
                path = str(results['seg_map_path'])
            return [Finding(path, kind, detail, 'replaced')]
    found = []
    height, width = results['img'].shape[:2]
    stated = info.get('height', height), info.get('width', width)
    if stated != (height, width):
        detail = f'{width}x{height} pixels, its annotations say {stated[1]}x{stated[0]}'
        found.append(Finding(path, 'size unlike its annotations', detail, 'unnoticed'))
    path = str(results.get('seg_map_path') or path)
    seg_map = results.get('gt_seg_map')
    for labels in (seg_map, results.get('gt_label')):
        if labels is None or classes is None:
            continue
        if wrong := labels_outside(np.atleast_1d(labels), len(classes)):
            found.append(Finding(path, 'label outside the classes', wrong, 'stops'))
    if seg_map is not None and (seg_map == 255).all():
        found.append(Finding(path, 'no labeled pixel', '', 'left out'))
    return found


def _kind(error: Exception, results: Mapping, stage: int) -> str:
    if stage == 0:
        part, path = 'image', results.get('img_path')
    elif results.get('seg_map_path'):
        part, path = 'mask', results['seg_map_path']
    else:
        part, path = 'annotation', None
    if isinstance(error, BrokenSampleError) and error.problem:
        return error.problem
    if path and not Path(path).exists():
        return f'{part} missing'
    if 'not finite' in str(error):
        return 'not finite'
    masks = [instance.get('mask') for instance in results.get('instances', ())] if stage else []
    sizes = {tuple(mask['size']) for mask in masks if isinstance(mask, dict)}
    if isinstance(error, BrokenSampleError) or sizes - {tuple(results.get('img_shape', ()))}:
        return 'mask of another size'
    return f'{part} cannot be decoded'
