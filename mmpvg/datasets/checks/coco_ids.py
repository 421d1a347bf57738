"""Ids of a COCO file, by which annotations belong to images and categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from .finding import Finding

_KINDS = {int: 'numbers', float: 'numbers', str: 'text'}


def check_ids(
    path: str, images: list[dict], categories: list[dict], annotations: list[dict]
) -> Iterator[Finding]:
    """Ids that are not of one kind, belong to nothing, or are used twice.

    Args:
        path: The file.
        images: Records with all fields that mmdet reads; so are the others.
        categories: Records.
        annotations: Records.
    """
    ids = {
        'images': [i['id'] for i in images],
        'categories': [c['id'] for c in categories],
        'annotations': [a['id'] for a in annotations],
    }
    for name, values in ids.items():
        found = kinds(values)
        if len(found) > 1:
            detail = f'ids of {name} are {" and ".join(sorted(found))}; write all as numbers'
            yield Finding(path, 'ids of two kinds', detail, 'senseless')
    for field, name in (('image_id', 'images'), ('category_id', 'categories')):
        used = [a[field] for a in annotations if a[field] is not None]
        wrong = kinds(used) - kinds(ids[name])
        if wrong and ids[name]:
            known = {str(value) for value in ids[name]}
            number = sum(kind(v) in wrong and str(v) in known for v in used)
            if not number:
                continue
            example = next(v for v in used if kind(v) in wrong)
            detail = (
                f'{field} of {number} of {len(annotations)} annotations is {kind(example)} '
                f'({example!r}), but ids of {name} are {kind(ids[name][0])}, so that no '
                f'annotation belongs to one; write {field} as the ids are'
            )
            yield Finding(path, 'ids of two kinds', detail, 'senseless')
    yield from _repeated(
        path,
        images,
        'images',
        'file_name',
        'senseless',
        'mmdet puts the objects of all on the last',
    )
    yield from _repeated(
        path, categories, 'categories', 'name', 'senseless', 'labels of the others move'
    )
    known = [value for value in ids['annotations'] if is_id(value)]
    number = len(known) - len(set(known))
    if number:
        value = Counter(known).most_common(1)[0][0]
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


def _repeated(
    path: str, records: list[dict], what: str, label: str, effect: str, result: str
) -> Iterator[Finding]:
    first: dict[Any, dict] = {}
    again = []
    for record in records:
        key = record['id']
        if not is_id(key):
            continue
        if key in first:
            again.append((first[key], record))
        else:
            first[key] = record
    if again:
        one, other = again[0]
        detail = (
            f'{len(again)} of {len(records)} {what} have an id of others, such as {one["id"]} of '
            f'{one[label]} and {other[label]}: {result}; number them anew'
        )
        yield Finding(path, f'ids of {what} repeat', detail, effect)


def kind(value: Any) -> str:
    """What a value is, in words."""
    return _KINDS.get(type(value), type(value).__name__)


def kinds(values: Iterable[Any]) -> set[str]:
    """What values are, in words."""
    return {_KINDS.get(each, each.__name__) for each in set(map(type, values))}


def is_id(value: Any) -> bool:
    """Whether a value can be an id."""
    return isinstance(value, (int, float, str))


def is_number(value: Any) -> bool:
    """Whether a value is a number, which True is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
