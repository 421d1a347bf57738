"""The description of the environment for bug reports."""

import subprocess
import sys
from importlib import metadata

import torch

from mmpvg.utils.env import describe_environment


def test_it_has_what_is_installed():
    lines = dict(line.split(': ', 1) for line in describe_environment().splitlines())
    assert lines['torch'] == metadata.version('torch')
    assert lines['python'] == sys.version.split()[0]
    assert f'CUDA {torch.version.cuda}'.replace('None', 'none') in lines['devices']
    assert lines['mmcv operators'].startswith(('compiled (_ext.', 'compiler-free (_ext.py)'))
    assert lines['stack'] == 'the mm* packages fit together'
    # One family of mm* packages, not both.
    assert ('onedl-mmengine' in lines) != ('mmengine' in lines)


def test_an_environment_without_anything_is_described(repo, tmp_path):
    """-S leaves out site-packages; the package is reached through a link."""
    (tmp_path / 'mmpvg').symlink_to(repo / 'mmpvg')
    done = subprocess.run(
        [sys.executable, '-S', '-m', 'mmpvg.utils.env'],
        cwd=tmp_path,
        env={'PYTHONPATH': str(tmp_path), 'PATH': ''},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'torch cannot be imported' in done.stdout
    assert 'mmengine is not installed' in done.stdout
