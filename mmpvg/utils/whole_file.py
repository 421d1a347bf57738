"""Files that are written in one step, whole or not at all."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

# Suffix of what a process that was killed while writing leaves behind.
PART_SUFFIX = '.part'


def write_whole(path: str | os.PathLike, content: bytes | memoryview | str) -> None:
    """Write a file so that no reader ever sees a part of it.

    The content goes to another name in the same folder, to the disk, and then replaces what was
    there in one step. If anything fails, what was there stays.

    Args:
        path: The file.
        content: Bytes, or text, written as UTF-8.

    Raises:
        OSError: If the file cannot be written; the message says how much is free.
    """
    data = content.encode() if isinstance(content, str) else content
    with whole_file(path, len(data)) as part:
        part.write_bytes(data)


@contextmanager
def whole_file(path: str | os.PathLike, size: int | None = None) -> Iterator[Path]:
    """Let the caller write a file under another name, which replaces it in one step at the end.

    Args:
        path: The file.
        size: Bytes that will be written, for the message of an error, if known.

    Yields:
        Where to write.

    Raises:
        OSError: As ``write_whole``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        with part.open('ab') as lock:
            # By the lock, which ends with the process, others see that this file is in use.
            _try_lock(lock)
            yield part
            with part.open('rb') as file:
                os.fsync(file.fileno())
            os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free
        what = '' if size is None else f'{size / 2**20:.1f} MiB to '
        raise OSError(
            error.errno,
            f'cannot write {what}{path} ({error.strerror}; {free / 2**20:.1f} MiB are free there). '
            'What was there before is kept',
        ) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def part_of(path: Path) -> Path:
    """Return the name under which this process writes a file before it replaces it."""
    # Two hosts that share the folder may have the same process id.
    return path.with_name(f'{path.name}.{platform.node()}-{os.getpid()}{PART_SUFFIX}')


def remove_parts(folder: str | os.PathLike) -> list[Path]:
    """Remove what killed processes left half-written in a folder, and return it.

    What a running process is writing, on this host or another, is left alone, and so is everything
    on a file system without locks.
    """
    removed = []
    for part in sorted(Path(folder).glob(f'*{PART_SUFFIX}')):
        with suppress(OSError), part.open('ab') as file:
            if _try_lock(file):
                part.unlink()
                removed.append(part)
    return removed


def _try_lock(file: IO[bytes]) -> bool:
    """Lock a file until it is closed; return whether that was possible."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Flush the new name to the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
