"""Work in processes is sent to them once, and ends at an interrupt."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmpvg.datasets.checks.workers import map_in_processes


class Unsent:
    """Something large, such as a data set: each process has it, and no item carries it."""

    def __call__(self, item):
        return item * item

    def __reduce__(self):
        raise AssertionError('sent to a process')


@pytest.mark.parametrize('jobs', [1, 2])
def test_results_come_in_order(jobs):
    assert list(map_in_processes(Unsent(), range(100), jobs, chunk=3)) == [
        i * i for i in range(100)
    ]


class Touch:
    def __init__(self, folder):
        self.folder = Path(folder)

    def __call__(self, item):
        (self.folder / str(item)).touch()
        time.sleep(0.05)


def test_what_is_not_begun_is_not_done(tmp_path):
    results = map_in_processes(Touch(tmp_path), range(500), 2, chunk=1)
    next(results)
    results.close()
    assert len(list(tmp_path.iterdir())) < 100


@pytest.mark.slow
def test_an_interrupt_ends_all_processes(tmp_path):
    code = (
        'import sys\n'
        'from test_workers import Touch, map_in_processes\n'
        'list(map_in_processes(Touch(sys.argv[1]), range(5_000), 2, chunk=1))\n'
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    process = subprocess.Popen(
        [sys.executable, '-c', code, str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'PYTHONPATH': path},
        start_new_session=True,
        # Of a test run in the background of a shell, which ignores it, programs would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not any(tmp_path.iterdir()):
        time.sleep(0.05)
    # As a terminal does, to all.
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors.count('Traceback') == 1 and errors.rstrip().endswith('KeyboardInterrupt')
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
