"""Finding truncated image files without decoding them."""

from __future__ import annotations

import struct

from PIL import ImageFile


def is_truncated(image: ImageFile.ImageFile) -> bool:
    """Whether a file ends before its image does, of formats whose header or end tells it.

    Args:
        image: Opened by PIL, not decoded.
    """
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
