"""Damaging a copy of the sample data in the ways in which data is found damaged."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mmpvg.utils.errors import UserError


class Damage(NamedTuple):
    """What was done to an image.

    Attributes:
        kind: The way.
        path: The image; the damage may be that of its annotation.
    """

    kind: str
    path: str


def damage_dataset(
    data_dir: str | Path,
    out_dir: str | Path,
    task: str,
    number: int,
    seed: int = 0,
    kinds: Sequence[str] | None = None,
) -> list[Damage]:
    """Copy the sample data and damage images, or annotations, of its training split.

    Args:
        data_dir: Made by ``make_sample_dataset``.
        out_dir: Where the copy goes; must not exist.
        task: ``detection`` or ``segmentation``.
        number: Images to damage, each in one way, as many of each kind as of the others.
        seed: Of which images.
        kinds: Out of those of the task; None for all that training survives.

    Raises:
        ValueError: If the task or a kind is not known, or there are not that many images.
    """
    ways = {**_FILES, **_OF_TASK.get(task, {})}
    if task not in _OF_TASK:
        raise UserError(f'task {task!r} is not known; there are {", ".join(_OF_TASK)}')
    kinds = [kind for kind in ways if kind != 'label outside'] if kinds is None else list(kinds)
    for kind in kinds:
        if kind not in ways:
            raise UserError(f'kind {kind!r} is not known; there are {", ".join(ways)}')
    out_dir = Path(out_dir)
    shutil.copytree(data_dir, out_dir)
    ann_file = out_dir / 'annotations/instances_train.json'
    coco = json.loads(ann_file.read_text(encoding='utf-8'))
    if number > len(coco['images']):
        raise UserError(f'there are {len(coco["images"])} images to damage, not {number}')
    chance = random.Random(seed)
    done = []
    for index, image in enumerate(chance.sample(coco['images'], number)):
        kind = kinds[index % len(kinds)]
        path = out_dir / 'images/train' / image['file_name']
        ways[kind](_Target(path, out_dir, coco, image, chance))
        done.append(Damage(kind, str(path)))
    # With Infinity, which JSON does not know and Python writes and reads.
    ann_file.write_text(json.dumps(coco), encoding='utf-8')
    return done


class _Target(NamedTuple):
    path: Path
    root: Path
    coco: dict[str, Any]
    image: dict[str, Any]
    chance: random.Random

    @property
    def seg_map(self) -> Path:
        return self.root / 'annotations/train' / self.path.with_suffix('.png').name

    @property
    def objects(self) -> list[dict]:
        return [a for a in self.coco['annotations'] if a['image_id'] == self.image['id']]


def _truncate(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(1, len(content) - 1)])


def _box(change: Callable[[dict, dict], list[float]]) -> Callable[[_Target], None]:
    def damage(target: _Target) -> None:
        annotation = target.objects[0]
        annotation['bbox'] = change(annotation, target.image)

    return damage


def _other_masks(target: _Target) -> None:
    for annotation in target.objects:
        height, width = annotation['segmentation']['size']
        annotation['segmentation']['size'] = [width + 1, height]


def _no_objects(target: _Target) -> None:
    gone = target.objects
    target.coco['annotations'] = [a for a in target.coco['annotations'] if a not in gone]


def _unknown_category(target: _Target) -> None:
    target.objects[0]['category_id'] = 99


def _other_size(target: _Target) -> None:
    target.image['width'] += 7


def _seg_map(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[_Target], None]:
    def damage(target: _Target) -> None:
        with Image.open(target.seg_map) as file:
            labels = np.array(file)
        Image.fromarray(change(labels)).save(target.seg_map)

    return damage


_FILES: dict[str, Callable[[_Target], None]] = {
    'image truncated': lambda t: _truncate(t.path, t.chance),
    'image missing': lambda t: t.path.unlink(),
    'image empty': lambda t: t.path.write_bytes(b''),
    'image is text': lambda t: t.path.write_text('<html>404 Not Found</html>') and None,
}
_OF_TASK: dict[str, dict[str, Callable[[_Target], None]]] = {
    'detection': {
        'box without area': _box(lambda a, i: [*a['bbox'][:2], 0.0, a['bbox'][3]]),
        'box outside': _box(lambda a, i: [i['width'] + 5.0, 1.0, 9.0, 9.0]),
        'box not finite': _box(lambda a, i: [*a['bbox'][:2], float('inf'), a['bbox'][3]]),
        'category unknown': _unknown_category,
        'mask of another size': _other_masks,
        'no object': _no_objects,
        'size unlike annotations': _other_size,
    },
    'segmentation': {
        'mask of another size': _seg_map(lambda labels: labels[:-3, 2:]),
        'mask missing': lambda t: t.seg_map.unlink(),
        'mask truncated': lambda t: _truncate(t.seg_map, t.chance),
        'no labeled pixel': _seg_map(np.zeros_like),
        'label outside': _seg_map(lambda labels: np.where(labels == 1, 77, labels)),
    },
}
