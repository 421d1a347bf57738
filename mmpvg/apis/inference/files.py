"""Writes predictions and pictures to files."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmpvg.utils.whole_file import whole_file, write_whole

from .coco_ids import CocoIds
from .inputs import Item


class DetectionFiles:
    """``predictions.json``, COCO's results, and ``images.json``, the images they are of.

    Both are written by ``close``; until then the results are in a temporary file there.

    Args:
        folder: The folder.
        ids: Ids of images and categories.
        score_thr: Detections below it are left out.

    Attributes:
        count: Detections so far.
    """

    def __init__(self, folder: Path, ids: CocoIds, score_thr: float = 0.0) -> None:
        self.folder, self.ids, self.score_thr = folder, ids, score_thr
        self.count = 0
        self._images: dict[int, dict] = {}
        # Where the results of an image are in the file: its offset and length.
        self._places: dict[int, tuple[int, int]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        # Has no name, and ends with the process.
        self._spool = tempfile.TemporaryFile(dir=folder)

    def add(self, item: Item, image: np.ndarray, found: dict[str, Any]) -> None:
        """Add the detections of an image.

        Args:
            item: Which image it is.
            image: The image.
            found: ``Predictor.detections``.

        Raises:
            BrokenSampleError: If the annotation file has another size.
        """
        entry = self.ids.image(item, image)
        masks = found.get('masks') or [None] * len(found['labels'])
        results = [
            self._result(item.id, *detection)
            for detection in zip(found['labels'], found['scores'], found['bboxes'], masks)
            if detection[1] >= self.score_thr
        ]
        text = ',\n'.join(map(json.dumps, results)).encode()
        begin = self._spool.seek(0, os.SEEK_END)
        self._spool.write(text)
        self._places[item.id] = begin, len(text)
        self._images[item.id] = entry
        self.count += len(results)

    def close(self) -> None:
        """Write the files."""
        # Some ids of a file may be numbers, and some text.
        order = sorted(self._images, key=lambda id_: (type(id_).__name__, id_))
        with whole_file(self.folder / 'predictions.json') as part, part.open('wb') as file:
            separator = b'['
            for begin, length in (self._places[id_] for id_ in order):
                if length:
                    self._spool.seek(begin)
                    file.write(separator + self._spool.read(length))
                    separator = b',\n'
            file.write(b'[]\n' if separator == b'[' else b']\n')
        images = dict(
            images=[self._images[id_] for id_ in order],
            annotations=[],
            categories=self.ids.categories,
        )
        write_whole(self.folder / 'images.json', json.dumps(images, indent=1) + '\n')

    def _result(
        self, image_id: int, label: int, score: float, box: Sequence[float], mask: dict | None
    ) -> dict[str, Any]:
        left, top, right, bottom = box
        result = dict(
            image_id=image_id,
            category_id=self.ids.category_ids[label],
            bbox=[left, top, right - left, bottom - top],
            score=score,
        )
        return result if mask is None else {**result, 'segmentation': mask}


class MaskFiles:
    """``masks/NAME.png``, whose pixels are class indices, and ``classes.json``, which names them.

    Up to 256 classes a pixel has 8 bits and the file a palette; with more, 16 bits.

    Args:
        folder: The folder.
        classes: Names of the classes.
        palette: Their colors.
    """

    def __init__(
        self, folder: Path, classes: Sequence[str], palette: Sequence[tuple[int, int, int]]
    ) -> None:
        self.folder, self.classes, self.palette = folder, classes, palette
        entries = [
            dict(id=i, name=name, color=list(color))
            for i, (name, color) in enumerate(zip(classes, palette))
        ]
        write_whole(folder / 'classes.json', json.dumps(entries, indent=1) + '\n')

    def add(self, item: Item, image: np.ndarray, labels: np.ndarray) -> None:
        """Write the label map of an image, class indices of shape (height, width)."""
        if labels.shape != image.shape[:2]:
            raise ValueError(f'the label map is {labels.shape}, the image {image.shape[:2]}')
        if len(self.classes) > 256:
            mask = Image.fromarray(labels.astype(np.uint16))
        else:
            mask = Image.fromarray(labels.astype(np.uint8))
            mask.putpalette([value for color in self.palette for value in color])
        path = self.folder / 'masks' / f'{item.name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        mask.save(path)

    def close(self) -> None:
        """Do nothing: all is written already."""


class PictureFiles:
    """``NAME.jpg`` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, item: Item, picture: np.ndarray) -> None:
        """Write a picture, shape (height, width, 3), RGB, uint8."""
        path = self.folder / f'{item.name}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, quality=95)

    def close(self) -> None:
        """Do nothing: all is written already."""
