"""Finds what to predict on: an image, all images of a folder, or the frames of a video."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mmpvg.utils.errors import MissingFileError, UserError

#: Of images, as mmdet's inferencer knows them.
IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
#: Of videos.
VIDEO_SUFFIXES = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')


class Item(NamedTuple):
    """One image.

    Attributes:
        id: Its id in COCO files; of a frame, its number in the video from 0.
        file_name: Its name in files and messages: its path below the folder.
        name: Name of its outputs, without an extension, unique.
        path: The file; of a frame, the video.
    """

    id: int
    file_name: str
    name: str
    path: Path


class FoundImages(NamedTuple):
    """Images of an input, sorted by file name with ids from 1, and the number of other files."""

    items: list[Item]
    other_files: int = 0


def check_source(source: str | Path) -> Path:
    """Return the path of an input that is a folder, or an image or a video by its extension.

    Raises:
        MissingFileError: If there is no such file or folder.
        UserError: If it is none of the three.
    """
    path = Path(source)
    if not path.exists():
        raise MissingFileError(f'{source} does not exist; give an image, a folder or a video')
    if not path.is_dir() and path.suffix.lower() not in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        raise UserError(
            f'{source} is neither a folder nor an image ({" ".join(IMAGE_SUFFIXES)}) nor a video '
            f'({" ".join(VIDEO_SUFFIXES)})'
        )
    return path


def is_video(source: Path) -> bool:
    """Return whether an input that passed ``check_source`` is a video."""
    return not source.is_dir() and source.suffix.lower() in VIDEO_SUFFIXES


def find_images(source: Path, left_out: Path | None = None) -> FoundImages:
    """Find an image, or all images of a folder and the folders in it.

    Files and folders whose name starts with a dot are left out. Links to folders are followed.

    Args:
        source: The image or folder.
        left_out: A folder that is left out, such as that of the results.

    Raises:
        UserError: If the folder holds no image.
    """
    if not source.is_dir():
        return FoundImages([Item(1, source.name, source.stem, source)])
    files = sorted(_files_below(source, left_out.resolve() if left_out else None))
    names = [name for name in files if name.lower().endswith(IMAGE_SUFFIXES)]
    if not names:
        raise UserError(
            f'{source} holds no image, only {len(files)} other files; images end in '
            f'{" ".join(IMAGE_SUFFIXES)}, and a video is given by its own path'
        )
    outputs = output_names(names)
    items = [Item(i + 1, names[i], outputs[i], source / names[i]) for i in range(len(names))]
    return FoundImages(items, len(files) - len(names))


def output_names(file_names: Sequence[str]) -> list[str]:
    """Drop the extensions of different names, but keep those of names that would become equal."""
    names = [os.path.splitext(file_name)[0] for file_name in file_names]
    while True:
        count = Counter(names)
        alike = [i for i, name in enumerate(names) if count[name] > 1 and name != file_names[i]]
        if not alike:
            return names
        for index in alike:
            names[index] = file_names[index]


def _files_below(folder: Path, left_out: Path | None) -> Iterator[str]:
    """Yield paths relative to the folder."""
    seen = set()
    for root, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        real = Path(root).resolve()
        if real in seen or real == left_out:
            # A link that leads back, or the results of another time.
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        for name in files:
            if not name.startswith('.'):
                yield Path(root, name).relative_to(folder).as_posix()


def _raise(error: OSError) -> None:
    raise error
