"""Checks what was loaded, before augmentation."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, UnidentifiedImageError

from mmpvg.registry import TRANSFORMS
from mmpvg.utils.errors import UserError

from .checks.image_files import check_image_header, open_image
from .checks.label_maps import unusable_labels


class BrokenSampleError(UserError):
    """An image or its annotation cannot be used; another image can.

    Args:
        message: What is wrong.
        problem: Its name in findings of a check; None for the name of the loading stage.
    """

    def __init__(self, message: str, problem: str | None = None) -> None:
        super().__init__(message)
        self.problem = problem


@TRANSFORMS.register_module()
class CheckLoaded(BaseTransform):
    """Compares annotations with their image; to be put after ``LoadAnnotations``.

    A semantic map of another size, boxes of an image that is turned by its EXIF orientation, labels
    above 255, and boxes or pixels that are not finite would be trained on without an error.
    """

    def transform(self, results: dict) -> dict:
        """Check ``img``, its annotations, and the size that they state.

        Raises:
            BrokenSampleError: If pixels or boxes are not finite, the annotations are of another
                size than the image, or a semantic map has channels or labels above 255.
        """
        image, path = results['img'], results.get('img_path')
        size = tuple(image.shape[:2])
        if image.dtype.kind == 'f' and not np.isfinite(image).all():
            raise BrokenSampleError(f'{path} has pixels that are not finite')
        stated = results.get('height', size[0]), results.get('width', size[1])
        if stated != size:
            message = f'{path} is {_size(size)}, its annotations say {_size(stated)}'
            _raise_of_size(path, stated, message, 'size unlike its annotations')
        if results.get('gt_seg_map') is not None:
            _check_seg_map(results['gt_seg_map'], results.get('seg_map_path'), size, path)
        masks = results.get('gt_masks')
        if masks is not None and len(masks) and (masks.height, masks.width) != size:
            raise BrokenSampleError(
                f'masks of {path} are {_size((masks.height, masks.width))}, but it is {_size(size)}'
            )
        boxes = results.get('gt_bboxes')
        if boxes is not None and not np.isfinite(np.asarray(getattr(boxes, 'tensor', boxes))).all():
            raise BrokenSampleError(f'{path} has a box that is not finite')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


def _check_seg_map(
    seg_map: np.ndarray, seg_map_path: str | None, size: tuple[int, int], path: str | None
) -> None:
    if seg_map.shape[:2] != size:
        message = f'{seg_map_path} is {_size(seg_map.shape)}, but its image {path} is {_size(size)}'
        _raise_of_size(path, seg_map.shape[:2], message, 'mask of another size')
    wrong = unusable_labels(seg_map) or _wide_labels(seg_map_path)
    if wrong:
        raise BrokenSampleError(f'{seg_map_path}: {wrong[1]}', wrong[0])


def _wide_labels(path: str | None) -> tuple[str, str] | None:
    """Check the labels of a file of more than 8 bits."""
    if path is None or not Path(path).exists():
        return None
    try:
        with open_image(path) as image:
            return unusable_labels(np.asarray(image)) if image.mode[0] in 'IF' else None
    except OSError:  # what PIL does not know
        return None


def _raise_of_size(path: str | None, stated: tuple[int, int], message: str, problem: str) -> None:
    found = check_image_header(str(path), stated[::-1]) if path and Path(path).exists() else []
    for finding in found:
        if finding.problem.startswith('EXIF'):
            raise BrokenSampleError(f'{path} has {finding.detail}', finding.problem)
    raise BrokenSampleError(message, problem)


def check_whole(path: str | Path) -> None:
    """Check that an image file holds all of its image.

    Some decoders return the rest of a truncated file as gray. What PIL does not know is left to the
    decoder.

    Args:
        path: The file.

    Raises:
        BrokenSampleError: If it is empty or truncated.
        OSError: If it is missing or may not be read.
    """
    if not Path(path).stat().st_size:
        raise BrokenSampleError(f'{path} is empty')
    with Path(path).open('rb') as file, warnings.catch_warnings():
        # A large image is none to warn of here.
        warnings.simplefilter('ignore', Image.DecompressionBombWarning)
        try:
            with Image.open(file) as image:
                # Of a JPEG an eighth of the size, which reads all of the file in less time.
                image.draft(None, (1, 1))
                image.load()
        except (UnidentifiedImageError, Image.DecompressionBombError):
            return
        except (OSError, SyntaxError, ValueError) as error:
            raise BrokenSampleError(f'{path} is truncated or damaged: {error}') from error


def _size(size: tuple[int, ...]) -> str:
    return f'{size[1]}x{size[0]} pixels'
