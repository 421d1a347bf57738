"""Finds which operators an environment's mmcv has, without importing it or torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.machinery import ExtensionFileLoader, PathFinder
from importlib.util import find_spec
from pathlib import Path

COMPILED = 'compiled'
COMPILER_FREE = 'compiler-free'
NONE = 'none'

FILE_NAME = '_ext.py'

_MARK = "mmcv's operators without a compiler, from mmpvg"

# What ``python -m mmpvg.ops install`` writes.
SOURCE = f'''"""{_MARK}.

Written by `python -m mmpvg.ops install`, removed by `python -m mmpvg.ops uninstall`.
A compiled _ext beside this file is taken before it.
"""

try:
    from mmpvg.ops.extension import *  # noqa: F403
    from mmpvg.ops.extension import __getattr__  # noqa: F401
except ModuleNotFoundError as error:
    if not (error.name or '').startswith('mmpvg'):
        raise
    raise ImportError(
        f'{{__file__}} takes its operators from mmpvg, which cannot be imported: '
        'install mmpvg, or delete that file.'
    ) from error
'''


@dataclass(frozen=True)
class Operators:
    """Where mmcv would get its operators from.

    Attributes:
        kind: ``compiled``, ``compiler-free`` or ``none``. A Python file that is not mmpvg's counts
            as ``compiler-free``.
        path: The file; None without operators.
        ours: Whether that file is one that mmpvg wrote.
        current: Whether it is what this mmpvg would write.
    """

    kind: str
    path: Path | None = None
    ours: bool = False
    current: bool = False


def mmcv_folders() -> list[Path]:
    """Folders of the environment's mmcv: one, or none if there is no mmcv.

    What an uninstalled mmcv leaves is found too: a folder without ``__init__.py``, which Python
    takes for a package.
    """
    importlib.invalidate_caches()
    try:
        spec = find_spec('mmcv')
    except ValueError:  # something put a module without a spec in its place
        return []
    locations = (spec and spec.submodule_search_locations) or ()
    # A folder without __init__.py is found once for every time that it is on the path.
    return list(dict.fromkeys(map(Path, locations)))


def find_operators(folders: list[Path] | None = None) -> Operators:
    """Look for ``mmcv._ext`` as Python would.

    Args:
        folders: Of mmcv; those of ``mmcv_folders`` by default.
    """
    folders = mmcv_folders() if folders is None else folders
    spec = PathFinder.find_spec('_ext', [str(folder) for folder in folders])
    if spec is None or spec.origin is None:
        return Operators(NONE)
    path = Path(spec.origin)
    if isinstance(spec.loader, ExtensionFileLoader):
        return Operators(COMPILED, path)
    text = path.read_text(encoding='utf-8', errors='replace')
    return Operators(COMPILER_FREE, path, is_ours(text), text == SOURCE)


def is_ours(text: str) -> bool:
    """Whether mmpvg wrote a file, this version or another."""
    return text.startswith(f'"""{_MARK}')


def describe_operators() -> str:
    """The kind of operators with their file's name, for reports."""
    found = find_operators()
    return found.kind if found.path is None else f'{found.kind} ({found.path.name})'
