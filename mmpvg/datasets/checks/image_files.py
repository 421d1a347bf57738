"""Checks of image files against the loader of a pipeline, from their headers."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from mmpvg.utils.errors import UserError

from .finding import Finding

_ORIENTATION = 0x0112
# EXIF orientations that exchange width and height.
_QUARTER_TURNS = (5, 6, 7, 8)
# Formats whose EXIF orientation each decoder applies, by experiment. TIFF is not among them:
# every decoder turns it, whatever the color type.
_TURNED_BY = dict(cv2=('JPEG', 'MPO', 'PNG'), pillow=('JPEG', 'MPO', 'PNG', 'WEBP'))
# Modes that decoders convert to 8-bit BGR without loss.
_PLAIN_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr')
_REMOVE_TAG = (
    'remove the tag from the files, or (not for TIFF) set '
    "color_type='color_ignore_orientation' in LoadImageFromFile"
)
_SAVE_TURNED = 'save the files turned, without the tag (PIL.ImageOps.exif_transpose)'
# Of at most 256 levels, what must be left of an image that has more.
_LEVELS = 48


def image_loader(pipeline: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the ``LoadImageFromFile`` of a pipeline decodes.

    Returns:
        Those of ``color_type``, ``imdecode_backend`` and ``to_float32`` that are set.

    Raises:
        ValueError: If the pipeline has no ``LoadImageFromFile``.
    """
    for transform in pipeline:
        if str(transform['type']).split('.')[-1] == 'LoadImageFromFile':
            kept = ('color_type', 'imdecode_backend', 'to_float32')
            return {key: transform[key] for key in kept if key in transform}
    raise UserError('the pipeline has no LoadImageFromFile')


def check_image_header(
    path: str, expected: tuple[int, int] | None = None, loader: Mapping[str, Any] | None = None
) -> list[Finding]:
    """Check one image file for what its loader would get wrong, or not read.

    Reads the header and, for truncation, the end of the file. Only rare kinds of files are decoded:
    TIFF of other bands than 8-bit RGB, more than 8 bits, formats that PIL does not know.

    Args:
        path: The file. A URL is not read.
        expected: Width and height in pixels according to the annotations; None if they hold no
            positions.
        loader: From ``image_loader``; None for the defaults of ``LoadImageFromFile``.

    Returns:
        What is wrong for this loader: nothing for most files.
    """
    if '://' in path:
        return []
    load = LoadImageFromFile(**(loader or {}))
    try:
        if not Path(path).stat().st_size:
            return [Finding(path, 'image cannot be decoded', 'the file is empty', 'replaced')]
        with open_image(path) as image:
            return _check_opened(path, image, expected, load)
    except FileNotFoundError:
        return [Finding(path, 'image missing', '', 'replaced')]
    except Exception as error:  # whatever PIL makes of a header, which OpenCV may yet read
        if isinstance(error, OSError) and error.errno:
            return [Finding(path, 'image cannot be decoded', error.strerror, 'replaced')]
        return _check_decoded(path, expected, load)


@contextmanager
def open_image(path: str | Path):
    """Open an image with PIL without decoding it, also one of more than 179 million pixels.

    Raises:
        OSError: If the file cannot be read, or PIL does not know its format.
    """
    with Path(path).open('rb') as file, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            image = Image.open(file)
        except Image.DecompressionBombError:
            image = _open_any_size(file)
        with image:
            yield image


def pixel_limit(backend: str | None) -> float:
    """Pixels of the largest image that a decoder reads."""
    if backend == 'pillow':
        return 2 * (Image.MAX_IMAGE_PIXELS or float('inf'))
    return int(os.environ.get('OPENCV_IO_MAX_IMAGE_PIXELS', 1 << 30))


def _open_any_size(file: BinaryIO) -> ImageFile.ImageFile:
    """Open an image with the plugin of its format alone, which has no limit."""
    file.seek(0)
    prefix = file.read(16)
    for factory, accepts in Image.OPEN.values():
        if accepts is not None and accepts(prefix) is True:
            file.seek(0)
            return factory(file)
    raise UnidentifiedImageError('unknown format')


def _is_truncated(image: ImageFile.ImageFile) -> bool:
    """Whether a file ends before its image does, in formats whose header or end shows it."""
    file = image.fp
    after_header = file.tell()
    size = file.seek(0, 2)
    try:
        # Compressed data never hold the marker of the end; other data may follow it.
        end = {'JPEG': b'\xff\xd9', 'MPO': b'\xff\xd9', 'PNG': b'IEND'}.get(image.format)
        if end is not None:
            for start in (max(after_header, size - 4096), after_header):
                file.seek(start)
                if end in file.read():
                    return False
            return True
        if image.format == 'WEBP':
            file.seek(4)
            return size < struct.unpack('<I', file.read(4))[0] + 8
        if image.format == 'TIFF':
            tags = image.tag_v2
            for start, length in ((273, 279), (324, 325)):
                starts, lengths = tags.get(start, ()), tags.get(length, ())
                if any(sum(strip) > size for strip in zip(starts, lengths)):
                    return True
        if image.format == 'BMP' and image.tile[0][0] == 'raw':
            start, (_, stride, _) = image.tile[0][2], image.tile[0][3]
            return size < start + stride * image.height
    finally:
        file.seek(after_header)
    return False


def _check_opened(
    path: str,
    image: ImageFile.ImageFile,
    expected: tuple[int, int] | None,
    load: LoadImageFromFile,
) -> list[Finding]:
    if _is_truncated(image):
        if _decode(path, load) is None:
            return [Finding(path, 'image cannot be decoded', 'the file is truncated', 'replaced')]
        # Such as zeros in place of the rest, which decoders take for pixels.
        detail = 'its end is missing, and the loader makes up the pixels; copy the file once more'
        return [Finding(path, 'end of the image is missing', detail, 'unnoticed')]
    limit = pixel_limit(load.imdecode_backend)
    if image.width * image.height > limit:
        detail = (
            f'{_pixels(image.size)}, and {load.imdecode_backend} reads at most {limit}; tile it'
        )
        return [Finding(path, 'image cannot be decoded', detail, 'replaced')]
    found = [*_page_findings(path, image)]
    if _is_plain(image):
        if expected is not None:
            found += _size_findings(path, image, expected, load)
        return found
    return found + _check_decoded(path, expected, load)


def _is_plain(image: ImageFile.ImageFile) -> bool:
    if image.format == 'TIFF':
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
        bands = image.tag_v2.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
        return max(bits) <= 8 and (bands in (1, 3) or image.mode == 'CMYK')
    # Such as 'RGB;16B' of a PNG.
    raw = str(image.tile[0][3]) if image.tile else ''
    return image.mode in _PLAIN_MODES and '16' not in raw


def _page_findings(path: str, image: ImageFile.ImageFile) -> list[Finding]:
    if image.format not in ('TIFF', 'GIF', 'PNG', 'WEBP') or getattr(image, 'n_frames', 1) == 1:
        return []
    if image.format == 'TIFF':
        size = image.size
        image.seek(1)
        # A smaller copy of the first page is no page of its own.
        reduced = image.size != size or image.tag_v2.get(254, 0) & 1
        image.seek(0)
        if reduced:
            return []
    detail = f'the first of {image.n_frames} pages or frames is read'
    return [Finding(path, 'several pages', detail, 'unnoticed')]


def _size_findings(
    path: str, image: ImageFile.ImageFile, expected: tuple[int, int], load: LoadImageFromFile
) -> list[Finding]:
    orientation = _orientation(image)
    turned = image.format == 'TIFF'
    # PIL gives the size of a turned TIFF, and the stored one of all other files.
    size, swapped = image.size, image.size[::-1]
    if orientation == 1:
        return _unlike(path, size, expected)
    followed = not load.color_type.endswith('ignore_orientation') and (
        load.color_type != 'unchanged'
    )
    if not turned and followed:
        turned = image.format in _TURNED_BY.get(load.imdecode_backend or 'cv2', ())
        if turned and orientation in _QUARTER_TURNS:
            size, swapped = swapped, size
    reads = 'turns the image' if turned else 'does not turn the image'
    says = f'EXIF orientation {orientation}, and the loader {reads}'
    if orientation in _QUARTER_TURNS and size[0] != size[1]:
        if tuple(expected) != swapped:
            return _unlike(path, size, expected)
        fix = _REMOVE_TAG if turned else _SAVE_TURNED
        detail = f'{says}: {_pixels(size)}, but the annotations say {_pixels(expected)}; {fix}'
        return [Finding(path, 'EXIF orientation unlike the annotations', detail, 'replaced')]
    found = _unlike(path, size, expected)
    if not found and (turned or followed):
        detail = (
            f'{says}, and the sizes do not show whether the annotations do; draw some on the '
            f'stored pixels: if they fit, {_REMOVE_TAG}; else {_SAVE_TURNED}'
        )
        return [Finding(path, 'EXIF orientation that no size confirms', detail, 'unnoticed')]
    return found


def _orientation(image: ImageFile.ImageFile) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # EXIF data that are broken, which decoders pass over
        return 1
    return orientation if orientation in range(1, 9) else 1


def _unlike(path: str, size: tuple[int, int], expected: tuple[int, int]) -> list[Finding]:
    if tuple(expected) == tuple(size):
        return []
    detail = f'{_pixels(size)}, its annotations say {_pixels(expected)}'
    return [Finding(path, 'size unlike its annotations', detail, 'replaced')]


def _check_decoded(
    path: str, expected: tuple[int, int] | None, load: LoadImageFromFile
) -> list[Finding]:
    """Compare what the loader makes of a file with the values that are stored."""
    loaded = _decode(path, load)
    if loaded is None:
        fix = 'save it as 8-bit PNG, JPEG or TIFF of one or three bands'
        detail = f'{load.imdecode_backend} cannot read it; {fix}'
        return [Finding(path, 'image cannot be decoded', detail, 'replaced')]
    found = []
    if expected is not None:
        found += _unlike(path, loaded.shape[1::-1], expected)
    if load.color_type == 'unchanged':
        return found
    stored = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if stored is not None and stored.dtype != np.uint8:
        found += _value_findings(path, loaded, stored)
    return found + _band_findings(path, load.imdecode_backend, stored)


def _decode(path: str, load: LoadImageFromFile) -> np.ndarray | None:
    try:
        return load.transform(dict(img_path=path))['img']
    except Exception:  # whatever a decoder makes of a file
        return None


def _value_findings(path: str, loaded: np.ndarray, stored: np.ndarray) -> list[Finding]:
    before, after = len(np.unique(stored)), len(np.unique(loaded))
    if stored.min() >= 0 and after >= min(before, _LEVELS):
        return []
    detail = (
        f'{stored.dtype} values {stored.min():g} to {stored.max():g} are read as '
        f'{loaded.min():g} to {loaded.max():g}; save all images as 8-bit, scaled alike'
    )
    return [Finding(path, 'values beyond 8 bits are lost', detail, 'unnoticed')]


def _band_findings(path: str, backend: str, stored: np.ndarray | None) -> list[Finding]:
    bands = _tiff_bands(path)
    if bands in (None, 1, 3):
        return []
    if bands == 4 and stored is not None and np.ptp(stored[..., -1]) == 0:
        # An opaque alpha channel changes nothing.
        return []
    detail = f'{1 if bands == 2 else 3} of {bands} bands are read'
    if bands == 4 and backend != 'pillow':
        detail += ', multiplied by the fourth if the file calls it alpha'
    return [Finding(path, 'bands are left out', detail, 'unnoticed')]


def _tiff_bands(path: str) -> int | None:
    """Bands of a TIFF file, also of those that PIL does not read; None of other files."""
    with Path(path).open('rb') as file:
        header = file.read(8)
        if header[:4] not in (b'II*\0', b'MM\0*'):
            return None
        try:
            tags = TiffImagePlugin.ImageFileDirectory_v2(header)
            file.seek(tags.next)
            tags.load(file)
            return int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))
        except Exception:  # tags that are broken, which OpenCV passes over
            return None


def _pixels(size: Sequence[int]) -> str:
    return f'{size[0]}x{size[1]} pixels'
