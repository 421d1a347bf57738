"""Which checkpoint a run resumes from."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import broadcast_object_list
from mmengine.logging import print_log
from mmengine.runner import FlexibleRunner, Runner

from mmpvg.utils.errors import UserError

from .finite_state import first_of, not_finite_in
from .safe_load import load_pth
from .training_state import RUN_VARIABLE, missing_state

_WITHOUT = 'without '
# More than any file system takes.
_LONGEST_PATH = 2**16


def resume_from_latest(cfg: Config) -> None:
    """Set a run to resume from the latest whole checkpoint of its folder, if there is one.

    Args:
        cfg: The config of the run, changed in place. Its ``load_from`` stays without a checkpoint.

    Raises:
        ValueError: If there are checkpoints, but none to resume from.
    """
    latest = latest_checkpoint(cfg.work_dir, _out_dir(cfg))
    cfg.resume = latest is not None
    if latest is None:
        _log(f'nothing to resume in {cfg.work_dir}: training starts from the beginning')
    else:
        cfg.load_from = latest


def resume_from(cfg: Config, checkpoint: str) -> None:
    """Set a run to resume from a checkpoint, or, when it was started again, from its own latest.

    The launching scripts name a run in the environment (``RUN_VARIABLE``). A requeued job and
    restarted processes have the same name, and the checkpoints that they wrote have it.

    Args:
        cfg: The config of the run, changed in place.
        checkpoint: File or URL.
    """
    cfg.resume, cfg.load_from = True, checkpoint
    run = os.environ.get(RUN_VARIABLE)
    if run is None:
        return
    for path in _candidates(Path(cfg.work_dir), _out_dir(cfg)):
        if path.is_file() and _read(path) == (None, run):
            cfg.load_from = str(path)
            _log(f'this run was started again: it resumes from {path}, not from {checkpoint}')
            return


def agree_on_checkpoint(runner: Runner | FlexibleRunner) -> None:
    """Let all processes resume from what the first one chose.

    Others may see another state of a shared folder, or, on another host, none.
    """
    choice = [runner._resume, runner._load_from]
    broadcast_object_list(choice)
    runner._resume, runner._load_from = choice


def latest_checkpoint(work_dir: str | Path, out_dir: str | None = None) -> str | None:
    """The checkpoint that ``last_checkpoint`` names, or the newest one if that is gone or damaged.

    Files without a whole training state, such as ``best_*.pth`` (weights alone), are left out.

    Args:
        work_dir: Folder of the run, which may have been moved.
        out_dir: ``out_dir`` of CheckpointHook, if it has one.

    Returns:
        Its path; None if the run wrote none.

    Raises:
        ValueError: If there are checkpoints, but none to resume from.
    """
    work_dir = Path(work_dir)
    passed_over = []
    for path in _candidates(work_dir, out_dir):
        problem, _ = _read(path)
        if problem is None:
            _log(f'the latest checkpoint of {work_dir} that is whole is {path}')
            return str(path)
        _log(f'cannot resume from {path}: it is {problem}', level=logging.WARNING)
        passed_over.append(problem)
    note = work_dir / 'last_checkpoint'
    if not note.exists() and all(problem.startswith(_WITHOUT) for problem in passed_over):
        # Not checkpoints of a run, but weights that somebody keeps here.
        return None
    raise UserError(
        f'{work_dir} has no whole checkpoint to resume from, as the warnings above say; move '
        f'{note.name} and the checkpoints away to train from the beginning'
    )


def _candidates(work_dir: Path, out_dir: str | None) -> list[Path]:
    """What ``last_checkpoint`` names, which need not exist, then the others, newest first."""
    named = _named_in(work_dir / 'last_checkpoint')
    # CheckpointHook writes into a folder of the run's name in its out_dir.
    folders = {work_dir} | ({Path(out_dir, work_dir.name)} if out_dir else set())
    if named is not None and named.parent.name == work_dir.name:
        folders.add(named.parent)
    if named is not None and not named.exists():
        named = work_dir / named.name
    found = [path for folder in folders for path in folder.glob('*.pth') if path != named]
    found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return found if named is None else [named, *found]


def _named_in(note: Path) -> Path | None:
    """The path in ``last_checkpoint``; None, with a warning, if it names none."""
    if not note.exists():
        return None
    try:
        text = note.read_bytes()[:_LONGEST_PATH].decode().strip()
        # A name that is too long raises here.
        Path(text).exists()
    except (OSError, ValueError):
        text = ''
    if text and text.isprintable():
        return Path(text)
    _log(f'{note} is damaged: it names no checkpoint', level=logging.WARNING)
    return None


def _read(path: Path) -> tuple[str | None, str | None]:
    """Why a run cannot resume from a file, None if it can; and the run that wrote it."""
    if path.is_dir():
        # Some engines save folders, and read them themselves.
        return None, None
    if not path.is_file():
        return 'gone', None
    try:
        checkpoint = load_pth(path)
    except ValueError as error:
        return f'refused ({error})', None
    missing = missing_state(checkpoint) if isinstance(checkpoint, dict) else ['anything known']
    if missing:
        return _WITHOUT + ', '.join(missing), None
    if bad := not_finite_in(checkpoint):
        return f'not finite in {first_of(bad)}', None
    return None, checkpoint['meta'].get('run')


def _out_dir(cfg: Config) -> str | None:
    hooks = cfg.get('default_hooks') or {}
    return (hooks.get('checkpoint') or {}).get('out_dir')


def _log(message: str, level: int = logging.INFO) -> None:
    # The processes of a run are not connected yet.
    if os.environ.get('RANK', '0') != '0':
        return
    print_log(f'mmpvg: {message}', logger='current', level=level)
