"""A look at what was loaded, before augmentation hides what is wrong with it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, UnidentifiedImageError

from mmpvg.registry import TRANSFORMS


class BrokenSampleError(ValueError):
    """An image or its annotation cannot be used; another image can."""


@TRANSFORMS.register_module()
class CheckLoaded(BaseTransform):
    """Compare annotations with their image; to stand after ``LoadAnnotations``.

    A semantic map of another size is cropped and scaled beside its image without an error, and
    trains on labels of other places; a box or pixel that is no number makes the loss none.
    """

    def transform(self, results: dict) -> dict:
        """Check ``img``, and what there is of ``gt_seg_map``, ``gt_masks`` and ``gt_bboxes``.

        Raises:
            BrokenSampleError: If pixels or boxes are not finite, or a mask has another size than
                the image.
        """
        image, path = results['img'], results.get('img_path')
        size = tuple(image.shape[:2])
        if image.dtype.kind == 'f' and not np.isfinite(image).all():
            raise BrokenSampleError(f'{path} has pixels that are not finite')
        seg_map = results.get('gt_seg_map')
        if seg_map is not None and seg_map.shape[:2] != size:
            raise BrokenSampleError(
                f'{results.get("seg_map_path")} is {_told(seg_map.shape)}, but its image {path} is '
                f'{_told(size)}'
            )
        masks = results.get('gt_masks')
        if masks is not None and len(masks) and (masks.height, masks.width) != size:
            raise BrokenSampleError(
                f'masks of {path} are {_told((masks.height, masks.width))}, but it is {_told(size)}'
            )
        boxes = results.get('gt_bboxes')
        if boxes is not None and not np.isfinite(np.asarray(getattr(boxes, 'tensor', boxes))).all():
            raise BrokenSampleError(f'{path} has a box that is not finite')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


def check_whole(path: str | Path) -> None:
    """Check that an image file holds all of its image.

    Some decoders give the rest of a truncated file as gray, without an error. What PIL does not
    know is left to the decoder.

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


def _told(size: tuple[int, ...]) -> str:
    return f'{size[1]}x{size[0]} pixels'
