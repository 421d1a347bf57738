"""Two processes on this host get a signal, or one of them dies; the run goes on as if not."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from benchmarks.launcher import ROOT, hook_option

pytestmark = pytest.mark.slow

CONFIG = 'configs/sample/upernet_vit_mpvg_sample.py'
OPTIONS = (
    'train_cfg.max_iters=16',
    'train_dataloader.batch_size=2',
    'default_hooks.checkpoint.interval=4',
    'default_hooks.checkpoint.max_keep_ckpts=-1',
    'default_hooks.checkpoint.save_best=None',
    'model.backbone.drop_path_rate=0.2',
    hook_option(ROOT / CONFIG, 'mmpvg.PreemptionHook', 'interval=1'),
    'val_cfg=None',
    'val_dataloader=None',
    'val_evaluator=None',
)
RESUMED = 'resumed epoch: 0, iter: '


def default_signals():
    # bash cannot trap what was ignored when it started.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope='module')
def start(repo, sample_data):
    """Starts dist_train.sh on two processes."""
    running = []

    def begin(work_dir, *options, **environment):
        work_dir.mkdir(exist_ok=True)
        command = ['bash', repo / 'tools/dist_train.sh', repo / CONFIG, 2, '--work-dir', work_dir]
        command += [*options, '--resume', '--cfg-options', *OPTIONS]
        command += [f'train_dataloader.dataset.data_root={sample_data}/']
        hidden = dict(CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1')
        with (work_dir / 'output.txt').open('a') as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **hidden, **environment},
                preexec_fn=default_signals,
            )
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.terminate()


def end(process, work_dir, code=0):
    assert process.wait(timeout=300) == code, (work_dir / 'output.txt').read_text()[-3000:]


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, path.with_name('output.txt').read_text()[-3000:]
        time.sleep(0.01)


def ranks(process):
    """Processes of the run: children of torchrun, which is the child of the script."""
    (torchrun,) = subprocess.check_output(['ps', '-o', 'pid=', '--ppid', str(process.pid)]).split()
    children = subprocess.check_output(['ps', '-o', 'pid=', '--ppid', torchrun.decode()])
    return [int(pid) for pid in children.split()]


def takes_signals(process):
    """Processes of the run that handle SIGTERM."""
    try:
        return [pid for pid in ranks(process) if handles(pid, signal.SIGTERM)]
    except (subprocess.CalledProcessError, ValueError, OSError):
        # Not started yet.
        return []


def wait_for_handlers(process, work_dir):
    while len(takes_signals(process)) < 2:
        assert process.poll() is None, (work_dir / 'output.txt').read_text()[-3000:]
        time.sleep(0.01)


def handles(pid, number):
    status = Path(f'/proc/{pid}/status').read_text()
    (caught,) = re.findall(r'SigCgt:\s*(\S+)', status)
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.fixture(scope='module')
def whole(start, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('whole')
    end(start(work_dir), work_dir)
    return final(work_dir)


def final(work_dir):
    return torch.load(work_dir / 'iter_16.pth', map_location='cpu', weights_only=False)


def assert_equal(found, expected):
    for name, tensor in expected['state_dict'].items():
        assert torch.equal(found['state_dict'][name], tensor), name


def test_sigterm_to_the_script(start, whole, tmp_path):
    """torchrun starts again what exits with another code than 0; the run must end all the same."""
    process = start(tmp_path, MAX_RESTARTS='2')
    wait_for(tmp_path / 'iter_4.pth', process)
    process.send_signal(signal.SIGTERM)
    end(process, tmp_path, code=75)
    latest = Path((tmp_path / 'last_checkpoint').read_text())
    assert 4 <= torch.load(latest, weights_only=False)['meta']['iter'] < 16
    assert not (tmp_path / 'iter_16.pth').exists()
    end(start(tmp_path), tmp_path)
    assert_equal(final(tmp_path), whole)


@pytest.mark.parametrize('begun', [False, True])
def test_sigterm_while_the_run_starts(start, tmp_path, begun):
    """While torchrun is imported, or the processes of the run are."""
    process = start(tmp_path, MAX_RESTARTS='1')
    if begun:
        wait_for_handlers(process, tmp_path)
    else:
        while not handles(process.pid, signal.SIGTERM):
            time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    end(process, tmp_path, code=75)
    assert not list(tmp_path.glob('*.pth'))


def test_what_torchrun_starts_again(start, whole, tmp_path):
    """Processes one of which dies at the start, gets a signal, and dies after a resume.

    torchrun itself sends SIGTERM to the processes beside one that failed, or when a node joins.
    """
    process, output = start(tmp_path, MAX_RESTARTS='3'), tmp_path / 'output.txt'
    wait_for_handlers(process, tmp_path)
    os.kill(ranks(process)[1], signal.SIGKILL)
    wait_for(tmp_path / 'iter_4.pth', process)
    assert RESUMED not in output.read_text()
    os.kill(ranks(process)[0], signal.SIGTERM)
    while RESUMED not in output.read_text():
        assert process.poll() is None, output.read_text()[-3000:]
        time.sleep(0.01)
    assert not (tmp_path / 'iter_16.pth').exists()
    os.kill(ranks(process)[1], signal.SIGKILL)
    end(process, tmp_path)
    assert output.read_text().count(RESUMED) == 2
    assert_equal(final(tmp_path), whole)


def test_a_process_that_dies_while_the_run_starts(start, tmp_path):
    """It is a failure, on which no scheduler requeues."""
    process = start(tmp_path)
    wait_for_handlers(process, tmp_path)
    os.kill(ranks(process)[1], signal.SIGKILL)
    end(process, tmp_path, code=1)


def test_a_process_dies_and_the_job_ends_with_its_error(start, tmp_path):
    process = start(tmp_path)
    wait_for(tmp_path / 'iter_4.pth', process)
    killed = ranks(process)[1]
    os.kill(killed, signal.SIGKILL)
    began = time.monotonic()
    end(process, tmp_path, code=1)
    # torchrun's own patience with what is left is 30 seconds.
    assert time.monotonic() - began < 60
    assert f'Signal 9 (SIGKILL) received by PID {killed}' in (tmp_path / 'output.txt').read_text()


def test_an_exported_cdpath_changes_nothing(repo, tmp_path):
    """With it, cd prints where it went, which scripts took for a part of their own folder."""
    environment = {**os.environ, 'CDPATH': '.', 'PYTHONPATH': ''}
    command = ['bash', 'tools/dist_train.sh', 'no_such_config.py', '1', '--work-dir', str(tmp_path)]
    done = subprocess.run(
        command, cwd=repo, env=environment, capture_output=True, text=True, check=False
    )
    assert 'no_such_config.py' in done.stderr and done.returncode == 2
    assert 'tools/train.py' in done.stderr and 'No module named' not in done.stderr


def test_every_script_that_asks_where_it_is_unsets_cdpath(repo):
    scripts = [*repo.glob('tools/**/*.sh'), repo / '.ci/run']
    asking = [text for text in map(Path.read_text, scripts) if '$(cd ' in text]
    assert len(asking) > 5
    assert all(0 < text.find('unset CDPATH') < text.index('$(cd ') for text in asking)


def test_a_signal_to_one_process_ends_both_and_a_sharded_run_goes_on(start, tmp_path):
    process = start(tmp_path, '--fsdp')
    wait_for(tmp_path / 'iter_4.pth', process)
    os.kill(ranks(process)[1], signal.SIGUSR1)
    end(process, tmp_path, code=75)
    assert not (tmp_path / 'iter_16.pth').exists()
    end(start(tmp_path, '--fsdp'), tmp_path)
    assert RESUMED in (tmp_path / 'output.txt').read_text()
    assert torch.load(tmp_path / 'iter_16.pth', weights_only=False)['meta']['iter'] == 16
