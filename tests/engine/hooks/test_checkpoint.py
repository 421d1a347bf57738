"""Checkpoints on a small real run: whole files, the order of writing and removing, best ones."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner, Runner

from mmpvg.engine import CheckpointHook
from mmpvg.utils import whole_file


@pytest.fixture
def run(tiny_run):
    def build(work_dir, epochs=4, hook=None, **kwargs):
        checkpoint = dict(max_keep_ckpts=2, **kwargs)
        return tiny_run(work_dir, epochs, checkpoint=checkpoint, hooks=[hook] if hook else [])

    return build


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth*'))


def test_the_last_ones_are_kept(run, tmp_path):
    run(tmp_path).train()
    assert names(tmp_path) == ['epoch_3.pth', 'epoch_4.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_4.pth')
    whole = torch.load(tmp_path / 'epoch_4.pth', weights_only=False)
    assert whole['meta']['epoch'] == 4 and 'optimizer' in whole


def test_older_ones_go_after_newer_ones_have_come(run, tmp_path, monkeypatch):
    seen = []

    def write(path, content):
        seen.append((Path(path).name, names(tmp_path)))
        whole_file.write_whole(path, content)

    monkeypatch.setattr('mmpvg.engine.hooks.checkpoint.write_whole', write)
    run(tmp_path).train()
    before = dict(seen)
    assert before['epoch_3.pth'] == ['epoch_1.pth', 'epoch_2.pth']
    assert before['epoch_4.pth'] == ['epoch_2.pth', 'epoch_3.pth']
    assert names(tmp_path) == ['epoch_3.pth', 'epoch_4.pth']


def test_a_full_disk_costs_no_checkpoint(run, tmp_path, monkeypatch):
    def write(path, content):
        if Path(path).name == 'epoch_3.pth':
            whole_file.part_of(Path(path)).symlink_to('/dev/full')
        whole_file.write_whole(path, content)

    monkeypatch.setattr('mmpvg.engine.hooks.checkpoint.write_whole', write)
    with pytest.raises(
        OSError, match='epoch_3.pth .*No space left.*is kept; make room and go on with --resume'
    ):
        run(tmp_path).train()
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_2.pth')
    monkeypatch.undo()
    runner = run(tmp_path)
    runner._resume = True
    runner.train()
    assert names(tmp_path) == ['epoch_3.pth', 'epoch_4.pth'] and runner.epoch == 4


@pytest.mark.slow
def test_a_file_system_that_fills_up_costs_no_checkpoint(tmp_path, repo):
    """A real one of 7 MB, of checkpoints of 2 MB."""
    worker = Path(__file__).with_name('full_disk_worker.py')
    # In a name space of its own, so it needs no administrator and ends with the process.
    mounted = ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-c']
    mount = f'mount -t tmpfs -o size=7m tmpfs {tmp_path} && '
    try:
        subprocess.run([*mounted, f'{mount} true'], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f'this host lets nobody mount a file system: {error}')
    done = subprocess.run(
        [*mounted, f'{mount} {sys.executable} {worker} {tmp_path}'],
        env={**os.environ, 'PYTHONPATH': str(repo)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r'epoch_4\.pth \(No space left on device; 0\.\d MiB are free', done.stdout)
    assert "checkpoints ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth']\nparts 0\n" in done.stdout
    assert done.stdout.endswith('ended at epoch 5\n')


def test_what_killed_runs_left_is_cleared(run, tmp_path):
    (tmp_path / f'epoch_9.pth.123{whole_file.PART_SUFFIX}').write_bytes(b'half')
    run(tmp_path, epochs=1).train()
    assert names(tmp_path) == ['epoch_1.pth']


@pytest.mark.parametrize('scores', [[0.1, 0.2, 0.15, 0.3], [0.5, 0.1, 0.1, 0.1]])
def test_the_best_one_is_kept(run, tmp_path, scores):
    class Validate(Hook):
        def after_train_epoch(self, runner):
            (hook,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
            # As mmengine counts: the epoch is over when validation ends.
            runner.train_loop._epoch += 1
            hook._save_best_checkpoint(runner, {'score': scores[runner.epoch - 1]})
            runner.train_loop._epoch -= 1

    run(tmp_path, hook=Validate(), save_best='score', rule='greater').train()
    best = 1 + max(range(4), key=lambda index: scores[index])
    kept = [name for name in names(tmp_path) if name.startswith('best')]
    assert kept == [f'best_score_epoch_{best}.pth']


@pytest.mark.parametrize('kind', [Runner, FlexibleRunner])
def test_checkpoints_tell_their_place(tiny_run, tmp_path, kind):
    """FlexibleRunner would note the next one in those that are saved after a validation."""

    class Validate(Hook):
        def after_train_epoch(self, runner):
            (hook,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
            runner.train_loop._epoch += 1
            hook._save_best_checkpoint(runner, {'score': runner.epoch})
            runner.train_loop._epoch -= 1

    checkpoint = dict(save_best='score', rule='greater', interval=1)
    tiny_run(tmp_path, 2, checkpoint=checkpoint, hooks=[Validate()], kind=kind).train()
    places = {
        path.name: torch.load(path, weights_only=False)['meta'] for path in tmp_path.glob('*.pth')
    }
    places = {name: (meta['epoch'], meta['iter']) for name, meta in places.items()}
    assert places == {
        'epoch_1.pth': (1, 2),
        'epoch_2.pth': (2, 4),
        'best_score_epoch_2.pth': (2, 4),
    }


class Score(Hook):
    """A validation after each epoch, of a score that rises."""

    def after_train_epoch(self, runner):
        (hook,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
        runner.train_loop._epoch += 1
        hook._save_best_checkpoint(runner, {'score': runner.epoch, 'other': runner.epoch})
        runner.train_loop._epoch -= 1


@pytest.mark.parametrize('save_best', ['score', ['score', 'other']])
def test_another_run_keeps_its_best_one(run, tmp_path, save_best):
    keys = dict(save_best=save_best, rule='greater')
    run(tmp_path / 'a', 2, Score(), **keys).train()
    kept = {path: path.read_bytes() for path in (tmp_path / 'a').glob('*.pth')}
    resumed = run(tmp_path / 'b', 4, Score(), **keys)
    resumed._resume, resumed._load_from = True, str(tmp_path / 'a/epoch_2.pth')
    resumed.train()
    assert {path: path.read_bytes() for path in (tmp_path / 'a').glob('*.pth')} == kept
    assert 'best_score_epoch_4.pth' in names(tmp_path / 'b')


def test_a_run_in_a_moved_folder_replaces_its_best_one(run, tmp_path):
    keys = dict(save_best='score', rule='greater')
    run(tmp_path / 'a', 2, Score(), **keys).train()
    (tmp_path / 'a').rename(tmp_path / 'b')
    resumed = run(tmp_path / 'b', 3, Score(), **keys)
    resumed._resume, resumed._load_from = True, str(tmp_path / 'b/epoch_2.pth')
    resumed.train()
    assert names(tmp_path / 'b') == ['best_score_epoch_3.pth', 'epoch_2.pth', 'epoch_3.pth']


def test_a_validation_without_a_best_one(run, tmp_path):
    class Validate(Hook):
        def after_train_epoch(self, runner):
            (hook,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
            hook.after_val_epoch(runner, {'score': 1.0})

    run(tmp_path, hook=Validate()).train()
    assert names(tmp_path) == ['epoch_3.pth', 'epoch_4.pth']


def test_a_store_of_its_own_writes_as_it_does(run, tmp_path):
    runner = run(tmp_path, backend_args=dict(backend='local'))
    runner.train()
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    assert hook.backend_args == dict(backend='local')
    assert names(tmp_path) == ['epoch_3.pth', 'epoch_4.pth']
