"""One split of the sample data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mmpvg.utils.errors import UserError

from .folder import whole_number, write_json
from .render import Scene, load_photos, render_scene
from .shapes import SAMPLE_CLASSES

SAMPLE_SPLITS = ('train', 'val')


def sample_scene(split: str, index: int, seed: int = 0, photos: dict | None = None) -> Scene:
    """Makes scene ``index`` of a split, as ``make_sample_dataset`` writes it (before JPEG).

    Args:
        split: 'train' or 'val'.
        index: Which scene.
        seed: The data set's seed.
        photos: ``load_photos(split)``, to read them only once.

    Raises:
        UserError: Unknown split, or a negative index or seed.
    """
    if split not in SAMPLE_SPLITS:
        raise UserError(f'split must be one of {SAMPLE_SPLITS}, got {split!r}')
    index, seed = whole_number('index', index, at_least=0), whole_number('seed', seed, at_least=0)
    rng = np.random.default_rng([seed, SAMPLE_SPLITS.index(split), index])
    return render_scene(rng, load_photos(split) if photos is None else photos)


def write_split(root: Path, split: str, count: int, seed: int, bar=None) -> dict[str, int]:
    """Writes the images, maps and JSON of a split; returns the number of objects of each class.

    Args:
        root: The data set's folder; the split's folders in it must not exist yet.
        split: 'train' or 'val'.
        count: Scenes.
        seed: The data set's seed.
        bar: A progress bar, moved on by one for every scene.
    """
    image_dir, map_dir = root / 'images' / split, root / 'annotations' / split
    image_dir.mkdir(parents=True)
    map_dir.mkdir(parents=True)
    photos = load_photos(split)
    images, annotations = [], []
    for index in range(count):
        scene = sample_scene(split, index, seed, photos)
        # Chroma is kept at full resolution: color is a cue here.
        Image.fromarray(scene.image).save(image_dir / f'{index:06d}.jpg', quality=92, subsampling=0)
        Image.fromarray(scene.semantic()).save(map_dir / f'{index:06d}.png')
        height, width = scene.instances.shape
        images.append(
            dict(
                id=index + 1,
                file_name=f'{index:06d}.jpg',
                height=height,
                width=width,
                photo=scene.photo,
            )
        )
        for annotation in _annotations(scene):
            annotations.append(dict(id=len(annotations) + 1, image_id=index + 1, **annotation))
        if bar is not None:
            bar.update()

    categories = [dict(id=i, name=name) for i, name in enumerate(SAMPLE_CLASSES, start=1)]
    coco = dict(
        info=dict(description='mmpvg sample data set', seed=seed),
        licenses=[],
        images=images,
        annotations=annotations,
        categories=categories,
    )
    write_json(root / 'annotations' / f'instances_{split}.json', coco)
    per_class = np.bincount(
        [annotation['category_id'] for annotation in annotations],
        minlength=len(SAMPLE_CLASSES) + 1,
    )[1:]
    return {name: int(per_class[i]) for i, name in enumerate(SAMPLE_CLASSES)}


def _annotations(scene: Scene) -> list[dict]:
    """COCO fields of each object, from its visible pixels."""
    from pycocotools import mask as mask_api

    annotations = []
    for number, label in enumerate(scene.labels, start=1):
        rle = mask_api.encode(np.asfortranarray(scene.instances == number, dtype=np.uint8))
        annotations.append(
            dict(
                category_id=label + 1,
                bbox=[float(x) for x in mask_api.toBbox(rle)],
                area=int(mask_api.area(rle)),
                iscrowd=0,
                segmentation=dict(size=list(rle['size']), counts=rle['counts'].decode('ascii')),
            )
        )
    return annotations
