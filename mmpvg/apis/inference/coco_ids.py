"""Ids of images and categories for predictions in COCO's format."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmpvg.datasets.checked_loading import BrokenSampleError
from mmpvg.utils.errors import UserError

from .inputs import Item


class CocoIds:
    """Ids of our own: images as they are numbered, categories from 1 in the order of the classes.

    Args:
        classes: Names of the classes.

    Attributes:
        categories: As in a COCO file.
        category_ids: Id of each class.
        without_file: Images of an annotation file that ``select`` did not find.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.without_file: list[str] = []
        self.categories = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
        self.category_ids = [category['id'] for category in self.categories]

    def select(self, items: Sequence[Item]) -> list[Item]:
        """Return the images to predict on, with their ids: all, as they are numbered."""
        return list(items)

    def image(self, item: Item, image: np.ndarray) -> dict[str, Any]:
        """Make the entry of an image in a COCO file."""
        height, width = image.shape[:2]
        return dict(id=item.id, file_name=item.file_name, height=height, width=width)


class AnnotatedIds(CocoIds):
    """Ids of an annotation file, for an evaluation against it.

    Args:
        classes: Names of the classes.
        ann_file: In COCO's format.

    Raises:
        MissingFileError: If the file is missing.
        UserError: If it is no COCO file, or lacks one of the classes.
    """

    def __init__(self, classes: Sequence[str], ann_file: str | Path) -> None:
        super().__init__(classes)
        self.ann_file = ann_file
        self._images, self.categories = _read(ann_file)
        ids = {category['name']: category['id'] for category in self.categories}
        if missing := [name for name in classes if name not in ids]:
            raise UserError(
                f'{ann_file} has no category {", ".join(map(repr, missing))}, which the model '
                f'predicts; it has {", ".join(ids)}'
            )
        self.category_ids = [ids[name] for name in classes]

    def select(self, items: Sequence[Item]) -> list[Item]:
        """Return the images that the annotation file has, with its ids.

        A file name of the annotations is a path below the folder, or, where there is no such file,
        the name of a file in any folder below it.

        Raises:
            UserError: If it has none, or several files could be one of its images.
        """
        by_path = {item.file_name: item for item in items}
        by_name = defaultdict(list)
        for item in items:
            by_name[Path(item.file_name).name].append(item)
        chosen: dict[str, Item] = {}
        for id_, image in self._images.items():
            file_name = image['file_name']
            found = [by_path[file_name]] if file_name in by_path else by_name[Path(file_name).name]
            if not found:
                self.without_file.append(file_name)
                continue
            if len(found) > 1 or found[0].file_name in chosen:
                files = ', '.join(item.file_name for item in found)
                raise UserError(
                    f'{self.ann_file} has the image {file_name}, but it is not clear which file '
                    f'that is ({files}); give the folder below which its names are paths'
                )
            chosen[found[0].file_name] = found[0]._replace(id=id_)
        if not chosen:
            raise UserError(
                f'{self.ann_file} knows none of the {len(items)} images; its first is called '
                f'{next(iter(self.without_file), None)!r}, that of the input {items[0].file_name!r}'
            )
        return [chosen[item.file_name] for item in items if item.file_name in chosen]

    def image(self, item: Item, image: np.ndarray) -> dict[str, Any]:
        """Return the entry of an image in the annotation file.

        Raises:
            BrokenSampleError: If its size is another one.
        """
        entry = self._images[item.id]
        height, width = image.shape[:2]
        if (entry.get('height', height), entry.get('width', width)) != (height, width):
            raise BrokenSampleError(
                f'is {width}x{height} pixels, but {self.ann_file} says '
                f'{entry["width"]}x{entry["height"]}'
            )
        return entry


def _read(ann_file: str | Path) -> tuple[dict[int, dict], list[dict]]:
    """Read images by id, and categories."""
    try:
        content = json.loads(Path(ann_file).read_text(encoding='utf-8'))
        images = {image['id']: image for image in content['images']}
        if len(images) < len(content['images']):
            counts = Counter(image['id'] for image in content['images'])
            id_, number = counts.most_common(1)[0]
            raise UserError(f'{number} images have the id {id_!r}')
        categories = content['categories']
        if not all({'id', 'name'} <= set(category) for category in categories):
            raise KeyError('name')
        if not all('file_name' in image for image in images.values()):
            raise KeyError('file_name')
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f'{ann_file} is no COCO annotation file with images and categories '
            f'({type(error).__name__}: {error})'
        ) from error
    return images, categories
