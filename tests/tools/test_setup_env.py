"""tools/setup_env.sh: what it refuses at once, settings of pip, builds of torch."""

import os
import re
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


def functions(repo, *names):
    """Functions of the script, without the rest of it."""
    text = (repo / 'tools/setup_env.sh').read_text()
    return '\n'.join(re.search(rf'^{name}\(\) \{{.*?^\}}', text, re.M | re.S)[0] for name in names)


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        ("global.index-url='https://a'", 'https://a'),
        # The environment comes before files, as for pip, which lists it first.
        (":env:.index-url='https://b'\nglobal.index-url='https://a'", 'https://b'),
        ("global.index-url='https://a'\ninstall.index-url='https://c'", 'https://c'),
        # Several lines of a file; that of another setting does not count.
        (r"global.index-url='\nhttps://a\nhttps://b'", 'https://a https://b'),
        ("global.extra-index-url='https://a'", ''),
    ],
)
def test_settings_of_pip_reach_uv(repo, settings, expected):
    script = f'set -euo pipefail\n{functions(repo, "pip_setting")}\npip_setting index-url'
    done = subprocess.run(
        ['bash', '-c', script],
        env={**os.environ, 'pip_settings': settings},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ('build', 'has_cpu_builds', 'expected'),
    [
        ('cpu', True, 'torch==2.11.0+cpu torchvision==0.26.0+cpu'),
        ('auto', True, 'torch==2.11.0+cpu torchvision==0.26.0+cpu'),
        # An index with both would else give the CPU-only ones, which are the newer version.
        ('auto', False, 'torch!=2.11.0+cpu torchvision!=0.26.0+cpu'),
        ('cuda', True, 'torch!=2.11.0+cpu torchvision!=0.26.0+cpu'),
    ],
)
def test_builds_of_torch(repo, tmp_path, build, has_cpu_builds, expected):
    (tmp_path / 'pins').write_text('torch==2.11.0\ntorchvision==0.26.0\nnumpy==2.2.6\n')
    script = f"""set -euo pipefail
pins={tmp_path}/pins build={build}
has_gpu() {{ false; }}
cpu_builds() {{ sed -nE 's/^(torch(vision)?==[^+ ]+)$/\\1+cpu/p' "$pins"; }}
install() {{ if [[ $1 == --dry-run ]]; then {str(has_cpu_builds).lower()}; else echo "$*"; fi; }}
{functions(repo, 'install_torch')}
install_torch || exit"""
    done = subprocess.run(['bash', '-c', script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f'{expected} numpy'


def test_scripts_run_in_the_bash_of_macos(repo):
    """Its version 3.2 has no mapfile, readarray, associative arrays or ${name,,}."""
    newer = re.compile(r'^\s*(mapfile|readarray|(declare|local) -A)\b|\$\{\w+(,,|\^\^)', re.M)
    found = newer.findall((repo / 'tools/setup_env.sh').read_text())
    assert not found
