"""The content of a COCO file as columns, and what of it cannot become one."""

from __future__ import annotations

import math
import os.path as osp
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from .coco_ids import check_ids, is_id, is_number, kinds
from .finding import Finding

# What mmdet reads without looking whether it is there, and what to write.
_IMAGE_FIELDS = {
    'id': 'a number of its own for each',
    'file_name': 'the path below data_prefix.img',
    'height': 'pixels',
    'width': 'pixels',
}
_OBJECT_FIELDS = {
    'id': 'a number of its own for each, from 1',
    'image_id': "the image's id",
    'category_id': "the category's id",
    'bbox': '[left, top, width, height] in pixels',
    'area': 'width x height of the box, or the pixels of the mask',
}


@dataclass(frozen=True)
class CocoTable:
    """Annotations with a box on a known image, in the order of the file.

    Attributes:
        path: The annotation file.
        folder: Where its images lie.
        images: M records.
        categories: Records of all categories.
        annotations: N records.
        sizes: (M, 2) widths and heights in pixels.
        image_of: (N,) index of each annotation's image.
        category_of: (N,) index of each annotation's category; -1 for one that is not there.
        boxes: (N, 4) left, top, width, height in pixels.
        areas: (N,) as the file has them.
        crowd: (N,) whether training ignores it as a crowd.
    """

    path: str
    folder: str
    images: list[dict]
    categories: list[dict]
    annotations: list[dict]
    sizes: np.ndarray
    image_of: np.ndarray
    category_of: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray

    def image_path(self, index: int) -> str:
        """Path of an image."""
        return osp.join(self.folder, str(self.images[index]['file_name']))

    def finding(
        self, row: int, problem: str, detail: str, effect: str, drawn: bool = True
    ) -> Finding:
        """Of one annotation, drawn as its box."""
        box = tuple(map(float, self.boxes[row]))
        drawn = drawn and all(map(math.isfinite, box))
        detail = f'annotation {self.annotations[row]["id"]}, {detail}'
        path = self.image_path(int(self.image_of[row]))
        return Finding(path, problem, detail, effect, box if drawn else None)


def read_table(content: Any, path: str, folder: str) -> tuple[CocoTable | None, list[Finding]]:
    """Columns of what a COCO file says.

    Args:
        content: As parsed.
        path: The file.
        folder: Where its images lie.

    Returns:
        The table, None if too much is missing for one, and what is wrong with the records.
    """
    if not isinstance(content, dict):
        detail = f'it holds a {type(content).__name__}, COCO needs an object with images'
        return None, [Finding(path, 'file is not COCO', detail, 'stops')]
    findings = []
    for key in ('images', 'categories', 'annotations'):
        records = content.get(key, [] if key == 'annotations' else None)
        if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
            found = 'is missing' if records is None else 'is not a list of objects'
            findings.append(Finding(path, 'file is not COCO', f'{key!r} {found}', 'stops'))
    if findings:
        return None, findings
    images, categories = content['images'], content['categories']
    annotations = content.get('annotations', [])
    findings += _missing(path, 'image', images, _IMAGE_FIELDS)
    findings += _missing(path, 'annotation', annotations, _OBJECT_FIELDS)
    findings += _missing(path, 'category', categories, dict(id='a number', name='its name'))
    findings += _bad_sizes(path, images)
    listed = {image['id'] for image in images if is_id(image.get('id'))}
    images = [i for i in images if _IMAGE_FIELDS.keys() <= i.keys() and _is_size(i)]
    categories = [c for c in categories if 'id' in c and 'name' in c]
    annotations = [a for a in annotations if _OBJECT_FIELDS.keys() <= a.keys()]
    findings += check_ids(path, images, categories, annotations)
    image_rows = {image['id']: row for row, image in enumerate(images) if is_id(image['id'])}
    category_rows = {c['id']: row for row, c in enumerate(categories) if is_id(c['id'])}
    kept, homeless = [], []
    for annotation in annotations:
        known = is_id(annotation['image_id']) and annotation['image_id'] in image_rows
        (kept if known else homeless).append(annotation)
    if kept:
        findings += [
            Finding(path, 'annotation of no image', _of_no_image(a), 'left out')
            for a in homeless
            if not (is_id(a['image_id']) and a['image_id'] in listed)
        ]
    good = _with_numbers(kept)
    table = CocoTable(
        path=path,
        folder=folder,
        images=images,
        categories=categories,
        annotations=[a for a, whole in zip(kept, good) if whole],
        sizes=np.array([[i['width'], i['height']] for i in images], float).reshape(-1, 2),
        image_of=np.array([], int),
        category_of=np.array([], int),
        boxes=np.array([]),
        areas=np.array([]),
        crowd=np.array([], bool),
    )
    for annotation, whole in zip(kept, good):
        if not whole:
            field = 'area' if _is_box(annotation['bbox']) else 'bbox'
            detail = (
                f'annotation {annotation["id"]} has the {field} {annotation[field]!r}; write '
                f'{_OBJECT_FIELDS[field]}'
            )
            image = table.image_path(image_rows[annotation['image_id']])
            problem = 'no box of four numbers' if field == 'bbox' else 'area is not a number'
            findings.append(Finding(image, problem, detail, 'stops'))
    kept = table.annotations
    table = replace(
        table,
        image_of=np.array([image_rows[a['image_id']] for a in kept], int),
        category_of=np.array(
            [category_rows.get(i, -1) if is_id(i := a['category_id']) else -1 for a in kept], int
        ),
        boxes=np.array([a['bbox'] for a in kept], float).reshape(-1, 4),
        areas=np.array([a['area'] for a in kept], float),
        crowd=np.array([bool(a.get('iscrowd', False)) for a in kept], bool),
    )
    return table, findings


def _missing(
    path: str, what: str, records: Sequence[dict], fields: dict[str, str]
) -> Iterator[Finding]:
    for field, fix in fields.items():
        without = [record for record in records if field not in record]
        if without:
            name = without[0].get('id', without[0].get('file_name', without[0]))
            detail = (
                f'{len(without)} of {len(records)} have no {field!r} (the first: {name}); '
                f'write {fix}'
            )
            yield Finding(path, f'{what} without {field}', detail, 'stops')


def _bad_sizes(path: str, images: Sequence[dict]) -> Iterator[Finding]:
    for image in images:
        if 'width' in image and 'height' in image and not _is_size(image):
            detail = (
                f'image {image.get("file_name")} is {image["width"]!r} x {image["height"]!r}; '
                'write whole numbers of pixels'
            )
            yield Finding(path, 'size of an image is not a number', detail, 'stops')


def _with_numbers(annotations: Sequence[dict]) -> Sequence[bool]:
    """Whether each has a box of four numbers, and an area."""
    boxes = [annotation['bbox'] for annotation in annotations]
    if (
        set(map(type, boxes)) <= {list}
        and set(map(len, boxes)) <= {4}
        and kinds(chain.from_iterable(boxes)) <= {'numbers'}
        and kinds(annotation['area'] for annotation in annotations) <= {'numbers'}
    ):
        # Of all at once, a tenth of the time.
        return [True] * len(boxes)
    return [_is_box(a['bbox']) and is_number(a['area']) for a in annotations]


def _of_no_image(annotation: dict) -> str:
    return (
        f'annotation {annotation["id"]}, box {annotation["bbox"]}: no image has the id '
        f'{annotation["image_id"]!r}'
    )


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def _is_size(image: dict) -> bool:
    return all(is_number(image[side]) and 0 < image[side] < 1e9 for side in ('width', 'height'))
