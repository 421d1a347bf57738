"""Puts the compiler-free operators into an environment's mmcv, and takes them out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from mmpvg.utils.errors import UserError
from mmpvg.utils.stack import pure_mmcv_command, require_one_mmcv

from .state import (
    COMPILED,
    COMPILER_FREE,
    FILE_NAME,
    NONE,
    SOURCE,
    Operators,
    find_operators,
    is_ours,
    mmcv_folders,
)

# Without these a folder named mmcv is no mmcv.
_PARTS = ('__init__.py', 'version.py', 'ops/__init__.py', 'utils/ext_loader.py')


def install() -> str:
    """Write ``mmcv/_ext.py``, which imports mmpvg's operators.

    Returns:
        What was done, in one sentence.

    Raises:
        UserError: If there is no mmcv, a part of one or two, if torch or torchvision is missing, if
            another ``_ext.py`` is there, or if the environment cannot be written to.
    """
    folder = _mmcv()
    found = find_operators([folder])
    if found.kind == COMPILED:
        return (
            f'mmcv has compiled operators ({found.path}), which Python takes first: '
            'nothing was written.'
        )
    path = folder / FILE_NAME
    _check_ours(path)
    for name in ('torch', 'torchvision'):
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"{name} is not installed, which mmpvg's operators run on: "
                'run `bash tools/setup_env.sh`, or install torch and torchvision of one release.'
            )
    if found.current:
        return f'The compiler-free operators are installed already ({path}).'
    before = 'Renewed' if path.exists() else 'Installed'
    try:
        path.write_text(SOURCE, encoding='utf-8')
    except OSError as error:
        raise _cannot('write', path, error) from error
    return f'{before} the compiler-free operators: {path}.'


def uninstall() -> str:
    """Remove what ``install`` wrote, and nothing else.

    Returns:
        What was done, in one sentence.

    Raises:
        UserError: If another ``_ext.py`` is there, or the environment cannot be written to.
    """
    paths = [folder / FILE_NAME for folder in mmcv_folders()]
    paths = [path for path in paths if path.exists()]
    if not paths:
        return 'There are no compiler-free operators to remove.'
    for path in paths:
        _check_ours(path)
        try:
            path.unlink()
            Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
        except OSError as error:
            raise _cannot('remove', path, error) from error
    left = find_operators()
    kept = (
        f'the compiled ones ({left.path}) run.' if left.kind == COMPILED else 'mmcv has none now.'
    )
    return f'Removed the compiler-free operators ({paths[0]}); {kept}'


def status() -> str:
    """Which operators run, in one sentence.

    Raises:
        UserError: If none run; the message names the fix.
    """
    folder = _mmcv()
    found = find_operators([folder])
    if found.kind == NONE:
        raise UserError(
            f'mmcv in {folder} has no operators: run `{sys.executable} -m mmpvg.ops install`.'
        )
    return _describe(found, folder)


def _describe(found: Operators, folder: Path) -> str:
    if found.kind == COMPILED:
        beside = f"; mmpvg's {FILE_NAME} beside it is not used" if _is_ours_there(folder) else ''
        return f'compiled: {found.path}{beside}.'
    if not found.ours:
        return f"{COMPILER_FREE}, but not mmpvg's: {found.path}."
    if not found.current:
        return (
            f'{COMPILER_FREE}, written by another version of mmpvg: {found.path}; '
            'run `python -m mmpvg.ops install` to renew it.'
        )
    return f'{COMPILER_FREE}: {found.path}.'


def _mmcv() -> Path:
    """The folder of the one, whole mmcv."""
    require_one_mmcv()
    folders = mmcv_folders()
    if not folders:
        raise UserError(f'mmcv is not installed: run `{pure_mmcv_command()}`.')
    folder = folders[0]
    lacking = [part for part in _PARTS if not (folder / part).is_file()]
    if lacking:
        raise UserError(
            f'{folder} is not a whole mmcv, {lacking[0]} is missing: delete that folder and run '
            f'`{pure_mmcv_command()}`.'
        )
    return folder


def _is_ours_there(folder: Path) -> bool:
    path = folder / FILE_NAME
    return path.is_file() and is_ours(path.read_text(encoding='utf-8', errors='replace'))


def _check_ours(path: Path) -> None:
    if path.exists() and not _is_ours_there(path.parent):
        raise UserError(
            f'{path} was not written by mmpvg and is left as it is: move it away and try again.'
        )


def _cannot(do: str, path: Path, error: OSError) -> UserError:
    return UserError(
        f'cannot {do} {path} ({error.strerror}): do it as the owner of the environment, or make '
        'one of your own with `bash tools/setup_env.sh --venv NEW_FOLDER`.'
    )
