"""``python -m mmpvg.ops`` on fabricated environments, of which nothing but the folders is real."""

import importlib.machinery
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mmpvg.ops.state import SOURCE

ROOT = Path(__file__).resolve().parents[2]
SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]
COMMAND = ('-m', 'mmpvg.ops')


@pytest.fixture
def site(tmp_path):
    """An environment with torch, torchvision and an mmcv without operators, of neither family."""
    return fabricate(tmp_path)


def fabricate(site):
    for path in ('__init__.py', 'version.py', 'ops/__init__.py', 'utils/ext_loader.py'):
        path = site / 'mmcv' / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('raise RuntimeError("imported")\n')
    for name in ('torch', 'torchvision', 'numpy', 'mmengine'):
        (site / name).mkdir()
        (site / name / '__init__.py').write_text('raise RuntimeError("imported")\n')
    # Reached through a link, since the repository's root may hold metadata of mmpvg itself.
    (site / 'mmpvg').symlink_to(ROOT / 'mmpvg')
    return site


def distribution(site, name, version='1.0'):
    folder = site / f'{name.replace("-", "_")}-{version}.dist-info'
    folder.mkdir()
    folder.joinpath('METADATA').write_text(
        f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
    )


def run(site, *arguments):
    """Run Python where ``site`` is all that is installed: its output, an error's after '! '."""
    done = subprocess.run(
        # -S leaves out this interpreter's own packages; -B writes no bytecode beside mmpvg.
        [sys.executable, '-S', '-B', *arguments],
        env={**os.environ, 'PYTHONPATH': str(site)},
        cwd=site,
        capture_output=True,
        text=True,
    )
    assert 'Traceback' not in done.stderr, done.stderr
    text = (done.stdout + done.stderr).strip()
    # One sentence, whatever the state.
    assert '\n' not in text and text.endswith('.')
    return text if done.returncode == 0 else f'! {text}'


def ops(site, command):
    return run(site, *COMMAND, command)


def file(site):
    return site / 'mmcv' / '_ext.py'


def test_install_status_uninstall(site):
    assert ops(site, 'status').startswith(f'! mmcv in {site}/mmcv has no operators: run `')
    assert '-m mmpvg.ops install`' in ops(site, 'status')
    assert ops(site, 'install') == f'Installed the compiler-free operators: {file(site)}.'
    assert file(site).read_text() == SOURCE
    assert ops(site, 'status') == f'compiler-free: {file(site)}.'
    assert ops(site, 'uninstall').startswith('Removed the compiler-free operators')
    assert not file(site).exists()
    assert ops(site, 'status').startswith('! ')


def test_twice(site):
    ops(site, 'install')
    before = file(site).stat().st_mtime_ns
    assert 'are installed already' in ops(site, 'install')
    assert file(site).stat().st_mtime_ns == before
    ops(site, 'uninstall')
    assert ops(site, 'uninstall') == 'There are no compiler-free operators to remove.'


def test_nothing_of_the_environment_is_imported(site):
    """The fabricated torch, numpy, mmcv and mmengine raise when they are."""
    for command in ('status', 'install', 'install', 'status', 'uninstall'):
        ops(site, command)


def test_no_mmcv(tmp_path):
    (tmp_path / 'mmpvg').symlink_to(ROOT / 'mmpvg')
    for command in ('status', 'install'):
        assert ops(tmp_path, command) == (
            '! mmcv is not installed: run `pip install --no-binary onedl-mmcv onedl-mmcv`.'
        )
    assert 'no compiler-free operators to remove' in ops(tmp_path, 'uninstall')


@pytest.mark.parametrize(
    ('name', 'option'),
    [('mmcv', '--no-build-isolation'), ('onedl-mmcv', '--no-binary onedl-mmcv')],
)
def test_metadata_without_a_folder(tmp_path, name, option):
    """pip would say that it is installed already."""
    (tmp_path / 'mmpvg').symlink_to(ROOT / 'mmpvg')
    distribution(tmp_path, name)
    message = ops(tmp_path, 'install')
    assert 'mmcv is not installed' in message
    assert f'pip install --force-reinstall --no-deps {option} {name}`' in message


@pytest.mark.parametrize('part', ['__init__.py', 'ops/__init__.py', 'utils/ext_loader.py'])
def test_a_half_installed_mmcv(site, part):
    (site / 'mmcv' / part).unlink()
    for command in ('install', 'status'):
        message = ops(site, command)
        assert message.startswith(f'! {site}/mmcv is not a whole mmcv, {part} is missing: delete')
        assert 'pip install' in message
    assert not file(site).exists()


def test_mmcv_was_uninstalled_afterwards(site):
    """pip leaves the one file that it did not write, and Python takes its folder for a package."""
    ops(site, 'install')
    for path in sorted((site / 'mmcv').rglob('*'), reverse=True):
        if path != file(site):
            path.rmdir() if path.is_dir() else path.unlink()
    assert '__init__.py is missing' in ops(site, 'status')
    assert 'Removed' in ops(site, 'uninstall')
    assert not file(site).exists()


def test_mmcv_was_upgraded_and_the_file_is_gone(site):
    ops(site, 'install')
    file(site).unlink()
    assert 'has no operators' in ops(site, 'status')
    assert 'Installed' in ops(site, 'install')


def test_the_file_of_another_version(site):
    file(site).write_text(SOURCE.replace('try:', 'if True:\n    pass\ntry:'))
    message = ops(site, 'status')
    assert message.startswith('compiler-free, written by another version of mmpvg')
    assert '`python -m mmpvg.ops install`' in message
    assert ops(site, 'install').startswith('Renewed')
    assert ops(site, 'status') == f'compiler-free: {file(site)}.'


def test_a_file_of_somebody_else(site):
    file(site).write_text('nms = None\n')
    for command in ('install', 'uninstall'):
        message = ops(site, command)
        assert (
            message.startswith('! ') and 'was not written by mmpvg and is left as it is' in message
        )
    assert file(site).read_text() == 'nms = None\n'
    assert "not mmpvg's" in ops(site, 'status')


def test_compiled_operators_win(site):
    compiled = site / 'mmcv' / f'_ext{SUFFIX}'
    compiled.touch()
    message = ops(site, 'install')
    assert message.startswith(f'mmcv has compiled operators ({compiled}), which Python takes first')
    assert not file(site).exists()
    assert ops(site, 'status') == f'compiled: {compiled}.'


def test_operators_compiled_afterwards_win(site):
    ops(site, 'install')
    compiled = site / 'mmcv' / f'_ext{SUFFIX}'
    compiled.touch()
    assert ops(site, 'status') == f"compiled: {compiled}; mmpvg's _ext.py beside it is not used."
    assert f'the compiled ones ({compiled}) run' in ops(site, 'uninstall')
    assert compiled.exists() and not file(site).exists()


def test_operators_compiled_for_another_python_do_not_count(site):
    (site / 'mmcv' / '_ext.cpython-27-nowhere.so').touch()
    assert 'has no operators' in ops(site, 'status')
    assert 'Installed' in ops(site, 'install')


def test_mmcv_lite_alone_is_as_good(site):
    distribution(site, 'mmcv-lite', '2.1.0')
    assert 'Installed' in ops(site, 'install')


def test_mmcv_lite_beside_mmcv(site):
    distribution(site, 'mmcv', '2.1.0')
    distribution(site, 'mmcv-lite', '2.1.0')
    assert ops(site, 'install') == (
        '! mmcv 2.1.0 and mmcv-lite 2.1.0 are both installed, into one folder: '
        'run `pip uninstall -y mmcv mmcv-lite` and then '
        '`MMCV_WITH_OPS=0 pip install --no-build-isolation mmcv`.'
    )
    assert not file(site).exists()


@pytest.mark.parametrize('name', ['mmcv', 'mmcv-lite', 'mmdet'])
def test_both_families(site, name):
    distribution(site, 'onedl-mmcv', '2.3.6')
    distribution(site, name, '2.1.0')
    message = ops(site, 'install')
    assert message.startswith(f'! {name} 2.1.0 and onedl-mmcv 2.3.6 are both installed')
    assert 'keep one family' in message
    assert not file(site).exists()


@pytest.mark.parametrize('name', ['torch', 'torchvision'])
def test_without_torch(site, name):
    (site / name / '__init__.py').unlink()
    (site / name).rmdir()
    assert ops(site, 'install').startswith(f'! {name} is not installed')


@pytest.mark.parametrize('command', ['install', 'uninstall'])
def test_a_read_only_environment(command):
    """Permissions do not stop root, which therefore becomes nobody after the imports."""
    code = f"""
import encodings.idna, importlib.metadata, email.parser, sys, os
import mmpvg.ops.__main__ as command
if os.geteuid() == 0:
    os.seteuid(65534)
sys.argv = ['ops', {command!r}]
command.main()
"""
    # Not below pytest's folder, into which nobody but its owner can look.
    with tempfile.TemporaryDirectory() as folder:
        site = fabricate(Path(folder).resolve())
        if command == 'uninstall':
            ops(site, 'install')
        os.chmod(folder, 0o755)
        (site / 'mmcv').chmod(0o555)
        try:
            message = run(site, '-c', code)
        finally:
            (site / 'mmcv').chmod(0o755)
        do = {'install': 'write', 'uninstall': 'remove'}[command]
        assert message.startswith(f'! cannot {do} {file(site)} (Permission denied): do it as')
        assert 'tools/setup_env.sh --venv' in message
        assert file(site).exists() == (command == 'uninstall')


def test_the_written_file_says_that_mmpvg_is_gone(site):
    """mmpvg uninstalled, its file in mmcv left: not a bare ModuleNotFoundError."""
    ops(site, 'install')
    (site / 'mmpvg').unlink()
    code = f"""
try:
    exec(compile(open({str(file(site))!r}).read(), 'f', 'exec'), {{'__file__': 'mmcv/_ext.py'}})
except ImportError as error:
    print(error)
"""
    assert run(site, '-c', code) == (
        'mmcv/_ext.py takes its operators from mmpvg, which cannot be imported: '
        'install mmpvg, or delete that file.'
    )
