"""The content of a COCO file as columns, and what of it cannot become one."""

from __future__ import annotations

import math
import os.path as osp
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from .finding import Finding

# What mmdet reads without checking that it is there, and what to write.
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
_CATEGORY_FIELDS = {'id': 'a number', 'name': 'its name'}
_KINDS = {int: 'numbers', float: 'numbers', str: 'text'}


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
        areas: (N,) as in the file.
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

    def finding(self, row: int, problem: str, detail: str, effect: str) -> Finding:
        """A finding of one annotation, drawn as its box."""
        box = tuple(map(float, self.boxes[row]))
        detail = f'annotation {self.annotations[row]["id"]}, {detail}'
        path = self.image_path(int(self.image_of[row]))
        return Finding(path, problem, detail, effect, box if all(map(math.isfinite, box)) else None)


def read_table(content: Any, path: str, folder: str) -> tuple[CocoTable | None, list[Finding]]:
    """Columns of a parsed COCO file whose images lie in a folder.

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
    findings += _missing(path, 'category', categories, _CATEGORY_FIELDS)
    findings += _bad_sizes(path, images)
    listed = ids_of(images)
    images = [i for i in images if _IMAGE_FIELDS.keys() <= i.keys() and _is_size(i)]
    categories = [c for c in categories if _CATEGORY_FIELDS.keys() <= c.keys()]
    annotations = [a for a in annotations if _OBJECT_FIELDS.keys() <= a.keys()]
    findings += _check_ids(path, images, categories, annotations)
    image_rows = {image['id']: row for row, image in enumerate(images) if _is_id(image['id'])}
    category_rows = {c['id']: row for row, c in enumerate(categories) if _is_id(c['id'])}
    kept, homeless = [], []
    for annotation in annotations:
        known = _is_id(annotation['image_id']) and annotation['image_id'] in image_rows
        (kept if known else homeless).append(annotation)
    if kept:
        findings += [
            Finding(
                path,
                'annotation of no image',
                f'annotation {a["id"]}, box {a["bbox"]}: no image has the id {a["image_id"]!r}',
                'left out',
            )
            for a in homeless
            if not (_is_id(a['image_id']) and a['image_id'] in listed)
        ]
    if not _are_numbers(kept):
        bad = [a for a in kept if not (_is_box(a['bbox']) and _is_number(a['area']))]
        kept = [a for a in kept if _is_box(a['bbox']) and _is_number(a['area'])]
        for annotation in bad:
            field = 'area' if _is_box(annotation['bbox']) else 'bbox'
            problem = 'no box of four numbers' if field == 'bbox' else 'area is not a number'
            detail = (
                f'annotation {annotation["id"]} has the {field} {annotation[field]!r}; write '
                f'{_OBJECT_FIELDS[field]}'
            )
            image = images[image_rows[annotation['image_id']]]
            image_path = osp.join(folder, str(image['file_name']))
            findings.append(Finding(image_path, problem, detail, 'stops'))
    category_of = [
        category_rows.get(a['category_id'], -1) if _is_id(a['category_id']) else -1 for a in kept
    ]
    return CocoTable(
        path=path,
        folder=folder,
        images=images,
        categories=categories,
        annotations=kept,
        sizes=np.array([[i['width'], i['height']] for i in images], float).reshape(-1, 2),
        image_of=np.array([image_rows[a['image_id']] for a in kept], int),
        category_of=np.array(category_of, int),
        boxes=np.array([a['bbox'] for a in kept], float).reshape(-1, 4),
        areas=np.array([a['area'] for a in kept], float),
        crowd=np.array([bool(a.get('iscrowd', False)) for a in kept], bool),
    ), findings


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


def _check_ids(
    path: str, images: list[dict], categories: list[dict], annotations: list[dict]
) -> Iterator[Finding]:
    """Ids that are not of one kind, belong to nothing, or are used twice."""
    ids = {
        'images': [i['id'] for i in images],
        'categories': [c['id'] for c in categories],
        'annotations': [a['id'] for a in annotations],
    }
    for name, values in ids.items():
        found = _kinds(values)
        if len(found) > 1:
            detail = f'ids of {name} are {" and ".join(sorted(found))}; write all as numbers'
            yield Finding(path, 'ids of two kinds', detail, 'senseless')
    for field, name in (('image_id', 'images'), ('category_id', 'categories')):
        used = [a[field] for a in annotations if a[field] is not None]
        wrong = _kinds(used) - _kinds(ids[name])
        if not wrong or not ids[name]:
            continue
        known = {str(value) for value in ids[name]}
        odd = [value for value in used if _kind(value) in wrong]
        if number := sum(str(value) in known for value in odd):
            detail = (
                f'{field} of {number} of {len(annotations)} annotations is {_kind(odd[0])} '
                f'({odd[0]!r}), but ids of {name} are {_kind(ids[name][0])}, so that no '
                f'annotation belongs to one; write {field} as the ids are'
            )
            yield Finding(path, 'ids of two kinds', detail, 'senseless')
    for name, records, label, result in (
        ('images', images, 'file_name', 'mmdet puts the objects of all on the last'),
        ('categories', categories, 'name', 'labels of the others move'),
    ):
        first: dict[Any, dict] = {}
        again = [r for r in records if _is_id(r['id']) and first.setdefault(r['id'], r) is not r]
        if again:
            other = again[0]
            detail = (
                f'{len(again)} of {len(records)} {name} have an id of others, such as '
                f'{other["id"]} of {first[other["id"]][label]} and {other[label]}: {result}; '
                'number them again'
            )
            yield Finding(path, f'ids of {name} repeat', detail, 'senseless')
    known_ids = [value for value in ids['annotations'] if _is_id(value)]
    if number := len(known_ids) - len(set(known_ids)):
        value = Counter(known_ids).most_common(1)[0][0]
        detail = f'{number} annotations repeat an id of others, such as {value}; number them from 1'
        yield Finding(path, 'annotation ids repeat', detail, 'stops')
    names = Counter(str(image['file_name']) for image in images)
    if len(names) < len(images):
        name, times = names.most_common(1)[0]
        detail = (
            f'{len(images) - len(names)} images repeat a file_name of others, such as {name} '
            f'({times} times): each is trained on with a part of the objects; join them'
        )
        yield Finding(path, 'file names repeat', detail, 'unnoticed')


def ids_of(records: Iterable[Any]) -> set:
    """The ids that records have, except those that can be none."""
    return {r['id'] for r in records if isinstance(r, dict) and _is_id(r.get('id'))}


def _are_numbers(annotations: Sequence[dict]) -> bool:
    """Whether all have a box of four numbers and an area; a tenth of the time of each alone."""
    boxes = [annotation['bbox'] for annotation in annotations]
    return (
        set(map(type, boxes)) <= {list}
        and set(map(len, boxes)) <= {4}
        and _kinds(chain.from_iterable(boxes)) <= {'numbers'}
        and _kinds(annotation['area'] for annotation in annotations) <= {'numbers'}
    )


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _kinds(values: Iterable[Any]) -> set[str]:
    return {_KINDS.get(each, each.__name__) for each in set(map(type, values))}


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, float, str))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_size(image: dict) -> bool:
    return all(_is_number(image[side]) and 0 < image[side] < 1e9 for side in ('width', 'height'))
