"""``require_stack`` against fabricated installations, found through the real importlib.metadata."""

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from mmpvg.ops.state import NONE, Operators

ROOT = Path(__file__).resolve().parents[2]

CURRENT = {
    'mmengine': 'onedl-mmengine 0.10.12',
    'mmcv': 'onedl-mmcv 2.3.6',
    'mmdet': 'onedl-mmdetection 3.5.1',
    'mmseg': 'onedl-mmsegmentation 1.4.2',
}
LEGACY = {
    'mmengine': 'mmengine 0.10.7',
    'mmcv': 'mmcv 2.1.0',
    'mmdet': 'mmdet 3.3.0',
    'mmseg': 'mmsegmentation 1.2.2',
    'pkg_resources': 'setuptools 69.5.1',
}


def install(site, packages, ops=True):
    """Fabricates distributions: import name -> 'distribution version'."""
    for module, distribution in packages.items():
        add_metadata(site, distribution)
        (site / module).mkdir(exist_ok=True)
        # A package that is imported where metadata should do breaks its test.
        (site / module / '__init__.py').write_text('raise RuntimeError("imported")\n')
    if ops:
        (site / 'mmcv' / '_ext.py').write_text('')


def add_metadata(site, distribution, requires=()):
    name, version = distribution.split()
    folder = site / f'{name.replace("-", "_")}-{version}.dist-info'
    folder.mkdir()
    lines = ['Metadata-Version: 2.1', f'Name: {name}', f'Version: {version}']
    lines += [f'Requires-Dist: {requirement}' for requirement in requires]
    (folder / 'METADATA').write_text('\n'.join(lines) + '\n')


def require(site, *modules):
    """Calls require_stack where ``site`` is all that is installed; returns the message or ''."""
    code = f"""
import sys
from mmpvg.utils import require_stack
try:
    require_stack(*{modules!r})
except ImportError as error:
    print(error)
"""
    # -S leaves out this interpreter's own site-packages. The package is reached through a link,
    # since the repository's root may hold metadata of mmpvg itself.
    if not (site / 'mmpvg').exists():
        (site / 'mmpvg').symlink_to(ROOT / 'mmpvg')
    done = subprocess.run(
        [sys.executable, '-S', '-c', code],
        env={**os.environ, 'PYTHONPATH': str(site)},
        cwd=site,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    message = done.stdout.strip()
    assert '\n' not in message
    return message


@pytest.mark.parametrize('packages', [CURRENT, LEGACY], ids=['current', 'legacy'])
def test_a_whole_stack_passes_without_importing_it(tmp_path, packages):
    install(tmp_path, packages)
    assert require(tmp_path, 'mmdet', 'mmseg') == ''


def test_packages_on_the_path_without_metadata_pass(tmp_path):
    install(tmp_path, CURRENT)
    for folder in tmp_path.glob('*.dist-info'):
        (folder / 'METADATA').unlink()
        folder.rmdir()
    assert require(tmp_path, 'mmdet') == ''


@pytest.mark.parametrize(
    'missing, command',
    [
        ('mmengine', 'pip install onedl-mmengine`'),
        ('mmcv', 'pip install --no-binary onedl-mmcv onedl-mmcv`'),
        ('mmseg', 'pip install onedl-mmsegmentation`'),
    ],
)
def test_a_missing_package_of_the_current_stack(tmp_path, missing, command):
    packages = {module: name for module, name in CURRENT.items() if module != missing}
    install(tmp_path, packages, ops=missing != 'mmcv')
    message = require(tmp_path, 'mmdet', 'mmseg')
    assert message.startswith(f'{missing} is not installed')
    assert command in message
    assert '`bash tools/setup_env.sh`' in message


def test_a_missing_package_of_the_legacy_stack_names_its_pin(tmp_path):
    install(tmp_path, {module: name for module, name in LEGACY.items() if module != 'mmdet'})
    add_metadata(tmp_path, 'mmpvg 0.1.0', requires=['mmdet==3.3.0 ; extra == "legacy"'])
    message = require(tmp_path, 'mmdet')
    assert 'mmdet is not installed: run `pip install mmdet==3.3.0`' in message
    assert '`bash tools/setup_env.sh --stack legacy`' in message


def test_nothing_installed_asks_for_mmengine_first(tmp_path):
    assert 'mmengine is not installed' in require(tmp_path, 'mmdet')


def test_a_package_not_asked_for_may_be_missing(tmp_path):
    install(tmp_path, {'mmengine': CURRENT['mmengine']}, ops=False)
    assert require(tmp_path) == ''


def test_both_distributions_of_one_import_name(tmp_path):
    install(tmp_path, CURRENT)
    add_metadata(tmp_path, 'mmcv 2.2.0')
    message = require(tmp_path, 'mmdet')
    assert 'mmcv 2.2.0 and onedl-mmengine 0.10.12, onedl-mmcv 2.3.6' in message
    assert 'tools/setup_env.sh --venv' in message


def test_families_mixed_across_packages(tmp_path):
    install(tmp_path, {**CURRENT, 'mmdet': 'mmdet 3.3.0'})
    assert 'keep one family' in require(tmp_path, 'mmseg')


@pytest.mark.parametrize('refuses', [True, False], ids=['as released', 'edited'])
def test_legacy_mmdet_with_mmcv_2_2(tmp_path, refuses):
    install(tmp_path, {**LEGACY, 'mmcv': 'mmcv 2.2.0'})
    check = 'assert False, "MMCV==2.2.0 is used but incompatible"\n' if refuses else ''
    (tmp_path / 'mmdet' / '__init__.py').write_text(check)
    message = require(tmp_path, 'mmdet')
    assert ('mmdet 3.3.0 refuses mmcv 2.2.0' in message) == refuses
    assert bool(message) == refuses


@pytest.mark.parametrize('packages', [CURRENT, LEGACY], ids=['current', 'legacy'])
def test_mmcv_without_operators(tmp_path, packages):
    install(tmp_path, packages, ops=False)
    message = require(tmp_path, 'mmseg')
    name = packages['mmcv'].split()[0]
    assert 'mmcv has no operators' in message
    assert '`python -m mmpvg.ops install`' in message
    assert f'--no-cache-dir --no-build-isolation {name}`' in message
    assert 'uninstall' not in message


def test_which_operators_run(tmp_path):
    install(tmp_path, CURRENT)
    code = "from mmpvg.utils import require_stack; print(require_stack('mmdet'), require_stack())"
    for name, kind in (('_ext.py', 'compiler-free'), (f'_ext{EXTENSION_SUFFIXES[0]}', 'compiled')):
        (tmp_path / 'mmcv' / name).write_text('')
        assert require(tmp_path, 'mmdet') == ''
        done = subprocess.run(
            [sys.executable, '-S', '-c', code],
            env={**os.environ, 'PYTHONPATH': str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.stdout == f'{kind} None\n', done.stderr


def test_mmcv_lite_is_removed_first(tmp_path):
    install(tmp_path, {**LEGACY, 'mmcv': 'mmcv-lite 2.1.0'}, ops=False)
    assert 'pip uninstall -y mmcv-lite && pip install' in require(tmp_path, 'mmdet')


def test_old_mmengine(tmp_path):
    install(tmp_path, {**LEGACY, 'mmengine': 'mmengine 0.9.1'})
    assert 'mmengine 0.9.1 is too old' in require(tmp_path)


def test_new_setuptools_on_the_legacy_stack_only(tmp_path):
    packages = {module: name for module, name in LEGACY.items() if module != 'pkg_resources'}
    install(tmp_path, packages)
    assert 'pip install "setuptools<82"' in require(tmp_path, 'mmdet')


def test_an_unknown_name(tmp_path):
    from mmpvg.utils import require_stack

    with pytest.raises(ValueError, match='unknown package'):
        require_stack('mmrotate')


def test_the_environment_of_this_run():
    from mmpvg.ops.state import find_operators
    from mmpvg.utils import require_stack

    operators = require_stack('mmdet', 'mmseg', 'mmpretrain')
    assert operators == find_operators().kind and operators in ('compiled', 'compiler-free')
    assert require_stack() is None


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_without_operators(run_refused, monkeypatch, tool):
    """As after a plain ``pip install``: a sentence with the command, and no traceback."""
    monkeypatch.setattr('mmpvg.utils.stack.find_operators', lambda: Operators(NONE))
    checkpoint = ['none'] if tool == 'test.py' else []
    message = run_refused(tool, 'configs/sample/mask_rcnn_vit_mpvg_sample.py', *checkpoint)
    assert 'mmcv has no operators' in message and 'python -m mmpvg.ops install' in message
