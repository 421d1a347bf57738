"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# What a process that was killed while writing leaves behind ends so.
PART_SUFFIX = '.part'


def write_whole(path: str | os.PathLike, content: bytes | memoryview | str) -> None:
    """Write a file so that no reader ever sees a part of it.

    The content goes to another name in the same folder, to the disk, and then takes the place of
    what was there in one step. If anything fails, what was there stays.

    Args:
        path: The file.
        content: Bytes, or text, written as UTF-8.

    Raises:
        OSError: If the disk is full or the file cannot be written; the message tells how much was
            to be written and how much is free.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.{os.getpid()}{PART_SUFFIX}')
    try:
        with part.open('wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free
        raise OSError(
            error.errno,
            f'cannot write {len(data) / 2**20:.1f} MiB to {path} ({error.strerror}; '
            f'{free / 2**20:.1f} MiB are free there). What was there before is kept: make room and '
            'go on with --resume',
        ) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def remove_parts(folder: str | os.PathLike) -> list[Path]:
    """Remove what killed processes left half-written in a folder; tell what it was."""
    parts = sorted(Path(folder).glob(f'*{PART_SUFFIX}'))
    for part in parts:
        part.unlink(missing_ok=True)
    return parts


def _sync_folder(folder: Path) -> None:
    """Let the new name reach the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
