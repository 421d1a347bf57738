"""A picture of the sample data set as it lies on disk: images beside their semantic maps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .shapes import SAMPLE_CLASSES, SAMPLE_SEG_CLASSES, SAMPLE_SEG_PALETTE

_ZOOM = 2
_CELL = 144 * _ZOOM  # the largest side
_GAP = 10
_LEGEND = 30
_PAPER, _INK = (255, 255, 255), (30, 30, 30)


def draw_preview(data_dir: str | Path, path: str | Path, rows: int = 4) -> Path:
    """Draws a contact sheet, train scenes in the left half and val scenes in the right.

    Args:
        data_dir (str | Path): A data set made by ``make_sample_dataset``.
        path (str | Path): The PNG to write.
        rows (int): Scenes of each split, fewer if there are not that many.

    Returns:
        Path: ``path``.
    """
    columns = [_pairs(Path(data_dir), split, rows) for split in ('train', 'val')]
    step = _CELL + _GAP
    sheet = Image.new(
        'RGB', (4 * step + 2 * _GAP, max(map(len, columns)) * step + 2 * _LEGEND), _PAPER
    )
    draw = ImageDraw.Draw(sheet)
    for column, pairs in enumerate(columns):
        left = _GAP + column * (2 * step + _GAP)
        draw.text((left, _GAP), ('train', 'val')[column], fill=_INK, font_size=16)
        for row, pair in enumerate(pairs):
            for side, picture in enumerate(pair):
                sheet.paste(picture, (left + side * step, _LEGEND + row * step))
    _legend(draw, sheet.height - _LEGEND + 4)
    sheet.save(path)
    return Path(path)


def _pairs(root: Path, split: str, rows: int) -> list[tuple[Image.Image, Image.Image]]:
    """(image with outlines and names, coloured map) of the first scenes."""
    from pycocotools import mask as mask_api

    coco = json.loads(
        (root / 'annotations' / f'instances_{split}.json').read_text(encoding='utf-8')
    )
    palette = np.array([(255, 255, 255), *SAMPLE_SEG_PALETTE], dtype=np.uint8)  # 0: unlabelled
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
            coloured = Image.fromarray(palette[np.asarray(file)])
        pairs.append((image, _enlarge(coloured)))
    return pairs


def _outline(draw: ImageDraw.ImageDraw, mask: np.ndarray) -> None:
    """Draws a white line along the visible pixels of one object."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    draw.point(np.argwhere(mask & ~inner)[:, ::-1].ravel().tolist(), fill=_PAPER)


def _name(draw: ImageDraw.ImageDraw, label: int, mask: np.ndarray) -> None:
    """Writes the class of one object at the middle of its visible pixels."""
    y, x = np.argwhere(mask).mean(axis=0).tolist()
    box = draw.textbbox((x, y), SAMPLE_CLASSES[label], anchor='mm', font_size=13)
    draw.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), fill=_PAPER)
    draw.text((x, y), SAMPLE_CLASSES[label], fill=_INK, anchor='mm', font_size=13)


def _legend(draw: ImageDraw.ImageDraw, y: int) -> None:
    for i, name in enumerate(SAMPLE_SEG_CLASSES):
        x = _GAP + 130 * i
        draw.rectangle((x, y, x + 18, y + 18), fill=SAMPLE_SEG_PALETTE[i])
        draw.text((x + 24, y + 1), name, fill=_INK, font_size=14)


def _enlarge(image: Image.Image, how: int = Image.NEAREST) -> Image.Image:
    return image.resize((image.width * _ZOOM, image.height * _ZOOM), how)
