"""A picture of the sample data set as it lies on disk: images beside their semantic maps."""

from __future__ import annotations

import json
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mmpvg.utils.sheet import draw_sheet

from .shapes import SAMPLE_CLASSES, SAMPLE_SEG_CLASSES, SAMPLE_SEG_PALETTE

_ZOOM = 2


def draw_preview(data_dir: str | Path, path: str | Path, rows: int = 4) -> Path:
    """Draws the first scenes of train (left half) and val (right half), and returns the path."""
    splits = [_pairs(Path(data_dir), split, rows) for split in ('train', 'val')]
    cells = [[*train, *val] for train, val in zip_longest(*splits, fillvalue=())]
    legend = dict(zip(SAMPLE_SEG_CLASSES, SAMPLE_SEG_PALETTE))
    return draw_sheet(cells, ['train', '', 'val', ''], legend, path)


def _pairs(root: Path, split: str, rows: int) -> list[tuple[Image.Image, Image.Image]]:
    """(image with outlines and names, colored map) of the first scenes."""
    from pycocotools import mask as mask_api

    coco = json.loads(
        (root / 'annotations' / f'instances_{split}.json').read_text(encoding='utf-8')
    )
    palette = np.array([(255, 255, 255), *SAMPLE_SEG_PALETTE], dtype=np.uint8)  # 0: unlabeled
    pairs = []
    for entry in coco['images'][:rows]:
        objects = [ann for ann in coco['annotations'] if ann['image_id'] == entry['id']]
        with Image.open(root / 'images' / split / entry['file_name']) as file:
            image = _enlarge(file, Image.BICUBIC)
        masks = [
            np.asarray(_enlarge(Image.fromarray(mask_api.decode(ann['segmentation'])))) > 0
            for ann in objects
        ]
        draw = ImageDraw.Draw(image)
        for mask in masks:
            _outline(draw, mask)
        for i, mask in enumerate(masks):
            _name(draw, objects[i]['category_id'] - 1, mask)
        name = Path(entry['file_name']).with_suffix('.png')
        with Image.open(root / 'annotations' / split / name) as file:
            colored = Image.fromarray(palette[np.asarray(file)])
        pairs.append((image, _enlarge(colored)))
    return pairs


def _outline(draw: ImageDraw.ImageDraw, mask: np.ndarray) -> None:
    """Draws a white line along the visible pixels of one object."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    draw.point(np.argwhere(mask & ~inner)[:, ::-1].ravel().tolist(), fill='white')


def _name(draw: ImageDraw.ImageDraw, label: int, mask: np.ndarray) -> None:
    """Writes the class of one object at the middle of its visible pixels."""
    y, x = np.argwhere(mask).mean(axis=0).tolist()
    box = draw.textbbox((x, y), SAMPLE_CLASSES[label], anchor='mm', font_size=13)
    draw.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), fill='white')
    draw.text((x, y), SAMPLE_CLASSES[label], fill='black', anchor='mm', font_size=13)


def _enlarge(image: Image.Image, how: int = Image.NEAREST) -> Image.Image:
    return image.resize((image.width * _ZOOM, image.height * _ZOOM), how)
