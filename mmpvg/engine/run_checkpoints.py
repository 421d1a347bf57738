"""The checkpoints that a run starts from: which one, and read without running what it holds."""

from __future__ import annotations

import logging
import os.path as osp
import zipfile
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader

from mmpvg.checkpoints.reading import download
from mmpvg.checkpoints.safe_load import RefusedFileError, load_pth, placeholders_in

from .finite_state import first_of, not_finite_in


def read_checkpoints_safely(wholly: bool = False) -> None:
    """Let mmengine read files and URLs of this process through :func:`mmpvg.checkpoints.load_pth`.

    It would unpickle them, and evaluate the text of a config that one of them holds.

    Args:
        wholly: Refuse a checkpoint of which a part cannot be read, since a run that goes on from it
            would go on otherwise; weights alone do not need the rest.
    """

    # mmengine logs what follows load_from_.
    def load_from_file(path: str, map_location: Any = None) -> Any:
        return _read_file(path, wholly)

    def load_from_url(url: str, map_location: Any = None) -> Any:
        return _read_file(download(url), wholly)

    CheckpointLoader.register_scheme('', load_from_file, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_url, force=True)


def resume_from_latest(cfg: Config) -> None:
    """Let a run that shall resume go on from the latest whole checkpoint of its folder, if any.

    Without one it starts as its config says, from ``load_from`` if that is set.

    Args:
        cfg: The config of the run, changed in place.

    Raises:
        ValueError: If there are checkpoints, but none is whole and finite.
    """
    latest = latest_checkpoint(cfg.work_dir)
    cfg.resume = latest is not None
    if latest is None:
        _log(f'nothing to resume in {cfg.work_dir}: training starts anew')
    else:
        cfg.load_from = latest


def latest_checkpoint(work_dir: str | Path) -> str | None:
    """The checkpoint that ``last_checkpoint`` names, or the newest one that is whole and finite.

    Args:
        work_dir: Folder of the run. It may have been moved since.

    Returns:
        Its path; None if the run wrote none.

    Raises:
        ValueError: If there are checkpoints, but none is whole and finite.
    """
    note = Path(work_dir) / 'last_checkpoint'
    if not note.is_file():
        return None
    told = Path(note.read_text().strip())
    if not told.exists():
        told = Path(work_dir) / told.name
    if told.is_dir():
        # Of an engine that saves a folder.
        return str(told)
    others = [path for path in told.parent.glob('*.pth') if path != told]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in [told, *others]:
        if path.is_file() and zipfile.is_zipfile(path):
            bad = not_finite_in(load_pth(path, run_state=True))
            if not bad:
                return str(path)
            _log(f'{path} is passed over: {first_of(bad)} is not finite', level=logging.WARNING)
            continue
        _log(f'{path} is {"broken" if path.exists() else "gone"}', level=logging.WARNING)
    raise ValueError(
        f'{work_dir} has no whole checkpoint of finite weights to resume from; move {note} away to '
        'start anew'
    )


def _read_file(path: str, wholly: bool) -> Any:
    path = osp.expanduser(path)
    if not osp.isfile(path):
        raise FileNotFoundError(f'checkpoint {path} does not exist; give a .pth file or a URL')
    checkpoint = load_pth(path, run_state=True)
    unread = placeholders_in(checkpoint) if wholly else ()
    if unread:
        raise RefusedFileError(
            f'cannot resume from {path}: it holds objects of {", ".join(sorted(unread))}, and only '
            'numbers and containers are built from a file; to start from its weights alone, set '
            '--cfg-options load_from=FILE instead of --resume'
        )
    if wholly and (bad := not_finite_in(checkpoint)):
        raise ValueError(
            f'cannot resume from {path}: {first_of(bad)} is not finite; resume from an earlier one'
        )
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get('meta'), dict):
        # mmengine evaluates this one on resume. Its own checkpoints have 'cfg', which it leaves be.
        checkpoint['meta'].pop('config', None)
    return checkpoint


def _log(message: str, level: int = logging.INFO) -> None:
    print_log(f'mmpvg: {message}', logger='current', level=level)
