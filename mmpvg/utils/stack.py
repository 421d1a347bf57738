"""Checks that the mm* packages beside mmpvg are there and belong together.

Two families of distributions provide the same import names: ``onedl-*`` (the current stack) and the
original OpenMMLab ones (the legacy stack), so the metadata of distributions are read. No mm*
package is imported, but for a combination that only it can judge.
"""

import importlib
import re
from importlib import metadata
from importlib.machinery import PathFinder
from importlib.util import find_spec

from mmpvg.utils.errors import UserError

# Import name -> distribution of the current stack, distributions of the legacy one.
_CURRENT = {
    'mmengine': 'onedl-mmengine',
    'mmcv': 'onedl-mmcv',
    'mmdet': 'onedl-mmdetection',
    'mmseg': 'onedl-mmsegmentation',
    'mmpretrain': 'onedl-mmpretrain',
}
_LEGACY = {
    'mmengine': ('mmengine', 'mmengine-lite'),
    'mmcv': ('mmcv', 'mmcv-lite', 'mmcv-full'),
    'mmdet': ('mmdet',),
    'mmseg': ('mmsegmentation',),
    'mmpretrain': ('mmpretrain',),
}
_NEEDS_OPS = ('mmcv', 'mmdet', 'mmseg')


def require_stack(*modules: str) -> None:
    """Checks that mm* packages can be used together, before anything imports them.

    mmengine is always checked; asking for mmdet, mmseg or mmpretrain also checks mmcv.

    Args:
        *modules: Import names, out of ``mmengine``, ``mmcv``, ``mmdet``, ``mmseg``, ``mmpretrain``.

    Raises:
        ImportError: A package is missing or too old, the two families are mixed, mmcv has no
            compiled operators, or setuptools is too new for the legacy stack. The message is one
            sentence and holds the command that fixes it.
        ValueError: A name is none of the five.

    Examples:
        >>> require_stack('mmdet', 'mmseg')
    """
    for module in modules:
        if module not in _CURRENT:
            raise UserError(f'unknown package {module!r}, expected one of {list(_CURRENT)}')

    current = _installed({module: (name,) for module, name in _CURRENT.items()})
    legacy = _installed(_LEGACY)
    if current and legacy:
        raise ImportError(
            f'{_listed(legacy)} and {_listed(current)} are both installed but provide the same '
            'import names, so keep one family per environment: make a fresh one with '
            '`bash tools/setup_env.sh --venv NEW_FOLDER`.'
        )

    needed = ['mmengine', *modules]
    if set(needed) & {'mmdet', 'mmseg', 'mmpretrain'}:
        needed.insert(1, 'mmcv')
    for module in dict.fromkeys(needed):
        if find_spec(module) is None:
            raise ImportError(
                f'{module} is not installed: run `{_install_command(module, bool(legacy))}` or '
                f'make a whole environment with `{_setup_command(bool(legacy))}`.'
            )

    name, version = (current.get('mmengine') or legacy.get('mmengine')) or ('mmengine', None)
    if version and _release(version) < (0, 10):
        raise ImportError(
            f'{name} {version} is too old, mmpvg needs 0.10 or newer: '
            f'run `{_install_command("mmengine", bool(legacy))}`.'
        )
    if 'mmengine' in legacy and find_spec('pkg_resources') is None:
        raise ImportError(
            f'{name} {version} imports pkg_resources, which setuptools 82 removed: '
            'run `pip install "setuptools<82"`.'
        )
    if set(needed) & set(_NEEDS_OPS) and not _has_compiled_ops():
        raise ImportError(
            'mmcv is installed without its compiled operators (mmcv._ext is missing): rebuild it '
            f'with `{_rebuild_command(legacy)}`.'
        )
    _check_legacy_accepts_mmcv(legacy, needed)


def _installed(candidates: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, str]]:
    """Finds installed distributions: import name -> (distribution name, version)."""
    found = {}
    for module, names in candidates.items():
        for name in names:
            try:
                found[module] = name, metadata.version(name)
                break
            except metadata.PackageNotFoundError:
                pass
    return found


def _listed(found: dict[str, tuple[str, str]]) -> str:
    return ', '.join(f'{name} {version}' for name, version in found.values())


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r'\d+', version)[:2])


def _pinned(name: str) -> str:
    """Returns ``name==version`` as the extras of mmpvg pin it, or the name without them."""
    try:
        requirements = metadata.requires('mmpvg') or []
    except metadata.PackageNotFoundError:
        requirements = []
    for requirement in requirements:
        if requirement.startswith(f'{name}=='):
            return requirement.split(';')[0].strip()
    return name


def _install_command(module: str, legacy: bool, options: str = '') -> str:
    name = _LEGACY[module][0] if legacy else _CURRENT[module]
    # mmcv's build imports the torch that is installed, so it must not be isolated from it.
    isolation = '--no-build-isolation ' if module == 'mmcv' else ''
    return f'pip install {options}{isolation}{_pinned(name)}'


def _setup_command(legacy: bool) -> str:
    return 'bash tools/setup_env.sh' + (' --stack legacy' if legacy else '')


def _rebuild_command(legacy: dict[str, tuple[str, str]]) -> str:
    # Without the cache, or pip takes the very build that lacks them once more.
    options = '--force-reinstall --no-deps --no-cache-dir '
    command = _install_command('mmcv', 'mmcv' in legacy, options)
    # mmcv-lite is mmcv without operators under another name, so it has to go first.
    lite = 'mmcv' in legacy and legacy['mmcv'][0] == 'mmcv-lite'
    return f'pip uninstall -y mmcv-lite && {command}' if lite else command


def _has_compiled_ops() -> bool:
    """Looks for ``mmcv._ext`` without importing mmcv, which would import torch."""
    return PathFinder.find_spec('_ext', find_spec('mmcv').submodule_search_locations) is not None


def _check_legacy_accepts_mmcv(legacy: dict[str, tuple[str, str]], needed: list[str]) -> None:
    """Checks that the original mmdet and mmseg take the original mmcv 2.2 or newer.

    As released they refuse it, but many environments hold copies edited to take it, so they are
    imported.
    """
    if 'mmcv' not in legacy or _release(legacy['mmcv'][1]) < (2, 2):
        return
    for module in needed:
        if module in ('mmdet', 'mmseg') and module in legacy:
            try:
                importlib.import_module(module)
            except AssertionError as error:
                raise ImportError(
                    f'{legacy[module][0]} {legacy[module][1]} refuses mmcv {legacy["mmcv"][1]}: '
                    f'run `{_install_command("mmcv", legacy=True)}`.'
                ) from error
