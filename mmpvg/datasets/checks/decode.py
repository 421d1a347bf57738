"""Looking through a whole data set for what training would meet."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import Compose
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from ..broken_samples import LabelRangeError, check_labels
from ..checked_loading import BrokenSampleError
from .finding import Finding


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
        raise ValueError('the pipeline of the data set has no transform of a type Load...')
    # Also what training filters out.
    config.update(pipeline=[], filter_cfg=None, test_mode=True)
    dataset = DATASETS.build(config)
    yield 0, len(dataset), [*_coco_findings(dataset), *_unpaired_masks(dataset)]
    load = partial(_check_image, dataset, Compose(pipeline).transforms)
    if jobs == 1:
        for index in range(len(dataset)):
            yield index + 1, len(dataset), load(index)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for index, found in enumerate(pool.map(load, range(len(dataset)), chunksize=16)):
            yield index + 1, len(dataset), found


def loading_transforms(pipeline: Sequence[Mapping]) -> list[dict]:
    """What loads, out of a pipeline: ``Load...`` and ``mmpvg.CheckLoaded``."""
    return [
        dict(transform)
        for transform in pipeline
        if str(transform['type']).split('.')[-1].startswith(('Load', 'CheckLoaded'))
    ]


def _check_image(dataset: Dataset, load: Sequence[Callable], index: int) -> list[Finding]:
    info = dataset.get_data_info(index)
    path = str(info.get('img_path', f'sample {index}'))
    told = {key: info[key] for key in ('height', 'width') if key in info}
    results = dict(info)
    for stage, transform in enumerate(load):
        try:
            results = transform(results)
        except Exception as error:  # whatever a loader makes of broken data
            why = str(error).splitlines()[0] if str(error) else ''
            detail = f'{type(error).__name__}: {why}'
            return [Finding(path, _kind(error, results, stage), detail, 'replaced')]
    found = []
    height, width = results['img'].shape[:2]
    if told and (told.get('height', height), told.get('width', width)) != (height, width):
        detail = f'{width}x{height} pixels, its annotations say {told["width"]}x{told["height"]}'
        found.append(Finding(path, 'size unlike its annotations', detail, 'unnoticed'))
    found += _label_findings(path, results, dataset)
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


def _label_findings(path: str, results: dict, dataset: Dataset) -> list[Finding]:
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    seg_map, label = results.get('gt_seg_map'), results.get('gt_label')
    found = []
    for labels in (seg_map, label):
        if labels is None or classes is None:
            continue
        try:
            check_labels(np.atleast_1d(labels), classes, path)
        except LabelRangeError as error:
            found.append(Finding(path, 'label outside the classes', str(error), 'stops'))
    if seg_map is not None and (seg_map == 255).all():
        found.append(Finding(path, 'no labelled pixel', '', 'left out'))
    if results.get('instances') == []:
        found.append(Finding(path, 'no object', '', 'left out'))
    return found


def _coco_findings(dataset: Any) -> list[Finding]:
    """What mmdet drops in silence when it reads COCO's annotations."""
    ann_file = str(getattr(dataset, 'ann_file', ''))
    if not ann_file.endswith('.json'):
        return []
    content = json.loads(Path(ann_file).read_text(encoding='utf-8'))
    if not isinstance(content, dict) or not {'images', 'annotations', 'categories'} <= set(content):
        return []
    folder = Path((dataset.data_prefix or {}).get('img', ''))
    images = {image['id']: image for image in content['images']}
    names = {category['id']: category['name'] for category in content['categories']}
    found = []
    for annotation in content['annotations']:
        image = images.get(annotation.get('image_id'))
        problem = _box_problem(annotation, image, names, dataset.metainfo['classes'])
        if problem:
            path = str(folder / image['file_name']) if image else ann_file
            box = annotation.get('bbox')
            detail = f'annotation {annotation.get("id")}, box {box}'
            drawn = tuple(box) if image and problem in _OF_BOXES else None
            found.append(Finding(path, problem, detail, 'left out', drawn))
    return found


# Problems that a box on its image shows.
_OF_BOXES = ('box without area', 'box outside the image', 'category outside the classes')


def _box_problem(
    annotation: dict, image: dict | None, names: dict[int, str], classes: Sequence[str]
) -> str | None:
    if image is None:
        return 'annotation of no image'
    box = annotation.get('bbox', ())
    if len(box) != 4:
        return 'no box of four numbers'
    if not all(map(math.isfinite, box)):
        return 'not finite'
    x, y, width, height = box
    if width < 1 or height < 1 or annotation.get('area', 1) <= 0:
        return 'box without area'
    if x >= image['width'] or y >= image['height'] or x + width <= 0 or y + height <= 0:
        return 'box outside the image'
    if names.get(annotation.get('category_id')) not in classes:
        return 'category outside the classes'
    return None


def _unpaired_masks(dataset: Any) -> Iterator[Finding]:
    """Semantic maps whose image is gone: mmseg lists images, so they are not missed."""
    folders = dataset.data_prefix if isinstance(dataset.data_prefix, dict) else {}
    if getattr(dataset, 'ann_file', '') or not folders.get('seg_map_path'):
        return
    images, masks = Path(folders['img_path']), Path(folders['seg_map_path'])
    for mask in sorted(masks.rglob(f'*{dataset.seg_map_suffix}')):
        name = str(mask.relative_to(masks))[: -len(dataset.seg_map_suffix)] + dataset.img_suffix
        if not (images / name).exists():
            yield Finding(str(images / name), 'image missing', f'{mask} is there', 'left out')
