"""The folder that results go to."""

from __future__ import annotations

from pathlib import Path

from mmpvg.utils.errors import UserError


def make_folder(path: Path) -> None:
    """Make the folder for results, if it is not there.

    Raises:
        ValueError: If that is a file.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f'{path} is a file; give a folder')
    path.mkdir(parents=True, exist_ok=True)
