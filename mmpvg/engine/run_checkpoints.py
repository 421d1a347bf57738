"""Which checkpoint a run resumes from."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log

from mmpvg.checkpoints.safe_load import load_pth

from .finite_state import first_of, not_finite_in


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
            bad = not_finite_in(load_pth(path))
            if not bad:
                return str(path)
            _log(f'{path} is passed over: {first_of(bad)} is not finite', level=logging.WARNING)
            continue
        _log(f'{path} is {"broken" if path.exists() else "gone"}', level=logging.WARNING)
    raise ValueError(
        f'{work_dir} has no whole checkpoint of finite weights to resume from; move {note} away to '
        'start anew'
    )


def _log(message: str, level: int = logging.INFO) -> None:
    print_log(f'mmpvg: {message}', logger='current', level=level)
