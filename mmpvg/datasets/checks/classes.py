"""Names and order of categories, which mmdet turns into labels, and objects by class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .annotations import usable
from .coco_table import CocoTable
from .finding import Finding


def check_categories(
    table: CocoTable, classes: Sequence[str], own_classes: bool
) -> Iterator[Finding]:
    """Categories of a file against the names that the config gives to labels.

    Args:
        table: The annotations.
        classes: ``metainfo.classes``.
        own_classes: Whether they are the data set class's own, since the config gives none.
    """
    names = [str(category['name']) for category in table.categories]
    objects = np.bincount(table.category_of + 1, minlength=len(names) + 1)[1:]
    yield from check_names(table.path, names, classes, own_classes)
    for name in classes:
        rows = [row for row, other in enumerate(names) if other == name]
        if len(rows) > 1:
            ids = [table.categories[row]['id'] for row in rows]
            # Such as a root category above the class of its name.
            empty = [table.categories[row]['id'] for row in rows if not objects[row]]
            fix = 'give one category to all of its objects'
            if empty:
                fix = f'delete category {empty[0]}, which has no annotation'
            detail = (
                f'{name!r} is the name of {len(ids)} categories (ids {_listed(ids)}), each of '
                f'which gets a label of its own; {fix}'
            )
            yield Finding(table.path, 'category names repeat', detail, 'senseless')
    for row in np.flatnonzero(objects):
        if names[row] not in classes and any(name in classes for name in names):
            detail = f'{objects[row]} annotations of {names[row]!r} are left out'
            yield Finding(table.path, 'category that is not chosen', detail, 'noted')
    for row in np.flatnonzero(table.category_of < 0):
        detail = f'category {table.annotations[row]["category_id"]!r}, which the file does not list'
        yield table.finding(int(row), 'category outside the classes', detail, 'left out')


def check_names(
    path: str, names: Sequence[str], classes: Sequence[str], own_classes: bool = False
) -> Iterator[Finding]:
    """Names of categories, in the order of a file, against the classes.

    mmdet numbers the categories with a known name in the order of the file
    (``CocoDataset.load_data_list``), and calls the labels by ``metainfo.classes``.

    Args:
        path: The file.
        names: Of all its categories.
        classes: ``metainfo.classes``.
        own_classes: Whether they are the data set class's own, since the config gives none.
    """
    found = [name for name in names if name in classes]
    lacking = [name for name in classes if name not in names]
    if not found and names:
        source = 'the class of the data set gives' if own_classes else 'metainfo.classes names'
        listed = ', '.join(map(repr, names[:10]))
        detail = (
            f'it has {_listed(names)}, none of which {source} ({_listed(classes)}); set '
            f'metainfo.classes=({listed}{", ..." if len(names) > 10 else ","})'
        )
        yield Finding(path, 'no category of the classes', detail, 'senseless')
    elif lacking:
        detail = (
            f'it has no category {_listed(lacking)}, so that the labels of classes after it move; '
            f'its categories are {_listed(names)}; make metainfo.classes equal to them, or add the '
            'category'
        )
        yield Finding(path, 'categories lack a class', detail, 'senseless')
    elif len(found) == len(classes) and found != list(classes):
        label = next(i for i, (a, b) in enumerate(zip(found, classes)) if a != b)
        detail = (
            f'they come as {_listed(found)}, metainfo.classes as {_listed(classes)}: label {label} '
            f"is the file's {found[label]!r} and is called {classes[label]!r}; give both the same "
            'order, in every split'
        )
        yield Finding(path, 'categories in another order', detail, 'senseless')


def check_joined(classes: dict[str, Sequence[str] | None]) -> Iterator[Finding]:
    """Class lists of the data sets of a run, by key of the config, which must be the same."""
    known = {key: tuple(map(str, names)) for key, names in classes.items() if names}
    for key, names in known.items():
        first = next(iter(known))
        if names != known[first]:
            detail = (
                f'{key} has the classes {_listed(names)}, {first} has {_listed(known[first])}; '
                'give both the same metainfo.classes'
            )
            yield Finding(key, 'class lists differ', detail, 'senseless')


def count_objects(table: CocoTable, classes: Sequence[str]) -> dict[str, int]:
    """Objects of each class that training keeps, without crowds."""
    kept = table.category_of[usable(table) & ~table.crowd]
    counts = dict.fromkeys(map(str, classes), 0)
    for row, number in enumerate(np.bincount(kept[kept >= 0], minlength=len(table.categories))):
        name = str(table.categories[row]['name'])
        if name in counts:
            counts[name] += int(number)
    return counts


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f', ... ({len(names)})' if len(names) > most else ''
    return ', '.join(map(str, names[:most])) + more
