"""Checks that the mm* packages beside mmpvg are there and belong together.

Two families of distributions provide the same import names: ``onedl-*`` (the current stack) and the
original OpenMMLab ones (the legacy stack), so the metadata of distributions are read. No mm*
package is imported, but for a combination that only it can judge.
"""

import importlib
import re
from importlib import metadata
from importlib.util import find_spec

from mmpvg.ops.state import NONE, find_operators
from mmpvg.utils.errors import PackageError, UserError

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


def require_stack(*modules: str) -> str | None:
    """Checks that mm* packages can be used together, before anything imports them.

    mmengine is always checked; asking for mmdet, mmseg or mmpretrain also checks mmcv.

    Args:
        *modules: Import names, out of ``mmengine``, ``mmcv``, ``mmdet``, ``mmseg``, ``mmpretrain``.

    Returns:
        Which operators mmcv has, ``compiled`` or ``compiler-free``; None if mmcv was not asked for.

    Raises:
        PackageError: A package is missing or too old, the two families are mixed, mmcv has no
            operators, or setuptools is too new for the legacy stack. The message is one sentence
            and contains the command that fixes it.
        ValueError: A name is none of the five.

    Examples:
        >>> require_stack('mmdet', 'mmseg')
    """
    for module in modules:
        if module not in _CURRENT:
            raise UserError(f'unknown package {module!r}, expected one of {list(_CURRENT)}')

    current = _installed({module: (name,) for module, name in _CURRENT.items()})
    legacy = _installed(_LEGACY)
    _check_one_family(current, legacy)

    needed = ['mmengine', *modules]
    if set(needed) & {'mmdet', 'mmseg', 'mmpretrain'}:
        needed.insert(1, 'mmcv')
    for module in dict.fromkeys(needed):
        if find_spec(module) is None:
            raise PackageError(
                f'{module} is not installed: run `{_install_command(module, bool(legacy))}` or '
                f'make a whole environment with `{_setup_command(bool(legacy))}`.'
            )

    name, version = (current.get('mmengine') or legacy.get('mmengine')) or ('mmengine', None)
    if version and _release(version) < (0, 10):
        raise PackageError(
            f'{name} {version} is too old, mmpvg needs 0.10 or newer: '
            f'run `{_install_command("mmengine", bool(legacy))}`.'
        )
    if 'mmengine' in legacy and find_spec('pkg_resources') is None:
        raise PackageError(
            f'{name} {version} imports pkg_resources, which setuptools 82 removed: '
            'run `pip install "setuptools<82"`.'
        )
    operators = find_operators().kind if 'mmcv' in needed else None
    if operators == NONE:
        raise PackageError(
            'mmcv has no operators (mmcv._ext is missing): run `python -m mmpvg.ops install`, or '
            f'compile them with `{_rebuild_command(legacy)}`.'
        )
    _check_legacy_accepts_mmcv(legacy, needed)
    return operators


def require_one_mmcv() -> None:
    """Checks that at most one distribution provides mmcv.

    Raises:
        PackageError: Two do; the message is one sentence and holds the command that fixes it.
    """
    current = _installed({module: (name,) for module, name in _CURRENT.items()})
    _check_one_family(current, _installed(_LEGACY))
    found = {name: entry for name in _LEGACY['mmcv'] if (entry := _installed({name: (name,)}))}
    if len(found) > 1:
        both = ' and '.join(_listed(entry) for entry in found.values())
        raise PackageError(
            f'{both} are both installed, into one folder: '
            f'run `pip uninstall -y {" ".join(found)}` and then `{_pure_command("mmcv")}`.'
        )


def pure_mmcv_command() -> str:
    """The command that installs mmcv without compiling, for ``python -m mmpvg.ops install``."""
    legacy = _installed(_LEGACY)
    known = 'mmcv' in legacy or _installed({'mmcv': (_CURRENT['mmcv'],)})
    # pip takes a package whose files are gone for installed.
    options = '--force-reinstall --no-deps ' if known else ''
    return _pure_command('mmcv' if legacy else _CURRENT['mmcv'], options)


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


def _check_one_family(
    current: dict[str, tuple[str, str]], legacy: dict[str, tuple[str, str]]
) -> None:
    if current and legacy:
        raise PackageError(
            f'{_listed(legacy)} and {_listed(current)} are both installed but provide the same '
            'import names, so keep one family per environment: make a fresh one with '
            '`bash tools/setup_env.sh --venv NEW_FOLDER`.'
        )


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


def _install_command(module: str, legacy: bool) -> str:
    name = _LEGACY[module][0] if legacy else _CURRENT[module]
    return _pure_command(name) if module == 'mmcv' else f'pip install {_pinned(name)}'


def _pure_command(name: str, options: str = '') -> str:
    # onedl-mmcv does not read the variable; an isolated build has no torch and so no operators.
    # mmcv 2.1.0 needs the older setuptools of the environment.
    if name == 'mmcv':
        return f'MMCV_WITH_OPS=0 pip install {options}--no-build-isolation {_pinned(name)}'
    return f'pip install {options}--no-binary {name} {_pinned(name)}'


def _setup_command(legacy: bool) -> str:
    return 'bash tools/setup_env.sh' + (' --stack legacy' if legacy else '')


def _rebuild_command(legacy: dict[str, tuple[str, str]]) -> str:
    name = 'mmcv' if 'mmcv' in legacy else _CURRENT['mmcv']
    # Without the cache, or pip installs the same build without them once more; without isolation,
    # since the build imports torch.
    options = '--force-reinstall --no-deps --no-cache-dir --no-build-isolation'
    command = f'pip install {options} {_pinned(name)}'
    # mmcv-lite is mmcv without operators under another name, so it has to go first.
    lite = 'mmcv' in legacy and legacy['mmcv'][0] == 'mmcv-lite'
    return f'pip uninstall -y mmcv-lite && {command}' if lite else command


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
                raise PackageError(
                    f'{legacy[module][0]} {legacy[module][1]} refuses mmcv {legacy["mmcv"][1]}: '
                    f'run `{_install_command("mmcv", legacy=True)}`.'
                ) from error
