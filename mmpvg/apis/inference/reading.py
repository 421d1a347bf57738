"""Reads images as a config's test pipeline does, and names what is wrong with a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from mmpvg.datasets.checked_loading import BrokenSampleError, CheckLoaded, check_whole
from mmpvg.datasets.checks.image_files import check_image_header, image_loader
from mmpvg.datasets.unwrap import first_config

from .inputs import Item


def is_transform(transform: Mapping[str, Any], *names: str) -> bool:
    """Return whether a transform of a pipeline is of one of these types, in any scope."""
    return str(transform['type']).split('.')[-1] in names


# Of any file.
_THREE_CHANNELS = (dict(type='LoadImageFromFile'),)


class ImageReader:
    """Reads images with the ``LoadImageFromFile`` of a pipeline, from the local disk.

    Args:
        pipeline: Configs of transforms, of which one is ``LoadImageFromFile``; by default that
            alone, which reads three channels.

    Raises:
        UserError: If none is.
    """

    def __init__(self, pipeline: Sequence[Mapping[str, Any]] = _THREE_CHANNELS) -> None:
        from mmcv.transforms import LoadImageFromFile

        # Without the settings for missing files and for the place of the data set.
        self._loader = image_loader(pipeline)
        self._load = LoadImageFromFile(**self._loader)

    def __call__(self, path: Path) -> np.ndarray:
        """Read an image.

        Returns:
            Shape (height, width, channels) or (height, width), BGR, turned by its EXIF orientation.

        Raises:
            BrokenSampleError: If it cannot be read as a whole. The message does not name the file.
        """
        try:
            check_whole(path)
            results = self._load.transform(dict(img_path=str(path)))
            return CheckLoaded().transform(results)['img']
        except (BrokenSampleError, OSError) as error:
            why = getattr(error, 'strerror', None) or str(error).removeprefix(f'{path} ')
            raise BrokenSampleError(why) from error
        except Exception as error:  # whatever a decoder makes of what is no image
            decoder = self._load.imdecode_backend
            raise BrokenSampleError(f'{decoder} cannot decode it as an image') from error

    def doubts(self, path: Path) -> list[str]:
        """Name what is not read as it is stored: further bands or pages, bits beyond 8."""
        found = check_image_header(str(path), loader=self._loader)
        return [f'{path}: {f.problem} ({f.detail})' for f in found if f.effect == 'unnoticed']


def reader_of(config: Config) -> ImageReader | None:
    """Make the reader of a config's test images, of several data sets those of the first.

    None if they are no files, as CIFAR's are not.
    """
    pipeline = first_config(config.get('test_dataloader')).get('pipeline') or ()
    reads_files = any(is_transform(transform, 'LoadImageFromFile') for transform in pipeline)
    return ImageReader(pipeline) if reads_files else None


class ImageFiles:
    """Images that are read one after the other.

    Args:
        items: Which.
        reader: What reads them.

    Attributes:
        doubts: ``ImageReader.doubts`` of the images read so far.
    """

    def __init__(self, items: Sequence[Item], reader: ImageReader) -> None:
        self.items, self.reader = items, reader
        self.doubts: list[str] = []

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[tuple[Item, np.ndarray | BrokenSampleError]]:
        """Yield images, or the errors of their files."""
        for item in self.items:
            try:
                image = self.reader(item.path)
                self.doubts += self.reader.doubts(item.path)
                yield item, image
            except BrokenSampleError as error:
                yield item, error


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Convert an image for drawing.

    Args:
        image: BGR, BGR with alpha, or gray; any type, of values from 0 to 255.

    Returns:
        Shape (height, width, 3), RGB, uint8.
    """
    image = np.clip(image, 0, 255).astype(np.uint8)
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[2] < 3:
        image = image[..., :1].repeat(3, axis=2)
    return np.ascontiguousarray(image[..., 2::-1])
