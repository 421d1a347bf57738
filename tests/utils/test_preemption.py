"""A process that gets a signal before its training has begun."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRAIN = Path(__file__).parents[2] / 'tools/train.py'
CONFIG = 'configs/sample/upernet_vit_mpvg_sample.py'


def wait_until_taken(process, number):
    """Until the process handles a signal, as the kernel sees it."""
    while process.poll() is None:
        (caught,) = re.findall(r'SigCgt:\s*(\S+)', Path(f'/proc/{process.pid}/status').read_text())
        if int(caught, 16) >> (number - 1) & 1:
            return
        time.sleep(0.001)


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='looks into /proc')
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_while_the_process_starts(repo, tmp_path, number):
    command = [sys.executable, TRAIN, repo / CONFIG, '--work-dir', tmp_path / 'run']
    with subprocess.Popen(command, cwd=repo, stderr=subprocess.PIPE, text=True) as process:
        wait_until_taken(process, number)
        process.send_signal(number)
        said = process.stderr.read()
    assert process.returncode == 75 and number.name in said
    # It was importing, not training.
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('lines', 'code', 'expected'),
    [
        ('', 3, 'pid {}\n'),
        ('pid 1\n', 3, 'pid 1\npid {}\n'),
        ('signaled\n', 0, 'signaled\npid {}\nexit 75\n'),
        # Of a process that torchrun ended beside one that failed: a restart trains.
        ('pid 1\nexit 75\n', 3, 'pid 1\nexit 75\npid {}\n'),
        ('pid 1\nsignaled\nexit 75\n', 0, 'pid 1\nsignaled\nexit 75\npid {}\nexit 75\n'),
    ],
)
def test_a_process_that_is_started_again_after_the_signal_ends(tmp_path, lines, code, expected):
    file = tmp_path / 'file'
    file.write_text(lines)
    script = 'from mmpvg.utils.preemption import exit_on_signal\nexit_on_signal()\nexit(3)'
    process = subprocess.Popen(
        [sys.executable, '-c', script], env={**os.environ, 'MMPVG_EXIT_CODE_FILE': str(file)}
    )
    assert process.wait() == code
    assert file.read_text() == expected.format(process.pid)


def test_a_forked_worker_dies_of_the_signal(tmp_path):
    """Data loaders end their workers so; the exit code is of the process that owns them alone."""
    file = tmp_path / 'file'
    file.touch()
    script = (
        'import os, signal, time\n'
        'from mmpvg.utils.preemption import exit_on_signal\n'
        'exit_on_signal()\n'
        'ready, go = os.pipe()\n'
        'worker = os.fork()\n'
        'if not worker: os.write(go, b"1")\n'
        'while not worker: time.sleep(0.01)\n'
        'os.read(ready, 1)\n'
        'os.kill(worker, signal.SIGTERM)\n'
        'print(os.waitstatus_to_exitcode(os.wait()[1]))'
    )
    environment = {**os.environ, 'MMPVG_EXIT_CODE_FILE': str(file)}
    said = subprocess.check_output([sys.executable, '-c', script], env=environment, text=True)
    assert said == '-15\n' and 'exit' not in file.read_text()
