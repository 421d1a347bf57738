"""Reads and writes videos."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from mmpvg.datasets.checked_loading import BrokenSampleError
from mmpvg.utils.errors import UserError

from .inputs import Item


class VideoFrames:
    """The frames of a video, one at a time.

    Args:
        path: The video.
        every: Step between the frames that are taken, from the first on.

    Attributes:
        fps: Frames a second, of those that are taken.

    Raises:
        UserError: If the video cannot be opened.
    """

    def __init__(self, path: Path, every: int = 1) -> None:
        self.path, self.every = path, every
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            size = path.stat().st_size
            raise UserError(
                f'{path} ({size} bytes) cannot be opened as a video: it is broken, or of a format '
                'that OpenCV does not know'
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        # Of some files it is not known.
        self.fps = (fps if 0 < fps < math.inf else 25) / every
        self._stated = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self._read = 0

    def __len__(self) -> int:
        """Number of frames to take by the header of the file; 0 without one."""
        return -(-self._stated // self.every)

    def __iter__(self) -> Iterator[tuple[Item, np.ndarray | BrokenSampleError]]:
        """Yield frames, (height, width, 3), BGR, uint8, and an error at the end; only once."""
        while self._capture.grab():
            number = self._read
            self._read += 1
            if number % self.every:
                continue
            decoded, frame = self._capture.retrieve()
            if not decoded:
                break
            yield Item(number, f'{self.path.name}#{number}', f'{number:06d}', self.path), frame
        self._capture.release()
        # Some formats estimate their length, and are a frame or two off.
        if self._read < self._stated - 2:
            why = f'ends after {self._read} of {self._stated} frames: it is truncated or damaged'
            end = Item(self._read, self.path.name, f'{self._read:06d}', self.path)
            yield end, BrokenSampleError(why)


def mpeg4_rate(fps: float) -> float:
    """Return the nearest frame rate above 0 that an MPEG-4 video can have.

    It is a fraction whose terms are at most 65535, which OpenCV makes of decimals.
    """
    digits = next(n for n in (3, 2, 1, 0) if n == 0 or round(fps * 10**n) <= 65535)
    return min(max(round(fps, digits), 0.01), 65535.0)


class VideoFile:
    """Writes an MP4 video.

    Args:
        path: The file.
        fps: Frames a second; the attribute may be rounded.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps = path, mpeg4_rate(fps)
        self._writer: cv2.VideoWriter | None = None

    def add(self, item: Item, picture: np.ndarray) -> None:
        """Write the next frame, (height, width, 3), RGB, uint8, all of one size.

        Raises:
            OSError: If the video cannot be written.
        """
        # The codec knows even sizes alone, and OpenCV would cut a row and column off.
        odd = picture.shape[0] % 2, picture.shape[1] % 2
        picture = cv2.copyMakeBorder(picture, 0, odd[0], 0, odd[1], cv2.BORDER_REPLICATE)
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            size = picture.shape[1::-1]
            code = cv2.VideoWriter_fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(str(self.path), code, self.fps, size)
            if not self._writer.isOpened():
                raise OSError(
                    f'cannot write {self.path} ({size[0]}x{size[1]} pixels, {self.fps:g} frames a '
                    'second); without it: --no-pictures'
                )
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Complete the file."""
        if self._writer is not None:
            self._writer.release()
