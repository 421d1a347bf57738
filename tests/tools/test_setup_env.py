"""tools/setup_env.sh refuses what cannot work before it makes anything."""

import os
import subprocess

import pytest


def run(repo, *arguments, **environment):
    return subprocess.run(
        ['bash', repo / 'tools/setup_env.sh', *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--stack', 'newest'], "unknown stack 'newest', expected 'current' or 'legacy'"),
        (['--ops', 'cuda'], "unknown --ops 'cuda', expected 'free' or 'compiled'"),
        (['--torch', 'rocm'], "unknown --torch 'rocm', expected 'auto', 'cpu' or 'cuda'"),
        (['--venv', ''], '--venv needs a folder'),
        (['--ops'], 'the last argument needs a value'),
        (['--cuda'], "unknown argument '--cuda'"),
    ],
)
def test_arguments(repo, tmp_path, arguments, message):
    done = run(repo, '--venv', tmp_path / 'venv', *arguments)
    assert done.returncode == 1 and message in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('stack', 'newest'), [('current', '3.13'), ('legacy', '3.11')])
def test_a_python_that_does_not_fit(repo, tmp_path, stack, newest):
    done = run(repo, '--stack', stack, '--venv', tmp_path / 'venv', PYTHON='false')
    assert done.returncode == 1 and f'needs Python 3.10 to {newest}' in done.stderr
    assert not list(tmp_path.iterdir())


def test_help_names_every_option(repo):
    shown = run(repo, '--help').stdout
    assert all(option in shown for option in ('--stack', '--venv', '--ops', '--torch'))
    assert 'set -euo' not in shown
